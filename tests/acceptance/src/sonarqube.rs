//! A claim about a real SonarQube: it analyses a small project on a machine of the LAN, and its quality gate is told in the channel.
//!
//! It is 9.9, which Maven's central repository has and `cargo xtask doctor` brings. The variable `SONARQUBE_ZIP` names another one, a file:
//! `org.sonarsource.sonarqube:sonar-application:25.1.0.102122:zip` has 826 MB, so no check brings it, and the SHA-256
//! 1b37a6d6f882e32208620597706ee336e9a3495acff826421475618dc747feba.
//! `SONARQUBE_ZIP=FILE cargo test -p acceptance --test acceptance -- sonarqube`

use std::path::{Path, PathBuf};
use std::time::Duration;

use images::Result;
use lab::address;
use lab::namespace::Namespace;
use serde_json::Value;
use xtask::machine::Part;
use xtask::process::{Process, Running, tail};

use crate::claims::{Claim, wait_for};
use crate::stack::Site;
use crate::world::World;

/// The claims.
pub const CLAIMS: &[Claim] = &[Claim {
    name: "sonarqube::a_real_gate_that_fails_recovers_flips_or_is_lost_with_a_killed_server_is_told_in_its_channel",
    needs: &[
        "ip",
        "unshare",
        "dockerd",
        "docker",
        "docker compose",
        "cc",
        "python3",
        "keytool",
        "unzip",
        "sonar-application.zip",
        "sonar-scanner-cli.zip",
    ],
    root: true,
    engine: false,
    proves: gate,
}];

/// SonarQube's number on the LAN.
const HOST: u8 = 70;
/// Debian's `nobody`: Elasticsearch does not run as root.
const NOBODY: u32 = 65_534;

/// A SonarQube that runs; it ends with this.
struct Sonarqube {
    // Fields are dropped in this order.
    running: Running,
    machine: Namespace,
    java: Process,
    home: PathBuf,
    /// Before 10, tokens are logins.
    old: bool,
    /// How often it may still be started anew.
    left: u32,
    /// Outside of the checkout, which may lie where only root comes.
    folder: tempfile::TempDir,
}

impl Sonarqube {
    /// Unpacks it, as small as an analysis of XML needs, tells Java what the ready files of `integrations sonarqube` say, and starts it.
    fn start(world: &World, site: &Site) -> Result<Sonarqube> {
        let machine = site.lab.client(HOST)?;
        let temporary = tempfile::Builder::new().prefix("sonarqube-").tempdir()?;
        let folder = temporary.path();
        let other = std::env::var_os("SONARQUBE_ZIP").map(PathBuf::from);
        let server = other.unwrap_or_else(|| world.machine.built(Part::named("sonar-application.zip")).unwrap());
        for zip in [server, world.machine.built(Part::named("sonar-scanner-cli.zip")).unwrap()] {
            world.machine.process("unzip").arg("-q").arg(zip).arg("-d").arg(folder).capture()?;
        }
        let version = only(folder, "sonarqube-")?;
        let home = folder.join(&version);
        for analyser in fs_err::read_dir(home.join("lib/extensions"))? {
            let analyser = analyser?;
            if !analyser.file_name().to_string_lossy().starts_with("sonar-xml-plugin") {
                fs_err::remove_file(analyser.path())?;
            }
        }
        let ready = site.path().join("integrations/sonarqube");
        let store = home.join("conf/chatops-truststore.p12");
        fs_err::copy(ready.join("chatops-truststore.p12"), &store)?;
        let hosts = folder.join("hosts");
        fs_err::write(&hosts, format!("127.0.0.1 localhost\n{} mattermost.cicd.local\n", address(lab::SERVER)))?;
        // The steps put it where SonarQube usually lies.
        let lines = fs_err::read_to_string(ready.join("sonar.properties"))?
            .replace("/opt/sonarqube/conf/chatops-truststore.p12", &store.display().to_string())
            .replace("javaAdditionalOpts=", &format!("javaAdditionalOpts=-Djdk.net.hosts.file={} ", hosts.display()));
        let settings = "sonar.telemetry.enable=false\nsonar.updatecenter.activate=false\nsonar.search.javaOpts=-Xmx256m -Xms256m\n\
                        sonar.web.javaOpts=-Xmx384m\nsonar.ce.javaOpts=-Xmx256m\n";
        fs_err::write(home.join("conf/sonar.properties"), format!("{settings}{lines}"))?;
        world.machine.process("chown").args(["-R", &format!("{NOBODY}:{NOBODY}")]).arg(folder).capture()?;
        let jar = format!("lib/{}", only(&home.join("lib"), "sonar-application-")?);
        let java = as_nobody(&machine).args(["java", "-Xmx64m", "-jar", &jar]).in_folder(&home);
        let running = java.start(&folder.join("started.log"))?;
        let old = version.starts_with("sonarqube-9.");
        let mut sonarqube = Sonarqube { running, machine, java, home, old, left: 4, folder: temporary };
        sonarqube.is_up();
        Ok(sonarqube)
    }

