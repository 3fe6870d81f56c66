//! Securosys Primus evidence: a statement in XML, its signature, a chain.

use crate::cert::Certificate;
use crate::der;
use crate::hostile::Files;
use crate::keys::{Key, Kind, Scheme};
use crate::text::base64;

/// Everything the evidence says. `Default` is genuine and sign-only.
#[derive(Clone)]
pub struct Securosys {
    /// The attested key.
    pub key: Key,
    /// The attestation key.
    pub attestation_key: Key,
    /// The device's key.
    pub device_key: Key,
    /// The root's key.
    pub root_key: Key,
    /// The root's common name.
    pub root_name: String,
    /// The device's serial number.
    pub serial: u64,
    /// The policy of the device's certificate.
    pub policy: String,
    /// The path length of the device's certificate; `None` for no authority at all.
    pub path: Option<u64>,
    /// The certificates' first and last moment.
    pub dates: (String, String),
    /// The attributes of the root element, written as they stand.
    pub root_attributes: String,
    /// The elements before `attributes`, names and text.
    pub elements: Vec<(String, String)>,
    /// The flags.
    pub attributes: Vec<(String, String)>,
    /// What stands after `attributes`.
    pub more: String,
    /// How the attestation key signs.
    pub scheme: Scheme,
}

impl Default for Securosys {
    fn default() -> Self {
        Self::of(Key::named(Kind::P256, "securosys subject"))
    }
}

impl Securosys {
    /// Genuine evidence of `key`.
    #[must_use]
    pub fn of(key: Key) -> Self {
        let mut elements = vec![
            ("label", "code signing".to_owned()),
            ("create_time", "2025-10-01T20:31:53Z".to_owned()),
            ("attest_time", "2025-10-18T20:19:33Z".to_owned()),
            ("key_use_count", "10".to_owned()),
        ];
        elements.extend(match key.kind() {
            Kind::Rsa2048 | Kind::Rsa3072 => {
                let bits = key.rsa_parts().0.len() * 8;
                vec![
                    ("algorithm", "RSA".to_owned()),
                    ("algorithm_oid", "1.2.840.113549.1.1.1".to_owned()),
                    ("key_size", bits.to_string()),
                ]
            }
            Kind::P256 => vec![
                ("algorithm", "EC".to_owned()),
                ("algorithm_oid", "1.2.840.10045.2.1".to_owned()),
                ("curve_oid", "1.2.840.10045.3.1.7".to_owned()),
            ],
            Kind::Ed25519 => vec![
                ("algorithm", "ED".to_owned()),
                ("algorithm_oid", "1.3.101.112".to_owned()),
            ],
            other => panic!("{other:?} is not written"),
        });
        elements.push(("public_key", base64(key.spki())));
        let flags = [
            ("decrypt", false),
            ("sign", true),
            ("unwrap", false),
            ("derive", false),
            ("sensitive", true),
            ("always_sensitive", true),
            ("extractable", false),
            ("never_extractable", true),
            ("modifiable", false),
            ("copyable", false),
            ("destroyable", true),
            ("unique", true),
        ];
        let owned = |(name, text): (&str, String)| (name.to_owned(), text);
        Self {
            attestation_key: Key::named(Kind::Rsa3072, "securosys attestation"),
            device_key: Key::named(Kind::Rsa3072, "securosys device"),
            root_key: Key::named(Kind::Rsa3072, "securosys root"),
            root_name: "Test Primus Root".into(),
            serial: 18_386_101,
            policy: "1.3.6.1.4.1.44668.4.1.3".into(),
            path: Some(0),
            dates: ("250806140034Z".into(), "20540814123345Z".into()),
            root_attributes: r#" creation="generated""#.into(),
            elements: elements.into_iter().map(owned).collect(),
            attributes: flags.map(|(n, f)| (n.to_owned(), f.to_string())).to_vec(),
            more: String::new(),
            scheme: Scheme::RsaSha256,
            key,
        }
    }

