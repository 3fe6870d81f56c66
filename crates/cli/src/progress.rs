//! Progress on standard error: only for a person at a terminal, never with `--json`.

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::io::IsTerminal as _;
use std::time::Duration;

/// A bar of `total` steps, or a silent one.
#[must_use]
pub fn bar(json: bool, total: u64, what: &'static str) -> ProgressBar {
    let bar = quiet_or(json, ProgressBar::new(total));
    bar.set_style(style("{msg} [{bar:30}] {pos}/{len} {per_sec:.0} {eta}"));
    bar.set_message(what);
    bar
}

/// A spinner, or a silent one.
#[must_use]
pub fn spinner(json: bool, what: impl Into<String>) -> ProgressBar {
    let bar = quiet_or(json, ProgressBar::new_spinner());
    bar.set_style(style("{spinner} {msg}"));
    bar.set_message(what.into());
    bar.enable_steady_tick(Duration::from_millis(120));
    bar
}

fn quiet_or(json: bool, bar: ProgressBar) -> ProgressBar {
    if json || !std::io::stderr().is_terminal() {
        bar.set_draw_target(ProgressDrawTarget::hidden());
    }
    bar
}

fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar())
}
