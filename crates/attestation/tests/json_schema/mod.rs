//! Just enough of JSON Schema for our own schemas. A keyword that is not known here fails the test:
//! nothing is silently left unchecked.

use serde_json::Value;

/// What is wrong with `value`, as paths and words; empty if it is as the schema says.
pub fn problems(schema: &Value, value: &Value) -> Vec<String> {
    let mut out = Vec::new();
    check(schema, schema, value, "", &mut out);
    out
}

fn check(root: &Value, schema: &Value, value: &Value, at: &str, out: &mut Vec<String>) {
    let mut found = Vec::new();
    let mut wrong = |what: String| found.push(format!("{at}: {what}"));
    for (keyword, rule) in schema.as_object().expect("a schema is an object") {
        match keyword.as_str() {
            "$schema"
            | "$id"
            | "$defs"
            | "title"
            | "description"
            | "required"
            | "additionalProperties" => {}
            "const" if value == rule => {}
            "const" => wrong(format!("is not {rule}")),
            "enum" if rule.as_array().expect("enum").contains(value) => {}
            "enum" => wrong(format!("{value} is none of {rule}")),
            "type" => {
                let fits = match rule.as_str().expect("type") {
                    "object" => value.is_object(),
                    "array" => value.is_array(),
                    "string" => value.is_string(),
                    "boolean" => value.is_boolean(),
                    "integer" => value.is_i64() || value.is_u64(),
                    "null" => value.is_null(),
                    other => panic!("type {other}"),
                };
                if !fits {
                    wrong(format!("{value} is no {rule}"));
                }
            }
            "minimum" if value.as_i64() >= rule.as_i64() => {}
            "minimum" => wrong(format!("{value} is below {rule}")),
            "maximum" if value.as_i64() <= rule.as_i64() => {}
            "maximum" => wrong(format!("{value} is above {rule}")),
            "minItems" => {
                let n = value.as_array().map_or(0, Vec::len) as u64;
                if Some(n) < rule.as_u64() {
                    wrong(format!("has {n} items"));
                }
            }
            "pattern" => {
                let text = value.as_str().unwrap_or_default();
                if !matches(rule.as_str().expect("pattern"), text) {
                    wrong(format!("{text:?} is not like {rule}"));
                }
            }
            "$ref" => {
                let name = rule.as_str().expect("$ref");
                let name = name.strip_prefix("#/$defs/").expect("a local $ref");
                let there = root["$defs"].get(name);
                check(
                    root,
                    there.expect("a $ref that leads somewhere"),
                    value,
                    at,
                    out,
                );
            }
            "anyOf" => {
                let fits = rule.as_array().expect("anyOf").iter().any(|s| {
                    let mut tried = Vec::new();
                    check(root, s, value, at, &mut tried);
                    tried.is_empty()
                });
                if !fits {
                    wrong(format!("{value} is none of the alternatives"));
                }
            }
            "items" => {
                for (i, item) in value.as_array().into_iter().flatten().enumerate() {
                    check(root, rule, item, &format!("{at}/{i}"), out);
                }
            }
            "properties" => {
                members(root, schema, value, at, out);
            }
            other => panic!("keyword {other} is not checked here"),
        }
    }
    out.extend(found);
}

fn members(root: &Value, schema: &Value, value: &Value, at: &str, out: &mut Vec<String>) {
    let Some(object) = value.as_object() else {
        return;
    };
    for name in schema["required"].as_array().into_iter().flatten() {
        if !object.contains_key(name.as_str().expect("required")) {
            out.push(format!("{at}: {name} is missing"));
        }
    }
    for (name, member) in object {
        match schema["properties"].get(name) {
            Some(s) => check(root, s, member, &format!("{at}/{name}"), out),
            None if schema["additionalProperties"] == false => {
                out.push(format!("{at}: {name} is not in the schema"));
            }
            None => {}
        }
    }
}

/// The patterns our schemas use, each by hand.
fn matches(pattern: &str, text: &str) -> bool {
    let all = |f: fn(u8) -> bool| !text.is_empty() && text.bytes().all(f);
    match pattern {
        "^[0-9a-f]{64}$" => {
            text.len() == 64 && all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
        }
        "^[a-z0-9-]+$" => all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-'),
        "^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}Z$" => {
            let shape: String = text
                .chars()
                .map(|c| if c.is_ascii_digit() { '0' } else { c })
                .collect();
            shape == "0000-00-00T00:00:00Z"
        }
        "^(140-2|140-3|cc):[1-7]$" => text.split_once(':').is_some_and(|(standard, level)| {
            ["140-2", "140-3", "cc"].contains(&standard)
                && level.len() == 1
                && ("1"..="7").contains(&level)
        }),
        other => panic!("pattern {other} is not checked here"),
    }
}
