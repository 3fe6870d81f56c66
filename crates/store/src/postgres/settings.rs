//! Where the database is and how we behave there: a libpq URL without secrets, and what each
//! connection says of itself.

use secrecy::{ExposeSecret as _, SecretString};
use sqlx::ConnectOptions as _;
use sqlx::postgres::{PgConnectOptions, PgSslMode};
use std::fmt;
use std::str::FromStr as _;
use std::time::Duration;

/// Longest a statement waits for a row that another node holds. Longer than a stalled node may hold
/// one ([`IDLE_IN_TRANSACTION`]).
const LOCK_TIMEOUT: &str = "8s";
/// Longest a transaction of ours stands still before the server ends it and frees its rows: what a
/// stalled (SIGSTOP) or vanished node holds is free after this.
const IDLE_IN_TRANSACTION: &str = "5s";
/// Longest a statement runs. Far above anything of ours.
const STATEMENT_TIMEOUT: &str = "20s";
/// Longest we wait for an answer before we take the network for broken: above all of the above.
pub(super) const ANSWER: Duration = Duration::from_secs(30);

/// How to reach the database.
#[derive(Clone)]
pub struct Settings {
    options: PgConnectOptions,
    /// One countersignd at a time uses this database.
    pub single_node: bool,
    /// Most connections of this process: 4 to 500.
    pub max_connections: u32,
}

/// What is wrong with a URL.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UrlError {
    /// Not a URL of PostgreSQL's.
    #[error(
        "write postgres://USER@HOST/DATABASE, or postgres://USER@%2Ffolder%2Fof%2Fsocket/DATABASE"
    )]
    NotPostgres,
    /// A password stands in it.
    #[error(
        "a password does not belong into the URL: name a file in password_file, or use PGPASSFILE"
    )]
    Password,
    /// It names no user.
    #[error("it names no user: postgres://USER@HOST/DATABASE")]
    NoUser,
    /// It names no database.
    #[error("it names no database: postgres://USER@HOST/DATABASE")]
    NoDatabase,
    /// A parameter that we do not know, or that would contradict what we set ourselves.
    #[error(
        "parameter \"{0}\" is not one of sslmode, sslrootcert, sslcert, sslkey, host, port, user, dbname"
    )]
    Parameter(String),
    /// A value that its parameter does not take.
    #[error("{0}")]
    Value(String),
}

/// Parameters of the URL, as in libpq.
const PARAMETERS: [&str; 8] = [
    "sslmode",
    "sslrootcert",
    "sslcert",
    "sslkey",
    "host",
    "port",
    "user",
    "dbname",
];

impl Settings {
    /// Reads a URL as libpq does, with these differences: no password in it; user and database are
    /// named; and where no `sslmode` is named and the host is another machine, it is `verify-full`:
    /// the server must show a certificate for its name, from the system's roots or `sslrootcert`.
    ///
    /// # Errors
    /// [`UrlError`]; its text never holds the URL.
    pub fn new(url: &str) -> Result<Self, UrlError> {
        let rest = url
            .strip_prefix("postgres://")
            .or_else(|| url.strip_prefix("postgresql://"))
            .ok_or(UrlError::NotPostgres)?;
        let (place, query) = rest.split_once('?').unwrap_or((rest, ""));
        let authority = place.split('/').next().unwrap_or_default();
        if let Some((user, _)) = authority.rsplit_once('@')
            && user.contains(':')
        {
            return Err(UrlError::Password);
        }
        let names: Vec<_> = query
            .split('&')
            .filter(|p| !p.is_empty())
            .map(|p| p.split('=').next().unwrap_or(p))
            .collect();
        for name in &names {
            match *name {
                "password" => return Err(UrlError::Password),
                name if !PARAMETERS.contains(&name) => {
                    return Err(UrlError::Parameter(name.to_owned()));
                }
                _ => {}
            }
        }
        let named_user = authority.contains('@') && !authority.starts_with('@');
        if !named_user && !names.contains(&"user") {
            return Err(UrlError::NoUser);
        }
        let mut options = PgConnectOptions::from_str(url).map_err(|e| match e {
            sqlx::Error::Configuration(e) => UrlError::Value(e.to_string()),
            _ => UrlError::NotPostgres,
        })?;
        if options.get_database().is_none_or(str::is_empty) {
            return Err(UrlError::NoDatabase);
        }
        if !names.contains(&"sslmode") {
            // Not what PGSSLMODE happens to be.
            let mode = match place_of(&options) {
                Place::Socket => PgSslMode::Disable,
                Place::ThisMachine => PgSslMode::Prefer,
                Place::Elsewhere => PgSslMode::VerifyFull,
            };
            options = options.ssl_mode(mode);
        }
        Ok(Self {
            options: options
                .application_name("countersignd")
                .statement_cache_capacity(256)
                .disable_statement_logging(),
            single_node: false,
            max_connections: 20,
        })
    }

    /// With this password.
    #[must_use]
    pub fn password(mut self, password: &SecretString) -> Self {
        self.options = self.options.password(password.expose_secret());
        self
    }

