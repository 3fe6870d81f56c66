//! Tenants and their rules.

use crate::extract::{Auth, Json, PathOf, Rid};
use crate::problem::Problem;
use crate::routes::people::IssuerSpecBody;
use crate::state::Api;
use crate::wire::rfc3339;
use axum::extract::State;
use countersign_core::ports::hsm::TokenFacts;
use countersign_core::ports::rows::{TenantPolicy, TenantRow};
use countersign_core::{LogId, TenantName};
use countersign_signing::{NewTenant, PolicyChange};
use http::StatusCode;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

pub(crate) fn routes() -> OpenApiRouter<Api> {
    OpenApiRouter::new()
        .routes(routes!(create_tenant, list_tenants))
        .routes(routes!(get_tenant))
        .routes(routes!(set_policy))
}

/// A new tenant.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewTenantBody {
    /// 1 to 63 of a-z, 0-9 and '-', beginning with a letter, ending with no hyphen; unique.
    #[schema(value_type = String, example = "acme", min_length = 1, max_length = 63, pattern = "^[a-z]([a-z0-9-]*[a-z0-9])?$")]
    pub name: TenantName,
    /// Its first admin.
    #[serde(default)]
    pub admin: Option<PersonBody>,
    /// The issuer of that admin's tokens, registered for the tenant.
    #[serde(default)]
    pub issuer: Option<IssuerSpecBody>,
    /// Keys in software tokens may be certified and sign.
    #[serde(default)]
    pub allow_software: bool,
    /// Admin actions want a second factor; on if left out.
    #[serde(default)]
    pub require_mfa: Option<bool>,
}

/// A person, exactly.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PersonBody {
    /// `iss`.
    #[schema(
        example = "https://login.example.com",
        min_length = 1,
        max_length = 1024
    )]
    pub issuer: String,
    /// `sub`.
    #[schema(example = "248289761001", min_length = 1, max_length = 1024)]
    pub subject: String,
}

/// A tenant.
#[derive(Debug, Serialize, ToSchema)]
pub struct Tenant {
    /// Id.
    pub id: String,
    /// Name.
    pub name: String,
    /// Keys in software tokens may be certified and sign.
    pub allow_software: bool,
    /// Admin actions want a second factor.
    pub require_mfa: bool,
    /// What an order's evidence must show beyond `origin`; empty: `origin` alone, of keys in hardware.
    pub evidence: Vec<String>,
    /// Its token.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub token: Option<Token>,
    /// Its log: everything but uses of keys.
    pub log: LogRef,
    /// When (RFC 3339).
    pub created: String,
}

/// A token, as its module describes it.
#[derive(Debug, Serialize, ToSchema)]
pub struct Token {
    /// Label.
    pub label: String,
    /// Manufacturer.
    pub manufacturer: String,
    /// Model.
    pub model: String,
    /// Serial number.
    pub serial: String,
    /// Firmware version.
    pub firmware: String,
    /// Whether it is a software token, for ever.
    pub software: bool,
    /// Isolation class of its keys.
    pub isolation: String,
}

/// Where a log is and whose signature to expect.
#[derive(Debug, Serialize, ToSchema)]
pub struct LogRef {
    /// Id.
    pub id: String,
    /// Origin, as in checkpoints.
    pub origin: String,
    /// C2SP verifier key: pin it.
    pub vkey: String,
}

/// Rules of a tenant.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PolicyBody {
    /// Keys in software tokens may be certified and sign.
    pub allow_software: bool,
    /// Admin actions want a second factor.
    pub require_mfa: bool,
    /// What an order's evidence must show beyond `origin`, one demand each: `sign-only`,
    /// `not-recoverable`, `fresh`, `method=N`, `fips=140-2:2`, `vendor=…`, `format=…`, `serial=…`,
    /// `max-age=30d`. Of vendors, formats, serial numbers and levels one of those named is enough. Where
    /// anything is demanded, it is demanded of every key. Left out: stays as it is.
    #[serde(default)]
    #[schema(example = json!(["sign-only", "vendor=Yubico"]), max_items = 32)]
    pub evidence: Option<Vec<String>>,
}

