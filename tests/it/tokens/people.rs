//! People: roles, the second factor, a login on another device.

use crate::support::cli::Cli;
use crate::support::leaves::of_type;
use crate::support::{PEOPLE_AUDIENCE, REPOSITORY, Stack, text};
use countersign_testkit::issuer::{Issuer, ServeOptions, TokenSpec};
use serde_json::{Value, json};

/// Somebody with a home of their own, logged in with this token.
fn logged_in(home: &str, spec: TokenSpec, tenant: Option<&str>) -> Cli {
    let stack = Stack::shared();
    let file = stack.path(&format!("{home}.jwt"));
    std::fs::write(&file, stack.people.mint(&spec).expect("a token")).expect("token file");
    let cli = stack.cli(home);
    let cli = match tenant {
        Some(t) => cli.of(t),
        None => cli,
    };
    cli.ok(&["login", "--token-file", &text(&file)]);
    cli
}

#[test]
fn administration_wants_a_second_factor_and_the_role() {
    let stack = Stack::shared();
    let admin = stack.tenant("tok-roles");
    let create = [
        "signers",
        "create",
        "tok-roles/release",
        "--algorithm",
        "ec-p256",
    ];

    // The admin, but without a second factor.
    let weak = logged_in(
        "tok-roles-weak",
        TokenSpec::new("tok-roles-admin", PEOPLE_AUDIENCE),
        Some("tok-roles"),
    );
    weak.ok(&["keys", "list"]);
    let out = weak.ends(3, &[&["--json"][..], &create].concat());
    let told: Value = serde_json::from_str(&out.stdout).expect("JSON");
    assert_eq!(told["error"]["code"], "mfa-required", "{told}");
    assert!(
        weak.ends(3, &create)
            .says("log in again with a second factor")
    );
    // An `amr` that is not one of the issuer's second factors is none.
    let otherwise = TokenSpec::new("tok-roles-admin", PEOPLE_AUDIENCE).claim("amr", json!(["pwd"]));
    logged_in("tok-roles-pwd", otherwise, Some("tok-roles")).ends(3, &create);
    // The operator's own actions want it too.
    let operator = logged_in(
        "tok-roles-olga",
        TokenSpec::new("olga", PEOPLE_AUDIENCE),
        None,
    );
    operator.ends(3, &["admin", "tenant", "list"]);

    // An auditor reads all and changes nothing.
    admin.ok(&[
        "members",
        "add",
        "--issuer",
        stack.people.url(),
        "--subject",
        "ada",
        "--role",
        "auditor",
    ]);
    let ada = stack.person("ada", Some("tok-roles"));
    assert_eq!(ada.json(&["whoami"])["roles"], json!(["auditor"]));
    admin.ok(&create);
    let key = admin.json(&["keys", "create", "tok-roles/release"])["id"]
        .as_str()
        .unwrap()
        .to_owned();
    for read in [
        &["keys", "list"][..],
        &["keys", "show", &key],
        &["signers", "list"],
        &["grants", "list"],
        &["members", "list"],
        &["issuers", "list"],
        &["policy", "show"],
        &["log", "list"],
    ] {
        ada.ok(read);
    }
    let log = text(&stack.path("tok-roles-ada"));
    ada.ok(&["log", "download", "--all", "--out", &log]);
    let claim = format!("repository_id={REPOSITORY}");
    for change in [
        &[
            "signers",
            "create",
            "tok-roles/other",
            "--algorithm",
            "ec-p256",
        ][..],
        &["keys", "create", "tok-roles/release"],
        &["keys", "retire", &key, "--reason", "no"],
        &["policy", "set", "--require-mfa", "false"],
        &[
            "members",
            "add",
            "--issuer",
            stack.people.url(),
            "--subject",
            "ada",
            "--role",
            "admin",
        ],
        &[
            "grants",
            "add",
            "tok-roles/release",
            "--issuer",
            stack.platform.url(),
            "--claim",
            &claim,
            "--claim",
            "environment=release",
            "--content",
            "cms",
        ],
        &[
            "csr",
            "export",
            &key,
            "--ca-audience",
            "x",
            "--common-name",
            "A",
            "--organization",
            "A",
            "--country",
            "US",
            "--out",
            &log,
        ],
    ] {
        let out = ada.ends(3, change);
        assert!(out.says("admin"), "it says which role is missing: {out:?}");
    }
    assert_eq!(
        admin.json(&["members", "list"]).as_array().map(Vec::len),
        Some(2)
    );

    // Who tried, and why not, stands in the tenant's log.
    let log = stack.path("tok-roles-log");
    for reason in ["mfa-required", "role-missing"] {
        admin.tenant_leaf(&log, "denied", |l| {
            l["reason"] == reason && l.get("signer").is_none()
        });
    }
    let shown = admin.json(&["log", "show", &text(&log)]);
    let leaf = shown["leaves"]
        .as_array()
        .expect("leaves")
        .iter()
        .find(|l| l["leaf"]["reason"] == "role-missing");
    let detail = leaf
        .and_then(|l| l["details"]["detail"].as_str())
        .unwrap_or_default();
    assert!(detail.contains("\"subject\":\"ada\""), "{leaf:?}");

    // No role: no session. A role that was taken is gone at once, whatever session is open.
    let mallory = stack.path("tok-roles-mallory.jwt");
    let spec = TokenSpec::new("mallory", PEOPLE_AUDIENCE).mfa();
    std::fs::write(&mallory, stack.people.mint(&spec).expect("a token")).expect("token file");
    let out = stack
        .cli("tok-roles-mallory")
        .of("tok-roles")
        .ends(3, &["login", "--token-file", &text(&mallory)]);
    assert!(out.says("not accepted here"), "{out:?}");
    admin.ok(&[
        "members",
        "remove",
        "--issuer",
        stack.people.url(),
        "--subject",
        "ada",
        "--role",
        "auditor",
    ]);
    ada.ends(3, &["keys", "list"]);
    // A pipeline has no role, and no grant gives it one.
    stack.grant(&admin, "tok-roles/release", &["cms"]);
    stack
        .job("tok-roles-job", REPOSITORY)
        .of("tok-roles")
        .ends(3, &["keys", "list"]);

    // The tenant may do without a second factor, by a decision in its log.
    admin.ok(&["policy", "set", "--require-mfa", "false"]);
    weak.ok(&[
        "signers",
        "create",
        "tok-roles/weak",
        "--algorithm",
        "ec-p256",
    ]);
    let leaves = admin.tenant_leaves(&log);
    assert_eq!(
        of_type(&leaves, "policy-set").last().expect("policy")["require_mfa"],
        false
    );
}

