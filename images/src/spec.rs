//! `images/<name>/image.toml` → [`Spec`]: what an image holds. Pure parsing; an unknown key is an error with its line.
//!
//! The doc comments of these types are the reference of the file format.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::error::{Class, Error, Result};

/// The `format` that this code reads.
pub const FORMAT: u32 = 1;

/// One image: everything that is in it, and how it starts.
///
/// A key at its default is not serialised: the text enters the label of an image's inputs, so a key that comes later must
/// not move the digests of images that do not use it.
#[derive(Clone, Debug, Deserialize, Serialize, PartialEq)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Spec {
    /// The version of this file's grammar: 1.
    pub format: u32,
    /// One line for people; becomes the label `org.opencontainers.image.title`.
    pub title: String,
    /// What names the image's version: `debian:NAME` (that package's upstream version), `release:NAME` or `program:NAME`.
    pub version: String,
    /// Debian packages and their closure.
    #[serde(default, skip_serializing_if = "is_default")]
    pub debian: Debian,
    /// Packages that go into layers of their own, in this order; all others form the layer `runtime` after them.
    /// Images that list the same packages in a layer share its blob.
    #[serde(default, skip_serializing_if = "is_default", rename = "layer")]
    pub layers: Vec<LayerHint>,
    /// Vendors' release tarballs.
    #[serde(default, skip_serializing_if = "is_default", rename = "release")]
    pub releases: Vec<Release>,
    /// Plugin bundles, each a layer of its own, laid down unopened beside their signatures.
    #[serde(default, skip_serializing_if = "is_default", rename = "plugin")]
    pub plugins: Vec<Plugin>,
    /// Files from the image's own folder.
    #[serde(default, skip_serializing_if = "is_default", rename = "file")]
    pub files: Vec<LocalFile>,
    /// Programs of this workspace.
    #[serde(default, skip_serializing_if = "is_default", rename = "program")]
    pub programs: Vec<Program>,
    /// Accounts of `/etc/passwd` and `/etc/group`, besides `root` (0) and `nobody` (65534), which are always there.
    #[serde(default, skip_serializing_if = "is_default", rename = "account")]
    pub accounts: Vec<Account>,
    /// Directories to make, and modes and owners to set on what sources bring.
    #[serde(default, skip_serializing_if = "is_default", rename = "path")]
    pub paths: Vec<PathRule>,
    /// Symbolic links.
    #[serde(default, skip_serializing_if = "is_default", rename = "link")]
    pub links: Vec<Link>,
    /// What of the packages and releases is left out.
    #[serde(default, skip_serializing_if = "is_default")]
    pub exclude: Exclude,
    /// How a container of this image starts.
    pub config: Config,
}

/// Debian packages: requests, whose Depends and Pre-Depends are followed, and what is cut off.
#[derive(Clone, Debug, Default, Deserialize, Serialize, PartialEq)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Debian {
    /// Names of the packages that the image wants.
    pub packages: Vec<String>,
    /// Packages that the closure would bring and the image does not take: name → reason.
    #[serde(default, skip_serializing_if = "is_default")]
    pub without: BTreeMap<String, String>,
}

/// A layer with a name and the packages that go into it.
#[derive(Clone, Debug, Deserialize, Serialize, PartialEq)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct LayerHint {
    /// The layer's name, shown by `images show`.
    pub name: String,
    /// Debian packages; each has to be in the image's closure.
    pub packages: Vec<String>,
}

/// A release tarball: one top folder is stripped and the rest laid down below `destination`.
#[derive(Clone, Debug, Deserialize, Serialize, PartialEq)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Release {
    /// Edition → name of the artefact in the lock. One entry, whatever its key, where there are no editions.
    pub editions: BTreeMap<String, String>,
    /// Prefix inside the tarball that is taken off every path, such as `mattermost`.
    pub strip: String,
    /// Where the rest goes, an absolute path.
    pub destination: String,
    /// Account that owns what the tarball brings.
    pub owner: String,
    /// Paths below `destination` that stay out, as globs relative to it.
    #[serde(default, skip_serializing_if = "is_default")]
    pub exclude: Vec<String>,
    /// Paths that stay in although `exclude` names them.
    #[serde(default, skip_serializing_if = "is_default")]
    pub keep: Vec<String>,
}

/// A plugin bundle with its detached OpenPGP signature beside it.
#[derive(Clone, Debug, Deserialize, Serialize, PartialEq)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Plugin {
    /// Name of the artefact in the lock.
    pub artefact: String,
    /// Folder that gets `<file>` and `<file>.sig`, an absolute path.
    pub destination: String,
}

