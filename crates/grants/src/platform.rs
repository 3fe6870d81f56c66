//! What is known of each CI platform's claims: which are ids that never change hands, which pin
//! the code that ran, and which values mean that unreviewed code ran.

use serde_json::{Map, Value};

/// A CI platform, told by its issuer's URL.
///
/// Self-managed instances (GitLab, Jenkins, Kubernetes clusters) cannot be told by URL and are
/// [`Platform::Unknown`]; the guards still apply to them, since those go by the token's claims.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Platform {
    /// GitHub Actions: github.com, an enterprise's own issuer, data residency, or GHES.
    GitHub,
    /// gitlab.com.
    GitLab,
    /// Buildkite: one issuer shared by all organisations.
    Buildkite,
    /// CircleCI.
    CircleCi,
    /// Azure Pipelines.
    AzurePipelines,
    /// Google service accounts.
    Google,
    /// Anything else.
    Unknown,
}

/// Claims whose values are names that can be renamed, re-registered or chosen by an attacker.
/// None of them, nor all of them together, says who the caller is.
const MUTABLE_NAMES: &[&str] = &[
    "actor",
    "base_ref",
    "branch",
    "email",
    "environment",
    "event_name",
    "head_ref",
    "job_workflow_ref",
    "name",
    "namespace_path",
    "organization_slug",
    "pipeline_slug",
    "pipeline_source",
    "preferred_username",
    "project_path",
    "ref",
    "ref_path",
    "ref_protected",
    "ref_type",
    "repository",
    "repository_owner",
    "repository_visibility",
    "rpo_uri",
    "runner_environment",
    "user_email",
    "user_login",
    "workflow",
    "workflow_ref",
    "/kubernetes.io/namespace",
    "/kubernetes.io/serviceaccount/name",
];

impl Platform {
    /// Tells the platform from the issuer's URL (standards: CI identity §1).
    #[must_use]
    pub fn of_issuer(issuer: &str) -> Self {
        let Some(rest) = issuer.strip_prefix("https://") else {
            return Self::Unknown;
        };
        let (host, path) = rest.split_once('/').unwrap_or((rest, ""));
        let residency = host
            .strip_prefix("token.actions.")
            .and_then(|h| h.strip_suffix(".ghe.com"))
            .is_some_and(|sub| !sub.is_empty());
        if host == "token.actions.githubusercontent.com" || residency || path == "_services/token" {
            Self::GitHub
        } else if host == "gitlab.com" {
            Self::GitLab
        } else if host == "agent.buildkite.com" {
            Self::Buildkite
        } else if host == "oidc.circleci.com" {
            Self::CircleCi
        } else if host == "vstoken.dev.azure.com" {
            Self::AzurePipelines
        } else if host == "accounts.google.com" {
            Self::Google
        } else {
            Self::Unknown
        }
    }

    /// Claims of this platform that identify the caller for ever. A grant needs at least one.
    /// Empty for [`Platform::Unknown`], where any claim that is not a known name will do.
    #[must_use]
    pub const fn immutable_ids(self) -> &'static [&'static str] {
        match self {
            Self::GitHub => &["repository_id", "repository_owner_id", "enterprise_id"],
            Self::GitLab => &["project_id", "namespace_id"],
            Self::Buildkite => &["organization_id", "pipeline_id"],
            Self::CircleCi => &["oidc.circleci.com/project-id"],
            Self::AzurePipelines => &["prj_id", "def_id"],
            Self::Google => &["sub"],
            Self::Unknown => &[],
        }
    }

    /// Claims that pin *what ran* within the repository: a grant for GitHub needs at least one
    /// (CI identity §5.7), or every branch of the repository could sign. For GitLab the
    /// `ref_protected` guard already does it.
    #[must_use]
    pub const fn anchors(self) -> &'static [&'static str] {
        match self {
            Self::GitHub => &[
                "environment",
                "job_workflow_ref",
                "job_workflow_sha",
                "ref",
                "ref_protected",
                "workflow_ref",
                "workflow_sha",
            ],
            _ => &[],
        }
    }
}

