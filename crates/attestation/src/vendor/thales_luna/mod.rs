//! Thales Luna: a public key confirmation (PKC), certificates from a key in the HSM to Thales.
//!
//! There is no list of attributes. Thales's documentation: an HSM issues confirmations only for
//! private keys that a Luna module created and that can never exist outside a Luna HSM. So the
//! chain is the proof, and the purpose of each certificate (an extended key usage) says where it
//! may stand. The maker's own validator lets a missing purpose pass; this one does not.

pub mod parse;

use crate::anchors::{
    Role,
    thales_luna::{ECC, RSA},
};
use crate::certificate::{BASIC_CONSTRAINTS, Certificate, EXT_KEY_USAGE};
use crate::chain::{Chain, Place, Shape, walk};
use crate::result::{Check, Exportable, Known, Outcome, Rule, Serial, SerialScope};
use crate::signature::Algorithm;
use crate::verify::format::said;
use crate::verify::{Context, Evidence, Findings, Format, Pool};
use parse::{Purpose, Statement, Usages, is_ours, serial_in_name};
use spki::ObjectIdentifier;

const SOURCE: &str = "Thales, Luna HSM: Confirming the HSM's Authenticity (public key confirmations); ThalesGroup/luna-pkc-validator";

const READS: Rule = Rule::confirmed(
    "luna-pkc-confirmation",
    "the confirmation is for Proof of Origin and nothing else, is no CA, and holds nothing unknown",
    SOURCE,
);
const CHAIN_RSA: Rule = Rule::confirmed(
    "luna-pkc-chain",
    "Proof of Origin <- Device Authentication <- Hardware Origin <- Manufacturing Integrity <- Chrysalis-ITS Root by its key, each with the one purpose of its place, each signature over the original bytes",
    SOURCE,
);
const CHAIN_ECC: Rule = Rule::documented(
    "luna-pkc-chain",
    "Proof of Origin <- Hardware Origin <- SafeNet ECC Manufacturer Integrity by its key, each with the one purpose of its place, each signature over the original bytes",
    SOURCE,
);
const ONE_CHAIN: Rule = Rule::confirmed(
    "luna-pkc-certificates",
    "every Luna certificate given is part of the chain, or a copy of its root",
    SOURCE,
);
const DEVICE: Rule = Rule::confirmed(
    "luna-pkc-device",
    "the HSM's serial number is the same in the confirmation and in the certificate that signed it",
    SOURCE,
);
const KEY_BITS: Rule = Rule::confirmed(
    "luna-pkc-key-bits",
    "extension 12383.2.5 holds 030204f0: no other value has been seen or explained, so another could mean anything",
    "seen on a real confirmation; Thales has published no meaning",
);
const ORIGIN: Rule = Rule::confirmed(
    "luna-pkc-origin",
    "a Luna HSM confirms only private keys that a Luna HSM created and that never exist outside one",
    SOURCE,
);

const KEY_USAGE: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.29.15");

/// The one value of extension 12383.2.5 that has been seen.
const SEEN_KEY_BITS: [u8; 4] = [0x03, 0x02, 0x04, 0xf0];

/// The format.
#[derive(Debug, Clone, Copy)]
pub struct ThalesLuna;

impl Format for ThalesLuna {
    fn id(&self) -> &'static str {
        "thales-luna-pkc"
    }

    fn title(&self) -> &'static str {
        "Thales Luna public key confirmation"
    }

    fn claim(&self, pool: &Pool) -> Vec<Evidence> {
        pool.certificates()
            .filter(|(_, c)| is_confirmation(c))
            .map(|(id, _)| Evidence { parts: vec![id] })
            .collect()
    }

    fn appraise(&self, evidence: &Evidence, cx: &Context<'_>) -> Findings {
        let mut out = Findings {
            used: evidence.parts.clone(),
            ..Findings::default()
        };
        let Some(leaf) = leaf(evidence, cx.pool) else {
            out.checks.push(READS.check(false, "no certificate"));
            return out;
        };
        if let Ok(key) = leaf.key() {
            out.binding = Some(cx.bind(&key));
        }
        let reads = leaf_fits(leaf);
        let is_read = reads.is_ok();
        let said_by_leaf = Statement::of(leaf).unwrap_or_default();
        out.checks.push(match reads {
            Ok(seen) => READS.check(true, seen),
            Err(seen) => READS.check(false, seen),
        });
        let (found, rule) = chain(leaf, cx);
        out.checks.push(found.check(rule));
        out.checks.push(one_chain(&found, cx));
        out.checks.push(key_bits(&said_by_leaf));
        device(&said_by_leaf, &found, &mut out);
        out.used.extend(&found.used);
        out.used.extend(root_copies(&found, cx.pool));
        out.facts.chain = found.names();
        out.facts.vendor = Some("Thales".to_owned());
        out.facts.model = Some("Luna HSM".to_owned());
        if let Some(anchor) = found.anchor() {
            out.facts.genuine = Known::Yes;
            out.facts.root = Some(anchor.describe());
        }
        let seen = "a chain to Thales over this key";
        out.checks.push(match (found.anchor(), is_read) {
            (Some(_), true) => ORIGIN.check(true, seen),
            _ => ORIGIN.outcome(Outcome::Unknown, format!("not shown: {seen}")),
        });
        if is_read {
            // Claims until the chain is proved: the frame sees to it.
            out.facts.generated_in_device = Known::Yes;
            // HSMs of one cloning domain can hold copies, and the confirmation does not say whether
            // the partition allows it. What is not ruled out is stated.
            out.facts.exportable = Exportable::Recoverable;
        }
        out.claims
            .extend(words(leaf).into_iter().map(|(n, v)| said(n, v)));
        out
    }

    fn says(&self, evidence: &Evidence, pool: &Pool) -> Vec<(String, String)> {
        let Some(leaf) = leaf(evidence, pool) else {
            return Vec::new();
        };
        match Statement::of(leaf) {
            Ok(s) => {
                let serial = s
                    .serial
                    .map(|n| ("device.serial".to_owned(), n.to_string()));
                serial.into_iter().chain(words(leaf)).collect()
            }
            Err(e) => vec![("malformed".to_owned(), e.to_string())],
        }
    }
}

