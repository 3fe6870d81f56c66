//! Published weaknesses of TPMs, and of how a statement was signed.

use super::ak::Device;
use crate::key::PublicKey;
use crate::result::Weakness;
use crate::signature::Algorithm;
use crate::verify::format::known_weakness;

/// Models and firmware versions that STMicroelectronics lists for TPM-FAIL, by model prefix.
/// From www.st.com/content/st_com/en/campaigns/tpm-update.html.
const ST_TPM_FAIL: &[(&str, u16, &[u16])] = &[
    ("ST33TPHF2ESPI", 71, &[0, 4, 12]),
    ("ST33TPHF2ESPI", 73, &[0, 4, 8]),
    ("ST33TPHF2EI2C", 73, &[5, 9]),
    ("ST33TPHF20SPI", 74, &[0, 4, 8, 16]),
    ("ST33TPHF20I2C", 74, &[5, 9]),
];

/// SHA-1 under the statement.
pub(super) fn sha1(algorithm: Algorithm) -> Option<Weakness> {
    algorithm.is_legacy().then(|| {
        known_weakness(
            "TPM-SHA1",
            format!(
                "the statement is signed by {}: a collision would have to be prepared inside the TPM's own structure, but the hash is past its time (NIST SP 800-131A)",
                algorithm.name()
            ),
            &["evidence signature"],
            "NIST SP 800-131A rev. 2 §3; WebAuthn §8.3 (RS1)",
            true,
            false,
        )
    })
}

/// What is known of the TPM by the model and version in its AK certificate.
pub(super) fn of_device(device: &Device, key: Option<&PublicKey>) -> Vec<Weakness> {
    let mut out = Vec::new();
    let letters = device.letters();
    // An ECDSA attestation key is affected as well as the key in question.
    let is_ec = matches!(key, Some(PublicKey::Ec { .. }));
    let model = device.model.to_ascii_uppercase();
    if letters.as_deref() == Some("STM")
        && let Some((major, minor)) = device.firmware()
        && ST_TPM_FAIL
            .iter()
            .any(|(m, v, minors)| model.starts_with(m) && *v == major && minors.contains(&minor))
    {
        out.push(known_weakness(
            "CVE-2019-16863",
            format!("TPM-FAIL: ECDSA on firmware {major}.{minor} leaks the key by its timing"),
            &["ECDSA"],
            "www.st.com/content/st_com/en/campaigns/tpm-update.html",
            is_ec,
            false,
        ));
    }
    // The TCG registry has no number 0x00001014; swtpm writes it (IBM's PCI vendor id).
    if device.manufacturer == "id:00001014" || letters.as_deref() == Some("IBM") {
        out.push(known_weakness(
            "TPM-SOFTWARE",
            format!(
                "manufacturer {} is what software TPMs write: no hardware protects the key",
                device.manufacturer
            ),
            &["all"],
            "TCG Vendor ID Registry; swtpm",
            true,
            false,
        ));
    }
    if letters.as_deref() == Some("MSFT") {
        out.push(known_weakness(
            "TPM-VIRTUAL",
            "manufacturer MSFT names Pluton and also virtual TPMs, which a hypervisor keeps in its memory",
            &["all"],
            "TCG Vendor ID Registry",
            true,
            false,
        ));
    }
    out
}
