//! Opening: whether the server keeps what it acknowledges, whether our role is as small as it must
//! be, which schema there is.

mod error;

pub use error::OpenError;

use super::PostgresStore;
use super::connections::Connections;
use super::errors::{self, words};
use super::settings::Settings;
use sqlx::migrate::{MigrateError, Migrator};
use sqlx::postgres::PgConnection;
use sqlx::{ConnectOptions as _, Connection as _, Row as _};
use std::collections::HashMap;
use std::time::Duration;

/// The schema this release writes, and all before it.
pub(super) static MIGRATOR: Migrator = sqlx::migrate!("../../migrations/postgres");

/// The oldest PostgreSQL we are tested with (`server_version_num`).
const OLDEST: i64 = 150_000;

/// One process at a time makes or changes the schema: `CSGN`.
const SCHEMA_LOCK: i64 = 0x4353_474e;

/// Longest we wait for the server when opening.
const CONNECT: Duration = Duration::from_secs(10);

/// Connections that flushes and the node's lease have for themselves, so that callers never keep
/// them waiting.
const OWN: u32 = 4;

/// What is known of the server, as long as the store is open.
#[derive(Debug, Clone)]
pub(super) struct Facts {
    place: String,
    single_node: bool,
    synchronous_commit: String,
}

impl Facts {
    /// `synchronous_commit` for all connections.
    pub(super) fn pinned(&self) -> &str {
        &self.synchronous_commit
    }
}

impl PostgresStore {
    /// Opens a database that has a schema of ours, and brings the schema up to this release if the
    /// role owns it.
    ///
    /// # Errors
    /// [`OpenError`]; its variants say whether a retry can help.
    pub async fn open(settings: Settings) -> Result<Self, OpenError> {
        let place = settings.place();
        let (facts, mut connection) = enter(&settings).await?;
        lock(&place, &mut connection).await?;
        match schema(&place, &mut connection).await? {
            Schema::None => return Err(OpenError::NotFound { place }),
            Schema::Ours { found, known } if found < known => {
                if !owns(&place, &mut connection).await? {
                    return Err(OpenError::OlderSchema {
                        place,
                        found,
                        known,
                        role: settings.role().to_owned(),
                    });
                }
                run_migrations(&place, &mut connection).await?;
            }
            Schema::Ours { .. } => {}
        }
        guarded(&place, settings.role(), &mut connection).await?;
        close(connection).await;
        let store = Self::with(settings, facts);
        store.settings_arrive(&place).await?;
        Ok(store)
    }

    pub(super) fn with(settings: Settings, facts: Facts) -> Self {
        let most = settings.max_connections;
        let single_node = settings.single_node;
        let own = Connections::new(settings.clone(), facts.clone(), OWN.min(most));
        let callers = Connections::new(settings, facts, most.saturating_sub(OWN).max(1));
        Self {
            callers,
            own,
            single_node,
        }
    }

    /// Looks at server and role and changes nothing.
    ///
    /// # Errors
    /// As [`Self::open`], but for the schema's.
    pub async fn check(settings: &Settings) -> Result<(), OpenError> {
        let (_, connection) = enter(settings).await?;
        close(connection).await;
        Ok(())
    }

    /// Makes the schema in an empty database, as the role that will own it (it may be a
    /// superuser: nothing but this is done as this role).
    ///
    /// # Errors
    /// [`OpenError::Exists`] if there is one.
    pub async fn create(owner: &Settings) -> Result<(), OpenError> {
        let place = owner.place();
        let mut connection = connect(&place, owner).await?;
        judge(&mut connection, owner, Role::Any).await?;
        lock(&place, &mut connection).await?;
        let Schema::None = schema(&place, &mut connection).await? else {
            return Err(OpenError::Exists { place });
        };
        run_migrations(&place, &mut connection).await?;
        close(connection).await;
        Ok(())
    }

