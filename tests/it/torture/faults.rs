//! The faults: what is done to whom, and how everything comes back.

use super::callers::Crowd;
use super::chance::Chance;
use super::field::{Database, Kind, People, TENANT};
use super::ledger::Loss;
use super::points::{By, POINTS, Point};
use super::verdict::Stall;
use crate::support::cluster::LEASE_S;
use crate::support::disk::fill;
use crate::support::node::{Node, signal_if_there};
use crate::support::proxy::{Side, Wire};
use crate::support::text;
use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

/// Longest until a failpoint is reached, or a service is back.
const LONG: Duration = Duration::from_secs(60);
/// Longer than a lease, and than it takes to bury whose lease ended, in milliseconds.
const PAST: u64 = 1000 * LEASE_S + 1500;
/// Answers that show that it is back.
const ENOUGH: u64 = 8;

/// One thing that happens to a deployment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// Death at a failpoint.
    At(Point),
    /// SIGKILL of a node at any moment.
    KillNode,
    /// SIGKILL of all nodes at once.
    KillAllNodes,
    /// SIGTERM of a node that is busy.
    StopNode,
    /// SIGSTOP of a node, for so long; then SIGCONT.
    FreezeNode(u64, u64),
    /// SIGKILL of a worker.
    KillWorker,
    /// SIGSTOP of a worker, for so long.
    FreezeWorker(u64, u64),
    /// Clients' connections end.
    CutClients,
    /// They end in the middle of a request or an answer.
    CutClientsInside,
    /// They end in one direction.
    HalfCloseClients(Side),
    /// Clients' packets vanish for a while.
    HoldClients,
    /// Nobody can connect for a while.
    RefuseClients,
    /// Nothing more fits on the database's disk, for a while.
    FullDisk,
    /// A node's connections to the database end.
    CutDatabase,
    /// They end in the middle of a statement or of its answer.
    CutDatabaseInside,
    /// They end in one direction.
    HalfCloseDatabase(Side),
    /// Nothing passes between a node and the database, for so long.
    HoldDatabase(u64, u64),
    /// No node reaches the database, for so long.
    RefuseDatabase(u64, u64),
    /// The database is stopped as an operator does, and started again after so long.
    StopDatabase(u64, u64),
    /// SIGKILL of all of its processes.
    KillDatabase(u64, u64),
    /// SIGSTOP of all of its processes, for so long.
    FreezeDatabase(u64, u64),
}

impl Fault {
    /// For the table.
    pub fn name(self) -> String {
        match self {
            Self::At(point) => format!("dies at {}", point.name),
            Self::KillNode => "kill -9 countersignd".into(),
            Self::KillAllNodes => "kill -9 all countersignd".into(),
            Self::StopNode => "SIGTERM countersignd".into(),
            Self::FreezeNode(..) => "SIGSTOP countersignd".into(),
            Self::KillWorker => "kill -9 worker".into(),
            Self::FreezeWorker(..) => "SIGSTOP worker".into(),
            Self::CutClients => "clients cut off".into(),
            Self::CutClientsInside => "clients cut off inside".into(),
            Self::HalfCloseClients(Side::Client) => "client hears no more".into(),
            Self::HalfCloseClients(Side::Server) => "server hears no more".into(),
            Self::HoldClients => "clients' packets vanish".into(),
            Self::RefuseClients => "nobody connects".into(),
            Self::FullDisk => "disk full".into(),
            Self::CutDatabase => "database cut off".into(),
            Self::CutDatabaseInside => "database cut off inside".into(),
            Self::HalfCloseDatabase(Side::Client) => "node hears database no more".into(),
            Self::HalfCloseDatabase(Side::Server) => "database hears node no more".into(),
            Self::HoldDatabase(..) => "database's packets vanish".into(),
            Self::RefuseDatabase(..) => "no way to the database".into(),
            Self::StopDatabase(..) => "database gone and back".into(),
            Self::KillDatabase(..) => "kill -9 postmaster and all".into(),
            Self::FreezeDatabase(..) => "SIGSTOP database".into(),
        }
    }

