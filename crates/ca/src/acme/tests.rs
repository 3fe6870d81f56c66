//! Against an ACME server of the test's own, which takes its time, or misbehaves. Its signatures are
//! step-ca's to check (tests/it/modules/stepca).

use super::*;
use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, Method, StatusCode, Uri};
use axum::response::{IntoResponse as _, Response};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use countersign_core::OrderId;
use countersign_core::ports::evidence::{DeviceEvidence, DeviceIdentity, KeyCertification};
use countersign_testkit_evidence::cert::{self, attestation_attribute};
use countersign_testkit_evidence::tpm2::Tpm2;
use serde_json::{Value, json};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::sync::{Arc, Mutex};

/// What the server says, and what it was told.
#[derive(Debug, Clone)]
struct Acme {
    base: String,
    order: Value,
    authorization: &'static str,
    challenge: Value,
    certificate: String,
    retry_after: &'static str,
    /// Answers to every POST but that for the account, where it is not to do its work.
    trouble: Option<(u16, Value)>,
    location: Option<String>,
    /// No answer to the challenge is taken.
    malformed: bool,
    no_account: bool,
    seen: Vec<(String, Value)>,
}

type Shared = Arc<Mutex<Acme>>;

/// A server, its CA certificate, and a folder for the account.
struct Scene {
    acme: Shared,
    ca_pem: String,
    dir: tempfile::TempDir,
}

async fn answer(State(acme): State<Shared>, method: Method, uri: Uri, posted: Bytes) -> Response {
    let mut acme = acme.lock().unwrap();
    let at = |path: &str| format!("{}{path}", acme.base);
    let path = uri.path().to_owned();
    let (mut status, mut body, mut location) = (200, Value::Null, None);
    if method == Method::POST {
        let jws: Value = serde_json::from_slice(&posted).unwrap();
        let part = |name: &str| URL_SAFE_NO_PAD.decode(jws[name].as_str().unwrap()).unwrap();
        let protected: Value = serde_json::from_slice(&part("protected")).unwrap();
        assert_eq!(protected["url"], at(&path), "RFC 8555 §6.4");
        assert_eq!(protected["nonce"], "bm9uY2U");
        let payload = serde_json::from_slice(&part("payload")).unwrap_or(Value::Null);
        acme.seen.push((path.clone(), payload));
    }
    let at = |path: &str| format!("{}{path}", acme.base);
    match path.as_str() {
        "/directory" => {
            body = json!({"newNonce": at("/nonce"), "newAccount": at("/account"), "newOrder": at("/order")});
        }
        "/account" if acme.no_account => {
            (status, body) = (403, problem("externalAccountRequired"));
        }
        "/account" => (status, location) = (201, Some(at("/account/1"))),
        "/nonce" => {}
        _ if acme.trouble.is_some() => {
            let (code, problem) = acme.trouble.clone().unwrap();
            (status, body) = (code, problem);
        }
        "/order" => {
            (status, body) = (201, acme.order.clone());
            location = acme.location.clone().or_else(|| Some(at("/order/1")));
        }
        "/order/1" => body = acme.order.clone(),
        "/authorization/1" => {
            body = json!({
                "identifier": {"type": "permanent-identifier", "value": "x"},
                "status": acme.authorization,
                "challenges": [acme.challenge],
            });
        }
        "/challenge/1" if acme.malformed || acme.challenge["status"] != "pending" => {
            (status, body) = (400, problem("malformed"));
        }
        "/challenge/1" => {
            acme.challenge["status"] = json!("processing");
            body = acme.challenge.clone();
        }
        "/finalize/1" if acme.order["status"] != "ready" => {
            (status, body) = (403, problem("orderNotReady"));
        }
        "/finalize/1" => {
            acme.order["status"] = json!("processing");
            body = acme.order.clone();
        }
        "/certificate/1" => {
            return (
                StatusCode::OK,
                [("replay-nonce", "bm9uY2U")],
                acme.certificate.clone(),
            )
                .into_response();
        }
        other => panic!("{other}"),
    }
    let mut headers = HeaderMap::new();
    headers.insert("replay-nonce", "bm9uY2U".parse().unwrap());
    if !acme.retry_after.is_empty() {
        headers.insert("retry-after", acme.retry_after.parse().unwrap());
    }
    if let Some(url) = location {
        headers.insert("location", url.parse().unwrap());
    }
    let status = StatusCode::from_u16(status).unwrap();
    (status, headers, body.to_string()).into_response()
}

