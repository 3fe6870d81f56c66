//! ACME's requests over the connectors' own HTTP client: https alone, to the directory's own origin,
//! bounded, without redirects.

use crate::{MAX_TEXT, read};
use bytes::Bytes;
use countersign_core::ports::ca::CaError;
use http::header::{RETRY_AFTER, USER_AGENT};
use http_body_util::BodyExt as _;
use instant_acme::{BodyWrapper, BytesResponse, Error, HttpClient, Problem};
use reqwest::{Client, StatusCode, Url};
use std::cell::Cell;
use std::future::Future;
use std::pin::Pin;

tokio::task_local! {
    /// Seconds of the last answer's Retry-After, within one poll. The library keeps it to itself.
    static ASKED_TO_WAIT: Cell<Option<u32>>;
}

/// Runs `within`, and gives besides what the CA last said of when to come again.
pub(super) async fn watching_the_clock<T>(within: impl Future<Output = T>) -> (T, Option<u32>) {
    let both = async {
        let done = within.await;
        (done, ASKED_TO_WAIT.with(Cell::get))
    };
    ASKED_TO_WAIT.scope(Cell::new(None), both).await
}

/// What is sent goes to the directory's origin; a CA cannot send us anywhere else.
#[derive(Debug, Clone)]
pub(super) struct Transport {
    pub(super) client: Client,
    pub(super) directory: Url,
}

/// What went wrong below ACME, on its way through the library's error type.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
struct Trouble(CaError);

impl HttpClient for Transport {
    fn request(
        &self,
        request: http::Request<BodyWrapper<Bytes>>,
    ) -> Pin<Box<dyn Future<Output = Result<BytesResponse, Error>> + Send>> {
        let transport = self.clone();
        Box::pin(async move {
            transport
                .exchange(request)
                .await
                .map_err(|e| Error::Other(Box::new(Trouble(e))))
        })
    }
}

impl Transport {
    /// The URL, if it is one of this CA: of the directory's scheme, host and port.
    pub(super) fn own(&self, url: &str) -> Result<Url, CaError> {
        let own = Url::parse(url)
            .ok()
            .filter(|u| u.origin() == self.directory.origin() && u.scheme() == "https");
        own.filter(|u| u.username().is_empty() && u.password().is_none())
            .ok_or_else(|| {
                let seen: String = url.chars().take(200).collect();
                CaError::Protocol(format!(
                    "\"{seen}\" is not a URL at the directory's own host and port"
                ))
            })
    }

    async fn exchange(
        &self,
        request: http::Request<BodyWrapper<Bytes>>,
    ) -> Result<BytesResponse, CaError> {
        let (mut parts, body) = request.into_parts();
        let url = self.own(&parts.uri.to_string())?;
        let body = body
            .collect()
            .await
            .map_err(|e| CaError::Protocol(e.to_string()))?
            .to_bytes();
        // Our own name stands in the client (RFC 8555 §6.1).
        parts.headers.remove(USER_AGENT);
        let response = self
            .client
            .request(parts.method, url)
            .headers(parts.headers)
            .body(body)
            .send()
            .await
            .map_err(|e| crate::unavailable(&e))?;
        let status = response.status();
        let headers = response.headers().clone();
        let asked = headers
            .get(RETRY_AFTER)
            .and_then(|v| v.to_str().ok()?.parse::<u32>().ok());
        if asked.is_some() {
            let _ = ASKED_TO_WAIT.try_with(|cell| cell.set(asked));
        }
        let body = read(response).await?;
        if !status.is_success() {
            judge(status, &body)?;
        }
        let mut answer = http::Response::new(());
        *answer.status_mut() = status;
        *answer.headers_mut() = headers;
        Ok(BytesResponse {
            parts: answer.into_parts().0,
            body: Box::new(Bytes::from(body)),
        })
    }
}

/// A problem document goes on to whoever asked; 5xx and 429 are troubles that may pass.
fn judge(status: StatusCode, body: &[u8]) -> Result<(), CaError> {
    let problem: Option<Problem> = serde_json::from_slice(body).ok();
    let code = status.as_u16();
    if status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS {
        let detail = problem.and_then(|p| p.detail).unwrap_or_default();
        let detail: String = detail.chars().take(MAX_TEXT).collect();
        return Err(CaError::Unavailable(format!("{code}: {detail}")));
    }
    match problem {
        Some(_) if status.is_client_error() => Ok(()),
        _ => Err(CaError::Protocol(format!(
            "status {code} without a problem document"
        ))),
    }
}

/// What stands for every order of ours as well: nothing is said of this one, and an operator, or the next
/// attempt, can put it right (RFC 8555 §6.7).
const OF_THE_ACCOUNT: [&str; 4] = [
    "badNonce",
    "accountDoesNotExist",
    "userActionRequired",
    "externalAccountRequired",
];

/// The library's error, in the port's words. Not of what the CA judges: see [`judged`].
pub(super) fn said(error: Error) -> CaError {
    match error {
        // A key or an account that may not ask: no word on evidence or request.
        Error::Api(problem) if short(&problem) == "unauthorized" => passing(&problem),
        other => judged(other),
    }
}

/// The same where evidence or CSR is handed over: "unauthorized" is the CA's judgement there.
pub(super) fn judged(error: Error) -> CaError {
    match error {
        Error::Api(problem) if OF_THE_ACCOUNT.contains(&short(&problem)) => passing(&problem),
        Error::Api(problem) => refusal(&problem),
        Error::Other(inner) => match inner.downcast::<Trouble>() {
            Ok(trouble) => trouble.0,
            Err(other) => CaError::Protocol(other.to_string()),
        },
        other => CaError::Protocol(other.to_string()),
    }
}

/// Whether the CA says that the order is not ready to be finalised (RFC 8555 §7.4).
pub(super) fn is_not_ready(error: &Error) -> bool {
    matches!(error, Error::Api(problem) if short(problem) == "orderNotReady")
}

/// A problem document (RFC 8555 §6.7).
pub(super) fn refusal(problem: &Problem) -> CaError {
    let short = short(problem);
    // Of a problem inside a challenge or an order too: these two may pass.
    if matches!(short, "serverInternal" | "rateLimited") {
        return CaError::Unavailable(cut(words(problem)));
    }
    let reasons = problem.subproblems.iter().take(crate::MAX_REASONS);
    CaError::Refused {
        detail: cut(&format!("{short}: {}", words(problem))),
        reasons: reasons.map(|p| cut(&p.to_string())).collect(),
    }
}

fn passing(problem: &Problem) -> CaError {
    CaError::Unavailable(cut(&format!("{}: {}", short(problem), words(problem))))
}

fn short(problem: &Problem) -> &str {
    let kind = problem.r#type.as_deref().unwrap_or_default();
    kind.strip_prefix("urn:ietf:params:acme:error:")
        .unwrap_or(kind)
}

fn words(problem: &Problem) -> &str {
    problem.detail.as_deref().unwrap_or("no detail")
}

fn cut(text: &str) -> String {
    text.chars().take(MAX_TEXT).collect()
}
