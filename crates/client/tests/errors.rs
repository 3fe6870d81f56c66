//! What the client makes of answers and of connections that go wrong, against a real TLS server
//! that says exactly what the test wants.
#![allow(clippy::unwrap_used, clippy::panic)]

use countersign_client::{Client, Error, ItemResult, Options, dto};
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::{ServerConfig, ServerConnection, StreamOwned};
use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// A server on localhost that gives `answers` one after the other and keeps what it was asked.
/// An empty answer means: read the request, then hang up.
struct Server {
    url: String,
    ca_file: PathBuf,
    asked: Arc<Mutex<Vec<String>>>,
    _dir: tempfile::TempDir,
}

impl Server {
    fn start(answers: Vec<String>) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
        let ca_file = dir.path().join("ca.pem");
        std::fs::write(&ca_file, made.cert.pem()).unwrap();
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(made.signing_key.serialize_der()));
        let config = ServerConfig::builder_with_provider(Arc::new(
            rustls::crypto::aws_lc_rs::default_provider(),
        ))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key)
        .unwrap();
        let config = Arc::new(config);
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!(
            "https://localhost:{}",
            listener.local_addr().unwrap().port()
        );
        let asked = Arc::new(Mutex::new(Vec::new()));
        let kept = asked.clone();
        std::thread::spawn(move || {
            for answer in answers {
                let (socket, _) = listener.accept().unwrap();
                let connection = ServerConnection::new(config.clone()).unwrap();
                let mut stream = BufReader::new(StreamOwned::new(connection, socket));
                if let Some(request) = read_request(&mut stream) {
                    kept.lock().unwrap().push(request);
                }
                let out = stream.get_mut();
                let _ = out.write_all(answer.as_bytes());
                out.conn.send_close_notify();
                let _ = out.flush();
            }
        });
        Self {
            url,
            ca_file,
            asked,
            _dir: dir,
        }
    }

    fn client(&self) -> Client {
        self.client_with(3, Duration::from_secs(5))
    }

    fn client_with(&self, attempts: u32, timeout: Duration) -> Client {
        let mut options = Options::new(self.url.clone());
        options.ca_file = Some(self.ca_file.clone());
        options.attempts = attempts;
        options.timeout = timeout;
        Client::new(&options)
            .unwrap()
            .with_token("secret-token".to_owned().into())
    }

    fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap().clone()
    }
}

fn read_request(stream: &mut impl BufRead) -> Option<String> {
    let mut text = String::new();
    let mut length = 0;
    loop {
        let mut line = String::new();
        if stream.read_line(&mut line).ok()? == 0 {
            return None;
        }
        let lower = line.to_ascii_lowercase();
        if let Some(n) = lower.strip_prefix("content-length:") {
            length = n.trim().parse().unwrap();
        }
        text.push_str(&line);
        if line == "\r\n" {
            break;
        }
    }
    let mut body = vec![0; length];
    stream.read_exact(&mut body).ok()?;
    text.push_str(&String::from_utf8_lossy(&body));
    Some(text)
}

fn answer(status: &str, content_type: &str, extra: &str, body: &str) -> String {
    format!(
        "HTTP/1.1 {status}\r\ncontent-type: {content_type}\r\ncontent-length: {}\r\n\
         connection: close\r\n{extra}\r\n{body}",
        body.len()
    )
}

fn problem(status: &str, code: &str, retryable: bool, more: &str) -> String {
    let number: u16 = status[..3].parse().unwrap();
    let body = format!(
        r#"{{"type":"urn:countersign:problem:{code}","title":"T","status":{number},"detail":"D",
           "instance":"req-1","code":"{code}","retryable":{retryable}{more}}}"#
    );
    answer(status, "application/problem+json", "", &body)
}

fn signature() -> String {
    signatures(&format!("[{}]", signed("one", "aa")))
}

fn signed(id: &str, by: &str) -> String {
    format!(
        r#"{{"id":"{id}","signature":"AQID","scheme":"ecdsa-sha-256","certificate_sha256":"{by}",
        "receipt":"r","request":"q","new_member":1}}"#
    )
}

/// Of two keys.
fn signatures(results: &str) -> String {
    let body = format!(
        r#"{{"signed_by":[
        {{"certificate_sha256":"aa","key":"k","certificate_chain":["AA=="],"log":{{"origin":"o","vkey":"v"}}}},
        {{"certificate_sha256":"bb","key":"l","certificate_chain":["AQ=="],"log":{{"origin":"p","vkey":"w"}}}}],
        "results":{results},"new_member":1}}"#
    );
    answer("200 OK", "application/json", "", &body)
}

