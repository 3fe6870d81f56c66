//! Effects: what a commit changes besides logs. They are rare, so each is a statement or two.

use super::connections::Write;
use super::errors::Stop;
use super::{devices, keys, revocation, service, tenants};
use countersign_core::Micros;
use countersign_core::ports::store::{CommitError, Effect};

pub(super) async fn apply(
    write: &mut Write,
    item: usize,
    now: Micros,
    effect: Effect,
) -> Result<(), Stop> {
    if !matches!(effect, Effect::CreateTenant(_))
        && let Some(tenant) = effect.bumps()
    {
        tenants::bump(write, item, tenant).await?;
    }
    match effect {
        Effect::CreateTenant(row) => tenants::create_tenant(write, item, row).await,
        Effect::PutOrder(row) => keys::put_order(write, item, *row).await,
        Effect::UseBootstrap => service::use_bootstrap(write, item, now).await,
        Effect::FollowCertificate(row, issuer) => {
            revocation::follow(write, item, *row, issuer).await
        }
        Effect::MarkEnding(tenant, key, sha256) => {
            revocation::mark_ending(write, item, tenant, key, sha256).await
        }
        Effect::SetCertificateStatus { from, row } => {
            revocation::set_status(write, item, from, *row).await
        }
        Effect::SetPolicy(tenant, policy) => tenants::set_policy(write, tenant, policy).await,
        Effect::SetToken(tenant, facts) => tenants::set_token(write, item, tenant, &facts).await,
        Effect::PutIssuer(row) => tenants::put_issuer(write, row).await,
        Effect::RemoveIssuer(tenant, issuer) => {
            tenants::remove_issuer(write, item, tenant, &issuer).await
        }
        Effect::AddMember(row) => tenants::add_member(write, item, &row).await,
        Effect::RemoveMember(row) => tenants::remove_member(write, item, &row).await,
        Effect::CreateSigner(row) => keys::create_signer(write, item, &row).await,
        Effect::CreateKey { row, most } => keys::create_key(write, item, *row, most).await,
        Effect::SetKeyState {
            tenant,
            key,
            from,
            to,
        } => keys::set_key_state(write, item, tenant, key, from, to).await,
        Effect::SetAppraisal(tenant, key, json) => {
            keys::set_appraisal(write, item, tenant, key, json).await
        }
        Effect::SeeDevice(row) => devices::see(write, item, row).await,
        Effect::PutEvidence(row) => keys::put_evidence(write, item, *row).await,
        Effect::InstallCertificate(row) => keys::install_certificate(write, item, row).await,
        Effect::PutGrant(row) => tenants::put_grant(write, item, row).await,
        Effect::RemoveGrant(tenant, grant) => {
            tenants::remove_grant(write, item, tenant, grant).await
        }
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

/// JSON of what is ours; it cannot fail for these types, and if it did nothing would be written.
pub(super) fn to_json<T: serde::Serialize>(value: &T) -> Result<String, Stop> {
    serde_json::to_string(value).map_err(|e| {
        Stop::Refused(CommitError::Unavailable(format!(
            "it cannot hold this: {e}"
        )))
    })
}

/// A number as the database keeps it (63 bits). No log, epoch or version of ours gets there.
pub(super) fn stored(n: u64) -> Result<i64, Stop> {
    i64::try_from(n)
        .map_err(|_| Stop::Refused(CommitError::Unavailable(format!("it cannot hold {n}"))))
}
