//! The warrant: Entrust's word that a module is genuine, from KWARN-1 to the module's key KLF2.
//!
//! A list: the root's name, then certificates. Each is a map of a payload (bytes, a D3S map) and
//! a signature r || s over those bytes by the key before it: ECDSA on P-521 with SHA-512.

use super::d3s::{D3sError, Value};

/// Most certificates in a warrant; real ones have two.
const MAX_CERTIFICATES: usize = 4;
/// Bytes of r and of s, and of a coordinate, on P-521.
const P521_LEN: usize = 66;

/// Why bytes are no warrant. Retrying cannot help.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WarrantError {
    /// Not D3S.
    #[error("the warrant {0}")]
    D3s(#[from] D3sError),
    /// A certificate's payload is not D3S.
    #[error("the payload of warrant certificate {0} {1}")]
    Payload(usize, D3sError),
    /// Not a list of a root's name and certificates.
    #[error(
        "the warrant is not a list of the root's name and 1 to {MAX_CERTIFICATES} certificates"
    )]
    NotAList,
    /// A certificate is not a map of exactly payload and signature.
    #[error("warrant certificate {0} is not a map of Payload and Signature")]
    NotACertificate(usize),
    /// A signature of another length.
    #[error("the signature of warrant certificate {0} does not have 132 bytes")]
    SignatureLength(usize),
    /// A member missing, or not of its kind.
    #[error("warrant certificate {index} has no proper {member}")]
    Member {
        /// Which certificate, from 1.
        index: usize,
        /// Which member.
        member: &'static str,
    },
    /// A type that is not known.
    #[error("warrant certificate {0} is of the unknown type {1}")]
    Type(usize, String),
    /// A delegation at the end, or module information before it.
    #[error("warrant certificate {0} is not in its place: delegations, then module information")]
    Place(usize),
}

/// A warrant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Warrant<'a> {
    /// The root's name.
    pub root: &'a str,
    /// From the root to the module.
    pub certificates: Vec<WarrantCertificate<'a>>,
    /// What the last says of the module.
    pub module: ModuleInformation<'a>,
}

/// One certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WarrantCertificate<'a> {
    /// The bytes signed.
    pub payload: &'a [u8],
    /// r || s.
    pub signature: &'a [u8],
    /// The key it speaks for: a delegate's, or the module's KLF2.
    pub key: P521Point,
}

/// A point on P-521: x || y, 66 bytes each.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct P521Point {
    /// Abscissa.
    pub x: [u8; P521_LEN],
    /// Ordinate.
    pub y: [u8; P521_LEN],
}

/// What a warrant says of a module.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModuleInformation<'a> {
    /// Made in the field, on the strength of an older DSA-1024 module key.
    pub field_upgrade: bool,
    /// Electronic serial number.
    pub esn: &'a str,
    /// Serial number on the case.
    pub physical_serial: Option<&'a str>,
    /// What it is approved for, in words.
    pub approvals: Vec<String>,
    /// FIPS 140 approvals among them.
    pub fips: Vec<FipsApproval>,
}

/// A FIPS 140 approval, as the warrant states it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FipsApproval {
    /// 2 for FIPS 140-2, 3 for 140-3.
    pub version: u8,
    /// The level.
    pub level: u8,
}

impl<'a> Warrant<'a> {
    /// Reads one and nothing after it.
    pub fn decode(bytes: &'a [u8]) -> Result<Self, WarrantError> {
        let list = Value::decode(bytes)?;
        let [Value::Symbol(root), rest @ ..] = list.list().ok_or(WarrantError::NotAList)? else {
            return Err(WarrantError::NotAList);
        };
        if rest.is_empty() || rest.len() > MAX_CERTIFICATES {
            return Err(WarrantError::NotAList);
        }
        let mut certificates = Vec::new();
        let mut module = None;
        for (index, item) in (1..).zip(rest) {
            let (certificate, information) = certificate(index, item)?;
            // Module information closes the chain, and nothing else does: a module's key
            // delegates to nobody.
            if information.is_some() != (index == rest.len()) {
                return Err(WarrantError::Place(index));
            }
            certificates.push(certificate);
            module = information;
        }
        Ok(Self {
            root,
            certificates,
            module: module.ok_or(WarrantError::NotAList)?,
        })
    }
}

