//! Issuers and members: whose tokens count, and who is what.

use crate::extract::{Auth, Json, PathOf, QueryOf, Rid};
use crate::problem::Problem;
use crate::state::Api;
use axum::extract::State;
use countersign_core::TenantName;
use countersign_core::ports::rows::{IssuerKind, IssuerRow, MemberRow, Role};
use countersign_signing::IssuerSpec;
use http::StatusCode;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

/// Oldest token accepted where nothing is said: the upper end of what is sensible for signing is
/// 15 minutes; CI platforms issue tokens for 5 to 10.
const DEFAULT_MAX_AGE_S: u32 = 600;
/// `amr` values (RFC 8176) that show a second factor by themselves.
const DEFAULT_MFA_AMR: [&str; 1] = ["mfa"];

pub(crate) fn routes() -> OpenApiRouter<Api> {
    OpenApiRouter::new()
        .routes(routes!(put_issuer, list_issuers, remove_issuer))
        .routes(routes!(add_member, list_members, remove_member))
}

/// An OIDC issuer whose tokens a tenant accepts.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct IssuerSpecBody {
    /// Exact `iss`.
    #[schema(
        example = "https://token.actions.githubusercontent.com",
        min_length = 1,
        max_length = 1024
    )]
    pub issuer: String,
    /// `people` (roles from the members) or `pipelines` (grants alone).
    #[schema(example = "pipelines", pattern = "^(people|pipelines)$")]
    pub kind: String,
    /// The one audience accepted: specific to this service and tenant.
    #[schema(
        example = "https://sign.example.com/acme",
        min_length = 1,
        max_length = 1024
    )]
    pub audience: String,
    /// Oldest token accepted, by `iat`, in seconds; 600 if left out.
    #[serde(default)]
    #[schema(minimum = 1, maximum = 86400)]
    pub max_token_age_s: Option<u32>,
    /// `amr` values that count as a second factor; `["mfa"]` if left out.
    #[serde(default)]
    #[schema(max_items = 16)]
    pub mfa_amr: Option<Vec<String>>,
    /// `acr` values that count as a second factor; none if left out.
    #[serde(default)]
    #[schema(max_items = 16)]
    pub mfa_acr: Option<Vec<String>>,
    /// PEM roots for the issuer's TLS, where the system's do not do.
    #[serde(default)]
    #[schema(max_length = 65536)]
    pub ca_pem: Option<String>,
    /// Public OAuth client id, for the device flow.
    #[serde(default)]
    #[schema(min_length = 1, max_length = 1024)]
    pub client_id: Option<String>,
}

impl IssuerSpecBody {
    pub(crate) fn into_spec(self) -> Result<IssuerSpec, Problem> {
        let kind = match self.kind.as_str() {
            "people" => IssuerKind::People,
            "pipelines" => IssuerKind::Pipelines,
            _ => return Err(Problem::invalid("kind", "people or pipelines")),
        };
        Ok(IssuerSpec {
            issuer: self.issuer,
            kind,
            audience: self.audience,
            max_token_age_s: self.max_token_age_s.unwrap_or(DEFAULT_MAX_AGE_S),
            mfa_amr: self
                .mfa_amr
                .unwrap_or_else(|| DEFAULT_MFA_AMR.map(str::to_owned).to_vec()),
            mfa_acr: self.mfa_acr.unwrap_or_default(),
            ca_pem: self.ca_pem,
            client_id: self.client_id,
        })
    }
}

/// A registered issuer.
#[derive(Debug, Serialize, ToSchema)]
pub struct Issuer {
    /// Exact `iss`.
    pub issuer: String,
    /// `people` or `pipelines`.
    pub kind: String,
    /// The one audience accepted.
    pub audience: String,
    /// Oldest token accepted, in seconds.
    pub max_token_age_s: u32,
    /// `amr` values that count as a second factor.
    pub mfa_amr: Vec<String>,
    /// `acr` values that count as a second factor.
    pub mfa_acr: Vec<String>,
    /// PEM roots for the issuer's TLS.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ca_pem: Option<String>,
    /// Public OAuth client id.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client_id: Option<String>,
}

/// A person with a role.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Member {
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
    /// `admin` or `auditor`.
    #[schema(example = "auditor", pattern = "^(admin|auditor)$")]
    pub role: String,
}

pub(crate) const fn kind_name(kind: IssuerKind) -> &'static str {
    match kind {
        IssuerKind::People => "people",
        IssuerKind::Pipelines => "pipelines",
    }
}

fn issuer(row: IssuerRow) -> Issuer {
    Issuer {
        issuer: row.issuer,
        kind: kind_name(row.kind).to_owned(),
        audience: row.audience,
        max_token_age_s: row.max_token_age_s,
        mfa_amr: row.mfa_amr,
        mfa_acr: row.mfa_acr,
        ca_pem: row.ca_pem,
        client_id: row.client_id,
    }
}

