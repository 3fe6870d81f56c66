//! Numbers a running service keeps of itself: counters, gauges and distributions on plain atomics.
//!
//! Whoever has something to count owns its instruments and adds to them in place: a few
//! nanoseconds, no lock, no allocation. Whoever publishes them (the server) asks for a report.
//! A label's value is a `&'static str` of a closed list ([`Label`]): no tenant, key, digest or file
//! name can become one, and the number of series is known when the program is compiled.

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

/// A closed list of label values.
pub trait Label: Copy + 'static {
    /// All of them.
    const ALL: &'static [Self];

    /// The value.
    fn label(self) -> &'static str;

    /// Its place in [`Label::ALL`].
    fn index(self) -> usize;
}

/// An enum of label values: `labels! { /// doc … pub enum Result { /// doc … Ok = "ok" } }`.
#[macro_export]
macro_rules! labels {
    ($(#[$outer:meta])* $vis:vis enum $name:ident { $($(#[$doc:meta])* $variant:ident = $text:literal),* $(,)? }) => {
        $(#[$outer])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        $vis enum $name { $($(#[$doc])* $variant,)* }

        impl $crate::measure::Label for $name {
            const ALL: &'static [Self] = &[$(Self::$variant,)*];

            fn label(self) -> &'static str {
                match self { $(Self::$variant => $text,)* }
            }

            fn index(self) -> usize {
                self as usize
            }
        }
    };
}

/// Only grows.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// One more.
    pub fn inc(&self) {
        self.add(1);
    }

    /// So many more.
    pub fn add(&self, n: u64) {
        self.0.fetch_add(n, Ordering::Relaxed);
    }

    /// The count.
    #[must_use]
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Goes up and down.
#[derive(Debug, Default)]
pub struct Gauge(AtomicI64);

impl Gauge {
    /// So many more (or fewer).
    pub fn add(&self, n: i64) {
        self.0.fetch_add(n, Ordering::Relaxed);
    }

    /// Now it is this.
    pub fn set(&self, n: i64) {
        self.0.store(n, Ordering::Relaxed);
    }

    /// The value.
    #[must_use]
    pub fn get(&self) -> i64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// One counter for each value of a label.
#[derive(Debug)]
pub struct Counters<L> {
    cells: Box<[Counter]>,
    label: std::marker::PhantomData<L>,
}

impl<L: Label> Default for Counters<L> {
    fn default() -> Self {
        Self {
            cells: L::ALL.iter().map(|_| Counter::default()).collect(),
            label: std::marker::PhantomData,
        }
    }
}

impl<L: Label> Counters<L> {
    /// One more of this.
    pub fn inc(&self, label: L) {
        self.add(label, 1);
    }

    /// So many more of this.
    pub fn add(&self, label: L, n: u64) {
        if let Some(cell) = self.cells.get(label.index()) {
            cell.add(n);
        }
    }

    /// The count of this.
    #[must_use]
    pub fn get(&self, label: L) -> u64 {
        self.cells.get(label.index()).map_or(0, Counter::get)
    }
}

/// One counter for each pair of two labels' values.
#[derive(Debug)]
pub struct Counters2<A, B> {
    cells: Box<[Counter]>,
    labels: std::marker::PhantomData<(A, B)>,
}

impl<A: Label, B: Label> Default for Counters2<A, B> {
    fn default() -> Self {
        let n = A::ALL.len().saturating_mul(B::ALL.len());
        Self {
            cells: (0..n).map(|_| Counter::default()).collect(),
            labels: std::marker::PhantomData,
        }
    }
}

impl<A: Label, B: Label> Counters2<A, B> {
    fn cell(&self, a: A, b: B) -> Option<&Counter> {
        let row = a.index().saturating_mul(B::ALL.len());
        self.cells.get(row.saturating_add(b.index()))
    }

    /// One more of this pair.
    pub fn inc(&self, a: A, b: B) {
        if let Some(cell) = self.cell(a, b) {
            cell.add(1);
        }
    }

    /// The count of this pair.
    #[must_use]
    pub fn get(&self, a: A, b: B) -> u64 {
        self.cell(a, b).map_or(0, Counter::get)
    }
}

/// How many observations fell under which bound.
#[derive(Debug)]
pub struct Histogram {
    /// Upper bounds, inclusive, rising. What is above all of them has the last cell.
    bounds: &'static [u64],
    /// What one unit of the published value is: 10⁹ where nanoseconds are published as seconds.
    scale: f64,
    cells: Box<[AtomicU64]>,
    sum: AtomicU64,
}

/// 50 µs to 30 s: what a signature, a commit and a call of a network HSM take.
pub const SECONDS: &[u64] = &[
    50_000,
    100_000,
    250_000,
    500_000,
    1_000_000,
    2_500_000,
    5_000_000,
    10_000_000,
    25_000_000,
    50_000_000,
    100_000_000,
    250_000_000,
    500_000_000,
    1_000_000_000,
    2_500_000_000,
    10_000_000_000,
    30_000_000_000,
];

/// How many things went together: 1 to 512.
pub const SIZES: &[u64] = &[1, 2, 4, 8, 16, 32, 64, 128, 256, 512];

/// A distribution at one moment.
#[derive(Debug, Clone, PartialEq)]
pub struct Distribution {
    /// Upper bound and how many observations are at or below it, rising; without the infinite one.
    pub buckets: Vec<(f64, u64)>,
    /// All observations.
    pub count: u64,
    /// Their sum.
    pub sum: f64,
}

impl Histogram {
    /// Of durations, published in seconds.
    #[must_use]
    pub fn seconds() -> Self {
        Self::new(SECONDS, 1e9)
    }

    /// Of counts.
    #[must_use]
    pub fn sizes() -> Self {
        Self::new(SIZES, 1.0)
    }

    fn new(bounds: &'static [u64], scale: f64) -> Self {
        Self {
            bounds,
            scale,
            cells: (0..=bounds.len()).map(|_| AtomicU64::new(0)).collect(),
            sum: AtomicU64::new(0),
        }
    }

    /// One duration.
    pub fn observe(&self, took: Duration) {
        self.observe_value(u64::try_from(took.as_nanos()).unwrap_or(u64::MAX));
    }

    /// One value, in the unit of the bounds.
    pub fn observe_value(&self, value: u64) {
        let at = self.bounds.partition_point(|bound| *bound < value);
        if let Some(cell) = self.cells.get(at) {
            cell.fetch_add(1, Ordering::Relaxed);
        }
        self.sum.fetch_add(value, Ordering::Relaxed);
    }

    /// What it looks like now.
    #[must_use]
    #[allow(
        clippy::cast_precision_loss,
        reason = "bounds and sums far below 2^53 units"
    )]
    pub fn distribution(&self) -> Distribution {
        let mut count = 0_u64;
        let mut buckets = Vec::with_capacity(self.bounds.len());
        for (at, cell) in self.cells.iter().enumerate() {
            count = count.saturating_add(cell.load(Ordering::Relaxed));
            if let Some(bound) = self.bounds.get(at) {
                buckets.push((*bound as f64 / self.scale, count));
            }
        }
        Distribution {
            buckets,
            count,
            sum: self.sum.load(Ordering::Relaxed) as f64 / self.scale,
        }
    }
}

