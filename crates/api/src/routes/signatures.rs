//! Signatures: typed content in; signatures, chain and receipts out.

use crate::extract::{Auth, IdempotencyKey, Json, PathOf, Rid};
use crate::problem::{Problem, ProblemDocument};
use crate::state::Api;
use crate::wire::B64;
use axum::extract::{DefaultBodyLimit, State};
use axum::response::{IntoResponse as _, Response};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use countersign_content::Submission;
use countersign_core::ports::rows::CertificateRow;
use countersign_core::{HashAlgorithm, RequestId, SignerLabel, SignerName, TenantName};
use countersign_signing::{ItemResult, SignBatch, SignItem, SignedItem, SigningError};
use serde::{Deserialize, Serialize};
use std::collections::HashSet;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

/// Largest batch: 10 KiB for each of 100 items, where most need less than one.
const BATCH_LIMIT: usize = 1024 * 1024;

pub(crate) fn routes() -> OpenApiRouter<Api> {
    OpenApiRouter::new()
        .routes(routes!(sign))
        .layer(DefaultBodyLimit::max(BATCH_LIMIT))
}

/// What is to be signed.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SignBody {
    /// 1 to 100 items. Each is decided on, logged and answered by itself.
    #[schema(min_items = 1, max_items = 100)]
    pub items: Vec<Item>,
}

/// One thing to be signed. The file itself stays with the caller.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Item {
    /// Your word for it: 1 to 128 visible ASCII characters, unique in the request. Under an
    /// `Idempotency-Key` it names what a retry is of.
    #[schema(
        min_length = 1,
        max_length = 128,
        pattern = "^[!-~]+$",
        example = "app.exe"
    )]
    pub id: String,
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

/// What became of the items. 200 says that each was decided on, not that each was signed.
#[derive(Debug, Serialize, ToSchema)]
pub struct Signatures {
    /// The certificates that the signatures below are by, each once: mostly one; two where the key
    /// was replaced meanwhile; none where nothing was signed.
    pub signed_by: Vec<SignedBy>,
    /// One result for each item, in the request's order.
    pub results: Vec<ItemAnswer>,
}

/// What the signatures by one certificate have in common.
#[derive(Debug, Serialize, ToSchema)]
pub struct SignedBy {
    /// SHA-256 of the certificate, hex: results name it.
    pub certificate_sha256: String,
    /// Which key.
    pub key: String,
    /// Base64 DER, the certificate first, without the root.
    pub certificate_chain: Vec<String>,
    /// The log the receipts are from.
    pub log: SignatureLog,
}

/// Names a log and its key.
#[derive(Debug, Serialize, ToSchema)]
pub struct SignatureLog {
    /// Origin.
    pub origin: String,
    /// C2SP verifier key.
    pub vkey: String,
}

/// A signature, or why there is none.
#[derive(Debug, Serialize, ToSchema)]
#[serde(untagged)]
pub enum ItemAnswer {
    /// It was signed.
    Signed(Signed),
    /// It was not.
    Refused(Refused),
}

/// An item's signature with everything needed to use it and to prove it was logged.
#[derive(Debug, Serialize, ToSchema)]
pub struct Signed {
    /// The item's.
    pub id: String,
    /// Base64; ECDSA as DER.
    pub signature: String,
    /// For example `ecdsa-sha-256`.
    pub scheme: String,
    /// By which certificate: an entry of `signed_by`.
    pub certificate_sha256: String,
    /// A C2SP tlog-proof of the authorisation: keep it with the file.
    pub receipt: String,
    /// The id of the request that it was made for, as in the leaf. A retry's has another.
    pub request: String,
}

/// Why an item was not signed.
#[derive(Debug, Serialize, ToSchema)]
pub struct Refused {
    /// The item's.
    pub id: String,
    /// As if the item had been asked for alone.
    pub problem: ProblemDocument,
}

