//! A PostgreSQL of a test's own: the distribution's programs, an own folder, a socket in it, no
//! network, commits that reach the disk. It ends when the value drops, and also when the process
//! that holds it is killed.
//!
//! ```no_run
//! use countersign_testkit::postgres::Postgres;
//!
//! let database = Postgres::shared()?.database()?;
//! println!("{} may do everything, {} only read and write rows", database.owner_url, database.url);
//! # Ok::<(), countersign_testkit::Error>(())
//! ```

mod guard;
mod programs;

use crate::error::{Error, Result, at, at_path};
use crate::programs::wait_until;
use guard::{AtTheEnd, Guard};
pub use programs::Programs;
use std::collections::HashMap;
use std::fs::File;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;
use tempfile::TempDir;

/// The superuser of each server made here. Countersign itself must refuse to be this one.
pub const SUPERUSER: &str = "postgres";

/// Enough for a busy machine.
const START: Duration = Duration::from_secs(60);

/// `sun_path` has 108 bytes with its end, and PostgreSQL appends the name of the socket.
const LONGEST_FOLDER: usize = 107 - "/.s.PGSQL.5432".len();

/// A running server.
#[derive(Debug)]
pub struct Postgres {
    dir: PathBuf,
    programs: Programs,
    settings: Vec<(String, String)>,
    server: Mutex<Option<Child>>,
    numbers: AtomicU32,
    templates: Mutex<HashMap<String, Arc<Mutex<bool>>>>,
    // Dropped in this order: first the server ends, then its folder goes.
    _guard: Guard,
    _temporary: Option<TempDir>,
}

/// A database of a test's own, with two roles. Neither is a superuser, neither may pass by row-level
/// security.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Database {
    /// Its name.
    pub name: String,
    /// Owns the database: makes and migrates the schema.
    pub owner: String,
    /// May read and write rows of the owner's tables, and nothing else.
    pub role: String,
    /// URL for the owner.
    pub owner_url: String,
    /// URL for the other.
    pub url: String,
}

