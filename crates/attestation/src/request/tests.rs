use super::*;
use crate::bundle::Attestation;
use crate::oid::Oid;
use crate::testkit::{Pair, at, attribute, csr, csr_info, full_statement};
use countersign_x509::asn1::Attribute;
use proptest::prelude::*;

const NOW: i64 = 1_795_300_000;

/// A CA with an open order, a service, and a subscriber's key in it.
struct Scene {
    service: Pair,
    key: Pair,
    tbs: StatementTbs,
    now: UnixSeconds,
    policy: CaPolicy,
    pinned: Vec<StatementKey>,
    used: Vec<String>,
    order: Option<(String, Vec<u8>, String)>,
    evidence: Vec<Vec<u8>>,
}

impl Scene {
    fn new() -> Self {
        let (service, key) = (Pair::new(), Pair::new());
        let mut tbs = full_statement(&service);
        let info = csr_info(&key, "Acme GmbH", vec![]).info_der;
        tbs.csr_info_hash = sha256(&info);
        tbs.key.spki_hash = sha256(&key.spki);
        tbs.device.software = false;
        Self {
            pinned: vec![service.statement_key()],
            order: Some((
                tbs.order.id.clone(),
                tbs.order.nonce.clone(),
                tbs.subscriber.clone(),
            )),
            service,
            key,
            tbs,
            now: at(NOW),
            policy: CaPolicy::default(),
            used: vec![],
            evidence: vec![],
        }
    }

    fn statement(&self) -> Vec<u8> {
        let signature = self.service.sign(&self.tbs.encode().unwrap());
        self.tbs.assemble(&signature).unwrap()
    }

    fn request(&self, statement: &[u8]) -> Vec<u8> {
        let bundle = AttestationBundle::of_statement(statement);
        csr(&self.key, "Acme GmbH", vec![attribute(&bundle)])
    }

    fn appraise(&self, csr: &[u8], statement: Option<&[u8]>) -> AttestationResult {
        let submission = Submission {
            csr,
            statement,
            evidence: &self.evidence,
        };
        appraise_request(
            &submission,
            &RequestContext {
                audience: "ca.example",
                now: self.now,
                statement_keys: &self.pinned,
                anchor_set_version: "test pins",
                order: self
                    .order
                    .as_ref()
                    .map(|(id, nonce, subscriber)| ExpectedOrder {
                        id,
                        nonce,
                        subscriber,
                        attestation_key: AttestationKey::Any,
                    }),
                seen_orders: Some(&|id| self.used.iter().any(|u| u == id)),
                policy: self.policy,
                formats: crate::vendor::FORMATS,
                anchors: &crate::Anchors::pinned(),
            },
        )
    }

    /// The request as enrolment makes it: statement inside and beside.
    fn result(&self) -> AttestationResult {
        let statement = self.statement();
        self.appraise(&self.request(&statement), Some(&statement))
    }
}

fn names(r: &AttestationResult, outcome: Outcome) -> Vec<&str> {
    r.checks
        .iter()
        .filter(|c| c.outcome == outcome)
        .map(|c| c.name.as_ref())
        .collect()
}

fn rejected_for(r: &AttestationResult, checks: &[&str]) {
    assert_eq!(names(r, Outcome::Fail), checks, "{r:#?}");
    assert_eq!(r.verdict, Verdict::Reject);
    assert!(r.supports_methods.is_empty(), "a refusal supports nothing");
    for reason in r.reasons() {
        assert!(!reason.rule.is_empty() && !reason.source.is_empty());
    }
}

