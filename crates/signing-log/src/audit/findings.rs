//! What an audit can find, as data for programs and as a sentence for people.

use serde::Serialize;
use std::fmt;

/// How much a finding weighs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Severity {
    /// Worth knowing; nothing is wrong.
    Note,
    /// Nothing is proved wrong, but somebody should look.
    Warning,
    /// Something could not be checked, so the log is not proved right.
    Undecided,
    /// The log is proved wrong.
    Bad,
}

/// One finding.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// How much it weighs.
    pub severity: Severity,
    /// The leaf it is about, if it is about one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub index: Option<u64>,
    /// What was found.
    #[serde(flatten)]
    pub kind: FindingKind,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.index {
            Some(index) => write!(f, "leaf {index}: {}", self.kind),
            None => self.kind.fmt(f),
        }
    }
}

/// What was found. The doc comment of each says what it means for the log's owner.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, thiserror::Error)]
#[serde(tag = "finding", rename_all = "kebab-case")]
pub enum FindingKind {
    /// No checkpoint could be read: nothing can be checked.
    #[error("the checkpoint cannot be read: {why}")]
    CheckpointMissing {
        /// What the source said.
        why: String,
    },
    /// The checkpoint is malformed, of another log, or not signed by a known key of the log. The
    /// rest was checked against what it claims, which proves nothing.
    #[error("the checkpoint is refused: {why}")]
    CheckpointRefused {
        /// Which rule it breaks.
        why: String,
    },
    /// The log was larger before: a split view or a rewound log.
    #[error("the log had {known} leaves before and has {now} now")]
    LogShrank {
        /// Size seen before.
        known: u64,
        /// Size now.
        now: u64,
    },
    /// The first leaves are not those seen before: history was rewritten, or two histories exist.
    #[error("the first {size} leaves are not the ones seen before: history was rewritten")]
    HistoryRewritten {
        /// The size seen before.
        size: u64,
    },
    /// The earlier checkpoint given is of another log.
    #[error("the earlier checkpoint is of another log, {origin}")]
    KnownOfOtherLog {
        /// Its origin.
        origin: String,
    },
    /// The whole tree does not have the root that the log signed.
    #[error("the leaves do not add up to the root the log signed")]
    RootMismatch,
    /// The root could not be computed, since neither leaves nor hashes are there.
    #[error("the root was not checked: leaves from {from} on are missing")]
    RootNotChecked {
        /// The first leaf without leaf and hash.
        from: u64,
    },
    /// Leaves are missing from the download. Where their hashes are there, the tree is still
    /// checked, but not what the leaves say.
    #[error("{path} is missing: its leaves were not read")]
    BundleMissing {
        /// Which file.
        path: String,
    },
    /// A file of leaves cannot be taken apart.
    #[error("{path} is damaged")]
    BundleDamaged {
        /// Which file.
        path: String,
    },
    /// A tile of hashes is missing from the download, so that it could not be compared with the
    /// leaves. The tree is computed from them; the serving of proofs depends on the tile.
    #[error("{path} is missing")]
    TileMissing {
        /// Which file.
        path: String,
    },
    /// A tile of hashes has the wrong length.
    #[error("{path} is damaged")]
    TileDamaged {
        /// Which file.
        path: String,
    },
    /// A tile holds other hashes than its leaves have.
    #[error("{path} is not the hash of the leaves below it")]
    TileDiffers {
        /// Which file.
        path: String,
    },
    /// Reading failed.
    #[error("{path} cannot be read: {why}")]
    ReadFailed {
        /// Which file.
        path: String,
        /// What the source said.
        why: String,
    },
    /// The leaf's bytes do not have the hash that stands in the tree.
    #[error("its bytes do not have the hash in the tree: it was altered")]
    LeafAltered,
    /// The leaf is not of the schema.
    #[error("{why}")]
    LeafUnreadable {
        /// Which rule it breaks.
        why: String,
    },
    /// A leaf of a type or version that this program does not know: a newer one may.
    #[error("{why}; use a newer program")]
    LeafUnknown {
        /// Which type or version.
        why: String,
    },
    /// The first leaf does not say whose log this is.
    #[error("the log does not begin with \"log-opened\"")]
    NotOpened,
    /// A second "log-opened".
    #[error("the log is opened a second time")]
    OpenedAgain,
    /// A leaf type that does not belong into this kind of log.
    #[error("a leaf \"{type_name}\" does not belong into this log")]
    OutOfPlace {
        /// Its type.
        type_name: String,
    },
    /// An authorisation of another tenant.
    #[error("it is of another tenant, {tenant}")]
    OtherTenant {
        /// Whose.
        tenant: String,
    },
    /// An authorisation of another key.
    #[error("it is of another key, {key}")]
    OtherKey {
        /// Which.
        key: String,
    },
    /// Time in leaves must never decrease.
    #[error("its time is {micros} µs before that of the leaf before it")]
    TimeWentBack {
        /// By how much.
        micros: i64,
    },
    /// An outcome of something that is not an earlier authorisation.
    #[error("it is the outcome of leaf {of}, which is no earlier authorisation")]
    OutcomeWithoutAuthorisation {
        /// What it refers to.
        of: u64,
    },
    /// One authorisation has two outcomes: it was used twice, or one of them is false.
    #[error("it is a second outcome of leaf {of}")]
    OutcomeDoubled {
        /// What it refers to.
        of: u64,
    },
    /// A retry may follow an outcome `failed` or `unknown`: after a signature, or while the first
    /// attempt is open, it would be a second signature.
    #[error("it repeats leaf {of}, whose outcome is neither \"failed\" nor \"unknown\"")]
    RepeatNotAllowed {
        /// What it repeats.
        of: u64,
    },
    /// Two leaves of the tenant log contradict each other about the log of a key.
    #[error(
        "the log of key {key} had {known} leaves before and is said to have {now}, or another root"
    )]
    KeyLogContradicted {
        /// Which key.
        key: String,
        /// Size said before.
        known: u64,
        /// Size said now.
        now: u64,
    },
    /// The log continues an earlier one that was lost in part.
    #[error("the log continues {origin} after {size} leaves; {missing} are missing")]
    Continues {
        /// The earlier log.
        origin: String,
        /// Its last known size.
        size: u64,
        /// How many leaves are missing.
        missing: u64,
    },
    /// The key lives in a software token: whoever runs the service could copy it.
    #[error("the key is in a software token")]
    SoftwareKey,
    /// Authorisations without outcome: in flight when the checkpoint was made, or left by a crash
    /// that recovery has not closed yet.
    #[error("{count} authorisations have no outcome yet")]
    OpenAuthorisations {
        /// How many.
        count: u64,
    },
    /// Outcomes that a crash hides.
    #[error(
        "of {count} authorisations it is unknown whether a signature was made; none was released"
    )]
    UnknownOutcomes {
        /// How many.
        count: u64,
    },
    /// Uses where the service was given a bare digest.
    #[error("of {count} uses the log does not say what was signed: the caller gave a bare digest")]
    DigestOnlyUses {
        /// How many.
        count: u64,
    },
}

impl FindingKind {
    /// How much this weighs.
    #[must_use]
    pub const fn severity(&self) -> Severity {
        match self {
            Self::OpenAuthorisations { .. }
            | Self::UnknownOutcomes { .. }
            | Self::DigestOnlyUses { .. } => Severity::Note,
            Self::SoftwareKey | Self::Continues { .. } => Severity::Warning,
            Self::CheckpointMissing { .. }
            | Self::KnownOfOtherLog { .. }
            | Self::RootNotChecked { .. }
            | Self::BundleMissing { .. }
            | Self::TileMissing { .. }
            | Self::ReadFailed { .. }
            | Self::LeafUnknown { .. } => Severity::Undecided,
            _ => Severity::Bad,
        }
    }
}
