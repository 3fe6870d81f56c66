//! A TPM that presents itself: its endorsement certificate and the attestation key it wants a
//! certificate for. What a CA checks before it makes a challenge ([`super::credential`]).
//!
//! Nothing here ties the two keys together: the answer to the challenge does.

use super::ak::{self, Device, fits_ek, fits_ek_ca};
use super::public::{Public, Scheme};
use super::{credential, rules};
use crate::anchors::tpm2::LINE_EK;
use crate::anchors::{Anchors, Role};
use crate::certificate::Certificate;
use crate::chain::{Candidate, Place, Shape, walk};
use crate::key::PublicKey;
use crate::result::{Check, Outcome, Verdict};
use crate::signature::{Hash, Work};
use crate::time::UnixSeconds;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

/// Most certificates a device may present.
pub const MAX_ENDORSEMENT: usize = 8;
/// Longest `TPMT_PUBLIC` read; that of an RSA-4096 key has some 600 bytes.
pub const MAX_PUBLIC: usize = 1024;

/// What a device presents, and by what it is judged.
#[derive(Debug, Clone, Copy)]
pub struct Presented<'a> {
    /// The endorsement key's certificate, DER, then its issuers.
    pub endorsement: &'a [Vec<u8>],
    /// `TPMT_PUBLIC` of the attestation key.
    pub attestation_key: &'a [u8],
    /// The roots that certify endorsement keys ([`Anchors::add_endorsement_roots`]).
    pub anchors: &'a Anchors,
    /// The moment of appraisal.
    pub at: UnixSeconds,
}

/// What came of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// Each check.
    pub checks: Vec<Check>,
    /// Only with [`Verdict::Accept`] may a challenge be made.
    pub verdict: Verdict,
    /// The keys, if both could be read.
    pub keys: Option<Keys>,
}

/// The keys of a device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Keys {
    /// The endorsement key.
    pub endorsement: PublicKey,
    /// The attestation key.
    pub attestation: PublicKey,
    /// The attestation key's Name, for the challenge.
    pub name: Vec<u8>,
    /// What the endorsement certificate says of the TPM.
    pub device: Device,
}

/// The permanent identifier of a TPM (RFC 4043): `urn:ek:sha256:` and the base64 SHA-256 of its
/// endorsement key's SubjectPublicKeyInfo, as smallstep's programs write it. The TCG has no form of its own.
#[must_use]
pub fn permanent_identifier(endorsement_key_sha256: &[u8; 32]) -> String {
    format!("urn:ek:sha256:{}", STANDARD.encode(endorsement_key_sha256))
}

/// The permanent identifier of the TPM with this endorsement certificate, DER. It is read, not judged.
///
/// # Errors
/// In words, if that is no certificate of a key that is known.
pub fn identifier_of(endorsement: &[u8]) -> Result<String, String> {
    let certificate = Certificate::from_der(endorsement).map_err(|e| e.to_string())?;
    let key = certificate.key().map_err(|e| e.to_string())?;
    Ok(permanent_identifier(&key.spki_sha256()))
}

/// Appraises a device's identity.
#[must_use]
pub fn appraise_identity(presented: &Presented<'_>) -> Identity {
    let mut checks = Vec::new();
    let endorsement = endorsement(presented, &mut checks);
    let attestation = attestation(presented.attestation_key, &mut checks);
    let verdict = Verdict::over(&checks);
    let keys = endorsement
        .zip(attestation)
        .map(|((endorsement, device), (attestation, name))| Keys {
            endorsement,
            attestation,
            name,
            device,
        });
    Identity {
        checks,
        verdict,
        keys,
    }
}

