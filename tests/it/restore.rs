//! A restored old database writes nothing, says by how much it is behind, and the newer one heals it
//! (design invariant 3). A worker without its memory signs nothing.

use crate::support::load::{Signing, judge, logs};
use crate::support::{REPOSITORY, Stack, cli::Cli, text};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

#[test]
fn a_restored_old_database_is_refused_and_the_newer_one_heals() {
    let mut stack = Stack::start();
    let admin = stack.tenant("restore");
    let key = stack.signer(&admin, "restore/release", "ec-p256");
    let folder = stack.folder("restore");
    let receipts = stack.folder("restore-receipts");
    let job = stack.job("restore-job", REPOSITORY);
    let sign = |cli: &Cli, name: &str| {
        let file = text(&folder.join(name));
        std::fs::write(&file, name).expect("a file");
        cli.run(&[
            "sign",
            "--signer",
            "restore/release",
            "--receipt-dir",
            &text(&receipts),
            &file,
        ])
    };
    assert_eq!(sign(&job, "before").code, 0);
    let signing = Signing::of(&stack, "restore/release");
    let token = stack.service_token("restore", REPOSITORY);

    // A copy with an authorisation in flight: recovery of the old copy must not close it either.
    let copy = stack.folder("backup");
    stack.stop_server();
    stack.start_server(&[("COUNTERSIGN_FAILPOINTS", "server.before-worker=abort")]);
    let ask = signing.ask("in-flight");
    signing
        .send(&stack.raw(), &token, &ask)
        .expect_err("the server dies");
    assert!(stack.server_ended(Duration::from_secs(10)));
    copy_database(&stack.path("service/data"), &copy);

    stack.start_server(&[]);
    for n in 0..5 {
        let out = sign(&job, &format!("after-{n}"));
        assert_eq!(out.code, 0, "{out:?}");
    }
    // Outcome of the one in flight, then a leaf and an outcome for each: all are in the newer copy.
    let newer_logs = logs(&admin, &stack.path("restore-newer"));
    let newer_size = key_log(&newer_logs).leaves.len() as u64;
    stack.stop_server();
    let newer = stack.folder("newer");
    copy_database(&stack.path("service/data"), &newer);

    // The old copy.
    put_database(&copy, &stack.path("service/data"));
    stack.start_server(&[]);
    let out = sign(&job, "refused");
    assert_eq!(out.code, 5, "{out:?}");
    assert!(out.says("older than the last signature"), "{out:?}");
    let old_size = old_leaves(&stack, &key);
    let remembered = number_after(&out.stderr, "the worker has seen ");
    assert_eq!(
        number_after(&out.stderr, "the database has "),
        old_size,
        "{out:?}"
    );
    assert!(
        remembered > old_size && remembered <= newer_size,
        "{old_size} {newer_size}: {out:?}"
    );
    assert!(!folder.join("refused.p7s").exists());
    let answer = signing
        .send(&stack.raw(), &token, &signing.ask("raw"))
        .expect("an answer");
    assert_eq!(
        (answer.status, answer.problem().as_str()),
        (503, "history-rewound")
    );
    assert_eq!(answer.json()["retryable"], false);
    // Not ready, alive, and in the log by how many leaves it is behind.
    let ready = stack.raw().get("/readyz", None);
    assert_eq!(
        (ready.status, &ready.json()["database"]),
        (503, &"older than the last signature".into())
    );
    assert_eq!(stack.raw().get("/healthz", None).status, 200);
    let said = stack.server_log();
    let line = said
        .lines()
        .find(|l| l.contains("the database is an old copy"))
        .expect("it is in the log");
    assert!(
        line.contains(&format!("\"behind\":{}", remembered - old_size)),
        "{line}"
    );
    // No other log moved either: a tenant's log would contradict checkpoints that people have.
    let before = text(&stack.path("service/data/countersign.db"));
    let grown = admin.run(&[
        "grants",
        "add",
        "restore/release",
        "--issuer",
        stack.platform.url(),
        "--claim",
        "repository_id=1",
        "--content",
        "cms",
        "--digest",
        "sha-256",
    ]);
    assert_eq!(grown.code, 5, "{grown:?} {before}");
    stack.stop_server();
    let unchanged = log_sizes(&stack.path("service/data"));
    put_database(&copy, &stack.folder("look"));
    assert_eq!(
        unchanged,
        log_sizes(&stack.path("look")),
        "the old copy wrote nothing"
    );

    // The newer one again.
    put_database(&newer, &stack.path("service/data"));
    stack.start_server(&[]);
    assert_eq!(stack.raw().get("/readyz", None).status, 200);
    let out = sign(&job, "healed");
    assert_eq!(out.code, 0, "{out:?}");
    let all = logs(&admin, &stack.path("restore-logs"));
    let log = key_log(&all);
    let attempts = log.of(&ask.tbs);
    assert_eq!(attempts.len(), 1);
    assert_eq!(log.outcome(attempts[0].0)["result"], "unknown");
    judge(&admin, &all, &[], &receipts);
}

