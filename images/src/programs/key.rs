//! What decides a program's bytes, and the digest of it.
//!
//! Covered: every file in `src/` of the program's crate and of the workspace crates it depends on, their `Cargo.toml` and
//! `build.rs`; of the root `Cargo.toml` the profile, the package fields that members inherit, `[patch]` and the entries of
//! the dependencies that are used; of `Cargo.lock` the closure of these dependencies; the toolchain, the C runtime, the flags.
//! Not covered, on purpose: everything else in the workspace, such as another crate's dependencies. That `src/` is really
//! all that the compiler reads is checked after each build (`check::sources_are_covered`).

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use toml::{Table, Value};

use super::{cargo, sysroot, wrapper};
use crate::digest::Digest;
use crate::error::{Class, Context, Error, Result};
use crate::lock::Artefact;

/// The settings of a cargo profile that decide bytes. `[profile.program]` states all of them, so that no profile in a
/// user's cargo settings can change one.
const PROFILE: [&str; 11] = [
    "codegen-units",
    "debug",
    "debug-assertions",
    "incremental",
    "lto",
    "opt-level",
    "overflow-checks",
    "panic",
    "rpath",
    "split-debuginfo",
    "strip",
];

/// The workspace as cargo sees it, without asking cargo.
pub(super) struct Sources {
    root: PathBuf,
    manifest: Table,
    packages: BTreeMap<String, Vec<LockedPackage>>,
    members: BTreeMap<String, Member>,
}

/// What one program is made of.
pub(super) struct Inputs {
    /// The digest of all inputs.
    pub key: Digest,
    /// The source files among them, relative to the workspace.
    pub files: BTreeSet<PathBuf>,
}

struct Member {
    folder: PathBuf,
    manifest: Table,
}

#[derive(Deserialize)]
struct LockFile {
    #[serde(default)]
    package: Vec<LockedPackage>,
}

#[derive(Clone, Deserialize, PartialEq, Eq, PartialOrd, Ord)]
struct LockedPackage {
    name: String,
    version: String,
    source: Option<String>,
    checksum: Option<String>,
    #[serde(default)]
    dependencies: Vec<String>,
}

impl Sources {
    /// Reads the manifests of the workspace at `root` and its `Cargo.lock`.
    pub(super) fn read(root: &Path) -> Result<Self> {
        let manifest = read_table(&root.join("Cargo.toml"))?;
        let lock = root.join("Cargo.lock");
        let lock: LockFile = toml::from_str(&fs_err::read_to_string(&lock)?)
            .map_err(|error| Error::new(Class::Usage, format!("{}: {error}", lock.display())))?;
        let mut packages: BTreeMap<String, Vec<LockedPackage>> = BTreeMap::new();
        for package in lock.package {
            packages.entry(package.name.clone()).or_default().push(package);
        }
        let mut members = BTreeMap::new();
        let listed = at(&manifest, &["workspace", "members"]).and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
        for folder in listed.iter().filter_map(Value::as_str) {
            let member = Member { folder: folder.into(), manifest: read_table(&root.join(folder).join("Cargo.toml"))? };
            if let Some(name) = at(&member.manifest, &["package", "name"]).and_then(Value::as_str) {
                members.insert(name.to_owned(), member);
            }
        }
        Ok(Sources { root: root.to_owned(), manifest, packages, members })
    }

    /// `[profile.program]` as `(setting, TOML value)`.
    pub(super) fn profile(&self) -> Result<Vec<(String, String)>> {
        let program = at(&self.manifest, &["profile", "program"]).and_then(Value::as_table);
        let stated = program.into_iter().flatten().filter(|(name, _)| name.as_str() != "inherits");
        let settings: Vec<_> = stated.map(|(name, value)| (name.clone(), value.to_string())).collect();
        match PROFILE.iter().find(|wanted| !settings.iter().any(|(name, _)| name == *wanted)) {
            Some(missing) => Err(Error::new(Class::Usage, format!("Cargo.toml: [profile.program] does not state {missing}"))
                .detail("expected every setting that decides bytes, so that nobody's cargo settings can")),
            None => Ok(settings),
        }
    }

