//! DSA with SHA-256 (FIPS 186-4), signing, in a group made for these tests.

use super::unhex;
use aws_lc_rs::digest::{SHA256, digest};
use crypto_bigint::modular::{BoxedMontyForm, BoxedMontyParams};
use crypto_bigint::{BoxedUint, NonZero, Odd};

const P: &str = "a45994239c662df90d948b7849916e6bc8f353ea2a26670ee0ee9a12997294bf272cbf18d1763137426b3c963c\
    866d8edec5b67d9cd1bd067c11d9a9d102392ea2db849bdeb2e8e5e8564b53a8bbfffa043ca621d46a356fea29\
    68104d82c87cd8f26300ee69c047510a4e00f11c3178e28c0b0fb13e665ddac1e8d165062c6e562035334629c9\
    de81d167c940ee52ca546085e676890621fa74d85fe057f9fb792676298378ea92a41ec990d8670baa2006df49\
    b007c08200ee214c37255b2fe10c3cdbc0211ea3afff45a9f3722b4676894911ec3e8f3a9c1d0c3032cd59a74e\
    43e24a45fc476a75a2632a02f2ccd14fffe585ed5581a11bb365f1f0df0e05";
const Q: &str = "d1d3c52ad056016ef6b3e3e0821474598fe98095eb785907d9b1253aa7c89c93";
const G: &str = "8b9e45d38cb3136f9b3e07c2b907d477868706ff34a6544f75e462636a00e3fb3c0a489c217b2ec58de4c82dd9\
    70fff9a4e4003da053072c2f0102de4ce8d30ad9811cd940c0900b9bfc29f495fe7a6f91a53a4e41b6cb8daef6\
    fa9b6612ea83dac8697d31321190629ea1956eb17d06c4f1f82481dc9d3cd5bd573ba61af557a36e2da53abf8a\
    401a9cddc2798cb459fac358a328b48e6494b4ed85d116001ebcb1df44af73f0705645dad2fceac5372918d6d7\
    cc38342c032ba708cf40093e5f2b91b7a99b82cf13b2e0308803e0c95451641546f532c92e89465652e62ced4a\
    38000c8cf4a9b812f78916673abb0ae368a4329eb7c5977f238fc7b17cadfe";

/// A test key.
#[derive(Debug, Clone)]
pub struct DsaPair {
    x: BoxedUint,
    y: BoxedUint,
}

fn hex(text: &str, bits: u32) -> BoxedUint {
    let bytes = unhex(text);
    BoxedUint::from_be_slice(&bytes, bits).expect("fits")
}

fn field(modulus: &BoxedUint) -> BoxedMontyParams {
    BoxedMontyParams::new_vartime(Odd::new(modulus.clone()).expect("a prime is odd"))
}

fn reduce(value: &BoxedUint, modulus: &BoxedUint) -> BoxedUint {
    value.rem_vartime(&NonZero::new(modulus.clone()).expect("not zero"))
}

fn trimmed(value: &BoxedUint) -> Vec<u8> {
    let bytes = value.to_be_bytes();
    bytes.iter().skip_while(|b| **b == 0).copied().collect()
}

impl DsaPair {
    /// The key of `seed`: the same each time.
    #[must_use]
    pub fn from_seed(seed: &str) -> Self {
        let q = hex(Q, 256);
        let hash = digest(&SHA256, seed.as_bytes());
        let x = reduce(
            &BoxedUint::from_be_slice(hash.as_ref(), 256).expect("fits"),
            &q,
        );
        let y = BoxedMontyForm::new(hex(G, 2048), &field(&hex(P, 2048)))
            .pow(&x)
            .retrieve();
        Self { x, y }
    }

    /// p, q, g, y, big-endian.
    #[must_use]
    pub fn public(&self) -> [Vec<u8>; 4] {
        [unhex(P), unhex(Q), unhex(G), trimmed(&self.y)]
    }

    /// r and s, big-endian.
    #[must_use]
    pub fn sign(&self, message: &[u8]) -> [Vec<u8>; 2] {
        let q = hex(Q, 256);
        let mod_q = field(&q);
        let form = |v: &BoxedUint| BoxedMontyForm::new(v.clone(), &mod_q);
        // A nonce that depends on key and message, so that a test's evidence is always the same.
        let seed = [&self.x.to_be_bytes()[..], message].concat();
        let seed = digest(&SHA256, digest(&SHA256, &seed).as_ref());
        let k = reduce(
            &BoxedUint::from_be_slice(seed.as_ref(), 256).expect("fits"),
            &q,
        );
        let r = BoxedMontyForm::new(hex(G, 2048), &field(&hex(P, 2048)))
            .pow(&k)
            .retrieve();
        let r = reduce(&r, &q);
        let hash = digest(&SHA256, message);
        let z = reduce(
            &BoxedUint::from_be_slice(hash.as_ref(), 256).expect("fits"),
            &q,
        );
        let two = BoxedUint::from_be_slice(&[2], 256).expect("fits");
        let inverse = form(&k).pow(&q.wrapping_sub(&two));
        let s = (&form(&z) + &(&form(&self.x) * &form(&r))) * &inverse;
        [trimmed(&r), trimmed(&s.retrieve())]
    }
}
