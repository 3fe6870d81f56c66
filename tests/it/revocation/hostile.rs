//! Lists that must not be believed, and servers that must not be waited for: each is refused with its
//! reason, and signing goes on with the last good news.

use super::{PATIENCE, certified, configure, show, sign, stack, until};
use crate::support::lists::{Answer, ListServer, TestCa, micros, revoked};
use crate::support::{REPOSITORY, text};
use countersign_core::Micros;
use countersign_testkit::programs::wait_until;
use countersign_x509::asn1;
use countersign_x509::crl::{CrlBuilder, Reason};
use countersign_x509::oid;

const DAY: i64 = 86_400_000_000;

/// A critical extension of a list.
fn critical(id: &asn1::ObjectIdentifier, body: &[u8]) -> Vec<u8> {
    asn1::sequence(&[
        &asn1::oid(id),
        &asn1::boolean_true(),
        &asn1::octet_string(body),
    ])
}

#[test]
fn what_cannot_be_believed_is_no_news() {
    let stack = stack("max_age = \"1h\"");
    let server = ListServer::start();
    let folder = stack.folder("hostile-ca");
    let ca = TestCa::new(&folder, &server.url("a.crl"));
    let stranger = TestCa::new(&stack.folder("hostile-stranger"), &server.url("a.crl"));
    let good = |number| Answer::List(ca.sign(&ca.list(number)));
    server.set("a.crl", good(10));
    let admin = stack.tenant("hostile");
    let (key, leaf) = certified(&stack, &admin, "hostile/release", &ca, 86_400);
    let (raw, token) = (stack.raw(), stack.service_token("hostile", REPOSITORY));
    let mut number = 20;

    // Each of these says that the certificate is revoked, and none is believed.
    let lie = |change: &dyn Fn(&mut CrlBuilder)| {
        let mut list = ca.list(9999);
        list.revoked = vec![revoked(&leaf, Reason::KeyCompromise)];
        change(&mut list);
        list
    };
    let with =
        |extension: Vec<u8>| Answer::List(ca.sign(&lie(&|l| l.more = vec![extension.clone()])));
    let yes = |n| asn1::sequence(&[&asn1::tlv(asn1::context_primitive(n), &[&[0xff]])]);
    let mut garbled = ca.sign(&lie(&|_| {}));
    let last = garbled.len() - 1;
    garbled[last] ^= 1;
    let mut trailing = ca.sign(&lie(&|_| {}));
    trailing.push(0);
    let cases: Vec<(&str, Answer, &str)> = vec![
        (
            "another key under the same name",
            Answer::List(stranger.sign(&lie(&|_| {}))),
            "is not signed by the issuing CA",
        ),
        (
            "a changed byte",
            Answer::List(garbled),
            "is not signed by the issuing CA",
        ),
        (
            "bytes behind it",
            Answer::List(trailing),
            "not a certificate revocation list",
        ),
        (
            "one that has ended",
            Answer::List(ca.sign(&lie(&|l| {
                l.this_update = Micros(micros() - 9 * DAY);
                l.next_update = Micros(micros() - DAY);
            }))),
            "nextUpdate has passed",
        ),
        (
            "one from the future",
            Answer::List(ca.sign(&lie(&|l| l.this_update = Micros(micros() + DAY)))),
            "thisUpdate lies in the future",
        ),
        (
            "an older number",
            Answer::List(ca.sign(&lie(&|l| l.number = vec![1]))),
            "older than one seen before",
        ),
        (
            "an older time",
            Answer::List(ca.sign(&lie(&|l| l.this_update = Micros(micros() - DAY)))),
            "older than one seen before",
        ),
        (
            "a delta",
            with(critical(&oid::DELTA_CRL_INDICATOR, &asn1::unsigned(&[1]))),
            "delta list",
        ),
        (
            "an indirect one",
            with(critical(&oid::ISSUING_DISTRIBUTION_POINT, &yes(4))),
            "indirect list",
        ),
        (
            "one for CAs",
            with(critical(&oid::ISSUING_DISTRIBUTION_POINT, &yes(2))),
            "for CA certificates only",
        ),
        (
            "an unknown critical extension",
            with(critical(
                &asn1::ObjectIdentifier::new_unwrap("1.2.3.4"),
                &asn1::null(),
            )),
            "unknown critical extension 1.2.3.4",
        ),
        (
            "a page for people",
            Answer::List(b"<html>".to_vec()),
            "not a certificate revocation list",
        ),
        (
            "an empty answer",
            Answer::List(Vec::new()),
            "not a certificate revocation list",
        ),
        ("no such list", Answer::Status(404), "answered 404"),
        ("a broken server", Answer::Status(500), "answered 500"),
        ("no answer", Answer::Nothing, "cannot be reached|broke off"),
        ("a dribble", Answer::Dribble, "took too long"),
        ("no end", Answer::Endless, "larger than|took too long"),
        (
            "a redirect to a file",
            Answer::To("file:///etc/passwd".into()),
            "only http and https",
        ),
        (
            "a redirect inside",
            Answer::To("http://169.254.169.254/latest/meta-data/".into()),
            "private network",
        ),
        (
            "a redirect in a circle",
            Answer::To(server.url("a.crl")),
            "redirects",
        ),
    ];
    for (what, answer, says) in cases {
        server.set("a.crl", answer);
        wait_until(what, PATIENCE, || {
            let problem = show(&admin, &key)["certificate_status"]["problem"].clone();
            let problem = problem.as_str().unwrap_or_default();
            says.split('|').any(|s| problem.contains(s))
        })
        .unwrap_or_else(|e| {
            panic!(
                "{what}: {e}; instead of \"{says}\": {}",
                show(&admin, &key)["certificate_status"]
            )
        });
        assert_eq!(sign(&raw, "hostile/release", &token).status, 200, "{what}");
        assert_eq!(show(&admin, &key)["certificate_status"]["status"], "good");
        number += 1;
        server.set("a.crl", good(number));
        until("good news again", || {
            show(&admin, &key)["certificate_status"]["problem"].is_null()
        });
    }
    // And the truth is believed at once, also behind a redirect.
    let mut list = ca.list(number + 1);
    list.revoked = vec![revoked(&leaf, Reason::KeyCompromise)];
    server.set("b.crl", Answer::List(ca.sign(&list)));
    server.set("a.crl", Answer::To(server.url("b.crl")));
    until("the revocation", || {
        show(&admin, &key)["state"] == "compromised"
    });
    assert_eq!(
        sign(&raw, "hostile/release", &token).problem(),
        "certificate-revoked"
    );
}

