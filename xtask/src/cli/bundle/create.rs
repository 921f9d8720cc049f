//! `cargo xtask bundle create`: images, program, documents and lock into one file.

use std::path::{Path, PathBuf};

use images::build::below_site;
use images::contents::{Place, repository};
use images::file::write_beside;
use images::progress::human;
use images::{Class, Error, Result};

use super::pace;
use crate::bundle::gather::{self, gather};
use crate::bundle::{Bundle, Trust, write};
use crate::cli::images::build::{all_processors, build_all, in_the_end, programs_folder};
use crate::cli::images::options::{EditionArgs, StoreArgs};
use crate::cli::images::recipe::{Mattermost, RecipeArgs};
use crate::cli::images::sbom::Made;
use crate::double;
use crate::mirror::MirrorArgs;
use crate::nix::shim::static_xtask;
use crate::output::Output;
use crate::site::pki::Certificate;
use crate::site::{Site, SiteArgs, parse};
use crate::workspace::Workspace;

/// Make a bundle: images, this program, documents, lock and templates in one file; no key and no secret enters it
///
/// The same checkout makes the same bundle, but for the program, which the host's compiler shows in; it stands last, and apart in the
/// list. Beside the bundle the program is written too, for the machine that applies it.
#[derive(clap::Args)]
pub struct Args {
    /// The file to write [default: target/bundle/chatops-VERSION.tar.zst]
    #[arg(long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Leave out what this earlier bundle brought: it has to be applied before
    #[arg(long, value_name = "BUNDLE")]
    since: Option<PathBuf>,
    /// For one site: its CA in the images, its settings as templates, its page for phones. Else `up` adds the CA on the other side
    #[arg(long, value_name = "DIR")]
    site: Option<PathBuf>,
    /// Which Mattermost: the lock's `release`, the API `double` (for tests), or a FILE in the vendor's layout
    #[arg(long, value_name = "release|double|FILE", default_value = "release")]
    mattermost: Mattermost,
    /// The version that the API double plays
    #[arg(long, value_name = "VERSION", default_value = double::VERSIONS[0], value_parser = double::VERSIONS)]
    double_version: String,
    #[command(flatten)]
    edition: EditionArgs,
    /// Leave out a plugin that the image's spec names. May be given several times
    #[arg(long, value_name = "NAME")]
    without_plugin: Vec<String>,
    /// Use no network; what the store lacks is an error
    #[arg(long)]
    offline: bool,
    /// Folder of the OCI layout [default: target/images]
    #[arg(long, value_name = "DIR")]
    layout: Option<PathBuf>,
    #[command(flatten)]
    store: StoreArgs,
    #[command(flatten)]
    mirrors: MirrorArgs,
    /// A static program that is built already, such as the Nix door's
    #[arg(long, value_name = "FILE")]
    program: Option<PathBuf>,
}

/// Builds what is not built, and writes the bundle.
pub fn run(args: &Args, out: &mut Output) -> Result<()> {
    let workspace = Workspace::find()?;
    // What was named wrongly is told before anything is built.
    let since = args.since.as_deref().map(|path| Bundle::open(path, &Trust::Anybody)).transpose()?;
    let site = args.site.as_deref().map(of_site).transpose()?;
    let recipe = args.recipe(site.as_ref().map(|(site, _)| site))?;
    let prepared = recipe.prepare(&workspace, &programs_folder(&workspace), out)?;
    let layout = recipe.layout(&workspace);
    let built = build_all(&prepared, &layout, all_processors(), out, |_, _| {})?;
    let mut images = Vec::new();
    for ((locked, inputs), built) in prepared.images.iter().zip(built) {
        let below = match site {
            Some(_) => None,
            None => below_site(locked, &prepared.store, inputs)?,
        };
        images.push((built, below));
    }
    in_the_end(prepared.failures, out)?;
    let papers = papers(&workspace, &layout, images.iter().map(|(built, _)| built.name.as_str()), out)?;
    let program = match &args.program {
        Some(program) => program.clone(),
        None => static_xtask(&workspace, args.offline)?,
    };
    let wanted = gather::Wanted {
        workspace: &workspace,
        layout: &layout,
        images,
        site,
        papers,
        program: &program,
        since: since.as_ref().map(|bundle| &bundle.list),
    };
    let (list, contents) = gather(&wanted)?;
    let path = args.output.clone().unwrap_or_else(|| workspace.target().join("bundle").join(format!("chatops-{}.tar.zst", list.version)));
    write::write(&path, &list, &contents, pace(out))?;
    // It may be the one that lies there already.
    write_beside(&path.with_file_name(gather::PROGRAM), &fs_err::read(&program)?, 0o755)?;
    let size = fs_err::metadata(&path)?.len();
    let left_out = match list.earlier.len() {
        0 => String::new(),
        count => format!(", {count} others came before"),
    };
    out.result(format!("{}  {}  {}, {} parts{left_out}", path.display(), list.id().short(), human(size), list.inside().count()));
    if matches!(args.mattermost, Mattermost::Double) {
        out.result("Mattermost is played by the API double: it answers programs, and has no pages for people");
    }
    out.say(format!("not signed yet: cargo xtask bundle sign {} --key KEY", path.display()));
    Ok(())
}

/// What an auditor asks for, of each image. Further papers are added here: list, checksums and `--since` follow.
fn papers<'a>(
    workspace: &Workspace,
    layout: &Path,
    images: impl Iterator<Item = &'a str>,
    out: &mut Output,
) -> Result<Vec<(String, Vec<u8>)>> {
    let place = Place::open(layout)?;
    let mut all = Vec::new();
    for image in images {
        let made = Made::read(workspace, &place, image)?;
        let name = repository(image);
        all.push((format!("{name}.spdx.json"), made.sbom()?));
        all.push((format!("{name}.provenance.json"), made.provenance(out)?));
    }
    Ok(all)
}

/// A site and its CA.
fn of_site(folder: &Path) -> Result<(Site, Certificate)> {
    let (folder, site) = SiteArgs { site: folder.to_owned() }.load()?;
    let path = folder.ca();
    let name = path.display().to_string();
    let pem = fs_err::read(&path).map_err(|error| {
        Error::new(Class::Usage, format!("the site has no CA: {error}"))
            .hint("cargo xtask certs; or without --site: then the other side makes one")
    })?;
    match Certificate::from_pem(&pem, &name)?.into_iter().next() {
        Some(ca) => Ok((site, ca)),
        None => Err(Error::new(Class::Usage, format!("{name} holds no certificate"))),
    }
}

impl Args {
    fn recipe(&self, site: Option<&Site>) -> Result<RecipeArgs> {
        // Of a site that is not named only the edition is asked for.
        let plain = parse("site.toml", "format = 1\naddresses = [\"192.0.2.10\"]\n", || Ok(Vec::new()))?;
        let mut recipe = RecipeArgs::of_site(
            &SiteArgs { site: self.site.clone().unwrap_or_default() },
            site.unwrap_or(&plain),
            self.mattermost.clone(),
            self.without_plugin.clone(),
            self.offline,
            self.store.clone(),
            self.mirrors.clone(),
        );
        recipe.layout.clone_from(&self.layout);
        recipe.double_version.clone_from(&self.double_version);
        Ok(match site {
            Some(_) => recipe,
            None => recipe.without_site(self.edition.clone()),
        })
    }
}
