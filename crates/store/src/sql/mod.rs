//! Statements, one file per table family, shared by both databases where the words are the same
//! (`$1` works on both). What only one database understands lives beside its implementation.
//!
//! Two rules hold for each statement and are tested over all of them: it names its columns, and
//! its plan searches by key: none walks through a table that grows with the past.

/// Declares statements as constants, together with the list of them that tests walk through.
macro_rules! statements {
    ($( $(#[$doc:meta])* $name:ident = $sql:literal; )*) => {
        $( $(#[$doc])* pub(crate) const $name: &str = $sql; )*

        /// Name, text and the text that asks for the plan.
        #[cfg(test)]
        pub(crate) const ALL: &[(&str, &str, &str)] =
            &[$((stringify!($name), $sql, concat!("EXPLAIN QUERY PLAN ", $sql))),*];
    };
}
pub(crate) use statements;

pub(crate) mod devices;
pub(crate) mod keys;
pub(crate) mod log;
pub(crate) mod nodes;
pub(crate) mod revocation;
pub(crate) mod service;
pub(crate) mod tenants;
