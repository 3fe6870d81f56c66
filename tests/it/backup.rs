//! The backup page, done to the letter: its own commands, while the service signs; the machine lost; its own commands
//! on an empty one. Everything that was ever answered audits, and signing goes on.

use crate::docs::markdown::Page;
use crate::support::load::{Load, Signing, judge, logs};
use crate::support::{REPOSITORY, Stack, copy_exe, text};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

/// The tag of the page's blocks that this test runs.
const OURS: &str = "rehearsed-by-tests/it/backup.rs";

#[test]
fn a_machine_is_lost_and_the_backup_page_brings_everything_back() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("the source tree");
    let page = Page::read(root, "docs/operators/backup.md");
    let blocks: Vec<_> = page
        .blocks
        .iter()
        .filter(|b| b.skip.as_deref() == Some(OURS))
        .map(|b| b.text.clone())
        .collect();
    let [keys, tokens_and_database, restore] = blocks.as_slice() else {
        panic!("the page has {} blocks for this test", blocks.len());
    };

    let mut stack = Stack::start();
    let admin = stack.tenant("backup");
    stack.signer(&admin, "backup/release", "ec-p256");
    stack.signer(&admin, "backup/other", "rsa-3072");
    let receipts = stack.folder("backup-receipts");
    let mut load = Load::new(vec![
        Signing::of(&stack, "backup/release"),
        Signing::of(&stack, "backup/other"),
    ]);
    run(&stack, keys);

    // A backup while four callers sign is a whole database, of some moment in between.
    load.more(200);
    let done = std::thread::scope(|scope| {
        let working = scope.spawn(|| load.run(&stack, Duration::from_secs(120)));
        std::thread::sleep(Duration::from_millis(100));
        run(&stack, tokens_and_database);
        working.join().expect("the callers")
    });
    assert!(done, "not all was signed in time");
    load.more(8);
    assert!(load.run(&stack, Duration::from_secs(60)));
    let early = stack.path("media/backup");
    assert_eq!(sqlite(&early, "PRAGMA integrity_check"), "ok");
    let of_then: u64 = sqlite(&early, "SELECT sum(size) FROM logs")
        .parse()
        .expect("a number");
    std::fs::rename(&early, stack.path("media/early")).expect("kept apart");

    // The last backup, as new as the last signature; then the machine is lost.
    let before = logs(&admin, &stack.path("backup-before"));
    run(&stack, tokens_and_database);
    let of_now: u64 = sqlite(&stack.path("media/backup"), "SELECT sum(size) FROM logs")
        .parse()
        .expect("a number");
    assert!(of_then < of_now, "{of_then} {of_now}");
    let signed: usize = before.iter().map(|l| l.results("signed")).sum();
    assert!(signed >= 208, "{signed}");
    stack.kill_server();
    std::fs::remove_dir_all(stack.path("service/data")).expect("lost");
    for key in ["sealing.key", "worker.key"] {
        std::fs::remove_file(stack.path("service").join(key)).expect("lost");
    }
    assert!(
        !stack.try_start_server(&[]),
        "nothing starts without keys and database"
    );

    run(&stack, restore);
    stack.start_server(&[]);
    assert_eq!(stack.raw().get("/readyz", None).status, 200);

    // Signing goes on, in the same logs, with the same keys, for a pipeline that pinned them before.
    load.more(8);
    assert!(
        load.run(&stack, Duration::from_secs(60)),
        "signing does not go on"
    );
    let folder = stack.folder("backup-files");
    let exe = copy_exe(&folder, "app.exe", "t64.exe");
    let job = stack.job("backup-job", REPOSITORY);
    job.ok(&[
        "sign",
        "--signer",
        "backup/release",
        "--receipt-dir",
        &text(&receipts),
        &text(&exe),
    ]);
    let admin = stack.person("backup-admin", Some("backup"));
    let released = load.finish();
    assert_eq!(released.len(), 216);
    // Into the folders of before: the log must continue what was downloaded then.
    let all = logs(&admin, &stack.path("backup-before"));
    judge(&admin, &all, &released, &receipts);
}

/// The page's commands, with this stack's folders in place of the machine's.
fn run(stack: &Stack, commands: &str) {
    let commands = commands
        .replace("/etc/countersign", &text(&stack.path("service")))
        .replace("/var/lib/countersign", &text(&stack.path("service/data")))
        .replace("/media/", &text(&stack.path("media/")));
    let out = Command::new("bash")
        .args(["-euo", "pipefail", "-c", &commands])
        .output()
        .expect("bash runs");
    assert!(
        out.status.success(),
        "{commands}\n{}{}",
        String::from_utf8_lossy(&out.stdout),
        String::from_utf8_lossy(&out.stderr)
    );
}

fn sqlite(folder: &Path, sql: &str) -> String {
    let program = "import sqlite3, sys\nprint(sqlite3.connect(sys.argv[1]).execute(sys.argv[2]).fetchone()[0])";
    let out = Command::new("python3")
        .args(["-c", program])
        .arg(folder.join("countersign.db"))
        .arg(sql)
        .output()
        .expect("python3 runs");
    assert!(
        out.status.success(),
        "{}",
        String::from_utf8_lossy(&out.stderr)
    );
    String::from_utf8_lossy(&out.stdout).trim().to_owned()
}
