use crate::*;
use countersign_core::{GrantId, HashAlgorithm, Micros, SignerLabel};
use proptest::prelude::*;
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;

const GITHUB: &str = "https://token.actions.githubusercontent.com";
const NOW: Micros = Micros::from_seconds(1_790_000_000);

fn grant(issuer: &str, claims: &[(&str, &str)]) -> Grant {
    Grant {
        id: GrantId::new(),
        signer: signer(),
        issuer: issuer.to_owned(),
        claims: claims
            .iter()
            .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
            .collect(),
        content_types: [AUTHENTICODE.to_owned()].into(),
        digest_algorithms: [HashAlgorithm::Sha256].into(),
        not_before: None,
        not_after: None,
        note: None,
    }
}

fn signer() -> SignerLabel {
    "release".parse().unwrap()
}

fn ask(grants: &[Grant], issuer: &str, claims: &Value) -> Decision {
    ask_for(grants, issuer, claims, AUTHENTICODE)
}

fn ask_for(grants: &[Grant], issuer: &str, claims: &Value, content_type: &str) -> Decision {
    decide(
        grants,
        &GrantRequest {
            issuer,
            claims: claims.as_object().unwrap(),
            signer: &signer(),
            content_type,
            digest_algorithm: HashAlgorithm::Sha256,
            now: NOW,
        },
    )
}

fn failing(d: &Decision) -> Vec<(&str, StepOutcome)> {
    d.reasons
        .iter()
        .flat_map(|r| &r.steps)
        .filter(|s| !s.outcome.holds())
        .map(|s| (s.claim.as_str(), s.outcome))
        .collect()
}

#[test]
fn a_name_is_not_an_identity() {
    let only_names = grant(
        GITHUB,
        &[("repository", "acme/app"), ("ref", "refs/heads/main")],
    );
    assert!(matches!(
        only_names.validate(),
        Err(GrantError::NoImmutableId { .. })
    ));
    let unpinned = grant(GITHUB, &[("repository_id", "1")]);
    assert!(matches!(
        unpinned.validate(),
        Err(GrantError::NoAnchor { .. })
    ));
    let sub_alone = grant(GITHUB, &[("sub", "repo:a/b:ref:refs/heads/main")]);
    assert!(matches!(
        sub_alone.validate(),
        Err(GrantError::NoImmutableId { .. })
    ));
    let good = grant(
        GITHUB,
        &[("repository_id", "1"), ("ref", "refs/heads/main")],
    );
    assert_eq!(good.validate(), Ok(vec![]));

    assert!(
        grant("https://gitlab.com", &[("project_path", "a/b")])
            .validate()
            .is_err()
    );
    assert!(
        grant("https://gitlab.com", &[("project_id", "7")])
            .validate()
            .is_ok()
    );
    assert!(
        grant(
            "https://agent.buildkite.com",
            &[("organization_slug", "acme")]
        )
        .validate()
        .is_err()
    );
    // A self-managed instance: nothing known, but names stay names.
    assert!(
        grant("https://ci.example", &[("project_path", "a/b")])
            .validate()
            .is_err()
    );
    assert!(
        grant("https://ci.example", &[("sub", "job/7")])
            .validate()
            .is_ok()
    );
    assert_eq!(
        grant("https://ci.example", &[]).validate(),
        Err(GrantError::ClaimCount)
    );
}

#[test]
fn bad_grants_name_the_field() {
    let base = || grant("https://ci.example", &[("sub", "x")]);
    let mut g = base();
    g.issuer = "http://ci.example".into();
    assert_eq!(g.validate().unwrap_err().field(), "issuer");
    let mut g = base();
    g.claims.insert("ref".into(), "refs/tags/*".into());
    assert_eq!(g.validate().unwrap_err().field(), "claims.ref");
    let mut g = base();
    g.content_types = ["exe".to_owned()].into();
    assert_eq!(g.validate().unwrap_err().field(), "content_types");
    let mut g = base();
    g.digest_algorithms.clear();
    assert_eq!(g.validate().unwrap_err().field(), "digest_algorithms");
    let mut g = base();
    (g.not_before, g.not_after) = (Some(NOW), Some(NOW));
    assert_eq!(g.validate().unwrap_err(), GrantError::Window);
    assert!(serde_json::from_value::<Grant>(json!({"id": GrantId::new(), "surprise": 1})).is_err());
}

