use super::*;
use proptest::prelude::*;

const F: &str = "field";

#[test]
fn elements_keep_their_bytes() {
    let bytes = [0x30, 0x06, 0x02, 0x01, 0x07, 0x04, 0x01, 0xaa];
    let e = expect(&bytes, tag::SEQUENCE, F).unwrap();
    assert_eq!(e.raw(), bytes);
    let mut w = e.walk();
    assert_eq!(w.expect(tag::INTEGER, F).unwrap().small(F), Ok(7));
    assert_eq!(w.optional(tag::NULL, F), Ok(None));
    assert_eq!(w.next(F).unwrap().octets(F), Ok(&[0xaa][..]));
    assert_eq!(w.finish(F), Ok(()));
}

#[test]
fn lengths_are_definite_and_minimal() {
    for bad in [
        &[0x04, 0x80, 0x00, 0x00][..],
        &[0x04, 0x81, 0x01, 0xaa],
        &[0x04, 0x82, 0x00, 0x80],
        &[0x04, 0x85, 0, 0, 0, 0, 1],
        &[0x1f, 0x81, 0x01, 0x00],
        &[0x04, 0x02, 0xaa],
        &[0x04],
        &[],
    ] {
        assert!(single(bad, F).is_err(), "{bad:02x?}");
    }
    assert_eq!(
        single(&[0x04, 0x00, 0x00], F).unwrap_err().problem,
        Problem::Trailing
    );
}

#[test]
fn oddities_are_read_only_where_asked_for() {
    let one = |bytes: &'static [u8]| single(bytes, F).unwrap();
    assert!(one(&[0x01, 0x01, 0x01]).boolean(F).is_err());
    assert_eq!(one(&[0x01, 0x01, 0x01]).boolean_ber(F), Ok(true));
    assert!(one(&[0x02, 0x01, 0x80]).unsigned(F).is_err());
    assert_eq!(
        one(&[0x02, 0x01, 0x80]).unsigned_unpadded(F),
        Ok(&[0x80][..])
    );
    assert!(one(&[0x02, 0x02, 0x00, 0x01]).integer(F).is_err());
    assert_eq!(one(&[0x02, 0x01, 0x00]).small(F), Ok(0));
    assert!(one(&[0x03, 0x02, 0x01, 0x01]).bits(F).is_err());
    assert_eq!(one(&[0x03, 0x02, 0x01, 0x02]).bits(F), Ok((1, &[2][..])));
    assert!(one(&[0x03, 0x02, 0x01, 0x02]).whole_bits(F).is_err());
    assert!(one(&[0x03, 0x01, 0x01]).bits(F).is_err());
}

#[test]
fn times_are_whole_seconds_utc() {
    let time = |kind: u8, text: &str| {
        let mut bytes = vec![kind, u8::try_from(text.len()).unwrap()];
        bytes.extend(text.bytes());
        single(&bytes, F).unwrap().time(F).map(|t| t.to_string())
    };
    assert_eq!(
        time(tag::UTC_TIME, "490101000000Z").unwrap(),
        "2049-01-01T00:00:00Z"
    );
    assert_eq!(
        time(tag::GENERALIZED_TIME, "99991231235959Z").unwrap(),
        "9999-12-31T23:59:59Z"
    );
    for (kind, bad) in [
        (tag::UTC_TIME, "500101000000Z"),
        (tag::UTC_TIME, "4901010000Z"),
        (tag::UTC_TIME, "490101000000+0100"),
        (tag::UTC_TIME, "491301000000Z"),
        (tag::GENERALIZED_TIME, "490101000000Z"),
        (tag::GENERALIZED_TIME, ""),
    ] {
        assert!(time(kind, bad).is_err(), "{bad}");
    }
}

proptest! {
    #[test]
    fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..100)) {
        let mut w = Walker::new(&bytes);
        while let Ok(e) = w.next(F) {
            let _ = (e.oid(F), e.bits(F), e.unsigned(F), e.small(F), e.time(F), e.text(F));
            let _ = (e.inner(F), e.boolean(F), e.boolean_ber(F), e.unsigned_unpadded(F));
        }
    }
}
