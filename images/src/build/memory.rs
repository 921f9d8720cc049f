//! What was made from which inputs. Losing it costs time, nothing else.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::digest::Digest;
use crate::error::Result;
use crate::{file, oci};

/// A folder of small JSON files by key.
pub(super) struct Memory {
    pub(super) folder: PathBuf,
}

impl Memory {
    fn path(&self, key: &Digest) -> PathBuf {
        self.folder.join(format!("{key}.json"))
    }

    pub(super) fn recall<T: for<'a> Deserialize<'a>>(&self, key: &Digest) -> Option<T> {
        serde_json::from_slice(&fs_err::read(self.path(key)).ok()?).ok()
    }

    pub(super) fn keep(&self, key: &Digest, value: &impl Serialize) -> Result<()> {
        fs_err::create_dir_all(&self.folder)?;
        file::write_cached(&self.path(key), &oci::canonical(value))
    }
}
