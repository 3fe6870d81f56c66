//! The main job: a job with nothing but its platform's token signs, and strangers' tools agree.

use crate::support::cli::Cli;
use crate::support::{REPOSITORY, Stack, copy_exe, text, third_party_exe};
use serde_json::Value;
use std::io::Read as _;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

/// A tenant with one signer, a job that may use it, and a folder.
fn one_signer(tenant: &str, algorithm: &str) -> (Cli, Cli, String, PathBuf) {
    let stack = Stack::shared();
    let admin = stack.tenant(tenant);
    let signer = format!("{tenant}/release");
    stack.signer(&admin, &signer, algorithm);
    let job = stack.job(&format!("{tenant}-job"), REPOSITORY);
    (admin, job, signer, stack.folder(tenant))
}

/// Every executable of the third party.
fn launchers() -> Vec<String> {
    let folder = third_party_exe("t64.exe");
    let folder = folder.parent().expect("a folder");
    let mut names: Vec<_> = std::fs::read_dir(folder)
        .expect("the third party's folder")
        .map(|e| e.expect("entry").file_name().into_string().expect("a name"))
        .filter(|n| n.ends_with(".exe"))
        .collect();
    names.sort();
    assert!(names.len() >= 6, "{names:?}");
    names
}

fn signatures_in(said: &str) -> usize {
    said.lines()
        .filter(|l| l.contains("Signature verification: ok") && !l.contains("imestamp"))
        .count()
}

fn files_of(folder: &Path) -> Vec<String> {
    let mut names: Vec<_> = std::fs::read_dir(folder)
        .expect("folder")
        .map(|e| e.expect("entry").file_name().into_string().expect("a name"))
        .collect();
    names.sort();
    names
}

fn sign_every_launcher(tenant: &str, algorithm: &str, digest: &str, says: &str) {
    let stack = Stack::shared();
    let (_, job, signer, folder) = one_signer(tenant, algorithm);
    let names = launchers();
    let files: Vec<_> = names
        .iter()
        .map(|n| text(&copy_exe(&folder, n, n)))
        .collect();
    let tsa_root = text(&stack.tsa.root_file());
    let mut args = vec![
        "sign",
        "--signer",
        &signer,
        "--digest-algorithm",
        digest,
        "--timestamp",
        stack.tsa.url(),
        "--timestamp-ca-file",
        &tsa_root,
        "--program-name",
        "A third party's launcher",
        "--url",
        "https://example.com/",
    ];
    args.extend(files.iter().map(String::as_str));
    let answer = job.json(&args);
    let list = answer["files"].as_array().expect("files");
    assert_eq!(list.len(), names.len());
    let mut indices = Vec::new();
    for (file, entry) in files.iter().zip(list) {
        let said = stack
            .osslsigncode(Path::new(file))
            .unwrap_or_else(|e| panic!("{file}: {e}"));
        assert!(
            said.contains("Timestamp time:") || said.contains("Timestamp Verified"),
            "{said}"
        );
        assert!(said.contains(says), "{says} in {said}");
        // The shape that scripts build on.
        assert_eq!(entry["file"], file.as_str());
        assert_eq!(entry["output"], file.as_str());
        assert_eq!(entry["receipt"], format!("{file}.tlog-proof"));
        assert_eq!(entry["content"], "authenticode");
        assert!(
            entry["digest"]
                .as_str()
                .is_some_and(|d| d.starts_with(digest)),
            "{entry}"
        );
        assert!(
            entry["timestamp"]
                .as_str()
                .is_some_and(|t| t.ends_with('Z')),
            "{entry}"
        );
        for member in ["key", "request", "log"] {
            assert!(
                entry[member].as_str().is_some_and(|s| !s.is_empty()),
                "{member}: {entry}"
            );
        }
        indices.push(entry["index"].as_u64().expect("index"));
        job.ok(&["receipt", "verify", file, &format!("{file}.tlog-proof")]);
    }
    indices.sort_unstable();
    indices.dedup();
    assert_eq!(indices.len(), names.len(), "one leaf for each file");
}

#[test]
fn a_job_signs_a_third_partys_executables_with_p256() {
    sign_every_launcher("sign-p256", "ec-p256", "sha-256", "SHA256");
}

#[test]
fn a_job_signs_a_third_partys_executables_with_rsa3072() {
    sign_every_launcher("sign-rsa", "rsa-3072", "sha-256", "SHA256");
}

#[test]
fn a_job_signs_a_third_partys_executables_with_p384_and_sha384() {
    sign_every_launcher("sign-p384", "ec-p384", "sha-384", "SHA384");
}

