//! A file of SoftHSM's that a crash cut short: named, and no reason for anybody else to stop.

use crate::support::load::Signing;
use crate::support::{REPOSITORY, Stack};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// The object files of private keys below a folder.
fn private_keys(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            found.extend(private_keys(&path));
        } else if path.extension().is_some_and(|e| e == "object") {
            // Generation, then CKA_CLASS (0), a number (2): CKO_PRIVATE_KEY (3).
            let bytes = std::fs::read(&path).expect("an object");
            let number = |at: usize| {
                let part = bytes.get(at..at + 8)?;
                Some(u64::from_be_bytes(part.try_into().expect("eight")))
            };
            if (number(8), number(16), number(24)) == (Some(0), Some(2), Some(3)) {
                found.push(path);
            }
        }
    }
    found
}

#[test]
fn a_torn_object_of_the_token_is_named() {
    let mut stack = Stack::start();
    let tenants = ["torn", "whole"].map(|tenant| {
        let admin = stack.tenant(tenant);
        let name = format!("{tenant}/release");
        stack.signer(&admin, &name, "ec-p256");
        Signing::of(&stack, &name)
    });
    let send = |stack: &Stack, signing: &Signing, content: &str| {
        let token = stack.service_token(&signing.tenant, REPOSITORY);
        let ask = signing.ask(content);
        signing.send(&stack.raw(), &token, &ask).expect("an answer")
    };
    for signing in &tenants {
        assert_eq!(send(&stack, signing, "before").status, 200);
    }
    stack.stop_server();
    // Which token is whose is known from its pins alone: tear one, and see whose it was.
    let files = private_keys(&stack.path("service/data/tokens"));
    assert_eq!(files.len(), 2, "one for each tenant: {files:?}");
    let torn = &files[0];
    let bytes = std::fs::read(torn).expect("an object");
    std::fs::write(torn, &bytes[..bytes.len() / 2]).expect("half of it");
    stack.start_server(&[]);

    let answers = tenants.each_ref().map(|s| send(&stack, s, "after"));
    let refused: Vec<_> = answers.iter().filter(|a| a.status != 200).collect();
    assert_eq!(
        refused.len(),
        1,
        "one tenant's token, nobody else's: {answers:?}"
    );
    assert!(refused[0].status >= 500, "{refused:?}");
    refused[0].problem();
    let file = torn.file_name().expect("a name").to_string_lossy();
    let until = Instant::now() + Duration::from_secs(60);
    loop {
        let log = stack.server_log();
        if log
            .lines()
            .any(|l| l.contains("torn") && l.contains(&*file))
        {
            break;
        }
        assert!(Instant::now() < until, "the log does not name {file}");
        std::thread::sleep(Duration::from_millis(50));
    }
    // Restored, it signs again.
    stack.stop_server();
    std::fs::write(torn, &bytes).expect("the whole file");
    stack.start_server(&[]);
    for signing in &tenants {
        assert_eq!(send(&stack, signing, "restored").status, 200);
    }
}
