//! What stands in an image that is there already: a layout folder or an archive file, read again from its bytes.
//!
//! `verify`, `diff` and `show` look at images through this one window, and none of them believes what a build remembered.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde_json::Value;

use crate::deb::Control;
use crate::digest::Digest;
use crate::entry::{self, Entry, Node};
use crate::error::{Class, Context, Error, Result};
use crate::layer::Section;
use crate::layout;
use crate::oci::{self, Descriptor, Index, Manifest};

/// Where a package's `control` lies in an image, for scanners; `NAME.md5sums` lies beside it and ends the package in its layer.
const STATUS: &str = "var/lib/dpkg/status.d/";

/// A layout folder, or an archive file as `--archive` writes it.
#[derive(Debug)]
pub struct Place {
    path: PathBuf,
    /// Member of the archive → begin and length of its content, bytes; nothing for a folder.
    members: Option<BTreeMap<String, (u64, u64)>>,
    index: Index,
}

/// An image's documents, and where its layers lie.
#[derive(Clone, Debug)]
pub struct Image {
    /// `chatops/<name>:<version>`.
    pub name: String,
    /// The manifest's digest.
    pub digest: Digest,
    /// The manifest as it stands.
    pub manifest: Value,
    /// The configuration's digest: Docker's image ID.
    pub config_digest: Digest,
    /// The configuration as it stands.
    pub config: Value,
    /// From the bottom up.
    pub layers: Vec<Layer>,
}

/// A layer: an uncompressed tar in a file.
#[derive(Clone, Debug)]
pub struct Layer {
    /// Its name, from the image's history; `layer N` where that has none.
    pub name: String,
    /// What its bytes should be.
    pub digest: Digest,
    /// Bytes.
    pub size: u64,
    file: PathBuf,
    start: u64,
}

/// One entry of a layer.
#[derive(Clone, Debug, PartialEq)]
pub struct Member {
    /// The entry.
    pub entry: Entry,
    /// The Debian package that brought it, if one did.
    pub package: Option<String>,
    /// Where its header ends and its content begins, bytes from the layer's begin.
    pub offset: u64,
}

/// A Debian package in an image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Package {
    /// With epoch and revision.
    pub version: String,
    /// Number of its layer, from 0 at the bottom.
    pub layer: usize,
    /// Bytes of its files in the image.
    pub size: u64,
}

impl Place {
    /// Opens a layout folder or an archive.
    pub fn open(path: &Path) -> Result<Place> {
        let mut place = Place {
            path: path.to_owned(),
            members: None,
            index: Index { manifests: vec![], media_type: String::new(), schema_version: 2 },
        };
        if path.is_dir() {
            place.index = layout::read_index(path)?;
            return Ok(place);
        }
        place.members = Some(members_of_archive(path).context(|| path.display())?);
        let text = place.file("index.json")?;
        place.index = serde_json::from_slice(&text).map_err(|error| place.unreadable(&format!("its index.json: {error}")))?;
        Ok(place)
    }

    /// The path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Names of all images, sorted.
    pub fn names(&self) -> Vec<&str> {
        let mut names: Vec<&str> = self.index.manifests.iter().filter_map(name_of).collect();
        names.sort_unstable();
        names
    }

    /// The image with that name: `chatops/coturn:4.6.1`, or `coturn` where there is one version of it.
    pub fn image(&self, name: &str) -> Result<Image> {
        let names = self.names();
        let mut found: Vec<&str> = names.iter().copied().filter(|full| *full == name || *full == format!("chatops/{name}")).collect();
        if found.is_empty() && !name.contains(':') {
            found = names.iter().copied().filter(|full| repository(full) == repository(name)).collect();
        }
        let none = || {
            let known = if names.is_empty() { "it is empty".to_owned() } else { format!("it has {}", names.join(", ")) };
            Error::new(Class::Usage, format!("{} has no image \"{name}\"", self.path.display()))
                .detail(known)
                .hint("`cargo xtask images` builds every image")
        };
        match found.as_slice() {
            [] => Err(none()),
            [one] => self.read(self.index.manifests.iter().find(|entry| name_of(entry) == Some(one)).ok_or_else(none)?),
            several => Err(Error::new(Class::Usage, format!("\"{name}\" may be one of several images"))
                .detail(format!("expected one of {}", several.join(", ")))),
        }
    }

