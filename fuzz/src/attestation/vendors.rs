//! Evidence that stands in one file, vendor by vendor.

use countersign_attestation::ServiceStatement;
use countersign_attestation::certificate::Certificate;
use countersign_attestation::vendor::crypto4a::Message;
use countersign_attestation::vendor::fortanix::Attestation;
use countersign_attestation::vendor::marvell::{blob, wrapping};
use countersign_attestation::vendor::pkix::{claims, wire};
use countersign_attestation::vendor::securosys::statement;
use countersign_attestation::vendor::thales_luna::parse as luna;
use countersign_attestation::vendor::yubihsm2::parse as yubihsm;
use countersign_attestation::vendor::yubikey_piv::parse as piv;

/// A LiquidSecurity blob: what was read makes up all the signed bytes, so nothing goes unread.
pub fn attestation_marvell_blob(bytes: &[u8]) {
    let looks = (blob::looks_like_v1(bytes), blob::looks_like_v2(bytes));
    let Ok(read) = blob::parse(bytes) else {
        return;
    };
    assert!(looks.1, "what is read is also recognised");
    let attribute = |value: &&[u8]| 8 + value.len();
    let object = |o: &blob::Object<'_>| 12 + o.attributes.values().map(attribute).sum::<usize>();
    let objects: usize = read.objects.iter().map(object).sum();
    let header = read.signed.len() - objects - 8;
    assert!(header == 24 || header == 32, "{header}");
    assert_eq!(read.signed.len() + read.signature.len(), bytes.len());
}

/// The JSON of a cloud.
pub fn attestation_marvell_wrapping(bytes: &[u8]) {
    let _ = wrapping::looks_like(bytes);
    if let Ok(read) = wrapping::parse(bytes) {
        assert!(!read.blobs.is_empty() && read.blobs.len() <= 2);
    }
}

/// A Primus statement: its times are in the range that is read, its key is not empty.
pub fn attestation_securosys_statement(bytes: &[u8]) {
    let _ = statement::looks_like(bytes);
    if let Ok(read) = statement::parse(bytes) {
        let text = std::str::from_utf8(bytes).expect("what is read is UTF-8");
        assert!(!text.contains("<!"), "no DTD, comment or CDATA is read");
        assert!(
            read.attributes
                .keys()
                .all(|name| text.contains(name.as_str()))
        );
    }
}

/// A certificate of a YubiKey: what only a slot's attestation says makes it one.
pub fn attestation_yubikey_piv(bytes: &[u8]) {
    let Ok(certificate) = Certificate::from_der(bytes) else {
        return;
    };
    assert_eq!(certificate.der(), bytes);
    let kind = piv::kind(&certificate);
    if let Ok(s) = piv::Statement::of(&certificate) {
        let of_slot = s.serial.is_some() || s.policy.is_some() || s.form_factor.is_some();
        assert!(!of_slot || matches!(kind, Some(piv::Kind::Slot(_))));
        let of_any = s.firmware.is_some() || s.fips.is_some() || s.cspn.is_some();
        assert!(!of_any || kind.is_some());
    }
}

/// A certificate of a Luna confirmation: a purpose or a statement makes it one of Thales's.
pub fn attestation_thales_luna(bytes: &[u8]) {
    let Ok(certificate) = Certificate::from_der(bytes) else {
        return;
    };
    let _ = luna::serial_in_name(&certificate);
    if let Ok(luna::Usages::One(_)) = luna::Usages::of(&certificate) {
        assert!(luna::is_ours(&certificate));
    }
    if let Ok(s) = luna::Statement::of(&certificate) {
        assert!(s == luna::Statement::default() || luna::is_ours(&certificate));
    }
}

/// A certificate of a YubiHSM 2: an attestation is never read as a device's own.
pub fn attestation_yubihsm2(bytes: &[u8]) {
    let Ok(certificate) = Certificate::from_der(bytes) else {
        return;
    };
    assert!(!(yubihsm::is_attestation(&certificate) && yubihsm::is_device(&certificate)));
    if let Ok(a) = yubihsm::Attestation::read(&certificate) {
        assert!(yubihsm::is_attestation(&certificate));
        assert!(!yubihsm::capability_names(a.capabilities).is_empty());
    }
    let _ = yubihsm::Device::read(&certificate);
}

/// PKIX evidence: what is signed is a piece of it.
pub fn attestation_pkix(bytes: &[u8]) {
    let looks = wire::looks_like(bytes);
    let Ok(evidence) = wire::Evidence::parse(bytes) else {
        return;
    };
    let whole = !evidence.elements.is_empty();
    assert!(looks || !whole, "what is read is also recognised");
    assert!(super::is_within(evidence.tbs, bytes));
    let _ = claims::Claims::of(&evidence, claims::DRAFT_ARC);
}

/// A message of Crypto4A.
pub fn attestation_crypto4a(bytes: &[u8]) {
    let recognised = Message::recognises(bytes);
    let Ok(m) = Message::parse(bytes) else {
        return;
    };
    assert!(!recognised || !m.claims.is_empty());
    assert!(super::is_within(&m.signed, bytes));
}

/// The JSON of Fortanix DSM.
pub fn attestation_fortanix(bytes: &[u8]) {
    if let Ok(a) = Attestation::parse(bytes) {
        assert!(!a.chain.is_empty());
        let ours = a.statement.extensions().len();
        assert!(a.claims.unknown.len() <= ours);
    }
}

/// Our own service statement: what is read is written the same, byte for byte.
pub fn attestation_service_statement(bytes: &[u8]) {
    let Ok(s) = ServiceStatement::parse(bytes) else {
        return;
    };
    assert_eq!(s.tbs().encode().as_deref(), Ok(s.tbs_der()));
}
