//! Containers, networks and volumes that go when they are dropped, and the claims about Docker that hold for every image.

use std::net::Ipv4Addr;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use images::entry::Entry;
use images::{Class, Error, Result};
pub use lab::said;
use serde_json::Value;
use xtask::process::{Outcome, Process};

use crate::claims::{Claim, wait_for};
use crate::world::{Image, NAMES, World};

/// How the Engine runs every image here: nothing may be written but what is said, no privilege, no capability.
const LOCKED_DOWN: &str =
    "--read-only --cap-drop ALL --security-opt no-new-privileges --pids-limit 256 --memory 512m --log-driver json-file";

/// Claims that hold for every image.
pub const CLAIMS: &[Claim] = &[
    Claim {
        name: "docker::the_engine_names_each_loaded_image_by_the_digest_of_its_configuration",
        needs: &[],
        root: false,
        engine: true,
        proves: loaded_by_configuration,
    },
    Claim {
        name: "docker::docker_load_of_the_archive_file_gives_the_same_image_ids",
        needs: &[],
        root: false,
        engine: true,
        proves: loaded_from_the_archive,
    },
];

fn loaded_by_configuration(world: &World) -> Result<()> {
    for name in NAMES {
        assert_eq!(id(world, &loaded(world, name)?.name)?, world.image(name)?.config.oci());
    }
    Ok(())
}

fn loaded_from_the_archive(world: &World) -> Result<()> {
    let folder = world.scratch();
    let file = folder.path().join("images.tar");
    let file = file.to_str().unwrap();
    let built = world.build(&["coturn", "alert-gateway", "--archive", file])?;
    let printed = docker(world, "load --input").arg(file).text()?;
    for (name, image) in &built {
        assert_eq!(image, world.image(name)?, "a second build gave another image");
        assert!(printed.lines().any(|line| line == format!("Loaded image: {}", image.name)), "{printed}");
        assert_eq!(id(world, &image.name)?, image.config.oci());
    }
    Ok(())
}

fn id(world: &World, image: &str) -> Result<String> {
    docker(world, "image inspect --format {{.Id}}").arg(image).text()
}

/// Docker's client; `words` are separated by spaces.
pub fn docker(world: &World, words: &str) -> Process {
    world.machine.process("docker").args(words.split(' ')).fails_as(Class::Engine)
}

/// An image, in the Engine.
pub fn loaded<'a>(world: &'a World, name: &str) -> Result<&'a Image> {
    let image = world.image(name)?;
    let there = docker(world, "image inspect --format {{.Id}}").arg(&image.name).outcome()?;
    if String::from_utf8_lossy(&there.stdout).trim() != image.config.oci() {
        world.build(&[name, "--load"])?;
    }
    Ok(image)
}

/// A name that no other claim and no other run has.
fn unique() -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    format!("acceptance-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed))
}

/// A bridge of one's own without a way out: 16 addresses of 198.18.0.0/15, which RFC 2544 sets aside for tests.
pub struct Network<'a> {
    world: &'a World,
    name: String,
    first: Ipv4Addr,
}

impl<'a> Network<'a> {
    /// Makes it.
    pub fn new(world: &'a World) -> Result<Network<'a>> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let base = u32::from(Ipv4Addr::new(198, 18, 0, 0));
        let mut last = None;
        // Another run may have the same addresses: the Engine says so, and the next ones are tried.
        for _ in 0..50 {
            let part = (std::process::id() * 61 + NEXT.fetch_add(1, Ordering::Relaxed)) % 8192;
            let (name, first) = (unique(), Ipv4Addr::from(base + part * 16));
            let create = docker(world, "network create --internal --driver bridge").args(["--subnet", &format!("{first}/28")]).arg(&name);
            match create.capture() {
                Ok(_) => return Ok(Network { world, name, first }),
                Err(error) => last = Some(error),
            }
        }
        Err(last.unwrap_or_else(|| Error::new(Class::Engine, "no network could be made")))
    }

    /// As the argument of `--network`.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// An address of it: 1 is the host's, up to 14.
    pub fn address(&self, number: u32) -> Ipv4Addr {
        Ipv4Addr::from(u32::from(self.first) + number)
    }
}

impl Drop for Network<'_> {
    fn drop(&mut self) {
        let _ = docker(self.world, "network rm").arg(&self.name).outcome();
    }
}

/// A volume.
pub struct Volume<'a> {
    world: &'a World,
    name: String,
}

impl<'a> Volume<'a> {
    /// An empty one.
    pub fn new(world: &'a World) -> Result<Volume<'a>> {
        let name = unique();
        docker(world, "volume create").arg(&name).capture()?;
        Ok(Volume { world, name })
    }

    /// One that holds `files`, each of `uid`'s and with mode 0400, written through the Engine as a site's secrets are.
    pub fn of_secrets(world: &'a World, image: &str, uid: u32, files: &[(&str, &[u8])]) -> Result<Volume<'a>> {
        let volume = Volume::new(world)?;
        let mut tar = images::tar::Writer::new(Vec::new());
        for (name, content) in files {
            tar.entry(&Entry::file(*name, content.len(), 0o400, 0).owned_by(uid))?;
            tar.content(content)?;
        }
        let carrier = Container::create(world, image, &["--volume", &volume.at("/run/secrets")])?;
        docker(world, "cp -").arg(format!("{}:/run/secrets", carrier.id)).stdin(tar.finish()?.0).capture()?;
        Ok(volume)
    }

    /// As the argument of `--volume`.
    pub fn at(&self, path: &str) -> String {
        format!("{}:{path}", self.name)
    }
}

impl Drop for Volume<'_> {
    fn drop(&mut self) {
        let _ = docker(self.world, "volume rm --force").arg(&self.name).outcome();
    }
}

/// A container.
pub struct Container<'a> {
    world: &'a World,
    id: String,
}

