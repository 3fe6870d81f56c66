//! On the machine: token folders, modes of files, what the logs of the processes show.

use crate::support::{REPOSITORY, Stack, copy_exe, job_spec, text};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use countersign_core::RequestId;
use serde_json::Value;
use std::collections::BTreeSet;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

/// All files and folders below.
fn walk(dir: &Path, out: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(dir).expect("folder") {
        let path = entry.expect("entry").path();
        if path.is_dir() && !path.is_symlink() {
            walk(&path, out);
        }
        out.push(path);
    }
}

#[test]
fn the_machine_shows_no_tenant_to_another_and_no_secret_to_its_logs() {
    let mut stack = Stack::start();
    // Everything our own code would ever say.
    let config = stack.config();
    let configured = std::fs::read_to_string(&config).expect("configuration");
    let ours = [
        "api",
        "signing",
        "hsm",
        "hsm_worker",
        "store",
        "ca",
        "server",
        "core",
    ];
    let ours = ours.map(|c| format!("countersign_{c}=trace")).join(",");
    let talkative = configured.replacen("\"info\"", &format!("\"debug,{ours}\""), 1);
    assert_ne!(talkative, configured);
    std::fs::write(&config, talkative).expect("configuration");
    stack.stop_server();
    stack.start_server(&[]);

    let acme = stack.tenant("acme");
    let globex = stack.tenant("globex");
    let key = stack.signer(&acme, "acme/release", "ec-p256");
    stack.signer(&globex, "globex/release", "ec-p256");
    let folder = stack.folder("work");
    let exe = copy_exe(&folder, "app.exe", "t64.exe");
    let id_token = stack.job_token(REPOSITORY);
    let job = stack.cli("job").env("COUNTERSIGN_ID_TOKEN", &id_token);
    let signed = job.json(&[
        "sign",
        "--signer",
        "acme/release",
        "--timestamp",
        stack.tsa.url(),
        &text(&exe),
    ]);
    let refused_token = stack.platform.mint(&job_spec("666")).expect("a token");
    let thief = stack
        .cli("thief")
        .env("COUNTERSIGN_ID_TOKEN", &refused_token);
    thief.ends(3, &["sign", "--signer", "acme/release", &text(&exe)]);
    acme.ends(
        4,
        &[
            "keys",
            "show",
            "--tenant",
            "acme",
            &RequestId::new().to_string(),
        ],
    );

    // Each worker's configuration leads to one token, its own.
    let tokens = stack.path("service/data/tokens");
    let mut labels = BTreeSet::new();
    for dir in std::fs::read_dir(&tokens).expect("token folders") {
        let dir = dir.expect("entry").path();
        if !dir.is_dir() {
            continue;
        }
        let conf = dir.join("softhsm2.conf");
        let out = Command::new("softhsm2-util")
            .arg("--show-slots")
            .env("SOFTHSM2_CONF", &conf)
            .output()
            .expect("softhsm2-util runs");
        assert!(out.status.success(), "{out:?}");
        let said = String::from_utf8_lossy(&out.stdout).into_owned();
        let seen: Vec<_> = said
            .lines()
            .filter_map(|l| l.trim().strip_prefix("Label:"))
            .map(|l| l.trim().to_owned())
            .filter(|l| !l.is_empty())
            .collect();
        assert_eq!(seen.len(), 1, "{said}");
        let tokens_in = std::fs::read_to_string(&conf).expect("conf");
        assert!(
            tokens_in.contains(&text(&dir.join("tokens"))),
            "{tokens_in}"
        );
        assert!(labels.insert(seen[0].clone()), "two folders show one token");
    }
    assert_eq!(labels.len(), 2, "{labels:?}");

    // Folders are entered and files read by their owner alone.
    let service = stack.path("service");
    let mut paths = vec![service.clone()];
    walk(&service, &mut paths);
    let public = ["tls/cert.pem", "softhsm2-profile.toml"].map(|p| service.join(p));
    let mut open = Vec::new();
    for path in paths {
        // Sockets and journals come and go.
        let Ok(meta) = std::fs::symlink_metadata(&path) else {
            continue;
        };
        let wanted = if meta.is_dir() { 0o700 } else { 0o600 };
        let mode = meta.permissions().mode() & 0o777;
        if mode & !wanted != 0 && !public.contains(&path) {
            open.push(format!("{} {mode:o}", path.display()));
        }
    }
    assert!(open.is_empty(), "readable by others: {open:#?}");

    // What must never be logged.
    let mut secrets: Vec<(String, String)> = Vec::new();
    let mut secret = |what: &str, value: String| {
        assert!(value.len() >= 16, "{what}");
        secrets.push((what.to_owned(), value));
    };
    let mut files = Vec::new();
    walk(&stack.path("home"), &mut files);
    walk(&service, &mut files);
    for path in files.iter().filter(|p| p.is_file()) {
        let name = path.file_name().and_then(|n| n.to_str()).unwrap_or("");
        let bytes = std::fs::read(path).unwrap_or_default();
        if path.parent().is_some_and(|p| p.ends_with("tokens"))
            && path.starts_with(stack.path("home"))
        {
            let token: Value = serde_json::from_slice(&bytes).expect("a cached token");
            secret(
                "service token",
                token["access_token"].as_str().expect("token").to_owned(),
            );
        }
        match name {
            "so-pin.for-the-safe" => {
                let pin = String::from_utf8_lossy(&bytes);
                let pin = pin
                    .split_whitespace()
                    .find(|w| w.len() == 32 && w.bytes().all(|b| b.is_ascii_hexdigit()));
                secret("SO PIN", pin.expect("an SO PIN").to_owned());
            }
            "sealing.key" | "worker.key" | "user-pin.sealed" => {
                secret(name, STANDARD.encode(&bytes));
                secret(name, URL_SAFE_NO_PAD.encode(&bytes));
                secret(name, bytes.iter().map(|b| format!("{b:02x}")).collect());
                secret(
                    name,
                    format!("{:?}", &bytes[..16])
                        .trim_matches(['[', ']'])
                        .to_owned(),
                );
            }
            "bootstrap-credential" => {
                secret(name, String::from_utf8_lossy(&bytes).trim().to_owned())
            }
            _ => {}
        }
    }
    secret("ID token", id_token.clone());
    secret("ID token", refused_token);
    // A signature of a JWT is enough to complete a token whose claims are known.
    secret(
        "ID token's signature",
        id_token.rsplit('.').next().expect("a signature").to_owned(),
    );
    let digest = signed["files"][0]["digest"].as_str().expect("digest");
    let hex = digest.split(':').nth(1).expect("hex").to_owned();
    let raw: Vec<u8> = (0..hex.len() / 2)
        .map(|i| u8::from_str_radix(&hex[2 * i..2 * i + 2], 16).expect("hex"))
        .collect();
    secret("file digest", STANDARD.encode(&raw));
    secret(
        "file digest",
        format!("{raw:?}").trim_matches(['[', ']']).to_owned(),
    );
    secret("file digest", hex);
    let kinds: BTreeSet<_> = secrets.iter().map(|(k, _)| k.as_str()).collect();
    for kind in [
        "service token",
        "SO PIN",
        "sealing.key",
        "worker.key",
        "user-pin.sealed",
    ] {
        assert!(
            kinds.contains(kind),
            "nothing found to look for: {kind} of {kinds:?}"
        );
    }

    stack.stop_server();
    let log = stack.server_log();
    assert!(
        log.contains("\"DEBUG\"") || log.contains("DEBUG"),
        "the log is not as talkative as wanted"
    );
    assert!(
        log.contains(&key) || log.contains("request_id"),
        "not the service's log"
    );
    let mut logs = vec![("countersignd.log".to_owned(), log)];
    let ca = std::fs::read_to_string(stack.path("demo-ca.log")).unwrap_or_default();
    logs.push(("demo-ca.log".to_owned(), ca));
    for (name, log) in &logs {
        for (what, value) in &secrets {
            if let Some(line) = log.lines().find(|l| l.contains(value.as_str())) {
                panic!("{name} shows a {what}: {line}");
            }
        }
        for person in ["acme-admin", "Springfield"] {
            assert!(!log.contains(person), "{name} names {person}");
        }
    }
}
