//! The bytes of a statement: the ASN.1 module of docs/service-statement.md, EXPLICIT TAGS.

use super::{
    AttributeClaim, Audit, Device, Isolation, KeyStatement, LogAnchor, MAX_ATTRIBUTES,
    MAX_STATEMENT, Order, ServiceStatement, StatementError, StatementTbs,
};
use crate::oid::Oid;
use crate::statement::service_statement_oid;
use crate::time::UnixSeconds;
use der::asn1::{Any, BitString, GeneralizedTime, OctetString, UintRef};
use der::{Decode, Encode, Enumerated, Sequence};
use spki::{AlgorithmIdentifierOwned, ObjectIdentifier};

const ECDSA_WITH_SHA256: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.4.3.2");
const VERSION: u8 = 1;

#[derive(Sequence)]
struct StatementDer {
    tbs: TbsDer,
    algorithm: AlgorithmIdentifierOwned,
    signature: BitString,
}

#[derive(Sequence)]
struct TbsDer {
    version: u8,
    statement_type: Any,
    signer_key_hash: OctetString,
    service: String,
    tenant: OctetString,
    subscriber: String,
    audience: String,
    order: OrderDer,
    issued_at: GeneralizedTime,
    expires_at: GeneralizedTime,
    csr_info_hash: OctetString,
    key: KeyDer,
    device: DeviceDer,
    log: LogDer,
    #[asn1(context_specific = "0", optional = "true", tag_mode = "EXPLICIT")]
    practice_statement_hash: Option<OctetString>,
    #[asn1(context_specific = "1", optional = "true", tag_mode = "EXPLICIT")]
    audit: Option<AuditDer>,
}

#[derive(Sequence)]
struct OrderDer {
    id: String,
    nonce: OctetString,
}

#[derive(Sequence)]
struct KeyDer {
    id: OctetString,
    spki_hash: OctetString,
    isolation: IsolationDer,
    mechanism: String,
    attributes: Vec<AttributeDer>,
}

#[derive(Enumerated, Clone, Copy)]
#[repr(u8)]
enum IsolationDer {
    ExclusiveToken = 0,
    PerKeyAuthorisation = 1,
    SharedToken = 2,
}

#[derive(Sequence)]
struct AttributeDer {
    attribute: String,
    seen: String,
}

#[derive(Sequence)]
struct DeviceDer {
    software: bool,
    manufacturer: String,
    model: String,
    serial: String,
    firmware: String,
}

#[derive(Sequence)]
struct LogDer {
    origin: String,
    verifier_key: String,
    size: u64,
    root: OctetString,
}

#[derive(Sequence)]
struct AuditDer {
    scheme: String,
    from: GeneralizedTime,
    to: GeneralizedTime,
}

/// `ECDSA-Sig-Value` (RFC 3279 §2.2.3); positive INTEGERs in their shortest form.
#[derive(Sequence)]
struct EcdsaSigValue<'a> {
    r: UintRef<'a>,
    s: UintRef<'a>,
}

pub(super) fn encode_tbs(tbs: &StatementTbs) -> Result<Vec<u8>, StatementError> {
    check(tbs)?;
    to_wire(tbs)?.to_der().map_err(malformed)
}

pub(super) fn assemble(tbs: &StatementTbs, signature: &[u8]) -> Result<Vec<u8>, StatementError> {
    check(tbs)?;
    check_signature(signature)?;
    let statement = StatementDer {
        tbs: to_wire(tbs)?,
        algorithm: AlgorithmIdentifierOwned {
            oid: ECDSA_WITH_SHA256,
            parameters: None,
        },
        signature: BitString::from_bytes(signature).map_err(malformed)?,
    };
    let der = statement.to_der().map_err(malformed)?;
    if der.len() > MAX_STATEMENT {
        return Err(StatementError::TooLarge { given: der.len() });
    }
    Ok(der)
}

