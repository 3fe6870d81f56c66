//! What a decision needs to know of a certificate's status, and the decision.

use crate::{Service, SigningError};
use countersign_attestation::time::UnixSeconds;
use countersign_core::ports::revocation::{CertificateStatus, ListId, StatusRow};
use countersign_core::{KeyId, Micros, TenantId};
use std::collections::HashMap;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// When each list was last good, as far as this node knows. Moved by this node's own polls; where it
/// lags behind another node's, the decision that finds it too old reads the database again.
#[derive(Debug, Default)]
pub(crate) struct Freshness(Mutex<HashMap<ListId, Arc<AtomicI64>>>);

impl Freshness {
    /// The list was good then.
    pub(crate) fn good(&self, list: &ListId, at: Micros) {
        self.of(list).fetch_max(at.0, Ordering::AcqRel);
    }

    fn of(&self, list: &ListId) -> Arc<AtomicI64> {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(
            all.entry(list.clone())
                .or_insert_with(|| Arc::new(AtomicI64::new(i64::MIN))),
        )
    }
}

/// What is known of the certificate in use of a key.
#[derive(Debug, Clone)]
pub(crate) struct Known {
    pub row: Option<StatusRow>,
    good: Option<Arc<AtomicI64>>,
    problem: Option<String>,
}

/// What is known of a certificate, as it is shown to people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CertificateNews {
    /// What its CA's list says.
    pub status: CertificateStatus,
    /// Since when the service knows it.
    pub since: Micros,
    /// When its list was last looked at with success.
    pub checked: Option<Micros>,
    /// The CA's revocation date.
    pub revoked_at: Option<Micros>,
    /// The CA's reason (RFC 5280 §5.3.1).
    pub reason: Option<String>,
    /// Why the last look came to nothing.
    pub problem: Option<String>,
    /// Its end.
    pub not_after: Micros,
    /// Whole days until its end; negative after it.
    pub ends_in_days: i64,
    /// What its owner should know now, in words.
    pub warnings: Vec<String>,
}

impl Known {
    /// Whether a signature may be made with `certificate` at `now`.
    pub(crate) fn judge(
        &self,
        certificate: &[u8; 32],
        installed: Micros,
        now: Micros,
        max_age: Duration,
    ) -> Result<(), SigningError> {
        let unknown = |since, why: &str| SigningError::CertificateStatusUnknown {
            since,
            why: self.problem.clone().unwrap_or_else(|| why.to_owned()),
        };
        let row = match &self.row {
            Some(row) if row.sha256 == *certificate => row,
            _ => return Err(unknown(installed, "it was not looked up yet")),
        };
        match row.status {
            CertificateStatus::Revoked | CertificateStatus::OnHold => Err(revoked(row)),
            CertificateStatus::Unknown => Err(unknown(row.since, "it was not looked up yet")),
            CertificateStatus::Good => {
                let checked = self.checked().unwrap_or(row.since);
                if now <= checked.plus(max_age) {
                    Ok(())
                } else {
                    Err(unknown(checked, "its CA's list was not looked at since"))
                }
            }
        }
    }

    /// Why a signer none of whose keys signs does not: the CA revoked the certificate of the newest.
    pub(crate) fn revocation(&self) -> Option<SigningError> {
        self.row
            .as_ref()
            .filter(|r| r.status == CertificateStatus::Revoked)
            .map(revoked)
    }

    /// When the list was last good with this certificate among those looked up.
    fn checked(&self) -> Option<Micros> {
        let of_all = self
            .good
            .as_ref()
            .map(|g| Micros(g.load(Ordering::Acquire)))
            .filter(|m| m.0 > i64::MIN);
        of_all.max(self.row.as_ref().and_then(|r| r.checked))
    }

