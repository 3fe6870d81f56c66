//! The steps of an order for a key in a TPM: who is the device, and does it hold this attestation
//! key? A right answer earns the attestation key a certificate, for this order alone.

use crate::authority::{certificate_error, random};
use crate::error::Error;
use crate::issuance::{BACKDATE_S, Counter, ORDER_UNEXPIRED};
use crate::orders::{Certified, OpenChallenge, Order, OrderBook};
use aws_lc_rs::constant_time::verify_slices_are_equal;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use countersign_attestation::certificate::Certificate as DeviceCertificate;
use countersign_attestation::result::{Check, Outcome, Rule, Verdict};
use countersign_attestation::vendor::tpm2::ak::{Device, fits_ak};
use countersign_attestation::vendor::tpm2::credential::make_credential;
use countersign_attestation::vendor::tpm2::identity::{
    Keys, Presented, appraise_identity, permanent_identifier,
};
use countersign_attestation::{Anchors, UnixSeconds};
use countersign_core::Micros;
use countersign_core::ports::evidence::{DeviceChallenge, DeviceIdentity};
use countersign_x509::hash::sha256;
use countersign_x509::name::TpmName;

/// How long a challenge waits for its answer: a TPM needs seconds.
const CHALLENGE_S: u64 = 300;
/// Challenges of one order. A device that answers wrongly may be asked again, not for ever.
const MAX_CHALLENGES: u8 = 8;

const DOC: &str = "docs/ca/demo-ca-protocol.md, Device";
const ORDER_UNUSED: Rule = Rule::documented("order-unused", "an order is used once", DOC);
const CHALLENGE_COUNT: Rule = Rule::documented(
    "challenge-count",
    "an order's devices get 8 challenges at most",
    DOC,
);
const CHALLENGE_OPEN: Rule = Rule::documented(
    "challenge-open",
    "a challenge of this order waits for its answer; it takes one, right or wrong",
    "TPM 2.0 Library Part 1 §24; docs/ca/demo-ca-protocol.md, Device",
);
const CHALLENGE_UNEXPIRED: Rule =
    Rule::documented("challenge-unexpired", "the answer comes in time", DOC);
const CHALLENGE_ANSWER: Rule = Rule::documented(
    "challenge-answer",
    "the answer is the secret that only the TPM with this endorsement key could read, while it held this attestation key",
    "TPM 2.0 Library Part 3 §12.5",
);

/// The answer to a device that presents itself.
pub(crate) enum Identified {
    /// A challenge, and until when it may be answered.
    Challenge(DeviceChallenge, UnixSeconds),
    /// Why not.
    Refused(Vec<Check>),
}

/// The answer to a secret.
pub(crate) enum Answered {
    /// The attestation key's certificate and its CA's, base64 DER.
    Certified(Vec<String>),
    /// Why not.
    Refused(Vec<Check>),
}

impl Counter {
    /// Judges a device's identity and makes it a challenge. The book holds the challenge durably
    /// before this returns; an earlier one of the order is void.
    pub(crate) fn identify(
        &self,
        book: &mut OrderBook,
        order: &Order,
        roots: &Anchors,
        device: &DeviceIdentity,
        now: UnixSeconds,
    ) -> Result<Identified, Error> {
        let mut steps = order.device.clone().unwrap_or_default();
        let mut checks = open(order, now);
        checks.push(CHALLENGE_COUNT.check(
            steps.challenges < MAX_CHALLENGES,
            format!("{} so far", steps.challenges),
        ));
        let identity = appraise_identity(&Presented {
            endorsement: &device.endorsement,
            attestation_key: &device.attestation_key,
            anchors: roots,
            at: now,
        });
        checks.extend(identity.checks);
        let verdict = Verdict::over(&checks);
        let Some(keys) = identity.keys.filter(|_| verdict == Verdict::Accept) else {
            return Ok(Identified::Refused(standing_in_the_way(checks)));
        };
        let secret = random::<32>()?;
        let credential = make_credential(&keys.endorsement, &keys.name, &secret)
            .map_err(|_| Error::Crypto("no challenge could be made"))?;
        let expires = now.plus(CHALLENGE_S).min(order.expires);
        steps.challenges = steps.challenges.saturating_add(1);
        steps.open = Some(open_challenge(&keys, &secret, expires));
        book.save(Order {
            device: Some(steps),
            ..order.clone()
        })?;
        let challenge = DeviceChallenge {
            id_object: credential.id_object,
            encrypted_secret: credential.encrypted_secret,
        };
        Ok(Identified::Challenge(challenge, expires))
    }

