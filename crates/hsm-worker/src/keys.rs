//! Key pairs: made in the token, read back, bound, found again, destroyed, counted.

use crate::attributes::{private_template, public_template, read_back};
use crate::binding::Binding;
use crate::config::Profile;
use crate::errors::module_error;
use crate::object_files;
use crate::spki::{ec_params, ec_spki, rsa_spki};
use crate::state_dir::{StateDir, sync_dir};
use crate::token::Token;
use crate::tpm2;
use countersign_core::ports::hsm::Inventory;
use countersign_core::{KeyAlgorithm, KeyFacts, KeyId, TenantId};
use countersign_hsm_protocol::WorkerError;
use countersign_hsm_protocol::message::MAX_INVENTORY;
use cryptoki::mechanism::Mechanism;
use cryptoki::object::{Attribute, AttributeType, KeyType, ObjectClass, ObjectHandle};
use cryptoki::session::Session;
use std::collections::BTreeSet;
use std::time::Duration;

/// How the labels of our key pairs begin.
const LABEL: &str = "countersign ";
/// How long another node may take with the same key: an RSA key pair in a slow device.
const KEY_LOCK_WAIT: Duration = Duration::from_secs(30);

/// A key ready to sign.
#[derive(Debug, Clone, Copy)]
pub struct LoadedKey {
    /// Whose: the binding's, which has a MAC.
    pub tenant: TenantId,
    /// In the session it was found in.
    pub handle: ObjectHandle,
    /// Which kind.
    pub algorithm: KeyAlgorithm,
}

/// Makes a key pair, or returns the one made under this id before.
///
/// Order: pair (with our `CKA_ID`) → read back → log memory → binding. A crash in between leaves an
/// orphan that the next start reports, never a key that signs.
///
/// # Errors
/// [`WorkerError::AttributeMismatch`] (the pair is destroyed), [`WorkerError::KeyIdTaken`], or the
/// module's.
#[allow(
    clippy::too_many_arguments,
    reason = "where, under which rules, and what"
)]
pub fn generate(
    token: &Token,
    session: &Session,
    dir: &StateDir,
    profile: &Profile,
    tenant: TenantId,
    key: KeyId,
    algorithm: KeyAlgorithm,
    new_log: impl FnOnce() -> Result<(), WorkerError>,
) -> Result<(Vec<u8>, KeyFacts), WorkerError> {
    // Against another node that is asked for the same key at the same moment.
    let _one_at_a_time = dir.lock_key(key, KEY_LOCK_WAIT)?;
    if let Some(binding) = Binding::read(token, dir, tenant, key)? {
        if binding.algorithm != algorithm || binding.destroying {
            return Err(WorkerError::KeyIdTaken(format!(
                "a key {} has it",
                binding.algorithm
            )));
        }
        load(token, session, dir, tenant, key)?;
        return Ok((binding.spki()?, binding.facts));
    }
    if dir.destroyed(key).exists() || !find(session, key, None)?.is_empty() {
        return Err(WorkerError::KeyIdTaken(
            "by a destroyed key or by an object without a binding".into(),
        ));
    }
    let label = format!("{LABEL}{key}");
    let mut public = public_template(profile, key, &label);
    let mechanism = if algorithm.is_rsa() {
        let bits: u64 = if algorithm == KeyAlgorithm::Rsa4096 {
            4096
        } else {
            3072
        };
        public.push(Attribute::ModulusBits(bits.into()));
        public.push(Attribute::PublicExponent(vec![1, 0, 1]));
        Mechanism::RsaPkcsKeyPairGen
    } else {
        public.push(Attribute::EcParams(ec_params(algorithm).to_vec()));
        Mechanism::EccKeyPairGen
    };
    let private = private_template(profile, key, algorithm, &label);
    let (public, private) = session
        .generate_key_pair(&mechanism, &public, &private)
        .map_err(|e| module_error(&e))?;

    let finish = || -> Result<_, WorkerError> {
        let mut attributes = read_back(session, profile, algorithm, private)?;
        if profile.tpm2_public_area {
            attributes.push(tpm2::read_back(session, private)?);
        }
        let spki = public_key_info(session, public, algorithm)?;
        let token_facts = token.facts();
        let facts = KeyFacts {
            software: token_facts.software,
            isolation: token_facts.isolation,
            manufacturer: token_facts.manufacturer.clone(),
            model: token_facts.model.clone(),
            serial: token_facts.serial.clone(),
            firmware: token_facts.firmware.clone(),
            profile: token_facts.profile.clone(),
            binding_mac: token.binding_mac(),
            attributes,
        };
        new_log()?;
        Binding::make(
            token,
            session,
            dir,
            tenant,
            key,
            algorithm,
            &spki,
            facts.clone(),
        )?;
        Ok((spki, facts))
    };
    finish().inspect_err(|error| {
        tracing::error!(%key, %error, "a key pair is destroyed right after generation");
        for object in [private, public] {
            if let Err(e) = session.destroy_object(object) {
                tracing::error!(%key, error = %e, "and could not be destroyed: it is an orphan");
            }
        }
    })
}

