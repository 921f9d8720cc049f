//! Moves `/bin`, `/lib` and their kin below `/usr`, where Debian has had them since bookworm (the usrmerge package).
//!
//! A package that still ships `/lib` as a folder would replace the link of that name, and the dynamic linker with it.

use crate::entry::{Entry, Node};

const MERGED: [&str; 6] = ["bin", "lib", "lib32", "lib64", "libx32", "sbin"];

/// The path below `/usr`, for a path in one of the merged folders.
pub fn path(path: &str) -> Option<String> {
    let top = path.split('/').next()?;
    (path.len() > top.len() && MERGED.contains(&top)).then(|| format!("usr/{path}"))
}

/// The entry as it lies in a merged tree; `None` for the folders themselves, which are links there.
pub fn entry(mut entry: Entry) -> Option<Entry> {
    if entry.node == Node::Directory && MERGED.contains(&entry.path.as_str()) {
        return None;
    }
    if let Some(moved) = path(&entry.path) {
        entry.path = moved;
    }
    if let Node::Hardlink { target } = &mut entry.node
        && let Some(moved) = path(target)
    {
        *target = moved;
    }
    Some(entry)
}

/// `md5sums` with the paths of a merged tree, so that scanners find the files.
pub fn md5sums(text: &str) -> String {
    let line = |line: &str| match line.split_once("  ") {
        Some((sum, file)) => format!("{sum}  {}\n", path(file).unwrap_or_else(|| file.to_owned())),
        None => format!("{line}\n"),
    };
    text.lines().map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn old_folders_become_the_links_that_they_are() {
        assert_eq!(entry(Entry::directory("lib", 0o755, 0)), None);
        assert_eq!(entry(Entry::symlink("lib", "usr/lib", 0)), Some(Entry::symlink("lib", "usr/lib", 0)));
        let moved = entry(Entry::file("lib/x86_64-linux-gnu/libz.so.1", 1, 0o644, 0)).expect("a file");
        assert_eq!(moved.path, "usr/lib/x86_64-linux-gnu/libz.so.1");
        assert_eq!(entry(Entry::directory("library", 0o755, 0)).expect("another folder").path, "library");
        assert_eq!(md5sums("0  lib/a\n1  usr/b\n"), "0  usr/lib/a\n1  usr/b\n");
    }
}
