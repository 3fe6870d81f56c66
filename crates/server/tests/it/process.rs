//! Starting, not starting, and stopping.

use crate::deployment::{Deployment, countersignd, text};
use std::io::Read as _;
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt as _;
use std::time::{Duration, Instant};

#[test]
fn sigterm_drains_and_ends_with_zero_even_with_an_idle_connection() {
    let d = Deployment::new();
    let mut server = d.serve();
    let address = server.program.text("listen").to_owned();
    let mut idle = TcpStream::connect(address).unwrap();
    assert_eq!(server.get("/healthz", None).status, 200);
    let began = Instant::now();
    server.terminate();
    assert_eq!(server.program.child().wait().unwrap().code(), Some(0));
    assert!(began.elapsed() < Duration::from_secs(35));
    idle.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    assert_eq!(idle.read(&mut [0; 8]).unwrap_or(0), 0);
    let log = crate::deployment::read(&d.path("log"));
    assert!(log.contains("draining") && log.contains("stopped"), "{log}");
}

#[test]
fn a_taken_port_is_said_clearly() {
    let (one, two) = (Deployment::new(), Deployment::new());
    let server = one.serve();
    two.edit("127.0.0.1:0", server.program.text("listen"));
    let out = two.command("serve").output().unwrap();
    assert_eq!(out.status.code(), Some(5));
    assert!(
        text(&out).contains("cannot listen on")
            && text(&out).contains("stop it, or change `listen`")
    );
    assert!(out.stdout.is_empty());
}

#[test]
fn one_database_has_one_server() {
    let d = Deployment::new();
    let _server = d.serve();
    let out = d.command("serve").output().unwrap();
    assert_eq!(out.status.code(), Some(5));
    assert!(
        text(&out).contains("in use by another countersignd"),
        "{}",
        text(&out)
    );
}

#[test]
fn a_lost_database_is_never_made_anew_silently() {
    let d = Deployment::new();
    std::fs::remove_file(d.path("data/countersign.db")).unwrap();
    let out = d.command("serve").output().unwrap();
    assert_eq!(out.status.code(), Some(5));
    assert!(text(&out).contains("does not exist"), "{}", text(&out));
    assert!(!d.path("data/countersign.db").exists());
}

#[test]
fn another_sealing_key_is_found_out() {
    let d = Deployment::new();
    let mut server = d.serve();
    server.terminate();
    server.program.child().wait().unwrap();
    std::fs::write(d.path("sealing.key"), [7; 32]).unwrap();
    let out = d.command("serve").output().unwrap();
    assert_eq!(out.status.code(), Some(70));
    assert!(text(&out).contains("sealing_key_file"), "{}", text(&out));
}

/// What is wrong, how it comes about, what is said.
type Case = (&'static str, fn(&Deployment), &'static str);

#[test]
fn each_bad_configuration_is_refused_with_its_reason() {
    let cases: [Case; 7] = [
        (
            "unknown key",
            |d| d.edit("development = true", "developement = true"),
            "line 14: unknown field `developement`",
        ),
        (
            "open secret",
            |d| mode(d, "sealing.key", 0o644),
            "chmod 600",
        ),
        (
            "open TLS key",
            |d| mode(d, "tls/key.pem", 0o640),
            "chmod 600",
        ),
        (
            "open worker key",
            |d| mode(d, "worker.key", 0o604),
            "chmod 600",
        ),
        (
            "no module",
            |d| d.edit("libsofthsm2.so", "nowhere/libsofthsm2.so"),
            "apt-get install softhsm2",
        ),
        (
            "no certificate",
            |d| std::fs::write(d.path("tls/cert.pem"), "x").unwrap(),
            "holds no certificate",
        ),
        (
            "no worker",
            |d| d.edit("/bin/true", "/nowhere/worker"),
            "worker program /nowhere/worker is missing",
        ),
    ];
    for (name, spoil, reason) in cases {
        let d = Deployment::new();
        assert!(
            d.command("check-config").output().unwrap().status.success(),
            "{name}"
        );
        spoil(&d);
        for command in ["check-config", "serve"] {
            let out = d.command(command).output().unwrap();
            assert_eq!(out.status.code(), Some(64), "{name}: {}", text(&out));
            assert!(text(&out).contains(reason), "{name}: {}", text(&out));
        }
    }
}

#[test]
fn usage_errors_end_with_64_and_help_with_0() {
    assert_eq!(
        countersignd().arg("dance").output().unwrap().status.code(),
        Some(64)
    );
    assert_eq!(countersignd().output().unwrap().status.code(), Some(64));
    let help = countersignd().arg("--help").output().unwrap();
    assert_eq!(help.status.code(), Some(0));
    assert!(String::from_utf8_lossy(&help.stdout).contains("Examples:"));
}

fn mode(d: &Deployment, name: &str, mode: u32) {
    std::fs::set_permissions(d.path(name), std::fs::Permissions::from_mode(mode)).unwrap();
}
