//! The logs: downloaded, audited elsewhere, tampered with in every way we can think of.

use crate::support::cli::Cli;
use crate::support::judges::{cms_request, copy_dir, leaves, size_of, verify_log_py};
use crate::support::{PEOPLE_AUDIENCE, REPOSITORY, Stack, copy_exe, text, third_party_exe};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use countersign_core::HashAlgorithm;
use countersign_testkit::issuer::TokenSpec;
use countersign_testkit::programs::wait_until;
use serde_json::Value;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// A command line on another machine: nothing remembered, no service to ask.
fn elsewhere(stack: &Stack, name: &str) -> Cli {
    stack
        .cli(&format!("elsewhere-{name}"))
        .env("COUNTERSIGN_SERVER", "https://127.0.0.1:9")
        .env("COUNTERSIGN_CA_FILE", "/nonexistent")
}

/// A tenant that signed two files: its admin, the folder with the files, that with the logs, the key.
fn signed_tenant(stack: &Stack, tenant: &str) -> (Cli, Cli, PathBuf, PathBuf, String) {
    let admin = stack.tenant(tenant);
    let key = stack.signer(&admin, &format!("{tenant}/release"), "ec-p256");
    let files = stack.folder(&format!("{tenant}/files"));
    let job = stack.job(&format!("{tenant}-job"), REPOSITORY);
    let (a, b) = (
        copy_exe(&files, "a.exe", "t64.exe"),
        copy_exe(&files, "b.exe", "t32.exe"),
    );
    job.ok(&[
        "sign",
        "--signer",
        &format!("{tenant}/release"),
        &text(&a),
        &text(&b),
    ]);
    let logs = stack.path(&format!("{tenant}/logs"));
    settled(&admin, &key, 2);
    admin.ok(&["log", "download", "--all", "--out", &text(&logs)]);
    (admin, job, files, logs, key)
}

/// Waits until the outcomes of all authorisations are in the log: they follow the answer.
fn settled(admin: &Cli, key: &str, signatures: u64) {
    wait_until("outcomes", Duration::from_secs(20), || {
        let shown = admin.json(&["keys", "show", key]);
        // log-opened, the certificate request with its outcome, two for each signature.
        shown["log_size"].as_u64() == Some(3 + 2 * signatures)
    })
    .expect("the outcomes are written");
}

/// The folder of the tenant's own log among all that were downloaded.
fn tenant_log(logs: &Path, key: &str) -> PathBuf {
    std::fs::read_dir(logs)
        .expect("logs")
        .map(|e| e.expect("entry").path())
        .find(|p| !p.ends_with(key))
        .expect("the tenant's log")
}

fn line(file: &Path) -> String {
    std::fs::read_to_string(file)
        .expect("file")
        .trim()
        .to_owned()
}

