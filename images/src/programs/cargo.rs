//! The one place of this crate that starts processes: cargo and rustc, in a clean environment.

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::wrapper::{VARIABLE, Wrap};
use super::{Setup, TARGET, sysroot};
use crate::error::{Class, Context, Error, Result};

/// The Rust distribution that links the programs. `rust-toolchain.toml` names the same release.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Toolchain {
    /// Such as `1.95.0`.
    pub release: &'static str,
    /// The commit that the official distribution of that release was built from, as `rustc -vV` prints it.
    pub commit: &'static str,
}

impl Toolchain {
    /// The pinned one. Moving it moves the digests of all programs.
    pub const PINNED: Toolchain = Toolchain { release: "1.95.0", commit: "59807616e1fa2540724bfbac14d7976d7e4a3860" };

    /// Checks what `rustc -vV` printed.
    fn check(self, printed: &str) -> Result<()> {
        let field = |name: &str| printed.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": ")).unwrap_or("nothing");
        let found = (field("release"), field("commit-hash"), field("host"));
        if found == (self.release, self.commit, TARGET) {
            return Ok(());
        }
        Err(Error::new(Class::MissingTool, "the Rust toolchain is not the pinned one; it would make other bytes")
            .detail(format!("expected rustc {} ({}) on {TARGET}, the official distribution", self.release, self.commit))
            .detail(format!("found rustc {} ({}) on {}", found.0, found.1, found.2))
            .hint(format!("rustup toolchain install {}; then run `cargo xtask` without `+toolchain`", self.release)))
    }
}

impl fmt::Display for Toolchain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "rust {} {} {TARGET}", self.release, self.commit)
    }
}

/// A checked toolchain and an unpacked C runtime: ready to build programs.
pub(super) struct Session {
    cargo: OsString,
    rustc: OsString,
    offline: bool,
    wrapper: PathBuf,
    wrap: Wrap,
    target_folder: PathBuf,
    cargo_home: PathBuf,
    rust_sysroot: PathBuf,
}

/// What cargo has made.
pub(super) struct Output {
    /// The executable.
    pub executable: PathBuf,
    /// The makefile rule beside it: every source file of workspace crates.
    pub dep_info: String,
}

