//! Entrust nShield bundles under a test root in KWARN-1's place.
//!
//! [`World`] holds the keys that stay, [`Spec`] says what the module would state of one key, and
//! [`Spec::bundle`] writes it. Tests change a field of [`Spec`] and everything is signed anew, or
//! change a member of the JSON and nothing is.

mod dsa;
mod words;

pub use dsa::DsaPair;

pub use words::{D3s, Words};

use crate::keys::{Key, Kind};
use crate::text::base64url;
use aws_lc_rs::digest::{Context, SHA1_FOR_LEGACY_USE_ONLY};

/// x and y of a point.
fn point(key: &Key) -> (Vec<u8>, Vec<u8>) {
    let public = key.public();
    let (x, y) = public[1..].split_at((public.len() - 1) / 2);
    (x.to_vec(), y.to_vec())
}

pub(crate) fn unhex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text
        .bytes()
        .map(|b| u8::try_from(char::from(b).to_digit(16).expect("hex")).expect("a digit"))
        .collect();
    digits.chunks_exact(2).map(|d| d[0] << 4 | d[1]).collect()
}

/// A key that signs in nCore: a module's or a world's.
#[derive(Clone)]
pub enum Signer {
    /// DSA.
    Dsa(DsaPair),
    /// ECDSA on P-521.
    Ecdsa(Key),
}

impl Signer {
    /// As `M_KeyData`.
    #[must_use]
    pub fn key_data(&self) -> Words {
        match self {
            Self::Dsa(d) => d
                .public()
                .iter()
                .fold(Words::new().u32(3), |w, n| w.number(n)),
            Self::Ecdsa(e) => {
                let (x, y) = point(e);
                Words::new().u32(46).u32(6).u32(0).number(&x).number(&y)
            }
        }
    }

    /// Its hash.
    #[must_use]
    pub fn hash(&self) -> [u8; 20] {
        match self {
            Self::Dsa(d) => key_hash("DSA00", &[], &d.public()),
            Self::Ecdsa(e) => {
                let (x, y) = point(e);
                ec_hash(521, &SECP521R1, &x, &y)
            }
        }
    }

    /// A signature as `M_CipherText`.
    #[must_use]
    pub fn sign(&self, message: &[u8]) -> Words {
        match self {
            Self::Dsa(d) => {
                let [r, s] = d.sign(message);
                Words::new().u32(170).number(&r).number(&s)
            }
            Self::Ecdsa(e) => {
                let both = e.sign_fixed(message);
                let (r, s) = both.split_at(66);
                Words::new().u32(187).number(r).number(s)
            }
        }
    }

    const fn mechanism(&self) -> u32 {
        match self {
            Self::Dsa(_) => 170,
            Self::Ecdsa(_) => 187,
        }
    }
}

/// p, a, b, Gx, Gy, n (SEC 2).
const SECP256R1: [&str; 6] = [
    "ffffffff00000001000000000000000000000000ffffffffffffffffffffffff",
    "ffffffff00000001000000000000000000000000fffffffffffffffffffffffc",
    "5ac635d8aa3a93e7b3ebbd55769886bc651d06b0cc53b0f63bce3c3e27d2604b",
    "6b17d1f2e12c4247f8bce6e563a440f277037d812deb33a0f4a13945d898c296",
    "4fe342e2fe1a7f9b8ee7eb4a7c0f9e162bce33576b315ececbb6406837bf51f5",
    "ffffffff00000000ffffffffffffffffbce6faada7179e84f3b9cac2fc632551",
];
const SECP521R1: [&str; 6] = [
    "01ffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff",
    "01fffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffc",
    "0051953eb9618e1c9a1f929a21a0b68540eea2da725b99b315f3b8b489918ef109e156193951ec7e937b1652c0bd3bb1bf073573df883d2c34f1ef451fd46b503f00",
    "00c6858e06b70404e9cd9e3ecb662395b4429c648139053fb521f828af606b4d3dbaa14b5e77efe75928fe1dc127a2ffa8de3348b3c1856a429bf97e7e31c2e5bd66",
    "011839296a789a3bc0045c8a5fb42c7d1bd998f54449579b446817afbd17273e662c97ee72995ef42640c550b9013fad0761353c7086a272c24088be94769fd16650",
    "01fffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffa51868783bf2f966b7fcc0148f709a5d03bb5c9b8899c47aebb6fb71e91386409",
];

fn key_hash(name: &str, head: &[u8], numbers: &[Vec<u8>]) -> [u8; 20] {
    let mut hash = Context::new(&SHA1_FOR_LEGACY_USE_ONLY);
    hash.update(format!("nFast KeyHash\0{name}\0").as_bytes());
    hash.update(head);
    for number in numbers {
        let Words(bytes) = Words::new().number(number);
        let mut bytes = bytes.split_at(4).1.to_vec();
        bytes.resize(bytes.len().div_ceil(64) * 64, 0);
        hash.update(&bytes);
    }
    hash.update(b"invented by nCipher 1997\0");
    hash.finish().as_ref().try_into().expect("20 bytes")
}

