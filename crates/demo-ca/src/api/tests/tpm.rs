//! A TPM in software for the tests of orders with device steps.

use super::*;
use countersign_attestation::bundle::Attestation;
use countersign_attestation::oid::Oid;
use countersign_testkit_evidence::cert::root;
use countersign_testkit_evidence::endorsement::{EK_ROOT, Endorsement};
use countersign_testkit_evidence::keys::Scheme;
use countersign_testkit_evidence::tpm2::Tpm2;
use countersign_testkit_evidence::{Key, Kind};

/// tcg-attest-tpm-certify, 2.23.133.20.1.
const TPM_CERTIFY: [u8; 5] = [0x67, 0x81, 0x05, 0x14, 0x01];

pub(super) fn ek_root_key() -> Key {
    Key::named(Kind::P256, "demo ek root")
}

/// A CA that asks for proof, with device steps.
pub(super) fn strict() -> Scene {
    let mut scene = Scene::new();
    let mut roots = Anchors::none();
    let certificate = root(EK_ROOT, &ek_root_key());
    roots.add_endorsement_roots("test", &certificate).unwrap();
    scene.ek_roots = Some(roots);
    scene.policy = CaPolicy {
        require_device_evidence: true,
        ..CaPolicy::default()
    };
    scene
}

/// A TPM in software, with an attestation key and a subscriber's key in it.
pub(super) struct Device {
    pub(super) ek: Endorsement,
    pub(super) tpm: Tpm2,
}

impl Device {
    pub(super) fn new() -> Self {
        Self::with(Kind::P256)
    }

    pub(super) fn with(kind: Kind) -> Self {
        Self {
            ek: Endorsement::new(kind),
            tpm: Tpm2::default(),
        }
    }

    pub(super) fn identity(&self) -> Value {
        let certificate = self.ek.certificate(&self.tpm).sign(&ek_root_key());
        json!({
            "endorsement": [STANDARD.encode(certificate)],
            "attestation_key": STANDARD.encode(self.tpm.ak_public()),
        })
    }

    pub(super) fn read(&self, challenge: &Value) -> Vec<u8> {
        let part = |name: &str| STANDARD.decode(challenge[name].as_str().unwrap()).unwrap();
        self.ek
            .activate(
                &self.tpm.ak_public(),
                &part("id_object"),
                &part("encrypted_secret"),
            )
            .unwrap()
    }

    /// Through both device steps of an order.
    pub(super) async fn certified(&self, ca: &Arc<Ca>, order: &Value) -> Vec<Vec<u8>> {
        let (status, challenge) = step(ca, order, "device", &self.identity()).await;
        assert_eq!(status, StatusCode::OK, "{challenge:#}");
        let secret = json!({"secret": STANDARD.encode(self.read(&challenge))});
        let (status, answer) = step(ca, order, "device/answer", &secret).await;
        assert_eq!(status, StatusCode::OK, "{answer:#}");
        let chain = answer["chain"].as_array().unwrap();
        chain
            .iter()
            .map(|c| STANDARD.decode(c.as_str().unwrap()).unwrap())
            .collect()
    }

    /// What the TPM certified of the key, with the nonce of `order`.
    pub(super) fn evidence(&self, order: &Value) -> Vec<u8> {
        let nonce = STANDARD.decode(order["nonce"].as_str().unwrap()).unwrap();
        let tpm = Tpm2 {
            extra_data: nonce,
            ..self.tpm.clone()
        };
        tpm.tcg_statement(false)
    }
}

pub(super) async fn step(
    ca: &Arc<Ca>,
    order: &Value,
    step: &str,
    body: &Value,
) -> (StatusCode, Value) {
    let path = format!("/orders/{}/{step}", order["order"].as_str().unwrap());
    call(ca, "POST", &path, &body.to_string()).await
}

/// Whose key a certificate is ordered for.
pub(super) trait Subscribes {
    fn public(&self) -> PublicKey;
    /// A signature over `message`, ECDSA with SHA-256, DER.
    fn sign(&self, message: &[u8]) -> Vec<u8>;
}

impl Subscribes for Device {
    fn public(&self) -> PublicKey {
        PublicKey::from_ec_point(KeyAlgorithm::EcP256, &self.tpm.key.public()).unwrap()
    }

    fn sign(&self, message: &[u8]) -> Vec<u8> {
        self.tpm.key.sign(Scheme::Ecdsa, message)
    }
}

/// A request of the device's key for `order`, with that evidence and those certificates.
pub(super) fn request(
    scene: &Scene,
    device: &dyn Subscribes,
    order: &Value,
    evidence: Option<Vec<u8>>,
    certs: &[Vec<u8>],
) -> Value {
    request_by(
        scene,
        &stated(scene, device, order),
        device,
        evidence,
        certs,
    )
}

fn info(
    device: &dyn Subscribes,
    attributes: Vec<Attribute>,
) -> countersign_x509::csr::CsrToBeSigned {
    CsrBuilder {
        subject: Subject {
            common_name: "Acme GmbH".into(),
            organization: "Acme GmbH".into(),
            country: "DE".into(),
            locality: Some("Berlin".into()),
            state: None,
        },
        public_key: device.public(),
        attributes,
    }
    .build()
    .unwrap()
}

/// What the service states of the device's key for `order`.
pub(super) fn stated(scene: &Scene, device: &dyn Subscribes, order: &Value) -> StatementTbs {
    let mut tbs = scene.statement(order);
    tbs.subscriber = order["subscriber"].as_str().unwrap().into();
    tbs.csr_info_hash = sha256(&info(device, vec![]).info_der);
    tbs.key.spki_hash = device.public().spki_sha256();
    tbs.device.software = false;
    tbs
}

pub(super) fn request_by(
    scene: &Scene,
    tbs: &StatementTbs,
    device: &dyn Subscribes,
    evidence: Option<Vec<u8>>,
    certs: &[Vec<u8>],
) -> Value {
    let signature = scene.service.sign(&tbs.encode().unwrap());
    let statement = tbs.assemble(&signature).unwrap();
    let mut bundle = AttestationBundle::of_statement(&statement);
    bundle.attestations.extend(evidence.map(|stmt| Attestation {
        kind: Oid::from_content(&TPM_CERTIFY).unwrap(),
        stmt,
        hint: None,
    }));
    bundle.certs = certs.to_vec();
    let attribute = Attribute::single(ID_AA_ATTESTATION, bundle.encode().unwrap());
    let to_be_signed = info(device, vec![attribute]);
    let signature = device.sign(&to_be_signed.info_der);
    let csr = to_be_signed.finish(&signature).unwrap();
    json!({ "csr": STANDARD.encode(csr), "statement": STANDARD.encode(statement) })
}
