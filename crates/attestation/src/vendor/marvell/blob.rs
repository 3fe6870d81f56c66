//! The key-attestation blob of LiquidSecurity firmware 3.x ("V2"): bytes to typed values, without
//! judgement. Strict: every length is used up exactly, so nothing in the signed bytes is unread.
//!
//! ```text
//! u32 response code, u32 flags, u32 total size, u32 buffer size, then 8 bytes per key handle
//! buffer:  u16 version, u16 flags, u16 offset of object 1, u16 offset of object 2 or 0
//!          object: u32 handle, u32 attribute count, u32 size, then {u32 type, u32 length, value}
//! 256 bytes signature over all that precedes it
//! ```
//! All numbers are big-endian; offsets count from the buffer's start.

use std::collections::BTreeMap;

/// The signature at the end: RSA-2048 of the partition key.
pub const SIGNATURE_SIZE: usize = 256;
/// The largest blob read. A real one of an EC pair has 2112 bytes; RSA-4096 adds less than 2 KiB.
pub const MAX_BLOB: usize = 64 * 1024;
/// The most attributes of one object. A real one has 35.
const MAX_ATTRIBUTES: u32 = 256;
const RESPONSE_HEADER: usize = 16;
const INFO_HEADER: usize = 8;
/// The largest flags of an answer; real ones are 3 for a pair. Others are refused, not passed over: what is
/// read is exactly what is recognised.
const MAX_FLAGS: u32 = 0xff;
/// Where firmware 2.x and 10.x ("V1") put the attributes.
const V1_OBJECT: usize = 20;

/// Why a blob could not be read. Retrying cannot help.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BlobError {
    /// More than [`MAX_BLOB`].
    #[error("attestation blob: {0} bytes, more than {MAX_BLOB}")]
    TooLarge(usize),
    /// A field lies outside the blob.
    #[error("attestation blob: cut short in {0}")]
    Truncated(&'static str),
    /// The older layout.
    #[error(
        "attestation blob: the layout of firmware 2.x or 10.x (V1); its signature has no padding \
         that could be checked, so it is refused: ask for an attestation by firmware 3.x (V2)"
    )]
    V1,
    /// A field has a value it cannot have.
    #[error("attestation blob: {field} is {found}, not {expected}")]
    Field {
        /// The field.
        field: &'static str,
        /// What stands there.
        found: u64,
        /// What belongs there.
        expected: u64,
    },
    /// The same attribute stands twice in one object.
    #[error("attestation blob: attribute 0x{0:04x} stands twice in one object")]
    Duplicate(u32),
}

/// One key object as the module describes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Object<'a> {
    /// Its handle in the partition.
    pub handle: u32,
    /// Its attributes: type and value as they stand.
    pub attributes: BTreeMap<u32, &'a [u8]>,
}

/// A blob, read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Blob<'a> {
    /// All that the signature covers.
    pub signed: &'a [u8],
    /// The signature.
    pub signature: &'a [u8],
    /// The flags of the answer: 3 for a key pair.
    pub flags: u32,
    /// The flags of the attribute buffer: 3 for a key pair.
    pub buffer_flags: u16,
    /// The handles named in the header, without empty places.
    pub handles: Vec<u64>,
    /// One object, or the two of a key pair.
    pub objects: Vec<Object<'a>>,
}

/// Whether `bytes` begin as a V2 blob does. No promise, but no other format begins so: response
/// code 0, two sizes that differ by signature and header, and then the attribute buffer's start.
#[must_use]
pub fn looks_like_v2(bytes: &[u8]) -> bool {
    let mut r = Reader::new(bytes);
    let (Ok(0), Ok(flags), Ok(total), Ok(buffer)) = (
        r.u32("response code"),
        r.u32("flags"),
        r.u32("total size"),
        r.u32("buffer size"),
    ) else {
        return false;
    };
    (1..=MAX_FLAGS).contains(&flags) && header_size(total, buffer).is_some()
}

/// Whether `bytes` are a V1 blob: one object at byte 20 that ends where the signature begins.
#[must_use]
pub fn looks_like_v1(bytes: &[u8]) -> bool {
    let Some(signed) = bytes.len().checked_sub(SIGNATURE_SIZE) else {
        return false;
    };
    let Some(rest) = bytes.get(V1_OBJECT..signed) else {
        return false;
    };
    let mut r = Reader::new(rest);
    let (Ok(_), Ok(count), Ok(_)) = (r.u32("handle"), r.u32("count"), r.u32("size")) else {
        return false;
    };
    (1..=MAX_ATTRIBUTES).contains(&count)
        && attributes(&mut r, count).is_ok_and(|a| a.contains_key(&0))
}

