//! Brings missing parts to a Debian machine.

use std::path::Path;
use std::time::Instant;

use images::{Class, Context, Digest, Error, Result};

use super::{MAVEN_COPY, Machine, Part, Source, missing_parts, trixie};
use crate::output::Output;

/// How long apt waits for another apt to finish, in seconds.
const APT_PATIENCE: &str = "DPkg::Lock::Timeout=600";

/// Brings the parts that are `missing`, saying each step; what the commands print goes to `log`.
///
/// Errors: this is not root on a Debian machine, or a step failed; a failed step does not keep later ones from being tried,
/// and the error is the first one.
pub fn install(machine: &Machine, missing: &[&'static Part], log: &Path, out: &mut Output) -> Result<()> {
    if missing.is_empty() {
        out.say("every part is here");
        return Ok(());
    }
    may_install(machine.find("apt-get").is_some(), machine.is_root()).map_err(|why| missing_parts(machine, missing).hint(why))?;
    let mut first_error = debian_packages(machine, missing, log, out).err();
    for &part in missing {
        let done = match &part.from {
            Source::Debian(_) => Ok(()),
            Source::ComposePlugin => compose(machine, part, log, out),
            Source::StackClient => trixie::unpack(machine, &["docker-cli"], &part.folder(machine).unwrap_or_default(), log, out),
            Source::Go => {
                trixie::unpack(machine, &["golang-1.24-go", "golang-1.24-src"], &part.folder(machine).unwrap_or_default(), log, out)
            }
            Source::Cargo { .. } | Source::GoModule { .. } | Source::Npm { .. } | Source::Pip { .. } | Source::Maven { .. } => {
                build(machine, part, log, out)
            }
        };
        if let Err(error) = done {
            out.error(&error);
            first_error.get_or_insert(error);
        }
    }
    first_error.map_or(Ok(()), Err)
}

/// Whether this process can bring anything; if not, what a person does instead.
fn may_install(has_apt: bool, is_root: bool) -> std::result::Result<(), &'static str> {
    match (has_apt, is_root) {
        (false, _) => Err("--install needs apt-get, as on Debian and its kin; elsewhere bring the parts by your system's own means"),
        (true, false) => Err("--install changes the system, so it needs root; or run the commands above as root, then without --install"),
        (true, true) => Ok(()),
    }
}

/// Says what is done, does it, and says how long it took.
pub(super) fn step(what: &str, out: &mut Output, does: impl FnOnce() -> Result<()>) -> Result<()> {
    let start = Instant::now();
    out.say(what);
    does()?;
    out.say(format!("  {:.1} s", start.elapsed().as_secs_f32()));
    Ok(())
}

fn compose(machine: &Machine, part: &Part, log: &Path, out: &mut Output) -> Result<()> {
    let folder = part.folder(machine).unwrap_or_default();
    trixie::unpack(machine, &["docker-compose"], &folder, log, out)?;
    trixie::install_compose(machine, &folder, log, out)
}

fn debian_packages(machine: &Machine, missing: &[&Part], log: &Path, out: &mut Output) -> Result<()> {
    if !missing.iter().any(|part| matches!(part.from, Source::Debian(_))) {
        return Ok(());
    }
    step("apt-get update", out, || apt(machine, &["update"]).log_to(log).context(|| "refreshing Debian's package lists"))?;
    let mut packages = Vec::new();
    for part in missing {
        if let Source::Debian(names) = part.from {
            let known = names.iter().copied().find(|name| is_known(machine, name));
            let package = known.ok_or_else(|| {
                Error::new(Class::MissingTool, format!("this machine's Debian has no package {}", names.join(" nor ")))
                    .detail(format!("needed for: {} ({})", part.name, part.why))
            })?;
            if !packages.contains(&package) {
                packages.push(package);
            }
        }
    }
    keep_from_starting(machine, &packages, log)?;
    step(&format!("apt-get install {}", packages.join(" ")), out, || {
        let install = apt(machine, &["install", "--yes", "--no-install-recommends"]).args(&packages);
        install.log_to(log).context(|| "installing Debian's packages")
    })
}

