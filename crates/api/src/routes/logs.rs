//! The logs, as C2SP tlog-tiles, with access control.

use crate::extract::{Auth, Json, PathOf, QueryOf};
use crate::problem::Problem;
use crate::state::Api;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use countersign_core::ports::rows::LogKind;
use countersign_core::{LogId, TenantName};
use countersign_signing::Caller;
use countersign_signing_log::tile::TilePath;
use http::{HeaderMap, HeaderValue, StatusCode, header};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

/// Checkpoints move with each flush; caches may hold one for a moment (tlog-tiles: few seconds).
const CHECKPOINT_CACHING: HeaderValue = HeaderValue::from_static("private, max-age=2");
/// A tile, once served, never changes (tlog-tiles). Only the reader's own cache may keep it: logs
/// are not public.
const TILE_CACHING: HeaderValue = HeaderValue::from_static("private, max-age=31536000, immutable");
/// Most lines of details in one answer.
const MAX_DETAILS: u32 = 1000;

pub(crate) fn routes() -> OpenApiRouter<Api> {
    OpenApiRouter::new()
        .routes(routes!(list_logs))
        .routes(routes!(details))
        .routes(routes!(tenant_checkpoint))
        .routes(routes!(tenant_tile))
        .routes(routes!(checkpoint))
        .routes(routes!(tile))
}

/// A log.
#[derive(Debug, Serialize, ToSchema)]
pub struct Log {
    /// Id.
    pub id: String,
    /// `key` (uses of one key) or `tenant` (everything else).
    pub kind: String,
    /// Origin, as in checkpoints.
    pub origin: String,
    /// C2SP verifier key: pin it.
    pub vkey: String,
    /// Leaves.
    pub size: u64,
    /// The key whose uses it records.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
}

/// A range of leaves.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct Range {
    /// First index.
    #[serde(default)]
    from: u64,
    /// Most lines, at most 1000.
    #[serde(default = "default_limit")]
    limit: u32,
}

const fn default_limit() -> u32 {
    MAX_DETAILS
}

/// The tenant's logs: its own and one per key.
#[utoipa::path(get, path = "/v1/tenants/{tenant}/logs", tag = "logs", responses((status = 200, body = [Log])))]
async fn list_logs(
    State(api): State<Api>,
    auth: Auth,
    PathOf(tenant): PathOf<TenantName>,
) -> Result<Json<Vec<Log>>, Problem> {
    let heads = api.service().logs(&auth.caller, &tenant).await?;
    let log = |head: countersign_core::ports::rows::LogHead| {
        let (kind, key) = match head.kind {
            LogKind::Key => ("key", Some(head.log.to_string())),
            LogKind::Tenant => ("tenant", None),
        };
        let vkey = api.service().vkey(&head.origin)?;
        Ok(Log {
            id: head.log.to_string(),
            kind: kind.to_owned(),
            origin: head.origin,
            vkey,
            size: head.size,
            key,
        })
    };
    heads
        .into_iter()
        .map(log)
        .collect::<Result<_, Problem>>()
        .map(Json)
}

/// What stands beside the leaves: values and salts of their commitments, one JSON line each.
#[utoipa::path(get, path = "/v1/tenants/{tenant}/logs/{log}/details", tag = "logs", params(Range),
    responses((status = 200, content_type = "application/x-ndjson", body = String)))]
async fn details(
    State(api): State<Api>,
    auth: Auth,
    PathOf((tenant, log)): PathOf<(TenantName, LogId)>,
    QueryOf(range): QueryOf<Range>,
) -> Result<Response, Problem> {
    let limit = range.limit.clamp(1, MAX_DETAILS);
    let lines = api
        .service()
        .details(&auth.caller, &tenant, log, range.from, limit)
        .await?;
    let mut body = String::new();
    for (_, line) in lines {
        body.push_str(&line);
        body.push('\n');
    }
    Ok(([(header::CONTENT_TYPE, "application/x-ndjson")], body).into_response())
}

