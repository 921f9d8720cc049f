//! A world of its own for tests: a LAN that exists in network namespaces only, with a server on it that has a Docker Engine of its own.
//!
//! ```text
//!   host namespace            server's namespace                         a client's namespace
//!   (untouched)               lan0: bridge 192.168.77.20/24 ──── veth ──── eth0 192.168.77.x/24
//!                             docker0, dockerd on a socket of its own
//! ```
//!
//! Phones stand behind routers ([`phone`]). Nothing leads out of it: there is no default route. Everything ends when the values are
//! dropped: the namespaces live as long as the processes that hold them.

pub mod capture;
pub mod listener;
pub mod namespace;
pub mod phone;
pub mod site;

use std::io::ErrorKind;
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use images::{Class, Error, Result};
use xtask::machine::Machine;
use xtask::process::{Outcome, Process, Running, tail};

use namespace::Namespace;

/// How long an Engine may take to answer.
const START: Duration = Duration::from_secs(60);
/// How long it may take to end its containers.
const STOP: Duration = Duration::from_secs(40);

/// The LAN: 192.168.77.0/24.
const LAN: [u8; 3] = [192, 168, 77];

/// The address of host `number` on the LAN.
pub fn address(number: u8) -> Ipv4Addr {
    Ipv4Addr::new(LAN[0], LAN[1], LAN[2], number)
}

/// What a lab needs of a machine, besides root.
pub const PARTS: [&str; 4] = ["ip", "unshare", "dockerd", "docker"];

/// A LAN and its server.
pub struct Lab {
    // Fields are dropped in this order: the Engine before the namespace it lives in, that before its files.
    engine: Option<Running>,
    server: Namespace,
    sockets: tempfile::TempDir,
    machine: Machine,
    folder: PathBuf,
}

/// The server's number on the LAN.
pub const SERVER: u8 = 20;

impl Lab {
    /// Makes the LAN and starts the Engine; its images, volumes and log are kept in `folder`. Needs root.
    pub fn start(machine: &Machine, folder: &Path) -> Result<Lab> {
        // runc takes no root that lies below a symbolic link, and a checkout's target may be one.
        fs_err::create_dir_all(folder)?;
        let folder = &fs_err::canonicalize(folder)?;
        let server = Namespace::new(machine)?;
        server.ip(&["link", "set", "lo", "up"])?;
        server.ip(&["link", "add", "lan0", "type", "bridge"])?;
        // Else it takes that of a port, another one as clients come and go, and whom the others know by the old one is away for seconds.
        server.ip(&["link", "set", "lan0", "address", "02:00:c0:a8:4d:14"])?;
        server.ip(&["address", "add", &format!("{}/24", address(SERVER)), "dev", "lan0"])?;
        server.ip(&["link", "set", "lan0", "up"])?;
        // A Unix socket's path has at most 107 bytes, and a checkout may lie deep.
        let sockets = tempfile::Builder::new().prefix("lab-").tempdir()?;
        let mut lab = Lab { engine: None, server, sockets, machine: machine.clone(), folder: folder.to_owned() };
        let log = folder.join("dockerd.log");
        lab.engine = Some(lab.dockerd(folder).start(&log)?);
        lab.wait(&log)?;
        // What a run that was killed has left in the folder.
        lab.empty()?;
        Ok(lab)
    }

    fn dockerd(&self, folder: &Path) -> Process {
        let own = self.sockets.path();
        self.server
            .process("unshare")
            // What the Engine mounts is seen by it alone.
            .args(["--mount", "dockerd", "--host"])
            .arg(self.host())
            // Who asks for a name that no container has is told at once that nobody knows it.
            .args(["--dns", &address(SERVER).to_string()])
            // Not systemd's: nobody has to be asked, and what a killed Engine leaves is found by its name.
            .args(["--exec-opt", "native.cgroupdriver=cgroupfs", "--cgroup-parent", &cgroup(folder)])
            .arg("--data-root")
            .arg(folder.join("engine"))
            .arg("--exec-root")
            .arg(own.join("exec"))
            .arg("--pidfile")
            .arg(own.join("docker.pid"))
    }

