//! Claims about the stack: `cargo xtask up` and its kin, on a LAN of its own with an Engine of its own.
//!
//! Mattermost's release cannot be fetched by a test, so its place is taken by the API double (`--mattermost double`), and every claim
//! here is one about the stack with the double.

mod bundle;
mod faults;
mod linked;
mod phones;
mod renewed;
mod swarm;

use std::cell::RefCell;
use std::ops::Deref;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::{Duration, Instant};

use images::Result;
pub use lab::said;
pub use lab::site::UP;
use lab::{Lab, SERVER, address};
use serde_json::Value;
use xtask::machine::Part;

use crate::claims::{Claim, wait_for};
use crate::database::Server;
use crate::world::World;

/// What the claims about clients need.
const CLIENTS: &[&str] = &["ip", "unshare", "dockerd", "docker", "docker compose", "cc", "nft", "node", "@mattermost/client"];
const BUNDLE: &[&str] = &["ip", "unshare", "dockerd", "docker", "docker compose", "cc", "minisign", "tar", "zstd"];
const DATABASE: &[&str] = &["ip", "unshare", "dockerd", "docker", "docker compose", "cc", "nft", "initdb", "psql", "openssl"];
const SWARM: &[&str] = &["ip", "unshare", "dockerd", "docker", "docker compose", "docker stack", "cc"];
const CAPTURE: &[&str] = &["ip", "unshare", "dockerd", "docker", "tcpdump"];
const NEEDS: &[&str] = &["ip", "unshare", "dockerd", "docker", "docker compose", "cc", "python3", "nft"];

/// The claims.
pub const CLAIMS: &[Claim] = &[
    claim("stack::up_ends_in_a_provisioned_chat_and_again_it_changes_nothing", provisioned),
    Claim { needs: CLIENTS, ..claim("stack::the_official_client_posts_and_reads_over_its_websocket", official_clients) },
    claim("stack::an_alert_of_sonarqube_is_posted_in_its_channel_and_http_is_sent_on_to_https", alert),
    claim("stack::a_changed_setting_replaces_its_service_alone_and_one_that_fails_is_taken_back", changes),
    claim("stack::an_oauth_application_of_gitlab_takes_one_restart_and_people_sign_in_with_it", linked::by_oauth),
    claim("stack::a_rotated_secret_and_a_renewed_certificate_reach_what_runs_and_replace_only_what_has_them", renewed::reaches_what_runs),
    claim("stack::a_new_version_that_does_not_start_is_taken_back_with_its_log_and_the_data_stays", faults::new_version),
    claim("stack::what_ails_a_running_server_is_told_with_the_next_step", faults::ailing),
    claim("stack::a_removed_image_is_loaded_again_and_a_network_of_somebody_else_is_named", faults::image_and_network),
    claim("stack::a_full_disk_of_the_engine_is_named_and_up_goes_on_when_there_is_room", faults::full_engine),
    claim("stack::up_that_is_killed_anywhere_is_finished_by_the_next_one", killed),
    claim("stack::what_is_in_the_way_is_named_before_anything_starts", in_the_way),
    Claim { needs: DATABASE, ..claim("stack::up_with_an_external_database_ends_provisioned", external_database) },
    Claim {
        needs: BUNDLE,
        ..claim("stack::a_bundle_in_a_root_without_network_and_tools_ends_provisioned_and_so_does_its_successor", bundle::crosses)
    },
    Claim { needs: BUNDLE, ..claim("stack::a_bundle_for_one_site_runs_as_it_came_and_under_no_other_ca", bundle::for_one_site) },
    Claim { needs: SWARM, ..claim("stack::up_on_a_swarm_of_one_node_ends_provisioned_and_down_leaves_nothing", swarm::deploys) },
    claim("lab::each_router_translates_for_every_destination_anew_and_lets_nobody_else_in", phones::routers),
    Claim { needs: CAPTURE, ..claim("lab::packets_of_the_lan_are_in_a_capture", phones::captured) },
    claim("stack::down_keeps_the_data_and_with_volumes_leaves_nothing", down),
];

const fn claim(name: &'static str, proves: fn(&World) -> Result<()>) -> Claim {
    Claim { name, needs: NEEDS, root: true, engine: false, proves }
}

/// A site of one claim, in the shared lab: a project and ports of its own.
pub struct Site<'a> {
    site: lab::site::Site<'a>,
    _folder: tempfile::TempDir,
}

