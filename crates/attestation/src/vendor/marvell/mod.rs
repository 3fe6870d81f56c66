//! Marvell (once Cavium) LiquidSecurity: Google Cloud HSM, Azure Managed HSM, and cards of one's
//! own.
//!
//! The card signs a blob of PKCS#11 attributes with the key of the partition the key lives in.
//! [`blob`] and [`wrapping`] read; the rules judge the one private object, and follow the
//! partition's two chains.

mod attribute;
pub mod blob;
mod card_name;
mod chains;
mod jwk;
mod rules;
pub mod wrapping;

pub use jwk::Jwk;

use crate::certificate::Certificate;
use crate::chain::{Candidate, Chain};
use crate::key::PublicKey;
use crate::result::{Check, Claim, Known, Outcome, Rule, Serial, SerialScope};
use crate::signature::{Algorithm, Hash};
use crate::verify::format::said;
use crate::verify::{Content, Context, Evidence, Findings, Format, Pool, armour, gunzip};
use blob::Blob;
use rules::Key;
use std::borrow::Cow;
use wrapping::{Cloud, Wrapping};

/// The format's stable name.
pub const ID: &str = "marvell-liquidsecurity";

const STATEMENT: Rule = Rule::confirmed(
    "marvell-statement",
    "the attestation blob has exactly the layout of firmware 3.x (V2), and its wrapping is whole",
    "Google Cloud KMS, Verifying attestations, parse_v2.py",
);
const SIGNATURE: Rule = Rule::confirmed(
    "marvell-signature",
    "the blob is signed by the partition's key: RSA-2048, PKCS#1 v1.5 with SHA-256, over all bytes \
     before the last 256",
    "Google Cloud KMS, Verifying attestations, verify_attestation_chains.py",
);

/// Most distinct keys tried on one blob.
const MAX_KEYS: usize = 16;

/// Marvell LiquidSecurity.
#[derive(Debug, Clone, Copy)]
pub struct Marvell;

/// The bytes of one piece of evidence, unwrapped.
struct Unwrapped {
    wrapping: Option<Wrapping>,
    blobs: Vec<Vec<u8>>,
    certificates: Vec<Certificate>,
}

impl Format for Marvell {
    fn id(&self) -> &'static str {
        ID
    }

    fn title(&self) -> &'static str {
        "Marvell LiquidSecurity (Google Cloud HSM, Azure Managed HSM)"
    }

    fn claim(&self, pool: &Pool) -> Vec<Evidence> {
        let ours = |content: &Content, bytes: &[u8]| match content {
            Content::Json(_) => wrapping::looks_like(bytes),
            Content::Binary => blob::looks_like_v2(bytes) || blob::looks_like_v1(bytes),
            _ => false,
        };
        pool.parts()
            .filter(|(_, p)| ours(&p.content, &p.bytes))
            .map(|(id, _)| Evidence { parts: vec![id] })
            .collect()
    }

    fn appraise(&self, evidence: &Evidence, cx: &Context<'_>) -> Findings {
        let mut findings = Findings::default();
        let unwrapped = match unwrap(evidence, cx.pool) {
            Ok(u) => u,
            Err(e) => {
                findings.checks.push(STATEMENT.check(false, e));
                return findings;
            }
        };
        let blobs: Vec<Blob<'_>> = match unwrapped.blobs.iter().map(|b| blob::parse(b)).collect() {
            Ok(blobs) => blobs,
            Err(e) => {
                findings.checks.push(STATEMENT.check(false, e.to_string()));
                return findings;
            }
        };
        let objects: usize = blobs.iter().map(|b| b.objects.len()).sum();
        let seen = format!(
            "{} of firmware 3.x, {objects} objects",
            count(blobs.len(), "blob")
        );
        findings.checks.push(STATEMENT.check(true, seen));
        appraise(&unwrapped, &blobs, cx, &mut findings);
        findings
    }

    fn says(&self, evidence: &Evidence, pool: &Pool) -> Vec<(String, String)> {
        match unwrap(evidence, pool) {
            Ok(u) => says(&u),
            Err(e) => vec![("problem".to_owned(), e)],
        }
    }
}

fn unwrap(evidence: &Evidence, pool: &Pool) -> Result<Unwrapped, String> {
    let part = evidence.parts.first().and_then(|id| pool.get(*id));
    let part = part.ok_or("the evidence is not at hand")?;
    if !matches!(part.content, Content::Json(_)) {
        return Ok(Unwrapped {
            wrapping: None,
            blobs: vec![part.bytes.clone()],
            certificates: Vec::new(),
        });
    }
    let wrapping = wrapping::parse(&part.bytes).map_err(|e| e.to_string())?;
    let mut blobs = Vec::new();
    for b in &wrapping.blobs {
        // Google compresses them, Azure does not.
        blobs.push(if b.starts_with(&[0x1f, 0x8b]) {
            gunzip(b)?
        } else {
            b.clone()
        });
    }
    let mut certificates = Vec::new();
    for block in armour::blocks(wrapping.certificates.as_bytes()).unwrap_or_default() {
        let block = block.map_err(|e| e.to_string())?;
        certificates.push(Certificate::from_der(&block.bytes).map_err(|e| e.to_string())?);
    }
    Ok(Unwrapped {
        wrapping: Some(wrapping),
        blobs,
        certificates,
    })
}

