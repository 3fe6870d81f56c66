//! What the fuzz targets do, apart from libFuzzer.

pub mod attestation;
pub mod targets;

/// The whole of a file in `fuzz_targets/`: libFuzzer's bytes go to that function.
#[macro_export]
macro_rules! target {
    ($module:ident::$name:ident) => {
        libfuzzer_sys::fuzz_target!(|bytes: &[u8]| $crate::$module::$name(bytes));
    };
}
