//! Who may, when we may not.

use std::fmt::Display;
use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// `cause`, and who may change `directory` where that is what is wrong.
#[must_use]
pub fn explain(directory: &Path, cause: impl Display) -> String {
    let denied = tempfile::tempfile_in(directory).is_err_and(|error| error.kind() == ErrorKind::PermissionDenied);
    let owner = fs::metadata(directory).ok().filter(|_| denied).map(|metadata| user_name(metadata.uid()));
    match owner {
        Some(owner) => format!("{cause}; the user '{owner}' may change '{}'", directory.display()),
        None => cause.to_string(),
    }
}

/// From passwd(5); the number where it isn't known there.
fn user_name(uid: u32) -> String {
    let passwd = fs::read_to_string("/etc/passwd").unwrap_or_default();
    name_in(&passwd, uid).unwrap_or_else(|| uid.to_string())
}

fn name_in(passwd: &str, uid: u32) -> Option<String> {
    let uid = uid.to_string();
    passwd.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1)? == uid).then(|| name.to_owned())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_is_named_as_in_passwd() {
        let passwd = "root:x:0:0:root:/root:/bin/sh\npalabre:x:990:980::/:/usr/sbin/nologin\n";
        assert_eq!(name_in(passwd, 990).as_deref(), Some("palabre"));
        assert_eq!(name_in(passwd, 1), None);
    }

    #[test]
    fn a_cause_that_is_not_permission_stays_as_it_is() {
        assert_eq!(explain(&std::env::temp_dir(), "unable to write 'x': disk full"), "unable to write 'x': disk full");
    }
}
