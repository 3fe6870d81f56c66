//! Receipts: good for one file, under one key.

use super::{elsewhere, line, signed_tenant, tenant_log};
use crate::support::{Stack, text, third_party_exe};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

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