fn certificate<'a>(
    index: usize,
    item: &Value<'a>,
) -> Result<(WarrantCertificate<'a>, Option<ModuleInformation<'a>>), WarrantError> {
    let not = WarrantError::NotACertificate(index);
    let Value::Map(pairs) = item else {
        return Err(not);
    };
    let (Some(payload), Some(signature), 2) = (
        item.get("Payload").and_then(Value::bytes),
        item.get("Signature").and_then(Value::bytes),
        pairs.len(),
    ) else {
        return Err(not);
    };
    if signature.len() != 2 * P521_LEN {
        return Err(WarrantError::SignatureLength(index));
    }
    let body = Value::decode(payload).map_err(|e| WarrantError::Payload(index, e))?;
    let missing = |member| WarrantError::Member { index, member };
    let kind = body
        .get("WarrantCertificateType")
        .and_then(Value::symbol)
        .ok_or(missing("WarrantCertificateType"))?;
    let (key, mechanism, information) = match kind {
        "Delegation" => ("DelegateKey", "SigMech", None),
        "ModuleInformation" | "FieldUpgradeModuleInformation" => {
            let esn = body
                .get("ElectronicSerialNumber")
                .and_then(Value::text)
                .ok_or(missing("ElectronicSerialNumber"))?;
            let (approvals, fips) = approvals(body.get("Approvals"));
            let information = ModuleInformation {
                field_upgrade: kind == "FieldUpgradeModuleInformation",
                esn,
                physical_serial: body.get("PhysicalSerialNumber").and_then(Value::text),
                approvals,
                fips,
            };
            ("KLF2pub", "KLF2mech", Some(information))
        }
        other => return Err(WarrantError::Type(index, other.to_owned())),
    };
    let point = body.get(key).and_then(p521_point).ok_or(missing(key))?;
    if !body.get(mechanism).is_some_and(is_ecdsa_sha512) {
        return Err(missing(mechanism));
    }
    let certificate = WarrantCertificate {
        payload,
        signature,
        key: point,
    };
    Ok((certificate, information))
}

/// `[ECDSA, Public, NISTP521, [x, y]]`.
fn p521_point(value: &Value<'_>) -> Option<P521Point> {
    let [
        Value::Symbol("ECDSA"),
        Value::Symbol("Public"),
        Value::Symbol("NISTP521"),
        Value::List(point),
    ] = value.list()?
    else {
        return None;
    };
    let [Value::Integer(x), Value::Integer(y)] = point.as_slice() else {
        return None;
    };
    Some(P521Point {
        x: left_padded(x)?,
        y: left_padded(y)?,
    })
}

/// `[ECDSA, [EMSA1, SHA512]]`.
fn is_ecdsa_sha512(value: &Value<'_>) -> bool {
    let hash = [Value::Symbol("EMSA1"), Value::Symbol("SHA512")];
    value.list().is_some_and(
        |mechanism| matches!(mechanism, [Value::Symbol("ECDSA"), Value::List(h)] if *h == hash),
    )
}

fn left_padded(number: &[u8]) -> Option<[u8; P521_LEN]> {
    let mut out = [0; P521_LEN];
    let start = P521_LEN.checked_sub(number.len())?;
    out.get_mut(start..)?.copy_from_slice(number);
    Some(out)
}

/// `[[FIPS140, 2, 3, MultiChipEmbedded], …]`: in words, and the FIPS ones apart.
fn approvals(value: Option<&Value<'_>>) -> (Vec<String>, Vec<FipsApproval>) {
    let (mut words, mut fips) = (Vec::new(), Vec::new());
    for approval in value.and_then(Value::list).unwrap_or_default() {
        match approval.list() {
            Some(
                [
                    Value::Symbol("FIPS140"),
                    Value::Small(version),
                    Value::Small(level),
                    ..,
                ],
            ) => {
                words.push(format!("FIPS140 {version} level {level}"));
                fips.push(FipsApproval {
                    version: *version,
                    level: *level,
                });
            }
            Some([Value::Symbol(scheme), ..]) => words.push((*scheme).to_owned()),
            _ => words.push("an approval that is not understood".to_owned()),
        }
    }
    (words, fips)
}
