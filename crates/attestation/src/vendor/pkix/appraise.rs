//! The rules: from what the evidence says to checks and facts.

use super::claims::{Claims, DRAFT_ARC, Key, Purpose};
use super::wire::{Evidence, SignatureBlock};
use crate::anchors::{Anchor, Role};
use crate::certificate::Certificate;
use crate::chain::{Candidate, Place, Shape, walk};
use crate::der::{expect, tag};
use crate::key::PublicKey;
use crate::result::{Check, Exportable, Known, Outcome, Rule, Serial, SerialScope};
use crate::signature::{Algorithm, Hash};
use crate::vendor::tpm2::ak::{key_usage, known_critical};
use crate::verify::format::said;
use crate::verify::{Context, Findings, PartId};
use spki::ObjectIdentifier;

/// No row has this line: no maker published a root. Only what the caller adds ends a chain.
const LINE: &str = "PKIX key-attestation evidence";
const SUBJECT_KEY_ID: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.29.14");
const DRAFT: &str = "draft-ietf-rats-pkix-key-attestation";

const WELL_FORMED: Rule = Rule::confirmed(
    "pkix-well-formed",
    "DER to the last byte, version 1, no claim twice in an element, values of their claims' types",
    DRAFT,
);
const SIGNATURE: Rule = Rule::confirmed(
    "pkix-signature",
    "every signature is over the DER of TbsEvidence as delivered, by the key it names",
    DRAFT,
);
const CHAIN: Rule = Rule::confirmed(
    "pkix-chain",
    "an attestation key that signed is an anchor the verifier gave, or its certificate (no CA, digitalSignature) leads through CAs to one, all valid at the moment of appraisal",
    "draft-ietf-rats-pkix-key-attestation; RFC 5280 §6.1",
);
const AK: Rule = Rule::confirmed(
    "pkix-ak-spki",
    "an ak-spki claim names the key that signed",
    DRAFT,
);
const KEY: Rule = Rule::confirmed(
    "pkix-key-element",
    "exactly one key element is about the key in question, chosen by its public key",
    DRAFT,
);
const KNOWN_CLAIMS: Rule = Rule::documented(
    "pkix-claims-known",
    "the key element has no claim and no purpose that the draft does not name: it could widen use",
    DRAFT,
);
const LOCAL: Rule = Rule::confirmed(
    "pkix-local",
    "the key was generated in the module: local is claimed true",
    DRAFT,
);
const STAYS: Rule = Rule::confirmed(
    "pkix-not-extractable",
    "extractable is claimed false, never-extractable and sensitive true; what is not claimed is unknown",
    DRAFT,
);
const EXPIRY: Rule = Rule::documented(
    "pkix-key-expiry",
    "a key with an expiry has not expired",
    DRAFT,
);

pub(super) fn appraise(id: PartId, cx: &Context<'_>) -> Findings {
    let mut out = Findings::default();
    let Some(part) = cx.pool.get(id) else {
        return out;
    };
    let read = Evidence::parse(&part.bytes).and_then(|e| {
        let claims = Claims::of(&e, DRAFT_ARC)?;
        Ok((e, claims))
    });
    let (evidence, claims) = match read {
        Ok(both) => both,
        Err(e) => {
            out.checks.push(WELL_FORMED.check(false, e.to_string()));
            return out;
        }
    };
    let seen = format!(
        "version {}, {} elements, {} signatures",
        evidence.version,
        evidence.elements.len(),
        evidence.signatures.len()
    );
    // Another version may mean the same claims otherwise.
    let holds = evidence.version == 1 && !evidence.signatures.is_empty();
    out.checks.push(WELL_FORMED.check(holds, seen));
    signatures(&evidence, &claims, cx, &mut out);
    let sound = out
        .checks
        .iter()
        .all(|c| matches!(c.outcome, Outcome::Pass | Outcome::NotChecked));
    out.facts.genuine = if sound { Known::Yes } else { Known::Unknown };
    platform(&claims, &mut out);
    key(&claims, cx, &mut out);
    out.checks
        .push(cx.freshness(claims.transaction.nonce.unwrap_or_default(), DRAFT));
    out
}

/// Who made a signature.
struct Signer<'a> {
    key: PublicKey,
    certificate: Option<&'a Certificate>,
    part: Option<PartId>,
}

