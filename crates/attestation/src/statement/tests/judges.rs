//! Others read statements too: openssl, a decoder in Python's standard library, the documentation.

use super::{signed, signer, tbs};
use crate::statement::{SERVICE_STATEMENT_OID_TEXT, ServiceStatement, StatementKey};
use std::process::Command;

#[test]
fn an_independent_decoder_reads_every_field_the_same() {
    let signer = signer();
    let t = tbs(&signer);
    let der = signed(&t, &signer);
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("statement.der");
    std::fs::write(&file, &der).unwrap();
    let script = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/src/statement/decode_statement.py"
    );
    let out = Command::new("python3").arg(script).arg(&file).output();
    let out = out.expect("this test needs python3");
    assert!(
        out.status.success(),
        "{}",
        String::from_utf8_lossy(&out.stderr)
    );
    let seen: serde_json::Value = serde_json::from_slice(&out.stdout).unwrap();
    let read = ServiceStatement::parse(&der).unwrap();
    let audit = t.audit.as_ref().unwrap();
    let expected = serde_json::json!({
        "version": 1,
        "type": SERVICE_STATEMENT_OID_TEXT,
        "signer_key_hash": hex::encode(signer.statement_key().sha256()),
        "service": "Countersign at sign.example",
        "tenant": "11".repeat(16),
        "subscriber": "acme",
        "audience": "ca.example",
        "order_id": "order-ä-7",
        "order_nonce": hex::encode((0..32).collect::<Vec<u8>>()),
        "issued_at": "2026-11-21T20:59:35Z",
        "expires_at": "2026-11-22T20:59:35Z",
        "csr_info_hash": "22".repeat(32),
        "key_id": "33".repeat(16),
        "spki_hash": "44".repeat(32),
        "isolation": "shared-token",
        "mechanism": "CKM_EC_KEY_PAIR_GEN",
        "attributes": [["CKA_ALWAYS_SENSITIVE", "true"], ["CKA_EXTRACTABLE", "false"]],
        "software": true,
        "manufacturer": "SoftHSM project",
        "model": "SoftHSM v2",
        "serial": "1f2e3d4c",
        "firmware": "2.6",
        "log_origin": "localhost:8443/log/0190",
        "log_verifier_key": "localhost:8443/log/0190+00c0ffee+AQID",
        "log_size": 1_000_000,
        "log_root": "55".repeat(32),
        "practice_statement_hash": "66".repeat(32),
        "audit": ["WebTrust CS BR", audit.from.to_string(), audit.to.to_string()],
        "algorithm": "1.2.840.10045.4.3.2",
        "signature": hex::encode(&read.signature),
    });
    assert_eq!(seen, expected);
}