fn appraise(unwrapped: &Unwrapped, blobs: &[Blob<'_>], cx: &Context<'_>, findings: &mut Findings) {
    let inside = unwrapped.certificates.iter().map(|certificate| Candidate {
        part: None,
        certificate,
    });
    let candidates: Vec<_> = inside.chain(cx.pool.candidates()).collect();
    let cloud = unwrapped.wrapping.as_ref().map(|w| w.cloud);
    let (signed, partition) = signature(blobs, &candidates, cx);
    let is_signed = signed.outcome == Outcome::Pass;
    findings.checks.push(signed);

    let key = Key::of(blobs);
    findings.checks.extend(key.checks());
    findings.binding = key.binding(cx.key);
    if let Some(wrapping) = &unwrapped.wrapping
        && wrapping.cloud == Cloud::Google
        && let Some(name) = &wrapping.name
    {
        findings.checks.extend(key.resource_name(name));
    }
    if let Some(shown) = unwrapped.wrapping.as_ref().and_then(|w| w.key.as_ref()) {
        findings.checks.extend(rules::shown_key(shown, cx.key));
    }
    let facts = &mut findings.facts;
    facts.generated_in_device = key.generated();
    facts.exportable = key.exportable();
    facts.sign_only = key.sign_only();
    facts.vendor = Some("Marvell".to_owned());

    let Some(partition) = partition else {
        findings.checks.extend(chains::without_key(cloud));
        return;
    };
    let vouched = chains::vouch(cx, &candidates, &partition, cloud);
    if let Some(chain) = &vouched.maker {
        facts.chain = chain.names();
        if let Some(anchor) = chain.anchor() {
            facts.genuine = if is_signed {
                Known::Yes
            } else {
                Known::Unknown
            };
            facts.root = Some(anchor.describe());
            facts.model = anchor
                .row()
                .map(|r| r.line.trim_start_matches("Marvell ").to_owned());
        }
        findings.used.extend(&chain.used);
    }
    if let Some(card) = &vouched.card {
        facts.serial = Some(Serial {
            value: card.serial.to_owned(),
            names: SerialScope::Individual,
        });
        if let Some(partition) = card.partition {
            findings
                .claims
                .push(said("device.partition", partition.to_string()));
        }
        if let Some(mode) = card.mode {
            findings.claims.push(said("device.mode", mode));
        }
    }
    if let Some(owner) = vouched.owner.as_ref().and_then(Chain::anchor) {
        findings.claims.push(Claim {
            by: Cow::Borrowed("the owner's certificates, proved"),
            ..said("device.owner", owner.describe())
        });
    }
    findings.used.extend(&vouched.used);
    findings.checks.extend(vouched.checks);
}

/// Finds the key that signed every blob, among those of the certificates at hand.
fn signature(
    blobs: &[Blob<'_>],
    candidates: &[Candidate<'_>],
    cx: &Context<'_>,
) -> (Check, Option<PublicKey>) {
    let mut keys: Vec<PublicKey> = Vec::new();
    for key in candidates.iter().filter_map(|c| c.certificate.key().ok()) {
        // A partition's key has 2048 bits: its signature fills the blob's last 256 bytes.
        let fits = matches!(&key, PublicKey::Rsa { n, .. } if n.len() == blob::SIGNATURE_SIZE);
        if fits && !keys.contains(&key) && keys.len() < MAX_KEYS {
            keys.push(key);
        }
    }
    let algorithm = Algorithm::RsaPkcs1(Hash::Sha256);
    for key in keys {
        let signed = |b: &Blob<'_>| {
            cx.work
                .verify(&key, algorithm, b.signed, b.signature)
                .is_ok()
        };
        if blobs.iter().all(signed) {
            let seen = format!(
                "{} by the key with SPKI SHA-256 {}",
                algorithm.name(),
                hex::encode(key.spki_sha256())
            );
            return (SIGNATURE.check(true, seen), Some(key));
        }
    }
    // Certificates of other devices say nothing; one of such a card does.
    let at_hand = candidates
        .iter()
        .any(|c| chains::names_a_card(c.certificate));
    let check = if at_hand {
        SIGNATURE.check(false, "no certificate at hand has the key that signed it")
    } else {
        SIGNATURE.outcome(Outcome::Unknown, "no certificate of a partition is at hand")
    };
    (check, None)
}

fn says(unwrapped: &Unwrapped) -> Vec<(String, String)> {
    let mut out = Vec::new();
    if let Some(w) = &unwrapped.wrapping {
        let cloud = match w.cloud {
            Cloud::Google => "Google Cloud KMS",
            Cloud::Azure => "Azure Managed HSM",
        };
        out.push(("wrapped by".to_owned(), cloud.to_owned()));
        out.extend(w.name.iter().map(|n| ("name".to_owned(), n.clone())));
    }
    for certificate in &unwrapped.certificates {
        out.push(("certificate".to_owned(), certificate.subject().to_string()));
    }
    for bytes in &unwrapped.blobs {
        match blob::parse(bytes) {
            Ok(blob) => {
                for object in &blob.objects {
                    let name = format!("object {}", object.handle);
                    let values = object
                        .attributes
                        .keys()
                        .map(|kind| rules::show(object, *kind));
                    out.extend(values.map(|v| (name.clone(), v)));
                }
            }
            Err(e) => out.push(("problem".to_owned(), e.to_string())),
        }
    }
    out
}

fn count(n: usize, what: &str) -> String {
    format!("{n} {what}{}", if n == 1 { "" } else { "s" })
}
