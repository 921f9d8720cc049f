//! Judges of the site's own files: `site.toml`, address, modes, certificates, environment files, images.

use std::net::IpAddr;
use std::path::Path;

use images::{Class, Result};

use super::{Check, list};
use crate::site::Site;
use crate::site::addresses::{self, Candidate};

/// `site.toml`: it can be read, or why not.
pub fn toml(path: &Path, exists: bool, site: Result<&Site, &images::Error>) -> Check {
    let (id, title) = ("site", "site.toml");
    match site {
        Ok(site) if exists => Check::ok(id, title, format!("{}: {}", path.display(), site.url())),
        Ok(site) => Check::ok(id, title, format!("no {}, so every value has its default: {}", path.display(), site.url())),
        Err(error) => {
            let mend = if error.class() == Class::Usage { "edit it" } else { "make it readable" };
            Check::of_error(id, title, error, format!("{mend}: {}", path.display()))
        }
    }
}

/// Whether the site's addresses are still this machine's.
pub fn address(site: &Site, interfaces: &[Candidate]) -> Check {
    let (id, title) = ("address", "Address on the LAN");
    let is_ours = |address: &IpAddr| interfaces.iter().any(|candidate| candidate.address == *address);
    let gone: Vec<String> = site.addresses.iter().filter(|address| !is_ours(address)).map(IpAddr::to_string).collect();
    let all: Vec<String> = site.addresses.iter().map(IpAddr::to_string).collect();
    if gone.is_empty() {
        return Check::ok(id, title, all.join(", "));
    }
    let usable = interfaces.iter().filter(|candidate| addresses::unusable(candidate.address).is_none());
    let here: Vec<String> = usable.map(|candidate| format!("{} ({})", candidate.address, candidate.interface)).collect();
    let found =
        format!("{} is not this machine's; it has {}", list(&gone, 3), if here.is_empty() { "none".to_owned() } else { list(&here, 4) });
    Check::problem(id, title, found, "set addresses in site.toml, then cargo xtask certs && cargo xtask env && cargo xtask up")
}

/// A path of the site that holds secrets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Guarded {
    /// As it is shown and typed.
    pub path: String,
    /// The mode that it should not exceed.
    pub most: u32,
    /// The permission bits that it has.
    pub mode: u32,
    /// Whether it is a regular file or a folder, and not a link or something else.
    pub plain: bool,
}

/// Whether nobody else can read what is secret.
pub fn modes(found: &[Guarded]) -> Check {
    let (id, title) = ("modes", "Who can read secrets");
    if found.is_empty() {
        return Check::skipped(id, title, "the site has no secrets yet: cargo xtask env, cargo xtask certs");
    }
    let odd: Vec<String> = found.iter().filter(|file| !file.plain).map(|file| file.path.clone()).collect();
    if !odd.is_empty() {
        return Check::problem(
            id,
            title,
            format!("{}: a link or something else than a file", list(&odd, 4)),
            format!("rm {}", odd.join(" ")),
        );
    }
    let open: Vec<&Guarded> = found.iter().filter(|file| file.mode & !file.most & 0o777 != 0).collect();
    let Some(first) = open.first() else { return Check::ok(id, title, "the owner alone") };
    let words: Vec<String> = open.iter().map(|file| format!("{} has mode {:04o}", file.path, file.mode)).collect();
    let paths: Vec<&str> = open.iter().filter(|file| file.most == first.most).map(|file| file.path.as_str()).collect();
    Check::problem(id, title, list(&words, 4), format!("chmod {:04o} {}", first.most, paths.join(" ")))
}

/// Whether the services' settings are what `site.toml` says.
pub fn settings(found: Result<(), &images::Error>) -> Check {
    let (id, title) = ("env", "Settings of the services");
    match found {
        Ok(()) => Check::ok(id, title, "as site.toml says"),
        Err(error) => Check::of_error(id, title, error, "cargo xtask env"),
    }
}

