//! What the checks need of a machine: one table of parts, what each is for, and how it comes to a machine without it.
//!
//! Debian's packages bring what Debian has. What it lacks is built in a pinned version by that language's own client, each
//! in a folder of its own below `target/tools`, so that a new pin is a new folder and nothing outside the checkout changes.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use images::{Class, Error, Result};

use crate::process::Process;
use crate::workspace::Workspace;

mod install;
mod trixie;

pub use install::install;

/// One part of a machine.
#[derive(Debug)]
pub struct Part {
    /// The program, as one types it.
    pub name: &'static str,
    /// What the checks use it for.
    pub why: &'static str,
    /// How it comes to a machine without it.
    pub from: Source,
}

/// Where a part comes from.
#[derive(Debug)]
pub enum Source {
    /// The first of these packages that the machine's Debian knows.
    Debian(&'static [&'static str]),
    /// Compose v2 as a plugin of Docker's client, from trixie's package, on older Debians too.
    ComposePlugin,
    /// A Docker client that knows `docker stack config`: the machine's own, or trixie's, unpacked below `target/tools`.
    StackClient,
    /// A Go that builds the scanner: the machine's own, or trixie's, unpacked below `target/tools`.
    Go,
    /// A crate with a program, built by cargo.
    Cargo {
        /// The pinned version.
        version: &'static str,
        /// What it can do without.
        options: &'static [&'static str],
    },
    /// A Go module with a program, built by Go.
    GoModule {
        /// The package's import path.
        package: &'static str,
        /// The pinned version, with its `v`.
        version: &'static str,
    },
    /// A package of JavaScript, installed by npm with what a folder's `package-lock.json` names.
    Npm {
        /// The folder with `package.json` and `package-lock.json`, from the top of the checkout.
        lock: &'static str,
        /// The version that is pinned there.
        version: &'static str,
    },
    /// A package of Python, brought by pip with what a list of pinned versions and digests names.
    Pip {
        /// The list, from the top of the checkout.
        list: &'static str,
        /// The version that is pinned there.
        version: &'static str,
        /// The folder of its modules.
        module: &'static str,
    },
    /// An archive that Maven's central repository has, copied by Maven.
    Maven {
        /// Group and artefact, as Maven writes them: `org.sonarsource.scanner.cli:sonar-scanner-cli`.
        artifact: &'static str,
        /// The pinned version.
        version: &'static str,
        /// Of the archive.
        sha256: &'static str,
    },
}

