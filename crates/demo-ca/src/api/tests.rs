//! The protocol from a service's side, on the real router with a real authority.

use super::*;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, KeyPair};
use axum::body::{Body, to_bytes};
use axum::http::Request;
use countersign_attestation::Anchors;
use countersign_attestation::bundle::{AttestationBundle, ID_AA_ATTESTATION};
use countersign_attestation::request::CaPolicy;
use countersign_attestation::statement::{
    Device, Isolation, KeyStatement, LogAnchor, Order as StatedOrder, StatementKey, StatementTbs,
};
use countersign_core::{HashAlgorithm, KeyAlgorithm, Micros, SignatureScheme};
use countersign_x509::asn1::{self, Attribute};
use countersign_x509::cert::Certificate;
use countersign_x509::crl::Reason;
use countersign_x509::csr::CsrBuilder;
use countersign_x509::hash::sha256;
use countersign_x509::key::PublicKey;
use countersign_x509::name::{Subject, ca_name};
use countersign_x509::profile::check_issued;
use serde_json::Value;
use std::process::Command;
use std::sync::atomic::{AtomicI64, Ordering};
use tower::ServiceExt;

use crate::authority::Authority;
use crate::reports::Reports;
use crate::serve::own_anchors;

mod device;
mod evidence;
mod swtpm;
mod tpm;

const START: i64 = 1_795_300_000;

struct TestClock(Arc<AtomicI64>);

impl Clock for TestClock {
    fn now(&self) -> Micros {
        Micros::from_seconds(self.0.load(Ordering::SeqCst))
    }
}

struct P256 {
    pair: EcdsaKeyPair,
    public: PublicKey,
}

impl P256 {
    fn new() -> Self {
        let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_ASN1_SIGNING).unwrap();
        let public =
            PublicKey::from_ec_point(KeyAlgorithm::EcP256, pair.public_key().as_ref()).unwrap();
        Self { pair, public }
    }

    fn sign(&self, message: &[u8]) -> Vec<u8> {
        let signature = self.pair.sign(&SystemRandom::new(), message).unwrap();
        signature.as_ref().to_vec()
    }
}

/// A CA in a folder of its own, a service it pins, and a subscriber's key.
struct Scene {
    dir: tempfile::TempDir,
    service: P256,
    key: P256,
    clock: Arc<AtomicI64>,
    misbehave: Option<Misbehaviour>,
    policy: CaPolicy,
    ek_roots: Option<Anchors>,
}

impl Scene {
    fn new() -> Self {
        Self {
            dir: tempfile::tempdir().unwrap(),
            service: P256::new(),
            key: P256::new(),
            clock: Arc::new(AtomicI64::new(START)),
            misbehave: None,
            policy: CaPolicy {
                allow_software: true,
                ..CaPolicy::default()
            },
            ek_roots: None,
        }
    }

    fn ca(&self) -> Arc<Ca> {
        let now = Micros::from_seconds(START);
        let authority =
            Authority::open(&self.dir.path().join("ca"), "http://127.0.0.1:9", now).unwrap();
        Arc::new(Ca {
            counter: Counter {
                anchors: own_anchors(&authority).unwrap(),
                ek_roots: self.ek_roots.clone(),
                reports: Reports::new(self.dir.path()),
                authority,
                audience: "demo-ca".into(),
                statement_keys: vec![
                    StatementKey::from_spki_der(self.service.public.spki_der()).unwrap(),
                ],
                policy: self.policy,
                misbehave: self.misbehave,
            },
            book: Mutex::new(OrderBook::open(&self.dir.path().join("orders")).unwrap()),
            revocations: Revocations::new(self.dir.path()),
            order_lifetime_s: 3600,
            clock: Box::new(TestClock(Arc::clone(&self.clock))),
        })
    }

