//! What a statement says, read by programs that share no code with us.

use super::{AUDIENCE, export, read_export, scene};
use crate::support::openssl::openssl;
use countersign_x509::hash::sha256;
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::process::Command;

#[test]
fn independent_decoders_agree_with_what_the_statement_says() {
    let stack = &scene().stack;
    let admin = stack.tenant("enrol-decode");
    let tests = Path::new(env!("CARGO_MANIFEST_DIR"));
    for algorithm in ["ec-p256", "rsa-3072"] {
        let key = stack.key(&admin, &format!("enrol-decode/{algorithm}"), algorithm);
        let request = stack.path(&format!("enrol-decode-{algorithm}"));
        let exported = export(&admin, &key, &request, &[]);
        let shown = admin.json(&["keys", "show", &key]);
        let spki_sha256 = shown["spki_sha256"].as_str().expect("spki_sha256");
        let order_id = exported["order"].as_str().expect("order");

        // openssl: the request's own signature, and every value in the dump.
        let said = openssl(
            &request,
            &["req", "-in", "request.csr.pem", "-verify", "-noout"],
        );
        assert!(
            said.to_lowercase().contains("verify ok") || said.contains("verify OK"),
            "{said}"
        );
        let subject = openssl(
            &request,
            &["req", "-in", "request.csr.pem", "-noout", "-subject"],
        );
        assert!(
            subject.contains("Acme Inc.") && subject.contains("Springfield"),
            "{subject}"
        );
        let expires = exported["expires"].as_str().expect("expires");
        let generalized: String = expires[..19]
            .chars()
            .filter(char::is_ascii_digit)
            .chain(['Z'])
            .collect();
        for dump in [
            openssl(&request, &["asn1parse", "-in", "request.csr.pem", "-i"]),
            openssl(
                &request,
                &["asn1parse", "-inform", "DER", "-in", "statement.der", "-i"],
            ),
        ] {
            for value in [
                format!("[HEX DUMP]:{}", spki_sha256.to_uppercase()),
                format!(":{AUDIENCE}"),
                ":enrol-decode".to_owned(),
                format!(":{order_id}"),
                format!(":{generalized}"),
                ":2.25.108418024523661256655688543902536148121".to_owned(),
            ] {
                assert!(
                    dump.lines().any(|l| l.ends_with(&value)),
                    "{value} in {dump}"
                );
            }
        }

        // Python's standard library: the request taken apart, the statement found in it, both compared.
        let python = |script: &Path, args: &[PathBuf]| -> Value {
            let out = Command::new("python3")
                .arg(script)
                .args(args)
                .output()
                .expect("python3 runs");
            assert!(
                out.status.success(),
                "{}",
                String::from_utf8_lossy(&out.stderr)
            );
            serde_json::from_slice(&out.stdout).expect("JSON")
        };
        let inside = request.join("inside.der");
        let walked = python(
            &tests.join("it/support/walk_request.py"),
            &[request.join("request.csr.pem"), inside.clone()],
        );
        assert_eq!(walked["attributes"], 1);
        let beside = std::fs::read(request.join("statement.der")).expect("statement");
        assert_eq!(
            std::fs::read(&inside).expect("statement"),
            beside,
            "one statement, in the request and beside it"
        );
        let decoder = tests.join("../crates/attestation/src/statement/decode_statement.py");
        let stated = python(&decoder, &[inside]);
        assert_eq!(stated["spki_hash"], walked["spki_sha256"]);
        assert_eq!(stated["spki_hash"], spki_sha256);
        assert_eq!(
            stated["csr_info_hash"],
            walked["info_without_attestation_sha256"]
        );
        assert_eq!(stated["audience"], AUDIENCE);
        assert_eq!(stated["subscriber"], "enrol-decode");
        assert_eq!(stated["order_id"], order_id);
        assert_eq!(
            stated["expires_at"].as_str().map(|t| &t[..19]),
            Some(&expires[..19])
        );
        assert_eq!(
            stated["key_id"].as_str().expect("key id"),
            key.replace('-', "")
        );
        assert_eq!(stated["software"], true);
        assert_eq!(stated["isolation"], shown["isolation"]);
        let attributes = stated["attributes"].as_array().expect("attributes");
        for wanted in [
            json!(["CKA_EXTRACTABLE", "false"]),
            json!(["CKA_SENSITIVE", "true"]),
        ] {
            assert!(attributes.contains(&wanted), "{wanted} in {attributes:?}");
        }
        // The statement key is the one the service shows, and the log anchor the log's own first leaf.
        let keys = admin.json(&["service", "keys"]);
        assert_eq!(stated["signer_key_hash"], keys["statement"]["sha256"]);
        assert_eq!(stated["log_origin"], shown["log"]["origin"]);
        assert_eq!(stated["log_verifier_key"], shown["log"]["vkey"]);
        assert_eq!(stated["log_size"], 1);
        // And the tenant's log holds the hashes of both.
        let leaf = admin.tenant_leaf(
            &stack.path("enrol-decode-log"),
            "certificate-requested",
            |l| l["order"] == order_id,
        );
        let (csr, statement) = read_export(&request);
        let hex = |b: &[u8]| {
            sha256(b)
                .iter()
                .map(|x| format!("{x:02x}"))
                .collect::<String>()
        };
        assert_eq!(leaf["csr_sha256"], hex(&csr));
        assert_eq!(leaf["statement_sha256"], hex(&statement));
    }
}
