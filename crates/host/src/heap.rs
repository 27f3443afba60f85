//! Settings of glibc's `malloc` for a program of which many processes run. A process then keeps less memory that it doesn't use.

use std::env;
use std::process::Command;

/// Environment variables of mallopt(3).
///
/// All threads share one heap. Free memory at its end goes back to the kernel if it exceeds 32 KiB, instead of 128 KiB. A block of 32 KiB or more is
/// mapped apart, so it goes back as soon as it is freed.
const SETTINGS: [(&str, &str); 4] = [
    ("MALLOC_ARENA_MAX", "1"),
    ("MALLOC_TOP_PAD_", "4096"),
    ("MALLOC_TRIM_THRESHOLD_", "32768"),
    ("MALLOC_MMAP_THRESHOLD_", "32768"),
];

/// Sets the variables for a child. A variable that this process has inherited keeps its value.
pub fn keep_small(command: &mut Command) {
    for (name, value) in SETTINGS.into_iter().filter(|(name, _)| env::var_os(name).is_none()) {
        command.env(name, value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn child_has_one_heap() {
        let mut command = Command::new("sh");
        keep_small(command.args(["-c", "test $MALLOC_ARENA_MAX = 1 && test $MALLOC_TRIM_THRESHOLD_ = 32768"]));
        assert!(command.status().is_ok_and(|status| status.success()));
    }

    #[test]
    fn unit_of_a_listener_has_the_same_settings() {
        let unit = include_str!("../../../systemd/palabre-listener@.service");
        let line = SETTINGS.map(|(name, value)| format!("{name}={value}")).join(" ");
        assert!(unit.contains(&format!("\nEnvironment={line}\n")), "{line}");
    }
}
