//! A bundle → a folder from which `up` starts the stack: nothing of it is in use before all of it is there.
//!
//! | path | holds |
//! |---|---|
//! | `images/` | one OCI layout; bundles share its blobs, and `up` adds the site's CA here |
//! | `versions/ID/` | the other parts of each bundle, its list and signature |
//! | `current` | leads to the version in use: it is turned over in one step |
//! | `xtask` | leads to the program of the version in use |
//! | `.lock` | held while a bundle is applied; empty |

use std::collections::BTreeSet;
use std::io::Write;
use std::path::{Path, PathBuf};

use images::build::{Built, SiteInputs, add_site};
use images::file::{Beside, write_beside};
use images::layout::Layout;
use images::progress::human;
use images::{Class, Context, Digest, Error, Result};

use super::gather::{PROGRAM, below_path};
use super::list::{Image, List, Part};
use super::read::Taker;
use super::{Bundle, LIST, Pace, SIGNATURE};
use crate::site::folder::make_folder;
use crate::site::pki::Certificate;

/// What has to be left on the disk, bytes: for the site's own files, and for the CA's layer of each image.
const SPARE: u64 = 64 << 20;
/// What unfinished files and folders are called.
const NEW: &str = ".new-";

/// A folder that bundles are applied to.
#[derive(Clone, Debug)]
pub struct Applied {
    root: PathBuf,
}

/// What became of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// Parts that were written.
    pub written: usize,
    /// Parts that were there already.
    pub there: usize,
    /// Whether another version was in use before, or none.
    pub switched: bool,
}

impl Applied {
    /// The folder `root`, which need not exist.
    pub fn new(root: &Path) -> Self {
        Applied { root: root.to_owned() }
    }

    /// Whether a bundle was applied to `root`.
    pub fn is(root: &Path) -> bool {
        root.join("current").join(LIST).is_file()
    }

    /// What is in use.
    pub fn list(&self) -> Result<Option<List>> {
        let path = self.root.join("current").join(LIST);
        match path.try_exists()? {
            true => List::parse(&fs_err::read(&path)?).map(Some).context(|| path.display().to_string()),
            false => Ok(None),
        }
    }

    /// The layout.
    pub fn layout(&self) -> PathBuf {
        self.root.join("images")
    }

    fn versions(&self) -> PathBuf {
        self.root.join("versions")
    }

    fn version(&self, id: &Digest) -> PathBuf {
        self.versions().join(id.short())
    }

    fn blobs(&self) -> PathBuf {
        self.layout().join("blobs/sha256")
    }

    fn place(&self, part: &Part, version: &Path) -> PathBuf {
        if part.is_blob() { self.blobs().join(part.sha256.to_string()) } else { version.join(&part.path) }
    }

    /// Applies a bundle whose list was found to be from whom it has to be from. What a command before was cut off in is gone on with;
    /// what is there already is compared, and mended.
    ///
    /// # Errors
    /// [`Class::Check`] where there is no room, another command is at work here, or the bundle goes on from one that is not here;
    /// [`Class::HashMismatch`] where a part is not what the list says: then what was in use stays in use.
    pub fn apply(&self, bundle: &Bundle, pace: Pace) -> Result<Outcome> {
        make_folder(&self.blobs(), 0o755)?;
        make_folder(&self.versions(), 0o755)?;
        let _held = self.hold()?;
        self.sweep()?;
        let (id, list) = (bundle.id(), &bundle.list);
        let version = self.version(&id);
        let complete = self.is_complete(bundle, &version)?;
        // Where a blob is damaged only it is read again; small files come together, or not at all.
        let mut wanted = BTreeSet::new();
        for part in list.inside() {
            let there = if part.is_blob() { is_there(&self.place(part, &version), part)? } else { complete };
            if !there {
                wanted.insert(part.path.clone());
            }
        }
        let earlier = self.earlier(list, complete)?;
        let is_wanted = |part: &&Part| wanted.contains(&part.path);
        let new: u64 = list.inside().filter(is_wanted).map(|part| part.size).sum();
        self.room(new + earlier.iter().map(|(part, _)| part.size).sum::<u64>())?;

        let staging = self.versions().join(format!("{NEW}{}", id.short()));
        let mut taking = Taking { applied: self, staging: &staging, wanted: &wanted, now: None };
        bundle.read(&mut taking, "applying", pace)?;
        if !complete {
            for (part, from) in &earlier {
                copy_checked(part, from, &staging.join(&part.path))?;
            }
            write(&staging.join(LIST), &list.text())?;
            if let Some(signature) = &bundle.signature {
                write(&staging.join(SIGNATURE), signature)?;
            }
            if version.exists() {
                // It was complete once: somebody has changed it.
                fs_err::rename(&version, self.versions().join(format!("{NEW}old-{}", id.short())))?;
            }
            fs_err::rename(&staging, &version)?;
            fs_err::File::open(self.versions())?.sync_all()?;
        }
        let switched = self.switch(&id)?;
        self.sweep()?;
        Ok(Outcome { written: wanted.len(), there: list.all().count() - wanted.len(), switched })
    }

