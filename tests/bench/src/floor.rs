//! The floor: what no builder can do without on this machine. Decode the same bytes on all cores, hash the layers once,
//! write them once; each measured alone, and their sum.

use std::io::{BufReader, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use images::oci::LayerRef;
use images::{Class, Error, Result};
use liblzma::bufread::XzDecoder;
use liblzma::stream::{MtStreamBuilder, Stream};
use serde::Serialize;
use sha2::Digest as _;
use xtask::process::Process;

use crate::ar;
use crate::inputs::{Bench, Material};
use crate::measure::Sample;

/// Members above this size may have several xz blocks, which several threads can decode.
const LARGE: u64 = 4 << 20;
const CHUNK: usize = 1 << 20;

/// What the machine needs at least.
#[derive(Clone, Debug, Serialize)]
pub struct Floor {
    /// Every member and the tarball, by the faster of the schedules.
    pub decode: Sample,
    /// Which schedule that was.
    pub schedule: &'static str,
    /// SHA-256 over the bytes of all layers, one thread.
    pub hash: Sample,
    /// Writing the same bytes to the same file system.
    pub write: Sample,
    /// Inflating the tarball with a decoder that holds all of it in memory, where one is installed. No part of the floor.
    pub whole_buffer: Option<Sample>,
}

impl Floor {
    /// The sum of the medians, seconds.
    pub fn seconds(&self) -> f64 {
        self.decode.median + self.hash.median + self.write.median
    }
}

struct Task {
    path: PathBuf,
    offset: u64,
    size: u64,
    suffix: String,
}

/// Measures, on the layers that lie in the layout.
pub fn measure(bench: &Bench, material: &Material, layers: &[LayerRef]) -> Result<Floor> {
    let mut tasks = Vec::new();
    for (_, path) in &material.packages {
        let member = ar::data_member(path)?;
        let suffix = member.name.trim_start_matches("data.tar").to_owned();
        tasks.push(Task { path: path.clone(), offset: member.offset, size: member.size, suffix });
    }
    if let Some(path) = &material.tarball {
        tasks.push(Task { path: path.clone(), offset: 0, size: fs_err::metadata(path)?.len(), suffix: ".gz".into() });
    }
    tasks.sort_by_key(|task| std::cmp::Reverse(task.size));
    let cores = std::thread::available_parallelism()?.get();
    let mut schedules = Vec::new();
    for (name, threads) in [("one thread a member, largest first", 1), ("all cores for each large member, largest first", cores)] {
        let sample = Sample::take(bench.runs, || Ok(()), |()| decode_all(&tasks, cores, u32::try_from(threads).unwrap_or(1)))?;
        schedules.push((sample, name));
    }
    let (decode, schedule) = schedules
        .into_iter()
        .min_by(|(a, _), (b, _)| a.median.total_cmp(&b.median))
        .ok_or_else(|| Error::new(Class::Build, "no schedule was measured"))?;
    let folder = bench.output.join("layout/blobs/sha256");
    let files: Vec<PathBuf> = layers.iter().map(|layer| folder.join(layer.digest.to_string())).collect();
    let (hash, write) = hash_and_write(&files, &bench.output, bench.runs)?;
    let whole_buffer = material.tarball.as_deref().and_then(|file| whole_buffer(bench, file).transpose()).transpose()?;
    Ok(Floor { decode, schedule, hash, write, whole_buffer })
}

fn decode_all(tasks: &[Task], cores: usize, threads_a_member: u32) -> Result<()> {
    let next = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        let work = || -> Result<()> {
            let mut buffer = vec![0; 256 << 10];
            while let Some(task) = tasks.get(next.fetch_add(1, Ordering::Relaxed)) {
                let mut reader = decoder(task, if task.size > LARGE { threads_a_member } else { 1 })?;
                while reader.read(&mut buffer)? > 0 {}
            }
            Ok(())
        };
        let workers: Vec<_> = (0..cores).map(|_| scope.spawn(work)).collect();
        workers.into_iter().try_for_each(|worker| worker.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
    })
}

fn decoder(task: &Task, threads: u32) -> Result<Box<dyn Read>> {
    let mut file = fs_err::File::open(&task.path)?;
    file.seek(SeekFrom::Start(task.offset))?;
    let packed = BufReader::with_capacity(1 << 16, file.take(task.size));
    let wrong = |error: liblzma::stream::Error| Error::new(Class::Build, format!("cannot start the xz decoder: {error}"));
    Ok(match (task.suffix.as_str(), threads) {
        (".xz", 1) => Box::new(XzDecoder::new_stream(packed, Stream::new_stream_decoder(u64::MAX, 0).map_err(wrong)?)),
        (".xz", _) => {
            let stream = MtStreamBuilder::new().threads(threads).memlimit_threading(1 << 30).memlimit_stop(u64::MAX).decoder();
            Box::new(XzDecoder::new_stream(packed, stream.map_err(wrong)?))
        }
        (".gz", _) => Box::new(flate2::bufread::MultiGzDecoder::new(packed)),
        (".zst", _) => Box::new(zstd::stream::read::Decoder::with_buffer(packed)?),
        (_, _) => Box::new(packed),
    })
}

/// Both of the same bytes. Reading them is in neither time: a builder has them in memory.
fn hash_and_write(files: &[PathBuf], folder: &Path, runs: usize) -> Result<(Sample, Sample)> {
    let (mut hashing, mut writing) = (Vec::new(), Vec::new());
    let target = folder.join("written");
    for _ in 0..runs {
        crate::measure::settle()?;
        let mut hasher = sha2::Sha256::new();
        let mut buffer = vec![0; CHUNK];
        let start = Instant::now();
        let mut out = fs_err::File::create(&target)?;
        let (mut hashed, mut written) = (0.0, start.elapsed().as_secs_f64());
        for file in files {
            let mut file = fs_err::File::open(file)?;
            loop {
                let count = file.read(&mut buffer)?;
                if count == 0 {
                    break;
                }
                let start = Instant::now();
                hasher.update(&buffer[..count]);
                let between = start.elapsed();
                out.write_all(&buffer[..count])?;
                hashed += between.as_secs_f64();
                written += (start.elapsed() - between).as_secs_f64();
            }
        }
        std::hint::black_box(hasher.finalize());
        drop(out);
        fs_err::remove_file(&target)?;
        hashing.push(hashed);
        writing.push(written);
    }
    Ok((Sample::of(hashing), Sample::of(writing)))
}

/// libdeflate inflates a whole file in memory. No builder of any size can do that, so it is told and not counted.
fn whole_buffer(bench: &Bench, file: &Path) -> Result<Option<Sample>> {
    let command = Process::new("sh", &bench.output).args(["-c", "exec libdeflate-gunzip -c \"$1\" >/dev/null", "sh"]).arg(file);
    if !crate::peers::is_here("libdeflate-gunzip") {
        return Ok(None);
    }
    Sample::take(bench.runs, || Ok(()), |()| command.capture().map(drop)).map(Some)
}
