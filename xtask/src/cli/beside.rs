//! Programs of their own behind a verb: what they need stays out of xtask, so that it is compiled when somebody wants it.

use images::Result;

use crate::output::Output;
use crate::process::Process;
use crate::workspace::Workspace;

/// Compiles the program of the workspace's package `name`: the command that runs it, with this program as the front door that it uses.
pub fn program(workspace: &Workspace, name: &str, what: &str, out: &mut Output) -> Result<Process> {
    out.say(format!("compiling {what}"));
    Process::new("cargo", workspace.root()).args(["build", "--quiet", "--release", "--package", name]).inherit()?;
    let program = workspace.target().join("release").join(name);
    let xtask = std::env::current_exe()?;
    // cargo sets it for what it runs itself.
    Ok(Process::new(program, workspace.root()).arg("--xtask").arg(xtask).env("CARGO_MANIFEST_DIR", workspace.root().join("xtask")))
}