impl<'a> Site<'a> {
    pub fn new(world: &'a World) -> Result<Site<'a>> {
        Site::on(world, world.lab()?)
    }

    fn on(world: &'a World, lab: &'a Lab) -> Result<Site<'a>> {
        static NEXT: AtomicU16 = AtomicU16::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let folder = world.scratch();
        let site = lab::site::Site {
            lab,
            project: format!("claim{number}"),
            folder: folder.path().to_owned(),
            first: 20_000 + number * 100,
            xtask: world.xtask()?.to_owned(),
            up: ["--mattermost", "double"].map(Into::into).to_vec(),
        };
        site.describe("")?;
        Ok(Site { site, _folder: folder })
    }

    /// Waits until an attachment with these words is among the posts.
    pub fn told(&self, words: &str) {
        self.told_beside(words, || ());
    }

    /// The same; `meanwhile` is done again and again until then.
    pub fn told_beside(&self, words: &str, mut meanwhile: impl FnMut()) {
        let posts = || self.sql("SELECT doc::text FROM posts").unwrap_or_default();
        let there = |text: &String| text.lines().any(|line| line.contains("slack_attachment") && line.contains(words));
        let ask = || {
            meanwhile();
            Some(posts()).filter(there)
        };
        wait_for(words, Duration::from_secs(90), ask, || format!("{}\n{}", posts(), self.logs()));
    }
}

impl<'a> Deref for Site<'a> {
    type Target = lab::site::Site<'a>;

    fn deref(&self) -> &Self::Target {
        &self.site
    }
}

impl Drop for Site<'_> {
    fn drop(&mut self) {
        // A claim that failed has its own words to say.
        let _ = self.xtask("down --volumes --yes").outcome();
    }
}

fn provisioned(world: &World) -> Result<()> {
    let site = Site::new(world)?;
    let log = site.path().join("other.log");
    let other = site.xtask("up --mattermost double").start(&log)?;
    let said_by_other = || fs_err::read_to_string(&log).unwrap_or_default();
    wait_for("the other up's lock", Duration::from_secs(60), || site.path().join(".stack.lock").is_file().then_some(()), said_by_other);
    let first = site.is_up()?;
    wait_for("the other up's end", Duration::from_secs(60), || other.ended().ok().flatten(), said_by_other);
    let other = said_by_other();
    let (first, second) = if other.contains("waiting for it to end") { (first, other) } else { (other, first) };
    assert!(second.contains("waiting for it to end") && second.contains("nothing had to change"), "two at once:\n{first}\n{second}");
    assert!(first.contains("API double"), "what used the double does not say so:\n{first}");
    assert!(first.contains("started alert-gateway, coturn, mattermost, postgres"), "{first}");
    assert!(first.contains(&format!("open https://mattermost.cicd.local:{}", site.port(0))), "{first}");
    assert!(site.xtask("status").outcome()?.success());
    let plan = site.xtask("provision --plan").outcome()?;
    assert!(plan.success(), "provisioning is not done: {}", said(&plan));
    for tool in ["jenkins", "sonarqube"] {
        assert!(said(&plan).contains(&format!("~ integrations {tool}: ")), "the plan does not say how {tool} stands: {}", said(&plan));
    }

    let before = site.containers()?;
    let begin = Instant::now();
    let second = site.is_up()?;
    eprintln!("         the second up took {:.1} s (aim: 5)", begin.elapsed().as_secs_f32());
    assert_eq!(site.containers()?, before, "{second}");
    assert!(second.contains("nothing had to change"), "{second}");

    // Nobody told it to touch the kernel's packet filter before.
    assert_eq!(relayed(&site, 2001, 99)?, "sent");
    let third = site.xtask("up --mattermost double --firewall").deadline(UP).outcome()?;
    assert!(third.success() && said(&third).contains("nothing had to change"), "{}", said(&third));
    assert_eq!(relayed(&site, 2001, 99)?, "dropped", "a relay reaches any port");
    assert_eq!(relayed(&site, 2001, 1)?, "sent", "a relay does not reach Calls");
    assert_eq!(relayed(&site, 2002, 99)?, "sent", "another program has a port of the relay range by chance");
    Ok(())
}

/// What becomes of a datagram from a relay port, sent by that account, to a port of the server.
fn relayed(site: &Site, account: u32, to: u16) -> Result<String> {
    let script = "import os, socket, sys\n\
        address, account, relay, to = sys.argv[1], *map(int, sys.argv[2:])\n\
        os.setuid(account)\n\
        relayed = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)\n\
        relayed.bind((address, relay))\n\
        try: relayed.sendto(b'media', (address, to))\n\
        except PermissionError: print('dropped')\n\
        else: print('sent')";
    let numbers = [account, site.port(30).into(), site.port(to).into()].map(|number| number.to_string());
    site.lab.process("python3").args(["-c", script, &address(SERVER).to_string()]).args(numbers).text()
}

