//! Yubico YubiHSM 2: a certificate that the device issues over one of its keys, below the device's
//! own certificate, below Yubico's CA.
//!
//! Any key of the device that may sign attestations can issue a certificate that looks like one.
//! So the one place above an attestation is the device's own certificate, and only Yubico's CA
//! stands above that.

pub mod parse;

use crate::anchors::{Role, yubihsm2::LINE};
use crate::certificate::Certificate;
use crate::chain::{Place, Shape, walk};
use crate::key::PublicKey;
use crate::result::{Check, Exportable, Known, Outcome, Rule, Serial, SerialScope, Weakness};
use crate::verify::format::{known_weakness, said};
use crate::verify::{Context, Evidence, Findings, Format, Pool};
use parse::{Attestation, Device, Firmware, capability_names, is_attestation, is_device};

const SOURCE: &str = "Yubico, YubiHSM 2 attestation";
const READS: Rule = Rule::confirmed(
    "yubihsm2-attestation",
    "the attestation holds firmware, serial, origin, domains, capabilities and object id, and nothing unknown",
    SOURCE,
);
const CHAIN: Rule = Rule::confirmed(
    "yubihsm2-chain",
    "attestation <- the device's own certificate <- Yubico's CA, nothing between, each signature over the original bytes",
    SOURCE,
);
const ONE_DEVICE: Rule = Rule::confirmed(
    "yubihsm2-device",
    "every YubiHSM certificate given is of the device that attests, in serial number and firmware",
    SOURCE,
);
const ORIGIN: Rule = Rule::confirmed(
    "yubihsm2-origin",
    "the origin is exactly 0x01, generated; 0x02 imported and 0x10 imported under wrap are not set",
    SOURCE,
);
const EXPORT: Rule = Rule::confirmed(
    "yubihsm2-not-exportable",
    "capability 16, exportable-under-wrap, is not set (big-endian, bit n is capability n)",
    SOURCE,
);
const KNOWN_BITS: Rule = Rule::documented(
    "yubihsm2-capabilities-known",
    "no capability above 55 is set: what is not known could widen the key's use",
    SOURCE,
);
const OBJECT: Rule = Rule::confirmed(
    "yubihsm2-object",
    "the key is an object of its own, not object 0, the device's own key",
    SOURCE,
);
const TIME: Rule = Rule::confirmed(
    "yubihsm2-time",
    "validity is not looked at: an attestation copies the dates of the device's certificate",
    SOURCE,
);

/// Capabilities that sign and do nothing else: sign-pkcs, sign-pss, sign-ecdsa, sign-eddsa.
const SIGNING: u64 = 1 << 5 | 1 << 6 | 1 << 7 | 1 << 8;
const EXPORTABLE_UNDER_WRAP: u64 = 1 << 16;
const UNKNOWN: u64 = !0 << 56;

/// The format.
#[derive(Debug, Clone, Copy)]
pub struct YubiHsm2;

impl Format for YubiHsm2 {
    fn id(&self) -> &'static str {
        "yubihsm2"
    }

    fn title(&self) -> &'static str {
        "Yubico YubiHSM 2 attestation certificate"
    }

    fn claim(&self, pool: &Pool) -> Vec<Evidence> {
        pool.certificates()
            .filter(|(_, c)| is_attestation(c))
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
        match leaf.key() {
            Ok(key) => out.binding = Some(cx.bind(&key)),
            Err(e) => out.checks.push(READS.check(false, e.to_string())),
        }
        let said = match Attestation::read(leaf) {
            Ok(a) => a,
            Err(e) => {
                out.checks.push(READS.check(false, e.to_string()));
                return out;
            }
        };
        let unknown: Vec<_> = said.unknown.iter().map(ToString::to_string).collect();
        out.checks.push(if unknown.is_empty() {
            READS.check(
                true,
                format!("{}, {} bytes", leaf.subject(), leaf.der().len()),
            )
        } else {
            READS.check(false, format!("unknown extensions {}", unknown.join(", ")))
        });
        chain(leaf, &said, cx, &mut out);
        rules(&said, cx, &mut out);
        out
    }

    fn says(&self, evidence: &Evidence, pool: &Pool) -> Vec<(String, String)> {
        let Some(leaf) = leaf(evidence, pool) else {
            return Vec::new();
        };
        match Attestation::read(leaf) {
            Ok(a) => words(&a),
            Err(e) => vec![("malformed".to_owned(), e.to_string())],
        }
    }
}

fn leaf<'p>(evidence: &Evidence, pool: &'p Pool) -> Option<&'p Certificate> {
    pool.get(*evidence.parts.first()?)?.certificate()
}

fn words(a: &Attestation) -> Vec<(String, String)> {
    [
        ("device.serial", a.serial.to_string()),
        ("device.firmware", a.firmware.to_string()),
        ("key.origin", format!("{:#04x}", a.origin)),
        (
            "key.capabilities",
            format!(
                "{:#018x} ({})",
                a.capabilities,
                capability_names(a.capabilities)
            ),
        ),
        ("key.domains", format!("{:#06x}", a.domains)),
        ("key.object-id", format!("{:#06x}", a.object_id)),
        ("key.label", a.label.clone()),
    ]
    .into_iter()
    .map(|(n, v)| (n.to_owned(), v))
    .collect()
}

