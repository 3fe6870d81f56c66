//! Securosys Primus HSM: an XML statement, a detached signature over its exact bytes, a chain.
//!
//! [`statement`] reads; the rules judge what it says, and whose signature stands under it.

mod rules;
pub mod statement;

use crate::anchors::Role;
use crate::anchors::securosys::LINE;
use crate::certificate::Certificate;
use crate::chain::{Chain, End, Place, Shape, walk};
use crate::key::PublicKey;
use crate::result::{Check, Known, Outcome, Rule, Serial, SerialScope};
use crate::signature::{Algorithm, Hash};
use crate::time::UnixSeconds;
use crate::verify::{Content, Context, Evidence, Findings, Format, PartId, Pool};
use spki::ObjectIdentifier;

/// The format's stable name.
pub const ID: &str = "securosys-primus";

const GUIDE: &str = "Securosys, Primus HSM Audit and Attestation (AN-E01)";
/// The policy of device certificates.
const DEVICE_POLICY: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.4.1.44668.4.1.3");
/// The root of development devices: never trusted.
const DEVELOPMENT_ROOT: &str = "SECUROSYS_ROOTKEY_DEV";
/// The common name of every attestation certificate.
const LEAF_NAME: &str = "attestation-key";

const STATEMENT: Rule = Rule::confirmed(
    "securosys-statement",
    "the statement is plain XML of the documented elements, each once, without DTD, comments or namespaces",
    GUIDE,
);
const SIGNATURE: Rule = Rule::confirmed(
    "securosys-signature",
    "the attestation key signed the statement's exact bytes: RSA with SHA-256, PKCS#1 v1.5",
    GUIDE,
);
const SIGNATURE_PSS: Rule = Rule::documented(
    "securosys-signature",
    "the attestation key signed the statement's exact bytes: RSA with SHA-256, PSS if so configured",
    "Securosys, Primus HSM JCE provider",
);
const CHAIN: Rule = Rule::confirmed(
    "securosys-chain",
    "attestation-key is certified by a device, PRIMUS HSM KEY (SN: n) with policy \
     1.3.6.1.4.1.44668.4.1.3 and path length 0, and the device by the pinned root; each valid when \
     the statement was made",
    GUIDE,
);

/// Securosys Primus HSM.
#[derive(Debug, Clone, Copy)]
pub struct Securosys;

impl Format for Securosys {
    fn id(&self) -> &'static str {
        ID
    }

    fn title(&self) -> &'static str {
        "Securosys Primus HSM"
    }

    fn claim(&self, pool: &Pool) -> Vec<Evidence> {
        pool.parts()
            .filter(|(_, p)| matches!(p.content, Content::Xml) && statement::looks_like(&p.bytes))
            .map(|(id, _)| Evidence { parts: vec![id] })
            .collect()
    }

    fn appraise(&self, evidence: &Evidence, cx: &Context<'_>) -> Findings {
        let mut findings = Findings::default();
        let Some(part) = evidence.parts.first().and_then(|id| cx.pool.get(*id)) else {
            return findings;
        };
        let said = match statement::parse(&part.bytes) {
            Ok(s) => s,
            Err(e) => {
                findings.checks.push(STATEMENT.check(false, e.to_string()));
                return findings;
            }
        };
        let label: String = said.label.chars().take(128).collect();
        let seen = format!("a private key, \"{}\"", label.escape_debug());
        findings.checks.push(STATEMENT.check(true, seen));
        rules::judge(&said, cx, &mut findings);
        whose(&part.bytes, said.attest_time, cx, &mut findings);
        findings
    }

    fn says(&self, evidence: &Evidence, pool: &Pool) -> Vec<(String, String)> {
        let part = evidence.parts.first().and_then(|id| pool.get(*id));
        match part.map(|p| statement::parse(&p.bytes)) {
            Some(Ok(s)) => rules::says(&s),
            Some(Err(e)) => vec![("problem".to_owned(), e.to_string())],
            None => Vec::new(),
        }
    }
}

/// Whose signature stands under the statement, and who vouches for that key.
fn whose(statement: &[u8], made: UnixSeconds, cx: &Context<'_>, findings: &mut Findings) {
    let leaves: Vec<(PartId, &Certificate)> = cx
        .pool
        .certificates()
        .filter(|(_, c)| c.subject().common_name() == Some(LEAF_NAME))
        .collect();
    let signed = signature(statement, &leaves, cx);
    let is_signed = signed.check.outcome == Outcome::Pass;
    findings.checks.push(signed.check);
    findings.used.extend(signed.part);
    // Without a signer the certificates at hand are followed all the same, for the report.
    let leaf = signed.leaf.or_else(|| leaves.first().copied());
    let Some((id, leaf)) = leaf else {
        let seen = "no certificate of an attestation key is at hand";
        findings.checks.push(CHAIN.outcome(Outcome::Unknown, seen));
        return;
    };
    let chain = chain(leaf, made, cx);
    findings.checks.push(chain.check(&CHAIN));
    let facts = &mut findings.facts;
    facts.vendor = Some("Securosys".to_owned());
    facts.model = Some("Primus HSM".to_owned());
    facts.chain = chain.names();
    if let End::Anchor(anchor) = chain.end {
        facts.genuine = if is_signed {
            Known::Yes
        } else {
            Known::Unknown
        };
        facts.root = Some(anchor.describe());
        // Every attestation certificate has the same name: the issuer's tells the devices apart.
        facts.serial = serial(leaf.issuer().common_name()).map(|value| Serial {
            value: value.to_owned(),
            names: SerialScope::Individual,
        });
        findings.used.push(id);
        findings.used.extend(&chain.used);
    }
}

