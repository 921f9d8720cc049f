//! The world of a run, as its steps see it: the lab, the site on its server, and the real `cargo xtask`.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use images::{Class, Error, Result};
use lab::namespace::Namespace;
use lab::phone::{Nat, Phone};
use lab::{Lab, SERVER, address};
use relay::chat::Chat;
use serde_json::{Value, json};
use xtask::cli::images::recipe::Mattermost;
use xtask::machine::Machine;
use xtask::server::{Client, Endpoint, Patience};
use xtask::site::secrets::{Name, Secret, Secrets};
use xtask::site::{Folder, Site};

use crate::hidden::Hidden;

/// Ports of the site are from this one on.
const FIRST_PORT: u16 = 20_000;
/// What the description of the site has besides the lab's own.
const MORE: &str = "[gitlab]\nurl = \"https://gitlab.cicd.local\"\n";

/// Numbers of clients on the LAN.
const FIRST_CLIENT: u8 = 100;
const LAST_CLIENT: u8 = 250;

/// How long a service may take to be made anew, and to be healthy then.
const HEALTHY: Duration = Duration::from_secs(60);

/// The folders of a run: what is reported, and below it `world/`, which goes with the run.
#[derive(Clone, Debug)]
pub struct Folders {
    /// `target/e2e/RUN`.
    pub run: PathBuf,
}

impl Folders {
    /// Everything that goes with the run.
    pub fn world(&self) -> PathBuf {
        self.run.join("world")
    }

    /// The site.
    pub fn site(&self) -> PathBuf {
        self.world().join("site")
    }

    /// The OCI layout.
    pub fn layout(&self) -> PathBuf {
        self.world().join("images")
    }

    /// The store, whose files are those of the shared one.
    pub fn store(&self) -> PathBuf {
        self.world().join("store")
    }

    /// The Engine's data.
    pub fn lab(&self) -> PathBuf {
        self.world().join("lab")
    }

    /// What happens inside.
    pub fn journal(&self) -> PathBuf {
        self.run.join("journal.jsonl")
    }

    /// Logs of the run.
    pub fn logs(&self) -> PathBuf {
        self.run.join("logs")
    }

    /// The run's own name: the folder's.
    pub fn name(&self) -> String {
        self.run.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
    }
}

/// What the steps share.
pub struct World {
    /// `target/e2e/RUN`, where evidence goes.
    pub run: PathBuf,
    /// The network, and the Engine on its server.
    pub lab: &'static Lab,
    /// The site: `cargo xtask` for it, its containers, ports, secrets.
    pub site: lab::site::Site<'static>,
    /// Which Mattermost.
    #[allow(dead_code, reason = "for steps to come")]
    pub mattermost: Mattermost,
    folders: Folders,
    /// Whether the stack came up; nothing as long as nobody knows.
    up: Mutex<Option<bool>>,
    clients: AtomicU32,
    /// What Compose lays over the file of the site, where a guard is taken out.
    over: Option<PathBuf>,
}

#[allow(dead_code, reason = "for steps to come")]
impl World {
    /// On a lab that has started. Describes the site; nothing runs yet.
    pub fn new(lab: &'static Lab, folders: &Folders, xtask: &Path, mattermost: Mattermost) -> Result<World> {
        fs_err::create_dir_all(folders.site())?;
        let pair = |option: &str, value: &dyn AsRef<std::ffi::OsStr>| [option.into(), value.as_ref().to_owned()];
        let up = [pair("--mattermost", &mattermost.to_string()), pair("--layout", &folders.layout()), pair("--store", &folders.store())];
        let up = up.into_iter().flatten().chain(["--offline".into(), "--firewall".into()]).collect();
        let number: String = folders.name().chars().filter(char::is_ascii_digit).skip(6).collect();
        let site = lab::site::Site {
            lab,
            project: format!("e2e{number}"),
            folder: folders.site(),
            first: FIRST_PORT,
            xtask: xtask.to_owned(),
            up,
        };
        site.describe(MORE)?;
        Ok(World {
            run: folders.run.clone(),
            lab,
            site,
            mattermost,
            folders: folders.clone(),
            up: Mutex::new(None),
            clients: AtomicU32::new(0),
            over: None,
        })
    }

