//! A collector of traces: takes OTLP over HTTP as its specification says it is sent, and keeps both
//! the spans and the bytes.

use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::{KeyValue, any_value::Value};
use opentelemetry_proto::tonic::trace::v1::Span;
use prost::Message as _;
use std::collections::HashMap;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// What came so far.
#[derive(Debug, Default)]
struct Taken {
    spans: Vec<Span>,
    resources: Vec<HashMap<String, String>>,
    bodies: Vec<Vec<u8>>,
    headers: Vec<String>,
}

/// The collector.
#[derive(Debug, Clone)]
pub struct Sink {
    port: u16,
    taken: Arc<Mutex<Taken>>,
    away: Arc<AtomicBool>,
}

impl Sink {
    pub fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let sink = Self {
            port: listener.local_addr().expect("address").port(),
            taken: Arc::default(),
            away: Arc::default(),
        };
        let own = sink.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let sink = own.clone();
                std::thread::spawn(move || sink.serve(stream));
            }
        });
        sink
    }

    pub fn endpoint(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// From now on every connection is closed without an answer, or no more.
    pub fn go_away(&self, away: bool) {
        self.away.store(away, Ordering::SeqCst);
    }

    fn serve(&self, stream: TcpStream) -> Option<()> {
        let mut writer = stream.try_clone().ok()?;
        let mut reader = BufReader::new(stream);
        loop {
            let mut head = String::new();
            let mut length = 0;
            loop {
                let mut line = String::new();
                if reader.read_line(&mut line).ok()? == 0 {
                    return None;
                }
                if line.trim_end().is_empty() {
                    break;
                }
                if let Some(n) = line.to_ascii_lowercase().strip_prefix("content-length:") {
                    length = n.trim().parse().ok()?;
                }
                head.push_str(&line);
            }
            let mut body = vec![0; length];
            reader.read_exact(&mut body).ok()?;
            if self.away.load(Ordering::SeqCst) {
                return None;
            }
            self.take(head, body);
            // An empty ExportTraceServiceResponse: all was taken.
            writer
                .write_all(
                    b"HTTP/1.1 200 OK\r\ncontent-type: application/x-protobuf\r\ncontent-length: 0\r\n\r\n",
                )
                .ok()?;
        }
    }

    fn take(&self, head: String, body: Vec<u8>) {
        let request = ExportTraceServiceRequest::decode(body.as_slice()).expect("OTLP");
        let mut taken = self.taken.lock().expect("lock");
        for of in request.resource_spans {
            let resource = of.resource.expect("a resource");
            taken.resources.push(texts(&resource.attributes));
            for scope in of.scope_spans {
                taken.spans.extend(scope.spans);
            }
        }
        taken.bodies.push(body);
        taken.headers.push(head);
    }

    /// All spans so far.
    pub fn spans(&self) -> Vec<Span> {
        self.taken.lock().expect("lock").spans.clone()
    }

    /// The spans of one trace, once there are `count`.
    pub fn trace(&self, id: &str, count: usize) -> Vec<Span> {
        self.until(|spans| {
            let of: Vec<_> = spans
                .into_iter()
                .filter(|s| hex(&s.trace_id) == id)
                .collect();
            if of.len() >= count { Ok(of) } else { Err(of) }
        })
    }

    /// Waits until `found` finds.
    pub fn until<T, E: std::fmt::Debug>(&self, found: impl Fn(Vec<Span>) -> Result<T, E>) -> T {
        let until = Instant::now() + Duration::from_secs(60);
        loop {
            match found(self.spans()) {
                Ok(found) => return found,
                Err(e) => assert!(Instant::now() < until, "spans did not come: {e:#?}"),
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Who sent them.
    pub fn resources(&self) -> Vec<HashMap<String, String>> {
        self.taken.lock().expect("lock").resources.clone()
    }

    /// Every byte that came, request heads too.
    pub fn bytes(&self) -> Vec<u8> {
        let taken = self.taken.lock().expect("lock");
        let heads = taken.headers.iter().map(String::as_bytes);
        let bodies = taken.bodies.iter().map(Vec::as_slice);
        heads.chain(bodies).collect::<Vec<_>>().concat()
    }

    /// The heads of the requests.
    pub fn heads(&self) -> Vec<String> {
        self.taken.lock().expect("lock").headers.clone()
    }
}

/// Attributes as text.
pub fn texts(attributes: &[KeyValue]) -> HashMap<String, String> {
    attributes
        .iter()
        .map(|a| {
            let text = match a.value.as_ref().and_then(|v| v.value.as_ref()) {
                Some(Value::StringValue(s)) => s.clone(),
                Some(Value::IntValue(n)) => n.to_string(),
                Some(Value::BoolValue(b)) => b.to_string(),
                other => panic!("{}: {other:?}", a.key),
            };
            (a.key.clone(), text)
        })
        .collect()
}

pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}
