//! Hashes the assembler's sources, so that what one assembler remembered is not believed by another.

use std::hash::Hasher;

#[allow(clippy::disallowed_methods, reason = "a build script has no dependencies of its own")]
fn main() {
    let mut files = Vec::new();
    collect(std::path::Path::new("src"), &mut files);
    files.sort();
    // A cache key, not a security boundary: the standard library's hasher will do.
    let mut hasher = std::hash::DefaultHasher::new();
    for file in files {
        println!("cargo::rerun-if-changed={}", file.display());
        hasher.write(file.to_string_lossy().as_bytes());
        hasher.write(&std::fs::read(&file).expect("a source file"));
    }
    println!("cargo::rerun-if-changed=src");
    println!("cargo::rustc-env=ASSEMBLER_SOURCES={:016x}", hasher.finish());
}

#[allow(clippy::disallowed_methods, reason = "a build script has no dependencies of its own")]
fn collect(folder: &std::path::Path, files: &mut Vec<std::path::PathBuf>) {
    for entry in std::fs::read_dir(folder).expect("the source folder") {
        let path = entry.expect("an entry").path();
        match path.is_dir() {
            true => collect(&path, files),
            false => files.push(path),
        }
    }
}
