//! `cargo xtask images [NAME…]`: from the lock to named manifests, and on to a file or an Engine.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use images::build::{self, Built, Inputs, PluginFile, Program, ReleaseFile, SiteInputs};
use images::layout::Layout;
use images::lock::{Artefact, Kind, Lock, Locked, TOOLCHAIN};
use images::openpgp::Keyring;
use images::programs::{self, Setup};
use images::progress::human;
use images::{Class, Context, Digest, Error, Result, Store};

use super::fetch::bring;
use super::options::{EditionArgs, StoreArgs};
use crate::engine::api::Engine;
use crate::mirror::MirrorArgs;
use crate::output::Output;
use crate::workspace::Workspace;

/// What a build takes.
#[derive(clap::Args)]
pub struct BuildArgs {
    /// Images to build; all of them where none is named
    names: Vec<String>,
    /// Load what was built into Docker
    #[arg(long)]
    load: bool,
    /// Write what was built into one file, for `docker load`, podman and readers of OCI archives
    #[arg(long, value_name = "FILE")]
    archive: Option<PathBuf>,
    /// A CA of this site, in PEM; it becomes the top layer. May be given several times
    #[arg(long, value_name = "FILE")]
    ca: Vec<PathBuf>,
    /// Which Mattermost: the lock's `release`, or a FILE in the vendor's layout
    #[arg(long, value_name = "release|FILE", default_value = "release")]
    mattermost: Mattermost,
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
    offline: bool,
    /// Threads that unpack [default: one a processor]
    #[arg(long, value_name = "N")]
    threads: Option<usize>,
    /// Folder of the OCI layout [default: target/images]
    #[arg(long, value_name = "DIR")]
    layout: Option<PathBuf>,
    #[command(flatten)]
    store: StoreArgs,
    #[command(flatten)]
    mirrors: MirrorArgs,
    /// Print the result as JSON: name, manifest, config, layers, fresh
    #[arg(long)]
    json: bool,
}

/// Which Mattermost goes into the image.
#[derive(Clone, Debug, Default)]
pub enum Mattermost {
    /// The lock's release.
    #[default]
    Release,
    /// A tarball in the vendor's layout.
    File(PathBuf),
}

impl FromStr for Mattermost {
    type Err = std::convert::Infallible;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(if text == "release" { Mattermost::Release } else { Mattermost::File(text.into()) })
    }
}

/// Builds. A vendor's file that cannot be had does not stop the other images.
pub fn run(args: &BuildArgs, out: &mut Output) -> Result<()> {
    let workspace = Workspace::find()?;
    let lock = workspace.read_lock()?;
    let specs = workspace.read_specs(&args.names)?;
    let store = Store::open(&args.store.root(&workspace))?;
    let site = site_inputs(&args.ca)?;
    let layout = Layout::open(&args.layout.clone().unwrap_or_else(|| workspace.target().join("images")))?;
    let threads = args.threads.unwrap_or_else(|| std::thread::available_parallelism().map_or(2, usize::from));

    let mut failures = Vec::new();
    let mut locked = Vec::new();
    for (name, spec) in specs {
        match lock.bind(&name, spec, &args.edition.edition, &args.without_plugin) {
            Ok(image) => locked.push(image),
            Err(error) => failures.push(error),
        }
    }
    let needed = needed(&locked, &lock, &args.mattermost)?;
    failures.extend(ensure(&store, &needed, &lock, args, out).err());
    let programs = build_programs(&workspace, &lock, &store, &locked, args.offline, out)?;
    let mut built = Vec::new();
    for image in &locked {
        if image
            .artefacts()
            .any(|artefact| is_needed(artefact, &args.mattermost) && artefact.sha256.is_none_or(|sha256| !store.has(&sha256)))
        {
            continue;
        }
        let inputs = inputs(image, &workspace, &programs, args)?;
        let one =
            build::build(image, &store, &inputs, &site, &layout, threads, out.progress()).context(|| format!("image {}", image.name()))?;
        report(&one, args.json, out);
        built.push(one);
    }
    let root = layout.root().to_owned();
    layout.prune()?;
    deliver(&root, &built, args, out)?;
    match failures.len() {
        0 => Ok(()),
        1 => Err(failures.remove(0)),
        _ => {
            let last = failures.remove(failures.len() - 1);
            failures.iter().for_each(|error| out.error(error));
            Err(last)
        }
    }
}

/// Whether a build reads this artefact: a release from a file stands in for the lock's.
fn is_needed(artefact: &Artefact, mattermost: &Mattermost) -> bool {
    artefact.kind != Kind::Release || matches!(mattermost, Mattermost::Release)
}