    /// What the program `name` is made of. `toolchain` are the packages of the C runtime.
    pub(super) fn inputs(&self, name: &str, toolchain: &[(Artefact, PathBuf)]) -> Result<Inputs> {
        if !self.members.contains_key(name) {
            return Err(Error::new(Class::Usage, format!("there is no program \"{name}\" in this workspace"))
                .detail("expected a package that `members` in Cargo.toml lists"));
        }
        let (locals, foreign) = self.closure(name)?;
        let mut text = format!("program {name}\n{}{}", cargo::Toolchain::PINNED, sysroot::identity(toolchain));
        let _ = writeln!(text, "flags {:?}", flags());
        let _ = writeln!(text, "profile {:?}", self.profile()?);
        for path in [&["workspace", "package"][..], &["workspace", "resolver"], &["patch"]] {
            let _ = writeln!(text, "{path:?} {:?}", at(&self.manifest, path));
        }
        for package in &foreign {
            let _ = writeln!(text, "crate {} {} {:?} {:?}", package.name, package.version, package.source, package.checksum);
        }
        let mut files = BTreeSet::new();
        for member in &locals {
            for (dependency, _) in dependencies(&member.manifest) {
                let inherited = at(&self.manifest, &["workspace", "dependencies", dependency]);
                let _ = writeln!(text, "dependency {dependency} {inherited:?}");
            }
            files.insert(member.folder.join("Cargo.toml"));
            let script = member.folder.join("build.rs");
            files.extend(self.root.join(&script).is_file().then_some(script));
            self.sources_below(&member.folder.join("src"), &mut files)?;
        }
        for file in &files {
            let _ = writeln!(text, "file {:?} {}", file, Digest::of(fs_err::read(self.root.join(file))?));
        }
        Ok(Inputs { key: Digest::of(text), files })
    }

    /// The crates of others that are compiled into the program `name`, with version and SHA-256, sorted.
    pub(super) fn crates(&self, name: &str) -> Result<Vec<(String, String, Option<String>)>> {
        let (_, foreign) = self.closure(name)?;
        Ok(foreign.into_iter().map(|package| (package.name.clone(), package.version.clone(), package.checksum.clone())).collect())
    }

    /// The workspace crates and the others that are compiled into `name`, tests' dependencies left out.
    fn closure(&self, name: &str) -> Result<(Vec<&Member>, BTreeSet<&LockedPackage>)> {
        let stale = |wanted: &str| {
            Error::new(Class::Usage, format!("Cargo.lock does not hold {wanted}")).hint("`cargo metadata` brings it up to date")
        };
        let mut locals = BTreeMap::new();
        let mut foreign = BTreeSet::new();
        let mut next = vec![name.to_owned()];
        while let Some(wanted) = next.pop() {
            let package = self.locked(&wanted).ok_or_else(|| stale(&wanted))?;
            let member = self.members.get(&package.name).filter(|_| package.source.is_none());
            let known = match member {
                Some(member) => locals.insert(&package.name, member).is_some(),
                None => !foreign.insert(package),
            };
            if known {
                continue;
            }
            let direct: Option<BTreeSet<&str>> = member.map(|member| self.package_names(member));
            let compiled = package.dependencies.iter().filter(|entry| {
                let name = entry.split(' ').next().unwrap_or(entry);
                direct.as_ref().is_none_or(|direct| direct.contains(name))
            });
            next.extend(compiled.cloned());
        }
        Ok((locals.into_values().collect(), foreign))
    }

    /// An entry of a lock's `dependencies`: `name`, `name version` or `name version (source)`.
    fn locked(&self, entry: &str) -> Option<&LockedPackage> {
        let mut words = entry.split(' ');
        let (name, version) = (words.next()?, words.next());
        let source = words.next().map(|source| source.trim_matches(['(', ')']));
        self.packages.get(name)?.iter().find(|package| {
            version.is_none_or(|version| package.version == version)
                && source.is_none_or(|source| package.source.as_deref() == Some(source))
        })
    }

    fn package_names<'a>(&'a self, member: &'a Member) -> BTreeSet<&'a str> {
        let names = dependencies(&member.manifest).map(|(key, value)| {
            let inherited = at(&self.manifest, &["workspace", "dependencies", key]).and_then(|entry| entry.get("package"));
            value.get("package").or(inherited).and_then(Value::as_str).unwrap_or(key)
        });
        names.collect()
    }

