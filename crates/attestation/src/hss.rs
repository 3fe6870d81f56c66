//! HSS/LMS (RFC 8554), verification alone, with SHA-256.
//!
//! Crypto4A modules sign their claims twice: with ECDSA and with this hash-based scheme. All that
//! is read is public; the work is bounded by the parameters below (eight levels of W = 1 to 8 cost
//! under 100,000 hashes).

use aws_lc_rs::digest::{Context, SHA256};

/// Hash values, and the identifiers of trees' parameter sets with SHA-256, are 32 bytes long.
const N: usize = 32;
type Node = [u8; N];

/// Most levels (RFC 8554 §6: L is 1 to 8).
const MAX_LEVELS: u32 = 8;

// Domain separation, RFC 8554 §4.1 and §5.2.
const D_PBLC: [u8; 2] = [0x80, 0x80];
const D_MESG: [u8; 2] = [0x81, 0x81];
const D_LEAF: [u8; 2] = [0x82, 0x82];
const D_INTR: [u8; 2] = [0x83, 0x83];

/// A signature that does not verify, and why. Retrying cannot help.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum HssError {
    /// The bytes end too early.
    #[error("the HSS key or signature is cut off")]
    Truncated,
    /// Bytes follow where nothing may.
    #[error("bytes follow the HSS key or signature")]
    Trailing,
    /// Levels other than 1 to 8, or not the same in key and signature.
    #[error("the HSS levels of key and signature do not agree")]
    Levels,
    /// A parameter set other than those of RFC 8554 with SHA-256.
    #[error("the {0} parameter set {1:#x} is not one of RFC 8554 with SHA-256")]
    Parameters(&'static str, u32),
    /// A leaf outside its tree.
    #[error("the leaf {0} lies outside its tree")]
    Leaf(u32),
    /// The signature is wrong.
    #[error("the HSS signature does not verify")]
    Invalid,
}

/// Verifies an HSS signature over `message` (RFC 8554 §6.3).
///
/// # Errors
/// [`HssError`].
pub fn verify(key: &[u8], message: &[u8], signature: &[u8]) -> Result<(), HssError> {
    let mut key = Reader(key);
    let levels = key.word()?;
    if !(1..=MAX_LEVELS).contains(&levels) {
        return Err(HssError::Levels);
    }
    let mut current = LmsKey::read(&mut key)?;
    key.end()?;
    let mut signature = Reader(signature);
    if signature.word()? != levels - 1 {
        return Err(HssError::Levels);
    }
    for _ in 1..levels {
        let by = LmsSignature::read(&mut signature)?;
        let before = signature.0;
        let next = LmsKey::read(&mut signature)?;
        let signed = before
            .get(..before.len() - signature.0.len())
            .ok_or(HssError::Truncated)?;
        current.verify(signed, &by)?;
        current = next;
    }
    let by = LmsSignature::read(&mut signature)?;
    signature.end()?;
    current.verify(message, &by)
}

struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, n: usize) -> Result<&'a [u8], HssError> {
        let (head, rest) = self.0.split_at_checked(n).ok_or(HssError::Truncated)?;
        self.0 = rest;
        Ok(head)
    }

    fn word(&mut self) -> Result<u32, HssError> {
        let bytes = self.take(4)?.try_into();
        bytes
            .map(u32::from_be_bytes)
            .map_err(|_| HssError::Truncated)
    }

    const fn end(&self) -> Result<(), HssError> {
        if self.0.is_empty() {
            Ok(())
        } else {
            Err(HssError::Trailing)
        }
    }
}

/// A one-time parameter set (RFC 8554 §4.1, table 1).
#[derive(Clone, Copy, PartialEq, Eq)]
struct OneTime {
    kind: u32,
    /// Bits of a digit.
    w: u32,
    /// Digits, with those of the checksum.
    p: usize,
    /// How far the checksum is shifted left.
    shift: u32,
}

impl OneTime {
    fn from_word(kind: u32) -> Result<Self, HssError> {
        let (w, p, shift) = match kind {
            1 => (1, 265, 7),
            2 => (2, 133, 6),
            3 => (4, 67, 4),
            4 => (8, 34, 0),
            other => return Err(HssError::Parameters("LM-OTS", other)),
        };
        Ok(Self { kind, w, p, shift })
    }

    const fn max_digit(self) -> u32 {
        (1 << self.w) - 1
    }