#[test]
fn a_person_logs_in_with_a_code_on_another_device() {
    let stack = Stack::shared();
    let admin = stack.tenant("tok-device");
    let person = TokenSpec::new("dora", "").mfa();
    let options = ServeOptions {
        auto_approve: Some(person),
        ..ServeOptions::default()
    };
    let issuer =
        Issuer::start(&stack.path("tok-device-issuer"), "127.0.0.1:0", options).expect("an issuer");
    let ca = text(&issuer.ca_file());
    let login = [
        "login",
        "--issuer",
        issuer.url(),
        "--issuer-ca-file",
        &ca,
        "--audience",
        "tok-device",
    ];
    let dora = stack.cli("tok-device-dora").of("tok-device");
    // The issuer says yes, the tenant does not know it.
    let out = dora.ends(3, &login);
    assert!(
        out.says("not accepted here") && out.says(issuer.url()) && out.says("issuers list"),
        "the service says no more than no, the command line shows the token's own words: {out:?}"
    );
    admin.ok(&[
        "issuers",
        "add",
        "--kind",
        "people",
        "--issuer",
        issuer.url(),
        "--audience",
        "tok-device",
        "--issuer-ca-file",
        &ca,
        "--mfa-amr",
        "mfa",
        "--client-id",
        "countersign",
    ]);
    admin.ok(&[
        "members",
        "add",
        "--issuer",
        issuer.url(),
        "--subject",
        "dora",
        "--role",
        "admin",
    ]);
    let out = dora.ok(&login);
    assert!(
        out.stderr.contains("/device?user_code="),
        "it shows where to approve: {out:?}"
    );
    let me = dora.json(&["whoami"]);
    assert_eq!(me["subject"], "dora", "{me}");
    assert_eq!(me["issuer"], issuer.url(), "{me}");
    assert_eq!(
        (&me["roles"], &me["mfa"]),
        (&json!(["admin"]), &json!(true)),
        "{me}"
    );
    dora.ok(&[
        "signers",
        "create",
        "tok-device/release",
        "--algorithm",
        "ec-p256",
    ]);
}