/// A problem document of ACME's own types.
fn problem(kind: &str) -> Value {
    json!({"type": format!("urn:ietf:params:acme:error:{kind}"), "detail": "so it is"})
}

async fn scene() -> Scene {
    let acme = Arc::new(Mutex::new(Acme {
        base: String::new(),
        order: Value::Null,
        authorization: "pending",
        challenge: Value::Null,
        certificate: String::new(),
        retry_after: "",
        trouble: None,
        location: None,
        malformed: false,
        no_account: false,
        seen: Vec::new(),
    }));
    let app = Router::new().fallback(answer).with_state(Arc::clone(&acme));
    let server = crate::tests::serve(app).await;
    let base = format!("https://{}", server.address);
    {
        let mut a = acme.lock().unwrap();
        a.order = json!({
            "status": "pending",
            "authorizations": [format!("{base}/authorization/1")],
            "finalize": format!("{base}/finalize/1"),
        });
        a.challenge = json!({
            "type": "device-attest-01", "status": "pending",
            "url": format!("{base}/challenge/1"), "token": "a token of 22 letters.",
        });
        a.base = base;
    }
    Scene {
        acme,
        ca_pem: server.ca_pem,
        dir: tempfile::tempdir().unwrap(),
    }
}

impl Scene {
    fn config(&self) -> AcmeConfig {
        AcmeConfig {
            name: "acme".into(),
            directory: format!("{}/directory", self.set().base),
            ca_pem: Some(self.ca_pem.clone()),
            takes_software_keys: false,
            account_file: self.file(),
            contact: vec!["mailto:a@example.com".into()],
            external_account: None,
            attestation_ca: Some("demo".into()),
            audience: Some("acme.test".into()),
        }
    }

    /// A new one each time, as after a restart.
    fn client(&self) -> AcmeClient {
        AcmeClient::new(self.config()).unwrap()
    }

    fn file(&self) -> PathBuf {
        self.dir.path().join("account.json")
    }

    fn set(&self) -> std::sync::MutexGuard<'_, Acme> {
        self.acme.lock().unwrap()
    }

    fn reference(&self) -> String {
        format!("{}/order/1", self.set().base)
    }

    /// What was posted to a path, in order.
    fn told(&self, path: &str) -> Vec<Value> {
        let acme = self.set();
        let told = acme.seen.iter().filter(|(to, _)| to == path);
        told.map(|(_, payload)| payload.clone()).collect()
    }
}

fn device() -> DeviceIdentity {
    let made = rcgen::generate_simple_self_signed(vec!["ek".into()]).unwrap();
    DeviceIdentity {
        endorsement: vec![made.cert.der().to_vec()],
        attestation_key: vec![1],
    }
}

fn new_order(device: Option<&DeviceIdentity>) -> NewOrder<'_> {
    NewOrder {
        order: OrderId::new(),
        subscriber: "acme",
        device,
    }
}

fn request() -> CertificateRequest {
    let certification = KeyCertification {
        attest: vec![1],
        signature: vec![0, 0x14, 0, 0x0b, 2],
        public: vec![3],
    };
    CertificateRequest {
        csr: vec![9, 9],
        statement: vec![2],
        evidence: Vec::new(),
        device: Some(DeviceEvidence {
            certification,
            chain: vec![vec![4]],
        }),
    }
}

fn waiting(retry_after_s: u32) -> Result<OrderStep, CaError> {
    Ok(OrderStep::Waiting { retry_after_s })
}

