//! Which release this double plays, and where its tarball was unpacked.

use std::path::{Path, PathBuf};

/// Beside `bin/`: one line with the version, written when the tarball is packed.
pub const VERSION_FILE: &str = "double-version.txt";
const DEFAULT: &str = "11.7.9";

/// A version, as two numbers and the rest.
#[derive(Clone, Debug)]
pub struct Release {
    /// Such as `11.7.9`.
    pub version: String,
}

impl Release {
    /// Of the tarball that this executable was unpacked from.
    pub fn find() -> Self {
        let folder = std::env::current_exe().ok().and_then(|exe| Some(exe.parent()?.parent()?.to_owned())).unwrap_or_default();
        let text = fs_err::read_to_string(folder.join(VERSION_FILE)).unwrap_or_default();
        let version = text.trim();
        Release { version: if version.is_empty() { DEFAULT } else { version }.to_owned() }
    }

    /// Major and minor number.
    pub fn series(&self) -> (u32, u32) {
        let mut numbers = self.version.split('.').map(|part| part.parse().unwrap_or(0));
        (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0))
    }

    /// What `mattermost version` prints.
    pub fn describe(&self) -> String {
        let version = &self.version;
        format!(
            "Version: {version}\nBuild Number: {version}\nBuild Date: \nBuild Hash: API double\nBuild Enterprise Ready: false\nAPI double"
        )
    }
}

/// A folder of the tarball: below the working folder or up to four folders above it, else beside the executable, as the real
/// server looks for it.
pub fn find_folder(name: &str) -> Option<PathBuf> {
    let here = std::env::current_dir().unwrap_or_default();
    let exe = std::env::current_exe().unwrap_or_default();
    let starts = [here.as_path(), exe.parent().unwrap_or(Path::new("/"))];
    starts.iter().flat_map(|start| start.ancestors().take(5)).map(|folder| folder.join(name)).find(|folder| folder.is_dir())
}