/// Mattermost's own clients on the same stack: the JavaScript one from another machine on the LAN, which trusts the site's CA because
/// Node is told to, and `mmctl` over HTTPS with a token.
fn official_clients(world: &World) -> Result<()> {
    let site = Site::new(world)?;
    site.is_up()?;
    let client = site.lab.client(68)?;
    let account = site.path().join("account");
    images::file::write_beside(&account, format!("admin\n{}\n", site.secret("MATTERMOST_ADMIN_PASSWORD")).as_bytes(), 0o600)?;
    let script = world.workspace.root().join("tests/official-client/talk.cjs");
    let talk = || {
        let node = client.process("node").arg(&script).arg(format!("https://{}:{}", address(SERVER), site.port(0)));
        let node = node.args(["engineering", "builds"]).arg(&account).env_remove("NODE_OPTIONS").env_remove("NODE_EXTRA_CA_CERTS");
        node.env("NODE_PATH", Part::named("@mattermost/client").node_modules(&world.machine)).deadline(Duration::from_secs(90))
    };
    let trusting = talk().env("NODE_EXTRA_CA_CERTS", site.path().join("pki/ca.pem")).text()?;
    let told: Value =
        serde_json::from_str(trusting.lines().last().unwrap_or_default()).unwrap_or_else(|error| panic!("{error}: {trusting}"));
    assert!(told["server"].as_str().is_some_and(|version| version.starts_with("11.")), "{told}");
    let wanted = serde_json::json!({
        "user": "admin", "server": told["server"], "sender": "@admin", "channel": "builds", "own": true, "kept": true, "after": 401
    });
    assert_eq!(told, wanted);
    let outcome = talk().outcome()?;
    assert!(!outcome.success() && said(&outcome).contains("CERT"), "it trusts anybody: {}", said(&outcome));

    let made = site.xtask("mmctl").args(["token", "generate", "admin", "claim"]).text()?;
    let token = site.path().join("token");
    images::file::write_beside(&token, made.split(':').next().unwrap_or_default().as_bytes(), 0o600)?;
    let teams = || Ok::<_, images::Error>(site.xtask("mmctl").arg("--token-file").arg(&token).args(["team", "list"]));
    assert_eq!(teams()?.text()?, "engineering");
    let server = site.inspect(&site.containers()?["mattermost"])?["State"]["Pid"].to_string();
    let folders = fs_err::read_dir(format!("/proc/{server}/root/tmp"))?.map(|entry| entry.unwrap().path());
    let folders: Vec<PathBuf> = folders.filter(|path| path.file_name().unwrap().to_string_lossy().starts_with("mmctl-")).collect();
    assert!(folders.len() == 1 && !folders[0].join("mmctl/config").exists(), "the token was left behind: {folders:?}");
    images::file::write_beside(&token, &[b'a'; 26], 0o600)?;
    let refused = teams()?.outcome()?;
    assert!(!refused.success() && said(&refused).contains("Invalid or expired session"), "{}", said(&refused));
    Ok(())
}

/// A recorded request of SonarQube 9.9's, signed with the site's secret, from a machine on the LAN.
fn alert(world: &World) -> Result<()> {
    let site = Site::new(world)?;
    site.is_up()?;
    let client = site.lab.client(67)?;
    let recorded = world.workspace.root().join("images/alert-gateway/tests/data/93-9.9-delivery-error-first.json");
    let secret = site.path().join("secret");
    fs_err::write(&secret, site.secret("SONARQUBE_WEBHOOK_SECRET")).unwrap();
    let script = "import base64, hashlib, hmac, json, ssl, sys, urllib.request\n\
        body = base64.b64decode(json.load(open(sys.argv[1]))['bodyBase64'])\n\
        sign = hmac.new(open(sys.argv[2], 'rb').read(), body, hashlib.sha256).hexdigest()\n\
        request = urllib.request.Request(sys.argv[3], body, {'X-Sonar-Webhook-HMAC-SHA256': sign, 'Content-Type': 'application/json'})\n\
        trust = ssl.create_default_context(cafile=sys.argv[4])\n\
        print(urllib.request.urlopen(request, timeout=20, context=trust).status)";
    let url = format!("https://{}:{}/sonarqube", address(SERVER), site.port(3));
    let send = client.process("python3").args(["-c", script]).arg(recorded).arg(&secret).arg(url).arg(site.path().join("pki/ca.pem"));
    assert_eq!(send.text()?, "200");
    site.told("Quality gate failed");

    let script = "import http.client, sys\n\
        connection = http.client.HTTPConnection(sys.argv[1], int(sys.argv[2]), timeout=20)\n\
        connection.request('GET', '/engineering/channels/alerts')\n\
        answer = connection.getresponse()\n\
        print(answer.status, answer.getheader('Location'))";
    let sent_on = client.process("python3").args(["-c", script, &address(SERVER).to_string(), &site.port(6).to_string()]).text()?;
    assert_eq!(sent_on, format!("308 https://mattermost.cicd.local:{}/engineering/channels/alerts", site.port(0)));
    Ok(())
}

