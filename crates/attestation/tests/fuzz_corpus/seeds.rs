//! The seeds of each target, written by testkit.

use countersign_attestation::AttestationBundle;
use countersign_attestation::statement::{
    AttributeClaim, Audit, Device, Isolation, KeyStatement, LogAnchor, Order, StatementTbs,
};
use countersign_attestation::time::UnixSeconds;
use countersign_testkit_evidence::cert::{attestation_attribute, certs_only, request};
use countersign_testkit_evidence::crypto4a::{Crypto4A, Hss};
use countersign_testkit_evidence::fortanix::Fortanix;
use countersign_testkit_evidence::gzip::gzip;
use countersign_testkit_evidence::marvell::Marvell;
use countersign_testkit_evidence::nshield::{Spec, World};
use countersign_testkit_evidence::pkix::Pkix;
use countersign_testkit_evidence::securosys::Securosys;
use countersign_testkit_evidence::text::{base64, pem};
use countersign_testkit_evidence::thales_luna::ThalesLuna;
use countersign_testkit_evidence::tpm2::{TCG_STATEMENT, Tpm2};
use countersign_testkit_evidence::yubihsm2::YubiHsm2;
use countersign_testkit_evidence::yubikey_piv::YubiKeyPiv;
use countersign_testkit_evidence::{Key, Kind, cbor, der};

/// Target, name, bytes.
pub type Seed = (&'static str, &'static str, Vec<u8>);

/// Every seed.
pub fn all() -> Vec<Seed> {
    let mut out = encodings();
    out.extend(devices());
    out.extend(tpm2());
    out.extend(nshield());
    out.extend(whole());
    out
}

/// As the targets take several inputs in one.
fn pieces(all: &[&[u8]]) -> Vec<u8> {
    let one = |p: &&[u8]| {
        let length = u16::try_from(p.len()).unwrap().to_le_bytes();
        [&length[..], *p].concat()
    };
    all.iter().flat_map(one).collect()
}

fn encodings() -> Vec<Seed> {
    let (h, t) = (YubiHsm2::default(), Tpm2::default());
    let statement = (TCG_STATEMENT, t.tcg_statement(false));
    let attribute = attestation_attribute(&[statement], &t.certificates());
    let mixed = der::seq(&[
        der::int(300),
        der::boolean(true),
        der::bits(&[0xf0]),
        der::octets(b"octets"),
        der::null(),
        der::oid("1.3.6.1.4.1.41482.4"),
        der::set(&[der::utf8("ä"), der::printable("p"), der::ia5("i")]),
        der::time("261122000000Z"),
        der::time("20261122000000Z"),
        der::context(0, &der::int(0)),
        der::context_primitive(1, b"implicit"),
    ]);
    let every = cbor::map(&[
        (
            cbor::text("array"),
            cbor::array(&[cbor::int(-7), cbor::int(70_000)]),
        ),
        (cbor::int(-1), cbor::bytes(&[7; 30])),
    ]);
    let bundle = AttestationBundle::of_statement(&service_statement());
    let tree = Hss::new("fuzz");
    let signed = pieces(&[&tree.public(), b"message", &tree.sign(2, b"message")]);
    vec![
        ("attestation_der", "seed-values", mixed),
        ("attestation_der", "seed-certificate", h.ca()),
        ("attestation_cbor", "seed-values", every),
        ("attestation_cbor", "seed-webauthn", webauthn(&t)[0].clone()),
        ("attestation_certificate", "seed-ca", h.ca()),
        (
            "attestation_certificate",
            "seed-ak",
            t.ak_certificate().sign(&t.ca_key),
        ),
        (
            "attestation_certificate",
            "seed-version-1",
            Marvell::default()
                .card()
                .sign(&Marvell::default().maker_key),
        ),
        (
            "attestation_request",
            "seed-plain",
            request("Acme", &t.key, &[]),
        ),
        (
            "attestation_request",
            "seed-evidence",
            request("Acme", &t.key, &[attribute]),
        ),
        (
            "attestation_bundle",
            "seed-service",
            bundle.encode().unwrap(),
        ),
        ("attestation_bundle", "seed-two", two_statements(&t, &h)),
        ("attestation_hss", "seed-signed", signed.clone()),
        ("attestation_hss", "seed-cut", signed[..200].to_vec()),
        (
            "attestation_service_statement",
            "seed-full",
            service_statement(),
        ),
        (
            "attestation_service_statement",
            "seed-small",
            small_statement(),
        ),
    ]
}

