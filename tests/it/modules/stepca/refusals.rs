//! What step-ca refuses of a device's word, in its own words. The TPM is made of test keys here: a real one
//! would not say these things.

use super::{StepCa, start};
use crate::support::{Stack, pem_of, text};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use countersign_ca::{AcmeClient, AcmeConfig};
use countersign_core::OrderId;
use countersign_core::ports::ca::{
    CaError, CertificateAuthority as _, CertificateRequest, NewOrder, OpenedOrder, OrderStep,
};
use countersign_core::ports::evidence::{DeviceEvidence, DeviceIdentity, KeyCertification};
use countersign_testkit_evidence::cert::{Certificate, request};
use countersign_testkit_evidence::der;
use countersign_testkit_evidence::endorsement::Endorsement;
use countersign_testkit_evidence::keys::{Key, Kind};
use countersign_testkit_evidence::tpm2::{Tpm2, tpm_names};

/// A TPM of test keys at a CA.
struct Bench {
    client: AcmeClient,
    runtime: tokio::runtime::Runtime,
    tpm: Tpm2,
    identity: DeviceIdentity,
}

impl Bench {
    fn new(stack: &Stack, step: &StepCa) -> Self {
        let tpm = tpm();
        let root_key = Key::named(Kind::P256, "ek root");
        let endorsement = Endorsement::new(Kind::Rsa2048);
        let identity = DeviceIdentity {
            endorsement: vec![endorsement.certificate(&tpm).sign(&root_key)],
            attestation_key: tpm.ak_public(),
        };
        let client = AcmeClient::new(AcmeConfig {
            name: "step".into(),
            directory: step.directory(),
            ca_pem: Some(std::fs::read_to_string(step.root()).expect("root")),
            takes_software_keys: true,
            account_file: stack.path("account.json"),
            contact: Vec::new(),
            external_account: None,
            attestation_ca: None,
            audience: None,
        })
        .expect("a connector");
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .expect("a runtime");
        Self {
            client,
            runtime,
            tpm,
            identity,
        }
    }

    fn open(&self) -> OpenedOrder {
        let new = NewOrder {
            order: OrderId::new(),
            subscriber: "acme",
            device: Some(&self.identity),
        };
        self.runtime
            .block_on(self.client.open(new))
            .expect("an order")
    }

    /// What an honest TPM and its CA would hand in for an order.
    fn honest(&self, opened: &OpenedOrder) -> Said {
        Said {
            tpm: Tpm2 {
                extra_data: opened.nonce.clone(),
                ..self.tpm.clone()
            },
            identifier: opened.common_name.clone().expect("a common name"),
            csr_key: self.tpm.key.clone(),
            reference: opened.reference.clone(),
        }
    }

    fn submit(&self, said: &Said) -> Result<OrderStep, CaError> {
        let request = said.request();
        self.runtime
            .block_on(self.client.submit(&said.reference, &request))
    }

    fn poll(&self, reference: &str) -> Result<OrderStep, CaError> {
        self.runtime.block_on(self.client.poll(reference, &[]))
    }
}

/// What is handed in.
struct Said {
    tpm: Tpm2,
    /// The device that the attestation key's certificate names.
    identifier: String,
    csr_key: Key,
    reference: String,
}

impl Said {
    fn request(&self) -> CertificateRequest {
        let attest = self.tpm.attest();
        let certification = KeyCertification {
            signature: self.tpm.signature(&attest),
            attest,
            public: self.tpm.public(),
        };
        let mut chain = vec![self.certificate().sign(&self.tpm.ca_key)];
        chain.push(self.tpm.ca().sign(&self.tpm.root_key));
        CertificateRequest {
            csr: request(&self.identifier, &self.csr_key, &[]),
            statement: Vec::new(),
            evidence: Vec::new(),
            device: Some(DeviceEvidence {
                certification,
                chain,
            }),
        }
    }

    /// The attestation key's certificate with the device's identifier (RFC 4043).
    fn certificate(&self) -> Certificate {
        const NAMES: &str = "2.5.29.17";
        let mut certificate = self.tpm.ak_certificate();
        certificate.extensions.retain(|(oid, _, _)| oid != NAMES);
        let identifier = der::seq(&[der::utf8(&self.identifier)]);
        let other = [der::oid("1.3.6.1.5.5.7.8.3"), der::context(0, &identifier)].concat();
        let tpm = tpm_names(&self.tpm.manufacturer, &self.tpm.model, &self.tpm.version);
        // Within its SEQUENCE of a short length.
        let names = [der::context(0, &other), tpm[2..].to_vec()];
        certificate.with(NAMES, true, der::seq(&names))
    }
}

