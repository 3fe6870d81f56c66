//! Keys: born in the token, and their life.

use crate::extract::{Auth, Json, PathOf, Rid};
use crate::problem::Problem;
use crate::routes::enrolment::{Order, order};
use crate::routes::tenants::{LogRef, log_ref};
use crate::state::Api;
use crate::wire::{B64, rfc3339};
use axum::extract::State;
use countersign_core::ports::rows::{CertificateRow, KeyRow};
use countersign_core::{KeyEvent, KeyId, SignerLabel, SignerName, TenantName};
use countersign_signing::CertificateNews;
use http::StatusCode;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

pub(crate) fn routes() -> OpenApiRouter<Api> {
    OpenApiRouter::new()
        .routes(routes!(create_key))
        .routes(routes!(list_keys))
        .routes(routes!(get_key))
        .routes(routes!(key_event))
}

/// A key.
#[derive(Debug, Serialize, ToSchema)]
pub struct Key {
    /// Id; also its `CKA_ID` and its log's id.
    pub id: String,
    /// For which signer.
    pub signer: String,
    /// Algorithm.
    pub algorithm: String,
    /// Where it is in its life; only `active` signs.
    pub state: String,
    /// SubjectPublicKeyInfo, base64 DER.
    #[schema(value_type = String)]
    pub spki: B64,
    /// SHA-256 of it, hex.
    pub spki_sha256: String,
    /// Born in a software token: for ever.
    pub software: bool,
    /// How it is kept apart from other tenants' keys.
    pub isolation: String,
    /// What the token said of it when it was read back.
    #[schema(value_type = Object)]
    pub facts: Value,
    /// The last appraisal.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>)]
    pub appraisal: Option<Value>,
    /// The log of its uses.
    pub log: LogRef,
    /// Leaves of that log; only where one key is asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub log_size: Option<u64>,
    /// The certificate in use; only where one key is asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub certificate: Option<Certificate>,
    /// What is known of the certificate in use: looked up in its CA's revocation list, and when it ends.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub certificate_status: Option<CertificateStatus>,
    /// What its owner should know now, in words: an end that is near, a list that cannot be had.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
    /// Its orders, newest first; only where one key is asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub orders: Option<Vec<Order>>,
    /// When (RFC 3339).
    pub created: String,
}

/// An installed certificate.
#[derive(Debug, Serialize, ToSchema)]
pub struct Certificate {
    /// SHA-256 of the leaf, hex.
    pub sha256: String,
    /// Serial number, hex.
    pub serial: String,
    /// RFC 3339.
    pub not_before: String,
    /// RFC 3339.
    pub not_after: String,
    /// Base64 DER, leaf first, without the root.
    #[schema(value_type = Vec<String>)]
    pub chain: Vec<B64>,
    /// When installed (RFC 3339).
    pub installed: String,
}

/// What is known of a certificate.
#[derive(Debug, Serialize, ToSchema)]
pub struct CertificateStatus {
    /// `good`, `on-hold`, `revoked`, or `unknown` before the first look.
    #[schema(example = "good")]
    pub status: String,
    /// Since when the service knows it (RFC 3339).
    pub since: String,
    /// When the CA's list was last looked at with success (RFC 3339).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub checked: Option<String>,
    /// The CA's revocation date (RFC 3339).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub revoked_at: Option<String>,
    /// The CA's reason, by its name in RFC 5280 §5.3.1.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(example = "superseded")]
    pub reason: Option<String>,
    /// Why the last look came to nothing; only where one key is asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
    /// Its end (RFC 3339).
    pub not_after: String,
    /// Whole days until its end; negative after it.
    pub ends_in_days: i64,
}

fn with_news(mut key: Key, news: Option<CertificateNews>) -> Key {
    if let Some(n) = news {
        key.warnings = n.warnings;
        key.certificate_status = Some(CertificateStatus {
            status: n.status.as_str().to_owned(),
            since: rfc3339(n.since),
            checked: n.checked.map(rfc3339),
            revoked_at: n.revoked_at.map(rfc3339),
            reason: n.reason,
            problem: n.problem,
            not_after: rfc3339(n.not_after),
            ends_in_days: n.ends_in_days,
        });
    }
    key
}

/// What shall happen to a key.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct KeyEventBody {
    /// `suspend`, `resume`, `retire`, `compromise` or `destroy`.
    #[schema(
        example = "suspend",
        pattern = "^(suspend|resume|retire|compromise|destroy)$"
    )]
    pub event: String,
    /// Why; it stands in the tenant's log.
    #[schema(
        example = "laptop of the build team lost",
        min_length = 1,
        max_length = 1024
    )]
    pub reason: String,
}