#[test]
fn a_log_is_copied_piece_by_piece_and_audited_on_another_machine() {
    let stack = Stack::shared();
    let (admin, job, files, logs, key) = signed_tenant(stack, "log-copy");
    let dir = logs.join(&key);
    let audit = |cli: &Cli, dir: &Path, more: &[&str], code: i32| -> Value {
        let dir = text(dir);
        let out = cli.ends(
            code,
            &[&["--json", "log", "audit", &dir][..], more].concat(),
        );
        serde_json::from_str(&out.stdout).expect("JSON")
    };
    let report = audit(
        &admin,
        &dir,
        &[
            "--receipts",
            &text(&files),
            "--files",
            &text(&files.join("a.exe")),
            &text(&files.join("b.exe")),
        ],
        0,
    );
    assert_eq!(report["trust"], "pinned");
    assert_eq!(report["log"]["counts"]["authorisations"], 3);
    assert_eq!(report["log"]["counts"]["signed"], 3);
    assert_eq!(
        report["receipts"]["paired"].as_array().map(Vec::len),
        Some(2)
    );
    assert_eq!(
        report["receipts"]["signed_without_receipt"],
        serde_json::json!([])
    );
    assert_eq!(report["files"].as_array().map(Vec::len), Some(2));
    assert_eq!(report["device_counter"], "no device counter");

    // What is new is fetched, and nothing else; the audit sees that the history goes on.
    let again = admin.json(&["log", "download", "--key", &key, "--out", &text(&dir)]);
    assert_eq!(again[0]["new_files"], 0);
    let c = copy_exe(&files, "c.exe", "w64.exe");
    job.ok(&["sign", "--signer", "log-copy/release", &text(&c)]);
    settled(&admin, &key, 3);
    let before = std::fs::read(dir.join("checkpoint")).expect("checkpoint");
    let more = admin.json(&["log", "download", "--key", &key, "--out", &text(&dir)]);
    assert_eq!(
        (&more[0]["new_files"], &more[0]["size"]),
        (&2.into(), &9.into())
    );
    let report = audit(&admin, &dir, &["--receipts", &text(&files)], 0);
    assert!(
        report["log"]["consistent_with"]
            .as_array()
            .is_some_and(|h| h.len() >= 2),
        "{report}"
    );
    // Another log does not go into this folder.
    admin.ends(64, &["log", "download", "--out", &text(&dir)]);

    // A copy, a machine that knows nothing, no service.
    let copy = stack.folder("log-copy/elsewhere");
    copy_dir(&dir, &copy);
    copy_dir(&files, &copy);
    let (dir, files) = (copy.join(&key), copy.join("files"));
    let vkey = line(&dir.join("vkey"));
    let cli = elsewhere(stack, "copy");
    let receipts = text(&files);
    let report = audit(
        &cli,
        &dir,
        &[
            "--vkey",
            &vkey,
            "--receipts",
            &receipts,
            "--files",
            &text(&files.join("c.exe")),
        ],
        0,
    );
    assert_eq!(report["trust"], "given");
    // Without a key of one's own the word is the folder's, and that is said.
    let out = elsewhere(stack, "copy-2").ok(&["log", "audit", &text(&dir)]);
    assert!(out.says("came with the folder"), "{out:?}");
    let old = copy.join("old-checkpoint");
    std::fs::write(&old, before).expect("file");
    audit(&cli, &dir, &["--vkey", &vkey, "--since", &text(&old)], 0);
    audit(
        &cli,
        &dir,
        &[
            "--vkey",
            &vkey,
            "--files",
            &text(&third_party_exe("t64-arm.exe")),
        ],
        1,
    );
    let (code, said) = verify_log_py(
        &dir,
        &[
            "--vkey",
            &vkey,
            "--previous",
            &text(&old),
            "--receipts",
            &receipts,
        ],
    );
    assert_eq!(code, 0, "{said}");
    // Another log's key says nothing about this one.
    let other = line(&tenant_log(&logs, &key).join("vkey"));
    let undecided =
        elsewhere(stack, "copy-3").run(&["log", "audit", &text(&dir), "--vkey", &other]);
    assert!([1, 2].contains(&undecided.code), "{undecided:?}");

    // The tenant's log vouches for the key's.
    let own = tenant_log(&logs, &key);
    wait_until("a key checkpoint", Duration::from_secs(20), || {
        admin.ok(&["log", "download", "--out", &text(&own)]);
        leaves(&own).iter().any(|l| matches!(&l.body, countersign_signing_log::LeafBody::KeyCheckpoint(c) if c.key == key && c.size >= 5))
    })
    .expect("key checkpoints reach the tenant's log");
    audit(&admin, &own, &[], 0);
    audit(&admin, &logs.join(&key), &["--tenant-log", &text(&own)], 0);
    assert_eq!(verify_log_py(&own, &[]).0, 0);
    let shown = admin.json(&["log", "show", &text(&dir), "--from", "3", "--limit", "2"]);
    assert_eq!(shown["leaves"].as_array().map(Vec::len), Some(2));
    assert_eq!(shown["leaves"][0]["leaf"]["type"], "authorisation");
    assert!(
        shown["leaves"][0]["details"]["artifact"]
            .as_str()
            .is_some_and(|a| a.starts_with("sha-256:")),
        "{shown}"
    );
}

/// One way to tamper with a downloaded log, and how both verifiers must end.
struct Tamper {
    what: &'static str,
    how: fn(&Path, &Path),
    /// Ours and the other implementation's exit code.
    code: i32,
}

