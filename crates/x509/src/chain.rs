//! Path validation to given roots (RFC 5280 §6), for the two purposes this service knows.
//!
//! Small on purpose: names are compared byte for byte, there is no policy processing and no name
//! constraints, and any critical extension that is not checked here refuses the path. Revocation is
//! not looked up here: this crate has no I/O (the service polls it, design §4.6).

use crate::asn1::ObjectIdentifier;
use crate::cert::Certificate;
use crate::oid;
use crate::verify::VerifyError;
use countersign_core::Micros;

/// What the leaf is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// Signing code (`id-kp-codeSigning`).
    CodeSigning,
    /// Signing RFC 3161 timestamps (`id-kp-timeStamping`, critical and alone: RFC 3161 §2.3).
    TimeStamping,
}

/// A path that was checked: leaf first, root last.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VerifiedChain {
    /// The certificates.
    pub certs: Vec<Certificate>,
}

/// Why there is no valid path. Retrying cannot help, except for [`ChainError::NotYetValid`], and
/// for [`ChainError::NoPath`] when the missing intermediate is supplied.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ChainError {
    /// More certificates than are looked at.
    #[error("{given} certificates given, at most {max} are looked at")]
    TooManyCertificates {
        /// How many came.
        given: usize,
        /// How many are looked at.
        max: usize,
    },
    /// No issuer with the right name leads to a given root.
    #[error("no path from \"{subject}\" to a trusted root: no issuer \"{issuer}\" was found")]
    NoPath {
        /// Where the search got stuck.
        subject: String,
        /// The issuer it looked for.
        issuer: String,
    },
    /// The path would be longer than [`MAX_DEPTH`].
    #[error("the path is longer than {MAX_DEPTH} certificates")]
    TooDeep,
    /// Too many candidate signatures had to be tried.
    #[error("too many candidate paths")]
    TooManyCandidates,
    /// A signature does not verify with the issuer's key.
    #[error("signature on \"{subject}\": {reason}")]
    Signature {
        /// Whose certificate.
        subject: String,
        /// Why not.
        reason: VerifyError,
    },
    /// Not valid yet. A retry later can help.
    #[error("\"{subject}\" is not valid yet")]
    NotYetValid {
        /// Whose certificate.
        subject: String,
    },
    /// Not valid any more.
    #[error("\"{subject}\" has expired")]
    Expired {
        /// Whose certificate.
        subject: String,
    },
    /// An issuer that is no CA (RFC 5280 §4.2.1.9).
    #[error("\"{subject}\" is not a CA")]
    NotCa {
        /// Whose certificate.
        subject: String,
    },
    /// A CA below one whose `pathLenConstraint` does not allow it.
    #[error("\"{subject}\" allows fewer CAs below it")]
    PathLength {
        /// Whose constraint.
        subject: String,
    },
    /// `keyUsage` is missing or lacks the needed bit.
    #[error("key usage of \"{subject}\" does not allow this")]
    KeyUsage {
        /// Whose certificate.
        subject: String,
    },
    /// `extKeyUsage` does not allow the purpose.
    #[error("extended key usage of \"{subject}\" does not allow this")]
    ExtendedKeyUsage {
        /// Whose certificate.
        subject: String,
    },
    /// A critical extension that is not checked here.
    #[error("\"{subject}\" has the unknown critical extension {extension}")]
    UnknownCriticalExtension {
        /// Whose certificate.
        subject: String,
        /// Which extension.
        extension: ObjectIdentifier,
    },
}

/// The longest path: leaf, four intermediates, root.
pub const MAX_DEPTH: usize = 6;
/// How many intermediates are looked at.
pub const MAX_INTERMEDIATES: usize = 16;
/// How many roots are looked at.
pub const MAX_ROOTS: usize = 64;

