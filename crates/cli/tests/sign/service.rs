//! A service of one signer that signs truly unless told to lie.

use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use countersign_content::{Submission, parse};
use countersign_core::HashAlgorithm;
use countersign_signing_log::commitment::{
    HexHash, LABEL_ARTIFACT, LABEL_CALLER, LABEL_TBS, digest_text,
};
use countersign_signing_log::leaf::{
    Asserted, Authorisation, ContentKind, LogOpened, LoggedKey, Purpose,
};
use countersign_signing_log::proof_from::{NodeMap, inclusion_proof};
use countersign_signing_log::{
    Checkpoint, Frontier, Leaf, LeafBody, Opening, Receipt, Salt, SigningKey, merkle,
};
use countersign_testkit::tls::LocalTls;
use rcgen::{CertificateParams, DnType, ExtendedKeyUsagePurpose, KeyPair, SigningKey as _};
use serde_json::{Value, json};
use std::net::TcpListener;
use std::path::Path;
use std::sync::{Arc, Mutex};

const KEY: &str = "01900000-0000-7000-8000-000000000001";
const OTHER_KEY: &str = "01900000-0000-7000-8000-000000000002";
const TENANT: &str = "01900000-0000-7000-8000-00000000000a";
const ORIGIN: &str = "localhost/log/01900000-0000-7000-8000-000000000001";
const SEED: [u8; 32] = [7; 32];

/// What the service does wrong, or refuses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lie {
    OtherArtifact,
    OtherKey,
    NotInLog,
    OtherLogKey,
    BadSignature,
    Denied,
    Absent,
    Busy,
}

pub struct Service {
    pub url: String,
    inner: Arc<Mutex<Inner>>,
}

struct Inner {
    lie: Option<Lie>,
    key: KeyPair,
    certificate: Vec<u8>,
    log: Log,
    exchanges: u32,
    sessions: Vec<String>,
    idempotency_keys: Vec<String>,
}

struct Log {
    salt: u8,
    frontier: Frontier,
    nodes: NodeMap,
}

impl Service {
    pub fn start(dir: &Path) -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, "Acme");
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::CodeSigning];
        let certificate = params.self_signed(&key).unwrap().der().to_vec();
        let inner = Arc::new(Mutex::new(Inner {
            lie: None,
            key,
            certificate,
            log: Log::new(1),
            exchanges: 0,
            sessions: Vec::new(),
            idempotency_keys: Vec::new(),
        }));
        let tls = LocalTls::open_or_create(dir)
            .unwrap()
            .server_config()
            .unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let url = format!(
            "https://localhost:{}",
            listener.local_addr().unwrap().port()
        );
        let signer = "/v1/tenants/acme/signers/release";
        let app = Router::new()
            .route("/v1/service/keys", get(keys))
            .route("/v1/token", post(token))
            .route(&format!("{signer}/certificate"), get(certificate_of))
            .route(&format!("{signer}/signatures"), post(sign))
            .fallback(async || problem(StatusCode::NOT_FOUND, "not-found", false, &json!([])))
            .with_state(inner.clone());
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        std::thread::spawn(move || {
            let tls = axum_server::tls_rustls::RustlsConfig::from_config(tls);
            runtime.block_on(async move {
                let server = axum_server::from_tcp_rustls(listener, tls).unwrap();
                server.serve(app.into_make_service()).await.unwrap();
            });
        });
        Self { url, inner }
    }

    pub fn lie(&self, lie: Option<Lie>) {
        self.inner.lock().unwrap().lie = lie;
    }

    pub fn exchanges(&self) -> u32 {
        self.inner.lock().unwrap().exchanges
    }

    pub fn forget_sessions(&self) {
        self.inner.lock().unwrap().sessions.clear();
    }

    pub fn rewrite_history(&self) {
        let mut inner = self.inner.lock().unwrap();
        inner.log = Log::new(2);
    }

    pub fn idempotency_keys(&self) -> Vec<String> {
        self.inner.lock().unwrap().idempotency_keys.clone()
    }
}

