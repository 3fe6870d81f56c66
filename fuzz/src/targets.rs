//! One function per target: it must not panic, whatever the bytes, and what is accepted must hold.
//!
//! `crates/formats/tests/it/seeds.rs` includes this file and runs the kept corpus through it, so that
//! every former finding is a test on machines without cargo-fuzz.

use countersign_content::{Submission, authenticode, digest_of, parse};
use countersign_core::HashAlgorithm;
use countersign_formats::Existing;
use countersign_formats::pe::PeFile;
use countersign_x509::crl::{CertificateList, Status};

const HASH: HashAlgorithm = HashAlgorithm::Sha256;

/// An executable: all that can be asked of it; a signature put in must leave the digest as it was.
pub fn pe_parse(bytes: &[u8]) {
    let Ok(file) = PeFile::parse(bytes.to_vec()) else {
        return;
    };
    let digest = file.authenticode_digest(HASH);
    let _ = file.verify_digest();
    let Ok(signatures) = file.signatures() else {
        return;
    };
    for signature in signatures {
        for existing in [Existing::Append, Existing::Replace] {
            if let Ok(bytes) = file.embed(&signature.cms, existing) {
                let again = PeFile::parse(bytes).expect("what was embedded can be read");
                assert_eq!(again.authenticode_digest(HASH), digest);
            }
        }
    }
}

/// A length (two bytes, little endian), that many bytes of signed attributes, then indirect data.
pub fn content_authenticode(bytes: &[u8]) {
    let Some((length, rest)) = bytes.split_first_chunk::<2>() else {
        return;
    };
    let at = usize::from(u16::from_le_bytes(*length)).min(rest.len());
    let (signed_attributes, indirect_data) = rest.split_at(at);
    let submission = Submission::Authenticode {
        signed_attributes: signed_attributes.to_vec(),
        indirect_data: indirect_data.to_vec(),
    };
    if let Ok(parsed) = parse(&submission, HASH, None) {
        assert!(parsed.typed);
        assert_eq!(parsed.tbs, digest_of(HASH, signed_attributes));
        assert_eq!(parsed.artifact, authenticode::digest_in(indirect_data).ok());
    }
}

/// Signed attributes of a detached CMS.
pub fn content_cms(bytes: &[u8]) {
    let submission = Submission::Cms {
        signed_attributes: bytes.to_vec(),
    };
    if let Ok(parsed) = parse(&submission, HASH, None) {
        assert!(parsed.typed);
        assert_eq!(parsed.tbs, digest_of(HASH, bytes));
        assert!(parsed.artifact.is_some());
    }
}

/// A revocation list: every entry can be walked through and is found again.
pub fn x509_crl(bytes: &[u8]) {
    let Ok(list) = CertificateList::from_der(bytes.to_vec()) else {
        return;
    };
    assert!(!list.older_than(&list.seen()));
    let mut serials = Vec::new();
    list.for_each(|serial, _, _| serials.push(serial.to_vec()));
    assert_eq!(serials.len(), list.len());
    let found = list.find(&serials.iter().cloned().collect());
    for serial in serials.iter().take(64) {
        assert_ne!(list.status_of(serial), Status::Good);
        assert_eq!(found.get(serial), Some(&list.status_of(serial)));
    }
}
