//! The verifier as a service: does this key live in genuine hardware? For whoever asks, with a service
//! token, or without where the operator allows it (`[attestation] anyone_per_s`).

use crate::auth::service_token::ServiceClaims;
use crate::extract::Json;
use crate::problem::{Kind, Problem};
use crate::routes::evidence::{EVIDENCE_LIMIT, EvidenceFileBody};
use crate::state::Api;
use crate::wire::{B64, optional_time};
use axum::Extension;
use axum::extract::{DefaultBodyLimit, State};
use countersign_core::Micros;
use countersign_signing::{Asking, HandedEvidence, HandedKey};
use serde::Deserialize;
use serde_json::Value;
use std::sync::Arc;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

/// A public key on P-256.
const EXAMPLE_KEY: &str = "MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEvHfAJxbWK7pi83i4JpCrDESY2Wv8FieFT6kCUu3+DqogWr46cSnaKFmf2F2KxUVwQoXlhTJqsau2lZ687HqhGQ==";

pub(crate) fn routes() -> OpenApiRouter<Api> {
    OpenApiRouter::new()
        .routes(routes!(verify_attestation))
        .layer(DefaultBodyLimit::max(EVIDENCE_LIMIT))
}

/// A key and what is to prove where it lives. Exactly one of `csr` and `public_key`.
#[derive(Debug, Deserialize, ToSchema)]
#[schema(example = json!({"public_key": EXAMPLE_KEY, "evidence": [], "require": ["sign-only"]}))]
#[serde(deny_unknown_fields)]
pub struct VerifyBody {
    /// A certificate request, PEM or DER, base64; its own signature is checked. Evidence may be inside.
    #[serde(default)]
    #[schema(value_type = Option<String>)]
    pub csr: Option<B64>,
    /// A public key, PEM or DER, base64.
    #[serde(default)]
    #[schema(value_type = Option<String>)]
    pub public_key: Option<B64>,
    /// The evidence, as its vendor's tool wrote it, in any order.
    #[serde(default)]
    #[schema(max_items = 64)]
    pub evidence: Vec<EvidenceFileBody>,
    /// The nonce it was made for, base64, 1 to 64 bytes.
    #[serde(default)]
    #[schema(value_type = Option<String>)]
    pub nonce: Option<B64>,
    /// What is demanded on top of the policy `origin`, in the words of `countersign attestation verify
    /// --require`.
    #[serde(default)]
    #[schema(max_items = 32)]
    pub require: Vec<String>,
    /// The moment of appraisal (RFC 3339); now if left out.
    #[serde(default, with = "optional_time")]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub at: Option<Micros>,
}

/// Appraises a key's attestation, for anybody with a service token; without one where the operator allows
/// it. The answer is an attestation result (docs/ca/attestation-result.schema.json), fact by fact, whatever
/// its verdict: read `verdict`. Nothing is kept.
#[utoipa::path(post, path = "/v1/attestations/verify", tag = "attestations",
    request_body = VerifyBody, responses((status = 200, body = Object)))]
async fn verify_attestation(
    State(api): State<Api>,
    // The door let those without claims in, or did not (`crate::middleware`).
    claims: Option<Extension<Arc<ServiceClaims>>>,
    Json(body): Json<VerifyBody>,
) -> Result<Json<Value>, Problem> {
    let (asking, share) = match &claims {
        Some(Extension(c)) => (Asking::Known, Some(api.gate().verification(c.tenant)?)),
        None => (Asking::Stranger, None),
    };
    let key = match (body.csr, body.public_key) {
        (Some(csr), None) => HandedKey::Csr(csr.0),
        (None, Some(key)) => HandedKey::PublicKey(key.0),
        _ => {
            let what = "give one of csr and public_key";
            return Err(Problem::new(Kind::Invalid, what).field("csr"));
        }
    };
    let handed = HandedEvidence {
        key,
        files: body
            .evidence
            .into_iter()
            .map(|f| (f.name, f.content.0))
            .collect(),
        nonce: body.nonce.map(|n| n.0),
        require: body.require,
        at: body.at,
    };
    let result = api.service().verify_evidence(handed, asking, share).await?;
    serde_json::to_value(result)
        .map(Json)
        .map_err(|_| Problem::internal())
}
