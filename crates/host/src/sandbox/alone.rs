//! System calls that a program doesn't need if it has one thread, accepts no connections and writes no files. They are forbidden in addition
//! to the system calls in [`super::calls`].

use nix::libc;

use super::calls;

const CALLS: &[libc::c_long] = &[
    libc::SYS_clone,
    libc::SYS_bind,
    libc::SYS_listen,
    libc::SYS_accept,
    libc::SYS_accept4,
    libc::SYS_mkdirat,
    libc::SYS_mknodat,
    libc::SYS_unlinkat,
    libc::SYS_renameat2,
    libc::SYS_linkat,
    libc::SYS_symlinkat,
    libc::SYS_ftruncate,
    libc::SYS_fallocate,
    libc::SYS_timer_create,
    libc::SYS_setitimer,
    libc::SYS_sched_setaffinity,
    libc::SYS_sched_setscheduler,
];

/// Forbids the system calls in [`CALLS`]. A forbidden system call fails with EPERM.
pub(super) fn restrict() -> Result<(), String> {
    calls::forbid(CALLS)
}