#[tokio::test]
async fn an_order_of_a_ca_that_takes_days_is_gone_on_with_after_each_restart() {
    let scene = scene().await;
    let device = device();
    let first = scene.client();
    assert_eq!(first.attestation_ca(), Some("demo"));
    let opened = first.open(new_order(Some(&device))).await.unwrap();
    assert_eq!(opened.reference, scene.reference());
    assert_eq!(opened.audience, "acme.test");
    assert_eq!(opened.nonce.len(), 32);
    let identifier = identifier_of(&device.endorsement[0]).unwrap();
    assert_eq!(opened.common_name.as_ref(), Some(&identifier));
    assert_eq!(
        scene.told("/order"),
        [json!({"identifiers": [{"type": "permanent-identifier", "value": identifier}]})]
    );

    // A person looks at the evidence. A second handing over says nothing twice.
    scene.set().retry_after = "7200";
    for _ in 0..2 {
        assert_eq!(
            first.submit(&opened.reference, &request()).await,
            waiting(7200)
        );
    }
    let answers = scene.told("/challenge/1");
    let object = attestation::object(request().device.as_ref().unwrap()).unwrap();
    assert_eq!(answers, [json!({"attObj": URL_SAFE_NO_PAD.encode(object)})]);
    assert_eq!(
        scene.client().poll(&opened.reference, &[9, 9]).await,
        waiting(7200)
    );
    assert!(scene.told("/finalize/1").is_empty());

    // And then at the request.
    scene.set().order["status"] = json!("ready");
    scene.set().retry_after = "never a number";
    assert_eq!(
        scene.client().poll(&opened.reference, &[9, 9]).await,
        waiting(30)
    );
    assert_eq!(scene.told("/finalize/1"), [json!({"csr": "CQk"})]);
    assert_eq!(
        scene.client().poll(&opened.reference, &[9, 9]).await,
        waiting(30)
    );

    let issued = rcgen::generate_simple_self_signed(vec!["leaf".into()]).unwrap();
    {
        let mut acme = scene.set();
        acme.order["status"] = json!("valid");
        acme.order["certificate"] = json!(format!("{}/certificate/1", acme.base));
        acme.certificate = issued.cert.pem();
    }
    let chain = vec![issued.cert.der().to_vec()];
    assert_eq!(
        scene.client().poll(&opened.reference, &[9, 9]).await,
        Ok(OrderStep::Issued { chain })
    );
    assert_eq!(
        scene.told("/account").len(),
        1,
        "one account for all of them"
    );
}

/// A request as the service makes it: what the TPM certified stands in its attestation attribute.
fn csr_of(nonce: &[u8]) -> Vec<u8> {
    let tpm = Tpm2 {
        extra_data: nonce.to_vec(),
        ..Tpm2::default()
    };
    let statement = [("2.23.133.20.1", tpm.tcg_statement(false))];
    let attribute = attestation_attribute(&statement, &tpm.certificates());
    cert::request("x", &tpm.key, &[attribute])
}

#[tokio::test]
async fn a_challenge_that_nobody_answered_is_answered_out_of_the_request() {
    let scene = scene().await;
    let device = device();
    let opened = scene.client().open(new_order(Some(&device))).await.unwrap();
    // The node died with the request kept. Another order's evidence, or none, answers nothing.
    let reference = &opened.reference;
    for csr in [csr_of(b"another order's"), vec![9, 9], Vec::new()] {
        assert_eq!(scene.client().poll(reference, &csr).await, waiting(30));
    }
    assert!(scene.told("/challenge/1").is_empty());

    let csr = csr_of(&opened.nonce);
    scene.set().retry_after = "7200";
    for _ in 0..2 {
        assert_eq!(scene.client().poll(reference, &csr).await, waiting(7200));
    }
    let evidence = evidence_of(certified::in_request(&csr, &opened.nonce).unwrap());
    let object = attestation::object(&evidence).unwrap();
    assert_eq!(
        scene.told("/challenge/1"),
        [json!({"attObj": URL_SAFE_NO_PAD.encode(object)})],
        "once"
    );
    assert!(scene.told("/finalize/1").is_empty());
    scene.set().order["status"] = json!("ready");
    assert_eq!(scene.client().poll(reference, &csr).await, waiting(7200));
    let handed = json!({"csr": URL_SAFE_NO_PAD.encode(&csr)});
    assert_eq!(scene.told("/finalize/1"), [handed]);
}