impl Postgres {
    /// The one server that the tests of this process share. Tests that stop it, kill it or change
    /// its settings start their own.
    ///
    /// # Errors
    /// As [`Self::start`].
    pub fn shared() -> Result<&'static Self> {
        static SHARED: OnceLock<Postgres> = OnceLock::new();
        static MAKING: Mutex<()> = Mutex::new(());
        let _one = MAKING.lock().unwrap_or_else(PoisonError::into_inner);
        if SHARED.get().is_none() {
            // A static is never dropped: the guard ends the server when this process is gone.
            let _ = SHARED.set(Self::start()?);
        }
        SHARED.get().ok_or(Error::Tool {
            tool: "postgres".to_owned(),
            message: "it is gone".to_owned(),
        })
    }

    /// A server in a temporary folder.
    ///
    /// # Errors
    /// [`Error::Missing`] if PostgreSQL is not installed; [`Error::Tool`] or [`Error::NotReady`] if
    /// it does not start.
    pub fn start() -> Result<Self> {
        Self::start_with(&[])
    }

    /// The same, with settings of `postgresql.conf`.
    ///
    /// # Errors
    /// As [`Self::start`].
    pub fn start_with(settings: &[(&str, &str)]) -> Result<Self> {
        let temporary = tempfile::Builder::new()
            .prefix("cs-pg-")
            .tempdir()
            .map_err(at("temporary directory"))?;
        let dir = temporary.path().to_owned();
        Self::start_in(dir, Some(temporary), settings)
    }

    /// A server whose data stays in `dir`, an empty folder or one that an earlier call left.
    ///
    /// # Errors
    /// As [`Self::start`].
    pub fn serve(dir: &Path) -> Result<Self> {
        std::fs::create_dir_all(dir).map_err(at_path(dir))?;
        let dir = dir.canonicalize().map_err(at_path(dir))?;
        Self::start_in(dir, None, &[])
    }

    fn start_in(
        dir: PathBuf,
        temporary: Option<TempDir>,
        settings: &[(&str, &str)],
    ) -> Result<Self> {
        if dir.as_os_str().len() > LONGEST_FOLDER {
            return Err(Error::State {
                message: format!(
                    "the path of a socket has at most 107 bytes: name a folder of at most {LONGEST_FOLDER}"
                ),
                path: dir,
            });
        }
        let programs = Programs::find()?;
        programs.give(&dir)?;
        let guard = Guard::new(
            &dir,
            match temporary {
                Some(_) => AtTheEnd::Remove,
                None => AtTheEnd::Keep,
            },
        )?;
        let this = Self {
            settings: settings
                .iter()
                .map(|(n, v)| ((*n).to_owned(), (*v).to_owned()))
                .collect(),
            server: Mutex::new(None),
            numbers: AtomicU32::new(0),
            templates: Mutex::default(),
            _guard: guard,
            _temporary: temporary,
            dir,
            programs,
        };
        let data = this.data();
        if !data.join("PG_VERSION").exists() {
            let mut initdb = this.programs.command("initdb", &this.dir);
            initdb
                .args(["--auth=trust", "--username", SUPERUSER, "--encoding=UTF8"])
                .args(["--locale=C", "--no-sync", "--no-instructions", "-D"])
                .arg(&data);
            programs::run(&mut initdb)?;
        }
        this.resume()?;
        Ok(this)
    }

    /// A new empty database with roles of its own: what the owner makes in it, the other role may
    /// read and write.
    ///
    /// # Errors
    /// [`Error::Tool`] with PostgreSQL's words.
    pub fn database(&self) -> Result<Database> {
        self.make_database("template0")
    }

    /// The same as a copy of a template, which `build` fills once for each name. The copy's tables
    /// belong to the new owner.
    ///
    /// # Errors
    /// [`Error::Tool`] with PostgreSQL's words, or what `build` says.
    pub fn database_like(
        &self,
        template: &str,
        build: impl FnOnce(&Database) -> Result<()>,
    ) -> Result<Database> {
        let built = Arc::clone(
            lock(&self.templates)
                .entry(template.to_owned())
                .or_default(),
        );
        let mut built = lock(&built);
        if !*built {
            let owner = format!("{template}_owner");
            let made = Database {
                owner_url: self.url(&owner, template),
                url: self.url(&owner, template),
                name: template.to_owned(),
                role: owner.clone(),
                owner,
            };
            self.psql("postgres", &format!("CREATE ROLE {} LOGIN", made.owner))?;
            let create = format!("CREATE DATABASE {template} OWNER {} {CREATE}", made.owner);
            self.psql("postgres", &format!("{create} TEMPLATE template0"))?;
            build(&made)?;
            self.psql(
                "postgres",
                &format!("ALTER DATABASE {template} OWNER TO {SUPERUSER}"),
            )?;
            *built = true;
        }
        let database = self.make_database(template)?;
        let (name, owner, role) = (&database.name, &database.owner, &database.role);
        self.psql(
            name,
            &format!(
                "REASSIGN OWNED BY {template}_owner TO {owner}; \
                 GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO {role}"
            ),
        )?;
        drop(built);
        Ok(database)
    }

    fn make_database(&self, template: &str) -> Result<Database> {
        let number = self.numbers.fetch_add(1, Ordering::Relaxed);
        // A server whose data stays has databases of earlier runs.
        let name = format!("t{}_{number}", std::process::id());
        let (owner, role) = (format!("{name}_owner"), format!("{name}_service"));
        for text in [
            format!("CREATE ROLE {owner} LOGIN"),
            format!("CREATE ROLE {role} LOGIN"),
            format!("CREATE DATABASE {name} OWNER {owner} {CREATE} TEMPLATE {template}"),
        ] {
            self.psql("postgres", &text)?;
        }
        self.psql(
            &name,
            &format!(
                "ALTER DEFAULT PRIVILEGES FOR ROLE {owner} IN SCHEMA public \
                 GRANT SELECT, INSERT, UPDATE, DELETE ON TABLES TO {role}"
            ),
        )?;
        Ok(Database {
            owner_url: self.url(&owner, &name),
            url: self.url(&role, &name),
            name,
            owner,
            role,
        })
    }

    /// The URL of a database for a role. Nobody needs a password here.
    #[must_use]
    pub fn url(&self, role: &str, database: &str) -> String {
        let folder = self.dir.display().to_string().replace('/', "%2F");
        format!("postgres://{role}@{folder}/{database}")
    }

    /// Runs SQL as the superuser; the rows it gave, columns separated by `|`.
    ///
    /// # Errors
    /// [`Error::Tool`] with PostgreSQL's words.
    pub fn psql(&self, database: &str, text: &str) -> Result<String> {
        self.psql_as(SUPERUSER, database, text)
    }

    /// The same as another role.
    ///
    /// # Errors
    /// [`Error::Tool`] with PostgreSQL's words.
    pub fn psql_as(&self, role: &str, database: &str, text: &str) -> Result<String> {
        let mut psql = self.programs.command("psql", &self.dir);
        psql.args(["-X", "-w", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-h"])
            .arg(&self.dir)
            .args(["-U", role, "-d", database, "-c", text]);
        programs::run(&mut psql)
    }

    /// A program of PostgreSQL's own (`pg_basebackup`, `psql` …) with the environment that leads to
    /// this server, as the superuser.
    #[must_use]
    pub fn program(&self, name: &str) -> Command {
        let mut command = self.programs.command(name, &self.dir);
        command.env("PGHOST", &self.dir).env("PGUSER", SUPERUSER);
        command
    }

    /// The folder of socket, data and log.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Process id of the postmaster, while it runs.
    #[must_use]
    pub fn pid(&self) -> Option<u32> {
        lock(&self.server).as_ref().map(Child::id)
    }

    /// What the server wrote into its log.
    #[must_use]
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.dir.join("log")).unwrap_or_default()
    }

    /// Stops it as an operator does: clients are sent away, everything is written, then it ends.
    ///
    /// # Errors
    /// [`Error::Io`] if it cannot be waited for.
    pub fn stop(&self) -> Result<()> {
        self.end("INT", false)
    }

    /// SIGKILL for all of its processes at once: what a crash of the machine leaves, as far as
    /// files go.
    ///
    /// # Errors
    /// [`Error::Io`] if it cannot be waited for.
    pub fn kill(&self) -> Result<()> {
        self.end("KILL", true)
    }

    fn end(&self, signal: &str, children_too: bool) -> Result<()> {
        let mut server = lock(&self.server);
        let Some(child) = server.as_mut() else {
            return Ok(());
        };
        let children = if children_too {
            programs::children(child.id())
        } else {
            Vec::new()
        };
        programs::signal(signal, &[child.id()]);
        programs::signal(signal, &children);
        child.wait().map_err(at("postgres"))?;
        *server = None;
        // The next one cannot start while one of these holds the shared memory.
        wait_until("the end of postgres", START, || {
            children.iter().all(|pid| !programs::runs(*pid))
        })
    }

    /// Returns when the server has ended by itself.
    ///
    /// # Errors
    /// [`Error::Tool`]: nobody asked it to.
    pub fn wait(self) -> Result<()> {
        while let Some(child) = lock(&self.server).as_mut()
            && matches!(child.try_wait(), Ok(None))
        {
            std::thread::sleep(Duration::from_millis(200));
        }
        Err(Error::Tool {
            tool: "postgres".to_owned(),
            message: format!("it ended; see {}", self.dir.join("log").display()),
        })
    }

    /// Starts it again after [`Self::stop`] or [`Self::kill`].
    ///
    /// # Errors
    /// [`Error::NotReady`] with the end of its log.
    pub fn resume(&self) -> Result<()> {
        let mut server = lock(&self.server);
        if server.is_some() {
            return Ok(());
        }
        let log = self.dir.join("log");
        let log = File::options()
            .create(true)
            .append(true)
            .open(&log)
            .map_err(at_path(&log))?;
        let mut command = self.programs.command("postgres", &self.dir);
        command.arg("-D").arg(self.data());
        let folder = self.dir.display().to_string();
        let own = [
            ("listen_addresses", ""),
            ("unix_socket_directories", folder.as_str()),
            // What Countersign asks of a server.
            ("fsync", "on"),
            ("full_page_writes", "on"),
            ("synchronous_commit", "on"),
            ("max_connections", "300"),
            ("shared_buffers", "64MB"),
            ("max_wal_size", "1GB"),
            ("log_line_prefix", "%m [%p] %u "),
        ];
        for (name, value) in own {
            command.arg("-c").arg(format!("{name}={value}"));
        }
        for (name, value) in &self.settings {
            command.arg("-c").arg(format!("{name}={value}"));
        }
        command
            .stdin(Stdio::null())
            .stdout(log.try_clone().map_err(at("log"))?)
            .stderr(log)
            // An interrupt from the terminal is for the tests; the guard ends the server after them.
            .process_group(0);
        let child = command.spawn().map_err(at("postgres"))?;
        let child = server.insert(child);
        let mut ended = false;
        let ready = wait_until("postgres", START, || {
            ended = !matches!(child.try_wait(), Ok(None));
            ended || self.accepts()
        });
        if ready.is_ok() && !ended {
            return Ok(());
        }
        *server = None;
        let log = self.log();
        let tail: Vec<_> = log.lines().rev().take(5).collect();
        Err(Error::NotReady {
            program: "postgres".to_owned(),
            after: START,
            message: tail.join(" / "),
        })
    }

    fn accepts(&self) -> bool {
        self.programs
            .command("pg_isready", &self.dir)
            .args(["-q", "-h"])
            .arg(&self.dir)
            .status()
            .is_ok_and(|s| s.success())
    }

    fn data(&self) -> PathBuf {
        self.dir.join("data")
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        if self._temporary.is_some() {
            // Nobody will look at it again.
            let _ = self.kill();
        } else {
            let _ = self.stop();
        }
    }
}

/// Bytewise order and no dependence on the machine's locales.
const CREATE: &str = "ENCODING 'UTF8' LOCALE 'C'";

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
