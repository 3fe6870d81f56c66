//! Devices that several subscribers have keys in.

use crate::extract::{Auth, Json, QueryOf};
use crate::problem::{Kind, Problem};
use crate::state::Api;
use crate::wire::rfc3339;
use axum::extract::State;
use countersign_signing::SharedDeviceView;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

pub(crate) fn routes() -> OpenApiRouter<Api> {
    OpenApiRouter::new().routes(routes!(list_shared_devices))
}

/// Which devices.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct After {
    /// Those after this one: the last of the page before.
    #[param(pattern = "^[0-9a-f]{64}$")]
    pub after: Option<String>,
}

/// A device that several subscribers have keys in.
#[derive(Debug, Serialize, ToSchema)]
pub struct DeviceUnderSeveral {
    /// A keyed hash of its name, hex.
    pub device: String,
    /// Since when a second subscriber has a key in it (RFC 3339).
    pub shared: String,
    /// `individual`: one device. `batch`: many devices that share one name, which says nothing of any of them.
    pub names: String,
    /// Its keys, 100 at most: the first of each subscriber, then the others, both in order of time.
    pub keys: Vec<KeyInDevice>,
    /// There are more keys than these.
    pub more_keys: bool,
}

/// A key that evidence says is in the device.
#[derive(Debug, Serialize, ToSchema)]
pub struct KeyInDevice {
    /// Whose, by name.
    pub tenant: String,
    /// Which.
    pub key: String,
    /// When evidence said so first (RFC 3339).
    pub seen: String,
}

fn device(view: SharedDeviceView) -> DeviceUnderSeveral {
    let keys = view.keys.into_iter().map(|k| KeyInDevice {
        tenant: k.tenant.to_string(),
        key: k.key.to_string(),
        seen: rfc3339(k.seen),
    });
    DeviceUnderSeveral {
        device: hex::encode(view.device.device),
        shared: rfc3339(view.device.shared),
        names: if view.device.batch {
            "batch"
        } else {
            "individual"
        }
        .to_owned(),
        keys: keys.collect(),
        more_keys: view.more_keys,
    }
}

/// Devices that several subscribers have keys in, by what evidence proved, 100 at a time. For operators.
#[utoipa::path(get, path = "/v1/devices", tag = "tenants", params(After),
    responses((status = 200, body = [DeviceUnderSeveral])))]
async fn list_shared_devices(
    State(api): State<Api>,
    auth: Auth,
    QueryOf(query): QueryOf<After>,
) -> Result<Json<Vec<DeviceUnderSeveral>>, Problem> {
    let after = query.after.map(|text| hash(&text)).transpose();
    // Who may not have the list is told nothing of the query.
    let all = api
        .service()
        .shared_devices(&auth.caller, after.as_ref().ok().copied().flatten())
        .await?;
    after?;
    Ok(Json(all.into_iter().map(device).collect()))
}

fn hash(text: &str) -> Result<[u8; 32], Problem> {
    let mut out = [0; 32];
    let lower = !text.bytes().any(|b| b.is_ascii_uppercase());
    if lower && hex::decode_to_slice(text, &mut out).is_ok() {
        return Ok(out);
    }
    let what = "64 lower-case hex digits";
    Err(Problem::new(Kind::BadRequest, what).field("after"))
}
