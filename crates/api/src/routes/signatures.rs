//! Signatures: typed content in; signature, chain and receipt out.

use crate::extract::{Auth, IdempotencyKey, Json, PathOf, Rid};
use crate::problem::Problem;
use crate::state::Api;
use crate::wire::B64;
use axum::extract::State;
use countersign_content::Submission;
use countersign_core::{HashAlgorithm, SignerLabel, SignerName, TenantName};
use countersign_signing::{SignRequest, SignatureAnswer};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

pub(crate) fn routes() -> OpenApiRouter<Api> {
    OpenApiRouter::new().routes(routes!(sign))
}

/// What is to be signed. The file itself stays with the caller.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SignBody {
    /// The content, by type.
    pub content: Content,
    /// `sha-256`, `sha-384` or `sha-512`.
    #[schema(value_type = String, example = "sha-256")]
    pub digest_algorithm: HashAlgorithm,
}

/// Content, by type.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(tag = "type", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Content {
    /// A Windows executable.
    Authenticode {
        /// CMS signed attributes, base64 of the DER `SET OF` (RFC 5652 §5.4).
        #[schema(value_type = String)]
        signed_attributes: B64,
        /// `SpcIndirectDataContent`, base64 DER.
        #[schema(value_type = String)]
        indirect_data: B64,
    },
    /// Any file, detached CMS.
    Cms {
        /// CMS signed attributes, base64 of the DER `SET OF` (RFC 5652 §5.4).
        #[schema(value_type = String)]
        signed_attributes: B64,
    },
    /// A digest and nothing else: needs a grant that says `raw-digest`.
    RawDigest {
        /// The digest, base64.
        #[schema(value_type = String)]
        digest: B64,
    },
}

impl From<Content> for Submission {
    fn from(c: Content) -> Self {
        match c {
            Content::Authenticode {
                signed_attributes,
                indirect_data,
            } => Self::Authenticode {
                signed_attributes: signed_attributes.0,
                indirect_data: indirect_data.0,
            },
            Content::Cms { signed_attributes } => Self::Cms {
                signed_attributes: signed_attributes.0,
            },
            Content::RawDigest { digest } => Self::RawDigest { digest: digest.0 },
        }
    }
}

/// A signature with everything needed to use it and to prove it was logged.
#[derive(Debug, Serialize, ToSchema)]
pub struct Signature {
    /// Base64; ECDSA as DER.
    pub signature: String,
    /// For example `ecdsa-sha-256`.
    pub scheme: String,
    /// Which key.
    pub key: String,
    /// Base64 DER, leaf first, without the root.
    pub certificate_chain: Vec<String>,
    /// A C2SP tlog-proof of the authorisation: keep it with the file.
    pub receipt: String,
    /// The log the receipt is from.
    pub log: SignatureLog,
    /// The request's id, as in the leaf.
    pub request: String,
}

/// Names a log and its key.
#[derive(Debug, Serialize, ToSchema)]
pub struct SignatureLog {
    /// Origin.
    pub origin: String,
    /// C2SP verifier key.
    pub vkey: String,
}

impl From<SignatureAnswer> for Signature {
    fn from(a: SignatureAnswer) -> Self {
        Self {
            signature: a.signature,
            scheme: a.scheme.to_string(),
            key: a.key.to_string(),
            certificate_chain: a.certificate_chain,
            receipt: a.receipt,
            log: SignatureLog {
                origin: a.log.origin,
                vkey: a.log.vkey,
            },
            request: a.request,
        }
    }
}

/// Signs once. The authorisation is in the key's log before the token is asked. With an
/// `Idempotency-Key` a retry gets the first answer and no second signature.
#[utoipa::path(post, path = "/v1/tenants/{tenant}/signers/{signer}/signatures", tag = "signatures",
    request_body = SignBody,
    params(("Idempotency-Key" = Option<String>, Header, description = "1 to 255 visible ASCII characters")),
    responses((status = 200, body = Signature)))]
async fn sign(
    State(api): State<Api>,
    auth: Auth,
    Rid(rid): Rid,
    IdempotencyKey(idempotency_key): IdempotencyKey,
    PathOf((tenant, signer)): PathOf<(TenantName, SignerLabel)>,
    Json(body): Json<SignBody>,
) -> Result<Json<Signature>, Problem> {
    let name = SignerName { tenant, signer };
    let request = SignRequest {
        submission: body.content.into(),
        digest_algorithm: body.digest_algorithm,
    };
    // The service runs it in a task of its own: hanging up cancels nothing.
    let answer = api
        .service()
        .sign(&auth.caller, &name, request, idempotency_key, &rid)
        .await?;
    Ok(Json(answer.into()))
}
