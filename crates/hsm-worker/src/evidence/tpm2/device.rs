//! The TPM itself, for one request: what is loaded here is flushed when this ends.

use super::codes::{code, no_such_handle, refuses_what_was_given, said};
use super::store::Sealed;
use countersign_hsm_protocol::{EvidenceProblem, WorkerError};
use std::str::FromStr;
use tss_esapi::abstraction::{AsymmetricAlgorithmSelection, DefaultKey, ak, ek, nv};
use tss_esapi::attributes::SessionAttributesBuilder;
use tss_esapi::constants::SessionType;
use tss_esapi::handles::{
    AuthHandle, KeyHandle, NvIndexTpmHandle, ObjectHandle, PersistentTpmHandle, SessionHandle,
    TpmHandle,
};
use tss_esapi::interface_types::algorithm::{HashingAlgorithm, SignatureSchemeAlgorithm};
use tss_esapi::interface_types::ecc::EccCurve;
use tss_esapi::interface_types::key_bits::RsaKeyBits;
use tss_esapi::interface_types::resource_handles::NvAuth;
use tss_esapi::interface_types::session_handles::{AuthSession, PolicySession};
use tss_esapi::structures::{
    Auth, Data, EncryptedSecret, IdObject, Private, Public, SensitiveData, SignatureScheme,
    SymmetricDefinition,
};
use tss_esapi::traits::{Marshall, UnMarshall};
use tss_esapi::{Context, TctiNameConf};
use zeroize::Zeroizing;

/// The variable that says how the TPM is reached: the module's own.
pub const TCTI: &str = "TPM2_PKCS11_TCTI";
/// Longest endorsement certificate.
const MAX_CERTIFICATE: usize = 8 * 1024;

/// An endorsement key as the TCG lays it down (EK Credential Profile §2.2.1.4, the low range).
#[derive(Debug, Clone, Copy)]
struct Template {
    certificate: u32,
    // Where a maker or a provisioning tool may have put the key itself.
    persistent: Option<u32>,
    key: AsymmetricAlgorithmSelection,
}

const TEMPLATES: [Template; 2] = [
    Template {
        certificate: 0x01c0_0002,
        persistent: Some(0x8101_0001),
        key: AsymmetricAlgorithmSelection::Rsa(RsaKeyBits::Rsa2048),
    },
    Template {
        certificate: 0x01c0_000a,
        persistent: None,
        key: AsymmetricAlgorithmSelection::Ecc(EccCurve::NistP256),
    },
];

/// An attestation key, as it is kept outside the TPM: of use in this TPM alone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AttestationKey {
    /// TPMT_PUBLIC.
    pub public: Vec<u8>,
    /// TPM2B_PRIVATE without its size, encrypted under the endorsement key.
    pub private: Vec<u8>,
}

/// What `TPM2_Certify` gave.
#[derive(Debug)]
pub struct Certified {
    /// TPMS_ATTEST.
    pub attest: Vec<u8>,
    /// TPMT_SIGNATURE.
    pub signature: Vec<u8>,
}

/// The endorsement key, loaded, and its certificate.
#[derive(Debug)]
pub struct Endorsement {
    handle: KeyHandle,
    /// DER.
    pub certificate: Vec<u8>,
}

/// A connection to the TPM. Dropped: everything loaded through it is flushed.
#[derive(Debug)]
pub struct Device {
    tpm: Context,
}

impl Device {
    /// Connects as the token's environment says.
    ///
    /// # Errors
    /// [`EvidenceProblem::Unconfigured`], or the TPM's.
    pub fn open() -> Result<Self, WorkerError> {
        let unconfigured = |problem: String| EvidenceProblem::Unconfigured {
            variable: TCTI.into(),
            problem,
        };
        let text = std::env::var(TCTI).map_err(|_| unconfigured("is not set".into()))?;
        let tcti = tcti(&text).ok_or_else(|| {
            unconfigured(format!(
                "`{text}` is not device:/PATH, tabrmd[:…], or swtpm: or mssim: with host=… and port=…"
            ))
        })?;
        Ok(Self {
            tpm: Context::new(tcti).map_err(said("Tss2_TctiLdr_Initialize"))?,
        })
    }

