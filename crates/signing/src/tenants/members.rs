//! Whose tokens a tenant accepts, and what people may do.

use super::{by, tenant_draft, text};
use crate::caller::Caller;
use crate::sequencer::{DetailsDraft, Submission};
use crate::use_key::text_opening;
use crate::{Service, SigningError};
use countersign_core::ports::rows::{IssuerKind, IssuerRow, MemberRow, Role};
use countersign_core::ports::store::Effect;
use countersign_core::{RequestId, TenantId, TenantName};
use countersign_signing_log::commitment::LABEL_SUBJECT;
use countersign_signing_log::leaf::{
    IssuerRegistered, IssuerRemoved, LeafBody, MemberAdded, MemberRemoved,
};
use std::net::IpAddr;

/// Oldest maximum token age that may be set, in seconds.
const MAX_TOKEN_AGE: u32 = 24 * 3600;

/// An issuer as an admin registers it.
#[derive(Debug, Clone)]
pub struct IssuerSpec {
    /// Exact `iss`, an https URL.
    pub issuer: String,
    /// Whose tokens.
    pub kind: IssuerKind,
    /// The one audience accepted.
    pub audience: String,
    /// Oldest token accepted, in seconds.
    pub max_token_age_s: u32,
    /// `amr` values that count as MFA.
    pub mfa_amr: Vec<String>,
    /// `acr` values that count as MFA.
    pub mfa_acr: Vec<String>,
    /// PEM roots for the issuer's TLS.
    pub ca_pem: Option<String>,
    /// Public OAuth client id.
    pub client_id: Option<String>,
}

impl Service {
    /// Registers or replaces an issuer.
    ///
    /// # Errors
    /// [`SigningError::Invalid`] names the field.
    pub async fn put_issuer(
        &self,
        caller: &Caller,
        name: &TenantName,
        spec: IssuerSpec,
        rid: &RequestId,
    ) -> Result<IssuerRow, SigningError> {
        let tenant = self.admin(caller, name, rid).await?;
        let row = issuer_row(tenant.id, spec, self.settings().loopback_issuers)?;
        self.within_caps(&Effect::PutIssuer(row.clone())).await?;
        let mut after = self.store().issuers(tenant.id).await?;
        after.retain(|i| i.issuer != row.issuer);
        after.push(row.clone());
        if self.locks_out(tenant.id, &after).await? {
            return Err(SigningError::invalid(
                "kind",
                "no administrator could log in any more",
            ));
        }
        let mut submission = Submission::default();
        draft_issuer(&mut submission, row.clone(), rid, Some(caller));
        submission.guard = Some(tenant.guard());
        self.commit(tenant.id, submission).await?;
        Ok(row)
    }

    /// Removes an issuer. From then on none of its tokens is taken, none of its people has a role,
    /// and no grant for it allows anything; members and grants stay, for the day it comes back.
    ///
    /// # Errors
    /// [`SigningError::Conflict`] if no administrator could log in any more, unless `force`;
    /// [`SigningError::NotFound`].
    pub async fn remove_issuer(
        &self,
        caller: &Caller,
        name: &TenantName,
        issuer: &str,
        force: bool,
        rid: &RequestId,
    ) -> Result<(), SigningError> {
        let tenant = self.admin(caller, name, rid).await?;
        let mut after = self.store().issuers(tenant.id).await?;
        let before = after.len();
        after.retain(|i| i.issuer != issuer);
        if after.len() == before {
            return Err(SigningError::NotFound);
        }
        if !force && self.locks_out(tenant.id, &after).await? {
            return Err(SigningError::conflict(
                "no administrator could log in any more; only force removes this issuer",
            ));
        }
        let body = IssuerRemoved {
            issuer: issuer.to_owned(),
        };
        let submission = Submission {
            drafts: vec![tenant_draft(
                tenant.id,
                LeafBody::IssuerRemoved(body),
                by(caller, rid),
            )],
            effects: vec![Effect::RemoveIssuer(tenant.id, issuer.to_owned())],
            // Two admins who remove each other's issuer at one moment must not both succeed.
            guard: Some(tenant.guard()),
            ..Submission::default()
        };
        self.commit(tenant.id, submission).await
    }

    /// Whether no admin of the tenant could log in with these issuers.
    async fn locks_out(
        &self,
        tenant: TenantId,
        issuers: &[IssuerRow],
    ) -> Result<bool, SigningError> {
        let members = self.store().members(tenant).await?;
        Ok(!members.iter().any(|m| can_administer(m, issuers)))
    }

    /// The tenant's allow-list.
    ///
    /// # Errors
    /// [`SigningError::Forbidden`].
    pub async fn issuers(
        &self,
        caller: &Caller,
        name: &TenantName,
    ) -> Result<Vec<IssuerRow>, SigningError> {
        Ok(self.store().issuers(self.reader(caller, name)?).await?)
    }

    /// Gives a role.
    ///
    /// # Errors
    /// [`SigningError::Conflict`] if the member has it.
    pub async fn add_member(
        &self,
        caller: &Caller,
        name: &TenantName,
        issuer: &str,
        subject: &str,
        role: Role,
        rid: &RequestId,
    ) -> Result<(), SigningError> {
        self.member(caller, name, issuer, subject, role, true, rid)
            .await
    }

