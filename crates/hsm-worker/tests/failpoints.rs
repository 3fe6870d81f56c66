//! The worker dies at each step of a signature: run with `--features failpoints`.
#![cfg(feature = "failpoints")]
#![allow(clippy::unwrap_used, clippy::panic)] // helpers of tests

mod common;

use common::{Bench, MODULE, ServerLog, profile};
use countersign_core::{HashAlgorithm, KeyAlgorithm, KeyId, SignatureScheme};
use countersign_hsm_protocol::{RequestBody, WorkerError};

const SCHEME: SignatureScheme = SignatureScheme::Ecdsa(HashAlgorithm::Sha256);

#[test]
fn a_leaf_is_never_used_twice_wherever_the_worker_dies() {
    for point in [
        "worker.before-check",
        "worker.after-check",
        "worker.before-c-sign",
        "worker.after-c-sign",
        "worker.before-answer",
    ] {
        let bench = Bench::new();
        let (worker, mut client, tenant) = bench.with_token("w");
        let key = KeyId::new();
        client.generate(key, KeyAlgorithm::EcP256).unwrap();
        worker.stop();

        let action = format!("{point}=abort");
        let config = bench.config(MODULE, &profile());
        let mut worker = bench.start_with("w", &config, &[("COUNTERSIGN_FAILPOINTS", &action)]);
        let mut client = worker.client();
        let mut log = ServerLog::new(tenant, key);
        let (leaf, request) = log.authorise(SCHEME, 1);
        let advance = log.append(&[leaf]);
        client.send(advance);
        client.send(RequestBody::Sign(request.clone()));
        let _advanced = client.receive().unwrap();
        assert!(client.receive().is_err(), "{point}");
        assert!(!worker.wait().success());

        let worker = bench.start("w");
        let mut client = worker.client();
        let (leaf, fresh) = log.authorise(SCHEME, 2);
        let _ = log.append(&[leaf]);
        let size = client.log_size(key).unwrap();
        client.call(log.resync(size)).unwrap();
        // Seen by a worker that died: closed for good, whether it was used or not.
        assert_eq!(
            client.sign(request),
            Err(WorkerError::LeafAlreadyUsed),
            "{point}"
        );
        client.sign(fresh).unwrap();
    }
}
