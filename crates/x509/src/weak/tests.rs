use super::*;
use crate::testutil::{KEYS, key, openssl, write};
use countersign_core::KeyAlgorithm;
use proptest::prelude::*;

const E: &[u8] = &[1, 0, 1];

fn modulus(name: &str) -> Vec<u8> {
    include_str!("data/moduli.txt")
        .lines()
        .find_map(|l| l.strip_prefix(name)?.strip_prefix(' '))
        .map(|h| hex::decode(h).unwrap())
        .unwrap()
}

fn failed(checks: &[KeyCheck]) -> Vec<&'static str> {
    checks
        .iter()
        .filter(|c| c.outcome == Outcome::Failed)
        .map(|c| c.name)
        .collect()
}

#[test]
fn fresh_keys_of_every_kind_pass_and_say_what_was_not_checked() {
    for k in KEYS.iter() {
        let checks = check_key(&k.public, None);
        assert!(none_failed(&checks), "{checks:?}");
        assert_eq!(check_spki(k.public.spki_der(), None), Ok(checks.clone()));
        let open: Vec<_> = checks
            .iter()
            .filter(|c| c.outcome == Outcome::NotChecked)
            .map(|c| c.name)
            .collect();
        let expected: &[&str] = if k.public.algorithm().is_rsa() {
            &["weak-key-list"]
        } else {
            &[]
        };
        assert_eq!(open, expected);
    }
}

#[test]
fn a_sound_modulus_passes() {
    assert_eq!(failed(&check_rsa(&modulus("sound"), E, None)), [""; 0]);
}

#[test]
fn a_modulus_of_roca_form_is_found() {
    assert_eq!(failed(&check_rsa(&modulus("roca"), E, None)), ["roca"]);
}

#[test]
fn residues_alone_do_not_condemn() {
    let n = modulus("roca-mask-only");
    assert_eq!(
        roca::classify(&Nat::from_be_bytes(&n)),
        roca::Roca::MaskOnly
    );
    let checks = check_rsa(&n, E, None);
    let c = checks.iter().find(|c| c.name == "roca").unwrap();
    assert_eq!(c.outcome, Outcome::Passed);
}

#[test]
fn close_primes_are_factored_within_100_rounds_and_no_further() {
    assert_eq!(failed(&check_rsa(&modulus("close-1"), E, None)), ["fermat"]);
    let checks = check_rsa(&modulus("close-many"), E, None);
    let c = checks.iter().find(|c| c.name == "fermat").unwrap();
    assert_eq!(c.outcome, Outcome::Failed);
    assert!(c.detail.contains("round 60 "), "{}", c.detail);
    assert_eq!(
        failed(&check_rsa(&modulus("close-beyond"), E, None)),
        [""; 0]
    );
}

#[test]
fn powers_of_a_prime_are_found() {
    assert_eq!(
        failed(&check_rsa(&modulus("cube"), E, None)),
        ["prime-power"]
    );
    // 2^89 − 1 is prime; its square is too short, a square, and factored by Fermat at once.
    let p = (1u128 << 89) - 1;
    let square = {
        // p² = 2^178 − 2^90 + 1
        let mut bytes = [0u8; 23];
        let high = (1u128 << 88) - 1; // (2^178 − 2^90) >> 90
        bytes[..12].copy_from_slice(&(high << 2).to_be_bytes()[4..]);
        bytes[22] = 1;
        bytes
    };
    assert_eq!(
        Nat::from_be_bytes(&square).isqrt_exact(),
        Some(Nat::from_be_bytes(&p.to_be_bytes()))
    );
    assert_eq!(
        failed(&check_rsa(&square, E, None)),
        ["modulus-size", "prime-power", "fermat"]
    );
}

#[test]
fn small_factors_even_moduli_and_bad_exponents_are_found() {
    let sound = modulus("sound");
    let mut even = sound.clone();
    *even.last_mut().unwrap() &= 0xfe;
    assert!(failed(&check_rsa(&even, E, None)).contains(&"modulus-odd"));
    assert_eq!(
        failed(&check_rsa(&modulus("factor-751"), E, None)),
        ["small-factors"]
    );

    for (e, expected) in [
        (&[1u8][..], &["exponent", "exponent-range"][..]),
        (&[2], &["exponent", "exponent-range"]),
        (&[3], &["exponent-range"]),
        (&[1, 0, 0], &["exponent", "exponent-range"]),
        (&[1, 0, 1], &[]),
        (&[1; 33], &["exponent-range"]),
    ] {
        assert_eq!(failed(&check_rsa(&sound, e, None)), expected, "{e:?}");
    }
}

#[test]
fn sizes_and_curves_csbr_does_not_allow_fail() {
    let dir = tempfile::tempdir().unwrap();
    for (options, expected) in [
        (
            "-algorithm RSA -pkeyopt rsa_keygen_bits:2048",
            vec!["modulus-size"],
        ),
        ("-algorithm EC -pkeyopt ec_paramgen_curve:P-521", vec![]),
        (
            "-algorithm EC -pkeyopt ec_paramgen_curve:secp256k1",
            vec!["curve", "public-key-validation"],
        ),
    ] {
        openssl(dir.path(), &format!("genpkey {options} -out k.pem"));
        openssl(dir.path(), "pkey -in k.pem -pubout -outform DER -out p.der");
        let spki = crate::testutil::read(dir.path(), "p.der");
        assert_eq!(
            failed(&check_spki(&spki, None).unwrap()),
            expected,
            "{options}"
        );
    }
    // Hostile sizes end before any arithmetic.
    assert_eq!(failed(&check_rsa(&[1], E, None)), ["modulus-size"]);
    assert!(check_rsa(&vec![0xff; 1 << 20], E, None).len() == 1);
}

struct List([u8; 10]);

impl WeakKeyList for List {
    fn name(&self) -> &str {
        "made up"
    }
    fn contains(&self, tail: &[u8; 10]) -> bool {
        *tail == self.0
    }
}

#[test]
fn the_list_key_is_the_one_of_openssl_blacklist() {
    // openssl-vulnkey: the SHA-1 of what `openssl rsa -modulus` prints, without its first half.
    let k = &key(KeyAlgorithm::Rsa3072).public;
    let Parts::Rsa { n, .. } = k.parts() else {
        unreachable!()
    };
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), "pub.pem", k.to_pem());
    let line = openssl(dir.path(), "rsa -pubin -in pub.pem -modulus -noout");
    write(dir.path(), "line", line);
    let digest = openssl(dir.path(), "dgst -sha1 -r line");
    assert_eq!(
        digest.get(20..40),
        Some(hex::encode(modulus_tail(n)).as_str())
    );

    let hit = check_key(k, Some(&List(modulus_tail(n))));
    assert_eq!(failed(&hit), ["weak-key-list"]);
    let miss = check_key(k, Some(&List([0; 10])));
    assert_eq!(miss.last().unwrap().outcome, Outcome::Passed);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]
    #[test]
    fn arbitrary_numbers_never_panic(
        n in proptest::collection::vec(any::<u8>(), 0..300),
        e in proptest::collection::vec(any::<u8>(), 0..40),
    ) {
        let _ = check_rsa(&n, &e, None);
        let _ = check_spki(&n, None);
    }
}
