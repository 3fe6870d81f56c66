//! Bits that no signature covers, found by what they are, never by which file they are in.

use crate::cases::Case;
use countersign_attestation::Outcome;
use countersign_attestation::certificate::Certificate;
use countersign_attestation::result::AttestationResult;
use countersign_attestation::verify::parts::bytes_of_text;
use countersign_attestation::verify::{Content, File, Pool};
use serde_json::Value;

/// Members of the JSON of Google's and Azure's interfaces whose value nobody signed, and which say
/// nothing that the evidence says too: another value is no contradiction.
const UNSIGNED_VALUES: [&str; 2] = [
    // Whether the owner lets the key be used today.
    "/attributes/enabled",
    // Its address at the service.
    "/key/kid",
];

/// Members that are compared with the evidence, or demanded, where they stand. A flip in their name
/// makes another member of them, which is not read; all of them may be missing.
const OPTIONAL_MEMBERS: [&str; 11] = [
    "/name",
    "/protectionLevel",
    "/attributes/enabled",
    // The preview had none; its blobs were the same.
    "/attributes/attestation/version",
    // The private object names the key.
    "/attributes/attestation/publicKeyAttestation",
    "/key",
    "/key/kid",
    "/key/kty",
    "/key/crv",
    "/key/x",
    "/key/y",
];

/// What the inputs unpack to: kind in words, bytes, where it came from.
type Parts = Vec<(String, Vec<u8>, String)>;

/// The accepted case that mutants are compared with.
pub struct Exceptions<'a> {
    case: &'a Case,
    whole: &'a AttestationResult,
    parts: Parts,
}

fn parts(case: &Case) -> Parts {
    let pool = Pool::of(&case.borrowed());
    let inside = pool
        .parts()
        .filter(|(_, p)| !matches!(p.content, Content::Wrapper(_)));
    inside
        .map(|(id, p)| (p.what(), p.bytes.clone(), pool.name(id).to_owned()))
        .collect()
}

/// What `a` has and `b` has not, wherever it stands.
fn without(a: &Parts, b: &Parts) -> Parts {
    let mut out = a.clone();
    out.retain(|(what, bytes, _)| !b.iter().any(|(w, y, _)| w == what && y == bytes));
    out
}

fn is_unused((what, _, name): &(String, Vec<u8>, String), result: &AttestationResult) -> bool {
    let mut unused = result.unused.iter();
    unused.any(|u| {
        (name == &u.name || name.starts_with(&format!("{},", u.name)))
            && u.what.contains(what.as_str())
    })
}

impl<'a> Exceptions<'a> {
    pub fn new(case: &'a Case, whole: &'a AttestationResult) -> Self {
        Self {
            case,
            whole,
            parts: parts(case),
        }
    }

    /// Why an accepted mutant may be accepted; else what makes it wrong.
    pub fn reason(
        &self,
        mutant: &Case,
        result: &AttestationResult,
        (file, byte, bit): (usize, usize, u8),
    ) -> Result<&'static str, String> {
        if result.facts != self.whole.facts {
            return Err("another fact is proved".into());
        }
        let now = parts(mutant);
        let lost = without(&self.parts, &now);
        let new = without(&now, &self.parts);
        let bytes = &self.case.files[file].bytes;
        if lost.is_empty() && new.is_empty() {
            return armour(bytes, byte, bit);
        }
        if let ([one], [other]) = (lost.as_slice(), new.as_slice())
            && let (Ok(a), Ok(b)) = (
                serde_json::from_slice::<Value>(&one.1),
                serde_json::from_slice::<Value>(&other.1),
            )
        {
            return self.json(&a, &b, result);
        }
        if let Some(why) = self.all_uncovered(&lost, &new) {
            return Ok(why);
        }
        let idle = lost.iter().all(|p| is_unused(p, self.whole))
            && new.iter().all(|p| is_unused(p, result));
        if idle {
            return Ok("in a part that acceptance does not rest on, listed as unused");
        }
        let names = |p: &Parts| {
            let all: Vec<&str> = p.iter().map(|(w, ..)| w.as_str()).collect();
            all.join(", ")
        };
        let inside: Vec<String> = lost
            .iter()
            .zip(&new)
            .flat_map(|(a, b)| {
                let first = a.1.iter().zip(&b.1).position(|(x, y)| x != y);
                let first = first.unwrap_or(a.1.len());
                let all = certificates_in(&a.1).into_iter();
                let here = all.filter(move |(at, c)| (*at..at + c.len()).contains(&first));
                here.map(move |(at, c)| {
                    let c = Certificate::from_der(c).unwrap();
                    format!("{} + {}", c.subject(), first - at)
                })
                .chain([format!("offset {first}")])
            })
            .collect();
        Err(format!(
            "was {}; is {}, in {inside:?}",
            names(&lost),
            names(&new)
        ))
    }
}

