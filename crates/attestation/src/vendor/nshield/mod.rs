//! Entrust nShield: the bundle that `nfkmattest bundle` writes.
//!
//! A warrant leads from Entrust's key KWARN-1 to a module's key KLF2; that key signs the module's
//! state; the module's KML signs the certificate of the key's generation, with the access control
//! list the key was born with; the Security World's officer key ties the module key and the
//! recovery keys to the world. There is no certificate of X.509 in it, no time and no nonce.

mod access_list;
mod acl;
mod d3s;
mod hash;
mod ncore;
mod parse;
mod rules;
mod warrant;

pub use acl::KeyGeneration;
pub use d3s::{D3sError, Value as D3sValue};
pub use ncore::{ModuleState, NcoreError};
pub use parse::{Bundle, BundleError, MAX_BUNDLE};
pub use warrant::{Warrant, WarrantError};

use crate::result::Rule;
use crate::verify::{Context, Evidence, Findings, Format, Pool};

/// The product line of its anchors.
pub(crate) const LINE: &str = "nShield";

const WELL_FORMED: Rule = Rule::confirmed(
    "nshield-bundle",
    "the bundle has every member for a key of a Security World, each as nShield writes it",
    "Entrust, nShield Key Attestation Format, Attestation bundle format and construction",
);

/// The format.
#[derive(Debug, Clone, Copy)]
pub struct NShield;

impl Format for NShield {
    fn id(&self) -> &'static str {
        "nshield"
    }

    fn title(&self) -> &'static str {
        "Entrust nShield key attestation bundle"
    }

    fn claim(&self, pool: &Pool) -> Vec<Evidence> {
        pool.parts()
            .filter(|(_, p)| {
                p.json()
                    .is_some_and(|v| v.get("warrant").is_some() && v.get("kcmsg").is_some())
            })
            .map(|(id, _)| Evidence { parts: vec![id] })
            .collect()
    }

    fn appraise(&self, evidence: &Evidence, cx: &Context<'_>) -> Findings {
        let read = read(evidence, cx.pool);
        let judged = read.and_then(|bundle| {
            let warrant = Warrant::decode(&bundle.warrant)?;
            let mut found = rules::judge(&bundle, &warrant, cx);
            found.checks.insert(0, WELL_FORMED.check(true, "it is"));
            Ok(found)
        });
        judged.unwrap_or_else(|e| Findings {
            checks: vec![WELL_FORMED.check(false, e.to_string())],
            ..Findings::default()
        })
    }

    fn says(&self, evidence: &Evidence, pool: &Pool) -> Vec<(String, String)> {
        let mut out = Vec::new();
        let mut say = |name: &str, value: String| out.push((name.to_owned(), value));
        let bundle = match read(evidence, pool) {
            Ok(b) => b,
            Err(e) => return vec![("error".to_owned(), e.to_string())],
        };
        match Warrant::decode(&bundle.warrant) {
            Err(e) => say("warrant", e.to_string()),
            Ok(w) => {
                say("root", w.root.to_owned());
                say("module.esn", w.module.esn.to_owned());
                if let Some(serial) = w.module.physical_serial {
                    say("module.physical-serial", serial.to_owned());
                }
                say("module.approvals", w.module.approvals.join(", "));
                say("warrant.field-upgrade", w.module.field_upgrade.to_string());
            }
        }
        say("state.esn", bundle.state.message.esn.clone());
        say("state.kml", bundle.state.message.kml.1.describe());
        say("state.hknso", hex::encode(bundle.state.message.hknso));
        for key in &bundle.state.message.module_keys {
            say("state.module-key", hex::encode(key));
        }
        say("world.knso", bundle.knso.describe());
        say("world.cipher-suite", bundle.suite.clone());
        let fips = bundle.binding.hkfips.is_some();
        say("world.fips-140-level-3-mode", fips.to_string());
        say("world.recovery", bundle.recovery.is_some().to_string());
        say("key", bundle.key.describe());
        if let Ok(key) = rules::public_key(&bundle.key) {
            say("key.spki-sha256", hex::encode(key.spki_sha256()));
        }
        say("key.hash", hex::encode(bundle.generation.message.key));
        for group in &bundle.generation.message.acl {
            say("key.acl-group", format!("{group:?}"));
        }
        out
    }
}

fn read(evidence: &Evidence, pool: &Pool) -> Result<Bundle, BundleError> {
    let part = evidence.parts.first().and_then(|id| pool.get(*id));
    Bundle::parse(part.map_or(&[], |p| p.bytes.as_slice()))
}

#[cfg(test)]
mod tests;
