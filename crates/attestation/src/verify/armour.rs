//! Text that wraps bytes: PEM with any label (RFC 7468), bare base64.

use base64::Engine;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};

/// Most blocks read from one file.
pub(crate) const MAX_BLOCKS: usize = 256;

/// Padding may be left out, as base64url in JSON mostly does.
const LOOSE: GeneralPurposeConfig =
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent);
const STANDARD: GeneralPurpose = GeneralPurpose::new(&alphabet::STANDARD, LOOSE);
const URL: GeneralPurpose = GeneralPurpose::new(&alphabet::URL_SAFE, LOOSE);

/// A block.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Block {
    /// Its label, for example `CERTIFICATE`.
    pub label: String,
    /// Its bytes.
    pub bytes: Vec<u8>,
}

/// A block that cannot be read. Retrying cannot help.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ArmourError {
    /// A BEGIN line without its END line.
    #[error("PEM block \"{0}\" does not end")]
    Open(String),
    /// What stands between is not base64.
    #[error("PEM block \"{0}\" is no base64")]
    Base64(String),
    /// More blocks than are read.
    #[error("holds more than {MAX_BLOCKS} PEM blocks")]
    TooMany,
}

/// The PEM blocks of a text, in order; `None` if it has no BEGIN line. Text around blocks is
/// ignored.
#[must_use]
pub fn blocks(bytes: &[u8]) -> Option<Vec<Result<Block, ArmourError>>> {
    const BEGIN: &str = "-----BEGIN ";
    const DASHES: &str = "-----";
    let text = std::str::from_utf8(bytes).ok()?;
    let mut rest = text.split_once(BEGIN)?.1;
    let mut out = Vec::new();
    loop {
        if out.len() >= MAX_BLOCKS {
            out.push(Err(ArmourError::TooMany));
            break;
        }
        let Some((label, body)) = rest.split_once(DASHES) else {
            let label = rest.chars().take(40).collect();
            out.push(Err(ArmourError::Open(label)));
            break;
        };
        let label: String = label.chars().take(80).collect();
        let end = format!("-----END {label}{DASHES}");
        let Some((inside, after)) = body.split_once(&end) else {
            out.push(Err(ArmourError::Open(label)));
            break;
        };
        out.push(match base64(inside.as_bytes()) {
            Some(bytes) => Ok(Block { label, bytes }),
            None => Err(ArmourError::Base64(label)),
        });
        match after.split_once(BEGIN) {
            Some((_, next)) => rest = next,
            None => break,
        }
    }
    Some(out)
}

/// Base64 or base64url, with white space anywhere; `None` if it is neither, or empty.
#[must_use]
pub fn base64(text: &[u8]) -> Option<Vec<u8>> {
    let packed: Vec<u8> = text
        .iter()
        .copied()
        .filter(|b| !b.is_ascii_whitespace())
        .collect();
    if packed.is_empty() {
        return None;
    }
    let engine = if packed.iter().any(|b| matches!(b, b'-' | b'_')) {
        &URL
    } else {
        &STANDARD
    };
    engine.decode(packed).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_of_any_label_come_in_order() {
        let text = b"Bag Attributes\n-----BEGIN A B-----\nAQID\n-----END A B-----\r\nx\n-----BEGIN C-----\nBAUG\nBw==\n-----END C-----";
        let found = blocks(text).unwrap();
        let block = |label: &str, bytes: &[u8]| {
            Ok(Block {
                label: label.into(),
                bytes: bytes.to_vec(),
            })
        };
        assert_eq!(found, [block("A B", &[1, 2, 3]), block("C", &[4, 5, 6, 7])]);
        assert_eq!(blocks(b"no armour"), None);
        let cut = blocks(b"-----BEGIN A-----\nAQID\n-----END A----").unwrap();
        assert_eq!(cut, [Err(ArmourError::Open("A".into()))]);
        let bad = blocks(b"-----BEGIN A-----\nAQ*D\n-----END A-----").unwrap();
        assert_eq!(bad, [Err(ArmourError::Base64("A".into()))]);
    }

    #[test]
    fn base64_in_both_alphabets() {
        assert_eq!(base64(b"-_8 \n"), Some(vec![0xfb, 0xff]));
        assert_eq!(base64(b"+/8="), Some(vec![0xfb, 0xff]));
        assert_eq!(base64(b" "), None);
        assert_eq!(base64(b"\xff"), None);
    }
}
