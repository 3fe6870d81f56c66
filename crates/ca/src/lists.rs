//! Fetching revocation lists without being led anywhere.
//!
//! The URL stands in a certificate, and a tenant may bring a certificate of any CA: so only http and
//! https are fetched, only from public addresses (or hosts the operator names), by a GET that carries
//! nothing, with few redirects each judged anew, in bounded time and size. What comes back is believed
//! by nobody until its signature is checked; nothing of it is shown but why it was refused.

use async_trait::async_trait;
use countersign_core::address::is_public;
use countersign_core::ports::revocation::{ListFetchError, ListSource};
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use reqwest::{Client, StatusCode, Url, redirect};
use std::collections::HashSet;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

/// Redirects followed.
const HOPS: usize = 3;

/// What may be fetched, and how long it may take.
#[derive(Debug, Clone)]
pub struct ListFetcherConfig {
    /// Addresses of this machine may be asked: development only.
    pub loopback: bool,
    /// Hosts at addresses of private networks that may be asked, by name or address.
    pub private_hosts: Vec<String>,
    /// Longest a list may take, redirects and all.
    pub within: Duration,
}

/// Fetches lists over http and https.
#[derive(Debug)]
pub struct ListFetcher {
    client: Client,
    rules: Arc<Rules>,
    within: Duration,
}

#[derive(Debug)]
struct Rules {
    loopback: bool,
    private_hosts: HashSet<String>,
}

impl ListFetcher {
    /// A fetcher. Nothing is connected yet.
    ///
    /// # Errors
    /// The words of the TLS library, if no client can be made.
    pub fn new(config: ListFetcherConfig) -> Result<Self, String> {
        let rules = Arc::new(Rules {
            loopback: config.loopback,
            private_hosts: config
                .private_hosts
                .iter()
                .map(|h| h.to_ascii_lowercase())
                .collect(),
        });
        // With the system's roots the HTTP library asks for the process's provider; a second
        // installation changes nothing.
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let client = Client::builder()
            .redirect(redirect::Policy::none())
            .no_proxy()
            .connect_timeout(Duration::from_secs(5).min(config.within))
            .timeout(config.within)
            .pool_max_idle_per_host(1)
            .dns_resolver(Allowed(Arc::clone(&rules)))
            .user_agent(concat!("countersignd/", env!("CARGO_PKG_VERSION")))
            .build()
            .map_err(|e| e.to_string())?;
        Ok(Self {
            client,
            rules,
            within: config.within,
        })
    }

    async fn follow(&self, url: &str, max: usize) -> Result<Vec<u8>, ListFetchError> {
        let mut url = Url::parse(url).map_err(|_| ListFetchError::Url("not a URL"))?;
        for _ in 0..=HOPS {
            self.rules.judge(&url)?;
            let mut response = self
                .client
                .get(url.clone())
                .header("accept", "application/pkix-crl, */*;q=0.1")
                .send()
                .await
                .map_err(|e| transport(&e))?;
            match response.status() {
                StatusCode::OK => {
                    let announced = response.content_length().unwrap_or(0);
                    if announced > max as u64 {
                        return Err(ListFetchError::TooLarge(max));
                    }
                    let mut body = Vec::new();
                    while let Some(chunk) = response.chunk().await.map_err(|e| transport(&e))? {
                        if body.len().saturating_add(chunk.len()) > max {
                            return Err(ListFetchError::TooLarge(max));
                        }
                        body.extend_from_slice(&chunk);
                    }
                    return Ok(body);
                }
                StatusCode::MOVED_PERMANENTLY
                | StatusCode::FOUND
                | StatusCode::SEE_OTHER
                | StatusCode::TEMPORARY_REDIRECT
                | StatusCode::PERMANENT_REDIRECT => {
                    let to = response
                        .headers()
                        .get("location")
                        .and_then(|v| v.to_str().ok())
                        .ok_or(ListFetchError::Redirects)?;
                    url = url.join(to).map_err(|_| {
                        ListFetchError::Url("a redirect to something that is no URL")
                    })?;
                }
                other => return Err(ListFetchError::Status(other.as_u16())),
            }
        }
        Err(ListFetchError::Redirects)
    }
}

