//! zstd's seekable format (contrib/seekable_format of zstd, version 0.1.0): frames that stand alone, and behind them a table of
//! their lengths in a frame that every reader of zstd skips. And the threads that pack and unpack them, whose results come in order.

use std::collections::BTreeMap;
use std::io::Write;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use images::{Class, Context, Error, Result};
use zstd::zstd_safe::{CParameter, find_frame_compressed_size};

use super::damaged;

/// What a frame holds at most, bytes; the list's may be longer.
pub const FRAME: usize = 4 << 20;
/// Packs as `zstd -3` does.
const LEVEL: i32 = 3;
/// How many frames for each thread may wait for their turn.
const AHEAD: usize = 3;

const SKIPPABLE: u32 = 0x184D_2A5E;
const SEEKABLE: u32 = 0x8F92_EAB1;
/// Number of frames, descriptor, magic number.
const FOOTER: usize = 9;
/// Two lengths.
const ENTRY: usize = 8;

/// A frame in the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frame {
    /// Where it begins, bytes.
    pub offset: u64,
    /// Its length in the file, bytes.
    pub packed: u32,
    /// Its content's length, bytes.
    pub size: u32,
}

/// Packs one frame. The same bytes give the same frame: the compressor is Cargo.lock's, and no thread shares one.
pub fn pack(content: &[u8]) -> Result<Vec<u8>> {
    let mut compressor = zstd::bulk::Compressor::new(LEVEL)?;
    compressor.set_parameter(CParameter::ChecksumFlag(true))?;
    Ok(compressor.compress(content)?)
}

/// Unpacks one frame whose content is `size` bytes long.
pub fn unpack(packed: &[u8], size: u32) -> Result<Vec<u8>> {
    // Behind a frame another one could hide, or one that is skipped.
    let whole = find_frame_compressed_size(packed).is_ok_and(|length| length == packed.len());
    // A frame that says another length than the table does, or none.
    let tells = zstd::zstd_safe::get_frame_content_size(packed).is_ok_and(|told| told == Some(u64::from(size)));
    if !whole || !tells {
        return Err(damaged("a frame is damaged"));
    }
    let content = zstd::bulk::decompress(packed, size as usize).map_err(|error| damaged(format!("a frame is damaged: {error}")))?;
    match content.len() == size as usize {
        true => Ok(content),
        false => Err(damaged("a frame has another length than the table says")),
    }
}

/// The seek table, as the last frame of the file.
pub fn table(frames: &[(u32, u32)]) -> Result<Vec<u8>> {
    let number = u32::try_from(frames.len()).ok().filter(|number| *number < 1 << 27);
    let number = number.ok_or_else(|| Error::new(Class::Build, format!("{} frames are more than a bundle holds", frames.len())))?;
    let mut bytes = Vec::with_capacity(8 + frames.len() * ENTRY + FOOTER);
    bytes.extend(SKIPPABLE.to_le_bytes());
    bytes.extend((number * ENTRY as u32 + FOOTER as u32).to_le_bytes());
    for (packed, size) in frames {
        bytes.extend(packed.to_le_bytes());
        bytes.extend(size.to_le_bytes());
    }
    bytes.extend(number.to_le_bytes());
    bytes.push(0);
    bytes.extend(SEEKABLE.to_le_bytes());
    Ok(bytes)
}

/// Reads the table of a file of `length` bytes through `read`, which fills a buffer from an offset.
pub fn read_table(length: u64, read: impl Fn(&mut [u8], u64) -> Result<()>) -> Result<Vec<Frame>> {
    let cut = || damaged("it is cut short, or no bundle: its table is missing");
    let at = length.checked_sub(FOOTER as u64).ok_or_else(cut)?;
    let mut footer = [0; FOOTER];
    read(&mut footer, at)?;
    let word = |bytes: &[u8]| u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
    if word(&footer[5..]) != SEEKABLE {
        return Err(cut());
    }
    let wrong = || damaged("its table is damaged");
    if footer[4] != 0 {
        return Err(wrong());
    }
    let number = u64::from(word(&footer));
    let start = at.checked_sub(number * ENTRY as u64 + 8).ok_or_else(wrong)?;
    let mut bytes = vec![0; usize::try_from(at - start).map_err(|_| wrong())?];
    read(&mut bytes, start)?;
    let (head, entries) = bytes.split_at(8);
    if word(head) != SKIPPABLE || u64::from(word(&head[4..])) != number * ENTRY as u64 + FOOTER as u64 {
        return Err(wrong());
    }
    let mut offset = 0_u64;
    let frames: Vec<Frame> = entries
        .chunks_exact(ENTRY)
        .map(|entry| {
            let frame = Frame { offset, packed: word(entry), size: word(&entry[4..]) };
            offset += u64::from(frame.packed);
            frame
        })
        .collect();
    match offset == start {
        true => Ok(frames),
        false => Err(wrong()),
    }
}

