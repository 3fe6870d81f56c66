//! One file's two halves: what must be signed, and what becomes of the answer. Between them nothing
//! of the file is held in memory: the second half reads it again and finds out if it changed.

use super::journal::{Done, Journal};
use super::timestamp::Authorities;
use crate::context::verifier_key;
use crate::exit::Exit;
use crate::failure::{Failure, Result};
use crate::home::{Pin, sha256_hex};
use countersign_client::{Client, dto};
use countersign_content::Submission;
use countersign_core::{HashAlgorithm, SignatureScheme, SignerLabel, TenantName};
use countersign_formats::files::{atomic_replace, read_bounded};
use countersign_formats::{
    Existing, Format, FormatError, Options, Prepared, artifact_digest_of, finish, prepare,
};
use countersign_signing_log::commitment::digest_text;
use countersign_signing_log::receipt::MAX_RECEIPT;
use countersign_signing_log::{Receipt, VerifiedReceipt};
use serde_json::{Value, json};
use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// The service signs with another certificate than the one hashed: hash again with that.
pub(super) const OTHER_CERTIFICATE: &str = "other-certificate";
/// Receipts of one file beside each other.
const MAX_RECEIPTS: u32 = 1000;

/// What all files of a run have in common.
pub(super) struct Job {
    pub tenant: TenantName,
    pub signer: SignerLabel,
    pub options: Options,
    pub detached: bool,
    pub receipt_dir: Option<PathBuf>,
    pub timestamps: Authorities,
    pub pin: Pin,
    /// DER; replaced when the service signs with a newer one.
    certificate: Mutex<Vec<u8>>,
    names: Mutex<Names>,
}

/// Names given in this run.
#[derive(Default)]
struct Names {
    /// Item ids, by what is asked: two files of the same bytes are two items.
    ids: HashSet<String>,
    next: HashMap<String, u32>,
    /// Receipts of this run: two files of one name in one folder of receipts.
    receipts: HashSet<PathBuf>,
}

/// A file that was hashed.
pub(super) struct Asked {
    pub item: dto::SignatureItem,
    /// The certificate it was hashed with.
    pub certificate: Vec<u8>,
    format: Format,
    existing: Existing,
    artifact: String,
}

/// A file that was signed.
pub(super) struct Signed {
    pub line: Value,
    pub text: String,
    pub origin: String,
    pub size: u64,
    pub checkpoint_note: String,
}

/// What a file needs.
pub(super) enum Need {
    /// A signature.
    Signature(Box<Asked>),
    /// Nothing: this run signed it before it was interrupted.
    Nothing(Value),
}

impl Job {
    pub(super) fn new(
        (tenant, signer): (TenantName, SignerLabel),
        options: Options,
        detached: bool,
        receipt_dir: Option<PathBuf>,
        (timestamps, pin): (Authorities, Pin),
        certificate: &dto::SignerCertificate,
        journal: &Journal,
    ) -> Result<Self> {
        let mut names = Names::default();
        for done in journal.all() {
            names.ids.insert(done.id.clone());
            names.receipts.insert(done.receipt.clone());
        }
        Ok(Self {
            tenant,
            signer,
            options,
            detached,
            receipt_dir,
            timestamps,
            pin,
            certificate: Mutex::new(leaf(certificate)?),
            names: Mutex::new(names),
        })
    }

