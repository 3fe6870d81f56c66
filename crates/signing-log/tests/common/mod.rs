//! A log in memory, made the slow and obvious way, for tests to read and to tamper with.
#![allow(dead_code, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use countersign_signing_log::audit::LogSource;
use countersign_signing_log::commitment::{Commitment, HexHash, digest_text};
use countersign_signing_log::leaf::*;
use countersign_signing_log::merkle::{empty_root, leaf_hash, node_hash};
use countersign_signing_log::{
    Checkpoint, Details, EntryBundle, Hash, Leaf, LeafBody, Opening, Salt, SigningKey, Tile,
    TilePath, VerifierKey, tiles_for_size,
};
use std::collections::BTreeMap;

pub const ORIGIN: &str = "localhost:8443/log/0190aaaa-0000-7000-8000-000000000001";
pub const TENANT: &str = "0190aaaa-0000-7000-8000-00000000000a";
pub const KEY: &str = "0190aaaa-0000-7000-8000-000000000001";

pub fn signing_key() -> SigningKey {
    SigningKey::from_seed(&[7; 32], ORIGIN).unwrap()
}

pub fn keys() -> Vec<VerifierKey> {
    vec![signing_key().verifier().clone()]
}

/// MTH(D[n]) word for word as RFC 6962 §2.1 has it.
pub fn naive_root(hashes: &[Hash]) -> Hash {
    match hashes {
        [] => empty_root(),
        [one] => *one,
        _ => {
            let mut k = 1;
            while k * 2 < hashes.len() {
                k *= 2;
            }
            node_hash(&naive_root(&hashes[..k]), &naive_root(&hashes[k..]))
        }
    }
}

pub fn opening(n: u64, value: &str) -> Opening {
    let mut salt = [0x5a; 32];
    salt[..8].copy_from_slice(&n.to_be_bytes());
    Opening {
        salt: Salt(salt),
        value: value.as_bytes().to_vec(),
    }
}

pub fn opened() -> Leaf {
    let key = LoggedKey {
        id: KEY.into(),
        algorithm: "ec-p256".into(),
        spki_sha256: HexHash::of(b"spki"),
        software: false,
        isolation: "exclusive-token".into(),
    };
    Leaf::new(
        1_000,
        LogOpened {
            tenant: TENANT.into(),
            key: Some(key),
            previous: None,
        },
    )
}

pub fn authorisation(n: u64) -> (Authorisation, Details) {
    let tbs = opening(
        3 * n,
        &digest_text("sha-256", HexHash::of(&n.to_be_bytes()).0.as_slice()),
    );
    let file = HexHash::of(format!("file {n}").as_bytes());
    let artifact = opening(3 * n + 1, &digest_text("sha-256", &file.0));
    let caller = opening(3 * n + 2, "{\"sub\":\"repo:acme/app\"}");
    let leaf = Authorisation {
        tenant: TENANT.into(),
        signer: "release".into(),
        key: KEY.into(),
        request: format!("r{n}"),
        attempt: 1,
        repeats: None,
        purpose: Purpose::Signature,
        scheme: "ecdsa-sha-256".into(),
        content: ContentKind::Authenticode,
        asserted: Asserted::Typed,
        tbs: tbs.commitment("tbs"),
        artifact: Some(artifact.commitment("artifact")),
        caller: caller.commitment("caller"),
        node: "0190aaaa-0000-7000-8000-0000000000ff".into(),
        epoch: 3,
    };
    let details = Details {
        tbs: Some(tbs),
        artifact: Some(artifact),
        caller: Some(caller),
        ..Details::of(0)
    };
    (leaf, details)
}

pub fn signed(of: u64) -> Outcome {
    Outcome {
        of,
        result: OutcomeResult::Signed,
        signature_sha256: Some(HexHash::of(&of.to_be_bytes())),
        reason: None,
    }
}

/// A key's log with `uses` uses, each followed by its outcome.
pub fn key_log(uses: u64) -> (Vec<Leaf>, Vec<Details>) {
    let (mut leaves, mut details) = (vec![opened()], Vec::new());
    for n in 0..uses {
        let (authorisation, detail) = authorisation(n);
        let index = leaves.len() as u64;
        details.push(Details { index, ..detail });
        leaves.push(Leaf::new(2_000 + 10 * n as i64, authorisation));
        leaves.push(Leaf::new(2_005 + 10 * n as i64, signed(index)));
    }
    (leaves, details)
}

pub fn bytes(leaves: &[Leaf]) -> Vec<Vec<u8>> {
    leaves.iter().map(|l| l.encode().unwrap()).collect()
}

