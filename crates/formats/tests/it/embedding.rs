//! Embedding itself: what is refused, and what the table looks like.

use crate::SHA256;
use crate::judge::{Key, Scene};
use crate::tiny_pe::{CHECKSUM, TinyPe};
use countersign_formats::pe::{PeError, PeFile};
use countersign_formats::{Existing, FormatError, Options};

#[test]
fn the_table_is_aligned_and_the_rest_of_the_file_unchanged() {
    let scene = Scene::new(Key::P256);
    for odd in 0..9 {
        let mut pe = TinyPe::pe32();
        pe.overlay = vec![7; odd];
        let original = pe.build();
        let path = scene.write("a.exe", &original);
        let bytes = scene.sign(&path, &Options::default()).bytes;

        let word = |at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap()) as usize;
        let (start, size) = (
            word(pe.certificate_entry()),
            word(pe.certificate_entry() + 4),
        );
        assert_eq!(start, original.len().next_multiple_of(8));
        assert_eq!(start + size, bytes.len());
        assert_eq!(word(start), size);
        assert_eq!(&bytes[start + 4..start + 8], &[0x00, 0x02, 0x02, 0x00]);
        assert!(size.is_multiple_of(8));

        let mut same = bytes[..original.len()].to_vec();
        same[CHECKSUM..CHECKSUM + 4].fill(0);
        same[pe.certificate_entry()..pe.certificate_entry() + 8].fill(0);
        assert_eq!(same, original);
        assert!(bytes[original.len()..start].iter().all(|b| *b == 0));
    }
}

#[test]
fn a_signature_of_another_file_is_refused() {
    let scene = Scene::new(Key::P256);
    let path = scene.write("a.exe", &TinyPe::pe32().build());
    let signed = PeFile::parse(scene.sign(&path, &Options::default()).bytes).unwrap();
    let cms = &signed.signatures().unwrap()[0].cms;
    let other = PeFile::parse(TinyPe::pe32_plus().build()).unwrap();
    for existing in [Existing::Refuse, Existing::Append, Existing::Replace] {
        assert_eq!(
            other.embed(cms, existing),
            Err(FormatError::Pe(PeError::DigestMismatch))
        );
    }
    assert!(matches!(
        other.embed(b"no signature", Existing::Refuse),
        Err(FormatError::Cms(_))
    ));
    // The same signature again is a signature of this file.
    let again = PeFile::parse(signed.embed(cms, Existing::Replace).unwrap()).unwrap();
    assert_eq!(again.bytes(), signed.bytes());
    assert_eq!(
        signed.embed(cms, Existing::Refuse),
        Err(FormatError::Pe(PeError::AlreadySigned))
    );
}

#[test]
fn an_unsigned_file_has_no_signature_to_verify() {
    let file = PeFile::parse(TinyPe::pe32().build()).unwrap();
    assert!(!file.is_signed());
    assert_eq!(file.signatures(), Ok(vec![]));
    assert_eq!(
        file.verify_digest(),
        Err(FormatError::Pe(PeError::NotSigned))
    );
    assert_eq!(file.authenticode_digest(SHA256).as_bytes().len(), 32);
}
