//! Where Debian's files are fetched from: never from the lock, which names repository and pool path only, but from the
//! command line, the environment or this machine's apt settings. Parsing is pure; [`Mirrors::load`] reads the settings.

use std::collections::BTreeMap;
use std::path::Path;

use crate::error::{Class, Error, Result};
use crate::lock::Lock;

/// Base URLs of the repositories, without a slash at the end.
#[derive(Clone, Debug, PartialEq)]
pub struct Mirrors {
    /// The base of repository `main`: what `dists/` and `pool/` lie below.
    pub main: String,
    /// The base of repository `security`.
    pub security: String,
    /// An archive addressed by time, which then answers in the place of both.
    pub archive: Option<TimedArchive>,
}

/// An archive that keeps every state of Debian: `BASE/debian/20260912T075541Z/…` and `BASE/debian-security/…`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct TimedArchive {
    /// The base URL, without a slash at the end.
    pub base: String,
    /// Repository → the time asked for, such as `20260912T075541Z`. [`Mirrors::at`] fills it from a lock.
    pub times: BTreeMap<String, String>,
}

/// What the command line and the environment say; each overrides the apt settings.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Wishes {
    /// `--debian-mirror` or `DEBIAN_MIRROR`.
    pub main: Option<String>,
    /// `--debian-security-mirror` or `DEBIAN_SECURITY_MIRROR`.
    pub security: Option<String>,
    /// `--debian-archive`.
    pub archive: Option<String>,
}

/// The Debian mirrors that apt settings name.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct AptMirrors {
    /// The first base with a plain suite, such as `bookworm`: a mirror carries every suite, so it serves another one as well.
    pub main: Option<String>,
    /// The first base with a suite `…-security`.
    pub security: Option<String>,
}

impl Mirrors {
    /// The mirrors to use: `wishes`, completed from the apt settings below `etc` (`/etc`: `os-release`, `apt/sources.list`,
    /// `apt/sources.list.d`) where these are Debian's own.
    pub fn load(wishes: &Wishes, etc: &Path) -> Result<Mirrors> {
        Self::choose(wishes, &apt_mirrors_below(etc)?)
    }

    /// The mirrors to use, from what is known. A mirror that was asked for brings its security sibling (`…-security`),
    /// so that one command never mixes two worlds.
    pub fn choose(wishes: &Wishes, apt: &AptMirrors) -> Result<Mirrors> {
        let archive = wishes.archive.as_deref().map(base_url).transpose()?;
        let archive = archive.map(|base| TimedArchive { base, times: BTreeMap::new() });
        let main = match (&wishes.main, &archive, &apt.main) {
            (Some(main), ..) => base_url(main)?,
            (None, Some(archive), _) => format!("{}/debian", archive.base),
            (None, None, Some(main)) => main.clone(),
            (None, None, None) => {
                return Err(Error::new(Class::Usage, "no Debian mirror is known")
                    .detail("expected an address by --debian-mirror or DEBIAN_MIRROR, or Debian's own apt settings on this machine")
                    .detail("found neither: /etc/os-release is not Debian's, or no enabled entry below /etc/apt names Debian's archive")
                    .hint("name a mirror: --debian-mirror URL, the address that \"dists\" and \"pool\" lie below"));
            }
        };
        let security = match (&wishes.security, &wishes.main, &apt.security) {
            (Some(security), ..) => base_url(security)?,
            (None, None, Some(security)) if archive.is_none() => security.clone(),
            _ => format!("{main}-security"),
        };
        Ok(Mirrors { main, security, archive })
    }

    /// Lets an archive addressed by time answer for the day of `lock`: one day after each index's date, because an archive
    /// takes its copy some hours after an index was signed and answers with the newest copy up to the time asked for.
    pub fn at(mut self, lock: &Lock) -> Result<Mirrors> {
        if let Some(archive) = &mut self.archive {
            for (repository, index) in &lock.debian.indexes {
                let date = parse_date(&index.date)?;
                archive.times.insert(repository.clone(), stamp(date + 24 * 60 * 60));
            }
        }
        Ok(self)
    }

    /// The address of `path` (`pool/…`, `dists/…`) in `repository` (`main`, `security`).
    pub fn url(&self, repository: &str, path: &str) -> Result<String> {
        let (base, folder) = match repository {
            "main" => (&self.main, "debian"),
            "security" => (&self.security, "debian-security"),
            other => {
                return Err(Error::new(Class::Usage, format!("no repository is called \"{other}\""))
                    .detail("expected main or security")
                    .detail(format!("found \"{other}\" as the origin of {path}")));
            }
        };
        let Some(archive) = &self.archive else { return Ok(format!("{base}/{path}")) };
        let time = archive.times.get(repository).ok_or_else(|| {
            Error::new(Class::Usage, format!("the lock has no date for repository {repository}, so the archive has no time to answer for"))
                .hint("--debian-archive serves what a lock names; to resolve anew, name one state: --debian-mirror URL/debian/TIME")
        })?;
        Ok(format!("{}/{folder}/{time}/{path}", archive.base))
    }
}

