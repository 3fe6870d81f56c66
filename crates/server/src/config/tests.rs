//! Each way a configuration can be wrong, with the line and the name in the message.

use super::*;

const GOOD: &str = r#"listen = "127.0.0.1:8443"
origin = "localhost:8443"
data_dir = "data"
sealing_key_file = "sealing.key"
development = true

[tls]
cert_file = "tls/cert.pem"
key_file = "tls/key.pem"

[hsm]
module = "/usr/lib/softhsm/libsofthsm2.so"
profile = "softhsm2.toml"
worker_key_file = "worker.key"

[[cas]]
name = "demo"
url = "https://127.0.0.1:9443"
ca_file = "ca.pem"
takes_software = true
"#;

fn problem(text: &str) -> String {
    Config::parse(Path::new("/etc/countersignd.toml"), text)
        .expect_err("should be refused")
        .to_string()
}

fn replaced(from: &str, to: &str) -> String {
    assert!(GOOD.contains(from), "{from}");
    GOOD.replacen(from, to, 1)
}

#[test]
fn a_good_file_is_read_and_its_paths_start_at_its_folder() {
    let c = Config::parse(Path::new("/etc/cs/countersignd.toml"), GOOD).unwrap();
    assert_eq!(c.data_dir, Path::new("/etc/cs/data"));
    assert_eq!(c.database_file(), Path::new("/etc/cs/data/countersign.db"));
    assert_eq!(c.hsm.module, Path::new("/usr/lib/softhsm/libsofthsm2.so"));
    assert_eq!(
        c.cas[0].ca_file.as_deref(),
        Some(Path::new("/etc/cs/ca.pem"))
    );
    assert_eq!(c.origin_prefix(), "localhost:8443/log");
}

#[test]
fn an_unknown_key_is_refused_by_name_and_line() {
    let text = replaced("development = true", "development = true\nlisten_on = 5");
    let p = problem(&text);
    assert!(p.starts_with("/etc/countersignd.toml, line 6: "), "{p}");
    assert!(p.contains("`listen_on`"), "{p}");
}

#[test]
fn an_unknown_key_in_a_table_is_refused_by_name_and_line() {
    let p = problem(&replaced("[hsm]\n", "[hsm]\npin = \"1234\"\n"));
    assert!(p.contains("line 12: ") && p.contains("`pin`"), "{p}");
}

#[test]
fn an_unknown_key_of_a_ca_is_refused_by_name_and_line() {
    let p = problem(&replaced(
        "name = \"demo\"",
        "name = \"demo\"\ntoken = \"x\"",
    ));
    assert!(p.contains("line 18: ") && p.contains("`token`"), "{p}");
}

#[test]
fn an_unknown_table_is_refused_by_name_and_line() {
    let p = problem(&format!("{GOOD}\n[metrics]\nport = 1\n"));
    assert!(p.contains("line 22: ") && p.contains("`metrics`"), "{p}");
}

#[test]
fn a_missing_key_is_named() {
    let p = problem(&replaced("sealing_key_file = \"sealing.key\"\n", ""));
    assert!(p.contains("`sealing_key_file`"), "{p}");
}

#[test]
fn a_key_of_the_wrong_type_is_refused_with_its_line() {
    let p = problem(&replaced("development = true", "development = \"yes\""));
    assert!(p.contains("line 5: "), "{p}");
}

#[test]
fn an_address_that_is_none_is_refused_with_its_line() {
    let p = problem(&replaced("127.0.0.1:8443", "localhost"));
    assert!(p.contains("line 1: "), "{p}");
}

#[test]
fn a_key_given_twice_is_refused_with_its_line() {
    let p = problem(&replaced(
        "development = true",
        "development = true\nlisten = \"127.0.0.1:1\"",
    ));
    assert!(p.contains("line 6: "), "{p}");
}

