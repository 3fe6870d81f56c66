//! A timestamp authority (RFC 3161) for tests and the demo: each request is answered by
//! `openssl ts -reply`, so that what our client parses was made by somebody else's code.

use crate::error::{Error, Result, at, at_path};
use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use axum_server::Handle;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

const CONFIG: &str = "\
[tsa]
default_tsa = tsa1
[tsa1]
serial = DIR/serial
signer_cert = DIR/tsa.pem
signer_key = DIR/tsa-key.pem
certs = DIR/tsa-root.pem
signer_digest = sha256
default_policy = 1.3.6.1.4.1.55555.1
digests = sha256, sha384, sha512
accuracy = secs:1
ordering = no
tsa_name = yes
ess_cert_id_chain = no
ess_cert_id_alg = sha256
";

/// RFC 3161 §2.3: exactly one extended key usage, critical.
const TSA_EXTENSIONS: &str = "\
basicConstraints = critical,CA:false
keyUsage = critical,digitalSignature
extendedKeyUsage = critical,timeStamping
subjectKeyIdentifier = hash
authorityKeyIdentifier = keyid
";

/// A running timestamp authority. It stops when dropped.
#[derive(Debug)]
pub struct Tsa {
    dir: PathBuf,
    url: String,
    handle: Handle<SocketAddr>,
    thread: Option<JoinHandle<()>>,
}

impl Tsa {
    /// Starts one with its files in `dir`, over plain HTTP (RFC 3161 §3.4). Port 0 takes a free one.
    ///
    /// # Errors
    /// [`Error::Missing`] without openssl, [`Error::Io`] if the address is taken.
    pub fn start(dir: &Path, listen: &str) -> Result<Self> {
        let dir = absolute(dir)?;
        if !dir.join("tsa-root.pem").exists() {
            create(&dir)?;
        }
        let listener = TcpListener::bind(listen).map_err(at(listen))?;
        listener.set_nonblocking(true).map_err(at(listen))?;
        let address = listener.local_addr().map_err(at(listen))?;
        let state = Arc::new(Mutex::new(dir.clone()));
        let app = Router::new().route("/", post(reply)).with_state(state);
        let handle = Handle::new();
        let serving = handle.clone();
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(at("runtime"))?;
        let thread = std::thread::spawn(move || {
            let served = runtime.block_on(async move {
                axum_server::from_tcp(listener)?
                    .handle(serving)
                    .serve(app.into_make_service())
                    .await
            });
            if let Err(e) = served {
                eprintln!("timestamp authority stopped: {e}");
            }
        });
        Ok(Self {
            dir,
            url: format!("http://{address}/"),
            handle,
            thread: Some(thread),
        })
    }

    /// Where to post requests.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// The root that verifiers trust.
    #[must_use]
    pub fn root_file(&self) -> PathBuf {
        self.dir.join("tsa-root.pem")
    }

    /// Serves until the process ends.
    ///
    /// # Errors
    /// [`Error::Tool`] if the serving thread broke.
    pub fn wait(mut self) -> Result<()> {
        match self.thread.take().map(JoinHandle::join) {
            Some(Err(_)) => Err(Error::Tool {
                tool: "timestamp authority".to_owned(),
                message: "its thread ended in a panic".to_owned(),
            }),
            _ => Ok(()),
        }
    }
}

impl Drop for Tsa {
    fn drop(&mut self) {
        self.handle.shutdown();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

async fn reply(State(state): State<Arc<Mutex<PathBuf>>>, query: Bytes) -> Response {
    let answer = tokio::task::spawn_blocking(move || {
        // One at a time: openssl reads and rewrites the serial file.
        let dir = state.lock().map_err(|_| Error::Tool {
            tool: "timestamp authority".to_owned(),
            message: "an earlier request broke it".to_owned(),
        })?;
        answer(&dir, &query)
    })
    .await;
    match answer {
        Ok(Ok(bytes)) => (
            [(header::CONTENT_TYPE, "application/timestamp-reply")],
            bytes,
        )
            .into_response(),
        Ok(Err(e)) => (StatusCode::BAD_REQUEST, e.to_string()).into_response(),
        Err(_) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}

fn answer(dir: &Path, query: &[u8]) -> Result<Vec<u8>> {
    let work = crate::tempdir()?;
    let (request, response) = (work.path().join("q.tsq"), work.path().join("r.tsr"));
    std::fs::write(&request, query).map_err(at_path(&request))?;
    openssl(
        dir,
        &[
            "ts",
            "-reply",
            "-config",
            "tsa.cnf",
            "-section",
            "tsa1",
            "-queryfile",
            &request.to_string_lossy(),
            "-out",
            &response.to_string_lossy(),
        ],
    )?;
    std::fs::read(&response).map_err(at_path(&response))
}

fn create(dir: &Path) -> Result<()> {
    std::fs::create_dir_all(dir).map_err(at_path(dir))?;
    let write = |name: &str, text: &str| {
        let path = dir.join(name);
        std::fs::write(&path, text).map_err(at_path(&path))
    };
    write("tsa.cnf", &CONFIG.replace("DIR", &dir.to_string_lossy()))?;
    write("tsa.ext", TSA_EXTENSIONS)?;
    write("serial", "01\n")?;
    let ec = [
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:P-256",
        "-nodes",
    ];
    let root: Vec<&str> = ["req", "-x509", "-days", "3650", "-sha256"]
        .into_iter()
        .chain(ec)
        .chain(["-subj", "/O=Countersign testkit/CN=Test timestamp root"])
        .chain(["-addext", "keyUsage=critical,keyCertSign,cRLSign"])
        .chain(["-keyout", "root-key.pem", "-out", "root.tmp"])
        .collect();
    openssl(dir, &root)?;
    let request: Vec<&str> = ["req", "-new", "-sha256"]
        .into_iter()
        .chain(ec)
        .chain([
            "-subj",
            "/O=Countersign testkit/CN=Test timestamp authority",
        ])
        .chain(["-keyout", "tsa-key.pem", "-out", "tsa.csr"])
        .collect();
    openssl(dir, &request)?;
    openssl(
        dir,
        &[
            "x509",
            "-req",
            "-in",
            "tsa.csr",
            "-CA",
            "root.tmp",
            "-CAkey",
            "root-key.pem",
            "-CAcreateserial",
            "-days",
            "3650",
            "-sha256",
            "-extfile",
            "tsa.ext",
            "-out",
            "tsa.pem",
        ],
    )?;
    // Last, since its presence says that all are there.
    let root = dir.join("tsa-root.pem");
    std::fs::rename(dir.join("root.tmp"), &root).map_err(at_path(&root))
}

fn openssl(dir: &Path, args: &[&str]) -> Result<()> {
    let out = Command::new("openssl")
        .current_dir(dir)
        .args(args)
        .output()
        .map_err(|e| match e.kind() {
            std::io::ErrorKind::NotFound => Error::Missing {
                tool: "openssl",
                install: "apt-get install openssl",
            },
            _ => at("openssl")(e),
        })?;
    if out.status.success() {
        Ok(())
    } else {
        Err(Error::Tool {
            tool: format!("openssl {}", args.first().unwrap_or(&"")),
            message: String::from_utf8_lossy(&out.stderr).trim().to_owned(),
        })
    }
}

fn absolute(dir: &Path) -> Result<PathBuf> {
    std::path::absolute(dir).map_err(at_path(dir))
}
