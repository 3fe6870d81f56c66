//! One list: fetched, judged, applied to every certificate that is looked up in it.

use super::status::moment;
use crate::sequencer::{Refused, Submission};
use crate::tenants::{cut, tenant_draft};
use crate::{Service, SigningError};
use countersign_core::ports::revocation::{
    CertificateStatus, ListId, ListPolled, ListRow, StatusRow,
};
use countersign_core::ports::rows::{CertificateRow, KeyRow};
use countersign_core::ports::store::Effect;
use countersign_core::{KeyEvent, KeyId, KeyState, Micros, TenantId};
use countersign_signing_log::commitment::HexHash;
use countersign_signing_log::leaf;
use countersign_signing_log::leaf::{CertificateStatusChanged, KeyStateChanged, LeafBody};
use countersign_x509::cert::Certificate;
use countersign_x509::crl::{CertificateList, MAX_CRL, Reason, Seen, Status, distribution_urls};
use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

/// How long a claim on a list lasts at most: longer than fetching and applying it takes.
const CLAIM: Duration = Duration::from_secs(120);
/// And at least.
const SHORTEST_CLAIM: Duration = Duration::from_secs(5);
/// A list that nobody is looked up in is fetched once a day, to be known when it is needed again.
const IDLE: Duration = Duration::from_secs(86_400);
/// Certificates looked up at once.
const PAGE: u32 = 500;
/// How often a status is written again because something changed under it.
const TRIES: usize = 8;
/// The longest reason kept.
const MAX_WHY: usize = 400;

impl Service {
    /// Looks at one list, if no other node does. What becomes of it is in the database when this
    /// returns.
    pub(super) async fn poll_list(&self, row: ListRow) {
        let begun = self.clock().now();
        let settings = self.revocation();
        match self
            .store()
            .claim_list(&row.id, row.next_poll, begun.plus(claim_for(settings.poll)))
            .await
        {
            Ok(true) => {}
            Ok(false) => return,
            Err(e) => {
                tracing::warn!(error = %e, "a revocation list waits for the database");
                return;
            }
        }
        // Sooner than usual after a failure, but not at once.
        let again = (settings.poll / 3).clamp(Duration::from_secs(1), Duration::from_secs(300));
        let polled = match self.fetch_list(&row).await {
            Ok(list) => match self.apply(&row.id, &list, begun).await {
                Ok(count) => ListPolled::Good {
                    at: begun,
                    this_update: list.this_update(),
                    number: list.number().map(<[u8]>::to_vec),
                    next_poll: begun.plus(if count > 0 { settings.poll } else { IDLE }),
                },
                Err(e) => {
                    tracing::warn!(list = %row.id.urls, error = %e, "what a revocation list says could not be written");
                    ListPolled::Problem {
                        why: "what it says could not be written to the log".to_owned(),
                        next_poll: self.clock().now().plus(Duration::from_secs(1)),
                    }
                }
            },
            Err(why) => {
                tracing::warn!(list = %row.id.urls, why, last_good = row.good.map(moment), "no news from a revocation list");
                ListPolled::Problem {
                    why,
                    next_poll: self.clock().now().plus(again),
                }
            }
        };
        match self.store().list_polled(&row.id, &polled).await {
            Ok(()) => {
                if let ListPolled::Good { at, .. } = polled {
                    self.freshness().good(&row.id, at);
                }
            }
            Err(e) => tracing::warn!(error = %e, "a look at a revocation list was not kept"),
        }
    }

    /// Looks up one certificate now, without waiting for its list's turn: right after it was
    /// installed. What cannot be learned now is learned at the next poll.
    pub(crate) async fn look_up_now(&self, tenant: TenantId, key: KeyId) {
        if let Err(e) = self.try_look_up(tenant, key).await {
            tracing::warn!(%tenant, %key, error = %e, "a certificate was not looked up yet");
        }
    }

    async fn try_look_up(&self, tenant: TenantId, key: KeyId) -> Result<(), SigningError> {
        let begun = self.clock().now();
        let Some(row) = self.store().certificate_status(tenant, key).await? else {
            return Ok(());
        };
        let Some(id) = &row.list else { return Ok(()) };
        let Some(list_row) = self.store().revocation_list(id).await? else {
            return Ok(());
        };
        match self.fetch_list(&list_row).await {
            Ok(list) => {
                let serial = serial_octets(&row.serial);
                let status = list.status_of(&serial);
                self.learn(row, status, &list, begun).await
            }
            Err(why) => {
                tracing::warn!(list = %id.urls, why, "no news from a revocation list");
                let polled = ListPolled::Problem {
                    why,
                    next_poll: list_row.next_poll,
                };
                Ok(self.store().list_polled(id, &polled).await?)
            }
        }
    }

