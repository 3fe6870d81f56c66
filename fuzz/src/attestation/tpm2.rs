//! TPM 2.0 structures and the containers they come in.

use countersign_attestation::Format as _;
use countersign_attestation::vendor::tpm2::Tpm2;
use countersign_attestation::vendor::tpm2::attest::{Attest, Attested, MAGIC};
use countersign_attestation::vendor::tpm2::creation::CreationData;
use countersign_attestation::vendor::tpm2::public::{Public, PublicId};
use countersign_attestation::vendor::tpm2::signature::{Signature, SignatureValue};
use countersign_attestation::vendor::tpm2::webauthn::AttestationObject;
use countersign_attestation::verify::{File, Pool};

/// A statement: the fields make up its bytes.
pub fn attestation_tpm2_attest(bytes: &[u8]) {
    let Ok(a) = Attest::parse(bytes) else {
        return;
    };
    assert!(bytes.ends_with(a.bytes) && a.bytes.starts_with(&MAGIC));
    // Magic, type, two sizes, clock (17), firmware version.
    let head = 4 + 2 + 2 + a.qualified_signer.len() + 2 + a.extra_data.len() + 17 + 8;
    match a.attested {
        Attested::Certify {
            name,
            qualified_name: other,
        }
        | Attested::Creation {
            name,
            creation_hash: other,
        } => {
            assert_eq!(a.name(), Some(name));
            assert_eq!(head + 4 + name.len() + other.len(), a.bytes.len());
        }
        Attested::Other { .. } => assert!(a.name().is_none() && head <= a.bytes.len()),
    }
}

/// A public area: its Name is of its bytes, its key has the size it states.
pub fn attestation_tpm2_public(bytes: &[u8]) {
    let Ok(p) = Public::parse(bytes) else {
        return;
    };
    assert!(bytes.ends_with(p.bytes));
    assert!(p.name().ends_with(&p.name_alg.of(p.bytes)));
    if let PublicId::Rsa { bits, n, .. } = p.key {
        assert_eq!(n.len() * 8, usize::from(bits));
    }
    let _ = (p.key.key().map(|k| k.kind()), p.attributes.unknown());
}

/// Creation data.
pub fn attestation_tpm2_creation(bytes: &[u8]) {
    let Ok(c) = CreationData::parse(bytes) else {
        return;
    };
    assert!(bytes.ends_with(c.bytes) && c.bytes.ends_with(c.outside_info));
}

/// A signature.
pub fn attestation_tpm2_signature(bytes: &[u8]) {
    let Ok(s) = Signature::parse(bytes) else {
        return;
    };
    let last = match s.value {
        SignatureValue::RsaSsa(b) | SignatureValue::RsaPss(b) => b,
        SignatureValue::Ecdsa { s, .. } => s,
    };
    assert!(bytes.ends_with(last));
}

/// A WebAuthn object, or a TCG statement of a request.
pub fn attestation_tpm2_container(bytes: &[u8]) {
    if let Ok(o) = AttestationObject::parse(bytes) {
        assert!(!o.x5c.is_empty());
    }
    let name = "file";
    let pool = Pool::of(&[File { name, bytes }]);
    for evidence in Tpm2.claim(&pool) {
        assert!(!evidence.parts.is_empty());
        let _ = Tpm2.says(&evidence, &pool);
    }
}
