//! Tokens with every claim that GitHub and GitLab put into theirs (docs/ci), names and types as in their documentation:
//! they sign where the pages' grants say so, and are refused where the pages say that.

use crate::support::cli::Cli;
use crate::support::{JOB_AUDIENCE, Stack, text};
use countersign_testkit::issuer::TokenSpec;
use serde_json::{Value, json};

fn with(sub: &str, claims: Value) -> TokenSpec {
    let Value::Object(claims) = claims else {
        unreachable!("an object");
    };
    claims
        .into_iter()
        .fold(TokenSpec::new(sub, JOB_AUDIENCE), |spec, (name, value)| {
            spec.claim(&name, value)
        })
}

/// As `token.actions.githubusercontent.com` makes them; `sub` in the form of repositories made since July 2026.
fn github() -> TokenSpec {
    with(
        "repo:acme@9001/app@4711:environment:release",
        json!({
            "actor": "anna", "actor_id": "77", "base_ref": "", "head_ref": "", "check_run_id": "30",
            "enterprise": "acme-corp", "enterprise_id": "12", "environment": "release", "event_name": "push",
            "job_workflow_ref": "acme/app/.github/workflows/release.yml@refs/tags/v1.0",
            "job_workflow_sha": "1f0c8b1b2d6a5b0a8f1d7c2f3c1e9a6d5b4c3a21",
            "ref": "refs/tags/v1.0", "ref_type": "tag", "ref_protected": "true",
            "repository": "acme/app", "repository_id": "4711", "repository_owner": "acme",
            "repository_owner_id": "9001", "repository_visibility": "private",
            "run_id": "15000000001", "run_number": "8", "run_attempt": "1", "runner_environment": "github-hosted",
            "sha": "1f0c8b1b2d6a5b0a8f1d7c2f3c1e9a6d5b4c3a21",
            "workflow": "release", "workflow_ref": "acme/app/.github/workflows/release.yml@refs/tags/v1.0",
            "workflow_sha": "1f0c8b1b2d6a5b0a8f1d7c2f3c1e9a6d5b4c3a21",
        }),
    )
}

/// As GitLab makes them since 18.3.
fn gitlab() -> TokenSpec {
    with(
        "project_path:acme/app:ref_type:tag:ref:v1.0",
        json!({
            "namespace_id": "72", "namespace_path": "acme", "project_id": "815", "project_path": "acme/app",
            "job_namespace_id": "72", "job_namespace_path": "acme", "job_project_id": "815", "job_project_path": "acme/app",
            "user_id": "5", "user_login": "anna", "user_email": "anna@example.com", "user_access_level": "maintainer",
            "pipeline_id": "77", "pipeline_source": "push", "job_id": "302", "job_source": "push",
            "ref": "v1.0", "ref_type": "tag", "ref_path": "refs/tags/v1.0", "ref_protected": "true",
            "environment": "release", "environment_protected": "true", "deployment_tier": "production",
            "environment_action": "start", "groups_direct": ["acme"],
            "runner_id": 1, "runner_environment": "gitlab-hosted", "sha": "714a629c0b401fdce83e847fc9589983fc6f46bc",
            "ci_config_ref_uri": "gitlab.com/acme/app//.gitlab-ci.yml@refs/tags/v1.0",
            "ci_config_sha": "714a629c0b401fdce83e847fc9589983fc6f46bc", "project_visibility": "private",
        }),
    )
}

struct World<'a> {
    stack: &'a Stack,
    admin: Cli,
    signer: String,
}

impl<'a> World<'a> {
    /// A tenant whose one signer the pages' grant lets be used.
    fn new(stack: &'a Stack, tenant: &str, claims: &[&str]) -> Self {
        let admin = stack.tenant(tenant);
        let signer = format!("{tenant}/release");
        let key = stack.key(&admin, &signer, "ec-p256");
        admin.ok(&[
            &["certificate", "order", &key, "--ca", "demo"][..],
            &crate::support::SUBJECT,
        ]
        .concat());
        let mut grant = vec!["grants", "add", &signer, "--issuer", stack.platform.url()];
        for claim in claims {
            grant.extend(["--claim", claim]);
        }
        grant.extend(["--content", "cms"]);
        admin.ok(&grant);
        Self {
            stack,
            admin,
            signer,
        }
    }