    /// Fetches a list and judges it: signature, issuer, scope, validity, and not older than the
    /// newest seen. Several URLs are tried in their order.
    async fn fetch_list(&self, row: &ListRow) -> Result<Arc<CertificateList>, String> {
        let named: Vec<String> = row.id.urls.lines().map(str::to_owned).collect();
        let issuer = Certificate::from_der(&row.certificate).map_err(|_| {
            "the issuing CA's certificate did not come with the chain: install it again with its issuer"
                .to_owned()
        })?;
        let from = match self.revocation().mirrors.get(&row.id.issuer) {
            Some(mirror) => vec![mirror.clone()],
            None => named.clone(),
        };
        let mut problems = Vec::new();
        for url in &from {
            let bytes = match self.lists().fetch(url, MAX_CRL).await {
                Ok(bytes) => bytes,
                Err(e) => {
                    problems.push(format!("{url}: {e}"));
                    continue;
                }
            };
            let seen = row.this_update.map(|this_update| Seen {
                this_update,
                number: row.number.clone(),
            });
            let (issuer, named, now) = (issuer.clone(), named.clone(), self.clock().now());
            // A list of megabytes takes a while: beside the reactor, not on it.
            let judged = tokio::task::spawn_blocking(move || {
                let list = CertificateList::from_der(bytes).map_err(|e| e.to_string())?;
                list.check(&issuer, &named, now)
                    .map_err(|e| e.to_string())?;
                if seen.is_some_and(|s| list.older_than(&s)) {
                    return Err("it is older than one seen before".to_owned());
                }
                Ok(list)
            })
            .await
            .unwrap_or_else(|_| Err("it could not be read".to_owned()));
            match judged {
                Ok(list) => return Ok(Arc::new(list)),
                Err(why) => problems.push(format!("{url}: {why}")),
            }
        }
        if problems.is_empty() {
            problems.push("the certificate names no complete list of its CA".to_owned());
        }
        Err(problems.join("; ").chars().take(MAX_WHY).collect())
    }

    /// Looks everybody up; how many that were. What cannot be written now does not keep the others
    /// from being written.
    async fn apply(
        &self,
        id: &ListId,
        list: &Arc<CertificateList>,
        at: Micros,
    ) -> Result<usize, SigningError> {
        let (mut after, mut count, mut failed) = (None, 0usize, None);
        loop {
            let rows = self.store().listed(id, at, after, PAGE).await?;
            let Some(last) = rows.last() else { break };
            after = Some((last.not_after, last.key));
            let serials: HashSet<Vec<u8>> = rows.iter().map(|r| serial_octets(&r.serial)).collect();
            let of = Arc::clone(list);
            let listed = tokio::task::spawn_blocking(move || of.find(&serials))
                .await
                .map_err(|e| SigningError::Internal(format!("revocation list: {e}")))?;
            for row in rows {
                count += 1;
                let status = listed
                    .get(&serial_octets(&row.serial))
                    .copied()
                    .unwrap_or(Status::Good);
                if let Err(e) = self.learn(row, status, list, at).await {
                    failed = Some(e);
                }
            }
        }
        failed.map_or(Ok(count), Err)
    }

    /// Writes what was learned of a certificate, if it is new: status, leaf and, for a revocation, the
    /// key's state in one commit. When it returns, no authorisation under the old status follows.
    async fn learn(
        &self,
        mut row: StatusRow,
        found: Status,
        list: &CertificateList,
        at: Micros,
    ) -> Result<(), SigningError> {
        for _ in 0..TRIES {
            let Some(next) = after(&row, found, at) else {
                return Ok(());
            };
            let Some(key) = self.store().key(row.tenant, row.key).await? else {
                return Ok(());
            };
            match self
                .sequencer()
                .write_surely(news(&row, &next, &key, list))
                .await
            {
                Ok(_) => {
                    self.snapshots().forget(row.tenant);
                    tell(&next);
                    return Ok(());
                }
                // The certificate was renewed, the key moved, or another node was first: look again.
                Err(Refused::Stale | Refused::Error(SigningError::Conflict { .. })) => {
                    let now = self.store().certificate_status(row.tenant, row.key).await?;
                    match now {
                        Some(now) if now.sha256 == row.sha256 => row = now,
                        _ => return Ok(()),
                    }
                }
                Err(e) => return Err(e.into()),
            }
        }
        Err(SigningError::Unavailable(
            "the key is being changed at this moment".into(),
        ))
    }