    /// The endorsement key of the first certificate that the TPM has.
    ///
    /// # Errors
    /// [`EvidenceProblem::NoEndorsementCertificate`], [`EvidenceProblem::EndorsementCertificate`], or
    /// the TPM's.
    pub fn endorsement(&mut self) -> Result<Endorsement, WorkerError> {
        for template in TEMPLATES {
            if let Some(certificate) = self.certificate(template.certificate)? {
                let handle = self.endorsement_key(&template, &certificate)?;
                return Ok(Endorsement {
                    handle,
                    certificate,
                });
            }
        }
        let indices = TEMPLATES.map(|t| format!("0x{:08x}", t.certificate));
        Err(EvidenceProblem::NoEndorsementCertificate {
            indices: indices.join(", "),
        }
        .into())
    }

    /// Read with the index's own authorisation, which is empty (EK Credential Profile §2.2.1.5).
    fn certificate(&mut self, index: u32) -> Result<Option<Vec<u8>>, WorkerError> {
        let index = NvIndexTpmHandle::new(index).map_err(said("TPM2_NV_ReadPublic"))?;
        let auth = match self.tpm.tr_from_tpm_public(TpmHandle::NvIndex(index)) {
            Ok(handle) => NvAuth::NvIndex(handle.into()),
            Err(e) if no_such_handle(e) => return Ok(None),
            Err(e) => return Err(said("TPM2_NV_ReadPublic")(e)),
        };
        let bytes = self
            .tpm
            .execute_with_session(Some(AuthSession::Password), |tpm| {
                nv::read_full(tpm, auth, index)
            })
            .map_err(said("TPM2_NV_Read"))?;
        certificate_in(&bytes).map(Some).ok_or_else(|| {
            EvidenceProblem::EndorsementCertificate {
                problem: "is not one in DER".into(),
            }
            .into()
        })
    }

    fn endorsement_key(
        &mut self,
        template: &Template,
        certificate: &[u8],
    ) -> Result<KeyHandle, WorkerError> {
        if let Some(handle) = template.persistent
            && let Some(key) = self.persistent(handle)?
            && self.is_key_of(key, certificate)?
        {
            return Ok(key);
        }
        // The same each time: its seed never changes. A chip may need seconds for RSA.
        let key = ek::create_ek_object_2(&mut self.tpm, template.key, DefaultKey)
            .map_err(said("TPM2_CreatePrimary"))?;
        if self.is_key_of(key, certificate)? {
            return Ok(key);
        }
        Err(EvidenceProblem::EndorsementCertificate {
            problem: "names another key than the TPM's template gives".into(),
        }
        .into())
    }

    fn persistent(&mut self, handle: u32) -> Result<Option<KeyHandle>, WorkerError> {
        let handle = PersistentTpmHandle::new(handle).map_err(said("TPM2_ReadPublic"))?;
        match self.tpm.tr_from_tpm_public(TpmHandle::Persistent(handle)) {
            Ok(key) => Ok(Some(key.into())),
            Err(e) if no_such_handle(e) => Ok(None),
            Err(e) => Err(said("TPM2_ReadPublic")(e)),
        }
    }

    /// Whether the certificate holds this very key. No proof, and none is needed: a challenge to the
    /// certificate's key can be answered by no other. It says early what is wrong.
    fn is_key_of(&mut self, key: KeyHandle, certificate: &[u8]) -> Result<bool, WorkerError> {
        let (public, _, _) = self.tpm.read_public(key).map_err(said("TPM2_ReadPublic"))?;
        let held = match &public {
            Public::Rsa { unique, .. } => unique.value().to_vec(),
            Public::Ecc { unique, .. } => [unique.x().value(), unique.y().value()].concat(),
            _ => Vec::new(),
        };
        Ok(held.len() >= 32 && certificate.windows(held.len()).any(|w| w == held))
    }

