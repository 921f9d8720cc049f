//! Proves that every library an ELF file needs is in the tree (ELF gABI, "Dynamic Section"; ld.so(8)).
//!
//! This replaces trust in Depends: what is cut from a closure by hand would otherwise be missed by the dynamic linker
//! in production, at the first start.

use std::io::{Read, Seek};

use object::elf::{DT_NEEDED, DT_RPATH, DT_RUNPATH, ELFCLASS64, EM_X86_64, ET_DYN, ET_EXEC, FileHeader64, PT_INTERP};
use object::read::elf::{Dyn, FileHeader, ProgramHeader};
use object::{Endianness, ReadCache, ReadRef};
use serde::{Deserialize, Serialize};

use crate::entry::{self, Node};
use crate::error::{Class, Error, Result};
use crate::tree::Tree;

/// Where the dynamic linker of Debian's amd64 looks without being told.
const DEFAULT_FOLDERS: [&str; 4] = ["lib/x86_64-linux-gnu", "usr/lib/x86_64-linux-gnu", "lib", "usr/lib"];

/// What the dynamic linker reads of a file.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Dynamic {
    /// Names of needed libraries.
    pub needed: Vec<String>,
    /// Folders of `DT_RUNPATH`, else `DT_RPATH`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub search: Vec<String>,
    /// The program's interpreter.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub interpreter: Option<String>,
}

/// Reads the dynamic section; `None` for what is no 64-bit x86 ELF program or library, or has no such section.
pub fn dynamic(file: impl Read + Seek) -> Option<Dynamic> {
    let cache = ReadCache::new(file);
    read(&cache)
}

fn read<'a, R: ReadRef<'a>>(data: R) -> Option<Dynamic> {
    let header = FileHeader64::<Endianness>::parse(data).ok()?;
    let endian = header.endian().ok()?;
    let kind = header.e_type(endian);
    if header.e_machine(endian) != EM_X86_64 || header.e_ident().class != ELFCLASS64 || !matches!(kind, ET_DYN | ET_EXEC) {
        return None;
    }
    let segments = header.program_headers(endian, data).ok()?;
    let mut found = Dynamic::default();
    let mut entries = None;
    for segment in segments {
        if segment.p_type(endian) == PT_INTERP
            && let Ok(path) = segment.data(endian, data)
        {
            found.interpreter = Some(String::from_utf8_lossy(path).trim_end_matches('\0').to_owned());
        }
        if let Ok(Some(dynamic)) = segment.dynamic(endian, data) {
            entries = Some(dynamic);
        }
    }
    let entries = entries?;
    let value = |tag| entries.iter().find(|entry| entry.d_tag(endian) == tag).map(|entry| entry.d_val(endian));
    let table = value(object::elf::DT_STRTAB)?;
    let length = value(object::elf::DT_STRSZ)?;
    let strings = segments.iter().find_map(|segment| segment.data_range(endian, data, table, length).ok().flatten())?;
    let text = |offset: u64| {
        let rest = strings.get(usize::try_from(offset).ok()?..)?;
        let end = rest.iter().position(|byte| *byte == 0)?;
        Some(String::from_utf8_lossy(&rest[..end]).into_owned())
    };
    for entry in entries {
        if entry.d_tag(endian) == DT_NEEDED {
            found.needed.push(text(entry.d_val(endian))?);
        }
    }
    let search = value(DT_RUNPATH).or_else(|| value(DT_RPATH)).and_then(text).unwrap_or_default();
    found.search = search.split(':').filter(|folder| !folder.is_empty()).map(str::to_owned).collect();
    Some(found)
}