    fn read(&self, entry: &Descriptor) -> Result<Image> {
        let name = name_of(entry).unwrap_or_default().to_owned();
        let document = |digest: &str| -> Result<(Digest, Value)> {
            let wanted = Digest::from_oci(digest).ok_or_else(|| self.unreadable(&format!("{digest:?} is not a SHA-256 digest")))?;
            let bytes = self.file(&format!("blobs/sha256/{wanted}"))?;
            if Digest::of(&bytes) != wanted {
                return Err(Error::new(Class::HashMismatch, format!("blob {digest} of {} is damaged", self.path.display())));
            }
            Ok((wanted, serde_json::from_slice(&bytes).map_err(|error| self.unreadable(&format!("blob {digest}: {error}")))?))
        };
        let (digest, manifest) = document(&entry.digest)?;
        let typed = Manifest::deserialize(&manifest).map_err(|error| self.unreadable(&format!("the manifest of {name}: {error}")))?;
        let (config_digest, config) = document(&typed.config.digest)?;
        let layers = typed.layers.iter().enumerate().map(|(number, layer)| self.layer(number, layer, &config)).collect::<Result<_>>()?;
        Ok(Image { name, digest, manifest, config_digest, config, layers })
    }

    fn layer(&self, number: usize, descriptor: &Descriptor, config: &Value) -> Result<Layer> {
        if descriptor.media_type != oci::LAYER {
            return Err(self
                .unreadable(&format!("layer {} has the type {}", number + 1, descriptor.media_type))
                .detail(format!("expected {}: layers are compared by the bytes that they unpack to", oci::LAYER)));
        }
        let digest = Digest::from_oci(&descriptor.digest)
            .ok_or_else(|| self.unreadable(&format!("{:?} is not a SHA-256 digest", descriptor.digest)))?;
        let name = config.pointer(&format!("/history/{number}/comment")).and_then(Value::as_str);
        let (file, start, size) = self.locate(&format!("blobs/sha256/{digest}"))?;
        Ok(Layer { name: name.map_or_else(|| format!("layer {}", number + 1), str::to_owned), digest, size, file, start })
    }

    fn locate(&self, path: &str) -> Result<(PathBuf, u64, u64)> {
        match &self.members {
            None => {
                let file = self.path.join(path);
                let size = fs_err::metadata(&file)?.len();
                Ok((file, 0, size))
            }
            Some(members) => {
                let (start, size) = *members.get(path).ok_or_else(|| self.unreadable(&format!("it has no {path}")))?;
                Ok((self.path.clone(), start, size))
            }
        }
    }

    fn file(&self, path: &str) -> Result<Vec<u8>> {
        let (file, start, size) = self.locate(path)?;
        let opened = fs_err::File::open(file)?;
        let mut bytes = Vec::new();
        std::io::Read::read_to_end(&mut Section { file: opened.file(), start, size, at: 0 }, &mut bytes)?;
        Ok(bytes)
    }

    fn unreadable(&self, why: &str) -> Error {
        Error::new(Class::Usage, format!("{} is not an image that can be read: {why}", self.path.display()))
    }
}

fn members_of_archive(path: &Path) -> Result<BTreeMap<String, (u64, u64)>> {
    let file = fs_err::File::open(path)?;
    let size = file.metadata()?.len();
    let mut archive = tar::Archive::new(Section { file: file.file(), start: 0, size, at: 0 });
    let mut members = BTreeMap::new();
    for member in archive.entries_with_seek()? {
        let member = member?;
        let name = String::from_utf8_lossy(&member.path_bytes()).into_owned();
        members.insert(name, (member.raw_file_position(), member.size()));
    }
    match members.contains_key("index.json") {
        true => Ok(members),
        false => Err(Error::new(Class::Usage, "it is no archive of images: it has no index.json")
            .hint("`cargo xtask images --archive FILE` writes one; a layout is a folder")),
    }
}