    /// Certificates that were installed before statuses were kept get their list.
    pub(super) async fn list_the_unlisted(&self) {
        let rows = match self.store().unlisted(PAGE).await {
            Ok(rows) => rows,
            Err(e) => {
                tracing::warn!(error = %e, "certificates without a list were not looked for");
                return;
            }
        };
        for row in rows {
            let (tenant, key) = (row.tenant, row.key);
            let done = async {
                let Some(certificate) = self.store().certificate(tenant, key).await? else {
                    return Ok(());
                };
                let issuer = certificate.chain.get(1).cloned().unwrap_or_default();
                let submission = Submission {
                    effects: vec![follow(&certificate, &issuer)],
                    ..Submission::default()
                };
                self.commit(tenant, submission).await
            };
            if let Err(e) = done.await {
                tracing::warn!(%tenant, %key, error = %e, "a certificate was not listed yet");
            }
        }
    }
}

/// How long a node keeps others from a list. One that dies meanwhile keeps it for so long too: no
/// longer than the list would have rested anyway, or the news would grow old for nothing. Where the
/// look takes longer, another node looks as well, which does no harm.
fn claim_for(poll: Duration) -> Duration {
    poll.clamp(SHORTEST_CLAIM, CLAIM)
}

/// The effect by which a certificate that is installed is looked up from now on, in the list that it
/// names, signed by its issuer (DER).
pub(crate) fn follow(certificate: &CertificateRow, issuer: &[u8]) -> Effect {
    use sha2::Digest as _;
    let urls = certificate
        .chain
        .first()
        .and_then(|leaf| Certificate::from_der(leaf).ok())
        .map(|leaf| distribution_urls(&leaf).join("\n"))
        .unwrap_or_default();
    let row = StatusRow {
        tenant: certificate.tenant,
        key: certificate.key,
        sha256: certificate.sha256,
        serial: certificate.serial.clone(),
        not_after: certificate.not_after,
        list: Some(ListId {
            issuer: sha2::Sha256::digest(issuer).into(),
            urls,
        }),
        status: CertificateStatus::Unknown,
        since: certificate.installed,
        checked: None,
        revoked_at: None,
        reason: None,
        warned: false,
    };
    Effect::FollowCertificate(Box::new(row), issuer.to_vec())
}

/// The status after what a list says; `None` if it says nothing new. Revoked is for ever; a hold that
/// was lifted is good again (RFC 5280 §5.3.1).
fn after(row: &StatusRow, found: Status, at: Micros) -> Option<StatusRow> {
    use CertificateStatus as S;
    let (status, revoked_at, reason) = match found {
        Status::Good => (S::Good, None, None),
        Status::Revoked { at, reason } => {
            let status = if reason == Reason::CertificateHold {
                S::OnHold
            } else {
                S::Revoked
            };
            (status, Some(at), Some(reason.as_str().to_owned()))
        }
    };
    if row.status == S::Revoked || row.status == status {
        return None;
    }
    Some(StatusRow {
        status,
        since: at,
        checked: Some(at),
        revoked_at,
        reason,
        ..row.clone()
    })
}

/// Where a revocation takes a key: compromised if the CA says so, else suspended, for its owner to
/// look at. A hold, and good news, move nothing: a person's suspension stays a person's.
fn event(status: &StatusRow, state: KeyState) -> Option<(KeyEvent, KeyState)> {
    if status.status != CertificateStatus::Revoked {
        return None;
    }
    let compromised = status.reason.as_deref() == Some(Reason::KeyCompromise.as_str());
    let event = if compromised {
        KeyEvent::Compromise
    } else {
        KeyEvent::Suspend
    };
    state.after(event).ok().map(|to| (event, to))
}

/// One commit: status, its leaf, and the key's state with its leaf.
fn news(row: &StatusRow, next: &StatusRow, key: &KeyRow, list: &CertificateList) -> Submission {
    let micros = |m: Micros| u64::try_from(m.0).unwrap_or_default();
    let body = CertificateStatusChanged {
        key: row.key.to_string(),
        certificate_sha256: HexHash(row.sha256),
        status: match next.status {
            CertificateStatus::Good | CertificateStatus::Unknown => leaf::CertificateStatus::Good,
            CertificateStatus::OnHold => leaf::CertificateStatus::OnHold,
            CertificateStatus::Revoked => leaf::CertificateStatus::Revoked,
        },
        revoked_at: next.revoked_at.map(micros),
        reason: next.reason.clone(),
        crl_number: list.number().map(hex::encode),
        this_update: micros(list.this_update()),
    };
    let mut submission = Submission {
        drafts: vec![tenant_draft(
            row.tenant,
            LeafBody::CertificateStatusChanged(body),
            None,
        )],
        effects: vec![Effect::SetCertificateStatus {
            from: row.status,
            row: Box::new(next.clone()),
        }],
        ..Submission::default()
    };
    if let Some((_, to)) = event(next, key.state) {
        let why = format!(
            "certificate revoked by its CA: {}",
            next.reason.as_deref().unwrap_or("unspecified")
        );
        let body = KeyStateChanged {
            key: row.key.to_string(),
            from: key.state.to_string(),
            to: to.to_string(),
            reason: Some(cut(&why)),
        };
        submission.drafts.push(tenant_draft(
            row.tenant,
            LeafBody::KeyStateChanged(body),
            None,
        ));
        submission.effects.push(Effect::SetKeyState {
            tenant: row.tenant,
            key: row.key,
            from: key.state,
            to,
        });
    }
    submission
}

