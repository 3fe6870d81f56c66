//! Marvell LiquidSecurity evidence: the blob, the partition's two chains, the clouds' wrappings.

use crate::cert::Certificate;
use crate::der;
use crate::gzip::gzip;
use crate::hostile::Files;
use crate::keys::{Key, Kind, Scheme};
use crate::text::{base64, base64url, pem};
use aws_lc_rs::digest::{SHA256, digest};

/// The private object's class, and the attributes that decide.
pub mod attribute {
    /// CLASS.
    pub const CLASS: u32 = 0;
    /// ID.
    pub const ID: u32 = 0x102;
    /// SENSITIVE.
    pub const SENSITIVE: u32 = 0x103;
    /// DECRYPT.
    pub const DECRYPT: u32 = 0x105;
    /// UNWRAP.
    pub const UNWRAP: u32 = 0x107;
    /// SIGN.
    pub const SIGN: u32 = 0x108;
    /// MODULUS, or an EC point.
    pub const MODULUS: u32 = 0x120;
    /// MODULUS_BITS, or a curve.
    pub const MODULUS_BITS: u32 = 0x121;
    /// EXTRACTABLE.
    pub const EXTRACTABLE: u32 = 0x162;
    /// LOCAL.
    pub const LOCAL: u32 = 0x163;
    /// NEVER_EXTRACTABLE.
    pub const NEVER_EXTRACTABLE: u32 = 0x164;
    /// ALWAYS_SENSITIVE.
    pub const ALWAYS_SENSITIVE: u32 = 0x165;
    /// An extended attribute with bits.
    pub const EXTENDED_1: u32 = 0x1000;
    /// SHA-256 of the SubjectPublicKeyInfo.
    pub const EKCV: u32 = 0x1003;
    /// SPLITTABLE.
    pub const SPLITTABLE: u32 = 0x8000_0002;
    /// IS_SPLIT.
    pub const IS_SPLIT: u32 = 0x8000_0003;
}

/// An object of a blob.
#[derive(Debug, Clone)]
pub struct Object {
    /// Its handle.
    pub handle: u32,
    /// Types and values, in the order written.
    pub attributes: Vec<(u32, Vec<u8>)>,
}

impl Object {
    /// Changes or adds an attribute.
    pub fn set(&mut self, kind: u32, value: &[u8]) {
        match self.attributes.iter_mut().find(|(k, _)| *k == kind) {
            Some((_, v)) => *v = value.to_vec(),
            None => self.attributes.push((kind, value.to_vec())),
        }
    }

    /// Leaves an attribute out.
    pub fn unset(&mut self, kind: u32) {
        self.attributes.retain(|(k, _)| *k != kind);
    }

    fn write(&self) -> Vec<u8> {
        let mut area = Vec::new();
        for (kind, value) in &self.attributes {
            area.extend(kind.to_be_bytes());
            area.extend(size(value.len()));
            area.extend(value);
        }
        let mut out = self.handle.to_be_bytes().to_vec();
        out.extend(size(self.attributes.len()));
        out.extend(size(area.len()));
        out.extend(area);
        out
    }
}

fn size(n: usize) -> [u8; 4] {
    u32::try_from(n).unwrap().to_be_bytes()
}

/// Everything the evidence says. `Default` is genuine: an EC key of Google Cloud HSM.
#[derive(Clone)]
pub struct Marvell {
    /// The attested key.
    pub key: Key,
    /// The partition's key, which signs blobs.
    pub partition_key: Key,
    /// The card's key.
    pub card_key: Key,
    /// The maker's root key.
    pub maker_key: Key,
    /// The owner's root key.
    pub owner_key: Key,
    /// The card key the owner certifies.
    pub owner_card_key: Key,
    /// The common name of a card, without `HSM:`.
    pub card: String,
    /// What follows it in a partition's name.
    pub partition: String,
    /// What ends both names.
    pub suffix: String,
    /// The partition's name in the owner's certificate; `None` for the same as the maker's.
    pub owner_partition: Option<String>,
    /// The card certificate's dates.
    pub card_dates: (String, String),
    /// The flags of the answer.
    pub flags: u32,
    /// The public object.
    pub public: Object,
    /// The private object.
    pub private: Object,
    /// The resource name the key was made under.
    pub name: String,
    /// The public key that Azure's JSON shows; `None` for the attested one.
    pub shown: Option<Key>,
}

