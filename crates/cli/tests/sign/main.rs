//! `countersign sign` against a service that may lie: what the client must find out by itself.
#![allow(clippy::unwrap_used, clippy::panic)]

mod service;
#[allow(dead_code)]
#[path = "../../../formats/tests/it/tiny_pe.rs"]
mod tiny_pe;

use serde_json::Value;
use service::{Lie, Service};
use std::path::PathBuf;
use std::process::{Command, Output};

struct Desk {
    dir: countersign_testkit::TempDir,
    service: Service,
}

impl Desk {
    fn new() -> Self {
        let dir = countersign_testkit::tempdir().unwrap();
        let service = Service::start(&dir.path().join("tls"));
        let desk = Self { dir, service };
        desk.write("app.exe", &tiny_pe::TinyPe::pe32().build());
        desk.write("notes.txt", b"any file");
        desk
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn write(&self, name: &str, bytes: &[u8]) {
        std::fs::write(self.path(name), bytes).unwrap();
    }

    fn read(&self, name: &str) -> Vec<u8> {
        std::fs::read(self.path(name)).unwrap()
    }

    fn countersign(&self, args: &[&str]) -> Output {
        Command::new(env!("CARGO_BIN_EXE_countersign"))
            .current_dir(self.dir.path())
            .env_clear()
            .env("COUNTERSIGN_HOME", self.path("home"))
            .env("COUNTERSIGN_SERVER", &self.service.url)
            .env("COUNTERSIGN_CA_FILE", self.path("tls/ca.pem"))
            .env("COUNTERSIGN_ID_TOKEN", "the.job.token")
            .args(args)
            .output()
            .unwrap()
    }

    /// Runs `sign` and says how it ended, and what it said on standard error.
    fn sign(&self, args: &[&str]) -> (i32, String) {
        let mut all = vec!["sign", "--signer", "acme/release"];
        all.extend(args);
        let out = self.countersign(&all);
        (
            out.status.code().unwrap(),
            String::from_utf8(out.stderr).unwrap(),
        )
    }

    /// Signing must end so, and leave no trace in the folder.
    fn refused(&self, exit: i32, said: &str, args: &[&str]) {
        let before = self.listing();
        let (code, stderr) = self.sign(args);
        assert_eq!(code, exit, "{stderr}");
        assert!(stderr.contains(said), "{said} in {stderr}");
        assert_eq!(self.listing(), before, "the files are as they were");
    }

    fn listing(&self) -> Vec<(String, Vec<u8>)> {
        let mut all: Vec<_> = std::fs::read_dir(self.dir.path())
            .unwrap()
            .map(|e| e.unwrap())
            .filter(|e| e.file_type().unwrap().is_file())
            .map(|e| {
                (
                    e.file_name().into_string().unwrap(),
                    std::fs::read(e.path()).unwrap(),
                )
            })
            .collect();
        all.sort();
        all
    }
}

#[test]
fn files_are_signed_in_place_or_beside_with_receipts_that_hold() {
    let d = Desk::new();
    let unsigned = d.read("app.exe");
    let out = d.countersign(&[
        "--json",
        "sign",
        "--signer",
        "acme/release",
        "app.exe",
        "notes.txt",
    ]);
    assert_eq!(
        out.status.code(),
        Some(0),
        "{}",
        String::from_utf8_lossy(&out.stderr)
    );
    // One line for each, as they are done.
    let mut lines: Vec<Value> = String::from_utf8_lossy(&out.stdout)
        .lines()
        .map(|l| serde_json::from_str(l).unwrap())
        .collect();
    lines.sort_by_key(|l| l["file"].to_string());
    assert_eq!(lines.len(), 2);
    assert_eq!(lines[0]["output"], "app.exe");
    assert_eq!(lines[1]["output"], "notes.txt.p7s");
    assert_eq!(lines[1]["content"], "cms");
    assert_ne!(d.read("app.exe"), unsigned);
    assert_eq!(d.read("notes.txt"), b"any file");
    for file in ["app.exe", "notes.txt"] {
        let receipt = format!("{file}.tlog-proof");
        let out = d.countersign(&["receipt", "verify", file, &receipt]);
        assert_eq!(
            out.status.code(),
            Some(0),
            "{file}: {}",
            String::from_utf8_lossy(&out.stderr)
        );
    }
    let out = d.countersign(&["receipt", "verify", "app.exe", "notes.txt.tlog-proof"]);
    assert_eq!(out.status.code(), Some(1), "another file's receipt");
}

#[test]
fn the_second_sign_of_a_job_is_no_replay() {
    let d = Desk::new();
    assert_eq!(d.sign(&["app.exe"]).0, 0);
    assert_eq!(d.sign(&["notes.txt"]).0, 0);
    assert_eq!(d.service.exchanges(), 1);
    // A service that restarted knows the session no longer: exchange anew, once.
    d.service.forget_sessions();
    d.write("more.txt", b"more");
    assert_eq!(d.sign(&["more.txt"]).0, 0);
    assert_eq!(d.service.exchanges(), 2);
}

#[test]
fn what_is_signed_already_needs_a_word() {
    let d = Desk::new();
    assert_eq!(d.sign(&["app.exe"]).0, 0);
    let once = d.read("app.exe").len();
    d.refused(64, "--append", &["app.exe"]);
    assert_eq!(d.sign(&["--append", "app.exe"]).0, 0);
    assert!(d.read("app.exe").len() > once);
    assert!(
        d.path("app.exe.2.tlog-proof").exists(),
        "both receipts are kept"
    );
    assert_eq!(d.sign(&["--replace", "app.exe"]).0, 0);
    // One signature again. An ECDSA signature's DER is 70 to 72 bytes long (a leading zero of r or s), and the certificate table is filled up to 8:
    // two signatures are some 1,000 bytes longer than one.
    assert!(d.read("app.exe").len().abs_diff(once) <= 8);
    assert_eq!(d.sign(&["--replace", "--out", "copy.exe", "app.exe"]).0, 0);
    assert!(d.path("copy.exe.tlog-proof").exists());
    assert_eq!(d.sign(&["notes.txt"]).0, 0);
    d.refused(64, "--replace", &["notes.txt"]);
}

#[test]
fn a_service_that_lies_is_caught_and_the_file_is_untouched() {
    for (lie, said) in [
        (Lie::OtherArtifact, "another file"),
        (Lie::OtherKey, "its key is"),
        (Lie::NotInLog, "not in the log"),
        (Lie::OtherLogKey, "not the one pinned"),
        (Lie::BadSignature, "does not verify"),
    ] {
        let d = Desk::new();
        // The first contact is honest: the log key is pinned.
        assert_eq!(d.sign(&["notes.txt"]).0, 0);
        d.service.lie(Some(lie));
        d.refused(1, said, &["app.exe"]);
        d.service.lie(None);
        assert_eq!(d.sign(&["app.exe"]).0, 0, "{lie:?}");
    }
}

#[test]
fn two_histories_are_shouted_at() {
    let d = Desk::new();
    assert_eq!(d.sign(&["notes.txt"]).0, 0);
    // A log begun anew, with as many leaves and another history.
    d.service.rewrite_history();
    let (code, stderr) = d.sign(&["app.exe"]);
    assert_eq!(code, 1, "{stderr}");
    assert!(stderr.contains("SPLIT VIEW"), "{stderr}");
}

#[test]
fn refusals_have_their_exit_codes_and_reasons() {
    let d = Desk::new();
    assert_eq!(d.sign(&["notes.txt"]).0, 0);
    d.service.lie(Some(Lie::Denied));
    d.refused(3, "NO  ref: wants \"main\", is \"fork\"", &["app.exe"]);
    d.service.lie(Some(Lie::Absent));
    d.refused(4, "not yours", &["app.exe"]);
    d.service.lie(Some(Lie::Busy));
    d.refused(5, "waiting", &["app.exe"]);
    d.service.lie(None);
    d.refused(4, "absent.exe", &["absent.exe"]);
    d.write("broken.exe", b"MZ and nothing more");
    d.refused(1, "broken executable", &["broken.exe"]);
    d.refused(64, "--out", &["--out", "x", "app.exe", "notes.txt"]);
    d.refused(64, "named twice", &["app.exe", "./app.exe"]);
    d.refused(64, "1 to 100", &["--batch", "101", "app.exe"]);
    // Of several that fail the worst counts; where some are signed, that.
    assert_eq!(d.sign(&["absent.exe", "broken.exe"]).0, 1);
    let (code, stderr) = d.sign(&["--replace", "app.exe", "absent.exe", "broken.exe"]);
    assert_eq!(code, 6, "{stderr}");
    assert!(d.path("app.exe.tlog-proof").exists());
}

#[test]
fn a_timestamp_is_fetched_or_the_file_is_untouched() {
    let d = Desk::new();
    let tsa = countersign_testkit::tsa::Tsa::start(&d.path("tsa"), "127.0.0.1:0").unwrap();
    let root = tsa.root_file().to_string_lossy().into_owned();
    // The first authority is away: the next is asked.
    let args = [
        "--timestamp",
        "http://127.0.0.1:9/",
        "--timestamp",
        tsa.url(),
        "--timestamp-ca-file",
        &root,
    ];
    let (code, stderr) = d.sign(&[&args[..], &["app.exe", "notes.txt"]].concat());
    assert_eq!(code, 0, "{stderr}");
    let plain = Desk::new();
    assert_eq!(plain.sign(&["app.exe"]).0, 0);
    assert!(d.read("app.exe").len() > plain.read("app.exe").len() + 500);
    // An authority that leads to another root.
    let other = d.path("tls/ca.pem").to_string_lossy().into_owned();
    let args = [
        "--replace",
        "--timestamp",
        tsa.url(),
        "--timestamp-ca-file",
        &other,
        "app.exe",
    ];
    d.refused(5, "no timestamp authority", &args);
}

#[test]
fn a_named_attempt_asks_under_the_same_key_again() {
    let d = Desk::new();
    for name in ["a.p7s", "b.p7s"] {
        assert_eq!(
            d.sign(&["--retry-id", "build-7", "--out", name, "notes.txt"])
                .0,
            0
        );
    }
    assert_eq!(d.sign(&["--out", "c.p7s", "notes.txt"]).0, 0);
    let keys = d.service.idempotency_keys();
    assert_eq!(keys[0], keys[1]);
    assert_ne!(keys[0], keys[2]);
}
