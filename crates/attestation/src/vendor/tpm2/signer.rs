//! Who signed a statement: the certificate or the public area whose key verifies it.

use super::ak::{AK_USAGE, has_usage};
use super::attest::MAGIC;
use super::container::{Statement, publics};
use super::creation::CreationData;
use super::public::Public;
use super::signature::Signature;
use super::signed;
use crate::anchors::{Anchor, Anchors};
use crate::certificate::Certificate;
use crate::key::PublicKey;
use crate::signature::{Algorithm, Work};
use crate::verify::{Content, PartId, Pool};

/// Most signatures and signers tried for a statement in loose files.
const MAX_TRIED: usize = 8;

/// What came of looking for the signer.
pub(super) enum Signer<'a> {
    /// A certificate's key.
    Certificate {
        certificate: &'a Certificate,
        part: Option<PartId>,
        algorithm: Algorithm,
        signature: Option<PartId>,
    },
    /// The key of a public area without a certificate.
    PublicArea {
        public: Public<'a>,
        part: Option<PartId>,
        algorithm: Algorithm,
        signature: Option<PartId>,
    },
    /// A key that the verifier gave as an anchor, and nothing else of it is at hand.
    Anchor {
        anchor: &'a Anchor,
        algorithm: Algorithm,
        signature: Option<PartId>,
    },
    /// A signature and a signer are at hand and do not fit.
    Wrong(String),
    /// Something is not at hand.
    Missing(&'static str),
}

/// The signer of a statement in a request or in loose files. `subject` is the attested public area:
/// an attestation key may have certified itself.
pub(super) fn find<'a>(
    work: &Work,
    pool: &'a Pool,
    anchors: &'a Anchors,
    statement: &Statement<'a>,
    attest: &[u8],
    subject: Option<&Public<'a>>,
) -> Signer<'a> {
    let signatures = match statement.signature {
        Some(bytes) => vec![(None, bytes)],
        None => loose_signatures(pool),
    };
    if signatures.is_empty() {
        return Signer::Missing("no signature over the statement is at hand");
    }
    let mut last = None;
    let (aks, others): (Vec<_>, Vec<_>) = pool
        .certificates()
        .partition(|(_, c)| has_usage(c, AK_USAGE).unwrap_or(false));
    // A certificate without the usage may be a look-alike: found here, it fails by name later.
    let others = others
        .into_iter()
        .filter(|(_, c)| !matches!(c.basic_constraints(), Ok(Some((true, _)))));
    for (part, certificate) in aks
        .iter()
        .copied()
        .take(MAX_TRIED)
        .chain(others.take(MAX_TRIED))
    {
        let Ok(key) = certificate.key() else { continue };
        for (id, signature) in &signatures {
            match try_one(work, &key, attest, signature) {
                Ok(algorithm) => {
                    return Signer::Certificate {
                        certificate,
                        part: Some(part),
                        algorithm,
                        signature: *id,
                    };
                }
                Err(e) if aks.iter().any(|(p, _)| *p == part) => last = e.or(last),
                Err(_) => {}
            }
        }
    }
    let areas = publics(pool)
        .map(|(id, p)| (Some(id), p))
        .chain(subject.map(|p| (None, p.clone())))
        .filter(|(_, p)| p.attributes.restricted() && p.attributes.sign());
    let mut any_area = false;
    for (part, public) in areas.take(MAX_TRIED) {
        let Ok(key) = public.key.key() else { continue };
        any_area = true;
        for (id, signature) in &signatures {
            match try_one(work, &key, attest, signature) {
                Ok(algorithm) => {
                    return Signer::PublicArea {
                        public,
                        part,
                        algorithm,
                        signature: *id,
                    };
                }
                Err(e) => last = e.or(last),
            }
        }
    }
    // A CA that made the attestation key answer its challenge may pin the bare key.
    for anchor in anchors.iter().filter(|a| a.is_for_all()).take(MAX_TRIED) {
        for (id, signature) in &signatures {
            if let Ok(algorithm) = try_one(work, anchor.key(), attest, signature) {
                return Signer::Anchor {
                    anchor,
                    algorithm,
                    signature: *id,
                };
            }
        }
    }
    match last {
        Some(e) => Signer::Wrong(e),
        None if !aks.is_empty() || any_area => {
            Signer::Wrong("no signature at hand is of the attestation key's kind".to_owned())
        }
        None => Signer::Missing(
            "neither a certificate nor the public area of the attestation key is at hand",
        ),
    }
}

/// Tries one signature; an error without words means that it cannot be this key's by its form.
fn try_one(
    work: &Work,
    key: &PublicKey,
    attest: &[u8],
    signature: &[u8],
) -> Result<Algorithm, Option<String>> {
    let fits = Signature::parse(signature).is_ok()
        || match key {
            PublicKey::Rsa { n, .. } => signature.len() == n.len(),
            _ => signature.first() == Some(&0x30),
        };
    if !fits {
        return Err(None);
    }
    signed::verify(work, key, None, attest, signature).map_err(Some)
}

/// Files that may be the signature: `TPMT_SIGNATURE`s, or, if there are none, bytes that are
/// nothing else.
fn loose_signatures(pool: &Pool) -> Vec<(Option<PartId>, &[u8])> {
    let loose = |wanted: &dyn Fn(&[u8]) -> bool| -> Vec<(Option<PartId>, &[u8])> {
        pool.parts()
            .filter(|(_, p)| matches!(p.content, Content::Binary | Content::Der | Content::Cbor))
            .map(|(id, p)| (Some(id), p.bytes.as_slice()))
            .filter(|(_, bytes)| wanted(bytes))
            .take(MAX_TRIED)
            .collect()
    };
    let marked = loose(&|bytes| Signature::parse(bytes).is_ok());
    if !marked.is_empty() {
        return marked;
    }
    loose(&|bytes| {
        (64..=1024).contains(&bytes.len())
            && !bytes.starts_with(&MAGIC)
            && Public::parse(bytes).is_err()
            && CreationData::parse(bytes).is_err()
    })
}
