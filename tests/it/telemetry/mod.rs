//! Traces and metrics: what they say, what they never say, and that nothing waits for them.

mod scrape;
mod sink;

use crate::support::load::Signing;
use crate::support::{REPOSITORY, Stack, text};
use base64::Engine as _;
use opentelemetry_proto::tonic::trace::v1::Span;
use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
use scrape::{Scrape, ask};
use sink::{Sink, hex, texts};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

/// Names that stand nowhere else.
const TENANT: &str = "quokka-industries";
const SIGNER: &str = "wombat-firmware";

/// A service with both switched on, and one signer.
struct World {
    stack: Stack,
    sink: Sink,
    metrics: u16,
    signing: Signing,
    key: String,
}

/// Counters are compared before and after: one test at a time.
fn world() -> std::sync::MutexGuard<'static, World> {
    static WORLD: OnceLock<Mutex<World>> = OnceLock::new();
    WORLD
        .get_or_init(|| Mutex::new(World::start()))
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
}

impl World {
    fn start() -> Self {
        let mut stack = Stack::start();
        let sink = Sink::start();
        let metrics = free_port();
        let headers = stack.path("otlp-headers");
        write_secret(&headers, "Authorization: Bearer for-the-collector\n");
        configure(
            &stack,
            &format!(
                "\n[telemetry]\notlp_endpoint = \"{}\"\nheaders_file = \"{}\"\nmetrics_listen = \"127.0.0.1:{metrics}\"\n",
                sink.endpoint(),
                text(&headers)
            ),
        );
        stack.stop_server();
        stack.start_server(&[]);
        stack.end_with_the_tests(&[]);
        let admin = stack.tenant(TENANT);
        let name = format!("{TENANT}/{SIGNER}");
        let key = stack.signer(&admin, &name, "ec-p256");
        let signing = Signing::of(&stack, &name);
        Self {
            stack,
            sink,
            metrics,
            signing,
            key,
        }
    }

    /// A scrape when nothing is under way any more.
    fn at_rest(&self) -> Scrape {
        let until = Instant::now() + Duration::from_secs(60);
        loop {
            let scrape = Scrape::of(self.metrics);
            let resting = scrape.get("countersign_open_authorisations") == 0.0
                && scrape.get("countersign_log_age_seconds") == 0.0
                && scrape.get("countersign_http_requests_in_flight") == 0.0;
            if resting {
                return scrape;
            }
            assert!(Instant::now() < until, "{}", scrape.text);
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    fn token(&self) -> String {
        self.stack.service_token(TENANT, REPOSITORY)
    }

    /// Asks for one signature under this trace.
    fn sign_in(&self, content: &str, trace: &str) -> crate::support::load::Released {
        let ask = self.signing.ask(content);
        let parent = format!("00-{trace}-00f067aa0ba902b7-01");
        let answer = self.signing.send_with(
            &self.stack.raw(),
            &self.token(),
            &ask.body,
            &[("traceparent", &parent), ("x-request-id", content)],
        );
        self.signing.released(&ask, &answer.expect("an answer"))
    }
}

fn configure(stack: &Stack, section: &str) {
    let config = stack.config();
    let text = std::fs::read_to_string(&config).expect("configuration");
    let text = text
        .split("\n[telemetry]")
        .next()
        .unwrap_or(&text)
        .to_owned()
        + section;
    std::fs::write(&config, text).expect("configuration");
}

fn write_secret(path: &Path, text: &str) {
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::write(path, text).expect("file");
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600)).expect("mode");
}

fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0")
        .and_then(|l| l.local_addr())
        .expect("a free port")
        .port()
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// Spans of one trace by name; each name once.
fn by_name(spans: Vec<Span>) -> HashMap<String, Span> {
    let count = spans.len();
    let named: HashMap<_, _> = spans.into_iter().map(|s| (s.name.clone(), s)).collect();
    assert_eq!(named.len(), count, "a name twice: {named:#?}");
    named
}