fn ec_hash(bits: u32, curve: &[&str; 6], x: &[u8], y: &[u8]) -> [u8; 20] {
    let mut numbers: Vec<Vec<u8>> = curve.iter().map(|t| unhex(t)).collect();
    numbers.extend([vec![1], x.to_vec(), y.to_vec()]);
    key_hash("ECDSA00", &Words::new().u32(0).u32(0).u32(bits).0, &numbers)
}

fn key_data(key: &Key) -> Words {
    match key.kind() {
        Kind::Rsa2048 | Kind::Rsa3072 => {
            let (n, e) = key.rsa_parts();
            Words::new().u32(1).number(&e).number(&n)
        }
        Kind::P256 => {
            let (x, y) = point(key);
            Words::new().u32(46).u32(4).u32(0).number(&x).number(&y)
        }
        other => panic!("{other:?} is not written"),
    }
}

fn hash_of(key: &Key) -> [u8; 20] {
    match key.kind() {
        Kind::P256 => {
            let (x, y) = point(key);
            ec_hash(256, &SECP256R1, &x, &y)
        }
        _ => {
            let (n, e) = key.rsa_parts();
            key_hash("RSA00", &[], &[e, n])
        }
    }
}

/// Keys that stay: the maker's, a module's, a Security World's.
#[derive(Clone)]
pub struct World {
    /// In KWARN-1's place.
    pub root: Key,
    /// Its delegate.
    pub delegate: Key,
    /// The module's KLF2.
    pub klf2: Key,
    /// The module's KML.
    pub kml: Signer,
    /// The Security Officer's key.
    pub knso: Signer,
}

impl World {
    /// One that signs with DSA, as most do.
    #[must_use]
    pub fn dsa() -> Self {
        Self {
            root: Key::named(Kind::P521, "nshield root"),
            delegate: Key::named(Kind::P521, "nshield delegate"),
            klf2: Key::named(Kind::P521, "nshield klf2"),
            kml: Signer::Dsa(DsaPair::from_seed("KML")),
            knso: Signer::Dsa(DsaPair::from_seed("KNSO")),
        }
    }

    /// One that signs with ECDSA.
    #[must_use]
    pub fn ecdsa() -> Self {
        Self {
            kml: Signer::Ecdsa(Key::named(Kind::P521, "nshield kml")),
            knso: Signer::Ecdsa(Key::named(Kind::P521, "nshield knso")),
            ..Self::dsa()
        }
    }
}

/// Hashes that name keys nobody needs to have.
pub const KM: [u8; 20] = [0x11; 20];
/// The key that certifies module keys.
pub const KMC: [u8; 20] = [0x12; 20];
/// The FIPS key.
pub const KFIPS: [u8; 20] = [0x13; 20];
/// The recovery key.
pub const KRE: [u8; 20] = [0x14; 20];
/// The recovery authority.
pub const KRA: [u8; 20] = [0x15; 20];

/// What a module would state of one key.
#[derive(Clone)]
pub struct Spec {
    /// The key.
    pub key: Key,
    /// Generation parameters, encoded.
    pub generated_as: Words,
    /// The hash in the key generation certificate, if not that key's.
    pub generated_hash: Option<[u8; 20]>,
    /// The access control list: encoded groups.
    pub groups: Vec<Words>,
    /// The root's name.
    pub root_name: &'static str,
    /// Electronic serial number in the warrant.
    pub esn: &'static str,
    /// The same in the module's state.
    pub state_esn: &'static str,
    /// The last warrant certificate's type.
    pub warrant_type: &'static str,
    /// Hash of KNSO in the module's state, if not the world's.
    pub state_hknso: Option<[u8; 20]>,
    /// Module keys in the module's state.
    pub module_keys: Vec<[u8; 20]>,
    /// A FIPS 140 level 3 world.
    pub fips_world: bool,
    /// A world that recovers.
    pub recovery: bool,
    /// The message type of the key generation certificate (2).
    pub message_type: u32,
    /// Attributes added to the module's state, encoded, and how many.
    pub state_extra: (u32, Words),
    /// Whether a further delegation stands after the module's certificate, by the module's key.
    pub delegated_by_module: bool,
}

/// Operations anybody may do, by bits.
#[must_use]
pub fn operations(bits: u32) -> Words {
    Words::new().u32(1).u32(bits)
}

/// A working blob under the module key `km`, without a token.
#[must_use]
pub fn module_blob(km: &[u8; 20]) -> Words {
    Words::new().u32(2).u32(0x7).raw(km)
}

