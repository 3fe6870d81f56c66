//! An order without a connector: a person carries the request to step-ca's counter, which takes its time.

use super::start;
use crate::modules::sign_and_verify_under;
use crate::support::{SUBJECT, Stack, pem_of, text};
use countersign_x509::csr::ParsedCsr;

const AUDIENCE: &str = "step-ca.test";

#[test]
fn an_exported_request_waits_for_a_person_across_a_restart() {
    let mut stack = Stack::bare();
    let roots = pem_of("CERTIFICATE", "MAA=");
    let Some(mut step) = start(&stack, &roots) else {
        return;
    };
    let admin = stack.tenant("counter");
    let key = stack.key(&admin, "counter/release", "ec-p384");
    let other = stack.key(&admin, "counter/other", "ec-p256");
    let export = |key: &str, folder: &str| {
        let out = text(&stack.path(folder));
        let args = [
            "csr",
            "export",
            key,
            "--ca-audience",
            AUDIENCE,
            "--out",
            &out,
        ];
        admin.json(&[&args[..], &SUBJECT].concat());
        let file = stack.path(folder).join("request.csr.pem");
        let pem = std::fs::read_to_string(file).expect("request");
        let der = ParsedCsr::parse_pem(&pem)
            .expect("a request")
            .der()
            .to_vec();
        (pem, der)
    };
    let (pem, der) = export(&key, "counter-request");
    let (other_pem, _) = export(&other, "counter-other");
    let order = || admin.json(&["keys", "show", &key])["orders"][0].clone();
    let placed = order();
    assert_eq!(placed["state"], "exported", "{placed}");

    // Nobody is asked and nothing runs out while it lies there: the service stops, the CA stops.
    stack.stop_server();
    step.restart();
    stack.start_server(&[]);
    assert_eq!(order()["id"], placed["id"]);
    assert_eq!(order()["state"], "exported");

    // The person looked at this request: the token is good for it and for no other, nor for another name.
    let common_name = SUBJECT
        .iter()
        .position(|a| *a == "--common-name")
        .and_then(|at| SUBJECT.get(at + 1))
        .expect("a common name");
    for (csr, name) in [(&other_pem, *common_name), (&pem, "Somebody Else")] {
        let (status, said) = step.sign(csr, &der, name);
        assert_eq!(status, 403, "{said}");
    }
    let (status, said) = step.sign(&pem, &der, common_name);
    assert_eq!(status, 201, "{said}");
    let chain: String = ["crt", "ca"]
        .map(|name| said[name].as_str().expect("PEM").to_owned())
        .concat();
    let file = stack.path("counter-chain.pem");
    std::fs::write(&file, chain).expect("chain");

    // For this key, and not for the other.
    admin.ends(
        3,
        &["certificate", "install", &other, "--chain", &text(&file)],
    );
    admin.ok(&["certificate", "install", &key, "--chain", &text(&file)]);
    assert_eq!(order()["state"], "installed");
    assert_eq!(admin.json(&["keys", "show", &key])["state"], "active");
    stack.grant(&admin, "counter/release", &["cms"]);
    sign_and_verify_under(&stack, "counter", "release.bin", &text(&step.root()));
    stack.stop_server();
}
