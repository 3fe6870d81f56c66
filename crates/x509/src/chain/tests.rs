use super::*;
use crate::asn1;
use crate::build::{Profile, extension};
use crate::name::ca_name;
use crate::testutil::{
    NOW, Pki, TestKey, ca_builder, days, issue, issue_with, key, leaf_builder, openssl,
    root_builder, try_openssl, write,
};
use countersign_core::KeyAlgorithm;

fn pki(purpose: Purpose) -> Pki {
    Pki::new(key(KeyAlgorithm::Rsa3072), purpose)
}

fn verify(p: &Pki, at: Micros) -> Result<VerifiedChain, ChainError> {
    let cas = [p.ca.clone()];
    verify_chain(
        &p.leaf,
        &cas,
        std::slice::from_ref(&p.root),
        at,
        Purpose::CodeSigning,
    )
}

#[test]
fn a_good_path_is_found_whatever_lies_beside_it() {
    for purpose in [Purpose::CodeSigning, Purpose::TimeStamping] {
        let p = pki(purpose);
        let other = pki(purpose);
        // Same names, other keys: the search must try both.
        let cas = [other.ca, p.root.clone(), p.leaf.clone(), p.ca.clone()];
        let roots = [other.root, p.root.clone()];
        let chain = verify_chain(&p.leaf, &cas, &roots, NOW, purpose).unwrap();
        assert_eq!(chain.certs, [p.leaf.clone(), p.ca.clone(), p.root.clone()]);

        let dir = tempfile::tempdir().unwrap();
        write(dir.path(), "leaf.pem", p.leaf.to_pem());
        write(dir.path(), "ca.pem", p.ca.to_pem());
        write(dir.path(), "root.pem", p.root.to_pem());
        let name = match purpose {
            Purpose::CodeSigning => "any",
            Purpose::TimeStamping => "timestampsign",
        };
        let text = openssl(
            dir.path(),
            &format!(
                "verify -x509_strict -check_ss_sig -purpose {name} -attime {} -CAfile root.pem \
                 -untrusted ca.pem leaf.pem",
                NOW.seconds()
            ),
        );
        assert!(text.contains("leaf.pem: OK"), "{text}");
    }
}

#[test]
fn missing_and_foreign_issuers_are_named() {
    let p = pki(Purpose::CodeSigning);
    let roots = [p.root.clone()];
    assert_eq!(
        verify_chain(&p.leaf, &[], &roots, NOW, Purpose::CodeSigning),
        Err(ChainError::NoPath {
            subject: p.leaf.subject_text(),
            issuer: p.ca.subject_text()
        })
    );
    let cas = [p.ca.clone()];
    assert_eq!(
        verify_chain(&p.leaf, &cas, &[], NOW, Purpose::CodeSigning),
        Err(ChainError::NoPath {
            subject: p.ca.subject_text(),
            issuer: p.root.subject_text()
        })
    );
    // A root of the same name with another key.
    let other = [pki(Purpose::CodeSigning).root];
    assert_eq!(
        verify_chain(&p.leaf, &cas, &other, NOW, Purpose::CodeSigning),
        Err(ChainError::Signature {
            subject: p.ca.subject_text(),
            reason: VerifyError::Invalid
        })
    );
}

#[test]
fn every_certificate_must_be_valid_at_the_time() {
    let p = pki(Purpose::CodeSigning);
    let leaf = p.leaf.subject_text();
    assert_eq!(
        verify(&p, days(-2)),
        Err(ChainError::NotYetValid {
            subject: leaf.clone()
        })
    );
    assert_eq!(
        verify(&p, days(460)),
        Err(ChainError::Expired { subject: leaf })
    );
    let mut b = ca_builder(&p.root, &p.ca_key, Purpose::CodeSigning, "Issuing CA");
    b.not_after = days(-10);
    let expired = [issue(&b, &p.root_key)];
    assert_eq!(
        verify_chain(&p.leaf, &expired, &[p.root], NOW, Purpose::CodeSigning),
        Err(ChainError::Expired {
            subject: p.ca.subject_text()
        })
    );
}

#[test]
fn purposes_do_not_mix() {
    let leaf_of = |p: &Pki| ChainError::ExtendedKeyUsage {
        subject: p.leaf.subject_text(),
    };
    for (made_for, asked) in [
        (Purpose::CodeSigning, Purpose::TimeStamping),
        (Purpose::TimeStamping, Purpose::CodeSigning),
    ] {
        let p = pki(made_for);
        let cas = [p.ca.clone()];
        let roots = [p.root.clone()];
        assert_eq!(
            verify_chain(&p.leaf, &cas, &roots, NOW, asked),
            Err(leaf_of(&p))
        );
    }
    // A code-signing leaf under a CA that may issue for timestamping only.
    let p = pki(Purpose::TimeStamping);
    let leaf = issue(
        &leaf_builder(&p.ca, key(KeyAlgorithm::EcP256), Purpose::CodeSigning),
        &p.ca_key,
    );
    assert_eq!(
        verify_chain(
            &leaf,
            std::slice::from_ref(&p.ca),
            &[p.root],
            NOW,
            Purpose::CodeSigning
        ),
        Err(ChainError::ExtendedKeyUsage {
            subject: p.ca.subject_text()
        })
    );
}

