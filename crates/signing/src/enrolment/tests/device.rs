//! Evidence that a device makes for one order. The live way is tested in tests/it/modules/proved.rs; here
//! what cannot be brought about there.

use super::scene::{NONCE, Scene, checks, rid, subject};
use super::token::Speaks;
use crate::SigningError;
use countersign_attestation::statement::ServiceStatement;
use countersign_attestation::{AttestationBundle, ID_AA_ATTESTATION};
use countersign_core::ports::ca::CertificateRequest;
use countersign_core::ports::store::KeyStore as _;
use countersign_signing_log::leaf::LeafBody;
use countersign_testkit_evidence::Key;
use countersign_testkit_evidence::tpm2::Tpm2;
use countersign_testkit_evidence::yubihsm2::YubiHsm2;
use countersign_x509::csr::ParsedCsr;
use std::sync::atomic::Ordering;

/// A token whose TPM speaks, and a CA that certifies its attestation key.
async fn speaking(anchors: &[Vec<u8>]) -> Scene {
    let scene = Scene::new(false, anchors).await;
    *scene.token.speaks.lock().unwrap() = Speaks::Tpm;
    *scene.ca.certifies.lock().unwrap() = Tpm2::default().certificates();
    scene
}

fn roots() -> Vec<Vec<u8>> {
    vec![Tpm2::default().root(), YubiHsm2::default().root()]
}

/// Evidence of another maker's, as a person adds it.
fn by_hand(key: Key) -> Vec<Vec<u8>> {
    let device = YubiHsm2 {
        key,
        ..YubiHsm2::default()
    };
    device.files()
}

fn attestations(request: &CertificateRequest) -> usize {
    let csr = ParsedCsr::parse(&request.csr).unwrap();
    let attribute = csr.attribute(&ID_AA_ATTESTATION).unwrap();
    let bundle = AttestationBundle::parse(&attribute.values[0]).unwrap();
    bundle.attestations.len()
}

#[tokio::test]
async fn an_order_has_the_device_certify_the_key_with_its_nonce() {
    let scene = speaking(&roots()).await;
    scene.policy(false, &["fresh", "sign-only"]).await;
    let (key, _) = scene.key().await;
    let request = scene.order(key).await.unwrap();
    assert_eq!(scene.ca.answered.lock().unwrap().len(), 1);
    // Our statement and the TPM's, in the request itself; and for a CA with an envelope of its own.
    assert_eq!(attestations(&request), 2);
    assert!(request.evidence.is_empty());
    let device = request.device.unwrap();
    assert_eq!(device.chain, *scene.ca.certifies.lock().unwrap());
    let kept = scene.store.evidence(scene.admin.tenant, key).await.unwrap();
    assert_eq!(kept.unwrap().nonce.as_deref(), Some(NONCE));
    let added = |l: &LeafBody| matches!(l, LeafBody::EvidenceAdded(_));
    assert_eq!(scene.leaves().await.iter().filter(|l| added(l)).count(), 1);
}

#[tokio::test]
async fn what_the_device_says_counts_under_an_anchor_alone() {
    let scene = speaking(&[]).await;
    let (key, _) = scene.key().await;
    let checks = checks(scene.order(key).await);
    assert!(checks.contains(&"tpm-ak-chain".to_owned()), "{checks:?}");
    let kept = scene.store.evidence(scene.admin.tenant, key).await.unwrap();
    assert!(kept.is_none(), "nothing has changed");
    let denied = scene.denied().await;
    assert!(
        denied.iter().any(|d| d.contains("tpm-ak-chain")),
        "{denied:?}"
    );
}

#[tokio::test]
async fn a_ca_without_device_steps_gets_the_evidence_that_is_kept() {
    let scene = speaking(&roots()).await;
    scene.ca.certifies.lock().unwrap().clear();
    let (key, pair) = scene.key().await;
    let checks = checks(scene.order(key).await);
    assert!(checks.contains(&"device-evidence".to_owned()), "{checks:?}");
    assert_eq!(scene.ca.submitted.lock().unwrap().len(), 0);
    let files = by_hand(pair);
    scene.add(key, &files, None).await.unwrap();
    let request = scene.order(key).await.unwrap();
    assert_eq!(request.evidence.len(), 3);
    assert!(request.device.is_none());
}

#[tokio::test]
async fn a_ca_may_have_another_certify_the_attestation_key() {
    let scene = speaking(&roots()).await;
    let (key, _) = scene.key().await;
    let request = scene.order_at(&scene.acme, key).await.unwrap();
    assert!(request.device.is_some());
    assert_eq!(scene.ca.opened.load(Ordering::SeqCst), 1);
    assert_eq!(scene.ca.answered.lock().unwrap().len(), 1);
    assert_eq!(scene.ca.submitted.lock().unwrap().len(), 0);
    assert_eq!(scene.acme.answered.lock().unwrap().len(), 0);
}

#[tokio::test]
async fn a_device_that_cannot_speak_is_no_obstacle_where_kept_evidence_does() {
    for (speaks, opened) in [
        (Speaks::Busy, 0),
        (Speaks::Nameless, 0),
        (Speaks::BusyLater, 1),
    ] {
        let scene = speaking(&roots()).await;
        let (key, pair) = scene.key().await;
        *scene.token.speaks.lock().unwrap() = speaks;
        // Its trouble is told, not that there is no evidence.
        match scene.order(key).await.unwrap_err() {
            SigningError::Busy if speaks != Speaks::Nameless => {}
            SigningError::TokenRefuses(e) if e.contains("none") => {}
            other => panic!("{speaks:?}: {other:?}"),
        }
        assert_eq!(scene.ca.opened.load(Ordering::SeqCst), opened, "{speaks:?}");
        scene.add(key, &by_hand(pair), None).await.unwrap();
        assert!(scene.order(key).await.unwrap().device.is_none());
    }
}

#[tokio::test]
async fn an_exported_request_ends_when_its_statement_does() {
    let scene = Scene::new(true, &[]).await;
    let (key, _) = scene.key().await;
    scene.clock.run();
    let exported = scene
        .service
        .export_csr(
            &scene.admin,
            &scene.name,
            key,
            "ca.example",
            None,
            None,
            subject(),
            &rid(),
        )
        .await
        .unwrap();
    let statement = ServiceStatement::parse(&exported.request.statement).unwrap();
    let ends = i64::try_from(statement.tbs().expires_at.get()).unwrap();
    assert_eq!(exported.expires.0, ends * 1_000_000);
}
