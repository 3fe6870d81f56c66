//! Signers, keys, evidence, certificates, orders.

use super::PostgresStore;
use super::act::acting;
use super::connections::{Bound, Write};
use super::effects::{changed, conflict, to_json};
use super::errors::Stop;
use super::tenants::by_tenant;
use crate::columns::Columns;
use crate::consistent::room_for_key;
use crate::rows::{
    certificate_row, evidence_row, key_row, named_files, order_row, order_state_name, signer_row,
};
use crate::sql::keys as text;
use async_trait::async_trait;
use countersign_core::ports::rows::{CertificateRow, EvidenceRow, KeyRow, OrderRow, SignerRow};
use countersign_core::ports::store::{KeyStore, Read};
use countersign_core::{KeyId, KeyState, OrderId, SignerLabel, TenantId};

acting! {
    SIGNER = for_tenant(text::SIGNER);
    SIGNERS = for_tenant(text::SIGNERS);
    COUNT_SIGNERS = for_tenant(text::COUNT_SIGNERS);
    COUNT_KEYS = for_tenant(text::COUNT_KEYS);
    KEY = for_tenant(text::KEY);
    KEYS_OF = for_tenant(text::KEYS_OF);
    KEYS = for_tenant(text::KEYS);
    EVIDENCE = for_tenant(text::EVIDENCE);
    CERTIFICATE = for_tenant(text::CERTIFICATE);
    CERTIFICATE_NAMED = for_tenant(text::CERTIFICATE_NAMED);
    ORDER = for_tenant(text::ORDER);
    ORDERS_OF = for_tenant(text::ORDERS_OF);
}

/// Two statements for what SQLite does in one: under row-level security an `ON CONFLICT DO UPDATE`
/// that meets another tenant's row is an error, not a row left alone.
const UPDATE_ORDER: &str = "UPDATE orders SET ca = $4, reference = $5, state = $6, csr = $7, \
    statement = $8, problem = $9, updated = $10, next_poll = $11 \
    WHERE tenant_id = $1 AND order_id = $2 AND key_id = $3";
const INSERT_ORDER: &str = "INSERT INTO orders \
    (tenant_id, order_id, key_id, ca, reference, state, csr, statement, problem, updated, next_poll, \
    created) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12) ON CONFLICT DO NOTHING";

#[async_trait]
impl KeyStore for PostgresStore {
    async fn signer(&self, tenant: TenantId, signer: &SignerLabel) -> Read<Option<SignerRow>> {
        let query = by_tenant(&SIGNER, tenant).bind(signer.as_str().to_owned());
        self.read_one("signers", query, signer_row).await
    }

    async fn count_signers(&self, tenant: TenantId) -> Read<u64> {
        let query = by_tenant(&COUNT_SIGNERS, tenant);
        let n = self.read_one("signers", query, |c| c.u64(0)).await?;
        Ok(n.unwrap_or_default())
    }

    async fn count_keys(&self, tenant: TenantId) -> Read<u64> {
        let query = by_tenant(&COUNT_KEYS, tenant);
        let n = self.read_one("keys", query, |c| c.u64(0)).await?;
        Ok(n.unwrap_or_default())
    }

    async fn signers(&self, tenant: TenantId) -> Read<Vec<SignerRow>> {
        self.read("signers", by_tenant(&SIGNERS, tenant), signer_row)
            .await
    }

    async fn key(&self, tenant: TenantId, key: KeyId) -> Read<Option<KeyRow>> {
        let query = by_tenant(&KEY, tenant).bind(key.0);
        self.read_one("keys", query, key_row).await
    }

    async fn keys_of(&self, tenant: TenantId, signer: &SignerLabel) -> Read<Vec<KeyRow>> {
        let query = by_tenant(&KEYS_OF, tenant).bind(signer.as_str().to_owned());
        self.read("keys", query, key_row).await
    }

    async fn keys(&self, tenant: TenantId) -> Read<Vec<KeyRow>> {
        self.read("keys", by_tenant(&KEYS, tenant), key_row).await
    }

    async fn evidence(&self, tenant: TenantId, key: KeyId) -> Read<Option<EvidenceRow>> {
        let query = by_tenant(&EVIDENCE, tenant).bind(key.0);
        self.read_one("evidence", query, evidence_row).await
    }

    async fn certificate(&self, tenant: TenantId, key: KeyId) -> Read<Option<CertificateRow>> {
        let query = by_tenant(&CERTIFICATE, tenant).bind(key.0);
        self.read_one("certificates", query, certificate_row).await
    }

    async fn certificate_named(
        &self,
        tenant: TenantId,
        key: KeyId,
        sha256: [u8; 32],
    ) -> Read<Option<CertificateRow>> {
        let query = by_tenant(&CERTIFICATE_NAMED, tenant)
            .bind(key.0)
            .bind(sha256.to_vec());
        self.read_one("certificates", query, certificate_row).await
    }

    async fn order(&self, tenant: TenantId, order: OrderId) -> Read<Option<OrderRow>> {
        let query = by_tenant(&ORDER, tenant).bind(order.0);
        self.read_one("orders", query, order_row).await
    }

    async fn orders_of(&self, tenant: TenantId, key: KeyId) -> Read<Vec<OrderRow>> {
        let query = by_tenant(&ORDERS_OF, tenant).bind(key.0);
        self.read("orders", query, order_row).await
    }
}

