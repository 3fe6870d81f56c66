use super::*;
use proptest::prelude::*;
use serde::Deserialize;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(dead_code)]
struct Outer {
    name: countersign_core::TenantName,
    #[serde(default)]
    inner: Option<Inner>,
    #[serde(default)]
    list: Vec<u8>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(dead_code)]
struct Inner {
    size: u32,
    text: String,
}

fn field(json: &str) -> Option<String> {
    let problem = from_json::<Outer>(json.as_bytes()).unwrap_err();
    problem.document(&RequestId::new()).field
}

#[test]
fn the_wrong_field_is_named() {
    for (json, expected) in [
        (r#"{"name":"a","extra":1}"#, Some("extra")),
        (r#"{"name":5}"#, Some("name")),
        (r#"{"name":"A"}"#, Some("name")),
        (r#"{"inner":null}"#, Some("name")),
        (r#"{}"#, Some("name")),
        (
            r#"{"name":"a","inner":{"size":"x","text":"t"}}"#,
            Some("inner.size"),
        ),
        (r#"{"name":"a","inner":{"size":1}}"#, Some("inner.text")),
        (
            r#"{"name":"a","inner":{"size":1,"text":"t","more":2}}"#,
            Some("inner.more"),
        ),
        (r#"{"name":"a","list":[1,2,999]}"#, Some("list[2]")),
        (
            "{\n  \"name\": \"a\",\n  \"inner\": {\n    \"size\": -1\n  }\n}",
            Some("inner.size"),
        ),
        (r#"{"name":"#, None),
        (r#"[]"#, None),
        (r#"{"name":"a"} {"name":"b"}"#, None),
    ] {
        assert_eq!(field(json).as_deref(), expected, "{json}");
    }
}

#[test]
fn a_bearer_token_is_found_whatever_the_case_of_its_scheme() {
    let with = |v: &str| {
        let mut h = HeaderMap::new();
        h.insert(header::AUTHORIZATION, v.parse().unwrap());
        bearer(&h).map(str::to_owned)
    };
    assert_eq!(with("Bearer abc"), Some("abc".into()));
    assert_eq!(with("bearer abc"), Some("abc".into()));
    assert_eq!(with("Basic abc"), None);
    assert_eq!(with("Bearer "), None);
    assert_eq!(with("Bearer"), None);
}

proptest! {
    #[test]
    fn no_body_makes_the_reader_fall(body in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = from_json::<Outer>(&body);
    }
}