    /// All that can happen to a deployment.
    pub fn all(kind: Kind, database: &Database) -> Vec<Self> {
        let mut all: Vec<_> = POINTS.iter().map(|p| Self::At(*p)).collect();
        all.extend([
            Self::KillNode,
            Self::KillNode,
            Self::StopNode,
            Self::FreezeNode(500, 2500),
            Self::KillWorker,
            Self::KillWorker,
            Self::FreezeWorker(100, 2500),
            Self::CutClients,
            Self::CutClientsInside,
            Self::CutClientsInside,
            Self::HalfCloseClients(Side::Client),
            Self::HalfCloseClients(Side::Server),
            Self::HoldClients,
            Self::RefuseClients,
        ]);
        if kind != Kind::Sqlite {
            all.extend([
                Self::CutDatabase,
                Self::CutDatabaseInside,
                Self::CutDatabaseInside,
                Self::HalfCloseDatabase(Side::Client),
                Self::HalfCloseDatabase(Side::Server),
                Self::HoldDatabase(500, 2000),
                Self::RefuseDatabase(300, 2000),
                Self::StopDatabase(300, 2000),
                Self::KillDatabase(100, 1500),
                Self::FreezeDatabase(300, 2000),
            ]);
        }
        if kind == Kind::TwoNodes {
            // Past the lease.
            all.extend([
                Self::KillAllNodes,
                Self::FreezeNode(PAST, PAST + 2500),
                Self::FreezeNode(PAST, PAST + 2500),
                Self::HoldDatabase(PAST, PAST + 2000),
                Self::StopDatabase(PAST, PAST + 1500),
            ]);
        }
        if database.disk.is_some() {
            all.push(Self::FullDisk);
        }
        all
    }
}

/// What one kind of fault did.
#[derive(Debug, Default)]
pub struct Row {
    pub times: u32,
    /// Authorisations open then, together; and how often they could be counted.
    pub open: u64,
    pub counted: u32,
    /// The most of them at once.
    pub most: u64,
    /// From the fault's end until every node was ready and answers came again: the worst.
    pub back: Duration,
}

/// Does one fault after the other.
pub struct Tormentor<'a> {
    pub people: &'a People,
    pub crowd: &'a Crowd<'a>,
    pub database: &'a Database,
    pub nodes: &'a mut [Node],
    pub chance: Chance,
    pub rows: BTreeMap<String, Row>,
    pub stalls: Vec<Stall>,
    count: u32,
}

impl<'a> Tormentor<'a> {
    pub fn new(
        people: &'a People,
        crowd: &'a Crowd<'a>,
        database: &'a Database,
        nodes: &'a mut [Node],
        chance: Chance,
    ) -> Self {
        Self {
            people,
            crowd,
            database,
            nodes,
            chance,
            rows: BTreeMap::new(),
            stalls: Vec::new(),
            count: 0,
        }
    }

    /// One fault, and everything back.
    pub fn inflict(&mut self, fault: Fault) {
        self.count += 1;
        let name = fault.name();
        let victim = usize::try_from(self.chance.below(self.nodes.len() as u64)).expect("a node");
        self.sleep(0, 250);
        let open = self.strike(fault, victim);
        let struck = Instant::now();
        self.restore();
        let row = self.rows.entry(name.clone()).or_default();
        row.times += 1;
        if let Some(open) = open {
            row.open += open;
            row.counted += 1;
            row.most = row.most.max(open);
        }
        if self.is_back(&name) {
            let row = self.rows.entry(name).or_default();
            row.back = row.back.max(struck.elapsed());
        }
    }

    /// How many faults there were.
    pub const fn count(&self) -> u32 {
        self.count
    }

