//! Orders at a CA that the service is connected to.

use super::{AUDIENCE, Scene, last_order, order, reasons, scene, set_mode, signs, state};
use crate::support::leaves::of_type;
use crate::support::openssl::openssl;
use crate::support::{REPOSITORY, SUBJECT, Stack, text};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use countersign_x509::cert::Certificate;
use serde_json::json;

#[test]
fn a_key_of_each_algorithm_is_enrolled_and_signs() {
    let stack = &scene().stack;
    let admin = stack.tenant("enrol-all");
    let folder = stack.folder("enrol-all");
    for algorithm in ["ec-p256", "ec-p384", "rsa-3072", "rsa-4096"] {
        let signer = format!("enrol-all/{algorithm}");
        let key = stack.key(&admin, &signer, algorithm);
        assert_eq!(state(&admin, &key), "generated");
        let (code, ordered) = order(&admin, &key, "demo");
        assert_eq!(
            (code, &ordered["state"]),
            (0, &json!("installed")),
            "{algorithm}: {ordered}"
        );
        assert_eq!(state(&admin, &key), "active");

        // The certificate is for the key that was born in the token, and openssl takes it.
        let chain = text(&folder.join(format!("{algorithm}.pem")));
        admin.ok(&["certificate", "show", &signer, "--out", &chain]);
        let shown = admin.json(&["keys", "show", &key]);
        assert_eq!(shown["algorithm"], algorithm);
        assert_eq!(shown["software"], true, "a SoftHSM key says so for ever");
        let leaf = &Certificate::chain_from_pem(&std::fs::read_to_string(&chain).expect("chain"))
            .expect("chain")[0];
        assert_eq!(
            STANDARD.encode(leaf.spki_der()),
            shown["spki"].as_str().expect("spki")
        );
        openssl(
            &folder,
            &[
                "verify",
                "-purpose",
                "any",
                "-CAfile",
                &stack.ca_roots(),
                "-untrusted",
                &chain,
                &chain,
            ],
        );
        signs(stack, &admin, &signer, &stack.ca_roots());

        // Each step stands in a log: the request's own signature among the key's uses.
        let leaves = admin.tenant_leaves(&stack.path("enrol-all-log"));
        let of_key = |kind: &str| {
            of_type(&leaves, kind)
                .into_iter()
                .filter(|l| l["key"] == key.as_str())
                .count()
        };
        for kind in [
            "key-generated",
            "key-appraised",
            "certificate-requested",
            "certificate-installed",
        ] {
            assert_eq!(of_key(kind), 1, "{kind} of {algorithm}");
        }
        let uses = admin.key_leaves(&key, &stack.path(&format!("enrol-all-{algorithm}-log")));
        assert_eq!(uses[0]["type"], "log-opened");
        let purposes: Vec<_> = of_type(&uses, "authorisation")
            .iter()
            .map(|l| l["purpose"].clone())
            .collect();
        assert_eq!(purposes, ["certificate-request", "signature"]);
    }
}

