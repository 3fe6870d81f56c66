//! Thales Luna public key confirmations.

use crate::cert::{Certificate, certs_only, cn, dn};
use crate::der;
use crate::keys::{Key, Kind, Scheme};

const ARC: &str = "1.3.6.1.4.1.12383";

/// Everything the certificates of a confirmation say. `rsa()` and `ecc()` are genuine.
#[derive(Clone)]
pub struct ThalesLuna {
    /// Whether it is the shape of three certificates, for EC keys.
    pub is_ecc: bool,
    /// The confirmed key.
    pub key: Key,
    /// The keys above it, from the one that signs the confirmation to the root's.
    pub above: Vec<Key>,
    /// Last arcs of the extended key usages, leaf first, root last. Empty leaves the extension out.
    pub usages: Vec<Vec<u64>>,
    /// Serial number in the confirmation.
    pub serial: Option<u32>,
    /// Serial number in the extension of the certificate that signs it.
    pub signer_serial: Option<u32>,
    /// Serial number in that one's name.
    pub named_serial: u32,
    /// Extension .2.5.
    pub key_bits: Option<Vec<u8>>,
    /// More extensions of the confirmation: type, critical, value.
    pub more: Vec<(String, bool, Vec<u8>)>,
    /// Whether the certificates above the confirmation are CAs.
    pub issuers_are_cas: bool,
    /// Whether the confirmation is a CA.
    pub leaf_is_ca: bool,
    /// Validity of all but the root.
    pub validity: (String, String),
}

impl ThalesLuna {
    /// Five certificates.
    #[must_use]
    pub fn rsa() -> Self {
        let key = |name| Key::named(Kind::Rsa2048, name);
        Self {
            is_ecc: false,
            key: key("luna subject"),
            above: vec![
                key("luna device"),
                key("luna hardware origin"),
                key("luna manufacturing"),
                key("luna root"),
            ],
            usages: vec![vec![13], vec![12], vec![8], vec![7], vec![1]],
            serial: Some(521_174),
            signer_serial: Some(521_174),
            named_serial: 521_174,
            key_bits: Some(vec![0x03, 0x02, 0x04, 0xf0]),
            more: Vec::new(),
            issuers_are_cas: true,
            leaf_is_ca: false,
            validity: ("200301000000Z".into(), "320505000000Z".into()),
        }
    }

    /// Three certificates.
    #[must_use]
    pub fn ecc() -> Self {
        let key = |name| Key::named(Kind::P384, name);
        Self {
            is_ecc: true,
            key: key("luna subject"),
            above: vec![key("luna hardware origin"), key("luna root")],
            usages: vec![vec![13], vec![15], vec![14]],
            signer_serial: None,
            issuers_are_cas: false,
            ..Self::rsa()
        }
    }

    fn names(&self) -> Vec<Vec<u8>> {
        let serial = self.named_serial;
        let leaf = dn(&[
            ("2.5.4.11", "Chrysalis-ITS Proof of Origin"),
            ("2.5.4.3", "41000000ae000002d6f30700"),
        ]);
        if self.is_ecc {
            let hardware = dn(&[
                ("2.5.4.11", "Luna Module Hardware Origin"),
                ("2.5.4.3", &serial.to_string()),
            ]);
            // The space at the end is theirs.
            return vec![
                leaf,
                hardware,
                cn("Test ECC Manufacturer Integrity Module "),
            ];
        }
        vec![
            leaf,
            dn(&[("2.5.4.6", "CA"), ("2.5.4.3", &format!("Luna K7-{serial}"))]),
            cn("Hardware Origin Certificate"),
            cn("Test Mfg Integrity"),
            cn("Test ITS Root"),
        ]
    }