/// Works on jobs in several threads, and hands the results to `take` in the jobs' order, on this thread. Jobs are drawn by one thread
/// at a time, no further ahead than there is room for. The first error ends it.
pub fn in_order<J: Send, O: Send>(
    threads: usize,
    jobs: impl Iterator<Item = Result<J>> + Send,
    work: impl Fn(J) -> Result<O> + Sync,
    mut take: impl FnMut(O) -> Result<()>,
) -> Result<()> {
    let threads = threads.max(1);
    let line = Line { state: Mutex::new(Waiting::default()), changed: Condvar::new(), room: threads * AHEAD };
    let jobs = Mutex::new(jobs.enumerate());
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                // However this thread ends, nobody waits for it.
                let _left = Leaving(&line);
                while let Some((index, job)) = line.draw(&jobs) {
                    line.put(index, job.and_then(&work));
                }
            });
        }
        let mut result = Ok(());
        while let Some(next) = line.next(threads) {
            result = next.and_then(&mut take);
            if result.is_err() {
                break;
            }
        }
        line.stop();
        result
    })
}

struct Line<O> {
    state: Mutex<Waiting<O>>,
    changed: Condvar,
    room: usize,
}

struct Waiting<O> {
    ready: BTreeMap<usize, Result<O>>,
    handed: usize,
    left: usize,
    stopped: bool,
}

impl<O> Default for Waiting<O> {
    fn default() -> Self {
        Waiting { ready: BTreeMap::new(), handed: 0, left: 0, stopped: false }
    }
}

struct Leaving<'a, O>(&'a Line<O>);

impl<O> Drop for Leaving<'_, O> {
    fn drop(&mut self) {
        self.0.lock().left += 1;
        self.0.changed.notify_all();
    }
}