impl Exceptions<'_> {
    /// JSON that differs only where nothing is signed.
    fn json(
        &self,
        a: &Value,
        b: &Value,
        result: &AttestationResult,
    ) -> Result<&'static str, String> {
        let mut places = Vec::new();
        differences(a, b, "", &mut places);
        match places.as_slice() {
            [] => return Ok("white space or escapes in JSON: the same value"),
            [(_, Some(x), Some(y))] if same_bytes(x, y) => {
                return Ok("base64 or PEM armour in a JSON text: the same bytes come out");
            }
            [(_, Some(x), Some(y))] => {
                let (x, y) = (texts(x), texts(y));
                let (lost, new) = (without(&x, &y), without(&y, &x));
                if lost.is_empty() && new.is_empty() && !x.is_empty() {
                    return Ok("armour or gzip in a JSON text: the same bytes come out");
                }
                if let Some(why) = self.all_uncovered(&lost, &new) {
                    return Ok(why);
                }
                if !lost.is_empty()
                    && lost
                        .iter()
                        .all(|p| self.is_of_unjudged_owner(p, &x, result))
                {
                    return Ok(
                        "in a certificate of the partition's owner, whom Azure chains to no root: \
                         the result says that chain is not checked",
                    );
                }
            }
            _ => {}
        }
        let lost = || places.iter().filter(|(_, old, _)| old.is_some());
        if let [(name, Some(_), Some(_))] = places.as_slice()
            && UNSIGNED_VALUES.contains(&name.as_str())
        {
            return Ok("the value of a member of a cloud's JSON that is no part of the evidence");
        }
        // One member less, and one more, whose name nobody knows.
        if lost().count() == 1
            && lost()
                .all(|(name, _, now)| now.is_none() && OPTIONAL_MEMBERS.contains(&name.as_str()))
        {
            return Ok("the name of a member of a cloud's JSON that may be missing");
        }
        let names: Vec<&str> = places.iter().map(|(p, ..)| p.as_str()).collect();
        Err(format!("JSON differs at {}", names.join(", ")))
    }

    /// Whether a certificate stands under a self-signed one that is no anchor, in evidence whose
    /// result says that the owner's chain is not checked.
    fn is_of_unjudged_owner(
        &self,
        (_, bytes, _): &(String, Vec<u8>, String),
        among: &Parts,
        result: &AttestationResult,
    ) -> bool {
        let unjudged = result
            .check("marvell-owner-chain")
            .is_some_and(|c| c.outcome == Outcome::NotChecked);
        let self_made = |c: &Certificate| c.is_self_issued() && !self.case.names_anchor(c);
        let under_one = |c: &Certificate| {
            among.iter().any(|(_, other, _)| {
                Certificate::from_der(other)
                    .is_ok_and(|o| self_made(&o) && c.issuer().matches(o.subject()))
            })
        };
        unjudged && Certificate::from_der(bytes).is_ok_and(|c| under_one(&c))
    }

    /// Why nothing that was lost is covered by a signature that counts; `None` if something is.
    fn all_uncovered(&self, lost: &Parts, new: &Parts) -> Option<&'static str> {
        const COPY: &str = "in a copy of an anchor: the anchor counts, not the copy";
        const PKCS7: &str = "in PKCS#7 beside its certificates, which nothing signs";
        const KEY_ID: &str = "in the key id beside a signer's certificate of Crypto4A: nothing signs \
             it, and the certificate counts, not the id";
        let mut why = None;
        for (what, bytes, _) in lost {
            if self.is_copy(bytes) {
                why = Some(COPY);
                continue;
            }
            // A container: where the change stands in it.
            let same = |(w, b, _): &&(String, Vec<u8>, String)| {
                w.split(',').next() == what.split(',').next() && b.len() == bytes.len()
            };
            let (_, now, _) = new.iter().find(same)?;
            let first = bytes.iter().zip(now).position(|(x, y)| x != y)?;
            let inside: Vec<_> = certificates_in(bytes)
                .into_iter()
                .filter(|(at, c)| (*at..at + c.len()).contains(&first))
                .collect();
            if inside.iter().any(|(_, c)| self.is_copy(c)) {
                why = Some(COPY);
            } else if what == "PKCS#7 SignedData" && inside.is_empty() {
                why = Some(PKCS7);
            } else if is_signers_key_id(bytes, first) {
                why = Some(KEY_ID);
            } else {
                return None;
            }
        }
        why
    }

    fn is_copy(&self, der: &[u8]) -> bool {
        Certificate::from_der(der).is_ok_and(|c| c.is_self_issued() && self.case.names_anchor(&c))
    }
}