/// Its attestation key is RSA: step-ca verifies no other.
fn tpm() -> Tpm2 {
    Tpm2 {
        ak: Key::named(Kind::Rsa2048, "step-ca ak"),
        ..Tpm2::default()
    }
}

#[test]
fn step_ca_says_what_is_wrong_with_a_devices_word() {
    let stack = Stack::bare();
    let root = pem_of("CERTIFICATE", &STANDARD.encode(tpm().root()));
    let Some(step) = start(&stack, &root) else {
        return;
    };
    let bench = Bench::new(&stack, &step);
    let stranger = Key::named(Kind::P256, "step-ca stranger");

    // What is honest is believed, so that each refusal below is for the one thing that is changed.
    let opened = bench.open();
    assert_eq!(opened.nonce.len(), 32);
    assert_eq!(opened.audience, step.directory());
    let device = opened.common_name.clone().expect("a common name");
    assert!(device.starts_with("urn:ek:sha256:"), "{device}");
    let waiting = OrderStep::Waiting { retry_after_s: 30 };
    assert_eq!(bench.poll(&opened.reference), Ok(waiting));
    let honest = bench.honest(&opened);
    let Ok(OrderStep::Issued { chain }) = bench.submit(&honest) else {
        panic!("not issued");
    };
    assert_eq!(chain.len(), 2);
    let leaf = countersign_x509::cert::Certificate::from_der(&chain[0]).expect("a certificate");
    assert_eq!(leaf.spki_der(), bench.tpm.key.spki());
    // Again, whoever asks, however often.
    for step in [bench.submit(&honest), bench.poll(&honest.reference)] {
        assert_eq!(
            step,
            Ok(OrderStep::Issued {
                chain: chain.clone()
            })
        );
    }

    let other_ca = Key::named(Kind::P256, "another ak root");
    type Change<'a> = Box<dyn Fn(&mut Said) + 'a>;
    let changes: Vec<(&str, Change<'_>)> = vec![
        (
            "key authorization invalid",
            Box::new(|s| s.tpm.extra_data = vec![7; 32]),
        ),
        // Evidence of an earlier order.
        (
            "key authorization invalid",
            Box::new(|s| s.tpm.extra_data = opened.nonce.clone()),
        ),
        (
            "permanent identifier does not match",
            Box::new(|s| s.identifier = "urn:ek:sha256:another TPM".into()),
        ),
        // The reason stands in its log alone: "csr does not match the attested key".
        ("unauthorized", Box::new(|s| s.csr_key = stranger.clone())),
        // Somebody who calls himself the CA of attestation keys.
        (
            "x5c is not valid",
            Box::new(|s| s.tpm.root_key = other_ca.clone()),
        ),
        ("exportable", Box::new(|s| s.tpm.attributes &= !2)),
        (
            "not created by TPM",
            Box::new(|s| s.tpm.attributes &= !0x20),
        ),
        (
            "certification refers to a different key",
            Box::new(|s| s.tpm.name = Some([&[0, 0x0b][..], &[1; 32]].concat())),
        ),
    ];
    for (wanted, change) in changes {
        let opened = bench.open();
        let mut said = bench.honest(&opened);
        change(&mut said);
        let refused = bench.submit(&said);
        let Err(CaError::Refused { detail, reasons }) = &refused else {
            panic!("{wanted}: {refused:?}");
        };
        let words = format!("{detail} {}", reasons.join(" "));
        assert!(words.contains(wanted), "{wanted}: {refused:?}");
        // An attested key stays attested: an order with another key in its CSR is still open for the right one.
        let later = bench.poll(&said.reference);
        if wanted == "unauthorized" {
            assert_eq!(later, Ok(OrderStep::Waiting { retry_after_s: 30 }));
        } else {
            assert!(matches!(later, Err(CaError::Refused { .. })), "{later:?}");
        }
    }

    // An order of another account, or a URL elsewhere, is not asked after.
    let elsewhere = bench.poll("https://ca.example.com/acme/devices/order/1");
    assert!(
        matches!(elsewhere, Err(CaError::Protocol(_))),
        "{elsewhere:?}"
    );
    let unknown = bench.poll(&format!("{}x", opened.reference));
    assert!(
        matches!(unknown, Err(CaError::Refused { .. })),
        "{unknown:?}"
    );
    assert!(text(&stack.path("account.json")).ends_with("account.json"));
}
