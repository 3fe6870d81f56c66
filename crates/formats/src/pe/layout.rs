//! Where things lie in an executable: read once, checked whole.

use super::PeError;
use std::ops::Range;

/// The DOS header's size; the PE header cannot start inside it in a file that any linker made.
const DOS_HEADER: usize = 64;
/// Size of the COFF header with the PE signature.
const COFF_HEADER: usize = 24;
/// Index of the certificate table among the data directories (PE/COFF §"Optional Header Data Directories").
const CERTIFICATE_DIRECTORY: usize = 4;
/// How many data directories the format knows.
const DIRECTORIES: u32 = 16;
/// Size of one entry in the section table.
const SECTION_HEADER: usize = 40;

/// Checked offsets into the file they were read from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Layout {
    /// Offset of the 4-byte `CheckSum`.
    pub(super) checksum: usize,
    /// Offset of the 8-byte certificate table entry.
    pub(super) certificate_entry: usize,
    /// The certificate table, if there is one. It ends the file.
    pub(super) certificate_table: Option<Range<usize>>,
}

impl Layout {
    pub(super) fn read(file: &[u8]) -> Result<Self, PeError> {
        const WHAT: &str = "the optional header";
        let pe = pe_header_offset(file)?;
        let sections = u16_at(file, pe, 6, "the COFF header")?;
        let optional_size = usize::from(u16_at(file, pe, 20, "the COFF header")?);
        let optional = add(pe, COFF_HEADER)?;

        let magic = u16_at(file, optional, 0, WHAT)?;
        let (count_at, directories_at) = match magic {
            0x10b => (92, 96),
            0x20b => (108, 112),
            _ => return Err(PeError::UnknownMagic { magic }),
        };
        let count = u32_at(file, optional, count_at, WHAT)?;
        if count > DIRECTORIES {
            return Err(PeError::TooManyDirectories { count });
        }
        let directories_size = usize::try_from(count)
            .ok()
            .and_then(|n| n.checked_mul(8))
            .ok_or(PeError::TooManyDirectories { count })?;
        if add(directories_at, directories_size)? > optional_size {
            return Err(PeError::DirectoriesPastHeader);
        }
        if count <= 4 {
            return Err(PeError::TooFewDirectories { count });
        }
        let certificate_entry = add(optional, add(directories_at, CERTIFICATE_DIRECTORY * 8)?)?;

        let section_table = add(optional, optional_size)?;
        let headers_end = add(section_table, usize::from(sections) * SECTION_HEADER)?;
        if headers_end > file.len() {
            return Err(PeError::Truncated {
                what: "the section table",
            });
        }
        let size_of_headers = u32_at(file, optional, 60, WHAT)?;
        let headers = usize::try_from(size_of_headers).unwrap_or(usize::MAX);
        if headers < headers_end || headers > file.len() {
            return Err(PeError::SizeOfHeaders {
                size: size_of_headers,
            });
        }

        let layout = Self {
            checksum: add(optional, 64)?,
            certificate_entry,
            certificate_table: certificate_table(file, certificate_entry, headers)?,
        };
        check_sections(
            file,
            section_table,
            usize::from(sections),
            headers..layout.content_end(file),
        )?;
        Ok(layout)
    }

    /// Where the hashed content ends: at the certificate table, or at the end of the file.
    pub(super) fn content_end(&self, file: &[u8]) -> usize {
        self.certificate_table
            .as_ref()
            .map_or(file.len(), |t| t.start)
    }
}

/// Where the PE signature stands.
pub(super) fn pe_header_offset(file: &[u8]) -> Result<usize, PeError> {
    if file.get(..2) != Some(b"MZ") {
        return Err(PeError::NoDosHeader);
    }
    let offset = u32_at(file, 0, 0x3C, "the DOS header")?;
    let at = usize::try_from(offset).map_err(|_| PeError::HeaderOffset { offset })?;
    if at < DOS_HEADER {
        return Err(PeError::HeaderOffset { offset });
    }
    let end = add(at, 4)?;
    match file.get(at..end) {
        None => Err(PeError::HeaderOffset { offset }),
        Some(b"PE\0\0") => Ok(at),
        Some(_) => Err(PeError::NoPeSignature),
    }
}

/// The certificate table's place. Its "address" is a file offset, unlike the other directories'.
fn certificate_table(
    file: &[u8],
    entry: usize,
    headers: usize,
) -> Result<Option<Range<usize>>, PeError> {
    const WHAT: &str = "the data directories";
    let offset = u32_at(file, entry, 0, WHAT)?;
    let size = u32_at(file, entry, 4, WHAT)?;
    if offset == 0 && size == 0 {
        return Ok(None);
    }
    let unusable = PeError::CertificateEntry { offset, size };
    let (Ok(start), Ok(length)) = (usize::try_from(offset), usize::try_from(size)) else {
        return Err(unusable);
    };
    if start < headers || !start.is_multiple_of(8) || length < 8 {
        return Err(unusable);
    }
    let end = add(start, length)?;
    if end != file.len() {
        return Err(PeError::CertificateTableNotAtEnd {
            end: u64::from(offset).saturating_add(u64::from(size)),
            length: u64::try_from(file.len()).unwrap_or(u64::MAX),
        });
    }
    Ok(Some(start..end))
}

/// Sections must lie between headers and content end, and apart from each other.
fn check_sections(
    file: &[u8],
    table: usize,
    count: usize,
    allowed: Range<usize>,
) -> Result<(), PeError> {
    const WHAT: &str = "the section table";
    let mut ranges = Vec::with_capacity(count);
    for index in 0..count {
        let header = add(table, index.saturating_mul(SECTION_HEADER))?;
        let size = u32_at(file, header, 16, WHAT)?;
        let pointer = u32_at(file, header, 20, WHAT)?;
        // Sections without data in the file (.bss); old linkers leave a size there but no pointer.
        if size == 0 || pointer == 0 {
            continue;
        }
        let past_end = PeError::SectionPastEnd { index };
        let (Ok(start), Ok(size)) = (usize::try_from(pointer), usize::try_from(size)) else {
            return Err(past_end);
        };
        let Some(end) = start.checked_add(size).filter(|e| *e <= allowed.end) else {
            return Err(past_end);
        };
        if start < allowed.start {
            return Err(PeError::SectionInHeaders { index });
        }
        ranges.push((start, end, index));
    }
    ranges.sort_unstable();
    for pair in ranges.windows(2) {
        if let [(_, end, first), (start, _, second)] = pair
            && start < end
        {
            return Err(PeError::SectionsOverlap {
                first: *first,
                second: *second,
            });
        }
    }
    Ok(())
}

fn add(a: usize, b: usize) -> Result<usize, PeError> {
    a.checked_add(b).ok_or(PeError::Truncated {
        what: "the address space",
    })
}

fn array_at<const N: usize>(
    file: &[u8],
    base: usize,
    offset: usize,
    what: &'static str,
) -> Result<[u8; N], PeError> {
    base.checked_add(offset)
        .and_then(|at| file.get(at..))
        .and_then(|rest| rest.first_chunk::<N>())
        .copied()
        .ok_or(PeError::Truncated { what })
}

fn u16_at(file: &[u8], base: usize, offset: usize, what: &'static str) -> Result<u16, PeError> {
    array_at(file, base, offset, what).map(u16::from_le_bytes)
}

pub(super) fn u32_at(
    file: &[u8],
    base: usize,
    offset: usize,
    what: &'static str,
) -> Result<u32, PeError> {
    array_at(file, base, offset, what).map(u32::from_le_bytes)
}
