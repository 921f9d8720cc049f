//! `.deb` → control and entries (deb(5), Debian policy 5.6 and 6.1): an ar archive of three members, read as a stream.
//! Nothing is unpacked to disk and nothing is run.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read};

use crate::entry::{self, Entry, Limited};
use crate::error::{Class, Context, Error, Result};

/// The most bytes that a control archive may unpack to. Real ones stay under 2 MiB.
const CONTROL_LIMIT: u64 = 16 << 20;

/// Data members above this size are decoded by two threads, block by block. Smaller ones are started early instead, beside
/// others (`conveyor.rs`), which costs less: a decoder of several threads holds whole blocks of 24 MiB.
const LARGE_MEMBER: u64 = 20 << 20;

/// The names under which dpkg runs something at installation, removal or configuration.
pub const SCRIPTS: [&str; 5] = ["config", "postinst", "postrm", "preinst", "prerm"];

/// What a package says of itself.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Control {
    /// The `control` file.
    pub control: String,
    /// The `md5sums` file: two spaces between sum and path.
    pub md5sums: String,
    /// Maintainer scripts by name.
    pub scripts: BTreeMap<String, Vec<u8>>,
}

impl Control {
    /// A field of the `control` file, its first line.
    pub fn field(&self, name: &str) -> Option<&str> {
        self.control.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':').map(str::trim))
    }
}

/// A package whose data has not been read yet.
pub struct Deb<R> {
    /// What it says of itself.
    pub control: Control,
    /// When it was built, seconds since 1970: the time that dpkg-deb writes into the archive, which is the changelog's.
    pub time: u64,
    data: Member,
    reader: R,
}

struct Member {
    name: String,
    time: u64,
    size: u64,
}

impl<R: Read> Deb<R> {
    /// Reads up to the data member.
    pub fn open(mut reader: R) -> Result<Self> {
        let mut magic = [0; 8];
        read_exactly(&mut reader, &mut magic, "the archive's magic")?;
        if &magic != b"!<arch>\n" {
            return Err(not_a_deb("it does not begin with \"!<arch>\""));
        }
        let version = member(&mut reader)?;
        if version.name != "debian-binary" || version.size > 64 {
            return Err(not_a_deb(&format!("its first member is {:?}, not \"debian-binary\"", version.name)));
        }
        let text = content(&mut reader, &version)?;
        if !text.starts_with(b"2.") {
            return Err(not_a_deb(&format!("its format is {:?}, not 2.x", String::from_utf8_lossy(&text).trim())));
        }
        let control = member(&mut reader)?;
        if !control.name.starts_with("control.tar") || control.size > CONTROL_LIMIT {
            return Err(not_a_deb(&format!("its second member is {:?}, not \"control.tar\"", control.name)));
        }
        let bytes = content(&mut reader, &control)?;
        let control = parse_control(&bytes, &control.name).context(|| control.name.clone())?;
        let data = member(&mut reader)?;
        if !data.name.starts_with("data.tar") {
            return Err(not_a_deb(&format!("its third member is {:?}, not \"data.tar\"", data.name)));
        }
        Ok(Deb { control, time: version.time, data, reader })
    }

    /// Reads every entry of the data member and the archive to its end.
    pub fn entries(mut self, visit: &mut dyn FnMut(Entry, &mut dyn Read) -> Result<()>) -> Result<()> {
        let Member { name, size, .. } = &self.data;
        let mut member = (&mut self.reader).take(*size);
        let packed = BufReader::with_capacity(1 << 16, &mut member);
        let unpacked = Limited::new(decoder(packed, name, *size)?, entry::unpacked_limit(*size));
        entry::read_tar(unpacked, "", visit).context(|| name.clone())?;
        if member.limit() != 0 {
            return Err(not_a_deb(&format!("{} bytes of {name} are missing or do not belong to it", member.limit())));
        }
        let mut rest = [0; 64];
        let mut left = 0;
        // A member of odd length has one byte of padding; nothing follows.
        loop {
            match self.reader.read(&mut rest)? {
                0 => break,
                count => left += count,
            }
            if left > 1 {
                return Err(not_a_deb("there is data behind its last member"));
            }
        }
        Ok(())
    }
}

