//! Rows as both databases give them (the columns are in the order of the statements in `sql/`), and
//! the words that stand in them.

use crate::columns::Columns;
use countersign_core::ports::devices::{KnownDevice, SharedDevice, SightedKey};
use countersign_core::ports::revocation::{CertificateStatus, ListId, ListRow, StatusRow};
use countersign_core::ports::rows::{
    CertificateRow, ClaimKey, ClaimRow, ClaimState, EvidenceFile, EvidenceRow, GrantRow,
    IssuerKind, IssuerRow, KeyRow, LogHead, LogKind, MemberRow, NodeRow, OpenAuthorisation,
    OrderRow, OrderState, Role, ServiceKeyRow, SignerRow, TenantPolicy, TenantRow,
};
use countersign_core::ports::store::{Read, StoreError};
use countersign_core::{GrantId, KeyId, LogId, NodeId, OrderId, TenantId};
use sha2::{Digest as _, Sha256};

pub(crate) fn tenant_row(c: &Columns<'_>) -> Read<TenantRow> {
    Ok(TenantRow {
        id: TenantId(c.uuid(0)?),
        name: c.parsed(1)?,
        policy: TenantPolicy {
            allow_software: c.bool(2)?,
            require_mfa: c.bool(3)?,
            evidence: c.json_or_null(7)?.unwrap_or_default(),
        },
        version: c.u64(4)?,
        token: c.json_or_null(5)?,
        created: c.micros(6)?,
    })
}

pub(crate) fn issuer_row(c: &Columns<'_>) -> Read<IssuerRow> {
    Ok(IssuerRow {
        tenant: TenantId(c.uuid(0)?),
        issuer: c.text(1)?,
        kind: c.word(
            2,
            &[IssuerKind::People, IssuerKind::Pipelines],
            issuer_kind_name,
        )?,
        audience: c.text(3)?,
        max_token_age_s: c.u32(4)?,
        mfa_amr: c.json(5)?,
        mfa_acr: c.json(6)?,
        ca_pem: c.text_or_null(7)?,
        client_id: c.text_or_null(8)?,
    })
}

pub(crate) fn member_row(c: &Columns<'_>) -> Read<MemberRow> {
    Ok(MemberRow {
        tenant: TenantId(c.uuid(0)?),
        issuer: c.text(1)?,
        subject: c.text(2)?,
        role: role(c, 3)?,
    })
}

pub(crate) fn role(c: &Columns<'_>, i: usize) -> Read<Role> {
    c.word(
        i,
        &[Role::Operator, Role::Admin, Role::Auditor],
        Role::as_str,
    )
}

pub(crate) fn grant_row(c: &Columns<'_>) -> Read<GrantRow> {
    Ok(GrantRow {
        tenant: TenantId(c.uuid(0)?),
        id: GrantId(c.uuid(1)?),
        signer: c.parsed(2)?,
        json: c.text(3)?,
        created: c.micros(4)?,
    })
}

pub(crate) fn signer_row(c: &Columns<'_>) -> Read<SignerRow> {
    Ok(SignerRow {
        tenant: TenantId(c.uuid(0)?),
        label: c.parsed(1)?,
        algorithm: c.parsed(2)?,
        created: c.micros(3)?,
    })
}

pub(crate) fn key_row(c: &Columns<'_>) -> Read<KeyRow> {
    Ok(KeyRow {
        tenant: TenantId(c.uuid(0)?),
        id: KeyId(c.uuid(1)?),
        signer: c.parsed(2)?,
        algorithm: c.parsed(3)?,
        state: c.parsed(4)?,
        spki: c.bytes(5)?,
        facts: c.json(6)?,
        appraisal: c.text_or_null(7)?,
        created: c.micros(8)?,
    })
}

/// What the column `files` says of one file; its bytes stand in `contents`.
#[derive(serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct NamedFile {
    name: String,
    sha256: String,
}

/// The column `files`.
pub(crate) fn named_files(files: &[EvidenceFile]) -> impl serde::Serialize + use<> {
    let named = |f: &EvidenceFile| NamedFile {
        name: f.name.clone(),
        sha256: f.sha256.iter().map(|b| format!("{b:02x}")).collect(),
    };
    files.iter().map(named).collect::<Vec<_>>()
}

/// The column `evidence_policy`: NULL where nothing is demanded.
pub(crate) fn evidence_policy(policy: &TenantPolicy) -> Option<&[String]> {
    (!policy.evidence.is_empty()).then_some(policy.evidence.as_slice())
}