impl<O> Line<O> {
    fn lock(&self) -> MutexGuard<'_, Waiting<O>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The next job; nothing where there is none, or nobody wants it any more.
    fn draw<J>(&self, jobs: &Mutex<impl Iterator<Item = (usize, J)>>) -> Option<(usize, J)> {
        let mut jobs = jobs.lock().unwrap_or_else(PoisonError::into_inner);
        let mut state = self.lock();
        while !state.stopped && state.ready.len() >= self.room {
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        let stopped = state.stopped;
        drop(state);
        if stopped { None } else { jobs.next() }
    }

    fn put(&self, index: usize, result: Result<O>) {
        self.lock().ready.insert(index, result);
        self.changed.notify_all();
    }

    fn next(&self, threads: usize) -> Option<Result<O>> {
        let mut state = self.lock();
        loop {
            let wanted = state.handed;
            if let Some(found) = state.ready.remove(&wanted) {
                state.handed += 1;
                self.changed.notify_all();
                return Some(found);
            }
            if state.left == threads {
                // A thread that panicked has left a hole; the scope panics with it.
                return None;
            }
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn stop(&self) {
        self.lock().stopped = true;
        self.changed.notify_all();
    }
}

/// Counts what is written, and keeps the lengths of frames.
pub struct Writing<W> {
    out: W,
    frames: Vec<(u32, u32)>,
}

impl<W: Write> Writing<W> {
    /// Writes to `out`.
    pub fn new(out: W) -> Self {
        Writing { out, frames: Vec::new() }
    }

    /// A frame that is packed already.
    pub fn frame(&mut self, packed: &[u8], size: usize) -> Result<()> {
        let length = |bytes: usize| u32::try_from(bytes).map_err(|_| Error::new(Class::Build, "a frame is too long"));
        self.frames.push((length(packed.len())?, length(size)?));
        self.out.write_all(packed).context(|| "writing the bundle")
    }

    /// Frames of another file, whose bytes `copy` writes.
    pub fn frames(&mut self, frames: &[Frame], copy: impl FnOnce(&mut W) -> Result<()>) -> Result<()> {
        self.frames.extend(frames.iter().map(|frame| (frame.packed, frame.size)));
        copy(&mut self.out)
    }

    /// Writes the table.
    pub fn finish(mut self) -> Result<()> {
        let table = table(&self.frames)?;
        self.out.write_all(&table).and_then(|()| self.out.flush()).context(|| "writing the bundle")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_come_in_order_from_any_number_of_threads_and_the_first_error_ends_it() {
        for threads in [1, 2, 5] {
            let mut seen = Vec::new();
            let jobs = (0..200_u64).map(Ok);
            // Early jobs take longest.
            let work = |job: u64| Ok((job, (0..(200 - job) * 500).fold(0_u64, |sum, one| sum.wrapping_mul(31).wrapping_add(one))));
            in_order(threads, jobs, work, |(job, _)| {
                seen.push(job);
                Ok(())
            })
            .unwrap();
            assert_eq!(seen, (0..200).collect::<Vec<_>>());
            let mut last = 0;
            let error = in_order(
                threads,
                (0..200).map(|job| if job == 150 { Err(Error::new(Class::Build, "the 150th")) } else { Ok(job) }),
                Ok,
                |job| {
                    last = job;
                    Ok(())
                },
            );
            assert_eq!((error.unwrap_err().message(), last), ("the 150th", 149));
            let error = in_order(threads, (0..).map(Ok), Ok, |job| match job {
                7 => Err(Error::new(Class::Build, "enough")),
                _ => Ok(()),
            });
            assert_eq!(error.unwrap_err().message(), "enough");
        }
    }

    #[test]
    fn a_table_is_read_as_it_was_written_and_no_other() {
        let lengths = [(10, 20), (7, 7), (1, 0)];
        let mut file = vec![0; 18];
        file.extend(table(&lengths).unwrap());
        let read = |file: &[u8]| {
            let read = |buffer: &mut [u8], at: u64| {
                buffer.copy_from_slice(&file[usize::try_from(at).unwrap()..][..buffer.len()]);
                Ok(())
            };
            read_table(file.len() as u64, read)
        };
        let frames = read(&file).unwrap();
        assert_eq!(frames.iter().map(|frame| (frame.packed, frame.size)).collect::<Vec<_>>(), lengths);
        assert_eq!(frames[2].offset, 17);
        for short in 0..file.len() {
            assert_eq!(read(&file[..short]).unwrap_err().class(), Class::HashMismatch, "{short} bytes");
        }
        // Every bit outside of the frames' contents' lengths, which the list tells.
        for at in 18..file.len() {
            for bit in 0..8 {
                let mut flipped = file.clone();
                flipped[at] ^= 1 << bit;
                let told = read(&flipped);
                let is_size = (26..50).contains(&at) && (at - 26) % ENTRY >= 4;
                assert_eq!(told.is_ok_and(|found| found != frames), is_size, "bit {bit} of byte {at}");
            }
        }
    }

    #[test]
    fn nothing_hides_behind_a_frame() {
        let content = b"one part of a bundle".repeat(100);
        let size = u32::try_from(content.len()).unwrap();
        let packed = pack(&content).unwrap();
        assert_eq!(unpack(&packed, size).unwrap(), content);
        let skipped = [&0x184D_2A50_u32.to_le_bytes()[..], &3_u32.to_le_bytes(), b"abc"].concat();
        for hidden in [&skipped[..], &pack(b"").unwrap(), b"\0"] {
            assert!(unpack(&[&packed, hidden].concat(), size).is_err());
            assert!(unpack(&[hidden, &packed].concat(), size).is_err());
        }
        assert!(unpack(&packed, size - 1).is_err() && unpack(&packed, size + 1).is_err());
        assert!(unpack(&packed[..packed.len() - 1], size).is_err());
    }
}
