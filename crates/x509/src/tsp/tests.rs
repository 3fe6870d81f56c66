use super::*;
use crate::hash;
use crate::testutil::{openssl, read, try_openssl, write};
use proptest::prelude::*;
use std::path::Path;

const NONCE: u64 = 0x0123_4567_89ab_cdef;

/// A timestamp authority on `openssl ts`, in a folder of its own.
struct Tsa {
    dir: tempfile::TempDir,
}

impl Tsa {
    fn new(extended_key_usage: &str, ess_hash: &str, key: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let d = dir.path();
        write(
            d,
            "c.cnf",
            format!(
                "[req]\ndistinguished_name = dn\nprompt = no\n[dn]\nC = DE\nO = Test Trust\n\
                 CN = Test TSA\n[ca]\nbasicConstraints = critical,CA:TRUE\n\
                 keyUsage = critical,keyCertSign\nsubjectKeyIdentifier = hash\n[tsa]\n\
                 keyUsage = critical,digitalSignature\n{extended_key_usage}\n\
                 [ts]\ndefault_tsa = t\n[t]\nserial = ./serial\ncrypto_device = builtin\n\
                 signer_cert = ./tsa.pem\nsigner_key = ./tsa.key\nsigner_digest = sha256\n\
                 default_policy = 1.2.3.4.1\ndigests = sha256, sha384, sha512\n\
                 accuracy = secs:1\nordering = yes\ntsa_name = yes\ness_cert_id_chain = no\n\
                 ess_cert_id_alg = {ess_hash}\nclock_precision_digits = 3\n"
            ),
        );
        openssl(
            d,
            "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-384 -nodes -keyout ca.key -out ca.pem -config c.cnf -extensions ca -days 30 -subj /C=DE/O=Test/CN=TSA-Root",
        );
        openssl(
            d,
            &format!("req -new -newkey {key} -nodes -keyout tsa.key -out tsa.csr -config c.cnf"),
        );
        openssl(
            d,
            "x509 -req -in tsa.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 20 -extfile c.cnf -extensions tsa -out tsa.pem",
        );
        write(d, "serial", "0F00\n");
        Self { dir }
    }

    fn good() -> Self {
        Self::new(
            "extendedKeyUsage = critical,timeStamping",
            "sha256",
            "rsa:3072",
        )
    }

    fn path(&self) -> &Path {
        self.dir.path()
    }

    fn reply(&self, request: &[u8]) -> Vec<u8> {
        write(self.path(), "q.tsq", request);
        // openssl writes a reply for a refusal too, and fails.
        let (_, text) = try_openssl(
            self.path(),
            "ts -reply -config c.cnf -section t -queryfile q.tsq -out r.tsr",
        );
        assert!(self.path().join("r.tsr").exists(), "{text}");
        read(self.path(), "r.tsr")
    }

    fn root(&self) -> Certificate {
        Certificate::from_pem(&String::from_utf8(read(self.path(), "ca.pem")).unwrap()).unwrap()
    }
}

fn request(h: HashAlgorithm) -> TimestampRequest {
    let digest = hash::digest(h, b"a signature");
    TimestampRequest::new(h, digest.as_bytes(), NONCE).unwrap()
}