pub(super) fn parse(der: &[u8]) -> Result<ServiceStatement, StatementError> {
    if der.len() > MAX_STATEMENT {
        return Err(StatementError::TooLarge { given: der.len() });
    }
    // Version first: a later version may have another shape, and "not known" says more than
    // "malformed".
    let statement = StatementDer::from_der(der).map_err(malformed)?;
    if statement.tbs.version != VERSION {
        return Err(StatementError::UnknownVersion(statement.tbs.version));
    }
    if Oid::from_any(&statement.tbs.statement_type) != Some(service_statement_oid()) {
        return Err(StatementError::WrongType);
    }
    // RFC 5758 §3.2: parameters are absent for ecdsa-with-SHA256.
    if statement.algorithm.oid != ECDSA_WITH_SHA256 || statement.algorithm.parameters.is_some() {
        return Err(StatementError::WrongAlgorithm);
    }
    let signature = statement
        .signature
        .as_bytes()
        .ok_or(StatementError::MalformedSignature)?
        .to_vec();
    check_signature(&signature)?;
    let tbs = from_wire(&statement.tbs)?;
    check(&tbs)?;
    if assemble(&tbs, &signature)? != der {
        return Err(StatementError::NotCanonical);
    }
    let tbs_der = encode_tbs(&tbs)?;
    Ok(ServiceStatement {
        tbs,
        tbs_der,
        signature,
    })
}

/// Bounds of every field, the same for writer and reader.
fn check(t: &StatementTbs) -> Result<(), StatementError> {
    text("service", &t.service, 1, 256)?;
    text("subscriber", &t.subscriber, 1, 256)?;
    text("audience", &t.audience, 1, 256)?;
    text("order.id", &t.order.id, 1, 256)?;
    if !(8..=64).contains(&t.order.nonce.len()) {
        return field("order.nonce", "must have 8 to 64 bytes");
    }
    if t.expires_at <= t.issued_at {
        return field("expiresAt", "must be later than issuedAt");
    }
    text("key.mechanism", &t.key.mechanism, 1, 64)?;
    if t.key.attributes.len() > MAX_ATTRIBUTES {
        return field("key.attributes", "lists more than 64");
    }
    for a in &t.key.attributes {
        text("key.attributes.attribute", &a.attribute, 1, 64)?;
        text("key.attributes.seen", &a.seen, 0, 128)?;
    }
    let mut names: Vec<&str> = t
        .key
        .attributes
        .iter()
        .map(|a| a.attribute.as_str())
        .collect();
    names.sort_unstable();
    if names.windows(2).any(|w| w.first() == w.last()) {
        return field("key.attributes", "names an attribute twice");
    }
    text("device.manufacturer", &t.device.manufacturer, 0, 128)?;
    text("device.model", &t.device.model, 0, 128)?;
    text("device.serial", &t.device.serial, 0, 128)?;
    text("device.firmware", &t.device.firmware, 0, 128)?;
    text("log.origin", &t.log.origin, 1, 512)?;
    text("log.verifierKey", &t.log.verifier_key, 1, 1024)?;
    if let Some(a) = &t.audit {
        text("audit.scheme", &a.scheme, 1, 256)?;
        if a.to <= a.from {
            return field("audit.to", "must be later than audit.from");
        }
    }
    Ok(())
}

fn text(name: &'static str, value: &str, min: usize, max: usize) -> Result<(), StatementError> {
    if value.len() < min {
        return field(name, "is empty");
    }
    if value.len() > max {
        return field(name, "is too long");
    }
    if value.chars().any(char::is_control) {
        return field(name, "holds a control character");
    }
    Ok(())
}

fn field<T>(field: &'static str, problem: &'static str) -> Result<T, StatementError> {
    Err(StatementError::Field { field, problem })
}

fn check_signature(signature: &[u8]) -> Result<(), StatementError> {
    let sig = EcdsaSigValue::from_der(signature).map_err(|_| StatementError::MalformedSignature)?;
    let again = sig.to_der().map_err(malformed)?;
    if again != signature {
        return Err(StatementError::MalformedSignature);
    }
    Ok(())
}

