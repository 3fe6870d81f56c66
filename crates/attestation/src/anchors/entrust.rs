//! Entrust, nShield.
//!
//! The root is a bare key, not a certificate; warrants name it.

use super::{Role, Row};
use crate::vendor::nshield::LINE;

pub(super) const ROWS: &[Row] = &[Row {
    vendor: "Entrust",
    line: LINE,
    role: Role::Key,
    name: "KWARN-1",
    spki: "30819b301006072a8648ce3d020106052b81040023038186000401d21dfde6d7e001c5a4f78ae8d2f799e0caf79c60d673d0da88b206a3ba52f20dce0956ce02f01af32736767c8b9feff398c29e0208527371856aa2f40fcae61d9601641ca5472f06257de815ae06b33e1b868c149645f55fb7c91738014d3d235e7b247649cc2f7d1075e9b4d4388661e754a7fc386913c33ddd60208bded5301a1b77",
    certificates: &[],
    not_before: "",
    not_after: "",
    published: "nshielddocs.entrust.com, nShield Key Attestation Format, nShield root key",
    second_source: false,
    note: "ECDSA P-521; a real bundle's warrant verifies under it",
}];