/// Checks that interpreter and libraries of every ELF file in the tree are in the tree; all that is missing is listed.
pub fn prove_closure(tree: &Tree) -> Result<()> {
    let mut missing = Vec::new();
    for (_, owned) in tree.iter() {
        let Some(dynamic) = &owned.dynamic else { continue };
        if let Some(interpreter) = &dynamic.interpreter
            && !is_file(tree, interpreter.trim_start_matches('/'))
        {
            missing.push(format!("{} of {} needs the interpreter {interpreter}", owned.entry.path, owned.owner));
        }
        for library in &dynamic.needed {
            if !finds(tree, &owned.entry.path, dynamic, library) {
                missing.push(format!("{} of {} needs {library}", owned.entry.path, owned.owner));
            }
        }
    }
    if missing.is_empty() {
        return Ok(());
    }
    let count = missing.len();
    let mut error =
        Error::new(Class::Build, format!("{count} {} in the image", if count == 1 { "library is not" } else { "libraries are not" }));
    for line in missing.into_iter().take(20) {
        error = error.detail(line);
    }
    Err(error.hint("take the package that brings it out of [debian.without], or exclude the file that needs it"))
}

fn finds(tree: &Tree, path: &str, dynamic: &Dynamic, library: &str) -> bool {
    if library.contains('/') {
        return is_file(tree, library.trim_start_matches('/'));
    }
    let origin = entry::parent(path).unwrap_or("");
    let own = dynamic.search.iter().map(|folder| folder.replace("${ORIGIN}", "$ORIGIN").replace("$ORIGIN", &format!("/{origin}")));
    let own = own.filter_map(|folder| entry::link_destination("", &folder));
    own.chain(DEFAULT_FOLDERS.map(str::to_owned)).any(|folder| is_file(tree, &format!("{folder}/{library}")))
}

fn is_file(tree: &Tree, path: &str) -> bool {
    tree.resolve(path).is_some_and(|(_, owned)| matches!(owned.entry.node, Node::File { .. } | Node::Hardlink { .. }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::entry::Entry;
    use crate::tree::Owned;

    fn tree(files: &[(&str, &[&str], &[&str])]) -> Tree {
        let mut tree = Tree::default();
        for (path, needed, search) in files {
            let dynamic = Dynamic {
                needed: needed.iter().map(|name| (*name).to_owned()).collect(),
                search: search.iter().map(|name| (*name).to_owned()).collect(),
                interpreter: None,
            };
            let owned = Owned { entry: Entry::file(*path, 1, 0o755, 0), owner: "pkg".into(), offset: None, dynamic: Some(dynamic) };
            tree.add(0, owned).expect("no conflict");
        }
        tree
    }

    #[test]
    fn a_library_that_nobody_brings_is_named_with_who_needs_it() {
        let error = prove_closure(&tree(&[("usr/bin/a", &["libq.so.1"], &[])])).expect_err("missing").to_string();
        insta::assert_snapshot!(error, @r"
        1 library is not in the image
          usr/bin/a of pkg needs libq.so.1
        hint: take the package that brings it out of [debian.without], or exclude the file that needs it
        ");
    }

    #[test]
    fn default_folders_runpath_and_origin_are_searched() {
        let good = [
            ("usr/bin/a", &["libq.so.1", "libp.so", "libo.so"][..], &["/opt/lib", "$ORIGIN/../lib/private"][..]),
            ("usr/lib/x86_64-linux-gnu/libq.so.1", &[][..], &[][..]),
            ("opt/lib/libp.so", &[][..], &[][..]),
            ("usr/lib/private/libo.so", &[][..], &[][..]),
        ];
        prove_closure(&tree(&good)).expect("all found");
        assert!(prove_closure(&tree(&[good[0], good[1], good[2]])).is_err(), "without libo.so");
    }

    #[test]
    fn a_real_program_shows_what_it_needs() {
        let shell = fs_err::File::open("/bin/sh").expect("every Unix has one");
        let dynamic = dynamic(shell).expect("an ELF program");
        assert!(dynamic.needed.iter().any(|name| name.starts_with("libc.so")), "{dynamic:?}");
        assert!(dynamic.interpreter.is_some());
        assert_eq!(super::dynamic(std::io::Cursor::new(b"#!/bin/sh\n")), None);
    }
}
