//! Evidence that somebody hands in for a key that need not be ours: a CA before issuance, a subscriber
//! before an order. Nothing is kept, nothing of any tenant is read.

use crate::enrolment::{MAX_EVIDENCE_BYTES, MAX_EVIDENCE_FILES};
use crate::{Service, SigningError};
use countersign_attestation::result::AttestationResult;
use countersign_attestation::time::UnixSeconds;
use countersign_attestation::verify::{File, Policy, Question, Requirement, SubjectFile, verify};
use countersign_core::Micros;
use countersign_core::text::disguises;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Semaphore;

/// Appraisals at once for callers with a service token. Keys that live here have places of their own
/// (`crate::enrolment`): what anybody hands in delays no order.
const KNOWN_AT_ONCE: usize = 2;
/// And for callers without one: they wait for each other, and nobody for them.
const STRANGERS_AT_ONCE: usize = 1;
/// Longest a request waits for its turn.
const TURN: Duration = Duration::from_secs(5);
/// Most requirements.
const MAX_REQUIREMENTS: usize = 32;
/// Longest of them.
const MAX_REQUIREMENT: usize = 256;
/// Longest name of a file.
const MAX_NAME: usize = 255;

/// The key in question.
#[derive(Debug, Clone)]
pub enum HandedKey {
    /// A certificate request, PEM or DER. Evidence may be inside it.
    Csr(Vec<u8>),
    /// A public key, PEM or DER.
    PublicKey(Vec<u8>),
}

/// What is handed in.
#[derive(Debug, Clone)]
pub struct HandedEvidence {
    /// The key.
    pub key: HandedKey,
    /// Names and bytes of the files.
    pub files: Vec<(String, Vec<u8>)>,
    /// The nonce it was made for, if there was one.
    pub nonce: Option<Vec<u8>>,
    /// What is demanded on top of the policy `origin`.
    pub require: Vec<String>,
    /// The moment of appraisal; now if `None`.
    pub at: Option<Micros>,
}

/// Who asks: each kind has places of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Asking {
    /// Somebody with a service token.
    Known,
    /// Somebody without.
    Stranger,
}

/// Places for appraisals of what is handed in.
#[derive(Debug)]
pub(crate) struct Places {
    known: Arc<Semaphore>,
    strangers: Arc<Semaphore>,
}

impl Default for Places {
    fn default() -> Self {
        Self {
            known: Arc::new(Semaphore::new(KNOWN_AT_ONCE)),
            strangers: Arc::new(Semaphore::new(STRANGERS_AT_ONCE)),
        }
    }
}

impl Places {
    pub(crate) fn of(&self, asking: Asking) -> &Arc<Semaphore> {
        match asking {
            Asking::Known => &self.known,
            Asking::Stranger => &self.strangers,
        }
    }

    /// Runs the work in a place, off the threads that serve. The place, and what is held, are given back by
    /// the work itself: a caller who went away does not make it less, and has no more of it by coming back.
    async fn run<T: Send + 'static, H: Send + 'static>(
        &self,
        asking: Asking,
        held: H,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, SigningError> {
        let places = Arc::clone(self.of(asking));
        let Ok(Ok(place)) = tokio::time::timeout(TURN, places.acquire_owned()).await else {
            return Err(SigningError::Busy);
        };
        tokio::task::spawn_blocking(move || {
            let _held = (place, held);
            work()
        })
        .await
        .map_err(|e| SigningError::Internal(format!("appraisal: {e}")))
    }
}

struct Job {
    handed: HandedEvidence,
    policy: Policy,
    at: UnixSeconds,
}

impl Service {
    /// Appraises what was handed in, with this service's anchors. The verdict is an answer, whatever it
    /// is. `held` is what the caller may have so many of: it is dropped when the work ends, not when the
    /// caller goes away.
    ///
    /// # Errors
    /// [`SigningError::Invalid`] names the member; [`SigningError::Busy`]: as many as may are appraised,
    /// retry.
    pub async fn verify_evidence<H: Send + 'static>(
        &self,
        handed: HandedEvidence,
        asking: Asking,
        held: H,
    ) -> Result<AttestationResult, SigningError> {
        let job = self.checked(handed)?;
        let anchors = Arc::clone(&self.settings().anchors);
        let work = move || job.verify(&anchors);
        self.verifications().run(asking, held, work).await
    }