/// Every part, in the order in which they are brought: later ones are built with earlier ones.
///
/// A part stands here when a check uses it, not before.
pub const PARTS: &[Part] = &[
    Part::debian("git", "lists the files of this repository", &["git"]),
    Part::debian("cc", "links every Rust program; compiles the xz and zstd decoders", &["gcc"]),
    Part::debian("python3", "reads our archives with tarfile", &["python3"]),
    Part::debian("tar", "reads our archives", &["tar"]),
    Part::debian("xz", "makes packages for tests", &["xz-utils"]),
    Part::debian("openssl", "makes certificates for tests", &["openssl"]),
    Part::debian("keytool", "reads our truststores as Java does", &["default-jre-headless"]),
    Part::debian("gpgv", "checks our reading of signatures", &["gpgv"]),
    Part::debian("minisign", "signs bundles, and checks our signatures", &["minisign"]),
    Part::debian("zstd", "reads our bundles", &["zstd"]),
    Part::debian("gpg", "makes signatures for tests", &["gnupg", "gpg"]),
    Part::debian("ip", "makes network namespaces", &["iproute2"]),
    Part::debian("unshare", "takes the network away from a build", &["util-linux"]),
    Part::debian("nft", "filters packets", &["nftables"]),
    Part::debian("tcpdump", "writes down the packets of a run", &["tcpdump"]),
    Part::debian("iptables", "Docker Engine's networks", &["iptables"]),
    Part::debian("dockerd", "the Docker Engine: images are started under it", &["docker.io"]),
    Part::debian("docker", "Docker's client", &["docker-cli", "docker.io"]),
    Part { name: "docker compose", why: "starts several containers from one file", from: Source::ComposePlugin },
    Part { name: "docker stack", why: "starts the stack on a Swarm, and checks its file first", from: Source::StackClient },
    Part::debian("skopeo", "inspects and copies our layouts", &["skopeo"]),
    Part::debian("umoci", "unpacks our layouts", &["umoci"]),
    Part::debian("docker-registry", "a real registry: images are pushed into it", &["docker-registry"]),
    Part::debian("turnutils_uclient", "Coturn's own client: allocates and relays", &["coturn"]),
    Part::debian("chromium", "opens the pages that phones are shown", &["chromium"]),
    Part::debian("certutil", "tells Chromium which CA to trust", &["libnss3-tools"]),
    Part::debian("psql", "PostgreSQL's own client", &["postgresql-client"]),
    Part::debian("initdb", "PostgreSQL's server: the API double keeps its state in it", &["postgresql"]),
    Part::debian("node", "runs Mattermost's own client", &["nodejs"]),
    Part::debian("npm", "brings Mattermost's own client", &["npm"]),
    Part::debian("nix", "the second door", &["nix-bin"]),
    Part::debian("busybox", "builds in Nix's sandbox, where nixpkgs cannot be reached", &["busybox-static"]),
    Part::debian("debootstrap", "makes another Debian to build in", &["debootstrap"]),
    Part { name: "go", why: "builds the scanner", from: Source::Go },
    Part {
        name: "cargo-deny",
        why: "checks licences, bans and sources of dependencies",
        from: Source::Cargo { version: "0.20.2", options: &["--no-default-features"] },
    },
    Part {
        name: "scalibr",
        why: "a package scanner: lists Debian's packages in our images",
        // The newest that trixie's Go (1.24.4) builds.
        from: Source::GoModule { package: "github.com/google/osv-scalibr/binary/scalibr", version: "v0.3.6" },
    },
    Part {
        name: "@mattermost/client",
        why: "Mattermost's own client for JavaScript: logs in, posts, listens",
        // The newest that is not newer than the server of images/lock.json.
        from: Source::Npm { lock: "tests/official-client", version: "11.6.0" },
    },
    Part::debian("pip3", "brings validators of our papers", &["python3-pip"]),
    Part {
        name: "spdx-tools",
        why: "an independent reader of our SBOMs",
        from: Source::Pip { list: "tests/validators/spdx-tools.txt", version: "0.8.3", module: "spdx_tools" },
    },
    Part {
        name: "in-toto-attestation",
        why: "an independent reader of our provenance",
        from: Source::Pip { list: "tests/validators/in-toto-attestation.txt", version: "0.9.3", module: "in_toto_attestation" },
    },
    Part::debian("unzip", "unpacks SonarQube", &["unzip"]),
    Part::debian("mvn", "brings SonarQube", &["maven"]),
    Part {
        name: "sonar-application.zip",
        why: "SonarQube itself: a real one sends the alerts",
        from: Source::Maven {
            artifact: "org.sonarsource.sonarqube:sonar-application",
            version: "9.9.0.65466",
            sha256: "f5b3045ac40b99dfc2ab45c0990074f4b15e426bdb91533d77f3b94b73d3d411",
        },
    },
    Part {
        name: "sonar-scanner-cli.zip",
        why: "analyses a small project for SonarQube",
        from: Source::Maven {
            artifact: "org.sonarsource.scanner.cli:sonar-scanner-cli",
            version: "5.0.1.3006",
            sha256: "817802ab3a476f739192d6c10504285e24e9224a0fbe2a518bb938ff88b7ea81",
        },
    },
];

/// Copies an archive out of Maven's central repository, without its version in the name.
const MAVEN_COPY: &str = "org.apache.maven.plugins:maven-dependency-plugin:3.8.1:copy";