fn two_statements(t: &Tpm2, h: &YubiHsm2) -> Vec<u8> {
    let statements = [
        der::seq(&[der::oid(TCG_STATEMENT), t.tcg_statement(true)]),
        der::seq(&[
            der::oid("1.3.6.1.4.1.41482.4"),
            h.leaf().sign(&h.device_key),
            der::utf8("a hint of an earlier draft"),
        ]),
    ];
    der::seq(&[der::seq(&statements), der::seq(&[h.device(), h.ca()])])
}

fn at(seconds: i64) -> UnixSeconds {
    UnixSeconds::new(seconds).unwrap()
}

fn statement_tbs() -> StatementTbs {
    let claim = |attribute: &str, seen: &str| AttributeClaim {
        attribute: attribute.into(),
        seen: seen.into(),
    };
    StatementTbs {
        signer_key_hash: [1; 32],
        service: "Countersign at sign.example".into(),
        tenant: [2; 16],
        subscriber: "acme".into(),
        audience: "ca.example".into(),
        order: Order {
            id: "order-ä-7".into(),
            nonce: (0..32).collect(),
        },
        issued_at: at(1_795_294_775),
        expires_at: at(1_795_381_175),
        csr_info_hash: [3; 32],
        key: KeyStatement {
            id: [4; 16],
            spki_hash: [5; 32],
            isolation: Isolation::SharedToken,
            mechanism: "CKM_EC_KEY_PAIR_GEN".into(),
            attributes: vec![claim("CKA_SENSITIVE", "true"), claim("CKA_LOCAL", "true")],
        },
        device: Device {
            software: true,
            manufacturer: "SoftHSM project".into(),
            model: "SoftHSM v2".into(),
            serial: "1f2e3d4c".into(),
            firmware: "2.6".into(),
        },
        log: LogAnchor {
            origin: "localhost:8443/log/0190".into(),
            verifier_key: "localhost:8443/log/0190+00c0ffee+AQID".into(),
            size: 1_000_000,
            root: [6; 32],
        },
        practice_statement_hash: Some([7; 32]),
        audit: Some(Audit {
            scheme: "WebTrust CS BR".into(),
            from: at(1_700_000_000),
            to: at(1_731_000_000),
        }),
    }
}

/// A signature of the right shape, by nobody.
fn assembled(tbs: &StatementTbs) -> Vec<u8> {
    let signature = Key::named(Kind::P256, "statement").sign(
        countersign_testkit_evidence::keys::Scheme::Ecdsa,
        &tbs.encode().unwrap(),
    );
    tbs.assemble(&signature).unwrap()
}

fn service_statement() -> Vec<u8> {
    assembled(&statement_tbs())
}

fn small_statement() -> Vec<u8> {
    assembled(&StatementTbs {
        practice_statement_hash: None,
        audit: None,
        ..statement_tbs()
    })
}

