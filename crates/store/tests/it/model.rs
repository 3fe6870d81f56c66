//! What tests write, and the full check of what was kept.

use countersign_core::ports::hsm::TokenFacts;
use countersign_core::ports::rows::{
    CertificateRow, ClaimKey, ClaimRow, ClaimState, EvidenceFile, EvidenceRow, GrantRow,
    IssuerKind, IssuerRow, KeyRow, LeafRow, LogHead, LogKind, MemberRow, OpenAuthorisation,
    OrderRow, OrderState, Role, SignerRow, SubtreeRow, TenantPolicy, TenantRow,
};
use countersign_core::ports::store::{Commit, CommitError, Effect, LogWrite, Store, Wanted};
use countersign_core::{
    GrantId, IsolationClass, KeyAlgorithm, KeyFacts, KeyId, KeyState, LogId, Micros, NodeId,
    OrderId, TenantId,
};
use countersign_signing_log::{Frontier, merkle};
use sha2::Digest as _;
use std::time::Duration;

pub const LEASE: Duration = Duration::from_secs(10);
pub const NOW: Micros = Micros(1_000_000);

/// One log as its writer sees it.
#[derive(Debug, Clone)]
pub struct Log {
    pub tenant: TenantId,
    pub id: LogId,
    pub kind: LogKind,
    pub epoch: u64,
    pub frontier: Frontier,
}

impl Log {
    pub fn of_tenant(tenant: TenantId) -> Self {
        Self {
            tenant,
            id: tenant.into(),
            kind: LogKind::Tenant,
            epoch: 1,
            frontier: Frontier::empty(),
        }
    }

    pub fn of_key(tenant: TenantId, key: KeyId) -> Self {
        Self {
            id: key.into(),
            kind: LogKind::Key,
            ..Self::of_tenant(tenant)
        }
    }

    /// Picks up a log where the database has it.
    pub fn at(head: &LogHead) -> Self {
        Self {
            tenant: head.tenant,
            id: head.log,
            kind: head.kind,
            epoch: head.epoch,
            frontier: Frontier::from_bytes(&head.frontier).unwrap(),
        }
    }

    pub fn size(&self) -> u64 {
        self.frontier.size()
    }

    /// `count` more leaves, each with its details.
    pub fn append(&mut self, count: usize) -> LogWrite {
        let first = self.size();
        let rows = (first..).take(count).map(|i| {
            let bytes = format!("{{\"log\":\"{}\",\"leaf\":{i}}}", self.id).into_bytes();
            LeafRow {
                hash: merkle::leaf_hash(&bytes),
                bytes,
                details: Some(format!("{{\"index\":{i}}}")),
            }
        });
        let rows = rows.collect();
        self.append_rows(rows)
    }

    pub fn append_rows(&mut self, leaves: Vec<LeafRow>) -> LogWrite {
        let hashes: Vec<_> = leaves.iter().map(|l| l.hash).collect();
        let batch = self.frontier.append_batch(&hashes);
        let origin = format!("test.example/log/{}", self.id);
        LogWrite {
            tenant: self.tenant,
            log: self.id,
            kind: self.kind,
            epoch: self.epoch,
            old_size: batch.old_size,
            new_size: batch.new_size,
            frontier: self.frontier.to_bytes(),
            checkpoint: checkpoint(&origin, batch.new_size, &batch.root),
            last_time: NOW,
            leaves,
            subtrees: batch
                .subtrees
                .iter()
                .map(|s| SubtreeRow {
                    level: s.level,
                    index: s.index,
                    hash: s.hash,
                })
                .collect(),
            origin,
        }
    }
}

fn checkpoint(origin: &str, size: u64, root: &[u8; 32]) -> String {
    format!("{origin}\n{size}\n{}\n", hex::encode(root))
}

/// Makes a key, whatever is there.
pub fn create_key(row: KeyRow) -> Effect {
    Effect::CreateKey {
        row: Box::new(row),
        most: u32::MAX,
    }
}

/// A node that never joined: what it left open is there for recovery.
pub fn dead() -> NodeId {
    NodeId(uuid::Uuid::from_u128(0xdead))
}

/// Commits as `node`, at a fixed time.
pub async fn commit(store: &impl Store, node: NodeId, commit: Commit) -> Result<(), CommitError> {
    // Refused if it joined before, whether it still lives or not.
    let _ = store.join(node, "test", LEASE).await;
    let wanted = commit.writes.iter().map(|w| Wanted {
        tenant: w.tenant,
        log: w.log,
        known: Some(w.old_size),
    });
    let flush = store.flush(node, commit.tenants(), wanted.collect());
    flush.await?.commit(NOW, commit).await
}

