//! nCore marshalling: little-endian 32-bit words, and what is built of them.
//!
//! A large number is its length in bytes and its bytes, least significant first. Text is its
//! length with the closing NUL, its bytes, and zeros up to the next word. A key hash is 20 bytes
//! (SHA-1), where a mechanism stands before it 44.

use crate::key::Curve;

/// A key hash: SHA-1 (see `super::hash`).
pub type KeyHash = [u8; 20];

/// `Mech_SHA1Hash`, the mechanism that stands before a key hash.
const MECH_SHA1_HASH: u32 = 44;
/// Longest number read: 16384 bits.
const MAX_NUMBER: usize = 2048;
/// Longest text read.
const MAX_TEXT: usize = 256;

/// Why bytes are not what nCore would have written. Retrying cannot help.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NcoreError {
    /// The bytes end within a field.
    #[error("ends within a field")]
    Truncated,
    /// Bytes follow the last field.
    #[error("is followed by {0} further bytes")]
    Trailing(usize),
    /// A count, number or text longer than can be, or than is read.
    #[error("holds a length that cannot be: {0}")]
    Length(u32),
    /// Text without its closing NUL, with one inside, or not ASCII.
    #[error("holds text that is not ASCII ended by one NUL and padded with zeros")]
    Text,
    /// A key type other than RSA, DSA or ECDSA public.
    #[error("holds the unknown key type {0}")]
    KeyType(u32),
    /// A curve other than P-256, P-384, P-521.
    #[error("holds the unknown curve {0}")]
    Curve(u32),
    /// A hash by another mechanism than SHA-1.
    #[error("holds a key hash of the unknown mechanism {0}")]
    HashMechanism(u32),
    /// A signature mechanism other than DSA-SHA-256 and ECDSA-SHA-512.
    #[error("holds a signature of the unknown mechanism {0}")]
    SignatureMechanism(u32),
    /// A message of another type than expected.
    #[error("is a message of type {0}")]
    MessageType(u32),
    /// Flags whose meaning is not known.
    #[error("holds unknown {what} flags {flags:#x}")]
    Flags {
        /// Of what.
        what: &'static str,
        /// Those not known.
        flags: u32,
    },
    /// A module attribute that is not known.
    #[error("holds the unknown module attribute {0}")]
    Attribute(u32),
    /// A module attribute given twice.
    #[error("holds module attribute {0} twice")]
    AttributeTwice(u32),
    /// A module attribute that is missing.
    #[error("lacks the module attribute {0}")]
    AttributeMissing(&'static str),
    /// Key generation parameters of an unknown type.
    #[error("holds generation parameters of the unknown key type {0}")]
    GenerationType(u32),
    /// A use limit that is not known.
    #[error("holds the unknown use limit {0}")]
    Limit(u32),
    /// An action that is not known.
    #[error("holds the unknown action {0}")]
    Action(u32),
    /// Parameters of a key derivation, which are not read.
    #[error("holds a key derivation with parameters or further keys")]
    Derivation,
}

