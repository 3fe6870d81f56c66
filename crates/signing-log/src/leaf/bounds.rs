//! Bounds on the members of a leaf, each error naming the member.

use super::{LeafError, MAX_LIST, MAX_STRING};
use crate::commitment::{Commitment, HexHash};

/// A value whose size is bounded.
pub(super) trait Bounded {
    fn bounded(&self, field: &'static str) -> Result<(), LeafError>;
}

impl Bounded for String {
    fn bounded(&self, field: &'static str) -> Result<(), LeafError> {
        if self.len() > MAX_STRING {
            Err(LeafError::StringTooLong { field })
        } else {
            Ok(())
        }
    }
}

impl<T: Bounded> Bounded for Option<T> {
    fn bounded(&self, field: &'static str) -> Result<(), LeafError> {
        self.as_ref().map_or(Ok(()), |v| v.bounded(field))
    }
}

impl<T: Bounded> Bounded for Vec<T> {
    fn bounded(&self, field: &'static str) -> Result<(), LeafError> {
        if self.len() > MAX_LIST {
            return Err(LeafError::ListTooLong { field });
        }
        self.iter().try_for_each(|v| v.bounded(field))
    }
}

macro_rules! always_bounded {
    ($($ty:ty),* $(,)?) => {
        $(impl Bounded for $ty {
            fn bounded(&self, _: &'static str) -> Result<(), LeafError> {
                Ok(())
            }
        })*
    };
}

always_bounded!(
    bool,
    u32,
    u64,
    Commitment,
    HexHash,
    super::Purpose,
    super::ContentKind,
    super::Asserted,
    super::OutcomeResult,
    super::CertificateStatus,
);
