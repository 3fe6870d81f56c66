use super::*;
use countersign_core::key_state::TransitionRefused;
use countersign_core::ports::rows::Role;
use countersign_core::{KeyEvent, KeyState, LogId, Micros};
use countersign_grants::Decision;
use std::collections::HashSet;

fn every_signing_error() -> Vec<SigningError> {
    let text = || "secret cause".to_owned();
    let all = vec![
        SigningError::NotFound,
        SigningError::Forbidden { need: Role::Admin },
        SigningError::MfaRequired,
        SigningError::Denied {
            decision: Box::new(Decision {
                allowed: false,
                by: None,
                reasons: vec![],
            }),
        },
        SigningError::TokenNotForSigner,
        SigningError::ContentRefused {
            code: "content-not-der".into(),
            detail: "signed_attributes: not strict DER".into(),
        },
        SigningError::KeyNotActive {
            state: KeyState::Suspended,
        },
        SigningError::NoKey,
        SigningError::CertificateOutsideValidity {
            not_before: Micros(0),
            not_after: Micros(1),
        },
        SigningError::CertificateRevoked {
            since: Micros(0),
            reason: text(),
            on_hold: false,
        },
        SigningError::CertificateStatusUnknown {
            since: Micros(0),
            why: text(),
        },
        SigningError::IdempotencyInFlight,
        SigningError::IdempotencyMismatch,
        SigningError::Limit {
            what: "signers",
            of: "tenant",
            most: 3,
        },
        SigningError::Conflict { what: text() },
        SigningError::Invalid {
            field: "name".into(),
            detail: text(),
        },
        SigningError::Transition(TransitionRefused {
            from: KeyState::Retired,
            event: KeyEvent::Resume,
        }),
        SigningError::Appraisal {
            reasons: vec![text()],
        },
        SigningError::CertificateRejected {
            findings: vec![text()],
        },
        SigningError::CaRefused {
            detail: text(),
            reasons: vec![text()],
        },
        SigningError::CaUnavailable(text()),
        SigningError::Busy,
        SigningError::Unavailable(text()),
        SigningError::HistoryRewound {
            log: LogId::new(),
            worker: 2,
            database: 1,
        },
        SigningError::Buried,
        SigningError::TokenRefuses(text()),
        SigningError::Internal(text()),
    ];
    // Breaks when a variant is added: then it belongs into the list above.
    for e in &all {
        match e {
            SigningError::NotFound
            | SigningError::Forbidden { .. }
            | SigningError::MfaRequired
            | SigningError::Denied { .. }
            | SigningError::TokenNotForSigner
            | SigningError::ContentRefused { .. }
            | SigningError::KeyNotActive { .. }
            | SigningError::NoKey
            | SigningError::CertificateOutsideValidity { .. }
            | SigningError::CertificateRevoked { .. }
            | SigningError::CertificateStatusUnknown { .. }
            | SigningError::IdempotencyInFlight
            | SigningError::IdempotencyMismatch
            | SigningError::Limit { .. }
            | SigningError::Conflict { .. }
            | SigningError::Invalid { .. }
            | SigningError::Transition(_)
            | SigningError::Appraisal { .. }
            | SigningError::CertificateRejected { .. }
            | SigningError::CaRefused { .. }
            | SigningError::CaUnavailable(_)
            | SigningError::Busy
            | SigningError::Unavailable(_)
            | SigningError::HistoryRewound { .. }
            | SigningError::Buried
            | SigningError::TokenRefuses(_)
            | SigningError::Internal(_) => {}
        }
    }
    all
}

fn document(e: SigningError) -> ProblemDocument {
    Problem::from(e).document(&RequestId::new())
}

#[test]
fn every_variant_has_a_row_of_its_own() {
    let errors = every_signing_error();
    let kinds: HashSet<_> = errors.iter().map(kind_of).collect();
    assert_eq!(kinds.len(), errors.len());
}

#[test]
fn codes_are_unique_and_statuses_are_errors() {
    let codes: HashSet<_> = Kind::ALL.iter().map(|k| k.row().code).collect();
    assert_eq!(codes.len(), Kind::ALL.len());
    for kind in Kind::ALL {
        let row = kind.row();
        assert!(row.status.as_u16() >= 400, "{row:?}");
        assert!(
            !row.title.is_empty() && !row.title.ends_with('.'),
            "{row:?}"
        );
        assert!(
            row.code
                .bytes()
                .all(|b| b.is_ascii_lowercase() || b == b'-'),
            "{row:?}"
        );
        // A client that retries what cannot change only adds load.
        if row.retryable {
            assert!(
                matches!(row.status.as_u16(), 408 | 409 | 429 | 502 | 503),
                "{row:?}"
            );
        }
    }
}

#[test]
fn an_internal_error_shows_nothing_of_its_cause() {
    let d = document(SigningError::Internal("secret cause".into()));
    assert_eq!(d.status, 500);
    let text = serde_json::to_string(&d).unwrap();
    assert!(!text.contains("secret"), "{text}");
    assert!(text.contains(&d.instance));
}

#[test]
fn refused_content_names_the_part_and_the_rule() {
    let d = document(SigningError::ContentRefused {
        code: "content-not-der".into(),
        detail: "signed_attributes: not strict DER".into(),
    });
    assert_eq!(d.field.as_deref(), Some("content.signed_attributes"));
    assert_eq!(d.refusal.as_deref(), Some("content-not-der"));
    assert_eq!(d.status, 422);
}

#[test]
fn the_answer_for_nothing_is_always_the_same() {
    let rid = RequestId::new();
    let bytes = |p: Problem| serde_json::to_vec(&p.document(&rid)).unwrap();
    let one = bytes(Problem::from(SigningError::NotFound));
    assert_eq!(one, bytes(Problem::not_found()));
    assert_eq!(one, bytes(Problem::from_status(StatusCode::NOT_FOUND)));
}

#[test]
fn oauth_errors_are_problem_documents_too() {
    let d = Problem::from(AuthError::Replayed).document(&RequestId::new());
    assert_eq!(d.error.as_deref(), Some("invalid_request"));
    assert_eq!(d.error_description, Some(d.detail.clone()));
    assert_eq!((d.status, d.code.as_str()), (400, "token-replayed"));
}