fn not_a_deb(why: &str) -> Error {
    Error::new(Class::Build, format!("not a Debian package: {why}"))
}

fn read_exactly(reader: &mut impl Read, buffer: &mut [u8], what: &str) -> Result<()> {
    reader.read_exact(buffer).map_err(|error| match error.kind() {
        std::io::ErrorKind::UnexpectedEof => not_a_deb(&format!("it ends inside {what}")),
        _ => Error::from(error),
    })
}

/// The next ar header: name 16, time 12, uid 6, gid 6, mode 8, size 10, two bytes of end mark.
fn member(reader: &mut impl Read) -> Result<Member> {
    let mut header = [0; 60];
    read_exactly(reader, &mut header, "a member's header")?;
    if &header[58..] != b"`\n" {
        return Err(not_a_deb("a member's header has no end mark"));
    }
    let text = |range: std::ops::Range<usize>| {
        std::str::from_utf8(&header[range]).map(str::trim).map_err(|_| not_a_deb("a member's header is not text"))
    };
    let number = |range: std::ops::Range<usize>| {
        let digits = text(range)?;
        digits.parse::<u64>().map_err(|_| not_a_deb(&format!("a member's header has {digits:?} for a number")))
    };
    Ok(Member { name: text(0..16)?.trim_end_matches('/').to_owned(), time: number(16..28)?, size: number(48..58)? })
}

fn content(reader: &mut impl Read, member: &Member) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let padded = member.size + member.size % 2;
    reader.take(padded).read_to_end(&mut bytes)?;
    if bytes.len() as u64 != padded {
        return Err(not_a_deb(&format!("it ends inside {}", member.name)));
    }
    bytes.truncate(usize::try_from(member.size).unwrap_or(usize::MAX));
    Ok(bytes)
}

/// Chooses the decoder by the member's name, as dpkg does.
fn decoder<'a>(packed: impl BufRead + 'a, name: &str, size: u64) -> Result<Box<dyn Read + 'a>> {
    let suffix = name.split_once(".tar").map_or("", |(_, suffix)| suffix);
    Ok(match suffix {
        "" => Box::new(packed),
        ".xz" => {
            let threads = if size > LARGE_MEMBER { 2 } else { 1 };
            let stream = xz_stream(threads).map_err(|error| Error::new(Class::Build, format!("cannot start the xz decoder: {error}")))?;
            Box::new(liblzma::bufread::XzDecoder::new_stream(packed, stream))
        }
        ".gz" => Box::new(flate2::bufread::GzDecoder::new(packed)),
        ".zst" => Box::new(zstd::stream::read::Decoder::with_buffer(packed)?),
        _ => return Err(not_a_deb(&format!("{name:?} is compressed in a way that Debian does not use"))),
    })
}

fn xz_stream(threads: u32) -> Result<liblzma::stream::Stream, liblzma::stream::Error> {
    // dpkg-deb's strongest level needs a dictionary of 64 MiB; whatever wants more is not from it.
    const MEMORY: u64 = 80 << 20;
    match threads {
        1 => liblzma::stream::Stream::new_stream_decoder(MEMORY, 0),
        _ => liblzma::stream::MtStreamBuilder::new().threads(threads).memlimit_threading(MEMORY).memlimit_stop(MEMORY).decoder(),
    }
}