    /// Brings the schema up to this release, as its owner.
    ///
    /// # Errors
    /// [`OpenError::NotFound`] if there is none.
    pub async fn migrate(owner: &Settings) -> Result<(), OpenError> {
        let place = owner.place();
        let mut connection = connect(&place, owner).await?;
        judge(&mut connection, owner, Role::Any).await?;
        lock(&place, &mut connection).await?;
        let Schema::Ours { .. } = schema(&place, &mut connection).await? else {
            return Err(OpenError::NotFound { place });
        };
        run_migrations(&place, &mut connection).await?;
        close(connection).await;
        Ok(())
    }

    /// What a connection says of itself when it begins must reach the server.
    pub(super) async fn settings_arrive(&self, place: &str) -> Result<(), OpenError> {
        let away = |e: sqlx::Error| away(place, &e);
        let mut taken = self.own.take().await.map_err(away)?;
        let query = super::sql("SELECT current_setting('lock_timeout')");
        let rows = taken.rows(query).await.map_err(away)?;
        let found: Option<String> = rows.first().and_then(|row| row.try_get(0).ok());
        if found.as_deref() != Some("8s") {
            return Err(OpenError::Pooler {
                place: place.to_owned(),
                detail: "settings a connection begins with do not arrive",
            });
        }
        taken.keep();
        Ok(())
    }
}

/// Connects, looks at server and role, and whether anything stands in between.
pub(super) async fn enter(settings: &Settings) -> Result<(Facts, PgConnection), OpenError> {
    let place = settings.place();
    let mut first = connect(&place, settings).await?;
    let facts = judge(&mut first, settings, Role::Bound).await?;
    // Two connections that are open at once have two server processes, unless a pooler lends them
    // one and the same in turn.
    let mut second = connect(&place, settings).await?;
    let mut pids = Vec::new();
    for connection in [&mut first, &mut second] {
        let pid: i32 = sqlx::query_scalar("SELECT pg_backend_pid()")
            .persistent(false)
            .fetch_one(connection)
            .await
            .map_err(|e| away(&place, &e))?;
        pids.push(pid);
    }
    if pids.first() == pids.last() {
        return Err(OpenError::Pooler {
            place,
            detail: "two connections have one server process",
        });
    }
    close(second).await;
    Ok((facts, first))
}

async fn connect(place: &str, settings: &Settings) -> Result<PgConnection, OpenError> {
    let options = settings.plain();
    match tokio::time::timeout(CONNECT, options.connect()).await {
        Ok(connected) => connected.map_err(|e| away(place, &e)),
        Err(_) => Err(OpenError::Away {
            place: place.to_owned(),
            detail: "it did not answer in time".to_owned(),
        }),
    }
}

pub(super) async fn close(connection: PgConnection) {
    if let Err(e) = connection.close().await {
        tracing::debug!(error = %e, "closing a database connection");
    }
}

/// Whether the role must be bound by row-level security.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Role {
    Bound,
    Any,
}

/// A connection made later finds the server as it was when it was accepted: behind a name or an
/// address that moves, another one may stand by now.
pub(super) async fn still_fit(
    connection: &mut PgConnection,
    facts: &Facts,
) -> Result<(), OpenError> {
    look(connection, &facts.place, facts.single_node, Role::Bound)
        .await
        .map(drop)
}

async fn judge(
    connection: &mut PgConnection,
    settings: &Settings,
    role: Role,
) -> Result<Facts, OpenError> {
    look(connection, &settings.place(), settings.single_node, role).await
}