#[test]
fn a_signature_is_one_trace_from_the_api_to_the_worker_and_back() {
    let world = world();
    let trace = "4bf92f3577b34da6a3ce929d0e0e4736";
    world.sign_in("traced-file", trace);
    let spans = by_name(world.sink.trace(trace, 8));
    let children: BTreeMap<&str, &str> = [
        ("decide", "request"),
        ("log.commit", "request"),
        ("worker", "request"),
        ("worker.queue", "worker"),
        ("worker.sign", "worker"),
        ("verify", "request"),
        ("answer", "request"),
    ]
    .into();
    let names: BTreeSet<_> = spans.keys().map(String::as_str).collect();
    let expected: BTreeSet<_> = children.keys().copied().chain(["request"]).collect();
    assert_eq!(names, expected);

    let request = &spans["request"];
    assert_eq!(
        hex(&request.parent_span_id),
        "00f067aa0ba902b7",
        "the caller's"
    );
    assert_eq!(request.kind, SpanKind::Server as i32);
    assert_eq!(spans["worker"].kind, SpanKind::Client as i32);
    for (child, parent) in children {
        let (child, parent) = (&spans[child], &spans[parent]);
        assert_eq!(child.parent_span_id, parent.span_id, "{}", child.name);
        assert!(
            child.start_time_unix_nano >= parent.start_time_unix_nano
                && child.end_time_unix_nano <= parent.end_time_unix_nano
                && child.start_time_unix_nano <= child.end_time_unix_nano,
            "{} lies within {}",
            child.name,
            parent.name
        );
    }
    let sign = &spans["worker.sign"];
    assert!(
        sign.end_time_unix_nano > sign.start_time_unix_nano,
        "C_Sign takes time"
    );
    let in_order = ["decide", "log.commit", "worker", "verify", "answer"];
    for pair in in_order.windows(2) {
        let [first, then] = [&spans[pair[0]], &spans[pair[1]]];
        assert!(
            first.end_time_unix_nano <= then.start_time_unix_nano,
            "{pair:?}"
        );
    }
    let said = texts(&request.attributes);
    assert_eq!(said["http.request.header.x-request-id"], "traced-file");
    assert_eq!(said["http.response.status_code"], "200");
    assert_eq!(said["http.request.method"], "POST");
    assert_eq!(
        said["http.route"],
        "/v1/tenants/{tenant}/signers/{signer}/signatures"
    );
    assert_eq!(
        texts(&spans["decide"].attributes)["countersign.content"],
        "cms"
    );
    assert_eq!(
        texts(&spans["worker"].attributes)["countersign.algorithm"],
        "ecdsa-sha-256"
    );

    // The commit that was made for it, perhaps for others too: a trace of its own, linked both ways.
    let commit = &spans["log.commit"];
    let flush = world.sink.until(|all| {
        all.into_iter()
            .find(|s| s.name == "log.flush" && s.links.iter().any(|l| l.span_id == commit.span_id))
            .ok_or("no log.flush yet")
    });
    assert_ne!(flush.trace_id, commit.trace_id);
    let [link] = commit.links.as_slice() else {
        panic!("{commit:#?}")
    };
    assert_eq!(
        (&link.trace_id, &link.span_id),
        (&flush.trace_id, &flush.span_id)
    );
    assert!(
        texts(&flush.attributes)["countersign.commit.requests"]
            .parse::<u64>()
            .is_ok_and(|n| n >= 1)
    );

    for resource in world.sink.resources() {
        assert_eq!(resource["service.name"], "countersignd");
        assert_eq!(resource["service.version"], env!("CARGO_PKG_VERSION"));
        assert_eq!(resource["service.instance.id"].len(), 36);
    }
    for head in world.sink.heads() {
        assert!(head.starts_with("POST /v1/traces HTTP/1.1"), "{head}");
        assert!(
            head.contains("Bearer for-the-collector"),
            "the header of the file"
        );
    }
    // The trace leads into the service's log.
    let log = world.stack.server_log();
    let line = log
        .lines()
        .find(|l| l.contains(trace) && l.contains("answered"))
        .expect("a log line with the trace id");
    let line: serde_json::Value = serde_json::from_str(line).expect("JSON");
    assert_eq!(line["span"]["request_id"], "traced-file");
    assert_eq!(line["span"]["trace_id"], trace);
}

#[test]
fn a_refusal_is_a_failed_span_and_one_more_of_its_reason() {
    let world = world();
    // The grant says nothing of raw digests.
    let body = br#"{"items": [{"id": "one", "content": {"type": "raw-digest",
        "digest": "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="}, "digest_algorithm": "sha-256"}]}"#;
    let token = world.token();
    let before = world.at_rest();
    let trace = "aaf92f3577b34da6a3ce929d0e0e4736";
    let parent = format!("00-{trace}-00f067aa0ba902b7-00");
    let headers = [("traceparent", parent.as_str())];
    let answer = world
        .signing
        .send_with(&world.stack.raw(), &token, body, &headers)
        .expect("an answer");
    assert_eq!((answer.status, answer.problem().as_str()), (403, "denied"));
    let moved = world.at_rest().moved_since(&before);
    assert_eq!(
        moved["countersign_refusals_total{reason=\"no-grant\"}"],
        1.0
    );
    // The request was answered: it is its one item that was refused.
    assert_eq!(
        moved["countersign_http_requests_total{status=\"2xx\"}"],
        1.0
    );
    let others: Vec<_> = moved
        .keys()
        .filter(|s| s.starts_with("countersign_signatures") || s.starts_with("countersign_auth"))
        .collect();
    assert!(others.is_empty(), "{others:?}");
    // The caller said "not sampled": that is not for it to say.
    let spans = by_name(world.sink.trace(trace, 2));
    let (name, code) = ("decide", "no-grant");
    assert_eq!(texts(&spans[name].attributes)["error.type"], code);
    assert_eq!(
        spans[name].status.as_ref().map(|s| s.code),
        Some(2),
        "{name}"
    );
    assert!(!spans.contains_key("worker"));
}