fn changes(world: &World) -> Result<()> {
    let site = Site::new(world)?;
    site.is_up()?;
    let before = site.containers()?;
    site.describe("[mattermost]\nlocale = \"de\"\n")?;
    let text = site.is_up()?;
    let after = site.containers()?;
    let changed: Vec<&str> = before.keys().filter(|service| before[*service] != after[*service]).map(String::as_str).collect();
    assert_eq!(changed, ["mattermost"], "{text}");

    // A setting that the server refuses: it is known, has the right form, and is impossible.
    site.describe("[mattermost]\nlocale = \"de\"\n[mattermost.extra]\nMM_SERVICESETTINGS_CONNECTIONSECURITY = \"tls\"\n")?;
    let outcome = site.up()?;
    let text = said(&outcome);
    assert_eq!(outcome.status.code(), Some(1), "{text}");
    assert!(text.contains("mattermost is not healthy") && text.contains("what was healthy before runs again"), "{text}");
    assert!(text.contains("webserver connection security"), "the server's own words are missing: {text}");
    let env = site.inspect(&site.containers()?["mattermost"])?["Config"]["Env"].to_string();
    assert!(env.contains("CONNECTIONSECURITY=TLS"), "{env}");
    assert!(site.xtask("status").outcome()?.success());

    site.describe("[mattermost]\nlocale = \"de\"\n")?;
    site.is_up()?;
    Ok(())
}

fn killed(world: &World) -> Result<()> {
    let site = Site::new(world)?;
    // What one leaves that is killed between making a volume and giving it to its account.
    let label = format!("org.chatops.project={}", site.project);
    site.lab.docker("volume create --label").args([&label, &format!("{}_postgres", site.project)]).capture()?;
    // Ever later, so that each stage is hit: the first start takes longer than all of them.
    for delay in [300, 1500, 3000, 5000, 8000, 12_000, 17_000] {
        let log = site.path().join("killed.log");
        let up = site.xtask("up --mattermost double").start(&log)?;
        let begin = Instant::now();
        while begin.elapsed() < Duration::from_millis(delay) && up.ended()?.is_none() {
            std::thread::sleep(Duration::from_millis(20));
        }
        up.stop(Duration::ZERO);
    }
    site.is_up()?;
    assert!(site.xtask("provision --plan").outcome()?.success());
    assert_eq!(site.sql("SELECT count(*) FROM users WHERE doc->>'roles' LIKE '%system_admin%'")?, "1");
    let fillers = site.lab.docker("ps --all --quiet --filter").arg(format!("label=org.chatops.project={}", site.project)).text()?;
    assert_eq!(fillers, "", "containers that fill volumes are left");
    Ok(())
}

