//! Fortanix DSM attestations.

use crate::cert::{Certificate, cn, dn, root};
use crate::der;
use crate::keys::{Key, Kind};
use crate::text::base64;

const ARC: &str = "1.3.6.1.4.1.49690";
const POLICY: &str = "1.3.6.1.4.1.49690.6.1.2";
const SIGNING: &str = "1.3.6.1.4.1.49690.8.1";
const ROOT: &str = "Test Fortanix Root";
const CA: &str = "Test Fortanix Key Attestation CA";
const AUTHORITY: &str = "Test DSM Key Attestation Authority";

/// Everything an attestation says. `Default` is genuine, made on 2026-11-01.
#[derive(Clone)]
pub struct Fortanix {
    /// The attested key.
    pub key: Key,
    /// The authority's key.
    pub authority_key: Key,
    /// The CA's key.
    pub ca_key: Key,
    /// The root's key.
    pub root_key: Key,
    /// When the statement was made.
    pub made: &'static str,
    /// From when the authority lives.
    pub authority_from: &'static str,
    /// Until when.
    pub authority_to: &'static str,
    /// Until when the CA lives.
    pub ca_to: &'static str,
    /// Claims: suffix under the arc, value.
    pub claims: Vec<(&'static str, Vec<u8>)>,
    /// keyUsage of the statement: first byte of the BIT STRING and unused bits.
    pub usage: Option<(u8, u8)>,
    /// basicConstraints of the authority.
    pub authority_constraints: Option<Vec<u8>>,
    /// Extended key usages of the authority.
    pub authority_eku: Vec<&'static str>,
    /// keyUsage of the authority.
    pub authority_usage: (u8, u8),
    /// Policy of authority and CA.
    pub policy: &'static str,
    /// A critical extension of the authority nobody knows.
    pub authority_unknown: bool,
    /// Whether the CA says so.
    pub ca_is_ca: bool,
    /// keyUsage of the CA.
    pub ca_usage: (u8, u8),
    /// The format the JSON names.
    pub format: &'static str,
}

/// An empty SEQUENCE: presence is the claim.
#[must_use]
pub fn presence() -> Vec<u8> {
    der::seq(&[])
}

impl Default for Fortanix {
    fn default() -> Self {
        Self {
            key: Key::named(Kind::Rsa2048, "fortanix subject"),
            authority_key: Key::named(Kind::Rsa2048, "fortanix authority"),
            ca_key: Key::named(Kind::Rsa2048, "fortanix ca"),
            root_key: Key::named(Kind::Rsa2048, "fortanix root"),
            made: "261101120000Z",
            authority_from: "261025000000Z",
            authority_to: "261124000000Z",
            ca_to: "280101000000Z",
            claims: vec![("2.4.1.1", presence()), ("2.4.1.2", presence())],
            usage: Some((0x80, 7)),
            authority_constraints: Some(der::seq(&[])),
            authority_eku: vec![SIGNING],
            authority_usage: (0x80, 7),
            policy: POLICY,
            authority_unknown: false,
            ca_is_ca: true,
            ca_usage: (0x86, 1),
            format: "x509_certificate",
        }
    }
}

fn key_usage(c: Certificate, (byte, unused): (u8, u8)) -> Certificate {
    c.with("2.5.29.15", true, der::tlv(0x03, &[unused, byte]))
}

fn policies(c: Certificate, policy: &str) -> Certificate {
    let value = der::seq(&[der::seq(&[der::oid(policy)])]);
    c.with("2.5.29.32", false, value)
}

impl Fortanix {
    /// The root's certificate.
    #[must_use]
    pub fn root(&self) -> Vec<u8> {
        root(ROOT, &self.root_key)
    }

    /// The Key Attestation CA's certificate.
    #[must_use]
    pub fn ca(&self) -> Vec<u8> {
        let mut c = Certificate::new(cn(CA), &self.ca_key, cn(ROOT));
        c.not_after = self.ca_to.into();
        if self.ca_is_ca {
            c = c.ca(None);
        }
        policies(key_usage(c, self.ca_usage), self.policy).sign(&self.root_key)
    }

    /// The authority's certificate.
    #[must_use]
    pub fn authority(&self) -> Vec<u8> {
        let mut c = Certificate::new(cn(AUTHORITY), &self.authority_key, cn(CA));
        c.not_before = self.authority_from.into();
        c.not_after = self.authority_to.into();
        if let Some(value) = &self.authority_constraints {
            c = c.with("2.5.29.19", true, value.clone());
        }
        c = key_usage(c, self.authority_usage).eku(false, &self.authority_eku);
        let protection = der::seq(&[der::seq(&[der::oid(&format!("{ARC}.2.5.1"))])]);
        c = c.with(&format!("{ARC}.2.5"), false, protection);
        if self.authority_unknown {
            c = c.with("1.2.3.4", true, der::null());
        }
        policies(c, self.policy).sign(&self.ca_key)
    }

    /// The statement, before it is signed.
    #[must_use]
    pub fn statement(&self) -> Certificate {
        let subject = dn(&[
            ("2.5.4.3", "Fortanix DSM Key Attestation"),
            (
                "1.3.6.1.4.1.49690.1.2.2",
                "18ec8b96-0000-4ce3-9fd1-50407b4b1fc0",
            ),
        ]);
        let mut c = Certificate::new(subject, &self.key, cn(AUTHORITY));
        c.not_before = self.made.into();
        c.not_after = "99991231235959Z".into();
        if let Some(usage) = self.usage {
            c = key_usage(c, usage);
        }
        for (suffix, value) in &self.claims {
            c = c.with(&format!("{ARC}.{suffix}"), false, value.clone());
        }
        c
    }

    /// The JSON over these certificates.
    #[must_use]
    pub fn json_of(&self, statement: &[u8], chain: &[Vec<u8>]) -> Vec<u8> {
        let chain: Vec<String> = chain.iter().map(|c| format!("\"{}\"", base64(c))).collect();
        format!(
            "{{\"authority_chain\":[{}],\"attestation_statement\":{{\"format\":\"{}\",\"statement\":\"{}\"}}}}",
            chain.join(","),
            self.format,
            base64(statement)
        )
        .into_bytes()
    }

    /// The JSON as DSM returns it, the root among the chain.
    #[must_use]
    pub fn json(&self) -> Vec<u8> {
        let statement = self.statement().sign(&self.authority_key);
        self.json_of(&statement, &[self.authority(), self.ca(), self.root()])
    }
}
