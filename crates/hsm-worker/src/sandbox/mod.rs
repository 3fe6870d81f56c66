//! What the worker may still do once its configuration is read: the module's own code runs in here too.
//!
//! | measure | by | what |
//! | --- | --- | --- |
//! | `no-core-dump` | prctl(2) `PR_SET_DUMPABLE` | no core file, no debugger of the same user |
//! | `no-new-privileges` | prctl(2) `PR_SET_NO_NEW_PRIVS` | no set-user-ID program gives more rights |
//! | `files` | Landlock | the worker's folders, the module's libraries, what its profile names; no program is executed |
//! | `network` | Landlock, seccomp | no socket but Unix sockets, unless the profile says that the module has a network |
//! | `system-calls` | seccomp | those that worker and module were seen to need, or at least not those that no module needs |
//!
//! What a kernel lacks, or a profile does not say, is *reported*: in the log, in the hello to the
//! server and so in the token's health. Nothing is silently weaker than it looks.

pub mod probe;
mod syscalls;

use crate::config::{Config, Profile, SandboxMode};
use crate::state_dir::StateDir;
use countersign_core::ports::hsm::SandboxMeasure;
use landlock::{
    ABI, Access, AccessFs, AccessNet, BitFlags, CompatLevel, Compatible, Ruleset, RulesetAttr,
    RulesetCreatedAttr, RulesetError, RulesetStatus, Scope, path_beneath_rules,
};
use std::path::PathBuf;

/// What we ask for; an older kernel gives less, and says so.
const ABI_WANTED: ABI = ABI::V6;

/// What programs and libraries need everywhere. Not all of `/etc`.
const READ: [&str; 17] = [
    "/usr",
    "/lib",
    "/lib64",
    "/opt",
    "/etc/ld.so.cache",
    "/etc/ld.so.conf",
    "/etc/ld.so.conf.d",
    "/etc/ld.so.preload",
    "/etc/ssl/openssl.cnf",
    "/etc/pki/tls/openssl.cnf",
    "/etc/localtime",
    "/etc/softhsm",
    "/dev/urandom",
    "/dev/random",
    "/proc/self",
    "/proc/cpuinfo",
    "/sys/devices/system/cpu",
];

/// Confines this process for ever, as far as mode, profile and kernel allow. Call it while there is one
/// thread: those that it starts are confined too, others would not be.
///
/// `more` are further folders to write: the socket's.
#[must_use]
pub fn enter(
    config: &Config,
    profile: &Profile,
    dir: &StateDir,
    more: &[PathBuf],
) -> Vec<SandboxMeasure> {
    let mut report = vec![no_core_dump()];
    let off = |why: &str| {
        ["no-new-privileges", "files", "network", "system-calls"]
            .map(|m| measure(m, false, why))
            .into_iter()
    };
    if config.sandbox == SandboxMode::Off {
        report.extend(off("the configuration says: sandbox = \"off\""));
        return report;
    }
    report.push(no_new_privileges());
    let Some(needs) = &profile.sandbox else {
        let why = format!(
            "the profile of {} does not say what the module needs",
            profile.name
        );
        report.extend(off(&why).skip(1));
        return report;
    };
    let enforce = config.sandbox == SandboxMode::Enforce;
    let by_landlock = if enforce {
        landlock(config, profile, dir, more).unwrap_or_else(|e| (false, false, e.to_string()))
    } else {
        (
            false,
            false,
            "sandbox = \"report\": Landlock cannot only report".to_owned(),
        )
    };
    let calls = syscalls::restrict(needs, enforce);
    let (files, tcp, detail) = by_landlock;
    report.push(measure("files", files, detail.clone()));
    report.push(match (needs.network, &calls) {
        (true, _) => measure("network", false, "the module needs it: its profile says so"),
        (false, Ok(how)) if enforce => {
            measure("network", true, format!("no sockets but Unix: {how}"))
        }
        (false, _) => measure("network", tcp, detail),
    });
    report.push(match calls {
        Ok(how) => measure("system-calls", enforce, how),
        Err(e) => measure("system-calls", false, e),
    });
    report
}