/// An archive blob to `to`, or to anybody.
#[must_use]
pub fn archive_blob(to: Option<&[u8; 20]>) -> Words {
    let words = Words::new().u32(3).u32(u32::from(to.is_some())).u32(225);
    to.iter().fold(words, |w, h| w.raw(*h))
}

/// A group without limits.
#[must_use]
pub fn group(actions: &[Words]) -> Words {
    group_with(0, actions, &Words::new())
}

/// A group with flags, and what follows them.
#[must_use]
pub fn group_with(flags: u32, actions: &[Words], after: &Words) -> Words {
    let count = u32::try_from(actions.len()).expect("few");
    let words = Words::new().u32(flags).u32(0).u32(count);
    let words = actions.iter().fold(words, |w, a| w.raw(&a.0));
    words.raw(&after.0)
}

impl Spec {
    /// A signing key, module-protected, not recoverable.
    #[must_use]
    pub fn new(key: Key) -> Self {
        let generated_as = match key.kind() {
            // RSAPrivate with strong primes; ECDSAPrivate on P-256.
            Kind::Rsa2048 => Words::new().u32(2).u32(4).u32(2048),
            Kind::Rsa3072 => Words::new().u32(2).u32(4).u32(3072),
            _ => Words::new().u32(45).u32(4),
        };
        Self {
            key,
            generated_as,
            generated_hash: None,
            // DuplicateHandle, UseAsCertificate, GetAppData, ReduceACL, Sign, GetACL.
            groups: vec![group(&[operations(0x302b)]), group(&[module_blob(&KM)])],
            root_name: "KWARN-1",
            esn: "1111-2222-3333",
            state_esn: "1111-2222-3333",
            warrant_type: "ModuleInformation",
            state_hknso: None,
            module_keys: vec![[0xaa; 20], KM],
            fips_world: false,
            recovery: false,
            message_type: 2,
            state_extra: (0, Words::new()),
            delegated_by_module: false,
        }
    }

    /// The warrant.
    #[must_use]
    pub fn warrant(&self, world: &World) -> Vec<u8> {
        let public = |key: &Key| {
            let (x, y) = point(key);
            D3s::List(vec![
                D3s::Symbol("ECDSA"),
                D3s::Symbol("Public"),
                D3s::Symbol("NISTP521"),
                D3s::List(vec![D3s::Integer(x), D3s::Integer(y)]),
            ])
        };
        let mechanism = D3s::List(vec![
            D3s::Symbol("ECDSA"),
            D3s::List(vec![D3s::Symbol("EMSA1"), D3s::Symbol("SHA512")]),
        ]);
        let certificate = |payload: D3s, by: &Key| {
            let payload = payload.encode();
            let signature = by.sign_fixed(&payload);
            D3s::Map(vec![
                (D3s::Symbol("Payload"), D3s::Bytes(payload)),
                (D3s::Symbol("Signature"), D3s::Bytes(signature)),
            ])
        };
        let kind = D3s::Symbol("WarrantCertificateType");
        let delegation = |to: &Key| {
            D3s::Map(vec![
                (D3s::Symbol("DelegateKey"), public(to)),
                (D3s::Symbol("SigMech"), mechanism.clone()),
                (kind.clone(), D3s::Symbol("Delegation")),
            ])
        };
        let approval = D3s::List(vec![
            D3s::Symbol("FIPS140"),
            D3s::Small(2),
            D3s::Small(3),
            D3s::Symbol("MultiChipEmbedded"),
        ]);
        let module = |klf2: &Key| {
            D3s::Map(vec![
                (
                    D3s::Symbol("ElectronicSerialNumber"),
                    D3s::Text(self.esn.to_owned()),
                ),
                (
                    D3s::Symbol("PhysicalSerialNumber"),
                    D3s::Text("36-X00001".to_owned()),
                ),
                (D3s::Symbol("Approvals"), D3s::List(vec![approval.clone()])),
                (kind.clone(), D3s::Symbol(self.warrant_type)),
                (D3s::Symbol("KLF2pub"), public(klf2)),
                (D3s::Symbol("KLF2mech"), mechanism.clone()),
            ])
        };
        let mut list = vec![
            D3s::Symbol(self.root_name),
            certificate(delegation(&world.delegate), &world.root),
        ];
        if self.delegated_by_module {
            // The module's own certificate, and below it one that the module's key signed.
            list.push(certificate(module(&world.delegate), &world.delegate));
            list.push(certificate(module(&world.klf2), &world.delegate));
        } else {
            list.push(certificate(module(&world.klf2), &world.delegate));
        }
        D3s::List(list).encode()
    }