    /// This world once more, for a guard that is taken out of the way in which its stack is started: Compose lays `over` over the services of
    /// every file, and the front door is the shell's `door`, where `"$XTASK"` is the real one. Nobody knows yet whether the stack is up.
    pub fn otherwise(&self, over: &Value, door: &str) -> Result<World> {
        let folder = self.folders.world().join("otherwise");
        let (bin, file, front) = (folder.join("bin"), folder.join("over.json"), folder.join("xtask"));
        fs_err::create_dir_all(&bin)?;
        fs_err::write(&file, json!({ "services": over }).to_string())?;
        let docker = self.machine().find("docker").ok_or_else(|| Error::new(Class::MissingTool, "there is no docker"))?;
        // One more file before the verb.
        let add = format!(
            "for word; do\n shift\n [ \"$word\" != up ] || set -- \"$@\" --file '{}'\n set -- \"$@\" \"$word\"\ndone",
            file.display()
        );
        script(&bin.join("docker"), &format!("{add}\nexec '{}' \"$@\"", docker.display()))?;
        script(&front, &format!("export PATH='{}':\"$PATH\"\nXTASK='{}'\n{door}", bin.display(), self.site.xtask.display()))?;
        let site = &self.site;
        let site = lab::site::Site {
            project: site.project.clone(),
            folder: site.folder.clone(),
            xtask: front,
            up: site.up.clone(),
            lab: site.lab,
            first: site.first,
        };
        Ok(World {
            run: self.run.clone(),
            lab: self.lab,
            site,
            mattermost: self.mattermost.clone(),
            folders: self.folders.clone(),
            up: Mutex::new(None),
            clients: AtomicU32::new(0),
            over: Some(file),
        })
    }

    /// What the lab runs on.
    pub fn machine(&self) -> &Machine {
        self.lab.machine()
    }

    /// The OCI layout that the images were built into.
    pub fn layout(&self) -> PathBuf {
        self.folders.layout()
    }

    /// The Engine's data.
    pub fn engine(&self) -> PathBuf {
        self.folders.lab()
    }

    /// The site's files.
    pub fn folder(&self) -> Folder {
        Folder::new(&self.site.folder)
    }

    /// What `site.toml` says, with every default.
    pub fn description(&self) -> Result<Site> {
        let text = fs_err::read_to_string(self.folder().toml())?;
        xtask::site::parse("site.toml", &text, || Ok(Vec::new()))
    }

    /// The secrets of the site as they are now.
    pub fn secrets(&self) -> Result<Secrets> {
        Secrets::of(&self.folder())
    }

    /// What must stand in no evidence.
    pub fn hidden(&self) -> Hidden {
        Hidden::of_site(&self.site.folder)
    }

    /// The server's address on the LAN.
    pub fn server(&self) -> Ipv4Addr {
        address(SERVER)
    }

    /// Mattermost on the LAN.
    pub fn mattermost_at(&self) -> SocketAddr {
        (self.server(), self.site.port(0)).into()
    }

    /// The port of Calls on the LAN, the only peer that the relay has.
    pub fn calls_at(&self) -> SocketAddr {
        (self.server(), self.site.port(1)).into()
    }

    /// The alert gateway on the LAN.
    pub fn gateway_at(&self) -> SocketAddr {
        (self.server(), self.site.port(3)).into()
    }

    /// Coturn on the LAN, over UDP and TCP.
    pub fn turn_at(&self) -> SocketAddr {
        (self.server(), self.site.port(4)).into()
    }

    /// Coturn on the LAN, over TLS.
    pub fn turns_at(&self) -> SocketAddr {
        (self.server(), self.site.port(5)).into()
    }

    /// The ports that Coturn relays on.
    pub fn relay_ports(&self) -> std::ops::RangeInclusive<u16> {
        self.site.port(10)..=self.site.port(30)
    }

    /// Another machine on the LAN, with an address that no other has. It goes when it is dropped.
    pub fn client(&self) -> Result<Namespace> {
        self.lab.client(self.free())
    }

    /// A phone, on the LAN or behind routers, which keep it from the port of Calls. It goes when it is dropped.
    pub fn phone(&self, nat: Nat) -> Result<Phone> {
        self.lab.phone(self.free(), nat, self.calls_at().port())
    }

    /// The number of a machine that is not there: many come and go, few are there at a time.
    fn free(&self) -> u8 {
        let number = self.clients.fetch_add(1, Ordering::Relaxed) % u32::from(LAST_CLIENT - FIRST_CLIENT);
        FIRST_CLIENT + u8::try_from(number).unwrap_or_default()
    }

