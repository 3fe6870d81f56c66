//! The ports: what the service asks of its edges. Services see only these traits; edges implement
//! them and do not know each other.

pub mod ca;
pub mod devices;
pub mod evidence;
pub mod hsm;
pub mod revocation;
pub mod rows;
pub mod store;
