//! What is not code is not signed, whoever asks: raw requests with a good service token, each
//! refused with a reason that the tenant finds in its own log.

use crate::support::leaves::of_type;
use crate::support::openssl::{foreign_request, openssl};
use crate::support::raw::{Raw, RawAnswer};
use crate::support::{REPOSITORY, Stack, text};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use countersign_content::{authenticode, cms, digest_of};
use countersign_core::{Digest, HashAlgorithm, SignatureScheme};
use countersign_x509::asn1::{self, Cursor};
use countersign_x509::cert::Certificate;
use countersign_x509::csr::ParsedCsr;
use countersign_x509::key::PublicKey;
use countersign_x509::oid;
use serde_json::{Value, json};
use std::path::Path;

const SHA256: HashAlgorithm = HashAlgorithm::Sha256;

/// Signed attributes for a detached CMS over these bytes, base64.
pub fn cms_attributes(file: &[u8]) -> String {
    let attributes = cms::signed_attributes(&digest_of(SHA256, file), None, None, None);
    STANDARD.encode(attributes.expect("attributes"))
}

/// A batch of one.
fn one(mut item: Value) -> Value {
    item["id"] = "one".into();
    json!({"items": [item]})
}

fn cms_body(attributes: &[u8]) -> Value {
    json!({
        "content": {"type": "cms", "signed_attributes": STANDARD.encode(attributes)},
        "digest_algorithm": "sha-256",
    })
}

fn raw_body(digest: &[u8]) -> Value {
    json!({
        "content": {"type": "raw-digest", "digest": STANDARD.encode(digest)},
        "digest_algorithm": "sha-256",
    })
}

fn authenticode_body(attributes: &[u8], indirect: &[u8]) -> Value {
    json!({
        "content": {
            "type": "authenticode",
            "signed_attributes": STANDARD.encode(attributes),
            "indirect_data": STANDARD.encode(indirect),
        },
        "digest_algorithm": "sha-256",
    })
}

fn attribute(id: &countersign_x509::ObjectIdentifier, value: &[u8]) -> Vec<u8> {
    asn1::sequence(&[&asn1::oid(id), &asn1::tlv(asn1::SET, &[value])])
}

/// Correct attributes of a detached CMS, and these.
fn cms_plus(more: Vec<Vec<u8>>) -> Vec<u8> {
    let digest = digest_of(SHA256, b"a file");
    let mut all = vec![
        attribute(&oid::CONTENT_TYPE, &asn1::oid(&oid::DATA)),
        attribute(&oid::MESSAGE_DIGEST, &asn1::octet_string(digest.as_bytes())),
    ];
    all.extend(more);
    asn1::set_of(all)
}

/// A certificate request by openssl, and its body.
fn certificate_request(folder: &Path) -> (Vec<u8>, Vec<u8>) {
    let der = std::fs::read(foreign_request(folder)).expect("request");
    let info = ParsedCsr::parse(&der)
        .expect("a request")
        .info_der()
        .to_vec();
    (der, info)
}

/// The body of a certificate by openssl.
fn certificate_body(folder: &Path) -> Vec<u8> {
    let request = "req -x509 -new -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout ca.key \
                   -subj /CN=Evil -outform DER -out ca.der";
    openssl(folder, &request.split(' ').collect::<Vec<_>>());
    let der = std::fs::read(folder.join("ca.der")).expect("certificate");
    let whole = Cursor::single(&der, asn1::SEQUENCE, "certificate").expect("a certificate");
    Cursor::new(whole.value)
        .any("tbs")
        .expect("a body")
        .bytes
        .to_vec()
}

struct Signing {
    raw: Raw,
    token: String,
    path: String,
}

impl Signing {
    fn new(stack: &Stack, tenant: &str, signer: &str) -> Self {
        Self {
            raw: stack.raw(),
            token: stack.service_token(tenant, REPOSITORY),
            path: format!("/v1/tenants/{tenant}/signers/{signer}/signatures"),
        }
    }

    fn post(&self, body: &Value) -> RawAnswer {
        let whole = one(body.clone());
        self.raw.post(&self.path, Some(&self.token), &whole).only()
    }

    fn post_bytes(&self, body: &[u8]) -> RawAnswer {
        self.raw
            .send("POST", &self.path, Some(&self.token), Some(body), &[])
    }
}

