//! The system calls of a server that serves, in groups with a reason each. All others do as if the
//! kernel did not have them: `ENOSYS`.
//!
//! Not a killed process, because a C library that learns a new call must not be the death of
//! somebody's file server: it tries, and falls back to what it did before. Not `EPERM` either, for
//! which there is no falling back. A call that is refused has no effect in any case.

use std::collections::BTreeMap;

use libc::c_long;
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen as Length, SeccompCmpOp as Op, SeccompCondition,
    SeccompFilter, SeccompRule, TargetArch,
};

use super::Needs;

/// Reading, writing and waiting on descriptors that are open.
const DESCRIPTORS: &[c_long] = &[
    libc::SYS_read,
    libc::SYS_pread64,
    // A read that does not wait for storage.
    libc::SYS_preadv2,
    libc::SYS_write,
    libc::SYS_writev,
    libc::SYS_pwrite64,
    libc::SYS_lseek,
    libc::SYS_close,
    // Donations, flags of open files, record locks, seals.
    libc::SYS_fcntl,
    libc::SYS_ppoll,
    // What ends a wait.
    libc::SYS_eventfd2,
];

/// Files below the roots: their descriptors, names and attributes.
const FILES: &[c_long] = &[
    libc::SYS_openat,
    libc::SYS_openat2,
    libc::SYS_statx,
    libc::SYS_fstat,
    libc::SYS_newfstatat,
    libc::SYS_fstatfs,
    libc::SYS_readlinkat,
    libc::SYS_getdents64,
    libc::SYS_mkdirat,
    libc::SYS_mknodat,
    libc::SYS_symlinkat,
    libc::SYS_linkat,
    libc::SYS_unlinkat,
    libc::SYS_renameat2,
    libc::SYS_fchmod,
    libc::SYS_fchmodat,
    libc::SYS_fchownat,
    libc::SYS_utimensat,
    libc::SYS_ftruncate,
    libc::SYS_fallocate,
    libc::SYS_fsync,
    libc::SYS_fdatasync,
    libc::SYS_flock,
    libc::SYS_getxattr,
    libc::SYS_setxattr,
    libc::SYS_listxattr,
    libc::SYS_removexattr,
    // Modes of new files are the client's.
    libc::SYS_umask,
];

/// The same under the names they have on older architectures only, as C libraries and rustix
/// prefer them where they exist.
#[cfg(target_arch = "x86_64")]
const OLDER: &[c_long] = &[
    libc::SYS_poll,
    libc::SYS_open,
    libc::SYS_renameat,
    libc::SYS_unlink,
];
#[cfg(target_arch = "aarch64")]
const OLDER: &[c_long] = &[libc::SYS_renameat];
#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
const OLDER: &[c_long] = &[];

/// Connections that are there, and more of them from listeners that are there.
const CONNECTIONS: &[c_long] = &[
    libc::SYS_accept4,
    libc::SYS_recvmsg,
    libc::SYS_recvfrom,
    libc::SYS_sendmsg,
    libc::SYS_sendto,
    libc::SYS_shutdown,
    // Keep-alive and no delay on TCP; what kind of socket a descriptor is.
    libc::SYS_getsockopt,
    libc::SYS_setsockopt,
    libc::SYS_getsockname,
];

/// Memory: the allocator, stacks of threads, windows of channels.
const MEMORY: &[c_long] = &[
    libc::SYS_brk,
    libc::SYS_munmap,
    libc::SYS_mremap,
    libc::SYS_madvise,
    libc::SYS_memfd_create,
];

/// Threads: what starts, names, synchronises, places and ends them, and signals to ourselves.
const THREADS: &[c_long] = &[
    libc::SYS_futex,
    libc::SYS_set_robust_list,
    libc::SYS_rseq,
    libc::SYS_gettid,
    libc::SYS_getpid,
    libc::SYS_sched_yield,
    libc::SYS_sched_getaffinity,
    libc::SYS_sigaltstack,
    libc::SYS_rt_sigaction,
    libc::SYS_rt_sigprocmask,
    libc::SYS_rt_sigreturn,
    libc::SYS_tgkill,
    libc::SYS_restart_syscall,
    libc::SYS_exit,
    libc::SYS_exit_group,
];

/// Time, chance, and who we are. All harmless.
const HARMLESS: &[c_long] = &[
    libc::SYS_clock_gettime,
    libc::SYS_clock_nanosleep,
    libc::SYS_nanosleep,
    libc::SYS_getrandom,
    libc::SYS_geteuid,
    libc::SYS_getuid,
    libc::SYS_getegid,
    libc::SYS_getgid,
];

/// Connecting to sockets of the host (`--host-uds open` and `all`).
const CONNECT: &[c_long] = &[libc::SYS_connect];

/// Connecting as whom the client names, and acting as the users of an export (`--users`).
const IDS: &[c_long] = &[
    libc::SYS_setgroups,
    libc::SYS_setresuid,
    libc::SYS_setresgid,
];

/// Binding sockets on the host (`--host-uds create` and `all`).
const BIND: &[c_long] = &[libc::SYS_bind, libc::SYS_listen];

/// Refuses every thread of this process every other call.
pub(super) fn filter(needs: &Needs<'_>) -> Result<String, String> {
    let rules = rules(needs).map_err(|error| error.to_string())?;
    let count = rules.len();
    let program = compile(rules).map_err(|error| error.to_string())?;
    seccompiler::apply_filter_all_threads(&program).map_err(|error| error.to_string())?;
    Ok(format!("{count} system calls"))
}

type Rules = BTreeMap<c_long, Vec<SeccompRule>>;

