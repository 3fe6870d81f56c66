//! One thing is broken at a time, on a stack that does not run, and mended again.

use super::Said;
use crate::support::disk::SmallDisk;
use crate::support::{Stack, text};
use rcgen::{CertificateParams, KeyPair, date_time_ymd};
use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Changes the configuration.
pub fn edit(stack: &Stack, from: &str, to: &str) {
    let path = stack.config();
    let whole = std::fs::read_to_string(&path).expect("configuration");
    assert!(whole.contains(from), "no \"{from}\" in {whole}");
    std::fs::write(&path, whole.replacen(from, to, 1)).expect("configuration");
}

/// Another certificate with its key, good in these years.
pub fn certificate(stack: &Stack, (from, to): (i32, i32)) {
    let mut params = CertificateParams::new(vec!["localhost".into()]).expect("a name");
    params.not_before = date_time_ymd(from, 1, 1);
    params.not_after = date_time_ymd(to, 1, 1);
    let key = KeyPair::generate().expect("a key");
    let cert = params.self_signed(&key).expect("a certificate");
    let tls = stack.path("service/tls");
    std::fs::write(tls.join("cert.pem"), cert.pem()).expect("written");
    std::fs::write(tls.join("key.pem"), key.serialize_pem()).expect("written");
}

/// Statements of a stranger in the database's file.
fn sql(stack: &Stack, statements: &str) {
    let script = "import sqlite3, sys\n\
                  c = sqlite3.connect(sys.argv[1], isolation_level=None)\n\
                  c.executescript(sys.argv[2])";
    let out = Command::new("python3")
        .args(["-c", script])
        .arg(stack.path("service/data/countersign.db"))
        .arg(statements)
        .output()
        .expect("python3");
    assert!(out.status.success(), "{out:?}");
}

/// Breaks a file for as long as `look` takes.
fn with_file(path: &Path, bytes: &[u8], look: impl FnOnce()) {
    let before = std::fs::read(path).expect("there");
    std::fs::write(path, bytes).expect("written");
    look();
    std::fs::write(path, before).expect("put back");
}

/// Takes a file or folder away for as long as `look` takes.
fn without(path: &Path, look: impl FnOnce()) {
    let aside = path.with_extension("aside");
    std::fs::rename(path, &aside).expect("moved away");
    look();
    std::fs::rename(&aside, path).expect("put back");
}

/// A configuration that differs in one place.
fn with_config(stack: &Stack, from: &str, to: &str) -> Said {
    let whole = std::fs::read_to_string(stack.config()).expect("configuration");
    assert!(whole.contains(from), "no \"{from}\" in {whole}");
    let other = stack.path("service/other.toml");
    std::fs::write(&other, whole.replacen(from, to, 1)).expect("written");
    Said::of(&other)
}

#[test]
fn each_broken_thing_is_found_by_its_check() {
    let mut stack = Stack::bare();
    stack.tenant("acme");
    assert_eq!(stack.stop_server(), Some(0));
    let service = stack.path("service");
    let config = stack.config();
    let look = || Said::of(&config);
    look().only(&[]);
    keys(&service, &look);
    tls(&stack, &look);
    modules_and_tokens(&stack, &look);
    database(&stack, &look);

    // The configuration itself.
    let said = with_config(&stack, "[hsm]\n", "[hsm]\npin = \"1234\"\n");
    said.is("config", "fail", "`pin`");
    assert_eq!(said.checks().len(), 1);

    // All was put back.
    let said = look();
    said.only(&[]);
    stack.start_server(&[]);
}

