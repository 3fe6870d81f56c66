//! The accepted cases: evidence that testkit writes, and the shared real evidence.

use countersign_attestation::certificate::Certificate;
use countersign_attestation::result::AttestationResult;
use countersign_attestation::verify::{File, Policy, Question, SubjectFile, verify};
use countersign_attestation::{Anchors, UnixSeconds};
use countersign_testkit_evidence::cert::{attestation_attribute, certs_only, request};
use countersign_testkit_evidence::crypto4a::Crypto4A;
use countersign_testkit_evidence::fortanix::Fortanix;
use countersign_testkit_evidence::marvell::Marvell;
use countersign_testkit_evidence::nshield::{Spec, World};
use countersign_testkit_evidence::pkix::Pkix;
use countersign_testkit_evidence::securosys::Securosys;
use countersign_testkit_evidence::text::pem;
use countersign_testkit_evidence::thales_luna::ThalesLuna;
use countersign_testkit_evidence::tpm2::{TCG_STATEMENT, Tpm2};
use countersign_testkit_evidence::yubihsm2::YubiHsm2;
use countersign_testkit_evidence::yubikey_piv::YubiKeyPiv;
use countersign_testkit_evidence::{Key, Kind};
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// 2026-11-22T00:00:00Z.
const NOW: i64 = 1_795_305_600;

/// An input.
#[derive(Clone)]
pub struct Input {
    pub name: String,
    pub bytes: Vec<u8>,
}

/// A question whose answer is accept. The first file is the subject.
#[derive(Clone)]
pub struct Case {
    pub name: String,
    pub files: Vec<Input>,
    is_csr: bool,
    anchors: Arc<Anchors>,
    policy: Arc<Policy>,
    at: UnixSeconds,
    nonce: Option<Vec<u8>>,
}

impl Case {
    /// Of testkit: files under a test root.
    fn of(name: &str, subject: &[u8], root: &[u8], files: Vec<Vec<u8>>) -> Self {
        let mut anchors = Anchors::pinned();
        anchors.add_file("test anchor", root).unwrap();
        let input = |(i, bytes): (usize, Vec<u8>)| Input {
            name: format!("file-{i}"),
            bytes,
        };
        let mut inputs = vec![Input {
            name: "subject".into(),
            bytes: subject.to_vec(),
        }];
        inputs.extend(files.into_iter().enumerate().map(input));
        Self {
            name: format!("testkit/{name}"),
            files: inputs,
            is_csr: false,
            anchors: Arc::new(anchors),
            policy: Arc::new(Policy::origin()),
            at: UnixSeconds::new(NOW).unwrap(),
            nonce: None,
        }
    }

    fn by_csr(mut self) -> Self {
        self.is_csr = true;
        self
    }

    fn trusting(mut self, root: &[u8]) -> Self {
        let mut anchors = (*self.anchors).clone();
        anchors.add_file("another test anchor", root).unwrap();
        self.anchors = Arc::new(anchors);
        self
    }

    /// Whether an anchor has the certificate's subject as its name.
    pub fn names_anchor(&self, c: &Certificate) -> bool {
        let name = c.subject().to_string();
        self.anchors.iter().any(|a| a.name() == name)
    }

    /// The same with one bit flipped.
    pub fn flipped(&self, (file, byte, bit): (usize, usize, u8)) -> Self {
        let mut mutant = self.clone();
        mutant.files[file].bytes[byte] ^= 1 << bit;
        mutant
    }

    /// All inputs, as the verifier takes them.
    pub fn borrowed(&self) -> Vec<File<'_>> {
        self.files
            .iter()
            .map(|f| File {
                name: &f.name,
                bytes: &f.bytes,
            })
            .collect()
    }

    pub fn ask(&self) -> AttestationResult {
        let files = self.borrowed();
        let (subject, evidence) = files.split_first().unwrap();
        verify(&Question {
            subject: if self.is_csr {
                SubjectFile::Csr(*subject)
            } else {
                SubjectFile::PublicKey(*subject)
            },
            evidence,
            at: self.at,
            nonce: self.nonce.as_deref(),
            policy: &self.policy,
            anchors: &self.anchors,
        })
    }
}