fn name_of(entry: &Descriptor) -> Option<&str> {
    entry.annotations.get(oci::REF_NAME).map(String::as_str)
}

/// `coturn` of `chatops/coturn:4.6.1`.
pub fn repository(name: &str) -> &str {
    let name = name.rsplit('/').next().unwrap_or(name);
    name.split_once(':').map_or(name, |(name, _)| name)
}

impl Layer {
    /// Whether the bytes are those of the digest.
    pub fn is_whole(&self) -> Result<bool> {
        let file = fs_err::File::open(&self.file)?;
        Ok(Digest::of_reader(self.section(&file, 0, self.size))?.0 == self.digest)
    }

    /// Everything in it, in the order of the tar.
    pub fn members(&self) -> Result<Vec<Member>> {
        let file = fs_err::File::open(&self.file)?;
        let mut archive = tar::Archive::new(self.section(&file, 0, self.size));
        let mut members: Vec<Member> = Vec::new();
        let mut first = 0;
        for member in archive.entries_with_seek().context(|| self.name.clone())? {
            let mut member = member.context(|| format!("layer \"{}\"", self.name))?;
            let offset = member.raw_file_position();
            let Some(entry) = entry::checked(&mut member, "")? else { continue };
            let package = entry.path.strip_prefix(STATUS).and_then(|name| name.strip_suffix(".md5sums")).map(str::to_owned);
            let ends = package.is_some();
            members.push(Member { entry, package: package.clone(), offset });
            if ends {
                members[first..].iter_mut().for_each(|member| member.package.clone_from(&package));
                first = members.len();
            }
        }
        Ok(members)
    }

    /// Opens the layer's file, for [`Layer::content`].
    pub fn open(&self) -> Result<fs_err::File> {
        Ok(fs_err::File::open(&self.file)?)
    }

    /// The content of a file of this layer.
    pub fn content<'a>(&self, file: &'a fs_err::File, member: &Member) -> Section<'a> {
        let size = match member.entry.node {
            Node::File { size } => size,
            _ => 0,
        };
        self.section(file, member.offset, size)
    }

    /// All of its bytes.
    pub fn bytes<'a>(&self, file: &'a fs_err::File) -> Section<'a> {
        self.section(file, 0, self.size)
    }

    fn section<'a>(&self, file: &'a fs_err::File, offset: u64, size: u64) -> Section<'a> {
        Section { file: file.file(), start: self.start + offset, size, at: 0 }
    }
}

impl Image {
    /// Everything in every layer.
    pub fn members(&self) -> Result<Vec<Vec<Member>>> {
        self.layers.iter().map(Layer::members).collect()
    }

    /// The Debian packages among `members`, by name.
    pub fn packages(&self, members: &[Vec<Member>]) -> Result<BTreeMap<String, Package>> {
        let mut packages = BTreeMap::new();
        for (number, (layer, members)) in self.layers.iter().zip(members).enumerate() {
            let mut sizes: BTreeMap<&str, u64> = BTreeMap::new();
            for member in members {
                if let (Some(package), Node::File { size }) = (&member.package, &member.entry.node) {
                    *sizes.entry(package).or_default() += size;
                }
            }
            let file = layer.open()?;
            for member in members {
                let Some(name) = member.entry.path.strip_prefix(STATUS).filter(|name| !name.ends_with(".md5sums")) else { continue };
                let mut control = String::new();
                std::io::Read::read_to_string(&mut layer.content(&file, member), &mut control).context(|| member.entry.path.clone())?;
                let control = Control { control, ..Control::default() };
                let version = control.field("Version").unwrap_or("unknown").to_owned();
                packages.insert(name.to_owned(), Package { version, layer: number, size: sizes.get(name).copied().unwrap_or(0) });
            }
        }
        Ok(packages)
    }
}

