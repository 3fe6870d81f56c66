//! A whole order with a TPM that nobody here wrote: swtpm, driven by tpm2-tools. It reads our
//! challenges by `TPM2_ActivateCredential`, and certifies a key of its own with the order's nonce.

use super::tpm::{Subscribes, request, step};
use super::*;
use countersign_attestation::vendor::tpm2::public::Public;
use countersign_testkit_evidence::cert::{cn, root};
use countersign_testkit_evidence::endorsement::EK_ROOT;
use countersign_testkit_evidence::tpm2::{EK_USAGE, tpm_names};
use countersign_testkit_evidence::{Key, Kind, der};
use std::path::PathBuf;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant, SystemTime};

const TOOLS: [&str; 5] = [
    "swtpm",
    "swtpm_setup",
    "swtpm_localca",
    "tpm2_activatecredential",
    "tpm2_send",
];
/// Where swtpm_setup leaves endorsement keys.
const RSA_EK: &str = "0x81010001";
const P384_EK: &str = "0x81010016";
/// Where the test puts its own.
const P256_EK: &str = "0x81010020";
const AK: &str = "0x81010002";
const KEY: &str = "0x81000005";

/// A running software TPM with its own CA, in a folder of its own.
struct Swtpm {
    dir: tempfile::TempDir,
    child: Child,
}

