//! Prometheus' text format 0.0.4, read strictly.

use std::collections::{BTreeMap, BTreeSet};

/// One scrape.
#[derive(Debug, Clone)]
pub struct Scrape {
    pub text: String,
    /// Name → type.
    pub types: BTreeMap<String, String>,
    /// Name → label names.
    pub labels: BTreeMap<String, BTreeSet<String>>,
    samples: BTreeMap<String, f64>,
}

impl Scrape {
    /// Asks over TCP.
    pub fn of(port: u16) -> Self {
        let stream = std::net::TcpStream::connect(("127.0.0.1", port)).expect("metrics listen");
        Self::parse(&ask(stream, "GET /metrics"))
    }

    /// Asks over a Unix socket.
    pub fn of_socket(path: &std::path::Path) -> Self {
        let stream = std::os::unix::net::UnixStream::connect(path).expect("metrics listen");
        Self::parse(&ask(stream, "GET /metrics"))
    }

    fn parse(answer: &str) -> Self {
        let (head, text) = answer.split_once("\r\n\r\n").expect("an answer");
        assert!(head.starts_with("HTTP/1.1 200"), "{head}");
        assert!(
            head.to_ascii_lowercase()
                .contains("content-type: text/plain; version=0.0.4"),
            "{head}"
        );
        Self::read(text)
    }

    /// Reads the text, by every rule of the format that matters to a reader.
    pub fn read(text: &str) -> Self {
        let mut scrape = Self {
            text: text.to_owned(),
            types: BTreeMap::new(),
            labels: BTreeMap::new(),
            samples: BTreeMap::new(),
        };
        let mut current = String::new();
        for line in text.lines() {
            if let Some(rest) = line.strip_prefix("# HELP ") {
                let (name, help) = rest.split_once(' ').expect("a help text");
                assert!(!help.trim().is_empty(), "{name} is not explained");
                current = name.to_owned();
            } else if let Some(rest) = line.strip_prefix("# TYPE ") {
                let (name, of) = rest.split_once(' ').expect("a type");
                assert_eq!(name, current, "TYPE follows HELP");
                assert!(["counter", "gauge", "histogram"].contains(&of), "{line}");
                let known = scrape.types.insert(name.to_owned(), of.to_owned());
                assert_eq!(known, None, "{name} twice");
                scrape.labels.insert(name.to_owned(), BTreeSet::new());
            } else {
                scrape.sample(&current, line);
            }
        }
        assert!(text.ends_with('\n'), "the last line ends");
        scrape
    }

    fn sample(&mut self, current: &str, line: &str) {
        let (series, value) = line.rsplit_once(' ').expect("a value");
        let name = series.split('{').next().expect("a name");
        let of = &self.types[current];
        let suffixes: &[&str] = match of.as_str() {
            "histogram" => &["_bucket", "_sum", "_count"],
            _ => &[""],
        };
        assert!(
            suffixes.iter().any(|s| name == format!("{current}{s}")),
            "{line} stands under {current}"
        );
        assert_eq!(
            of == "counter",
            current.ends_with("_total"),
            "{current}: counters, and they alone, end with _total"
        );
        if let Some(labels) = series.split_once('{').map(|(_, l)| l) {
            let labels = labels.strip_suffix('}').expect("closed");
            for pair in labels.split(',') {
                let (label, value) = pair.split_once('=').expect("label=value");
                assert!(
                    value.len() > 2 && value.starts_with('"') && value.ends_with('"'),
                    "{line}"
                );
                if label != "le" {
                    let own = self.labels.get_mut(current).expect("typed");
                    own.insert(label.to_owned());
                }
            }
        }
        let value: f64 = value.parse().expect("a number");
        assert!(value >= 0.0 || current.ends_with("_skew_seconds"), "{line}");
        let known = self.samples.insert(series.to_owned(), value);
        assert_eq!(known, None, "{series} twice");
    }

    /// A series' value; it must be there.
    pub fn get(&self, series: &str) -> f64 {
        *self
            .samples
            .get(series)
            .unwrap_or_else(|| panic!("no {series} in\n{}", self.text))
    }

    /// How much each series moved since `before`, those that did not left out.
    pub fn moved_since(&self, before: &Self) -> BTreeMap<String, f64> {
        self.samples
            .iter()
            .map(|(series, now)| {
                (
                    series.clone(),
                    now - before.samples.get(series).unwrap_or(&0.0),
                )
            })
            .filter(|(_, by)| *by != 0.0)
            .collect()
    }

    /// Number of series.
    pub fn series(&self) -> usize {
        self.samples.len()
    }
}

/// One HTTP request, its answer as text.
pub fn ask(mut stream: impl std::io::Read + std::io::Write, what: &str) -> String {
    write!(
        stream,
        "{what} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n"
    )
    .expect("sent");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer");
    answer
}
