//! Yubico YubiKey, PIV: a certificate that the device issues over the key of a slot, signed by the
//! key in slot f9, whose certificate Yubico issued.
//!
//! The device attests only keys it generated, and PIV has no command that gives a private key out.
//! So a chain to Yubico is the proof, and its shape is what matters: a key in a slot can sign
//! whatever its owner likes, a look-alike attestation too. The one place above an attestation is
//! f9's certificate, and only a pinned CA of Yubico stands above that.

pub mod parse;

use crate::anchors::{Role, yubikey_piv::LINE};
use crate::certificate::{BASIC_CONSTRAINTS, Certificate};
use crate::chain::{Chain, Place, Shape, walk};
use crate::key::PublicKey;
use crate::result::{Check, Exportable, Known, Outcome, Rule, Serial, SerialScope, Weakness};
use crate::verify::format::{known_weakness, said};
use crate::verify::{Context, Evidence, Findings, Format, Pool};
use parse::{Firmware, Kind, PinPolicy, Statement, TouchPolicy, is_signer_subject, kind};

const SOURCE: &str =
    "Yubico, PIV attestation (developers.yubico.com/PIV/Introduction/PIV_attestation.html)";

const READS: Rule = Rule::confirmed(
    "yubikey-piv-attestation",
    "the attestation names its slot and a firmware, is no CA, and holds nothing unknown",
    SOURCE,
);
const POLICIES: Rule = Rule::confirmed(
    "yubikey-piv-policies",
    "PIN and touch policy, if stated, are ones that are documented",
    SOURCE,
);
const CHAIN: Rule = Rule::confirmed(
    "yubikey-piv-chain",
    "attestation <- the certificate of slot f9 <- a pinned CA of Yubico for PIV, nothing between, each signature over the original bytes",
    SOURCE,
);
const ONE_SIGNER: Rule = Rule::confirmed(
    "yubikey-piv-signer",
    "every certificate of a slot f9 that is given signed the attestation",
    SOURCE,
);
const U2F: Rule = Rule::documented(
    "yubikey-piv-u2f-root",
    "below the U2F root, the attestation is of a YubiKey 4: no other was issued there",
    SOURCE,
);
const ORIGIN: Rule = Rule::confirmed(
    "yubikey-piv-origin",
    "the device attests only keys that it generated, and PIV cannot export a private key",
    SOURCE,
);

/// The last certificate under the U2F root went into a YubiKey 4.
const U2F_ROOT: &str = "CN=Yubico U2F Root CA Serial 457200631";

/// The format.
#[derive(Debug, Clone, Copy)]
pub struct YubiKeyPiv;

impl Format for YubiKeyPiv {
    fn id(&self) -> &'static str {
        "yubikey-piv"
    }

    fn title(&self) -> &'static str {
        "Yubico YubiKey PIV attestation certificate"
    }

    fn claim(&self, pool: &Pool) -> Vec<Evidence> {
        pool.certificates()
            .filter(|(_, c)| matches!(kind(c), Some(Kind::Slot(_))))
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
        let said_by_leaf = match Statement::of(leaf) {
            Ok(s) => s,
            Err(e) => {
                out.checks.push(READS.check(false, e.to_string()));
                Statement::default()
            }
        };
        let reads = leaf_fits(leaf, &said_by_leaf);
        let is_read = reads.is_ok();
        out.checks.push(match reads {
            Ok(seen) => READS.check(true, seen),
            Err(seen) => READS.check(false, seen),
        });
        out.checks.push(policies(&said_by_leaf));
        let found = chain(leaf, cx);
        out.checks.push(found.check(&CHAIN));
        out.checks.push(one_signer(&found, cx.pool));
        out.used.extend(&found.used);
        out.facts.chain = found.names();
        let signer = found.above.first().and_then(|c| Statement::of(c).ok());
        if let Some(anchor) = found.anchor() {
            out.facts.genuine = Known::Yes;
            out.facts.root = Some(anchor.describe());
            if anchor.name() == U2F_ROOT {
                let four = said_by_leaf.firmware.is_some_and(|f| f.0 == 4);
                out.checks.push(U2F.check(four, firmware(&said_by_leaf)));
            }
        }
        origin(&found, is_read, &mut out);
        describe(&said_by_leaf, signer.as_ref(), &mut out);
        if let Some(f) = said_by_leaf.firmware {
            out.weaknesses.extend(weaknesses(f, cx.key));
        }
        out.claims.extend(
            words(leaf, &said_by_leaf)
                .into_iter()
                .map(|(n, v)| said(n, v)),
        );
        out
    }

    fn says(&self, evidence: &Evidence, pool: &Pool) -> Vec<(String, String)> {
        let Some(leaf) = leaf(evidence, pool) else {
            return Vec::new();
        };
        match Statement::of(leaf) {
            Ok(s) => {
                let mut out = vec![("device.firmware".to_owned(), firmware(&s))];
                if let Some(serial) = s.serial {
                    out.push(("device.serial".to_owned(), serial.to_string()));
                }
                out.extend(words(leaf, &s));
                out
            }
            Err(e) => vec![("malformed".to_owned(), e.to_string())],
        }
    }
}

