//! A TPM's response codes → what to do about them (TPM 2.0 Library part 2 §6.6; TSS 2.0 Overview §6.1).

use countersign_hsm_protocol::{ErrorClass, WorkerError};
use tss_esapi::Error;
use tss_esapi::constants::response_code::Tss2ResponseCode;

/// Layers of the stack, bits 16 to 23: who speaks.
const TCTI: u32 = 10;

/// Names the command that failed.
pub fn said(command: &'static str) -> impl Fn(Error) -> WorkerError {
    move |error| {
        let (class, code) = match code(error) {
            Some(code) => (classify(code), format!("0x{code:08x}")),
            // The wrapper's own refusal: what it was given does not fit.
            None => (ErrorClass::Caller, error.to_string()),
        };
        WorkerError::Module {
            class,
            function: command.to_owned(),
            code,
            signature_possible: false,
        }
    }
}

/// The number; the wrapper shows it in its text alone.
pub fn code(error: Error) -> Option<u32> {
    let text = match error {
        Error::Tss2Error(Tss2ResponseCode::FormatZero(code)) => code.to_string(),
        Error::Tss2Error(Tss2ResponseCode::FormatOne(code)) => code.to_string(),
        _ => return None,
    };
    let (_, digits) = text.rsplit_once("0x")?;
    u32::from_str_radix(digits, 16).ok()
}

/// What a code means for those who wait. None is [`ErrorClass::Fatal`]: the module goes on.
pub const fn classify(code: u32) -> ErrorClass {
    if layer(code) == TCTI {
        return ErrorClass::DeviceGone;
    }
    if !from_the_tpm(code) {
        return ErrorClass::Caller;
    }
    match code & 0xffff {
        // No room for an object or session, or busy: TPM_RC_OBJECT_MEMORY to _OBJECT_HANDLES, _YIELDED,
        // _TESTING, _NV_RATE, _RETRY.
        0x902..=0x906 | 0x908 | 0x90a | 0x920 | 0x922 => ErrorClass::Capacity,
        // TPM_RC_LOCKOUT.
        0x921 => ErrorClass::NeverRetry,
        low if is(low, 0x0e) => ErrorClass::NeverRetry,
        _ => ErrorClass::Caller,
    }
}

/// TPM_RC_HANDLE: nothing has this handle.
pub fn no_such_handle(error: Error) -> bool {
    code(error).is_some_and(|c| from_the_tpm(c) && is(c & 0xffff, 0x0b))
}

/// A refusal of what was given, by a code of format one: not of who gave it (TPM_RC_AUTH_FAIL,
/// TPM_RC_POLICY_FAIL, TPM_RC_BAD_AUTH).
pub fn refuses_what_was_given(error: Error) -> bool {
    code(error).is_some_and(|c| {
        from_the_tpm(c) && c & 0x80 != 0 && ![0x0e, 0x1d, 0x22].contains(&(c & 0x3f))
    })
}

/// A code of format one: bit 7, the number in the six lowest bits.
const fn is(low: u32, number: u32) -> bool {
    low & 0x80 != 0 && low & 0x3f == number
}

const fn layer(code: u32) -> u32 {
    code >> 16 & 0xff
}

/// Resource managers, layers 11 and 12, pass on the TPM's codes.
const fn from_the_tpm(code: u32) -> bool {
    matches!(layer(code), 0 | 11 | 12)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_decide_between_now_later_and_never() {
        for (code, class) in [
            (0x902, ErrorClass::Capacity),
            (0x922, ErrorClass::Capacity),
            (0x000c_0902, ErrorClass::Capacity),
            // TPM_RC_AUTH_FAIL of the first session.
            (0x98e, ErrorClass::NeverRetry),
            (0x921, ErrorClass::NeverRetry),
            // TPM_RC_BAD_AUTH counts nowhere.
            (0x9a2, ErrorClass::Caller),
            (0x1df, ErrorClass::Caller),
            // TCTI: no connection.
            (0x000a_000a, ErrorClass::DeviceGone),
            // ESYS: its own.
            (0x0007_000b, ErrorClass::Caller),
        ] {
            assert_eq!(classify(code), class, "{code:08x}");
        }
    }
}