/// The files that a container sees: path → number of the topmost layer that has it, and the entry.
pub fn tree(members: &[Vec<Member>]) -> BTreeMap<&str, (usize, &Member)> {
    let all = members.iter().enumerate().flat_map(|(number, layer)| layer.iter().map(move |member| (number, member)));
    all.map(|(number, member)| (member.entry.path.as_str(), (number, member))).collect()
}

/// Where a path leads when the links among its folders are followed; the last name itself is taken as it stands.
pub fn follow(tree: &BTreeMap<&str, (usize, &Member)>, path: &str) -> String {
    let mut path = path.trim_matches('/').to_owned();
    // Linux gives up after 40 links (path_resolution(7)).
    for _ in 0..40 {
        let link = path.match_indices('/').find_map(|(at, _)| match &tree.get(&path[..at])?.1.entry.node {
            Node::Symlink { target } => Some(format!("{}{}", entry::link_destination(&path[..at], target)?, &path[at..])),
            _ => None,
        });
        match link {
            Some(next) => path = next,
            None => break,
        }
    }
    path
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test that cannot make its input may as well stop")]

    use super::*;
    use crate::testing::SampleImage;

    fn sample() -> SampleImage {
        SampleImage::default()
            .package("app", "1:1.0+x-1", |deb| {
                deb.directory("usr", 0o755).directory("usr/bin", 0o755).symlink("bin", "usr/bin").file("usr/bin/app", 0o755, b"hello")
            })
            .package("lib", "2", |deb| deb.directory("usr", 0o755).symlink("usr/also", "bin/app"))
    }

    #[test]
    fn every_entry_of_a_package_layer_has_its_package() {
        let folder = tempfile::tempdir().unwrap();
        sample().build(folder.path());
        let image = Place::open(folder.path()).unwrap().image("chatops/sample:1.0-x").unwrap();
        let members = image.members().unwrap();
        let tree = tree(&members);
        let owner = |path: &str| tree[path].1.package.as_deref();
        assert_eq!(
            [owner("usr/bin/app"), owner("usr"), owner("usr/also"), owner("etc/passwd")],
            [Some("app"), Some("app"), Some("lib"), None]
        );
        assert!(members[0].iter().all(|member| member.package.is_some()));
        let packages = image.packages(&members).unwrap();
        assert_eq!((packages["app"].version.as_str(), packages["lib"].layer), ("1:1.0+x-1", 0));
        assert!(packages["app"].size > 5, "its file and what scanners read");
        assert_eq!(follow(&tree, "/bin/app"), "usr/bin/app");
        assert_eq!(follow(&tree, "/usr/also"), "usr/also", "the link itself");
    }

    #[test]
    fn names_are_found_short_and_long_and_two_versions_are_not_guessed_at() {
        let folder = tempfile::tempdir().unwrap();
        sample().build(folder.path());
        SampleImage::default().package("app", "2.0", |deb| deb).build(folder.path());
        let place = Place::open(folder.path()).unwrap();
        for name in ["sample:2.0", "chatops/sample:2.0"] {
            assert_eq!(place.image(name).unwrap().name, "chatops/sample:2.0");
        }
        let error = place.image("sample").unwrap_err().to_string();
        assert!(error.contains("expected one of chatops/sample:1.0-x, chatops/sample:2.0"), "{error}");
    }

    #[test]
    fn what_is_no_archive_of_images_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notes.txt");
        for bytes in [&b"some text"[..], &[0; 1024]] {
            fs_err::write(&path, bytes).unwrap();
            Place::open(&path).unwrap_err();
        }
        fs_err::write(&path, [0; 1024]).unwrap();
        assert!(Place::open(&path).unwrap_err().to_string().contains("it is no archive of images"));
    }
}
