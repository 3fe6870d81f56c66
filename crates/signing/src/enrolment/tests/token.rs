//! A token whose device speaks, or does not, as a test says.

use async_trait::async_trait;
use countersign_core::ports::evidence::{DeviceChallenge, DeviceIdentity, KeyCertification};
use countersign_core::ports::hsm::{
    GeneratedKey, Hsm, HsmError, Inventory, LogAdvance, LogPins, LogResync, SignOrder, Signed,
    Spent, TokenFacts, TokenHealth,
};
use countersign_core::{IsolationClass, KeyAlgorithm, KeyFacts, KeyId, TenantId, TenantName};
use countersign_testkit_evidence::tpm2::Tpm2;
use countersign_testkit_evidence::{Key, Kind};
use std::collections::HashMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

/// What a CA challenges devices with, and what they read out of it.
pub const SECRET: &[u8] = b"only this device can read it";

/// Whether the token's device speaks for itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Speaks {
    /// It has no adapter.
    Never,
    /// It has no room at the moment.
    Busy,
    /// It says who it is, and has no room for more.
    BusyLater,
    /// It has no endorsement certificate.
    Nameless,
    /// It does.
    Tpm,
}

/// A token of P-256 keys, hardware or not by its own word.
pub struct Token {
    pub software: bool,
    pub speaks: Mutex<Speaks>,
    pub keys: Mutex<HashMap<KeyId, Key>>,
    pub signed: AtomicUsize,
}

impl Token {
    fn facts(&self) -> TokenFacts {
        TokenFacts {
            label: "test".into(),
            manufacturer: "Test".into(),
            model: "Model".into(),
            serial: "1".into(),
            firmware: "1.0".into(),
            software: self.software,
            isolation: IsolationClass::ExclusiveToken,
            profile: "test".into(),
        }
    }
}

#[async_trait]
impl Hsm for Token {
    async fn create_token(
        &self,
        _: TenantId,
        _: &TenantName,
        _: &LogPins,
    ) -> Result<TokenFacts, HsmError> {
        Ok(self.facts())
    }

    async fn generate_key(
        &self,
        _: TenantId,
        key: KeyId,
        _: KeyAlgorithm,
    ) -> Result<GeneratedKey, HsmError> {
        let made = Key::named(Kind::P256, &key.to_string());
        let spki = made.spki().to_vec();
        self.keys.lock().unwrap().insert(key, made);
        let t = self.facts();
        Ok(GeneratedKey {
            spki,
            facts: KeyFacts {
                software: t.software,
                isolation: t.isolation,
                manufacturer: t.manufacturer,
                model: t.model,
                serial: t.serial,
                firmware: t.firmware,
                profile: t.profile,
                binding_mac: true,
                attributes: vec![],
            },
        })
    }

    async fn open_log(&self, _: TenantId, _: KeyId) -> Result<u64, HsmError> {
        Ok(0)
    }

    fn advance(&self, _: TenantId, _: LogAdvance) {}

    async fn resync(&self, _: TenantId, _: LogResync) -> Result<(), HsmError> {
        Ok(())
    }

    async fn sign(&self, _: TenantId, order: SignOrder) -> Result<Signed, HsmError> {
        self.signed.fetch_add(1, Ordering::SeqCst);
        let key = self.keys.lock().unwrap().get(&order.key).cloned();
        let signature = key.ok_or(HsmError::NoSuchKey)?;
        Ok(Signed {
            signature: signature.sign_sha256(order.digest.as_bytes()),
            spent: Spent::default(),
        })
    }

    async fn destroy_key(&self, _: TenantId, _: KeyId) -> Result<(), HsmError> {
        Ok(())
    }

    async fn inventory(&self, _: TenantId) -> Result<Inventory, HsmError> {
        Ok(Inventory::default())
    }

    async fn identify_device(&self, _: TenantId) -> Result<DeviceIdentity, HsmError> {
        match *self.speaks.lock().unwrap() {
            Speaks::Never => Err(no_adapter()),
            Speaks::Busy => Err(HsmError::Busy),
            Speaks::Nameless => Err(HsmError::Refused {
                code: "evidence-no-endorsement-certificate".into(),
                detail: "none".into(),
            }),
            Speaks::Tpm | Speaks::BusyLater => Ok(DeviceIdentity {
                endorsement: vec![b"endorsement".to_vec()],
                attestation_key: Tpm2::default().ak_public(),
            }),
        }
    }

    async fn answer_challenge(
        &self,
        _: TenantId,
        given: DeviceChallenge,
    ) -> Result<Vec<u8>, HsmError> {
        assert_eq!(given, challenge());
        Ok(SECRET.to_vec())
    }

    async fn certify_key(
        &self,
        _: TenantId,
        key: KeyId,
        nonce: Vec<u8>,
    ) -> Result<KeyCertification, HsmError> {
        if *self.speaks.lock().unwrap() == Speaks::BusyLater {
            return Err(HsmError::Busy);
        }
        let key = self.keys.lock().unwrap().get(&key).cloned();
        let tpm = Tpm2 {
            key: key.ok_or(HsmError::NoSuchKey)?,
            extra_data: nonce,
            ..Tpm2::default()
        };
        let attest = tpm.attest();
        Ok(KeyCertification {
            signature: tpm.signature(&attest),
            attest,
            public: tpm.public(),
        })
    }

    fn health(&self) -> Vec<TokenHealth> {
        Vec::new()
    }
}

/// Its keys' evidence comes by hand.
fn no_adapter() -> HsmError {
    HsmError::NoEvidence("profile test has no evidence adapter".into())
}

pub fn challenge() -> DeviceChallenge {
    DeviceChallenge {
        id_object: vec![1; 66],
        encrypted_secret: vec![2; 256],
    }
}
