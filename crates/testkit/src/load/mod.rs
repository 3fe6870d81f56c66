//! Callers in numbers: each asks for a batch of signatures (of one, unless told otherwise), waits for
//! it and asks for the next one, over a connection of its own that stays open.
//!
//! A request is what a build job sends: a service token, CMS signed attributes made afresh for
//! digests never seen before, an Idempotency-Key of its own. Each answer must be a 200 with a
//! signature and a receipt for each item; the last one of each caller is verified in full after the
//! run (signatures against the certificate, receipts against the log's key). Anything else ends the run.
//!
//! Times are those of whole requests in a closed loop: a slow answer delays the next question. Only what both began
//! and ended between warm-up and end is counted.

mod http;

use crate::error::{Error, Result, at};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use clap::Args;
use countersign_content::{cms, digest_of};
use countersign_core::{Digest, HashAlgorithm, SignatureScheme};
use countersign_signing_log::commitment::digest_text;
use countersign_signing_log::note::VerifierKey;
use countersign_signing_log::receipt::Receipt;
use countersign_x509::{Certificate, PublicKey};
use http::{Connection, Target, text_of};
use serde::Deserialize;
use serde_json::{Value, json};
use std::collections::HashSet;
use std::path::PathBuf;
use std::sync::Barrier;
use std::time::{Duration, Instant};
use uuid::Uuid;

const ALGORITHM: HashAlgorithm = HashAlgorithm::Sha256;

/// A run. Bounded in callers and time; the service must be on this machine.
#[derive(Debug, Clone, Args)]
pub struct Options {
    /// The service, `https://localhost:PORT`.
    #[arg(long)]
    pub server: String,
    /// Its certificate.
    #[arg(long)]
    pub ca_file: PathBuf,
    /// The tenant.
    #[arg(long)]
    pub tenant: String,
    /// The signer's own name.
    #[arg(long)]
    pub signer: String,
    /// A file with an ID token, exchanged once: all callers use the one service token.
    #[arg(long)]
    pub id_token_file: PathBuf,
    /// Callers at once.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=256))]
    pub callers: u16,
    /// Seconds that count.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u64).range(1..=300))]
    pub seconds: u64,
    /// Seconds before them.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u64).range(0..=60))]
    pub warm_up: u64,
    /// Signatures in one request.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=100))]
    pub batch: u16,
    /// Send no Idempotency-Key.
    #[arg(long)]
    pub no_idempotency_key: bool,
    /// A process whose CPU time is measured as well: `name=pid`.
    #[arg(long = "cpu-of")]
    pub cpu_of: Vec<String>,
}

/// What is read of an answer.
#[derive(Deserialize)]
struct Answer {
    signed_by: Vec<SignedBy>,
    results: Vec<ItemAnswer>,
}

#[derive(Deserialize)]
struct SignedBy {
    certificate_sha256: String,
    certificate_chain: Vec<String>,
    log: Log,
}

/// Of an item that was signed: any other does not parse, and ends the run.
#[derive(Deserialize)]
struct ItemAnswer {
    signature: String,
    scheme: SignatureScheme,
    certificate_sha256: String,
    receipt: String,
}

#[derive(Deserialize)]
struct Log {
    vkey: String,
}

/// What one caller saw.
struct Seen {
    /// Of requests.
    micros: Vec<u64>,
    signatures: u64,
    /// Sizes of the trees its receipts are of: each is one commit of the service.
    trees: HashSet<u64>,
    warm_up: u64,
}