fn chain(leaf: &Certificate, said_by_leaf: &Attestation, cx: &Context<'_>, out: &mut Findings) {
    let is_leaf = |c: &Certificate| {
        if is_attestation(c) {
            Ok(())
        } else {
            Err("is no attestation".to_owned())
        }
    };
    let is_own = |c: &Certificate| device_fits(c, said_by_leaf);
    let is_ca = |c: &Certificate| {
        if is_attestation(c) || is_device(c) {
            return Err("is a device's certificate where Yubico's CA belongs".to_owned());
        }
        match c.basic_constraints() {
            Ok(Some((true, _))) => Ok(()),
            Ok(_) => Err("is no CA".to_owned()),
            Err(e) => Err(e.to_string()),
        }
    };
    let places = [
        Place {
            role: "attestation",
            fits: &is_leaf,
            signed_by: None,
        },
        Place {
            role: "device certificate",
            fits: &is_own,
            signed_by: Some(Role::Intermediate),
        },
        Place {
            role: "sub-CA",
            fits: &is_ca,
            signed_by: Some(Role::Root),
        },
    ];
    let shape = Shape {
        line: LINE,
        places: &places,
        allow_sha1: false,
        at: None,
    };
    let found = walk(cx.work, leaf, &cx.pool.candidates(), cx.anchors, &shape);
    out.checks.push(found.check(&CHAIN));
    out.checks.push(TIME.outcome(
        Outcome::NotChecked,
        format!("{} to {}", leaf.not_before(), leaf.not_after()),
    ));
    out.checks.push(one_device(said_by_leaf, cx.pool));
    out.used.extend(&found.used);
    out.facts.chain = found.names();
    if let Some(anchor) = found.anchor() {
        out.facts.genuine = Known::Yes;
        out.facts.root = Some(anchor.describe());
    }
    let fips = found
        .above
        .first()
        .and_then(|c| Device::read(c).ok())
        .and_then(|d| d.fips);
    out.facts.vendor = Some("Yubico".to_owned());
    out.facts.model = Some(
        match fips {
            Some(_) => "YubiHSM 2 FIPS",
            None => "YubiHSM 2",
        }
        .to_owned(),
    );
    if let Some(mark) = fips {
        // The model, not the mode it runs in, and no level.
        out.claims.push(said("device.fips-mark", mark.to_string()));
    }
}

/// The device's own certificate, of the same device as the attestation.
fn device_fits(c: &Certificate, leaf: &Attestation) -> Result<(), String> {
    if is_attestation(c) {
        // A key with sign-attestation-certificate can attest others.
        return Err("is itself an attestation of a key in the device".to_owned());
    }
    let device = Device::read(c).map_err(|e| e.to_string())?;
    same_device(&device, leaf)
}

fn same_device(device: &Device, leaf: &Attestation) -> Result<(), String> {
    if device.serial != leaf.serial {
        return Err(format!(
            "is of device {}, the attestation of {}",
            device.serial, leaf.serial
        ));
    }
    match device.firmware {
        Some(f) if f != leaf.firmware => Err(format!(
            "names firmware {f}, the attestation {}",
            leaf.firmware
        )),
        _ => Ok(()),
    }
}

fn one_device(leaf: &Attestation, pool: &Pool) -> Check {
    let mut seen = Vec::new();
    for (id, c) in pool.certificates().filter(|(_, c)| is_device(c)) {
        let fits = Device::read(c)
            .map_err(|e| e.to_string())
            .and_then(|d| same_device(&d, leaf));
        if let Err(e) = fits {
            return ONE_DEVICE.check(false, format!("{} {e}", pool.name(id)));
        }
        seen.push(pool.name(id));
    }
    if seen.is_empty() {
        return ONE_DEVICE.outcome(Outcome::Unknown, "no device certificate is given");
    }
    ONE_DEVICE.check(true, format!("{}: device {}", seen.join(", "), leaf.serial))
}

fn rules(a: &Attestation, cx: &Context<'_>, out: &mut Findings) {
    let facts = &mut out.facts;
    facts.serial = Some(Serial {
        value: a.serial.to_string(),
        names: SerialScope::Individual,
    });
    facts.firmware = Some(a.firmware.to_string());
    let generated = a.origin == 0x01;
    facts.generated_in_device = if generated { Known::Yes } else { Known::No };
    out.checks
        .push(ORIGIN.check(generated, format!("{:#04x}", a.origin)));
    let capabilities = format!(
        "{:#018x}: {}",
        a.capabilities,
        capability_names(a.capabilities)
    );
    let wrapped = a.capabilities & EXPORTABLE_UNDER_WRAP != 0;
    let all_known = a.capabilities & UNKNOWN == 0;
    facts.exportable = match (wrapped, all_known) {
        (true, _) => Exportable::Wrapped,
        (false, true) => Exportable::Never,
        (false, false) => Exportable::Unknown,
    };
    out.checks
        .push(EXPORT.check(!wrapped, capabilities.clone()));
    out.checks.push(KNOWN_BITS.check(all_known, capabilities));
    let sign_only = a.capabilities & !SIGNING == 0 && a.capabilities != 0;
    facts.sign_only = if sign_only { Known::Yes } else { Known::No };
    out.checks
        .push(OBJECT.check(a.object_id != 0, format!("{:#06x}", a.object_id)));
    out.weaknesses.extend(eucleak(a.firmware, cx.key));
    out.claims
        .extend(words(a).into_iter().skip(2).map(|(n, v)| said(n, v)));
}

/// CVE-2024-45678: the ECDSA of Infineon's library leaks to whoever opens the device and measures
/// it.
fn eucleak(firmware: Firmware, key: &PublicKey) -> Option<Weakness> {
    (firmware < Firmware(2, 4, 0)).then(|| {
        known_weakness(
            "CVE-2024-45678",
            format!(
                "EUCLEAK: ECDSA on firmware below 2.4.0 (this is {firmware}) leaks the key to somebody who opens the device and measures it"
            ),
            &["ECDSA"],
            "Yubico security advisory YSA-2024-03",
            matches!(key, PublicKey::Ec { .. }),
            false,
        )
    })
}