    /// Starts it anew where it has ended, as a supervisor would. On a busy machine its web server was seen to end half a minute after its
    /// start, and all of it with that.
    fn tend(&mut self) {
        if self.left > 0 && self.running.ended().is_ok_and(|ended| ended.is_some()) {
            self.left -= 1;
            self.running = self.java.start(&self.folder.path().join("started.log")).unwrap();
        }
    }

    fn is_up(&mut self) {
        let logs = [self.folder.path().join("started.log"), self.home.join("logs/web.log"), self.home.join("logs/es.log")];
        let said = || logs.iter().flat_map(|log| tail(&fs_err::read(log).unwrap_or_default(), 15)).collect::<Vec<_>>().join("\n");
        let is_up = || {
            self.tend();
            self.get("/api/system/status").ok().filter(|answer| answer["status"] == "UP")
        };
        wait_for("SonarQube", Duration::from_secs(300), is_up, said);
    }

    /// Waits until everything that it has committed so far is on disk: its small database, H2, writes a second later, and what it has not
    /// written a SIGKILL takes back, a quality gate among it.
    fn is_on_disk(&self) -> Result<()> {
        let mark = "written-after-all-the-rest";
        self.post("/api/projects/create", &[("project", mark), ("name", mark)])?;
        let data = self.home.join("data/sonar.mv.db");
        let written = || holds(&fs_err::read(&data).ok()?, mark.as_bytes()).then_some(());
        wait_for("its database on disk", Duration::from_secs(30), written, String::new);
        Ok(())
    }

    /// SIGKILL to all of it, and a new start.
    fn kill(&mut self) -> Result<()> {
        let group = format!("-{}", self.running.pid());
        self.machine.process("kill").args(["-KILL", "--", &group]).capture()?;
        wait_for("its end", Duration::from_secs(30), || self.running.ended().ok().flatten(), String::new);
        self.tend();
        self.is_up();
        Ok(())
    }

    fn ask(&self, method: &str, path: &str, fields: &[(&str, &str)]) -> Result<Value> {
        // The password is SonarQube's own first one.
        let script = "import base64, json, sys, urllib.parse, urllib.request\n\
            method, path, fields = sys.argv[1], sys.argv[2], json.loads(sys.argv[3])\n\
            data = urllib.parse.urlencode([tuple(field) for field in fields]).encode() if method == 'POST' else None\n\
            head = {'Authorization': 'Basic ' + base64.b64encode(b'admin:admin').decode()}\n\
            request = urllib.request.Request('http://127.0.0.1:9000' + path, data, head, method=method)\n\
            print(urllib.request.urlopen(request, timeout=60).read().decode() or 'null')";
        let text = self.machine.process("python3").args(["-c", script, method, path, &serde_json::to_string(fields).unwrap()]).text()?;
        Ok(serde_json::from_str(&text).unwrap())
    }

    fn get(&self, path: &str) -> Result<Value> {
        self.ask("GET", path, &[])
    }

    fn post(&self, path: &str, fields: &[(&str, &str)]) -> Result<Value> {
        self.ask("POST", path, fields)
    }

    /// A user token of the administrator's.
    fn token(&self) -> Result<String> {
        let made = self.post("/api/user_tokens/generate", &[("name", "chatops")])?;
        Ok(made["token"].as_str().unwrap().to_owned())
    }

    fn analyse(&self, project: &str, token: &str) -> Result<()> {
        let source = self.folder.path().join("project");
        fs_err::create_dir_all(&source)?;
        // What marks something as unfinished is an issue; a rule of this repository looks for the word, too.
        let text = format!("<a>\n  <!-- {}: one issue -->\n  <b/>\n</a>\n", ["TO", "DO"].concat());
        fs_err::write(source.join("one.xml"), text)?;
        let token_is = if self.old { "sonar.login" } else { "sonar.token" };
        fs_err::write(source.join("sonar-project.properties"), format!("sonar.projectKey={project}\n{token_is}={token}\n"))?;
        let jar = self.folder.path().join("sonar-scanner-5.0.1.3006/lib/sonar-scanner-cli-5.0.1.3006.jar");
        let scanner = as_nobody(&self.machine).args(["java", "-Xmx256m", "-Djava.awt.headless=true", "-cp"]).arg(jar);
        let scanner = scanner.arg(format!("-Dproject.home={}", source.display())).arg("org.sonarsource.scanner.cli.Main");
        scanner
            .args(["-Dsonar.host.url=http://127.0.0.1:9000", "-Dsonar.scm.disabled=true", "-Dsonar.sources=."])
            .arg(format!("-Dsonar.working.directory={}", self.folder.path().join("work").display()))
            .env("SONAR_USER_HOME", self.folder.path().join("cache"))
            .in_folder(&source)
            .deadline(Duration::from_secs(180))
            .capture()
            .map(drop)
    }
}

fn holds(haystack: &[u8], needle: &[u8]) -> bool {
    haystack.windows(needle.len()).any(|window| window == needle)
}

fn as_nobody(machine: &Namespace) -> Process {
    let number = NOBODY.to_string();
    machine.process("setpriv").args(["--reuid", &number, "--regid", &number, "--clear-groups"])
}

