//! The encoding of nShield warrants ("DDDS", D3S): tagged values, no schema.
//!
//! ```text
//! 00..1f  a small integer                    c4 n      a symbol of n bytes
//! 2n      text of n bytes                    c5 n      n bytes
//! 3n      a symbol of n bytes                d5 nn nn  bytes, the length big-endian
//! 9n      a list of n values                 f4 value  an integer: the bytes that follow, big-endian
//! bn      a map of n pairs
//! ```
//!
//! Any other tag is refused: warrants in the field use no more (seen on real warrants).

/// Deepest nesting read: a warrant's lists and maps nest three deep.
const MAX_DEPTH: usize = 8;
/// Most values in one encoding; a warrant's payload has about thirty.
const MAX_VALUES: usize = 512;

/// Why bytes are no D3S value. Retrying cannot help.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum D3sError {
    /// The bytes end within a value.
    #[error("ends within a value")]
    Truncated,
    /// A tag that no warrant uses.
    #[error("holds the unknown tag {0:#04x}")]
    Tag(u8),
    /// Text or a symbol that is not ASCII.
    #[error("holds text that is not ASCII")]
    Text,
    /// An integer's tag is not followed by bytes.
    #[error("holds an integer that is not followed by bytes")]
    Integer,
    /// A key occurs twice in a map.
    #[error("holds a map with a key given twice")]
    DuplicateKey,
    /// Nested deeper, or more values, than any warrant.
    #[error("nests deeper than {MAX_DEPTH} or holds more than {MAX_VALUES} values")]
    TooComplex,
    /// Bytes follow the value.
    #[error("is followed by {0} further bytes")]
    Trailing(usize),
}

/// A value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Value<'a> {
    /// A small integer.
    Small(u8),
    /// Text.
    Text(&'a str),
    /// A symbol: a name.
    Symbol(&'a str),
    /// Bytes.
    Bytes(&'a [u8]),
    /// A large integer, big-endian.
    Integer(&'a [u8]),
    /// A list.
    List(Vec<Value<'a>>),
    /// A map; no key occurs twice.
    Map(Vec<(Value<'a>, Value<'a>)>),
}

impl<'a> Value<'a> {
    /// Reads one value and nothing after it.
    pub fn decode(bytes: &'a [u8]) -> Result<Self, D3sError> {
        let mut reader = Reader {
            rest: bytes,
            values: 0,
        };
        let value = reader.value(0)?;
        match reader.rest.len() {
            0 => Ok(value),
            n => Err(D3sError::Trailing(n)),
        }
    }

    /// What a map holds under the symbol `name`.
    pub fn get(&self, name: &str) -> Option<&Value<'a>> {
        match self {
            Self::Map(pairs) => pairs
                .iter()
                .find(|(k, _)| *k == Value::Symbol(name))
                .map(|(_, v)| v),
            _ => None,
        }
    }

    /// The elements of a list.
    pub fn list(&self) -> Option<&[Value<'a>]> {
        match self {
            Self::List(items) => Some(items),
            _ => None,
        }
    }

    /// The name, of a symbol.
    pub fn symbol(&self) -> Option<&'a str> {
        match self {
            Self::Symbol(name) => Some(name),
            _ => None,
        }
    }

    /// The text, of a text.
    pub fn text(&self) -> Option<&'a str> {
        match self {
            Self::Text(text) => Some(text),
            _ => None,
        }
    }

    /// The bytes, of bytes.
    pub fn bytes(&self) -> Option<&'a [u8]> {
        match self {
            Self::Bytes(bytes) => Some(bytes),
            _ => None,
        }
    }
}

struct Reader<'a> {
    rest: &'a [u8],
    values: usize,
}

