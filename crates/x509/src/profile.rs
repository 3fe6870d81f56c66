//! Is this certificate what we ordered, and what CSBR §7.1.2.3 allows?
//!
//! A CA answers an order with a certificate for *some* key. Before it is installed it must be for
//! this key, for code signing and nothing else, and within the limits; everything that is wrong is
//! said at once, each with its rule.

use crate::asn1::ObjectIdentifier;
use crate::cert::Certificate;
use crate::key::KeyError;
use crate::key::{SpkiParts, bit_length};
use crate::oid;
use crate::verify::AnyPublicKey;
use countersign_core::Micros;

/// One thing that is wrong with a returned certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProfileFinding {
    /// A stable short name.
    pub rule: &'static str,
    /// What was found, and what belongs there.
    pub detail: String,
    /// Where the rule comes from.
    pub source: &'static str,
}

impl std::fmt::Display for ProfileFinding {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {} ({})", self.rule, self.detail, self.source)
    }
}

/// Checks a certificate returned for the key `expected_spki`. `chain` is the path it came with,
/// leaf first, as [`crate::chain::verify_chain`] returns it; the issuer's key identifier is compared
/// where one stands there.
///
/// # Errors
/// All findings, if there is at least one.
pub fn check_issued(
    leaf: &Certificate,
    chain: &[Certificate],
    expected_spki: &[u8],
    at: Micros,
) -> Result<(), Vec<ProfileFinding>> {
    let mut f = Findings(Vec::new());
    f.key(leaf, expected_spki);
    f.validity(leaf, at);
    f.usage(leaf);
    f.policy(leaf);
    f.pointers(leaf, chain);
    if f.0.is_empty() { Ok(()) } else { Err(f.0) }
}

/// 2026-03-01T00:00:00Z: certificates issued from here on live at most 460 days (CSBR §6.3.2).
const SHORT_LIVES_FROM: Micros = Micros(1_772_323_200_000_000);
const DAY: i64 = 86_400;
/// 39 months: three years, one of them a leap year, and the three longest months in a row.
const LONG_DAYS: i64 = 3 * 365 + 1 + 92;
const SHORT_DAYS: i64 = 460;

struct Findings(Vec<ProfileFinding>);

impl Findings {
    fn add(&mut self, rule: &'static str, source: &'static str, detail: impl Into<String>) {
        self.0.push(ProfileFinding {
            rule,
            detail: detail.into(),
            source,
        });
    }

    fn key(&mut self, leaf: &Certificate, expected_spki: &[u8]) {
        if leaf.spki_der() != expected_spki {
            self.add(
                "public-key",
                "RFC 2986 §3",
                "the certificate is for another public key than the one ordered",
            );
        }
        const SIZE: &str = "CSBR §6.1.5.2";
        match AnyPublicKey::parts_of(leaf.spki_der()) {
            Ok(SpkiParts::Rsa { n, .. }) if bit_length(n) < 3072 => self.add(
                "key-size",
                SIZE,
                format!("RSA of {} bits, at least 3072 are needed", bit_length(n)),
            ),
            Ok(SpkiParts::Ec { curve, .. })
                if ![oid::P256, oid::P384, oid::P521].contains(&curve) =>
            {
                self.add("curve", SIZE, format!("curve {curve} is not allowed"));
            }
            Ok(_) => {}
            Err(KeyError::UnknownAlgorithm(a)) => {
                self.add(
                    "key-algorithm",
                    SIZE,
                    format!("key algorithm {a} is not allowed"),
                );
            }
            Err(e) => self.add("key-algorithm", SIZE, e.to_string()),
        }
    }

    fn validity(&mut self, leaf: &Certificate, at: Micros) {
        const SOURCE: &str = "CSBR §6.3.2";
        // RFC 5280 §4.1.2.5: both ends are inside, so a second more than the difference.
        let seconds = leaf
            .not_after()
            .seconds()
            .saturating_sub(leaf.not_before().seconds())
            .saturating_add(1);
        let days = if leaf.not_before() >= SHORT_LIVES_FROM {
            SHORT_DAYS
        } else {
            LONG_DAYS
        };
        if seconds > days * DAY {
            self.add(
                "validity-period",
                SOURCE,
                format!("valid for {seconds} seconds, at most {days} days are allowed"),
            );
        }
        if at < leaf.not_before() {
            self.add("validity", "RFC 5280 §4.1.2.5", "not valid yet");
        } else if !leaf.is_valid_at(at) {
            self.add("validity", "RFC 5280 §4.1.2.5", "expired");
        }
    }

