//! Exit codes and help, as scripts and people meet them.
#![allow(clippy::unwrap_used, clippy::panic)]

use clap::CommandFactory as _;
use countersign_cli::args::Cli;
use countersign_cli::exit::Exit;

fn run(args: &[&str]) -> Exit {
    let home = countersign_testkit::tempdir().unwrap();
    let home = home.path().to_string_lossy().into_owned();
    let all = ["countersign", "--config", &home]
        .into_iter()
        .chain(args.iter().copied());
    countersign_cli::run(all)
}

#[test]
fn the_command_line_is_sound() {
    Cli::command().debug_assert();
}

/// Every command that does something shows how to use it.
#[test]
fn every_command_has_help_and_an_example() {
    fn walk(command: &clap::Command, path: &str, seen: &mut u32) {
        let path = format!("{path}{} ", command.get_name());
        assert!(command.get_about().is_some(), "{path} has no description");
        let mut below = command.get_subcommands().peekable();
        if below.peek().is_none() {
            let help = command
                .get_after_help()
                .map(ToString::to_string)
                .unwrap_or_default();
            let line = path.trim_end();
            assert!(
                help.contains(line),
                "{line}: the help shows no example of it: {help}"
            );
            *seen += 1;
        }
        for sub in below {
            walk(sub, &path, seen);
        }
    }
    let mut seen = 0;
    walk(&Cli::command(), "", &mut seen);
    assert!(seen > 35, "only {seen} commands");
}

#[test]
fn help_is_not_an_error_and_wrong_usage_is_64() {
    assert_eq!(run(&["--help"]), Exit::Done);
    assert_eq!(run(&["sign", "--help"]), Exit::Done);
    assert_eq!(run(&["--version"]), Exit::Done);
    assert_eq!(run(&["frobnicate"]), Exit::Usage);
    assert_eq!(run(&["sign"]), Exit::Usage);
    assert_eq!(run(&["keys", "show", "not-a-uuid"]), Exit::Usage);
    assert_eq!(run(&["signers", "create", "Acme/Release"]), Exit::Usage);
    // No server, no tenant, plain http.
    assert_eq!(run(&["service", "keys"]), Exit::Usage);
    assert_eq!(
        run(&["signers", "list", "--server", "https://localhost:1"]),
        Exit::Usage
    );
    assert_eq!(
        run(&["service", "keys", "--server", "http://localhost:1"]),
        Exit::Usage
    );
    // A wrong name is told before any question of a service or a login.
    assert_eq!(
        run(&["sign", "--signer", "acme/release", "/nowhere.exe"]),
        Exit::Absent
    );
    // What cannot be taken back wants a yes.
    let key = "01900000-0000-7000-8000-000000000001";
    let destroy = ["keys", "destroy", key, "--reason", "x", "--tenant", "acme"];
    assert_eq!(run(&destroy), Exit::Usage);
}

#[test]
fn a_bad_grant_is_told_without_a_service() {
    let grant = |claim: &str| {
        run(&[
            "grants",
            "add",
            "acme/release",
            "--issuer",
            "https://token.actions.githubusercontent.com",
            "--claim",
            claim,
            "--content",
            "authenticode",
        ])
    };
    assert_eq!(grant("repository=acme/app"), Exit::Usage);
    assert_eq!(grant("repository_id"), Exit::Usage);
}

#[test]
fn nobody_there_is_5_and_nobody_logged_in_is_3() {
    // Port 9 of localhost: nobody listens, and nobody is asked without a session.
    let server = "https://localhost:9";
    assert_eq!(
        run(&["service", "keys", "--server", server]),
        Exit::Unavailable
    );
    assert_eq!(
        run(&["keys", "list", "--tenant", "acme", "--server", server]),
        Exit::Refused
    );
}

#[test]
fn what_is_not_there_is_4() {
    assert_eq!(run(&["log", "audit", "/nonexistent"]), Exit::Absent);
    assert_eq!(
        run(&["receipt", "verify", "/nonexistent", "/nonexistent"]),
        Exit::Absent
    );
}
