//! A PostgreSQL for all tests, a double and a site for each.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use images::Result;
use reqwest::Method;
use serde_json::Value;
use xtask::provision::{Desired, Urls, difference, provision};
use xtask::server::model::{Channel, Hook};
use xtask::server::start::{First, create_first_administrator};
use xtask::server::{Client, Endpoint, Patience};
use xtask::site::secrets::Secret;
use xtask::site::{self, Folder};

use crate::cut::{Cut, Proxy};
use crate::place::{Installed, Postgres, Server, free_port, wait_for};

const SITE: &str = r#"
format = 1
addresses = ["192.168.1.20"]
[jenkins]
url = "https://jenkins.cicd.local"
[gitlab]
url = "https://gitlab.cicd.local"
projects = ["group/project"]
[sonarqube]
url = "https://sonarqube.cicd.local"
"#;
/// Of the administrator.
pub const NAME: &str = "admin";
/// The administrator's.
pub const PASSWORD: &str = "Correct-horse-9-battery";

/// What all tests share.
pub struct World {
    postgres: Postgres,
    databases: AtomicUsize,
}

impl World {
    pub fn start(bin: PathBuf) -> World {
        images::store::http::install_tls();
        World { postgres: Postgres::start(bin), databases: AtomicUsize::new(0) }
    }
}

/// A running double with its administrator, and the folder of its site.
pub struct Double<'a> {
    world: &'a World,
    database: String,
    address: SocketAddr,
    installed: Installed,
    _server: Server,
    desired: Desired,
    folder: Folder,
    _root: tempfile::TempDir,
    http: reqwest::blocking::Client,
}

/// The same server, through a proxy.
pub struct Through<'a> {
    double: &'a Double<'a>,
    proxy: Proxy,
}

impl Through<'_> {
    pub fn provision(&self) -> Result<()> {
        self.double.provision_at(self.proxy.address).map(drop)
    }

    pub fn requests(&self) -> usize {
        self.proxy.requests()
    }
}

impl<'a> Double<'a> {
    pub fn start(world: &'a World) -> Double<'a> {
        let name = format!("provision_{}", world.databases.fetch_add(1, Ordering::Relaxed));
        let source = world.postgres.database(&name);
        let installed = Installed::new("11.7.9");
        let port = free_port();
        let settings = [
            ("MM_SERVICESETTINGS_ENABLEBOTACCOUNTCREATION", "true"),
            ("MM_SERVICESETTINGS_ENABLEUSERACCESSTOKENS", "true"),
            // As `cargo xtask env` has it.
            ("MM_SERVICESETTINGS_ENABLEPOSTUSERNAMEOVERRIDE", "true"),
            ("MM_SERVICESETTINGS_ENABLELINKPREVIEWS", "\"false\""),
        ];
        let mut server = installed.start(port, &source, &settings);
        let address = SocketAddr::from(([127, 0, 0, 1], port));
        let client = client_at(address);
        wait_for("the double", Duration::from_secs(60), || {
            assert!(server.ended().is_none(), "the double ended: {}", installed.log());
            client.ping().ok().filter(|health| health.is_good())
        });
        let desired = desired("");
        let root = tempfile::tempdir().unwrap();
        let folder = Folder::new(root.path());
        let http = reqwest::blocking::Client::builder().no_proxy().tls_certs_only([]).build().unwrap();
        let double = Double { world, database: name, address, installed, _server: server, desired, folder, _root: root, http };
        assert_eq!(double.make_administrator(&mut double.client()), First::Made);
        double
    }

    pub fn provisioned(world: &'a World) -> Double<'a> {
        let double = Double::start(world);
        double.provision().unwrap();
        double.must_be_finished("after the first run");
        double
    }

    /// From now on `site.toml` has these lines at its end.
    pub fn describe(&mut self, more: &str) {
        self.desired = desired(more);
    }

    pub fn through(&self, cut: Cut) -> Through<'_> {
        Through { double: self, proxy: Proxy::start(self.address, cut) }
    }

    /// Nobody's.
    pub fn client(&self) -> Client {
        client_at(self.address)
    }

    /// Makes the first account, or finds it.
    pub fn make_administrator(&self, client: &mut Client) -> First {
        create_first_administrator(client, NAME, "admin@cicd.local", &Secret::new(PASSWORD)).unwrap()
    }

    fn administrator(&self) -> Client {
        self.sign_in(PASSWORD).unwrap()
    }

    /// The administrator's client; what a person reads where there is none.
    pub fn sign_in(&self, password: &str) -> Result<Client> {
        let mut client = client_at(self.address);
        client.login(NAME, &Secret::new(password))?;
        Ok(client)
    }

    /// `mmctl` over the local socket.
    pub fn mmctl(&self, words: &str) {
        let output = self.installed.mmctl().arg("--local").args(words.split(' ')).output().unwrap();
        assert!(output.status.success(), "mmctl {words}: {}", String::from_utf8_lossy(&output.stderr));
    }

    /// An empty database with an administrator, and no `secrets.env`.
    pub fn reset(&self) {
        self.reset_database();
        self.lose_secrets();
    }

    /// An empty database with an administrator.
    pub fn reset_database(&self) {
        let sql = "DO $$ DECLARE t text; BEGIN FOR t IN SELECT tablename FROM pg_tables WHERE schemaname = 'public' \
                   AND tablename !~ 'migration' LOOP EXECUTE 'TRUNCATE ' || quote_ident(t) || ' CASCADE'; END LOOP; END $$";
        self.world.postgres.sql(&self.database, sql);
        assert_eq!(self.make_administrator(&mut self.client()), First::Made);
    }

    pub fn lose_secrets(&self) {
        match fs_err::remove_file(self.folder.secrets()) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => panic!("{error}"),
            _ => {}
        }
    }