    /// Makes an attestation key below the endorsement key: RSA-2048, restricted to what the TPM itself
    /// makes, for ever in this TPM. RSA, because every verifier knows it: step-ca's knows nothing else
    /// (go-attestation, `CertificationParameters.Verify`), and the endorsement key that vouches for it
    /// is RSA-2048 in nearly every TPM.
    ///
    /// # Errors
    /// The TPM's.
    pub fn make_attestation_key(
        &mut self,
        endorsement: &Endorsement,
    ) -> Result<AttestationKey, WorkerError> {
        let made = ak::create_ak(
            &mut self.tpm,
            endorsement.handle,
            HashingAlgorithm::Sha256,
            SignatureSchemeAlgorithm::RsaSsa,
            None,
            DefaultKey,
        )
        .map_err(said("TPM2_Create"))?;
        Ok(AttestationKey {
            public: made.out_public.marshall().map_err(said("TPM2_Create"))?,
            private: made.out_private.value().to_vec(),
        })
    }

    /// Loads it. The TPM checks that both parts belong together, and below this endorsement key.
    ///
    /// # Errors
    /// The TPM's; `None` if it refuses these parts.
    pub fn load_attestation_key(
        &mut self,
        endorsement: &Endorsement,
        key: &AttestationKey,
    ) -> Result<Result<KeyHandle, String>, WorkerError> {
        let parts = Public::unmarshall(&key.public)
            .and_then(|public| Ok((public, Private::try_from(key.private.as_slice())?)));
        let Ok((public, private)) = parts else {
            return Ok(Err("is not as it was written".into()));
        };
        match ak::load_ak(&mut self.tpm, endorsement.handle, None, private, public) {
            Ok(handle) => Ok(Ok(handle)),
            Err(e) if refuses_what_was_given(e) => Ok(Err(format!(
                "the TPM does not take it ({}): it is of another TPM, or of this one before its \
                 endorsement seed was changed",
                number(e)
            ))),
            Err(e) => Err(said("TPM2_Load")(e)),
        }
    }

    /// `TPM2_ActivateCredential`: what a CA hid for this endorsement key and this attestation key.
    ///
    /// # Errors
    /// [`EvidenceProblem::ChallengeRefused`], or the TPM's.
    pub fn activate(
        &mut self,
        endorsement: &Endorsement,
        attestation_key: KeyHandle,
        id_object: &[u8],
        encrypted_secret: &[u8],
    ) -> Result<Zeroizing<Vec<u8>>, WorkerError> {
        const COMMAND: &str = "TPM2_ActivateCredential";
        let blob = IdObject::try_from(id_object).map_err(said(COMMAND))?;
        let secret = EncryptedSecret::try_from(encrypted_secret).map_err(said(COMMAND))?;
        // The endorsement key is used by its policy alone: whoever has the endorsement hierarchy's
        // authorisation, which is empty unless its owner set one.
        let policy = self.session(SessionType::Policy, endorsement.handle)?;
        let policy_session = PolicySession::try_from(policy).map_err(said("TPM2_PolicySecret"))?;
        self.tpm
            .execute_with_session(Some(AuthSession::Password), |tpm| {
                tpm.policy_secret(
                    policy_session,
                    AuthHandle::Endorsement,
                    Default::default(),
                    Default::default(),
                    Default::default(),
                    None,
                )
            })
            .map_err(said("TPM2_PolicySecret"))?;
        let sessions = (Some(AuthSession::Password), Some(policy), None);
        let answer = self.tpm.execute_with_sessions(sessions, |tpm| {
            tpm.activate_credential(attestation_key, endorsement.handle, blob, secret)
        });
        match answer {
            Ok(secret) => Ok(Zeroizing::new(secret.value().to_vec())),
            // libtpms says TPM_RC_FAILURE of a seed that is not encrypted to its key.
            Err(e) if refuses_what_was_given(e) || code(e) == Some(0x101) => {
                Err(EvidenceProblem::ChallengeRefused { code: number(e) }.into())
            }
            Err(e) => Err(said(COMMAND)(e)),
        }
    }

    /// The storage key above a token's keys, and a session in which neither its answers nor anybody's
    /// authorisation cross the bus in clear.
    ///
    /// # Errors
    /// [`EvidenceProblem::Store`] if there is no such key, or the TPM's.
    pub fn storage(&mut self, sealed: &Sealed) -> Result<Storage, WorkerError> {
        let parent = self
            .persistent(sealed.parent)?
            .ok_or_else(|| EvidenceProblem::Store {
                problem: format!("the TPM has no key at 0x{:08x}", sealed.parent),
            })?;
        Ok(Storage {
            parent,
            session: self.session(SessionType::Hmac, parent)?,
        })
    }

