//! What tpm2-pkcs11 keeps of a token, and how a key's authorisation value follows from the PIN.
//!
//! Its layout is private to the module, so everything that is relied on is compared with what version
//! 1.9 writes (`src/lib/db.c`, schema 8; seen): another layout is refused, never guessed at.
//!
//! ```text
//! auth of the sealed object = first 32 hex digits of SHA-256(PIN || salt)
//! sealed object             = 64 hex digits: an AES-256 key
//! CKA_TPM2_OBJAUTH_ENC      = iv:tag:ciphertext in hex, AES-256-GCM → 32 characters, the key's auth
//! ```

use super::sqlite::{Database, FormatError};
use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use aws_lc_rs::digest::{Context, SHA256};
use countersign_hsm_protocol::{EvidenceProblem, WorkerError};
use secrecy::{ExposeSecret, SecretString};
use std::fs::{File, Metadata};
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::Duration;
use zeroize::Zeroizing;

/// The variable that names the folder.
pub const FOLDER: &str = "TPM2_PKCS11_STORE";
const FILE: &str = "tpm2_pkcs11.sqlite3";
/// A store with thousands of keys has some megabytes.
const MAX_STORE: u64 = 64 << 20;
const SCHEMA_VERSION: i64 = 8;
/// Tries of a file that is being changed.
const TRIES: u32 = 20;
const BETWEEN: Duration = Duration::from_millis(25);

const TOKENS: &str = "CREATE TABLE tokens(id INTEGER PRIMARY KEY,pid INTEGER NOT NULL,label TEXT UNIQUE,\
                      config TEXT NOT NULL,FOREIGN KEY (pid) REFERENCES pobjects(id) ON DELETE CASCADE)";
const SEALED: &str = "CREATE TABLE sealobjects(id INTEGER PRIMARY KEY,tokid INTEGER NOT NULL,userpub BLOB,\
                      userpriv BLOB,userauthsalt TEXT,sopub BLOB NOT NULL,sopriv BLOB NOT NULL,\
                      soauthsalt TEXT NOT NULL,FOREIGN KEY (tokid) REFERENCES tokens(id) ON DELETE CASCADE)";
const PARENTS: &str = "CREATE TABLE pobjects(id INTEGER PRIMARY KEY,hierarchy TEXT NOT NULL,config TEXT NOT NULL,\
                       objauth TEXT NOT NULL)";
const SCHEMA: &str = "CREATE TABLE schema(id INTEGER PRIMARY KEY,schema_version INTEGER NOT NULL)";

/// What opens a token's keys, sealed by the TPM under the PIN.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sealed {
    /// Persistent handle of the storage key above the token's keys.
    pub parent: u32,
    /// TPM2B_PUBLIC of the sealed object.
    pub public: Vec<u8>,
    /// TPM2B_PRIVATE of it.
    pub private: Vec<u8>,
    /// Goes with the PIN into its authorisation value.
    pub salt: String,
}

/// The module's store, held open for ever: closing a file ends all locks that this process has on it
/// (fcntl(2)), also those that the module holds in another thread.
#[derive(Debug, Default)]
pub struct Store {
    open: Mutex<Option<Open>>,
}

#[derive(Debug)]
struct Open {
    path: PathBuf,
    file: File,
}

impl Store {
    /// What is kept of the token with this label.
    ///
    /// # Errors
    /// [`EvidenceProblem::Store`], [`EvidenceProblem::StoreBusy`].
    pub fn sealed(&self, folder: &Path, label: &str) -> Result<Sealed, EvidenceProblem> {
        let path = folder.join(FILE);
        let mut open = crate::logs::lock(&self.open);
        if open.is_none() {
            let file = File::open(&path).map_err(|e| broken(&path, e))?;
            *open = Some(Open { path, file });
        }
        let store = open.as_ref().ok_or(EvidenceProblem::StoreBusy)?;
        let bytes = store.read()?;
        sealed(&bytes, label).map_err(|problem| broken(&store.path, problem))
    }
}