/// What the lock asks for that the store lacks: names, and how many there are in all. Images that are built need none of it.
pub fn store(place: &str, missing: Result<&[String], &images::Error>, all: usize, built: bool) -> Check {
    let (id, title) = ("store", "Store of packages");
    match missing {
        Ok([]) => Check::ok(id, title, format!("all {all} files that the images need, in {place}")),
        Ok(_) if built => Check::skipped(id, title, "the images are built already"),
        Ok(missing) => {
            let found = format!("{} of {all} files are missing in {place}: {}", missing.len(), list(missing, 3));
            Check::problem(id, title, found, "cargo xtask images fetch")
        }
        Err(error) => Check::of_error(id, title, error, "cargo xtask images fetch"),
    }
}

/// The images that the site runs: those that are built, and those that the Engine has.
pub fn images(wanted: &[String], built: &[String], loaded: Option<&[String]>) -> Check {
    let (id, title) = ("images", "Images");
    let lacks = |there: &[String]| wanted.iter().filter(|name| !there.contains(name)).cloned().collect::<Vec<String>>();
    match (lacks(built), loaded.map(lacks)) {
        (not_built, _) if !not_built.is_empty() => {
            Check::problem(id, title, format!("not built: {}", not_built.join(", ")), format!("cargo xtask images {}", not_built.join(" ")))
        }
        (_, Some(not_loaded)) if !not_loaded.is_empty() => {
            let mend = "cargo xtask up, or cargo xtask images --load";
            Check::problem(id, title, format!("built, but not in the Engine: {}", not_loaded.join(", ")), mend)
        }
        (_, None) => Check::ok(id, title, "built; whether the Engine has them is not known"),
        _ => Check::ok(id, title, "built, and in the Engine"),
    }
}

/// A Docker network that the site joins.
pub fn network(name: &str, is_there: bool) -> Check {
    let (id, title) = (format!("network.{name}"), format!("Docker network {name}"));
    match is_there {
        true => Check::ok(id, title, "there"),
        false => {
            Check::problem(id, title, "`network.join` in site.toml names it, and it is not there", format!("docker network create {name}"))
        }
    }
}