    /// What must be signed for a file.
    pub(super) fn prepare(&self, file: &Path, journal: &Journal) -> Result<Need> {
        let format = if self.detached {
            Format::Detached
        } else {
            Format::detect(file)?
        };
        let mut options = self.options.clone();
        if let Some(done) = journal.recorded(&absolute(file)) {
            let stands = done.output_stands();
            if stands && self.artifact(file, format)? == done.artifact {
                let mut line = done.line.clone();
                if let Some(members) = line.as_object_mut() {
                    members.insert("before".to_owned(), true.into());
                }
                return Ok(Need::Nothing(line));
            }
            if stands && format == Format::Detached {
                // What this run wrote beside an earlier state of the file.
                options.existing = Existing::Replace;
            }
            let mut names = lock(&self.names);
            names.ids.remove(&done.id);
            // Its receipt was of what the file was.
            names.receipts.remove(&done.receipt);
        }
        let certificate = lock(&self.certificate).clone();
        let prepared = prepare(format, file, &certificate, &options)?;
        let content = content(&prepared);
        let id = self.id(&content, prepared.digest_algorithm)?;
        Ok(Need::Signature(Box::new(Asked {
            item: dto::SignatureItem {
                id,
                content,
                digest_algorithm: prepared.digest_algorithm,
            },
            artifact: artifact_text(&prepared),
            existing: options.existing,
            certificate,
            format,
        })))
    }

    /// Checks an answer, fetches the timestamp, writes receipt and output. Nothing is written before
    /// everything was checked.
    pub(super) fn finish(
        &self,
        file: &Path,
        asked: &Asked,
        answer: &dto::Signature,
        journal: &Journal,
    ) -> Result<Signed> {
        let mut signed = countersign_formats::Signed {
            scheme: scheme(answer)?,
            signature: answer.signature.0.clone(),
            chain: answer
                .certificate_chain
                .iter()
                .map(|c| c.0.clone())
                .collect(),
            timestamp: None,
        };
        let prepared = self.again(file, asked, &signed)?;
        prepared.check(&signed)?;
        let (receipt, verified) = self.check_receipt(answer, &asked.artifact)?;
        let stamped = self
            .timestamps
            .stamp(prepared.digest_algorithm, &signed.signature)?;
        signed.timestamp = stamped.as_ref().map(|t| t.token.clone());

        let output = finish(prepared, &signed)?;
        let receipt_path =
            self.receipt_path(file, &output.target, asked, answer.receipt.as_bytes())?;
        let line = json!({
            "file": file,
            "output": output.target,
            "receipt": receipt_path,
            "content": asked.format.content_type(),
            "digest": asked.artifact,
            "key": answer.key,
            "request": answer.request,
            "log": verified.checkpoint.origin,
            "index": verified.index,
            "timestamp": stamped.map(|t| t.time),
        });
        let text = format!(
            "signed {} (receipt {}, leaf {})",
            output.target.display(),
            receipt_path.display(),
            verified.index
        );
        // First: a receipt without its file says no more than the log does.
        atomic_replace(&receipt_path, answer.receipt.as_bytes())?;
        journal.record(Done {
            file: absolute(file),
            id: asked.item.id.clone(),
            artifact: asked.artifact.clone(),
            target: absolute(&output.target),
            sha256: sha256_hex(&output.bytes),
            receipt: receipt_path,
            line: line.clone(),
        })?;
        output.write()?;
        Ok(Signed {
            line,
            text,
            origin: verified.checkpoint.origin,
            size: verified.checkpoint.size,
            checkpoint_note: receipt.checkpoint_note,
        })
    }

    /// Fetches the certificate anew, unless that was done since `known`.
    pub(super) fn renew_certificate(&self, client: &Client, known: &[u8]) -> Result<()> {
        let mut certificate = lock(&self.certificate);
        if *certificate == known {
            *certificate = leaf(&client.signer_certificate(&self.tenant, &self.signer)?)?;
        }
        Ok(())
    }

