//! Does this leaf allow this signature? The leaf is known to be in the log ([`crate::key_log`]).

use countersign_core::{KeyId, TenantId};
use countersign_hsm_protocol::WorkerError;
use countersign_hsm_protocol::message::SignRequest;
use countersign_signing_log::commitment::{LABEL_TBS, digest_text};
use countersign_signing_log::{Leaf, LeafBody, Opening, Salt};

/// Checks that the leaf authorises exactly what is asked: tenant, key, scheme and digest.
///
/// # Errors
/// The exact refusal.
pub fn check_leaf(tenant: TenantId, request: &SignRequest) -> Result<(), WorkerError> {
    if request.digest.algorithm() != request.scheme.hash() {
        return Err(WorkerError::DigestNotOfScheme);
    }
    let leaf =
        Leaf::decode(&request.leaf).map_err(|e| WorkerError::LeafMalformed(e.to_string()))?;
    let LeafBody::Authorisation(authorisation) = leaf.body else {
        return Err(WorkerError::NotAnAuthorisation);
    };
    if authorisation.tenant.parse::<TenantId>() != Ok(tenant) {
        return Err(WorkerError::LeafWrongTenant);
    }
    if authorisation.key.parse::<KeyId>() != Ok(request.key) {
        return Err(WorkerError::LeafWrongKey);
    }
    if authorisation.scheme != request.scheme.as_str() {
        return Err(WorkerError::LeafWrongScheme);
    }
    let opening = Opening {
        salt: Salt(request.tbs_salt),
        value: digest_text(
            request.digest.algorithm().as_str(),
            request.digest.as_bytes(),
        )
        .into_bytes(),
    };
    if authorisation.tbs.opens(LABEL_TBS, &opening) {
        Ok(())
    } else {
        Err(WorkerError::LeafWrongDigest)
    }
}