fn keys(service: &Path, look: &dyn Fn() -> Said) {
    let key = service.join("sealing.key");
    with_file(&key, &[7; 32], || {
        let said = look();
        said.is(
            "sealing-key",
            "fail",
            "was not wrapped under this sealing key",
        );
        said.only(&["sealing-key"]);
    });
    with_file(&key, &[7; 31], || {
        let said = look();
        said.is("sealing-key", "fail", "exactly 32 bytes");
        said.is("key-files", "fail", "exactly 32 bytes");
    });
    std::fs::set_permissions(&key, Permissions::from_mode(0o644)).expect("mode");
    let said = look();
    said.is("key-files", "fail", "chmod 600");
    std::fs::set_permissions(&key, Permissions::from_mode(0o600)).expect("mode");

    with_file(&service.join("worker.key"), &[7; 32], || {
        let said = look();
        said.is("token", "fail", "does not open with the key file");
        said.only(&["token"]);
    });
}

fn tls(stack: &Stack, look: &dyn Fn() -> Said) {
    let tls = stack.path("service/tls");
    let read = |name: &str| std::fs::read(tls.join(name)).expect("there");
    let before = (read("cert.pem"), read("key.pem"));
    certificate(stack, (2020, 2021));
    let said = look();
    said.is("tls", "fail", "ended");
    said.only(&["tls"]);
    certificate(stack, (2900, 2999));
    look().is("tls", "fail", "begins in");
    // One's certificate with another's key.
    std::fs::write(tls.join("key.pem"), &before.1).expect("written");
    let said = look();
    said.is("tls", "fail", "certificate and key");
    std::fs::write(tls.join("cert.pem"), &before.0).expect("written");
    look().only(&[]);
}

fn modules_and_tokens(stack: &Stack, look: &dyn Fn() -> Said) {
    let whole = std::fs::read_to_string(stack.config()).expect("configuration");
    let module = whole
        .lines()
        .find(|l| l.starts_with("module = "))
        .expect("a module");
    let said = with_config(stack, module, "module = \"/nowhere/libsofthsm2.so\"");
    said.is("module", "fail", "/nowhere/libsofthsm2.so is missing");
    said.only(&["module", "token"]);
    // A library, and no module.
    let other = stack.path("service/none.so");
    std::fs::write(&other, "no library").expect("written");
    let said = with_config(stack, module, &format!("module = \"{}\"", other.display()));
    said.is("module", "fail", "cannot load the PKCS#11 module");
    said.only(&["module", "token"]);
    let said = with_config(stack, "[hsm]\n", "[hsm]\nworker_binary = \"nowhere\"\n");
    said.is("worker", "fail", "nowhere is missing");
    said.only(&["worker", "module", "token", "sandbox"]);

    let token = token_folder(stack);
    let latch = token.join("pin-latched");
    std::fs::write(&latch, "CKR_PIN_INCORRECT").expect("written");
    let said = look();
    said.is("token", "fail", "the PIN is latched: CKR_PIN_INCORRECT");
    said.only(&["token", "module"]);
    assert!(latch.exists(), "nobody but an operator takes it away");
    std::fs::remove_file(&latch).expect("removed");

    without(&token.join("tokens"), || {
        std::fs::create_dir(token.join("tokens")).expect("an empty one");
        let said = look();
        said.is("token", "fail", "no token with serial number");
        said.only(&["token"]);
        std::fs::remove_dir(token.join("tokens")).expect("removed");
    });
    assert!(!token.join("login-attempt").exists(), "no login was tried");

    // A token of the operator's own that is not there.
    let pin = stack.path("service/a.pin");
    std::fs::write(&pin, "1234\n").expect("written");
    std::fs::set_permissions(&pin, Permissions::from_mode(0o600)).expect("mode");
    let tokens = stack.folder("service/softhsm");
    let conf = stack.path("service/softhsm2.conf");
    let text = format!(
        "directories.tokendir = {}\nobjectstore.backend = file\n",
        tokens.display()
    );
    std::fs::write(&conf, text).expect("written");
    let table = format!(
        "[[token]]\nlabel = \"nobody\"\n{module}\nprofile = \"softhsm2\"\npin_file = \"a.pin\"\n\
         tenants = [\"other\"]\nfiles = [\"softhsm\"]\nenvironment = {{ SOFTHSM2_CONF = \"{}\" }}\n\n[log]\n",
        conf.display()
    );
    let said = with_config(stack, "[log]\n", &table);
    said.is("token", "fail", "the module has no token labelled `nobody`");
    said.only(&["token"]);
    let about = said
        .checks()
        .iter()
        .any(|c| c["about"] == "nobody" && (c["status"] == "fail" || c["status"] == "unknown"));
    assert!(about, "{}", said.short());
}