fn compile(rules: Rules) -> Result<BpfProgram, seccompiler::BackendError> {
    let arch = TargetArch::try_from(std::env::consts::ARCH)?;
    let absent = SeccompAction::Errno(libc::ENOSYS as u32);
    SeccompFilter::new(rules, absent, SeccompAction::Allow, arch)?.try_into()
}

fn rules(needs: &Needs<'_>) -> Result<Rules, seccompiler::BackendError> {
    let mut rules = Rules::new();
    let mut allow = |calls: &[c_long]| {
        // No condition on arguments: allowed as it is.
        rules.extend(calls.iter().map(|call| (*call, Vec::new())));
    };
    for calls in [
        DESCRIPTORS,
        FILES,
        OLDER,
        CONNECTIONS,
        MEMORY,
        THREADS,
        HARMLESS,
    ] {
        allow(calls);
    }
    if needs.connect {
        allow(CONNECT);
    }
    if needs.connect || needs.users {
        allow(IDS);
    }
    if needs.bind {
        allow(BIND);
    }
    let unix = equal(0, libc::AF_UNIX as u64)?;
    rules.insert(libc::SYS_socketpair, vec![unix.clone()]);
    if needs.connect || needs.bind {
        rules.insert(libc::SYS_socket, vec![unix]);
    }
    // Memory is never both data and program.
    for call in [libc::SYS_mmap, libc::SYS_mprotect] {
        rules.insert(call, vec![masked(2, libc::PROT_EXEC as u64, 0)?]);
    }
    // Threads, and no processes. The flags of clone3 are out of a filter's sight; without it the C
    // library takes clone.
    let thread = libc::CLONE_THREAD as u64;
    rules.insert(libc::SYS_clone, vec![masked(0, thread, thread)?]);
    rules.insert(libc::SYS_prctl, vec![equal(0, libc::PR_SET_NAME as u64)?]);
    Ok(rules)
}

/// Allows a call whose argument `index` is `value`.
fn equal(index: u8, value: u64) -> Result<SeccompRule, seccompiler::BackendError> {
    let condition = SeccompCondition::new(index, Length::Dword, Op::Eq, value)?;
    SeccompRule::new(vec![condition])
}

/// Allows a call whose argument `index` has `value` in the bits of `mask`.
fn masked(index: u8, mask: u64, value: u64) -> Result<SeccompRule, seccompiler::BackendError> {
    let condition = SeccompCondition::new(index, Length::Qword, Op::MaskedEq(mask), value)?;
    SeccompRule::new(vec![condition])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sockets_are_made_only_where_the_policy_allows_them() {
        let has = |connect, bind, call: c_long| {
            let needs = Needs {
                connect,
                bind,
                ..Needs::default()
            };
            rules(&needs).unwrap().contains_key(&call)
        };
        assert!(!has(false, false, libc::SYS_socket));
        assert!(has(true, false, libc::SYS_socket) && has(false, true, libc::SYS_socket));
        assert!(has(true, false, libc::SYS_connect) && !has(false, true, libc::SYS_connect));
        assert!(has(false, true, libc::SYS_bind) && !has(true, false, libc::SYS_bind));
    }

    #[test]
    fn ids_are_changed_only_where_a_policy_needs_it() {
        let has = |needs| rules(&needs).unwrap().contains_key(&libc::SYS_setresuid);
        let none = Needs::default;
        assert!(!has(Needs {
            bind: true,
            ..none()
        }));
        assert!(has(Needs {
            connect: true,
            ..none()
        }));
        assert!(has(Needs {
            users: true,
            ..none()
        }));
    }

    #[test]
    fn a_filtered_thread_reads_and_writes_files_and_cannot_do_more() {
        let dir = tempfile::tempdir().unwrap();
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        // A filter of this thread alone: the process goes on testing.
        let work = move || {
            let program = compile(rules(&Needs::default()).unwrap()).unwrap();
            seccompiler::apply_filter(&program).unwrap();
            std::fs::write(dir.path().join("file"), "content").unwrap();
            rustix::fs::rename(dir.path().join("file"), dir.path().join("renamed")).unwrap();
            assert_eq!(
                std::fs::read(dir.path().join("renamed")).unwrap(),
                b"content"
            );
            std::fs::remove_file(dir.path().join("renamed")).unwrap();
            std::thread::spawn(|| vec![0u8; 1 << 20]).join().unwrap();
            let refused = |error: std::io::Error| error.raw_os_error() == Some(libc::ENOSYS);
            let run = std::process::Command::new("/bin/true").status();
            assert!(refused(run.unwrap_err()));
            assert!(refused(std::net::TcpStream::connect(address).unwrap_err()));
            assert!(refused(
                std::os::unix::net::UnixDatagram::unbound().unwrap_err()
            ));
            assert!(refused(rustix::process::chroot("/").unwrap_err().into()));
            std::os::unix::net::UnixStream::pair().unwrap();
            dir
        };
        std::thread::spawn(work).join().unwrap();
    }

    #[test]
    fn nothing_starts_programs_or_changes_mounts() {
        let needs = Needs {
            connect: true,
            bind: true,
            ..Needs::default()
        };
        let rules = rules(&needs).unwrap();
        for call in [
            libc::SYS_execve,
            libc::SYS_execveat,
            libc::SYS_clone3,
            libc::SYS_ptrace,
            libc::SYS_mount,
            libc::SYS_chroot,
            libc::SYS_unshare,
            libc::SYS_setns,
            libc::SYS_bpf,
            libc::SYS_kill,
            libc::SYS_ioctl,
            libc::SYS_open_by_handle_at,
            libc::SYS_io_uring_setup,
        ] {
            assert!(!rules.contains_key(&call), "{call}");
        }
        assert!(!compile(rules).unwrap().is_empty());
    }
}
