//! Looking at a database that services may be using.

use super::PostgresStore;
use super::open::{OpenError, Schema, away, close, enter, guarded, owns, schema};
use super::settings::Settings;
use countersign_core::Micros;
use sqlx::Row as _;

/// What a look at a database found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Look {
    /// Its schema.
    pub found: i64,
    /// That of this release.
    pub known: i64,
    /// Its time.
    pub clock: Micros,
    /// PostgreSQL's version.
    pub version: String,
    /// `synchronous_commit` of our connections.
    pub synchronous_commit: String,
    /// `synchronous_standby_names`; empty where an acknowledged commit is on one machine only.
    pub standbys: String,
}

impl PostgresStore {
    /// As [`Self::open`], but the schema is left as it is; there is no store where it is not yet this
    /// release's. Nothing is written as long as nobody writes to the store.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub async fn look(settings: Settings) -> Result<(Look, Option<Self>), OpenError> {
        let place = settings.place();
        let (facts, mut connection) = enter(&settings).await?;
        let (found, known) = match schema(&place, &mut connection).await? {
            Schema::None => return Err(OpenError::NotFound { place }),
            Schema::Ours { found, known } => (found, known),
        };
        let owner = owns(&place, &mut connection).await?;
        if found < known && !owner {
            return Err(OpenError::OlderSchema {
                place,
                found,
                known,
                role: settings.role().to_owned(),
            });
        }
        if found == known {
            guarded(&place, settings.role(), &mut connection).await?;
        }
        let row = sqlx::query(
            "SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::bigint, \
             current_setting('server_version'), current_setting('synchronous_standby_names')",
        )
        .persistent(false)
        .fetch_one(&mut connection)
        .await
        .map_err(|e| away(&place, &e))?;
        let clock: i64 = row.try_get(0).map_err(|e| away(&place, &e))?;
        let look = Look {
            found,
            known,
            clock: Micros(clock),
            version: row.try_get(1).unwrap_or_default(),
            synchronous_commit: facts.pinned().to_owned(),
            standbys: row.try_get(2).unwrap_or_default(),
        };
        close(connection).await;
        if found != known {
            return Ok((look, None));
        }
        let store = Self::with(settings, facts);
        store.settings_arrive(&place).await?;
        Ok((look, Some(store)))
    }
}
