//! A TPM's endorsement key in software, and `TPM2_ActivateCredential` as the `openssl` program
//! computes it: nothing here is by the library that makes the challenges.

use crate::cert::{Certificate, cn};
use crate::der;
use crate::keys::Kind;
use crate::tpm2::{EK_USAGE, Tpm2, sized, tpm_names};
use aws_lc_rs::digest::{SHA256, digest};
use std::io::Write as _;
use std::path::PathBuf;
use std::process::{Command, Stdio};

/// The name of those that certify endorsement keys here.
pub const EK_ROOT: &str = "Test EK Root";

/// An endorsement key. Its private part is a file in a folder that goes with it.
#[derive(Debug)]
pub struct Endorsement {
    kind: Kind,
    dir: tempfile::TempDir,
    spki: Vec<u8>,
}

impl Endorsement {
    /// A new key: RSA-2048, P-256 or P-384.
    #[must_use]
    pub fn new(kind: Kind) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("ek.pem");
        let (algorithm, option) = match kind {
            Kind::Rsa2048 => ("RSA", "rsa_keygen_bits:2048"),
            Kind::P256 => ("EC", "ec_paramgen_curve:P-256"),
            Kind::P384 => ("EC", "ec_paramgen_curve:P-384"),
            other => panic!("no endorsement key of {other:?}"),
        };
        let file = file.to_str().unwrap();
        openssl(
            &[
                "genpkey",
                "-algorithm",
                algorithm,
                "-pkeyopt",
                option,
                "-out",
                file,
            ],
            &[],
        )
        .unwrap();
        let spki = openssl(&["pkey", "-in", file, "-pubout", "-outform", "DER"], &[]).unwrap();
        Self { kind, dir, spki }
    }

    /// Its SubjectPublicKeyInfo.
    #[must_use]
    pub fn spki(&self) -> &[u8] {
        &self.spki
    }

    /// Its certificate as [`EK_ROOT`] would sign it, with the names of `tpm`.
    #[must_use]
    pub fn certificate(&self, tpm: &Tpm2) -> Certificate {
        let names = tpm_names(&tpm.manufacturer, &tpm.model, &tpm.version);
        let usage = match self.kind {
            Kind::Rsa2048 => vec![3, 2, 5, 0x20],
            _ => vec![3, 2, 3, 0x08],
        };
        let mut c = Certificate::new(der::seq(&[]), &tpm.ak, cn(EK_ROOT))
            .with("2.5.29.19", true, der::seq(&[]))
            .with("2.5.29.15", true, usage)
            .eku(false, &[EK_USAGE])
            .with("2.5.29.17", true, names);
        c.spki = self.spki.clone();
        c
    }

    /// `TPM2_ActivateCredential` for the attestation key with this public area.
    ///
    /// # Errors
    /// What a TPM answers where the credential is not for this key and that Name.
    pub fn activate(
        &self,
        ak_public: &[u8],
        id_object: &[u8],
        encrypted_secret: &[u8],
    ) -> Result<Vec<u8>, String> {
        let (hash, length, cipher, key_size) = match self.kind {
            Kind::P384 => ("SHA384", 48, "-aes-256-cfb", 32),
            _ => ("SHA256", 32, "-aes-128-cfb", 16),
        };
        let name = [&[0, 0x0b][..], digest(&SHA256, ak_public).as_ref()].concat();
        let seed = match self.kind {
            Kind::Rsa2048 => self.decrypt(encrypted_secret)?,
            _ => self.agree(encrypted_secret, hash, length)?,
        };
        let mac_key = kbkdf(hash, &seed, b"INTEGRITY", &[], length)?;
        let (mac, identity) = first_sized(id_object).ok_or("no HMAC in front")?;
        let signed = [identity, &name[..]].concat();
        let key = format!("hexkey:{}", hex(&mac_key));
        let digest = ["mac", "-digest", hash, "-macopt", &key, "-binary", "HMAC"];
        if openssl(&digest, &signed)? != mac {
            return Err("TPM_RC_INTEGRITY".to_owned());
        }
        let aes = hex(&kbkdf(hash, &seed, b"STORAGE", &name, key_size)?);
        let iv = "00".repeat(16);
        let plain = openssl(&["enc", "-d", cipher, "-K", &aes, "-iv", &iv], identity)?;
        match first_sized(&plain) {
            Some((secret, [])) => Ok(secret.to_vec()),
            _ => Err("TPM_RC_SIZE".to_owned()),
        }
    }

    fn file(&self) -> PathBuf {
        self.dir.path().join("ek.pem")
    }

    fn decrypt(&self, secret: &[u8]) -> Result<Vec<u8>, String> {
        let file = self.file();
        let label = format!("rsa_oaep_label:{}", hex(b"IDENTITY\0"));
        let mut args = vec!["pkeyutl", "-decrypt", "-inkey", file.to_str().unwrap()];
        for option in ["rsa_padding_mode:oaep", "rsa_oaep_md:sha256", &label] {
            args.extend(["-pkeyopt", option]);
        }
        openssl(&args, secret)
    }

    /// KDFe of the Diffie-Hellman secret: a single-step KDF (SP 800-56C).
    fn agree(&self, point: &[u8], hash: &str, length: usize) -> Result<Vec<u8>, String> {
        let (x, rest) = first_sized(point).ok_or("no x")?;
        let (y, []) = first_sized(rest).ok_or("no y")? else {
            return Err("bytes after y".to_owned());
        };
        // The peer's SubjectPublicKeyInfo is this key's with another point at its end.
        let head = self.spki.len() - x.len() - y.len();
        let peer = [&self.spki[..head], x, y].concat();
        let peer_file = self.dir.path().join("peer.der");
        std::fs::write(&peer_file, peer).unwrap();
        let file = self.file();
        let z = openssl(
            &[
                "pkeyutl",
                "-derive",
                "-inkey",
                file.to_str().unwrap(),
                "-peerkey",
                peer_file.to_str().unwrap(),
                "-peerform",
                "DER",
            ],
            &[],
        )?;
        let own_x = &self.spki[head..head + x.len()];
        let info = [b"IDENTITY\0", x, own_x].concat();
        kdf(
            length,
            &[
                format!("digest:{hash}"),
                format!("hexsecret:{}", hex(&z)),
                format!("hexinfo:{}", hex(&info)),
            ],
            "SSKDF",
        )
    }
}

