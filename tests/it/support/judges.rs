//! Programs that are not ours, and what they say of what we made; small helpers around them.

use super::{Stack, text};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use countersign_core::HashAlgorithm;
use countersign_signing_log::leaf::Leaf;
use countersign_signing_log::tile::{EntryBundle, TilePath};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

/// What curl got.
#[derive(Debug)]
pub struct CurlAnswer {
    pub status: u16,
    /// Names in lower case.
    pub headers: BTreeMap<String, String>,
    pub body: Vec<u8>,
}

impl Stack {
    /// What osslsigncode says of a signed executable; `Err` if it refuses it.
    pub fn osslsigncode(&self, exe: &Path) -> Result<String, String> {
        let out = Command::new("osslsigncode")
            .args(["verify", "-CAfile", &self.ca_roots()])
            .args(["-TSA-CAfile", &text(&self.tsa.root_file())])
            .arg(exe)
            .output()
            .expect("osslsigncode runs");
        let said = String::from_utf8_lossy(&out.stdout).into_owned()
            + &String::from_utf8_lossy(&out.stderr);
        if out.status.success() {
            Ok(said)
        } else {
            Err(said)
        }
    }

    /// `openssl cms -verify` of a detached signature; `Err` with what it says.
    pub fn openssl_cms(&self, file: &Path, signature: &Path) -> Result<(), String> {
        openssl_cms(file, signature, &self.ca_roots())
    }

    /// GET by curl, with all headers of the answer.
    pub fn curl(&self, path: &str, token: &str, more: &[&str]) -> CurlAnswer {
        let dir = countersign_testkit::tempdir().expect("a temporary folder");
        let (heads, body) = (dir.path().join("heads"), dir.path().join("body"));
        let out = Command::new("curl")
            .args(["--silent", "--show-error", "--http1.1", "--cacert"])
            .arg(self.ca_file())
            .args(["--header", &format!("authorization: Bearer {token}")])
            .args(more.iter().flat_map(|h| ["--header", h]))
            .arg("--dump-header")
            .arg(&heads)
            .arg("--output")
            .arg(&body)
            .args([
                "--write-out",
                "%{http_code}",
                &format!("{}{path}", self.url()),
            ])
            .output()
            .expect("curl runs");
        assert!(
            out.status.success(),
            "curl {path}: {}",
            String::from_utf8_lossy(&out.stderr)
        );
        let heads = std::fs::read_to_string(&heads).expect("headers");
        CurlAnswer {
            status: String::from_utf8_lossy(&out.stdout)
                .trim()
                .parse()
                .expect("a status"),
            headers: heads
                .lines()
                .filter_map(|l| l.split_once(':'))
                .map(|(n, v)| (n.to_lowercase(), v.trim().to_owned()))
                .collect(),
            body: std::fs::read(&body).unwrap_or_default(),
        }
    }
}

/// The second implementation's verdict on a downloaded log: its exit code and words.
pub fn verify_log_py(folder: &Path, more: &[&str]) -> (i32, String) {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("verify_log.py");
    let out = Command::new("python3")
        .arg(script)
        .arg(folder)
        .args(more)
        .output()
        .expect("python3");
    let said =
        String::from_utf8_lossy(&out.stdout).into_owned() + &String::from_utf8_lossy(&out.stderr);
    (out.status.code().unwrap_or(-1), said)
}

/// The request for a detached CMS signature over `content`, as a client of one's own would send it.
pub fn cms_request(content: &[u8], hash: HashAlgorithm) -> Value {
    let digest = countersign_content::digest_of(hash, content);
    let attributes =
        countersign_content::cms::signed_attributes(&digest, None, None, None).expect("attributes");
    json!({
        "items": [{
            "id": "one",
            "content": {"type": "cms", "signed_attributes": STANDARD.encode(attributes)},
            "digest_algorithm": hash.as_str(),
        }],
    })
}

/// Number of leaves of a downloaded log, as its checkpoint says.
pub fn size_of(folder: &Path) -> u64 {
    let note = std::fs::read_to_string(folder.join("checkpoint")).expect("checkpoint");
    note.lines()
        .nth(1)
        .and_then(|l| l.parse().ok())
        .expect("a size")
}

/// All leaves of a downloaded log.
pub fn leaves(folder: &Path) -> Vec<Leaf> {
    let size = size_of(folder);
    let mut all = Vec::new();
    for bundle in 0..size.div_ceil(256) {
        let width = u16::try_from((size - bundle * 256).min(256)).expect("a width");
        let path = folder.join(TilePath::entries(bundle, width).to_string());
        let bytes = std::fs::read(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        let entries = EntryBundle::decode(&bytes, width)
            .expect("a bundle")
            .entries;
        all.extend(entries.iter().map(|e| Leaf::decode(e).expect("a leaf")));
    }
    all
}

/// Copies a folder with everything in it.
pub fn copy_dir(from: &Path, to: &Path) {
    let out = Command::new("cp")
        .arg("-a")
        .arg(from)
        .arg(to)
        .output()
        .expect("cp runs");
    assert!(
        out.status.success(),
        "{}",
        String::from_utf8_lossy(&out.stderr)
    );
}

/// `openssl cms -verify` of a detached signature under these roots; `Err` with what it says.
pub fn openssl_cms(file: &Path, signature: &Path, roots: &str) -> Result<(), String> {
    let out = Command::new("openssl")
        .args(["cms", "-verify", "-binary", "-inform", "DER", "-in"])
        .arg(signature)
        .arg("-content")
        .arg(file)
        .args(["-CAfile", roots, "-purpose", "any"])
        .args(["-out", "/dev/null"])
        .output()
        .expect("openssl runs");
    if out.status.success() {
        Ok(())
    } else {
        Err(String::from_utf8_lossy(&out.stderr).into_owned())
    }
}
