//! What a statement says, for `inspect`. Nothing is verified.

use super::attest::{Attest, Attested};
use super::container::{Container, read};
use super::public::{Attributes, Public, PublicId};
use super::signature::Signature;
use super::signed::algorithm_of;
use crate::verify::Part;

pub(super) fn says(part: &Part) -> Vec<(String, String)> {
    let mut out = Vec::new();
    let mut say = |name: &str, value: String| out.push((name.to_owned(), value));
    let statement = match read(part) {
        Ok(s) => s,
        Err(e) => {
            say("malformed", e);
            return out;
        }
    };
    say("container", statement.container.words().to_owned());
    match Attest::parse(statement.attest) {
        Err(e) => say("malformed", e.to_string()),
        Ok(a) => {
            let kind = match a.attested {
                Attested::Certify { .. } => "TPM2_Certify".to_owned(),
                Attested::Creation { .. } => "TPM2_CertifyCreation".to_owned(),
                Attested::Other { tag } => format!("type 0x{tag:04x}, about no key"),
            };
            say("attest.type", kind);
            say("attest.extraData", hex::encode(a.extra_data));
            say("attest.qualifiedSigner", hex::encode(a.qualified_signer));
            if let Some(name) = a.name() {
                say("attest.name", hex::encode(name));
            }
            say("attest.clock", a.clock.clock.to_string());
            say("attest.resetCount", a.clock.reset_count.to_string());
            say("attest.restartCount", a.clock.restart_count.to_string());
            say(
                "attest.firmwareVersion (may be obfuscated)",
                format!("{:016x}", a.firmware_version),
            );
        }
    }
    if let Some(signature) = statement.signature {
        let form = match Signature::parse(signature) {
            Ok(s) => format!("TPMT_SIGNATURE, {}", algorithm_of(&s).name()),
            Err(_) => format!("bare, {} bytes", signature.len()),
        };
        say("signature", form);
    }
    if let Container::WebAuthn { algorithm, x5c, .. } = &statement.container {
        say("webauthn.alg", algorithm.name());
        say("webauthn.x5c", format!("{} certificates", x5c.len()));
    }
    match statement.public.map(Public::parse) {
        None => {}
        Some(Err(e)) => say("malformed", e.to_string()),
        Some(Ok(p)) => {
            say("public.attributes", attributes(p.attributes));
            let key = match p.key {
                PublicId::Rsa { bits, .. } => format!("RSA-{bits}"),
                PublicId::Ecc { curve, .. } => curve.as_str().to_owned(),
            };
            say("public.key", key);
            say("public.authPolicy", hex::encode(p.auth_policy));
        }
    }
    out
}

fn attributes(a: Attributes) -> String {
    let named = [
        (1, "fixedTPM"),
        (2, "stClear"),
        (4, "fixedParent"),
        (5, "sensitiveDataOrigin"),
        (6, "userWithAuth"),
        (7, "adminWithPolicy"),
        (8, "firmwareLimited"),
        (9, "svnLimited"),
        (10, "noDA"),
        (11, "encryptedDuplication"),
        (16, "restricted"),
        (17, "decrypt"),
        (18, "sign"),
        (19, "x509sign"),
    ];
    let set: Vec<&str> = named
        .iter()
        .filter(|(bit, _)| a.0 & (1_u32 << bit) != 0)
        .map(|(_, name)| *name)
        .collect();
    format!("0x{:08x} {}", a.0, set.join(" "))
}
