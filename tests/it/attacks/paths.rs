//! Paths: what is not spelled as the router has it is nothing, and no spelling leads round a check.

use super::{Victim, problem};

/// Not a path of ours, or the path of nothing: one answer.
fn nothing(v: &Victim, path: &str, headers: &[&str]) {
    let answer = v.send("GET", path, headers, b"");
    assert_eq!(problem(&answer), (404, "not-found".into()), "{path}");
}

#[test]
fn a_path_in_another_spelling_is_nothing() {
    let v = Victim::new("att-paths");
    v.untouched(|| {
        let bearer = v.bearer();
        let own = "/v1/tenants/att-paths/signers";
        assert_eq!(v.ask("GET", own, &[], b"").status, 200);
        for path in [
            "/v1/tenants/att-paths/signers/",
            "//v1/tenants/att-paths/signers",
            "/v1//tenants/att-paths/signers",
            "/v1/tenants//att-paths/signers",
            "/v1/tenants/att-paths//signers",
            "/./v1/tenants/att-paths/signers",
            "/v1/./tenants/att-paths/signers",
            "/v1/tenants/other/../att-paths/signers",
            "/v1/tenants/other/%2e%2e/att-paths/signers",
            "/v1/tenants/other/%2E%2E/att-paths/signers",
            "/v1/tenants/other/..%2fatt-paths/signers",
            "/v1/tenants/att-paths/x/..;/signers",
            "/v1/tenants/att-paths%2fsigners",
            "/v1/tenants%2Fatt-paths%2Fsigners",
            "/v1/tenants/att-paths%252fsigners",
            "/v1/tenants/%252e%252e/att-paths/signers",
            "/v1/tenants/att-paths%5csigners",
            "/V1/tenants/att-paths/signers",
            "/v1/Tenants/att-paths/signers",
            "/v1/tenants/ATT-PATHS/signers",
            "/v1/tenants/att-paths/SIGNERS",
            "/v1/tenants/att-paths%00/signers",
            "/v1/tenants/att-paths%20/signers",
            "/v1/tenants/att-paths./signers",
            "/v1/tenants/att-paths;v=1/signers",
            "/v1/tenants/att-paths/signers;v=1",
            "/v1/tenants/att-paths/signers.json",
            "/v1/tenants/att-paths/signers%3f",
            "/v1/tenants/att-paths/signers%23",
            "/v1/tenants/att-paths%0d%0ax-injected:%201/signers",
            // Overlong, cut, and no UTF-8 at all.
            "/v1/tenants/att-paths%c0%afsigners",
            "/v1/tenants/%ff/signers",
            "/v1/tenants/%e2%82/signers",
            "/v1/tenants/att-paths%zz/signers",
            // Homoglyph: Cyrillic а; and fullwidth.
            "/v1/tenants/%d0%b0tt-paths/signers",
            "/v1/tenants/%ef%bd%81tt-paths/signers",
        ] {
            nothing(&v, path, &[&bearer]);
        }
        // An escaped letter is that letter (RFC 3986 §6.2.2.2), and it is judged after it was read.
        let escaped = "/v1/tenants/%61tt-paths/signers";
        assert_eq!(v.ask("GET", escaped, &[], b"").status, 200);
        assert_eq!(
            problem(&v.send("GET", escaped, &[], b"")),
            (401, "no-token".into())
        );
        // A long one is a path like another; one without end is not read.
        let long = format!("/v1/tenants/{}/signers", "a".repeat(20_000));
        nothing(&v, &long, &[&bearer]);
        let answer = v.ask("GET", &format!("/{}", "a".repeat(70_000)), &[], b"");
        assert!([414, 431].contains(&answer.status), "{answer:?}");
    });
}

