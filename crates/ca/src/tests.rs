//! Against a real HTTPS server on loopback.

use super::*;
use axum::extract::Path;
use axum::http::StatusCode;
use axum::routing::{get, post};
use axum::{Json, Router};
use countersign_core::OrderId;
use serde_json::{Value, json};
use std::net::{SocketAddr, TcpListener};

pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    pub(crate) ca_pem: String,
}

pub(crate) async fn serve(app: Router) -> Server {
    let made = rcgen::generate_simple_self_signed(vec!["127.0.0.1".into()]).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let tls = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(
            vec![made.cert.der().clone()],
            made.signing_key.serialize_der().try_into().unwrap(),
        )
        .unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let address = listener.local_addr().unwrap();
    let config = axum_server::tls_rustls::RustlsConfig::from_config(Arc::new(tls));
    let server = axum_server::from_tcp_rustls(listener, config).unwrap();
    tokio::spawn(async move { server.serve(app.into_make_service()).await.unwrap() });
    Server {
        address,
        ca_pem: made.cert.pem(),
    }
}

fn client(server: &Server) -> OrderClient {
    OrderClient::new(OrderClientConfig {
        name: "demo".into(),
        url: format!("https://{}/", server.address),
        ca_pem: Some(server.ca_pem.clone()),
        takes_software_keys: true,
    })
    .unwrap()
}

fn new_order(subscriber: &str) -> NewOrder<'_> {
    NewOrder {
        order: OrderId::new(),
        subscriber,
        device: None,
    }
}

fn request() -> CertificateRequest {
    CertificateRequest {
        csr: vec![1],
        statement: vec![2],
        evidence: vec![vec![3]],
        device: None,
    }
}

async fn submit(Path(id): Path<String>, Json(body): Json<Value>) -> (StatusCode, Json<Value>) {
    match id.as_str() {
        "good" => {
            assert_eq!(
                body,
                json!({"csr": "AQ==", "statement": "Ag==", "evidence": ["Aw=="]})
            );
            (
                StatusCode::OK,
                Json(json!({"status": "issued", "chain": ["MAA=", "MAE="]})),
            )
        }
        "refused" => (
            StatusCode::UNPROCESSABLE_ENTITY,
            Json(json!({
                "detail": "the request fails spki",
                "reasons": [{"check": "spki", "seen": "another", "rule": "same SPKI", "source": "us"}, "x"],
            })),
        ),
        "slow" => (StatusCode::ACCEPTED, Json(json!({"status": "open"}))),
        "long" => (
            StatusCode::OK,
            Json(json!({"status": "issued", "chain": vec!["MAA="; 9]})),
        ),
        "odd" => (
            StatusCode::OK,
            Json(json!({"status": "issued", "chain": ["%%"]})),
        ),
        "huge" => (StatusCode::OK, Json(json!({"x": "a".repeat(300_000)}))),
        _ => (
            StatusCode::SERVICE_UNAVAILABLE,
            Json(json!({"detail": "down"})),
        ),
    }
}

async fn identify(Path(id): Path<String>, Json(body): Json<Value>) -> (StatusCode, Json<Value>) {
    let ok = |id_object: &str, secret: &str| {
        let body = json!({"id_object": id_object, "encrypted_secret": secret, "expires": "then"});
        (StatusCode::OK, Json(body))
    };
    let problem = |status, code: &str| (status, Json(json!({"code": code, "detail": code})));
    match id.as_str() {
        "good" => {
            assert_eq!(
                body,
                json!({"endorsement": ["AQ==", "Ag=="], "attestation_key": "Aw=="})
            );
            ok("BA==", "BQ==")
        }
        "long" => ok(&STANDARD.encode([0; MAX_ID_OBJECT + 1]), "BQ=="),
        "empty" => ok("BA==", ""),
        "none" => problem(StatusCode::NOT_IMPLEMENTED, "no-device-steps"),
        "older" => problem(StatusCode::METHOD_NOT_ALLOWED, "method-not-allowed"),
        "stranger" => problem(StatusCode::NOT_FOUND, "not-found"),
        "unknown" => problem(StatusCode::NOT_FOUND, "order-unknown"),
        "down" => problem(StatusCode::SERVICE_UNAVAILABLE, "down"),
        _ => problem(StatusCode::UNPROCESSABLE_ENTITY, "tpm-ek-chain"),
    }
}

