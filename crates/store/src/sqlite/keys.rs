//! Signers, keys, evidence, certificates, orders.

use super::SqliteStore;
use super::errors::Stop;
use super::tenants::{by_tenant, changed, conflict, to_json};
use super::writer::Write;
use crate::consistent::room_for_key;
use crate::rows::{
    certificate_row, evidence_row, key_row, named_files, order_row, order_state_name, signer_row,
};
use crate::sql::keys as text;
use async_trait::async_trait;
use countersign_core::ports::rows::{CertificateRow, EvidenceRow, KeyRow, OrderRow, SignerRow};
use countersign_core::ports::store::{KeyStore, Read};
use countersign_core::{KeyId, KeyState, OrderId, SignerLabel, TenantId};

#[async_trait]
impl KeyStore for SqliteStore {
    async fn signer(&self, tenant: TenantId, signer: &SignerLabel) -> Read<Option<SignerRow>> {
        let query = by_tenant(text::SIGNER, tenant).bind(signer.as_str().to_owned());
        self.read_one("signers", query, signer_row).await
    }

    async fn count_signers(&self, tenant: TenantId) -> Read<u64> {
        let query = by_tenant(text::COUNT_SIGNERS, tenant);
        let n = self.read_one("signers", query, |c| c.u64(0)).await?;
        Ok(n.unwrap_or_default())
    }

    async fn count_keys(&self, tenant: TenantId) -> Read<u64> {
        let query = by_tenant(text::COUNT_KEYS, tenant);
        let n = self.read_one("keys", query, |c| c.u64(0)).await?;
        Ok(n.unwrap_or_default())
    }

    async fn signers(&self, tenant: TenantId) -> Read<Vec<SignerRow>> {
        self.read("signers", by_tenant(text::SIGNERS, tenant), signer_row)
            .await
    }

    async fn key(&self, tenant: TenantId, key: KeyId) -> Read<Option<KeyRow>> {
        let query = by_tenant(text::KEY, tenant).bind(key.as_bytes().to_vec());
        self.read_one("keys", query, key_row).await
    }

    async fn keys_of(&self, tenant: TenantId, signer: &SignerLabel) -> Read<Vec<KeyRow>> {
        let query = by_tenant(text::KEYS_OF, tenant).bind(signer.as_str().to_owned());
        self.read("keys", query, key_row).await
    }

    async fn keys(&self, tenant: TenantId) -> Read<Vec<KeyRow>> {
        self.read("keys", by_tenant(text::KEYS, tenant), key_row)
            .await
    }

    async fn evidence(&self, tenant: TenantId, key: KeyId) -> Read<Option<EvidenceRow>> {
        let query = by_tenant(text::EVIDENCE, tenant).bind(key.as_bytes().to_vec());
        self.read_one("evidence", query, evidence_row).await
    }

    async fn certificate(&self, tenant: TenantId, key: KeyId) -> Read<Option<CertificateRow>> {
        let query = by_tenant(text::CERTIFICATE, tenant).bind(key.as_bytes().to_vec());
        self.read_one("certificates", query, certificate_row).await
    }

    async fn certificate_named(
        &self,
        tenant: TenantId,
        key: KeyId,
        sha256: [u8; 32],
    ) -> Read<Option<CertificateRow>> {
        let query = by_tenant(text::CERTIFICATE_NAMED, tenant)
            .bind(key.as_bytes().to_vec())
            .bind(sha256.to_vec());
        self.read_one("certificates", query, certificate_row).await
    }

    async fn order(&self, tenant: TenantId, order: OrderId) -> Read<Option<OrderRow>> {
        let query = by_tenant(text::ORDER, tenant).bind(order.as_bytes().to_vec());
        self.read_one("orders", query, order_row).await
    }

    async fn orders_of(&self, tenant: TenantId, key: KeyId) -> Read<Vec<OrderRow>> {
        let query = by_tenant(text::ORDERS_OF, tenant).bind(key.as_bytes().to_vec());
        self.read("orders", query, order_row).await
    }
}

pub(super) async fn signer_must_exist(
    write: &mut Write<'_>,
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
    write: &mut Write<'_>,
    item: usize,
    tenant: TenantId,
    key: KeyId,
) -> Result<KeyState, Stop> {
    let query = by_tenant(text::KEY_STATE, tenant).bind(key.as_bytes().to_vec());
    write
        .row("keys", query, |c| c.parsed(0))
        .await?
        .ok_or_else(|| conflict(item, format!("there is no key {key}")))
}