impl Part {
    const fn debian(name: &'static str, why: &'static str, packages: &'static [&'static str]) -> Self {
        Part { name, why, from: Source::Debian(packages) }
    }

    /// The part called `name`. Panics where the table has none: names are written in this crate only.
    pub fn named(name: &str) -> &'static Part {
        PARTS.iter().find(|part| part.name == name).unwrap_or_else(|| panic!("no part {name} in the table"))
    }

    /// The command that a person types to bring it.
    pub fn command(&self, machine: &Machine) -> String {
        // As seen from the top of the checkout, where commands are typed.
        let folder = self.folder(machine).unwrap_or_default();
        let root = folder.strip_prefix(&machine.root).unwrap_or(&folder);
        match &self.from {
            Source::Debian(packages) => format!("apt-get install {}", packages[packages.len() - 1]),
            Source::ComposePlugin => "apt-get install docker-compose (trixie or later)".to_owned(),
            Source::StackClient => "apt-get install docker-cli (trixie or later)".to_owned(),
            Source::Go => "apt-get install golang-go (trixie or later)".to_owned(),
            Source::Cargo { version, options } => {
                format!("cargo install --locked {} --root {} {}@{version}", options.join(" "), root.display(), self.name)
            }
            Source::GoModule { package, version } => format!("GOBIN=\"$PWD/{}/bin\" go install {package}@{version}", root.display()),
            Source::Npm { lock, .. } => {
                let root = root.display();
                format!("mkdir -p {root} && cp {lock}/package*.json {root} && npm ci --ignore-scripts --prefix {root}")
            }
            Source::Pip { list, .. } => {
                format!("python3 -m pip install --only-binary :all: --require-hashes --target {} -r {list}", root.display())
            }
            Source::Maven { artifact, version, .. } => format!(
                "mvn {MAVEN_COPY} -Dartifact={artifact}:{version}:zip -Dmdep.stripVersion=true -DoutputDirectory={}/bin",
                root.display()
            ),
        }
    }

    /// The folder of its own, for what is built or unpacked here.
    fn folder(&self, machine: &Machine) -> Option<PathBuf> {
        let version = match &self.from {
            Source::Debian(_) => return None,
            Source::ComposePlugin | Source::StackClient | Source::Go => "of-trixie",
            Source::Cargo { version, .. } | Source::Npm { version, .. } | Source::Pip { version, .. } | Source::Maven { version, .. } => {
                version
            }
            Source::GoModule { version, .. } => version.trim_start_matches('v'),
        };
        Some(machine.tools.join(format!("{}-{version}", self.name.replace([' ', '/'], "-"))))
    }

    /// Where Node finds a package that npm has brought, and what that depends on.
    pub fn node_modules(&self, machine: &Machine) -> PathBuf {
        self.folder(machine).unwrap_or_default().join("node_modules")
    }

    /// Where Python finds a package that pip has brought, and what that depends on.
    pub fn python_path(&self, machine: &Machine) -> PathBuf {
        self.folder(machine).unwrap_or_default()
    }

    /// Where the program lies in its folder.
    fn bin(&self) -> &'static str {
        if matches!(self.from, Source::Go) { "usr/lib/go-1.24/bin" } else { "bin" }
    }
}

/// This machine, as the checks of one checkout see it.
#[derive(Clone, Debug)]
pub struct Machine {
    tools: PathBuf,
    root: PathBuf,
    path: OsString,
}

impl Machine {
    /// Looks for programs in `target/tools`, in `PATH`, and where Debian keeps those of the system administrator.
    pub fn of(workspace: &Workspace) -> Self {
        let mut machine = Machine { tools: workspace.target().join("tools"), root: workspace.root().to_owned(), path: OsString::new() };
        let built = PARTS.iter().filter_map(|part| Some(part.folder(&machine)?.join(part.bin())));
        let given = std::env::var_os("PATH").unwrap_or_default();
        let system = ["/usr/local/sbin", "/usr/sbin", "/sbin"].map(PathBuf::from).into_iter().chain(postgresql());
        // A folder with a colon in its name cannot stand in PATH; then the system's own must do.
        machine.path = std::env::join_paths(built.chain(std::env::split_paths(&given)).chain(system)).unwrap_or(given);
        machine
    }