impl Open {
    /// The whole file, as it was between two changes. SQLite writes a journal beside it first, changes
    /// the counter in its header last, and then deletes the journal.
    fn read(&self) -> Result<Vec<u8>, EvidenceProblem> {
        let failed = |e: io::Error| broken(&self.path, e);
        for _ in 0..TRIES {
            if !self.journal() {
                let before = self.file.metadata().map_err(failed)?;
                self.same_file(&before)?;
                if before.len() > MAX_STORE {
                    return Err(broken(&self.path, "it is larger than any we know"));
                }
                let mut bytes = vec![0; usize::try_from(before.len()).unwrap_or(0)];
                self.file.read_exact_at(&mut bytes, 0).map_err(failed)?;
                // §1.3.7: the file change counter.
                let mut counter = [0; 4];
                self.file.read_exact_at(&mut counter, 24).map_err(failed)?;
                if !self.journal() && bytes.get(24..28) == Some(&counter[..]) {
                    return Ok(bytes);
                }
            }
            std::thread::sleep(BETWEEN);
        }
        Err(EvidenceProblem::StoreBusy)
    }

    fn journal(&self) -> bool {
        let mut path = self.path.clone().into_os_string();
        path.push("-journal");
        std::fs::metadata(PathBuf::from(path)).is_ok_and(|m| m.len() > 0)
    }

    fn same_file(&self, ours: &Metadata) -> Result<(), EvidenceProblem> {
        let there = std::fs::metadata(&self.path).map_err(|e| broken(&self.path, e))?;
        if (there.dev(), there.ino()) == (ours.dev(), ours.ino()) {
            Ok(())
        } else {
            Err(broken(
                &self.path,
                "it was replaced while the worker runs: restart the worker",
            ))
        }
    }
}

fn sealed(bytes: &[u8], label: &str) -> Result<Sealed, String> {
    let text = |e: FormatError| e.to_string();
    let store = Database::open(bytes).map_err(text)?;
    let rows = |table, made_by| store.rows(table, made_by).map_err(text);
    match rows("schema", SCHEMA)?.as_slice() {
        [only] if only.integer(1) == Some(SCHEMA_VERSION) => {}
        other => {
            let seen = other.first().and_then(|r| r.integer(1));
            return Err(format!("its schema is {seen:?}, known is {SCHEMA_VERSION}"));
        }
    }
    let tokens = rows("tokens", TOKENS)?;
    // `label` is UNIQUE.
    let token = tokens.iter().find(|t| t.text(2) == Some(label));
    let token = token.ok_or_else(|| format!("it has no token labelled `{label}`"))?;
    let parents = rows("pobjects", PARENTS)?;
    let parent = parents.iter().find(|p| Some(p.number) == token.integer(1));
    let parent = parent.ok_or("the token has no storage key")?;
    // What `tpm2_ptool` can make and nobody here has run.
    if parent.text(1) != Some("o") || parent.text(3) != Some("") {
        return Err("the storage key has an authorisation value, or is not the owner's".into());
    }
    let handle = parent.text(2).and_then(persistent_handle);
    let handle = handle.ok_or("the storage key has no persistent handle")?;
    let sealed = rows("sealobjects", SEALED)?;
    let mut sealed = sealed.iter().filter(|s| s.integer(1) == Some(token.number));
    let (Some(sealed), None) = (sealed.next(), sealed.next()) else {
        return Err("the token has not exactly one sealed object".into());
    };
    let (Some(public), Some(private), Some(salt)) =
        (sealed.blob(2), sealed.blob(3), sealed.text(4))
    else {
        return Err("the token has no user PIN".into());
    };
    Ok(Sealed {
        parent: handle,
        public: public.to_vec(),
        private: private.to_vec(),
        salt: salt.to_owned(),
    })
}

/// The storage key's `config`, as libyaml writes a map of texts: `? !!str "KEY"`, then `: !!str "VALUE",`.
fn persistent_handle(config: &str) -> Option<u32> {
    let value = |key: &str| {
        let mut lines = config.lines().map(str::trim);
        lines.find(|l| *l == format!("? !!str \"{key}\""))?;
        let value = lines.next()?.strip_prefix(": !!")?;
        let value = value.split_once(" \"")?.1;
        value.strip_suffix(",").unwrap_or(value).strip_suffix('"')
    };
    if value("transient")? != "false" {
        return None;
    }
    // `Esys_TR_Serialize`: the TPM's handle first.
    let handle = value("esys-tr")?.get(..8)?;
    let handle = u32::from_str_radix(handle, 16).ok()?;
    // TPM_HT_PERSISTENT, the owner's half (part 2 §7.2).
    (0x8100_0000..0x8180_0000)
        .contains(&handle)
        .then_some(handle)
}

