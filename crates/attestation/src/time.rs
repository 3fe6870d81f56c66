//! Moments in statements and results: whole seconds, UTC. No clock is read in this crate.

use der::DateTime;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::fmt;
use std::time::Duration;

/// Seconds since 1970-01-01T00:00:00Z, up to the end of the year 9999. JSON shows RFC 3339.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct UnixSeconds(u64);

impl UnixSeconds {
    /// 9999-12-31T23:59:59Z: the last second a GeneralizedTime can say.
    const LAST: u64 = 253_402_300_799;

    /// From seconds; `None` outside the years 1970 to 9999.
    #[must_use]
    pub fn new(seconds: i64) -> Option<Self> {
        u64::try_from(seconds)
            .ok()
            .filter(|s| *s <= Self::LAST)
            .map(Self)
    }

    /// From microseconds, rounded down.
    #[must_use]
    pub fn from_micros(micros: i64) -> Option<Self> {
        Self::new(micros.div_euclid(1_000_000))
    }

    /// The seconds.
    #[must_use]
    pub const fn get(self) -> u64 {
        self.0
    }

    /// This moment and `seconds` more, at most the end of 9999.
    #[must_use]
    pub fn plus(self, seconds: u64) -> Self {
        Self(self.0.saturating_add(seconds).min(Self::LAST))
    }

    /// Seconds from `earlier` to this; zero if `earlier` is later.
    #[must_use]
    pub const fn since(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0)
    }

    pub(crate) fn to_der(self) -> der::Result<DateTime> {
        DateTime::from_unix_duration(Duration::from_secs(self.0))
    }

    pub(crate) fn from_der(t: DateTime) -> Self {
        Self(t.unix_duration().as_secs())
    }
}

impl fmt::Display for UnixSeconds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.to_der() {
            Ok(t) => write!(
                f,
                "{:04}-{:02}-{:02}T{:02}:{:02}:{:02}Z",
                t.year(),
                t.month(),
                t.day(),
                t.hour(),
                t.minutes(),
                t.seconds()
            ),
            Err(_) => write!(f, "@{}", self.0),
        }
    }
}

impl Serialize for UnixSeconds {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for UnixSeconds {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        let text = String::deserialize(d)?;
        text.parse::<DateTime>()
            .map(Self::from_der)
            .map_err(|_| serde::de::Error::custom("expected a time such as 2026-11-21T20:59:35Z"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_is_rfc_3339_and_comes_back() {
        let t = UnixSeconds::new(1_795_294_775).unwrap();
        let json = serde_json::to_string(&t).unwrap();
        assert_eq!(json, "\"2026-11-21T20:59:35Z\"");
        assert_eq!(serde_json::from_str::<UnixSeconds>(&json).unwrap(), t);
        assert_eq!(UnixSeconds::new(-1), None);
        assert_eq!(UnixSeconds::new(253_402_300_800), None);
    }
}