    /// The certificate at `place` (0 is the confirmation), before it is signed.
    #[must_use]
    pub fn certificate(&self, place: usize) -> Certificate {
        let names = self.names();
        let last = names.len() - 1;
        let key = if place == 0 {
            &self.key
        } else {
            &self.above[place - 1]
        };
        let issuer = names[(place + 1).min(last)].clone();
        let mut c = Certificate::new(names[place].clone(), key, issuer);
        c.explicit_false = true;
        c.ecdsa_null = self.is_ecc;
        if place < last {
            c.not_before = self.validity.0.clone();
            c.not_after = self.validity.1.clone();
        }
        let usages: Vec<String> = self.usages[place]
            .iter()
            .map(|n| format!("{ARC}.1.{n}"))
            .collect();
        if !usages.is_empty() {
            let usages: Vec<&str> = usages.iter().map(String::as_str).collect();
            c = c.eku(true, &usages);
        }
        let serial = match place {
            0 => self.serial,
            1 => self.signer_serial,
            _ => None,
        };
        if let Some(n) = serial {
            let firmware = vec![0x54, 0, 0x07, 0];
            c = c
                .with(&format!("{ARC}.2.1"), false, n.to_le_bytes().to_vec())
                .with(&format!("{ARC}.2.3"), false, firmware)
                .with(&format!("{ARC}.2.4"), false, vec![2, 0, 0, 0]);
        }
        if place == 0 {
            if let Some(bits) = &self.key_bits {
                c = c.with(&format!("{ARC}.2.5"), false, bits.clone());
            }
            for (oid, critical, value) in &self.more {
                c = c.with(oid, *critical, value.clone());
            }
        }
        // The copy of the root has no basicConstraints.
        let is_ca = match place {
            0 => self.leaf_is_ca,
            _ => self.issuers_are_cas && place < last,
        };
        if is_ca { c.ca(None) } else { c }
    }

    /// The certificate at `place`, signed by the key above it, the root by its own.
    #[must_use]
    pub fn signed(&self, place: usize) -> Vec<u8> {
        let signer = &self.above[place.min(self.above.len() - 1)];
        self.signed_by(place, signer)
    }

    /// The certificate at `place`, signed by a key of the test's choice.
    #[must_use]
    pub fn signed_by(&self, place: usize, signer: &Key) -> Vec<u8> {
        let c = self.certificate(place);
        if self.is_ecc {
            unpadded(&c, signer)
        } else {
            c.sign_with(signer, Scheme::RsaSha384)
        }
    }

    /// All certificates, leaf first.
    #[must_use]
    pub fn certificates(&self) -> Vec<Vec<u8>> {
        (0..=self.above.len()).map(|n| self.signed(n)).collect()
    }

    /// The root's certificate, for the verifier.
    #[must_use]
    pub fn root(&self) -> Vec<u8> {
        self.signed(self.above.len())
    }

    /// The file.
    #[must_use]
    pub fn pkc(&self) -> Vec<u8> {
        certs_only(&self.certificates())
    }
}

/// Signs with ECDSA and writes r and s without a leading zero, at least one of them so that it
/// looks negative.
fn unpadded(c: &Certificate, signer: &Key) -> Vec<u8> {
    loop {
        let der = c.sign(signer);
        let outer = split(&content(&der));
        let numbers = split(&content(&content(&outer[2])[1..]));
        let bare: Vec<Vec<u8>> = numbers
            .iter()
            .map(|n| {
                let n = content(n);
                let from = n.iter().position(|b| *b != 0).unwrap();
                n[from..].to_vec()
            })
            .collect();
        if bare.iter().any(|n| n[0] & 0x80 != 0) {
            let numbers: Vec<Vec<u8>> = bare.iter().map(|n| der::tlv(0x02, n)).collect();
            let signature = der::bits(&der::seq(&numbers));
            return der::seq(&[outer[0].clone(), outer[1].clone(), signature]);
        }
    }
}

/// Header length and whole length of the first element.
fn lengths(der: &[u8]) -> (usize, usize) {
    let first = usize::from(der[1]);
    if first < 0x80 {
        return (2, 2 + first);
    }
    let count = first & 0x7f;
    let length = der[2..2 + count]
        .iter()
        .fold(0, |n, b| n << 8 | usize::from(*b));
    (2 + count, 2 + count + length)
}

fn content(der: &[u8]) -> Vec<u8> {
    let (header, whole) = lengths(der);
    der[header..whole].to_vec()
}

fn split(mut der: &[u8]) -> Vec<Vec<u8>> {
    let mut out = Vec::new();
    while !der.is_empty() {
        let (_, whole) = lengths(der);
        out.push(der[..whole].to_vec());
        der = &der[whole..];
    }
    out
}