#[test]
fn in_place_is_one_rename_and_keeps_the_mode() {
    let stack = Stack::shared();
    let (_, job, signer, folder) = one_signer("sign-place", "ec-p256");
    let exe = copy_exe(&folder, "app.exe", "w64.exe");
    std::fs::set_permissions(&exe, std::fs::Permissions::from_mode(0o751)).expect("mode");
    let before = std::fs::read(&exe).expect("bytes");
    let inode = std::fs::metadata(&exe).expect("metadata").ino();
    // Whoever reads the file while it is signed reads the old one to its end.
    let mut reader = std::fs::File::open(&exe).expect("open");
    job.ok(&["sign", "--signer", &signer, &text(&exe)]);
    let mut seen = Vec::new();
    reader.read_to_end(&mut seen).expect("read");
    assert!(seen == before, "the old file was written to");
    let meta = std::fs::metadata(&exe).expect("metadata");
    assert_ne!(
        meta.ino(),
        inode,
        "a new file takes the place of the old one"
    );
    assert_eq!(meta.permissions().mode() & 0o7777, 0o751);
    assert_eq!(
        files_of(&folder),
        ["app.exe", "app.exe.tlog-proof"],
        "nothing is left lying around"
    );
    stack.osslsigncode(&exe).expect("signed");

    // A link stays a link; what it leads to is signed.
    let target = copy_exe(&folder, "target.exe", "t32.exe");
    let link = folder.join("link.exe");
    std::os::unix::fs::symlink("target.exe", &link).expect("link");
    job.ok(&["sign", "--signer", &signer, &text(&link)]);
    assert!(std::fs::symlink_metadata(&link).expect("link").is_symlink());
    stack
        .osslsigncode(&target)
        .expect("the link's target is signed");
}

#[test]
fn out_leaves_the_source_alone() {
    let stack = Stack::shared();
    let (_, job, signer, folder) = one_signer("sign-out", "ec-p256");
    let exe = copy_exe(&folder, "app.exe", "t64.exe");
    let before = std::fs::read(&exe).expect("bytes");
    let out = stack.folder("sign-out/out").join("signed.exe");
    let receipts = folder.join("receipts/deep");
    let answer = job.json(&[
        "sign",
        "--signer",
        &signer,
        "--out",
        &text(&out),
        &text(&exe),
    ]);
    assert_eq!(answer["files"][0]["output"], text(&out));
    assert_eq!(std::fs::read(&exe).expect("bytes"), before);
    stack.osslsigncode(&out).expect("signed");
    let receipt = folder.join("out/signed.exe.tlog-proof");
    job.ok(&["receipt", "verify", &text(&out), &text(&receipt)]);
    job.ok(&[
        "sign",
        "--signer",
        &signer,
        "--receipt-dir",
        &text(&receipts),
        &text(&exe),
    ]);
    job.ok(&[
        "receipt",
        "verify",
        &text(&exe),
        &text(&receipts.join("app.exe.tlog-proof")),
    ]);
    assert!(!folder.join("app.exe.tlog-proof").exists());
    // One output cannot take two files, and nothing is signed.
    let two = [text(&exe), text(&out)];
    job.ends(
        64,
        &[
            "sign", "--signer", &signer, "--out", "x.exe", &two[0], &two[1],
        ],
    );
}

#[test]
fn a_signed_file_needs_append_or_replace() {
    let stack = Stack::shared();
    let (_, job, signer, folder) = one_signer("sign-again", "ec-p256");
    let exe = copy_exe(&folder, "app.exe", "t64.exe");
    let sign = |more: &[&str], code: i32| {
        let file = text(&exe);
        let mut args = vec!["sign", "--signer", &signer, "--timestamp", stack.tsa.url()];
        args.extend_from_slice(more);
        args.push(&file);
        job.ends(code, &args)
    };
    sign(&[], 0);
    let once = std::fs::read(&exe).expect("bytes");
    let receipt = std::fs::read(folder.join("app.exe.tlog-proof")).expect("receipt");
    let inode = std::fs::metadata(&exe).expect("metadata").ino();
    let out = sign(&[], 64);
    assert!(
        out.says("signed already") && out.says("--append"),
        "{out:?}"
    );
    assert_eq!(std::fs::read(&exe).expect("bytes"), once);
    assert_eq!(std::fs::metadata(&exe).expect("metadata").ino(), inode);
    assert_eq!(
        std::fs::read(folder.join("app.exe.tlog-proof")).expect("receipt"),
        receipt
    );
    assert_eq!(signatures_in(&stack.osslsigncode(&exe).expect("signed")), 1);
    sign(&["--append"], 0);
    let said = stack.osslsigncode(&exe).expect("two signatures");
    assert_eq!(signatures_in(&said), 2, "{said}");
    sign(&["--append"], 0);
    let said = stack.osslsigncode(&exe).expect("three signatures");
    assert_eq!(signatures_in(&said), 3, "{said}");
    // Each signature's receipt is kept.
    assert_eq!(
        std::fs::read(folder.join("app.exe.tlog-proof")).expect("receipt"),
        receipt
    );
    for n in [2, 3] {
        let receipt = folder.join(format!("app.exe.{n}.tlog-proof"));
        job.ok(&["receipt", "verify", &text(&exe), &text(&receipt)]);
    }
    sign(&["--replace"], 0);
    let said = stack.osslsigncode(&exe).expect("signed");
    assert_eq!(signatures_in(&said), 1, "{said}");
    // As long as it was, but for a leading zero in an ECDSA signature.
    let again = std::fs::read(&exe).expect("bytes").len();
    assert!(again.abs_diff(once.len()) <= 8, "{again}");
    sign(&["--append", "--replace"], 64);
}

