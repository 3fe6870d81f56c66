//! Broken and hostile executables: each gives its exact error.

use crate::tiny_pe::{self, LFANEW, OPTIONAL, PE, SIZE_OF_HEADERS, TinyPe, put, put32};
use countersign_formats::pe::{PeError, PeFile};

/// What parsing says after one change to a good file, for both kinds.
fn broken(change: impl Fn(&TinyPe, &mut Vec<u8>)) -> Vec<PeError> {
    [TinyPe::pe32(), TinyPe::pe32_plus()]
        .into_iter()
        .map(|pe| {
            let mut bytes = pe.build();
            change(&pe, &mut bytes);
            match PeFile::parse(bytes) {
                Err(e) => e,
                Ok(_) => panic!("was accepted"),
            }
        })
        .collect()
}

fn expect(change: impl Fn(&TinyPe, &mut Vec<u8>), error: PeError) {
    for seen in broken(change) {
        assert_eq!(seen, error);
    }
}

#[test]
fn good_ones_are_read() {
    for pe in [TinyPe::pe32(), TinyPe::pe32_plus()] {
        assert!(PeFile::parse(pe.build()).is_ok());
    }
}

#[test]
fn not_an_executable() {
    for bytes in [&b""[..], b"M", b"#!/bin/sh\n", b"\x7fELF"] {
        assert_eq!(
            PeFile::parse(bytes.to_vec()).err(),
            Some(PeError::NoDosHeader)
        );
        assert!(!PeFile::looks_like(bytes));
    }
    assert_eq!(
        PeFile::parse(b"MZ".to_vec()).err(),
        Some(PeError::Truncated {
            what: "the DOS header"
        })
    );
    expect(|_, b| put(b, PE, b"NE\0\0"), PeError::NoPeSignature);
    expect(
        |_, b| put(b, OPTIONAL, &[0x07, 0x01]),
        PeError::UnknownMagic { magic: 0x107 },
    );
}

#[test]
fn the_pe_header_lies_elsewhere() {
    for offset in [0_u32, 4, 63, 0x7FFF_FFFF, 0xFFFF_FFFF] {
        expect(
            |_, b| put(b, LFANEW, &offset.to_le_bytes()),
            PeError::HeaderOffset { offset },
        );
    }
    let length = TinyPe::pe32().build().len();
    let offset = u32::try_from(length - 3).unwrap();
    assert_eq!(
        broken(|_, b| put(b, LFANEW, &offset.to_le_bytes()))[0],
        PeError::HeaderOffset { offset }
    );
}

#[test]
fn every_truncation_is_an_error() {
    for pe in [TinyPe::pe32(), TinyPe::pe32_plus()] {
        let whole = pe.build();
        for length in 0..whole.len() {
            assert!(
                PeFile::parse(whole[..length].to_vec()).is_err(),
                "{length} bytes"
            );
        }
    }
}

#[test]
fn too_few_or_too_many_directories() {
    for count in [0, 1, 4] {
        expect(
            |pe, b| put32(b, pe.directory_count(), count),
            PeError::TooFewDirectories {
                count: u32::try_from(count).unwrap(),
            },
        );
    }
    for count in [17_u32, u32::MAX] {
        expect(
            |pe, b| put(b, pe.directory_count(), &count.to_le_bytes()),
            PeError::TooManyDirectories { count },
        );
    }
    expect(
        |_, b| put(b, PE + 20, &[0x70, 0]),
        PeError::DirectoriesPastHeader,
    );
}

#[test]
fn headers_and_sections_past_the_end() {
    expect(
        |_, b| put(b, PE + 6, &[0xFF, 0xFF]),
        PeError::Truncated {
            what: "the section table",
        },
    );
    for size in [0_usize, 0x100, 0x7FFF_FFFF] {
        expect(
            |_, b| put32(b, SIZE_OF_HEADERS, size),
            PeError::SizeOfHeaders {
                size: u32::try_from(size).unwrap(),
            },
        );
    }
    let end = PeError::SectionPastEnd { index: 1 };
    expect(
        |pe, b| put32(b, pe.section_header(1) + 16, 0x201),
        end.clone(),
    );
    expect(
        |pe, b| put(b, pe.section_header(1) + 16, &[0xFF; 8]),
        end.clone(),
    );
    expect(|pe, b| put32(b, pe.section_header(1) + 20, 0x10_0000), end);
    expect(
        |pe, b| put32(b, pe.section_header(0) + 20, 0x40),
        PeError::SectionInHeaders { index: 0 },
    );
}

