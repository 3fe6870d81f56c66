//! Marvell, Securosys, Thales Luna, Fortanix, Crypto4A, PKIX evidence.

use countersign_attestation::certificate::Certificate;
use countersign_attestation::vendor::crypto4a::{self, Message};
use countersign_attestation::vendor::fortanix::Attestation;
use countersign_attestation::vendor::marvell::{blob, wrapping};
use countersign_attestation::vendor::pkix::{claims, wire};
use countersign_attestation::vendor::securosys::statement;
use countersign_attestation::vendor::thales_luna::parse as luna;
use countersign_testkit_evidence::crypto4a as c4a;
use countersign_testkit_evidence::fortanix::{Fortanix, presence};
use countersign_testkit_evidence::gzip::gzip;
use countersign_testkit_evidence::marvell::{Marvell, Object};
use countersign_testkit_evidence::pkix::{Pkix, claim};
use countersign_testkit_evidence::securosys::Securosys;
use countersign_testkit_evidence::thales_luna::ThalesLuna;
use countersign_testkit_evidence::{Key, Kind, der};
use proptest::collection::{btree_map, vec};
use proptest::prelude::*;

fn objects() -> impl Strategy<Value = Object> {
    let attributes = btree_map(any::<u32>(), vec(any::<u8>(), 0..80), 1..12);
    (any::<u32>(), attributes).prop_map(|(handle, attributes)| Object {
        handle,
        attributes: attributes.into_iter().collect(),
    })
}

fn is(read: &blob::Object<'_>, written: &Object) -> bool {
    let values = read.attributes.iter().map(|(k, v)| (*k, v.to_vec()));
    read.handle == written.handle && values.eq(written.attributes.iter().cloned())
}

