//! The three steps of signing a file: what is it, what must be signed, put the answer in.

use crate::detached;
use crate::files::{self, WriteMode};
use crate::pe::PeFile;
use crate::{FormatError, timestamp};
use countersign_content::{ContentType, Parsed, Submission, authenticode, digest_of, oids, parse};
use countersign_core::{Digest, HashAlgorithm, Micros, SignatureScheme};
use countersign_x509::cms::{SignedDataParts, build_signed_data};
use countersign_x509::{Certificate, PublicKey};
use std::fmt;
use std::path::{Path, PathBuf};

/// How a file is signed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// A Windows executable; the signature goes into the file.
    Pe,
    /// Anything; the signature goes beside the file as `NAME.p7s`.
    Detached,
}

impl Format {
    /// What a file is by its first bytes. Whatever starts like a Windows executable is one: a broken
    /// one is then refused with a reason rather than signed beside in silence.
    ///
    /// # Errors
    /// If the file cannot be read.
    pub fn detect(path: &Path) -> Result<Self, FormatError> {
        Ok(if files::head(path, 2)? == b"MZ" {
            Self::Pe
        } else {
            Self::Detached
        })
    }

    /// The content type that a grant must allow.
    #[must_use]
    pub const fn content_type(self) -> ContentType {
        match self {
            Self::Pe => ContentType::Authenticode,
            Self::Detached => ContentType::Cms,
        }
    }
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Pe => "Windows executable (Authenticode)",
            Self::Detached => "detached CMS (.p7s)",
        })
    }
}

/// What becomes of a signature that is there already.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Existing {
    /// Refuse to sign.
    #[default]
    Refuse,
    /// Keep it and add ours.
    Append,
    /// Remove it.
    Replace,
}

/// How to sign.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// The hash of file, attributes and signature.
    pub digest_algorithm: HashAlgorithm,
    /// What becomes of a signature that is there already.
    pub existing: Existing,
    /// Where the output goes; the file itself (or `NAME.p7s`) when absent.
    pub out: Option<PathBuf>,
    /// The program's name inside an Authenticode signature.
    pub program_name: Option<String>,
    /// The publisher's link inside an Authenticode signature.
    pub url: Option<String>,
    /// Written as `signingTime` when given. A timestamp is the better proof.
    pub signing_time: Option<Micros>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            digest_algorithm: HashAlgorithm::Sha256,
            existing: Existing::Refuse,
            out: None,
            program_name: None,
            url: None,
            signing_time: None,
        }
    }
}

/// A file that was hashed: [`Prepared::submission`] goes to the service.
pub struct Prepared {
    /// What to send.
    pub submission: Submission,
    /// The hash to name in the request.
    pub digest_algorithm: HashAlgorithm,
    /// The file's own digest, as the receipt will state it.
    pub artifact: Digest,
    /// Where the output will go.
    pub target: PathBuf,
    /// What the key will sign; for checking the answer.
    tbs: Digest,
    existing: Existing,
    signer: Vec<u8>,
    source: PathBuf,
    /// None for a detached signature.
    pe: Option<PeFile>,
}

/// The service's answer, and the timestamp fetched over it.
#[derive(Clone, PartialEq, Eq)]
pub struct Signed {
    /// The scheme the key used.
    pub scheme: SignatureScheme,
    /// The signature; ECDSA as DER.
    pub signature: Vec<u8>,
    /// The certificates as DER: the signer's, then its issuers, without the root.
    pub chain: Vec<Vec<u8>>,
    /// An RFC 3161 token over the signature, as DER `ContentInfo`.
    pub timestamp: Option<Vec<u8>>,
}

/// A signed file (or its signature), ready to be written.
pub struct Output {
    /// Where it belongs.
    pub target: PathBuf,
    /// All of its bytes.
    pub bytes: Vec<u8>,
    source: PathBuf,
    /// SHA-256 of the source as it was hashed, if writing would replace the source.
    replaces: Option<Digest>,
    mode: WriteMode,
}

/// Hashes a file and builds what must be signed. `signer` is the signer's certificate as DER.
///
/// # Errors
/// [`FormatError::Io`] and its like for the file; [`FormatError::Pe`] for an executable that is broken,
/// or signed with [`Existing::Refuse`]; [`FormatError::SignatureExists`] and
/// [`FormatError::CannotAppend`] for a `.p7s` that is there; [`FormatError::Content`] for options that
/// are not allowed.
pub fn prepare(
    format: Format,
    path: &Path,
    signer: &[u8],
    options: &Options,
) -> Result<Prepared, FormatError> {
    let hash = options.digest_algorithm;
    let (submission, pe, target) = match format {
        Format::Pe => {
            let pe = PeFile::open(path)?;
            if pe.is_signed() && options.existing == Existing::Refuse {
                return Err(crate::pe::PeError::AlreadySigned.into());
            }
            let indirect_data = authenticode::pe_indirect_data(&pe.authenticode_digest(hash));
            let signed_attributes = authenticode::signed_attributes(
                &indirect_data,
                hash,
                &authenticode::Options {
                    program_name: options.program_name.as_deref(),
                    url: options.url.as_deref(),
                    signing_time: options.signing_time,
                    signing_certificate: None,
                },
            )?;
            let submission = Submission::Authenticode {
                signed_attributes,
                indirect_data,
            };
            let target = options.out.clone().unwrap_or_else(|| path.to_path_buf());
            (submission, Some(pe), target)
        }
        Format::Detached => {
            let target = options
                .out
                .clone()
                .unwrap_or_else(|| detached::signature_path(path));
            detached::check_target(&target, options.existing)?;
            let submission = detached::submission(path, hash, signer, options.signing_time)?;
            (submission, None, target)
        }
    };
    let Parsed { tbs, artifact, .. } = parse(&submission, hash, Some(signer))?;
    Ok(Prepared {
        artifact: artifact.ok_or_else(|| FormatError::Assemble {
            reason: "no file digest in what was built".to_owned(),
        })?,
        submission,
        digest_algorithm: hash,
        target,
        tbs,
        existing: options.existing,
        signer: signer.to_vec(),
        source: path.to_path_buf(),
        pe,
    })
}

