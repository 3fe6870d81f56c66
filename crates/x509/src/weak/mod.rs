//! Checks on a public key before any certificate request is made with it.
//!
//! A CA must reject keys that fail CSBR §6.1.5 and §6.1.6, keys from a flawed generator, and keys
//! that are easily computed from the public part (CSBR §6.1.1.3). HSM firmware is exactly where ROCA
//! came from, so a key is checked although a device made it. Each check reports by name what it
//! found and where its rule stands; what was not checked says so.

mod bignum;
mod roca;

use crate::key::{KeyError, Parts, PublicKey, SpkiParts, bit_length};
use crate::verify::AnyPublicKey;
use crate::{asn1, hash, oid};
use bignum::Nat;

/// A list of keys that are known to be weak, such as Debian's (CVE-2008-0166).
pub trait WeakKeyList {
    /// What the list is called, for reports.
    fn name(&self) -> &str;
    /// Whether the modulus is on it. `tail` is the key of the openssl-blacklist format: the last 10
    /// bytes of SHA-1 over `Modulus=<UPPERHEX>\n`.
    fn contains(&self, tail: &[u8; 10]) -> bool;
}

/// One check.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyCheck {
    /// Stable short name.
    pub name: &'static str,
    /// What came out.
    pub outcome: Outcome,
    /// In words.
    pub detail: String,
    /// Where the rule stands.
    pub source: &'static str,
}

/// What came out of a check.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// The key is not weak in this way.
    Passed,
    /// The key is weak or not allowed: no request may be made with it.
    Failed,
    /// The check was not made; the detail says why.
    NotChecked,
}

impl Outcome {
    /// `passed`, `failed`, `not-checked`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Passed => "passed",
            Self::Failed => "failed",
            Self::NotChecked => "not-checked",
        }
    }
}

/// All checks on a key.
#[must_use]
pub fn check_key(key: &PublicKey, list: Option<&dyn WeakKeyList>) -> Vec<KeyCheck> {
    match key.parts() {
        Parts::Rsa { n, e } => check_rsa(n, e, list),
        Parts::Ec(_) => vec![ec_curve(true), ec_point(true)],
    }
}

/// All checks on a key of any kind and size, as a CA meets it.
///
/// # Errors
/// [`KeyError`] if the bytes are no `SubjectPublicKeyInfo` of RSA or EC kind.
pub fn check_spki(
    spki_der: &[u8],
    list: Option<&dyn WeakKeyList>,
) -> Result<Vec<KeyCheck>, KeyError> {
    match AnyPublicKey::parts_of(spki_der)? {
        SpkiParts::Rsa { n, e } => Ok(check_rsa(n, e, list)),
        SpkiParts::Ec { curve, .. } => {
            let allowed = [oid::P256, oid::P384, oid::P521].contains(&curve);
            let valid = AnyPublicKey::from_spki_der(spki_der).is_ok();
            Ok(vec![ec_curve(allowed), ec_point(valid)])
        }
    }
}

/// Whether no check failed.
#[must_use]
pub fn none_failed(checks: &[KeyCheck]) -> bool {
    checks.iter().all(|c| c.outcome != Outcome::Failed)
}

/// All checks on an RSA modulus and exponent, big-endian.
#[must_use]
pub fn check_rsa(n: &[u8], e: &[u8], list: Option<&dyn WeakKeyList>) -> Vec<KeyCheck> {
    let (n, e) = (asn1::strip_zeros(n), asn1::strip_zeros(e));
    let bits = bit_length(n);
    let mut out = vec![check(
        "modulus-size",
        bits >= 3072,
        format!("{bits} bits, at least 3072 are needed"),
        "CSBR §6.1.5.2",
    )];
    if !(64..=MAX_BITS).contains(&bits) {
        // Nothing below is meaningful, and hostile sizes must not cost time.
        return out;
    }
    exponent(e, &mut out);
    let modulus = Nat::from_be_bytes(n);
    let odd = modulus.is_odd();
    out.push(check(
        "modulus-odd",
        odd,
        if odd { "odd" } else { "even" },
        "CSBR §6.1.6",
    ));
    small_factors(&modulus, &mut out);
    prime_power(&modulus, bits, &mut out);
    out.push(check_roca(&modulus));
    out.push(fermat(&modulus));
    out.push(listed(n, list));
    out
}

