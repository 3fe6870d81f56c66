//! The token exchange: tokens that try to be somebody's, by their header, their shape, their signature,
//! their claims or the form around them. docs/adr says why so many get the same answer.

use super::{Victim, refused};
use crate::support::raw::RawAnswer;
use crate::support::{JOB_AUDIENCE, PEOPLE_AUDIENCE, REPOSITORY, job_spec};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use countersign_testkit::issuer::TokenSpec;
use serde_json::{Value, json};
use std::net::TcpListener;

const WHO_SIGNED: &str = "no issuer of ours signed it";

fn part(value: &Value) -> String {
    URL_SAFE_NO_PAD.encode(value.to_string())
}

fn now() -> i64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    i64::try_from(since.expect("after 1970").as_secs()).expect("a time")
}

fn header_of(token: &str) -> Value {
    let head = token.split('.').next().expect("a header");
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(head).expect("base64url")).expect("JSON")
}

/// All of an answer but its request id.
fn words(answer: &RawAnswer) -> (u16, Value) {
    let mut body = answer.json();
    body.as_object_mut().expect("an object").remove("instance");
    (answer.status, body)
}

impl Victim {
    fn exchange(&self, token: &str) -> RawAnswer {
        self.raw.exchange(Some(self.tenant), token)
    }

    /// Refused by what it says itself (RFC 8693 §2.2.2, `invalid_request`).
    fn by_its_words(&self, token: &str, says: &str, what: &str) {
        let answer = self.exchange(token);
        assert_eq!(
            (answer.status, answer.problem().as_str()),
            (400, "token-refused"),
            "{what}: {answer:?}"
        );
        let body = answer.json();
        assert_eq!(body["error"], "invalid_request", "{what}");
        let detail = body["detail"].as_str().unwrap_or_default();
        assert!(detail.contains(says), "{what}: {says:?} in {detail:?}");
    }

    /// The one refusal, the same bytes for everybody.
    fn stranger(&self, token: &str, what: &str) {
        let nobody = self.raw.exchange(Some("att-nobody-here"), token);
        let answer = self.exchange(token);
        assert_eq!(
            (answer.status, answer.problem().as_str()),
            (400, "access-denied"),
            "{what}: {answer:?}"
        );
        assert_eq!(words(&answer), words(&nobody), "{what}");
    }

    fn platform(&self, spec: &TokenSpec) -> String {
        self.stack.platform.mint(spec).expect("a token")
    }
}

fn job() -> TokenSpec {
    job_spec(REPOSITORY)
}