impl Prepared {
    /// Whether the service's answer is a valid signature, by the expected certificate, over what was
    /// sent. Worth asking before a timestamp is fetched; [`finish`] asks again.
    ///
    /// # Errors
    /// [`FormatError::OtherCertificate`], [`FormatError::BadSignature`], [`FormatError::Assemble`].
    pub fn check(&self, signed: &Signed) -> Result<(), FormatError> {
        if signed.chain.first() != Some(&self.signer) {
            return Err(FormatError::OtherCertificate);
        }
        if signed.scheme.hash() != self.digest_algorithm {
            return Err(FormatError::BadSignature);
        }
        let certificate = Certificate::from_der(&self.signer).map_err(unusable)?;
        PublicKey::from_spki_der(certificate.spki_der())
            .map_err(unusable)?
            .verify_digest(signed.scheme, &self.tbs, &signed.signature)
            .map_err(|_| FormatError::BadSignature)
    }
}

/// Builds the signed output from the service's answer.
///
/// # Errors
/// As [`Prepared::check`]; [`FormatError::BadTimestamp`] if the token is for something else;
/// [`FormatError::Pe`] if the file cannot take the signature.
pub fn finish(prepared: Prepared, signed: &Signed) -> Result<Output, FormatError> {
    prepared.check(signed)?;
    let format = match prepared.pe {
        Some(_) => Format::Pe,
        None => Format::Detached,
    };
    let mut cms = assemble(&prepared.submission, prepared.digest_algorithm, signed)?;
    if let Some(token) = &signed.timestamp {
        cms = timestamp::attach(&cms, format.content_type(), token)?;
    }
    let (bytes, replaces) = match &prepared.pe {
        None => (cms, None),
        Some(pe) => {
            let bytes = pe.embed(&cms, prepared.existing)?;
            let replaces = same_file(&prepared.source, &prepared.target)
                .then(|| digest_of(HashAlgorithm::Sha256, pe.bytes()));
            (bytes, replaces)
        }
    };
    Ok(Output {
        target: prepared.target,
        bytes,
        mode: match format {
            Format::Pe => WriteMode::Like(prepared.source.clone()),
            Format::Detached => WriteMode::Fresh,
        },
        source: prepared.source,
        replaces,
    })
}

impl Output {
    /// Writes the output to its target, whole or not at all.
    ///
    /// # Errors
    /// [`FormatError::ChangedMeanwhile`] if the file to be replaced is no longer the one that was
    /// hashed; [`FormatError::Io`].
    pub fn write(&self) -> Result<(), FormatError> {
        if let Some(hashed) = &self.replaces
            && files::digest(&self.source, HashAlgorithm::Sha256)? != *hashed
        {
            return Err(FormatError::ChangedMeanwhile {
                path: self.source.clone(),
            });
        }
        files::write(&self.target, &self.bytes, &self.mode)
    }
}

/// The digest under which a log knows a file as `content`: for Authenticode the digest that ignores
/// signatures, so that it is the same before and after signing; for a detached CMS the whole file's.
///
/// # Errors
/// If the file cannot be read or is no executable; [`FormatError::NoFileDigest`] for content types
/// that are not files.
pub fn artifact_digest_of(
    path: &Path,
    content: ContentType,
    algorithm: HashAlgorithm,
) -> Result<Digest, FormatError> {
    match content {
        ContentType::Authenticode => Ok(PeFile::open(path)?.authenticode_digest(algorithm)),
        ContentType::Cms => files::digest(path, algorithm),
        ContentType::RawDigest | ContentType::CertificateRequest => {
            Err(FormatError::NoFileDigest { content })
        }
    }
}

fn assemble(
    submission: &Submission,
    digest: HashAlgorithm,
    signed: &Signed,
) -> Result<Vec<u8>, FormatError> {
    let (content_type, econtent, signed_attrs_der) = match submission {
        Submission::Authenticode {
            signed_attributes,
            indirect_data,
        } => (
            oids::SPC_INDIRECT_DATA,
            Some(indirect_data),
            signed_attributes,
        ),
        Submission::Cms { signed_attributes } => (oids::DATA, None, signed_attributes),
        Submission::RawDigest { .. } => {
            return Err(FormatError::Assemble {
                reason: "a raw digest has no signature file".to_owned(),
            });
        }
    };
    build_signed_data(&SignedDataParts {
        content_type,
        econtent: econtent.cloned(),
        digest,
        signed_attrs_der: signed_attrs_der.clone(),
        scheme: signed.scheme,
        signature: signed.signature.clone(),
        chain: signed.chain.clone(),
    })
    .map_err(|e| FormatError::Assemble {
        reason: e.to_string(),
    })
}

fn unusable(reason: impl fmt::Display) -> FormatError {
    FormatError::Assemble {
        reason: format!("the signer's certificate is not usable: {reason}"),
    }
}

/// Two names of one file, also by way of links.
fn same_file(a: &Path, b: &Path) -> bool {
    a == b
        || match (std::fs::canonicalize(a), std::fs::canonicalize(b)) {
            (Ok(a), Ok(b)) => a == b,
            _ => false,
        }
}