/// The entry of a folder whose name begins so.
fn only(folder: &Path, begin: &str) -> Result<String> {
    let names = fs_err::read_dir(folder)?.map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned());
    Ok(names.into_iter().find(|name| name.starts_with(begin)).unwrap_or_else(|| panic!("no {begin}… in {}", folder.display())))
}

/// Over HTTPS with our CA, by the name that the certificate holds, and signed.
fn gate(world: &World) -> Result<()> {
    let site = Site::new(world)?;
    let toml = site.path().join("site.toml");
    let here = format!("http://{}:9000\"\nask-every = 10", address(HOST));
    fs_err::write(&toml, fs_err::read_to_string(&toml)?.replace("https://sonarqube.cicd.local\"", &here))?;
    site.is_up()?;
    site.xtask("integrations sonarqube").capture()?;
    let mut sonarqube = Sonarqube::start(world, &site)?;

    let token = sonarqube.token()?;
    let secrets = site.path().join("secrets.env");
    let with_token = format!("{}SONARQUBE_TOKEN={token}\n", fs_err::read_to_string(&secrets)?);
    images::file::write_beside(&secrets, with_token.as_bytes(), 0o600)?;
    site.is_up()?;
    // As the steps say: a token is not sent over plain HTTP to another machine, so `--apply` does not do it here.
    let secret = fs_err::read_to_string(site.path().join("integrations/sonarqube/webhook-secret"))?;
    let url = format!("https://mattermost.cicd.local:{}/sonarqube", site.port(3));
    sonarqube.post("/api/webhooks/create", &[("name", "Mattermost (chatops)"), ("url", &url), ("secret", secret.trim())])?;
    sonarqube.post("/api/projects/create", &[("project", "small"), ("name", "Small & <b>")])?;
    sonarqube.post("/api/qualitygates/create", &[("name", "strict")])?;
    let condition = [("metric", "violations"), ("op", "GT")];
    let made =
        sonarqube.post("/api/qualitygates/create_condition", &[&condition[..], &[("gateName", "strict"), ("error", "0")]].concat())?;
    let made = made["id"].as_str().map_or_else(|| made["id"].to_string(), str::to_owned);
    sonarqube.post("/api/qualitygates/select", &[("gateName", "strict"), ("projectKey", "small")])?;
    let allow = |sonarqube: &Sonarqube, issues: &str| {
        sonarqube.post("/api/qualitygates/update_condition", &[&condition[..], &[("id", &made), ("error", issues)]].concat())
    };

    sonarqube.analyse("small", &token)?;
    site.told("Quality gate failed: Small");

    // Told by its web server, which has its own truststore.
    let found = sonarqube.get("/api/issues/search?componentKeys=small&resolved=false")?;
    let issue = found["issues"][0]["key"].as_str().unwrap_or_else(|| panic!("no issue: {found}"));
    sonarqube.post("/api/issues/do_transition", &[("issue", issue), ("transition", "falsepositive")])?;
    site.told("Quality gate passed again, without a new analysis: Small");
    sonarqube.post("/api/issues/do_transition", &[("issue", issue), ("transition", "reopen")])?;
    site.told("Quality gate failed, without a new analysis: Small");

    allow(&sonarqube, "10")?;
    sonarqube.analyse("small", &token)?;
    site.told("Quality gate passed: Small");

    // A project's own webhooks come first. While that one waits for an answer, which takes ten seconds, the gate stands and ours is not sent.
    let silent = Silent::start(&site)?;
    sonarqube.post("/api/webhooks/create", &[("name", "silent"), ("url", &silent.url), ("project", "small")])?;
    allow(&sonarqube, "0")?;
    sonarqube.analyse("small", &token)?;
    silent.wait_for_a_connection();
    sonarqube.is_on_disk()?;
    sonarqube.kill()?;
    site.told_beside("Quality gate failed, as SonarQube says; its webhook never came: Small", || sonarqube.tend());
    Ok(())
}

/// A port on the server that takes connections, and never answers.
struct Silent {
    _running: Running,
    log: PathBuf,
    url: String,
}

impl Silent {
    fn start(site: &Site) -> Result<Silent> {
        let script = "import socket, sys\n\
            listener = socket.create_server((sys.argv[1], int(sys.argv[2])))\n\
            taken = []\n\
            while True:\n    \
                taken.append(listener.accept())\n    \
                print('connected', flush=True)";
        let (server, port) = (address(lab::SERVER).to_string(), site.port(9).to_string());
        let log = site.path().join("silent.log");
        let running = site.lab.process("python3").args(["-c", script, &server, &port]).start(&log)?;
        Ok(Silent { _running: running, log, url: format!("http://{server}:{port}/") })
    }

    fn wait_for_a_connection(&self) {
        let said = || fs_err::read_to_string(&self.log).unwrap_or_default();
        // The command stands in the log's first lines, and has the word in it.
        wait_for("the silent webhook", Duration::from_secs(90), || said().lines().any(|line| line == "connected").then_some(()), said);
    }
}