#[test]
fn a_good_request_is_accepted_and_supports_method_7_alone() {
    let scene = Scene::new();
    let r = scene.result();
    assert_eq!(r.verdict, Verdict::Accept, "{r:#?}");
    assert_eq!(r.supports_methods, [7]);
    assert_eq!(r.software, Known::No);
    // A statement proves nothing of the device: what it says stays a claim.
    assert_eq!(r.facts, crate::result::Facts::default());
    assert!(r.claims.iter().any(|c| c.name == "device.model"
        && c.value == "SoftHSM v2"
        && c.by == "the service, signed"));
    assert_eq!(r.anchor_set_version, "test pins");
    assert_eq!(r.appraised_at, at(NOW));
    let statement = scene.statement();
    assert_eq!(r.inputs.len(), 2);
    assert_eq!(r.inputs[1].name, "statement");
    // ECDSA signatures differ from call to call, so hash the one that was appraised.
    let r = scene.appraise(&scene.request(&statement), Some(&statement));
    assert_eq!(r.inputs[1].sha256, hex::encode(sha256(&statement)));
}

#[test]
fn the_statement_may_stand_inside_or_beside() {
    let scene = Scene::new();
    let statement = scene.statement();
    let inside = scene.appraise(&scene.request(&statement), None);
    assert_eq!(inside.verdict, Verdict::Accept, "{inside:#?}");
    let bare = csr(&scene.key, "Acme GmbH", vec![]);
    let beside = scene.appraise(&bare, Some(&statement));
    assert_eq!(beside.verdict, Verdict::Accept, "{beside:#?}");
}

#[test]
fn a_naked_request_is_refused() {
    let scene = Scene::new();
    let bare = csr(&scene.key, "Acme GmbH", vec![]);
    rejected_for(&scene.appraise(&bare, None), &["statement-present"]);
    // A bundle without a service statement is as naked. What is in it is recognised by its type,
    // and is no TPM statement.
    let foreign = AttestationBundle {
        attestations: vec![Attestation {
            kind: Oid::from_content(&[0x67, 0x81, 0x05, 0x14, 0x01]).unwrap(),
            stmt: vec![0x05, 0x00],
            hint: None,
        }],
        certs: vec![],
    };
    let dressed = csr(&scene.key, "Acme GmbH", vec![attribute(&foreign)]);
    rejected_for(
        &scene.appraise(&dressed, None),
        &["statement-present", "tpm-well-formed"],
    );
}

#[test]
fn a_tampered_statement_is_refused() {
    let scene = Scene::new();
    let mut statement = scene.statement();
    let at = statement.windows(4).position(|w| w == b"acme").unwrap();
    statement[at] = b'A';
    let r = scene.appraise(&scene.request(&statement), None);
    rejected_for(&r, &["statement-signature", "order-matches"]);
    assert_eq!(
        r.check("statement-signature").unwrap().seen,
        StatementError::BadSignature.to_string()
    );
    assert!(r.claims.iter().all(|c| c.by == "an unverified statement"));
    // Cut short it is no statement at all.
    let cut = &scene.statement()[..100];
    let bare = csr(&scene.key, "Acme GmbH", vec![]);
    rejected_for(
        &scene.appraise(&bare, Some(cut)),
        &["statement-well-formed"],
    );
}

#[test]
fn copies_that_differ_are_refused() {
    let scene = Scene::new();
    let (one, mut other) = (scene.statement(), scene.statement());
    other.push(0);
    let r = scene.appraise(&scene.request(&one), Some(&other));
    rejected_for(&r, &["statement-one"]);
    let mut twice = AttestationBundle::of_statement(&one);
    twice
        .attestations
        .extend(AttestationBundle::of_statement(&[0x05, 0x00]).attestations);
    let request = csr(&scene.key, "Acme GmbH", vec![attribute(&twice)]);
    rejected_for(&scene.appraise(&request, None), &["statement-one"]);
}

#[test]
fn a_malformed_or_double_bundle_is_refused() {
    let scene = Scene::new();
    let value = AttestationBundle::of_statement(&scene.statement())
        .encode()
        .unwrap();
    let mut second = value.clone();
    *second.last_mut().unwrap() ^= 1;
    let double = Attribute {
        oid: ID_AA_ATTESTATION,
        values: vec![value, second],
    };
    let broken = Attribute::single(ID_AA_ATTESTATION, vec![0x30, 0x00]);
    for bad in [double, broken] {
        let request = csr(&scene.key, "Acme GmbH", vec![bad]);
        rejected_for(
            &scene.appraise(&request, None),
            &["attestation-attribute", "statement-present"],
        );
    }
}