fn token_folder(stack: &Stack) -> PathBuf {
    std::fs::read_dir(stack.path("service/data/tokens"))
        .expect("tokens")
        .flatten()
        .map(|e| e.path())
        .find(|p| p.join("token.json").exists())
        .expect("a token")
}

fn database(stack: &Stack, look: &dyn Fn() -> Said) {
    let file = stack.path("service/data/countersign.db");
    let rest = [
        "schema",
        "durability",
        "clock",
        "sealing-key",
        "certificates",
        "revocation",
    ];
    let lost = [&["database"][..], &rest].concat();
    without(&file, || {
        let said = look();
        said.is("database", "fail", "does not exist");
        said.is("sealing-key", "unknown", "the database cannot be read");
        said.only(&lost);
        assert!(!file.exists(), "none is made");
    });
    with_file(&file, &[b'x'; 8192], || {
        let said = look();
        said.is("database", "fail", "not a Countersign database");
        said.only(&lost);
    });
    sql(stack, "UPDATE _sqlx_migrations SET version = version + 100");
    look().is("database", "fail", "run a newer release");
    sql(stack, "UPDATE _sqlx_migrations SET version = version - 100");
    // A schema of an earlier release: it is brought up to date at the next start, not now.
    let migrations = Path::new(env!("CARGO_MANIFEST_DIR")).join("../migrations/sqlite");
    let newest = std::fs::read_dir(migrations).expect("migrations").count();
    let last = format!("WHERE version = {newest}");
    sql(
        stack,
        &format!(
            "CREATE TABLE aside AS SELECT * FROM _sqlx_migrations {last}; \
             DELETE FROM _sqlx_migrations {last}"
        ),
    );
    let said = look();
    let seen = format!("{}, and this release's is {newest}", newest - 1);
    said.is("schema", "warn", &seen);
    said.only(&["sealing-key", "certificates", "revocation", "clock"]);
    sql(
        stack,
        "INSERT INTO _sqlx_migrations SELECT * FROM aside; DROP TABLE aside",
    );
    look().only(&[]);

    // The clock was set back by an hour.
    sql(
        stack,
        "UPDATE nodes SET joined = joined + 3600000000, ended = ended + 3600000000",
    );
    let said = look();
    said.is("clock", "fail", "behind what the service wrote last");
    said.only(&["clock"]);
    sql(
        stack,
        "UPDATE nodes SET joined = joined - 3600000000, ended = ended - 3600000000",
    );

    // A file in memory forgets: fatal in production, told in development.
    let Ok(memory) = tempfile::tempdir_in("/dev/shm") else {
        panic!("/dev/shm is not there: a file system in memory is needed");
    };
    let copy = memory.path().join("countersign.db");
    std::fs::copy(&file, &copy).expect("copied");
    let url = format!("[database]\nurl = \"sqlite:{}\"\n\n[log]\n", text(&copy));
    let said = with_config(stack, "[log]\n", &url);
    said.is("durability", "warn", "lies in a tmpfs");
    edit(stack, "development = true", "development = false");
    let said = with_config(stack, "[log]\n", &url);
    said.is("durability", "fail", "lies in a tmpfs");
    edit(stack, "development = false", "development = true");
}

#[test]
fn a_disk_without_room_is_found() {
    let mut stack = Stack::bare();
    assert_eq!(stack.stop_server(), Some(0));
    let data = stack.path("service/data");
    let Some(disk) = SmallDisk::under(&data, 64) else {
        return;
    };
    let said = Said::of(&stack.config());
    said.is("disk", "fail", "MiB free of 64 MiB");
    said.only(&["disk"]);
    disk.remount("ro");
    let said = Said::of(&stack.config());
    said.is("disk", "fail", "read-only");
}
