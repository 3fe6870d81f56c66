//! What each operation of openapi.json may show of a neighbour, and to whom: one row each. An
//! operation without a row fails the tests, and so does a row without operation.

use super::{Objects, Role};
use crate::support::judges::cms_request;
use crate::support::{PEOPLE_AUDIENCE, REPOSITORY, Stack};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use countersign_core::HashAlgorithm;
use countersign_testkit_evidence::yubihsm2::YubiHsm2;
use serde_json::{Value, json};

/// What the neighbour's job has signed.
pub const SIGNED: &[u8] = b"zq: the neighbour's next release";

/// One operation.
pub struct Row {
    /// Method and path, as in the document.
    pub operation: &'static str,
    /// A body that its own people's request would be accepted with.
    pub body: Option<Value>,
    /// What follows the path, where the operation wants it.
    pub query: String,
    /// Who else is shown the object, with which status. Everybody else gets what they would get if
    /// it had never existed.
    pub shown: &'static [(Role, u16)],
    /// What its own people get, after everything else was tried: the proof that nothing but the
    /// border had refused. `None` for operations that name no object.
    pub own: Option<(Role, u16)>,
    /// A member of the body that names an object of the tenant, not a new one.
    pub names: Option<&'static str>,
}

/// An operation on an object of a tenant: 404 for everybody else, 200 for its admin.
fn object(operation: &'static str) -> Row {
    Row {
        operation,
        body: None,
        query: String::new(),
        shown: &[],
        own: Some((Role::Admin, 200)),
        names: None,
    }
}

/// An operation that names no object of a tenant.
fn no_object(operation: &'static str, shown: &'static [(Role, u16)]) -> Row {
    Row {
        shown,
        own: None,
        ..object(operation)
    }
}

impl Row {
    fn body(self, body: Value) -> Self {
        Self {
            body: Some(body),
            ..self
        }
    }

    fn query(self, query: &str) -> Self {
        Self {
            query: format!("?{query}"),
            ..self
        }
    }

    fn own(self, role: Role, status: u16) -> Self {
        Self {
            own: Some((role, status)),
            ..self
        }
    }

    fn shown(self, shown: &'static [(Role, u16)]) -> Self {
        Self { shown, ..self }
    }

    fn names(self, member: &'static str) -> Self {
        Self {
            names: Some(member),
            ..self
        }
    }

    /// Method and path.
    pub fn parts(&self) -> (&'static str, &'static str) {
        self.operation.split_once(' ').expect("METHOD /path")
    }
}

const ALL: &[(Role, u16)] = &[
    (Role::Nobody, 200),
    (Role::Job, 200),
    (Role::JobWithoutGrant, 200),
    (Role::Auditor, 200),
    (Role::Admin, 200),
    (Role::Operator, 200),
];
const ALL_KNOWN: &[(Role, u16)] = &[
    (Role::Nobody, 401),
    (Role::Job, 200),
    (Role::JobWithoutGrant, 200),
    (Role::Auditor, 200),
    (Role::Admin, 200),
    (Role::Operator, 200),
];
const OPERATORS: &[(Role, u16)] = &[
    (Role::Nobody, 401),
    (Role::Job, 404),
    (Role::JobWithoutGrant, 404),
    (Role::Auditor, 404),
    (Role::Admin, 404),
    (Role::Operator, 200),
];
const OPERATORS_CONFLICT: &[(Role, u16)] = &[
    (Role::Nobody, 401),
    (Role::Job, 404),
    (Role::JobWithoutGrant, 404),
    (Role::Auditor, 404),
    (Role::Admin, 404),
    (Role::Operator, 409),
];
const USED_UP: &[(Role, u16)] = &[
    (Role::Nobody, 404),
    (Role::Job, 404),
    (Role::JobWithoutGrant, 404),
    (Role::Auditor, 404),
    (Role::Admin, 404),
    (Role::Operator, 404),
];
const NOT_A_FORM: &[(Role, u16)] = &[
    (Role::Nobody, 415),
    (Role::Job, 415),
    (Role::JobWithoutGrant, 415),
    (Role::Auditor, 415),
    (Role::Admin, 415),
    (Role::Operator, 415),
];

/// A key that nobody has in a token.
fn spki_of_nobody() -> String {
    STANDARD.encode(YubiHsm2::default().key.spki())
}

