//! Seen tokens, service keys, bootstrap, probe.

use super::connections::Write;
use super::effects::conflict;
use super::errors::Stop;
use super::{PostgresStore, errors, rows_of, sql};
use crate::rows::service_key_row;
use crate::sql::service as text;
use async_trait::async_trait;
use countersign_core::ports::rows::ServiceKeyRow;
use countersign_core::ports::store::{CommitError, Read, ServiceStore};
use countersign_core::{Micros, TenantId};

/// Like [`text::FIRST_USE`], and says itself for whom it acts.
const FIRST_USE: &str = "INSERT INTO seen_tokens (tenant_id, issuer, token, expires) \
    SELECT $1, $2, $3, $4 \
    WHERE (SELECT set_config('countersign.tenant', $1::uuid::text, true)) IS NOT NULL \
    ON CONFLICT DO NOTHING";

/// Two nodes that add a key of a purpose at once: one waits for the other, and then sees it.
const ONE_AT_A_TIME: &str = "SELECT pg_advisory_xact_lock(hashtext('countersign service key'))";

#[async_trait]
impl ServiceStore for PostgresStore {
    async fn first_use(
        &self,
        tenant: TenantId,
        issuer: &str,
        token: [u8; 32],
        expires: Micros,
    ) -> Result<bool, CommitError> {
        let query = sql(FIRST_USE)
            .bind(tenant.0)
            .bind(issuer.to_owned())
            .bind(token.to_vec())
            .bind(expires.0);
        Ok(self.callers.write(query).await? == 1)
    }

    async fn service_keys(&self, purpose: &str) -> Read<Vec<ServiceKeyRow>> {
        let query = sql(text::SERVICE_KEYS).bind(purpose.to_owned());
        self.read("service_keys", query, service_key_row).await
    }

    async fn add_service_key(
        &self,
        row: &ServiceKeyRow,
        newest: Option<&[u8]>,
    ) -> Result<bool, CommitError> {
        let mut write = Write::begin(&self.callers, "service key").await?;
        let result = async {
            write.execute(sql(ONE_AT_A_TIME)).await?;
            let query = sql(text::NEWEST_SERVICE_KEY).bind(row.purpose.clone());
            let found = rows_of("service_keys", &write.rows(query).await?, |c| c.bytes(0))?.pop();
            if found.as_deref() != newest {
                return Ok(false);
            }
            let query = sql(text::INSERT_SERVICE_KEY)
                .bind(row.purpose.clone())
                .bind(row.public.clone())
                .bind(row.wrapped.clone())
                .bind(row.created.0)
                .bind(row.retired.map(|t| t.0));
            Ok(write.execute(query).await? == 1)
        }
        .await;
        write.finish(result).await
    }

    async fn offer_bootstrap(&self, hash: [u8; 32]) -> Result<bool, CommitError> {
        let query = sql(text::OFFER_BOOTSTRAP).bind(hash.to_vec());
        Ok(self.callers.write(query).await? == 1)
    }

    async fn bootstrap(&self) -> Read<Option<[u8; 32]>> {
        let row = self
            .read_one("bootstrap", sql(text::BOOTSTRAP), |c| c.hash_or_null(0))
            .await?;
        Ok(row.flatten())
    }

    async fn probe(&self) -> Result<(), CommitError> {
        self.callers.write(sql(text::PROBE_WRITE)).await?;
        self.callers
            .read(sql(text::PROBE_READ))
            .await
            .map(drop)
            .map_err(|e| errors::before_commit(&e))
    }
}

/// Uses up the one-time credential.
pub(super) async fn use_bootstrap(write: &mut Write, item: usize, now: Micros) -> Result<(), Stop> {
    if write.execute(sql(text::USE_BOOTSTRAP).bind(now.0)).await? == 1 {
        return Ok(());
    }
    let offered = write.exists(sql(text::BOOTSTRAP)).await?;
    Err(conflict(
        item,
        if offered {
            "the bootstrap credential was used before".to_owned()
        } else {
            "no bootstrap credential was ever offered".to_owned()
        },
    ))
}
