//! openssl, for what a stranger would make or say.

use std::path::{Path, PathBuf};
use std::process::Command;

/// Runs it in a folder; it must succeed. What it said on both streams.
pub fn openssl(folder: &Path, args: &[&str]) -> String {
    let out = Command::new("openssl")
        .current_dir(folder)
        .args(args)
        .output()
        .expect("openssl runs");
    assert!(
        out.status.success(),
        "openssl {args:?}: {}",
        String::from_utf8_lossy(&out.stderr)
    );
    String::from_utf8_lossy(&out.stdout).into_owned() + &String::from_utf8_lossy(&out.stderr)
}

/// A request for a key that is not ours, with a subject the CA would take. DER; PEM lies beside it.
pub fn foreign_request(folder: &Path) -> PathBuf {
    openssl(
        folder,
        &[
            "req",
            "-new",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:P-256",
            "-nodes",
            "-keyout",
            "foreign.key",
            "-subj",
            "/C=US/L=Springfield/O=Acme Inc./CN=Acme Inc.",
            "-out",
            "foreign.pem",
        ],
    );
    openssl(
        folder,
        &[
            "req",
            "-in",
            "foreign.pem",
            "-outform",
            "DER",
            "-out",
            "foreign.der",
        ],
    );
    folder.join("foreign.der")
}