#[test]
fn overlapping_sections() {
    expect(
        |pe, b| {
            let first = tiny(b, pe.section_header(0) + 20);
            put32(b, pe.section_header(1) + 20, first + 0x100);
        },
        PeError::SectionsOverlap {
            first: 0,
            second: 1,
        },
    );
}

#[test]
fn sections_without_data_in_the_file_are_fine() {
    for pe in [TinyPe::pe32(), TinyPe::pe32_plus()] {
        let mut bytes = pe.build();
        // .bss of old linkers: a size, but no place in the file.
        put32(&mut bytes, pe.section_header(1) + 20, 0);
        put32(&mut bytes, pe.section_header(1) + 16, 0x7FFF_0000);
        assert!(PeFile::parse(bytes).is_ok());
    }
}

#[test]
fn certificate_tables_that_cannot_be() {
    let entry = |offset: u32, size: u32| {
        move |pe: &TinyPe, b: &mut Vec<u8>| {
            put(b, pe.certificate_entry(), &offset.to_le_bytes());
            put(b, pe.certificate_entry() + 4, &size.to_le_bytes());
        }
    };
    // Half empty, unaligned, in the headers, too short.
    for (offset, size) in [
        (0, 8),
        (0x600, 0),
        (0x601, 0x1FF),
        (0x40, 0x100),
        (0x7F8, 4),
    ] {
        expect(
            entry(offset, size),
            PeError::CertificateEntry { offset, size },
        );
    }
    // Before the end, past the end, wrapping around.
    let length = TinyPe::pe32().build().len() as u64;
    for (offset, size) in [
        (0x400_u32, 0x100_u32),
        (0x600, 0x1000),
        (0xFFFF_FFF8, 0xFFFF_FFFF),
    ] {
        let end = u64::from(offset) + u64::from(size);
        expect(
            entry(offset, size),
            PeError::CertificateTableNotAtEnd { end, length },
        );
    }
    // Over the last section.
    expect(entry(0x500, 0x100), PeError::SectionPastEnd { index: 1 });
}

#[test]
fn certificate_entries_that_cannot_be() {
    let with_table = |table: &[u8]| {
        let pe = TinyPe::pe32();
        let mut bytes = pe.build();
        let start = bytes.len();
        bytes.extend_from_slice(table);
        put32(&mut bytes, pe.certificate_entry(), start);
        put32(&mut bytes, pe.certificate_entry() + 4, table.len());
        PeFile::parse(bytes).err()
    };
    for length in [0_u32, 7, 8, 25, u32::MAX] {
        let mut table = [0_u8; 24];
        table[..4].copy_from_slice(&length.to_le_bytes());
        assert_eq!(
            with_table(&table),
            Some(PeError::CertificateLength { index: 0, length })
        );
    }
    // A good entry, then rubbish.
    let mut two = [0_u8; 24];
    two[0] = 16;
    assert_eq!(
        with_table(&two),
        Some(PeError::CertificateLength {
            index: 1,
            length: 0
        })
    );
    let mut many = Vec::new();
    for _ in 0..65 {
        many.extend_from_slice(&[16, 0, 0, 0, 0, 2, 2, 0, 1, 2, 3, 4, 5, 6, 7, 8]);
    }
    assert_eq!(
        with_table(&many),
        Some(PeError::TooManyCertificates { limit: 64 })
    );
}

#[test]
fn something_appended_after_signing() {
    let pe = TinyPe::pe32();
    let mut bytes = pe.build();
    let start = bytes.len();
    bytes.extend_from_slice(&[16, 0, 0, 0, 0, 2, 2, 0, 0x30, 0, 0, 0, 0, 0, 0, 0]);
    put32(&mut bytes, pe.certificate_entry(), start);
    put32(&mut bytes, pe.certificate_entry() + 4, 16);
    assert!(PeFile::parse(bytes.clone()).is_ok());
    bytes.push(0);
    assert_eq!(
        PeFile::parse(bytes).err(),
        Some(PeError::CertificateTableNotAtEnd {
            end: start as u64 + 16,
            length: start as u64 + 17
        })
    );
}

fn tiny(bytes: &[u8], at: usize) -> usize {
    u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap()) as usize
}

#[test]
fn the_builder_says_where_things_are() {
    assert_eq!(tiny(&TinyPe::pe32().build(), tiny_pe::LFANEW), PE);
}