/// Finds and checks a path from `leaf` over `intermediates` to one of `roots`, valid at `at`.
///
/// Every certificate on it is checked, the root too: signature over the original bytes, names,
/// validity, CA bit and path length, key usage, extended key usage (where an issuer states one, it
/// must allow the purpose), no unknown critical extension.
///
/// # Errors
/// [`ChainError`]. When several paths fail, the error of the one that got furthest.
pub fn verify_chain(
    leaf: &Certificate,
    intermediates: &[Certificate],
    roots: &[Certificate],
    at: Micros,
    purpose: Purpose,
) -> Result<VerifiedChain, ChainError> {
    for (given, max) in [
        (intermediates.len(), MAX_INTERMEDIATES),
        (roots.len(), MAX_ROOTS),
    ] {
        if given > max {
            return Err(ChainError::TooManyCertificates { given, max });
        }
    }
    check_leaf(leaf, at, purpose)?;
    let mut search = Search {
        intermediates,
        roots,
        at,
        purpose,
        signatures_left: MAX_SIGNATURES,
        furthest: None,
    };
    let mut path = vec![leaf];
    if search.extend(&mut path) {
        return Ok(VerifiedChain {
            certs: path.into_iter().cloned().collect(),
        });
    }
    Err(match search.furthest {
        Some((_, e)) => e,
        None => ChainError::NoPath {
            subject: leaf.subject_text(),
            issuer: leaf.issuer_text(),
        },
    })
}

/// Enough for 16 intermediates with the same name, and an end to hostile bundles.
const MAX_SIGNATURES: usize = 64;

struct Search<'a> {
    intermediates: &'a [Certificate],
    roots: &'a [Certificate],
    at: Micros,
    purpose: Purpose,
    signatures_left: usize,
    furthest: Option<(usize, ChainError)>,
}

impl<'a> Search<'a> {
    /// Depth first; the depth is at most [`MAX_DEPTH`], the work at most [`MAX_SIGNATURES`].
    fn extend(&mut self, path: &mut Vec<&'a Certificate>) -> bool {
        let Some(&last) = path.last() else {
            return false;
        };
        if path.len() >= MAX_DEPTH {
            self.failed(path.len(), ChainError::TooDeep);
            return false;
        }
        let (roots, intermediates) = (self.roots, self.intermediates);
        let mut found = false;
        for root in roots
            .iter()
            .filter(|c| c.subject_der() == last.issuer_der())
        {
            found = true;
            match self.step(path, last, root) {
                Ok(()) => {
                    path.push(root);
                    return true;
                }
                Err(e) => self.failed(path.len() + 1, e),
            }
        }
        for next in intermediates
            .iter()
            .filter(|c| c.subject_der() == last.issuer_der())
        {
            // The same certificate twice would be a loop.
            if path.iter().any(|c| c.der() == next.der()) || roots.contains(next) {
                continue;
            }
            found = true;
            match self.step(path, last, next) {
                Ok(()) => {
                    path.push(next);
                    if self.extend(path) {
                        return true;
                    }
                    path.pop();
                }
                Err(e) => self.failed(path.len(), e),
            }
        }
        if !found {
            let e = ChainError::NoPath {
                subject: last.subject_text(),
                issuer: last.issuer_text(),
            };
            self.failed(path.len(), e);
        }
        false
    }

    fn step(
        &mut self,
        path: &[&Certificate],
        last: &Certificate,
        issuer: &Certificate,
    ) -> Result<(), ChainError> {
        check_issuer(path, issuer, self.at, self.purpose)?;
        self.signatures_left = self
            .signatures_left
            .checked_sub(1)
            .ok_or(ChainError::TooManyCandidates)?;
        last.verify_issued_by(issuer)
            .map_err(|reason| ChainError::Signature {
                subject: last.subject_text(),
                reason,
            })
    }

    fn failed(&mut self, depth: usize, e: ChainError) {
        if self.furthest.as_ref().is_none_or(|(d, _)| depth > *d) {
            self.furthest = Some((depth, e));
        }
    }
}

