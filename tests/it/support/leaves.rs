//! A tenant's own log, as its admin reads it: `log download`, then `log show`.

use super::{cli::Cli, text};
use serde_json::Value;
use std::path::Path;
use std::time::{Duration, Instant};

/// Refusals are counted and written every few seconds; a busy machine takes longer.
const PATIENCE: Duration = Duration::from_secs(30);

impl Cli {
    /// The leaves of the tenant's log as of now. `folder` keeps the copy.
    pub fn tenant_leaves(&self, folder: &Path) -> Vec<Value> {
        self.ok(&["log", "download", "--out", &text(folder)]);
        shown(self, folder)
    }

    /// The leaves of a key's log as of now.
    pub fn key_leaves(&self, key: &str, folder: &Path) -> Vec<Value> {
        self.ok(&["log", "download", "--key", key, "--out", &text(folder)]);
        shown(self, folder)
    }

    /// Downloads until `enough`, and gives the leaves.
    pub fn tenant_leaves_until(
        &self,
        folder: &Path,
        what: &str,
        enough: impl Fn(&[Value]) -> bool,
    ) -> Vec<Value> {
        let start = Instant::now();
        loop {
            let leaves = self.tenant_leaves(folder);
            if enough(&leaves) {
                return leaves;
            }
            assert!(
                start.elapsed() < PATIENCE,
                "{what} does not come into the tenant's log: {leaves:#?}"
            );
            std::thread::sleep(Duration::from_millis(300));
        }
    }

    /// Downloads until a leaf of this type satisfies `wanted`, and gives the last such leaf.
    pub fn tenant_leaf(&self, folder: &Path, kind: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        let found = |leaves: &[Value]| {
            let mut all = of_type(leaves, kind).into_iter().rev();
            all.find(|l| wanted(l)).cloned()
        };
        let leaves = self.tenant_leaves_until(folder, kind, |l| found(l).is_some());
        found(&leaves).expect("found before")
    }
}

/// The leaves of one type.
pub fn of_type<'a>(leaves: &'a [Value], kind: &str) -> Vec<&'a Value> {
    leaves.iter().filter(|l| l["type"] == kind).collect()
}

fn shown(cli: &Cli, folder: &Path) -> Vec<Value> {
    let answer = cli.json(&["log", "show", &text(folder), "--limit", "100000"]);
    let leaves = answer["leaves"].as_array().expect("leaves");
    leaves.iter().map(|l| l["leaf"].clone()).collect()
}
