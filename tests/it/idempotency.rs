//! A retry is not a second signature (design invariant 8).

use crate::support::load::{Ask, Signing, judge, logs};
use crate::support::raw::RawAnswer;
use crate::support::{REPOSITORY, Stack, job_spec, text};
use serde_json::{Value, json};
use std::time::{Duration, Instant};

const REQUEST: &str = "x-request-id";

#[test]
fn the_same_key_and_body_give_the_first_answer_and_one_leaf() {
    let stack = Stack::shared();
    let admin = stack.tenant("idem");
    stack.signer(&admin, "idem/release", "ec-p256");
    let signing = Signing::of(stack, "idem/release");
    let (raw, token) = (stack.raw(), stack.service_token("idem", REPOSITORY));

    let ask = signing.ask("once");
    let key = [("idempotency-key", ask.idempotency_key.as_str())];
    let whole = signing.send_whole(&raw, &token, &ask.body, &key);
    let whole = whole.expect("an answer");
    let first = signing.send(&raw, &token, &ask).expect("an answer");
    let released = signing.released(&ask, &first);
    for n in 0..3 {
        let again = signing.send_whole(
            &raw,
            &token,
            &ask.body,
            &[
                ("idempotency-key", &ask.idempotency_key),
                (REQUEST, &format!("retry-{n}")),
            ],
        );
        let again = again.expect("an answer");
        assert_eq!(
            (again.status, &again.body),
            (200, &whole.body),
            "byte for byte the first answer"
        );
        assert_eq!(
            again.request_id,
            format!("retry-{n}"),
            "the request id is this request's own"
        );
    }
    // Another service token of the same pipeline is the same principal.
    let other_token = stack.service_token("idem", REPOSITORY);
    let again = signing.send(&raw, &other_token, &ask).expect("an answer");
    assert_eq!(again.body, first.body);

    // Another body: another file, another algorithm, another kind of content.
    let other = signing.ask("other");
    let mut swapped: Value = serde_json::from_slice(&ask.body).expect("JSON");
    swapped["items"][0]["content"] =
        json!({"type": "raw-digest", "digest": "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="});
    stack.grant(&admin, "idem/release", &["raw-digest"]);
    for body in [other.body.clone(), swapped.to_string().into_bytes()] {
        let answer = signing
            .send_with(
                &raw,
                &token,
                &body,
                &[("idempotency-key", &ask.idempotency_key)],
            )
            .expect("an answer");
        assert_eq!(
            (answer.status, answer.problem().as_str()),
            (422, "idempotency-mismatch")
        );
        assert_eq!(answer.json()["retryable"], false);
    }
    // Another spelling of the same request is the same body: keys in another order, white space.
    let mut spelled = String::from_utf8(ask.body.clone()).expect("UTF-8");
    spelled.insert(1, '\n');
    let again = signing
        .send_with(
            &raw,
            &token,
            spelled.as_bytes(),
            &[("idempotency-key", &ask.idempotency_key)],
        )
        .expect("an answer");
    assert_eq!(again.body, first.body);

    // The same key of another principal is another key.
    let stranger = job_spec(REPOSITORY);
    let mut stranger = stranger;
    stranger.sub = "repo:any/other:environment:release".into();
    let theirs = raw.exchanged("idem", &stack.platform.mint(&stranger).expect("a token"));
    let independent = signing.send(&raw, &theirs, &ask).expect("an answer");
    let second = signing.released(&ask, &independent);
    assert_ne!(second.index, released.index);

    // Keys that are none.
    for bad in ["", "a b", &"k".repeat(256)] {
        let answer = signing
            .send_with(&raw, &token, &other.body, &[("idempotency-key", bad)])
            .expect("an answer");
        assert!([400, 422].contains(&answer.status), "{bad:?}: {answer:?}");
        answer.problem();
    }

    let receipts = stack.folder("idem-receipts");
    let logs = logs(&admin, &stack.path("idem-logs"));
    let of: Vec<_> = logs.iter().flat_map(|l| l.of(&ask.tbs)).collect();
    assert_eq!(of.len(), 2, "one leaf for each principal: {of:#?}");
    assert!(
        of.iter()
            .all(|(_, l)| l["leaf"]["attempt"] == 1 && l["leaf"].get("repeats").is_none())
    );
    assert_eq!(
        logs.iter().flat_map(|l| l.of(&other.tbs)).count(),
        0,
        "a refused body has no leaf"
    );
    for r in [&released, &second] {
        std::fs::write(receipts.join(format!("{}.tlog-proof", r.index)), &r.receipt)
            .expect("receipt");
    }
    for log in &logs {
        log.audited(&admin, &receipts);
    }
}

