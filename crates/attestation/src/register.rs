//! Which device, and was it seen before? A register holds keyed hashes of what tells devices apart, so
//! whoever gets the register without its key cannot ask it for a serial number.
//!
//! One device under two subscribers is no proof of wrongdoing (a network HSM has many tenants, and a
//! batch shares one number), so it is a finding for people, never a check.

use crate::result::{Facts, Known, SerialScope};
use crate::time::UnixSeconds;
use aws_lc_rs::hmac;
use serde::{Deserialize, Serialize};

/// Separates these hashes from any other use of the key.
const CONTEXT: &[u8] = b"countersign device register 1";

/// What an identifier begins with that says which device it is by itself: a hash of its endorsement key.
const OF_ENDORSEMENT_KEY: &str = "urn:ek:sha256:";

/// What tells a device from others, as far as its evidence proves it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeviceName {
    vendor: String,
    kind: &'static str,
    value: String,
    /// Under which anchor it names one device; `None`: under any.
    anchor: Option<String>,
    /// One device, or a batch.
    pub names: SerialScope,
}

impl DeviceName {
    /// The name in proved facts; `None` where the device is not proved genuine or its evidence has no
    /// name for it.
    #[must_use]
    pub fn of(facts: &Facts) -> Option<Self> {
        if facts.genuine != Known::Yes {
            return None;
        }
        let vendor = facts.vendor.clone().unwrap_or_default();
        if let Some(serial) = &facts.serial {
            return Some(Self {
                vendor,
                kind: "serial",
                value: serial.value.clone(),
                anchor: None,
                names: serial.names,
            });
        }
        // TCG EK Credential Profile §3.2: a TPM's certificates name no serial number, for privacy. The CA
        // of its attestation key may say which TPM it is; if not, that key is one device's all the same.
        let name = |kind, value: &str, anchor| Self {
            vendor,
            kind,
            value: value.to_owned(),
            anchor,
            names: SerialScope::Individual,
        };
        match (&facts.permanent_identifier, &facts.root, &facts.device_key) {
            (Some(i), ..) if i.starts_with(OF_ENDORSEMENT_KEY) => Some(name("identifier", i, None)),
            // RFC 4043 §2: without an assigner such a value is unique for the CA that gave it alone, and two CAs of
            // attestation keys may count from one.
            (Some(i), Some(root), _) => Some(name("identifier", i, Some(root.clone()))),
            (_, _, Some(key)) => Some(name("key", key, None)),
            _ => None,
        }
    }

    /// HMAC-SHA-256 of the name, in lower-case hex.
    #[must_use]
    pub fn keyed_hash(&self, key: &[u8; 32]) -> String {
        let key = hmac::Key::new(hmac::HMAC_SHA256, key);
        let mut mac = hmac::Context::with_key(&key);
        let anchor = self.anchor.as_ref().map(String::as_bytes);
        let parts = [
            CONTEXT,
            self.vendor.as_bytes(),
            self.kind.as_bytes(),
            self.value.as_bytes(),
        ];
        for part in parts.into_iter().chain(anchor) {
            mac.update(&(part.len() as u64).to_be_bytes());
            mac.update(part);
        }
        hex::encode(mac.sign())
    }
}

/// One key of a device, as a register has it: a line of JSON.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sighting {
    /// [`DeviceName::keyed_hash`].
    pub device: String,
    /// One device, or a batch.
    pub names: SerialScope,
    /// Under whom.
    pub subscriber: String,
    /// Of which key: SHA-256 of its SubjectPublicKeyInfo, hex.
    pub spki_sha256: String,
    /// When it was appraised.
    pub at: UnixSeconds,
}

/// What a register knows of a device.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SeenBefore {
    /// One device, or a batch; absent if the evidence has no proved name for its device.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub names: Option<SerialScope>,
    /// Under whom it was seen, in order of name. Empty: never.
    pub under: Vec<SeenUnder>,
}

/// One subscriber of a device.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SeenUnder {
    /// Who.
    pub subscriber: String,
    /// How many keys.
    pub keys: u64,
    /// The first time.
    pub first: UnixSeconds,
    /// The last time.
    pub last: UnixSeconds,
}

