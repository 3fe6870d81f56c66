//! The attribute certificate table: `WIN_CERTIFICATE` entries, each aligned to eight bytes.

use super::PeError;
use super::embed::padding;
use super::layout::u32_at;
use crate::FormatError;
use crate::signed_data::SignedDataView;

/// More than any real file has; bounds the work.
const MAX_ENTRIES: usize = 64;
/// Length, revision and type of an entry.
const HEADER: usize = 8;
/// `WIN_CERT_REVISION_2_0`.
pub(super) const REVISION: u16 = 0x0200;
/// `WIN_CERT_TYPE_PKCS_SIGNED_DATA`.
pub(super) const SIGNED_DATA: u16 = 0x0002;

/// One entry of the certificate table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WinCertificate<'a> {
    /// `wRevision`.
    pub revision: u16,
    /// `wCertificateType`.
    pub kind: u16,
    /// `bCertificate`, with whatever padding its length counts in.
    pub data: &'a [u8],
}

impl<'a> WinCertificate<'a> {
    /// Whether this is a CMS signature, the only type that Windows checks.
    #[must_use]
    pub const fn is_signed_data(&self) -> bool {
        self.kind == SIGNED_DATA
    }

    /// The CMS without padding.
    ///
    /// # Errors
    /// If it is no CMS.
    pub fn cms(&self) -> Result<&'a [u8], FormatError> {
        Ok(SignedDataView::prefix(self.data)?.0)
    }

    /// The CMS, if nothing but padding follows it.
    pub(super) fn cms_alone(&self) -> Result<&'a [u8], FormatError> {
        let (cms, rest) = SignedDataView::prefix(self.data)?;
        if rest.len() > 7 || rest.iter().any(|b| *b != 0) {
            return Err(PeError::DataAfterSignature { count: rest.len() }.into());
        }
        Ok(cms)
    }
}

/// Reads the entries. The table must hold whole entries and nothing else.
pub(super) fn read(table: &[u8]) -> Result<Vec<WinCertificate<'_>>, PeError> {
    const WHAT: &str = "the certificate table";
    let mut found = Vec::new();
    let mut rest = table;
    while !rest.is_empty() {
        let index = found.len();
        if index >= MAX_ENTRIES {
            return Err(PeError::TooManyCertificates { limit: MAX_ENTRIES });
        }
        let length = u32_at(rest, 0, 0, WHAT)?;
        let bad = PeError::CertificateLength { index, length };
        let size = usize::try_from(length).map_err(|_| bad.clone())?;
        let (Some([a, b, c, d]), Some(data)) =
            (rest.get(4..HEADER), rest.get(HEADER..size.max(HEADER)))
        else {
            return Err(bad);
        };
        if size <= HEADER {
            return Err(bad);
        }
        found.push(WinCertificate {
            revision: u16::from_le_bytes([*a, *b]),
            kind: u16::from_le_bytes([*c, *d]),
            data,
        });
        // The last entry's padding may be missing where the table's size does not count it.
        let next = size.saturating_add(padding(size)).min(rest.len());
        rest = rest.get(next..).unwrap_or_default();
    }
    Ok(found)
}
