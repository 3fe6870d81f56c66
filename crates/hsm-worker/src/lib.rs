//! The process that alone loads a vendor's PKCS#11 module, knows the token's PIN and signs.
//!
//! Small enough to be read in a day; blocking threads, no async runtime. One worker serves one
//! token. It trusts `countersignd` as little as it can:
//!
//! - it signs only what an *authorisation leaf already in the key's log* allows ([`key_log`],
//!   [`authorise`]): log keys and tenant are pinned when the token is made;
//! - each leaf is good for one signature;
//! - which key is whose is bound by a MAC made inside the token ([`binding`]);
//! - a wrong PIN is tried once, then latched on disk ([`pin`]).
//!
//! | module | what it holds |
//! | --- | --- |
//! | [`config`] | the configuration and the module's profile (hsm-config/) |
//! | [`state_dir`] | the worker's folder: permissions, lock, durable writes |
//! | [`pin`] | PINs: made, sealed, latched |
//! | [`token`] | module, slot, login, sessions, the binding key |
//! | [`attributes`], [`keys`], [`binding`] | key pairs: made, read back, bound, loaded, destroyed |
//! | [`spki`] | the little DER we need |
//! | [`raw_sign`] | the only `unsafe`: `C_Sign` in two calls |
//! | [`key_log`], [`logs`], [`authorise`] | what the worker believes of the logs |
//! | [`signer`], [`server`], [`run`] | threads, socket, start and stop |
//!
//! State folder: `token.json` (pins), `bindings/`, `logs/`, `user-pin.sealed`, `worker.sock`, and for
//! SoftHSM `softhsm2.conf` and `tokens/`.

pub mod attributes;
pub mod authorise;
pub mod binding;
pub mod config;
pub mod errors;
pub mod key_log;
pub mod keys;
pub mod logs;
pub mod pin;
pub mod raw_sign;
pub mod run;
pub mod server;
pub mod signer;
pub mod spki;
pub mod state_dir;
pub mod token;
