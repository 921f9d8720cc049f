//! The second door: Nix, what it is given, and what comes out of it (docs/nix.md).

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use images::{Class, Error, Result};
use serde::Deserialize;

use crate::machine::Machine;
use crate::process::Process;
use crate::workspace::Workspace;

pub mod blobs;
pub mod shim;

/// The platform of every derivation.
const SYSTEM: &str = "x86_64-linux";

/// Where what `nix/` takes from nixpkgs comes from.
#[derive(clap::ValueEnum, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Nixpkgs {
    /// From the nixpkgs that flake.lock pins, into the user's own Nix store
    #[default]
    Locked,
    /// From parts of this machine, into a store of its own below target/nix: where nixpkgs cannot be reached
    Shim,
}

impl Nixpkgs {
    /// The oldest Nix that can evaluate it.
    fn needs(self) -> [u32; 2] {
        match self {
            // What lib/minver.nix of the pinned nixpkgs says.
            Nixpkgs::Locked => [2, 18],
            // The oldest that the shim was tried with.
            Nixpkgs::Shim => [2, 8],
        }
    }
}

/// Nix, found and new enough.
pub struct Nix<'a> {
    workspace: &'a Workspace,
    machine: Machine,
    nixpkgs: Nixpkgs,
}

/// What a derivation of an image is built with in place of its defaults: arguments of `image` in nix/images.nix.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Overrides {
    /// Files of the site's CAs.
    pub cas: Vec<PathBuf>,
    /// Of a release that has several, where it is not the default.
    pub edition: Option<String>,
    /// Plugins that are left out.
    pub without_plugins: Vec<String>,
}

#[derive(Deserialize)]
struct BuiltDerivation {
    outputs: BTreeMap<String, String>,
}

impl<'a> Nix<'a> {
    /// Looks for Nix.
    ///
    /// # Errors
    /// [`Class::MissingTool`] where there is none, or an older one than is needed; [`Class::Usage`] where this is no git checkout.
    pub fn find(workspace: &'a Workspace, nixpkgs: Nixpkgs) -> Result<Self> {
        let machine = Machine::of(workspace);
        let printed = machine.process("nix").arg("--version").fails_as(Class::MissingTool).text()?;
        check_version(&printed, nixpkgs)?;
        if !workspace.root().join(".git").exists() {
            return Err(Error::new(Class::Usage, format!("{} is not a git checkout", workspace.root().display()))
                .detail("Nix takes the files that git tracks; without git it would copy target/ into its store")
                .hint("git clone, or git init && git add ."));
        }
        Ok(Nix { workspace, machine, nixpkgs })
    }

    /// Whether parts of this machine stand in for nixpkgs.
    pub fn is_shim(&self) -> bool {
        self.nixpkgs == Nixpkgs::Shim
    }

    /// The folder of everything that this door keeps in the checkout.
    fn folder(&self) -> PathBuf {
        self.workspace.target().join("nix")
    }

    /// The store of its own: its paths read `/nix/store/…` and lie below this folder. Tests and a machine that has Nix for these alone
    /// leave no `/nix` behind, and a user's store is not filled with the shim's stand-ins.
    fn own_store(&self) -> PathBuf {
        self.folder().join("store")
    }

    /// A command of Nix, at the top of the checkout. Its settings are the ones that nix.conf may lack.
    pub fn process(&self, program: &str, args: &[&str]) -> Process {
        // nix-store comes with nix.
        let process = Process::new(program, self.workspace.root()).env("PATH", self.machine.path());
        let process = process.args(args).args(["--extra-experimental-features", "nix-command flakes"]);
        if !self.is_shim() {
            return process;
        }
        let settings =
            [("build-users-group", ""), ("sandbox", "true"), ("sandbox-fallback", "false"), ("sandbox-paths", ""), ("substitute", "false")];
        let settings = settings.iter().flat_map(|(name, value)| ["--option", *name, *value]);
        process.arg("--store").arg(self.own_store()).args(settings)
    }

    /// Where a path of the store lies on this machine.
    pub fn on_disk(&self, path: &str) -> PathBuf {
        if self.is_shim() { self.own_store().join(path.trim_start_matches('/')) } else { PathBuf::from(path) }
    }

