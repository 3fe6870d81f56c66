//! No evidence, no CSR (invariant 5).

use super::scene::{NONCE, Scene, checks, rid};
use crate::SigningError;
use countersign_attestation::result::Known;
use countersign_attestation::verify::{File, Policy, Question, SubjectFile, verify};
use countersign_attestation::{
    Anchors, AttestationBundle, AttestationResult, ID_AA_ATTESTATION, UnixSeconds, Verdict,
};
use countersign_core::KeyState;
use countersign_core::ports::ca::CertificateRequest;
use countersign_core::ports::store::KeyStore as _;
use countersign_signing_log::commitment::HexHash;
use countersign_signing_log::leaf::LeafBody;
use countersign_testkit_evidence::fortanix::Fortanix;
use countersign_testkit_evidence::tpm2::{TCG_STATEMENT, Tpm2};
use countersign_testkit_evidence::yubihsm2::YubiHsm2;
use countersign_testkit_evidence::{Key, der};
use countersign_x509::csr::ParsedCsr;
use sha2::{Digest as _, Sha256};
use std::sync::atomic::Ordering;

fn yubihsm(key: &Key) -> YubiHsm2 {
    YubiHsm2 {
        key: key.clone(),
        ..YubiHsm2::default()
    }
}

/// A TPM's statement and its attestation key's certificates, as one attestation bundle.
fn tpm(key: &Key, nonce: &[u8]) -> (Tpm2, Vec<u8>) {
    let tpm = Tpm2 {
        key: key.clone(),
        extra_data: nonce.to_vec(),
        ..Tpm2::default()
    };
    let statement = der::seq(&[der::oid(TCG_STATEMENT), tpm.tcg_statement(false)]);
    let bundle = der::seq(&[der::seq(&[statement]), der::seq(&tpm.certificates())]);
    (tpm, bundle)
}

/// What a CA finds in a request and beside it, trusting `root`.
fn at_the_ca(r: &CertificateRequest, root: &[u8], nonce: Option<&[u8]>) -> AttestationResult {
    let mut anchors = Anchors::none();
    anchors.add_file("root", root).unwrap();
    let names: Vec<_> = (0..r.evidence.len()).map(|i| i.to_string()).collect();
    let evidence: Vec<_> = names
        .iter()
        .zip(&r.evidence)
        .map(|(name, bytes)| File { name, bytes })
        .collect();
    verify(&Question {
        subject: SubjectFile::Csr(File {
            name: "request",
            bytes: &r.csr,
        }),
        evidence: &evidence,
        at: UnixSeconds::new(1_793_923_200).unwrap(),
        nonce,
        policy: &Policy::origin(),
        anchors: &anchors,
    })
}

fn hash(bytes: &[u8]) -> HexHash {
    HexHash(Sha256::digest(bytes).into())
}

#[tokio::test]
async fn without_evidence_no_request_of_a_hardware_key_leaves_by_any_path() {
    let scene = Scene::new(false, &[]).await;
    let (key, _) = scene.key().await;
    // `allow_software` is on: it is no way out for a key that says it is hardware.
    let (exported, ordered) = scene.out(key, NONCE).await;
    for refused in [exported, ordered] {
        let checks = checks(refused);
        assert!(checks.contains(&"device-evidence".to_owned()), "{checks:?}");
        assert!(checks.contains(&"policy-genuine".to_owned()), "{checks:?}");
    }
    assert_eq!(scene.ca.opened.load(Ordering::SeqCst), 0);
    assert_eq!(scene.token.signed.load(Ordering::SeqCst), 0);
    assert_eq!(scene.row(key).await.state, KeyState::Generated);
    let denied = scene.denied().await;
    assert!(
        denied
            .iter()
            .any(|r| r.starts_with("appraisal:device-evidence")),
        "{denied:?}"
    );
}

async fn version(scene: &Scene) -> u64 {
    use countersign_core::ports::store::TenantStore as _;
    let row = scene.store.tenant(scene.admin.tenant).await.unwrap();
    row.unwrap().version
}

