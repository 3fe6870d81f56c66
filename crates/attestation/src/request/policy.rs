//! What a CA's policy says of requests.

use super::rules;
use crate::result::{Check, Known, Outcome};
use crate::time::UnixSeconds;

/// What the CA's policy says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CaPolicy {
    /// Whether keys in software tokens are taken. For test and demo CAs.
    pub allow_software: bool,
    /// Whether the key's origin must be proved by device evidence: missing evidence, or evidence
    /// that proves less than [`crate::Policy::origin`] demands, does not pass.
    /// CSBR §6.2.7.4.2 method 7 does not ask for it.
    pub require_device_evidence: bool,
    /// The verification methods the CA accepts.
    pub methods: AcceptedMethods,
    /// Longest life of a statement, in seconds.
    pub max_lifetime_s: u64,
    /// How far in the future `issuedAt` may lie, in seconds. Expiry knows no skew.
    pub clock_skew_s: u64,
}

impl Default for CaPolicy {
    /// No software keys, no device evidence demanded, no demand about methods, 30 days, 5 minutes.
    fn default() -> Self {
        Self {
            allow_software: false,
            require_device_evidence: false,
            methods: AcceptedMethods::unrestricted(),
            max_lifetime_s: 30 * 86_400,
            clock_skew_s: 300,
        }
    }
}

/// Which CSBR §6.2.7.4.2 verification methods (1 to 7) a CA accepts, and until when.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AcceptedMethods {
    restricted: bool,
    until: [Option<UnixSeconds>; 7],
}

impl AcceptedMethods {
    /// No demand: the result lists what is supported, and the CA looks at it elsewhere.
    #[must_use]
    pub const fn unrestricted() -> Self {
        Self {
            restricted: false,
            until: [None; 7],
        }
    }

    /// With one more method accepted, to its last moment `until`. From the first on, a request
    /// must support one of those accepted. `None` if there is no such method.
    #[must_use]
    pub fn and(mut self, method: u8, until: UnixSeconds) -> Option<Self> {
        let slot = usize::from(method).checked_sub(1)?;
        *self.until.get_mut(slot)? = Some(until);
        self.restricted = true;
        Some(self)
    }

    /// The check of a request that `supports` these methods; none without a demand.
    pub(super) fn judge(
        &self,
        supports: &[u8],
        software: Known,
        refused: bool,
        now: UnixSeconds,
    ) -> Option<Check> {
        if !self.restricted {
            return None;
        }
        let rule = rules::METHOD;
        if refused {
            let seen = "another check fails, so nothing is supported";
            return Some(rule.outcome(Outcome::NotChecked, seen));
        }
        if software == Known::Yes {
            // The policy's word on software keys alone lets them pass; no method ever does.
            let seen = "a software token, which the policy allows and no method covers";
            return Some(rule.outcome(Outcome::NotChecked, seen));
        }
        let until = |n: u8| {
            let slot = usize::from(n).checked_sub(1);
            slot.and_then(|s| self.until.get(s).copied().flatten())
        };
        let (good, seen): (Vec<bool>, Vec<String>) = supports
            .iter()
            .map(|n| match until(*n) {
                None => (false, format!("method {n} is not accepted")),
                Some(end) if now <= end => (true, format!("method {n} is accepted until {end}")),
                Some(end) => (
                    false,
                    format!("method {n} was accepted until {end}, now {now}"),
                ),
            })
            .unzip();
        let accepted: Vec<String> = (1..=7_u8)
            .filter_map(|n| until(n).map(|end| format!("{n} until {end}")))
            .collect();
        let seen = if seen.is_empty() {
            format!("no method is supported; accepted: {}", accepted.join(", "))
        } else {
            seen.join("; ")
        };
        Some(rule.check(good.contains(&true), seen))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_method_ends_with_its_last_second() {
        let at = |s| UnixSeconds::new(s).unwrap();
        let methods = AcceptedMethods::unrestricted()
            .and(7, at(100))
            .unwrap()
            .and(2, at(1_000))
            .unwrap();
        let judge = |supports: &[u8], now| {
            let check = methods.judge(supports, Known::No, false, at(now)).unwrap();
            (check.outcome, check.seen)
        };
        assert_eq!(judge(&[7], 100).0, Outcome::Pass);
        let (outcome, seen) = judge(&[7], 101);
        assert_eq!(outcome, Outcome::Fail);
        assert_eq!(
            seen,
            "method 7 was accepted until 1970-01-01T00:01:40Z, now 1970-01-01T00:01:41Z"
        );
        // One that still counts is enough.
        assert_eq!(judge(&[2, 7], 101).0, Outcome::Pass);
        assert_eq!(judge(&[4], 0).0, Outcome::Fail);
        let (outcome, seen) = judge(&[], 0);
        assert_eq!(outcome, Outcome::Fail);
        assert!(
            seen.starts_with("no method is supported; accepted: 2 until"),
            "{seen}"
        );
        let none = AcceptedMethods::unrestricted();
        assert_eq!(none.judge(&[], Known::No, false, at(0)), None);
        assert_eq!(none.and(0, at(1)), None);
        assert_eq!(none.and(8, at(1)), None);
    }
}
