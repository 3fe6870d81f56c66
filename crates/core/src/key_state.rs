//! The life of a key (design invariant 6), in one place: no other code decides a transition.

use serde::{Deserialize, Serialize};
use std::fmt;

/// Where a key is in its life. Only [`KeyState::Active`] signs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum KeyState {
    /// Born in the token, attributes read back.
    Generated,
    /// Evidence (or, for a software key, tenant policy) appraised: a CSR may leave.
    Appraised,
    /// A checked certificate is installed: the key signs.
    Active,
    /// Stopped by its owner; may be resumed.
    Suspended,
    /// No longer used; kept for its log.
    Retired,
    /// Believed known to somebody else. Never signs again.
    Compromised,
    /// Deleted from the token on purpose.
    Destroyed,
    /// Gone from the token without our doing.
    Lost,
}

/// What happens to a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum KeyEvent {
    /// The appraisal met the tenant's policy.
    Appraised,
    /// A checked certificate was installed.
    Certified,
    /// Stop signing at once.
    Suspend,
    /// Sign again.
    Resume,
    /// End of use.
    Retire,
    /// Compromise known or believed.
    Compromise,
    /// The private key was deleted from the token.
    Destroyed,
    /// The private key was not found in the token.
    Lost,
}

/// A transition that the life cycle does not have. Retrying cannot help.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a key that is {from} cannot be {event}")]
pub struct TransitionRefused {
    /// The present state.
    pub from: KeyState,
    /// What was asked.
    pub event: KeyEvent,
}

impl KeyState {
    /// All states.
    pub const ALL: [Self; 8] = [
        Self::Generated,
        Self::Appraised,
        Self::Active,
        Self::Suspended,
        Self::Retired,
        Self::Compromised,
        Self::Destroyed,
        Self::Lost,
    ];

    /// The state after `event`.
    ///
    /// # Errors
    /// [`TransitionRefused`] for every pair not listed here; retrying cannot help.
    pub const fn after(self, event: KeyEvent) -> Result<Self, TransitionRefused> {
        use KeyEvent as E;
        use KeyState as S;
        Ok(match (self, event) {
            (S::Generated, E::Appraised) => S::Appraised,
            // Renewal installs a new certificate on an active key as well.
            (S::Appraised | S::Active, E::Certified) => S::Active,
            (S::Active, E::Suspend) => S::Suspended,
            (S::Suspended, E::Resume) => S::Active,
            (S::Generated | S::Appraised | S::Active | S::Suspended, E::Retire) => S::Retired,
            // Compromise can be learned of at any time in a key's life, also after it.
            (S::Compromised, E::Compromise) => {
                return Err(TransitionRefused { from: self, event });
            }
            (_, E::Compromise) => S::Compromised,
            (S::Generated | S::Appraised | S::Retired | S::Compromised, E::Destroyed) => {
                S::Destroyed
            }
            (S::Generated | S::Appraised | S::Active | S::Suspended | S::Retired, E::Lost) => {
                S::Lost
            }
            _ => return Err(TransitionRefused { from: self, event }),
        })
    }

    /// Whether a key in this state may sign content.
    #[must_use]
    pub const fn signs(self) -> bool {
        matches!(self, Self::Active)
    }

    /// The stable name.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Generated => "generated",
            Self::Appraised => "appraised",
            Self::Active => "active",
            Self::Suspended => "suspended",
            Self::Retired => "retired",
            Self::Compromised => "compromised",
            Self::Destroyed => "destroyed",
            Self::Lost => "lost",
        }
    }
}

impl fmt::Display for KeyState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl std::str::FromStr for KeyState {
    type Err = String;
    fn from_str(s: &str) -> Result<Self, String> {
        Self::ALL
            .into_iter()
            .find(|k| k.as_str() == s)
            .ok_or_else(|| format!("unknown key state \"{s}\""))
    }
}

impl KeyEvent {
    /// The stable name.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Appraised => "appraised",
            Self::Certified => "certified",
            Self::Suspend => "suspended",
            Self::Resume => "resumed",
            Self::Retire => "retired",
            Self::Compromise => "declared compromised",
            Self::Destroyed => "destroyed",
            Self::Lost => "lost",
        }
    }
}

impl fmt::Display for KeyEvent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_an_active_key_signs() {
        let signing: Vec<_> = KeyState::ALL.into_iter().filter(|s| s.signs()).collect();
        assert_eq!(signing, [KeyState::Active]);
    }

    #[test]
    fn nothing_leads_back_from_the_ends() {
        let events = [
            KeyEvent::Appraised,
            KeyEvent::Certified,
            KeyEvent::Suspend,
            KeyEvent::Resume,
        ];
        for end in [
            KeyState::Retired,
            KeyState::Compromised,
            KeyState::Destroyed,
            KeyState::Lost,
        ] {
            for e in events {
                assert_eq!(
                    end.after(e),
                    Err(TransitionRefused {
                        from: end,
                        event: e
                    })
                );
            }
        }
    }

    #[test]
    fn no_certificate_no_signing() {
        assert!(KeyState::Generated.after(KeyEvent::Certified).is_err());
        assert_eq!(
            KeyState::Appraised.after(KeyEvent::Certified),
            Ok(KeyState::Active)
        );
    }
}
