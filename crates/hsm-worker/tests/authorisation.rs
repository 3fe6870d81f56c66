//! No use before its record: each way to sign without a valid authorisation is refused by name.
#![allow(clippy::unwrap_used, clippy::panic)] // helpers of tests

mod common;

use common::{Bench, Client, PREFIX, ServerLog, Worker, digest};
use countersign_core::{HashAlgorithm, KeyAlgorithm, KeyId, SignatureScheme, TenantId};
use countersign_hsm_protocol::{Reply, RequestBody, WorkerError};
use countersign_signing_log::Checkpoint;
use countersign_signing_log::note::SigningKey;

const SCHEME: SignatureScheme = SignatureScheme::Ecdsa(HashAlgorithm::Sha256);

struct Setup {
    _bench: Bench,
    _worker: Worker,
    client: Client,
    tenant: TenantId,
    log: ServerLog,
}

fn setup() -> Setup {
    let bench = Bench::new();
    let (worker, mut client, tenant) = bench.with_token("w");
    let key = KeyId::new();
    client.generate(key, KeyAlgorithm::EcP256).unwrap();
    Setup {
        _bench: bench,
        _worker: worker,
        client,
        tenant,
        log: ServerLog::new(tenant, key),
    }
}

#[test]
fn without_a_leaf_nothing_is_signed() {
    let mut s = setup();
    let (leaf, request) = s.log.authorise(SCHEME, 1);
    assert_eq!(
        s.client.sign(request.clone()),
        Err(WorkerError::LogBehind { size: 0 })
    );
    // Another leaf stands at that index.
    let advance = s.log.append(&[s.log.outcome(0)]);
    s.client.call(advance).unwrap();
    assert_eq!(
        s.client.sign(request.clone()),
        Err(WorkerError::LeafNotInLog)
    );
    // The leaf is in the log, but elsewhere.
    let advance = s.log.append(&[leaf]);
    s.client.call(advance).unwrap();
    assert_eq!(
        s.client.sign(request.clone()),
        Err(WorkerError::LeafNotInLog)
    );
    let mut right = request;
    right.index = 1;
    assert!(s.client.sign(right).is_ok());
}

#[test]
fn a_leaf_allows_one_key_one_scheme_one_digest_one_tenant() {
    let mut s = setup();
    let (leaf, request) = s.log.authorise(SCHEME, 1);

    let foreign_key = ServerLog::new(s.tenant, KeyId::new());
    let foreign_tenant = ServerLog::new(TenantId::new(), s.log.key);
    let (of_other_key, _) = foreign_key.authorise(SCHEME, 1);
    let (of_other_tenant, _) = foreign_tenant.authorise(SCHEME, 1);
    let outcome = s.log.outcome(0);
    let leaves = [
        leaf,
        of_other_key.clone(),
        of_other_tenant.clone(),
        outcome.clone(),
        b"{\"v\":1}".to_vec(),
    ];
    let advance = s.log.append(&leaves);
    s.client.call(advance).unwrap();

    let with = |index: u64, leaf: &[u8]| {
        let mut r = request.clone();
        r.index = index;
        r.leaf = leaf.to_vec();
        r
    };
    assert_eq!(
        s.client.sign(with(1, &of_other_key)),
        Err(WorkerError::LeafWrongKey)
    );
    assert_eq!(
        s.client.sign(with(2, &of_other_tenant)),
        Err(WorkerError::LeafWrongTenant)
    );
    assert_eq!(
        s.client.sign(with(3, &outcome)),
        Err(WorkerError::NotAnAuthorisation)
    );
    assert!(matches!(
        s.client.sign(with(4, b"{\"v\":1}")),
        Err(WorkerError::LeafMalformed(_))
    ));

    let mut other_digest = request.clone();
    other_digest.digest = digest(HashAlgorithm::Sha256, 2);
    assert_eq!(
        s.client.sign(other_digest),
        Err(WorkerError::LeafWrongDigest)
    );
    let mut other_salt = request.clone();
    other_salt.tbs_salt = [9; 32];
    assert_eq!(s.client.sign(other_salt), Err(WorkerError::LeafWrongDigest));
    let mut other_scheme = request.clone();
    other_scheme.scheme = SignatureScheme::RsaPkcs1(HashAlgorithm::Sha256);
    assert_eq!(
        s.client.sign(other_scheme),
        Err(WorkerError::LeafWrongScheme)
    );
    let mut other_hash = request.clone();
    other_hash.digest = digest(HashAlgorithm::Sha384, 1);
    assert_eq!(
        s.client.sign(other_hash),
        Err(WorkerError::DigestNotOfScheme)
    );

    // Once, and only once.
    assert!(s.client.sign(request.clone()).is_ok());
    assert_eq!(s.client.sign(request), Err(WorkerError::LeafAlreadyUsed));
}

#[test]
fn a_scheme_that_is_not_the_keys_is_refused_by_the_token_side() {
    let mut s = setup();
    let rsa = SignatureScheme::RsaPkcs1(HashAlgorithm::Sha256);
    assert_eq!(
        s.log.sign(&mut s.client, rsa, 1),
        Err(WorkerError::SchemeNotOfKey)
    );
    assert!(s.log.sign(&mut s.client, SCHEME, 2).is_ok());
}

