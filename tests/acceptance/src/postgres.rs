//! Claims about PostgreSQL under Docker, asked by its own client.

use std::path::Path;
use std::time::Duration;

use images::Result;
use xtask::process::Outcome;

use crate::claims::{Claim, wait_for};
use crate::docker::{Container, Network, Volume, loaded, said};
use crate::pki::Ca;
use crate::world::World;

const fn claim(name: &'static str, proves: fn(&World) -> Result<()>) -> Claim {
    Claim { name, needs: &["psql", "openssl"], root: true, engine: true, proves }
}

/// The claims.
pub const CLAIMS: &[Claim] = &[
    claim("postgres::its_role_owns_its_schema_over_verified_tls_alone_and_a_restart_keeps_what_it_wrote", serves),
    claim("postgres::a_kill_during_the_first_start_leaves_nothing_half", survives_kills),
    claim("postgres::without_a_usable_secret_it_says_so_and_ends", refuses),
];

const HOST: &str = "postgres.test";
/// The role's password.
pub const PASSWORD: &str = "acceptance-password-1";
const UID: u32 = 999;
/// The only places, besides its volume, that it may write to.
const TMPFS: &str = "/run/postgresql:uid=999,gid=999,mode=0700";

/// Secrets, data and network of one PostgreSQL.
pub struct Site<'a> {
    world: &'a World,
    image: String,
    folder: tempfile::TempDir,
    secrets: Volume<'a>,
    data: Volume<'a>,
    /// The bridge that it is on.
    pub network: Network<'a>,
}

impl<'a> Site<'a> {
    /// Makes them.
    pub fn new(world: &'a World) -> Result<Site<'a>> {
        let image = loaded(world, "postgres")?.name.clone();
        let folder = world.scratch();
        let (cert, key) = Ca::new(&world.machine, folder.path(), "site")?.leaf(HOST)?;
        let (cert, key) = (fs_err::read(cert)?, fs_err::read(key)?);
        let files = [("postgres", PASSWORD.as_bytes()), ("postgres-cert.pem", &cert), ("postgres-key.pem", &key)];
        let secrets = Volume::of_secrets(world, &image, UID, &files)?;
        Ok(Site { world, image, folder, secrets, data: Volume::new(world)?, network: Network::new(world)? })
    }

    /// The server, not yet started.
    pub fn container(&self) -> Result<Container<'a>> {
        let (secrets, data) = (self.secrets.at("/run/secrets:ro"), self.data.at("/var/lib/postgresql"));
        let address = self.address();
        let options =
            ["--network", self.network.name(), "--ip", &address, "--tmpfs", TMPFS, "--shm-size", "128m", "--volume", &secrets, "--volume"];
        Container::create(self.world, &self.image, &[&options[..], &[&data]].concat())
    }

    /// Where it listens.
    pub fn address(&self) -> String {
        self.network.address(2).to_string()
    }

    fn root(&self) -> String {
        format!("sslmode=verify-full sslrootcert={}", self.folder.path().join("site.ca.pem").display())
    }

