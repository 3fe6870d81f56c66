//! A web server for revocation lists that does as the test says, well or badly; and a CA in two files
//! whose certificates name it.

use super::text;
use countersign_core::{HashAlgorithm, Micros, SignatureScheme};
use countersign_x509::build::{Profile, TbsBuilder, assemble};
use countersign_x509::crl::{CrlBuilder, Reason, RevokedCertificate, assemble_crl};
use countersign_x509::csr::ParsedCsr;
use countersign_x509::key::signature_algorithm_der;
use countersign_x509::name::ca_name;
use countersign_x509::{Certificate, pem};
use std::collections::HashMap;
use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

const DAY: i64 = 86_400_000_000;

/// What the server does with a path.
#[derive(Debug, Clone)]
pub enum Answer {
    /// 200 with these bytes.
    List(Vec<u8>),
    /// Another status, with a page for people.
    Status(u16),
    /// A redirect.
    To(String),
    /// 200, and a byte now and then.
    Dribble,
    /// 200, and no end.
    Endless,
    /// The connection is closed without a word.
    Nothing,
}

type Answers = Arc<Mutex<HashMap<String, (Answer, u64)>>>;

/// The server; it runs until the tests end.
#[derive(Debug, Clone)]
pub struct ListServer {
    base: String,
    answers: Answers,
}

impl ListServer {
    /// Starts one.
    pub fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let base = format!("http://{}", listener.local_addr().expect("an address"));
        let answers = Answers::default();
        let served = Arc::clone(&answers);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let served = Arc::clone(&served);
                std::thread::spawn(move || serve(stream, &served));
            }
        });
        Self { base, answers }
    }

    /// The URL of a path.
    pub fn url(&self, path: &str) -> String {
        format!("{}/{path}", self.base)
    }

    /// From now on.
    pub fn set(&self, path: &str, answer: Answer) {
        let mut all = self.answers.lock().expect("lock");
        let count = all.get(path).map_or(0, |(_, n)| *n);
        all.insert(path.to_owned(), (answer, count));
    }

    /// How often a path was asked for.
    pub fn asked(&self, path: &str) -> u64 {
        let all = self.answers.lock().expect("lock");
        all.get(path).map_or(0, |(_, n)| *n)
    }
}

fn serve(mut stream: TcpStream, answers: &Answers) {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") && head.len() < 8192 {
        match stream.read(&mut byte) {
            Ok(1) => head.push(byte[0]),
            _ => return,
        }
    }
    let head = String::from_utf8_lossy(&head);
    let path = head
        .split(' ')
        .nth(1)
        .unwrap_or("/")
        .trim_start_matches('/');
    let answer = {
        let mut all = answers.lock().expect("lock");
        match all.get_mut(path) {
            Some((answer, count)) => {
                *count += 1;
                answer.clone()
            }
            None => Answer::Status(404),
        }
    };
    let say = |stream: &mut TcpStream, status: u16, more: &str, body: &[u8]| {
        let head = format!(
            "HTTP/1.1 {status} x\r\ncontent-length: {}\r\nconnection: close\r\n{more}\r\n",
            body.len()
        );
        // The other end may have had enough: that is what some tests are about.
        let _ = stream.write_all(&[head.as_bytes(), body].concat());
    };
    match answer {
        Answer::List(bytes) => say(&mut stream, 200, "", &bytes),
        Answer::Status(status) => say(&mut stream, status, "", b"<html>no list</html>"),
        Answer::To(url) => say(&mut stream, 302, &format!("location: {url}\r\n"), b""),
        Answer::Nothing => {}
        Answer::Dribble | Answer::Endless => {
            let head = "HTTP/1.1 200 x\r\nconnection: close\r\n\r\n";
            let mut ok = stream.write_all(head.as_bytes()).is_ok();
            let endless = matches!(answer, Answer::Endless);
            let chunk = vec![0x30; if endless { 65_536 } else { 1 }];
            while ok {
                ok = stream.write_all(&chunk).is_ok();
                if !endless {
                    std::thread::sleep(Duration::from_millis(100));
                }
            }
        }
    }
}

/// A CA in two files, on the openssl command line, for certificates and lists no proper CA would make.
#[derive(Debug)]
pub struct TestCa {
    key: PathBuf,
    /// Its certificate.
    pub root: Certificate,
    url: String,
}