    /// A statement for `order` as the service would make it.
    fn statement(&self, order: &Value) -> StatementTbs {
        let at = |s| UnixSeconds::new(s).unwrap();
        let now = self.clock.load(Ordering::SeqCst);
        StatementTbs {
            signer_key_hash: self.service.public.spki_sha256(),
            service: "Countersign".into(),
            tenant: [1; 16],
            subscriber: "acme".into(),
            audience: order["audience"].as_str().unwrap().into(),
            order: StatedOrder {
                id: order["order"].as_str().unwrap().into(),
                nonce: STANDARD.decode(order["nonce"].as_str().unwrap()).unwrap(),
            },
            issued_at: at(now),
            expires_at: at(now + 600),
            csr_info_hash: sha256(&self.info(vec![], "Acme GmbH").info_der),
            key: KeyStatement {
                id: [2; 16],
                spki_hash: self.key.public.spki_sha256(),
                isolation: Isolation::ExclusiveToken,
                mechanism: "CKM_EC_KEY_PAIR_GEN".into(),
                attributes: vec![],
            },
            device: Device {
                software: true,
                manufacturer: "SoftHSM project".into(),
                model: "SoftHSM v2".into(),
                serial: "1".into(),
                firmware: "2.6".into(),
            },
            log: LogAnchor {
                origin: "localhost:8443/log/1".into(),
                verifier_key: "localhost:8443/log/1+00000000+AQ==".into(),
                size: 1,
                root: [3; 32],
            },
            practice_statement_hash: None,
            audit: None,
        }
    }

    fn info(&self, attributes: Vec<Attribute>, name: &str) -> countersign_x509::csr::CsrToBeSigned {
        CsrBuilder {
            subject: Subject {
                common_name: name.into(),
                organization: name.into(),
                country: "DE".into(),
                locality: Some("Berlin".into()),
                state: None,
            },
            public_key: self.key.public.clone(),
            attributes,
        }
        .build()
        .unwrap()
    }

    fn submission(&self, tbs: &StatementTbs) -> Value {
        let signature = self.service.sign(&tbs.encode().unwrap());
        let statement = tbs.assemble(&signature).unwrap();
        let bundle = AttestationBundle::of_statement(&statement)
            .encode()
            .unwrap();
        let info = self.info(
            vec![Attribute::single(ID_AA_ATTESTATION, bundle)],
            "Acme GmbH",
        );
        let csr = info.finish(&self.key.sign(&info.info_der)).unwrap();
        json!({
            "csr": STANDARD.encode(csr),
            "statement": STANDARD.encode(statement),
            "evidence": [],
        })
    }
}

async fn call(ca: &Arc<Ca>, method: &str, path: &str, body: &str) -> (StatusCode, Value) {
    let request = Request::builder()
        .method(method)
        .uri(path)
        .body(Body::from(body.to_owned()))
        .unwrap();
    let response = orders(Arc::clone(ca)).oneshot(request).await.unwrap();
    let status = response.status();
    let bytes = to_bytes(response.into_body(), MAX_BODY).await.unwrap();
    let value = serde_json::from_slice(&bytes)
        .unwrap_or_else(|_| Value::String(String::from_utf8_lossy(&bytes).into_owned()));
    (status, value)
}

async fn open(ca: &Arc<Ca>) -> Value {
    open_for(ca, "acme").await
}

async fn open_for(ca: &Arc<Ca>, subscriber: &str) -> Value {
    let body = json!({ "subscriber": subscriber }).to_string();
    let (status, order) = call(ca, "POST", "/orders", &body).await;
    assert_eq!(status, StatusCode::CREATED, "{order}");
    order
}

async fn submit(ca: &Arc<Ca>, order: &Value, body: &Value) -> (StatusCode, Value) {
    let path = format!("/orders/{}/request", order["order"].as_str().unwrap());
    call(ca, "POST", &path, &body.to_string()).await
}

fn refused_for(answer: &(StatusCode, Value), checks: &[&str]) {
    let (status, problem) = answer;
    assert_eq!(*status, StatusCode::UNPROCESSABLE_ENTITY, "{problem:#}");
    assert_eq!(problem["code"], "request-refused");
    let reasons = problem["reasons"].as_array().unwrap();
    let seen: Vec<_> = reasons
        .iter()
        .map(|r| r["check"].as_str().unwrap())
        .collect();
    assert_eq!(seen, checks, "{problem:#}");
    for r in reasons {
        for member in ["seen", "rule", "source"] {
            assert!(!r[member].as_str().unwrap().is_empty(), "{r}");
        }
    }
}

fn chain_of(answer: &Value) -> Vec<Certificate> {
    let chain = answer["chain"].as_array().unwrap();
    chain
        .iter()
        .map(|c| Certificate::from_der(&STANDARD.decode(c.as_str().unwrap()).unwrap()).unwrap())
        .collect()
}

fn findings(scene: &Scene, answer: &Value) -> Vec<&'static str> {
    let chain = chain_of(answer);
    let now = Micros::from_seconds(START);
    match check_issued(&chain[0], &chain, scene.key.public.spki_der(), now) {
        Ok(()) => vec![],
        Err(f) => f.iter().map(|f| f.rule).collect(),
    }
}

