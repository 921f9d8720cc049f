//! What goes into images, as the command line says it: shared by the verbs that build.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use images::build::{Inputs, PluginFile, Program, ReleaseFile, SiteInputs, StandIn};
use images::lock::{Artefact, Kind, Lock, Locked, TOOLCHAIN};
use images::openpgp::Keyring;
use images::programs::{self, Setup};
use images::{Class, Digest, Error, Result, Store};

use super::fetch::bring;
use super::options::{EditionArgs, StoreArgs};
use crate::double;
use crate::mirror::MirrorArgs;
use crate::nix::Overrides;
use crate::output::Output;
use crate::site::pki::found::CA;
use crate::site::{Site, SiteArgs};
use crate::workspace::Workspace;

/// The plugin that no release of the vendor brings.
const JENKINS: &str = "jenkins";

/// Which images, of what, and where their files are.
#[derive(clap::Args, Clone, Debug)]
pub struct RecipeArgs {
    /// Images by name; all of them where none is named
    pub names: Vec<String>,
    /// A CA of this site, in PEM; it becomes the top layer. May be given several times [default: pki/ca.pem of the site]
    #[arg(long, value_name = "FILE")]
    ca: Vec<PathBuf>,
    /// Add no CA, though the site has one
    #[arg(long, conflicts_with = "ca")]
    no_ca: bool,
    #[command(flatten)]
    site: SiteArgs,
    /// Which Mattermost: the lock's `release`, the API `double` (for tests), or a FILE in the vendor's layout
    #[arg(long, value_name = "release|double|FILE", default_value = "release")]
    mattermost: Mattermost,
    /// The version that the API double plays
    #[arg(long, value_name = "VERSION", default_value = double::VERSIONS[0], value_parser = double::VERSIONS)]
    pub double_version: String,
    #[command(flatten)]
    edition: EditionArgs,
    /// Leave out a plugin that the spec names. May be given several times
    #[arg(long, value_name = "NAME")]
    without_plugin: Vec<String>,
    /// Bake a plugin bundle; its signature lies beside it as FILE.sig. May be given several times
    #[arg(long, value_name = "FILE", requires = "plugin_key")]
    plugin: Vec<PathBuf>,
    /// The public key that made the bundles' signatures; the server gets it too
    #[arg(long, value_name = "KEY")]
    plugin_key: Option<PathBuf>,
    /// Use no network; what the store lacks is an error
    #[arg(long)]
    pub offline: bool,
    /// Folder of the OCI layout [default: target/images]
    #[arg(long, value_name = "DIR")]
    pub layout: Option<PathBuf>,
    #[command(flatten)]
    store: StoreArgs,
    #[command(flatten)]
    mirrors: MirrorArgs,
    /// Folder of programs that are built already: the Nix door has a derivation for each
    #[arg(long, value_name = "DIR", hide = true)]
    prebuilt: Option<PathBuf>,
}

/// Which Mattermost goes into the image.
#[derive(Clone, Debug, Default)]
pub enum Mattermost {
    /// The lock's release.
    #[default]
    Release,
    /// The API double.
    Double,
    /// A tarball in the vendor's layout.
    File(PathBuf),
}

impl FromStr for Mattermost {
    type Err = std::convert::Infallible;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(match text {
            "release" => Mattermost::Release,
            "double" => Mattermost::Double,
            file => Mattermost::File(file.into()),
        })
    }
}

/// As it is said.
impl std::fmt::Display for Mattermost {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Mattermost::Release => f.write_str("release"),
            Mattermost::Double => f.write_str("double"),
            Mattermost::File(path) => path.display().fmt(f),
        }
    }
}

/// Everything that `images::build` takes.
pub struct Prepared {
    /// Foreign files.
    pub store: Store,
    /// The site's own.
    pub site: SiteInputs,
    /// Images that can be built, with what goes into them.
    pub images: Vec<(Locked, Inputs)>,
    /// Why others cannot: they do not stop these.
    pub failures: Vec<Error>,
}

impl RecipeArgs {
    /// All images of a site, with its CA.
    pub fn of_site(
        args: &SiteArgs,
        site: &Site,
        mattermost: Mattermost,
        without_plugin: Vec<String>,
        offline: bool,
        store: StoreArgs,
        mirrors: MirrorArgs,
    ) -> Self {
        RecipeArgs {
            names: Vec::new(),
            ca: Vec::new(),
            no_ca: false,
            site: args.clone(),
            mattermost,
            double_version: double::VERSIONS[0].to_owned(),
            edition: EditionArgs { edition: site.edition.name().to_owned() },
            without_plugin,
            plugin: Vec::new(),
            plugin_key: None,
            offline,
            layout: None,
            store,
            mirrors,
            prebuilt: None,
        }
    }

