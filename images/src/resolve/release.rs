//! `InRelease` → [`Release`]: which repository this is, of when, and the hashes of its indexes. Pure parsing.

use std::collections::BTreeMap;

use crate::digest::Digest;
use crate::error::{Class, Error, Result};
use crate::mirror::parse_date;

/// The fields of a repository's signed description.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Release {
    /// `Origin`.
    pub origin: String,
    /// `Codename`.
    pub codename: String,
    /// `Date`, as written.
    pub date: String,
    /// `Valid-Until`, as written; a stable release has none.
    pub valid_until: Option<String>,
    /// `Acquire-By-Hash: yes`: files are also found under their hash, so that an index that is being replaced still answers.
    pub by_hash: bool,
    /// The `SHA256` list: path → hash and size in bytes.
    pub files: BTreeMap<String, (Digest, u64)>,
}

impl Release {
    /// Reads the text that was signed.
    pub fn parse(text: &str) -> Result<Release> {
        let wrong = |why: String| Error::new(Class::Fetch, format!("InRelease cannot be read: {why}"));
        let mut release = Release::default();
        let mut list = false;
        for line in text.lines().filter(|line| !line.is_empty()) {
            if let Some(entry) = line.strip_prefix(' ') {
                if list {
                    let words: Vec<&str> = entry.split_whitespace().collect();
                    let &[sum, size, path] = words.as_slice() else { return Err(wrong(format!("SHA256 has the line \"{line}\""))) };
                    let sum = sum.parse().map_err(wrong)?;
                    let size = size.parse().map_err(|_| wrong(format!("SHA256 has the size \"{size}\"")))?;
                    release.files.insert(path.to_owned(), (sum, size));
                }
                continue;
            }
            let (name, value) = line.split_once(':').ok_or_else(|| wrong(format!("no field in line \"{line}\"")))?;
            let value = value.trim().to_owned();
            list = name == "SHA256";
            match name {
                "Origin" => release.origin = value,
                "Codename" => release.codename = value,
                "Date" => release.date = value,
                "Valid-Until" => release.valid_until = Some(value),
                "Acquire-By-Hash" => release.by_hash = value == "yes",
                _ => {}
            }
        }
        Ok(release)
    }

    /// Whether this is Debian's `codename`, still valid at `now` (seconds since 1970), and not older than `known`: the date
    /// of the index that the lock was resolved from.
    pub fn check(&self, codename: &str, known: Option<&str>, now: i64) -> Result<()> {
        let refuse = |what: &str, expected: String, found: String| {
            Err(Error::new(Class::Fetch, format!("the index of {codename} {what}"))
                .detail(format!("expected {expected}"))
                .detail(format!("found    {found}")))
        };
        if self.origin != "Debian" {
            return refuse("is not Debian's", "Origin: Debian".to_owned(), format!("Origin: {}", self.origin));
        }
        if self.codename != codename {
            return refuse("describes another release", format!("Codename: {codename}"), format!("Codename: {}", self.codename));
        }
        let date = parse_date(&self.date)?;
        let hinted = |result: Result<()>, hint: &str| result.map_err(|error| error.hint(hint));
        let until = self.valid_until.as_deref().map(|until| Ok::<_, Error>((until, parse_date(until)?))).transpose()?;
        if let Some((until, _)) = until.filter(|(_, time)| *time < now) {
            let refused = refuse("has expired", "Valid-Until in the future".to_owned(), format!("Valid-Until: {until}"));
            return hinted(refused, "the mirror has stopped following Debian; name another one with --debian-mirror");
        }
        let known_time = known.map(parse_date).transpose()?;
        if let (Some(known), Some(_)) = (known, known_time.filter(|known| date < *known)) {
            let what = "is older than the one that the lock was resolved from";
            let refused = refuse(what, format!("Date: {known} or later"), format!("Date: {}", self.date));
            return hinted(refused, "the mirror lags behind; try later, or name another one with --debian-mirror");
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: i64 = 1_789_200_000; // Sat, 12 Sep 2026 08:00:00 UTC

    fn release() -> Release {
        let text = format!(
            "Origin: Debian\nCodename: trixie\nDate: Sat, 12 Sep 2026 07:55:41 UTC\nValid-Until: Sat, 19 Sep 2026 07:55:41 UTC\n\
             Acquire-By-Hash: yes\nMD5Sum:\n 00 1 main/binary-amd64/Packages\nSHA256:\n {} 12 main/binary-amd64/Packages.xz\n",
            Digest::of("x")
        );
        Release::parse(&text).expect("valid")
    }

    #[test]
    fn the_fields_are_read() {
        let release = release();
        assert_eq!(release.files["main/binary-amd64/Packages.xz"], (Digest::of("x"), 12));
        assert_eq!(release.files.len(), 1, "MD5 sums are not trusted");
        assert!(release.by_hash);
        release.check("trixie", None, NOW).expect("good");
        release.check("trixie", Some("Sat, 12 Sep 2026 07:55:41 UTC"), NOW).expect("the same index is good");
        for bad in ["SHA256:\n 00 1 a\n", "nonsense", "SHA256:\n a b\n"] {
            assert!(Release::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn an_index_of_another_origin_release_or_time_is_refused() {
        let change = |change: &dyn Fn(&mut Release)| {
            let mut release = release();
            change(&mut release);
            release.check("trixie", Some("Sat, 12 Sep 2026 07:55:41 UTC"), NOW).expect_err("refused").to_string()
        };
        insta::assert_snapshot!(change(&|release| release.origin = "Dubian".to_owned()), @r"
        the index of trixie is not Debian's
          expected Origin: Debian
          found    Origin: Dubian
        ");
        insta::assert_snapshot!(change(&|release| release.codename = "sid".to_owned()), @r"
        the index of trixie describes another release
          expected Codename: trixie
          found    Codename: sid
        ");
        insta::assert_snapshot!(change(&|release| release.valid_until = Some("Sat, 12 Sep 2026 07:59:59 UTC".to_owned())), @r"
        the index of trixie has expired
          expected Valid-Until in the future
          found    Valid-Until: Sat, 12 Sep 2026 07:59:59 UTC
        hint: the mirror has stopped following Debian; name another one with --debian-mirror
        ");
        insta::assert_snapshot!(change(&|release| release.date = "Sat, 12 Sep 2026 07:55:40 UTC".to_owned()), @r"
        the index of trixie is older than the one that the lock was resolved from
          expected Date: Sat, 12 Sep 2026 07:55:41 UTC or later
          found    Date: Sat, 12 Sep 2026 07:55:40 UTC
        hint: the mirror lags behind; try later, or name another one with --debian-mirror
        ");
    }
}