/// The log's signed checkpoint (tlog-checkpoint).
#[utoipa::path(get, path = "/log/{log}/checkpoint", tag = "logs",
    responses((status = 200, content_type = "text/plain", body = String), (status = 304)))]
async fn checkpoint(
    State(api): State<Api>,
    auth: Auth,
    headers: HeaderMap,
    PathOf(log): PathOf<LogId>,
) -> Result<Response, Problem> {
    serve_checkpoint(&api, &auth.caller, log, &headers).await
}

/// The same as `/log/{log}/checkpoint`.
#[utoipa::path(get, path = "/v1/tenants/{tenant}/logs/{log}/checkpoint", tag = "logs",
    responses((status = 200, content_type = "text/plain", body = String), (status = 304)))]
async fn tenant_checkpoint(
    State(api): State<Api>,
    auth: Auth,
    headers: HeaderMap,
    PathOf((tenant, log)): PathOf<(TenantName, LogId)>,
) -> Result<Response, Problem> {
    own(&auth.caller, &tenant)?;
    serve_checkpoint(&api, &auth.caller, log, &headers).await
}

/// A hash tile or an entry bundle (tlog-tiles): `{L}/{N}[.p/{W}]` or `entries/{N}[.p/{W}]`.
#[utoipa::path(get, path = "/log/{log}/tile/{*path}", tag = "logs",
    responses((status = 200, content_type = "application/octet-stream", body = Vec<u8>)))]
async fn tile(
    State(api): State<Api>,
    auth: Auth,
    PathOf((log, path)): PathOf<(LogId, String)>,
) -> Result<Response, Problem> {
    serve_tile(&api, &auth.caller, log, &path).await
}

/// The same as `/log/{log}/tile/…`.
#[utoipa::path(get, path = "/v1/tenants/{tenant}/logs/{log}/tile/{*path}", tag = "logs",
    responses((status = 200, content_type = "application/octet-stream", body = Vec<u8>)))]
async fn tenant_tile(
    State(api): State<Api>,
    auth: Auth,
    PathOf((tenant, log, path)): PathOf<(TenantName, LogId, String)>,
) -> Result<Response, Problem> {
    own(&auth.caller, &tenant)?;
    serve_tile(&api, &auth.caller, log, &path).await
}

/// The tenant in the path must be the caller's; the log is checked by the service.
fn own(caller: &Caller, tenant: &TenantName) -> Result<(), Problem> {
    if &caller.tenant_name == tenant {
        Ok(())
    } else {
        Err(Problem::not_found())
    }
}

async fn serve_checkpoint(
    api: &Api,
    caller: &Caller,
    log: LogId,
    headers: &HeaderMap,
) -> Result<Response, Problem> {
    let note = api.service().checkpoint(caller, log).await?;
    let tag: String = hex::encode(Sha256::digest(note.as_bytes()))
        .chars()
        .take(32)
        .collect();
    let etag = format!("\"{tag}\"");
    let same = headers
        .get(header::IF_NONE_MATCH)
        .and_then(|v| v.to_str().ok())
        .is_some_and(|v| v.split(',').any(|t| t.trim() == etag || t.trim() == "*"));
    let mut response = if same {
        StatusCode::NOT_MODIFIED.into_response()
    } else {
        ([(header::CONTENT_TYPE, "text/plain; charset=utf-8")], note).into_response()
    };
    let out = response.headers_mut();
    out.insert(header::CACHE_CONTROL, CHECKPOINT_CACHING);
    if let Ok(value) = HeaderValue::from_str(&etag) {
        out.insert(header::ETAG, value);
    }
    Ok(response)
}

async fn serve_tile(
    api: &Api,
    caller: &Caller,
    log: LogId,
    path: &str,
) -> Result<Response, Problem> {
    let path: TilePath = format!("tile/{path}")
        .parse()
        .map_err(|_| Problem::not_found())?;
    let bytes = api.service().tile(caller, log, &path).await?;
    let mut response = bytes.into_response();
    let out = response.headers_mut();
    out.insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("application/octet-stream"),
    );
    out.insert(header::CACHE_CONTROL, TILE_CACHING);
    Ok(response)
}
