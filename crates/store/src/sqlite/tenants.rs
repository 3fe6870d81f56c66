//! Tenants, issuers, members, grants.

use super::errors::Stop;
use super::writer::Write;
use super::{Bound, SqliteStore, sql};
use crate::rows::{
    evidence_policy, grant_row, issuer_kind_name, issuer_row, member_row, role, tenant_row,
};
use crate::sql::tenants as text;
use async_trait::async_trait;
use countersign_core::ports::hsm::TokenFacts;
use countersign_core::ports::rows::{
    GrantRow, IssuerRow, MemberRow, OPERATOR_REALM, Role, TenantPolicy, TenantRow,
};
use countersign_core::ports::store::{CommitError, Read, TenantStore};
use countersign_core::{GrantId, SignerLabel, TenantId, TenantName};

#[async_trait]
impl TenantStore for SqliteStore {
    async fn tenant(&self, tenant: TenantId) -> Read<Option<TenantRow>> {
        self.read_one("tenants", by_tenant(text::TENANT_BY_ID, tenant), tenant_row)
            .await
    }

    async fn tenant_by_name(&self, name: &TenantName) -> Read<Option<TenantRow>> {
        let query = sql(text::TENANT_BY_NAME).bind(name.as_str().to_owned());
        self.read_one("tenants", query, tenant_row).await
    }

    async fn tenants(&self, after: Option<&TenantName>, limit: u32) -> Read<Vec<TenantRow>> {
        let query = sql(text::TENANTS)
            .bind(after.map_or("", TenantName::as_str).to_owned())
            .bind(OPERATOR_REALM.as_bytes().to_vec())
            .bind(i64::from(limit));
        self.read("tenants", query, tenant_row).await
    }

    async fn issuer(&self, tenant: TenantId, issuer: &str) -> Read<Option<IssuerRow>> {
        let query = by_tenant(text::ISSUER, tenant).bind(issuer.to_owned());
        self.read_one("issuers", query, issuer_row).await
    }

    async fn issuers(&self, tenant: TenantId) -> Read<Vec<IssuerRow>> {
        self.read("issuers", by_tenant(text::ISSUERS, tenant), issuer_row)
            .await
    }

    async fn roles(&self, tenant: TenantId, issuer: &str, subject: &str) -> Read<Vec<Role>> {
        let query = by_tenant(text::ROLES, tenant)
            .bind(issuer.to_owned())
            .bind(subject.to_owned());
        self.read("members", query, |c| role(c, 0)).await
    }

    async fn members(&self, tenant: TenantId) -> Read<Vec<MemberRow>> {
        self.read("members", by_tenant(text::MEMBERS, tenant), member_row)
            .await
    }

    async fn grants(&self, tenant: TenantId, signer: &SignerLabel) -> Read<Vec<GrantRow>> {
        let query = by_tenant(text::GRANTS_OF, tenant).bind(signer.as_str().to_owned());
        self.read("grants", query, grant_row).await
    }

    async fn all_grants(&self, tenant: TenantId) -> Read<Vec<GrantRow>> {
        self.read("grants", by_tenant(text::GRANTS, tenant), grant_row)
            .await
    }
}

/// A statement whose first value is the tenant.
pub(super) fn by_tenant(text: &'static str, tenant: TenantId) -> Bound {
    sql(text).bind(tenant.as_bytes().to_vec())
}

/// Moves the tenant's version on: every effect but an order does it, and thereby finds out whether
/// there is such a tenant.
pub(super) async fn bump(write: &mut Write<'_>, item: usize, tenant: TenantId) -> Result<(), Stop> {
    match write.execute(by_tenant(text::BUMP, tenant)).await? {
        0 => Err(conflict(item, format!("there is no tenant {tenant}"))),
        _ => Ok(()),
    }
}

/// What an effect says that met a row it did not expect.
pub(super) fn conflict(item: usize, what: String) -> Stop {
    Stop::Refused(CommitError::Conflict { item, what })
}

/// [`conflict`] unless a row changed.
pub(super) fn changed(rows: u64, item: usize, what: impl FnOnce() -> String) -> Result<(), Stop> {
    if rows == 0 {
        return Err(conflict(item, what()));
    }
    Ok(())
}

pub(super) async fn create_tenant(
    write: &mut Write<'_>,
    item: usize,
    row: TenantRow,
) -> Result<(), Stop> {
    let rows = write
        .execute(
            by_tenant(text::INSERT_TENANT, row.id)
                .bind(row.name.as_str().to_owned())
                .bind(row.policy.allow_software)
                .bind(row.policy.require_mfa)
                .bind(super::log::stored(row.version)?)
                .bind(row.token.as_ref().map(to_json).transpose()?)
                .bind(row.created.0)
                .bind(demands(&row.policy)?),
        )
        .await?;
    if rows == 0 {
        let named = sql(text::TENANT_BY_NAME).bind(row.name.as_str().to_owned());
        return Err(conflict(
            item,
            if write.exists(named).await? {
                format!("a tenant named {} exists", row.name)
            } else {
                format!("a tenant with the id {} exists", row.id)
            },
        ));
    }
    Ok(())
}