    /// The `PATH` that finds every part.
    pub fn path(&self) -> &std::ffi::OsStr {
        &self.path
    }

    /// A program of this machine, to be run at the top of the checkout.
    pub fn process(&self, program: &str) -> Process {
        let mut process = Process::new(program, &self.root).env("PATH", &self.path);
        if program == "cargo" {
            process = without_our_package(process);
        }
        match PARTS.iter().find(|part| part.name == program) {
            Some(part) => process.brought_by(part.command(self)),
            None => process,
        }
    }

    /// Where `program` lies, if it is here.
    pub fn find(&self, program: &str) -> Option<PathBuf> {
        which::which_in(program, Some(&self.path), &self.root).ok()
    }

    /// Whether a part is here, in the pinned version where there is one.
    pub fn has(&self, part: &Part) -> bool {
        match &part.from {
            Source::Debian(_) => self.find(part.name).is_some(),
            Source::ComposePlugin => trixie::has_compose(self),
            Source::StackClient => self.stack_client().is_some(),
            Source::Go => trixie::has_go(self),
            Source::Cargo { .. } | Source::GoModule { .. } | Source::Maven { .. } => self.built(part).is_some(),
            Source::Pip { module, .. } => part.python_path(self).join(module).is_dir(),
            Source::Npm { .. } => part.node_modules(self).join(part.name).join("package.json").is_file(),
        }
    }

    /// Where an archive or a program lies that was brought in its pinned version.
    pub fn built(&self, part: &Part) -> Option<PathBuf> {
        Some(part.folder(self)?.join(part.bin()).join(part.name)).filter(|path| path.is_file())
    }

    /// Docker's client for Swarm: the machine's own where it is new enough, else trixie's, which stands in nobody's `PATH`.
    pub fn stack_client(&self) -> Option<Process> {
        let unpacked = Part::named("docker stack").folder(self).unwrap_or_default().join(trixie::CLIENT_IN_PACKAGE);
        let both = [self.process("docker"), Process::new(unpacked, &self.root).env("PATH", &self.path)];
        both.into_iter().find(trixie::knows_stack_config)
    }

    /// What is not here.
    pub fn missing(&self) -> Vec<&'static Part> {
        PARTS.iter().filter(|part| !self.has(part)).collect()
    }

    /// Whether systemd runs this machine.
    pub fn has_systemd(&self) -> bool {
        Path::new("/run/systemd/system").is_dir()
    }

    /// Whether this process may change the machine.
    pub fn is_root(&self) -> bool {
        rustix::process::geteuid().is_root()
    }

    /// The top of the checkout.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Where what is built or unpacked for the checks lies.
    pub fn tools(&self) -> &Path {
        &self.tools
    }
}

/// Where Debian lays PostgreSQL's server, the newest first: it keeps several versions side by side, out of `PATH`.
fn postgresql() -> Vec<PathBuf> {
    let versions = fs_err::read_dir("/usr/lib/postgresql").into_iter().flatten().filter_map(Result::ok);
    let mut folders: Vec<PathBuf> = versions.map(|version| version.path().join("bin")).collect();
    folders.sort();
    folders.reverse();
    folders
}

/// One error that names every missing part with the command that brings it.
pub fn missing_parts(machine: &Machine, missing: &[&'static Part]) -> Error {
    let names: Vec<&str> = missing.iter().map(|part| part.name).collect();
    missing
        .iter()
        .fold(Error::new(Class::MissingTool, format!("not on this machine: {}", names.join(", "))), |error, part| {
            error.detail(format!("{} ({}): {}", part.name, part.why, part.command(machine)))
        })
        .hint("as root on Debian and its kin, cargo xtask ci --install brings them")
}

/// Which of `parts` are missing.
pub fn lacking(machine: &Machine, parts: &[&str]) -> Vec<&'static Part> {
    parts.iter().map(|name| Part::named(name)).filter(|part| !machine.has(part)).collect()
}

