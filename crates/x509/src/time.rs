//! ASN.1 times ⇄ microseconds.

use crate::asn1::{Asn1Error, GENERALIZED_TIME, Problem, Tlv, UTC_TIME, tlv};
use countersign_core::Micros;
use der::DateTime;
use std::time::Duration;

/// Reads `Time ::= CHOICE { UTCTime, GeneralizedTime }` as RFC 5280 §4.1.2.5 wants it: seconds
/// present, `Z`, no fraction, UTCTime through 2049.
pub(crate) fn read_time(t: &Tlv<'_>, field: &'static str) -> Result<Micros, Asn1Error> {
    let bad = Asn1Error::new(field, Problem::Value);
    match (t.tag, t.value) {
        (UTC_TIME, [y @ .., b'Z']) if y.len() == 12 => {
            let yy = digits(y, 0, 2).ok_or(bad.clone())?;
            let year = if yy >= 50 { 1900 + yy } else { 2000 + yy };
            civil(year, y.get(2..).unwrap_or_default()).ok_or(bad)
        }
        (GENERALIZED_TIME, [y @ .., b'Z']) if y.len() == 14 => {
            let year = digits(y, 0, 4).ok_or(bad.clone())?;
            civil(year, y.get(4..).unwrap_or_default()).ok_or(bad)
        }
        _ => Err(bad),
    }
}

/// Reads a GeneralizedTime that may carry a fraction of a second (RFC 3161 §2.4.2: `Z`, and
/// neither a trailing zero nor an empty fraction). Digits past microseconds are cut off.
pub(crate) fn read_generalized_fraction(
    t: &Tlv<'_>,
    field: &'static str,
) -> Result<Micros, Asn1Error> {
    let bad = Asn1Error::new(field, Problem::Value);
    let body = match (t.tag, t.value) {
        (GENERALIZED_TIME, [body @ .., b'Z']) => body,
        _ => return Err(bad),
    };
    let year = digits(body, 0, 4).ok_or(bad.clone())?;
    let whole = civil(year, body.get(4..14).ok_or(bad.clone())?).ok_or(bad.clone())?;
    let micros = match body.get(14..) {
        Some([]) => 0,
        Some([b'.', fraction @ ..])
            if !fraction.is_empty()
                && fraction.len() <= 18
                && fraction.iter().all(u8::is_ascii_digit)
                && fraction.last() != Some(&b'0') =>
        {
            fraction
                .iter()
                .chain(std::iter::repeat(&b'0'))
                .take(6)
                .fold(0i64, |n, d| n * 10 + i64::from(d - b'0'))
        }
        _ => return Err(bad),
    };
    Ok(Micros(whole.0.saturating_add(micros)))
}

/// Writes a time as RFC 5280 §4.1.2.5 wants it: UTCTime through 2049, GeneralizedTime after.
/// Fractions of a second are dropped; times before 1970 or after 9999 become the nearest of both.
pub(crate) fn write_time(at: Micros) -> Vec<u8> {
    let (year, rest) = fields(at);
    if (1950..2050).contains(&year) {
        tlv(UTC_TIME, &[format!("{:02}{rest}Z", year % 100).as_bytes()])
    } else {
        tlv(GENERALIZED_TIME, &[format!("{year:04}{rest}Z").as_bytes()])
    }
}

fn fields(at: Micros) -> (u16, String) {
    const LAST: u64 = 253_402_300_799; // 9999-12-31T23:59:59Z
    let seconds = u64::try_from(at.seconds()).unwrap_or(0).min(LAST);
    match DateTime::from_unix_duration(Duration::from_secs(seconds)) {
        Ok(d) => (
            d.year(),
            format!(
                "{:02}{:02}{:02}{:02}{:02}",
                d.month(),
                d.day(),
                d.hour(),
                d.minutes(),
                d.seconds()
            ),
        ),
        Err(_) => (1970, "0101000000".to_owned()),
    }
}

/// `MMDDHHMMSS` of `year`. Years before 1970 read as the epoch's start: nothing we check is valid
/// that long, and "not before 1950" is as good as "not before 1970".
fn civil(year: u16, rest: &[u8]) -> Option<Micros> {
    if rest.len() != 10 {
        return None;
    }
    let two = |at| digits(rest, at, 2).and_then(|n| u8::try_from(n).ok());
    let d = DateTime::new(year.max(1970), two(0)?, two(2)?, two(4)?, two(6)?, two(8)?).ok()?;
    if year < 1970 {
        return Some(Micros(0));
    }
    let seconds = i64::try_from(d.unix_duration().as_secs()).ok()?;
    Some(Micros::from_seconds(seconds))
}

fn digits(bytes: &[u8], from: usize, count: usize) -> Option<u16> {
    bytes
        .get(from..from.checked_add(count)?)?
        .iter()
        .try_fold(0u16, |n, d| {
            d.is_ascii_digit().then(|| n * 10 + u16::from(d - b'0'))
        })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::asn1::Cursor;

    fn utc(s: &str) -> Result<Micros, Asn1Error> {
        let der = tlv(UTC_TIME, &[s.as_bytes()]);
        read_time(&Cursor::new(&der).any("t").unwrap(), "t")
    }

    fn fraction(s: &str) -> Result<Micros, Asn1Error> {
        let der = tlv(GENERALIZED_TIME, &[s.as_bytes()]);
        read_generalized_fraction(&Cursor::new(&der).any("t").unwrap(), "t")
    }

    #[test]
    fn times_read_back_on_both_sides_of_2050() {
        // date -u -d 2026-11-21T12:34:56Z +%s, and 2050-01-01T00:00:00Z
        for (s, tag) in [
            (1_795_264_496, UTC_TIME),
            (2_524_607_999, UTC_TIME),
            (2_524_608_000, GENERALIZED_TIME),
        ] {
            let at = Micros::from_seconds(s);
            let der = write_time(at);
            assert_eq!(der.first(), Some(&tag));
            assert_eq!(read_time(&Cursor::new(&der).any("t").unwrap(), "t"), Ok(at));
        }
        assert_eq!(
            utc("261121123456Z"),
            Ok(Micros::from_seconds(1_795_264_496))
        );
    }

    #[test]
    fn loose_times_are_refused() {
        for bad in [
            "2611211234Z",
            "261121123456+0100",
            "261321123456Z",
            "26112112345 Z",
            "",
        ] {
            assert!(utc(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn fractions_keep_microseconds() {
        assert_eq!(
            fraction("20261121123456Z"),
            Ok(Micros(1_795_264_496_000_000))
        );
        assert_eq!(
            fraction("20261121123456.25Z"),
            Ok(Micros(1_795_264_496_250_000))
        );
        assert_eq!(
            fraction("20261121123456.1234567Z"),
            Ok(Micros(1_795_264_496_123_456))
        );
        for bad in [
            "20261121123456.Z",
            "20261121123456.50Z",
            "20261121123456",
            "2026112112345Z",
        ] {
            assert!(fraction(bad).is_err(), "{bad}");
        }
    }
}