/// Only the programs are wanted; these packages would open a relay and a registry on this machine.
fn keep_from_starting(machine: &Machine, packages: &[&str], log: &Path) -> Result<()> {
    for service in ["coturn", "docker-registry"] {
        if machine.has_systemd() && packages.contains(&service) {
            machine.process("systemctl").args(["mask", &format!("{service}.service")]).log_to(log)?;
        }
    }
    Ok(())
}

/// `apt-get`, without questions, patient with another apt.
pub(super) fn apt(machine: &Machine, args: &[&str]) -> crate::process::Process {
    machine
        .process("apt-get")
        .args(["--quiet", "-o", APT_PATIENCE])
        .args(args)
        .env("DEBIAN_FRONTEND", "noninteractive")
        .fails_as(Class::Fetch)
}

fn is_known(machine: &Machine, package: &str) -> bool {
    let policy = machine.process("apt-cache").args(["policy", package]).env("LC_ALL", "C").text().unwrap_or_default();
    policy.lines().any(|line| line.trim().strip_prefix("Candidate: ").is_some_and(|version| version != "(none)"))
}

/// Builds or installs a pinned part in a folder of its own. The folder gets its name when it is complete.
fn build(machine: &Machine, part: &Part, log: &Path, out: &mut Output) -> Result<()> {
    let folder = part.folder(machine).unwrap_or_default();
    fs_err::create_dir_all(machine.tools())?;
    let beside = tempfile::tempdir_in(machine.tools())?;
    let repository = beside.path().join("repository");
    let process = match &part.from {
        Source::Cargo { version, options } => machine
            .process("cargo")
            .args(["install", "--locked", "--root"])
            .arg(beside.path())
            .args(*options)
            .arg(format!("{}@{version}", part.name)),
        Source::GoModule { package, version } => {
            machine.process("go").args(["install", &format!("{package}@{version}")]).env("GOBIN", beside.path().join("bin"))
        }
        Source::Npm { lock, .. } => {
            for file in ["package.json", "package-lock.json"] {
                fs_err::copy(machine.root.join(lock).join(file), beside.path().join(file))?;
            }
            // No script of a package runs, here or later: what is used are its modules alone.
            machine.process("npm").args(["ci", "--ignore-scripts", "--no-audit", "--no-fund"]).in_folder(beside.path())
        }
        Source::Pip { list, .. } => machine
            .process("python3")
            // Wheels alone: nothing of a package runs while it is installed.
            .args(["-m", "pip", "install", "--quiet", "--only-binary", ":all:", "--require-hashes", "--requirement", list, "--target"])
            .arg(beside.path()),
        Source::Maven { artifact, version, .. } => machine
            .process("mvn")
            .args(["--quiet", "--batch-mode", MAVEN_COPY, "-Dmdep.stripVersion=true"])
            .arg(format!("-Dartifact={artifact}:{version}:zip"))
            .arg(format!("-DoutputDirectory={}", beside.path().join("bin").display()))
            .arg(format!("-Dmaven.repo.local={}", repository.display())),
        Source::Debian(_) | Source::ComposePlugin | Source::StackClient | Source::Go => return Ok(()),
    };
    step(&part.command(machine), out, || process.log_to(log).context(|| format!("building {}", part.name)))?;
    if let Source::Maven { sha256, .. } = &part.from {
        let (found, _) = Digest::of_file(&beside.path().join("bin").join(part.name))?;
        if found.to_string() != *sha256 {
            return Err(Error::new(Class::HashMismatch, format!("{} is another than was pinned", part.name))
                .detail(format!("expected {sha256}"))
                .detail(format!("found    {found}")));
        }
        // Maven's own modules.
        fs_err::remove_dir_all(repository)?;
    }
    if folder.exists() {
        fs_err::remove_dir_all(&folder)?;
    }
    Ok(fs_err::rename(beside.keep(), folder)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_root_on_a_debian_machine_installs() {
        assert!(may_install(true, true).is_ok());
        assert!(may_install(false, true).unwrap_err().contains("apt-get"));
        assert!(may_install(true, false).unwrap_err().contains("needs root"));
    }

    #[test]
    fn a_failed_step_is_an_error() {
        let failed = step("fail", &mut Output::new(), || Err(Error::new(Class::Fetch, "no")));
        assert_eq!(failed.unwrap_err().class(), Class::Fetch);
    }
}
