//! A TPM 2.0 below tpm2-pkcs11, speaking for itself: its endorsement, an attestation key of its own, and
//! what that certifies of a key that the module made.
//!
//! | file | what it holds |
//! | --- | --- |
//! | [`device`] | the TPM's commands, through `tss-esapi` |
//! | [`codes`] | its response codes |
//! | [`public`] | a key's public area, compared with what was bound |
//! | [`store`], [`sqlite`] | the module's store, and how a key's authorisation follows from the PIN |
//!
//! The module keeps its keys' authorisation values to itself, and `TPM2_Certify` needs them: so the adapter
//! goes the module's own way from the PIN to them (docs/adr/0015). It knows one version of it, and
//! refuses every other.

mod codes;
mod device;
mod public;
mod sqlite;
mod store;

use super::{Adapter, At, BoundKey};
use crate::errors::module_error;
use crate::pin::Latch;
use crate::state_dir::{create_durably, read_bounded};
use crate::tpm2::fixed_and_sign_only;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use countersign_core::ports::evidence::{DeviceChallenge, DeviceIdentity, KeyCertification};
use countersign_hsm_protocol::{ErrorClass, EvidenceProblem, WorkerError};
use cryptoki::object::{Attribute, AttributeType};
use device::{AttestationKey, Device, Endorsement};
use public::{PublicArea, unsized_part};
use serde::{Deserialize, Serialize};
use tss_esapi::handles::KeyHandle;
use zeroize::Zeroizing;

/// The module that the adapter knows, in the words of its `C_GetInfo`.
const MANUFACTURER: &str = "tpm2-software.github.io";
const VERSION: (u8, u8) = (1, 9);

/// Vendor attributes of a private object (tpm2-pkcs11, `src/lib/attrs.h`).
const CKA_TPM2_OBJAUTH_ENC: u64 = 0x8F00_0001;
const CKA_TPM2_PUB_BLOB: u64 = 0x8F00_0002;
const CKA_TPM2_PRIV_BLOB: u64 = 0x8F00_0003;

/// The attestation key's two parts, in the token's folder.
const KEPT: &str = "tpm2-attestation-key.json";
/// TPMA_OBJECT of an attestation key: fixedTPM, fixedParent, sensitiveDataOrigin, userWithAuth,
/// restricted, sign (part 2 §8.3). Restricted: it signs nothing that the TPM did not make itself.
const RESTRICTED_SIGNING: u32 = 0x0005_0072;

/// The adapter.
#[derive(Debug, Default)]
pub struct Tpm2 {
    store: store::Store,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Kept {
    version: u8,
    public: String,
    private: String,
}

impl Adapter for Tpm2 {
    fn identify(&self, at: &At<'_>) -> Result<DeviceIdentity, WorkerError> {
        let mut device = Device::open()?;
        let endorsement = device.endorsement()?;
        let key = attestation_key(at, &mut device, &endorsement)?;
        // Before a CA is told of it: it must be of use.
        load(at, &mut device, &endorsement, &key)?;
        Ok(DeviceIdentity {
            endorsement: vec![endorsement.certificate],
            attestation_key: key.public,
        })
    }

    fn answer(
        &self,
        at: &At<'_>,
        challenge: &DeviceChallenge,
    ) -> Result<Zeroizing<Vec<u8>>, WorkerError> {
        let mut device = Device::open()?;
        let endorsement = device.endorsement()?;
        let key = attestation_key(at, &mut device, &endorsement)?;
        let key = load(at, &mut device, &endorsement, &key)?;
        device.activate(
            &endorsement,
            key,
            &challenge.id_object,
            &challenge.encrypted_secret,
        )
    }

