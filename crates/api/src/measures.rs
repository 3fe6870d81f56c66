//! What the API counts of itself. Labels are closed lists: no path, caller or tenant is one.

use crate::problem::Kind;
use countersign_core::labels;
use countersign_core::measure::{Counter, Counters, Gauge, Histogram, Label, Report, Sink};
use std::time::Duration;

labels! {
    /// Class of an answer's status.
    pub enum StatusClass {
        /// Done.
        Good = "2xx",
        /// Look elsewhere.
        Redirect = "3xx",
        /// The caller's fault.
        Caller = "4xx",
        /// Ours.
        Ours = "5xx",
    }
}

impl Label for Kind {
    const ALL: &'static [Self] = Self::ALL;

    fn label(self) -> &'static str {
        self.row().code
    }

    fn index(self) -> usize {
        self as usize
    }
}

/// The API's instruments.
#[derive(Debug)]
pub struct ApiMeasures {
    requests: Counters<StatusClass>,
    problems: Counters<Kind>,
    exchanges: Counter,
    exchange_refusals: Counters<Kind>,
    under_way: Gauge,
    took: Histogram,
}

impl Default for ApiMeasures {
    fn default() -> Self {
        Self {
            requests: Counters::default(),
            problems: Counters::default(),
            exchanges: Counter::default(),
            exchange_refusals: Counters::default(),
            under_way: Gauge::default(),
            took: Histogram::seconds(),
        }
    }
}

/// A request under way; it ends when this is dropped, answered or not.
pub(crate) struct UnderWay<'a>(&'a ApiMeasures);

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        self.0.under_way.add(-1);
    }
}

impl ApiMeasures {
    /// A request came in.
    pub(crate) fn came(&self) -> UnderWay<'_> {
        self.under_way.add(1);
        UnderWay(self)
    }

    /// It was answered. `exchange`: it asked for a service token.
    pub(crate) fn answered(
        &self,
        status: u16,
        problem: Option<Kind>,
        exchange: bool,
        took: Duration,
    ) {
        self.took.observe(took);
        self.requests.inc(match status {
            ..300 => StatusClass::Good,
            300..400 => StatusClass::Redirect,
            400..500 => StatusClass::Caller,
            500.. => StatusClass::Ours,
        });
        if let Some(kind) = problem {
            self.problems.inc(kind);
        }
        match (exchange, problem) {
            (true, None) => self.exchanges.inc(),
            (true, Some(kind)) => self.exchange_refusals.inc(kind),
            (false, _) => {}
        }
    }
}

impl Report for ApiMeasures {
    fn report(&self, to: &mut dyn Sink) {
        to.counters(
            "countersign_http_requests_total",
            "Requests answered, by class of status.",
            "status",
            &self.requests,
        );
        to.counters(
            "countersign_problems_total",
            "Answers that were problem documents, by code.",
            "code",
            &self.problems,
        );
        to.counter(
            "countersign_token_exchanges_total",
            "Service tokens given for ID tokens.",
            &self.exchanges,
        );
        to.counters(
            "countersign_token_exchange_refusals_total",
            "Token exchanges refused, by code.",
            "code",
            &self.exchange_refusals,
        );
        to.gauge(
            "countersign_http_requests_in_flight",
            "Requests being answered at this moment.",
            &self.under_way,
        );
        to.histogram(
            "countersign_http_request_seconds",
            "A request, from its header to its answer.",
            &self.took,
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_has_its_cell() {
        for (at, kind) in Kind::ALL.iter().enumerate() {
            assert_eq!(kind.index(), at);
        }
    }

    #[test]
    fn a_refused_exchange_is_a_problem_and_no_token() {
        let m = ApiMeasures::default();
        let took = Duration::from_millis(1);
        m.answered(200, None, true, took);
        m.answered(400, Some(Kind::TokenRefused), true, took);
        m.answered(503, Some(Kind::Busy), false, took);
        assert_eq!(m.exchanges.get(), 1);
        assert_eq!(m.exchange_refusals.get(Kind::TokenRefused), 1);
        assert_eq!(m.problems.get(Kind::Busy), 1);
        assert_eq!(m.exchange_refusals.get(Kind::Busy), 0);
        assert_eq!(m.requests.get(StatusClass::Ours), 1);
        let way = m.came();
        assert_eq!(m.under_way.get(), 1);
        drop(way);
        assert_eq!(m.under_way.get(), 0);
    }
}
