//! What base-files' postinst makes of an empty disk: the links that programs still expect.

use crate::entry::Entry;

/// Entries at `mtime`, seconds since 1970, for a tree that base-files began.
pub fn entries(mtime: u64) -> Vec<Entry> {
    vec![
        Entry::symlink("etc/dpkg/origins/default", "debian", mtime),
        Entry::symlink("var/lock", "/run/lock", mtime),
        Entry::symlink("var/run", "/run", mtime),
    ]
}
