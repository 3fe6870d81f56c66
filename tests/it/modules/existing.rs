//! `[[token]]` with SoftHSM: one token for several tenants, one for one, and what check-config says.

use super::{audit, configure, secret, sign_and_verify, tokens, wait_for, without_tokens};
use crate::support::{Stack, program, text};
use countersign_testkit::softhsm;
use std::path::{Path, PathBuf};
use std::process::Command;

/// An operator's SoftHSM with a token, its PIN file and what names it.
pub struct Hsm {
    dir: PathBuf,
}

impl Hsm {
    pub fn new(stack: &Stack) -> Self {
        let dir = stack.folder("operator");
        std::fs::create_dir(dir.join("tokens")).expect("tokens");
        std::fs::write(
            dir.join("softhsm2.conf"),
            format!("directories.tokendir = {}/tokens\n", dir.display()),
        )
        .expect("softhsm2.conf");
        secret(&dir.join("pin"), "operators-pin\n");
        Self { dir }
    }

    pub fn token(&self, label: &str) {
        let out = Command::new("softhsm2-util")
            .args(["--init-token", "--free", "--label", label])
            .args(["--so-pin", "so-pin-5678", "--pin", "operators-pin"])
            .env("SOFTHSM2_CONF", self.dir.join("softhsm2.conf"))
            .output()
            .expect("softhsm2-util runs");
        assert!(out.status.success(), "{out:?}");
    }

    pub fn section(&self, label: &str, tenants: &str) -> String {
        let (dir, module) = (text(&self.dir), text(&softhsm::module().expect("SoftHSM")));
        format!(
            "[[token]]\nlabel = \"{label}\"\nmodule = \"{module}\"\nprofile = \"softhsm2\"\n\
             pin_file = \"{dir}/pin\"\ntenants = {tenants}\nfiles = [\"{dir}\"]\n\
             environment = {{ SOFTHSM2_CONF = \"{dir}/softhsm2.conf\" }}\n\n"
        )
    }
}

#[test]
fn tenants_have_their_keys_in_the_operators_tokens() {
    let mut stack = Stack::bare();
    let hsm = Hsm::new(&stack);
    hsm.token("shared");
    hsm.token("alone");
    let sections =
        hsm.section("shared", "[\"one\", \"two\"]") + &hsm.section("alone", "[\"three\"]");
    configure(&stack, &sections);
    stack.start_ca(&[]);
    wait_for(&stack, "up", 2);
    let mut keys = Vec::new();
    for (tenant, isolation) in [
        ("one", "shared-token"),
        ("two", "shared-token"),
        ("three", "exclusive-token"),
        ("four", "exclusive-token"),
    ] {
        let admin = stack.tenant(tenant);
        let key = stack.signer(&admin, &format!("{tenant}/release"), "ec-p256");
        sign_and_verify(&stack, tenant, "a.bin");
        // What a subscriber sees of it.
        let shown = admin.json(&["keys", "show", &key]);
        let facts = &shown["facts"];
        assert_eq!(facts["isolation"], isolation, "{shown}");
        assert_eq!(facts["profile"], "softhsm2");
        assert_eq!(facts["software"], true);
        assert!(
            facts["manufacturer"]
                .as_str()
                .is_some_and(|m| m.contains("SoftHSM"))
        );
        audit(&stack, &admin, tenant, &key);
        keys.push((admin, tenant, key));
    }
    // Two of the operator's, one made for the tenant that nobody named.
    assert_eq!(tokens(&stack, "up"), 3);
    let made = std::fs::read_dir(stack.path("service/data/tokens"))
        .expect("tokens")
        .filter(|e| e.as_ref().is_ok_and(|e| e.path().is_dir()))
        .count();
    assert_eq!(made, 3);

    stack.stop_server();
    stack.start_server(&[]);
    for (admin, tenant, key) in &keys {
        sign_and_verify(&stack, tenant, "b.bin");
        audit(&stack, admin, tenant, key);
    }

    // Who has keys in a token of its own is not moved by a line in a file.
    stack.stop_server();
    let text = std::fs::read_to_string(stack.config()).expect("configuration");
    let moved = text.replace("tenants = [\"three\"]", "tenants = [\"three\", \"four\"]");
    assert_ne!(moved, text);
    std::fs::write(stack.config(), moved).expect("configuration");
    assert!(!stack.try_start_server(&[]));
    assert!(
        stack
            .server_log()
            .contains("tenant `four` is named for token `alone`"),
        "{}",
        stack.server_log()
    );
}

#[test]
fn a_wrong_section_is_named_by_its_line() {
    let stack = Stack::bare();
    let hsm = Hsm::new(&stack);
    let plain = std::fs::read_to_string(stack.config()).expect("configuration");
    let check = |section: &str| -> (bool, String, usize) {
        let text = format!("{}\n{section}", without_tokens(&plain));
        let first = text
            .lines()
            .position(|l| l == "[[token]]")
            .expect("section")
            + 1;
        std::fs::write(stack.config(), text).expect("configuration");
        let out = check_config(&stack.config());
        (
            out.status.success(),
            String::from_utf8_lossy(&out.stdout).into_owned()
                + &String::from_utf8_lossy(&out.stderr),
            first,
        )
    };
    let good = hsm.section("codesign", "[\"acme\"]");
    let (accepted, said, _) = check(&good);
    assert!(accepted, "{said}");
    for (from, to, line, says) in [
        ("\"softhsm2\"", "\"softhsm3\"", 3, "\"softhsm3\" is none of"),
        ("[\"acme\"]", "[]", 5, "tenants: at least one"),
        ("[\"acme\"]", "[\"acme\", \"acme\"]", 5, "already"),
        ("[\"acme\"]", "[\"No Name\"]", 5, "\"No Name\""),
        ("SOFTHSM2_CONF =", "LD_PRELOAD =", 7, "\"LD_PRELOAD\""),
        ("tenants =", "tenant =", 5, "tenant"),
    ] {
        let (accepted, said, first) = check(&good.replace(from, to));
        assert!(!accepted, "{to}");
        assert!(said.contains(says), "{to}: {said}");
        let expected = format!("line {}", first + line);
        assert!(said.contains(&expected), "{to}: {expected} in {said}");
    }
    // The second of two with one name.
    let (accepted, said, _) = check(&(good.clone() + &hsm.section("codesign", "[\"other\"]")));
    assert!(
        !accepted && said.contains("stands for two tokens"),
        "{said}"
    );
    // Files that it names.
    secret(&hsm.dir.join("pin"), "1");
    let open = std::os::unix::fs::PermissionsExt::from_mode(0o644);
    std::fs::set_permissions(hsm.dir.join("pin"), open).expect("mode");
    let (accepted, said, _) = check(&good);
    assert!(!accepted && said.contains("chmod 600"), "{said}");
}

fn check_config(config: &Path) -> std::process::Output {
    Command::new(program("countersignd"))
        .args(["check-config", "--config"])
        .arg(config)
        .output()
        .expect("countersignd runs")
}