pub(super) async fn create_signer(
    write: &mut Write<'_>,
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

pub(super) async fn create_key(
    write: &mut Write<'_>,
    item: usize,
    row: KeyRow,
    most: u32,
) -> Result<(), Stop> {
    signer_must_exist(write, item, row.tenant, &row.signer).await?;
    let there = by_tenant(text::COUNT_KEYS, row.tenant);
    let there = write.row("keys", there, |c| c.u64(0)).await?;
    room_for_key(there, most).map_err(|what| conflict(item, what))?;
    let query = by_tenant(text::INSERT_KEY, row.tenant)
        .bind(row.id.as_bytes().to_vec())
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
    write: &mut Write<'_>,
    item: usize,
    tenant: TenantId,
    key: KeyId,
    from: KeyState,
    to: KeyState,
) -> Result<(), Stop> {
    let query = by_tenant(text::SET_KEY_STATE, tenant)
        .bind(key.as_bytes().to_vec())
        .bind(from.as_str())
        .bind(to.as_str());
    if write.execute(query).await? == 0 {
        let is = key_state(write, item, tenant, key).await?;
        return Err(conflict(item, format!("key {key} is {is}, not {from}")));
    }
    Ok(())
}

pub(super) async fn set_appraisal(
    write: &mut Write<'_>,
    item: usize,
    tenant: TenantId,
    key: KeyId,
    json: String,
) -> Result<(), Stop> {
    let query = by_tenant(text::SET_APPRAISAL, tenant)
        .bind(key.as_bytes().to_vec())
        .bind(json);
    let rows = write.execute(query).await?;
    changed(rows, item, || format!("there is no key {key}"))
}

pub(super) async fn put_evidence(
    write: &mut Write<'_>,
    item: usize,
    row: EvidenceRow,
) -> Result<(), Stop> {
    key_state(write, item, row.tenant, row.key).await?;
    let files = to_json(&named_files(&row.files))?;
    let contents: Vec<Vec<u8>> = row.files.into_iter().map(|f| f.bytes).collect();
    let query = by_tenant(text::PUT_EVIDENCE, row.tenant)
        .bind(row.key.as_bytes().to_vec())
        .bind(files)
        .bind(pack_chain(&contents))
        .bind(row.nonce)
        .bind(row.result)
        .bind(row.appraised.0);
    write.execute(query).await.map(drop)
}

pub(super) async fn install_certificate(
    write: &mut Write<'_>,
    item: usize,
    row: CertificateRow,
) -> Result<(), Stop> {
    key_state(write, item, row.tenant, row.key).await?;
    let query = by_tenant(text::INSERT_CERTIFICATE, row.tenant)
        .bind(row.key.as_bytes().to_vec())
        .bind(row.sha256.to_vec())
        .bind(pack_chain(&row.chain))
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

pub(super) async fn put_order(
    write: &mut Write<'_>,
    item: usize,
    row: OrderRow,
) -> Result<(), Stop> {
    key_state(write, item, row.tenant, row.key).await?;
    let query = by_tenant(text::PUT_ORDER, row.tenant)
        .bind(row.id.as_bytes().to_vec())
        .bind(row.key.as_bytes().to_vec())
        .bind(row.ca)
        .bind(row.reference)
        .bind(order_state_name(row.state))
        .bind(row.csr)
        .bind(row.statement)
        .bind(row.problem)
        .bind(row.created.0)
        .bind(row.updated.0)
        .bind(row.next_poll.map(|m| m.0));
    let rows = write.execute(query).await?;
    changed(rows, item, || {
        format!("an order {} exists for another key", row.id)
    })
}

/// Each certificate as u32 big-endian length and DER. (PostgreSQL has arrays of bytes.)
pub(super) fn pack_chain(chain: &[Vec<u8>]) -> Vec<u8> {
    let mut out = Vec::new();
    for der in chain {
        // A certificate of 4 GiB cannot have come through any door of ours.
        out.extend_from_slice(&u32::try_from(der.len()).unwrap_or(u32::MAX).to_be_bytes());
        out.extend_from_slice(der);
    }
    out
}

pub(super) fn unpack_chain(mut bytes: &[u8]) -> Option<Vec<Vec<u8>>> {
    let mut chain = Vec::new();
    while !bytes.is_empty() {
        let (length, rest) = bytes.split_first_chunk::<4>()?;
        let length = usize::try_from(u32::from_be_bytes(*length)).ok()?;
        let (der, rest) = rest.split_at_checked(length)?;
        chain.push(der.to_vec());
        bytes = rest;
    }
    Some(chain)
}
