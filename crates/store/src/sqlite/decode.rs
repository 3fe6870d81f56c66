//! What SQLite has in a cell: ids are 16 bytes, a certificate chain is one BLOB.

use super::keys::unpack_chain;
use crate::columns::Cells;
use sqlx::Row;
use sqlx::sqlite::{Sqlite, SqliteRow};
use uuid::Uuid;

/// One row of SQLite's.
pub(super) struct SqliteCells<'r>(pub(super) &'r SqliteRow);

impl<'r> SqliteCells<'r> {
    fn get<T>(&self, i: usize) -> Result<Option<T>, String>
    where
        T: sqlx::Decode<'r, Sqlite> + sqlx::Type<Sqlite>,
    {
        self.0.try_get(i).map_err(|e| e.to_string())
    }
}

impl Cells for SqliteCells<'_> {
    fn text(&self, i: usize) -> Result<Option<String>, String> {
        self.get(i)
    }

    fn bytes(&self, i: usize) -> Result<Option<Vec<u8>>, String> {
        self.get(i)
    }

    fn number(&self, i: usize) -> Result<Option<i64>, String> {
        self.get(i)
    }

    fn bool(&self, i: usize) -> Result<Option<bool>, String> {
        self.get(i)
    }

    fn uuid(&self, i: usize) -> Result<Option<Uuid>, String> {
        let Some(bytes) = self.bytes(i)? else {
            return Ok(None);
        };
        let bytes = bytes.try_into().map_err(|_| "wrong number of bytes")?;
        Ok(Some(Uuid::from_bytes(bytes)))
    }

    fn chain(&self, i: usize) -> Result<Option<Vec<Vec<u8>>>, String> {
        let Some(bytes) = self.bytes(i)? else {
            return Ok(None);
        };
        unpack_chain(&bytes)
            .map(Some)
            .ok_or("not a chain".to_owned())
    }
}