fn leaf<'p>(evidence: &Evidence, pool: &'p Pool) -> Option<&'p Certificate> {
    pool.get(*evidence.parts.first()?)?.certificate()
}

fn firmware(s: &Statement) -> String {
    s.firmware
        .map_or_else(|| "not stated".to_owned(), |f| f.to_string())
}

/// What the attestation says beyond what becomes a fact.
fn words(leaf: &Certificate, s: &Statement) -> Vec<(String, String)> {
    let slot = match kind(leaf) {
        Some(Kind::Slot(Some(slot))) => slot.to_string(),
        _ => "not stated".to_owned(),
    };
    let mut out = vec![("key.slot".to_owned(), slot)];
    if let Some((pin, touch)) = s.policy {
        out.push(("key.pin-policy".to_owned(), pin.to_string()));
        out.push(("key.touch-policy".to_owned(), touch.to_string()));
    }
    if let Some(form) = s.form_factor {
        out.push(("device.form-factor".to_owned(), form.to_string()));
    }
    out
}

/// An extension that must be understood (RFC 5280 §4.2) and is not, or one of Yubico's that nobody
/// has explained: it may say anything.
fn all_known(c: &Certificate, s: &Statement) -> Result<(), String> {
    if let Some(oid) = s.unknown.first() {
        return Err(format!("has the unknown extension {oid} of Yubico"));
    }
    let odd = c
        .extensions()
        .iter()
        .find(|e| e.critical && e.oid != BASIC_CONSTRAINTS);
    match odd {
        Some(e) => Err(format!("has the critical extension {}", e.oid)),
        None => Ok(()),
    }
}

fn leaf_fits(leaf: &Certificate, s: &Statement) -> Result<String, String> {
    leaf.key().map_err(|e| e.to_string())?;
    all_known(leaf, s)?;
    let slot = match kind(leaf) {
        Some(Kind::Slot(Some(slot))) if slot.is_known() => slot,
        Some(Kind::Slot(Some(slot))) => return Err(format!("slot {slot} has no keys to attest")),
        _ => {
            return Err(format!("the subject \"{}\" names no slot", leaf.subject()));
        }
    };
    let firmware = s.firmware.ok_or("no firmware is stated")?;
    match leaf.basic_constraints() {
        Ok(None | Some((false, _))) => {}
        Ok(Some((true, _))) => return Err("the attestation is a CA".to_owned()),
        Err(e) => return Err(e.to_string()),
    }
    Ok(format!("slot {slot}, firmware {firmware}"))
}

fn policies(s: &Statement) -> Check {
    let Some((pin, touch)) = s.policy else {
        return POLICIES.outcome(Outcome::NotChecked, "none is stated");
    };
    let known = !matches!(pin, PinPolicy::Other(_)) && !matches!(touch, TouchPolicy::Other(_));
    POLICIES.check(known, format!("PIN {pin}, touch {touch}"))
}

/// Up to firmware 5.7.3 a root signed f9, from 5.7.4 on a CA two steps below a root. Both are
/// pinned for this product line; the better of the two ways counts.
fn chain<'a>(leaf: &'a Certificate, cx: &Context<'a>) -> Chain<'a> {
    let candidates = cx.pool.candidates();
    let below = |role| {
        let places = [
            Place {
                role: "attestation",
                // Judged beside the chain, so that what is wrong with it does not hide where it ends.
                fits: &|_| Ok(()),
                signed_by: None,
            },
            Place {
                role: "certificate of slot f9",
                fits: &signer_fits,
                signed_by: Some(role),
            },
        ];
        let shape = Shape {
            line: LINE,
            places: &places,
            allow_sha1: false,
            at: Some(cx.at),
        };
        walk(cx.work, leaf, &candidates, cx.anchors, &shape)
    };
    let root = below(Role::Root);
    if root.anchor().is_some() {
        return root;
    }
    let intermediate = below(Role::Intermediate);
    // What is wrong by either way counts before what is missing by the other.
    if intermediate.anchor().is_some() || root.outcome() != Outcome::Fail {
        intermediate
    } else {
        root
    }
}