    /// Does it. Gives the authorisations that were open then.
    fn strike(&mut self, fault: Fault, victim: usize) -> Option<u64> {
        match fault {
            Fault::At(point) => self.die_at(point, victim),
            Fault::KillNode => {
                self.nodes[victim].kill();
                self.database.open()
            }
            Fault::KillAllNodes => {
                // All at once: none closes what another one left.
                for node in self.nodes.iter_mut() {
                    node.signal("STOP");
                }
                for node in self.nodes.iter_mut() {
                    node.kill();
                }
                self.database.open()
            }
            Fault::StopNode => {
                let open = self.database.open();
                let code = self.nodes[victim].stop();
                if code != Some(0) {
                    let what = format!("SIGTERM: exit {code:?}");
                    self.crowd.ledger().lose(Loss::NotBack, what);
                }
                open
            }
            Fault::FreezeNode(least, most) => {
                self.nodes[victim].signal("STOP");
                let open = self.database.open();
                self.sleep(least, most);
                self.stalls.push(Stall {
                    node: victim,
                    woken: Instant::now(),
                });
                self.nodes[victim].signal("CONT");
                open
            }
            Fault::KillWorker => {
                for pid in self.nodes[victim].workers() {
                    signal_if_there(pid, "KILL");
                }
                self.database.open()
            }
            Fault::FreezeWorker(least, most) => {
                let workers = self.nodes[victim].workers();
                workers.iter().for_each(|pid| signal_if_there(*pid, "STOP"));
                let open = self.database.open();
                self.sleep(least, most);
                workers.iter().for_each(|pid| signal_if_there(*pid, "CONT"));
                open
            }
            Fault::CutClients => {
                self.nodes[victim].front.cut();
                self.database.open()
            }
            Fault::CutClientsInside => {
                for _ in 0..4 {
                    let bytes = self.chance.between(1, 6000);
                    cut_inside(&self.nodes[victim].front, bytes);
                }
                self.database.open()
            }
            Fault::HalfCloseClients(side) => {
                self.nodes[victim].front.half_close(side);
                self.database.open()
            }
            Fault::HoldClients => {
                self.nodes[victim].front.hold(true);
                let open = self.database.open();
                self.sleep(300, 1500);
                // What was under way is lost, as it is when a firewall forgets it.
                self.nodes[victim].front.cut();
                open
            }
            Fault::RefuseClients => {
                self.nodes[victim].front.refuse(true);
                self.nodes[victim].front.cut();
                let open = self.database.open();
                self.sleep(200, 1500);
                open
            }
            Fault::FullDisk => {
                let disk = self.database.disk.as_ref()?;
                let filler = disk.folder().join("filler");
                fill(&filler);
                self.sleep(500, 2000);
                let open = self.database.open();
                std::fs::remove_file(&filler).expect("space again");
                open
            }
            Fault::CutDatabase => {
                let open = self.database.open();
                if let Some(back) = &self.nodes[victim].back {
                    back.cut();
                }
                open
            }
            Fault::CutDatabaseInside => {
                let open = self.database.open();
                for _ in 0..4 {
                    let bytes = self.chance.between(1, 20_000);
                    if let Some(back) = &self.nodes[victim].back {
                        cut_inside(back, bytes);
                    }
                }
                open
            }
            Fault::HalfCloseDatabase(side) => {
                let open = self.database.open();
                if let Some(back) = &self.nodes[victim].back {
                    back.half_close(side);
                }
                open
            }
            Fault::HoldDatabase(least, most) => {
                let open = self.database.open();
                if let Some(back) = &self.nodes[victim].back {
                    back.hold(true);
                }
                self.sleep(least, most);
                // Now and then what was held arrives late, and now and then never.
                if let Some(back) = &self.nodes[victim].back
                    && self.chance.one_in(2)
                {
                    back.cut();
                }
                open
            }
            Fault::RefuseDatabase(least, most) => {
                let open = self.database.open();
                for back in self.nodes.iter().filter_map(|n| n.back.as_ref()) {
                    back.refuse(true);
                    back.cut();
                }
                self.sleep(least, most);
                open
            }
            Fault::StopDatabase(least, most) => {
                let open = self.database.open();
                self.database.server()?.stop().expect("PostgreSQL stops");
                self.sleep(least, most);
                open
            }
            Fault::KillDatabase(least, most) => {
                let open = self.database.open();
                self.database
                    .server()?
                    .kill()
                    .expect("PostgreSQL is killed");
                self.sleep(least, most);
                open
            }
            Fault::FreezeDatabase(least, most) => {
                let open = self.database.open();
                self.database.signal("STOP");
                self.sleep(least, most);
                self.database.signal("CONT");
                open
            }
        }
    }