/// Whether `at` stands in `[0] { OCTET STRING (16 bytes) }` right before `[2] { Certificate }`: the
/// head of a signature block in a message of Crypto4A, and of no other format.
fn is_signers_key_id(bytes: &[u8], at: usize) -> bool {
    (at.saturating_sub(19)..=at.saturating_sub(4)).any(|start| {
        let head = bytes.get(start..start + 4) == Some(&[0xa0, 0x12, 0x04, 0x10]);
        let next = bytes.get(start + 20) == Some(&0xa2);
        head && next && (start + 4..start + 20).contains(&at)
    })
}

/// Certificates anywhere in `bytes`, with where they start.
fn certificates_in(bytes: &[u8]) -> Vec<(usize, &[u8])> {
    let at = |i: usize| {
        let head = <[u8; 4]>::try_from(bytes.get(i..i + 4)?).ok()?;
        let [0x30, 0x82, high, low] = head else {
            return None;
        };
        let length = 4 + usize::from(u16::from_be_bytes([high, low]));
        let der = bytes.get(i..i + length)?;
        Certificate::from_der(der).is_ok().then_some((i, der))
    };
    (0..bytes.len()).filter_map(at).collect()
}

/// What a JSON text unpacks to: base64 of DER, PEM, or base64 of PEM.
fn texts(value: &Value) -> Parts {
    let text = value.as_str().unwrap_or_default().as_bytes();
    let file = File {
        name: "text",
        bytes: text,
    };
    let pool = Pool::of(&[file]);
    let inside = pool
        .parts()
        .filter(|(_, p)| !matches!(p.content, Content::Wrapper(_)));
    inside
        .map(|(id, p)| (p.what(), p.bytes.clone(), pool.name(id).to_owned()))
        .collect()
}

/// The same bytes come out of the armour.
fn armour(file: &[u8], byte: usize, bit: u8) -> Result<&'static str, String> {
    if file.starts_with(&[0x1f, 0x8b]) {
        // RFC 1952 §2.3.1: FLG bit 0 is FTEXT, then MTIME, XFL, OS.
        return match (byte, bit) {
            (3, 0) => Ok("gzip's FTEXT flag: a hint"),
            (4..=7, _) => Ok("gzip's modification time"),
            (8, _) => Ok("gzip's XFL: a hint"),
            (9, _) => Ok("gzip's operating system"),
            // RFC 1951 §3.2.4: a stored block's header is padded to a whole byte.
            (10, 3..) if file.get(10).is_some_and(|b| b & 6 == 0) => {
                Ok("padding before a stored block of gzip")
            }
            // RFC 1951 §3.2.5: one text has many spellings, by matches at other distances and codes
            // that are never used. The trailer (CRC-32, length) has one.
            (10.., _) if byte + 8 < file.len() => {
                Ok("gzip's compressed data: another spelling of the same bytes")
            }
            _ => Err("in gzip's head or trailer, and the same bytes come out".into()),
        };
    }
    let Ok(text) = std::str::from_utf8(file) else {
        return Err("in no armour, and the same bytes come out".into());
    };
    let in_block = text
        .get(..byte)
        .is_some_and(|before| before.rfind("-----BEGIN ") > before.rfind("-----END "));
    if text.contains("-----BEGIN ") && !in_block {
        return Ok("text around PEM blocks");
    }
    Ok("base64 padding, or white space in it: the same bytes come out")
}

fn same_bytes(a: &Value, b: &Value) -> bool {
    let bytes = |v: &Value| v.as_str().and_then(bytes_of_text);
    bytes(a).is_some() && bytes(a) == bytes(b)
}

/// Pointers to what differs (RFC 6901), with both values.
fn differences(
    a: &Value,
    b: &Value,
    at: &str,
    out: &mut Vec<(String, Option<Value>, Option<Value>)>,
) {
    match (a, b) {
        (Value::Object(x), Value::Object(y)) => {
            for (k, v) in x {
                match y.get(k) {
                    Some(w) => differences(v, w, &format!("{at}/{k}"), out),
                    None => out.push((format!("{at}/{k}"), Some(v.clone()), None)),
                }
            }
            for (k, w) in y.iter().filter(|(k, _)| !x.contains_key(*k)) {
                out.push((format!("{at}/{k}"), None, Some(w.clone())));
            }
        }
        (Value::Array(x), Value::Array(y)) if x.len() == y.len() => {
            for (i, (v, w)) in x.iter().zip(y).enumerate() {
                differences(v, w, &format!("{at}/{i}"), out);
            }
        }
        _ if a == b => {}
        _ => out.push((at.to_owned(), Some(a.clone()), Some(b.clone()))),
    }
}