#[test]
fn counters_move_by_exactly_what_was_done() {
    let world = world();
    let raw = world.stack.raw();
    let before = world.at_rest();
    let token = world.token();
    let ask = world.signing.ask("counted-file");
    for _ in 0..3 {
        let answer = world.signing.send(&raw, &token, &ask).expect("an answer");
        world.signing.released(&ask, &answer);
    }
    let refused = raw.exchange(Some(TENANT), "no.id.token");
    assert_eq!(refused.status, 400);
    let now = world.at_rest();
    let moved = now.moved_since(&before);
    for (series, by) in [
        ("countersign_authorisations_total{content=\"cms\"}", 1.0),
        (
            "countersign_signatures_total{algorithm=\"ecdsa-sha-256\",content=\"cms\"}",
            1.0,
        ),
        ("countersign_outcomes_total{result=\"signed\"}", 1.0),
        ("countersign_idempotent_repeats_total", 2.0),
        ("countersign_batch_items_count", 3.0),
        ("countersign_sign_seconds_count", 3.0),
        ("countersign_worker_seconds_count", 1.0),
        ("countersign_queue_seconds_count", 1.0),
        ("countersign_hsm_seconds_count", 1.0),
        ("countersign_hsm_seconds_bucket{le=\"+Inf\"}", 1.0),
        ("countersign_token_exchanges_total", 1.0),
        ("countersign_http_requests_total{status=\"2xx\"}", 4.0),
        ("countersign_http_requests_total{status=\"4xx\"}", 1.0),
    ] {
        assert_eq!(moved.get(series), Some(&by), "{series} in {moved:#?}");
    }
    let refusals: f64 = moved
        .iter()
        .filter(|(s, _)| s.starts_with("countersign_token_exchange_refusals_total"))
        .map(|(_, by)| by)
        .sum();
    assert_eq!(refusals, 1.0);
    assert!(moved["countersign_commits_total{result=\"done\"}"] >= 2.0);
    assert!(moved["countersign_hsm_seconds_sum"] > 0.0);
    assert_eq!(now.get("countersign_database_up"), 1.0);
    assert_eq!(now.get("countersign_database_rewound"), 0.0);
    assert_eq!(
        now.get("countersign_workers{class=\"exclusive-token\",state=\"up\"}"),
        1.0
    );
    assert_eq!(
        now.get(&format!(
            "countersign_build_info{{version=\"{}\"}}",
            env!("CARGO_PKG_VERSION")
        )),
        1.0
    );
}

#[test]
fn neither_says_anything_of_a_tenant() {
    let world = world();
    let trace = "bbf92f3577b34da6a3ce929d0e0e4736";
    let released = world.sign_in("wallaby.bin", trace);
    world.sink.trace(trace, 8);
    let digest = released.tbs.rsplit(':').next().expect("hex").to_owned();
    let digest_bytes: Vec<u8> = (0..digest.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(&digest[at..at + 2], 16).expect("hex"))
        .collect();
    let key_bytes: Vec<u8> = world
        .key
        .replace('-', "")
        .as_bytes()
        .chunks(2)
        .map(|two| u8::from_str_radix(std::str::from_utf8(two).expect("hex"), 16).expect("hex"))
        .collect();
    let admin = world.stack.person(&format!("{TENANT}-admin"), Some(TENANT));
    let tenant = admin.json(&["whoami"]);
    let secrets: Vec<Vec<u8>> = [
        TENANT,
        SIGNER,
        &world.key,
        &world.key.replace('-', ""),
        &digest,
        &digest[..16],
        &released.signature_sha256,
        &released.origin,
        "repo:any/app",
        "any/app",
        "-admin",
        world.stack.people.url(),
        world.stack.platform.url(),
        &base64::engine::general_purpose::STANDARD.encode(&digest_bytes),
        "eyJ",
    ]
    .into_iter()
    .map(|s| s.as_bytes().to_vec())
    .chain([digest_bytes, key_bytes])
    .collect();
    assert!(tenant.to_string().contains(TENANT), "{tenant}");
    let metrics = Scrape::of(world.metrics);
    let traces = world.sink.bytes();
    assert!(
        contains(&traces, b"countersign.algorithm"),
        "the search finds what is there"
    );
    for secret in secrets {
        let shown = String::from_utf8_lossy(&secret).into_owned();
        assert!(
            !contains(metrics.text.as_bytes(), &secret),
            "metrics: {shown}"
        );
        assert!(!contains(&traces, &secret), "traces: {shown}");
    }
    // No attribute that is not on the list of the documentation, and no address of a caller.
    let page = std::fs::read_to_string(root().join("docs/operators/telemetry.md")).expect("page");
    for span in world.sink.spans() {
        assert!(span.events.is_empty(), "{span:#?}");
        assert!(
            page.contains(&format!("| `{}` |", span.name)),
            "{}",
            span.name
        );
        for (name, value) in texts(&span.attributes) {
            assert!(page.contains(&format!("`{name}`")), "{name}");
            assert!(!value.contains("127.0.0.1"), "{name} = {value}");
        }
    }
    // As many series as the lists have words, whatever was signed for whom.
    assert!(metrics.series() < 1000, "{}", metrics.series());
}

