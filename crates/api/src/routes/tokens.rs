//! Bootstrap, token exchange, who am I, the service's public keys.

use crate::auth::exchange::{self, ACCESS_TOKEN, GRANT_TYPE, ID_TOKEN, JWT};
use crate::extract::{Auth, Form, Json, Rid};
use crate::problem::{Kind, Problem};
use crate::routes::people::IssuerSpecBody;
use crate::state::Api;
use crate::wire::{B64, rfc3339};
use axum::extract::State;
use countersign_core::Micros;
use countersign_core::ports::rows::OPERATOR_REALM;
use http::StatusCode;
use serde::{Deserialize, Serialize};
use std::time::Duration;
use tokio::time::Instant;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

/// A denied exchange is answered at a whole multiple of this.
const DENIAL_TICK: Duration = Duration::from_millis(100);

pub(crate) fn routes() -> OpenApiRouter<Api> {
    OpenApiRouter::new()
        .routes(routes!(bootstrap))
        .routes(routes!(token))
        .routes(routes!(whoami))
        .routes(routes!(service_keys))
}

/// Registers the deployment's first operator.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct BootstrapBody {
    /// The one-time credential from its file.
    #[schema(max_length = 1024)]
    pub credential: String,
    /// Exact `iss` of the operators' identity provider.
    pub issuer: String,
    /// Exact `sub` of the first operator.
    pub subject: String,
    /// The audience that operators' tokens must carry.
    pub audience: String,
    /// PEM roots for the issuer's TLS, where the system's do not do.
    #[serde(default)]
    pub ca_pem: Option<String>,
    /// Public OAuth client id, for the device flow.
    #[serde(default)]
    pub client_id: Option<String>,
    /// Oldest token accepted, in seconds; 600 if left out.
    #[serde(default)]
    pub max_token_age_s: Option<u32>,
    /// `amr` and `acr` values that count as a second factor.
    #[serde(default)]
    pub mfa: Option<MfaBody>,
    /// Operators' actions want a second factor; on if left out.
    #[serde(default)]
    pub require_mfa: Option<bool>,
}

/// Values that count as a second factor.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct MfaBody {
    /// `amr` values (RFC 8176), for example `mfa`, `hwk`, `otp`.
    #[serde(default)]
    pub amr: Option<Vec<String>>,
    /// `acr` values.
    #[serde(default)]
    pub acr: Option<Vec<String>>,
}

/// Uses the one-time credential to register the operators' issuer and the first operator.
#[utoipa::path(post, path = "/v1/bootstrap", tag = "identity", request_body = BootstrapBody,
    responses((status = 204, description = "Registered; the credential is used up")))]
async fn bootstrap(
    State(api): State<Api>,
    Rid(rid): Rid,
    Json(body): Json<BootstrapBody>,
) -> Result<StatusCode, Problem> {
    let mfa = body.mfa.unwrap_or_default();
    let issuer = IssuerSpecBody {
        issuer: body.issuer,
        kind: "people".to_owned(),
        audience: body.audience,
        max_token_age_s: body.max_token_age_s,
        mfa_amr: mfa.amr,
        mfa_acr: mfa.acr,
        ca_pem: body.ca_pem,
        client_id: body.client_id,
    }
    .into_spec()?;
    let service = api.service().clone();
    api.run(async move {
        service
            .bootstrap(
                &body.credential,
                issuer,
                &body.subject,
                body.require_mfa.unwrap_or(true),
                &rid,
            )
            .await
    })
    .await?;
    Ok(StatusCode::NO_CONTENT)
}

/// A token exchange (RFC 8693 §2.1).
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct TokenForm {
    /// `urn:ietf:params:oauth:grant-type:token-exchange`.
    #[schema(example = "urn:ietf:params:oauth:grant-type:token-exchange")]
    pub grant_type: String,
    /// The ID token.
    #[schema(max_length = 16384)]
    pub subject_token: String,
    /// `urn:ietf:params:oauth:token-type:id_token` or `…:jwt`.
    #[schema(example = "urn:ietf:params:oauth:token-type:id_token")]
    pub subject_token_type: String,
    /// Name of the tenant; the operator's realm if left out.
    #[serde(default)]
    #[schema(example = "acme", max_length = 63)]
    pub tenant: Option<String>,
    /// Signers the service token shall be bound to, separated by spaces.
    #[serde(default)]
    pub scope: Option<String>,
    /// If given, `urn:ietf:params:oauth:token-type:access_token`.
    #[serde(default)]
    pub requested_token_type: Option<String>,
}

/// A service token (RFC 8693 §2.2.1).
#[derive(Debug, Serialize, ToSchema)]
pub struct TokenAnswer {
    /// Send it as `Authorization: Bearer …`.
    pub access_token: String,
    /// `urn:ietf:params:oauth:token-type:access_token`.
    pub issued_token_type: String,
    /// `Bearer`.
    pub token_type: String,
    /// Seconds, at most 300 and never beyond the ID token's own end.
    pub expires_in: i64,
    /// The signers it is bound to, where asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scope: Option<String>,
}

/// Exchanges an ID token of a registered issuer for a service token. Each ID token counts once.
#[utoipa::path(post, path = "/v1/token", tag = "identity",
    request_body(content = TokenForm, content_type = "application/x-www-form-urlencoded"),
    responses((status = 200, body = TokenAnswer)))]