/// Fails where one of `parts` is missing, naming all that are.
pub fn require(machine: &Machine, parts: &[&str]) -> Result<()> {
    let missing = lacking(machine, parts);
    if missing.is_empty() { Ok(()) } else { Err(missing_parts(machine, &missing)) }
}

/// Takes away what the cargo that runs us says about our package: build scripts that look at it (ring's) would run again, here
/// and at the user's next `cargo xtask`, and everything above them be compiled anew.
fn without_our_package(cargo: Process) -> Process {
    let ours = std::env::vars_os().map(|(name, _)| name).filter(|name| {
        let name = name.as_encoded_bytes();
        [&b"CARGO_PKG_"[..], b"CARGO_MANIFEST_", b"CARGO_BIN_", b"CARGO_CRATE_"].iter().any(|prefix| name.starts_with(prefix))
    });
    ours.fold(cargo, |cargo, name| cargo.env_remove(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn machine(folder: &Path, path: &Path) -> Machine {
        Machine { tools: folder.join("target/tools"), root: folder.to_owned(), path: path.as_os_str().to_owned() }
    }

    #[test]
    fn every_missing_part_is_named_with_its_purpose_and_its_command() {
        let folder = tempfile::tempdir().unwrap();
        let bare = machine(folder.path(), &folder.path().join("empty"));
        assert_eq!(bare.missing().len(), PARTS.len());
        let error = require(&bare, &["skopeo", "cargo-deny", "scalibr"]).unwrap_err();
        assert_eq!(error.class(), Class::MissingTool);
        insta::assert_snapshot!(error, @r#"
        not on this machine: skopeo, cargo-deny, scalibr
          skopeo (inspects and copies our layouts): apt-get install skopeo
          cargo-deny (checks licences, bans and sources of dependencies): cargo install --locked --no-default-features --root target/tools/cargo-deny-0.20.2 cargo-deny@0.20.2
          scalibr (a package scanner: lists Debian's packages in our images): GOBIN="$PWD/target/tools/scalibr-0.3.6/bin" go install github.com/google/osv-scalibr/binary/scalibr@v0.3.6
        hint: as root on Debian and its kin, cargo xtask ci --install brings them
        "#);
    }

    #[test]
    fn another_version_of_a_pinned_program_does_not_count() {
        let folder = tempfile::tempdir().unwrap();
        let elsewhere = folder.path().join("bin");
        fs_err::create_dir_all(&elsewhere).unwrap();
        fs_err::write(elsewhere.join("cargo-deny"), "").unwrap();
        let machine = machine(folder.path(), &elsewhere);
        let part = Part::named("cargo-deny");
        assert!(!machine.has(part));
        let own = part.folder(&machine).unwrap().join("bin");
        fs_err::create_dir_all(&own).unwrap();
        fs_err::write(own.join("cargo-deny"), "").unwrap();
        assert!(machine.has(part));
    }

    #[test]
    fn what_npm_brings_is_the_pinned_version_and_its_lock_names_no_host() {
        for part in PARTS {
            let Source::Npm { lock, version } = part.from else { continue };
            let text =
                fs_err::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(lock).join("package-lock.json")).unwrap();
            let all: serde_json::Value = serde_json::from_str(&text).unwrap();
            assert_eq!(all["packages"][format!("node_modules/{}", part.name)]["version"], version);
            // Each machine asks the registry of its own settings; the digests are what counts.
            assert!(!text.contains("resolved") && !text.contains("://"), "{lock} names a registry");
            let packages = all["packages"].as_object().unwrap();
            assert!(packages.iter().filter(|(name, _)| !name.is_empty()).all(|(_, package)| package["integrity"].is_string()));
        }
    }
}
