//! Certificate status, revocation lists, orders that wait for their CA.

use super::act::acting;
use super::connections::{Bound, Write};
use super::effects::{changed, conflict};
use super::errors::Stop;
use super::tenants::by_tenant;
use super::{PostgresStore, sql};
use crate::rows::{list_row, order_row, status_row};
use crate::sql::revocation as text;
use async_trait::async_trait;
use countersign_core::ports::revocation::{
    CertificateStatus, ListId, ListPolled, ListRow, StatusPlace, StatusRow, StatusStore,
};
use countersign_core::ports::rows::OrderRow;
use countersign_core::ports::store::{CommitError, Read};
use countersign_core::{KeyId, Micros, OrderId, TenantId};
use std::time::Duration;

acting! {
    STATUS = for_tenant(text::STATUS);
    STATUSES = for_tenant(text::STATUSES);
    LISTED = as_housekeeping(text::LISTED);
    UNLISTED = as_housekeeping(text::UNLISTED);
    ENDING = as_housekeeping(text::ENDING);
    ORDERS_DUE = as_housekeeping(text::ORDERS_DUE);
    CLAIM_ORDER = for_tenant(text::CLAIM_ORDER);
    ORDER_WAITS = for_tenant(text::ORDER_WAITS);
}

/// A list that somebody just began to be looked up in is fetched soon, should the node that began
/// die before it has looked itself.
const FIRST_POLL: Duration = Duration::from_secs(30);

#[async_trait]
impl StatusStore for PostgresStore {
    async fn certificate_status(&self, tenant: TenantId, key: KeyId) -> Read<Option<StatusRow>> {
        let query = by_tenant(&STATUS, tenant).bind(key.0);
        self.read_one("certificate_status", query, status_row).await
    }

    async fn certificate_statuses(&self, tenant: TenantId) -> Read<Vec<StatusRow>> {
        let query = by_tenant(&STATUSES, tenant);
        self.read("certificate_status", query, status_row).await
    }

    async fn revocation_list(&self, id: &ListId) -> Read<Option<ListRow>> {
        self.read_one("revocation_lists", by_list(text::LIST, id), list_row)
            .await
    }

    async fn lists_due(&self, now: Micros, limit: u32) -> Read<Vec<ListRow>> {
        let query = sql(text::LISTS_DUE).bind(now.0).bind(i64::from(limit));
        self.read("revocation_lists", query, list_row).await
    }

    async fn claim_list(
        &self,
        id: &ListId,
        seen: Micros,
        until: Micros,
    ) -> Result<bool, CommitError> {
        let query = by_list(text::CLAIM_LIST, id).bind(seen.0).bind(until.0);
        self.one(query).await
    }

    async fn list_polled(&self, id: &ListId, polled: &ListPolled) -> Result<(), CommitError> {
        let query = match polled {
            ListPolled::Good {
                at,
                this_update,
                number,
                next_poll,
            } => by_list(text::LIST_GOOD, id)
                .bind(at.0)
                .bind(this_update.0)
                .bind(number.clone())
                .bind(next_poll.0),
            ListPolled::Problem { why, next_poll } => by_list(text::LIST_PROBLEM, id)
                .bind(why.clone())
                .bind(next_poll.0),
        };
        self.one(query).await.map(drop)
    }

    async fn listed(
        &self,
        id: &ListId,
        now: Micros,
        after: Option<StatusPlace>,
        limit: u32,
    ) -> Read<Vec<StatusRow>> {
        let query = after_place(by_list(&LISTED, id), now, after).bind(i64::from(limit));
        self.read("certificate_status", query, status_row).await
    }

    async fn unlisted(&self, limit: u32) -> Read<Vec<StatusRow>> {
        let query = sql(&UNLISTED).bind(i64::from(limit));
        self.read("certificate_status", query, status_row).await
    }

    async fn ending(
        &self,
        from: Micros,
        until: Micros,
        after: Option<StatusPlace>,
        limit: u32,
    ) -> Read<Vec<StatusRow>> {
        let query = after_place(sql(&ENDING), from, after)
            .bind(until.0)
            .bind(i64::from(limit));
        self.read("certificate_status", query, status_row).await
    }

    async fn orders_due(&self, now: Micros, limit: u32) -> Read<Vec<OrderRow>> {
        let query = sql(&ORDERS_DUE).bind(now.0).bind(i64::from(limit));
        self.read("orders", query, order_row).await
    }