pub(super) async fn signer_must_exist(
    write: &mut Write,
    item: usize,
    tenant: TenantId,
    signer: &SignerLabel,
) -> Result<(), Stop> {
    let query = by_tenant(text::SIGNER, tenant).bind(signer.as_str().to_owned());
    if write.exists(query).await? {
        Ok(())
    } else {
        Err(conflict(item, format!("there is no signer named {signer}")))
    }
}

pub(super) async fn key_state(
    write: &mut Write,
    item: usize,
    tenant: TenantId,
    key: KeyId,
) -> Result<KeyState, Stop> {
    let query = by_tenant(text::KEY_STATE, tenant).bind(key.0);
    let rows = write.rows(query).await?;
    let mut states = super::rows_of("keys", &rows, |c: &Columns<'_>| c.parsed(0))?;
    states
        .pop()
        .ok_or_else(|| conflict(item, format!("there is no key {key}")))
}

pub(super) async fn create_signer(
    write: &mut Write,
    item: usize,
    row: &SignerRow,
) -> Result<(), Stop> {
    let query = by_tenant(text::INSERT_SIGNER, row.tenant)
        .bind(row.label.as_str().to_owned())
        .bind(row.algorithm.as_str())
        .bind(row.created.0);
    let rows = write.execute(query).await?;
    changed(rows, item, || {
        format!("a signer named {} exists", row.label)
    })
}

/// The tenant's version was moved before: others who make keys for it wait for this transaction, and
/// what they count then has this key in it (read committed: each statement sees what is committed).
pub(super) async fn create_key(
    write: &mut Write,
    item: usize,
    row: KeyRow,
    most: u32,
) -> Result<(), Stop> {
    signer_must_exist(write, item, row.tenant, &row.signer).await?;
    let rows = write.rows(by_tenant(text::COUNT_KEYS, row.tenant)).await?;
    let mut there = super::rows_of("keys", &rows, |c: &Columns<'_>| c.u64(0))?;
    room_for_key(there.pop(), most).map_err(|what| conflict(item, what))?;
    let query = by_tenant(text::INSERT_KEY, row.tenant)
        .bind(row.id.0)
        .bind(String::from(row.signer))
        .bind(row.algorithm.as_str())
        .bind(row.state.as_str())
        .bind(row.spki)
        .bind(to_json(&row.facts)?)
        .bind(row.appraisal)
        .bind(row.created.0);
    let rows = write.execute(query).await?;
    changed(rows, item, || format!("a key {} exists", row.id))
}

pub(super) async fn set_key_state(
    write: &mut Write,
    item: usize,
    tenant: TenantId,
    key: KeyId,
    from: KeyState,
    to: KeyState,
) -> Result<(), Stop> {
    let query = by_tenant(text::SET_KEY_STATE, tenant)
        .bind(key.0)
        .bind(from.as_str())
        .bind(to.as_str());
    if write.execute(query).await? == 0 {
        let is = key_state(write, item, tenant, key).await?;
        return Err(conflict(item, format!("key {key} is {is}, not {from}")));
    }
    Ok(())
}

pub(super) async fn set_appraisal(
    write: &mut Write,
    item: usize,
    tenant: TenantId,
    key: KeyId,
    json: String,
) -> Result<(), Stop> {
    let query = by_tenant(text::SET_APPRAISAL, tenant)
        .bind(key.0)
        .bind(json);
    let rows = write.execute(query).await?;
    changed(rows, item, || format!("there is no key {key}"))
}

pub(super) async fn put_evidence(
    write: &mut Write,
    item: usize,
    row: EvidenceRow,
) -> Result<(), Stop> {
    key_state(write, item, row.tenant, row.key).await?;
    let files = to_json(&named_files(&row.files))?;
    let contents: Vec<Vec<u8>> = row.files.into_iter().map(|f| f.bytes).collect();
    let query = by_tenant(text::PUT_EVIDENCE, row.tenant)
        .bind(row.key.0)
        .bind(files)
        .bind(contents)
        .bind(row.nonce)
        .bind(row.result)
        .bind(row.appraised.0);
    write.execute(query).await.map(drop)
}

pub(super) async fn install_certificate(
    write: &mut Write,
    item: usize,
    row: CertificateRow,
) -> Result<(), Stop> {
    key_state(write, item, row.tenant, row.key).await?;
    let query = by_tenant(text::INSERT_CERTIFICATE, row.tenant)
        .bind(row.key.0)
        .bind(row.sha256.to_vec())
        .bind(row.chain)
        .bind(row.not_before.0)
        .bind(row.not_after.0)
        .bind(row.serial.clone())
        .bind(row.installed.0);
    let rows = write.execute(query).await?;
    changed(rows, item, || {
        format!(
            "certificate {} is installed for key {} already",
            row.serial, row.key
        )
    })
}

pub(super) async fn put_order(write: &mut Write, item: usize, row: OrderRow) -> Result<(), Stop> {
    key_state(write, item, row.tenant, row.key).await?;
    if write.execute(order(UPDATE_ORDER, &row)).await? == 1 {
        return Ok(());
    }
    let rows = write
        .execute(order(INSERT_ORDER, &row).bind(row.created.0))
        .await?;
    changed(rows, item, || {
        format!("an order {} exists for another key", row.id)
    })
}

fn order(text: &'static str, row: &OrderRow) -> Bound {
    by_tenant(text, row.tenant)
        .bind(row.id.0)
        .bind(row.key.0)
        .bind(row.ca.clone())
        .bind(row.reference.clone())
        .bind(order_state_name(row.state))
        .bind(row.csr.clone())
        .bind(row.statement.clone())
        .bind(row.problem.clone())
        .bind(row.updated.0)
        .bind(row.next_poll.map(|m| m.0))
}