    fn checked(&self, handed: HandedEvidence) -> Result<Job, SigningError> {
        if handed.files.len() > MAX_EVIDENCE_FILES {
            let most = format!("at most {MAX_EVIDENCE_FILES} files");
            return Err(SigningError::invalid("evidence", most));
        }
        let (field, mut all) = match &handed.key {
            HandedKey::Csr(bytes) => ("csr", bytes.len()),
            HandedKey::PublicKey(bytes) => ("public_key", bytes.len()),
        };
        if all == 0 || all > MAX_EVIDENCE_BYTES {
            let most = format!("not empty, and {MAX_EVIDENCE_BYTES} bytes at most");
            return Err(SigningError::invalid(field, most));
        }
        for (i, (name, bytes)) in handed.files.iter().enumerate() {
            if name.is_empty() || name.len() > MAX_NAME || name.chars().any(disguises) {
                let what = format!(
                    "1 to {MAX_NAME} bytes without control characters and marks that turn the direction \
                     of text"
                );
                return Err(SigningError::invalid(format!("evidence[{i}].name"), what));
            }
            all = all.saturating_add(bytes.len());
            if bytes.is_empty() || all > MAX_EVIDENCE_BYTES {
                let what = format!(
                    "not empty, and {MAX_EVIDENCE_BYTES} bytes at most with the key and all other files"
                );
                return Err(SigningError::invalid(
                    format!("evidence[{i}].content"),
                    what,
                ));
            }
        }
        if handed
            .nonce
            .as_ref()
            .is_some_and(|n| !(1..=64).contains(&n.len()))
        {
            return Err(SigningError::invalid("nonce", "1 to 64 bytes"));
        }
        if handed.require.len() > MAX_REQUIREMENTS {
            let most = format!("at most {MAX_REQUIREMENTS} requirements");
            return Err(SigningError::invalid("require", most));
        }
        let mut policy = Policy::origin();
        for (i, word) in handed.require.iter().enumerate() {
            let field = || format!("require[{i}]");
            if word.len() > MAX_REQUIREMENT || word.chars().any(disguises) {
                let what = format!(
                    "at most {MAX_REQUIREMENT} bytes without control characters and marks that turn the \
                     direction of text"
                );
                return Err(SigningError::invalid(field(), what));
            }
            let requirement: Requirement = word
                .parse()
                .map_err(|e| SigningError::invalid(field(), format!("{e}")))?;
            policy = policy.require(requirement);
        }
        let at = handed.at.unwrap_or_else(|| self.clock().now());
        let at = UnixSeconds::from_micros(at.0).ok_or_else(|| {
            SigningError::invalid("at", "the years 1970 to 9999 can be appraised at")
        })?;
        Ok(Job { handed, policy, at })
    }
}

impl Job {
    fn verify(&self, anchors: &countersign_attestation::Anchors) -> AttestationResult {
        let evidence: Vec<File<'_>> = self
            .handed
            .files
            .iter()
            .map(|(name, bytes)| File { name, bytes })
            .collect();
        let subject = match &self.handed.key {
            HandedKey::Csr(bytes) => SubjectFile::Csr(File { name: "csr", bytes }),
            HandedKey::PublicKey(bytes) => SubjectFile::PublicKey(File {
                name: "public_key",
                bytes,
            }),
        };
        verify(&Question {
            subject,
            evidence: &evidence,
            at: self.at,
            nonce: self.handed.nonce.as_deref(),
            policy: &self.policy,
            anchors,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;

    /// Says when it was given back.
    struct Held(Option<tokio::sync::oneshot::Sender<()>>);

    impl Drop for Held {
        fn drop(&mut self) {
            if let Some(back) = self.0.take() {
                let _ = back.send(());
            }
        }
    }

    #[tokio::test]
    async fn what_a_caller_holds_comes_back_when_the_work_ends_not_when_they_leave() {
        let places = Places::default();
        let (back, mut given_back) = tokio::sync::oneshot::channel();
        let (begun, has_begun) = tokio::sync::oneshot::channel();
        let (end, may_end) = mpsc::channel::<()>();
        let work = move || {
            let _ = begun.send(());
            let _ = may_end.recv();
        };
        let held = Held(Some(back));
        {
            let request = places.run(Asking::Stranger, held, work);
            tokio::pin!(request);
            tokio::select! {
                done = &mut request => panic!("{done:?}"),
                begun = has_begun => begun.unwrap(),
            }
            // The caller leaves.
        }
        assert!(given_back.try_recv().is_err());
        assert_eq!(places.strangers.available_permits(), STRANGERS_AT_ONCE - 1);
        end.send(()).unwrap();
        given_back.await.unwrap();
        let _place = places.strangers.acquire().await.unwrap();
    }
}
