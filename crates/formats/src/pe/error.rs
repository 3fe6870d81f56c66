//! What can be wrong with an executable.

/// A file that is no executable we sign. None can be mended by a retry; the file is left as it was.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PeError {
    /// No `MZ` at the start: not an executable.
    #[error("no MZ header: not a Windows executable")]
    NoDosHeader,
    /// `e_lfanew` points before the end of the DOS header or out of the file.
    #[error("the PE header would be at offset {offset}, outside the file")]
    HeaderOffset {
        /// Where it points.
        offset: u32,
    },
    /// No `PE\0\0` where the DOS header points: an MS-DOS or 16-bit program.
    #[error("no PE signature: a DOS or 16-bit program")]
    NoPeSignature,
    /// The file ends inside a structure. The usual cause is a broken download.
    #[error("the file ends inside {what}")]
    Truncated {
        /// The structure.
        what: &'static str,
    },
    /// Neither PE32 (0x10b) nor PE32+ (0x20b).
    #[error("optional header magic {magic:#06x} is neither PE32 nor PE32+")]
    UnknownMagic {
        /// What stands there.
        magic: u16,
    },
    /// Fewer than five data directories: there is no place for the certificate entry.
    #[error("{count} data directories: no certificate table entry (at least 5 are needed)")]
    TooFewDirectories {
        /// How many.
        count: u32,
    },
    /// More than the sixteen data directories that the format knows.
    #[error("{count} data directories (at most 16 exist)")]
    TooManyDirectories {
        /// How many.
        count: u32,
    },
    /// The data directories do not fit the optional header's stated size.
    #[error("the data directories reach past the optional header")]
    DirectoriesPastHeader,
    /// `SizeOfHeaders` is smaller than the headers or larger than the file.
    #[error("SizeOfHeaders is {size}, which does not fit the file")]
    SizeOfHeaders {
        /// What it says.
        size: u32,
    },
    /// A section's data reaches past the end of the file or into the certificate table.
    #[error("section {index} reaches past the end of the image's data")]
    SectionPastEnd {
        /// Its place in the section table.
        index: usize,
    },
    /// A section's data lies in the headers.
    #[error("section {index} overlaps the headers")]
    SectionInHeaders {
        /// Its place in the section table.
        index: usize,
    },
    /// Two sections share bytes, so tools may differ on what is hashed.
    #[error("sections {first} and {second} overlap")]
    SectionsOverlap {
        /// The one that starts first.
        first: usize,
        /// The one that starts inside it.
        second: usize,
    },
    /// The certificate table entry is half empty, not aligned to eight, or lies in the headers.
    #[error("the certificate table entry (offset {offset}, size {size}) is not usable")]
    CertificateEntry {
        /// Its offset.
        offset: u32,
        /// Its size.
        size: u32,
    },
    /// The certificate table is not the last thing in the file. The usual cause: something was appended
    /// after signing, which no signature covers.
    #[error("the certificate table ends at {end}, the file at {length}")]
    CertificateTableNotAtEnd {
        /// Where the table ends.
        end: u64,
        /// Where the file ends.
        length: u64,
    },
    /// An entry of the certificate table has an impossible length.
    #[error("certificate {index} has an impossible length of {length}")]
    CertificateLength {
        /// Its place in the table.
        index: usize,
        /// What it says.
        length: u32,
    },
    /// More entries than any real file has.
    #[error("more than {limit} entries in the certificate table")]
    TooManyCertificates {
        /// The limit.
        limit: usize,
    },
    /// A certificate table entry carries more than a signature and padding. Re-signing would lose it.
    #[error("{count} bytes follow the signature inside the certificate table")]
    DataAfterSignature {
        /// How many.
        count: usize,
    },
    /// The file is signed and neither appending nor replacing was asked for.
    #[error("already signed: use --append or --replace")]
    AlreadySigned,
    /// The file is not signed.
    #[error("not signed")]
    NotSigned,
    /// A signature's digest is not the file's: the file was changed after signing.
    #[error("the signed digest is not this file's digest")]
    DigestMismatch,
    /// All signatures use SHA-1 or MD5 digests, which prove nothing.
    #[error("signed with SHA-1 or older only")]
    WeakDigest,
    /// With the signature the file would pass the format's limit of 4 GiB.
    #[error("too large with the signature")]
    TooLarge,
}
