//! A device that speaks for itself: the whole way of a TPM's evidence through a live worker, judged by the
//! verifier, which knows nothing of the worker. The CA's side is openssl and tpm2-tools.
#![allow(clippy::unwrap_used, clippy::panic)] // helpers of tests

mod common;

use common::{Bench, Client, OperatorsHsm, ServerLog, Worker};
use countersign_attestation::{
    Anchors, AttestationResult, File, Outcome, Policy, Question, SubjectFile, UnixSeconds, Verdict,
    verify,
};
use countersign_core::ports::evidence::{DeviceChallenge, DeviceIdentity, KeyCertification};
use countersign_core::{HashAlgorithm, KeyAlgorithm, KeyId, SignatureScheme, TenantId};
use countersign_hsm_protocol::{EvidenceProblem, Reply, RequestBody, WorkerError};
use countersign_testkit::tpm::{self, LABEL, PIN, SoftwareTpm};
use std::path::{Path, PathBuf};
use std::process::Command;

const NONCE: [u8; 32] = [0x5a; 32];

fn identify(client: &mut Client, tenant: TenantId) -> Result<DeviceIdentity, WorkerError> {
    match client.call(RequestBody::IdentifyDevice { tenant })? {
        Reply::Identity(identity) => Ok(identity),
        other => panic!("{other:?}"),
    }
}

fn answer(client: &mut Client, challenge: &DeviceChallenge) -> Result<Vec<u8>, WorkerError> {
    let (tenant, challenge) = (client.tenant, challenge.clone());
    match client.call(RequestBody::AnswerChallenge { tenant, challenge })? {
        Reply::Answer { secret } => Ok(secret),
        other => panic!("{other:?}"),
    }
}

