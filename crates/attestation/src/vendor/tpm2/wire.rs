//! Reading TPM structures: big-endian integers and sized buffers (TPM 2.0 Library Part 1 §5.4).

use super::Tpm2Error;

/// Longest `TPM2B` taken. The largest that a key attestation holds is an RSA-4096 number (512
/// bytes); a TPM's own structures stay below 4096 (`MAX_RESPONSE_SIZE` of the PC Client profile).
const MAX_SIZED: usize = 4096;

/// A reader that knows where it ends. It never looks past the bytes it was given.
#[derive(Debug, Clone)]
pub(super) struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    pub(super) const fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    pub(super) fn take(&mut self, n: usize, what: &'static str) -> Result<&'a [u8], Tpm2Error> {
        let (head, tail) = self
            .rest
            .split_at_checked(n)
            .ok_or(Tpm2Error::Truncated(what))?;
        self.rest = tail;
        Ok(head)
    }

    fn array<const N: usize>(&mut self, what: &'static str) -> Result<[u8; N], Tpm2Error> {
        let (head, tail) = self
            .rest
            .split_first_chunk::<N>()
            .ok_or(Tpm2Error::Truncated(what))?;
        self.rest = tail;
        Ok(*head)
    }

    pub(super) fn u8(&mut self, what: &'static str) -> Result<u8, Tpm2Error> {
        self.array::<1>(what).map(u8::from_be_bytes)
    }

    pub(super) fn u16(&mut self, what: &'static str) -> Result<u16, Tpm2Error> {
        self.array(what).map(u16::from_be_bytes)
    }

    pub(super) fn u32(&mut self, what: &'static str) -> Result<u32, Tpm2Error> {
        self.array(what).map(u32::from_be_bytes)
    }

    pub(super) fn u64(&mut self, what: &'static str) -> Result<u64, Tpm2Error> {
        self.array(what).map(u64::from_be_bytes)
    }

    /// A `TPM2B`: a 16-bit size and that many bytes.
    pub(super) fn sized(&mut self, what: &'static str) -> Result<&'a [u8], Tpm2Error> {
        let size = usize::from(self.u16(what)?);
        if size > MAX_SIZED {
            return Err(Tpm2Error::TooLarge { what, size });
        }
        self.take(size, what)
    }

    /// Nothing may follow.
    pub(super) fn end(&self, what: &'static str) -> Result<(), Tpm2Error> {
        if self.rest.is_empty() {
            Ok(())
        } else {
            Err(Tpm2Error::Trailing {
                what,
                bytes: self.rest.len(),
            })
        }
    }
}

/// The bytes without a leading 16-bit size, if that size is exactly the rest. tpm2-tools write
/// `TPM2B_PUBLIC` and friends, other programs the bare structure; none of the bare structures read
/// here can start with its own length less two, since their first field is a tag or a magic number.
pub(super) fn unsized_copy(bytes: &[u8]) -> &[u8] {
    match bytes.split_first_chunk::<2>() {
        Some((size, rest)) if usize::from(u16::from_be_bytes(*size)) == rest.len() => rest,
        _ => bytes,
    }
}
