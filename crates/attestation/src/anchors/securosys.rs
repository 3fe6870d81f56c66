//! Securosys, Primus HSM.
//!
//! Development devices have a root of their own, `SECUROSYS_ROOTKEY_DEV`; it is not here, and its
//! name is refused wherever it stands. Production roots before 2024 were not obtained.

use super::{Role, Row};

/// The product line.
pub(crate) const LINE: &str = "Primus HSM";

pub(super) const ROWS: &[Row] = &[Row {
    vendor: "Securosys",
    line: LINE,
    role: Role::Root,
    name: "CN=PRIMUS_HSM_ROOTKEY, C=CH, L=Zurich, O=Securosys, ST=ZH",
    spki: "30820222300d06092a864886f70d01010105000382020f003082020a0282020100b4eb16f4e922e3ba690261ee4123873f63aa3c083b7e3d7ca5f95bd1118aef23ca3f78b8db0f382514bd8c0a5cdeaf0ae1c4cbd6c92aeab9c6cc139422c49bea15098890f24dcc2fe1fec37df0cff68bd55a0dd8809c7b19d22600c5c9b59e30d5308334562f6d5a6fbe1f590065041603a66360a48f260a7cf093e50ac404665a2f7634db9cadb6c3e61a2c04ba36e8855f01aa752baf13e72c9d17635b7fb5c0dc834fac9fe6340d5a614edbf2d8f2e43e80a81fe6d20586e86c2b6a774d18a3b03affe9fe7559c524000c86f509c90f386098bc9534da514253604fcb7ad54a8c7df06f94a5e6ff36f391c2ab502930f1821ecc1d32d28cb34cd692e48b066790489ac94289d810e9acd0b780b32aff284d759183ed6205d48a81ffbd0092090a702893d11f45d87f764bced861727b59a7e0c7080aa96dc83be7210e1c1ba977d2c8cbbc63b45a732c6f2f22b01d42dfdfbcd0dc04322d5d7a940eb98fbc7826ac60d91cc9a0ab3c071aa3e8ed66dee0fc658ec1c3e167ac8a1beac3dcdd40feca6d805e1311b25ac7dc2249e45764015cf6b9b77fac1fe367aedbf25b351d5295eaa6d3aa7c925b920d5f378def00103bc714390b6adf5e4ea264ea65392c31df6c94a3557c601b0e2733cc50086c8d623823bffbf54aa48967478c23207d3d5d90567d4412c4fb7872dd2d23e7d62c09515ac7dd46aff7a87fb5bea6a10203010001",
    certificates: &["d2c93d8f69bc8d624e37f25b9e6e7bec41761aab864c94f379361b9b78a9db97"],
    not_before: "2024-08-21T12:33:45Z",
    not_after: "2054-08-14T12:33:45Z",
    published: "docs.securosys.com, hsm_rsa_root.crt",
    second_source: false,
    note: "seen with one sample and in the verifier it came from: compare with the copy that Securosys publishes before you rest on it",
}];
