//! Trouble: dead and stopped workers, full and broken disks, too many requests, shutdown, bad
//! configuration. In each case a clear answer, nothing half done, and the truth on the health routes.

use crate::support::disk::{SmallDisk, fill};
use crate::support::load::{Ask, Signing, judge, logs};
use crate::support::raw::RawAnswer;
use crate::support::{REPOSITORY, Stack, program, signal, text};
use countersign_client::Error;
use std::fs::File;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

mod drained;

/// A tenant's signer on a stack of its own.
struct Subject {
    stack: Stack,
    admin: crate::support::cli::Cli,
    signing: Signing,
    token: String,
}

impl Subject {
    fn new(tenant: &str) -> Self {
        let stack = Stack::start();
        let admin = stack.tenant(tenant);
        let name = format!("{tenant}/release");
        stack.signer(&admin, &name, "ec-p256");
        let signing = Signing::of(&stack, &name);
        let token = stack.service_token(tenant, REPOSITORY);
        Self {
            stack,
            admin,
            signing,
            token,
        }
    }

    fn configure(&self, from: &str, to: &str) {
        edit(&self.stack.config(), from, to);
    }

    fn restart(&mut self, env: &[(&str, &str)]) {
        self.stack.stop_server();
        self.stack.start_server(env);
    }

    fn send(&self, ask: &Ask) -> Result<RawAnswer, Error> {
        self.signing.send(&self.stack.raw(), &self.token, ask)
    }

    fn sign(&self, content: &str) -> RawAnswer {
        let ask = self.signing.ask(content);
        let answer = self.send(&ask).expect("an answer");
        self.signing.released(&ask, &answer);
        answer
    }

    fn ready(&self) -> (u16, String) {
        let answer = self.stack.raw().get("/readyz", None);
        assert_eq!(
            self.stack.raw().get("/healthz", None).status,
            200,
            "alive in any case"
        );
        (
            answer.status,
            answer.json()["database"]
                .as_str()
                .unwrap_or_default()
                .to_owned(),
        )
    }

    fn tokens(&self, state: &str) -> u64 {
        self.stack.raw().get("/readyz", None).json()["tokens"][state]
            .as_u64()
            .unwrap_or(0)
    }
}

#[test]
fn a_dead_or_stopped_worker_costs_one_retryable_answer() {
    let mut s = Subject::new("workers");
    const DEADLINE: Duration = Duration::from_secs(8);
    s.configure("[hsm]\n", "[hsm]\ncall_deadline_ms = 8000\n");
    let once = s.stack.folder("once");
    s.restart(&[
        ("COUNTERSIGN_FAILPOINTS", "worker.before-c-sign=hang"),
        ("COUNTERSIGN_FAILPOINTS_ONCE", &text(&once)),
    ]);

    // Killed with a call in the module.
    let ask = s.signing.ask("killed");
    let began = Instant::now();
    let answer = std::thread::scope(|scope| {
        let call = scope.spawn(|| s.send(&ask).expect("an answer"));
        until("the call hangs in the module", || {
            once.join("worker.before-c-sign").exists()
        });
        s.stack
            .worker_pids()
            .into_iter()
            .for_each(|pid| signal(pid, "KILL"));
        call.join().expect("no panic")
    });
    retryable(&answer);
    assert!(began.elapsed() < DEADLINE, "not only by the deadline");
    assert_eq!(s.sign("after-the-kill").status, 200);

    // Stopped: found out by the deadline, killed, started again.
    let stopped = s.stack.worker_pids();
    stopped.iter().for_each(|pid| signal(*pid, "STOP"));
    let began = Instant::now();
    let answer = s.send(&s.signing.ask("stopped")).expect("an answer");
    retryable(&answer);
    assert!(began.elapsed() >= DEADLINE, "it had its time");
    assert_eq!(s.sign("after-the-stop").status, 200);
    assert!(
        s.stack.worker_pids().iter().all(|p| !stopped.contains(p)),
        "the stopped one is gone"
    );
    assert_eq!(s.ready(), (200, "ok".into()));
    until("the token is up", || s.tokens("up") == 1);

    // The command line gets over it by itself.
    s.stack
        .worker_pids()
        .into_iter()
        .for_each(|pid| signal(pid, "STOP"));
    let file = text(&s.stack.path("cli.bin"));
    std::fs::write(&file, "cli").expect("a file");
    s.stack
        .job("workers-job", REPOSITORY)
        .ok(&["sign", "--signer", "workers/release", &file]);

    // A request that kills every worker is held after the second: exit 5, and others go on.
    s.restart(&[("COUNTERSIGN_FAILPOINTS", "worker.before-c-sign=abort")]);
    let file = text(&s.stack.path("poison.bin"));
    std::fs::write(&file, "poison").expect("a file");
    let out = s
        .stack
        .job("poison-job", REPOSITORY)
        .ends(5, &["sign", "--signer", "workers/release", &file]);
    assert!(out.says("quarantined"), "{out:?}");
    s.restart(&[]);
    s.sign("in-the-end");

    let all = logs(&s.admin, &s.stack.path("logs"));
    let unknown: usize = all.iter().map(|l| l.results("unknown")).sum();
    assert!(
        unknown >= 4,
        "kill, stop, stop, and the poison twice: {unknown}"
    );
    judge(&s.admin, &all, &[], &s.stack.folder("receipts"));
}