impl TestCa {
    /// One whose certificates say that their list lies at `url`.
    pub fn new(dir: &Path, url: &str) -> Self {
        let key = dir.join("ca.key");
        openssl(&[
            "genpkey",
            "-algorithm",
            "EC",
            "-pkeyopt",
            "ec_paramgen_curve:P-384",
            "-out",
            &text(&key),
        ]);
        let spki = openssl(&["pkey", "-in", &text(&key), "-pubout", "-outform", "DER"]);
        let name = ca_name("XX", "Test CA", "Test CA Root").expect("a name");
        let tbs = TbsBuilder {
            profile: Profile::Root,
            serial: vec![1; 16],
            issuer: name.clone(),
            issuer_spki: spki.clone(),
            subject: name,
            spki,
            not_before: Micros(micros() - 3_600_000_000),
            not_after: Micros(micros() + 400 * DAY),
            signature_algorithm: algorithm(),
            crl_url: None,
            ca_issuers_url: None,
        };
        let bytes = tbs.build().expect("a TBSCertificate");
        let root = assemble(&bytes, &algorithm(), &signed(&key, &bytes)).expect("a certificate");
        Self {
            key,
            root,
            url: url.to_owned(),
        }
    }

    /// A certificate for a request, from and to seconds relative to now.
    pub fn certify(&self, csr: &ParsedCsr, from: i64, to: i64) -> Certificate {
        let tbs = TbsBuilder {
            profile: Profile::CodeSigning,
            serial: micros().to_be_bytes().repeat(2),
            issuer: self.root.subject_der().to_vec(),
            issuer_spki: self.root.spki_der().to_vec(),
            subject: csr.subject_der().to_vec(),
            spki: csr.public_key().spki_der().to_vec(),
            not_before: Micros(micros() + from * 1_000_000),
            not_after: Micros(micros() + to * 1_000_000),
            signature_algorithm: algorithm(),
            crl_url: Some(self.url.clone()),
            ca_issuers_url: Some("http://ca.test/ca.cer".into()),
        };
        let bytes = tbs.build().expect("a TBSCertificate");
        assemble(&bytes, &algorithm(), &signed(&self.key, &bytes)).expect("a certificate")
    }

    /// The same, with its chain as PEM.
    pub fn issue(&self, csr: &ParsedCsr, from: i64, to: i64) -> String {
        self.chain(&self.certify(csr, from, to))
    }

    /// A certificate and its issuer as PEM.
    pub fn chain(&self, leaf: &Certificate) -> String {
        [leaf, &self.root]
            .map(|c| pem::encode("CERTIFICATE", c.der()))
            .concat()
    }

    /// A list with this number, made now, good for a week.
    pub fn list(&self, number: u32) -> CrlBuilder {
        CrlBuilder {
            issuer: self.root.subject_der().to_vec(),
            authority_key_id: self.root.known().subject_key_id.clone().expect("a key id"),
            number: number.to_be_bytes().to_vec(),
            this_update: Micros(micros()),
            next_update: Micros(micros() + 7 * DAY),
            revoked: Vec::new(),
            signature_algorithm: algorithm(),
            more: Vec::new(),
        }
    }

    /// A list, signed.
    pub fn sign(&self, list: &CrlBuilder) -> Vec<u8> {
        let tbs = list.build();
        assemble_crl(&tbs, &algorithm(), &signed(&self.key, &tbs))
    }
}

/// An entry of a list.
pub fn revoked(certificate: &Certificate, reason: Reason) -> RevokedCertificate {
    RevokedCertificate {
        serial: certificate.serial().to_vec(),
        at: Micros(micros()),
        reason,
    }
}

/// Microseconds since 1970.
pub fn micros() -> i64 {
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .expect("after 1970");
    i64::try_from(now.as_micros()).expect("a time")
}

fn algorithm() -> Vec<u8> {
    signature_algorithm_der(SignatureScheme::Ecdsa(HashAlgorithm::Sha384))
}

fn signed(key: &Path, bytes: &[u8]) -> Vec<u8> {
    static NEXT: std::sync::atomic::AtomicU64 = std::sync::atomic::AtomicU64::new(0);
    let n = NEXT.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    let file = key.with_extension(format!("{n}.tbs"));
    std::fs::write(&file, bytes).expect("file");
    openssl(&["dgst", "-sha384", "-sign", &text(key), &text(&file)])
}

fn openssl(args: &[&str]) -> Vec<u8> {
    let out = Command::new("openssl")
        .args(args)
        .output()
        .expect("openssl runs");
    assert!(
        out.status.success(),
        "openssl {args:?}: {}",
        String::from_utf8_lossy(&out.stderr)
    );
    out.stdout
}
