//! The API's description (OpenAPI 3.1): the handlers' own words, and what all operations have in
//! common (parameters, tokens, every status with every problem code it may carry), added here so
//! that a stranger can make a client of it.

use crate::problem::{Kind, ProblemDocument};
use crate::routes;
use crate::{PUBLIC, VERIFY};
use http::StatusCode;
use std::collections::BTreeSet;
use std::sync::OnceLock;
use utoipa::OpenApi as _;
use utoipa::openapi::path::{Operation, ParameterBuilder, ParameterIn, PathItem};
use utoipa::openapi::schema::SchemaFormat;
use utoipa::openapi::security::{Http, HttpAuthScheme, SecurityRequirement, SecurityScheme};
use utoipa::openapi::{
    Content, HeaderBuilder, ObjectBuilder, OpenApi, Ref, RefOr, Required, Response,
    ResponseBuilder, Schema, Type,
};
use utoipa_axum::router::OpenApiRouter;

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
        (name = "attestations", description = "The verifier of device evidence, for anybody's keys"),
        (name = "grants", description = "Who may sign what"),
        (name = "signatures", description = "Signing"),
        (name = "logs", description = "The record (C2SP tlog-tiles)"),
        (name = "health", description = "For supervisors"),
    )
)]
struct Description;

/// Names of tenants and signers (`countersign_core::names`).
const NAME: &str = "^[a-z]([a-z0-9-]*[a-z0-9])?$";

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
    for status in statuses() {
        components
            .responses
            .insert(problem_name(status), problem(status).into());
    }
    if let Some(RefOr::T(Schema::Object(document))) = components.schemas.get_mut("ProblemDocument")
        && let Some(RefOr::T(Schema::Object(code))) = document.properties.get_mut("code")
    {
        code.enum_values = Some(Kind::ALL.iter().map(|k| k.row().code.into()).collect());
    }
    for (path, item) in &mut spec.paths.paths {
        for (method, operation) in operations(item) {
            complete(path, method, operation);
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

pub(crate) fn operations(
    item: &mut PathItem,
) -> impl Iterator<Item = (&'static str, &mut Operation)> {
    [
        ("get", item.get.as_mut()),
        ("put", item.put.as_mut()),
        ("post", item.post.as_mut()),
        ("delete", item.delete.as_mut()),
    ]
    .into_iter()
    .filter_map(|(method, operation)| Some((method, operation?)))
}

/// What every operation has: its path parameters, its problems, the token.
fn complete(path: &str, method: &str, operation: &mut Operation) {
    let mut parameters = operation.parameters.take().unwrap_or_default();
    let mut named: Vec<_> = path
        .split('/')
        .filter_map(|s| s.strip_prefix('{')?.strip_suffix('}'))
        .map(|name| {
            let name = name.trim_start_matches('*');
            ParameterBuilder::new()
                .name(name)
                .parameter_in(ParameterIn::Path)
                .required(Required::True)
                .schema(Some(parameter(name)))
                .build()
                .into()
        })
        .collect();
    named.append(&mut parameters);
    let queries = named
        .iter()
        .any(|p| matches!(p, RefOr::T(p) if p.parameter_in != ParameterIn::Path));
    operation.parameters = (!named.is_empty()).then_some(named);

    let public = PUBLIC.contains(&path);
    for status in problems(path, method, operation, queries, public) {
        operation
            .responses
            .responses
            .entry(status.as_str().to_owned())
            .or_insert_with(|| Ref::from_response_name(problem_name(status)).into());
    }
    let token = || SecurityRequirement::new("service_token", Vec::<String>::new());
    operation.security = Some(match path {
        _ if public => Vec::new(),
        // OpenAPI 3.1 §4.8.10: the empty requirement makes it optional.
        VERIFY => vec![SecurityRequirement::default(), token()],
        _ => vec![token()],
    });
}

/// A path parameter: what cannot be one is answered 404.
fn parameter(name: &str) -> ObjectBuilder {
    let text = ObjectBuilder::new().schema_type(Type::String);
    match name {
        "tenant" | "signer" => text
            .pattern(Some(NAME))
            .min_length(Some(1))
            .max_length(Some(63))
            .examples([if name == "tenant" { "acme" } else { "release" }]),
        "path" => text
            .description(Some("C2SP tlog-tiles: `0/000`, `entries/x001/234.p/56` …"))
            .max_length(Some(200))
            .examples(["entries/000.p/1"]),
        _ => text
            .format(Some(SchemaFormat::Custom("uuid".to_owned())))
            .examples(["01900000-0000-7000-8000-000000000000"]),
    }
}

/// The statuses an operation may refuse with.
fn problems(
    path: &str,
    method: &str,
    operation: &Operation,
    queries: bool,
    public: bool,
) -> BTreeSet<StatusCode> {
    let mut all = BTreeSet::new();
    if matches!(path, "/healthz" | "/openapi.json") {
        return all;
    }
    all.insert(StatusCode::INTERNAL_SERVER_ERROR);
    if path == "/readyz" {
        return all;
    }
    // Overloaded, timed out, a part away: any of them.
    all.insert(StatusCode::SERVICE_UNAVAILABLE);
    // A body that comes is taken in, whether there should be one or not.
    all.extend([StatusCode::REQUEST_TIMEOUT, StatusCode::PAYLOAD_TOO_LARGE]);
    all.insert(StatusCode::BAD_REQUEST);
    if !public {
        all.extend([
            StatusCode::UNAUTHORIZED,
            StatusCode::FORBIDDEN,
            StatusCode::NOT_FOUND,
            StatusCode::TOO_MANY_REQUESTS,
        ]);
    }
    if operation.request_body.is_some() {
        all.extend([
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            StatusCode::UNPROCESSABLE_ENTITY,
        ]);
    }
    if method != "get" || queries || path.ends_with("/certificate") {
        all.insert(StatusCode::CONFLICT);
    }
    if method != "get" {
        all.insert(StatusCode::UNPROCESSABLE_ENTITY);
    }
    if path == "/v1/token" || path.contains("/orders") {
        all.insert(StatusCode::BAD_GATEWAY);
    }
    match path {
        "/v1/token" => {
            all.insert(StatusCode::TOO_MANY_REQUESTS);
        }
        "/v1/bootstrap" => {
            all.insert(StatusCode::NOT_FOUND);
        }
        _ => {}
    }
    all
}

fn statuses() -> BTreeSet<StatusCode> {
    Kind::ALL.iter().map(|k| k.row().status).collect()
}

fn problem_name(status: StatusCode) -> String {
    format!("Problem{}", status.as_u16())
}

/// A problem document of this status, with the codes it may have.
fn problem(status: StatusCode) -> Response {
    let rows = Kind::ALL
        .iter()
        .map(|k| k.row())
        .filter(|r| r.status == status);
    let mut text = String::new();
    let mut example = None;
    for row in rows {
        let again = if row.retryable { " Try again." } else { "" };
        text.push_str(&format!("`{}`: {}.{again}\n\n", row.code, row.title));
        example.get_or_insert_with(|| {
            serde_json::json!({
                "type": format!("urn:countersign:problem:{}", row.code),
                "title": row.title, "status": status.as_u16(), "detail": row.title,
                "instance": "0190a0b0-0000-7000-8000-000000000000", "code": row.code,
                "retryable": row.retryable,
            })
        });
    }
    let mut content = Content::new(Some(Ref::from_schema_name("ProblemDocument")));
    content.example = example;
    let header = |text: &str, kind| {
        HeaderBuilder::new()
            .schema(Some(ObjectBuilder::new().schema_type(kind)))
            .description(Some(text))
            .build()
    };
    let mut response = ResponseBuilder::new()
        .description(text.trim_end())
        .content("application/problem+json", content)
        .header(
            "X-Request-Id",
            header("Leads to the cause in the service's logs.", Type::String),
        );
    match status {
        StatusCode::TOO_MANY_REQUESTS => {
            let text = "Seconds until the next try may succeed.";
            response = response.header("Retry-After", header(text, Type::Integer));
        }
        StatusCode::SERVICE_UNAVAILABLE => {
            let text = "Seconds until the next try may succeed; only where one may.";
            response = response.header("Retry-After", header(text, Type::Integer));
        }
        StatusCode::UNAUTHORIZED => {
            response = response.header("WWW-Authenticate", header("RFC 6750 §3.", Type::String));
        }
        _ => {}
    }
    response.build()
}