fn apt_mirrors_below(etc: &Path) -> Result<AptMirrors> {
    let os_release = fs_err::read_to_string(etc.join("os-release")).unwrap_or_default();
    if !is_debian(&os_release) {
        return Ok(AptMirrors::default());
    }
    let mut files = vec![etc.join("apt/sources.list")];
    if let Ok(entries) = fs_err::read_dir(etc.join("apt/sources.list.d")) {
        files.extend(entries.filter_map(|entry| entry.ok().map(|entry| entry.path())));
    }
    files.sort();
    let mut found = AptMirrors::default();
    for file in files {
        let parse = match file.extension().and_then(|extension| extension.to_str()) {
            Some("sources") => parse_sources,
            Some("list") => parse_list,
            _ => continue,
        };
        // A file that cannot be read (a mode, a dangling link) names no mirror; apt itself says so loudly enough.
        let Ok(text) = fs_err::read_to_string(&file) else { continue };
        let more = parse(&text);
        found.main = found.main.or(more.main);
        found.security = found.security.or(more.security);
    }
    Ok(found)
}

/// Whether an `os-release` is Debian's own: a derivative (`ID_LIKE=debian`) has mirrors that carry other packages.
pub fn is_debian(os_release: &str) -> bool {
    os_release.lines().any(|line| line.strip_prefix("ID=").is_some_and(|id| id.trim().trim_matches(['"', '\'']) == "debian"))
}

/// Reads a `.sources` file (deb822; sources.list(5)).
pub fn parse_sources(text: &str) -> AptMirrors {
    let mut found = AptMirrors::default();
    let text = text.lines().filter(|line| !line.starts_with('#')).collect::<Vec<_>>().join("\n");
    for stanza in text.split("\n\n") {
        let mut fields: BTreeMap<String, String> = BTreeMap::new();
        let mut last = String::new();
        for line in stanza.lines() {
            if line.starts_with([' ', '\t']) {
                fields.entry(last.clone()).or_default().push_str(line);
            } else if let Some((name, value)) = line.split_once(':') {
                last = name.to_ascii_lowercase();
                fields.insert(last.clone(), value.to_owned());
            }
        }
        let words = |name: &str| fields.get(name).map(|value| value.split_whitespace().collect::<Vec<_>>()).unwrap_or_default();
        let off = matches!(words("enabled").first(), Some(&("no" | "false" | "0" | "off")));
        if off || !words("types").contains(&"deb") {
            continue;
        }
        let signed_by = fields.get("signed-by").map(String::as_str);
        found.take(&words("uris"), &words("suites"), &words("components"), signed_by);
    }
    found
}

/// Reads a `.list` file (one line per entry; sources.list(5)).
pub fn parse_list(text: &str) -> AptMirrors {
    let mut found = AptMirrors::default();
    for line in text.lines() {
        let line = line.split('#').next().unwrap_or_default().trim();
        let Some(rest) = line.strip_prefix("deb").filter(|rest| rest.starts_with([' ', '\t'])) else { continue };
        let (options, rest) = match rest.trim_start().strip_prefix('[').and_then(|rest| rest.split_once(']')) {
            Some((options, rest)) => (options, rest),
            None => ("", rest),
        };
        let signed_by = options.split_whitespace().find_map(|option| option.strip_prefix("signed-by="));
        let mut words = rest.split_whitespace();
        let (Some(uri), Some(suite)) = (words.next(), words.next()) else { continue };
        found.take(&[uri], &[suite], &words.collect::<Vec<_>>(), signed_by);
    }
    found
}

impl AptMirrors {
    fn take(&mut self, uris: &[&str], suites: &[&str], components: &[&str], signed_by: Option<&str>) {
        if !components.contains(&"main") {
            return;
        }
        for uri in uris.iter().filter(|uri| is_debians(uri, signed_by)) {
            let Ok(base) = base_url(uri) else { continue };
            for suite in suites {
                let place = match suite.split_once(['-', '/']) {
                    None => &mut self.main,
                    Some((_, "security")) => &mut self.security,
                    Some(_) => continue,
                };
                place.get_or_insert_with(|| base.clone());
            }
        }
    }
}

