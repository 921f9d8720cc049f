//! A bundle that is read: nothing of it is believed before it is checked.

use std::io::Write;
use std::os::unix::fs::FileExt;
use std::path::Path;

use images::digest::Hashing;
use images::{Class, Context, Digest, Error, Result};

use super::frames::{self, Frame};
use super::list::{self, List, Part};
use super::write::{copy, header, length, pieces};
use super::{LIST, Pace, SIGNATURE, Trust, damaged, signature};

/// A bundle whose list is from whom it has to be from.
#[derive(Debug)]
pub struct Bundle {
    /// What it holds.
    pub list: List,
    /// The signature, where it has one.
    pub signature: Option<Vec<u8>>,
    file: fs_err::File,
    frames: Vec<Frame>,
    /// The frames of the list and its signature.
    ahead: usize,
}

/// Who takes the content of parts.
pub trait Taker {
    /// Whether a part is wanted.
    fn wants(&mut self, part: &Part) -> Result<bool>;
    /// It begins.
    fn begin(&mut self, part: &Part, executable: bool) -> Result<()>;
    /// A piece of it; nothing is known of it yet.
    fn content(&mut self, piece: &[u8]) -> Result<()>;
    /// The part has ended, and is what the list says.
    fn end(&mut self, part: &Part) -> Result<()>;
}

/// Takes everything and keeps nothing.
pub struct Checking;

impl Taker for Checking {
    fn wants(&mut self, _: &Part) -> Result<bool> {
        Ok(true)
    }

    fn begin(&mut self, _: &Part, _: bool) -> Result<()> {
        Ok(())
    }

    fn content(&mut self, _: &[u8]) -> Result<()> {
        Ok(())
    }

    fn end(&mut self, _: &Part) -> Result<()> {
        Ok(())
    }
}

impl Bundle {
    /// Reads the table, the list and its signature; the parts are not read yet.
    ///
    /// # Errors
    /// [`Class::HashMismatch`] where it is damaged or cut short, [`Class::Check`] where it is not from whom it has to be from, or was
    /// made to harm; [`Class::Usage`] where it is not there, or has another format.
    pub fn open(path: &Path, trust: &Trust) -> Result<Bundle> {
        Self::of_file(path, trust).map_err(|error| error.context(path.display()))
    }

    fn of_file(path: &Path, trust: &Trust) -> Result<Bundle> {
        let file = fs_err::File::open(path).map_err(|error| Error::new(Class::Usage, error.to_string()))?;
        let there = file.metadata()?;
        if !there.is_file() {
            return Err(Error::new(Class::Usage, "it is no file"));
        }
        let frames = frames::read_table(there.len(), |buffer, at| exactly(&file, buffer, at))?;
        let text = entry(&file, frames.first(), LIST, list::LONGEST)?.ok_or_else(|| damaged(format!("{LIST} does not stand first")))?;
        let signature = entry(&file, frames.get(1), SIGNATURE, signature::LONGEST)?;
        trust.check(&text, signature.as_deref())?;
        let list = List::parse(&text)?;
        let ahead = 1 + usize::from(signature.is_some());
        let expected = list.inside().flat_map(|part| pieces(part.size)).chain([1024]);
        let found = frames[ahead..].iter().map(|frame| u64::from(frame.size));
        // The whole file follows from its list.
        match expected.eq(found) {
            true => Ok(Bundle { list, signature, file, frames, ahead }),
            false => Err(damaged("its table is not that of its list")),
        }
    }

    /// What names it.
    pub fn id(&self) -> Digest {
        self.list.id()
    }

    /// The list's frame, and those behind the signature.
    pub(super) fn frames(&self) -> (&[Frame], &[Frame]) {
        (&self.frames[..1], &self.frames[self.ahead..])
    }

    /// Copies frames that follow each other.
    pub(super) fn copy(&self, frames: &[Frame], out: &mut impl Write) -> Result<()> {
        let Some(first) = frames.first() else { return Ok(()) };
        copy(&self.file, first.offset, frames.iter().map(|frame| u64::from(frame.packed)).sum(), out)
    }

    /// Reads the parts that `taker` wants, in their order. A part is ended only where each of its bytes is what the list says.
    pub fn read(&self, taker: &mut (impl Taker + ?Sized), doing: &str, pace: Pace) -> Result<()> {
        let mut at = self.ahead;
        let mut wanted = Vec::new();
        for (number, part) in self.list.inside().enumerate() {
            let executable = number == self.list.parts.len();
            let count = pieces(part.size).count();
            wanted.push((part, executable, &self.frames[at..at + count]));
            at += count;
        }
        let step = pace.progress.begin(doing, Some(wanted.iter().map(|(part, ..)| part.size).sum()));
        for run in self.runs(&wanted, taker)? {
            let parts = &wanted[run];
            let frames = parts.iter().flat_map(|(_, _, frames)| *frames);
            let mut order = parts.iter().flat_map(|(part, executable, frames)| {
                frames.iter().enumerate().map(move |(number, _)| (*part, *executable, number == 0, number + 1 == frames.len()))
            });
            let load = |frame: &Frame| {
                let mut packed = vec![0; frame.packed as usize];
                exactly(&self.file, &mut packed, frame.offset)?;
                Ok((packed, frame.size))
            };
            let mut reading = Reading::default();
            frames::in_order(
                pace.threads,
                frames.map(load),
                |(packed, size)| frames::unpack(&packed, size),
                |piece| {
                    let (part, executable, first, last) = order.next().unwrap_or_else(|| unreachable!("as many as there are frames"));
                    step.advance(piece.len() as u64);
                    reading.piece(part, executable, &piece, first, last, taker).context(|| part.path.clone())
                },
            )?;
        }
        self.end()?;
        step.done();
        Ok(())
    }

