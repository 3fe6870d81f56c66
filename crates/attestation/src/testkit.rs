//! Test material: a statement key, a subscriber's key, and requests as enrolment makes them.

use crate::bundle::{AttestationBundle, ID_AA_ATTESTATION};
use crate::statement::{
    AttributeClaim, Audit, Device, Isolation, KeyStatement, LogAnchor, Order, StatementKey,
    StatementTbs,
};
use crate::time::UnixSeconds;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, KeyPair};
use countersign_x509::asn1::Attribute;
use countersign_x509::csr::{CsrBuilder, CsrToBeSigned};
use countersign_x509::key::PublicKey;
use countersign_x509::name::Subject;

/// An ECDSA P-256 key pair.
pub(crate) struct Pair {
    pair: EcdsaKeyPair,
    pub(crate) spki: Vec<u8>,
    pub(crate) key: StatementKey,
}

impl Pair {
    pub(crate) fn new() -> Self {
        let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_ASN1_SIGNING).unwrap();
        // SubjectPublicKeyInfo of a P-256 point: a fixed header and the point.
        let mut spki = hex::decode("3059301306072a8648ce3d020106082a8648ce3d030107034200").unwrap();
        spki.extend(pair.public_key().as_ref());
        let key = StatementKey::from_spki_der(&spki).unwrap();
        Self { pair, spki, key }
    }

    pub(crate) fn sign(&self, message: &[u8]) -> Vec<u8> {
        let signature = self.pair.sign(&SystemRandom::new(), message).unwrap();
        signature.as_ref().to_vec()
    }

    pub(crate) fn statement_key(&self) -> StatementKey {
        self.key.clone()
    }
}

pub(crate) fn at(s: i64) -> UnixSeconds {
    UnixSeconds::new(s).unwrap()
}

/// A statement with every field filled, signed by `signer` in name only.
pub(crate) fn full_statement(signer: &Pair) -> StatementTbs {
    StatementTbs {
        signer_key_hash: *signer.statement_key().sha256(),
        service: "Countersign at sign.example".into(),
        tenant: [0x11; 16],
        subscriber: "acme".into(),
        audience: "ca.example".into(),
        order: Order {
            id: "order-ä-7".into(),
            nonce: (0..32).collect(),
        },
        issued_at: at(1_795_294_775),
        expires_at: at(1_795_381_175),
        csr_info_hash: [0x22; 32],
        key: KeyStatement {
            id: [0x33; 16],
            spki_hash: [0x44; 32],
            isolation: Isolation::SharedToken,
            mechanism: "CKM_EC_KEY_PAIR_GEN".into(),
            attributes: vec![
                AttributeClaim {
                    attribute: "CKA_ALWAYS_SENSITIVE".into(),
                    seen: "true".into(),
                },
                AttributeClaim {
                    attribute: "CKA_EXTRACTABLE".into(),
                    seen: "false".into(),
                },
            ],
        },
        device: Device {
            software: true,
            manufacturer: "SoftHSM project".into(),
            model: "SoftHSM v2".into(),
            serial: "1f2e3d4c".into(),
            firmware: "2.6".into(),
        },
        log: LogAnchor {
            origin: "localhost:8443/log/0190".into(),
            verifier_key: "localhost:8443/log/0190+00c0ffee+AQID".into(),
            size: 1_000_000,
            root: [0x55; 32],
        },
        practice_statement_hash: Some([0x66; 32]),
        audit: Some(Audit {
            scheme: "WebTrust CS BR".into(),
            from: at(1_700_000_000),
            to: at(1_731_000_000),
        }),
    }
}

/// The info of a request for `key` with `attributes`, to be signed.
pub(crate) fn csr_info(
    key: &Pair,
    organization: &str,
    attributes: Vec<Attribute>,
) -> CsrToBeSigned {
    CsrBuilder {
        subject: Subject {
            common_name: organization.to_owned(),
            organization: organization.to_owned(),
            country: "DE".to_owned(),
            locality: Some("Berlin".to_owned()),
            state: None,
        },
        public_key: PublicKey::from_spki_der(&key.spki).unwrap(),
        attributes,
    }
    .build()
    .unwrap()
}

pub(crate) fn csr(key: &Pair, organization: &str, attributes: Vec<Attribute>) -> Vec<u8> {
    let tbs = csr_info(key, organization, attributes);
    tbs.finish(&key.sign(&tbs.info_der)).unwrap()
}

pub(crate) fn attribute(bundle: &AttestationBundle) -> Attribute {
    Attribute::single(ID_AA_ATTESTATION, bundle.encode().unwrap())
}
