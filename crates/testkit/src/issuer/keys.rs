//! The issuer's signing keys: one of each algorithm under one generation, older ones kept so that
//! their tokens still verify after a rotation.

use crate::error::{Error, Result};
use jsonwebtoken::jwk::Jwk;
use jsonwebtoken::{Algorithm, EncodingKey};
use rcgen::KeyPair;
use serde::{Deserialize, Serialize};

/// All keys, newest last.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Keys {
    keys: Vec<StoredKey>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct StoredKey {
    kid: String,
    alg: Algorithm,
    pem: String,
}

impl Keys {
    pub(super) fn new() -> Result<Self> {
        let mut keys = Self { keys: Vec::new() };
        keys.rotate()?;
        Ok(keys)
    }

    /// Adds a new generation; it signs from now on.
    pub(super) fn rotate(&mut self) -> Result<()> {
        for (alg, kind) in [
            (Algorithm::ES256, &rcgen::PKCS_ECDSA_P256_SHA256),
            (Algorithm::RS256, &rcgen::PKCS_RSA_SHA256),
        ] {
            let pair = KeyPair::generate_for(kind).map_err(token)?;
            self.keys.push(StoredKey {
                kid: format!("{alg:?}-{}", uuid::Uuid::new_v4().simple()),
                alg,
                pem: pair.serialize_pem(),
            });
        }
        Ok(())
    }

    /// The newest key for `alg`, or the one named.
    pub(super) fn signing_key(
        &self,
        alg: Algorithm,
        kid: Option<&str>,
    ) -> Result<(String, EncodingKey)> {
        let key = self
            .keys
            .iter()
            .rev()
            .find(|k| k.alg == alg && kid.is_none_or(|kid| kid == k.kid))
            .ok_or_else(|| Error::Token(format!("no {alg:?} key {}", kid.unwrap_or(""))))?;
        Ok((key.kid.clone(), key.encoding()?))
    }

    /// Public keys of all generations.
    pub(super) fn jwks(&self) -> Result<serde_json::Value> {
        let keys = self
            .keys
            .iter()
            .map(|k| {
                let mut jwk = Jwk::from_encoding_key(&k.encoding()?, k.alg).map_err(token)?;
                jwk.common.key_id = Some(k.kid.clone());
                jwk.common.public_key_use = Some(jsonwebtoken::jwk::PublicKeyUse::Signature);
                serde_json::to_value(jwk).map_err(token)
            })
            .collect::<Result<Vec<_>>>()?;
        Ok(serde_json::json!({ "keys": keys }))
    }
}

impl StoredKey {
    fn encoding(&self) -> Result<EncodingKey> {
        match self.alg {
            Algorithm::ES256 => EncodingKey::from_ec_pem(self.pem.as_bytes()),
            _ => EncodingKey::from_rsa_pem(self.pem.as_bytes()),
        }
        .map_err(token)
    }
}

pub(super) fn token(e: impl std::fmt::Display) -> Error {
    Error::Token(e.to_string())
}
