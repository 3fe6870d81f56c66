//! The crash matrix: a deployment under load of many callers, and everything that can go wrong with
//! it, one fault after the other and at random moments. When the storm is over, every log is verified
//! from its bytes and matched with every answer that any client ever got.
//!
//! `make torture MINUTES=10` runs it long. The seed
//! decides which faults come in which order (not what the machine makes of them): it is printed, and
//! `SEED=` repeats it.

mod callers;
mod chance;
mod faults;
mod field;
mod ledger;
mod points;
mod verdict;

use crate::support::load::downloaded;
use callers::{Crowd, Leash};
use chance::Chance;
use faults::{Fault, Row, Tormentor, wait_until};
use field::{Field, Kind};
use ledger::{Ledger, Loss};
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::{Duration, Instant};
use verdict::{End, Verdict, judge};

/// How long whoever still waits for an answer may, once nothing is done to the service any more.
const CURE: Duration = Duration::from_secs(60);

/// What came of a storm.
struct Report {
    kind: Kind,
    seed: u64,
    took: Duration,
    rows: BTreeMap<String, Row>,
    faults: u32,
    asked_again: usize,
    ledger: Ledger,
    verdict: Verdict,
}

/// `make torture`: every deployment, every fault, for `COUNTERSIGN_TORTURE_MINUTES` each.
#[test]
#[ignore = "six minutes at least, root for its full disk, and a load that starves other tests: make torture MINUTES=1"]
fn every_fault_over_every_deployment() {
    let number = |name: &str| std::env::var(name).ok().and_then(|v| v.parse::<u64>().ok());
    let minutes = number("COUNTERSIGN_TORTURE_MINUTES").unwrap_or(1);
    let only = std::env::var("COUNTERSIGN_TORTURE_ONLY").unwrap_or_default();
    let seed = seed();
    let mut reports = Vec::new();
    for kind in Kind::ALL {
        if kind.name().to_lowercase().contains(&only.to_lowercase()) {
            let lasts = Duration::from_secs(60 * minutes);
            reports.push(storm(*kind, seed, lasts));
        }
    }
    reports.iter().for_each(Report::judge);
}

fn seed() -> u64 {
    let given = std::env::var("COUNTERSIGN_TORTURE_SEED").ok();
    given
        .filter(|seed| !seed.is_empty())
        .map_or_else(Chance::seed, |seed| seed.parse().expect("SEED is a number"))
}

/// One deployment, one storm.
/// `lasts` at least, and each fault once.
fn storm(kind: Kind, seed: u64, lasts: Duration) -> Report {
    println!("torture of {}: seed {seed}", kind.name());
    let mut chance = Chance::of(seed);
    let Field {
        mut nodes,
        people,
        database,
    } = Field::new(kind);
    let plan = Fault::all(kind, &database);
    let fronts = nodes.iter().map(|n| n.url()).collect();
    let crowd = Crowd::new(&people.stack, &people.signers, fronts, seed);
    let began = Instant::now();
    let (rows, faults, stalls) = std::thread::scope(|scope| {
        let _leash = Leash(&crowd);
        crowd.begin(scope, &people.origins);
        let at = Chance::of(chance.next());
        let mut tormentor = Tormentor::new(&people, &crowd, &database, &mut nodes, at);
        let mut passes = 0;
        'storm: loop {
            let mut order = plan.clone();
            chance.shuffle(&mut order);
            for fault in order {
                let over = began.elapsed() >= lasts;
                if over && passes > 0 {
                    break 'storm;
                }
                tormentor.inflict(fault);
            }
            passes += 1;
        }
        // What a node holds back (a request that two workers died of) is free in its next run.
        for node in tormentor.nodes.iter_mut() {
            let code = node.stop();
            if code != Some(0) {
                let what = format!("{}: the last SIGTERM: exit {code:?}", node.name);
                crowd.ledger().lose(Loss::NotBack, what);
            }
        }
        tormentor.restore();
        crowd.finish(CURE);
        (
            std::mem::take(&mut tormentor.rows),
            tormentor.count(),
            std::mem::take(&mut tormentor.stalls),
        )
    });
    let took = began.elapsed();
    crowd.finish(CURE);
    let asked_again = crowd.ask_again();
    let mut ledger = crowd.close();

    // Everything ends: authorisations and claims.
    let nothing_open = || database.open() == Some(0) && database.claims_in_flight() == Some(0);
    if !wait_until(Duration::from_secs(30), nothing_open) {
        let what = format!(
            "{:?} authorisations, {:?} claims",
            database.open(),
            database.claims_in_flight()
        );
        ledger.lose(Loss::StaysOpen, what);
    }
    let logs = downloaded(&people.admin, &people.stack.path("logs"));
    let ends: Vec<End> = nodes
        .iter()
        .enumerate()
        .flat_map(|(node, n)| {
            let ends = n.ends.iter();
            ends.map(move |(at, code)| End {
                node,
                at: *at,
                code: *code,
            })
        })
        .collect();
    let receipts = people.stack.folder("receipts");
    let verdict = judge(&people.admin, &logs, &mut ledger, &ends, &stalls, &receipts);
    let report = Report {
        kind,
        seed,
        took,
        rows,
        faults,
        asked_again,
        ledger,
        verdict,
    };
    println!("{}", report.table());
    if !report.ledger.losses.is_empty() {
        for node in &nodes {
            keep(&node.name, &node.said());
        }
    }
    // Before what they need; and a file system before the folder it is mounted in.
    drop(nodes);
    drop(database);
    drop(people);
    report
}

