//! Every bit counts: no input of an accepted case may change by one bit and still be accepted,
//! except for bits that no signature covers; those are computed from the structure they stand in
//! (`exceptions.rs`), one reason each, and must leave every proved fact as it was.
//!
//! `cargo test` tries a fixed sample; `make mutation` tries every bit in a release build
//! (`COUNTERSIGN_MUTATION_ONLY=text` picks cases by name, `COUNTERSIGN_MUTATION_STEP=n` tries every
//! n-th bit).
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "mutation/cases.rs"]
mod cases;
#[path = "mutation/exceptions.rs"]
mod exceptions;

use cases::{Case, evidence_of_testkit, shared_cases};
use countersign_attestation::Verdict;
use countersign_attestation::result::AttestationResult;
use exceptions::Exceptions;
use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

/// What became of the flips of one case.
#[derive(Debug, Default)]
struct Tally {
    rejected: usize,
    unverifiable: usize,
    excepted: BTreeMap<&'static str, usize>,
    wrong: Vec<String>,
}

impl Tally {
    fn add(&mut self, other: Self) {
        self.rejected += other.rejected;
        self.unverifiable += other.unverifiable;
        for (why, n) in other.excepted {
            *self.excepted.entry(why).or_default() += n;
        }
        self.wrong.extend(other.wrong);
    }

    fn excepted(&self) -> usize {
        self.excepted.values().sum()
    }

    fn flips(&self) -> usize {
        self.rejected + self.unverifiable + self.excepted() + self.wrong.len()
    }
}

/// Where a bit stands: file (0 is the subject), byte, bit.
type Place = (usize, usize, u8);

fn places(case: &Case) -> usize {
    case.files.iter().map(|f| f.bytes.len() * 8).sum()
}

fn place(case: &Case, mut n: usize) -> Place {
    for (i, f) in case.files.iter().enumerate() {
        if n < f.bytes.len() * 8 {
            return (i, n / 8, u8::try_from(n % 8).unwrap());
        }
        n -= f.bytes.len() * 8;
    }
    panic!("no such bit");
}

fn flip(case: &Case, exceptions: &Exceptions<'_>, n: usize, tally: &mut Tally) {
    let at = place(case, n);
    let mutant = case.flipped(at);
    let result = mutant.ask();
    match result.verdict {
        Verdict::Reject => tally.rejected += 1,
        Verdict::Unverifiable => tally.unverifiable += 1,
        Verdict::Accept => match exceptions.reason(&mutant, &result, at) {
            Ok(why) => *tally.excepted.entry(why).or_default() += 1,
            Err(e) => {
                let (file, byte, bit) = at;
                let name = &case.files[file].name;
                tally
                    .wrong
                    .push(format!("{name} byte {byte} bit {bit}: {e}"));
            }
        },
    }
}

fn accepted(case: &Case) -> AttestationResult {
    let result = case.ask();
    let why: Vec<String> = result.reasons().map(|c| c.seen.clone()).collect();
    assert_eq!(result.verdict, Verdict::Accept, "{}: {why:?}", case.name);
    result
}

/// Every `step`-th bit from `first` on, over `threads` threads.
fn mutate(case: &Case, first: usize, step: usize, threads: usize) -> Tally {
    let whole = accepted(case);
    let exceptions = Exceptions::new(case, &whole);
    let total = places(case);
    let next = AtomicUsize::new(first);
    let all = Mutex::new(Tally::default());
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                let mut mine = Tally::default();
                loop {
                    let n = next.fetch_add(step, Ordering::Relaxed);
                    if n >= total {
                        break;
                    }
                    flip(case, &exceptions, n, &mut mine);
                }
                all.lock().unwrap().add(mine);
            });
        }
    });
    all.into_inner().unwrap()
}

fn report(name: &str, tally: &Tally) {
    println!(
        "{name}: {} flips, {} rejected, {} unverifiable, {} excepted{}",
        tally.flips(),
        tally.rejected,
        tally.unverifiable,
        tally.excepted(),
        if tally.wrong.is_empty() {
            String::new()
        } else {
            format!(", {} WRONG", tally.wrong.len())
        }
    );
    for (why, n) in &tally.excepted {
        println!("    {n}: {why}");
    }
    for wrong in tally.wrong.iter().take(20) {
        println!("    WRONG: {wrong}");
    }
}

fn all_cases() -> Vec<Case> {
    let mut cases = evidence_of_testkit();
    cases.extend(shared_cases());
    if let Ok(only) = std::env::var("COUNTERSIGN_MUTATION_ONLY") {
        cases.retain(|c| c.name.contains(&only));
    }
    cases
}

#[test]
fn a_sample_of_flipped_bits_is_not_accepted() {
    const PER_CASE: usize = 11;
    let mut wrong = Vec::new();
    for case in all_cases() {
        // Steps are odd, so every bit of a byte has its turn; the first is another for each case.
        let step = (places(&case) / PER_CASE) | 1;
        let first = case.name.len() % step;
        let tally = mutate(&case, first, step, 1);
        assert!(tally.flips() >= PER_CASE - 1, "{}", case.name);
        wrong.extend(tally.wrong.iter().map(|w| format!("{}: {w}", case.name)));
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
#[ignore = "every bit of every case, hours in a debug build; a sample of the same runs with every test: make mutation"]
fn no_flipped_bit_is_accepted() {
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    // For a first look: every n-th bit only.
    let step = std::env::var("COUNTERSIGN_MUTATION_STEP").map_or(1, |n| n.parse().unwrap());
    let cases = all_cases();
    let mut sum = Tally::default();
    for (i, case) in cases.iter().enumerate() {
        let start = std::time::Instant::now();
        let tally = mutate(case, 0, step, threads);
        let name = format!("[{}/{}] {}", i + 1, cases.len(), case.name);
        report(&format!("{name} ({:.0?})", start.elapsed()), &tally);
        sum.add(tally);
    }
    report(&format!("all {} cases", cases.len()), &sum);
    assert!(sum.wrong.is_empty(), "{}", sum.wrong.join("\n"));
}