impl Signatures {
    fn of(
        api: &Api,
        ids: Vec<String>,
        results: Vec<ItemResult>,
        rid: &RequestId,
    ) -> Result<Self, SigningError> {
        let mut known = HashSet::new();
        let mut signed_by = Vec::new();
        for signed in results.iter().flatten() {
            if known.insert(signed.certificate.sha256) {
                signed_by.push(SignedBy::of(api, &signed.certificate, &signed.origin)?);
            }
        }
        let results = ids
            .into_iter()
            .zip(results)
            .map(|(id, result)| match result {
                Ok(signed) => ItemAnswer::Signed(Signed::of(id, &signed)),
                Err(e) => ItemAnswer::Refused(Refused {
                    id,
                    problem: Problem::from(e).document(rid),
                }),
            })
            .collect();
        Ok(Self { signed_by, results })
    }
}

impl SignedBy {
    fn of(api: &Api, certificate: &CertificateRow, origin: &str) -> Result<Self, SigningError> {
        Ok(Self {
            certificate_sha256: hex::encode(certificate.sha256),
            key: certificate.key.to_string(),
            certificate_chain: certificate
                .chain
                .iter()
                .map(|c| STANDARD.encode(c))
                .collect(),
            log: SignatureLog {
                origin: origin.to_owned(),
                vkey: api.service().vkey(origin)?,
            },
        })
    }
}

impl Signed {
    fn of(id: String, signed: &SignedItem) -> Self {
        Self {
            id,
            signature: STANDARD.encode(&signed.signature),
            scheme: signed.scheme.to_string(),
            certificate_sha256: hex::encode(signed.certificate.sha256),
            receipt: signed.receipt.clone(),
            request: signed.request.clone(),
        }
    }
}

/// Signs 1 to 100 items. Each is decided on by itself, and its authorisation is in the key's log
/// before the token is asked.
///
/// 200 says that every item was decided on: look at each result. A problem of the whole request
/// (no such signer, a body that is not understood, too many requests at once) has its own status,
/// and nothing was begun.
///
/// With an `Idempotency-Key` a retry is safe, item by item: the same key, item id and content give
/// the first answer and no second signature, also in a request with other items beside it; an item
/// still being worked on is `idempotency-in-flight`; another content under a known id is
/// `idempotency-mismatch`. Answers are remembered for 24 hours.
#[utoipa::path(post, path = "/v1/tenants/{tenant}/signers/{signer}/signatures", tag = "signatures",
    request_body = SignBody,
    params(("Idempotency-Key" = Option<String>, Header, description = "1 to 255 visible ASCII characters")),
    responses((status = 200, body = Signatures)))]
async fn sign(
    State(api): State<Api>,
    auth: Auth,
    Rid(rid): Rid,
    IdempotencyKey(idempotency_key): IdempotencyKey,
    PathOf((tenant, signer)): PathOf<(TenantName, SignerLabel)>,
    Json(body): Json<SignBody>,
) -> Result<Response, Problem> {
    let name = SignerName { tenant, signer };
    let ids: Vec<String> = body.items.iter().map(|i| i.id.clone()).collect();
    let batch = SignBatch {
        items: body.items.into_iter().map(SignItem::from).collect(),
        idempotency_key,
    };
    batch.check()?;
    // The request itself counted one already.
    let more = u32::try_from(ids.len().saturating_sub(1)).unwrap_or(u32::MAX);
    api.gate().spend(&auth.claims, more)?;
    let places = api.places_to_sign(ids.len()).await?;
    // Hanging up cancels nothing, so the places are kept until the work is done.
    let (service, id) = (api.service().clone(), rid.clone());
    let results = api
        .run(async move {
            let _places = places;
            service.sign(&auth.caller, &name, batch, &id).await
        })
        .await?;
    let answer = Json(Signatures::of(&api, ids, results, &rid)?).into_response();
    // It is bytes now, and nothing is waited for any more: what a node that stalled meanwhile may not
    // let out ends here (docs/adr/0007). A retry gets it from another node.
    api.service().may_let_out()?;
    Ok(answer)
}

impl From<Item> for SignItem {
    fn from(item: Item) -> Self {
        Self {
            id: item.id,
            submission: item.content.into(),
            digest_algorithm: item.digest_algorithm,
        }
    }
}
