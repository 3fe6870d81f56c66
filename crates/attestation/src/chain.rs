//! Chains of fixed shape, from evidence to a pinned anchor.
//!
//! A key that lives in a device can often sign a look-alike certificate, so no path is searched: a
//! format says which certificate stands where, and who may end the chain. Each signature is
//! verified over the original bytes. The way ends in one of four places ([`End`]): an anchor; a
//! self-signed certificate that is no anchor; something broken; or a certificate whose issuer is
//! not at hand.

use crate::anchors::{Anchor, Anchors, Role};
use crate::certificate::Certificate;
use crate::key::PublicKey;
use crate::result::{Check, Outcome, Rule};
use crate::signature::Work;
use crate::time::UnixSeconds;
use crate::verify::PartId;

/// Judges one certificate for its place; the error says what is wrong with it.
pub type Fits<'s> = &'s dyn Fn(&Certificate) -> Result<(), String>;

/// A certificate that may stand above the leaf.
#[derive(Debug, Clone, Copy)]
pub struct Candidate<'a> {
    /// Where it came from; `None` for one inside a vendor's container.
    pub part: Option<PartId>,
    /// The certificate.
    pub certificate: &'a Certificate,
}

/// One place of a chain, from the leaf upwards.
pub struct Place<'s> {
    /// What stands here, in words.
    pub role: &'static str,
    /// What it must be.
    pub fits: Fits<'s>,
    /// Which anchors may have signed it; `None` if its issuer is never an anchor.
    pub signed_by: Option<Role>,
}

/// The shape of a chain and how it is looked at.
pub struct Shape<'s> {
    /// The product line whose anchors count.
    pub line: &'s str,
    /// The places, leaf first.
    pub places: &'s [Place<'s>],
    /// Whether signatures with SHA-1 count. Only where a maker is known to sign so.
    pub allow_sha1: bool,
    /// The moment each certificate must be valid at; `None` where the maker's policy does not look
    /// at time.
    pub at: Option<UnixSeconds>,
}

/// Where a chain ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum End<'a> {
    /// At an anchor.
    Anchor(&'a Anchor),
    /// At a self-signed certificate that is no anchor.
    Unpinned(String),
    /// At something wrong.
    Broken(String),
    /// The next certificate is not at hand.
    Missing(String),
}

/// A chain as far as it could be followed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chain<'a> {
    /// The certificates above the leaf.
    pub above: Vec<&'a Certificate>,
    /// Where they came from.
    pub used: Vec<PartId>,
    /// Where it ends.
    pub end: End<'a>,
    names: Vec<String>,
    sha1: bool,
}

impl<'a> Chain<'a> {
    /// Pass at an anchor, unknown if a certificate is missing, else fail.
    #[must_use]
    pub const fn outcome(&self) -> Outcome {
        match self.end {
            End::Anchor(_) => Outcome::Pass,
            End::Missing(_) => Outcome::Unknown,
            End::Unpinned(_) | End::Broken(_) => Outcome::Fail,
        }
    }

    /// The check of `rule` on this chain.
    #[must_use]
    pub fn check(&self, rule: &Rule) -> Check {
        rule.outcome(self.outcome(), self.seen())
    }

    /// What was seen, in words.
    #[must_use]
    pub fn seen(&self) -> String {
        let way = self.names.join(" <- ");
        match &self.end {
            End::Anchor(a) => format!("{way} <- {}", a.describe()),
            End::Unpinned(s) | End::Broken(s) | End::Missing(s) => format!("{way}: {s}"),
        }
    }

    /// The anchor, if it was reached.
    #[must_use]
    pub const fn anchor(&self) -> Option<&'a Anchor> {
        match self.end {
            End::Anchor(a) => Some(a),
            _ => None,
        }
    }

    /// Names from the leaf to the last certificate, for [`crate::result::Facts::chain`].
    #[must_use]
    pub fn names(&self) -> Vec<String> {
        self.names.clone()
    }

    /// Whether a signature in it rests on SHA-1.
    #[must_use]
    pub const fn rests_on_sha1(&self) -> bool {
        self.sha1
    }

    /// How good an end is, when two certificates with the same key part the ways. A failure counts
    /// before a gap: what is at hand and wrong must not hide behind what is missing.
    const fn rank(&self) -> u8 {
        match self.end {
            End::Anchor(_) => 0,
            End::Unpinned(_) => 1,
            End::Broken(_) => 2,
            End::Missing(_) => 3,
        }
    }
}

/// Follows the chain of `leaf` through `candidates` by `shape` to one of `anchors`.
#[must_use]
pub fn walk<'a>(
    work: &Work,
    leaf: &'a Certificate,
    candidates: &[Candidate<'a>],
    anchors: &'a Anchors,
    shape: &Shape<'_>,
) -> Chain<'a> {
    let walk = Walk {
        work,
        candidates,
        anchors,
        shape,
    };
    walk.from(leaf, 0, Vec::new())
}

struct Walk<'a, 'w> {
    work: &'w Work,
    candidates: &'w [Candidate<'a>],
    anchors: &'a Anchors,
    shape: &'w Shape<'w>,
}