#[test]
fn a_list_that_is_kept_elsewhere_is_fetched_there_and_judged_as_ever() {
    let mut stack = stack("");
    let server = ListServer::start();
    // Nobody answers there.
    let ca = TestCa::new(&stack.folder("mirror-ca"), "http://127.0.0.1:1/a.crl");
    let issuer = stack.path("mirror-ca/root.pem");
    std::fs::write(&issuer, ca.root.to_pem()).expect("issuer");
    let admin = stack.tenant("mirror");
    let (key, _) = certified(&stack, &admin, "mirror/release", &ca, 86_400);
    let token = stack.service_token("mirror", REPOSITORY);
    let refused = sign(&stack.raw(), "mirror/release", &token);
    assert_eq!(refused.problem(), "certificate-status-unknown");
    assert!(
        refused.json()["detail"]
            .to_string()
            .contains("cannot be reached"),
        "{refused:?}"
    );
    let shown = admin.ok(&["keys", "show", &key]);
    assert!(shown.says("cannot be reached"), "{shown:?}");
    stack.stop_server();
    server.set("mirrored.crl", Answer::List(ca.sign(&ca.list(1))));
    let (issuer, url) = (text(&issuer), server.url("mirrored.crl"));
    configure(
        &stack,
        &format!("[[revocation.mirror]]\nissuer_file = \"{issuer}\"\nurl = \"{url}\""),
    );
    stack.start_server(&[]);
    let (raw, token) = (stack.raw(), stack.service_token("mirror", REPOSITORY));
    until("news from the mirror", || {
        sign(&raw, "mirror/release", &token).status == 200
    });
}
