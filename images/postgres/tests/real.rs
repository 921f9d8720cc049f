//! The program with a real PostgreSQL, under an account that is not root. Needs `initdb`, `postgres` and `psql` of one version
//! (Debian keeps them in /usr/lib/postgresql/*/bin), `openssl`, and, as root, `setpriv` and an account `postgres`.

use std::io::Write;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

const PASSWORD: &str = "correct-horse-battery";
const ROTATED: &str = "another-$password-of-the-test";

/// A line that libtest does not swallow.
fn skipped(why: &str) {
    let _ = writeln!(std::io::stderr(), "skipped: {why}");
}

struct Site {
    folder: tempfile::TempDir,
    bin: PathBuf,
    port: u16,
    as_root: bool,
}

struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[expect(clippy::disallowed_methods, reason = "the test plays the container engine")]
fn command(program: impl AsRef<std::ffi::OsStr>) -> Command {
    Command::new(program)
}

fn run(command: &mut Command) -> Output {
    command.stdin(Stdio::null()).output().unwrap_or_else(|error| panic!("{}: {error}", command.get_program().display()))
}

fn said(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

impl Site {
    /// A folder with secrets and certificate, all owned by the account; `None`, with a line, where something is missing.
    fn new() -> Option<Site> {
        let versions = fs_err::read_dir("/usr/lib/postgresql").into_iter().flatten().filter_map(Result::ok);
        let bin = versions.map(|entry| entry.path().join("bin")).filter(|bin| bin.join("initdb").is_file()).max();
        let Some(bin) = bin else {
            skipped("no PostgreSQL server below /usr/lib/postgresql");
            return None;
        };
        let folder = tempfile::tempdir().expect("a folder");
        let port = std::net::TcpListener::bind("127.0.0.1:0").and_then(|free| free.local_addr()).expect("a free port").port();
        let as_root = fs_err::metadata("/proc/self").expect("there").uid() == 0;
        let site = Site { folder, bin, port, as_root };
        fs_err::copy(env!("CARGO_BIN_EXE_postgres-entrypoint"), site.path("entrypoint")).expect("copied");
        fs_err::write(site.path("password"), PASSWORD).expect("written");
        fs_err::create_dir(site.path("volume")).expect("made");
        let (key, cert) = (site.path("key.pem"), site.path("cert.pem"));
        let mut openssl = command("openssl");
        openssl.args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2", "-subj", "/CN=test"]);
        openssl.args(["-addext", "subjectAltName=IP:127.0.0.1", "-keyout"]).arg(&key).arg("-out").arg(&cert);
        let made = run(&mut openssl);
        assert!(made.status.success(), "{}", said(&made));
        for secret in ["password", "key.pem"] {
            fs_err::set_permissions(site.path(secret), std::fs::Permissions::from_mode(0o600)).expect("set");
        }
        fs_err::set_permissions(site.folder.path(), std::fs::Permissions::from_mode(0o755)).expect("set");
        if as_root {
            let owned = run(command("chown").args(["-R", "postgres:postgres"]).arg(site.folder.path()));
            assert!(owned.status.success(), "{}", said(&owned));
        }
        Some(site)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn data(&self) -> PathBuf {
        self.path("volume/data")
    }

    /// `program` under the account, with the container's environment.
    fn under_the_account(&self, program: &Path) -> Command {
        let mut wrapped = if self.as_root { command("setpriv") } else { command(program) };
        if self.as_root {
            wrapped.args(["--reuid=postgres", "--regid=postgres", "--clear-groups", "--"]).arg(program);
        }
        let path = format!("{}:/usr/bin:/bin", self.bin.display());
        wrapped.env_clear().env("PATH", path).env("PGDATA", self.data()).env("POSTGRES_PORT", self.port.to_string());
        wrapped.env("POSTGRES_PASSWORD_FILE", self.path("password")).env("POSTGRES_SOCKET_DIR", self.folder.path());
        wrapped.env("POSTGRES_TLS_CERT_FILE", self.path("cert.pem")).env("POSTGRES_TLS_KEY_FILE", self.path("key.pem"));
        wrapped.env("POSTGRES_LISTEN_ADDRESSES", "127.0.0.1").current_dir(self.folder.path());
        wrapped
    }

    fn entrypoint(&self) -> Command {
        self.under_the_account(&self.path("entrypoint"))
    }

    fn healthy(&self) -> bool {
        run(self.entrypoint().arg("healthcheck")).status.success()
    }

    fn start(&self) -> Running {
        let log = fs_err::OpenOptions::new().create(true).append(true).open(self.path("log")).expect("opened").into_parts().0;
        let mut entrypoint = self.entrypoint();
        entrypoint.stdin(Stdio::null()).stdout(log.try_clone().expect("twice")).stderr(log);
        let mut running = Running(entrypoint.spawn().expect("started"));
        let deadline = Instant::now() + Duration::from_secs(60);
        while !self.healthy() {
            let ended = running.0.try_wait().expect("asked");
            assert!(ended.is_none() && Instant::now() < deadline, "{ended:?}\n{}", self.log());
            std::thread::sleep(Duration::from_millis(20));
        }
        running
    }

    fn log(&self) -> String {
        fs_err::read_to_string(self.path("log")).expect("readable")
    }

    /// As a client on the network would.
    fn psql(&self, tls: &str, user: &str, sql: &str) -> Output {
        self.psql_with(PASSWORD, tls, user, sql)
    }

    fn psql_with(&self, password: &str, tls: &str, user: &str, sql: &str) -> Output {
        let target = format!("host=127.0.0.1 port={} user={user} dbname=mattermost {tls}", self.port);
        let mut psql = command(self.bin.join("psql"));
        psql.args(["-X", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-c", sql])
            .arg(target)
            .env("PGPASSWORD", password)
            .env("PGCONNECT_TIMEOUT", "10");
        run(&mut psql)
    }
}

/// Fast shutdown, as the image's stop signal asks for it.
fn stop(mut running: Running) {
    let asked = run(command("kill").arg("-INT").arg(running.0.id().to_string()));
    assert!(asked.status.success(), "{}", said(&asked));
    assert!(running.0.wait().expect("waited").success());
}

#[test]
fn the_role_owns_its_schema_over_tls_alone_and_the_next_start_keeps_what_it_wrote() {
    let Some(site) = Site::new() else { return };
    let verified = format!("sslmode=verify-full sslrootcert={}", site.path("cert.pem").display());
    assert!(!site.healthy(), "healthy before it runs");
    let running = site.start();
    let made = site.psql(&verified, "mattermost", "CREATE TABLE posts (id int); INSERT INTO posts VALUES (7)");
    assert!(made.status.success(), "{}", said(&made));
    let owner = site.psql(&verified, "mattermost", "SELECT nspowner::regrole FROM pg_namespace WHERE nspname = 'public'");
    assert_eq!(said(&owner), "mattermost\n");
    let stored = site.psql(
        &verified,
        "mattermost",
        "SELECT datcollate, pg_encoding_to_char(encoding) FROM pg_database WHERE datname = 'mattermost'",
    );
    assert_eq!(said(&stored), "C.UTF-8|UTF8\n");
    assert_eq!(said(&site.psql(&verified, "mattermost", "SHOW data_checksums")), "on\n");
    for (tls, user, sql, wanted) in [
        ("sslmode=disable", "mattermost", "SELECT 1", "no pg_hba.conf entry"),
        ("sslmode=require", "postgres", "SELECT 1", "no pg_hba.conf entry"),
        ("sslmode=require", "mattermost", "CREATE ROLE other", "permission denied"),
        ("sslmode=require", "mattermost", "CREATE DATABASE other", "permission denied"),
    ] {
        let refused = site.psql(tls, user, sql);
        assert!(
            !refused.status.success() && said(&refused).contains(wanted),
            "{tls} {user} {sql}: expected {wanted:?} in {}",
            said(&refused)
        );
    }
    let arguments = fs_err::read(format!("/proc/{}/cmdline", running.0.id())).expect("readable");
    assert!(arguments.starts_with(b"postgres\0-D\0"), "{}", String::from_utf8_lossy(&arguments));
    stop(running);

    fs_err::write(site.path("password"), ROTATED).expect("written");
    let running = site.start();
    let old = site.psql(&verified, "mattermost", "SELECT 1");
    assert!(!old.status.success() && said(&old).contains("password authentication failed"), "{}", said(&old));
    assert_eq!(said(&site.psql_with(ROTATED, &verified, "mattermost", "SELECT id FROM posts")), "7\n");
    stop(running);

    fs_err::remove_file(site.path("password")).expect("a cluster that is there needs none");
    let running = site.start();
    assert_eq!(said(&site.psql_with(ROTATED, &verified, "mattermost", "SELECT id FROM posts")), "7\n");
    stop(running);
    assert!(!site.log().contains(PASSWORD) && !site.log().contains(ROTATED), "a password is in the log");
}

#[test]
fn a_first_start_that_is_cut_off_anywhere_leaves_nothing_that_looks_done() {
    let Some(site) = Site::new() else { return };
    // Stands in for a crash in each step: `initdb`, then the first and the second run of `postgres --single`.
    let fakes = site.path("fakes");
    fs_err::create_dir(&fakes).expect("made");
    for (program, dies_at) in [("initdb", 1), ("postgres", 1), ("postgres", 2)] {
        let real = site.bin.join(program);
        let count = site.path("count");
        let _ = fs_err::remove_file(&count);
        let script = format!(
            "#!/bin/sh\necho x >> {count}\n{real} \"$@\"\n[ $(wc -l < {count}) -lt {dies_at} ] || kill -9 $PPID\n",
            count = count.display(),
            real = real.display()
        );
        fs_err::write(fakes.join(program), script).expect("written");
        fs_err::set_permissions(fakes.join(program), std::fs::Permissions::from_mode(0o755)).expect("set");
        let path = format!("{}:{}:/usr/bin:/bin", fakes.display(), site.bin.display());
        let killed = run(site.entrypoint().env("PATH", path));
        assert_eq!(std::os::unix::process::ExitStatusExt::signal(&killed.status), Some(9), "{program} {dies_at}: {}", said(&killed));
        assert!(!site.data().exists(), "{program} {dies_at}: half a cluster has the name of a whole one");
        assert!(site.path("volume/data.new/PG_VERSION").exists(), "{program} {dies_at}: it died before it had begun");
        fs_err::remove_file(fakes.join(program)).expect("removed");
    }
    let running = site.start();
    assert!(site.log().contains("a first start that was cut off"), "{}", site.log());
    let works = site.psql("sslmode=require", "mattermost", "CREATE TABLE posts (id int)");
    assert!(works.status.success(), "{}", said(&works));
    assert!(!site.path("volume/data.new").exists());
    stop(running);
}

#[test]
fn what_cannot_be_started_is_refused_with_exit_code_2() {
    let Some(site) = Site::new() else { return };
    let refused = |output: Output, wanted: &str| {
        assert_eq!(output.status.code(), Some(2), "{}", said(&output));
        assert!(said(&output).contains(wanted), "expected {wanted:?} in {}", said(&output));
    };
    refused(run(site.entrypoint().args(["-c", "ssl"])), "the command line is not usable");
    refused(run(site.entrypoint().env("POSTGRES_ROLE", "postgres")), "POSTGRES_ROLE is not usable");
    refused(run(site.entrypoint().env("POSTGRES_TLS_KEY_FILE", "/none")), "POSTGRES_TLS_KEY_FILE is not usable");
    refused(run(site.entrypoint().env("POSTGRES_PASSWORD_FILE", "/none")), "/none");
    fs_err::create_dir(site.data()).expect("made");
    fs_err::write(site.data().join("PG_VERSION"), "9\n").expect("written");
    refused(run(&mut site.entrypoint()), "another major version");
    if site.as_root {
        let mut root = command(site.path("entrypoint"));
        root.env("PGDATA", site.data()).env("POSTGRES_PASSWORD_FILE", site.path("password"));
        refused(run(&mut root), "postgres does not run as root");
    } else {
        skipped("that root is refused; this test is not run by root");
    }
}
