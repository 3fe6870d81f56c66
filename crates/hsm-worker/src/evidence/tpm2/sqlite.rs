//! Reads tables of a SQLite file: enough of <https://www.sqlite.org/fileformat2.html> for the module's
//! store, bounded, without a write.
//!
//! Why not SQLite itself: the module has one already, and two in a process undo each other's locks (POSIX
//! locks are the process's: SQLite, "How To Corrupt An SQLite Database File", §2.2.1). So nothing here takes
//! a lock, and the caller never closes the file.

use std::collections::BTreeMap;

/// Longest record: the module's have some kilobytes.
const MAX_RECORD: usize = 256 * 1024;
/// Most rows of one table.
const MAX_ROWS: usize = 65_536;
/// Deepest tree: a store of 4 KiB pages with more levels does not fit on a disk.
const MAX_DEPTH: u8 = 20;

/// A file that is not one that this module reads; the text says where it differs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct FormatError(pub &'static str);

/// One value of a record. Numbers with a fraction do not occur in the store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Value {
    /// NULL; in a column that is the row's number, that number.
    Null,
    /// A whole number.
    Integer(i64),
    /// Text.
    Text(String),
    /// Bytes.
    Blob(Vec<u8>),
}

/// A table's row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// Its number: the value of an `INTEGER PRIMARY KEY`.
    pub number: i64,
    /// Its columns.
    pub values: Vec<Value>,
}

impl Row {
    /// A column's text.
    #[must_use]
    pub fn text(&self, column: usize) -> Option<&str> {
        match self.values.get(column)? {
            Value::Text(text) => Some(text),
            _ => None,
        }
    }

    /// A column's bytes.
    #[must_use]
    pub fn blob(&self, column: usize) -> Option<&[u8]> {
        match self.values.get(column)? {
            Value::Blob(bytes) => Some(bytes),
            _ => None,
        }
    }

    /// A column's number.
    #[must_use]
    pub fn integer(&self, column: usize) -> Option<i64> {
        match self.values.get(column)? {
            Value::Integer(n) => Some(*n),
            _ => None,
        }
    }
}

/// A whole file.
#[derive(Debug)]
pub struct Database<'a> {
    bytes: &'a [u8],
    page_size: usize,
    // A page without what is reserved at its end.
    usable: usize,
    // Name of a table → its statement and its first page.
    tables: BTreeMap<String, (String, u32)>,
}

impl<'a> Database<'a> {
    /// Reads the header (§1.3) and the list of tables (§2.6).
    ///
    /// # Errors
    /// [`FormatError`].
    pub fn open(bytes: &'a [u8]) -> Result<Self, FormatError> {
        if !bytes.starts_with(b"SQLite format 3\0") {
            return Err(FormatError("not a SQLite file"));
        }
        let page_size = match number(bytes, 16, 2)? {
            1 => 65_536,
            n if (512..=32_768).contains(&n) && n.is_power_of_two() => n,
            _ => return Err(FormatError("page size")),
        };
        // 2 is a write-ahead log, whose content stands elsewhere.
        if bytes.get(18..20) != Some(&[1, 1][..]) {
            return Err(FormatError("it has a write-ahead log"));
        }
        let reserved = number(bytes, 20, 1)?;
        if number(bytes, 56, 4)? != 1 {
            return Err(FormatError("its texts are not UTF-8"));
        }
        let usable = page_size
            .checked_sub(reserved)
            .filter(|u| *u >= 480)
            .ok_or(FormatError("reserved bytes"))?;
        let mut database = Self {
            bytes,
            page_size,
            usable,
            tables: BTreeMap::new(),
        };
        // sqlite_schema: type, name, tbl_name, rootpage, sql.
        for row in database.rows_from(1)? {
            if row.text(0) == Some("table")
                && let (Some(name), Some(root), Some(sql)) =
                    (row.text(1), row.integer(3), row.text(4))
            {
                let root = u32::try_from(root).map_err(|_| FormatError("a table's first page"))?;
                database
                    .tables
                    .insert(name.to_owned(), (sql.to_owned(), root));
            }
        }
        Ok(database)
    }

    /// A table's rows, if it was made by exactly this statement.
    ///
    /// # Errors
    /// [`FormatError`].
    pub fn rows(&self, table: &str, made_by: &str) -> Result<Vec<Row>, FormatError> {
        match self.tables.get(table) {
            Some((sql, root)) if sql == made_by => self.rows_from(*root),
            Some(_) => Err(FormatError("a table has other columns than are known")),
            None => Err(FormatError("a table is missing")),
        }
    }

    fn rows_from(&self, root: u32) -> Result<Vec<Row>, FormatError> {
        let mut rows = Vec::new();
        // No page belongs to a tree twice: a file that says so would never end.
        let mut pages_left = self.bytes.len() / self.page_size;
        self.walk(root, 0, &mut pages_left, &mut rows)?;
        Ok(rows)
    }

    /// §1.6: a table's tree. Interior pages 0x05, leaves 0x0d.
    fn walk(
        &self,
        page_number: u32,
        depth: u8,
        pages_left: &mut usize,
        rows: &mut Vec<Row>,
    ) -> Result<(), FormatError> {
        if depth > MAX_DEPTH {
            return Err(FormatError("a tree too deep"));
        }
        *pages_left = pages_left
            .checked_sub(1)
            .ok_or(FormatError("a page that is in a tree twice"))?;
        let page = self.page(page_number)?;
        let at = if page_number == 1 { 100 } else { 0 };
        let cells = number(page, at + 3, 2)?;
        let (leaf, header) = match page.get(at) {
            Some(0x0d) => (true, 8),
            Some(0x05) => (false, 12),
            _ => return Err(FormatError("a page of another kind in a table")),
        };
        for n in 0..cells {
            let cell = number(page, at + header + 2 * n, 2)?;
            let cell = page
                .get(cell..)
                .ok_or(FormatError("a cell outside its page"))?;
            if leaf {
                if rows.len() >= MAX_ROWS {
                    return Err(FormatError("too many rows"));
                }
                rows.push(self.row(cell)?);
            } else {
                self.walk(page_at(cell, 0)?, depth + 1, pages_left, rows)?;
            }
        }
        if !leaf {
            self.walk(page_at(page, at + 8)?, depth + 1, pages_left, rows)?;
        }
        Ok(())
    }

