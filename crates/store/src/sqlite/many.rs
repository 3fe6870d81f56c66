//! One statement over many rows, in a few prepared sizes.
//!
//! A call into SQLite's thread costs as much as inserting several rows, so a flush of hundreds of
//! rows goes as a handful of statements. The texts are made once from constants and live as long
//! as the program: values are always bound.

use super::errors::Stop;
use super::writer::Write;
use super::{Bound, sql};
use std::sync::LazyLock;

/// Rows per statement, largest first. 256 rows of 11 values stay far below SQLite's limit of
/// 32,766 (`SQLITE_MAX_VARIABLE_NUMBER`).
const SIZES: [usize; 5] = [256, 64, 16, 4, 1];

/// A statement that repeats its row.
pub(super) struct Many {
    texts: LazyLock<[String; SIZES.len()]>,
}

/// `many!(NAME = "head" ("row") "tail")`: `row` is repeated, with commas, between head and tail.
macro_rules! many {
    ($( $(#[$doc:meta])* $name:ident = $head:literal ($row:literal) $tail:literal; )*) => {
        $( $(#[$doc])* pub(super) static $name: $crate::sqlite::many::Many =
            $crate::sqlite::many::Many::new(
                || $crate::sqlite::many::repeat($head, $row, $tail)); )*

        /// Name, text and the text that asks for the plan, in each size.
        #[cfg(test)]
        pub(super) fn all_many() -> Vec<(&'static str, &'static str, &'static str)> {
            use std::sync::LazyLock;
            let mut all = Vec::new();
            $({
                static PLANS: LazyLock<Vec<String>> = LazyLock::new(|| {
                    $name.texts().iter().map(|t| format!("EXPLAIN QUERY PLAN {t}")).collect()
                });
                for (text, plan) in $name.texts().iter().zip(PLANS.iter()) {
                    all.push((stringify!($name), text.as_str(), plan.as_str()));
                }
            })*
            all
        }
    };
}
pub(super) use many;

/// The texts in all sizes.
pub(super) fn repeat(head: &str, row: &str, tail: &str) -> [String; SIZES.len()] {
    SIZES.map(|n| format!("{head}{}{tail}", vec![row; n].join(",")))
}

impl Many {
    pub(super) const fn new(texts: fn() -> [String; SIZES.len()]) -> Self {
        Self {
            texts: LazyLock::new(texts),
        }
    }

    /// Executes over all rows; the number of rows changed.
    pub(super) async fn execute<T>(
        &'static self,
        write: &mut Write<'_>,
        rows: impl ExactSizeIterator<Item = T>,
        bind: impl Fn(Bound, T) -> Bound,
    ) -> Result<u64, Stop> {
        let mut changed = 0;
        for query in self.queries(rows, bind) {
            changed += write.execute(query).await?;
        }
        Ok(changed)
    }

    /// The statements that together cover all rows.
    pub(super) fn queries<T>(
        &'static self,
        mut rows: impl ExactSizeIterator<Item = T>,
        bind: impl Fn(Bound, T) -> Bound,
    ) -> impl Iterator<Item = Bound> {
        std::iter::from_fn(move || {
            let left = rows.len();
            let (size, text) = SIZES
                .into_iter()
                .zip(self.texts.iter())
                .find(|(size, _)| *size <= left)?;
            Some(rows.by_ref().take(size).fold(sql(text), &bind))
        })
    }

    #[cfg(test)]
    pub(super) fn texts(&'static self) -> &'static [String] {
        self.texts.as_slice()
    }
}
