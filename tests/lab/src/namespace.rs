//! One machine of the lab: a network namespace, held by a process that does nothing else.

use std::ffi::OsStr;
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use images::{Class, Error, Result};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use xtask::machine::Machine;
use xtask::process::{Process, Running};

/// A network namespace; it is gone when this is dropped and no process is left in it.
pub struct Namespace {
    holder: Running,
    machine: Machine,
}

impl Namespace {
    /// Makes one, with a loopback interface that is down. Needs root.
    pub fn new(machine: &Machine) -> Result<Namespace> {
        let log = machine.tools().with_file_name("lab.log");
        let holder = machine.process("unshare").args(["--net", "sleep", "infinity"]).start(&log)?;
        let namespace = Namespace { holder, machine: machine.clone() };
        namespace.entered(&log)?;
        Ok(namespace)
    }

    /// Waits until the holder has left this process's namespace.
    fn entered(&self, log: &std::path::Path) -> Result<()> {
        let begin = Instant::now();
        let of = |pid: &str| fs_err::read_link(format!("/proc/{pid}/ns/net"));
        while begin.elapsed() < Duration::from_secs(10) {
            if let Ok(own) = of(&self.pid().to_string())
                && own != of("self")?
            {
                return Ok(());
            }
            if let Some(status) = self.holder.ended()? {
                return Err(Error::new(Class::Build, format!("no network namespace can be made here: unshare ended with {status}"))
                    .detail(format!("log: {}", log.display()))
                    .hint("it needs root, and a container needs CAP_SYS_ADMIN"));
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        Err(Error::new(Class::Build, "unshare does not make a network namespace"))
    }

    /// The process that holds it.
    pub fn pid(&self) -> u32 {
        self.holder.pid()
    }

    /// A program in it. `nsenter`, not `ip netns exec`: that one hides the cgroups, which an Engine needs.
    pub fn process(&self, program: impl AsRef<OsStr>) -> Process {
        self.machine.process("nsenter").arg(format!("--net=/proc/{}/ns/net", self.pid())).arg(program)
    }

    /// Does `work` in it: see [`inside`].
    pub fn inside<T: Send>(&self, work: impl FnOnce() -> T + Send) -> Result<T> {
        inside(self.pid().into(), work)
    }

    /// Rules for its packet filter.
    pub fn nft(&self, rules: &str) -> Result<()> {
        self.process("nft").args(["--file", "-"]).stdin(rules).capture().map(drop)
    }

    /// `ip` in it.
    pub fn ip(&self, args: &[&str]) -> Result<()> {
        self.process("ip").args(args).capture().map(drop)
    }
}

/// Does `work` in the network namespace of process `pid`, on a thread of its own. Sockets that are opened there belong to it for good, and
/// so do threads that are started there. A panic goes on in the caller.
pub fn inside<T: Send>(pid: u64, work: impl FnOnce() -> T + Send) -> Result<T> {
    let network = fs_err::File::open(format!("/proc/{pid}/ns/net"))?;
    let work = || {
        let entered = move_into_link_name_space(network.as_fd(), Some(LinkNameSpaceType::Network));
        entered.map_err(|error| Error::new(Class::Build, format!("a network namespace cannot be entered: {error}")))?;
        Ok(work())
    };
    std::thread::scope(|scope| scope.spawn(work).join()).unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}