fn member(row: MemberRow) -> Member {
    Member {
        issuer: row.issuer,
        subject: row.subject,
        role: row.role.as_str().to_owned(),
    }
}

fn role(name: &str) -> Result<Role, Problem> {
    match name {
        "admin" => Ok(Role::Admin),
        "auditor" => Ok(Role::Auditor),
        _ => Err(Problem::invalid("role", "admin or auditor")),
    }
}

/// Registers an issuer, or changes its settings.
#[utoipa::path(post, path = "/v1/tenants/{tenant}/issuers", tag = "people", request_body = IssuerSpecBody,
    responses((status = 204, description = "Registered")))]
async fn put_issuer(
    State(api): State<Api>,
    auth: Auth,
    Rid(rid): Rid,
    PathOf(name): PathOf<TenantName>,
    Json(body): Json<IssuerSpecBody>,
) -> Result<StatusCode, Problem> {
    let spec = body.into_spec()?;
    let service = api.service().clone();
    api.run(async move { service.put_issuer(&auth.caller, &name, spec, &rid).await })
        .await?;
    Ok(StatusCode::NO_CONTENT)
}

/// The tenant's issuers.
#[utoipa::path(get, path = "/v1/tenants/{tenant}/issuers", tag = "people",
    responses((status = 200, body = [Issuer])))]
async fn list_issuers(
    State(api): State<Api>,
    auth: Auth,
    PathOf(name): PathOf<TenantName>,
) -> Result<Json<Vec<Issuer>>, Problem> {
    let rows = api.service().issuers(&auth.caller, &name).await?;
    Ok(Json(rows.into_iter().map(issuer).collect()))
}

/// Which issuer to remove.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct RemoveIssuer {
    /// Exact `iss`.
    #[param(
        max_length = 1024,
        example = "https://token.actions.githubusercontent.com"
    )]
    issuer: String,
    /// Remove it although no administrator could log in any more.
    #[serde(default)]
    force: bool,
}

/// Removes an issuer, at once: none of its tokens is taken any more, none of its people has a role,
/// no grant for it allows anything. Refused where no administrator could log in any more.
#[utoipa::path(delete, path = "/v1/tenants/{tenant}/issuers", tag = "people", params(RemoveIssuer),
    responses((status = 204, description = "Removed")))]
async fn remove_issuer(
    State(api): State<Api>,
    auth: Auth,
    Rid(rid): Rid,
    PathOf(name): PathOf<TenantName>,
    QueryOf(which): QueryOf<RemoveIssuer>,
) -> Result<StatusCode, Problem> {
    let service = api.service().clone();
    api.run(async move {
        service
            .remove_issuer(&auth.caller, &name, &which.issuer, which.force, &rid)
            .await
    })
    .await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Gives a person a role.
#[utoipa::path(post, path = "/v1/tenants/{tenant}/members", tag = "people", request_body = Member,
    responses((status = 204, description = "Added")))]
async fn add_member(
    State(api): State<Api>,
    auth: Auth,
    Rid(rid): Rid,
    PathOf(name): PathOf<TenantName>,
    Json(body): Json<Member>,
) -> Result<StatusCode, Problem> {
    let role = role(&body.role)?;
    let service = api.service().clone();
    api.run(async move {
        service
            .add_member(&auth.caller, &name, &body.issuer, &body.subject, role, &rid)
            .await
    })
    .await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Takes a role from a person, at once: roles are read afresh with each request.
#[utoipa::path(delete, path = "/v1/tenants/{tenant}/members", tag = "people", request_body = Member,
    responses((status = 204, description = "Removed")))]
async fn remove_member(
    State(api): State<Api>,
    auth: Auth,
    Rid(rid): Rid,
    PathOf(name): PathOf<TenantName>,
    Json(body): Json<Member>,
) -> Result<StatusCode, Problem> {
    let role = role(&body.role)?;
    let service = api.service().clone();
    api.run(async move {
        service
            .remove_member(&auth.caller, &name, &body.issuer, &body.subject, role, &rid)
            .await
    })
    .await?;
    Ok(StatusCode::NO_CONTENT)
}

/// The tenant's members.
#[utoipa::path(get, path = "/v1/tenants/{tenant}/members", tag = "people",
    responses((status = 200, body = [Member])))]
async fn list_members(
    State(api): State<Api>,
    auth: Auth,
    PathOf(name): PathOf<TenantName>,
) -> Result<Json<Vec<Member>>, Problem> {
    let rows = api.service().members(&auth.caller, &name).await?;
    Ok(Json(rows.into_iter().map(member).collect()))
}