    fn signs(&self, spec: &TokenSpec) {
        let token = self.stack.platform.mint(spec).expect("a token");
        let file = self.stack.path(&format!(
            "platforms-{}.txt",
            countersign_core::RequestId::new()
        ));
        std::fs::write(&file, &spec.sub).expect("a file");
        self.stack
            .cli(&format!("platforms-{}", countersign_core::RequestId::new()))
            .env("COUNTERSIGN_ID_TOKEN", &token)
            .ok(&["sign", "--signer", &self.signer, &text(&file)]);
    }

    /// Refused, for this claim.
    fn refused(&self, spec: &TokenSpec, claim: &str) {
        let token = self.stack.platform.mint(spec).expect("a token");
        let file = self.stack.path(&format!(
            "platforms-{}.jwt",
            countersign_core::RequestId::new()
        ));
        std::fs::write(&file, token).expect("a file");
        let told = self.admin.run(&[
            "--json",
            "grants",
            "explain",
            &self.signer,
            "--token-file",
            &text(&file),
            "--content",
            "cms",
        ]);
        let told: Value = serde_json::from_str(&told.stdout).expect("JSON");
        assert_eq!(told["allowed"], false, "{told}");
        let steps = told["reasons"][0]["steps"].as_array().expect("steps");
        let failed: Vec<_> = steps
            .iter()
            .filter(|s| s["outcome"] != "holds")
            .filter_map(|s| s["claim"].as_str())
            .collect();
        assert!(failed.contains(&claim), "{claim}: {told}");
    }
}

#[test]
fn tokens_with_all_of_githubs_claims_sign_and_are_refused_as_the_page_says() {
    let world = World::new(
        Stack::shared(),
        "plat-github",
        &["repository_id=4711", "environment=release"],
    );
    world.signs(&github());
    // The form of `sub` before July 2026, and one that its owner customised: no difference.
    for sub in ["repo:acme/app:environment:release", "repository_owner:acme"] {
        let mut spec = github();
        spec.sub = sub.to_owned();
        world.signs(&spec);
    }
    for event in [
        "pull_request",
        "pull_request_target",
        "issue_comment",
        "workflow_run",
    ] {
        world.refused(&github().claim("event_name", event), "event_name");
    }
    world.refused(&github().claim("environment", "staging"), "environment");
    // Somebody took the name that was given up.
    world.refused(&github().claim("repository_id", "4712"), "repository_id");
    let mut no_environment = github();
    no_environment.omit = vec!["environment".to_owned()];
    world.refused(&no_environment, "environment");
}

#[test]
fn a_grant_for_one_workflow_file_of_github_holds_to_its_commit() {
    let world = World::new(
        Stack::shared(),
        "plat-workflow",
        &[
            "repository_id=4711",
            "job_workflow_sha=1f0c8b1b2d6a5b0a8f1d7c2f3c1e9a6d5b4c3a21",
        ],
    );
    world.signs(&github());
    world.refused(
        &github().claim(
            "job_workflow_sha",
            "0000000000000000000000000000000000000000",
        ),
        "job_workflow_sha",
    );
}

#[test]
fn tokens_with_all_of_gitlabs_claims_sign_and_are_refused_as_the_page_says() {
    let world = World::new(
        Stack::shared(),
        "plat-gitlab",
        &["project_id=815", "environment=release"],
    );
    world.signs(&gitlab());
    // Before 18.3 a token did not say where the job runs.
    let mut older = gitlab();
    older.omit = ["id", "path"]
        .iter()
        .flat_map(|s| [format!("job_project_{s}"), format!("job_namespace_{s}")])
        .collect();
    world.signs(&older);
    world.refused(&gitlab().claim("ref_protected", "false"), "ref_protected");
    world.refused(
        &gitlab().claim("pipeline_source", "merge_request_event"),
        "pipeline_source",
    );
    // A fork's job.
    world.refused(&gitlab().claim("job_project_id", "816"), "job_project_id");
    world.refused(&gitlab().claim("project_id", "816"), "project_id");
}
