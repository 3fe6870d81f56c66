use super::*;
use crate::testutil::{KEYS, key, openssl, read, write};
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _};
use proptest::prelude::*;

fn openssl_spki(options: &str) -> Vec<u8> {
    let dir = tempfile::tempdir().unwrap();
    openssl(dir.path(), &format!("genpkey {options} -out key.pem"));
    openssl(
        dir.path(),
        "pkey -in key.pem -pubout -outform DER -out pub.der",
    );
    read(dir.path(), "pub.der")
}

#[test]
fn openssl_and_we_encode_the_same_key_the_same_way() {
    for (options, algorithm) in [
        (
            "-algorithm EC -pkeyopt ec_paramgen_curve:P-256",
            KeyAlgorithm::EcP256,
        ),
        (
            "-algorithm EC -pkeyopt ec_paramgen_curve:P-384",
            KeyAlgorithm::EcP384,
        ),
        (
            "-algorithm RSA -pkeyopt rsa_keygen_bits:3072",
            KeyAlgorithm::Rsa3072,
        ),
        (
            "-algorithm RSA -pkeyopt rsa_keygen_bits:4096",
            KeyAlgorithm::Rsa4096,
        ),
    ] {
        let spki = openssl_spki(options);
        let k = PublicKey::from_spki_der(&spki).unwrap();
        assert_eq!(k.algorithm(), algorithm);
        assert_eq!(k.spki_der(), spki);
        let again = match k.parts() {
            // PKCS#11 big integers may carry leading zeros.
            Parts::Rsa { n, e } => PublicKey::from_rsa_parts(&[&[0, 0], n.as_slice()].concat(), e),
            Parts::Ec(p) => PublicKey::from_ec_point(algorithm, p),
        };
        assert_eq!(again.unwrap(), k);
    }
}

#[test]
fn an_ec_point_may_be_raw_or_wrapped() {
    for algorithm in [KeyAlgorithm::EcP256, KeyAlgorithm::EcP384] {
        let k = &key(algorithm).public;
        let Parts::Ec(point) = k.parts() else {
            unreachable!()
        };
        let wrapped = asn1::octet_string(point);
        assert_eq!(
            PublicKey::from_ec_point(algorithm, &wrapped).as_ref(),
            Ok(k)
        );
        let trailing = [wrapped.as_slice(), &[0]].concat();
        assert_eq!(
            PublicKey::from_ec_point(algorithm, &trailing),
            Err(KeyError::PointNotOnCurve(algorithm))
        );
    }
    assert_eq!(
        PublicKey::from_ec_point(KeyAlgorithm::Rsa3072, &[4; 65]),
        Err(KeyError::NotEc(KeyAlgorithm::Rsa3072))
    );
}

#[test]
fn keys_of_other_kinds_and_sizes_are_refused_by_name() {
    assert_eq!(
        PublicKey::from_spki_der(&openssl_spki(
            "-algorithm RSA -pkeyopt rsa_keygen_bits:2048"
        )),
        Err(KeyError::ModulusSize { bits: 2048 })
    );
    assert_eq!(
        PublicKey::from_spki_der(&openssl_spki(
            "-algorithm EC -pkeyopt ec_paramgen_curve:P-521"
        )),
        Err(KeyError::UnknownCurve(oid::P521))
    );
    assert_eq!(
        PublicKey::from_spki_der(&openssl_spki(
            "-algorithm EC -pkeyopt ec_paramgen_curve:secp256k1"
        )),
        Err(KeyError::UnknownCurve(ObjectIdentifier::new_unwrap(
            "1.3.132.0.10"
        )))
    );
    assert_eq!(
        PublicKey::from_spki_der(&openssl_spki("-algorithm ED25519")),
        Err(KeyError::UnknownAlgorithm(ObjectIdentifier::new_unwrap(
            "1.3.101.112"
        )))
    );
}

