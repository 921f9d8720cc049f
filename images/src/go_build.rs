//! A Go program → the modules it was built from: what `go version -m` prints, read from the file alone.
//!
//! The linker writes them since Go 1.18 as two strings behind a magic of 14 bytes (Go's `debug/buildinfo`): the version of Go,
//! and lines such as `dep<TAB>path<TAB>version<TAB>sum`. Older programs hold pointers there, which only running them resolves.

use std::io::{Read, Seek};

use object::elf::{FileHeader64, PF_W, PT_LOAD};
use object::read::elf::{FileHeader, ProgramHeader, SectionHeader};
use object::{Endianness, ReadCache, ReadRef};

/// What stands in front of the strings, aligned to 16 bytes.
const MAGIC: &[u8] = b"\xff Go buildinf:";
/// Where the strings begin, bytes from the magic's begin.
const STRINGS: usize = 32;
/// Set in the byte behind the pointer size where strings follow, not pointers.
const INLINE: u8 = 2;
/// Marks of 16 bytes each stand around the lines.
const MARK: usize = 16;
/// No list of modules is longer; the largest servers have some 60 KiB.
const LONGEST: usize = 16 << 20;

/// What a Go program says of its making.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GoBuild {
    /// Such as `go1.24.4`.
    pub go: String,
    /// The main package's path.
    pub path: String,
    /// The module that the main package is in.
    pub main: Option<Module>,
    /// The modules that are compiled in, in the order of the file; where one is replaced, what replaces it.
    pub modules: Vec<Module>,
}

/// A Go module.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Module {
    /// Such as `github.com/lib/pq`.
    pub path: String,
    /// Such as `v1.10.9`; `(devel)` for what was built from a checkout.
    pub version: String,
    /// `h1:` and a sum over the module's files, as in `go.sum`; empty for a folder.
    pub sum: String,
}

/// Reads what a Go program says; `None` for every other file, and for programs of a Go before 1.18.
pub fn read(file: impl Read + Seek) -> Option<GoBuild> {
    let cache = ReadCache::new(file);
    let block = block(&cache)?;
    if block.get(15)? & INLINE == 0 {
        return None;
    }
    let (go, rest) = string(block.get(STRINGS..)?)?;
    let (lines, _) = string(rest)?;
    // Without its marks, which are there for who searches a running program's memory.
    let lines = lines.get(MARK..lines.len().checked_sub(MARK)?).unwrap_or_default();
    Some(parse(&String::from_utf8_lossy(go), &String::from_utf8_lossy(lines)))
}

/// From the magic on: the section of that name, else, where sections were stripped, the first data segment.
fn block<'a, R: ReadRef<'a>>(data: R) -> Option<&'a [u8]> {
    let header = FileHeader64::<Endianness>::parse(data).ok()?;
    let endian = header.endian().ok()?;
    let sections = header.sections(endian, data).ok();
    let named = sections.and_then(|sections| {
        let (_, section) = sections.section_by_name(endian, b".go.buildinfo")?;
        section.data(endian, data).ok()
    });
    if let Some(found) = named.and_then(from_magic) {
        return Some(found);
    }
    let segments = header.program_headers(endian, data).ok()?;
    let writable =
        |segment: &&object::elf::ProgramHeader64<Endianness>| segment.p_type(endian) == PT_LOAD && segment.p_flags(endian).0 & PF_W.0 != 0;
    segments.iter().filter(writable).find_map(|segment| from_magic(segment.data(endian, data).ok()?))
}

fn from_magic(data: &[u8]) -> Option<&[u8]> {
    let at = data.chunks(16).position(|chunk| chunk.starts_with(MAGIC))?;
    data.get(at * 16..)
}

/// A string of Go's `binary.PutUvarint` and its bytes, and what follows.
fn string(data: &[u8]) -> Option<(&[u8], &[u8])> {
    let (mut length, mut at) = (0_usize, 0);
    loop {
        let byte = *data.get(at)?;
        length |= usize::from(byte & 0x7f).checked_shl(u32::try_from(at).ok()? * 7)?;
        at += 1;
        if byte < 0x80 {
            break;
        }
        if at > 4 {
            return None;
        }
    }
    (length <= LONGEST).then_some(())?;
    Some((data.get(at..at + length)?, data.get(at + length..)?))
}

fn parse(go: &str, lines: &str) -> GoBuild {
    let mut build = GoBuild { go: go.to_owned(), ..GoBuild::default() };
    for line in lines.lines() {
        let mut fields = line.split('\t');
        let kind = fields.next().unwrap_or_default();
        let mut field = || fields.next().unwrap_or_default().to_owned();
        match kind {
            "path" => build.path = field(),
            "mod" => build.main = Some(Module { path: field(), version: field(), sum: field() }),
            "dep" => build.modules.push(Module { path: field(), version: field(), sum: field() }),
            "=>" => {
                let by = Module { path: field(), version: field(), sum: field() };
                // A folder's path says nothing elsewhere, and it has no version of its own: the module's name stays.
                let is_folder = by.path.starts_with(['.', '/']);
                match build.modules.last_mut() {
                    Some(last) if is_folder => last.sum.clear(),
                    Some(last) => *last = by,
                    None => {}
                }
            }
            _ => {}
        }
    }
    build
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test that cannot make its input may as well stop")]

    use super::*;

    const LINES: &str = "path\texample.org/app\nmod\texample.org/app\t(devel)\t\ndep\texample.org/one\tv1.2.3\th1:one=\n\
        dep\texample.org/two\tv2.0.0\th1:two=\n=>\texample.org/fork\tv2.0.1\th1:fork=\ndep\texample.org/here\tv0.0.0\th1:x=\n=>\t./here\t(devel)\t\n\
        build\tCGO_ENABLED=0\n";

    #[test]
    fn lines_become_modules_and_what_replaces_one_stands_in_its_place() {
        let build = parse("go1.24.4", LINES);
        let told: Vec<_> =
            build.modules.iter().map(|module| (module.path.as_str(), module.version.as_str(), module.sum.as_str())).collect();
        assert_eq!(
            told,
            [("example.org/one", "v1.2.3", "h1:one="), ("example.org/fork", "v2.0.1", "h1:fork="), ("example.org/here", "v0.0.0", "")]
        );
        assert_eq!((build.path.as_str(), build.main.unwrap().version.as_str()), ("example.org/app", "(devel)"));
    }

    #[test]
    fn strings_end_where_they_say_and_lengths_that_lie_are_no_strings() {
        assert_eq!(string(b"\x02abc").unwrap(), (&b"ab"[..], &b"c"[..]));
        let long = [&[0xc8, 0x01][..], &[b'x'; 200]].concat();
        assert_eq!(string(&long).unwrap().0.len(), 200);
        for lie in [&b"\x04abc"[..], b"", b"\x80", b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01"] {
            assert_eq!(string(lie), None, "{lie:?}");
        }
    }

    #[test]
    fn what_is_no_go_program_says_nothing() {
        assert_eq!(read(fs_err::File::open(std::env::current_exe().unwrap()).unwrap()), None);
        assert_eq!(read(std::io::Cursor::new(b"\xff Go buildinf:\x08\x02 and more than that, but no ELF file")), None);
    }
}
