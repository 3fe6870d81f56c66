//! The order book: one JSON file per order in the state folder, so that an order used before a
//! restart stays used.

use crate::authority::random;
use crate::error::Error;
use crate::files;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use countersign_attestation::{AttestationResult, UnixSeconds};
use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use std::path::{Path, PathBuf};

/// Most orders open at once: a bound, since anybody may order.
pub(crate) const MAX_OPEN: usize = 10_000;
const MAX_FILE: u64 = 1024 * 1024;

/// An order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Order {
    pub(crate) id: String,
    /// Base64 of 32 random bytes.
    pub(crate) nonce: String,
    pub(crate) subscriber: String,
    pub(crate) audience: String,
    pub(crate) expires: UnixSeconds,
    /// What was issued; an order with a certificate is used.
    pub(crate) issued: Option<Issued>,
    /// The last appraisal, kept for whoever asks why.
    pub(crate) appraisal: Option<AttestationResult>,
    /// How far its device steps are; none were taken yet in most orders.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) device: Option<DeviceSteps>,
}

/// The steps for a key in a TPM.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct DeviceSteps {
    /// Challenges made so far.
    pub(crate) challenges: u8,
    /// The one that waits for its answer.
    pub(crate) open: Option<OpenChallenge>,
    /// What the last right answer earned.
    pub(crate) certified: Option<Certified>,
}

/// A challenge without an answer yet.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct OpenChallenge {
    /// Hex. The book is no place for the secret itself.
    pub(crate) secret_sha256: String,
    pub(crate) expires: UnixSeconds,
    /// The attestation key's SubjectPublicKeyInfo, base64.
    pub(crate) attestation_key: String,
    /// SHA-256 of the endorsement key's SubjectPublicKeyInfo, hex.
    pub(crate) endorsement_key: String,
    pub(crate) manufacturer: String,
    pub(crate) model: String,
    pub(crate) version: String,
}

/// An attestation key that answered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Certified {
    pub(crate) serial: String,
    pub(crate) at: UnixSeconds,
    /// SHA-256 of the endorsement key's SubjectPublicKeyInfo, hex.
    pub(crate) endorsement_key: String,
    /// Base64 DER: its certificate, then its CA's.
    pub(crate) chain: Vec<String>,
}

/// What an order came to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Issued {
    pub(crate) serial: String,
    pub(crate) at: UnixSeconds,
    /// Base64 DER, leaf first, without the root.
    pub(crate) chain: Vec<String>,
}

impl Order {
    pub(crate) fn nonce_bytes(&self) -> Vec<u8> {
        STANDARD.decode(&self.nonce).unwrap_or_default()
    }

    /// The certificate, DER, of the attestation key that answered this order's challenge.
    pub(crate) fn attestation_key(&self) -> Option<Vec<u8>> {
        let certified = self.device.as_ref()?.certified.as_ref()?;
        STANDARD.decode(certified.chain.first()?).ok()
    }

    pub(crate) fn status(&self, now: UnixSeconds) -> &'static str {
        match self.issued {
            Some(_) => "issued",
            None if now >= self.expires => "expired",
            None => "open",
        }
    }
}

/// All orders.
pub(crate) struct OrderBook {
    dir: PathBuf,
    orders: HashMap<String, Order>,
}

impl OrderBook {
    /// Reads all orders in `dir`. A file that cannot be read stops the start: a book with a hole
    /// would let a used order be used again.
    pub(crate) fn open(dir: &Path) -> Result<Self, Error> {
        files::make_dir(dir)?;
        let mut orders = HashMap::new();
        for entry in std::fs::read_dir(dir).map_err(Error::file(dir))? {
            let path = entry.map_err(Error::file(dir))?.path();
            if path.extension().is_none_or(|e| e != "json") {
                continue;
            }
            let order: Order =
                serde_json::from_slice(&files::read(&path, MAX_FILE)?).map_err(|e| {
                    Error::Content {
                        path: path.clone(),
                        problem: e.to_string(),
                    }
                })?;
            orders.insert(order.id.clone(), order);
        }
        Ok(Self {
            dir: dir.to_owned(),
            orders,
        })
    }

