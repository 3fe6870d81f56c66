//! Enrolment: appraisal, certificate request, order, certificate.

use crate::extract::{Auth, Json, PathOf, Rid};
use crate::problem::Problem;
use crate::routes::keys::{Key, key};
use crate::state::Api;
use crate::wire::{B64, rfc3339};
use axum::extract::{DefaultBodyLimit, State};
use countersign_core::ports::ca::CertificateSubject;
use countersign_core::ports::rows::{OrderRow, OrderState};
use countersign_core::{KeyId, OrderId, TenantName};
use http::StatusCode;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

/// Largest body with a certificate chain.
const CHAIN_LIMIT: usize = 256 * 1024;
/// Most certificates in a chain.
const MAX_CHAIN: usize = 8;

pub(crate) fn routes() -> OpenApiRouter<Api> {
    OpenApiRouter::new()
        .routes(routes!(appraise))
        .routes(routes!(export_csr))
        .routes(routes!(order_certificate))
        .routes(routes!(get_order))
        .merge(
            OpenApiRouter::new()
                .routes(routes!(install_certificate))
                .layer(DefaultBodyLimit::max(CHAIN_LIMIT)),
        )
}

/// Who the certificate is for.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SubjectBody {
    /// Legal name.
    #[schema(example = "ACME GmbH")]
    pub common_name: String,
    /// Organisation.
    #[schema(example = "ACME GmbH")]
    pub organization: String,
    /// ISO 3166 two-letter country.
    #[schema(example = "DE", min_length = 2, max_length = 2)]
    pub country: String,
    /// Locality.
    #[serde(default)]
    #[schema(example = "Berlin")]
    pub locality: Option<String>,
    /// State or province.
    #[serde(default)]
    pub state: Option<String>,
}

impl From<SubjectBody> for CertificateSubject {
    fn from(b: SubjectBody) -> Self {
        Self {
            common_name: b.common_name,
            organization: b.organization,
            country: b.country,
            locality: b.locality,
            state: b.state,
        }
    }
}

/// A certificate request for a CA without a connector.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CsrBody {
    /// The CA it is for: the statement names it, and no other CA should take it.
    #[schema(example = "ca.example", min_length = 1, max_length = 1024)]
    pub ca_audience: String,
    /// The CA's own order reference, where it gave one.
    #[serde(default)]
    pub reference: Option<String>,
    /// The CA's nonce, base64, where it gave one.
    #[serde(default)]
    #[schema(value_type = Option<String>)]
    pub nonce: Option<B64>,
    /// Who the certificate is for.
    pub subject: SubjectBody,
}

/// A certificate request with what belongs to it. It never travels alone.
#[derive(Debug, Serialize, ToSchema)]
pub struct CsrAnswer {
    /// PKCS#10, PEM.
    pub csr_pem: String,
    /// Service statement, base64 DER.
    #[schema(value_type = String)]
    pub statement: B64,
    /// Vendor evidence, base64 in the vendor's own encoding.
    #[schema(value_type = Vec<String>)]
    pub evidence: Vec<B64>,
    /// The order it belongs to.
    pub order: String,
    /// When the statement expires (RFC 3339).
    pub expires: String,
}

/// An order at a configured CA.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct OrderBody {
    /// Name of the CA in the configuration.
    #[schema(example = "demo")]
    pub ca: String,
    /// Who the certificate is for.
    pub subject: SubjectBody,
}

/// An order.
#[derive(Debug, Serialize, ToSchema)]
pub struct Order {
    /// Id.
    pub id: String,
    /// For which key.
    pub key: String,
    /// CA, or the audience of an export.
    pub ca: String,
    /// `exported`, `opened`, `submitted`, `installed` or `refused`.
    pub state: String,
    /// The CA's own reference.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reference: Option<String>,
    /// Why it was refused.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
    /// When (RFC 3339).
    pub created: String,
    /// Last step (RFC 3339).
    pub updated: String,
}

/// A chain to install.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ChainBody {
    /// PEM, leaf first.
    #[schema(
        max_length = 262144,
        example = "-----BEGIN CERTIFICATE-----\nMIIC…\n-----END CERTIFICATE-----\n"
    )]
    pub chain_pem: String,
}

/// A stored order as it is shown.
pub(crate) fn order(row: OrderRow) -> Order {
    Order {
        id: row.id.to_string(),
        key: row.key.to_string(),
        ca: row.ca,
        state: state_name(row.state).to_owned(),
        reference: row.reference,
        problem: row.problem,
        created: rfc3339(row.created),
        updated: rfc3339(row.updated),
    }
}

const fn state_name(state: OrderState) -> &'static str {
    match state {
        OrderState::Exported => "exported",
        OrderState::Opened => "opened",
        OrderState::Submitted => "submitted",
        OrderState::Installed => "installed",
        OrderState::Refused => "refused",
    }
}