#[test]
fn any_file_gets_a_detached_signature_that_openssl_verifies() {
    let stack = Stack::shared();
    let (_, job, signer, folder) = one_signer("sign-cms", "ec-p384");
    let file = folder.join("firmware.bin");
    let bytes: Vec<u8> = (0..300_000_u32).map(|i| (i % 251) as u8).collect();
    std::fs::write(&file, &bytes).expect("file");
    let empty = folder.join("empty file.txt");
    std::fs::write(&empty, b"").expect("file");
    for digest in ["sha-256", "sha-384"] {
        let (a, b) = (text(&file), text(&empty));
        let args = [
            "sign",
            "--signer",
            &signer,
            "--digest-algorithm",
            digest,
            "--replace",
            "--timestamp",
            stack.tsa.url(),
        ];
        let answer = job.json(&[&args[..], &[&a, &b]].concat());
        assert_eq!(answer["files"][0]["content"], "cms");
        assert_eq!(answer["files"][0]["output"], format!("{a}.p7s"));
        for f in [&file, &empty] {
            let signature = PathBuf::from(format!("{}.p7s", text(f)));
            stack
                .openssl_cms(f, &signature)
                .unwrap_or_else(|e| panic!("{}: {e}", f.display()));
            let receipt = format!("{}.tlog-proof", text(f));
            job.ok(&["receipt", "verify", &text(f), &receipt]);
        }
    }
    assert_eq!(
        std::fs::read(&file).expect("bytes"),
        bytes,
        "the file itself is not touched"
    );
    // A signature that is there is not overwritten by accident.
    let out = job.ends(64, &["sign", "--signer", &signer, &text(&file)]);
    assert!(out.says("firmware.bin.p7s"), "{out:?}");
    job.ends(64, &["sign", "--signer", &signer, "--append", &text(&file)]);
    let mut other = bytes;
    other[1000] ^= 1;
    std::fs::write(&file, other).expect("file");
    let signature = folder.join("firmware.bin.p7s");
    stack
        .openssl_cms(&file, &signature)
        .expect_err("another file");
    let receipt = text(&folder.join("firmware.bin.tlog-proof"));
    job.ends(1, &["receipt", "verify", &text(&file), &receipt]);
    // An executable too, if asked for.
    let exe = copy_exe(&folder, "app.exe", "t64.exe");
    let before = std::fs::read(&exe).expect("bytes");
    job.ok(&["sign", "--signer", &signer, "--detached", &text(&exe)]);
    assert_eq!(std::fs::read(&exe).expect("bytes"), before);
    stack
        .openssl_cms(&exe, &folder.join("app.exe.p7s"))
        .expect("detached");
    job.ok(&[
        "receipt",
        "verify",
        &text(&exe),
        &text(&folder.join("app.exe.tlog-proof")),
    ]);
}