    async fn claim_order(
        &self,
        tenant: TenantId,
        order: OrderId,
        seen: Micros,
        until: Micros,
    ) -> Result<bool, CommitError> {
        let query = by_tenant(&CLAIM_ORDER, tenant)
            .bind(order.0)
            .bind(seen.0)
            .bind(until.0);
        self.one(query).await
    }

    async fn order_waits(
        &self,
        tenant: TenantId,
        order: OrderId,
        next_poll: Option<Micros>,
        problem: Option<String>,
    ) -> Result<(), CommitError> {
        let query = by_tenant(&ORDER_WAITS, tenant)
            .bind(order.0)
            .bind(next_poll.map(|m| m.0))
            .bind(problem);
        self.one(query).await.map(drop)
    }
}

impl PostgresStore {
    /// One statement that is a transaction of its own: whether it changed a row. What compares
    /// before it swaps does so for one node alone: another waits for the row, and then finds it
    /// moved.
    async fn one(&self, query: Bound) -> Result<bool, CommitError> {
        Ok(self.callers.write(query).await? > 0)
    }
}

pub(super) async fn follow(
    write: &mut Write,
    item: usize,
    row: StatusRow,
    certificate: Vec<u8>,
) -> Result<(), Stop> {
    let Some(list) = row.list else {
        return Err(conflict(item, "a certificate without a list".to_owned()));
    };
    let query = by_list(text::FOLLOW_LIST, &list)
        .bind(certificate)
        .bind(row.since.plus(FIRST_POLL).0);
    write.execute(query).await?;
    let query = by_tenant(text::FOLLOW, row.tenant)
        .bind(row.key.0)
        .bind(row.sha256.to_vec())
        .bind(row.serial)
        .bind(row.not_after.0)
        .bind(list.issuer.to_vec())
        .bind(list.urls)
        .bind(row.status.as_str())
        .bind(row.since.0)
        .bind(row.checked.map(|m| m.0))
        .bind(row.revoked_at.map(|m| m.0))
        .bind(row.reason)
        .bind(row.warned);
    let rows = write.execute(query).await?;
    changed(rows, item, || format!("there is no key {}", row.key))
}

pub(super) async fn set_status(
    write: &mut Write,
    item: usize,
    from: CertificateStatus,
    row: StatusRow,
) -> Result<(), Stop> {
    let query = by_tenant(text::SET_STATUS, row.tenant)
        .bind(row.key.0)
        .bind(row.sha256.to_vec())
        .bind(from.as_str())
        .bind(row.status.as_str())
        .bind(row.since.0)
        .bind(row.checked.map(|m| m.0))
        .bind(row.revoked_at.map(|m| m.0))
        .bind(row.reason);
    let rows = write.execute(query).await?;
    changed(rows, item, || {
        format!(
            "the certificate of key {} is not {} any more, or another is in use",
            row.key,
            from.as_str()
        )
    })
}

pub(super) async fn mark_ending(
    write: &mut Write,
    item: usize,
    tenant: TenantId,
    key: KeyId,
    sha256: [u8; 32],
) -> Result<(), Stop> {
    let query = by_tenant(text::MARK_ENDING, tenant)
        .bind(key.0)
        .bind(sha256.to_vec())
        .bind(true)
        .bind(false);
    let rows = write.execute(query).await?;
    changed(rows, item, || {
        format!("the end of the certificate of key {key} was told already, or another is in use")
    })
}

/// A statement whose first values name a list.
fn by_list(text: &'static str, id: &ListId) -> Bound {
    sql(text).bind(id.issuer.to_vec()).bind(id.urls.clone())
}

/// Binds where a walk goes on: past `after`, or from `from`.
fn after_place(query: Bound, from: Micros, after: Option<StatusPlace>) -> Bound {
    // No key has the nil id, so the first place lies before all rows of its time.
    let (end, key) = after.unwrap_or((from, KeyId(uuid::Uuid::nil())));
    query.bind(end.0).bind(key.0)
}

/// Name and text of the statements about lists, which are nobody's.
#[cfg(test)]
pub(super) const NOBODYS: [(&str, &str); 6] = [
    ("LIST", text::LIST),
    ("LISTS_DUE", text::LISTS_DUE),
    ("FOLLOW_LIST", text::FOLLOW_LIST),
    ("CLAIM_LIST", text::CLAIM_LIST),
    ("LIST_GOOD", text::LIST_GOOD),
    ("LIST_PROBLEM", text::LIST_PROBLEM),
];
