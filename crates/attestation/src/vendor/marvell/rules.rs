//! What the blob's objects must say of a key.

use super::attribute::{self as a, CLASS_PRIVATE, CLASS_PUBLIC};
use super::blob::{Blob, Object};
use super::jwk::Jwk;
use crate::key::PublicKey;
use crate::result::{Check, Exportable, Known, Rule};
use crate::signature::Hash;
use crate::verify::Binding;

const GOOGLE: &str = "Google Cloud KMS, Verifying attestations: attributes of the key";
const PKCS11: &str = "PKCS #11 v3.1 §4.8, §4.9; Google Cloud KMS, Verifying attestations";

const ONE_PRIVATE: Rule = Rule::confirmed(
    "marvell-one-private-object",
    "the statement describes exactly one private key, and besides at most its public key",
    GOOGLE,
);
const LOCAL: Rule = Rule::confirmed(
    "marvell-generated",
    "the private object has LOCAL=1: the key was generated in the card",
    PKCS11,
);
const EXTRACTABLE: Rule = Rule::confirmed(
    "marvell-not-extractable",
    "the private object has EXTRACTABLE=0 and NEVER_EXTRACTABLE=1",
    PKCS11,
);
const SENSITIVE: Rule = Rule::confirmed(
    "marvell-sensitive",
    "the private object has SENSITIVE=1 and ALWAYS_SENSITIVE=1",
    PKCS11,
);
const WHOLE: Rule = Rule::confirmed(
    "marvell-not-splittable",
    "the key cannot be split, and is no part of a split key: SPLITTABLE=0, IS_SPLIT=0 where they stand",
    GOOGLE,
);
const KNOWN: Rule = Rule::confirmed(
    "marvell-attributes-known",
    "every attribute and flag of the private object is one whose meaning is known",
    GOOGLE,
);
const NAME: Rule = Rule::documented(
    "marvell-resource-name",
    "the second half of the key's ID is the SHA-256 of the resource name it was asked for",
    GOOGLE,
);

const SHOWN: Rule = Rule::documented(
    "marvell-shown-key",
    "the public key that the JSON shows beside the evidence is the one in question",
    "Azure Key Vault REST, Get Key Attestation; RFC 7518 §6",
);

/// All objects of the blobs, and the one that counts.
pub(super) struct Key<'a> {
    objects: Vec<&'a Object<'a>>,
    private: Option<&'a Object<'a>>,
    flags: Vec<u32>,
}