/// Runs it; the result as JSON.
///
/// # Errors
/// [`Error::Load`] for the first answer that is not a signature, [`Error::Io`] and [`Error::Tls`].
pub fn run(options: &Options) -> Result<Value> {
    let target = Target::new(&options.server, &options.ca_file)?;
    let token = exchange(&target, options)?;
    let first = Caller::new(&target, options, &token, Vec::new())?.once()?;
    let certificate = first.check()?;
    let watched: Vec<(String, u32)> = options
        .cpu_of
        .iter()
        .map(|text| {
            text.split_once('=')
                .and_then(|(name, pid)| Some((name.to_owned(), pid.parse().ok()?)))
                .ok_or_else(|| Error::Load(format!("--cpu-of {text}: write name=pid")))
        })
        .collect::<Result<_>>()?;
    let callers = (0..options.callers)
        .map(|_| Caller::new(&target, options, &token, certificate.clone()))
        .collect::<Result<Vec<_>>>()?;

    let line = Barrier::new(callers.len().saturating_add(1));
    let (seen, cpu) = std::thread::scope(|scope| -> Result<_> {
        let threads: Vec<_> = callers
            .into_iter()
            .map(|caller| {
                let line = &line;
                scope.spawn(move || caller.run(line, options))
            })
            .collect();
        line.wait();
        std::thread::sleep(Duration::from_secs(options.warm_up));
        let before = cpu_of(&watched);
        std::thread::sleep(Duration::from_secs(options.seconds));
        let after = cpu_of(&watched);
        let seen = threads
            .into_iter()
            .map(|t| {
                t.join()
                    .map_err(|_| Error::Load("a caller panicked".into()))?
            })
            .collect::<Result<Vec<Seen>>>()?;
        Ok((seen, (before, after)))
    })?;
    Ok(report(options, &watched, &seen, &cpu))
}

type Cpu = Vec<Option<u64>>;

fn report(options: &Options, watched: &[(String, u32)], seen: &[Seen], cpu: &(Cpu, Cpu)) -> Value {
    let mut micros: Vec<u64> = seen.iter().flat_map(|s| s.micros.iter().copied()).collect();
    micros.sort_unstable();
    let at = |per_mille: usize| {
        let index = micros.len().saturating_sub(1).saturating_mul(per_mille) / 1000;
        micros.get(index).copied().unwrap_or_default()
    };
    let count = seen.iter().map(|s| s.signatures).sum::<u64>();
    let trees: HashSet<u64> = seen.iter().flat_map(|s| s.trees.iter().copied()).collect();
    let names = watched
        .iter()
        .map(|(n, _)| n.as_str())
        .chain(std::iter::once("callers"));
    let cpu: serde_json::Map<_, _> = names
        .zip(cpu.0.iter().zip(&cpu.1))
        .filter_map(|(name, (before, after))| {
            let used = (*after)?.checked_sub((*before)?)?;
            Some((name.to_owned(), used.checked_div(count)?.into()))
        })
        .collect();
    json!({
        "signer": options.signer,
        "callers": options.callers,
        "seconds": options.seconds,
        "batch": options.batch,
        "idempotency_key": !options.no_idempotency_key,
        "requests": micros.len(),
        "signatures": count,
        "warm_up": seen.iter().map(|s| s.warm_up).sum::<u64>(),
        "per_second": count / options.seconds.max(1),
        "p50_us": at(500),
        "p99_us": at(990),
        "max_us": micros.last().copied().unwrap_or_default(),
        "commits": trees.len(),
        "authorisations_per_commit": round(count, trees.len() as u64),
        "cpu_us_per_signature": cpu,
    })
}

/// To one decimal.
fn round(a: u64, b: u64) -> Value {
    let tenths = a.saturating_mul(10).checked_div(b).unwrap_or_default();
    json!(f64::from(u32::try_from(tenths).unwrap_or(u32::MAX)) / 10.0)
}

/// One ID token for one service token (RFC 8693).
fn exchange(target: &Target, options: &Options) -> Result<String> {
    #[derive(Deserialize)]
    struct Token {
        access_token: String,
    }
    let id_token = text_of(&options.id_token_file)?;
    // A JWT, a tenant's name and a signer's name need no escaping in a form.
    let form = format!(
        "grant_type=urn%3Aietf%3Aparams%3Aoauth%3Agrant-type%3Atoken-exchange\
         &subject_token_type=urn%3Aietf%3Aparams%3Aoauth%3Atoken-type%3Aid_token\
         &subject_token={id_token}&tenant={}&scope={}",
        options.tenant, options.signer
    );
    let mut connection = target.connect()?;
    let (status, body) = connection.post(
        "/v1/token",
        "content-type: application/x-www-form-urlencoded\r\n",
        form.as_bytes(),
    )?;
    if status != 200 {
        return Err(refused(status, body));
    }
    serde_json::from_slice::<Token>(body)
        .map(|t| t.access_token)
        .map_err(|e| Error::Load(format!("the token: {e}")))
}

struct Caller {
    connection: Connection,
    path: String,
    headers: String,
    with_key: bool,
    batch: u16,
    certificate: Vec<u8>,
    /// Digests never seen before: a random start, counted up.
    salt: [u8; 16],
    count: u64,
    body: Vec<u8>,
}

