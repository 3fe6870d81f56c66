//! Modules, workers, tokens and how workers are confined. No login is made: where a worker runs, its own
//! words count; where none does, the worker program looks without one.

use super::{Check, Status};
use crate::config::{Config, FileOf, SandboxMode, WorkerMode};
use crate::serve;
use countersign_core::ports::hsm::SandboxMeasure;
use countersign_hsm::look::{Found, Look, PinState, Subject, TokenSeen, TokenState, WorkerError};
use countersign_hsm_protocol::WorkerHello;
use std::collections::BTreeMap;

const LATCHED: &str = "docs/operators/incident.md, \"Latched PIN\": find out who changed it, put the right one back, \
                       then delete pin-latched in the token's folder";
const DOWN: &str = "docs/operators/incident.md, \"Worker down\"";
const CONFINED: &str = "docs/operators/workers.md, \"The sandbox\": a newer kernel, Landlock enabled at boot, or a profile \
                        that says what the module needs";

/// All checks of all tokens. `runs`: whether the service does, which would have workers.
pub(super) async fn look(config: &Config, runs: bool) -> Vec<Check> {
    let mut checks: Vec<Check> = config
        .files()
        .into_iter()
        .filter(|(of, _)| *of == FileOf::Module)
        .filter_map(|(_, found)| found.err())
        .map(|e| {
            Check::fail("module", e.to_string()).advice("install it, or correct the configuration")
        })
        .collect();
    let subjects = match serve::pool_config(config) {
        Ok(pool) => countersign_hsm::look::look(&pool).await.map_err(Into::into),
        Err(e) => Err(e),
    };
    let subjects = match subjects {
        Ok(subjects) => subjects,
        Err(e) => {
            checks.push(Check::fail("worker", e.to_string()).advice(
                "install countersign-hsm-worker beside countersignd, and look at the folders of [hsm]",
            ));
            for name in ["module", "token", "sandbox"] {
                if !checks.iter().any(|c| c.name == name) {
                    checks.push(Check::unknown(name, "no worker can be asked"));
                }
            }
            return checks;
        }
    };
    let connect = config.hsm.mode == WorkerMode::Connect;
    if subjects.is_empty() {
        checks.push(
            Check::warn("worker", "no [[token]] is configured, and no worker runs")
                .advice("docs/operators/workers.md, \"A user of its own for the workers\""),
        );
    }
    // One that is missing is said once.
    let missing = !checks.is_empty() && !connect;
    let mut sandboxes: BTreeMap<String, Vec<SandboxMeasure>> = BTreeMap::new();
    for subject in &subjects {
        let found = of(subject, runs);
        checks.extend(
            found
                .into_iter()
                .filter(|c| !(missing && c.name == "module")),
        );
        let (Found::Running(WorkerHello { sandbox, .. }) | Found::Resting(Look { sandbox, .. })) =
            &subject.found
        else {
            continue;
        };
        sandboxes
            .entry(subject.module.display().to_string())
            .or_insert_with(|| sandbox.clone());
    }
    for (module, measures) in &sandboxes {
        checks.push(sandbox(config.hsm.sandbox, measures).about(module.clone()));
    }
    if sandboxes.is_empty() {
        checks.push(Check::unknown(
            "sandbox",
            "no worker said how it is confined",
        ));
    }
    once_each(checks)
}

/// Several tokens of one module say of it one and the same.
fn once_each(checks: Vec<Check>) -> Vec<Check> {
    let mut kept: Vec<Check> = Vec::with_capacity(checks.len());
    for check in checks {
        if !kept.contains(&check) {
            kept.push(check);
        }
    }
    kept
}

fn of(subject: &Subject, runs: bool) -> Vec<Check> {
    let module = subject.module.display().to_string();
    let about = |check: Check| match &subject.token {
        Some(token) => check.about(token.clone()),
        None => check,
    };
    let (module_check, mut others) = match &subject.found {
        Found::Running(hello) => running(hello, subject.tenant.is_none()),
        Found::Resting(look) => {
            let worker = if runs && subject.token.is_some() {
                Check::warn(
                    "worker",
                    "the service runs, and this token's worker does not",
                )
                .advice(DOWN)
            } else {
                Check::ok(
                    "worker",
                    "none runs; the worker program looked, without a login",
                )
            };
            let (module, token) = resting(look);
            let mut others = vec![token];
            if subject.token.is_some() {
                others.insert(0, worker);
            }
            (module, others)
        }
        Found::Absent(why) => {
            let worker = Check::fail("worker", format!("none answers: {why}"))
                .advice("start its unit, countersign-hsm-worker@…, and read its log");
            let token = Check::unknown("token", "no worker");
            (Check::unknown("module", "no worker"), vec![worker, token])
        }
        Found::Silent(why) => {
            let worker = Check::fail("worker", why.clone()).advice(DOWN);
            let token = Check::unknown("token", "no worker answers");
            (
                Check::unknown("module", "no worker answers"),
                vec![worker, token],
            )
        }
    };
    let mut all = vec![module_check.about(module)];
    all.extend(others.drain(..).map(about));
    all
}