impl Log {
    fn new(salt: u8) -> Self {
        let mut log = Self {
            salt,
            frontier: Frontier::empty(),
            nodes: NodeMap::default(),
        };
        log.append(LogOpened {
            tenant: TENANT.into(),
            key: Some(LoggedKey {
                id: KEY.into(),
                algorithm: "ec-p256".into(),
                spki_sha256: HexHash([1; 32]),
                software: true,
                isolation: "exclusive-token".into(),
            }),
            previous: None,
        });
        log
    }

    fn append(&mut self, body: impl Into<LeafBody>) -> (u64, Vec<u8>) {
        let index = self.frontier.size();
        let time = 1_790_000_000_000_000 + i64::try_from(index).unwrap();
        let bytes = Leaf::new(time, body).encode().unwrap();
        let hash = merkle::leaf_hash(&bytes);
        self.frontier.append(hash);
        self.nodes.insert(0, index, hash);
        (index, bytes)
    }

    fn opening(&self, value: &str) -> Opening {
        Opening {
            salt: Salt([self.salt; 32]),
            value: value.as_bytes().to_vec(),
        }
    }
}

type Shared = State<Arc<Mutex<Inner>>>;

async fn keys() -> Json<Value> {
    let public = SigningKey::from_seed(&SEED, ORIGIN).unwrap();
    // The vkey ends in base64 of the type byte and the 32 bytes.
    let vkey = public.verifier().to_string();
    let bytes = STANDARD.decode(vkey.rsplit('+').next().unwrap()).unwrap();
    Json(json!({
        "statement": {"spki": "AA==", "sha256": "00"},
        "log": {"public_key": STANDARD.encode(&bytes[1..])},
        "service": "test",
    }))
}

async fn token(State(s): Shared) -> Json<Value> {
    let mut s = s.lock().unwrap();
    s.exchanges += 1;
    let token = format!("session-{}", s.exchanges);
    s.sessions.push(token.clone());
    Json(
        json!({"access_token": token, "issued_token_type": "x", "token_type": "Bearer",
        "expires_in": 300}),
    )
}

async fn certificate_of(State(s): Shared, headers: HeaderMap) -> Response {
    let s = s.lock().unwrap();
    if !s.knows(&headers) {
        return problem(
            StatusCode::UNAUTHORIZED,
            "unauthenticated",
            false,
            &json!([]),
        );
    }
    let chain = [STANDARD.encode(&s.certificate)];
    Json(json!({"certificate_chain": chain, "key": KEY, "algorithm": "ec-p256"})).into_response()
}

async fn sign(State(s): Shared, headers: HeaderMap, Json(body): Json<Value>) -> Response {
    let mut s = s.lock().unwrap();
    if !s.knows(&headers) {
        return problem(
            StatusCode::UNAUTHORIZED,
            "unauthenticated",
            false,
            &json!([]),
        );
    }
    match s.lie {
        Some(Lie::Denied) => {
            let reasons = json!([{"grant": KEY, "allowed": false, "steps": [
                {"claim": "ref", "wanted": "main", "seen": "fork", "outcome": "differs"}]}]);
            return problem(StatusCode::FORBIDDEN, "denied", false, &reasons);
        }
        Some(Lie::Absent) => {
            return problem(StatusCode::NOT_FOUND, "not-found", false, &json!([]));
        }
        Some(Lie::Busy) => {
            return problem(StatusCode::SERVICE_UNAVAILABLE, "busy", true, &json!([]));
        }
        _ => {}
    }
    let key = headers.get("idempotency-key").unwrap().to_str().unwrap();
    s.idempotency_keys.push(key.to_owned());
    let mut signed_by = Vec::new();
    let mut results = Vec::new();
    for item in body["items"].as_array().unwrap() {
        let (by, result) = s.answer(item);
        signed_by = vec![by];
        results.push(result);
    }
    Json(json!({"signed_by": signed_by, "results": results})).into_response()
}

impl Inner {
    fn knows(&self, headers: &HeaderMap) -> bool {
        let bearer = headers
            .get(header::AUTHORIZATION)
            .unwrap()
            .to_str()
            .unwrap();
        self.sessions
            .iter()
            .any(|s| bearer == format!("Bearer {s}"))
    }

