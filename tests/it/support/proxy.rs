//! A wire between two programs that a test can cut: it listens in place of a server, passes the
//! bytes on in both directions, and breaks in the ways in which networks do.

use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// One end.
#[derive(Debug, Clone)]
pub enum Place {
    /// TCP on 127.0.0.1.
    Port(u16),
    /// A Unix socket.
    Socket(PathBuf),
}

/// Which side no longer hears from the other, where only one direction ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// The one that connected: the server's bytes end.
    Client,
    /// The one that was connected to: the client's bytes end.
    Server,
}

/// The wire. It is gone, with all connections, when it drops.
pub struct Wire {
    place: Place,
    shared: Arc<Shared>,
}

struct Shared {
    to: Place,
    ended: AtomicBool,
    refuses: AtomicBool,
    holds: AtomicBool,
    /// Bytes until the connection that carries the next one is cut.
    budget: Mutex<Option<usize>>,
    next: AtomicU64,
    links: Mutex<Vec<Link>>,
}

/// One connection.
struct Link {
    id: u64,
    client: Stream,
    server: Stream,
    /// Directions that still carry something.
    open: u8,
}

impl Wire {
    /// A wire from a new port to `to`.
    pub fn tcp(to: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let shared = Shared::new(Place::Port(to));
        let serving = Arc::clone(&shared);
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                if !serving.accept(stream.and_then(Stream::tcp)) {
                    return;
                }
            }
        });
        Self {
            place: Place::Port(port),
            shared,
        }
    }

    /// A wire from a new Unix socket at `path` to the one at `to`.
    pub fn unix(path: &Path, to: &Path) -> Self {
        let listener = UnixListener::bind(path).expect("a socket");
        let shared = Shared::new(Place::Socket(to.to_owned()));
        let serving = Arc::clone(&shared);
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                if !serving.accept(stream.map(Stream::Unix)) {
                    return;
                }
            }
        });
        Self {
            place: Place::Socket(path.to_owned()),
            shared,
        }
    }

    /// The port, of one that has one.
    pub fn port(&self) -> u16 {
        match self.place {
            Place::Port(port) => port,
            Place::Socket(_) => 0,
        }
    }

    /// Ends every connection at once.
    pub fn cut(&self) {
        for link in self.shared.links().drain(..) {
            link.end();
        }
    }

    /// Ends one direction of every connection.
    pub fn half_close(&self, deaf: Side) {
        for link in self.shared.links().iter() {
            let stream = match deaf {
                Side::Client => &link.client,
                Side::Server => &link.server,
            };
            stream.shutdown(Shutdown::Write);
        }
    }

    /// Lets this many more bytes pass and cuts the connection that carries the last of them, in the
    /// middle of whatever it is.
    pub fn cut_after(&self, bytes: u16) {
        *self.shared.budget() = Some(usize::from(bytes));
    }

    /// Whether a cut by [`Self::cut_after`] is still to come.
    pub fn cut_is_due(&self) -> bool {
        self.shared.budget().is_some()
    }

    /// New connections end at once.
    pub fn refuse(&self, refuse: bool) {
        self.shared.refuses.store(refuse, Ordering::Release);
    }

    /// Nothing passes any more, and nobody is told: as with a firewall that drops.
    pub fn hold(&self, hold: bool) {
        self.shared.holds.store(hold, Ordering::Release);
    }

    /// As it was made.
    pub fn mend(&self) {
        self.refuse(false);
        self.hold(false);
        *self.shared.budget() = None;
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        self.shared.ended.store(true, Ordering::Release);
        self.cut();
        // Whoever waits for a connection gets one, and ends.
        let _ = Stream::connect(&self.place);
        if let Place::Socket(path) = &self.place {
            let _ = std::fs::remove_file(path);
        }
    }
}

impl Shared {
    fn new(to: Place) -> Arc<Self> {
        Arc::new(Self {
            to,
            ended: AtomicBool::new(false),
            refuses: AtomicBool::new(false),
            holds: AtomicBool::new(false),
            budget: Mutex::default(),
            next: AtomicU64::new(0),
            links: Mutex::default(),
        })
    }