    fn row(&self, cell: &[u8]) -> Result<Row, FormatError> {
        let (length, rest) = varint(cell)?;
        let (row_number, rest) = varint(rest)?;
        let length = usize::try_from(length)
            .ok()
            .filter(|l| *l <= MAX_RECORD)
            .ok_or(FormatError("a record too long"))?;
        let record = self.payload(rest, length)?;
        Ok(Row {
            // Two's complement, as the format says.
            number: row_number.cast_signed(),
            values: values(&record)?,
        })
    }

    /// §1.6, "Cell Payload Overflow Pages": how much of a record is in its cell.
    fn payload(&self, here: &[u8], length: usize) -> Result<Vec<u8>, FormatError> {
        let most = self.usable - 35;
        let local = if length <= most {
            length
        } else {
            let least = (self.usable - 12) * 32 / 255 - 23;
            let fit = least + (length - least) % (self.usable - 4);
            if fit <= most { fit } else { least }
        };
        let mut out = here
            .get(..local)
            .ok_or(FormatError("a record outside its page"))?
            .to_vec();
        let mut next = if local < length {
            page_at(here, local)?
        } else {
            0
        };
        while out.len() < length {
            let page = self.page(next)?;
            next = page_at(page, 0)?;
            let take = (length - out.len()).min(self.usable - 4);
            let part = page.get(4..4 + take);
            out.extend_from_slice(part.ok_or(FormatError("an overflow page"))?);
        }
        Ok(out)
    }

    fn page(&self, page_number: u32) -> Result<&'a [u8], FormatError> {
        let missing = FormatError("a page that the file does not have");
        let index = usize::try_from(page_number)
            .ok()
            .and_then(|n| n.checked_sub(1))
            .ok_or(missing)?;
        let start = index.checked_mul(self.page_size).ok_or(missing)?;
        let end = start.checked_add(self.page_size).ok_or(missing)?;
        self.bytes.get(start..end).ok_or(missing)
    }
}

/// §2.1: a header of types, then the values.
fn values(record: &[u8]) -> Result<Vec<Value>, FormatError> {
    let cut = FormatError("a record that ends within a value");
    let (header, _) = varint(record)?;
    let header = usize::try_from(header).map_err(|_| cut)?;
    let mut body = record.get(header..).ok_or(cut)?;
    let (_, mut types) = varint(record.get(..header).ok_or(cut)?)?;
    let mut out = Vec::new();
    while !types.is_empty() {
        let (kind, rest) = varint(types)?;
        types = rest;
        let length = match kind {
            0 | 8 | 9 => 0,
            1..=4 => usize::try_from(kind).map_err(|_| cut)?,
            5 => 6,
            6 => 8,
            n if n >= 12 => usize::try_from((n - 12) / 2).map_err(|_| cut)?,
            _ => return Err(FormatError("a value with a fraction")),
        };
        let (value, rest) = body.split_at_checked(length).ok_or(cut)?;
        body = rest;
        out.push(match kind {
            0 => Value::Null,
            8 => Value::Integer(0),
            9 => Value::Integer(1),
            1..=6 => Value::Integer(signed(value)),
            n if n % 2 == 0 => Value::Blob(value.to_vec()),
            _ => Value::Text(
                String::from_utf8(value.to_vec())
                    .map_err(|_| FormatError("a text that is not UTF-8"))?,
            ),
        });
    }
    Ok(out)
}

/// Big-endian two's complement of at most eight bytes.
fn signed(bytes: &[u8]) -> i64 {
    let negative = bytes.first().is_some_and(|b| b & 0x80 != 0);
    let start = if negative { u64::MAX } else { 0 };
    bytes
        .iter()
        .fold(start, |n, b| n << 8 | u64::from(*b))
        .cast_signed()
}

/// §1.6: one to nine bytes, seven bits each, the ninth eight.
fn varint(bytes: &[u8]) -> Result<(u64, &[u8]), FormatError> {
    let mut n = 0_u64;
    for (i, byte) in bytes.iter().enumerate().take(9) {
        let rest = bytes.get(i + 1..).unwrap_or_default();
        if i == 8 {
            return Ok((n << 8 | u64::from(*byte), rest));
        }
        n = n << 7 | u64::from(byte & 0x7f);
        if byte & 0x80 == 0 {
            return Ok((n, rest));
        }
    }
    Err(FormatError("a number that does not end"))
}

/// An unsigned number of `length` bytes, at most four.
fn number(bytes: &[u8], at: usize, length: usize) -> Result<usize, FormatError> {
    let field = bytes.get(at..at + length);
    let field = field.ok_or(FormatError("a header that ends too early"))?;
    Ok(field.iter().fold(0, |n, b| n << 8 | usize::from(*b)))
}

fn page_at(bytes: &[u8], at: usize) -> Result<u32, FormatError> {
    let field = bytes.get(at..).and_then(<[u8]>::first_chunk::<4>);
    let field = field.ok_or(FormatError("a page number that is cut off"))?;
    Ok(u32::from_be_bytes(*field))
}
