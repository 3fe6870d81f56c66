//! From values to checks and facts.

use super::ak::{self, EK_USAGE, fits_ak, fits_ca};
use super::attest::{Attest, Attested};
use super::container::{Container, Statement, publics, read};
use super::creation::CreationData;
use super::public::Public;
use super::signer::{self, Signer};
use super::webauthn::{AuthData, CoseKey};
use super::{rules, signed, weakness};
use crate::anchors::Role;
use crate::anchors::tpm2::{LINE_AK, LINE_EK};
use crate::certificate::Certificate;
use crate::chain::{Candidate, Place, Shape, walk};
use crate::key::{Curve, PublicKey};
use crate::result::{Exportable, Known, Outcome};
use crate::signature::Algorithm;
use crate::verify::format::said;
use crate::verify::{Context, Findings, PartId, armour};

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

    /// Verifies the signature and follows the signer. Returns whether the key certified itself.
    fn signature(
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
        let mut added = self.cx.anchors.iter().filter(|a| a.is_extra());
        let Some(anchor) = added.find(|a| a.key() == ak) else {
            return false;
        };
        let described = anchor.describe();
        let seen = format!("the attestation key is {described}");
        self.out.checks.push(rules::AK_CHAIN.check(true, seen));
        self.out.facts.root = Some(described);
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
        let a = area.attributes;
        let holds = a.restricted()
            && a.sign()
            && !a.decrypt()
            && a.fixed_tpm()
            && a.fixed_parent()
            && a.sensitive_data_origin();
        let seen = format!("attributes of the attestation key 0x{:08x}", a.0);
        self.out
            .checks
            .push(rules::AK_ATTRIBUTES.check(holds, seen));
    }

    /// What WebAuthn wants beyond the TPM's own statement, and freshness.
    fn webauthn(&mut self, key: Option<&PublicKey>, leaf: Option<&Certificate>) {
        let cx = self.cx;
        let (auth, algorithm) = match &self.statement.container {
            Container::WebAuthn {
                auth_data: Some(auth),
                algorithm,
                ..
            } => (auth.as_ref().clone(), *algorithm),
            _ => {
                let check = cx.freshness(self.attest.extra_data, rules::FRESH);
                self.out.checks.push(check);
                return;
            }
        };
        let same = key.is_some_and(|k| credential_key(&auth).is_some_and(|c| c == *k));
        let seen = if same {
            "the same key"
        } else {
            "another key, or one that cannot be read"
        };
        self.out.checks.push(rules::CREDENTIAL.check(same, seen));
        self.aaguid(&auth, leaf);
        let rp = hex::encode(auth.rp_id_hash);
        self.out.claims.push(said("webauthn.rp-id-sha256", rp));
        self.client_data(&auth, algorithm);
    }

    fn aaguid(&mut self, auth: &AuthData<'_>, leaf: Option<&Certificate>) {
        let check = match leaf.map(ak::aaguid) {
            None | Some(Ok(None)) => return,
            Some(Ok(Some(id))) => rules::AAGUID.check(id == auth.aaguid, hex::encode(id)),
            Some(Err(e)) => rules::AAGUID.check(false, e),
        };
        self.out.checks.push(check);
    }

    /// `extraData` = H(authData ‖ SHA-256(clientDataJSON)); the nonce is the challenge in it.
    fn client_data(&mut self, auth: &AuthData<'_>, algorithm: Algorithm) {
        let cx = self.cx;
        let expected = self.attest.extra_data;
        let hash = hash_of(algorithm);
        let given: Vec<_> = cx
            .pool
            .parts()
            .filter(|(_, p)| p.json().is_some_and(|v| v.get("challenge").is_some()))
            .collect();
        let matches = |bytes: &[u8]| {
            let client = crate::signature::Hash::Sha256.of(bytes);
            hash.of(&[auth.bytes, &client].concat()) == expected
        };
        let Some((id, part)) = given.iter().find(|(_, p)| matches(&p.bytes)) else {
            let rule = rules::EXTRA_DATA;
            self.out.used.extend(given.iter().map(|(id, _)| *id));
            self.out.checks.push(if given.is_empty() {
                rule.outcome(Outcome::Unknown, "the client data (JSON) are not at hand")
            } else {
                let shown = hex::encode(expected);
                rule.check(
                    false,
                    format!("{shown} is not the hash of the client data given"),
                )
            });
            self.out.checks.push(cx.freshness(&[], rules::FRESH));
            return;
        };
        self.out.used.push(*id);
        let text = |name: &str| {
            let member = part.json().and_then(|v| v.get(name));
            member
                .and_then(serde_json::Value::as_str)
                .unwrap_or_default()
        };
        let kind = text("type");
        let registers = kind == "webauthn.create";
        let shown: String = kind.chars().filter(|c| !c.is_control()).take(40).collect();
        let seen = format!("{}, type \"{shown}\"", hex::encode(expected));
        self.out
            .checks
            .push(rules::EXTRA_DATA.check(registers, seen));
        let origin: String = text("origin")
            .chars()
            .filter(|c| !c.is_control())
            .take(200)
            .collect();
        self.out.claims.push(said("webauthn.origin", origin));
        let challenge = armour::base64(text("challenge").as_bytes()).unwrap_or_default();
        self.out.checks.push(cx.freshness(&challenge, rules::FRESH));
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

const fn hash_of(algorithm: Algorithm) -> crate::signature::Hash {
    match algorithm {
        Algorithm::RsaPkcs1(h) | Algorithm::RsaPss(h) | Algorithm::Ecdsa(h) => h,
        Algorithm::Ed25519 => crate::signature::Hash::Sha512,
    }
}

fn credential_key(auth: &AuthData<'_>) -> Option<PublicKey> {
    match auth.key {
        CoseKey::Rsa { n, e } => PublicKey::from_rsa_parts(n, e).ok(),
        CoseKey::Ec2 { curve, x, y } => {
            // RFC 9053 §7.1.
            let curve = match curve {
                1 => Curve::P256,
                2 => Curve::P384,
                3 => Curve::P521,
                _ => return None,
            };
            PublicKey::from_coordinates(curve, x, y).ok()
        }
    }
}
