use super::*;
use crate::chain::Purpose;
use crate::testutil::{KEYS, NOW, Pki, days, key, openssl, read, write};
use countersign_core::KeyAlgorithm;
use proptest::prelude::*;

#[test]
fn openssl_reads_what_we_build_and_we_agree() {
    let dir = tempfile::tempdir().unwrap();
    for k in KEYS.iter() {
        let pki = Pki::new(k, Purpose::CodeSigning);
        write(dir.path(), "leaf.pem", pki.leaf.to_pem());
        let text = openssl(
            dir.path(),
            "x509 -in leaf.pem -noout -text -nameopt utf8,sname -fingerprint -sha256",
        );
        for expected in [
            "Subject: C=DE, L=Köln, O=Acme GmbH, CN=Acme GmbH",
            "Issuer: C=DE, O=Test Trust, CN=Issuing CA",
            "Not Before: Nov 20 00:00:00 2026 GMT",
            "Not After : Feb 22 23:59:59 2028 GMT",
            "X509v3 Key Usage: critical\n                Digital Signature\n",
            "X509v3 Extended Key Usage: \n                Code Signing\n",
            "Policy: 2.23.140.1.4.1",
            "URI:http://ca.test/ca.crl",
            "CA Issuers - URI:http://ca.test/ca.cer",
        ] {
            assert!(text.contains(expected), "{expected}\n{text}");
        }
        let fingerprint = hex::encode_upper(pki.leaf.sha256());
        assert!(text.replace(':', "").contains(&fingerprint));
        assert_eq!(pki.leaf.serial_hex(), "22".repeat(16));
        assert_eq!(pki.root.serial_hex(), "810203040506070809");
        assert_eq!(pki.leaf.spki_der(), k.public.spki_der());
        assert_eq!(
            pki.leaf.subject_text(),
            "CN=Acme GmbH,O=Acme GmbH,L=Köln,C=DE"
        );
        assert_eq!(pki.leaf.issuer_text(), "CN=Issuing CA,O=Test Trust,C=DE");
        assert_eq!(
            pki.leaf.known().authority_key_id,
            pki.ca.known().subject_key_id
        );
        assert_eq!(pki.leaf.verify_issued_by(&pki.ca), Ok(()));
        assert_eq!(
            pki.leaf.verify_issued_by(&pki.root),
            Err(VerifyError::Invalid)
        );
    }
}

#[test]
fn the_last_second_of_validity_counts_as_a_whole() {
    let leaf = Pki::new(key(KeyAlgorithm::EcP256), Purpose::CodeSigning).leaf;
    assert!(!leaf.is_valid_at(Micros(leaf.not_before().0 - 1)));
    assert!(leaf.is_valid_at(leaf.not_before()));
    assert!(leaf.is_valid_at(NOW));
    assert!(leaf.is_valid_at(Micros(leaf.not_after().0 + 999_999)));
    assert!(!leaf.is_valid_at(Micros(leaf.not_after().0 + 1_000_000)));
    assert_eq!(leaf.not_before(), days(-1));
}

#[test]
fn a_chain_in_pem_is_read_in_order() {
    let pki = Pki::new(key(KeyAlgorithm::EcP256), Purpose::CodeSigning);
    let text = format!(
        "leaf:\n{}\n{}{}",
        pki.leaf.to_pem(),
        pki.ca.to_pem(),
        pki.root.to_pem()
    );
    let chain = Certificate::chain_from_pem(&text).unwrap();
    assert_eq!(chain, [pki.leaf, pki.ca, pki.root]);
    assert_eq!(
        Certificate::chain_from_pem("nothing"),
        Err(CertError::Pem(pem::PemError::Missing("CERTIFICATE".into())))
    );
}

#[test]
fn other_algorithms_of_cas_verify() {
    let dir = tempfile::tempdir().unwrap();
    let d = dir.path();
    for options in [
        "-newkey rsa:2048 -sha256",
        "-newkey rsa:4096 -sha512",
        "-newkey rsa:2048 -sha256 -sigopt rsa_padding_mode:pss -sigopt rsa_pss_saltlen:digest",
        "-newkey rsa:3072 -sha384 -sigopt rsa_padding_mode:pss -sigopt rsa_pss_saltlen:digest",
        "-newkey ec -pkeyopt ec_paramgen_curve:P-521 -sha512",
        "-newkey ec -pkeyopt ec_paramgen_curve:P-384 -sha256",
    ] {
        openssl(
            d,
            &format!("req -x509 {options} -nodes -keyout k -outform DER -out c.der -subj /CN=x"),
        );
        let der = read(d, "c.der");
        let c = Certificate::from_der(&der).unwrap();
        assert_eq!(c.verify_issued_by(&c), Ok(()), "{options}");
        let mut bad = der.clone();
        *bad.last_mut().unwrap() ^= 1;
        let bad = Certificate::from_der(&bad).unwrap();
        assert_eq!(
            bad.verify_issued_by(&bad),
            Err(VerifyError::Invalid),
            "{options}"
        );
    }
    for (options, expected) in [
        (
            "-newkey rsa:2048 -sha1",
            VerifyError::UnknownAlgorithm(ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.5")),
        ),
        (
            "-newkey rsa:2048 -sha256 -sigopt rsa_padding_mode:pss -sigopt rsa_pss_saltlen:20",
            VerifyError::PssParameters,
        ),
        (
            "-newkey rsa:1024 -sha256",
            VerifyError::Key(crate::key::KeyError::ModulusSize { bits: 1024 }),
        ),
    ] {
        openssl(
            d,
            &format!("req -x509 {options} -nodes -keyout k -outform DER -out c.der -subj /CN=x"),
        );
        let c = Certificate::from_der(&read(d, "c.der")).unwrap();
        assert_eq!(c.verify_issued_by(&c), Err(expected), "{options}");
    }
}

#[test]
fn trailing_bytes_are_refused() {
    let leaf = Pki::new(key(KeyAlgorithm::EcP256), Purpose::CodeSigning).leaf;
    let trailing = [leaf.der(), &[0]].concat();
    assert_eq!(
        Certificate::from_der(&trailing),
        Err(CertError::Asn1(Asn1Error::new(
            "Certificate",
            Problem::TrailingBytes
        )))
    );
}

proptest! {
    #[test]
    fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        let _ = Certificate::from_der(&bytes);
        let _ = Certificate::chain_from_pem(&String::from_utf8_lossy(&bytes));
        let _ = name::to_text(&bytes);
        let _ = name::values(&bytes, &name::COMMON_NAME);
    }

    #[test]
    fn no_mutation_survives(at: prop::sample::Index, flip in 1u8..) {
        static PKI: std::sync::LazyLock<Pki> =
            std::sync::LazyLock::new(|| Pki::new(key(KeyAlgorithm::EcP256), Purpose::CodeSigning));
        let mut der = PKI.leaf.der().to_vec();
        let i = at.index(der.len());
        der[i] ^= flip;
        if let Ok(c) = Certificate::from_der(&der) {
            prop_assert!(c.verify_issued_by(&PKI.ca).is_err());
        }
    }
}