/// A cursor over nCore words.
#[derive(Debug)]
pub struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    /// At the start of `bytes`.
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    fn take(&mut self, n: usize) -> Result<&'a [u8], NcoreError> {
        let (head, rest) = self.rest.split_at_checked(n).ok_or(NcoreError::Truncated)?;
        self.rest = rest;
        Ok(head)
    }

    /// A word.
    pub fn word(&mut self) -> Result<u32, NcoreError> {
        let bytes = self.take(4)?;
        bytes
            .try_into()
            .map(u32::from_le_bytes)
            .map_err(|_| NcoreError::Truncated)
    }

    /// Flags of which none is outside `known`.
    pub fn flags(&mut self, what: &'static str, known: u32) -> Result<u32, NcoreError> {
        let flags = self.word()?;
        match flags & !known {
            0 => Ok(flags),
            flags => Err(NcoreError::Flags { what, flags }),
        }
    }

    /// A count of items that take at least `size` bytes each, so that it bounds the work.
    pub fn count(&mut self, size: usize) -> Result<u32, NcoreError> {
        let count = self.word()?;
        let fits = usize::try_from(count)
            .ok()
            .and_then(|n| n.checked_mul(size))
            .is_some_and(|n| n <= self.rest.len());
        if fits {
            Ok(count)
        } else {
            Err(NcoreError::Length(count))
        }
    }

    fn length(&mut self, max: usize) -> Result<usize, NcoreError> {
        let word = self.word()?;
        usize::try_from(word)
            .ok()
            .filter(|n| *n <= max)
            .ok_or(NcoreError::Length(word))
    }

    /// A number, big-endian, without leading zeros.
    pub fn number(&mut self) -> Result<Vec<u8>, NcoreError> {
        let length = self.length(MAX_NUMBER)?;
        // Numbers are whole words.
        if !length.is_multiple_of(4) {
            return Err(NcoreError::Length(
                u32::try_from(length).unwrap_or(u32::MAX),
            ));
        }
        let bytes = self.take(length)?;
        Ok(bytes
            .iter()
            .rev()
            .skip_while(|b| **b == 0)
            .copied()
            .collect())
    }

    /// Text.
    pub fn text(&mut self) -> Result<String, NcoreError> {
        let length = self.length(MAX_TEXT)?;
        let bytes = self.take(length)?;
        let padding = self.take(length.next_multiple_of(4).saturating_sub(length))?;
        let Some((0, text)) = bytes.split_last() else {
            return Err(NcoreError::Text);
        };
        if !text.iter().all(u8::is_ascii_graphic) || padding.iter().any(|b| *b != 0) {
            return Err(NcoreError::Text);
        }
        String::from_utf8(text.to_vec()).map_err(|_| NcoreError::Text)
    }

    /// A bare key hash.
    pub fn hash(&mut self) -> Result<KeyHash, NcoreError> {
        self.take(20)?.try_into().map_err(|_| NcoreError::Truncated)
    }

    /// A key hash with its mechanism before it.
    pub fn hash_with_mechanism(&mut self) -> Result<KeyHash, NcoreError> {
        match self.word()? {
            MECH_SHA1_HASH => self.hash(),
            other => Err(NcoreError::HashMechanism(other)),
        }
    }

    /// Nothing may follow.
    pub fn end(self) -> Result<(), NcoreError> {
        match self.rest.len() {
            0 => Ok(()),
            n => Err(NcoreError::Trailing(n)),
        }
    }
}

/// A curve from nCore's number.
pub fn curve_from_word(word: u32) -> Result<Curve, NcoreError> {
    match word {
        4 => Ok(Curve::P256),
        5 => Ok(Curve::P384),
        6 => Ok(Curve::P521),
        other => Err(NcoreError::Curve(other)),
    }
}

/// A public key; numbers are big-endian without leading zeros.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Key {
    /// RSA.
    Rsa {
        /// Public exponent.
        e: Vec<u8>,
        /// Modulus.
        n: Vec<u8>,
    },
    /// DSA.
    Dsa {
        /// Prime modulus.
        p: Vec<u8>,
        /// Order of the subgroup.
        q: Vec<u8>,
        /// Generator.
        g: Vec<u8>,
        /// Public value.
        y: Vec<u8>,
    },
    /// ECDSA.
    Ecdsa {
        /// On which curve.
        curve: Curve,
        /// Abscissa.
        x: Vec<u8>,
        /// Ordinate.
        y: Vec<u8>,
    },
}

impl Key {
    /// Reads one.
    pub fn read(r: &mut Reader<'_>) -> Result<Self, NcoreError> {
        match r.word()? {
            1 => {
                let (e, n) = (r.number()?, r.number()?);
                Ok(Self::Rsa { e, n })
            }
            3 => {
                let (p, q, g, y) = (r.number()?, r.number()?, r.number()?, r.number()?);
                Ok(Self::Dsa { p, q, g, y })
            }
            46 => {
                let curve = curve_from_word(r.word()?)?;
                r.flags("point", 0)?;
                let (x, y) = (r.number()?, r.number()?);
                Ok(Self::Ecdsa { curve, x, y })
            }
            other => Err(NcoreError::KeyType(other)),
        }
    }

    /// Reads one and nothing after it.
    pub fn decode(bytes: &[u8]) -> Result<Self, NcoreError> {
        let mut r = Reader::new(bytes);
        let key = Self::read(&mut r)?;
        r.end()?;
        Ok(key)
    }