    /// Builds packages of the flake, and says where each lies: by its name, such as `image-coturn`.
    pub fn build(&self, names: &[String], overrides: &Overrides, options: &[&str]) -> Result<BTreeMap<String, PathBuf>> {
        let mut process = self.process("nix", &["build", "--json", "--no-link"]).args(options);
        match self.expression(overrides)? {
            None => process = self.with_nixpkgs(process)?.args(names.iter().map(|name| format!(".#{name}"))),
            // An override is no word of the command line; a site's CA is none of the checkout's files either.
            Some(expression) => process = process.args(["--impure", "--expr", &expression]).args(names),
        }
        let text = process.fails_as(Class::Build).text().map_err(explain)?;
        let built: Vec<BuiltDerivation> =
            serde_json::from_str(&text).map_err(|error| Error::new(Class::Build, format!("nix build printed \"{text}\": {error}")))?;
        let outputs = built.iter().filter_map(|one| one.outputs.get("out"));
        // /nix/store/, 32 letters of a hash, a hyphen, the name.
        Ok(outputs.filter_map(|path| Some((path.rsplit('/').next()?.get(33..)?.to_owned(), self.on_disk(path)))).collect())
    }

    /// `nix flake check`: everything evaluates, and the checks build.
    pub fn flake_check(&self) -> Result<()> {
        self.with_nixpkgs(self.process("nix", &["flake", "check"]))?.fails_as(Class::Check).capture().map(drop).map_err(explain)
    }

    /// What an app of the flake says to these arguments.
    pub fn run(&self, app: &str, args: &[&str]) -> Result<String> {
        let process = self.with_nixpkgs(self.process("nix", &["run"]))?.arg(format!(".#{app}")).arg("--").args(args);
        process.fails_as(Class::Check).text().map_err(explain)
    }

    /// Names of what the flake has under an output, such as `apps`.
    pub fn names(&self, output: &str) -> Result<Vec<String>> {
        let process = self.with_nixpkgs(self.process("nix", &["eval", "--json"]))?;
        let told = process.arg(format!(".#{output}.{SYSTEM}")).args(["--apply", "builtins.attrNames"]).fails_as(Class::Check).text();
        serde_json::from_str(&told.map_err(explain)?).map_err(|error| Error::new(Class::Check, format!("{output}: {error}")))
    }

    /// Puts the shim in the place of flake.lock's nixpkgs, where it is wanted.
    fn with_nixpkgs(&self, process: Process) -> Result<Process> {
        if !self.is_shim() {
            return Ok(process);
        }
        let shim = self.shim_folder();
        let shim = shim.to_str().ok_or_else(|| Error::new(Class::Usage, format!("{} is not UTF-8", shim.display())))?;
        Ok(process.args(["--override-input", "nixpkgs", &format!("path:{shim}")]))
    }

    /// The packages with `overrides` as a Nix expression; `None` where nothing is overridden.
    fn expression(&self, overrides: &Overrides) -> Result<Option<String>> {
        if *overrides == Overrides::default() {
            return Ok(None);
        }
        let root = quoted(self.workspace.root());
        let pkgs = match self.nixpkgs {
            Nixpkgs::Locked => format!("(builtins.getFlake (\"git+file://\" + {root})).inputs.nixpkgs.legacyPackages.{SYSTEM}"),
            Nixpkgs::Shim => {
                let folder = quoted(&self.shim_folder());
                format!("import (/. + {folder}) {{ host = builtins.fromJSON (builtins.readFile (/. + {folder} + \"/host.json\")); }}")
            }
        };
        let mut arguments = String::new();
        if !overrides.cas.is_empty() {
            let cas = overrides.cas.iter().map(|ca| Ok(format!("(/. + {})", quoted(&std::path::absolute(ca)?))));
            arguments += &format!("cas = [ {} ]; ", cas.collect::<Result<Vec<_>>>()?.join(" "));
        }
        if let Some(edition) = &overrides.edition {
            arguments += &format!("edition = {}; ", quoted(Path::new(edition)));
        }
        if !overrides.without_plugins.is_empty() {
            let names: Vec<String> = overrides.without_plugins.iter().map(|name| quoted(Path::new(name))).collect();
            arguments += &format!("withoutPlugins = [ {} ]; ", names.join(" "));
        }
        Ok(Some(format!(
            "let all = (import (/. + {root} + \"/nix\") {{ pkgs = {pkgs}; }}).packages; in all // builtins.mapAttrs \
             (name: one: if builtins.match \"image-.*\" name == null then one else one.override {{ {arguments}}}) all"
        )))
    }
}

/// A string of the Nix language.
fn quoted(text: &Path) -> String {
    format!("\"{}\"", text.to_string_lossy().replace('\\', "\\\\").replace('"', "\\\"").replace("${", "\\${"))
}