#[tokio::test]
async fn an_answer_after_somebody_elses_is_no_refusal_unless_that_one_was_refused() {
    let scene = scene().await;
    let client = scene.client();
    for (theirs, order, refused) in [
        ("processing", "pending", false),
        ("valid", "ready", false),
        ("invalid", "pending", true),
        ("invalid", "invalid", true),
        ("pending", "pending", true),
    ] {
        scene.set().order["status"] = json!("pending");
        scene.set().challenge["status"] = json!("pending");
        let mut ours = client.order(&scene.reference()).await.unwrap();
        let answered = client
            .answer_challenge(&mut ours, |_| {
                let mut acme = scene.set();
                acme.order["status"] = json!(order);
                acme.challenge["status"] = json!(theirs);
                if theirs == "pending" {
                    acme.malformed = true;
                }
                Some(vec![1])
            })
            .await;
        scene.set().malformed = false;
        if refused {
            let detail = "malformed: so it is".to_owned();
            let reasons = Vec::new();
            assert_eq!(
                answered,
                Err(CaError::Refused { detail, reasons }),
                "{theirs}"
            );
        } else {
            assert_eq!(answered, Ok(()), "{theirs}");
        }
    }
}

/// Both see that the order is ready before either hands over the CSR.
#[tokio::test]
async fn two_who_ask_at_once_hand_over_one_csr_and_neither_is_refused() {
    let scene = scene().await;
    let reference = scene.reference();
    let (one, other) = (scene.client(), scene.client());
    assert_eq!(one.poll(&reference, &[]).await, waiting(30));
    scene.set().order["status"] = json!("ready");
    let mut orders = [
        one.order(&reference).await.unwrap(),
        other.order(&reference).await.unwrap(),
    ];
    for order in &mut orders {
        assert_eq!(AcmeClient::finalize(order, &[9, 9]).await, Ok(()));
        assert_eq!(order.state().status, OrderStatus::Processing);
    }
    assert_eq!(scene.told("/finalize/1").len(), 2);
    for order in orders {
        assert_eq!(one.step(order, None).await, waiting(30));
    }
    // However they fall.
    scene.set().order["status"] = json!("ready");
    let both = tokio::join!(one.poll(&reference, &[9]), other.poll(&reference, &[9]));
    assert_eq!(both, (waiting(30), waiting(30)));

    // A refusal of the CSR stays one.
    scene.set().order["status"] = json!("ready");
    let mut order = one.order(&reference).await.unwrap();
    scene.set().trouble = Some((403, problem("unauthorized")));
    let said = AcmeClient::finalize(&mut order, &[9]).await;
    assert!(matches!(said, Err(CaError::Refused { .. })), "{said:?}");
    scene.set().trouble = Some((400, problem("userActionRequired")));
    let said = AcmeClient::finalize(&mut order, &[9]).await;
    assert!(matches!(said, Err(CaError::Unavailable(_))), "{said:?}");
}

#[tokio::test]
async fn the_account_is_a_file_of_its_owner_and_of_one_directory() {
    let scene = scene().await;
    let reference = scene.reference();
    let mut config = scene.config();
    config.external_account = Some(ExternalAccount {
        key_id: "us".into(),
        key: zeroize::Zeroizing::new("c2VjcmV0IHNlY3JldCBzZWNyZXQgc2VjcmV0\n".into()),
    });
    let client = AcmeClient::new(config).unwrap();
    assert_eq!(client.poll(&reference, &[]).await, waiting(30));
    let account = &scene.told("/account")[0];
    assert_eq!(account["contact"], json!(["mailto:a@example.com"]));
    assert_eq!(account["termsOfServiceAgreed"], true);
    let bound = &account["externalAccountBinding"]["protected"];
    let bound = URL_SAFE_NO_PAD.decode(bound.as_str().unwrap()).unwrap();
    assert!(String::from_utf8(bound).unwrap().contains("\"us\""));

    let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&scene.file()), 0o600);
    let files: Vec<_> = std::fs::read_dir(scene.dir.path()).unwrap().collect();
    assert_eq!(files.len(), 1, "{files:?}");
    let kept = std::fs::read_to_string(scene.file()).unwrap();
    let again = |text: &str, mode: u32| {
        std::fs::write(scene.file(), text).unwrap();
        let permissions = std::fs::Permissions::from_mode(mode);
        std::fs::set_permissions(scene.file(), permissions).unwrap();
        let (client, reference) = (scene.client(), reference.clone());
        async move { client.poll(&reference, &[]).await }
    };
    assert_eq!(again(&kept, 0o400).await, waiting(30));
    let base = scene.set().base.clone();
    for (text, mode, wanted) in [
        (kept.clone(), 0o640, "mode 0600"),
        (
            kept[..kept.len() - 2].to_owned(),
            0o600,
            "not as it was written",
        ),
        (kept.replace("/directory", "/other"), 0o600, "/other"),
        (
            kept.replace(&format!("{base}/account/1"), "https://elsewhere/1"),
            0o600,
            "own host",
        ),
    ] {
        let said = again(&text, mode).await.unwrap_err().to_string();
        assert!(said.contains(wanted), "{said}");
    }
    assert_eq!(scene.told("/account").len(), 1);

    let mut config = scene.config();
    config.external_account = Some(ExternalAccount {
        key_id: "us".into(),
        key: zeroize::Zeroizing::new("%%".into()),
    });
    assert!(matches!(
        AcmeClient::new(config),
        Err(ConnectorError::ExternalAccountKey)
    ));
    for url in [
        "http://ca.example/directory",
        "https://u:p@ca.example/directory",
        "ca.example",
    ] {
        let mut config = scene.config();
        config.directory = url.into();
        assert!(
            matches!(AcmeClient::new(config), Err(ConnectorError::Url(_))),
            "{url}"
        );
    }
}

