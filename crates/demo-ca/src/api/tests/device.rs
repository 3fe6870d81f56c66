//! The device steps: who gets a challenge, what answers it, and what that earns.

use super::tpm::{Device, request, step, strict};
use super::*;
use countersign_testkit_evidence::cert::{cn, root};
use countersign_testkit_evidence::endorsement::Endorsement;
use countersign_testkit_evidence::tpm2::Tpm2;
use countersign_testkit_evidence::{Key, Kind};

#[tokio::test]
async fn each_kind_of_endorsement_key_is_challenged_and_openssl_reads_the_certificate() {
    let scene = strict();
    let ca = scene.ca();
    for kind in [Kind::Rsa2048, Kind::P256, Kind::P384] {
        let device = Device::with(kind);
        let order = open(&ca).await;
        let chain = device.certified(&ca, &order).await;
        assert_eq!(chain.len(), 2);
        let pem = |der: &[u8]| Certificate::from_der(der).unwrap().to_pem();
        let file = |name: &str, text: String| {
            let path = scene.dir.path().join(name);
            std::fs::write(&path, text).unwrap();
            path.to_string_lossy().into_owned()
        };
        let (ak, issuer) = (
            file("ak.pem", pem(&chain[0])),
            file("ak-ca.pem", pem(&chain[1])),
        );
        let verdict = openssl(&[
            "verify",
            "-x509_strict",
            "-attime",
            &START.to_string(),
            "-CAfile",
            &issuer,
            &ak,
        ]);
        assert!(verdict.trim().ends_with(": OK"), "{kind:?} {verdict}");
        let text = openssl(&["x509", "-in", &ak, "-noout", "-text"]);
        let of_order = format!(
            "URI:urn:countersign-demo-ca:order:{}",
            order["order"].as_str().unwrap()
        );
        for wanted in [
            "2.23.133.8.3",
            "X509v3 Subject Alternative Name: critical",
            "2.23.133.2.1 = id:4E544300",
            "CA:FALSE",
            &of_order,
        ] {
            let spaced = text.replace("2.23.133.2.1=", "2.23.133.2.1 = ");
            assert!(spaced.contains(wanted), "{wanted} in {text}");
        }
        // The CA for attestation keys is below no root for code signing.
        let roots = file(
            "roots.pem",
            ca.counter.authority.root.certificate().to_pem(),
        );
        let out = Command::new("openssl")
            .args([
                "verify",
                "-attime",
                &START.to_string(),
                "-CAfile",
                &roots,
                &ak,
            ])
            .output()
            .unwrap();
        assert!(!out.status.success(), "{kind:?}");
    }
}

#[tokio::test]
async fn a_challenge_takes_one_answer_in_time_and_the_right_one() {
    let scene = strict();
    let ca = scene.ca();
    let device = Device::new();
    let order = open(&ca).await;
    let answer = async |secret: &[u8]| {
        let body = json!({"secret": STANDARD.encode(secret)});
        step(&ca, &order, "device/answer", &body).await
    };
    let identify = async || {
        let (status, challenge) = step(&ca, &order, "device", &device.identity()).await;
        assert_eq!(status, StatusCode::OK, "{challenge:#}");
        device.read(&challenge)
    };
    // None was made.
    refused_for(&answer(&[0; 32]).await, &["challenge-open"]);
    // A wrong answer uses it up; the right one comes too late.
    let secret = identify().await;
    let mut wrong = secret.clone();
    wrong[0] ^= 1;
    refused_for(&answer(&wrong).await, &["challenge-answer"]);
    refused_for(&answer(&secret).await, &["challenge-open"]);
    refused_for(&answer(&[]).await, &["challenge-open"]);
    // A second challenge voids the first.
    let old = identify().await;
    let new = identify().await;
    assert_ne!(old, new);
    refused_for(&answer(&old).await, &["challenge-answer"]);
    // The right answer counts once.
    let secret = identify().await;
    assert_eq!(answer(&secret).await.0, StatusCode::OK);
    refused_for(&answer(&secret).await, &["challenge-open"]);
    // Over a restart too, and the secret is in no file.
    let secret = identify().await;
    let again = scene.ca();
    let body = json!({"secret": STANDARD.encode(&secret)});
    assert_eq!(
        step(&again, &order, "device/answer", &body).await.0,
        StatusCode::OK
    );
    refused_for(
        &step(&again, &order, "device/answer", &body).await,
        &["challenge-open"],
    );
    for file in std::fs::read_dir(scene.dir.path().join("orders")).unwrap() {
        let text = std::fs::read_to_string(file.unwrap().path()).unwrap();
        assert!(!text.contains(&STANDARD.encode(&secret)) && !text.contains(&hex::encode(&secret)));
    }
    // The first process knows nothing of that; it goes on with its own book.
    let late = identify().await;
    scene.clock.store(START + 300, Ordering::SeqCst);
    refused_for(&answer(&late).await, &["challenge-unexpired"]);
}

