//! PKIX key-attestation evidence (draft-ietf-rats-pkix-key-attestation).

use crate::cert::{Certificate, cn, root};
use crate::der;
use crate::keys::{Key, Kind};

/// The arc of the draft's samples.
pub const ARC: &str = "1.3.6.1.5.5.999";

const ROOT: &str = "Test Maker Root";
const CA: &str = "Test Maker CA";
const AK: &str = "Test AK";

/// A claim: its number under the arc, and its value, already written.
pub type Claim = (String, Option<Vec<u8>>);

/// Evidence. `Default` is genuine, about one sign-only key.
#[derive(Clone)]
pub struct Pkix {
    /// The key in question.
    pub key: Key,
    /// The attestation key.
    pub ak: Key,
    /// Its CA's key.
    pub ca_key: Key,
    /// The root's key.
    pub root_key: Key,
    /// Version.
    pub version: u64,
    /// Elements: number under the arc, claims.
    pub elements: Vec<(String, Vec<Claim>)>,
    /// How the signer is named.
    pub sid: Sid,
    /// Writes `[0]` as EXPLICIT TAGS would, not as the draft's sample does.
    pub explicit: bool,
}

/// How the signer is named.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sid {
    /// By certificate.
    Certificate,
    /// By public key.
    Spki,
    /// By SHA-1 of the key's bits.
    KeyId,
    /// Not at all.
    Nothing,
}

/// A claim.
#[must_use]
pub fn claim(number: &str, value: Vec<u8>) -> Claim {
    (number.to_owned(), Some(value))
}

/// The claims of a sign-only key that stays in its module.
#[must_use]
pub fn key_claims(key: &Key) -> Vec<Claim> {
    vec![
        claim("1.2.0", der::utf8("key-1")),
        claim("1.2.1", der::octets(key.spki())),
        claim("1.2.2", der::boolean(false)),
        claim("1.2.3", der::boolean(true)),
        claim("1.2.4", der::boolean(true)),
        claim("1.2.5", der::boolean(true)),
        claim("1.2.7", der::seq(&[der::oid(&format!("{ARC}.2.4"))])),
    ]
}

impl Default for Pkix {
    fn default() -> Self {
        let key = Key::named(Kind::P256, "pkix subject");
        let ak = Key::named(Kind::P256, "pkix ak");
        Self {
            elements: vec![
                (
                    "0.0".into(),
                    vec![
                        claim("1.0.0", der::octets(b"nonce")),
                        claim("1.0.1", der::time("20261101120000Z")),
                        claim("1.0.2", der::octets(ak.spki())),
                    ],
                ),
                (
                    "0.1".into(),
                    vec![
                        claim("1.1.0", der::utf8("Acme")),
                        claim("1.1.2", der::octets(b"HSM-9000")),
                        claim("1.1.4", der::utf8("SN-7")),
                        claim("1.1.12", der::int(3)),
                    ],
                ),
                ("0.2".into(), key_claims(&key)),
            ],
            key,
            ak,
            ca_key: Key::named(Kind::P256, "pkix ca"),
            root_key: Key::named(Kind::P256, "pkix root"),
            version: 1,
            sid: Sid::Certificate,
            explicit: false,
        }
    }
}

impl Pkix {
    /// The root's certificate.
    #[must_use]
    pub fn root(&self) -> Vec<u8> {
        root(ROOT, &self.root_key)
    }

    /// The CA's certificate.
    #[must_use]
    pub fn ca(&self) -> Vec<u8> {
        let c = Certificate::new(cn(CA), &self.ca_key, cn(ROOT));
        c.ca(Some(0)).sign(&self.root_key)
    }

    /// The attestation key's certificate, before the CA signs it.
    #[must_use]
    pub fn ak_certificate(&self) -> Certificate {
        Certificate::new(cn(AK), &self.ak, cn(CA))
            .with("2.5.29.19", true, der::seq(&[]))
            .with("2.5.29.15", true, vec![3, 2, 7, 0x80])
    }

    /// The claims of the n-th element, to change them.
    pub fn claims(&mut self, element: usize) -> &mut Vec<Claim> {
        &mut self.elements[element].1
    }

    /// Sets a claim of the key element, or takes it away.
    pub fn set(&mut self, number: &str, value: Option<Vec<u8>>) {
        let claims = self.claims(2);
        claims.retain(|(n, _)| n != number);
        claims.extend(value.map(|v| claim(number, v)));
    }

    /// `TbsEvidence`.
    #[must_use]
    pub fn tbs(&self) -> Vec<u8> {
        let elements: Vec<Vec<u8>> = self
            .elements
            .iter()
            .map(|(kind, claims)| {
                let claims: Vec<Vec<u8>> = claims
                    .iter()
                    .map(|(number, value)| {
                        let mut parts = vec![der::oid(&format!("{ARC}.{number}"))];
                        parts.extend(value.clone());
                        der::seq(&parts)
                    })
                    .collect();
                der::seq(&[der::oid(&format!("{ARC}.{kind}")), der::seq(&claims)])
            })
            .collect();
        der::seq(&[der::int(self.version), der::seq(&elements)])
    }

    /// A signature block by `signer`, who is named by `sid`.
    #[must_use]
    pub fn block(&self, signer: &Key, sid: Sid, tbs: &[u8]) -> Vec<u8> {
        let named = match sid {
            Sid::Certificate => {
                let c = self.ak_certificate().sign(&self.ca_key);
                vec![der::context(2, &c)]
            }
            Sid::Spki => vec![der::context(1, signer.spki())],
            Sid::KeyId => {
                let sha1 = &aws_lc_rs::digest::SHA1_FOR_LEGACY_USE_ONLY;
                let id = aws_lc_rs::digest::digest(sha1, &signer.public());
                vec![der::context(0, &der::octets(id.as_ref()))]
            }
            Sid::Nothing => vec![],
        };
        let scheme = signer.usual();
        der::seq(&[
            der::seq(&named),
            signer.algorithm(scheme),
            der::octets(&signer.sign(scheme, tbs)),
        ])
    }

    /// The evidence with these signature blocks and certificates.
    #[must_use]
    pub fn assemble(&self, tbs: Vec<u8>, blocks: &[Vec<u8>], certificates: &[Vec<u8>]) -> Vec<u8> {
        let mut parts = vec![tbs, der::seq(blocks)];
        if !certificates.is_empty() {
            let list = if self.explicit {
                der::seq(certificates)
            } else {
                certificates.concat()
            };
            parts.push(der::context(0, &list));
        }
        der::seq(&parts)
    }

    /// The evidence, with its CA's certificate inside.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let tbs = self.tbs();
        let block = self.block(&self.ak, self.sid, &tbs);
        self.assemble(tbs, &[block], &[self.ca()])
    }
}