fn certify(
    client: &mut Client,
    tenant: TenantId,
    key: KeyId,
    nonce: &[u8],
) -> Result<KeyCertification, WorkerError> {
    let nonce = nonce.to_vec();
    match client.call(RequestBody::CertifyKey { tenant, key, nonce })? {
        Reply::Certification(certification) => Ok(certification),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_device_without_an_adapter_says_so_and_strangers_are_told_less() {
    let bench = Bench::new();
    let (worker, mut client, tenant) = bench.with_token("w");
    let key = KeyId::new();
    client.generate(key, KeyAlgorithm::EcP256).unwrap();
    let none = WorkerError::Evidence(EvidenceProblem::NoAdapter {
        profile: "softhsm2".into(),
    });
    assert_eq!(none.to_string(), "profile softhsm2 has no evidence adapter");
    assert_eq!(identify(&mut client, tenant), Err(none.clone()));
    assert_eq!(certify(&mut client, tenant, key, &NONCE), Err(none.clone()));
    let challenge = DeviceChallenge {
        id_object: vec![1; 66],
        encrypted_secret: vec![2; 256],
    };
    assert_eq!(answer(&mut client, &challenge), Err(none));
    let other = TenantId::new();
    assert_eq!(identify(&mut client, other), Err(WorkerError::NoSuchKey));
    assert_eq!(
        certify(&mut client, other, key, &NONCE),
        Err(WorkerError::NoSuchKey)
    );
    // Bounds come first.
    for nonce in [&[][..], &[0; 65]] {
        match certify(&mut client, tenant, key, nonce) {
            Err(WorkerError::BadRequest { field, problem }) => {
                assert_eq!(field, "nonce");
                assert_eq!(problem, "1 to 64 bytes");
            }
            other => panic!("{other:?}"),
        }
    }
    let long = DeviceChallenge {
        id_object: vec![1; 513],
        ..challenge
    };
    assert!(matches!(
        answer(&mut client, &long),
        Err(WorkerError::BadRequest { field, .. }) if field == "id_object"
    ));
    drop(worker);
}

/// A SoftHSM run under a profile that calls it a TPM.
#[test]
fn a_module_that_the_adapter_does_not_know_is_refused() {
    let bench = Bench::new();
    let hsm = OperatorsHsm::new(bench.state("operator"));
    hsm.token("codesign");
    let profile = std::fs::read_to_string(common::profile()).unwrap();
    let path = bench.dir.path().join("profile.toml");
    let named = profile.replacen("software = true", "software = true\nevidence = \"tpm2\"", 1);
    assert_ne!(named, profile);
    std::fs::write(&path, named).unwrap();
    let config = hsm.config(&bench, "codesign", "");
    let text = std::fs::read_to_string(&config).unwrap();
    let text = text.replace(
        "profile = 'softhsm2'",
        &format!("profile = '{}'", path.display()),
    );
    std::fs::write(&config, text).unwrap();
    let worker = bench.start_with("w", &config, &[]);
    let mut client = worker.client();
    let tenant = TenantId::new();
    client.init(tenant).unwrap();
    let key = KeyId::new();
    client.generate(key, KeyAlgorithm::EcP256).unwrap();
    let refused = certify(&mut client, tenant, key, &NONCE).unwrap_err();
    if cfg!(feature = "tpm") {
        assert!(
            matches!(
                &refused,
                WorkerError::Evidence(EvidenceProblem::UnknownModule { seen, .. })
                    if seen.starts_with("SoftHSM 2.")
            ),
            "{refused:?}"
        );
        let unconfigured = identify(&mut client, tenant).unwrap_err().to_string();
        assert_eq!(
            unconfigured,
            "TPM2_PKCS11_TCTI in the token's environment: is not set"
        );
    } else {
        assert_eq!(
            refused.to_string(),
            "this worker was built without the TPM adapter"
        );
    }
}

/// The way of an order with a device.
struct Bed {
    bench: Bench,
    tpm: SoftwareTpm,
    config: PathBuf,
}

impl Bed {
    /// With a resource manager before the TPM, as there is before a chip. `None`, and loudly, where it
    /// cannot be.
    fn new() -> Option<Self> {
        Self::with(true)
    }

    fn with(manager: bool) -> Option<Self> {
        let mut missing = tpm::missing();
        if manager {
            missing.extend(tpm::missing_manager());
        }
        if !cfg!(feature = "tpm") {
            missing.push("libtss2-dev when this was built (feature `tpm`)");
        }
        if !missing.is_empty() {
            eprintln!(
                "SKIPPED: no TPM's evidence was made: {missing:?} missing (scripts/need.sh test)"
            );
            return None;
        }
        let bench = Bench::new();
        let dir = bench.state("tpm");
        std::fs::create_dir(&dir).unwrap();
        let log = |name| std::fs::File::create(bench.state(name)).unwrap();
        let mut tpm =
            SoftwareTpm::start(&dir, log("swtpm.log").into()).unwrap_or_else(|e| panic!("{e}"));
        if manager {
            tpm.manage(log("abrmd.log").into())
                .unwrap_or_else(|e| panic!("{e}"));
        }
        let config = bench.state("tpm.toml");
        let bed = Self { bench, tpm, config };
        bed.pin(PIN);
        let environment: String = bed
            .tpm
            .environment()
            .iter()
            .map(|(name, value)| format!("{name} = '{value}'\n"))
            .collect();
        let text = format!(
            "module = '{}'\nprofile = '{}'\nthreads = 2\n\
             [environment]\n{environment}TSS2_LOG = 'all+NONE'\n\
             [token]\nlabel = '{LABEL}'\npin_file = '{}'\n",
            bed.tpm.module(),
            bed.tpm.profile().unwrap().display(),
            bed.file("pin").display(),
        );
        std::fs::write(&bed.config, text).unwrap();
        Some(bed)
    }

    fn file(&self, name: &str) -> PathBuf {
        self.tpm.dir().join(name)
    }

    fn write(&self, name: &str, bytes: &[u8]) -> PathBuf {
        let path = self.file(name);
        std::fs::write(&path, bytes).unwrap();
        path
    }

    fn pin(&self, pin: &str) {
        use std::os::unix::fs::PermissionsExt;
        let path = self.write("pin", pin.as_bytes());
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
    }

    fn worker(&self) -> (Worker, Client) {
        self.tpm.flush();
        let worker = self.bench.start_with("w", &self.config, &[]);
        let client = worker.client();
        (worker, client)
    }

    /// What is loaded in the TPM: with a resource manager, nothing that another program loaded.
    fn loaded(&self) -> String {
        [
            "handles-transient",
            "handles-loaded-session",
            "handles-persistent",
        ]
        .map(|what| said(&mut self.tpm.tool("tpm2_getcap", &[what])))
        .join("\n")
    }

    /// A challenge for the identity, made by tpm2-tools without a TPM, to an attestation key of this Name.
    fn challenge(&self, identity: &DeviceIdentity, name: &[u8], secret: &[u8]) -> DeviceChallenge {
        let ek = self.write("ek.der", &identity.endorsement[0]);
        let mut pem = Command::new("openssl");
        pem.args(["x509", "-inform", "der", "-noout", "-pubkey", "-in"]);
        let pem = said(pem.arg(ek));
        let (ek, secret) = (
            self.write("ek.pem", pem.as_bytes()),
            self.write("secret", secret),
        );
        let out = self.file("credential");
        let mut make = self
            .tpm
            .tool("tpm2_makecredential", &["-T", "none", "-G", "rsa"]);
        make.arg("-u").arg(ek).arg("-s").arg(secret);
        make.args(["-n", &hex::encode(name)]).arg("-o").arg(&out);
        said(&mut make);
        // A header of eight bytes, TPM2B_ID_OBJECT, TPM2B_ENCRYPTED_SECRET.
        let bytes = std::fs::read(out).unwrap();
        let (id_object, rest) = sized(&bytes[8..]);
        let (encrypted_secret, rest) = sized(rest);
        assert_eq!(rest, b"");
        DeviceChallenge {
            id_object: id_object.to_vec(),
            encrypted_secret: encrypted_secret.to_vec(),
        }
    }

    /// A CA for attestation keys, and its certificate of this one: root and certificate, PEM.
    fn certificate_of(&self, attestation_key: &[u8]) -> [Vec<u8>; 2] {
        let length = u16::try_from(attestation_key.len()).unwrap();
        let area = [&length.to_be_bytes()[..], attestation_key].concat();
        let area = self.write("ak.pub", &area);
        let mut print = self
            .tpm
            .tool("tpm2_print", &["-t", "TPM2B_PUBLIC", "-f", "pem"]);
        let pem = said(print.arg(area));
        let key = self.write("ak.pem", pem.as_bytes());
        let extensions = self.write(
            "ak.cnf",
            b"basicConstraints=critical,CA:FALSE\nkeyUsage=critical,digitalSignature\n\
              extendedKeyUsage=2.23.133.8.3\nsubjectAltName=critical,dirName:tpm\n[tpm]\n\
              0.2.23.133.2.1=id:00001014\n1.+2.23.133.2.2=swtpm\n2.+2.23.133.2.3=id:20191023\n",
        );
        let (root, root_key, certificate) = (
            self.file("root.pem"),
            self.file("root.key"),
            self.file("ak.crt"),
        );
        let mut make = Command::new("openssl");
        make.args(["req", "-x509", "-newkey", "ec", "-nodes", "-days", "10"])
            .args([
                "-pkeyopt",
                "ec_paramgen_curve:P-256",
                "-subj",
                "/CN=Test AK Root",
            ])
            .args(["-addext", "keyUsage=critical,keyCertSign", "-out"])
            .arg(&root)
            .arg("-keyout")
            .arg(&root_key);
        said(&mut make);
        let mut issue = Command::new("openssl");
        issue
            .args(["x509", "-new", "-subj", "/", "-days", "9", "-force_pubkey"])
            .arg(key)
            .arg("-CA")
            .arg(&root)
            .arg("-CAkey")
            .arg(&root_key)
            .arg("-extfile")
            .arg(extensions)
            .arg("-out")
            .arg(&certificate);
        said(&mut issue);
        [root, certificate].map(|path| std::fs::read(path).unwrap())
    }
}

/// Standard output of what must succeed.
fn said(command: &mut Command) -> String {
    let out = command.output().unwrap();
    assert!(out.status.success(), "{command:?}: {out:?}");
    String::from_utf8_lossy(&out.stdout).into_owned()
}

fn sized(bytes: &[u8]) -> (&[u8], &[u8]) {
    let length = usize::from(u16::from_be_bytes([bytes[0], bytes[1]]));
    bytes[2..].split_at(length)
}

/// A Name: the hash's number, then the hash of the public area (TPM 2.0 Library part 1 §16).
fn name(public: &[u8]) -> Vec<u8> {
    let hash = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, public);
    [&[0, 0x0b], hash.as_ref()].concat()
}

/// `Tcg-csr-tpm-certify`: three OCTET STRINGs.
fn statement(c: &KeyCertification) -> Vec<u8> {
    fn tlv(tag: u8, content: &[u8]) -> Vec<u8> {
        let length = u16::try_from(content.len()).unwrap().to_be_bytes();
        [&[tag, 0x82][..], &length, content].concat()
    }
    /// DER wants the shortest length.
    fn der(tag: u8, content: &[u8]) -> Vec<u8> {
        match u8::try_from(content.len()) {
            Ok(n @ 0..=0x7f) => [&[tag, n][..], content].concat(),
            Ok(n) => [&[tag, 0x81, n][..], content].concat(),
            Err(_) => tlv(tag, content),
        }
    }
    let parts = [&c.attest, &c.signature, &c.public].map(|p| der(0x04, p));
    der(0x30, &parts.concat())
}

struct Ca<'a> {
    root: &'a [u8],
    certificate: &'a [u8],
}

