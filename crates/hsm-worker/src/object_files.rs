//! SoftHSM's object files, looked at from outside: whether a crash cut one short.
//!
//! SoftHSM writes an object into its file in place. A machine that dies in the middle leaves a torn
//! file, and the module then says that the object does not exist. Whoever misses a key asks here
//! first, so that an operator is told which file to restore instead of "no such key".
//!
//! Format: SoftHSM 2, `src/lib/object_store/ObjectFile.cpp` and `File.cpp`. Numbers have eight
//! bytes, big-endian. A generation; then for each attribute its type, its kind, its value.

use std::path::{Path, PathBuf};

/// `CKA_CLASS` and `CKA_ID` (PKCS#11 v3.1 §4.1.1, §4.7.1).
const CLASS: u64 = 0x0;
const ID: u64 = 0x102;
/// `CKO_PUBLIC_KEY`, `CKO_PRIVATE_KEY`.
const KEYS: [u64; 2] = [2, 3];
/// An object of ours has some kilobytes.
const MOST: u64 = 1 << 20;

/// The torn object files of all tokens below SoftHSM's `tokendir`, with what is wrong. Another
/// process may be writing one at this moment: ask when something is missed, not to find out whether.
#[must_use]
pub fn torn(tokens: &Path) -> Vec<(PathBuf, String)> {
    let entries = |folder: &Path| {
        let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
        entries.map(|e| e.path()).collect::<Vec<_>>()
    };
    let mut found: Vec<_> = entries(tokens)
        .iter()
        .flat_map(|token| entries(token))
        // The token's own (`token.object`) is no object; without it there is no token to miss a key in.
        .filter(|file| {
            file.extension().is_some_and(|e| e == "object")
                && file.file_stem().is_some_and(|stem| stem != "token")
        })
        .filter_map(|file| {
            let size = std::fs::metadata(&file).ok()?.len();
            if size > MOST {
                return None;
            }
            let fault = fault(&std::fs::read(&file).ok()?)?;
            Some((file, fault))
        })
        .collect();
    found.sort_unstable();
    found
}

/// What is wrong with an object file; `None` if it is whole.
fn fault(bytes: &[u8]) -> Option<String> {
    let cut = |at: usize| Some(format!("it ends inside the attribute at byte {at}"));
    if bytes.is_empty() {
        return Some("it is empty".to_owned());
    }
    let Some((_generation, mut rest)) = number(bytes) else {
        return cut(0);
    };
    let (mut class, mut id) = (None, false);
    while !rest.is_empty() {
        let at = bytes.len() - rest.len();
        let head = number(rest).and_then(|(attribute, rest)| {
            let (kind, rest) = number(rest)?;
            Some((attribute, kind, rest))
        });
        let Some((attribute, kind, value)) = head else {
            return cut(at);
        };
        let length = match kind {
            // A truth value, a number.
            1 => Some(1),
            2 => Some(8),
            // Bytes, and attributes in an attribute, by their length.
            3 | 4 => number(value).and_then(|(n, _)| usize::try_from(n).ok()?.checked_add(8)),
            // Mechanisms, by their count.
            5 => number(value).and_then(|(n, _)| {
                let bytes = usize::try_from(n).ok()?.checked_mul(8)?;
                bytes.checked_add(8)
            }),
            other => return Some(format!("byte {at}: an attribute of unknown kind {other}")),
        };
        let Some(next) = length.and_then(|length| value.get(length..)) else {
            return cut(at);
        };
        match attribute {
            CLASS => class = number(value).map(|(class, _)| class),
            ID => id = true,
            _ => {}
        }
        rest = next;
    }
    match class {
        None => Some("it has no class".to_owned()),
        Some(class) if KEYS.contains(&class) && !id => Some("a key without an id".to_owned()),
        Some(_) => None,
    }
}

fn number(bytes: &[u8]) -> Option<(u64, &[u8])> {
    let (head, rest) = bytes.split_first_chunk::<8>()?;
    Some((u64::from_be_bytes(*head), rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn object() -> Vec<u8> {
        let numbers = |all: &[u64]| {
            let bytes = all.iter().flat_map(|n| n.to_be_bytes());
            bytes.collect::<Vec<u8>>()
        };
        // Generation, CKA_CLASS = CKO_PRIVATE_KEY, CKA_TOKEN = true.
        let mut bytes = numbers(&[7, CLASS, 2, 3, 1, 1]);
        bytes.push(0xff);
        // CKA_ID = "id".
        bytes.extend(numbers(&[ID, 3, 2]));
        bytes.extend_from_slice(b"id");
        // CKA_ALLOWED_MECHANISMS, one of them.
        bytes.extend(numbers(&[0x4000_0600, 5, 1, 0x1041]));
        bytes
    }

    #[test]
    fn a_whole_file_is_whole_and_every_shorter_one_without_its_id_is_torn() {
        let whole = object();
        assert_eq!(fault(&whole), None);
        let id_ends = whole.len() - 32;
        for length in 0..whole.len() {
            // Cut at the border of two attributes behind the id it only lacks what comes last.
            let expected = length != id_ends;
            let part = whole.get(..length).unwrap_or_default();
            assert_eq!(fault(part).is_some(), expected, "{length} bytes");
        }
        let mut other = whole;
        if let Some(kind) = other.get_mut(23) {
            *kind = 9;
        }
        assert!(fault(&other).is_some_and(|f| f.contains("unknown kind 9")));
    }
}