    /// Mattermost's API as the administrator, to be used in [`Namespace::inside`] of the server or of a client.
    pub fn administrator(&self) -> Result<Client> {
        self.as_administrator(|endpoint, name, password| {
            let mut client = Client::new(endpoint, Patience::default())?;
            client.login(name, password)?;
            Ok(client)
        })
    }

    /// The same as a page asks it, with its WebSocket.
    pub fn chat(&self) -> Result<Chat> {
        self.as_administrator(Chat::sign_in)
    }

    fn as_administrator<T>(&self, sign_in: impl FnOnce(&Endpoint, &str, &Secret) -> Result<T>) -> Result<T> {
        let (site, secrets) = (self.description()?, self.secrets()?);
        let endpoint = Endpoint::of_site(&site, &self.folder(), IpAddr::V4(self.server()))?;
        sign_in(&endpoint, &site.administrator.name, secrets.require(Name::AdministratorPassword)?)
    }

    /// Says whether the stack came up.
    pub fn came_up(&self, up: bool) {
        *self.up.lock().unwrap_or_else(|poisoned| poisoned.into_inner()) = Some(up);
    }

    /// Whether the stack came up; nothing as long as nobody knows.
    pub fn is_up(&self) -> Option<bool> {
        *self.up.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    /// The id of a service's container.
    pub fn container(&self, service: &str) -> Result<String> {
        self.site.containers()?.remove(service).ok_or_else(|| Error::new(Class::Check, format!("{service} has no container")))
    }

    /// Makes a service's container anew, as the site describes it with `over` laid over that, and waits until it is healthy.
    pub fn replace(&self, service: &str, over: Option<Value>) -> Result<()> {
        let before = self.pid(service).unwrap_or_default();
        let compose = self.lab.docker("compose --project-name").arg(&self.site.project).arg("--project-directory").arg(&self.site.folder);
        let mut compose = compose.arg("--file").arg(self.folder().compose());
        if let Some(over) = over {
            let file = self.folders.world().join("over.json");
            fs_err::write(&file, json!({ "services": { service: over } }).to_string())?;
            compose = compose.arg("--file").arg(file);
        }
        // The last word is that of who takes a guard out.
        if let Some(file) = &self.over {
            compose = compose.arg("--file").arg(file);
        }
        compose.args(["up", "--detach", "--no-deps", "--force-recreate", service]).deadline(HEALTHY).capture()?;
        self.is_healthy_again(service, before, HEALTHY);
        Ok(())
    }

    /// Restarts a service, and waits until it is healthy.
    pub fn restart(&self, service: &str) -> Result<()> {
        let before = self.pid(service)?;
        self.lab.docker("restart --time 10").arg(self.container(service)?).capture()?;
        self.is_healthy_again(service, before, HEALTHY);
        Ok(())
    }

    /// A path in a service's container, as it is called from outside.
    pub fn inside(&self, service: &str, path: &str) -> Result<PathBuf> {
        Ok(PathBuf::from(format!("/proc/{}/root{path}", self.pid(service)?)))
    }

    /// Waits until a service is healthy, as another process than `before`: its image's own check says so. The Engine asks that every few
    /// seconds only.
    pub fn is_healthy_again(&self, service: &str, before: u64, within: Duration) {
        let healthy = || {
            let id = self.container(service).ok()?;
            let container = self.site.inspect(&id).ok()?;
            let pid = container["State"]["Pid"].as_u64().filter(|pid| *pid != 0 && *pid != before);
            // The first word says that what follows is no shell's.
            let check = container["Config"]["Healthcheck"]["Test"].as_array()?.iter().skip(1).filter_map(Value::as_str);
            let asked = pid.map(|_| self.lab.docker("exec").arg(&id).args(check).deadline(within).outcome());
            asked?.ok()?.success().then_some(())
        };
        lab::wait_for(&format!("{service} is healthy again"), within, healthy, || self.site.logs());
    }

    /// The pid of a service's first process.
    pub fn pid(&self, service: &str) -> Result<u64> {
        self.site.inspect(&self.container(service)?)?["State"]["Pid"]
            .as_u64()
            .ok_or_else(|| Error::new(Class::Check, format!("{service} does not run")))
    }
}

/// A program for the shell.
fn script(file: &Path, text: &str) -> Result<()> {
    images::file::write_beside(file, format!("#!/bin/sh\n{text}\n").as_bytes(), 0o755)
}
