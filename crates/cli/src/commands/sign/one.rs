//! Signing one file: hash, ask, check what came, timestamp, write.

use super::timestamp::Authorities;
use crate::context::verifier_key;
use crate::exit::Exit;
use crate::failure::{Failure, Result};
use crate::home::{Pin, sha256_hex};
use countersign_client::{Client, dto};
use countersign_content::Submission;
use countersign_core::{SignatureScheme, SignerLabel, TenantName};
use countersign_formats::files::atomic_replace;
use countersign_formats::{Format, FormatError, Options, Prepared, finish, prepare};
use countersign_signing_log::commitment::digest_text;
use countersign_signing_log::{Receipt, VerifiedReceipt};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::sync::Mutex;

/// What all files of a run have in common.
pub(super) struct Job {
    pub client: Client,
    pub tenant: TenantName,
    pub signer: SignerLabel,
    /// Renewed when the service signs with a newer one.
    pub certificate: Mutex<dto::SignerCertificate>,
    pub options: Options,
    pub detached: bool,
    pub receipt_dir: Option<PathBuf>,
    pub retry_id: Option<String>,
    pub timestamps: Authorities,
    pub pin: Pin,
}

/// A file that was signed.
pub(super) struct Signed {
    pub file: PathBuf,
    pub output: PathBuf,
    pub receipt: PathBuf,
    pub format: Format,
    pub digest: String,
    pub key: String,
    pub request: String,
    pub origin: String,
    pub index: u64,
    pub size: u64,
    pub timestamp: Option<String>,
    pub checkpoint_note: String,
}

impl Signed {
    pub(super) fn line(&self) -> String {
        format!(
            "signed {} (receipt {}, leaf {})",
            self.output.display(),
            self.receipt.display(),
            self.index
        )
    }

    pub(super) fn json(&self) -> Value {
        json!({
            "file": self.file,
            "output": self.output,
            "receipt": self.receipt,
            "content": self.format.content_type(),
            "digest": self.digest,
            "key": self.key,
            "request": self.request,
            "log": self.origin,
            "index": self.index,
            "timestamp": self.timestamp,
        })
    }
}

impl Job {
    /// Signs one file. Nothing is written before everything was checked.
    pub(super) fn sign(&self, file: &Path) -> Result<Signed> {
        match self.attempt(file, self.certificate()?) {
            // Renewed between our two questions: hash again with the new one.
            Err(f) if f.code == OTHER_CERTIFICATE => {
                let renewed = self.client.signer_certificate(&self.tenant, &self.signer)?;
                if let Ok(mut slot) = self.certificate.lock() {
                    *slot = renewed.clone();
                }
                self.attempt(file, leaf(&renewed)?)
            }
            other => other,
        }
    }

    fn attempt(&self, file: &Path, certificate: Vec<u8>) -> Result<Signed> {
        let format = if self.detached {
            Format::Detached
        } else {
            Format::detect(file)?
        };
        let prepared = prepare(format, file, &certificate, &self.options)?;
        let request = request(&prepared);
        let idempotency_key = self.idempotency_key(&request)?;
        let answer = self
            .client
            .sign(&self.tenant, &self.signer, &request, &idempotency_key)?;
        let mut signed = countersign_formats::Signed {
            scheme: scheme(&answer)?,
            signature: answer.signature.0.clone(),
            chain: answer
                .certificate_chain
                .iter()
                .map(|c| c.0.clone())
                .collect(),
            timestamp: None,
        };
        prepared.check(&signed).map_err(|e| match e {
            FormatError::OtherCertificate => {
                Failure::new(Exit::Unavailable, OTHER_CERTIFICATE, e.to_string())
            }
            e => e.into(),
        })?;
        let digest = digest_text(
            prepared.artifact.algorithm().as_str(),
            prepared.artifact.as_bytes(),
        );
        let (receipt, verified) = self.check_receipt(&answer, &digest)?;
        let stamped = self
            .timestamps
            .stamp(prepared.digest_algorithm, &signed.signature)?;
        signed.timestamp = stamped.as_ref().map(|t| t.token.clone());

        let output = finish(prepared, &signed)?;
        let receipt_path = self.receipt_path(file, &output.target, format)?;
        // First: a receipt without its file says no more than the log does.
        atomic_replace(&receipt_path, answer.receipt.as_bytes())?;
        output.write()?;
        Ok(Signed {
            file: file.to_owned(),
            output: output.target,
            receipt: receipt_path,
            format,
            digest,
            key: answer.key,
            request: answer.request,
            origin: verified.checkpoint.origin,
            index: verified.index,
            size: verified.checkpoint.size,
            timestamp: stamped.map(|t| t.time),
            checkpoint_note: receipt.checkpoint_note,
        })
    }