/// Reads a V2 blob.
///
/// # Errors
/// If it is too large, of the older layout, or not exactly the structure above.
pub fn parse(bytes: &[u8]) -> Result<Blob<'_>, BlobError> {
    if bytes.len() > MAX_BLOB {
        return Err(BlobError::TooLarge(bytes.len()));
    }
    if !looks_like_v2(bytes) && looks_like_v1(bytes) {
        return Err(BlobError::V1);
    }
    let mut r = Reader::new(bytes);
    exactly("response code", r.u32("response code")?, 0)?;
    let flags = r.u32("flags")?;
    if !(1..=MAX_FLAGS).contains(&flags) {
        return Err(BlobError::Field {
            field: "flags",
            found: flags.into(),
            expected: MAX_FLAGS.into(),
        });
    }
    let total = r.u32("total size")?;
    let buffer = r.u32("buffer size")?;
    exactly("total size", total, bytes.len() as u64)?;
    let header = header_size(total, buffer).ok_or(BlobError::Truncated("buffer size"))?;
    let mut handles = Vec::new();
    for _ in 0..(header - RESPONSE_HEADER) / 8 {
        let (high, low) = (r.u32("key handle")?, r.u32("key handle")?);
        handles.push(u64::from(high) << 32 | u64::from(low));
    }
    handles.retain(|h| *h != 0);
    let signed_size = bytes.len().saturating_sub(SIGNATURE_SIZE);
    let (signed, signature) = bytes
        .split_at_checked(signed_size)
        .ok_or(BlobError::Truncated("signature"))?;
    let buffer = signed
        .get(header..)
        .ok_or(BlobError::Truncated("attribute buffer"))?;
    let (buffer_flags, objects) = parse_buffer(buffer)?;
    Ok(Blob {
        signed,
        signature,
        flags,
        buffer_flags,
        handles,
        objects,
    })
}

/// The size of response header and handles, if the sizes leave room for one or two handles.
fn header_size(total: u32, buffer: u32) -> Option<usize> {
    let header = usize::try_from(total)
        .ok()?
        .checked_sub(usize::try_from(buffer).ok()?)?
        .checked_sub(SIGNATURE_SIZE)?;
    // One handle for a single object, two for a pair.
    (header == RESPONSE_HEADER + 8 || header == RESPONSE_HEADER + 16).then_some(header)
}

fn parse_buffer(buffer: &[u8]) -> Result<(u16, Vec<Object<'_>>), BlobError> {
    let mut r = Reader::new(buffer);
    exactly("buffer version", r.u16("buffer version")?, 1)?;
    let flags = r.u16("buffer flags")?;
    let first = r.u16("offset of object 1")?;
    let second = r.u16("offset of object 2")?;
    exactly("offset of object 1", first, INFO_HEADER as u64)?;
    let mut objects = vec![parse_object(&mut r)?];
    if second != 0 {
        // No gap between the objects: nothing signed goes unread.
        exactly("offset of object 2", second, r.position as u64)?;
        objects.push(parse_object(&mut r)?);
    }
    exactly(
        "bytes after the last object",
        (buffer.len() - r.position) as u64,
        0,
    )?;
    Ok((flags, objects))
}

fn parse_object<'a>(r: &mut Reader<'a>) -> Result<Object<'a>, BlobError> {
    let handle = r.u32("object handle")?;
    let count = r.u32("attribute count")?;
    let size = r.u32("size of attributes")?;
    let start = r.position;
    let attributes = attributes(r, count)?;
    exactly("size of attributes", size, (r.position - start) as u64)?;
    Ok(Object { handle, attributes })
}

fn attributes<'a>(r: &mut Reader<'a>, count: u32) -> Result<BTreeMap<u32, &'a [u8]>, BlobError> {
    if count > MAX_ATTRIBUTES {
        return Err(BlobError::Field {
            field: "attribute count",
            found: count.into(),
            expected: MAX_ATTRIBUTES.into(),
        });
    }
    let mut read = BTreeMap::new();
    for _ in 0..count {
        let kind = r.u32("attribute type")?;
        let length = r.u32("attribute length")?;
        let value = r.take(length as usize, "attribute value")?;
        if read.insert(kind, value).is_some() {
            return Err(BlobError::Duplicate(kind));
        }
    }
    Ok(read)
}

fn exactly(field: &'static str, found: impl Into<u64>, expected: u64) -> Result<(), BlobError> {
    let found = found.into();
    if found == expected {
        return Ok(());
    }
    Err(BlobError::Field {
        field,
        found,
        expected,
    })
}

/// Big-endian numbers one after the other.
struct Reader<'a> {
    bytes: &'a [u8],
    position: usize,
}

impl<'a> Reader<'a> {
    const fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, position: 0 }
    }

    fn take(&mut self, n: usize, field: &'static str) -> Result<&'a [u8], BlobError> {
        let end = self.position.checked_add(n);
        let value = end
            .and_then(|end| self.bytes.get(self.position..end))
            .ok_or(BlobError::Truncated(field))?;
        self.position += n;
        Ok(value)
    }

    fn u32(&mut self, field: &'static str) -> Result<u32, BlobError> {
        let bytes = self.take(4, field)?;
        Ok(bytes.iter().fold(0, |n, b| n << 8 | u32::from(*b)))
    }

    fn u16(&mut self, field: &'static str) -> Result<u16, BlobError> {
        let bytes = self.take(2, field)?;
        Ok(bytes.iter().fold(0, |n, b| n << 8 | u16::from(*b)))
    }
}

#[cfg(test)]
#[path = "blob_tests.rs"]
mod tests;