impl Default for Marvell {
    fn default() -> Self {
        Self::of(Key::named(Kind::P256, "marvell subject"))
    }
}

const MAKER: &str = "Test LiquidSecurity Root";
const OWNER: &str = "Test Owner Root";

impl Marvell {
    /// Genuine evidence of `key`.
    #[must_use]
    pub fn of(key: Key) -> Self {
        let name = "projects/p/locations/l/keyRings/r/cryptoKeys/k/cryptoKeyVersions/1".to_owned();
        let object = |private: bool| object(&key, private, &name);
        Self {
            public: object(false),
            private: object(true),
            partition_key: Key::named(Kind::Rsa2048, "marvell partition"),
            card_key: Key::named(Kind::Rsa2048, "marvell card"),
            owner_card_key: Key::named(Kind::Rsa2048, "marvell card"),
            maker_key: Key::named(Kind::Rsa2048, "marvell maker"),
            owner_key: Key::named(Kind::Rsa2048, "marvell owner"),
            card: "5.3G1953-ICM001225".into(),
            partition: ":PARTN:1".into(),
            suffix: ", for FIPS mode".into(),
            owner_partition: None,
            card_dates: ("200101000000Z".into(), "491231235959Z".into()),
            flags: 3,
            name,
            shown: None,
            key,
        }
    }

    /// The maker's root certificate.
    #[must_use]
    pub fn maker(&self) -> Vec<u8> {
        crate::cert::root(MAKER, &self.maker_key)
    }

    /// The owner's root certificate.
    #[must_use]
    pub fn owner(&self) -> Vec<u8> {
        crate::cert::root(OWNER, &self.owner_key)
    }

    fn card_name(&self) -> Vec<u8> {
        name(&format!("HSM:{}{}", self.card, self.suffix))
    }

    fn partition_name(&self) -> Vec<u8> {
        name(&format!(
            "HSM:{}{}{}",
            self.card, self.partition, self.suffix
        ))
    }

    /// The card's certificate by the maker: version 1, no extensions.
    #[must_use]
    pub fn card(&self) -> Certificate {
        let mut c = Certificate::new(self.card_name(), &self.card_key, crate::cert::cn(MAKER));
        c.version = 1;
        (c.not_before, c.not_after) = self.card_dates.clone();
        c
    }

    /// The partition's certificate by the card.
    #[must_use]
    pub fn partition(&self) -> Certificate {
        Certificate::new(self.partition_name(), &self.partition_key, self.card_name())
    }

    /// The partition's certificate by the owner.
    #[must_use]
    pub fn owned_partition(&self) -> Certificate {
        let subject = self.owner_partition.as_deref().map(name);
        let subject = subject.unwrap_or_else(|| self.partition_name());
        self.owned(subject, &self.partition_key)
    }

    /// The card's certificate by the owner.
    #[must_use]
    pub fn owned_card(&self) -> Certificate {
        self.owned(self.card_name(), &self.owner_card_key)
    }

    fn owned(&self, subject: Vec<u8>, key: &Key) -> Certificate {
        let c = Certificate::new(subject, key, crate::cert::cn(OWNER));
        c.with("2.5.29.19", false, der::seq(&[]))
    }

    /// The blob of both objects.
    #[must_use]
    pub fn blob(&self) -> Vec<u8> {
        self.blob_of(&[&self.public, &self.private])
    }

