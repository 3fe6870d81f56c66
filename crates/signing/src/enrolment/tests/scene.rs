//! A service on a database of its own, with a token and a CA made for tests.

use super::ca::Ca;
use super::token::{Speaks, Token};
use crate::{
    Caller, Caps, IssuerSpec, NewEvidence, NewTenant, PolicyChange, Ports, RevocationSettings,
    SealingKey, Service, Settings, SigningError,
};
use async_trait::async_trait;
use countersign_attestation::Anchors;
use countersign_core::ports::ca::{CertificateRequest, CertificateSubject};
use countersign_core::ports::revocation::{ListFetchError, ListSource};
use countersign_core::ports::rows::{
    IssuerKind, KeyRow, OPERATOR_REALM, OPERATOR_REALM_NAME, Role, TenantPolicy,
};
use countersign_core::{
    Clock, KeyAlgorithm, KeyId, Micros, RequestId, SignerName, SystemClock, TenantId, TenantName,
};
use countersign_signing_log::leaf::{Leaf, LeafBody};
use countersign_store::SqliteStore;
use countersign_testkit_evidence::Key;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// 2026-11-05T00:00:00Z.
const START: i64 = 1_793_836_800;
const PEOPLE: &str = "https://idp.example";
/// The nonce of every order of the test CA.
pub const NONCE: &[u8] = b"nonce of the order";

struct NoLists;

#[async_trait]
impl ListSource for NoLists {
    async fn fetch(&self, _: &str, _: usize) -> Result<Vec<u8>, ListFetchError> {
        Err(ListFetchError::Status(404))
    }
}

/// The machine's clock until it is set; then it stands until it is moved.
pub struct TestClock(AtomicI64, AtomicBool);

impl TestClock {
    /// From now on each look at it takes a second.
    pub fn run(&self) {
        self.1.store(true, Ordering::SeqCst);
    }

    pub fn forward(&self, days: i64) {
        self.0.fetch_add(days * 86_400, Ordering::SeqCst);
    }
}

impl Clock for TestClock {
    fn now(&self) -> Micros {
        match self.0.load(Ordering::SeqCst) {
            // A node's clock may not be off its database's when it joins.
            0 => SystemClock.now(),
            set => {
                let second = i64::from(self.1.load(Ordering::SeqCst));
                self.0.fetch_add(second, Ordering::SeqCst);
                Micros(set * 1_000_000)
            }
        }
    }
}

/// The service with one tenant, and its administrator.
pub struct Scene {
    pub service: Service,
    pub store: Arc<SqliteStore>,
    pub token: Arc<Token>,
    pub ca: Arc<Ca>,
    pub acme: Arc<Ca>,
    pub clock: Arc<TestClock>,
    pub admin: Caller,
    pub name: TenantName,
    _folder: tempfile::TempDir,
}

fn caller(tenant: TenantId, name: &str, role: Role) -> Caller {
    Caller {
        tenant,
        tenant_name: name.parse().unwrap(),
        issuer: PEOPLE.into(),
        subject: "ada".into(),
        kind: IssuerKind::People,
        claims: serde_json::Map::new(),
        roles: vec![role],
        mfa: true,
        signers: None,
    }
}

pub fn rid() -> RequestId {
    RequestId::from_caller("r-1").unwrap()
}

impl Scene {
    /// `anchors`: certificates that the operator trusts.
    pub async fn new(software: bool, anchors: &[Vec<u8>]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let store = SqliteStore::open(&folder.path().join("db"), true).await;
        let store = Arc::new(store.unwrap());
        let token = Arc::new(Token {
            software,
            speaks: Mutex::new(Speaks::Never),
            keys: Mutex::default(),
            signed: AtomicUsize::new(0),
        });
        let ca = Arc::new(Ca {
            name: "ca",
            ..Ca::default()
        });
        // One that has another certify attestation keys.
        let acme = Arc::new(Ca {
            name: "acme",
            attestation_ca: Some("ca"),
            ..Ca::default()
        });
        let clock = Arc::new(TestClock(AtomicI64::new(0), AtomicBool::new(false)));
        let mut trusted = Anchors::pinned();
        for a in anchors {
            trusted.add_file("test root", a).unwrap();
        }
        let settings = Settings {
            service_name: "sign.example".into(),
            origin_prefix: "sign.example/log".into(),
            node_name: "test".into(),
            lease: Duration::from_secs(15),
            // Refusals are written when a test asks.
            bookkeeping: Duration::from_secs(3600),
            loopback_issuers: false,
            revocation: RevocationSettings::default(),
            caps: Caps::default(),
            anchors: Arc::new(trusted),
        };
        let ports = Ports {
            store: store.clone(),
            hsm: token.clone(),
            cas: vec![ca.clone(), acme.clone()],
            lists: Arc::new(NoLists),
            clock: clock.clone(),
        };
        let sealing = SealingKey::new(zeroize::Zeroizing::new([7; 32]));
        let service = Service::start(settings, ports, &sealing).await.unwrap();
        clock.0.store(START, Ordering::SeqCst);
        assert!(service.offer_bootstrap("once").await.unwrap());
        let issuer = IssuerSpec {
            issuer: PEOPLE.into(),
            kind: IssuerKind::People,
            audience: "countersign".into(),
            max_token_age_s: 300,
            mfa_amr: vec!["mfa".into()],
            mfa_acr: vec![],
            ca_pem: None,
            client_id: None,
        };
        service
            .bootstrap("once", issuer, "ada", true, &rid())
            .await
            .unwrap();
        let operator = caller(OPERATOR_REALM, OPERATOR_REALM_NAME, Role::Operator);
        let name: TenantName = "acme".parse().unwrap();
        let new = NewTenant {
            name: name.clone(),
            admin: Some((PEOPLE.into(), "ada".into())),
            issuer: None,
            policy: TenantPolicy {
                allow_software: true,
                ..TenantPolicy::default()
            },
        };
        let row = service.create_tenant(&operator, new, &rid()).await.unwrap();
        let admin = caller(row.id, "acme", Role::Admin);
        let signer: SignerName = "acme/release".parse().unwrap();
        service
            .create_signer(&admin, &signer, KeyAlgorithm::EcP256, &rid())
            .await
            .unwrap();
        Self {
            service,
            store,
            token,
            ca,
            acme,
            clock,
            admin,
            name,
            _folder: folder,
        }
    }

