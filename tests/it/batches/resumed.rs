//! `countersign sign` over many files: interrupted, killed, cut off, and finished by the same command.

use crate::support::cli::Cli;
use crate::support::leaves::of_type;
use crate::support::{REPOSITORY, Stack, signal, text};
use serde_json::Value;
use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

#[allow(dead_code)]
#[path = "../../../crates/formats/tests/it/tiny_pe.rs"]
mod tiny_pe;

const SLOW: (&str, &str) = ("COUNTERSIGN_FAILPOINTS", "worker.before-c-sign=sleep:15");

/// Small executables: each another one, but for a few that are alike.
fn executables(folder: &Path, count: usize) -> Vec<String> {
    (0..count)
        .map(|n| {
            let mut pe = tiny_pe::TinyPe::pe32();
            let content = if n % 50 == 7 { 7 } else { n };
            pe.sections[1].extend_from_slice(format!("number {content}").as_bytes());
            let path = folder.join(format!("tool-{n:03}.exe"));
            std::fs::write(&path, pe.build()).expect("an executable");
            text(&path)
        })
        .collect()
}

fn receipts(folder: &Path) -> usize {
    std::fs::read_dir(folder)
        .expect("folder")
        .filter(|e| {
            let name = e.as_ref().expect("entry").file_name();
            name.to_string_lossy().ends_with(".tlog-proof")
        })
        .count()
}

fn wait_for_receipts(folder: &Path, count: usize) {
    let until = Instant::now() + Duration::from_secs(60);
    while receipts(folder) < count {
        assert!(Instant::now() < until, "{} of {count}", receipts(folder));
        std::thread::sleep(Duration::from_millis(10));
    }
}

fn lines(stdout: &str) -> Vec<Value> {
    stdout
        .lines()
        .map(|l| serde_json::from_str(l).unwrap_or_else(|e| panic!("{e}: {l}")))
        .collect()
}

/// Uses of a key: leaf, and how it ended.
type Uses = Vec<(u64, String)>;

/// Uses of a key by the digest of the file, from the log as downloaded. The last outcomes follow their
/// answers by a moment.
fn uses(admin: &Cli, key: &str, folder: &Path) -> HashMap<String, Uses> {
    let until = Instant::now() + Duration::from_secs(60);
    loop {
        let all = uses_now(admin, key, folder);
        if all
            .values()
            .flatten()
            .all(|(_, outcome)| !outcome.is_empty())
        {
            return all;
        }
        assert!(Instant::now() < until, "authorisations stay open: {all:?}");
        std::thread::sleep(Duration::from_millis(200));
    }
}

fn uses_now(admin: &Cli, key: &str, folder: &Path) -> HashMap<String, Uses> {
    admin.ok(&["log", "download", "--key", key, "--out", &text(folder)]);
    let shown = admin.json(&["log", "show", &text(folder), "--limit", "1000000"]);
    let leaves = shown["leaves"].as_array().expect("leaves");
    let outcomes: HashMap<u64, String> = leaves
        .iter()
        .filter(|l| l["leaf"]["type"] == "outcome")
        .map(|l| {
            let result = l["leaf"]["result"].as_str().expect("result").to_owned();
            (l["leaf"]["of"].as_u64().expect("of"), result)
        })
        .collect();
    let mut all: HashMap<String, Uses> = HashMap::new();
    for l in leaves
        .iter()
        .filter(|l| l["leaf"]["type"] == "authorisation" && l["leaf"]["purpose"] == "signature")
    {
        let file = l["details"]["artifact"]
            .as_str()
            .expect("a file")
            .to_owned();
        let index = l["index"].as_u64().expect("index");
        all.entry(file)
            .or_default()
            .push((index, outcomes.get(&index).cloned().unwrap_or_default()));
    }
    all
}