/// The number as the fewest bytes of an INTEGER.
fn integer(n: u64) -> Vec<u8> {
    der::int(n)[2..].to_vec()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn marvell(first in objects(), second in objects(), pair: bool, flags in 1u32..0x100) {
        let m = Marvell { flags, ..Marvell::default() };
        let objects = if pair { vec![&first, &second] } else { vec![&first] };
        let bytes = m.blob_of(&objects);
        prop_assert!(blob::looks_like_v2(&bytes));
        let read = blob::parse(&bytes)?;
        prop_assert_eq!((read.flags, read.objects.len()), (flags, objects.len()));
        for (read, written) in read.objects.iter().zip(objects) {
            prop_assert!(is(read, written), "{read:?}");
        }
    }

    #[test]
    fn wrappings(name in "[a-z/0-9]{1,60}") {
        let m = Marvell { name: name.clone(), ..Marvell::default() };
        let google = wrapping::parse(&m.google_json("CAVIUM_V2_COMPRESSED", &name))?;
        prop_assert_eq!(google.name, Some(name));
        prop_assert_eq!(google.blobs, [gzip(&m.blob())]);
        let azure = wrapping::parse(&m.azure_json())?;
        let blobs = [m.blob_of(&[&m.private]), m.blob_of(&[&m.public])];
        prop_assert_eq!(azure.blobs, blobs);
    }

    #[test]
    fn securosys(
        flags in btree_map("[a-z_]{1,12}", any::<bool>(), 0..8), label in "[a-zA-Z0-9 ]{1,30}",
        uses: u64, creation in "[a-z]{1,10}",
    ) {
        let mut s = Securosys {
            attributes: flags.iter().map(|(n, f)| (n.clone(), f.to_string())).collect(),
            root_attributes: format!(" creation=\"{creation}\""),
            ..Securosys::default()
        };
        s.element("label", &label);
        s.element("key_use_count", &uses.to_string());
        let read = statement::parse(&s.xml())?;
        prop_assert_eq!(read.attributes, flags);
        prop_assert_eq!(read.label.trim(), label.trim());
        prop_assert_eq!((read.key_use_count, read.creation), (Some(uses), Some(creation)));
        prop_assert_eq!(read.public_key, s.key.spki());
        prop_assert_eq!(read.create_time.to_string(), "2025-10-01T20:31:53Z");
        prop_assert!(read.unknown.is_empty() && read.policy.is_none());
    }

    #[test]
    fn thales_luna(serial: Option<u32>, bits in prop::option::of(vec(any::<u8>(), 0..9)), named: u32) {
        let l = ThalesLuna {
            serial, key_bits: bits.clone(), named_serial: named, signer_serial: serial,
            ..ThalesLuna::ecc()
        };
        let leaf = Certificate::from_der(&l.signed(0))?;
        let read = luna::Statement::of(&leaf)?;
        prop_assert_eq!((read.serial, read.key_bits), (serial, bits));
        prop_assert_eq!(read.firmware.is_some(), serial.is_some());
        prop_assert!(read.unknown.is_empty() && luna::is_ours(&leaf));
        let device = Certificate::from_der(&l.signed(1))?;
        prop_assert_eq!(luna::serial_in_name(&device), Some(named));
    }

    #[test]
    fn fortanix(generated: bool, confined: bool, usage in prop::option::of(any::<u8>())) {
        let key = Key::named(Kind::P256, "round trip");
        let mut claims = Vec::new();
        if generated {
            claims.push(("2.4.1.1", presence()));
        }
        if confined {
            claims.push(("2.4.1.2", presence()));
        }
        let f = Fortanix {
            authority_key: key.clone(), ca_key: key.clone(), root_key: key,
            claims,
            usage: usage.map(|byte| (byte, 0)),
            ..Fortanix::default()
        };
        let read = Attestation::parse(&f.json())?;
        prop_assert_eq!(read.chain.len(), 3);
        prop_assert_eq!(read.statement.spki(), f.key.spki());
        prop_assert_eq!(read.claims.generated_in_dsm, generated);
        prop_assert_eq!(read.claims.never_exportable, confined);
        // Bit 0 of keyUsage is the highest of the byte.
        let bits = usage.map(|byte| u16::from(byte.reverse_bits()));
        prop_assert_eq!(read.claims.key_usage, bits);
        prop_assert!(read.claims.unknown.is_empty());
    }

    #[test]
    fn crypto4a(
        number: u64, text in "[ -~]{0,60}", bytes in vec(any::<u8>(), 0..60),
        subject: Option<[u8; 16]>, day in 10u32..28,
    ) {
        let m = c4a::Crypto4A {
            claims: vec![
                ("1.0", subject, Some(c4a::bytes(&bytes))),
                ("1.1", None, Some(c4a::text(&text))),
                ("1.2", None, Some(c4a::moment(&format!("202611{day}120000Z")))),
                ("2.4", subject, Some(c4a::number(&integer(number)))),
                ("2.300", subject, None),
            ],
            ..c4a::Crypto4A::default()
        };
        let message = m.message();
        prop_assert!(Message::recognises(&message));
        let read = Message::parse(&message)?;
        prop_assert_eq!(&read.signed, &m.signed());
        prop_assert_eq!((read.signatures.len(), read.certificates.len()), (1, 2));
        let time = read.claims.get(2).and_then(|c| match &c.value {
            Some(crypto4a::Value::Time(t)) => Some(t.to_string()),
            _ => None,
        });
        prop_assert_eq!(time, Some(format!("2026-11-{day}T12:00:00Z")));
        let all: Vec<_> = read
            .claims
            .iter()
            .map(|c| (c.predicate.to_string(), c.subject, c.value.clone()))
            .collect();
        let arc = |n: &str| format!("1.3.6.1.4.1.39901.6.{n}");
        prop_assert_eq!(&all[0], &(arc("1.0"), subject, Some(crypto4a::Value::Bytes(bytes))));
        prop_assert_eq!(&all[1], &(arc("1.1"), None, Some(crypto4a::Value::Text(text))));
        prop_assert_eq!(&all[3], &(arc("2.4"), subject, Some(crypto4a::Value::Number(number))));
        prop_assert_eq!(&all[4], &(arc("2.300"), subject, None));
    }

    #[test]
    fn pkix(
        nonce in vec(any::<u8>(), 0..60), flags: [Option<bool>; 4], name in "\\PC{0,20}",
        purposes in vec(0u8..12, 0..6), version: u64,
    ) {
        let mut e = Pkix { version, ..Pkix::default() };
        *e.claims(0) = vec![claim("1.0.0", der::octets(&nonce))];
        let spki = e.key.spki().to_vec();
        let mut of_key = vec![claim("1.2.0", der::utf8(&name)), claim("1.2.1", der::octets(&spki))];
        for (n, flag) in (2..).zip(flags) {
            of_key.extend(flag.map(|f| claim(&format!("1.2.{n}"), der::boolean(f))));
        }
        let list: Vec<_> = purposes
            .iter()
            .map(|p| der::oid(&format!("1.3.6.1.5.5.999.2.{p}")))
            .collect();
        of_key.push(claim("1.2.7", der::seq(&list)));
        *e.claims(2) = of_key;
        let bytes = e.encode();
        prop_assert!(wire::looks_like(&bytes));
        let read = wire::Evidence::parse(&bytes)?;
        prop_assert_eq!((read.version, read.tbs), (version, &e.tbs()[..]));
        let c = claims::Claims::of(&read, claims::DRAFT_ARC)?;
        prop_assert_eq!(c.transaction.nonce, Some(&nonce[..]));
        prop_assert!(c.transaction.timestamp.is_none() && c.unknown.is_empty());
        let [key] = &c.keys[..] else { panic!("{:?}", c.keys) };
        prop_assert_eq!(key.spki, Some(&spki[..]));
        let read = [key.extractable, key.sensitive, key.never_extractable, key.local];
        prop_assert_eq!(read, flags);
        let known = |p: &u8| match p {
            0 => "encrypt", 1 => "decrypt", 2 => "wrap", 3 => "unwrap", 4 => "sign",
            5 => "sign-recover", 6 => "verify", 7 => "verify-recover", 8 => "derive",
            _ => "(unknown)",
        };
        let seen: Vec<&str> = key.purposes.iter().flatten().map(claims::Purpose::as_str).collect();
        prop_assert_eq!(seen, purposes.iter().map(known).collect::<Vec<_>>());
    }
}
