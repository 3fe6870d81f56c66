//! The connections of this process.
//!
//! Not sqlx's pool: that one asks the server for a sign of life at each return, and hands out
//! connections that died with the server's last restart one by one. Here a connection is *taken
//! out* of its place while it is used and put back only when nothing about it is in doubt; whoever
//! fails, panics or is dropped in the middle closes it, and the server rolls back and frees its
//! locks. When one is found dead, all that lay idle are dropped with it.

use super::errors;
use super::open::{self, Facts};
use super::settings::{ANSWER, Settings};
use countersign_core::ports::store::CommitError;
use sqlx::postgres::{PgArguments, PgConnection, PgRow, Postgres};
use sqlx::{Arguments as _, ConnectOptions as _, Encode, Type};
use std::future::Future;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Longest somebody waits until one of the connections is free.
const QUEUE: Duration = Duration::from_secs(5);
/// Longest a connection takes to be made.
const CONNECT: Duration = Duration::from_secs(5);
/// Firewalls forget connections on which nothing happens: those are not used again.
const STALE: Duration = Duration::from_secs(240);

/// A statement with its values.
#[derive(Clone)]
pub(super) struct Bound {
    text: &'static str,
    values: PgArguments,
    /// Why a value could not be bound.
    unfit: Option<String>,
}

impl Bound {
    pub(super) fn new(text: &'static str) -> Self {
        Self {
            text,
            values: PgArguments::default(),
            unfit: None,
        }
    }

    /// The same values for another text.
    pub(super) fn with_text(self, text: &'static str) -> Self {
        Self { text, ..self }
    }

    pub(super) fn bind<T>(mut self, value: T) -> Self
    where
        T: for<'t> Encode<'t, Postgres> + Type<Postgres>,
    {
        if let Err(e) = self.values.add(value) {
            self.unfit.get_or_insert(e.to_string());
        }
        self
    }
}

/// All connections of this process to one database.
pub(super) struct Connections {
    settings: Settings,
    /// What the server was accepted with; each new connection must find it so.
    facts: Facts,
    free: Arc<Semaphore>,
    idle: Mutex<Vec<(PgConnection, Instant)>>,
    rows_read: AtomicU64,
    round_trips: AtomicU64,
}

impl Connections {
    pub(super) fn new(settings: Settings, facts: Facts, most: u32) -> Arc<Self> {
        Arc::new(Self {
            settings,
            facts,
            free: Arc::new(Semaphore::new(most as usize)),
            idle: Mutex::default(),
            rows_read: AtomicU64::new(0),
            round_trips: AtomicU64::new(0),
        })
    }

    /// Takes a connection, an idle one if there is one.
    pub(super) async fn take(self: &Arc<Self>) -> Result<Taken, sqlx::Error> {
        let permit = tokio::time::timeout(QUEUE, Arc::clone(&self.free).acquire_owned()).await;
        let permit = match permit {
            Ok(Ok(permit)) => permit,
            Ok(Err(_)) => return Err(sqlx::Error::PoolClosed),
            Err(_) => return Err(sqlx::Error::PoolTimedOut),
        };
        while let Some((connection, since)) = self.idle().pop() {
            if since.elapsed() < STALE {
                return Ok(self.taken(connection, false, permit));
            }
        }
        let made = tokio::time::timeout(CONNECT, self.connect());
        let connection = made.await.map_err(|_| timed_out())??;
        Ok(self.taken(connection, true, permit))
    }

    async fn connect(&self) -> Result<PgConnection, sqlx::Error> {
        let options = self.settings.working(self.facts.pinned());
        let mut connection = options.connect().await?;
        // Behind the same URL another server may stand by now.
        open::still_fit(&mut connection, &self.facts)
            .await
            .map_err(|refusal| sqlx::Error::Io(io::Error::other(refusal.to_string())))?;
        Ok(connection)
    }

    fn taken(
        self: &Arc<Self>,
        connection: PgConnection,
        new: bool,
        permit: OwnedSemaphorePermit,
    ) -> Taken {
        Taken {
            home: Arc::clone(self),
            connection,
            new,
            _permit: permit,
        }
    }

    /// Runs statements that read, once more on a new connection if the one tried first had died
    /// meanwhile.
    pub(super) async fn read(self: &Arc<Self>, query: Bound) -> Result<Vec<PgRow>, sqlx::Error> {
        loop {
            let mut taken = self.take().await?;
            match taken.rows(query.clone()).await {
                Ok(rows) => {
                    taken.keep();
                    return Ok(rows);
                }
                Err(e) if errors::broken(&e) => {
                    if taken.give_up() {
                        return Err(e);
                    }
                }
                Err(e) if errors::again(&e) => taken.keep(),
                Err(e) => {
                    taken.keep();
                    return Err(e);
                }
            }
        }
    }

