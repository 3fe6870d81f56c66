//! Seen tokens, service keys, bootstrap, probe.

use super::errors::Stop;
use super::tenants::{by_tenant, conflict};
use super::writer::Write;
use super::{SqliteStore, sql};
use crate::rows::service_key_row;
use crate::sql::service as text;
use async_trait::async_trait;
use countersign_core::ports::rows::ServiceKeyRow;
use countersign_core::ports::store::{CommitError, Read, ServiceStore};
use countersign_core::{Micros, TenantId};

#[async_trait]
impl ServiceStore for SqliteStore {
    async fn first_use(
        &self,
        tenant: TenantId,
        issuer: &str,
        token: [u8; 32],
        expires: Micros,
    ) -> Result<bool, CommitError> {
        let mut write = self.writer.begin("first use").await?;
        let query = by_tenant(text::FIRST_USE, tenant)
            .bind(issuer.to_owned())
            .bind(token.to_vec())
            .bind(expires.0);
        let rows = write.execute(query).await;
        Ok(write.finish(rows).await? == 1)
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
        let mut write = self.writer.begin("service key").await?;
        let result = async {
            let query = sql(text::NEWEST_SERVICE_KEY).bind(row.purpose.clone());
            let found = write.row("service_keys", query, |c| c.bytes(0)).await?;
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
        let mut write = self.writer.begin("offer bootstrap").await?;
        let rows = write
            .execute(sql(text::OFFER_BOOTSTRAP).bind(hash.to_vec()))
            .await;
        Ok(write.finish(rows).await? == 1)
    }

    async fn bootstrap(&self) -> Read<Option<[u8; 32]>> {
        let row = self
            .read_one("bootstrap", sql(text::BOOTSTRAP), |c| c.hash_or_null(0))
            .await?;
        Ok(row.flatten())
    }

    async fn probe(&self) -> Result<(), CommitError> {
        let mut write = self.writer.begin("probe").await?;
        let rows = write.execute(sql(text::PROBE_WRITE)).await;
        write.finish(rows).await?;
        self.read_one("probe", sql(text::PROBE_READ), |c| c.u64(0))
            .await
            .map(drop)
            .map_err(|e| CommitError::Unavailable(e.to_string()))
    }
}

/// Uses up the one-time credential.
pub(super) async fn use_bootstrap(
    write: &mut Write<'_>,
    item: usize,
    now: Micros,
) -> Result<(), Stop> {
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
