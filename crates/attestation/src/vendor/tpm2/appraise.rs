//! From values to checks and facts.

mod attestation_key;
mod webauthn;

pub(super) use attestation_key::restricted;

use super::ak::{self, EK_USAGE};
use super::attest::{Attest, Attested};
use super::container::{Container, Statement, publics, read};
use super::creation::CreationData;
use super::public::Public;
use super::rules;
use crate::anchors::Role;
use crate::anchors::tpm2::LINE_EK;
use crate::certificate::Certificate;
use crate::chain::{Place, Shape, walk};
use crate::key::PublicKey;
use crate::result::{Exportable, Known, Outcome};
use crate::verify::format::said;
use crate::verify::{Context, Findings, PartId};

/// Most endorsement certificates reported.
const MAX_EK: usize = 4;

/// Appraises the statement of a part.
pub(super) fn appraise(id: PartId, cx: &Context<'_>) -> Findings {
    let mut out = Findings::default();
    let Some(part) = cx.pool.get(id) else {
        return out;
    };
    let malformed = |mut out: Findings, what: String| {
        out.checks.push(rules::WELL_FORMED.check(false, what));
        out
    };
    let statement = match read(part) {
        Ok(s) => s,
        Err(e) => return malformed(out, e),
    };
    let attest = match Attest::parse(statement.attest) {
        Ok(a) => a,
        Err(e) => return malformed(out, e.to_string()),
    };
    let public = match statement.public.map(Public::parse).transpose() {
        Ok(p) => p,
        Err(e) => return malformed(out, e.to_string()),
    };
    let x5c = match certificates(&statement) {
        Ok(c) => c,
        Err(e) => return malformed(out, e),
    };
    let words = statement.container.words();
    out.checks.push(rules::WELL_FORMED.check(true, words));
    let mut a = Appraisal {
        cx,
        statement,
        attest,
        out,
    };
    a.mark_copies();
    a.kind();
    let public = a.name(public);
    let key = public.as_ref().and_then(|p| a.bind(p));
    a.creation(public.as_ref());
    let own = a.signature(&x5c, public.as_ref(), key.as_ref());
    a.webauthn(key.as_ref(), x5c.first());
    a.conclude(public.as_ref(), own);
    a.endorsement();
    a.out
}

/// The certificates inside a WebAuthn object.
fn certificates(statement: &Statement<'_>) -> Result<Vec<Certificate>, String> {
    let Container::WebAuthn { x5c, .. } = &statement.container else {
        return Ok(Vec::new());
    };
    x5c.iter()
        .map(|der| Certificate::from_der(der).map_err(|e| format!("x5c: {e}")))
        .collect()
}

struct Appraisal<'a, 'c> {
    cx: &'c Context<'a>,
    statement: Statement<'c>,
    attest: Attest<'c>,
    out: Findings,
}

