//! Test keys: made when first asked for, by kind and name, and kept for the process. RSA keys take
//! a while to make, so tests share them by name.

use crate::der;
use aws_lc_rs::encoding::AsDer;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature as lc;
use aws_lc_rs::signature::KeyPair as _;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, OnceLock};

/// A kind of key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// NIST P-256.
    P256,
    /// NIST P-384.
    P384,
    /// NIST P-521.
    P521,
    /// secp256k1.
    Secp256k1,
    /// RSA, 2048 bits.
    Rsa2048,
    /// RSA, 3072 bits.
    Rsa3072,
    /// Ed25519.
    Ed25519,
}

/// How to sign.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Scheme {
    /// RSASSA-PKCS1-v1_5 with SHA-256.
    RsaSha256,
    /// RSASSA-PKCS1-v1_5 with SHA-384.
    RsaSha384,
    /// RSASSA-PKCS1-v1_5 with SHA-512.
    RsaSha512,
    /// RSASSA-PSS with SHA-256 and a salt of 32 bytes.
    PssSha256,
    /// ECDSA with the hash of the curve's size (P-521: SHA-512), as DER.
    Ecdsa,
    /// Ed25519.
    Ed25519,
}

enum Pair {
    Ec(lc::EcdsaKeyPair, Option<lc::EcdsaKeyPair>),
    Rsa(lc::RsaKeyPair),
    Ed(lc::Ed25519KeyPair),
}

/// A test key.
#[derive(Clone)]
pub struct Key {
    kind: Kind,
    pair: Arc<Pair>,
    spki: Vec<u8>,
}

impl std::fmt::Debug for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:?} key", self.kind)
    }
}

impl Key {
    /// The key of that kind and name. The same name gives the same key within a process.
    #[must_use]
    pub fn named(kind: Kind, name: &str) -> Self {
        static KEPT: OnceLock<Mutex<HashMap<(Kind, String), Key>>> = OnceLock::new();
        let kept = KEPT.get_or_init(Mutex::default);
        let mut kept = kept
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        let entry = kept.entry((kind, name.to_owned()));
        entry.or_insert_with(|| Self::fresh(kind)).clone()
    }

    fn fresh(kind: Kind) -> Self {
        let ec = |asn1, fixed: Option<_>| {
            let pair = lc::EcdsaKeyPair::generate(asn1).unwrap();
            let fixed = fixed.map(|alg| {
                let pkcs8 = pair.to_pkcs8v1().unwrap();
                lc::EcdsaKeyPair::from_pkcs8(alg, pkcs8.as_ref()).unwrap()
            });
            Pair::Ec(pair, fixed)
        };
        let rsa = |size| Pair::Rsa(lc::RsaKeyPair::generate(size).unwrap());
        let pair = match kind {
            Kind::P256 => ec(
                &lc::ECDSA_P256_SHA256_ASN1_SIGNING,
                Some(&lc::ECDSA_P256_SHA256_FIXED_SIGNING),
            ),
            Kind::P384 => ec(
                &lc::ECDSA_P384_SHA384_ASN1_SIGNING,
                Some(&lc::ECDSA_P384_SHA384_FIXED_SIGNING),
            ),
            Kind::P521 => ec(
                &lc::ECDSA_P521_SHA512_ASN1_SIGNING,
                Some(&lc::ECDSA_P521_SHA512_FIXED_SIGNING),
            ),
            Kind::Secp256k1 => ec(&lc::ECDSA_P256K1_SHA256_ASN1_SIGNING, None),
            Kind::Rsa2048 => rsa(KeySize::Rsa2048),
            Kind::Rsa3072 => rsa(KeySize::Rsa3072),
            Kind::Ed25519 => Pair::Ed(lc::Ed25519KeyPair::generate().unwrap()),
        };
        let spki = spki(kind, &pair);
        Self {
            kind,
            pair: Arc::new(pair),
            spki,
        }
    }

    /// Its kind.
    #[must_use]
    pub const fn kind(&self) -> Kind {
        self.kind
    }

    /// Its SubjectPublicKeyInfo.
    #[must_use]
    pub fn spki(&self) -> &[u8] {
        &self.spki
    }

    /// The public key alone: a point, 32 bytes, or an `RSAPublicKey`.
    #[must_use]
    pub fn public(&self) -> Vec<u8> {
        match &*self.pair {
            Pair::Ec(p, _) => p.public_key().as_ref().to_vec(),
            Pair::Rsa(p) => p.public_key().as_ref().to_vec(),
            Pair::Ed(p) => p.public_key().as_ref().to_vec(),
        }
    }

    /// Modulus and exponent of an RSA key, big-endian.
    #[must_use]
    pub fn rsa_parts(&self) -> (Vec<u8>, Vec<u8>) {
        match &*self.pair {
            Pair::Rsa(p) => {
                // RSAPublicKey: 30 82 xx xx, 02 82 xx xx modulus, 02 03 01 00 01.
                let der = p.public_key().as_ref();
                let e = vec![1, 0, 1];
                assert!(der.ends_with(&[2, 3, 1, 0, 1]), "another exponent");
                let n = &der[der.len() - 5 - p.public_modulus_len()..der.len() - 5];
                (n.to_vec(), e)
            }
            _ => panic!("no RSA key"),
        }
    }

