//! The proof vectors of transparency-dev/merkle (Apache-2.0), read from the shared standards folder.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use countersign_signing_log::Hash;
use countersign_signing_log::merkle::{leaf_hash, verify_consistency, verify_inclusion};
use serde_json::{Map, Value};

/// The one record where we decide otherwise, on purpose: old size 0, the empty tree's root and an
/// empty proof. RFC 9162 §2.1.4.1 and the C2SP witnesses call it consistent; the vectors' library
/// does not answer. See `verify_consistency`.
const DECIDED_OTHERWISE: &str = "consistency/additional/size1-is-zero-and-size2-is-not-zero.json";

const EXPECTED: usize = 98;

fn vectors(kind: &str) -> Option<Map<String, Value>> {
    let path = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../../../shared/standards/data/rfc6962-proof-vectors.json"
    );
    let Ok(text) = std::fs::read_to_string(path) else {
        println!("NOT RUN: the {EXPECTED} RFC 6962 {kind} vectors: {path} is absent");
        return None;
    };
    let mut all: Map<String, Value> = serde_json::from_str(&text).unwrap();
    match all.remove(kind) {
        Some(Value::Object(records)) => Some(records),
        other => panic!("{kind}: {other:?}"),
    }
}

/// Some records carry "hashes" of other lengths. Ours are 32 bytes by type, so a stand-in takes
/// their place that equals another exactly if the originals are equal.
fn hash(value: &Value) -> Hash {
    let bytes = STANDARD.decode(value.as_str().unwrap()).unwrap();
    Hash::try_from(bytes.as_slice()).unwrap_or_else(|_| leaf_hash(&bytes))
}

fn is_hash(value: &Value) -> bool {
    STANDARD.decode(value.as_str().unwrap()).unwrap().len() == 32
}

fn proof(record: &Value) -> Vec<Hash> {
    record["proof"]
        .as_array()
        .map(|p| p.iter().map(hash).collect())
        .unwrap_or_default()
}

#[test]
fn inclusion_vectors() {
    let Some(records) = vectors("inclusion") else {
        return;
    };
    for (name, r) in &records {
        let result = verify_inclusion(
            r["leafIdx"].as_u64().unwrap(),
            r["treeSize"].as_u64().unwrap(),
            &hash(&r["leafHash"]),
            &proof(r),
            &hash(&r["root"]),
        );
        // A leaf hash or root of another length cannot even be handed to us.
        let refused = result.is_err() || !is_hash(&r["leafHash"]) || !is_hash(&r["root"]);
        assert_eq!(
            refused,
            r["wantErr"].as_bool().unwrap(),
            "{name}: {result:?}"
        );
    }
    println!("{} RFC 6962 inclusion vectors agree", records.len());
    assert_eq!(records.len(), EXPECTED);
}

#[test]
fn consistency_vectors() {
    let Some(records) = vectors("consistency") else {
        return;
    };
    for (name, r) in &records {
        let result = verify_consistency(
            r["size1"].as_u64().unwrap(),
            r["size2"].as_u64().unwrap(),
            &proof(r),
            &hash(&r["root1"]),
            &hash(&r["root2"]),
        );
        let want_err = r["wantErr"].as_bool().unwrap() && name != DECIDED_OTHERWISE;
        assert_eq!(result.is_err(), want_err, "{name}: {result:?}");
    }
    println!(
        "{} RFC 6962 consistency vectors agree, one of them decided otherwise on purpose",
        records.len()
    );
    assert_eq!(records.len(), EXPECTED);
    assert!(records.contains_key(DECIDED_OTHERWISE));
}