    /// Whether everything but blobs is there as the list says.
    fn is_complete(&self, bundle: &Bundle, version: &Path) -> Result<bool> {
        for (name, content) in [(LIST, Some(bundle.list.text())), (SIGNATURE, bundle.signature.clone())] {
            if content.is_some_and(|content| !fs_err::read(version.join(name)).is_ok_and(|there| there == content)) {
                return Ok(false);
            }
        }
        for part in bundle.list.all().filter(|part| !part.is_blob()) {
            if !is_there(&version.join(&part.path), part)? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Where the parts are that came with an earlier bundle: all of them have to be there. Those that are to be copied.
    fn earlier<'a>(&self, list: &'a List, complete: bool) -> Result<Vec<(&'a Part, PathBuf)>> {
        let mut versions = Vec::new();
        for entry in fs_err::read_dir(self.versions())? {
            versions.push(entry?.path());
        }
        versions.sort();
        let (mut found, mut missing) = (Vec::new(), Vec::new());
        for part in &list.earlier {
            if part.is_blob() {
                if !is_there(&self.place(part, &self.root), part)? {
                    missing.push(part);
                }
                continue;
            }
            if complete {
                continue;
            }
            let mut from = None;
            for version in &versions {
                let path = version.join(&part.path);
                if is_there(&path, part)? {
                    from = Some(path);
                    break;
                }
            }
            match from {
                Some(path) => found.push((part, path)),
                None => missing.push(part),
            }
        }
        let Some(since) = list.since.filter(|_| !missing.is_empty()) else { return Ok(found) };
        let applied = self.list()?.map_or("nothing".to_owned(), |list| list.id().short());
        let size: u64 = missing.iter().map(|part| part.size).sum();
        Err(Error::new(Class::Check, format!("this bundle goes on from {}, which is not here", since.short()))
            .detail(format!("applied  {applied}"))
            .detail(format!("missing  {} parts, {}, such as {}", missing.len(), human(size), missing[0].path))
            .hint(format!("apply {} first, or make one without --since; nothing was changed", since.short())))
    }

    fn room(&self, needed: u64) -> Result<()> {
        let free = crate::doctor::gather::free(&self.root);
        match free.filter(|free| *free < needed + SPARE) {
            None => Ok(()),
            Some(free) => Err(Error::new(Class::Check, format!("there is no room in {}", self.root.display()))
                .detail(format!("expected {} free", human(needed + SPARE)))
                .detail(format!("found    {}", human(free)))
                .hint("make room, or apply it to a folder elsewhere; nothing was changed")),
        }
    }

    fn hold(&self) -> Result<fs_err::File> {
        let path = self.root.join(".lock");
        let file = fs_err::OpenOptions::new().create(true).truncate(false).write(true).open(&path)?;
        match file.file().try_lock() {
            Ok(()) => Ok(file),
            Err(std::fs::TryLockError::WouldBlock) => {
                Err(Error::new(Class::Check, format!("another command applies a bundle to {}", self.root.display()))
                    .hint("wait for it to end"))
            }
            Err(std::fs::TryLockError::Error(error)) => Err(Error::from(error).context(format!("locking {}", path.display()))),
        }
    }

    /// Removes what a command has left that was cut off. The caller holds the folder.
    fn sweep(&self) -> Result<()> {
        for folder in [self.blobs(), self.versions()] {
            for entry in fs_err::read_dir(folder)? {
                let path = entry?.path();
                if !path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(NEW.as_bytes())) {
                    continue;
                }
                match fs_err::symlink_metadata(&path)?.is_dir() {
                    true => fs_err::remove_dir_all(&path)?,
                    false => fs_err::remove_file(&path)?,
                }
            }
        }
        Ok(())
    }

    /// Turns `current` over; whether it led elsewhere.
    fn switch(&self, id: &Digest) -> Result<bool> {
        let target = Path::new("versions").join(id.short());
        let switched = link(&self.root, "current", &target)?;
        link(&self.root, PROGRAM, &Path::new("current").join(PROGRAM))?;
        fs_err::File::open(&self.root)?.sync_all()?;
        Ok(switched)
    }

    /// Whether the API double plays Mattermost.
    pub fn is_double(&self) -> bool {
        self.list().ok().flatten().is_some_and(|list| list.images.iter().any(|image| image.name.contains("-double")))
    }

