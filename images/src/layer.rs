//! Sources → layers: packages and releases are decoded by several threads and written in order, one stream a layer.
//!
//! No source is held in memory. Threads take sources in order and put pieces on a [`Conveyor`]; the one writer takes
//! them in order, adds them to the tree, and writes and hashes the tar. So the number of threads never shows in a byte.
//! Releases have a conveyor and a writer of their own, beside the packages'.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read, Write};
use std::path::Path;
use std::thread::ScopedJoinHandle;

use serde::{Deserialize, Serialize};

use crate::conveyor::{Conveyor, Piece};
use crate::digest::{Digest, Hashing};
use crate::elf;
use crate::entry::{self, Entry, Node};
use crate::error::{Class, Context, Error, Result};
use crate::file::Beside;
use crate::rules::select::Select;
use crate::tar;
use crate::tree::{Added, Owned, Tree};

mod ahead;
mod source;

use source::produce;
pub use source::{Blob, Content, Item, Source};

/// Content is handed on in pieces of this size, bytes.
const CHUNK: usize = 256 << 10;

/// A layer to be made.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Its name, for people.
    pub name: String,
    /// What goes into it, in this order.
    pub sources: Vec<Source>,
}

/// A layer that was made, and all that is known of it without reading it again.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Layer {
    /// Its name.
    pub name: String,
    /// Digest of the uncompressed tar: diff ID and blob at once.
    pub digest: Digest,
    /// Bytes.
    pub size: u64,
    /// The newest time among its inputs, seconds since 1970; 0 where they have none.
    pub time: u64,
    /// Everything in it, in the order of the tar.
    pub entries: Vec<Owned>,
}

/// Where layers are written, and how.
pub struct Making<'a> {
    /// What of packages stays out, and what is changed of them.
    pub select: &'a Select,
    /// The blobs of a layout: a finished layer lies at `folder/<digest>`.
    pub folder: &'a Path,
    /// How many threads decode. It shows in no byte.
    pub threads: usize,
    /// Told how many bytes of content more have been written.
    pub tick: &'a (dyn Fn(u64) + Sync),
}