/// A commit of effects alone, numbered in order.
pub fn effects(effects: impl IntoIterator<Item = Effect>) -> Commit {
    Commit {
        effects: effects.into_iter().enumerate().collect(),
        ..Commit::default()
    }
}

pub fn writes(writes: impl IntoIterator<Item = LogWrite>) -> Commit {
    Commit {
        writes: writes.into_iter().collect(),
        ..Commit::default()
    }
}

/// A tenant with one of everything.
#[derive(Debug, Clone)]
pub struct Everything {
    pub tenant: TenantRow,
    pub issuer: IssuerRow,
    pub member: MemberRow,
    pub signer: SignerRow,
    pub key: KeyRow,
    pub certificate: CertificateRow,
    pub grant: GrantRow,
    pub order: OrderRow,
}

impl Everything {
    /// All tenants made so have the same signer, issuer and people, so that only the tenant tells
    /// them apart.
    pub fn named(name: &str) -> Self {
        let tenant = TenantId::new();
        let key = KeyId::new();
        let signer: countersign_core::SignerLabel = "release".parse().unwrap();
        Self {
            tenant: TenantRow {
                id: tenant,
                name: name.parse().unwrap(),
                policy: TenantPolicy::default(),
                version: 0,
                token: None,
                created: NOW,
            },
            issuer: IssuerRow {
                tenant,
                issuer: "https://idp.example".to_owned(),
                kind: IssuerKind::People,
                audience: "countersign".to_owned(),
                max_token_age_s: 300,
                mfa_amr: vec!["mfa".to_owned(), "hwk".to_owned()],
                mfa_acr: vec![],
                ca_pem: None,
                client_id: Some("cli".to_owned()),
            },
            member: MemberRow {
                tenant,
                issuer: "https://idp.example".to_owned(),
                subject: "ada".to_owned(),
                role: Role::Admin,
            },
            signer: SignerRow {
                tenant,
                label: signer.clone(),
                algorithm: KeyAlgorithm::EcP256,
                created: NOW,
            },
            key: KeyRow {
                tenant,
                id: key,
                signer: signer.clone(),
                algorithm: KeyAlgorithm::EcP256,
                state: KeyState::Generated,
                spki: vec![0x30, 0x59],
                facts: key_facts(),
                appraisal: None,
                created: NOW,
            },
            certificate: CertificateRow {
                tenant,
                key,
                sha256: [9; 32],
                chain: vec![vec![0x30, 1], vec![0x30, 2, 3]],
                not_before: Micros(-1),
                not_after: Micros(2),
                serial: "0a".to_owned(),
                installed: NOW,
            },
            grant: GrantRow {
                tenant,
                id: GrantId::new(),
                signer,
                json: "{ \"kept\" :  \"to the byte\"}".to_owned(),
                created: NOW,
            },
            order: OrderRow {
                tenant,
                id: OrderId::new(),
                key,
                ca: "demo".to_owned(),
                reference: None,
                state: OrderState::Opened,
                csr: Some(vec![1]),
                statement: None,
                problem: None,
                created: NOW,
                updated: NOW,
                next_poll: None,
            },
        }
    }

    /// Evidence for its key, of files whose contents are their names.
    pub fn evidence(&self, files: &[&str]) -> EvidenceRow {
        let file = |name: &&str| EvidenceFile {
            name: (*name).to_owned(),
            bytes: name.as_bytes().to_vec(),
            sha256: sha2::Sha256::digest(name).into(),
        };
        EvidenceRow {
            tenant: self.id(),
            key: self.key.id,
            files: files.iter().map(file).collect(),
            nonce: None,
            result: "{ \"kept\" :  \"to the byte\"}".to_owned(),
            appraised: NOW,
        }
    }

    pub fn id(&self) -> TenantId {
        self.tenant.id
    }

    /// The effects that make it.
    pub fn effects(&self) -> Vec<Effect> {
        let it = self.clone();
        vec![
            Effect::CreateTenant(it.tenant),
            Effect::SetToken(self.id(), token_facts()),
            Effect::PutIssuer(it.issuer),
            Effect::AddMember(it.member),
            Effect::CreateSigner(it.signer),
            create_key(it.key),
            Effect::PutOrder(Box::new(it.order)),
            Effect::InstallCertificate(it.certificate),
            Effect::PutGrant(it.grant),
        ]
    }