pub(crate) fn log_ref(api: &Api, id: impl Into<LogId>) -> Result<LogRef, Problem> {
    let id = id.into();
    let origin = api.log_origin(id);
    Ok(LogRef {
        id: id.to_string(),
        vkey: api.service().vkey(&origin)?,
        origin,
    })
}

fn tenant(api: &Api, row: TenantRow) -> Result<Tenant, Problem> {
    Ok(Tenant {
        id: row.id.to_string(),
        name: row.name.to_string(),
        allow_software: row.policy.allow_software,
        require_mfa: row.policy.require_mfa,
        evidence: row.policy.evidence,
        token: row.token.map(token),
        log: log_ref(api, row.id)?,
        created: rfc3339(row.created),
    })
}

fn token(t: TokenFacts) -> Token {
    Token {
        label: t.label,
        manufacturer: t.manufacturer,
        model: t.model,
        serial: t.serial,
        firmware: t.firmware,
        software: t.software,
        isolation: t.isolation.as_str().to_owned(),
    }
}

/// Creates a tenant with a token and a log of its own. For operators.
#[utoipa::path(post, path = "/v1/tenants", tag = "tenants", request_body = NewTenantBody,
    responses((status = 201, body = Tenant)))]
async fn create_tenant(
    State(api): State<Api>,
    auth: Auth,
    Rid(rid): Rid,
    Json(body): Json<NewTenantBody>,
) -> Result<(StatusCode, Json<Tenant>), Problem> {
    let new = NewTenant {
        name: body.name,
        admin: body.admin.map(|a| (a.issuer, a.subject)),
        issuer: body.issuer.map(IssuerSpecBody::into_spec).transpose()?,
        policy: TenantPolicy {
            allow_software: body.allow_software,
            require_mfa: body.require_mfa.unwrap_or(true),
            evidence: Vec::new(),
        },
    };
    let service = api.service().clone();
    let row = api
        .run(async move { service.create_tenant(&auth.caller, new, &rid).await })
        .await?;
    Ok((StatusCode::CREATED, Json(tenant(&api, row)?)))
}

/// All tenants. For operators.
#[utoipa::path(get, path = "/v1/tenants", tag = "tenants", responses((status = 200, body = [Tenant])))]
async fn list_tenants(State(api): State<Api>, auth: Auth) -> Result<Json<Vec<Tenant>>, Problem> {
    let rows = api.service().tenants(&auth.caller).await?;
    rows.into_iter()
        .map(|r| tenant(&api, r))
        .collect::<Result<_, _>>()
        .map(Json)
}

/// One tenant.
#[utoipa::path(get, path = "/v1/tenants/{tenant}", tag = "tenants",
    responses((status = 200, body = Tenant)))]
async fn get_tenant(
    State(api): State<Api>,
    auth: Auth,
    PathOf(name): PathOf<TenantName>,
) -> Result<Json<Tenant>, Problem> {
    let row = api.service().tenant(&auth.caller, &name).await?;
    Ok(Json(tenant(&api, row)?))
}

/// Sets a tenant's rules.
#[utoipa::path(put, path = "/v1/tenants/{tenant}/policy", tag = "tenants", request_body = PolicyBody,
    responses((status = 200, body = Tenant)))]
async fn set_policy(
    State(api): State<Api>,
    auth: Auth,
    Rid(rid): Rid,
    PathOf(name): PathOf<TenantName>,
    Json(body): Json<PolicyBody>,
) -> Result<Json<Tenant>, Problem> {
    let policy = PolicyChange {
        allow_software: body.allow_software,
        require_mfa: body.require_mfa,
        evidence: body.evidence,
    };
    let service = api.service().clone();
    let row = api
        .run(async move { service.set_policy(&auth.caller, &name, policy, &rid).await })
        .await?;
    Ok(Json(tenant(&api, row)?))
}
