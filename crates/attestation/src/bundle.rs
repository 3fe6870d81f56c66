//! The envelope: the CSR attestation attribute (IETF lamps, `id-aa-attestation`).
//!
//! ```text
//! AttestationBundle    ::= SEQUENCE { attestations SEQUENCE SIZE (1..MAX) OF AttestationStatement,
//!                                     certs SEQUENCE SIZE (1..MAX) OF LimitedCertChoices OPTIONAL }
//! AttestationStatement ::= SEQUENCE { type OBJECT IDENTIFIER, stmt ANY }
//! ```
//!
//! Earlier drafts had a third, optional text in each statement (`hint`); it is read and kept. A
//! request carries one bundle at most. Nothing in a bundle is an anchor: certificates in it are
//! material for chains that end at roots pinned elsewhere.

use crate::oid::Oid;
use crate::statement::service_statement_oid;
use crate::vendor::tpm2::TCG_ATTEST_TPM_CERTIFY;
use der::asn1::{Any, SetOfVec};
use der::{Decode, Encode, Tag, Tagged};
use spki::ObjectIdentifier;

/// `id-aa-attestation` (earlier `id-aa-evidence`).
pub const ID_AA_ATTESTATION: ObjectIdentifier =
    ObjectIdentifier::new_unwrap("1.2.840.113549.1.9.16.2.59");

/// Longest bundle read.
pub const MAX_BUNDLE: usize = 256 * 1024;
/// Most attestations in a bundle.
pub const MAX_ATTESTATIONS: usize = 16;
/// Most certificates in a bundle.
pub const MAX_CERTS: usize = 32;
const MAX_HINT: usize = 256;

/// Why a bundle cannot be read or made. Retrying cannot help.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BundleError {
    /// More bytes than [`MAX_BUNDLE`].
    #[error("the attestation bundle has {given} bytes; at most {MAX_BUNDLE} are read")]
    TooLarge {
        /// Bytes given.
        given: usize,
    },
    /// Not DER of the shape above, or with trailing bytes.
    #[error("the attestation bundle is not well-formed: {0}")]
    Malformed(&'static str),
    /// No attestation, or more than [`MAX_ATTESTATIONS`].
    #[error("the attestation bundle holds {given} attestations; 1 to {MAX_ATTESTATIONS} are read")]
    Attestations {
        /// How many.
        given: usize,
    },
    /// An empty certificate list, or more than [`MAX_CERTS`].
    #[error("the attestation bundle holds {given} certificates; 1 to {MAX_CERTS} are read")]
    Certs {
        /// How many.
        given: usize,
    },
}

/// One attestation: what kind, and its bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attestation {
    /// Its type.
    pub kind: Oid,
    /// The DER element that the type defines.
    pub stmt: Vec<u8>,
    /// Text of earlier drafts, where given.
    pub hint: Option<String>,
}

/// What the attribute's one value holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AttestationBundle {
    /// In the order given.
    pub attestations: Vec<Attestation>,
    /// `LimitedCertChoices`, each as its DER element.
    pub certs: Vec<Vec<u8>>,
}

impl Attestation {
    /// What a TPM certified of a key (`TPM2_Certify`, part 3 §18.2), as the TCG puts it into requests:
    ///
    /// ```text
    /// Tcg-csr-tpm-certify ::= SEQUENCE { tpmSAttest OCTET STRING, signature OCTET STRING,
    ///                                    tpmTPublic OCTET STRING OPTIONAL }
    /// ```
    ///
    /// `signature` is a `TPMT_SIGNATURE`, as the draft's text has it. The attestation key's certificates
    /// go among the bundle's.
    ///
    /// # Errors
    /// [`BundleError::Malformed`] if they are longer than DER can say.
    pub fn tpm_certify(
        attest: &[u8],
        signature: &[u8],
        public: &[u8],
    ) -> Result<Self, BundleError> {
        let octets = |bytes: &[u8], what| Any::new(Tag::OctetString, bytes).map_err(bad(what));
        let stmt = vec![
            octets(attest, "tpmSAttest")?,
            octets(signature, "signature")?,
            octets(public, "tpmTPublic")?,
        ];
        let kind = Any::encode_from(&TCG_ATTEST_TPM_CERTIFY).map_err(bad("type"))?;
        Ok(Self {
            kind: Oid::from_any(&kind).ok_or(BundleError::Malformed("type"))?,
            stmt: stmt.to_der().map_err(bad("Tcg-csr-tpm-certify"))?,
            hint: None,
        })
    }
}