    /// Runs one statement that writes, a transaction of its own; the number of rows it changed. When
    /// it returns, they are durable.
    pub(super) async fn write(self: &Arc<Self>, query: Bound) -> Result<u64, CommitError> {
        self.write_rows(query).await.map(|(_, changed)| changed)
    }

    /// The same with the rows it gives.
    pub(super) async fn write_rows(
        self: &Arc<Self>,
        query: Bound,
    ) -> Result<(Vec<PgRow>, u64), CommitError> {
        for _ in 0..TRIES {
            let mut taken = self.alive().await?;
            match taken.both(query.clone()).await {
                Ok(done) => {
                    taken.keep();
                    return Ok(done);
                }
                Err(e) if errors::again(&e) => taken.keep(),
                Err(e) => {
                    if errors::broken(&e) {
                        taken.give_up();
                    } else {
                        taken.keep();
                    }
                    return Err(errors::at_commit(&e));
                }
            }
        }
        Err(CommitError::Unavailable(IN_THE_WAY.to_owned()))
    }

    /// A connection on which the server answers: for what must not be sent twice.
    pub(super) async fn alive(self: &Arc<Self>) -> Result<Taken, CommitError> {
        loop {
            let mut taken = self.take().await.map_err(|e| errors::before_commit(&e))?;
            if taken.new {
                return Ok(taken);
            }
            match taken.execute(Bound::new("SELECT 1")).await {
                Ok(_) => return Ok(taken),
                Err(_) => {
                    taken.give_up();
                }
            }
        }
    }

    /// Ends them all; what is under way ends with an error.
    pub(super) fn close(&self) {
        self.free.close();
        self.idle().clear();
    }

    pub(super) fn rows_read(&self) -> u64 {
        self.rows_read.load(Ordering::Relaxed)
    }

    pub(super) fn round_trips(&self) -> u64 {
        self.round_trips.load(Ordering::Relaxed)
    }

    fn idle(&self) -> std::sync::MutexGuard<'_, Vec<(PgConnection, Instant)>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How often work is done over that PostgreSQL rolled back for another writer's sake.
pub(super) const TRIES: u32 = 5;
/// When that did not help.
pub(super) const IN_THE_WAY: &str = "two writers got into each other's way again and again";

/// A connection in use. Dropping it closes it.
pub(super) struct Taken {
    home: Arc<Connections>,
    connection: PgConnection,
    /// Made for this use: if it is broken, the server is.
    new: bool,
    _permit: OwnedSemaphorePermit,
}

impl Taken {
    /// Executes a statement; the number of rows it changed.
    pub(super) async fn execute(&mut self, query: Bound) -> Result<u64, sqlx::Error> {
        Ok(self.both(query).await?.1)
    }

    /// Executes a statement; its rows.
    pub(super) async fn rows(&mut self, query: Bound) -> Result<Vec<PgRow>, sqlx::Error> {
        Ok(self.both(query).await?.0)
    }

    /// Executes a statement to its end; its rows and the number of rows it changed.
    pub(super) async fn both(&mut self, query: Bound) -> Result<(Vec<PgRow>, u64), sqlx::Error> {
        use futures::TryStreamExt as _;
        let Bound {
            text,
            values,
            unfit,
        } = query;
        if let Some(why) = unfit {
            return Err(sqlx::Error::Encode(why.into()));
        }
        self.home.round_trips.fetch_add(1, Ordering::Relaxed);
        let connection = &mut self.connection;
        let (mut rows, mut changed) = (Vec::new(), 0);
        in_time(async {
            // To its very end: what is a transaction of its own commits after its last row.
            let mut answers =
                sqlx::Executor::fetch_many(connection, sqlx::query_with(text, values));
            while let Some(answer) = answers.try_next().await? {
                match answer {
                    sqlx::Either::Left(done) => changed += done.rows_affected(),
                    sqlx::Either::Right(row) => rows.push(row),
                }
            }
            Ok(())
        })
        .await?;
        self.home
            .rows_read
            .fetch_add(rows.len() as u64, Ordering::Relaxed);
        Ok((rows, changed))
    }