/// What needs no token is no way to what needs one.
#[test]
fn no_public_path_leads_past_the_door() {
    let v = Victim::new("att-public");
    v.untouched(|| {
        for public in [
            "/v1/token",
            "/v1/bootstrap",
            "/v1/service/keys",
            "/healthz",
            "/readyz",
            "/openapi.json",
        ] {
            for trick in [
                "/../v1/tenants/att-public/signers",
                "/..;/v1/tenants/att-public/signers",
                "/%2e%2e/v1/tenants/att-public/signers",
                "%2f..%2fv1%2ftenants%2fatt-public%2fsigners",
                "/",
                "//",
                "/x",
            ] {
                nothing(&v, &format!("{public}{trick}"), &[]);
            }
        }
        for hidden in [
            "/v1/tenants/att-public/signers?/v1/token",
            "/v1/tenants/att-public/signers?x=/healthz",
            "/v1/tenants/att-public/signers?access_token=x",
        ] {
            let answer = v.send("GET", hidden, &[], b"");
            assert_eq!(problem(&answer), (401, "no-token".into()), "{hidden}");
        }
        // RFC 6750 §2.3: a token in the query is not taken, or it would stand in proxies' logs.
        let query = format!(
            "/v1/tenants/att-public/signers?access_token={}&bearer={}",
            v.token, v.token
        );
        let answer = v.send("GET", &query, &[], b"");
        assert_eq!(problem(&answer), (401, "no-token".into()));
    });
}

#[test]
fn no_path_leads_from_one_tenant_into_another() {
    let v = Victim::new("att-next");
    let attacker = Victim::new("att-from");
    let log = v.raw.get("/v1/tenants/att-next", Some(&v.token)).json();
    let theirs = log["id"].as_str().expect("the tenant's id").to_owned();
    let own = attacker
        .raw
        .get("/v1/tenants/att-from", Some(&attacker.token))
        .json();
    let own = own["id"].as_str().expect("the tenant's id").to_owned();
    let control = format!("/v1/tenants/att-from/logs/{own}/checkpoint");
    assert_eq!(attacker.ask("GET", &control, &[], b"").status, 200);
    v.untouched(|| {
        let bearer = attacker.bearer();
        for path in [
            "/v1/tenants/att-next/signers".to_owned(),
            "/v1/tenants/att-from/../att-next/signers".into(),
            "/v1/tenants/att-from%2f..%2fatt-next/signers".into(),
            "/v1/tenants/att-from/signers/..%2f..%2fatt-next%2fsigners%2fdoor".into(),
            "/v1/tenants/att-from/signers/att-next%2fdoor".into(),
            "/v1/tenants/att-from,att-next/signers".into(),
            "/v1/tenants/att-next%00att-from/signers".into(),
            format!("/v1/tenants/att-from/logs/{theirs}/checkpoint"),
            format!("/log/{theirs}/checkpoint"),
            format!("/log/{own}/../{theirs}/checkpoint"),
            format!("/log/{own}/tile/../../{theirs}/checkpoint"),
            format!("/log/{own}/tile/..%2f..%2f{theirs}%2fcheckpoint"),
            format!("/log/{own}/tile/0/../../checkpoint"),
            format!("/log/{own}/tile/0/%2e%2e/%2e%2e/checkpoint"),
            format!("/log/{own}/tile//0/000"),
            format!("/log/{own}/tile/0/000.p/0"),
            format!("/log/{own}/tile/0/000.p/999"),
            format!("/log/{own}/tile/0/-1"),
            format!("/log/{own}/tile/0/x18446744073709551615/000"),
            format!("/log/{own}/tile/99999999999999999999/000"),
            format!("/log/{own}/tile/entries/../checkpoint"),
        ] {
            nothing(&v, &path, &[&bearer]);
        }
    });
}

/// RFC 9112 §3.2: the other forms of a request's target.
#[test]
fn other_forms_of_a_target_name_no_other_place() {
    let v = Victim::new("att-target");
    v.untouched(|| {
        let bearer = v.bearer();
        // Absolute form: as a proxy is asked. Its host is nobody's business here.
        let absolute = "https://evil.example/v1/tenants/att-target/signers";
        let answer = v.ask("GET", absolute, &[], b"");
        assert_eq!(answer.status, 200, "{answer:?}");
        assert!(!answer.text().contains("evil"), "{answer:?}");
        nothing(&v, "https://evil.example/", &[&bearer]);
        // Asterisk form, and a tunnel.
        let answer = v.ask("OPTIONS", "*", &[], b"");
        assert_eq!(problem(&answer), (404, "not-found".into()));
        let answer = v.ask("CONNECT", "127.0.0.1:5432", &[], b"");
        assert!((400..500).contains(&answer.status), "{answer:?}");
        // Not a target at all: the library refuses it before we are asked.
        for bad in ["v1/whoami", "/v1/who ami", "/v1/who\u{7f}ami", ""] {
            let answer = v.ask("GET", bad, &[], b"");
            assert!([400, 404].contains(&answer.status), "{bad:?}: {answer:?}");
        }
    });
}