fn signatures(evidence: &Evidence<'_>, claims: &Claims<'_>, cx: &Context<'_>, out: &mut Findings) {
    let parse = |der: &&[u8]| Certificate::from_der(der).map_err(|e| e.to_string());
    let inner: Result<Vec<Certificate>, String> = evidence.certificates.iter().map(parse).collect();
    let own: Result<Vec<Option<Certificate>>, String> = evidence
        .signatures
        .iter()
        .map(|b| b.certificate.as_ref().map(parse).transpose())
        .collect();
    let (inner, own) = match (inner, own) {
        (Ok(i), Ok(o)) => (i, o),
        (Err(e), _) | (_, Err(e)) => {
            out.checks.push(WELL_FORMED.check(false, e));
            return;
        }
    };
    let mut anchored: Vec<Check> = Vec::new();
    let mut signed_by_ak = false;
    let mut named = Vec::new();
    for (block, own) in evidence.signatures.iter().zip(&own) {
        let (signer, check) = verify(block, own.as_ref(), &inner, evidence.tbs, cx);
        let holds = check.outcome == Outcome::Pass;
        out.checks.push(check);
        let Some(signer) = signer.filter(|_| holds) else {
            continue;
        };
        out.used.extend(signer.part);
        signed_by_ak |= claims.transaction.ak_spki.is_some_and(|spki| {
            PublicKey::from_spki(spki).is_ok_and(|claimed| claimed == signer.key)
        });
        named.push(signer.key.kind());
        anchored.push(chain(&signer, &inner, cx, out));
    }
    // One signer that is anchored is enough; a second by an unknown key adds nothing and takes
    // nothing. A chain that is wrong stands in the way.
    let any = anchored.iter().any(|c| c.outcome == Outcome::Pass);
    if anchored.is_empty() {
        let seen = "no signature by a key that is at hand";
        out.checks.push(CHAIN.outcome(Outcome::Unknown, seen));
    }
    out.checks.extend(anchored);
    if any {
        let open = out.checks.iter_mut();
        for check in open.filter(|c| c.outcome == Outcome::Unknown) {
            check.outcome = Outcome::NotChecked;
        }
    }
    if claims.transaction.ak_spki.is_some() && !named.is_empty() {
        let seen = if signed_by_ak {
            "the claim names a key that signed"
        } else {
            "the claim names another key than any that signed"
        };
        out.checks.push(AK.check(signed_by_ak, seen));
    }
}

fn verify<'a>(
    block: &SignatureBlock<'_>,
    own: Option<&'a Certificate>,
    inner: &'a [Certificate],
    tbs: &[u8],
    cx: &Context<'a>,
) -> (Option<Signer<'a>>, Check) {
    let signer = match signer(block, own, inner, cx) {
        Ok(Some(s)) => s,
        Ok(None) => {
            let who = block.key_id.map_or_else(String::new, hex::encode);
            let seen = format!("the signer's key {who} is not at hand");
            return (None, SIGNATURE.outcome(Outcome::Unknown, seen));
        }
        Err(e) => return (None, SIGNATURE.check(false, e)),
    };
    let verified = Algorithm::from_der(block.algorithm).and_then(|a| {
        cx.work.verify(&signer.key, a, tbs, block.value)?;
        Ok(a)
    });
    let check = match verified {
        // No sample and no draft has SHA-1: a collision of two lists would be cheap to prepare.
        Ok(a) if a.is_legacy() => SIGNATURE.check(false, format!("{} does not count", a.name())),
        Ok(a) => SIGNATURE.check(true, format!("verifies, {}", a.name())),
        Err(e) => SIGNATURE.check(false, e.to_string()),
    };
    (Some(signer), check)
}

/// The signer by what the block names. Everything named must be of one key.
fn signer<'a>(
    block: &SignatureBlock<'_>,
    own: Option<&'a Certificate>,
    inner: &'a [Certificate],
    cx: &Context<'a>,
) -> Result<Option<Signer<'a>>, String> {
    let spki = block.spki.map(PublicKey::from_spki).transpose();
    let spki = spki.map_err(|e| e.to_string())?;
    if let Some(certificate) = own {
        let key = certificate.key().map_err(|e| e.to_string())?;
        if spki.is_some_and(|s| s != key) {
            return Err("the signer's certificate and public key differ".to_owned());
        }
        if block.key_id.is_some_and(|id| !has_key_id(certificate, id)) {
            return Err("the signer's certificate has another key identifier".to_owned());
        }
        return Ok(Some(Signer {
            key,
            certificate: Some(certificate),
            part: None,
        }));
    }
    let pool = cx.pool.certificates().map(|(id, c)| (Some(id), c));
    let mut at_hand = inner.iter().map(|c| (None, c)).chain(pool);
    let fits = |c: &Certificate| match &spki {
        Some(s) => c.key().is_ok_and(|k| k == *s),
        None => block.key_id.is_some_and(|id| has_key_id(c, id)),
    };
    if let Some((part, certificate)) = at_hand.find(|(_, c)| fits(c)) {
        let key = certificate.key().map_err(|e| e.to_string())?;
        return Ok(Some(Signer {
            key,
            certificate: Some(certificate),
            part,
        }));
    }
    let bare = |key| Signer {
        key,
        certificate: None,
        part: None,
    };
    if let Some(key) = spki {
        return Ok(Some(bare(key)));
    }
    let mut added = cx.anchors.iter().filter(|a| a.is_for_all());
    let found = added.find(|a| block.key_id.is_some_and(|id| is_key_id(a.key(), id)));
    Ok(found.map(|a| bare(a.key().clone())))
}