    /// A blob of one or two objects.
    #[must_use]
    pub fn blob_of(&self, objects: &[&Object]) -> Vec<u8> {
        let written: Vec<Vec<u8>> = objects.iter().map(|o| o.write()).collect();
        let second = match written.as_slice() {
            [first, _] => u16::try_from(8 + first.len()).unwrap(),
            _ => 0,
        };
        let mut buffer = vec![0, 1, 0, 3, 0, 8];
        buffer.extend(second.to_be_bytes());
        buffer.extend(written.concat());
        let mut blob = vec![0, 0, 0, 0];
        blob.extend(self.flags.to_be_bytes());
        blob.extend(size(16 + 8 * objects.len() + buffer.len() + 256));
        blob.extend(size(buffer.len()));
        for o in objects {
            blob.extend(u64::from(o.handle).to_be_bytes());
        }
        blob.extend(buffer);
        let signature = self.partition_key.sign(Scheme::RsaSha256, &blob);
        blob.extend(signature);
        blob
    }

    /// What firmware 2.x writes: twenty bytes, one object, a signature of its own kind.
    #[must_use]
    pub fn blob_v1(&self) -> Vec<u8> {
        let mut blob = vec![0xab; 20];
        blob.extend(self.private.write());
        let signature = self.partition_key.sign(Scheme::RsaSha256, &blob);
        blob.extend(signature);
        blob
    }

    /// The four certificates: partition and card by the maker, partition and card by the owner.
    #[must_use]
    pub fn certificates(&self) -> Files {
        vec![
            self.partition().sign(&self.card_key),
            self.card().sign(&self.maker_key),
            self.owned_partition().sign(&self.owner_key),
            self.owned_card().sign(&self.owner_key),
        ]
    }

    /// The blob, compressed, and the certificates.
    #[must_use]
    pub fn files(&self) -> Files {
        let mut files = vec![gzip(&self.blob())];
        files.extend(self.certificates());
        files
    }

    /// The JSON of a Google key version.
    #[must_use]
    pub fn google_json(&self, format: &str, name: &str) -> Vec<u8> {
        let certificates = self.certificates();
        let list = |of: &[Vec<u8>]| {
            let all: Vec<String> = of.iter().map(|c| quoted(&pem("CERTIFICATE", c))).collect();
            all.join(",")
        };
        format!(
            r#"{{"name":"{name}","protectionLevel":"HSM","attestation":{{"format":"{format}","content":"{}","certChains":{{"caviumCerts":[{}],"googleCardCerts":[{}],"googlePartitionCerts":[{}]}}}}}}"#,
            base64(&gzip(&self.blob())),
            list(&certificates[..2]),
            list(&certificates[3..]),
            list(&certificates[2..3]),
        )
        .into_bytes()
    }

    /// The JSON of an Azure key. The owner's root in it is self-signed by a key of nobody's.
    #[must_use]
    pub fn azure_json(&self) -> Vec<u8> {
        let nobody = Key::named(Kind::Rsa2048, "marvell azure owner");
        let mut owned = self.owned_partition();
        owned.issuer = crate::cert::cn("Partition owner");
        let certificates = [
            self.partition().sign(&self.card_key),
            self.card().sign(&self.maker_key),
            owned.sign(&nobody),
            crate::cert::root("Partition owner", &nobody),
        ];
        let chain: String = certificates.iter().map(|c| pem("CERTIFICATE", c)).collect();
        format!(
            r#"{{"attributes":{{"enabled":true,"attestation":{{"version":"MRVL-1","certificatePemFile":"{}","privateKeyAttestation":"{}","publicKeyAttestation":"{}"}}}},"key":{{"kid":"https://h.example/keys/k/1",{}}}}}"#,
            base64url(chain.as_bytes()),
            base64url(&self.blob_of(&[&self.private])),
            base64url(&self.blob_of(&[&self.public])),
            jwk(self.shown.as_ref().unwrap_or(&self.key)),
        )
        .into_bytes()
    }

    /// A look-alike: a key inside the partition certifies a "partition" of its own, whose key signs
    /// a statement about a key that was never in a card.
    #[must_use]
    pub fn look_alike(&self) -> Files {
        let outside = Key::named(Kind::Rsa2048, "marvell outside");
        let mut forged = self.partition();
        forged.spki = outside.spki().to_vec();
        forged.issuer = self.partition_name();
        let mut statement = self.clone();
        statement.partition_key = outside;
        let mut files = vec![gzip(&statement.blob()), forged.sign(&self.partition_key)];
        files.extend(self.certificates());
        files
    }
}

