//! A grant and the rules it must keep.

use crate::platform::{Platform, is_mutable_name};
use countersign_core::{GrantId, HashAlgorithm, Micros, SignerLabel};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// Windows executables (the signed attributes and the indirect data are parsed).
pub const AUTHENTICODE: &str = "authenticode";
/// Detached CMS of any file (the signed attributes are parsed).
pub const CMS: &str = "cms";
/// A bare digest: the service cannot know what it signs. A grant that names it is the opt-in of
/// design invariant 9, and the leaf says `digest-only`.
pub const RAW_DIGEST: &str = "raw-digest";
/// All content types a grant may name.
pub const CONTENT_TYPES: [&str; 3] = [AUTHENTICODE, CMS, RAW_DIGEST];
/// Most claims one grant may name.
pub const MAX_CLAIMS: usize = 32;

const MAX_ISSUER: usize = 512;
const MAX_CLAIM_NAME: usize = 128;
const MAX_CLAIM_VALUE: usize = 1024;
const MAX_NOTE: usize = 512;

/// Tokens of `issuer` whose claims equal all of `claims` may use `signer` for `content_types`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Grant {
    /// Which grant.
    pub id: GrantId,
    /// Which of the tenant's signers.
    pub signer: SignerLabel,
    /// The issuer's exact `iss`.
    pub issuer: String,
    /// Claims and their exact values. A name that starts with `/` is a JSON pointer into the token.
    pub claims: BTreeMap<String, String>,
    /// What may be signed: a subset of [`CONTENT_TYPES`].
    pub content_types: BTreeSet<String>,
    /// With which digests.
    pub digest_algorithms: BTreeSet<HashAlgorithm>,
    /// Not before this moment.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub not_before: Option<Micros>,
    /// Not at or after this moment.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub not_after: Option<Micros>,
    /// Why it exists, for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
}

/// Why a grant is not accepted. The grant has to change; retrying cannot help.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum GrantError {
    /// The issuer is not an https URL of at most 512 characters.
    #[error("issuer: must be an https URL of at most {MAX_ISSUER} characters")]
    Issuer,
    /// No claims, or too many.
    #[error("claims: name 1 to {MAX_CLAIMS} claims; a grant without any would admit everybody")]
    ClaimCount,
    /// A claim's name or value is empty or too long.
    #[error(
        "claims.{claim}: name and value need 1 to {MAX_CLAIM_NAME} and 1 to {MAX_CLAIM_VALUE} characters"
    )]
    ClaimLength {
        /// Which claim, cut.
        claim: String,
    },
    /// A value looks like a pattern. Values are compared exactly, so it could never match.
    #[error("claims.{claim}: \"{value}\" holds a '*', but claims are compared exactly")]
    Pattern {
        /// Which claim.
        claim: String,
        /// Its value, cut.
        value: String,
    },
    /// Nothing in the grant identifies the caller for ever.
    #[error(
        "claims: {named} can come to mean somebody else; also name {wanted}",
        named = named.join(", "),
        wanted = if wanted.is_empty() { "an id that never changes hands, or sub".to_owned() }
                 else { format!("one of {}", wanted.join(", ")) }
    )]
    NoImmutableId {
        /// What the grant names.
        named: Vec<String>,
        /// The ids this platform has.
        wanted: Vec<&'static str>,
    },
    /// The repository is pinned, but not what ran in it: every branch could sign.
    #[error("claims: also name what may run there, one of {}", wanted.join(", "))]
    NoAnchor {
        /// Claims that would do.
        wanted: Vec<&'static str>,
    },
    /// No content type, or one that does not exist.
    #[error("content_types: name at least one of {}{}", CONTENT_TYPES.join(", "),
        unknown.as_ref().map(|u| format!(" (\"{u}\" is none of them)")).unwrap_or_default())]
    ContentTypes {
        /// The first unknown one, cut.
        unknown: Option<String>,
    },
    /// No digest algorithm.
    #[error("digest_algorithms: name at least one")]
    DigestAlgorithms,
    /// The grant ends before it begins.
    #[error("not_after: must be later than not_before")]
    Window,
    /// The note is too long.
    #[error("note: at most {MAX_NOTE} characters")]
    Note,
}

impl GrantError {
    /// The field to change, as it is called in the API.
    #[must_use]
    pub fn field(&self) -> String {
        match self {
            Self::Issuer => "issuer".to_owned(),
            Self::ClaimLength { claim } | Self::Pattern { claim, .. } => format!("claims.{claim}"),
            Self::ClaimCount | Self::NoImmutableId { .. } | Self::NoAnchor { .. } => {
                "claims".to_owned()
            }
            Self::ContentTypes { .. } => "content_types".to_owned(),
            Self::DigestAlgorithms => "digest_algorithms".to_owned(),
            Self::Window => "not_after".to_owned(),
            Self::Note => "note".to_owned(),
        }
    }
}