async fn look(
    connection: &mut PgConnection,
    place: &str,
    single_node: bool,
    bound: Role,
) -> Result<Facts, OpenError> {
    let row = sqlx::query(
        "SELECT current_setting('server_version_num')::bigint, current_setting('server_version'), \
         current_user::text, \
         EXISTS (SELECT FROM pg_roles WHERE rolname IN (current_user, session_user) AND rolsuper), \
         EXISTS (SELECT FROM pg_roles WHERE rolname IN (current_user, session_user) AND rolbypassrls), \
         pg_is_in_recovery() OR current_setting('transaction_read_only') = 'on', \
         current_setting('server_encoding'), current_setting('fsync'), \
         current_setting('full_page_writes'), current_setting('synchronous_commit'), \
         current_setting('row_security')",
    )
    .persistent(false)
    .fetch_one(connection)
    .await
    .map_err(|e| away(place, &e))?;
    let place = || place.to_owned();
    let text = |i: usize| -> String { row.try_get(i).unwrap_or_default() };
    // What cannot be read counts as bad.
    let truth = |i: usize| -> bool { row.try_get(i).unwrap_or(true) };
    if row.try_get(0).unwrap_or(0_i64) < OLDEST {
        return Err(OpenError::TooOld {
            place: place(),
            version: text(1),
        });
    }
    let privileges = [(3, "is a superuser"), (4, "has BYPASSRLS")];
    if bound == Role::Bound
        && let Some((_, what)) = privileges.into_iter().find(|(i, _)| truth(*i))
    {
        return Err(OpenError::Privileged {
            place: place(),
            role: text(2),
            what,
        });
    }
    if truth(5) {
        return Err(OpenError::ReadOnly { place: place() });
    }
    if text(6) != "UTF8" {
        return Err(OpenError::Encoding {
            place: place(),
            encoding: text(6),
        });
    }
    let not_durable = |setting, value, why| OpenError::NotDurable {
        place: place(),
        setting,
        value,
        why,
    };
    if text(7) != "on" {
        return Err(not_durable(
            "fsync",
            text(7),
            "a power cut loses what was acknowledged and may ruin the rest; Countersign never runs \
             on that. Set fsync = on",
        ));
    }
    if text(8) != "on" {
        return Err(not_durable(
            "full_page_writes",
            text(8),
            "a power cut leaves pages half written; Countersign never runs on that. Set \
             full_page_writes = on",
        ));
    }
    let synchronous_commit = match (text(9).as_str(), single_node) {
        (kept @ ("on" | "remote_apply"), _) | (kept @ ("local" | "remote_write"), true) => {
            kept.to_owned()
        }
        // Ours are on this server's disk when they are acknowledged, whatever others' are.
        ("off", true) => "local".to_owned(),
        (other, _) => {
            return Err(not_durable(
                "synchronous_commit",
                other.to_owned(),
                "a crash, or a standby that takes over, may lack what was acknowledged: \
                 authorisations of signatures that are out. Run ALTER ROLE … SET synchronous_commit \
                 = on (with synchronous_standby_names if there are standbys). If one countersignd \
                 on one PostgreSQL is all there is, and no standby will ever take over, say so: \
                 single_node = true in [database]",
            ));
        }
    };
    Ok(Facts {
        place: place(),
        single_node,
        synchronous_commit,
    })
}

/// What schema there is.
pub(super) enum Schema {
    /// None, and nothing else.
    None,
    /// Ours.
    Ours {
        /// Its last migration.
        found: i64,
        /// The last of this release.
        known: i64,
    },
}

pub(super) async fn schema(
    place: &str,
    connection: &mut PgConnection,
) -> Result<Schema, OpenError> {
    let failed = |e: sqlx::Error| away(place, &e);
    let row = sqlx::query(
        "SELECT to_regclass('_sqlx_migrations') IS NOT NULL, to_regclass('open_authorisations') IS NOT NULL, \
         (SELECT count(*) FROM pg_class WHERE relkind IN ('r', 'p', 'v', 'm') \
          AND relnamespace = (SELECT oid FROM pg_namespace WHERE nspname = current_schema()))",
    )
    .persistent(false)
    .fetch_one(&mut *connection)
    .await
    .map_err(failed)?;
    let (migrated, ours): (bool, bool) = (
        row.try_get(0).map_err(failed)?,
        row.try_get(1).map_err(failed)?,
    );
    if !migrated || !ours {
        return match row.try_get(2).map_err(failed)? {
            0_i64 => Ok(Schema::None),
            _ => Err(OpenError::NotOurs {
                place: place.to_owned(),
            }),
        };
    }
    let rows = sqlx::query("SELECT version, checksum, success FROM _sqlx_migrations")
        .persistent(false)
        .fetch_all(&mut *connection)
        .await
        .map_err(failed)?;
    let mut applied: HashMap<i64, Vec<u8>> = HashMap::new();
    for row in rows {
        if row.try_get(2).map_err(failed)? {
            applied.insert(
                row.try_get(0).map_err(failed)?,
                row.try_get(1).map_err(failed)?,
            );
        }
    }
    let known = MIGRATOR.iter().map(|m| m.version).max().unwrap_or(0);
    let found = applied.keys().copied().max().unwrap_or(0);
    if found > known {
        return Err(OpenError::NewerSchema {
            place: place.to_owned(),
            found,
            known,
        });
    }
    for migration in MIGRATOR.iter() {
        if let Some(checksum) = applied.get(&migration.version)
            && checksum.as_slice() != migration.checksum.as_ref()
        {
            return Err(OpenError::OtherSchema {
                place: place.to_owned(),
                detail: format!("migration {} differs", migration.version),
            });
        }
    }
    Ok(Schema::Ours { found, known })
}