fn has_key_id(certificate: &Certificate, id: &[u8]) -> bool {
    let stated = certificate
        .extension(SUBJECT_KEY_ID)
        .and_then(|v| expect(v, tag::OCTET_STRING, "subjectKeyIdentifier").ok())
        .is_some_and(|e| e.content() == id);
    stated || certificate.key().is_ok_and(|k| is_key_id(&k, id))
}

/// RFC 5280 §4.2.1.2 (1) and RFC 7093 §2 (1): a hash of the key's bits. The identifier only finds
/// the key; what counts is that the signature verifies under it.
fn is_key_id(key: &PublicKey, id: &[u8]) -> bool {
    let spki = key.to_spki();
    let bits = expect(&spki, tag::SEQUENCE, "spki").and_then(|e| {
        let mut w = e.walk();
        w.next("algorithm")?;
        w.next("subjectPublicKey")?.whole_bits("subjectPublicKey")
    });
    bits.is_ok_and(|b| {
        let sha256 = Hash::Sha256.of(b);
        Hash::Sha1.of(b) == id || sha256 == id || sha256.get(..20) == Some(id)
    })
}

fn chain(
    signer: &Signer<'_>,
    inner: &[Certificate],
    cx: &Context<'_>,
    out: &mut Findings,
) -> Check {
    let mut added = cx.anchors.iter().filter(|a| a.is_for_all());
    if let Some(anchor) = added.find(|a| *a.key() == signer.key) {
        out.facts.root = Some(anchor.describe());
        return CHAIN.check(true, format!("the signer is {}", anchor.describe()));
    }
    let Some(leaf) = signer.certificate else {
        let seen = "the signer's key has no certificate at hand and is no anchor";
        return CHAIN.outcome(Outcome::Unknown, seen);
    };
    let mut candidates: Vec<Candidate<'_>> = inner
        .iter()
        .map(|certificate| Candidate {
            part: None,
            certificate,
        })
        .collect();
    candidates.extend(cx.pool.candidates());
    let ca = |fits| Place {
        role: "attestation CA",
        fits,
        signed_by: Some(Role::Root),
    };
    let shape = Shape {
        line: LINE,
        places: &[
            Place {
                role: "attestation key certificate",
                fits: &fits_ak,
                signed_by: Some(Role::Root),
            },
            ca(&|c| fits_ca(c, 0)),
            ca(&|c| fits_ca(c, 1)),
            ca(&|c| fits_ca(c, 2)),
        ],
        allow_sha1: false,
        at: Some(cx.at),
    };
    let chain = walk(cx.work, leaf, &candidates, cx.anchors, &shape);
    out.used.extend(&chain.used);
    if chain.outcome() == Outcome::Pass {
        out.facts.chain = chain.names();
        out.facts.root = chain.anchor().map(Anchor::describe);
    }
    chain.check(&CHAIN)
}

fn fits_ak(c: &Certificate) -> Result<(), String> {
    if c.version() != 3 {
        return Err(format!("is version {}, not 3", c.version()));
    }
    if matches!(
        c.basic_constraints().map_err(|e| e.to_string())?,
        Some((true, _))
    ) {
        return Err("is a CA's".to_owned());
    }
    if key_usage(c)?.is_some_and(|bits| bits & 0x80 == 0) {
        return Err("has a key usage without digitalSignature".to_owned());
    }
    known_critical(c)
}

/// A CA with `below` CAs under it.
fn fits_ca(c: &Certificate, below: u64) -> Result<(), String> {
    match c.basic_constraints().map_err(|e| e.to_string())? {
        Some((true, length)) if length.is_none_or(|l| l >= below) => {}
        Some((true, _)) => return Err("allows no CA below itself".to_owned()),
        _ => return Err("is no CA".to_owned()),
    }
    if key_usage(c)?.is_some_and(|bits| bits & 0x04 == 0) {
        return Err("has a key usage without keyCertSign".to_owned());
    }
    known_critical(c)
}