#[test]
fn three_hundred_files_interrupted_killed_and_finished() {
    let mut stack = Stack::start();
    let admin = stack.tenant("many");
    let key = stack.signer(&admin, "many/release", "ec-p256");
    let folder = stack.folder("many");
    let files = executables(&folder, 300);
    stack.stop_server();
    stack.start_server(&[SLOW]);
    let mut args = vec![
        "--json",
        "sign",
        "--signer",
        "many/release",
        "--batch",
        "20",
    ];
    args.extend(files.iter().map(String::as_str));

    // Ctrl-C: what was answered is written, the rest is not reached, and it says so.
    let job = stack.job("many-job", REPOSITORY);
    let (stdout, stderr) = (stack.path("many.out"), stack.path("many.err"));
    let mut child = job.spawn(&args, &stdout, &stderr);
    wait_for_receipts(&folder, 30);
    signal(child.id(), "INT");
    let code = child.wait().expect("it ends").code();
    let said = std::fs::read_to_string(&stdout).expect("its lines");
    let complaint = std::fs::read_to_string(&stderr).expect("its words");
    assert_eq!(code, Some(130), "{complaint}");
    let first = lines(&said);
    assert_eq!(first.len(), 300, "a line for each file");
    let signed = first.iter().filter(|l| l["index"].is_u64()).count();
    let not = first
        .iter()
        .filter(|l| l["error"]["code"] == "interrupted")
        .count();
    assert_eq!((signed + not, signed), (300, receipts(&folder)));
    assert!(signed >= 30 && not > 0, "{signed} {not}");
    assert_eq!(litter(&folder), Vec::<PathBuf>::new());

    // Another command over the same files has nothing to do with it.
    let stranger = stack.job("many-job", REPOSITORY).ends(
        4,
        &[
            "sign",
            "--signer",
            "many/release",
            "--batch",
            "20",
            "--resume",
            "--detached",
        ],
    );
    assert!(stranger.says("left unfinished"), "{stranger:?}");

    // Killed: at any moment.
    let job = stack.job("many-job", REPOSITORY);
    let mut child = job.spawn(&args, &stdout, &stderr);
    wait_for_receipts(&folder, signed + 50);
    signal(child.id(), "KILL");
    let _ = child.wait();
    let after_kill = receipts(&folder);
    let has_receipt = |file: &str| Path::new(&format!("{file}.tlog-proof")).exists();
    // Their outcomes are written long before the service is killed.
    let settled: Vec<String> = files.iter().filter(|f| has_receipt(f)).cloned().collect();

    // The service goes away in the middle: some are signed, and the exit code says so.
    let job = stack.job("many-job", REPOSITORY);
    let mut child = job.spawn(&args, &stdout, &stderr);
    wait_for_receipts(&folder, after_kill + 30);
    stack.kill_server();
    let code = child.wait().expect("it ends").code();
    assert!([Some(5), Some(6)].contains(&code), "{code:?}");

    // The same command, without naming the files, and now without haste.
    stack.start_server(&[]);
    let job = stack.job("many-job", REPOSITORY);
    let out = job.ends(
        0,
        &[
            "--json",
            "sign",
            "--signer",
            "many/release",
            "--batch",
            "20",
            "--resume",
        ],
    );
    assert!(out.stderr.contains("going on with a run"), "{}", out.stderr);
    let last = lines(&out.stdout);
    assert_eq!(last.len(), 300);
    let before = last.iter().filter(|l| l["before"] == true).count();
    println!("{signed} until Ctrl-C, {after_kill} until the kill, {before} before the last run");
    assert!(before > after_kill && before < 300);

    // Exactly one signature for each file. Files that are alike are files of their own.
    let uses = uses(&admin, &key, &stack.path("many-log"));
    let mut wanted: BTreeMap<String, usize> = BTreeMap::new();
    // Of each leaf that a file was signed under: whether that was in the run that lost its service.
    let mut answered: HashMap<u64, bool> = HashMap::new();
    for line in &last {
        *wanted
            .entry(line["digest"].as_str().expect("digest").to_owned())
            .or_default() += 1;
        let index = line["index"].as_u64().expect("index");
        let file = line["file"].as_str().expect("file").to_owned();
        let lost = line["before"] == true && !settled.contains(&file);
        let again = answered.insert(index, lost);
        assert_eq!(again, None, "{line}");
    }
    for (digest, count) in &wanted {
        let uses = &uses[digest];
        let of_files = uses.iter().filter(|(i, _)| answered.contains_key(i));
        assert_eq!(of_files.count(), *count, "{digest}: {uses:?}");
        for (index, outcome) in uses {
            // What was answered is signed, but for what the killed service could not write any more: that
            // is stated unknown, and the file is not signed a second time. What nobody got, nobody has.
            let fits = match answered.get(index) {
                Some(true) => outcome == "signed" || outcome == "unknown",
                Some(false) => outcome == "signed",
                None => outcome == "unknown",
            };
            assert!(fits, "{digest}, leaf {index}: {uses:?}");
        }
    }
    assert_eq!(uses.len(), wanted.len(), "nothing else was signed");
    for file in files.iter().step_by(37) {
        stack.osslsigncode(Path::new(file)).expect("signed");
        job.ok(&["receipt", "verify", file, &format!("{file}.tlog-proof")]);
    }
    assert_eq!(receipts(&folder), 300);
    // It is finished: there is nothing to go on with, and the files are signed already.
    let out = job.ends(4, &["sign", "--signer", "many/release", "--resume"]);
    assert!(out.says("left unfinished"), "{out:?}");
    let out = job.ends(64, &["sign", "--signer", "many/release", &files[0]]);
    assert!(out.says("signed already"), "{out:?}");
    let leaves = admin.key_leaves(&key, &stack.path("many-log"));
    assert!(of_type(&leaves, "authorisation").len() >= 301);
}