#[test]
fn a_raw_digest_needs_a_grant_that_says_so() {
    let claims = json!({"sub": "job"});
    let mut g = grant("https://ci.example", &[("sub", "job")]);
    let refused = ask_for(&[g.clone()], "https://ci.example", &claims, RAW_DIGEST);
    assert_eq!(
        failing(&refused),
        [("(content type)", StepOutcome::Differs)]
    );
    g.content_types.insert(RAW_DIGEST.to_owned());
    assert!(ask_for(&[g.clone()], "https://ci.example", &claims, RAW_DIGEST).allowed);
    assert!(!g.validate().unwrap().is_empty(), "and it warns");
}

#[test]
fn a_pull_request_is_refused_unless_named() {
    let mut token = json!({"repository_id": "1", "ref": "refs/heads/main", "event_name": "push"});
    let mut g = grant(
        GITHUB,
        &[("repository_id", "1"), ("ref", "refs/heads/main")],
    );
    assert!(ask(&[g.clone()], GITHUB, &token).allowed);
    for event in [
        "pull_request",
        "pull_request_target",
        "issue_comment",
        "workflow_run",
    ] {
        token["event_name"] = json!(event);
        let d = ask(&[g.clone()], GITHUB, &token);
        assert_eq!(
            failing(&d),
            [("event_name", StepOutcome::Guarded)],
            "{event}"
        );
    }
    g.claims.insert("event_name".into(), "pull_request".into());
    assert!(
        !ask(&[g.clone()], GITHUB, &token).allowed,
        "another event than the named one"
    );
    token["event_name"] = json!("pull_request");
    assert!(ask(&[g], GITHUB, &token).allowed);
}

#[test]
fn a_gitlab_fork_or_unprotected_ref_is_refused() {
    let good = json!({
        "project_id": "7", "job_project_id": "7", "ref_protected": "true", "pipeline_source": "push",
    });
    for issuer in ["https://gitlab.com", "https://gitlab.acme.example"] {
        let g = [grant(issuer, &[("project_id", "7")])];
        assert!(ask(&g, issuer, &good).allowed);
        for (claim, bad) in [
            ("job_project_id", json!("8")),
            ("ref_protected", json!("false")),
            ("ref_protected", Value::Null),
            ("pipeline_source", json!("merge_request_event")),
        ] {
            let mut token = good.clone();
            token[claim] = bad;
            let d = ask(&g, issuer, &token);
            assert_eq!(failing(&d), [(claim, StepOutcome::Guarded)]);
        }
    }
}

#[test]
fn reasons_say_what_differed() {
    let g = [grant(
        "https://ci.example",
        &[("repository_id", "1"), ("env", "Release"), ("x", "1")],
    )];
    let d = ask(
        &g,
        "https://ci.example",
        &json!({"repository_id": 2, "env": "release"}),
    );
    assert_eq!(
        failing(&d),
        [
            ("env", StepOutcome::DiffersInCase),
            ("repository_id", StepOutcome::Differs),
            ("x", StepOutcome::Absent)
        ]
    );
    let d = ask(
        &g,
        "https://other.example",
        &json!({"repository_id": 1, "env": "Release", "x": [1]}),
    );
    assert_eq!(
        failing(&d),
        [
            ("iss", StepOutcome::Differs),
            ("x", StepOutcome::NotComparable)
        ]
    );
    assert_eq!(d.closest().map(|r| r.grant), Some(g[0].id));
}

#[test]
fn booleans_and_numbers_compare_as_text_and_pointers_reach_inside() {
    let g = [grant(
        "https://k8s.example",
        &[
            ("/kubernetes.io/serviceaccount/uid", "u-1"),
            ("ok", "true"),
            ("n", "12"),
        ],
    )];
    let token = json!({"kubernetes.io": {"serviceaccount": {"uid": "u-1"}}, "ok": true, "n": 12});
    assert!(ask(&g, "https://k8s.example", &token).allowed);
}

#[test]
fn the_window_is_half_open() {
    let mut g = grant("https://ci.example", &[("sub", "x")]);
    let token = json!({"sub": "x"});
    g.not_before = Some(NOW);
    g.not_after = Some(Micros(NOW.0 + 1));
    assert!(ask(&[g.clone()], "https://ci.example", &token).allowed);
    g.not_before = None;
    g.not_after = Some(NOW);
    let d = ask(&[g], "https://ci.example", &token);
    assert_eq!(failing(&d), [("(not after)", StepOutcome::OutsideWindow)]);
}

