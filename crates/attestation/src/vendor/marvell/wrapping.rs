//! The JSON in which clouds hand out blobs and certificates: bytes to parts, without judgement.
//!
//! Nothing of the wrapping is signed. It only says where blobs and certificates are, and under
//! which name the key was asked for.

use super::jwk::Jwk;
use crate::verify::armour;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;

/// The largest JSON read.
pub const MAX_JSON: usize = 1024 * 1024;
/// The most certificates of one chain.
const MAX_CERTIFICATES: usize = 16;

/// Why a wrapping could not be read. Retrying cannot help.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WrappingError {
    /// More than [`MAX_JSON`].
    #[error("attestation JSON: {0} bytes, more than {MAX_JSON}")]
    TooLarge(usize),
    /// Not JSON, a member twice, or of another type.
    #[error("attestation JSON: {0}")]
    Json(String),
    /// A member is missing.
    #[error("attestation JSON: {0} is missing")]
    Missing(&'static str),
    /// A member is not base64 or PEM, or longer than is read.
    #[error("attestation JSON: {0} is malformed")]
    Value(&'static str),
    /// A format or version that is not read.
    #[error("attestation JSON: {field} is \"{found}\", of which only {known} is read")]
    Format {
        /// The member.
        field: &'static str,
        /// What it says.
        found: String,
        /// What is read.
        known: &'static str,
    },
}

/// Who wrapped it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Cloud {
    /// Google Cloud KMS: a `CryptoKeyVersion`, or its `attestation` alone.
    Google,
    /// Azure Managed HSM: a key with `attributes.attestation`.
    Azure,
}

/// What a wrapping holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wrapping {
    /// Who wrapped it.
    pub cloud: Cloud,
    /// The name the key is said to have: Google's resource name, Azure's key identifier.
    pub name: Option<String>,
    /// Azure: the public key that is shown beside the evidence.
    pub key: Option<Jwk>,
    /// The blobs, gzip'd or not: of the private key or the pair, then of the public key.
    pub blobs: Vec<Vec<u8>>,
    /// Certificates, PEM.
    pub certificates: String,
}

#[derive(Deserialize)]
struct Document {
    // Google, the key version.
    name: Option<String>,
    #[serde(rename = "protectionLevel")]
    protection_level: Option<String>,
    attestation: Option<Google>,
    // Google, the attestation alone.
    format: Option<String>,
    content: Option<String>,
    #[serde(rename = "certChains")]
    cert_chains: Option<Chains>,
    // Azure. Its command line calls the attributes "properties" in some versions.
    #[serde(alias = "properties")]
    attributes: Option<Attributes>,
    key: Option<Jwk>,
}

