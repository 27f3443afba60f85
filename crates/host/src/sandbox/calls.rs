//! The part of the sandbox for system calls. It forbids system calls that the daemons never need and that would help an attacker. All others
//! are permitted, because libraries and later versions of the C library may need them.

use std::collections::BTreeMap;

use nix::libc;
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule,
    TargetArch, apply_filter,
};

/// The system calls to forbid, each with a list of rules for its arguments. With an empty list the system call is always forbidden, otherwise if
/// its arguments match one of the rules.
type Rules = BTreeMap<i64, Vec<SeccompRule>>;

/// System calls that no daemon needs, also not to start other daemons. They concern the memory and descriptors of other processes, kernel objects,
/// mounts and the machine.
const MACHINE: &[libc::c_long] = &[
    libc::SYS_ptrace,
    libc::SYS_process_vm_readv,
    libc::SYS_process_vm_writev,
    libc::SYS_process_madvise,
    libc::SYS_kcmp,
    libc::SYS_pidfd_getfd,
    libc::SYS_io_uring_setup,
    libc::SYS_io_uring_enter,
    libc::SYS_io_uring_register,
    libc::SYS_bpf,
    libc::SYS_userfaultfd,
    libc::SYS_perf_event_open,
    libc::SYS_keyctl,
    libc::SYS_add_key,
    libc::SYS_request_key,
    libc::SYS_mount,
    libc::SYS_umount2,
    libc::SYS_move_mount,
    libc::SYS_open_tree,
    libc::SYS_fsopen,
    libc::SYS_fsconfig,
    libc::SYS_fsmount,
    libc::SYS_fspick,
    libc::SYS_mount_setattr,
    libc::SYS_pivot_root,
    libc::SYS_chroot,
    libc::SYS_unshare,
    libc::SYS_setns,
    libc::SYS_swapon,
    libc::SYS_swapoff,
    libc::SYS_init_module,
    libc::SYS_finit_module,
    libc::SYS_delete_module,
    libc::SYS_kexec_load,
    libc::SYS_reboot,
    libc::SYS_settimeofday,
    libc::SYS_clock_settime,
    libc::SYS_clock_adjtime,
    libc::SYS_adjtimex,
    libc::SYS_sethostname,
    libc::SYS_setdomainname,
    libc::SYS_syslog,
    libc::SYS_quotactl,
    libc::SYS_acct,
    libc::SYS_name_to_handle_at,
    libc::SYS_open_by_handle_at,
    libc::SYS_fanotify_init,
    libc::SYS_personality,
];

/// System calls that a daemon doesn't need after its start.
const NEVER: &[libc::c_long] = &[
    libc::SYS_pidfd_open,
    libc::SYS_pidfd_send_signal,
    libc::SYS_tkill,
    libc::SYS_rt_sigqueueinfo,
    libc::SYS_rt_tgsigqueueinfo,
    libc::SYS_setuid,
    libc::SYS_setgid,
    libc::SYS_setreuid,
    libc::SYS_setregid,
    libc::SYS_setresuid,
    libc::SYS_setresgid,
    libc::SYS_setgroups,
    libc::SYS_capset,
    libc::SYS_shmget,
    libc::SYS_shmat,
    libc::SYS_shmctl,
    libc::SYS_msgget,
    libc::SYS_semget,
    libc::SYS_mq_open,
    libc::SYS_mq_unlink,
    // Landlock doesn't restrict modes, owners, times and attributes of files.
    libc::SYS_fchmod,
    libc::SYS_fchmodat,
    SYS_FCHMODAT2,
    libc::SYS_fchown,
    libc::SYS_fchownat,
    libc::SYS_setxattr,
    libc::SYS_lsetxattr,
    libc::SYS_fsetxattr,
    libc::SYS_removexattr,
    libc::SYS_lremovexattr,
    libc::SYS_fremovexattr,
    libc::SYS_utimensat,
    libc::SYS_truncate,
    libc::SYS_inotify_init1,
    // These calls can also change other processes of the same user.
    libc::SYS_ioprio_set,
    libc::SYS_sched_setparam,
    libc::SYS_sched_setscheduler,
    libc::SYS_sched_setattr,
    libc::SYS_sched_setaffinity,
    // The process opens its listening sockets before it enters the sandbox.
    libc::SYS_listen,
    libc::SYS_execve,
    libc::SYS_execveat,
];

