//! TPM 2.0 evidence: TPM structures, the certificates above an attestation key, and the containers.

use crate::cbor;
use crate::cert::{Certificate, cn, dn_multi, root};
use crate::der;
use crate::hostile::Files;
use crate::keys::{Key, Kind, Scheme};
use crate::text::base64url;
use aws_lc_rs::digest::{SHA256, SHA384, digest};

/// fixedTPM, fixedParent, sensitiveDataOrigin, userWithAuth, sign.
pub const SIGN_ONLY: u32 = 0x0004_0072;
/// The same with restricted: an attestation key.
pub const RESTRICTED: u32 = 0x0005_0072;
/// tcg-kp-AIKCertificate.
pub const AK_USAGE: &str = "2.23.133.8.3";
/// tcg-kp-EKCertificate.
pub const EK_USAGE: &str = "2.23.133.8.1";
/// tcg-attest-tpm-certify.
pub const TCG_STATEMENT: &str = "2.23.133.20.1";

const ROOT: &str = "Test AK Root";
const CA: &str = "Test AK CA";

/// Everything a TPM and those above it say. `Default` is genuine and sign-only.
#[derive(Debug, Clone)]
pub struct Tpm2 {
    /// The attested key.
    pub key: Key,
    /// The attestation key.
    pub ak: Key,
    /// Its CA's key.
    pub ca_key: Key,
    /// The root's key.
    pub root_key: Key,
    /// The four first bytes of the statement.
    pub magic: Vec<u8>,
    /// `TPMI_ST_ATTEST`.
    pub tag: u16,
    /// `extraData`.
    pub extra_data: Vec<u8>,
    /// `clockInfo.safe`.
    pub safe: u8,
    /// The key's attributes.
    pub attributes: u32,
    /// The attestation key's attributes.
    pub ak_attributes: u32,
    /// 0x000b or 0x000c.
    pub name_alg: u16,
    /// The attested Name, if not that of the public area.
    pub name: Option<Vec<u8>>,
    /// What the AK certificate says of the TPM.
    pub manufacturer: String,
    /// The same.
    pub model: String,
    /// The same.
    pub version: String,
    /// The model of authenticator in WebAuthn data.
    pub aaguid: [u8; 16],
}

impl Default for Tpm2 {
    fn default() -> Self {
        Self {
            key: Key::named(Kind::P256, "tpm2 subject"),
            ak: Key::named(Kind::P256, "tpm2 ak"),
            ca_key: Key::named(Kind::P256, "tpm2 ca"),
            root_key: Key::named(Kind::P256, "tpm2 root"),
            magic: b"\xffTCG".to_vec(),
            tag: 0x8017,
            extra_data: b"nonce of the verifier".to_vec(),
            safe: 1,
            attributes: SIGN_ONLY,
            ak_attributes: RESTRICTED,
            name_alg: 0x000b,
            name: None,
            manufacturer: "id:4E544300".into(),
            model: "NPCT75x".into(),
            version: "id:00070002".into(),
            aaguid: [7; 16],
        }
    }
}

/// A `TPM2B`.
#[must_use]
pub fn sized(bytes: &[u8]) -> Vec<u8> {
    [&(bytes.len() as u16).to_be_bytes()[..], bytes].concat()
}

/// The names of a certificate's subjectAltName: manufacturer, model and version in one RDN.
#[must_use]
pub fn tpm_names(manufacturer: &str, model: &str, version: &str) -> Vec<u8> {
    let name = dn_multi(&[
        ("2.23.133.2.2", model),
        ("2.23.133.2.1", manufacturer),
        ("2.23.133.2.3", version),
    ]);
    der::seq(&[der::context(4, &name)])
}

fn hash(alg: u16, bytes: &[u8]) -> Vec<u8> {
    let algorithm = if alg == 0x000c { &SHA384 } else { &SHA256 };
    digest(algorithm, bytes).as_ref().to_vec()
}