    /// `TPM2_Unseal`.
    ///
    /// # Errors
    /// The TPM's. A wrong authorisation counts in its dictionary-attack protection.
    pub fn unseal(
        &mut self,
        storage: &Storage,
        sealed: &Sealed,
        auth: &str,
    ) -> Result<SensitiveData, WorkerError> {
        let object = self.load(storage, &sealed.public, &sealed.private)?;
        self.authorise(object, auth.as_bytes())?;
        let held = self
            .tpm
            .execute_with_session(Some(storage.session), |tpm| tpm.unseal(object.into()))
            .map_err(said("TPM2_Unseal"));
        // Three objects fit into a TPM without a resource manager: this one makes room for the key.
        self.tpm
            .flush_context(object.into())
            .map_err(said("TPM2_FlushContext"))?;
        held
    }

    /// Loads a key or sealed object, from a `TPM2B_PUBLIC` and a `TPM2B_PRIVATE`.
    ///
    /// # Errors
    /// [`EvidenceProblem::Store`] if they are none, or the TPM's.
    pub fn load(
        &mut self,
        storage: &Storage,
        public: &[u8],
        private: &[u8],
    ) -> Result<KeyHandle, WorkerError> {
        let broken = || EvidenceProblem::Store {
            problem: "an object's parts are no TPM2B_PUBLIC and TPM2B_PRIVATE".into(),
        };
        let public = super::public::unsized_part(public).ok_or_else(broken)?;
        let private = super::public::unsized_part(private).ok_or_else(broken)?;
        let public = Public::unmarshall(public).map_err(said("TPM2_Load"))?;
        let private = Private::try_from(private).map_err(said("TPM2_Load"))?;
        self.tpm
            .execute_with_session(Some(storage.session), |tpm| {
                tpm.load(storage.parent, private, public)
            })
            .map_err(said("TPM2_Load"))
    }

    /// Remembers, here and not in the TPM, what authorises the use of an object.
    ///
    /// # Errors
    /// The TPM's, for a value that is too long.
    pub fn authorise(&mut self, object: KeyHandle, auth: &[u8]) -> Result<(), WorkerError> {
        let auth = Auth::try_from(auth).map_err(said("Esys_TR_SetAuth"))?;
        self.tpm
            .tr_set_auth(ObjectHandle::from(object), auth)
            .map_err(said("Esys_TR_SetAuth"))
    }

    /// `TPM2_Certify`: the attestation key signs the key's Name and the nonce (part 3 §18.2).
    ///
    /// # Errors
    /// The TPM's.
    pub fn certify(
        &mut self,
        storage: &Storage,
        key: KeyHandle,
        attestation_key: KeyHandle,
        nonce: &[u8],
    ) -> Result<Certified, WorkerError> {
        const COMMAND: &str = "TPM2_Certify";
        let nonce = Data::try_from(nonce).map_err(said(COMMAND))?;
        // Both keys must be authorised; the attestation key's authorisation is empty.
        let sessions = (Some(storage.session), Some(AuthSession::Password), None);
        let (attest, signature) = self
            .tpm
            .execute_with_sessions(sessions, |tpm| {
                tpm.certify(
                    ObjectHandle::from(key),
                    attestation_key,
                    nonce,
                    SignatureScheme::Null,
                )
            })
            .map_err(said(COMMAND))?;
        Ok(Certified {
            attest: attest.marshall().map_err(said(COMMAND))?,
            signature: signature.marshall().map_err(said(COMMAND))?,
        })
    }