/// System calls of x86-64 that are always forbidden too. Newer architectures don't have most of them.
#[cfg(target_arch = "x86_64")]
const OLD: &[libc::c_long] = &[
    libc::SYS_fork,
    libc::SYS_vfork,
    libc::SYS_chmod,
    libc::SYS_chown,
    libc::SYS_lchown,
    libc::SYS_utime,
    libc::SYS_utimes,
    libc::SYS_futimesat,
    libc::SYS_inotify_init,
    libc::SYS_modify_ldt,
    libc::SYS_iopl,
    libc::SYS_ioperm,
    libc::SYS_kexec_file_load,
    libc::SYS_uselib,
];
#[cfg(not(target_arch = "x86_64"))]
const OLD: &[libc::c_long] = &[];

/// Number of the system call fchmodat2(2), the same on all architectures.
const SYS_FCHMODAT2: libc::c_long = 452;
/// System calls of a program that watches files and replaces itself.
const OF_REPLACEABLE: [libc::c_long; 2] = [libc::SYS_execve, libc::SYS_inotify_init1];

/// prctl(2) options that would undo the protection of this process, each with the only value that is permitted; `None` forbids every value. The next
/// program after execve(2) sets this value again.
const PRCTL: [(libc::c_int, Option<libc::c_int>); 5] = [
    (libc::PR_SET_PDEATHSIG, Some(libc::SIGKILL)),
    (libc::PR_SET_DUMPABLE, Some(0)),
    (libc::PR_SET_PTRACER, None),
    (libc::PR_SET_MM, None),
    (libc::PR_SET_CHILD_SUBREAPER, None),
];
/// Commands of fcntl(2) that make the kernel send signals to a process that the caller chooses, or to the caller.
const FCNTL: [libc::c_int; 5] = [libc::F_SETOWN, F_SETOWN_EX, F_SETSIG, libc::F_NOTIFY, libc::F_SETLEASE];
/// Number of a command of fcntl(2) that `libc` lacks; the same on x86-64 and arm64.
const F_SETSIG: libc::c_int = 10;
/// Number of a command of fcntl(2) that `libc` lacks; the same on x86-64 and arm64.
const F_SETOWN_EX: libc::c_int = 15;
/// First argument of setpriority(2) for one process or thread.
const PRIO_PROCESS: u64 = 0;
/// Requests of ioctl(2) that the standard library uses: non-blocking, close-on-exec, and the number of bytes to read.
const IOCTL: [libc::c_ulong; 3] = [libc::FIONBIO, libc::FIOCLEX, libc::FIONREAD];
/// Bit that is set in the system call numbers of the x32 ABI. An x86-64 kernel may support this ABI too.
const X32: i64 = 0x4000_0000;

/// Forbids the system calls that a daemon doesn't need after its start. Each of them fails with EPERM, clone3(2) with ENOSYS.
pub(super) fn restrict() -> Result<(), String> {
    restrict_except(&[])
}

/// Does the same as [`restrict`], but permits execve(2) and inotify(7).
pub(super) fn restrict_replaceable() -> Result<(), String> {
    restrict_except(&OF_REPLACEABLE)
}

/// Forbids only the system calls in [`MACHINE`].
pub(super) fn restrict_machine() -> Result<(), String> {
    forbid(MACHINE)
}

fn restrict_except(permitted: &[libc::c_long]) -> Result<(), String> {
    let denied = program(rules(permitted)?, SeccompAction::Errno(libc::EPERM as u32))?;
    // clone3(2) passes its flags in memory, which a filter can't read. After ENOSYS the C library uses clone(2).
    let clone3 = Rules::from([(libc::SYS_clone3, Vec::new())]);
    let clone3 = program(clone3, SeccompAction::Errno(libc::ENOSYS as u32))?;
    for filter in [clone3, denied] {
        apply_filter(&filter).map_err(|error| error.to_string())?;
    }
    Ok(())
}

/// Forbids the system calls `calls` with any arguments, in addition to the calls that are forbidden already.
pub(super) fn forbid(calls: &[libc::c_long]) -> Result<(), String> {
    let rules = calls.iter().map(|call| (*call, Vec::new())).collect();
    let denied = program(rules, SeccompAction::Errno(libc::EPERM as u32))?;
    apply_filter(&denied).map_err(|error| error.to_string())
}

