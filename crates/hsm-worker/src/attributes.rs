//! Attributes of a subscriber's private key: asked for, then read back (PKCS#11 v3.1 §4.9, §4.14).
//!
//! The list is ours and fixed; a module's profile (hsm-config/) says which of them are required.

use crate::config::{Level, Profile};
use crate::errors::module_error;
use countersign_core::facts::ReadBack;
use countersign_core::{KeyAlgorithm, KeyId};
use countersign_hsm_protocol::WorkerError;
use cryptoki::error::{Error, RvError};
use cryptoki::mechanism::MechanismType;
use cryptoki::object::{Attribute, AttributeType, ObjectHandle};
use cryptoki::session::Session;

/// One attribute and what we want of it.
#[derive(Debug, Clone, Copy)]
pub struct Wanted {
    /// PKCS#11 name.
    pub name: &'static str,
    kind: AttributeType,
    value: Value,
    /// Part of the template; the others only the token can set.
    in_template: bool,
}

#[derive(Debug, Clone, Copy)]
enum Value {
    Yes,
    No,
    /// The generation mechanism of the key's algorithm.
    Generator,
    /// The one signing mechanism of the key's algorithm.
    SigningMechanism,
    /// Nothing is wanted: what the token says is recorded.
    Recorded,
}

macro_rules! wanted {
    ($($name:literal $kind:ident $value:ident $template:literal;)*) => {
        &[$(Wanted {
            name: $name,
            kind: AttributeType::$kind,
            value: Value::$value,
            in_template: $template,
        }),*]
    };
}

/// All of them. `true`: in our template; `false`: set by the token alone, so a claim of its own.
pub const PRIVATE_KEY_ATTRIBUTES: &[Wanted] = wanted![
    "CKA_TOKEN" Token Yes true;
    "CKA_PRIVATE" Private Yes true;
    "CKA_SENSITIVE" Sensitive Yes true;
    "CKA_EXTRACTABLE" Extractable No true;
    "CKA_ALWAYS_SENSITIVE" AlwaysSensitive Yes false;
    "CKA_NEVER_EXTRACTABLE" NeverExtractable Yes false;
    "CKA_LOCAL" Local Yes false;
    "CKA_KEY_GEN_MECHANISM" KeyGenMechanism Generator false;
    "CKA_SIGN" Sign Yes true;
    "CKA_DECRYPT" Decrypt No true;
    "CKA_UNWRAP" Unwrap No true;
    "CKA_DERIVE" Derive No true;
    "CKA_SIGN_RECOVER" SignRecover No true;
    "CKA_DECAPSULATE" Decapsulate No true;
    "CKA_ALLOWED_MECHANISMS" AllowedMechanisms SigningMechanism true;
    "CKA_MODIFIABLE" Modifiable No true;
    "CKA_COPYABLE" Copyable No true;
    "CKA_DESTROYABLE" Destroyable Yes true;
    "CKA_WRAP_WITH_TRUSTED" WrapWithTrusted Yes true;
    "CKA_ALWAYS_AUTHENTICATE" AlwaysAuthenticate No true;
    "CKA_UNIQUE_ID" UniqueId Recorded false;
    "CKA_PUBLIC_KEY_INFO" PublicKeyInfo Recorded false;
    "CKA_OBJECT_VALIDATION_FLAGS" ObjectValidationFlags Recorded false;
];

/// The private key's template under a profile.
#[must_use]
pub fn private_template(
    profile: &Profile,
    key: KeyId,
    algorithm: KeyAlgorithm,
    label: &str,
) -> Vec<Attribute> {
    let mut template = vec![
        Attribute::Id(key.as_bytes().to_vec()),
        Attribute::Label(label.as_bytes().to_vec()),
    ];
    for wanted in PRIVATE_KEY_ATTRIBUTES {
        if wanted.in_template && profile.level(wanted.name) != Level::Unsupported {
            template.extend(wanted.attribute(algorithm));
        }
    }
    template
}

/// The public object's template under a profile, without what its algorithm adds.
#[must_use]
pub fn public_template(profile: &Profile, key: KeyId, label: &str) -> Vec<Attribute> {
    let mut template = vec![
        Attribute::Id(key.as_bytes().to_vec()),
        Attribute::Label(label.as_bytes().to_vec()),
        Attribute::Token(true),
    ];
    for (name, attribute) in [
        ("CKA_PRIVATE", Attribute::Private(false)),
        ("CKA_VERIFY", Attribute::Verify(true)),
        ("CKA_ENCRYPT", Attribute::Encrypt(false)),
        ("CKA_WRAP", Attribute::Wrap(false)),
        ("CKA_VERIFY_RECOVER", Attribute::VerifyRecover(false)),
    ] {
        if !profile.public_omits.contains_key(name) {
            template.push(attribute);
        }
    }
    template
}