pub(crate) fn evidence_row(c: &Columns<'_>) -> Read<EvidenceRow> {
    let (named, contents): (Vec<NamedFile>, _) = (c.json(2)?, c.chain(3)?);
    if named.len() != contents.len() {
        return Err(c.corrupt(3, "not as many files as names"));
    }
    let mut files = Vec::with_capacity(named.len());
    for (named, bytes) in named.into_iter().zip(contents) {
        let sha256: [u8; 32] = Sha256::digest(&bytes).into();
        // What was appraised is what is here.
        if sha256
            .iter()
            .map(|b| format!("{b:02x}"))
            .collect::<String>()
            != named.sha256
        {
            return Err(c.corrupt(3, "a file is not the one that was appraised"));
        }
        files.push(EvidenceFile {
            name: named.name,
            bytes,
            sha256,
        });
    }
    Ok(EvidenceRow {
        tenant: TenantId(c.uuid(0)?),
        key: KeyId(c.uuid(1)?),
        files,
        nonce: c.bytes_or_null(4)?,
        result: c.text(5)?,
        appraised: c.micros(6)?,
    })
}

pub(crate) fn known_device(c: &Columns<'_>) -> Read<KnownDevice> {
    Ok(KnownDevice {
        device: c.hash(0)?,
        shared: c.micros_or_null(1)?,
        seen: c.micros(2)?,
    })
}

pub(crate) fn shared_device(c: &Columns<'_>) -> Read<SharedDevice> {
    Ok(SharedDevice {
        device: c.hash(0)?,
        shared: c.micros(1)?,
        batch: c.bool(2)?,
    })
}

pub(crate) fn sighted_key(c: &Columns<'_>) -> Read<SightedKey> {
    Ok(SightedKey {
        tenant: c.parsed(0)?,
        key: KeyId(c.uuid(1)?),
        seen: c.micros(2)?,
    })
}

pub(crate) fn certificate_row(c: &Columns<'_>) -> Read<CertificateRow> {
    Ok(CertificateRow {
        tenant: TenantId(c.uuid(0)?),
        key: KeyId(c.uuid(1)?),
        sha256: c.hash(2)?,
        chain: c.chain(3)?,
        not_before: c.micros(4)?,
        not_after: c.micros(5)?,
        serial: c.text(6)?,
        installed: c.micros(7)?,
    })
}

pub(crate) fn order_row(c: &Columns<'_>) -> Read<OrderRow> {
    Ok(OrderRow {
        tenant: TenantId(c.uuid(0)?),
        id: OrderId(c.uuid(1)?),
        key: KeyId(c.uuid(2)?),
        ca: c.text(3)?,
        reference: c.text_or_null(4)?,
        state: c.word(5, &ORDER_STATES, order_state_name)?,
        csr: c.bytes_or_null(6)?,
        statement: c.bytes_or_null(7)?,
        problem: c.text_or_null(8)?,
        created: c.micros(9)?,
        updated: c.micros(10)?,
        next_poll: c.micros_or_null(11)?,
    })
}

pub(crate) fn status_row(c: &Columns<'_>) -> Read<StatusRow> {
    let list = match (c.hash_or_null(5)?, c.text_or_null(6)?) {
        (Some(issuer), Some(urls)) => Some(ListId { issuer, urls }),
        (None, None) => None,
        _ => return Err(c.corrupt(6, "half a list")),
    };
    Ok(StatusRow {
        tenant: TenantId(c.uuid(0)?),
        key: KeyId(c.uuid(1)?),
        sha256: c.hash(2)?,
        serial: c.text(3)?,
        not_after: c.micros(4)?,
        list,
        status: c.word(7, &CertificateStatus::ALL, CertificateStatus::as_str)?,
        since: c.micros(8)?,
        checked: c.micros_or_null(9)?,
        revoked_at: c.micros_or_null(10)?,
        reason: c.text_or_null(11)?,
        warned: c.bool(12)?,
    })
}

pub(crate) fn list_row(c: &Columns<'_>) -> Read<ListRow> {
    Ok(ListRow {
        id: ListId {
            issuer: c.hash(0)?,
            urls: c.text(1)?,
        },
        certificate: c.bytes(2)?,
        next_poll: c.micros(3)?,
        good: c.micros_or_null(4)?,
        this_update: c.micros_or_null(5)?,
        number: c.bytes_or_null(6)?,
        problem: c.text_or_null(7)?,
    })
}

