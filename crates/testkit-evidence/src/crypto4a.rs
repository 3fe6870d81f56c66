//! Crypto4A attestation messages.

use crate::cert::{Certificate, cn, root};
use crate::der;
use crate::keys::{Key, Kind, Scheme};
use aws_lc_rs::digest::{SHA256, digest};

const ARC: &str = "1.3.6.1.4.1.39901.6";
const ASSERTION: &str = "1.3.6.1.4.1.39901.4.1.1";
const HSS: &str = "1.2.840.113549.1.9.16.3.17";
const ROOT: &str = "Test C4A RCA";
const CA: &str = "Test C4A SCA MFG1";

/// A claim's value, without its outer tag.
#[must_use]
pub fn number(content: &[u8]) -> Vec<u8> {
    der::context_primitive(3, content)
}

/// Text.
#[must_use]
pub fn text(value: &str) -> Vec<u8> {
    der::context_primitive(1, value.as_bytes())
}

/// Bytes.
#[must_use]
pub fn bytes(value: &[u8]) -> Vec<u8> {
    der::context_primitive(0, value)
}

/// A moment, as GeneralizedTime.
#[must_use]
pub fn moment(value: &str) -> Vec<u8> {
    der::context_primitive(2, value.as_bytes())
}

/// The attested object.
pub const OBJECT: [u8; 16] = [0xba; 16];