/// Vendors name their suites after Debian's too, so an entry counts as Debian's by its keyring, or, where none is named,
/// by a folder `debian…` in its path. A wrong guess costs an error, not trust: signatures are checked against Debian's keys.
fn is_debians(uri: &str, signed_by: Option<&str>) -> bool {
    match signed_by {
        Some(keyring) => keyring.contains("debian-archive"),
        None => uri.splitn(4, '/').nth(3).is_some_and(|path| path.split('/').any(|folder| folder.starts_with("debian"))),
    }
}

fn base_url(url: &str) -> Result<String> {
    let trimmed = url.trim().trim_end_matches('/');
    let host = trimmed.strip_prefix("http://").or_else(|| trimmed.strip_prefix("https://"));
    match host {
        Some(host) if !host.is_empty() && !host.starts_with('/') => Ok(trimmed.to_owned()),
        _ => Err(Error::new(Class::Usage, format!("\"{url}\" is not the address of a mirror"))
            .detail("expected http://HOST/PATH or https://HOST/PATH, the address that \"dists\" and \"pool\" lie below")),
    }
}

const MONTHS: [&str; 12] = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];

/// Seconds since 1970 of a date as `InRelease` writes it: `Sat, 12 Sep 2026 07:55:41 UTC` (RFC 5322 with the zone UTC).
pub fn parse_date(text: &str) -> Result<i64> {
    let wrong = || Error::new(Class::Usage, format!("\"{text}\" is not a date such as \"Sat, 12 Sep 2026 07:55:41 UTC\""));
    let words: Vec<&str> = text.split_whitespace().collect();
    let &[_, day, month, year, clock, "UTC" | "GMT" | "+0000"] = words.as_slice() else { return Err(wrong()) };
    let month = MONTHS.iter().position(|name| *name == month).ok_or_else(wrong)? as i64 + 1;
    let number = |text: &str| text.parse::<u16>().map(i64::from).map_err(|_| wrong());
    let (day, year) = (number(day)?, number(year)?);
    let clock = clock.split(':').map(number).collect::<Result<Vec<_>>>()?;
    let &[hour @ 0..=23, minute @ 0..=59, second @ 0..=60] = clock.as_slice() else { return Err(wrong()) };
    if !(1..=31).contains(&day) || !(1970..=9999).contains(&year) {
        return Err(wrong());
    }
    Ok(days_from_civil(year, month, day) * 86_400 + hour * 3600 + minute * 60 + second)
}

/// `20260912T075541Z` for a time in seconds since 1970.
fn stamp(seconds: i64) -> String {
    let (days, rest) = (seconds.div_euclid(86_400), seconds.rem_euclid(86_400));
    // The inverse of days_from_civil, from the same source.
    let shifted = days + 719_468;
    let (era, of_era) = (shifted.div_euclid(146_097), shifted.rem_euclid(146_097));
    let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    format!("{year:04}{month:02}{day:02}T{:02}{:02}{:02}Z", rest / 3600, rest / 60 % 60, rest % 60)
}

