//! A list and its parts → the file; and a signature into a file that is there.

use std::io::{BufWriter, Read, Write};
use std::path::{Path, PathBuf};

use images::digest::Hashing;
use images::file::Beside;
use images::{Class, Context, Digest, Error, Result};

use super::frames::{self, FRAME, Writing};
use super::list::{self, List, Part};
use super::read::Bundle;
use super::{LIST, Pace, SIGNATURE};

/// What a tar archive is made of.
const BLOCK: u64 = 512;

/// Where a part's bytes come from.
#[derive(Clone, Debug)]
pub enum Content {
    /// Made for the bundle.
    Bytes(Vec<u8>),
    /// A file.
    File(PathBuf),
}

impl Content {
    /// Its part at `path`.
    pub fn part(&self, path: &str) -> Result<Part> {
        let (sha256, size) = match self {
            Content::Bytes(bytes) => (Digest::of(bytes), bytes.len() as u64),
            Content::File(file) => Digest::of_file(file)?,
        };
        Ok(Part { path: path.to_owned(), size, sha256 })
    }

    fn open(&self) -> Result<Box<dyn Read + Send + '_>> {
        Ok(match self {
            Content::Bytes(bytes) => Box::new(&bytes[..]),
            Content::File(file) => Box::new(fs_err::File::open(file)?),
        })
    }
}

/// Writes a bundle beside `path`, then gives it its name. `contents` are those of the list's parts, in its order; one that is not what
/// the list says ends it.
pub fn write(path: &Path, list: &List, contents: &[Content], pace: Pace) -> Result<()> {
    let text = list.text();
    // What would be refused on the other side is not made on this one.
    List::parse(&text)?;
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    fs_err::create_dir_all(folder)?;
    let beside = Beside::create(folder, 0o644)?;
    let mut out = Writing::new(BufWriter::with_capacity(1 << 20, beside.file()));
    let first = small(LIST, &text)?;
    out.frame(&frames::pack(&first)?, first.len())?;
    let parts: Vec<(&Part, bool)> =
        list.parts.iter().map(|part| (part, false)).chain(list.program.iter().map(|part| (part, true))).collect();
    let step = pace.progress.begin("packing", Some(list.inside().map(|part| part.size).sum()));
    let jobs = Pieces { parts: parts.into_iter().zip(contents), now: None };
    let pack = |content: Vec<u8>| Ok((frames::pack(&content)?, content.len()));
    frames::in_order(pace.threads, jobs, pack, |(packed, size)| {
        step.advance(size as u64);
        out.frame(&packed, size)
    })?;
    let end = [0; 2 * BLOCK as usize];
    out.frame(&frames::pack(&end)?, end.len())?;
    out.finish()?;
    step.done();
    // It can be made again, and whoever reads it notices a power cut.
    beside.publish_cached(path)
}

/// Puts a signature into a bundle, or another one in its place: its other bytes stay.
pub fn put_signature(path: &Path, bundle: &Bundle, signature: &[u8]) -> Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let beside = Beside::create(folder, 0o644)?;
    let mut out = Writing::new(BufWriter::with_capacity(1 << 20, beside.file()));
    let (list, rest) = bundle.frames();
    out.frames(list, |out| bundle.copy(list, out))?;
    let entry = small(SIGNATURE, signature)?;
    out.frame(&frames::pack(&entry)?, entry.len())?;
    out.frames(rest, |out| bundle.copy(rest, out))?;
    out.finish()?;
    beside.publish(path)
}

/// A header as it stands in front of a part.
pub fn header(part: &Part, executable: bool) -> Result<Vec<u8>> {
    let mut header = Vec::new();
    images::tar::Writer::new(&mut header).entry(&part.entry(executable))?;
    match header.len() as u64 == BLOCK {
        true => Ok(header),
        false => Err(Error::new(Class::Build, format!("{} does not fit into a plain header", part.path))),
    }
}