impl SeenBefore {
    /// Looks a device up among all sightings. `None`: the evidence names no device.
    pub fn look<'a>(
        device: Option<(&str, SerialScope)>,
        sightings: impl Iterator<Item = &'a Sighting>,
    ) -> Self {
        let mut out = Self {
            names: device.map(|(_, names)| names),
            under: Vec::new(),
        };
        let Some((hash, _)) = device else {
            return out;
        };
        for s in sightings.filter(|s| s.device == hash) {
            match out.under.iter_mut().find(|u| u.subscriber == s.subscriber) {
                Some(u) => {
                    u.keys = u.keys.saturating_add(1);
                    u.first = u.first.min(s.at);
                    u.last = u.last.max(s.at);
                }
                None => out.under.push(SeenUnder {
                    subscriber: s.subscriber.clone(),
                    keys: 1,
                    first: s.at,
                    last: s.at,
                }),
            }
        }
        out.under.sort_by(|a, b| a.subscriber.cmp(&b.subscriber));
        out
    }

    /// In words, for people.
    #[must_use]
    pub fn in_words(&self) -> String {
        let Some(names) = self.names else {
            return "the evidence proves no name for its device".to_owned();
        };
        let what = match names {
            SerialScope::Individual => "this device",
            SerialScope::Batch => "a device of this batch",
        };
        if self.under.is_empty() {
            return format!("{what} was not seen before");
        }
        let who: Vec<_> = self
            .under
            .iter()
            .map(|u| {
                let keys = if u.keys == 1 { "key" } else { "keys" };
                format!(
                    "{} ({} {keys}, {} to {})",
                    u.subscriber, u.keys, u.first, u.last
                )
            })
            .collect();
        format!("{what} was seen under {}", who.join(", "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::result::Serial;

    fn facts(vendor: &str, serial: Option<&str>, key: Option<&str>) -> Facts {
        Facts {
            genuine: Known::Yes,
            vendor: Some(vendor.into()),
            serial: serial.map(|value| Serial {
                value: value.into(),
                names: SerialScope::Individual,
            }),
            device_key: key.map(Into::into),
            ..Facts::default()
        }
    }

    fn hash(facts: &Facts, key: u8) -> String {
        DeviceName::of(facts).unwrap().keyed_hash(&[key; 32])
    }

    #[test]
    fn devices_are_told_apart_and_a_register_by_its_key() {
        let one = hash(&facts("Yubico", Some("17"), None), 1);
        assert_eq!(one, hash(&facts("Yubico", Some("17"), Some("aa")), 1));
        for other in [
            hash(&facts("Yubico", Some("18"), None), 1),
            hash(&facts("Yubic", Some("o17"), None), 1),
            hash(&facts("Yubico", None, Some("17")), 1),
            hash(&facts("Yubico", Some("17"), None), 2),
        ] {
            assert_ne!(one, other);
        }
    }

    #[test]
    fn an_identifier_of_a_cas_own_making_counts_under_its_anchor_alone() {
        let named = |identifier: &str, root: Option<&str>| {
            let mut facts = facts("Maker", None, Some("aa"));
            facts.permanent_identifier = Some(identifier.into());
            facts.root = root.map(Into::into);
            hash(&facts, 1)
        };
        let (one, two) = (Some("One CA"), Some("Another CA"));
        assert_eq!(named("7", one), named("7", one));
        assert_ne!(named("7", one), named("7", two));
        // A hash of the endorsement key is the same device's whoever writes it.
        let ek = "urn:ek:sha256:AAAA";
        assert_eq!(named(ek, one), named(ek, two));
        assert_ne!(named(ek, one), named("urn:ek:sha512:AAAA", one));
        // By nobody known: the attestation key counts.
        assert_eq!(named("7", None), hash(&facts("Maker", None, Some("aa")), 1));
    }

    #[test]
    fn what_is_not_proved_has_no_name() {
        let mut claimed = facts("Yubico", Some("17"), None);
        claimed.genuine = Known::Unknown;
        assert_eq!(DeviceName::of(&claimed), None);
        assert_eq!(DeviceName::of(&facts("Yubico", None, None)), None);
        let seen = SeenBefore::look(None, [].iter());
        assert_eq!(seen.names, None);
        assert!(seen.in_words().contains("no name"));
    }

    #[test]
    fn seen_under_whom() {
        let at = |s| UnixSeconds::new(s).unwrap();
        let sighting = |device: &str, subscriber: &str, s| Sighting {
            device: device.into(),
            names: SerialScope::Individual,
            subscriber: subscriber.into(),
            spki_sha256: format!("{s:064x}"),
            at: at(s),
        };
        let all = [
            sighting("d", "zeta", 30),
            sighting("d", "acme", 20),
            sighting("e", "other", 5),
            sighting("d", "acme", 10),
        ];
        let seen = SeenBefore::look(Some(("d", SerialScope::Individual)), all.iter());
        let under: Vec<_> = seen
            .under
            .iter()
            .map(|u| (u.subscriber.as_str(), u.keys, u.first, u.last))
            .collect();
        assert_eq!(
            under,
            [("acme", 2, at(10), at(20)), ("zeta", 1, at(30), at(30))]
        );
        assert!(
            seen.in_words()
                .starts_with("this device was seen under acme (2 keys, ")
        );
        let new = SeenBefore::look(Some(("f", SerialScope::Batch)), all.iter());
        assert_eq!(new.in_words(), "a device of this batch was not seen before");
    }
}