    /// A key in the token, and the pair itself, for whoever plays its device.
    pub async fn key(&self) -> (KeyId, Key) {
        let signer: SignerName = "acme/release".parse().unwrap();
        let row = self
            .service
            .create_key(&self.admin, &signer, &rid())
            .await
            .unwrap();
        let pair = self.token.keys.lock().unwrap()[&row.id].clone();
        (row.id, pair)
    }

    pub async fn row(&self, key: KeyId) -> KeyRow {
        use countersign_core::ports::store::KeyStore as _;
        let row = self.store.key(self.admin.tenant, key).await.unwrap();
        row.unwrap()
    }

    pub async fn add(
        &self,
        key: KeyId,
        files: &[Vec<u8>],
        nonce: Option<&[u8]>,
    ) -> Result<crate::EvidenceView, SigningError> {
        let named = files.iter().enumerate();
        let new = NewEvidence {
            files: named
                .map(|(i, bytes)| (format!("file-{i}"), bytes.clone()))
                .collect(),
            nonce: nonce.map(<[u8]>::to_vec),
        };
        self.service
            .add_evidence(&self.admin, &self.name, key, new, &rid())
            .await
    }

    pub async fn policy(&self, allow_software: bool, demands: &[&str]) {
        let change = PolicyChange {
            allow_software,
            require_mfa: true,
            evidence: Some(demands.iter().map(|w| (*w).to_owned()).collect()),
        };
        self.service
            .set_policy(&self.admin, &self.name, change, &rid())
            .await
            .unwrap();
    }

    /// Both ways out: what `csr export` says, and what an order says.
    pub async fn out(
        &self,
        key: KeyId,
        nonce: &[u8],
    ) -> (
        Result<CertificateRequest, SigningError>,
        Result<CertificateRequest, SigningError>,
    ) {
        let exported = self
            .service
            .export_csr(
                &self.admin,
                &self.name,
                key,
                "ca.example",
                None,
                Some(nonce.to_vec()),
                subject(),
                &rid(),
            )
            .await
            .map(|e| e.request);
        (exported, self.order(key).await)
    }

    /// What an order handed to the CA.
    pub async fn order(&self, key: KeyId) -> Result<CertificateRequest, SigningError> {
        self.order_at(&self.ca, key).await
    }

    pub async fn order_at(&self, ca: &Ca, key: KeyId) -> Result<CertificateRequest, SigningError> {
        let before = ca.submitted.lock().unwrap().len();
        let ordered = self
            .service
            .order_certificate(&self.admin, &self.name, key, ca.name, subject(), &rid())
            .await;
        let submitted = ca.submitted.lock().unwrap();
        assert_eq!(submitted.len(), before + usize::from(ordered.is_ok()));
        ordered.map(|_| submitted.last().unwrap().clone())
    }

    /// Leaves of the tenant's log, refusals included.
    pub async fn leaves(&self) -> Vec<LeafBody> {
        assert!(self.service.flush_denials().await);
        let log = self.admin.tenant;
        use countersign_core::ports::store::LogStore as _;
        let leaves = self.store.leaves(log, log.into(), 0, 256).await.unwrap();
        let body = |bytes: &Vec<u8>| Leaf::decode(bytes).unwrap().body;
        leaves.iter().map(body).collect()
    }

    /// The reasons of all refusals logged so far.
    pub async fn denied(&self) -> Vec<String> {
        let of = |l| match l {
            LeafBody::Denied(d) => Some(d.reason),
            _ => None,
        };
        self.leaves().await.into_iter().filter_map(of).collect()
    }
}

pub fn subject() -> CertificateSubject {
    CertificateSubject {
        common_name: "Acme Inc.".into(),
        organization: "Acme Inc.".into(),
        country: "US".into(),
        locality: Some("Springfield".into()),
        state: None,
    }
}

/// The names of the checks that a refusal gives.
#[track_caller]
pub fn checks<T: std::fmt::Debug>(refused: Result<T, SigningError>) -> Vec<String> {
    match refused {
        Err(SigningError::Appraisal { reasons }) => reasons
            .iter()
            .map(|r| r.split(':').next().unwrap().to_owned())
            .collect(),
        other => panic!("no refusal by appraisal: {other:?}"),
    }
}
