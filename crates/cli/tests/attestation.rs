//! `countersign attestation` as a CA runs it: exit codes, forms of output, files and folders.
#![allow(clippy::unwrap_used, clippy::panic)]

use countersign_testkit_evidence::cert::{attestation_attribute, request};
use countersign_testkit_evidence::text::pem;
use countersign_testkit_evidence::yubihsm2::YubiHsm2;
use countersign_testkit_evidence::{Key, Kind};
use serde_json::Value;
use std::path::PathBuf;
use std::process::{Command, Output};

const AT: [&str; 2] = ["--at", "2026-11-22T00:00:00Z"];

/// A folder with a key, evidence and a root.
struct Desk {
    folder: tempfile::TempDir,
}

impl Desk {
    fn new(evidence: &YubiHsm2) -> Self {
        let desk = Self {
            folder: tempfile::tempdir().unwrap(),
        };
        std::fs::create_dir(desk.path("evidence")).unwrap();
        for (name, der) in ["leaf.pem", "device.pem", "ca.pem"]
            .iter()
            .zip(evidence.files())
        {
            desk.write(&format!("evidence/{name}"), pem("CERTIFICATE", &der));
        }
        desk.write("key.pem", pem("PUBLIC KEY", evidence.key.spki()));
        desk.write("root.pem", pem("CERTIFICATE", &evidence.root()));
        desk
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn write(&self, name: &str, text: impl AsRef<[u8]>) {
        std::fs::write(self.path(name), text).unwrap();
    }

    fn run(&self, args: &[&str]) -> (i32, String, String) {
        let Output {
            status,
            stdout,
            stderr,
        } = Command::new(env!("CARGO_BIN_EXE_countersign"))
            .current_dir(self.folder.path())
            .args(["--config", "home", "attestation"])
            .args(args)
            .output()
            .unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        (status.code().unwrap(), text(stdout), text(stderr))
    }

    fn verify(&self, more: &[&str]) -> (i32, String, String) {
        let mut args = vec!["verify"];
        args.extend(AT);
        args.extend(more);
        self.run(&args)
    }
}

const KEY: [&str; 6] = [
    "--public-key",
    "key.pem",
    "--evidence",
    "evidence",
    "--trust-anchors",
    "root.pem",
];

fn with<'a>(more: &[&'a str]) -> Vec<&'a str> {
    KEY.iter().chain(more).copied().collect()
}

#[test]
fn the_exit_code_is_the_verdict() {
    let desk = Desk::new(&YubiHsm2::default());
    let (code, out, err) = desk.verify(&with(&[]));
    assert_eq!(code, 0, "{out}{err}");
    assert!(out.starts_with("ACCEPT: "), "{out}");
    let (code, out, _) = desk.verify(&with(&["--require", "serial=5"]));
    assert_eq!(code, 1, "{out}");
    assert!(
        out.contains("FAIL: policy-serial: 1234; wanted: 5"),
        "{out}"
    );
    // Without the root: its certificate is not at hand.
    let (code, out, _) = desk.verify(&KEY[..4]);
    assert_eq!(code, 2, "{out}");
    assert!(out.starts_with("UNVERIFIABLE: "), "{out}");
    for wrong in [
        &[][..],
        &["--public-key", "key.pem"],
        &["--public-key", "missing.pem", "--evidence", "evidence"],
        &["--public-key", "key.pem", "--evidence", "missing"],
        &[
            "--public-key",
            "key.pem",
            "--csr",
            "key.pem",
            "--evidence",
            "evidence",
        ],
        &["--public-key", "evidence", "--evidence", "evidence"],
    ] {
        let (code, out, err) = desk.verify(wrong);
        assert_eq!(code, 64, "{wrong:?}: {out}{err}");
        assert!(out.is_empty(), "{out}");
    }
    for wrong in [
        "--nonce=xyz",
        "--nonce=",
        "--at=yesterday",
        "--require=nonsense",
        "--require=fips=9",
    ] {
        assert_eq!(desk.verify(&with(&[wrong])).0, 64, "{wrong}");
    }
}

#[test]
fn json_is_the_result_and_the_same_bytes_give_the_same_answer() {
    let desk = Desk::new(&YubiHsm2::default());
    let (code, first, _) = desk.verify(&with(&["--json"]));
    assert_eq!(code, 0);
    let result: Value = serde_json::from_str(&first).unwrap();
    assert_eq!(result["verdict"], "accept");
    assert_eq!(result["facts"]["serial"]["value"], "1234");
    assert_eq!(result["appraised_at"], "2026-11-22T00:00:00Z");
    assert_eq!(result["freshness"], "not-checked");
    assert_eq!(result["inputs"].as_array().unwrap().len(), 4);
    let (_, second, _) = desk.verify(&with(&["--json"]));
    assert_eq!(first, second);
}