/// Judges what `nix --version` printed: `nix (Nix) 2.8.0`.
fn check_version(printed: &str, nixpkgs: Nixpkgs) -> Result<()> {
    let version = printed.split_whitespace().last().unwrap_or_default();
    let numbers: Vec<u32> = version.split('.').map_while(|part| part.parse().ok()).collect();
    let [major, minor] = nixpkgs.needs();
    if numbers.as_slice() >= [major, minor].as_slice() {
        return Ok(());
    }
    let error = Error::new(Class::MissingTool, "Nix is too old")
        .detail(format!("expected {major}.{minor} or later"))
        .detail(format!("found    {printed}"));
    Err(match nixpkgs {
        Nixpkgs::Locked if numbers.as_slice() >= Nixpkgs::Shim.needs().as_slice() => {
            error.hint("a newer Nix from nixos.org; or, without nixpkgs, --nixpkgs shim, which this one can do")
        }
        _ => error.hint("a newer Nix: from nixos.org, or Debian's package nix-bin of bookworm or later"),
    })
}

/// Adds the next step to what Nix says about a machine that is not set up for this.
fn explain(error: Error) -> Error {
    let said = error.to_string();
    let has = |words: &[&str]| words.iter().any(|word| said.contains(word));
    if has(&["experimental Nix feature", "experimental feature"]) {
        error.hint("this Nix does not do flakes: experimental-features = nix-command flakes in nix.conf")
    } else if has(&["outside of Nix's sandbox"]) {
        error.hint("sandbox = true in nix.conf (Debian's says false), then once more")
    } else if has(&["namespaces that are required for sandboxing", "cannot set up", "unsharing", "creating a new namespace", "clone():"]) {
        error.hint("Nix's sandbox needs user and mount namespaces: run it as root, or where the kernel and the container allow them")
    } else if has(&["is not in the Nix store", "requireFile", "nix-store --add-fixed"]) {
        error.hint("cargo xtask images fetch --nix")
    } else {
        error
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_nix_that_is_too_old_is_named_with_what_is_needed() {
        check_version("nix (Nix) 2.8.0", Nixpkgs::Shim).unwrap();
        check_version("nix (Nix) 2.26.3", Nixpkgs::Locked).unwrap();
        check_version("nix (Determinate Nix 3.1.0) 3.0", Nixpkgs::Locked).unwrap();
        let error = check_version("nix (Nix) 2.8.0", Nixpkgs::Locked).unwrap_err();
        assert_eq!(error.class(), Class::MissingTool);
        assert!(
            error.to_string().contains("expected 2.18 or later\n  found    nix (Nix) 2.8.0\nhint: a newer Nix from nixos.org; or,"),
            "{error}"
        );
        let error = check_version("nix (Nix) 2.3.7", Nixpkgs::Shim).unwrap_err().to_string();
        assert!(error.contains("expected 2.8 or later") && error.contains("nix-bin of bookworm"), "{error}");
        check_version("what", Nixpkgs::Shim).unwrap_err();
    }

    #[test]
    fn what_nix_says_of_a_machine_gets_a_next_step() {
        let hint = |said: &str| explain(Error::new(Class::Build, "nix failed").detail(said)).to_string();
        for (said, step) in [
            ("error: experimental Nix feature 'flakes' is disabled; use '--extra-experimental-features flakes'", "experimental-features ="),
            ("error: image-coturn is built outside of Nix's sandbox, where files", "sandbox = true in nix.conf"),
            ("error: this system does not support the kernel namespaces that are required for sandboxing", "namespaces: run it as root"),
            ("error: x.deb is not in the Nix store, and this stand-in for nixpkgs fetches nothing", "cargo xtask images fetch --nix"),
        ] {
            assert!(hint(said).contains(step), "{said}: {}", hint(said));
        }
        assert!(!hint("error: something else").contains("hint"));
    }

    #[test]
    fn a_build_outside_of_the_sandbox_is_refused() {
        let start = Path::new(env!("CARGO_MANIFEST_DIR")).join("../nix/sh/start.sh");
        let folder = tempfile::tempdir().unwrap();
        let script = folder.path().join("script.sh");
        fs_err::write(&script, "echo built").unwrap();
        let build =
            |top: &str| Process::new("sh", "/").arg(&start).arg(&script).env("NIX_BUILD_TOP", top).env("name", "image-coturn").text();
        assert_eq!(build("/build").unwrap(), "built");
        let error = explain(build("/tmp/nix-build-image-coturn.drv-0").unwrap_err()).to_string();
        assert!(
            error.contains("image-coturn is built outside of Nix's sandbox") && error.contains("sandbox = true in nix.conf"),
            "{error}"
        );
    }

    #[test]
    fn a_string_of_the_nix_language_holds_what_it_is_given() {
        assert_eq!(quoted(Path::new("/a b/${c}\"\\")), r#""/a b/\${c}\"\\""#);
    }
}
