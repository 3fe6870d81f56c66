//! System calls, by seccomp(2).

use countersign_hsm_protocol::profile::Sandbox;
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule, TargetArch, apply_filter,
};
use std::collections::BTreeMap;

type Rules = BTreeMap<i64, Vec<SeccompRule>>;

/// What worker, SoftHSM 2.6 and the OpenSSL beneath it were seen to call: by strace over the whole test
/// suite, and by running it under this list. What is not here gets `EPERM`.
const KNOWN: &[i64] = &[
    // memory
    libc::SYS_brk,
    libc::SYS_madvise,
    libc::SYS_mlock,
    libc::SYS_mmap,
    libc::SYS_mprotect,
    libc::SYS_mremap,
    libc::SYS_munlock,
    libc::SYS_munmap,
    // files
    libc::SYS_close,
    libc::SYS_dup,
    libc::SYS_dup3,
    libc::SYS_faccessat,
    libc::SYS_faccessat2,
    libc::SYS_fchmod,
    libc::SYS_fchmodat,
    libc::SYS_fcntl,
    libc::SYS_fdatasync,
    libc::SYS_flock,
    libc::SYS_fstat,
    libc::SYS_fsync,
    libc::SYS_ftruncate,
    libc::SYS_getcwd,
    libc::SYS_getdents64,
    libc::SYS_ioctl,
    libc::SYS_linkat,
    libc::SYS_lseek,
    libc::SYS_mkdirat,
    libc::SYS_newfstatat,
    libc::SYS_openat,
    libc::SYS_pipe2,
    libc::SYS_pread64,
    libc::SYS_pwrite64,
    libc::SYS_read,
    libc::SYS_readlinkat,
    libc::SYS_readv,
    libc::SYS_renameat,
    libc::SYS_renameat2,
    libc::SYS_statx,
    libc::SYS_statfs,
    libc::SYS_fstatfs,
    libc::SYS_umask,
    libc::SYS_unlinkat,
    libc::SYS_write,
    libc::SYS_writev,
    // the socket: `socket` itself for Unix sockets only, `connect` not at all
    libc::SYS_accept,
    libc::SYS_accept4,
    libc::SYS_bind,
    libc::SYS_getpeername,
    libc::SYS_getsockname,
    libc::SYS_getsockopt,
    libc::SYS_listen,
    libc::SYS_recvfrom,
    libc::SYS_recvmsg,
    libc::SYS_sendmsg,
    libc::SYS_sendto,
    libc::SYS_setsockopt,
    libc::SYS_shutdown,
    libc::SYS_socketpair,
    libc::SYS_ppoll,
    // threads, time, signals, ourselves
    libc::SYS_clock_getres,
    libc::SYS_clock_gettime,
    libc::SYS_clock_nanosleep,
    libc::SYS_clone,
    libc::SYS_clone3,
    libc::SYS_exit,
    libc::SYS_exit_group,
    libc::SYS_futex,
    libc::SYS_getegid,
    libc::SYS_geteuid,
    libc::SYS_getgid,
    libc::SYS_getpid,
    libc::SYS_getppid,
    libc::SYS_getrandom,
    libc::SYS_getrusage,
    libc::SYS_gettid,
    libc::SYS_gettimeofday,
    libc::SYS_getuid,
    libc::SYS_membarrier,
    libc::SYS_nanosleep,
    libc::SYS_prctl,
    libc::SYS_prlimit64,
    libc::SYS_restart_syscall,
    libc::SYS_rseq,
    libc::SYS_rt_sigaction,
    libc::SYS_rt_sigprocmask,
    libc::SYS_rt_sigreturn,
    libc::SYS_sched_getaffinity,
    libc::SYS_sched_yield,
    libc::SYS_set_robust_list,
    libc::SYS_set_tid_address,
    libc::SYS_sigaltstack,
    libc::SYS_sysinfo,
    libc::SYS_tgkill,
    libc::SYS_uname,
];

/// Old names of the same, which only this architecture still has.
#[cfg(target_arch = "x86_64")]
const KNOWN_HERE: &[i64] = &[
    libc::SYS_access,
    libc::SYS_arch_prctl,
    libc::SYS_chmod,
    libc::SYS_creat,
    libc::SYS_dup2,
    libc::SYS_getrlimit,
    libc::SYS_link,
    libc::SYS_lstat,
    libc::SYS_mkdir,
    libc::SYS_open,
    libc::SYS_pipe,
    libc::SYS_poll,
    libc::SYS_readlink,
    libc::SYS_rename,
    libc::SYS_rmdir,
    libc::SYS_select,
    libc::SYS_stat,
    libc::SYS_time,
    libc::SYS_unlink,
];
#[cfg(not(target_arch = "x86_64"))]
const KNOWN_HERE: &[i64] = &[];

