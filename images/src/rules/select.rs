//! What of a source goes into the image, and with which mode and owner: usrmerge, `[exclude]` and `[[path]]` applied to
//! one entry at a time, so that a package is never held in memory.

use crate::entry::{Entry, Node};
use crate::error::Result;
use crate::rules::{skeleton, usrmerge};
use crate::spec::{Exclude, Spec, glob_matches};

/// The rules of one image that look at one entry at a time.
#[derive(Clone, Debug)]
pub struct Select {
    exclude: Exclude,
    paths: Vec<Rule>,
}

#[derive(Clone, Debug)]
struct Rule {
    path: String,
    mode: Option<u32>,
    owner: u32,
    recursive: bool,
}

impl Select {
    /// The rules of `spec`.
    pub fn new(spec: &Spec) -> Result<Select> {
        let rule = |rule: &crate::spec::PathRule| Rule {
            path: rule.path.trim_start_matches('/').to_owned(),
            mode: rule.mode.map(|mode| mode.0),
            owner: spec.account_id(&rule.owner).unwrap_or(0),
            recursive: rule.recursive,
        };
        Ok(Select { exclude: spec.exclude.clone(), paths: spec.paths.iter().map(rule).collect() })
    }

    /// No rules.
    pub fn none() -> Select {
        Select { exclude: Exclude::default(), paths: Vec::new() }
    }

    /// The entry as the image has it, or `None` where it stays out. Folders are never left out by a glob that ends in
    /// `/**`, which is about what lies in them; a folder without content costs nothing.
    pub fn entry(&self, entry: Entry) -> Option<Entry> {
        let mut entry = usrmerge::entry(entry).filter(|entry| !skeleton::replaces(entry))?;
        let path = format!("/{}", entry.path);
        let named = |globs: &[String]| globs.iter().any(|glob| glob_matches(glob, &path));
        if named(&self.exclude.paths) && !named(&self.exclude.keep) {
            // The folder of a file that is kept has to stay.
            let leads_to_kept = entry.node == Node::Directory && self.exclude.keep.iter().any(|glob| leads_to(&path, glob));
            if !leads_to_kept {
                return None;
            }
        }
        for rule in &self.paths {
            let below = entry.path.strip_prefix(&rule.path).is_some_and(|rest| rest.starts_with('/'));
            if entry.path == rule.path || (rule.recursive && below) {
                (entry.uid, entry.gid) = (rule.owner, rule.owner);
            }
            if entry.path == rule.path
                && let Some(mode) = rule.mode
                && !matches!(entry.node, Node::Symlink { .. })
            {
                entry.mode = mode;
            }
        }
        Some(entry)
    }
}

/// Whether something below the folder `path` may match `glob`.
fn leads_to(path: &str, glob: &str) -> bool {
    glob.match_indices('/').any(|(at, _)| at > 0 && glob_matches(&glob[..at], path))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn select(rules: &str) -> Select {
        let text = format!(
            "format = 1\ntitle = \"t\"\nversion = \"program:p\"\n[[account]]\nname = \"turn\"\nid = 2001\nhome = \"/run\"\n{rules}\n[config]\nuser = \"turn\"\n"
        );
        Select::new(&Spec::parse(&text, "image.toml").expect("valid")).expect("usable")
    }

    #[test]
    fn documentation_goes_and_copyright_stays_with_its_folder() {
        let select = select("[exclude]\npaths = [\"/usr/share/doc/**\", \"/usr/bin/ldd\"]\nkeep = [\"/usr/share/doc/*/copyright\"]");
        let kept = |entry: Entry| select.entry(entry).is_some();
        assert!(kept(Entry::directory("usr/share/doc", 0o755, 0)));
        assert!(kept(Entry::directory("usr/share/doc/libc6", 0o755, 0)));
        assert!(kept(Entry::file("usr/share/doc/libc6/copyright", 1, 0o644, 0)));
        assert!(!kept(Entry::file("usr/share/doc/libc6/NEWS.gz", 1, 0o644, 0)));
        assert!(!kept(Entry::directory("usr/share/doc/libc6/examples", 0o755, 0)));
        assert!(!kept(Entry::file("bin/../usr/bin/ldd".replace("bin/../", ""), 1, 0o755, 0)));
        assert!(!kept(Entry::file("bin/ldd", 1, 0o755, 0)), "usrmerge comes first");
        assert!(!kept(Entry::directory("var/run", 0o755, 0)) && kept(Entry::symlink("var/run", "/run", 0)), "/var/run is a link");
    }

    #[test]
    fn a_path_rule_sets_owner_and_mode_and_recursive_goes_below() {
        let select = select("[[path]]\npath = \"/var/lib/turn\"\nmode = \"0700\"\nowner = \"turn\"\nrecursive = true");
        let folder = select.entry(Entry::directory("var/lib/turn", 0o755, 0)).expect("kept");
        let file = select.entry(Entry::file("var/lib/turn/turndb", 1, 0o640, 0)).expect("kept");
        let other = select.entry(Entry::file("var/lib/turning", 1, 0o640, 0)).expect("kept");
        assert_eq!((folder.mode, folder.uid, file.mode, file.uid, other.uid), (0o700, 2001, 0o640, 2001, 0));
    }
}