#[tokio::test]
async fn an_order_leads_to_a_certificate_that_openssl_verifies() {
    let scene = Scene::new();
    let ca = scene.ca();
    let order = open(&ca).await;
    assert_eq!(order["audience"], "demo-ca");
    assert_eq!(order["status"], "open");
    let (status, answer) = submit(&ca, &order, &scene.submission(&scene.statement(&order))).await;
    assert_eq!(status, StatusCode::OK, "{answer:#}");
    assert_eq!(answer["status"], "issued");
    assert_eq!(findings(&scene, &answer), [""; 0]);
    let chain = chain_of(&answer);
    assert_eq!(chain.len(), 2);

    let path = format!("/orders/{}", order["order"].as_str().unwrap());
    let (_, shown) = call(&ca, "GET", &path, "").await;
    assert_eq!(shown["status"], "issued");
    assert_eq!(shown["chain"], answer["chain"]);
    assert_eq!(shown["appraisal"]["software"], "yes");

    let (_, roots) = call(&ca, "GET", "/roots.pem", "").await;
    let file = |name: &str, bytes: &[u8]| {
        let path = scene.dir.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        path.to_string_lossy().into_owned()
    };
    let roots = file("roots.pem", roots.as_str().unwrap().as_bytes());
    let leaf = file("leaf.pem", chain[0].to_pem().as_bytes());
    let issuing = file("issuing.pem", chain[1].to_pem().as_bytes());
    let now = UnixSeconds::new(START).unwrap();
    let verdict = || {
        let authority = &ca.counter.authority;
        let mut crls = String::new();
        for list in [
            crl::of_cas(&authority.root, now).unwrap(),
            crl::of_subscribers(&authority.issuing, &ca.revocations, now).unwrap(),
        ] {
            let der = file("crl.der", &list);
            crls.push_str(&openssl(&["crl", "-inform", "DER", "-in", &der]));
        }
        let crls = file("crls.pem", crls.as_bytes());
        let out = Command::new("openssl")
            .args(["verify", "-x509_strict", "-attime", &START.to_string()])
            .args(["-crl_check_all", "-CRLfile", &crls, "-CAfile", &roots])
            .args(["-untrusted", &issuing, &leaf])
            .output()
            .unwrap();
        String::from_utf8_lossy(&[out.stdout, out.stderr].concat()).into_owned()
    };
    assert!(verdict().trim().ends_with(": OK"), "{}", verdict());
    // On hold, released, and revoked for ever.
    let serial = chain[0].serial_hex();
    let book = || OrderBook::open(&scene.dir.path().join("orders")).unwrap();
    let revoke = |serial: &str, reason| ca.revocations.revoke(&book(), serial, reason, now);
    let refused = |e: Result<(), Error>| e.unwrap_err().to_string();
    assert!(refused(revoke("00ff", Reason::Superseded)).contains("no certificate"));
    assert!(refused(ca.revocations.release(&book(), &serial)).contains("not on hold"));
    revoke(&serial, Reason::CertificateHold).unwrap();
    assert!(verdict().contains("certificate revoked"), "{}", verdict());
    ca.revocations.release(&book(), &serial).unwrap();
    assert!(verdict().trim().ends_with(": OK"), "{}", verdict());
    revoke(&serial.to_uppercase(), Reason::KeyCompromise).unwrap();
    assert!(verdict().contains("certificate revoked"), "{}", verdict());
    assert!(refused(revoke(&serial, Reason::Superseded)).contains("revoked already"));
    assert!(refused(ca.revocations.release(&book(), &serial)).contains("for ever"));
    let text = openssl(&["x509", "-in", &leaf, "-noout", "-text"]);
    for wanted in [
        "Code Signing",
        "2.23.140.1.4.1",
        "http://127.0.0.1:9/issuing.crl",
        "http://127.0.0.1:9/issuing.cer",
        "O = Acme GmbH",
    ] {
        assert!(text.contains(wanted), "{wanted} in {text}");
    }
}

#[tokio::test]
async fn an_order_is_used_once_also_over_a_restart() {
    let scene = Scene::new();
    let ca = scene.ca();
    let order = open(&ca).await;
    let body = scene.submission(&scene.statement(&order));
    assert_eq!(submit(&ca, &order, &body).await.0, StatusCode::OK);
    refused_for(&submit(&ca, &order, &body).await, &["order-unused"]);
    drop(ca);
    let ca = scene.ca();
    refused_for(&submit(&ca, &order, &body).await, &["order-unused"]);
    // The same statement under a new order names the old one.
    let second = open(&ca).await;
    refused_for(
        &submit(&ca, &second, &body).await,
        &["order-matches", "order-unused"],
    );
}