#[tokio::test]
async fn refused_evidence_changes_nothing() {
    let e = YubiHsm2::default();
    let scene = Scene::new(false, &[e.root()]).await;
    let (key, pair) = scene.key().await;
    let (_, other) = scene.key().await;
    let good = yubihsm(&pair);
    let exportable = YubiHsm2 {
        capabilities: 1 << 7 | 1 << 16,
        ..good.clone()
    };
    let mut altered = good.files();
    let last = altered[0].len() - 1;
    altered[0][last] ^= 1;
    let cases = [
        ("key-bound", yubihsm(&other).files()),
        ("device-evidence", vec![b"no evidence at all".to_vec()]),
        ("policy-exportable", exportable.files()),
        ("yubihsm2-chain", altered),
    ];
    let before = version(&scene).await;
    for (check, files) in cases {
        let refused = checks(scene.add(key, &files, None).await);
        assert!(refused.contains(&check.to_owned()), "{check}: {refused:?}");
        let kept = scene.store.evidence(scene.admin.tenant, key).await.unwrap();
        assert_eq!(kept, None, "{check}");
        checks(scene.out(key, NONCE).await.0);
    }
    assert_eq!(version(&scene).await, before, "nothing has changed");
    assert_eq!(scene.row(key).await.appraisal, None);
    let leaves = scene.leaves().await;
    assert!(
        !leaves
            .iter()
            .any(|l| matches!(l, LeafBody::EvidenceAdded(_)))
    );
    let denied = scene.denied().await;
    assert!(
        denied
            .iter()
            .any(|r| r.starts_with("evidence:") && r.contains("key-bound")),
        "{denied:?}"
    );
    // Refused evidence does not take the place of good evidence either.
    scene.add(key, &good.files(), None).await.unwrap();
    checks(scene.add(key, &yubihsm(&other).files(), None).await);
    let kept = scene.store.evidence(scene.admin.tenant, key).await.unwrap();
    assert_eq!(kept.unwrap().files[0].bytes, good.files()[0]);
    scene.order(key).await.unwrap();
}

#[tokio::test]
async fn a_root_that_nobody_trusts_proves_nothing() {
    let scene = Scene::new(false, &[]).await;
    let (key, pair) = scene.key().await;
    let refused = scene.add(key, &yubihsm(&pair).files(), None).await;
    let checks = checks(refused);
    assert!(checks.contains(&"policy-genuine".to_owned()), "{checks:?}");
}

#[tokio::test]
async fn accepted_evidence_is_kept_logged_and_goes_along_with_the_request() {
    let e = YubiHsm2::default();
    let scene = Scene::new(false, &[e.root()]).await;
    let (key, pair) = scene.key().await;
    let files = yubihsm(&pair).files();
    let view = scene.add(key, &files, None).await.unwrap();
    let shown = scene
        .service
        .evidence(&scene.admin, &scene.name, key)
        .await
        .unwrap();
    for v in [view, shown] {
        let hashes: Vec<_> = v.files.iter().map(|f| HexHash(f.2)).collect();
        assert_eq!(hashes, files.iter().map(|f| hash(f)).collect::<Vec<_>>());
        assert_eq!(v.result.unwrap().0["verdict"], "accept");
    }
    let (exported, ordered) = scene.out(key, NONCE).await;
    for request in [exported.unwrap(), ordered.unwrap()] {
        // Certificates of a vendor's own have no place in the attribute: they go beside, to the byte.
        assert_eq!(request.evidence, files);
        let r = at_the_ca(&request, &e.root(), None);
        assert_eq!(r.verdict, Verdict::Accept, "{:?}", r.checks);
        assert_eq!(r.facts.generated_in_device, Known::Yes);
    }
    assert_eq!(scene.row(key).await.state, KeyState::Appraised);

    let kept = scene.store.evidence(scene.admin.tenant, key).await.unwrap();
    let spki = hash(pair.spki());
    let inputs: Vec<_> = [spki]
        .into_iter()
        .chain(files.iter().map(|f| hash(f)))
        .collect();
    let leaves = scene.leaves().await;
    let added = leaves.iter().find_map(|l| match l {
        LeafBody::EvidenceAdded(e) => Some(e.clone()),
        _ => None,
    });
    let added = added.unwrap();
    assert_eq!(added.key, key.to_string());
    assert_eq!(
        (added.result.as_str(), &added.formats),
        ("accept", &vec!["yubihsm2".to_owned()])
    );
    assert_eq!(added.evidence, inputs);
    assert_eq!(added.result_sha256, hash(kept.unwrap().result.as_bytes()));
    assert!(added.detail.is_some());
    let appraised = leaves.iter().find_map(|l| match l {
        LeafBody::KeyAppraised(a) => Some(a.evidence.clone()),
        _ => None,
    });
    assert_eq!(appraised, Some(inputs.clone()));
    let requested: Vec<_> = leaves
        .iter()
        .filter_map(|l| match l {
            LeafBody::CertificateRequested(r) => Some(r.evidence.clone()),
            _ => None,
        })
        .collect();
    assert_eq!(
        requested,
        [Some(inputs[1..].to_vec()), Some(inputs[1..].to_vec())]
    );
}