#[test]
fn what_is_changed_on_the_way_is_refused_with_reasons_in_the_cli_and_the_log() {
    let Scene { stack, mode, .. } = scene();
    let admin = stack.tenant("enrol-relay");
    let used = stack.key(&admin, "enrol-relay/used", "ec-p256");
    let (code, ordered) = order(&admin, &used, "relay");
    assert_eq!(code, 0, "unchanged it goes through: {ordered}");
    let used_order = ordered["reference"].as_str().expect("reference").to_owned();

    let key = stack.key(&admin, "enrol-relay/release", "ec-p256");
    let log = stack.path("enrol-relay-log");
    for (how, checks) in [
        ("tampered", &["csr-signature", "statement-signature"][..]),
        ("beside", &["statement-one"]),
        ("other-key", &["statement-request", "statement-key"]),
        ("naked", &["statement-present"]),
        ("audience", &["statement-audience"]),
        (&format!("replay:{used_order}"), &["order-unused"]),
        ("late:late", &["order-unexpired"]),
    ] {
        set_mode(mode, how);
        let (code, said) = order(&admin, &key, "relay");
        assert_eq!(code, 3, "{how}: {said}");
        assert_eq!(said["error"]["code"], "ca-refused", "{how}: {said}");
        let told = reasons(&said);
        let names: Vec<_> = told
            .iter()
            .filter_map(|r| r.split_once(':'))
            .map(|(n, _)| n)
            .collect();
        assert_eq!(names, checks, "{how}: {told:#?}");
        assert!(
            told.iter().all(|r| r.contains("rule: ")),
            "each names its rule: {told:#?}"
        );
        assert_eq!(state(&admin, &key), "appraised", "{how}");
        let kept = last_order(&admin, &key);
        assert_eq!(kept["state"], "refused", "{how}: {kept}");
        let leaf = admin.tenant_leaf(&log, "order-failed", |l| l["order"] == kept["id"]);
        for check in checks {
            let reason = leaf["reason"].as_str().unwrap_or_default();
            assert!(reason.contains(check), "{how}: {check} in {reason}");
        }
    }
    // A CA that takes its time: the order is kept, and waited for later.
    set_mode(mode, "slow");
    let slow = stack.key(&admin, "enrol-relay/slow", "ec-p256");
    let ask = [
        &[
            "--json",
            "certificate",
            "order",
            &slow,
            "--ca",
            "relay",
            "--wait",
            "1",
        ][..],
        &SUBJECT,
    ]
    .concat();
    let out = admin.ends(5, &ask);
    let kept = last_order(&admin, &slow);
    let id = kept["id"].as_str().expect("id");
    assert_eq!(kept["state"], "submitted", "{kept}");
    assert!(
        out.says(&format!("certificate wait --tenant enrol-relay {id}")),
        "{out:?}"
    );
    admin.ends(5, &["certificate", "wait", id, "--wait", "0"]);
    assert_eq!(state(&admin, &slow), "appraised");
    set_mode(mode, "pass");
    admin.ok(&["certificate", "wait", id]);
    assert_eq!(state(&admin, &slow), "active");
    // A person sees the same without --json.
    set_mode(mode, "naked");
    let out = admin.ends(
        3,
        &[
            &["certificate", "order", &key, "--ca", "relay"][..],
            &SUBJECT,
        ]
        .concat(),
    );
    assert!(
        out.stderr.contains("statement-present: a naked request"),
        "{out:?}"
    );
    // No certificate, no signing.
    stack.grant(&admin, "enrol-relay/release", &["cms"]);
    let file = stack.folder("enrol-relay").join("a.txt");
    std::fs::write(&file, "a").expect("a file");
    let sign = ["sign", "--signer", "enrol-relay/release", &text(&file)];
    stack.job("enrol-relay-early", REPOSITORY).ends(3, &sign);
    // And nothing of that has hurt the key.
    set_mode(mode, "pass");
    let (code, said) = order(&admin, &key, "relay");
    assert_eq!(
        (code, state(&admin, &key).as_str()),
        (0, "active"),
        "{said}"
    );
    stack.job("enrol-relay-job", REPOSITORY).ok(&sign);
    admin.ok(&["log", "audit", &text(&log)]);
}

#[test]
fn no_evidence_no_csr_and_a_software_key_needs_the_tenants_word() {
    let stack = &scene().stack;
    let admin = stack.tenant("enrol-policy");
    admin.ok(&["policy", "set", "--allow-software", "false"]);
    let key = stack.key(&admin, "enrol-policy/release", "ec-p256");
    let folder = stack.path("enrol-policy-request");
    let out_dir = text(&folder);
    let log = stack.path("enrol-policy-log");
    let tries: [Vec<&str>; 3] = [
        [
            &["certificate", "order", &key, "--ca", "demo"][..],
            &SUBJECT,
        ]
        .concat(),
        [
            &[
                "csr",
                "export",
                &key,
                "--ca-audience",
                AUDIENCE,
                "--out",
                &out_dir,
            ][..],
            &SUBJECT,
        ]
        .concat(),
        vec!["keys", "appraise", &key],
    ];
    for args in &tries {
        let out = admin.ends(3, args);
        assert!(
            out.says("software-key-policy") && out.says("allow-software is off"),
            "{out:?}"
        );
    }
    assert!(!folder.exists(), "nothing was written");
    assert_eq!(state(&admin, &key), "generated");
    // The key was never used, no CA was asked, and the refusals stand in the tenant's log.
    let uses = admin.key_leaves(&key, &stack.path("enrol-policy-key-log"));
    assert_eq!(uses.len(), 1, "{uses:#?}");
    let denied = admin.tenant_leaf(&log, "denied", |l| l["signer"] == "release");
    assert!(
        denied["reason"]
            .as_str()
            .is_some_and(|r| r.contains("software-key-policy")),
        "{denied}"
    );
    assert!(of_type(&admin.tenant_leaves(&log), "certificate-requested").is_empty());

    // The tenant may say otherwise, and take it back: a key that was appraised before is asked again.
    admin.ok(&["policy", "set", "--allow-software", "true"]);
    admin.ok(&["keys", "appraise", &key]);
    assert_eq!(state(&admin, &key), "appraised");
    admin.ok(&["policy", "set", "--allow-software", "false"]);
    admin.ends(3, &tries[0]);
    admin.ends(3, &tries[1]);
    assert!(!folder.exists());

    // A connector that takes no software keys gets none, whatever the tenant says.
    admin.ok(&["policy", "set", "--allow-software", "true"]);
    let (code, said) = order(&admin, &key, "hard");
    assert_eq!(code, 3, "{said}");
    assert!(reasons(&said)[0].starts_with("software-key:"), "{said}");
    assert_eq!(
        admin
            .key_leaves(&key, &stack.path("enrol-policy-key-log"))
            .len(),
        1
    );
    admin.tenant_leaf(&log, "denied", |l| {
        l["reason"]
            .as_str()
            .is_some_and(|r| r.contains("software-key:") || r.ends_with("software-key"))
    });
    // A connector that there is not.
    admin.ends(
        64,
        &[
            &["certificate", "order", &key, "--ca", "nobody"][..],
            &SUBJECT,
        ]
        .concat(),
    );
}

