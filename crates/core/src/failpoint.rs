//! Failpoints: named places in the signing path where a test may kill, stop or delay the process.
//!
//! Without the feature `failpoints` every [`hit`] compiles to nothing. With it, the environment
//! variable `COUNTERSIGN_FAILPOINTS` says what happens where:
//!
//! ```text
//! COUNTERSIGN_FAILPOINTS="worker.before-c-sign=exit;signing.after-leaf=sleep:200"
//! ```
//!
//! | action | effect |
//! | --- | --- |
//! | `exit` | the process ends with status 86, without unwinding; C `atexit` handlers run |
//! | `abort` | the process ends by SIGABRT, at once, as in a crash |
//! | `sleep:<ms>` | the thread sleeps |
//! | `hang` | the thread sleeps for ever |
//!
//! `action@n` acts on the n-th hit only. If `COUNTERSIGN_FAILPOINTS_ONCE` names a folder, each
//! failpoint acts once for all processes that share the folder: a restarted process then goes on.
//!
//! A release build with the feature does not compile: a failpoint is a way to lose an outcome.

#[cfg(all(feature = "failpoints", not(debug_assertions)))]
compile_error!("the feature `failpoints` is for tests and never part of a release build");

/// Acts as the environment says at the failpoint `name`; nothing without the feature.
#[cfg(not(feature = "failpoints"))]
#[inline(always)]
pub const fn hit(_name: &str) {}

/// Acts as the environment says at the failpoint `name`.
#[cfg(feature = "failpoints")]
pub fn hit(name: &str) {
    active::hit(name);
}

#[cfg(feature = "failpoints")]
mod active {
    use std::collections::HashMap;
    use std::sync::OnceLock;
    use std::sync::atomic::{AtomicU64, Ordering};
    use std::time::Duration;

    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    pub(super) enum Action {
        Exit,
        Abort,
        Sleep(u64),
        Hang,
    }

    struct Point {
        action: Action,
        only: Option<u64>,
        hits: AtomicU64,
    }

    static POINTS: OnceLock<HashMap<String, Point>> = OnceLock::new();

    pub(super) fn hit(name: &str) {
        let points = POINTS
            .get_or_init(|| read(&std::env::var("COUNTERSIGN_FAILPOINTS").unwrap_or_default()));
        let Some(point) = points.get(name) else {
            return;
        };
        let n = point.hits.fetch_add(1, Ordering::Relaxed).saturating_add(1);
        if point.only.is_some_and(|only| only != n) || !first_time(name) {
            return;
        }
        match point.action {
            Action::Exit => std::process::exit(86),
            Action::Abort => std::process::abort(),
            Action::Sleep(ms) => std::thread::sleep(Duration::from_millis(ms)),
            Action::Hang => loop {
                std::thread::sleep(Duration::from_secs(3600));
            },
        }
    }

    fn first_time(name: &str) -> bool {
        match std::env::var_os("COUNTERSIGN_FAILPOINTS_ONCE") {
            None => true,
            Some(dir) => std::fs::OpenOptions::new()
                .write(true)
                .create_new(true)
                .open(std::path::Path::new(&dir).join(name))
                .is_ok(),
        }
    }

    fn read(spec: &str) -> HashMap<String, Point> {
        spec.split(';')
            .filter_map(|part| {
                let (name, action) = part.trim().split_once('=')?;
                let (action, only) = parse(action)?;
                let point = Point {
                    action,
                    only,
                    hits: AtomicU64::new(0),
                };
                Some((name.to_owned(), point))
            })
            .collect()
    }

    pub(super) fn parse(s: &str) -> Option<(Action, Option<u64>)> {
        let (s, only) = match s.split_once('@') {
            Some((a, n)) => (a, Some(n.parse().ok()?)),
            None => (s, None),
        };
        let action = match s.split_once(':') {
            Some(("sleep", ms)) => Action::Sleep(ms.parse().ok()?),
            Some(_) => return None,
            None => match s {
                "exit" => Action::Exit,
                "abort" => Action::Abort,
                "hang" => Action::Hang,
                _ => return None,
            },
        };
        Some((action, only))
    }

    #[cfg(test)]
    mod tests {
        use super::*;

        #[test]
        fn actions_are_read() {
            assert_eq!(parse("exit"), Some((Action::Exit, None)));
            assert_eq!(parse("sleep:20@3"), Some((Action::Sleep(20), Some(3))));
            assert_eq!(parse("explode"), None);
            assert_eq!(read("a=exit;b=hang@1; c=nonsense").len(), 2);
        }
    }
}