fn check_leaf(leaf: &Certificate, at: Micros, purpose: Purpose) -> Result<(), ChainError> {
    check_common(leaf, at)?;
    let subject = || leaf.subject_text();
    if leaf.known().basic_constraints.is_some_and(|b| b.ca) {
        return Err(ChainError::KeyUsage { subject: subject() });
    }
    // RFC 5280 §4.2.1.3: where keyUsage is present, it must allow signatures.
    if leaf.known().key_usage.is_some_and(|u| !u.digital_signature) {
        return Err(ChainError::KeyUsage { subject: subject() });
    }
    let eku = leaf
        .known()
        .extended_key_usage
        .as_deref()
        .unwrap_or_default();
    let allowed = match purpose {
        Purpose::CodeSigning => eku.contains(&oid::CODE_SIGNING),
        Purpose::TimeStamping => {
            // RFC 3161 §2.3: critical, and id-kp-timeStamping alone.
            *eku == [oid::TIME_STAMPING]
                && leaf
                    .extension(&oid::EXTENDED_KEY_USAGE)
                    .is_some_and(|e| e.critical)
        }
    };
    if allowed {
        Ok(())
    } else {
        Err(ChainError::ExtendedKeyUsage { subject: subject() })
    }
}

fn check_issuer(
    path: &[&Certificate],
    issuer: &Certificate,
    at: Micros,
    purpose: Purpose,
) -> Result<(), ChainError> {
    check_common(issuer, at)?;
    let subject = || issuer.subject_text();
    let constraints = match issuer.known().basic_constraints {
        Some(b) if b.ca => b,
        _ => return Err(ChainError::NotCa { subject: subject() }),
    };
    if !issuer.known().key_usage.is_some_and(|u| u.key_cert_sign) {
        return Err(ChainError::KeyUsage { subject: subject() });
    }
    // RFC 5280 §4.2.1.9: CA certificates below this one, self-issued ones not counted.
    let below = path.iter().skip(1).filter(|c| !c.is_self_issued()).count();
    if constraints
        .path_len
        .is_some_and(|max| below > usize::from(max))
    {
        return Err(ChainError::PathLength { subject: subject() });
    }
    let wanted = match purpose {
        Purpose::CodeSigning => oid::CODE_SIGNING,
        Purpose::TimeStamping => oid::TIME_STAMPING,
    };
    match &issuer.known().extended_key_usage {
        Some(eku) if !eku.contains(&wanted) && !eku.contains(&oid::ANY_EXTENDED_KEY_USAGE) => {
            Err(ChainError::ExtendedKeyUsage { subject: subject() })
        }
        _ => Ok(()),
    }
}

fn check_common(c: &Certificate, at: Micros) -> Result<(), ChainError> {
    /// What this module and `profile` check, or what may safely be taken as given.
    const CHECKED: [ObjectIdentifier; 8] = [
        oid::BASIC_CONSTRAINTS,
        oid::KEY_USAGE,
        oid::EXTENDED_KEY_USAGE,
        oid::SUBJECT_KEY_ID,
        oid::AUTHORITY_KEY_ID,
        oid::CERTIFICATE_POLICIES,
        oid::CRL_DISTRIBUTION_POINTS,
        oid::AUTHORITY_INFO_ACCESS,
    ];
    let subject = || c.subject_text();
    if let Some(e) = c
        .extensions()
        .iter()
        .find(|e| e.critical && !CHECKED.contains(&e.oid))
    {
        return Err(ChainError::UnknownCriticalExtension {
            subject: subject(),
            extension: e.oid,
        });
    }
    if at < c.not_before() {
        return Err(ChainError::NotYetValid { subject: subject() });
    }
    if !c.is_valid_at(at) {
        return Err(ChainError::Expired { subject: subject() });
    }
    Ok(())
}

#[cfg(test)]
mod tests;