/// Reads all attributes back.
///
/// # Errors
/// [`WorkerError::AttributeMismatch`] for the first required one that differs (the caller destroys
/// the pair), or the module's error.
pub fn read_back(
    session: &Session,
    profile: &Profile,
    algorithm: KeyAlgorithm,
    private: ObjectHandle,
) -> Result<Vec<ReadBack>, WorkerError> {
    let mut facts = Vec::with_capacity(PRIVATE_KEY_ATTRIBUTES.len());
    for wanted in PRIVATE_KEY_ATTRIBUTES {
        let level = profile.level(wanted.name);
        let want = wanted.attribute(algorithm);
        let seen = read_one(session, private, wanted.kind)?;
        let fact = ReadBack {
            attribute: wanted.name.to_owned(),
            wanted: want.as_ref().map_or_else(|| "recorded".into(), show),
            seen: seen.as_ref().map_or_else(|| "unsupported".into(), show),
            required: level == Level::Required,
        };
        // What only has to be recorded is required to be there at all.
        let good = match &want {
            Some(_) => fact.wanted == fact.seen,
            None => seen.is_some(),
        };
        if fact.required && !good {
            return Err(WorkerError::AttributeMismatch {
                attribute: fact.attribute,
                wanted: fact.wanted,
                seen: fact.seen,
            });
        }
        facts.push(fact);
    }
    Ok(facts)
}

impl Wanted {
    fn attribute(&self, algorithm: KeyAlgorithm) -> Option<Attribute> {
        let flag = match self.value {
            Value::Recorded => return None,
            Value::Generator => {
                return Some(Attribute::KeyGenMechanism(generator(algorithm)));
            }
            Value::SigningMechanism => {
                return Some(Attribute::AllowedMechanisms(vec![signing_mechanism(
                    algorithm,
                )]));
            }
            Value::Yes => true,
            Value::No => false,
        };
        Some(match self.kind {
            AttributeType::Token => Attribute::Token(flag),
            AttributeType::Private => Attribute::Private(flag),
            AttributeType::Sensitive => Attribute::Sensitive(flag),
            AttributeType::Extractable => Attribute::Extractable(flag),
            AttributeType::AlwaysSensitive => Attribute::AlwaysSensitive(flag),
            AttributeType::NeverExtractable => Attribute::NeverExtractable(flag),
            AttributeType::Local => Attribute::Local(flag),
            AttributeType::Sign => Attribute::Sign(flag),
            AttributeType::Decrypt => Attribute::Decrypt(flag),
            AttributeType::Unwrap => Attribute::Unwrap(flag),
            AttributeType::Derive => Attribute::Derive(flag),
            AttributeType::SignRecover => Attribute::SignRecover(flag),
            AttributeType::Decapsulate => Attribute::Decapsulate(flag),
            AttributeType::Modifiable => Attribute::Modifiable(flag),
            AttributeType::Copyable => Attribute::Copyable(flag),
            AttributeType::Destroyable => Attribute::Destroyable(flag),
            AttributeType::WrapWithTrusted => Attribute::WrapWithTrusted(flag),
            AttributeType::AlwaysAuthenticate => Attribute::AlwaysAuthenticate(flag),
            _ => return None,
        })
    }
}

const fn generator(algorithm: KeyAlgorithm) -> MechanismType {
    if algorithm.is_rsa() {
        MechanismType::RSA_PKCS_KEY_PAIR_GEN
    } else {
        MechanismType::ECC_KEY_PAIR_GEN
    }
}

const fn signing_mechanism(algorithm: KeyAlgorithm) -> MechanismType {
    if algorithm.is_rsa() {
        MechanismType::RSA_PKCS
    } else {
        MechanismType::ECDSA
    }
}

fn read_one(
    session: &Session,
    object: ObjectHandle,
    kind: AttributeType,
) -> Result<Option<Attribute>, WorkerError> {
    match session.get_attributes(object, &[kind]) {
        Ok(found) => Ok(found.into_iter().next()),
        Err(Error::Pkcs11(RvError::AttributeTypeInvalid | RvError::AttributeSensitive, _)) => {
            Ok(None)
        }
        Err(e) => Err(module_error(&e)),
    }
}

fn show(attribute: &Attribute) -> String {
    match attribute {
        Attribute::Token(b)
        | Attribute::Private(b)
        | Attribute::Sensitive(b)
        | Attribute::Extractable(b)
        | Attribute::AlwaysSensitive(b)
        | Attribute::NeverExtractable(b)
        | Attribute::Local(b)
        | Attribute::Sign(b)
        | Attribute::Decrypt(b)
        | Attribute::Unwrap(b)
        | Attribute::Derive(b)
        | Attribute::SignRecover(b)
        | Attribute::Decapsulate(b)
        | Attribute::Modifiable(b)
        | Attribute::Copyable(b)
        | Attribute::Destroyable(b)
        | Attribute::WrapWithTrusted(b)
        | Attribute::AlwaysAuthenticate(b) => b.to_string(),
        Attribute::KeyGenMechanism(m) => m.to_string(),
        Attribute::AllowedMechanisms(list) => {
            let mut names: Vec<String> = list.iter().map(ToString::to_string).collect();
            names.sort_unstable();
            format!("[{}]", names.join(", "))
        }
        Attribute::UniqueId(v) => String::from_utf8_lossy(v).into_owned(),
        Attribute::PublicKeyInfo(v) => hex::encode(v),
        other => format!("{other:?}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_profiles_list_is_ours() {
        let ours: Vec<_> = PRIVATE_KEY_ATTRIBUTES.iter().map(|a| a.name).collect();
        assert_eq!(
            ours,
            countersign_hsm_protocol::profile::PRIVATE_KEY_ATTRIBUTES
        );
    }
}