#[test]
fn no_header_makes_a_token_somebodys() {
    let v = Victim::new("att-header");
    // Whoever is led to it is seen.
    let bait = TcpListener::bind("127.0.0.1:0").expect("a port");
    bait.set_nonblocking(true).expect("nonblocking");
    let bait_url = format!("https://{}/jwks", bait.local_addr().expect("an address"));
    let good = v.platform(&job());
    let kid = header_of(&good)["kid"].clone();
    let rest = good.split_once('.').expect("a JWT").1.to_owned();
    let with = |header: &Value| format!("{}.{rest}", part(header));
    v.untouched(|| {
        for alg in [
            "none", "None", "NONE", "nOnE", "", " none", "HS256", "HS384", "HS512", "ES256K", "RS1",
            "es256", "ES256 ", "ES256\0", "Ed448", "dir", "RSA-OAEP", "PBES2-HS256+A128KW", "*",
        ] {
            let token = with(&json!({"alg": alg, "kid": kid}));
            v.by_its_words(&token, "is not accepted", alg);
            // Without a signature too.
            let (claims, _) = rest.split_once('.').expect("claims");
            let token = format!("{}.{claims}.", part(&json!({"alg": alg, "kid": kid})));
            v.by_its_words(&token, "is not accepted", alg);
        }
        for header in [
            json!({"kid": kid}),
            json!({"alg": null, "kid": kid}),
            json!({"alg": 256, "kid": kid}),
            json!({"alg": ["ES256", "none"], "kid": kid}),
            json!({"alg": "ES256", "kid": 5}),
            json!({"alg": "ES256", "kid": ["a"]}),
            json!([]),
            json!("ES256"),
            json!(null),
        ] {
            v.by_its_words(&with(&header), "not a signed JSON Web Token", &header.to_string());
        }
        for doubled in [
            r#"{"alg":"none","alg":"ES256","kid":"k"}"#,
            r#"{"alg":"ES256","alg":"none","kid":"k"}"#,
            r#"{"alg":"ES256","kid":"a","k\u0069d":"b"}"#,
        ] {
            let token = format!("{}.{rest}", URL_SAFE_NO_PAD.encode(doubled));
            v.by_its_words(&token, "not a signed JSON Web Token", doubled);
        }
        for header in [json!({"alg": "ES256"}), json!({"alg": "ES256", "kid": ""})] {
            v.by_its_words(&with(&header), "names no key", &header.to_string());
        }
        for crit in [json!(["exp"]), json!([]), json!("b64"), json!(["b64"])] {
            let token = with(&json!({"alg": "ES256", "kid": kid, "crit": crit, "b64": false}));
            v.by_its_words(&token, "(crit)", "crit");
        }
        // A key id is a name among the issuer's keys: no path, no query, no URL, no pattern.
        let long = "k".repeat(9000);
        for name in [
            "../../../../../../dev/null",
            "/etc/passwd",
            "file:///dev/null",
            "' OR '1'='1",
            "'; DROP TABLE issuers; --",
            "*",
            "%",
            "\0",
            "k\r\nx: y",
            "$(id)",
            "{{7*7}}",
            &bait_url,
            &long,
            "constructor",
            "keys/0",
        ] {
            v.stranger(&with(&json!({"alg": "ES256", "kid": name})), name);
        }
        let shouting = kid.as_str().expect("kid").to_uppercase();
        for name in [shouting, format!("{} ", kid.as_str().expect("kid"))] {
            v.stranger(&with(&json!({"alg": "ES256", "kid": name})), &name);
        }
        // The header's own keys and places of keys (RFC 8725 §3.10): nobody goes there.
        for header in [
            json!({"alg": "ES256", "kid": "evil", "jku": bait_url}),
            json!({"alg": "ES256", "kid": kid, "jku": bait_url, "x5u": bait_url}),
            json!({"alg": "ES256", "kid": "evil", "jwk": {"kty": "EC", "crv": "P-256", "kid": "evil",
                "x": "f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU",
                "y": "x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0"}}),
            json!({"alg": "ES256", "kid": "evil", "x5c": ["MIIB"]}),
            json!({"alg": "RS256", "kid": kid}),
            json!({"alg": "PS256", "kid": kid}),
            json!({"alg": "EdDSA", "kid": kid}),
            json!({"alg": "ES384", "kid": kid}),
            json!({"alg": "ES256", "kid": kid, "typ": "JWT", "cty": "JWT"}),
        ] {
            v.stranger(&with(&header), &header.to_string());
        }
        let led = bait.accept();
        assert!(
            led.as_ref()
                .is_err_and(|e| e.kind() == std::io::ErrorKind::WouldBlock),
            "the service went where a token's header led: {led:?}"
        );
    });
    assert_eq!(
        v.exchange(&good).status,
        200,
        "nothing used the good one up"
    );
}

