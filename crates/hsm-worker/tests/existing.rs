//! Tokens that the operator's HSM already has: found, taken up, shared, never changed.
#![allow(clippy::unwrap_used, clippy::panic)] // helpers of tests

mod common;

use common::{Bench, OperatorsHsm, ServerLog, openssl_verifies, pins};
use countersign_core::{
    HashAlgorithm, IsolationClass, KeyAlgorithm, KeyId, SignatureScheme, TenantId,
};
use countersign_hsm_protocol::{Reply, RequestBody, TokenState, WorkerError};
use std::process::Command;

const SCHEME: SignatureScheme = SignatureScheme::Ecdsa(HashAlgorithm::Sha256);

fn operators() -> (Bench, OperatorsHsm) {
    let bench = Bench::new();
    let hsm = OperatorsHsm::new(bench.state("operator"));
    hsm.token("codesign");
    (bench, hsm)
}

fn failed(state: &TokenState) -> String {
    match state {
        TokenState::Failed { error } => error.to_string(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn an_existing_token_is_taken_up_as_it_is() {
    let (bench, hsm) = operators();
    let config = hsm.config(&bench, "codesign", "");
    let worker = bench.start_with("w", &config, &[]);
    let mut client = worker.client();
    assert_eq!(client.hello.token, TokenState::Absent, "{}", bench.log("w"));
    let tenant = TenantId::new();
    let facts = client.init(tenant).unwrap();
    assert_eq!(facts.label, "codesign");
    assert_eq!(facts.isolation, IsolationClass::ExclusiveToken);
    assert!(facts.software);
    let key = KeyId::new();
    let (spki, facts) = client.generate(key, KeyAlgorithm::EcP256).unwrap();
    assert_eq!(facts.isolation, IsolationClass::ExclusiveToken);
    assert!(facts.binding_mac);
    let mut log = ServerLog::new(tenant, key);
    let signature = log.sign(&mut client, SCHEME, 1).unwrap();
    assert!(openssl_verifies(
        HashAlgorithm::Sha256,
        &spki,
        1,
        &signature
    ));
    assert!(matches!(
        client.init(TenantId::new()),
        Err(WorkerError::TokenTaken(_))
    ));
    let state = worker.state.clone();
    worker.stop();

    // No PIN of ours was made, and the operator's still opens it.
    for file in ["so-pin.for-the-safe", "user-pin.sealed", "tokens"] {
        assert!(!state.join(file).exists(), "{file}");
    }
    let out = Command::new("pkcs11-tool")
        .args(["--module", common::MODULE, "--token-label", "codesign"])
        .args(["--login", "--pin", OperatorsHsm::PIN, "--list-objects"])
        .env("SOFTHSM2_CONF", hsm.dir.join("softhsm2.conf"))
        .output()
        .unwrap();
    let listed = String::from_utf8_lossy(&out.stdout).into_owned();
    assert!(listed.contains(&format!("countersign {key}")), "{listed}");

    let worker = bench.start_with("w", &config, &[]);
    let mut client = worker.client();
    assert_eq!(
        client.hello.token,
        TokenState::Ready {
            tenant: Some(tenant)
        }
    );
    log.sign(&mut client, SCHEME, 2).unwrap();
    // The operator's other objects are nobody's orphans here.
    assert_eq!(client.inventory().unwrap().orphans, [""; 0]);
}

#[test]
fn a_missing_label_and_one_that_two_tokens_have_are_said_clearly() {
    let (bench, hsm) = operators();
    let worker = bench.start_with("w", &hsm.config(&bench, "code-sign", ""), &[]);
    let text = failed(&worker.client().hello.token);
    assert!(text.contains("no token labelled `code-sign`"), "{text}");
    assert!(text.contains("`codesign` (serial "), "{text}");
    worker.stop();

    hsm.token("codesign");
    let worker = bench.start_with("w", &hsm.config(&bench, "codesign", ""), &[]);
    let text = failed(&worker.client().hello.token);
    assert!(text.contains("2 tokens are labelled `codesign`"), "{text}");
    worker.stop();

    let serial = text
        .split("(serial ")
        .nth(1)
        .and_then(|t| t.split(',').next())
        .unwrap();
    let one = hsm.config(&bench, "codesign", &format!("serial = '{serial}'"));
    let worker = bench.start_with("w", &one, &[]);
    assert_eq!(worker.client().hello.token, TokenState::Absent);
    assert_eq!(
        worker.client().init(TenantId::new()).unwrap().serial,
        serial
    );
}

#[test]
fn a_wrong_pin_latches_until_the_operator_acts() {
    let (bench, hsm) = operators();
    hsm.pin_file("not-the-pin");
    let config = hsm.config(&bench, "codesign", "");
    for _ in 0..2 {
        let worker = bench.start_with("w", &config, &[]);
        assert_eq!(
            worker.client().hello.token,
            TokenState::Latched {
                reason: "CKR_PIN_INCORRECT".into()
            }
        );
        worker.stop();
    }
    assert_eq!(bench.log("w").matches("PIN latched").count(), 1);
    assert!(!bench.log("w").contains("not-the-pin"));
    hsm.pin_file(OperatorsHsm::PIN);
    std::fs::remove_file(bench.state("w").join("pin-latched")).unwrap();
    let worker = bench.start_with("w", &config, &[]);
    worker.client().init(TenantId::new()).unwrap();
}

#[test]
fn tenants_share_a_token_and_none_reaches_anothers_key() {
    let (bench, hsm) = operators();
    let config = hsm.config(&bench, "codesign", "shared = true");
    let worker = bench.start_with("w", &config, &[]);
    let (acme, other, stranger) = (TenantId::new(), TenantId::new(), TenantId::new());
    let (mut at_acme, mut at_other) = (worker.client(), worker.client());
    let facts = at_acme.init(acme).unwrap();
    assert_eq!(facts.isolation, IsolationClass::SharedToken);
    assert_eq!(at_other.init(other).unwrap(), facts);
    let mut keys = Vec::new();
    for client in [&mut at_acme, &mut at_other] {
        let key = KeyId::new();
        let (spki, facts) = client.generate(key, KeyAlgorithm::EcP256).unwrap();
        assert_eq!(facts.isolation, IsolationClass::SharedToken);
        let mut log = ServerLog::new(client.tenant, key);
        let signature = log.sign(client, SCHEME, 1).unwrap();
        assert!(openssl_verifies(
            HashAlgorithm::Sha256,
            &spki,
            1,
            &signature
        ));
        assert_eq!(client.inventory().unwrap().keys, [key]);
        keys.push((key, log));
    }
    // Under one's own name another's key is no key at all.
    let (others_key, mut others_log) = keys.pop().unwrap();
    assert_eq!(at_acme.log_size(others_key), Err(WorkerError::NoSuchKey));
    assert_eq!(
        at_acme.call(RequestBody::DestroyKey {
            tenant: acme,
            key: others_key
        }),
        Err(WorkerError::NoSuchKey)
    );
    let (leaf, request) = others_log.authorise(SCHEME, 2);
    let advance = others_log.append(&[leaf]);
    at_other.call(advance).unwrap();
    let mut mine = request.clone();
    mine.tenant = acme;
    assert_eq!(at_acme.sign(mine), Err(WorkerError::NoSuchKey));
    // A leaf that names the other tenant does not open one's own key either.
    let (key, log) = keys.first_mut().unwrap();
    let mut forged = ServerLog::new(other, *key);
    forged.edge = log.edge.clone();
    forged.hashes.clone_from(&log.hashes);
    let (leaf, request) = forged.authorise(SCHEME, 3);
    let RequestBody::Advance {
        key,
        checkpoint,
        from_size,
        leaf_hashes,
        uses,
        ..
    } = forged.append(&[leaf])
    else {
        panic!()
    };
    at_acme
        .call(RequestBody::Advance {
            tenant: acme,
            key,
            checkpoint,
            from_size,
            leaf_hashes,
            uses,
        })
        .unwrap();
    let mut request = request;
    request.tenant = acme;
    assert_eq!(at_acme.sign(request), Err(WorkerError::LeafWrongTenant));
    // Not even that another's key was destroyed is told; its owner may ask for it twice.
    let destroy = |tenant| RequestBody::DestroyKey {
        tenant,
        key: others_key,
    };
    for _ in 0..2 {
        assert_eq!(at_other.call(destroy(other)), Ok(Reply::Destroyed));
        assert_eq!(at_acme.call(destroy(acme)), Err(WorkerError::NoSuchKey));
    }
    // Who was never taken in makes no key.
    at_acme.tenant = stranger;
    assert!(matches!(
        at_acme.generate(KeyId::new(), KeyAlgorithm::EcP256),
        Err(WorkerError::TokenTaken(_))
    ));
    for (tenant, serves) in [(acme, true), (other, true), (stranger, false)] {
        assert_eq!(
            at_acme.call(RequestBody::Serves { tenant }),
            Ok(Reply::Serves(serves))
        );
    }
    // Other pins are another service's.
    let mut foreign = pins();
    foreign.origin_prefix = "elsewhere.example/log".into();
    assert!(matches!(
        at_acme.call(RequestBody::InitToken {
            tenant: stranger,
            label: "x".into(),
            pins: foreign,
        }),
        Err(WorkerError::TokenTaken(_))
    ));
    worker.stop();
    let worker = bench.start_with("w", &config, &[]);
    assert_eq!(
        worker.client().hello.token,
        TokenState::Ready { tenant: None }
    );
}

#[test]
fn a_binding_moved_to_another_tenant_is_refused() {
    let (bench, hsm) = operators();
    let config = hsm.config(&bench, "codesign", "shared = true");
    let worker = bench.start_with("w", &config, &[]);
    let (acme, other) = (TenantId::new(), TenantId::new());
    let mut client = worker.client();
    client.init(other).unwrap();
    client.init(acme).unwrap();
    let key = KeyId::new();
    client.generate(key, KeyAlgorithm::EcP256).unwrap();
    let state = worker.state.clone();
    worker.stop();
    for file in [format!("bindings/{key}.json"), format!("logs/{key}.json")] {
        let text = std::fs::read_to_string(state.join(&file)).unwrap();
        std::fs::write(
            state.join(file),
            text.replace(&acme.to_string(), &other.to_string()),
        )
        .unwrap();
    }
    let worker = bench.start_with("w", &config, &[]);
    let mut client = worker.client();
    let mut log = ServerLog::new(other, key);
    assert!(matches!(
        log.sign(&mut client, SCHEME, 1),
        Err(WorkerError::BindingBroken(_))
    ));
}

#[test]
fn a_tenants_own_token_does_not_become_shared() {
    let (bench, hsm) = operators();
    let worker = bench.start_with("w", &hsm.config(&bench, "codesign", ""), &[]);
    worker.client().init(TenantId::new()).unwrap();
    worker.stop();
    let shared = hsm.config(&bench, "codesign", "shared = true");
    let worker = bench.start_with("w", &shared, &[]);
    let text = failed(&worker.client().hello.token);
    assert!(text.contains("cannot be shared now"), "{text}");
}
