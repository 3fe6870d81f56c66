//! Thales, Luna HSMs: the roots of public key confirmations.
//!
//! Pinned by key: two certificates of one key are about, one with a SHA-1 self-signature. The
//! copy of the root inside a confirmation is never trusted for being there.

use super::{Role, Row};

/// The product line of confirmations over RSA keys.
pub(crate) const RSA: &str = "Luna PKC, RSA";

/// The product line of confirmations over EC keys.
pub(crate) const ECC: &str = "Luna PKC, ECC";

pub(super) const ROWS: &[Row] = &[
    Row {
        vendor: "Thales",
        line: RSA,
        role: Role::Root,
        name: "C=CA, ST=Ontario, L=Ottawa, O=Chrysalis-ITS Inc., CN=Chrysalis-ITS Root",
        spki: "30820220300d06092a864886f70d01010105000382020d00308202080282020100ba601938270486e31b5a46a8db3903f50b9dfc9c0db0599ea1b65e3a571154fd56c649eb69bb0569d698430cbb967b433da8955b0cd75ec066f827a607a025159c5c211572eed232750187098e6639e1d34533bf1d2d4911bc1968d5dced4e9d86d9e38d6ac99733431d03bf400c4c1af46cd2b5c97abc26d77890e6e247a2532303a0d2407e9d336800dca17c66477e2b7a247c6652eb3ec9f5999b084f7c6afee17e864863fc4a97918ae2aaa024b680ac4a6ab23c99e66e92006d07ac859f5a7a4d7dbfef2c9c6eb161932a2f7d7faf4d3b88281c2eeda061c335e6b1f9676da207eea64f961d2583b3014ece62bcb841565e36dc469a2501aa7064905b36f88309d5df94ea3801de37b788062e432e4de1bff7320757dc1c33aea869b646480bceaeba4319047c381fb3655b2cb1fc6c1a5a0456e3bea8b4c4abee9c828eb9e8c284c02730f727df7891167692fe6906c8e473641dea3a9f95a7c9229df0c1d62f345f8f686821d1005e1ca2177cf3e2449f62c4493d5742e6e95167cf6758a61346ce83af0175e1731f31ac8bf6bf9e4578e4ff27b2925c2c7f39c588b3959e85ec29725463c6a97c8a710992fa6cb243e085e04368219308deff9868b4c3f7e5000f8015fae2c2f2fc4bae538fa62e3650ced89a683a01ded3d6ddc0372b23d7f70525d72b035002d3649122708e23529b68aeb7149a80052c751b0969020103",
        certificates: &[
            "696a7ee67bc4facff60911bc0b24a3a6bce75a2ef4c42318448add4501b69969",
            "807e1680ab0c933971fe7075595c1072e3183951a5a8ab53506f1093feff66e7",
        ],
        not_before: "2002-01-01T00:00:00Z",
        not_after: "2032-01-01T00:00:00Z",
        published: "pkic.org/remote-key-attestation/validation/thales-luna7 (serial 80450000000D); github.com/ThalesGroup/luna-pkc-validator (serial 804500000007)",
        second_source: true,
        note: "public exponent 3; the two certificates come from two publishers and hold one key",
    },
    Row {
        vendor: "Thales",
        line: ECC,
        role: Role::Root,
        name: "C=US, O=SafeNet, Inc., OU=Luna Manufacturer Integrity ECC, CN=SafeNet ECC Manufacturer Integrity Module ",
        spki: "3076301006072a8648ce3d020106052b810400220362000463886185ab42e31271f100a9731fee0bb4e67060ccedf7577444227169a5386ed250a73c7638cb8114a151ae162ea7d925ffc2f76023b58f145e9e7e3c4426af91b3755c3e9a0e49628f78c5a2f106e6f383c290693f0f7b0fe7107ed79d7be6",
        certificates: &["4cd8f4ea28f9de27b029c4118a4dfb3693b3e679ef8322ba123c93524478dd3e"],
        not_before: "2010-08-12T15:23:06Z",
        not_after: "2030-08-12T15:23:06Z",
        published: "github.com/ThalesGroup/luna-pkc-validator",
        second_source: false,
        note: "the name ends in a space; one publisher only, no second source was found to compare",
    },
];
