//! Rows into words, checked: a column that is not what we wrote is reported as corrupt, by table
//! and column number, and never guessed at.

use countersign_core::Micros;
use countersign_core::ports::store::{Read, StoreError};
use sqlx::Row;
use sqlx::sqlite::{Sqlite, SqliteRow};
use std::fmt::Display;
use std::str::FromStr;
use uuid::Uuid;

/// A row, its columns by their place in the `SELECT`.
pub(super) struct Columns<'r> {
    table: &'static str,
    row: &'r SqliteRow,
}

impl<'r> Columns<'r> {
    pub(super) fn new(table: &'static str, row: &'r SqliteRow) -> Self {
        Self { table, row }
    }

    pub(super) fn text(&self, i: usize) -> Read<String> {
        self.get(i)
    }

    pub(super) fn text_or_null(&self, i: usize) -> Read<Option<String>> {
        self.get(i)
    }

    pub(super) fn bytes(&self, i: usize) -> Read<Vec<u8>> {
        self.get(i)
    }

    pub(super) fn bytes_or_null(&self, i: usize) -> Read<Option<Vec<u8>>> {
        self.get(i)
    }

    pub(super) fn bool(&self, i: usize) -> Read<bool> {
        self.get(i)
    }

    pub(super) fn micros(&self, i: usize) -> Read<Micros> {
        self.get(i).map(Micros)
    }

    pub(super) fn micros_or_null(&self, i: usize) -> Read<Option<Micros>> {
        Ok(self.get::<Option<i64>>(i)?.map(Micros))
    }

    /// A size, index, epoch or version.
    pub(super) fn u64(&self, i: usize) -> Read<u64> {
        let n: i64 = self.get(i)?;
        u64::try_from(n).map_err(|_| self.corrupt(i, "negative number"))
    }

    pub(super) fn u32(&self, i: usize) -> Read<u32> {
        let n: i64 = self.get(i)?;
        u32::try_from(n).map_err(|_| self.corrupt(i, "number out of range"))
    }

    pub(super) fn uuid(&self, i: usize) -> Read<Uuid> {
        self.array::<16>(i).map(Uuid::from_bytes)
    }

    pub(super) fn hash(&self, i: usize) -> Read<[u8; 32]> {
        self.array::<32>(i)
    }

    pub(super) fn hash_or_null(&self, i: usize) -> Read<Option<[u8; 32]>> {
        self.bytes_or_null(i)?
            .map(|bytes| {
                <[u8; 32]>::try_from(bytes).map_err(|_| self.corrupt(i, "wrong number of bytes"))
            })
            .transpose()
    }

    /// A word of a closed list that can parse itself.
    pub(super) fn parsed<T>(&self, i: usize) -> Read<T>
    where
        T: FromStr,
        T::Err: Display,
    {
        let text = self.text(i)?;
        text.parse()
            .map_err(|e: T::Err| self.corrupt(i, &e.to_string()))
    }

    /// A word of a closed list, by its stable name.
    pub(super) fn word<T: Copy>(
        &self,
        i: usize,
        all: &[T],
        name: fn(T) -> &'static str,
    ) -> Read<T> {
        let text = self.text(i)?;
        all.iter()
            .copied()
            .find(|&t| name(t) == text)
            .ok_or_else(|| self.corrupt(i, "unknown word"))
    }

    pub(super) fn json<T: serde::de::DeserializeOwned>(&self, i: usize) -> Read<T> {
        self.parse_json(i, &self.text(i)?)
    }

    pub(super) fn json_or_null<T: serde::de::DeserializeOwned>(&self, i: usize) -> Read<Option<T>> {
        self.text_or_null(i)?
            .map(|text| self.parse_json(i, &text))
            .transpose()
    }

    /// What to say of column `i`.
    pub(super) fn corrupt(&self, i: usize, detail: &str) -> StoreError {
        StoreError::Corrupt {
            table: self.table,
            detail: format!("column {i}: {detail}"),
        }
    }

    fn parse_json<T: serde::de::DeserializeOwned>(&self, i: usize, text: &str) -> Read<T> {
        serde_json::from_str(text).map_err(|e| self.corrupt(i, &e.to_string()))
    }

    fn array<const N: usize>(&self, i: usize) -> Read<[u8; N]> {
        self.bytes(i)?
            .try_into()
            .map_err(|_| self.corrupt(i, "wrong number of bytes"))
    }

    fn get<T>(&self, i: usize) -> Read<T>
    where
        T: sqlx::Decode<'r, Sqlite> + sqlx::Type<Sqlite>,
    {
        self.row
            .try_get(i)
            .map_err(|e| self.corrupt(i, &e.to_string()))
    }
}
