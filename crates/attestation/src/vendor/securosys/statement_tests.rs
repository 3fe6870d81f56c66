use super::*;
use proptest::prelude::*;

const SAMPLE: &str = r#"<?xml version="1.0" encoding="UTF-8"?>
<private_key creation="generated">
	<label>a key</label>
	<create_time>2025-10-01T20:31:53Z</create_time>
	<attest_time>2025-10-18T20:19:33Z</attest_time>
	<key_use_count>10</key_use_count>
	<algorithm>EC</algorithm>
	<algorithm_oid>1.2.840.10045.2.1</algorithm_oid>
	<curve_oid>1.2.840.10045.3.1.7</curve_oid>
	<public_key>AQID</public_key>
	<attributes>
		<sign>true</sign>
		<extractable>false</extractable>
	</attributes>
	<policy>
		<key_status><blocked>false</blocked></key_status>
		<rule_use><token name="t"><timelock>0</timelock><timeout>600</timeout><group name="g"><quorum>1</quorum><approval type="public_key" name="a">AQID</approval><approval type="public_key" name="b">AQID</approval></group></token></rule_use>
	</policy>
</private_key>

"#;

fn with(from: &str, to: &str) -> Result<Statement, StatementError> {
    assert!(SAMPLE.contains(from), "{from}");
    parse(SAMPLE.replacen(from, to, 1).as_bytes())
}

#[test]
fn a_statement_is_read() {
    let s = parse(SAMPLE.as_bytes()).unwrap();
    assert_eq!(s.creation.as_deref(), Some("generated"));
    assert!(s.root_attributes.is_empty());
    assert_eq!(s.attest_time.to_string(), "2025-10-18T20:19:33Z");
    assert_eq!(s.key_use_count, Some(10));
    assert_eq!(s.public_key, [1, 2, 3]);
    assert_eq!(s.attributes.get("sign"), Some(&true));
    assert_eq!(s.attributes.get("extractable"), Some(&false));
    assert_eq!(s.policy.unwrap().rules, ["rule_use"]);
    assert!(s.unknown.is_empty());
    assert!(looks_like(SAMPLE.as_bytes()));
}

#[test]
fn what_this_version_does_not_know_is_listed() {
    let s = with("<label>", "<escrow>true</escrow><label>").unwrap();
    assert_eq!(s.unknown, ["private_key/escrow"]);
    let s = with("<private_key ", "<private_key storage=\"external\" ").unwrap();
    assert_eq!(s.root_attributes["storage"], "external");
    let s = with(
        "<label>",
        "<uuid>F6</uuid><derivation_value type=\"x\">5B</derivation_value><label>",
    );
    assert!(s.unwrap().unknown.is_empty());
}

#[test]
fn xml_that_could_be_read_in_two_ways_is_refused() {
    use StatementError::{Duplicate, NotPlain, NotXml, Value};
    let dtd = with(
        "<private_key",
        "<!DOCTYPE private_key [<!ENTITY x 'true'>]><private_key",
    );
    assert!(matches!(dtd, Err(NotXml(_))), "{dtd:?}");
    assert!(matches!(with("a key", "&x;"), Err(NotXml(_))));
    assert_eq!(with("a key", "<!-- -->a key"), Err(NotPlain("a comment")));
    assert_eq!(
        with("a key", "<![CDATA[a key]]>"),
        Err(NotPlain("a CDATA section"))
    );
    assert_eq!(
        with("a key", "<?p?>"),
        Err(NotPlain("a processing instruction"))
    );
    let ns = with("<label>", "<label xmlns=\"urn:x\">");
    assert_eq!(ns, Err(NotPlain("a namespace")));
    assert_eq!(
        with("<sign>", "x<sign>"),
        Err(NotPlain("text beside elements"))
    );
    let twice = with("<extractable>false", "<sign>false</sign><extractable>false");
    assert_eq!(twice, Err(Duplicate("sign".into())));
    let twice = with("<label>", "<attributes></attributes><label>");
    assert_eq!(twice, Err(Duplicate("attributes".into())));
    let twice = with(
        "creation=\"generated\"",
        "creation=\"generated\" creation=\"imported\"",
    );
    assert!(matches!(twice, Err(NotXml(_))));
    for value in ["TRUE", "1", " true", "", "<b/>"] {
        let flag = with("<sign>true", &format!("<sign>{value}"));
        assert_eq!(flag, Err(Value("sign".into())), "{value}");
    }
    assert_eq!(with("<sign>", "<sign a=\"b\">"), Err(Value("sign".into())));
    let hidden = with("<token ", "<attributes/><token ");
    assert_eq!(hidden, Err(Value("rule_use/attributes".into())));
}

#[test]
fn values_are_of_their_types() {
    use StatementError::{Missing, Root, Value};
    assert_eq!(
        with("<key_use_count>10", "<key_use_count>+10"),
        Err(Value("key_use_count".into()))
    );
    assert_eq!(
        with("2025-10-18T20:19:33Z", "yesterday"),
        Err(Value("attest_time".into()))
    );
    assert_eq!(with("AQID", "A*ID"), Err(Value("public_key".into())));
    assert_eq!(
        with("<public_key>AQID</public_key>", ""),
        Err(Missing("public_key"))
    );
    assert_eq!(parse(b"<public_key/>"), Err(Root("public_key".into())));
    assert_eq!(parse(b"\xff"), Err(StatementError::NotUtf8));
    assert!(matches!(
        parse(&vec![b' '; MAX_STATEMENT + 1]),
        Err(StatementError::TooLarge(_))
    ));
}

#[test]
fn cut_anywhere_it_is_an_error() {
    let end = SAMPLE.trim_end().len();
    for length in 0..end {
        assert!(parse(&SAMPLE.as_bytes()[..length]).is_err(), "{length}");
    }
}

#[test]
fn deep_and_wide_xml_costs_little() {
    let deep = "<private_key>".repeat(20_000);
    assert!(parse(deep.as_bytes()).is_err());
    let wide = format!("<private_key>{}</private_key>", "<a/>".repeat(20_000));
    assert!(parse(wide.as_bytes()).is_err());
}

proptest! {
    #[test]
    fn hostile_bytes_do_no_harm(bytes in proptest::collection::vec(any::<u8>(), 0..300), text in "[<>/=a-z&;!\\[\\]\" ]{0,200}", at in 0..900_usize, to: u8) {
        let _ = (parse(&bytes), looks_like(&bytes));
        let _ = parse(text.as_bytes());
        let mut changed = SAMPLE.as_bytes().to_vec();
        if let Some(b) = changed.get_mut(at) {
            *b = to;
        }
        if let Ok(s) = parse(&changed) {
            prop_assert!(s.attributes.len() <= 2 && !s.public_key.is_empty());
        }
    }
}