    /// The receipt must prove, by the pinned log key, that this very file was authorised for this
    /// signer and key: else the signature is not used.
    fn check_receipt(
        &self,
        answer: &dto::Signature,
        digest: &str,
    ) -> Result<(Receipt, VerifiedReceipt)> {
        let bad = |what: String| {
            Failure::bad(
                "receipt-bad",
                format!("the service's receipt is bad: {what}"),
            )
            .hint("the file was not changed; ask the operator, with the request id")
        };
        let key = verifier_key(&self.pin, &answer.log.origin)?;
        if answer.log.vkey != key.to_string() {
            return Err(Failure::bad(
                "keys-changed",
                "the log key is not the one pinned: the service may be another, or be tampered with",
            )
            .hint("compare with `countersign service keys`; the file was not changed"));
        }
        let receipt = Receipt::parse(&answer.receipt).map_err(|e| bad(e.to_string()))?;
        let verified = receipt.verify(&[key]).map_err(|e| bad(e.to_string()))?;
        receipt
            .opens_artifact(&verified, digest)
            .map_err(|e| bad(e.to_string()))?;
        let leaf = verified
            .authorisation()
            .ok_or_else(|| bad("not an authorisation".to_owned()))?;
        for (what, leaf, answer) in [
            ("key", leaf.key.as_str(), answer.key.as_str()),
            ("signer", leaf.signer.as_str(), self.signer.as_str()),
            ("scheme", leaf.scheme.as_str(), answer.scheme.as_str()),
        ] {
            if leaf != answer {
                return Err(bad(format!("its {what} is {leaf}, not {answer}")));
            }
        }
        Ok((receipt, verified))
    }

    fn certificate(&self) -> Result<Vec<u8>> {
        let slot = self.certificate.lock();
        slot.map_err(|_| Failure::new(Exit::Internal, "lock", "another file broke the run"))
            .and_then(|c| leaf(&c))
    }

    /// With a retry id the same file gives the same key, so that a build that is run again gets the
    /// signature it may have lost.
    fn idempotency_key(&self, request: &dto::SignatureRequest) -> Result<String> {
        let Some(id) = &self.retry_id else {
            return Ok(Client::idempotency_key());
        };
        let bytes = serde_json::to_vec(request)
            .map_err(|e| Failure::new(Exit::Internal, "json", e.to_string()))?;
        Ok(sha256_hex(&[id.as_bytes(), b"\0", &bytes].concat()))
    }

    /// `NAME.tlog-proof`, where NAME is the file that people verify.
    fn receipt_path(&self, file: &Path, target: &Path, format: Format) -> Result<PathBuf> {
        let verified = match format {
            Format::Pe => target,
            Format::Detached => file,
        };
        let mut name = verified
            .file_name()
            .ok_or_else(|| Failure::usage("a file needs a name"))?
            .to_owned();
        name.push(".tlog-proof");
        let dir = match &self.receipt_dir {
            Some(dir) => {
                std::fs::create_dir_all(dir).map_err(|e| Failure::file(dir, &e))?;
                dir.as_path()
            }
            None => target.parent().unwrap_or(Path::new("")),
        };
        Ok(dir.join(name))
    }
}

const OTHER_CERTIFICATE: &str = "other-certificate";

fn request(prepared: &Prepared) -> dto::SignatureRequest {
    let content = match prepared.submission.clone() {
        Submission::Authenticode {
            signed_attributes,
            indirect_data,
        } => dto::Content::Authenticode {
            signed_attributes: signed_attributes.into(),
            indirect_data: indirect_data.into(),
        },
        Submission::Cms { signed_attributes } => dto::Content::Cms {
            signed_attributes: signed_attributes.into(),
        },
        Submission::RawDigest { digest } => dto::Content::RawDigest {
            digest: digest.into(),
        },
    };
    dto::SignatureRequest {
        content,
        digest_algorithm: prepared.digest_algorithm,
    }
}

fn scheme(answer: &dto::Signature) -> Result<SignatureScheme> {
    answer
        .scheme
        .parse()
        .map_err(|e| Failure::new(Exit::Internal, "bad-answer", format!("{e}")))
}

fn leaf(certificate: &dto::SignerCertificate) -> Result<Vec<u8>> {
    let first = certificate.certificate_chain.first();
    first.map(|c| c.0.clone()).ok_or_else(|| {
        Failure::new(
            Exit::Internal,
            "bad-answer",
            "the service sent no certificate",
        )
    })
}