impl<'a> Key<'a> {
    pub(super) fn of(blobs: &'a [Blob<'a>]) -> Self {
        let objects: Vec<_> = blobs.iter().flat_map(|b| &b.objects).collect();
        let mut private = objects
            .iter()
            .filter(|o| o.number(a::CLASS) == Some(CLASS_PRIVATE));
        let private = match (private.next(), private.next()) {
            (Some(one), None) => Some(*one),
            _ => None,
        };
        Self {
            objects,
            private,
            flags: blobs
                .iter()
                .flat_map(|b| [b.flags, u32::from(b.buffer_flags)])
                .collect(),
        }
    }

    /// Every rule on the private object. The public object has EXTRACTABLE=1 by its nature.
    pub(super) fn checks(&self) -> Vec<Check> {
        let classes: Vec<_> = self.objects.iter().map(|o| class(o)).collect();
        let public = self
            .objects
            .iter()
            .filter(|o| o.number(a::CLASS) == Some(CLASS_PUBLIC))
            .count();
        let one = self.private.is_some() && public <= 1 && self.objects.len() == public + 1;
        let seen = format!("objects of class {}", classes.join(", "));
        let mut checks = vec![ONE_PRIVATE.check(one, seen)];
        let Some(key) = self.private else {
            return checks;
        };
        let both = |rule: &Rule, wanted: [(u32, bool); 2]| {
            let holds = wanted
                .iter()
                .all(|(kind, want)| key.flag(*kind) == Some(*want));
            let seen: Vec<_> = wanted.iter().map(|(kind, _)| show(key, *kind)).collect();
            rule.check(holds, seen.join(", "))
        };
        checks.push(LOCAL.check(key.flag(a::LOCAL) == Some(true), show(key, a::LOCAL)));
        checks.push(both(
            &EXTRACTABLE,
            [(a::EXTRACTABLE, false), (a::NEVER_EXTRACTABLE, true)],
        ));
        checks.push(both(
            &SENSITIVE,
            [(a::SENSITIVE, true), (a::ALWAYS_SENSITIVE, true)],
        ));
        let absent_or_no =
            |kind| !key.attributes.contains_key(&kind) || key.flag(kind) == Some(false);
        let whole = absent_or_no(a::SPLITTABLE) && absent_or_no(a::IS_SPLIT);
        let seen = format!("{}, {}", show(key, a::SPLITTABLE), show(key, a::IS_SPLIT));
        checks.push(WHOLE.check(whole, seen));
        checks.push(self.known(key));
        checks
    }

    /// Fail closed: what is not known could widen what may be done with the key.
    fn known(&self, key: &Object<'_>) -> Check {
        let mut unknown: Vec<String> = key
            .attributes
            .keys()
            .filter(|kind| a::name(**kind).is_none())
            .map(|kind| format!("attribute 0x{kind:04x}"))
            .collect();
        // Genuine keys have 2 here; what other bits mean is published nowhere.
        if key.attributes.contains_key(&a::EXTENDED_1)
            && key.number(a::EXTENDED_1).is_none_or(|n| n & !2 != 0)
        {
            unknown.push(show(key, a::EXTENDED_1));
        }
        // One object or a pair: the two lowest flags.
        unknown.extend(
            self.flags
                .iter()
                .filter(|f| **f & !3 != 0)
                .map(|f| format!("flags 0x{f:x}")),
        );
        let seen = if unknown.is_empty() {
            format!("{} attributes, all known", key.attributes.len())
        } else {
            format!("not known: {}", unknown.join(", "))
        };
        KNOWN.check(unknown.is_empty(), seen)
    }

    /// Whether the evidence is about `key`: the hash of its SubjectPublicKeyInfo in the private
    /// object, and the numbers wherever they stand. All that stand must agree, and one must stand
    /// in the private object.
    pub(super) fn binding(&self, key: &PublicKey) -> Option<Binding> {
        let private = self.private?;
        let mut seen = Vec::new();
        let mut same = true;
        let mut private_says = false;
        for object in &self.objects {
            let is_private = std::ptr::eq(*object, private);
            let at = if is_private { "private" } else { "public" };
            if let Some(ekcv) = object.bytes(a::EKCV) {
                let ours = ekcv == key.spki_sha256();
                seen.push(format!("EKCV of the {at} object is {}", hex::encode(ekcv)));
                same &= ours;
                private_says |= is_private;
            }
            if let Some(material) = object.material() {
                match material {
                    Ok(found) => {
                        same &= found == *key;
                        let hash = hex::encode(found.spki_sha256());
                        seen.push(format!(
                            "{at} object: {}, SPKI SHA-256 {hash}",
                            found.kind()
                        ));
                    }
                    Err(e) => {
                        same = false;
                        seen.push(format!("{at} object: {e}"));
                    }
                }
                private_says |= is_private;
            }
        }
        if !private_says {
            return None;
        }
        if !same {
            let ours = hex::encode(key.spki_sha256());
            seen.push(format!("the key in question is {} {ours}", key.kind()));
        }
        Some(Binding {
            same,
            seen: seen.join("; "),
        })
    }

    /// The check of a name that the wrapping declares.
    pub(super) fn resource_name(&self, name: &str) -> Option<Check> {
        let id = self.private?.bytes(a::ID)?;
        let hash = hex::encode(Hash::Sha256.of(name.as_bytes()));
        let second_half = id.get(id.len() / 2..).unwrap_or_default();
        let seen = format!(
            "ID is {}, the SHA-256 of {name} is {hash}",
            String::from_utf8_lossy(id).escape_default()
        );
        Some(NAME.check(second_half == hash.as_bytes(), seen))
    }

    pub(super) fn generated(&self) -> Known {
        known(self.private.and_then(|k| k.flag(a::LOCAL)))
    }

    pub(super) fn exportable(&self) -> Exportable {
        let Some(key) = self.private else {
            return Exportable::Unknown;
        };
        match (key.flag(a::EXTRACTABLE), key.flag(a::SENSITIVE)) {
            (Some(false), Some(true)) => Exportable::Never,
            (Some(true), Some(true)) => Exportable::Wrapped,
            (Some(true), Some(false)) => Exportable::Plain,
            _ => Exportable::Unknown,
        }
    }

    pub(super) fn sign_only(&self) -> Known {
        let Some(key) = self.private else {
            return Known::Unknown;
        };
        let others = [a::DECRYPT, a::UNWRAP, a::DERIVE, a::ENCRYPT, a::WRAP];
        let others = others.map(|kind| key.flag(kind));
        match key.flag(a::SIGN) {
            Some(true) if others.iter().all(|o| *o == Some(false)) => Known::Yes,
            Some(false) => Known::No,
            _ if others.contains(&Some(true)) => Known::No,
            _ => Known::Unknown,
        }
    }
}

/// The check of the key that Azure's JSON shows; `None` if it shows none.
pub(super) fn shown_key(shown: &Jwk, key: &PublicKey) -> Option<Check> {
    let kind = key.kind();
    shown.shows_key().then(|| match shown.differs(key) {
        None => SHOWN.check(true, format!("all that is shown is the key's, {kind}")),
        Some(what) => SHOWN.check(false, format!("{what}; the key in question is {kind}")),
    })
}

const fn known(flag: Option<bool>) -> Known {
    match flag {
        Some(true) => Known::Yes,
        Some(false) => Known::No,
        None => Known::Unknown,
    }
}

fn class(o: &Object<'_>) -> String {
    match o.number(a::CLASS) {
        Some(CLASS_PUBLIC) => "2 (public)".to_owned(),
        Some(CLASS_PRIVATE) => "3 (private)".to_owned(),
        Some(4) => "4 (secret)".to_owned(),
        Some(n) => n.to_string(),
        None => "missing".to_owned(),
    }
}

/// An attribute and its value, for reports.
pub(super) fn show(o: &Object<'_>, kind: u32) -> String {
    let name = a::name(kind).map_or_else(|| format!("0x{kind:04x}"), str::to_owned);
    match (o.flag(kind), o.bytes(kind)) {
        (Some(flag), _) => format!("{name}={}", u8::from(flag)),
        (None, Some(bytes)) => format!("{name}={}", hex::encode(bytes)),
        (None, None) => format!("{name} is missing"),
    }
}
