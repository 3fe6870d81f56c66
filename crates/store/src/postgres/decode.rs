//! What PostgreSQL has in a cell.

use crate::columns::Cells;
use sqlx::Row;
use sqlx::postgres::{PgRow, Postgres};
use uuid::Uuid;

/// One row of PostgreSQL's.
pub(super) struct PgCells<'r>(pub(super) &'r PgRow);

impl<'r> PgCells<'r> {
    fn get<T>(&self, i: usize) -> Result<Option<T>, String>
    where
        T: sqlx::Decode<'r, Postgres> + sqlx::Type<Postgres>,
    {
        self.0.try_get(i).map_err(|e| e.to_string())
    }
}

impl Cells for PgCells<'_> {
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
        self.get(i)
    }

    fn chain(&self, i: usize) -> Result<Option<Vec<Vec<u8>>>, String> {
        self.get(i)
    }
}