    /// Runs of parts that are wanted: those between are not even read.
    fn runs(&self, parts: &[(&Part, bool, &[Frame])], taker: &mut (impl Taker + ?Sized)) -> Result<Vec<std::ops::Range<usize>>> {
        let mut runs: Vec<std::ops::Range<usize>> = Vec::new();
        for (number, (part, ..)) in parts.iter().enumerate() {
            if !taker.wants(part)? {
                continue;
            }
            match runs.last_mut().filter(|run| run.end == number) {
                Some(run) => run.end = number + 1,
                None => runs.push(number..number + 1),
            }
        }
        Ok(runs)
    }

    fn end(&self) -> Result<()> {
        let Some(last) = self.frames.last() else { return Ok(()) };
        let mut packed = vec![0; last.packed as usize];
        exactly(&self.file, &mut packed, last.offset)?;
        match frames::unpack(&packed, last.size)?.iter().all(|byte| *byte == 0) {
            true => Ok(()),
            false => Err(damaged("its end is damaged")),
        }
    }

    /// The content of one small part.
    pub fn small(&self, path: &str, pace: Pace) -> Result<Option<Vec<u8>>> {
        struct One<'a>(&'a str, Option<Vec<u8>>);
        impl Taker for One<'_> {
            fn wants(&mut self, part: &Part) -> Result<bool> {
                Ok(part.path == self.0)
            }
            fn begin(&mut self, _: &Part, _: bool) -> Result<()> {
                self.1 = Some(Vec::new());
                Ok(())
            }
            fn content(&mut self, piece: &[u8]) -> Result<()> {
                self.1.get_or_insert_default().extend(piece);
                Ok(())
            }
            fn end(&mut self, _: &Part) -> Result<()> {
                Ok(())
            }
        }
        let mut one = One(path, None);
        self.read(&mut one, path, pace)?;
        Ok(one.1)
    }
}

/// A part on its way.
#[derive(Default)]
struct Reading {
    hashing: Option<Hashing<std::io::Sink>>,
}

impl Reading {
    fn piece(
        &mut self,
        part: &Part,
        executable: bool,
        piece: &[u8],
        first: bool,
        last: bool,
        taker: &mut (impl Taker + ?Sized),
    ) -> Result<()> {
        let mut content = piece;
        if first {
            let header = header(part, executable)?;
            content = piece.strip_prefix(&header[..]).ok_or_else(|| damaged("its header is damaged"))?;
            self.hashing = None;
            taker.begin(part, executable)?;
        }
        let hashing = self.hashing.get_or_insert_with(|| Hashing::new(std::io::sink()));
        if last {
            let left = usize::try_from(part.size - hashing.passed()).unwrap_or(usize::MAX);
            let (own, padding) = content.split_at_checked(left).ok_or_else(|| damaged("it is cut short"))?;
            if padding.iter().any(|byte| *byte != 0) {
                return Err(damaged("what is behind it is damaged"));
            }
            content = own;
        }
        hashing.write_all(content)?;
        taker.content(content)?;
        if last {
            let found = self.hashing.take().map(|hashing| hashing.digest());
            if found != Some(part.sha256) {
                return Err(damaged("it is damaged")
                    .detail(format!("expected sha256 {}", part.sha256))
                    .detail(format!("found    sha256 {}", found.map(|found| found.to_string()).unwrap_or_default())));
            }
            taker.end(part)?;
        }
        Ok(())
    }
}

/// The content of a frame that holds one small part, which has to be `path`; nothing where it is another.
fn entry(file: &fs_err::File, frame: Option<&Frame>, path: &str, longest: u32) -> Result<Option<Vec<u8>>> {
    let Some(frame) = frame.filter(|frame| frame.size >= 512) else { return Ok(None) };
    if frame.size > longest || frame.packed > longest {
        return Ok(None);
    }
    let mut packed = vec![0; frame.packed as usize];
    exactly(file, &mut packed, frame.offset)?;
    let bytes = frames::unpack(&packed, frame.size)?;
    let size = std::str::from_utf8(&bytes[124..135]).ok().and_then(|digits| u64::from_str_radix(digits, 8).ok());
    let part = Part { path: path.to_owned(), size: size.unwrap_or(u64::MAX >> 8), sha256: Digest::of([]) };
    let named = bytes.starts_with(path.as_bytes()) && bytes[path.len()] == 0;
    if !named {
        return Ok(None);
    }
    let wrong = || damaged(format!("{path} is damaged"));
    if length(part.size) != bytes.len() as u64 || header(&part, false)? != bytes[..512] {
        return Err(wrong());
    }
    let (content, padding) = bytes[512..].split_at(part.size as usize);
    match padding.iter().all(|byte| *byte == 0) {
        true => Ok(Some(content.to_vec())),
        false => Err(wrong()),
    }
}

/// Fills a buffer from an offset.
pub fn exactly(file: &fs_err::File, buffer: &mut [u8], at: u64) -> Result<()> {
    file.file().read_exact_at(buffer, at).map_err(|error| match error.kind() {
        std::io::ErrorKind::UnexpectedEof => damaged("it is cut short"),
        _ => Error::from(error).context("reading the bundle"),
    })
}