/// Days since 1970-01-01 in the Gregorian calendar (Hinnant, "chrono-Compatible Low-Level Date Algorithms").
fn days_from_civil(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let (era, year_of_era) = (year.div_euclid(400), year.rem_euclid(400));
    let of_year = (153 * (if month > 2 { month - 3 } else { month + 9 }) + 2) / 5 + day - 1;
    era * 146_097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + of_year - 719_468
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOURCES: &str = "\
Types: deb deb-src
# a comment within a stanza
URIs: http://mirror.example.org/debian/
Suites: bookworm bookworm-updates
Components: main
Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg

Types: deb
URIs: http://mirror.example.org/debian-security
Suites: bookworm-security
Components: main
";

    fn mirrors(main: Option<&str>, security: Option<&str>) -> AptMirrors {
        AptMirrors { main: main.map(str::to_owned), security: security.map(str::to_owned) }
    }

    #[test]
    fn both_forms_of_apt_settings_are_read() {
        let expected = mirrors(Some("http://mirror.example.org/debian"), Some("http://mirror.example.org/debian-security"));
        assert_eq!(parse_sources(SOURCES), expected);
        let list = "# deb http://old.example.org/debian bookworm main\n\
                    deb-src http://src.example.org/debian bookworm main\n\
                    deb [arch=amd64 signed-by=/k/debian-archive-keyring.gpg] http://mirror.example.org/debian bookworm main contrib\n\
                    deb http://mirror.example.org/debian-security/ bookworm-security main # updates\n";
        assert_eq!(parse_list(list), expected);
    }

    #[test]
    fn entries_that_are_not_debians_or_are_off_are_passed_over() {
        let none = AptMirrors::default();
        for text in [
            "deb https://download.example.com/linux/debian bookworm stable",
            "deb https://apt.example.com bookworm main",
            "deb [signed-by=/k/vendor.gpg] https://vendor.example.com/debian bookworm main",
            "deb cdrom:[Debian]/debian bookworm main",
            "deb http://mirror.example.org/debian bookworm-backports main",
        ] {
            assert_eq!(parse_list(text), none, "{text}");
        }
        assert_eq!(parse_sources(&SOURCES.replace("Types:", "Enabled: no\nTypes:")), none);
        assert_eq!(parse_sources(&SOURCES.replace("deb deb-src", "deb-src").replace("Types: deb\n", "Types: deb-src\n")), none);
    }

    #[test]
    fn a_derivatives_mirrors_are_not_taken() {
        assert!(is_debian("NAME=\"Debian\"\nID=debian\n") && is_debian("ID=\"debian\"\n"));
        assert!(!is_debian("ID=ubuntu\nID_LIKE=debian\n"));
        let etc = tempfile::tempdir().expect("a folder");
        fs_err::create_dir_all(etc.path().join("apt/sources.list.d")).expect("made");
        fs_err::write(etc.path().join("apt/sources.list.d/debian.sources"), SOURCES).expect("written");
        fs_err::write(etc.path().join("os-release"), "ID=ubuntu\n").expect("written");
        let error = Mirrors::load(&Wishes::default(), etc.path()).expect_err("no mirror");
        assert_eq!(error.class(), Class::Usage);
        assert!(error.to_string().contains("--debian-mirror URL"), "{error}");
        fs_err::write(etc.path().join("os-release"), "ID=debian\n").expect("written");
        let mirrors = Mirrors::load(&Wishes::default(), etc.path()).expect("Debian's");
        assert_eq!(mirrors.url("security", "pool/a.deb").expect("known"), "http://mirror.example.org/debian-security/pool/a.deb");
    }

    #[test]
    fn a_mirror_that_was_asked_for_brings_its_own_security_sibling() {
        let apt = parse_sources(SOURCES);
        let wishes = Wishes { main: Some("http://127.0.0.1:1/debian/".to_owned()), ..Wishes::default() };
        let mirrors = Mirrors::choose(&wishes, &apt).expect("good");
        assert_eq!((mirrors.main.as_str(), mirrors.security.as_str()), ("http://127.0.0.1:1/debian", "http://127.0.0.1:1/debian-security"));
        let wishes = Wishes { security: Some("https://s.example.org/x".to_owned()), ..Wishes::default() };
        let mirrors = Mirrors::choose(&wishes, &apt).expect("good");
        assert_eq!((mirrors.main.as_str(), mirrors.security.as_str()), ("http://mirror.example.org/debian", "https://s.example.org/x"));
        for bad in ["mirror.example.org/debian", "ftp://mirror.example.org/debian", "http://", "http:///debian"] {
            let wishes = Wishes { main: Some(bad.to_owned()), ..Wishes::default() };
            assert!(Mirrors::choose(&wishes, &apt).is_err(), "{bad}");
        }
        assert!(mirrors.url("updates", "pool/a").is_err());
    }

    #[test]
    fn an_archive_addressed_by_time_answers_for_the_locks_day() {
        let wishes = Wishes { archive: Some("https://past.example.org/archive/".to_owned()), ..Wishes::default() };
        let mirrors = Mirrors::choose(&wishes, &AptMirrors::default()).expect("good");
        assert!(mirrors.url("main", "pool/a.deb").is_err(), "no time is known yet");
        let zeros = "0".repeat(64);
        let text = format!(
            r#"{{"format":1,"debian":{{"suite":"trixie","architecture":"amd64","indexes":{{"security":
            {{"date":"Sat, 28 Feb 2026 23:55:41 UTC","packages":"{zeros}"}}}}}},"groups":{{}},"artefacts":[],"scripts":[]}}"#
        );
        let lock = Lock::parse(&text, "lock.json").expect("valid");
        let mirrors = mirrors.at(&lock).expect("dates are good");
        assert_eq!(
            mirrors.url("security", "pool/a.deb").expect("known"),
            "https://past.example.org/archive/debian-security/20260301T235541Z/pool/a.deb"
        );
    }

    #[test]
    fn dates_are_read_as_the_archive_writes_them() {
        for (text, expected) in [
            ("Thu, 01 Jan 1970 00:00:00 UTC", 0),
            ("Sat, 12 Sep 2026 07:55:41 UTC", 1_789_199_741),
            ("Tue, 29 Feb 2028 23:59:59 UTC", 1_835_481_599),
        ] {
            assert_eq!(parse_date(text).expect(text), expected, "{text}");
        }
        for bad in ["", "2026-09-12", "Sat, 12 Sep 2026 07:55:41 CEST", "Sat, 32 Sep 2026 07:55:41 UTC", "Sat, 12 Sep 2026 25:00:00 UTC"] {
            assert!(parse_date(bad).is_err(), "{bad}");
        }
    }
}