    /// In words.
    pub fn describe(&self) -> String {
        match self {
            Self::Rsa { n, .. } => format!("RSA of {} bits", bits(n)),
            Self::Dsa { p, q, .. } => format!("DSA of {}/{} bits", bits(p), bits(q)),
            Self::Ecdsa { curve, .. } => format!("ECDSA on {}", curve.as_str()),
        }
    }
}

/// Length in bits of a big-endian number without leading zeros.
pub fn bits(number: &[u8]) -> usize {
    match number.first() {
        Some(first) => number.len() * 8 - first.leading_zeros() as usize,
        None => 0,
    }
}

/// How a signature was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SignatureMechanism {
    /// DSA with SHA-256.
    DsaSha256,
    /// ECDSA with SHA-512.
    EcdsaSha512,
}

/// A signature; numbers are big-endian without leading zeros.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Signature {
    /// How it was made.
    pub mechanism: SignatureMechanism,
    /// r.
    pub r: Vec<u8>,
    /// s.
    pub s: Vec<u8>,
}

impl Signature {
    /// Reads one and nothing after it.
    pub fn decode(bytes: &[u8]) -> Result<Self, NcoreError> {
        let mut reader = Reader::new(bytes);
        let mechanism = match reader.word()? {
            170 => SignatureMechanism::DsaSha256,
            187 => SignatureMechanism::EcdsaSha512,
            other => return Err(NcoreError::SignatureMechanism(other)),
        };
        let (r, s) = (reader.number()?, reader.number()?);
        reader.end()?;
        Ok(Self { mechanism, r, s })
    }
}

/// What a module says of itself under its long-term key (`ModCertType_StateCert`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModuleState {
    /// Electronic serial number.
    pub esn: String,
    /// KML, the key that signs key generation certificates, and its hash as stated.
    pub kml: (KeyHash, Key),
    /// KLF2, the key that signs this, where given.
    pub klf2: Option<(KeyHash, Key)>,
    /// Hash of the Security Officer's key, KNSO.
    pub hknso: KeyHash,
    /// Hashes of the module keys loaded.
    pub module_keys: Vec<KeyHash>,
}

impl ModuleState {
    /// Reads one and nothing after it.
    pub fn decode(bytes: &[u8]) -> Result<Self, NcoreError> {
        let mut r = Reader::new(bytes);
        match r.word()? {
            4 => r.flags("state certificate", 0)?,
            other => return Err(NcoreError::MessageType(other)),
        };
        let (mut esn, mut kml, mut klf2, mut hknso, mut keys) = (None, None, None, None, None);
        for _ in 0..r.count(8)? {
            let tag = r.word()?;
            let twice = match tag {
                2 => esn.replace(r.text()?).is_some(),
                3 => kml.replace(hash_key_mechanism(&mut r)?).is_some(),
                13 => klf2.replace(hash_key_mechanism(&mut r)?).is_some(),
                5 => {
                    let hash = r.hash()?;
                    // What the Security Officer may do; no rule looks at it.
                    r.word()?;
                    hknso.replace(hash).is_some()
                }
                6 => {
                    let mut list = Vec::new();
                    for _ in 0..r.count(28)? {
                        list.push(r.hash()?);
                        // Two mechanisms, which no rule looks at.
                        r.word()?;
                        r.word()?;
                    }
                    keys.replace(list).is_some()
                }
                other => return Err(NcoreError::Attribute(other)),
            };
            if twice {
                return Err(NcoreError::AttributeTwice(tag));
            }
        }
        r.end()?;
        Ok(Self {
            esn: esn.ok_or(NcoreError::AttributeMissing("ESN"))?,
            kml: kml.ok_or(NcoreError::AttributeMissing("KML"))?,
            klf2,
            hknso: hknso.ok_or(NcoreError::AttributeMissing("HKNSO"))?,
            module_keys: keys.ok_or(NcoreError::AttributeMissing("KMList"))?,
        })
    }
}

fn hash_key_mechanism(r: &mut Reader<'_>) -> Result<(KeyHash, Key), NcoreError> {
    let hash = r.hash()?;
    let key = Key::read(r)?;
    r.word()?;
    Ok((hash, key))
}
