//! What a run needs of the machine, all of it looked at before anything starts.

use images::{Class, Error, Result};
use xtask::cli::e2e::PARTS;
use xtask::machine::{self, Machine, missing_parts};
use xtask::workspace::Workspace;

/// What images, layout, Engine and logs of a run take at most.
const DISK: u64 = 4 << 30;

/// One error with everything that is missing, and what mends it.
pub fn check(machine: &Machine, workspace: &Workspace) -> Result<()> {
    let missing = machine::lacking(machine, &PARTS);
    let mut problems = Vec::new();
    let mut class = Class::Check;
    if !missing.is_empty() {
        class = Class::MissingTool;
        problems.push(missing_parts(machine, &missing).to_string().replace("ci --install", "e2e --install"));
    }
    if !machine.is_root() {
        problems.push("a run makes network namespaces, so it needs root: sudo --preserve-env cargo xtask e2e".to_owned());
    } else if let Err(error) = machine.process("unshare").args(["--net", "--pid", "--fork", "--mount", "--mount-proc", "true"]).capture() {
        problems.push(format!("no namespaces can be made here; a container needs CAP_SYS_ADMIN (docker run --privileged): {error}"));
    }
    if !std::path::Path::new("/proc/net/if_inet6").exists() {
        problems.push("the kernel has no IPv6: boot without ipv6.disable=1".to_owned());
    }
    let free = room(workspace)?;
    if free < DISK {
        problems.push(format!("{} has {} MiB free; a run takes up to {} MiB", workspace.target().display(), free >> 20, DISK >> 20));
    }
    if problems.is_empty() {
        return Ok(());
    }
    let error = Error::new(class, format!("{} things keep the proof from running here", problems.len()));
    Err(problems.into_iter().fold(error, Error::detail))
}

fn room(workspace: &Workspace) -> Result<u64> {
    fs_err::create_dir_all(workspace.target())?;
    let disk = rustix::fs::statvfs(workspace.target()).map_err(std::io::Error::from)?;
    Ok(disk.f_bavail * disk.f_frsize)
}