    /// The digits of `hash` and its checksum (RFC 8554 §4.4).
    fn digits(self, hash: &Node) -> Vec<u32> {
        let message: Vec<u32> = self.split(hash).collect();
        let sum: u32 = message.iter().map(|d| self.max_digit() - d).sum();
        let checksum = (sum << self.shift).to_be_bytes();
        // The checksum has 16 bits.
        let tail = checksum.get(2..).unwrap_or_default();
        let digits = message.iter().copied().chain(self.split(tail));
        digits.take(self.p).collect()
    }

    fn split(self, bytes: &[u8]) -> impl Iterator<Item = u32> {
        let each = 8 / self.w;
        bytes.iter().flat_map(move |b| {
            (1..=each).map(move |i| (u32::from(*b) >> (8 - i * self.w)) & self.max_digit())
        })
    }
}

/// The height of a tree's parameter set (RFC 8554 §5.1, table 2).
fn height(kind: u32) -> Result<u8, HssError> {
    match kind {
        5 => Ok(5),
        6 => Ok(10),
        7 => Ok(15),
        8 => Ok(20),
        9 => Ok(25),
        other => Err(HssError::Parameters("LMS", other)),
    }
}

struct LmsKey<'a> {
    kind: u32,
    one_time: OneTime,
    /// The tree's identifier, I.
    id: &'a [u8],
    root: &'a [u8],
}

impl<'a> LmsKey<'a> {
    fn read(r: &mut Reader<'a>) -> Result<Self, HssError> {
        let kind = r.word()?;
        height(kind)?;
        Ok(Self {
            kind,
            one_time: OneTime::from_word(r.word()?)?,
            id: r.take(16)?,
            root: r.take(N)?,
        })
    }

    /// RFC 8554 §5.4.2, algorithm 6a, and §4.6, algorithm 4b.
    fn verify(&self, message: &[u8], by: &LmsSignature<'_>) -> Result<(), HssError> {
        if by.kind != self.kind || by.one_time != self.one_time {
            return Err(HssError::Invalid);
        }
        let leaf = by.leaf.to_be_bytes();
        let digest = hash(&[self.id, &leaf, &D_MESG, by.randomizer, message]);
        let mut public = Context::new(&SHA256);
        for part in [self.id, &leaf, &D_PBLC] {
            public.update(part);
        }
        let digits = self.one_time.digits(&digest);
        for (i, (digit, start)) in (0u16..).zip(digits.iter().zip(by.chains.chunks_exact(N))) {
            let mut value: Node = start.try_into().map_err(|_| HssError::Truncated)?;
            for j in *digit..self.one_time.max_digit() {
                // A digit has at most eight bits.
                let step = u8::try_from(j).map_err(|_| HssError::Invalid)?;
                value = hash(&[self.id, &leaf, &i.to_be_bytes(), &[step], &value]);
            }
            public.update(&value);
        }
        let candidate = node(public);

        let mut number = by.leaf + (1 << height(self.kind)?);
        let mut value = hash(&[self.id, &number.to_be_bytes(), &D_LEAF, &candidate]);
        for sibling in by.path.chunks_exact(N) {
            let parent = (number / 2).to_be_bytes();
            let (left, right) = if number.is_multiple_of(2) {
                (&value[..], sibling)
            } else {
                (sibling, &value[..])
            };
            value = hash(&[self.id, &parent, &D_INTR, left, right]);
            number /= 2;
        }
        if value == self.root {
            Ok(())
        } else {
            Err(HssError::Invalid)
        }
    }
}

struct LmsSignature<'a> {
    leaf: u32,
    one_time: OneTime,
    randomizer: &'a [u8],
    chains: &'a [u8],
    kind: u32,
    path: &'a [u8],
}

impl<'a> LmsSignature<'a> {
    fn read(r: &mut Reader<'a>) -> Result<Self, HssError> {
        let leaf = r.word()?;
        let one_time = OneTime::from_word(r.word()?)?;
        let randomizer = r.take(N)?;
        let chains = r.take(N * one_time.p)?;
        let kind = r.word()?;
        let height = height(kind)?;
        if leaf >> height != 0 {
            return Err(HssError::Leaf(leaf));
        }
        Ok(Self {
            leaf,
            one_time,
            randomizer,
            chains,
            kind,
            path: r.take(N * usize::from(height))?,
        })
    }
}

fn hash(parts: &[&[u8]]) -> Node {
    let mut context = Context::new(&SHA256);
    for part in parts {
        context.update(part);
    }
    node(context)
}

fn node(context: Context) -> Node {
    let mut out = [0; N];
    // SHA-256 gives N bytes.
    out.copy_from_slice(context.finish().as_ref());
    out
}