    /// A node, or a worker of it, dies at a failpoint.
    fn die_at(&mut self, point: Point, victim: usize) -> Option<u64> {
        // Keys are made by a command line, which asks the first node.
        let victim = if point.by == By::NewKey { 0 } else { victim };
        // The way to a new environment is another death.
        if self.chance.one_in(2) {
            self.nodes[victim].kill();
        } else {
            self.nodes[victim].stop();
        }
        let hit = self.chance.between(1, point.most);
        let once = self.people.stack.folder(&format!("once-{}", self.count));
        let action = if self.chance.one_in(4) {
            "exit"
        } else {
            "abort"
        };
        let points = format!("{}={action}@{hit}", point.name);
        let mut env = vec![("COUNTERSIGN_FAILPOINTS", points.as_str())];
        let folder = text(&once);
        if point.in_worker() {
            env.push(("COUNTERSIGN_FAILPOINTS_ONCE", &folder));
        }
        let node = &mut self.nodes[victim];
        // Recovery writes too: a node may die of its failpoint before it is ready.
        if !node.try_start(&env) {
            return self.database.open();
        }
        if point.by == By::NewKey {
            let name = format!("{TENANT}/new-{}", self.count);
            self.people
                .admin
                .run(&["signers", "create", &name, "--algorithm", "ec-p256"]);
            self.people.admin.run(&["keys", "create", &name]);
        }
        let reached = if point.in_worker() {
            wait_until(LONG, || once.join(point.name).exists())
        } else {
            node.ended(LONG)
        };
        if !reached {
            let what = format!("{points}: never reached");
            self.crowd.ledger().lose(Loss::NotBack, what);
        }
        self.database.open()
    }

    /// Everything as it was.
    pub fn restore(&mut self) {
        if !self.database.restore() {
            let what = "PostgreSQL does not start";
            self.crowd.ledger().lose(Loss::NotBack, what);
        }
        for node in self.nodes.iter_mut() {
            node.front.mend();
            if let Some(back) = &node.back {
                back.mend();
            }
            node.signal("CONT");
        }
        for node in self.nodes.iter_mut() {
            if !node.runs() && !node.start(&[]) {
                let what = format!("{} does not start", node.name);
                self.crowd.ledger().lose(Loss::NotBack, what);
            }
        }
    }

    /// Every node is ready and answers come again.
    fn is_back(&mut self, after: &str) -> bool {
        let before = self.crowd.progress.load(Ordering::Relaxed);
        let nodes = &mut *self.nodes;
        let crowd = self.crowd;
        let mut not_ready: Vec<usize> = (0..nodes.len()).collect();
        let back = wait_until(LONG, || {
            not_ready.retain(|n| {
                // A buried node ends by itself a moment after the fault.
                if !nodes[*n].runs() {
                    nodes[*n].start(&[]);
                }
                !nodes[*n].ready()
            });
            not_ready.is_empty() && crowd.progress.load(Ordering::Relaxed) >= before + ENOUGH
        });
        if !back {
            let done = crowd.progress.load(Ordering::Relaxed) - before;
            let what = format!("after {after}: {done} answers, nodes not ready: {not_ready:?}");
            self.crowd.ledger().lose(Loss::NotBack, what);
        }
        back
    }

    fn sleep(&mut self, least: u64, most: u64) {
        std::thread::sleep(Duration::from_millis(self.chance.between(least, most)));
    }
}

/// Cuts a connection when it has carried so many more bytes, and waits for that.
fn cut_inside(wire: &Wire, bytes: u64) {
    wire.cut_after(u16::try_from(bytes).expect("small"));
    wait_until(Duration::from_secs(2), || !wire.cut_is_due());
}

/// Waits; `false` if it does not come about.
pub fn wait_until(within: Duration, mut there: impl FnMut() -> bool) -> bool {
    let until = Instant::now() + within;
    loop {
        if there() {
            return true;
        }
        if Instant::now() >= until {
            return false;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}