#[test]
fn what_is_not_code_is_refused_and_logged() {
    let stack = Stack::shared();
    let admin = stack.tenant("content");
    let key = stack.signer(&admin, "content/release", "ec-p256");
    let signing = Signing::new(stack, "content", "release");
    let folder = stack.folder("content");
    let (csr, csr_info) = certificate_request(&folder);
    let tbs_certificate = certificate_body(&folder);
    let good = cms_plus(vec![]);
    let with_trailing = [&good[..], &[0]].concat();
    let smime = countersign_x509::ObjectIdentifier::new_unwrap("1.2.840.113549.1.9.15");
    let extra = cms_plus(vec![attribute(&smime, &asn1::sequence(&[]))]);
    let digest = digest_of(SHA256, b"a program");
    let indirect = authenticode::pe_indirect_data(&digest);
    let attributes =
        authenticode::signed_attributes(&indirect, SHA256, &authenticode::Options::default())
            .expect("attributes");
    let other_indirect = authenticode::pe_indirect_data(&digest_of(SHA256, b"another program"));
    let jwt = b"eyJhbGciOiJFUzI1NiIsInR5cCI6IkpXVCJ9.eyJpc3MiOiJodHRwczovL2lzc3Vlci50ZXN0In0";
    let tst_info = asn1::sequence(&[
        &asn1::unsigned(&[1]),
        &asn1::oid(&oid::POLICY_TIME_STAMPING),
    ]);
    let over_tst = asn1::set_of(vec![
        attribute(&oid::CONTENT_TYPE, &asn1::oid(&oid::TST_INFO)),
        attribute(
            &oid::MESSAGE_DIGEST,
            &asn1::octet_string(digest_of(SHA256, &tst_info).as_bytes()),
        ),
    ]);

    let cms_field = "content.signed_attributes";
    let cases: Vec<(&str, Value, &str, Option<&str>)> = vec![
        (
            "a PKCS#10 body",
            cms_body(&csr_info),
            "content-looks-like-certificate-request",
            Some(cms_field),
        ),
        (
            "a whole PKCS#10",
            cms_body(&csr),
            "content-looks-like-certificate-request",
            Some(cms_field),
        ),
        (
            "a PKCS#10 body as digest",
            raw_body(&csr_info),
            "content-looks-like-certificate-request",
            Some("content.digest"),
        ),
        (
            "a PKCS#10 body as indirect data",
            authenticode_body(&attributes, &csr_info),
            "content-looks-like-certificate-request",
            Some("content.indirect_data"),
        ),
        (
            "a TBSCertificate",
            cms_body(&tbs_certificate),
            "content-looks-like-certificate",
            Some(cms_field),
        ),
        (
            "trailing bytes",
            cms_body(&with_trailing),
            "content-trailing-bytes",
            Some(cms_field),
        ),
        (
            "an extra attribute",
            cms_body(&extra),
            "content-attribute-not-allowed",
            None,
        ),
        (
            "another file's inner hash",
            authenticode_body(&attributes, &other_indirect),
            "content-inner-hash-mismatch",
            None,
        ),
        (
            "detached attributes as Authenticode",
            authenticode_body(&good, &indirect),
            "content-wrong-content-type",
            None,
        ),
        (
            "Authenticode attributes as detached",
            cms_body(&attributes),
            "content-attribute-not-allowed",
            None,
        ),
        (
            "a digest of SHA-1's length",
            raw_body(&[7; 20]),
            "content-wrong-digest-length",
            Some("content.digest"),
        ),
        (
            "a JWT's signing input",
            cms_body(jwt),
            "content-looks-like-jwt",
            Some(cms_field),
        ),
        (
            "a JWT as digest",
            raw_body(jwt),
            "content-looks-like-jwt",
            Some("content.digest"),
        ),
        (
            "attributes over a timestamp",
            cms_body(&over_tst),
            "content-looks-like-timestamp",
            Some(cms_field),
        ),
        (
            "nothing",
            cms_body(&[]),
            "content-unexpected-structure",
            Some(cms_field),
        ),
        (
            "no digest",
            raw_body(&[]),
            "content-wrong-digest-length",
            Some("content.digest"),
        ),
        (
            "an empty set",
            cms_body(&asn1::set_of(vec![])),
            "content-attribute-missing",
            None,
        ),
        (
            "indefinite length",
            cms_body(&[0x31, 0x80, 0, 0]),
            "content-not-der",
            Some(cms_field),
        ),
        (
            "more than is read",
            cms_body(&vec![0x31; 17 * 1024]),
            "content-too-large",
            Some(cms_field),
        ),
    ];
    for (name, body, code, field) in &cases {
        let answer = signing.post(body);
        assert_eq!(
            (answer.status, answer.problem().as_str()),
            (422, "content-refused"),
            "{name}: {answer:?}"
        );
        let told = answer.json();
        assert_eq!(told["refusal"], *code, "{name}: {told}");
        if let Some(field) = field {
            assert_eq!(told["field"], *field, "{name}: {told}");
        }
        assert_eq!(told["retryable"], false, "{name}");
    }

    // Not what the API takes: told with the field, before anybody parses content.
    let unknown = json!({"content": {"type": "cms", "signed_attributes": "AA==", "hash": "AA=="}, "digest_algorithm": "sha-256"});
    let beside = json!({"content": {"type": "cms", "signed_attributes": "AA=="}, "digest_algorithm": "sha-256", "x": 1});
    for (name, body, field) in [
        (
            "base64url",
            json!({"content": {"type": "cms", "signed_attributes": "_-8="}, "digest_algorithm": "sha-256"}),
            "content",
        ),
        (
            "no padding",
            json!({"content": {"type": "cms", "signed_attributes": "AA"}, "digest_algorithm": "sha-256"}),
            "content",
        ),
        ("an unknown member of the content", unknown, "content"),
        ("an unknown member", beside, "x"),
        (
            "an unknown type",
            json!({"content": {"type": "pkcs10", "data": "AA=="}, "digest_algorithm": "sha-256"}),
            "content",
        ),
        (
            "the enrolment path's own type",
            json!({"content": {"type": "certificate-request", "digest": "AA=="}, "digest_algorithm": "sha-256"}),
            "content",
        ),
        (
            "SHA-1",
            json!({"content": {"type": "cms", "signed_attributes": "AA=="}, "digest_algorithm": "sha-1"}),
            "digest_algorithm",
        ),
        (
            "no content",
            json!({"digest_algorithm": "sha-256"}),
            "content",
        ),
        (
            "no digest algorithm",
            json!({"content": {"type": "cms", "signed_attributes": "AA=="}}),
            "digest_algorithm",
        ),
    ] {
        let answer = signing.post(&body);
        assert_eq!(
            (answer.status, answer.problem().as_str()),
            (400, "bad-json"),
            "{name}: {answer:?}"
        );
        let told = answer.json()["field"]
            .as_str()
            .unwrap_or_default()
            .to_owned();
        let field = format!("items[0].{field}");
        assert!(told.starts_with(&field), "{name}: field {told}");
    }
    for (name, body) in [
        ("no JSON", &b"signature, please"[..]),
        ("nothing", b""),
        ("two values", b"{}{}"),
    ] {
        let answer = signing.post_bytes(body);
        assert_eq!(
            (answer.status, answer.problem().as_str()),
            (400, "bad-json"),
            "{name}"
        );
    }
    let huge = one(cms_body(&vec![0x31; 1024 * 1024])).to_string();
    let answer = signing.post_bytes(huge.as_bytes());
    assert_eq!(
        (answer.status, answer.problem().as_str()),
        (413, "too-large")
    );
    let text_body = signing.raw.send(
        "POST",
        &signing.path,
        Some(&signing.token),
        Some(b"{}"),
        &[("content-type", "text/plain")],
    );
    assert_eq!(
        (text_body.status, text_body.problem().as_str()),
        (415, "unsupported-media-type")
    );

    // A digest alone is no content, unless a grant says so.
    let bare = signing.post(&raw_body(digest.as_bytes()));
    assert_eq!((bare.status, bare.problem().as_str()), (403, "denied"));
    let steps = bare.json()["reasons"][0]["steps"].clone();
    assert!(
        steps.as_array().is_some_and(|s| s
            .iter()
            .any(|s| s["claim"] == "(content type)" && s["seen"] == "raw-digest")),
        "{steps}"
    );
    // A digest algorithm that no grant names.
    let sha512 = json!({
        "content": {"type": "cms", "signed_attributes": STANDARD.encode(
            cms::signed_attributes(&digest_of(HashAlgorithm::Sha512, b"a file"), None, None, None).expect("attributes"))},
        "digest_algorithm": "sha-512",
    });
    let answer = signing.post(&sha512);
    assert_eq!((answer.status, answer.problem().as_str()), (403, "denied"));

    // After all that, what is code is signed.
    let answer = signing.post(&authenticode_body(&attributes, &indirect));
    assert_eq!(answer.status, 200, "{answer:?}");

    // All of it stands in the tenant's log, with counts.
    let log = stack.path("content-log");
    let mut wanted: Vec<&str> = cases.iter().map(|c| c.2).collect();
    wanted.sort_unstable();
    wanted.dedup();
    let counted = |leaves: &[Value], code: &str| -> u64 {
        of_type(leaves, "content-refused")
            .iter()
            .filter(|l| l["reason"] == code && l["signer"] == "release")
            .filter_map(|l| l["count"].as_u64())
            .sum()
    };
    let denied = |leaves: &[Value], what: &str| {
        let reason = format!("grant-mismatch:({what})");
        of_type(leaves, "denied")
            .iter()
            .any(|l| l["reason"] == reason && l["signer"] == "release")
    };
    let leaves = admin.tenant_leaves_until(&log, "a refusal", |leaves| {
        wanted.iter().all(|code| counted(leaves, code) > 0)
            && denied(leaves, "content type")
            && denied(leaves, "digest algorithm")
    });
    for code in &wanted {
        let tried = cases.iter().filter(|c| c.2 == *code).count() as u64;
        assert_eq!(counted(&leaves, code), tried, "{code}");
    }
    // The first refusal's caller is in the details, for the tenant alone.
    let shown = admin.ok(&["log", "show", &text(&log)]);
    assert!(
        shown.says("repo:any/app:environment:release"),
        "the details name who it was"
    );

    // And the key was used twice: for its certificate request, and for the one program.
    let uses = admin.key_leaves(&key, &stack.path("content-key-log"));
    let uses: Vec<_> = of_type(&uses, "authorisation")
        .iter()
        .map(|l| l["purpose"].clone())
        .collect();
    assert_eq!(uses, ["certificate-request", "signature"]);
    admin.ok(&["log", "audit", &text(&log)]);
}