    /// The same images for any site: without a CA.
    #[must_use]
    pub fn without_site(self, edition: EditionArgs) -> Self {
        RecipeArgs { no_ca: true, edition, ..self }
    }

    /// The layout's folder.
    pub fn layout(&self, workspace: &Workspace) -> PathBuf {
        self.layout.clone().unwrap_or_else(|| workspace.target().join("images"))
    }

    /// Reads specs, lock and files, fetches what is missing, and builds programs into the cache at `cache`.
    pub fn prepare(&self, workspace: &Workspace, cache: &Path, out: &mut Output) -> Result<Prepared> {
        let lock = workspace.read_lock()?;
        let specs = workspace.read_specs(&self.names)?;
        let store = Store::open(&self.store.root(workspace))?;
        let site = site_inputs(&self.cas()?)?;
        let mut failures = Vec::new();
        let mut locked = Vec::new();
        let left_out = self.left_out();
        for (name, spec) in specs {
            match lock.bind(&name, spec, &self.edition.edition, &left_out) {
                Ok(image) => locked.push(image),
                Err(error) => failures.push(error),
            }
        }
        let needed = self.needed(&locked, &lock)?;
        failures.extend(self.ensure(&store, &needed, &lock, out).err());
        let programs = self.build_programs(workspace, &lock, &store, &locked, cache, out)?;
        let mut images = Vec::new();
        for image in locked {
            let lacks = |artefact: &Artefact| self.needs(artefact) && artefact.sha256.is_none_or(|sha256| !store.has(&sha256));
            if !image.artefacts().any(lacks) {
                let inputs = self.inputs(&image, workspace, &store, &programs, cache)?;
                images.push((image, inputs));
            }
        }
        Ok(Prepared { store, site, images, failures })
    }

    /// What the images are called, without building any: a registry has them under these names.
    ///
    /// # Errors
    /// [`Class::Usage`] for a release from a file, whose image nobody but its builder can name.
    pub fn image_names(&self, workspace: &Workspace) -> Result<Vec<String>> {
        if let Mattermost::File(file) = &self.mattermost {
            return Err(Error::new(Class::Usage, format!("{} is built, not pulled", file.display())).hint("without --registry"));
        }
        let (lock, site) = (workspace.read_lock()?, site_inputs(&self.cas()?)?);
        let mut names = Vec::new();
        for (name, spec) in workspace.read_specs(&self.names)? {
            // A name has versions in it, and no digest and no plugin.
            let program = |package: &str| {
                let version = env!("CARGO_PKG_VERSION").to_owned();
                (package.to_owned(), Program { path: PathBuf::new(), sha256: Digest::of(""), version })
            };
            let mut inputs = Inputs { programs: spec.programs.iter().map(|one| program(&one.package)).collect(), ..Inputs::default() };
            if self.is_double() && !spec.releases.is_empty() {
                let version = self.double_version.clone();
                inputs.release = Some(ReleaseFile { origin: StandIn::Double, path: PathBuf::new(), sha256: Digest::of(""), version });
            }
            let plugins: Vec<String> = spec.plugins.iter().map(|plugin| plugin.artefact.clone()).collect();
            let locked = lock.bind(&name, spec, &self.edition.edition, &plugins)?;
            names.push(images::build::name(&locked, &inputs, &site)?);
        }
        Ok(names)
    }

    /// The same recipe for `names` as arguments of another process, which may stand in another folder. Mirrors are left out:
    /// what was prepared is in the store.
    pub fn arguments(&self, names: impl IntoIterator<Item = String>, workspace: &Workspace) -> Result<Vec<OsString>> {
        let mut arguments: Vec<OsString> = names.into_iter().map(OsString::from).collect();
        let mut path = |option: &str, path: &Path| -> Result<()> {
            arguments.extend([option.into(), std::path::absolute(path)?.into()]);
            Ok(())
        };
        let cas = self.cas()?;
        cas.iter().try_for_each(|file| path("--ca", file))?;
        self.plugin.iter().try_for_each(|file| path("--plugin", file))?;
        self.plugin_key.iter().try_for_each(|file| path("--plugin-key", file))?;
        if let Mattermost::File(file) = &self.mattermost {
            path("--mattermost", file)?;
        }
        path("--store", &self.store.root(workspace))?;
        if self.is_double() {
            arguments.extend(["--mattermost", "double", "--double-version", &self.double_version].map(OsString::from));
        }
        for (option, value) in
            std::iter::once(("--edition", &self.edition.edition)).chain(self.without_plugin.iter().map(|name| ("--without-plugin", name)))
        {
            arguments.extend([option.into(), value.into()]);
        }
        if self.offline {
            arguments.push("--offline".into());
        }
        if cas.is_empty() {
            // The other folder may have a site of its own.
            arguments.push("--no-ca".into());
        }
        Ok(arguments)
    }

