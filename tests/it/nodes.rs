//! Two countersignd on one PostgreSQL and one folder of tokens: one history, whoever writes it, and a
//! node that stalled past its lease lets nothing out (docs/adr/0007).

use crate::support::cli::Cli;
use crate::support::cluster::{LEASE_S, Shape};
use crate::support::load::{Ask, Released, Signing, judge, logs};
use crate::support::node::Node;
use crate::support::raw::{Raw, RawAnswer};
use crate::support::{PEOPLE_AUDIENCE, REPOSITORY, Stack, signal};
use countersign_signing_log::Receipt;
use countersign_testkit::issuer::TokenSpec;
use countersign_testkit::postgres::{Database, Postgres};
use std::collections::{BTreeMap, HashMap};
use std::sync::Mutex;
use std::time::{Duration, Instant};

const LONG: Duration = Duration::from_secs(60);

/// Two nodes, a tenant, its signers.
struct Pair {
    a: Node,
    b: Node,
    admin: Cli,
    signers: Vec<Signing>,
    keys: Vec<String>,
    token: String,
    server: &'static Postgres,
    database: Database,
    stack: Stack,
}

impl Pair {
    fn new(tenant: &str, signers: &[&str]) -> Self {
        let server = Postgres::shared().expect("PostgreSQL (scripts/need.sh test)");
        let database = server.database().expect("a database");
        let mut stack = Stack::on_postgres(&database, 2);
        let admin = stack.tenant(tenant);
        let names: Vec<_> = signers.iter().map(|s| format!("{tenant}/{s}")).collect();
        let keys = names
            .iter()
            .map(|n| stack.signer(&admin, n, "ec-p256"))
            .collect();
        let signers = names.iter().map(|n| Signing::of(&stack, n)).collect();
        let shape = Shape {
            nodes: 2,
            call_deadline_ms: 20_000,
        };
        let mut nodes = stack.nodes(server, &database, shape).into_iter();
        let (mut a, mut b) = (nodes.next().expect("a"), nodes.next().expect("b"));
        assert!(a.start(&[]) && b.start(&[]), "both nodes start");
        let token = stack.service_token(tenant, REPOSITORY);
        Self {
            a,
            b,
            admin,
            signers,
            keys,
            token,
            server,
            database,
            stack,
        }
    }

    fn raw(&self, node: &Node) -> Raw {
        self.stack.raw_at(&node.direct())
    }

    fn send(&self, node: &Node, ask: &Ask) -> RawAnswer {
        let signing = &self.signers[ask.signer];
        signing
            .send(&self.raw(node), &self.token, ask)
            .expect("an answer")
    }