/// CSBR §6.1.6: odd and at least 3 (MUST); 2^16+1 to 2^256−1 (SHOULD, and a MUST here: every
/// exponent we generate is 65537).
fn exponent(e: &[u8], out: &mut Vec<KeyCheck>) {
    const SOURCE: &str = "CSBR §6.1.6";
    let odd = e.last().is_some_and(|b| b & 1 == 1) && e != [1];
    out.push(check(
        "exponent",
        odd,
        if odd {
            "odd and at least 3"
        } else {
            "even, or below 3"
        },
        SOURCE,
    ));
    let bits = bit_length(e);
    let in_range = (17..=256).contains(&bits) && e != [1, 0, 0];
    out.push(check(
        "exponent-range",
        in_range,
        format!("{bits} bits, 2^16+1 to 2^256-1 are expected"),
        SOURCE,
    ));
}

/// CSBR §6.1.6: no factor below 752.
fn small_factors(n: &Nat, out: &mut Vec<KeyCheck>) {
    let factor = primes_below(752).find(|p| n.rem_small(*p) == 0);
    out.push(match factor {
        None => check("small-factors", true, "no factor below 752", "CSBR §6.1.6"),
        Some(p) => check(
            "small-factors",
            false,
            format!("divisible by {p}"),
            "CSBR §6.1.6",
        ),
    });
}

/// CSBR §6.1.6: not the power of a prime. Squares are found exactly (by [`fermat`] too). For an odd
/// prime k, N is a k-th power only if it is a k-th power residue modulo every prime q; for random N
/// each q ≡ 1 (mod k) says so with probability 1/k, so 60 of them leave 3^-60 at most.
fn prime_power(n: &Nat, bits: usize, out: &mut Vec<KeyCheck>) {
    const WITNESSES: usize = 60;
    // With no factor below 752, a k-th power has at least k × 9.55 bits.
    let max_k = u64::try_from(bits / 9).unwrap_or(u64::MAX);
    let power = if n.isqrt_exact().is_some() {
        Some(2)
    } else {
        primes_below(max_k.min(1024)).skip(1).find(|k| {
            (1u64..)
                .map(|m| 2 * m * k + 1)
                .filter(|q| is_small_prime(*q))
                .take(WITNESSES)
                .all(|q| {
                    let r = n.rem_small(q);
                    r == 0 || pow_mod(r, (q - 1) / k, q) == 1
                })
        })
    };
    out.push(match power {
        None => check("prime-power", true, "not a perfect power", "CSBR §6.1.6"),
        Some(k) => check(
            "prime-power",
            false,
            format!("a perfect power, exponent {k}"),
            "CSBR §6.1.6",
        ),
    });
}

/// The ROCA check alone, on a big-endian modulus of any size an attestation may speak of.
#[must_use]
pub fn roca(n: &[u8]) -> KeyCheck {
    check_roca(&Nat::from_be_bytes(n))
}

fn check_roca(n: &Nat) -> KeyCheck {
    const SOURCE: &str = "CSBR §6.1.1.3 (3), CVE-2017-15361";
    match roca::classify(n) {
        roca::Roca::No => check("roca", true, "no ROCA structure", SOURCE),
        // One in 2^27.8 sound keys looks so; none of them passes the discrete-log test.
        roca::Roca::MaskOnly => check(
            "roca",
            true,
            "residues look like ROCA, but no common discrete logarithm exists",
            SOURCE,
        ),
        roca::Roca::Yes => check(
            "roca",
            false,
            "the modulus is a power of 65537 modulo the product of the first 39 primes",
            SOURCE,
        ),
    }
}