impl<'c> Appraisal<'_, 'c> {
    /// Loose copies of what stands in a container are parts of the statement, not strangers.
    fn mark_copies(&mut self) {
        let s = &self.statement;
        let x5c: &[&[u8]] = match &s.container {
            Container::WebAuthn { x5c, .. } => x5c,
            _ => &[],
        };
        let copies = [Some(s.attest), s.signature, s.public];
        let is_copy = |bytes: &[u8]| copies.contains(&Some(bytes)) || x5c.contains(&bytes);
        let ids = self.cx.pool.parts().filter(|(_, p)| is_copy(&p.bytes));
        self.out.used.extend(ids.map(|(id, _)| id));
    }

    fn kind(&mut self) {
        let loose = matches!(self.statement.container, Container::Loose);
        let (holds, seen) = match self.attest.attested {
            Attested::Certify { .. } => (true, "TPM2_Certify (0x8017)".to_owned()),
            Attested::Creation { .. } => (
                loose,
                format!(
                    "TPM2_CertifyCreation (0x801a) in {}",
                    self.statement.container.words()
                ),
            ),
            Attested::Other { tag } => (
                false,
                format!("a statement of type 0x{tag:04x}, which is about no key"),
            ),
        };
        self.out.checks.push(rules::KIND.check(holds, seen));
    }

    /// Finds the public area where it does not stand beside, and compares its Name.
    fn name(&mut self, beside: Option<Public<'c>>) -> Option<Public<'c>> {
        let attested = self.attest.name().unwrap_or_default();
        let shown = hex::encode(attested);
        if let Some(public) = beside {
            let name = public.name();
            let seen = if name == attested {
                shown
            } else {
                format!(
                    "attested {shown}, the public area has {}",
                    hex::encode(&name)
                )
            };
            self.out
                .checks
                .push(rules::NAME.check(name == attested, seen));
            return Some(public);
        }
        let pool = self.cx.pool;
        if let Some((id, public)) = publics(pool).find(|(_, p)| p.name() == attested) {
            self.out.used.push(id);
            self.out.checks.push(rules::NAME.check(true, shown));
            return Some(public);
        }
        // A public area that is not an attestation key's was meant to be the attested one.
        let other = publics(pool).find(|(_, p)| !p.attributes.restricted());
        self.out.checks.push(match other {
            Some((id, public)) => {
                self.out.used.push(id);
                let seen = format!(
                    "attested {shown}, the public area at hand ({}) has {}",
                    pool.name(id),
                    hex::encode(public.name())
                );
                rules::NAME.check(false, seen)
            }
            None => rules::NAME.outcome(
                Outcome::Unknown,
                format!("attested {shown}; no public area of that Name is at hand"),
            ),
        });
        None
    }

    fn bind(&mut self, public: &Public<'_>) -> Option<PublicKey> {
        match public.key.key() {
            Ok(key) => {
                self.out.binding = Some(self.cx.bind(&key));
                Some(key)
            }
            Err(e) => {
                let seen = format!("public area: {e}");
                self.out.checks.push(rules::WELL_FORMED.check(false, seen));
                None
            }
        }
    }

    fn creation(&mut self, public: Option<&Public<'_>>) {
        let Attested::Creation { creation_hash, .. } = self.attest.attested else {
            return;
        };
        let given: Vec<_> = self
            .cx
            .pool
            .parts()
            .filter_map(|(id, p)| Some((id, CreationData::parse(p.binary()?).ok()?)))
            .collect();
        // Part 3 §18.3: by the object's nameAlg.
        let hash = public.map(|p| p.name_alg);
        let found = given
            .iter()
            .find(|(_, d)| hash.is_some_and(|h| h.of(d.bytes) == creation_hash));
        let rule = rules::CREATION;
        let check = match (found, given.is_empty()) {
            (Some((id, data)), _) => {
                self.out.used.push(*id);
                self.out.claims.push(said(
                    "tpm.creation.parent-name",
                    hex::encode(data.parent_name),
                ));
                rule.check(true, hex::encode(creation_hash))
            }
            (None, true) => rule.outcome(Outcome::NotChecked, "no creation data are given"),
            (None, false) if hash.is_none() => {
                rule.outcome(Outcome::Unknown, "the public area is not at hand")
            }
            (None, false) => rule.check(
                false,
                format!("{} is the hash of none given", hex::encode(creation_hash)),
            ),
        };
        self.out.checks.push(check);
    }

    /// Attributes of the key, and what is proved.
    fn conclude(&mut self, public: Option<&Public<'_>>, certified_itself: bool) {
        let out = &mut self.out;
        // Everything up to here speaks of whether the statement is the TPM's own.
        let sound = out
            .checks
            .iter()
            .filter(|c| c.name != crate::verify::format::FRESHNESS)
            .all(|c| matches!(c.outcome, Outcome::Pass | Outcome::NotChecked));
        let Some(public) = public else {
            return;
        };
        let a = public.attributes;
        let seen = format!("attributes 0x{:08x}", a.0);
        let cannot_leave = a.fixed_tpm() && a.fixed_parent() && !a.encrypted_duplication();
        out.checks
            .push(rules::ORIGIN.check(a.sensitive_data_origin(), seen.clone()));
        out.checks
            .push(rules::FIXED.check(cannot_leave, seen.clone()));
        out.checks
            .push(rules::ATTRIBUTES.check(a.unknown() == 0, seen.clone()));
        out.checks.push(if certified_itself {
            rules::USE.outcome(
                Outcome::NotChecked,
                format!("{seen}: the key is the attestation key itself"),
            )
        } else {
            rules::USE.check(a.sign() && !a.restricted(), seen)
        });
        let facts = &mut out.facts;
        facts.genuine = if sound { Known::Yes } else { Known::Unknown };
        facts.generated_in_device = match (a.sensitive_data_origin(), cannot_leave) {
            (true, true) => Known::Yes,
            // Made in a TPM, perhaps another one: it may have been duplicated into this one.
            (true, false) => Known::Unknown,
            (false, _) => Known::No,
        };
        facts.exportable = if cannot_leave {
            Exportable::Never
        } else {
            Exportable::Wrapped
        };
        let signs_alone = a.sign() && !a.decrypt() && !public.has_symmetric;
        facts.sign_only = if signs_alone { Known::Yes } else { Known::No };
        let clock = self.attest.clock;
        out.claims
            .push(said("tpm.clock-ms", clock.clock.to_string()));
        out.claims
            .push(said("tpm.reset-count", clock.reset_count.to_string()));
    }

    /// Endorsement certificates: read and reported, no evidence for an attestation key.
    fn endorsement(&mut self) {
        let cx = self.cx;
        let candidates = cx.pool.candidates();
        let of_key = |c: &Certificate| ak::has_usage(c, EK_USAGE).unwrap_or(false);
        let is_ca = |c: &Certificate| match c.basic_constraints() {
            Ok(Some((true, _))) => Ok(()),
            _ => Err("is no CA".to_owned()),
        };
        for (id, ek) in cx
            .pool
            .certificates()
            .filter(|(_, c)| of_key(c))
            .take(MAX_EK)
        {
            let ca = || Place {
                role: "endorsement key CA",
                fits: &is_ca,
                signed_by: Some(Role::Root),
            };
            let shape = Shape {
                line: LINE_EK,
                places: &[
                    Place {
                        role: "endorsement key certificate",
                        fits: &|_| Ok(()),
                        signed_by: Some(Role::Root),
                    },
                    ca(),
                    ca(),
                    ca(),
                ],
                allow_sha1: true,
                at: None,
            };
            let chain = walk(cx.work, ek, &candidates, cx.anchors, &shape);
            self.out.used.push(id);
            self.out.used.extend(&chain.used);
            let tpm = ak::device(ek).map_or_else(
                |e| e,
                |d| format!("{} {} {}", d.vendor(), d.model, d.version),
            );
            let seen = format!(
                "{tpm}; {}; nothing ties it to this attestation key",
                chain.seen()
            );
            let check = rules::EK.outcome(Outcome::NotChecked, seen);
            self.out.checks.push(check);
        }
    }
}