#[async_trait]
impl ListSource for ListFetcher {
    async fn fetch(&self, url: &str, max: usize) -> Result<Vec<u8>, ListFetchError> {
        // The client's own limit is per request; this one is for all of it.
        tokio::time::timeout(self.within, self.follow(url, max))
            .await
            .unwrap_or(Err(ListFetchError::Transport("took too long")))
    }
}

impl Rules {
    /// Whether a URL is one that is fetched; addresses behind names are judged when they are resolved.
    fn judge(&self, url: &Url) -> Result<(), ListFetchError> {
        if !matches!(url.scheme(), "http" | "https") {
            return Err(ListFetchError::Url("only http and https are fetched"));
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err(ListFetchError::Url("a URL with a user name is not fetched"));
        }
        let host = url.host_str().ok_or(ListFetchError::Url("no host"))?;
        // The URL library has brought addresses in every spelling to their one form.
        let literal = host
            .trim_start_matches('[')
            .trim_end_matches(']')
            .parse::<IpAddr>();
        match literal {
            Ok(ip) if !self.allows(host, ip) => Err(ListFetchError::Url(
                "an address of a private network is not fetched",
            )),
            _ => Ok(()),
        }
    }

    fn allows(&self, host: &str, ip: IpAddr) -> bool {
        is_public(ip)
            || (self.loopback && ip.is_loopback())
            || self.private_hosts.contains(&host.to_ascii_lowercase())
    }
}

/// Resolves names to addresses that may be asked: a name cannot point us inside.
#[derive(Debug)]
struct Allowed(Arc<Rules>);

impl Resolve for Allowed {
    fn resolve(&self, name: Name) -> Resolving {
        let rules = Arc::clone(&self.0);
        Box::pin(async move {
            let found: Vec<SocketAddr> = tokio::net::lookup_host((name.as_str(), 0))
                .await?
                .filter(|a| rules.allows(name.as_str(), a.ip()))
                .collect();
            if found.is_empty() {
                return Err("no public address behind this name".into());
            }
            Ok(Box::new(found.into_iter()) as Addrs)
        })
    }
}

