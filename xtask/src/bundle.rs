//! One signed file that brings everything across an air gap (docs/bundle.md).
//!
//! A bundle is a tar archive in zstd's seekable format: `tar --zstd` reads it, and each part is read alone, from any thread. What
//! stands in it, and in which order, follows from its list of parts, byte by byte; a bundle that is anything else is refused, so no
//! header of an archive is ever believed.
//!
//! ```text
//!   frame 0        parts.json            the list: path, size and SHA-256 of every part
//!   frame 1        parts.json.minisig    where it is signed
//!   frames 2 …     the parts             each in frames of its own, of at most 4 MiB
//!   frame n        the archive's end
//!   skippable      the seek table
//! ```

use images::progress::Progress;
use images::{Class, Error};

pub mod apply;
pub mod frames;
pub mod gather;
pub mod list;
pub mod read;
pub mod signature;
pub mod write;

pub use list::{List, Part};
pub use read::Bundle;
pub use signature::Trust;

/// Name of the list in the archive.
pub const LIST: &str = "parts.json";
/// Name of its signature.
pub const SIGNATURE: &str = "parts.json.minisig";

/// How long steps are told, and over how many threads they go.
#[derive(Clone, Copy)]
pub struct Pace<'a> {
    /// Threads that pack or unpack.
    pub threads: usize,
    /// Where it is told.
    pub progress: &'a dyn Progress,
}

/// A bundle that is not as it was written.
fn damaged(what: impl Into<String>) -> Error {
    Error::new(Class::HashMismatch, what).hint("carry it over again, and compare its SHA-256 with the one on the other side")
}

#[cfg(test)]
mod tests;