#[test]
fn a_digest_alone_is_signed_where_a_grant_says_so_and_the_leaf_says_it_too() {
    let stack = Stack::shared();
    let admin = stack.tenant("content-raw");
    let key = stack.signer(&admin, "content-raw/release", "ec-p384");
    let claim = format!("repository_id={REPOSITORY}");
    let added = admin.ok(&[
        "grants",
        "add",
        "content-raw/release",
        "--issuer",
        stack.platform.url(),
        "--claim",
        &claim,
        "--claim",
        "environment=release",
        "--content",
        "raw-digest",
        "--digest",
        "sha-384",
    ]);
    assert!(
        added.stderr.contains("warning"),
        "an opt-in that weakens is said aloud: {added:?}"
    );
    let signing = Signing::new(stack, "content-raw", "release");
    let digest = digest_of(HashAlgorithm::Sha384, b"something the service never saw");
    let body = json!({
        "content": {"type": "raw-digest", "digest": STANDARD.encode(digest.as_bytes())},
        "digest_algorithm": "sha-384",
    });
    let answer = signing.post(&body);
    assert_eq!(answer.status, 200, "{answer:?}");
    let answer = answer.json();
    assert_eq!(
        (&answer["scheme"], &answer["key"]),
        (&json!("ecdsa-sha-384"), &json!(key))
    );
    let decode = |v: &Value| {
        STANDARD
            .decode(v.as_str().expect("base64"))
            .expect("base64")
    };
    let leaf =
        Certificate::from_der(&decode(&answer["certificate_chain"][0])).expect("a certificate");
    let public = PublicKey::from_spki_der(leaf.spki_der()).expect("a key");
    public
        .verify_digest(
            SignatureScheme::Ecdsa(HashAlgorithm::Sha384),
            &digest,
            &decode(&answer["signature"]),
        )
        .expect("a signature over the digest");
    // Also here a shape that is no digest is none, whatever the grant says.
    let csr = certificate_request(&stack.folder("content-raw")).1;
    let refused = signing.post(&raw_body(&csr));
    assert_eq!(
        (refused.status, refused.problem().as_str()),
        (422, "content-refused")
    );

    let leaves = admin.key_leaves(&key, &stack.path("content-raw-log"));
    let uses = of_type(&leaves, "authorisation");
    let leaf = uses.last().expect("an authorisation");
    assert_eq!(leaf["content"], "raw-digest", "{leaf}");
    assert_eq!(leaf["asserted"], "digest-only", "{leaf}");
    assert!(leaf.get("artifact").is_none(), "no file is known: {leaf}");
    // The details open to the digest that was signed.
    let shown = admin.ok(&["log", "show", &text(&stack.path("content-raw-log"))]);
    assert!(shown.says(&hex_of(&digest)), "{shown:?}");
}

fn hex_of(digest: &Digest) -> String {
    digest
        .as_bytes()
        .iter()
        .map(|b| format!("{b:02x}"))
        .collect()
}