fn item(id: &str) -> dto::SignatureItem {
    dto::SignatureItem {
        id: id.into(),
        content: dto::Content::Cms {
            signed_attributes: vec![1, 2].into(),
        },
        digest_algorithm: countersign_core::HashAlgorithm::Sha256,
    }
}

fn sign_all(client: &Client, ids: &[&str]) -> Result<Vec<ItemResult>, Error> {
    let items: Vec<_> = ids.iter().map(|id| item(id)).collect();
    client.sign(
        &"acme".parse().unwrap(),
        &"release".parse().unwrap(),
        &items,
        "idem-1",
    )
}

fn sign(client: &Client) -> Result<dto::Signature, Error> {
    let mut all = sign_all(client, &["one"])?;
    all.remove(0).map_err(Error::Api)
}

#[test]
fn each_item_of_a_batch_has_its_own_answer() {
    let refused = r#"{"id":"b","problem":{"status":403,"code":"denied","title":"T","detail":"D",
        "instance":"q","retryable":false,"reasons":[]}}"#;
    let busy =
        r#"{"id":"c","problem":{"status":503,"code":"busy","retryable":true,"retry_after_s":7}}"#;
    let all = format!(
        "[{},{refused},{busy},{}]",
        signed("a", "bb"),
        signed("d", "aa")
    );
    let server = Server::start(vec![signatures(&all)]);
    let got = sign_all(&server.client(), &["a", "b", "c", "d"]).unwrap();
    let [Ok(a), Err(b), Err(c), Ok(d)] = got.as_slice() else {
        panic!("{got:?}")
    };
    // Each with the key that signed it: one was replaced in between.
    assert_eq!((a.key.as_str(), a.log.vkey.as_str()), ("l", "w"));
    assert_eq!((d.key.as_str(), d.certificate_chain[0].0[0]), ("k", 0));
    assert_eq!(
        (b.status, b.code.as_str(), b.retryable),
        (403, "denied", false)
    );
    assert_eq!((c.retryable, c.retry_after_s), (true, Some(7)));
    assert_eq!(
        server.asked().len(),
        1,
        "what to do about items is the caller's business"
    );
}

#[test]
fn an_answer_that_does_not_fit_the_items_is_none() {
    let two = format!("[{},{}]", signed("a", "aa"), signed("b", "aa"));
    let both = signed("a", "aa").replace("\"receipt\"", "\"problem\":{},\"receipt\"");
    for (results, ids) in [
        (two.as_str(), &["a"][..]),
        (&two, &["b", "a"]),
        ("[]", &["a"]),
        ("[{\"id\":\"a\"}]", &["a"]),
        (&format!("[{}]", signed("a", "cc")), &["a"]),
        (&format!("[{both}]"), &["a"]),
    ] {
        let server = Server::start(vec![signatures(results)]);
        let got = sign_all(&server.client(), ids);
        assert!(
            matches!(got, Err(Error::BadAnswer { .. })),
            "{results}: {got:?}"
        );
    }
}

#[test]
fn a_refusal_carries_code_reasons_and_request() {
    let reasons = r#","reasons":[{"grant":"g","steps":[]}],"field":"content.digest""#;
    let server = Server::start(vec![problem("403 Forbidden", "denied", false, reasons)]);
    let Err(Error::Api(e)) = sign(&server.client()) else {
        panic!("must be refused")
    };
    assert_eq!(
        (e.status, e.code.as_str(), e.request_id.as_str()),
        (403, "denied", "req-1")
    );
    assert_eq!(e.reasons.len(), 1);
    assert_eq!(e.field.as_deref(), Some("content.digest"));
    assert_eq!(server.asked().len(), 1, "a refusal is not retried");
}

#[test]
fn a_signature_is_retried_under_the_same_idempotency_key() {
    let server = Server::start(vec![
        problem("503 Service Unavailable", "busy", true, ""),
        String::new(),
        signature(),
    ]);
    let s = sign(&server.client()).unwrap();
    assert_eq!(s.signature.0, [1, 2, 3]);
    let asked = server.asked();
    assert_eq!(asked.len(), 3);
    for request in &asked {
        assert!(request.starts_with("POST /v1/tenants/acme/signers/release/signatures HTTP/1.1"));
        assert!(request.contains("idempotency-key: idem-1\r\n"), "{request}");
        assert!(request.contains("authorization: Bearer secret-token\r\n"));
        assert!(request.ends_with(
            r#"{"items":[{"id":"one","content":{"type":"cms","signed_attributes":"AQI="},"digest_algorithm":"sha-256"}]}"#
        ));
    }
}