/// The log of a node, for who looks for the reason of a loss.
fn keep(name: &str, said: &str) {
    let file = std::env::temp_dir().join(format!("torture-{}-{name}.log", std::process::id()));
    if std::fs::write(&file, said).is_ok() {
        println!("the log of node {name}: {}", file.display());
    }
}

impl Report {
    fn table(&self) -> String {
        let mut t = String::new();
        let (l, v) = (&self.ledger, &self.verdict);
        let _ = writeln!(
            t,
            "\ntorture of {}: {} faults in {:.0} s, seed {}\n\n{:<32} {:>5} {:>16} {:>12}",
            self.kind.name(),
            self.faults,
            self.took.as_secs_f64(),
            self.seed,
            "fault",
            "times",
            "open: sum (most)",
            "back after",
        );
        let (mut times, mut open) = (0, 0);
        for (name, row) in &self.rows {
            let opened = match row.counted {
                0 => "?".to_owned(),
                _ => format!("{} ({})", row.open, row.most),
            };
            let _ = writeln!(
                t,
                "{name:<32} {:>5} {opened:>16} {:>10.1} s",
                row.times,
                row.back.as_secs_f64()
            );
            times += row.times;
            open += row.open;
        }
        let released = l.released().count();
        let _ = writeln!(t, "{:<32} {times:>5} {open:>16}", "all");
        let _ = writeln!(
            t,
            "\nasked     {} things in {} requests, {} of them retries",
            l.wishes, l.requests, l.retries
        );
        let _ = writeln!(
            t,
            "answered  {} things with {released} signatures; {} more answers were the same ones again ({} asked for at the end)",
            l.answers.len(),
            l.repeats,
            self.asked_again
        );
        let refusals: Vec<_> = l.refusals.iter().map(|(c, n)| format!("{c} {n}")).collect();
        let _ = writeln!(t, "refused   {}", refusals.join(", "));
        let outcomes: Vec<_> = v.outcomes.iter().map(|(c, n)| format!("{c} {n}")).collect();
        let _ = writeln!(
            t,
            "logs      {} of {} leaves: {}; {} attempts after the first",
            v.logs,
            v.leaves,
            outcomes.join(", "),
            v.attempts
        );
        let _ = writeln!(
            t,
            "          {} signatures answered and stated unknown: their node died before the outcome's commit",
            v.released_unknown
        );
        let _ = writeln!(
            t,
            "heads     {} looks at checkpoints, {} different ones (receipts' too), all of one tree each",
            l.looks, v.heads
        );
        let mut losses: BTreeMap<Loss, usize> = BTreeMap::new();
        for (loss, _) in &l.losses {
            *losses.entry(*loss).or_default() += 1;
        }
        let _ = writeln!(t, "losses    {}", l.losses.len());
        for (loss, count) in losses {
            let _ = writeln!(t, "          {loss}: {count}");
        }
        t
    }

    fn judge(&self) {
        assert!(self.ledger.losses.is_empty(), "{:#?}", self.ledger.losses);
        assert!(self.faults > 3, "too few faults to show anything");
        assert!(
            self.ledger.answers.len() > 50,
            "too few answers to show anything"
        );
    }
}