/// One claim: arc under the vendor's, subject, value.
pub type Claim = (&'static str, Option<[u8; 16]>, Option<Vec<u8>>);

/// Everything a message says. `Default` is genuine and signs alone, made on 2026-11-01.
#[derive(Clone)]
pub struct Crypto4A {
    /// The attested key.
    pub key: Key,
    /// The elliptic attestation key.
    pub signer_key: Key,
    /// The manufacturing CA's key.
    pub ca_key: Key,
    /// The root's key.
    pub root_key: Key,
    /// The claims.
    pub claims: Vec<Claim>,
    /// Whether the hash-based signature stands beside the elliptic one.
    pub hash_based: bool,
    /// Extended key usages of the signers.
    pub eku: Vec<&'static str>,
    /// Whether the signers say they are CAs.
    pub signer_is_ca: bool,
    /// Whether the CA says so.
    pub ca_is_ca: bool,
    /// From when the signers' certificates are valid.
    pub signer_from: &'static str,
    /// Version of the message.
    pub version: u64,
}

impl Default for Crypto4A {
    fn default() -> Self {
        let key = Key::named(Kind::P256, "crypto4a subject");
        Self {
            claims: claims(&key),
            key,
            signer_key: Key::named(Kind::P384, "crypto4a signer"),
            ca_key: Key::named(Kind::P384, "crypto4a ca"),
            root_key: Key::named(Kind::P384, "crypto4a root"),
            hash_based: false,
            eku: vec![ASSERTION],
            signer_is_ca: false,
            ca_is_ca: true,
            signer_from: "230814144644Z",
            version: 1,
        }
    }
}

/// The claims of a confined signing key.
#[must_use]
pub fn claims(key: &Key) -> Vec<Claim> {
    let of = Some(OBJECT);
    vec![
        ("1.0", None, Some(bytes(&[0x88; 16]))),
        ("1.1", None, Some(text("QSM000001"))),
        ("1.2", None, Some(moment("20261101120000Z"))),
        ("1.3", None, Some(text("4.0.2.1"))),
        ("1.4", None, None),
        ("2.0", None, None),
        ("2.1", of, Some(bytes(key.spki()))),
        ("2.4", of, Some(number(&[4]))),
        ("2.5", of, Some(number(&[2]))),
        ("2.6", of, Some(number(&[1, 0]))),
        ("2.7", of, None),
        ("2.8", of, None),
        ("2.9", of, None),
        ("2.13", of, Some(number(&[1, 5]))),
        ("2.14", of, Some(number(&[1, 7]))),
    ]
}

fn key_usage(c: Certificate, byte: u8, unused: u8) -> Certificate {
    c.with("2.5.29.15", true, der::tlv(0x03, &[unused, byte]))
}

impl Crypto4A {
    /// The root's certificate.
    #[must_use]
    pub fn root(&self) -> Vec<u8> {
        root(ROOT, &self.root_key)
    }

    /// The manufacturing CA's certificate.
    #[must_use]
    pub fn ca(&self) -> Vec<u8> {
        let mut c = Certificate::new(cn(CA), &self.ca_key, cn(ROOT));
        if self.ca_is_ca {
            c = c.ca(Some(0));
        }
        key_usage(c, 0x06, 1).sign(&self.root_key)
    }

    /// A signer's certificate, to be signed by the CA's key.
    #[must_use]
    pub fn signer(&self, name: &str, spki: Vec<u8>) -> Certificate {
        let mut c = Certificate::new(cn(name), &self.signer_key, cn(CA));
        c.spki = spki;
        c.not_before = self.signer_from.into();
        c.not_after = "99991231235959Z".into();
        if self.signer_is_ca {
            c = c.ca(None);
        }
        key_usage(c, 0x80, 7).eku(false, &self.eku)
    }

    /// The claims' element, which is signed.
    #[must_use]
    pub fn signed(&self) -> Vec<u8> {
        let list: Vec<Vec<u8>> = self
            .claims
            .iter()
            .map(|(arc, subject, value)| {
                let mut parts = vec![der::oid(&format!("{ARC}.{arc}"))];
                if let Some(id) = subject {
                    parts.push(der::context(0, &der::context_primitive(0, id)));
                }
                if let Some(value) = value {
                    parts.push(der::context(1, value));
                }
                der::seq(&parts)
            })
            .collect();
        der::seq(&[der::int(1), der::seq(&list)])
    }

    /// The block of the elliptic signature.
    #[must_use]
    pub fn elliptic_block(&self) -> Vec<u8> {
        let c = self.signer(
            "Test Assertion Authority EC",
            self.signer_key.spki().to_vec(),
        );
        let signature = self.signer_key.sign(Scheme::Ecdsa, &self.signed());
        let algorithm = self.signer_key.algorithm(Scheme::Ecdsa);
        block(&c.sign(&self.ca_key), &algorithm, &signature)
    }

    /// The block of the hash-based signature.
    #[must_use]
    pub fn hash_based_block(&self) -> Vec<u8> {
        let tree = Hss::new("crypto4a hss");
        let algorithm = der::algorithm(HSS, false);
        let spki = der::seq(&[algorithm.clone(), der::bits(&der::octets(&tree.public()))]);
        let c = self.signer("Test Assertion Authority HSS", spki);
        block(
            &c.sign(&self.ca_key),
            &algorithm,
            &tree.sign(3, &self.signed()),
        )
    }

    /// The message over these blocks and further certificates.
    #[must_use]
    pub fn message_of(&self, blocks: &[Vec<u8>], certificates: &[Vec<u8>]) -> Vec<u8> {
        der::seq(&[
            der::int(self.version),
            self.signed(),
            der::seq(blocks),
            der::context(0, &certificates.concat()),
        ])
    }

    /// The message.
    #[must_use]
    pub fn message(&self) -> Vec<u8> {
        let mut blocks = vec![self.elliptic_block()];
        if self.hash_based {
            blocks.push(self.hash_based_block());
        }
        self.message_of(&blocks, &[self.ca(), self.root()])
    }
}

/// A signature block.
#[must_use]
pub fn block(signer: &[u8], algorithm: &[u8], signature: &[u8]) -> Vec<u8> {
    let id = der::context(0, &der::octets(&[0x95; 16]));
    der::seq(&[
        der::seq(&[id, der::context(2, signer)]),
        algorithm.to_vec(),
        der::bits(signature),
    ])
}

/// HSS of two levels (RFC 8554): trees of height 5, chains of eight bits, SHA-256.
pub struct Hss {
    seed: &'static str,
}

const HEIGHT: u32 = 5;
const CHAINS: usize = 34;
/// LMS_SHA256_M32_H5 and LMOTS_SHA256_N32_W8.
const TYPES: [u8; 8] = [0, 0, 0, 5, 0, 0, 0, 4];

fn hash(parts: &[&[u8]]) -> Vec<u8> {
    digest(&SHA256, &parts.concat()).as_ref().to_vec()
}

impl Hss {
    /// The pair of `seed`.
    #[must_use]
    pub const fn new(seed: &'static str) -> Self {
        Self { seed }
    }

    fn id(&self, level: u8) -> Vec<u8> {
        hash(&[self.seed.as_bytes(), b"id", &[level]])[..16].to_vec()
    }

    fn secret(&self, level: u8, leaf: u32, chain: usize) -> Vec<u8> {
        let chain = u16::try_from(chain).expect("few").to_be_bytes();
        hash(&[self.seed.as_bytes(), &[level], &leaf.to_be_bytes(), &chain])
    }

    /// `value` moved along its chain from step `from` up to, not including, `to`.
    fn along(
        &self,
        level: u8,
        leaf: u32,
        chain: usize,
        from: u8,
        to: u8,
        value: Vec<u8>,
    ) -> Vec<u8> {
        let (id, leaf) = (self.id(level), leaf.to_be_bytes());
        let chain = u16::try_from(chain).expect("few").to_be_bytes();
        (from..to).fold(value, |v, step| hash(&[&id, &leaf, &chain, &[step], &v]))
    }

    fn leaf(&self, level: u8, leaf: u32) -> Vec<u8> {
        let id = self.id(level);
        let ends: Vec<u8> = (0..CHAINS)
            .flat_map(|i| self.along(level, leaf, i, 0, 255, self.secret(level, leaf, i)))
            .collect();
        let key = hash(&[&id, &leaf.to_be_bytes(), &[0x80, 0x80], &ends]);
        let number = (leaf + (1 << HEIGHT)).to_be_bytes();
        hash(&[&id, &number, &[0x82, 0x82], &key])
    }

    /// All nodes of a tree, node n at n.
    fn tree(&self, level: u8) -> Vec<Vec<u8>> {
        let count = 1usize << HEIGHT;
        let mut nodes = vec![Vec::new(); 2 * count];
        for leaf in 0..count {
            nodes[count + leaf] = self.leaf(level, u32::try_from(leaf).expect("few"));
        }
        let id = self.id(level);
        for n in (1..count).rev() {
            let number = u32::try_from(n).expect("few").to_be_bytes();
            nodes[n] = hash(&[
                &id,
                &number,
                &[0x83, 0x83],
                &nodes[2 * n],
                &nodes[2 * n + 1],
            ]);
        }
        nodes
    }

    fn lms_public(&self, level: u8) -> Vec<u8> {
        [&TYPES[..], &self.id(level), &self.tree(level)[1]].concat()
    }

    /// The public key.
    #[must_use]
    pub fn public(&self) -> Vec<u8> {
        [&[0, 0, 0, 2][..], &self.lms_public(0)].concat()
    }

    fn lms_sign(&self, level: u8, leaf: u32, message: &[u8]) -> Vec<u8> {
        let id = self.id(level);
        let randomizer = hash(&[self.seed.as_bytes(), b"C", &[level], message]);
        let digest = hash(&[
            &id,
            &leaf.to_be_bytes(),
            &[0x81, 0x81],
            &randomizer,
            message,
        ]);
        let sum: u16 = digest.iter().map(|d| 255 - u16::from(*d)).sum();
        let digits: Vec<u8> = digest.into_iter().chain(sum.to_be_bytes()).collect();
        let mut out = [&leaf.to_be_bytes()[..], &TYPES[4..], &randomizer].concat();
        for (i, digit) in digits.iter().enumerate() {
            let secret = self.secret(level, leaf, i);
            out.extend(self.along(level, leaf, i, 0, *digit, secret));
        }
        out.extend(&TYPES[..4]);
        let nodes = self.tree(level);
        let mut n = (1usize << HEIGHT) + usize::try_from(leaf).expect("few");
        while n > 1 {
            out.extend(&nodes[n ^ 1]);
            n /= 2;
        }
        out
    }

    /// A signature by leaf `leaf` of the lower tree.
    #[must_use]
    pub fn sign(&self, leaf: u32, message: &[u8]) -> Vec<u8> {
        let lower = self.lms_public(1);
        [
            &[0, 0, 0, 1][..],
            &self.lms_sign(0, 1, &lower),
            &lower,
            &self.lms_sign(1, leaf, message),
        ]
        .concat()
    }
}