#[test]
fn no_shape_or_signature_makes_a_token_somebodys() {
    let v = Victim::new("att-shape");
    let good = v.platform(&job());
    let parts: Vec<&str> = good.split('.').collect();
    let [header, claims, signature] = parts.as_slice() else {
        panic!("a JWT")
    };
    let bytes = URL_SAFE_NO_PAD.decode(signature).expect("base64url");
    let signed = |bytes: &[u8]| format!("{header}.{claims}.{}", URL_SAFE_NO_PAD.encode(bytes));
    v.untouched(|| {
        let json_form = json!({"payload": claims, "signatures": [{"protected": header, "signature": signature}]});
        for token in [
            format!("{good}."),
            format!(".{good}"),
            format!("{good}.x.y"),
            format!("{header}..{signature}"),
            format!("{header}.{claims}"),
            format!("{header}%3D.{claims}.{signature}"),
            format!("{header}.{claims}.{signature}%3D%3D"),
            format!("{header}.{claims}.{signature}%0A"),
            format!("%20{good}"),
            format!("{header}.%20{claims}.{signature}"),
            format!("Bearer%20{good}"),
            format!("{header}.{claims}.%2B%2F{signature}"),
            json_form.to_string(),
            "..".into(),
            "a.b.c".into(),
            format!("{}.{}.", part(&json!({"alg": "ES256", "kid": "k"})), part(&json!([]))),
            // A nested one, and an encrypted one.
            format!("{header}.{claims}.{header}.{claims}.{signature}"),
        ] {
            v.by_its_words(&token, "not a signed JSON Web Token", &token);
        }
        let zeros = vec![0; bytes.len()];
        let mut flipped = bytes.clone();
        flipped[0] ^= 1;
        let mut longer = bytes.clone();
        longer.push(0);
        // r, s ≥ n, and "psychic" ones of nothing (CVE-2022-21449).
        let ones = vec![0xff; bytes.len()];
        let mut half = bytes.clone();
        half[32..].fill(0);
        for (what, forged) in [
            ("none", Vec::new()),
            ("zeros", zeros),
            ("ones", ones),
            ("s of zero", half),
            ("flipped", flipped),
            ("longer", longer),
            ("cut", bytes[..63].to_vec()),
            ("r alone", bytes[..32].to_vec()),
            ("DER", vec![0x30, 0x06, 0x02, 0x01, 0x01, 0x02, 0x01, 0x01]),
            ("text", WHO_SIGNED.into()),
        ] {
            v.stranger(&signed(&forged), what);
        }
        let plain = STANDARD.encode(b"{\"iss\":\"x\"}???");
        v.by_its_words(&format!("{header}.{plain}.{signature}"), "not a signed", "base64");
    });
    assert_eq!(
        v.exchange(&good).status,
        200,
        "nothing used the good one up"
    );
}

/// ECDSA signatures are malleable: of (r, s) anybody makes (r, n − s), which is as good.
#[test]
fn a_used_token_with_its_signature_mirrored_is_a_used_token() {
    let v = Victim::new("att-mirror");
    // Order of P-256 (FIPS 186-4 D.1.2.3).
    let n: [u8; 32] = [
        0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xbc,
        0xe6, 0xfa, 0xad, 0xa7, 0x17, 0x9e, 0x84, 0xf3, 0xb9, 0xca, 0xc2, 0xfc, 0x63, 0x25, 0x51,
    ];
    let spec = TokenSpec {
        omit: vec!["jti".to_owned()],
        ..job()
    };
    let good = v.platform(&spec);
    let (signed, signature) = good.rsplit_once('.').expect("a JWT");
    let mut bytes = URL_SAFE_NO_PAD.decode(signature).expect("base64url");
    let mut borrow = 0;
    for at in (0..32).rev() {
        let difference = i16::from(n[at]) - i16::from(bytes[32 + at]) - borrow;
        borrow = i16::from(difference < 0);
        bytes[32 + at] = u8::try_from(difference.rem_euclid(256)).expect("a byte");
    }
    let mirrored = format!("{signed}.{}", URL_SAFE_NO_PAD.encode(&bytes));
    assert_ne!(mirrored, good);
    assert_eq!(v.exchange(&good).status, 200);
    v.untouched(|| {
        for again in [&mirrored, &good] {
            let answer = v.exchange(again);
            assert_eq!(
                (answer.status, answer.problem().as_str()),
                (400, "token-replayed"),
                "{answer:?}"
            );
        }
    });
}

