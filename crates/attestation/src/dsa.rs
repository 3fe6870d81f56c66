//! DSA with SHA-256 (FIPS 186-4 §4.7), verification alone.
//!
//! nShield modules and Security Worlds sign with DSA, which aws-lc-rs does not offer. The numbers
//! are `crypto-bigint`'s, which the tree holds already (RSA and the NIST curves rest on it).
//! Everything here is public, so time tells nothing. FIPS 186-5 keeps DSA for verification only.

use crate::signature::{Hash, SignatureError};
use crypto_bigint::modular::{BoxedMontyForm, BoxedMontyParams};
use crypto_bigint::{BoxedUint, NonZero, Odd};

/// A DSA public key; numbers are big-endian without leading zeros.
#[derive(Debug, Clone, Copy)]
pub struct DsaKey<'a> {
    /// Prime modulus.
    pub p: &'a [u8],
    /// Order of the subgroup.
    pub q: &'a [u8],
    /// Generator.
    pub g: &'a [u8],
    /// Public value.
    pub y: &'a [u8],
}

/// Verifies the signature (r, s) over `message`, its numbers big-endian without leading zeros.
///
/// # Errors
/// [`SignatureError::Unsupported`] for sizes other than those of FIPS 186-4 §4.2 from 2048 bits
/// on, else [`SignatureError::Invalid`].
pub fn verify_sha256(
    key: DsaKey<'_>,
    message: &[u8],
    r: &[u8],
    s: &[u8],
) -> Result<(), SignatureError> {
    let (l, n) = (key.p.len() * 8, key.q.len() * 8);
    // The top bits are set in primes of these sizes, so that whole bytes tell the size.
    let tops = [key.p, key.q]
        .iter()
        .all(|x| x.first().is_some_and(|b| b & 0x80 != 0));
    if !tops || !matches!((l, n), (2048, 224) | (2048, 256) | (3072, 256)) {
        let size = format!("DSA of {l}/{n} bits");
        return Err(SignatureError::Unsupported(size, Hash::Sha256.as_str()));
    }
    if verifies(key, message, r, s) == Some(true) {
        Ok(())
    } else {
        Err(SignatureError::Invalid)
    }
}

fn verifies(key: DsaKey<'_>, message: &[u8], r: &[u8], s: &[u8]) -> Option<bool> {
    let q_bits = u32::try_from(key.q.len()).ok()?.checked_mul(8)?;
    let p_bits = u32::try_from(key.p.len()).ok()?.checked_mul(8)?;
    let p = number(key.p, p_bits)?;
    let q = number(key.q, q_bits)?;
    let (g, y) = (number(key.g, p_bits)?, number(key.y, p_bits)?);
    let (r, s) = (number(r, q_bits)?, number(s, q_bits)?);
    let one_p = BoxedUint::one_with_precision(p_bits);
    let one_q = BoxedUint::one_with_precision(q_bits);
    // FIPS 186-4 §4.7: 0 < r < q and 0 < s < q. SP 800-89 §5.3.1: 2 <= y <= p - 2; g likewise.
    let p_less_one = p.wrapping_sub(&one_p);
    if r < one_q || r >= q || s < one_q || s >= q {
        return Some(false);
    }
    if g <= one_p || g >= p_less_one || y <= one_p || y >= p_less_one {
        return Some(false);
    }
    let mod_p = BoxedMontyParams::new_vartime(Option::<Odd<_>>::from(Odd::new(p))?);
    let mod_q = BoxedMontyParams::new_vartime(Option::<Odd<_>>::from(Odd::new(q.clone()))?);

    // w = s^-1 mod q, by Fermat: q is prime (a q that is not makes a signature that is wrong).
    let q_less_two = q.wrapping_sub(&one_q).wrapping_sub(&one_q);
    let w = BoxedMontyForm::new(s, &mod_q).pow(&q_less_two);
    // The leftmost min(N, 256) bits of the hash; N is 224 or 256.
    let digest = Hash::Sha256.of(message);
    let z = number(digest.get(..key.q.len())?, q_bits)?;
    let z = z.rem_vartime(&Option::<NonZero<_>>::from(NonZero::new(q.clone()))?);
    let u1 = (BoxedMontyForm::new(z, &mod_q) * &w).retrieve();
    let u2 = (BoxedMontyForm::new(r.clone(), &mod_q) * &w).retrieve();
    let v = BoxedMontyForm::new(g, &mod_p).pow(&u1) * &BoxedMontyForm::new(y, &mod_p).pow(&u2);
    let v = v.retrieve();
    let v = v.rem_vartime(&Option::<NonZero<_>>::from(NonZero::new(q))?);
    Some(v == r)
}

fn number(bytes: &[u8], bits: u32) -> Option<BoxedUint> {
    BoxedUint::from_be_slice(bytes, bits).ok()
}