    /// Opens an order; `None` if too many are open. Expired ones that came to nothing are dropped.
    pub(crate) fn create(
        &mut self,
        subscriber: &str,
        audience: &str,
        now: UnixSeconds,
        lifetime_s: u32,
    ) -> Result<Option<Order>, Error> {
        self.prune(now)?;
        if self.orders.values().filter(|o| o.issued.is_none()).count() >= MAX_OPEN {
            return Ok(None);
        }
        let order = Order {
            id: hex::encode(random::<16>()?),
            nonce: STANDARD.encode(random::<32>()?),
            subscriber: subscriber.to_owned(),
            audience: audience.to_owned(),
            expires: now.plus(u64::from(lifetime_s)),
            issued: None,
            appraisal: None,
            device: None,
        };
        self.save(order.clone())?;
        Ok(Some(order))
    }

    pub(crate) fn get(&self, id: &str) -> Option<&Order> {
        self.orders.get(id)
    }

    /// Whether an order of that id came to a certificate.
    pub(crate) fn is_used(&self, id: &str) -> bool {
        self.get(id).is_some_and(|o| o.issued.is_some())
    }

    /// Whether a certificate with this serial (lower-case hex) came of an order.
    pub(crate) fn has_issued(&self, serial: &str) -> bool {
        self.orders
            .values()
            .any(|o| o.issued.as_ref().is_some_and(|i| i.serial == serial))
    }

    /// Keeps an order. Durable once it returns.
    pub(crate) fn save(&mut self, order: Order) -> Result<(), Error> {
        let bytes = serde_json::to_vec(&order).map_err(|e| Error::Content {
            path: self.file(&order.id),
            problem: e.to_string(),
        })?;
        files::write(&self.file(&order.id), &bytes, 0o600)?;
        self.orders.insert(order.id.clone(), order);
        Ok(())
    }

    fn prune(&mut self, now: UnixSeconds) -> Result<(), Error> {
        // A day's grace, so that a late caller learns "expired" and not "unknown".
        let dead: Vec<_> = self
            .orders
            .values()
            .filter(|o| o.issued.is_none() && now > o.expires.plus(86_400))
            .map(|o| o.id.clone())
            .collect();
        for id in dead {
            let path = self.file(&id);
            std::fs::remove_file(&path).map_err(Error::file(path))?;
            self.orders.remove(&id);
        }
        Ok(())
    }

    /// Ids are ours (hex), never a caller's: they are looked up in the map before a path is made.
    fn file(&self, id: &str) -> PathBuf {
        self.dir.join(format!("{id}.json"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(s: i64) -> UnixSeconds {
        UnixSeconds::new(s).unwrap()
    }

    #[test]
    fn a_used_order_stays_used_over_a_restart() {
        let dir = tempfile::tempdir().unwrap();
        let mut book = OrderBook::open(dir.path()).unwrap();
        let mut order = book.create("acme", "demo", at(0), 60).unwrap().unwrap();
        assert_eq!(order.nonce_bytes().len(), 32);
        assert_eq!(
            (order.status(at(59)), order.status(at(60))),
            ("open", "expired")
        );
        order.issued = Some(Issued {
            serial: "01".into(),
            at: at(1),
            chain: vec![],
        });
        book.save(order.clone()).unwrap();
        let book = OrderBook::open(dir.path()).unwrap();
        assert_eq!(book.get(&order.id), Some(&order));
        assert!(book.is_used(&order.id));
        assert_eq!(order.status(at(60)), "issued");
    }

    #[test]
    fn expired_orders_are_dropped_and_used_ones_are_not() {
        let dir = tempfile::tempdir().unwrap();
        let mut book = OrderBook::open(dir.path()).unwrap();
        let idle = book.create("acme", "demo", at(0), 60).unwrap().unwrap();
        let mut used = book.create("acme", "demo", at(0), 60).unwrap().unwrap();
        used.issued = Some(Issued {
            serial: "01".into(),
            at: at(1),
            chain: vec![],
        });
        book.save(used.clone()).unwrap();
        book.create("acme", "demo", at(60 + 86_401), 60).unwrap();
        assert!(book.get(&idle.id).is_none());
        assert!(book.is_used(&used.id));
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 2);
    }

    #[test]
    fn a_damaged_book_is_not_opened() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("x.json"), b"{").unwrap();
        assert!(matches!(
            OrderBook::open(dir.path()),
            Err(Error::Content { .. })
        ));
    }
}