#[test]
fn of_several_files_one_that_fails_is_nothing_to_the_others() {
    let stack = Stack::shared();
    let (_, job, signer, folder) = one_signer("sign-several", "ec-p256");
    let good = text(&copy_exe(&folder, "good.exe", "t64.exe"));
    let fine = text(&copy_exe(&folder, "fine.exe", "w32.exe"));
    let absent = text(&folder.join("absent.exe"));
    let broken = copy_exe(&folder, "broken.exe", "t32.exe");
    let bytes = std::fs::read(&broken).expect("bytes");
    std::fs::write(&broken, &bytes[..700]).expect("truncated");
    let broken = text(&broken);
    let run = |files: &[&str], code: i32| -> Value {
        let args = [
            &["--json", "sign", "--signer", &signer, "--replace"][..],
            files,
        ]
        .concat();
        let out = job.ends(code, &args);
        serde_json::json!({"files": out.files(&args)})
    };
    // Some of them are signed: that has an exit code of its own.
    let answer = run(&[&absent, &good, &fine], 6);
    let list = answer["files"].as_array().expect("files");
    assert_eq!(list[0]["file"], absent.as_str());
    assert_eq!(
        (&list[0]["error"]["exit"], &list[0]["error"]["code"]),
        (&4.into(), &"file".into())
    );
    assert!(
        list[0]["error"]["message"]
            .as_str()
            .is_some_and(|m| m.contains("absent.exe"))
    );
    assert_eq!(list[1]["file"], good.as_str());
    for f in [&good, &fine] {
        stack
            .osslsigncode(Path::new(f))
            .expect("signed although another was absent");
    }
    let answer = run(&[&good, &broken, &absent, &fine], 6);
    let codes: Vec<_> = answer["files"]
        .as_array()
        .expect("files")
        .iter()
        .map(|f| f["error"]["exit"].as_u64())
        .collect();
    assert_eq!(codes, [None, Some(1), Some(4), None]);
    assert_eq!(
        std::fs::read(&broken).expect("bytes"),
        &bytes[..700],
        "untouched"
    );
    // None of them: the worst counts, and a bad file is worse than an absent one.
    run(&[&absent, &broken], 1);
    run(&[&absent], 4);
}

#[test]
fn a_broken_executable_is_bad_and_stays_as_it_is() {
    let (admin, job, signer, folder) = one_signer("sign-broken", "ec-p256");
    let whole = std::fs::read(third_party_exe("t64.exe")).expect("bytes");
    let size = || {
        admin
            .json(&["log", "list"])
            .as_array()
            .expect("logs")
            .iter()
            .find(|l| l["kind"] == "key")
            .and_then(|l| l["size"].as_u64())
            .expect("a key log")
    };
    let before = size();
    for length in [2, 63, 64, 200, 512, whole.len() / 2, whole.len() - 1] {
        let exe = folder.join(format!("cut-{length}.exe"));
        std::fs::write(&exe, &whole[..length]).expect("file");
        let out = job.run(&["sign", "--signer", &signer, &text(&exe)]);
        // Cut within its sections it is broken; nothing is signed beside it in silence either.
        assert_eq!(out.code, 1, "{length}: {out:?}");
        assert!(out.says("not signed") && out.says("not changed"), "{out:?}");
        assert_eq!(std::fs::read(&exe).expect("bytes"), &whole[..length]);
        assert!(!folder.join(format!("cut-{length}.exe.tlog-proof")).exists());
        assert!(!folder.join(format!("cut-{length}.exe.p7s")).exists());
    }
    assert_eq!(size(), before, "no signature was asked for");
}

#[test]
fn without_a_timestamp_the_file_is_not_changed_and_the_retry_is_no_second_signature() {
    let stack = Stack::shared();
    let (admin, job, signer, folder) = one_signer("sign-tsa", "ec-p256");
    let exe = copy_exe(&folder, "app.exe", "t64.exe");
    let file = text(&exe);
    let before = std::fs::read(&exe).expect("bytes");
    let dead = "http://127.0.0.1:9/";
    let out = job.ends(
        5,
        &[
            "sign",
            "--signer",
            &signer,
            "--retry-id",
            "run-7",
            "--timestamp",
            dead,
            &file,
        ],
    );
    assert!(
        out.says(dead) && out.says("not changed") && out.says("--retry-id"),
        "{out:?}"
    );
    assert_eq!(std::fs::read(&exe).expect("bytes"), before);
    assert_eq!(files_of(&folder), ["app.exe"]);
    // The next authority is asked where the first does not answer; the signature is the first one.
    let tsa = stack.tsa.url();
    let args = [
        "sign",
        "--signer",
        &signer,
        "--retry-id",
        "run-7",
        "--timestamp",
        dead,
        "--timestamp",
        tsa,
        &file,
    ];
    let answer = job.json(&args);
    stack.osslsigncode(&exe).expect("signed");
    let logs = admin.json(&["log", "list"]);
    let key = answer["files"][0]["key"].as_str().expect("key");
    let out = stack.path("sign-tsa-log");
    admin.ok(&["log", "download", "--key", key, "--out", &text(&out)]);
    let report = admin.json(&["log", "audit", &text(&out)]);
    // The certificate request and one signature.
    assert_eq!(
        report["log"]["counts"]["authorisations"], 2,
        "{report} {logs}"
    );
    // A timestamp by an authority that is not trusted is none.
    let other = copy_exe(&folder, "other.exe", "t32.exe");
    let args = [
        "sign",
        "--signer",
        &signer,
        "--timestamp",
        tsa,
        "--timestamp-ca-file",
        &stack.ca_roots(),
        &text(&other),
    ];
    job.ends(5, &args);
    assert!(!folder.join("other.exe.tlog-proof").exists());
}