/// The members of a key of the Managed HSM (RFC 7518 §6).
fn jwk(key: &Key) -> String {
    match key.kind() {
        Kind::Rsa2048 | Kind::Rsa3072 => {
            let (n, e) = key.rsa_parts();
            let (n, e) = (base64url(&n), base64url(&e));
            format!(r#""kty":"RSA-HSM","n":"{n}","e":"{e}""#)
        }
        Kind::P256 => {
            let point = key.public();
            let (x, y) = point[1..].split_at(32);
            let (x, y) = (base64url(x), base64url(y));
            format!(r#""kty":"EC-HSM","crv":"P-256","x":"{x}","y":"{y}""#)
        }
        other => panic!("{other:?} is not written"),
    }
}

fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('\n', "\\n"))
}

/// One multi-valued RDN, and the common name: as the maker writes it.
fn name(common_name: &str) -> Vec<u8> {
    let one = |kind, value| der::seq(&[der::oid(kind), der::utf8(value)]);
    let place = [
        one("2.5.4.6", "US"),
        one("2.5.4.8", "CA"),
        one("2.5.4.10", "Cavium"),
        one("2.5.4.11", "N3FIPS"),
        one("2.5.4.7", "SanJose"),
    ];
    der::seq(&[der::set(&place), der::set(&[one("2.5.4.3", common_name)])])
}

fn object(key: &Key, private: bool, name: &str) -> Object {
    let yes_if = |b: bool| vec![u8::from(b)];
    let sha256 = |bytes: &[u8]| digest(&SHA256, bytes).as_ref().to_vec();
    let hex = |bytes: &[u8]| bytes.iter().map(|b| format!("{b:02x}")).collect::<String>();
    let id = format!(
        "{}{}",
        hex(&sha256(b"somebody")),
        hex(&sha256(name.as_bytes()))
    );
    let mut label = b"app_key".to_vec();
    label.resize(128, 0);
    let curve = |n: u32| n.to_be_bytes().to_vec();
    let (kind, modulus, bits) = match key.kind() {
        Kind::Rsa2048 => (0, key.rsa_parts().0, curve(2048)),
        Kind::Rsa3072 => (0, key.rsa_parts().0, curve(3072)),
        Kind::P256 => (3, key.public(), curve(415)),
        Kind::Secp256k1 => (3, key.public(), curve(714)),
        Kind::P384 => (3, key.public(), curve(715)),
        Kind::P521 => (3, key.public(), curve(716)),
        Kind::Ed25519 => panic!("the cards have no Ed25519"),
    };
    let mut attributes = vec![
        (0, vec![if private { 3 } else { 2 }]),
        (0x100, vec![kind]),
        (1, vec![2]),
        (2, vec![1]),
        (0x104, yes_if(!private)),
        (0x105, yes_if(private)),
        (0x106, yes_if(!private)),
        (0x107, yes_if(private)),
        (0x108, yes_if(private)),
        (0x10a, yes_if(!private)),
        (0x163, vec![1]),
        (0x103, yes_if(private)),
        (0x162, yes_if(!private)),
        (3, label),
        (0x102, id.into_bytes()),
        (0x161, vec![0, 0, 0, 0x41]),
        (0x173, vec![1, 2, 3]),
        (0x1003, sha256(key.spki())),
        (0x1000, vec![0, 0, 0, 0, 0, 0, 0, 2]),
        (0x120, modulus),
        (0x121, bits),
        (0x86, vec![0]),
        (0x210, vec![0]),
        (0x10c, vec![0]),
        (0x165, yes_if(private)),
        (0x8000_0002, vec![0]),
        (0x8000_0003, vec![0]),
        (0x164, yes_if(private)),
    ];
    if kind == 0 {
        attributes.push((0x122, vec![1, 0, 1]));
    }
    for mechanisms in (0x8000_0174..=0x8000_0179).chain([0x8000_0180]) {
        let mut value = vec![0; 32];
        value[31] = 0xff;
        attributes.push((mechanisms, value));
    }
    Object {
        handle: if private { 0x22a6 } else { 0x7e6 },
        attributes,
    }
}
