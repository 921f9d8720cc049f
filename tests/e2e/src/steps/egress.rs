//! Nothing leaves the lab.

use std::net::{IpAddr, SocketAddr, TcpStream, UdpSocket};
use std::time::Duration;

use images::{Class, Error, Result};

use crate::egress::counted;
use crate::step::{Evidence, Step, When};
use crate::world::World;

/// The last step of all: its own probes are counted too.
pub static EGRESS: Step = Step {
    name: "egress::nothing_leaves",
    claim: "There is no way out: no default route, no packet tried to leave during the run, and probes inside each container fail to connect and to resolve",
    deadline: Duration::from_secs(30),
    needs: &[],
    when: When::Alone,
    proves: nothing_leaves,
};

/// Somewhere outside: documentation addresses would be dropped by routers anyway, these would not.
const OUTSIDE: [&str; 2] = ["1.1.1.1:443", "9.9.9.9:53"];
const NAME: &str = "example.org";
/// How long a container may ask for it: an Engine before 23 answers nothing where it has nobody to ask.
const PATIENCE: Duration = Duration::from_secs(2);

fn nothing_leaves(world: &World, evidence: &mut Evidence) -> Result<()> {
    let routes = world.lab.process("ip").args(["route", "show", "default"]).text()?;
    evidence.same("default routes of the server", String::new(), routes)?;
    evidence.same("packets that tried to leave during the run", 0, counted(world.lab)?)?;
    let containers = world.site.containers()?;
    // Side by side: a name that nobody knows is asked for until the asker is tired of it.
    let seen = std::thread::scope(|scope| {
        let asked: Vec<_> = containers.iter().map(|(service, id)| (service, scope.spawn(|| from_inside(world, service, id)))).collect();
        let answer = |asked: std::thread::ScopedJoinHandle<'_, Result<(Vec<String>, String)>>| {
            asked.join().unwrap_or_else(|_| Err(Error::new(Class::Check, "the probes panicked")))
        };
        asked.into_iter().map(|(service, asked)| Ok((service, answer(asked)?))).collect::<Result<Vec<_>>>()
    })?;
    for (service, (connected, resolved)) in seen {
        let reached = connected.iter().any(|line| line.ends_with("answered"));
        evidence.holds(&format!("outside, from {service}"), "no answer", connected.join(", "), !reached)?;
        let is_address = resolved.split_whitespace().any(|word| word.parse::<IpAddr>().is_ok());
        evidence.holds(&format!("{NAME}, asked in {service}"), "no address", resolved, !is_address)?;
    }
    // A counter that never counts proves nothing.
    let after = counted(world.lab)?;
    evidence.holds("packets counted of these probes", "more than 0", after, after > 0)
}

/// What becomes of connections from a container, and of a question for a name that its own program asks.
fn from_inside(world: &World, service: &str, id: &str) -> Result<(Vec<String>, String)> {
    let pid = world.pid(service)?;
    std::thread::scope(|scope| {
        let resolved = scope.spawn(|| resolved(world, service, id));
        let connected = lab::namespace::inside(pid, probes)?;
        Ok((connected, resolved.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))?))
    })
}

/// What becomes of a question for a name.
fn resolved(world: &World, service: &str, id: &str) -> Result<String> {
    if service == "coturn" {
        return Ok("its program asks for no names".to_owned());
    }
    let program = world.site.inspect(id)?["Config"]["Entrypoint"][0].as_str().unwrap_or_default().to_owned();
    let asked = world.lab.docker("exec").args([id, &program, "resolve", NAME]).deadline(PATIENCE).outcome();
    Ok(asked.map_or_else(|_| "no answer in time".to_owned(), |outcome| lab::said(&outcome).trim().to_owned()))
}

fn probes() -> Vec<String> {
    let patience = Duration::from_millis(400);
    OUTSIDE
        .iter()
        .map(|at| {
            let Ok(to) = at.parse::<SocketAddr>() else { return format!("{at}: no address") };
            match TcpStream::connect_timeout(&to, patience).err() {
                Some(error) => format!("{at}/tcp: {}", error.kind()),
                None => format!("{at}/tcp: answered"),
            }
        })
        .chain([
            udp(patience).map_or_else(|error| format!("9.9.9.9:53/udp: {}", error.message()), |()| "9.9.9.9:53/udp: answered".to_owned())
        ])
        .collect()
}

/// A question for a name, to a public name server.
fn udp(patience: Duration) -> Result<()> {
    let socket = UdpSocket::bind("0.0.0.0:0")?;
    socket.set_read_timeout(Some(patience))?;
    let question = b"\x12\x34\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\x07example\x03org\x00\x00\x01\x00\x01";
    socket.send_to(question, OUTSIDE[1]).map_err(|error| Error::new(Class::Check, error.kind().to_string()))?;
    socket.recv(&mut [0; 512]).map(drop).map_err(|error| Error::new(Class::Check, error.kind().to_string()))
}
