use super::*;

#[test]
fn every_row_is_a_key_and_complete() {
    let pinned = Anchors::pinned();
    assert_eq!(pinned.iter().count(), rows().count());
    for row in rows() {
        let anchor = parse(row).unwrap_or_else(|| panic!("{}: spki", row.name));
        assert_eq!(
            hex::encode(anchor.key().to_spki()),
            row.spki,
            "{}: not the canonical encoding",
            row.name
        );
        assert!(!row.vendor.is_empty() && !row.line.is_empty(), "{row:?}");
        assert!(!row.published.is_empty(), "{}", row.name);
        if row.role == Role::Key {
            continue;
        }
        assert!(!row.name.is_empty(), "{row:?}");
        assert!(!row.certificates.is_empty(), "{}", row.name);
        for f in row.certificates {
            assert_eq!(f.len(), 64, "{}: {f}", row.name);
        }
        let time = |t: &str| {
            serde_json::from_value::<crate::UnixSeconds>(t.into())
                .unwrap_or_else(|_| panic!("{}: {t}", row.name))
        };
        assert!(time(row.not_before) < time(row.not_after), "{}", row.name);
    }
}

#[test]
fn no_key_stands_twice_in_a_line() {
    let mut seen = std::collections::BTreeSet::new();
    for row in rows() {
        assert!(seen.insert((row.line, row.name, row.spki)), "{}", row.name);
    }
}

#[test]
fn the_version_names_the_table_and_what_was_added() {
    let pinned = Anchors::pinned();
    assert_eq!(pinned.version(), anchor_set_version());
    let mut more = Anchors::pinned();
    let row = rows().next().unwrap();
    let der = hex::decode(row.spki).unwrap();
    assert_eq!(more.add_file("own.der", &der), Ok(1));
    assert_ne!(more.version(), pinned.version());
    assert!(more.version().starts_with(&pinned.version()));
    assert!(more.add_file("empty", b"").is_err());
    assert!(more.add_file("text", b"no anchor").is_err());
}
