//! `Packages` and `control` → stanzas (Debian policy 5.1 and 5.3). Pure parsing; the text is borrowed where it can be.

use std::borrow::Cow;
use std::collections::BTreeMap;

use super::depends;
use crate::digest::Digest;
use crate::error::{Class, Error, Result};

/// What the resolver has to know of a package. Absent fields are empty.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Stanza<'a> {
    /// `Package`.
    pub name: Cow<'a, str>,
    /// `Version`.
    pub version: Cow<'a, str>,
    /// `Architecture`: `amd64` or `all`.
    pub architecture: Cow<'a, str>,
    /// `Priority`: `required` … `optional`.
    pub priority: Cow<'a, str>,
    /// `Pre-Depends`, as written.
    pub pre_depends: Cow<'a, str>,
    /// `Depends`, as written.
    pub depends: Cow<'a, str>,
    /// `Provides`, as written.
    pub provides: Cow<'a, str>,
    /// `Source`, without the version in brackets; empty where it is the package's own name.
    pub source: Cow<'a, str>,
    /// `Filename`: the pool path. Empty in a package's own `control`.
    pub path: Cow<'a, str>,
    /// `Size` in bytes, as written.
    pub size: Cow<'a, str>,
    /// `SHA256`, as written.
    pub sha256: Cow<'a, str>,
}

impl<'a> Stanza<'a> {
    /// Reads one stanza. Names and versions that could not be right, and fields given twice, are errors.
    pub fn parse(text: &'a str) -> Result<Stanza<'a>> {
        let mut stanza = Stanza::default();
        let mut last: Option<&mut Cow<'a, str>> = None;
        for line in text.lines() {
            if line.starts_with([' ', '\t']) {
                if let Some(value) = last.as_mut() {
                    value.to_mut().push_str(line);
                }
                continue;
            }
            let (name, value) = line.split_once(':').ok_or_else(|| wrong(text, &format!("no field in line \"{line}\"")))?;
            last = stanza.field(name);
            if let Some(place) = last.as_mut() {
                if !place.is_empty() {
                    return Err(wrong(text, &format!("two fields {name}")));
                }
                **place = Cow::Borrowed(value.trim());
            }
        }
        if let Some((source, _)) = stanza.source.split_once(' ') {
            stanza.source = Cow::Owned(source.to_owned());
        }
        if stanza.source == stanza.name {
            stanza.source = Cow::Borrowed("");
        }
        let legal = |text: &str, more: &str| !text.is_empty() && text.chars().all(|c| c.is_ascii_alphanumeric() || more.contains(c));
        if !legal(&stanza.name, "+-.") {
            return Err(wrong(text, &format!("\"{}\" is not a package name", stanza.name)));
        }
        if !legal(&stanza.version, ".+-~:") {
            return Err(wrong(text, &format!("\"{}\" is not a version of {}", stanza.version, stanza.name)));
        }
        Ok(stanza)
    }

    fn field(&mut self, name: &str) -> Option<&mut Cow<'a, str>> {
        Some(match name {
            "Package" => &mut self.name,
            "Version" => &mut self.version,
            "Architecture" => &mut self.architecture,
            "Priority" => &mut self.priority,
            "Pre-Depends" => &mut self.pre_depends,
            "Depends" => &mut self.depends,
            "Provides" => &mut self.provides,
            "Source" => &mut self.source,
            "Filename" => &mut self.path,
            "Size" => &mut self.size,
            "SHA256" => &mut self.sha256,
            _ => return None,
        })
    }