/// A file from the image's own folder.
#[derive(Clone, Debug, Deserialize, Serialize, PartialEq)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct LocalFile {
    /// Path below the image's folder.
    pub source: String,
    /// Absolute path in the image.
    pub destination: String,
    /// Permission bits.
    #[serde(default = "Mode::file")]
    pub mode: Mode,
    /// Owning account.
    #[serde(default = "root")]
    pub owner: String,
}

/// A program of this workspace, built with bytes that do not depend on the host.
#[derive(Clone, Debug, Deserialize, Serialize, PartialEq)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Program {
    /// The cargo package; its binary has the same name.
    pub package: String,
    /// Absolute path in the image. Mode 0755, owner root.
    pub destination: String,
}

/// An account: one user with a group of the same name and number.
#[derive(Clone, Debug, Deserialize, Serialize, PartialEq)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Account {
    /// Login name.
    pub name: String,
    /// User and group number.
    pub id: u32,
    /// Home directory, an absolute path.
    pub home: String,
}

/// A directory to make, or mode and owner of what is there.
#[derive(Clone, Debug, Deserialize, Serialize, PartialEq)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct PathRule {
    /// Absolute path. Made as a directory where no source brings it.
    pub path: String,
    /// Permission bits; needed for a directory that no source brings.
    #[serde(default, skip_serializing_if = "is_default")]
    pub mode: Option<Mode>,
    /// Owning account.
    #[serde(default = "root")]
    pub owner: String,
    /// Whether the owner also holds for everything below.
    #[serde(default, skip_serializing_if = "is_default")]
    pub recursive: bool,
}

/// A symbolic link.
#[derive(Clone, Debug, Deserialize, Serialize, PartialEq)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Link {
    /// Absolute path of the link.
    pub path: String,
    /// What it points to, as it is written into the link.
    pub target: String,
}

/// Globs over absolute paths: `*` is anything within a name, `**` anything at all.
#[derive(Clone, Debug, Default, Deserialize, Serialize, PartialEq)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Exclude {
    /// What stays out.
    #[serde(default, skip_serializing_if = "is_default")]
    pub paths: Vec<String>,
    /// What stays in although `paths` names it.
    #[serde(default, skip_serializing_if = "is_default")]
    pub keep: Vec<String>,
}

/// The OCI image configuration (image-spec 1.1, `config`), and Docker's `Healthcheck`, whose name OCI reserves.
#[derive(Clone, Debug, Default, Deserialize, Serialize, PartialEq)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Config {
    /// Environment.
    #[serde(default, skip_serializing_if = "is_default")]
    pub environment: BTreeMap<String, String>,
    /// Exec form; there need be no shell.
    #[serde(default, skip_serializing_if = "is_default")]
    pub entrypoint: Vec<String>,
    /// Arguments of the entrypoint.
    #[serde(default, skip_serializing_if = "is_default")]
    pub command: Vec<String>,
    /// An account of this image; written as `uid:gid`, which works without `/etc/passwd` being read.
    pub user: String,
    /// Absolute path.
    #[serde(default, skip_serializing_if = "is_default")]
    pub working_directory: Option<String>,
    /// Such as `3478/udp`.
    #[serde(default, skip_serializing_if = "is_default")]
    pub ports: Vec<String>,
    /// Absolute paths.
    #[serde(default, skip_serializing_if = "is_default")]
    pub volumes: Vec<String>,
    /// Docker's health check.
    #[serde(default, skip_serializing_if = "is_default")]
    pub healthcheck: Option<Healthcheck>,
    /// Such as `SIGTERM`.
    #[serde(default, skip_serializing_if = "is_default")]
    pub stop_signal: Option<String>,
    /// Further labels.
    #[serde(default, skip_serializing_if = "is_default")]
    pub labels: BTreeMap<String, String>,
}

/// A command that exits 0 while the service works. Times in seconds.
#[derive(Clone, Debug, Deserialize, Serialize, PartialEq)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Healthcheck {
    /// Exec form.
    pub command: Vec<String>,
    /// Seconds between two checks.
    pub interval: u32,
    /// Seconds after which a check has failed.
    pub timeout: u32,
    /// Seconds after the start in which failures do not count.
    pub start_period: u32,
    /// Failures in a row that make the container unhealthy.
    pub retries: u32,
}

/// Permission bits, written as an octal string: `"0755"`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mode(pub u32);

