//! Signers: stable names for one or more keys.

use crate::extract::{Auth, Json, PathOf, Rid};
use crate::problem::Problem;
use crate::routes::keys::{Key, key};
use crate::state::Api;
use crate::wire::{B64, rfc3339};
use axum::extract::State;
use countersign_core::ports::rows::SignerRow;
use countersign_core::{KeyAlgorithm, SignerLabel, SignerName, TenantName};
use http::StatusCode;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

pub(crate) fn routes() -> OpenApiRouter<Api> {
    OpenApiRouter::new()
        .routes(routes!(create_signer, list_signers))
        .routes(routes!(get_signer))
        .routes(routes!(signer_certificate))
}

/// A new signer.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewSignerBody {
    /// Name within the tenant.
    #[schema(value_type = String, example = "release", min_length = 1, max_length = 63, pattern = "^[a-z]([a-z0-9-]*[a-z0-9])?$")]
    pub signer: SignerLabel,
    /// Algorithm of its keys: `ec-p256`, `ec-p384`, `rsa-3072`, `rsa-4096`.
    #[schema(value_type = String, example = "ec-p256", pattern = "^(ec-p256|ec-p384|rsa-3072|rsa-4096)$")]
    pub algorithm: KeyAlgorithm,
}

/// A signer.
#[derive(Debug, Serialize, ToSchema)]
pub struct Signer {
    /// Full name, `tenant/signer`.
    pub name: String,
    /// Name within the tenant.
    pub signer: String,
    /// Algorithm of its keys.
    pub algorithm: String,
    /// When (RFC 3339).
    pub created: String,
    /// Its keys, newest first; only where one signer is asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub keys: Option<Vec<Key>>,
}

/// What a client needs before it hashes.
#[derive(Debug, Serialize, ToSchema)]
pub struct SignerCertificateAnswer {
    /// Base64 DER, leaf first, without the root.
    #[schema(value_type = Vec<String>)]
    pub certificate_chain: Vec<B64>,
    /// The key that will sign.
    pub key: String,
    /// Its algorithm.
    pub algorithm: String,
    /// What its owner should know now, in words.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
}

fn signer(tenant: &TenantName, row: SignerRow) -> Signer {
    Signer {
        name: format!("{tenant}/{}", row.label),
        signer: row.label.to_string(),
        algorithm: row.algorithm.as_str().to_owned(),
        created: rfc3339(row.created),
        keys: None,
    }
}

/// Creates a signer. It has no key yet.
#[utoipa::path(post, path = "/v1/tenants/{tenant}/signers", tag = "signers", request_body = NewSignerBody,
    responses((status = 201, body = Signer)))]
async fn create_signer(
    State(api): State<Api>,
    auth: Auth,
    Rid(rid): Rid,
    PathOf(tenant): PathOf<TenantName>,
    Json(body): Json<NewSignerBody>,
) -> Result<(StatusCode, Json<Signer>), Problem> {
    let name = SignerName {
        tenant: tenant.clone(),
        signer: body.signer,
    };
    let service = api.service().clone();
    let row = api
        .run(async move {
            service
                .create_signer(&auth.caller, &name, body.algorithm, &rid)
                .await
        })
        .await?;
    Ok((StatusCode::CREATED, Json(signer(&tenant, row))))
}

/// The tenant's signers.
#[utoipa::path(get, path = "/v1/tenants/{tenant}/signers", tag = "signers",
    responses((status = 200, body = [Signer])))]
async fn list_signers(
    State(api): State<Api>,
    auth: Auth,
    PathOf(tenant): PathOf<TenantName>,
) -> Result<Json<Vec<Signer>>, Problem> {
    let rows = api.service().signers(&auth.caller, &tenant).await?;
    Ok(Json(rows.into_iter().map(|r| signer(&tenant, r)).collect()))
}

/// One signer with its keys.
#[utoipa::path(get, path = "/v1/tenants/{tenant}/signers/{signer}", tag = "signers",
    responses((status = 200, body = Signer)))]
async fn get_signer(
    State(api): State<Api>,
    auth: Auth,
    PathOf((tenant, label)): PathOf<(TenantName, SignerLabel)>,
) -> Result<Json<Signer>, Problem> {
    let name = SignerName {
        tenant: tenant.clone(),
        signer: label,
    };
    let (row, keys) = api.service().signer(&auth.caller, &name).await?;
    let mut answer = signer(&tenant, row);
    answer.keys = Some(
        keys.into_iter()
            .map(|k| key(&api, k))
            .collect::<Result<_, _>>()?,
    );
    Ok(Json(answer))
}

/// The certificate of the key that will sign: fetch it before hashing, since signed attributes may
/// name it.
#[utoipa::path(get, path = "/v1/tenants/{tenant}/signers/{signer}/certificate", tag = "signers",
    responses((status = 200, body = SignerCertificateAnswer)))]
async fn signer_certificate(
    State(api): State<Api>,
    auth: Auth,
    Rid(rid): Rid,
    PathOf((tenant, signer)): PathOf<(TenantName, SignerLabel)>,
) -> Result<Json<SignerCertificateAnswer>, Problem> {
    let found = api
        .service()
        .certificate_of(&auth.caller, &SignerName { tenant, signer }, &rid)
        .await?;
    Ok(Json(SignerCertificateAnswer {
        certificate_chain: found.chain.into_iter().map(B64).collect(),
        key: found.key.to_string(),
        algorithm: found.algorithm.as_str().to_owned(),
        warnings: found.warnings,
    }))
}
