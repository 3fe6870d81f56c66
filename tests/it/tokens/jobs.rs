//! What a job's command line does with its token, and what an admin can learn of one.

use super::{job, now};
use crate::support::cli::Cli;
use crate::support::leaves::of_type;
use crate::support::{REPOSITORY, Stack, text};
use serde_json::{Value, json};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

/// The token files of a home.
fn token_files(cli: &Cli) -> Vec<PathBuf> {
    let dir = cli.home.join("tokens");
    assert_eq!(mode(&dir), 0o700);
    std::fs::read_dir(&dir)
        .expect("tokens")
        .map(|e| e.expect("entry").path())
        .collect()
}

fn mode(path: &Path) -> u32 {
    std::fs::metadata(path)
        .expect("metadata")
        .permissions()
        .mode()
        & 0o777
}

#[test]
fn a_jobs_second_sign_uses_the_kept_service_token() {
    let stack = Stack::shared();
    let admin = stack.tenant("tok-cache");
    stack.signer(&admin, "tok-cache/release", "ec-p256");
    let folder = stack.folder("tok-cache");
    let file = |name: &str| {
        let path = folder.join(name);
        std::fs::write(&path, name).expect("a file");
        text(&path)
    };
    let token = stack.job_token(REPOSITORY);
    let job = stack
        .cli("tok-cache-job")
        .env("COUNTERSIGN_ID_TOKEN", &token);
    let sign =
        |cli: &Cli, name: &str| cli.run(&["sign", "--signer", "tok-cache/release", &file(name)]);
    let first = sign(&job, "a.txt");
    assert_eq!(first.code, 0, "{first:?}");
    let files = token_files(&job);
    assert_eq!(files.len(), 1, "{files:?}");
    assert_eq!(mode(&files[0]), 0o600);
    let kept = std::fs::read_to_string(&files[0]).expect("token file");
    assert!(!kept.contains(&token), "the ID token itself is not kept");
    let second = sign(&job, "b.txt");
    assert_eq!(second.code, 0, "{second:?}");
    assert_eq!(token_files(&job), files);

    // Elsewhere, without that file, the token is used up.
    let thief = sign(
        &stack
            .cli("tok-cache-thief")
            .env("COUNTERSIGN_ID_TOKEN", &token),
        "c.txt",
    );
    assert_eq!(thief.code, 3, "{thief:?}");
    assert!(
        thief.says("used before") && thief.says("keep COUNTERSIGN_HOME"),
        "{thief:?}"
    );
    assert!(!folder.join("c.txt.p7s").exists());

    let leaves = admin.tenant_leaves(&stack.path("tok-cache-log"));
    let exchanged = of_type(&leaves, "token-exchanged");
    let by_job = exchanged
        .iter()
        .filter(|l| l["issuer"] == stack.platform.url())
        .count();
    assert_eq!(by_job, 1, "{exchanged:#?}");
}

#[test]
fn grants_explain_says_why_claim_by_claim() {
    let stack = Stack::shared();
    let admin = stack.tenant("tok-explain");
    stack.signer(&admin, "tok-explain/release", "ec-p256");
    let file = |name: &str, token: &str| {
        let path = stack.path(&format!("tok-explain-{name}.jwt"));
        std::fs::write(&path, token).expect("token file");
        text(&path)
    };
    let good = stack.job_token(REPOSITORY);
    let explain = |token: &str, more: &[&str]| {
        let args = [
            "grants",
            "explain",
            "tok-explain/release",
            "--token-file",
            token,
        ];
        admin.run(&[&args[..], more].concat())
    };

    let allowed = file("good", &good);
    let out = explain(&allowed, &["--content", "cms", "--digest", "sha-256"]);
    assert_eq!(out.code, 0, "{out:?}");
    assert!(out.stdout.starts_with("allowed, by grant "), "{out:?}");
    for line in [
        "ok  repository_id is \"4711\"",
        "ok  environment is \"release\"",
        "ok  (content type) is \"authenticode, cms\"",
    ] {
        assert!(out.stdout.contains(line), "{line} in {}", out.stdout);
    }

    let stranger = file("stranger", &stack.job_token("666"));
    let out = explain(&stranger, &[]);
    assert_eq!(out.code, 3, "{out:?}");
    assert!(
        out.stdout
            .contains("NO  repository_id: wants \"4711\", is \"666\""),
        "{out:?}"
    );
    assert!(
        out.stdout.contains("ok  environment is \"release\""),
        "{out:?}"
    );

    let content = explain(&allowed, &["--content", "raw-digest"]);
    assert_eq!(content.code, 3, "{content:?}");
    assert!(content.stdout.contains("NO  (content type)"), "{content:?}");

    let cased = stack
        .platform
        .mint(&job().claim("environment", "Release"))
        .expect("a token");
    let out = explain(&file("cased", &cased), &[]);
    assert_eq!(out.code, 3, "{out:?}");
    assert!(out.stdout.contains("(case counts)"), "{out:?}");

    // Right claims, wrong token.
    let old = stack
        .platform
        .mint(&job().claim("exp", now() - 100).claim("iat", now() - 400))
        .expect("a token");
    let out = explain(&file("old", &old), &[]);
    assert_eq!(out.code, 3, "{out:?}");
    assert!(
        out.stdout.contains("the token itself is not accepted") && out.says("expired"),
        "{out:?}"
    );

    let told = admin.run(&[
        "--json",
        "grants",
        "explain",
        "tok-explain/release",
        "--token-file",
        &stranger,
    ]);
    let told: Value = serde_json::from_str(&told.stdout).expect("JSON");
    assert_eq!(
        (&told["allowed"], &told["token"]["accepted"]),
        (&json!(false), &json!(true)),
        "{told}"
    );
    let steps = told["reasons"][0]["steps"].as_array().expect("steps");
    let step = steps
        .iter()
        .find(|s| s["claim"] == "repository_id")
        .expect("the claim");
    assert_eq!(
        (&step["wanted"], &step["seen"]),
        (&json!("4711"), &json!("666")),
        "{step}"
    );

    // Explaining used nothing up.
    stack.raw().exchanged("tok-explain", &good);
    // What is refused there is refused at the door, with no word of what a grant wants: the
    // command line shows what the token says.
    let out = stack
        .job("tok-explain-stranger", "666")
        .ends(3, &["sign", "--signer", "tok-explain/release", &allowed]);
    assert!(
        out.says("repository_id is \"666\"") && out.says("grants explain"),
        "{out:?}"
    );
    // Neither the words nor the value, quoted as everywhere: four bare digits may stand in a request id.
    assert!(!out.says("wants") && !out.says("\"4711\""), "{out:?}");
    // Who has business at another signer is refused at this one, with the same words as there.
    stack.let_in(&admin, "tok-explain", "666");
    let out = stack
        .job("tok-explain-other", "666")
        .ends(3, &["sign", "--signer", "tok-explain/release", &allowed]);
    assert!(
        out.says("NO  repository_id: wants \"4711\", is \"666\""),
        "{out:?}"
    );
}