impl<'a> Reader<'a> {
    fn take(&mut self, n: usize) -> Result<&'a [u8], D3sError> {
        let (head, rest) = self.rest.split_at_checked(n).ok_or(D3sError::Truncated)?;
        self.rest = rest;
        Ok(head)
    }

    fn byte(&mut self) -> Result<u8, D3sError> {
        self.take(1)?.first().copied().ok_or(D3sError::Truncated)
    }

    fn text(&mut self, n: usize) -> Result<&'a str, D3sError> {
        let bytes = self.take(n)?;
        if !bytes.is_ascii() {
            return Err(D3sError::Text);
        }
        std::str::from_utf8(bytes).map_err(|_| D3sError::Text)
    }

    fn value(&mut self, depth: usize) -> Result<Value<'a>, D3sError> {
        self.values += 1;
        if depth > MAX_DEPTH || self.values > MAX_VALUES {
            return Err(D3sError::TooComplex);
        }
        let tag = self.byte()?;
        let n = usize::from(tag & 0x0f);
        Ok(match tag {
            0x00..=0x1f => Value::Small(tag),
            0x20..=0x2f => Value::Text(self.text(n)?),
            0x30..=0x3f => Value::Symbol(self.text(n)?),
            0x90..=0x9f => {
                let mut items = Vec::new();
                for _ in 0..n {
                    items.push(self.value(depth + 1)?);
                }
                Value::List(items)
            }
            0xb0..=0xbf => {
                let mut pairs: Vec<(Value<'a>, Value<'a>)> = Vec::new();
                for _ in 0..n {
                    let key = self.value(depth + 1)?;
                    if pairs.iter().any(|(k, _)| *k == key) {
                        return Err(D3sError::DuplicateKey);
                    }
                    let value = self.value(depth + 1)?;
                    pairs.push((key, value));
                }
                Value::Map(pairs)
            }
            0xc4 => {
                let n = usize::from(self.byte()?);
                Value::Symbol(self.text(n)?)
            }
            0xc5 => {
                let n = usize::from(self.byte()?);
                Value::Bytes(self.take(n)?)
            }
            0xd5 => {
                let high = usize::from(self.byte()?);
                let low = usize::from(self.byte()?);
                Value::Bytes(self.take((high << 8) | low)?)
            }
            0xf4 => match self.value(depth + 1)? {
                Value::Bytes(bytes) => Value::Integer(bytes),
                _ => return Err(D3sError::Integer),
            },
            other => return Err(D3sError::Tag(other)),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_of_value_is_read() {
        let bytes = [
            0x97, 0x05, 0x22, b'h', b'i', 0x32, b'o', b'k', 0xc4, 1, b's', 0xc5, 2, 1, 2, 0xd5, 0,
            1, 9, 0xf4, 0xc5, 1, 7,
        ];
        let want = Value::List(vec![
            Value::Small(5),
            Value::Text("hi"),
            Value::Symbol("ok"),
            Value::Symbol("s"),
            Value::Bytes(&[1, 2]),
            Value::Bytes(&[9]),
            Value::Integer(&[7]),
        ]);
        assert_eq!(Value::decode(&bytes), Ok(want));
        for n in 0..bytes.len() {
            assert_eq!(
                Value::decode(bytes.get(..n).unwrap()),
                Err(D3sError::Truncated),
                "{n}"
            );
        }
    }

    #[test]
    fn a_map_names_each_key_once() {
        let map = [0xb1, 0x31, b'a', 0x01];
        let value = Value::decode(&map).unwrap();
        assert_eq!(value.get("a"), Some(&Value::Small(1)));
        assert_eq!(value.get("b"), None);
        let twice = [0xb2, 0x31, b'a', 0x01, 0xc4, 1, b'a', 0x02];
        assert_eq!(Value::decode(&twice), Err(D3sError::DuplicateKey));
    }

    #[test]
    fn what_no_warrant_holds_is_refused() {
        assert_eq!(Value::decode(&[0x40]), Err(D3sError::Tag(0x40)));
        assert_eq!(Value::decode(&[0x01, 0x02]), Err(D3sError::Trailing(1)));
        assert_eq!(Value::decode(&[0xf4, 0x01]), Err(D3sError::Integer));
        assert_eq!(Value::decode(&[0x21, 0xff]), Err(D3sError::Text));
        assert_eq!(Value::decode(&[0x91; 10]), Err(D3sError::TooComplex));
        // Lists of 15 in lists of 15 in a list of 15: more values than any warrant has.
        let leaf = [&[0x9f][..], &[0x01; 15]].concat();
        let branch = [&[0x9f][..], &leaf.repeat(15)].concat();
        let wide = [&[0x9f][..], &branch.repeat(15)].concat();
        assert_eq!(Value::decode(&wide), Err(D3sError::TooComplex));
    }
}