impl Session {
    /// Checks the toolchain and unpacks the C runtime where that has not been done.
    pub(super) fn open(setup: &Setup) -> Result<Self> {
        let tool = |variable: &str, name: &str| std::env::var_os(variable).unwrap_or_else(|| name.into());
        let (cargo, rustc) = (tool("CARGO", "cargo"), tool("RUSTC", "rustc"));
        let workspace = fs_err::canonicalize(setup.workspace)?;
        let ask = |tool: &OsStr, arguments: &[&str]| run(clean(tool, &workspace).args(arguments));
        Toolchain::PINNED.check(&ask(&rustc, &["-vV"])?)?;
        let version = ask(&cargo, &["-vV"])?;
        if !version.lines().any(|line| line.strip_prefix("release: ") == Some(Toolchain::PINNED.release)) {
            return Err(Error::new(Class::MissingTool, "cargo does not belong to the pinned toolchain")
                .detail(format!("expected cargo {}", Toolchain::PINNED.release))
                .detail(format!("found {}", version.lines().next().unwrap_or_default()))
                .hint("run `cargo xtask` without `+toolchain`"));
        }
        let rust_sysroot = fs_err::canonicalize(ask(&rustc, &["--print", "sysroot"])?.trim_end())?;
        let rustlib = rust_sysroot.join("lib/rustlib");
        let cache = fs_err::canonicalize(setup.cache)?;
        let sysroot = sysroot::unpacked(setup.toolchain, &cache)?;
        let home = std::env::var_os("CARGO_HOME").map(PathBuf::from);
        let cargo_home = home.or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".cargo"))).unwrap_or_default();
        Ok(Session {
            cargo,
            rustc,
            offline: setup.offline,
            wrapper: setup.wrapper.to_owned(),
            target_folder: cache.join("cargo"),
            cargo_home,
            wrap: Wrap {
                workspace,
                rust_source: rustlib.join("src/rust"),
                commit: Toolchain::PINNED.commit.to_owned(),
                linker: rustlib.join(TARGET).join("bin/rust-lld"),
                gcc: sysroot::gcc(&sysroot)?,
                sysroot,
            },
            rust_sysroot,
        })
    }

    /// The checkout's physical path.
    pub(super) fn workspace(&self) -> &Path {
        &self.wrap.workspace
    }

    /// Where cargo puts what it makes.
    pub(super) fn target_folder(&self) -> &Path {
        &self.target_folder
    }

    /// Paths of this machine that may not stand in a program.
    pub(super) fn host_paths(&self) -> Vec<PathBuf> {
        let known = [self.workspace(), &self.target_folder, &self.cargo_home, &self.rust_sysroot, &self.wrap.sysroot];
        let physical = known.iter().filter_map(|path| fs_err::canonicalize(path).ok());
        let rustup = std::env::var_os("RUSTUP_HOME").map(PathBuf::from);
        known.iter().map(PathBuf::from).chain(physical).chain(rustup).filter(|path| !path.as_os_str().is_empty()).collect()
    }

    /// Builds the program `name` with exactly these profile settings.
    pub(super) fn build(&self, name: &str, profile: &[(String, String)]) -> Result<Output> {
        let mut command = clean(&self.cargo, self.workspace());
        command.args(["build", "--locked", "--profile", "program", "--target", TARGET, "--package", name, "--bin", name]);
        command.arg("--target-dir").arg(&self.target_folder);
        command.args(self.offline.then_some("--offline"));
        for (setting, value) in profile {
            command.arg("--config").arg(format!("profile.program.{setting}={value}"));
        }
        let wrap = serde_json::to_string(&self.wrap).map_err(|error| Error::new(Class::Build, format!("a path is not UTF-8: {error}")))?;
        command.env(VARIABLE, wrap).env("RUSTC", &self.rustc).env("RUSTC_WRAPPER", &self.wrapper);
        // Each of these is what stands above a user's cargo settings of the same name.
        command.env("RUSTC_WORKSPACE_WRAPPER", "").env("CARGO_ENCODED_RUSTFLAGS", "").env("CARGO_BUILD_BUILD_DIR", &self.target_folder);
        command.env("CARGO_TERM_COLOR", "never").env("CARGO_TERM_PROGRESS_WHEN", "never");
        run(&mut command).map_err(|error| {
            if self.offline { error.hint("`cargo xtask images fetch` fills cargo's cache for --offline") } else { error }
        })?;
        let executable = self.target_folder.join(TARGET).join("program").join(name);
        let dep_info = fs_err::read_to_string(executable.with_extension("d"))?;
        Ok(Output { executable, dep_info })
    }
}

/// A command in `folder` that inherits nothing that could decide bytes: what finds tools and gets through to a registry,
/// no more.
#[expect(clippy::disallowed_methods, reason = "the assembler starts cargo and rustc, only here, and `run` names them in errors")]
pub(super) fn clean(tool: &OsStr, folder: &Path) -> Command {
    const KEPT: [&str; 15] = [
        "PATH",
        "HOME",
        "TMPDIR",
        "CARGO_HOME",
        "RUSTUP_HOME",
        "RUSTUP_TOOLCHAIN",
        "SSL_CERT_FILE",
        "SSL_CERT_DIR",
        "http_proxy",
        "https_proxy",
        "all_proxy",
        "no_proxy",
        "HTTPS_PROXY",
        "ALL_PROXY",
        "NO_PROXY",
    ];
    const KEPT_PREFIXES: [&str; 5] = ["CARGO_HTTP_", "CARGO_NET_", "CARGO_REGISTRIES_", "CARGO_REGISTRY_", "CARGO_SOURCE_"];
    let kept = |name: &OsStr| name.to_str().is_some_and(|name| KEPT.contains(&name) || KEPT_PREFIXES.iter().any(|p| name.starts_with(p)));
    let mut command = Command::new(tool);
    command.current_dir(folder).env_clear().envs(std::env::vars_os().filter(|(name, _)| kept(name)));
    command
}

