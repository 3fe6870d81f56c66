//! The process that alone loads a vendor's PKCS#11 module, knows the token's PIN and signs.
//!
//! Small enough to be read in a day; blocking threads, no async runtime. One worker serves one
//! token, made by it for one tenant or one that the operator's HSM already has. It trusts `countersignd` as little as it can:
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
//! | [`state_dir`] | the folders of token and worker: permissions, locks, durable writes |
//! | [`pin`] | PINs: made, sealed, latched |
//! | [`module`], [`softhsm`] | the vendor's library, its slots; SoftHSM's folder |
//! | [`token`] | made or taken up, login, sessions, the binding key, its tenants |
//! | [`tpm2`] | what a TPM itself says of a key |
//! | [`attributes`], [`keys`], [`binding`] | key pairs: made, read back, bound, loaded, destroyed |
//! | [`object_files`] | SoftHSM's files from outside: which one a crash cut short |
//! | [`spki`] | the little DER we need |
//! | [`evidence`] | what a device itself says of its keys, one folder for each vendor |
//! | [`raw_sign`] | `C_Sign` in two calls: with one line of [`sandbox::probe`] the only `unsafe` |
//! | [`sandbox`] | what this process may still do |
//! | [`key_log`], [`logs`], [`authorise`] | what the worker believes of the logs |
//! | [`signer`], [`server`], [`run`] | threads, socket, start and stop |
//! | [`look`] | module and token as they are found without a login, for operators |
//!
//! Token folder: `token.json` (pins), `bindings/`, `destroyed/`, `tenants/`, `user-pin.sealed`,
//! `pin-latched`, `logs/` (for nodes that join), for SoftHSM `tokens/`, for a TPM `tpm2-attestation-key.json`. State folder: `logs/`, `met/`,
//! `login-attempt`, `worker.sock`, `softhsm2.conf`. On one node both are one folder.

pub mod attributes;
pub mod authorise;
pub mod binding;
pub mod config;
pub mod errors;
pub mod evidence;
pub mod key_log;
pub mod keys;
pub mod logs;
pub mod look;
pub mod module;
pub mod object_files;
pub mod pin;
pub mod raw_sign;
pub mod run;
pub mod sandbox;
pub mod server;
pub mod signer;
pub mod softhsm;
pub mod spki;
pub mod state_dir;
pub mod token;
pub mod tpm2;