#[test]
fn stale_forked_foreign_and_unsigned_checkpoints_are_refused() {
    let mut s = setup();
    let (leaf, _) = s.log.authorise(SCHEME, 1);
    let old = s.log.append(&[leaf]);
    s.client.call(old.clone()).unwrap();
    let (leaf, request) = s.log.authorise(SCHEME, 2);
    let before = s.log.checkpoint();
    let RequestBody::Advance {
        tenant,
        key,
        checkpoint,
        from_size,
        leaf_hashes,
        uses,
    } = s.log.append(&[leaf])
    else {
        panic!()
    };
    let advance = |checkpoint: String, from_size, leaf_hashes: Vec<_>| RequestBody::Advance {
        tenant,
        key,
        checkpoint,
        from_size,
        uses: if leaf_hashes.is_empty() {
            vec![]
        } else {
            uses.clone()
        },
        leaf_hashes,
    };
    let good = s.log.checkpoint();

    // Another tree under the same name, signed by the log key itself.
    let fork = Checkpoint {
        root: [3; 32],
        ..good.clone()
    };
    let fork = fork.sign(&s.log.log_key).unwrap();
    assert_eq!(
        s.client
            .call(advance(fork.clone(), from_size, leaf_hashes.clone())),
        Err(WorkerError::CheckpointForked)
    );
    assert_eq!(
        s.client.call(RequestBody::Resync {
            tenant: s.log.tenant,
            uses: vec![],
            key,
            checkpoint: fork,
            consistency_proof: vec![[3; 32]],
            base_size: 0,
            base_frontier: vec![],
            leaf_hashes: s.log.hashes.clone(),
        }),
        Err(WorkerError::CheckpointForked)
    );
    // Another key under the log's name.
    let stranger = SigningKey::from_seed(&[1; 32], &good.origin).unwrap();
    assert_eq!(
        s.client.call(advance(
            good.sign(&stranger).unwrap(),
            from_size,
            leaf_hashes.clone()
        )),
        Err(WorkerError::CheckpointUnsigned)
    );
    // Another log, by the log key.
    let other = format!("{PREFIX}/{}", KeyId::new());
    let foreign = Checkpoint {
        origin: other.clone(),
        ..good.clone()
    };
    let its_key = SigningKey::from_seed(&common::LOG_SEED, &other).unwrap();
    assert_eq!(
        s.client.call(advance(
            foreign.sign(&its_key).unwrap(),
            from_size,
            leaf_hashes.clone()
        )),
        Err(WorkerError::CheckpointWrongOrigin {
            expected: good.origin.clone()
        })
    );
    // Nothing of all that moved the worker.
    assert_eq!(s.client.log_size(key), Ok(1));
    s.client
        .call(advance(checkpoint, from_size, leaf_hashes))
        .unwrap();
    assert!(s.client.sign(request).is_ok());
    // The old one again.
    assert_eq!(
        s.client.call(old),
        Err(WorkerError::StaleCheckpoint {
            seen: 2,
            offered: 1
        })
    );
    assert_eq!(
        s.client.call(RequestBody::Resync {
            tenant: s.log.tenant,
            uses: vec![],
            key,
            checkpoint: before.sign(&s.log.log_key).unwrap(),
            consistency_proof: vec![],
            base_size: 0,
            base_frontier: vec![],
            leaf_hashes: vec![s.log.hashes[0]],
        }),
        Err(WorkerError::StaleCheckpoint {
            seen: 2,
            offered: 1
        })
    );
}

#[test]
fn a_gap_is_named_and_resync_closes_it() {
    let mut s = setup();
    let (leaf, _) = s.log.authorise(SCHEME, 1);
    let _lost = s.log.append(&[leaf]);
    let (leaf, request) = s.log.authorise(SCHEME, 2);
    let advance = s.log.append(&[leaf]);
    let behind = Err(WorkerError::LogBehind { size: 0 });
    assert_eq!(s.client.call(advance), behind);
    assert_eq!(
        s.client.sign(request.clone()),
        Err(WorkerError::LogBehind { size: 0 })
    );
    assert_eq!(s.client.call(s.log.resync(0)), Ok(Reply::Log { size: 2 }));
    assert!(s.client.sign(request).is_ok());
}

#[test]
fn requests_of_one_connection_are_checked_in_order() {
    let mut s = setup();
    let mut bytes = Vec::new();
    let mut expected = 0;
    for seed in 0..100 {
        let (leaf, request) = s.log.authorise(SCHEME, seed);
        for body in [s.log.append(&[leaf]), RequestBody::Sign(request)] {
            expected += 1;
            let request = countersign_hsm_protocol::Request {
                id: expected,
                deadline_ms: 60_000,
                body,
            };
            bytes.extend(countersign_hsm_protocol::frame::encode(&request).unwrap());
        }
    }
    std::io::Write::write_all(&mut s.client.stream, &bytes).unwrap();
    let mut seen = std::collections::BTreeSet::new();
    for _ in 0..expected {
        let response = s.client.receive().unwrap();
        assert!(response.result.is_ok(), "{response:?}");
        seen.insert(response.id);
    }
    assert_eq!(seen.len() as u64, expected);
}
