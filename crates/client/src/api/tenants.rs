//! Tenants, their people, issuers and grants.

use super::{Client, Repeat, of};
use crate::dto;
use crate::error::Result;
use crate::oidc::encode;
use countersign_core::{GrantId, TenantName};
use serde_json::Value;

impl Client {
    /// Registers the operator; works once.
    ///
    /// # Errors
    /// As all calls here: [`Error::Api`] for a refusal, else what the connection did.
    pub fn bootstrap(&self, request: &dto::Bootstrap) -> Result<Value> {
        self.post("/v1/bootstrap", request)
    }

    /// Makes a tenant (operator).
    ///
    /// # Errors
    /// As all calls.
    pub fn create_tenant(&self, tenant: &dto::NewTenant) -> Result<Value> {
        self.post("/v1/tenants", tenant)
    }

    /// All tenants (operator).
    ///
    /// # Errors
    /// As all calls.
    pub fn tenants(&self) -> Result<Value> {
        self.get("/v1/tenants")
    }

    /// Devices that several subscribers have keys in, past the device `after`, 100 at most. For operators.
    ///
    /// # Errors
    /// As all calls.
    pub fn shared_devices(&self, after: Option<&str>) -> Result<Value> {
        self.get(&after.map_or_else(
            || "/v1/devices".to_owned(),
            |device| format!("/v1/devices?after={device}"),
        ))
    }

    /// One tenant with its policy and log.
    ///
    /// # Errors
    /// As all calls.
    pub fn tenant(&self, tenant: &TenantName) -> Result<Value> {
        self.get(&of(tenant, ""))
    }

    /// Sets a tenant's policy.
    ///
    /// # Errors
    /// As all calls.
    pub fn set_policy(&self, tenant: &TenantName, policy: &dto::Policy) -> Result<Value> {
        self.json("PUT", &of(tenant, "/policy"), Some(policy), Repeat::Safe)
    }

    /// Registers an issuer.
    ///
    /// # Errors
    /// As all calls.
    pub fn add_issuer(&self, tenant: &TenantName, issuer: &dto::IssuerSpec) -> Result<Value> {
        self.post(&of(tenant, "/issuers"), issuer)
    }

    /// The tenant's issuers.
    ///
    /// # Errors
    /// As all calls.
    pub fn issuers(&self, tenant: &TenantName) -> Result<Value> {
        self.get(&of(tenant, "/issuers"))
    }

    /// Takes no more tokens of an issuer. `force`: also where no administrator could log in any more.
    ///
    /// # Errors
    /// As all calls.
    pub fn remove_issuer(&self, tenant: &TenantName, issuer: &str, force: bool) -> Result<Value> {
        let query = format!("/issuers?issuer={}&force={force}", encode(issuer));
        self.json("DELETE", &of(tenant, &query), None::<&()>, Repeat::Safe)
    }

    /// Gives somebody a role.
    ///
    /// # Errors
    /// As all calls.
    pub fn add_member(&self, tenant: &TenantName, member: &dto::Member) -> Result<Value> {
        self.post(&of(tenant, "/members"), member)
    }

    /// Takes a role from somebody.
    ///
    /// # Errors
    /// As all calls.
    pub fn remove_member(&self, tenant: &TenantName, member: &dto::Member) -> Result<Value> {
        self.json(
            "DELETE",
            &of(tenant, "/members"),
            Some(member),
            Repeat::Safe,
        )
    }

    /// The tenant's people.
    ///
    /// # Errors
    /// As all calls.
    pub fn members(&self, tenant: &TenantName) -> Result<Value> {
        self.get(&of(tenant, "/members"))
    }

    /// Adds a grant.
    ///
    /// # Errors
    /// As all calls.
    pub fn add_grant(&self, tenant: &TenantName, grant: &dto::NewGrant) -> Result<Value> {
        self.post(&of(tenant, "/grants"), grant)
    }

    /// The tenant's grants.
    ///
    /// # Errors
    /// As all calls.
    pub fn grants(&self, tenant: &TenantName) -> Result<Value> {
        self.get(&of(tenant, "/grants"))
    }

    /// Removes a grant.
    ///
    /// # Errors
    /// As all calls.
    pub fn remove_grant(&self, tenant: &TenantName, grant: GrantId) -> Result<Value> {
        self.json::<(), _>(
            "DELETE",
            &of(tenant, &format!("/grants/{grant}")),
            None,
            Repeat::Safe,
        )
    }

    /// Would this token be allowed, claim by claim?
    ///
    /// # Errors
    /// As all calls.
    pub fn explain_grants(&self, tenant: &TenantName, ask: &dto::ExplainGrant) -> Result<Value> {
        self.post(&of(tenant, "/grants/explain"), ask)
    }
}