    /// All clauses that have to hold: `Pre-Depends`, then `Depends`.
    pub fn clauses(&self) -> Result<Vec<depends::Clause<'_>>> {
        let mut clauses = depends::parse(&self.pre_depends).map_err(|error| error.context(&self.name))?;
        clauses.extend(depends::parse(&self.depends).map_err(|error| error.context(&self.name))?);
        Ok(clauses)
    }

    /// Where the package lies in the pool, its size in bytes and its SHA-256.
    pub fn file(&self) -> Result<(&str, u64, Digest)> {
        let wrong = |what: &str, found: &str| {
            Error::new(Class::Fetch, format!("the index describes {} wrongly", self.name)).detail(format!("found {what} \"{found}\""))
        };
        let clean = self.path.starts_with("pool/")
            && self.path.ends_with(".deb")
            && !self.path.split('/').any(|part| matches!(part, "" | "." | ".."));
        if !clean {
            return Err(wrong("Filename", &self.path));
        }
        let size = self.size.parse().map_err(|_| wrong("Size", &self.size))?;
        let sha256 = self.sha256.parse().map_err(|_| wrong("SHA256", &self.sha256))?;
        Ok((&self.path, size, sha256))
    }
}

/// The stanzas of a `Packages` file by name. Where a name is there twice, the later version counts.
pub fn parse(text: &str) -> Result<BTreeMap<String, Stanza<'_>>> {
    let mut packages: BTreeMap<String, Stanza<'_>> = BTreeMap::new();
    for stanza in text.split("\n\n").filter(|stanza| !stanza.trim().is_empty()) {
        let stanza = Stanza::parse(stanza.trim_start_matches('\n'))?;
        match packages.get(stanza.name.as_ref()) {
            Some(known) if super::version::compare(&known.version, &stanza.version).is_ge() => {}
            _ => {
                packages.insert(stanza.name.clone().into_owned(), stanza);
            }
        }
    }
    Ok(packages)
}

fn wrong(stanza: &str, why: &str) -> Error {
    let first = stanza.lines().next().unwrap_or_default();
    Error::new(Class::Fetch, format!("the index has a stanza that cannot be read: {why}"))
        .detail(format!("in the stanza that begins \"{first}\""))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stanzas_are_read_with_folded_fields() {
        let text = "Package: aa\nVersion: 1:2-3\nArchitecture: amd64\nSource: src (2-3)\nDepends: bb,\n cc (>= 1)\nDescription: text\n more: text\n\n\
                    Package: bb\nVersion: 1\nSource: bb\nFilename: pool/main/b/bb_1_all.deb\nSize: 7\nSHA256: SUM\n\n";
        let text = text.replace("SUM", &Digest::of("x").to_string());
        let packages = parse(&text).expect("valid");
        let aa = &packages["aa"];
        assert_eq!((aa.version.as_ref(), aa.source.as_ref(), aa.depends.as_ref()), ("1:2-3", "src", "bb, cc (>= 1)"));
        assert_eq!(aa.clauses().expect("valid").len(), 2);
        assert!(aa.file().is_err(), "it has no file");
        assert_eq!(packages["bb"].source, "");
        assert_eq!(packages["bb"].file().expect("valid"), ("pool/main/b/bb_1_all.deb", 7, Digest::of("x")));
    }

    #[test]
    fn the_later_version_of_a_name_counts() {
        for text in ["Package: aa\nVersion: 9\n\nPackage: aa\nVersion: 10\n", "Package: aa\nVersion: 10\n\n\nPackage: aa\nVersion: 9\n"] {
            assert_eq!(parse(text).expect("valid")["aa"].version, "10");
        }
    }

    #[test]
    fn what_is_malformed_is_named() {
        for (text, wanted) in [
            ("Package: aa\nVersion: 1\nVersion: 2\n", "two fields Version"),
            ("Package: aa\nnonsense\n", "no field in line \"nonsense\""),
            ("Package: ../aa\nVersion: 1\n", "\"../aa\" is not a package name"),
            ("Package: aa\nVersion: 1 2\n", "is not a version of aa"),
            ("Version: 1\n", "\"\" is not a package name"),
        ] {
            let error = parse(text).expect_err(text).to_string();
            assert!(error.contains(wanted), "expected {wanted:?} in {error}");
        }
        let outside = "Package: aa\nVersion: 1\nFilename: pool/../../etc/aa.deb\nSize: 1\n";
        assert!(parse(outside).expect("valid")["aa"].file().expect_err("outside").to_string().contains("pool/../../etc"));
    }
}