#[test]
fn a_storm_beyond_the_limit_is_turned_away_and_sigterm_lets_the_rest_finish() {
    let mut s = Subject::new("storm");
    s.configure("[log]\n", "[limits]\nconcurrency = 4\n\n[log]\n");
    s.restart(&[("COUNTERSIGN_FAILPOINTS", "worker.before-c-sign=sleep:40")]);
    let asks: Vec<_> = (0..96)
        .map(|n| s.signing.ask(&format!("storm-{n}")))
        .collect();
    let storming = std::sync::atomic::AtomicBool::new(true);
    let answers: Vec<(Ask, RawAnswer)> = std::thread::scope(|scope| {
        let callers: Vec<_> = asks
            .chunks(4)
            .map(|mine| {
                let s = &s;
                scope.spawn(move || {
                    let raw = s.stack.raw();
                    let send = |a: &Ask| {
                        (
                            a.clone(),
                            s.signing.send(&raw, &s.token, a).expect("an answer"),
                        )
                    };
                    mine.iter().map(send).collect::<Vec<_>>()
                })
            })
            .collect();
        let health = scope.spawn(|| {
            while storming.load(std::sync::atomic::Ordering::Relaxed) {
                assert_eq!(
                    s.ready(),
                    (200, "ok".into()),
                    "health stands outside the limit"
                );
                std::thread::sleep(Duration::from_millis(20));
            }
        });
        let all = callers
            .into_iter()
            .flat_map(|c| c.join().expect("no panic"))
            .collect();
        storming.store(false, std::sync::atomic::Ordering::Relaxed);
        health.join().expect("healthy");
        all
    });
    let mut released = Vec::new();
    let mut turned_away = 0;
    for (ask, answer) in &answers {
        match answer.status {
            200 => released.push(s.signing.released(ask, answer)),
            _ => {
                retryable(answer);
                assert!(
                    ["overloaded", "busy"].contains(&answer.problem().as_str()),
                    "{answer:?}"
                );
                turned_away += 1;
            }
        }
    }
    println!(
        "storm: {} signed, {turned_away} turned away",
        released.len()
    );
    assert!(
        turned_away > 0 && !released.is_empty(),
        "{turned_away} of {}",
        answers.len()
    );

    // SIGTERM with three in flight: all three are answered, then the process ends with 0.
    s.restart(&[("COUNTERSIGN_FAILPOINTS", "worker.before-c-sign=sleep:4000")]);
    let pid = s.stack.server_pid();
    let raw = s.stack.raw();
    let last = std::thread::scope(|scope| {
        let (signing, token) = (&s.signing, &s.token);
        let calls: Vec<_> = (0..3)
            .map(|n| {
                let raw = s.stack.raw();
                scope.spawn(move || {
                    let ask = signing.ask(&format!("drained-{n}"));
                    let answer = signing
                        .send(&raw, token, &ask)
                        .expect("an answer although it stops");
                    signing.released(&ask, &answer)
                })
            })
            .collect();
        until("three in flight", || {
            crate::crash::open_authorisations(&s.stack) == 3
        });
        signal(pid, "TERM");
        calls
            .into_iter()
            .map(|c| c.join().expect("no panic"))
            .collect::<Vec<_>>()
    });
    assert_eq!(s.stack.stop_server(), Some(0));
    raw.try_send("GET", "/healthz", None, None, &[])
        .expect_err("nobody listens any more");
    released.extend(last);
    s.stack.start_server(&[]);
    let all = logs(&s.admin, &s.stack.path("logs"));
    judge(&s.admin, &all, &released, &s.stack.folder("receipts"));
    let unknown: usize = all.iter().map(|l| l.results("unknown")).sum();
    assert_eq!(unknown, 0, "a drain leaves nothing open");
    for (ask, answer) in answers.iter().filter(|(_, a)| a.status != 200) {
        if answer.problem() == "overloaded" {
            assert!(
                all.iter().all(|l| l.of(&ask.tbs).is_empty()),
                "turned away at the door: no leaf"
            );
        }
    }
}

