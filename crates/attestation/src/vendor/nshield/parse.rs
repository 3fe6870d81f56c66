//! The bundle: a JSON object, as `nfkmattest bundle` writes it, into typed parts.

use super::acl::KeyGeneration;
use super::ncore::{Key, KeyHash, ModuleState, NcoreError, Reader, Signature};
use super::warrant::WarrantError;
use base64::Engine as _;
use base64::alphabet::URL_SAFE;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use serde::Deserialize;

/// Longest bundle read.
pub const MAX_BUNDLE: usize = 64 * 1024;
/// Longest name of a cipher suite read.
const MAX_SUITE: usize = 64;

/// The vendor writes base64url without padding; with padding it is the same.
const BASE64URL: GeneralPurpose = GeneralPurpose::new(
    &URL_SAFE,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// A byte order mark, which some tools put before UTF-8.
const BOM: &[u8] = &[0xef, 0xbb, 0xbf];

/// Why a bundle cannot be read. Retrying cannot help.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BundleError {
    /// More bytes than [`MAX_BUNDLE`].
    #[error("the bundle has {0} bytes; at most {MAX_BUNDLE} are read")]
    TooLarge(usize),
    /// Not JSON, not an object, or a member missing, twice, or not text.
    #[error("the bundle is not a JSON object of text members with all that is needed: {0}")]
    Json(String),
    /// A member is not base64url.
    #[error("{0} is not base64url")]
    Base64(&'static str),
    /// A member is not what nCore writes.
    #[error("{0} {1}")]
    Ncore(&'static str, NcoreError),
    /// The warrant cannot be read.
    #[error(transparent)]
    Warrant(#[from] WarrantError),
    /// The cipher suite's name is not letters and digits.
    #[error("ciphersuite is not 1 to {MAX_SUITE} letters and digits")]
    Suite,
    /// Neither or both of the certificates that bind the world.
    #[error("exactly one of CertKMaKMCbKNSO and CertKMaKMCaKFIPSbKNSO is needed")]
    WorldBinding,
    /// A FIPS level 3 world without its key.
    #[error("CertKMaKMCaKFIPSbKNSO is given without hkfips")]
    NoFipsKey,
    /// Part of what belongs to recovery is missing.
    #[error("of CertKREaKRAbKNSO, hkre and hkra some are given and some are not")]
    Recovery,
}

/// The members; others are ignored, for nothing rests on them.
#[derive(Deserialize)]
struct Json {
    pubkeydata: String,
    kcmsg: String,
    kcsig: String,
    modstatemsg: String,
    modstatesig: String,
    warrant: String,
    root: String,
    // Those below belong to persistent keys; a key that lives for one session needs no certificate.
    knsopub: String,
    hkm: String,
    hkmc: String,
    ciphersuite: String,
    hkfips: Option<String>,
    hkre: Option<String>,
    hkra: Option<String>,
    #[serde(rename = "CertKMaKMCbKNSO")]
    plain_binding: Option<String>,
    #[serde(rename = "CertKMaKMCaKFIPSbKNSO")]
    fips_binding: Option<String>,
    #[serde(rename = "CertKREaKRAbKNSO")]
    recovery: Option<String>,
}

/// A bundle.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bundle {
    /// The root's name, as the bundle gives it.
    pub root: String,
    /// The warrant's bytes; [`super::warrant::Warrant`] borrows from them.
    pub warrant: Vec<u8>,
    /// The attested key.
    pub key: Key,
    /// What the module signed when it made the key.
    pub generation: Signed<KeyGeneration>,
    /// What the module says of itself.
    pub state: Signed<ModuleState>,
    /// The Security Officer's key, KNSO.
    pub knso: Key,
    /// Hash of the module key, KM.
    pub hkm: KeyHash,
    /// Hash of the key that certifies module keys, KMC.
    pub hkmc: KeyHash,
    /// The cipher suite of the world.
    pub suite: String,
    /// By which the world's keys are bound to KNSO.
    pub binding: WorldBinding,
    /// How the world recovers keys, where it does.
    pub recovery: Option<Recovery>,
}

/// A message, what it says, and a signature over it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Signed<T> {
    /// The bytes signed.
    pub bytes: Vec<u8>,
    /// What they say.
    pub message: T,
    /// The signature.
    pub signature: Signature,
}

/// The certificate that binds a world's keys.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WorldBinding {
    /// Hash of KFIPS: the world is in FIPS 140 level 3 mode.
    pub hkfips: Option<KeyHash>,
    /// By KNSO.
    pub signature: Signature,
}