impl Mode {
    fn file() -> Self {
        Mode(0o644)
    }
}

impl<'de> Deserialize<'de> for Mode {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        match u32::from_str_radix(&text, 8) {
            Ok(bits) if text.len() == 4 && bits <= 0o7777 => Ok(Mode(bits)),
            _ => Err(serde::de::Error::custom(format!("expected a mode such as \"0755\", found \"{text}\""))),
        }
    }
}

impl Serialize for Mode {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&format_args!("{:04o}", self.0))
    }
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

fn root() -> String {
    "root".to_owned()
}

impl Spec {
    /// Reads a spec; `file` is its name in errors.
    pub fn parse(text: &str, file: &str) -> Result<Spec> {
        let spec: Spec = toml::from_str(text).map_err(|error| {
            Error::new(Class::Usage, format!("{file} is not a valid image spec"))
                .detail(error.to_string().trim_end().replace('\n', "\n  "))
                .hint("images/src/spec.rs documents every key")
        })?;
        let wrong = |message: String| Err(Error::new(Class::Usage, format!("{file}: {message}")));
        if spec.format != FORMAT {
            return wrong(format!("format {} is not known; this xtask reads format {FORMAT}", spec.format));
        }
        for path in spec.absolute_paths() {
            if !is_clean_absolute(path) {
                return wrong(format!("\"{path}\" has to be an absolute path without \".\", \"..\" or \"//\""));
            }
        }
        for owner in spec.owners() {
            if spec.account_id(owner).is_none() {
                return wrong(format!("\"{owner}\" is not an account of this image; add an [[account]]"));
            }
        }
        let hinted = spec.layers.iter().flat_map(|layer| &layer.packages).collect::<Vec<_>>();
        for (at, package) in hinted.iter().enumerate() {
            if hinted[..at].contains(package) {
                return wrong(format!("package \"{package}\" is named by two layers"));
            }
        }
        Ok(spec)
    }

    /// The number of an account, as user and as group.
    pub fn account_id(&self, name: &str) -> Option<u32> {
        match name {
            "root" => Some(0),
            "nobody" => Some(65534),
            _ => self.accounts.iter().find(|account| account.name == name).map(|account| account.id),
        }
    }

    fn absolute_paths(&self) -> impl Iterator<Item = &str> {
        let files = self.files.iter().map(|file| file.destination.as_str());
        let programs = self.programs.iter().map(|program| program.destination.as_str());
        let releases = self.releases.iter().map(|release| release.destination.as_str());
        let plugins = self.plugins.iter().map(|plugin| plugin.destination.as_str());
        let paths = self.paths.iter().map(|rule| rule.path.as_str());
        let links = self.links.iter().map(|link| link.path.as_str());
        let volumes = self.config.volumes.iter().map(String::as_str);
        let homes = self.accounts.iter().map(|account| account.home.as_str());
        let globs = self.exclude.paths.iter().chain(&self.exclude.keep).map(String::as_str);
        let folder = self.config.working_directory.as_deref();
        files
            .chain(programs)
            .chain(releases)
            .chain(plugins)
            .chain(paths)
            .chain(links)
            .chain(volumes)
            .chain(homes)
            .chain(globs)
            .chain(folder)
    }

    fn owners(&self) -> impl Iterator<Item = &str> {
        let files = self.files.iter().map(|file| file.owner.as_str());
        let releases = self.releases.iter().map(|release| release.owner.as_str());
        let paths = self.paths.iter().map(|rule| rule.owner.as_str());
        files.chain(releases).chain(paths).chain([self.config.user.as_str()])
    }
}

fn is_clean_absolute(path: &str) -> bool {
    path == "/" || path.strip_prefix('/').is_some_and(|rest| rest.split('/').all(|name| !matches!(name, "" | "." | "..")))
}