/// Appraises the key's evidence against the tenant's policy.
#[utoipa::path(post, path = "/v1/tenants/{tenant}/keys/{key}/appraise", tag = "enrolment",
    responses((status = 200, body = Object, description = "The attestation result, fact by fact")))]
async fn appraise(
    State(api): State<Api>,
    auth: Auth,
    Rid(rid): Rid,
    PathOf((tenant, id)): PathOf<(TenantName, KeyId)>,
) -> Result<Json<Value>, Problem> {
    let service = api.service().clone();
    let result = api
        .run(async move { service.appraise(&auth.caller, &tenant, id, &rid).await })
        .await?;
    Ok(Json(result))
}

/// Makes a certificate request with statement and evidence, for a CA without a connector.
#[utoipa::path(post, path = "/v1/tenants/{tenant}/keys/{key}/csr", tag = "enrolment",
    request_body = CsrBody, responses((status = 200, body = CsrAnswer)))]
async fn export_csr(
    State(api): State<Api>,
    auth: Auth,
    Rid(rid): Rid,
    PathOf((tenant, id)): PathOf<(TenantName, KeyId)>,
    Json(body): Json<CsrBody>,
) -> Result<Json<CsrAnswer>, Problem> {
    let service = api.service().clone();
    let exported = api
        .run(async move {
            service
                .export_csr(
                    &auth.caller,
                    &tenant,
                    id,
                    &body.ca_audience,
                    body.reference,
                    body.nonce.map(|n| n.0),
                    body.subject.into(),
                    &rid,
                )
                .await
        })
        .await?;
    Ok(Json(CsrAnswer {
        csr_pem: countersign_x509::pem::encode("CERTIFICATE REQUEST", &exported.request.csr),
        statement: B64(exported.request.statement),
        evidence: exported.request.evidence.into_iter().map(B64).collect(),
        order: exported.order.to_string(),
        expires: rfc3339(exported.expires),
    }))
}

/// Orders a certificate at a configured CA, step by step; ask the order how it stands.
#[utoipa::path(post, path = "/v1/tenants/{tenant}/keys/{key}/orders", tag = "enrolment",
    request_body = OrderBody, responses((status = 201, body = Order)))]
async fn order_certificate(
    State(api): State<Api>,
    auth: Auth,
    Rid(rid): Rid,
    PathOf((tenant, id)): PathOf<(TenantName, KeyId)>,
    Json(body): Json<OrderBody>,
) -> Result<(StatusCode, Json<Order>), Problem> {
    let service = api.service().clone();
    let row = api
        .run(async move {
            service
                .order_certificate(
                    &auth.caller,
                    &tenant,
                    id,
                    &body.ca,
                    body.subject.into(),
                    &rid,
                )
                .await
        })
        .await?;
    Ok((StatusCode::CREATED, Json(order(row))))
}

/// One order; a waiting one is asked about at its CA.
#[utoipa::path(get, path = "/v1/tenants/{tenant}/orders/{order}", tag = "enrolment",
    responses((status = 200, body = Order)))]
async fn get_order(
    State(api): State<Api>,
    auth: Auth,
    Rid(rid): Rid,
    PathOf((tenant, id)): PathOf<(TenantName, OrderId)>,
) -> Result<Json<Order>, Problem> {
    let service = api.service().clone();
    let row = api
        .run(async move { service.order(&auth.caller, &tenant, id, &rid).await })
        .await?;
    Ok(Json(order(row)))
}

/// Checks a certificate that came back and installs it.
#[utoipa::path(post, path = "/v1/tenants/{tenant}/keys/{key}/certificate", tag = "enrolment",
    request_body = ChainBody, responses((status = 200, body = Key)))]
async fn install_certificate(
    State(api): State<Api>,
    auth: Auth,
    Rid(rid): Rid,
    PathOf((tenant, id)): PathOf<(TenantName, KeyId)>,
    Json(body): Json<ChainBody>,
) -> Result<Json<Key>, Problem> {
    let chain = countersign_x509::pem::decode_all("CERTIFICATE", &body.chain_pem)
        .map_err(|e| Problem::invalid("chain_pem", e.to_string()))?;
    if chain.is_empty() || chain.len() > MAX_CHAIN {
        return Err(Problem::invalid(
            "chain_pem",
            format!("1 to {MAX_CHAIN} certificates, leaf first"),
        ));
    }
    let service = api.service().clone();
    let row = api
        .run(async move {
            service
                .install_certificate(&auth.caller, &tenant, id, chain, &rid)
                .await
        })
        .await?;
    Ok(Json(key(&api, row)?))
}