fn contains(haystack: &[u8], needle: &[u8]) -> bool {
    haystack.windows(needle.len()).any(|w| w == needle)
}

#[test]
fn a_collector_that_is_away_costs_spans_and_no_signature() {
    let world = world();
    let raw = world.stack.raw();
    let token = world.token();
    let dropped = "countersign_spans_dropped_total{reason=\"export-failed\"}";
    let before = Scrape::of(world.metrics);
    world.sink.go_away(true);
    let began = Instant::now();
    for n in 0..5 {
        let ask = world.signing.ask(&format!("unseen-{n}"));
        let answer = world.signing.send(&raw, &token, &ask).expect("an answer");
        world.signing.released(&ask, &answer);
    }
    assert!(
        began.elapsed() < Duration::from_secs(20),
        "{:?}",
        began.elapsed()
    );
    let until = Instant::now() + Duration::from_secs(60);
    // Five requests of eight spans, their commits apart.
    while Scrape::of(world.metrics).get(dropped) < before.get(dropped) + 40.0 {
        assert!(Instant::now() < until, "{}", Scrape::of(world.metrics).text);
        std::thread::sleep(Duration::from_millis(50));
    }
    world.sink.go_away(false);
    let trace = "ccf92f3577b34da6a3ce929d0e0e4736";
    world.sign_in("seen-again", trace);
    world.sink.trace(trace, 8);
}

#[test]
fn metrics_have_one_route_and_no_neighbour() {
    let world = world();
    for (what, status) in [
        ("GET /", "404"),
        ("GET /v1/whoami", "404"),
        ("POST /metrics", "405"),
        ("GET /metrics/x", "404"),
    ] {
        let stream = std::net::TcpStream::connect(("127.0.0.1", world.metrics)).expect("connects");
        let answer = ask(stream, what);
        assert!(
            answer.starts_with(&format!("HTTP/1.1 {status}")),
            "{what}: {answer}"
        );
    }
    // And the API has no metrics.
    let answer = world.stack.raw().get("/metrics", None);
    assert_eq!(answer.status, 404);
}

#[test]
fn metrics_over_a_socket_and_a_queue_stopped_by_a_drain() {
    let mut stack = Stack::bare();
    let socket = stack.path("metrics.sock");
    configure(
        &stack,
        &format!(
            "\n[telemetry]\nmetrics_listen = \"unix:{}\"\notlp_endpoint = \"http://127.0.0.1:1\"\n",
            text(&socket)
        ),
    );
    stack.stop_server();
    stack.start_server(&[]);
    let scrape = Scrape::of_socket(&socket);
    assert_eq!(scrape.get("countersign_database_up"), 1.0);
    stack.operator();
    // Nobody takes its spans, and it stops all the same.
    let began = Instant::now();
    assert_eq!(stack.stop_server(), Some(0));
    assert!(
        began.elapsed() < Duration::from_secs(15),
        "{:?}",
        began.elapsed()
    );
    assert!(!socket.exists(), "the socket is taken away");
    // An address of the network is refused with what to do about it.
    configure(&stack, "\n[telemetry]\nmetrics_listen = \"0.0.0.0:9464\"\n");
    let out = std::process::Command::new(crate::support::program("countersignd"))
        .args(["check-config", "--config"])
        .arg(stack.config())
        .output()
        .expect("runs");
    let said = String::from_utf8_lossy(&out.stderr);
    assert_eq!(out.status.code(), Some(64), "{said}");
    assert!(said.contains("metrics_beyond_loopback"), "{said}");
}

