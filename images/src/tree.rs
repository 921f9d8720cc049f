//! The image's file tree in memory: path → entry with its owner. Conflicts are errors that name both owners.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::elf::Dynamic;
use crate::entry::{self, Entry, Node};
use crate::error::{Class, Error, Result};

/// An entry, who brought it, and where its content lies.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Owned {
    /// The entry.
    pub entry: Entry,
    /// The package, release or rule that brought it.
    pub owner: String,
    /// Offset of a file's content in its layer, bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub offset: Option<u64>,
    /// What the dynamic linker needs to know, for ELF files that have a dynamic section.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dynamic: Option<Dynamic>,
}

/// All layers seen as one tree.
#[derive(Debug, Default)]
pub struct Tree {
    nodes: BTreeMap<String, (usize, Owned)>,
}

/// What came of adding an entry.
#[derive(Debug, PartialEq, Eq)]
pub enum Added {
    /// It is new.
    New,
    /// A directory that is there already, with the same mode and owner.
    Known,
}

impl Tree {
    /// Adds what layer number `layer` has at a path.
    pub fn add(&mut self, layer: usize, new: Owned) -> Result<Added> {
        self.check_ancestors(&new)?;
        if let Node::Hardlink { target } = &new.entry.node {
            let file = self.nodes.get(target).map(|(_, owned)| owned);
            if !file.is_some_and(|file| matches!(file.entry.node, Node::File { .. }) && file.owner == new.owner) {
                return Err(Error::new(Class::Build, format!("{} of {} is a hard link to {target}", new.entry.path, new.owner))
                    .detail("expected an earlier file of the same package"));
            }
        }
        let path = new.entry.path.clone();
        let Some((_, old)) = self.nodes.get(&path) else {
            self.refuse_above(&new)?;
            self.nodes.insert(path, (layer, new));
            return Ok(Added::New);
        };
        let same = |a: &Entry, b: &Entry| (a.mode, a.uid, a.gid) == (b.mode, b.uid, b.gid);
        match (&old.entry.node, &new.entry.node) {
            (Node::Directory, Node::Directory) if same(&old.entry, &new.entry) => Ok(Added::Known),
            (Node::Directory, Node::Directory) => Err(conflict(old, &new)
                .detail(describe(old))
                .detail(describe(&new))
                .hint(format!("say which holds with a [[path]] for \"/{path}\" in image.toml"))),
            _ if old.owner == new.owner => Err(Error::new(Class::Build, format!("{} has {path} twice", new.owner))),
            _ => Err(conflict(old, &new).hint(format!("leave one out with exclude.paths = [\"/{path}\"], or one of the packages"))),
        }
    }

    /// Says where the content of the file at `path` lies in its layer, bytes.
    pub fn set_offset(&mut self, path: &str, offset: u64) {
        if let Some((_, owned)) = self.nodes.get_mut(path) {
            owned.offset = Some(offset);
        }
    }

    /// Says what the dynamic linker needs for the file at `path`.
    pub fn set_dynamic(&mut self, path: &str, dynamic: Option<Dynamic>) {
        if let Some((_, owned)) = self.nodes.get_mut(path)
            && matches!(owned.entry.node, Node::File { .. })
        {
            owned.dynamic = dynamic;
        }
    }

    /// Everything above an entry has to be a directory; below a link it would land somewhere else, or nowhere.
    fn check_ancestors(&self, new: &Owned) -> Result<()> {
        let mut path = new.entry.path.as_str();
        while let Some(folder) = entry::parent(path) {
            if let Some((_, above)) = self.nodes.get(folder)
                && above.entry.node != Node::Directory
            {
                return Err(Error::new(Class::Build, format!("{} of {} lies below a {}", new.entry.path, new.owner, above.entry.kind()))
                    .detail(format!("{folder} is a {} of {}", above.entry.kind(), above.owner)));
            }
            path = folder;
        }
        Ok(())
    }

    /// A new link or file must not hide what lies below a folder of the same name that nobody listed.
    fn refuse_above(&self, new: &Owned) -> Result<()> {
        if new.entry.node == Node::Directory {
            return Ok(());
        }
        let below = format!("{}/", new.entry.path);
        match self.nodes.range(below.clone()..).next() {
            Some((path, (_, hidden))) if path.starts_with(&below) => {
                Err(Error::new(Class::Build, format!("{} of {} lies below a {}", hidden.entry.path, hidden.owner, new.entry.kind()))
                    .detail(format!("{} is a {} of {}", new.entry.path, new.entry.kind(), new.owner)))
            }
            _ => Ok(()),
        }
    }

    /// What is at a path, without following links, and the number of its layer.
    pub fn get(&self, path: &str) -> Option<(usize, &Owned)> {
        self.nodes.get(path).map(|(layer, owned)| (*layer, owned))
    }

    /// What is at a path after all symbolic links were followed.
    pub fn resolve(&self, path: &str) -> Option<(usize, &Owned)> {
        let mut path = path.to_owned();
        // Linux gives up after 40 links (path_resolution(7)).
        for _ in 0..40 {
            match self.follow_one(&path)? {
                Some(next) => path = next,
                None => return self.get(&path),
            }
        }
        None
    }