#[test]
fn a_statement_for_another_key_is_refused() {
    let mut scene = Scene::new();
    scene.tbs.key.spki_hash = sha256(&Pair::new().spki);
    rejected_for(&scene.result(), &["statement-key"]);
    // Somebody else's whole statement beside one's own request.
    let (victim, thief) = (Scene::new(), Pair::new());
    let request = csr(&thief, "Acme GmbH", vec![]);
    rejected_for(
        &victim.appraise(&request, Some(&victim.statement())),
        &["statement-request", "statement-key"],
    );
}

#[test]
fn a_statement_for_another_request_is_refused() {
    let scene = Scene::new();
    let statement = scene.statement();
    let bundle = AttestationBundle::of_statement(&statement);
    let other_subject = csr(&scene.key, "Evil Corp", vec![attribute(&bundle)]);
    rejected_for(
        &scene.appraise(&other_subject, None),
        &["statement-request"],
    );
    // The hash leaves out the attestation attribute and no other.
    let extra = Attribute::single(
        countersign_x509::ObjectIdentifier::new_unwrap("1.2.840.113549.1.9.7"),
        vec![0x0c, 0x01, 0x78],
    );
    let other_attribute = csr(&scene.key, "Acme GmbH", vec![attribute(&bundle), extra]);
    rejected_for(
        &scene.appraise(&other_attribute, None),
        &["statement-request"],
    );
}

#[test]
fn expired_early_and_overlong_statements_are_refused() {
    let mut scene = Scene::new();
    scene.now = scene.tbs.expires_at;
    rejected_for(&scene.result(), &["statement-unexpired"]);
    let last = i64::try_from(scene.tbs.expires_at.get() - 1).unwrap();
    scene.now = at(last);
    assert_eq!(scene.result().verdict, Verdict::Accept);
    let issued = i64::try_from(scene.tbs.issued_at.get()).unwrap();
    scene.now = at(issued - 301);
    rejected_for(&scene.result(), &["statement-issued"]);
    scene.now = at(issued - 300);
    assert_eq!(scene.result().verdict, Verdict::Accept);
    scene.tbs.expires_at = scene.tbs.issued_at.plus(30 * 86_400 + 1);
    rejected_for(&scene.result(), &["statement-lifetime"]);
}

#[test]
fn another_audience_is_refused() {
    let mut scene = Scene::new();
    scene.tbs.audience = "other-ca.example".into();
    let r = scene.result();
    rejected_for(&r, &["statement-audience"]);
    assert_eq!(
        r.check("statement-audience").unwrap().seen,
        "for \"other-ca.example\", this is \"ca.example\""
    );
}

#[test]
fn a_replayed_order_is_refused() {
    let mut scene = Scene::new();
    scene.used.push(scene.tbs.order.id.clone());
    rejected_for(&scene.result(), &["order-unused"]);
}

#[test]
fn the_order_its_nonce_and_its_subscriber_must_be_those_opened() {
    type Change = fn(&mut StatementTbs);
    let changes: [Change; 3] = [
        |t| t.order.id = "other".into(),
        |t| t.order.nonce[0] ^= 1,
        |t| t.subscriber = "rival".into(),
    ];
    for change in changes {
        let mut scene = Scene::new();
        change(&mut scene.tbs);
        rejected_for(&scene.result(), &["order-matches"]);
        // Offline, with no order at hand, this cannot be compared, and the result says so.
        scene.order = None;
        let r = scene.result();
        assert_eq!(r.verdict, Verdict::Accept);
        assert_eq!(
            r.check("order-matches").unwrap().outcome,
            Outcome::NotChecked
        );
    }
}