#[test]
fn a_worker_without_its_memory_of_a_log_signs_nothing() {
    let mut stack = Stack::start();
    let admin = stack.tenant("amnesia");
    let key = stack.signer(&admin, "amnesia/release", "ec-p256");
    let other = stack.signer(&admin, "amnesia/other", "ec-p256");
    let signing = Signing::of(&stack, "amnesia/release");
    let sibling = Signing::of(&stack, "amnesia/other");
    let token = stack.service_token("amnesia", REPOSITORY);
    let first = signing
        .send(&stack.raw(), &token, &signing.ask("one"))
        .expect("an answer");
    assert_eq!(first.status, 200);
    stack.stop_server();
    let state = find(
        &stack.path("service/data/tokens"),
        &format!("logs/{key}.json"),
    );
    let edge = std::fs::read(&state).expect("the right edge");
    std::fs::remove_file(&state).expect("removed");

    stack.start_server(&[]);
    let answer = signing
        .send(&stack.raw(), &token, &signing.ask("two"))
        .expect("an answer");
    assert_eq!(
        (answer.status, answer.problem().as_str()),
        (503, "token-refuses")
    );
    assert!(
        answer.json()["detail"]
            .as_str()
            .is_some_and(|d| d.contains("memory of this key's log is gone")),
        "{}",
        answer.json()
    );
    let cli = stack.job("amnesia-job", REPOSITORY);
    let file = text(&stack.path("amnesia.bin"));
    std::fs::write(&file, "x").expect("a file");
    let out = cli.run(&["sign", "--signer", "amnesia/release", &file]);
    assert_eq!(out.code, 5, "{out:?}");
    assert!(
        stack
            .server_log()
            .contains("the memory of a key's log is gone")
    );
    // The other key of the same token signs.
    let answer = sibling
        .send(&stack.raw(), &token, &sibling.ask("three"))
        .expect("an answer");
    assert_eq!(answer.status, 200, "{other}: {answer:?}");
    stack.stop_server();

    // Nothing was authorised while it was refused, and with the memory back the key signs.
    std::fs::write(&state, edge).expect("put back");
    stack.start_server(&[]);
    let token = stack.service_token("amnesia", REPOSITORY);
    let ask = signing.ask("four");
    let answer = signing.send(&stack.raw(), &token, &ask).expect("an answer");
    assert_eq!(answer.status, 200, "{answer:?}");
    let all = logs(&admin, &stack.path("amnesia-logs"));
    let released = signing.released(&ask, &answer);
    let log = all
        .iter()
        .find(|l| l.origin == released.origin)
        .expect("the key's log");
    assert!(
        log.of(&signing.ask("two").tbs).is_empty(),
        "refused before an authorisation was written"
    );
    judge(&admin, &all, &[released], &stack.folder("amnesia-receipts"));
}

