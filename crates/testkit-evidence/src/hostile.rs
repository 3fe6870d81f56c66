//! What every format must stand: cut files, reordered files, extra files, flipped bits.
//!
//! The judge is a closure that says whether the files are accepted; the helpers here know nothing
//! else of the verifier.

/// Files as they are handed to the verifier.
pub type Files = Vec<Vec<u8>>;

/// Asserts that no file cut at any length is accepted. `every` skips lengths between: 1 tries all.
pub fn truncated(files: &Files, every: usize, accepted: &dyn Fn(&Files) -> bool) {
    assert!(accepted(files), "whole, it must be accepted");
    for i in 0..files.len() {
        for length in (0..files[i].len()).step_by(every) {
            let mut cut = files.clone();
            cut[i].truncate(length);
            assert!(
                !accepted(&cut),
                "file {i} cut to {length} bytes is accepted"
            );
        }
    }
}

/// Asserts that the files are accepted in every order (up to 6 files).
pub fn reordered(files: &Files, accepted: &dyn Fn(&Files) -> bool) {
    assert!(files.len() <= 6, "too many orders to try");
    let mut order: Vec<usize> = (0..files.len()).collect();
    permute(&mut order, 0, &mut |order| {
        let shuffled = order.iter().map(|i| files[*i].clone()).collect();
        assert!(
            accepted(&shuffled),
            "in the order {order:?} it is not accepted"
        );
    });
}

fn permute(order: &mut Vec<usize>, from: usize, visit: &mut dyn FnMut(&[usize])) {
    if from == order.len() {
        visit(order);
        return;
    }
    for i in from..order.len() {
        order.swap(from, i);
        permute(order, from + 1, visit);
        order.swap(from, i);
    }
}

/// Asserts that an extra file that is no evidence changes nothing.
pub fn with_extra(files: &Files, extra: &[u8], accepted: &dyn Fn(&Files) -> bool) {
    for i in 0..=files.len() {
        let mut more = files.clone();
        more.insert(i, extra.to_vec());
        assert!(
            accepted(&more),
            "with an extra file at {i} it is not accepted"
        );
    }
}

/// Flips single bits of every file, every `step`-th bit from `first` on, and gives back those that
/// are still accepted, as (file, byte, bit), with the number tried.
#[must_use]
pub fn flipped(
    files: &Files,
    first: usize,
    step: usize,
    accepted: &dyn Fn(&Files) -> bool,
) -> (usize, Vec<(usize, usize, usize)>) {
    let mut tried = 0;
    let mut kept = Vec::new();
    for i in 0..files.len() {
        for n in (first..files[i].len() * 8).step_by(step) {
            let mut mutant = files.clone();
            mutant[i][n / 8] ^= 1 << (n % 8);
            tried += 1;
            if accepted(&mutant) {
                kept.push((i, n / 8, n % 8));
            }
        }
    }
    (tried, kept)
}