    fn psql(&self, tls: &str, user: &str, sql: &str) -> Result<Outcome> {
        let target = format!("host={HOST} hostaddr={} user={user} dbname=mattermost {tls}", self.address());
        let psql = self.world.machine.process("psql").args(["-X", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-c", sql]).arg(target);
        psql.env("PGPASSWORD", PASSWORD).env("PGCONNECT_TIMEOUT", "10").env("PGSSLKEY", "").env("PGSSLCERT", "").outcome()
    }

    fn answer(&self, sql: &str) -> Result<String> {
        let outcome = self.psql(&self.root(), "mattermost", sql)?;
        assert!(outcome.success(), "{sql}: {}", said(&outcome));
        Ok(String::from_utf8_lossy(&outcome.stdout).trim().to_owned())
    }

    fn refused(&self, tls: &str, user: &str, why: &str) -> Result<()> {
        let outcome = self.psql(tls, user, "SELECT 1")?;
        assert!(!outcome.success() && said(&outcome).contains(why), "{tls} as {user}: expected {why:?} in {}", said(&outcome));
        Ok(())
    }
}

fn serves(world: &World) -> Result<()> {
    let site = Site::new(world)?;
    let server = site.container()?;
    server.start()?;
    server.wait_until_healthy()?;
    assert_eq!(server.user_and_capabilities()?, (UID, "0000000000000000".to_owned()));
    assert_eq!(server.listens_on()?, ["tcp/5432"]);

    site.answer("CREATE TABLE public.kept (v text); INSERT INTO kept VALUES ('it stays'), (repeat('ä', 3))")?;
    assert_eq!(site.answer("SELECT version LIKE 'TLSv1.%' FROM pg_stat_ssl WHERE pid = pg_backend_pid()")?, "t");
    assert_eq!(site.answer("SELECT nspowner::regrole FROM pg_namespace WHERE nspname = 'public'")?, "mattermost");
    assert_eq!(site.answer("SELECT rolsuper OR rolcreaterole OR rolcreatedb FROM pg_roles WHERE rolname = 'mattermost'")?, "f");
    assert_eq!(
        site.answer("SELECT pg_encoding_to_char(encoding), datcollate FROM pg_database WHERE datname = 'mattermost'")?,
        "UTF8|C.UTF-8"
    );

    let other = Ca::new(&world.machine, site.folder.path(), "other")?;
    let foreign = format!("sslmode=verify-full sslrootcert={}", other.cert().display());
    site.refused(&foreign, "mattermost", "certificate verify failed")?;
    site.refused("sslmode=disable", "mattermost", "no pg_hba.conf entry")?;
    site.refused(&site.root(), "postgres", "no pg_hba.conf entry")?;
    another_role_makes_no_table(&server)?;

    // The image's stop signal asks for a fast shutdown.
    server.docker("stop --time 60").capture()?;
    assert_eq!(server.inspect()?["State"]["ExitCode"], 0, "{}", server.logs());
    drop(server);
    let server = site.container()?;
    server.start()?;
    server.wait_until_healthy()?;
    assert_eq!(site.answer("SELECT string_agg(v, ',' ORDER BY v) FROM kept")?, "it stays,äää");
    assert!(!server.logs().contains(PASSWORD));
    Ok(())
}

/// The superuser, over the socket inside the container, makes another role; it can see the schema, and no more.
fn another_role_makes_no_table(server: &Container) -> Result<()> {
    let inside = |sql: &str| server.exec(&["psql", "-X", "-v", "ON_ERROR_STOP=1", "-d", "mattermost", "-c", sql]);
    let made = inside("CREATE ROLE guest LOGIN")?;
    assert!(made.success(), "{}", said(&made));
    let tried = inside("SET ROLE guest; CREATE TABLE public.mine ()")?;
    assert!(!tried.success() && said(&tried).contains("permission denied for schema public"), "{}", said(&tried));
    Ok(())
}

fn survives_kills(world: &World) -> Result<()> {
    let site = Site::new(world)?;
    let server = site.container()?;
    // At three moments of one first start: at its begin, within initdb, and near its end.
    for after in [0, 400, 900] {
        let before = server.logs().matches("making the cluster").count();
        server.start()?;
        let begun = || (server.logs().matches("making the cluster").count() > before).then_some(());
        wait_for("a first start", Duration::from_secs(30), begun, || server.logs());
        std::thread::sleep(Duration::from_millis(after));
        server.docker("kill --signal KILL").capture()?;
        server.wait_until_ended()?;
    }
    server.start()?;
    server.wait_until_healthy()?;
    assert_eq!(site.answer("CREATE TABLE whole (); SELECT count(*) FROM whole")?, "CREATE TABLE\n0");
    Ok(())
}

fn refuses(world: &World) -> Result<()> {
    let site = Site::new(world)?;
    let refuses = |secrets: &Volume, wanted: &str| -> Result<()> {
        let (secrets, data) = (secrets.at("/run/secrets:ro"), site.data.at("/var/lib/postgresql"));
        let options = ["--network", "none", "--tmpfs", TMPFS, "--volume", &secrets, "--volume", &data];
        let server = Container::run(world, &site.image, &options)?;
        assert_eq!(server.wait_until_ended()?, 2, "{}", server.logs());
        let said = server.logs();
        assert!(
            said.lines().any(|line| line.starts_with("postgres-entrypoint: ")) && said.contains(wanted),
            "expected {wanted:?} in {said}"
        );
        Ok(())
    };
    let read = |name: &str| fs_err::read(Path::new(site.folder.path()).join(name));
    let (cert, key) = (read("site.pem")?, read("site.key")?);
    refuses(&Volume::new(world)?, "POSTGRES_TLS_CERT_FILE is not usable")?;
    let tls = [("postgres-cert.pem", cert.as_slice()), ("postgres-key.pem", key.as_slice())];
    let without = Volume::of_secrets(world, &site.image, UID, &tls)?;
    refuses(&without, "/run/secrets/postgres")?;
    let short = Volume::of_secrets(world, &site.image, UID, &[&tls[..], &[("postgres", b"short")]].concat())?;
    refuses(&short, "found 5 characters")?;
    let roots = Volume::of_secrets(world, &site.image, 0, &[&tls[..], &[("postgres", PASSWORD.as_bytes())]].concat())?;
    refuses(&roots, "ermission denied")?;
    Ok(())
}
