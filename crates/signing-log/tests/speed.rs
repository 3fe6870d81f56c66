//! How fast the write path is. Prints; asserts nothing. Run it with
//! `cargo test -p countersign-signing-log --test speed --release -- --ignored --nocapture`.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use common::{ORIGIN, authorisation, keys, signing_key};
use countersign_signing_log::merkle::leaf_hash;
use countersign_signing_log::{Checkpoint, Frontier, Leaf};
use std::hint::black_box;
use std::time::Instant;

fn rate(what: &str, n: u32, mut work: impl FnMut(u32)) {
    let start = Instant::now();
    (0..n).for_each(&mut work);
    let took = start.elapsed();
    println!(
        "{what:<44} {:>9.0} a second",
        f64::from(n) / took.as_secs_f64()
    );
}

#[test]
#[ignore = "a measurement, which judges nothing and needs a release build: cargo test --release -p countersign-signing-log --test speed -- --ignored --nocapture"]
fn write_path() {
    let leaf = Leaf::new(1_764_000_000_000_000, authorisation(1).0);
    let bytes = leaf.encode().unwrap();
    println!("an authorisation has {} bytes", bytes.len());
    rate("encode an authorisation", 20_000, |_| {
        black_box(leaf.encode().unwrap());
    });
    rate("decode an authorisation (worker)", 20_000, |_| {
        black_box(Leaf::decode(&bytes).unwrap());
    });
    rate("hash a leaf", 50_000, |_| {
        black_box(leaf_hash(&bytes));
    });
    let mut frontier = Frontier::from_parts(1_000_003, vec![[1; 32]; 9]).unwrap();
    for size in [1_usize, 16, 64] {
        let leaves = vec![[7; 32]; size];
        rate(&format!("append {size} and prove each"), 2_000, |_| {
            let batch = frontier.append_batch(&leaves);
            for index in batch.old_size..batch.new_size {
                black_box(batch.inclusion_proof(index).unwrap());
            }
        });
    }
    let key = signing_key();
    let head = Checkpoint {
        origin: ORIGIN.into(),
        size: 1_000_003,
        root: [3; 32],
    };
    rate("sign a checkpoint", 5_000, |_| {
        black_box(head.sign(&key).unwrap());
    });
    let (note, keys) = (head.sign(&key).unwrap(), keys());
    rate("open a checkpoint (worker)", 5_000, |_| {
        black_box(Checkpoint::open(&note, ORIGIN, &keys).unwrap());
    });
}