impl AttestationBundle {
    /// A bundle of one service statement.
    #[must_use]
    pub fn of_statement(statement: &[u8]) -> Self {
        Self {
            attestations: vec![Attestation {
                kind: service_statement_oid(),
                stmt: statement.to_vec(),
                hint: None,
            }],
            certs: Vec::new(),
        }
    }

    /// The service statements in it, by type.
    pub fn service_statements(&self) -> impl Iterator<Item = &[u8]> {
        let kind = service_statement_oid();
        self.attestations
            .iter()
            .filter(move |a| a.kind == kind)
            .map(|a| a.stmt.as_slice())
    }

    /// The attribute value: DER of `AttestationBundle`.
    ///
    /// # Errors
    /// [`BundleError`] if a bound is passed or an element is not DER.
    pub fn encode(&self) -> Result<Vec<u8>, BundleError> {
        let mut attestations = Vec::with_capacity(self.attestations.len());
        for a in &self.attestations {
            let mut parts = vec![a.kind.to_any().map_err(bad("type"))?];
            parts.push(Any::from_der(&a.stmt).map_err(bad("stmt"))?);
            if let Some(hint) = &a.hint {
                parts.push(Any::new(Tag::Utf8String, hint.as_bytes()).map_err(bad("hint"))?);
            }
            attestations.push(Any::encode_from(&parts).map_err(bad("AttestationStatement"))?);
        }
        let mut parts = vec![Any::encode_from(&attestations).map_err(bad("attestations"))?];
        if !self.certs.is_empty() {
            let mut certs = Vec::with_capacity(self.certs.len());
            for c in &self.certs {
                certs.push(Any::from_der(c).map_err(bad("certs"))?);
            }
            parts.push(Any::encode_from(&certs).map_err(bad("certs"))?);
        }
        let der = parts.to_der().map_err(bad("AttestationBundle"))?;
        // What is written must be readable: the bounds live in one place.
        Self::parse(&der)?;
        Ok(der)
    }

    /// The whole attribute (`SEQUENCE { type, SET { value } }`), as it stands in a request.
    ///
    /// # Errors
    /// As [`AttestationBundle::encode`].
    pub fn encode_attribute(&self) -> Result<Vec<u8>, BundleError> {
        let value = Any::from_der(&self.encode()?).map_err(bad("AttestationBundle"))?;
        let values = SetOfVec::try_from(vec![value]).map_err(bad("AttestationBundle"))?;
        let kind = Any::encode_from(&ID_AA_ATTESTATION).map_err(bad("type"))?;
        let set = Any::encode_from(&values).map_err(bad("values"))?;
        vec![kind, set].to_der().map_err(bad("Attribute"))
    }

    /// Reads an attribute value.
    ///
    /// # Errors
    /// [`BundleError`] for anything but DER of the shape above within bounds.
    pub fn parse(der: &[u8]) -> Result<Self, BundleError> {
        if der.len() > MAX_BUNDLE {
            return Err(BundleError::TooLarge { given: der.len() });
        }
        let parts = Vec::<Any>::from_der(der).map_err(bad("AttestationBundle"))?;
        let (list, certs) = match parts.as_slice() {
            [list] => (list, None),
            [list, certs] => (list, Some(certs)),
            _ => return Err(BundleError::Malformed("AttestationBundle")),
        };
        let list = elements(list, "attestations")?;
        if list.is_empty() || list.len() > MAX_ATTESTATIONS {
            return Err(BundleError::Attestations { given: list.len() });
        }
        let mut attestations = Vec::with_capacity(list.len());
        for item in &list {
            attestations.push(attestation(item)?);
        }
        let mut out = Vec::new();
        if let Some(certs) = certs {
            let certs = elements(certs, "certs")?;
            if certs.is_empty() || certs.len() > MAX_CERTS {
                return Err(BundleError::Certs { given: certs.len() });
            }
            for c in &certs {
                out.push(c.to_der().map_err(bad("certs"))?);
            }
        }
        Ok(Self {
            attestations,
            certs: out,
        })
    }
}

fn attestation(item: &Any) -> Result<Attestation, BundleError> {
    let parts = elements(item, "AttestationStatement")?;
    let (kind, stmt, hint) = match parts.as_slice() {
        [kind, stmt] => (kind, stmt, None),
        [kind, stmt, hint] => (kind, stmt, Some(hint)),
        _ => return Err(BundleError::Malformed("AttestationStatement")),
    };
    Ok(Attestation {
        kind: Oid::from_any(kind).ok_or(BundleError::Malformed("type"))?,
        stmt: stmt.to_der().map_err(bad("stmt"))?,
        hint: hint.map(hint_text).transpose()?,
    })
}