    /// The images in use, each with the site's CA as its top layer: where the bundle brought them without, it is put there, with no
    /// network and no sources. `ca` is in PEM, `name` its file.
    ///
    /// # Errors
    /// [`Class::Check`] where the bundle is for a site with another CA.
    pub fn images(&self, ca: &[u8], name: &str) -> Result<Vec<Built>> {
        let list = self.list()?.ok_or_else(|| Error::new(Class::Check, format!("no bundle is applied to {}", self.root.display())))?;
        let layout = Layout::open(&self.layout())?;
        if let Some(theirs) = list.ca {
            let ours = Certificate::from_pem(ca, name)?.first().map(Certificate::fingerprint);
            if ours != Some(theirs) {
                return Err(Error::new(Class::Check, "the bundle was made for a site with another CA")
                    .detail(format!("expected sha256 {theirs}"))
                    .detail(format!("found    sha256 {} ({name})", ours.map(|ours| ours.to_string()).unwrap_or_default()))
                    .hint("bring that site's folder here, or make the bundle without --site"));
            }
            return list.images.iter().map(|image| as_it_came(image, &layout)).collect();
        }
        let site = SiteInputs { cas: [("ca.pem".to_owned(), ca.to_vec())].into() };
        let (memory, version) = (self.layout().join(".made"), self.root.join("current"));
        let add = |image: &Image| {
            let below = fs_err::read(version.join(below_path(&image.service)))?;
            add_site(&image.name, &image.config, &below, &site, &layout, &memory)
        };
        list.images.iter().map(add).collect()
    }
}

/// An image that has the CA already gets its name.
fn as_it_came(image: &Image, layout: &Layout) -> Result<Built> {
    let size = fs_err::metadata(layout.blob(&image.manifest))?.len();
    layout.name(&image.name, image.manifest, size)?;
    Ok(Built { name: image.name.clone(), manifest: image.manifest, config: image.config, layers: Vec::new(), fresh: false })
}

/// Whether a part is at `path`, whole.
fn is_there(path: &Path, part: &Part) -> Result<bool> {
    match fs_err::symlink_metadata(path) {
        Ok(there) if there.is_file() && there.len() == part.size => Ok(Digest::of_file(path)?.0 == part.sha256),
        _ => Ok(false),
    }
}

/// Makes a symbolic link called `name`, or turns one over in one step; whether it led elsewhere.
fn link(root: &Path, name: &str, target: &Path) -> Result<bool> {
    let path = root.join(name);
    match fs_err::symlink_metadata(&path) {
        Ok(there) if !there.is_symlink() => {
            return Err(Error::new(Class::Usage, format!("{} is in the way", path.display()))
                .detail("expected a symbolic link, or nothing")
                .hint("apply the bundle to a folder of its own"));
        }
        Ok(_) if fs_err::read_link(&path)? == target => return Ok(false),
        _ => {}
    }
    let beside = root.join(format!("{NEW}{name}"));
    if fs_err::symlink_metadata(&beside).is_ok() {
        fs_err::remove_file(&beside)?;
    }
    fs_err::os::unix::fs::symlink(target, &beside)?;
    fs_err::rename(&beside, &path)?;
    Ok(true)
}

fn write(path: &Path, bytes: &[u8]) -> Result<()> {
    if let Some(folder) = path.parent() {
        make_folder(folder, 0o755)?;
    }
    write_beside(path, bytes, 0o644)
}

/// Copies a part of an earlier version; what is copied is what is checked.
fn copy_checked(part: &Part, from: &Path, to: &Path) -> Result<()> {
    let folder = to.parent().unwrap_or(to);
    make_folder(folder, 0o755)?;
    let beside = Beside::create(folder, if part.path == PROGRAM { 0o755 } else { 0o644 })?;
    let mut hashing = images::digest::Hashing::new(beside.file());
    std::io::copy(&mut fs_err::File::open(from)?, &mut hashing)?;
    if hashing.digest() != part.sha256 {
        return Err(Error::new(Class::HashMismatch, format!("{} changed while it was copied", from.display())));
    }
    beside.publish(to)
}

/// Puts each part where it belongs, when it is whole.
struct Taking<'a> {
    applied: &'a Applied,
    staging: &'a Path,
    wanted: &'a BTreeSet<String>,
    now: Option<(Beside, PathBuf)>,
}

impl Taker for Taking<'_> {
    fn wants(&mut self, part: &Part) -> Result<bool> {
        Ok(self.wanted.contains(&part.path))
    }

    fn begin(&mut self, part: &Part, executable: bool) -> Result<()> {
        let path = self.applied.place(part, self.staging);
        let folder = path.parent().unwrap_or(&path);
        make_folder(folder, 0o755)?;
        self.now = Some((Beside::create(folder, if executable { 0o755 } else { 0o644 })?, path));
        Ok(())
    }

    fn content(&mut self, piece: &[u8]) -> Result<()> {
        match &self.now {
            Some((beside, path)) => beside.file().write_all(piece).context(|| format!("writing {}", path.display())),
            None => Ok(()),
        }
    }

    fn end(&mut self, _: &Part) -> Result<()> {
        match self.now.take() {
            Some((beside, path)) => beside.publish(&path),
            None => Ok(()),
        }
    }
}