#[derive(Clone)]
pub struct MemoryLog {
    pub checkpoint: String,
    pub files: BTreeMap<String, Vec<u8>>,
}

impl MemoryLog {
    pub fn new(leaves: &[Leaf]) -> Self {
        Self::of_bytes(&bytes(leaves), &signing_key())
    }

    pub fn of_bytes(entries: &[Vec<u8>], key: &SigningKey) -> Self {
        let hashes: Vec<Hash> = entries.iter().map(|e| leaf_hash(e)).collect();
        let checkpoint = Checkpoint {
            origin: ORIGIN.into(),
            size: hashes.len() as u64,
            root: naive_root(&hashes),
        };
        let mut files = BTreeMap::new();
        for path in tiles_for_size(checkpoint.size) {
            let first = path.index as usize * 256;
            let content = match path.kind {
                countersign_signing_log::tile::TileKind::Entries => {
                    let entries = entries[first..first + usize::from(path.width)].to_vec();
                    EntryBundle { entries }.encode().unwrap()
                }
                countersign_signing_log::tile::TileKind::Hashes { level } => {
                    let span = 256_usize.pow(u32::from(level));
                    let hashes = (first..first + usize::from(path.width))
                        .map(|i| naive_root(&hashes[i * span..(i + 1) * span]))
                        .collect();
                    Tile { hashes }.encode()
                }
            };
            files.insert(path.to_string(), content);
        }
        Self {
            checkpoint: checkpoint.sign(key).unwrap(),
            files,
        }
    }
}

impl LogSource for MemoryLog {
    type Error = String;
    fn checkpoint(&self) -> Result<String, String> {
        Ok(self.checkpoint.clone())
    }
    fn tile(&self, path: &TilePath) -> Result<Option<Vec<u8>>, String> {
        Ok(self.files.get(&path.to_string()).cloned())
    }
    fn bundle(&self, path: &TilePath) -> Result<Option<Vec<u8>>, String> {
        Ok(self.files.get(&path.to_string()).cloned())
    }
}

