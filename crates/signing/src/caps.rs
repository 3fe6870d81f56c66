//! How much one tenant may have: bounds on what a tenant's own admins can make the service store and
//! read. Two requests at one moment do not make one too many: keys are counted in the transaction that
//! writes one (`Effect::CreateKey`), all else under the guard of the tenant's version.

use crate::{Service, SigningError};
use countersign_core::TenantId;
use countersign_core::ports::store::Effect;

/// The bounds (`[limits]` of the configuration). What is there already stays when one is lowered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Caps {
    /// Signers of a tenant.
    pub signers: u32,
    /// Keys of a tenant that are not destroyed.
    pub keys: u32,
    /// Grants of a signer: each is compared with each request.
    pub grants_per_signer: u32,
    /// Issuers of a tenant.
    pub issuers: u32,
    /// Members of a tenant.
    pub members: u32,
}

impl Default for Caps {
    fn default() -> Self {
        Self {
            signers: 20_000,
            keys: 50_000,
            grants_per_signer: 200,
            issuers: 100,
            members: 5000,
        }
    }
}

impl Service {
    /// Refuses one key too many.
    pub(crate) async fn may_make_key(&self, tenant: TenantId) -> Result<(), SigningError> {
        let most = self.settings().caps.keys;
        if self.store().count_keys(tenant).await? < u64::from(most) {
            Ok(())
        } else {
            let (what, of) = ("keys", "tenant");
            Err(SigningError::Limit { what, of, most })
        }
    }

    /// Refuses an effect that would make one too many.
    pub(crate) async fn within_caps(&self, effect: &Effect) -> Result<(), SigningError> {
        let caps = self.settings().caps;
        let store = self.store();
        let (there, most, what, of) = match effect {
            Effect::CreateSigner(row) => {
                let there = store.count_signers(row.tenant).await?;
                (there, caps.signers, "signers", "tenant")
            }
            Effect::PutGrant(row) => {
                let there = store.grants(row.tenant, &row.signer).await?.len() as u64;
                (there, caps.grants_per_signer, "grants", "signer")
            }
            Effect::PutIssuer(row) => {
                let all = store.issuers(row.tenant).await?;
                let others = all.iter().filter(|i| i.issuer != row.issuer).count() as u64;
                (others, caps.issuers, "issuers", "tenant")
            }
            Effect::AddMember(row) => {
                let there = store.members(row.tenant).await?.len() as u64;
                (there, caps.members, "members", "tenant")
            }
            _ => return Ok(()),
        };
        if there < u64::from(most) {
            Ok(())
        } else {
            Err(SigningError::Limit { what, of, most })
        }
    }
}