    /// Takes a role. The last admin cannot be removed.
    ///
    /// # Errors
    /// [`SigningError::Conflict`].
    pub async fn remove_member(
        &self,
        caller: &Caller,
        name: &TenantName,
        issuer: &str,
        subject: &str,
        role: Role,
        rid: &RequestId,
    ) -> Result<(), SigningError> {
        self.member(caller, name, issuer, subject, role, false, rid)
            .await
    }

    #[allow(
        clippy::too_many_arguments,
        reason = "one place for adding and removing"
    )]
    async fn member(
        &self,
        caller: &Caller,
        name: &TenantName,
        issuer: &str,
        subject: &str,
        role: Role,
        add: bool,
        rid: &RequestId,
    ) -> Result<(), SigningError> {
        let tenant = self.admin(caller, name, rid).await?;
        if role == Role::Operator {
            return Err(SigningError::invalid("role", "admin or auditor"));
        }
        let row = MemberRow {
            tenant: tenant.id,
            issuer: text("issuer", issuer)?,
            subject: text("subject", subject)?,
            role,
        };
        if !add && role == Role::Admin {
            let members = self.store().members(tenant.id).await?;
            let issuers = self.store().issuers(tenant.id).await?;
            // An admin of an issuer that is not registered could not log in.
            if !members
                .iter()
                .any(|m| *m != row && can_administer(m, &issuers))
            {
                return Err(SigningError::conflict("the last admin cannot be removed"));
            }
        }
        if add {
            self.within_caps(&Effect::AddMember(row.clone())).await?;
        }
        let mut submission = Submission::default();
        draft_member(&mut submission, row, add, rid, Some(caller))?;
        // Two admins who remove each other at one moment must not both succeed.
        submission.guard = Some(tenant.guard());
        self.commit(tenant.id, submission).await
    }

    /// The tenant's members.
    ///
    /// # Errors
    /// [`SigningError::Forbidden`].
    pub async fn members(
        &self,
        caller: &Caller,
        name: &TenantName,
    ) -> Result<Vec<MemberRow>, SigningError> {
        Ok(self.store().members(self.reader(caller, name)?).await?)
    }
}

fn can_administer(member: &MemberRow, issuers: &[IssuerRow]) -> bool {
    member.role == Role::Admin
        && issuers
            .iter()
            .any(|i| i.issuer == member.issuer && i.kind == IssuerKind::People)
}

pub(super) fn draft_issuer(
    submission: &mut Submission,
    row: IssuerRow,
    rid: &RequestId,
    caller: Option<&Caller>,
) {
    let kind = match row.kind {
        IssuerKind::People => "people",
        IssuerKind::Pipelines => "pipelines",
    };
    let body = IssuerRegistered {
        issuer: row.issuer.clone(),
        kind: kind.to_owned(),
        audience: row.audience.clone(),
    };
    let details = caller.map_or_else(
        || {
            Some(DetailsDraft {
                request: Some(rid.to_string()),
                ..DetailsDraft::default()
            })
        },
        |c| by(c, rid),
    );
    submission.drafts.push(tenant_draft(
        row.tenant,
        LeafBody::IssuerRegistered(body),
        details,
    ));
    submission.effects.push(Effect::PutIssuer(row));
}

pub(super) fn draft_member(
    submission: &mut Submission,
    row: MemberRow,
    add: bool,
    rid: &RequestId,
    caller: Option<&Caller>,
) -> Result<(), SigningError> {
    let subject = text_opening(&row.subject)?;
    let commitment = subject.commitment(LABEL_SUBJECT);
    let (issuer, role) = (row.issuer.clone(), row.role.as_str().to_owned());
    let body = if add {
        LeafBody::MemberAdded(MemberAdded {
            issuer,
            subject: commitment,
            role,
        })
    } else {
        LeafBody::MemberRemoved(MemberRemoved {
            issuer,
            subject: commitment,
            role,
        })
    };
    let mut details = caller.and_then(|c| by(c, rid)).unwrap_or_default();
    details.request = Some(rid.to_string());
    details.subject = Some(subject);
    submission
        .drafts
        .push(tenant_draft(row.tenant, body, Some(details)));
    submission.effects.push(if add {
        Effect::AddMember(row)
    } else {
        Effect::RemoveMember(row)
    });
    Ok(())
}

