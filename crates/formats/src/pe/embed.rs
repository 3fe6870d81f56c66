//! Putting a signature into an executable.

use super::table::{REVISION, SIGNED_DATA};
use super::{PeError, PeFile, checksum};
use crate::signed_data::{self, SignedDataView};
use crate::{Existing, FormatError};
use countersign_content::{authenticode, oids};

impl PeFile {
    /// The file with `cms` (a `ContentInfo` whose digest is this file's) as its signature.
    ///
    /// `existing` says what becomes of signatures that are there: [`Existing::Append`] nests the new
    /// one in the first signer of the first signature, as `signtool /as` does.
    ///
    /// # Errors
    /// [`PeError::AlreadySigned`] without leave to touch what is there, [`PeError::DigestMismatch`] if
    /// the signature is for another file, [`PeError::DataAfterSignature`] if the existing entry holds
    /// more than a signature, [`PeError::TooLarge`].
    pub fn embed(&self, cms: &[u8], existing: Existing) -> Result<Vec<u8>, FormatError> {
        self.check_is_for_this_file(cms)?;
        let entries = match (self.is_signed(), existing) {
            (false, _) | (true, Existing::Replace) => vec![(REVISION, SIGNED_DATA, cms.to_vec())],
            (true, Existing::Refuse) => return Err(PeError::AlreadySigned.into()),
            (true, Existing::Append) => self.nested(cms)?,
        };
        let out = self.with_table(&entries)?;

        // What we hand out must be what we were asked for: read it back as a stranger would.
        let again = Self::parse(out)?;
        for digest in again.verify_digest()? {
            if digest != self.authenticode_digest(digest.algorithm()) {
                return Err(PeError::DigestMismatch.into());
            }
        }
        Ok(again.bytes)
    }

    fn check_is_for_this_file(&self, cms: &[u8]) -> Result<(), FormatError> {
        let view = SignedDataView::parse(cms)?;
        let stated = view.econtent().ok_or(PeError::DigestMismatch)?;
        let stated = authenticode::digest_in(stated)?;
        if stated == self.authenticode_digest(stated.algorithm()) {
            Ok(())
        } else {
            Err(PeError::DigestMismatch.into())
        }
    }

    /// The existing entries, the first signature of which now carries `cms`.
    fn nested(&self, cms: &[u8]) -> Result<Vec<(u16, u16, Vec<u8>)>, FormatError> {
        let mut entries = Vec::new();
        let mut placed = false;
        for entry in self.certificates()? {
            let data = if entry.is_signed_data() && !placed {
                placed = true;
                signed_data::add_unsigned_value(
                    entry.cms_alone()?,
                    oids::SPC_NESTED_SIGNATURE,
                    cms,
                )?
            } else {
                entry.data.to_vec()
            };
            entries.push((entry.revision, entry.kind, data));
        }
        if !placed {
            entries.push((REVISION, SIGNED_DATA, cms.to_vec()));
        }
        Ok(entries)
    }

    fn with_table(&self, entries: &[(u16, u16, Vec<u8>)]) -> Result<Vec<u8>, PeError> {
        let content = self
            .bytes
            .get(..self.layout.content_end(&self.bytes))
            .unwrap_or_default();
        let mut out = content.to_vec();
        pad(&mut out);
        let start = u32_len(out.len())?;
        for (revision, kind, data) in entries {
            // The length counts header and padding, as signtool and osslsigncode write it.
            let size = data.len().saturating_add(8);
            let padded = size.saturating_add(padding(size));
            out.extend_from_slice(&u32_len(padded)?.to_le_bytes());
            out.extend_from_slice(&revision.to_le_bytes());
            out.extend_from_slice(&kind.to_le_bytes());
            out.extend_from_slice(data);
            pad(&mut out);
        }
        let size = u32_len(out.len())?.saturating_sub(start);
        put(&mut out, self.layout.certificate_entry, start);
        put(
            &mut out,
            self.layout.certificate_entry.saturating_add(4),
            size,
        );
        let sum = checksum::of(&out, self.layout.checksum);
        put(&mut out, self.layout.checksum, sum);
        Ok(out)
    }
}

/// How many bytes are missing to a multiple of eight.
pub(super) const fn padding(length: usize) -> usize {
    (8 - length % 8) % 8
}

fn pad(out: &mut Vec<u8>) {
    let padded = out.len().saturating_add(padding(out.len()));
    out.resize(padded, 0);
}

/// The checksum and certificate entry lie inside the headers, which the layout found in the file.
fn put(out: &mut [u8], at: usize, value: u32) {
    if let Some(field) = out.get_mut(at..).and_then(|r| r.first_chunk_mut::<4>()) {
        *field = value.to_le_bytes();
    }
}

fn u32_len(length: usize) -> Result<u32, PeError> {
    u32::try_from(length).map_err(|_| PeError::TooLarge)
}
