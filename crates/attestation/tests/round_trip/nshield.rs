//! Entrust nShield: D3S, nCore messages, the bundle.

use countersign_attestation::vendor::nshield::{
    Bundle, D3sValue, KeyGeneration, ModuleState, Warrant,
};
use countersign_testkit_evidence::nshield::{
    D3s, KM, KMC, KRA, KRE, Spec, Words, World, archive_blob, group, module_blob, operations,
};
use countersign_testkit_evidence::{Key, Kind};
use proptest::collection::vec;
use proptest::prelude::*;

fn values() -> impl Strategy<Value = D3s> {
    let symbols = prop::sample::select(vec![
        "Payload",
        "Signature",
        "KLF2pub",
        "FIPS140",
        "FieldUpgradeModuleInformation",
    ]);
    let leaf = prop_oneof![
        (0u8..0x20).prop_map(D3s::Small),
        "[ -~]{0,15}".prop_map(D3s::Text),
        symbols.prop_map(D3s::Symbol),
        vec(any::<u8>(), 0..600).prop_map(D3s::Bytes),
        vec(any::<u8>(), 0..70).prop_map(D3s::Integer),
    ];
    leaf.prop_recursive(4, 60, 8, |inner| {
        let pairs = prop::collection::btree_map(0u8..0x20, inner.clone(), 0..8);
        prop_oneof![
            vec(inner, 0..8).prop_map(D3s::List),
            pairs.prop_map(|m| {
                D3s::Map(m.into_iter().map(|(k, v)| (D3s::Small(k), v)).collect())
            }),
        ]
    })
}

fn is(written: &D3s, read: &D3sValue<'_>) -> bool {
    match (written, read) {
        (D3s::Small(a), D3sValue::Small(b)) => a == b,
        (D3s::Text(a), D3sValue::Text(b)) => a == b,
        (D3s::Symbol(a), D3sValue::Symbol(b)) => a == b,
        (D3s::Bytes(a), D3sValue::Bytes(b)) | (D3s::Integer(a), D3sValue::Integer(b)) => a == b,
        (D3s::List(a), D3sValue::List(b)) => {
            a.len() == b.len() && a.iter().zip(b).all(|(x, y)| is(x, y))
        }
        (D3s::Map(a), D3sValue::Map(b)) => {
            let same = |((k, v), (l, w)): (&(D3s, D3s), &(D3sValue<'_>, D3sValue<'_>))| {
                is(k, l) && is(v, w)
            };
            a.len() == b.len() && a.iter().zip(b).all(same)
        }
        _ => false,
    }
}

/// What an action is in the reader's words.
#[derive(Debug, Clone)]
enum Action {
    Operations(u32),
    Blob([u8; 20]),
    Archive(Option<[u8; 20]>),
}

fn actions() -> impl Strategy<Value = Action> {
    prop_oneof![
        any::<u32>().prop_map(Action::Operations),
        any::<[u8; 20]>().prop_map(Action::Blob),
        any::<Option<[u8; 20]>>().prop_map(Action::Archive),
    ]
}

impl Action {
    fn write(&self) -> Words {
        match self {
            Self::Operations(bits) => operations(*bits),
            Self::Blob(km) => module_blob(km),
            Self::Archive(to) => archive_blob(to.as_ref()),
        }
    }

    /// As the reader's value prints itself.
    fn shown(&self) -> String {
        match self {
            Self::Operations(bits) => format!("Operations({bits})"),
            Self::Blob(km) => format!(
                "MakeBlob(MakeBlob {{ flags: 7, module_key: Some({km:?}), token: None, token_flags: None }})"
            ),
            Self::Archive(to) => format!("MakeArchiveBlob {{ to: {to:?} }}"),
        }
    }
}

proptest! {
    #[test]
    fn d3s_values(value in values()) {
        let bytes = value.encode();
        let read = D3sValue::decode(&bytes);
        prop_assert!(read.as_ref().is_ok_and(|r| is(&value, r)), "{read:?}");
    }

    #[test]
    fn key_generation_certificates(
        groups in vec(vec(actions(), 0..5), 0..6), hash: [u8; 20], rsa: bool,
    ) {
        let kind = if rsa { Kind::Rsa2048 } else { Kind::P256 };
        let mut spec = Spec::new(Key::named(kind, "round trip"));
        spec.generated_hash = Some(hash);
        spec.groups = groups
            .iter()
            .map(|g| group(&g.iter().map(Action::write).collect::<Vec<_>>()))
            .collect();
        let read = KeyGeneration::decode(&spec.generation())?;
        prop_assert_eq!(read.key, hash);
        let generated = format!("{:?}", read.generation);
        let wanted = if rsa { "Rsa { bits: 2048 }" } else { "Curve { curve: 4 }" };
        prop_assert_eq!(generated, wanted);
        prop_assert_eq!(read.acl.len(), groups.len());
        for (read, written) in read.acl.iter().zip(&groups) {
            let shown: Vec<String> = read.actions.iter().map(|a| format!("{a:?}")).collect();
            let wanted: Vec<String> = written.iter().map(Action::shown).collect();
            prop_assert_eq!(shown, wanted);
            prop_assert!(read.certifiers.is_empty());
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn bundles(
        module_keys in vec(any::<[u8; 20]>(), 0..6), hknso: Option<[u8; 20]>,
        fips_world: bool, recovery: bool, dsa: bool,
    ) {
        let world = if dsa { World::dsa() } else { World::ecdsa() };
        let spec = Spec {
            module_keys: module_keys.clone(), state_hknso: hknso, fips_world, recovery,
            ..Spec::new(Key::named(Kind::P256, "round trip"))
        };
        let state = ModuleState::decode(&spec.state(&world))?;
        prop_assert_eq!(&state.module_keys, &module_keys);
        prop_assert_eq!((&state.esn[..], state.kml.0), (spec.state_esn, world.kml.hash()));
        prop_assert_eq!(state.hknso, hknso.unwrap_or_else(|| world.knso.hash()));
        let bundle = Bundle::parse(&spec.bundle(&world).json())?;
        prop_assert_eq!((bundle.hkm, bundle.hkmc), (KM, KMC));
        prop_assert_eq!(bundle.binding.hkfips.is_some(), fips_world);
        let recovers = bundle.recovery.as_ref().map(|r| (r.hkre, r.hkra));
        prop_assert_eq!(recovers, recovery.then_some((KRE, KRA)));
        prop_assert_eq!(&bundle.generation.bytes, &spec.generation());
        prop_assert_eq!(&bundle.state.message, &state);
        let warrant = Warrant::decode(&bundle.warrant)?;
        prop_assert_eq!((warrant.root, warrant.module.esn), (spec.root_name, spec.esn));
        let point = |k: &Key| k.public()[1..].to_vec();
        let keys: Vec<_> = warrant
            .certificates
            .iter()
            .map(|c| [&c.key.x[..], &c.key.y[..]].concat())
            .collect();
        prop_assert_eq!(keys, vec![point(&world.delegate), point(&world.klf2)]);
        prop_assert_eq!((warrant.module.fips[0].version, warrant.module.fips[0].level), (2, 3));
    }
}
