//! What people who set things up send.

use super::Base64;
use countersign_core::HashAlgorithm;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// First registration of the operator.
#[derive(Debug, Clone, Serialize)]
pub struct Bootstrap {
    /// The one-time credential that `countersignd` wrote.
    pub credential: String,
    /// The operator's issuer.
    pub issuer: String,
    /// The operator's subject.
    pub subject: String,
    /// The audience its tokens carry.
    pub audience: String,
    /// Roots of the issuer's TLS.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ca_pem: Option<String>,
    /// Public OAuth client id, for device logins.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client_id: Option<String>,
    /// Oldest token accepted, seconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_token_age_s: Option<u32>,
    /// Whether the operator's acts want a second factor; yes where absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub require_mfa: Option<bool>,
    /// What counts as a second factor.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mfa: Option<Mfa>,
}

/// Claim values that count as a second factor.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Mfa {
    /// `amr` values (RFC 8176); the service's default where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub amr: Option<Vec<String>>,
    /// `acr` values; none where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub acr: Option<Vec<String>>,
}

/// An issuer as a tenant registers it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct IssuerSpec {
    /// Exact `iss`.
    pub issuer: String,
    /// `people` or `pipelines`.
    pub kind: String,
    /// The one audience accepted.
    pub audience: String,
    /// Oldest token accepted, seconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_token_age_s: Option<u32>,
    /// `amr` values that count as a second factor; the service's default where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mfa_amr: Option<Vec<String>>,
    /// `acr` values that count as a second factor; none where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mfa_acr: Option<Vec<String>>,
    /// Roots of the issuer's TLS.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca_pem: Option<String>,
    /// Public OAuth client id, for device logins.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_id: Option<String>,
}

/// A new tenant.
#[derive(Debug, Clone, Serialize)]
pub struct NewTenant {
    /// Name.
    pub name: String,
    /// Its first administrator.
    pub admin: Person,
    /// The issuer of its people.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub issuer: Option<IssuerSpec>,
    /// Software keys may be certified and sign.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub allow_software: Option<bool>,
    /// Administration wants a second factor; yes where absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub require_mfa: Option<bool>,
}

/// A person.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Person {
    /// Exact `iss`.
    pub issuer: String,
    /// Exact `sub`.
    pub subject: String,
}

/// A person with a role.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Member {
    /// Exact `iss`.
    pub issuer: String,
    /// Exact `sub`.
    pub subject: String,
    /// `admin` or `auditor`.
    pub role: String,
}

/// A tenant's rules.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Policy {
    /// Software keys may be certified and sign.
    pub allow_software: bool,
    /// Administration wants a second factor.
    pub require_mfa: bool,
    /// What an order's evidence must show beyond `origin`; absent leaves it as it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub evidence: Option<Vec<String>>,
}

/// Evidence of a key.
#[derive(Debug, Clone, Serialize)]
pub struct Evidence {
    /// The files.
    pub files: Vec<EvidenceFile>,
    /// The nonce it was made for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub nonce: Option<Base64>,
}

/// A file as its vendor's tool wrote it.
#[derive(Debug, Clone, Serialize)]
pub struct EvidenceFile {
    /// Its name, for reports.
    pub name: String,
    /// Its bytes.
    pub content: Base64,
}

/// Who a certificate is for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Subject {
    /// Legal name.
    pub common_name: String,
    /// Organisation.
    pub organization: String,
    /// Two-letter country.
    pub country: String,
    /// Locality.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub locality: Option<String>,
    /// State or province.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state: Option<String>,
}

/// What a CSR is exported for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct CsrRequest {
    /// The CA that the statement is addressed to.
    pub ca_audience: String,
    /// The CA's own name of the order.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reference: Option<String>,
    /// The CA's nonce.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub nonce: Option<super::Base64>,
    /// Who the certificate is for.
    pub subject: Subject,
}

/// A CSR with what it never travels without.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct ExportedCsr {
    /// PKCS#10.
    pub csr_pem: String,
    /// Service statement, DER.
    pub statement: super::Base64,
    /// Vendor evidence.
    #[serde(default)]
    pub evidence: Vec<super::Base64>,
    /// The order it belongs to.
    pub order: String,
    /// When the statement expires.
    pub expires: String,
}

/// A new grant.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct NewGrant {
    /// Signer name within the tenant.
    pub signer: String,
    /// Exact `iss`.
    pub issuer: String,
    /// Claims, exact.
    pub claims: BTreeMap<String, String>,
    /// What may be signed.
    pub content_types: BTreeSet<String>,
    /// With which digests.
    pub digest_algorithms: BTreeSet<HashAlgorithm>,
    /// RFC 3339.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub not_before: Option<String>,
    /// RFC 3339.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub not_after: Option<String>,
    /// Why.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
}

/// Would this token be allowed?
#[derive(Debug, Clone, Serialize)]
pub struct ExplainGrant {
    /// An ID token.
    pub token: String,
    /// Signer name within the tenant.
    pub signer: String,
    /// Content type.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub content: Option<String>,
    /// Digest.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub digest_algorithm: Option<HashAlgorithm>,
}

/// What happens to a key, as a person says it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct KeyEvent {
    /// `suspend`, `resume`, `retire`, `compromise` or `destroy`.
    pub event: String,
    /// Why; it stands in the log.
    pub reason: String,
}
