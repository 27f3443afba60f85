//! Adds to an error message the user who has the missing permission.

use std::fmt::Display;
use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// Returns the message `cause`. If this process has no permission to write to `directory`, adds the name of the user who has it.
pub(crate) fn explain(directory: &Path, cause: impl Display) -> String {
    let denied = tempfile::tempfile_in(directory).is_err_and(|error| error.kind() == ErrorKind::PermissionDenied);
    let owner = fs::metadata(directory).ok().filter(|_| denied).map(|metadata| user_name(metadata.uid()));
    match owner {
        Some(owner) => format!(
            "{cause}; run this command as user '{owner}', who has permission to write to '{}'",
            directory.display()
        ),
        None => cause.to_string(),
    }
}

/// Returns the user's name from passwd(5), or the user id as text if it has no name.
pub(crate) fn user_name(uid: u32) -> String {
    name("/etc/passwd", uid)
}

/// Returns the group's name from group(5), or the group id as text if it has no name.
pub(crate) fn group_name(gid: u32) -> String {
    name("/etc/group", gid)
}

fn name(file: &str, id: u32) -> String {
    name_in(&fs::read_to_string(file).unwrap_or_default(), id).unwrap_or_else(|| id.to_string())
}

/// Returns the name with the id `id`: the third field of a line of passwd(5) and of group(5).
fn name_in(lines: &str, id: u32) -> Option<String> {
    let id = id.to_string();
    lines.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1)? == id).then(|| name.to_owned())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn user_name_is_read_from_passwd() {
        let passwd = "root:x:0:0:root:/root:/bin/sh\npalabre:x:990:980::/:/usr/sbin/nologin\n";
        assert_eq!(name_in(passwd, 990).as_deref(), Some("palabre"));
        assert_eq!(name_in(passwd, 1), None);
    }

    #[test]
    fn other_causes_are_unchanged() {
        assert_eq!(explain(&std::env::temp_dir(), "unable to write 'x': disk full"), "unable to write 'x': disk full");
    }
}
