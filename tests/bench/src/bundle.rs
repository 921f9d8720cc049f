//! The bundle: packing beside `zstd -3 -T0`, checking beside `sha256sum`, both over the same bytes; and what one new blob costs.

use std::path::Path;

use images::progress::Silent;
use images::{Class, Context, Digest, Error, Result};
use serde::Serialize;
use xtask::bundle::list::{BLOBS, FORMAT};
use xtask::bundle::read::Checking;
use xtask::bundle::write::{Content, write};
use xtask::bundle::{Bundle, List, Pace, Part, Trust};
use xtask::process::Process;

use crate::inputs::{Bench, built};
use crate::measure::Sample;
use crate::report::{judge, seconds};

/// What `--only` calls it.
pub const NAME: &str = "bundle";

/// The images whose blobs are packed.
const IMAGES: [&str; 2] = ["coturn", "postgres"];
/// Of zstd's speed.
const PACK_BAR: f64 = 0.8;
/// Of sha256sum's speed: no slower, but for what a start and a busy machine make of it.
const CHECK_BAR: f64 = 0.9;
/// Bytes that a successor has besides the one new blob.
const SINCE_BAR: u64 = 1 << 20;
/// As large as a plugin.
const PLUGIN: usize = 8 << 20;

/// What was measured.
#[derive(Clone, Debug, Serialize)]
pub struct Figures {
    /// Bytes of the parts.
    pub bytes: u64,
    /// Bytes of the bundle.
    pub packed: u64,
    /// What `bundle create` does with images that are there.
    pub pack: Sample,
    /// `zstd -3 -T0` over the same archive.
    pub zstd: Sample,
    /// Bytes that zstd makes of it.
    pub zstd_packed: u64,
    /// What `bundle verify` does.
    pub check: Sample,
    /// `sha256sum` over the same archive.
    pub sha256sum: Sample,
    /// Bytes of a successor with one new blob.
    pub since: u64,
    /// Bytes of that blob, which does not pack.
    pub new: u64,
}

impl Figures {
    /// For people.
    pub fn table(&self) -> String {
        let rate = |sample: &Sample| self.bytes as f64 / 1e6 / sample.median;
        let (pack, check) = (self.zstd.median / self.pack.median, self.sha256sum.median / self.check.median);
        let extra = self.since.saturating_sub(self.new);
        format!(
            "\n{NAME}: {:.1} MB of parts, {:.1} MB packed (zstd: {:.1} MB)\n  \
             packs in {}, {:.0} MB/s; zstd -3 -T0 in {}: {:.0} % of its speed ({})\n  \
             checks in {}, {:.0} MB/s; sha256sum in {}: {:.0} % of its speed ({})\n  \
             a successor with one new blob has {:.1} KB besides it ({})\n",
            self.bytes as f64 / 1e6,
            self.packed as f64 / 1e6,
            self.zstd_packed as f64 / 1e6,
            seconds(self.pack.median),
            rate(&self.pack),
            seconds(self.zstd.median),
            pack * 100.0,
            judge(pack >= PACK_BAR, "80 %"),
            seconds(self.check.median),
            rate(&self.check),
            seconds(self.sha256sum.median),
            check * 100.0,
            judge(check >= CHECK_BAR, "its speed, less a tenth"),
            extra as f64 / 1e3,
            judge(extra < SINCE_BAR, "1 MiB"),
        )
    }
}

/// Measures with the blobs of real images.
pub fn measure(bench: &Bench) -> Result<Figures> {
    let layout = bench.empty("bundle")?.join("images");
    for name in IMAGES {
        built(&bench.image(name, &layout))?;
    }
    let blobs = layout.join("blobs/sha256");
    let mut files = Vec::new();
    for entry in fs_err::read_dir(&blobs)? {
        files.push(entry?.path());
    }
    files.sort();
    let mut parts = Vec::new();
    for file in &files {
        parts.push(part(file)?);
    }
    let contents: Vec<Content> = files.iter().cloned().map(Content::File).collect();
    let list = list(parts, None, Vec::new());
    let at = |name: &str| layout.with_file_name(name);
    let (path, plain, zstd) = (at("bundle.tar.zst"), at("plain.tar"), at("zstd.tar.zst"));
    let pace = Pace { threads: std::thread::available_parallelism()?.get(), progress: &Silent };

    write(&path, &list, &contents, pace)?;
    let mut out = fs_err::File::create(&plain)?;
    zstd::stream::copy_decode(fs_err::File::open(&path)?, &mut out).context(|| "unpacking the bundle")?;
    let pack = Sample::take(bench.runs, || Ok(()), |()| write(&path, &list, &contents, pace))?;
    let peer = Process::new("zstd", "/").args(["-3", "-T0", "--quiet", "--force"]).arg(&plain).arg("-o").arg(&zstd);
    let peer = peer.fails_as(Class::MissingTool);
    let zstd_time = Sample::take(bench.runs, || Ok(()), |()| peer.capture().map(drop))?;
    let check = Sample::take(bench.runs, || Ok(()), |()| Bundle::open(&path, &Trust::Anybody)?.read(&mut Checking, "", pace))?;
    let sum = Process::new("sha256sum", "/").arg(&plain);
    let sha256sum = Sample::take(bench.runs, || Ok(()), |()| sum.capture().map(drop))?;

    let plugin = at("plugin");
    fs_err::write(&plugin, noise())?;
    let next = self::list(vec![part(&plugin)?], Some(list.id()), list.parts.clone());
    let successor = at("successor.tar.zst");
    write(&successor, &next, &[Content::File(plugin)], pace)?;
    let length = |path: &Path| -> Result<u64> { Ok(fs_err::metadata(path)?.len()) };
    Ok(Figures {
        bytes: length(&plain)?,
        packed: length(&path)?,
        pack,
        zstd: zstd_time,
        zstd_packed: length(&zstd)?,
        check,
        sha256sum,
        since: length(&successor)?,
        new: PLUGIN as u64,
    })
}

fn part(file: &Path) -> Result<Part> {
    let part = Content::File(file.to_owned()).part("")?;
    Ok(Part { path: format!("{BLOBS}{}", part.sha256), ..part })
}

fn list(parts: Vec<Part>, since: Option<Digest>, earlier: Vec<Part>) -> List {
    List {
        format: FORMAT,
        version: env!("CARGO_PKG_VERSION").into(),
        source: None,
        ca: None,
        since,
        images: Vec::new(),
        parts,
        earlier,
        program: None,
    }
}

/// Bytes that do not pack.
fn noise() -> Vec<u8> {
    let block = |number: usize| Digest::of(number.to_le_bytes()).to_string().into_bytes();
    let hex = |pair: &[u8]| std::str::from_utf8(pair).ok().and_then(|pair| u8::from_str_radix(pair, 16).ok()).unwrap_or_default();
    (0..PLUGIN / 32).flat_map(|number| block(number).chunks(2).map(hex).collect::<Vec<_>>()).collect()
}

/// Where a tool is missing that it is compared with.
pub fn possible() -> Result<()> {
    let missing = |_| Error::new(Class::MissingTool, "zstd is not on this machine").hint("apt-get install zstd");
    Process::new("zstd", "/").arg("--version").capture().map(drop).map_err(missing)
}
