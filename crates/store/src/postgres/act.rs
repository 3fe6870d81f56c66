//! For whom a statement acts.
//!
//! Row-level security shows a transaction the rows of the tenants it says it acts for
//! (`migrations/postgres/0001_schema.sql`). A statement alone is a transaction of its own, so it
//! says so itself, in a condition that PostgreSQL evaluates once, before it looks at any row: a
//! condition without columns becomes the *one-time filter* above the scan (a test looks at the
//! plans of all statements). That is one round trip instead of four. Were the order another one,
//! nothing would be found.

/// The statement on behalf of the tenant that is its first value.
pub(super) fn for_tenant(text: &str) -> String {
    gated(
        text,
        "(SELECT set_config('countersign.tenant', $1::uuid::text, true)) IS NOT NULL",
    )
}

/// The statement over tenants, to find one by its name.
pub(super) fn as_directory(text: &str) -> String {
    gated(
        text,
        "(SELECT set_config('countersign.scope', 'directory', true)) IS NOT NULL",
    )
}

/// The statement over what the service itself looks after, whosever it is: authorisations without
/// outcome, what expired, certificates that are looked up or end, orders that wait.
pub(super) fn as_housekeeping(text: &str) -> String {
    gated(
        text,
        "(SELECT set_config('countersign.scope', 'housekeeping', true)) IS NOT NULL",
    )
}

fn gated(text: &str, condition: &str) -> String {
    text.replacen(" WHERE ", &format!(" WHERE {condition} AND "), 1)
}

/// `acting!(NAME = for_tenant(text); …)`: statements made once, which live as long as the program.
macro_rules! acting {
    ($( $(#[$doc:meta])* $name:ident = $how:ident($text:expr); )*) => {
        $( $(#[$doc])* static $name: std::sync::LazyLock<String> =
            std::sync::LazyLock::new(|| $crate::postgres::act::$how($text)); )*

        /// Name and text.
        #[cfg(test)]
        pub(super) fn all_acting() -> Vec<(&'static str, &'static str)> {
            vec![$((stringify!($name), $name.as_str())),*]
        }
    };
}
pub(super) use acting;
