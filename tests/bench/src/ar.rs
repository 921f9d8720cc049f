//! Debian packages as ar archives: where their data lies, and one of them made anew with another version.

use std::io::{Read, Write};
use std::path::Path;

use images::{Class, Error, Result};

/// A member of an ar archive.
#[derive(Clone, Debug, PartialEq)]
pub struct Member {
    /// Its name, such as `data.tar.xz`.
    pub name: String,
    /// Where its content begins, bytes.
    pub offset: u64,
    /// How long it is, bytes.
    pub size: u64,
}

/// The members of an ar archive (deb(5)).
pub fn members(archive: &[u8]) -> Result<Vec<Member>> {
    let broken = || Error::new(Class::Build, "not a Debian package");
    let mut members = Vec::new();
    let mut at = 8;
    while at + 60 <= archive.len() {
        let header = std::str::from_utf8(&archive[at..at + 60]).map_err(|_| broken())?;
        let size: usize = header[48..58].trim().parse().map_err(|_| broken())?;
        let name = header[..16].trim().trim_end_matches('/').to_owned();
        members.push(Member { name, offset: (at + 60) as u64, size: size as u64 });
        at += 60 + size + size % 2;
    }
    if archive.starts_with(b"!<arch>\n") && members.len() == 3 && at <= archive.len() { Ok(members) } else { Err(broken()) }
}

/// The data member of the package at `path`.
pub fn data_member(path: &Path) -> Result<Member> {
    members(&fs_err::read(path)?)?
        .into_iter()
        .find(|member| member.name.starts_with("data.tar"))
        .ok_or_else(|| Error::new(Class::Build, format!("{} has no data", path.display())))
}

/// The package again, with `suffix` at the end of its version and one file of its data changed: the copyright file, which
/// every package has. Both members are xz, as Debian makes them.
pub fn upgraded(package: &[u8], suffix: &str) -> Result<Vec<u8>> {
    let mut made = package[..8].to_vec();
    for member in members(package)? {
        let content = &package[member.offset as usize..(member.offset + member.size) as usize];
        let header = &package[member.offset as usize - 60..member.offset as usize];
        let content = match member.name.split_once(".tar") {
            None => content.to_vec(),
            Some((_, ".xz")) => {
                let changed = changed(liblzma::read::XzDecoder::new(content), suffix)?;
                let mut packed = liblzma::write::XzEncoder::new(Vec::new(), 6);
                packed.write_all(&changed)?;
                packed.finish()?
            }
            Some((_, other)) => return Err(Error::new(Class::Build, format!("the package is packed as {other}, not .xz"))),
        };
        made.extend_from_slice(&header[..48]);
        writeln!(made, "{:<10}`", content.len())?;
        made.extend_from_slice(&content);
        made.extend_from_slice(&b"\n"[..content.len() % 2]);
    }
    Ok(made)
}

/// A tar archive with another version in its `control` and another text in its `copyright`.
fn changed(archive: impl Read, suffix: &str) -> Result<Vec<u8>> {
    let mut made = tar::Builder::new(Vec::new());
    for entry in tar::Archive::new(archive).entries()? {
        let mut entry = entry?;
        let mut header = entry.header().clone();
        let path = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
        let mut content = Vec::new();
        entry.read_to_end(&mut content)?;
        if path.trim_start_matches("./") == "control" {
            let lines = String::from_utf8_lossy(&content)
                .lines()
                .map(|line| if line.starts_with("Version:") { format!("{line}{suffix}\n") } else { format!("{line}\n") })
                .collect::<String>();
            content = lines.into_bytes();
        } else if path.ends_with("/copyright") && header.entry_type().is_file() {
            content.extend_from_slice(format!("\nversion {suffix}\n").as_bytes());
        }
        header.set_size(content.len() as u64);
        header.set_cksum();
        // The header has the names as they stand in the archive, unless they are too long for it.
        let link = entry.link_name_bytes().map(|link| String::from_utf8_lossy(&link).into_owned());
        match link {
            _ if path.len() <= 100 && link.as_ref().is_none_or(|link| link.len() <= 100) => made.append(&header, content.as_slice())?,
            Some(link) => made.append_link(&mut header, &path, &link)?,
            None => made.append_data(&mut header, &path, content.as_slice())?,
        }
    }
    Ok(made.into_inner()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn xz(bytes: &[u8]) -> Vec<u8> {
        let mut packed = liblzma::write::XzEncoder::new(Vec::new(), 0);
        packed.write_all(bytes).unwrap();
        packed.finish().unwrap()
    }

    fn archive(files: &[(&str, &str)]) -> Vec<u8> {
        let mut made = tar::Builder::new(Vec::new());
        for (path, text) in files {
            let mut header = tar::Header::new_gnu();
            header.set_size(text.len() as u64);
            header.set_mode(0o644);
            header.set_uid(0);
            header.set_gid(0);
            header.set_mtime(0);
            made.append_data(&mut header, path, text.as_bytes()).unwrap();
        }
        xz(&made.into_inner().unwrap())
    }

    fn package() -> Vec<u8> {
        let mut made = b"!<arch>\n".to_vec();
        for (name, content) in [
            ("debian-binary", b"2.0\n".to_vec()),
            ("control.tar.xz", archive(&[("./control", "Package: sample\nVersion: 1-1\n")])),
            ("data.tar.xz", archive(&[("./usr/share/doc/sample/copyright", "free\n"), ("./usr/bin/sample", "#!\n")])),
        ] {
            writeln!(made, "{name:<16}{:<12}{:<6}{:<6}{:<8}{:<10}`", 0, 0, 0, "100644", content.len()).unwrap();
            made.extend_from_slice(&content);
            made.extend_from_slice(&b"\n"[..content.len() % 2]);
        }
        made
    }

    #[test]
    fn an_upgraded_package_is_a_package_with_another_version_and_one_other_file() {
        let made = upgraded(&package(), "+bench").unwrap();
        let deb = images::deb::Deb::open(made.as_slice()).unwrap();
        assert_eq!(deb.control.field("Version"), Some("1-1+bench"));
        let mut files = Vec::new();
        deb.entries(&mut |entry, content| {
            let mut text = String::new();
            content.read_to_string(&mut text)?;
            files.push((entry.path, text));
            Ok(())
        })
        .unwrap();
        assert_eq!(files[0].1, "free\n\nversion +bench\n");
        assert_eq!(files[1], ("usr/bin/sample".into(), "#!\n".into()));
    }

    #[test]
    fn what_is_no_package_is_refused() {
        assert!(members(b"<html>").is_err());
        assert!(members(&package()[..80]).is_err());
    }
}
