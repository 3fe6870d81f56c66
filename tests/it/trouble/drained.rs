//! A stop that cannot write what it must says so by its exit code; one that can in time waits for it.

use super::{Subject, until};
use crate::support::load::{judge, logs};
use crate::support::signal;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// A stranger who holds the database's write lock.
struct Holder(Child);

impl Holder {
    fn of(database: &Path) -> Self {
        let script = "import sqlite3, sys\n\
                      c = sqlite3.connect(sys.argv[1], isolation_level=None, timeout=10)\n\
                      c.execute('BEGIN IMMEDIATE')\n\
                      print('held', flush=True)\n\
                      sys.stdin.readline()\n\
                      c.execute('ROLLBACK')";
        let mut child = Command::new("python3")
            .args(["-c", script])
            .arg(database)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("python3");
        let mut line = String::new();
        BufReader::new(child.stdout.as_mut().expect("its output"))
            .read_line(&mut line)
            .expect("a line");
        assert_eq!(line.trim(), "held");
        Self(child)
    }

    fn lets_go(mut self) {
        writeln!(self.0.stdin.as_mut().expect("its input")).expect("heard");
        assert!(self.0.wait().expect("ends").success());
    }
}

fn log_of(s: &Subject) -> String {
    std::fs::read_to_string(s.stack.path("countersignd.log")).expect("a log")
}

#[test]
fn a_stop_that_cannot_write_its_outcomes_is_no_clean_end() {
    let mut s = Subject::new("undrained");
    s.configure("[log]\n", "[limits]\ndrain_s = 6\n\n[log]\n");
    s.restart(&[("COUNTERSIGN_FAILPOINTS", "worker.before-c-sign=sleep:6000")]);
    let database = s.stack.path("service/data/countersign.db");
    let mut released = Vec::new();
    for (round, in_time) in [(0, false), (1, true)] {
        let pid = s.stack.server_pid();
        // Two are in the token when the database stops taking writes: they are answered all the same.
        let (answers, holder) = std::thread::scope(|scope| {
            let calls: Vec<_> = (0..2)
                .map(|n| {
                    let s = &s;
                    scope.spawn(move || s.sign(&format!("undrained-{round}-{n}")))
                })
                .collect();
            until("two in the token", || {
                crate::crash::open_authorisations(&s.stack) == 2
            });
            let holder = Holder::of(&database);
            let answers: Vec<_> = calls
                .into_iter()
                .map(|c| c.join().expect("no panic"))
                .collect();
            (answers, holder)
        });
        for (n, answer) in answers.iter().enumerate() {
            let ask = s.signing.ask(&format!("undrained-{round}-{n}"));
            released.push(s.signing.released(&ask, answer));
        }
        let before = log_of(&s).len();
        signal(pid, "TERM");
        let code = if in_time {
            std::thread::sleep(Duration::from_millis(1500));
            holder.lets_go();
            s.stack.stop_server()
        } else {
            let code = s.stack.stop_server();
            holder.lets_go();
            code
        };
        let log = log_of(&s);
        let log = &log[before..];
        let said = log.lines().any(|l| {
            l.contains("stopped before all was written: 2 authorisations have no outcome")
        });
        let counted = log.lines().any(|l| l.contains("\"open\":2"));
        if in_time {
            assert_eq!(code, Some(0), "it had its time");
            assert!(!said && !counted, "{log}");
        } else {
            assert_eq!(code, Some(5), "a supervisor must see it");
            assert!(said && counted, "{log}");
        }
        s.stack.start_server(&[]);
        let all = logs(&s.admin, &s.stack.path(&format!("logs-{round}")));
        let unknown: usize = all.iter().map(|l| l.results("unknown")).sum();
        assert_eq!(unknown, 2, "those of the first round, and no other");
        judge(
            &s.admin,
            &all,
            &released,
            &s.stack.folder(&format!("receipts-{round}")),
        );
        s.restart(&[("COUNTERSIGN_FAILPOINTS", "worker.before-c-sign=sleep:6000")]);
    }
}
