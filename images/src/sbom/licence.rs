//! A machine-readable `copyright` file (Debian's copyright-format 1.0) → an SPDX licence expression.
//!
//! Debian's short names are not SPDX's, and some mean less: `MIT` is any of several texts there. What has no certain
//! counterpart keeps its own words, as a reference to the text that the package brings.

use std::collections::{BTreeMap, BTreeSet};

/// Short names whose meaning both lists fix; versions of the GNU licences are translated apart.
const SAME: [(&str, &str); 18] = [
    ("0bsd", "0BSD"),
    ("apache-2.0", "Apache-2.0"),
    ("artistic-2.0", "Artistic-2.0"),
    ("bsd-2-clause", "BSD-2-Clause"),
    ("bsd-3-clause", "BSD-3-Clause"),
    ("bsd-4-clause", "BSD-4-Clause"),
    ("bsl-1.0", "BSL-1.0"),
    ("cc0", "CC0-1.0"),
    ("cc0-1.0", "CC0-1.0"),
    ("expat", "MIT"),
    ("isc", "ISC"),
    ("mpl-1.1", "MPL-1.1"),
    ("mpl-2.0", "MPL-2.0"),
    ("ofl-1.1", "OFL-1.1"),
    ("postgresql", "PostgreSQL"),
    ("unlicense", "Unlicense"),
    ("w3c", "W3C"),
    ("zlib", "Zlib"),
];

/// What a `copyright` file says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Licences {
    /// An SPDX licence expression: everything that any file of the package is under.
    pub expression: String,
    /// Identifiers of the expression that SPDX's list has not → their text, or the name where the file gives none.
    pub texts: BTreeMap<String, String>,
}

/// Reads a `copyright` file; `package` goes into the references. `None` where it is not machine-readable, or names no licence.
pub fn read(text: &str, package: &str) -> Option<Licences> {
    let paragraphs = paragraphs(text);
    let format = field(paragraphs.first()?, "format")?;
    if !["copyright-format", "dep5", "dep-5"].iter().any(|known| format.0.to_ascii_lowercase().contains(known)) {
        return None;
    }
    let (mut names, mut texts) = (BTreeSet::new(), BTreeMap::new());
    for (number, paragraph) in paragraphs.iter().enumerate() {
        let Some((name, text)) = field(paragraph, "license") else { continue };
        if !text.is_empty() {
            texts.entry(name).or_insert(text);
        }
        // A paragraph without files holds a text that others refer to; the header speaks for the package as a whole.
        if !name.is_empty() && (number == 0 || field(paragraph, "files").is_some()) {
            names.insert(name);
        }
    }
    let mut translation = Translation { package, texts: &texts, used: BTreeMap::new() };
    let expressions: BTreeSet<String> = names.iter().map(|name| translation.expression(name)).filter(|one| !one.is_empty()).collect();
    let compound = |text: &String| if expressions.len() > 1 && text.contains(' ') { format!("({text})") } else { text.clone() };
    let expression = expressions.iter().map(compound).collect::<Vec<_>>().join(" AND ");
    let used = translation.used;
    (!expression.is_empty()).then_some(Licences { expression, texts: used })
}

/// Field (in lower case), its first line, and the lines below it.
type Field<'a> = (String, &'a str, String);

fn paragraphs(text: &str) -> Vec<Vec<Field<'_>>> {
    let mut all: Vec<Vec<Field<'_>>> = vec![Vec::new()];
    for line in text.lines() {
        if line.trim().is_empty() {
            if all.last().is_some_and(|last| !last.is_empty()) {
                all.push(Vec::new());
            }
        } else if line.starts_with([' ', '\t']) {
            // Blank lines of a text are written as a dot.
            let below = line.trim();
            if let Some((_, _, text)) = all.last_mut().and_then(|last| last.last_mut()) {
                text.push_str(if below == "." { "" } else { below });
                text.push('\n');
            }
        } else if let Some((name, value)) = line.split_once(':')
            && let Some(last) = all.last_mut()
        {
            last.push((name.to_ascii_lowercase(), value.trim(), String::new()));
        }
    }
    all
}

fn field<'a>(paragraph: &'a [Field<'a>], name: &str) -> Option<(&'a str, &'a str)> {
    paragraph.iter().find(|(found, _, _)| found == name).map(|(_, first, below)| (*first, below.trim_end()))
}

struct Translation<'a> {
    package: &'a str,
    texts: &'a BTreeMap<&'a str, &'a str>,
    used: BTreeMap<String, String>,
}