fn devices() -> Vec<Seed> {
    let marvell = Marvell::default();
    let smart_key = Securosys {
        more: "\t<policy><rule_use><token name=\"t\"><group name=\"g\"><quorum>1</quorum></group></token></rule_use></policy>\n".into(),
        ..Securosys::default()
    };
    let (piv, hsm) = (YubiKeyPiv::default().files(), YubiHsm2::default().files());
    let (luna, ecc) = (ThalesLuna::rsa(), ThalesLuna::ecc());
    let google = marvell.google_json("CAVIUM_V2_COMPRESSED", &marvell.name);
    let both = Crypto4A {
        hash_based: true,
        ..Crypto4A::default()
    };
    let by_key_id = Pkix {
        sid: countersign_testkit_evidence::pkix::Sid::Spki,
        ..Pkix::default()
    };
    let one = |target, name, bytes: &[u8]| (target, name, bytes.to_vec());
    vec![
        one("attestation_yubikey_piv", "seed-slot", &piv[0]),
        one("attestation_yubikey_piv", "seed-f9", &piv[1]),
        one("attestation_yubihsm2", "seed-attestation", &hsm[0]),
        one("attestation_yubihsm2", "seed-device", &hsm[1]),
        one("attestation_thales_luna", "seed-rsa", &luna.signed(0)),
        one("attestation_thales_luna", "seed-ecc", &ecc.signed(0)),
        one("attestation_thales_luna", "seed-device", &luna.signed(1)),
        one("attestation_marvell_blob", "seed-pair", &marvell.blob()),
        one(
            "attestation_marvell_blob",
            "seed-one",
            &marvell.blob_of(&[&marvell.private]),
        ),
        one("attestation_marvell_blob", "seed-v1", &marvell.blob_v1()),
        one(
            "attestation_marvell_wrapping",
            "seed-azure",
            &marvell.azure_json(),
        ),
        one("attestation_marvell_wrapping", "seed-google", &google),
        one(
            "attestation_securosys_statement",
            "seed-plain",
            &Securosys::default().xml(),
        ),
        one(
            "attestation_securosys_statement",
            "seed-policy",
            &smart_key.xml(),
        ),
        one(
            "attestation_pkix",
            "seed-certificate",
            &Pkix::default().encode(),
        ),
        one("attestation_pkix", "seed-spki", &by_key_id.encode()),
        one(
            "attestation_fortanix",
            "seed-rsa",
            &Fortanix::default().json(),
        ),
        one(
            "attestation_fortanix",
            "seed-bare",
            &Fortanix {
                usage: None,
                claims: Vec::new(),
                ..Fortanix::default()
            }
            .json(),
        ),
        one(
            "attestation_crypto4a",
            "seed-ecdsa",
            &Crypto4A::default().message(),
        ),
        one("attestation_crypto4a", "seed-both", &both.message()),
    ]
}

/// A WebAuthn object and its client data.
fn webauthn(t: &Tpm2) -> [Vec<u8>; 2] {
    let client = Tpm2::client_data("webauthn.create", b"challenge");
    let object = t.webauthn(Some(&t.auth_data(&t.key)), &client).encode();
    [object, client]
}

fn tpm2() -> Vec<Seed> {
    let t = Tpm2::default();
    let rsa = Tpm2 {
        key: Key::named(Kind::Rsa2048, "fuzz tpm2"),
        ak: Key::named(Kind::Rsa2048, "fuzz ak"),
        tag: 0x801a,
        ..Tpm2::default()
    };
    let (attest, created) = (t.attest(), rsa.attest());
    let sized = countersign_testkit_evidence::tpm2::sized;
    let acme = t.webauthn(None, b"").encode();
    vec![
        ("attestation_tpm2_attest", "seed-certify", attest.clone()),
        ("attestation_tpm2_attest", "seed-creation", sized(&created)),
        ("attestation_tpm2_public", "seed-ecc", t.public()),
        (
            "attestation_tpm2_public",
            "seed-rsa-ak",
            sized(&rsa.ak_public()),
        ),
        ("attestation_tpm2_creation", "seed-plain", t.creation_data()),
        (
            "attestation_tpm2_creation",
            "seed-sized",
            sized(&t.creation_data()),
        ),
        (
            "attestation_tpm2_signature",
            "seed-ecdsa",
            t.signature(&attest),
        ),
        (
            "attestation_tpm2_signature",
            "seed-pss",
            rsa.pss_signature(&created),
        ),
        (
            "attestation_tpm2_container",
            "seed-webauthn",
            webauthn(&t)[0].clone(),
        ),
        ("attestation_tpm2_container", "seed-acme", acme),
        (
            "attestation_tpm2_container",
            "seed-tcg",
            t.tcg_statement(false),
        ),
    ]
}

