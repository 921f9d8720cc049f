//! What the second door costs over the first one when nothing has changed.

use images::{Class, Error, Result};
use serde::Serialize;
use xtask::machine::{self, Machine};
use xtask::process::Process;
use xtask::workspace::Workspace;

use crate::inputs::Bench;
use crate::measure::Sample;
use crate::report::{judge, seconds};

/// What `--only` calls it.
pub const NAME: &str = "nix";

/// Seconds over the cargo door.
const BAR: f64 = 5.0;
const IMAGE: &str = "coturn";

/// What was measured.
#[derive(Clone, Debug, Serialize)]
pub struct Doors {
    /// `images NAME`, when it is built.
    pub cargo: Sample,
    /// `images NAME --nix`, which goes through both doors and compares, when both have built it.
    pub both: Sample,
}

impl Doors {
    /// For people.
    pub fn table(&self) -> String {
        let over = self.both.median - self.cargo.median;
        format!(
            "\n{NAME}: {IMAGE} again through the cargo door in {}, through both in {}: {} over ({})\n",
            seconds(self.cargo.median),
            seconds(self.both.median),
            seconds(over),
            judge(over < BAR, "5 s"),
        )
    }
}

/// Builds through both doors, then does so again, with the stand-in for nixpkgs: what is evaluated and compared is the same.
pub fn measure(bench: &Bench) -> Result<Doors> {
    let workspace = Workspace::find()?;
    let machine = Machine::of(&workspace);
    machine::require(&machine, &["nix", "busybox", "git", "cc"])?;
    if !workspace.root().join(".git").exists() {
        return Err(Error::new(Class::MissingTool, "this is no git checkout, and Nix takes the files that git tracks"));
    }
    let layout = bench.empty("doors")?;
    let door = |more: &[&str]| -> Process {
        let process = Process::new(&bench.xtask, workspace.root()).args(["images", IMAGE, "--no-ca", "--layout"]).arg(&layout);
        process.args(more).env("CARGO_MANIFEST_DIR", workspace.root().join("xtask")).env("PATH", machine.path())
    };
    let through = ["--nix", "--nixpkgs", "shim"];
    door(&through).capture()?;
    let again = |more: &'static [&'static str]| Sample::take(bench.runs, || Ok(()), |()| door(more).capture().map(drop));
    Ok(Doors { cargo: again(&["--offline"])?, both: again(&["--offline", "--nix", "--nixpkgs", "shim"])? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bar_is_over_the_first_door() {
        let doors = |both| Doors { cargo: Sample::of(vec![0.5]), both: Sample::of(vec![both]) };
        assert!(doors(5.4).table().contains("4.90 s over (within 5 s)"), "{}", doors(5.4).table());
        assert!(doors(5.6).table().contains("OVER THE BAR"));
    }
}