/// The table. The controls run in this order: what takes something away comes last.
pub fn rows(stack: &Stack, theirs: &Objects) -> Vec<Row> {
    let subject = json!({"common_name": "Acme Inc.", "organization": "Acme Inc.", "country": "US",
        "locality": "Springfield"});
    let people = stack.people.url();
    let ca_pem = std::fs::read_to_string(stack.people.ca_file()).expect("the issuer's CA");
    let chain = std::fs::read_to_string(theirs.chain_file(stack)).expect("their chain");
    let event = |event: &str| json!({"event": event, "reason": "a neighbour was here"});
    vec![
        no_object("GET /healthz", ALL),
        no_object("GET /readyz", ALL),
        no_object("GET /openapi.json", ALL),
        no_object("GET /v1/service/keys", ALL),
        // Open to all by this stack's configuration: it reads nothing of anybody.
        no_object("POST /v1/attestations/verify", ALL).body(json!({"public_key": spki_of_nobody()})),
        no_object("GET /v1/whoami", ALL_KNOWN),
        // Public; the exchange has tests of its own (tokens/id_tokens.rs).
        no_object("POST /v1/token", NOT_A_FORM).body(json!({"tenant": theirs.tenant})),
        no_object("POST /v1/bootstrap", USED_UP).body(json!({"credential": "guessed", "issuer": people,
            "subject": "mallory", "audience": "x"})),
        no_object("GET /v1/tenants", OPERATORS),
        no_object("GET /v1/devices", OPERATORS),
        no_object("POST /v1/tenants", OPERATORS_CONFLICT).body(json!({"name": theirs.tenant,
            "admin": {"issuer": people, "subject": "mallory"}})),
        object("GET /log/{log}/checkpoint"),
        object("GET /log/{log}/tile/{path}"),
        // That a tenant is there, and under which rules, is the operator's own knowledge.
        object("GET /v1/tenants/{tenant}").shown(&[(Role::Operator, 200)]),
        object("GET /v1/tenants/{tenant}/grants"),
        object("GET /v1/tenants/{tenant}/issuers"),
        object("GET /v1/tenants/{tenant}/keys"),
        object("GET /v1/tenants/{tenant}/keys/{key}"),
        object("GET /v1/tenants/{tenant}/keys/{key}/evidence"),
        object("GET /v1/tenants/{tenant}/logs"),
        object("GET /v1/tenants/{tenant}/logs/{log}/checkpoint"),
        object("GET /v1/tenants/{tenant}/logs/{log}/details"),
        object("GET /v1/tenants/{tenant}/logs/{log}/tile/{path}"),
        object("GET /v1/tenants/{tenant}/members"),
        object("GET /v1/tenants/{tenant}/orders/{order}"),
        object("GET /v1/tenants/{tenant}/signers"),
        object("GET /v1/tenants/{tenant}/signers/{signer}"),
        object("GET /v1/tenants/{tenant}/signers/{signer}/certificate"),
        object("POST /v1/tenants/{tenant}/grants/explain")
            .body(json!({"token": stack.job_token(REPOSITORY), "signer": theirs.signer}))
            .names("signer"),
        object("POST /v1/tenants/{tenant}/signers/{signer}/signatures")
            .body(cms_request(SIGNED, HashAlgorithm::Sha256))
            .own(Role::Job, 200),
        object("POST /v1/tenants/{tenant}/grants")
            .body(json!({"signer": theirs.signer, "issuer": stack.platform.url(),
                "claims": {"repository_id": "zq-666"}, "content_types": ["cms"], "digest_algorithms": ["sha-256"]}))
            .names("signer")
            .own(Role::Admin, 201),
        object("POST /v1/tenants/{tenant}/issuers")
            .body(json!({"issuer": people, "kind": "people", "audience": PEOPLE_AUDIENCE,
                "ca_pem": ca_pem}))
            .own(Role::Admin, 204),
        object("POST /v1/tenants/{tenant}/members")
            .body(json!({"issuer": people, "subject": "mallory", "role": "admin"}))
            .own(Role::Admin, 204),
        object("DELETE /v1/tenants/{tenant}/members")
            .body(json!({"issuer": people, "subject": "mallory", "role": "admin"}))
            .own(Role::Admin, 204),
        object("DELETE /v1/tenants/{tenant}/issuers")
            .query(&format!("issuer={}", stack.platform.url()))
            .own(Role::Admin, 204),
        object("PUT /v1/tenants/{tenant}/policy").body(json!({"allow_software": true, "require_mfa": false, "evidence": []})),
        object("POST /v1/tenants/{tenant}/signers")
            .body(json!({"signer": "evil", "algorithm": "ec-p256"}))
            .own(Role::Admin, 201),
        object("POST /v1/tenants/{tenant}/signers/{signer}/keys").own(Role::Admin, 201),
        object("POST /v1/tenants/{tenant}/keys/{key}/appraise"),
        // No evidence of anything: the key's own people are told so.
        object("POST /v1/tenants/{tenant}/keys/{key}/evidence")
            .body(json!({"files": [{"name": "x", "content": "bm8gZXZpZGVuY2U="}]}))
            .own(Role::Admin, 422),
        object("POST /v1/tenants/{tenant}/keys/{key}/csr")
            .body(json!({"ca_audience": "ca.example", "subject": subject})),
        // It is the very one that is installed.
        object("POST /v1/tenants/{tenant}/keys/{key}/certificate")
            .body(json!({"chain_pem": chain}))
            .own(Role::Admin, 409),
        object("POST /v1/tenants/{tenant}/keys/{key}/orders")
            .body(json!({"ca": "demo", "subject": subject}))
            .own(Role::Admin, 201),
        object("POST /v1/tenants/{tenant}/keys/{key}/events").body(event("suspend")),
        object("DELETE /v1/tenants/{tenant}/grants/{grant}").own(Role::Admin, 204),
    ]
}