impl Drop for Swtpm {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Swtpm {
    /// `None`, said loudly, where it is not installed.
    fn start() -> Option<Self> {
        let missing = |tool: &&str| {
            let found = std::env::split_paths(&std::env::var_os("PATH").unwrap_or_default())
                .any(|dir| dir.join(tool).is_file());
            !found
        };
        let absent: Vec<_> = TOOLS.into_iter().filter(missing).collect();
        if !absent.is_empty() {
            eprintln!(
                "NOT CHECKED against a live TPM: {} not installed",
                absent.join(", ")
            );
            return None;
        }
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
        for made in ["state", "ca"] {
            std::fs::create_dir(dir.path().join(made)).unwrap();
        }
        let write = |name: &str, text: String| std::fs::write(dir.path().join(name), text).unwrap();
        let ca = at("ca");
        write(
            "localca.conf",
            format!(
                "statedir = {ca}\nsigningkey = {ca}/signkey.pem\nissuercert = {ca}/issuercert.pem\ncertserial = {ca}/certserial\n"
            ),
        );
        write(
            "localca.options",
            "--platform-manufacturer Test\n--platform-version 1\n--platform-model Test\n".into(),
        );
        let localca = run(Command::new("sh").args(["-c", "command -v swtpm_localca"]));
        write(
            "setup.conf",
            format!(
                "create_certs_tool = {}\ncreate_certs_tool_config = {}\ncreate_certs_tool_options = {}\nactive_pcr_banks = sha256\n",
                String::from_utf8_lossy(&localca).trim(),
                at("localca.conf"),
                at("localca.options")
            ),
        );
        run(Command::new("swtpm_setup").args([
            "--tpm2",
            "--tpm-state",
            &at("state"),
            "--config",
            &at("setup.conf"),
            "--create-ek-cert",
            "--lock-nvram",
            "--vmid",
            "test-tpm",
            "--logfile",
            &at("setup.log"),
        ]));
        let child = Command::new("swtpm")
            .args(["socket", "--tpm2", "--tpmstate"])
            .arg(format!("dir={}", at("state")))
            .args(["--server", &format!("type=unixio,path={}", at("tpm"))])
            .args(["--ctrl", &format!("type=unixio,path={}", at("tpm.ctrl"))])
            .args(["--flags", "not-need-init,startup-clear"])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let tpm = Self { dir, child };
        let end = Instant::now() + Duration::from_secs(20);
        while !tpm.path("tpm.ctrl").exists() || !tpm.path("tpm").exists() {
            assert!(Instant::now() < end, "swtpm does not listen");
            std::thread::sleep(Duration::from_millis(20));
        }
        Some(tpm)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn read(&self, name: &str) -> Vec<u8> {
        std::fs::read(self.path(name)).unwrap()
    }

    /// A tpm2 tool, files relative to the folder. What it leaves loaded is flushed: there are
    /// three slots, and no resource manager.
    fn tool(&self, words: &str) -> Vec<u8> {
        let out = self.one(words);
        self.one("flushcontext -t");
        self.one("flushcontext -l");
        out
    }

    fn one(&self, words: &str) -> Vec<u8> {
        let mut words = words.split(' ');
        let name = format!("tpm2_{}", words.next().unwrap());
        run(Command::new(name)
            .args(words)
            .current_dir(self.dir.path())
            .env(
                "TPM2TOOLS_TCTI",
                format!("swtpm:path={}", self.path("tpm").display()),
            )
            .env("TSS2_LOG", "all+ERROR"))
    }

    /// `TPM2_ActivateCredential` by the tool, which wants the two structures in a file of its own.
    fn activate(&self, ek: &str, challenge: &Value) -> Vec<u8> {
        let part = |name: &str| STANDARD.decode(challenge[name].as_str().unwrap()).unwrap();
        let sized = countersign_testkit_evidence::tpm2::sized;
        let mut file = vec![0xba, 0xdc, 0xc0, 0xde, 0, 0, 0, 1];
        file.extend(sized(&part("id_object")));
        file.extend(sized(&part("encrypted_secret")));
        std::fs::write(self.path("cred"), file).unwrap();
        if ek == P384_EK {
            // Its template lets the (empty) authorisation value use it.
            self.tool(&format!(
                "activatecredential -c {AK} -C {ek} -i cred -o answer"
            ));
        } else {
            self.one("startauthsession --policy-session -S s.ctx");
            self.one("policysecret -S s.ctx -c e");
            self.one(&format!(
                "activatecredential -c {AK} -C {ek} -i cred -o answer -P session:s.ctx"
            ));
            self.one("flushcontext s.ctx");
            self.one("flushcontext -t");
        }
        self.read("answer")
    }

    /// `TPM2_Certify` of the key by the attestation key. The tool of that name takes no nonce, so
    /// the command is written here (TPM 2.0 Library Part 3 §18.2), both authorisations empty.
    fn certify(&self, nonce: &[u8]) -> Vec<u8> {
        let handle = |text: &str| {
            let digits = text.strip_prefix("0x").unwrap();
            u32::from_str_radix(digits, 16).unwrap().to_be_bytes()
        };
        let password = [0x40, 0, 0, 9, 0, 0, 0, 0, 0];
        let mut body = 0x148_u32.to_be_bytes().to_vec();
        body.extend(handle(KEY));
        body.extend(handle(AK));
        body.extend(18_u32.to_be_bytes());
        body.extend([password, password].concat());
        body.extend(countersign_testkit_evidence::tpm2::sized(nonce));
        body.extend([0, 0x10]);
        let size = u32::try_from(6 + body.len()).unwrap();
        let command = [&[0x80, 0x02][..], &size.to_be_bytes(), &body].concat();
        std::fs::write(self.path("command"), command).unwrap();
        self.tool("send command -o response");
        let response = self.read("response");
        assert_eq!(response[6..10], [0; 4], "TPM2_Certify: {response:02x?}");
        let parameters = usize::try_from(u32::from_be_bytes(response[10..14].try_into().unwrap()));
        let parameters = &response[14..14 + parameters.unwrap()];
        let length = usize::from(u16::from_be_bytes([parameters[0], parameters[1]]));
        let (attest, signature) = parameters[2..].split_at(length);
        der::seq(&[
            der::octets(attest),
            der::octets(signature),
            der::octets(&self.public("key.pub")),
        ])
    }

    /// The `TPMT_PUBLIC` in a tool's `TPM2B_PUBLIC`.
    fn public(&self, name: &str) -> Vec<u8> {
        self.read(name)[2..].to_vec()
    }
}

impl Subscribes for Swtpm {
    fn public(&self) -> PublicKey {
        let area = self.public("key.pub");
        let key = Public::parse(&area).unwrap().key.key().unwrap();
        let countersign_attestation::key::PublicKey::Ec { point, .. } = key else {
            panic!("{key:?}");
        };
        PublicKey::from_ec_point(KeyAlgorithm::EcP256, &point).unwrap()
    }