#[test]
fn evidence_may_be_inside_the_request_alone() {
    let e = YubiHsm2::default();
    let desk = Desk::new(&e);
    let leaf = e.leaf().sign(&e.device_key);
    let attribute = attestation_attribute(&[("1.3.6.1.4.1.41482.4", leaf)], &[e.device(), e.ca()]);
    desk.write("request.csr", request("Acme", &e.key, &[attribute]));
    let (code, out, err) = desk.verify(&["--csr", "request.csr", "--trust-anchors", "root.pem"]);
    assert_eq!(code, 0, "{out}{err}");
    assert!(out.contains("subject asked for"), "{out}");
}

#[test]
fn files_that_were_not_used_are_listed() {
    let desk = Desk::new(&YubiHsm2::default());
    desk.write("evidence/notes.txt", "bought in May");
    let (code, out, _) = desk.verify(&with(&[]));
    assert_eq!(code, 0);
    assert!(
        out.contains("Given and not used\n  evidence/notes.txt"),
        "{out}"
    );
}

#[test]
fn a_policy_file_replaces_the_default() {
    let e = YubiHsm2 {
        capabilities: 1 << 7 | 1 << 9,
        ..YubiHsm2::default()
    };
    let desk = Desk::new(&e);
    assert_eq!(desk.verify(&with(&[])).0, 0);
    desk.write("p.toml", "version = 1\nname = \"ours\"\nsign-only = true\n");
    let (code, out, _) = desk.verify(&with(&["--policy", "p.toml"]));
    assert_eq!(code, 1);
    assert!(out.contains("policy-sign-only"), "{out}");
    assert!(out.contains("ours"), "{out}");
    desk.write(
        "p.json",
        r#"{"version":1,"name":"any","serial":["7","1234"]}"#,
    );
    assert_eq!(desk.verify(&with(&["--policy", "p.json"])).0, 0);
    // A requirement still tightens it.
    let tight = with(&["--policy", "p.json", "--require", "serial=7"]);
    assert_eq!(desk.verify(&tight).0, 1);
    for bad in [
        "version = 2\nname = \"x\"",
        "version = 1\nname = \"x\"\nsignonly = true",
        "version = 1\nname = \"x\"\nexportable = []",
        "version = 1\nname = \"x\"\nexportable = [\"unknown\"]",
        "version = 1\nname = \"x\"\ncertified = [\"140-9:2\"]",
        "version = 1\nname = \"x\"\nmethods = [9]",
    ] {
        desk.write("bad.toml", bad);
        let (code, _, err) = desk.verify(&with(&["--policy", "bad.toml"]));
        assert_eq!(code, 64, "{bad}");
        assert!(err.contains("bad.toml"), "{err}");
    }
}

#[test]
fn the_page_is_complete_in_itself_and_holds_no_markup_from_evidence() {
    let e = YubiHsm2 {
        label: "<script>alert(1)</script>\u{1b}[2J".into(),
        ..YubiHsm2::default()
    };
    let desk = Desk::new(&e);
    let (code, out, _) = desk.verify(&with(&["--report", "record.html"]));
    assert_eq!(code, 0);
    assert!(!out.contains('\u{1b}'));
    let page = std::fs::read_to_string(desk.path("record.html")).unwrap();
    assert!(page.contains("<strong>ACCEPT</strong>"));
    assert!(page.contains("&lt;script&gt;alert(1)&lt;/script&gt;"));
    for never in [
        "<script", "http://", "https://", "src=", "href=", "url(", "@import", "\u{1b}",
    ] {
        assert!(!page.contains(never), "{never}");
    }
    let result = desk.verify(&with(&["--json"])).1;
    let result: Value = serde_json::from_str(&result).unwrap();
    for check in result["checks"].as_array().unwrap() {
        assert!(page.contains(check["name"].as_str().unwrap()), "{check}");
    }
}

#[test]
fn inspect_says_without_judging() {
    let e = YubiHsm2::default();
    let desk = Desk::new(&e);
    // Signed by nobody in particular: inspect does not care.
    let thief = Key::named(Kind::Rsa2048, "thief");
    desk.write("forged.der", e.leaf().sign(&thief));
    let (code, out, _) = desk.run(&["inspect", "forged.der"]);
    assert_eq!(code, 0);
    assert!(out.starts_with("NOT VERIFIED"), "{out}");
    assert!(out.contains("device.serial     1234"), "{out}");
    assert!(out.contains("sign-ecdsa"), "{out}");
    let (_, out, _) = desk.run(&["inspect", "evidence", "--json"]);
    let found: Value = serde_json::from_str(&out).unwrap();
    assert_eq!(found["parts"].as_array().unwrap().len(), 3);
    assert_eq!(found["evidence"].as_array().unwrap().len(), 1);
    assert_eq!(desk.run(&["inspect", "missing"]).0, 64);
}