/// Whether `claim` is a name that may come to mean somebody else.
pub(crate) fn is_mutable_name(claim: &str) -> bool {
    MUTABLE_NAMES.contains(&claim)
}

/// A guard that a token fails: which claim, what would have been accepted, what was seen.
pub(crate) struct GuardFailure {
    pub claim: &'static str,
    pub wanted: String,
    pub seen: Option<String>,
}

/// Runs the guards over a token. `named(claim)` says whether the grant names that claim itself, in
/// which case the exact comparison decides instead of the guard.
///
/// The guards go by the claims of the token, not by the issuer, so that self-managed instances and
/// enterprise issuers are covered. They can only refuse.
pub(crate) fn guard_failures(
    issuer: &str,
    claims: &Map<String, Value>,
    named: impl Fn(&str) -> bool,
) -> Vec<GuardFailure> {
    let text = |name: &str| scalar_text(claims.get(name));
    let platform = Platform::of_issuer(issuer);
    let mut failures = Vec::new();
    let mut refuse = |claim: &'static str, wanted: &str, seen: Option<String>| {
        failures.push(GuardFailure {
            claim,
            wanted: wanted.to_owned(),
            seen,
        });
    };

    // CI identity §2: these events run code or data of people outside the repository.
    if let Some(event) = text("event_name")
        && matches!(
            event.as_str(),
            "pull_request" | "pull_request_target" | "issue_comment" | "workflow_run"
        )
        && !named("event_name")
    {
        refuse(
            "event_name",
            "not a pull request, comment or chained run, unless the grant names it",
            Some(event),
        );
    }

    // CI identity §3. The shape is GitLab's alone: GitHub has no project_id or pipeline_source.
    let gitlab = platform == Platform::GitLab
        || (platform == Platform::Unknown
            && claims.contains_key("project_id")
            && claims.contains_key("pipeline_source"));
    if gitlab {
        if text("pipeline_source").as_deref() == Some("merge_request_event")
            && !named("pipeline_source")
        {
            refuse(
                "pipeline_source",
                "not merge_request_event, unless the grant names it",
                text("pipeline_source"),
            );
        }
        let protected = text("ref_protected");
        if protected.as_deref() != Some("true") && !named("ref_protected") {
            refuse("ref_protected", "true", protected);
        }
        // Since 18.3 the token also says where the job really runs: a fork's job differs.
        if claims.contains_key("job_project_id") && text("job_project_id") != text("project_id") {
            refuse(
                "job_project_id",
                "the same as project_id",
                text("job_project_id"),
            );
        }
    }

    // CI identity §4: somebody had a shell on this machine.
    if let Some(rerun) = text("oidc.circleci.com/ssh-rerun")
        && rerun != "false"
    {
        refuse("oidc.circleci.com/ssh-rerun", "false", Some(rerun));
    }
    failures
}

/// The text a claim is compared by: strings as they are, booleans and whole numbers as written
/// (CI identity §5.8: booleans arrive as strings on some platforms). Lists, objects, fractions and
/// null have none and match nothing.
pub(crate) fn scalar_text(value: Option<&Value>) -> Option<String> {
    match value? {
        Value::String(s) => Some(s.clone()),
        Value::Bool(b) => Some(b.to_string()),
        Value::Number(n) if n.is_i64() || n.is_u64() => Some(n.to_string()),
        _ => None,
    }
}

/// Finds a claim by name, or by JSON pointer (RFC 6901) where the name starts with a slash:
/// `/kubernetes.io/serviceaccount/uid`.
pub(crate) fn find<'a>(claims: &'a Map<String, Value>, name: &str) -> Option<&'a Value> {
    let Some(path) = name.strip_prefix('/') else {
        return claims.get(name);
    };
    let mut parts = path.split('/');
    let mut at = claims.get(&unescape(parts.next()?))?;
    for part in parts {
        at = at.as_object()?.get(&unescape(part))?;
    }
    Some(at)
}

fn unescape(part: &str) -> String {
    part.replace("~1", "/").replace("~0", "~")
}