/// The module by its own word: shown, and only what identifies it becomes a fact.
fn platform(claims: &Claims<'_>, out: &mut Findings) {
    for (name, value) in &claims.platform {
        match *name {
            "vendor" => out.facts.vendor = Some(value.clone()),
            "hwmodel" => out.facts.model = Some(value.clone()),
            "swversion" => out.facts.firmware = Some(value.clone()),
            "hwserial" => {
                out.facts.serial = Some(Serial {
                    value: value.clone(),
                    names: SerialScope::Individual,
                });
            }
            // FIPS claims among them: the module's word about itself is no certificate.
            _ => {}
        }
        out.claims
            .push(said(format!("platform.{name}"), value.clone()));
    }
    out.facts.evidence_time = claims.transaction.timestamp;
    for unknown in &claims.unknown {
        out.claims.push(said("not understood", unknown.clone()));
    }
}

fn key(claims: &Claims<'_>, cx: &Context<'_>, out: &mut Findings) {
    let mut about = Vec::new();
    let mut others = 0_usize;
    for key in &claims.keys {
        match key.spki.map(PublicKey::from_spki) {
            Some(Ok(k)) if k == *cx.key => about.push((key, k)),
            _ => others += 1,
        }
    }
    let (found, attested) = match about.as_slice() {
        [(one, k)] => (*one, k),
        [] => {
            let seen = if claims.keys.is_empty() {
                "no key element: the evidence is about the module alone".to_owned()
            } else {
                format!("{others} key elements, none for the key in question")
            };
            out.checks.push(KEY.check(false, seen));
            let first = claims.keys.iter().find_map(|k| k.spki);
            if let Some(Ok(other)) = first.map(PublicKey::from_spki) {
                out.binding = Some(cx.bind(&other));
            }
            return;
        }
        more => {
            let seen = format!("{} key elements are for the key in question", more.len());
            out.checks.push(KEY.check(false, seen));
            return;
        }
    };
    out.binding = Some(cx.bind(attested));
    let name = found.identifier.as_deref().unwrap_or("(no identifier)");
    let seen = format!("{name}; {others} other key elements");
    out.checks.push(KEY.check(true, seen));
    out.claims.push(said("key.identifier", name));
    judge(found, cx, out);
}

fn judge(key: &Key<'_>, cx: &Context<'_>, out: &mut Findings) {
    let unknown_purpose = key
        .purposes
        .as_ref()
        .is_some_and(|p| p.contains(&Purpose::Unknown));
    let mut unknown = key.unknown.clone();
    if unknown_purpose {
        unknown.push("an unknown purpose".to_owned());
    }
    let seen = if unknown.is_empty() {
        "all known".to_owned()
    } else {
        unknown.join(", ")
    };
    out.checks
        .push(KNOWN_CLAIMS.check(unknown.is_empty(), seen));

    let word = |b: Option<bool>| b.map_or("not claimed", |b| if b { "true" } else { "false" });
    let outcome = |b: Option<bool>| match b {
        Some(true) => Outcome::Pass,
        Some(false) => Outcome::Fail,
        None => Outcome::Unknown,
    };
    let seen = format!("local {}", word(key.local));
    out.checks.push(LOCAL.outcome(outcome(key.local), seen));
    out.facts.generated_in_device = match key.local {
        Some(true) => Known::Yes,
        Some(false) => Known::No,
        None => Known::Unknown,
    };
    let wanted = [
        key.extractable.map(|b| !b),
        key.never_extractable,
        key.sensitive,
    ];
    let stays = if wanted.contains(&Some(false)) {
        Some(false)
    } else if wanted.contains(&None) {
        None
    } else {
        Some(true)
    };
    let seen = format!(
        "extractable {}, never-extractable {}, sensitive {}",
        word(key.extractable),
        word(key.never_extractable),
        word(key.sensitive)
    );
    out.checks.push(STAYS.outcome(outcome(stays), seen));
    out.facts.exportable = match (stays, key.extractable, key.sensitive) {
        (Some(true), ..) => Exportable::Never,
        (_, Some(true), Some(false)) => Exportable::Plain,
        (_, Some(true), _) => Exportable::Wrapped,
        _ => Exportable::Unknown,
    };
    out.facts.sign_only = match &key.purposes {
        None => Known::Unknown,
        Some(p) => {
            let signs = p.contains(&Purpose::Known("sign"));
            // Verifying is done with the public key.
            let alone = p
                .iter()
                .all(|p| matches!(p, Purpose::Known("sign" | "verify")));
            if signs && alone {
                Known::Yes
            } else {
                Known::No
            }
        }
    };
    if let Some(expiry) = key.expiry {
        let seen = format!("until {expiry}");
        out.checks.push(EXPIRY.check(cx.at <= expiry, seen));
    }
}