/// One process at a time; the lock goes with the connection.
async fn lock(place: &str, connection: &mut PgConnection) -> Result<(), OpenError> {
    sqlx::query("SELECT pg_advisory_lock($1)")
        .bind(SCHEMA_LOCK)
        .persistent(false)
        .execute(connection)
        .await
        .map(drop)
        .map_err(|e| away(place, &e))
}

pub(super) async fn owns(place: &str, connection: &mut PgConnection) -> Result<bool, OpenError> {
    sqlx::query_scalar(
        "SELECT pg_has_role(relowner, 'USAGE') FROM pg_class WHERE oid = to_regclass('tenants')",
    )
    .persistent(false)
    .fetch_one(connection)
    .await
    .map_err(|e| away(place, &e))
}

async fn run_migrations(place: &str, connection: &mut PgConnection) -> Result<(), OpenError> {
    MIGRATOR.run(&mut *connection).await.map_err(|e| match &e {
        MigrateError::Execute(cause) | MigrateError::ExecuteMigration(cause, _) => {
            away(place, cause)
        }
        _ => OpenError::OtherSchema {
            place: place.to_owned(),
            detail: e.to_string(),
        },
    })
}

/// Each of our tables is one we may use, and each with a tenant hides its neighbours.
pub(super) async fn guarded(
    place: &str,
    role: &str,
    connection: &mut PgConnection,
) -> Result<(), OpenError> {
    let failed = |e: sqlx::Error| away(place, &e);
    let rows = sqlx::query(
        "SELECT c.relname::text, \
         c.relname = '_sqlx_migrations' OR c.relrowsecurity AND c.relforcerowsecurity OR NOT EXISTS \
         (SELECT FROM pg_attribute a WHERE a.attrelid = c.oid AND a.attname = 'tenant_id' AND NOT a.attisdropped), \
         has_table_privilege(c.oid, 'SELECT'), \
         c.relname = '_sqlx_migrations' OR has_table_privilege(c.oid, 'INSERT'), \
         c.relname IN ('_sqlx_migrations', 'leaves', 'subtrees', 'leaf_details') \
         OR has_table_privilege(c.oid, 'UPDATE') \
         FROM pg_class c WHERE c.relkind = 'r' \
         AND c.relnamespace = (SELECT oid FROM pg_namespace WHERE nspname = current_schema())",
    )
    .persistent(false)
    .fetch_all(connection)
    .await
    .map_err(failed)?;
    for row in rows {
        let table: String = row.try_get(0).map_err(failed)?;
        if !row.try_get(1).map_err(failed)? {
            return Err(OpenError::Unguarded {
                place: place.to_owned(),
                table,
            });
        }
        for (i, privilege) in [(2, "SELECT from"), (3, "INSERT into"), (4, "UPDATE")] {
            if !row.try_get(i).map_err(failed)? {
                return Err(OpenError::Privilege {
                    place: place.to_owned(),
                    role: role.to_owned(),
                    privilege,
                    table,
                });
            }
        }
    }
    Ok(())
}

pub(super) fn away(place: &str, e: &sqlx::Error) -> OpenError {
    // A pooler answers so to the settings a connection begins with.
    if errors::code(e).as_deref() == Some("08P01") && e.to_string().contains("startup parameter") {
        return OpenError::Pooler {
            place: place.to_owned(),
            detail: "settings a connection begins with are refused",
        };
    }
    OpenError::Away {
        place: place.to_owned(),
        detail: words(e),
    }
}
