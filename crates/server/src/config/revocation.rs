//! `[revocation]`: how certificates are looked up in their CAs' revocation lists.

use crate::ServerError;
use crate::files;
use countersign_ca::{ListFetcher, ListFetcherConfig};
use countersign_core::ports::revocation::ListSource;
use countersign_signing::RevocationSettings;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use serde::{Deserialize, Deserializer};
use sha2::{Digest as _, Sha256};
use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// `[revocation]`
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Revocation {
    /// How often each list is fetched.
    #[serde(deserialize_with = "duration")]
    pub poll: Duration,
    /// How old the last good look may be before signing is refused.
    #[serde(deserialize_with = "duration")]
    pub max_age: Duration,
    /// How long before its end a certificate is warned of.
    #[serde(deserialize_with = "duration")]
    pub warn_before: Duration,
    /// Hosts at addresses of private networks that lists may be fetched from, by name or address.
    pub private_hosts: Vec<String>,
    /// Lists that are fetched elsewhere than their certificates say.
    pub mirror: Vec<Mirror>,
}

/// `[[revocation.mirror]]`
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Mirror {
    /// The issuing CA's certificate, PEM: its list is the one meant.
    pub issuer_file: PathBuf,
    /// Where it is fetched. It is judged as if it came from where the certificates say.
    pub url: String,
}

impl Default for Revocation {
    fn default() -> Self {
        let RevocationSettings {
            poll,
            max_age,
            warn_before,
            mirrors: _,
        } = RevocationSettings::default();
        Self {
            poll,
            max_age,
            warn_before,
            private_hosts: Vec::new(),
            mirror: Vec::new(),
        }
    }
}

const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3600);
const DAY: Duration = Duration::from_secs(86_400);

impl Revocation {
    pub(super) fn check(&self, development: bool) -> Result<(), (&'static str, String)> {
        // A CA's server is not ours to ask every second; tests have their own.
        let shortest = if development {
            Duration::from_secs(1)
        } else {
            MINUTE
        };
        let bounds = [
            ("poll", self.poll, shortest, DAY),
            // CSBR §4.9.7: a list is good for 10 days at most; news older than that is none.
            ("max_age", self.max_age, self.poll * 2, 10 * DAY),
            ("warn_before", self.warn_before, HOUR, 365 * DAY),
        ];
        for (key, value, low, high) in bounds {
            if !(low..=high).contains(&value) {
                let (low, high) = (text(low), text(high));
                let value = text(value);
                return Err((key, format!("{low} to {high}, not {value}")));
            }
        }
        for m in &self.mirror {
            if !(m.url.starts_with("http://") || m.url.starts_with("https://")) {
                return Err(("url", format!("\"{}\" is no http or https URL", m.url)));
            }
        }
        Ok(())
    }

    /// URLs by the SHA-256 of issuing CAs' certificates.
    pub(super) fn mirrors(&self) -> Result<HashMap<[u8; 32], String>, ServerError> {
        let mut all = HashMap::new();
        for m in &self.mirror {
            let pem = files::read_text(&m.issuer_file)?;
            let der = CertificateDer::from_pem_slice(pem.as_bytes()).map_err(|e| {
                ServerError::Content {
                    path: m.issuer_file.clone(),
                    problem: format!("holds no certificate: {e}"),
                }
            })?;
            all.insert(Sha256::digest(&der).into(), m.url.clone());
        }
        Ok(all)
    }

    /// For the service.
    ///
    /// # Errors
    /// [`ServerError`] if the certificate of a mirror's CA cannot be read.
    pub fn settings(&self) -> Result<RevocationSettings, ServerError> {
        Ok(RevocationSettings {
            poll: self.poll,
            max_age: self.max_age,
            warn_before: self.warn_before,
            mirrors: self.mirrors()?,
        })
    }

