//! Certificates for one claim, made by openssl.

use std::path::{Path, PathBuf};

use images::Result;
use xtask::machine::Machine;

/// A CA with its key, in a folder.
pub struct Ca<'a> {
    machine: &'a Machine,
    folder: &'a Path,
    name: String,
}

impl<'a> Ca<'a> {
    /// Makes one.
    pub fn new(machine: &'a Machine, folder: &'a Path, name: &str) -> Result<Ca<'a>> {
        let ca = Ca { machine, folder, name: name.to_owned() };
        ca.openssl("req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -addext keyUsage=critical,keyCertSign")
            .args(["-subj", &format!("/CN={name} root of an acceptance test")])
            .arg("-keyout")
            .arg(ca.file("ca.key"))
            .arg("-out")
            .arg(ca.cert())
            .capture()?;
        Ok(ca)
    }

    /// Its certificate.
    pub fn cert(&self) -> PathBuf {
        self.file("ca.pem")
    }

    /// A certificate for the DNS name or address `host`, and its key.
    pub fn leaf(&self, host: &str) -> Result<(PathBuf, PathBuf)> {
        let (key, cert, request, extensions) = (self.file("key"), self.file("pem"), self.file("csr"), self.file("ext"));
        let kind = if host.parse::<std::net::IpAddr>().is_ok() { "IP" } else { "DNS" };
        fs_err::write(&extensions, format!("subjectAltName={kind}:{host}\nextendedKeyUsage=serverAuth\n"))?;
        self.openssl("req -new -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes")
            .args(["-subj", &format!("/CN={host}")])
            .arg("-keyout")
            .arg(&key)
            .arg("-out")
            .arg(&request)
            .capture()?;
        self.openssl("x509 -req -days 1 -set_serial 2")
            .arg("-in")
            .arg(&request)
            .arg("-CA")
            .arg(self.cert())
            .arg("-CAkey")
            .arg(self.file("ca.key"))
            .arg("-extfile")
            .arg(&extensions)
            .arg("-out")
            .arg(&cert)
            .capture()?;
        Ok((cert, key))
    }

    fn openssl(&self, words: &str) -> xtask::process::Process {
        self.machine.process("openssl").args(words.split(' '))
    }

    fn file(&self, ending: &str) -> PathBuf {
        self.folder.join(format!("{}.{ending}", self.name))
    }
}