#[test]
fn a_stored_grant_that_breaks_the_rules_allows_nothing() {
    let g = grant("https://ci.example", &[]);
    let d = ask(&[g], "https://ci.example", &json!({}));
    assert_eq!(failing(&d), [("(grant)", StepOutcome::InvalidGrant)]);
}

#[test]
fn another_signers_grant_is_neither_used_nor_shown() {
    let mut g = grant("https://ci.example", &[("sub", "x")]);
    g.signer = "nightly".parse().unwrap();
    let d = ask(&[g], "https://ci.example", &json!({"sub": "x"}));
    assert_eq!((d.allowed, d.reasons.len()), (false, 0));
}

#[test]
fn issuers_are_told_by_exact_host() {
    for (url, want) in [
        (GITHUB, Platform::GitHub),
        (
            "https://token.actions.githubusercontent.com/acme",
            Platform::GitHub,
        ),
        ("https://token.actions.acme.ghe.com", Platform::GitHub),
        ("https://ghes.example/_services/token", Platform::GitHub),
        (
            "https://token.actions.githubusercontent.com.evil.example",
            Platform::Unknown,
        ),
        ("https://gitlab.com", Platform::GitLab),
        ("https://gitlab.com.evil.example", Platform::Unknown),
        ("http://gitlab.com", Platform::Unknown),
    ] {
        assert_eq!(Platform::of_issuer(url), want, "{url}");
    }
}

/// Claims the grants and tokens of the property tests are made of: few names and values, so that
/// they often meet, with the guarded ones among them.
fn any_claims() -> impl Strategy<Value = BTreeMap<String, String>> {
    let name = prop::sample::select(vec![
        "sub",
        "repository_id",
        "ref",
        "project_id",
        "environment",
        "event_name",
        "pipeline_source",
        "ref_protected",
        "job_project_id",
    ]);
    let value = prop::sample::select(vec![
        "1",
        "2",
        "true",
        "push",
        "pull_request",
        "merge_request_event",
    ]);
    prop::collection::btree_map(
        name.prop_map(str::to_owned),
        value.prop_map(str::to_owned),
        0..6,
    )
}

fn any_issuer() -> impl Strategy<Value = &'static str> {
    prop::sample::select(vec![GITHUB, "https://gitlab.com", "https://ci.example"])
}

fn to_value(claims: &BTreeMap<String, String>) -> Value {
    Value::Object(
        claims
            .iter()
            .map(|(k, v)| (k.clone(), json!(v)))
            .collect::<Map<_, _>>(),
    )
}

proptest! {
    #[test]
    fn without_a_grant_nothing_is_allowed(issuer in any_issuer(), token in any_claims()) {
        prop_assert!(!ask(&[], issuer, &to_value(&token)).allowed);
    }

    /// Adding a claim never widens, but for the claims a guard watches: naming one of those is the
    /// documented way to open that one value (next test).
    #[test]
    fn adding_claims_never_widens(
        issuer in any_issuer(), token in any_claims(), base in any_claims(), more in any_claims(),
    ) {
        const GUARDED: [&str; 3] = ["event_name", "pipeline_source", "ref_protected"];
        let mut narrow = grant(issuer, &[]);
        narrow.claims = base;
        let mut narrower = narrow.clone();
        for (k, v) in more {
            if !GUARDED.contains(&k.as_str()) {
                narrower.claims.entry(k).or_insert(v);
            }
        }
        prop_assume!(narrow.validate().is_ok());
        let before = ask(&[narrow], issuer, &to_value(&token)).allowed;
        let after = ask(&[narrower], issuer, &to_value(&token)).allowed;
        prop_assert!(before || !after);
    }

    /// Whatever is allowed carries every claim of the grant with its exact value, guarded ones too.
    #[test]
    fn whatever_is_allowed_has_every_claim(issuer in any_issuer(), token in any_claims(), claims in any_claims()) {
        let mut g = grant(issuer, &[]);
        g.claims = claims;
        if ask(&[g.clone()], issuer, &to_value(&token)).allowed {
            for (k, v) in &g.claims {
                prop_assert_eq!(token.get(k), Some(v));
            }
        }
    }
}