/// Whether `path` matches `glob`: `*` stands for anything but `/`, `**` for anything.
///
/// Stars take as little as they can. Where that fails, the last `*` takes one character more, or where it cannot, the last
/// `**`; no earlier star has to be asked again, so that many stars cost no more than both lengths multiplied.
pub fn glob_matches(glob: &str, path: &str) -> bool {
    let (mut rest, mut left) = (glob, path);
    // What follows the star in the glob, and what the star has not taken of the path.
    let mut single: Option<(&str, &str)> = None;
    let mut double = None;
    loop {
        if let Some(tail) = rest.strip_prefix("**") {
            (rest, single, double) = (tail, None, Some((tail, left)));
        } else if let Some(tail) = rest.strip_prefix('*') {
            (rest, single) = (tail, Some((tail, left)));
        } else {
            match (rest.chars().next(), left.chars().next()) {
                (None, None) => return true,
                (Some(a), Some(b)) if a == b => (rest, left) = (&rest[a.len_utf8()..], &left[b.len_utf8()..]),
                _ => {
                    let more = |taken: &str| taken.chars().next().map(char::len_utf8);
                    let within = single.filter(|(_, taken)| !taken.starts_with('/') && !taken.is_empty());
                    let star = if within.is_some() { &mut single } else { &mut double };
                    let Some((tail, taken)) = star.as_mut() else { return false };
                    let Some(length) = more(taken) else { return false };
                    *taken = &taken[length..];
                    (rest, left) = (tail, taken);
                    if within.is_none() {
                        single = None;
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINIMAL: &str = "format = 1\ntitle = \"t\"\nversion = \"program:p\"\n[config]\nuser = \"nobody\"\n";

    #[test]
    fn a_minimal_spec_is_read() {
        let spec = Spec::parse(MINIMAL, "image.toml").expect("valid");
        assert_eq!(spec.account_id("nobody"), Some(65534));
    }

    #[test]
    fn what_is_wrong_is_named_with_its_line() {
        for (text, wanted) in [
            (format!("{MINIMAL}prots = [\"1/udp\"]\n"), "unknown field `prots`"),
            (format!("{MINIMAL}prots = 1\n"), "line 6"),
            (MINIMAL.replace("format = 1", "format = 2"), "format 2 is not known"),
            (MINIMAL.replace("nobody", "turn"), "\"turn\" is not an account"),
            (format!("{MINIMAL}volumes = [\"/a/../b\"]\n"), "\"/a/../b\" has to be an absolute path"),
            (format!("{MINIMAL}[[path]]\npath = \"/a\"\nmode = \"755\"\n"), "expected a mode such as \"0755\", found \"755\""),
            (
                format!("{MINIMAL}[[layer]]\nname = \"a\"\npackages = [\"x\"]\n[[layer]]\nname = \"b\"\npackages = [\"x\"]\n"),
                "named by two layers",
            ),
        ] {
            let error = Spec::parse(&text, "image.toml").expect_err(&text).to_string();
            assert!(error.contains(wanted), "expected {wanted:?} in {error}");
        }
    }

    #[test]
    fn a_star_stays_within_a_name_and_two_stars_do_not() {
        for (glob, path, expected) in [
            ("/usr/share/doc/**", "/usr/share/doc/a/b", true),
            ("/usr/share/doc/**", "/usr/share/docs", false),
            ("/usr/share/doc/*/copyright", "/usr/share/doc/a/copyright", true),
            ("/usr/share/doc/*/copyright", "/usr/share/doc/a/b/copyright", false),
            ("/usr/lib/**/llvmjit*.so", "/usr/lib/postgresql/17/lib/llvmjit.so", true),
            ("/a*", "/a", true),
            ("/a", "/ab", false),
        ] {
            assert_eq!(glob_matches(glob, path), expected, "{glob} {path}");
        }
    }

    /// What the two stars mean, word by word; it takes for ever where there are many.
    fn by_definition(glob: &str, path: &str) -> bool {
        let Some(star) = glob.find('*') else { return glob == path };
        let Some(rest) = path.strip_prefix(&glob[..star]) else { return false };
        let (tail, crosses) = match glob[star..].strip_prefix("**") {
            Some(tail) => (tail, true),
            None => (&glob[star + 1..], false),
        };
        let reach = if crosses { rest.len() } else { rest.find('/').unwrap_or(rest.len()) };
        (0..=reach).filter(|at| rest.is_char_boundary(*at)).any(|at| by_definition(tail, &rest[at..]))
    }

    #[test]
    fn many_stars_take_no_time() {
        let path = "a".repeat(2000);
        assert!(!glob_matches(&format!("{}b", "**a".repeat(100)), &path));
        assert!(!glob_matches(&format!("{}b", "*a".repeat(100)), &path));
        assert!(glob_matches(&"**a".repeat(100), &path));
    }

    proptest::proptest! {
        #![proptest_config(proptest::prelude::ProptestConfig::with_cases(4000))]
        #[test]
        fn globs_match_what_the_definition_says(glob in "[ab/ö*]{0,9}", path in "[ab/ö]{0,10}") {
            proptest::prop_assert_eq!(glob_matches(&glob, &path), by_definition(&glob, &path));
        }
    }
}
