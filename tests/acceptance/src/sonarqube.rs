//! A claim about a real SonarQube 9.9: it analyses a small project on a machine of the LAN, and its quality gate is told in the channel.

use std::time::Duration;

use images::Result;
use lab::address;
use lab::namespace::Namespace;
use serde_json::Value;
use xtask::machine::Part;
use xtask::process::{Running, tail};

use crate::claims::{Claim, wait_for};
use crate::stack::Site;
use crate::world::World;

/// The claims.
pub const CLAIMS: &[Claim] = &[Claim {
    name: "sonarqube::a_real_gate_that_fails_and_recovers_is_told_in_its_channel",
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
    /// Outside of the checkout, which may lie where only root comes.
    folder: tempfile::TempDir,
}

impl Sonarqube {
    /// Unpacks it, as small as an analysis of XML needs, tells Java what the ready files of `integrations sonarqube` say, and starts it.
    fn start(world: &World, site: &Site) -> Result<Sonarqube> {
        let machine = site.lab.client(HOST)?;
        let temporary = tempfile::Builder::new().prefix("sonarqube-").tempdir()?;
        let folder = temporary.path();
        for zip in ["sonar-application.zip", "sonar-scanner-cli.zip"] {
            let zip = world.machine.built(Part::named(zip)).unwrap();
            world.machine.process("unzip").arg("-q").arg(zip).arg("-d").arg(folder).capture()?;
        }
        let home = folder.join("sonarqube-9.9.0.65466");
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
        let log = folder.join("started.log");
        let java = as_nobody(&machine).args(["java", "-Xmx64m", "-jar", "lib/sonar-application-9.9.0.65466.jar"]).in_folder(&home);
        let mut sonarqube = Sonarqube { running: java.start(&log)?, machine, folder: temporary };
        let logs = [log.clone(), home.join("logs/web.log"), home.join("logs/es.log")];
        let said = || logs.iter().flat_map(|log| tail(&fs_err::read(log).unwrap_or_default(), 15)).collect::<Vec<_>>().join("\n");
        // On a busy machine its web server was seen to end half a minute after its start, and all of it with that; a supervisor would
        // start it anew.
        let mut left = 2;
        let is_up = || {
            if left > 0 && sonarqube.running.ended().is_ok_and(|ended| ended.is_some()) {
                left -= 1;
                sonarqube.running = java.start(&log).ok()?;
            }
            sonarqube.get("/api/system/status").ok().filter(|answer| answer["status"] == "UP")
        };
        wait_for("SonarQube", Duration::from_secs(300), is_up, said);
        Ok(sonarqube)
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
        fs_err::write(source.join("one.xml"), "<a>\n  <b/>\n  <c/>\n</a>\n")?;
        fs_err::write(source.join("sonar-project.properties"), format!("sonar.projectKey={project}\nsonar.login={token}\n"))?;
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

fn as_nobody(machine: &Namespace) -> xtask::process::Process {
    let number = NOBODY.to_string();
    machine.process("setpriv").args(["--reuid", &number, "--regid", &number, "--clear-groups"])
}

fn told(site: &Site, words: &str) {
    let posts = || site.sql("SELECT doc::text FROM posts").unwrap_or_default();
    let there = |text: &String| text.lines().any(|line| line.contains("slack_attachment") && line.contains(words));
    wait_for(words, Duration::from_secs(90), || Some(posts()).filter(there), posts);
}

/// Over HTTPS with our CA, by the name that the certificate holds, and signed.
fn gate(world: &World) -> Result<()> {
    let site = Site::new(world)?;
    site.is_up()?;
    site.xtask("integrations sonarqube").capture()?;
    let sonarqube = Sonarqube::start(world, &site)?;

    let token = sonarqube.token()?;
    // As the steps say: a token is not sent over plain HTTP to another machine, so `--apply` does not do it here.
    let secret = fs_err::read_to_string(site.path().join("integrations/sonarqube/webhook-secret"))?;
    let url = format!("https://mattermost.cicd.local:{}/sonarqube", site.port(3));
    sonarqube.post("/api/webhooks/create", &[("name", "Mattermost (chatops)"), ("url", &url), ("secret", secret.trim())])?;
    sonarqube.post("/api/projects/create", &[("project", "small"), ("name", "Small & <b>")])?;
    sonarqube.post("/api/qualitygates/create", &[("name", "strict")])?;
    let made = sonarqube
        .post("/api/qualitygates/create_condition", &[("gateName", "strict"), ("metric", "ncloc"), ("op", "GT"), ("error", "1")])?;
    sonarqube.post("/api/qualitygates/select", &[("gateName", "strict"), ("projectKey", "small")])?;

    sonarqube.analyse("small", &token)?;
    told(&site, "Quality gate failed: Small");
    let condition = made["id"].as_str().map_or_else(|| made["id"].to_string(), str::to_owned);
    sonarqube.post("/api/qualitygates/update_condition", &[("id", &condition), ("metric", "ncloc"), ("op", "GT"), ("error", "1000")])?;
    sonarqube.analyse("small", &token)?;
    told(&site, "Quality gate passed: Small");
    Ok(())
}