    /// The files of the site's CAs: those that were named, else the site's own. A site without a PKI has none: it is made by `certs`.
    fn cas(&self) -> Result<Vec<PathBuf>> {
        if self.no_ca || !self.ca.is_empty() {
            return Ok(self.ca.clone());
        }
        let own = self.site.folder().pki().join(CA);
        Ok(if own.try_exists()? { vec![own] } else { Vec::new() })
    }

    /// Where Debian's packages are fetched from.
    pub fn mirrors(&self) -> &MirrorArgs {
        &self.mirrors
    }

    /// What a derivation of these images takes in place of its defaults.
    ///
    /// # Errors
    /// [`Class::Usage`] for a release or plugin from a file: no lock has its hash, so no derivation can take it.
    pub fn overrides(&self) -> Result<Overrides> {
        let file = match &self.mattermost {
            Mattermost::File(file) => Some(file),
            _ => self.plugin.first(),
        };
        if let Some(file) = file {
            return Err(Error::new(Class::Usage, format!("{} is no file of the lock, and Nix builds from the lock alone", file.display()))
                .hint("without --nix; or the lock's release, or --mattermost double"));
        }
        let edition = Some(self.edition.edition.clone()).filter(|edition| *edition != EditionArgs::DEFAULT);
        Ok(Overrides { cas: self.cas()?, edition, without_plugins: self.without_plugin.clone() })
    }

    fn is_double(&self) -> bool {
        matches!(self.mattermost, Mattermost::Double)
    }

    /// Plugins of the lock that are left out: the double brings the vendor's third one itself.
    fn left_out(&self) -> Vec<String> {
        self.without_plugin.iter().cloned().chain(self.is_double().then(|| JENKINS.to_owned())).collect()
    }

    /// Whether a build reads this artefact: a release from a file stands in for the lock's.
    fn needs(&self, artefact: &Artefact) -> bool {
        artefact.kind != Kind::Release || matches!(self.mattermost, Mattermost::Release)
    }

    fn needed<'a>(&self, locked: &'a [Locked], lock: &'a Lock) -> Result<Vec<&'a Artefact>> {
        let mut needed: Vec<&Artefact> = locked.iter().flat_map(Locked::artefacts).filter(|artefact| self.needs(artefact)).collect();
        if self.prebuilt.is_none() && locked.iter().any(|image| !image.spec().programs.is_empty()) {
            needed.extend(toolchain(lock)?);
        }
        Ok(needed)
    }

    fn ensure(&self, store: &Store, needed: &[&Artefact], lock: &Lock, out: &Output) -> Result<()> {
        if !self.offline {
            return bring(store, needed, lock, &self.mirrors, out);
        }
        match store.missing(needed.iter().copied()).first() {
            None => Ok(()),
            Some(artefact) => store.require(artefact).map(drop),
        }
    }

    fn build_programs(
        &self,
        workspace: &Workspace,
        lock: &Lock,
        store: &Store,
        locked: &[Locked],
        cache: &Path,
        out: &Output,
    ) -> Result<BTreeMap<String, Program>> {
        let all = locked.iter().flat_map(|image| &image.spec().programs);
        let mut names: Vec<String> = all.map(|program| program.package.clone()).collect();
        if self.is_double() && locked.iter().any(|image| !image.spec().releases.is_empty()) {
            names.push(double::PROGRAM.to_owned());
        }
        names.sort();
        names.dedup();
        if names.is_empty() {
            return Ok(BTreeMap::new());
        }
        let version = env!("CARGO_PKG_VERSION");
        if let Some(folder) = &self.prebuilt {
            let program = |name: String| {
                let path = folder.join(&name);
                let (sha256, _) = Digest::of_file(&path)?;
                Ok((name, Program { path, sha256, version: version.to_owned() }))
            };
            return names.into_iter().map(program).collect();
        }
        let toolchain =
            toolchain(lock)?.into_iter().map(|artefact| Ok((artefact.clone(), store.require(artefact)?))).collect::<Result<Vec<_>>>()?;
        let setup =
            Setup { workspace: workspace.root(), toolchain: &toolchain, cache, wrapper: &std::env::current_exe()?, offline: self.offline };
        let built = programs::build(&setup, &names, out.progress())?;
        let program = |(name, built): (String, programs::BuiltProgram)| {
            (name, Program { path: built.path, sha256: built.digest, version: version.to_owned() })
        };
        Ok(built.into_iter().map(program).collect())
    }