pub(super) async fn set_policy(
    write: &mut Write<'_>,
    tenant: TenantId,
    policy: TenantPolicy,
) -> Result<(), Stop> {
    let query = by_tenant(text::SET_POLICY, tenant)
        .bind(policy.allow_software)
        .bind(policy.require_mfa)
        .bind(demands(&policy)?);
    write.execute(query).await.map(drop)
}

/// What is demanded of evidence, JSON; NULL for nothing.
fn demands(policy: &TenantPolicy) -> Result<Option<String>, Stop> {
    evidence_policy(policy)
        .map(|words| to_json(&words))
        .transpose()
}

pub(super) async fn set_token(
    write: &mut Write<'_>,
    item: usize,
    tenant: TenantId,
    facts: &TokenFacts,
) -> Result<(), Stop> {
    let query = by_tenant(text::SET_TOKEN, tenant).bind(to_json(facts)?);
    changed(write.execute(query).await?, item, || {
        "the tenant has another token already".to_owned()
    })
}

pub(super) async fn put_issuer(write: &mut Write<'_>, row: IssuerRow) -> Result<(), Stop> {
    let query = by_tenant(text::PUT_ISSUER, row.tenant)
        .bind(row.issuer)
        .bind(issuer_kind_name(row.kind))
        .bind(row.audience)
        .bind(i64::from(row.max_token_age_s))
        .bind(to_json(&row.mfa_amr)?)
        .bind(to_json(&row.mfa_acr)?)
        .bind(row.ca_pem)
        .bind(row.client_id);
    write.execute(query).await.map(drop)
}

pub(super) async fn add_member(
    write: &mut Write<'_>,
    item: usize,
    row: &MemberRow,
) -> Result<(), Stop> {
    let rows = write.execute(member(text::INSERT_MEMBER, row)).await?;
    changed(rows, item, || {
        format!(
            "{} of {} is {} already",
            row.subject,
            row.issuer,
            row.role.as_str()
        )
    })
}

pub(super) async fn remove_member(
    write: &mut Write<'_>,
    item: usize,
    row: &MemberRow,
) -> Result<(), Stop> {
    let rows = write.execute(member(text::DELETE_MEMBER, row)).await?;
    changed(rows, item, || {
        format!(
            "{} of {} is not {}",
            row.subject,
            row.issuer,
            row.role.as_str()
        )
    })
}

pub(super) async fn remove_issuer(
    write: &mut Write<'_>,
    item: usize,
    tenant: TenantId,
    issuer: &str,
) -> Result<(), Stop> {
    let query = by_tenant(text::DELETE_ISSUER, tenant).bind(issuer.to_owned());
    let rows = write.execute(query).await?;
    changed(rows, item, || format!("{issuer} is not registered"))
}

pub(super) async fn put_grant(
    write: &mut Write<'_>,
    item: usize,
    row: GrantRow,
) -> Result<(), Stop> {
    super::keys::signer_must_exist(write, item, row.tenant, &row.signer).await?;
    let query = by_tenant(text::INSERT_GRANT, row.tenant)
        .bind(row.id.as_bytes().to_vec())
        .bind(String::from(row.signer))
        .bind(row.json)
        .bind(row.created.0);
    let rows = write.execute(query).await?;
    changed(rows, item, || format!("a grant {} exists", row.id))
}

pub(super) async fn remove_grant(
    write: &mut Write<'_>,
    item: usize,
    tenant: TenantId,
    grant: GrantId,
) -> Result<(), Stop> {
    let query = by_tenant(text::DELETE_GRANT, tenant).bind(grant.as_bytes().to_vec());
    let rows = write.execute(query).await?;
    changed(rows, item, || format!("there is no grant {grant}"))
}

/// JSON of what is ours; it cannot fail for these types, and if it did nothing would be written.
pub(super) fn to_json<T: serde::Serialize>(value: &T) -> Result<String, Stop> {
    serde_json::to_string(value).map_err(|e| {
        Stop::Refused(CommitError::Unavailable(format!(
            "it cannot hold this: {e}"
        )))
    })
}

fn member(text: &'static str, row: &MemberRow) -> Bound {
    by_tenant(text, row.tenant)
        .bind(row.issuer.clone())
        .bind(row.subject.clone())
        .bind(row.role.as_str())
}