/// Neither a core file nor a debugger of the same user shows a PIN.
fn no_core_dump() -> SandboxMeasure {
    use rustix::process::{DumpableBehavior, set_dumpable_behavior};
    match set_dumpable_behavior(DumpableBehavior::NotDumpable) {
        Ok(()) => measure("no-core-dump", true, "PR_SET_DUMPABLE 0"),
        Err(e) => measure("no-core-dump", false, e.to_string()),
    }
}

fn no_new_privileges() -> SandboxMeasure {
    match rustix::thread::set_no_new_privs(true) {
        Ok(()) => measure("no-new-privileges", true, "PR_SET_NO_NEW_PRIVS 1"),
        Err(e) => measure("no-new-privileges", false, e.to_string()),
    }
}

/// Whether files, and whether TCP, are confined; and how.
fn landlock(
    config: &Config,
    profile: &Profile,
    dir: &StateDir,
    more: &[PathBuf],
) -> Result<(bool, bool, String), RulesetError> {
    let needs = profile.sandbox.clone().unwrap_or_default();
    let mut read: Vec<PathBuf> = READ.iter().map(PathBuf::from).collect();
    read.extend(needs.read);
    read.extend(config.module.parent().map(PathBuf::from));
    read.extend(config.key_file.clone());
    read.extend(config.token.as_ref().map(|t| t.pin_file.clone()));
    let mut write = vec![
        dir.root().to_path_buf(),
        dir.token_root().to_path_buf(),
        PathBuf::from("/dev/null"),
    ];
    write.extend(needs.write);
    write.extend(more.iter().cloned());
    read.extend(
        needs
            .read_env
            .iter()
            .filter_map(std::env::var_os)
            .map(PathBuf::from),
    );
    write.extend(config.token.iter().flat_map(|t| t.files.iter().cloned()));
    for name in &needs.write_env {
        write.extend(std::env::var_os(name).map(PathBuf::from));
    }
    // Tests count there which failpoints have acted.
    #[cfg(feature = "failpoints")]
    write.extend(std::env::var_os("COUNTERSIGN_FAILPOINTS_ONCE").map(PathBuf::from));

    let mut all: BitFlags<AccessFs> = AccessFs::from_all(ABI_WANTED);
    // A library is mapped, not executed (execve(2)): nobody here needs that.
    all.remove(AccessFs::Execute);
    let mut ruleset = Ruleset::default()
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(AccessFs::from_all(ABI_WANTED))?;
    if !needs.network {
        ruleset = ruleset
            .handle_access(AccessNet::from_all(ABI_WANTED))?
            .scope(Scope::AbstractUnixSocket)?;
    }
    let status = ruleset
        .scope(Scope::Signal)?
        .create()?
        .add_rules(path_beneath_rules(
            &read,
            AccessFs::ReadFile | AccessFs::ReadDir,
        ))?
        .add_rules(path_beneath_rules(&write, all))?
        .restrict_self()?;
    let landlock = format!("{:?}", status.landlock);
    Ok(match status.ruleset {
        RulesetStatus::FullyEnforced => (true, !needs.network, format!("Landlock: {landlock}")),
        // Files are what the oldest Landlock knows.
        RulesetStatus::PartiallyEnforced => (
            true,
            false,
            format!("Landlock, in part: the kernel knows less than we ask for ({landlock})"),
        ),
        RulesetStatus::NotEnforced => (
            false,
            false,
            format!("the kernel has no Landlock, or it is not enabled ({landlock})"),
        ),
    })
}

fn measure(measure: &str, enforced: bool, detail: impl Into<String>) -> SandboxMeasure {
    SandboxMeasure {
        measure: measure.to_owned(),
        enforced,
        detail: detail.into(),
    }
}
