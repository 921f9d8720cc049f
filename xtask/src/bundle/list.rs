//! The list of parts: what a bundle holds, and therefore what it is.

use std::collections::BTreeSet;

use images::entry::Entry;
use images::{Class, Digest, Error, Result};
use serde::{Deserialize, Serialize};

use super::{LIST, SIGNATURE, damaged};
use crate::site::Service;

/// The format of this list.
pub const FORMAT: u32 = 1;
/// Where blobs of the images stand.
pub const BLOBS: &str = "images/blobs/sha256/";
/// What a list may have, bytes: a thousand times what is usual.
pub const LONGEST: u32 = 16 << 20;
/// What ustar's header can say of a length, in eleven octal digits.
const LARGEST: u64 = 1 << 33;
/// A ustar name.
const LONGEST_PATH: usize = 100;

/// One file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Part {
    /// Where it stands: names of letters, digits and `.+_-`, separated by slashes.
    pub path: String,
    /// Bytes.
    pub size: u64,
    /// Of its content.
    pub sha256: Digest,
}

/// One image.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Image {
    /// Which service it is for.
    pub service: String,
    /// `chatops/NAME:TAG`.
    pub name: String,
    /// Its manifest, a blob.
    pub manifest: Digest,
    /// Its configuration, a blob: Docker's image ID.
    pub config: Digest,
}

/// Of which sources a bundle is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Source {
    /// The commit.
    pub revision: String,
    /// Its time, seconds since 1970: what tells the older of two bundles.
    pub time: u64,
    /// Whether files differ from the commit's.
    pub changed: bool,
}

/// What a bundle holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct List {
    /// [`FORMAT`].
    pub format: u32,
    /// Version of the project.
    pub version: String,
    /// Of which sources; none outside of a git checkout.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<Source>,
    /// SHA-256 of the site's CA that the images trust; none where `up` adds it on the other side.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca: Option<Digest>,
    /// SHA-256 of the list of the bundle that has to be applied before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<Digest>,
    /// The images.
    pub images: Vec<Image>,
    /// What stands in it, in this order.
    pub parts: Vec<Part>,
    /// What belongs to it and came with an earlier bundle.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub earlier: Vec<Part>,
    /// The program, the last part: apart, because the host's compiler shows in its bytes. Among `earlier` where it came before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub program: Option<Part>,
}

impl List {
    /// Reads a list, and refuses whatever could be meant to harm.
    pub fn parse(bytes: &[u8]) -> Result<List> {
        #[derive(Deserialize)]
        struct Format {
            format: u32,
        }
        let wrong = |error: serde_json::Error| damaged(format!("{LIST} is damaged: {error}"));
        // A later format may have other fields.
        let format: Format = serde_json::from_slice(bytes).map_err(wrong)?;
        if format.format != FORMAT {
            return Err(Error::new(Class::Usage, format!("the bundle has format {}, this program knows {FORMAT}", format.format))
                .hint("apply it with the program that came with it"));
        }
        let list: List = serde_json::from_slice(bytes).map_err(wrong)?;
        list.check()?;
        // One list, one text: what the signature is over, and what the digest names, is what was understood.
        match list.text() == bytes {
            true => Ok(list),
            false => Err(damaged(format!("{LIST} is not in its own form"))),
        }
    }

    /// Its text; the same list has the same.
    pub fn text(&self) -> Vec<u8> {
        let mut text = serde_json::to_vec_pretty(self).unwrap_or_else(|error| unreachable!("plain data: {error}"));
        text.push(b'\n');
        text
    }

    /// What names the bundle: the SHA-256 of its list.
    pub fn id(&self) -> Digest {
        Digest::of(self.text())
    }

    /// What stands in the file, in its order.
    pub fn inside(&self) -> impl Iterator<Item = &Part> {
        self.parts.iter().chain(&self.program)
    }

    /// All that belongs to it.
    pub fn all(&self) -> impl Iterator<Item = &Part> {
        self.inside().chain(&self.earlier)
    }

    /// The image of a service.
    pub fn image(&self, service: Service) -> Result<&Image> {
        let found = self.images.iter().find(|image| image.service == service.name());
        found.ok_or_else(|| Error::new(Class::Check, format!("the bundle has no image for {}", service.name())))
    }