    fn certify(
        &self,
        at: &At<'_>,
        key: &BoundKey,
        nonce: &[u8],
    ) -> Result<KeyCertification, WorkerError> {
        known_module(at)?;
        let held = Held::read(at, key)?;
        let label = &at.token.facts().label;
        let sealed = self.store.sealed(&store::folder()?, label)?;

        let mut device = Device::open()?;
        let endorsement = device.endorsement()?;
        let ak = attestation_key(at, &mut device, &endorsement)?;
        let ak = load(at, &mut device, &endorsement, &ak)?;
        let storage = device.storage(&sealed)?;

        // A use of the PIN like a login: a wrong one counts in the TPM, and is tried once.
        let latch = Latch::attempt(at.dir)?;
        let opened = at.token.user_pin(at.dir, at.config).and_then(|pin| {
            let auth = store::seal_auth(&pin, &sealed.salt);
            device.unseal(&storage, &sealed, &auth)
        });
        let unsealed = match opened {
            Err(WorkerError::Module {
                class: ErrorClass::NeverRetry,
                function,
                code,
                ..
            }) => {
                let reason = format!("{function}: {code}");
                latch.close(&reason);
                return Err(WorkerError::Latched(reason));
            }
            other => {
                latch.release();
                other?
            }
        };

        let handle = device.load(&storage, &held.public, &held.private)?;
        device.authorise(handle, &store::key_auth(&unsealed, &held.auth)?)?;
        let certified = device.certify(&storage, handle, ak, nonce)?;
        device.close(storage)?;
        Ok(KeyCertification {
            attest: certified.attest,
            signature: certified.signature,
            public: unsized_part(&held.public).unwrap_or_default().to_vec(),
        })
    }
}

/// A key as the module holds it.
struct Held {
    // TPM2B_PUBLIC, TPM2B_PRIVATE, and the authorisation value, encrypted.
    public: Vec<u8>,
    private: Vec<u8>,
    auth: Vec<u8>,
}

impl Held {
    /// Reads it, and refuses any but the key that was bound. That its private part is the one of this
    /// public area the TPM checks when it loads both (part 3 §12.2).
    fn read(at: &At<'_>, key: &BoundKey) -> Result<Self, WorkerError> {
        let read = |attribute| -> Result<Vec<u8>, WorkerError> {
            let found = at
                .session
                .get_attributes(key.handle, &[AttributeType::VendorDefined(attribute)])
                .map_err(|e| module_error(&e))?;
            let found = found.into_iter().find_map(|a| match a {
                Attribute::VendorDefined((_, bytes)) if !bytes.is_empty() => Some(bytes),
                _ => None,
            });
            found.ok_or_else(|| other_key(&format!("it has no attribute 0x{attribute:08x}")))
        };
        let held = Self {
            public: read(CKA_TPM2_PUB_BLOB)?,
            private: read(CKA_TPM2_PRIV_BLOB)?,
            auth: read(CKA_TPM2_OBJAUTH_ENC)?,
        };
        let area = unsized_part(&held.public)
            .and_then(PublicArea::parse)
            .ok_or_else(|| other_key("its public area is not a signing key's"))?;
        if area.spki.as_ref() != Some(&key.spki) {
            return Err(other_key("its public key is not the one that was bound"));
        }
        if !fixed_and_sign_only(area.attributes) {
            let seen = format!("its TPMA_OBJECT is {:08x}", area.attributes);
            return Err(other_key(&seen));
        }
        Ok(held)
    }
}

fn other_key(problem: &str) -> WorkerError {
    EvidenceProblem::OtherKey {
        problem: problem.to_owned(),
    }
    .into()
}

/// What is private to a module is read in the version that it was read in before.
fn known_module(at: &At<'_>) -> Result<(), WorkerError> {
    let info = at
        .token
        .module()
        .pkcs11()
        .get_library_info()
        .map_err(|e| module_error(&e))?;
    let version = info.library_version();
    let maker = info.manufacturer_id().trim_end();
    if maker == MANUFACTURER && (version.major(), version.minor()) == VERSION {
        return Ok(());
    }
    Err(EvidenceProblem::UnknownModule {
        known: format!("{MANUFACTURER} {}.{}", VERSION.0, VERSION.1),
        seen: format!("{maker} {}.{}", version.major(), version.minor()),
    }
    .into())
}

/// The attestation key: the one kept, or one made now. What is kept opens in this TPM alone, so the file
/// is no secret, and a copy of it no key.
fn attestation_key(
    at: &At<'_>,
    device: &mut Device,
    endorsement: &Endorsement,
) -> Result<AttestationKey, WorkerError> {
    let path = at.dir.token_file(KEPT);
    let broken =
        |e: &dyn std::fmt::Display| WorkerError::StateBroken(format!("{}: {e}", path.display()));
    let read = || read_bounded(&path, 16 * 1024).map_err(|e| broken(&e));
    let bytes = match read()? {
        Some(bytes) => bytes,
        None => {
            let made = device.make_attestation_key(endorsement)?;
            let kept = Kept {
                version: 1,
                public: STANDARD.encode(&made.public),
                private: STANDARD.encode(&made.private),
            };
            let kept = serde_json::to_vec(&kept).map_err(|e| broken(&e))?;
            if create_durably(&path, &kept).map_err(|e| broken(&e))? {
                tracing::info!(file = %path.display(), "made the TPM's attestation key");
            }
            // Who was first with the file has made the key.
            read()?.ok_or_else(|| broken(&"is gone"))?
        }
    };
    let of_no_use = |problem: &str| -> WorkerError {
        EvidenceProblem::AttestationKey {
            file: path.display().to_string(),
            problem: problem.to_owned(),
        }
        .into()
    };
    let kept: Kept =
        serde_json::from_slice(&bytes).map_err(|_| of_no_use("is not as it was written"))?;
    let part = |text: &str| {
        STANDARD
            .decode(text)
            .map_err(|_| of_no_use("is not as it was written"))
    };
    let key = AttestationKey {
        public: part(&kept.public)?,
        private: part(&kept.private)?,
    };
    let attributes = PublicArea::parse(&key.public).map(|a| a.attributes);
    if kept.version != 1 || attributes != Some(RESTRICTED_SIGNING) {
        return Err(of_no_use("is not a restricted signing key"));
    }
    Ok(key)
}

fn load(
    at: &At<'_>,
    device: &mut Device,
    endorsement: &Endorsement,
    key: &AttestationKey,
) -> Result<KeyHandle, WorkerError> {
    device
        .load_attestation_key(endorsement, key)?
        .map_err(|problem| {
            EvidenceProblem::AttestationKey {
                file: at.dir.token_file(KEPT).display().to_string(),
                problem: format!(
                    "{problem}; move the file away, and the next request makes a new one"
                ),
            }
            .into()
        })
}
