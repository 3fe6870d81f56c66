//! Certificates that end soon: once in the tenant's log, once a day in the service's own.

use crate::sequencer::{Refused, Submission};
use crate::tenants::tenant_draft;
use crate::{Service, SigningError};
use countersign_core::Micros;
use countersign_core::ports::revocation::StatusRow;
use countersign_core::ports::store::Effect;
use countersign_signing_log::commitment::HexHash;
use countersign_signing_log::leaf::{CertificateEnding, LeafBody};
use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

/// Certificates looked at at once.
const PAGE: u32 = 500;
/// Lines a day about single certificates; beyond it their number alone is told.
const LINES: usize = 100;
const DAY: i64 = 86_400_000_000;

/// The day (counted from 1970) on which this process last told of each certificate.
#[derive(Debug, Default)]
pub(crate) struct Told(Mutex<HashMap<[u8; 32], i64>>);

impl Told {
    /// Whether it is time to tell of it again. What is of another day is forgotten.
    fn today(&self, certificate: [u8; 32], day: i64) -> bool {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.retain(|_, told| *told == day);
        all.len() < LINES && all.insert(certificate, day).is_none()
    }
}

impl Service {
    /// Warns of certificates that end within the warning time; how many they are.
    pub(super) async fn warn_of_ends(&self) -> Result<u64, SigningError> {
        let now = self.clock().now();
        let until = now.plus(self.revocation().warn_before);
        let (mut after, mut count) = (None, 0u64);
        loop {
            let rows = self.store().ending(now, until, after, PAGE).await?;
            let Some(last) = rows.last() else { break };
            after = Some((last.not_after, last.key));
            for row in rows {
                count += 1;
                self.warn_of(&row, now).await?;
            }
        }
        if count > LINES as u64 {
            tracing::warn!(count, "certificates end soon");
        }
        Ok(count)
    }

    async fn warn_of(&self, row: &StatusRow, now: Micros) -> Result<(), SigningError> {
        let (tenant, key) = (row.tenant, row.key);
        if self.told().today(row.sha256, now.0.div_euclid(DAY)) {
            let days = row.not_after.0.saturating_sub(now.0).div_euclid(DAY);
            tracing::warn!(%tenant, %key, serial = row.serial, days, "a certificate ends soon");
        }
        if row.warned {
            return Ok(());
        }
        let body = CertificateEnding {
            key: key.to_string(),
            certificate_sha256: HexHash(row.sha256),
            not_after: u64::try_from(row.not_after.0).unwrap_or_default(),
        };
        let submission = Submission {
            drafts: vec![tenant_draft(
                tenant,
                LeafBody::CertificateEnding(body),
                None,
            )],
            effects: vec![Effect::MarkEnding(tenant, key, row.sha256)],
            ..Submission::default()
        };
        match self.sequencer().write_surely(submission).await {
            // Another node was first, or the certificate was renewed this moment.
            Ok(_) | Err(Refused::Error(SigningError::Conflict { .. })) => Ok(()),
            Err(e) => Err(e.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_certificate_is_told_of_once_a_day() {
        let told = Told::default();
        assert!(told.today([1; 32], 5));
        assert!(!told.today([1; 32], 5));
        assert!(told.today([2; 32], 5));
        assert!(told.today([1; 32], 6));
        for n in 0..200u8 {
            told.today([n; 32], 7);
        }
        assert!(!told.today([250; 32], 7), "no flood");
        assert!(told.today([250; 32], 8));
    }
}
