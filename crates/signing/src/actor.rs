//! Who acts: a person in a request, or the service itself, going on with what a person began.

use crate::caller::Caller;
use crate::sequencer::DetailsDraft;
use crate::tenants::by;
use crate::{Service, SigningError};
use countersign_core::ports::rows::TenantRow;
use countersign_core::{RequestId, TenantId};

/// Who.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Actor<'a> {
    /// Somebody, in this request.
    Person(&'a Caller, &'a RequestId),
    /// Nobody in particular: an order that an administrator placed earlier, and nobody waits for.
    Service,
}

impl Actor<'_> {
    /// Who and in which request, for a leaf of the tenant's log.
    pub(crate) fn details(self) -> Option<DetailsDraft> {
        match self {
            Self::Person(caller, rid) => by(caller, rid),
            Self::Service => None,
        }
    }
}

impl Service {
    /// The tenant as it is now, if the actor may change it now: what a guard stands on.
    pub(crate) async fn still_allowed(
        &self,
        actor: Actor<'_>,
        tenant: TenantId,
    ) -> Result<TenantRow, SigningError> {
        match actor {
            Actor::Person(caller, _) => self.still_admin(caller, tenant).await,
            Actor::Service => self
                .store()
                .tenant(tenant)
                .await?
                .ok_or(SigningError::NotFound),
        }
    }
}