    fn wait(&self, log: &Path) -> Result<()> {
        let begin = Instant::now();
        let fail = |what: String| {
            let said = tail(&fs_err::read(log).unwrap_or_default(), 20);
            said.into_iter().fold(Error::new(Class::Engine, what), |error, line| error.detail(format!("| {line}")))
        };
        while begin.elapsed() < START {
            if self.docker("version").outcome()?.success() {
                return Ok(());
            }
            if let Some(status) = self.engine.as_ref().map(Running::ended).transpose()?.flatten() {
                return Err(fail(format!("the lab's dockerd ended at once, with {status}")));
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        Err(fail(format!("the lab's Engine does not answer after {} s", START.as_secs())))
    }

    /// `DOCKER_HOST` of the lab's Engine.
    pub fn host(&self) -> String {
        format!("unix://{}", self.sockets.path().join("docker.sock").display())
    }

    /// Removes containers, networks and volumes; images stay.
    fn empty(&self) -> Result<()> {
        for (list, remove) in [("ps --all --quiet --no-trunc", "rm --force"), ("volume ls --quiet", "volume rm --force")] {
            let ids = self.docker(list).text()?;
            if !ids.is_empty() {
                self.docker(remove).args(ids.lines()).capture()?;
            }
        }
        self.docker("network prune --force").capture().map(drop)
    }

    /// A program on the server, which talks to the lab's Engine.
    pub fn process(&self, program: impl AsRef<std::ffi::OsStr>) -> Process {
        self.server.process(program).env("DOCKER_HOST", self.host())
    }

    /// A program on the server that sees the machine's files as the Engine does: what is mounted there is seen by nobody else. It runs in
    /// the checkout.
    pub fn beside_engine(&self, program: impl AsRef<std::ffi::OsStr>) -> Process {
        let engine = self.engine.as_ref().map_or(0, Running::pid).to_string();
        let enter = self.machine.process("nsenter").args(["--net", "--mount", "--target", &engine]);
        enter.arg(format!("--wd={}", self.machine.root().display())).arg(program).env("DOCKER_HOST", self.host())
    }

    /// Docker's client on the server; `words` are separated by spaces.
    pub fn docker(&self, words: &str) -> Process {
        self.process("docker").args(words.split(' ')).fails_as(Class::Engine)
    }

    /// What it runs on.
    pub fn machine(&self) -> &Machine {
        &self.machine
    }

    /// The server's namespace.
    pub fn server(&self) -> &Namespace {
        &self.server
    }

    /// Another machine on the LAN, host `number`.
    pub fn client(&self, number: u8) -> Result<Namespace> {
        let client = Namespace::new(&self.machine)?;
        let port = format!("port{number}");
        self.server.ip(&["link", "add", &port, "type", "veth", "peer", "name", "eth0", "netns", &client.pid().to_string()])?;
        self.server.ip(&["link", "set", &port, "master", "lan0", "up"])?;
        client.ip(&["link", "set", "lo", "up"])?;
        client.ip(&["address", "add", &format!("{}/24", address(number)), "dev", "eth0"])?;
        client.ip(&["link", "set", "eth0", "up"])?;
        self.reaches(&client)?;
        Ok(client)
    }

    /// Waits until a machine's packets reach the server: the kernel may let a new link wait for a second, and drops what is sent on it.
    fn reaches(&self, machine: &Namespace) -> Result<()> {
        // Nobody listens on this port, and that is told by whoever has got the question.
        let discard = SocketAddr::from((address(SERVER), 9));
        let begin = Instant::now();
        let asked = || TcpStream::connect_timeout(&discard, Duration::from_millis(50));
        while begin.elapsed() < Duration::from_secs(10) {
            match machine.inside(asked)? {
                Err(error) if error.kind() != ErrorKind::ConnectionRefused => std::thread::sleep(Duration::from_millis(5)),
                _ => return Ok(()),
            }
        }
        Err(Error::new(Class::Build, "a machine of the lab does not reach its server").detail("no answer within 10 s over TCP"))
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        // Containers are the Engine's children only as long as it lives. Nobody takes an error here.
        let _ = self.empty();
        if let Some(engine) = self.engine.take() {
            engine.stop(STOP);
        }
        remove_cgroups(&self.folder);
    }
}

/// The control group that the Engine of a lab in `folder` makes its containers' in.
fn cgroup(folder: &Path) -> String {
    format!("lab-{}", images::Digest::of(folder.as_os_str().as_encoded_bytes()).short())
}

/// Removes the control groups of a lab in `folder` whose processes have ended: the kernel keeps them when somebody has killed its Engine.
/// True when none is left.
pub fn remove_cgroups(folder: &Path) -> bool {
    let (name, root) = (cgroup(folder), Path::new("/sys/fs/cgroup"));
    // Version 1 has a hierarchy for each controller, version 2 one.
    let hierarchies = fs_err::read_dir(root).into_iter().flatten().filter_map(|entry| Some(entry.ok()?.path()));
    let tops = hierarchies.map(|hierarchy| hierarchy.join(&name)).chain([root.join(&name)]).filter(|top| top.is_dir());
    // Every one is tried.
    tops.filter(|top| !remove_group(top)).count() == 0
}

fn remove_group(group: &Path) -> bool {
    let below = fs_err::read_dir(group).into_iter().flatten().filter_map(|entry| Some(entry.ok()?.path())).filter(|path| path.is_dir());
    below.for_each(|group| _ = remove_group(&group));
    fs_err::remove_dir(group).is_ok()
}

/// Asks until `ask` answers; panics with what `said` gives when it has not by the deadline.
pub fn wait_for<T>(what: &str, deadline: Duration, mut ask: impl FnMut() -> Option<T>, said: impl FnOnce() -> String) -> T {
    let start = Instant::now();
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(start.elapsed() < deadline, "{what}: not within {} s\n{}", deadline.as_secs(), said());
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// Both outputs of a program as text.
pub fn said(outcome: &Outcome) -> String {
    String::from_utf8_lossy(&[outcome.stdout.as_slice(), &outcome.stderr].concat()).into_owned()
}