#[test]
fn a_full_disk_refuses_and_recovers() {
    let mut s = Subject::new("full");
    s.stack.stop_server();
    let Some(disk) = SmallDisk::under(&s.stack.path("service/data"), 16) else {
        return;
    };
    s.stack.start_server(&[]);
    s.sign("before");

    let filler = s.stack.path("service/data/filler");
    fill(&filler);
    let (ask, answer) = first_refusal(&s);
    retryable(&answer);
    assert!(
        answer.json()["detail"]
            .as_str()
            .is_some_and(|d| d.contains("disk is full")),
        "{}",
        answer.json()
    );
    until("not ready", || {
        s.ready() == (503, "cannot be written".into())
    });
    // A job that needs a new token, and the command line as a whole.
    let file = text(&s.stack.path("file.bin"));
    std::fs::write(&file, "x").expect("a file");
    let out = s
        .stack
        .job("full-job", REPOSITORY)
        .ends(5, &["sign", "--signer", "full/release", &file]);
    assert!(!Path::new(&format!("{file}.p7s")).exists(), "{out:?}");

    std::fs::remove_file(&filler).expect("space again");
    until("ready again", || s.ready().0 == 200);
    let again = s.send(&ask).expect("an answer");
    let released = s.signing.released(&ask, &again);
    let all = logs(&s.admin, &s.stack.path("logs"));
    judge(&s.admin, &all, &[released], &s.stack.folder("receipts"));

    // Read-only: it does not start, and says why.
    s.stack.stop_server();
    disk.remount("ro");
    let out = s
        .stack
        .server_command()
        .stdin(Stdio::null())
        .output()
        .expect("countersignd runs");
    assert_eq!(out.status.code(), Some(5), "{}", said(&out));
    assert!(
        said(&out).contains("Read-only") && said(&out).contains("countersign.db"),
        "{}",
        said(&out)
    );
    disk.remount("rw");
    s.stack.start_server(&[]);
    s.sign("after");
    s.stack.stop_server();
}

/// Every write of countersignd fails with an I/O error, of its log too: the result of a commit is
/// then not known.
#[test]
fn writes_that_fail_in_the_middle_lose_nothing() {
    let mut s = Subject::new("broken");
    s.stack.stop_server();
    let mut command = Command::new("sh");
    command
        .args(["-c", "trap '' XFSZ; exec \"$@\"", "sh"])
        .arg(program("countersignd"))
        .args(["serve", "--config"])
        .arg(s.stack.config())
        .stderr(File::create(s.stack.path("countersignd.log")).expect("log"));
    s.stack.start_server_by(command);
    let before = s.signing.ask("before");
    let first = s.send(&before).expect("an answer");
    let mut released = vec![s.signing.released(&before, &first)];

    limit_writes(s.stack.server_pid(), "0");
    let mut refused = Vec::new();
    for n in 0..4 {
        let ask = s.signing.ask(&format!("broken-{n}"));
        let answer = s.send(&ask).expect("an answer");
        retryable(&answer);
        refused.push(ask);
    }
    until("not ready", || {
        s.ready() == (503, "cannot be written".into())
    });
    // What was answered is still answered: it was durable.
    assert_eq!(s.send(&before).expect("an answer").body, first.body);

    limit_writes(s.stack.server_pid(), "unlimited");
    until("ready again", || s.ready().0 == 200);
    for ask in &refused {
        let until = Instant::now() + Duration::from_secs(60);
        let answer = loop {
            let answer = s.send(ask).expect("an answer");
            if answer.status == 200 {
                break answer;
            }
            retryable(&answer);
            assert!(Instant::now() < until, "{answer:?}");
            std::thread::sleep(Duration::from_millis(100));
        };
        released.push(s.signing.released(ask, &answer));
    }
    s.restart(&[]);
    let all = logs(&s.admin, &s.stack.path("logs"));
    judge(&s.admin, &all, &released, &s.stack.folder("receipts"));
}