/// Each format's genuine evidence, in each of its containers.
pub fn evidence_of_testkit() -> Vec<Case> {
    let mut out = Vec::new();
    let h = YubiHsm2::default();
    let (key, root) = (h.key.spki(), h.root());
    out.push(Case::of("yubihsm2", key, &root, h.files()));
    let text: String = h.files().iter().map(|f| pem("CERTIFICATE", f)).collect();
    out.push(Case::of("yubihsm2 PEM", key, &root, vec![text.into()]));
    let packed = vec![certs_only(&h.files())];
    out.push(Case::of("yubihsm2 PKCS#7", key, &root, packed));
    let statement = ("1.3.6.1.4.1.41482.4", h.leaf().sign(&h.device_key));
    let attribute = attestation_attribute(&[statement], &[h.device(), h.ca()]);
    let csr = request("Acme", &h.key, &[attribute]);
    out.push(Case::of("yubihsm2 in CSR", &csr, &root, vec![]).by_csr());

    let p = YubiKeyPiv::default();
    out.push(Case::of("yubikey-piv", p.key.spki(), &p.root(), p.files()));

    let s = Securosys::default();
    out.push(Case::of("securosys", s.key.spki(), &s.root(), s.files()));

    for (name, l) in [("rsa", ThalesLuna::rsa()), ("ecc", ThalesLuna::ecc())] {
        let name = format!("thales-luna {name}");
        out.push(Case::of(&name, l.key.spki(), &l.root(), vec![l.pkc()]));
    }

    let m = Marvell::default();
    let marvell =
        |name: &str, files| Case::of(name, m.key.spki(), &m.maker(), files).trusting(&m.owner());
    out.push(marvell("marvell", m.files()));
    let google = m.google_json("CAVIUM_V2_COMPRESSED", &m.name);
    out.push(marvell("marvell, Google's JSON", vec![google]));
    out.push(marvell("marvell, Azure's JSON", vec![m.azure_json()]));

    let t = Tpm2::default();
    out.push(Case::of("tpm2", t.key.spki(), &t.root(), t.files()));
    let client = Tpm2::client_data("webauthn.create", b"challenge");
    let object = t.webauthn(Some(&t.auth_data(&t.key)), &client).encode();
    let files = vec![object, client];
    out.push(Case::of("tpm2 WebAuthn", t.key.spki(), &t.root(), files));
    for bare in [true, false] {
        let statement = (TCG_STATEMENT, t.tcg_statement(bare));
        let attribute = attestation_attribute(&[statement], &t.certificates());
        let csr = request("Acme", &t.key, &[attribute]);
        let name = format!("tpm2 in CSR, bare signature {bare}");
        out.push(Case::of(&name, &csr, &t.root(), vec![]).by_csr());
    }

    let e = Pkix::default();
    out.push(Case::of("pkix", e.key.spki(), &e.root(), vec![e.encode()]));

    for (name, world) in [("DSA", World::dsa()), ("ECDSA", World::ecdsa())] {
        let spec = Spec::new(Key::named(Kind::P256, "nshield subject"));
        let name = format!("nshield, module key {name}");
        let files = vec![spec.bundle(&world).json()];
        out.push(Case::of(&name, spec.key.spki(), world.root.spki(), files));
    }
    let f = Fortanix::default();
    out.push(Case::of(
        "fortanix",
        f.key.spki(),
        &f.root(),
        vec![f.json()],
    ));
    let c = Crypto4A::default();
    out.push(Case::of(
        "crypto4a",
        c.key.spki(),
        &c.root(),
        vec![c.message()],
    ));
    out
}

/// `../shared/attestation` beside the checkout.
pub fn shared() -> Option<PathBuf> {
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR"));
    // Worktrees lie one folder deeper than the checkout itself.
    ["../../..", "../../../.."]
        .iter()
        .map(|up| manifest.join(up).join("shared/attestation"))
        .find(|p| p.join("cases.json").exists())
}

/// The shared cases whose one result is accept.
pub fn shared_cases() -> Vec<Case> {
    let Some(root) = shared() else {
        eprintln!(
            "NOT CHECKED: ../shared/attestation/cases.json is absent; no real case was mutated"
        );
        return Vec::new();
    };
    let text = std::fs::read_to_string(root.join("cases.json")).unwrap();
    let cases: Value = serde_json::from_str(&text).unwrap();
    let cases = cases["cases"].as_array().unwrap();
    let accepted = cases.iter().filter(|c| c["expect"] == "accept");
    let out: Vec<Case> = accepted.map(|c| shared_case(&root, c)).collect();
    assert!(!out.is_empty());
    out
}

fn shared_case(root: &Path, case: &Value) -> Case {
    let texts = |member: &str| -> Vec<String> {
        let list = case[member].as_array().cloned().unwrap_or_default();
        list.iter()
            .map(|v| v.as_str().unwrap().to_owned())
            .collect()
    };
    let read = |name: &str| Input {
        name: name.to_owned(),
        bytes: std::fs::read(root.join(name)).unwrap(),
    };
    let is_csr = case["csr"].is_string();
    let subject = case[if is_csr { "csr" } else { "public_key" }]
        .as_str()
        .unwrap();
    let mut files = vec![read(subject)];
    files.extend(texts("evidence").iter().map(|n| read(n)));
    let mut anchors = Anchors::pinned();
    for file in texts("trust_anchors") {
        anchors.add_file(&file, &read(&file).bytes).unwrap();
    }
    let mut policy = Policy::origin();
    for r in texts("require") {
        policy = policy.require(r.parse().unwrap());
    }
    let at = case["at"].as_str().unwrap_or("2026-11-22T00:00:00Z");
    Case {
        name: case["name"].as_str().unwrap().to_owned(),
        files,
        is_csr,
        anchors: Arc::new(anchors),
        policy: Arc::new(policy),
        at: serde_json::from_value(Value::String(at.to_owned())).unwrap(),
        nonce: case["nonce"].as_str().map(|n| hex::decode(n).unwrap()),
    }
}