    /// The scheme its kind is mostly used with.
    #[must_use]
    pub const fn usual(&self) -> Scheme {
        match self.kind {
            Kind::Rsa2048 | Kind::Rsa3072 => Scheme::RsaSha256,
            Kind::Ed25519 => Scheme::Ed25519,
            _ => Scheme::Ecdsa,
        }
    }

    /// A signature by a scheme that fits the key.
    #[must_use]
    pub fn sign(&self, scheme: Scheme, message: &[u8]) -> Vec<u8> {
        let rng = SystemRandom::new();
        match (&*self.pair, scheme) {
            (Pair::Ec(p, _), Scheme::Ecdsa) => p.sign(&rng, message).unwrap().as_ref().to_vec(),
            (Pair::Ed(p), Scheme::Ed25519) => p.sign(message).as_ref().to_vec(),
            (Pair::Rsa(p), _) => {
                let padding: &dyn lc::RsaEncoding = match scheme {
                    Scheme::RsaSha256 => &lc::RSA_PKCS1_SHA256,
                    Scheme::RsaSha384 => &lc::RSA_PKCS1_SHA384,
                    Scheme::RsaSha512 => &lc::RSA_PKCS1_SHA512,
                    Scheme::PssSha256 => &lc::RSA_PSS_SHA256,
                    _ => panic!("{scheme:?} with an RSA key"),
                };
                let mut out = vec![0; p.public_modulus_len()];
                p.sign(padding, &rng, message, &mut out).unwrap();
                out
            }
            _ => panic!("{scheme:?} with {:?}", self.kind),
        }
    }

    /// An ECDSA signature, as DER, over a SHA-256 hash made elsewhere: what a token is asked for.
    #[must_use]
    pub fn sign_sha256(&self, hash: &[u8]) -> Vec<u8> {
        use aws_lc_rs::digest::{Digest, SHA256};
        match &*self.pair {
            Pair::Ec(p, _) => {
                let hash = Digest::import_less_safe(hash, &SHA256).unwrap();
                p.sign_digest(&hash).unwrap().as_ref().to_vec()
            }
            _ => panic!("no hash is signed with {:?}", self.kind),
        }
    }

    /// An ECDSA signature as `r || s`, each as long as the curve's field.
    #[must_use]
    pub fn sign_fixed(&self, message: &[u8]) -> Vec<u8> {
        match &*self.pair {
            Pair::Ec(_, Some(p)) => {
                let rng = SystemRandom::new();
                p.sign(&rng, message).unwrap().as_ref().to_vec()
            }
            _ => panic!("no r || s with {:?}", self.kind),
        }
    }

    /// The `AlgorithmIdentifier` of a signature.
    #[must_use]
    pub fn algorithm(&self, scheme: Scheme) -> Vec<u8> {
        match (scheme, self.kind) {
            (Scheme::RsaSha256, _) => der::algorithm("1.2.840.113549.1.1.11", true),
            (Scheme::RsaSha384, _) => der::algorithm("1.2.840.113549.1.1.12", true),
            (Scheme::RsaSha512, _) => der::algorithm("1.2.840.113549.1.1.13", true),
            (Scheme::Ecdsa, Kind::P384) => der::algorithm("1.2.840.10045.4.3.3", false),
            (Scheme::Ecdsa, Kind::P521) => der::algorithm("1.2.840.10045.4.3.4", false),
            (Scheme::Ecdsa, _) => der::algorithm("1.2.840.10045.4.3.2", false),
            (Scheme::Ed25519, _) => der::algorithm("1.3.101.112", false),
            (Scheme::PssSha256, _) => {
                let sha256 = der::algorithm("2.16.840.1.101.3.4.2.1", true);
                let mgf = der::seq(&[der::oid("1.2.840.113549.1.1.8"), sha256.clone()]);
                let params = der::seq(&[
                    der::context(0, &sha256),
                    der::context(1, &mgf),
                    der::context(2, &der::int(32)),
                ]);
                der::seq(&[der::oid("1.2.840.113549.1.1.10"), params])
            }
        }
    }
}

fn spki(kind: Kind, pair: &Pair) -> Vec<u8> {
    let curve = match kind {
        Kind::P256 => "1.2.840.10045.3.1.7",
        Kind::P384 => "1.3.132.0.34",
        Kind::P521 => "1.3.132.0.35",
        Kind::Secp256k1 => "1.3.132.0.10",
        _ => "",
    };
    match pair {
        Pair::Ec(p, _) => der::seq(&[
            der::seq(&[der::oid("1.2.840.10045.2.1"), der::oid(curve)]),
            der::bits(p.public_key().as_ref()),
        ]),
        Pair::Rsa(p) => {
            let spki = der::seq(&[
                der::algorithm("1.2.840.113549.1.1.1", true),
                der::bits(p.public_key().as_ref()),
            ]);
            let theirs = p.public_key().as_der().unwrap();
            assert_eq!(spki, theirs.as_ref(), "two encoders of one key");
            spki
        }
        Pair::Ed(p) => der::seq(&[
            der::algorithm("1.3.101.112", false),
            der::bits(p.public_key().as_ref()),
        ]),
    }
}