fn signer_fits(c: &Certificate) -> Result<(), String> {
    if kind(c) != Some(Kind::Signer) {
        // The owner of a slot's key can sign with it what looks like an attestation.
        return Err("is no certificate of slot f9".to_owned());
    }
    if !is_signer_subject(c) {
        // U2F attestation certificates stand below one of the roots too, under other names.
        return Err("does not have the name of a certificate of slot f9".to_owned());
    }
    let s = Statement::of(c).map_err(|e| e.to_string())?;
    all_known(c, &s)?;
    if s.firmware.is_none() {
        return Err("states no firmware".to_owned());
    }
    // Those of the YubiKey 4 have no basicConstraints at all (RFC 5280 §4.2.1.9 wants it).
    match c.basic_constraints() {
        Ok(None | Some((true, _))) => Ok(()),
        Ok(Some((false, _))) => Err("is no CA".to_owned()),
        Err(e) => Err(e.to_string()),
    }
}

fn one_signer(found: &Chain<'_>, pool: &Pool) -> Check {
    let mut seen = Vec::new();
    for (id, c) in pool.certificates() {
        if kind(c) != Some(Kind::Signer) {
            continue;
        }
        if !found.above.contains(&c) {
            let name = pool.name(id);
            return ONE_SIGNER.check(false, format!("{name} did not sign the attestation"));
        }
        seen.push(pool.name(id));
    }
    if seen.is_empty() {
        return ONE_SIGNER.outcome(
            Outcome::Unknown,
            "the certificate of slot f9 is not given; the device holds it",
        );
    }
    ONE_SIGNER.check(true, seen.join(", "))
}

/// The chain itself is the statement about the key.
fn origin(found: &Chain<'_>, is_read: bool, out: &mut Findings) {
    let seen = "a chain to Yubico over this key";
    out.checks.push(match (found.anchor(), is_read) {
        (Some(_), true) => ORIGIN.check(true, seen),
        _ => ORIGIN.outcome(Outcome::Unknown, format!("not shown: {seen}")),
    });
    if is_read {
        // Claims until the chain is proved: the frame sees to it.
        out.facts.generated_in_device = Known::Yes;
        out.facts.exportable = Exportable::Never;
    }
}

fn describe(s: &Statement, signer: Option<&Statement>, out: &mut Findings) {
    let facts = &mut out.facts;
    facts.vendor = Some("Yubico".to_owned());
    let fips = s.form_factor.is_some_and(parse::FormFactor::is_fips_series)
        || signer.is_some_and(|s| s.fips.is_some());
    let cspn = signer.is_some_and(|s| s.cspn.is_some());
    facts.model = s.firmware.map(|f| {
        let series = match (fips, cspn) {
            (true, _) => " FIPS series",
            (false, true) => " CSPN series",
            (false, false) => "",
        };
        format!("YubiKey {}{series}", f.0)
    });
    facts.serial = s.serial.map(|n| Serial {
        value: n.to_string(),
        names: SerialScope::Individual,
    });
    facts.firmware = s.firmware.map(|f| f.to_string());
    // A product line's marks: neither a level nor the mode the device is in.
    let mark = |pick: fn(&Statement) -> Option<u64>| signer.and_then(pick);
    for (name, value) in [
        ("device.fips-mark", mark(|s| s.fips)),
        ("device.cspn-mark", mark(|s| s.cspn)),
    ] {
        out.claims.extend(value.map(|v| said(name, v.to_string())));
    }
}

/// What is known of firmware, for a key of the kind in question.
fn weaknesses(f: Firmware, key: &PublicKey) -> Vec<Weakness> {
    let is_rsa = matches!(key, PublicKey::Rsa { .. });
    let is_ec = matches!(key, PublicKey::Ec { .. });
    let mut out = Vec::new();
    if (Firmware(4, 2, 6)..Firmware(4, 3, 5)).contains(&f) {
        out.push(known_weakness(
            "CVE-2017-15361",
            format!(
                "ROCA: RSA keys generated by firmware 4.2.6 to 4.3.4 (this is {f}) can be factored"
            ),
            &["RSA"],
            "Yubico security advisory YSA-2017-01",
            is_rsa,
            true,
        ));
    }
    if matches!(f, Firmware(4, 4, 2 | 4)) {
        out.push(known_weakness(
            "YSA-2019-02",
            format!("YubiKey FIPS firmware 4.4.2 and 4.4.4 (this is {f}): after power-up, random numbers are partly predictable, so are keys and ECDSA nonces"),
            &["RSA", "ECDSA"],
            "Yubico security advisory YSA-2019-02",
            is_rsa || is_ec,
            true,
        ));
    }
    if f < Firmware(5, 7, 0) {
        out.push(known_weakness(
            "CVE-2024-45678",
            format!("EUCLEAK: ECDSA on firmware below 5.7.0 (this is {f}) leaks the key to somebody who opens the device and measures it"),
            &["ECDSA"],
            "Yubico security advisory YSA-2024-03",
            is_ec,
            false,
        ));
    }
    out
}
