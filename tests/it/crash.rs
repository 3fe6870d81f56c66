//! kill -9 of countersignd and of a worker between every two steps of the signing path, under load.
//! Whatever dies where: the logs hold, each signature that reached a caller has exactly one
//! authorisation, and what was open is closed as `unknown`.

use crate::support::load::{Load, Signing, judge, logs};
use crate::support::{REPOSITORY, Stack, cli::Cli, signal, text};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

/// The steps of countersignd, in their order; at which hit it dies (more signatures than callers
/// have passed by then, so that some are before, at and behind the step).
const SERVER: [(&str, u32); 12] = [
    ("server.before-authorise", 6),
    ("server.before-commit", 12),
    ("server.after-commit", 12),
    ("server.after-announce", 12),
    ("server.after-authorise", 6),
    ("server.before-worker", 6),
    ("server.after-worker", 6),
    ("server.after-verify", 6),
    ("server.before-outcome", 6),
    ("server.before-answer", 6),
    ("server.after-outcome", 6),
    // Once more in the middle: the recovery itself dies of the next start's failpoint.
    ("server.after-worker", 5),
];

/// The steps of a worker.
const WORKER: [(&str, u32); 8] = [
    ("worker.before-mark", 3),
    ("worker.after-mark", 3),
    ("worker.before-check", 5),
    ("worker.after-check", 5),
    ("worker.before-c-sign", 5),
    ("worker.after-c-sign", 5),
    ("worker.before-answer", 5),
    ("worker.before-edge", 1),
];

/// Random kills, and files signed around each.
const ROUNDS: u64 = 6;
const FILES: usize = 40;

const LONG: Duration = Duration::from_secs(30);

#[test]
fn whatever_dies_between_two_steps_the_logs_hold() {
    let mut stack = Stack::start();
    let admin = stack.tenant("crash");
    for name in ["crash/one", "crash/two"] {
        stack.signer(&admin, name, "ec-p256");
    }
    let signers = ["crash/one", "crash/two"].map(|n| Signing::of(&stack, n));
    let mut load = Load::new(signers.into());
    let mut table = Vec::new();
    let mut open_in_all = 0;
    stack.stop_server();

    for (point, hit) in SERVER {
        load.more(14);
        stack.start_server(&[("COUNTERSIGN_FAILPOINTS", &format!("{point}=abort@{hit}"))]);
        load.run(&stack, LONG);
        assert!(stack.server_ended(LONG), "{point}: never reached");
        let open = open_authorisations(&stack);
        open_in_all += open;
        table.push(format!("{point:<24} {open:>3} open"));
    }
    // Recovery itself dies half-way, and the next start goes on with it.
    let left = open_authorisations(&stack);
    if left >= 2 {
        let died =
            !stack.try_start_server(&[("COUNTERSIGN_FAILPOINTS", "server.after-commit=abort@1")]);
        assert!(died, "recovery commits at least once");
        assert_eq!(open_authorisations(&stack), left - 1);
        table.push(format!("{:<24} {:>3} open", "(in recovery)", left - 1));
    }
    for (point, hit) in WORKER {
        load.more(14);
        let once = stack.folder(&format!("once-{point}"));
        stack.start_server(&[
            ("COUNTERSIGN_FAILPOINTS", &format!("{point}=abort@{hit}")),
            ("COUNTERSIGN_FAILPOINTS_ONCE", &text(&once)),
        ]);
        assert!(load.run(&stack, LONG), "{point}: the load did not end");
        // The point left its mark when it killed the worker; one that runs now is another.
        wait_for(point, || once.join(point).exists());
        wait_for("another worker", || stack.worker_pids().len() == 1);
        assert_eq!(stack.stop_server(), Some(0), "{point}");
        let open = open_authorisations(&stack);
        assert_eq!(
            open, 0,
            "{point}: a server that lives closes what its worker left"
        );
        table.push(format!("{point:<24} worker restarted"));
    }

    stack.start_server(&[]);
    assert!(load.run(&stack, LONG), "the rest is signed");
    let receipts = stack.folder("receipts");
    let made = load.made();
    let released = load.finish();
    assert_eq!(
        released.len(),
        made,
        "each ask was answered with one signature in the end"
    );
    let logs = logs(&admin, &stack.path("logs"));
    assert_eq!(logs.len(), 3, "two keys and the tenant");
    judge(&admin, &logs, &released, &receipts);
    let unknown: usize = logs.iter().map(|l| l.results("unknown")).sum();
    for line in &table {
        println!("{line}");
    }
    println!(
        "authorisations open at the kills: {open_in_all}; closed as unknown: {unknown}; signatures: {made}"
    );
    assert!(
        open_in_all > 0,
        "no kill met an open authorisation: the test shows nothing"
    );
    assert!(
        unknown >= open_in_all,
        "all that were open at the kills are closed as unknown"
    );
}