#[test]
fn a_software_key_needs_the_ca_s_policy_and_supports_no_method() {
    let mut scene = Scene::new();
    scene.tbs.device.software = true;
    rejected_for(&scene.result(), &["software-key-policy"]);
    scene.policy.allow_software = true;
    let r = scene.result();
    assert_eq!(r.verdict, Verdict::Accept);
    assert_eq!(r.software, Known::Yes);
    assert!(r.supports_methods.is_empty());
}

#[test]
fn without_a_pinned_key_nothing_is_decided() {
    let mut scene = Scene::new();
    scene.pinned.clear();
    let r = scene.result();
    assert_eq!(r.verdict, Verdict::Unverifiable);
    assert_eq!(names(&r, Outcome::Unknown), ["statement-signature"]);
    assert!(r.supports_methods.is_empty());
    assert_eq!(r.software, Known::Unknown);
    scene.pinned.push(Pair::new().statement_key());
    rejected_for(&scene.result(), &["statement-signature"]);
}

#[test]
fn device_evidence_nobody_understands_counts_for_nothing() {
    let mut scene = Scene::new();
    scene.evidence.push(b"who knows".to_vec());
    let r = scene.result();
    assert_eq!(r.verdict, Verdict::Accept);
    assert_eq!(r.supports_methods, [7]);
    assert_eq!(r.inputs[2].name, "evidence[0]");
    scene.policy.require_device_evidence = true;
    let r = scene.result();
    assert_eq!(r.verdict, Verdict::Unverifiable);
    assert_eq!(names(&r, Outcome::Unknown), ["device-evidence"]);
}

#[test]
fn a_request_must_be_signed_by_its_own_key() {
    let scene = Scene::new();
    let mut request = csr(&scene.key, "Acme GmbH", vec![]);
    // The last byte of s: still a well-formed signature.
    *request.last_mut().unwrap() ^= 1;
    let r = scene.appraise(&request, Some(&scene.statement()));
    rejected_for(&r, &["csr-signature"]);
    let r = scene.appraise(&request[..50], Some(&scene.statement()));
    rejected_for(&r, &["csr-well-formed"]);
}

#[test]
fn a_key_too_small_is_refused_by_its_rule() {
    use aws_lc_rs::rsa::{KeyPair as RsaKeyPair, KeySize};
    use aws_lc_rs::signature::KeyPair as _;
    let pair = RsaKeyPair::generate(KeySize::Rsa2048).unwrap();
    let x509 = countersign_x509::asn1::sequence(&[
        &countersign_x509::asn1::sequence(&[
            &hex::decode("06092a864886f70d010101").unwrap(),
            &[5, 0],
        ]),
        &countersign_x509::asn1::bit_string(pair.public_key().as_ref()),
    ]);
    let scene = Scene::new();
    let good = csr(&scene.key, "Acme GmbH", vec![]);
    let parsed = ParsedCsr::parse(&good).unwrap();
    let info =
        countersign_x509::asn1::sequence(&[&[2, 1, 0], parsed.subject_der(), &x509, &[0xa0, 0]]);
    let request = countersign_x509::asn1::sequence(&[
        &info,
        &hex::decode("300d06092a864886f70d01010b0500").unwrap(),
        &countersign_x509::asn1::bit_string(&[0; 256]),
    ]);
    let r = scene.appraise(&request, Some(&scene.statement()));
    rejected_for(&r, &["key-allowed"]);
    assert!(r.check("key-allowed").unwrap().seen.contains("2048"));
}

proptest! {
    #[test]
    fn arbitrary_bytes_never_panic_and_never_pass(
        csr in proptest::collection::vec(any::<u8>(), 0..300),
        statement in proptest::option::of(proptest::collection::vec(any::<u8>(), 0..300)),
    ) {
        static SCENE: std::sync::LazyLock<Scene> = std::sync::LazyLock::new(Scene::new);
        prop_assert_eq!(
            SCENE.appraise(&csr, statement.as_deref()).verdict,
            Verdict::Reject
        );
    }
}
