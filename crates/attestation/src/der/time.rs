//! UTCTime and GeneralizedTime.

use super::tag;
use crate::time::UnixSeconds;

/// Reads `YYMMDDHHMMSSZ` or `YYYYMMDDHHMMSSZ`.
pub(super) fn read(kind: u8, content: &[u8]) -> Option<UnixSeconds> {
    let (digits, zone) = content.split_at_checked(content.len().checked_sub(1)?)?;
    if zone != b"Z" || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let (year, rest) = match (kind, digits.len()) {
        (tag::UTC_TIME, 12) => {
            let (y, rest) = digits.split_at_checked(2)?;
            let y = number(y);
            // RFC 5280 §4.1.2.5.1: 50 to 99 are 19YY.
            (if y >= 50 { 1900 + y } else { 2000 + y }, rest)
        }
        (tag::GENERALIZED_TIME, 14) => {
            let (y, rest) = digits.split_at_checked(4)?;
            (number(y), rest)
        }
        _ => return None,
    };
    let mut fields = rest.chunks(2).map(number);
    let mut field = || u8::try_from(fields.next()?).ok();
    let date = der::DateTime::new(year, field()?, field()?, field()?, field()?, field()?).ok()?;
    Some(UnixSeconds::from_der(date))
}

/// Decimal digits; the caller gives at most four.
fn number(digits: &[u8]) -> u16 {
    digits
        .iter()
        .fold(0, |n, d| n * 10 + u16::from(d.wrapping_sub(b'0')))
}