fn nshield() -> Vec<Seed> {
    let (dsa, ecdsa) = (World::dsa(), World::ecdsa());
    let mut fips = Spec::new(Key::named(Kind::Rsa2048, "fuzz nshield"));
    (fips.fips_world, fips.recovery) = (true, true);
    let spec = Spec::new(Key::named(Kind::P256, "fuzz nshield"));
    let bundle = |s: &Spec, w: &World| s.bundle(w).json();
    vec![
        (
            "attestation_nshield_bundle",
            "seed-dsa",
            bundle(&spec, &dsa),
        ),
        (
            "attestation_nshield_bundle",
            "seed-fips",
            bundle(&fips, &ecdsa),
        ),
        (
            "attestation_nshield_warrant",
            "seed-two",
            spec.warrant(&dsa),
        ),
        (
            "attestation_nshield_warrant",
            "seed-three",
            Spec {
                delegated_by_module: true,
                ..spec.clone()
            }
            .warrant(&dsa),
        ),
        (
            "attestation_nshield_messages",
            "seed-generation",
            spec.generation(),
        ),
        (
            "attestation_nshield_messages",
            "seed-rsa",
            fips.generation(),
        ),
        (
            "attestation_nshield_messages",
            "seed-state",
            spec.state(&dsa),
        ),
        (
            "attestation_nshield_messages",
            "seed-state-ecdsa",
            spec.state(&ecdsa),
        ),
    ]
}

/// A question to the verifier: how, subject, anchor, evidence.
fn question(how: u8, subject: &[u8], anchor: &[u8], evidence: &[Vec<u8>]) -> Vec<u8> {
    let mut all = vec![subject, anchor];
    all.extend(evidence.iter().map(Vec::as_slice));
    [vec![how], pieces(&all)].concat()
}

/// Trusts the anchor.
const TRUST: u8 = 2;
/// The subject is a request.
const REQUEST: u8 = 1;

fn whole() -> Vec<Seed> {
    let h = YubiHsm2::default();
    let p = YubiKeyPiv::default();
    let s = Securosys::default();
    let l = ThalesLuna::ecc();
    let m = Marvell::default();
    let t = Tpm2::default();
    let e = Pkix::default();
    let f = Fortanix::default();
    let c = Crypto4A::default();
    let world = World::ecdsa();
    let n = Spec::new(Key::named(Kind::P256, "fuzz nshield"));
    let statement = (TCG_STATEMENT, t.tcg_statement(false));
    let attribute = attestation_attribute(&[statement], &t.certificates());
    let csr = request("Acme", &t.key, &[attribute]);
    let mut questions = vec![
        ("seed-csr", question(TRUST | REQUEST, &csr, &t.root(), &[])),
        (
            "seed-webauthn",
            question(TRUST, t.key.spki(), &t.root(), &webauthn(&t)),
        ),
        (
            "seed-nshield",
            question(
                TRUST,
                n.key.spki(),
                world.root.spki(),
                &[n.bundle(&world).json()],
            ),
        ),
    ];
    for (name, key, root, files) in [
        ("seed-yubihsm2", &h.key, h.root(), h.files()),
        ("seed-piv", &p.key, p.root(), p.files()),
        ("seed-securosys", &s.key, s.root(), s.files()),
        ("seed-luna", &l.key, l.root(), vec![l.pkc()]),
        ("seed-marvell", &m.key, m.maker(), m.files()),
        ("seed-tpm2", &t.key, t.root(), t.files()),
        ("seed-pkix", &e.key, e.root(), vec![e.encode()]),
        ("seed-fortanix", &f.key, f.root(), vec![f.json()]),
        ("seed-crypto4a", &c.key, c.root(), vec![c.message()]),
    ] {
        questions.push((name, question(TRUST, key.spki(), &root, &files)));
    }
    let mut out: Vec<Seed> = questions
        .into_iter()
        .map(|(name, bytes)| ("attestation_verify", name, bytes))
        .collect();
    let text: String = h.files().iter().map(|c| pem("CERTIFICATE", c)).collect();
    let armoured = [
        text.into_bytes(),
        gzip(base64(&e.encode()).as_bytes()),
        certs_only(&p.files()),
        csr,
    ];
    let loose: Vec<&[u8]> = armoured.iter().map(Vec::as_slice).collect();
    out.push(("attestation_inspect", "seed-armour", pieces(&loose)));
    let vendors = [
        s.xml(),
        f.json(),
        m.google_json("CAVIUM_V2_COMPRESSED", &m.name),
        webauthn(&t)[0].clone(),
    ];
    let loose: Vec<&[u8]> = vendors.iter().map(Vec::as_slice).collect();
    out.push(("attestation_inspect", "seed-vendors", pieces(&loose)));
    out
}
