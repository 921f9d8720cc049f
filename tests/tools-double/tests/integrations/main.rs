//! What `cargo xtask integrations` does at SonarQube, Jenkins and GitLab, against doubles that say so.

#![allow(missing_docs, reason = "tests")]
#![allow(clippy::unwrap_used, reason = "a panic here is a failed test with a place")]

mod contract;
mod documented;
mod gitlab;
mod jenkins;
mod sonarqube;

use std::path::Path;
use std::time::Duration;

use images::Class;
use tools_double::{Double, Fault, Plays};
use xtask::integrations::api::Scheme;
use xtask::integrations::{Api, Bundle, bundle};
use xtask::provision::Tool;
use xtask::server::Patience;
use xtask::site::secrets::{Secret, Secrets};
use xtask::site::{self, Folder, Site};

/// A site's folder with a CA, and what it is.
pub struct Place {
    root: tempfile::TempDir,
    pub folder: Folder,
    pub site: Site,
}

impl Place {
    pub fn new(toml: &str, secrets: &str) -> Place {
        let root = tempfile::tempdir().unwrap();
        let folder = Folder::new(root.path());
        fs_err::create_dir(folder.pki()).unwrap();
        fs_err::write(folder.ca(), include_str!("../../contract/ca.pem")).unwrap();
        images::file::write_beside(&folder.secrets(), secrets.as_bytes(), 0o600).unwrap();
        let toml = format!("format = 1\naddresses = [\"192.168.1.20\"]\n{toml}");
        fs_err::write(folder.toml(), &toml).unwrap();
        let site = site::parse("site.toml", &toml, || unreachable!("addresses are written")).unwrap();
        Place { root, folder, site }
    }

    pub fn secrets(&self) -> Secrets {
        Secrets::read(self.folder.root()).unwrap().unwrap()
    }

    pub fn bundle(&self, tool: Tool) -> Bundle {
        bundle(tool, &self.folder, &self.site, &self.secrets()).unwrap().unwrap()
    }

    /// A folder beside the site's.
    pub fn beside(&self) -> &Path {
        self.root.path()
    }

    pub fn api<T: Plays>(&self, tool: Tool, double: &Double<T>, scheme: Scheme, token: &str) -> Api {
        let patience =
            Patience { tries: 3, pause: Duration::from_millis(1), longest: Duration::from_millis(4), timeout: Duration::from_secs(10) };
        let url = double.url().parse().unwrap();
        Api::new(tool, &url, self.folder.ca(), &self.site, scheme, &Secret::new(token), patience).unwrap()
    }
}

pub fn mode(path: &Path) -> u32 {
    std::os::unix::fs::PermissionsExt::mode(&fs_err::metadata(path).unwrap().permissions()) & 0o7777
}

/// Every refusal and broken answer, at each of the requests that a run makes; then once more without.
pub fn each_fault_is_told_and_the_next_run_finishes<T: Plays>(
    start: impl Fn() -> Double<T>,
    run: impl Fn(&Double<T>) -> images::Result<Vec<String>>,
    finished: impl Fn(&Double<T>),
    words: &[(Fault, &str)],
    secrets: &[&str],
) {
    let whole = start();
    run(&whole).unwrap();
    let requests = whole.asked().len();
    assert!(requests > 1, "only {requests} requests");
    let mut cases = 0;
    for (fault, expected) in words {
        for at in 1..=requests {
            let double = start();
            // From here on: what is asked for again is refused again.
            (at..at + 5).for_each(|at| double.fault(at, *fault));
            let said = format!("{fault:?} at request {at}");
            match run(&double) {
                Ok(_) => panic!("{said}: nothing was told"),
                Err(error) => {
                    assert_eq!(error.class(), Class::Server, "{said}: {error}");
                    assert!(error.to_string().contains(expected), "{said}: expected {expected:?} in {error}");
                    for secret in secrets {
                        assert!(!error.to_string().contains(secret), "{said}: {error}");
                    }
                }
            }
            double.mend();
            run(&double).unwrap_or_else(|error| panic!("after {said}: {error}"));
            finished(&double);
            cases += 1;
        }
    }
    println!("{cases} faults, each at one of {requests} requests");
}

#[test]
fn no_token_goes_over_plain_http_to_another_machine() {
    let place = Place::new("[sonarqube]\nurl = \"http://sonarqube.cicd.local:9000\"\n", "");
    let url = place.site.sonarqube.as_ref().unwrap().url.clone();
    let made =
        Api::new(Tool::Sonarqube, &url, place.folder.ca(), &place.site, Scheme::BasicUser, &Secret::new("token"), Patience::default());
    let error = made.err().unwrap().to_string();
    assert!(error.contains("readable on the way") && error.contains("for the steps by hand"), "{error}");
}