    /// What fetches the lists.
    ///
    /// # Errors
    /// [`ServerError::Tls`] if no client can be made.
    pub fn fetcher(&self, development: bool) -> Result<Arc<dyn ListSource>, ServerError> {
        let fetcher = ListFetcher::new(ListFetcherConfig {
            loopback: development,
            private_hosts: self.private_hosts.clone(),
            // A slow server holds its place no longer than until the next poll.
            within: self.poll.min(Duration::from_secs(20)),
        })
        .map_err(ServerError::Tls)?;
        Ok(Arc::new(fetcher))
    }
}

/// A duration in words: a whole number and `s`, `m`, `h` or `d`.
fn duration<'de, D: Deserializer<'de>>(d: D) -> Result<Duration, D::Error> {
    let text = String::deserialize(d)?;
    parse(&text).ok_or_else(|| {
        serde::de::Error::custom(format!(
            "\"{text}\" is no duration: a whole number and s, m, h or d, for example \"15m\""
        ))
    })
}

fn parse(text: &str) -> Option<Duration> {
    let (unit, each) = [("s", 1), ("m", 60), ("h", 3600), ("d", 86_400)]
        .into_iter()
        .find(|(unit, _)| text.ends_with(unit))?;
    let digits = text.strip_suffix(unit)?;
    if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let seconds = digits.parse::<u64>().ok()?.checked_mul(each)?;
    Some(Duration::from_secs(seconds))
}

fn text(d: Duration) -> String {
    let s = d.as_secs();
    match s {
        _ if s > 0 && s.is_multiple_of(86_400) => format!("{}d", s / 86_400),
        _ if s > 0 && s.is_multiple_of(3600) => format!("{}h", s / 3600),
        _ if s > 0 && s.is_multiple_of(60) => format!("{}m", s / 60),
        _ => format!("{s}s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(toml_text: &str) -> Result<Revocation, String> {
        toml::from_str(toml_text).map_err(|e| e.message().to_owned())
    }

    #[test]
    fn durations_are_read_and_told_in_words() {
        for (word, seconds) in [
            ("90s", 90),
            ("15m", 900),
            ("24h", 86_400),
            ("30d", 2_592_000),
        ] {
            assert_eq!(parse(word), Some(Duration::from_secs(seconds)), "{word}");
        }
        for bad in [
            "",
            "15",
            "m",
            "-1m",
            "1.5h",
            "1w",
            "15 m",
            "99999999999999999999d",
        ] {
            assert_eq!(parse(bad), None, "{bad}");
        }
        assert_eq!(
            [900, 86_400, 7200, 7, 0].map(|s| text(Duration::from_secs(s))),
            ["15m", "1d", "2h", "7s", "0s"]
        );
    }

    #[test]
    fn what_is_left_out_has_its_default_and_what_is_unknown_is_refused() {
        let r = read("").unwrap();
        assert_eq!((r.poll, r.max_age), (15 * MINUTE, DAY));
        assert_eq!(r.check(false), Ok(()));
        assert!(read("pol = \"1m\"").unwrap_err().contains("pol"));
        assert!(read("poll = 15").is_err());
        let e = read("poll = \"soon\"").unwrap_err();
        assert!(e.contains("\"soon\" is no duration"), "{e}");
    }

    #[test]
    fn values_out_of_bounds_are_refused_by_name() {
        for (text, key, says) in [
            ("poll = \"30s\"", "poll", "1m to 1d, not 30s"),
            ("poll = \"2d\"", "poll", "1m to 1d, not 2d"),
            ("max_age = \"20m\"", "max_age", "30m to 10d, not 20m"),
            ("max_age = \"11d\"", "max_age", "30m to 10d, not 11d"),
            ("warn_before = \"1s\"", "warn_before", "1h to 365d, not 1s"),
            (
                "[[mirror]]\nissuer_file = \"x\"\nurl = \"ldap://ca\"",
                "url",
                "\"ldap://ca\" is no http or https URL",
            ),
        ] {
            assert_eq!(
                read(text).unwrap().check(false),
                Err((key, says.to_owned()))
            );
        }
        let quick = read("poll = \"1s\"\nmax_age = \"3s\"").unwrap();
        assert!(quick.check(false).is_err());
        assert_eq!(quick.check(true), Ok(()));
    }
}