impl Making<'_> {
    /// Makes layers and adds them to `tree` as numbers `first` and up. Nothing without a name is left behind on an error.
    ///
    /// A release inflates on one thread, whatever the machine has. So the layers from the first release on are written beside
    /// those before it, each against a tree of its own, and are compared with the whole tree afterwards.
    pub fn layers(&self, plans: &[Plan], first: usize, tree: &mut Tree) -> Result<Vec<Layer>> {
        let is_release = |plan: &Plan| plan.sources.iter().any(|source| matches!(source, Source::Release { .. }));
        let apart = match plans.iter().position(is_release) {
            Some(at) if self.threads > 1 => at.max(1),
            _ => plans.len(),
        };
        let (in_order, apart) = plans.split_at(apart);
        let conveyors: Vec<Conveyor> = apart.iter().map(|plan| conveyor(std::slice::from_ref(plan))).collect();
        let (made, beside) = std::thread::scope(|scope| {
            let stopping: Vec<_> = conveyors.iter().map(Conveyor::stopping).collect();
            let writers: Vec<_> = apart
                .iter()
                .zip(&conveyors)
                .map(|(plan, conveyor)| scope.spawn(|| self.written(std::slice::from_ref(plan), 0, &mut Tree::default(), conveyor)))
                .collect();
            let made = self.written(in_order, first, tree, &conveyor(in_order));
            if made.is_err() {
                drop(stopping);
            }
            let join = |writer: ScopedJoinHandle<'_, _>| writer.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
            (made, writers.into_iter().map(join).collect::<Vec<Result<Vec<Written>>>>())
        });
        let mut layers: Vec<Layer> = made?.into_iter().map(|written| written.layer).collect();
        for (plan, written) in apart.iter().zip(beside) {
            let number = first + layers.len();
            for written in written? {
                layers.push(match written.joins(tree) {
                    true => written.join(number, tree)?,
                    false => self.again(plan, number, tree)?,
                });
            }
        }
        Ok(layers)
    }

    /// A layer that implies a folder which the layers below it have otherwise: written in its turn, it has that folder's form.
    fn again(&self, plan: &Plan, number: usize, tree: &mut Tree) -> Result<Layer> {
        let plans = std::slice::from_ref(plan);
        let made = self.written(plans, number, tree, &conveyor(plans))?.pop();
        made.map(|written| written.layer).ok_or_else(|| Error::new(Class::Build, format!("layer \"{}\" was not made", plan.name)))
    }

    /// Writes layers one after the other, from sources that several threads decode.
    fn written(&self, plans: &[Plan], first: usize, tree: &mut Tree, conveyor: &Conveyor) -> Result<Vec<Written>> {
        let sources: Vec<&Source> = plans.iter().flat_map(|plan| &plan.sources).collect();
        std::thread::scope(|scope| {
            let _stopping = conveyor.stopping();
            let sources = &sources;
            for thread in 0..self.threads.clamp(1, sources.len().max(1)) {
                scope.spawn(move || {
                    // The first thread goes in order, the others begin with what is large.
                    while let Some(source) = if thread == 0 { conveyor.next_source() } else { conveyor.largest_source() } {
                        let result = produce(sources[source.index], self.select, &mut |piece| source.push(piece));
                        source.end(result);
                    }
                });
            }
            let mut layers = Vec::new();
            let mut source = 0;
            for (number, plan) in plans.iter().enumerate() {
                let made = self.write(plan, first + number, &mut source, conveyor, tree);
                layers.push(made.context(|| in_layer(&plan.name))?);
            }
            Ok(layers)
        })
    }

    fn write(&self, plan: &Plan, number: usize, source: &mut usize, conveyor: &Conveyor, tree: &mut Tree) -> Result<Written> {
        fs_err::create_dir_all(self.folder)?;
        // A layer is as readable as the image it belongs to.
        let beside = Beside::create(self.folder, 0o644)?;
        let mut writer = LayerWriter {
            tar: tar::Writer::new(Hashing::new(Chunks::new(beside.file()))),
            tree,
            number,
            folders: BTreeSet::new(),
            implied: Vec::new(),
            entries: Vec::new(),
            time: 0,
            elf: false,
        };
        for input in &plan.sources {
            let owner = input.owner();
            while let Some(piece) = conveyor.pop(*source)? {
                (self.tick)(piece.bytes());
                writer.take(piece, owner).context(|| owner.to_owned())?;
            }
            *source += 1;
        }
        let LayerWriter { tar, mut entries, implied, time, .. } = writer;
        let (hashing, size) = tar.finish()?;
        let (_, digest, _) = hashing.finish();
        for owned in &mut entries {
            if owned.dynamic.is_some() {
                owned.dynamic = read_dynamic(beside.file(), owned)?;
            }
        }
        for owned in &entries {
            tree.set_dynamic(&owned.entry.path, owned.dynamic.clone());
        }
        beside.publish_cached(&self.folder.join(digest.to_string()))?;
        Ok(Written { layer: Layer { name: plan.name.clone(), digest, size, time, entries }, implied })
    }
}

fn conveyor(plans: &[Plan]) -> Conveyor {
    Conveyor::new(plans.iter().flat_map(|plan| &plan.sources).map(Source::packed))
}

fn in_layer(name: &str) -> String {
    format!("layer \"{name}\"")
}

/// A layer, and the folders in it that neither its sources nor the tree named.
struct Written {
    layer: Layer,
    implied: Vec<Entry>,
}

impl Written {
    /// Whether the layer would be the same, byte for byte, if it had been written with `tree` known.
    fn joins(&self, tree: &Tree) -> bool {
        self.implied.iter().all(|folder| tree.get(&folder.path).is_none_or(|(_, known)| known.entry == *folder))
    }

    /// Adds the layer to the tree, as the writer would have.
    fn join(self, number: usize, tree: &mut Tree) -> Result<Layer> {
        let Written { layer, .. } = self;
        for owned in &layer.entries {
            tree.add(number, owned.clone()).context(|| owned.owner.clone()).context(|| in_layer(&layer.name))?;
        }
        Ok(layer)
    }
}

struct LayerWriter<'a, W: Write> {
    tar: tar::Writer<W>,
    tree: &'a mut Tree,
    number: usize,
    folders: BTreeSet<String>,
    implied: Vec<Entry>,
    entries: Vec<Owned>,
    time: u64,
    elf: bool,
}

