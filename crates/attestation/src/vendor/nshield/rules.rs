//! The rules: Entrust's verification steps WV1 to ACLV over a bundle that was read.

use super::LINE;
use super::access_list::AccessList;
use super::acl::Generation;
use super::hash::key_hash;
use super::ncore::{Key, Signature, SignatureMechanism, bits};
use super::parse::Bundle;
use super::warrant::{P521Point, Warrant};
use crate::anchors::{Anchor, Role};
use crate::key::{Curve, KeyError, PublicKey};
use crate::result::{
    Certification, CertifiedLevel, Check, Known, Outcome, Rule, Serial, SerialScope,
};
use crate::signature::{DsaKey, Hash, SignatureError, Work};
use crate::verify::format::{known_weakness, said};
use crate::verify::{Binding, Context, Findings};

macro_rules! guide {
    ($step:literal) => {
        concat!(
            "Entrust, nShield Key Attestation Format, Attestation bundle verification, ",
            $step
        )
    };
}
pub(super) use guide;

const WARRANT: Rule = Rule::confirmed(
    "nshield-warrant",
    "the warrant leads from KWARN-1 through delegations to the module's key KLF2; each signature is ECDSA P-521 with SHA-512 by the key before it",
    guide!("WV1"),
);
const STATE: Rule = Rule::confirmed(
    "nshield-module-state",
    "the module's state is signed by the warrant's KLF2 and names its serial number and keys",
    guide!("MSCV1, MSCV2"),
);
const KNSO: Rule = Rule::confirmed(
    "nshield-security-officer",
    "knsopub is the Security Officer's key of the module's state",
    guide!("MSCV3, MSCV4"),
);
const MODULE_KEY: Rule = Rule::confirmed(
    "nshield-module-key",
    "hkm is among the module keys of the module's state",
    guide!("MSCV5"),
);
const BINDING: Rule = Rule::confirmed(
    "nshield-world-binding",
    "the Security Officer's key certifies the world's module key",
    guide!("WBCV1 to WBCV4"),
);
const BINDING_FIPS: Rule = Rule::documented(
    "nshield-world-binding",
    "the Security Officer's key certifies the world's module key and its FIPS 140 level 3 key",
    guide!("WBCV1 to WBCV4"),
);
const RECOVERY: Rule = Rule::confirmed(
    "nshield-recovery-keys",
    "the Security Officer's key certifies the world's recovery keys",
    guide!("WBCV5"),
);
const GENERATION: Rule = Rule::confirmed(
    "nshield-key-generation",
    "the module's KML signs that the module generated the key",
    guide!("KGCV1"),
);
const KEY_HASH: Rule = Rule::confirmed(
    "nshield-key-hash",
    "the hash in the key generation certificate is that of pubkeydata, and the parameters fit",
    guide!("KGCV2"),
);
/// Judges a bundle.
pub(super) fn judge(bundle: &Bundle, warrant: &Warrant<'_>, cx: &Context<'_>) -> Findings {
    let mut out = Findings::default();
    let (chain, anchor) = warrant_chain(bundle, warrant, cx);
    let from_warrant = chain.outcome;
    out.checks.push(chain);
    let world = [
        module_state(bundle, warrant, cx.work),
        security_officer(bundle),
        module_key(bundle),
        world_binding(bundle, cx.work),
    ];
    let recovery = recovery(bundle, cx.work);
    let key = [key_generation(bundle, cx.work), hash_of_key(bundle)];
    let acl = AccessList::read(&bundle.generation.message.acl, bundle);
    let signed = world
        .iter()
        .chain(&recovery)
        .chain(&key)
        .all(|c| c.outcome == Outcome::Pass);
    out.checks.extend(world);
    out.checks.extend(recovery);
    out.checks.extend(key);
    out.checks.push(acl.check());
    out.binding = Some(match public_key(&bundle.key) {
        Ok(key) => cx.bind(&key),
        Err(e) => Binding {
            same: false,
            seen: format!("pubkeydata: {e}"),
        },
    });
    facts(&mut out, bundle, warrant, &acl);
    // The module's key is proved by the warrant, all else by the module's key.
    if signed && from_warrant == Outcome::Pass {
        out.facts.genuine = Known::Yes;
        out.facts.root = anchor.map(Anchor::describe);
    }
    out
}

