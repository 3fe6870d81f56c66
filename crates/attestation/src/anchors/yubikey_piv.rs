//! Yubico, YubiKey PIV: what may sign the certificate in slot f9, and what stands above it.
//!
//! A device carries slot attestation and f9 certificate alone. Up to firmware 5.7.3 a root signed
//! f9; from 5.7.4 a PIV CA did, two steps below `Yubico Attestation Root 1`. Devices do not carry
//! those steps, so the three PIV CAs are pinned and the steps above are rows of a line of their own
//! that signs no f9. Preview and test CAs are not here, and must never be.
//!
//! Second source: keys taken from public verifiers' copies; SHA-256 fingerprints compared on
//! 2026-11-22 with two other public projects' lists that name the page each came from.

use super::{Role, Row};

/// The product line: what may sign an f9 certificate.
pub(crate) const LINE: &str = "YubiKey PIV";

/// What signed the PIV CAs of 2024 and later. Signs no f9 certificate.
const ABOVE: &str = "Yubico attestation CAs, 2024";

const INTERMEDIATES: &str = "developers.yubico.com/PKI/yubico-intermediate.pem";

pub(super) const ROWS: &[Row] = &[
    Row {
        vendor: "Yubico",
        line: LINE,
        role: Role::Root,
        name: "CN=Yubico PIV Root CA Serial 263751",
        spki: "30820122300d06092a864886f70d01010105000382010f003082010a0282010100c37670c4cd47a60275c4c5471b8fcb7d4f69b467e66ea927e9d21341d15a9a1a33c7dcf301c2f9399bf7c8e636f856344d848a553ce6e60a7c414ff5de90d869b2b6a067c59b006b72aa662082c762f043889810e6f5965828b55affc211297553aa8e85343f97b58f5cbb39fc0ebe4cbff805c837ff57a74545958464dad43d19c7582839aa53e75bf622b0a40ce2778a070552c88660f7a6f9166910361f70c0f6dec7fc736ae6fdce88ed63c8b65e2aa66831b3ce6ebc6a0e0fbd7ce75287381fc02aa04f75d59937a2c2f0524dcb728bd98741f61dd83c246aac519cb6cd5722bdce5f83ce3486a7d22154f895b467ad5f4d9dc61427192ecae813b441ef0203010001",
        certificates: &[
            "63ece914e54dd87915f34033c85af4c0696ba1512f8add66ced738331207b546",
            "7e996a28e3055223733c9aec897900eda9b746e3e15d419556ac6a1179879a50",
        ],
        not_before: "2016-03-14T00:00:00Z",
        not_after: "2052-04-17T00:00:00Z",
        published: "developers.yubico.com/PKI/yubico-piv-ca-1.pem; developers.yubico.com/PIV/Introduction/piv-attestation-ca-old.pem",
        second_source: true,
        note: "firmware up to 5.7.3; the second fingerprint is the encoding from before September 2018",
    },
    Row {
        vendor: "Yubico",
        line: LINE,
        role: Role::Root,
        name: "CN=Yubico U2F Root CA Serial 457200631",
        spki: "30820122300d06092a864886f70d01010105000382010f003082010a0282010100bf8f062e841565a9a89858432cad6162b2027e3ed33dd5e4aba48e132bb539de6c0221ac120c7cbcbd49a4e4dd8a023f5a6ef4fd34fe52312d61422deeb31a181a89d74207cee995f2500f5af8a024a9d167067972ba049e08e7a9f0475915fb1a445b4c8e4c33e46733d8fcb8bc862f09d3073edc1acf46d5bb39deb9e204cfa4e742313add176ddb36f09de6f04c6e59c9b7964b06f3cbe049df864771484f018f3dc89417b84d08ccc64570405b3cd45b5840912a08eafffa93f679833855654910addb08aa3d2ce5bb09febfeb2e40406c5234c6304776e6d2975d390d5b6d702166f1792c94a135f02ef192eb197041280da64daa5d8c1ff225e0ed55990203010001",
        certificates: &["0fa1386f80eb8713263ae5c1d84deb455bdf08aea50ab05503cefee82b092d42"],
        not_before: "2014-08-01T00:00:00Z",
        not_after: "2050-09-04T00:00:00Z",
        published: "developers.yubico.com/PKI/yubico-fido-ca-1.pem",
        second_source: true,
        note: "signed the f9 certificates of some YubiKey 4",
    },
    Row {
        vendor: "Yubico",
        line: LINE,
        role: Role::Intermediate,
        name: "CN=Yubico PIV Attestation A 1",
        spki: "30820122300d06092a864886f70d01010105000382010f003082010a0282010100c860b2ad98cdadd3df0a17437b825677ee1330bafc9dbba070a273d767a08255a2ee8cb92fd193f7dfe27fd8b53ab38d76912dd18ac26bea8c6fe7492745946bc339cd7627503a67ef6be11631fe0276fd3fdfaff99ad1a9a8ff8e747f3183fb36956978b1e21f675109efcf5ff347d57138d46bdd5049dc0eda9450669751e6b40df0d831c443a4f4f6427e5ef2b9fd163cc3037ed26ce56ec2ce559454c3cc376a474167a9e59e216d0316ed7baf30aa5dc6815510e740b4dce4410f0d3a6246b404fc083eed683d89e2ebb9ea2cef960c43510891f8cbe3d381568814d40ee4c111af3a71bc97bb18698f0b6766f915139eda12aa9ac232eb4d2a8e7e9bfd0203010001",
        certificates: &["6de693f05376f5d8ca29069261e1c8626c75d503bd2edbfd75354cad1f722870"],
        not_before: "2024-12-01T00:00:00Z",
        not_after: "9999-12-31T23:59:59Z",
        published: INTERMEDIATES,
        second_source: true,
        note: "firmware 5.7.4 and later; issued by CN=Yubico Attestation Intermediate A 1",
    },
    Row {
        vendor: "Yubico",
        line: LINE,
        role: Role::Intermediate,
        name: "CN=Yubico PIV Attestation B 1",
        spki: "30820122300d06092a864886f70d01010105000382010f003082010a0282010100bfb5812fdff900ac52a423282fadf5f375aa46d16b38763bb5dcae1ada2276861642bc55695f52f99c07d1aca78742330f903f3ef0adbb176d2f9c36700237b60b1ba2b3a511eaede0867dd3809941fab7a286abd5a9ffc2cb1bb4ca4f390902dcc422aab5321e5152d814dbbb06c15d8eba952557fed191b9482705d7c126d710292e8c3b86d4e6774f42a8463f2cdcc98d4bbe57f32bb289d6bfdb8b109116a8e12519cfb340b3a60eab911ac5802e9c7796cad54813b09cbedf0ac8aa4bf809e5771214959e19d08d9808add21c239599f13d4eab73a13255a66342b4772fe865d3ff6e96c6daa6f21cb6ba829acb4ffa8285058b99f7f19fa0f60c0075cd0203010001",
        certificates: &["2d55b7998f4e42569d6d8fa382b6dc77d1dacf07358b19701163892922b17052"],
        not_before: "2024-12-01T00:00:00Z",
        not_after: "9999-12-31T23:59:59Z",
        published: INTERMEDIATES,
        second_source: true,
        note: "firmware 5.7.4 and later; issued by CN=Yubico Attestation Intermediate B 1",
    },
    Row {
        vendor: "Yubico",
        line: LINE,
        role: Role::Intermediate,
        name: "CN=Yubico PIV Attestation B2 1",
        spki: "30820122300d06092a864886f70d01010105000382010f003082010a0282010100b1a8d6bcd971cf0ff40ca987df17c2b86bd6a824857b494f4d297bb784187eea7174fc73cf52d4aefc285374fa029352e2d92cfb8245b38a32550824a8eae460453dac5284dbf318caa3cd0de50c400b74d5351a4094687805ae4ac5a9a75eb7fab3bf2d07bde84e54e430151e855c2f6d0646469b2dd34c39f12c433f49c5eeb3baa85fa1f0cfa4578c9c77ccd4b2c32aeb2c5684301467e813e25d12c2f044bd4889f2aee98451893f2323acacb56e27c2e74196c5d2cb26aed646cc1a3713ac43c86a25546ca10f699d90c2be8d964644f38b752b3cfa794a8cb2f9a50e94db3483016ed3b1fbe469ecc1eb7ec1f7e978315764cd884c7dd23742eba5a8ab0203010001",
        certificates: &["0c90b7d184a36edf50a35f9be935f0c5689bfdcfe5bdd073366cafb49061a440"],
        not_before: "2025-08-01T00:00:00Z",
        not_after: "9999-12-31T23:59:59Z",
        published: INTERMEDIATES,
        second_source: true,
        note: "firmware 5.7.4 and later; issued by CN=Yubico Attestation Intermediate B 1",
    },
    Row {
        vendor: "Yubico",
        line: ABOVE,
        role: Role::Intermediate,
        name: "CN=Yubico Attestation Intermediate A 1",
        spki: "30820122300d06092a864886f70d01010105000382010f003082010a0282010100e6e79e5b598f565beb4e634ac858795d87e68d6a7a02642161ec6937619ad098f530d219121baa981d0b4ff9f6724b7dd512bbe0f8142a9e6ba680d85fc45ae4c046442de89d05c0bc0b8020e27aaa88f5a9cecbc8d7b35cc589489cb34b15c658ffe80e88de993938a13b9fef05931b8fdae268072a96262634624f81370c19a100c8ccc430dcb69e6e84a7ea633f9685ea08b6d6dfd4405b2e2758f6463ff29ccfd2751b7e79c6a5e4e628b711e415b2fdbefbf60363afe484d90a5c386ce4bd9e9ca942298e679400632b6661a4295a5fe9318cfacd28fc46a9150cd1091aa35f4ca0368af2d8c17ea54adb4c3daa60d09f3897d5f4be854dfc5a52e150950203010001",
        certificates: &["4698a1d3389c3ec60016c216250f1d0439922832d65142327436376dc2942b55"],
        not_before: "2024-12-01T00:00:00Z",
        not_after: "9999-12-31T23:59:59Z",
        published: INTERMEDIATES,
        second_source: true,
        note: "issued by CN=Yubico Attestation Root 1",
    },
    Row {
        vendor: "Yubico",
        line: ABOVE,
        role: Role::Intermediate,
        name: "CN=Yubico Attestation Intermediate B 1",
        spki: "30820122300d06092a864886f70d01010105000382010f003082010a0282010100c8ed79c7f99bc3c0c09053c33c65e579aac72e6e5bd561a691b7761b6b19fd82874bc79b301f4957add82387987b1695600a06185fb1386e5d6f6f350b7a6acc593f0ddd630651ef100096c17a2a15ed6fc4fa14d93ffd1228955addec0a068e942de3277d0643ad5391024f304cbab6bf92e58f9bcc8fb26d3a8b4a6bd27b9c74bc90b9b35d749a8f44b010f8793806544cd578cecd5bbe84c04105ab2f8fc9f50b8ab7a582144e6750d89141c11b545f2696a2b66f1db3ea891596dc8354b0b161ba544c42ef635bac4770d318f52820294e9b872ba709c344b547be361e3c6041fffa44cb3c40fe07127318f0687d59530f5b9d26c7caeacaa9b4dad4abe30203010001",
        certificates: &["d4cc3f456fdaf4e7812a21aab1dfe9d8e27d24e2fd2d6f21c9940109f0daa754"],
        not_before: "2024-12-01T00:00:00Z",
        not_after: "9999-12-31T23:59:59Z",
        published: INTERMEDIATES,
        second_source: true,
        note: "issued by CN=Yubico Attestation Root 1",
    },
    Row {
        vendor: "Yubico",
        line: ABOVE,
        role: Role::Root,
        name: "CN=Yubico Attestation Root 1",
        spki: "30820122300d06092a864886f70d01010105000382010f003082010a0282010100c67afd3c4cf2b213f846a83ef1bcd689ed30ea3fda6436441c091d2d1065cc5568d5ef975d8b521059e4b9a205270865dd519f1d68779f3987efdd84aee1126ec90002e428ab6cd5f3b9dca18d2d9ba3cf9877c069dcaf8872285d06ef86ff5372bd844e6618d0facea61c8424401dfad831844317860bd17e03e6719dc6fa69032ea79049ad5a6327c0ede2d1302e72cadb138f391ef18ce2bd15a6055d269be04238932424c8abe0f7e61c2d4fc40322ffa71afa5cca2e707087c2933c828a626e921632e8aa2a34c29011da4d8923af5b20cc4ccb756f00af133a70f75bbe9ac52de2b8f479f9cef6cd193b07703110e71f8c60525e592f0aeb3e47c2d7fd0203010001",
        certificates: &["62760c6a6ef91679f454c8902b80fd009825b3f25da90f1fbace2ec6586cd5a8"],
        not_before: "2024-12-01T00:00:00Z",
        not_after: "9999-12-31T23:59:59Z",
        published: "developers.yubico.com/PKI/yubico-ca-1.pem",
        second_source: true,
        note: "",
    },
];
