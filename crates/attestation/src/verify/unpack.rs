//! Takes wrappers off, one by one, until something is recognised.

use super::armour;
use super::cbor;
use super::csr::Csr;
use super::parts::{Content, MAX_DEPTH, Origin, PartId, Pool};
use crate::bundle::{AttestationBundle, ID_AA_ATTESTATION};
use crate::certificate::Certificate;
use crate::der::{DerError, Element, expect, single, tag};
use crate::key::PublicKey;
use flate2::bufread::GzDecoder;
use spki::ObjectIdentifier;
use std::io::Read;

const SIGNED_DATA: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.7.2");
/// Most certificates read from one `SignedData`.
const MAX_CERTIFICATES: usize = 64;
/// Most bytes one gzip file may unpack to. Attestation blobs have a few KiB.
const MAX_GUNZIPPED: u64 = 2 * 1024 * 1024;

/// Unpacks `bytes` into the pool.
pub(super) fn open(
    pool: &mut Pool,
    bytes: &[u8],
    origin: &Origin,
    label: Option<&str>,
    depth: usize,
) {
    if depth > MAX_DEPTH {
        pool.problem(&origin.path, "is wrapped more often than is read");
        return;
    }
    if bytes.is_empty() {
        pool.problem(&origin.path, "is empty");
    } else if bytes.starts_with(&[0x1f, 0x8b, 0x08]) {
        open_gzip(pool, bytes, origin, depth);
    } else if let Ok(element) = single(bytes, "file")
        && (element.tag() == tag::SEQUENCE || label.is_some())
    {
        open_der(pool, &element, origin, label, depth);
    } else if let Some(label) = label {
        pool.problem(&origin.path, "is no DER element");
        pool.push(Content::Binary, bytes, Some(label), origin);
    } else if let Some(value) = json(bytes) {
        // Before PEM: clouds hand out JSON with PEM in its texts.
        let inner = registration(&value);
        let parent = pool.push(Content::Json(Box::new(value)), bytes, None, origin);
        for (name, bytes) in inner.iter().flatten() {
            let at = within(origin, parent, &format!(", {name}"));
            open(pool, bytes, &at, None, depth + 1);
        }
    } else if let Some(blocks) = armour::blocks(bytes) {
        open_blocks(pool, blocks, origin, depth);
    } else {
        open_plain(pool, bytes, origin, depth);
    }
}

/// An object or array in JSON.
fn json(bytes: &[u8]) -> Option<serde_json::Value> {
    let text = std::str::from_utf8(bytes).ok()?;
    let text = text.trim_start_matches('\u{feff}').trim();
    text.starts_with(['{', '['])
        .then(|| serde_json::from_str(text).ok())
        .flatten()
}

/// The two members of a WebAuthn registration in its JSON form (WebAuthn Level 3 §5.1,
/// RegistrationResponseJSON), as browsers hand it over; other JSON has none.
fn registration(value: &serde_json::Value) -> Option<[(&'static str, Vec<u8>); 2]> {
    let response = value.get("response")?;
    let member = |name: &'static str| {
        let text = response.get(name)?.as_str()?;
        Some((name, armour::base64(text.as_bytes())?))
    };
    Some([member("attestationObject")?, member("clientDataJSON")?])
}

fn open_plain(pool: &mut Pool, bytes: &[u8], origin: &Origin, depth: usize) {
    let text = std::str::from_utf8(bytes).ok();
    let trimmed = text.map_or("", |t| t.trim_start_matches('\u{feff}').trim());
    if trimmed.starts_with('<') {
        pool.push(Content::Xml, bytes, None, origin);
    } else if let Some(inner) = text.and_then(|t| armour::base64(t.as_bytes())) {
        let parent = pool.push(Content::Wrapper("base64 text"), bytes, None, origin);
        open(pool, &inner, &within(origin, parent, ""), None, depth + 1);
    } else if text.is_some_and(|t| !t.chars().any(|c| c.is_control() && !c.is_whitespace())) {
        pool.push(Content::Text, bytes, None, origin);
    } else if bytes.first().is_some_and(|b| matches!(b >> 5, 4..=6)) && cbor::parse(bytes).is_some()
    {
        pool.push(Content::Cbor, bytes, None, origin);
    } else {
        pool.push(Content::Binary, bytes, None, origin);
    }
}