    /// A statement without values that begins or ends a transaction.
    pub(super) async fn simple(&mut self, text: &'static str) -> Result<(), sqlx::Error> {
        self.home.round_trips.fetch_add(1, Ordering::Relaxed);
        let connection = &mut self.connection;
        in_time(async {
            sqlx::Executor::execute(connection, sqlx::raw_sql(text)).await?;
            Ok(())
        })
        .await
    }

    /// Puts it back: it is outside of any transaction, and the server has answered all it was asked.
    pub(super) fn keep(self) {
        if !self.home.free.is_closed() {
            let Self {
                home, connection, ..
            } = self;
            home.idle().push((connection, Instant::now()));
        }
    }

    /// It is broken: the others that lay idle will be too. Whether it had been made for this use, so
    /// that trying another one is of no use.
    pub(super) fn give_up(self) -> bool {
        self.home.idle().clear();
        self.new
    }
}

/// Nothing waits for ever for a network that swallows what is sent.
async fn in_time<T>(work: impl Future<Output = Result<T, sqlx::Error>>) -> Result<T, sqlx::Error> {
    tokio::time::timeout(ANSWER, work)
        .await
        .map_err(|_| timed_out())?
}

fn timed_out() -> sqlx::Error {
    sqlx::Error::Io(io::Error::from(io::ErrorKind::TimedOut))
}

/// A transaction of several statements.
pub(super) struct Write {
    name: &'static str,
    started: Instant,
    taken: Taken,
}

/// A write that takes longer is reported.
const SLOW: Duration = Duration::from_millis(500);

impl Write {
    /// Begins one. `name` is for people who look for what is slow.
    pub(super) async fn begin(
        connections: &Arc<Connections>,
        name: &'static str,
    ) -> Result<Self, CommitError> {
        loop {
            let mut taken = connections
                .take()
                .await
                .map_err(|e| errors::before_commit(&e))?;
            let started = Instant::now();
            match taken.simple("BEGIN").await {
                Ok(()) => {
                    return Ok(Self {
                        name,
                        started,
                        taken,
                    });
                }
                Err(e) => {
                    if taken.give_up() {
                        return Err(errors::before_commit(&e));
                    }
                }
            }
        }
    }

    pub(super) async fn execute(&mut self, query: Bound) -> Result<u64, errors::Stop> {
        Ok(self.taken.execute(query).await?)
    }

    pub(super) async fn rows(&mut self, query: Bound) -> Result<Vec<PgRow>, errors::Stop> {
        Ok(self.taken.rows(query).await?)
    }

    /// Whether the query finds a row.
    pub(super) async fn exists(&mut self, query: Bound) -> Result<bool, errors::Stop> {
        Ok(!self.rows(query).await?.is_empty())
    }

    /// Takes back what was written so far, to look at what there is with statements that are
    /// transactions of their own. All locks are free then.
    pub(super) async fn take_back(&mut self) -> Result<(), errors::Stop> {
        self.taken.simple("ROLLBACK").await?;
        Ok(())
    }

    /// Takes everything back.
    pub(super) async fn abandon(mut self) {
        if self.taken.simple("ROLLBACK").await.is_ok() {
            self.taken.keep();
        }
    }

    /// Commits if `result` is `Ok`, else takes everything back. When it returns `Ok`, all of the
    /// write is durable.
    pub(super) async fn finish<T>(
        mut self,
        result: Result<T, errors::Stop>,
    ) -> Result<T, CommitError> {
        let result = match result {
            Ok(value) => match self.taken.simple("COMMIT").await {
                Ok(()) => {
                    self.taken.keep();
                    Ok(value)
                }
                Err(e) => {
                    self.taken.give_up();
                    Err(errors::at_commit(&e))
                }
            },
            Err(errors::Stop::Refused(refusal)) => {
                if self.taken.simple("ROLLBACK").await.is_ok() {
                    self.taken.keep();
                }
                Err(refusal)
            }
            Err(errors::Stop::Failed(e)) => {
                // Closing the connection rolls back.
                if errors::broken(&e) {
                    self.taken.give_up();
                }
                Err(errors::before_commit(&e))
            }
        };
        let took = self.started.elapsed();
        if took > SLOW {
            tracing::warn!(
                write = self.name,
                ms = took.as_millis(),
                "slow database write"
            );
        }
        if let Err(e @ (CommitError::Unavailable(_) | CommitError::Unknown(_))) = &result {
            tracing::warn!(write = self.name, error = %e, "database write failed");
        }
        result
    }
}

impl std::fmt::Debug for Connections {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Connections")
            .field("settings", &self.settings)
            .finish_non_exhaustive()
    }
}