async fn answer(Path(id): Path<String>, Json(body): Json<Value>) -> (StatusCode, Json<Value>) {
    assert_eq!(body, json!({"secret": "Bg=="}));
    match id.as_str() {
        "good" => (StatusCode::OK, Json(json!({"chain": ["MAA=", "MAE="]}))),
        "empty" => (StatusCode::OK, Json(json!({"chain": []}))),
        "none" => (StatusCode::NOT_IMPLEMENTED, Json(json!({}))),
        _ => (
            StatusCode::UNPROCESSABLE_ENTITY,
            Json(json!({"detail": "wrong", "reasons": ["challenge-answer"]})),
        ),
    }
}

fn app() -> Router {
    Router::new()
        .route(
            "/orders",
            post(async |Json(b): Json<Value>| {
                let order = if b["subscriber"] == "evil" { "../x" } else { "good" };
                (
                    StatusCode::CREATED,
                    Json(json!({"order": order, "nonce": "AAAAAAAAAAAAAAAA", "audience": "demo", "more": 1})),
                )
            }),
        )
        .route("/orders/{id}/request", post(submit))
        .route(
            "/orders/{id}",
            get(async |Path(id): Path<String>| Json(json!({"status": id, "chain": ["MAA="]}))),
        )
        .route("/orders/{id}/device", post(identify))
        .route("/orders/{id}/device/answer", post(answer))
        .route("/away/orders", post(async || axum::response::Redirect::temporary("/orders")))
}

#[tokio::test]
async fn an_order_goes_through_its_steps() {
    let server = serve(app()).await;
    let ca = client(&server);
    let opened = ca.open(new_order("acme")).await.unwrap();
    assert_eq!(
        (
            opened.reference.as_str(),
            opened.nonce.len(),
            opened.audience.as_str()
        ),
        ("good", 12, "demo")
    );
    assert_eq!(
        ca.submit("good", &request()).await,
        Ok(OrderStep::Issued {
            chain: vec![vec![0x30, 0], vec![0x30, 1]]
        })
    );
    assert_eq!(
        ca.submit("slow", &request()).await,
        Ok(OrderStep::Waiting { retry_after_s: 5 })
    );
    assert_eq!(
        ca.poll("issued", &[]).await,
        Ok(OrderStep::Issued {
            chain: vec![vec![0x30, 0]]
        })
    );
    assert!(matches!(
        ca.poll("expired", &[]).await,
        Err(CaError::Refused { .. })
    ));
    assert!(matches!(
        ca.poll("nonsense", &[]).await,
        Err(CaError::Protocol(_))
    ));
}

#[tokio::test]
async fn a_device_is_presented_and_answers() {
    let server = serve(app()).await;
    let ca = client(&server);
    let device = DeviceIdentity {
        endorsement: vec![vec![1], vec![2]],
        attestation_key: vec![3],
    };
    assert_eq!(
        ca.identify("good", &device).await,
        Ok(DeviceChallenge {
            id_object: vec![4],
            encrypted_secret: vec![5],
        })
    );
    assert_eq!(
        ca.answer("good", &[6]).await,
        Ok(vec![vec![0x30, 0], vec![0x30, 1]])
    );
    for odd in ["long", "empty"] {
        let refused = ca.identify(odd, &device).await;
        assert!(matches!(refused, Err(CaError::Protocol(_))), "{odd}");
    }
    assert!(matches!(
        ca.answer("empty", &[6]).await,
        Err(CaError::Protocol(_))
    ));
    assert_eq!(
        ca.answer("wrong", &[6]).await,
        Err(CaError::Refused {
            detail: "wrong".into(),
            reasons: vec!["challenge-answer".into()],
        })
    );
}

