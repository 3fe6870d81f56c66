//! The socket: frames in, checks in the order of arrival, answers out.

use crate::authorise::check_leaf;
use crate::logs::lock;
use crate::run::{TokenSlot, Worker};
use crate::signer::{Job, Work};
use crate::token::Token;
use countersign_core::TenantId;
use countersign_core::failpoint;
use countersign_core::ports::hsm::Inventory;
use countersign_hsm_protocol::frame::{self, MAX_LEAF_HASHES};
use countersign_hsm_protocol::message::{MAX_CHALLENGE, MAX_NONCE, SignRequest};
use countersign_hsm_protocol::{
    ClientHello, Reply, Request, RequestBody, Response, TokenState, VERSION, WorkerError,
    WorkerHello,
};
use serde::de::DeserializeOwned;
use std::io::{self, BufReader, Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// The server has one connection; tests and an operator's tool may have some more.
const MAX_CONNECTIONS: usize = 16;
const HELLO_WITHIN: Duration = Duration::from_secs(10);
/// A client that does not read its answers for so long loses its connection.
const WRITE_WITHIN: Duration = Duration::from_secs(10);

/// Who waits for an answer.
#[derive(Debug, Clone)]
pub struct Answer {
    connection: Arc<Mutex<UnixStream>>,
    id: u64,
}

impl Answer {
    /// The request's id.
    #[must_use]
    pub const fn id(&self) -> u64 {
        self.id
    }

    /// Answers. If the client is gone, so is the answer: a signature in it is destroyed.
    pub fn send(&self, result: Result<Reply, WorkerError>) {
        let response = Response {
            id: self.id,
            result,
        };
        match frame::encode(&response) {
            Ok(bytes) => {
                let mut stream = lock(&self.connection);
                if let Err(e) = stream.write_all(&bytes) {
                    tracing::warn!(id = self.id, error = %e, "an answer could not be sent");
                    // A frame may be cut: the connection is of no more use.
                    let _ = stream.shutdown(std::net::Shutdown::Both);
                }
            }
            Err(e) => tracing::error!(id = self.id, error = %e, "an answer does not fit a frame"),
        }
    }
}

/// Makes the socket: 0600, or open to a client of another user, whom the kernel names to us.
///
/// # Errors
/// The system's.
pub fn listen(worker: &Worker) -> io::Result<UnixListener> {
    let path = &worker.door.path;
    let (Some(folder), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(io::ErrorKind::InvalidInput.into());
    };
    // The state folder's lock is ours, so a socket that is there is a dead worker's.
    match std::fs::remove_file(path) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
        _ => {}
    }
    // A socket's path has at most 107 bytes (unix(7)); through the folder's descriptor it is short.
    let folder = std::fs::File::open(folder)?;
    let short = std::path::PathBuf::from(format!("/proc/self/fd/{}", folder.as_raw_fd()));
    let listener = UnixListener::bind(short.join(name))?;
    let mode = if worker.door.client_uid.is_some() {
        0o666
    } else {
        0o600
    };
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode))?;
    Ok(listener)
}

/// Accepts connections for ever.
pub fn accept(worker: &Arc<Worker>, listener: &UnixListener) {
    let open = Arc::new(AtomicUsize::new(0));
    for stream in listener.incoming() {
        let stream = match stream {
            Ok(s) => s,
            Err(e) => {
                tracing::warn!(error = %e, "accept");
                std::thread::sleep(Duration::from_millis(100));
                continue;
            }
        };
        if !welcome(&stream, worker.door.client_uid) {
            tracing::error!("a connection of another user was refused");
            continue;
        }
        if open.load(Ordering::Relaxed) >= MAX_CONNECTIONS {
            tracing::warn!("too many connections");
            continue;
        }
        open.fetch_add(1, Ordering::Relaxed);
        let (worker, open) = (Arc::clone(worker), Arc::clone(&open));
        let spawned = std::thread::Builder::new()
            .name("connection".into())
            .spawn(move || {
                // A panic on hostile bytes ends the connection only.
                let served = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
                    serve_connection(&worker, stream)
                }));
                match served {
                    Ok(Ok(())) => {}
                    Ok(Err(e)) => tracing::warn!(error = %e, "connection closed"),
                    Err(_) => tracing::error!("connection closed by a panic"),
                }
                open.fetch_sub(1, Ordering::Relaxed);
            });
        if spawned.is_err() {
            tracing::error!("no thread for a connection");
        }
    }
}

/// Only our own user and the one named are heard (`SO_PEERCRED`), whatever the folder's permissions
/// became.
fn welcome(stream: &UnixStream, client_uid: Option<u32>) -> bool {
    rustix::net::sockopt::socket_peercred(stream).is_ok_and(|peer| {
        peer.uid == rustix::process::geteuid() || Some(peer.uid.as_raw()) == client_uid
    })
}

