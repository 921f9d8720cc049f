//! Layers, compressed so that the same layer gives the same bytes: blocks of a fixed size, each compressed by itself.
//!
//! Threads take blocks, and the file has them in order, so that neither their number nor their luck shows. gzip has a member a
//! block and zstd a frame; both formats let readers take several as one. The bytes are those of the compressors that `Cargo.lock`
//! pins; a test holds them to what they were.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::sync::mpsc::sync_channel;
use std::sync::{Arc, Mutex};

use images::{Class, Error, Result};

/// Bytes of a layer in a block. Changing it changes every compressed digest.
const BLOCK: usize = 1 << 20;
/// gzip's usual level, and zstd's.
const LEVELS: (u32, i32) = (6, 3);

/// How layers are compressed in a registry.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Compression {
    /// Not at all: the registry's digest is the layout's.
    #[default]
    None,
    /// gzip, which everything reads.
    Gzip,
    /// zstd: smaller and faster; Docker 23 and containerd 1.5 on.
    Zstd,
}

impl Compression {
    /// What stands behind a layer's media type.
    pub fn suffix(self) -> &'static str {
        match self {
            Compression::None => "",
            Compression::Gzip => "+gzip",
            Compression::Zstd => "+zstd",
        }
    }

    fn block(self, bytes: &[u8]) -> std::io::Result<Vec<u8>> {
        match self {
            Compression::None => Ok(bytes.to_vec()),
            Compression::Gzip => {
                // Without a time and a name; as an unknown system.
                let mut out = flate2::GzBuilder::new().mtime(0).operating_system(255).write(Vec::new(), flate2::Compression::new(LEVELS.0));
                out.write_all(bytes)?;
                out.finish()
            }
            Compression::Zstd => zstd::bulk::compress(bytes, LEVELS.1),
        }
    }

    /// Compresses what `from` gives into `to`.
    pub fn stream(self, mut from: impl Read + Send, mut to: impl Write, threads: usize) -> Result<()> {
        let (give, blocks) = sync_channel::<(usize, Vec<u8>)>(threads);
        let (hand_back, done) = sync_channel::<(usize, std::io::Result<Vec<u8>>)>(threads);
        // Gone when the last worker is, so that the reader does not wait for nobody after an error.
        let blocks = Arc::new(Mutex::new(blocks));
        std::thread::scope(|scope| {
            for _ in 0..threads.max(1) {
                let (blocks, hand_back) = (Arc::clone(&blocks), hand_back.clone());
                scope.spawn(move || {
                    loop {
                        let next = blocks.lock().ok().and_then(|blocks| blocks.recv().ok());
                        let Some((number, block)) = next else { return };
                        if hand_back.send((number, self.block(&block))).is_err() {
                            return;
                        }
                    }
                });
            }
            drop((blocks, hand_back));
            let reader = scope.spawn(move || -> std::io::Result<()> {
                for number in 0.. {
                    let mut block = Vec::with_capacity(BLOCK);
                    (&mut from).take(BLOCK as u64).read_to_end(&mut block)?;
                    // An empty layer has one empty block: no bytes at all are neither gzip nor zstd.
                    if (block.is_empty() && number > 0) || give.send((number, block)).is_err() {
                        break;
                    }
                }
                Ok(())
            });
            let (mut waiting, mut next) = (BTreeMap::new(), 0);
            for (number, block) in done {
                waiting.insert(number, block?);
                while let Some(block) = waiting.remove(&next) {
                    to.write_all(&block)?;
                    next += 1;
                }
            }
            let read = reader.join().map_err(|_| Error::new(Class::Build, "the reader of a layer ended"))?;
            Ok(read?)
        })
    }
}

#[cfg(test)]
mod tests {
    use images::Digest;

    use super::*;

    /// Some text that repeats and some that does not, three blocks and a bit.
    fn sample() -> Vec<u8> {
        let mut state = 1_u32;
        let mut noise = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 24) as u8
        };
        (0..3 * BLOCK + 17)
            .map(|at| if at % 64 < 40 { b"a layer of an image holds names and zeros"[at % 41] } else { noise() & 15 })
            .collect()
    }

    fn packed(kind: Compression, threads: usize, bytes: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        kind.stream(bytes, &mut out, threads).unwrap();
        out
    }

    #[test]
    fn one_thread_and_four_give_the_same_bytes_and_others_read_them() {
        let sample = sample();
        for kind in [Compression::None, Compression::Gzip, Compression::Zstd] {
            let one = packed(kind, 1, &sample);
            assert!(one == packed(kind, 4, &sample), "{kind:?}");
            let mut read = Vec::new();
            match kind {
                Compression::None => read = one,
                Compression::Gzip => _ = flate2::read::MultiGzDecoder::new(&one[..]).read_to_end(&mut read).unwrap(),
                Compression::Zstd => _ = zstd::stream::read::Decoder::new(&one[..]).unwrap().read_to_end(&mut read).unwrap(),
            }
            assert!(read == sample, "{kind:?}");
            assert_eq!(packed(kind, 2, b"").is_empty(), kind == Compression::None);
        }
    }

    /// A compressor that moves moves every digest in every registry: look at it before it is blessed.
    #[test]
    fn the_compressors_are_those_that_they_were() {
        let digests = [Compression::Gzip, Compression::Zstd].map(|kind| Digest::of(packed(kind, 2, &sample())).to_string());
        let then = [
            "1e151769fd5312efebfeb13cb4340ff85979354c45a9e324995092427398e15b",
            "188b078896d191ecbc55993002daac49e756fffebcb1f0b48ec529e7a143d32c",
        ];
        assert_eq!(digests, then);
    }

    #[test]
    fn what_cannot_be_read_or_written_is_an_error() {
        struct Broken;
        impl Read for Broken {
            fn read(&mut self, _: &mut [u8]) -> std::io::Result<usize> {
                Err(std::io::Error::other("the disk"))
            }
        }
        impl Write for Broken {
            fn write(&mut self, _: &[u8]) -> std::io::Result<usize> {
                Err(std::io::Error::other("the disk"))
            }
            fn flush(&mut self) -> std::io::Result<()> {
                Ok(())
            }
        }
        assert!(Compression::Gzip.stream(Broken, Vec::new(), 2).unwrap_err().to_string().contains("the disk"));
        assert!(Compression::Zstd.stream(&sample()[..], Broken, 2).unwrap_err().to_string().contains("the disk"));
    }
}