    /// The key generation certificate's message.
    #[must_use]
    pub fn generation(&self) -> Vec<u8> {
        let hash = self.generated_hash.unwrap_or_else(|| hash_of(&self.key));
        let count = u32::try_from(self.groups.len()).expect("few");
        let words = Words::new()
            .u32(self.message_type)
            .u32(0)
            .raw(&self.generated_as.0)
            .u32(count);
        let words = self.groups.iter().fold(words, |w, g| w.raw(&g.0));
        words.raw(&hash).0
    }

    /// The module's state.
    #[must_use]
    pub fn state(&self, world: &World) -> Vec<u8> {
        let klf2 = {
            let (x, y) = point(&world.klf2);
            let data = Words::new().u32(46).u32(6).u32(0).number(&x).number(&y);
            (ec_hash(521, &SECP521R1, &x, &y), data)
        };
        let hknso = self.state_hknso.unwrap_or_else(|| world.knso.hash());
        let keys = u32::try_from(self.module_keys.len()).expect("few");
        let words = Words::new()
            .u32(4)
            .u32(0)
            .u32(5 + self.state_extra.0)
            .u32(2)
            .text(self.state_esn)
            .u32(3)
            .raw(&world.kml.hash())
            .raw(&world.kml.key_data().0)
            .u32(world.kml.mechanism())
            .u32(13)
            .raw(&klf2.0)
            .raw(&klf2.1.0)
            .u32(187)
            .u32(5)
            .raw(&hknso)
            .u32(0x4e4f)
            .u32(6)
            .u32(keys);
        let words = self
            .module_keys
            .iter()
            .fold(words, |w, k| w.raw(k).u32(137).u32(73));
        words.raw(&self.state_extra.1.0).0
    }

    /// The bundle's members.
    #[must_use]
    pub fn bundle(&self, world: &World) -> Bundle {
        let hash = |h: &[u8; 20]| base64url(&Words::new().u32(44).raw(h).0);
        let suite = "DLf3072s256mAEScSP800131Ar1";
        let hknso = world.knso.hash();
        let (state, generation) = (self.state(world), self.generation());
        let klf2 = {
            let both = world.klf2.sign_fixed(&state);
            let (r, s) = both.split_at(66);
            Words::new().u32(187).number(r).number(s)
        };
        let mut members = vec![
            ("root", self.root_name.to_owned()),
            ("warrant", base64url(&self.warrant(world))),
            ("pubkeydata", base64url(&key_data(&self.key).0)),
            ("kcmsg", base64url(&generation)),
            ("kcsig", base64url(&world.kml.sign(&generation).0)),
            ("modstatemsg", base64url(&state)),
            ("modstatesig", base64url(&klf2.0)),
            ("knsopub", base64url(&world.knso.key_data().0)),
            ("hkm", hash(&KM)),
            ("hkmc", hash(&KMC)),
            ("ciphersuite", suite.to_owned()),
        ];
        if self.fips_world {
            let text = format!("Module setup, FIPS3; suite = {suite}\0");
            let body = [text.as_bytes(), &hknso, &KM, &KMC, &KFIPS].concat();
            members.push(("hkfips", hash(&KFIPS)));
            let by = base64url(&world.knso.sign(&body).0);
            members.push(("CertKMaKMCaKFIPSbKNSO", by));
        } else {
            let text = format!("Module keys: suite = {suite}\0");
            let body = [text.as_bytes(), &hknso, &KM, &KMC].concat();
            let by = base64url(&world.knso.sign(&body).0);
            members.push(("CertKMaKMCbKNSO", by));
        }
        if self.recovery {
            let body = [&b"Card Recovery\0"[..], &hknso, &KRE, &KRA].concat();
            members.push(("hkre", hash(&KRE)));
            members.push(("hkra", hash(&KRA)));
            let by = base64url(&world.knso.sign(&body).0);
            members.push(("CertKREaKRAbKNSO", by));
        }
        Bundle(members)
    }
}

/// A bundle's members, all of them text.
#[derive(Debug, Clone)]
pub struct Bundle(pub Vec<(&'static str, String)>);

impl Bundle {
    /// The member.
    #[must_use]
    pub fn get(&self, name: &str) -> &str {
        let found = self.0.iter().find(|(n, _)| *n == name);
        &found.expect("a member").1
    }

    /// With another value, or a further member.
    #[must_use]
    pub fn with(mut self, name: &'static str, value: &str) -> Self {
        self.0.retain(|(n, _)| *n != name);
        self.0.push((name, value.to_owned()));
        self
    }

    /// Without a member.
    #[must_use]
    pub fn without(mut self, name: &str) -> Self {
        self.0.retain(|(n, _)| *n != name);
        self
    }

    /// The file.
    #[must_use]
    pub fn json(&self) -> Vec<u8> {
        let members: Vec<String> = self
            .0
            .iter()
            .map(|(name, value)| format!("\"{name}\":\"{value}\""))
            .collect();
        format!("{{{}}}", members.join(",")).into_bytes()
    }
}