fn parse_control(bytes: &[u8], name: &str) -> Result<Control> {
    let mut control = Control::default();
    let reader = Limited::new(decoder(bytes, name, 0)?, CONTROL_LIMIT);
    entry::read_tar(reader, "", &mut |entry, content| {
        let mut bytes = Vec::new();
        content.read_to_end(&mut bytes)?;
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).map_err(|_| not_a_deb(&format!("its {} is not UTF-8", entry.path)));
        match entry.path.as_str() {
            "control" => control.control = text(bytes)?,
            "md5sums" => control.md5sums = text(bytes)?,
            path if SCRIPTS.contains(&path) => {
                control.scripts.insert(path.to_owned(), bytes);
            }
            _ => {}
        }
        Ok(())
    })?;
    match control.field("Package") {
        Some(_) => Ok(control),
        None => Err(not_a_deb("its control file names no package")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::entry::Node;
    use crate::testing::{DebBuilder, Packing};

    fn read(bytes: &[u8]) -> Result<(Control, u64, Vec<Entry>)> {
        let deb = Deb::open(bytes)?;
        let (control, time) = (deb.control.clone(), deb.time);
        let mut entries = Vec::new();
        deb.entries(&mut |entry, _| {
            entries.push(entry);
            Ok(())
        })?;
        Ok((control, time, entries))
    }

    fn sample(packing: Packing) -> Vec<u8> {
        DebBuilder::new("sample", "1.0-1")
            .time(1_700_000_000)
            .packing(packing)
            .script("postinst", "#!/bin/sh\n")
            .file("usr/bin/sample", 0o755, b"hello")
            .build()
    }

    #[test]
    fn every_packing_of_debian_is_read() {
        for packing in [Packing::None, Packing::Gzip, Packing::Xz, Packing::Zstd] {
            let (control, time, entries) = read(&sample(packing)).expect("a good package");
            assert_eq!((control.field("Package"), control.field("Version"), time), (Some("sample"), Some("1.0-1"), 1_700_000_000));
            assert_eq!(control.scripts["postinst"], b"#!/bin/sh\n");
            assert!(control.md5sums.contains("  usr/bin/sample"));
            let file = entries.iter().find(|entry| entry.path == "usr/bin/sample").expect("its file");
            assert_eq!((&file.node, file.mode), (&Node::File { size: 5 }, 0o755));
        }
    }

    #[test]
    fn a_package_cut_anywhere_is_refused() {
        for packing in [Packing::None, Packing::Gzip, Packing::Xz, Packing::Zstd] {
            let whole = sample(packing);
            // The last byte may be padding, which an archive can do without.
            for length in (0..whole.len() - 1).step_by(7) {
                assert!(read(&whole[..length]).is_err(), "{packing:?} cut to {length} of {} bytes was taken", whole.len());
            }
        }
    }

    #[test]
    fn a_flipped_bit_in_an_xz_member_is_refused() {
        // gzip has bits that mean nothing (codes of symbols that do not occur), xz checks every byte.
        let whole = sample(Packing::Xz);
        for at in whole.len() - 24..whole.len() - 1 {
            let mut broken = whole.clone();
            broken[at] ^= 0x10;
            assert!(read(&broken).is_err(), "a flip at {at} was not noticed");
        }
    }

    #[test]
    fn what_is_not_a_package_is_named() {
        let whole = sample(Packing::Xz);
        for (bytes, wanted) in [
            (b"<html>proxy error</html>".to_vec(), "does not begin with"),
            ([&whole[..], b"trailing"].concat(), "behind its last member"),
            (String::from_utf8_lossy(&whole).replacen("debian-binary", "debian-bandit", 1).into_bytes(), "not \"debian-binary\""),
            (String::from_utf8_lossy(&whole[..140]).replacen("2.0\n", "3.0\n", 1).into_bytes(), "not 2.x"),
        ] {
            let error = read(&bytes).expect_err(wanted).to_string();
            assert!(error.contains(wanted), "expected {wanted:?} in {error}");
        }
    }

    #[test]
    fn a_bomb_is_stopped_by_the_packed_size() {
        let bomb = DebBuilder::new("bomb", "1").packing(Packing::Xz).file("zeros", 0o644, &vec![0; 64 << 20]).build();
        assert!(bomb.len() < 100_000);
        let error = read(&bomb).expect_err("a bomb").to_string();
        assert!(error.contains("far more than its size allows"), "{error}");
    }
}