/// Fermat's factorisation, 100 rounds: a from ⌈√N⌉ upwards until a² − N is a square.
fn fermat(n: &Nat) -> KeyCheck {
    const ROUNDS: u32 = 100;
    const SOURCE: &str = "CSBR §6.1.1.3 (3), ballot CSC-33 draft: 100 Fermat rounds";
    let found = |round| {
        check(
            "fermat",
            false,
            format!("factored: the primes are too close (round {round} of {ROUNDS})"),
            SOURCE,
        )
    };
    let (root, rest) = n.isqrt();
    if rest.is_zero() {
        return found(1);
    }
    // a = ⌊√N⌋ + 1, so a² − N = 2⌊√N⌋ + 1 − (N − ⌊√N⌋²). The next difference is larger by 2a + 1.
    let mut difference = root.double_plus_one().minus(&rest);
    let mut a = root.plus_one();
    for round in 1..=ROUNDS {
        if difference.isqrt_exact().is_some() {
            return found(round);
        }
        difference = difference.plus(&a.double_plus_one());
        a = a.plus_one();
    }
    check(
        "fermat",
        true,
        format!("not factored in {ROUNDS} rounds"),
        SOURCE,
    )
}

fn listed(n: &[u8], list: Option<&dyn WeakKeyList>) -> KeyCheck {
    const SOURCE: &str = "CSBR §6.1.1.3 (5), CVE-2008-0166";
    match list {
        None => KeyCheck {
            name: "weak-key-list",
            outcome: Outcome::NotChecked,
            detail: "no list of weak keys is configured".to_owned(),
            source: SOURCE,
        },
        Some(l) if l.contains(&modulus_tail(n)) => check(
            "weak-key-list",
            false,
            format!("on the list {}", l.name()),
            SOURCE,
        ),
        Some(l) => check(
            "weak-key-list",
            true,
            format!("not on the list {}", l.name()),
            SOURCE,
        ),
    }
}

/// The key of the openssl-blacklist format.
#[must_use]
pub fn modulus_tail(n: &[u8]) -> [u8; 10] {
    let line = format!("Modulus={}\n", hex::encode_upper(asn1::strip_zeros(n)));
    let digest = hash::sha1(line.as_bytes());
    let mut out = [0; 10];
    for (o, b) in out.iter_mut().zip(digest.iter().skip(10)) {
        *o = *b;
    }
    out
}

fn ec_curve(allowed: bool) -> KeyCheck {
    check(
        "curve",
        allowed,
        if allowed {
            "a curve CSBR allows"
        } else {
            "not P-256, P-384 or P-521"
        },
        "CSBR §6.1.5.2",
    )
}

fn ec_point(valid: bool) -> KeyCheck {
    check(
        "public-key-validation",
        valid,
        if valid {
            "on the curve, not the point at infinity; the cofactor is 1, so this is full validation"
        } else {
            "not a valid uncompressed point"
        },
        "CSBR §6.1.6, SP 800-56A §5.6.2.3.3",
    )
}

fn check(
    name: &'static str,
    passed: bool,
    detail: impl Into<String>,
    source: &'static str,
) -> KeyCheck {
    KeyCheck {
        name,
        outcome: if passed {
            Outcome::Passed
        } else {
            Outcome::Failed
        },
        detail: detail.into(),
        source,
    }
}

fn primes_below(end: u64) -> impl Iterator<Item = u64> {
    (2..end).filter(|n| is_small_prime(*n))
}

fn is_small_prime(n: u64) -> bool {
    n >= 2
        && (2..)
            .take_while(|d| d * d <= n)
            .all(|d| !n.is_multiple_of(d))
}

/// `base^exponent mod modulus` for a modulus below 2^32.
fn pow_mod(base: u64, exponent: u64, modulus: u64) -> u64 {
    let (mut result, mut square, mut left) = (1 % modulus, base % modulus, exponent);
    while left > 0 {
        if left & 1 == 1 {
            result = result * square % modulus;
        }
        square = square * square % modulus;
        left >>= 1;
    }
    result
}

/// Larger moduli are refused by size before anything is computed with them.
const MAX_BITS: usize = 16_384;

#[cfg(test)]
mod tests;