#[tokio::test]
async fn no_account_is_made_that_cannot_be_kept() {
    let scene = scene().await;
    let folder = scene.dir.path().join("later");
    let config = || AcmeConfig {
        account_file: folder.join("account.json"),
        ..scene.config()
    };
    let reference = scene.reference();
    for _ in 0..2 {
        let said = AcmeClient::new(config())
            .unwrap()
            .poll(&reference, &[])
            .await;
        let Err(CaError::Unavailable(text)) = &said else {
            panic!("{said:?}");
        };
        assert!(text.starts_with("account_file: "), "{text}");
    }
    assert!(scene.told("/account").is_empty());
    std::fs::create_dir(&folder).unwrap();
    // One that the CA refuses leaves nothing behind.
    scene.set().no_account = true;
    let said = AcmeClient::new(config())
        .unwrap()
        .poll(&reference, &[])
        .await;
    let wanted = "externalAccountRequired: so it is".to_owned();
    assert_eq!(said, Err(CaError::Unavailable(wanted)));
    assert_eq!(std::fs::read_dir(&folder).unwrap().count(), 0);
    scene.set().no_account = false;
    let said = AcmeClient::new(config())
        .unwrap()
        .poll(&reference, &[])
        .await;
    assert_eq!(said, waiting(30));
    assert_eq!(std::fs::read_dir(&folder).unwrap().count(), 1);
}

