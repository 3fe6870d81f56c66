//! A second signature nested in the first: both are accepted, and the first keeps every signed byte.

use crate::SHA256;
use crate::judge::{Key, Scene, succeeded};
use crate::tiny_pe::TinyPe;
use countersign_core::HashAlgorithm;
use countersign_formats::pe::{PeError, PeFile};
use countersign_formats::{Existing, Format, FormatError, Options, prepare};

fn append() -> Options {
    Options {
        existing: Existing::Append,
        ..Options::default()
    }
}

#[test]
fn two_and_three_signatures_are_accepted() {
    let scene = Scene::new(Key::P256);
    let path = scene.write("a.exe", &TinyPe::pe32_plus().build());
    scene.sign(&path, &Options::default()).write().unwrap();
    for (count, hash) in [(2, HashAlgorithm::Sha384), (3, HashAlgorithm::Sha512)] {
        let options = Options {
            digest_algorithm: hash,
            ..append()
        };
        scene.sign(&path, &options).write().unwrap();
        let file = PeFile::open(&path).unwrap();
        let signatures = file.signatures().unwrap();
        assert_eq!(signatures.len(), count);
        assert_eq!(signatures.iter().filter(|s| s.nested).count(), count - 1);
        assert_eq!(file.verify_digest().unwrap().len(), count);
        for index in 0..count {
            scene.osslsigncode_accepts("a.exe", &format!("-index {index}"));
        }
    }
}

#[test]
fn ours_is_appended_to_an_old_sha1_signature_of_another_tool() {
    let scene = Scene::new(Key::Rsa3072);
    scene.write("plain.exe", &TinyPe::pe32().build());
    let args = "sign -certs other.pem -key other.key -h sha1 -in plain.exe -out a.exe";
    succeeded(args, &scene.run("osslsigncode", args));
    let path = scene.path("a.exe");
    let sha1_only = PeFile::open(&path).unwrap();
    assert_eq!(
        sha1_only.verify_digest(),
        Err(FormatError::Pe(PeError::WeakDigest))
    );
    assert_eq!(sha1_only.signatures().unwrap()[0].digest, None);

    scene.sign(&path, &append()).write().unwrap();
    scene.osslsigncode_accepts("a.exe", "-index 0");
    scene.osslsigncode_accepts("a.exe", "-index 1");
    let file = PeFile::open(&path).unwrap();
    let signatures = file.signatures().unwrap();
    assert_eq!(signatures[1].digest, Some(file.authenticode_digest(SHA256)));
}

#[test]
fn another_tool_appends_to_ours_and_we_read_it() {
    let scene = Scene::new(Key::P256);
    let path = scene.write("a.exe", &TinyPe::pe32().build());
    scene.sign(&path, &Options::default()).write().unwrap();
    let args = "sign -nest -certs other.pem -key other.key -h sha256 -in a.exe -out b.exe";
    succeeded(args, &scene.run("osslsigncode", args));
    let file = PeFile::open(&scene.path("b.exe")).unwrap();
    assert_eq!(file.signatures().unwrap().len(), 2);
    assert_eq!(file.verify_digest().unwrap().len(), 2);
}

#[test]
fn data_hidden_behind_a_signature_is_not_carried_on() {
    let scene = Scene::new(Key::P256);
    let pe = TinyPe::pe32();
    let path = scene.write("a.exe", &pe.build());
    let mut bytes = scene.sign(&path, &Options::default()).bytes;
    // Sixteen more bytes in the table, counted by entry and directory (the trick of MS13-098).
    let table = pe.build().len();
    let grow = |bytes: &mut Vec<u8>, at: usize| {
        let old = u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap());
        bytes[at..at + 4].copy_from_slice(&(old + 16).to_le_bytes());
    };
    grow(&mut bytes, table);
    grow(&mut bytes, pe.certificate_entry() + 4);
    bytes.extend_from_slice(b"run me afterward");
    let path = scene.write("b.exe", &bytes);

    let signer = scene.read("signer.der");
    let prepared = prepare(Format::Pe, &path, &signer, &append()).unwrap();
    let signed = scene.answer(&prepared, SHA256);
    assert!(matches!(
        countersign_formats::finish(prepared, &signed).err(),
        Some(FormatError::Pe(PeError::DataAfterSignature { count: 16.. }))
    ));
}
