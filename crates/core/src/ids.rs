//! Identifiers. All are UUIDs made by us (version 7, so they sort by time), except request ids.

use serde::{Deserialize, Serialize};
use std::fmt;
use uuid::Uuid;

macro_rules! uuid_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub Uuid);

        impl $name {
            /// A new one (UUID version 7).
            #[must_use]
            pub fn new() -> Self {
                Self(Uuid::now_v7())
            }

            /// The 16 bytes.
            #[must_use]
            pub const fn as_bytes(&self) -> &[u8; 16] {
                self.0.as_bytes()
            }
        }

        impl Default for $name {
            fn default() -> Self {
                Self::new()
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.hyphenated().fmt(f)
            }
        }

        impl std::str::FromStr for $name {
            type Err = uuid::Error;
            fn from_str(s: &str) -> Result<Self, Self::Err> {
                Uuid::try_parse(s).map(Self)
            }
        }
    };
}

uuid_id!(
    /// A subscriber. Every storage call takes one (design invariant 4, "no neighbour").
    TenantId
);
uuid_id!(
    /// A key pair in a token. Its 16 bytes are the `CKA_ID`, chosen before generation, so that an
    /// orphan left by a crash can be told from a key we know.
    KeyId
);
uuid_id!(
    /// A certificate order.
    OrderId
);
uuid_id!(
    /// A grant.
    GrantId
);
uuid_id!(
    /// One run of one `countersignd`: leases are held by it, so a restarted process is a new node.
    NodeId
);
uuid_id!(
    /// A log. A key's log has the key's UUID, a tenant's log the tenant's.
    LogId
);

impl From<KeyId> for LogId {
    fn from(k: KeyId) -> Self {
        Self(k.0)
    }
}

impl From<TenantId> for LogId {
    fn from(t: TenantId) -> Self {
        Self(t.0)
    }
}

/// The id of one HTTP request: in the answer, in our logs and in every leaf the request caused.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct RequestId(String);

impl RequestId {
    /// A new one.
    #[must_use]
    pub fn new() -> Self {
        Self(Uuid::now_v7().simple().to_string())
    }

    /// Takes a caller's id if it is 1 to 64 characters of `[A-Za-z0-9._-]`, else `None`.
    #[must_use]
    pub fn from_caller(s: &str) -> Option<Self> {
        let ok = (1..=64).contains(&s.len())
            && s.bytes()
                .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-'));
        ok.then(|| Self(s.to_owned()))
    }

    /// As text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Default for RequestId {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