#[test]
fn random_kills_under_the_command_line_leave_logs_that_hold() {
    let mut stack = Stack::start();
    let admin = stack.tenant("random");
    stack.signer(&admin, "random/release", "ec-p256");
    let files = stack.folder("random");
    let receipts = stack.folder("random-receipts");
    let mut open = 0;
    let mut delays = Vec::new();
    for round in 0..ROUNDS {
        let names: Vec<_> = (0..FILES)
            .map(|n| write(&files, &format!("r{round}-{n}.bin")))
            .collect();
        let job = stack.job(&format!("random-job-{round}"), REPOSITORY);
        let delay = Duration::from_millis(random_below(80));
        delays.push(delay.as_millis());
        let run = std::thread::scope(|scope| {
            let run = scope.spawn(|| sign(&job, &receipts, round, &names));
            // Once signatures come, at any moment of them.
            wait_for("a first signature", || {
                names
                    .iter()
                    .any(|f| Path::new(&format!("{f}.p7s")).exists())
            });
            std::thread::sleep(delay);
            match round % 2 {
                0 => {
                    stack.kill_server();
                    open += open_authorisations(&stack);
                }
                _ => stack
                    .worker_pids()
                    .into_iter()
                    .for_each(|pid| signal(pid, "KILL")),
            }
            if round % 2 == 0 {
                stack.start_server(&[]);
            }
            run.join().expect("the job ends")
        });
        assert!(
            [0, 5, 6].contains(&run),
            "a kill is a reason to retry: exit {run}"
        );
        // What did not come the first time comes now, under the same retry id.
        let missing: Vec<_> = names
            .into_iter()
            .filter(|f| !Path::new(&format!("{f}.p7s")).exists())
            .collect();
        if !missing.is_empty() {
            let job = stack.job(&format!("random-again-{round}"), REPOSITORY);
            let again = sign(&job, &receipts, round, &missing);
            assert_eq!(again, 0, "round {round}, {} files", missing.len());
        }
    }
    let count = std::fs::read_dir(&receipts).expect("receipts").count();
    assert_eq!(count, ROUNDS as usize * FILES, "one receipt for each file");
    let logs = logs(&admin, &stack.path("random-logs"));
    for log in &logs {
        log.audited(&admin, &receipts);
    }
    let (signed, unknown) = logs.iter().fold((0, 0), |(s, u), l| {
        (s + l.results("signed"), u + l.results("unknown"))
    });
    println!(
        "kills {delays:?} ms after a first signature: {open} open at those of the server, {signed} signed, {unknown} unknown"
    );
    assert!(
        unknown >= open,
        "what was open at a kill is closed as unknown"
    );
}

fn sign(job: &Cli, receipts: &Path, round: u64, files: &[String]) -> i32 {
    let retry = format!("round-{round}");
    let receipts = text(receipts);
    let mut args = vec![
        "sign",
        "--signer",
        "random/release",
        "--retry-id",
        &retry,
        "--receipt-dir",
        &receipts,
    ];
    args.extend(files.iter().map(String::as_str));
    let out = job.run(&args);
    assert!(!out.says("panicked"), "{out:?}");
    out.code
}

