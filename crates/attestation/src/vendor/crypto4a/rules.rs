//! The rules: each signature and its chain, then what the claims say of the key in question.

use super::parse::{Claim, HSS_LMS, Id, Message, SignatureBlock, Value, hss_key, is_hss};
use super::{LINE, uuid};
use crate::anchors::{Anchor, Role};
use crate::certificate::Certificate;
use crate::chain::{Candidate, Chain, Place, Shape, walk};
use crate::key::PublicKey;
use crate::oid::Oid;
use crate::result::{Check, Exportable, Known, Outcome, Rule, Serial, SerialScope};
use crate::signature::{Algorithm, Hash};
use crate::time::UnixSeconds;
use crate::verify::format::said;
use crate::verify::{Binding, Context, Findings};
use spki::ObjectIdentifier;

const GUIDE: &str = "Crypto4A, Attestation using the QASM (C4A-302-0043)";

const SIGNATURE: Rule = Rule::confirmed(
    "crypto4a-signature",
    "every signature over the claims verifies, and one at least is ECDSA with SHA-384",
    GUIDE,
);
const HASH_BASED: Rule = Rule::confirmed(
    "crypto4a-hash-based-signature",
    "the HSS/LMS signature over the claims verifies",
    "RFC 8554 §6.3; RFC 9708; Crypto4A, Attestation using the QASM",
);
const CHAIN: Rule = Rule::confirmed(
    "crypto4a-chain",
    "each signer is an assertion authority (extended key usage 1.3.6.1.4.1.39901.4.1.1) below a manufacturing CA below the pinned C4A_RCA, valid when the claims were signed",
    GUIDE,
);
const MEMBERS: Rule = Rule::confirmed(
    "crypto4a-certificates",
    "every certificate in the message belongs to a signer's chain, or is a copy of a pinned anchor",
    GUIDE,
);
const TIME: Rule = Rule::confirmed(
    "crypto4a-time",
    "the claims were not signed more than a day after the moment of appraisal",
    GUIDE,
);
const KNOWN_CLAIMS: Rule = Rule::confirmed(
    "crypto4a-known-claims",
    "no claim about the module or the key is unknown or given twice",
    GUIDE,
);
const PRODUCTION: Rule = Rule::confirmed(
    "crypto4a-certified-production",
    "the module claims qasm-certified-production and attestation-keys-are-unique",
    GUIDE,
);
const OBJECT: Rule = Rule::confirmed(
    "crypto4a-private-key",
    "one private key has the public key in question",
    GUIDE,
);
const CONFINED: Rule = Rule::confirmed(
    "crypto4a-confined",
    "the key claims key-is-confined and key-never-extracted",
    GUIDE,
);
const GENERATED: Rule = Rule::confirmed(
    "crypto4a-generated",
    "the key claims key-is-hardware-generated",
    GUIDE,
);

/// Whoever appraises may give a date, and clocks differ.
const A_DAY: u64 = 86_400;

const ASSERTION_AUTHORITY: ObjectIdentifier =
    ObjectIdentifier::new_unwrap("1.3.6.1.4.1.39901.4.1.1");
const KEY_USAGE: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.29.15");

/// Claims: (arc below 1.3.6.1.4.1.39901.6, name). Those about keys that are not here
/// (key-is-managed, key-is-related-to-authority, key-is-archived-by) might mean a further holder:
/// they are not known, on purpose.
const CLAIMS: [((u8, u8), &str); 19] = [
    ((1, 0), "qasm-uuid"),
    ((1, 1), "qasm-serial"),
    ((1, 2), "attestation-time"),
    ((1, 3), "qasm-firmware-version"),
    ((1, 4), "qasm-certified-production"),
    ((1, 5), "qasm-is-in-fips-mode"),
    ((2, 0), "attestation-keys-are-unique"),
    ((2, 1), "key-spki"),
    ((2, 2), "key-fingerprint"),
    ((2, 3), "key-spki-sha256"),
    ((2, 4), "object-class"),
    ((2, 5), "object-type"),
    ((2, 6), "object-keystore"),
    ((2, 7), "key-is-confined"),
    ((2, 8), "key-is-hardware-generated"),
    ((2, 9), "key-never-extracted"),
    ((2, 11), "key-is-not-managed"),
    ((2, 13), HAS_CAPABILITY),
    ((2, 14), LACKS_CAPABILITY),
];
const HAS_CAPABILITY: &str = "key-has-capability";
const LACKS_CAPABILITY: &str = "key-does-not-have-capability";

