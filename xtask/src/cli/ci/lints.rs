//! What holds for the files of this repository, whatever is in them.
//!
//! Each rule is a function from files to complaints; only [`Files::read`] touches the disk.

use std::path::{Component, Path, PathBuf};

use images::Result;

use crate::machine::Machine;
use crate::workspace::Workspace;

/// A file of the repository: its path below the top folder and its bytes.
#[derive(Debug)]
pub struct File {
    /// The path below the top folder.
    pub path: String,
    /// The whole content.
    pub bytes: Vec<u8>,
}

/// All files of the repository, and where it lies on this machine.
#[derive(Debug)]
pub struct Files {
    /// Those that git tracks, and new ones that it does not ignore.
    pub files: Vec<File>,
    /// The absolute path of the top folder.
    pub root: PathBuf,
    /// The home folder of who runs the check.
    pub home: Option<PathBuf>,
    /// Hosts that this machine fetches packages from.
    pub hosts: Vec<String>,
}

/// A rule's name and its complaints; none means that it holds.
pub type Verdict = (&'static str, Vec<String>);

impl Files {
    /// Reads every file.
    pub fn read(workspace: &Workspace, machine: &Machine) -> Result<Self> {
        let mut files = Vec::new();
        for path in super::relock::files(machine)? {
            let on_disk = workspace.root().join(&path);
            // Deleted but not yet committed so, or a link, which holds no content of its own.
            if fs_err::symlink_metadata(&on_disk).is_ok_and(|found| found.is_file()) {
                files.push(File { path, bytes: fs_err::read(on_disk)? });
            }
        }
        let hosts = hosts_of(&fs_err::read_to_string("/etc/apt/sources.list").unwrap_or_default())
            .into_iter()
            .chain(sources_below("/etc/apt/sources.list.d").into_iter().flat_map(|text| hosts_of(&text)));
        Ok(Files { files, root: workspace.root().to_owned(), home: std::env::var_os("HOME").map(PathBuf::from), hosts: hosts.collect() })
    }

    /// The verdict of every rule.
    pub fn check(&self) -> Vec<Verdict> {
        vec![
            ("no file is over 1 MiB", self.large()),
            ("no file names a path of this machine", self.machine_paths()),
            ("no file names a host that this machine fetches packages from", self.machine_hosts()),
            ("nothing is marked unfinished", self.unfinished()),
            ("every link in Markdown leads somewhere", self.links()),
            ("README, menu and .ci/run name the same two commands", self.commands()),
        ]
    }

    fn large(&self) -> Vec<String> {
        let large = self.files.iter().filter(|file| file.bytes.len() > 1 << 20);
        large.map(|file| format!("{}: {} KiB", file.path, file.bytes.len() >> 10)).collect()
    }

    /// Files that a person writes and reads: text, but for what tools write.
    fn texts(&self) -> impl Iterator<Item = (&str, &str)> {
        let made = |path: &str| path.ends_with(".lock") || path.ends_with("lock.json") || path.ends_with(".snap");
        self.files
            .iter()
            .filter(move |file| !made(&file.path))
            .filter_map(|file| Some((file.path.as_str(), std::str::from_utf8(&file.bytes).ok()?)))
    }

    fn machine_paths(&self) -> Vec<String> {
        // The home of root is the same on every machine, and images have one too.
        let home = self.home.as_deref().filter(|home| *home != Path::new("/root") && home.components().count() > 2);
        let needles: Vec<String> = [Some(self.root.as_path()), home].into_iter().flatten().map(|path| path.display().to_string()).collect();
        self.lines_with(|line| needles.iter().any(|needle| line.contains(needle.as_str())))
    }

    fn machine_hosts(&self) -> Vec<String> {
        self.lines_with(|line| self.hosts.iter().any(|host| line.contains(host.as_str())))
    }

    fn unfinished(&self) -> Vec<String> {
        // Put together here, so that this file does not complain about itself.
        let words = [["TO", "DO"], ["FIX", "ME"], ["XX", "X"]].map(|halves| halves.concat());
        let calls = [["todo", "!("], ["unimple", "mented!("], ["dbg", "!("]].map(|halves| halves.concat());
        self.lines_with(|line| {
            line.split(|c: char| !c.is_alphanumeric() && c != '_').any(|word| words.iter().any(|mark| mark == word))
                || calls.iter().any(|call| line.contains(call.as_str()))
        })
    }

    fn lines_with(&self, wrong: impl Fn(&str) -> bool) -> Vec<String> {
        let mut found = Vec::new();
        for (path, text) in self.texts() {
            for (index, line) in text.lines().enumerate().filter(|(_, line)| wrong(line)) {
                found.push(format!("{path}:{}: {}", index + 1, line.trim()));
            }
        }
        found
    }

    fn links(&self) -> Vec<String> {
        let mut broken = Vec::new();
        for (path, text) in self.texts().filter(|(path, _)| path.ends_with(".md")) {
            for target in link_targets(text) {
                if target.contains("://") || target.starts_with("mailto:") {
                    continue;
                }
                let (file, anchor) = target.split_once('#').map_or((target.as_str(), None), |(file, anchor)| (file, Some(anchor)));
                let wanted = if file.is_empty() { path.to_owned() } else { beside(path, file) };
                match self.text_of(&wanted) {
                    Some(text) if anchor.is_some_and(|anchor| !anchors(text).iter().any(|known| known == anchor)) => {
                        broken.push(format!("{path}: {target}: {wanted} has no such heading"));
                    }
                    None if !self.is_folder(&wanted) => broken.push(format!("{path}: {target}: there is no {wanted}")),
                    _ => {}
                }
            }
        }
        broken
    }

    fn text_of(&self, path: &str) -> Option<&str> {
        let file = self.files.iter().find(|file| file.path == path)?;
        Some(std::str::from_utf8(&file.bytes).unwrap_or_default())
    }

    fn is_folder(&self, path: &str) -> bool {
        let below = format!("{}/", path.trim_end_matches('/'));
        path.is_empty() || self.files.iter().any(|file| file.path.starts_with(&below))
    }

    fn commands(&self) -> Vec<String> {
        let images = "cargo xtask images coturn postgres alert-gateway";
        let checks = "cargo xtask ci --install";
        let wanted = [
            ("README.md", images),
            ("README.md", checks),
            ("xtask/src/main.rs", images),
            ("xtask/src/main.rs", checks),
            (".ci/run", checks),
        ];
        let missing = wanted.into_iter().filter(|(path, command)| !self.text_of(path).is_some_and(|text| text.contains(command)));
        let mut wrong: Vec<String> = missing.map(|(path, command)| format!("{path} does not have: {command}")).collect();
        for name in images.split(' ').skip(3) {
            let spec = format!("images/{name}/image.toml");
            if self.text_of(&spec).is_none() {
                wrong.push(format!("README's first command builds {name}, but there is no {spec}"));
            }
        }
        wrong
    }
}

fn sources_below(folder: &str) -> Vec<String> {
    let entries = fs_err::read_dir(folder).into_iter().flatten().flatten();
    entries.filter_map(|entry| fs_err::read_to_string(entry.path()).ok()).collect()
}

/// The hosts that apt sources name, in either of their forms.
fn hosts_of(sources: &str) -> Vec<String> {
    let lines = sources.lines().filter(|line| !line.trim_start().starts_with('#'));
    let after = lines.flat_map(|line| line.split("://").skip(1));
    after.filter_map(|rest| rest.split(['/', ' ', ':']).next()).filter(|host| !host.is_empty()).map(str::to_owned).collect()
}

/// The targets of `[text](target)`, outside of code.
fn link_targets(markdown: &str) -> Vec<String> {
    let mut targets = Vec::new();
    let mut in_code = false;
    for line in markdown.lines() {
        if line.trim_start().starts_with("```") {
            in_code = !in_code;
        } else if !in_code {
            // Every second piece between back-ticks is code.
            let prose: String = line.split('`').step_by(2).collect();
            targets.extend(prose.split("](").skip(1).filter_map(|rest| rest.split([')', ' ']).next()).map(str::to_owned));
        }
    }
    targets
}

/// The path of `link` as a file at `from` means it.
fn beside(from: &str, link: &str) -> String {
    let mut path = Path::new(from).parent().unwrap_or(Path::new("")).to_owned();
    for component in Path::new(link).components() {
        match component {
            Component::ParentDir => {
                path.pop();
            }
            Component::Normal(name) => path.push(name),
            _ => {}
        }
    }
    path.display().to_string()
}

/// The anchors of a Markdown file's headings, as code hosts make them.
fn anchors(markdown: &str) -> Vec<String> {
    let headings = markdown.lines().filter_map(|line| line.strip_prefix('#')).map(|line| line.trim_start_matches('#').trim());
    let letter = |c: char| match c {
        ' ' => Some('-'),
        '-' | '_' => Some(c),
        _ if c.is_alphanumeric() => Some(c.to_lowercase().next().unwrap_or(c)),
        _ => None,
    };
    headings.map(|heading| heading.chars().filter_map(letter).collect()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn files(files: &[(&str, &str)]) -> Files {
        let files = files.iter().map(|(path, text)| File { path: (*path).to_owned(), bytes: text.as_bytes().to_vec() }).collect();
        Files { files, root: "/somewhere/checkout".into(), home: Some("/home/ada".into()), hosts: vec!["mirror.example".to_owned()] }
    }

    #[test]
    fn a_large_file_is_found() {
        let large = "x".repeat((1 << 20) + 1);
        assert_eq!(files(&[("small", "x"), ("large", &large)]).large(), ["large: 1024 KiB"]);
    }

    #[test]
    fn a_path_of_this_machine_is_found() {
        let found =
            files(&[("a.md", "ok\nsee /somewhere/checkout/target"), ("b.rs", "\"/home/ada/.cargo\""), ("c.md", "/root/x")]).machine_paths();
        assert_eq!(found, ["a.md:2: see /somewhere/checkout/target", "b.rs:1: \"/home/ada/.cargo\""]);
    }

    #[test]
    fn a_host_of_this_machine_is_found() {
        assert_eq!(files(&[("a.md", "https://mirror.example/debian")]).machine_hosts(), ["a.md:1: https://mirror.example/debian"]);
    }

    #[test]
    fn hosts_are_read_from_both_forms_of_apt_sources() {
        let sources = "deb [signed-by=/k] https://one.example/debian trixie main\nURIs: http://two.example:80/debian https://three.example\n# https://four.example/";
        assert_eq!(hosts_of(sources), ["one.example", "two.example", "three.example"]);
    }

    #[test]
    fn an_unfinished_mark_is_found_and_a_word_that_holds_one_is_not() {
        let mark = ["// TO", "DO: later"].concat();
        let call = ["    todo", "!()"].concat();
        let text = format!("{mark}\nTODOS\nmktemp -d XXXXXX\n{call}\n");
        assert_eq!(
            files(&[("a.rs", &text), ("Cargo.lock", &mark)]).unfinished(),
            [format!("a.rs:1: {mark}"), format!("a.rs:4: {}", call.trim())]
        );
    }

    #[test]
    fn a_link_that_leads_nowhere_is_found() {
        let text = "[a](b.md) [c](b.md#two-words) [d](b.md#no) [e](no.md) [f](../x) [g](https://x.example/) [`h`](gone.md)\n`[i](code.md)`\n```\n[j](code.md)\n```\n";
        let broken = files(&[("docs/a.md", text), ("docs/b.md", "# Two words\n"), ("x/y", "")]).links();
        assert_eq!(
            broken,
            [
                "docs/a.md: b.md#no: docs/b.md has no such heading",
                "docs/a.md: no.md: there is no docs/no.md",
                "docs/a.md: gone.md: there is no docs/gone.md"
            ]
        );
    }

    #[test]
    fn a_command_that_the_readme_does_not_have_is_found() {
        let all = "cargo xtask images coturn postgres alert-gateway\ncargo xtask ci --install\n";
        let specs = ["coturn", "postgres"].map(|name| format!("images/{name}/image.toml"));
        let found =
            files(&[("README.md", "cargo xtask ci"), ("xtask/src/main.rs", all), (".ci/run", all), (&specs[0], ""), (&specs[1], "")])
                .commands();
        assert_eq!(
            found,
            [
                "README.md does not have: cargo xtask images coturn postgres alert-gateway",
                "README.md does not have: cargo xtask ci --install",
                "README's first command builds alert-gateway, but there is no images/alert-gateway/image.toml",
            ]
        );
    }
}