/// One answer with what was asked.
struct Signed {
    asked: Vec<Asked>,
    answer: Answer,
}

struct Asked {
    artifact: Digest,
    attributes: Vec<u8>,
}

impl Caller {
    fn new(target: &Target, options: &Options, token: &str, certificate: Vec<u8>) -> Result<Self> {
        Ok(Self {
            connection: target.connect()?,
            path: format!(
                "/v1/tenants/{}/signers/{}/signatures",
                options.tenant, options.signer
            ),
            headers: format!("authorization: Bearer {token}\r\ncontent-type: application/json\r\n"),
            with_key: !options.no_idempotency_key,
            batch: options.batch,
            certificate,
            salt: *Uuid::new_v4().as_bytes(),
            count: 0,
            body: Vec::new(),
        })
    }

    /// Asks until the time is over; then checks the last answer in full.
    fn run(mut self, line: &Barrier, options: &Options) -> Result<Seen> {
        // Handshakes are not part of the run. All at once: a slow token may need longer for the
        // callers one by one than the service keeps an idle connection.
        let ready = self.ask();
        line.wait();
        ready?;
        let from = Instant::now() + Duration::from_secs(options.warm_up);
        let until = from + Duration::from_secs(options.seconds);
        let mut seen = Seen {
            micros: Vec::new(),
            signatures: 0,
            trees: HashSet::new(),
            warm_up: 0,
        };
        let mut last = None;
        loop {
            let began = Instant::now();
            if began >= until {
                break;
            }
            let signed = self.ask()?;
            let ended = Instant::now();
            if began < from {
                seen.warm_up = seen.warm_up.saturating_add(u64::from(self.batch));
            } else if ended <= until {
                let took = ended.duration_since(began).as_micros();
                seen.micros.push(u64::try_from(took).unwrap_or(u64::MAX));
                for item in &signed.answer.results {
                    seen.signatures = seen.signatures.saturating_add(1);
                    seen.trees.insert(tree_size(&item.receipt)?);
                }
            }
            last = Some(signed);
        }
        if let Some(signed) = last {
            signed.check()?;
        }
        Ok(seen)
    }

    /// The very first request: it learns the certificate that later attributes name.
    fn once(mut self) -> Result<Signed> {
        self.ask()
    }

