//! One connection to one worker: frames out in order, answers in as they come.

use crate::config::PoolConfig;
use crate::errors::to_port;
use crate::quarantine::{Content, Quarantine};
use countersign_core::ports::hsm::HsmError;
use countersign_hsm_protocol::{Reply, Request, RequestBody, Response, WorkerError, frame};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

/// The worker gives up a waiting call at its deadline by itself; only one that does not even do that
/// is killed, so much later.
const GRACE: Duration = Duration::from_millis(500);
const LOOK_EVERY: Duration = Duration::from_millis(50);
const WRITE_AT_ONCE: usize = 64 * 1024;

/// One call on its way to the worker.
#[derive(Debug)]
pub(crate) struct Call {
    pub(crate) body: RequestBody,
    pub(crate) deadline: Duration,
    /// `None`: nobody waits (an advance).
    pub(crate) reply: Option<oneshot::Sender<Result<Reply, HsmError>>>,
}

/// Why a connection ended.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// The pool is stopping.
    Asked,
    /// The worker closed it, or died.
    Closed,
    /// A call was not answered in time.
    Hang,
    /// The worker says that it must be started anew.
    Broken,
}

struct Pending {
    reply: Option<oneshot::Sender<Result<Reply, HsmError>>>,
    content: Option<Content>,
    overdue_at: Instant,
    is_init: bool,
}

#[derive(Default)]
struct InFlight(Mutex<BTreeMap<u64, Pending>>);

/// Serves calls until the connection ends; then every call in flight has its answer.
pub(crate) async fn serve(
    config: &PoolConfig,
    stream: UnixStream,
    calls: &mut mpsc::Receiver<Call>,
    quarantine: &Arc<Quarantine>,
    stop: &CancellationToken,
) -> End {
    let in_flight = Arc::new(InFlight::default());
    let (read, mut write) = stream.into_split();
    let (ended, mut reader_end) = oneshot::channel();
    let reader = tokio::spawn({
        let (in_flight, quarantine) = (Arc::clone(&in_flight), Arc::clone(quarantine));
        async move {
            let _ = ended.send(read_answers(read, &in_flight, &quarantine).await);
        }
    });
    let mut look = tokio::time::interval(LOOK_EVERY);
    look.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut next_id = 0_u64;
    let mut buffer = Vec::with_capacity(WRITE_AT_ONCE);
    let end = loop {
        tokio::select! {
            biased;
            () = stop.cancelled() => break End::Asked,
            end = &mut reader_end => break end.unwrap_or(End::Closed),
            _ = look.tick() => {
                if in_flight.any_overdue() {
                    break End::Hang;
                }
            }
            call = calls.recv() => {
                let Some(call) = call else { break End::Asked };
                buffer.clear();
                add(&mut buffer, call, &mut next_id, &in_flight);
                while buffer.len() < WRITE_AT_ONCE {
                    match calls.try_recv() {
                        Ok(call) => add(&mut buffer, call, &mut next_id, &in_flight),
                        Err(_) => break,
                    }
                }
                if let Some(end) = send(&mut write, &buffer, config.call_deadline).await {
                    break end;
                }
            }
        }
    };
    if end == End::Asked {
        in_flight.drained(config.call_deadline).await;
    }
    reader.abort();
    let _ = reader.await;
    in_flight.fail_all(&end, config, quarantine);
    end
}

async fn send(write: &mut OwnedWriteHalf, bytes: &[u8], within: Duration) -> Option<End> {
    match tokio::time::timeout(within, write.write_all(bytes)).await {
        Ok(Ok(())) => None,
        Ok(Err(_)) => Some(End::Closed),
        // The worker does not even read.
        Err(_) => Some(End::Hang),
    }
}

