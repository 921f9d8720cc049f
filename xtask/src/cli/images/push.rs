//! `cargo xtask images push REGISTRY`: images and their papers into a registry.

use std::collections::BTreeMap;
use std::path::PathBuf;

use images::contents::Place;
use images::layout::Layout;
use images::progress::human;
use images::sbom::{self, provenance, referrer};
use images::{Class, Digest, Error, Result};

use super::build::all_processors;
use super::sbom::Made;
use crate::output::Output;
use crate::registry::compress::Compression;
use crate::registry::push::{Known, Parcel, Pushed, push};
use crate::registry::{Address, Client};
use crate::workspace::Workspace;

/// Push images of the layout into a registry, with SBOM and provenance beside each
///
/// What is there already is not sent: after a broken connection the same command goes on. Credentials are those of `docker login`.
/// Each manifest is read back and compared.
#[derive(clap::Args)]
pub struct Args {
    /// HOST, HOST:PORT or HOST:PORT/PREFIX; images are called REGISTRY/chatops/NAME:VERSION there
    registry: String,
    /// Images by name; all of the layout where none is named
    names: Vec<String>,
    /// Layout folder [default: target/images]
    #[arg(long, value_name = "DIR")]
    layout: Option<PathBuf>,
    /// How layers are compressed there; with none the registry's digests are the layout's
    #[arg(long, value_enum, default_value_t)]
    compression: Compression,
    /// A CA to trust besides those of this machine, in PEM [default: Docker's /etc/docker/certs.d/REGISTRY/ca.crt]
    #[arg(long, value_name = "FILE")]
    ca: Option<PathBuf>,
    /// Push images alone
    #[arg(long)]
    no_papers: bool,
    /// Blobs under way at once
    #[arg(long, value_name = "N", default_value_t = 4)]
    connections: usize,
    /// Print the result as JSON, a line for each image: reference, tag, sent, papers
    #[arg(long)]
    json: bool,
}

/// Pushes. Everything that can be wrong on this side is found before anything is sent.
pub fn run(args: &Args, out: &mut Output) -> Result<()> {
    let workspace = Workspace::find()?;
    let address = Address::parse(&args.registry)?;
    let root = args.layout.clone().unwrap_or_else(|| workspace.target().join("images"));
    if !root.is_dir() {
        return Err(
            Error::new(Class::Usage, format!("{} is no layout folder", root.display())).hint("`cargo xtask images` builds every image")
        );
    }
    // Held while blobs are read, so that no build takes them away.
    let _layout = Layout::open(&root)?;
    let place = Place::open(&root)?;
    let names = if args.names.is_empty() { place.names().into_iter().map(str::to_owned).collect() } else { args.names.clone() };
    if names.is_empty() {
        return Err(Error::new(Class::Usage, format!("{} holds no image", root.display())).hint("`cargo xtask images` builds every image"));
    }
    let cache = workspace.target().join("push");
    let mut parcels = Vec::new();
    for name in &names {
        let image = place.image(name)?;
        let mut parcel = Parcel::pack(&image, &root, &address, args.compression, &cache, all_processors(), out.progress())?;
        if !args.no_papers {
            let made = Made::read(&workspace, &place, &image.name)?;
            let subject = parcel.descriptor();
            for (media_type, paper) in [
                (sbom::MEDIA_TYPE, made.sbom()?),
                (provenance::MEDIA_TYPE, made.provenance_as_pushed(Digest::from_oci(&subject.digest).as_ref(), out)?),
            ] {
                let mut annotations = BTreeMap::new();
                if media_type == provenance::MEDIA_TYPE {
                    // By this others tell one statement from another without reading it.
                    annotations.insert("in-toto.io/predicate-type".to_owned(), provenance::PREDICATE.to_owned());
                }
                parcel.papers.push(referrer(&subject, media_type, paper, annotations));
            }
        }
        parcels.push(parcel);
    }
    let client = Client::by_docker(address, args.ca.as_deref())?;
    let known = Known::default();
    for parcel in &parcels {
        let pushed = push(&client, parcel, &known, args.connections, out.progress())?;
        out.result(if args.json { json(&pushed) } else { line(&pushed) });
    }
    Ok(())
}

fn line(pushed: &Pushed) -> String {
    let blobs =
        format!("{} sent ({}), {} mounted, {} there", pushed.blobs_sent, human(pushed.sent), pushed.blobs_mounted, pushed.blobs_there);
    let papers = pushed.papers.len();
    format!("{}  {}  blobs: {blobs}; papers: {papers}", pushed.tag, pushed.reference.rsplit('@').next().unwrap_or_default())
}

fn json(pushed: &Pushed) -> String {
    serde_json::to_string(pushed).unwrap_or_else(|error| unreachable!("plain data: {error}"))
}