fn serve_connection(worker: &Worker, stream: UnixStream) -> io::Result<()> {
    stream.set_read_timeout(Some(HELLO_WITHIN))?;
    stream.set_write_timeout(Some(WRITE_WITHIN))?;
    let writer = Arc::new(Mutex::new(stream.try_clone()?));
    let mut reader = BufReader::with_capacity(64 * 1024, stream);
    let Some(hello) = read_message::<ClientHello>(&mut reader)? else {
        return Ok(());
    };
    let answer = frame::encode(&WorkerHello {
        version: VERSION,
        pid: std::process::id(),
        token: worker.token_state(),
        sandbox: worker.sandbox.clone(),
    })
    .map_err(io::Error::other)?;
    lock(&writer).write_all(&answer)?;
    if hello.version != VERSION {
        return Err(io::Error::other("another protocol version"));
    }
    reader.get_ref().set_read_timeout(None)?;
    while let Some(request) = read_message::<Request>(&mut reader)? {
        let answer = Answer {
            connection: Arc::clone(&writer),
            id: request.id,
        };
        let deadline = Instant::now()
            .checked_add(Duration::from_millis(u64::from(request.deadline_ms)))
            .ok_or(io::ErrorKind::InvalidInput)?;
        if let Some(result) = handle(worker, request.body, deadline, &answer) {
            if let Err(error) = &result {
                tracing::info!(id = request.id, %error, "refused");
            }
            answer.send(result);
        }
    }
    Ok(())
}

/// Checks a request in its turn. `None`: a thread will answer.
fn handle(
    worker: &Worker,
    body: RequestBody,
    deadline: Instant,
    answer: &Answer,
) -> Option<Result<Reply, WorkerError>> {
    if matches!(body, RequestBody::Ping) {
        return Some(Ok(Reply::Pong));
    }
    if let RequestBody::InitToken {
        tenant,
        label,
        pins,
    } = body
    {
        return Some(worker.init_token(tenant, &label, &pins).map(Reply::Token));
    }
    let token = match &*worker.token() {
        TokenSlot::Ready(token) => Arc::clone(token),
        TokenSlot::Absent(_) => return Some(Err(WorkerError::TokenAbsent)),
        TokenSlot::Failed(error) => return Some(Err(error.clone())),
    };
    match check(worker, &token, body) {
        Ok(Checked::Done(reply)) => Some(Ok(reply)),
        Ok(Checked::For(work, place)) => {
            place.fill(Job {
                work,
                deadline,
                answer: answer.clone(),
                token,
                queued: Instant::now(),
            });
            None
        }
        Err(error) => Some(Err(error)),
    }
}

enum Checked<'a> {
    Done(Reply),
    For(Work, crate::signer::Place<'a>),
}

fn check<'a>(
    worker: &'a Worker,
    token: &Token,
    body: RequestBody,
) -> Result<Checked<'a>, WorkerError> {
    let size = |size| Ok(Checked::Done(Reply::Log { size }));
    match body {
        RequestBody::Ping | RequestBody::InitToken { .. } => Ok(Checked::Done(Reply::Pong)),
        RequestBody::Serves { tenant } => Ok(Checked::Done(Reply::Serves(
            token.serves(&worker.dir, tenant),
        ))),
        RequestBody::OpenLog { tenant, key } => {
            let log = worker.logs.get(token, tenant, key)?;
            let seen = lock(&log).log.size();
            size(seen)
        }
        RequestBody::Advance {
            tenant,
            key,
            checkpoint,
            from_size,
            leaf_hashes,
            uses,
        } => {
            bounded(&leaf_hashes)?;
            let log = worker.logs.get(token, tenant, key)?;
            let mut log = lock(&log);
            let new = log
                .log
                .advance(&checkpoint, from_size, &leaf_hashes, &uses)?;
            failpoint::hit("worker.before-mark");
            log.write_mark(key)
                .inspect_err(|_| worker.logs.forget(key))?;
            failpoint::hit("worker.after-mark");
            size(new)
        }
        RequestBody::Resync {
            tenant,
            key,
            checkpoint,
            consistency_proof,
            base_size,
            base_frontier,
            leaf_hashes,
            uses,
        } => {
            bounded(&leaf_hashes)?;
            let log = worker.logs.get(token, tenant, key)?;
            let mut log = lock(&log);
            let new = log.log.resync(
                &checkpoint,
                &consistency_proof,
                base_size,
                &base_frontier,
                &leaf_hashes,
                &uses,
            )?;
            log.write_mark(key)
                .inspect_err(|_| worker.logs.forget(key))?;
            size(new)
        }
        RequestBody::Sign(request) => check_sign(worker, token, request),
        RequestBody::GenerateKey {
            tenant,
            key,
            algorithm,
        } => {
            if !token.serves(&worker.dir, tenant) {
                return Err(WorkerError::TokenTaken("by others than this tenant".into()));
            }
            let work = Work::Generate {
                tenant,
                key,
                algorithm,
            };
            Ok(Checked::For(work, worker.queue.place()?))
        }
        RequestBody::DestroyKey { tenant, key } => Ok(Checked::For(
            Work::Destroy { tenant, key },
            worker.queue.place()?,
        )),
        RequestBody::Inventory { tenant } => {
            if !token.serves(&worker.dir, tenant) {
                return Ok(Checked::Done(Reply::Inventory(Inventory::default())));
            }
            Ok(Checked::For(
                Work::Inventory { tenant },
                worker.queue.place()?,
            ))
        }
        RequestBody::IdentifyDevice { tenant } => {
            let work = Work::Identify;
            evidence(worker, token, tenant, work)
        }
        RequestBody::AnswerChallenge { tenant, challenge } => {
            between("id_object", challenge.id_object.len(), MAX_CHALLENGE)?;
            between(
                "encrypted_secret",
                challenge.encrypted_secret.len(),
                MAX_CHALLENGE,
            )?;
            evidence(worker, token, tenant, Work::Answer(challenge))
        }
        RequestBody::CertifyKey { tenant, key, nonce } => {
            between("nonce", nonce.len(), MAX_NONCE)?;
            let work = Work::Certify { tenant, key, nonce };
            evidence(worker, token, tenant, work)
        }
    }
}