    fn check(&self) -> Result<()> {
        let mut problems = Vec::new();
        let mut paths = BTreeSet::from([LIST, SIGNATURE]);
        let mut total = 0_u64;
        for part in self.all() {
            if let Some(why) = refused(&part.path) {
                problems.push(format!("\"{}\" {why}", part.path.escape_debug()));
            }
            if !paths.insert(&part.path) {
                problems.push(format!("\"{}\" stands twice", part.path.escape_debug()));
            }
            if part.size >= LARGEST {
                problems.push(format!("\"{}\" has {} bytes", part.path.escape_debug(), part.size));
            }
            if part.path.strip_prefix(BLOBS).is_some_and(|name| name != part.sha256.to_string()) {
                problems.push(format!("\"{}\" is another blob than it is called", part.path.escape_debug()));
            }
            total = total.saturating_add(part.size);
        }
        for path in &paths {
            let mut above = path.match_indices('/').map(|(at, _)| &path[..at]);
            if let Some(file) = above.find(|above| paths.contains(above)) {
                problems.push(format!("\"{}\" is below a file, {}", path.escape_debug(), file.escape_debug()));
            }
        }
        let blobs: BTreeSet<&Digest> = self.all().filter(|part| part.path.starts_with(BLOBS)).map(|part| &part.sha256).collect();
        let lacks = |image: &&Image| !blobs.contains(&image.manifest) || !blobs.contains(&image.config);
        problems.extend(self.images.iter().filter(lacks).map(|image| format!("{} has no manifest", image.name.escape_debug())));
        if self.since.is_none() && !self.earlier.is_empty() {
            problems.push("it leaves out parts, and names no earlier bundle".to_owned());
        }
        if total >= 1 << 42 {
            problems.push(format!("it holds {total} bytes"));
        }
        if problems.is_empty() {
            return Ok(());
        }
        let error = Error::new(Class::Check, "the list of this bundle is not one that this project writes");
        Err(problems.into_iter().take(10).fold(error, Error::detail).hint("do not use it; ask whoever made it"))
    }
}

impl Part {
    /// The entry of the archive.
    pub fn entry(&self, executable: bool) -> Entry {
        let mode = if executable { 0o755 } else { 0o644 };
        let mut entry = Entry::file(self.path.clone(), 0, mode, 0);
        entry.node = images::entry::Node::File { size: self.size };
        entry
    }

    /// Whether it is a blob of an image.
    pub fn is_blob(&self) -> bool {
        self.path.starts_with(BLOBS)
    }
}

/// Why a path has no place in a bundle.
fn refused(path: &str) -> Option<&'static str> {
    let plain = |name: &str| name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b".+_-".contains(&byte));
    if path.len() > LONGEST_PATH {
        return Some("is too long");
    }
    for name in path.split('/') {
        // A name that begins with a dot is hidden, or leads elsewhere; one that begins with a dash is taken for an option.
        if name.is_empty() || name.starts_with(['.', '-']) || !plain(name) {
            return Some("is no name of a part");
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(paths: &[&str]) -> List {
        let part = |path: &&str| Part { path: (*path).to_owned(), size: 1, sha256: Digest::of("x") };
        List {
            format: FORMAT,
            version: "0.1.0".into(),
            source: None,
            ca: None,
            since: None,
            images: Vec::new(),
            parts: paths.iter().map(part).collect(),
            earlier: Vec::new(),
            program: None,
        }
    }

    #[test]
    fn a_list_is_read_as_it_was_written() {
        let list = list(&["README.md", "docs/a.md", "docs/b.md"]);
        assert_eq!(List::parse(&list.text()).unwrap(), list);
        let text = String::from_utf8(list.text()).unwrap();
        for other in [text.replace("\n", ""), text.replace("\"format\": 1", "\"format\":  1"), text.replace("README.md", "README\\u002emd")]
        {
            assert!(List::parse(other.as_bytes()).is_err(), "{other}");
        }
        let error = List::parse(text.replace("\"format\": 1", "\"new\": 7, \"format\": 2").as_bytes()).unwrap_err();
        assert_eq!((error.class(), error.message()), (Class::Usage, "the bundle has format 2, this program knows 1"));
        assert!(List::parse(text.replace("\"format\": 1", "\"new\": 7, \"format\": 1").as_bytes()).is_err());
    }

    #[test]
    fn hostile_names_are_refused_all_at_once() {
        let long = "a/".repeat(50) + "b";
        let hostile = [
            "/etc/passwd",
            "../up",
            "docs/../../up",
            "docs//x",
            "docs/",
            "",
            ".",
            "..",
            "docs/.hidden",
            "-rf",
            "docs/--help",
            "a b",
            "a\nb",
            "a\0b",
            "a\\b",
            "a:b",
            "ä",
            "a\u{202e}b",
            &long,
            LIST,
            SIGNATURE,
            "parts.json/x",
        ];
        for path in hostile {
            let error = List::parse(&list(&[path]).text()).unwrap_err();
            assert_eq!(error.class(), Class::Check, "{path:?}: {error}");
        }
        let error = List::parse(&list(&["../up", "good", "good", "good/below"]).text()).unwrap_err();
        insta::assert_snapshot!(error, @r#"
        the list of this bundle is not one that this project writes
          "../up" is no name of a part
          "good" stands twice
          "good/below" is below a file, good
        hint: do not use it; ask whoever made it
        "#);
        assert!(List::parse(&list(&["images/blobs/sha256/0000"]).text()).is_err());
        let mut huge = list(&["a"]);
        huge.parts[0].size = u64::MAX;
        assert!(List::parse(&huge.text()).is_err());
        let mut left_out = list(&["a"]);
        left_out.earlier = list(&["b"]).parts;
        assert!(List::parse(&left_out.text()).is_err());
    }
}