/// One of each type, from random parts.
pub fn body(
    which: usize,
    s: &[String],
    h: [[u8; 32]; 3],
    n: [u64; 3],
    b: [bool; 3],
    list: Vec<String>,
) -> LeafBody {
    let t = |i: usize| s[i].clone();
    let opt = |on: bool, i: usize| on.then(|| s[i].clone());
    let hash = |i: usize| HexHash(h[i]);
    let c = |i: usize| Commitment(h[i]);
    match LeafBody::TYPES[which] {
        LogOpened::TYPE => LogOpened {
            tenant: t(0),
            key: b[0].then(|| LoggedKey {
                id: t(1),
                algorithm: t(2),
                spki_sha256: hash(0),
                software: b[1],
                isolation: t(3),
            }),
            previous: b[2].then(|| Predecessor {
                origin: t(4),
                size: n[0],
                root: hash(1),
                missing: n[1],
            }),
        }
        .into(),
        Authorisation::TYPE => Authorisation {
            tenant: t(0),
            signer: t(1),
            key: t(2),
            request: t(3),
            attempt: if b[0] { 2 } else { 1 },
            repeats: b[0].then_some(n[0]),
            purpose: if b[1] {
                Purpose::CertificateRequest
            } else {
                Purpose::Signature
            },
            scheme: t(4),
            content: match (b[1], b[2]) {
                (true, _) => ContentKind::CertificateRequest,
                (false, true) => ContentKind::RawDigest,
                (false, false) => ContentKind::Cms,
            },
            asserted: if !b[1] && b[2] {
                Asserted::DigestOnly
            } else {
                Asserted::Typed
            },
            tbs: c(0),
            artifact: b[2].then(|| c(1)),
            caller: c(2),
            node: t(5),
            epoch: n[1],
        }
        .into(),
        Outcome::TYPE => Outcome {
            of: n[0],
            result: match (b[0], b[1]) {
                (true, _) => OutcomeResult::Signed,
                (false, true) => OutcomeResult::Failed,
                (false, false) => OutcomeResult::Unknown,
            },
            signature_sha256: b[0].then(|| hash(0)),
            reason: opt(b[2], 0),
        }
        .into(),
        TenantCreated::TYPE => TenantCreated {
            tenant: t(0),
            name: t(1),
        }
        .into(),
        IssuerRegistered::TYPE => IssuerRegistered {
            issuer: t(0),
            kind: t(1),
            audience: t(2),
        }
        .into(),
        IssuerRemoved::TYPE => IssuerRemoved { issuer: t(0) }.into(),
        MemberAdded::TYPE => MemberAdded {
            issuer: t(0),
            subject: c(0),
            role: t(1),
        }
        .into(),
        MemberRemoved::TYPE => MemberRemoved {
            issuer: t(0),
            subject: c(0),
            role: t(1),
        }
        .into(),
        PolicySet::TYPE => PolicySet {
            allow_software: b[0],
            require_mfa: b[1],
            evidence: b[2].then_some(list),
        }
        .into(),
        TokenCreated::TYPE => TokenCreated {
            token: t(0),
            manufacturer: t(1),
            model: t(2),
            serial: t(3),
            software: b[0],
            isolation: t(4),
            log_vkey: t(5),
        }
        .into(),
        SignerCreated::TYPE => SignerCreated {
            signer: t(0),
            algorithm: t(1),
        }
        .into(),
        KeyGenerated::TYPE => KeyGenerated {
            key: t(0),
            signer: t(1),
            algorithm: t(2),
            spki_sha256: hash(0),
            software: b[0],
            isolation: t(3),
            log_origin: t(4),
        }
        .into(),
        EvidenceAdded::TYPE => EvidenceAdded {
            key: t(0),
            result: t(1),
            evidence: h.iter().take(list.len()).copied().map(HexHash).collect(),
            formats: list,
            result_sha256: hash(0),
            detail: b[0].then(|| c(0)),
        }
        .into(),
        KeyAppraised::TYPE => KeyAppraised {
            key: t(0),
            result: t(1),
            evidence: h.iter().take(list.len()).copied().map(HexHash).collect(),
            statement: b[0].then(|| hash(0)),
        }
        .into(),
        KeyStateChanged::TYPE => KeyStateChanged {
            key: t(0),
            from: t(1),
            to: t(2),
            reason: opt(b[0], 3),
        }
        .into(),
        CertificateRequested::TYPE => CertificateRequested {
            key: t(0),
            order: t(1),
            ca: t(2),
            csr_sha256: hash(0),
            statement_sha256: hash(1),
            evidence: b[0].then(|| h.iter().take(list.len()).copied().map(HexHash).collect()),
        }
        .into(),
        CertificateRefused::TYPE => CertificateRefused {
            key: t(0),
            certificate_sha256: hash(0),
            reason: t(1),
        }
        .into(),
        OrderFailed::TYPE => OrderFailed {
            key: t(0),
            order: t(1),
            ca: t(2),
            reason: t(3),
        }
        .into(),
        CertificateInstalled::TYPE => CertificateInstalled {
            key: t(0),
            certificate_sha256: hash(0),
            serial: t(1),
            not_before: n[0],
            not_after: n[1],
            issuer: t(2),
        }
        .into(),
        CertificateStatusChanged::TYPE => {
            let status = [
                CertificateStatus::Good,
                CertificateStatus::OnHold,
                CertificateStatus::Revoked,
            ][usize::from(b[0]) + usize::from(b[0] && b[1])];
            CertificateStatusChanged {
                key: t(0),
                certificate_sha256: hash(0),
                status,
                revoked_at: b[0].then_some(n[0]),
                reason: opt(b[0], 1),
                crl_number: opt(b[2], 2),
                this_update: n[1],
            }
            .into()
        }
        CertificateEnding::TYPE => CertificateEnding {
            key: t(0),
            certificate_sha256: hash(0),
            not_after: n[0],
        }
        .into(),
        GrantAdded::TYPE => GrantAdded {
            grant: t(0),
            signer: t(1),
            grant_sha256: hash(0),
        }
        .into(),
        GrantRemoved::TYPE => GrantRemoved {
            grant: t(0),
            signer: t(1),
        }
        .into(),
        Denied::TYPE => Denied {
            signer: opt(b[0], 0),
            reason: t(1),
            count: n[0],
            detail: b[1].then(|| c(0)),
        }
        .into(),
        ContentRefused::TYPE => ContentRefused {
            signer: t(0),
            reason: t(1),
            count: n[0],
            detail: b[1].then(|| c(0)),
        }
        .into(),
        KeyCheckpoint::TYPE => KeyCheckpoint {
            key: t(0),
            origin: t(1),
            size: n[0],
            root: hash(0),
        }
        .into(),
        WorkerEvent::TYPE => WorkerEvent {
            token: t(0),
            event: t(1),
            detail: opt(b[0], 2),
        }
        .into(),
        TokenExchanged::TYPE => TokenExchanged {
            issuer: t(0),
            caller: c(0),
            signers: list,
        }
        .into(),
        LogKeysChanged::TYPE => LogKeysChanged {
            origin: t(0),
            vkeys: list,
            reason: t(1),
        }
        .into(),
        other => panic!("add {other} to this test"),
    }
}
