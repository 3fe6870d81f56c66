//! Histories set back: found out by whoever remembers the other one.

use super::settled;
use crate::support::judges::{copy_dir, verify_log_py};
use crate::support::{PEOPLE_AUDIENCE, REPOSITORY, Stack, copy_exe, text};
use countersign_testkit::issuer::TokenSpec;

#[test]
fn a_machine_set_back_to_yesterday_is_found_out() {
    let mut stack = Stack::start();
    let admin = stack.tenant("rewound");
    let key = stack.signer(&admin, "rewound/release", "ec-p256");
    let files = stack.folder("files");
    let sign = |stack: &Stack, name: &str, exe: &str, code: i32| {
        let file = text(&copy_exe(&files, name, exe));
        // One home: what it has seen it remembers.
        stack
            .job("job", REPOSITORY)
            .ends(code, &["sign", "--signer", "rewound/release", &file])
    };
    settled(&admin, &key, 0);
    stack.stop_server();
    let yesterday = stack.path("yesterday");
    copy_dir(&stack.path("service/data"), &yesterday);
    stack.start_server(&[]);
    sign(&stack, "one.exe", "t64.exe", 0);
    settled(&admin, &key, 1);
    let today = stack.path("today");
    admin.ok(&["log", "download", "--all", "--out", &text(&today)]);
    admin.ok(&["log", "audit", &text(&today.join(&key))]);

    // The whole machine, database and token folders: no worker remembers either.
    stack.stop_server();
    std::fs::remove_dir_all(stack.path("service/data")).expect("rm");
    copy_dir(&yesterday, &stack.path("service/data"));
    stack.start_server(&[]);
    let admin = stack.person("rewound-admin", Some("rewound"));
    let out = sign(&stack, "two.exe", "t32.exe", 1);
    assert!(out.says("SPLIT VIEW"), "{out:?}");
    settled(&admin, &key, 1);
    let out = admin.run(&[
        "log",
        "download",
        "--key",
        &key,
        "--out",
        &text(&today.join(&key)),
    ]);
    assert_eq!(out.code, 1, "{out:?}");
    assert!(
        out.says("SPLIT VIEW") || out.says("had 5 leaves"),
        "{out:?}"
    );
    // Somebody who has seen nothing is shown a history that is true in itself …
    let fresh = stack.path("fresh");
    let newcomer = stack.person_with(
        TokenSpec::new("rewound-admin", PEOPLE_AUDIENCE)
            .mfa()
            .claim("nonce", "2"),
        Some("rewound"),
    );
    let newcomer = newcomer.env("COUNTERSIGN_HOME", &text(&stack.path("home/newcomer")));
    let id = stack
        .people
        .mint(
            &TokenSpec::new("rewound-admin", PEOPLE_AUDIENCE)
                .mfa()
                .claim("nonce", "3"),
        )
        .expect("token");
    std::fs::write(stack.path("newcomer.jwt"), id).expect("token");
    newcomer.ok(&["login", "--token-file", &text(&stack.path("newcomer.jwt"))]);
    newcomer.ok(&["log", "download", "--key", &key, "--out", &text(&fresh)]);
    newcomer.ok(&["log", "audit", &text(&fresh)]);
    // … and whoever remembers the other one says so: the auditor, a receipt, an old checkpoint.
    let out = admin.ends(1, &["log", "audit", &text(&fresh)]);
    assert!(out.says("BAD"), "{out:?}");
    let old = text(&today.join(&key).join("checkpoint"));
    newcomer.ends(1, &["log", "audit", &text(&fresh), "--since", &old]);
    newcomer.ends(
        1,
        &["log", "audit", &text(&fresh), "--receipts", &text(&files)],
    );
    let (code, said) = verify_log_py(&fresh, &["--previous", &old]);
    assert_eq!(code, 1, "{said}");
}