#[tokio::test]
async fn a_tpms_statement_travels_inside_the_request() {
    let scene = Scene::new(false, &[Tpm2::default().root()]).await;
    let (key, pair) = scene.key().await;
    let (tpm, bundle) = tpm(&pair, NONCE);
    let given = AttestationBundle::parse(&bundle).unwrap();
    scene.add(key, &[bundle], Some(NONCE)).await.unwrap();
    let request = scene.order(key).await.unwrap();
    assert!(request.evidence.is_empty());
    let csr = ParsedCsr::parse(&request.csr).unwrap();
    let attribute = csr.attribute(&ID_AA_ATTESTATION).unwrap();
    let inside = AttestationBundle::parse(&attribute.values[0]).unwrap();
    assert_eq!(inside.attestations[1..], given.attestations);
    assert_eq!(inside.certs, given.certs);
    assert_eq!(
        inside.service_statements().collect::<Vec<_>>(),
        [request.statement.as_slice()]
    );
    let r = at_the_ca(&request, &tpm.root(), Some(NONCE));
    assert_eq!(r.verdict, Verdict::Accept, "{:?}", r.checks);
    assert_eq!(r.facts.sign_only, Known::Yes);
    // By an order of another nonce the CA would be told so.
    let r = at_the_ca(&request, &tpm.root(), Some(b"another nonce"));
    assert_eq!(r.verdict, Verdict::Reject);
}

#[tokio::test]
async fn what_the_policy_demands_is_asked_at_each_order_and_named() {
    let e = YubiHsm2::default();
    let scene = Scene::new(false, &[e.root()]).await;
    let (key, pair) = scene.key().await;
    scene.add(key, &yubihsm(&pair).files(), None).await.unwrap();
    let cases: [(&[&str], Option<&str>); 10] = [
        (&["sign-only"], None),
        (
            &[
                "vendor=Yubico",
                "serial=77",
                "serial=1234",
                "not-recoverable",
            ],
            None,
        ),
        (&["vendor=Entrust"], Some("policy-vendors")),
        (&["serial=77"], Some("policy-serial")),
        (&["format=entrust-nshield"], Some("policy-formats")),
        (&["fips=140-2:3"], Some("policy-certified-level")),
        (&["method=2"], Some("policy-method")),
        (&["fresh"], Some("policy-fresh")),
        (&["max-age=30d"], Some("policy-max-age")),
        (&[], None),
    ];
    for (demands, failing) in cases {
        scene.policy(true, demands).await;
        let (exported, ordered) = scene.out(key, NONCE).await;
        for out in [exported, ordered] {
            match failing {
                None => drop(out.unwrap()),
                Some(check) => assert_eq!(checks(out), [check], "{demands:?}"),
            }
        }
    }
    let set = scene.leaves().await;
    let demanded = set.iter().filter_map(|l| match l {
        LeafBody::PolicySet(p) => p.evidence.clone(),
        _ => None,
    });
    assert_eq!(demanded.count(), 9, "those without a demand say nothing");
    let bad = crate::PolicyChange {
        allow_software: true,
        require_mfa: true,
        evidence: Some(vec!["sign-onyl".into()]),
    };
    let refused = scene
        .service
        .set_policy(&scene.admin, &scene.name, bad, &rid())
        .await;
    assert!(matches!(
        refused,
        Err(SigningError::Invalid { field, .. }) if field == "evidence"
    ));
}