#[test]
fn a_timestamp_leaf_needs_its_usage_critical_and_alone() {
    let p = pki(Purpose::TimeStamping);
    let b = leaf_builder(&p.ca, key(KeyAlgorithm::EcP256), Purpose::TimeStamping);
    for (critical, usages) in [
        (false, vec![oid::TIME_STAMPING]),
        (true, vec![oid::TIME_STAMPING, oid::CODE_SIGNING]),
        (true, vec![oid::ANY_EXTENDED_KEY_USAGE]),
    ] {
        let list: Vec<u8> = usages.iter().flat_map(asn1::oid).collect();
        let eku = extension(
            &oid::EXTENDED_KEY_USAGE,
            critical,
            &asn1::sequence(&[&list]),
        );
        let leaf = issue_with(&b, &[eku], &p.ca_key);
        assert_eq!(
            verify_chain(
                &leaf,
                std::slice::from_ref(&p.ca),
                std::slice::from_ref(&p.root),
                NOW,
                Purpose::TimeStamping
            ),
            Err(ChainError::ExtendedKeyUsage {
                subject: leaf.subject_text()
            })
        );
    }
}

#[test]
fn a_subscriber_cannot_issue() {
    let p = pki(Purpose::CodeSigning);
    let evil_key = TestKey::new(KeyAlgorithm::EcP256);
    let middle = issue(
        &leaf_builder(&p.ca, &evil_key, Purpose::CodeSigning),
        &p.ca_key,
    );
    let leaf = issue(
        &leaf_builder(&middle, key(KeyAlgorithm::EcP256), Purpose::CodeSigning),
        &evil_key,
    );
    assert_eq!(
        verify_chain(
            &leaf,
            &[middle.clone(), p.ca],
            &[p.root],
            NOW,
            Purpose::CodeSigning
        ),
        Err(ChainError::NotCa {
            subject: middle.subject_text()
        })
    );
}

#[test]
fn a_ca_without_cert_sign_cannot_issue() {
    let p = pki(Purpose::CodeSigning);
    let b = ca_builder(&p.root, &p.ca_key, Purpose::CodeSigning, "Issuing CA");
    let constraints = extension(
        &oid::BASIC_CONSTRAINTS,
        true,
        &asn1::sequence(&[&asn1::boolean_true()]),
    );
    let crl_only = extension(&oid::KEY_USAGE, true, &[3, 2, 1, 0b0000_0010]);
    for extensions in [vec![constraints.clone()], vec![constraints, crl_only]] {
        let ca = issue_with(&b, &extensions, &p.root_key);
        assert_eq!(
            verify_chain(
                &p.leaf,
                &[ca],
                std::slice::from_ref(&p.root),
                NOW,
                Purpose::CodeSigning
            ),
            Err(ChainError::KeyUsage {
                subject: p.ca.subject_text()
            })
        );
    }
}

#[test]
fn path_length_holds() {
    let p = pki(Purpose::CodeSigning);
    // The issuing CA has pathLen 0 and issues a second CA all the same.
    let second_key = TestKey::new(KeyAlgorithm::EcP256);
    let second = issue(
        &ca_builder(&p.ca, &second_key, Purpose::CodeSigning, "Second CA"),
        &p.ca_key,
    );
    let leaf = issue(
        &leaf_builder(&second, key(KeyAlgorithm::EcP256), Purpose::CodeSigning),
        &second_key,
    );
    assert_eq!(
        verify_chain(
            &leaf,
            &[second.clone(), p.ca.clone()],
            std::slice::from_ref(&p.root),
            NOW,
            Purpose::CodeSigning
        ),
        Err(ChainError::PathLength {
            subject: p.ca.subject_text()
        })
    );
    // With pathLen 1 it may.
    let mut b = ca_builder(&p.root, &p.ca_key, Purpose::CodeSigning, "Issuing CA");
    b.profile = Profile::Intermediate {
        purpose: Purpose::CodeSigning,
        path_len: 1,
    };
    let wider = issue(&b, &p.root_key);
    let chain = verify_chain(
        &leaf,
        &[second, wider],
        &[p.root],
        NOW,
        Purpose::CodeSigning,
    );
    assert_eq!(chain.unwrap().certs.len(), 4);
}