// As a real message has them; the maker's tool writes their names.
const CLASS_PRIVATE_KEY: u64 = 4;
const CAPABILITY_SIGN: u64 = 0x105;
const CAPABILITY_DERIVE: u64 = 0x107;

/// The name of a claim, if it is known.
pub(super) fn name(predicate: &Oid) -> Option<&'static str> {
    // 1.3.6.1.4.1.39901.6
    const ARC: &[u8] = &[0x2b, 6, 1, 4, 1, 0x82, 0xb7, 0x5d, 6];
    match predicate.content().strip_prefix(ARC)? {
        [a, b] => CLAIMS
            .iter()
            .find(|(arc, _)| *arc == (*a, *b))
            .map(|(_, name)| *name),
        _ => None,
    }
}

/// Claims about one object, or about the module.
struct About<'a> {
    subject: Option<Id>,
    claims: &'a [Claim],
}

impl<'a> About<'a> {
    fn all(&self, wanted: &'static str) -> impl Iterator<Item = Option<&'a Value>> {
        let subject = self.subject;
        self.claims
            .iter()
            .filter(move |c| c.subject == subject && name(&c.predicate) == Some(wanted))
            .map(|c| c.value.as_ref())
    }

    fn has(&self, wanted: &'static str) -> bool {
        self.all(wanted).next().is_some()
    }

    /// Whether the claim stands, as a bare presence.
    fn holds(&self, wanted: &'static str) -> bool {
        self.all(wanted).next() == Some(None)
    }

    fn value(&self, wanted: &'static str) -> Option<&'a Value> {
        self.all(wanted).next().flatten()
    }

    fn text(&self, wanted: &'static str) -> Option<&'a str> {
        match self.value(wanted)? {
            Value::Text(t) => Some(t),
            _ => None,
        }
    }

    fn number(&self, wanted: &'static str) -> Option<u64> {
        match self.value(wanted)? {
            Value::Number(n) => Some(*n),
            _ => None,
        }
    }

    fn numbers(&self, wanted: &'static str) -> Vec<u64> {
        self.all(wanted)
            .map(|v| match v {
                Some(Value::Number(n)) => *n,
                // Not a number: no capability has this one.
                _ => u64::MAX,
            })
            .collect()
    }
}

/// Judges a message.
pub(super) fn judge(message: &Message, cx: &Context<'_>) -> Findings {
    let mut out = Findings::default();
    let module = About {
        subject: None,
        claims: &message.claims,
    };
    let made = match module.value("attestation-time") {
        Some(Value::Time(t)) => Some(*t),
        _ => None,
    };
    let signed = signatures(message, made.unwrap_or(cx.at), cx, &mut out);
    if let Some(made) = made {
        let seen = format!("signed {made}, appraised {}", cx.at);
        out.checks.push(TIME.check(made <= cx.at.plus(A_DAY), seen));
    } else if module.has("attestation-time") {
        out.checks
            .push(TIME.check(false, "attestation-time is not a time"));
    }
    let keys = objects(message, cx.key);
    let (seen, key) = match keys.as_slice() {
        [one] => (format!("object {}", uuid(one)), Some(*one)),
        [] => ("none".to_owned(), None),
        many => (format!("{} do", many.len()), None),
    };
    out.checks.push(OBJECT.check(key.is_some(), seen));
    out.binding = Some(binding(message, key, cx));
    let key = key.map(|id| About {
        subject: Some(id),
        claims: &message.claims,
    });
    out.checks.push(known_claims(message, key.as_ref()));
    out.checks.push(claimed(
        &PRODUCTION,
        &module,
        &["qasm-certified-production", "attestation-keys-are-unique"],
    ));
    if let Some(key) = &key {
        let kept = claimed(&CONFINED, key, &["key-is-confined", "key-never-extracted"]);
        let generated = claimed(&GENERATED, key, &["key-is-hardware-generated"]);
        if generated.outcome == Outcome::Pass {
            out.facts.generated_in_device = Known::Yes;
        }
        if kept.outcome == Outcome::Pass {
            out.facts.exportable = Exportable::Never;
        }
        out.checks.extend([kept, generated]);
        out.facts.sign_only = sign_only(key, cx.key);
        if let Some(n) = key.number("object-keystore") {
            out.claims.push(said("key.keystore", n.to_string()));
        }
    }
    let facts = &mut out.facts;
    facts.vendor = Some("Crypto4A".to_owned());
    facts.model = Some("QASM".to_owned());
    facts.serial = module.text("qasm-serial").map(|value| Serial {
        value: value.to_owned(),
        names: SerialScope::Individual,
    });
    facts.firmware = module.text("qasm-firmware-version").map(str::to_owned);
    facts.evidence_time = made;
    if signed {
        facts.genuine = Known::Yes;
    }
    if module.holds("qasm-is-in-fips-mode") {
        out.claims.push(said("device.fips-mode", "yes"));
    }
    if let Some(Value::Bytes(id)) = module.value("qasm-uuid") {
        out.claims.push(said("device.uuid", hex::encode(id)));
    }
    out
}

/// Every signature and its chain. True if all hold and one is ECDSA.
fn signatures(message: &Message, at: UnixSeconds, cx: &Context<'_>, out: &mut Findings) -> bool {
    let inside = message.certificates.iter().map(|certificate| Candidate {
        part: None,
        certificate,
    });
    let candidates: Vec<Candidate<'_>> = inside.chain(cx.pool.candidates()).collect();
    let mut ecdsa = false;
    let mut all = true;
    let mut chained: Vec<&Certificate> = Vec::new();
    let mut followed = true;
    for block in &message.signatures {
        let signature = if is_hss(&block.algorithm) {
            hash_based(message, block)
        } else {
            let check = elliptic(message, block, cx);
            ecdsa |= check.outcome == Outcome::Pass;
            check
        };
        let chain = chain(block, &candidates, at, cx);
        all &= signature.outcome == Outcome::Pass && chain.outcome() == Outcome::Pass;
        followed &= chain.outcome() == Outcome::Pass;
        chained.push(&block.signer);
        chained.extend(chain.above.iter().copied());
        out.checks.push(signature);
        out.checks.push(chain.check(&CHAIN));
        if out.facts.chain.is_empty() {
            out.facts.chain = chain.names();
            out.facts.root = chain.anchor().map(Anchor::describe);
        }
        out.used.extend(chain.used);
    }
    if !ecdsa && all {
        let seen = "no ECDSA signature stands over the claims";
        out.checks.push(SIGNATURE.check(false, seen));
    }
    // A message carries its chain more than once. A copy that is not the certificate which was
    // verified was altered, or is there for another purpose than the signers'.
    if followed && !message.signatures.is_empty() {
        let anchored = |c: &Certificate| {
            c.key()
                .is_ok_and(|key| cx.anchors.iter().any(|a| *a.key() == key))
        };
        let stray = message
            .certificates
            .iter()
            .find(|c| !chained.contains(c) && !anchored(c));
        all &= stray.is_none();
        out.checks.push(match stray {
            None => MEMBERS.check(true, format!("{} certificates", message.certificates.len())),
            Some(c) => MEMBERS.check(
                false,
                format!("{} belongs to no signer's chain", c.subject()),
            ),
        });
    }
    ecdsa && all
}

fn elliptic(message: &Message, block: &SignatureBlock, cx: &Context<'_>) -> Check {
    let subject = block.signer.subject();
    match Algorithm::from_der(&block.algorithm) {
        Ok(algorithm @ Algorithm::Ecdsa(Hash::Sha384)) => {
            let verified = block
                .signer
                .key()
                .map_err(|e| e.to_string())
                .and_then(|key| {
                    cx.work
                        .verify(&key, algorithm, &message.signed, &block.signature)
                        .map_err(|e| e.to_string())
                });
            match verified {
                Ok(()) => SIGNATURE.check(true, format!("{} by {subject}", algorithm.name())),
                Err(e) => SIGNATURE.check(false, format!("{subject}: {e}")),
            }
        }
        Ok(other) => SIGNATURE.check(false, format!("{subject}: signed by {}", other.name())),
        // A further algorithm, newer than this reader: it cannot be judged.
        Err(e) => SIGNATURE.outcome(Outcome::Unknown, format!("{subject}: {e}")),
    }
}

fn hash_based(message: &Message, block: &SignatureBlock) -> Check {
    let subject = block.signer.subject();
    let verified = hss_key(block.signer.spki())
        .map_err(|e| e.to_string())
        .and_then(|key| {
            crate::hss::verify(key, &message.signed, &block.signature).map_err(|e| e.to_string())
        });
    match verified {
        Ok(()) => HASH_BASED.check(true, format!("{HSS_LMS} by {subject}")),
        Err(e) => HASH_BASED.check(false, format!("{subject}: {e}")),
    }
}

fn chain<'a>(
    block: &'a SignatureBlock,
    candidates: &[Candidate<'a>],
    at: UnixSeconds,
    cx: &'a Context<'_>,
) -> Chain<'a> {
    let places = [
        Place {
            role: "the assertion authority",
            fits: &is_assertion_authority,
            signed_by: None,
        },
        Place {
            role: "the manufacturing CA",
            fits: &is_manufacturing_ca,
            signed_by: Some(Role::Root),
        },
    ];
    let shape = Shape {
        line: LINE,
        places: &places,
        allow_sha1: false,
        at: Some(at),
    };
    walk(cx.work, &block.signer, candidates, cx.anchors, &shape)
}

fn is_assertion_authority(c: &Certificate) -> Result<(), String> {
    let usages = c.extended_key_usages().map_err(|e| e.to_string())?;
    if usages.len() != 1 || !usages.iter().any(|u| *u == ASSERTION_AUTHORITY) {
        return Err(format!(
            "is not empowered by the extended key usage {ASSERTION_AUTHORITY} alone"
        ));
    }
    match c.basic_constraints() {
        Ok(None | Some((false, _))) => key_usage(c, 0x80, "digitalSignature"),
        Ok(Some((true, _))) => Err("is a CA".to_owned()),
        Err(e) => Err(e.to_string()),
    }
}

fn is_manufacturing_ca(c: &Certificate) -> Result<(), String> {
    match c.basic_constraints() {
        Ok(Some((true, _))) => key_usage(c, 0x04, "keyCertSign"),
        Ok(_) => Err("is no CA".to_owned()),
        Err(e) => Err(e.to_string()),
    }
}

/// Whether keyUsage (RFC 5280 §4.2.1.3) has a bit of its first byte.
fn key_usage(c: &Certificate, bit: u8, named: &str) -> Result<(), String> {
    const F: &str = "keyUsage";
    let value = c.extension(KEY_USAGE).ok_or(format!("lacks {F}"))?;
    let read = crate::der::single(value, F).and_then(|e| e.bits(F));
    match read {
        Ok((_, [first, ..])) if first & bit != 0 => Ok(()),
        Ok(_) => Err(format!("lacks the key usage {named}")),
        Err(e) => Err(e.to_string()),
    }
}

/// The private keys that claim the public key in question, whole or by its hash.
fn objects(message: &Message, key: &PublicKey) -> Vec<Id> {
    let mut out: Vec<Id> = Vec::new();
    for claim in &message.claims {
        if let Some(id) = claim.subject
            && !out.contains(&id)
            && is_of(claim, key)
        {
            let about = About {
                subject: Some(id),
                claims: &message.claims,
            };
            if about.number("object-class") == Some(CLASS_PRIVATE_KEY) {
                out.push(id);
            }
        }
    }
    out
}

fn is_of(claim: &Claim, key: &PublicKey) -> bool {
    let Some(Value::Bytes(value)) = &claim.value else {
        return false;
    };
    match name(&claim.predicate) {
        // By its material: the same key may be written in another way.
        Some("key-spki") => PublicKey::from_spki(value).as_ref() == Ok(key),
        Some("key-spki-sha256") => *value == key.spki_sha256(),
        _ => false,
    }
}

/// For the report: the key found, or those that were named instead.
fn binding(message: &Message, found: Option<Id>, cx: &Context<'_>) -> Binding {
    if found.is_some() {
        return cx.bind(cx.key);
    }
    let other = message.claims.iter().find_map(|c| match &c.value {
        Some(Value::Bytes(b)) if name(&c.predicate) == Some("key-spki") => {
            PublicKey::from_spki(b).ok()
        }
        _ => None,
    });
    match other {
        Some(key) if key != *cx.key => cx.bind(&key),
        _ => Binding {
            same: false,
            seen: "no private key in the message has the key in question".to_owned(),
        },
    }
}

/// Unknown claims could widen what is known of them: they refuse. So do two values of one.
fn known_claims(message: &Message, key: Option<&About<'_>>) -> Check {
    let subject = key.and_then(|k| k.subject);
    let mut seen: Vec<(Option<Id>, &'static str)> = Vec::new();
    let mut wrong = Vec::new();
    for claim in &message.claims {
        // Another object's claims say nothing of this key.
        if claim.subject.is_some() && claim.subject != subject {
            continue;
        }
        match name(&claim.predicate) {
            None => wrong.push(format!("{} is not known", claim.predicate)),
            Some(HAS_CAPABILITY | LACKS_CAPABILITY) => {}
            Some(name) if seen.contains(&(claim.subject, name)) => {
                wrong.push(format!("{name} is given twice"));
            }
            Some(name) => seen.push((claim.subject, name)),
        }
    }
    KNOWN_CLAIMS.check(
        wrong.is_empty(),
        if wrong.is_empty() {
            format!("{} claims", message.claims.len())
        } else {
            wrong.join("; ")
        },
    )
}

fn claimed(rule: &Rule, about: &About<'_>, wanted: &[&'static str]) -> Check {
    let missing: Vec<&str> = wanted.iter().copied().filter(|w| !about.holds(w)).collect();
    rule.check(
        missing.is_empty(),
        if missing.is_empty() {
            format!("{} claimed", wanted.join(" and "))
        } else {
            format!("{} not claimed", missing.join(" and "))
        },
    )
}

/// An elliptic key can sign or derive: claimed to do the one and denied to do the other, it does
/// nothing but sign. Of other keys more would have to be denied than has been seen claimed.
fn sign_only(about: &About<'_>, key: &PublicKey) -> Known {
    let has = about.numbers(HAS_CAPABILITY);
    let lacks = about.numbers(LACKS_CAPABILITY);
    if has.iter().any(|c| *c != CAPABILITY_SIGN) {
        return Known::No;
    }
    let elliptic = matches!(key, PublicKey::Ec { .. } | PublicKey::Ed25519(_));
    if elliptic && !has.is_empty() && lacks.contains(&CAPABILITY_DERIVE) {
        Known::Yes
    } else {
        Known::Unknown
    }
}