fn leaf<'p>(evidence: &Evidence, pool: &'p Pool) -> Option<&'p Certificate> {
    pool.get(*evidence.parts.first()?)?.certificate()
}

/// A certificate over a key: by its purpose, or, if that is missing or strange, by the HSM's
/// extensions in a certificate that is no CA. The second is then refused, not overlooked.
fn is_confirmation(c: &Certificate) -> bool {
    match Usages::of(c) {
        Ok(Usages::One(purpose)) => purpose == Purpose::ProofOfOrigin,
        _ => is_ours(c) && !matches!(c.basic_constraints(), Ok(Some((true, _)))),
    }
}

/// What the confirmation says beyond what becomes a fact.
fn words(leaf: &Certificate) -> Vec<(String, String)> {
    let s = Statement::of(leaf).unwrap_or_default();
    let mut out = Vec::new();
    if let Some(handle) = leaf.subject().common_name() {
        out.push(("key.object-handle".to_owned(), handle.to_owned()));
    }
    if let Some(f) = s.firmware {
        // The maker's validator prints the third byte and the first, in decimal.
        let raw = hex::encode(&f);
        let value = match f.as_slice() {
            [first, _, third, ..] => format!("{third}{first} as the maker prints it, raw {raw}"),
            _ => format!("raw {raw}"),
        };
        out.push(("device.firmware".to_owned(), value));
    }
    if let Some(bits) = s.key_bits {
        out.push(("key.extension-12383.2.5".to_owned(), hex::encode(bits)));
    }
    for (oid, value) in s.unexplained {
        out.push((format!("extension {oid}"), hex::encode(value)));
    }
    out
}

/// Exactly `purpose`, nothing of the arc that has not been seen, nothing critical beyond what is
/// enforced here.
fn stands(c: &Certificate, purpose: Purpose) -> Result<Statement, String> {
    let usages = Usages::of(c).map_err(|e| e.to_string())?;
    if usages != Usages::One(purpose) {
        return Err(format!(
            "has {} where 1.3.6.1.4.1.12383.1.{} belongs",
            usages.seen(),
            purpose.arc()
        ));
    }
    let s = Statement::of(c).map_err(|e| e.to_string())?;
    if let Some(oid) = s.unknown.first() {
        return Err(format!("has the unknown extension {oid} of Thales"));
    }
    const KNOWN: [ObjectIdentifier; 3] = [BASIC_CONSTRAINTS, EXT_KEY_USAGE, KEY_USAGE];
    // RFC 5280 §4.2: a critical extension that is not understood refuses.
    let odd = c
        .extensions()
        .iter()
        .find(|e| e.critical && !KNOWN.iter().any(|k| e.oid == *k));
    match odd {
        Some(e) => Err(format!("has the critical extension {}", e.oid)),
        None => Ok(s),
    }
}

fn leaf_fits(leaf: &Certificate) -> Result<String, String> {
    leaf.key().map_err(|e| e.to_string())?;
    stands(leaf, Purpose::ProofOfOrigin)?;
    match leaf.basic_constraints() {
        Ok(None | Some((false, _))) => Ok(leaf.subject().to_string()),
        Ok(Some((true, _))) => Err("the confirmation is a CA".to_owned()),
        Err(e) => Err(e.to_string()),
    }
}

/// The certificates above an RSA confirmation are CAs by basicConstraints too.
fn issuer_fits(c: &Certificate, purpose: Purpose) -> Result<(), String> {
    stands(c, purpose)?;
    match c.basic_constraints() {
        Ok(Some((true, _))) => Ok(()),
        Ok(_) => Err("is no CA".to_owned()),
        Err(e) => Err(e.to_string()),
    }
}

