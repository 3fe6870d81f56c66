//! Keys are born in the token, with the attributes asked for, and each worker sees its own only.
#![allow(clippy::unwrap_used, clippy::panic)] // helpers of tests

mod common;

use common::{Bench, MODULE, ServerLog, openssl_verifies};
use countersign_core::{HashAlgorithm, KeyAlgorithm, KeyId, TenantId};
use countersign_hsm_protocol::{Reply, RequestBody, TokenState, WorkerError};
use std::os::unix::fs::PermissionsExt;
use std::process::Command;

#[test]
fn all_four_algorithms_sign_and_openssl_verifies() {
    let bench = Bench::new();
    let (_worker, mut client, tenant) = bench.with_token("w");
    for algorithm in KeyAlgorithm::ALL {
        let key = KeyId::new();
        let (spki, facts) = client.generate(key, algorithm).unwrap();
        assert!(facts.software && facts.binding_mac);
        assert_eq!(facts.profile, "softhsm2");
        let mut log = ServerLog::new(tenant, key);
        for (n, hash) in HashAlgorithm::ALL.into_iter().enumerate() {
            let scheme = algorithm.scheme(hash);
            let signature = log.sign(&mut client, scheme, n as u8).unwrap();
            assert!(
                openssl_verifies(hash, &spki, n as u8, &signature),
                "{scheme}"
            );
            assert!(!openssl_verifies(hash, &spki, 99, &signature));
        }
        verifies_with_aws_lc(algorithm, &spki, &mut log, &mut client);
    }
}

fn verifies_with_aws_lc(
    algorithm: KeyAlgorithm,
    spki: &[u8],
    log: &mut ServerLog,
    client: &mut common::Client,
) {
    use aws_lc_rs::signature::{self as s, UnparsedPublicKey};
    let hash = algorithm.natural_hash();
    let verifier: &'static dyn s::VerificationAlgorithm = match algorithm {
        KeyAlgorithm::EcP256 => &s::ECDSA_P256_SHA256_ASN1,
        KeyAlgorithm::EcP384 => &s::ECDSA_P384_SHA384_ASN1,
        KeyAlgorithm::Rsa3072 | KeyAlgorithm::Rsa4096 => &s::RSA_PKCS1_2048_8192_SHA256,
    };
    let signature = log.sign(client, algorithm.scheme(hash), 7).unwrap();
    UnparsedPublicKey::new(verifier, spki)
        .verify(&common::message(7), &signature)
        .unwrap();
}

#[test]
fn attributes_are_read_back_as_the_standard_wants_them() {
    let bench = Bench::new();
    let (_worker, mut client, _tenant) = bench.with_token("w");
    for algorithm in [KeyAlgorithm::EcP256, KeyAlgorithm::Rsa3072] {
        let (_, facts) = client.generate(KeyId::new(), algorithm).unwrap();
        let seen = |name: &str| {
            let fact = facts
                .attributes
                .iter()
                .find(|a| a.attribute == name)
                .unwrap();
            fact.seen.clone()
        };
        for yes in [
            "CKA_TOKEN",
            "CKA_PRIVATE",
            "CKA_SENSITIVE",
            "CKA_ALWAYS_SENSITIVE",
            "CKA_NEVER_EXTRACTABLE",
            "CKA_LOCAL",
            "CKA_SIGN",
            "CKA_WRAP_WITH_TRUSTED",
        ] {
            assert_eq!(seen(yes), "true", "{yes}");
        }
        for no in [
            "CKA_EXTRACTABLE",
            "CKA_DECRYPT",
            "CKA_UNWRAP",
            "CKA_DERIVE",
            "CKA_SIGN_RECOVER",
            "CKA_MODIFIABLE",
            "CKA_COPYABLE",
            "CKA_ALWAYS_AUTHENTICATE",
        ] {
            assert_eq!(seen(no), "false", "{no}");
        }
        let (generator, mechanism) = if algorithm.is_rsa() {
            ("CKM_RSA_PKCS_KEY_PAIR_GEN", "[CKM_RSA_PKCS]")
        } else {
            ("CKM_EC_KEY_PAIR_GEN", "[CKM_ECDSA]")
        };
        assert_eq!(seen("CKA_KEY_GEN_MECHANISM"), generator);
        assert_eq!(seen("CKA_ALLOWED_MECHANISMS"), mechanism);
        for unsupported in facts.attributes.iter().filter(|a| a.seen == "unsupported") {
            assert!(!unsupported.required, "{unsupported:?}");
        }
    }
}

/// A required attribute that the module does not give destroys the pair: nothing is left of it.
#[test]
fn a_required_attribute_that_reads_back_wrong_destroys_the_key() {
    let bench = Bench::new();
    let text = std::fs::read_to_string(common::profile()).unwrap();
    let strict = bench.dir.path().join("strict.toml");
    let line = text
        .lines()
        .find(|l| l.starts_with("CKA_UNIQUE_ID"))
        .unwrap();
    std::fs::write(
        &strict,
        text.replace(line, "CKA_UNIQUE_ID = { level = \"required\" }"),
    )
    .unwrap();
    let worker = bench.start_with("w", &bench.config(MODULE, &strict), &[]);
    let mut client = worker.client();
    client.init(TenantId::new()).unwrap();
    let error = client
        .generate(KeyId::new(), KeyAlgorithm::EcP256)
        .unwrap_err();
    assert_eq!(
        error,
        WorkerError::AttributeMismatch {
            attribute: "CKA_UNIQUE_ID".into(),
            wanted: "recorded".into(),
            seen: "unsupported".into(),
        }
    );
    let found = client.inventory().unwrap();
    assert_eq!(found, countersign_core::ports::hsm::Inventory::default());
}