    /// Version after [`Self::effects`]: creation sets it, an order leaves it.
    pub const VERSION: u64 = 7;

    /// Writes it, with the first leaves of its tenant log and its key's log.
    pub async fn create(&self, store: &impl Store, node: NodeId) -> (Log, Log) {
        let mut tenant_log = Log::of_tenant(self.id());
        let mut key_log = Log::of_key(self.id(), self.key.id);
        let begin = Commit {
            writes: vec![tenant_log.append(5), key_log.append(1)],
            ..effects(self.effects())
        };
        commit(store, node, begin).await.unwrap();
        (tenant_log, key_log)
    }

    pub fn claim(&self, key: &str, index: u64) -> ClaimRow {
        ClaimRow {
            key: ClaimKey {
                tenant: self.id(),
                principal: [1; 32],
                key: key.to_owned(),
            },
            body: [2; 32],
            state: ClaimState::InFlight,
            attempt: 1,
            log: self.key.id.into(),
            index,
            expires: Micros(5_000_000),
        }
    }

    pub fn open(&self, node: NodeId, index: u64) -> OpenAuthorisation {
        OpenAuthorisation {
            tenant: self.id(),
            log: self.key.id.into(),
            index,
            node,
            epoch: 1,
            claim: None,
        }
    }
}

pub fn token_facts() -> TokenFacts {
    TokenFacts {
        label: "t".to_owned(),
        manufacturer: "SoftHSM project".to_owned(),
        model: "SoftHSM v2".to_owned(),
        serial: "1".to_owned(),
        firmware: "2.6".to_owned(),
        software: true,
        isolation: IsolationClass::ExclusiveToken,
        profile: "softhsm2".to_owned(),
    }
}

fn key_facts() -> KeyFacts {
    KeyFacts {
        software: true,
        isolation: IsolationClass::ExclusiveToken,
        manufacturer: "SoftHSM project".to_owned(),
        model: "SoftHSM v2".to_owned(),
        serial: "1".to_owned(),
        firmware: "2.6".to_owned(),
        profile: "softhsm2".to_owned(),
        binding_mac: true,
        attributes: vec![],
    }
}

/// Re-verifies every log of a tenant from the stored bytes: each leaf's hash, the right edge, the
/// root in the checkpoint, each subtree, and that nothing lies beyond the head.
pub async fn check_logs(store: &impl Store, tenant: TenantId) -> Vec<LogHead> {
    let heads = store.heads(tenant).await.unwrap();
    for head in &heads {
        let mut frontier = Frontier::empty();
        let mut subtrees = Vec::new();
        while frontier.size() < head.size {
            let from = frontier.size();
            let leaves = store.leaves(tenant, head.log, from, 256).await.unwrap();
            let hashes = store.hashes(tenant, head.log, 0, from, 256).await.unwrap();
            assert!(
                !leaves.is_empty(),
                "leaf {from} of {} is missing",
                head.size
            );
            let computed: Vec<_> = leaves.iter().map(|l| merkle::leaf_hash(l)).collect();
            assert_eq!(computed, hashes);
            subtrees.extend(frontier.append_batch(&hashes).subtrees);
        }
        assert_eq!(frontier.size(), head.size);
        assert_eq!(frontier.to_bytes(), head.frontier);
        let expected = checkpoint(&head.origin, head.size, &frontier.root());
        assert_eq!(head.checkpoint, expected);
        for level in 1..=7 {
            let expected: Vec<_> = subtrees.iter().filter(|s| s.level == level).collect();
            let stored = store.hashes(tenant, head.log, level, 0, u32::MAX).await;
            let stored = stored.unwrap();
            assert_eq!(stored.len(), expected.len(), "level {level}");
            for (index, (stored, expected)) in stored.iter().zip(expected).enumerate() {
                assert_eq!((index as u64, stored), (expected.index, &expected.hash));
            }
        }
        for beyond in [head.size, head.size + 1, u64::MAX] {
            let leaves = store.leaves(tenant, head.log, beyond, 256).await.unwrap();
            assert!(leaves.is_empty());
            let details = store.details(tenant, head.log, beyond, 256).await.unwrap();
            assert!(details.is_empty());
        }
    }
    heads
}