fn open_blocks(
    pool: &mut Pool,
    blocks: Vec<Result<armour::Block, armour::ArmourError>>,
    origin: &Origin,
    depth: usize,
) {
    let several = blocks.len() > 1;
    for (i, block) in blocks.into_iter().enumerate() {
        match block {
            Ok(b) => {
                let path = if several {
                    format!(", {} {}", b.label, i + 1)
                } else {
                    String::new()
                };
                let at = within(origin, origin.parent, &path);
                open(pool, &b.bytes, &at, Some(&b.label), depth + 1);
            }
            Err(e) => pool.problem(&origin.path, &format!("cannot be read: {e}")),
        }
    }
}

fn open_gzip(pool: &mut Pool, bytes: &[u8], origin: &Origin, depth: usize) {
    match gunzip(bytes) {
        Err(problem) => pool.problem(&origin.path, problem),
        Ok(out) => {
            if pool.spend(out.len(), &origin.path) {
                let parent = pool.push(Content::Wrapper("gzip file"), bytes, None, origin);
                open(pool, &out, &within(origin, parent, ""), None, depth + 1);
            }
        }
    }
}

/// What one whole gzip file holds, up to 2 MiB; else what is wrong with it, in words.
pub(crate) fn gunzip(bytes: &[u8]) -> Result<Vec<u8>, &'static str> {
    let mut out = Vec::new();
    let mut decoder = GzDecoder::new(bytes);
    let read = decoder
        .by_ref()
        .take(MAX_GUNZIPPED + 1)
        .read_to_end(&mut out);
    let whole = read.is_ok() && decoder.into_inner().is_empty();
    if u64::try_from(out.len()).is_ok_and(|n| n > MAX_GUNZIPPED) {
        Err("unpacks to more than 2 MiB")
    } else if !whole {
        Err("is no whole gzip file")
    } else {
        Ok(out)
    }
}

fn open_der(
    pool: &mut Pool,
    element: &Element<'_>,
    origin: &Origin,
    label: Option<&str>,
    depth: usize,
) {
    let der = element.raw();
    let content = match Certificate::from_der(der) {
        Ok(c) => Content::Certificate(Box::new(c)),
        Err(e) if label == Some("CERTIFICATE") => {
            pool.problem(&origin.path, &format!("is no certificate: {e}"));
            Content::Der
        }
        Err(_) => {
            if let Ok(Some(certificates)) = signed_data(der) {
                let parent = pool.push(Content::SignedData, der, label, origin);
                for (i, c) in certificates.iter().enumerate() {
                    let at = within(origin, parent, &format!(", certificate {}", i + 1));
                    open_der_bytes(pool, c, &at, depth);
                }
                return;
            }
            match Csr::from_der(der) {
                Ok(csr) => return open_csr(pool, csr, der, label, origin, depth),
                Err(e) if label.is_some_and(|l| l.ends_with("CERTIFICATE REQUEST")) => {
                    pool.problem(&origin.path, &format!("cannot be read: {e}"));
                    Content::Der
                }
                Err(_) => match PublicKey::from_spki(der) {
                    Ok(key) => Content::PublicKey(Box::new(key)),
                    Err(_) => match AttestationBundle::parse(der) {
                        Ok(b) => return open_bundle(pool, &b, der, origin, depth),
                        Err(_) => Content::Der,
                    },
                },
            }
        }
    };
    pool.push(content, der, label, origin);
}

/// One element inside a container; what is none is noted.
fn open_der_bytes(pool: &mut Pool, der: &[u8], origin: &Origin, depth: usize) {
    if depth >= MAX_DEPTH {
        pool.problem(&origin.path, "is wrapped more often than is read");
        return;
    }
    match single(der, "element") {
        Ok(element) => open_der(pool, &element, origin, None, depth + 1),
        Err(e) => pool.problem(&origin.path, &format!("cannot be read: {e}")),
    }
}