#[test]
fn a_file_that_changed_since_is_signed_anew() {
    let stack = Stack::shared();
    let admin = stack.tenant("changed");
    let key = stack.signer(&admin, "changed/release", "ec-p256");
    let folder = stack.folder("changed");
    let write = |name: &str, content: &str| {
        let path = folder.join(name);
        std::fs::write(&path, content).expect("file");
        text(&path)
    };
    let files = [
        write("a.txt", "a"),
        write("b.txt", "b"),
        text(&folder.join("c.txt")),
    ];
    let all: Vec<&str> = files.iter().map(String::as_str).collect();
    let job = stack.job("changed-job", REPOSITORY);
    let args = [&["--json", "sign", "--signer", "changed/release"][..], &all].concat();
    // One of three is not there: some are signed.
    let out = job.ends(6, &args);
    let missing = lines(&out.stdout)
        .into_iter()
        .find(|l| l["file"] == files[2].as_str())
        .expect("its line");
    assert_eq!(missing["error"]["exit"], 4, "{missing}");
    let first = std::fs::read(format!("{}.p7s", files[0])).expect("signature");
    // The missing one comes, one of the others changes; the third is left alone.
    write("c.txt", "c");
    write("b.txt", "b, but better");
    let out = job.ends(0, &args);
    let by_file: HashMap<String, Value> = lines(&out.stdout)
        .into_iter()
        .map(|l| (l["file"].as_str().expect("file").to_owned(), l))
        .collect();
    assert_eq!(by_file[&files[0]]["before"], true);
    assert!(by_file[&files[1]].get("before").is_none());
    assert_eq!(
        std::fs::read(format!("{}.p7s", files[0])).expect("signature"),
        first
    );
    for file in &files {
        stack
            .openssl_cms(Path::new(file), Path::new(&format!("{file}.p7s")))
            .unwrap_or_else(|e| panic!("{file}: {e}"));
        job.ok(&["receipt", "verify", file, &format!("{file}.tlog-proof")]);
    }
    let uses = uses(&admin, &key, &stack.path("changed-log"));
    assert_eq!(uses.len(), 4, "a, b, the other b, c: {uses:?}");
    assert!(
        uses.values()
            .all(|u| matches!(u.as_slice(), [(_, o)] if o == "signed")),
        "{uses:?}"
    );
    // A run that ended well is over: the same command is a new one.
    let out = job.ends(64, &args);
    assert!(out.says(".p7s"), "{out:?}");
}

/// What atomic writes leave where they were cut off.
fn litter(folder: &Path) -> Vec<PathBuf> {
    std::fs::read_dir(folder)
        .expect("folder")
        .map(|e| e.expect("entry").path())
        .filter(|p| {
            let name = p
                .file_name()
                .expect("a name")
                .to_string_lossy()
                .into_owned();
            !name.starts_with("tool-")
        })
        .collect()
}
