//! A site in the lab: a folder, a project and ports of its own, and `cargo xtask` on the server for it.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Duration;

use images::{Class, Error, Result};
use serde_json::Value;
use xtask::process::{Outcome, Process, tail};
use xtask::workspace::Workspace;

use crate::{Lab, SERVER, address, said};

/// How long a whole `up` may take: the first one compiles the programs of the images.
pub const UP: Duration = Duration::from_secs(900);

/// A site, whose stack runs on the lab's server.
pub struct Site<'a> {
    /// Where.
    pub lab: &'a Lab,
    /// Its name for the Engine.
    pub project: String,
    /// The folder.
    pub folder: PathBuf,
    /// Its ports are from this one on.
    pub first: u16,
    /// The built front door: `target/release/xtask`.
    pub xtask: PathBuf,
    /// What `up` is told, besides the site: which Mattermost, and from where.
    pub up: Vec<OsString>,
}

impl Site<'_> {
    /// The folder.
    pub fn path(&self) -> PathBuf {
        self.folder.clone()
    }

    /// A port: 0 is Mattermost's, 1 that of Calls, 2 the metrics', 3 the alert gateway's, 4 and 5 Coturn's without and with TLS,
    /// 6 sends browsers on to HTTPS, 10 to 30 are relays.
    pub fn port(&self, offset: u16) -> u16 {
        self.first + offset
    }

    /// Writes `site.toml`, with `more` at its end.
    pub fn describe(&self, more: &str) -> Result<()> {
        let port = |offset| self.port(offset);
        let text = format!(
            "format = 1\nproject = \"{}\"\naddresses = [\"{}\"]\n[ports]\nmattermost = {}\ncalls = {}\nmetrics = {}\nalert-gateway = {}\nturn = {}\nturns = {}\n\
             relay = [{}, {}]\nredirect-http = {}\n[jenkins]\nurl = \"https://jenkins.cicd.local\"\n\
             [sonarqube]\nurl = \"https://sonarqube.cicd.local\"\n{more}",
            self.project,
            address(SERVER),
            port(0),
            port(1),
            port(2),
            port(3),
            port(4),
            port(5),
            port(10),
            port(30),
            port(6),
        );
        fs_err::write(self.folder.join("site.toml"), text).map_err(Error::from)
    }

    /// `cargo xtask` on the server of the lab, for this site.
    pub fn xtask(&self, words: &str) -> Process {
        self.xtask_for(&self.folder, words)
    }

    /// The same for a site in another folder.
    pub fn xtask_for(&self, folder: &Path, words: &str) -> Process {
        let machine = self.lab.machine();
        let process = self.lab.process(&self.xtask).args(words.split_whitespace()).arg("--site").arg(folder);
        process.in_folder(machine.root()).env_remove("CARGO_MANIFEST_DIR").env("PATH", machine.path())
    }

    /// `cargo xtask up`.
    pub fn up(&self) -> Result<Outcome> {
        self.xtask("up").args(&self.up).deadline(UP).outcome()
    }

    /// Brings it up; what it said.
    pub fn is_up(&self) -> Result<String> {
        let outcome = self.up()?;
        match outcome.success() {
            true => Ok(said(&outcome)),
            false => Err(Error::new(Class::Check, format!("up failed with {}", outcome.status)).detail(said(&outcome)).detail(self.logs())),
        }
    }

    /// What Compose and the containers said, newest last.
    pub fn logs(&self) -> String {
        let log = Workspace::at(self.lab.machine().root()).target().join("site").join(&self.project).join("compose.log");
        let compose = tail(&fs_err::read(log).unwrap_or_default(), 30);
        let services = self.containers().unwrap_or_default().into_iter().map(|(service, id)| {
            let log = self.lab.docker("logs --tail 10").arg(id).outcome().map(|outcome| said(&outcome));
            format!("{service}:\n{}", log.unwrap_or_default())
        });
        compose.into_iter().chain(services).collect::<Vec<_>>().join("\n")
    }

    /// Service → container ID.
    pub fn containers(&self) -> Result<BTreeMap<String, String>> {
        let label = format!("label=com.docker.compose.project={}", self.project);
        let format = "{{.Label \"com.docker.compose.service\"}} {{.ID}}";
        let list = self.lab.docker("ps --all --no-trunc --filter").args([&label, "--format", format]).text()?;
        Ok(list.lines().filter_map(|line| line.split_once(' ')).map(|(service, id)| (service.to_owned(), id.to_owned())).collect())
    }

    /// What the Engine tells of a container, an image, a volume.
    pub fn inspect(&self, id: &str) -> Result<Value> {
        let told = self.lab.docker("inspect").arg(id).text()?;
        let mut all: Value =
            serde_json::from_str(&told).map_err(|error| Error::new(Class::Engine, format!("docker inspect {id}: {error}")))?;
        Ok(all[0].take())
    }

    /// Names of its volumes.
    pub fn volumes(&self) -> Result<Vec<String>> {
        let label = format!("label=org.chatops.project={}", self.project);
        Ok(self.lab.docker("volume ls --quiet --filter").arg(label).text()?.lines().map(str::to_owned).collect())
    }

    /// A line of `secrets.env`. Panics where there is none.
    pub fn secret(&self, name: &str) -> String {
        let text = fs_err::read_to_string(self.folder.join("secrets.env")).unwrap_or_default();
        text.lines().find_map(|line| line.strip_prefix(&format!("{name}="))).unwrap_or_else(|| panic!("no {name}")).to_owned()
    }

    /// SQL, as the superuser.
    pub fn sql(&self, query: &str) -> Result<String> {
        self.xtask("psql").args(["--", "-At", "-c", query]).text()
    }
}
