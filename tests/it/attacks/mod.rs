//! What an attacker sends before, or instead of, a decent request: paths, headers, bodies, names,
//! tokens and connections of every wrong kind. Each gets one exact answer, and nothing is written.

mod bodies;
mod connections;
mod exchange;
mod h2;
mod heads;
mod names;
mod paths;
pub mod unread;

use crate::support::cli::Cli;
use crate::support::raw::{Raw, RawAnswer};
use crate::support::wire::{WireAnswer, request};
use crate::support::{PEOPLE_AUDIENCE, REPOSITORY, Stack};
use countersign_testkit::issuer::TokenSpec;
use std::fmt::Write as _;

/// A tenant with an admin, two issuers, a signer and a grant, on the service that tests share.
struct Victim {
    stack: &'static Stack,
    tenant: &'static str,
    admin: Cli,
    /// The admin's service token.
    token: String,
    raw: Raw,
}

impl Victim {
    fn new(tenant: &'static str) -> Self {
        let stack = Stack::shared();
        let admin = stack.tenant(tenant);
        stack.let_in(&admin, tenant, REPOSITORY);
        let spec = TokenSpec::new(&format!("{tenant}-admin"), PEOPLE_AUDIENCE).mfa();
        let raw = stack.raw();
        let token = raw.exchanged(tenant, &stack.people.mint(&spec).expect("a token"));
        Self {
            stack,
            tenant,
            admin,
            token,
            raw,
        }
    }

    /// A path of the tenant's.
    fn path(&self, rest: &str) -> String {
        format!("/v1/tenants/{}{rest}", self.tenant)
    }

    /// All that can be seen of the tenant, and its log without what is counted of refusals.
    fn state(&self) -> String {
        let mut all = String::new();
        for drawer in ["", "/signers", "/keys", "/grants", "/members", "/issuers"] {
            let answer = self.raw.get(&self.path(drawer), Some(&self.token));
            assert_eq!(answer.status, 200, "{drawer}: {answer:?}");
            let _ = writeln!(all, "{}", answer.json());
        }
        let copy = self.stack.path(&format!("{}-log", self.tenant));
        for leaf in self.admin.tenant_leaves(&copy) {
            let kind = leaf["type"].as_str().unwrap_or_default();
            if ![
                "denied",
                "content-refused",
                "key-checkpoint",
                "worker-event",
            ]
            .contains(&kind)
            {
                let _ = writeln!(all, "{leaf}");
            }
        }
        all
    }

    /// Does it, and looks that nothing changed by it.
    fn untouched(&self, what: impl FnOnce()) {
        let before = self.state();
        what();
        assert_eq!(before, self.state());
        assert!(
            !self.stack.server_log().contains("a handler panicked"),
            "a handler panicked"
        );
    }

    /// The admin's `Authorization` line.
    fn bearer(&self) -> String {
        format!("authorization: Bearer {}", self.token)
    }

    /// Sends a request as it is, on a connection of its own.
    fn send(&self, method: &str, path: &str, headers: &[&str], body: &[u8]) -> WireAnswer {
        let headers: Vec<String> = headers.iter().map(|h| (*h).to_owned()).collect();
        self.bytes(method, &request(method, path, &headers, body))
    }

    /// The same, by the admin.
    fn ask(&self, method: &str, path: &str, headers: &[&str], body: &[u8]) -> WireAnswer {
        let bearer = self.bearer();
        let all: Vec<&str> = std::iter::once(bearer.as_str())
            .chain(headers.iter().copied())
            .collect();
        self.send(method, path, &all, body)
    }

    /// Sends bytes.
    fn bytes(&self, method: &str, bytes: &[u8]) -> WireAnswer {
        let mut wire = self.stack.wire();
        wire.write(bytes).expect("sent");
        let shown = String::from_utf8_lossy(bytes);
        let shown: String = shown.chars().take(300).collect();
        wire.answer(method)
            .unwrap_or_else(|| panic!("no answer to {shown:?}"))
    }

    /// A change by the admin that must be refused.
    fn post(&self, rest: &str, body: &[u8]) -> RawAnswer {
        self.raw
            .send("POST", &self.path(rest), Some(&self.token), Some(body), &[])
    }
}

/// A problem document as it must be. Status and code.
fn problem(answer: &WireAnswer) -> (u16, String) {
    let header = |name: &str| {
        answer
            .head
            .lines()
            .filter_map(|l| l.split_once(':'))
            .find(|(n, _)| n.eq_ignore_ascii_case(name))
            .map(|(_, v)| v.trim().to_owned())
    };
    let kind = header("content-type");
    assert_eq!(
        kind.as_deref(),
        Some("application/problem+json"),
        "{answer:?}"
    );
    let body = answer.json();
    assert_eq!(body["status"], answer.status, "{body}");
    assert_eq!(
        body["instance"].as_str(),
        header("x-request-id").as_deref(),
        "{body}"
    );
    let code = answer.code();
    assert_eq!(
        body["type"],
        format!("urn:countersign:problem:{code}"),
        "{body}"
    );
    (answer.status, code)
}

/// The same of an answer that came by a decent client: code and field.
fn refused(answer: &RawAnswer) -> (u16, String, String) {
    let code = answer.problem();
    let field = answer.json()["field"]
        .as_str()
        .unwrap_or_default()
        .to_owned();
    (answer.status, code, field)
}