/// A `TPMT_PUBLIC`. `signs_with` ties an attestation key to its scheme.
fn public(key: &Key, name_alg: u16, attributes: u32, signs_with: Option<u16>) -> Vec<u8> {
    let is_rsa = matches!(key.kind(), Kind::Rsa2048 | Kind::Rsa3072);
    let mut out = if is_rsa { vec![0, 1] } else { vec![0, 0x23] };
    out.extend(name_alg.to_be_bytes());
    out.extend(attributes.to_be_bytes());
    out.extend(sized(&[]));
    out.extend([0, 0x10]);
    match signs_with {
        None => out.extend([0, 0x10]),
        Some(scheme) => {
            out.extend(scheme.to_be_bytes());
            out.extend([0, 0x0b]);
        }
    }
    if is_rsa {
        let (n, _) = key.rsa_parts();
        out.extend((n.len() as u16 * 8).to_be_bytes());
        out.extend([0; 4]);
        out.extend(sized(&n));
    } else {
        let curve: u16 = match key.kind() {
            Kind::P256 => 3,
            Kind::P384 => 4,
            Kind::P521 => 5,
            other => panic!("no TPM curve for {other:?}"),
        };
        out.extend(curve.to_be_bytes());
        out.extend([0, 0x10]);
        let point = key.public();
        let (x, y) = point[1..].split_at((point.len() - 1) / 2);
        out.extend(sized(x));
        out.extend(sized(y));
    }
    out
}

impl Tpm2 {
    /// The root's certificate.
    #[must_use]
    pub fn root(&self) -> Vec<u8> {
        root(ROOT, &self.root_key)
    }

    /// The CA's certificate, before it is signed by the root.
    #[must_use]
    pub fn ca(&self) -> Certificate {
        Certificate::new(cn(CA), &self.ca_key, cn(ROOT))
            .ca(Some(0))
            .with("2.5.29.15", true, vec![3, 2, 1, 6])
            .eku(false, &[AK_USAGE])
    }

    /// The attestation key's certificate, before it is signed by the CA.
    #[must_use]
    pub fn ak_certificate(&self) -> Certificate {
        let names = tpm_names(&self.manufacturer, &self.model, &self.version);
        Certificate::new(der::seq(&[]), &self.ak, cn(CA))
            .with("2.5.29.19", true, der::seq(&[]))
            .with("2.5.29.15", true, vec![3, 2, 7, 0x80])
            .eku(false, &[AK_USAGE])
            .with("2.5.29.17", true, names)
    }

    /// Attestation key's certificate and CA.
    #[must_use]
    pub fn certificates(&self) -> Files {
        vec![
            self.ak_certificate().sign(&self.ca_key),
            self.ca().sign(&self.root_key),
        ]
    }

    /// The key's public area.
    #[must_use]
    pub fn public(&self) -> Vec<u8> {
        public(&self.key, self.name_alg, self.attributes, None)
    }

    /// The attestation key's public area.
    #[must_use]
    pub fn ak_public(&self) -> Vec<u8> {
        let scheme = match self.ak.kind() {
            Kind::Rsa2048 | Kind::Rsa3072 => 0x14,
            _ => 0x18,
        };
        public(&self.ak, 0x000b, self.ak_attributes, Some(scheme))
    }

    /// The attested Name.
    #[must_use]
    pub fn name(&self) -> Vec<u8> {
        let of_area = || {
            let digest = hash(self.name_alg, &self.public());
            [&self.name_alg.to_be_bytes()[..], &digest].concat()
        };
        self.name.clone().unwrap_or_else(of_area)
    }

    /// `TPMS_CREATION_DATA`.
    #[must_use]
    pub fn creation_data(&self) -> Vec<u8> {
        let mut out = vec![0, 0, 0, 0];
        out.extend(sized(digest(&SHA256, b"").as_ref()));
        out.extend([1, 0, 0x0b]);
        out.extend(sized(&[&[0, 0x0b][..], &[3; 32]].concat()));
        out.extend(sized(&[&[0, 0x0b][..], &[4; 32]].concat()));
        out.extend(sized(b"outside"));
        out
    }

