//! A CBOR writer (RFC 8949): definite lengths, shortest heads.

fn head(major: u8, n: u64) -> Vec<u8> {
    let m = major << 5;
    match n {
        0..=23 => vec![m | n as u8],
        24..=0xff => vec![m | 24, n as u8],
        0x100..=0xffff => [vec![m | 25], (n as u16).to_be_bytes().to_vec()].concat(),
        0x1_0000..=0xffff_ffff => [vec![m | 26], (n as u32).to_be_bytes().to_vec()].concat(),
        _ => [vec![m | 27], n.to_be_bytes().to_vec()].concat(),
    }
}

/// An integer.
#[must_use]
pub fn int(n: i64) -> Vec<u8> {
    if n < 0 {
        head(1, (-1 - n) as u64)
    } else {
        head(0, n as u64)
    }
}

/// A byte string.
#[must_use]
pub fn bytes(b: &[u8]) -> Vec<u8> {
    [head(2, b.len() as u64), b.to_vec()].concat()
}

/// A text string.
#[must_use]
pub fn text(t: &str) -> Vec<u8> {
    [head(3, t.len() as u64), t.as_bytes().to_vec()].concat()
}

/// An array of items already written.
#[must_use]
pub fn array(items: &[Vec<u8>]) -> Vec<u8> {
    [head(4, items.len() as u64), items.concat()].concat()
}

/// A map of keys and values already written.
#[must_use]
pub fn map(members: &[(Vec<u8>, Vec<u8>)]) -> Vec<u8> {
    let mut out = head(5, members.len() as u64);
    for (k, v) in members {
        out.extend(k);
        out.extend(v);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Examples of RFC 8949, appendix A.
    #[test]
    fn the_examples_of_rfc_8949() {
        assert_eq!(int(1000), [0x19, 0x03, 0xe8]);
        assert_eq!(int(-100), [0x38, 0x63]);
        assert_eq!(text("IETF"), [0x64, 0x49, 0x45, 0x54, 0x46]);
        assert_eq!(
            map(&[(text("a"), int(1)), (text("b"), array(&[int(2), int(3)]))]),
            [0xa2, 0x61, 0x61, 0x01, 0x61, 0x62, 0x82, 0x02, 0x03]
        );
    }
}
