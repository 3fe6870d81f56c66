//! Small types of the wire that several routes share.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use countersign_core::Micros;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::collections::BTreeMap;
use std::marker::PhantomData;

/// Bytes as base64: standard alphabet, with padding (RFC 4648 §4).
///
/// `Debug` shows the length only: most of it is customer content.
#[derive(Clone, PartialEq, Eq)]
pub struct B64(pub Vec<u8>);

impl std::fmt::Debug for B64 {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "B64({} bytes)", self.0.len())
    }
}

impl Serialize for B64 {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.serialize_str(&STANDARD.encode(&self.0))
    }
}

impl<'de> Deserialize<'de> for B64 {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(d)?;
        STANDARD
            .decode(text.as_bytes())
            .map(Self)
            .map_err(|_| serde::de::Error::custom("not base64 (standard alphabet, with padding)"))
    }
}

/// A moment as RFC 3339, UTC.
#[must_use]
pub fn rfc3339(at: Micros) -> String {
    jiff::Timestamp::from_microsecond(at.0).map_or_else(|_| at.0.to_string(), |t| t.to_string())
}

/// RFC 3339 in a request, for `#[serde(with)]` of optional fields.
pub mod optional_time {
    use super::{Micros, rfc3339};
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    /// Writes it.
    ///
    /// # Errors
    /// The serializer's.
    #[allow(clippy::ref_option)]
    pub fn serialize<S: Serializer>(at: &Option<Micros>, s: S) -> Result<S::Ok, S::Error> {
        at.map(rfc3339).serialize(s)
    }

    /// Reads it.
    ///
    /// # Errors
    /// If it is no RFC 3339 time.
    pub fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<Option<Micros>, D::Error> {
        let Some(text) = Option::<String>::deserialize(d)? else {
            return Ok(None);
        };
        text.parse::<jiff::Timestamp>()
            .map(|t| Some(Micros(t.as_microsecond())))
            .map_err(|_| {
                serde::de::Error::custom("not a time like 2026-11-21T12:00:00Z (RFC 3339)")
            })
    }
}

/// Reads a JSON object whose member names people choose, for `#[serde(deserialize_with)]`: one that
/// stands twice is refused (RFC 8259 §4 leaves open which of the two counts, and whoever looked at the
/// body before us may have read the other one).
///
/// # Errors
/// If a name stands twice, or a value is of another type.
pub fn unique_members<'de, D: Deserializer<'de>, T: Deserialize<'de>>(
    d: D,
) -> Result<BTreeMap<String, T>, D::Error> {
    struct Members<T>(PhantomData<T>);

    impl<'de, T: Deserialize<'de>> serde::de::Visitor<'de> for Members<T> {
        type Value = BTreeMap<String, T>;

        fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str("an object")
        }

        fn visit_map<A: serde::de::MapAccess<'de>>(
            self,
            mut map: A,
        ) -> Result<Self::Value, A::Error> {
            let mut all = BTreeMap::new();
            while let Some((name, value)) = map.next_entry::<String, T>()? {
                if all.contains_key(&name) {
                    let name: String = name.chars().take(80).collect();
                    return Err(serde::de::Error::custom(format!("\"{name}\" stands twice")));
                }
                all.insert(name, value);
            }
            Ok(all)
        }
    }

    d.deserialize_map(Members(PhantomData))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_rfc_3339_in_utc() {
        assert_eq!(rfc3339(Micros::from_seconds(0)), "1970-01-01T00:00:00Z");
        assert_eq!(rfc3339(Micros(1_500_000)), "1970-01-01T00:00:01.5Z");
    }

    #[test]
    fn a_member_that_stands_twice_is_refused() {
        #[derive(Deserialize)]
        struct Body {
            #[serde(deserialize_with = "unique_members")]
            claims: BTreeMap<String, String>,
        }
        let read = |text: &str| serde_json::from_str::<Body>(text);
        let good = read(r#"{"claims": {"a": "1", "b": "1"}}"#).ok();
        assert_eq!(good.map(|b| b.claims.len()), Some(2));
        // An escape is another spelling of the same name.
        for twice in [
            r#"{"claims": {"a": "1", "a": "1"}}"#,
            r#"{"claims": {"a": "1", "\u0061": "2"}}"#,
        ] {
            let e = read(twice).err().unwrap().to_string();
            assert!(e.contains("\"a\" stands twice"), "{e}");
        }
        assert!(read(r#"{"claims": {"a": 1}}"#).is_err());
        assert!(read(r#"{"claims": []}"#).is_err());
    }

    #[test]
    fn base64_is_strict() {
        let read = |s: &str| serde_json::from_str::<B64>(s).map(|b| b.0).ok();
        assert_eq!(read("\"aGk=\""), Some(b"hi".to_vec()));
        for bad in ["\"aGk\"", "\"aG k=\"", "\"a-_=\"", "5"] {
            assert_eq!(read(bad), None, "{bad}");
        }
        assert_eq!(
            serde_json::to_string(&B64(b"hi".to_vec())).unwrap(),
            "\"aGk=\""
        );
    }
}
