//! Detached signatures: openssl accepts them, and nothing that lies there is overwritten unasked.

use crate::SHA256;
use crate::judge::{Key, Scene};
use countersign_content::ContentType;
use countersign_core::{HashAlgorithm, Micros};
use countersign_formats::{Existing, Format, FormatError, Options, artifact_digest_of, prepare};

const VERIFY: &str = "cms -verify -binary -inform DER -purpose any -CAfile ca.pem -in file.p7s \
                      -content file -out /dev/null";

#[test]
fn openssl_accepts_each_key_and_hash() {
    for key in Key::ALL {
        let scene = Scene::new(key);
        let path = scene.write("file", &b"anything at all\n".repeat(10_000));
        for hash in HashAlgorithm::ALL {
            let options = Options {
                digest_algorithm: hash,
                existing: Existing::Replace,
                signing_time: Some(Micros::from_seconds(1_790_000_000)),
                ..Options::default()
            };
            let output = scene.sign(&path, &options);
            assert_eq!(output.target, scene.path("file.p7s"));
            output.write().unwrap();
            scene.openssl(VERIFY);
        }
        scene.write("file", b"something else");
        assert!(!scene.run("openssl", VERIFY).status.success());
    }
}

#[test]
fn an_empty_file_can_be_signed() {
    let scene = Scene::new(Key::P256);
    let path = scene.write("file", b"");
    scene.sign(&path, &Options::default()).write().unwrap();
    scene.openssl(VERIFY);
}

#[test]
fn an_existing_signature_is_kept_unless_told() {
    let scene = Scene::new(Key::P256);
    let path = scene.write("file", b"content");
    let there = scene.write("file.p7s", b"somebody's");
    let signer = scene.read("signer.der");
    let with = |existing| {
        let options = Options {
            existing,
            ..Options::default()
        };
        prepare(Format::Detached, &path, &signer, &options).err()
    };
    assert_eq!(
        with(Existing::Refuse),
        Some(FormatError::SignatureExists {
            path: there.clone()
        })
    );
    assert_eq!(
        with(Existing::Append),
        Some(FormatError::CannotAppend { path: there })
    );
    assert_eq!(with(Existing::Replace), None);
    assert_eq!(scene.read("file.p7s"), b"somebody's");
}

#[test]
fn the_digest_is_the_whole_files() {
    let scene = Scene::new(Key::P256);
    let bytes = vec![7_u8; 200_000];
    let path = scene.write("file", &bytes);
    assert_eq!(
        artifact_digest_of(&path, ContentType::Cms, SHA256).unwrap(),
        countersign_content::digest_of(SHA256, &bytes)
    );
    assert_eq!(
        artifact_digest_of(&path, ContentType::RawDigest, SHA256),
        Err(FormatError::NoFileDigest {
            content: ContentType::RawDigest
        })
    );
}