pub(super) fn issuer_row(
    tenant: TenantId,
    spec: IssuerSpec,
    loopback_issuers: bool,
) -> Result<IssuerRow, SigningError> {
    let issuer = text("issuer", &spec.issuer)?;
    issuer_url(&issuer, loopback_issuers)?;
    if !(1..=MAX_TOKEN_AGE).contains(&spec.max_token_age_s) {
        return Err(SigningError::invalid(
            "max_token_age_s",
            format!("1 to {MAX_TOKEN_AGE} seconds"),
        ));
    }
    for (field, values) in [("mfa_amr", &spec.mfa_amr), ("mfa_acr", &spec.mfa_acr)] {
        if values.len() > 16 || values.iter().any(|v| v.is_empty() || v.len() > 256) {
            return Err(SigningError::invalid(
                field,
                "at most 16 values of 1 to 256 characters",
            ));
        }
    }
    if spec.ca_pem.as_ref().is_some_and(|p| p.len() > 64 * 1024) {
        return Err(SigningError::invalid("ca_pem", "at most 64 KiB"));
    }
    Ok(IssuerRow {
        tenant,
        issuer,
        kind: spec.kind,
        audience: text("audience", &spec.audience)?,
        max_token_age_s: spec.max_token_age_s,
        mfa_amr: spec.mfa_amr,
        mfa_acr: spec.mfa_acr,
        ca_pem: spec.ca_pem,
        client_id: spec.client_id.map(|c| text("client_id", &c)).transpose()?,
    })
}

/// OpenID Connect Core §2: an issuer is an https URL, and its keys are only as good as that. Plain
/// http never leaves the machine: loopback, in development.
fn issuer_url(issuer: &str, loopback_issuers: bool) -> Result<(), SigningError> {
    let refused = |detail: &str| Err(SigningError::invalid("issuer", detail));
    let parsed: Option<http::Uri> = issuer.parse().ok();
    let (scheme, host) = parsed
        .as_ref()
        .and_then(|u| Some((u.scheme_str()?, u.host()?)))
        .unwrap_or_default();
    let ip = host.trim_start_matches('[').trim_end_matches(']');
    let loopback = host == "localhost" || ip.parse().is_ok_and(|ip: IpAddr| ip.is_loopback());
    // OpenID Connect Discovery 1.0 §3: scheme, host, port and path, no query or fragment. A user name
    // would be no part of the host that people read in it (RFC 3986 §7.6), and a URI is ASCII (§2).
    let authority = parsed.as_ref().and_then(|u| u.authority());
    let odd = authority.is_some_and(|a| match a.as_str().strip_prefix(a.host()) {
        Some("") => false,
        Some(_port) => a.port_u16().is_none(),
        None => true,
    });
    let plain = issuer
        .bytes()
        .all(|b| b.is_ascii_graphic() && !br#"?#\"<>^`{|}"#.contains(&b));
    if odd || !plain {
        return refused("scheme, host, port and path alone, as in the token's iss");
    }
    match scheme {
        // Keys are looked up by these bytes: one spelling of the scheme.
        "https" if issuer.starts_with("https://") => Ok(()),
        "http" if issuer.starts_with("http://") && loopback && loopback_issuers => Ok(()),
        "http" => refused(
            "an https URL: plain http is for issuers on loopback in a development deployment",
        ),
        _ => refused("an https URL, exactly as in the token's iss"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(issuer: &str, loopback_issuers: bool) -> Result<IssuerRow, SigningError> {
        let spec = IssuerSpec {
            issuer: issuer.to_owned(),
            kind: IssuerKind::Pipelines,
            audience: "https://sign.example".to_owned(),
            max_token_age_s: 600,
            mfa_amr: Vec::new(),
            mfa_acr: Vec::new(),
            ca_pem: None,
            client_id: None,
        };
        issuer_row(TenantId::new(), spec, loopback_issuers)
    }

    #[test]
    fn https_issuers_are_registered_as_written() {
        for issuer in [
            "https://token.actions.githubusercontent.com",
            "https://login.example.com:8443/realms/acme/",
        ] {
            for development in [false, true] {
                assert_eq!(row(issuer, development).unwrap().issuer, issuer);
            }
        }
    }

    #[test]
    fn plain_http_is_for_loopback_in_development() {
        for issuer in [
            "http://127.0.0.1:8080/realm",
            "http://localhost:8080",
            "http://[::1]:8080/realm",
        ] {
            assert!(row(issuer, true).is_ok(), "{issuer}");
            assert!(refused(issuer, false), "{issuer}");
        }
        for issuer in [
            "http://login.example.com",
            "http://10.0.0.1/realm",
            "http://127.0.0.1.example.com/",
            "http://localhost@example.com/",
            "HTTP://127.0.0.1/",
        ] {
            assert!(refused(issuer, true), "{issuer}");
        }
    }

    #[test]
    fn what_is_no_url_of_an_issuer_is_refused() {
        for issuer in [
            "login.example.com",
            "https://",
            "https:///realm",
            "ftp://login.example.com",
            "HTTPS://login.example.com",
            "urn:issuer",
            "https://login@evil.example",
            "https://login.example.com:99999",
            "https://login.example.com:",
            "https://login.example.com\\@evil.example",
            "https://login.example.com?realm=acme",
            "https://login.example.com/#acme",
            "https://login.ex\u{e4}mple.com",
            "https://login.example.com/a b",
        ] {
            assert!(refused(issuer, true), "{issuer}");
        }
    }

    fn refused(issuer: &str, loopback_issuers: bool) -> bool {
        matches!(
            row(issuer, loopback_issuers),
            Err(SigningError::Invalid { field, .. }) if field == "issuer"
        )
    }
}
