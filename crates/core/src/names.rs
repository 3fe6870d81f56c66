//! Names people choose: tenants and signers.

use serde::{Deserialize, Serialize};
use std::fmt;

/// Longest tenant or signer name.
pub const MAX_NAME: usize = 63;

/// A name that breaks the rule for slugs. Retrying cannot help.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadName {
    /// Not a slug.
    #[error(
        "{what} \"{given}\": use 1 to 63 of a-z, 0-9 and '-', starting with a letter and not ending with '-'"
    )]
    NotASlug {
        /// Which name.
        what: &'static str,
        /// What was given, cut to 80 characters.
        given: String,
    },
    /// A signer's name without its tenant.
    #[error("signer \"{given}\": write it as tenant/signer, for example acme/release")]
    NotQualified {
        /// What was given, cut to 80 characters.
        given: String,
    },
}

fn slug(what: &'static str, s: &str) -> Result<String, BadName> {
    let bytes = s.as_bytes();
    let ok = !bytes.is_empty()
        && bytes.len() <= MAX_NAME
        && bytes.first().is_some_and(u8::is_ascii_lowercase)
        && bytes.last() != Some(&b'-')
        && bytes
            .iter()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || *b == b'-');
    if ok {
        Ok(s.to_owned())
    } else {
        Err(BadName::NotASlug {
            what,
            given: s.chars().take(80).collect(),
        })
    }
}

macro_rules! slug_name {
    ($(#[$doc:meta])* $name:ident, $what:literal) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(String);

        impl $name {
            /// As text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl std::str::FromStr for $name {
            type Err = BadName;
            fn from_str(s: &str) -> Result<Self, BadName> {
                slug($what, s).map(Self)
            }
        }

        impl TryFrom<String> for $name {
            type Error = BadName;
            fn try_from(s: String) -> Result<Self, BadName> {
                s.parse()
            }
        }

        impl From<$name> for String {
            fn from(n: $name) -> Self {
                n.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

slug_name!(
    /// A tenant's name, unique in a deployment.
    TenantName, "tenant name"
);
slug_name!(
    /// A signer's name within its tenant.
    SignerLabel, "signer name"
);

/// A signer's full name, `tenant/signer`: stable across renewals of its keys.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct SignerName {
    /// Whose.
    pub tenant: TenantName,
    /// Which.
    pub signer: SignerLabel,
}

impl fmt::Display for SignerName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.tenant, self.signer)
    }
}

impl std::str::FromStr for SignerName {
    type Err = BadName;
    fn from_str(s: &str) -> Result<Self, BadName> {
        let (tenant, signer) = s.split_once('/').ok_or_else(|| BadName::NotQualified {
            given: s.chars().take(80).collect(),
        })?;
        Ok(Self {
            tenant: tenant.parse()?,
            signer: signer.parse()?,
        })
    }
}

impl TryFrom<String> for SignerName {
    type Error = BadName;
    fn try_from(s: String) -> Result<Self, BadName> {
        s.parse()
    }
}

impl From<SignerName> for String {
    fn from(n: SignerName) -> Self {
        n.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_never_a_name() {
        for bad in [
            "",
            "A",
            "../x",
            "a/b/c",
            "-a",
            "a-",
            "a_b",
            "é",
            &"a".repeat(64),
        ] {
            assert!(bad.parse::<TenantName>().is_err(), "{bad}");
        }
        assert!("acme".parse::<SignerName>().is_err());
        assert!("acme/re/lease".parse::<SignerName>().is_err());
        assert_eq!(
            "acme/release".parse::<SignerName>().map(|n| n.to_string()),
            Ok("acme/release".into())
        );
    }
}