#[test]
fn no_claim_makes_a_token_somebodys() {
    let v = Victim::new("att-claimed");
    let iss = v.stack.platform.url().to_owned();
    v.untouched(|| {
        let odd = |name: &str, value: Value| v.platform(&job().claim(name, value));
        // Issuer and audience are compared to the last byte, and after all that a token can say of
        // itself: one answer.
        for value in [
            format!("{iss}/"),
            iss.to_uppercase(),
            iss.replace("localhost", "LOCALHOST"),
            iss.replace("localhost", "localhost."),
            iss.replace("localhost", "127.0.0.1"),
            iss.replace("https", "http"),
            iss.replace("https://", "https://x@"),
            format!("{iss}#"),
            format!(" {iss}"),
            format!("{iss}\0"),
            iss.replace('l', "\u{ff4c}"),
            "https://token.actions.githubusercontent.com".into(),
            v.stack.people.url().into(),
        ] {
            v.stranger(&odd("iss", json!(value)), &value);
        }
        for value in [
            format!("{JOB_AUDIENCE}/"),
            JOB_AUDIENCE.to_uppercase(),
            format!("{JOB_AUDIENCE} "),
            format!("{JOB_AUDIENCE}.evil.example"),
            JOB_AUDIENCE[..JOB_AUDIENCE.len() - 1].to_owned(),
            PEOPLE_AUDIENCE.into(),
            "*".into(),
            String::new(),
        ] {
            v.stranger(&odd("aud", json!(value)), &value);
        }
        // People's tokens at a platform's issuer and the other way round.
        v.stranger(
            &v.platform(&TokenSpec::new("att-claimed-admin", PEOPLE_AUDIENCE).mfa()),
            "kind",
        );
        let person = v.stack.people.mint(&job()).expect("a token");
        v.stranger(&person, "a job at people's issuer");

        let huge: Value = serde_json::from_str("1e308").expect("a number");
        let beyond: Value = serde_json::from_str("18446744073709551616").expect("a number");
        for (name, value) in [
            ("iss", json!([iss])),
            ("iss", json!(null)),
            ("iss", json!("")),
            ("iss", json!("x".repeat(600))),
            ("aud", json!(null)),
            ("aud", json!({"0": JOB_AUDIENCE})),
            ("aud", json!([[JOB_AUDIENCE]])),
            ("sub", json!("")),
            ("sub", json!("x".repeat(2000))),
            ("sub", json!(["x"])),
            ("jti", json!(5)),
            ("jti", json!(["x"])),
            ("exp", huge.clone()),
            ("exp", beyond.clone()),
            ("exp", json!(-1)),
            ("exp", json!("9999999999")),
            ("exp", json!(null)),
            ("exp", json!(true)),
            ("exp", json!([now() + 300])),
            ("exp", json!(253_402_300_800_i64)),
            ("iat", json!(-1)),
            ("iat", json!("0")),
            ("iat", huge),
            ("nbf", beyond),
            ("nbf", json!("0")),
        ] {
            let what = format!("{name}: {value}");
            v.by_its_words(&odd(name, value), "is not what it must be", &what);
        }
        let at = |iat: i64, nbf: i64, exp: i64| {
            v.platform(&job().claim("iat", iat).claim("nbf", nbf).claim("exp", exp))
        };
        let t = now();
        v.by_its_words(&at(t - 400, t - 400, t - 100), "expired", "expired");
        v.by_its_words(&at(t, t, 0), "expired", "of 1970");
        v.by_its_words(&at(t + 3600, t, t + 7200), "(iat)", "from the future");
        v.by_its_words(&at(t, t + 3600, t + 7200), "(nbf)", "not yet");
        // An expiry far off makes an old one no younger, and one without an end ends with our day.
        v.stranger(&at(t - 4000, t - 4000, t + 1_000_000), "too old");
    });
}