/// What came of looking for a signature.
struct Signed<'a> {
    check: Check,
    leaf: Option<(PartId, &'a Certificate)>,
    part: Option<PartId>,
}

fn signature<'a>(
    statement: &[u8],
    leaves: &[(PartId, &'a Certificate)],
    cx: &Context<'_>,
) -> Signed<'a> {
    let unsigned = |check| Signed {
        check,
        leaf: None,
        part: None,
    };
    if leaves.is_empty() {
        let seen = "no certificate of an attestation key is at hand";
        return unsigned(SIGNATURE.outcome(Outcome::Unknown, seen));
    }
    let mut tried = 0_u32;
    for (id, leaf) in leaves {
        let Ok(key) = leaf.key() else { continue };
        let PublicKey::Rsa { n, .. } = &key else {
            continue;
        };
        // A signature is as long as the modulus, and has no other structure.
        let loose = |c: &Content| {
            matches!(
                c,
                Content::Binary | Content::Cbor | Content::Text | Content::Der
            )
        };
        for (part, p) in cx.pool.parts() {
            if p.bytes.len() != n.len() || !loose(&p.content) {
                continue;
            }
            tried += 1;
            for (rule, algorithm) in [
                (&SIGNATURE, Algorithm::RsaPkcs1(Hash::Sha256)),
                (&SIGNATURE_PSS, Algorithm::RsaPss(Hash::Sha256)),
            ] {
                if cx.work.verify(&key, algorithm, statement, &p.bytes).is_ok() {
                    return Signed {
                        check: rule.check(
                            true,
                            format!("{}: {}", cx.pool.name(part), algorithm.name()),
                        ),
                        leaf: Some((*id, leaf)),
                        part: Some(part),
                    };
                }
            }
        }
    }
    unsigned(if tried == 0 {
        SIGNATURE.outcome(
            Outcome::Unknown,
            "no signature of the attestation key's length is at hand",
        )
    } else {
        let seen =
            "the statement is not what the attestation key signed; not one byte of it may change";
        SIGNATURE.check(false, seen)
    })
}

/// attestation-key <- device <- root: exactly two certificates.
fn chain<'a>(leaf: &'a Certificate, made: UnixSeconds, cx: &'a Context<'_>) -> Chain<'a> {
    let shape = Shape {
        line: LINE,
        places: &[
            Place {
                role: "attestation key",
                fits: &is_attestation_key,
                signed_by: None,
            },
            Place {
                role: "device",
                fits: &is_device,
                signed_by: Some(Role::Root),
            },
        ],
        allow_sha1: false,
        at: Some(made),
    };
    walk(cx.work, leaf, &cx.pool.candidates(), cx.anchors, &shape)
}

fn is_attestation_key(c: &Certificate) -> Result<(), String> {
    not_for_development(c)?;
    if c.subject().common_name() != Some(LEAF_NAME) {
        return Err(format!("its name is not {LEAF_NAME}"));
    }
    match c.basic_constraints() {
        Ok(Some((false, _))) => Ok(()),
        Ok(_) => Err("it is not marked as what it is, no authority".to_owned()),
        Err(e) => Err(e.to_string()),
    }
}

fn is_device(c: &Certificate) -> Result<(), String> {
    not_for_development(c)?;
    if serial(c.subject().common_name()).is_none() {
        return Err("its name is not that of a device, PRIMUS HSM KEY (SN: n)".to_owned());
    }
    match c.basic_constraints() {
        Ok(Some((true, Some(0)))) => {}
        Ok(_) => return Err("it is no authority of path length 0".to_owned()),
        Err(e) => return Err(e.to_string()),
    }
    let policies = c.policies().map_err(|e| e.to_string())?;
    if policies.iter().any(|p| *p == DEVICE_POLICY) {
        return Ok(());
    }
    Err(format!("it has not the policy {DEVICE_POLICY}"))
}

fn not_for_development(c: &Certificate) -> Result<(), String> {
    if [c.issuer(), c.subject()]
        .iter()
        .any(|n| n.common_name() == Some(DEVELOPMENT_ROOT))
    {
        return Err(format!(
            "{DEVELOPMENT_ROOT} is the root of development devices"
        ));
    }
    Ok(())
}

/// The serial number in a device's name.
fn serial(common_name: Option<&str>) -> Option<&str> {
    let rest = common_name?.strip_prefix("PRIMUS HSM KEY (SN: ")?;
    let digits = rest.strip_suffix(')')?;
    let fits = (1..=20).contains(&digits.len()) && digits.bytes().all(|b| b.is_ascii_digit());
    fits.then_some(digits)
}