    fn sources_below(&self, folder: &Path, files: &mut BTreeSet<PathBuf>) -> Result<()> {
        for entry in fs_err::read_dir(self.root.join(folder))? {
            let entry = entry?;
            let path = folder.join(entry.file_name());
            // insta writes its snapshots there; no program is compiled from them.
            let snapshot = path.extension().is_some_and(|extension| extension == "snap" || extension == "new");
            if entry.file_type()?.is_dir() {
                self.sources_below(&path, files)?;
            } else if !snapshot {
                files.insert(path);
            }
        }
        Ok(())
    }
}

/// Normal and build dependencies of a manifest, those of `[target.….dependencies]` too.
fn dependencies(manifest: &Table) -> impl Iterator<Item = (&str, &Value)> {
    let targets = manifest.get("target").and_then(Value::as_table).into_iter().flat_map(Table::values).filter_map(Value::as_table);
    let tables = std::iter::once(manifest).chain(targets);
    let lists = tables.flat_map(|table| ["dependencies", "build-dependencies"].map(|list| table.get(list)));
    lists.flatten().filter_map(Value::as_table).flatten().map(|(name, value)| (name.as_str(), value))
}

fn at<'a>(table: &'a Table, path: &[&str]) -> Option<&'a Value> {
    let (first, rest) = path.split_first()?;
    rest.iter().try_fold(table.get(*first)?, |value, name| value.get(name))
}

fn read_table(file: &Path) -> Result<Table> {
    let text = fs_err::read_to_string(file)?;
    text.parse().map_err(|error| Error::new(Class::Usage, format!("{error}"))).context(|| format!("reading {}", file.display()))
}

