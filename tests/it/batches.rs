//! Many signatures in one request: each item has a decision, a leaf and an answer of its own; they
//! share a commit; a batch that comes again signs only what was not signed.

mod resumed;

use crate::support::leaves::of_type;
use crate::support::load::{Ask, Released, Signing, judge, logs};
use crate::support::raw::RawAnswer;
use crate::support::{REPOSITORY, Stack};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use countersign_signing_log::Receipt;
use serde_json::{Value, json};
use std::collections::{BTreeSet, HashSet};
use std::process::Command;
use std::time::{Duration, Instant};

/// Asks for files named after the number.
fn asks(signing: &Signing, name: &str, numbers: impl Iterator<Item = usize>) -> Vec<(String, Ask)> {
    numbers
        .map(|n| (format!("{name}-{n}"), signing.ask(&format!("{name}-{n}"))))
        .collect()
}

/// One request for all of them, each under its name.
fn body<'a>(asks: impl IntoIterator<Item = &'a (String, Ask)>) -> Vec<u8> {
    let items: Vec<Value> = asks
        .into_iter()
        .map(|(id, ask)| {
            let one: Value = serde_json::from_slice(&ask.body).expect("JSON");
            let mut item = one["items"][0].clone();
            item["id"] = id.as_str().into();
            item
        })
        .collect();
    json!({"items": items}).to_string().into_bytes()
}

/// What came of a request under this key.
struct Sender<'a> {
    stack: &'a Stack,
    signing: &'a Signing,
    token: String,
    key: &'a str,
}

impl<'a> Sender<'a> {
    fn new(stack: &'a Stack, signing: &'a Signing, key: &'a str) -> Self {
        let token = stack.service_token(&signing.tenant, REPOSITORY);
        Self {
            stack,
            signing,
            token,
            key,
        }
    }

    fn send(&self, body: &[u8]) -> RawAnswer {
        self.try_send(body).expect("an answer")
    }

    fn try_send(&self, body: &[u8]) -> Result<RawAnswer, countersign_client::Error> {
        let key = [("idempotency-key", self.key)];
        self.signing
            .send_whole(&self.stack.raw(), &self.token, body, &key)
    }