/// kill -9 of countersignd: the worker notices, stops by itself, and its right edge is on disk.
#[test]
fn a_worker_whose_server_was_killed_writes_its_memory_and_ends() {
    let mut stack = Stack::start();
    let admin = stack.tenant("orphaned");
    let key = stack.signer(&admin, "orphaned/release", "ec-p256");
    let signing = Signing::of(&stack, "orphaned/release");
    let token = stack.service_token("orphaned", REPOSITORY);
    let answer = signing
        .send(&stack.raw(), &token, &signing.ask("one"))
        .expect("an answer");
    let index = signing.released(&signing.ask("one"), &answer).index;
    let workers = stack.worker_pids();
    stack.kill_server();
    let until = Instant::now() + Duration::from_secs(60);
    while workers
        .iter()
        .any(|p| Path::new(&format!("/proc/{p}")).exists())
    {
        assert!(Instant::now() < until, "a worker outlives its server");
        std::thread::sleep(Duration::from_millis(20));
    }
    let state = find(
        &stack.path("service/data/tokens"),
        &format!("logs/{key}.json"),
    );
    let saved: serde_json::Value =
        serde_json::from_slice(&std::fs::read(&state).expect("state")).expect("JSON");
    assert!(
        saved["size"].as_u64().is_some_and(|s| s > index),
        "the leaf that was used is in its memory: {saved}"
    );
    assert!(!state.with_file_name("worker.sock").exists());
}

fn number_after(text: &str, words: &str) -> u64 {
    let rest = text
        .split(words)
        .nth(1)
        .unwrap_or_else(|| panic!("no \"{words}\" in {text}"));
    rest.chars()
        .take_while(char::is_ascii_digit)
        .collect::<String>()
        .parse()
        .expect("a number")
}

fn key_log(logs: &[crate::support::load::Leaves]) -> &crate::support::load::Leaves {
    logs.iter()
        .find(|l| l.authorisations().next().is_some())
        .expect("the key's log")
}

/// The database of a stopped (or killed) service.
fn copy_database(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).expect("a folder");
    for name in ["countersign.db", "countersign.db-wal"] {
        let (from, to) = (from.join(name), to.join(name));
        let _ = std::fs::remove_file(&to);
        if from.exists() {
            std::fs::copy(&from, &to).expect("copy");
        }
    }
}

fn put_database(from: &Path, to: &Path) {
    let _ = std::fs::remove_file(to.join("countersign.db-shm"));
    copy_database(from, to);
}

/// Sizes of all logs, read by a stranger from a copy.
fn log_sizes(data: &Path) -> String {
    query(data, "SELECT hex(log_id), size FROM logs ORDER BY log_id")
}

fn old_leaves(stack: &Stack, key: &str) -> u64 {
    let id = key.replace('-', "").to_uppercase();
    let said = query(
        &stack.path("service/data"),
        &format!("SELECT size FROM logs WHERE hex(log_id) = '{id}'"),
    );
    said.trim_matches(|c: char| !c.is_ascii_digit())
        .parse()
        .unwrap_or_else(|_| panic!("{said}"))
}

fn query(data: &Path, sql: &str) -> String {
    let copy = countersign_testkit::tempdir().expect("a folder");
    copy_database(data, copy.path());
    let program =
        "import sqlite3, sys\nprint(sqlite3.connect(sys.argv[1]).execute(sys.argv[2]).fetchall())";
    let out = std::process::Command::new("python3")
        .args(["-c", program])
        .arg(copy.path().join("countersign.db"))
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

fn find(folder: &Path, name: &str) -> PathBuf {
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).expect("a folder") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                folders.push(path);
            } else if path.ends_with(name) {
                return path;
            }
        }
    }
    panic!("no {name} below {}", folder.display());
}