#[tokio::test]
async fn a_refusal_keeps_the_cas_words_and_trouble_is_told_from_nonsense() {
    let scene = scene().await;
    let reference = scene.reference();
    let client = scene.client();
    let device = device();
    let open = || client.open(new_order(Some(&device)));
    let bad = json!({
        "type": "urn:ietf:params:acme:error:badAttestationStatement",
        "detail": "permanent identifier does not match",
        "subproblems": [{"type": "urn:x", "detail": "not this one",
            "identifier": {"type": "permanent-identifier", "value": "y"}}],
    });
    let refused = Err(CaError::Refused {
        detail: "badAttestationStatement: permanent identifier does not match".into(),
        reasons: vec!["for \"y\": not this one (urn:x)".into()],
    });

    // In the answer, in the challenge whether or not the order follows it, and in the order.
    scene.set().trouble = Some((403, bad.clone()));
    assert_eq!(client.submit(&reference, &request()).await, refused);
    scene.set().trouble = None;
    scene.set().challenge["status"] = json!("invalid");
    scene.set().challenge["error"] = bad.clone();
    for status in ["pending", "invalid"] {
        scene.set().order["status"] = json!(status);
        assert_eq!(client.submit(&reference, &request()).await, refused);
        assert_eq!(client.poll(&reference, &[]).await, refused);
    }
    scene.set().challenge["error"] = Value::Null;
    scene.set().order["error"] = bad;
    assert_eq!(client.poll(&reference, &[]).await, refused);
    scene.set().order["error"] = Value::Null;
    let said = client.poll(&reference, &[]).await.unwrap_err().to_string();
    assert!(said.contains("expired, or given up"), "{said}");

    // What may pass.
    for (code, body) in [
        (503, json!({"detail": "later"})),
        (429, Value::Null),
        (
            400,
            json!({"type": "urn:ietf:params:acme:error:rateLimited", "detail": "later"}),
        ),
    ] {
        scene.set().trouble = Some((code, body));
        let said = open().await;
        assert!(matches!(said, Err(CaError::Unavailable(_))), "{said:?}");
    }
    // Nor is it of this order what is of the account.
    for kind in [
        "badNonce",
        "accountDoesNotExist",
        "userActionRequired",
        "externalAccountRequired",
        "unauthorized",
    ] {
        for code in [400, 403] {
            scene.set().trouble = Some((code, problem(kind)));
            let wanted = Err(CaError::Unavailable(format!("{kind}: so it is")));
            assert_eq!(open().await.map(drop), wanted);
            assert_eq!(client.poll(&reference, &[9]).await.map(drop), wanted);
        }
    }
    // What is not understood.
    for (code, body) in [
        (404, Value::Null),
        (302, Value::Null),
        (200, json!({"status": "odd"})),
    ] {
        scene.set().trouble = Some((code, body));
        let said = client.poll(&reference, &[]).await;
        assert!(matches!(said, Err(CaError::Protocol(_))), "{said:?}");
    }
    scene.set().trouble = None;

    // An order that leads elsewhere, has no challenge for a device, or nothing left to prove.
    scene.set().order["status"] = json!("pending");
    scene.set().challenge["status"] = json!("pending");
    assert!(open().await.is_ok());
    let protocol = async |wanted: &str| {
        let said = open().await;
        let Err(CaError::Protocol(text)) = &said else {
            panic!("{wanted}: {said:?}");
        };
        assert!(text.contains(wanted), "{text}");
    };
    scene.set().location = Some("https://elsewhere.example/order/1".into());
    protocol("own host and port").await;
    scene.set().location = Some(format!("{}{}", reference, "x".repeat(500)));
    protocol("longer than 500").await;
    scene.set().location = None;
    scene.set().authorization = "valid";
    protocol("is not pending").await;
    scene.set().authorization = "pending";
    scene.set().challenge["token"] = json!("short");
    protocol("token").await;
    let authorizations = scene.set().order["authorizations"].clone();
    scene.set().order["authorizations"] = json!([]);
    protocol("one authorisation").await;
    scene.set().order["authorizations"] = json!(["https://elsewhere.example/1"]);
    protocol("own host and port").await;
    scene.set().order["authorizations"] = authorizations;
    scene.set().challenge["type"] = json!("dns-01");
    let said = open().await.unwrap_err().to_string();
    assert!(said.contains("no device-attest-01"), "{said}");

    // A key without a device, or a certificate that is none.
    for (device, wanted) in [
        (None, "no such device"),
        (
            Some(DeviceIdentity {
                endorsement: vec![vec![1, 2]],
                attestation_key: Vec::new(),
            }),
            "endorsement certificate",
        ),
    ] {
        let said = client.open(new_order(device.as_ref())).await.unwrap_err();
        assert!(said.to_string().contains(wanted), "{said}");
    }
    let bare = CertificateRequest {
        device: None,
        ..request()
    };
    let said = client.submit(&reference, &bare).await.unwrap_err();
    assert!(matches!(said, CaError::Refused { .. }), "{said:?}");
    for elsewhere in [
        "http://127.0.0.1/order/1",
        "order/1",
        "https://127.0.0.1:1/order/1",
    ] {
        let said = client.poll(elsewhere, &[]).await;
        assert!(
            matches!(said, Err(CaError::Protocol(_))),
            "{elsewhere}: {said:?}"
        );
    }
}

#[test]
fn a_chain_is_pem_and_bounded() {
    let pem = |n: usize| {
        let one = STANDARD.encode([0x30, 0]);
        format!("-----BEGIN CERTIFICATE-----\n{one}\n-----END CERTIFICATE-----\n").repeat(n)
    };
    assert_eq!(chain(&pem(2)).unwrap(), [[0x30, 0], [0x30, 0]]);
    for bad in [String::new(), pem(9), pem(1).replace("MAA=", "%%")] {
        assert!(matches!(chain(&bad), Err(CaError::Protocol(_))), "{bad}");
    }
}
