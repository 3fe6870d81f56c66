//! Every rule of the TPM 2.0 format, in its three containers: evidence that is accepted, and
//! evidence it refuses.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "tpm2/attestation_key.rs"]
mod attestation_key;
mod common;
#[path = "tpm2/identity.rs"]
mod identity;
#[path = "tpm2/key.rs"]
mod key;
#[path = "tpm2/loose.rs"]
mod loose;
#[path = "tpm2/request.rs"]
mod request;
#[path = "tpm2/webauthn.rs"]
mod webauthn;

use common::{Ask, refused_by};
use countersign_testkit_evidence::cert::Certificate;
use countersign_testkit_evidence::tpm2::Tpm2;

fn ask(t: &Tpm2) -> Ask {
    Ask::key(t.key.spki(), t.root())
}

/// One change, and the check that must see it.
#[track_caller]
fn one_change(change: impl FnOnce(&mut Tpm2), check: &str) {
    let mut t = Tpm2::default();
    change(&mut t);
    refused_by(&ask(&t).about(&t.files()), check);
}

/// Loose files with another attestation key certificate, which the CA signed all the same.
#[track_caller]
fn ak_certificate(change: impl FnOnce(&mut Certificate), check: &str) {
    let t = Tpm2::default();
    let mut c = t.ak_certificate();
    change(&mut c);
    let mut files = t.files();
    files[3] = c.sign(&t.ca_key);
    refused_by(&ask(&t).about(&files), check);
}

#[track_caller]
fn ca_certificate(change: impl FnOnce(&mut Certificate), check: &str) {
    let t = Tpm2::default();
    let mut c = t.ca();
    change(&mut c);
    let mut files = t.files();
    files[4] = c.sign(&t.root_key);
    refused_by(&ask(&t).about(&files), check);
}

fn extension(c: &mut Certificate, oid: &str, value: Vec<u8>) {
    let found = c.extensions.iter_mut().find(|(o, ..)| o == oid).unwrap();
    found.2 = value;
}
