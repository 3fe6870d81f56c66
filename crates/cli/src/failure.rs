//! Why a command did not do what was asked, for people and for programs.

use crate::exit::Exit;
use countersign_client::{ApiError, Error as ClientError};
use countersign_formats::FormatError;
use countersign_formats::pe::PeError;
use serde_json::{Value, json};

/// Result with [`Failure`].
pub type Result<T, E = Failure> = std::result::Result<T, E>;

/// A command that failed.
#[derive(Debug, Clone, PartialEq)]
pub struct Failure {
    /// What a script sees.
    pub exit: Exit,
    /// Stable name: the service's code, or one of ours.
    pub code: String,
    /// What happened.
    pub message: String,
    /// What to do about it.
    pub hint: Option<Box<str>>,
    /// One entry each: grants claim by claim, findings, a CA's words.
    pub reasons: Vec<Value>,
    /// Leads to the cause in the service's logs.
    pub request: Option<Box<str>>,
}

impl Failure {
    /// A failure with one of our own codes.
    #[must_use]
    pub fn new(exit: Exit, code: &str, message: impl Into<String>) -> Self {
        Self {
            exit,
            code: code.to_owned(),
            message: message.into(),
            hint: None,
            reasons: Vec::new(),
            request: None,
        }
    }

    /// Wrong usage.
    #[must_use]
    pub fn usage(message: impl Into<String>) -> Self {
        Self::new(Exit::Usage, "usage", message)
    }

    /// What was checked is bad.
    #[must_use]
    pub fn bad(code: &str, message: impl Into<String>) -> Self {
        Self::new(Exit::Bad, code, message)
    }

    /// A file that cannot be read or written.
    #[must_use]
    pub fn file(path: &std::path::Path, e: &std::io::Error) -> Self {
        let exit = match e.kind() {
            std::io::ErrorKind::NotFound => Exit::Absent,
            _ => Exit::Usage,
        };
        Self::new(exit, "file", format!("{}: {e}", path.display()))
    }

    /// With advice.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into().into_boxed_str());
        self
    }

    /// What a person reads on standard error.
    #[must_use]
    pub fn for_people(&self) -> String {
        let mut text = format!("countersign: {}", self.message);
        for reason in &self.reasons {
            text.push_str(&indent(&reason_text(reason)));
        }
        if let Some(hint) = &self.hint {
            text.push_str(&format!("\n  hint: {hint}"));
        }
        if let Some(request) = self.request.as_ref().filter(|r| !r.is_empty()) {
            text.push_str(&format!("\n  request: {request}"));
        }
        text
    }

    /// What a program reads with `--json`.
    #[must_use]
    pub fn document(&self) -> Value {
        json!({"error": {
            "exit": self.exit.code(),
            "code": self.code,
            "message": self.message,
            "hint": self.hint,
            "reasons": self.reasons,
            "request": self.request,
        }})
    }
}

/// A reason as text: a sentence as it is; a grant's decision claim by claim.
#[must_use]
pub fn reason_text(reason: &Value) -> String {
    if let Some(text) = reason.as_str() {
        return text.to_owned();
    }
    match serde_json::from_value::<countersign_grants::GrantReason>(reason.clone()) {
        Ok(grant) => crate::commands::grants::reason(&grant),
        Err(_) => reason.to_string(),
    }
}

fn indent(text: &str) -> String {
    text.lines().map(|l| format!("\n  {l}")).collect()
}

impl From<ClientError> for Failure {
    fn from(e: ClientError) -> Self {
        let message = e.to_string();
        match e {
            ClientError::Api(api) => Self::from(*api),
            ClientError::Unreachable { .. } | ClientError::Timeout { .. } => {
                Self::new(Exit::Unavailable, "unreachable", message)
            }
            ClientError::Tls { .. } => Self::new(Exit::Usage, "tls", message)
                .hint("give the CA that the server's certificate comes from with --ca-file"),
            ClientError::Usage { field, message } => {
                Self::usage(format!("{}: {message}", field.replace('_', "-")))
            }
            ClientError::Issuer { .. } => Self::new(Exit::Refused, "issuer-refused", message),
            ClientError::TooLarge { .. } | ClientError::BadAnswer { .. } => {
                Self::new(Exit::Internal, "bad-answer", message)
                    .hint("is this the URL of a Countersign service, and of this version?")
            }
        }
    }
}

impl From<FormatError> for Failure {
    fn from(e: FormatError) -> Self {
        let message = e.to_string();
        match e {
            FormatError::Io { kind, .. } => {
                let exit = match kind {
                    std::io::ErrorKind::NotFound => Exit::Absent,
                    _ => Exit::Usage,
                };
                Self::new(exit, "file", message)
            }
            FormatError::Pe(PeError::AlreadySigned) => Self::new(
                Exit::Usage,
                "already-signed",
                "the file is signed already; nothing was changed",
            )
            .hint("--append keeps the old signature and adds ours, --replace removes it"),
            FormatError::Pe(PeError::NotSigned | PeError::DigestMismatch) => {
                Self::new(Exit::Bad, "file-signature", message)
            }
            FormatError::Pe(_) => Self::new(Exit::Bad, "bad-file", message)
                .hint("a broken executable is not signed; the file was not changed"),
            FormatError::TooLarge { .. }
            | FormatError::NotAFile { .. }
            | FormatError::SignatureExists { .. }
            | FormatError::CannotAppend { .. }
            | FormatError::NoFileDigest { .. } => Self::new(Exit::Usage, "file", message),
            FormatError::ChangedMeanwhile { .. } | FormatError::OtherCertificate => {
                Self::new(Exit::Unavailable, "changed-meanwhile", message)
            }
            FormatError::BadSignature => Self::new(Exit::Bad, "bad-signature", message),
            FormatError::BadTimestamp { .. } => Self::new(Exit::Bad, "bad-timestamp", message),
            FormatError::Content(_) => Self::new(Exit::Refused, "content-refused", message),
            FormatError::Cms(_) => Self::new(Exit::Bad, "bad-file", message),
            FormatError::Assemble { .. } => Self::new(Exit::Internal, "assemble", message),
        }
    }
}