#[test]
fn no_toml_at_all_is_refused_with_its_line() {
    let p = problem("listen 5");
    assert!(p.contains("line 1: "), "{p}");
}

#[test]
fn an_origin_with_scheme_or_path_is_refused() {
    for bad in ["https://sign.example", "sign.example/log", "a b", "a+b", ""] {
        let p = problem(&replaced(
            "origin = \"localhost:8443\"",
            &format!("origin = \"{bad}\""),
        ));
        assert!(p.contains("line 2: origin: "), "{p}");
    }
}

#[test]
fn another_database_is_refused() {
    let p = problem(&format!("{GOOD}\n[database]\nurl = \"mysql://x\"\n"));
    assert!(p.contains("line 18: url: "), "{p}");
    assert!(p.contains("sqlite:") && p.contains("postgres:"), "{p}");
}

#[test]
fn a_postgres_url_is_read_and_its_faults_are_named() {
    let with = |keys: &str| format!("{GOOD}\n[database]\n{keys}\n");
    let good = with("url = \"postgres://cs@db.example/countersign\"\npassword_file = \"p\"");
    let c = Config::parse(Path::new("/etc/cs/countersignd.toml"), &good).unwrap();
    assert_eq!(
        c.database.password_file.as_deref(),
        Some(Path::new("/etc/cs/p"))
    );
    assert!(!c.database.single_node);
    for (url, said) in [
        ("postgres://cs:hunter2@db.example/d", "password_file"),
        (
            "postgres://cs@db.example/d?password=hunter2",
            "password_file",
        ),
        ("postgres://db.example/d", "names no user"),
        ("postgres://cs@db.example", "names no database"),
        (
            "postgres://cs@db.example/d?options=-cfsync%3Doff",
            "options",
        ),
        ("postgres://cs@db.example/d?sslmode=perhaps", "ssl_mode"),
    ] {
        let p = problem(&with(&format!("url = \"{url}\"")));
        assert!(p.contains("line 18: url: ") && p.contains(said), "{p}");
        assert!(!p.contains("hunter2"), "{p}");
    }
    for most in [5, 501] {
        let p = problem(&with(&format!("max_connections = {most}")));
        assert!(p.contains("line 23: max_connections: "), "{p}");
    }
    let p = problem(&with("password_file = \"p\""));
    assert!(p.contains("line 23: password_file: "), "{p}");
}

#[test]
fn limits_have_limits() {
    for (key, value) in [
        ("concurrency", 0),
        ("request_timeout_s", 0),
        ("drain_s", 100_000),
    ] {
        let p = problem(&format!("{GOOD}\n[limits]\n{key} = {value}\n"));
        assert!(p.contains(&format!("line 23: {key}: ")), "{p}");
    }
    for (key, value) in [("sessions", 0), ("call_deadline_ms", 1)] {
        let p = problem(&replaced("[hsm]\n", &format!("[hsm]\n{key} = {value}\n")));
        assert!(p.contains(&format!("line 12: {key}: ")), "{p}");
    }
}

#[test]
fn a_production_ca_never_takes_software_keys() {
    let p = problem(&replaced("development = true", "development = false"));
    assert!(p.contains("takes_software: ") && p.contains("demo"), "{p}");
}

