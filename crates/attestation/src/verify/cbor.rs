//! CBOR (RFC 8949), as WebAuthn uses it: definite lengths, bounded nesting, each map key once.

/// Deepest nesting read.
const MAX_DEPTH: usize = 16;
/// Most items read.
const MAX_ITEMS: usize = 4096;

/// A value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Value<'a> {
    /// An unsigned integer.
    Unsigned(u64),
    /// −1 − n.
    Negative(u64),
    /// A byte string.
    Bytes(&'a [u8]),
    /// A text string.
    Text(&'a str),
    /// An array.
    Array(Vec<Value<'a>>),
    /// A map, in the order it stands.
    Map(Vec<(Value<'a>, Value<'a>)>),
    /// A tagged value.
    Tag(u64, Box<Value<'a>>),
    /// A simple value below 24: 20 false, 21 true, 22 null.
    Simple(u8),
}

impl<'a> Value<'a> {
    /// The member of a map under a text key.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&Value<'a>> {
        let Value::Map(members) = self else {
            return None;
        };
        let found = members.iter().find(|(k, _)| *k == Value::Text(key));
        found.map(|(_, v)| v)
    }

    /// The member of a map under an integer key (COSE).
    #[must_use]
    pub fn get_int(&self, key: i64) -> Option<&Value<'a>> {
        let Value::Map(members) = self else {
            return None;
        };
        let key = match u64::try_from(key) {
            Ok(n) => Value::Unsigned(n),
            Err(_) => Value::Negative(u64::try_from(-1 - key).unwrap_or_default()),
        };
        members.iter().find(|(k, _)| *k == key).map(|(_, v)| v)
    }

    /// The bytes of a byte string.
    #[must_use]
    pub const fn bytes(&self) -> Option<&'a [u8]> {
        match self {
            Value::Bytes(b) => Some(b),
            _ => None,
        }
    }

    /// The text of a text string.
    #[must_use]
    pub const fn text(&self) -> Option<&'a str> {
        match self {
            Value::Text(t) => Some(t),
            _ => None,
        }
    }
}

/// The one value that `bytes` are; `None` for anything else.
#[must_use]
pub fn parse(bytes: &[u8]) -> Option<Value<'_>> {
    let (value, rest) = prefix(bytes)?;
    rest.is_empty().then_some(value)
}

/// The value at the start of `bytes`, and what follows it.
#[must_use]
pub fn prefix(bytes: &[u8]) -> Option<(Value<'_>, &[u8])> {
    let mut reader = Reader {
        rest: bytes,
        items: 0,
    };
    let value = reader.value(0)?;
    Some((value, reader.rest))
}

struct Reader<'a> {
    rest: &'a [u8],
    items: usize,
}

impl<'a> Reader<'a> {
    fn take(&mut self, n: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.rest.split_at_checked(n)?;
        self.rest = rest;
        Some(taken)
    }

    fn value(&mut self, depth: usize) -> Option<Value<'a>> {
        self.items += 1;
        if depth > MAX_DEPTH || self.items > MAX_ITEMS {
            return None;
        }
        let first = *self.take(1)?.first()?;
        let (major, info) = (first >> 5, first & 0x1f);
        let argument = match info {
            0..=23 => u64::from(info),
            24..=27 => {
                let digits = self.take(1 << (info - 24))?;
                digits.iter().fold(0, |n, b| (n << 8) | u64::from(*b))
            }
            // 28 to 30 are reserved, 31 is an indefinite length.
            _ => return None,
        };
        match major {
            0 => Some(Value::Unsigned(argument)),
            1 => Some(Value::Negative(argument)),
            2 => self.string(argument).map(Value::Bytes),
            3 => {
                let text = std::str::from_utf8(self.string(argument)?).ok()?;
                Some(Value::Text(text))
            }
            4 => {
                let mut items = Vec::new();
                for _ in 0..self.count(argument)? {
                    items.push(self.value(depth + 1)?);
                }
                Some(Value::Array(items))
            }
            5 => {
                let mut members: Vec<(Value<'a>, Value<'a>)> = Vec::new();
                for _ in 0..self.count(argument)? {
                    let key = self.value(depth + 1)?;
                    // RFC 8949 §5.6: a key twice makes a map invalid.
                    if members.iter().any(|(k, _)| *k == key) {
                        return None;
                    }
                    members.push((key, self.value(depth + 1)?));
                }
                Some(Value::Map(members))
            }
            6 => Some(Value::Tag(argument, Box::new(self.value(depth + 1)?))),
            _ if info < 24 => Some(Value::Simple(info)),
            _ => None,
        }
    }

    fn string(&mut self, length: u64) -> Option<&'a [u8]> {
        self.take(usize::try_from(length).ok()?)
    }

    /// A number of items; each takes a byte at least.
    fn count(&self, n: u64) -> Option<usize> {
        let n = usize::try_from(n).ok()?;
        (n <= self.rest.len()).then_some(n)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_examples_of_rfc_8949_and_what_is_refused() {
        let read = |hex: &str| hex::decode(hex).unwrap();
        let map = read("a26161016162820203");
        let value = parse(&map).unwrap();
        assert_eq!(value.get("a"), Some(&Value::Unsigned(1)));
        assert_eq!(
            value.get("b"),
            Some(&Value::Array(vec![Value::Unsigned(2), Value::Unsigned(3)]))
        );
        assert_eq!(parse(&read("3903e7")), Some(Value::Negative(999)));
        assert_eq!(
            parse(&read("c11a514b67b0")),
            Some(Value::Tag(1, Box::new(Value::Unsigned(1_363_896_240))))
        );
        let cose = read("a1385c01");
        assert_eq!(
            parse(&cose).unwrap().get_int(-93),
            Some(&Value::Unsigned(1))
        );
        // Trailing byte, indefinite length, a key twice, cut off, too many items announced.
        for bad in ["0000", "9fff", "a2010101 02", "4201", "9b00000000ffffffff"] {
            assert_eq!(parse(&read(&bad.replace(' ', ""))), None, "{bad}");
        }
        assert_eq!(parse(&[0x81; 40]), None);
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = parse(&bytes);
        }
    }
}
