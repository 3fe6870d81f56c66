use super::*;
use std::os::unix::fs::PermissionsExt as _;

fn mode(path: &Path) -> u32 {
    std::fs::metadata(path).unwrap().permissions().mode() & 0o777
}

/// A file that is there is enough: nothing is loaded by `init`.
fn module(dir: &Path) -> PathBuf {
    let path = dir.join("libsofthsm2.so");
    std::fs::write(&path, b"").unwrap();
    path
}

fn args(dir: &Path, listen: &str, module: PathBuf) -> InitArgs {
    InitArgs {
        dir: dir.to_owned(),
        dev: true,
        listen: listen.parse().unwrap(),
        hsm_module: Some(module),
        database_url: None,
        database_password_file: None,
    }
}

#[tokio::test]
async fn a_development_deployment_is_complete_and_private() {
    let t = tempfile::tempdir().unwrap();
    let dir = t.path().join("d");
    let made = development(args(&dir, "127.0.0.1:8443", module(t.path())))
        .await
        .unwrap();
    let config = Config::load(&made.config).unwrap();
    assert!(config.development);
    assert!(config.database_file().is_file());
    for secret in [
        &made.sealing_key,
        &made.worker_key,
        &made.credential,
        &config.tls.key_file,
        &config.database_file(),
    ] {
        assert_eq!(mode(secret), 0o600, "{}", secret.display());
    }
    assert_eq!(mode(&dir), 0o700);
    crate::tls::server_config(&config.tls.cert_file, &config.tls.key_file).unwrap();

    let text = report(&made);
    assert!(
        text.contains(&made.pin) && text.contains("BACK UP"),
        "{text}"
    );
    assert!(text.contains("install -m 0600"), "{text}");
}

#[tokio::test]
async fn a_deployment_is_never_made_twice() {
    let t = tempfile::tempdir().unwrap();
    let dir = t.path().join("d");
    let args = || args(&dir, "127.0.0.1:8443", module(t.path()));
    let made = development(args()).await.unwrap();
    let before = std::fs::read(&made.sealing_key).unwrap();
    assert!(matches!(
        development(args()).await,
        Err(ServerError::Exists(_))
    ));
    assert_eq!(std::fs::read(&made.sealing_key).unwrap(), before);
    let config = Config::load(&made.config).unwrap();
    assert!(matches!(
        database(&config, &t.path().join("c"), None).await,
        Err(ServerError::Exists(_))
    ));
}

#[tokio::test]
async fn a_missing_softhsm_stops_init_before_anything_is_made() {
    let t = tempfile::tempdir().unwrap();
    let dir = t.path().join("d");
    let args = args(&dir, "127.0.0.1:1", "/nowhere/libsofthsm2.so".into());
    let e = development(args).await.unwrap_err();
    assert!(e.to_string().contains("apt-get install softhsm2"), "{e}");
    assert!(!dir.exists());
}

#[tokio::test]
async fn a_database_that_cannot_be_used_stops_init_before_anything_is_made() {
    let t = tempfile::tempdir().unwrap();
    let dir = t.path().join("d");
    let with = |url: &str| InitArgs {
        database_url: Some(url.into()),
        ..args(&dir, "127.0.0.1:1", module(t.path()))
    };
    let refused = async |args, says: &str| {
        let e = development(args).await.unwrap_err().to_string();
        assert!(e.contains(says), "{says} in {e}");
        assert!(!dir.exists());
    };
    refused(with("sqlite:x.db"), "`sqlite:x.db` is no URL of PostgreSQL").await;
    // A password belongs into a file, not into the configuration.
    refused(with("postgres://me:secret@db.example/c"), "password").await;
    let missing = InitArgs {
        database_password_file: Some("/nowhere/password".into()),
        ..with("postgres://me@db.example/c")
    };
    refused(missing, "/nowhere/password").await;
    // Nobody listens there.
    refused(
        with("postgres://me@127.0.0.1:1/c?sslmode=disable"),
        "127.0.0.1",
    )
    .await;
}
