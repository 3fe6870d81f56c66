use super::acl::{Action, KeyGeneration};
use super::hash::key_hash;
use super::ncore::Key;
use super::parse::Bundle;
use super::warrant::Warrant;

fn sample() -> Option<Vec<u8>> {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared");
    std::fs::read(root.join(
        "attestation/entrust-nshield/key_simple_test1-rsa2048-recoverable/key_simple_test1.att",
    ))
    .ok()
}

#[test]
fn a_real_bundle_is_read_whole() {
    let Some(bytes) = sample() else {
        eprintln!("NOT CHECKED: ../shared is absent");
        return;
    };
    let bundle = Bundle::parse(&bytes).unwrap();
    let warrant = Warrant::decode(&bundle.warrant).unwrap();
    assert_eq!(warrant.module.esn, "8938-1075-88BB");
    assert!(warrant.module.field_upgrade);
    assert_eq!(warrant.module.approvals, ["FIPS140 2 level 3"]);
    assert_eq!(key_hash(&bundle.key), bundle.generation.message.key);
    assert_eq!(key_hash(&bundle.knso), bundle.state.message.hknso);
    let (hash, key) = &bundle.state.message.kml;
    assert!(matches!(key, Key::Dsa { .. }));
    assert_eq!(key_hash(key), *hash);
    let (hash, key) = bundle.state.message.klf2.as_ref().unwrap();
    assert_eq!(key_hash(key), *hash);
    assert_eq!(bundle.generation.message.acl.len(), 4);
    for n in 0..bundle.generation.bytes.len() {
        assert!(KeyGeneration::decode(&bundle.generation.bytes[..n]).is_err());
    }
    assert!(matches!(
        bundle.generation.message.acl[3].actions[0],
        Action::MakeArchiveBlob { to: Some(_) }
    ));
}
