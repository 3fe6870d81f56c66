//! Why a database is not opened, in words that say what to do.

/// Why the database was not opened.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    /// It cannot be reached. A retry can help.
    #[error("{place}: {detail}")]
    Away {
        /// Which.
        place: String,
        /// What was said.
        detail: String,
    },
    /// There is no schema of ours in it. It is never made silently: an empty database in place of
    /// a lost one would fork every log.
    #[error(
        "{place} has no Countersign schema; a new deployment makes it once, on purpose: countersignd create-database"
    )]
    NotFound {
        /// Which.
        place: String,
    },
    /// A schema was to be made and there is one. Nothing was changed.
    #[error("{place} has a Countersign schema already; nothing was changed")]
    Exists {
        /// Which.
        place: String,
    },
    /// Somebody else's tables lie there. Retrying cannot help.
    #[error(
        "{place} holds other tables and no Countersign schema; give Countersign a database of its own"
    )]
    NotOurs {
        /// Which.
        place: String,
    },
    /// The schema is newer than this release knows. A newer release can use it.
    #[error("{place} has schema {found}, this release knows up to {known}; run a newer release")]
    NewerSchema {
        /// Which.
        place: String,
        /// Its schema.
        found: i64,
        /// Ours.
        known: i64,
    },
    /// The schema is older, and this role may not change it.
    #[error(
        "{place} has schema {found}, this release needs {known}, and role {role} does not own the tables; run countersignd migrate-database as the owner, then start again"
    )]
    OlderSchema {
        /// Which.
        place: String,
        /// Its schema.
        found: i64,
        /// Ours.
        known: i64,
        /// Who we are.
        role: String,
    },
    /// A migration that was applied is not the one of this release. Retrying cannot help.
    #[error("{place}: the schema was made by other migrations than this release has: {detail}")]
    OtherSchema {
        /// Which.
        place: String,
        /// What differs.
        detail: String,
    },
    /// PostgreSQL is too old.
    #[error("{place} is PostgreSQL {version}; Countersign needs 15 or later")]
    TooOld {
        /// Which.
        place: String,
        /// Its version.
        version: String,
    },
    /// A standby, or a server that was made read-only.
    #[error("{place} only reads (a standby?); connect to the primary")]
    ReadOnly {
        /// Which.
        place: String,
    },
    /// The role could see and change everything, whatever row-level security says.
    #[error(
        "{place}: role {role} {what}, so that row-level security does not bind it; connect as a role that is none of this: ALTER ROLE {role} NOSUPERUSER NOBYPASSRLS, or a role of its own (docs/operators/postgresql.md)"
    )]
    Privileged {
        /// Which.
        place: String,
        /// Who we are.
        role: String,
        /// What the role is.
        what: &'static str,
    },
    /// The role cannot do its work.
    #[error(
        "{place}: role {role} may not {privilege} table {table}; see the GRANTs in docs/operators/postgresql.md"
    )]
    Privilege {
        /// Which.
        place: String,
        /// Who we are.
        role: String,
        /// What is missing.
        privilege: &'static str,
        /// On which table.
        table: String,
    },
    /// Row-level security was switched off for a table.
    #[error(
        "{place}: table {table} has no row-level security; was it restored without it? Run: ALTER TABLE {table} ENABLE ROW LEVEL SECURITY; ALTER TABLE {table} FORCE ROW LEVEL SECURITY"
    )]
    Unguarded {
        /// Which.
        place: String,
        /// The table.
        table: String,
    },
    /// What the server acknowledges would not survive.
    #[error("{place} has {setting} = {value}: {why}")]
    NotDurable {
        /// Which.
        place: String,
        /// Name of the setting.
        setting: &'static str,
        /// Its value.
        value: String,
        /// What that means and what to do.
        why: &'static str,
    },
    /// Text is not kept as UTF-8.
    #[error("{place} has encoding {encoding}; make the database with ENCODING 'UTF8'")]
    Encoding {
        /// Which.
        place: String,
        /// Its encoding.
        encoding: String,
    },
    /// A pooler stands in between that gives a connection another server process for each
    /// transaction: settings of a connection and prepared statements get lost in it.
    #[error(
        "{place} is behind a connection pooler that does not keep connections apart ({detail}); connect to PostgreSQL itself, or set the pooler to session mode"
    )]
    Pooler {
        /// Which.
        place: String,
        /// How we know.
        detail: &'static str,
    },
}