    /// `TPMS_ATTEST`.
    #[must_use]
    pub fn attest(&self) -> Vec<u8> {
        self.attest_with(&self.extra_data)
    }

    fn attest_with(&self, extra_data: &[u8]) -> Vec<u8> {
        let mut out = self.magic.clone();
        out.extend(self.tag.to_be_bytes());
        out.extend(sized(&[&[0, 0x0b][..], &[9; 32]].concat()));
        out.extend(sized(extra_data));
        out.extend(123_456_u64.to_be_bytes());
        out.extend([0, 0, 0, 5, 0, 0, 0, 0, self.safe]);
        out.extend(0x0001_0002_0003_0004_u64.to_be_bytes());
        out.extend(sized(&self.name()));
        if self.tag == 0x801a {
            out.extend(sized(&hash(self.name_alg, &self.creation_data())));
        } else {
            out.extend(sized(&[&[0, 0x0b][..], &[8; 32]].concat()));
        }
        out
    }

    /// A bare signature by the attestation key.
    #[must_use]
    pub fn bare_signature(&self, attest: &[u8]) -> Vec<u8> {
        self.ak.sign(self.ak.usual(), attest)
    }

    /// A `TPMT_SIGNATURE` by the attestation key (RSA, P-256 or P-384).
    #[must_use]
    pub fn signature(&self, attest: &[u8]) -> Vec<u8> {
        match self.ak.kind() {
            Kind::Rsa2048 | Kind::Rsa3072 => {
                let bytes = self.ak.sign(Scheme::RsaSha256, attest);
                [&[0, 0x14, 0, 0x0b][..], &sized(&bytes)].concat()
            }
            kind => {
                let both = self.ak.sign_fixed(attest);
                let (r, s) = both.split_at(both.len() / 2);
                let hash = if kind == Kind::P384 { 0x0c } else { 0x0b };
                [&[0, 0x18, 0, hash][..], &sized(r), &sized(s)].concat()
            }
        }
    }

    /// A `TPMT_SIGNATURE` with RSASSA-PSS.
    #[must_use]
    pub fn pss_signature(&self, attest: &[u8]) -> Vec<u8> {
        let bytes = self.ak.sign(Scheme::PssSha256, attest);
        [&[0, 0x16, 0, 0x0b][..], &sized(&bytes)].concat()
    }

    /// Statement, signature, public area, certificates; creation data if they belong.
    #[must_use]
    pub fn files(&self) -> Files {
        let attest = self.attest();
        let mut out = vec![attest.clone(), self.signature(&attest), self.public()];
        out.extend(self.certificates());
        if self.tag == 0x801a {
            out.push(self.creation_data());
        }
        out
    }

    /// `Tcg-csr-tpm-certify`, the signature bare or not.
    #[must_use]
    pub fn tcg_statement(&self, bare: bool) -> Vec<u8> {
        let attest = self.attest();
        let signature = if bare {
            self.bare_signature(&attest)
        } else {
            self.signature(&attest)
        };
        der::seq(&[
            der::octets(&attest),
            der::octets(&signature),
            der::octets(&self.public()),
        ])
    }

    /// Client data of a registration with `challenge`.
    #[must_use]
    pub fn client_data(kind: &str, challenge: &[u8]) -> Vec<u8> {
        format!(
            r#"{{"type":"{kind}","challenge":"{}","origin":"https://ca.example"}}"#,
            base64url(challenge)
        )
        .into_bytes()
    }

    /// Authenticator data with `credential` as its key.
    #[must_use]
    pub fn auth_data(&self, credential: &Key) -> Vec<u8> {
        let mut out = digest(&SHA256, b"ca.example").as_ref().to_vec();
        out.push(0x45);
        out.extend([0, 0, 0, 0]);
        out.extend(self.aaguid);
        out.extend(sized(&[1; 32]));
        out.extend(cose(credential));
        out
    }

