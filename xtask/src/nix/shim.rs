//! Parts of this machine in nixpkgs' place, for tests/nix/shim: Debian's static busybox, and xtask as this machine's cargo builds it.

use std::path::{Path, PathBuf};

use images::file::write_cached;
use images::{Class, Context, Error, Result};
use serde_json::json;

use super::Nix;
use crate::machine::{Machine, require};
use crate::workspace::Workspace;

const TARGET: &str = "x86_64-unknown-linux-gnu";

/// xtask as a static executable, which runs where no C library is: in Nix's sandbox, and on another machine.
pub fn static_xtask(workspace: &Workspace, offline: bool) -> Result<PathBuf> {
    let target = workspace.target().join("static");
    let cargo = Machine::of(workspace).process("cargo");
    let cargo = cargo.args(["build", "--quiet", "--release", "--locked", "--package", "xtask", "--target", TARGET, "--target-dir"]);
    let cargo = cargo.arg(&target).args(offline.then_some("--offline")).env("CARGO_ENCODED_RUSTFLAGS", "-Ctarget-feature=+crt-static");
    cargo.inherit().context(|| "building a static xtask")?;
    Ok(target.join(TARGET).join("release/xtask"))
}

/// Whether an executable names the loader of shared libraries.
fn needs_a_loader(executable: &[u8]) -> bool {
    let loader = b"/ld-linux-x86-64.so.2\0";
    executable.windows(loader.len()).any(|window| window == loader)
}

impl Nix<'_> {
    /// Where the shim lies with what this machine adds to it.
    pub(super) fn shim_folder(&self) -> PathBuf {
        self.folder().join("shim")
    }

    /// Puts the parts into the store, and writes down where. `xtask` is a static executable.
    pub fn lay_shim(&self, xtask: &Path) -> Result<()> {
        require(&self.machine, &["busybox"])?;
        let parts = self.folder().join("parts");
        let xtask_folder = parts.join("xtask");
        fs_err::create_dir_all(xtask_folder.join("bin"))?;
        fs_err::copy(xtask, xtask_folder.join("bin/xtask"))?;
        let host =
            json!({ "busybox": self.add_folder("busybox", &self.busybox(&parts)?)?, "xtask": self.add_folder("xtask", &xtask_folder)? });
        let (from, to) = (self.workspace.root().join("tests/nix/shim"), self.shim_folder());
        fs_err::create_dir_all(&to)?;
        for file in ["flake.nix", "default.nix"] {
            write_cached(&to.join(file), &fs_err::read(from.join(file))?)?;
        }
        write_cached(&to.join("host.json"), host.to_string().as_bytes())
    }

    /// A folder as nixpkgs' busybox is one: the program, and a link for each of its commands.
    fn busybox(&self, parts: &Path) -> Result<PathBuf> {
        let folder = parts.join("busybox");
        let bin = folder.join("bin");
        if folder.is_dir() {
            fs_err::remove_dir_all(&folder)?;
        }
        fs_err::create_dir_all(&bin)?;
        let program = self.machine.find("busybox").unwrap_or_default();
        if needs_a_loader(&fs_err::read(&program)?) {
            return Err(Error::new(Class::MissingTool, format!("{} is not static: Nix's sandbox has no C library", program.display()))
                .hint("apt-get install busybox-static"));
        }
        fs_err::copy(&program, bin.join("busybox"))?;
        for command in self.machine.process("busybox").arg("--list").text()?.lines().filter(|name| *name != "busybox") {
            fs_err::os::unix::fs::symlink("busybox", bin.join(command))?;
        }
        Ok(folder)
    }

    fn add_folder(&self, name: &str, folder: &Path) -> Result<String> {
        self.process("nix", &["store", "add-path", "--name", name]).arg(folder).text()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_that_needs_a_c_library_is_noticed() {
        assert!(needs_a_loader(&fs_err::read(std::env::current_exe().unwrap()).unwrap()));
        assert!(!needs_a_loader(b"\x7fELF, static"));
    }
}