/// The authorisation value of the sealed object.
#[must_use]
pub fn seal_auth(pin: &SecretString, salt: &str) -> Zeroizing<String> {
    let mut hash = Context::new(&SHA256);
    hash.update(pin.expose_secret().as_bytes());
    hash.update(salt.as_bytes());
    let mut text = Zeroizing::new(hex::encode(hash.finish()));
    text.truncate(32);
    text
}

/// A key's authorisation value, from what the sealed object holds and what the module shows of the key.
///
/// # Errors
/// [`EvidenceProblem::Store`] if it is not as the module writes it, or was changed.
pub fn key_auth(unsealed: &[u8], encrypted: &[u8]) -> Result<Zeroizing<Vec<u8>>, EvidenceProblem> {
    let bad = |problem: &str| EvidenceProblem::Store {
        problem: problem.into(),
    };
    let mut wrapping = Zeroizing::new([0_u8; 32]);
    hex::decode_to_slice(unsealed, wrapping.as_mut())
        .map_err(|_| bad("the sealed object holds no key"))?;
    // The module counts a closing NUL with some texts.
    let text = std::str::from_utf8(encrypted).unwrap_or_default();
    let parts: Vec<_> = text.trim_end_matches('\0').split(':').collect();
    let &[iv, tag, ciphertext] = parts.as_slice() else {
        return Err(bad("a key's authorisation value is not iv:tag:ciphertext"));
    };
    let from_hex = |text: &str| hex::decode(text).map_err(|_| bad("not hex"));
    let iv: [u8; 12] = from_hex(iv)?
        .try_into()
        .map_err(|_| bad("an IV that has not 12 bytes"))?;
    let mut sealed = Zeroizing::new(from_hex(ciphertext)?);
    let tag = from_hex(tag)?;
    if tag.len() != 16 {
        return Err(bad("a tag that has not 16 bytes"));
    }
    sealed.extend_from_slice(&tag);
    let key = UnboundKey::new(&AES_256_GCM, wrapping.as_ref())
        .map(LessSafeKey::new)
        .map_err(|_| bad("no AES key"))?;
    let open = key
        .open_in_place(
            Nonce::assume_unique_for_key(iv),
            Aad::empty(),
            sealed.as_mut_slice(),
        )
        .map_err(|_| bad("a key's authorisation value does not open"))?;
    Ok(Zeroizing::new(open.to_vec()))
}

fn broken(path: &Path, problem: impl ToString) -> EvidenceProblem {
    EvidenceProblem::Store {
        problem: format!("{}: {}", path.display(), problem.to_string()),
    }
}

