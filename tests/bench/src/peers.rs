//! Other builders, given the same packages from the same disk. docs/benchmark.md says what each does differently.

mod dockerfile;
mod mmdebstrap;

use images::Result;
use serde::Serialize;
use xtask::process::Process;

use crate::inputs::{Bench, Material};
use crate::measure::Sample;

/// A builder.
pub struct Peer {
    /// How the table calls it.
    pub name: &'static str,
    /// Commands that have to be on this machine.
    programs: &'static [&'static str],
    /// A command that has to succeed before it can run.
    answers: &'static [&'static str],
    /// What brings it.
    brought_by: &'static str,
    run: fn(&Bench, &Material) -> Result<Measured>,
}

/// How long a builder takes, from its inputs to an image in files.
#[derive(Clone, Debug, Serialize)]
pub struct Measured {
    /// The builder.
    pub name: String,
    /// Nothing made before.
    pub cold: Sample,
    /// The same again; nothing where the builder has no notion of it.
    pub no_op: Option<Sample>,
    /// A CA that was not there before.
    pub ca: Option<Sample>,
}

/// The nearest first: no daemon and no maintainer scripts.
const PEERS: &[Peer] = &[
    Peer {
        name: "mmdebstrap extract + umoci",
        programs: &["mmdebstrap", "umoci"],
        answers: &["mmdebstrap", "--version"],
        brought_by: "apt-get install mmdebstrap umoci",
        run: mmdebstrap::measure,
    },
    Peer {
        name: "buildah bud + push",
        programs: &["buildah", "dpkg-deb"],
        answers: &["buildah", "--version"],
        brought_by: "apt-get install buildah",
        run: dockerfile::buildah,
    },
    Peer {
        name: "docker build (classic) + save",
        programs: &["docker", "dpkg-deb"],
        answers: &["docker", "version"],
        brought_by: "apt-get install docker.io, and a running Engine",
        run: dockerfile::classic,
    },
    Peer {
        name: "docker buildx + save",
        programs: &["docker", "dpkg-deb"],
        answers: &["docker", "buildx", "inspect"],
        brought_by: "apt-get install docker-buildx (trixie or later), and a running Engine",
        run: dockerfile::buildx,
    },
];

impl Peer {
    /// Measures it.
    pub fn measure(&self, bench: &Bench, material: &Material) -> Result<Measured> {
        (self.run)(bench, material).map(|measured| Measured { name: self.name.into(), ..measured })
    }

    fn is_ready(&self) -> bool {
        let answers = || Process::new(self.answers[0], "/").args(&self.answers[1..]).outcome();
        self.programs.iter().all(|program| is_here(program)) && answers().is_ok_and(|outcome| outcome.success())
    }
}

impl Measured {
    /// The figure that the table has under this name.
    pub fn of(&self, what: &str) -> Option<&Sample> {
        match what {
            "cold" => Some(&self.cold),
            "no-op" => self.no_op.as_ref(),
            "CA changed" => self.ca.as_ref(),
            _ => None,
        }
    }
}

/// Those that can run here.
pub fn present() -> impl Iterator<Item = &'static Peer> {
    PEERS.iter().filter(|peer| peer.is_ready())
}

/// Those that cannot, with what brings them; all of them where none is wanted.
pub fn absent(none_wanted: bool) -> Vec<(String, String)> {
    let absent = PEERS.iter().filter(|peer| none_wanted || !peer.is_ready());
    absent.map(|peer| (peer.name.into(), if none_wanted { "--no-peers".into() } else { peer.brought_by.into() })).collect()
}

/// Whether `program` is in `PATH`.
pub fn is_here(program: &str) -> bool {
    std::env::var_os("PATH").is_some_and(|path| std::env::split_paths(&path).any(|folder| folder.join(program).is_file()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peer_that_cannot_run_is_named_with_what_brings_it() {
        let missing = Peer {
            name: "none",
            programs: &["sh", "no-such-builder"],
            answers: &["true"],
            brought_by: "",
            run: |_, _| unreachable!("it is not here"),
        };
        assert!(!missing.is_ready());
        assert!(Peer { programs: &["sh"], ..missing }.is_ready());
        let all = absent(true);
        assert_eq!(all.len(), PEERS.len());
        assert!(present().count() + absent(false).len() == PEERS.len());
        assert!(absent(false).iter().all(|(_, command)| command.starts_with("apt-get install ")));
    }
}