/// Finds a key by its `CKA_ID` and checks its binding and its public key.
///
/// # Errors
/// [`WorkerError::NoSuchKey`], [`WorkerError::BindingBroken`], or the module's.
pub fn load(
    token: &Token,
    session: &Session,
    dir: &StateDir,
    tenant: TenantId,
    key: KeyId,
) -> Result<LoadedKey, WorkerError> {
    let binding = Binding::read(token, dir, tenant, key)?
        .filter(|b| !b.destroying)
        .ok_or(WorkerError::NoSuchKey)?;
    binding.verify(token, session)?;
    let find_one =
        |class| one(&find(session, key, Some(class))?, key).map_err(|e| torn_instead(dir, key, e));
    let handle = find_one(ObjectClass::PRIVATE_KEY)?;
    let public = find_one(ObjectClass::PUBLIC_KEY)?;
    if public_key_info(session, public, binding.algorithm)? != binding.spki()? {
        return Err(WorkerError::BindingBroken(format!(
            "{key}: the token holds another public key"
        )));
    }
    Ok(LoadedKey {
        tenant: binding.tenant,
        handle,
        algorithm: binding.algorithm,
    })
}

/// The public key that a key was bound to. [`load`] says whether that binding holds.
///
/// # Errors
/// [`WorkerError::NoSuchKey`], [`WorkerError::BindingBroken`].
pub fn bound_spki(
    token: &Token,
    dir: &StateDir,
    tenant: TenantId,
    key: KeyId,
) -> Result<Vec<u8>, WorkerError> {
    Binding::read(token, dir, tenant, key)?
        .filter(|b| !b.destroying)
        .ok_or(WorkerError::NoSuchKey)?
        .spki()
}

/// Destroys a key pair. The binding is marked first, so that a crash leaves a key that signs no
/// more, and is kept under `destroyed/` after.
///
/// # Errors
/// [`WorkerError::NoSuchKey`], or the module's; call again to finish.
pub fn destroy(
    token: &Token,
    session: &Session,
    dir: &StateDir,
    tenant: TenantId,
    key: KeyId,
) -> Result<(), WorkerError> {
    let broken = |e: std::io::Error| WorkerError::StateBroken(format!("{key}: {e}"));
    let _one_at_a_time = dir.lock_key(key, KEY_LOCK_WAIT)?;
    let Some(mut binding) = Binding::read(token, dir, tenant, key)? else {
        // A neighbour's destroyed key is none, as a neighbour's living one.
        return if Binding::was_destroyed(dir, tenant, key)? {
            Ok(())
        } else {
            Err(WorkerError::NoSuchKey)
        };
    };
    if !binding.destroying {
        binding.verify(token, session)?;
        binding.destroying = true;
        binding.write(dir)?;
    }
    for class in [ObjectClass::PRIVATE_KEY, ObjectClass::PUBLIC_KEY] {
        for object in find(session, key, Some(class))? {
            session
                .destroy_object(object)
                .map_err(|e| module_error(&e))?;
        }
    }
    std::fs::rename(dir.binding(key), dir.destroyed(key)).map_err(broken)?;
    for sub in ["bindings", "destroyed"] {
        sync_dir(&dir.token_file(sub)).map_err(broken)?;
    }
    tracing::warn!(%key, "key destroyed");
    Ok(())
}