/// In the service's own log: a revocation is for the operator to see too.
fn tell(now: &StatusRow) {
    let (tenant, key, status) = (now.tenant, now.key, now.status.as_str());
    match now.status {
        CertificateStatus::Revoked | CertificateStatus::OnHold => {
            tracing::warn!(%tenant, %key, status, reason = now.reason, "a certificate was revoked by its CA: its key signs no more");
        }
        CertificateStatus::Good | CertificateStatus::Unknown => {
            tracing::info!(%tenant, %key, status, "a certificate's status is known");
        }
    }
}

/// A serial number in hex, as the content octets of its INTEGER.
fn serial_octets(hex_text: &str) -> Vec<u8> {
    let digits = hex::decode(hex_text).unwrap_or_default();
    let mut octets = countersign_x509::asn1::strip_zeros(&digits).to_vec();
    if octets.first().is_some_and(|b| b & 0x80 != 0) {
        octets.insert(0, 0);
    }
    octets
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(status: CertificateStatus) -> StatusRow {
        StatusRow {
            tenant: TenantId::new(),
            key: KeyId::new(),
            sha256: [1; 32],
            serial: "8182".into(),
            not_after: Micros(100),
            list: None,
            status,
            since: Micros(1),
            checked: None,
            revoked_at: None,
            reason: None,
            warned: false,
        }
    }

    fn listed(reason: Reason) -> Status {
        Status::Revoked {
            at: Micros(7),
            reason,
        }
    }

    #[test]
    fn a_dead_node_keeps_a_list_no_longer_than_it_rests() {
        assert_eq!(claim_for(Duration::from_secs(1)), SHORTEST_CLAIM);
        assert_eq!(claim_for(Duration::from_secs(60)), Duration::from_secs(60));
        assert_eq!(claim_for(Duration::from_secs(3600)), CLAIM);
    }

    #[test]
    fn a_status_moves_as_the_list_says_and_revoked_is_for_ever() {
        use CertificateStatus as S;
        let to = |from, found| after(&row(from), found, Micros(9)).map(|r| r.status);
        let (hold, gone) = (
            listed(Reason::CertificateHold),
            listed(Reason::KeyCompromise),
        );
        for (from, found, expected) in [
            (S::Unknown, Status::Good, Some(S::Good)),
            (S::Unknown, hold, Some(S::OnHold)),
            (S::Unknown, gone, Some(S::Revoked)),
            (S::Good, Status::Good, None),
            (S::Good, hold, Some(S::OnHold)),
            (S::Good, gone, Some(S::Revoked)),
            (S::OnHold, hold, None),
            (S::OnHold, Status::Good, Some(S::Good)),
            (S::OnHold, gone, Some(S::Revoked)),
            (S::Revoked, Status::Good, None),
            (S::Revoked, hold, None),
            (S::Revoked, gone, None),
        ] {
            assert_eq!(to(from, found), expected, "{from:?} {found:?}");
        }
        let lifted = after(&row(S::OnHold), Status::Good, Micros(9)).unwrap();
        assert_eq!((lifted.revoked_at, lifted.reason), (None, None));
    }

    #[test]
    fn a_key_goes_where_its_certificates_end_takes_it() {
        use KeyState as K;
        let of = |reason, state| {
            let mut r = row(CertificateStatus::Good);
            r = after(&r, listed(reason), Micros(9)).unwrap_or(r);
            event(&r, state).map(|(_, to)| to)
        };
        for (reason, state, expected) in [
            (Reason::KeyCompromise, K::Active, Some(K::Compromised)),
            (Reason::KeyCompromise, K::Suspended, Some(K::Compromised)),
            (Reason::KeyCompromise, K::Compromised, None),
            (Reason::Superseded, K::Active, Some(K::Suspended)),
            (Reason::Unspecified, K::Active, Some(K::Suspended)),
            (Reason::CaCompromise, K::Active, Some(K::Suspended)),
            (Reason::Superseded, K::Suspended, None),
            (Reason::CertificateHold, K::Active, None),
        ] {
            assert_eq!(of(reason, state), expected, "{reason} {state}");
        }
    }

    #[test]
    fn serial_numbers_keep_their_sign_octet() {
        assert_eq!(serial_octets("8182"), [0, 0x81, 0x82]);
        assert_eq!(serial_octets("0102"), [1, 2]);
        assert_eq!(serial_octets("000081"), [0, 0x81]);
        assert_eq!(serial_octets(""), Vec::<u8>::new());
    }
}
