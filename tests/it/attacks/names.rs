//! Names in Unicode: what looks like another name is another name, or none.

use super::{Victim, refused};
use crate::support::{PEOPLE_AUDIENCE, job_spec};
use countersign_testkit::issuer::TokenSpec;
use serde_json::json;

#[test]
fn names_of_signers_are_ascii_alone() {
    let v = Victim::new("att-names");
    v.untouched(|| {
        let long = "a".repeat(64);
        for name in [
            "r\u{0435}lease",  // Cyrillic e
            "releas\u{ff45}",  // fullwidth e
            "rele\u{0301}ase", // combining acute
            "rel\u{00e9}ase",  // precomposed
            "rel\u{200b}ease", // zero width space
            "rel\u{200d}ease", // zero width joiner
            "rel\u{00ad}ease", // soft hyphen
            "\u{feff}release", // byte order mark
            "\u{202e}esaeler", // right to left
            "release\u{2060}", // word joiner
            "rel\u{2010}ease", // a hyphen that is none
            "ⓡelease",
            "ﬁle", // a ligature
            "release\u{1f512}",
            "rele\0ase",
            "rele\r\nase",
            "rele\u{7f}ase",
            "Release",
            "re lease",
            "re_lease",
            "re.lease",
            "../release",
            "other/release",
            "release-",
            "-release",
            "1release",
            "",
            long.as_str(),
        ] {
            let body = json!({"signer": name, "algorithm": "ec-p256"});
            let answer = v.post("/signers", body.to_string().as_bytes());
            assert_eq!(
                refused(&answer),
                (400, "bad-json".into(), "signer".into()),
                "{name:?}"
            );
        }
    });
}

/// Subjects and claims are compared byte by byte: no normalisation makes two people one.
#[test]
fn who_looks_like_somebody_is_not_them() {
    let v = Victim::new("att-lookalikes");
    let people = v.stack.people.url();
    let member = "ren\u{e9}e@example.com";
    let body = json!({"issuer": people, "subject": member, "role": "auditor"});
    let added = v.post("/members", body.to_string().as_bytes());
    assert_eq!(added.status, 204, "{added:?}");
    let enter = |subject: &str| {
        let spec = TokenSpec::new(subject, PEOPLE_AUDIENCE).mfa();
        let token = v.stack.people.mint(&spec).expect("a token");
        v.raw.exchange(Some(v.tenant), &token)
    };
    v.untouched(|| {
        for subject in [
            "rene\u{301}e@example.com",
            "renee@example.com",
            "REN\u{c9}E@EXAMPLE.COM",
            "ren\u{e9}e@example.com ",
            "ren\u{e9}e@example.com\0",
            "ren\u{e9}e@example\u{2024}com",
            "ren\u{e9}\u{200b}e@example.com",
            "\u{feff}ren\u{e9}e@example.com",
            "att-lookalikes-admin\u{200b}",
            "att-lookalikes-\u{430}dmin",
        ] {
            let answer = enter(subject);
            assert_eq!(
                (answer.status, answer.problem().as_str()),
                (400, "access-denied"),
                "{subject:?}"
            );
        }
        // A job's claims likewise.
        for repository in [
            "4711 ",
            "４７１１",
            "4711\u{200b}",
            "04711",
            "4711.0",
            "4711\0",
        ] {
            let token = v
                .stack
                .platform
                .mint(&job_spec(repository))
                .expect("a token");
            let answer = v.raw.exchange(Some(v.tenant), &token);
            assert_eq!(answer.problem(), "access-denied", "{repository:?}");
        }
        for claims in [
            json!(47110),
            json!(["4711"]),
            json!({"0": "4711"}),
            json!(true),
        ] {
            let spec = job_spec("4711").claim("repository_id", claims.clone());
            let token = v.stack.platform.mint(&spec).expect("a token");
            let answer = v.raw.exchange(Some(v.tenant), &token);
            assert_eq!(answer.problem(), "access-denied", "{claims}");
        }
    });
    assert_eq!(enter(member).status, 200);
}

/// An issuer is a URL of a public name, in one spelling.
#[test]
fn an_issuer_is_no_other_address_in_disguise() {
    let v = Victim::new("att-issuers");
    v.untouched(|| {
        for issuer in [
            "http://issuer.example",
            "ftp://issuer.example",
            "file:///etc/passwd",
            "javascript:alert(1)",
            "//issuer.example",
            "issuer.example",
            "https://",
            "https:///x",
            "https://user:secret@issuer.example",
            "https://issuer.example@evil.example",
            "https://issuer.example?x=1",
            "https://issuer.example/#x",
            "https://issuer.example/a b",
            "https://issuer.example/\r\nx: y",
            "https://issuer.example\u{0}",
            "https://iss\u{200b}uer.example",
            "https://\u{456}ssuer.example",
            "https://issuer.example:99999",
            "https://issuer.example\\@evil.example",
            "",
        ] {
            let body = json!({"issuer": issuer, "kind": "pipelines", "audience": "x"});
            let answer = v.post("/issuers", body.to_string().as_bytes());
            assert_eq!(
                refused(&answer),
                (422, "invalid-field".into(), "issuer".into()),
                "{issuer:?}"
            );
        }
    });
}

/// What people write for people keeps each leaf one line, and hides nothing in it.
#[test]
fn a_reason_cannot_break_or_disguise_a_leaf() {
    let v = Victim::new("att-reasons");
    let key = v.admin.json(&["keys", "create", "att-reasons/door"]);
    let key = key["id"].as_str().expect("id").to_owned();
    let event = |event: &str, reason: &str| {
        let body = json!({"event": event, "reason": reason});
        v.post(&format!("/keys/{key}/events"), body.to_string().as_bytes())
    };
    v.untouched(|| {
        for reason in [
            "a\r\nb",
            "a\nb",
            "a\0b",
            "a\u{1b}[2Jb",
            "a\u{7f}b",
            "a\u{85}b",
            "\u{202e}gpj.exe",
            "a\u{2066}b",
        ] {
            let answer = event("retire", reason);
            assert_eq!(
                refused(&answer),
                (422, "invalid-field".into(), "reason".into()),
                "{reason:?}"
            );
        }
        let answer = event("retire", &"a".repeat(5000));
        assert_eq!(
            refused(&answer),
            (422, "invalid-field".into(), "reason".into())
        );
    });
    let said = "for G\u{fc}nther \"the\" <b>owner</b>; \u{1f511}";
    let done = event("retire", said);
    assert_eq!(done.status, 200, "{done:?}");
    let leaf = v
        .admin
        .tenant_leaf(&v.stack.path("att-reasons-copy"), "key-state", |l| {
            l["to"] == "retired"
        });
    assert_eq!(leaf["reason"], said);
}