    /// Until each item has its signature, as a client does.
    fn patient(&self, asks: &[(String, Ask)]) -> RawAnswer {
        let until = Instant::now() + Duration::from_secs(60);
        let body = body(asks);
        loop {
            let answer = self.send(&body);
            assert_eq!(answer.status, 200, "{answer:?}");
            let bad: Vec<_> = (0..asks.len())
                .map(|n| answer.item(n))
                .filter(|a| a.status != 200)
                .collect();
            if bad.is_empty() {
                return answer;
            }
            assert!(
                bad.iter().all(|a| a.json()["retryable"] == true),
                "{bad:#?}"
            );
            assert!(Instant::now() < until, "{bad:#?}");
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    fn released(&self, asks: &[(String, Ask)], answer: &RawAnswer) -> Vec<Released> {
        asks.iter()
            .enumerate()
            .map(|(n, (_, ask))| self.signing.released(ask, &answer.item(n)))
            .collect()
    }
}

fn ids(answer: &RawAnswer) -> Vec<String> {
    let json = answer.json();
    let results = json["results"].as_array().expect("results");
    results
        .iter()
        .map(|r| r["id"].as_str().expect("id").to_owned())
        .collect()
}

/// Sizes of the trees that the receipts lead to: each is one commit.
fn commits(released: &[Released]) -> BTreeSet<u64> {
    released
        .iter()
        .map(|r| {
            let receipt = Receipt::parse(&r.receipt).expect("a receipt");
            let size = receipt.checkpoint_note.lines().nth(1).expect("size");
            size.parse().expect("a size")
        })
        .collect()
}

#[test]
fn each_item_is_decided_by_itself() {
    let stack = Stack::shared();
    let admin = stack.tenant("batch-each");
    let key = stack.signer(&admin, "batch-each/release", "ec-p256");
    let signing = Signing::of(stack, "batch-each/release");
    let sender = Sender::new(stack, &signing, "each");
    let good = asks(&signing, "good", 0..3);
    let mut whole: Value = serde_json::from_slice(&body(&good)).expect("JSON");
    let items = whole["items"].as_array_mut().expect("items");
    // Content that is none; a content type, then an algorithm, that no grant names.
    items.insert(
        1,
        json!({"id": "none", "content": {"type": "cms", "signed_attributes": STANDARD.encode(b"\x31\x00")},
            "digest_algorithm": "sha-256"}),
    );
    items.push(
        json!({"id": "bare", "content": {"type": "raw-digest", "digest": STANDARD.encode([7; 32])},
            "digest_algorithm": "sha-256"}),
    );
    let answer = sender.send(whole.to_string().as_bytes());
    assert_eq!(ids(&answer), ["good-0", "none", "good-1", "good-2", "bare"]);
    let result = |n: usize| {
        let item = answer.item(n);
        match item.status {
            200 => (200, String::new()),
            status => (status, item.problem()),
        }
    };
    let codes: Vec<_> = (0..5).map(result).collect();
    assert_eq!(codes[1], (422, "content-refused".into()));
    assert_eq!(codes[4], (403, "denied".into()));
    assert!([0, 2, 3].iter().all(|n| codes[*n].0 == 200), "{codes:?}");
    let refused = answer.item(1).json();
    assert_eq!(refused["field"], "content.signed_attributes");
    assert_eq!(refused["instance"], answer.request_id.as_str());
    assert!(!answer.item(4).json()["reasons"][0]["steps"].is_null());
    let signed_by = answer.json()["signed_by"].clone();
    assert_eq!(signed_by.as_array().map(Vec::len), Some(1), "{signed_by}");
    assert_eq!(signed_by[0]["key"], key.as_str());
    let released: Vec<_> = [(0, 0), (1, 2), (2, 3)]
        .into_iter()
        .map(|(ask, n)| signing.released(&good[ask].1, &answer.item(n)))
        .collect();

    // All refused: still one answer for each, and nobody's signature.
    let none = json!({"items": [whole["items"][1], whole["items"][4]]});
    let answer = sender.send(none.to_string().as_bytes());
    assert_eq!((answer.status, ids(&answer).len()), (200, 2));
    assert_eq!(answer.json()["signed_by"], json!([]));

    // What is wrong with the request as a whole is said with its field, and nothing is begun.
    let many = asks(&signing, "many", 0..101);
    let mut twice: Value = serde_json::from_slice(&body(&many[..4])).expect("JSON");
    twice["items"][3]["id"] = "many-1".into();
    let mut spaced: Value = serde_json::from_slice(&body(&many[..2])).expect("JSON");
    spaced["items"][1]["id"] = "a b".into();
    let mut long = spaced.clone();
    long["items"][1]["id"] = "x".repeat(129).into();
    let mut nameless = spaced.clone();
    nameless["items"][1]
        .as_object_mut()
        .expect("item")
        .remove("id");
    for (body, status, code, field) in [
        (body(&many), 422, "invalid-field", "items"),
        (b"{\"items\":[]}".to_vec(), 422, "invalid-field", "items"),
        (
            twice.to_string().into_bytes(),
            422,
            "invalid-field",
            "items[3].id",
        ),
        (
            spaced.to_string().into_bytes(),
            422,
            "invalid-field",
            "items[1].id",
        ),
        (
            long.to_string().into_bytes(),
            422,
            "invalid-field",
            "items[1].id",
        ),
        (
            nameless.to_string().into_bytes(),
            400,
            "bad-json",
            "items[1].id",
        ),
        // The shape that was.
        (
            many[0].1.body[10..many[0].1.body.len() - 2].to_vec(),
            400,
            "bad-json",
            "digest_algorithm",
        ),
    ] {
        let answer = sender.send(&body);
        let told = (answer.status, answer.problem());
        if field == "digest_algorithm" {
            assert_eq!(told, (status, code.into()), "{answer:?}");
            continue;
        }
        assert_eq!(told, (status, code.into()), "{answer:?}");
        assert_eq!(answer.json()["field"], field, "{answer:?}");
    }

    let logs = logs(&admin, &stack.path("batch-each-logs"));
    assert!(
        many.iter()
            .all(|(_, ask)| logs.iter().all(|l| l.of(&ask.tbs).is_empty())),
        "a batch that is none has no leaf"
    );
    judge(
        &admin,
        &logs,
        &released,
        &stack.folder("batch-each-receipts"),
    );
    // Each refusal counts (invariant 7).
    let counted = |leaves: &[Value], kind: &str| -> u64 {
        let all = of_type(leaves, kind);
        all.iter().filter_map(|l| l["count"].as_u64()).sum()
    };
    admin.tenant_leaves_until(&stack.path("batch-each-log"), "refusals", |leaves| {
        counted(leaves, "content-refused") == 2 && counted(leaves, "denied") == 2
    });
}

#[test]
fn a_hundred_items_share_a_commit() {
    let stack = Stack::shared();
    let admin = stack.tenant("batch-hundred");
    stack.signer(&admin, "batch-hundred/release", "ec-p256");
    let signing = Signing::of(stack, "batch-hundred/release");
    let sender = Sender::new(stack, &signing, "hundred");
    let all = asks(&signing, "file", 0..100);
    let began = Instant::now();
    let answer = sender.send(&body(&all));
    let took = began.elapsed();
    let released = sender.released(&all, &answer);
    assert_eq!(ids(&answer).len(), 100);
    let indices: HashSet<u64> = released.iter().map(|r| r.index).collect();
    assert_eq!(indices.len(), 100, "one leaf for each");
    let commits = commits(&released);
    println!(
        "100 signatures in {took:?}, {} commits, {} bytes",
        commits.len(),
        answer.body.len()
    );
    assert!(commits.len() <= 2, "{commits:?}");
    let logs = logs(&admin, &stack.path("batch-hundred-logs"));
    judge(
        &admin,
        &logs,
        &released,
        &stack.folder("batch-hundred-receipts"),
    );
}

#[test]
fn a_batch_comes_again_whole_in_part_and_with_more() {
    let mut stack = Stack::start();
    let admin = stack.tenant("again");
    let first_key = stack.signer(&admin, "again/release", "ec-p256");
    let signing = Signing::of(&stack, "again/release");
    let all = asks(&signing, "file", 0..20);
    let sender = Sender::new(&stack, &signing, "build-1");
    let first = sender.send(&body(&all));
    let mut released = sender.released(&all, &first);

    let repeats = |sender: &Sender<'_>, when: &str| {
        let again = sender.send(&body(&all));
        assert_eq!(
            again.body, first.body,
            "{when}: byte for byte the first answer"
        );
        assert_ne!(again.request_id, first.request_id);
        // A part of it, in another order.
        let part: Vec<_> = [&all[7], &all[3]].into_iter().cloned().collect();
        let answer = sender.send(&body(&part));
        let (now, before) = (answer.json(), first.json());
        assert_eq!(now["results"][0], before["results"][7], "{when}");
        assert_eq!(now["results"][1], before["results"][3], "{when}");
    };
    repeats(&sender, "at once");

    // More beside it: only what is new is signed. A known id with other content is nobody's.
    let more = asks(&signing, "file", 15..25);
    let answer = sender.send(&body(&more));
    for n in 0..5 {
        assert_eq!(answer.json()["results"][n], first.json()["results"][15 + n]);
    }
    released.extend(sender.released(&more[5..], &sub(&answer, 5)));
    let mut swapped = more[..3].to_vec();
    swapped[1].1 = signing.ask("other content");
    let answer = sender.send(&body(&swapped));
    assert_eq!(answer.item(1).problem(), "idempotency-mismatch");
    assert_eq!(answer.item(1).status, 422);
    for n in [0, 2] {
        assert_eq!(answer.json()["results"][n], first.json()["results"][15 + n]);
    }
    // The same ids under another key, or under none, are new.
    let other = Sender::new(&stack, &signing, "build-2");
    let mut renamed = asks(&signing, "build-2", 0..2);
    for (n, (id, _)) in renamed.iter_mut().enumerate() {
        *id = format!("file-{n}");
    }
    let two = other.send(&body(&renamed));
    released.extend(other.released(&renamed, &two));
    let keyless = asks(&signing, "keyless", 0..1);
    let mut places = HashSet::new();
    for _ in 0..2 {
        let raw = stack.raw();
        let answer = signing.send_whole(&raw, &sender.token, &body(&keyless), &[]);
        let answer = answer.expect("an answer");
        places.insert(sender.released(&keyless, &answer)[0].index);
    }
    assert_eq!(places.len(), 2, "without a key every request signs anew");
    println!("claims: {} bytes an answer", stored_bytes(&stack));

    // From the database alone, after a clean stop and after a kill.
    stack.stop_server();
    stack.start_server(&[]);
    repeats(&Sender::new(&stack, &signing, "build-1"), "after a restart");
    stack.kill_server();
    stack.start_server(&[]);
    repeats(&Sender::new(&stack, &signing, "build-1"), "after a kill");

    // The key is replaced: what was answered stays answered, although its attributes name the old
    // certificate; what is new is signed by the new key, in one answer.
    let second = admin.json(&["keys", "create", "again/release"]);
    let second = second["id"].as_str().expect("id").to_owned();
    let order = ["certificate", "order", &second, "--ca", "demo"];
    admin.ok(&[&order[..], &crate::support::SUBJECT].concat());
    let renewed = Signing::of(&stack, "again/release");
    let sender = Sender::new(&stack, &renewed, "build-1");
    repeats(&sender, "after the key was replaced");
    let mut mixed = all[..2].to_vec();
    mixed.extend(asks(&renewed, "renewed", 0..1));
    mixed.extend(asks(&signing, "late", 0..1));
    let answer = sender.send(&body(&mixed));
    let by = answer.json()["signed_by"].clone();
    assert_eq!(by.as_array().map(Vec::len), Some(2), "{by}");
    assert_eq!(
        (&by[0]["key"], &by[1]["key"]),
        (&json!(first_key), &json!(second))
    );
    assert_eq!(answer.item(0).json()["key"], first_key.as_str());
    assert_eq!(answer.item(2).json()["key"], second.as_str());
    let new = renewed.released(&mixed[2].1, &answer.item(2));
    let late = answer.item(3);
    assert_eq!(
        late.json()["refusal"],
        "content-signing-certificate-mismatch"
    );

    let logs = logs(&admin, &stack.path("again-logs"));
    released.push(new);
    judge(&admin, &logs, &released, &stack.folder("again-receipts"));
    let signed: usize = logs.iter().map(|l| l.results("signed")).sum();
    // Two without a key and two certificate requests beside them.
    assert_eq!(signed, released.len() + 4, "nothing was signed twice");
}

/// The answer without its first items.
fn sub(answer: &RawAnswer, from: usize) -> RawAnswer {
    let mut whole = answer.json();
    let results = whole["results"].as_array_mut().expect("results");
    results.drain(..from);
    RawAnswer {
        status: answer.status,
        content_type: answer.content_type.clone(),
        request_id: answer.request_id.clone(),
        retry_after_s: None,
        body: whole.to_string().into_bytes(),
    }
}

/// Mean length of the answers kept for retries.
fn stored_bytes(stack: &Stack) -> f64 {
    let query = "import sqlite3, sys\n\
                 c = sqlite3.connect('file:' + sys.argv[1] + '?mode=ro', uri=True)\n\
                 print(c.execute(\"SELECT avg(length(answer)) FROM claims WHERE state = 'done'\").fetchone()[0])";
    let out = Command::new("python3")
        .args(["-c", query])
        .arg(stack.path("service/data/countersign.db"))
        .output()
        .expect("python3");
    let said = String::from_utf8_lossy(&out.stdout);
    let bytes: f64 = said.trim().parse().unwrap_or_else(|_| {
        panic!("{said} {}", String::from_utf8_lossy(&out.stderr));
    });
    assert!(
        bytes < 500.0,
        "{bytes}: only what is the item's own is kept"
    );
    bytes
}

/// Asked again while it is worked on, and after a client gave up waiting.
#[test]
fn what_is_in_flight_is_told_item_by_item_and_a_lost_answer_comes_again() {
    let mut stack = Stack::start();
    let admin = stack.tenant("flight");
    stack.signer(&admin, "flight/release", "ec-p256");
    let signing = Signing::of(&stack, "flight/release");
    stack.stop_server();
    stack.start_server(&[("COUNTERSIGN_FAILPOINTS", "worker.before-c-sign=sleep:500")]);
    let sender = Sender::new(&stack, &signing, "flight");
    let slow = asks(&signing, "slow", 0..12);
    let fast = asks(&signing, "fast", 0..1);
    let mixed: Vec<_> = slow.iter().chain(&fast).cloned().collect();
    let leaves = || {
        let list = admin.json(&["log", "list"]);
        let mut all = list.as_array().expect("logs").iter();
        let log = all.find(|l| l["kind"] == "key").expect("the key's log");
        log["size"].as_u64().expect("size")
    };
    let before = leaves();

    // The client hangs up long before twelve times half a second: what was begun goes on.
    let short = countersign_client::Web::new(Some(&stack.ca_file()), Duration::from_millis(900));
    let bearer = format!("Bearer {}", sender.token);
    let gone = short.expect("a client").send(
        "POST",
        &format!(
            "{}/v1/tenants/flight/signers/release/signatures",
            stack.url()
        ),
        &[
            ("authorization", &bearer),
            ("content-type", "application/json"),
            ("idempotency-key", sender.key),
        ],
        Some(&body(&slow)),
        1 << 20,
    );
    gone.expect_err("it does not wait so long");
    let arrived = Instant::now() + Duration::from_secs(60);
    while leaves() < before + 12 {
        assert!(Instant::now() < arrived, "the batch never arrived");
        std::thread::sleep(Duration::from_millis(20));
    }
    let answer = sender.send(&body(&mixed));
    let told: Vec<_> = (0..12).map(|n| answer.item(n)).collect();
    assert!(
        told.iter()
            .any(|a| a.status == 409 && a.problem() == "idempotency-in-flight"),
        "{told:#?}"
    );
    assert!(
        told.iter()
            .all(|a| a.status == 200 || a.json()["retryable"] == true)
    );
    assert_eq!(answer.item(12).status, 200, "its neighbour is signed");
    let mut released = vec![signing.released(&fast[0].1, &answer.item(12))];
    let first = sender.patient(&slow);
    released.extend(sender.released(&slow, &first));
    assert_eq!(sender.send(&body(&slow)).body, first.body);
    let logs = logs(&admin, &stack.path("flight-logs"));
    judge(&admin, &logs, &released, &stack.folder("flight-receipts"));
    for (_, ask) in &slow {
        let attempts: usize = logs.iter().map(|l| l.of(&ask.tbs).len()).sum();
        assert_eq!(attempts, 1, "one leaf: the lost answer was the answer");
    }
}

#[test]
fn a_server_killed_in_mid_batch_signs_the_rest_and_nothing_twice() {
    let mut stack = Stack::start();
    let admin = stack.tenant("killed");
    stack.signer(&admin, "killed/release", "ec-p256");
    let signing = Signing::of(&stack, "killed/release");
    let all = asks(&signing, "file", 0..60);
    let mut kills = 0;
    for (point, hit) in [("server.after-worker", 25), ("server.after-outcome", 10)] {
        stack.stop_server();
        stack.start_server(&[("COUNTERSIGN_FAILPOINTS", &format!("{point}=abort@{hit}"))]);
        // Mostly there is no answer; the last outcomes may follow one by a moment.
        let _ = Sender::new(&stack, &signing, "killed").try_send(&body(&all));
        assert!(stack.server_ended(Duration::from_secs(20)), "{point}");
        kills += 1;
    }
    stack.start_server(&[]);
    let sender = Sender::new(&stack, &signing, "killed");
    let answer = sender.patient(&all);
    let released = sender.released(&all, &answer);
    assert_eq!(sender.send(&body(&all)).body, answer.body);
    let logs = logs(&admin, &stack.path("killed-logs"));
    judge(&admin, &logs, &released, &stack.folder("killed-receipts"));
    let (mut again, mut signed) = (0, 0);
    for (id, ask) in &all {
        let attempts: Vec<_> = logs
            .iter()
            .flat_map(|l| l.of(&ask.tbs).into_iter().map(move |(i, _)| l.outcome(i)))
            .collect();
        let good = attempts.iter().filter(|o| o["result"] == "signed").count();
        assert_eq!(good, 1, "{id}: {attempts:#?}");
        signed += good;
        again += attempts.len() - 1;
    }
    println!("{kills} kills: {signed} signed, {again} attempts of unknown outcome before them");
    assert!(again > 0, "no kill met an item: the test shows nothing");
}