    fn links(&self) -> MutexGuard<'_, Vec<Link>> {
        self.links.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn budget(&self) -> MutexGuard<'_, Option<usize>> {
        self.budget.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// `false`: the wire is gone.
    fn accept(self: &Arc<Self>, client: io::Result<Stream>) -> bool {
        if self.ended.load(Ordering::Acquire) {
            return false;
        }
        let Ok(client) = client else { return true };
        if self.refuses.load(Ordering::Acquire) {
            client.shutdown(Shutdown::Both);
            return true;
        }
        if let Ok(server) = Stream::connect(&self.to) {
            self.join(client, server);
        }
        true
    }

    fn join(self: &Arc<Self>, client: Stream, server: Stream) {
        let both = |s: &Stream| Some((s.another()?, s.another()?));
        let (Some((c1, c2)), Some((s1, s2))) = (both(&client), both(&server)) else {
            return;
        };
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        self.links().push(Link {
            id,
            client,
            server,
            open: 2,
        });
        for (from, to) in [(c1, s1), (s2, c2)] {
            let shared = Arc::clone(self);
            std::thread::spawn(move || {
                shared.carry(from, &to);
                to.shutdown(Shutdown::Write);
                shared.ended(id);
            });
        }
    }

    fn carry(&self, mut from: Stream, to: &Stream) {
        let Some(mut to) = to.another() else { return };
        let mut buffer = [0; 16_384];
        while let Ok(n @ 1..) = from.read(&mut buffer) {
            while self.holds.load(Ordering::Acquire) && !self.ended.load(Ordering::Acquire) {
                std::thread::sleep(Duration::from_millis(5));
            }
            let passes = self.passes(n);
            if to.write_all(&buffer[..passes]).is_err() || passes < n {
                from.shutdown(Shutdown::Both);
                to.shutdown(Shutdown::Both);
                return;
            }
        }
    }

    /// How many of the next `n` bytes pass.
    fn passes(&self, n: usize) -> usize {
        let mut budget = self.budget();
        match *budget {
            Some(left) if left < n => {
                *budget = None;
                left
            }
            Some(left) => {
                *budget = Some(left - n);
                n
            }
            None => n,
        }
    }

    fn ended(&self, id: u64) {
        let mut links = self.links();
        if let Some(at) = links.iter().position(|l| l.id == id) {
            links[at].open -= 1;
            if links[at].open == 0 {
                links.swap_remove(at).end();
            }
        }
    }
}

impl Link {
    fn end(&self) {
        self.client.shutdown(Shutdown::Both);
        self.server.shutdown(Shutdown::Both);
    }
}

enum Stream {
    Tcp(TcpStream),
    Unix(UnixStream),
}

impl Stream {
    fn tcp(stream: TcpStream) -> io::Result<Self> {
        stream.set_nodelay(true)?;
        Ok(Self::Tcp(stream))
    }

    fn connect(to: &Place) -> io::Result<Self> {
        match to {
            Place::Port(port) => TcpStream::connect(("127.0.0.1", *port)).and_then(Self::tcp),
            Place::Socket(path) => UnixStream::connect(path).map(Self::Unix),
        }
    }

    fn another(&self) -> Option<Self> {
        match self {
            Self::Tcp(s) => s.try_clone().map(Self::Tcp),
            Self::Unix(s) => s.try_clone().map(Self::Unix),
        }
        .ok()
    }

    fn shutdown(&self, how: Shutdown) {
        // The other side may have been quicker.
        let _ = match self {
            Self::Tcp(s) => s.shutdown(how),
            Self::Unix(s) => s.shutdown(how),
        };
    }
}

impl Read for Stream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(s) => s.read(buffer),
            Self::Unix(s) => s.read(buffer),
        }
    }
}

impl Write for Stream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(s) => s.write(bytes),
            Self::Unix(s) => s.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
