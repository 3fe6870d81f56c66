//! A file signed from end to end is accepted by osslsigncode, and a wrong answer by nobody.

use crate::SHA256;
use crate::judge::{Key, Scene};
use crate::tiny_pe::TinyPe;
use countersign_content::{ContentType, parse};
use countersign_core::{HashAlgorithm, Micros};
use countersign_formats::pe::{PeError, PeFile};
use countersign_formats::{
    Existing, Format, FormatError, Options, artifact_digest_of, finish, prepare,
};

#[test]
fn osslsigncode_accepts_each_key_hash_and_kind_of_executable() {
    for key in Key::ALL {
        let scene = Scene::new(key);
        for hash in [HashAlgorithm::Sha256, HashAlgorithm::Sha384] {
            for (name, pe) in [("a.exe", TinyPe::pe32()), ("b.exe", TinyPe::pe32_plus())] {
                // An overlay that is no multiple of eight, so that padding counts.
                let mut pe = pe;
                pe.overlay = b"installer payload".to_vec();
                let path = scene.write(name, &pe.build());
                let before = artifact_digest_of(&path, ContentType::Authenticode, hash).unwrap();
                let options = Options {
                    digest_algorithm: hash,
                    program_name: Some("Grüße".to_owned()),
                    url: Some("https://acme.example/".to_owned()),
                    signing_time: Some(Micros::from_seconds(1_790_000_000)),
                    ..Options::default()
                };
                let output = scene.sign(&path, &options);
                assert_eq!(output.target, path);
                output.write().unwrap();

                scene.osslsigncode_accepts(name, "");
                let signed = PeFile::open(&path).unwrap();
                assert_eq!(signed.verify_digest().unwrap(), vec![before.clone()]);
                assert_eq!(signed.authenticode_digest(hash), before);
                assert_eq!(
                    artifact_digest_of(&path, ContentType::Authenticode, hash).unwrap(),
                    before
                );
            }
        }
    }
}

#[test]
fn what_is_sent_is_what_the_service_accepts() {
    let scene = Scene::new(Key::P256);
    let exe = scene.write("a.exe", &TinyPe::pe32().build());
    let text = scene.write("a.txt", b"text");
    let signer = scene.read("signer.der");
    for path in [exe, text] {
        let format = Format::detect(&path).unwrap();
        let prepared = prepare(format, &path, &signer, &Options::default()).unwrap();
        let parsed = parse(&prepared.submission, SHA256, Some(&signer)).unwrap();
        assert_eq!(parsed.content, format.content_type());
        assert_eq!(parsed.artifact.as_ref(), Some(&prepared.artifact));
        assert_eq!(
            artifact_digest_of(&path, format.content_type(), SHA256).unwrap(),
            prepared.artifact
        );
    }
}

#[test]
fn a_tampered_file_is_noticed_by_both() {
    let scene = Scene::new(Key::P256);
    let path = scene.write("a.exe", &TinyPe::pe32().build());
    let mut bytes = scene.sign(&path, &Options::default()).bytes;
    bytes[0x300] ^= 1;
    scene.write("bad.exe", &bytes);
    let ran = scene.run("osslsigncode", "verify -CAfile ca.pem -in bad.exe");
    assert!(!ran.status.success());
    assert_eq!(
        PeFile::parse(bytes).unwrap().verify_digest(),
        Err(FormatError::Pe(PeError::DigestMismatch))
    );
}

#[test]
fn a_wrong_answer_is_refused_and_the_file_untouched() {
    let scene = Scene::new(Key::P256);
    let original = TinyPe::pe32().build();
    let path = scene.write("a.exe", &original);
    let signer = scene.read("signer.der");
    let new = || prepare(Format::Pe, &path, &signer, &Options::default()).unwrap();
    let good = scene.answer(&new(), SHA256);

    let mut flipped = good.clone();
    *flipped.signature.last_mut().unwrap() ^= 1;
    let mut scheme = good.clone();
    scheme.scheme = Key::Rsa3072.scheme(SHA256);
    let mut hash = good.clone();
    hash.scheme = Key::P256.scheme(HashAlgorithm::Sha384);
    for bad in [flipped, scheme, hash] {
        assert_eq!(new().check(&bad), Err(FormatError::BadSignature));
        assert_eq!(finish(new(), &bad).err(), Some(FormatError::BadSignature));
    }
    let mut other = good.clone();
    other.chain = vec![scene.read("other.der")];
    assert_eq!(
        finish(new(), &other).err(),
        Some(FormatError::OtherCertificate)
    );
    let mut none = good;
    none.chain.clear();
    assert_eq!(
        finish(new(), &none).err(),
        Some(FormatError::OtherCertificate)
    );
    assert_eq!(scene.read("a.exe"), original);
}

#[test]
fn a_signed_file_needs_leave() {
    let scene = Scene::new(Key::P256);
    let path = scene.write("a.exe", &TinyPe::pe32().build());
    scene.sign(&path, &Options::default()).write().unwrap();
    let signer = scene.read("signer.der");
    assert_eq!(
        prepare(Format::Pe, &path, &signer, &Options::default()).err(),
        Some(FormatError::Pe(PeError::AlreadySigned))
    );

    let once = scene.read("a.exe");
    let replace = Options {
        existing: Existing::Replace,
        ..Options::default()
    };
    scene.sign(&path, &replace).write().unwrap();
    scene.osslsigncode_accepts("a.exe", "");
    let file = PeFile::open(&path).unwrap();
    assert_eq!(file.signatures().unwrap().len(), 1);
    // Same size or nearly (ECDSA signatures vary): the old signature is gone, not hidden.
    assert!(scene.read("a.exe").len().abs_diff(once.len()) <= 8);
}

#[test]
fn output_beside_the_file_leaves_it_alone() {
    let scene = Scene::new(Key::P256);
    let original = TinyPe::pe32().build();
    let path = scene.write("a.exe", &original);
    let options = Options {
        out: Some(scene.path("signed.exe")),
        ..Options::default()
    };
    scene.sign(&path, &options).write().unwrap();
    scene.osslsigncode_accepts("signed.exe", "");
    assert_eq!(scene.read("a.exe"), original);
}

#[test]
fn a_file_that_changes_meanwhile_is_not_overwritten() {
    let scene = Scene::new(Key::P256);
    let path = scene.write("a.exe", &TinyPe::pe32().build());
    let output = scene.sign(&path, &Options::default());
    let newer = TinyPe::pe32_plus().build();
    scene.write("a.exe", &newer);
    assert_eq!(
        output.write(),
        Err(FormatError::ChangedMeanwhile { path: path.clone() })
    );
    assert_eq!(scene.read("a.exe"), newer);
}