    pub fn provision(&self) -> Result<()> {
        self.provision_at(self.address).map(drop)
    }

    /// Provisions as the owner of a token.
    pub fn provision_with(&self, token: &str) -> Result<()> {
        let client = client_at(self.address).with_token(Secret::new(token));
        provision(&client, &self.desired, &mut Urls::read(&self.folder)?, &mut |_| {}).map(drop)
    }

    /// What a run changes.
    pub fn changes(&self) -> Vec<String> {
        self.provision_at(self.address).unwrap()
    }

    fn provision_at(&self, address: SocketAddr) -> Result<Vec<String>> {
        let mut client = client_at(address);
        client.login(NAME, &Secret::new(PASSWORD)).map_err(images::Error::from)?;
        let mut urls = Urls::read(&self.folder)?;
        let done = provision(&client, &self.desired, &mut urls, &mut |_| {})?;
        // As the verb does: what was done is what counts.
        let _ = client.logout();
        Ok(done.actions.iter().map(ToString::to_string).collect())
    }

    /// What a run would change.
    pub fn plan(&self) -> Vec<String> {
        let plan = difference(&self.administrator(), &self.desired, &Urls::read(&self.folder).unwrap()).unwrap();
        plan.actions.iter().map(ToString::to_string).collect()
    }

    /// Nothing is missing, and nothing is there twice.
    pub fn must_be_finished(&self, when: &str) {
        assert_eq!(self.plan(), Vec::<String>::new(), "{when}");
        assert_eq!(self.hook_ids().len(), self.desired.webhooks.len(), "{when}");
        assert_eq!(self.urls().len(), self.desired.webhooks.len(), "{when}");
    }

    pub fn hooks(&self) -> Vec<Hook> {
        let client = self.administrator();
        match client.team("engineering").unwrap() {
            Some(team) => client.hooks(&team.id).unwrap(),
            None => Vec::new(),
        }
    }

    pub fn hook_ids(&self) -> Vec<String> {
        self.hooks().iter().map(|hook| hook.id.expose().to_owned()).collect()
    }

    /// Name and URL of each webhook in `secrets.env`.
    pub fn urls(&self) -> Vec<(String, String)> {
        let urls = Urls::read(&self.folder).unwrap().of(&self.desired.webhooks);
        urls.into_iter().map(|(name, url)| (name, url.expose().to_owned())).collect()
    }