async fn token(
    State(api): State<Api>,
    Rid(rid): Rid,
    Form(form): Form<TokenForm>,
) -> Result<Json<TokenAnswer>, Problem> {
    let refuse = |parameter: &str, detail: &str, error: &'static str| {
        Err(Problem::new(Kind::TokenRequest, detail)
            .field(parameter)
            .oauth(error))
    };
    if form.grant_type != GRANT_TYPE {
        return refuse("grant_type", GRANT_TYPE, "unsupported_grant_type");
    }
    if ![ID_TOKEN, JWT].contains(&form.subject_token_type.as_str()) {
        return refuse(
            "subject_token_type",
            "an ID token is needed: urn:ietf:params:oauth:token-type:id_token",
            "invalid_request",
        );
    }
    if form
        .requested_token_type
        .as_deref()
        .is_some_and(|t| t != ACCESS_TOKEN)
    {
        return refuse(
            "requested_token_type",
            "only access tokens are issued",
            "invalid_request",
        );
    }
    let began = Instant::now();
    // Once the token is marked as used the answer has to be made: in a task of its own.
    let work = api.clone();
    let exchanged = api
        .run(async move {
            let request = exchange::Exchange {
                subject_token: &form.subject_token,
                tenant: form.tenant.as_deref(),
                scope: form.scope.as_deref(),
            };
            exchange::exchange(&work, &request, &rid).await
        })
        .await;
    let exchanged = match exchanged {
        Err(p) if p.kind() == Kind::AccessDenied => {
            // Otherwise the time it took would say how far it came: a tenant that is here costs
            // a signature's verification more than one that is not.
            tokio::time::sleep_until(next_tick(began)).await;
            return Err(p);
        }
        other => other?,
    };
    let claims = exchanged.claims;
    Ok(Json(TokenAnswer {
        access_token: exchanged.token,
        issued_token_type: ACCESS_TOKEN.to_owned(),
        token_type: "Bearer".to_owned(),
        expires_in: claims.exp.saturating_sub(claims.iat),
        scope: claims
            .signers
            .map(|all| all.iter().map(|s| s.as_str()).collect::<Vec<_>>().join(" ")),
    }))
}

/// The next whole multiple of [`DENIAL_TICK`] after `began`.
fn next_tick(began: Instant) -> Instant {
    let ticks = began.elapsed().as_millis() / DENIAL_TICK.as_millis();
    began + DENIAL_TICK * u32::try_from(ticks.saturating_add(1)).unwrap_or(1)
}

/// The caller, as the service sees it.
#[derive(Debug, Serialize, ToSchema)]
pub struct WhoAmI {
    /// `iss`.
    pub issuer: String,
    /// `sub`.
    pub subject: String,
    /// `people` or `pipelines`.
    pub kind: String,
    /// The tenant; absent in the operator's realm.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tenant: Option<String>,
    /// Roles at this moment.
    pub roles: Vec<String>,
    /// Whether the ID token showed a second factor.
    pub mfa: bool,
    /// Signers the service token is bound to; empty: all that grants allow.
    pub signers: Vec<String>,
    /// When the service token ends (RFC 3339).
    pub expires: String,
}

/// Says who the caller is.
#[utoipa::path(get, path = "/v1/whoami", tag = "identity", responses((status = 200, body = WhoAmI)))]
async fn whoami(auth: Auth) -> Json<WhoAmI> {
    let caller = auth.caller;
    Json(WhoAmI {
        issuer: caller.issuer,
        subject: caller.subject,
        kind: super::people::kind_name(caller.kind).to_owned(),
        tenant: (caller.tenant != OPERATOR_REALM).then(|| caller.tenant_name.to_string()),
        roles: caller.roles.iter().map(|r| r.as_str().to_owned()).collect(),
        mfa: caller.mfa,
        signers: caller
            .signers
            .unwrap_or_default()
            .iter()
            .map(ToString::to_string)
            .collect(),
        expires: rfc3339(Micros::from_seconds(auth.claims.exp)),
    })
}

/// Public keys of the service, to be pinned.
#[derive(Debug, Serialize, ToSchema)]
pub struct ServiceKeysAnswer {
    /// Signs service statements: CAs pin it.
    pub statement: StatementKey,
    /// Signs checkpoints: subscribers pin it.
    pub log: LogKey,
    /// The deployment's name.
    pub service: String,
}

/// The service-statement key.
#[derive(Debug, Serialize, ToSchema)]
pub struct StatementKey {
    /// SubjectPublicKeyInfo, base64 DER.
    #[schema(value_type = String)]
    pub spki: B64,
    /// SHA-256 of it, hex.
    pub sha256: String,
}

/// The log key.
#[derive(Debug, Serialize, ToSchema)]
pub struct LogKey {
    /// Ed25519 public key, base64, 32 bytes.
    #[schema(value_type = String)]
    pub public_key: B64,
}

/// The public keys that CAs and subscribers pin. They are no secret; pin them over a second channel.
#[utoipa::path(get, path = "/v1/service/keys", tag = "identity",
    responses((status = 200, body = ServiceKeysAnswer)))]
async fn service_keys(State(api): State<Api>) -> Json<ServiceKeysAnswer> {
    use sha2::{Digest as _, Sha256};
    let keys = api.service().service_keys();
    Json(ServiceKeysAnswer {
        statement: StatementKey {
            sha256: hex::encode(Sha256::digest(&keys.statement_spki)),
            spki: B64(keys.statement_spki),
        },
        log: LogKey {
            public_key: B64(keys.log_public_key.to_vec()),
        },
        service: api.tokens().name().to_owned(),
    })
}