    /// Changes a flag.
    pub fn flag(&mut self, name: &str, value: &str) {
        let flag = self.attributes.iter_mut().find(|(n, _)| n == name);
        flag.expect("a flag of that name").1 = value.to_owned();
    }

    /// Changes an element.
    pub fn element(&mut self, name: &str, text: &str) {
        let element = self.elements.iter_mut().find(|(n, _)| n == name);
        element.expect("an element of that name").1 = text.to_owned();
    }

    /// The statement.
    #[must_use]
    pub fn xml(&self) -> Vec<u8> {
        let lines = |depth: &str, of: &[(String, String)]| -> String {
            let line =
                |(name, text): &(String, String)| format!("{depth}<{name}>{text}</{name}>\n");
            of.iter().map(line).collect()
        };
        format!(
            "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<private_key{}>\n{}\t<attributes>\n{}\t</attributes>\n{}</private_key>\n\n",
            self.root_attributes,
            lines("\t", &self.elements),
            lines("\t\t", &self.attributes),
            self.more,
        )
        .into_bytes()
    }

    /// The root's certificate.
    #[must_use]
    pub fn root(&self) -> Vec<u8> {
        crate::cert::root(&self.root_name, &self.root_key)
    }

    fn device_name(&self) -> Vec<u8> {
        name(&format!("PRIMUS HSM KEY (SN: {})", self.serial))
    }

    /// The device's certificate, before it is signed.
    #[must_use]
    pub fn device(&self) -> Certificate {
        let issuer = crate::cert::cn(&self.root_name);
        let mut c = Certificate::new(self.device_name(), &self.device_key, issuer);
        (c.not_before, c.not_after) = self.dates.clone();
        c = match self.path {
            Some(path) => c.ca(Some(path)),
            None => c.with("2.5.29.19", true, der::seq(&[])),
        };
        c.with(
            "2.5.29.32",
            false,
            der::seq(&[der::seq(&[der::oid(&self.policy)])]),
        )
    }

    /// The attestation key's certificate, before it is signed.
    #[must_use]
    pub fn leaf(&self) -> Certificate {
        let mut c = Certificate::new(
            name("attestation-key"),
            &self.attestation_key,
            self.device_name(),
        );
        (c.not_before, c.not_after) = self.dates.clone();
        c.with("2.5.29.19", true, der::seq(&[]))
    }

    /// The statement's signature.
    #[must_use]
    pub fn signature(&self, statement: &[u8]) -> Vec<u8> {
        self.attestation_key.sign(self.scheme, statement)
    }

    /// Statement, signature, attestation key, device.
    #[must_use]
    pub fn files(&self) -> Files {
        let xml = self.xml();
        let signature = self.signature(&xml);
        vec![
            xml,
            signature,
            self.leaf().sign(&self.device_key),
            self.device().sign(&self.root_key),
        ]
    }

    /// A look-alike: a key inside the device, certified by nobody as an attestation key, certifies
    /// an "attestation key" outside.
    #[must_use]
    pub fn look_alike(&self) -> Files {
        let outside = Key::named(Kind::Rsa3072, "securosys outside");
        let mut forged = self.leaf();
        forged.spki = outside.spki().to_vec();
        forged.issuer = name("attestation-key");
        let xml = self.xml();
        vec![
            outside.sign(self.scheme, &xml),
            xml,
            forged.sign(&self.attestation_key),
            self.leaf().sign(&self.device_key),
            self.device().sign(&self.root_key),
        ]
    }
}

fn name(common_name: &str) -> Vec<u8> {
    crate::cert::dn(&[
        ("2.5.4.3", common_name),
        ("2.5.4.6", "CH"),
        ("2.5.4.7", "Zurich"),
        ("2.5.4.10", "Securosys"),
        ("2.5.4.8", "ZH"),
    ])
}
