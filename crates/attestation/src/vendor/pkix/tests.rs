use super::claims::{Claims, DRAFT_ARC, Purpose};
use super::wire::{Evidence, looks_like};
use crate::verify::armour;
use proptest::prelude::*;

/// A file of the reference samples beside the checkout, which are not part of the project.
fn sample(path: &str) -> Option<Vec<u8>> {
    let root = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../../../shared/attestation/standards"
    );
    if !std::path::Path::new(root).is_dir() {
        eprintln!("NOTICE: no reference samples beside the checkout; this test checked nothing");
        return None;
    }
    let text = std::fs::read(format!("{root}/{path}")).unwrap();
    let mut blocks = armour::blocks(&text).unwrap();
    Some(blocks.remove(0).unwrap().bytes)
}

#[test]
fn the_draft_s_samples_are_read_whole() {
    let Some(der) = sample("pkix-evidence-2/evidence2.pem") else {
        return;
    };
    assert!(looks_like(&der));
    let e = Evidence::parse(&der).unwrap();
    assert_eq!((e.version, e.elements.len()), (1, 4));
    assert_eq!((e.signatures.len(), e.certificates.len()), (1, 1));
    assert!(e.signatures[0].certificate.is_some());
    let c = Claims::of(&e, DRAFT_ARC).unwrap();
    assert_eq!(
        c.transaction.nonce,
        Some(&[0xbe, 0xef, 0xca, 0xfe, 0xba, 0xbe, 0xde, 0xad][..])
    );
    let time = c.transaction.timestamp.unwrap();
    assert_eq!(time.to_string(), "2026-07-21T11:13:38Z");
    assert_eq!(c.platform, [("hwmodel", "HSM-9000".to_owned())]);
    assert!(c.unknown.is_empty());
    let [first, second] = c.keys.as_slice() else {
        panic!("not two keys");
    };
    let claimed =
        |k: &super::claims::Key<'_>| [k.extractable, k.sensitive, k.never_extractable, k.local];
    assert_eq!(
        claimed(first),
        [Some(false), Some(true), Some(true), Some(true)]
    );
    assert_eq!(first.purposes, Some(vec![Purpose::Known("sign")]));
    assert_eq!(claimed(second), [Some(true), Some(false), None, None]);
    assert_eq!(second.purposes, None);
    for n in 0..der.len() {
        assert!(Evidence::parse(&der[..n]).is_err(), "{n}");
    }

    let der = sample("pkix-evidence-1/evidence1.pem").unwrap();
    let e = Evidence::parse(&der).unwrap();
    assert!(e.signatures[0].key_id.is_some());
    let c = Claims::of(&e, DRAFT_ARC).unwrap();
    assert!(c.keys.is_empty());
    let said = |name: &str| c.platform.iter().find(|(n, _)| *n == name).unwrap();
    assert_eq!(said("fipslevel").1, "3");
    assert_eq!(said("fipsboot").1, "true");
    assert_eq!(said("uptime").1, "86400");
    // Under another arc none of it means anything.
    let c = Claims::of(&e, &[0x2a, 0x03]).unwrap();
    assert_eq!(c.unknown.len(), e.elements.len());
}

proptest! {
    #[test]
    fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = looks_like(&bytes);
        if let Ok(e) = Evidence::parse(&bytes) {
            let _ = Claims::of(&e, DRAFT_ARC);
        }
    }
}
