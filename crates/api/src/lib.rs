//! Countersign's HTTP API.
//!
//! This room turns HTTP into calls of the `signing` service and back, and nothing else: it
//! identifies the caller ([`auth`]), translates bodies ([`routes`]) and alone knows status codes
//! ([`problem`]). What a caller may do is decided behind it. The description in
//! `openapi/openapi.json` is generated from the handlers ([`openapi`]); a test fails if it is stale.
#![forbid(unsafe_code)]

pub mod auth;
pub mod extract;
pub mod limits;
mod measures;
pub mod metrics;
pub mod middleware;
pub mod problem;
pub mod routes;
mod state;
pub mod wire;

pub use limits::Limits;
pub use measures::ApiMeasures;
pub use state::{Api, ApiConfig};

use axum::Router;
use axum::extract::DefaultBodyLimit;
use problem::{Problem, ProblemDocument};
use std::sync::OnceLock;
use tower_http::catch_panic::CatchPanicLayer;
use utoipa::OpenApi as _;
use utoipa::openapi::path::{Operation, ParameterBuilder, ParameterIn, PathItem};
use utoipa::openapi::security::{Http, HttpAuthScheme, SecurityRequirement, SecurityScheme};
use utoipa::openapi::{Content, ObjectBuilder, OpenApi, Ref, Required, ResponseBuilder, Type};
use utoipa_axum::router::OpenApiRouter;

/// Largest request body, except where certificate chains and batches come.
const BODY_LIMIT: usize = 64 * 1024;
/// Largest request body of all.
const LARGEST_BODY: usize = 1024 * 1024;

/// Paths that take no service token.
const PUBLIC: [&str; 6] = [
    "/v1/bootstrap",
    "/v1/token",
    "/v1/service/keys",
    "/healthz",
    "/readyz",
    "/openapi.json",
];

#[derive(utoipa::OpenApi)]
#[openapi(
    info(
        title = "Countersign",
        description = "Remote code signing: keys that never leave their HSM, a log of each use, and no signature \
            without its record. Errors are problem documents (RFC 9457); branch on `code`.",
        license(name = "Apache-2.0", identifier = "Apache-2.0")
    ),
    components(schemas(ProblemDocument)),
    tags(
        (name = "identity", description = "Who is asking"),
        (name = "tenants", description = "Subscribers and their rules"),
        (name = "people", description = "Issuers and members"),
        (name = "signers", description = "Stable names for keys"),
        (name = "keys", description = "Keys and their life"),
        (name = "enrolment", description = "From key to certificate"),
        (name = "grants", description = "Who may sign what"),
        (name = "signatures", description = "Signing"),
        (name = "logs", description = "The record (C2SP tlog-tiles)"),
        (name = "health", description = "For supervisors"),
    )
)]
struct Description;

/// The whole router. The request id and the form of problems surround everything; admission and
/// the time limit do not surround the health routes, so that they answer under load.
pub fn router(api: &Api) -> Router {
    use axum::middleware::from_fn_with_state;
    let (service, described) = routes::service().split_for_parts();
    let door = middleware::Door::new(api.clone(), described);
    let (health, _) = routes::health::routes().split_for_parts();
    service
        .layer(DefaultBodyLimit::max(BODY_LIMIT))
        .layer(from_fn_with_state(door, middleware::admit))
        .merge(health)
        .fallback(async || Problem::not_found())
        .layer(CatchPanicLayer::custom(middleware::panicked))
        .layer(from_fn_with_state(api.watch(), middleware::envelope))
        .with_state(api.clone())
}

/// The API's description (OpenAPI 3.1), from the handlers.
#[must_use]
pub fn openapi() -> OpenApi {
    let (_, mut spec) = OpenApiRouter::with_openapi(Description::openapi())
        .merge(routes::service())
        .merge(routes::health::routes())
        .split_for_parts();
    let components = spec.components.get_or_insert_default();
    components.add_security_scheme(
        "service_token",
        SecurityScheme::Http(Http::new(HttpAuthScheme::Bearer)),
    );
    for (path, item) in &mut spec.paths.paths {
        for operation in operations(item) {
            complete(path, operation);
        }
    }
    // `{*path}` is the router's word for the rest of a path; OpenAPI has none.
    let paths = std::mem::take(&mut spec.paths.paths);
    spec.paths.paths = paths
        .into_iter()
        .map(|(path, item)| (path.replace("{*", "{"), item))
        .collect();
    spec
}

/// The description as it stands in `openapi/openapi.json`.
#[must_use]
pub fn openapi_text() -> &'static str {
    static TEXT: OnceLock<String> = OnceLock::new();
    TEXT.get_or_init(|| {
        let mut text = openapi().to_pretty_json().unwrap_or_default();
        text.push('\n');
        text
    })
}

fn operations(item: &mut PathItem) -> impl Iterator<Item = &mut Operation> {
    [
        item.get.as_mut(),
        item.put.as_mut(),
        item.post.as_mut(),
        item.delete.as_mut(),
    ]
    .into_iter()
    .flatten()
}

/// What every operation has: its path parameters, the problem document, the token.
fn complete(path: &str, operation: &mut Operation) {
    let mut parameters = operation.parameters.take().unwrap_or_default();
    let mut named: Vec<_> = path
        .split('/')
        .filter_map(|s| s.strip_prefix('{')?.strip_suffix('}'))
        .map(|name| {
            ParameterBuilder::new()
                .name(name.trim_start_matches('*'))
                .parameter_in(ParameterIn::Path)
                .required(Required::True)
                .schema(Some(ObjectBuilder::new().schema_type(Type::String)))
                .build()
                .into()
        })
        .collect();
    named.append(&mut parameters);
    operation.parameters = (!named.is_empty()).then_some(named);

    let problem = ResponseBuilder::new()
        .description("A problem document (RFC 9457)")
        .content(
            "application/problem+json",
            Content::new(Some(Ref::from_schema_name("ProblemDocument"))),
        )
        .build();
    operation
        .responses
        .responses
        .insert("default".to_owned(), problem.into());
    if !PUBLIC.contains(&path) {
        operation.security = Some(vec![SecurityRequirement::new(
            "service_token",
            Vec::<String>::new(),
        )]);
    }
}

#[cfg(test)]
mod tests;