#[test]
fn points_off_the_curve_and_second_encodings_are_refused() {
    let spki = key(KeyAlgorithm::EcP256).public.spki_der();
    let off = Err(KeyError::PointNotOnCurve(KeyAlgorithm::EcP256));

    let mut moved = spki.to_vec();
    *moved.last_mut().unwrap() ^= 1;
    assert_eq!(PublicKey::from_spki_der(&moved), off);

    // SEC 1 §2.3.4 hybrid forms name the same point once more.
    let Parts::Ec(point) = key(KeyAlgorithm::EcP256).public.parts() else {
        unreachable!()
    };
    for tag in [6, 7] {
        let mut hybrid = point.clone();
        hybrid[0] = tag;
        assert_eq!(PublicKey::from_ec_point(KeyAlgorithm::EcP256, &hybrid), off);
    }

    let zero = [&[4u8][..], &[0; 64]].concat();
    assert_eq!(PublicKey::from_ec_point(KeyAlgorithm::EcP256, &zero), off);
    // x = p: outside the field.
    let p =
        hex::decode("ffffffff00000001000000000000000000000000ffffffffffffffffffffffff").unwrap();
    let outside = [&[4u8][..], &p, &[1; 32]].concat();
    assert_eq!(
        PublicKey::from_ec_point(KeyAlgorithm::EcP256, &outside),
        off
    );
    assert_eq!(PublicKey::from_ec_point(KeyAlgorithm::EcP256, &[0]), off);

    let compressed = openssl_spki(
        "-algorithm EC -pkeyopt ec_paramgen_curve:P-256 -pkeyopt ec_param_enc:named_curve",
    );
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), "pub.der", compressed);
    openssl(
        dir.path(),
        "ec -pubin -inform DER -in pub.der -conv_form compressed -outform DER -out small.der",
    );
    assert_eq!(
        PublicKey::from_spki_der(&read(dir.path(), "small.der")),
        off
    );

    let trailing = [spki, &[0]].concat();
    assert_eq!(
        PublicKey::from_spki_der(&trailing),
        Err(KeyError::Asn1(Asn1Error::new(
            "subjectPublicKeyInfo",
            Problem::TrailingBytes
        )))
    );
}

#[test]
fn rsa_numbers_are_checked() {
    let Parts::Rsa { n, e } = key(KeyAlgorithm::Rsa3072).public.parts() else {
        unreachable!()
    };
    let mut even = n.clone();
    *even.last_mut().unwrap() &= 0xfe;
    assert_eq!(
        PublicKey::from_rsa_parts(&even, e),
        Err(KeyError::ModulusEven)
    );
    let mut small = n.clone();
    small[0] = 0x7f;
    assert_eq!(
        PublicKey::from_rsa_parts(&small, e),
        Err(KeyError::ModulusSize { bits: 3071 })
    );
    for bad in [&[][..], &[0], &[1], &[2], &[1, 0, 0], &[1; 33]] {
        assert_eq!(PublicKey::from_rsa_parts(n, bad), Err(KeyError::Exponent));
    }
    // 2^33−1 is the largest that anybody verifies with.
    let largest = [1, 0xff, 0xff, 0xff, 0xff];
    assert!(PublicKey::from_rsa_parts(n, &[&[0; 9], &largest[..]].concat()).is_ok());
    for above in [&[2, 0, 0, 0, 1][..], &[1, 0, 0, 0, 0, 0, 0, 0, 1]] {
        assert_eq!(PublicKey::from_rsa_parts(n, above), Err(KeyError::Exponent));
    }
    // rsaEncryption without its NULL is a second encoding of the same key.
    let no_null = asn1::sequence(&[
        &asn1::sequence(&[&asn1::oid(&oid::RSA_ENCRYPTION)]),
        &asn1::bit_string(&rsa_public_key(n, e)),
    ]);
    assert_eq!(
        PublicKey::from_spki_der(&no_null),
        Err(KeyError::Asn1(Asn1Error::new(
            "rsaEncryption parameters",
            Problem::Truncated
        )))
    );
}

#[test]
fn signatures_verify_with_the_right_key_scheme_and_digest_only() {
    for k in KEYS.iter() {
        let signature = k.sign(b"release");
        let hash = k.scheme().hash();
        let d = hash::digest(hash, b"release");
        assert_eq!(k.public.verify_digest(k.scheme(), &d, &signature), Ok(()));
        assert_eq!(
            k.public.verify_message(k.scheme(), b"release", &signature),
            Ok(())
        );

        let other = hash::digest(hash, b"Release");
        assert_eq!(
            k.public.verify_digest(k.scheme(), &other, &signature),
            Err(SignatureInvalid)
        );
        for h in HashAlgorithm::ALL {
            for s in [SignatureScheme::RsaPkcs1(h), SignatureScheme::Ecdsa(h)] {
                if s != k.scheme() {
                    assert_eq!(
                        k.public.verify_digest(s, &d, &signature),
                        Err(SignatureInvalid)
                    );
                }
            }
        }
        for at in [0, signature.len() / 2, signature.len() - 1] {
            let mut bad = signature.clone();
            bad[at] ^= 1;
            assert_eq!(
                k.public.verify_digest(k.scheme(), &d, &bad),
                Err(SignatureInvalid)
            );
        }
        for other in KEYS.iter().filter(|o| o.public != k.public) {
            assert_eq!(
                other.public.verify_digest(k.scheme(), &d, &signature),
                Err(SignatureInvalid)
            );
        }
    }
}

