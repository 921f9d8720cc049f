//! Claims about an external database: Debian's own PostgreSQL, provisioned and judged by `cargo xtask`.

use std::net::{IpAddr, Ipv4Addr};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use images::Result;
use lab::Lab;
use serde_json::Value;
use xtask::process::{Outcome, Process, Running};

use crate::claims::{Claim, wait_for};
use crate::docker::said;
use crate::pki::Ca;
use crate::world::World;

const fn claim(name: &'static str, proves: fn(&World) -> Result<()>) -> Claim {
    Claim { name, needs: &["initdb", "psql", "openssl", "cc"], root: true, engine: false, proves }
}

/// The claims.
pub const CLAIMS: &[Claim] = &[
    claim("database::provisioning_makes_role_database_and_ownership_and_a_second_run_changes_nothing", provisioned),
    claim("database::what_is_wrong_with_an_external_database_is_told_with_what_mends_it", told),
    claim("database::an_administrator_who_is_no_superuser_provisions_it_and_keeps_no_rights", no_superuser),
];

/// What its certificate holds.
pub const HOST: &str = "db.cicd.local";
const SUPERUSER_PASSWORD: &str = "Superuser-of-a-claim-7";
/// It refuses root.
const ACCOUNT: &str = "postgres";

/// A PostgreSQL with TLS, as its administrator would set it up: everybody comes with a password, and encrypted.
pub struct Server<'a> {
    world: &'a World,
    lab: Option<&'a Lab>,
    folder: tempfile::TempDir,
    address: IpAddr,
    port: u16,
    running: Option<Running>,
}

impl<'a> Server<'a> {
    /// Makes a cluster and starts it: on the lab's server, or on loopback.
    pub fn start(world: &'a World, at: Option<(&'a Lab, IpAddr)>, port: u16) -> Result<Server<'a>> {
        // The checkout may lie where the account cannot look.
        let folder = tempfile::Builder::new().prefix("database-").permissions(PermissionsExt::from_mode(0o755)).tempdir()?;
        let address = at.map_or(Ipv4Addr::LOCALHOST.into(), |(_, address)| address);
        let mut server = Server { world, lab: at.map(|(lab, _)| lab), folder, address, port, running: None };
        let (cert, key) = Ca::new(&world.machine, server.folder.path(), "db")?.leaf(HOST)?;
        let password = server.file("superuser");
        fs_err::write(&password, SUPERUSER_PASSWORD)?;
        fs_err::create_dir(server.file("data"))?;
        let own = [server.file("data"), password.clone(), cert, key];
        world.machine.process("chown").arg(ACCOUNT).arg(server.folder.path()).args(&own).capture()?;
        let options =
            ["--auth-local=trust", "--auth-host=scram-sha-256", "--no-sync", "--encoding=UTF8", "--locale=C", "--username=postgres"];
        server.tool("initdb").args(options).arg("--pwfile").arg(password).arg("-D").arg(server.file("data")).capture()?;
        fs_err::write(server.file("data/pg_hba.conf"), "local all all trust\nhostssl all all all scram-sha-256\n")?;
        server.up(&["ssl=on"])?;
        Ok(server)
    }

    /// Starts it with further settings.
    fn up(&mut self, settings: &[&str]) -> Result<()> {
        let log = self.file("log");
        let (cert, key) = (self.file("db.pem"), self.file("db.key"));
        let fixed =
            [format!("ssl_cert_file={}", cert.display()), format!("ssl_key_file={}", key.display()), "log_statement=all".to_owned()];
        let settings = settings.iter().map(|setting| (*setting).to_owned()).chain(fixed).flat_map(|setting| ["-c".to_owned(), setting]);
        let server = self.tool("postgres").args(["-F", "-h", &self.address.to_string(), "-p", &self.port.to_string(), "-k"]);
        let server = server.arg(self.folder.path()).arg("-D").arg(self.file("data")).args(settings);
        self.running = Some(server.start(&log)?);
        let ready = || self.psql("postgres", "SELECT 1").outcome().is_ok_and(|outcome| outcome.success()).then_some(());
        wait_for("PostgreSQL", Duration::from_secs(60), ready, || self.log());
        Ok(())
    }

    fn down(&mut self) {
        if let Some(running) = self.running.take() {
            running.stop(Duration::from_secs(5));
        }
    }

    fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// One of its programs, as its account.
    fn tool(&self, name: &str) -> Process {
        let setpriv = match self.lab {
            Some(lab) => lab.process("setpriv"),
            None => self.world.machine.process("setpriv"),
        };
        let program = self.world.machine.find(name).unwrap_or_else(|| name.into());
        setpriv.args(["--reuid", ACCOUNT, "--regid", ACCOUNT, "--clear-groups", "--"]).arg(program).in_folder(self.folder.path())
    }

    fn psql(&self, database: &str, sql: &str) -> Process {
        let port = self.port.to_string();
        self.tool("psql")
            .args(["-X", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-U", "postgres", "-p", &port, "-d", database, "-c", sql, "-h"])
            .arg(self.folder.path())
    }

    /// What SQL answers to its superuser.
    pub fn sql(&self, database: &str, sql: &str) -> Result<String> {
        self.psql(database, sql).text()
    }

    /// What it said, every statement among it.
    fn log(&self) -> String {
        fs_err::read_to_string(self.file("log")).unwrap_or_default()
    }

    /// The lines of `site.toml` that lead to it; its CA is put into the site's folder.
    pub fn describe(&self, site: &Path) -> Result<String> {
        fs_err::copy(self.file("db.ca.pem"), site.join("db-ca.pem"))?;
        Ok(format!(
            "[database]\nhost = \"{HOST}\"\nport = {}\nca = \"db-ca.pem\"\n[network.hosts]\n\"{HOST}\" = \"{}\"\n",
            self.port, self.address
        ))
    }

    /// A file with the address of one of its administrators.
    pub fn administrator(&self, role: &str, password: &str) -> Result<PathBuf> {
        let file = self.file(&format!("{role}.url"));
        images::file::write_beside(&file, format!("postgres://{role}:{password}@{HOST}:{}\n", self.port).as_bytes(), 0o600)?;
        Ok(file)
    }

    /// The same, of its superuser.
    pub fn superuser(&self) -> Result<PathBuf> {
        self.administrator("postgres", SUPERUSER_PASSWORD)
    }
}

impl Drop for Server<'_> {
    fn drop(&mut self) {
        self.down();
    }
}