impl Ca<'_> {
    /// What a CA says that trusts this root, demands a key for signing alone, and gave this nonce.
    fn appraise(&self, spki: &[u8], statement: &[u8], nonce: &[u8]) -> AttestationResult {
        let mut anchors = Anchors::pinned();
        anchors.add_file("root.pem", self.root).unwrap();
        let policy = ["sign-only", "fresh"]
            .iter()
            .fold(Policy::origin(), |p, r| p.require(r.parse().unwrap()));
        let now = std::time::SystemTime::now()
            .duration_since(std::time::UNIX_EPOCH)
            .unwrap();
        let file = |name, bytes| File { name, bytes };
        verify(&Question {
            subject: SubjectFile::PublicKey(file("key.der", spki)),
            evidence: &[
                file("statement.der", statement),
                file("ak.pem", self.certificate),
            ],
            at: UnixSeconds::new(i64::try_from(now.as_secs()).unwrap()).unwrap(),
            nonce: Some(nonce),
            policy: &policy,
            anchors: &anchors,
        })
    }
}

fn fails(result: &AttestationResult) -> Vec<String> {
    assert_ne!(result.verdict, Verdict::Accept);
    result
        .checks
        .iter()
        .filter(|c| c.outcome == Outcome::Fail)
        .map(|c| c.name.to_string())
        .collect()
}

