//! The public key that Azure's JSON shows beside the evidence (RFC 7517, RFC 7518 §6).
//!
//! Nobody signed it. But who hands in this JSON says that the evidence is for this key, so where it
//! names another one, evidence and JSON do not belong together.

use crate::key::{Curve, PublicKey};
use crate::verify::armour;
use serde::Deserialize;

/// A key of Azure's: what it shows of it, as text.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
pub struct Jwk {
    /// The key's identifier, an address.
    pub kid: Option<String>,
    /// `RSA` or `EC`, with `-HSM` behind it for a key of the Managed HSM.
    pub kty: Option<String>,
    /// RSA: modulus.
    pub n: Option<String>,
    /// RSA: exponent.
    pub e: Option<String>,
    /// EC: curve.
    pub crv: Option<String>,
    /// EC: abscissa.
    pub x: Option<String>,
    /// EC: ordinate.
    pub y: Option<String>,
}

impl Jwk {
    /// Where what is shown is not `key`, in words. What is not shown is not compared; what cannot
    /// be read, or belongs to another kind of key, is another key's.
    pub(super) fn differs(&self, key: &PublicKey) -> Option<String> {
        let Self {
            n, e, crv, x, y, ..
        } = self;
        let (kinds, ours, others): (_, Vec<Member<'_>>, Vec<&Option<String>>) = match key {
            PublicKey::Rsa {
                n: ours,
                e: exponent,
            } => (
                ["RSA", "RSA-HSM"],
                vec![("n", n, ours), ("e", e, exponent)],
                vec![crv, x, y],
            ),
            PublicKey::Ec { curve, point } => {
                if let Some(crv) = crv
                    && !names(*curve).contains(&crv.as_str())
                {
                    return Some(format!("crv is {}", shown(crv)));
                }
                let at = point.get(1..)?.split_at_checked(curve.coordinate())?;
                (
                    ["EC", "EC-HSM"],
                    vec![("x", x, at.0), ("y", y, at.1)],
                    vec![n, e],
                )
            }
            PublicKey::Ed25519(_) => return Some("the card has no Ed25519".to_owned()),
        };
        if let Some(kty) = &self.kty
            && !kinds.contains(&kty.as_str())
        {
            return Some(format!("kty is {}", shown(kty)));
        }
        if others.into_iter().any(Option::is_some) {
            return Some("it has members of another kind of key".to_owned());
        }
        let differ = |(_, text, ours): &Member<'_>| {
            let given = text.as_ref().map(|t| armour::base64(t.as_bytes()));
            // RFC 7518 §6.2.1.2 and §6.3.1.1 fix how many leading zeros there are; not all obey.
            given.is_some_and(|g| g.is_none_or(|g| without_zeros(&g) != without_zeros(ours)))
        };
        let (name, ..) = ours.into_iter().find(differ)?;
        Some(format!("{name} is another number"))
    }

    /// Whether anything of the key is shown that can be compared.
    pub(super) fn shows_key(&self) -> bool {
        [&self.kty, &self.n, &self.e, &self.crv, &self.x, &self.y]
            .into_iter()
            .any(Option::is_some)
    }
}

/// Name, as given, as the key has it.
type Member<'a> = (&'static str, &'a Option<String>, &'a [u8]);

/// RFC 7518 §6.2.1.1; for secp256k1 RFC 8812 §3.1 and the name Azure had before it.
fn names(curve: Curve) -> [&'static str; 2] {
    match curve {
        Curve::Secp256k1 => ["P-256K", "secp256k1"],
        other => [other.as_str(); 2],
    }
}

fn without_zeros(bytes: &[u8]) -> &[u8] {
    let zeros = bytes.iter().take_while(|b| **b == 0).count();
    bytes.get(zeros..).unwrap_or_default()
}

