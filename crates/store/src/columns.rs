//! Rows into words, checked: a column that is not what we wrote is reported as corrupt, by table
//! and column number, and never guessed at. What a database has of its own is behind [`Cells`].

use countersign_core::Micros;
use countersign_core::ports::store::{Read, StoreError};
use std::fmt::Display;
use std::str::FromStr;
use uuid::Uuid;

/// The cells of one row, by their place in the `SELECT`, each of a type the database has. The
/// error says what is wrong with the cell.
pub(crate) trait Cells {
    fn text(&self, i: usize) -> Result<Option<String>, String>;
    fn bytes(&self, i: usize) -> Result<Option<Vec<u8>>, String>;
    fn number(&self, i: usize) -> Result<Option<i64>, String>;
    fn bool(&self, i: usize) -> Result<Option<bool>, String>;
    fn uuid(&self, i: usize) -> Result<Option<Uuid>, String>;
    /// A certificate chain.
    fn chain(&self, i: usize) -> Result<Option<Vec<Vec<u8>>>, String>;
}

/// A row of a table.
pub(crate) struct Columns<'r> {
    table: &'static str,
    cells: &'r dyn Cells,
}

impl<'r> Columns<'r> {
    pub(crate) fn new(table: &'static str, cells: &'r dyn Cells) -> Self {
        Self { table, cells }
    }

    pub(crate) fn text(&self, i: usize) -> Read<String> {
        self.there(i, self.cells.text(i))
    }

    pub(crate) fn text_or_null(&self, i: usize) -> Read<Option<String>> {
        self.sound(i, self.cells.text(i))
    }

    pub(crate) fn bytes(&self, i: usize) -> Read<Vec<u8>> {
        self.there(i, self.cells.bytes(i))
    }

    pub(crate) fn bytes_or_null(&self, i: usize) -> Read<Option<Vec<u8>>> {
        self.sound(i, self.cells.bytes(i))
    }

    pub(crate) fn bool(&self, i: usize) -> Read<bool> {
        self.there(i, self.cells.bool(i))
    }

    pub(crate) fn uuid(&self, i: usize) -> Read<Uuid> {
        self.there(i, self.cells.uuid(i))
    }

    pub(crate) fn chain(&self, i: usize) -> Read<Vec<Vec<u8>>> {
        self.there(i, self.cells.chain(i))
    }

    pub(crate) fn micros(&self, i: usize) -> Read<Micros> {
        self.number(i).map(Micros)
    }

    pub(crate) fn micros_or_null(&self, i: usize) -> Read<Option<Micros>> {
        Ok(self.sound(i, self.cells.number(i))?.map(Micros))
    }

    /// A size, index, epoch or version.
    pub(crate) fn u64(&self, i: usize) -> Read<u64> {
        u64::try_from(self.number(i)?).map_err(|_| self.corrupt(i, "negative number"))
    }

    pub(crate) fn u32(&self, i: usize) -> Read<u32> {
        u32::try_from(self.number(i)?).map_err(|_| self.corrupt(i, "number out of range"))
    }

    pub(crate) fn hash(&self, i: usize) -> Read<[u8; 32]> {
        self.hash_of(i, self.bytes(i)?)
    }

    pub(crate) fn hash_or_null(&self, i: usize) -> Read<Option<[u8; 32]>> {
        self.bytes_or_null(i)?
            .map(|bytes| self.hash_of(i, bytes))
            .transpose()
    }

    /// A word of a closed list that can parse itself.
    pub(crate) fn parsed<T>(&self, i: usize) -> Read<T>
    where
        T: FromStr,
        T::Err: Display,
    {
        let text = self.text(i)?;
        text.parse()
            .map_err(|e: T::Err| self.corrupt(i, &e.to_string()))
    }

    /// A word of a closed list, by its stable name.
    pub(crate) fn word<T: Copy>(
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

    pub(crate) fn json<T: serde::de::DeserializeOwned>(&self, i: usize) -> Read<T> {
        self.parse_json(i, &self.text(i)?)
    }

    pub(crate) fn json_or_null<T: serde::de::DeserializeOwned>(&self, i: usize) -> Read<Option<T>> {
        self.text_or_null(i)?
            .map(|text| self.parse_json(i, &text))
            .transpose()
    }

    /// What to say of column `i`.
    pub(crate) fn corrupt(&self, i: usize, detail: &str) -> StoreError {
        StoreError::Corrupt {
            table: self.table,
            detail: format!("column {i}: {detail}"),
        }
    }

    fn number(&self, i: usize) -> Read<i64> {
        self.there(i, self.cells.number(i))
    }

    fn hash_of(&self, i: usize, bytes: Vec<u8>) -> Read<[u8; 32]> {
        bytes
            .try_into()
            .map_err(|_| self.corrupt(i, "wrong number of bytes"))
    }

    fn parse_json<T: serde::de::DeserializeOwned>(&self, i: usize, text: &str) -> Read<T> {
        serde_json::from_str(text).map_err(|e| self.corrupt(i, &e.to_string()))
    }

    fn sound<T>(&self, i: usize, cell: Result<Option<T>, String>) -> Read<Option<T>> {
        cell.map_err(|e| self.corrupt(i, &e))
    }

    fn there<T>(&self, i: usize, cell: Result<Option<T>, String>) -> Read<T> {
        self.sound(i, cell)?
            .ok_or_else(|| self.corrupt(i, "no value"))
    }
}