/// The certificates of a `SignedData` (RFC 5652 §5.1); `None` if it is another kind of content.
fn signed_data(der: &[u8]) -> Result<Option<Vec<Vec<u8>>>, DerError> {
    const F: &str = "SignedData";
    let mut outer = expect(der, tag::SEQUENCE, F)?.walk();
    if outer.next("contentType")?.oid("contentType")? != SIGNED_DATA {
        return Ok(None);
    }
    let content = outer.expect(tag::context(0), F)?.inner(F)?;
    outer.finish(F)?;
    let mut w = content.tagged(tag::SEQUENCE, F)?.walk();
    w.expect(tag::INTEGER, "version")?;
    w.expect(tag::SET, "digestAlgorithms")?;
    w.expect(tag::SEQUENCE, "encapContentInfo")?;
    let Some(set) = w.optional(tag::context(0), "certificates")? else {
        return Ok(Some(Vec::new()));
    };
    let all = set.walk().all(MAX_CERTIFICATES, "certificates")?;
    Ok(Some(all.iter().map(|e| e.raw().to_vec()).collect()))
}

fn open_csr(
    pool: &mut Pool,
    csr: Csr,
    der: &[u8],
    label: Option<&str>,
    origin: &Origin,
    depth: usize,
) {
    let attributes = csr.attributes().to_vec();
    let extensions = csr.extensions();
    let parent = pool.push(Content::Csr(Box::new(csr)), der, label, origin);
    for (kind, values) in &attributes {
        let is_bundle = *kind == ID_AA_ATTESTATION;
        if is_bundle && values.len() != 1 {
            pool.problem(
                &origin.path,
                "has an attestation attribute with not one value",
            );
        }
        for value in values {
            let at = within(origin, parent, &format!(", attribute {kind}"));
            attribute(pool, is_bundle, value, &at, depth);
        }
    }
    match extensions {
        Ok(list) => {
            for (kind, value) in list {
                if kind == ID_AA_ATTESTATION {
                    let at = within(origin, parent, ", attestation extension");
                    attribute(pool, true, &value, &at, depth);
                }
            }
        }
        Err(e) => pool.problem(&origin.path, &format!("cannot be read: {e}")),
    }
}

/// An attribute's value: a bundle must be one; another value may carry certificates.
fn attribute(pool: &mut Pool, is_bundle: bool, value: &[u8], origin: &Origin, depth: usize) {
    if is_bundle {
        match AttestationBundle::parse(value) {
            Ok(b) => open_bundle(pool, &b, value, origin, depth),
            Err(e) => pool.problem(&origin.path, &format!("cannot be read: {e}")),
        }
    } else if let Ok(Some(_)) = signed_data(value) {
        open_der_bytes(pool, value, origin, depth);
    }
}

fn open_bundle(
    pool: &mut Pool,
    bundle: &AttestationBundle,
    der: &[u8],
    origin: &Origin,
    depth: usize,
) {
    let parent = pool.push(Content::Bundle, der, None, origin);
    for (i, a) in bundle.attestations.iter().enumerate() {
        let at = within(origin, parent, &format!(", statement {}", i + 1));
        let content = Content::Statement {
            kind: a.kind.clone(),
            hint: a.hint.clone(),
        };
        let id = pool.push(content, &a.stmt, None, &at);
        inside_statement(pool, &a.stmt, &within(&at, id, ""), depth);
    }
    for (i, c) in bundle.certs.iter().enumerate() {
        let at = within(origin, parent, &format!(", certificate {}", i + 1));
        open_der_bytes(pool, c, &at, depth);
    }
}

/// A statement may carry a vendor's own file: in an OCTET STRING, or as a certificate or PKCS#7.
fn inside_statement(pool: &mut Pool, stmt: &[u8], origin: &Origin, depth: usize) {
    let Ok(element) = single(stmt, "stmt") else {
        return;
    };
    match element.tag() {
        tag::OCTET_STRING | tag::UTF8_STRING | tag::IA5_STRING => {
            open(pool, element.content(), origin, None, depth + 1);
        }
        tag::SEQUENCE => {
            let common = Certificate::from_der(stmt).is_ok()
                || signed_data(stmt).is_ok_and(|found| found.is_some());
            if common {
                open_der_bytes(pool, stmt, origin, depth);
            }
        }
        _ => {}
    }
}

fn within(origin: &Origin, parent: Option<PartId>, more: &str) -> Origin {
    Origin {
        file: origin.file,
        path: format!("{}{more}", origin.path),
        parent,
    }
}