#[test]
fn a_tpm_proves_itself_and_certifies_the_key_that_the_module_made() {
    let Some(bed) = Bed::new() else { return };
    let tenant = TenantId::new();
    let (worker, mut client) = bed.worker();
    client.init(tenant).unwrap();
    let enforced = |measure: &str| {
        let found = client.hello.sandbox.iter().find(|m| m.measure == measure);
        found.is_some_and(|m| m.enforced)
    };
    // As the profile that comes with us says.
    for measure in ["system-calls", "network"] {
        assert!(enforced(measure), "{:?}", client.hello.sandbox);
    }
    let (key, other) = (KeyId::new(), KeyId::new());
    let (spki, _) = client.generate(key, KeyAlgorithm::EcP256).unwrap();
    let (other_spki, _) = client.generate(other, KeyAlgorithm::EcP256).unwrap();

    // The endorsement is the maker's, by tpm2-tools and openssl.
    let identity = identify(&mut client, tenant).unwrap();
    let certificate = bed.file("nv.der");
    let mut read = bed.tpm.tool("tpm2_nvread", &["0x1c00002", "-o"]);
    said(read.arg(&certificate));
    assert_eq!(identity.endorsement, [std::fs::read(&certificate).unwrap()]);
    let [root, issuer] = bed.tpm.maker();
    let mut chain = Command::new("openssl");
    chain
        .args(["verify", "-CAfile"])
        .arg(root)
        .arg("-untrusted")
        .arg(issuer);
    said(chain.arg(pem(&bed, &certificate)));
    // A restricted signing key, made in this TPM for ever.
    assert_eq!(identity.attestation_key[4..8], [0, 5, 0, 0x72]);

    // A challenge is answered by the device that was named, holding the key that was named.
    let secret = [0xc5; 32];
    let ours = name(&identity.attestation_key);
    let challenge = bed.challenge(&identity, &ours, &secret);
    assert_eq!(answer(&mut client, &challenge), Ok(secret.to_vec()));
    let mut not_ours = ours.clone();
    *not_ours.last_mut().unwrap() ^= 1;
    let wrong = bed.challenge(&identity, &not_ours, &secret);
    let mut changed = challenge.clone();
    changed.encrypted_secret[100] ^= 1;
    for refused in [&wrong, &changed] {
        let error = answer(&mut client, refused).unwrap_err();
        assert_eq!(error.code(), "evidence-challenge-refused", "{error}");
    }

    // A CA that knows only the attestation key's certificate believes it of this key, for this nonce.
    let [root, certificate] = bed.certificate_of(&identity.attestation_key);
    let ca = Ca {
        root: &root,
        certificate: &certificate,
    };
    let made = certify(&mut client, tenant, key, &NONCE).unwrap();
    let proof = statement(&made);
    let result = ca.appraise(&spki, &proof, &NONCE);
    assert_eq!(
        result.verdict,
        Verdict::Accept,
        "{:?}",
        result.reasons().collect::<Vec<_>>()
    );
    // Another nonce, another key, another root, another byte.
    assert_ne!(fails(&ca.appraise(&spki, &proof, &[0x5b; 32])), [""; 0]);
    assert_ne!(fails(&ca.appraise(&other_spki, &proof, &NONCE)), [""; 0]);
    let [other_root, _] = bed.certificate_of(&identity.attestation_key);
    let stranger = Ca {
        root: &other_root,
        certificate: &certificate,
    };
    assert_ne!(
        stranger.appraise(&spki, &proof, &NONCE).verdict,
        Verdict::Accept
    );
    let mut altered = made.clone();
    altered.attest[40] ^= 1;
    assert_ne!(
        fails(&ca.appraise(&spki, &statement(&altered), &NONCE)),
        [""; 0]
    );

    // Nobody else's, and none that is not there.
    for (who, which) in [
        (TenantId::new(), key),
        (tenant, KeyId::new()),
        (TenantId::new(), KeyId::new()),
    ] {
        assert_eq!(
            certify(&mut client, who, which, &NONCE),
            Err(WorkerError::NoSuchKey)
        );
    }
    assert_eq!(
        identify(&mut client, TenantId::new()),
        Err(WorkerError::NoSuchKey)
    );

    // The key goes on signing, and is certified after a signature as before.
    let mut log = ServerLog::new(tenant, key);
    let scheme = SignatureScheme::Ecdsa(HashAlgorithm::Sha256);
    log.sign(&mut client, scheme, 1).unwrap();
    let again = certify(&mut client, tenant, key, &[7; 64]).unwrap();
    let again = ca.appraise(&spki, &statement(&again), &[7; 64]);
    assert_eq!(again.verdict, Verdict::Accept);
    worker.stop();

    // The attestation key outlives the worker: its certificate stays good.
    let (worker, mut client) = bed.worker();
    assert_eq!(identify(&mut client, tenant).unwrap(), identity);
    let later = certify(&mut client, tenant, other, &[1]).unwrap();
    let later = ca.appraise(&other_spki, &statement(&later), &[1]);
    assert_eq!(later.verdict, Verdict::Accept);
    worker.stop();

    // A binding that names another key than the module holds is caught before the TPM is asked.
    let bindings = bed.bench.state("w/bindings");
    let text = std::fs::read_to_string(bindings.join(format!("{key}.json"))).unwrap();
    let swapped = text.replace(&base64(&spki), &base64(&other_spki));
    assert_ne!(swapped, text);
    std::fs::write(bindings.join(format!("{key}.json")), swapped).unwrap();
    let (worker, mut client) = bed.worker();
    assert!(matches!(
        certify(&mut client, tenant, key, &NONCE),
        Err(WorkerError::BindingBroken(_))
    ));
    worker.stop();
}