/// Fixed words: an error's own text may tell of addresses inside.
fn transport(e: &reqwest::Error) -> ListFetchError {
    ListFetchError::Transport(if e.is_timeout() {
        "took too long"
    } else if e.is_connect() {
        "cannot be reached"
    } else {
        "broke off its answer"
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read as _, Write as _};
    use std::net::TcpListener;

    fn fetcher(loopback: bool, private_hosts: &[&str]) -> ListFetcher {
        ListFetcher::new(ListFetcherConfig {
            loopback,
            private_hosts: private_hosts.iter().map(ToString::to_string).collect(),
            within: Duration::from_millis(700),
        })
        .unwrap()
    }

    /// A server that answers each request with the same bytes; its URL.
    fn server(answer: &'static [u8]) -> String {
        serve(move |mut stream| {
            let _ = stream.write_all(answer);
        })
    }

    fn serve(answer: impl Fn(std::net::TcpStream) + Send + 'static) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/a.crl", listener.local_addr().unwrap());
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                let mut head = [0; 4096];
                let _ = stream.read(&mut head);
                answer(stream);
            }
        });
        url
    }

    #[tokio::test]
    async fn a_list_is_fetched_whole_and_no_larger_than_said() {
        let url = server(b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\nconnection: close\r\n\r\nhello");
        let f = fetcher(true, &[]);
        assert_eq!(f.fetch(&url, 5).await, Ok(b"hello".to_vec()));
        assert_eq!(f.fetch(&url, 4).await, Err(ListFetchError::TooLarge(4)));
        // One that does not say how long it is.
        let url = server(b"HTTP/1.1 200 OK\r\nconnection: close\r\n\r\nhello");
        assert_eq!(f.fetch(&url, 5).await, Ok(b"hello".to_vec()));
        assert_eq!(f.fetch(&url, 4).await, Err(ListFetchError::TooLarge(4)));
    }

    #[tokio::test]
    async fn nobody_is_led_inside() {
        let strict = fetcher(false, &[]);
        let private = ListFetchError::Url("an address of a private network is not fetched");
        for url in [
            "http://127.0.0.1/x",
            "http://127.1/x",
            "http://0x7f000001/x",
            "http://2130706433/x",
            "http://[::1]/x",
            "http://[::ffff:10.0.0.1]/x",
            "http://169.254.169.254/latest/meta-data/",
            "https://192.168.1.1/x",
        ] {
            assert_eq!(strict.fetch(url, 9).await, Err(private.clone()), "{url}");
        }
        let schemes = ListFetchError::Url("only http and https are fetched");
        for url in ["file:///etc/passwd", "ftp://example.com/x", "ldap://ca/x"] {
            assert_eq!(strict.fetch(url, 9).await, Err(schemes.clone()), "{url}");
        }
        assert_eq!(
            strict.fetch("http://u:p@example.com/", 9).await,
            Err(ListFetchError::Url("a URL with a user name is not fetched"))
        );
        // A name that leads to this machine.
        assert_eq!(
            strict.fetch("http://localhost:1/x", 9).await,
            Err(ListFetchError::Transport("cannot be reached"))
        );
        let metadata = fetcher(true, &[]).fetch("http://169.254.169.254/", 9).await;
        assert_eq!(metadata, Err(private));
    }

    #[tokio::test]
    async fn a_host_that_the_operator_names_is_asked() {
        let url = server(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\nok");
        assert!(fetcher(false, &[]).fetch(&url, 9).await.is_err());
        let f = fetcher(false, &["127.0.0.1"]);
        assert_eq!(f.fetch(&url, 9).await, Ok(b"ok".to_vec()));
        let named = url.replace("127.0.0.1", "LocalHost");
        assert!(f.fetch(&named, 9).await.is_err());
        let f = fetcher(false, &["LOCALHOST"]);
        assert_eq!(f.fetch(&named, 9).await, Ok(b"ok".to_vec()));
    }

    #[tokio::test]
    async fn redirects_are_few_and_each_is_judged() {
        fn to(location: &str) -> String {
            let answer = format!(
                "HTTP/1.1 302 Found\r\nlocation: {location}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
            );
            server(Box::leak(answer.into_boxed_str()).as_bytes())
        }
        let f = fetcher(true, &[]);
        let good = server(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\nok");
        let one = to(&good);
        let three = to(&to(&one));
        assert_eq!(f.fetch(&one, 9).await, Ok(b"ok".to_vec()));
        assert_eq!(f.fetch(&three, 9).await, Ok(b"ok".to_vec()));
        assert_eq!(
            f.fetch(&to(&three), 9).await,
            Err(ListFetchError::Redirects)
        );
        assert_eq!(
            f.fetch(&to("/a.crl"), 9).await,
            Err(ListFetchError::Redirects)
        );
        for bad in ["file:///etc/passwd", "http://10.0.0.1/x", "gopher://x/"] {
            let got = f.fetch(&to(bad), 9).await;
            assert!(matches!(got, Err(ListFetchError::Url(_))), "{bad}: {got:?}");
        }
        let nowhere =
            server(b"HTTP/1.1 302 Found\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
        assert_eq!(f.fetch(&nowhere, 9).await, Err(ListFetchError::Redirects));
    }

    #[tokio::test]
    async fn a_server_that_dribbles_breaks_off_or_refuses_is_told_apart() {
        let f = fetcher(true, &[]);
        let dribble = serve(|mut stream| {
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\n");
            for _ in 0..1000 {
                if stream.write_all(b"x").is_err() {
                    return;
                }
                std::thread::sleep(Duration::from_millis(20));
            }
        });
        let begun = std::time::Instant::now();
        assert_eq!(
            f.fetch(&dribble, 9999).await,
            Err(ListFetchError::Transport("took too long"))
        );
        assert!(begun.elapsed() < Duration::from_secs(5));
        let short =
            server(b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\nconnection: close\r\n\r\nhalf");
        assert_eq!(
            f.fetch(&short, 99).await,
            Err(ListFetchError::Transport("broke off its answer"))
        );
        let gone =
            server(b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
        assert_eq!(f.fetch(&gone, 99).await, Err(ListFetchError::Status(404)));
    }
}
