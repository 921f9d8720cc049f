//! Assembles reproducible OCI images from a lock file: no daemon, no root, no dpkg, no maintainer script.
//!
//! Data flows through the modules in this order, once:
//! spec → lock → (resolve) → store → deb → tree → rules → elf → layer → tar → oci → build; verify and diff read layouts.

pub mod archive;
pub mod build;
pub mod compare;
pub mod contents;
pub mod conveyor;
pub mod deb;
pub mod debian_index;
pub mod diff;
pub mod digest;
pub mod elf;
pub mod entry;
pub mod error;
pub mod file;
#[cfg(any(test, feature = "testing"))]
pub mod fuzzing;
pub mod go_build;
pub mod layer;
pub mod layout;
pub mod ledger;
pub mod lock;
pub mod mirror;
pub mod oci;
pub mod openpgp;
pub mod programs;
pub mod progress;
pub mod relock;
pub mod resolve;
pub mod rules;
pub mod sbom;
pub mod spec;
pub mod store;
pub mod tar;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
pub mod tree;
pub mod vendor;
pub mod verify;

pub use digest::Digest;
pub use error::{Class, Context, Error, Result};
pub use store::Store;
