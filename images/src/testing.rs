//! Packages that tests make: small, real, and different in one thing at a time.

#![allow(clippy::unwrap_used, reason = "a test that cannot make its input may as well stop")]

mod image;

use std::fmt::Write as _;
use std::io::Write as _;

pub use image::SampleImage;

/// How the members of a package are compressed.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Packing {
    /// Not at all.
    None,
    /// gzip.
    Gzip,
    /// xz, as Debian does.
    Xz,
    /// zstd.
    Zstd,
}

/// Makes a `.deb`.
pub struct DebBuilder {
    control: String,
    md5sums: String,
    scripts: Vec<(String, String)>,
    data: tar::Builder<Vec<u8>>,
    time: u64,
    packing: Packing,
}

impl DebBuilder {
    /// A package without files.
    pub fn new(name: &str, version: &str) -> Self {
        let control = format!(
            "Package: {name}\nVersion: {version}\nArchitecture: amd64\nMaintainer: Nobody <nobody@example.org>\nDescription: sample\n"
        );
        let mut data = tar::Builder::new(Vec::new());
        data.sparse(false);
        DebBuilder { control, md5sums: String::new(), scripts: Vec::new(), data, time: 1_600_000_000, packing: Packing::Xz }
    }

    /// When it was built, seconds since 1970.
    pub fn time(mut self, time: u64) -> Self {
        self.time = time;
        self
    }

    /// How it is compressed.
    pub fn packing(mut self, packing: Packing) -> Self {
        self.packing = packing;
        self
    }

    /// A field of the control file.
    pub fn field(mut self, name: &str, value: &str) -> Self {
        writeln!(self.control, "{name}: {value}").unwrap();
        self
    }

    /// A maintainer script.
    pub fn script(mut self, name: &str, text: &str) -> Self {
        self.scripts.push((name.to_owned(), text.to_owned()));
        self
    }

    /// A regular file.
    pub fn file(mut self, path: &str, mode: u32, content: &[u8]) -> Self {
        // The sum is never read back, only carried to where scanners look for the path.
        writeln!(self.md5sums, "{:032x}  {path}", content.len()).unwrap();
        self.append(path, tar::EntryType::Regular, mode, "", content)
    }

    /// A directory.
    pub fn directory(self, path: &str, mode: u32) -> Self {
        self.append(&format!("{path}/"), tar::EntryType::Directory, mode, "", &[])
    }

    /// A symbolic link.
    pub fn symlink(self, path: &str, target: &str) -> Self {
        self.append(path, tar::EntryType::Symlink, 0o777, target, &[])
    }

    /// A hard link; `target` is a path in the package.
    pub fn hardlink(self, path: &str, target: &str) -> Self {
        self.append(path, tar::EntryType::Link, 0o644, &format!("./{target}"), &[])
    }

    fn append(mut self, path: &str, kind: tar::EntryType, mode: u32, link: &str, content: &[u8]) -> Self {
        append(&mut self.data, path, kind, mode, self.time, link, content);
        self
    }

    /// The package.
    pub fn build(self) -> Vec<u8> {
        let mut control = tar::Builder::new(Vec::new());
        let members = [("control", self.control), ("md5sums", self.md5sums)].map(|(name, text)| (name.to_owned(), text));
        for (name, text) in members.into_iter().chain(self.scripts) {
            append(&mut control, &name, tar::EntryType::Regular, 0o644, self.time, "", text.as_bytes());
        }
        let suffix = match self.packing {
            Packing::None => "",
            Packing::Gzip => ".gz",
            Packing::Xz => ".xz",
            Packing::Zstd => ".zst",
        };
        let mut deb = b"!<arch>\n".to_vec();
        let mut member = |name: &str, content: &[u8]| {
            writeln!(deb, "{name:<16}{:<12}{:<6}{:<6}{:<8}{:<10}`", self.time, 0, 0, "100644", content.len()).unwrap();
            deb.extend_from_slice(content);
            deb.extend_from_slice(&b"\n"[..content.len() % 2]);
        };
        member("debian-binary", b"2.0\n");
        member(&format!("control.tar{suffix}"), &pack(&control.into_inner().unwrap(), self.packing));
        member(&format!("data.tar{suffix}"), &pack(&self.data.into_inner().unwrap(), self.packing));
        deb
    }
}

/// Appends an entry as dpkg-deb would: GNU header, path with `./`.
pub fn append(builder: &mut tar::Builder<Vec<u8>>, path: &str, kind: tar::EntryType, mode: u32, time: u64, link: &str, content: &[u8]) {
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_mtime(time);
    header.set_uid(0);
    header.set_gid(0);
    header.set_size(content.len() as u64);
    if !link.is_empty() {
        header.set_link_name_literal(link).unwrap();
    }
    builder.append_data(&mut header, format!("./{path}"), content).unwrap();
}

/// Compresses a member.
pub fn pack(bytes: &[u8], packing: Packing) -> Vec<u8> {
    match packing {
        Packing::None => bytes.to_vec(),
        Packing::Gzip => {
            let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
            encoder.write_all(bytes).unwrap();
            encoder.finish().unwrap()
        }
        Packing::Xz => {
            let mut encoder = liblzma::write::XzEncoder::new(Vec::new(), 1);
            encoder.write_all(bytes).unwrap();
            encoder.finish().unwrap()
        }
        Packing::Zstd => zstd::bulk::compress(bytes, 1).unwrap(),
    }
}
