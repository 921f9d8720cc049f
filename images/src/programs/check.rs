//! What a built program has to be before it may go into an image.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use object::elf;
use object::read::elf::{Dyn as _, FileHeader as _, ProgramHeader as _};

use crate::error::{Class, Error, Result};

type Header = elf::FileHeader64<object::Endianness>;

/// A static-pie: position-independent, without interpreter and without libraries.
pub(super) fn is_static_pie(bytes: &[u8]) -> Result<()> {
    let wrong = |found: &str| {
        Err(Error::new(Class::Build, "the executable is not a static-pie")
            .detail("expected a position-independent ELF file for x86-64 without interpreter and libraries")
            .detail(format!("found {found}")))
    };
    let read = || -> object::Result<Option<&'static str>> {
        let header = Header::parse(bytes)?;
        let endian = header.endian()?;
        if header.e_machine(endian) != elf::EM_X86_64 || header.e_type(endian) != elf::ET_DYN {
            return Ok(Some("another machine or a fixed address"));
        }
        let mut pie = false;
        for segment in header.program_headers(endian, bytes)? {
            if segment.p_type(endian) == elf::PT_INTERP {
                return Ok(Some("an interpreter"));
            }
            for entry in segment.dynamic(endian, bytes)?.unwrap_or_default() {
                if entry.d_tag(endian) == elf::DT_NEEDED {
                    return Ok(Some("a needed library"));
                }
                pie |= entry.d_tag(endian) == elf::DT_FLAGS_1 && entry.d_val(endian) & elf::DF_1_PIE.0 != 0;
            }
        }
        Ok((!pie).then_some("a shared library or a fixed address"))
    };
    match read() {
        Ok(None) => Ok(()),
        Ok(Some(found)) => wrong(found),
        Err(error) => wrong(&format!("no ELF file: {error}")),
    }
}

/// None of `paths` stands in the executable: `env!("CARGO_MANIFEST_DIR")` and its like escape every remapping.
pub(super) fn names_no_host_path(bytes: &[u8], paths: &[PathBuf]) -> Result<()> {
    let remapped = ["/src", "/dep", "/out", "/rustc"];
    for path in paths.iter().filter(|path| !remapped.iter().any(|short| path.starts_with(short))) {
        // With the slash after it, so that a short path does not match by chance.
        let mut needle = path.as_os_str().as_encoded_bytes().to_vec();
        needle.push(b'/');
        if needle.len() > 2 && bytes.windows(needle.len()).any(|window| window == needle) {
            return Err(Error::new(Class::Build, format!("the executable names {}, a path of this machine", path.display()))
                .hint("env!(\"CARGO_MANIFEST_DIR\") and env!(\"OUT_DIR\") as values may not stand in a program of an image"));
        }
    }
    Ok(())
}

/// Every source that the compiler read is one that the key covers. `dep_info` is the makefile rule that cargo writes
/// beside the executable; it names the files of workspace crates, those of `include_str!` too.
pub(super) fn sources_are_covered(dep_info: &str, workspace: &Path, made: &Path, covered: &BTreeSet<PathBuf>) -> Result<()> {
    for file in makefile_prerequisites(dep_info) {
        let Ok(relative) = file.strip_prefix(workspace) else { continue };
        if !file.starts_with(made) && !covered.contains(relative) {
            return Err(Error::new(Class::Build, format!("it is compiled from {}, which its key does not cover", relative.display()))
                .hint("what a program embeds has to lie in the src folder of its crate"));
        }
    }
    Ok(())
}

fn makefile_prerequisites(rules: &str) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for line in rules.lines() {
        let Some((_, list)) = line.split_once(": ") else { continue };
        let mut file = String::new();
        for word in list.split(' ') {
            match word.strip_suffix('\\') {
                Some(start) => file = file + start + " ",
                None => files.push(PathBuf::from(std::mem::take(&mut file) + word)),
            }
        }
    }
    files
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_executable_of_the_host_is_refused() {
        let own = fs_err::read(std::env::current_exe().expect("a running test")).expect("readable");
        let error = is_static_pie(&own).expect_err("linked by the host's cc").to_string();
        assert!(error.contains("found an interpreter"), "{error}");
        let error = is_static_pie(b"#!/bin/sh").expect_err("a script").to_string();
        assert!(error.contains("found no ELF file"), "{error}");
    }

    #[test]
    fn a_path_of_the_host_is_found_and_a_remapped_one_is_not_meant() {
        let bytes = b"\0panicked at /home/me/project/src/main.rs /src/main.rs\0";
        let error = names_no_host_path(bytes, &["/home/me/project".into()]).expect_err("it is there").to_string();
        assert!(error.contains("names /home/me/project, a path of this machine"), "{error}");
        names_no_host_path(bytes, &["/src".into(), "/home/you".into(), "/".into(), "".into()]).expect("none of them is there");
    }

    #[test]
    fn a_source_outside_of_the_key_is_refused() {
        let covered = BTreeSet::from([PathBuf::from("images/a b/src/main.rs")]);
        let check = |rule: &str| sources_are_covered(rule, Path::new("/w"), Path::new("/w/target"), &covered);
        check("/w/target/x: /w/images/a\\ b/src/main.rs /w/target/out/gen.rs /usr/include/x\n").expect("all covered");
        let error = check("/w/target/x: /w/images/a\\ b/src/main.rs /w/images/a\\ b/image.toml").expect_err("not covered").to_string();
        assert!(error.contains("compiled from images/a b/image.toml"), "{error}");
    }
}
