//! Vendors' evidence of keys: handed in, and shown.

use crate::extract::{Auth, Json, PathOf, Rid};
use crate::problem::Problem;
use crate::state::Api;
use crate::wire::{B64, rfc3339};
use axum::extract::{DefaultBodyLimit, State};
use countersign_core::{KeyId, TenantName};
use countersign_signing::{EvidenceView, MAX_EVIDENCE_BYTES, NewEvidence};
use http::StatusCode;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

/// Largest body with evidence: base64, and room for names.
pub(crate) const EVIDENCE_LIMIT: usize = MAX_EVIDENCE_BYTES / 3 * 4 + 64 * 1024;
// The door takes no larger body.
const _: () = assert!(EVIDENCE_LIMIT <= crate::LARGEST_BODY);

pub(crate) fn routes() -> OpenApiRouter<Api> {
    OpenApiRouter::new()
        .routes(routes!(add_evidence, get_evidence))
        .layer(DefaultBodyLimit::max(EVIDENCE_LIMIT))
}

/// A file as its vendor's tool wrote it.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct EvidenceFileBody {
    /// Its name, for reports; what it is shows from its content.
    #[schema(example = "attestation.pem", min_length = 1, max_length = 255)]
    pub name: String,
    /// Its bytes, base64. All files together have 640 KiB at most.
    #[schema(value_type = String, min_length = 1)]
    pub content: B64,
}

/// Evidence of a key.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct EvidenceBody {
    /// All files of it: it is appraised as a whole, and takes the place of what was there.
    #[schema(min_items = 1, max_items = 64)]
    pub files: Vec<EvidenceFileBody>,
    /// The nonce it was made for, base64, 8 to 64 bytes, if it was made for one: a CA's, for its order.
    #[serde(default)]
    #[schema(value_type = Option<String>)]
    pub nonce: Option<B64>,
}

/// The evidence kept for a key.
#[derive(Debug, Serialize, ToSchema)]
pub struct Evidence {
    /// For which key.
    pub key: String,
    /// The files; none if there is no evidence.
    pub files: Vec<EvidenceFile>,
    /// The nonce it was made for, base64.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub nonce: Option<B64>,
    /// The attestation result of its appraisal, fact by fact.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>)]
    pub result: Option<Value>,
    /// When it was appraised (RFC 3339).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub appraised: Option<String>,
}

/// A file of evidence.
#[derive(Debug, Serialize, ToSchema)]
pub struct EvidenceFile {
    /// Its name.
    pub name: String,
    /// How many bytes.
    pub size: usize,
    /// SHA-256 of them, hex.
    pub sha256: String,
}

fn evidence(key: KeyId, view: EvidenceView) -> Evidence {
    let (result, appraised) = view.result.unzip();
    let file = |(name, size, sha256): (String, usize, [u8; 32])| EvidenceFile {
        name,
        size,
        sha256: hex::encode(sha256),
    };
    Evidence {
        key: key.to_string(),
        files: view.files.into_iter().map(file).collect(),
        nonce: view.nonce.map(B64),
        result,
        appraised: appraised.map(rfc3339),
    }
}

/// Adds a vendor's evidence to a key: appraised by the tenant's policy before it counts. What is refused
/// changes nothing.
#[utoipa::path(post, path = "/v1/tenants/{tenant}/keys/{key}/evidence", tag = "enrolment",
    request_body = EvidenceBody, responses((status = 201, body = Evidence)))]
async fn add_evidence(
    State(api): State<Api>,
    auth: Auth,
    Rid(rid): Rid,
    PathOf((tenant, id)): PathOf<(TenantName, KeyId)>,
    Json(body): Json<EvidenceBody>,
) -> Result<(StatusCode, Json<Evidence>), Problem> {
    let new = NewEvidence {
        files: body
            .files
            .into_iter()
            .map(|f| (f.name, f.content.0))
            .collect(),
        nonce: body.nonce.map(|n| n.0),
    };
    let service = api.service().clone();
    let view = api
        .run(async move {
            service
                .add_evidence(&auth.caller, &tenant, id, new, &rid)
                .await
        })
        .await?;
    Ok((StatusCode::CREATED, Json(evidence(id, view))))
}

/// The evidence kept for a key: names and hashes of its files, and what its appraisal gave.
#[utoipa::path(get, path = "/v1/tenants/{tenant}/keys/{key}/evidence", tag = "enrolment",
    responses((status = 200, body = Evidence)))]
async fn get_evidence(
    State(api): State<Api>,
    auth: Auth,
    PathOf((tenant, id)): PathOf<(TenantName, KeyId)>,
) -> Result<Json<Evidence>, Problem> {
    let view = api.service().evidence(&auth.caller, &tenant, id).await?;
    Ok(Json(evidence(id, view)))
}