#[test]
fn openssl_reads_our_request_and_we_accept_its_answer() {
    let foreign = Tsa::good().root();
    for (ess, key) in [
        ("sha256", "rsa:2048"),
        ("sha1", "rsa:3072"),
        ("sha384", "ec -pkeyopt ec_paramgen_curve:P-384"),
    ] {
        let tsa = Tsa::new("extendedKeyUsage = critical,timeStamping", ess, key);
        for h in HashAlgorithm::ALL {
            let q = request(h);
            let reply = tsa.reply(&q.to_der());
            let text = openssl(tsa.path(), "ts -query -in q.tsq -text");
            for expected in [
                format!("Hash Algorithm: {}", h.as_str().replace("sha-", "sha")),
                "Nonce: 0x0123456789ABCDEF".to_owned(),
                "Certificate required: yes".to_owned(),
            ] {
                assert!(text.contains(&expected), "{text}");
            }
            let token = parse_response(&reply, &q).unwrap_or_else(|e| panic!("{ess} {key}: {e}"));
            assert_eq!(token.policy, ObjectIdentifier::new_unwrap("1.2.3.4.1"));
            assert_eq!(token.tsa.subject_text(), "CN=Test TSA,O=Test Trust,C=DE");
            assert!(token.tsa.is_valid_at(token.gen_time));
            // openssl says the same time, to the second.
            let text = openssl(tsa.path(), "ts -reply -in r.tsr -text");
            let line = text
                .lines()
                .find(|l| l.starts_with("Time stamp: "))
                .unwrap();
            let second = format!(":{:02}", token.gen_time.seconds().rem_euclid(60));
            assert!(line.contains(&second), "{line} {:?}", token.gen_time);

            let chain = token.verify_chain(&[tsa.root()]).unwrap();
            assert_eq!(chain.certs.len(), 2);
            assert!(matches!(
                token.verify_chain(std::slice::from_ref(&foreign)),
                Err(ChainError::Signature { .. })
            ));
            assert_eq!(
                verify_token(&token.token_der, q.imprint()),
                Ok(token.clone())
            );
            // The token alone verifies with openssl too.
            write(tsa.path(), "token.der", &token.token_der);
            write(tsa.path(), "data", b"a signature");
            openssl(
                tsa.path(),
                "ts -verify -data data -in token.der -token_in -CAfile ca.pem",
            );
        }
    }
}

#[test]
fn answers_to_other_requests_are_refused() {
    let tsa = Tsa::good();
    let q = request(HashAlgorithm::Sha256);
    let reply = tsa.reply(&q.to_der());
    let mut other = q.clone();
    other.nonce = 5;
    assert_eq!(parse_response(&reply, &other), Err(TspError::NonceMismatch));
    let other = request(HashAlgorithm::Sha384);
    assert_eq!(
        parse_response(&reply, &other),
        Err(TspError::ImprintMismatch)
    );
    let digest = hash::digest(HashAlgorithm::Sha256, b"another signature");
    let other = TimestampRequest::new(HashAlgorithm::Sha256, digest.as_bytes(), NONCE).unwrap();
    assert_eq!(
        parse_response(&reply, &other),
        Err(TspError::ImprintMismatch)
    );

    // A request without a nonce: the answer has none either.
    write(tsa.path(), "data", b"a signature");
    openssl(
        tsa.path(),
        "ts -query -data data -sha256 -cert -no_nonce -out n.tsq",
    );
    let reply = tsa.reply(&read(tsa.path(), "n.tsq"));
    assert_eq!(parse_response(&reply, &q), Err(TspError::NonceMismatch));
    // ... and one without the wish for a certificate.
    openssl(tsa.path(), "ts -query -data data -sha256 -out n.tsq");
    let reply = tsa.reply(&read(tsa.path(), "n.tsq"));
    assert_eq!(
        parse_response(&reply, &q),
        Err(TspError::Cms(CmsError::NoSignerCertificate))
    );
}

#[test]
fn a_refusal_says_why() {
    let tsa = Tsa::good();
    write(tsa.path(), "data", b"a signature");
    openssl(tsa.path(), "ts -query -data data -md5 -cert -out n.tsq");
    let reply = tsa.reply(&read(tsa.path(), "n.tsq"));
    match parse_response(&reply, &request(HashAlgorithm::Sha256)) {
        // badAlg is bit 0 (RFC 3161 §2.4.2).
        Err(TspError::Refused {
            status: 2,
            failure,
            text,
        }) => {
            assert_eq!(failure, [0]);
            assert!(text.contains("not supported"), "{text}");
        }
        other => panic!("{other:?}"),
    }
    let granted_without_token = asn1::sequence(&[&asn1::sequence(&[&asn1::unsigned(&[0])])]);
    assert_eq!(
        parse_response(&granted_without_token, &request(HashAlgorithm::Sha256)),
        Err(TspError::NoToken)
    );
}

#[test]
fn an_imprint_of_the_wrong_length_is_not_asked_for() {
    assert!(matches!(
        TimestampRequest::new(HashAlgorithm::Sha256, &[0; 20], 1),
        Err(TspError::Imprint(_))
    ));
}

/// The TSTInfo in an answer of `tsa`.
fn tst_info(tsa: &Tsa, q: &TimestampRequest) -> Vec<u8> {
    let token = parse_response(&tsa.reply(&q.to_der()), q).unwrap();
    let parsed = ParsedSignedData::parse(&token.token_der).unwrap();
    parsed.content_octets().unwrap().to_vec()
}

