//! A throw-away CA, signer and timestamp authority by openssl; openssl signs in the service's place.

use countersign_content::Submission;
use countersign_core::{HashAlgorithm, SignatureScheme};
use countersign_formats::{Format, Options, Output, Prepared, Signed, finish, prepare};
use std::path::{Path, PathBuf};
use std::process::{Command, Output as Ran};

/// The signer's key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Key {
    Rsa3072,
    P256,
    P384,
}

impl Key {
    pub const ALL: [Self; 3] = [Self::Rsa3072, Self::P256, Self::P384];

    const fn openssl(self) -> &'static str {
        match self {
            Self::Rsa3072 => "rsa:3072",
            Self::P256 => "ec -pkeyopt ec_paramgen_curve:P-256",
            Self::P384 => "ec -pkeyopt ec_paramgen_curve:P-384",
        }
    }

    pub const fn scheme(self, hash: HashAlgorithm) -> SignatureScheme {
        match self {
            Self::Rsa3072 => SignatureScheme::RsaPkcs1(hash),
            Self::P256 | Self::P384 => SignatureScheme::Ecdsa(hash),
        }
    }
}

const CONFIG: &str = "\
[req]
distinguished_name = dn
prompt = no
[dn]
O = Example
[ca]
basicConstraints = critical,CA:true
keyUsage = critical,keyCertSign,cRLSign
subjectKeyIdentifier = hash
[signer]
basicConstraints = critical,CA:false
keyUsage = critical,digitalSignature
extendedKeyUsage = codeSigning
subjectKeyIdentifier = hash
authorityKeyIdentifier = keyid
[tsa_cert]
basicConstraints = critical,CA:false
keyUsage = critical,digitalSignature
extendedKeyUsage = critical,timeStamping
[tsa]
default_tsa = t
[t]
serial = serial
default_policy = 1.2.3.4
digests = sha256, sha384, sha512
signer_digest = sha256
ess_cert_id_alg = sha256
";

/// A folder with keys and certificates.
pub struct Scene {
    dir: tempfile::TempDir,
    pub key: Key,
}

impl Scene {
    pub fn new(key: Key) -> Self {
        let scene = Self {
            dir: tempfile::tempdir().unwrap(),
            key,
        };
        std::fs::write(scene.path("openssl.cnf"), CONFIG).unwrap();
        std::fs::write(scene.path("serial"), "01").unwrap();
        scene.openssl(
            "req -x509 -config openssl.cnf -extensions ca -newkey ec -pkeyopt \
             ec_paramgen_curve:P-256 -nodes -keyout ca.key -out ca.pem -days 30 -subj /CN=Test-CA",
        );
        for (name, extensions, algorithm) in [
            ("signer", "signer", key.openssl()),
            ("other", "signer", key.openssl()),
            ("tsa", "tsa_cert", Key::P256.openssl()),
        ] {
            scene.openssl(&format!(
                "req -new -config openssl.cnf -newkey {algorithm} -nodes -keyout {name}.key \
                 -out {name}.csr -subj /O=Example/CN={name}"
            ));
            scene.openssl(&format!(
                "x509 -req -in {name}.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 30 \
                 -extfile openssl.cnf -extensions {extensions} -out {name}.pem"
            ));
            scene.openssl(&format!("x509 -in {name}.pem -outform DER -out {name}.der"));
        }
        scene
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub fn read(&self, name: &str) -> Vec<u8> {
        std::fs::read(self.path(name)).unwrap()
    }

    pub fn write(&self, name: &str, bytes: &[u8]) -> PathBuf {
        let path = self.path(name);
        std::fs::write(&path, bytes).unwrap();
        path
    }

    pub fn run(&self, program: &str, args: &str) -> Ran {
        Command::new(program)
            .args(args.split_whitespace())
            .current_dir(self.dir.path())
            .output()
            .unwrap_or_else(|e| panic!("{program} is needed for this test: {e}"))
    }

    pub fn openssl(&self, args: &str) {
        succeeded(&format!("openssl {args}"), &self.run("openssl", args));
    }

    /// What osslsigncode says, which must be yes. `name` is checked with digests, chain and checksum.
    pub fn osslsigncode_accepts(&self, name: &str, more: &str) -> String {
        let args = format!("verify -CAfile ca.pem -TSA-CAfile ca.pem {more} -in {name}");
        let said = succeeded(
            &format!("osslsigncode {args}"),
            &self.run("osslsigncode", &args),
        );
        // osslsigncode only remarks on a wrong checksum; drivers with one do not load.
        assert!(said.contains("PE checksum"), "{said}");
        assert!(!said.contains("Calculated PE checksum"), "{said}");
        said
    }

    /// Signs what was prepared, as the service would.
    pub fn answer(&self, prepared: &Prepared, hash: HashAlgorithm) -> Signed {
        let bytes = match &prepared.submission {
            Submission::Authenticode {
                signed_attributes, ..
            }
            | Submission::Cms { signed_attributes } => signed_attributes,
            Submission::RawDigest { .. } => panic!("files are signed by attributes"),
        };
        self.write("attributes", bytes);
        self.openssl(&format!(
            "dgst -{} -sign signer.key -out signature attributes",
            openssl_hash(hash)
        ));
        Signed {
            scheme: self.key.scheme(hash),
            signature: self.read("signature"),
            chain: vec![self.read("signer.der")],
            timestamp: None,
        }
    }

    /// A token over the signature, by `openssl ts`.
    pub fn timestamp(&self, signature: &[u8]) -> Vec<u8> {
        self.write("stamped", signature);
        self.openssl("ts -query -data stamped -sha256 -cert -out query.tsq");
        self.openssl(
            "ts -reply -config openssl.cnf -section t -queryfile query.tsq -signer tsa.pem \
             -inkey tsa.key -token_out -out token.der",
        );
        self.read("token.der")
    }

    /// Prepares, signs and finishes, without writing.
    pub fn sign(&self, path: &Path, options: &Options) -> Output {
        let format = Format::detect(path).unwrap();
        let prepared = prepare(format, path, &self.read("signer.der"), options).unwrap();
        let signed = self.answer(&prepared, options.digest_algorithm);
        finish(prepared, &signed).unwrap()
    }
}

pub const fn openssl_hash(hash: HashAlgorithm) -> &'static str {
    match hash {
        HashAlgorithm::Sha256 => "sha256",
        HashAlgorithm::Sha384 => "sha384",
        HashAlgorithm::Sha512 => "sha512",
    }
}

pub fn succeeded(what: &str, ran: &Ran) -> String {
    let said = format!(
        "{}{}",
        String::from_utf8_lossy(&ran.stdout),
        String::from_utf8_lossy(&ran.stderr)
    );
    assert!(ran.status.success(), "{what}:\n{said}");
    said
}