    /// Takes the one answer that the order's open challenge has. The challenge is used up, durably,
    /// before anything is decided.
    pub(crate) fn answer(
        &self,
        book: &mut OrderBook,
        order: &Order,
        secret: &[u8],
        now: UnixSeconds,
    ) -> Result<Answered, Error> {
        let mut checks = open(order, now);
        let mut steps = order.device.clone().unwrap_or_default();
        let Some(challenge) = steps.open.take() else {
            let seen = match steps.challenges {
                0 => "no challenge was made".to_owned(),
                n => format!("{n} made, each has had its answer"),
            };
            checks.push(CHALLENGE_OPEN.check(false, seen));
            return Ok(Answered::Refused(standing_in_the_way(checks)));
        };
        let order = Order {
            device: Some(steps.clone()),
            ..order.clone()
        };
        book.save(order.clone())?;
        checks.push(CHALLENGE_UNEXPIRED.check(
            now < challenge.expires,
            format!("open until {}, now {now}", challenge.expires),
        ));
        // Hashes of one length, compared in constant time.
        let right = hex::decode(&challenge.secret_sha256)
            .is_ok_and(|wanted| verify_slices_are_equal(&sha256(secret), &wanted).is_ok());
        checks.push(CHALLENGE_ANSWER.check(
            right,
            if right {
                "the secret"
            } else {
                "another value; the challenge is used up"
            },
        ));
        if Verdict::over(&checks) != Verdict::Accept {
            return Ok(Answered::Refused(standing_in_the_way(checks)));
        }
        let certified = self.certify(&order, &challenge, now)?;
        let chain = certified.chain.clone();
        steps.certified = Some(certified);
        book.save(Order {
            device: Some(steps),
            ..order
        })?;
        Ok(Answered::Certified(chain))
    }

    fn certify(
        &self,
        order: &Order,
        challenge: &OpenChallenge,
        now: UnixSeconds,
    ) -> Result<Certified, Error> {
        let spki = STANDARD
            .decode(&challenge.attestation_key)
            .map_err(certificate_error)?;
        let endorsement_key: [u8; 32] = hex::decode(&challenge.endorsement_key)
            .ok()
            .and_then(|bytes| bytes.try_into().ok())
            .ok_or_else(|| certificate_error("the order's endorsement key is no SHA-256"))?;
        let device = permanent_identifier(&endorsement_key);
        let tpm = TpmName {
            manufacturer: challenge.manufacturer.clone(),
            model: challenge.model.clone(),
            version: challenge.version.clone(),
        };
        let now_s = i64::try_from(now.get()).unwrap_or(i64::MAX);
        let from = Micros::from_seconds(now_s.saturating_sub(BACKDATE_S));
        let authority = &self.authority;
        let tbs = authority
            .attestation_key(&spki, tpm, device, &order.id, from)?
            .build()
            .map_err(certificate_error)?;
        let certificate = authority.attestation.issue(&tbs)?;
        // Never hand out what a careful verifier would refuse.
        DeviceCertificate::from_der(certificate.der())
            .map_err(certificate_error)
            .and_then(|c| fits_ak(&c).map_err(certificate_error))?;
        Ok(Certified {
            serial: certificate.serial_hex(),
            at: now,
            endorsement_key: challenge.endorsement_key.clone(),
            chain: vec![
                STANDARD.encode(certificate.der()),
                STANDARD.encode(authority.attestation.certificate().der()),
            ],
        })
    }
}

fn open(order: &Order, now: UnixSeconds) -> Vec<Check> {
    vec![
        ORDER_UNEXPIRED.check(
            now < order.expires,
            format!("open until {}, now {now}", order.expires),
        ),
        ORDER_UNUSED.check(
            order.issued.is_none(),
            match &order.issued {
                None => "no certificate came of it".to_owned(),
                Some(i) => format!("certificate {} came of it", i.serial),
            },
        ),
    ]
}

fn open_challenge(keys: &Keys, secret: &[u8], expires: UnixSeconds) -> OpenChallenge {
    let Device {
        manufacturer,
        model,
        version,
    } = keys.device.clone();
    OpenChallenge {
        secret_sha256: hex::encode(sha256(secret)),
        expires,
        attestation_key: STANDARD.encode(keys.attestation.to_spki()),
        endorsement_key: hex::encode(keys.endorsement.spki_sha256()),
        manufacturer,
        model,
        version,
    }
}

/// Failures and what could not be decided.
fn standing_in_the_way(checks: Vec<Check>) -> Vec<Check> {
    let counts = |c: &Check| matches!(c.outcome, Outcome::Fail | Outcome::Unknown);
    checks.into_iter().filter(counts).collect()
}
