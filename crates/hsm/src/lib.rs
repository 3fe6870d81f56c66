//! The server's side of the workers: one `countersign-hsm-worker` for each token, started, watched,
//! killed when it hangs, started again; or started by others, and only connected to.
//!
//! [`WorkerPool`] is the port [`countersign_core::ports::hsm::Hsm`]. It loads no vendor library and
//! knows no PIN. What it promises:
//!
//! - a call is answered within its deadline: a worker that does not answer is killed (SIGKILL) and
//!   restarted, with growing pauses if it keeps dying;
//! - calls in flight at that moment get an error that can be retried; whether a signature was made
//!   is then unknown, and the error says so ([`HsmError::outcome_unknown`]);
//! - what one tenant's worker does, no other tenant feels: each has a process, a queue and a task
//!   of its own;
//! - frames are written by one task for each worker, in the order of the calls, so an
//!   [`advance`](countersign_core::ports::hsm::Hsm::advance) followed by a
//!   [`sign`](countersign_core::ports::hsm::Hsm::sign) arrives so;
//! - a request that stopped its worker twice is quarantined ([`quarantine`]).
//!
//! [`HsmError::outcome_unknown`]: countersign_core::ports::hsm::HsmError::outcome_unknown
#![forbid(unsafe_code)]

pub mod config;
mod connection;
mod errors;
pub mod look;
mod measures;
mod pool;
mod process;
pub mod quarantine;
mod supervise;

pub use config::{Connect, ExistingToken, PoolConfig, PoolError, Sandbox};
pub use pool::WorkerPool;
