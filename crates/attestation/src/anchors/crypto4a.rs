//! Crypto4A, QxHSM and QASM.

use super::{Role, Row};
use crate::vendor::crypto4a::LINE;

pub(super) const ROWS: &[Row] = &[Row {
    vendor: "Crypto4A",
    line: LINE,
    role: Role::Root,
    name: "C=Canada, ST=Ontario, L=Ottawa, O=Crypto4A, CN=C4A_RCA",
    spki: "3076301006072a8648ce3d020106052b8104002203620004b14c11d9448f28167da5726a8981bbb403bc304b324055602b5ab07612ed57f1d14a08e841ca7c6370b683f73c5919fceecd9f419613c6e141d1504ba3b7423189d09400311393f4b80bbb18e7e18772035b17fd1e84a79bbfc6e986893067df",
    certificates: &["637e6a7e95ded7272f5b3e5a0d94414d23e1b54f9e2e6593b6417562bbb5433c"],
    not_before: "2020-07-13T13:06:33Z",
    not_after: "2045-07-13T13:06:33Z",
    published: "pkic.org/remote-key-attestation/validation/crypto4a-qasm (the maker's page at the PKI Consortium)",
    second_source: false,
    note: "authority key infrastructure 1.0; the maker announces roots of version 2.0, which are not here",
}];
