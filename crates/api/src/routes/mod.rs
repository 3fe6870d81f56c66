//! The routes, one file per noun. Handlers translate: JSON to the service's words and back. They
//! decide nothing.

pub mod attestations;
pub mod devices;
pub mod enrolment;
pub mod evidence;
pub mod grants;
pub mod health;
pub mod keys;
pub mod logs;
pub mod people;
pub mod signatures;
pub mod signers;
pub mod tenants;
pub mod tokens;

use crate::state::Api;
use utoipa_axum::router::OpenApiRouter;

/// Everything under `/v1` and `/log`.
pub(crate) fn service() -> OpenApiRouter<Api> {
    OpenApiRouter::new()
        .merge(tokens::routes())
        .merge(tenants::routes())
        .merge(people::routes())
        .merge(signers::routes())
        .merge(keys::routes())
        .merge(enrolment::routes())
        .merge(evidence::routes())
        .merge(attestations::routes())
        .merge(devices::routes())
        .merge(grants::routes())
        .merge(signatures::routes())
        .merge(logs::routes())
}