    /// Host and database, for people.
    #[must_use]
    pub fn place(&self) -> String {
        let database = self.options.get_database().unwrap_or_default();
        match self.options.get_socket() {
            Some(folder) => format!("database {database} at {}", folder.display()),
            None => format!(
                "database {database} at {}:{}",
                self.options.get_host(),
                self.options.get_port()
            ),
        }
    }

    /// The role we are.
    #[must_use]
    pub fn role(&self) -> &str {
        self.options.get_username()
    }

    /// For looking at the server and for migrations: nothing is set.
    pub(super) fn plain(&self) -> PgConnectOptions {
        self.options.clone()
    }

    /// For work. `synchronous_commit` is pinned to what the server was accepted with.
    pub(super) fn working(&self, synchronous_commit: &str) -> PgConnectOptions {
        self.options.clone().options([
            ("synchronous_commit", synchronous_commit),
            ("lock_timeout", LOCK_TIMEOUT),
            ("idle_in_transaction_session_timeout", IDLE_IN_TRANSACTION),
            ("statement_timeout", STATEMENT_TIMEOUT),
            // Notice during a long wait that we are gone.
            ("client_connection_check_interval", "2s"),
            // Each statement sees what was committed before it began: a flush that waited for a
            // head sees what the one before it wrote.
            ("default_transaction_isolation", "read committed"),
            // All statements search by key, whatever the statistics of a young table say, and are
            // planned once.
            ("enable_seqscan", "off"),
            ("plan_cache_mode", "force_generic_plan"),
            ("jit", "off"),
        ])
    }
}

/// The URL's password is nowhere, and no other is shown.
impl fmt::Debug for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Settings")
            .field("place", &self.place())
            .field("role", &self.role())
            .field("single_node", &self.single_node)
            .field("max_connections", &self.max_connections)
            .finish_non_exhaustive()
    }
}

/// Who could read what goes there.
enum Place {
    Socket,
    ThisMachine,
    Elsewhere,
}

fn place_of(options: &PgConnectOptions) -> Place {
    let host = options.get_host().trim_matches(['[', ']']);
    if options.get_socket().is_some() || host.starts_with('/') {
        Place::Socket
    } else if host == "localhost"
        || host
            .parse::<std::net::IpAddr>()
            .is_ok_and(|ip| ip.is_loopback())
    {
        Place::ThisMachine
    } else {
        Place::Elsewhere
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mode(url: &str) -> PgSslMode {
        Settings::new(url).unwrap().options.get_ssl_mode()
    }

    #[test]
    fn another_machine_must_show_a_certificate_unless_the_url_says_otherwise() {
        use PgSslMode::{Disable, Prefer, Require, VerifyCa, VerifyFull};
        let of = |url: &str| format!("{:?}", mode(url));
        for (url, expected) in [
            ("postgres://u@db.example/d", VerifyFull),
            ("postgres://u@192.0.2.1:5433/d", VerifyFull),
            ("postgres://u@[2001:db8::1]/d", VerifyFull),
            ("postgres://u@localhost.example/d", VerifyFull),
            ("postgres://u@x/d?host=db.example", VerifyFull),
            ("postgresql://u@db.example/d?sslmode=require", Require),
            ("postgres://u@db.example/d?sslmode=verify-ca", VerifyCa),
            ("postgres://u@db.example/d?sslmode=disable", Disable),
            ("postgres://u@localhost/d", Prefer),
            ("postgres://u@127.0.0.1/d", Prefer),
            ("postgres://u@[::1]/d", Prefer),
            ("postgres://u@%2Fvar%2Frun%2Fpostgresql/d", Disable),
            ("postgres:///d?host=/var/run/postgresql&user=u", Disable),
        ] {
            assert_eq!(of(url), format!("{expected:?}"), "{url}");
        }
    }

    #[test]
    fn what_a_url_may_not_say_is_named() {
        let e = |url: &str| Settings::new(url).unwrap_err();
        assert_eq!(e("mysql://u@h/d"), UrlError::NotPostgres);
        assert_eq!(e("postgres://u:p@h/d"), UrlError::Password);
        assert_eq!(e("postgres://u:@h/d"), UrlError::Password);
        assert_eq!(e("postgres://u@h/d?password=p"), UrlError::Password);
        assert_eq!(e("postgres://h/d"), UrlError::NoUser);
        assert_eq!(e("postgres://u@h"), UrlError::NoDatabase);
        assert_eq!(e("postgres://u@h/"), UrlError::NoDatabase);
        for name in ["options", "application_name", "target_session_attrs"] {
            assert_eq!(
                e(&format!("postgres://u@h/d?{name}=x")),
                UrlError::Parameter(name.to_owned())
            );
        }
        assert!(matches!(
            e("postgres://u@h/d?sslmode=perhaps"),
            UrlError::Value(_)
        ));
        assert!(matches!(
            e("postgres://u@h/d?port=many"),
            UrlError::Value(_)
        ));
    }
}