impl<W: Write> LayerWriter<'_, W> {
    fn take(&mut self, piece: Piece, owner: &str) -> Result<()> {
        match piece {
            Piece::Time(time) => {
                self.time = self.time.max(time);
                Ok(())
            }
            Piece::Entry(entry) => {
                self.parents(&entry, owner)?;
                self.entry(entry, owner)
            }
            Piece::Content(bytes) => {
                if std::mem::take(&mut self.elf)
                    && bytes.starts_with(b"\x7fELF")
                    && let Some(last) = self.entries.last_mut()
                {
                    last.dynamic = Some(elf::Dynamic::default());
                }
                Ok(self.tar.content(&bytes)?)
            }
        }
    }

    fn entry(&mut self, entry: Entry, owner: &str) -> Result<()> {
        let directory = entry.node == Node::Directory;
        let mut owned = Owned { entry, owner: owner.to_owned(), offset: None, dynamic: None };
        let added = self.tree.add(self.number, owned.clone())?;
        if directory && !self.folders.insert(owned.entry.path.clone()) {
            return Ok(());
        }
        debug_assert!(directory || added == Added::New);
        let offset = self.tar.entry(&owned.entry)?;
        self.elf = false;
        if matches!(owned.entry.node, Node::File { .. }) {
            owned.offset = Some(offset);
            self.tree.set_offset(&owned.entry.path, offset);
            self.elf = true;
        }
        self.entries.push(owned);
        Ok(())
    }

    /// Every folder above an entry stands in the layer: a folder that a layer only implies would get root's default
    /// mode where a layer is unpacked by itself, and hide the real one.
    fn parents(&mut self, entry: &Entry, owner: &str) -> Result<()> {
        let Some(folder) = entry::parent(&entry.path) else { return Ok(()) };
        if self.folders.contains(folder) {
            return Ok(());
        }
        let known = self.tree.get(folder).map(|(_, owned)| owned.entry.clone());
        let missing = known.unwrap_or_else(|| {
            let implied = Entry::directory(folder, 0o755, entry.mtime);
            self.implied.push(implied.clone());
            implied
        });
        self.parents(&missing, owner)?;
        self.entry(missing, owner)
    }
}

/// Hands bytes on in large pieces. `BufWriter` would copy what is large already.
struct Chunks<W> {
    buffer: Vec<u8>,
    out: W,
}

impl<W: Write> Chunks<W> {
    fn new(out: W) -> Self {
        Chunks { buffer: Vec::with_capacity(CHUNK), out }
    }
}

impl<W: Write> Write for Chunks<W> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        if self.buffer.len() + bytes.len() > CHUNK {
            self.out.write_all(&self.buffer)?;
            self.buffer.clear();
        }
        match bytes.len() {
            large if large >= CHUNK => self.out.write_all(bytes)?,
            _ => self.buffer.extend_from_slice(bytes),
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.out.write_all(&self.buffer)?;
        self.buffer.clear();
        self.out.flush()
    }
}

fn read_dynamic(layer: &std::fs::File, owned: &Owned) -> Result<Option<elf::Dynamic>> {
    let (Some(start), Node::File { size }) = (owned.offset, &owned.entry.node) else { return Ok(None) };
    Ok(elf::dynamic(Section { file: layer, start, size: *size, at: 0 }))
}

/// A part of a layer, read as a file of its own.
pub struct Section<'a> {
    /// The layer.
    pub file: &'a std::fs::File,
    /// Where the part begins, bytes.
    pub start: u64,
    /// How long it is, bytes.
    pub size: u64,
    /// Where the next read is, bytes from `start`.
    pub at: u64,
}

impl Read for Section<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let length = buffer.len().min(usize::try_from(self.size.saturating_sub(self.at)).unwrap_or(usize::MAX));
        let count = std::os::unix::fs::FileExt::read_at(self.file, &mut buffer[..length], self.start + self.at)?;
        self.at += count as u64;
        Ok(count)
    }
}

impl std::io::Seek for Section<'_> {
    fn seek(&mut self, to: std::io::SeekFrom) -> std::io::Result<u64> {
        let target = match to {
            std::io::SeekFrom::Start(at) => Some(at),
            std::io::SeekFrom::End(by) => self.size.checked_add_signed(by),
            std::io::SeekFrom::Current(by) => self.at.checked_add_signed(by),
        };
        self.at = target.ok_or_else(|| std::io::Error::from(std::io::ErrorKind::InvalidInput))?;
        Ok(self.at)
    }
}

/// What a layer's making depends on, for a cache key.
pub fn describe(plan: &Plan) -> BTreeMap<String, Vec<String>> {
    let line = |source: &Source| match source {
        Source::Deb { blob } => format!("deb {}", blob.sha256),
        Source::Release { blob, strip, destination, owner, exclude, keep } => {
            format!("release {} {strip} {destination} {owner} {exclude:?} {keep:?}", blob.sha256)
        }
        Source::Items { owner, .. } => format!("items {owner}"),
    };
    BTreeMap::from([(plan.name.clone(), plan.sources.iter().map(line).collect())])
}

#[cfg(test)]
mod tests;