    /// A session that encrypts the first parameter both ways, salted by a key of the TPM: who reads the
    /// bus learns nothing of it (part 1 §19.6).
    fn session(
        &mut self,
        kind: SessionType,
        salted_by: KeyHandle,
    ) -> Result<AuthSession, WorkerError> {
        const COMMAND: &str = "TPM2_StartAuthSession";
        let session = self
            .tpm
            .start_auth_session(
                Some(salted_by),
                None,
                None,
                kind,
                SymmetricDefinition::AES_128_CFB,
                HashingAlgorithm::Sha256,
            )
            .map_err(said(COMMAND))?
            .ok_or_else(|| WorkerError::Internal("the TPM gave no session".into()))?;
        let (attributes, mask) = SessionAttributesBuilder::new()
            .with_decrypt(true)
            .with_encrypt(true)
            .build();
        self.tpm
            .tr_sess_set_attributes(session, attributes, mask)
            .map_err(said(COMMAND))?;
        Ok(session)
    }

    /// Ends a session before others are begun: three fit into a TPM without a resource manager.
    ///
    /// # Errors
    /// The TPM's.
    pub fn close(&mut self, storage: Storage) -> Result<(), WorkerError> {
        self.tpm
            .flush_context(SessionHandle::from(storage.session).into())
            .map_err(said("TPM2_FlushContext"))
    }
}

/// A token's storage key and a session salted by it.
#[derive(Debug)]
pub struct Storage {
    parent: KeyHandle,
    session: AuthSession,
}

fn number(error: tss_esapi::Error) -> String {
    code(error).map_or_else(|| error.to_string(), |c| format!("0x{c:x}"))
}

/// How the TPM is reached. The library takes half a text and adds its defaults, another TPM's: here it
/// must be said in full.
fn tcti(text: &str) -> Option<TctiNameConf> {
    let (name, rest) = text.split_once(':').unwrap_or((text, ""));
    let parts = || rest.split(',').map(|p| p.split_once('='));
    let only = |known: [&str; 2]| parts().all(|p| p.is_some_and(|(k, _)| known.contains(&k)));
    let full = match name {
        "device" => rest.starts_with('/'),
        "swtpm" | "mssim" => {
            only(["host", "port"])
                && ["host", "port"].iter().all(|must| {
                    let values = parts().flatten().filter(|(k, _)| k == must);
                    values.count() == 1
                })
        }
        "tabrmd" => rest.is_empty() || only(["bus_name", "bus_type"]),
        _ => false,
    };
    full.then(|| TctiNameConf::from_str(text).ok()).flatten()
}

/// The certificate in an NV index: a DER SEQUENCE, then what the maker filled up with.
fn certificate_in(bytes: &[u8]) -> Option<Vec<u8>> {
    let length = match bytes.get(..4)? {
        &[0x30, 0x82, high, low] => usize::from(u16::from_be_bytes([high, low])) + 4,
        // Shorter ones do not hold a key and a signature.
        _ => return None,
    };
    (length <= MAX_CERTIFICATE)
        .then(|| bytes.get(..length))
        .flatten()
        .map(<[u8]>::to_vec)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_way_to_the_tpm_is_said_in_full() {
        for good in [
            "device:/dev/tpmrm0",
            "swtpm:host=127.0.0.1,port=2321",
            "mssim:port=2321,host=localhost",
            "tabrmd",
            "tabrmd:bus_type=session",
        ] {
            assert!(tcti(good).is_some(), "{good}");
        }
        for bad in [
            "",
            "device",
            "device:tpmrm0",
            "swtpm",
            "swtpm:path=/run/tpm.sock",
            "swtpm:host=127.0.0.1",
            "swtpm:port=2321,port=2322",
            "swtpm:host=127.0.0.1,port=2321,port=9",
            "swtpm:host=127.0.0.1,port=x",
            "tabrmd:bus=session",
            "libtpms",
        ] {
            assert!(tcti(bad).is_none(), "{bad}");
        }
    }

    #[test]
    fn a_certificate_is_taken_without_what_fills_its_index() {
        let mut index = vec![0x30, 0x82, 0x01, 0x00];
        index.resize(4 + 256, 7);
        let certificate = index.clone();
        index.resize(1024, 0xff);
        assert_eq!(certificate_in(&index), Some(certificate));
        assert_eq!(certificate_in(&index[..200]), None);
        assert_eq!(certificate_in(&[0xff; 600]), None);
        assert_eq!(certificate_in(&[]), None);
    }
}