#[test]
fn what_may_have_been_done_is_not_done_again() {
    // The connection breaks after the request went out: a key may exist.
    let server = Server::start(vec![String::new(), signature()]);
    let made = server
        .client()
        .create_key(&"acme".parse().unwrap(), &"release".parse().unwrap());
    assert!(matches!(made, Err(Error::Unreachable { .. })), "{made:?}");
    assert_eq!(server.asked().len(), 1);
    // Nor is an ID token exchanged twice: it is good for one exchange.
    let server = Server::start(vec![String::new(), signature()]);
    assert!(server.client().exchange("a.b.c", None, &[]).is_err());
    assert_eq!(server.asked().len(), 1);
}

#[test]
fn the_exchange_is_the_form_of_rfc_8693() {
    let body =
        r#"{"access_token":"t","issued_token_type":"x","token_type":"Bearer","expires_in":300}"#;
    let server = Server::start(vec![answer("200 OK", "application/json", "", body)]);
    let token = server
        .client()
        .exchange(
            "a+b",
            Some(&"acme".parse().unwrap()),
            &["x".parse().unwrap(), "y".parse().unwrap()],
        )
        .unwrap();
    assert_eq!((token.access_token.as_str(), token.expires_in), ("t", 300));
    let asked = server.asked().remove(0);
    assert!(asked.contains("subject_token=a%2Bb"), "{asked}");
    assert!(asked.contains("&tenant=acme&scope=x%20y"), "{asked}");
}

#[test]
fn an_answer_that_is_not_ours_is_an_error_not_a_panic() {
    let html = answer(
        "502 Bad Gateway",
        "text/html",
        "x-request-id: r9\r\n",
        "<html>",
    );
    let server = Server::start(vec![html]);
    let Err(Error::Api(e)) = server.client_with(1, Duration::from_secs(5)).whoami() else {
        panic!("must fail")
    };
    assert_eq!(
        (e.code.as_str(), e.retryable, e.request_id.as_str()),
        ("http-502", true, "r9")
    );

    let server = Server::start(vec![answer("200 OK", "application/json", "", "{")]);
    assert!(matches!(
        server.client().whoami(),
        Err(Error::BadAnswer { .. })
    ));

    // A redirect is never followed: the token would go with it.
    let away = answer(
        "302 Found",
        "text/plain",
        "location: https://evil.example/\r\n",
        "",
    );
    let server = Server::start(vec![away]);
    assert_eq!(
        server.client().whoami().unwrap_err().api().unwrap().status,
        302
    );
}

#[test]
fn a_flood_is_cut_off() {
    let body = "x".repeat(5 * 1024 * 1024);
    let server = Server::start(vec![answer("200 OK", "application/json", "", &body)]);
    let e = server.client().whoami().unwrap_err();
    assert!(
        matches!(
            e,
            Error::TooLarge {
                limit: 4_194_304,
                ..
            }
        ),
        "{e}"
    );
}

#[test]
fn a_stranger_with_another_certificate_is_not_spoken_to() {
    let server = Server::start(vec![signature()]);
    let other = Server::start(vec![]);
    let mut options = Options::new(server.url.clone());
    options.ca_file = Some(other.ca_file.clone());
    let e = Client::new(&options).unwrap().whoami().unwrap_err();
    assert!(matches!(e, Error::Tls { .. }), "{e:?}");
    assert!(server.asked().is_empty());
}

#[test]
fn nobody_there_and_nobody_answering_are_retryable() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let with_ca = Server::start(vec![]);
    let mut options = Options::new(format!("https://localhost:{port}"));
    options.ca_file = Some(with_ca.ca_file.clone());
    options.timeout = Duration::from_millis(300);
    options.attempts = 1;
    let e = Client::new(&options).unwrap().whoami().unwrap_err();
    assert!(e.retryable() && matches!(e, Error::Timeout { .. }), "{e:?}");
    drop(listener);
    let e = Client::new(&options).unwrap().whoami().unwrap_err();
    assert!(
        e.retryable() && matches!(e, Error::Unreachable { .. }),
        "{e:?}"
    );
}

#[test]
fn plain_http_and_bad_ca_files_are_usage_errors() {
    let e = Client::new(&Options::new("http://sign.example")).unwrap_err();
    assert!(matches!(
        e,
        Error::Usage {
            field: "server",
            ..
        }
    ));
    let dir = tempfile::tempdir().unwrap();
    let mut options = Options::new("https://sign.example");
    options.ca_file = Some(dir.path().join("absent.pem"));
    let e = Client::new(&options).unwrap_err();
    assert!(matches!(
        e,
        Error::Usage {
            field: "ca_file",
            ..
        }
    ));
    std::fs::write(dir.path().join("empty.pem"), "nothing").unwrap();
    options.ca_file = Some(dir.path().join("empty.pem"));
    assert!(Client::new(&options).is_err());
}