/// What no PKCS#11 module needs: other processes, the kernel, other namespaces, the clock, and the ways
/// round the rest of this sandbox.
const NEVER: &[i64] = &[
    libc::SYS_acct,
    libc::SYS_add_key,
    libc::SYS_adjtimex,
    libc::SYS_bpf,
    libc::SYS_chroot,
    libc::SYS_clock_adjtime,
    libc::SYS_clock_settime,
    libc::SYS_delete_module,
    libc::SYS_execve,
    libc::SYS_execveat,
    libc::SYS_fanotify_init,
    libc::SYS_finit_module,
    libc::SYS_init_module,
    libc::SYS_io_uring_enter,
    libc::SYS_io_uring_register,
    libc::SYS_io_uring_setup,
    libc::SYS_kcmp,
    libc::SYS_kexec_load,
    libc::SYS_keyctl,
    libc::SYS_mount,
    libc::SYS_open_by_handle_at,
    libc::SYS_perf_event_open,
    libc::SYS_personality,
    libc::SYS_pidfd_getfd,
    libc::SYS_pivot_root,
    libc::SYS_process_vm_readv,
    libc::SYS_process_vm_writev,
    libc::SYS_ptrace,
    libc::SYS_quotactl,
    libc::SYS_reboot,
    libc::SYS_request_key,
    libc::SYS_setdomainname,
    libc::SYS_sethostname,
    libc::SYS_setns,
    libc::SYS_settimeofday,
    libc::SYS_swapoff,
    libc::SYS_swapon,
    libc::SYS_syslog,
    libc::SYS_umount2,
    libc::SYS_unshare,
    libc::SYS_userfaultfd,
    libc::SYS_vhangup,
];

/// Restricts this thread and those it starts; how, in a few words. Without `enforce`, the kernel only
/// logs what would be refused.
pub fn restrict(needs: &Sandbox, enforce: bool) -> Result<String, String> {
    let text = |e: &dyn std::fmt::Display| e.to_string();
    let arch = TargetArch::try_from(std::env::consts::ARCH).map_err(|e| text(&e))?;
    let refuse = if enforce {
        SeccompAction::Errno(libc::EPERM.unsigned_abs())
    } else {
        SeccompAction::Log
    };
    let unix_only = |operator| -> Result<Vec<SeccompRule>, String> {
        let family = SeccompCondition::new(
            0,
            SeccompCmpArgLen::Dword,
            operator,
            u64::from(libc::AF_UNIX.unsigned_abs()),
        );
        family
            .and_then(|f| SeccompRule::new(vec![f]))
            .map(|r| vec![r])
            .map_err(|e| text(&e))
    };
    let (filter, how) = if needs.known_syscalls {
        let mut rules: Rules = KNOWN
            .iter()
            .chain(KNOWN_HERE)
            .map(|n| (*n, vec![]))
            .collect();
        if needs.network {
            rules.insert(libc::SYS_socket, vec![]);
            rules.insert(libc::SYS_connect, vec![]);
        } else {
            rules.insert(libc::SYS_socket, unix_only(SeccompCmpOp::Eq)?);
        }
        let how = format!("seccomp: {} system calls are allowed", rules.len());
        (
            SeccompFilter::new(rules, refuse, SeccompAction::Allow, arch),
            how,
        )
    } else {
        let mut rules: Rules = NEVER.iter().map(|n| (*n, vec![])).collect();
        if !needs.network {
            rules.insert(libc::SYS_socket, unix_only(SeccompCmpOp::Ne)?);
        }
        let how = format!("seccomp: {} system calls are refused", rules.len());
        (
            SeccompFilter::new(rules, SeccompAction::Allow, refuse, arch),
            how,
        )
    };
    // The flags of clone3 are in memory, where no filter sees them: glibc falls back to clone where it
    // is told that there is no clone3.
    let clone3 = SeccompFilter::new(
        BTreeMap::from([(libc::SYS_clone3, vec![])]),
        SeccompAction::Allow,
        SeccompAction::Errno(libc::ENOSYS.unsigned_abs()),
        arch,
    );
    // The large one last: it does not allow another filter.
    for filter in [clone3, filter] {
        let program: BpfProgram = filter
            .and_then(BpfProgram::try_from)
            .map_err(|e| text(&e))?;
        apply_filter(&program).map_err(|e| text(&e))?;
    }
    Ok(if enforce {
        how
    } else {
        format!("{how}; sandbox = \"report\": others are logged by the kernel")
    })
}
