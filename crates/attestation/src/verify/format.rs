//! Where vendors' evidence plugs in: one [`Format`] per format.
//!
//! A format finds its evidence in the pool by content, in any order, then appraises each find for
//! one public key. It never widens: what it does not understand it refuses or leaves unknown.
//! Roots are pinned or added by the verifier, never taken from evidence.

use super::csr::Csr;
use super::parts::{PartId, Pool};
use crate::anchors::Anchors;
use crate::key::PublicKey;
use crate::result::{Check, Claim, Facts, KnownWeakness, Outcome, Rule, Weakness};
use crate::signature::Work;
use crate::time::UnixSeconds;
use std::borrow::Cow;

/// One piece of evidence of a format: the parts it consists of, the one that names the key first.
/// Certificates above it are looked up during appraisal and need not be listed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Evidence {
    /// The parts.
    pub parts: Vec<PartId>,
}

/// What a format appraises evidence with.
pub struct Context<'a> {
    /// Everything handed in.
    pub pool: &'a Pool,
    /// The key in question.
    pub key: &'a PublicKey,
    /// The request it came in, if it did.
    pub csr: Option<&'a Csr>,
    /// The request's DER, if there is one.
    pub csr_der: Option<&'a [u8]>,
    /// The moment of appraisal.
    pub at: UnixSeconds,
    /// The nonce the verifier gave to whoever made the evidence.
    pub nonce: Option<&'a [u8]>,
    /// Whether evidence of a format that carries no nonce leaves freshness undecided where one was
    /// given. Not so for an order's nonce: request and service statement answer it too.
    pub nonce_needed: bool,
    /// Whom to trust.
    pub anchors: &'a Anchors,
    /// Counts signature verifications.
    pub work: &'a Work,
}

/// What a format found in one piece of evidence. Facts are what the evidence says; the frame turns
/// them into claims unless [`Facts::genuine`] is proved and the key is the one in question.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Findings {
    /// What the evidence says of device and key, `genuine` only if the chain was followed.
    pub facts: Facts,
    /// Checks made.
    pub checks: Vec<Check>,
    /// Whether the evidence is about the key in question; `None` if it names no key.
    pub binding: Option<Binding>,
    /// Known weaknesses.
    pub weaknesses: Vec<Weakness>,
    /// What else is said and nobody proved.
    pub claims: Vec<Claim>,
    /// Every part that was used, those of the evidence and certificates.
    pub used: Vec<PartId>,
    /// CSBR §6.2.7.4.2 methods this supports beyond method 2, which the frame decides.
    pub methods: Vec<u8>,
}

/// Whether evidence is about the key in question.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Binding {
    /// Whether it is the same key.
    pub same: bool,
    /// What was compared.
    pub seen: String,
}

/// One vendor's or standard's format.
pub trait Format: Sync {
    /// Its stable name, for example `yubihsm2`.
    fn id(&self) -> &'static str;
    /// Its name for people.
    fn title(&self) -> &'static str;
    /// Finds evidence of this format. Cheap; judges nothing; may find several.
    fn claim(&self, pool: &Pool) -> Vec<Evidence>;
    /// Appraises one piece for the key in question. Never panics, whatever the bytes.
    fn appraise(&self, evidence: &Evidence, cx: &Context<'_>) -> Findings;
    /// What one piece says, as names and values, without judging it.
    fn says(&self, evidence: &Evidence, pool: &Pool) -> Vec<(String, String)>;
}

impl Context<'_> {
    /// Compares a key that evidence names with the one in question.
    #[must_use]
    pub fn bind(&self, attested: &PublicKey) -> Binding {
        let (a, b) = (attested.spki_sha256(), self.key.spki_sha256());
        Binding {
            same: attested == self.key,
            seen: if attested == self.key {
                format!("{}, SPKI SHA-256 {}", attested.kind(), hex::encode(a))
            } else {
                format!(
                    "the evidence is for {} {}, the key in question is {} {}",
                    attested.kind(),
                    hex::encode(a),
                    self.key.kind(),
                    hex::encode(b)
                )
            },
        }
    }

    /// The freshness check of a format whose evidence carries a nonce as it was given.
    #[must_use]
    pub fn freshness(&self, carried: &[u8], source: &'static str) -> Check {
        let rule = Rule::documented(
            FRESHNESS,
            "the evidence carries the nonce that the verifier gave",
            source,
        );
        match self.nonce {
            None => rule.outcome(
                Outcome::NotChecked,
                format!(
                    "no nonce was given; the evidence carries {}",
                    if carried.is_empty() {
                        "none".to_owned()
                    } else {
                        hex::encode(carried.get(..64).unwrap_or(carried))
                    }
                ),
            ),
            Some(nonce) => rule.check(
                nonce == carried,
                format!(
                    "{} carried, {} given",
                    hex::encode(carried),
                    hex::encode(nonce)
                ),
            ),
        }
    }
}

/// The name of every format's freshness check.
pub const FRESHNESS: &str = "freshness";

/// A published weakness.
#[must_use]
pub fn known_weakness(
    id: &str,
    text: impl Into<String>,
    affects: &[&str],
    source: &str,
    concerns_this_key: bool,
    disqualifying: bool,
) -> Weakness {
    Weakness {
        text: text.into(),
        known: Some(KnownWeakness {
            id: id.to_owned(),
            affects: affects.iter().map(|s| (*s).to_owned()).collect(),
            source: source.to_owned(),
            concerns_this_key,
            disqualifying,
        }),
    }
}

/// Something the evidence says.
#[must_use]
pub fn said(name: impl Into<String>, value: impl Into<String>) -> Claim {
    Claim {
        name: name.into(),
        value: value.into(),
        by: Cow::Borrowed("the evidence"),
    }
}
