//! Writing nCore and D3S: what the verifier's readers must understand.

/// nCore words.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Words(pub Vec<u8>);

impl Words {
    /// Nothing yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// A word.
    #[must_use]
    pub fn u32(mut self, value: u32) -> Self {
        self.0.extend(value.to_le_bytes());
        self
    }

    /// Bytes as they are.
    #[must_use]
    pub fn raw(mut self, bytes: &[u8]) -> Self {
        self.0.extend(bytes);
        self
    }

    /// A number given big-endian.
    #[must_use]
    pub fn number(self, big_endian: &[u8]) -> Self {
        let mut bytes: Vec<u8> = big_endian.iter().rev().copied().collect();
        while bytes.last() == Some(&0) {
            bytes.pop();
        }
        while !bytes.len().is_multiple_of(4) {
            bytes.push(0);
        }
        self.u32(u32::try_from(bytes.len()).expect("short"))
            .raw(&bytes)
    }

    /// Text.
    #[must_use]
    pub fn text(self, text: &str) -> Self {
        let length = text.len() + 1;
        let mut this = self
            .u32(u32::try_from(length).expect("short"))
            .raw(text.as_bytes());
        this.0.push(0);
        this.0.resize(this.0.len() + (4 - length % 4) % 4, 0);
        this
    }
}

/// A D3S value.
#[derive(Debug, Clone)]
pub enum D3s {
    /// A small integer.
    Small(u8),
    /// Text.
    Text(String),
    /// A symbol.
    Symbol(&'static str),
    /// Bytes.
    Bytes(Vec<u8>),
    /// A large integer.
    Integer(Vec<u8>),
    /// A list.
    List(Vec<D3s>),
    /// A map.
    Map(Vec<(D3s, D3s)>),
}

impl D3s {
    /// Its encoding.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let short = |base: u8, n: usize| vec![base | u8::try_from(n).expect("at most 15")];
        match self {
            Self::Small(n) => vec![*n],
            Self::Text(t) => [short(0x20, t.len()), t.as_bytes().to_vec()].concat(),
            Self::Symbol(s) if s.len() < 16 => {
                [short(0x30, s.len()), s.as_bytes().to_vec()].concat()
            }
            Self::Symbol(s) => {
                let length = u8::try_from(s.len()).expect("short");
                [vec![0xc4, length], s.as_bytes().to_vec()].concat()
            }
            Self::Bytes(b) => match u8::try_from(b.len()) {
                Ok(n) => [vec![0xc5, n], b.clone()].concat(),
                Err(_) => {
                    let n = u16::try_from(b.len()).expect("below 64 KiB").to_be_bytes();
                    [vec![0xd5], n.to_vec(), b.clone()].concat()
                }
            },
            Self::Integer(b) => [vec![0xf4], Self::Bytes(b.clone()).encode()].concat(),
            Self::List(items) => {
                let mut out = short(0x90, items.len());
                out.extend(items.iter().flat_map(Self::encode));
                out
            }
            Self::Map(pairs) => {
                let mut out = short(0xb0, pairs.len());
                for (k, v) in pairs {
                    out.extend(k.encode());
                    out.extend(v.encode());
                }
                out
            }
        }
    }
}