fn in_the_way(world: &World) -> Result<()> {
    let site = Site::new(world)?;
    let log = site.path().join("holder.log");
    let script = format!(
        "import socket, time\ns = socket.create_server(('{}', {}))\nprint('ready', flush=True)\ntime.sleep(600)",
        address(SERVER),
        site.port(3)
    );
    let holder = site.lab.process("python3").args(["-c", &script]).start(&log)?;
    wait_for(
        "a program on the port",
        Duration::from_secs(20),
        || fs_err::read_to_string(&log).ok().filter(|text| text.contains("ready\n")),
        String::new,
    );
    site.describe("[network]\njoin = [\"cicd-net\"]\n")?;
    let outcome = site.up()?;
    let text = said(&outcome);
    assert_eq!(outcome.status.code(), Some(1), "{text}");
    assert!(text.contains(&format!("Port {} (alert gateway)", site.port(3))) && text.contains("held by another program"), "{text}");
    assert!(text.contains("docker network create cicd-net"), "every problem at once: {text}");
    assert!(site.containers()?.is_empty());
    drop(holder);
    site.lab.docker("network create cicd-net").capture()?;
    site.is_up()?;
    let networks = site.inspect(&site.containers()?["mattermost"])?["NetworkSettings"]["Networks"]["cicd-net"]["Aliases"].to_string();
    assert!(networks.contains("mattermost.cicd.local"), "{networks}");
    let doctor = || -> Result<String> { Ok(said(&site.xtask("doctor").outcome()?)) };
    let found = doctor()?;
    for service in ["mattermost", "alert-gateway", "postgres"] {
        assert!(found.lines().any(|line| line.starts_with(&format!("✔ Names inside {service} "))), "{service}: {found}");
    }
    // The tool chain's containers, which are on that network alone.
    let ours = site.inspect(&site.containers()?["mattermost"])?["NetworkSettings"]["Networks"]["cicd-net"]["IPAddress"].clone();
    let image = site.inspect(&site.containers()?["alert-gateway"])?["Image"].as_str().unwrap().to_owned();
    let resolve = site.lab.docker("run --rm --network cicd-net").args([&image, "resolve", "mattermost.cicd.local"]).text()?;
    assert_eq!(resolve, format!("mattermost.cicd.local {}", ours.as_str().unwrap()));
    // One of them has our name as well: who asks gets this one or that one.
    let run = site.lab.docker("run --detach --network cicd-net --network-alias mattermost.cicd.local --env ALERT_GATEWAY_TLS=off");
    let other = run.arg(&image).text()?;
    let (found, deadline) = (RefCell::new(String::new()), Duration::from_secs(60));
    let told = || {
        *found.borrow_mut() = doctor().unwrap_or_default();
        found.borrow().lines().any(|line| line.contains("Names inside") && line.contains("mattermost.cicd.local leads to")).then_some(())
    };
    wait_for("the other one's address", deadline, told, || found.borrow().clone());
    site.lab.docker("rm --force").arg(&other).capture()?;
    drop(site);
    world.lab()?.docker("network rm cicd-net").capture()?;
    Ok(())
}

/// Debian's PostgreSQL on the server itself, as one of the company's would be: made ready by `provision database`, then used by `up`.
fn external_database(world: &World) -> Result<()> {
    let site = Site::new(world)?;
    let database = Server::start(world, Some((site.lab, address(SERVER).into())), site.port(50))?;
    site.describe(&database.describe(&site.path())?)?;
    let outcome = site.up()?;
    assert!(!outcome.success() && said(&outcome).contains("cargo xtask provision database"), "{}", said(&outcome));
    site.xtask("provision database").arg("--admin-url-file").arg(database.superuser()?).capture()?;

    // What would keep Mattermost from its tables is told before anything starts.
    database.sql("mattermost", "ALTER SCHEMA public OWNER TO postgres")?;
    let outcome = site.up()?;
    let text = said(&outcome);
    assert!(outcome.status.code() == Some(1) && text.contains("ALTER SCHEMA public OWNER TO \"mattermost\";"), "{text}");
    assert!(site.containers()?.is_empty());
    site.xtask("provision database").arg("--admin-url-file").arg(database.superuser()?).capture()?;

    site.is_up()?;
    assert_eq!(site.containers()?.into_keys().collect::<Vec<_>>(), ["alert-gateway", "coturn", "mattermost"]);
    assert!(site.xtask("provision --plan").outcome()?.success());
    assert_eq!(database.sql("mattermost", "SELECT count(*) FROM users WHERE username = 'admin'")?, "1");
    let second = site.is_up()?;
    assert!(second.contains("nothing had to change"), "{second}");
    Ok(())
}

fn down(world: &World) -> Result<()> {
    let site = Site::new(world)?;
    site.is_up()?;
    let refused = site.xtask("down --volumes").outcome()?;
    assert_eq!(refused.status.code(), Some(2), "nobody was asked: {}", said(&refused));
    assert!(!site.containers()?.is_empty());

    site.xtask("down").capture()?;
    assert!(site.containers()?.is_empty());
    assert!(!site.volumes()?.is_empty());
    let password = site.secret("MATTERMOST_ADMIN_PASSWORD");
    site.is_up()?;
    assert_eq!(site.secret("MATTERMOST_ADMIN_PASSWORD"), password);
    assert!(site.xtask("provision --plan").outcome()?.success(), "the team is still there");

    site.xtask("down --volumes --yes").capture()?;
    assert!(site.containers()?.is_empty() && site.volumes()?.is_empty());
    let label = format!("label=com.docker.compose.project={}", site.project);
    assert_eq!(site.lab.docker("network ls --quiet --filter").arg(&label).text()?, "");
    Ok(())
}