/// Three objects and three sessions fit into a TPM, and what stays is in the module's way.
#[test]
fn nothing_stays_loaded_in_a_tpm_without_a_resource_manager() {
    let Some(bed) = Bed::with(false) else { return };
    let tenant = TenantId::new();
    let (worker, mut client) = bed.worker();
    client.init(tenant).unwrap();
    let key = KeyId::new();
    client.generate(key, KeyAlgorithm::EcP256).unwrap();
    // The module itself leaves what it made a key with until it ends.
    worker.stop();
    let (worker, mut client) = bed.worker();
    let before = bed.loaded();
    let identity = identify(&mut client, tenant).unwrap();
    assert_eq!(bed.loaded(), before, "after an identity");
    let secret = [0xc5; 32];
    let name = name(&identity.attestation_key);
    let challenge = bed.challenge(&identity, &name, &secret);
    assert_eq!(answer(&mut client, &challenge), Ok(secret.to_vec()));
    assert_eq!(bed.loaded(), before, "after an answer");
    for _ in 0..2 {
        certify(&mut client, tenant, key, &NONCE).unwrap();
        assert_eq!(bed.loaded(), before, "after a certification");
    }
    let mut changed = challenge;
    changed.id_object[40] ^= 1;
    answer(&mut client, &changed).unwrap_err();
    assert_eq!(bed.loaded(), before, "after a refusal");
    worker.stop();
}

