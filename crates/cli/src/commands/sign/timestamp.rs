//! Fetching an RFC 3161 timestamp over a signature.

use crate::commands::read_text;
use crate::exit::Exit;
use crate::failure::{Failure, Result};
use countersign_client::Web;
use countersign_content::digest_of;
use countersign_core::HashAlgorithm;
use countersign_x509::Certificate;
use countersign_x509::tsp::{TimestampRequest, parse_response};
use std::path::Path;
use std::time::Duration;

/// No authority answered well.
pub(super) const NO_TIMESTAMP: &str = "no-timestamp";
const TIMEOUT: Duration = Duration::from_secs(20);
const MAX_ANSWER: u64 = 256 * 1024;
/// Rounds over all authorities, with a pause between them: they are often away for a moment.
const ROUNDS: u32 = 3;

/// The authorities to ask, in order.
pub(super) struct Authorities {
    urls: Vec<String>,
    roots: Option<Vec<Certificate>>,
    web: Option<Web>,
}

/// A timestamp that was checked.
pub(super) struct Stamp {
    /// The token, DER.
    pub token: Vec<u8>,
    /// When, RFC 3339.
    pub time: String,
}

impl Authorities {
    pub(super) fn new(urls: &[String], ca_file: Option<&Path>) -> Result<Self> {
        for url in urls {
            // A timestamp proves itself, so most authorities speak plain http.
            if !url.starts_with("http://") && !url.starts_with("https://") {
                return Err(Failure::usage(format!(
                    "--timestamp {url}: write it as http://…"
                )));
            }
        }
        let roots = ca_file
            .map(|path| {
                Certificate::chain_from_pem(&read_text(path)?)
                    .map_err(|e| Failure::usage(format!("{}: {e}", path.display())))
            })
            .transpose()?;
        let web = (!urls.is_empty())
            .then(|| Web::new(None, TIMEOUT))
            .transpose()?;
        Ok(Self {
            urls: urls.to_vec(),
            roots,
            web,
        })
    }

    /// A timestamp over `signature`, from the first authority that gives a good one; `None` if none
    /// was asked for.
    pub(super) fn stamp(&self, hash: HashAlgorithm, signature: &[u8]) -> Result<Option<Stamp>> {
        let Some(web) = &self.web else {
            return Ok(None);
        };
        let mut reasons = Vec::new();
        for round in 0..ROUNDS {
            if round > 0 {
                std::thread::sleep(Duration::from_secs(u64::from(round)));
            }
            reasons.clear();
            for url in &self.urls {
                match self.ask(web, url, hash, signature) {
                    Ok(stamp) => return Ok(Some(stamp)),
                    Err(why) => reasons.push(format!("{url}: {why}").into()),
                }
            }
        }
        let mut f = Failure::new(
            Exit::Unavailable,
            NO_TIMESTAMP,
            "no timestamp authority gave a good timestamp; the file was not changed",
        )
        .hint(
            "the same command again gets the same signature, not a second one; from another job, \
             with the same --retry-id",
        );
        f.reasons = reasons;
        Err(f)
    }

    fn ask(
        &self,
        web: &Web,
        url: &str,
        hash: HashAlgorithm,
        signature: &[u8],
    ) -> Result<Stamp, String> {
        let imprint = digest_of(hash, signature);
        let (high, low) = uuid::Uuid::new_v4().as_u64_pair();
        let request = TimestampRequest::new(hash, imprint.as_bytes(), high ^ low)
            .map_err(|e| e.to_string())?;
        let answer = web
            .post(
                url,
                "application/timestamp-query",
                &request.to_der(),
                MAX_ANSWER,
            )
            .map_err(|e| e.to_string())?;
        let token = parse_response(&answer.body, &request).map_err(|e| e.to_string())?;
        if let Some(roots) = &self.roots {
            token.verify_chain(roots).map_err(|e| e.to_string())?;
        }
        let time =
            jiff::Timestamp::from_microsecond(token.gen_time.0).map_err(|e| e.to_string())?;
        Ok(Stamp {
            token: token.token_der,
            time: time.to_string(),
        })
    }
}