#[test]
fn unknown_critical_extensions_refuse_wherever_they_stand() {
    let p = pki(Purpose::CodeSigning);
    let unknown = asn1::ObjectIdentifier::new_unwrap("2.5.29.30"); // nameConstraints
    let leaf_builder = leaf_builder(&p.ca, key(KeyAlgorithm::EcP256), Purpose::CodeSigning);
    let ca_builder = ca_builder(&p.root, &p.ca_key, Purpose::CodeSigning, "Issuing CA");
    for critical in [true, false] {
        let e = extension(&unknown, critical, &asn1::sequence(&[]));
        let mut extensions = leaf_builder.extensions().unwrap();
        extensions.push(e.clone());
        let leaf = issue_with(&leaf_builder, &extensions, &p.ca_key);
        let mut extensions = ca_builder.extensions().unwrap();
        extensions.push(e);
        let ca = issue_with(&ca_builder, &extensions, &p.root_key);
        for (leaf, ca, bad) in [(&leaf, &p.ca, &leaf), (&p.leaf, &ca, &ca)] {
            let result = verify_chain(
                leaf,
                std::slice::from_ref(ca),
                std::slice::from_ref(&p.root),
                NOW,
                Purpose::CodeSigning,
            );
            if critical {
                assert_eq!(
                    result,
                    Err(ChainError::UnknownCriticalExtension {
                        subject: bad.subject_text(),
                        extension: unknown
                    })
                );
            } else {
                assert!(result.is_ok());
            }
        }
    }
}

#[test]
fn long_paths_loops_and_large_bundles_end() {
    let root_key = TestKey::new(KeyAlgorithm::EcP384);
    let root = issue(&root_builder(&root_key), &root_key);
    let ca_key = TestKey::new(KeyAlgorithm::EcP256);
    let mut cas = Vec::new();
    let mut issuer = root.clone();
    for i in 0..6 {
        let mut b = ca_builder(&issuer, &ca_key, Purpose::CodeSigning, &format!("CA {i}"));
        b.profile = Profile::Intermediate {
            purpose: Purpose::CodeSigning,
            path_len: 9,
        };
        issuer = issue(&b, if i == 0 { &root_key } else { &ca_key });
        cas.push(issuer.clone());
    }
    let leaf_under = |ca: &Certificate| {
        issue(
            &leaf_builder(ca, key(KeyAlgorithm::EcP256), Purpose::CodeSigning),
            &ca_key,
        )
    };
    let roots = [root];
    // Leaf, four intermediates, root is the longest.
    let ok = verify_chain(
        &leaf_under(&cas[3]),
        &cas,
        &roots,
        NOW,
        Purpose::CodeSigning,
    );
    assert_eq!(ok.unwrap().certs.len(), MAX_DEPTH);
    let long = verify_chain(
        &leaf_under(&cas[4]),
        &cas,
        &roots,
        NOW,
        Purpose::CodeSigning,
    );
    assert_eq!(long, Err(ChainError::TooDeep));

    // CAs that all bear one name and one key, each an issuer of each: no root among them.
    let mut b = ca_builder(&cas[0], &ca_key, Purpose::CodeSigning, "Loop");
    b.issuer = ca_name("DE", "Test Trust", "Loop").unwrap();
    let loops: Vec<_> = (0..16u8)
        .map(|i| {
            b.serial = vec![1, i];
            issue(&b, &ca_key)
        })
        .collect();
    let leaf = leaf_under(&loops[0]);
    let result = verify_chain(&leaf, &loops, &roots, NOW, Purpose::CodeSigning);
    assert!(
        matches!(
            result,
            Err(ChainError::TooDeep
                | ChainError::TooManyCandidates
                | ChainError::PathLength { .. })
        ),
        "{result:?}"
    );
    let many = vec![cas[0].clone(); 17];
    assert_eq!(
        verify_chain(&leaf, &many, &roots, NOW, Purpose::CodeSigning),
        Err(ChainError::TooManyCertificates { given: 17, max: 16 })
    );
}

#[test]
fn openssl_refuses_what_we_refuse() {
    // The broken paths above that openssl can judge too, so that our rules are not ours alone.
    let p = pki(Purpose::CodeSigning);
    let evil_key = TestKey::new(KeyAlgorithm::EcP256);
    let middle = issue(
        &leaf_builder(&p.ca, &evil_key, Purpose::CodeSigning),
        &p.ca_key,
    );
    let leaf = issue(
        &leaf_builder(&middle, key(KeyAlgorithm::EcP256), Purpose::CodeSigning),
        &evil_key,
    );
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), "leaf.pem", leaf.to_pem());
    write(dir.path(), "cas.pem", middle.to_pem() + &p.ca.to_pem());
    write(dir.path(), "root.pem", p.root.to_pem());
    let (ok, text) = try_openssl(
        dir.path(),
        &format!(
            "verify -attime {} -CAfile root.pem -untrusted cas.pem leaf.pem",
            NOW.seconds()
        ),
    );
    assert!(!ok && text.contains("invalid CA certificate"), "{text}");
}
