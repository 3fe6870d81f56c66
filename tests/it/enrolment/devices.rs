//! One device under two subscribers: told to the operator by name and to the CA as a fact, refused by
//! nobody. The evidence is written for software keys under a test root that the operator trusts.

use super::by_hand::appraise;
use super::evidence::spki;
use super::{export, scene};
use crate::support::cli::Cli;
use crate::support::{PEOPLE_AUDIENCE, Stack, text};
use countersign_testkit::issuer::TokenSpec;
use countersign_testkit_evidence::yubihsm2::YubiHsm2;
use serde_json::Value;

/// Gives a key evidence that names the device of this serial number.
fn put_into(stack: &Stack, admin: &Cli, key: &str, serial: u64) {
    let device = YubiHsm2 {
        serial,
        device_serial: serial,
        ..YubiHsm2::default()
    };
    let mut attestation = device.leaf();
    attestation.spki = spki(admin, key);
    let attestation = attestation.sign(&device.device_key);
    let folder = stack.folder(&format!("device-{serial}-{key}"));
    for (i, file) in [attestation, device.device(), device.ca()]
        .iter()
        .enumerate()
    {
        std::fs::write(folder.join(format!("{i}.der")), file).expect("written");
    }
    let added = admin.json(&["keys", "evidence", "add", key, &text(&folder)]);
    assert_eq!(
        added["result"]["facts"]["serial"]["value"],
        serial.to_string()
    );
}

/// What a CA reads in the statement for a key; and that no word of `others` is in it.
fn stated(stack: &Stack, admin: &Cli, key: &str, others: &[&str]) -> Option<String> {
    let request = stack.path(&format!("request-{}", countersign_core::RequestId::new()));
    export(admin, key, &request, &[]);
    let statement = request.join("statement.der");
    let (_, result) = appraise(stack, &request, &["--statement", &text(&statement)]);
    let bytes = std::fs::read(&statement).expect("the statement");
    let shown = admin.json(&["keys", "evidence", "show", key]).to_string();
    for other in others {
        assert!(!String::from_utf8_lossy(&bytes).contains(other), "{other}");
        assert!(!shown.contains(other), "{other}: {shown}");
    }
    let claims = result["claims"].as_array().expect("claims");
    let mut values = claims
        .iter()
        .filter(|c| c["name"] == "device-under-other-subscribers");
    let value = values
        .next()
        .map(|c| c["value"].as_str().expect("text").to_owned());
    assert!(values.next().is_none(), "{result}");
    value
}

/// The operator's list: device, tenant and key of all keys of these tenants.
fn listed(stack: &Stack, tenants: &[&str]) -> Vec<(String, String, String)> {
    let rows = stack.operator().json(&["admin", "devices"]);
    let rows = rows.as_array().expect("rows").iter();
    let word = |row: &Value, member: &str| row[member].as_str().expect(member).to_owned();
    rows.map(|r| (word(r, "device"), word(r, "tenant"), word(r, "key")))
        .filter(|(_, tenant, _)| tenants.contains(&tenant.as_str()))
        .collect()
}

#[test]
fn a_device_under_two_subscribers_is_told_to_operator_and_ca_and_names_nobody_else() {
    let stack = &scene().stack;
    let names = ["enrol-device-a", "enrol-device-b"];
    let [a, b] = names.map(|n| stack.tenant(n));
    let key = |admin: &Cli, name: &str| stack.key(admin, name, "ec-p256");
    let first = key(&a, "enrol-device-a/first");
    let second = key(&a, "enrol-device-a/second");
    let theirs = key(&b, "enrol-device-b/theirs");
    assert_eq!(
        stated(stack, &a, &first, &names[1..]),
        None,
        "no evidence, no device"
    );

    // One subscriber's device: with two keys, and handed in twice.
    put_into(stack, &a, &first, 770_001);
    put_into(stack, &a, &second, 770_001);
    put_into(stack, &a, &second, 770_001);
    put_into(stack, &b, &theirs, 770_002);
    let said = |admin: &Cli, key: &str, other| stated(stack, admin, key, &[other]);
    assert_eq!(said(&a, &first, names[1]).as_deref(), Some("false"));
    assert_eq!(said(&b, &theirs, names[0]).as_deref(), Some("false"));
    assert_eq!(listed(stack, &names), []);
    let warned = |key: &str| {
        let log = stack.server_log();
        log.lines()
            .any(|l| l.contains("known under other subscribers") && l.contains(key))
    };
    assert!(!warned(&first) && !warned(&second) && !warned(&theirs));

    // The other one's key in it as well: taken, and told.
    put_into(stack, &b, &theirs, 770_001);
    for (admin, key, other) in [
        (&a, &first, names[1]),
        (&a, &second, names[1]),
        (&b, &theirs, names[0]),
    ] {
        assert_eq!(said(admin, key, other).as_deref(), Some("true"));
    }
    let rows = listed(stack, &names);
    let found: Vec<_> = rows
        .iter()
        .map(|(_, tenant, key)| (tenant.as_str(), key.as_str()))
        .collect();
    let expected = [
        (names[0], first.as_str()),
        (names[1], theirs.as_str()),
        // The first of each subscriber comes first.
        (names[0], second.as_str()),
    ];
    assert_eq!(found, expected);
    let device = &rows[0].0;
    assert!(rows.iter().all(|(d, ..)| d == device), "{rows:?}");
    assert_eq!(device.len(), 64, "{device}");
    assert!(warned(&theirs));
    // Handed in again, by either: told once.
    put_into(stack, &b, &theirs, 770_001);
    put_into(stack, &a, &first, 770_001);
    let log = stack.server_log();
    let told = log
        .lines()
        .filter(|l| l.contains("known under other subscribers") && l.contains(device.as_str()));
    assert_eq!(told.count(), 1);
    assert!(!warned(&first));
    // Nobody's serial number is in the list, nor in the service's log.
    for text in [format!("{rows:?}"), stack.server_log()] {
        assert!(!text.contains("770001") && !text.contains("770_001"));
    }

    // Whoever is no operator gets no list, and the list says what is wrong with a question.
    let raw = stack.raw();
    let ask = |path: &str, token: &str| raw.get(path, Some(token));
    let token = |who: &str, tenant: Option<&str>| {
        let spec = TokenSpec::new(who, PEOPLE_AUDIENCE).mfa();
        let id = stack.people.mint(&spec).expect("a token");
        let answer = raw.exchange(tenant, &id).json();
        answer["access_token"].as_str().expect("a token").to_owned()
    };
    let admin = token("enrol-device-a-admin", Some(names[0]));
    assert_eq!(ask("/v1/devices", &admin).problem(), "not-found");
    assert_eq!(ask("/v1/devices?after=x", &admin).problem(), "not-found");
    let operator = token("olga", None);
    let pages = |after: &str| ask(&format!("/v1/devices?after={after}"), &operator);
    let wrong = pages("x");
    assert_eq!((wrong.status, wrong.problem()), (400, "bad-request".into()));
    assert_eq!(wrong.json()["field"], "after");
    assert!(pages(&"0".repeat(64)).json().to_string().contains(device));
    assert!(!pages(device).json().to_string().contains(device));
}