#[test]
fn a_ca_that_misbehaves_is_noticed_and_one_that_is_down_is_waited_for() {
    let mut stack = Stack::start();
    let admin = stack.tenant("enrol-bad-ca");
    let key = stack.key(&admin, "enrol-bad-ca/release", "ec-p256");
    let log = stack.path("enrol-bad-ca-log");
    for (how, finding) in [
        ("wrong-key", "public-key: "),
        ("too-long", "validity-period: "),
        ("no-policy", "reserved-policy: "),
    ] {
        stack.start_ca(&["--test-misbehave", how]);
        let admin = stack.person("enrol-bad-ca-admin", Some("enrol-bad-ca"));
        let (code, said) = order(&admin, &key, "demo");
        assert_eq!(
            (code, &said["error"]["code"]),
            (3, &json!("certificate-rejected")),
            "{how}: {said}"
        );
        assert!(
            reasons(&said).iter().any(|r| r.starts_with(finding)),
            "{how}: {said}"
        );
        assert_eq!(state(&admin, &key), "appraised", "{how}: not installed");
        admin.ends(4, &["certificate", "show", "enrol-bad-ca/nobody"]);
        assert_eq!(last_order(&admin, &key)["state"], "refused", "{how}");
        admin.tenant_leaf(&log, "certificate-refused", |l| {
            l["key"] == key.as_str() && l["reason"].as_str().is_some_and(|r| r.contains(finding))
        });
        assert!(
            of_type(&admin.tenant_leaves(&log), "certificate-installed").is_empty(),
            "{how}"
        );
    }
    // Down by its own word, and not there at all.
    stack.start_ca(&["--test-misbehave", "down"]);
    let admin = stack.person("enrol-bad-ca-admin", Some("enrol-bad-ca"));
    let (code, said) = order(&admin, &key, "demo");
    assert_eq!(
        (code, &said["error"]["code"]),
        (5, &json!("ca-unavailable")),
        "{said}"
    );
    let kept = last_order(&admin, &key);
    assert_eq!(
        (&kept["state"], &kept["ca"]),
        (&json!("opened"), &json!("demo")),
        "{kept}"
    );
    assert!(
        kept["problem"].as_str().is_some_and(|p| p.contains("503")),
        "{kept}"
    );
    stack.stop_ca();
    let (code, said) = order(&admin, &key, "demo");
    assert_eq!(code, 5, "{said}");
    let gone = last_order(&admin, &key);
    assert_ne!(gone["id"], kept["id"]);
    admin.tenant_leaf(&log, "order-failed", |l| l["order"] == gone["id"]);

    // Later it is back: an order goes through, and the old ones stand as they were.
    stack.start_ca(&[]);
    let admin = stack.person("enrol-bad-ca-admin", Some("enrol-bad-ca"));
    let (code, said) = order(&admin, &key, "demo");
    assert_eq!((code, &said["state"]), (0, &json!("installed")), "{said}");
    assert_eq!(state(&admin, &key), "active");
    let shown = admin.json(&["keys", "show", &key]);
    let states: Vec<_> = shown["orders"]
        .as_array()
        .expect("orders")
        .iter()
        .map(|o| o["state"].clone())
        .collect();
    assert_eq!(
        states,
        [
            "installed",
            "opened",
            "opened",
            "refused",
            "refused",
            "refused"
        ]
    );
    signs(&stack, &admin, "enrol-bad-ca/release", &stack.ca_roots());
    admin.ok(&["log", "audit", &text(&log)]);
}