fn hint_text(hint: &Any) -> Result<String, BundleError> {
    let bad = BundleError::Malformed("hint");
    if !matches!(hint.tag(), Tag::Utf8String | Tag::Ia5String) || hint.value().len() > MAX_HINT {
        return Err(bad);
    }
    String::from_utf8(hint.value().to_vec()).map_err(|_| bad)
}

fn elements(any: &Any, what: &'static str) -> Result<Vec<Any>, BundleError> {
    any.decode_as::<Vec<Any>>().map_err(bad(what))
}

fn bad(what: &'static str) -> impl Fn(der::Error) -> BundleError {
    move |_| BundleError::Malformed(what)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn other() -> Attestation {
        Attestation {
            kind: Oid::from_content(&[0x67, 0x81, 0x05, 0x14, 0x01]).unwrap(),
            stmt: vec![0x04, 0x02, 0xaa, 0xbb],
            hint: Some("tpm.example".to_owned()),
        }
    }

    #[test]
    fn a_bundle_comes_back_as_it_was() {
        let mut b = AttestationBundle::of_statement(&[0x30, 0x03, 0x02, 0x01, 0x07]);
        b.attestations.push(other());
        for certs in [vec![], vec![vec![0x30, 0x00], vec![0xa3, 0x02, 0x05, 0x00]]] {
            b.certs = certs;
            let der = b.encode().unwrap();
            assert_eq!(AttestationBundle::parse(&der), Ok(b.clone()));
            assert_eq!(b.service_statements().count(), 1);
        }
    }

    #[test]
    fn the_attribute_is_type_and_a_set_of_one() {
        let b = AttestationBundle::of_statement(&[0x05, 0x00]);
        let value = b.encode().unwrap();
        let attribute = b.encode_attribute().unwrap();
        let oid = ID_AA_ATTESTATION.to_der().unwrap();
        let mut expected = vec![0x30, u8::try_from(oid.len() + 2 + value.len()).unwrap()];
        expected.extend(&oid);
        expected.extend([0x31, u8::try_from(value.len()).unwrap()]);
        expected.extend(&value);
        assert_eq!(attribute, expected);
    }

    #[test]
    fn bounds_and_shapes_are_refused_by_name() {
        let none = AttestationBundle {
            attestations: vec![],
            certs: vec![],
        };
        assert_eq!(none.encode(), Err(BundleError::Attestations { given: 0 }));
        let many = AttestationBundle {
            attestations: vec![other(); 17],
            certs: vec![],
        };
        assert_eq!(many.encode(), Err(BundleError::Attestations { given: 17 }));
        let mut certs = AttestationBundle::of_statement(&[0x05, 0x00]);
        certs.certs = vec![vec![0x30, 0x00]; 33];
        assert_eq!(certs.encode(), Err(BundleError::Certs { given: 33 }));
        assert_eq!(
            AttestationBundle::parse(&vec![0; MAX_BUNDLE + 1]),
            Err(BundleError::TooLarge {
                given: MAX_BUNDLE + 1
            })
        );
        let mut trailing = AttestationBundle::of_statement(&[0x05, 0x00])
            .encode()
            .unwrap();
        trailing.push(0);
        assert_eq!(
            AttestationBundle::parse(&trailing),
            Err(BundleError::Malformed("AttestationBundle"))
        );
        // An empty `certs` is not the same as none.
        let inner = [0x30, 0x08, 0x30, 0x06, 0x06, 0x02, 0x2a, 0x03, 0x05, 0x00];
        let mut empty_certs = vec![0x30, 0x0c];
        empty_certs.extend(inner);
        empty_certs.extend([0x30, 0x00]);
        assert_eq!(
            AttestationBundle::parse(&empty_certs),
            Err(BundleError::Certs { given: 0 })
        );
    }

    #[test]
    fn cut_off_anywhere_it_is_refused() {
        let mut b = AttestationBundle::of_statement(&[0x30, 0x03, 0x02, 0x01, 0x07]);
        b.attestations.push(other());
        let der = b.encode().unwrap();
        for n in 0..der.len() {
            assert!(AttestationBundle::parse(&der[..n]).is_err(), "{n}");
        }
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic_and_what_is_read_is_written_back(
            bytes in proptest::collection::vec(any::<u8>(), 0..200)
        ) {
            if let Ok(b) = AttestationBundle::parse(&bytes)
                && b.attestations.iter().all(|a| a.hint.is_none())
            {
                prop_assert_eq!(b.encode().unwrap(), bytes);
            }
        }
    }
}