/// Both ways: each metric has its row, type and labels; no row, no alert names one that is not there.
#[test]
fn every_metric_is_documented_and_every_alert_asks_for_one_that_exists() {
    let scrape = Scrape::of(world().metrics);
    let page = std::fs::read_to_string(root().join("docs/operators/telemetry.md")).expect("page");
    let mut documented = BTreeSet::new();
    for line in page.lines().filter(|l| l.starts_with("| `countersign_")) {
        let cells: Vec<_> = line.trim_matches('|').split(" | ").map(str::trim).collect();
        let [name, of, labels, unit, meaning] = cells.as_slice() else {
            panic!("name, type, labels, unit, meaning: {line}")
        };
        let name = name.trim_matches('`');
        assert_eq!(
            scrape.types.get(name).map(String::as_str),
            Some(*of),
            "{name}"
        );
        let labels: BTreeSet<_> = labels
            .split(", ")
            .map(|l| l.trim_matches('`'))
            .filter(|l| *l != "–")
            .map(str::to_owned)
            .collect();
        assert_eq!(scrape.labels[name], labels, "{name}");
        assert_eq!(name.ends_with("_seconds"), *unit == "seconds", "{line}");
        assert!(meaning.len() > 10, "{line}");
        assert!(documented.insert(name.to_owned()), "{name} twice");
    }
    let exist: BTreeSet<_> = scrape.types.keys().cloned().collect();
    assert_eq!(documented, exist);

    let rules = std::fs::read_to_string(root().join("docs/operators/prometheus-alerts.yml"))
        .expect("alerts");
    let alerts_page =
        std::fs::read_to_string(root().join("docs/operators/alerts.md")).expect("page");
    for text in [&rules, &alerts_page] {
        for name in names_in(text) {
            let family = ["_bucket", "_sum", "_count"]
                .iter()
                .find_map(|s| name.strip_suffix(s).filter(|n| exist.contains(*n)))
                .unwrap_or(&name);
            assert!(exist.contains(family), "{name} is no metric");
        }
    }
    // Each rule has its section, each section its rule, and they ask the same.
    let mut in_rules = BTreeMap::new();
    let mut alert = String::new();
    for line in rules.lines().map(str::trim) {
        if let Some(name) = line.strip_prefix("- alert: ") {
            alert = name.to_owned();
        } else if let Some(expr) = line.strip_prefix("expr: ") {
            in_rules.insert(alert.clone(), expr.to_owned());
        }
    }
    let mut in_page = BTreeMap::new();
    for section in alerts_page.split("\n### ").skip(1) {
        let (name, body) = section.split_once('\n').expect("a body");
        let expr = body
            .split_once("```promql\n")
            .and_then(|(_, rest)| rest.split_once("\n```"))
            .unwrap_or_else(|| panic!("{name} has no expression"))
            .0;
        for part in ["**Why.**", "**Do.**"] {
            assert!(body.contains(part), "{name}: {part}");
        }
        in_page.insert(name.trim().to_owned(), expr.to_owned());
    }
    assert!(in_rules.len() >= 10, "{in_rules:#?}");
    assert_eq!(in_rules, in_page);
}

/// Words that look like a metric of ours.
fn names_in(text: &str) -> BTreeSet<String> {
    text.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_'))
        .filter(|w| w.starts_with("countersign_"))
        .map(str::to_owned)
        .collect()
}

/// Both ways: each key of `[telemetry]` has its row on the page.
#[test]
fn every_key_of_the_section_has_its_row() {
    let source = std::fs::read_to_string(root().join("crates/server/src/config/telemetry.rs"))
        .expect("source");
    let code = source.split("impl Default").next().expect("the struct");
    let keys: BTreeSet<_> = code
        .lines()
        .filter_map(|l| l.strip_prefix("    pub "))
        .filter_map(|l| l.split_once(':'))
        .map(|(name, _)| name.to_owned())
        .collect();
    let page = std::fs::read_to_string(root().join("docs/operators/telemetry.md")).expect("page");
    let section = page
        .split("\n## Switch it on")
        .nth(1)
        .and_then(|s| s.split("\n## ").next())
        .expect("the section");
    let rows: BTreeSet<_> = section
        .lines()
        .filter_map(|l| l.strip_prefix("| `"))
        .filter_map(|l| l.split_once('`'))
        .map(|(name, _)| name.to_owned())
        .collect();
    assert_eq!(rows, keys);
}
