//! Every way to tamper with a downloaded log that we can think of, before two verifiers.

use super::{elsewhere, line, signed_tenant, tenant_log};
use crate::support::judges::{copy_dir, verify_log_py};
use crate::support::{Stack, text};
use std::path::{Path, PathBuf};

/// One way to tamper with a downloaded log, and how both verifiers must end.
struct Tamper {
    what: &'static str,
    how: fn(&Path, &Path),
    /// Ours and the other implementation's exit code.
    code: i32,
}

fn change(path: &Path, with: impl FnOnce(&mut Vec<u8>)) {
    let mut bytes = std::fs::read(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    with(&mut bytes);
    std::fs::write(path, bytes).expect("write");
}

fn only(dir: &Path, kind: &str) -> PathBuf {
    let partial = dir.join(format!("tile/{kind}/000.p"));
    let mut all: Vec<_> = std::fs::read_dir(partial)
        .expect("partial tiles")
        .map(|e| e.expect("entry").path())
        .collect();
    assert_eq!(all.len(), 1);
    all.remove(0)
}

fn flip(bytes: &mut [u8], at: usize) {
    bytes[at] ^= 1;
}

/// Changes one character of base64 on the line that starts with `start`, keeping it base64.
fn flip_base64(path: &Path, start: &str, at: usize) {
    change(path, |b| {
        let text = String::from_utf8(b.clone()).expect("text");
        let begin = text
            .find(start)
            .unwrap_or_else(|| panic!("{start} in {text}"))
            + start.len()
            + at;
        b[begin] = if b[begin] == b'A' { b'B' } else { b'A' };
    });
}

const TAMPERS: [Tamper; 19] = [
    Tamper {
        what: "nothing",
        how: |_, _| {},
        code: 0,
    },
    Tamper {
        what: "a byte of a leaf",
        how: |d, _| {
            change(&only(d, "entries"), |b| {
                let at = b.len() - 30;
                flip(b, at)
            })
        },
        code: 1,
    },
    Tamper {
        what: "a leaf's time, well-formed",
        how: |d, _| {
            change(&only(d, "entries"), |b| {
                let at = b
                    .windows(7)
                    .rposition(|w| w == b"\"time\":")
                    .expect("a time")
                    + 7
                    + 15;
                b[at] = if b[at] == b'1' { b'2' } else { b'1' };
            })
        },
        code: 1,
    },
    Tamper {
        what: "a hash in a tile",
        how: |d, _| change(&only(d, "0"), |b| flip(b, 40)),
        code: 1,
    },
    Tamper {
        what: "a tile cut off",
        how: |d, _| change(&only(d, "0"), |b| b.truncate(b.len() - 32)),
        code: 1,
    },
    Tamper {
        what: "a bundle cut off",
        how: |d, _| change(&only(d, "entries"), |b| b.truncate(b.len() - 5)),
        code: 1,
    },
    Tamper {
        what: "bytes after a bundle",
        how: |d, _| change(&only(d, "entries"), |b| b.extend([0, 1, b'x'])),
        code: 1,
    },
    Tamper {
        what: "an empty bundle",
        how: |d, _| change(&only(d, "entries"), Vec::clear),
        code: 1,
    },
    Tamper {
        what: "no tile",
        how: |d, _| std::fs::remove_file(only(d, "0")).expect("rm"),
        code: 2,
    },
    Tamper {
        what: "no bundle",
        how: |d, _| std::fs::remove_file(only(d, "entries")).expect("rm"),
        code: 2,
    },
    Tamper {
        what: "no checkpoint",
        how: |d, _| std::fs::remove_file(d.join("checkpoint")).expect("rm"),
        code: 2,
    },
    Tamper {
        what: "another log's checkpoint",
        how: |d, other| {
            std::fs::copy(other.join("checkpoint"), d.join("checkpoint")).expect("cp");
        },
        code: 1,
    },
    Tamper {
        what: "another log's checkpoint, key and name",
        how: |d, other| {
            for f in ["checkpoint", "vkey", "origin"] {
                std::fs::copy(other.join(f), d.join(f)).expect("cp");
            }
        },
        code: 1,
    },
    Tamper {
        what: "a smaller size in the checkpoint",
        how: |d, _| {
            change(&d.join("checkpoint"), |b| {
                let text = String::from_utf8(b.clone()).expect("text");
                *b = text.replacen("\n7\n", "\n6\n", 1).into_bytes();
                assert_ne!(text.as_bytes(), b);
            })
        },
        code: 1,
    },
    Tamper {
        what: "the checkpoint's signature",
        how: |d, _| {
            let o = line(&d.join("origin"));
            flip_base64(&d.join("checkpoint"), &format!("— {o} "), 20)
        },
        code: 1,
    },
    Tamper {
        what: "no details: erased, which is allowed",
        how: |d, _| std::fs::remove_file(d.join("details.ndjson")).expect("rm"),
        code: 0,
    },
    Tamper {
        what: "one line of details erased",
        how: |d, _| {
            change(&d.join("details.ndjson"), |b| {
                let end = b.iter().position(|c| *c == b'\n').expect("a line") + 1;
                b.drain(..end);
            })
        },
        code: 0,
    },
    Tamper {
        what: "a salt in the details",
        how: |d, _| flip_base64(&d.join("details.ndjson"), "\"salt\":\"", 3),
        code: 1,
    },
    Tamper {
        what: "details moved to another leaf",
        how: |d, _| {
            change(&d.join("details.ndjson"), |b| {
                let text = String::from_utf8(b.clone()).expect("text");
                *b = text
                    .replacen("\"index\":3,", "\"index\":X,", 1)
                    .replacen("\"index\":5,", "\"index\":3,", 1)
                    .replacen("\"index\":X,", "\"index\":5,", 1)
                    .into_bytes();
                assert_ne!(text.as_bytes(), b);
            })
        },
        code: 1,
    },
];

#[test]
fn whatever_is_tampered_with_both_verifiers_say_the_same() {
    let stack = Stack::shared();
    let (_, _, _, logs, key) = signed_tenant(stack, "log-tamper");
    let other = tenant_log(&logs, &key);
    let vkey = line(&logs.join(&key).join("vkey"));
    let work = stack.folder("log-tamper/work");
    for (n, tamper) in TAMPERS.iter().enumerate() {
        let dir = work.join(n.to_string());
        copy_dir(&logs.join(&key), &dir);
        (tamper.how)(&dir, &other);
        let cli = elsewhere(stack, &format!("tamper-{n}"));
        let out = cli.run(&["log", "audit", &text(&dir), "--vkey", &vkey]);
        let (code, said) = verify_log_py(&dir, &["--vkey", &vkey]);
        assert_eq!(
            (out.code, code),
            (tamper.code, tamper.code),
            "{}\n{}{}\n{said}",
            tamper.what,
            out.stdout,
            out.stderr
        );
        let word = match tamper.code {
            0 => "GOOD",
            1 => "BAD",
            _ => "UNDECIDED",
        };
        assert!(out.says(word), "{}: {out:?}", tamper.what);
    }
    // A file cannot be paired where its details are gone: that is no proof of anything.
    let dir = text(&work.join("15"));
    let exe = text(&stack.path("log-tamper/files/a.exe"));
    let out = elsewhere(stack, "tamper-files")
        .run(&["log", "audit", &dir, "--vkey", &vkey, "--files", &exe]);
    assert_eq!(out.code, 2, "{out:?}");
}