#[tokio::test]
async fn what_is_wrong_is_said_and_the_order_stays_open() {
    let scene = Scene::new();
    let ca = scene.ca();
    let order = open(&ca).await;
    let good = scene.statement(&order);

    let mut naked = scene.submission(&good);
    let info = scene.info(vec![], "Acme GmbH");
    let csr = info.finish(&scene.key.sign(&info.info_der)).unwrap();
    naked["csr"] = json!(STANDARD.encode(csr));
    naked.as_object_mut().unwrap().remove("statement");
    refused_for(&submit(&ca, &order, &naked).await, &["statement-present"]);

    let mut other_audience = good.clone();
    other_audience.audience = "real-ca".into();
    let answer = submit(&ca, &order, &scene.submission(&other_audience)).await;
    refused_for(&answer, &["statement-audience"]);

    let mut other_key = good.clone();
    other_key.key.spki_hash = P256::new().public.spki_sha256();
    let answer = submit(&ca, &order, &scene.submission(&other_key)).await;
    refused_for(&answer, &["statement-key"]);

    let mut tampered = scene.submission(&good);
    let mut statement = STANDARD
        .decode(tampered["statement"].as_str().unwrap())
        .unwrap();
    let at = statement.windows(4).position(|w| w == b"Soft").unwrap();
    statement[at] = b's';
    let info = scene.info(vec![], "Acme GmbH");
    let csr = info.finish(&scene.key.sign(&info.info_der)).unwrap();
    tampered["csr"] = json!(STANDARD.encode(csr));
    tampered["statement"] = json!(STANDARD.encode(statement));
    refused_for(
        &submit(&ca, &order, &tampered).await,
        &["statement-signature"],
    );

    // A subject without locality or state, in a request that is otherwise in order.
    let placeless = ca_name("DE", "Acme GmbH", "Acme GmbH").unwrap();
    let info = asn1::sequence(&[
        &[2, 1, 0],
        &placeless,
        scene.key.public.spki_der(),
        &[0xa0, 0],
    ]);
    let mut stated = good.clone();
    stated.csr_info_hash = sha256(&info);
    let signed = scene.submission(&stated);
    let csr = countersign_x509::csr::finish(
        &info,
        SignatureScheme::Ecdsa(HashAlgorithm::Sha256),
        &scene.key.sign(&info),
    )
    .unwrap();
    let body = json!({ "csr": STANDARD.encode(csr), "statement": signed["statement"] });
    refused_for(&submit(&ca, &order, &body).await, &["subject"]);

    let mut rival = good.clone();
    rival.subscriber = "rival".into();
    let answer = submit(&ca, &order, &scene.submission(&rival)).await;
    refused_for(&answer, &["order-matches"]);

    let path = format!("/orders/{}", order["order"].as_str().unwrap());
    let (_, shown) = call(&ca, "GET", &path, "").await;
    assert_eq!(shown["status"], "open");
    assert_eq!(shown["appraisal"]["verdict"], "reject");
    assert_eq!(
        submit(&ca, &order, &scene.submission(&good)).await.0,
        StatusCode::OK
    );
}

#[tokio::test]
async fn an_expired_order_and_an_expired_statement_are_refused() {
    let scene = Scene::new();
    let ca = scene.ca();
    let order = open(&ca).await;
    let early = scene.statement(&order);
    scene.clock.store(START + 600, Ordering::SeqCst);
    let answer = submit(&ca, &order, &scene.submission(&early)).await;
    refused_for(&answer, &["statement-unexpired"]);
    scene.clock.store(START + 3600, Ordering::SeqCst);
    let answer = submit(&ca, &order, &scene.submission(&scene.statement(&order))).await;
    refused_for(&answer, &["order-unexpired"]);
}

#[tokio::test]
async fn a_software_key_needs_the_flag() {
    let mut scene = Scene::new();
    scene.policy.allow_software = false;
    let ca = scene.ca();
    let order = open(&ca).await;
    let answer = submit(&ca, &order, &scene.submission(&scene.statement(&order))).await;
    refused_for(&answer, &["software-key-policy"]);
}