#[tokio::test]
async fn a_ca_without_device_steps_is_told_from_one_that_refuses() {
    let server = serve(app()).await;
    let ca = client(&server);
    let device = DeviceIdentity {
        endorsement: vec![vec![1]],
        attestation_key: vec![3],
    };
    for without in ["none", "older", "stranger"] {
        let said = ca.identify(without, &device).await;
        assert_eq!(said, Err(CaError::NoDeviceSteps), "{without}");
    }
    assert_eq!(ca.answer("none", &[6]).await, Err(CaError::NoDeviceSteps));
    for refuses in ["unknown", "refused"] {
        let said = ca.identify(refuses, &device).await;
        assert!(matches!(said, Err(CaError::Refused { .. })), "{refuses}");
    }
    assert!(matches!(
        ca.identify("down", &device).await,
        Err(CaError::Unavailable(_))
    ));
}

#[tokio::test]
async fn a_refusal_comes_with_its_reasons() {
    let server = serve(app()).await;
    assert_eq!(
        client(&server).submit("refused", &request()).await,
        Err(CaError::Refused {
            detail: "the request fails spki".into(),
            reasons: vec!["spki: another; rule: same SPKI (us)".into(), "x".into()],
        })
    );
}

#[tokio::test]
async fn trouble_is_told_from_nonsense() {
    let server = serve(app()).await;
    let ca = client(&server);
    assert_eq!(
        ca.submit("down", &request()).await,
        Err(CaError::Unavailable("503: down".into()))
    );
    for bad in ["long", "odd", "huge"] {
        assert!(
            matches!(ca.submit(bad, &request()).await, Err(CaError::Protocol(_))),
            "{bad}"
        );
    }
    assert!(matches!(
        ca.open(new_order("evil")).await,
        Err(CaError::Protocol(_))
    ));
    assert!(matches!(
        ca.submit("../x", &request()).await,
        Err(CaError::Protocol(_))
    ));
}

#[tokio::test]
async fn a_ca_that_is_away_or_not_itself_is_unavailable() {
    let port = TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let away = Server {
        address: port,
        ca_pem: serve(app()).await.ca_pem,
    };
    assert!(matches!(
        client(&away).poll("x", &[]).await,
        Err(CaError::Unavailable(_))
    ));

    let (one, other) = (serve(app()).await, serve(app()).await);
    let wrong = Server {
        address: one.address,
        ca_pem: other.ca_pem,
    };
    assert!(matches!(
        client(&wrong).poll("x", &[]).await,
        Err(CaError::Unavailable(_))
    ));
}

#[tokio::test]
async fn a_redirect_is_not_followed() {
    let server = serve(app()).await;
    let ca = OrderClient::new(OrderClientConfig {
        name: "demo".into(),
        url: format!("https://{}/away", server.address),
        ca_pem: Some(server.ca_pem),
        takes_software_keys: false,
    })
    .unwrap();
    assert_eq!(
        ca.open(new_order("acme")).await,
        Err(CaError::Protocol("status 307".into()))
    );
}

#[test]
fn only_https_and_readable_roots_make_a_connector() {
    let with = |url: &str, ca_pem: Option<&str>| {
        OrderClient::new(OrderClientConfig {
            name: "x".into(),
            url: url.into(),
            ca_pem: ca_pem.map(str::to_owned),
            takes_software_keys: false,
        })
        .err()
    };
    assert!(matches!(
        with("http://ca.example", None),
        Some(ConnectorError::Url(_))
    ));
    assert!(matches!(
        with("nonsense", None),
        Some(ConnectorError::Url(_))
    ));
    assert_eq!(
        with("https://ca.example", Some("no pem")),
        Some(ConnectorError::CaFile)
    );
}