#[test]
fn anchors_are_listed_with_their_keys() {
    let desk = Desk::new(&YubiHsm2::default());
    let (code, out, _) = desk.run(&["anchors", "list"]);
    assert_eq!(code, 0);
    assert!(out.contains("Yubico YubiHSM Root CA"), "{out}");
    let (_, out, _) = desk.run(&["anchors", "list", "--json"]);
    let list: Value = serde_json::from_str(&out).unwrap();
    let rows = list["anchors"].as_array().unwrap();
    assert!(rows.len() >= 4);
    for row in rows {
        assert_eq!(row["spki_sha256"].as_str().unwrap().len(), 64, "{row}");
        assert!(!row["published"].as_str().unwrap().is_empty(), "{row}");
    }
    let version = list["anchor_set_version"].as_str().unwrap();
    let (_, out, _) = desk.verify(&[
        "--public-key",
        "key.pem",
        "--evidence",
        "evidence",
        "--json",
    ]);
    let result: Value = serde_json::from_str(&out).unwrap();
    assert_eq!(result["anchor_set_version"], version);
}

#[test]
fn a_device_log_says_who_was_there_before() {
    let evidence = YubiHsm2::default();
    let desk = Desk::new(&evidence);
    let ask = |more: &[&str]| {
        let log = ["--device-log", "devices.jsonl", "--json"];
        let (code, out, err) = desk.verify(&with(&[&log, more].concat()));
        assert_eq!(code, 0, "{err}");
        let result: Value = serde_json::from_str(&out).unwrap();
        result["seen_before"].clone()
    };
    // Asking notes nothing; a name does, once for each key.
    let never = serde_json::json!({"names": "individual", "under": []});
    assert_eq!(ask(&[]), never);
    assert_eq!(ask(&["--subscriber", "acme"]), never);
    for _ in 0..2 {
        let seen = ask(&["--subscriber", "zeta"]);
        assert_eq!(seen["under"][0]["subscriber"], "acme");
        assert_eq!(seen["under"][0]["keys"], 1);
    }
    let seen = ask(&[]);
    let under = seen["under"].as_array().unwrap().iter();
    let names: Vec<_> = under.map(|u| u["subscriber"].as_str().unwrap()).collect();
    assert_eq!(names, ["acme", "zeta"]);
    let (_, text, _) = desk.verify(&with(&["--device-log", "devices.jsonl"]));
    assert!(
        text.contains("this device was seen under acme (1 key, "),
        "{text}"
    );

    // The log names no device in the clear, and is its owner's alone.
    let log = std::fs::read_to_string(desk.path("devices.jsonl")).unwrap();
    assert_eq!(log.lines().count(), 3);
    let serial = ask_serial(&desk);
    assert!(!log.contains(&serial), "{serial} in {log}");
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt as _;
        let mode = std::fs::metadata(desk.path("devices.jsonl")).unwrap();
        assert_eq!(mode.permissions().mode() & 0o777, 0o600);
    }
}

fn ask_serial(desk: &Desk) -> String {
    let (_, out, _) = desk.verify(&with(&["--json"]));
    let result: Value = serde_json::from_str(&out).unwrap();
    assert!(result.get("seen_before").is_none());
    result["facts"]["serial"]["value"]
        .as_str()
        .unwrap()
        .to_owned()
}

#[test]
fn a_device_log_that_cannot_be_read_stops_and_is_not_touched() {
    let desk = Desk::new(&YubiHsm2::default());
    let log = ["--device-log", "devices.jsonl", "--subscriber", "acme"];
    desk.verify(&with(&log));
    let good = std::fs::read_to_string(desk.path("devices.jsonl")).unwrap();
    for (bad, wanted) in [
        (good.trim_end().to_owned(), "line 2: has no end"),
        (
            good.replace("\"device_log\":1", "\"device_log\":2"),
            "line 1: is of a version",
        ),
        ("{}\n".to_owned(), "line 1: is no device log's head"),
        (format!("{good}{{}}\n"), "line 3: is no sighting"),
        (
            format!("{good}{}\n", "x".repeat(5000)),
            "line 3: has no end",
        ),
    ] {
        desk.write("devices.jsonl", &bad);
        let (code, _, err) = desk.verify(&with(&log));
        assert_eq!(code, 64, "{err}");
        assert!(err.contains(wanted), "{wanted}: {err}");
        let after = std::fs::read_to_string(desk.path("devices.jsonl")).unwrap();
        assert_eq!(after, bad);
    }
    desk.write("devices.jsonl", &good);
    let (code, _, err) = desk.verify(&with(&["--subscriber", "acme"]));
    assert_eq!(code, 64, "{err}");
    let long = "x".repeat(257);
    let named = ["--device-log", "devices.jsonl", "--subscriber", &long];
    assert_eq!(desk.verify(&with(&named)).0, 64);
}