/// What is in the token, beside what is bound. Of one tenant's keys, or of all.
///
/// # Errors
/// The module's.
pub fn inventory(
    token: &Token,
    session: &Session,
    dir: &StateDir,
    tenant: Option<TenantId>,
) -> Result<Inventory, WorkerError> {
    let mut private = BTreeSet::new();
    let mut all = BTreeSet::new();
    let mac_keys = token.mac_keys(session)?;
    let objects = session
        .find_objects(&[Attribute::Token(true)])
        .map_err(|e| module_error(&e))?;
    for object in objects {
        if mac_keys.contains(&object) {
            continue;
        }
        let (mut id, mut label, mut is_private) = (Vec::new(), Vec::new(), false);
        for attribute in session
            .get_attributes(
                object,
                &[
                    AttributeType::Id,
                    AttributeType::Class,
                    AttributeType::Label,
                ],
            )
            .map_err(|e| module_error(&e))?
        {
            match attribute {
                Attribute::Id(v) => id = v,
                Attribute::Class(c) => is_private = c == ObjectClass::PRIVATE_KEY,
                Attribute::Label(v) => label = v,
                _ => {}
            }
        }
        // In a token that we did not make, other programs may have objects of their own.
        if token.existing() && !label.starts_with(LABEL.as_bytes()) {
            continue;
        }
        if is_private {
            private.insert(id.clone());
        }
        all.insert(id);
    }
    let mut report = Inventory::default();
    let bound = dir
        .bound_keys()
        .map_err(|e| WorkerError::StateBroken(e.to_string()))?;
    for key in bound {
        all.remove(key.as_bytes().as_slice());
        if let Some(tenant) = tenant
            && token.tenant().is_none()
            && Binding::read_any(dir, key)?.is_none_or(|b| b.tenant != tenant)
        {
            continue;
        }
        if private.contains(key.as_bytes().as_slice()) {
            report.keys.push(key);
        } else {
            report.lost.push(key);
        }
    }
    report.orphans = all.iter().map(hex::encode).collect();
    report.keys.truncate(MAX_INVENTORY);
    report.lost.truncate(MAX_INVENTORY);
    report.orphans.truncate(MAX_INVENTORY);
    Ok(report)
}

fn find(
    session: &Session,
    key: KeyId,
    class: Option<ObjectClass>,
) -> Result<Vec<ObjectHandle>, WorkerError> {
    let mut template = vec![
        Attribute::Token(true),
        Attribute::Id(key.as_bytes().to_vec()),
    ];
    template.extend(class.map(Attribute::Class));
    session
        .find_objects(&template)
        .map_err(|e| module_error(&e))
}

fn one(found: &[ObjectHandle], key: KeyId) -> Result<ObjectHandle, WorkerError> {
    match found {
        [one] => Ok(*one),
        [] => Err(WorkerError::NoSuchKey),
        _ => Err(WorkerError::BindingBroken(format!(
            "{key}: several objects have this id"
        ))),
    }
}

/// A bound key that the token does not show: if SoftHSM's file of it may be torn, the file is named.
fn torn_instead(dir: &StateDir, key: KeyId, missing: WorkerError) -> WorkerError {
    if !matches!(missing, WorkerError::NoSuchKey) {
        return missing;
    }
    // No other module has this folder.
    let torn = object_files::torn(&dir.token_file("tokens"));
    let Some((file, fault)) = torn.first() else {
        return missing;
    };
    let text = format!(
        "key {key} is bound and not in the token, and {} of its object files are torn: {}: {fault}; \
         restore it from a copy of the token's folder",
        torn.len(),
        file.display()
    );
    tracing::error!(%key, "{text}");
    WorkerError::StateBroken(text)
}

/// SPKI from the public object's own attributes (`CKA_PUBLIC_KEY_INFO` is optional; SoftHSM has none).
fn public_key_info(
    session: &Session,
    public: ObjectHandle,
    algorithm: KeyAlgorithm,
) -> Result<Vec<u8>, WorkerError> {
    let wanted: &[AttributeType] = if algorithm.is_rsa() {
        &[
            AttributeType::KeyType,
            AttributeType::Modulus,
            AttributeType::PublicExponent,
        ]
    } else {
        &[
            AttributeType::KeyType,
            AttributeType::EcParams,
            AttributeType::EcPoint,
        ]
    };
    let (mut first, mut second, mut kind) = (Vec::new(), Vec::new(), None);
    for attribute in session
        .get_attributes(public, wanted)
        .map_err(|e| module_error(&e))?
    {
        match attribute {
            Attribute::KeyType(k) => kind = Some(k),
            Attribute::Modulus(v) | Attribute::EcParams(v) => first = v,
            Attribute::PublicExponent(v) | Attribute::EcPoint(v) => second = v,
            _ => {}
        }
    }
    let spki = if algorithm.is_rsa() {
        (kind == Some(KeyType::RSA))
            .then(|| rsa_spki(algorithm, &first, &second))
            .flatten()
    } else {
        (kind == Some(KeyType::EC) && first == ec_params(algorithm))
            .then(|| ec_spki(algorithm, &second))
            .flatten()
    };
    spki.ok_or_else(|| {
        WorkerError::BindingBroken(format!("the public key read back is not {algorithm}"))
    })
}