fn facts(out: &mut Findings, bundle: &Bundle, warrant: &Warrant<'_>, acl: &AccessList) {
    let module = &warrant.module;
    let facts = &mut out.facts;
    facts.chain = vec![warrant.root.to_owned()];
    let delegations = warrant.certificates.len().saturating_sub(1);
    facts
        .chain
        .extend(vec!["Delegation".to_owned(); delegations]);
    facts.chain.push(format!("KLF2 of module {}", module.esn));
    facts.chain.push("KML".to_owned());
    facts.chain.reverse();
    facts.generated_in_device = Known::Yes;
    facts.exportable = acl.exportable;
    facts.sign_only = acl.sign_only();
    facts.vendor = Some("Entrust".to_owned());
    facts.model = Some("nShield".to_owned());
    facts.serial = Some(Serial {
        value: module.esn.to_owned(),
        names: SerialScope::Individual,
    });
    let words = module.approvals.join(", ");
    // The highest level stated; it is the maker's word in the warrant, with no certificate number.
    let fips = module.fips.iter().max_by_key(|f| (f.level, f.version));
    facts.certification = fips.map(|f| Certification {
        scheme: words.clone(),
        number: None,
        status: "stated in the module's warrant".to_owned(),
        as_of: None,
        source: "the evidence: Approvals in the warrant, signed by Entrust".to_owned(),
        level: Some(CertifiedLevel {
            standard: format!("140-{}", f.version),
            level: f.level,
        }),
    });
    if module.field_upgrade {
        out.weaknesses.push(known_weakness(
            "nshield-field-upgrade-warrant",
            "the warrant was made in the field, on the strength of the module's older DSA-1024 key",
            &["every key of the module"],
            "Entrust, nShield Key Attestation Format, FieldUpgradeModuleInformation",
            true,
            false,
        ));
    }
    let fips_world = bundle.binding.hkfips.is_some();
    out.claims.push(said(
        "world.fips-140-level-3-mode",
        if fips_world { "yes" } else { "no" },
    ));
    out.claims.push(said("world.cipher-suite", &bundle.suite));
    out.claims
        .push(said("key.operations", acl.describe_operations()));
    for way in &acl.recoverable {
        out.claims.push(said("key.recoverable", way));
    }
    if let Some(serial) = module.physical_serial {
        out.claims.push(said("device.physical-serial", serial));
    }
}

/// WV1.
fn warrant_chain<'a>(
    bundle: &Bundle,
    warrant: &Warrant<'_>,
    cx: &'a Context<'_>,
) -> (Check, Option<&'a Anchor>) {
    if bundle.root != warrant.root {
        let seen = format!(
            "the bundle names {:?}, the warrant {:?}",
            bundle.root, warrant.root
        );
        return (WARRANT.check(false, seen), None);
    }
    let candidates: Vec<&Anchor> = cx
        .anchors
        .serving(LINE, Role::Key)
        .filter(|a| a.name().is_empty() || a.name() == warrant.root)
        .filter(|a| {
            matches!(
                a.key(),
                PublicKey::Ec {
                    curve: Curve::P521,
                    ..
                }
            )
        })
        .collect();
    if candidates.is_empty() {
        let seen = format!("the root {:?} is not at hand", warrant.root);
        return (WARRANT.outcome(Outcome::Unknown, seen), None);
    }
    let Some(anchor) = candidates
        .into_iter()
        .find(|a| first_is_signed_by(warrant, a.key(), cx.work))
    else {
        let seen = format!("certificate 1 is not signed by {}", warrant.root);
        return (WARRANT.check(false, seen), None);
    };
    let mut signer = None;
    for (index, certificate) in (1..).zip(&warrant.certificates) {
        if let Some(key) = &signer
            && let Err(e) = p521_signed(key, certificate.payload, certificate.signature, cx.work)
        {
            return (
                WARRANT.check(false, format!("certificate {index}: {e}")),
                None,
            );
        }
        match p521_key(&certificate.key) {
            Ok(key) => signer = Some(key),
            Err(e) => {
                return (
                    WARRANT.check(false, format!("certificate {index}: {e}")),
                    None,
                );
            }
        }
    }
    let module = &warrant.module;
    let kind = if module.field_upgrade {
        "FieldUpgradeModuleInformation"
    } else {
        "ModuleInformation"
    };
    let seen = format!(
        "{} <- {} certificate(s), the last {kind} of module {}",
        anchor.describe(),
        warrant.certificates.len(),
        module.esn
    );
    (WARRANT.check(true, seen), Some(anchor))
}