/// Zeros behind a content of `size` bytes.
pub fn padding(size: u64) -> u64 {
    (BLOCK - size % BLOCK) % BLOCK
}

/// How long a part is in the archive, bytes.
pub fn length(size: u64) -> u64 {
    BLOCK + size + padding(size)
}

/// A small part as a whole.
pub fn small(path: &str, content: &[u8]) -> Result<Vec<u8>> {
    if content.len() as u64 > u64::from(list::LONGEST) {
        return Err(Error::new(Class::Build, format!("{path} has {} bytes", content.len())));
    }
    let part = Content::Bytes(content.to_vec()).part(path)?;
    let mut entry = header(&part, false)?;
    entry.extend(content);
    entry.resize(length(part.size) as usize, 0);
    Ok(entry)
}

/// The parts in pieces of a frame each.
struct Pieces<'a, I> {
    parts: I,
    now: Option<Open<'a>>,
}

struct Open<'a> {
    part: &'a Part,
    header: Vec<u8>,
    source: Hashing<std::io::Take<Box<dyn Read + Send + 'a>>>,
}

impl<'a, I: Iterator<Item = ((&'a Part, bool), &'a Content)>> Iterator for Pieces<'a, I> {
    type Item = Result<Vec<u8>>;

    fn next(&mut self) -> Option<Result<Vec<u8>>> {
        self.piece().transpose()
    }
}

impl<'a, I: Iterator<Item = ((&'a Part, bool), &'a Content)>> Pieces<'a, I> {
    fn piece(&mut self) -> Result<Option<Vec<u8>>> {
        let mut open = match self.now.take() {
            Some(open) => open,
            None => match self.parts.next() {
                None => return Ok(None),
                Some(((part, executable), content)) => {
                    // One byte more shows that it is longer.
                    let source = Hashing::new(content.open()?.take(part.size + 1));
                    Open { part, header: header(part, executable)?, source }
                }
            },
        };
        let mut piece = std::mem::take(&mut open.header);
        piece.reserve_exact(FRAME - piece.len());
        let wanted = FRAME - piece.len();
        let doing = || format!("reading {}", open.part.path);
        (&mut open.source).take(wanted as u64).read_to_end(&mut piece).context(doing)?;
        if piece.len() < FRAME || open.source.passed() >= open.part.size {
            let (part, (_, sha256, size)) = (open.part, open.source.finish());
            if (size, sha256) != (part.size, part.sha256) {
                return Err(Error::new(Class::HashMismatch, format!("{} is not what it is called", part.path))
                    .detail(format!("expected {} bytes, {}", part.size, part.sha256))
                    .detail(format!("found    {size} bytes, {sha256}"))
                    .hint("something wrote into it, or the disk has damaged it: remove target/images and build again"));
            }
            piece.resize(piece.len() + padding(size) as usize, 0);
        } else {
            self.now = Some(open);
        }
        Ok(Some(piece))
    }
}

/// The lengths of the frames of a part of `size` bytes, as [`Pieces`] makes them.
pub fn pieces(size: u64) -> impl Iterator<Item = u64> {
    let frame = FRAME as u64;
    let content = BLOCK + size;
    let whole = content.div_ceil(frame);
    (1..=whole).map(move |number| if number < whole { frame } else { content - (whole - 1) * frame + padding(size) })
}

/// Copies bytes of a file.
pub fn copy(file: &fs_err::File, from: u64, length: u64, out: &mut impl Write) -> Result<()> {
    let mut at = 0;
    let mut buffer = vec![0; 1 << 20];
    while at < length {
        let count = buffer.len().min(usize::try_from(length - at).unwrap_or(usize::MAX));
        super::read::exactly(file, &mut buffer[..count], from + at)?;
        out.write_all(&buffer[..count]).context(|| "writing the bundle")?;
        at += count as u64;
    }
    Ok(())
}