    fn inputs(
        &self,
        image: &Locked,
        workspace: &Workspace,
        store: &Store,
        programs: &BTreeMap<String, Program>,
        cache: &Path,
    ) -> Result<Inputs> {
        let mut inputs = Inputs { folder: workspace.image(image.name()), programs: programs.clone(), ..Inputs::default() };
        if image.spec().releases.is_empty() {
            return Ok(inputs);
        }
        let release = |origin, path: &Path| -> Result<_> {
            Ok(Some(ReleaseFile { origin, path: path.to_owned(), sha256: store.digest_of(path)?, version: version_of(path, image)? }))
        };
        match &self.mattermost {
            Mattermost::Release => {}
            Mattermost::File(path) => inputs.release = release(StandIn::File, path)?,
            Mattermost::Double => {
                let program = programs.get(double::PROGRAM).map(|program| program.path.as_path()).unwrap_or(Path::new(double::PROGRAM));
                let made = double::pack(workspace, program, &self.double_version, &cache.join(double::PROGRAM).join("release"))?;
                inputs.release = release(StandIn::Double, &made.tarball)?;
                inputs.plugins.extend((!self.without_plugin.iter().any(|name| name == JENKINS)).then_some(made.jenkins));
            }
        }
        let key = self.plugin_key.as_ref().map(fs_err::read).transpose()?.unwrap_or_default();
        for path in &self.plugin {
            inputs.plugins.push(plugin(path, &key)?);
        }
        Ok(inputs)
    }
}

fn toolchain(lock: &Lock) -> Result<Vec<&Artefact>> {
    let missing =
        || Error::new(Class::Check, "images/lock.json does not pin the toolchain of the programs").hint("cargo xtask images lock");
    let group = lock.groups.get(TOOLCHAIN).ok_or_else(missing)?;
    group.packages.iter().map(|package| lock.artefact(Kind::Deb, package).ok_or_else(missing)).collect()
}

fn plugin(path: &Path, key: &[u8]) -> Result<PluginFile> {
    let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let beside = PathBuf::from(format!("{}.sig", path.display()));
    let signature = fs_err::read(&beside).map_err(|error| {
        Error::new(Class::Check, format!("plugin {name} has no signature: {error}"))
            .detail("the server silently ignores a bundle without one")
            .hint(format!("cargo xtask images sign-plugin {} --key KEY", path.display()))
    })?;
    let keyring = Keyring::parse(key, "--plugin-key")?;
    let prints = keyring.fingerprints();
    let allowed: Vec<&str> = prints.iter().map(String::as_str).collect();
    keyring.verify_detached(fs_err::File::open(path)?, &signature, &allowed, &name)?;
    Ok(PluginFile { name, path: path.to_owned(), sha256: Digest::of_file(path)?.0, signature, key: key.to_vec() })
}

/// The version in the vendor's file name, `mattermost-team-11.7.9-linux-amd64.tar.gz`; else the lock's.
fn version_of(path: &Path, image: &Locked) -> Result<String> {
    let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let found = name.split('-').find(|part| part.split('.').count() == 3 && part.split('.').all(|number| number.parse::<u32>().is_ok()));
    let locked = image.releases().first().map(|release| release.version.clone());
    found.map(str::to_owned).or(locked).ok_or_else(|| Error::new(Class::Usage, format!("no version can be read from {name}")))
}

fn site_inputs(cas: &[PathBuf]) -> Result<SiteInputs> {
    let mut site = SiteInputs::default();
    for path in cas {
        let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        if site.cas.insert(name.clone(), fs_err::read(path)?).is_some() {
            return Err(
                Error::new(Class::Usage, format!("two files given with --ca are called {name}")).hint("give them names of their own")
            );
        }
    }
    Ok(site)
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        recipe: RecipeArgs,
    }

    #[test]
    fn names_are_known_before_anything_is_built() {
        let workspace = Workspace::find().unwrap();
        let names = |args: &[&str]| {
            let line = Line::try_parse_from([&["x", "--mattermost", "double"], args].concat()).unwrap();
            line.recipe.image_names(&workspace).unwrap()
        };
        let lock = workspace.read_lock().unwrap();
        let coturn = images::build::upstream(&lock.artefact(Kind::Deb, "coturn").unwrap().version).to_owned();
        let own = env!("CARGO_PKG_VERSION");
        let all = names(&["--no-ca"]);
        assert_eq!(all[..2], [format!("chatops/alert-gateway:{own}"), format!("chatops/coturn:{coturn}")]);
        assert_eq!(all[2], format!("chatops/mattermost:{}-double", double::VERSIONS[0]));
        let ca = concat!(env!("CARGO_MANIFEST_DIR"), "/../images/tests/data/root.pem");
        let marked = names(&["coturn", "--ca", ca]);
        assert!(marked[0].starts_with(&format!("chatops/coturn:{coturn}-ca")), "{marked:?}");
        let file = Line::try_parse_from(["x", "--mattermost", "some.tar.gz"]).unwrap();
        assert_eq!(file.recipe.image_names(&workspace).unwrap_err().class(), Class::Usage);
    }
}