#[test]
fn a_worker_cannot_list_a_neighbours_objects() {
    let bench = Bench::new();
    let (_a, mut acme, _) = bench.with_token("acme");
    let (_b, mut other, other_tenant) = bench.with_token("other");
    let key = KeyId::new();
    acme.generate(key, KeyAlgorithm::EcP256).unwrap();
    let found = other.inventory().unwrap();
    assert_eq!(found, countersign_core::ports::hsm::Inventory::default());
    assert_eq!(other.log_size(key), Err(WorkerError::NoSuchKey));
    let mut log = ServerLog::new(other_tenant, key);
    let scheme = KeyAlgorithm::EcP256.scheme(HashAlgorithm::Sha256);
    assert_eq!(log.sign(&mut other, scheme, 1), Err(WorkerError::NoSuchKey));
    // An independent tool under the neighbour's configuration sees one token, the neighbour's.
    let out = Command::new("softhsm2-util")
        .arg("--show-slots")
        .env("SOFTHSM2_CONF", bench.state("other").join("softhsm2.conf"))
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&out.stdout).into_owned();
    assert_eq!(text.matches("Initialized:      yes").count(), 1, "{text}");
}

#[test]
fn a_repeated_generation_is_the_same_key() {
    let bench = Bench::new();
    let (_worker, mut client, _) = bench.with_token("w");
    let key = KeyId::new();
    let first = client.generate(key, KeyAlgorithm::EcP256).unwrap();
    assert_eq!(client.generate(key, KeyAlgorithm::EcP256), Ok(first));
    assert!(matches!(
        client.generate(key, KeyAlgorithm::EcP384),
        Err(WorkerError::KeyIdTaken(_))
    ));
}

#[test]
fn a_destroyed_key_is_gone_and_its_id_is_spent() {
    let bench = Bench::new();
    let (_worker, mut client, tenant) = bench.with_token("w");
    let key = KeyId::new();
    client.generate(key, KeyAlgorithm::EcP256).unwrap();
    let scheme = KeyAlgorithm::EcP256.scheme(HashAlgorithm::Sha256);
    let mut log = ServerLog::new(tenant, key);
    log.sign(&mut client, scheme, 1).unwrap();
    for _ in 0..2 {
        assert_eq!(
            client.call(RequestBody::DestroyKey { tenant, key }),
            Ok(Reply::Destroyed)
        );
    }
    assert_eq!(
        log.sign(&mut client, scheme, 2),
        Err(WorkerError::NoSuchKey)
    );
    assert!(matches!(
        client.generate(key, KeyAlgorithm::EcP256),
        Err(WorkerError::KeyIdTaken(_))
    ));
    assert_eq!(
        client.call(RequestBody::DestroyKey {
            tenant,
            key: KeyId::new()
        }),
        Err(WorkerError::NoSuchKey)
    );
}

#[test]
fn a_token_is_one_tenants_for_ever() {
    let bench = Bench::new();
    let (worker, mut client, tenant) = bench.with_token("w");
    let facts = client.init(tenant).unwrap();
    assert!(facts.software);
    assert!(matches!(
        client.init(TenantId::new()),
        Err(WorkerError::TokenTaken(_))
    ));
    let mut other_pins = common::pins();
    other_pins.log_public_keys.push([1; 32]);
    assert!(matches!(
        client.call(RequestBody::InitToken {
            tenant,
            label: "test".into(),
            pins: other_pins
        }),
        Err(WorkerError::TokenTaken(_))
    ));
    // Folder, socket and secrets are the worker's alone.
    let mode = |p: &std::path::Path| std::fs::metadata(p).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&worker.state), 0o700);
    for file in [
        "worker.sock",
        "user-pin.sealed",
        "so-pin.for-the-safe",
        "token.json",
    ] {
        assert_eq!(mode(&worker.state.join(file)), 0o600, "{file}");
    }
    assert_eq!(mode(&bench.key_file()), 0o600);
    let so_pin = std::fs::read_to_string(worker.state.join("so-pin.for-the-safe")).unwrap();
    assert!(!bench.log("w").contains(&so_pin));
    let pid = worker.pid();
    let command_line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap();
    assert!(!String::from_utf8_lossy(&command_line).contains(&so_pin));
}

#[test]
fn a_missing_module_says_what_to_install() {
    let bench = Bench::new();
    let worker = bench.start_with(
        "w",
        &bench.config("/nonexistent/libsofthsm2.so", &common::profile()),
        &[],
    );
    let mut client = worker.client();
    let TokenState::Failed {
        error: WorkerError::ModuleMissing(text),
    } = client.hello.token.clone()
    else {
        panic!("{:?}", client.hello);
    };
    assert!(text.contains("apt-get install softhsm2"), "{text}");
    assert!(matches!(
        client.init(TenantId::new()),
        Err(WorkerError::ModuleMissing(_))
    ));
}