pub(crate) fn key(api: &Api, row: KeyRow) -> Result<Key, Problem> {
    use sha2::{Digest as _, Sha256};
    Ok(Key {
        id: row.id.to_string(),
        signer: row.signer.to_string(),
        algorithm: row.algorithm.as_str().to_owned(),
        state: row.state.as_str().to_owned(),
        spki_sha256: hex::encode(Sha256::digest(&row.spki)),
        spki: B64(row.spki),
        software: row.facts.software,
        isolation: row.facts.isolation.as_str().to_owned(),
        facts: serde_json::to_value(&row.facts).unwrap_or_default(),
        appraisal: row
            .appraisal
            .as_deref()
            .and_then(|a| serde_json::from_str(a).ok()),
        log: log_ref(api, row.id)?,
        log_size: None,
        certificate: None,
        certificate_status: None,
        warnings: Vec::new(),
        orders: None,
        created: rfc3339(row.created),
    })
}

fn certificate(row: CertificateRow) -> Certificate {
    Certificate {
        sha256: hex::encode(row.sha256),
        serial: row.serial,
        not_before: rfc3339(row.not_before),
        not_after: rfc3339(row.not_after),
        chain: row.chain.into_iter().map(B64).collect(),
        installed: rfc3339(row.installed),
    }
}

/// Makes a key pair in the tenant's token. It cannot be imported, exported or copied, by anybody.
#[utoipa::path(post, path = "/v1/tenants/{tenant}/signers/{signer}/keys", tag = "keys",
    responses((status = 201, body = Key)))]
async fn create_key(
    State(api): State<Api>,
    auth: Auth,
    Rid(rid): Rid,
    PathOf((tenant, signer)): PathOf<(TenantName, SignerLabel)>,
) -> Result<(StatusCode, Json<Key>), Problem> {
    let name = SignerName { tenant, signer };
    let service = api.service().clone();
    let row = api
        .run(async move { service.create_key(&auth.caller, &name, &rid).await })
        .await?;
    Ok((StatusCode::CREATED, Json(key(&api, row)?)))
}

/// The tenant's keys, newest first.
#[utoipa::path(get, path = "/v1/tenants/{tenant}/keys", tag = "keys",
    responses((status = 200, body = [Key])))]
async fn list_keys(
    State(api): State<Api>,
    auth: Auth,
    PathOf(tenant): PathOf<TenantName>,
) -> Result<Json<Vec<Key>>, Problem> {
    let rows = api.service().keys(&auth.caller, &tenant).await?;
    rows.into_iter()
        .map(|(row, news)| Ok(with_news(key(&api, row)?, news)))
        .collect::<Result<_, _>>()
        .map(Json)
}

/// One key with its certificate, orders and log.
#[utoipa::path(get, path = "/v1/tenants/{tenant}/keys/{key}", tag = "keys",
    responses((status = 200, body = Key)))]
async fn get_key(
    State(api): State<Api>,
    auth: Auth,
    PathOf((tenant, id)): PathOf<(TenantName, KeyId)>,
) -> Result<Json<Key>, Problem> {
    let view = api.service().key(&auth.caller, &tenant, id).await?;
    let mut answer = with_news(key(&api, view.row)?, view.news);
    answer.log_size = Some(view.log.size);
    answer.certificate = view.certificate.map(certificate);
    answer.orders = Some(view.orders.into_iter().map(order).collect());
    Ok(Json(answer))
}

/// Suspends, resumes, retires or destroys a key, or declares it compromised. When a suspension is
/// answered, no later authorisation of the key exists.
#[utoipa::path(post, path = "/v1/tenants/{tenant}/keys/{key}/events", tag = "keys",
    request_body = KeyEventBody, responses((status = 200, body = Key)))]
async fn key_event(
    State(api): State<Api>,
    auth: Auth,
    Rid(rid): Rid,
    PathOf((tenant, id)): PathOf<(TenantName, KeyId)>,
    Json(body): Json<KeyEventBody>,
) -> Result<Json<Key>, Problem> {
    let event = match body.event.as_str() {
        "suspend" => KeyEvent::Suspend,
        "resume" => KeyEvent::Resume,
        "retire" => KeyEvent::Retire,
        "compromise" => KeyEvent::Compromise,
        "destroy" => KeyEvent::Destroyed,
        _ => {
            return Err(Problem::invalid(
                "event",
                "suspend, resume, retire, compromise or destroy",
            ));
        }
    };
    let service = api.service().clone();
    let row = api
        .run(async move {
            service
                .key_event(&auth.caller, &tenant, id, event, &body.reason, &rid)
                .await
        })
        .await?;
    Ok(Json(key(&api, row)?))
}