fn to_wire(t: &StatementTbs) -> Result<TbsDer, StatementError> {
    let mut attributes = t.key.attributes.clone();
    attributes.sort();
    Ok(TbsDer {
        version: VERSION,
        statement_type: service_statement_oid().to_any().map_err(malformed)?,
        signer_key_hash: octets(&t.signer_key_hash)?,
        service: t.service.clone(),
        tenant: octets(&t.tenant)?,
        subscriber: t.subscriber.clone(),
        audience: t.audience.clone(),
        order: OrderDer {
            id: t.order.id.clone(),
            nonce: octets(&t.order.nonce)?,
        },
        issued_at: time(t.issued_at)?,
        expires_at: time(t.expires_at)?,
        csr_info_hash: octets(&t.csr_info_hash)?,
        key: KeyDer {
            id: octets(&t.key.id)?,
            spki_hash: octets(&t.key.spki_hash)?,
            isolation: match t.key.isolation {
                Isolation::ExclusiveToken => IsolationDer::ExclusiveToken,
                Isolation::PerKeyAuthorisation => IsolationDer::PerKeyAuthorisation,
                Isolation::SharedToken => IsolationDer::SharedToken,
            },
            mechanism: t.key.mechanism.clone(),
            attributes: attributes
                .into_iter()
                .map(|a| AttributeDer {
                    attribute: a.attribute,
                    seen: a.seen,
                })
                .collect(),
        },
        device: DeviceDer {
            software: t.device.software,
            manufacturer: t.device.manufacturer.clone(),
            model: t.device.model.clone(),
            serial: t.device.serial.clone(),
            firmware: t.device.firmware.clone(),
        },
        log: LogDer {
            origin: t.log.origin.clone(),
            verifier_key: t.log.verifier_key.clone(),
            size: t.log.size,
            root: octets(&t.log.root)?,
        },
        practice_statement_hash: match &t.practice_statement_hash {
            Some(h) => Some(octets(h)?),
            None => None,
        },
        audit: match &t.audit {
            Some(a) => Some(AuditDer {
                scheme: a.scheme.clone(),
                from: time(a.from)?,
                to: time(a.to)?,
            }),
            None => None,
        },
    })
}

fn from_wire(w: &TbsDer) -> Result<StatementTbs, StatementError> {
    Ok(StatementTbs {
        signer_key_hash: fixed("signerKeyHash", &w.signer_key_hash)?,
        service: w.service.clone(),
        tenant: fixed("tenant", &w.tenant)?,
        subscriber: w.subscriber.clone(),
        audience: w.audience.clone(),
        order: Order {
            id: w.order.id.clone(),
            nonce: w.order.nonce.as_bytes().to_vec(),
        },
        issued_at: UnixSeconds::from_der(w.issued_at.to_date_time()),
        expires_at: UnixSeconds::from_der(w.expires_at.to_date_time()),
        csr_info_hash: fixed("csrInfoHash", &w.csr_info_hash)?,
        key: KeyStatement {
            id: fixed("key.id", &w.key.id)?,
            spki_hash: fixed("key.spkiHash", &w.key.spki_hash)?,
            isolation: match w.key.isolation {
                IsolationDer::ExclusiveToken => Isolation::ExclusiveToken,
                IsolationDer::PerKeyAuthorisation => Isolation::PerKeyAuthorisation,
                IsolationDer::SharedToken => Isolation::SharedToken,
            },
            mechanism: w.key.mechanism.clone(),
            attributes: w
                .key
                .attributes
                .iter()
                .map(|a| AttributeClaim {
                    attribute: a.attribute.clone(),
                    seen: a.seen.clone(),
                })
                .collect(),
        },
        device: Device {
            software: w.device.software,
            manufacturer: w.device.manufacturer.clone(),
            model: w.device.model.clone(),
            serial: w.device.serial.clone(),
            firmware: w.device.firmware.clone(),
        },
        log: LogAnchor {
            origin: w.log.origin.clone(),
            verifier_key: w.log.verifier_key.clone(),
            size: w.log.size,
            root: fixed("log.root", &w.log.root)?,
        },
        practice_statement_hash: match &w.practice_statement_hash {
            Some(h) => Some(fixed("practiceStatementHash", h)?),
            None => None,
        },
        audit: w.audit.as_ref().map(|a| Audit {
            scheme: a.scheme.clone(),
            from: UnixSeconds::from_der(a.from.to_date_time()),
            to: UnixSeconds::from_der(a.to.to_date_time()),
        }),
    })
}

fn octets(bytes: &[u8]) -> Result<OctetString, StatementError> {
    OctetString::new(bytes).map_err(malformed)
}

fn time(t: UnixSeconds) -> Result<GeneralizedTime, StatementError> {
    Ok(GeneralizedTime::from_date_time(
        t.to_der().map_err(malformed)?,
    ))
}

fn fixed<const N: usize>(name: &'static str, o: &OctetString) -> Result<[u8; N], StatementError> {
    <[u8; N]>::try_from(o.as_bytes()).map_err(|_| StatementError::Field {
        field: name,
        problem: "has the wrong number of bytes",
    })
}

fn malformed(e: der::Error) -> StatementError {
    StatementError::Malformed(e.kind())
}