#[tokio::test]
async fn a_policy_that_changes_while_the_ca_takes_its_time_holds() {
    let e = YubiHsm2::default();
    let scene = std::sync::Arc::new(Scene::new(false, &[e.root()]).await);
    let (key, pair) = scene.key().await;
    scene.add(key, &yubihsm(&pair).files(), None).await.unwrap();
    let elsewhere = scene.clone();
    *scene.ca.meanwhile.lock().await = Some(Box::pin(async move {
        elsewhere.policy(true, &["vendor=Entrust"]).await;
    }));
    assert_eq!(checks(scene.order(key).await), ["policy-vendors"]);
    assert_eq!(scene.ca.opened.load(Ordering::SeqCst), 1);
    assert_eq!(scene.token.signed.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn evidence_grows_old() {
    let e = Fortanix::default();
    let scene = Scene::new(false, &[e.root()]).await;
    let (key, pair) = scene.key().await;
    let files = [Fortanix { key: pair, ..e }.json()];
    scene.policy(true, &["max-age=10d"]).await;
    // Made on 1 November; it is the 5th.
    scene.add(key, &files, None).await.unwrap();
    scene.order(key).await.unwrap();
    scene.clock.forward(7);
    for out in [scene.order(key).await, scene.out(key, NONCE).await.0] {
        assert_eq!(checks(out), ["policy-max-age"]);
    }
    assert_eq!(
        checks(scene.add(key, &files, None).await),
        ["policy-max-age"]
    );
    scene.policy(true, &["max-age=20d"]).await;
    scene.order(key).await.unwrap();
}

#[tokio::test]
async fn fresh_evidence_is_that_of_this_order() {
    let scene = Scene::new(false, &[Tpm2::default().root()]).await;
    let (key, pair) = scene.key().await;
    let (_, bundle) = tpm(&pair, NONCE);
    for demand in ["fresh", "max-age=1d"] {
        scene.policy(true, &[demand]).await;
        let check = if demand == "fresh" {
            "policy-fresh"
        } else {
            "policy-max-age"
        };
        // Nobody says which nonce it was made for; then a wrong one.
        assert_eq!(
            checks(scene.add(key, std::slice::from_ref(&bundle), None).await),
            [check]
        );
        let wrong = checks(
            scene
                .add(key, std::slice::from_ref(&bundle), Some(b"another nonce"))
                .await,
        );
        assert!(wrong.contains(&"freshness".to_owned()), "{wrong:?}");
        scene
            .add(key, std::slice::from_ref(&bundle), Some(NONCE))
            .await
            .unwrap();
        scene.order(key).await.unwrap();
        // The same evidence for an order with another nonce: a replay.
        let (exported, ordered) = scene.out(key, b"another order").await;
        let replayed = checks(exported);
        assert!(replayed.contains(&check.to_owned()), "{replayed:?}");
        ordered.unwrap();
    }
    scene.policy(true, &[]).await;
    let (exported, _) = scene.out(key, b"another order").await;
    exported.unwrap();
}

#[tokio::test]
async fn a_software_key_stays_one_and_meets_no_method() {
    let e = YubiHsm2::default();
    let scene = Scene::new(true, &[e.root()]).await;
    let (key, pair) = scene.key().await;
    let (_, other) = scene.key().await;
    // As ever: by the policy alone.
    assert!(scene.order(key).await.unwrap().evidence.is_empty());
    for demand in ["method=1", "method=2", "method=7", "sign-only"] {
        scene.policy(true, &[demand]).await;
        let (exported, ordered) = scene.out(key, NONCE).await;
        for refused in [checks(exported), checks(ordered)] {
            assert!(
                refused.contains(&"device-evidence".to_owned()),
                "{refused:?}"
            );
            let by_method = refused.contains(&"software-key-methods".to_owned());
            assert_eq!(by_method, demand.starts_with("method"), "{refused:?}");
        }
    }
    scene.policy(true, &[]).await;
    let refused = checks(scene.add(key, &yubihsm(&other).files(), None).await);
    assert!(refused.contains(&"key-bound".to_owned()), "{refused:?}");
    // Evidence for it, under a root the operator trusts: it goes along, and the key stays marked.
    let kept = scene.add(key, &yubihsm(&pair).files(), None).await.unwrap();
    let result = kept.result.unwrap().0;
    assert_eq!(result["software"], "yes");
    assert_eq!(result["supports_methods"], serde_json::json!([]));
    assert_eq!(scene.order(key).await.unwrap().evidence.len(), 3);
    scene.policy(true, &["sign-only"]).await;
    scene.order(key).await.unwrap();
    scene.policy(true, &["method=2"]).await;
    assert!(checks(scene.order(key).await).contains(&"software-key-methods".to_owned()));
    scene.policy(false, &["sign-only"]).await;
    let (exported, ordered) = scene.out(key, NONCE).await;
    assert_eq!(checks(exported), ["software-key-policy"]);
    assert_eq!(checks(ordered), ["software-key-policy"]);
}

#[tokio::test]
async fn evidence_is_bounded_and_named() {
    let scene = Scene::new(false, &[]).await;
    let (key, _) = scene.key().await;
    let field = |r: Result<crate::EvidenceView, SigningError>| match r {
        Err(SigningError::Invalid { field, .. }) => field,
        other => panic!("{other:?}"),
    };
    assert_eq!(field(scene.add(key, &[], None).await), "files");
    assert_eq!(
        field(scene.add(key, &vec![vec![1]; 65], None).await),
        "files"
    );
    assert_eq!(
        field(scene.add(key, &[vec![]], None).await),
        "files[0].content"
    );
    let big = vec![0; crate::MAX_EVIDENCE_BYTES];
    assert_eq!(
        field(scene.add(key, &[big, vec![1]], None).await),
        "files[1].content"
    );
    assert_eq!(
        field(scene.add(key, &[vec![1]], Some(b"short")).await),
        "nonce"
    );
    let stranger = countersign_core::KeyId::new();
    assert!(matches!(
        scene.add(stranger, &[vec![1]], None).await,
        Err(SigningError::NotFound)
    ));
}