    fn sign(&self, message: &[u8]) -> Vec<u8> {
        std::fs::write(self.path("message"), message).unwrap();
        self.tool(&format!(
            "sign -c {KEY} -g sha256 -s ecdsa -f plain -o signature message"
        ));
        self.read("signature")
    }
}

fn run(command: &mut Command) -> Vec<u8> {
    let out = command.output().unwrap();
    assert!(
        out.status.success(),
        "{command:?}: {}{}",
        String::from_utf8_lossy(&out.stdout),
        String::from_utf8_lossy(&out.stderr)
    );
    out.stdout
}

#[tokio::test]
async fn a_live_tpm_reads_our_challenges_and_its_key_is_certified() {
    let Some(tpm) = Swtpm::start() else {
        return;
    };
    tpm.tool("createak -C 0x81010001 -c ak.ctx -G ecc -g sha256 -s ecdsa -u ak.pub -r ak.priv -n ak.name");
    tpm.tool(&format!("evictcontrol -C o -c ak.ctx {AK}"));
    tpm.tool("createprimary -C o -g sha256 -G ecc -c parent.ctx");
    let attributes = "fixedtpm|fixedparent|sensitivedataorigin|userwithauth|sign";
    tpm.tool(&format!(
        "create -C parent.ctx -G ecc256 -g sha256 -a {attributes} -u key.pub -r key.priv"
    ));
    tpm.tool("load -C parent.ctx -u key.pub -r key.priv -c key.ctx");
    tpm.tool(&format!("evictcontrol -C o -c key.ctx {KEY}"));

    // Roots: swtpm's own CA, and one of the test's for an endorsement key that swtpm certifies not.
    let mut scene = Scene::new();
    let mut roots = Anchors::none();
    let pem = |name: &str| tpm.read(&format!("ca/{name}"));
    let ca_root = pem("swtpm-localca-rootca-cert.pem");
    roots.add_endorsement_roots("swtpm", &ca_root).unwrap();
    let own = Key::named(Kind::P256, "live ek root");
    roots
        .add_endorsement_roots("own", &root(EK_ROOT, &own))
        .unwrap();
    scene.ek_roots = Some(roots);
    scene.policy = CaPolicy {
        require_device_evidence: true,
        ..CaPolicy::default()
    };
    // swtpm's certificates begin now.
    let now = SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap();
    scene
        .clock
        .store(i64::try_from(now.as_secs()).unwrap() + 1, Ordering::SeqCst);

    let issuer = {
        let text = String::from_utf8(pem("issuercert.pem")).unwrap();
        Certificate::from_pem(&text).unwrap().der().to_vec()
    };
    tpm.tool("nvread 0x1c00002 -o rsa-ek.der");
    tpm.tool("nvread 0x1c00016 -o p384-ek.der");
    tpm.tool(&format!("createek -G ecc -c {P256_EK} -u p256-ek.pub"));
    let p256 = {
        let area = tpm.public("p256-ek.pub");
        let key = Public::parse(&area).unwrap().key.key().unwrap();
        let names = tpm_names("id:00001014", "swtpm", "id:20191023");
        let mut c =
            countersign_testkit_evidence::Certificate::new(der::seq(&[]), &own, cn(EK_ROOT))
                .with("2.5.29.15", true, vec![3, 2, 3, 0x08])
                .eku(false, &[EK_USAGE])
                .with("2.5.29.17", true, names);
        c.spki = key.to_spki();
        c.sign(&own)
    };
    let ca = scene.ca();
    for (ek, endorsement) in [
        (P384_EK, vec![tpm.read("p384-ek.der"), issuer.clone()]),
        (P256_EK, vec![p256]),
        (RSA_EK, vec![tpm.read("rsa-ek.der"), issuer]),
    ] {
        let order = open(&ca).await;
        let endorsement: Vec<_> = endorsement.iter().map(|c| STANDARD.encode(c)).collect();
        let identity = json!({
            "endorsement": endorsement,
            "attestation_key": STANDARD.encode(tpm.public("ak.pub")),
        });
        let (status, challenge) = step(&ca, &order, "device", &identity).await;
        assert_eq!(status, StatusCode::OK, "{ek} {challenge:#}");
        let secret = json!({"secret": STANDARD.encode(tpm.activate(ek, &challenge))});
        let (status, certified) = step(&ca, &order, "device/answer", &secret).await;
        assert_eq!(status, StatusCode::OK, "{ek} {certified:#}");
        let chain: Vec<Vec<u8>> = chain_of(&certified)
            .iter()
            .map(|c| c.der().to_vec())
            .collect();

        let nonce = STANDARD.decode(order["nonce"].as_str().unwrap()).unwrap();
        let body = request(&scene, &tpm, &order, Some(tpm.certify(&nonce)), &chain);
        let answer = submit(&ca, &order, &body).await;
        assert_eq!(answer.0, StatusCode::OK, "{ek} {:#}", answer.1);
        assert_eq!(
            chain_of(&answer.1)[0].spki_der(),
            Subscribes::public(&tpm).spki_der()
        );
        // Made for another order, by the same TPM: refused.
        let other = open(&ca).await;
        let stale = request(&scene, &tpm, &other, Some(tpm.certify(&nonce)), &chain);
        refused_for(
            &submit(&ca, &other, &stale).await,
            &["freshness", "attestation-key-of-order"],
        );
    }
}