fn first_is_signed_by(warrant: &Warrant<'_>, key: &PublicKey, work: &Work) -> bool {
    warrant
        .certificates
        .first()
        .is_some_and(|c| p521_signed(key, c.payload, c.signature, work).is_ok())
}

/// MSCV1 and MSCV2.
fn module_state(bundle: &Bundle, warrant: &Warrant<'_>, work: &Work) -> Check {
    let state = &bundle.state;
    let Some(Ok(klf2)) = warrant.certificates.last().map(|c| p521_key(&c.key)) else {
        return STATE.check(false, "the warrant's KLF2 is no point of P-521");
    };
    let by = &state.signature;
    let verified = match by.mechanism {
        SignatureMechanism::EcdsaSha512 => {
            work.verify_fixed(&klf2, Hash::Sha512, &state.bytes, &by.r, &by.s)
        }
        SignatureMechanism::DsaSha256 => Err(SignatureError::Mismatch),
    };
    if let Err(e) = verified {
        return STATE.check(false, format!("modstatesig: {e}"));
    }
    let message = &state.message;
    let (kml_hash, kml) = &message.kml;
    let stated_klf2 = message.klf2.as_ref();
    let problem = if message.esn != warrant.module.esn {
        Some(format!(
            "the state is of module {}, the warrant of {}",
            message.esn, warrant.module.esn
        ))
    } else if key_hash(kml) != *kml_hash {
        Some("KML does not have the hash stated with it".to_owned())
    } else if stated_klf2
        .is_some_and(|(hash, key)| key_hash(key) != *hash || public_key(key).as_ref() != Ok(&klf2))
    {
        Some("KLF2 of the state is not the warrant's".to_owned())
    } else {
        None
    };
    STATE.check(
        problem.is_none(),
        problem.unwrap_or_else(|| format!("module {}, KML {}", message.esn, kml.describe())),
    )
}

/// MSCV3 and MSCV4.
fn security_officer(bundle: &Bundle) -> Check {
    let (is, stated) = (key_hash(&bundle.knso), bundle.state.message.hknso);
    KNSO.check(
        is == stated,
        format!(
            "knsopub ({}) has the hash {}, the state names {}",
            bundle.knso.describe(),
            hex::encode(is),
            hex::encode(stated)
        ),
    )
}

/// MSCV5.
fn module_key(bundle: &Bundle) -> Check {
    let keys = &bundle.state.message.module_keys;
    MODULE_KEY.check(
        keys.contains(&bundle.hkm),
        format!(
            "hkm {}, {} module keys in the state",
            hex::encode(bundle.hkm),
            keys.len()
        ),
    )
}

/// WBCV1 to WBCV4.
fn world_binding(bundle: &Bundle, work: &Work) -> Check {
    let hashes = [bundle.state.message.hknso, bundle.hkm, bundle.hkmc];
    let (rule, text) = match bundle.binding.hkfips {
        None => (BINDING, format!("Module keys: suite = {}\0", bundle.suite)),
        Some(_) => (
            BINDING_FIPS,
            format!("Module setup, FIPS3; suite = {}\0", bundle.suite),
        ),
    };
    let mut body = text.into_bytes();
    for hash in hashes.iter().chain(&bundle.binding.hkfips) {
        body.extend(hash);
    }
    let world = match bundle.binding.hkfips {
        None => "a world not in FIPS 140 level 3 mode",
        Some(_) => "a world in FIPS 140 level 3 mode",
    };
    signature_check(
        &rule,
        &bundle.knso,
        &body,
        &bundle.binding.signature,
        work,
        || format!("{world}, cipher suite {}", bundle.suite),
    )
}