fn kbkdf(
    hash: &str,
    key: &[u8],
    label: &[u8],
    context: &[u8],
    length: usize,
) -> Result<Vec<u8>, String> {
    let mut options = vec![
        "mac:HMAC".to_owned(),
        format!("digest:{hash}"),
        format!("hexkey:{}", hex(key)),
        format!("hexsalt:{}", hex(label)),
    ];
    if !context.is_empty() {
        options.push(format!("hexinfo:{}", hex(context)));
    }
    kdf(length, &options, "KBKDF")
}

fn kdf(length: usize, options: &[String], name: &str) -> Result<Vec<u8>, String> {
    let length = length.to_string();
    let mut args = vec!["kdf", "-keylen", &length, "-binary"];
    for option in options {
        args.extend(["-kdfopt", option]);
    }
    args.push(name);
    openssl(&args, &[])
}

/// A `TPM2B` and what follows it.
fn first_sized(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (size, rest) = bytes.split_first_chunk::<2>()?;
    let found = rest.split_at_checked(usize::from(u16::from_be_bytes(*size)))?;
    assert_eq!(sized(found.0), bytes[..2 + found.0.len()]);
    Some(found)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

fn openssl(args: &[&str], input: &[u8]) -> Result<Vec<u8>, String> {
    let mut child = Command::new("openssl")
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("tests of TPM challenges need the openssl program");
    // It may end without reading: then its exit code says why.
    let _ = child.stdin.take().unwrap().write_all(input);
    let out = child.wait_with_output().unwrap();
    if out.status.success() {
        Ok(out.stdout)
    } else {
        Err(String::from_utf8_lossy(&out.stderr).into_owned())
    }
}
