//! What an ID token says of itself, for the person whose token the service does not accept: the
//! service itself says no more than no, since strangers ask too.

use crate::failure::Failure;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use countersign_core::text::disguises;
use countersign_core::{Clock as _, SystemClock};
use countersign_grants::Platform;
use serde_json::{Map, Value};

/// Claims worth a look on every platform: what the guards go by.
const GUARDED: [&str; 5] = [
    "environment",
    "event_name",
    "pipeline_source",
    "ref",
    "ref_protected",
];
const PLATFORMS: [Platform; 6] = [
    Platform::GitHub,
    Platform::GitLab,
    Platform::Buildkite,
    Platform::CircleCi,
    Platform::AzurePipelines,
    Platform::Google,
];
/// Longest value shown.
const SHOWN: usize = 120;

/// Adds to a refused exchange what the token says where that may be the reason: issuer, audience,
/// age, and the claims that grants go by. Nothing else of it: job output is often public.
#[must_use]
pub fn explained(mut failure: Failure, id_token: &str) -> Failure {
    if failure.code == "access-denied"
        && let Some(claims) = claims_of(id_token)
    {
        failure.reasons = words(&claims, SystemClock.now().seconds());
    }
    failure
}

fn claims_of(token: &str) -> Option<Map<String, Value>> {
    let payload = token.trim().split('.').nth(1)?;
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(payload).ok()?).ok()
}

fn words(claims: &Map<String, Value>, now: i64) -> Vec<Value> {
    let line = |name: &str| {
        Some(format!(
            "the token's {name} is {}",
            shown(claims.get(name)?)
        ))
    };
    let age = claims
        .get("iat")
        .and_then(Value::as_i64)
        .map(|iat| format!("the token was issued {} s ago", now.saturating_sub(iat)));
    let mut names: Vec<&str> = PLATFORMS
        .iter()
        .flat_map(|p| p.immutable_ids().iter().chain(p.anchors()).copied())
        .chain(GUARDED)
        .filter(|name| *name != "sub")
        .collect();
    names.sort_unstable();
    names.dedup();
    ["iss", "aud"]
        .into_iter()
        .filter_map(line)
        .chain(age)
        .chain(names.into_iter().filter_map(line))
        .map(Value::String)
        .collect()
}

fn shown(value: &Value) -> String {
    let text: String = value.to_string().chars().take(SHOWN).collect();
    text.chars().filter(|c| !disguises(*c)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exit::Exit;
    use serde_json::json;

    fn token(claims: &Value) -> String {
        format!("e30.{}.AA", URL_SAFE_NO_PAD.encode(claims.to_string()))
    }

    #[test]
    fn a_refused_token_is_shown_without_what_is_personal() {
        let claims = json!({"iss": "https://ci.example", "aud": "x", "iat": 1, "repository_id": "666",
            "sub": "the-subject", "user_email": "ada@example.com", "jti": "secret-id"});
        let failure = Failure::new(Exit::Refused, "access-denied", "no");
        let text = explained(failure, &token(&claims)).for_people();
        for part in [
            "\"https://ci.example\"",
            "repository_id is \"666\"",
            "issued ",
        ] {
            assert!(text.contains(part), "{part} in {text}");
        }
        for part in ["the-subject", "ada@", "secret-id"] {
            assert!(!text.contains(part), "{part} in {text}");
        }
    }

    #[test]
    fn other_refusals_and_broken_tokens_stay_as_they_are() {
        let other = Failure::new(Exit::Refused, "token-replayed", "no");
        assert_eq!(
            explained(other.clone(), &token(&json!({"iss": "x"}))),
            other
        );
        let denied = Failure::new(Exit::Refused, "access-denied", "no");
        assert_eq!(explained(denied.clone(), "not.a"), denied);
    }
}
