//! What a card's and a partition's certificate say of themselves in the common name:
//! `HSM:5.3G1953-ICM001225, for FIPS mode` and `HSM:5.3G1953-ICM001225:PARTN:1, for FIPS mode`.

/// A common name, read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct CardName<'a> {
    /// The card's serial number.
    pub(crate) serial: &'a str,
    /// The partition; `None` in a card's certificate.
    pub(crate) partition: Option<u16>,
    /// `FIPS mode`, where the name ends with `, for FIPS mode`.
    pub(crate) mode: Option<&'a str>,
}

/// Reads a common name; `None` if it is of another form.
pub(crate) fn parse(common_name: &str) -> Option<CardName<'_>> {
    let rest = common_name.strip_prefix("HSM:")?;
    let (rest, mode) = match rest.split_once(", for ") {
        Some((rest, mode)) => (rest, Some(mode)),
        None => (rest, None),
    };
    let (serial, partition) = match rest.split_once(":PARTN:") {
        Some((serial, n)) if !n.is_empty() && n.bytes().all(|b| b.is_ascii_digit()) => {
            (serial, Some(n.parse().ok()?))
        }
        Some(_) => return None,
        None => (rest, None),
    };
    let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_');
    let fits = (1..=64).contains(&serial.len()) && serial.bytes().all(plain);
    fits.then_some(CardName {
        serial,
        partition,
        mode,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_cards_and_partitions_are_read() {
        let card = parse("HSM:5.3G1953-ICM001225, for FIPS mode").unwrap();
        assert_eq!((card.serial, card.partition), ("5.3G1953-ICM001225", None));
        assert_eq!(card.mode, Some("FIPS mode"));
        let partition = parse("HSM:5.3G1953-ICM001225:PARTN:12").unwrap();
        assert_eq!(partition.partition, Some(12));
        assert_eq!((partition.serial, partition.mode), (card.serial, None));
        for other in [
            "HSM:",
            "HSM:a b",
            "HSM:a:PARTN:",
            "HSM:a:PARTN:+1",
            "HSM:a:PARTN:99999",
            "x",
            "HSM:a:b",
        ] {
            assert_eq!(parse(other), None, "{other}");
        }
    }
}
