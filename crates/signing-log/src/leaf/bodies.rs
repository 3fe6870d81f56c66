//! What a leaf may say: one struct per leaf type. Members stand in a leaf in the order they have
//! here.
//!
//! Ids are hyphenated lower-case UUIDs; hashes and commitments are lower-case hex; times are
//! microseconds since 1970.

use super::LeafError;
use super::bounds::Bounded;
use super::words::{
    Asserted, CertificateStatus, ContentKind, LoggedKey, OutcomeResult, Predecessor, Purpose,
};
use crate::commitment::{Commitment, HexHash};
use serde::{Deserialize, Serialize};

macro_rules! bodies {
    ($(
        $(#[$doc:meta])*
        $name:ident = $tag:literal {
            $( $(#[$field_meta:meta])* $field:ident : $ty:ty ),* $(,)?
        }
    )*) => {
        $(
            $(#[$doc])*
            #[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
            #[serde(deny_unknown_fields)]
            pub struct $name {
                $( $(#[$field_meta])* pub $field: $ty, )*
            }

            impl $name {
                /// The leaf type's name.
                pub const TYPE: &'static str = $tag;

                fn check_bounds(&self) -> Result<(), LeafError> {
                    $( self.$field.bounded(stringify!($field))?; )*
                    Ok(())
                }
            }

            impl From<$name> for LeafBody {
                fn from(body: $name) -> Self {
                    Self::$name(body)
                }
            }
        )*

        /// What happened: the members that depend on the leaf's type.
        #[derive(Debug, Clone, PartialEq, Eq)]
        #[allow(clippy::large_enum_variant, reason = "leaves are handled one at a time")]
        pub enum LeafBody {
            $( $(#[$doc])* $name($name), )*
        }

        impl LeafBody {
            /// The names of all leaf types.
            pub const TYPES: &'static [&'static str] = &[$($tag),*];

            /// The leaf type's name.
            #[must_use]
            pub const fn type_name(&self) -> &'static str {
                match self { $( Self::$name(_) => $tag, )* }
            }

            /// Appends the members and the closing brace to an object that was begun.
            pub(super) fn write(&self, out: &mut Vec<u8>) -> Result<(), LeafError> {
                let at = out.len();
                match self {
                    $( Self::$name(body) => serde_json::to_writer(&mut *out, body), )*
                }
                .map_err(|_| LeafError::NotCanonical)?;
                // The serialiser wrote an object of its own: it becomes the rest of ours. Every
                // type has at least one member that is always there.
                match out.get_mut(at) {
                    Some(brace) => *brace = b',',
                    None => return Err(LeafError::NotCanonical),
                }
                Ok(())
            }

            pub(super) fn read(type_name: &str, object: &[u8]) -> Result<Self, LeafError> {
                match type_name {
                    $( $tag => serde_json::from_slice(object).map(Self::$name).map_err(|e| {
                        LeafError::Malformed {
                            type_name: $tag,
                            why: e.to_string().chars().take(200).collect(),
                        }
                    }), )*
                    other => Err(LeafError::UnknownType {
                        given: other.chars().take(64).collect(),
                    }),
                }
            }

            fn check_bounds(&self) -> Result<(), LeafError> {
                match self { $( Self::$name(body) => body.check_bounds(), )* }
            }
        }
    };
}

bodies! {
    /// The first leaf of each log.
    LogOpened = "log-opened" {
        /// Whose log.
        tenant: String,
        /// The key whose uses are logged here; absent in a tenant's log.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        key: Option<LoggedKey>,
        /// The log this one continues, where that one could not be continued itself.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        previous: Option<Predecessor>,
    }

    /// A key may be used once, now, for exactly this. Written before the key is used.
    Authorisation = "authorisation" {
        /// Whose key.
        tenant: String,
        /// The signer's name (without the tenant).
        signer: String,
        /// Which key.
        key: String,
        /// The request's id.
        request: String,
        /// 1, or more for a retry after an outcome `unknown`.
        attempt: u32,
        /// Index of the first attempt's leaf; present exactly if `attempt` is above 1.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        repeats: Option<u64>,
        /// What for.
        purpose: Purpose,
        /// Signature scheme, for example `ecdsa-sha-256`.
        scheme: String,
        /// What kind of content the service parsed.
        content: ContentKind,
        /// Whether the service saw the content or a digest alone.
        asserted: Asserted,
        /// Commitment (label `tbs`) to the digest that is signed.
        tbs: Commitment,
        /// Commitment (label `artifact`) to the file's own digest; absent with `digest-only`.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        artifact: Option<Commitment>,
        /// Commitment (label `caller`) to who asked.
        caller: Commitment,
        /// The node that wrote this, and …
        node: String,
        /// … its lease's epoch.
        epoch: u64,
    }

    /// What became of an authorisation; each has at most one.
    Outcome = "outcome" {
        /// Index of the authorisation's leaf.
        of: u64,
        /// What became of it.
        result: OutcomeResult,
        /// SHA-256 of the signature; present exactly if `signed`.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        signature_sha256: Option<HexHash>,
        /// Why not.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        reason: Option<String>,
    }

    /// A tenant was made.
    TenantCreated = "tenant-created" {
        /// Its id.
        tenant: String,
        /// Its name.
        name: String,
    }

    /// Tokens of this issuer are accepted.
    IssuerRegistered = "issuer-registered" {
        /// The issuer's URL.
        issuer: String,
        /// `people` or `pipelines`.
        kind: String,
        /// The audience its tokens must have.
        audience: String,
    }

    /// Tokens of this issuer are no longer accepted.
    IssuerRemoved = "issuer-removed" {
        /// The issuer's URL.
        issuer: String,
    }

    /// Somebody was given a role.
    MemberAdded = "member-added" {
        /// Whose tokens prove who it is.
        issuer: String,
        /// Commitment (label `subject`) to the subject.
        subject: Commitment,
        /// The role.
        role: String,
    }

    /// Somebody lost a role.
    MemberRemoved = "member-removed" {
        /// Whose tokens prove who it was.
        issuer: String,
        /// Commitment (label `subject`) to the subject.
        subject: Commitment,
        /// The role.
        role: String,
    }

    /// The tenant's policy was set.
    PolicySet = "policy-set" {
        /// Whether keys of software tokens may be certified.
        allow_software: bool,
        /// Whether administrators must have come with a second factor.
        require_mfa: bool,
        /// What an order's evidence must show beyond `origin`, one demand each; absent if nothing.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        evidence: Option<Vec<String>>,
    }

    /// A token was made for the tenant.
    TokenCreated = "token-created" {
        /// Its label.
        token: String,
        /// `CK_TOKEN_INFO.manufacturerID`.
        manufacturer: String,
        /// `CK_TOKEN_INFO.model`.
        model: String,
        /// `CK_TOKEN_INFO.serialNumber`.
        serial: String,
        /// Whether it is software.
        software: bool,
        /// How it is kept apart from neighbours.
        isolation: String,
        /// The key that the token's worker checks logs with, pinned for ever.
        log_vkey: String,
    }

    /// A signer was made.
    SignerCreated = "signer-created" {
        /// Its name.
        signer: String,
        /// Algorithm of its keys.
        algorithm: String,
    }

    /// A key was born in a token.
    KeyGenerated = "key-generated" {
        /// Its id.
        key: String,
        /// Its signer.
        signer: String,
        /// Its algorithm.
        algorithm: String,
        /// SHA-256 of its SubjectPublicKeyInfo.
        spki_sha256: HexHash,
        /// Whether the token is software.
        software: bool,
        /// How it is kept apart from neighbours.
        isolation: String,
        /// The log of its uses.
        log_origin: String,
    }

    /// Evidence for a key was appraised, accepted and kept.
    EvidenceAdded = "evidence-added" {
        /// For which key.
        key: String,
        /// The result's verdict.
        result: String,
        /// The formats it is of, by their stable names.
        formats: Vec<String>,
        /// SHA-256 of each input: the key's SubjectPublicKeyInfo, then each file.
        evidence: Vec<HexHash>,
        /// SHA-256 of the attestation result's JSON.
        result_sha256: HexHash,
        /// Commitment (label `detail`) to the files' names.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        detail: Option<Commitment>,
    }

    /// A key was appraised, with its evidence if there is any.
    KeyAppraised = "key-appraised" {
        /// Which key.
        key: String,
        /// The result.
        result: String,
        /// SHA-256 of each input.
        evidence: Vec<HexHash>,
        /// SHA-256 of the service statement, if one was made.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        statement: Option<HexHash>,
    }

    /// A key went from one state to another.
    KeyStateChanged = "key-state" {
        /// Which key.
        key: String,
        /// The state left.
        from: String,
        /// The state entered.
        to: String,
        /// Why.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        reason: Option<String>,
    }

    /// A certificate was asked for.
    CertificateRequested = "certificate-requested" {
        /// For which key.
        key: String,
        /// The order's id.
        order: String,
        /// The CA's name, or the audience of an exported request.
        ca: String,
        /// SHA-256 of the request.
        csr_sha256: HexHash,
        /// SHA-256 of the service statement that went with it.
        statement_sha256: HexHash,
        /// SHA-256 of each file of evidence that went with it, in the request or beside it; absent if
        /// there was none.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        evidence: Option<Vec<HexHash>>,
    }

    /// A certificate came back and was refused.
    CertificateRefused = "certificate-refused" {
        /// For which key.
        key: String,
        /// SHA-256 of the certificate.
        certificate_sha256: HexHash,
        /// Which check it failed.
        reason: String,
    }

    /// An order ended without a certificate.
    OrderFailed = "order-failed" {
        /// For which key.
        key: String,
        /// The order's id.
        order: String,
        /// The CA's name.
        ca: String,
        /// What the CA said, or what failed.
        reason: String,
    }

    /// A certificate came back, was checked and is in use.
    CertificateInstalled = "certificate-installed" {
        /// For which key.
        key: String,
        /// SHA-256 of the certificate.
        certificate_sha256: HexHash,
        /// Its serial number, lower-case hex.
        serial: String,
        /// Valid from, microseconds.
        not_before: u64,
        /// Valid until, microseconds.
        not_after: u64,
        /// Its issuer's name (RFC 4514).
        issuer: String,
    }

    /// The service learned something new of the certificate in use: at the first look, and at each
    /// change.
    CertificateStatusChanged = "certificate-status" {
        /// For which key.
        key: String,
        /// SHA-256 of the certificate.
        certificate_sha256: HexHash,
        /// What is known now.
        status: CertificateStatus,
        /// The CA's revocation date, microseconds; present exactly if `revoked` or `on-hold`.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        revoked_at: Option<u64>,
        /// The CA's reason, by its name in RFC 5280 §5.3.1; present exactly if `revoked` or `on-hold`.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        reason: Option<String>,
        /// The list's `cRLNumber`, hex, if it has one.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        crl_number: Option<String>,
        /// The list's `thisUpdate`, microseconds.
        this_update: u64,
    }

    /// The certificate in use ends soon. Once per certificate.
    CertificateEnding = "certificate-ending" {
        /// For which key.
        key: String,
        /// SHA-256 of the certificate.
        certificate_sha256: HexHash,
        /// Its end, microseconds.
        not_after: u64,
    }

    /// A grant was added.
    GrantAdded = "grant-added" {
        /// Its id.
        grant: String,
        /// The signer it opens.
        signer: String,
        /// SHA-256 of the grant's JSON.
        grant_sha256: HexHash,
    }

    /// A grant was removed.
    GrantRemoved = "grant-removed" {
        /// Its id.
        grant: String,
        /// The signer it opened.
        signer: String,
    }

    /// Callers were refused; alike refusals are counted in one leaf.
    Denied = "denied" {
        /// The signer they asked for, if it exists.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        signer: Option<String>,
        /// Why.
        reason: String,
        /// How often since the last such leaf.
        count: u64,
        /// Commitment (label `detail`) to who and what.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        detail: Option<Commitment>,
    }

    /// Content that may not be signed was refused.
    ContentRefused = "content-refused" {
        /// The signer asked for.
        signer: String,
        /// Which rule refused it.
        reason: String,
        /// How often since the last such leaf.
        count: u64,
        /// Commitment (label `detail`) to who and what.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        detail: Option<Commitment>,
    }

    /// The head of a key's log, so that the tenant log vouches for it.
    KeyCheckpoint = "key-checkpoint" {
        /// Which key.
        key: String,
        /// Its log.
        origin: String,
        /// The log's size.
        size: u64,
        /// The log's root at that size.
        root: HexHash,
    }

    /// Something happened to a token or its worker.
    WorkerEvent = "worker-event" {
        /// The token's label.
        token: String,
        /// What: for example `restarted`, `orphan-found`, `pin-latched`.
        event: String,
        /// More.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        detail: Option<String>,
    }

    /// A caller exchanged an identity token for a service token.
    TokenExchanged = "token-exchanged" {
        /// Who vouched for the caller.
        issuer: String,
        /// Commitment (label `caller`) to who it was.
        caller: Commitment,
        /// The signers the service token is bound to; empty for administration.
        signers: Vec<String>,
    }

    /// The keys that sign a log's checkpoints changed.
    LogKeysChanged = "log-keys-changed" {
        /// Which log.
        origin: String,
        /// All verifier keys from here on.
        vkeys: Vec<String>,
        /// Why.
        reason: String,
    }
}

impl LeafBody {
    pub(super) const fn has_own_caller(&self) -> bool {
        matches!(self, Self::Authorisation(_))
    }

    /// Whether this type may stand in the log of a key (else it belongs to the tenant's log).
    #[must_use]
    pub const fn belongs_to_key_log(&self) -> bool {
        matches!(
            self,
            Self::LogOpened(_)
                | Self::Authorisation(_)
                | Self::Outcome(_)
                | Self::LogKeysChanged(_)
        )
    }

    /// Whether this type may stand in the log of a tenant.
    #[must_use]
    pub const fn belongs_to_tenant_log(&self) -> bool {
        !matches!(self, Self::Authorisation(_) | Self::Outcome(_))
    }

    pub(super) fn check(&self) -> Result<(), LeafError> {
        self.check_bounds()?;
        let inconsistent = |field| Err(LeafError::Inconsistent { field });
        match self {
            Self::Authorisation(a) => {
                if a.attempt == 0 || (a.attempt > 1) != a.repeats.is_some() {
                    return inconsistent("attempt");
                }
                let csr = matches!(a.purpose, Purpose::CertificateRequest);
                if csr != matches!(a.content, ContentKind::CertificateRequest) {
                    return inconsistent("content");
                }
                let raw = matches!(a.content, ContentKind::RawDigest);
                if raw != matches!(a.asserted, Asserted::DigestOnly) {
                    return inconsistent("asserted");
                }
            }
            Self::Outcome(o) => {
                let signed = matches!(o.result, OutcomeResult::Signed);
                if signed != o.signature_sha256.is_some() {
                    return inconsistent("signature_sha256");
                }
            }
            Self::CertificateStatusChanged(c) => {
                let good = matches!(c.status, CertificateStatus::Good);
                if good == c.revoked_at.is_some() {
                    return inconsistent("revoked_at");
                }
                if good == c.reason.is_some() {
                    return inconsistent("reason");
                }
            }
            _ => {}
        }
        Ok(())
    }
}
