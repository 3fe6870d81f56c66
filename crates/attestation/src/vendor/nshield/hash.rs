//! nCore key hashes: what nCore calls a key by.
//!
//! SHA-1 over `"nFast KeyHash\0" || name || "\0" || material || "invented by nCipher 1997\0"`,
//! numbers little-endian and padded to whole blocks of 64 bytes. The vendor's "Construction of
//! nCore key hashes" gives it; real bundles confirm it for RSA, DSA, P-256 and P-521.
//!
//! SHA-1 is the format's choice. What rests on it is that nobody finds a *second* key with the
//! hash of one that a module made (a second preimage, which SHA-1 still resists).

use super::ncore::{Key, KeyHash};
use crate::key::Curve;
use aws_lc_rs::digest;

/// The constants of a prime curve, in hexadecimal (SEC 2, §2): p, a, b, Gx, Gy, order.
struct Domain {
    bits: u32,
    numbers: [&'static str; 6],
}

const P256: Domain = Domain {
    bits: 256,
    numbers: [
        "ffffffff00000001000000000000000000000000ffffffffffffffffffffffff",
        "ffffffff00000001000000000000000000000000fffffffffffffffffffffffc",
        "5ac635d8aa3a93e7b3ebbd55769886bc651d06b0cc53b0f63bce3c3e27d2604b",
        "6b17d1f2e12c4247f8bce6e563a440f277037d812deb33a0f4a13945d898c296",
        "4fe342e2fe1a7f9b8ee7eb4a7c0f9e162bce33576b315ececbb6406837bf51f5",
        "ffffffff00000000ffffffffffffffffbce6faada7179e84f3b9cac2fc632551",
    ],
};
const P384: Domain = Domain {
    bits: 384,
    numbers: [
        "fffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffeffffffff0000000000000000ffffffff",
        "fffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffeffffffff0000000000000000fffffffc",
        "b3312fa7e23ee7e4988e056be3f82d19181d9c6efe8141120314088f5013875ac656398d8a2ed19d2a85c8edd3ec2aef",
        "aa87ca22be8b05378eb1c71ef320ad746e1d3b628ba79b9859f741e082542a385502f25dbf55296c3a545e3872760ab7",
        "3617de4a96262c6f5d9e98bf9292dc29f8f41dbd289a147ce9da3113b5f0b8c00a60b1ce1d7e819d7a431d7c90ea0e5f",
        "ffffffffffffffffffffffffffffffffffffffffffffffffc7634d81f4372ddf581a0db248b0a77aecec196accc52973",
    ],
};
const P521: Domain = Domain {
    bits: 521,
    numbers: [
        "01ffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff",
        "01fffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffc",
        "0051953eb9618e1c9a1f929a21a0b68540eea2da725b99b315f3b8b489918ef109e156193951ec7e937b1652c0bd3bb1bf073573df883d2c34f1ef451fd46b503f00",
        "00c6858e06b70404e9cd9e3ecb662395b4429c648139053fb521f828af606b4d3dbaa14b5e77efe75928fe1dc127a2ffa8de3348b3c1856a429bf97e7e31c2e5bd66",
        "011839296a789a3bc0045c8a5fb42c7d1bd998f54449579b446817afbd17273e662c97ee72995ef42640c550b9013fad0761353c7086a272c24088be94769fd16650",
        "01fffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffa51868783bf2f966b7fcc0148f709a5d03bb5c9b8899c47aebb6fb71e91386409",
    ],
};

const NONE: Domain = Domain {
    bits: 0,
    numbers: [""; 6],
};

/// The hash of `key`.
pub fn key_hash(key: &Key) -> KeyHash {
    let mut context = digest::Context::new(&digest::SHA1_FOR_LEGACY_USE_ONLY);
    context.update(b"nFast KeyHash\0");
    match key {
        Key::Rsa { e, n } => {
            context.update(b"RSA00\0");
            for number in [e, n] {
                context.update(&padded(number));
            }
        }
        Key::Dsa { p, q, g, y } => {
            context.update(b"DSA00\0");
            for number in [p, q, g, y] {
                context.update(&padded(number));
            }
        }
        Key::Ecdsa { curve, x, y } => {
            let domain = match curve {
                Curve::P256 => &P256,
                Curve::P384 => &P384,
                Curve::P521 => &P521,
                // The reader gives no other; an empty domain is no key's.
                Curve::Secp256k1 => &NONE,
            };
            context.update(b"ECDSA00\0");
            // Curve type 0 and field type 0: a prime field.
            context.update(&[0; 8]);
            context.update(&domain.bits.to_le_bytes());
            for number in domain.numbers {
                // Constants of ours; a test decodes each.
                context.update(&padded(&hex::decode(number).unwrap_or_default()));
            }
            // The cofactor.
            for number in [&[1][..], x, y] {
                context.update(&padded(number));
            }
        }
    }
    context.update(b"invented by nCipher 1997\0");
    let mut hash = KeyHash::default();
    for (to, from) in hash.iter_mut().zip(context.finish().as_ref()) {
        *to = *from;
    }
    hash
}

/// Little-endian, padded with zeros to whole blocks of 64 bytes; zero is no block.
fn padded(number: &[u8]) -> Vec<u8> {
    let mut out: Vec<u8> = number.iter().rev().copied().collect();
    while out.last() == Some(&0) {
        out.pop();
    }
    out.resize(out.len().next_multiple_of(64), 0);
    out
}