impl<'a> Walk<'a, '_> {
    /// `depth` certificates stand below `this`. Recursion ends with the shape's places.
    fn from(&self, this: &'a Certificate, depth: usize, below: Vec<Candidate<'a>>) -> Chain<'a> {
        let end = |end: End<'a>| self.chain(this, &below, end);
        let Some(place) = self.shape.places.get(depth) else {
            let n = self.shape.places.len();
            return end(End::Broken(format!(
                "the chain is longer than its {n} certificates"
            )));
        };
        let named =
            |what: String| End::Broken(format!("{} ({}): {what}", place.role, this.subject()));
        if let Err(e) = (place.fits)(this) {
            return end(named(e));
        }
        if let Some(at) = self.shape.at
            && !this.is_valid_at(at)
        {
            let (from, to) = (this.not_before(), this.not_after());
            return end(named(format!("valid {from} to {to}, not at {at}")));
        }
        match this.algorithm() {
            Ok(a) if a.is_legacy() && !self.shape.allow_sha1 => {
                return end(named(format!(
                    "signed by {}, which does not count",
                    a.name()
                )));
            }
            Ok(_) => {}
            Err(e) => return end(named(e.to_string())),
        }
        match self.anchor(this, place) {
            Ok(Some(a)) => return end(End::Anchor(a)),
            Ok(None) => {}
            Err(e) => return end(named(e)),
        }
        let is_last = depth + 1 == self.shape.places.len();
        self.issuer(this, place, depth, is_last, &below)
    }

    /// The anchor that signed `this`, if one did. An error if an anchor of the issuer's name did
    /// not: no other certificate can mend that, unless one of that name is at hand.
    fn anchor(&self, this: &Certificate, place: &Place<'_>) -> Result<Option<&'a Anchor>, String> {
        let Some(role) = place.signed_by else {
            return Ok(None);
        };
        let issuer = this.issuer().to_string();
        let mut wrong = None;
        for a in self.anchors.serving(self.shape.line, role) {
            // An added bare key has no name to compare.
            if a.name().is_empty() || a.name() == issuer {
                match this.verify(self.work, a.key()) {
                    Ok(()) => return Ok(Some(a)),
                    Err(e) if !a.name().is_empty() => wrong = Some(e),
                    Err(_) => {}
                }
            }
        }
        match wrong {
            Some(e) if !self.named(this).any(|c| *c.certificate != *this) => {
                Err(format!("the anchor \"{issuer}\" did not sign it: {e}"))
            }
            _ => Ok(None),
        }
    }

    fn named<'s>(
        &'s self,
        this: &'s Certificate,
    ) -> impl Iterator<Item = Candidate<'a>> + use<'a, 's> {
        self.candidates
            .iter()
            .filter(|c| c.certificate.subject().matches(this.issuer()))
            .copied()
    }

    fn issuer(
        &self,
        this: &'a Certificate,
        place: &Place<'_>,
        depth: usize,
        is_last: bool,
        below: &[Candidate<'a>],
    ) -> Chain<'a> {
        let end = |end: End<'a>| self.chain(this, below, end);
        let mut failure = None;
        let mut best: Option<Chain<'a>> = None;
        let mut tried: Vec<&Certificate> = Vec::new();
        for c in self.named(this) {
            if tried.contains(&c.certificate) {
                continue;
            }
            tried.push(c.certificate);
            let signed = match c.certificate.key() {
                Ok(key) => this.verify(self.work, &key).map_err(|e| e.to_string()),
                Err(e) => Err(e.to_string()),
            };
            match signed {
                Err(e) => failure = Some(e),
                Ok(()) if c.certificate == this => {
                    return end(End::Unpinned(format!(
                        "ends in the self-signed \"{}\", which is no pinned anchor of {}",
                        this.subject(),
                        self.shape.line
                    )));
                }
                Ok(()) if is_last => {
                    let issuer = c.certificate.subject();
                    let self_signed = c
                        .certificate
                        .key()
                        .is_ok_and(|k| c.certificate.verify(self.work, &k).is_ok());
                    let found = self.chain(
                        this,
                        below,
                        if self_signed {
                            End::Unpinned(format!(
                                "ends in the self-signed \"{issuer}\", which is no pinned anchor of {}",
                                self.shape.line
                            ))
                        } else {
                            End::Broken(format!(
                                "goes on to \"{issuer}\" where a pinned anchor of {} belongs",
                                self.shape.line
                            ))
                        },
                    );
                    keep(&mut best, found);
                }
                Ok(()) => {
                    let mut next = below.to_vec();
                    next.push(c);
                    // The path grows by what stands above; `below` holds those from above the leaf.
                    let found = self.from(c.certificate, depth + 1, next);
                    let anchored = found.anchor().is_some();
                    keep(&mut best, found.under(this));
                    if anchored {
                        break;
                    }
                }
            }
        }
        match (best, failure) {
            (Some(chain), _) => chain,
            (None, Some(e)) => end(End::Broken(format!(
                "{}: \"{}\" is at hand, but did not sign it: {e}",
                place.role,
                this.issuer()
            ))),
            (None, None) => end(End::Missing(format!(
                "the certificate of its issuer \"{}\" is not at hand",
                this.issuer()
            ))),
        }
    }

    fn chain(&self, this: &'a Certificate, above: &[Candidate<'a>], end: End<'a>) -> Chain<'a> {
        Chain {
            above: above.iter().map(|c| c.certificate).collect(),
            used: above.iter().filter_map(|c| c.part).collect(),
            end,
            names: vec![this.subject().to_string()],
            sha1: this.algorithm().is_ok_and(|a| a.is_legacy()),
        }
    }
}

impl<'a> Chain<'a> {
    /// The same chain seen from one certificate lower.
    fn under(mut self, lower: &Certificate) -> Self {
        self.names.insert(0, lower.subject().to_string());
        self.sha1 |= lower.algorithm().is_ok_and(|a| a.is_legacy());
        self
    }
}

fn keep<'a>(best: &mut Option<Chain<'a>>, found: Chain<'a>) {
    if best.as_ref().is_none_or(|b| found.rank() < b.rank()) {
        *best = Some(found);
    }
}

/// The key of a certificate, or the words for why it has none.
///
/// # Errors
/// In words.
pub fn key_of(certificate: &Certificate) -> Result<PublicKey, String> {
    certificate.key().map_err(|e| e.to_string())
}
