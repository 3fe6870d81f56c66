//! Grants: which tokens may use which signer for what.

use crate::auth::id_token::unverified_issuer;
use crate::auth::jws::Parts;
use crate::extract::{Auth, Json, PathOf, Rid};
use crate::problem::Problem;
use crate::state::Api;
use crate::wire::{optional_time, rfc3339, unique_members};
use axum::extract::State;
use countersign_core::{GrantId, HashAlgorithm, Micros, SignerLabel, SignerName, TenantName};
use countersign_grants::Grant;
use countersign_signing::SigningError;
use http::StatusCode;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

pub(crate) fn routes() -> OpenApiRouter<Api> {
    OpenApiRouter::new()
        .routes(routes!(add_grant, list_grants))
        .routes(routes!(explain_grants))
        .routes(routes!(remove_grant))
}

/// A new grant: tokens of `issuer` whose claims equal all of `claims` may use `signer`.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewGrantBody {
    /// Which of the tenant's signers.
    #[schema(value_type = String, example = "release", min_length = 1, max_length = 63, pattern = "^[a-z]([a-z0-9-]*[a-z0-9])?$")]
    pub signer: SignerLabel,
    /// The issuer's exact `iss`.
    #[schema(
        example = "https://token.actions.githubusercontent.com",
        min_length = 1,
        max_length = 1024
    )]
    pub issuer: String,
    /// Claims and their exact values; a name that starts with `/` is a JSON pointer.
    #[serde(deserialize_with = "unique_members")]
    #[schema(example = json!({"repository_id": "4711", "environment": "release"}))]
    pub claims: BTreeMap<String, String>,
    /// `authenticode`, `cms`, `raw-digest`.
    #[schema(value_type = Vec<String>, example = json!(["authenticode", "cms"]), min_items = 1)]
    pub content_types: BTreeSet<String>,
    /// `sha-256`, `sha-384`, `sha-512`.
    #[schema(value_type = Vec<String>, example = json!(["sha-256"]), min_items = 1)]
    pub digest_algorithms: BTreeSet<HashAlgorithm>,
    /// Not before (RFC 3339).
    #[serde(default, with = "optional_time")]
    #[schema(value_type = Option<String>)]
    pub not_before: Option<Micros>,
    /// Not at or after (RFC 3339).
    #[serde(default, with = "optional_time")]
    #[schema(value_type = Option<String>)]
    pub not_after: Option<Micros>,
    /// Why it exists.
    #[serde(default)]
    pub note: Option<String>,
}

/// A grant.
#[derive(Debug, Serialize, ToSchema)]
pub struct GrantAnswer {
    /// Id.
    pub id: String,
    /// Which signer.
    pub signer: String,
    /// The issuer's exact `iss`.
    pub issuer: String,
    /// Claims and their exact values.
    pub claims: BTreeMap<String, String>,
    /// What may be signed.
    pub content_types: Vec<String>,
    /// With which digests.
    pub digest_algorithms: Vec<String>,
    /// Not before (RFC 3339).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub not_before: Option<String>,
    /// Not at or after (RFC 3339).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub not_after: Option<String>,
    /// Why it exists.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
    /// What may go wrong with it although it is allowed.
    pub warnings: Vec<Warning>,
}

/// Something to think about before leaving a grant as it is.
#[derive(Debug, Serialize, ToSchema)]
pub struct Warning {
    /// The claim or field.
    pub field: String,
    /// What may go wrong.
    pub message: String,
}

/// A question: would this token be allowed?
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ExplainBody {
    /// An ID token. It is not used up, and may be expired.
    #[schema(
        example = "eyJhbGciOiJFUzI1NiIsImtpZCI6ImsifQ.eyJpc3MiOiJodHRwczovL2NpLmV4YW1wbGUifQ.AAAA",
        max_length = 16384
    )]
    pub token: String,
    /// Which signer.
    #[schema(value_type = String, example = "release", min_length = 1, max_length = 63, pattern = "^[a-z]([a-z0-9-]*[a-z0-9])?$")]
    pub signer: SignerLabel,
    /// What would be signed, if known.
    #[serde(default)]
    pub content: Option<String>,
    /// With which digest, if known.
    #[serde(default)]
    #[schema(value_type = Option<String>)]
    pub digest_algorithm: Option<HashAlgorithm>,
}

/// The decision, with every comparison.
#[derive(Debug, Serialize, ToSchema)]
pub struct ExplainAnswer {
    /// Whether a grant allows it. The token itself may still be refused: see `token`.
    pub allowed: bool,
    /// The first grant that allows it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub by: Option<String>,
    /// One entry for each grant of the signer, claim by claim.
    #[schema(value_type = Vec<Object>)]
    pub reasons: Vec<Value>,
    /// Whether the token would be exchanged at this moment.
    pub token: TokenVerdict,
}