/// Asks for evidence only for those who have their keys here, and only where there is an adapter.
fn evidence<'a>(
    worker: &'a Worker,
    token: &Token,
    tenant: TenantId,
    work: Work,
) -> Result<Checked<'a>, WorkerError> {
    if !token.serves(&worker.dir, tenant) {
        return Err(WorkerError::NoSuchKey);
    }
    worker.adapter()?;
    Ok(Checked::For(work, worker.queue.place()?))
}

fn between(field: &str, length: usize, most: usize) -> Result<(), WorkerError> {
    if (1..=most).contains(&length) {
        Ok(())
    } else {
        Err(WorkerError::BadRequest {
            field: field.into(),
            problem: format!("1 to {most} bytes"),
        })
    }
}

/// Design invariant 2: no use before its record.
fn check_sign<'a>(
    worker: &'a Worker,
    token: &Token,
    request: SignRequest,
) -> Result<Checked<'a>, WorkerError> {
    failpoint::hit("worker.before-check");
    // Another node may have destroyed it; the module may not have noticed.
    if worker.dir.shared() && !worker.dir.binding(request.key).exists() {
        worker.logs.forget(request.key);
        return Err(WorkerError::NoSuchKey);
    }
    let log = worker.logs.get(token, request.tenant, request.key)?;
    let mut log = lock(&log);
    log.log.check_open(request.index, &request.leaf)?;
    // The log's tenant is the binding's.
    check_leaf(log.tenant, &request)?;
    let place = worker.queue.place()?;
    // From here on the leaf is used, whatever becomes of the signature.
    if !log.log.close(request.index) {
        return Err(WorkerError::LeafAlreadyUsed);
    }
    failpoint::hit("worker.after-check");
    Ok(Checked::For(Work::Sign(request), place))
}

fn bounded(leaf_hashes: &[[u8; 32]]) -> Result<(), WorkerError> {
    if leaf_hashes.len() <= MAX_LEAF_HASHES {
        Ok(())
    } else {
        Err(WorkerError::BadRequest {
            field: "leaf_hashes".into(),
            problem: format!("at most {MAX_LEAF_HASHES}"),
        })
    }
}

/// One message; `None` at the end of the connection between two frames.
fn read_message<T: DeserializeOwned>(reader: &mut impl Read) -> io::Result<Option<T>> {
    let mut prefix = [0; 4];
    match reader.read_exact(&mut prefix) {
        Ok(()) => {}
        Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        Err(e) => return Err(e),
    }
    let length = frame::payload_length(prefix).map_err(io::Error::other)?;
    let mut payload = vec![0; length];
    reader.read_exact(&mut payload)?;
    frame::decode(&payload).map(Some).map_err(io::Error::other)
}

impl Worker {
    /// What the hello says of the token.
    pub(crate) fn token_state(&self) -> TokenState {
        match &*self.token() {
            TokenSlot::Absent(_) => TokenState::Absent,
            TokenSlot::Ready(token) => TokenState::Ready {
                tenant: token.tenant(),
            },
            TokenSlot::Failed(WorkerError::Latched(reason)) => TokenState::Latched {
                reason: reason.clone(),
            },
            TokenSlot::Failed(error) => TokenState::Failed {
                error: error.clone(),
            },
        }
    }
}