impl From<ApiError> for Failure {
    fn from(e: ApiError) -> Self {
        let hint = match e.code.as_str() {
            "mfa-required" => Some("log in again with a second factor"),
            "unauthenticated" => Some("run `countersign login` (a session lasts some minutes)"),
            "token-replayed" => Some(
                "an ID token is good for one exchange: keep COUNTERSIGN_HOME within the job, \
                 or fetch a fresh token",
            ),
            "denied" => Some("`countersign grants explain` compares a token with the grants"),
            "access-denied" => Some(
                "an administrator of the tenant sees why: `countersign issuers list` (issuer, audience, age), \
                 `countersign members list` for people, `countersign grants explain` for jobs",
            ),
            "certificate-revoked" => Some(
                "`countersign keys show` says more; a new certificate comes with `certificate order`",
            ),
            _ => None,
        };
        let mut message = if e.detail.is_empty() || e.detail == e.title {
            e.title.clone()
        } else {
            format!("{}: {}", e.title, e.detail)
        };
        for (name, value) in [("field", &e.field), ("rule", &e.refusal)] {
            if let Some(value) = value {
                message.push_str(&format!(" ({name} {value})"));
            }
        }
        Self {
            exit: exit_of(&e),
            code: e.code,
            message,
            hint: hint.map(Box::from),
            reasons: e.reasons,
            request: Some(e.request_id.into_boxed_str()),
        }
    }
}

/// The exit code of a problem: by its code where the status says too little.
fn exit_of(e: &ApiError) -> Exit {
    if e.retryable {
        return Exit::Unavailable;
    }
    match (e.code.as_str(), e.status) {
        (
            "content-refused"
            | "key-not-active"
            | "no-key"
            | "certificate-outside-validity"
            | "certificate-revoked"
            | "transition-refused"
            | "appraisal-refused"
            | "certificate-rejected"
            | "ca-refused"
            | "token-refused"
            | "token-replayed"
            | "access-denied",
            _,
        )
        | (_, 401 | 403) => Exit::Refused,
        ("not-found", _) => Exit::Absent,
        // Not one of our documents, so not one of our 404s.
        (code, _) if code.starts_with("http-") => Exit::Internal,
        ("history-rewound" | "token-refuses", _) => Exit::Unavailable,
        (_, 404) => Exit::Absent,
        (_, 400..=499) => Exit::Usage,
        _ => Exit::Internal,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn exit(status: u16, code: &str, retryable: bool) -> u8 {
        Failure::from(ApiError {
            status,
            code: code.to_owned(),
            retryable,
            ..ApiError::default()
        })
        .exit
        .code()
    }

    #[test]
    fn problems_have_the_promised_exit_codes() {
        assert_eq!(exit(403, "denied", false), 3);
        assert_eq!(exit(403, "mfa-required", false), 3);
        assert_eq!(exit(422, "content-refused", false), 3);
        assert_eq!(exit(409, "key-not-active", false), 3);
        assert_eq!(exit(409, "certificate-revoked", false), 3);
        assert_eq!(exit(503, "certificate-status-unknown", true), 5);
        assert_eq!(exit(401, "unauthenticated", false), 3);
        assert_eq!(exit(400, "token-replayed", false), 3);
        assert_eq!(exit(404, "not-found", false), 4);
        assert_eq!(exit(503, "busy", true), 5);
        assert_eq!(exit(502, "ca-unavailable", true), 5);
        assert_eq!(exit(409, "idempotency-in-flight", true), 5);
        assert_eq!(exit(422, "invalid-field", false), 64);
        assert_eq!(exit(413, "too-large", false), 64);
        assert_eq!(exit(500, "internal", false), 70);
        assert_eq!(exit(404, "http-404", false), 70, "somebody else's 404");
    }

    #[test]
    fn trouble_on_the_way_has_the_promised_exit_codes() {
        let host = || "h".to_owned();
        let exit = |e: ClientError| Failure::from(e).exit.code();
        assert_eq!(exit(ClientError::Timeout { host: host() }), 5);
        assert_eq!(
            exit(ClientError::TooLarge {
                host: host(),
                limit: 1
            }),
            70
        );
        let usage = ClientError::Usage {
            field: "ca_file",
            message: "absent".into(),
        };
        assert_eq!(exit(usage.clone()), 64);
        assert!(Failure::from(usage).message.starts_with("ca-file: "));
    }

    #[test]
    fn a_refusal_says_why_and_what_to_do() {
        let f = Failure::from(ApiError {
            status: 403,
            code: "denied".into(),
            title: "No grant allows this".into(),
            request_id: "r-1".into(),
            reasons: vec![json!("because")],
            ..ApiError::default()
        });
        let text = f.for_people();
        for part in [
            "No grant allows this",
            "\n  because",
            "grants explain",
            "request: r-1",
        ] {
            assert!(text.contains(part), "{part} in {text}");
        }
        assert_eq!(f.document()["error"]["exit"], 3);
    }
}