fn needed<'a>(locked: &'a [Locked], lock: &'a Lock, mattermost: &Mattermost) -> Result<Vec<&'a Artefact>> {
    let mut needed: Vec<&Artefact> = locked.iter().flat_map(Locked::artefacts).filter(|artefact| is_needed(artefact, mattermost)).collect();
    if locked.iter().any(|image| !image.spec().programs.is_empty()) {
        needed.extend(toolchain(lock)?);
    }
    Ok(needed)
}

fn toolchain(lock: &Lock) -> Result<Vec<&Artefact>> {
    let missing =
        || Error::new(Class::Check, "images/lock.json does not pin the toolchain of the programs").hint("cargo xtask images lock");
    let group = lock.groups.get(TOOLCHAIN).ok_or_else(missing)?;
    group.packages.iter().map(|package| lock.artefact(Kind::Deb, package).ok_or_else(missing)).collect()
}

fn ensure(store: &Store, needed: &[&Artefact], lock: &Lock, args: &BuildArgs, out: &Output) -> Result<()> {
    if !args.offline {
        return bring(store, needed, lock, &args.mirrors, out);
    }
    match store.missing(needed.iter().copied()).first() {
        None => Ok(()),
        Some(artefact) => store.require(artefact).map(drop),
    }
}

fn build_programs(
    workspace: &Workspace,
    lock: &Lock,
    store: &Store,
    locked: &[Locked],
    offline: bool,
    out: &Output,
) -> Result<BTreeMap<String, Program>> {
    let mut names: Vec<String> = locked.iter().flat_map(|image| &image.spec().programs).map(|program| program.package.clone()).collect();
    names.sort();
    names.dedup();
    if names.is_empty() {
        return Ok(BTreeMap::new());
    }
    let toolchain =
        toolchain(lock)?.into_iter().map(|artefact| Ok((artefact.clone(), store.require(artefact)?))).collect::<Result<Vec<_>>>()?;
    let setup = Setup {
        workspace: workspace.root(),
        toolchain: &toolchain,
        cache: &workspace.target().join("programs"),
        wrapper: &std::env::current_exe()?,
        offline,
    };
    let built = programs::build(&setup, &names, out.progress())?;
    let program = |(name, built): (String, programs::BuiltProgram)| {
        (name, Program { path: built.path, sha256: built.digest, version: env!("CARGO_PKG_VERSION").to_owned() })
    };
    Ok(built.into_iter().map(program).collect())
}

fn inputs(image: &Locked, workspace: &Workspace, programs: &BTreeMap<String, Program>, args: &BuildArgs) -> Result<Inputs> {
    let mut inputs = Inputs { folder: workspace.image(image.name()), programs: programs.clone(), ..Inputs::default() };
    if image.spec().releases.is_empty() {
        return Ok(inputs);
    }
    if let Mattermost::File(path) = &args.mattermost {
        inputs.release = Some(ReleaseFile { path: path.clone(), sha256: hash(path)?, version: version_of(path, image)? });
    }
    let key = args.plugin_key.as_ref().map(fs_err::read).transpose()?.unwrap_or_default();
    for path in &args.plugin {
        inputs.plugins.push(plugin(path, &key)?);
    }
    Ok(inputs)
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
    Ok(PluginFile { name, path: path.to_owned(), sha256: hash(path)?, signature, key: key.to_vec() })
}

fn hash(path: &Path) -> Result<Digest> {
    let mut hashing = images::digest::Hashing::new(fs_err::File::open(path)?);
    std::io::copy(&mut hashing, &mut std::io::sink())?;
    Ok(hashing.finish().1)
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

fn report(built: &Built, json: bool, out: &mut Output) {
    if json {
        out.result(serde_json::to_string(built).unwrap_or_else(|error| unreachable!("plain data: {error}")));
        return;
    }
    let size: u64 = built.layers.iter().map(|layer| layer.size).sum();
    let state = if built.fresh { "built" } else { "unchanged" };
    out.result(format!("{}  {}  {} in {} layers, {state}", built.name, built.manifest.oci(), human(size), built.layers.len()));
}

fn deliver(root: &Path, built: &[Built], args: &BuildArgs, out: &mut Output) -> Result<()> {
    let names: Vec<String> = built.iter().map(|image| image.name.clone()).collect();
    if let Some(file) = &args.archive {
        let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let temporary = tempfile::Builder::new().prefix(".archive-").tempfile_in(folder)?;
        images::archive::write(root, &names, std::io::BufWriter::with_capacity(1 << 20, temporary.as_file()))?;
        temporary.as_file().set_permissions(std::os::unix::fs::PermissionsExt::from_mode(0o644))?;
        temporary.persist(file).map_err(|error| error.error)?;
        out.say(format!("wrote {}", file.display()));
    }
    if args.load && !names.is_empty() {
        let engine = Engine::connect()?;
        for image in built {
            engine.load(root, &image.name, &image.config)?;
            out.say(format!("loaded {} as {}", image.name, image.config.oci()));
        }
    }
    Ok(())
}
