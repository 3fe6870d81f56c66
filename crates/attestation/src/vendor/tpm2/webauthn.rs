//! The WebAuthn container: an attestation object of format `tpm` (WebAuthn Level 3 §6.5.4, §8.3).

use super::Tpm2Error;
use crate::signature::{Algorithm, Hash};
use crate::verify::cbor::{self, Value};

/// Most certificates in `x5c`.
const MAX_X5C: usize = 8;

/// An attestation object of format `tpm`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AttestationObject<'a> {
    /// The authenticator data. ACME `device-attest-01` clients leave it out.
    pub auth_data: Option<AuthData<'a>>,
    /// The signature algorithm.
    pub alg: Algorithm,
    /// Certificates, attestation key first.
    pub x5c: Vec<&'a [u8]>,
    /// The signature over `cert_info`.
    pub sig: &'a [u8],
    /// `TPMS_ATTEST`.
    pub cert_info: &'a [u8],
    /// `TPMT_PUBLIC`.
    pub pub_area: &'a [u8],
}

/// Authenticator data (WebAuthn §6.1).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuthData<'a> {
    /// All of it: what `extraData` is over.
    pub bytes: &'a [u8],
    /// SHA-256 of the relying party's identifier.
    pub rp_id_hash: &'a [u8],
    /// Flags.
    pub flags: u8,
    /// Model of the authenticator.
    pub aaguid: &'a [u8],
    /// The credential's key.
    pub key: CoseKey<'a>,
}

/// A COSE key (RFC 9052 §7, RFC 9053 §7, RFC 8230 §4).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CoseKey<'a> {
    /// kty 3.
    Rsa {
        /// Modulus.
        n: &'a [u8],
        /// Exponent.
        e: &'a [u8],
    },
    /// kty 2.
    Ec2 {
        /// 1 P-256, 2 P-384, 3 P-521.
        curve: i64,
        /// x.
        x: &'a [u8],
        /// y.
        y: &'a [u8],
    },
}

/// A COSE signature algorithm (IANA COSE Algorithms) of those that TPMs use.
fn algorithm(id: i64) -> Option<Algorithm> {
    Some(match id {
        -65535 => Algorithm::RsaPkcs1(Hash::Sha1),
        -257 => Algorithm::RsaPkcs1(Hash::Sha256),
        -258 => Algorithm::RsaPkcs1(Hash::Sha384),
        -259 => Algorithm::RsaPkcs1(Hash::Sha512),
        -37 => Algorithm::RsaPss(Hash::Sha256),
        -38 => Algorithm::RsaPss(Hash::Sha384),
        -39 => Algorithm::RsaPss(Hash::Sha512),
        -7 => Algorithm::Ecdsa(Hash::Sha256),
        -35 => Algorithm::Ecdsa(Hash::Sha384),
        -36 => Algorithm::Ecdsa(Hash::Sha512),
        _ => return None,
    })
}

/// An integer of the size that COSE labels have.
fn int(value: &Value<'_>) -> Option<i64> {
    match value {
        Value::Unsigned(n) => i64::try_from(*n).ok(),
        Value::Negative(n) => i64::try_from(*n).ok().map(|n| -1 - n),
        _ => None,
    }
}

/// Whether the value is a map with `fmt` = `tpm`. Cheap, and no promise.
#[must_use]
pub fn looks_like(value: &Value<'_>) -> bool {
    value.get("fmt").and_then(Value::text) == Some("tpm")
}