fn change(path: &Path, with: impl FnOnce(&mut Vec<u8>)) {
    let mut bytes = std::fs::read(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    with(&mut bytes);
    std::fs::write(path, bytes).expect("write");
}

fn only(dir: &Path, kind: &str) -> PathBuf {
    let partial = dir.join(format!("tile/{kind}/000.p"));
    let mut all: Vec<_> = std::fs::read_dir(partial)
        .expect("partial tiles")
        .map(|e| e.expect("entry").path())
        .collect();
    assert_eq!(all.len(), 1);
    all.remove(0)
}

fn flip(bytes: &mut [u8], at: usize) {
    bytes[at] ^= 1;
}

/// Changes one character of base64 on the line that starts with `start`, keeping it base64.
fn flip_base64(path: &Path, start: &str, at: usize) {
    change(path, |b| {
        let text = String::from_utf8(b.clone()).expect("text");
        let begin = text
            .find(start)
            .unwrap_or_else(|| panic!("{start} in {text}"))
            + start.len()
            + at;
        b[begin] = if b[begin] == b'A' { b'B' } else { b'A' };
    });
}

const TAMPERS: [Tamper; 19] = [
    Tamper {
        what: "nothing",
        how: |_, _| {},
        code: 0,
    },
    Tamper {
        what: "a byte of a leaf",
        how: |d, _| {
            change(&only(d, "entries"), |b| {
                let at = b.len() - 30;
                flip(b, at)
            })
        },
        code: 1,
    },
    Tamper {
        what: "a leaf's time, well-formed",
        how: |d, _| {
            change(&only(d, "entries"), |b| {
                let at = b
                    .windows(7)
                    .rposition(|w| w == b"\"time\":")
                    .expect("a time")
                    + 7
                    + 15;
                b[at] = if b[at] == b'1' { b'2' } else { b'1' };
            })
        },
        code: 1,
    },
    Tamper {
        what: "a hash in a tile",
        how: |d, _| change(&only(d, "0"), |b| flip(b, 40)),
        code: 1,
    },
    Tamper {
        what: "a tile cut off",
        how: |d, _| change(&only(d, "0"), |b| b.truncate(b.len() - 32)),
        code: 1,
    },
    Tamper {
        what: "a bundle cut off",
        how: |d, _| change(&only(d, "entries"), |b| b.truncate(b.len() - 5)),
        code: 1,
    },
    Tamper {
        what: "bytes after a bundle",
        how: |d, _| change(&only(d, "entries"), |b| b.extend([0, 1, b'x'])),
        code: 1,
    },
    Tamper {
        what: "an empty bundle",
        how: |d, _| change(&only(d, "entries"), Vec::clear),
        code: 1,
    },
    Tamper {
        what: "no tile",
        how: |d, _| std::fs::remove_file(only(d, "0")).expect("rm"),
        code: 2,
    },
    Tamper {
        what: "no bundle",
        how: |d, _| std::fs::remove_file(only(d, "entries")).expect("rm"),
        code: 2,
    },
    Tamper {
        what: "no checkpoint",
        how: |d, _| std::fs::remove_file(d.join("checkpoint")).expect("rm"),
        code: 2,
    },
    Tamper {
        what: "another log's checkpoint",
        how: |d, other| {
            std::fs::copy(other.join("checkpoint"), d.join("checkpoint")).expect("cp");
        },
        code: 1,
    },
    Tamper {
        what: "another log's checkpoint, key and name",
        how: |d, other| {
            for f in ["checkpoint", "vkey", "origin"] {
                std::fs::copy(other.join(f), d.join(f)).expect("cp");
            }
        },
        code: 1,
    },
    Tamper {
        what: "a smaller size in the checkpoint",
        how: |d, _| {
            change(&d.join("checkpoint"), |b| {
                let text = String::from_utf8(b.clone()).expect("text");
                *b = text.replacen("\n7\n", "\n6\n", 1).into_bytes();
                assert_ne!(text.as_bytes(), b);
            })
        },
        code: 1,
    },
    Tamper {
        what: "the checkpoint's signature",
        how: |d, _| {
            let o = line(&d.join("origin"));
            flip_base64(&d.join("checkpoint"), &format!("— {o} "), 20)
        },
        code: 1,
    },
    Tamper {
        what: "no details: erased, which is allowed",
        how: |d, _| std::fs::remove_file(d.join("details.ndjson")).expect("rm"),
        code: 0,
    },
    Tamper {
        what: "one line of details erased",
        how: |d, _| {
            change(&d.join("details.ndjson"), |b| {
                let end = b.iter().position(|c| *c == b'\n').expect("a line") + 1;
                b.drain(..end);
            })
        },
        code: 0,
    },
    Tamper {
        what: "a salt in the details",
        how: |d, _| flip_base64(&d.join("details.ndjson"), "\"salt\":\"", 3),
        code: 1,
    },
    Tamper {
        what: "details moved to another leaf",
        how: |d, _| {
            change(&d.join("details.ndjson"), |b| {
                let text = String::from_utf8(b.clone()).expect("text");
                *b = text
                    .replacen("\"index\":3,", "\"index\":X,", 1)
                    .replacen("\"index\":5,", "\"index\":3,", 1)
                    .replacen("\"index\":X,", "\"index\":5,", 1)
                    .into_bytes();
                assert_ne!(text.as_bytes(), b);
            })
        },
        code: 1,
    },
];

#[test]
fn whatever_is_tampered_with_both_verifiers_say_the_same() {
    let stack = Stack::shared();
    let (_, _, _, logs, key) = signed_tenant(stack, "log-tamper");
    let other = tenant_log(&logs, &key);
    let vkey = line(&logs.join(&key).join("vkey"));
    let work = stack.folder("log-tamper/work");
    for (n, tamper) in TAMPERS.iter().enumerate() {
        let dir = work.join(n.to_string());
        copy_dir(&logs.join(&key), &dir);
        (tamper.how)(&dir, &other);
        let cli = elsewhere(stack, &format!("tamper-{n}"));
        let out = cli.run(&["log", "audit", &text(&dir), "--vkey", &vkey]);
        let (code, said) = verify_log_py(&dir, &["--vkey", &vkey]);
        assert_eq!(
            (out.code, code),
            (tamper.code, tamper.code),
            "{}\n{}{}\n{said}",
            tamper.what,
            out.stdout,
            out.stderr
        );
        let word = match tamper.code {
            0 => "GOOD",
            1 => "BAD",
            _ => "UNDECIDED",
        };
        assert!(out.says(word), "{}: {out:?}", tamper.what);
    }
    // A file cannot be paired where its details are gone: that is no proof of anything.
    let dir = text(&work.join("15"));
    let exe = text(&stack.path("log-tamper/files/a.exe"));
    let out = elsewhere(stack, "tamper-files")
        .run(&["log", "audit", &dir, "--vkey", &vkey, "--files", &exe]);
    assert_eq!(out.code, 2, "{out:?}");
}

#[test]
fn a_receipt_is_good_for_its_file_alone() {
    let stack = Stack::shared();
    let (admin, job, files, logs, key) = signed_tenant(stack, "log-receipt");
    let (a, b) = (text(&files.join("a.exe")), text(&files.join("b.exe")));
    let receipt = files.join("a.exe.tlog-proof");
    let proof = text(&receipt);
    let dir = text(&logs.join(&key));
    let vkey = line(&logs.join(&key).join("vkey"));
    let cli = elsewhere(stack, "receipt");
    let verify = |file: &str, proof: &str, more: &[&str], code: i32| {
        cli.ends(
            code,
            &[&["receipt", "verify", file, proof][..], more].concat(),
        )
    };
    assert!(verify(&a, &proof, &["--vkey", &vkey], 0).says("GOOD"));
    verify(&a, &proof, &["--log-dir", &dir], 0);
    job.ok(&["receipt", "verify", &a, &proof]);
    admin.ok(&["receipt", "verify", &a, &proof, "--log-dir", &dir]);
    // Nothing pinned, nothing given: nothing can be said.
    verify(&a, &proof, &[], 2);
    // The executable before it was signed is the same executable.
    verify(
        &text(&third_party_exe("t64.exe")),
        &proof,
        &["--vkey", &vkey],
        0,
    );
    verify(&b, &proof, &["--vkey", &vkey], 1);
    verify(
        &text(&files.join("absent.exe")),
        &proof,
        &["--vkey", &vkey],
        4,
    );
    let other = line(&tenant_log(&logs, &key).join("vkey"));
    verify(&a, &proof, &["--vkey", &other], 2);
    verify(
        &a,
        &proof,
        &["--log-dir", &text(&tenant_log(&logs, &key))],
        2,
    );

    // One changed bit anywhere.
    let whole = std::fs::read_to_string(&receipt).expect("receipt");
    let altered = files.join("altered.proof");
    let try_with = |what: &str, text_of: String| {
        assert_ne!(text_of, whole, "{what}");
        std::fs::write(&altered, text_of).expect("file");
        for more in [["--vkey", &vkey], ["--log-dir", &dir]] {
            let out = cli.run(&[&["receipt", "verify", &a, &text(&altered)][..], &more].concat());
            assert_eq!(out.code, 1, "{what}: {out:?}");
        }
    };
    let extra = whole
        .lines()
        .find_map(|l| l.strip_prefix("extra "))
        .expect("extra");
    let json: Value =
        serde_json::from_slice(&STANDARD.decode(extra).expect("base64")).expect("JSON");
    let with_extra = |json: &Value| whole.replacen(extra, &STANDARD.encode(json.to_string()), 1);
    let mut leaf = String::from_utf8(
        STANDARD
            .decode(json["leaf"].as_str().expect("leaf"))
            .expect("base64"),
    )
    .expect("UTF-8");
    leaf = leaf.replacen("\"signer\":\"release\"", "\"signer\":\"relaase\"", 1);
    let mut changed = json.clone();
    changed["leaf"] = STANDARD.encode(leaf).into();
    try_with("leaf", with_extra(&changed));
    let mut changed = json.clone();
    changed["artifact"]["value"] = STANDARD
        .encode(format!("sha-256:{}", "0".repeat(64)))
        .into();
    try_with("artifact", with_extra(&changed));
    let index = whole
        .lines()
        .find(|l| l.starts_with("index "))
        .expect("index");
    try_with("index", whole.replacen(index, "index 0", 1));
    let hash = whole
        .lines()
        .skip(3)
        .find(|l| !l.is_empty())
        .expect("a hash of the proof");
    try_with("proof", whole.replacen(hash, &STANDARD.encode([7; 32]), 1));
    try_with(
        "a proof too long",
        whole.replacen(hash, &format!("{hash}\n{hash}"), 1),
    );
    try_with("cut off", whole[..whole.len() / 2].to_owned());
    try_with("another file's artifact", {
        let b = std::fs::read_to_string(files.join("b.exe.tlog-proof")).expect("receipt");
        let b_extra = b
            .lines()
            .find_map(|l| l.strip_prefix("extra "))
            .expect("extra");
        whole.replacen(extra, b_extra, 1)
    });
    // Not a receipt at all.
    cli.ends(1, &["receipt", "verify", &a, &a, "--vkey", &vkey]);
}

#[test]
fn six_hundred_leaves_and_every_tile_on_the_way() {
    let stack = Stack::shared();
    let admin = stack.tenant("log-long");
    let key = stack.signer(&admin, "log-long/release", "ec-p256");
    let raw = stack.raw();
    let token = stack.service_token("log-long", REPOSITORY);
    let dir = stack.path("log-long/key");
    let sign = |from: u32, to: u32| {
        std::thread::scope(|s| {
            for t in 0..6 {
                let (raw, token) = (&raw, &token);
                s.spawn(move || {
                    for n in (from..to).filter(|n| n % 6 == t) {
                        let body = cms_request(&n.to_be_bytes(), HashAlgorithm::Sha256);
                        let answer = raw.post(
                            "/v1/tenants/log-long/signers/release/signatures",
                            Some(token),
                            &body,
                        );
                        assert_eq!(answer.status, 200, "{answer:?}");
                    }
                });
            }
        });
    };
    let began = std::time::Instant::now();
    sign(0, 100);
    settled(&admin, &key, 100);
    let first = admin.json(&["log", "download", "--key", &key, "--out", &text(&dir)]);
    assert_eq!(first[0]["size"], 203);
    admin.ok(&["log", "audit", &text(&dir)]);
    sign(100, 302);
    println!("302 signatures in {:?}", began.elapsed());
    settled(&admin, &key, 302);
    let more = admin.json(&["log", "download", "--key", &key, "--out", &text(&dir)]);
    assert_eq!(more[0]["size"], 607);
    assert_eq!(size_of(&dir), 607);
    for there in [
        "tile/entries/000",
        "tile/entries/001",
        "tile/entries/002.p/95",
        "tile/0/001",
        "tile/0/002.p/95",
        "tile/1/000.p/2",
    ] {
        assert!(dir.join(there).is_file(), "{there}");
    }
    let report = admin.json(&["log", "audit", &text(&dir)]);
    assert_eq!(report["log"]["counts"]["signed"], 303);
    assert_eq!(report["log"]["counts"]["open"], 0);
    let (code, said) = verify_log_py(&dir, &[]);
    assert_eq!(code, 0, "{said}");
    assert!(said.contains("303 signed"), "{said}");

    // A partial tile is served for every size the log has had, and none beyond it.
    let id = stack
        .people
        .mint(&TokenSpec::new("log-long-admin", PEOPLE_AUDIENCE).mfa())
        .expect("token");
    let token = raw.exchanged("log-long", &id);
    let get = |path: &str| raw.get(&format!("/log/{key}/tile/{path}"), Some(&token));
    let full = get("0/002.p/95").body;
    let bundle = get("entries/002.p/95").body;
    for width in (1..=95).rev().step_by(7).chain([1]) {
        let tile = get(&format!("0/002.p/{width}"));
        assert_eq!(
            (tile.status, tile.content_type.as_str()),
            (200, "application/octet-stream")
        );
        assert_eq!(tile.body, full[..32 * width]);
        let entries = get(&format!("entries/002.p/{width}"));
        assert_eq!(entries.status, 200);
        assert!(bundle.starts_with(&entries.body), "{width}");
    }
    assert_eq!(get("0/000").body.len(), 256 * 32);
    assert_eq!(get("1/000.p/1").body.len(), 32);
    assert_eq!(
        get("0/000.p/17").body,
        get("0/000").body[..17 * 32],
        "a full tile's beginnings too"
    );
    for absent in [
        "0/002.p/96",
        "0/002.p/255",
        "0/002",
        "0/003",
        "0/003.p/1",
        "1/000.p/3",
        "1/000",
        "2/000.p/1",
        "entries/002.p/96",
        "entries/003.p/1",
        "0/002.p/0",
        "0/002.p/256",
        "0/002.p/095",
        "0/2.p/95",
        "0/x000/002.p/95",
        "00/002.p/95",
        "64/000.p/1",
        "entries/x001/000.p/1",
        "0/000.p/1/",
        "entries",
        "",
        "0/18446744073709551615",
        "-1/000.p/1",
    ] {
        assert_eq!(get(absent).status, 404, "{absent}");
    }
}

#[test]
fn tiles_and_checkpoints_are_served_as_the_standard_says() {
    let stack = Stack::shared();
    let (_, _, _, logs, key) = signed_tenant(stack, "log-http");
    let raw = stack.raw();
    let id = stack
        .people
        .mint(&TokenSpec::new("log-http-admin", PEOPLE_AUDIENCE).mfa())
        .expect("token");
    let token = raw.exchanged("log-http", &id);
    for prefix in [
        format!("/log/{key}"),
        format!("/v1/tenants/log-http/logs/{key}"),
    ] {
        let head = stack.curl(&format!("{prefix}/checkpoint"), &token, &[]);
        assert_eq!(head.status, 200, "{head:?}");
        assert_eq!(head.headers["content-type"], "text/plain; charset=utf-8");
        assert_eq!(head.headers["x-content-type-options"], "nosniff");
        assert!(
            head.headers["cache-control"].starts_with("private, max-age="),
            "{head:?}"
        );
        assert!(!head.headers["cache-control"].contains("immutable"));
        assert_eq!(
            String::from_utf8_lossy(&head.body),
            std::fs::read_to_string(logs.join(&key).join("checkpoint")).expect("checkpoint")
        );
        let tag = &head.headers["etag"];
        let same = stack.curl(
            &format!("{prefix}/checkpoint"),
            &token,
            &[&format!("if-none-match: {tag}")],
        );
        assert_eq!((same.status, same.body.len()), (304, 0), "{same:?}");
        assert_eq!(&same.headers["etag"], tag);
        let other = stack.curl(
            &format!("{prefix}/checkpoint"),
            &token,
            &["if-none-match: \"other\""],
        );
        assert_eq!(other.status, 200);
        for path in ["tile/0/000.p/7", "tile/entries/000.p/7"] {
            let tile = stack.curl(&format!("{prefix}/{path}"), &token, &[]);
            assert_eq!(tile.status, 200, "{tile:?}");
            assert_eq!(tile.headers["content-type"], "application/octet-stream");
            assert_eq!(
                tile.headers["cache-control"],
                "private, max-age=31536000, immutable"
            );
            assert_eq!(
                tile.body,
                std::fs::read(logs.join(&key).join(path)).expect("downloaded")
            );
        }
        // An absence is not kept: the tile will be there one day.
        let none = stack.curl(&format!("{prefix}/tile/0/000.p/200"), &token, &[]);
        assert_eq!(
            (none.status, none.headers["cache-control"].as_str()),
            (404, "no-store")
        );
    }
    let details = format!("/v1/tenants/log-http/logs/{key}/details");
    let answer = stack.curl(&format!("{details}?from=3&limit=1"), &token, &[]);
    assert_eq!(answer.headers["content-type"], "application/x-ndjson");
    let lines = String::from_utf8_lossy(&answer.body).into_owned();
    assert_eq!(lines.lines().count(), 1, "{lines}");
    assert!(lines.starts_with("{\"index\":3,"), "{lines}");
    assert_eq!(
        raw.get(&format!("{details}?from=-1"), Some(&token))
            .problem(),
        "bad-request"
    );
    assert_eq!(
        raw.get(&format!("{details}?form=1"), Some(&token))
            .problem(),
        "bad-request"
    );
    assert_eq!(
        raw.get(&format!("{details}?from=99999"), Some(&token)).body,
        b""
    );
}

#[test]
fn the_tenants_log_tells_everything_and_opens() {
    let stack = Stack::shared();
    let tenant = "log-tells";
    let admin = stack.tenant(tenant);
    let signer = format!("{tenant}/release");
    let key = stack.signer(&admin, &signer, "ec-p256");
    let member = [
        "--issuer",
        stack.people.url(),
        "--subject",
        "auntie",
        "--role",
        "auditor",
    ];
    admin.ok(&[&["members", "add"][..], &member].concat());
    admin.ok(&[&["members", "remove"][..], &member].concat());
    admin.ok(&[
        "policy",
        "set",
        "--allow-software",
        "true",
        "--require-mfa",
        "true",
    ]);
    let folder = stack.folder(tenant);
    let exe = copy_exe(&folder, "a.exe", "t64.exe");
    stack
        .job("log-tells-job", REPOSITORY)
        .ok(&["sign", "--signer", &signer, &text(&exe)]);
    let other = text(&copy_exe(&folder, "b.exe", "t64.exe"));
    stack
        .job("log-tells-thief", "666")
        .ends(3, &["sign", "--signer", &signer, &other]);
    // The command line stops at the certificate; whoever asks for a signature directly is refused there.
    let raw = stack.raw();
    let path = format!("/v1/tenants/{tenant}/signers/release/signatures");
    let thief = stack.service_token(tenant, "666");
    for _ in 0..3 {
        let answer = raw.post(
            &path,
            Some(&thief),
            &cms_request(b"x", HashAlgorithm::Sha256),
        );
        assert_eq!(answer.problem(), "denied");
    }
    let job = stack.service_token(tenant, REPOSITORY);
    let mut bad = cms_request(b"x", HashAlgorithm::Sha256);
    bad["content"]["signed_attributes"] = STANDARD.encode(b"\x31\x00").into();
    assert_eq!(
        raw.post(&path, Some(&job), &bad).problem(),
        "content-refused"
    );
    admin.ends(
        3,
        &["certificate", "install", &key, "--chain", &stack.ca_roots()],
    );
    let grants = admin.json(&["grants", "list"]);
    admin.ok(&[
        "grants",
        "remove",
        grants[0]["id"].as_str().expect("grant id"),
    ]);
    admin.ok(&["keys", "suspend", &key, "--reason", "a test of the log"]);

    let wanted: BTreeSet<&str> = [
        "log-opened",
        "tenant-created",
        "token-created",
        "issuer-registered",
        "member-added",
        "member-removed",
        "policy-set",
        "signer-created",
        "key-generated",
        "key-appraised",
        "key-state",
        "certificate-requested",
        "certificate-installed",
        "certificate-refused",
        "grant-added",
        "grant-removed",
        "denied",
        "content-refused",
        "key-checkpoint",
        "token-exchanged",
    ]
    .into();
    let dir = stack.path("log-tells/log");
    let mut shown = Value::Null;
    let seen = |shown: &Value| -> BTreeSet<String> {
        let all = shown["leaves"].as_array().expect("leaves");
        all.iter()
            .map(|l| l["leaf"]["type"].as_str().expect("type").to_owned())
            .collect()
    };
    let complete = wait_until("all kinds of leaves", Duration::from_secs(20), || {
        admin.ok(&["log", "download", "--out", &text(&dir)]);
        shown = admin.json(&["log", "show", &text(&dir)]);
        wanted.iter().all(|w| seen(&shown).contains(*w))
    });
    assert!(
        complete.is_ok(),
        "{:?}",
        wanted
            .iter()
            .filter(|w| !seen(&shown).contains(**w))
            .collect::<Vec<_>>()
    );
    admin.ok(&["log", "audit", &text(&dir)]);
    let (code, said) = verify_log_py(&dir, &[]);
    assert_eq!(code, 0, "{said}");

    let of = |kind: &str| -> Vec<&Value> {
        shown["leaves"]
            .as_array()
            .expect("leaves")
            .iter()
            .filter(|l| l["leaf"]["type"] == kind)
            .collect()
    };
    // Every commitment in every leaf opens.
    for leaf in shown["leaves"].as_array().expect("leaves") {
        for label in ["subject", "caller", "by", "detail"] {
            let committed = leaf["leaf"][label].as_str().is_some_and(|v| v.len() == 64);
            let opened = if label == "by" { "caller" } else { label };
            // `worker-event` has a plain text of that name.
            if committed && leaf["leaf"]["type"] != "worker-event" {
                assert!(leaf["details"][opened].is_string(), "{label} of {leaf}");
            }
        }
    }
    assert_eq!(of("member-removed")[0]["details"]["subject"], "auntie");
    assert!(
        of("member-removed")[0]["details"]["caller"]
            .as_str()
            .is_some_and(|c| c.contains("log-tells-admin"))
    );
    assert!(
        of("key-state")
            .iter()
            .any(|l| l["leaf"]["to"] == "suspended" && l["leaf"]["reason"] == "a test of the log")
    );
    let denied: u64 = of("denied")
        .iter()
        .filter(|l| {
            l["leaf"]["reason"]
                .as_str()
                .is_some_and(|r| r.contains("repository_id"))
        })
        .map(|l| l["leaf"]["count"].as_u64().expect("count"))
        .sum();
    assert!(denied >= 3, "{denied}: {:?}", of("denied"));
    let detail: Value = serde_json::from_str(
        of("denied")[0]["details"]["detail"]
            .as_str()
            .expect("detail"),
    )
    .expect("JSON");
    assert_eq!(detail["issuer"], stack.platform.url());
    assert_eq!(of("token-created")[0]["leaf"]["software"], true);
    assert_eq!(of("key-checkpoint")[0]["leaf"]["key"], key.as_str());
    // Neither people nor files stand in a leaf.
    let leaves = serde_json::to_string(
        &shown["leaves"]
            .as_array()
            .expect("leaves")
            .iter()
            .map(|l| &l["leaf"])
            .collect::<Vec<_>>(),
    )
    .expect("JSON");
    for hidden in ["auntie", "log-tells-admin", "a.exe", "4711"] {
        assert!(!leaves.contains(hidden), "{hidden}");
    }
}

#[test]
fn a_machine_set_back_to_yesterday_is_found_out() {
    let mut stack = Stack::start();
    let admin = stack.tenant("rewound");
    let key = stack.signer(&admin, "rewound/release", "ec-p256");
    let files = stack.folder("files");
    let sign = |stack: &Stack, name: &str, exe: &str, code: i32| {
        let file = text(&copy_exe(&files, name, exe));
        // One home: what it has seen it remembers.
        stack
            .job("job", REPOSITORY)
            .ends(code, &["sign", "--signer", "rewound/release", &file])
    };
    settled(&admin, &key, 0);
    stack.stop_server();
    let yesterday = stack.path("yesterday");
    copy_dir(&stack.path("service/data"), &yesterday);
    stack.start_server(&[]);
    sign(&stack, "one.exe", "t64.exe", 0);
    settled(&admin, &key, 1);
    let today = stack.path("today");
    admin.ok(&["log", "download", "--all", "--out", &text(&today)]);
    admin.ok(&["log", "audit", &text(&today.join(&key))]);

    // The whole machine, database and token folders: no worker remembers either.
    stack.stop_server();
    std::fs::remove_dir_all(stack.path("service/data")).expect("rm");
    copy_dir(&yesterday, &stack.path("service/data"));
    stack.start_server(&[]);
    let admin = stack.person("rewound-admin", Some("rewound"));
    let out = sign(&stack, "two.exe", "t32.exe", 1);
    assert!(out.says("SPLIT VIEW"), "{out:?}");
    settled(&admin, &key, 1);
    let out = admin.run(&[
        "log",
        "download",
        "--key",
        &key,
        "--out",
        &text(&today.join(&key)),
    ]);
    assert_eq!(out.code, 1, "{out:?}");
    assert!(
        out.says("SPLIT VIEW") || out.says("had 5 leaves"),
        "{out:?}"
    );
    // Somebody who has seen nothing is shown a history that is true in itself …
    let fresh = stack.path("fresh");
    let newcomer = stack.person_with(
        TokenSpec::new("rewound-admin", PEOPLE_AUDIENCE)
            .mfa()
            .claim("nonce", "2"),
        Some("rewound"),
    );
    let newcomer = newcomer.env("COUNTERSIGN_HOME", &text(&stack.path("home/newcomer")));
    let id = stack
        .people
        .mint(
            &TokenSpec::new("rewound-admin", PEOPLE_AUDIENCE)
                .mfa()
                .claim("nonce", "3"),
        )
        .expect("token");
    std::fs::write(stack.path("newcomer.jwt"), id).expect("token");
    newcomer.ok(&["login", "--token-file", &text(&stack.path("newcomer.jwt"))]);
    newcomer.ok(&["log", "download", "--key", &key, "--out", &text(&fresh)]);
    newcomer.ok(&["log", "audit", &text(&fresh)]);
    // … and whoever remembers the other one says so: the auditor, a receipt, an old checkpoint.
    let out = admin.ends(1, &["log", "audit", &text(&fresh)]);
    assert!(out.says("BAD"), "{out:?}");
    let old = text(&today.join(&key).join("checkpoint"));
    newcomer.ends(1, &["log", "audit", &text(&fresh), "--since", &old]);
    newcomer.ends(
        1,
        &["log", "audit", &text(&fresh), "--receipts", &text(&files)],
    );
    let (code, said) = verify_log_py(&fresh, &["--previous", &old]);
    assert_eq!(code, 1, "{said}");
}

#[test]
fn a_database_set_back_under_a_running_token_signs_nothing() {
    let mut stack = Stack::start();
    let admin = stack.tenant("behind");
    let key = stack.signer(&admin, "behind/release", "ec-p256");
    let files = stack.folder("files");
    settled(&admin, &key, 0);
    stack.stop_server();
    let yesterday = stack.path("yesterday");
    std::fs::create_dir(&yesterday).expect("folder");
    let database = |f: &dyn Fn(&Path)| {
        for e in std::fs::read_dir(stack.path("service/data")).expect("data") {
            let path = e.expect("entry").path();
            if path.is_file() {
                f(&path);
            }
        }
    };
    database(&|p| copy_dir(p, &yesterday));
    stack.start_server(&[]);
    let exe = text(&copy_exe(&files, "one.exe", "t64.exe"));
    stack
        .job("job", REPOSITORY)
        .ok(&["sign", "--signer", "behind/release", &exe]);
    settled(&admin, &key, 1);
    stack.stop_server();
    for e in std::fs::read_dir(&yesterday).expect("copy") {
        copy_dir(&e.expect("entry").path(), &stack.path("service/data"));
    }
    stack.start_server(&[]);
    let exe = copy_exe(&files, "two.exe", "t32.exe");
    let before = std::fs::read(&exe).expect("bytes");
    let out = stack
        .job("job-2", REPOSITORY)
        .ends(5, &["sign", "--signer", "behind/release", &text(&exe)]);
    assert!(
        out.says("history-rewound") || out.says("older than the last signature"),
        "{out:?}"
    );
    assert_eq!(std::fs::read(&exe).expect("bytes"), before);
}