fn add(buffer: &mut Vec<u8>, call: Call, next_id: &mut u64, in_flight: &InFlight) {
    if call.reply.as_ref().is_some_and(oneshot::Sender::is_closed) {
        // Nobody waits any more and nothing was sent: nothing happens.
        return;
    }
    *next_id = next_id.wrapping_add(1);
    let content = Content::of(&call.body);
    let is_init = matches!(call.body, RequestBody::InitToken { .. });
    let request = Request {
        id: *next_id,
        deadline_ms: u32::try_from(call.deadline.as_millis()).unwrap_or(u32::MAX),
        body: call.body,
    };
    match frame::encode(&request) {
        Ok(bytes) => {
            in_flight.lock().insert(
                *next_id,
                Pending {
                    reply: call.reply,
                    content,
                    overdue_at: Instant::now() + call.deadline + GRACE,
                    is_init,
                },
            );
            buffer.extend_from_slice(&bytes);
        }
        Err(e) => {
            if let Some(reply) = call.reply {
                let _ = reply.send(Err(HsmError::Refused {
                    code: "bad-request".into(),
                    detail: e.to_string(),
                }));
            }
        }
    }
}

async fn read_answers(read: OwnedReadHalf, in_flight: &InFlight, quarantine: &Quarantine) -> End {
    let mut read = BufReader::with_capacity(WRITE_AT_ONCE, read);
    let mut payload = Vec::new();
    loop {
        let mut prefix = [0; 4];
        if read.read_exact(&mut prefix).await.is_err() {
            return End::Closed;
        }
        let Ok(length) = frame::payload_length(prefix) else {
            tracing::error!("a worker sent a frame that is too long");
            return End::Broken;
        };
        payload.resize(length, 0);
        if read.read_exact(&mut payload).await.is_err() {
            return End::Closed;
        }
        let Ok(response) = frame::decode::<Response>(&payload) else {
            tracing::error!("a worker sent a frame that is no answer");
            return End::Broken;
        };
        let Some(pending) = in_flight.lock().remove(&response.id) else {
            tracing::error!(id = response.id, "a worker answered what was not asked");
            return End::Broken;
        };
        // A success clears it; a refusal before the module was asked (a worker newly started is behind
        // its logs) says nothing.
        if response.result.is_ok()
            && let Some(content) = &pending.content
        {
            quarantine.clear(content);
        }
        // A token half made: the next start of the worker clears it away.
        let broken = pending.is_init
            && matches!(&response.result, Err(e) if !matches!(
                e,
                WorkerError::BadRequest { .. } | WorkerError::TokenTaken(_)
            ));
        match pending.reply {
            Some(reply) => {
                let _ = reply.send(response.result.map_err(to_port));
            }
            None => {
                if let Err(error) = response.result {
                    // The next signature is told `LogBehind`, and why it matters.
                    tracing::warn!(%error, "the worker refused new leaves");
                }
            }
        }
        if broken {
            return End::Broken;
        }
    }
}

impl InFlight {
    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<u64, Pending>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn any_overdue(&self) -> bool {
        let now = Instant::now();
        self.lock().values().any(|p| p.overdue_at <= now)
    }

    /// Waits until all is answered, or `limit` has passed.
    async fn drained(&self, limit: Duration) {
        let until = Instant::now() + limit;
        while !self.lock().is_empty() && Instant::now() < until {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    fn fail_all(&self, end: &End, config: &PoolConfig, quarantine: &Quarantine) {
        let all = std::mem::take(&mut *self.lock());
        let now = Instant::now();
        let sessions = config
            .threads
            .unwrap_or_else(|| std::thread::available_parallelism().map_or(2, Into::into));
        let mut struck = 0;
        for pending in all.into_values() {
            let overdue = pending.overdue_at <= now;
            let suspect = match end {
                End::Hang => overdue,
                End::Closed => true,
                End::Asked | End::Broken => false,
            };
            if suspect
                && struck < sessions
                && let Some(content) = pending.content
            {
                struck += 1;
                quarantine.strike(content);
            }
            if let Some(reply) = pending.reply {
                let _ = reply.send(Err(if overdue {
                    HsmError::Deadline
                } else {
                    HsmError::Unavailable("the worker ended during the call".into())
                }));
            }
        }
    }
}