    /// The path with its first link replaced, `Some(None)` when there is none, `None` when a part is missing.
    fn follow_one(&self, path: &str) -> Option<Option<String>> {
        let ends = path.match_indices('/').map(|(at, _)| at).chain([path.len()]);
        for end in ends {
            let Some((_, owned)) = self.get(&path[..end]) else {
                // A folder that nobody lists exists by what lies in it.
                if end < path.len() { continue } else { return None }
            };
            if let Node::Symlink { target } = &owned.entry.node {
                let to = entry::link_destination(&path[..end], target)?;
                return Some(Some(format!("{to}{}", &path[end..]).trim_matches('/').to_owned()));
            }
        }
        Some(None)
    }

    /// Every entry in path order with its layer's number.
    pub fn iter(&self) -> impl Iterator<Item = (usize, &Owned)> {
        self.nodes.values().map(|(layer, owned)| (*layer, owned))
    }
}

fn conflict(old: &Owned, new: &Owned) -> Error {
    Error::new(Class::Build, format!("{} and {} both bring /{}", old.owner, new.owner, new.entry.path))
}

fn describe(owned: &Owned) -> String {
    let entry = &owned.entry;
    format!("{}: {} {:04o} {}:{}", owned.owner, entry.kind(), entry.mode, entry.uid, entry.gid)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn owned(entry: Entry, owner: &str) -> Owned {
        Owned { entry, owner: owner.into(), offset: None, dynamic: None }
    }

    fn tree(entries: &[(Entry, &str)]) -> Result<Tree> {
        let mut tree = Tree::default();
        for (entry, owner) in entries {
            tree.add(0, owned(entry.clone(), owner))?;
        }
        Ok(tree)
    }

    fn refused(entries: &[(Entry, &str)]) -> String {
        tree(entries).expect_err("a conflict").to_string()
    }

    #[test]
    fn two_packages_with_one_file_are_both_named() {
        let file = || Entry::file("etc/motd", 1, 0o644, 0);
        insta::assert_snapshot!(refused(&[(file(), "base-files"), (file(), "motd")]), @r#"
        base-files and motd both bring /etc/motd
        hint: leave one out with exclude.paths = ["/etc/motd"], or one of the packages
        "#);
        assert!(refused(&[(file(), "motd"), (file(), "motd")]).contains("twice"));
    }

    #[test]
    fn directories_are_shared_when_they_agree() {
        let made = tree(&[(Entry::directory("etc", 0o755, 1), "a"), (Entry::directory("etc", 0o755, 2), "b")]).expect("no conflict");
        assert_eq!(made.get("etc").expect("there").1.owner, "a");
        insta::assert_snapshot!(refused(&[(Entry::directory("etc", 0o755, 1), "a"), (Entry::directory("etc", 0o700, 1), "b")]), @r#"
        a and b both bring /etc
          a: directory 0755 0:0
          b: directory 0700 0:0
        hint: say which holds with a [[path]] for "/etc" in image.toml
        "#);
    }

    #[test]
    fn nothing_lies_below_a_link() {
        let link = || Entry::symlink("lib", "usr/lib", 0);
        let file = || Entry::file("lib/libz.so", 1, 0o644, 0);
        insta::assert_snapshot!(refused(&[(link(), "base-files"), (file(), "zlib1g")]), @r"
        lib/libz.so of zlib1g lies below a symbolic link
          lib is a symbolic link of base-files
        ");
        assert!(refused(&[(file(), "zlib1g"), (link(), "base-files")]).contains("below a symbolic link"));
    }

    #[test]
    fn a_hard_link_needs_its_file_first() {
        let mut link = Entry::file("b", 0, 0o644, 0);
        link.node = Node::Hardlink { target: "a".into() };
        let file = Entry::file("a", 1, 0o644, 0);
        assert!(tree(&[(file.clone(), "p"), (link.clone(), "p")]).is_ok());
        assert!(refused(&[(link.clone(), "p"), (file.clone(), "p")]).contains("expected an earlier file"));
        assert!(refused(&[(file, "other"), (link, "p")]).contains("same package"));
    }

    #[test]
    fn links_are_followed_to_the_end() {
        let made = tree(&[
            (Entry::symlink("lib", "usr/lib", 0), "a"),
            (Entry::symlink("usr/lib/libz.so.1", "libz.so.1.3", 0), "b"),
            (Entry::file("usr/lib/libz.so.1.3", 1, 0o644, 0), "b"),
            (Entry::symlink("x", "y", 0), "c"),
            (Entry::symlink("y", "x", 0), "c"),
        ])
        .expect("no conflict");
        assert_eq!(made.resolve("lib/libz.so.1").expect("there").1.entry.path, "usr/lib/libz.so.1.3");
        assert!(made.resolve("lib/libq.so").is_none());
        assert!(made.resolve("x").is_none(), "a circle has no end");
    }
}