#[test]
fn a_trust_anchor_is_read_when_the_configuration_is() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("root.pem");
    let text = format!("{GOOD}\n[attestation]\ntrust_anchors = [\"root.pem\"]\n");
    let config = || Config::parse(&folder.path().join("c.toml"), &text).unwrap();
    assert_eq!(config().attestation.trust_anchors, [file.as_path()]);
    let said = config().attestation.anchors().unwrap_err().to_string();
    assert!(said.contains("root.pem"), "{said}");
    std::fs::write(&file, "no certificate").unwrap();
    let said = config().attestation.anchors().unwrap_err().to_string();
    assert!(said.contains("neither a certificate nor"), "{said}");
    let key = rcgen::KeyPair::generate().unwrap();
    std::fs::write(&file, key.public_key_pem()).unwrap();
    let anchors = config().attestation.anchors().unwrap();
    let for_all = |anchors: &countersign_attestation::Anchors| -> Vec<bool> {
        let extra = anchors.iter().filter(|a| a.is_extra());
        extra.map(|a| a.is_for_all()).collect()
    };
    assert_eq!(for_all(&anchors), [true]);
    let text = text.replace("trust_anchors", "attestation_key_cas");
    let config = Config::parse(&folder.path().join("c.toml"), &text).unwrap();
    assert_eq!(config.attestation.attestation_key_cas, [file.as_path()]);
    let anchors = config.attestation.anchors().unwrap();
    assert_eq!(for_all(&anchors), [false], "for attestation keys alone");
    let p = problem(&format!("{GOOD}\n[attestation]\nanchors = []\n"));
    assert!(p.contains("line 23: ") && p.contains("anchors"), "{p}");
}

#[test]
fn two_cas_of_one_name_are_refused() {
    let p = problem(&format!(
        "{GOOD}\n[[cas]]\nname = \"demo\"\nurl = \"https://x\"\n"
    ));
    assert!(p.contains("name: \"demo\""), "{p}");
}

#[test]
fn an_acme_ca_says_where_its_account_is_and_who_certifies_attestation_keys() {
    let acme = |more: &str| {
        format!(
            "{GOOD}\n[[cas]]\nname = \"step\"\nkind = \"acme\"\nurl = \"https://x/directory\"\n{more}"
        )
    };
    let good = acme("account_file = \"step.json\"\nattestation_ca = \"demo\"\n");
    let c = Config::parse(Path::new("/etc/cs/countersignd.toml"), &good).unwrap();
    assert_eq!(c.cas[1].kind, CaKind::Acme);
    assert_eq!(
        c.cas[1].account_file.as_deref(),
        Some(Path::new("/etc/cs/step.json"))
    );
    for (text, key, wanted) in [
        (acme(""), "account_file", "needs one"),
        (
            acme("account_file = \"a\"\nattestation_ca = \"step\"\n"),
            "attestation_ca",
            "names no CA",
        ),
        (
            acme("account_file = \"a\"\n"),
            "attestation_ca: CA \"step\"",
            "needs one",
        ),
        (
            acme(
                "account_file = \"a\"\nattestation_ca = \"demo\"\nexternal_account_key_id = \"k\"\n",
            ),
            "external_account_key_id",
            "go together",
        ),
        (
            format!(
                "{good}\n[[cas]]\nname = \"other\"\nkind = \"acme\"\nurl = \"https://y/directory\"\n\
                 account_file = \"./step.json\"\nattestation_ca = \"demo\"\n"
            ),
            "account_file: CA \"other\"",
            "another CA has this file",
        ),
        (
            format!("{GOOD}audience = \"x\"\n"),
            "audience",
            "kind = \"acme\"",
        ),
        (
            acme("account_file = \"a\"\n").replace("\"acme\"", "\"est\""),
            "unknown variant",
            "est",
        ),
    ] {
        let p = problem(&text);
        assert!(p.contains(key) && p.contains(wanted), "{p}");
    }
}

#[test]
fn a_log_format_that_does_not_exist_is_refused() {
    let p = problem(&format!("{GOOD}\n[log]\nformat = \"xml\"\n"));
    assert!(p.contains("line 23: ") && p.contains("xml"), "{p}");
}

#[test]
fn a_missing_softhsm_says_what_to_install() {
    let p = module_present(Path::new("/nowhere/libsofthsm2.so"))
        .unwrap_err()
        .to_string();
    assert!(p.contains("apt-get install softhsm2"), "{p}");
    let p = module_present(Path::new("/nowhere/vendor.so"))
        .unwrap_err()
        .to_string();
    assert!(p.contains("vendor's client software"), "{p}");
}