#[derive(Deserialize)]
struct Google {
    format: Option<String>,
    content: Option<String>,
    #[serde(rename = "certChains")]
    cert_chains: Option<Chains>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct Chains {
    cavium_certs: Vec<String>,
    google_card_certs: Vec<String>,
    google_partition_certs: Vec<String>,
}

#[derive(Deserialize)]
struct Attributes {
    attestation: Option<Azure>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Azure {
    version: Option<String>,
    // The preview of the API called it "certificates".
    #[serde(alias = "certificates")]
    certificate_pem_file: Option<String>,
    private_key_attestation: Option<String>,
    public_key_attestation: Option<String>,
}

/// Whether `bytes` are JSON with one of the members that only these wrappings have.
#[must_use]
pub fn looks_like(bytes: &[u8]) -> bool {
    let first = bytes.iter().find(|b| !b.is_ascii_whitespace());
    let has = |needle: &[u8]| bytes.windows(needle.len()).any(|w| w == needle);
    first == Some(&b'{')
        && bytes.len() <= MAX_JSON
        && (has(b"\"privateKeyAttestation\"")
            || has(b"\"publicKeyAttestation\"")
            || has(b"\"CAVIUM_V")
            || has(b"\"caviumCerts\""))
}

/// Reads a wrapping.
///
/// # Errors
/// If it is neither cloud's, or a part of it is missing or malformed.
pub fn parse(bytes: &[u8]) -> Result<Wrapping, WrappingError> {
    if bytes.len() > MAX_JSON {
        return Err(WrappingError::TooLarge(bytes.len()));
    }
    let document: Document =
        serde_json::from_slice(bytes).map_err(|e| WrappingError::Json(e.to_string()))?;
    if let Some(azure) = document.attributes.and_then(|a| a.attestation) {
        return azure_wrapping(azure, document.key);
    }
    // Google Cloud KMS, ProtectionLevel: the levels at which a key is in an HSM of Google's. A key
    // that is said to be elsewhere is another one than the evidence is about.
    if let Some(level) = &document.protection_level
        && level != "HSM_SINGLE_TENANT"
    {
        known("protectionLevel", level, "HSM")?;
    }
    let google = document.attestation.unwrap_or(Google {
        format: document.format,
        content: document.content,
        cert_chains: document.cert_chains,
    });
    google_wrapping(google, document.name)
}

fn google_wrapping(google: Google, name: Option<String>) -> Result<Wrapping, WrappingError> {
    let format = google.format.ok_or(WrappingError::Missing("format"))?;
    known("format", &format, "CAVIUM_V2_COMPRESSED")?;
    let content = google.content.ok_or(WrappingError::Missing("content"))?;
    let content = STANDARD
        .decode(content)
        .map_err(|_| WrappingError::Value("content"))?;
    let chains = google.cert_chains.unwrap_or_default();
    let all = [
        chains.cavium_certs,
        chains.google_card_certs,
        chains.google_partition_certs,
    ];
    if all.iter().any(|c| c.len() > MAX_CERTIFICATES) {
        return Err(WrappingError::Value("certChains"));
    }
    Ok(Wrapping {
        cloud: Cloud::Google,
        name,
        key: None,
        blobs: vec![content],
        certificates: all.concat().join("\n"),
    })
}

fn azure_wrapping(azure: Azure, key: Option<Jwk>) -> Result<Wrapping, WrappingError> {
    // Without a version it is the preview, whose blobs were the same.
    if let Some(version) = &azure.version {
        known("version", version, "MRVL-1")?;
    }
    // base64url at the interface; tools that print it write base64 as well.
    let decode =
        |field, text: String| armour::base64(text.as_bytes()).ok_or(WrappingError::Value(field));
    let private = azure
        .private_key_attestation
        .ok_or(WrappingError::Missing("privateKeyAttestation"))?;
    let mut blobs = vec![decode("privateKeyAttestation", private)?];
    if let Some(public) = azure.public_key_attestation {
        blobs.push(decode("publicKeyAttestation", public)?);
    }
    let certificates = match azure.certificate_pem_file {
        Some(pem) => String::from_utf8(decode("certificatePemFile", pem)?)
            .map_err(|_| WrappingError::Value("certificatePemFile"))?,
        None => String::new(),
    };
    Ok(Wrapping {
        cloud: Cloud::Azure,
        name: key.as_ref().and_then(|k| k.kid.clone()),
        key,
        blobs,
        certificates,
    })
}

fn known(field: &'static str, found: &str, known: &'static str) -> Result<(), WrappingError> {
    if found == known {
        return Ok(());
    }
    Err(WrappingError::Format {
        field,
        found: found.chars().take(64).collect(),
        known,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn google_and_azure_are_read() {
        let google = br#"{"name": "projects/p/x", "state": "ENABLED", "attestation": {"format":
            "CAVIUM_V2_COMPRESSED", "content": "AQ+/", "certChains": {"caviumCerts": ["a", "b"],
            "googlePartitionCerts": ["c"]}}}"#;
        let w = parse(google).unwrap();
        assert!(looks_like(google));
        assert_eq!(
            (w.cloud, w.name.as_deref()),
            (Cloud::Google, Some("projects/p/x"))
        );
        assert_eq!(w.blobs, [[1, 15, 191]]);
        assert_eq!(w.certificates, "a\nb\nc");
        let alone = parse(br#"{"format": "CAVIUM_V2_COMPRESSED", "content": "AQ=="}"#).unwrap();
        assert_eq!(alone.blobs, [[1]]);

        let azure = br#"{"attributes": {"enabled": true, "attestation": {"version": "MRVL-1",
            "certificatePemFile": "YWI", "privateKeyAttestation": "AQ-_", "publicKeyAttestation":
            "Ag=="}}, "key": {"kid": "https://h/keys/k/1", "kty": "RSA-HSM"}}"#;
        let w = parse(azure).unwrap();
        assert!(looks_like(azure));
        assert_eq!(
            (w.cloud, w.name.as_deref()),
            (Cloud::Azure, Some("https://h/keys/k/1"))
        );
        assert_eq!(w.blobs, [vec![1, 15, 191], vec![2]]);
        assert_eq!(w.certificates, "ab");
    }

    #[test]
    fn other_versions_and_broken_members_are_named() {
        use WrappingError::{Format, Json, Missing, Value};
        let v1 = parse(br#"{"format": "CAVIUM_V1_COMPRESSED", "content": "AQ=="}"#);
        assert!(
            matches!(
                v1,
                Err(Format {
                    field: "format",
                    ..
                })
            ),
            "{v1:?}"
        );
        let old = br#"{"attributes": {"attestation": {"version": "MRVL-2"}}}"#;
        assert!(matches!(
            parse(old),
            Err(Format {
                field: "version",
                ..
            })
        ));
        let none = br#"{"attributes": {"attestation": {"publicKeyAttestation": "AQ"}}}"#;
        assert_eq!(parse(none), Err(Missing("privateKeyAttestation")));
        let soft =
            br#"{"protectionLevel": "SOFTWARE", "attestation": {"format": "CAVIUM_V2_COMPRESSED",
            "content": "AQ=="}}"#;
        let level = "protectionLevel";
        assert!(matches!(parse(soft), Err(Format { field, .. }) if field == level));
        let bad = br#"{"format": "CAVIUM_V2_COMPRESSED", "content": "*"}"#;
        assert_eq!(parse(bad), Err(Value("content")));
        let twice = br#"{"format": "CAVIUM_V2_COMPRESSED", "content": "AQ==", "content": "AQ=="}"#;
        assert!(matches!(parse(twice), Err(Json(_))));
        assert!(matches!(parse(b"{"), Err(Json(_))));
        assert!(!looks_like(b"{}"));
    }

    proptest::proptest! {
        #[test]
        fn hostile_bytes_do_no_harm(text in "[\\{\\}\\[\\]\":,a-zA-Z0-9 ]{0,200}", bytes: Vec<u8>) {
            let _ = (parse(text.as_bytes()), looks_like(text.as_bytes()));
            let _ = (parse(&bytes), looks_like(&bytes));
        }
    }
}