impl<'a> AttestationObject<'a> {
    /// Reads it.
    ///
    /// # Errors
    /// [`Tpm2Error::WebAuthn`].
    pub fn parse(bytes: &'a [u8]) -> Result<Self, Tpm2Error> {
        let object = cbor::parse(bytes).ok_or(Tpm2Error::WebAuthn("not CBOR"))?;
        let Value::Map(entries) = &object else {
            return Err(Tpm2Error::WebAuthn("not a map"));
        };
        known(entries, &["fmt", "attStmt", "authData"])?;
        if object.get("fmt").and_then(Value::text) != Some("tpm") {
            return Err(Tpm2Error::WebAuthn("fmt is not tpm"));
        }
        let Some(statement @ Value::Map(entries)) = object.get("attStmt") else {
            return Err(Tpm2Error::WebAuthn("attStmt"));
        };
        known(
            entries,
            &["ver", "alg", "x5c", "sig", "certInfo", "pubArea"],
        )?;
        // WebAuthn §8.3: "ver" is "2.0".
        if statement.get("ver").and_then(Value::text) != Some("2.0") {
            return Err(Tpm2Error::WebAuthn("attStmt.ver is not 2.0"));
        }
        let x5c = statement
            .get("x5c")
            .and_then(|v| match v {
                Value::Array(items) => Some(items),
                _ => None,
            })
            .ok_or(Tpm2Error::WebAuthn("attStmt.x5c"))?;
        if x5c.is_empty() || x5c.len() > MAX_X5C {
            return Err(Tpm2Error::WebAuthn("attStmt.x5c has none or too many"));
        }
        let field = |name: &str, what| {
            let value = statement.get(name).and_then(Value::bytes);
            value.ok_or(Tpm2Error::WebAuthn(what))
        };
        Ok(Self {
            auth_data: match object.get("authData") {
                None => None,
                Some(Value::Bytes(b)) => Some(AuthData::parse(b)?),
                Some(_) => return Err(Tpm2Error::WebAuthn("authData")),
            },
            alg: statement
                .get("alg")
                .and_then(int)
                .and_then(algorithm)
                .ok_or(Tpm2Error::WebAuthn("attStmt.alg"))?,
            x5c: x5c
                .iter()
                .map(|c| c.bytes().ok_or(Tpm2Error::WebAuthn("attStmt.x5c")))
                .collect::<Result<_, _>>()?,
            sig: field("sig", "attStmt.sig")?,
            cert_info: field("certInfo", "attStmt.certInfo")?,
            pub_area: field("pubArea", "attStmt.pubArea")?,
        })
    }
}

/// Only these keys: what is not known could mean anything.
fn known(entries: &[(Value<'_>, Value<'_>)], names: &[&str]) -> Result<(), Tpm2Error> {
    let all = entries
        .iter()
        .all(|(k, _)| k.text().is_some_and(|t| names.contains(&t)));
    if all {
        Ok(())
    } else {
        Err(Tpm2Error::WebAuthn("a member that is not known"))
    }
}

impl<'a> AuthData<'a> {
    /// Flag AT: attested credential data included (§6.1).
    const ATTESTED: u8 = 0x40;
    /// Flag ED: extension data included.
    const EXTENSIONS: u8 = 0x80;

    fn parse(bytes: &'a [u8]) -> Result<Self, Tpm2Error> {
        let short = Tpm2Error::WebAuthn("authData is too short");
        let mut rest = bytes;
        let mut take = |n: usize| -> Result<&'a [u8], Tpm2Error> {
            let (head, tail) = rest.split_at_checked(n).ok_or(short.clone())?;
            rest = tail;
            Ok(head)
        };
        let rp_id_hash = take(32)?;
        let flags = *take(1)?.first().ok_or(short.clone())?;
        take(4)?; // signCount
        if flags & Self::ATTESTED == 0 {
            return Err(Tpm2Error::WebAuthn("authData holds no credential"));
        }
        let aaguid = take(16)?;
        let size = take(2)?
            .iter()
            .fold(0_usize, |n, b| (n << 8) | usize::from(*b));
        // §4: a credential identifier has at most 1023 bytes.
        if size > 1023 {
            return Err(Tpm2Error::WebAuthn("authData: credentialIdLength"));
        }
        take(size)?;
        let bad = Tpm2Error::WebAuthn("authData: credentialPublicKey");
        let (key, after) = cbor::prefix(rest).ok_or(bad)?;
        let key = CoseKey::of(&key)?;
        if flags & Self::EXTENSIONS == 0 {
            if !after.is_empty() {
                return Err(Tpm2Error::WebAuthn("bytes follow authData"));
            }
        } else if !matches!(cbor::parse(after), Some(Value::Map(_))) {
            return Err(Tpm2Error::WebAuthn("authData: extensions"));
        }
        Ok(Self {
            bytes,
            rp_id_hash,
            flags,
            aaguid,
            key,
        })
    }
}

impl<'a> CoseKey<'a> {
    fn of(value: &Value<'a>) -> Result<Self, Tpm2Error> {
        let bad = || Tpm2Error::WebAuthn("authData: credentialPublicKey");
        let bytes = |n: i64| value.get_int(n).and_then(Value::bytes).ok_or_else(bad);
        match value.get_int(1).and_then(int) {
            Some(3) => Ok(Self::Rsa {
                n: bytes(-1)?,
                e: bytes(-2)?,
            }),
            Some(2) => Ok(Self::Ec2 {
                curve: value.get_int(-1).and_then(int).ok_or_else(bad)?,
                x: bytes(-2)?,
                y: bytes(-3)?,
            }),
            _ => Err(bad()),
        }
    }
}