/// The certificate of a world's recovery keys.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recovery {
    /// Hash of KRE, to which archive blobs are encrypted.
    pub hkre: KeyHash,
    /// Hash of KRA.
    pub hkra: KeyHash,
    /// By KNSO.
    pub signature: Signature,
}

impl Bundle {
    /// Reads one. The warrant is read by [`super::warrant::Warrant::decode`].
    pub fn parse(bytes: &[u8]) -> Result<Self, BundleError> {
        if bytes.len() > MAX_BUNDLE {
            return Err(BundleError::TooLarge(bytes.len()));
        }
        let json: Json = serde_json::from_slice(bytes.strip_prefix(BOM).unwrap_or(bytes))
            .map_err(|e| BundleError::Json(e.to_string()))?;
        let suite = json.ciphersuite;
        if suite.is_empty()
            || suite.len() > MAX_SUITE
            || !suite.bytes().all(|b| b.is_ascii_alphanumeric())
        {
            return Err(BundleError::Suite);
        }
        let hkfips = json.hkfips.map(|h| hash("hkfips", &h)).transpose()?;
        let binding = match (json.plain_binding, json.fips_binding) {
            (Some(plain), None) => WorldBinding {
                hkfips: None,
                signature: signature("CertKMaKMCbKNSO", &plain)?,
            },
            (None, Some(fips)) => WorldBinding {
                hkfips: Some(hkfips.ok_or(BundleError::NoFipsKey)?),
                signature: signature("CertKMaKMCaKFIPSbKNSO", &fips)?,
            },
            _ => return Err(BundleError::WorldBinding),
        };
        let recovery = match (json.hkre, json.hkra, json.recovery) {
            (None, None, None) => None,
            (Some(hkre), Some(hkra), Some(by)) => Some(Recovery {
                hkre: hash("hkre", &hkre)?,
                hkra: hash("hkra", &hkra)?,
                signature: signature("CertKREaKRAbKNSO", &by)?,
            }),
            _ => return Err(BundleError::Recovery),
        };
        Ok(Self {
            warrant: base64url("warrant", &json.warrant)?,
            root: json.root,
            key: key("pubkeydata", &json.pubkeydata)?,
            generation: signed(
                ("kcmsg", &json.kcmsg),
                ("kcsig", &json.kcsig),
                KeyGeneration::decode,
            )?,
            state: signed(
                ("modstatemsg", &json.modstatemsg),
                ("modstatesig", &json.modstatesig),
                ModuleState::decode,
            )?,
            knso: key("knsopub", &json.knsopub)?,
            hkm: hash("hkm", &json.hkm)?,
            hkmc: hash("hkmc", &json.hkmc)?,
            suite,
            binding,
            recovery,
        })
    }
}

fn base64url(member: &'static str, text: &str) -> Result<Vec<u8>, BundleError> {
    BASE64URL
        .decode(text)
        .map_err(|_| BundleError::Base64(member))
}

fn key(member: &'static str, text: &str) -> Result<Key, BundleError> {
    Key::decode(&base64url(member, text)?).map_err(|e| BundleError::Ncore(member, e))
}

fn signature(member: &'static str, text: &str) -> Result<Signature, BundleError> {
    Signature::decode(&base64url(member, text)?).map_err(|e| BundleError::Ncore(member, e))
}

fn hash(member: &'static str, text: &str) -> Result<KeyHash, BundleError> {
    let bytes = base64url(member, text)?;
    let mut r = Reader::new(&bytes);
    r.hash_with_mechanism()
        .and_then(|hash| r.end().map(|()| hash))
        .map_err(|e| BundleError::Ncore(member, e))
}

fn signed<T>(
    (member, text): (&'static str, &str),
    (by, signature_text): (&'static str, &str),
    decode: impl FnOnce(&[u8]) -> Result<T, NcoreError>,
) -> Result<Signed<T>, BundleError> {
    let bytes = base64url(member, text)?;
    let message = decode(&bytes).map_err(|e| BundleError::Ncore(member, e))?;
    Ok(Signed {
        signature: signature(by, signature_text)?,
        bytes,
        message,
    })
}