/// A full disk under the log of the process is no reason to lose a signature.
#[test]
fn a_log_that_cannot_be_written_stops_nothing() {
    let mut s = Subject::new("mute");
    s.stack.stop_server();
    let mut command = s.stack.server_command();
    command.stderr(
        File::options()
            .write(true)
            .open("/dev/full")
            .expect("/dev/full"),
    );
    s.stack.start_server_by(command);
    let mut released = Vec::new();
    for n in 0..4 {
        let ask = s.signing.ask(&format!("mute-{n}"));
        released.push(s.signing.released(&ask, &s.send(&ask).expect("an answer")));
    }
    let workers = s.stack.worker_pids();
    workers.iter().for_each(|p| signal(*p, "KILL"));
    let ask = s.signing.ask("mute-again");
    until("signs again", || match s.send(&ask).expect("an answer") {
        a if a.status == 200 => {
            released.push(s.signing.released(&ask, &a));
            true
        }
        a => {
            retryable(&a);
            false
        }
    });
    assert_eq!(s.ready(), (200, "ok".into()));
    assert_eq!(s.stack.stop_server(), Some(0));
    s.stack.start_server(&[]);
    let all = logs(&s.admin, &s.stack.path("logs"));
    judge(&s.admin, &all, &released, &s.stack.folder("receipts"));
}

#[test]
fn oversized_bodies_are_refused_by_size() {
    let stack = Stack::shared();
    let raw = stack.raw();
    let big = vec![b'{'; 70_000];
    let paths = ["/v1/tenants", "/v1/bootstrap"];
    stack.let_in(&stack.tenant("oversized"), "oversized", REPOSITORY);
    let token = stack.service_token("oversized", REPOSITORY);
    for path in paths {
        let answer = raw.send("POST", path, Some(&token), Some(&big), &[]);
        assert_eq!(
            (answer.status, answer.problem().as_str()),
            (413, "too-large"),
            "{path}"
        );
    }
    let form = [("content-type", "application/x-www-form-urlencoded")];
    let answer = raw.send("POST", "/v1/token", None, Some(&big), &form);
    assert_eq!(
        (answer.status, answer.problem().as_str()),
        (413, "too-large")
    );
    // The limit is not far above what is needed: a body just below it is read and judged.
    let answer = raw.send("POST", paths[0], Some(&token), Some(&big[..60_000]), &[]);
    assert_eq!(answer.status, 400, "{answer:?}");
    // A batch of a hundred may be a megabyte.
    let path = "/v1/tenants/acme/signers/release/signatures";
    for (size, status) in [(1_000_000, 400), (1_100_000, 413)] {
        let answer = raw.send("POST", path, Some(&token), Some(&vec![b'{'; size]), &[]);
        assert_eq!(answer.status, status, "{size}: {}", answer.problem());
    }
}