fn program(rules: Rules, action: SeccompAction) -> Result<BpfProgram, String> {
    let arch = TargetArch::try_from(std::env::consts::ARCH).map_err(|error| error.to_string())?;
    let filter = SeccompFilter::new(rules, SeccompAction::Allow, action, arch).map_err(|error| error.to_string())?;
    filter.try_into().map_err(|error: seccompiler::BackendError| error.to_string())
}

fn rules(permitted: &[libc::c_long]) -> Result<Rules, String> {
    let mut rules = conditional().map_err(|error| error.to_string())?;
    let denied = MACHINE.iter().chain(NEVER).chain(OLD).filter(|call| !permitted.contains(call));
    rules.extend(denied.map(|call| (*call, Vec::new())));
    if cfg!(target_arch = "x86_64") {
        let x32: Vec<i64> = rules.keys().map(|call| call | X32).chain((512..=547).map(|call| call | X32)).collect();
        rules.extend(x32.into_iter().map(|call| (call, Vec::new())));
    }
    Ok(rules)
}

/// Returns the system calls that are forbidden only with certain arguments.
fn conditional() -> Result<Rules, seccompiler::BackendError> {
    let own_pid = u64::from(std::process::id());
    let is = |argument, op, value| SeccompCondition::new(argument, SeccompCmpArgLen::Dword, op, value);
    let rule = |conditions| SeccompRule::new(conditions);
    let mut rules = Rules::new();
    for call in [libc::SYS_kill, libc::SYS_tgkill] {
        rules.insert(call, vec![rule(vec![is(0, SeccompCmpOp::Ne, own_pid)?])?]);
    }
    let other = vec![is(0, SeccompCmpOp::Ne, 0)?, is(0, SeccompCmpOp::Ne, own_pid)?];
    rules.insert(libc::SYS_prlimit64, vec![rule(other)?]);
    rules.insert(libc::SYS_socket, vec![rule(vec![is(0, SeccompCmpOp::Ne, libc::AF_UNIX as u64)?])?]);
    // A thread may change its own niceness: PRIO_PROCESS with the ID 0.
    let other = [is(0, SeccompCmpOp::Ne, PRIO_PROCESS)?, is(1, SeccompCmpOp::Ne, 0)?];
    rules.insert(libc::SYS_setpriority, other.into_iter().map(|one| rule(vec![one])).collect::<Result<_, _>>()?);
    let requests = IOCTL.iter().map(|request| is(1, SeccompCmpOp::Ne, *request)).collect::<Result<_, _>>()?;
    rules.insert(libc::SYS_ioctl, vec![rule(requests)?]);
    let options = PRCTL.iter().map(|(option, permitted)| {
        let option = is(0, SeccompCmpOp::Eq, *option as u64);
        let other = permitted.map(|value| is(1, SeccompCmpOp::Ne, value as u64));
        rule(std::iter::once(option).chain(other).collect::<Result<_, _>>()?)
    });
    rules.insert(libc::SYS_prctl, options.collect::<Result<_, _>>()?);
    let commands = FCNTL.iter().map(|command| rule(vec![is(1, SeccompCmpOp::Eq, *command as u64)?]));
    rules.insert(libc::SYS_fcntl, commands.collect::<Result<_, _>>()?);
    // With the flag MSG_FASTOPEN, these system calls connect a TCP socket, which Landlock doesn't notice.
    let fast_open = libc::MSG_FASTOPEN as u64;
    for (call, flags) in [(libc::SYS_sendto, 3), (libc::SYS_sendmsg, 2), (libc::SYS_sendmmsg, 3)] {
        rules.insert(call, vec![rule(vec![is(flags, SeccompCmpOp::MaskedEq(fast_open), fast_open)?])?]);
    }
    // With the flag CLONE_THREAD, clone(2) starts a thread. Without it, clone(2) starts a process.
    let process = is(0, SeccompCmpOp::MaskedEq(libc::CLONE_THREAD as u64), 0)?;
    rules.insert(libc::SYS_clone, vec![rule(vec![process])?]);
    Ok(rules)
}