    /// The file once more, with the certificate of the answer: what was signed must be what it needs.
    fn again(
        &self,
        file: &Path,
        asked: &Asked,
        signed: &countersign_formats::Signed,
    ) -> Result<Prepared> {
        let by = signed.chain.first().ok_or_else(no_certificate)?;
        let mut options = self.options.clone();
        options.existing = asked.existing;
        let prepared = prepare(asked.format, file, by, &options)?;
        if artifact_text(&prepared) != asked.artifact {
            return Err(FormatError::ChangedMeanwhile {
                path: file.to_owned(),
            }
            .into());
        }
        if content(&prepared) != asked.item.content {
            return Err(Failure::new(
                Exit::Unavailable,
                OTHER_CERTIFICATE,
                FormatError::OtherCertificate.to_string(),
            ));
        }
        Ok(prepared)
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

    fn artifact(&self, file: &Path, format: Format) -> Result<String> {
        let hash = self.options.digest_algorithm;
        let digest = artifact_digest_of(file, format.content_type(), hash)?;
        Ok(digest_text(hash.as_str(), digest.as_bytes()))
    }

    /// An id made of what is asked, so that the same file asks for the same thing again. Of several
    /// files with the same bytes each has the next number: their signatures fit each other's.
    fn id(&self, content: &dto::Content, hash: HashAlgorithm) -> Result<String> {
        let bytes = serde_json::to_vec(content)
            .map_err(|e| Failure::new(Exit::Internal, "json", e.to_string()))?;
        let digest = sha256_hex(&[hash.as_str().as_bytes(), b"\0", &bytes].concat());
        let digest = digest.get(..40).unwrap_or(&digest).to_owned();
        let mut names = lock(&self.names);
        loop {
            let next = names.next.entry(digest.clone()).or_default();
            let id = format!("{digest}-{next}");
            *next = next.saturating_add(1);
            if names.ids.insert(id.clone()) {
                return Ok(id);
            }
        }
    }

    /// Gives back the id of something that will be asked anew.
    pub(super) fn forget(&self, asked: &Asked) {
        lock(&self.names).ids.remove(&asked.item.id);
    }

    /// `NAME.tlog-proof`, where NAME is the file that people verify; `NAME.2.tlog-proof` and so on
    /// where that is the receipt of a signature that is kept, or of another file of this run.
    fn receipt_path(
        &self,
        file: &Path,
        target: &Path,
        asked: &Asked,
        receipt: &[u8],
    ) -> Result<PathBuf> {
        let verified = match asked.format {
            Format::Pe => target,
            Format::Detached => file,
        };
        let name = verified
            .file_name()
            .ok_or_else(|| Failure::usage("a file needs a name"))?;
        let dir = match &self.receipt_dir {
            Some(dir) => {
                std::fs::create_dir_all(dir).map_err(|e| Failure::file(dir, &e))?;
                dir.as_path()
            }
            None => target.parent().unwrap_or(Path::new("")),
        };
        let mut names = lock(&self.names);
        for n in 1..=MAX_RECEIPTS {
            let mut name = name.to_owned();
            if n > 1 {
                name.push(format!(".{n}"));
            }
            name.push(".tlog-proof");
            let path = dir.join(name);
            // The same receipt may be there: an attempt that went no further.
            let same =
                || read_bounded(&path, MAX_RECEIPT as u64).is_ok_and(|there| there == receipt);
            let kept = names.receipts.contains(&path)
                || (asked.existing == Existing::Append && path.exists());
            if !kept || same() {
                names.receipts.insert(path.clone());
                return Ok(path);
            }
        }
        Err(Failure::usage(format!(
            "{} has {MAX_RECEIPTS} receipts: move some elsewhere",
            verified.display()
        )))
    }
}

/// A path that means the same file wherever it is read.
pub(super) fn absolute(path: &Path) -> PathBuf {
    std::path::absolute(path).unwrap_or_else(|_| path.to_owned())
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // What is in them is whole at any moment.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn artifact_text(prepared: &Prepared) -> String {
    digest_text(
        prepared.artifact.algorithm().as_str(),
        prepared.artifact.as_bytes(),
    )
}

fn content(prepared: &Prepared) -> dto::Content {
    match prepared.submission.clone() {
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
    first.map(|c| c.0.clone()).ok_or_else(no_certificate)
}

fn no_certificate() -> Failure {
    Failure::new(
        Exit::Internal,
        "bad-answer",
        "the service sent no certificate",
    )
}