/// Tokens of ours and tokens of others are not each other's.
#[test]
fn tokens_are_not_taken_at_the_wrong_door() {
    let v = Victim::new("att-doors");
    let id_token = v.platform(&job());
    v.untouched(|| {
        // A service token as an ID token.
        let answer = v.exchange(&v.token);
        assert_eq!(answer.status, 400, "{answer:?}");
        assert!(
            ["token-refused", "access-denied"].contains(&answer.problem().as_str()),
            "{answer:?}"
        );
        // An ID token as a service token, and service tokens with another end.
        let parts: Vec<&str> = v.token.split('.').collect();
        let forged = [
            id_token.clone(),
            format!("{}.", v.token),
            format!("{}.x", v.token),
            v.token.replace('.', ".."),
            format!("{}=", v.token),
            format!(
                "{}.{}.",
                part(&json!({"alg": "none"})),
                parts.get(1).unwrap_or(&"")
            ),
            format!(
                "{}.{}.{}",
                part(&json!({"alg": "HS256"})),
                parts.get(1).unwrap_or(&""),
                parts.get(2).unwrap_or(&"")
            ),
            v.token.to_uppercase(),
            "null".into(),
            "undefined".into(),
            "e30.e30.e30".into(),
        ];
        for token in &forged {
            let answer = v.raw.get("/v1/whoami", Some(token));
            assert_eq!(
                (answer.status, answer.problem().as_str()),
                (401, "unauthenticated"),
                "{token}"
            );
        }
    });
    assert_eq!(v.exchange(&id_token).status, 200, "it was not used up");
}

#[test]
fn the_form_is_read_in_one_way() {
    let v = Victim::new("att-form");
    let grant = "grant_type=urn%3Aietf%3Aparams%3Aoauth%3Agrant-type%3Atoken-exchange";
    let kind = "subject_token_type=urn%3Aietf%3Aparams%3Aoauth%3Atoken-type%3Aid_token";
    let good = v.platform(&job());
    let whole = format!("{grant}&{kind}&tenant=att-form&subject_token={good}");
    let send = |path: &str, form: &str| {
        v.raw.send(
            "POST",
            path,
            None,
            Some(form.as_bytes()),
            &[("content-type", "application/x-www-form-urlencoded")],
        )
    };
    v.untouched(|| {
        for form in [
            format!("{whole}&tenant=att-other"),
            format!("{whole}&subject_token={good}"),
            format!("{whole}&{grant}"),
            format!("{whole}&actor_token={good}"),
            format!("{whole}&client_assertion=x"),
            format!("{whole}&tenant[]=x"),
            whole.replace("subject_token=", "Subject_Token="),
            whole.replace("&tenant", ";tenant"),
            whole.replace("token-exchange", "client_credentials"),
            whole.replace("token-exchange", "jwt-bearer"),
            whole.replace("id_token", "access_token"),
            whole.replace("id_token", "saml2"),
            whole.replace("tenant=att-form", "tenant=att-f%D0%BErm"),
            whole.replace("tenant=att-form", "tenant=att-form%00"),
            whole.replace("tenant=att-form", "tenant=ATT-FORM"),
            whole.replace("tenant=att-form", "tenant=..%2Fatt-form"),
            whole.replace("tenant=att-form", "tenant=att-form%0D%0A"),
            format!("{whole}&scope=att-other%2Frelease"),
            format!("{whole}&scope=..%2Fx"),
            format!("{whole}&scope=%20"),
            format!("{whole}&requested_token_type=urn%3Aietf%3Aparams%3Aoauth%3Atoken-type%3Arefresh_token"),
            format!("{grant}&{kind}&tenant=att-form"),
            grant.to_owned(),
            String::new(),
            "%".into(),
            "=&=&=".into(),
            "&".repeat(5000),
        ] {
            let answer = send("/v1/token", &form);
            let (status, code, _) = refused(&answer);
            let shown: String = form.chars().rev().take(60).collect::<String>().chars().rev().collect();
            assert_eq!((status, code.as_str()), (400, "token-request"), "…{shown}");
            assert!(answer.json()["error"].is_string(), "{answer:?}");
        }
        // A query is no form (RFC 6749 §3.2: parameters are in the body).
        let answer = send(&format!("/v1/token?{whole}"), "");
        assert_eq!(answer.problem(), "token-request");
        let answer = v.raw.get(&format!("/v1/token?{whole}"), None);
        assert_eq!(answer.problem(), "method-not-allowed");
    });
    assert_eq!(send("/v1/token", &whole).status, 200);
}
