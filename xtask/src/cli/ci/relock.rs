//! What a check does when a locked package has left Debian's archive: it goes on, from a lock renewed in a scratch copy.
//!
//! Security updates replace versions in the pool, so an untouched checkout stops building one day through nobody's fault.
//! The checks then prove what they can, and say that the lock wants an update.

use std::path::Path;

use images::{Class, Context, Error, Result};

use crate::machine::Machine;
use crate::workspace::Workspace;

/// The packages that have left the pool, as the hint of a failed fetch names them.
pub fn gone(printed: &str) -> Vec<String> {
    let hint = printed.rsplit("`cargo xtask images lock --update ").next().filter(|rest| rest.len() < printed.len());
    let names = hint.and_then(|rest| rest.split_once("` takes what the archive has now")).map(|(names, _)| names);
    names.unwrap_or_default().split_whitespace().map(str::to_owned).collect()
}

/// The files of the repository, below its top folder: those that git tracks, and new ones that it does not ignore.
pub fn files(machine: &Machine) -> Result<Vec<String>> {
    let list = ["ls-files", "-z", "--cached", "--others", "--exclude-standard"];
    let listed = machine.process("git").args(list).fails_as(Class::Check).capture().context(|| "listing the repository's files")?;
    let names = listed.stdout.split(|byte| *byte == 0).filter(|name| !name.is_empty());
    let utf8 = |name: &[u8]| String::from_utf8(name.to_vec());
    names.map(|name| utf8(name).map_err(|_| Error::new(Class::Check, "a tracked file has a name that is not UTF-8"))).collect()
}

/// A copy of the repository's files in `folder`, with the same `target`, so that nothing is fetched or compiled twice.
pub fn scratch(workspace: &Workspace, machine: &Machine, folder: &Path) -> Result<Workspace> {
    if folder.exists() {
        fs_err::remove_dir_all(folder)?;
    }
    for path in files(machine)? {
        let (from, to) = (workspace.root().join(&path), folder.join(&path));
        if from.is_file() {
            fs_err::create_dir_all(to.parent().unwrap_or(folder))?;
            fs_err::copy(from, to)?;
        }
    }
    fs_err::os::unix::fs::symlink(workspace.target(), folder.join("target"))?;
    Ok(Workspace::at(folder))
}

#[cfg(test)]
mod tests {
    use super::gone;

    #[test]
    fn the_hint_of_a_failed_fetch_names_what_left_the_archive() {
        let printed = "error: 2 files could not be fetched\nhint: `cargo xtask images lock --update libc6 tzdata` takes what the archive has now;\n  --debian-archive URL names";
        assert_eq!(gone(printed), ["libc6", "tzdata"]);
    }

    #[test]
    fn another_failure_is_no_reason_to_renew_the_lock() {
        assert_eq!(gone("hint: `cargo xtask images lock --update jenkins` fetches and verifies it"), [""; 0]);
        assert_eq!(gone("error: no Debian mirror is known"), [""; 0]);
    }
}
