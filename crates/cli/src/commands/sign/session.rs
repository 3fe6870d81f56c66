//! The session of a run: exchanged anew when it nears its end, as long as the platform has a token
//! to give.

use crate::context::Context;
use crate::failure::{Failure, Result};
use countersign_client::Client;
use countersign_core::{SignerLabel, TenantName};
use std::sync::Mutex;

/// A session that several threads share.
pub(super) struct Session<'a> {
    context: &'a Context,
    tenant: &'a TenantName,
    signer: &'a SignerLabel,
    /// How often the service did not know it any more; `None` before its first use.
    renewed: Mutex<Option<u64>>,
}

impl<'a> Session<'a> {
    pub(super) const fn new(
        context: &'a Context,
        tenant: &'a TenantName,
        signer: &'a SignerLabel,
    ) -> Self {
        Self {
            context,
            tenant,
            signer,
            renewed: Mutex::new(None),
        }
    }

    /// A client with a token that still lives, and which one it is.
    ///
    /// # Errors
    /// Refused, if the token has ended and there is no other.
    pub(super) fn client(&self) -> Result<(Client, u64)> {
        let mut renewed = self.lock()?;
        self.open(&mut renewed)
    }

    /// Another client, since the service did not know that token (it restarted with another key).
    ///
    /// # Errors
    /// As [`Session::client`].
    pub(super) fn renew(&self, refused: u64) -> Result<(Client, u64)> {
        let mut renewed = self.lock()?;
        // Unless another thread did it already.
        if *renewed == Some(refused) {
            self.context
                .forget_signing_session(self.tenant, self.signer)?;
            *renewed = Some(refused.wrapping_add(1));
        }
        self.open(&mut renewed)
    }

    fn open(&self, renewed: &mut Option<u64>) -> Result<(Client, u64)> {
        // From the home folder, unless it ends within seconds; then by an exchange.
        match self.context.signing_session(self.tenant, self.signer) {
            Ok(client) => Ok((client, *renewed.get_or_insert(0))),
            Err(f) if renewed.is_some() && f.code == "token-replayed" => Err(Failure::new(
                f.exit,
                "session-ended",
                "the session has ended, and this job's ID token is used up",
            )
            .hint(
                "run the same command with a fresh ID token (another job, or \
                 COUNTERSIGN_ID_TOKEN_FILE that the platform keeps fresh): it signs the rest",
            )),
            Err(f) => Err(f),
        }
    }

    fn lock(&self) -> Result<std::sync::MutexGuard<'_, Option<u64>>> {
        self.renewed.lock().map_err(|_| {
            Failure::new(
                crate::exit::Exit::Internal,
                "lock",
                "another thread broke the run",
            )
        })
    }
}