/// What does not start says why, in words that tell what to do, with the exit code for it, and
/// changes nothing.
#[test]
fn what_cannot_start_says_why() {
    let stack = Stack::shared();
    let taken = stack.url().rsplit(':').next().expect("port").to_owned();
    let module = countersign_testkit::softhsm::module().expect("SoftHSM2");
    let module = text(&module);
    type Spoil<'a> = Box<dyn Fn(&Path) + 'a>;
    let cases: [(&str, Spoil<'_>, i32, &[&str]); 8] = [
        (
            "unknown key",
            Box::new(|d| edit(&config(d), "[tls]\n", "[tls]\ncypher = \"none\"\n")),
            64,
            &["countersignd.toml", "line 17", "unknown field `cypher`"],
        ),
        (
            "unknown table",
            Box::new(|d| edit(&config(d), "[log]\n", "[logs]\n")),
            64,
            &["unknown field `logs`"],
        ),
        (
            "open sealing key",
            Box::new(|d| mode(&d.join("sealing.key"), 0o640)),
            64,
            &["sealing.key", "chmod 600"],
        ),
        (
            "open PIN key",
            Box::new(|d| mode(&d.join("worker.key"), 0o604)),
            64,
            &["worker.key", "chmod 600"],
        ),
        (
            "wrong sealing key",
            Box::new(|d| std::fs::write(d.join("sealing.key"), [9; 32]).expect("written")),
            70,
            &["sealing_key_file"],
        ),
        (
            "no module",
            Box::new(|d| edit(&config(d), &module, "/usr/lib/nowhere/libsofthsm2.so")),
            64,
            &[
                "/usr/lib/nowhere/libsofthsm2.so",
                "apt-get install softhsm2",
            ],
        ),
        (
            "port taken",
            Box::new(|d| edit(&config(d), "127.0.0.1:1", &format!("127.0.0.1:{taken}"))),
            5,
            &[
                "cannot listen on 127.0.0.1:",
                &taken,
                "stop it, or change `listen`",
            ],
        ),
        (
            "no database",
            Box::new(|d| std::fs::remove_file(d.join("data/countersign.db")).expect("removed")),
            5,
            &["countersign.db", "does not exist"],
        ),
    ];
    for (name, spoil, code, words) in cases {
        let folder = stack.path(&format!("spoilt/{}", name.replace(' ', "-")));
        let out = Command::new(program("countersignd"))
            .args(["init", "--dev", "--listen", "127.0.0.1:1", "--dir"])
            .arg(&folder)
            .output()
            .expect("init runs");
        assert!(out.status.success(), "{}", said(&out));
        edit(&config(&folder), "127.0.0.1:1\"", "127.0.0.1:0\"");
        if name == "port taken" {
            edit(&config(&folder), "127.0.0.1:0\"", "127.0.0.1:1\"");
        } else if name == "wrong sealing key" {
            // The first start makes the keys that the sealing key seals.
            let mut first = countersign_testkit::programs::ReadyProgram::start(
                serve(&folder),
                Duration::from_secs(30),
            )
            .expect("it starts");
            signal(first.id(), "TERM");
            assert!(first.child().wait().expect("ends").success());
        }
        spoil(&folder);
        let out = serve(&folder).output().expect("countersignd runs");
        assert_eq!(out.status.code(), Some(code), "{name}: {}", said(&out));
        for word in words {
            assert!(
                said(&out).contains(word),
                "{name}: \"{word}\" is not in: {}",
                said(&out)
            );
        }
        assert!(out.stdout.is_empty(), "{name}: never ready");
    }
}

fn serve(folder: &Path) -> Command {
    let mut command = Command::new(program("countersignd"));
    command
        .args(["serve", "--config"])
        .arg(config(folder))
        .stdin(Stdio::null())
        .stderr(Stdio::piped());
    command
}

fn config(folder: &Path) -> PathBuf {
    folder.join("countersignd.toml")
}

fn edit(path: &Path, from: &str, to: &str) {
    let text = std::fs::read_to_string(path).expect("configuration");
    assert!(text.contains(from), "no \"{from}\" in {text}");
    std::fs::write(path, text.replacen(from, to, 1)).expect("configuration");
}

fn mode(path: &Path, mode: u32) {
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).expect("mode");
}

fn said(out: &Output) -> String {
    String::from_utf8_lossy(&out.stderr).into_owned()
}

/// 503, "later", and after which time.
fn retryable(answer: &RawAnswer) {
    assert_eq!(answer.status, 503, "{answer:?}");
    answer.problem();
    assert_eq!(answer.json()["retryable"], true, "{answer:?}");
    assert!(answer.retry_after_s.is_some(), "{answer:?}");
}

fn until(what: &str, mut there: impl FnMut() -> bool) {
    let end = Instant::now() + Duration::from_secs(60);
    while !there() {
        assert!(Instant::now() < end, "{what}: it did not come about");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Signs until the disk is full.
fn first_refusal(s: &Subject) -> (Ask, RawAnswer) {
    for n in 0..500 {
        let ask = s.signing.ask(&format!("full-{n}"));
        let answer = s.send(&ask).expect("an answer");
        if answer.status != 200 {
            return (ask, answer);
        }
    }
    panic!("a full disk that takes 500 signatures");
}

fn limit_writes(pid: u32, soft: &str) {
    let done = Command::new("prlimit")
        .args([
            "--pid",
            &pid.to_string(),
            &format!("--fsize={soft}:unlimited"),
        ])
        .status();
    assert!(
        done.is_ok_and(|s| s.success()),
        "prlimit (package util-linux)"
    );
}