#[tokio::test]
async fn challenges_of_an_order_are_counted_and_end_with_it() {
    let scene = strict();
    let ca = scene.ca();
    let device = Device::new();
    let order = open(&ca).await;
    for _ in 0..8 {
        assert_eq!(
            step(&ca, &order, "device", &device.identity()).await.0,
            StatusCode::OK
        );
    }
    let ninth = step(&ca, &order, "device", &device.identity()).await;
    refused_for(&ninth, &["challenge-count"]);

    let used = open(&ca).await;
    let chain = device.certified(&ca, &used).await;
    let body = request(&scene, &device, &used, Some(device.evidence(&used)), &chain);
    assert_eq!(submit(&ca, &used, &body).await.0, StatusCode::OK);
    let after = step(&ca, &used, "device", &device.identity()).await;
    refused_for(&after, &["order-unused"]);

    let late = open(&ca).await;
    let (_, challenge) = step(&ca, &late, "device", &device.identity()).await;
    scene.clock.store(START + 3600, Ordering::SeqCst);
    refused_for(
        &step(&ca, &late, "device", &device.identity()).await,
        &["order-unexpired"],
    );
    let secret = json!({"secret": STANDARD.encode(device.read(&challenge))});
    refused_for(
        &step(&ca, &late, "device/answer", &secret).await,
        &["order-unexpired", "challenge-unexpired"],
    );
}

#[tokio::test]
async fn a_device_that_is_not_what_it_should_be_gets_no_challenge() {
    let scene = strict();
    let ca = scene.ca();
    let order = open(&ca).await;
    let good = Device::new();
    // Attestation key: not restricted; one that decrypts too; one that may leave.
    for attributes in [0x0004_0072, 0x0007_0072, 0x0005_0060] {
        let device = Device {
            ek: Endorsement::new(Kind::P256),
            tpm: Tpm2 {
                ak_attributes: attributes,
                ..Tpm2::default()
            },
        };
        let answer = step(&ca, &order, "device", &device.identity()).await;
        refused_for(&answer, &["tpm-ak-restricted"]);
    }
    // Endorsement key: from a root nobody pinned, with the pinned one's name and without.
    let stranger = Key::named(Kind::P256, "stranger's ek root");
    let mut identity = good.identity();
    let forged = good.ek.certificate(&good.tpm).sign(&stranger);
    identity["endorsement"] = json!([STANDARD.encode(&forged)]);
    refused_for(
        &step(&ca, &order, "device", &identity).await,
        &["tpm-ek-chain"],
    );
    let mut named = good.ek.certificate(&good.tpm);
    named.issuer = cn("Some Root");
    let chain = [named.sign(&stranger), root("Some Root", &stranger)];
    identity["endorsement"] = json!(chain.iter().map(|c| STANDARD.encode(c)).collect::<Vec<_>>());
    refused_for(
        &step(&ca, &order, "device", &identity).await,
        &["tpm-ek-chain"],
    );
    // No challenge was counted or kept.
    let secret = json!({"secret": STANDARD.encode([0; 32])});
    let answer = step(&ca, &order, "device/answer", &secret).await;
    refused_for(&answer, &["challenge-open"]);
    assert_eq!(answer.1["reasons"][0]["seen"], "no challenge was made");
}

#[tokio::test]
async fn a_ca_without_endorsement_roots_says_so_and_bodies_are_bounded() {
    let scene = Scene::new();
    let ca = scene.ca();
    let order = open(&ca).await;
    let device = Device::new();
    for (name, body) in [
        ("device", device.identity()),
        ("device/answer", json!({"secret": ""})),
    ] {
        let (status, problem) = step(&ca, &order, name, &body).await;
        assert_eq!(status, StatusCode::NOT_IMPLEMENTED);
        assert_eq!(problem["code"], "no-device-steps");
    }
    let scene = strict();
    let ca = scene.ca();
    let order = open(&ca).await;
    let one = STANDARD.encode([0x30, 0]);
    for (name, body, names) in [
        (
            "device",
            json!({"endorsement": [], "attestation_key": ""}),
            "endorsement",
        ),
        (
            "device",
            json!({"endorsement": vec![&one; 9], "attestation_key": ""}),
            "endorsement",
        ),
        (
            "device",
            json!({"endorsement": ["!"], "attestation_key": ""}),
            "endorsement",
        ),
        (
            "device",
            json!({"endorsement": [one], "attestation_key": "!"}),
            "attestation_key",
        ),
        ("device", json!({"endorsement": [one]}), "attestation_key"),
        (
            "device",
            json!({"endorsement": [one], "attestation_key": "", "x": 1}),
            "x",
        ),
        ("device/answer", json!({}), "secret"),
        ("device/answer", json!({"secret": "!"}), "secret"),
        (
            "device/answer",
            json!({"secret": STANDARD.encode([0; 65])}),
            "secret",
        ),
    ] {
        let (status, problem) = step(&ca, &order, name, &body).await;
        assert_eq!(status, StatusCode::BAD_REQUEST, "{body}");
        let detail = problem["detail"].as_str().unwrap();
        assert!(detail.contains(names), "{detail}");
    }
    let garbage = json!({"endorsement": [one], "attestation_key": ""});
    refused_for(
        &step(&ca, &order, "device", &garbage).await,
        &["tpm-ek-chain", "tpm-ak-public"],
    );
    let unknown = json!({"order": "0".repeat(32)});
    for (name, body) in [
        ("device", device.identity()),
        ("device/answer", json!({"secret": ""})),
    ] {
        let (status, problem) = step(&ca, &unknown, name, &body).await;
        assert_eq!(status, StatusCode::NOT_FOUND);
        assert_eq!(problem["code"], "order-unknown");
    }
}