    /// An attestation object over `auth_data` and `client_data`; without authenticator data it is
    /// the one of ACME, over [`Tpm2::extra_data`].
    #[must_use]
    pub fn webauthn(&self, auth_data: Option<&[u8]>, client_data: &[u8]) -> WebAuthn {
        let extra = match auth_data {
            None => self.extra_data.clone(),
            Some(auth) => {
                let client = digest(&SHA256, client_data);
                hash(0x000b, &[auth, client.as_ref()].concat())
            }
        };
        let attest = self.attest_with(&extra);
        WebAuthn {
            ver: "2.0".into(),
            alg: match self.ak.kind() {
                Kind::Rsa2048 | Kind::Rsa3072 => -257,
                _ => -7,
            },
            x5c: self.certificates(),
            sig: self.bare_signature(&attest),
            cert_info: attest,
            pub_area: self.public(),
            auth_data: auth_data.map(<[u8]>::to_vec),
            more: Vec::new(),
        }
    }
}

/// A WebAuthn attestation object of format `tpm`.
#[derive(Debug, Clone)]
pub struct WebAuthn {
    /// `ver`.
    pub ver: String,
    /// `alg`.
    pub alg: i64,
    /// `x5c`.
    pub x5c: Files,
    /// `sig`.
    pub sig: Vec<u8>,
    /// `certInfo`.
    pub cert_info: Vec<u8>,
    /// `pubArea`.
    pub pub_area: Vec<u8>,
    /// `authData`.
    pub auth_data: Option<Vec<u8>>,
    /// More members of `attStmt`.
    pub more: Vec<(String, Vec<u8>)>,
}

impl WebAuthn {
    /// The CBOR.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let certs: Vec<Vec<u8>> = self.x5c.iter().map(|c| cbor::bytes(c)).collect();
        let mut statement = vec![
            (cbor::text("alg"), cbor::int(self.alg)),
            (cbor::text("sig"), cbor::bytes(&self.sig)),
            (cbor::text("ver"), cbor::text(&self.ver)),
            (cbor::text("x5c"), cbor::array(&certs)),
            (cbor::text("pubArea"), cbor::bytes(&self.pub_area)),
            (cbor::text("certInfo"), cbor::bytes(&self.cert_info)),
        ];
        for (name, value) in &self.more {
            statement.push((cbor::text(name), cbor::bytes(value)));
        }
        let mut object = vec![
            (cbor::text("fmt"), cbor::text("tpm")),
            (cbor::text("attStmt"), cbor::map(&statement)),
        ];
        if let Some(auth) = &self.auth_data {
            object.push((cbor::text("authData"), cbor::bytes(auth)));
        }
        cbor::map(&object)
    }
}

/// A COSE key.
fn cose(key: &Key) -> Vec<u8> {
    if matches!(key.kind(), Kind::Rsa2048 | Kind::Rsa3072) {
        let (n, e) = key.rsa_parts();
        return cbor::map(&[
            (cbor::int(1), cbor::int(3)),
            (cbor::int(3), cbor::int(-257)),
            (cbor::int(-1), cbor::bytes(&n)),
            (cbor::int(-2), cbor::bytes(&e)),
        ]);
    }
    let curve = match key.kind() {
        Kind::P256 => 1,
        Kind::P384 => 2,
        _ => 3,
    };
    let point = key.public();
    let (x, y) = point[1..].split_at((point.len() - 1) / 2);
    cbor::map(&[
        (cbor::int(1), cbor::int(2)),
        (cbor::int(3), cbor::int(-7)),
        (cbor::int(-1), cbor::int(curve)),
        (cbor::int(-2), cbor::bytes(x)),
        (cbor::int(-3), cbor::bytes(y)),
    ])
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Lengths and tags of the public area of a real sign-only P-256 key (86 bytes), and of a
    /// statement over it.
    #[test]
    fn the_structures_have_the_size_of_real_ones() {
        let t = Tpm2::default();
        let area = t.public();
        assert_eq!(area.len(), 86);
        assert_eq!(area[..10], [0, 0x23, 0, 0x0b, 0, 4, 0, 0x72, 0, 0]);
        let attest = Tpm2 {
            extra_data: vec![1; 32],
            ..t
        }
        .attest();
        assert_eq!(attest.len(), 173);
    }
}