/// WBCV5.
fn recovery(bundle: &Bundle, work: &Work) -> Option<Check> {
    let recovery = bundle.recovery.as_ref()?;
    let mut body = b"Card Recovery\0".to_vec();
    for hash in [&bundle.state.message.hknso, &recovery.hkre, &recovery.hkra] {
        body.extend(hash);
    }
    Some(signature_check(
        &RECOVERY,
        &bundle.knso,
        &body,
        &recovery.signature,
        work,
        || format!("KRE {}", hex::encode(recovery.hkre)),
    ))
}

/// KGCV1.
fn key_generation(bundle: &Bundle, work: &Work) -> Check {
    let (_, kml) = &bundle.state.message.kml;
    let generation = &bundle.generation;
    let by = &generation.signature;
    signature_check(&GENERATION, kml, &generation.bytes, by, work, || {
        format!(
            "a key generation certificate, signed by KML ({})",
            kml.describe()
        )
    })
}

/// KGCV2.
fn hash_of_key(bundle: &Bundle) -> Check {
    let message = &bundle.generation.message;
    let hash = key_hash(&bundle.key);
    let fits = match (message.generation, &bundle.key) {
        (Generation::Rsa { bits: stated }, Key::Rsa { n, .. }) => {
            usize::try_from(stated).is_ok_and(|b| b == bits(n))
        }
        (Generation::Curve { curve }, Key::Ecdsa { curve: of_key, .. }) => {
            super::ncore::curve_from_word(curve) == Ok(*of_key)
        }
        _ => false,
    };
    KEY_HASH.check(
        hash == message.key && fits,
        format!(
            "pubkeydata ({}) has the hash {}, the certificate names {}, made with {:?}",
            bundle.key.describe(),
            hex::encode(hash),
            hex::encode(message.key),
            message.generation
        ),
    )
}

fn signature_check(
    rule: &Rule,
    key: &Key,
    message: &[u8],
    by: &Signature,
    work: &Work,
    seen: impl FnOnce() -> String,
) -> Check {
    match verify(key, message, by, work) {
        Ok(()) => rule.check(true, seen()),
        Err(e) => rule.check(false, e.to_string()),
    }
}

fn verify(key: &Key, message: &[u8], by: &Signature, work: &Work) -> Result<(), SignatureError> {
    match (key, by.mechanism) {
        (Key::Dsa { p, q, g, y }, SignatureMechanism::DsaSha256) => {
            work.verify_dsa_sha256(DsaKey { p, q, g, y }, message, &by.r, &by.s)
        }
        (Key::Ecdsa { .. }, SignatureMechanism::EcdsaSha512) => {
            let key = public_key(key).map_err(|_| SignatureError::Invalid)?;
            work.verify_fixed(&key, Hash::Sha512, message, &by.r, &by.s)
        }
        _ => Err(SignatureError::Mismatch),
    }
}

fn p521_key(point: &P521Point) -> Result<PublicKey, KeyError> {
    PublicKey::from_coordinates(Curve::P521, &point.x, &point.y)
}

fn p521_signed(
    key: &PublicKey,
    payload: &[u8],
    signature: &[u8],
    work: &Work,
) -> Result<(), SignatureError> {
    let half = Curve::P521.coordinate();
    let (r, s) = signature
        .split_at_checked(half)
        .ok_or(SignatureError::Invalid)?;
    work.verify_fixed(key, Hash::Sha512, payload, r, s)
}

/// The key by its material; DSA keys are never a subscriber's.
pub(super) fn public_key(key: &Key) -> Result<PublicKey, KeyError> {
    match key {
        Key::Rsa { e, n } => PublicKey::from_rsa_parts(n, e),
        Key::Ecdsa { curve, x, y } => PublicKey::from_coordinates(*curve, x, y),
        Key::Dsa { .. } => Err(KeyError::Algorithm("DSA".to_owned())),
    }
}
