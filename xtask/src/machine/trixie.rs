//! Programs of Debian's trixie on an older Debian: Compose v2, a Docker client for Swarm, and a Go that the scanner builds with.
//!
//! apt itself fetches and verifies the packages, with settings of its own below `target/tools`: the machine's package lists
//! stay as they are, and nothing is installed. Only programs that need no library but an old C library are brought this way.

use std::path::{Path, PathBuf};

use images::mirror::{Mirrors, Wishes};
use images::{Class, Context, Error, Result};

use super::Machine;
use super::install::{apt, step};
use crate::output::Output;
use crate::process::Process;

/// Debian's keys, as every Debian machine has them.
const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";
/// Where Docker's client looks for plugins that no package owns.
const PLUGIN: &str = "/usr/local/lib/docker/cli-plugins/docker-compose";
/// Where the package has it.
const PLUGIN_IN_PACKAGE: &str = "usr/libexec/docker/cli-plugins/docker-compose";

/// Where the package has Docker's client.
pub(super) const CLIENT_IN_PACKAGE: &str = "usr/bin/docker";

/// Whether a client of Docker has `stack config`. One that has not answers with the help of `docker stack`.
pub(super) fn knows_stack_config(docker: &Process) -> bool {
    let help = docker.clone().args(["stack", "config", "--help"]).text().unwrap_or_default();
    help.contains("docker stack config")
}

/// Whether `docker compose` is version 2 or later.
pub(super) fn has_compose(machine: &Machine) -> bool {
    let version = machine.process("docker").args(["compose", "version", "--short"]).text().unwrap_or_default();
    at_least(version.trim_start_matches('v'), &[2])
}

/// Whether `go` is as new as the one of trixie, for which the scanner's version is chosen.
pub(super) fn has_go(machine: &Machine) -> bool {
    let version = machine.process("go").args(["env", "GOVERSION"]).text().unwrap_or_default();
    at_least(version.trim_start_matches("go"), &[1, 24, 4])
}

/// Whether a dotted version is not below `wanted`; a part that is no number counts as 0.
fn at_least(version: &str, wanted: &[u32]) -> bool {
    let found: Vec<u32> = version.split('.').map(|part| part.parse().unwrap_or(0)).collect();
    found.as_slice() >= wanted
}

/// Gives Docker's client the plugin, from the folder that the package was unpacked to.
pub(super) fn install_compose(machine: &Machine, unpacked: &Path, log: &Path, out: &mut Output) -> Result<()> {
    out.say(format!("install -D {PLUGIN}"));
    machine.process("install").args(["-D", "--mode=0755"]).arg(unpacked.join(PLUGIN_IN_PACKAGE)).arg(PLUGIN).log_to(log)?;
    let wanted = || Error::new(Class::MissingTool, format!("docker does not take {PLUGIN} as Compose v2"));
    if has_compose(machine) { Ok(()) } else { Err(wanted()) }
}

/// Fetches packages of trixie and unpacks them into `folder`, which gets its name when it is complete.
pub(super) fn unpack(machine: &Machine, packages: &[&str], folder: &Path, log: &Path, out: &mut Output) -> Result<()> {
    let apt_folder = machine.tools().join("apt");
    let settings = write_settings(&apt_folder)?;
    let with = |args: &[&str]| apt(machine, args).env("APT_CONFIG", &settings);
    let fetched = tempfile::tempdir_in(&apt_folder)?;
    step(&format!("apt-get download {} (of trixie; unpacked below target/tools)", packages.join(" ")), out, || {
        with(&["update"]).log_to(log).context(|| "refreshing trixie's package lists")?;
        with(&["download"]).args(packages).in_folder(fetched.path()).log_to(log).context(|| "fetching packages of trixie")
    })?;
    let unpacked = tempfile::tempdir_in(machine.tools())?;
    for entry in fs_err::read_dir(fetched.path())? {
        machine.process("dpkg-deb").arg("--extract").arg(entry?.path()).arg(unpacked.path()).log_to(log)?;
    }
    if folder.exists() {
        fs_err::remove_dir_all(folder)?;
    }
    Ok(fs_err::rename(unpacked.keep(), folder)?)
}

/// apt settings that touch nothing of the machine's, and read nothing of it but Debian's keys.
fn write_settings(folder: &Path) -> Result<PathBuf> {
    let wishes = Wishes { main: std::env::var("DEBIAN_MIRROR").ok(), ..Wishes::default() };
    let mirror = Mirrors::load(&wishes, Path::new("/etc"))?.main;
    for below in ["state/lists/partial", "cache/archives/partial"] {
        fs_err::create_dir_all(folder.join(below))?;
    }
    let at = |name: &str| folder.join(name).display().to_string();
    fs_err::write(folder.join("status"), "")?;
    fs_err::write(folder.join("sources.list"), format!("deb [signed-by={KEYRING}] {mirror} trixie main\n"))?;
    let settings = folder.join("apt.conf");
    let lines = [
        format!("Dir::State \"{}\";", at("state")),
        format!("Dir::State::status \"{}\";", at("status")),
        format!("Dir::Cache \"{}\";", at("cache")),
        format!("Dir::Etc::sourcelist \"{}\";", at("sources.list")),
        "Dir::Etc::sourceparts \"-\";".to_owned(),
        // The folder may be below one that apt's own user cannot enter.
        "APT::Sandbox::User \"root\";".to_owned(),
        "Acquire::Languages \"none\";".to_owned(),
        "Acquire::IndexTargets::deb::DEP-11::DefaultEnabled \"false\";\n".to_owned(),
    ];
    fs_err::write(&settings, lines.join("\n"))?;
    Ok(settings)
}

#[cfg(test)]
mod tests {
    use super::at_least;

    #[test]
    fn versions_are_compared_by_number() {
        assert!(at_least("1.26.8", &[1, 24, 4]));
        assert!(at_least("2.26.1-4", &[2]));
        assert!(!at_least("1.9.30", &[1, 24, 4]));
        assert!(!at_least("1.29.2", &[2]));
        assert!(!at_least("", &[1]));
    }
}
