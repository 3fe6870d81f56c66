//! A DER writer. Lengths are minimal unless a test asks for something else by writing bytes itself.

/// One element: identifier octet, length, content.
#[must_use]
pub fn tlv(tag: u8, content: &[u8]) -> Vec<u8> {
    let mut out = vec![tag];
    if content.len() < 0x80 {
        out.push(content.len() as u8);
    } else {
        let bytes = content.len().to_be_bytes();
        let first = bytes.iter().position(|b| *b != 0).unwrap();
        out.push(0x80 | (bytes.len() - first) as u8);
        out.extend(&bytes[first..]);
    }
    out.extend(content);
    out
}

/// SEQUENCE of elements already written.
#[must_use]
pub fn seq(parts: &[Vec<u8>]) -> Vec<u8> {
    tlv(0x30, &parts.concat())
}

/// SET of elements already written, in the order given (not sorted).
#[must_use]
pub fn set(parts: &[Vec<u8>]) -> Vec<u8> {
    tlv(0x31, &parts.concat())
}

/// `[n] EXPLICIT`, or a constructed `[n] IMPLICIT`.
#[must_use]
pub fn context(n: u8, content: &[u8]) -> Vec<u8> {
    tlv(0xa0 | n, content)
}

/// A primitive `[n] IMPLICIT`.
#[must_use]
pub fn context_primitive(n: u8, content: &[u8]) -> Vec<u8> {
    tlv(0x80 | n, content)
}

/// OBJECT IDENTIFIER from dotted decimal; arcs of up to 64 bits.
#[must_use]
pub fn oid(dotted: &str) -> Vec<u8> {
    let arcs: Vec<u64> = dotted.split('.').map(|a| a.parse().unwrap()).collect();
    let mut content = Vec::new();
    let mut arc = |n: u64| {
        let mut digits = vec![(n & 0x7f) as u8];
        let mut rest = n >> 7;
        while rest > 0 {
            digits.push(0x80 | (rest & 0x7f) as u8);
            rest >>= 7;
        }
        content.extend(digits.iter().rev());
    };
    arc(arcs[0] * 40 + arcs[1]);
    arcs[2..].iter().for_each(|a| arc(*a));
    tlv(0x06, &content)
}

/// INTEGER from a number.
#[must_use]
pub fn int(n: u64) -> Vec<u8> {
    uint(&n.to_be_bytes())
}

/// INTEGER from big-endian bytes of a number that is not negative.
#[must_use]
pub fn uint(bytes: &[u8]) -> Vec<u8> {
    let first = bytes.iter().position(|b| *b != 0);
    let digits = first.map_or(&[][..], |i| &bytes[i..]);
    let mut content = digits.to_vec();
    if content.first().is_none_or(|b| b & 0x80 != 0) {
        content.insert(0, 0);
    }
    tlv(0x02, &content)
}

/// OCTET STRING.
#[must_use]
pub fn octets(bytes: &[u8]) -> Vec<u8> {
    tlv(0x04, bytes)
}

/// BIT STRING of whole bytes.
#[must_use]
pub fn bits(bytes: &[u8]) -> Vec<u8> {
    let mut content = vec![0];
    content.extend(bytes);
    tlv(0x03, &content)
}

/// BOOLEAN.
#[must_use]
pub fn boolean(b: bool) -> Vec<u8> {
    tlv(0x01, &[if b { 0xff } else { 0 }])
}

/// NULL.
#[must_use]
pub fn null() -> Vec<u8> {
    tlv(0x05, &[])
}

/// UTF8String.
#[must_use]
pub fn utf8(text: &str) -> Vec<u8> {
    tlv(0x0c, text.as_bytes())
}

/// PrintableString (not checked).
#[must_use]
pub fn printable(text: &str) -> Vec<u8> {
    tlv(0x13, text.as_bytes())
}

/// IA5String (not checked).
#[must_use]
pub fn ia5(text: &str) -> Vec<u8> {
    tlv(0x16, text.as_bytes())
}

/// A time: `YYYYMMDDHHMMSSZ` as GeneralizedTime, `YYMMDDHHMMSSZ` as UTCTime.
#[must_use]
pub fn time(text: &str) -> Vec<u8> {
    let tag = if text.len() == 15 { 0x18 } else { 0x17 };
    tlv(tag, text.as_bytes())
}

/// SEQUENCE { OID } or SEQUENCE { OID, NULL }.
#[must_use]
pub fn algorithm(dotted: &str, with_null: bool) -> Vec<u8> {
    let mut parts = vec![oid(dotted)];
    if with_null {
        parts.push(null());
    }
    seq(&parts)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The examples of X.690: §8.19.5, §8.3 and §8.1.3.5.
    #[test]
    fn the_examples_of_x_690() {
        assert_eq!(oid("2.100.3"), [0x06, 3, 0x81, 0x34, 3]);
        assert_eq!(int(0), [2, 1, 0]);
        assert_eq!(int(128), [2, 2, 0, 128]);
        assert_eq!(tlv(4, &[0; 201])[..3], [4, 0x81, 201]);
        assert_eq!(tlv(4, &[0; 300])[..4], [4, 0x82, 1, 44]);
        assert_eq!(
            seq(&[int(1), boolean(true)]),
            [0x30, 6, 2, 1, 1, 1, 1, 0xff]
        );
    }
}
