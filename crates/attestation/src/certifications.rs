//! What modules are certified as: facts in a table, by maker, model and firmware.
//!
//! Most evidence says nothing of a certification, so it is looked up. A row stands here only if its
//! source was fetched by whoever wrote it; a number from memory is a defect. The table is empty
//! until somebody adds such a row: then `--require method=2` can hold for that module.

use crate::result::{Certification, CertifiedLevel, Facts};
use crate::time::UnixSeconds;

/// One certificate of one module.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Row {
    /// The maker, as [`Facts::vendor`] names it.
    pub vendor: &'static str,
    /// The model, as [`Facts::model`] names it.
    pub model: &'static str,
    /// The firmware versions the certificate names, each in full.
    pub firmware: &'static [&'static str],
    /// For example `FIPS 140-2 level 3`.
    pub scheme: &'static str,
    /// `140-2`, `140-3` or `cc`.
    pub standard: &'static str,
    /// The level, or the EAL.
    pub level: u8,
    /// The certificate's number.
    pub number: &'static str,
    /// `active` or `historical`, on that day.
    pub status: &'static str,
    /// The day it was looked up, in seconds since 1970.
    pub as_of: u64,
    /// Where it was looked up.
    pub source: &'static str,
}

/// Every row.
pub const ROWS: &[Row] = &[];

/// The row for a module, by what is proved of it.
#[must_use]
pub fn lookup(facts: &Facts, rows: &[Row]) -> Option<Certification> {
    let (vendor, model) = (facts.vendor.as_deref()?, facts.model.as_deref()?);
    let firmware = facts.firmware.as_deref()?;
    let row = rows
        .iter()
        .find(|r| r.vendor == vendor && r.model == model && r.firmware.contains(&firmware))?;
    Some(Certification {
        scheme: row.scheme.to_owned(),
        number: Some(row.number.to_owned()),
        status: row.status.to_owned(),
        as_of: i64::try_from(row.as_of).ok().and_then(UnixSeconds::new),
        source: row.source.to_owned(),
        level: Some(CertifiedLevel {
            standard: row.standard.to_owned(),
            level: row.level,
        }),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const MADE_UP: Row = Row {
        vendor: "Maker",
        model: "Module 1",
        firmware: &["1.2.3"],
        scheme: "FIPS 140-2 level 2",
        standard: "140-2",
        level: 2,
        number: "0",
        status: "active",
        as_of: 0,
        source: "a test",
    };

    #[test]
    fn a_row_holds_for_its_module_and_firmware_alone() {
        let facts = |model: &str, firmware: Option<&str>| Facts {
            vendor: Some("Maker".into()),
            model: Some(model.into()),
            firmware: firmware.map(Into::into),
            ..Facts::default()
        };
        let found = |f: &Facts| lookup(f, &[MADE_UP]).and_then(|c| c.number);
        assert_eq!(
            found(&facts("Module 1", Some("1.2.3"))).as_deref(),
            Some("0")
        );
        assert_eq!(found(&facts("Module 1", Some("1.2.4"))), None);
        assert_eq!(found(&facts("Module 2", Some("1.2.3"))), None);
        assert_eq!(found(&facts("Module 1", None)), None);
    }

    #[test]
    fn every_row_is_complete() {
        for row in ROWS {
            assert!(row.source.starts_with("https://"), "{row:?}");
            assert!(row.as_of > 1_700_000_000, "{row:?}");
            assert!(["active", "historical"].contains(&row.status), "{row:?}");
            assert!(["140-2", "140-3", "cc"].contains(&row.standard), "{row:?}");
            assert!(
                !row.number.is_empty() && !row.firmware.is_empty(),
                "{row:?}"
            );
        }
    }
}
