//! How much of everything.

use serde::Deserialize;

/// Highest rate that may be set, a second.
const RATE: u64 = 1_000_000;
/// Most of anything that may be allowed a tenant.
const MANY: u64 = 10_000_000;

/// `[limits]`
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// Most connections open at once: more are closed at once.
    pub connections: usize,
    /// Most requests worked on at once.
    pub concurrency: usize,
    /// Most signatures made at once, by all requests together: more wait their turn. Beyond some
    /// thousand, a slow HSM lets the last of them run into its deadline.
    pub signatures: usize,
    /// Most of one tenant's requests under way at once.
    pub tenant_concurrency: usize,
    /// Most token exchanges worked on at once.
    pub exchanges: usize,
    /// Longest an answer may take, in seconds.
    pub request_timeout_s: u64,
    /// Longest a request's body may take to come, in seconds.
    pub body_timeout_s: u64,
    /// What one tenant may ask a second; each item of a batch counts.
    pub tenant_per_s: u32,
    /// What one caller may ask a second.
    pub principal_per_s: u32,
    /// Token exchanges of one tenant a second.
    pub exchanges_per_s: u32,
    /// Most signers of a tenant.
    pub signers_per_tenant: u32,
    /// Most keys of a tenant that are not destroyed.
    pub keys_per_tenant: u32,
    /// Most grants of a signer.
    pub grants_per_signer: u32,
    /// Most issuers of a tenant.
    pub issuers_per_tenant: u32,
    /// Most members of a tenant.
    pub members_per_tenant: u32,
    /// Longest a shutdown waits for what is under way, in seconds.
    pub drain_s: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 4096,
            concurrency: 512,
            signatures: 1024,
            tenant_concurrency: 256,
            exchanges: 64,
            request_timeout_s: 90,
            body_timeout_s: 10,
            tenant_per_s: 50_000,
            principal_per_s: 25_000,
            exchanges_per_s: 200,
            signers_per_tenant: 20_000,
            keys_per_tenant: 50_000,
            grants_per_signer: 200,
            issuers_per_tenant: 100,
            members_per_tenant: 5000,
            drain_s: 30,
        }
    }
}

impl Limits {
    /// Each key, its value, the least and the most it may be.
    pub(super) fn bounds(&self) -> [(&'static str, u64, u64, u64); 16] {
        [
            ("connections", self.connections as u64, 16, 65_536),
            ("concurrency", self.concurrency as u64, 1, 65_536),
            ("signatures", self.signatures as u64, 100, 65_536),
            (
                "tenant_concurrency",
                self.tenant_concurrency as u64,
                1,
                65_536,
            ),
            ("exchanges", self.exchanges as u64, 1, 65_536),
            ("request_timeout_s", self.request_timeout_s, 1, 3600),
            ("body_timeout_s", self.body_timeout_s, 1, 3600),
            ("tenant_per_s", self.tenant_per_s.into(), 1, RATE),
            ("principal_per_s", self.principal_per_s.into(), 1, RATE),
            ("exchanges_per_s", self.exchanges_per_s.into(), 1, RATE),
            (
                "signers_per_tenant",
                self.signers_per_tenant.into(),
                1,
                MANY,
            ),
            ("keys_per_tenant", self.keys_per_tenant.into(), 1, MANY),
            ("grants_per_signer", self.grants_per_signer.into(), 1, MANY),
            (
                "issuers_per_tenant",
                self.issuers_per_tenant.into(),
                1,
                MANY,
            ),
            (
                "members_per_tenant",
                self.members_per_tenant.into(),
                1,
                MANY,
            ),
            ("drain_s", self.drain_s, 0, 3600),
        ]
    }
}
