//! Marvell LiquidSecurity: the makers' roots, and Google's root for the cards it owns.
//!
//! A partition has two certificates for one key: the maker's says that the card is genuine, the
//! owner's says who runs it. They are two product lines here, so neither root can stand in for the
//! other.

use super::{Role, Row};

/// LiquidSecurity cards of the first generation.
pub(crate) const LS1: &str = "Marvell LiquidSecurity";
/// LiquidSecurity 2.
pub(crate) const LS2: &str = "Marvell LiquidSecurity 2";
/// The cards of Google Cloud HSM, as their owner signs them.
pub(crate) const GOOGLE_OWNER: &str = "Google Cloud HSM, owner";

pub(super) const ROWS: &[Row] = &[
    Row {
        vendor: "Marvell",
        line: LS1,
        role: Role::Root,
        name: "C=US, ST=California, L=San Jose, O=Cavium, Inc., OU=LiquidSecurity, CN=localca.liquidsecurity.cavium.com",
        spki: "30820122300d06092a864886f70d01010105000382010f003082010a0282010100dc92fa9033872f663772a8e2c63138ca270bdfc493a156ac3aa688e050ccf5d1553bcf70ad26bc077044b0103531524331ce87f9e64168ad444b6955428de7586ae122b27670c125a401e9a9f464449bc897e815eda19f150d6a0ed87d002621c233adaa25e6555e19bc03fcd61b43f22eb088347d32cfd6a1e8173076c6462ef42f92950d261c1532b6fd9c8f419519935a1a28b756124dfee37e26c491cfe937ed04cf7d1115a2f7321c8868d252db6fb5d2d9f2e2c3944ec3c4b5729a87998f947a67ac6701d7ccf963182bd2f0cd631f8508f1a8f795c6aeaf4d61f34c970b127854abf03d5543b1d99a2a5e4c1d61413510c3f2bf466b70e4d8a58e46130203010001",
        certificates: &[
            "230143df00e0b452743e068a5b3fc08df8f06cefc4854ea627aeb7ebd70ee2f4",
            "975757f0d76640e03d14760f8fc9e3a55826fa7807b2c392f7801a95bd69cc28",
        ],
        not_before: "2015-11-19T13:55:25Z",
        not_after: "2034-07-23T20:29:20Z",
        published: "marvell.com, liquid_security_certificate.zip",
        second_source: true,
        note: "one key in two certificates: the one of 2015 expired on 2025-11-16, the one of 2024 has serial number 0; the same key stands in the validator that Microsoft publishes for Azure Managed HSM",
    },
    Row {
        vendor: "Marvell",
        line: LS2,
        role: Role::Root,
        name: "C=US, ST=CA, OU=SSBU, L=SanJose, O=Marvell, CN=cavium-liquidsecurity-ls2",
        spki: "30820222300d06092a864886f70d01010105000382020f003082020a0282020100cf31f0924f2e250b5339669c329342916f8348b2e466a38fb56d394d38b2ccce57170558ce1a508846c6aedb6cab57ed2c4c8ae47bc1f4889135be3b9011de41be3f184f2b271f29a012d074cedfc791988d6af78136ea0fe49f8fba1fc10258e7119b55313658c424db0773a342c37368b5515f79fbc4620a63d8d4b9446716b3d21c3e15dfcfbb84740eb4b5a11dca1bea7ada0f428614285a56077bae84e5ee614b8dca25ea0de9ba40b1b5ce573b75af6d67d1ffc59654c1f84fc436218bb8fa3d06e06e8a2437f72c542dbdb4d8ad4d9f022853f12e818324c282a15f3b2a7f5471ef10ebeeb1eee1af9e0a49bb34e4b17ec5ebd8443c0faac263eee7e35ccdac4d1ed81f7dcb0cfb5628cf41c917b110c176fc7924fbdbd63b287385feb30ebf7a42a4a54856932b95f3d9ac8b1ff2910c0ca18ac879d9dbb57277563090718ba70e6812c6dcb65cf3d186ca9ed8f9b2b4e841f9518fff066f6ed6e1280527c1696939cd9c7ac44942ab5e01607d2840ef03996dd3f380d6d10f591d7a9b6aca9c1762bd8e1a5aa2756445b6842c2e39b2f833bbfd8f13d0acc8e56a4da52d9fc4ffc9956d3bd26096d019af319072f506ab263870396283da546a0d60a482e449a632a72c15148e39c1590b899c561c2ee335206bc806147232ebecbaffa2c0dc1a6c86807df6f9e4d2b9da347af795cde77fd5aab5bf1865d545b5db0203010001",
        certificates: &["17644de0d33bc73b2f4ef4c20a11f6c8cc1f723a4cd83ee600361cbb24d8d2e5"],
        not_before: "2024-07-22T20:34:23Z",
        not_after: "2034-07-20T20:34:23Z",
        published: "marvell.com, liquidsecurity2-certificate-ls2-g-axxx-mi-f-bo-v2",
        second_source: true,
        note: "no sample of a card below it was seen; the same key stands in the validator that Microsoft publishes for Azure Managed HSM",
    },
    Row {
        vendor: "Google",
        line: GOOGLE_OWNER,
        role: Role::Root,
        name: "C=US, ST=CA, L=Mountain View, O=Google Inc, CN=Hawksbill Root v1 prod",
        spki: "30820122300d06092a864886f70d01010105000382010f003082010a0282010100ac2ea8628921a07092dfb08ec3934d2638dba5a25f6b1e6da86c2c83d65b9af802a0f8b016fb5cdab99bb98b4dbc1526e00e4f2fb520431c317e5ec167a936c8195ec2b5a8b69676907b55154d531610f062d5d89819c79e0eb26926a3f3d9a5d3708821ac62127b2abe202e33db9b90a7b1bf0fc0117ac298a98c4d36a71f665308934b3a121e1a3f2bc25d8b4b97d4170f418327a9f3e0d982f85c37d41e5de4a83d597c4364e602d73539f495db771c73782fc4268d64d401e086da3f27c79dbd3225e4d4346a13872a8519ce184346c5418a8166ca656ec1a1ce7174d4b077b735390dc9e2c87e8169b104385dc1fd9233baed85d391d09678d630fc56190203010001",
        certificates: &["46b5fd351d56a0721ca0afcd1731c0f7b74e3941eb818bfd0ec36e29df0de095"],
        not_before: "2017-07-01T00:00:00Z",
        not_after: "2030-01-01T00:00:00Z",
        published: "gstatic.com/cloudhsm/roots/global_1498867200.pem",
        second_source: true,
        note: "says who owns a card, not that it is genuine; the same certificate stands in the script that Google publishes to verify attestations",
    },
];