    fn ask(&mut self) -> Result<Signed> {
        let mut asked = Vec::with_capacity(self.batch.into());
        self.body.clear();
        self.body.extend_from_slice(br#"{"items":["#);
        for n in 0..self.batch {
            let item = self.next()?;
            let comma = if n == 0 { "" } else { "," };
            let head = format!(
                r#"{comma}{{"id":"{n}","digest_algorithm":"sha-256","content":{{"type":"cms","signed_attributes":""#
            );
            self.body.extend_from_slice(head.as_bytes());
            self.body
                .extend_from_slice(STANDARD.encode(&item.attributes).as_bytes());
            self.body.extend_from_slice(br#""}}"#);
            asked.push(item);
        }
        self.body.extend_from_slice(b"]}");
        let keyed;
        let headers = if self.with_key {
            keyed = format!(
                "{}idempotency-key: {}\r\n",
                self.headers,
                Uuid::new_v4().hyphenated()
            );
            &keyed
        } else {
            &self.headers
        };
        let (status, body) = self.connection.post(&self.path, headers, &self.body)?;
        if status != 200 {
            return Err(refused(status, body));
        }
        let answer: Answer = serde_json::from_slice(body).map_err(|_| refused(status, body))?;
        if answer.results.len() != asked.len() {
            return Err(refused(status, body));
        }
        Ok(Signed { asked, answer })
    }

    /// Attributes for a file that nobody has seen.
    fn next(&mut self) -> Result<Asked> {
        self.count = self.count.wrapping_add(1);
        let mut file = self.salt.to_vec();
        file.extend_from_slice(&self.count.to_be_bytes());
        let artifact = digest_of(ALGORITHM, &file);
        let named = (!self.certificate.is_empty()).then_some(self.certificate.as_slice());
        let attributes = cms::signed_attributes(&artifact, None, named, None)
            .map_err(|e| Error::Load(format!("signed attributes: {e}")))?;
        Ok(Asked {
            artifact,
            attributes,
        })
    }
}

impl Signed {
    /// Each signature against the certificate, each receipt against the log's key and the file's
    /// digest. Gives the certificate of the last.
    fn check(&self) -> Result<Vec<u8>> {
        let mut certificate = Vec::new();
        for (asked, item) in self.asked.iter().zip(&self.answer.results) {
            let by = self
                .answer
                .signed_by
                .iter()
                .find(|by| by.certificate_sha256 == item.certificate_sha256)
                .ok_or_else(|| Error::Load("a signature by nobody".into()))?;
            certificate = asked.check(item, by)?;
        }
        Ok(certificate)
    }
}

impl Asked {
    fn check(&self, answer: &ItemAnswer, by: &SignedBy) -> Result<Vec<u8>> {
        let bad = |what: &str, e: &dyn std::fmt::Display| Error::Load(format!("{what}: {e}"));
        let der = by
            .certificate_chain
            .first()
            .and_then(|c| STANDARD.decode(c).ok())
            .ok_or_else(|| Error::Load("no certificate in the answer".into()))?;
        let certificate = Certificate::from_der(&der).map_err(|e| bad("certificate", &e))?;
        let key =
            PublicKey::from_spki_der(certificate.spki_der()).map_err(|e| bad("certificate", &e))?;
        let signature = STANDARD
            .decode(&answer.signature)
            .map_err(|e| bad("signature", &e))?;
        key.verify_message(answer.scheme, &self.attributes, &signature)
            .map_err(|e| bad("signature", &e))?;
        let vkey = VerifierKey::parse(&by.log.vkey).map_err(|e| bad("log key", &e))?;
        let receipt = Receipt::parse(&answer.receipt).map_err(|e| bad("receipt", &e))?;
        let verified = receipt.verify(&[vkey]).map_err(|e| bad("receipt", &e))?;
        let text = digest_text(self.artifact.algorithm().as_str(), self.artifact.as_bytes());
        receipt
            .opens_artifact(&verified, &text)
            .map_err(|e| bad("receipt", &e))?;
        Ok(der)
    }
}

/// The size in a receipt's checkpoint: its second line, after the blank line of the proof.
fn tree_size(receipt: &str) -> Result<u64> {
    receipt
        .split_once("\n\n")
        .and_then(|(_, note)| note.split('\n').nth(1))
        .and_then(|size| size.parse().ok())
        .ok_or_else(|| Error::Load("no checkpoint in the receipt".into()))
}

fn refused(status: u16, body: &[u8]) -> Error {
    Error::Load(format!(
        "the service answered {status}: {}",
        String::from_utf8_lossy(body)
            .chars()
            .take(400)
            .collect::<String>()
    ))
}

/// CPU time in microseconds of the processes watched, then of this one, where it can be told (Linux).
fn cpu_of(watched: &[(String, u32)]) -> Cpu {
    watched
        .iter()
        .map(|(_, pid)| pid.to_string())
        .chain(std::iter::once("self".to_owned()))
        .map(|pid| cpu_micros(&pid).ok())
        .collect()
}

/// `utime` and `stime` of proc_pid_stat(5), in ticks of 1/100 s (`USER_HZ`).
fn cpu_micros(pid: &str) -> Result<u64> {
    let path = format!("/proc/{pid}/stat");
    let text = std::fs::read_to_string(&path).map_err(at(path.clone()))?;
    // The second field may hold anything, in parentheses.
    let ticks: Vec<u64> = text
        .rsplit_once(") ")
        .map(|(_, rest)| rest.split(' ').skip(11).take(2))
        .into_iter()
        .flatten()
        .filter_map(|t| t.parse().ok())
        .collect();
    match ticks.as_slice() {
        [user, system] => Ok(user.saturating_add(*system).saturating_mul(10_000)),
        _ => Err(Error::Load(format!("{path} cannot be read"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_receipt_tells_the_tree_it_is_of() {
        let receipt =
            "c2sp.org/tlog-proof@v1\nextra x\nindex 3\n\nlocalhost/log/1\n7\nroot\n\n— x y\n";
        assert_eq!(tree_size(receipt).unwrap(), 7);
        assert!(tree_size("nothing").is_err());
    }

    #[test]
    fn this_process_has_used_some_time() {
        let mut sum = 0_u64;
        let began = Instant::now();
        while began.elapsed() < Duration::from_millis(60) {
            sum = sum.wrapping_add(u64::from(began.elapsed().subsec_nanos()));
        }
        assert!(cpu_micros("self").unwrap() > 0, "{sum}");
    }
}