/// Something a person should think about before leaving a grant as it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GrantWarning {
    /// The claim or field.
    pub field: String,
    /// What may go wrong.
    pub message: String,
}

impl Grant {
    /// Checks the grant against the rules of its platform; warns of what is allowed but fragile.
    ///
    /// # Errors
    /// [`GrantError`], the first rule broken; the grant has to change.
    pub fn validate(&self) -> Result<Vec<GrantWarning>, GrantError> {
        self.check_sizes()?;
        let platform = Platform::of_issuer(&self.issuer);
        self.check_identity(platform)?;
        if let Some(unknown) = self
            .content_types
            .iter()
            .find(|c| !CONTENT_TYPES.contains(&c.as_str()))
        {
            return Err(GrantError::ContentTypes {
                unknown: Some(cut(unknown)),
            });
        }
        if self.content_types.is_empty() {
            return Err(GrantError::ContentTypes { unknown: None });
        }
        if self.digest_algorithms.is_empty() {
            return Err(GrantError::DigestAlgorithms);
        }
        if let (Some(from), Some(to)) = (self.not_before, self.not_after)
            && to <= from
        {
            return Err(GrantError::Window);
        }
        if self
            .note
            .as_ref()
            .is_some_and(|n| n.chars().count() > MAX_NOTE)
        {
            return Err(GrantError::Note);
        }
        Ok(self.warnings(platform))
    }

    /// The grant as bytes that are always the same for the same grant: what the tenant log hashes.
    ///
    /// # Errors
    /// Never in practice: the grant holds nothing JSON cannot carry.
    pub fn canonical_json(&self) -> Result<Vec<u8>, serde_json::Error> {
        serde_json::to_vec(self)
    }

    fn check_sizes(&self) -> Result<(), GrantError> {
        if !self.issuer.starts_with("https://") || self.issuer.len() > MAX_ISSUER {
            return Err(GrantError::Issuer);
        }
        if self.claims.is_empty() || self.claims.len() > MAX_CLAIMS {
            return Err(GrantError::ClaimCount);
        }
        for (claim, value) in &self.claims {
            if !(1..=MAX_CLAIM_NAME).contains(&claim.len())
                || !(1..=MAX_CLAIM_VALUE).contains(&value.len())
            {
                return Err(GrantError::ClaimLength { claim: cut(claim) });
            }
            if value.contains('*') {
                return Err(GrantError::Pattern {
                    claim: claim.clone(),
                    value: cut(value),
                });
            }
        }
        Ok(())
    }

    fn check_identity(&self, platform: Platform) -> Result<(), GrantError> {
        let names = |list: &[&str]| list.iter().any(|c| self.claims.contains_key(*c));
        let ids = platform.immutable_ids();
        let identified = if ids.is_empty() {
            self.claims.keys().any(|c| !is_mutable_name(c))
        } else {
            names(ids)
        };
        if !identified {
            return Err(GrantError::NoImmutableId {
                named: self.claims.keys().cloned().collect(),
                wanted: ids.to_vec(),
            });
        }
        let anchors = platform.anchors();
        if !anchors.is_empty() && !names(anchors) {
            return Err(GrantError::NoAnchor {
                wanted: anchors.to_vec(),
            });
        }
        Ok(())
    }

    fn warnings(&self, platform: Platform) -> Vec<GrantWarning> {
        let mut warnings = Vec::new();
        let mut warn = |field: &str, message: &str| {
            warnings.push(GrantWarning {
                field: field.to_owned(),
                message: message.to_owned(),
            });
        };
        if self.content_types.contains(RAW_DIGEST) {
            warn(
                "content_types",
                "raw-digest: the service cannot know what it signs, and the log will say so",
            );
        }
        if platform == Platform::GitHub && self.claims.contains_key("sub") {
            warn(
                "claims.sub",
                "GitHub changed the form of sub in July 2026 and lets each organisation change it: \
                 a rename or transfer will break this grant",
            );
        }
        if platform == Platform::GitHub
            && !self.claims.contains_key("repository_id")
            && !self.claims.contains_key("job_workflow_ref")
            && !self.claims.contains_key("job_workflow_sha")
        {
            warn(
                "claims",
                "without repository_id every repository of the owner can sign",
            );
        }
        for name in [
            "repository",
            "repository_owner",
            "project_path",
            "namespace_path",
        ] {
            if self.claims.contains_key(name) {
                warn(
                    &format!("claims.{name}"),
                    "a name: the grant stops matching when it is renamed",
                );
            }
        }
        if let Some(event) = self.claims.get("event_name")
            && event.starts_with("pull_request")
        {
            warn(
                "claims.event_name",
                "pull requests run code that nobody has reviewed yet",
            );
        }
        warnings
    }
}

/// Foreign text for a message, cut to 80 characters.
fn cut(s: &str) -> String {
    s.chars().take(80).collect()
}
