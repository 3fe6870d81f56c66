//! Who signed the statement: an attestation key, and up to which anchor.

use super::super::ak::{self, fits_ak, fits_ca};
use super::super::container::{Container, publics};
use super::super::public::{Attributes, Public};
use super::super::signer::{self, Signer};
use super::super::{rules, signed, weakness};
use super::Appraisal;
use crate::anchors::Role;
use crate::anchors::tpm2::LINE_AK;
use crate::certificate::Certificate;
use crate::chain::{Candidate, Place, Shape, walk};
use crate::key::PublicKey;
use crate::result::{Check, Outcome};
use crate::signature::Algorithm;
use crate::verify::format::said;

impl<'c> Appraisal<'_, 'c> {
    /// Verifies the signature and follows the signer. Returns whether the key certified itself.
    pub(super) fn signature(
        &mut self,
        x5c: &[Certificate],
        public: Option<&Public<'c>>,
        key: Option<&PublicKey>,
    ) -> bool {
        let cx = self.cx;
        let attest = self.attest.bytes;
        if let Container::WebAuthn { algorithm, .. } = &self.statement.container {
            let (Some(leaf), Some(signature)) = (x5c.first(), self.statement.signature) else {
                return false;
            };
            let verified = leaf
                .key()
                .map_err(|e| e.to_string())
                .and_then(|k| signed::verify(cx.work, &k, Some(*algorithm), attest, signature));
            match verified {
                Ok(a) => self.signed_by(a, "the first certificate of x5c"),
                Err(e) => self.out.checks.push(rules::SIGNATURE.check(false, e)),
            }
            self.chain(leaf, x5c, key);
            return false;
        }
        match signer::find(
            cx.work,
            cx.pool,
            cx.anchors,
            &self.statement,
            attest,
            public,
        ) {
            Signer::Certificate {
                certificate,
                part,
                algorithm,
                signature,
            } => {
                self.out.used.extend(part);
                self.out.used.extend(signature);
                let who = part.map_or("a certificate", |id| cx.pool.name(id));
                self.signed_by(algorithm, who);
                self.chain(certificate, &[], key);
                false
            }
            Signer::PublicArea {
                public: area,
                part,
                algorithm,
                signature,
            } => {
                self.out.used.extend(part);
                self.out.used.extend(signature);
                let own = public.is_some_and(|p| p.bytes == area.bytes);
                self.signed_by(
                    algorithm,
                    if own {
                        "the attested key itself"
                    } else {
                        "the key of a public area"
                    },
                );
                self.ak_attributes(&area);
                let anchored = area.key.key().is_ok_and(|k| self.pinned(&k));
                if !anchored {
                    self.out.checks.push(rules::AK_CHAIN.outcome(
                        Outcome::Unknown,
                        "the attestation key has no certificate among the evidence and is no anchor: anybody can make such bytes",
                    ));
                }
                own && !anchored
            }
            Signer::Anchor {
                anchor,
                algorithm,
                signature,
            } => {
                self.out.used.extend(signature);
                self.signed_by(algorithm, "a key that the verifier gave");
                self.pinned(anchor.key());
                self.ak_area(anchor.key());
                false
            }
            Signer::Wrong(e) => {
                self.out.checks.push(rules::SIGNATURE.check(false, e));
                false
            }
            Signer::Missing(what) => {
                let unknown = Outcome::Unknown;
                self.out
                    .checks
                    .push(rules::SIGNATURE.outcome(unknown, what));
                self.out.checks.push(
                    rules::AK_CHAIN
                        .outcome(unknown, "the attestation key's certificate is not at hand"),
                );
                false
            }
        }
    }

    /// Whether the attestation key itself is an anchor that the verifier gave: one that ran the
    /// challenge (`TPM2_ActivateCredential`) needs no certificate.
    fn pinned(&mut self, ak: &PublicKey) -> bool {
        let mut added = self.cx.anchors.iter().filter(|a| a.is_for_all());
        let Some(anchor) = added.find(|a| a.key() == ak) else {
            return false;
        };
        let described = anchor.describe();
        let seen = format!("the attestation key is {described}");
        self.out.checks.push(rules::AK_CHAIN.check(true, seen));
        self.out.facts.root = Some(described);
        self.out.facts.device_key = Some(hex::encode(ak.spki_sha256()));
        true
    }

    fn signed_by(&mut self, algorithm: Algorithm, who: &str) {
        let seen = format!("verifies, {}, by {who}", algorithm.name());
        self.out.checks.push(rules::SIGNATURE.check(true, seen));
        self.out.weaknesses.extend(weakness::sha1(algorithm));
    }

    /// The attestation key's certificate up to an anchor.
    fn chain(&mut self, leaf: &Certificate, x5c: &[Certificate], key: Option<&PublicKey>) {
        let cx = self.cx;
        let mut candidates: Vec<Candidate<'_>> = x5c
            .iter()
            .skip(1)
            .map(|certificate| Candidate {
                part: None,
                certificate,
            })
            .collect();
        candidates.extend(cx.pool.candidates());
        let ca = |fits| Place {
            role: "attestation key CA",
            fits,
            signed_by: Some(Role::Root),
        };
        let shape = Shape {
            line: LINE_AK,
            places: &[
                Place {
                    role: "attestation key certificate",
                    fits: &fits_ak,
                    signed_by: Some(Role::Root),
                },
                ca(&|c| fits_ca(c, 1)),
                ca(&|c| fits_ca(c, 2)),
                ca(&|c| fits_ca(c, 3)),
            ],
            allow_sha1: false,
            at: Some(cx.at),
        };
        let chain = walk(cx.work, leaf, &candidates, cx.anchors, &shape);
        self.out.used.extend(&chain.used);
        let mut check = chain.check(&rules::AK_CHAIN);
        // Microsoft's hierarchy has exactly one CA between root and AK certificate.
        let pinned = chain.anchor().is_some_and(|a| a.row().is_some());
        if pinned && chain.above.len() != 1 {
            let n = chain.above.len();
            check.outcome = Outcome::Fail;
            check.seen = format!("{}: {n} CAs where exactly one belongs", check.seen);
        }
        if check.outcome == Outcome::Pass {
            self.out.facts.chain = chain.names();
            self.out.facts.root = chain.anchor().map(crate::anchors::Anchor::describe);
            self.out.facts.permanent_identifier = ak::permanent_identifier(leaf);
            self.out.facts.attestation_key_certificate =
                Some(hex::encode(crate::signature::Hash::Sha256.of(leaf.der())));
        }
        self.out.checks.push(check);
        if let Ok(device) = ak::device(leaf) {
            self.out
                .weaknesses
                .extend(weakness::of_device(&device, key));
            let facts = &mut self.out.facts;
            facts.vendor = Some(device.vendor());
            facts.model = Some(device.model);
            facts.firmware = Some(device.version);
            let maker = said("tpm.manufacturer", device.manufacturer);
            self.out.claims.push(maker);
        }
        let Ok(ak) = leaf.key() else { return };
        self.out.facts.device_key = Some(hex::encode(ak.spki_sha256()));
        if let PublicKey::Rsa { n, .. } = &ak {
            let found = countersign_x509::weak::roca(n);
            let sound = found.outcome != countersign_x509::weak::Outcome::Failed;
            let check = rules::AK_ROCA.check(sound, found.detail);
            self.out.checks.push(check);
        }
        self.ak_area(&ak);
    }

    /// The attestation key's own public area, if it is among the evidence.
    fn ak_area(&mut self, ak: &PublicKey) {
        let mut areas = publics(self.cx.pool);
        let area = areas.find(|(_, p)| p.key.key().is_ok_and(|k| k == *ak));
        match area {
            Some((id, area)) => {
                self.out.used.push(id);
                self.ak_attributes(&area);
            }
            None => self.out.checks.push(rules::AK_ATTRIBUTES.outcome(
                Outcome::NotChecked,
                "its public area is not among the evidence: the word of whoever vouches for it",
            )),
        }
    }

    fn ak_attributes(&mut self, area: &Public<'_>) {
        self.out.checks.push(restricted(area.attributes));
    }
}

/// Whether attributes are an attestation key's.
pub(in crate::vendor::tpm2) fn restricted(a: Attributes) -> Check {
    let holds = a.restricted()
        && a.sign()
        && !a.decrypt()
        && a.fixed_tpm()
        && a.fixed_parent()
        && a.sensitive_data_origin()
        && !a.encrypted_duplication();
    let seen = format!("attributes of the attestation key 0x{:08x}", a.0);
    rules::AK_ATTRIBUTES.check(holds, seen)
}
