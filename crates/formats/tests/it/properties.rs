//! For all files: no panic, and a digest that no signature changes.

use crate::SHA256;
use crate::judge::{Key, Scene};
use crate::tiny_pe::TinyPe;
use countersign_formats::pe::PeFile;
use countersign_formats::{Existing, Options};
use proptest::prelude::*;
use std::sync::LazyLock;

/// A signed file and its signature; made once, since openssl takes its time.
static SIGNED: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let scene = Scene::new(Key::P256);
    let path = scene.write("a.exe", &TinyPe::pe32_plus().build());
    scene.sign(&path, &Options::default()).bytes
});

fn any_pe() -> impl Strategy<Value = TinyPe> {
    (
        any::<bool>(),
        proptest::collection::vec(proptest::collection::vec(any::<u8>(), 1..1500), 0..5),
        proptest::collection::vec(any::<u8>(), 0..100),
    )
        .prop_map(|(plus, sections, overlay)| TinyPe {
            plus,
            sections,
            overlay,
        })
}

/// Everything a caller can ask of a file.
fn exercise(bytes: Vec<u8>) {
    if let Ok(file) = PeFile::parse(bytes) {
        let _ = file.authenticode_digest(SHA256);
        let _ = file.verify_digest();
        if let Ok(signatures) = file.signatures() {
            for s in signatures {
                for existing in [Existing::Append, Existing::Replace] {
                    let _ = file.embed(&s.cms, existing);
                }
            }
        }
    }
}

proptest! {
    #[test]
    fn parse_of_build_holds(pe in any_pe()) {
        let bytes = pe.build();
        let file = PeFile::parse(bytes.clone()).unwrap();
        prop_assert_eq!(file.bytes(), bytes);
        prop_assert!(!file.is_signed());
    }

    #[test]
    fn the_digest_sees_every_byte_but_three_places(pe in any_pe(), at in any::<prop::sample::Index>()) {
        let mut bytes = pe.build();
        let before = PeFile::parse(bytes.clone()).unwrap().authenticode_digest(SHA256);
        // From the section data on; a change to the headers may make the file unreadable.
        let from = pe.section_header(pe.sections.len()).next_multiple_of(512);
        if from < bytes.len() {
            let at = from + at.index(bytes.len() - from);
            bytes[at] ^= 0x40;
            let after = PeFile::parse(bytes.clone()).unwrap().authenticode_digest(SHA256);
            prop_assert_ne!(&before, &after);
            bytes[at] ^= 0x40;
        }
        bytes[crate::tiny_pe::CHECKSUM] ^= 0xFF;
        let after = PeFile::parse(bytes).unwrap().authenticode_digest(SHA256);
        prop_assert_eq!(before, after);
    }

    #[test]
    fn the_digest_ignores_whatever_stands_in_the_certificate_table(
        pe in any_pe(),
        words in proptest::collection::vec(any::<u64>(), 1..50),
    ) {
        let mut bytes = pe.build();
        let before = PeFile::parse(bytes.clone()).unwrap().authenticode_digest(SHA256);
        bytes.resize(bytes.len().next_multiple_of(8), 0);
        let start = bytes.len();
        let size = 8 + words.len() * 8;
        bytes.extend_from_slice(&u32::try_from(size).unwrap().to_le_bytes());
        bytes.extend_from_slice(&[0, 2, 2, 0]);
        bytes.extend(words.iter().flat_map(|w| w.to_le_bytes()));
        crate::tiny_pe::put32(&mut bytes, pe.certificate_entry(), start);
        crate::tiny_pe::put32(&mut bytes, pe.certificate_entry() + 4, size);
        let file = PeFile::parse(bytes).unwrap();
        prop_assert!(file.is_signed());
        prop_assert_eq!(file.authenticode_digest(SHA256), before);
        let _ = file.signatures();
    }

    #[test]
    fn mutated_files_never_panic(
        edits in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
        words in proptest::collection::vec((0_usize..0x200, any::<u32>()), 0..3),
        cut in proptest::option::of(any::<prop::sample::Index>()),
    ) {
        let mut bytes = SIGNED.clone();
        for (at, value) in edits {
            let at = at.index(bytes.len());
            bytes[at] = value;
        }
        // Offsets and sizes live in the first 512 bytes: hit those harder.
        for (at, value) in words {
            bytes[at..at + 4].copy_from_slice(&value.to_le_bytes());
        }
        if let Some(cut) = cut {
            bytes.truncate(cut.index(bytes.len()));
        }
        exercise(bytes);
    }

    #[test]
    fn any_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..600)) {
        exercise(bytes);
    }
}

#[test]
fn every_changed_byte_of_a_signed_files_content_is_noticed() {
    let table = PeFile::parse(SIGNED.clone()).unwrap();
    let content = SIGNED.len()
        - table
            .certificates()
            .unwrap()
            .iter()
            .map(|c| c.data.len() + 8)
            .sum::<usize>();
    let pe = TinyPe::pe32_plus();
    let (checksum, entry) = (crate::tiny_pe::CHECKSUM, pe.certificate_entry());
    for at in 0..content {
        let free = (checksum..checksum + 4).contains(&at) || (entry..entry + 8).contains(&at);
        let mut bytes = SIGNED.clone();
        bytes[at] ^= 0x01;
        let accepted = PeFile::parse(bytes).is_ok_and(|f| f.verify_digest().is_ok());
        if free {
            // The checksum is free; a moved table is another file or none.
            assert!(accepted || at >= entry, "byte {at}");
        } else {
            assert!(!accepted, "byte {at}");
        }
    }
}