    pub fn secrets(&self) -> String {
        fs_err::read_to_string(self.folder.secrets()).unwrap()
    }

    pub fn secrets_mode(&self) -> u32 {
        std::os::unix::fs::PermissionsExt::mode(&fs_err::metadata(self.folder.secrets()).unwrap().permissions()) & 0o7777
    }

    pub fn channel(&self, name: &str) -> Channel {
        let client = self.administrator();
        let team = client.team("engineering").unwrap().unwrap();
        client.channel(&team.id, name).unwrap().unwrap()
    }

    pub fn user(&self, name: &str) -> String {
        self.administrator().user(name).unwrap().unwrap().id
    }

    /// A call as the administrator, as a person's client would make it.
    pub fn call(&self, method: &str, path: &str, body: Option<&str>) -> Value {
        let login = self.http.post(format!("http://{}/api/v4/users/login", self.address));
        let login = login.body(format!(r#"{{"login_id":"{NAME}","password":"{PASSWORD}"}}"#)).send().unwrap();
        let token = login.headers()["token"].to_str().unwrap().to_owned();
        let request = self.http.request(method.parse::<Method>().unwrap(), format!("http://{}/api/v4{path}", self.address));
        let answer = request.bearer_auth(token).body(body.unwrap_or_default().to_owned()).send().unwrap();
        assert!(answer.status().is_success(), "{method} {path}: {}", answer.status());
        serde_json::from_str(&answer.text().unwrap()).unwrap()
    }

    /// Changes a webhook as the web client does; `edit` are fields of JSON.
    pub fn edit_hook(&self, name: &str, edit: &str) {
        let url = self.urls().into_iter().find(|(known, _)| known == name).unwrap().1;
        let id = url.rsplit('/').next().unwrap();
        let mut hook = serde_json::to_value(self.hooks().into_iter().find(|hook| hook.id.expose() == id).unwrap()).unwrap();
        let edit: Value = serde_json::from_str(&format!("{{{edit}}}")).unwrap();
        hook.as_object_mut().unwrap().extend(edit.as_object().unwrap().clone());
        self.call("PUT", &format!("/hooks/incoming/{id}"), Some(&hook.to_string()));
    }

    /// Makes another one of each webhook that is kept in `secrets.env`.
    pub fn copy_every_hook(&self) {
        let kept: Vec<String> = self.urls().into_iter().map(|(_, url)| url).collect();
        for hook in self.hooks().into_iter().filter(|hook| kept.iter().any(|url| url.ends_with(hook.id.expose()))) {
            self.call("POST", "/hooks/incoming", Some(&serde_json::to_string(&hook).unwrap()));
        }
    }

    /// The newest post of a channel.
    pub fn newest_post(&self, channel: &str) -> Value {
        let found = self.call("GET", &format!("/channels/{}/posts?per_page=1", self.channel(channel).id), None);
        found["posts"][found["order"][0].as_str().unwrap()].clone()
    }

    /// Posts JSON to a webhook; the status.
    pub fn post(&self, url: &str, body: &str) -> u16 {
        self.post_as(url, "application/json", body)
    }

    /// Posts to a webhook; the status.
    pub fn post_as(&self, url: &str, kind: &str, body: &str) -> u16 {
        let path = url.strip_prefix("https://mattermost.cicd.local:8065").unwrap();
        let request = self.http.post(format!("http://{}{path}", self.address)).header("content-type", kind);
        request.body(body.to_owned()).send().unwrap().status().as_u16()
    }
}

fn desired(more: &str) -> Desired {
    Desired::of(&site::parse("site.toml", &format!("{SITE}{more}"), || unreachable!("addresses are written")).unwrap())
}

fn client_at(address: SocketAddr) -> Client {
    let endpoint = Endpoint { url: format!("http://{address}").parse().unwrap(), ca: None, address: None };
    let patience =
        Patience { tries: 3, pause: Duration::from_millis(1), longest: Duration::from_secs(1), timeout: Duration::from_secs(30) };
    Client::new(&endpoint, patience).unwrap()
}