/// What a metric is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Type {
    /// Only grows while the process lives.
    Counter,
    /// A state.
    Gauge,
    /// A distribution.
    Histogram,
}

/// A label and its value.
pub type Pair = (&'static str, &'static str);

/// Takes a report: each metric's name, type and meaning, then its values.
pub trait Sink {
    /// A metric begins.
    fn metric(&mut self, name: &'static str, of: Type, help: &'static str);

    /// A value of the metric begun.
    fn value(&mut self, labels: &[Pair], value: f64);

    /// A distribution of the metric begun.
    fn distribution(&mut self, labels: &[Pair], value: &Distribution);
}

/// Something that keeps numbers and can be asked for them.
pub trait Report: Send + Sync {
    /// Reports every metric, those without an event yet too.
    fn report(&self, sink: &mut dyn Sink);
}

/// Short words for [`Report::report`].
impl dyn Sink + '_ {
    /// A counter without labels.
    #[allow(clippy::cast_precision_loss, reason = "exact up to 2^53 events")]
    pub fn counter(&mut self, name: &'static str, help: &'static str, counter: &Counter) {
        self.metric(name, Type::Counter, help);
        self.value(&[], counter.get() as f64);
    }

    /// Counters by one label.
    #[allow(clippy::cast_precision_loss, reason = "exact up to 2^53 events")]
    pub fn counters<L: Label>(
        &mut self,
        name: &'static str,
        help: &'static str,
        label: &'static str,
        counters: &Counters<L>,
    ) {
        self.metric(name, Type::Counter, help);
        for l in L::ALL {
            self.value(&[(label, l.label())], counters.get(*l) as f64);
        }
    }

    /// Counters by two labels.
    #[allow(clippy::cast_precision_loss, reason = "exact up to 2^53 events")]
    pub fn counters2<A: Label, B: Label>(
        &mut self,
        name: &'static str,
        help: &'static str,
        (first, second): Pair,
        counters: &Counters2<A, B>,
    ) {
        self.metric(name, Type::Counter, help);
        for a in A::ALL {
            for b in B::ALL {
                let n = counters.get(*a, *b) as f64;
                self.value(&[(first, a.label()), (second, b.label())], n);
            }
        }
    }

    /// A gauge without labels.
    #[allow(clippy::cast_precision_loss, reason = "exact up to 2^53")]
    pub fn gauge(&mut self, name: &'static str, help: &'static str, gauge: &Gauge) {
        self.gauge_value(name, help, gauge.get() as f64);
    }

    /// A value that is known only now.
    pub fn gauge_value(&mut self, name: &'static str, help: &'static str, value: f64) {
        self.metric(name, Type::Gauge, help);
        self.value(&[], value);
    }

    /// A distribution without labels.
    pub fn histogram(&mut self, name: &'static str, help: &'static str, histogram: &Histogram) {
        self.metric(name, Type::Histogram, help);
        self.distribution(&[], &histogram.distribution());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    labels! {
        /// For the test.
        enum Colour {
            /// Red.
            Red = "red",
            /// Blue.
            Blue = "blue",
        }
    }

    #[test]
    fn a_value_at_a_bound_is_under_it() {
        let h = Histogram::sizes();
        for v in [1, 2, 3, 512, 513] {
            h.observe_value(v);
        }
        let d = h.distribution();
        assert_eq!(d.buckets.first(), Some(&(1.0, 1)));
        assert_eq!(d.buckets.get(1), Some(&(2.0, 2)));
        assert_eq!(d.buckets.get(2), Some(&(4.0, 3)));
        assert_eq!(d.buckets.last(), Some(&(512.0, 4)));
        assert_eq!((d.count, d.sum), (5, 1031.0));
    }

    #[test]
    fn durations_are_published_in_seconds() {
        let h = Histogram::seconds();
        h.observe(Duration::from_micros(50));
        h.observe(Duration::from_secs(100));
        let d = h.distribution();
        assert_eq!(d.buckets.first(), Some(&(0.000_05, 1)));
        assert_eq!((d.count, d.sum), (2, 100.000_05));
    }

    #[test]
    fn each_label_has_a_cell_of_its_own() {
        let c: Counters2<Colour, Colour> = Counters2::default();
        c.inc(Colour::Red, Colour::Blue);
        c.inc(Colour::Red, Colour::Blue);
        c.inc(Colour::Blue, Colour::Red);
        assert_eq!(c.get(Colour::Red, Colour::Blue), 2);
        assert_eq!(c.get(Colour::Blue, Colour::Red), 1);
        assert_eq!(c.get(Colour::Red, Colour::Red), 0);
        for (at, colour) in Colour::ALL.iter().enumerate() {
            assert_eq!(colour.index(), at);
        }
    }
}