/// The networks that the site makes, as far as some of their names are there: project and name of each. Compose joins none that it has
/// not made for this project.
pub fn own_networks(project: &str, there: &[(String, String)]) -> Check {
    let (id, title) = ("networks", "Docker networks of the site");
    let taken: Vec<&str> = there.iter().filter(|(owner, _)| owner != project).map(|(_, name)| name.as_str()).collect();
    match taken.is_empty() {
        true => Check::ok(id, title, "their names are free, or this site's"),
        false => {
            let found = format!("there is a network {} already, and it is not this site's", taken.join(", and one "));
            Check::problem(id, title, found, format!("docker network rm {}   (or another project in site.toml)", taken.join(" ")))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::Outcome;
    use super::*;

    fn candidate(address: &str) -> Candidate {
        Candidate { interface: "eth0".to_owned(), address: address.parse().unwrap() }
    }

    fn site(addresses: &str) -> Site {
        let text = format!("format = 1\naddresses = [{addresses}]\n");
        crate::site::parse("site.toml", &text, || unreachable!("it has addresses")).unwrap()
    }

    fn mend(check: Check) -> String {
        match check.outcome {
            Outcome::Problem { found, mend } => format!("{found} → {mend}"),
            other => panic!("no problem: {other:?}"),
        }
    }

    fn is_ok(check: &Check) -> bool {
        matches!(check.outcome, Outcome::Ok { .. })
    }

    #[test]
    fn site_toml_is_there_or_not_or_wrong() {
        let path = Path::new("site/site.toml");
        let good = site("\"192.168.1.20\"");
        assert!(is_ok(&toml(path, true, Ok(&good))));
        assert!(is_ok(&toml(path, false, Ok(&good))));
        let wrong = crate::site::parse("site/site.toml", "format = 1\nprots = 1\n", || unreachable!("not asked")).unwrap_err();
        assert!(mend(toml(path, true, Err(&wrong))).contains("prots"));
    }

    #[test]
    fn an_address_that_moved_is_told_with_those_that_are_here() {
        let moved = site("\"192.168.1.20\", \"192.168.1.30\"");
        assert!(is_ok(&address(&moved, &[candidate("192.168.1.20"), candidate("192.168.1.30")])));
        let words = mend(address(&moved, &[candidate("127.0.0.1"), candidate("192.168.1.20"), candidate("10.0.0.7")]));
        assert!(
            words.starts_with("192.168.1.30 is not this machine's; it has 192.168.1.20 (eth0), 10.0.0.7 (eth0) → set addresses"),
            "{words}"
        );
    }

    #[test]
    fn a_network_that_is_not_there_is_told_with_what_makes_it() {
        assert!(is_ok(&network("cicd-net", true)));
        assert!(mend(network("cicd-net", false)).ends_with("→ docker network create cicd-net"));
    }

    #[test]
    fn a_network_of_somebody_else_under_our_name_is_told() {
        let there = |owner: &str, name: &str| (owner.to_owned(), name.to_owned());
        assert!(is_ok(&own_networks("chatops", &[])));
        assert!(is_ok(&own_networks("chatops", &[there("chatops", "chatops_backend")])));
        let words = mend(own_networks("chatops", &[there("", "chatops_backend"), there("chatops", "chatops_frontend")]));
        assert!(words.contains("→ docker network rm chatops_backend ") && !words.contains("frontend"), "{words}");
    }

    #[test]
    fn a_secret_that_others_can_read_is_told_with_its_mode() {
        let file = |path: &str, most, mode| Guarded { path: path.to_owned(), most, mode, plain: true };
        assert!(is_ok(&modes(&[file("site/secrets.env", 0o600, 0o600), file("site/pki", 0o700, 0o500)])));
        let words = mend(modes(&[file("site/secrets.env", 0o600, 0o640), file("site/pki", 0o700, 0o700)]));
        assert_eq!(words, "site/secrets.env has mode 0640 → chmod 0600 site/secrets.env");
        let link = Guarded { plain: false, ..file("site/pki/ca-key.pem", 0o600, 0o777) };
        assert!(mend(modes(&[link])).contains("a link"));
        assert!(matches!(modes(&[]).outcome, Outcome::Skipped { .. }));
    }

    #[test]
    fn settings_that_are_out_of_date_are_told_with_what_writes_them() {
        assert!(is_ok(&settings(Ok(()))));
        let error = images::Error::new(Class::Check, "not what site.toml says")
            .detail("env/coturn.env: out of date")
            .hint("`cargo xtask env` mends it");
        assert_eq!(mend(settings(Err(&error))), "not what site.toml says\n  env/coturn.env: out of date → `cargo xtask env` mends it");
        let unreadable = images::Error::new(Class::Usage, "secrets.env is not UTF-8");
        assert_eq!(mend(settings(Err(&unreadable))), "secrets.env is not UTF-8 → cargo xtask env");
    }

    #[test]
    fn a_store_and_images_that_lack_something_name_it() {
        let names = |list: &[&str]| list.iter().map(|name| (*name).to_owned()).collect::<Vec<String>>();
        let lacks = names(&["libc6", "coturn"]);
        assert!(matches!(store("target/store", Ok(&lacks), 120, true).outcome, Outcome::Skipped { .. }));
        assert!(is_ok(&store("target/store", Ok(&[]), 120, false)));
        assert!(mend(store("target/store", Ok(&lacks), 120, false)).contains("2 of 120 files are missing in target/store: libc6, coturn"));
        let wanted = names(&["coturn", "mattermost"]);
        assert!(is_ok(&images(&wanted, &wanted, Some(&wanted))));
        assert!(is_ok(&images(&wanted, &wanted, None)));
        assert_eq!(mend(images(&wanted, &names(&["coturn"]), None)), "not built: mattermost → cargo xtask images mattermost");
        assert!(mend(images(&wanted, &wanted, Some(&names(&["coturn"])))).starts_with("built, but not in the Engine: mattermost"));
    }
}