/// What the exchange would say of a token.
#[derive(Debug, Serialize, ToSchema)]
pub struct TokenVerdict {
    /// Whether it would be accepted (replay aside).
    pub accepted: bool,
    /// Why not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
}

fn answer(grant: Grant) -> GrantAnswer {
    let warnings = grant
        .validate()
        .unwrap_or_default()
        .into_iter()
        .map(|w| Warning {
            field: w.field,
            message: w.message,
        })
        .collect();
    GrantAnswer {
        id: grant.id.to_string(),
        signer: grant.signer.to_string(),
        issuer: grant.issuer,
        claims: grant.claims,
        content_types: grant.content_types.into_iter().collect(),
        digest_algorithms: grant
            .digest_algorithms
            .iter()
            .map(|a| a.as_str().to_owned())
            .collect(),
        not_before: grant.not_before.map(rfc3339),
        not_after: grant.not_after.map(rfc3339),
        note: grant.note,
        warnings,
    }
}

/// Adds a grant. Without one nothing is signed.
#[utoipa::path(post, path = "/v1/tenants/{tenant}/grants", tag = "grants", request_body = NewGrantBody,
    responses((status = 201, body = GrantAnswer)))]
async fn add_grant(
    State(api): State<Api>,
    auth: Auth,
    Rid(rid): Rid,
    PathOf(tenant): PathOf<TenantName>,
    Json(body): Json<NewGrantBody>,
) -> Result<(StatusCode, Json<GrantAnswer>), Problem> {
    let new = Grant {
        // The service gives the id.
        id: GrantId::new(),
        signer: body.signer,
        issuer: body.issuer,
        claims: body.claims,
        content_types: body.content_types,
        digest_algorithms: body.digest_algorithms,
        not_before: body.not_before,
        not_after: body.not_after,
        note: body.note,
    };
    let service = api.service().clone();
    let grant = api
        .run(async move { service.add_grant(&auth.caller, &tenant, new, &rid).await })
        .await?;
    Ok((StatusCode::CREATED, Json(answer(grant))))
}

/// The tenant's grants.
#[utoipa::path(get, path = "/v1/tenants/{tenant}/grants", tag = "grants",
    responses((status = 200, body = [GrantAnswer])))]
async fn list_grants(
    State(api): State<Api>,
    auth: Auth,
    PathOf(tenant): PathOf<TenantName>,
) -> Result<Json<Vec<GrantAnswer>>, Problem> {
    let grants = api.service().grants(&auth.caller, &tenant).await?;
    Ok(Json(grants.into_iter().map(answer).collect()))
}

/// Removes a grant, at once.
#[utoipa::path(delete, path = "/v1/tenants/{tenant}/grants/{grant}", tag = "grants",
    responses((status = 204, description = "Removed")))]
async fn remove_grant(
    State(api): State<Api>,
    auth: Auth,
    Rid(rid): Rid,
    PathOf((tenant, id)): PathOf<(TenantName, GrantId)>,
) -> Result<StatusCode, Problem> {
    let service = api.service().clone();
    api.run(async move { service.remove_grant(&auth.caller, &tenant, id, &rid).await })
        .await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Says, claim by claim, why a token would be allowed to use a signer or not.
#[utoipa::path(post, path = "/v1/tenants/{tenant}/grants/explain", tag = "grants",
    request_body = ExplainBody, responses((status = 200, body = ExplainAnswer)))]
async fn explain_grants(
    State(api): State<Api>,
    auth: Auth,
    PathOf(tenant): PathOf<TenantName>,
    Json(body): Json<ExplainBody>,
) -> Result<Json<ExplainAnswer>, Problem> {
    let bad = |e: &dyn std::fmt::Display| Problem::invalid("token", e.to_string());
    let issuer = unverified_issuer(&body.token).map_err(|e| bad(&e))?;
    let claims = Parts::parse(&body.token).map_err(|e| bad(&e))?.claims;
    let decision = api
        .service()
        .explain(
            &auth.caller,
            &SignerName {
                tenant: tenant.clone(),
                signer: body.signer,
            },
            &issuer,
            &claims,
            body.content.as_deref(),
            body.digest_algorithm,
        )
        .await?;
    // The caller may read the tenant's grants (or the call above had refused), so it may also know
    // how the exchange would take this token.
    let problem = match api.service().issuer_for(Some(&tenant), &issuer).await {
        Err(SigningError::NotFound) => {
            Some("this issuer is not registered for the tenant".to_owned())
        }
        Err(e) => return Err(e.into()),
        Ok((_, row)) => api
            .verifier()
            .verify(&row, &body.token, api.clock().now())
            .await
            .err()
            .map(|e| e.to_string()),
    };
    Ok(Json(ExplainAnswer {
        allowed: decision.allowed,
        by: decision.by.map(|id| id.to_string()),
        reasons: decision
            .reasons
            .iter()
            .map(|r| serde_json::to_value(r).unwrap_or_default())
            .collect(),
        token: TokenVerdict {
            accepted: problem.is_none(),
            problem,
        },
    }))
}