#[tokio::test]
async fn each_misbehaviour_breaks_what_it_says() {
    for (how, rule) in [
        (Misbehaviour::WrongKey, "public-key"),
        (Misbehaviour::TooLong, "validity-period"),
        (Misbehaviour::NoPolicy, "policy"),
    ] {
        let mut scene = Scene::new();
        scene.misbehave = Some(how);
        let ca = scene.ca();
        let order = open(&ca).await;
        let (status, answer) =
            submit(&ca, &order, &scene.submission(&scene.statement(&order))).await;
        assert_eq!(status, StatusCode::OK, "{answer}");
        let found = findings(&scene, &answer);
        assert_eq!(found.len(), 1, "{found:?}");
        assert!(found[0].contains(rule), "{found:?}");
    }
    let mut scene = Scene::new();
    scene.misbehave = Some(Misbehaviour::Down);
    let ca = scene.ca();
    let (status, problem) = call(&ca, "POST", "/orders", r#"{"subscriber":"acme"}"#).await;
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(problem["code"], "down");
}

#[tokio::test]
async fn bad_bodies_are_answered_and_name_the_field() {
    let scene = Scene::new();
    let ca = scene.ca();
    let order = open(&ca).await;
    for (body, names) in [
        ("", "EOF"),
        (r#"{"subscriber":""}"#, "subscriber"),
        (r#"{"subscriber":"a","x":1}"#, "x"),
        (r#"{"subscriber":"a\nb"}"#, "subscriber"),
    ] {
        let (status, problem) = call(&ca, "POST", "/orders", body).await;
        assert_eq!(status, StatusCode::BAD_REQUEST);
        assert!(
            problem["detail"].as_str().unwrap().contains(names),
            "{problem}"
        );
    }
    for (body, names) in [
        (json!({"csr": "!"}), "csr"),
        (json!({"csr": "", "statement": "!"}), "statement"),
        (json!({"csr": "", "evidence": ["!"]}), "evidence"),
        (json!({"csr": "", "evidence": vec![""; 17]}), "evidence"),
        (json!({"statement": ""}), "csr"),
    ] {
        let (status, problem) = submit(&ca, &order, &body).await;
        assert_eq!(status, StatusCode::BAD_REQUEST);
        assert!(
            problem["detail"].as_str().unwrap().contains(names),
            "{problem}"
        );
    }
    let (status, problem) = call(&ca, "GET", "/orders/..%2Fca", "").await;
    assert_eq!(
        (status, &problem["code"]),
        (StatusCode::NOT_FOUND, &json!("order-unknown"))
    );
    let (status, problem) = call(&ca, "POST", "/orders", &" ".repeat(MAX_BODY + 1)).await;
    assert_eq!(status, StatusCode::PAYLOAD_TOO_LARGE);
    assert_eq!(problem["code"], "bad-request");
    let (status, problem) = call(&ca, "DELETE", "/orders", "").await;
    assert_eq!(status, StatusCode::METHOD_NOT_ALLOWED);
    assert_eq!(problem["code"], "method-not-allowed");
}

#[tokio::test]
async fn keys_are_for_their_owner_alone_and_survive_a_restart() {
    use std::os::unix::fs::PermissionsExt;
    let scene = Scene::new();
    let before = scene.ca();
    let after = scene.ca();
    for (a, b) in [
        (
            &before.counter.authority.root,
            &after.counter.authority.root,
        ),
        (
            &before.counter.authority.issuing,
            &after.counter.authority.issuing,
        ),
        (
            &before.counter.authority.attestation,
            &after.counter.authority.attestation,
        ),
    ] {
        assert_eq!(a.certificate(), b.certificate());
    }
    for name in ["root.key", "issuing.key", "attestation.key"] {
        let path = scene.dir.path().join("ca").join(name);
        let mode = std::fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{name}");
    }
    // A certificate that is not the key's is not used.
    let ca = scene.dir.path().join("ca");
    std::fs::copy(ca.join("root.pem"), ca.join("issuing.pem")).unwrap();
    let reopened = Authority::open(&ca, "http://127.0.0.1:9", Micros::from_seconds(START));
    assert!(matches!(reopened, Err(Error::Content { .. })));
}

fn openssl(args: &[&str]) -> String {
    let out = Command::new("openssl")
        .args(args)
        .output()
        .expect("this test needs openssl");
    assert!(
        out.status.success(),
        "openssl {args:?}: {}{}",
        String::from_utf8_lossy(&out.stdout),
        String::from_utf8_lossy(&out.stderr)
    );
    String::from_utf8_lossy(&out.stdout).into_owned()
}