/// The folder of the store, from the token's environment.
///
/// # Errors
/// [`EvidenceProblem::Unconfigured`].
pub fn folder() -> Result<PathBuf, WorkerError> {
    std::env::var_os(FOLDER)
        .filter(|f| !f.is_empty())
        .map(PathBuf::from)
        .ok_or_else(|| {
            EvidenceProblem::Unconfigured {
                variable: FOLDER.into(),
                problem: "is not set".into(),
            }
            .into()
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A store as tpm2-pkcs11 1.9.0 wrote it: token `codesign`, PIN `user1234`, one key.
    const STORE: &[u8] = include_bytes!("testdata/store.sqlite3");

    #[test]
    fn a_token_is_found_in_the_modules_own_store() {
        let found = sealed(STORE, "codesign").unwrap();
        assert_eq!(found.parent, 0x8100_0001);
        assert_eq!(found.public.len(), 48);
        assert!(found.private.starts_with(&[0, 0xbe]));
        assert!(found.salt.starts_with("345d49c50c17"));
        let pin = SecretString::from("user1234");
        // By Python's hashlib.
        assert_eq!(
            *seal_auth(&pin, &found.salt),
            "89810c62baca494027d6f747a37da6fd"
        );
        assert_eq!(
            sealed(STORE, "other").unwrap_err(),
            "it has no token labelled `other`"
        );
    }

    #[test]
    fn another_layout_is_refused() {
        let with = |old: &[u8], new: &[u8]| {
            assert_eq!(old.len(), new.len());
            let at = STORE.windows(old.len()).position(|w| w == old).unwrap();
            let mut other = STORE.to_vec();
            other[at..at + new.len()].copy_from_slice(new);
            sealed(&other, "codesign").unwrap_err()
        };
        let columns = "a table has other columns than are known";
        assert_eq!(with(b"userauthsalt TEXT", b"userauthsals TEXT"), columns);
        assert_eq!(
            with(b"tablesealobjects", b"tablesealobjectz"),
            "a table is missing"
        );
        assert!(with(b"!!bool \"false\"", b"!!bool \"true \"").contains("no persistent handle"));
        assert!(with(b"\"81000001", b"\"80000001").contains("no persistent handle"));
        assert_eq!(
            with(b"SQLite format 3", b"SQLite format 4"),
            "not a SQLite file"
        );
        let mut log = STORE.to_vec();
        log[18] = 2;
        assert_eq!(
            sealed(&log, "codesign").unwrap_err(),
            "it has a write-ahead log"
        );
        // The last byte of the last page is the one row of `schema`.
        let mut newer = STORE.to_vec();
        assert_eq!(newer.pop(), Some(8));
        newer.push(9);
        assert_eq!(
            sealed(&newer, "codesign").unwrap_err(),
            "its schema is Some(9), known is 8"
        );
    }

    #[test]
    fn no_cut_and_no_changed_byte_is_read_past_its_end() {
        // Every page's head and what points into it, and a part of the rest.
        for at in (0..STORE.len()).filter(|at| at % 4096 < 128 || at % 61 == 0) {
            for flip in [0x01, 0x80, 0xff] {
                let mut other = STORE.to_vec();
                other[at] ^= flip;
                let _ = sealed(&other, "codesign");
            }
        }
        for length in (0..STORE.len()).step_by(97) {
            assert!(sealed(&STORE[..length], "codesign").is_err(), "{length}");
        }
    }

    #[test]
    fn a_keys_auth_opens_with_what_was_sealed_alone() {
        let wrapping = [7_u8; 32];
        let key = LessSafeKey::new(UnboundKey::new(&AES_256_GCM, &wrapping).unwrap());
        let mut text = b"0123456789abcdef0123456789abcdef".to_vec();
        let tag = key
            .seal_in_place_separate_tag(
                Nonce::assume_unique_for_key([1; 12]),
                Aad::empty(),
                &mut text,
            )
            .unwrap();
        let (iv, tag) = (hex::encode([1; 12]), hex::encode(tag.as_ref()));
        let stored = format!("{iv}:{tag}:{}", hex::encode(&text));
        let unsealed = hex::encode(wrapping);
        let auth = key_auth(unsealed.as_bytes(), stored.as_bytes()).unwrap();
        assert_eq!(auth.as_slice(), b"0123456789abcdef0123456789abcdef");
        for (unsealed, stored) in [
            (hex::encode([8; 32]), stored.clone()),
            (unsealed.clone(), stored.replace(&tag, &tag[2..])),
            (unsealed.clone(), stored.replace(':', ";")),
            (unsealed, format!("{stored}00")),
        ] {
            assert!(key_auth(unsealed.as_bytes(), stored.as_bytes()).is_err());
        }
    }

    #[test]
    fn a_store_that_is_being_changed_or_was_replaced_is_not_read() {
        let t = tempfile::tempdir().unwrap();
        let file = t.path().join(FILE);
        std::fs::write(&file, STORE).unwrap();
        let store = Store::default();
        assert!(store.sealed(t.path(), "codesign").is_ok());
        let journal = t.path().join(format!("{FILE}-journal"));
        std::fs::write(&journal, b"pages").unwrap();
        assert_eq!(
            store.sealed(t.path(), "codesign"),
            Err(EvidenceProblem::StoreBusy)
        );
        std::fs::remove_file(&journal).unwrap();
        assert!(store.sealed(t.path(), "codesign").is_ok());
        std::fs::rename(&file, t.path().join("old")).unwrap();
        std::fs::write(&file, STORE).unwrap();
        let replaced = store.sealed(t.path(), "codesign").unwrap_err();
        assert!(replaced.to_string().contains("restart"), "{replaced}");
    }
}