fn endorsement(presented: &Presented<'_>, checks: &mut Vec<Check>) -> Option<(PublicKey, Device)> {
    let n = presented.endorsement.len();
    let read = || -> Result<Vec<Certificate>, String> {
        if !(1..=MAX_ENDORSEMENT).contains(&n) {
            return Err(format!(
                "{n} certificates, 1 to {MAX_ENDORSEMENT} are taken"
            ));
        }
        let each = presented.endorsement.iter().enumerate();
        each.map(|(i, der)| {
            Certificate::from_der(der).map_err(|e| format!("endorsement[{i}]: {e}"))
        })
        .collect()
    };
    let certificates = match read() {
        Ok(c) => c,
        Err(seen) => {
            checks.push(rules::EK_CHAIN.check(false, seen));
            return None;
        }
    };
    let (leaf, above) = certificates.split_first()?;
    let candidates: Vec<Candidate<'_>> = above
        .iter()
        .map(|certificate| Candidate {
            part: None,
            certificate,
        })
        .collect();
    let ca = |fits| Place {
        role: "endorsement key CA",
        fits,
        signed_by: Some(Role::Root),
    };
    let shape = Shape {
        line: LINE_EK,
        places: &[
            Place {
                role: "endorsement key certificate",
                fits: &fits_ek,
                signed_by: Some(Role::Root),
            },
            ca(&|c| fits_ek_ca(c, 1)),
            ca(&|c| fits_ek_ca(c, 2)),
            ca(&|c| fits_ek_ca(c, 3)),
        ],
        allow_sha1: false,
        at: Some(presented.at),
    };
    let work = Work::default();
    let chain = walk(&work, leaf, &candidates, presented.anchors, &shape);
    checks.push(chain.check(&rules::EK_CHAIN));
    let key = match leaf.key() {
        Ok(key) => key,
        Err(e) => {
            checks.push(rules::EK_KEY.check(false, e.to_string()));
            return None;
        }
    };
    checks.push(rules::EK_KEY.check(credential::supports(&key), key.kind()));
    checks.extend(roca(&rules::EK_ROCA, &key));
    ak::device(leaf).ok().map(|device| (key, device))
}

fn attestation(bytes: &[u8], checks: &mut Vec<Check>) -> Option<(PublicKey, Vec<u8>)> {
    let area = if bytes.len() > MAX_PUBLIC {
        Err(format!("{} bytes, at most {MAX_PUBLIC}", bytes.len()))
    } else {
        Public::parse(bytes).map_err(|e| e.to_string())
    };
    let read = area.and_then(|area| {
        let key = area.key.key().map_err(|e| e.to_string())?;
        Ok((area, key))
    });
    let (area, key) = match read {
        Ok(both) => both,
        Err(seen) => {
            checks.push(rules::AK_PUBLIC.check(false, seen));
            return None;
        }
    };
    let kind = key.kind();
    let strong = match &key {
        PublicKey::Rsa { n, .. } => n.len() >= 256,
        PublicKey::Ec { .. } => true,
        PublicKey::Ed25519(_) => false,
    };
    // A restricted signing key has one scheme for life (Part 1 §25.1.5), so its hash is known here.
    let scheme = match area.scheme {
        Scheme::Sign { algorithm, hash } => {
            matches!(algorithm, 0x0014 | 0x0016 | 0x0018) && matches!(hash, 0x000b..=0x000d)
        }
        Scheme::Null | Scheme::Other { .. } => false,
    };
    let holds = strong && scheme && area.name_alg != Hash::Sha1 && !area.has_symmetric;
    let seen = format!("{kind}, {:?}, Name by {:?}", area.scheme, area.name_alg);
    checks.push(rules::AK_PUBLIC.check(holds, seen));
    checks.push(super::appraise::restricted(area.attributes));
    let seen = format!("attributes 0x{:08x}", area.attributes.0);
    checks.push(rules::ATTRIBUTES.check(area.attributes.unknown() == 0, seen));
    checks.extend(roca(&rules::AK_ROCA, &key));
    Some((key, area.name()))
}

fn roca(rule: &crate::result::Rule, key: &PublicKey) -> Option<Check> {
    let PublicKey::Rsa { n, .. } = key else {
        return None;
    };
    let found = countersign_x509::weak::roca(n);
    let sound = found.outcome != countersign_x509::weak::Outcome::Failed;
    Some(rule.outcome(
        if sound { Outcome::Pass } else { Outcome::Fail },
        found.detail,
    ))
}