#[test]
fn openssl_reads_the_same_and_verifies_the_signature() {
    let signer = signer();
    let t = tbs(&signer);
    let der = signed(&t, &signer);
    let read = ServiceStatement::parse(&der).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name);
    std::fs::write(path("statement.der"), &der).unwrap();
    std::fs::write(path("tbs.der"), read.tbs_der()).unwrap();
    std::fs::write(path("signature.der"), &read.signature).unwrap();
    std::fs::write(path("key.der"), &signer.spki).unwrap();
    let openssl = |args: &[&str]| {
        let out = Command::new("openssl")
            .args(args)
            .current_dir(dir.path())
            .output()
            .expect("this test needs openssl");
        let text = String::from_utf8_lossy(&out.stdout).into_owned();
        assert!(
            out.status.success(),
            "{text}{}",
            String::from_utf8_lossy(&out.stderr)
        );
        text
    };
    let text = openssl(&["asn1parse", "-inform", "DER", "-in", "statement.der"]);
    let values: Vec<_> = text
        .lines()
        .filter_map(|l| l.split_once("prim: ").or_else(|| l.split_once("cons: ")))
        .map(|(_, v)| v.split_whitespace().collect::<Vec<_>>().join(" "))
        .collect();
    let octets = |b: &[u8]| format!("OCTET STRING [HEX DUMP]:{}", hex::encode_upper(b));
    let utf8 = |s: &str| format!("UTF8STRING :{s}");
    let mut expected = vec![
        "SEQUENCE".to_owned(),
        "SEQUENCE".into(),
        "INTEGER :01".into(),
        format!("OBJECT :{SERVICE_STATEMENT_OID_TEXT}"),
        octets(signer.statement_key().sha256()),
        utf8("Countersign at sign.example"),
        octets(&t.tenant),
        utf8("acme"),
        utf8("ca.example"),
        "SEQUENCE".into(),
        utf8("order-ä-7"),
        octets(&t.order.nonce),
        "GENERALIZEDTIME :20261121205935Z".into(),
        "GENERALIZEDTIME :20261122205935Z".into(),
        // openssl shows printable octets as text.
        format!("OCTET STRING :{}", "\"".repeat(32)),
        "SEQUENCE".into(),
        format!("OCTET STRING :{}", "3".repeat(16)),
        format!("OCTET STRING :{}", "D".repeat(32)),
        "ENUMERATED :02".into(),
        utf8("CKM_EC_KEY_PAIR_GEN"),
        "SEQUENCE".into(),
        "SEQUENCE".into(),
        utf8("CKA_ALWAYS_SENSITIVE"),
        utf8("true"),
        "SEQUENCE".into(),
        utf8("CKA_EXTRACTABLE"),
        utf8("false"),
        "SEQUENCE".into(),
        "BOOLEAN :255".into(),
        utf8("SoftHSM project"),
        utf8("SoftHSM v2"),
        utf8("1f2e3d4c"),
        utf8("2.6"),
        "SEQUENCE".into(),
        utf8("localhost:8443/log/0190"),
        utf8("localhost:8443/log/0190+00c0ffee+AQID"),
        "INTEGER :0F4240".into(),
        format!("OCTET STRING :{}", "U".repeat(32)),
        "cont [ 0 ]".into(),
        format!("OCTET STRING :{}", "f".repeat(32)),
        "cont [ 1 ]".into(),
        "SEQUENCE".into(),
        utf8("WebTrust CS BR"),
        "GENERALIZEDTIME :20231114221320Z".into(),
        "GENERALIZEDTIME :20241107172000Z".into(),
        "SEQUENCE".into(),
        "OBJECT :ecdsa-with-SHA256".into(),
        "BIT STRING".into(),
    ];
    // The tenant's 0x11 bytes are control characters: a hex dump, as built above.
    assert_eq!(values.len(), expected.len(), "{text}");
    for (seen, wanted) in values.iter().zip(expected.drain(..)) {
        assert_eq!(*seen, wanted, "in\n{text}");
    }
    let verdict = openssl(&[
        "dgst",
        "-sha256",
        "-verify",
        "key.der",
        "-keyform",
        "DER",
        "-signature",
        "signature.der",
        "tbs.der",
    ]);
    assert_eq!(verdict.trim(), "Verified OK");
}

/// Worked examples rot unless something reads them.
#[test]
fn the_example_in_the_documentation_is_what_it_says() {
    let doc = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../../docs/service-statement.md"
    );
    let doc = std::fs::read_to_string(doc).unwrap();
    let block = |after: &str| {
        let at = doc.find(after).expect("the heading stands in the page");
        let (_, rest) = doc[at..].split_once("```text\n").unwrap();
        rest.split_once("```").unwrap().0.to_owned()
    };
    let dir = tempfile::tempdir().unwrap();
    let openssl = |args: &[&str]| {
        let out = Command::new("openssl")
            .args(args)
            .current_dir(dir.path())
            .output()
            .expect("this test needs openssl");
        assert!(out.status.success());
        String::from_utf8(out.stdout).unwrap()
    };
    let key = StatementKey::from_pem(block("The statement key").as_bytes()).unwrap();
    std::fs::write(
        dir.path().join("statement.b64"),
        block("A statement, base64"),
    )
    .unwrap();
    openssl(&[
        "base64",
        "-d",
        "-in",
        "statement.b64",
        "-out",
        "statement.der",
    ]);
    let der = std::fs::read(dir.path().join("statement.der")).unwrap();
    let statement = ServiceStatement::parse(&der).unwrap();
    assert_eq!(statement.verify(std::slice::from_ref(&key)), Ok(&key));
    assert_eq!(statement.tbs().audience, "ca.example");
    let decoded = openssl(&["asn1parse", "-inform", "DER", "-in", "statement.der", "-i"]);
    let trimmed = |text: &str| {
        text.lines()
            .map(|l| l.trim_end().to_owned())
            .collect::<Vec<_>>()
    };
    assert_eq!(trimmed(&decoded), trimmed(&block("asn1parse -inform")));
    assert!(doc.contains(SERVICE_STATEMENT_OID_TEXT));
    // The commands at the end of the page, as they stand there.
    std::fs::write(
        dir.path().join("statement-key.pem"),
        block("The statement key"),
    )
    .unwrap();
    let (_, commands) = doc.rsplit_once("```sh\n").unwrap();
    let (commands, _) = commands.split_once("```").unwrap();
    let mut verdict = String::new();
    for line in commands.lines() {
        let words: Vec<_> = line.split_whitespace().collect();
        assert_eq!(words[0], "openssl");
        verdict = openssl(&words[1..]);
    }
    assert_eq!(verdict, "Verified OK\n");
}
