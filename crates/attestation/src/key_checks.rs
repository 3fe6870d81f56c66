//! The checks on the public key itself, as checks of a result.

use crate::result::{Basis, Check, Outcome, Rule};
use countersign_x509::key::{KeyError, PublicKey};
use countersign_x509::weak::{self, KeyCheck};
use std::borrow::Cow;

const ALLOWED: Rule = Rule::documented(
    "key-allowed",
    "RSA of 3072 or 4096 bits, or ECDSA on P-256 or P-384, in its one canonical encoding",
    "CSBR §6.1.5.2, §6.1.6",
);

/// A key that could not even be read as one of those allowed.
pub(crate) fn refused(e: &KeyError) -> Check {
    ALLOWED.check(false, e.to_string())
}

/// All checks on a key that was read.
pub(crate) fn check(key: &PublicKey) -> Vec<Check> {
    let allowed = ALLOWED.check(true, key.algorithm().as_str());
    std::iter::once(allowed)
        .chain(weak::check_key(key, None).into_iter().map(translate))
        .collect()
}

fn translate(c: KeyCheck) -> Check {
    Check {
        name: Cow::Owned(format!("key-{}", c.name)),
        outcome: match c.outcome {
            weak::Outcome::Passed => Outcome::Pass,
            weak::Outcome::Failed => Outcome::Fail,
            weak::Outcome::NotChecked => Outcome::NotChecked,
        },
        seen: c.detail,
        rule: Cow::Borrowed(demand(c.name)),
        source: Cow::Borrowed(c.source),
        basis: Basis::FromDocumentation,
    }
}

fn demand(name: &str) -> &'static str {
    match name {
        "modulus-size" => "an RSA modulus has at least 3072 bits",
        "exponent" => "an RSA exponent is odd and at least 3",
        "exponent-range" => "an RSA exponent lies between 2^16+1 and 2^256-1",
        "modulus-odd" => "an RSA modulus is odd",
        "small-factors" => "an RSA modulus has no factor below 752",
        "prime-power" => "an RSA modulus is no power of a prime",
        "roca" => "an RSA modulus does not come from the flawed generator of CVE-2017-15361",
        "fermat" => "an RSA modulus is not factored by 100 rounds of Fermat's method",
        "weak-key-list" => "the key is on no list of known weak keys",
        "curve" => "the curve is one CSBR allows",
        "public-key-validation" => "the point lies on the curve and is not the point at infinity",
        _ => "the key is neither weak nor disallowed",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testkit::Pair;

    #[test]
    fn each_check_of_a_key_states_its_own_demand() {
        let ec = PublicKey::from_spki_der(&Pair::new().spki).unwrap();
        let mut n = [0xff; 384];
        n[383] = 0xfd;
        let rsa = PublicKey::from_rsa_parts(&n, &[1, 0, 1]).unwrap();
        let checks: Vec<_> = [check(&ec), check(&rsa)].concat();
        assert!(checks.len() > 8, "{checks:#?}");
        for c in &checks {
            assert_ne!(c.rule, demand("?"), "{}", c.name);
            assert!(c.name.starts_with("key-"), "{}", c.name);
        }
    }

    #[test]
    fn a_weak_key_fails_by_name() {
        // 2^3072 - 1: divisible by 3.
        let rsa = PublicKey::from_rsa_parts(&[0xff; 384], &[1, 0, 1]).unwrap();
        let failed: Vec<_> = check(&rsa)
            .into_iter()
            .filter(|c| c.outcome == Outcome::Fail)
            .map(|c| c.name)
            .collect();
        assert!(
            failed.contains(&Cow::Borrowed("key-small-factors")),
            "{failed:?}"
        );
    }
}
