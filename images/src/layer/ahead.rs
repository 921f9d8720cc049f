//! A file that another thread reads and hashes: inflating a release takes one thread all the time there is, and hashing
//! what it reads would hold it up by a sixth.

use std::io::{self, BufRead, Read};
use std::path::Path;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use crate::digest::{Digest, Hashing};
use crate::error::Result;

/// How much is handed over at once, bytes.
const CHUNK: usize = 256 << 10;

/// How many of these may wait.
const WAITING: usize = 8;

/// Calls `read` with the bytes of the file at `path`, and gives what it returned together with the digest of the whole file,
/// whether or not `read` went to its end.
pub(super) fn hashed<T>(path: &Path, read: impl FnOnce(&mut Ahead) -> Result<T>) -> Result<(Result<T>, Digest)> {
    let file = fs_err::File::open(path)?;
    let (give, take) = sync_channel(WAITING);
    std::thread::scope(|scope| {
        let reader = scope.spawn(|| read_all(file, give));
        let mut ahead = Ahead { chunks: take, chunk: Vec::new(), at: 0 };
        let result = read(&mut ahead);
        // Nobody takes chunks any more; the rest is hashed all the same.
        drop(ahead);
        let digest = reader.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
        Ok((result, digest))
    })
}

fn read_all(file: fs_err::File, give: SyncSender<Vec<u8>>) -> io::Result<Digest> {
    let mut hashing = Hashing::new(file);
    loop {
        let mut chunk = Vec::with_capacity(CHUNK);
        (&mut hashing).take(CHUNK as u64).read_to_end(&mut chunk)?;
        if chunk.is_empty() {
            return Ok(hashing.finish().1);
        }
        // An error says that nobody takes them.
        let _ = give.send(chunk);
    }
}

/// The bytes as they come. An error of the reading thread ends them; [`hashed`] returns it.
pub(super) struct Ahead {
    chunks: Receiver<Vec<u8>>,
    chunk: Vec<u8>,
    at: usize,
}

impl BufRead for Ahead {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if self.at == self.chunk.len() {
            (self.chunk, self.at) = (self.chunks.recv().unwrap_or_default(), 0);
        }
        Ok(&self.chunk[self.at..])
    }

    fn consume(&mut self, amount: usize) {
        self.at += amount;
    }
}

impl Read for Ahead {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let mut bytes = self.fill_buf()?;
        let count = bytes.read(buffer)?;
        self.consume(count);
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::{Class, Error};

    fn sample(length: usize) -> (tempfile::NamedTempFile, Vec<u8>) {
        let bytes: Vec<u8> = (0..length).map(|n| (n * n / 7) as u8).collect();
        let file = tempfile::NamedTempFile::new().expect("a file");
        fs_err::write(file.path(), &bytes).expect("written");
        (file, bytes)
    }

    #[test]
    fn every_byte_comes_once_and_in_order() {
        for length in [0, 1, CHUNK, 20 * CHUNK + 3] {
            let (file, bytes) = sample(length);
            let mut found = Vec::new();
            let (result, digest) = hashed(file.path(), |ahead| Ok(ahead.read_to_end(&mut found)?)).expect("read");
            assert_eq!((result.expect("a length"), &found), (length, &bytes));
            assert_eq!(digest, Digest::of(&bytes));
        }
    }

    #[test]
    fn the_whole_file_is_hashed_when_only_its_begin_is_read() {
        let (file, bytes) = sample(40 * CHUNK);
        let stop = |ahead: &mut Ahead| -> Result<()> {
            ahead.read_exact(&mut [0; 10])?;
            Err(Error::new(Class::Build, "enough"))
        };
        let (result, digest) = hashed(file.path(), stop).expect("read");
        assert_eq!(result.expect_err("the stop").message(), "enough");
        assert_eq!(digest, Digest::of(&bytes));
    }

    #[test]
    fn a_file_that_cannot_be_read_is_an_error_that_names_it() {
        let folder = tempfile::tempdir().expect("a folder");
        let error = hashed(folder.path(), |ahead| Ok(io::copy(ahead, &mut io::sink())?)).map(drop).expect_err("a folder");
        assert!(error.message().contains(&folder.path().display().to_string()), "{error}");
    }
}