#[test]
fn every_hash_works_with_every_key() {
    // openssl as the signer: our test keys use their natural hash only.
    for (gen_options, hashes) in [
        (
            "-algorithm EC -pkeyopt ec_paramgen_curve:P-256",
            HashAlgorithm::ALL,
        ),
        (
            "-algorithm EC -pkeyopt ec_paramgen_curve:P-384",
            HashAlgorithm::ALL,
        ),
        (
            "-algorithm RSA -pkeyopt rsa_keygen_bits:3072",
            HashAlgorithm::ALL,
        ),
    ] {
        let dir = tempfile::tempdir().unwrap();
        let d = dir.path();
        write(d, "message", "release");
        openssl(d, &format!("genpkey {gen_options} -out key.pem"));
        openssl(d, "pkey -in key.pem -pubout -outform DER -out pub.der");
        let k = PublicKey::from_spki_der(&read(d, "pub.der")).unwrap();
        for h in hashes {
            let name = h.as_str().replace("sha-", "sha");
            openssl(
                d,
                &format!("dgst -{name} -sign key.pem -out signature message"),
            );
            let scheme = k.algorithm().scheme(h);
            let digest = hash::digest(h, b"release");
            assert_eq!(
                k.verify_digest(scheme, &digest, &read(d, "signature")),
                Ok(())
            );
        }
    }
}

#[test]
fn raw_ecdsa_signatures_become_der() {
    let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap();
    let k = PublicKey::from_ec_point(KeyAlgorithm::EcP256, pair.public_key().as_ref()).unwrap();
    let scheme = SignatureScheme::Ecdsa(HashAlgorithm::Sha256);
    // Enough that r or s begins with a zero byte or a high bit now and then.
    for i in 0..300u32 {
        let message = i.to_be_bytes();
        let raw = pair
            .sign(&aws_lc_rs::rand::SystemRandom::new(), &message)
            .unwrap();
        let der = ecdsa_raw_to_der(raw.as_ref()).unwrap();
        assert_eq!(k.verify_message(scheme, &message, &der), Ok(()));
    }
    for bad in [&[][..], &[1; 63], &[0; 64], &[1; 134]] {
        assert_eq!(ecdsa_raw_to_der(bad), Err(SignatureInvalid));
    }
}

#[test]
fn key_identifier_is_openssls() {
    let dir = tempfile::tempdir().unwrap();
    let d = dir.path();
    openssl(
        d,
        "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout k -out c.pem \
         -subj /CN=x -days 1",
    );
    let text = String::from_utf8(read(d, "c.pem")).unwrap();
    let c = crate::Certificate::from_pem(&text).unwrap();
    let k = PublicKey::from_spki_der(c.spki_der()).unwrap();
    assert_eq!(
        c.known().subject_key_id.as_deref(),
        Some(&k.key_identifier()[..])
    );
}

#[test]
fn pem_is_readable_by_openssl() {
    let dir = tempfile::tempdir().unwrap();
    let k = &key(KeyAlgorithm::Rsa4096).public;
    write(dir.path(), "pub.pem", k.to_pem());
    let text = openssl(dir.path(), "pkey -pubin -in pub.pem -text -noout");
    assert!(text.contains("4096 bit"), "{text}");
}

proptest! {
    #[test]
    fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..600)) {
        let _ = PublicKey::from_spki_der(&bytes);
        let _ = AnyPublicKey::from_spki_der(&bytes);
        let _ = PublicKey::from_ec_point(KeyAlgorithm::EcP384, &bytes);
        let _ = PublicKey::from_rsa_parts(&bytes, &bytes);
        let _ = Mechanism::from_der(&bytes);
        let _ = ecdsa_raw_to_der(&bytes);
    }

    #[test]
    fn a_mutated_key_is_another_key_or_none(which in 0usize..4, at: prop::sample::Index, flip in 1u8..) {
        let spki = KEYS[which].public.spki_der();
        let mut mutated = spki.to_vec();
        mutated[at.index(spki.len())] ^= flip;
        if let Ok(k) = PublicKey::from_spki_der(&mutated) {
            prop_assert_eq!(k.spki_der(), &mutated[..]);
            prop_assert_ne!(k.spki_der(), spki);
        }
    }
}
