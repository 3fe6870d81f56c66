//! Who is let in, and as what: ID tokens that must not count, service tokens that are not ours or
//! not for this, roles, second factors, and the CLI's own keeping of tokens.

mod id_tokens;
mod jobs;
mod people;
mod platforms;
mod service_tokens;

use crate::support::raw::{Raw, RawAnswer};
use crate::support::{REPOSITORY, job_spec};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use countersign_testkit::issuer::TokenSpec;
use serde_json::Value;
use std::time::{SystemTime, UNIX_EPOCH};

fn now() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .expect("after 1970")
        .as_secs()
}

fn job() -> TokenSpec {
    job_spec(REPOSITORY)
}

/// A token whose claims are changed after it was signed.
fn tampered(token: &str, change: impl FnOnce(&mut Value)) -> String {
    let parts: Vec<_> = token.split('.').collect();
    let mut claims: Value =
        serde_json::from_slice(&URL_SAFE_NO_PAD.decode(parts[1]).expect("base64url"))
            .expect("JSON");
    change(&mut claims);
    format!(
        "{}.{}.{}",
        parts[0],
        URL_SAFE_NO_PAD.encode(claims.to_string()),
        parts[2]
    )
}

fn whoami(raw: &Raw, token: &str) -> RawAnswer {
    raw.get("/v1/whoami", Some(token))
}