/// The words of a worker that runs. `existing`: the operator's HSM has its token already; then the
/// worker has tried the PIN, whether anybody has keys there or not.
fn running(hello: &WorkerHello, existing: bool) -> (Check, Vec<Check>) {
    let worker = Check::ok("worker", format!("runs, process {}", hello.pid));
    let loaded = Check::ok("module", "loaded");
    let (module, token) = match &hello.token {
        TokenState::Ready { .. } => (loaded, Check::ok("token", "logged in")),
        TokenState::Absent if existing => (
            loaded,
            Check::ok("token", "the PIN is right; no tenant has keys in it yet"),
        ),
        TokenState::Absent => (loaded, Check::ok("token", "none made yet")),
        TokenState::Latched { reason } => (latched_module(), latched(reason)),
        TokenState::Failed { error } => failed(error),
    };
    (module, vec![worker, token])
}

/// What was found without a login.
fn resting(look: &Look) -> (Check, Check) {
    let module = match &look.module {
        Ok(words) => Check::ok("module", format!("loads: {words}")),
        Err(WorkerError::Latched(reason)) => return (latched_module(), latched(reason)),
        Err(error) => return failed(error),
    };
    let token = match &look.token {
        Ok(TokenSeen::None) => Check::ok("token", "none made yet"),
        Ok(TokenSeen::There { label, serial, pin }) => {
            let (status, words) = match pin {
                PinState::Good => (Status::Ok, "the PIN can be read; no login was made"),
                PinState::CountLow => (
                    Status::Warn,
                    "it says that a wrong PIN was tried since the last login",
                ),
                PinState::FinalTry => (Status::Fail, "it says that one more wrong PIN locks it"),
                PinState::Locked => (Status::Fail, "it says that its PIN is locked"),
                PinState::ToBeChanged => (Status::Fail, "it says that its PIN must be changed"),
                PinState::NotSet => (Status::Fail, "it has no user PIN"),
            };
            let check = Check::new(
                "token",
                status,
                format!("`{label}`, serial {serial}: {words}"),
            );
            if status == Status::Ok {
                check
            } else {
                check.advice("find out who tried it; the SO PIN from the safe sets it anew")
            }
        }
        Err(WorkerError::Latched(reason)) => latched(reason),
        Err(error) => failed(error).1,
    };
    (module, token)
}

fn latched_module() -> Check {
    Check::unknown("module", "a token with a latched PIN is left alone")
}

fn latched(reason: &str) -> Check {
    Check::fail("token", format!("the PIN is latched: {reason}")).advice(LATCHED)
}

/// Module and token where the token cannot be used.
fn failed(error: &WorkerError) -> (Check, Check) {
    let advice = "hsm-config/README.md, \"When it goes wrong\"";
    match error {
        WorkerError::ModuleMissing(_) | WorkerError::Module { .. } => (
            Check::fail("module", error.to_string()).advice(advice),
            Check::unknown("token", "the module does not work"),
        ),
        _ => (
            Check::ok("module", "there"),
            Check::fail("token", error.to_string()).advice(advice),
        ),
    }
}

fn sandbox(mode: SandboxMode, measures: &[SandboxMeasure]) -> Check {
    let name = "sandbox";
    let gaps: Vec<String> = measures
        .iter()
        .filter(|m| !m.enforced)
        .map(|m| format!("{}: {}", m.measure, m.detail))
        .collect();
    if gaps.is_empty() {
        let all: Vec<_> = measures.iter().map(|m| m.measure.as_str()).collect();
        return Check::ok(name, all.join(", "));
    }
    let check = Check::warn(name, format!("not enforced: {}", gaps.join("; ")));
    match mode {
        SandboxMode::Enforce => check.advice(CONFINED),
        SandboxMode::Off | SandboxMode::Report => check.advice("sandbox = \"enforce\" in [hsm]"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(pin: PinState) -> Look {
        Look {
            sandbox: vec![],
            module: Ok("m".into()),
            token: Ok(TokenSeen::There {
                label: "l".into(),
                serial: "s".into(),
                pin,
            }),
        }
    }

    #[test]
    fn what_a_token_says_of_its_pin_is_told() {
        for (pin, status) in [
            (PinState::Good, Status::Ok),
            (PinState::CountLow, Status::Warn),
            (PinState::FinalTry, Status::Fail),
            (PinState::Locked, Status::Fail),
            (PinState::ToBeChanged, Status::Fail),
            (PinState::NotSet, Status::Fail),
        ] {
            let (module, token) = resting(&seen(pin));
            assert_eq!(
                (module.status, token.status),
                (Status::Ok, status),
                "{pin:?}"
            );
            assert_eq!(token.advice.is_some(), status != Status::Ok);
        }
    }

    #[test]
    fn a_measure_that_is_missing_is_named() {
        let measure = |name: &str, enforced| SandboxMeasure {
            measure: name.into(),
            enforced,
            detail: "why".into(),
        };
        let whole = [measure("files", true), measure("network", true)];
        assert_eq!(sandbox(SandboxMode::Enforce, &whole).status, Status::Ok);
        let part = [measure("files", false), measure("network", true)];
        let check = sandbox(SandboxMode::Enforce, &part);
        assert_eq!(check.status, Status::Warn);
        assert_eq!(check.seen, "not enforced: files: why");
    }

    #[test]
    fn a_worker_of_a_latched_token_says_so() {
        let hello = WorkerHello {
            version: 1,
            pid: 7,
            token: TokenState::Latched {
                reason: "CKR_PIN_INCORRECT".into(),
            },
            sandbox: vec![],
        };
        let (module, all) = running(&hello, false);
        assert_eq!(module.status, Status::Unknown);
        let token = all.iter().find(|c| c.name == "token").unwrap();
        assert_eq!(token.status, Status::Fail);
        assert!(token.seen.contains("CKR_PIN_INCORRECT"));
    }
}