    /// Asks a node until it is answered, as a client does.
    fn patient(&self, node: &Node, ask: &Ask) -> RawAnswer {
        let until = Instant::now() + LONG;
        loop {
            let answer = self.send(node, ask);
            if answer.status == 200 {
                return answer;
            }
            assert_eq!(answer.json()["retryable"], true, "{answer:?}");
            assert!(Instant::now() < until, "{answer:?}");
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    fn released(&self, ask: &Ask, answer: &RawAnswer) -> Released {
        self.signers[ask.signer].released(ask, answer)
    }

    fn open(&self) -> u64 {
        let query = "SELECT count(*) FROM open_authorisations";
        let said = self.server.psql(&self.database.name, query).expect("psql");
        said.trim().parse().expect("a number")
    }

    /// The last word: every log from its bytes, against every answer.
    fn judge(&self, released: &[Released]) -> Vec<crate::support::load::Leaves> {
        let all = logs(&self.admin, &self.stack.path("logs"));
        judge(&self.admin, &all, released, &self.stack.folder("receipts"));
        all
    }
}

fn until(what: &str, mut there: impl FnMut() -> bool) {
    let end = Instant::now() + LONG;
    while !there() {
        assert!(Instant::now() < end, "{what}: it did not come about");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn two_nodes_write_one_history() {
    let pair = Pair::new("two", &["hot", "one", "two", "three"]);
    // Most of it is for one key; every request goes to the other node than the one before.
    let asks: Vec<Ask> = (0..120)
        .map(|n| {
            let signer = if n % 5 == 4 { 1 + (n / 5) % 3 } else { 0 };
            let mut ask = pair.signers[signer].ask(&format!("two-{n}"));
            ask.signer = signer;
            ask
        })
        .collect();
    let released = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for mine in asks.chunks(15) {
            let (pair, released) = (&pair, &released);
            scope.spawn(move || {
                for (n, ask) in mine.iter().enumerate() {
                    let node = if n % 2 == 0 { &pair.a } else { &pair.b };
                    let answer = pair.patient(node, ask);
                    let one = pair.released(ask, &answer);
                    released.lock().expect("lock").push((n % 2, one));
                }
            });
        }
    });
    let released = released.into_inner().expect("lock");
    assert_eq!(released.len(), asks.len());

    // Both nodes wrote the hot log, turn by turn, and the leaves say which.
    let hot = released
        .iter()
        .find(|(_, r)| asks.iter().any(|a| a.signer == 0 && a.tbs == r.tbs))
        .map(|(_, r)| r.origin.clone())
        .expect("the hot key was used");
    let writers: BTreeMap<usize, usize> = released.iter().filter(|(_, r)| r.origin == hot).fold(
        BTreeMap::new(),
        |mut all, (node, _)| {
            *all.entry(*node).or_default() += 1;
            all
        },
    );
    assert_eq!(writers.len(), 2, "{writers:?}");

    // One checkpoint for one size, whoever signed it.
    let mut roots: HashMap<(String, String), String> = HashMap::new();
    for (_, r) in &released {
        let note = Receipt::parse(&r.receipt)
            .expect("a receipt")
            .checkpoint_note;
        let lines: Vec<_> = note.lines().map(str::to_owned).collect();
        let place = (lines[0].clone(), lines[1].clone());
        let root = roots.entry(place).or_insert_with(|| lines[2].clone());
        assert_eq!(*root, lines[2], "a fork: {note}");
    }
    let of_people = TokenSpec::new("two-admin", PEOPLE_AUDIENCE).mfa();
    let token = pair.stack.people.mint(&of_people).expect("a token");
    let token = pair.raw(&pair.a).exchanged("two", &token);
    until("both nodes show one head", || {
        let path = format!("/log/{}/checkpoint", pair.keys[0]);
        // The other node's token, at each.
        let heads = [&pair.a, &pair.b].map(|n| pair.raw(n).get(&path, Some(&token)));
        assert!(heads.iter().all(|h| h.status == 200), "{heads:?}");
        heads[0].body == heads[1].body
    });
    let all: Vec<Released> = released.into_iter().map(|(_, r)| r).collect();
    let logs = pair.judge(&all);
    let unknown: usize = logs.iter().map(|l| l.results("unknown")).sum();
    assert_eq!(unknown, 0, "nothing died");
    let hot = logs.iter().find(|l| l.origin == hot).expect("the hot log");
    let nodes: std::collections::BTreeSet<_> = hot
        .authorisations()
        .map(|(_, l)| l["leaf"]["node"].to_string())
        .collect();
    assert!(nodes.len() >= 2, "{nodes:?}");
}

#[test]
fn a_retry_at_the_other_node_is_not_a_second_signature() {
    let mut pair = Pair::new("both", &["release"]);
    let mut released = Vec::new();
    // At once: one of them signs; the other says "later" or gives the same.
    for n in 0..12 {
        let ask = pair.signers[0].ask(&format!("both-{n}"));
        let answers = std::thread::scope(|scope| {
            let calls = [&pair.a, &pair.b].map(|node| {
                let (pair, ask) = (&pair, &ask);
                scope.spawn(move || pair.send(node, ask))
            });
            calls.map(|c| c.join().expect("no panic"))
        });
        for answer in &answers {
            if answer.status != 200 {
                assert_eq!(answer.problem(), "idempotency-in-flight", "{answer:?}");
                assert_eq!(answer.json()["retryable"], true);
            }
        }
        assert!(answers.iter().any(|a| a.status == 200), "{answers:?}");
        let (a, b) = (pair.patient(&pair.a, &ask), pair.patient(&pair.b, &ask));
        assert_eq!(a.body, b.body, "byte for byte, from both");
        for answer in answers.iter().filter(|a| a.status == 200) {
            assert_eq!(answer.body, a.body);
        }
        released.push(pair.released(&ask, &a));
    }
    // Another body under the same key is refused by the node that never saw the first.
    let other = pair.signers[0].ask("both-other");
    let key = pair.signers[0].ask("both-0").idempotency_key;
    let raw = pair.raw(&pair.b);
    let answer = pair.signers[0]
        .send_with(&raw, &pair.token, &other.body, &[("idempotency-key", &key)])
        .expect("an answer");
    assert_eq!(
        (answer.status, answer.problem().as_str()),
        (422, "idempotency-mismatch")
    );
    // And after both started anew.
    let ask = pair.signers[0].ask("both-0");
    let before = pair.patient(&pair.a, &ask).body;
    assert_eq!((pair.a.stop(), pair.b.stop()), (Some(0), Some(0)));
    assert!(pair.a.start(&[]) && pair.b.start(&[]));
    for node in [&pair.a, &pair.b] {
        assert_eq!(pair.patient(node, &ask).body, before);
    }
    pair.judge(&released);
}

#[test]
fn what_one_node_changed_the_other_knows_at_once() {
    let pair = Pair::new("change", &["release"]);
    let mut released = Vec::new();
    for round in 0..3 {
        for (node, name) in [(&pair.a, "a"), (&pair.b, "b")] {
            let ask = pair.signers[0].ask(&format!("change-{round}-{name}"));
            released.push(pair.released(&ask, &pair.patient(node, &ask)));
        }
        // The command line asks node a; b had the key cached a moment ago.
        pair.admin
            .ok(&["keys", "suspend", &pair.keys[0], "--reason", "a test"]);
        for node in [&pair.b, &pair.a] {
            let ask = pair.signers[0].ask(&format!("change-{round}-refused"));
            let answer = pair.send(node, &ask);
            assert_eq!(
                (answer.status, answer.problem().as_str()),
                (409, "key-not-active"),
                "{answer:?}"
            );
        }
        pair.admin
            .ok(&["keys", "resume", &pair.keys[0], "--reason", "a test"]);
    }
    // A service token of one is good at the other, whoever made the key that signs it.
    let id_token = pair.stack.job_token(REPOSITORY);
    let of_b = pair.raw(&pair.b).exchanged("change", &id_token);
    let ask = pair.signers[0].ask("change-token");
    let answer = pair.signers[0]
        .send(&pair.raw(&pair.a), &of_b, &ask)
        .expect("an answer");
    released.push(pair.released(&ask, &answer));
    // An ID token that one node took is used up at the other.
    let again = pair.raw(&pair.a).exchange(Some("change"), &id_token);
    assert_eq!(again.problem(), "token-replayed", "{again:?}");
    pair.judge(&released);
}

/// A holds signatures at the last step before they leave, is stopped there past its lease and wakes.
#[test]
fn a_node_that_stalled_lets_nothing_out() {
    let mut pair = Pair::new("stall", &["release"]);
    assert_eq!(pair.a.stop(), Some(0));
    assert!(
        pair.a
            .start(&[("COUNTERSIGN_FAILPOINTS", "server.before-release=sleep:2200")])
    );
    let ask = pair.signers[0].ask("stall");
    let held = std::thread::scope(|scope| {
        let raw = pair.raw(&pair.a);
        let (signing, token, ask) = (&pair.signers[0], &pair.token, &ask);
        let call = scope.spawn(move || signing.send(&raw, token, ask));
        until("it is open", || pair.open() == 1);
        // It is with the worker for some milliseconds, and then 2.2 s at the last step.
        std::thread::sleep(Duration::from_millis(150));
        told(&pair.a, "STOP");
        until("the other node closes it", || pair.open() == 0);
        told(&pair.a, "CONT");
        call.join().expect("no panic")
    });
    // Whether it still answered or was gone already: there is no signature in it.
    if let Ok(answer) = held {
        assert_eq!(answer.status, 503, "it lets nothing out: {answer:?}");
        assert_eq!(answer.json()["retryable"], true, "{answer:?}");
    }
    assert!(pair.a.ended(LONG), "a node that was declared dead ends");
    assert_eq!(pair.a.ends.last().and_then(|(_, code)| *code), Some(5));
    assert!(pair.a.said().contains("declared dead"), "and says why");

    // The other one serves meanwhile; a new run serves again.
    let answer = pair.patient(&pair.b, &ask);
    let mut released = vec![pair.released(&ask, &answer)];
    assert!(pair.a.start(&[]));
    assert_eq!(pair.patient(&pair.a, &ask).body, answer.body);
    let after = pair.signers[0].ask("stall-after");
    released.push(pair.released(&after, &pair.patient(&pair.a, &after)));
    let all = pair.judge(&released);
    let log = all.iter().find(|l| l.origin == released[0].origin);
    let log = log.expect("the key's log");
    let attempts = log.of(&ask.tbs);
    assert_eq!(attempts.len(), 2, "{attempts:#?}");
    let outcome = log.outcome(attempts[0].0);
    assert_eq!(outcome["result"], "unknown", "{outcome}");
    assert_eq!(outcome["reason"], "node-stopped", "{outcome}");
}

#[test]
fn what_a_killed_node_claimed_is_free_after_its_lease() {
    let mut pair = Pair::new("killed", &["release"]);
    assert_eq!(pair.a.stop(), Some(0));
    assert!(
        pair.a
            .start(&[("COUNTERSIGN_FAILPOINTS", "server.after-worker=hang")])
    );
    let ask = pair.signers[0].ask("killed");
    let killed = std::thread::scope(|scope| {
        let raw = pair.raw(&pair.a);
        let (signing, token, ask) = (&pair.signers[0], &pair.token, &ask);
        let call = scope.spawn(move || signing.send(&raw, token, ask));
        until("it is open", || pair.open() == 1);
        // The other node knows that it is being worked on, and by whom it is not.
        let answer = pair.send(&pair.b, ask);
        assert_eq!(
            (answer.status, answer.problem().as_str()),
            (409, "idempotency-in-flight")
        );
        told(&pair.a, "KILL");
        let killed = Instant::now();
        assert!(call.join().expect("no panic").is_err(), "nobody answers");
        killed
    });
    assert!(pair.a.ended(LONG));
    let answer = pair.patient(&pair.b, &ask);
    let took = killed.elapsed();
    // By the lease, not by a restart of the dead one; with some for a busy machine.
    assert!(took < Duration::from_secs(LEASE_S + 20), "{took:?}");
    let released = pair.released(&ask, &answer);
    assert!(pair.a.start(&[]));
    assert_eq!(pair.patient(&pair.a, &ask).body, answer.body);
    let all = pair.judge(&[released]);
    let unknown: usize = all.iter().map(|l| l.results("unknown")).sum();
    assert_eq!(unknown, 1);
}

fn told(node: &Node, how: &str) {
    signal(node.pid().expect("it runs"), how);
}