/// Runs a command to its end and returns what it printed.
/// The error names the command, its folder and the last lines that it wrote.
pub(super) fn run(command: &mut Command) -> Result<String> {
    let words = std::iter::once(command.get_program()).chain(command.get_args()).map(|word| word.to_string_lossy().into_owned());
    let shown = words.collect::<Vec<_>>().join(" ");
    let folder = command.get_current_dir().map_or_else(String::new, |folder| folder.display().to_string());
    let failed = |class, what: String| Error::new(class, what).detail(format!("command: {shown}")).detail(format!("folder: {folder}"));
    let started = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
    let mut child =
        started.map_err(|error| failed(Class::MissingTool, format!("{} cannot be started: {error}", command.get_program().display())))?;
    let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
    let mut tail: Vec<String> = Vec::new();
    let printed = std::thread::scope(|scope| {
        let printed = scope.spawn(|| {
            let mut text = String::new();
            stdout.map(|mut stdout| stdout.read_to_string(&mut text)).transpose().map(|_| text)
        });
        for text in stderr.into_iter().flat_map(|stderr| BufReader::new(stderr).lines()) {
            let text = text?;
            if tail.len() == 30 {
                tail.remove(0);
            }
            tail.push(text);
        }
        printed.join().unwrap_or_else(|_| Err(std::io::Error::other("the reading thread panicked")))
    });
    let status = child.wait()?;
    let printed = printed.context(|| format!("reading what {} prints", command.get_program().display()))?;
    if status.success() {
        return Ok(printed);
    }
    let error = failed(Class::Build, format!("{} failed: {status}", command.get_program().display()));
    Err(tail.into_iter().fold(error, Error::detail))
}

#[cfg(test)]
mod tests {
    use super::*;

    const OFFICIAL: &str = "rustc 1.95.0 (59807616e 2026-04-14)\nbinary: rustc\ncommit-hash: 59807616e1fa2540724bfbac14d7976d7e4a3860\n\
        commit-date: 2026-04-14\nhost: x86_64-unknown-linux-gnu\nrelease: 1.95.0\nLLVM version: 22.1.2\n";

    #[test]
    fn only_the_official_distribution_is_taken() {
        Toolchain::PINNED.check(OFFICIAL).expect("the pinned one");
        for (from, to) in [
            ("release: 1.95.0", "release: 1.95.1"),
            ("commit-hash: 59807616e1fa2540724bfbac14d7976d7e4a3860", "commit-hash: unknown"),
            ("host: x86_64-unknown-linux-gnu", "host: x86_64-unknown-linux-musl"),
        ] {
            let error = Toolchain::PINNED.check(&OFFICIAL.replace(from, to)).expect_err(to);
            assert_eq!(error.class(), Class::MissingTool);
            assert!(error.to_string().contains("rustup toolchain install 1.95.0"), "{error}");
        }
    }

    #[test]
    fn a_failed_command_is_named_with_its_folder_and_last_words() {
        let mut command = clean("sh".as_ref(), Path::new("/"));
        let error = run(command.args(["-c", "echo out; echo one >&2; echo two >&2; exit 3"])).expect_err("exit 3").to_string();
        for wanted in ["sh failed: exit status: 3", "command: sh -c echo out", "folder: /", "\n  two"] {
            assert!(error.contains(wanted), "expected {wanted:?} in {error}");
        }
        let error = run(&mut clean("no-such-tool".as_ref(), Path::new("/"))).expect_err("not there");
        assert_eq!(error.class(), Class::MissingTool);
    }

    #[test]
    fn what_could_decide_bytes_is_not_inherited() {
        let names = |command: &Command| command.get_envs().map(|(name, _)| name.to_owned()).collect::<Vec<_>>();
        let names = names(&clean("cargo".as_ref(), Path::new("/")));
        assert!(names.iter().any(|name| name == "PATH"));
        // cargo sets these for every test that it runs.
        assert!(std::env::var_os("CARGO_MANIFEST_DIR").is_some() && !names.iter().any(|name| name == "CARGO_MANIFEST_DIR"));
    }
}
