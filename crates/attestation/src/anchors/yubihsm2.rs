//! Yubico, YubiHSM 2.
//!
//! Devices carry their own certificate alone, so what signs device certificates is pinned too.

use super::{Role, Row};

/// The product line.
pub(crate) const LINE: &str = "YubiHSM 2";

const PUBLISHED: &str = "developers.yubico.com, YubiHSM 2 attestation";

pub(super) const ROWS: &[Row] = &[
    Row {
        vendor: "Yubico",
        line: LINE,
        role: Role::Root,
        name: "CN=Yubico YubiHSM Root CA",
        spki: "30820222300d06092a864886f70d01010105000382020f003082020a0282020100e16a82f0aaf3d695ea803e018f783f768b21feca3274309b350d6e78f78e3573b9bb82acc22fa35cf99c53dbaac48acd0bafadeccc1cfb2c8101906f225eb0fa1e6ac13ef313b5538de5814cfff8c34357ce090f6605d697a5c864d08941f4925317e1fcd5bb2824324a90d41a447c8451d8c194c8503f74fdc86fee5735cdca5a22024343b9b721b3ca29b691aeb73b654481d5c08533b3fa112b8989330a2133533325b6aa86bc613680c475c88a2aa69df7f639bb6c3cab637e1f1a1c374176967c4ea042bbc86dfb7b696697b69677ea24150637dc2a229fa1d492da297378353afe56550d1041b030424d28cb6dde9d6ac479b21d5e2f49de66393e1263cd4c34bd02bf71c01e0475953ee8f2b3034e30753d93fdbfc369daba6ebe5a20df878cb08040a4fefccd28d0ac89908870187000dc4595fa9d24ce17235d7e35ad2b1c9b762159a53a6e2ed18fc05ee2dc84984176a66e6684ab0f378c2a8830c1788c53242a303c5199c9456fb9de93391b2ea1433865269c2113d77f2fced5791d9e8b4b2274ed6b0c1f6940e772f73e35101c38a47e406bdf423dc3a7d7a120e134b9f37f1ab36a46df1160581895c62a4c5bbda97a3043e46e6493f8696ce5b940eeaf69704b9a782ae28dc8c9298cf49f483d15ee66b866bb6b9a7c8be9de8ebbfe551cbaa1849f18c6f928f9ab9d60d7613ab155daba8c6a8463a196570203010001",
        certificates: &["094a3ac493c2bdcd65a54bdf40190f52bb03f7156397a3fc69d8aa9a392fb724"],
        not_before: "2017-01-01T00:00:00Z",
        not_after: "2071-10-05T00:00:00Z",
        published: PUBLISHED,
        second_source: true,
        note: "",
    },
    Row {
        vendor: "Yubico",
        line: LINE,
        role: Role::Intermediate,
        name: "CN=Yubico YubiHSM 6742036 Sub-CA",
        spki: "30820122300d06092a864886f70d01010105000382010f003082010a0282010100c770876cff44d227600d5c13f4a82e9cd3e2dec15d71100829e42f2de1883fbe802bf7bcd0f629452fd91b0d2cf2abe947aebd8346a4cf7c4e5498fad6ae5c3a5e3c3a712d222fecba4719a5434e9cd7b824a4252661c505752d160e3ded3f985aa618d19109797869ce5d0267310dbd0228467edd588e3ef226772cb5246748d0011e3ce87111c39fb07198bd8d977fd7a66b5a910cbb958da51d8ece33cc7a868f87ab2def0be61094a352db4f335b5a817d9f81bcfd862f3a2cc1de5d45456228fec9dd602d3571255f83435754d67f97a59a207bce1104555809c2bdaa0c948cf2564332a082ed36060d14200ccbd377666181f28a2dd79ee89c34923d870203010001",
        certificates: &["d7c6d8f45208e2a53996fb5a8f4d631b33ebabb64956b37b2ac151fbdbaf4ae9"],
        not_before: "2017-01-01T00:00:00Z",
        not_after: "2071-10-05T00:00:00Z",
        published: PUBLISHED,
        second_source: true,
        note: "signed by Yubico YubiHSM Root CA; signs device certificates",
    },
    Row {
        vendor: "Yubico",
        line: LINE,
        role: Role::Root,
        name: "CN=Yubico Attestation Root 1",
        spki: "30820122300d06092a864886f70d01010105000382010f003082010a0282010100c67afd3c4cf2b213f846a83ef1bcd689ed30ea3fda6436441c091d2d1065cc5568d5ef975d8b521059e4b9a205270865dd519f1d68779f3987efdd84aee1126ec90002e428ab6cd5f3b9dca18d2d9ba3cf9877c069dcaf8872285d06ef86ff5372bd844e6618d0facea61c8424401dfad831844317860bd17e03e6719dc6fa69032ea79049ad5a6327c0ede2d1302e72cadb138f391ef18ce2bd15a6055d269be04238932424c8abe0f7e61c2d4fc40322ffa71afa5cca2e707087c2933c828a626e921632e8aa2a34c29011da4d8923af5b20cc4ccb756f00af133a70f75bbe9ac52de2b8f479f9cef6cd193b07703110e71f8c60525e592f0aeb3e47c2d7fd0203010001",
        certificates: &["62760c6a6ef91679f454c8902b80fd009825b3f25da90f1fbace2ec6586cd5a8"],
        not_before: "2024-12-01T00:00:00Z",
        not_after: "9999-12-31T23:59:59Z",
        published: PUBLISHED,
        second_source: true,
        note: "common root of the hierarchy of 2024; no sample of a YubiHSM below it was seen",
    },
    Row {
        vendor: "Yubico",
        line: LINE,
        role: Role::Intermediate,
        name: "CN=YubiHSM Attestation B2 1",
        spki: "30820122300d06092a864886f70d01010105000382010f003082010a0282010100f1ecddc5b426965087027d3339f5cf765b0be7a7ae94128d430209c16c07af34f4ce10fd754fd2a8f05f7c2e4ac382a96d25c9bcea371c9f938c9a284691885f9abcecf58e6c3d2796326cd2706f0f0a084091fa7bd6b9d26d840928e16df0348276d66122652971e88650f48a38cfad9d288e43a404a56b6f9c9df7459c48956f5225c4ca8d2b2a7345772dcffb17e8f77ba3007c53533c21ef69ff8e6034163654a49b2330c0d2896889e8a935c2de159ef8521c3554945d5a909e16c9b63981a64fd2c47ff2c1e368a0a2874ff3e6add10372aed2032f370567b7b7d4c9230a31b55777f2fb38fe392adaddef89f2a392bd16d7a67e4f1d47f62c9b1734130203010001",
        certificates: &["77d88e6363149ad6ba58a2ca1b8b407206ec57e7537c16cefbbc5edc39efb8e1"],
        not_before: "2025-08-01T00:00:00Z",
        not_after: "9999-12-31T23:59:59Z",
        published: PUBLISHED,
        second_source: true,
        note: "signed by Yubico Attestation Intermediate B 1, below Yubico Attestation Root 1; no sample of a device below it was seen",
    },
];
