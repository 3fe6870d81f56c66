//! The HTTP API without our command line between: whatever a hostile client would send.

use super::{Stack, job_spec};
use countersign_client::Web;
use serde_json::Value;
use std::time::Duration;

/// Answers are small.
const LIMIT: u64 = 1 << 20;

/// Sends requests as they are.
pub struct Raw {
    web: Web,
    url: String,
}

/// What came back.
#[derive(Debug)]
pub struct RawAnswer {
    pub status: u16,
    pub content_type: String,
    pub request_id: String,
    pub retry_after_s: Option<u64>,
    pub body: Vec<u8>,
}

impl Stack {
    /// A raw client of this service.
    pub fn raw(&self) -> Raw {
        self.raw_at(&self.url())
    }

    /// A raw client of one node.
    pub fn raw_at(&self, url: &str) -> Raw {
        let web = Web::new(Some(&self.ca_file()), Duration::from_secs(30)).expect("a web client");
        Raw {
            web,
            url: url.to_owned(),
        }
    }

    /// A service token for a job of this repository, bound to no signer.
    pub fn service_token(&self, tenant: &str, repository: &str) -> String {
        let id_token = self.platform.mint(&job_spec(repository)).expect("a token");
        self.raw().exchanged(tenant, &id_token)
    }
}

impl Raw {
    /// One request. `token`: a service token.
    pub fn send(
        &self,
        method: &str,
        path: &str,
        token: Option<&str>,
        body: Option<&[u8]>,
        more: &[(&str, &str)],
    ) -> RawAnswer {
        // A refusal may come before the whole body was read, and the connection closes behind it
        // (RFC 9112 §9.6): the next request on it is sent once more, on a new one. A service that
        // died fails that one too.
        self.try_send(method, path, token, body, more)
            .or_else(|_| self.try_send(method, path, token, body, more))
            .unwrap_or_else(|e| panic!("{method} {path}: {e}"))
    }

    /// One request that may find nobody there.
    pub fn try_send(
        &self,
        method: &str,
        path: &str,
        token: Option<&str>,
        body: Option<&[u8]>,
        more: &[(&str, &str)],
    ) -> Result<RawAnswer, countersign_client::Error> {
        let bearer = token.map(|t| format!("Bearer {t}"));
        let mut headers: Vec<(&str, &str)> = Vec::new();
        if let Some(b) = &bearer {
            headers.push(("authorization", b));
        }
        if body.is_some()
            && !more
                .iter()
                .any(|(n, _)| n.eq_ignore_ascii_case("content-type"))
        {
            headers.push(("content-type", "application/json"));
        }
        headers.extend_from_slice(more);
        let answer = self.web.send(
            method,
            &format!("{}{path}", self.url),
            &headers,
            body,
            LIMIT,
        )?;
        Ok(RawAnswer {
            status: answer.status,
            content_type: answer.content_type,
            request_id: answer.request_id,
            retry_after_s: answer.retry_after_s,
            body: answer.body,
        })
    }

    /// GET.
    pub fn get(&self, path: &str, token: Option<&str>) -> RawAnswer {
        self.send("GET", path, token, None, &[])
    }

    /// POST of JSON.
    pub fn post(&self, path: &str, token: Option<&str>, body: &Value) -> RawAnswer {
        self.send("POST", path, token, Some(body.to_string().as_bytes()), &[])
    }

    /// A request for one signature ([`super::judges::cms_request`] makes the body); the answer is the
    /// item's.
    pub fn sign(&self, tenant: &str, signer: &str, token: &str, body: &Value) -> RawAnswer {
        let path = format!("/v1/tenants/{tenant}/signers/{signer}/signatures");
        self.post(&path, Some(token), body).only()
    }

    /// The token exchange (RFC 8693), whatever comes of it.
    pub fn exchange(&self, tenant: Option<&str>, id_token: &str) -> RawAnswer {
        let mut form = format!(
            "grant_type=urn%3Aietf%3Aparams%3Aoauth%3Agrant-type%3Atoken-exchange&subject_token={id_token}\
             &subject_token_type=urn%3Aietf%3Aparams%3Aoauth%3Atoken-type%3Aid_token"
        );
        if let Some(t) = tenant {
            form.push_str("&tenant=");
            form.push_str(t);
        }
        self.send(
            "POST",
            "/v1/token",
            None,
            Some(form.as_bytes()),
            &[("content-type", "application/x-www-form-urlencoded")],
        )
    }

    /// The token exchange; it must succeed.
    pub fn exchanged(&self, tenant: &str, id_token: &str) -> String {
        let answer = self.exchange(Some(tenant), id_token);
        assert_eq!(answer.status, 200, "{answer:?}");
        answer.json()["access_token"]
            .as_str()
            .expect("access_token")
            .to_owned()
    }
}

impl RawAnswer {
    /// The answer to a batch of one as if that item had been asked for alone: its problem with its
    /// status, or its signature with the certificate it is by. A problem of the whole request as it is.
    pub fn only(self) -> Self {
        if self.status != 200 {
            return self;
        }
        assert_eq!(self.json()["results"].as_array().map(Vec::len), Some(1));
        self.item(0)
    }

    /// One item's answer, in the same form.
    pub fn item(&self, n: usize) -> Self {
        assert_eq!(self.status, 200, "{self:?}");
        let whole = self.json();
        let mut result = whole["results"][n].clone();
        let problem = result["problem"].take();
        let (status, content_type, body) = if problem.is_null() {
            let by = whole["signed_by"].as_array().expect("signed_by");
            let by = by
                .iter()
                .find(|by| by["certificate_sha256"] == result["certificate_sha256"])
                .unwrap_or_else(|| panic!("whose signature? {whole}"));
            for member in ["key", "certificate_chain", "log"] {
                result[member] = by[member].clone();
            }
            (200, "application/json", result)
        } else {
            let status = problem["status"].as_u64().expect("a status");
            let status = u16::try_from(status).expect("a status");
            (status, "application/problem+json", problem)
        };
        Self {
            status,
            content_type: content_type.to_owned(),
            request_id: self.request_id.clone(),
            retry_after_s: body["retry_after_s"].as_u64(),
            body: body.to_string().into_bytes(),
        }
    }

    /// The body as JSON.
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|e| panic!("not JSON ({e}): {}", String::from_utf8_lossy(&self.body)))
    }

    /// The problem's code, checking that it is a problem document with our members.
    pub fn problem(&self) -> String {
        assert_eq!(self.content_type, "application/problem+json", "{self:?}");
        let body = self.json();
        assert_eq!(body["status"], self.status, "{body}");
        assert_eq!(body["instance"], self.request_id.as_str(), "{body}");
        assert!(
            body["title"].is_string() && body["retryable"].is_boolean(),
            "{body}"
        );
        body["code"].as_str().expect("code").to_owned()
    }
}
