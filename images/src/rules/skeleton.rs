//! What base-files' postinst makes of an empty disk: the links that programs still expect.

use crate::entry::{Entry, Node};

const MOVED: [&str; 2] = ["var/lock", "var/run"];

/// Whether `entry` is a folder that base-files ships and that its postinst makes a link of.
pub fn replaces(entry: &Entry) -> bool {
    entry.node == Node::Directory && MOVED.contains(&entry.path.as_str())
}

/// Entries at `mtime`, seconds since 1970, for a tree that base-files began.
pub fn entries(mtime: u64) -> Vec<Entry> {
    vec![
        Entry::symlink("etc/dpkg/origins/default", "debian", mtime),
        Entry::symlink("var/lock", "/run/lock", mtime),
        Entry::symlink("var/run", "/run", mtime),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_folder_that_is_left_out_comes_back_as_a_link() {
        for path in MOVED {
            assert!(replaces(&Entry::directory(path, 0o755, 0)), "{path}");
            let link = entries(0).into_iter().find(|entry| entry.path == path).expect("a link in its place");
            assert!(!replaces(&link), "{path}");
        }
        assert!(!replaces(&Entry::directory("var/lib", 0o755, 0)));
    }
}