fn write(folder: &Path, name: &str) -> String {
    let path = folder.join(name);
    std::fs::write(&path, name).expect("a file");
    text(&path)
}

fn wait_for(what: &str, mut there: impl FnMut() -> bool) {
    let until = Instant::now() + LONG;
    while !there() {
        assert!(Instant::now() < until, "{what}: it did not come about");
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn random_below(n: u64) -> u64 {
    use std::hash::{BuildHasher, RandomState};
    RandomState::new().hash_one(n) % n
}

/// How many authorisations the database says are open, read by a stranger from a copy of it.
pub fn open_authorisations(stack: &Stack) -> usize {
    let copy = stack.folder(&format!("copy-{}", countersign_core::RequestId::new()));
    for name in ["countersign.db", "countersign.db-wal"] {
        let from = stack.path("service/data").join(name);
        if from.exists() {
            std::fs::copy(&from, copy.join(name)).expect("copy");
        }
    }
    let query = "import sqlite3, sys\n\
                 c = sqlite3.connect(sys.argv[1])\n\
                 print(c.execute('SELECT count(*) FROM open_authorisations').fetchone()[0])";
    let out = Command::new("python3")
        .args(["-c", query])
        .arg(copy.join("countersign.db"))
        .output()
        .expect("python3");
    let _ = std::fs::remove_dir_all(&copy);
    let said = String::from_utf8_lossy(&out.stdout);
    said.trim()
        .parse()
        .unwrap_or_else(|_| panic!("{said} {}", String::from_utf8_lossy(&out.stderr)))
}

/// A release build has no failpoints: the file that holds them does not compile into one, and
/// without the feature nothing of them is left.
#[test]
fn a_release_build_cannot_contain_failpoints() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let out = countersign_testkit::tempdir().expect("a folder");
    let compile = |feature: bool, debug_assertions: bool| {
        let code = out.path().join(format!("f-{feature}-{debug_assertions}.o"));
        let mut rustc = Command::new(std::env::var("RUSTC").unwrap_or_else(|_| "rustc".into()));
        rustc
            .args([
                "--edition",
                "2024",
                "--crate-type",
                "lib",
                "--crate-name",
                "f",
                "--emit",
                "obj",
                "-o",
            ])
            .arg(&code);
        rustc.args([
            "-C",
            if debug_assertions {
                "debug-assertions=on"
            } else {
                "debug-assertions=off"
            },
        ]);
        rustc.args(["--check-cfg", "cfg(feature, values(\"failpoints\"))"]);
        if feature {
            rustc.args(["--cfg", "feature=\"failpoints\""]);
        }
        let result = rustc
            .arg(root.join("crates/core/src/failpoint.rs"))
            .output()
            .expect("rustc runs");
        (result, std::fs::read(code).unwrap_or_default())
    };
    let named = |code: &[u8]| code.windows(22).any(|w| w == b"COUNTERSIGN_FAILPOINTS");
    let (with, code) = compile(true, true);
    assert!(
        with.status.success() && named(&code),
        "{}",
        String::from_utf8_lossy(&with.stderr)
    );
    let (release, _) = compile(true, false);
    let said = String::from_utf8_lossy(&release.stderr);
    assert!(
        !release.status.success() && said.contains("never part of a release build"),
        "{said}"
    );
    let (without, code) = compile(false, false);
    assert!(
        without.status.success() && !named(&code),
        "{}",
        String::from_utf8_lossy(&without.stderr)
    );

    // The rule rests on debug assertions being off in release builds, and on the feature being asked for.
    let read = |path: &str| std::fs::read_to_string(root.join(path)).expect(path);
    let workspace = read("Cargo.toml");
    assert!(
        !workspace.contains("debug-assertions"),
        "no profile touches them"
    );
    for name in ["core", "signing", "server", "hsm-worker"] {
        let manifest = read(&format!("crates/{name}/Cargo.toml"));
        assert!(
            !manifest
                .lines()
                .any(|l| l.starts_with("default") && l.contains("failpoints")),
            "{name}"
        );
    }
}