#[test]
fn the_command_line_with_a_retry_id_gets_the_same_signature_twice() {
    let stack = Stack::shared();
    let admin = stack.tenant("idem-cli");
    stack.signer(&admin, "idem-cli/release", "ec-p256");
    let folder = stack.folder("idem-cli");
    let file = text(&folder.join("a.bin"));
    std::fs::write(&file, "content").expect("a file");
    let sign = |job: &str, id: &str, out: &str| {
        let out = text(&folder.join(out));
        let signed = stack.job(job, REPOSITORY).json(&[
            "sign",
            "--signer",
            "idem-cli/release",
            "--retry-id",
            id,
            "--out",
            &out,
            &file,
        ]);
        let signature = std::fs::read(&out).expect("a signature");
        (
            signed["files"][0]["index"].as_u64().expect("index"),
            signature,
        )
    };
    let first = sign("idem-cli-1", "build-1", "one.p7s");
    let second = sign("idem-cli-2", "build-1", "two.p7s");
    assert_eq!(first, second);
    assert_ne!(
        sign("idem-cli-3", "build-2", "three.p7s").0,
        first.0,
        "another build signs anew"
    );
}

/// A request in flight, a worker killed with a signature in its hands, and both again.
#[test]
fn in_flight_is_409_and_after_unknown_a_retry_names_the_first_attempt() {
    let mut stack = Stack::start();
    let admin = stack.tenant("retry");
    stack.signer(&admin, "retry/release", "ec-p256");
    let signing = Signing::of(&stack, "retry/release");

    // In flight.
    restart(&mut stack, "worker.before-c-sign=sleep:1500@1");
    let ask = signing.ask("slow");
    let (raw, token) = (stack.raw(), stack.service_token("retry", REPOSITORY));
    let slow = std::thread::scope(|scope| {
        let first = scope.spawn(|| signing.send(&stack.raw(), &token, &ask).expect("an answer"));
        let until = Instant::now() + Duration::from_secs(60);
        loop {
            let answer = signing.send(&raw, &token, &ask).expect("an answer");
            if answer.status == 409 {
                assert_eq!(answer.problem(), "idempotency-in-flight");
                assert_eq!(answer.json()["retryable"], true);
                break;
            }
            // Ours came first, or both at once: then the other one is told.
            assert!(first.is_finished() || Instant::now() < until, "{answer:?}");
            if answer.status == 200 {
                break;
            }
        }
        first.join().expect("no panic")
    });
    let slow = if slow.status == 200 {
        slow
    } else {
        patient(&signing, &stack, &ask)
    };
    assert_eq!(patient(&signing, &stack, &ask).body, slow.body);
    let mut released = vec![signing.released(&ask, &slow)];

    // The worker dies between signing and answering; three times in a row the outcome is unknown.
    let lost = signing.ask("lost");
    for _ in 0..2 {
        let once = stack.folder(&format!("once-{}", countersign_core::RequestId::new()));
        stack.stop_server();
        stack.start_server(&[
            ("COUNTERSIGN_FAILPOINTS", "worker.after-c-sign=abort"),
            ("COUNTERSIGN_FAILPOINTS_ONCE", &text(&once)),
        ]);
        let token = stack.service_token("retry", REPOSITORY);
        let answer = signing
            .send(&stack.raw(), &token, &lost)
            .expect("an answer");
        assert_eq!(
            (answer.status, answer.problem().as_str()),
            (503, "unavailable")
        );
        assert_eq!(answer.json()["retryable"], true);
        assert!(answer.retry_after_s.is_some());
    }
    // And the server: killed when the signature is there and nobody has it.
    restart(&mut stack, "server.after-worker=abort");
    let token = stack.service_token("retry", REPOSITORY);
    signing
        .send(&stack.raw(), &token, &lost)
        .expect_err("the server dies");
    assert!(stack.server_ended(Duration::from_secs(10)));
    stack.start_server(&[]);
    let answer = patient(&signing, &stack, &lost);
    released.push(signing.released(&lost, &answer));
    assert_eq!(patient(&signing, &stack, &lost).body, answer.body);

    let logs = logs(&admin, &stack.path("retry-logs"));
    let attempts: Vec<_> = logs
        .iter()
        .flat_map(|l| l.of(&lost.tbs).into_iter().map(move |a| (l, a)))
        .collect();
    assert_eq!(attempts.len(), 4);
    for (n, (log, (index, leaf))) in attempts.iter().enumerate() {
        assert_eq!(leaf["leaf"]["attempt"], n + 1);
        let repeats = (n > 0).then_some(attempts[0].1.0);
        assert_eq!(
            leaf["leaf"]["repeats"].as_u64(),
            repeats,
            "every further attempt names the first"
        );
        let result = if n == 3 { "signed" } else { "unknown" };
        assert_eq!(log.outcome(*index)["result"], result, "attempt {}", n + 1);
    }
    let receipts = stack.folder("retry-receipts");
    judge(&admin, &logs, &released, &receipts);
}

fn restart(stack: &mut Stack, failpoints: &str) {
    stack.stop_server();
    stack.start_server(&[("COUNTERSIGN_FAILPOINTS", failpoints)]);
}

/// Asks until it is answered, as a client does.
fn patient(signing: &Signing, stack: &Stack, ask: &Ask) -> RawAnswer {
    let token = stack.service_token(&signing.tenant, REPOSITORY);
    let until = Instant::now() + Duration::from_secs(60);
    loop {
        let answer = signing.send(&stack.raw(), &token, ask).expect("an answer");
        if answer.status == 200 {
            return answer;
        }
        assert_eq!(answer.json()["retryable"], true, "{answer:?}");
        assert!(Instant::now() < until, "{answer:?}");
        std::thread::sleep(Duration::from_millis(100));
    }
}
