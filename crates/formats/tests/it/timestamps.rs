//! Timestamps by `openssl ts`: found by the judges where they look, refused when for something else.

use crate::SHA256;
use crate::judge::{Key, Scene};
use crate::tiny_pe::TinyPe;
use countersign_formats::pe::PeFile;
use countersign_formats::{Format, FormatError, Options, finish, prepare};

#[test]
fn osslsigncode_finds_and_accepts_the_timestamp() {
    let scene = Scene::new(Key::Rsa3072);
    let path = scene.write("a.exe", &TinyPe::pe32().build());
    let signer = scene.read("signer.der");
    let prepared = prepare(Format::Pe, &path, &signer, &Options::default()).unwrap();
    let mut signed = scene.answer(&prepared, SHA256);
    signed.timestamp = Some(scene.timestamp(&signed.signature));
    finish(prepared, &signed).unwrap().write().unwrap();
    let said = scene.osslsigncode_accepts("a.exe", "");
    assert!(
        said.contains("Timestamp Server Signature verification: ok"),
        "{said}"
    );
    let file = PeFile::open(&path).unwrap();
    assert!(file.signatures().unwrap()[0].timestamped);
}

#[test]
fn a_detached_signature_carries_its_timestamp() {
    let scene = Scene::new(Key::P256);
    let path = scene.write("file", b"content");
    let signer = scene.read("signer.der");
    let prepared = prepare(Format::Detached, &path, &signer, &Options::default()).unwrap();
    let mut signed = scene.answer(&prepared, SHA256);
    signed.timestamp = Some(scene.timestamp(&signed.signature));
    finish(prepared, &signed).unwrap().write().unwrap();
    scene.openssl(
        "cms -verify -binary -inform DER -purpose any -CAfile ca.pem -in file.p7s -content file \
         -out /dev/null",
    );
    let printed = scene.run("openssl", "cms -cmsout -print -inform DER -in file.p7s");
    let printed = String::from_utf8_lossy(&printed.stdout).into_owned();
    assert!(printed.contains("id-smime-aa-timeStampToken"), "{printed}");
}

#[test]
fn a_timestamp_for_another_signature_is_refused() {
    let scene = Scene::new(Key::P256);
    let path = scene.write("a.exe", &TinyPe::pe32().build());
    let signer = scene.read("signer.der");
    for token in [scene.timestamp(b"another signature"), b"no token".to_vec()] {
        let prepared = prepare(Format::Pe, &path, &signer, &Options::default()).unwrap();
        let mut signed = scene.answer(&prepared, SHA256);
        signed.timestamp = Some(token);
        assert!(matches!(
            finish(prepared, &signed).err(),
            Some(FormatError::BadTimestamp { .. })
        ));
    }
}