impl<'a> Container<'a> {
    /// Creates it, locked down, with further options; asks for its health each second.
    pub fn create(world: &'a World, image: &str, options: &[&str]) -> Result<Container<'a>> {
        Self::create_with(world, image, options, &[])
    }

    /// The same with a command.
    pub fn create_with(world: &'a World, image: &str, options: &[&str], command: &[&str]) -> Result<Container<'a>> {
        let create = docker(world, "create --health-interval 1s --pull never").args(LOCKED_DOWN.split(' '));
        let id = create.args(["--name", &unique()]).args(options).arg(image).args(command).text()?;
        Ok(Container { world, id })
    }

    /// Creates and starts it.
    pub fn run(world: &'a World, image: &str, options: &[&str]) -> Result<Container<'a>> {
        let container = Self::create(world, image, options)?;
        container.start()?;
        Ok(container)
    }

    /// Starts it, first or again.
    pub fn start(&self) -> Result<()> {
        self.docker("start").capture().map(drop)
    }

    /// `docker VERB … ID`.
    pub fn docker(&self, words: &str) -> Process {
        docker(self.world, words).arg(&self.id)
    }

    /// Runs a program inside it, under its account.
    pub fn exec(&self, command: &[&str]) -> Result<Outcome> {
        self.docker("exec").args(command).outcome()
    }

    /// Everything that `docker inspect` tells.
    pub fn inspect(&self) -> Result<Value> {
        let told = self.docker("inspect").capture()?;
        Ok(serde_json::from_slice::<Value>(&told.stdout).unwrap()[0].take())
    }

    /// What it said on both streams.
    pub fn logs(&self) -> String {
        self.docker("logs").outcome().map_or_else(|error| error.to_string(), |outcome| said(&outcome))
    }

    /// Waits until the image's own health check says that it is healthy.
    pub fn wait_until_healthy(&self) -> Result<()> {
        let ask = || {
            let state = self.inspect().unwrap()["State"].take();
            assert_eq!(state["Running"], true, "it ended: {state}\n{}", self.logs());
            (state["Health"]["Status"] == "healthy").then_some(())
        };
        wait_for("healthy", Duration::from_secs(60), ask, || format!("{}\n{}", self.inspect().unwrap()["State"]["Health"], self.logs()));
        Ok(())
    }

    /// Waits until it ends by itself; its exit code.
    pub fn wait_until_ended(&self) -> Result<i64> {
        let code = self.docker("wait").deadline(Duration::from_secs(60)).text()?;
        Ok(code.parse().unwrap())
    }

    /// Its first process, as the host numbers it.
    pub fn pid(&self) -> Result<u64> {
        Ok(self.inspect()?["State"]["Pid"].as_u64().unwrap())
    }

    /// The effective user of its first process, and its capabilities in hexadecimal.
    pub fn user_and_capabilities(&self) -> Result<(u32, String)> {
        let status = fs_err::read_to_string(format!("/proc/{}/status", self.pid()?))?;
        let field = |name: &str, at: usize| status.lines().find_map(|line| line.strip_prefix(name)?.split_whitespace().nth(at)).unwrap();
        Ok((field("Uid:", 1).parse().unwrap(), field("CapEff:", 0).to_owned()))
    }

    /// How many UDP datagrams the programs in its network namespace have read.
    pub fn datagrams_read(&self) -> Result<u64> {
        let text = fs_err::read_to_string(format!("/proc/{}/net/snmp", self.pid()?))?;
        let mut lines = text.lines().filter_map(|line| line.strip_prefix("Udp: ")).map(str::split_whitespace);
        let (mut names, mut values) = (lines.next().unwrap(), lines.next().unwrap());
        let place = names.position(|name| name == "InDatagrams").unwrap();
        Ok(values.nth(place).unwrap().parse().unwrap())
    }

    /// What its network namespace listens on beyond loopback, as `tcp/5432`, sorted. Docker's own name server is on loopback.
    pub fn listens_on(&self) -> Result<Vec<String>> {
        let all = lab::listener::of_process(self.pid()?)?;
        let beyond = all.iter().filter(|listener| !listener.address.is_loopback());
        let mut found: Vec<String> = beyond.map(|listener| format!("{}/{}", listener.protocol, listener.port)).collect();
        found.dedup();
        Ok(found)
    }
}

impl Drop for Container<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("--- what the container of the failed claim said\n{}", self.logs());
        }
        let _ = self.docker("rm --force --volumes").outcome();
    }
}
