//! Certificate revocation lists (RFC 5280 §5), made anew for each fetch, and who is on them: one file
//! per revoked certificate in the state folder, written by `countersign-demo-ca revoke` beside the
//! running CA.

use crate::authority::{Issuer, algorithm, certificate_error};
use crate::error::Error;
use crate::files;
use crate::orders::OrderBook;
use countersign_attestation::UnixSeconds;
use countersign_core::Micros;
use countersign_x509::crl::{CrlBuilder, Reason, RevokedCertificate, assemble_crl};
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};

/// So long before its making a list says it is of, in microseconds: whoever took the time before fetching it must not find it
/// not yet valid.
const BACKDATED: i64 = 60_000_000;
/// CSBR §4.9.7: `nextUpdate` at most 10 days after `thisUpdate`.
const LIFETIME_S: u64 = 7 * 86_400;
const MAX_FILE: u64 = 4096;
/// Most certificates on the list: this is a demonstration.
const MAX_REVOKED: usize = 10_000;

/// Who is revoked.
#[derive(Debug, Clone)]
pub(crate) struct Revocations {
    dir: PathBuf,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Revocation {
    serial: String,
    reason: String,
    at: UnixSeconds,
}

impl Revocations {
    pub(crate) fn new(state: &Path) -> Self {
        Self {
            dir: state.join("revoked"),
        }
    }

    /// Puts a certificate that this CA issued on the list. Durable once it returns.
    pub(crate) fn revoke(
        &self,
        book: &OrderBook,
        serial: &str,
        reason: Reason,
        at: UnixSeconds,
    ) -> Result<(), Error> {
        let serial = issued(book, serial)?;
        if let Some(known) = self.read(&self.file(&serial))?
            && known.reason != Reason::CertificateHold.as_str()
        {
            return Err(argument(format!(
                "certificate {serial} is revoked already ({})",
                known.reason
            )));
        }
        files::make_dir(&self.dir)?;
        let entry = Revocation {
            serial: serial.clone(),
            reason: reason.as_str().to_owned(),
            at,
        };
        let path = self.file(&serial);
        let bytes = serde_json::to_vec(&entry).map_err(|e| Error::Content {
            path: path.clone(),
            problem: e.to_string(),
        })?;
        files::write(&path, &bytes, 0o600)
    }

    /// Takes a certificate that is on hold off the list.
    pub(crate) fn release(&self, book: &OrderBook, serial: &str) -> Result<(), Error> {
        let serial = issued(book, serial)?;
        let path = self.file(&serial);
        match self.read(&path)? {
            Some(r) if r.reason == Reason::CertificateHold.as_str() => {
                std::fs::remove_file(&path).map_err(Error::file(path))
            }
            Some(r) => Err(argument(format!(
                "certificate {serial} is revoked for ever ({})",
                r.reason
            ))),
            None => Err(argument(format!("certificate {serial} is not on hold"))),
        }
    }

    /// Everybody on the list.
    fn all(&self) -> Result<Vec<RevokedCertificate>, Error> {
        let entries = match std::fs::read_dir(&self.dir) {
            Ok(entries) => entries,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(e) => return Err(Error::file(&self.dir)(e)),
        };
        let mut all = Vec::new();
        for entry in entries {
            let path = entry.map_err(Error::file(&self.dir))?.path();
            if path.extension().is_none_or(|e| e != "json") {
                continue;
            }
            let Some(r) = self.read(&path)? else { continue };
            let bad = |problem: String| Error::Content {
                path: path.clone(),
                problem,
            };
            all.push(RevokedCertificate {
                serial: hex::decode(&r.serial).map_err(|e| bad(e.to_string()))?,
                at: micros(r.at),
                reason: r.reason.parse().map_err(bad)?,
            });
            if all.len() > MAX_REVOKED {
                return Err(bad(format!("more than {MAX_REVOKED} revocations")));
            }
        }
        all.sort_by(|a, b| a.serial.cmp(&b.serial));
        Ok(all)
    }

    fn read(&self, path: &Path) -> Result<Option<Revocation>, Error> {
        // Gone between listing and reading: a hold that was lifted this moment.
        if !path.exists() {
            return Ok(None);
        }
        serde_json::from_slice(&files::read(path, MAX_FILE)?)
            .map(Some)
            .map_err(|e| Error::Content {
                path: path.to_owned(),
                problem: e.to_string(),
            })
    }

    /// Serials are ours (hex of a certificate that was issued) before a path is made of them.
    fn file(&self, serial: &str) -> PathBuf {
        self.dir.join(format!("{serial}.json"))
    }
}

/// The issuing CA's list of subscribers' certificates, good from `now` for a week.
pub(crate) fn of_subscribers(
    issuer: &Issuer,
    revocations: &Revocations,
    now: UnixSeconds,
) -> Result<Vec<u8>, Error> {
    signed(issuer, revocations.all()?, now)
}

/// The root's list of CAs: it never has anybody on it.
pub(crate) fn of_cas(root: &Issuer, now: UnixSeconds) -> Result<Vec<u8>, Error> {
    signed(root, Vec::new(), now)
}

fn signed(
    issuer: &Issuer,
    revoked: Vec<RevokedCertificate>,
    now: UnixSeconds,
) -> Result<Vec<u8>, Error> {
    let certificate = issuer.certificate();
    let tbs =
        CrlBuilder {
            issuer: certificate.subject_der().to_vec(),
            authority_key_id: certificate.known().subject_key_id.clone().ok_or_else(|| {
                certificate_error("the CA certificate has no subjectKeyIdentifier")
            })?,
            // Rises with time, also over restarts (RFC 5280 §5.2.3).
            number: now.get().to_be_bytes().to_vec(),
            this_update: Micros(micros(now).0.saturating_sub(BACKDATED)),
            next_update: micros(now.plus(LIFETIME_S)),
            revoked,
            signature_algorithm: algorithm(),
            more: Vec::new(),
        }
        .build();
    Ok(assemble_crl(&tbs, &algorithm(), &issuer.sign(&tbs)?))
}

/// The serial as this CA writes it, if it issued such a certificate.
fn issued(book: &OrderBook, serial: &str) -> Result<String, Error> {
    let serial = serial.to_ascii_lowercase();
    if book.has_issued(&serial) {
        Ok(serial)
    } else {
        Err(argument(format!(
            "no certificate with the serial {serial} was issued here"
        )))
    }
}

fn argument(problem: String) -> Error {
    Error::Argument {
        argument: "serial",
        problem,
    }
}

fn micros(t: UnixSeconds) -> Micros {
    Micros::from_seconds(i64::try_from(t.get()).unwrap_or(i64::MAX))
}