#[test]
fn a_pin_that_was_changed_elsewhere_is_tried_once_and_latched() {
    let Some(bed) = Bed::new() else { return };
    let tenant = TenantId::new();
    let (worker, mut client) = bed.worker();
    client.init(tenant).unwrap();
    let key = KeyId::new();
    client.generate(key, KeyAlgorithm::EcP256).unwrap();
    certify(&mut client, tenant, key, &NONCE).unwrap();
    // The worker goes on with the login that it has; the PIN in its file opens nothing any more.
    bed.pin("not-the-pin");
    for _ in 0..3 {
        let refused = certify(&mut client, tenant, key, &NONCE).unwrap_err();
        // TPM_RC_AUTH_FAIL, of the first session; from then on the TPM is not asked.
        assert_eq!(
            refused,
            WorkerError::Latched("TPM2_Unseal: 0x0000098e".into())
        );
    }
    assert_eq!(bed.bench.log("w").matches("PIN latched").count(), 1);
    assert!(!bed.bench.log("w").contains("not-the-pin"));
    // What needs no PIN is answered still.
    identify(&mut client, tenant).unwrap();
    worker.stop();
}

#[test]
fn a_store_of_another_layout_and_a_spoilt_attestation_key_are_refused() {
    let Some(bed) = Bed::new() else { return };
    let tenant = TenantId::new();
    let (worker, mut client) = bed.worker();
    client.init(tenant).unwrap();
    let key = KeyId::new();
    client.generate(key, KeyAlgorithm::EcP256).unwrap();
    identify(&mut client, tenant).unwrap();
    let kept = worker.state.join("tpm2-attestation-key.json");
    let good = std::fs::read_to_string(&kept).unwrap();
    // Another TPM's: a private part that this one cannot decrypt.
    let parsed: serde_json::Value = serde_json::from_str(&good).unwrap();
    let private = parsed["private"].as_str().unwrap();
    let mut spoilt: Vec<u8> = private.bytes().collect();
    spoilt[20] = if spoilt[20] == b'A' { b'B' } else { b'A' };
    let spoilt = good.replace(private, std::str::from_utf8(&spoilt).unwrap());
    for bad in [
        spoilt.as_str(),
        "{}",
        &good.replace("\"version\":1", "\"version\":2"),
    ] {
        std::fs::write(&kept, bad).unwrap();
        let refused = identify(&mut client, tenant).unwrap_err();
        assert_eq!(refused.code(), "evidence-attestation-key", "{refused}");
    }
    std::fs::write(&kept, good).unwrap();
    certify(&mut client, tenant, key, &NONCE).unwrap();

    // In place: the same file, a table with another column's name.
    let store = bed.file("store/tpm2_pkcs11.sqlite3");
    let mut bytes = std::fs::read(&store).unwrap();
    let at = bytes
        .windows(17)
        .position(|w| w == b"userauthsalt TEXT")
        .unwrap();
    bytes[at] = b'U';
    std::fs::write(&store, bytes).unwrap();
    let refused = certify(&mut client, tenant, key, &NONCE).unwrap_err();
    assert_eq!(refused.code(), "evidence-store", "{refused}");
    assert!(refused.to_string().contains("other columns"), "{refused}");
    worker.stop();
}

fn pem(bed: &Bed, der: &Path) -> PathBuf {
    let out = bed.file("nv.pem");
    let mut convert = Command::new("openssl");
    convert.args(["x509", "-inform", "der", "-in"]).arg(der);
    said(convert.arg("-out").arg(&out));
    out
}

fn base64(bytes: &[u8]) -> String {
    use base64::Engine as _;
    base64::engine::general_purpose::STANDARD.encode(bytes)
}
