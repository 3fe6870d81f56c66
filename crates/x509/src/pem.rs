//! PEM armour (RFC 7468).

use der::pem::{self, LineEnding};

/// Text that is not the PEM it should be. Retrying cannot help.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PemError {
    /// No `-----BEGIN …-----` line with the wanted label.
    #[error("no PEM block \"{0}\"")]
    Missing(String),
    /// A block that does not decode.
    #[error("PEM block \"{0}\" is malformed")]
    Malformed(String),
    /// Another label than the wanted one.
    #[error("PEM block \"{found}\" where \"{wanted}\" belongs")]
    WrongLabel {
        /// What belongs here.
        wanted: String,
        /// What stands here.
        found: String,
    },
    /// More than one block where one belongs, or more blocks than are read.
    #[error("too many PEM blocks")]
    TooMany,
}

/// Wraps DER in armour.
#[must_use]
pub fn encode(label: &'static str, der: &[u8]) -> String {
    // Fails only for a malformed label or an absurd length; our labels are constants.
    pem::encode_string(label, LineEnding::LF, der).unwrap_or_default()
}

/// The one block with `label`. Text before and after it is ignored.
///
/// # Errors
/// If there is none, more than one, or one with another label.
pub fn decode_one(label: &str, text: &str) -> Result<Vec<u8>, PemError> {
    let mut all = decode_all(label, text)?;
    match (all.pop(), all.is_empty()) {
        (Some(der), true) => Ok(der),
        (Some(_), false) => Err(PemError::TooMany),
        (None, _) => Err(PemError::Missing(label.to_owned())),
    }
}

/// All blocks with `label`, in order, at most 64. Text between blocks is ignored.
///
/// # Errors
/// If one is malformed or has another label.
pub fn decode_all(label: &str, text: &str) -> Result<Vec<Vec<u8>>, PemError> {
    const MAX_BLOCKS: usize = 64;
    let malformed = || PemError::Malformed(label.to_owned());
    let mut out = Vec::new();
    let mut rest = text;
    while let Some(start) = rest.find("-----BEGIN ") {
        let block = rest.get(start..).ok_or_else(malformed)?;
        let end_line = block.find("-----END ").ok_or_else(malformed)?;
        let after = block.get(end_line + 9..).ok_or_else(malformed)?;
        let tail = after.find("-----").ok_or_else(malformed)?;
        let end = end_line + 9 + tail + 5;
        let one = block.get(..end).ok_or_else(malformed)?;
        if out.len() >= MAX_BLOCKS {
            return Err(PemError::TooMany);
        }
        let (found, der) = pem::decode_vec(one.as_bytes()).map_err(|_| malformed())?;
        if found != label {
            return Err(PemError::WrongLabel {
                wanted: label.to_owned(),
                found: found.chars().take(64).collect(),
            });
        }
        out.push(der);
        rest = block.get(end..).unwrap_or_default();
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_come_back_in_order_and_text_between_is_ignored() {
        let (a, b) = ([0x04, 1, 1], [0x04, 1, 2]);
        let text = format!(
            "subject: x\n{}between\n{}after",
            encode("CERTIFICATE", &a),
            encode("CERTIFICATE", &b)
        );
        assert_eq!(
            decode_all("CERTIFICATE", &text),
            Ok(vec![a.to_vec(), b.to_vec()])
        );
        assert_eq!(decode_one("CERTIFICATE", &text), Err(PemError::TooMany));
    }

    #[test]
    fn another_label_is_named() {
        let text = encode("PRIVATE KEY", &[0x04, 1, 1]);
        assert_eq!(
            decode_one("CERTIFICATE", &text),
            Err(PemError::WrongLabel {
                wanted: "CERTIFICATE".into(),
                found: "PRIVATE KEY".into()
            })
        );
    }
}