    /// What is known, for people.
    pub(crate) fn news(
        &self,
        now: Micros,
        warn_before: Duration,
        max_age: Duration,
    ) -> Option<CertificateNews> {
        let row = self.row.as_ref()?;
        let ends_in = row.not_after.0.saturating_sub(now.0);
        let days = ends_in.div_euclid(86_400_000_000);
        let mut warnings = Vec::new();
        if ends_in < 0 {
            warnings.push("the certificate has ended: order a new one".to_owned());
        } else if now.plus(warn_before) >= row.not_after {
            warnings.push(format!(
                "the certificate ends in {days} days: order a new one before it does"
            ));
        }
        match self.judge(&row.sha256, row.since, now, max_age) {
            Ok(()) => {
                if let Some(why) = &self.problem {
                    warnings.push(format!(
                        "the last look at the CA's revocation list came to nothing ({why}); signing \
                         goes on until the last good look is {} hours old",
                        max_age.as_secs() / 3600
                    ));
                }
            }
            Err(e) => warnings.push(e.to_string()),
        }
        Some(CertificateNews {
            status: row.status,
            since: row.since,
            checked: self.checked(),
            revoked_at: row.revoked_at,
            reason: row.reason.clone(),
            problem: self.problem.clone(),
            not_after: row.not_after,
            ends_in_days: days,
            warnings,
        })
    }
}

fn revoked(row: &StatusRow) -> SigningError {
    SigningError::CertificateRevoked {
        since: row.revoked_at.unwrap_or(row.since),
        reason: row.reason.clone().unwrap_or_default(),
        on_hold: row.status == CertificateStatus::OnHold,
    }
}

/// A moment for people.
pub(crate) fn moment(at: Micros) -> String {
    UnixSeconds::from_micros(at.0).map_or_else(|| at.0.to_string(), |s| s.to_string())
}

impl Service {
    /// What is known of a key's certificate, read now.
    pub(crate) async fn known(&self, tenant: TenantId, key: KeyId) -> Result<Known, SigningError> {
        let row = self.store().certificate_status(tenant, key).await?;
        self.known_of(row).await
    }

    pub(crate) async fn known_of(&self, row: Option<StatusRow>) -> Result<Known, SigningError> {
        let mut known = Known {
            row,
            good: None,
            problem: None,
        };
        if let Some(id) = known.row.as_ref().and_then(|r| r.list.as_ref()) {
            if let Some(list) = self.store().revocation_list(id).await? {
                if let Some(good) = list.good {
                    self.freshness().good(id, good);
                }
                known.problem = list.problem;
            }
            known.good = Some(self.freshness().of(id));
        }
        Ok(known)
    }

    /// What is known of all of a tenant's certificates. Each list is read once.
    pub(crate) async fn news_of_all(
        &self,
        tenant: TenantId,
    ) -> Result<HashMap<KeyId, CertificateNews>, SigningError> {
        let mut lists: HashMap<ListId, Known> = HashMap::new();
        let mut all = HashMap::new();
        for row in self.store().certificate_statuses(tenant).await? {
            let key = row.key;
            let known = match row.list.as_ref().and_then(|id| lists.get(id)) {
                Some(of_list) => Known {
                    row: Some(row),
                    ..of_list.clone()
                },
                None => {
                    let known = self.known_of(Some(row)).await?;
                    if let Some(id) = known.row.as_ref().and_then(|r| r.list.clone()) {
                        lists.insert(id, known.clone());
                    }
                    known
                }
            };
            if let Some(news) = self.news_of(&known) {
                all.insert(key, news);
            }
        }
        Ok(all)
    }

