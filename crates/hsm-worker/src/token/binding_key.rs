//! The key inside the token that binds keys to tenants by a MAC.

use super::Token;
use crate::config::Profile;
use crate::errors::module_error;
use crate::module::Module;
use countersign_hsm_protocol::WorkerError;
use cryptoki::mechanism::{Mechanism, MechanismType};
use cryptoki::object::{Attribute, KeyType, ObjectClass, ObjectHandle};
use cryptoki::session::Session;
use cryptoki::slot::Slot;

/// `CKA_LABEL` and `CKA_ID` of the key that MACs bindings.
const MAC_KEY: &[u8] = b"countersign-binding-mac";

impl Token {
    /// HMAC-SHA-256 by the key in the token; `None` where the module has none.
    ///
    /// # Errors
    /// The module's, or [`WorkerError::StateBroken`] if the key is gone.
    pub fn mac(&self, session: &Session, message: &[u8]) -> Result<Option<Vec<u8>>, WorkerError> {
        if !self.pinned.binding_mac {
            return Ok(None);
        }
        let key = self.mac_key(session)?;
        session
            .sign(&Mechanism::Sha256Hmac, key, message)
            .map(Some)
            .map_err(|e| module_error(&e))
    }

    /// Our own binding keys: none where bindings have no MAC. A search over the whole token: not
    /// to be made for each object.
    ///
    /// # Errors
    /// The module's.
    pub fn mac_keys(&self, session: &Session) -> Result<Vec<ObjectHandle>, WorkerError> {
        if self.binding_mac() {
            find_mac_keys(session)
        } else {
            Ok(Vec::new())
        }
    }

    fn mac_key(&self, session: &Session) -> Result<ObjectHandle, WorkerError> {
        match find_mac_keys(session)?.as_slice() {
            [one] => Ok(*one),
            other => Err(WorkerError::StateBroken(format!(
                "the token has {} binding keys, expected one",
                other.len()
            ))),
        }
    }

    pub(super) fn make_mac_key(&self) -> Result<(), WorkerError> {
        let rw = self.rw_session()?;
        let template = [
            Attribute::Class(ObjectClass::SECRET_KEY),
            Attribute::KeyType(KeyType::GENERIC_SECRET),
            Attribute::Token(true),
            Attribute::Private(true),
            Attribute::Sensitive(true),
            Attribute::Extractable(false),
            Attribute::Modifiable(false),
            Attribute::Sign(true),
            Attribute::Verify(true),
            Attribute::Encrypt(false),
            Attribute::Decrypt(false),
            Attribute::Wrap(false),
            Attribute::Unwrap(false),
            Attribute::Derive(false),
            Attribute::ValueLen(32.into()),
            Attribute::Label(MAC_KEY.to_vec()),
            Attribute::Id(MAC_KEY.to_vec()),
        ];
        rw.session
            .generate_key(&Mechanism::GenericSecretKeyGen, &template)
            .map(|_| ())
            .map_err(|e| module_error(&e))
    }
}

/// Whether bindings can have a MAC: the profile may say that the module's is of no use.
pub(super) fn offers_mac(module: &Module, slot: Slot, profile: &Profile) -> bool {
    let offers = |m| module.pkcs11().get_mechanism_info(slot, m).is_ok();
    profile.no_binding_mac.is_none()
        && offers(MechanismType::SHA256_HMAC)
        && offers(MechanismType::GENERIC_SECRET_KEY_GEN)
}

pub(super) fn find_mac_keys(session: &Session) -> Result<Vec<ObjectHandle>, WorkerError> {
    session
        .find_objects(&[
            Attribute::Class(ObjectClass::SECRET_KEY),
            Attribute::Token(true),
            Attribute::Label(MAC_KEY.to_vec()),
            Attribute::Id(MAC_KEY.to_vec()),
        ])
        .map_err(|e| module_error(&e))
}
