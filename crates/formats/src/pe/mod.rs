//! Windows executables (PE32 and PE32+): the Authenticode digest, the signatures inside, a new one.
//!
//! The reader is strict where a liberal one would be dangerous: two tools that disagree on where the
//! certificate table lies, or which bytes a section has, disagree on what was signed. So offsets must
//! lie in the file, sections must not overlap, and the certificate table must be the end of the file.
//!
//! The file is held in memory, at most [`MAX_SIZE`]; offsets in the format have 32 bits anyway.

mod checksum;
mod embed;
mod error;
mod layout;
mod table;

pub use error::PeError;
pub use table::WinCertificate;

use crate::FormatError;
use crate::files;
use crate::signed_data::SignedDataView;
use countersign_content::{authenticode, oids};
use countersign_core::{Digest, HashAlgorithm};
use layout::Layout;
use std::path::Path;

/// Largest executable we read: 1 GiB.
pub const MAX_SIZE: u64 = 1 << 30;

/// A Windows executable whose structure was checked.
pub struct PeFile {
    bytes: Vec<u8>,
    layout: Layout,
}

/// One signature found in an executable: a top-level one or one nested in another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EmbeddedSignature {
    /// The CMS `ContentInfo`, without padding.
    pub cms: Vec<u8>,
    /// The file digest it states. None if it uses a hash that we refuse (SHA-1, MD5).
    pub digest: Option<Digest>,
    /// Whether it stands inside another signature.
    pub nested: bool,
    /// Whether its first signer carries an RFC 3161 timestamp (not checked here).
    pub timestamped: bool,
}

impl PeFile {
    /// Reads and checks a file.
    ///
    /// # Errors
    /// [`FormatError::Io`] and [`FormatError::TooLarge`] for the file, [`FormatError::Pe`] for its content.
    pub fn open(path: &Path) -> Result<Self, FormatError> {
        let bytes = files::read_bounded(path, MAX_SIZE)?;
        Ok(Self::parse(bytes)?)
    }

    /// Checks bytes.
    ///
    /// # Errors
    /// The first thing that is wrong with them; retrying cannot help.
    pub fn parse(bytes: Vec<u8>) -> Result<Self, PeError> {
        let layout = Layout::read(&bytes)?;
        let file = Self { bytes, layout };
        file.certificates()?;
        Ok(file)
    }

    /// Whether bytes claim to be a PE file: the DOS mark, and the PE mark where the header says.
    #[must_use]
    pub fn looks_like(bytes: &[u8]) -> bool {
        layout::pe_header_offset(bytes).is_ok()
    }

    /// The bytes as they were read.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Whether the file has a certificate table.
    #[must_use]
    pub const fn is_signed(&self) -> bool {
        self.layout.certificate_table.is_some()
    }

    /// The Authenticode digest: everything but checksum, certificate entry and certificate table. An
    /// unsigned file is hashed as if zeros filled it to a multiple of eight, as signing will do.
    #[must_use]
    pub fn authenticode_digest(&self, algorithm: HashAlgorithm) -> Digest {
        let l = &self.layout;
        let mut hasher = files::Hasher::new(algorithm);
        for range in [
            0..l.checksum,
            l.checksum.saturating_add(4)..l.certificate_entry,
            l.certificate_entry.saturating_add(8)..l.content_end(&self.bytes),
        ] {
            // The layout was checked against these very bytes.
            hasher.update(self.bytes.get(range).unwrap_or_default());
        }
        let padding = embed::padding(l.content_end(&self.bytes));
        hasher.update([0; 8].get(..padding).unwrap_or_default());
        hasher.finish()
    }

    /// The entries of the certificate table, in order. Empty for an unsigned file.
    ///
    /// # Errors
    /// If an entry does not fit the table.
    pub fn certificates(&self) -> Result<Vec<WinCertificate<'_>>, PeError> {
        match &self.layout.certificate_table {
            None => Ok(Vec::new()),
            Some(range) => table::read(self.bytes.get(range.clone()).unwrap_or_default()),
        }
    }

    /// All signatures, top-level and nested ones, outer before inner.
    ///
    /// # Errors
    /// If a CMS in the table cannot be read.
    pub fn signatures(&self) -> Result<Vec<EmbeddedSignature>, FormatError> {
        let mut found = Vec::new();
        for certificate in self.certificates()? {
            if certificate.is_signed_data() {
                let cms = certificate.cms()?;
                let nested =
                    SignedDataView::parse(cms)?.unsigned_values(oids::SPC_NESTED_SIGNATURE)?;
                found.push(describe(cms, false)?);
                for inner in nested {
                    found.push(describe(inner, true)?);
                }
            }
        }
        Ok(found)
    }

    /// Whether each signature's stated digest is this file's. Says nothing about who signed.
    ///
    /// # Errors
    /// [`PeError::NotSigned`], [`PeError::DigestMismatch`], or [`PeError::WeakDigest`] if none of
    /// the signatures uses a hash we accept.
    pub fn verify_digest(&self) -> Result<Vec<Digest>, FormatError> {
        let signatures = self.signatures()?;
        if signatures.is_empty() {
            return Err(PeError::NotSigned.into());
        }
        let stated: Vec<Digest> = signatures.into_iter().filter_map(|s| s.digest).collect();
        if stated.is_empty() {
            return Err(PeError::WeakDigest.into());
        }
        for digest in &stated {
            if *digest != self.authenticode_digest(digest.algorithm()) {
                return Err(PeError::DigestMismatch.into());
            }
        }
        Ok(stated)
    }
}

fn describe(cms: &[u8], nested: bool) -> Result<EmbeddedSignature, FormatError> {
    let view = SignedDataView::parse(cms)?;
    Ok(EmbeddedSignature {
        cms: cms.to_vec(),
        digest: view
            .econtent()
            .and_then(|e| authenticode::digest_in(e).ok()),
        nested,
        timestamped: !view
            .unsigned_values(oids::SPC_RFC3161_TIMESTAMP)?
            .is_empty(),
    })
}
