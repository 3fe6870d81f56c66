//! Getting an ID token: device login for people (RFC 8628), and the request endpoint that GitHub
//! gives its jobs.

use crate::error::{Error, Result};
use crate::web::{Answer, Web};
use serde::Deserialize;
use std::time::{Duration, Instant};

const MAX_DOCUMENT: u64 = 256 * 1024;
/// RFC 8628 §3.5: five seconds where the issuer names no interval.
const DEFAULT_INTERVAL_S: u64 = 5;
/// Longest login waited for, whatever the issuer says.
const MAX_LOGIN: Duration = Duration::from_secs(900);

/// What a person needs to approve a login.
#[derive(Debug, Clone, Deserialize)]
pub struct DevicePrompt {
    /// Where to go.
    pub verification_uri: String,
    /// The same with the code filled in.
    pub verification_uri_complete: Option<String>,
    /// What to type there.
    pub user_code: String,
    device_code: String,
    expires_in: u64,
    interval: Option<u64>,
}

#[derive(Deserialize)]
struct Discovery {
    issuer: String,
    token_endpoint: Option<String>,
    device_authorization_endpoint: Option<String>,
}

#[derive(Deserialize)]
struct TokenAnswer {
    id_token: Option<String>,
}

#[derive(Deserialize)]
struct OauthError {
    error: String,
    error_description: Option<String>,
}

/// Logs a person in: asks the issuer for a code, shows it through `prompt`, polls until approved,
/// and returns the ID token.
///
/// # Errors
/// [`Error::Issuer`] if the person declines or the code expires, [`Error::Usage`] if the issuer has
/// no device login, else as [`Web::get`].
pub fn device_login(
    web: &Web,
    issuer: &str,
    client_id: &str,
    audience: Option<&str>,
    prompt: impl FnOnce(&DevicePrompt),
) -> Result<String> {
    let base = https(issuer)?;
    let document: Discovery = web
        .get(
            &format!("{base}/.well-known/openid-configuration"),
            MAX_DOCUMENT,
        )?
        .json()?;
    // OpenID Connect Discovery §4.3: must be identical.
    if document.issuer != issuer {
        return Err(Error::BadAnswer {
            host: issuer.to_owned(),
            message: format!("it calls itself {}", document.issuer),
        });
    }
    let (Some(device), Some(token)) = (
        document.device_authorization_endpoint,
        document.token_endpoint,
    ) else {
        return Err(Error::Usage {
            field: "issuer",
            message: format!("{issuer} has no device login; use a token file"),
        });
    };
    let mut form = vec![("client_id", client_id), ("scope", "openid")];
    form.extend(audience.map(|a| ("audience", a)));
    let start: DevicePrompt = oauth(post_form(web, &device, &form)?)?.json()?;
    prompt(&start);

    let mut interval = Duration::from_secs(start.interval.unwrap_or(DEFAULT_INTERVAL_S).min(60));
    let limit = Duration::from_secs(start.expires_in).min(MAX_LOGIN);
    let begun = Instant::now();
    while begun.elapsed() < limit {
        std::thread::sleep(interval);
        let form = [
            ("grant_type", "urn:ietf:params:oauth:grant-type:device_code"),
            ("device_code", start.device_code.as_str()),
            ("client_id", client_id),
        ];
        match post_form(web, &token, &form).and_then(oauth) {
            Ok(answer) => {
                return answer.json::<TokenAnswer>()?.id_token.ok_or(Error::Issuer {
                    code: "no id_token".to_owned(),
                    description: Some("the answer to the device login holds none".to_owned()),
                });
            }
            Err(Error::Issuer { code, .. }) if code == "authorization_pending" => {}
            // RFC 8628 §3.5: five seconds more, for good.
            Err(Error::Issuer { code, .. }) if code == "slow_down" => {
                interval = interval.saturating_add(Duration::from_secs(5));
            }
            Err(Error::Timeout { .. } | Error::Unreachable { .. }) => {
                interval = interval.saturating_mul(2).min(Duration::from_secs(60));
            }
            Err(e) => return Err(e),
        }
    }
    Err(Error::Issuer {
        code: "expired_token".to_owned(),
        description: Some("nobody approved the login in time".to_owned()),
    })
}

/// The ID token of the GitHub job we run in, for `audience`.
///
/// # Errors
/// [`Error::Usage`] if this is no such job or it lacks `id-token: write`; else as [`Web::get`].
pub fn github_token(
    web: &Web,
    request_url: &str,
    request_token: &str,
    audience: &str,
) -> Result<String> {
    #[derive(Deserialize)]
    struct Value {
        value: String,
    }
    let separator = if request_url.contains('?') { '&' } else { '?' };
    let url = format!(
        "{}{separator}audience={}",
        https(request_url)?,
        encode(audience)
    );
    let bearer = format!("Bearer {request_token}");
    let answer = web.send(
        "GET",
        &url,
        &[("authorization", &bearer)],
        None,
        MAX_DOCUMENT,
    )?;
    Ok(answer.success()?.json::<Value>()?.value)
}

fn post_form(web: &Web, url: &str, form: &[(&str, &str)]) -> Result<Answer> {
    let body = form_body(form);
    web.send(
        "POST",
        https(url)?,
        &[
            ("content-type", "application/x-www-form-urlencoded"),
            ("accept", "application/json"),
        ],
        Some(body.as_bytes()),
        MAX_DOCUMENT,
    )
}

fn oauth(answer: Answer) -> Result<Answer> {
    if answer.status != 200
        && let Ok(e) = answer.json::<OauthError>()
    {
        return Err(Error::Issuer {
            code: e.error,
            description: e.error_description,
        });
    }
    answer.success()
}

/// `application/x-www-form-urlencoded`.
pub(crate) fn form_body(form: &[(&str, &str)]) -> String {
    form.iter()
        .map(|(k, v)| format!("{}={}", encode(k), encode(v)))
        .collect::<Vec<_>>()
        .join("&")
}

/// Percent-encodes all but the unreserved characters (RFC 3986 §2.3).
pub(crate) fn encode(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for b in text.bytes() {
        if b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_' | b'~') {
            out.push(char::from(b));
        } else {
            out.push_str(&format!("%{b:02X}"));
        }
    }
    out
}

/// A token must not travel in clear, nor a login begin there.
fn https(url: &str) -> Result<&str> {
    if url.starts_with("https://") {
        Ok(url.trim_end_matches('/'))
    } else {
        Err(Error::Usage {
            field: "issuer",
            message: format!("{url}: only https is spoken"),
        })
    }
}