/// A site whose database is that server's.
struct Site<'a> {
    server: Server<'a>,
    folder: tempfile::TempDir,
}

impl<'a> Site<'a> {
    fn new(world: &'a World) -> Result<Site<'a>> {
        let free = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port();
        let site = Site { server: Server::start(world, None, free)?, folder: world.scratch() };
        site.describe(|text| text)?;
        Ok(site)
    }

    /// Writes `site.toml`, with a change.
    fn describe(&self, change: impl FnOnce(String) -> String) -> Result<()> {
        let text = self.server.describe(self.folder.path())?;
        fs_err::write(self.folder.path().join("site.toml"), format!("format = 1\naddresses = [\"192.168.77.20\"]\n{}", change(text)))?;
        Ok(())
    }

    fn xtask(&self, words: &str) -> Result<Process> {
        let world = self.server.world;
        let process = Process::new(world.xtask()?, world.workspace.root()).args(words.split_whitespace());
        Ok(process.arg("--site").arg(self.folder.path()).env_remove("CARGO_MANIFEST_DIR").env("PATH", world.machine.path()))
    }

    fn provision(&self, administrator: &Path, more: &[&str]) -> Result<Outcome> {
        self.xtask("provision database")?.arg("--admin-url-file").arg(administrator).args(more).outcome()
    }

    fn password(&self) -> String {
        let text = fs_err::read_to_string(self.folder.path().join("secrets.env")).unwrap();
        text.lines().find_map(|line| line.strip_prefix("MATTERMOST_DB_PASSWORD=")).expect("it is there").to_owned()
    }

    /// `doctor`'s checks of the database: id → the problem with what mends it, or nothing.
    fn problems(&self) -> Result<Vec<(String, String, String)>> {
        let outcome = self.xtask("doctor --json")?.outcome()?;
        let report: Value = serde_json::from_slice(&outcome.stdout).unwrap_or_else(|error| panic!("{error}: {}", said(&outcome)));
        let ours = report["checks"].as_array().unwrap().iter().filter(|check| check["id"].as_str().unwrap().starts_with("database."));
        let ours: Vec<&Value> = ours.collect();
        // Without a password nobody is asked.
        assert!(ours.len() == 6 || fs_err::metadata(self.folder.path().join("secrets.env")).is_err(), "{report}");
        let text = |check: &Value, field: &str| check[field].as_str().unwrap().to_owned();
        let wrong = ours.into_iter().filter(|check| check["outcome"] == "problem");
        Ok(wrong.map(|check| (text(check, "id"), text(check, "found"), text(check, "mend"))).collect())
    }

    /// The one problem that there is.
    fn problem(&self, id: &str) -> Result<(String, String)> {
        match <[_; 1]>::try_from(self.problems()?) {
            Ok([(found_id, found, mend)]) if found_id == id => Ok((found, mend)),
            other => panic!("expected {id}, found {other:?}"),
        }
    }
}

fn lines(outcome: &Outcome) -> Vec<String> {
    String::from_utf8_lossy(&outcome.stdout).lines().map(str::to_owned).collect()
}

fn provisioned(world: &World) -> Result<()> {
    let site = Site::new(world)?;
    let administrator = site.server.superuser()?;
    let wanted =
        ["create the role mattermost, with the password in secrets.env", "create the database mattermost (UTF8), owned by mattermost"];
    let plan = site.provision(&administrator, &["--plan"])?;
    assert_eq!((plan.status.code(), lines(&plan)), (Some(1), wanted.map(str::to_owned).to_vec()), "{}", said(&plan));
    assert_eq!(site.server.sql("postgres", "SELECT count(*) FROM pg_roles WHERE rolname = 'mattermost'")?, "0", "a plan changed something");
    assert!(!site.folder.path().join("secrets.env").exists());

    let first = site.provision(&administrator, &[])?;
    assert!(first.success(), "{}", said(&first));
    assert_eq!(lines(&first), wanted);
    let secrets = fs_err::metadata(site.folder.path().join("secrets.env"))?;
    assert_eq!(secrets.permissions().mode() & 0o777, 0o600);
    assert_eq!(site.problems()?, []);
    let encoding = "SELECT pg_encoding_to_char(encoding) FROM pg_database WHERE datname = 'mattermost'";
    assert_eq!(site.server.sql("postgres", encoding)?, "UTF8");
    // What Mattermost does first, as Mattermost.
    let target = format!("host={HOST} hostaddr=127.0.0.1 port={} user=mattermost dbname=mattermost sslmode=require", site.server.port);
    let client = world.machine.process("psql").args(["-X", "-c", "CREATE TABLE public.first (id int)", &target]);
    client.env("PGPASSWORD", site.password()).capture()?;

    let password = site.password();
    let second = site.provision(&administrator, &[])?;
    assert!(second.success() && lines(&second).is_empty() && said(&second).contains("nothing was changed"), "{}", said(&second));
    assert!(site.provision(&administrator, &["--plan"])?.success());
    assert_eq!(site.password(), password);

    let log = site.server.log();
    assert!(log.contains("CREATE ROLE \"mattermost\"") && log.contains("SCRAM-SHA-256"), "{log}");
    assert!(!log.contains(&password) && !log.contains(SUPERUSER_PASSWORD), "a password is in the server's log");
    fs_err::set_permissions(&administrator, PermissionsExt::from_mode(0o644))?;
    let open = site.provision(&administrator, &[])?;
    assert_eq!(open.status.code(), Some(2), "a file that others can read was taken: {}", said(&open));
    Ok(())
}

fn told(world: &World) -> Result<()> {
    let mut site = Site::new(world)?;
    let administrator = site.server.superuser()?;
    let (found, mend) = site.problem("database.login")?;
    assert!(found.contains("MATTERMOST_DB_PASSWORD") && mend.contains("provision database"), "{found} → {mend}");
    assert!(site.provision(&administrator, &[])?.success());
    let right = site.password();
    let with_password = |value: &str| {
        images::file::write_beside(&site.folder.path().join("secrets.env"), format!("MATTERMOST_DB_PASSWORD={value}\n").as_bytes(), 0o600)
    };

    // A wrong password is told, and the role gets the one in secrets.env.
    with_password("not-the-roles-password")?;
    let (found, mend) = site.problem("database.login")?;
    assert!(found.contains("28P01") && mend.starts_with("cargo xtask provision database"), "{found} → {mend}");
    assert_eq!(lines(&site.provision(&administrator, &[])?), ["give the role mattermost the password in secrets.env"]);
    assert_eq!(site.problems()?, []);

    // The schema belongs to somebody else: the SQL that is shown mends it, and so does the command.
    for by_command in [false, true] {
        site.server.sql("mattermost", "ALTER SCHEMA public OWNER TO postgres")?;
        let (found, mend) = site.problem("database.schema")?;
        assert!(found.contains("belongs to postgres"), "{found}");
        match by_command {
            false => _ = site.server.sql("mattermost", &mend[..=mend.find(';').expect("SQL")])?,
            true => {
                assert_eq!(lines(&site.provision(&administrator, &[])?), ["make mattermost the owner of the schema public in mattermost"])
            }
        }
        assert_eq!(site.problems()?, []);
    }
    site.server.sql("mattermost", "DROP SCHEMA public")?;
    site.problem("database.schema")?;
    assert_eq!(lines(&site.provision(&administrator, &[])?), ["create the schema public in mattermost, owned by mattermost"]);

    // A role that may not log in, a database that is not there, one of another encoding.
    site.server.sql("postgres", "ALTER ROLE mattermost NOLOGIN")?;
    site.problem("database.login")?;
    assert!(site.provision(&administrator, &[])?.success());
    site.describe(|text| text.replace("[database]\n", "[database]\nname = \"absent\"\n"))?;
    assert!(site.problem("database.login")?.0.contains("3D000"));
    site.server
        .sql("postgres", "CREATE DATABASE latin OWNER mattermost ENCODING 'LATIN1' LC_COLLATE 'C' LC_CTYPE 'C' TEMPLATE template0")?;
    site.describe(|text| text.replace("[database]\n", "[database]\nname = \"latin\"\n"))?;
    assert!(site.problem("database.encoding")?.0.contains("LATIN1"));
    let refused = site.provision(&administrator, &[])?;
    assert_eq!(refused.status.code(), Some(1), "{}", said(&refused));

    // Another name than the certificate's, another CA, no TLS, nobody.
    site.describe(|text| text.replace(HOST, "other.cicd.local"))?;
    assert!(site.problem("database.tls")?.0.contains("not for"));
    site.describe(|text| text)?;
    fs_err::copy(Ca::new(&world.machine, site.folder.path(), "other")?.cert(), site.folder.path().join("db-ca.pem"))?;
    let (found, mend) = site.problem("database.tls")?;
    assert!(found.contains("not from this CA") && mend.contains("database.ca"), "{found} → {mend}");
    let refused = site.provision(&administrator, &[])?;
    assert!(said(&refused).contains("not from this CA") && !refused.success(), "{}", said(&refused));
    site.describe(|text| text)?;
    site.server.down();
    site.server.up(&["ssl=off"])?;
    assert!(site.problem("database.tls")?.1.contains("ALTER SYSTEM SET ssl = on"));
    site.server.down();
    let (found, mend) = site.problem("database.reach")?;
    assert!(found.contains("refused") && mend.contains("listen_addresses"), "{found} → {mend}");
    site.server.up(&["ssl=on"])?;
    assert_eq!(site.problems()?, []);
    assert_ne!(site.password(), right);
    Ok(())
}

fn no_superuser(world: &World) -> Result<()> {
    let site = Site::new(world)?;
    site.server.sql("postgres", "CREATE ROLE keeper LOGIN CREATEROLE CREATEDB PASSWORD 'Keeper-of-a-claim-7'")?;
    let administrator = site.server.administrator("keeper", "Keeper-of-a-claim-7")?;
    let first = site.provision(&administrator, &[])?;
    assert!(first.success() && lines(&first).len() == 2, "{}", said(&first));
    assert_eq!(site.problems()?, []);
    assert_eq!(site.server.sql("postgres", "SELECT pg_has_role('keeper', 'mattermost', 'USAGE')")?, "f");
    assert!(lines(&site.provision(&administrator, &[])?).is_empty());
    Ok(())
}