/// What the wrapper adds, with this host's folders left out.
fn flags() -> Vec<std::ffi::OsString> {
    let [workspace, rust_source, linker, sysroot, gcc] = ["/src", "/rust", "/lld", "/sys", "/gcc"].map(PathBuf::from);
    let wrap = wrapper::Wrap { workspace, rust_source, commit: String::new(), linker, sysroot, gcc };
    let unit = wrapper::Unit { manifest: Some(Path::new("/crates/name")), out: Some(Path::new("/made")), package: Some("name") };
    wrapper::rewrite(vec!["--target".into()], &wrap, unit)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROOT: &str = r#"
        [workspace]
        members = ["p", "lib", "other"]
        [workspace.package]
        version = "0.1.0"
        [workspace.dependencies]
        used = "1"
        unused = "1"
        [profile.program]
        inherits = "release"
        codegen-units = 1
        debug = false
        debug-assertions = false
        incremental = false
        lto = "fat"
        opt-level = 3
        overflow-checks = false
        panic = "abort"
        rpath = false
        split-debuginfo = "off"
        strip = true
    "#;
    const LOCK: &str = r#"
        [[package]]
        name = "p"
        version = "0.1.0"
        dependencies = ["lib", "tests-only"]
        [[package]]
        name = "lib"
        version = "0.1.0"
        dependencies = ["used"]
        [[package]]
        name = "used"
        version = "1.0.0"
        checksum = "aa"
        source = "registry"
        [[package]]
        name = "tests-only"
        version = "1.0.0"
        checksum = "bb"
        source = "registry"
        [[package]]
        name = "unused"
        version = "1.0.0"
        checksum = "cc"
        source = "registry"
    "#;

    fn workspace() -> tempfile::TempDir {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let write = |file: &str, text: &str| {
            let path = folder.path().join(file);
            fs_err::create_dir_all(path.parent().expect("in a folder")).expect("made");
            fs_err::write(path, text).expect("written");
        };
        write("Cargo.toml", ROOT);
        write("Cargo.lock", LOCK);
        let p = "[package]\nname = 'p'\n[dependencies]\nlib = { path = '../lib' }\n[dev-dependencies]\ntests-only = '1'\n";
        write("p/Cargo.toml", p);
        write("p/src/main.rs", "fn main() {}");
        write("p/src/deep/a.rs", "");
        write("p/src/snapshots/p.snap", "");
        write("p/image.toml", "");
        write("lib/Cargo.toml", "[package]\nname = 'lib'\n[target.'cfg(unix)'.dependencies]\nused = { workspace = true }\n");
        write("lib/src/lib.rs", "");
        write("other/Cargo.toml", "[package]\nname = 'other'\n[dependencies]\nunused = { workspace = true }\n");
        write("other/src/main.rs", "");
        folder
    }

    fn key(folder: &tempfile::TempDir) -> Digest {
        Sources::read(folder.path()).and_then(|sources| sources.inputs("p", &[])).map(|inputs| inputs.key).expect("complete")
    }

    #[test]
    fn the_key_covers_what_decides_bytes_and_nothing_else() {
        let folder = workspace();
        let before = key(&folder);
        let changed = |file: &str, from: &str, to: &str| {
            let path = folder.path().join(file);
            let text = fs_err::read_to_string(&path).expect("readable");
            fs_err::write(&path, if from.is_empty() { to.to_owned() } else { text.replace(from, to) }).expect("written");
            let after = key(&folder);
            fs_err::write(&path, text).expect("written");
            after != before
        };
        for (file, from, to) in [
            ("p/src/main.rs", "", "fn main() { }"),
            ("p/src/deep/a.rs", "", "//"),
            ("p/Cargo.toml", "name = 'p'", "name = 'p'\nlinks = 'x'"),
            ("lib/src/lib.rs", "", "//"),
            ("Cargo.toml", "opt-level = 3", "opt-level = 2"),
            ("Cargo.toml", "0.1.0", "0.2.0"),
            ("Cargo.toml", "used = \"1\"\n", "used = { version = \"1\", features = [\"x\"] }\n"),
            ("Cargo.toml", "[workspace]", "[patch.crates-io]\nused = \"2\"\n[workspace]"),
            ("Cargo.lock", "\"aa\"", "\"ab\""),
        ] {
            assert!(changed(file, from, to), "{file}: {from:?} -> {to:?} left the key as it was");
        }
        for (file, from, to) in [
            ("Cargo.toml", "unused = \"1\"", "unused = \"2\""),
            ("Cargo.lock", "\"bb\"", "\"bc\""),
            ("Cargo.lock", "\"cc\"", "\"cd\""),
            ("other/src/main.rs", "", "//"),
            ("p/src/snapshots/p.snap", "", "x"),
            ("p/image.toml", "", "x"),
        ] {
            assert!(!changed(file, from, to), "{file}: {from:?} -> {to:?} changed the key");
        }
        assert_eq!(key(&workspace()), before, "another folder gave another key");
    }

    #[test]
    fn the_c_runtime_decides_the_key_by_digest_not_by_place() {
        let folder = workspace();
        let package = |digest: &str, place: &str| {
            let text = format!(
                r#"{{"name":"libc6-dev","version":"2.41","architecture":"amd64","kind":"deb","sha256":"{}","from":{{"url":"x"}}}}"#,
                Digest::of(digest)
            );
            vec![(serde_json::from_str::<Artefact>(&text).expect("an artefact"), PathBuf::from(place))]
        };
        let sources = Sources::read(folder.path()).expect("complete");
        let key = |packages: &[(Artefact, PathBuf)]| sources.inputs("p", packages).expect("complete").key;
        assert_eq!(key(&package("one", "/a")), key(&package("one", "/b")));
        assert_ne!(key(&package("one", "/a")), key(&package("two", "/a")));
    }

    #[test]
    fn a_program_that_is_not_there_and_an_unstated_profile_are_refused() {
        let folder = workspace();
        let error = Sources::read(folder.path()).and_then(|sources| sources.inputs("q", &[])).err().expect("no such program");
        assert!(error.to_string().contains("there is no program \"q\""), "{error}");
        fs_err::write(folder.path().join("Cargo.toml"), ROOT.replace("strip = true", "")).expect("written");
        let error = Sources::read(folder.path()).and_then(|sources| sources.inputs("p", &[])).err().expect("unstated");
        assert!(error.to_string().contains("does not state strip"), "{error}");
    }

    #[test]
    fn the_pinned_toolchain_is_the_one_that_rustup_is_told() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        let told = read_table(&root.join("rust-toolchain.toml")).expect("readable");
        assert_eq!(at(&told, &["toolchain", "channel"]).and_then(Value::as_str), Some(cargo::Toolchain::PINNED.release));
        Sources::read(&root).and_then(|sources| sources.profile()).expect("[profile.program] states every setting");
    }
}