pub(crate) fn head_row(c: &Columns<'_>) -> Read<LogHead> {
    Ok(LogHead {
        tenant: TenantId(c.uuid(0)?),
        log: LogId(c.uuid(1)?),
        kind: c.word(2, &[LogKind::Key, LogKind::Tenant], kind_name)?,
        origin: c.text(3)?,
        size: c.u64(4)?,
        frontier: c.bytes(5)?,
        checkpoint: c.text(6)?,
        last_time: c.micros(7)?,
        epoch: c.u64(8)?,
        writer: NodeId(c.uuid(9)?),
    })
}

pub(crate) fn open_row(c: &Columns<'_>) -> Read<OpenAuthorisation> {
    let tenant = TenantId(c.uuid(0)?);
    let claim = match (c.hash_or_null(5)?, c.text_or_null(6)?) {
        (Some(principal), Some(key)) => Some(ClaimKey {
            tenant,
            principal,
            key,
        }),
        (None, None) => None,
        _ => return Err(c.corrupt(5, "half a claim")),
    };
    Ok(OpenAuthorisation {
        tenant,
        log: LogId(c.uuid(1)?),
        index: c.u64(2)?,
        node: NodeId(c.uuid(3)?),
        epoch: c.u64(4)?,
        claim,
    })
}

pub(crate) fn claim_row(c: &Columns<'_>) -> Read<ClaimRow> {
    let state = match (c.text(4)?.as_str(), c.text_or_null(5)?) {
        ("in-flight", None) => ClaimState::InFlight,
        ("unanswered", None) => ClaimState::Unanswered,
        ("done", Some(answer)) => ClaimState::Done { answer },
        _ => return Err(c.corrupt(4, "state and answer do not agree")),
    };
    Ok(ClaimRow {
        key: ClaimKey {
            tenant: TenantId(c.uuid(0)?),
            principal: c.hash(1)?,
            key: c.text(2)?,
        },
        body: c.hash(3)?,
        state,
        attempt: c.u32(6)?,
        log: LogId(c.uuid(7)?),
        index: c.u64(8)?,
        expires: c.micros(9)?,
    })
}

/// The columns `state` and `answer`.
pub(crate) fn state_columns(state: ClaimState) -> (&'static str, Option<String>) {
    match state {
        ClaimState::InFlight => ("in-flight", None),
        ClaimState::Done { answer } => ("done", Some(answer)),
        ClaimState::Unanswered => ("unanswered", None),
    }
}

pub(crate) fn service_key_row(c: &Columns<'_>) -> Read<ServiceKeyRow> {
    Ok(ServiceKeyRow {
        purpose: c.text(0)?,
        public: c.bytes(1)?,
        wrapped: c.bytes(2)?,
        created: c.micros(3)?,
        retired: c.micros_or_null(4)?,
    })
}

pub(crate) fn node_row(c: &Columns<'_>) -> Read<NodeRow> {
    Ok(NodeRow {
        node: NodeId(c.uuid(0)?),
        name: c.text(1)?,
        joined: c.micros(2)?,
        until: c.micros(3)?,
        ended: c.micros_or_null(4)?,
    })
}

/// Drops the indices once they are known to follow each other from `from`.
pub(crate) fn without_gap<T>(table: &'static str, from: u64, rows: Vec<(u64, T)>) -> Read<Vec<T>> {
    rows.into_iter()
        .zip(from..)
        .map(|((index, value), expected)| {
            if index == expected {
                Ok(value)
            } else {
                Err(StoreError::Corrupt {
                    table,
                    detail: format!("index {expected} is missing"),
                })
            }
        })
        .collect()
}

pub(crate) const fn kind_name(kind: LogKind) -> &'static str {
    match kind {
        LogKind::Key => "key",
        LogKind::Tenant => "tenant",
    }
}

pub(crate) const fn issuer_kind_name(kind: IssuerKind) -> &'static str {
    match kind {
        IssuerKind::People => "people",
        IssuerKind::Pipelines => "pipelines",
    }
}

const ORDER_STATES: [OrderState; 5] = [
    OrderState::Exported,
    OrderState::Opened,
    OrderState::Submitted,
    OrderState::Installed,
    OrderState::Refused,
];

pub(crate) const fn order_state_name(state: OrderState) -> &'static str {
    match state {
        OrderState::Exported => "exported",
        OrderState::Opened => "opened",
        OrderState::Submitted => "submitted",
        OrderState::Installed => "installed",
        OrderState::Refused => "refused",
    }
}