    pub(crate) fn news_of(&self, known: &Known) -> Option<CertificateNews> {
        let settings = self.revocation();
        known.news(self.clock().now(), settings.warn_before, settings.max_age)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use countersign_core::KeyId;

    const HOUR: i64 = 3_600_000_000;
    const DAY: Duration = Duration::from_secs(86_400);

    fn known(status: CertificateStatus, checked: i64, good: Option<i64>) -> Known {
        let list = ListId {
            issuer: [1; 32],
            urls: "http://ca.test/a.crl".into(),
        };
        let freshness = Freshness::default();
        if let Some(at) = good {
            freshness.good(&list, Micros(at));
        }
        Known {
            good: Some(freshness.of(&list)),
            row: Some(StatusRow {
                tenant: TenantId::new(),
                key: KeyId::new(),
                sha256: [7; 32],
                serial: "01".into(),
                not_after: Micros(1000 * HOUR),
                list: Some(list),
                status,
                since: Micros(5),
                checked: Some(Micros(checked)),
                revoked_at: (status == CertificateStatus::Revoked).then_some(Micros(3)),
                reason: (status == CertificateStatus::Revoked).then(|| "superseded".into()),
                warned: false,
            }),
            problem: None,
        }
    }

    fn judge(k: &Known, at: i64) -> Result<(), SigningError> {
        k.judge(&[7; 32], Micros(1), Micros(at), DAY)
    }

    #[test]
    fn a_good_certificate_signs_until_the_last_look_is_too_old() {
        let day = 24 * HOUR;
        let k = known(CertificateStatus::Good, HOUR, None);
        assert_eq!(judge(&k, HOUR + day), Ok(()));
        assert!(matches!(
            judge(&k, HOUR + day + 1),
            Err(SigningError::CertificateStatusUnknown { since, .. }) if since == Micros(HOUR)
        ));
        // The list was good later than when this certificate was first looked up in it.
        let k = known(CertificateStatus::Good, HOUR, Some(9 * HOUR));
        assert_eq!(judge(&k, 9 * HOUR + day), Ok(()));
        assert!(judge(&k, 9 * HOUR + day + 1).is_err());
        // An older word of the database takes nothing back.
        k.good
            .as_ref()
            .unwrap()
            .fetch_max(2 * HOUR, Ordering::AcqRel);
        assert_eq!(judge(&k, 9 * HOUR + day), Ok(()));
    }

    #[test]
    fn what_is_not_known_to_be_good_does_not_sign() {
        for status in [CertificateStatus::Revoked, CertificateStatus::OnHold] {
            let k = known(status, HOUR, Some(HOUR));
            assert!(matches!(
                judge(&k, HOUR),
                Err(SigningError::CertificateRevoked { on_hold, .. })
                    if on_hold == (status == CertificateStatus::OnHold)
            ));
            assert_eq!(
                k.revocation().is_some(),
                status == CertificateStatus::Revoked
            );
        }
        let unknown = |k: &Known, certificate| {
            matches!(
                k.judge(&certificate, Micros(1), Micros(HOUR), DAY),
                Err(SigningError::CertificateStatusUnknown { .. })
            )
        };
        let k = known(CertificateStatus::Unknown, HOUR, Some(HOUR));
        assert!(unknown(&k, [7; 32]));
        // What is known of another certificate is not known of this one.
        let k = known(CertificateStatus::Good, HOUR, Some(HOUR));
        assert!(unknown(&k, [8; 32]));
        let nothing = Known {
            row: None,
            good: None,
            problem: Some("the server of the list cannot be reached".into()),
        };
        let e = nothing
            .judge(&[7; 32], Micros(1), Micros(HOUR), DAY)
            .unwrap_err();
        assert!(e.to_string().contains("cannot be reached"), "{e}");
    }

    #[test]
    fn an_owner_is_warned_of_the_end_and_of_a_list_that_is_not_had() {
        let news = |k: &Known, at| k.news(Micros(at), DAY, DAY).unwrap();
        let k = known(CertificateStatus::Good, 976 * HOUR, None);
        assert_eq!(news(&k, 975 * HOUR).warnings, Vec::<String>::new());
        let n = news(&k, 976 * HOUR);
        assert_eq!(n.ends_in_days, 1);
        assert!(n.warnings[0].contains("ends in 1 days"), "{n:?}");
        let n = news(&k, 1001 * HOUR);
        assert!(
            n.ends_in_days < 0 && n.warnings[0].contains("has ended"),
            "{n:?}"
        );
        let k = Known {
            problem: Some("the list is too large".into()),
            ..known(CertificateStatus::Good, 900 * HOUR, None)
        };
        let n = news(&k, 901 * HOUR);
        assert!(n.warnings[0].contains("the list is too large"), "{n:?}");
    }
}