    fn answer(&mut self, body: &Value) -> (Value, Value) {
        let field = |name: &str| {
            STANDARD
                .decode(body["content"][name].as_str().unwrap())
                .unwrap()
        };
        let attributes = field("signed_attributes");
        let (submission, content) = if body["content"]["type"] == "authenticode" {
            let indirect_data = field("indirect_data");
            let signed_attributes = attributes.clone();
            (
                Submission::Authenticode {
                    signed_attributes,
                    indirect_data,
                },
                ContentKind::Authenticode,
            )
        } else {
            let signed_attributes = attributes.clone();
            (Submission::Cms { signed_attributes }, ContentKind::Cms)
        };
        let parsed = parse(&submission, HashAlgorithm::Sha256, Some(&self.certificate)).unwrap();
        let mut artifact = digest_text("sha-256", parsed.artifact.unwrap().as_bytes());
        if self.lie == Some(Lie::OtherArtifact) {
            artifact = digest_text("sha-256", &[0; 32]);
        }
        let artifact = self.log.opening(&artifact);
        let tbs = self
            .log
            .opening(&digest_text("sha-256", parsed.tbs.as_bytes()));
        let caller = self.log.opening("job 7");
        let lied_key = self.lie == Some(Lie::OtherKey);
        let (index, leaf) = self.log.append(Authorisation {
            tenant: TENANT.into(),
            signer: "release".into(),
            key: if lied_key { OTHER_KEY } else { KEY }.into(),
            request: "r1".into(),
            attempt: 1,
            repeats: None,
            purpose: Purpose::Signature,
            scheme: "ecdsa-sha-256".into(),
            content,
            asserted: Asserted::Typed,
            tbs: tbs.commitment(LABEL_TBS),
            artifact: Some(artifact.commitment(LABEL_ARTIFACT)),
            caller: caller.commitment(LABEL_CALLER),
            node: "n".into(),
            epoch: 1,
        });
        let seed = match self.lie {
            Some(Lie::OtherLogKey) => [9; 32],
            _ => SEED,
        };
        let log_key = SigningKey::from_seed(&seed, ORIGIN).unwrap();
        let size = self.log.frontier.size();
        let note = Checkpoint {
            origin: ORIGIN.into(),
            size,
            root: self.log.frontier.root(),
        }
        .sign(&log_key)
        .unwrap();
        let receipt = Receipt {
            leaf,
            artifact: Some(artifact),
            index: if self.lie == Some(Lie::NotInLog) {
                0
            } else {
                index
            },
            proof: inclusion_proof(&self.log.nodes, index, size).unwrap(),
            checkpoint_note: note,
        };
        let signed_bytes = if self.lie == Some(Lie::BadSignature) {
            b"something else".to_vec()
        } else {
            attributes
        };
        let by = json!({
            "certificate_sha256": "aa",
            "key": KEY,
            "certificate_chain": [STANDARD.encode(&self.certificate)],
            "log": {"origin": ORIGIN, "vkey": log_key.verifier().to_string()},
        });
        let result = json!({
            "id": body["id"],
            "signature": STANDARD.encode(self.key.sign(&signed_bytes).unwrap()),
            "scheme": "ecdsa-sha-256",
            "certificate_sha256": "aa",
            "receipt": receipt.to_text(),
            "request": "r1",
        });
        (by, result)
    }
}

fn problem(status: StatusCode, code: &str, retryable: bool, reasons: &Value) -> Response {
    let title = match code {
        "busy" => "Too much is waiting",
        "not-found" => "There is no such thing here, or it is not yours",
        _ => "Refused",
    };
    let body = json!({"type": format!("urn:countersign:problem:{code}"), "title": title,
        "status": status.as_u16(), "detail": "d", "instance": "r9", "code": code,
        "retryable": retryable, "reasons": reasons});
    let kind = [(header::CONTENT_TYPE, "application/problem+json")];
    (status, kind, body.to_string()).into_response()
}