#[test]
fn tokens_of_certificates_for_other_purposes_are_refused() {
    // openssl itself will not sign with such certificates, so the token is made by `openssl cms`
    // over the TSTInfo of a good one.
    let good = Tsa::good();
    let q = request(HashAlgorithm::Sha256);
    let mut tst = Vec::new();
    for (eku, expected) in [
        ("extendedKeyUsage = critical,timeStamping", None),
        (
            "extendedKeyUsage = timeStamping",
            Some(TspError::ExtendedKeyUsage),
        ),
        (
            "extendedKeyUsage = critical,timeStamping,codeSigning",
            Some(TspError::ExtendedKeyUsage),
        ),
        (
            "extendedKeyUsage = critical,codeSigning",
            Some(TspError::ExtendedKeyUsage),
        ),
        ("", Some(TspError::ExtendedKeyUsage)),
    ] {
        let other = Tsa::new(eku, "sha256", "rsa:2048");
        let d = other.path();
        // After the certificate was made: a time before it is refused for that reason.
        tst = tst_info(&good, &q);
        write(d, "tst", &tst);
        openssl(
            d,
            "cms -sign -cades -binary -nodetach -econtent_type 1.2.840.113549.1.9.16.1.4 -in tst \
             -signer tsa.pem -inkey tsa.key -outform DER -out t.der",
        );
        let result = verify_token(&read(d, "t.der"), q.imprint());
        assert_eq!(result.err(), expected, "{eku}");
    }
    // Without -cades there is no signing-certificate attribute.
    let d = good.path();
    write(d, "tst", &tst);
    openssl(
        d,
        "cms -sign -binary -nodetach -econtent_type 1.2.840.113549.1.9.16.1.4 -in tst \
         -signer tsa.pem -inkey tsa.key -outform DER -out t.der",
    );
    assert_eq!(
        verify_token(&read(d, "t.der"), q.imprint()),
        Err(TspError::SigningCertificate)
    );
    openssl(
        d,
        "cms -sign -cades -binary -nodetach -in tst -signer tsa.pem -inkey tsa.key -outform DER -out t.der",
    );
    assert_eq!(
        verify_token(&read(d, "t.der"), q.imprint()),
        Err(TspError::ContentType(oid::DATA))
    );
}

#[test]
fn a_time_outside_the_certificates_validity_is_refused() {
    let q = request(HashAlgorithm::Sha256);
    let tst = tst_info(&Tsa::good(), &q);
    std::thread::sleep(std::time::Duration::from_millis(1100));
    let later = Tsa::good();
    let d = later.path();
    write(d, "tst", &tst);
    openssl(
        d,
        "cms -sign -cades -binary -nodetach -econtent_type 1.2.840.113549.1.9.16.1.4 -in tst \
         -signer tsa.pem -inkey tsa.key -outform DER -out t.der",
    );
    assert_eq!(
        verify_token(&read(d, "t.der"), q.imprint()),
        Err(TspError::NotValidThen)
    );
}

fn sample() -> &'static (TimestampRequest, Vec<u8>, Token) {
    static SAMPLE: std::sync::LazyLock<(TimestampRequest, Vec<u8>, Token)> =
        std::sync::LazyLock::new(|| {
            let q = request(HashAlgorithm::Sha256);
            let reply = Tsa::good().reply(&q.to_der());
            let token = parse_response(&reply, &q).unwrap();
            (q, reply, token)
        });
    &SAMPLE
}

proptest! {
    #[test]
    fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        let _ = parse_response(&bytes, &request(HashAlgorithm::Sha256));
        let _ = verify_token(&bytes, request(HashAlgorithm::Sha256).imprint());
        let _ = TstInfo::read(&bytes);
        let _ = read_status(&bytes);
    }

    #[test]
    fn mutated_answers_never_panic_nor_move_time(at: prop::sample::Index, flip in 1u8..) {
        let (q, reply, token) = sample();
        let mut m = reply.clone();
        m[at.index(reply.len())] ^= flip;
        if let Ok(t) = parse_response(&m, q) {
            prop_assert_eq!(t.gen_time, token.gen_time);
            prop_assert_eq!(t.policy, token.policy);
            prop_assert_eq!(t.tsa.der(), token.tsa.der());
        }
    }
}
