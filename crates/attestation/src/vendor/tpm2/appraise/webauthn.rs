//! What WebAuthn wants beyond the TPM's own statement.

use super::super::container::Container;
use super::super::webauthn::{AuthData, CoseKey};
use super::super::{ak, rules};
use super::Appraisal;
use crate::certificate::Certificate;
use crate::key::{Curve, PublicKey};
use crate::result::Outcome;
use crate::signature::Algorithm;
use crate::verify::armour;
use crate::verify::format::said;

impl Appraisal<'_, '_> {
    /// What WebAuthn wants beyond the TPM's own statement, and freshness.
    pub(super) fn webauthn(&mut self, key: Option<&PublicKey>, leaf: Option<&Certificate>) {
        let cx = self.cx;
        let (auth, algorithm) = match &self.statement.container {
            Container::WebAuthn {
                auth_data: Some(auth),
                algorithm,
                ..
            } => (auth.as_ref().clone(), *algorithm),
            _ => {
                let check = cx.freshness(self.attest.extra_data, rules::FRESH);
                self.out.checks.push(check);
                return;
            }
        };
        let same = key.is_some_and(|k| credential_key(&auth).is_some_and(|c| c == *k));
        let seen = if same {
            "the same key"
        } else {
            "another key, or one that cannot be read"
        };
        self.out.checks.push(rules::CREDENTIAL.check(same, seen));
        self.aaguid(&auth, leaf);
        let rp = hex::encode(auth.rp_id_hash);
        self.out.claims.push(said("webauthn.rp-id-sha256", rp));
        self.client_data(&auth, algorithm);
    }

    fn aaguid(&mut self, auth: &AuthData<'_>, leaf: Option<&Certificate>) {
        let check = match leaf.map(ak::aaguid) {
            None | Some(Ok(None)) => return,
            Some(Ok(Some(id))) => rules::AAGUID.check(id == auth.aaguid, hex::encode(id)),
            Some(Err(e)) => rules::AAGUID.check(false, e),
        };
        self.out.checks.push(check);
    }

    /// `extraData` = H(authData ‖ SHA-256(clientDataJSON)); the nonce is the challenge in it.
    fn client_data(&mut self, auth: &AuthData<'_>, algorithm: Algorithm) {
        let cx = self.cx;
        let expected = self.attest.extra_data;
        let hash = hash_of(algorithm);
        let given: Vec<_> = cx
            .pool
            .parts()
            .filter(|(_, p)| p.json().is_some_and(|v| v.get("challenge").is_some()))
            .collect();
        let matches = |bytes: &[u8]| {
            let client = crate::signature::Hash::Sha256.of(bytes);
            hash.of(&[auth.bytes, &client].concat()) == expected
        };
        let Some((id, part)) = given.iter().find(|(_, p)| matches(&p.bytes)) else {
            let rule = rules::EXTRA_DATA;
            self.out.used.extend(given.iter().map(|(id, _)| *id));
            self.out.checks.push(if given.is_empty() {
                rule.outcome(Outcome::Unknown, "the client data (JSON) are not at hand")
            } else {
                let shown = hex::encode(expected);
                rule.check(
                    false,
                    format!("{shown} is not the hash of the client data given"),
                )
            });
            self.out.checks.push(cx.freshness(&[], rules::FRESH));
            return;
        };
        self.out.used.push(*id);
        let text = |name: &str| {
            let member = part.json().and_then(|v| v.get(name));
            member
                .and_then(serde_json::Value::as_str)
                .unwrap_or_default()
        };
        let kind = text("type");
        let registers = kind == "webauthn.create";
        let shown: String = kind.chars().filter(|c| !c.is_control()).take(40).collect();
        let seen = format!("{}, type \"{shown}\"", hex::encode(expected));
        self.out
            .checks
            .push(rules::EXTRA_DATA.check(registers, seen));
        let origin: String = text("origin")
            .chars()
            .filter(|c| !c.is_control())
            .take(200)
            .collect();
        self.out.claims.push(said("webauthn.origin", origin));
        let challenge = armour::base64(text("challenge").as_bytes()).unwrap_or_default();
        self.out.checks.push(cx.freshness(&challenge, rules::FRESH));
    }
}

const fn hash_of(algorithm: Algorithm) -> crate::signature::Hash {
    match algorithm {
        Algorithm::RsaPkcs1(h) | Algorithm::RsaPss(h) | Algorithm::Ecdsa(h) => h,
        Algorithm::Ed25519 => crate::signature::Hash::Sha512,
    }
}

fn credential_key(auth: &AuthData<'_>) -> Option<PublicKey> {
    match auth.key {
        CoseKey::Rsa { n, e } => PublicKey::from_rsa_parts(n, e).ok(),
        CoseKey::Ec2 { curve, x, y } => {
            // RFC 9053 §7.1.
            let curve = match curve {
                1 => Curve::P256,
                2 => Curve::P384,
                3 => Curve::P521,
                _ => return None,
            };
            PublicKey::from_coordinates(curve, x, y).ok()
        }
    }
}