impl Translation<'_> {
    /// `A or B, and C`: a comma ends what belongs together; else `and` binds more tightly than `or`, here as in SPDX.
    fn expression(&mut self, name: &str) -> String {
        let mut said = String::new();
        let pieces: Vec<&str> = name.split(',').map(str::trim).filter(|piece| !piece.is_empty()).collect();
        for (number, piece) in pieces.iter().enumerate() {
            let (joint, piece) = match piece.split_once(' ') {
                Some(("and", rest)) if number > 0 => (" AND ", rest),
                Some(("or", rest)) if number > 0 => (" OR ", rest),
                _ => (" AND ", *piece),
            };
            let inner = self.alternatives(piece);
            let inner = if pieces.len() > 1 && inner.contains(' ') { format!("({inner})") } else { inner };
            said = if said.is_empty() { inner } else { format!("{said}{joint}{inner}") };
            // Left to right, as they are read.
            if pieces.len() > 2 && number > 0 && number + 1 < pieces.len() {
                said = format!("({said})");
            }
        }
        said
    }

    fn alternatives(&mut self, piece: &str) -> String {
        let alternative = |alternative: &str, this: &mut Self| {
            alternative.split(" and ").map(|one| this.one(one.trim())).collect::<Vec<_>>().join(" AND ")
        };
        piece.split(" or ").map(|text| alternative(text, self)).collect::<Vec<_>>().join(" OR ")
    }

    fn one(&mut self, name: &str) -> String {
        if let Some(known) = known(name) {
            return known;
        }
        let plain: String = name.chars().map(|c| if c.is_ascii_alphanumeric() || c == '.' { c } else { '-' }).collect();
        let package = self.package.replace('+', "-plus");
        let reference = format!("LicenseRef-{package}-{}", plain.trim_matches('-'));
        let text = self
            .texts
            .get(name)
            .map_or_else(|| format!("{name}, as the copyright file of {} has it", self.package), |text| (*text).to_owned());
        self.used.insert(reference.clone(), text);
        reference
    }
}

/// SPDX's identifier for a short name of Debian.
fn known(name: &str) -> Option<String> {
    let lower = name.to_ascii_lowercase();
    if let Some((_, spdx)) = SAME.iter().find(|(debian, _)| *debian == lower) {
        return Some((*spdx).to_owned());
    }
    let (version, suffix) = match lower.strip_suffix('+') {
        Some(version) => (version, "or-later"),
        None => (lower.as_str(), "only"),
    };
    let (family, number) = version.rsplit_once('-')?;
    let number = number.strip_suffix(".0").unwrap_or(number);
    let number = match (family, number) {
        ("gpl", "1" | "2" | "3") | ("lgpl", "2" | "3") | ("agpl", "3") => format!("{number}.0"),
        ("lgpl", "2.1") | ("gfdl", "1.1" | "1.2" | "1.3") => number.to_owned(),
        _ => return None,
    };
    Some(format!("{}-{number}-{suffix}", family.to_ascii_uppercase()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn expression(licences: &[&str]) -> String {
        let files: String = licences.iter().map(|licence| format!("\nFiles: x\nCopyright: somebody\nLicense: {licence}\n")).collect();
        let text = format!("Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/\n{files}");
        read(&text, "app").map(|licences| licences.expression).unwrap_or_default()
    }

    #[test]
    fn short_names_become_spdx_identifiers_where_both_mean_the_same() {
        for (debian, spdx) in [
            ("GPL-2", "GPL-2.0-only"),
            ("GPL-2+", "GPL-2.0-or-later"),
            ("LGPL-2.1+", "LGPL-2.1-or-later"),
            ("GFDL-1.3+", "GFDL-1.3-or-later"),
            ("GPL-3.0+", "GPL-3.0-or-later"),
            ("Expat", "MIT"),
            ("BSD-3-clause", "BSD-3-Clause"),
            ("Apache-2.0", "Apache-2.0"),
            ("MIT", "LicenseRef-app-MIT"),
            ("GPL-2+ with OpenSSL exception", "LicenseRef-app-GPL-2--with-OpenSSL-exception"),
            ("GPL-7", "LicenseRef-app-GPL-7"),
            ("public-domain", "LicenseRef-app-public-domain"),
            ("GPL-1+ or ISC", "GPL-1.0-or-later OR ISC"),
            ("GPL-1+ or ISC, and Zlib", "(GPL-1.0-or-later OR ISC) AND Zlib"),
            ("Zlib and GPL-1+ or ISC", "Zlib AND GPL-1.0-or-later OR ISC"),
        ] {
            assert_eq!(expression(&[debian]), spdx, "{debian}");
        }
        assert_eq!(expression(&["Expat", "GPL-1+ or ISC", "Expat"]), "(GPL-1.0-or-later OR ISC) AND MIT");
    }

    #[test]
    fn a_text_is_taken_from_the_paragraph_that_has_it_and_a_text_alone_licenses_nothing() {
        let text = "Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/\n\nFiles: *\nLicense: custom\n\n\
            License: custom\n Do as you like.\n .\n But be kind.\n\nLicense: unused\n Nobody refers to this.\n";
        let licences = read(text, "libstdc++6").expect("machine-readable");
        assert_eq!(licences.expression, "LicenseRef-libstdc-plus-plus6-custom");
        assert_eq!(licences.texts["LicenseRef-libstdc-plus-plus6-custom"], "Do as you like.\n\nBut be kind.");
    }

    #[test]
    fn what_is_prose_says_nothing() {
        assert_eq!(read("This package was debianized by somebody.\n\nLicense: GPL-2\n", "app"), None);
        assert_eq!(read("", "app"), None);
        assert_eq!(read("Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/\n", "app"), None);
    }
}