fn shown(text: &str) -> String {
    text.chars()
        .take(32)
        .collect::<String>()
        .escape_default()
        .to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use base64::Engine as _;
    use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};

    fn rsa() -> PublicKey {
        PublicKey::from_rsa_parts(&[0xfb; 256], &[1, 0, 1]).unwrap()
    }

    /// The base point of P-256 (SEC 2 §2.4.2).
    fn p256() -> (PublicKey, [Vec<u8>; 2]) {
        let x = "6b17d1f2e12c4247f8bce6e563a440f277037d812deb33a0f4a13945d898c296";
        let y = "4fe342e2fe1a7f9b8ee7eb4a7c0f9e162bce33576b315ececbb6406837bf51f5";
        let [x, y] = [x, y].map(|t| hex::decode(t).unwrap());
        let key = PublicKey::from_coordinates(Curve::P256, &x, &y).unwrap();
        (key, [x, y])
    }

    #[test]
    fn the_same_key_in_either_alphabet_and_what_is_not_shown() {
        assert_eq!(Jwk::default().differs(&rsa()), None);
        assert!(!Jwk::default().shows_key());
        for n in [
            URL_SAFE_NO_PAD.encode([0xfb; 256]),
            STANDARD.encode([0xfb; 256]),
            STANDARD.encode([&[0][..], &[0xfb; 256]].concat()),
        ] {
            let jwk = Jwk {
                kty: Some("RSA-HSM".into()),
                n: Some(n),
                e: Some("AQAB".into()),
                ..Jwk::default()
            };
            assert!(jwk.shows_key());
            assert_eq!(jwk.differs(&rsa()), None);
        }
        let (key, [x, y]) = p256();
        let jwk = Jwk {
            kty: Some("EC-HSM".into()),
            crv: Some("P-256".into()),
            x: Some(URL_SAFE_NO_PAD.encode(x)),
            y: Some(URL_SAFE_NO_PAD.encode(y)),
            ..Jwk::default()
        };
        assert_eq!(jwk.differs(&key), None);
        assert!(jwk.differs(&rsa()).is_some());
    }

    #[test]
    fn another_key_is_told_by_each_member() {
        let (key, [x, _]) = p256();
        let some = |text: &str| Some(text.to_owned());
        let none = Jwk::default;
        let other = URL_SAFE_NO_PAD.encode([7; 32]);
        for (jwk, word) in [
            (
                Jwk {
                    kty: some("RSA-HSM"),
                    ..none()
                },
                "kty is RSA-HSM",
            ),
            (
                Jwk {
                    crv: some("P-384"),
                    ..none()
                },
                "crv is P-384",
            ),
            (
                Jwk {
                    x: some(&other),
                    ..none()
                },
                "x is another",
            ),
            (
                Jwk {
                    y: some(&other),
                    ..none()
                },
                "y is another",
            ),
            (
                Jwk {
                    y: Some(URL_SAFE_NO_PAD.encode(x)),
                    ..none()
                },
                "y is another",
            ),
            (
                Jwk {
                    x: some("*"),
                    ..none()
                },
                "x is another",
            ),
            (
                Jwk {
                    n: some("AQAB"),
                    ..none()
                },
                "another kind",
            ),
        ] {
            let seen = jwk.differs(&key).unwrap();
            assert!(seen.contains(word), "{seen}");
        }
        for (jwk, word) in [
            (
                Jwk {
                    kty: some("oct-HSM"),
                    ..none()
                },
                "kty is oct-HSM",
            ),
            (
                Jwk {
                    n: some("AQAB"),
                    ..none()
                },
                "n is another",
            ),
            (
                Jwk {
                    e: some("Aw"),
                    ..none()
                },
                "e is another",
            ),
            (
                Jwk {
                    crv: some("P-256"),
                    ..none()
                },
                "another kind",
            ),
        ] {
            let seen = jwk.differs(&rsa()).unwrap();
            assert!(seen.contains(word), "{seen}");
        }
    }
}
