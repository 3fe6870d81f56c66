//! Fortanix, Data Security Manager.

use super::{Role, Row};
use crate::vendor::fortanix::LINE;

pub(super) const ROWS: &[Row] = &[Row {
    vendor: "Fortanix",
    line: LINE,
    role: Role::Root,
    name: "C=US, ST=California, L=Santa Clara, O=Fortanix, Inc., CN=Fortanix Attestation and Provisioning Root CA",
    spki: "30820222300d06092a864886f70d01010105000382020f003082020a0282020100a68ca1f72801c8d3732b639301b7b10da67d75a53e112450b503cf715649e299c6295670142aae28292bfc3b20621973d75559abee7e85c98d999a0bfc16540abdcf12d320ae275ef52040740104974965e4e84e8ac3b5a951434c197028081b8a075ec8c6aaccf0c47f473b5f2235b2ac006614737e0d2af395eb916d0822f11e09e91bc3cd95589cbccd13cc60f3a6586dfdbe9f6bd9940d0b21be89d55fba95073015404f7a90d7ecd4607a99e93286b0b0c7a264b6f4610e27bb04534b3c30cbfe4bdb9304f29fb876b1a40b4d4c67447b9ebeb40001d1a27589ac6e3501f1e6819f5f029881c8859659d16052290780c978986a4e36e0b22343e8cd45abad0bec61b57becb2553a7bf842a4be17b7a9651f0186e9d7ca800dba79bca8a5be26429c467f77b7b43c2430ca8654cddb44631464f1aeb9cc20375086c87c1425ae13b710145283164b0f7b24f330a00bc2ce7cd943376c5ba58f1664d531b2623af09c0297e87fadf524bb0e6c3919bd21006e094067457b513637b29cbc8f3480e8931b5d4dd165551e806481623bfebea403f3f97b1b1ba9ef8366345cc7e16e2b8ca75b0c3f16ad6acec38e880ab661de9db6eec65d68907937d6c89047e4727c67964fc46b181057471f9d57d6cd9cce4238559f9d76743a96bd477818273234bf1a0b5320393c0f4ac363cdf07b17d4c86ea6a3654331b092e5acaf1b0203010001",
    certificates: &["d71a15b34e781e9ef91354fabae8b115e062b89795fec3aec0e045fed266c2c2"],
    not_before: "2023-09-01T16:38:12Z",
    not_after: "2033-08-29T16:38:12Z",
    published: "support.fortanix.com, Using Fortanix DSM for Verifying Key Attestation Statements (the example's chain)",
    second_source: false,
    note: "also named at pki.fortanix.com, which was not fetched",
}];