    fn usage(&mut self, leaf: &Certificate) {
        const KU: &str = "CSBR §7.1.2.3 e";
        const EKU: &str = "CSBR §7.1.2.3 f";
        match leaf.known().key_usage {
            None => self.add("key-usage", KU, "keyUsage is missing"),
            Some(u) => {
                if !is_critical(leaf, &oid::KEY_USAGE) {
                    self.add("key-usage-critical", KU, "keyUsage is not critical");
                }
                if !u.digital_signature {
                    self.add("key-usage", KU, "keyUsage lacks digitalSignature");
                }
                if u.key_cert_sign || u.crl_sign {
                    self.add("key-usage", KU, "keyUsage has keyCertSign or cRLSign");
                }
            }
        }
        let eku = leaf
            .known()
            .extended_key_usage
            .as_deref()
            .unwrap_or_default();
        if !eku.contains(&oid::CODE_SIGNING) {
            self.add("extended-key-usage", EKU, "extKeyUsage lacks codeSigning");
        }
        for (banned, name) in [
            (oid::ANY_EXTENDED_KEY_USAGE, "anyExtendedKeyUsage"),
            (oid::SERVER_AUTH, "serverAuth"),
            (oid::TIME_STAMPING, "timeStamping"),
        ] {
            if eku.contains(&banned) {
                self.add("extended-key-usage", EKU, format!("extKeyUsage has {name}"));
            }
        }
        if leaf.known().basic_constraints.is_some_and(|b| b.ca) {
            self.add(
                "not-a-ca",
                "CSBR §7.1.2.3 d",
                "basicConstraints has cA true",
            );
        }
    }

    fn policy(&mut self, leaf: &Certificate) {
        const RESERVED: [ObjectIdentifier; 3] = [
            oid::POLICY_CODE_SIGNING,
            oid::POLICY_EV_CODE_SIGNING,
            oid::POLICY_TIME_STAMPING,
        ];
        let policies = leaf.known().policies.as_deref().unwrap_or_default();
        let reserved: Vec<_> = policies.iter().filter(|p| RESERVED.contains(p)).collect();
        match reserved.as_slice() {
            [p] if **p != oid::POLICY_TIME_STAMPING => {}
            [_] => self.add(
                "reserved-policy",
                "CSBR §7.1.6.1",
                "the reserved policy is that of timestamping",
            ),
            others => self.add(
                "reserved-policy",
                "CSBR §7.1.6.4",
                format!(
                    "{} reserved policy identifiers, exactly one is needed \
                     (2.23.140.1.4.1 or 2.23.140.1.3)",
                    others.len()
                ),
            ),
        }
        self.must_not_be_critical(leaf, &oid::CERTIFICATE_POLICIES, "CSBR §7.1.2.3 a");
    }

    fn pointers(&mut self, leaf: &Certificate, chain: &[Certificate]) {
        const CRL: &str = "CSBR §7.1.2.3 b";
        const AKI: &str = "CSBR §7.1.2.3 g";
        match &leaf.known().crl_urls {
            Some(urls) if urls.iter().any(|u| u.starts_with("http://")) => {}
            Some(_) => self.add("crl-url", CRL, "cRLDistributionPoints has no http:// URL"),
            None => self.add("crl-url", CRL, "cRLDistributionPoints is missing"),
        }
        self.must_not_be_critical(leaf, &oid::CRL_DISTRIBUTION_POINTS, CRL);
        if !leaf.known().has_authority_key_id {
            self.add("authority-key-id", AKI, "authorityKeyIdentifier is missing");
        }
        self.must_not_be_critical(leaf, &oid::AUTHORITY_KEY_ID, AKI);
        let issuer_id = chain
            .iter()
            .find(|c| c.subject_der() == leaf.issuer_der())
            .and_then(|c| c.known().subject_key_id.as_deref());
        if let (Some(ours), Some(theirs)) = (leaf.known().authority_key_id.as_deref(), issuer_id)
            && ours != theirs
        {
            self.add(
                "authority-key-id",
                "RFC 5280 §4.2.1.1",
                "authorityKeyIdentifier is not the issuer's key identifier",
            );
        }
    }

    fn must_not_be_critical(
        &mut self,
        leaf: &Certificate,
        id: &ObjectIdentifier,
        source: &'static str,
    ) {
        if is_critical(leaf, id) {
            self.add(
                "not-critical",
                source,
                format!("extension {id} is critical"),
            );
        }
    }
}

fn is_critical(c: &Certificate, id: &ObjectIdentifier) -> bool {
    c.extension(id).is_some_and(|e| e.critical)
}

#[cfg(test)]
mod tests;