/// The family of the leaf's signature tells the two shapes apart.
fn chain<'a>(leaf: &'a Certificate, cx: &Context<'a>) -> (Chain<'a>, &'static Rule) {
    let candidates = cx.pool.candidates();
    let follow = |line, places: &[Place<'_>]| {
        let shape = Shape {
            line,
            places,
            allow_sha1: false,
            at: Some(cx.at),
        };
        walk(cx.work, leaf, &candidates, cx.anchors, &shape)
    };
    // Judged beside the chain, so that what is wrong with it does not hide where it ends.
    let leaf_place = || Place {
        role: "confirmation",
        fits: &|_| Ok(()),
        signed_by: None,
    };
    if matches!(leaf.algorithm(), Ok(Algorithm::Ecdsa(_))) {
        let found = follow(
            ECC,
            &[
                leaf_place(),
                Place {
                    role: "Hardware Origin certificate",
                    // Nothing documents its basicConstraints. The purpose, right below the pinned key,
                    // says what it is.
                    fits: &|c| stands(c, Purpose::EccHardwareOrigin).map(|_| ()),
                    signed_by: Some(Role::Root),
                },
            ],
        );
        return (found, &CHAIN_ECC);
    }
    let found = follow(
        RSA,
        &[
            leaf_place(),
            Place {
                role: "Device Authentication certificate",
                fits: &|c| issuer_fits(c, Purpose::DeviceAuthentication),
                signed_by: None,
            },
            Place {
                role: "Hardware Origin certificate",
                fits: &|c| issuer_fits(c, Purpose::HardwareOrigin),
                signed_by: None,
            },
            Place {
                role: "Manufacturing Integrity certificate",
                fits: &|c| issuer_fits(c, Purpose::ManufacturingIntegrity),
                signed_by: Some(Role::Root),
            },
        ],
    );
    (found, &CHAIN_RSA)
}

/// Copies of the root that was reached: the same key under the same name. They give no trust.
fn root_copies(found: &Chain<'_>, pool: &Pool) -> Vec<crate::verify::PartId> {
    let Some(anchor) = found.anchor() else {
        return Vec::new();
    };
    pool.certificates()
        .filter(|(_, c)| c.key().is_ok_and(|k| k == *anchor.key()))
        .map(|(id, _)| id)
        .collect()
}

fn one_chain(found: &Chain<'_>, cx: &Context<'_>) -> Check {
    let copies = root_copies(found, cx.pool);
    for (id, c) in cx.pool.certificates() {
        // A second confirmation is evidence of its own and is appraised as such.
        if !is_ours(c) || is_confirmation(c) || copies.contains(&id) {
            continue;
        }
        if !found.above.contains(&c) {
            let seen = format!("{}: \"{}\" is not", cx.pool.name(id), c.subject());
            // Where the chain ends too early, what lies beside it proves nothing against it.
            return match found.outcome() {
                Outcome::Unknown => ONE_CHAIN.outcome(Outcome::Unknown, seen),
                _ => ONE_CHAIN.check(false, seen),
            };
        }
    }
    ONE_CHAIN.check(
        true,
        format!("{} above the confirmation", found.above.len()),
    )
}

fn key_bits(s: &Statement) -> Check {
    match &s.key_bits {
        None => KEY_BITS.outcome(Outcome::NotChecked, "the extension is not there"),
        Some(bits) => KEY_BITS.check(*bits == SEEN_KEY_BITS, hex::encode(bits)),
    }
}

/// The HSM by its serial number, wherever leaf and signer name it.
fn device(leaf: &Statement, found: &Chain<'_>, out: &mut Findings) {
    let signer = found.above.first();
    let stated = signer.and_then(|c| Statement::of(c).ok()?.serial);
    let named = signer.and_then(|c| serial_in_name(c));
    let all: Vec<(&str, u32)> = [
        ("the confirmation", leaf.serial),
        ("its signer", stated),
        ("its signer's name", named),
    ]
    .into_iter()
    .filter_map(|(who, n)| n.map(|n| (who, n)))
    .collect();
    let seen: Vec<_> = all.iter().map(|(who, n)| format!("{who}: {n}")).collect();
    let seen = if seen.is_empty() {
        "no serial number".to_owned()
    } else {
        seen.join(", ")
    };
    let first = all.first().map(|(_, n)| *n);
    let same = all.iter().all(|(_, n)| Some(*n) == first);
    out.checks.push(match (same, all.len()) {
        (false, _) => DEVICE.check(false, seen),
        (true, 0 | 1) => DEVICE.outcome(Outcome::NotChecked, seen),
        (true, _) => DEVICE.check(true, seen),
    });
    if same {
        out.facts.serial = first.map(|n| Serial {
            value: n.to_string(),
            names: SerialScope::Individual,
        });
    }
}
