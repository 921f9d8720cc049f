//! A PostgreSQL and a folder with the unpacked tarball: what the double runs in.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// The account that the database runs as where this is root: it refuses root.
const ACCOUNT: &str = "postgres";

#[expect(clippy::disallowed_methods, reason = "the test plays the container engine")]
pub fn command(program: impl AsRef<std::ffi::OsStr>) -> Command {
    let mut command = Command::new(program);
    command.stdin(Stdio::null());
    command
}

fn run(command: &mut Command) {
    let output = command.output().unwrap_or_else(|error| panic!("{}: {error}", command.get_program().display()));
    assert!(output.status.success(), "{command:?}: {}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
}

/// Asks until it is so.
pub fn wait_for<T>(what: &str, limit: Duration, mut ask: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + limit;
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(Instant::now() < deadline, "{what}: not within {limit:?}");
        std::thread::park_timeout(Duration::from_millis(20));
    }
}

/// A port that nobody has.
pub fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").and_then(|free| free.local_addr()).expect("a free port").port()
}

/// A running PostgreSQL.
pub struct Postgres {
    folder: tempfile::TempDir,
    bin: PathBuf,
    port: u16,
    tls: Vec<String>,
    child: Option<Child>,
}

impl Postgres {
    /// The newest that Debian has put on this machine, or why there is none.
    pub fn find() -> Result<PathBuf, String> {
        let versions = fs_err::read_dir("/usr/lib/postgresql").into_iter().flatten().filter_map(Result::ok);
        let bin = versions.map(|entry| entry.path().join("bin")).filter(|bin| bin.join("initdb").is_file()).max();
        bin.ok_or_else(|| "no PostgreSQL server below /usr/lib/postgresql (apt-get install postgresql)".to_owned())
    }

    /// Makes a cluster and starts it.
    pub fn start(bin: PathBuf) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        fs_err::set_permissions(folder.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755)).expect("set");
        if as_root() {
            run(command("chown").arg(ACCOUNT).arg(folder.path()));
        }
        let mut postgres = Postgres { folder, bin, port: free_port(), tls: Vec::new(), child: None };
        let data = postgres.data();
        run(postgres
            .tool("initdb")
            .args(["--auth=trust", "--no-sync", "--encoding=UTF8", "--locale=C", "--username=mattermost", "-D"])
            .arg(data));
        postgres.up();
        postgres
    }

    fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    fn tool(&self, name: &str) -> Command {
        let program = self.bin.join(name);
        let mut wrapped = if as_root() { command("setpriv") } else { command(&program) };
        if as_root() {
            wrapped.args(["--reuid", ACCOUNT, "--regid", ACCOUNT, "--clear-groups", "--"]).arg(program);
        }
        wrapped.current_dir(self.folder.path());
        wrapped
    }

    /// From its next start on, TLS is offered with this certificate and key.
    pub fn with_tls(&mut self, cert: &Path, key: &Path) {
        for (from, name) in [(cert, "cert.pem"), (key, "key.pem")] {
            let to = self.folder.path().join(name);
            fs_err::copy(from, &to).expect("copied");
            fs_err::set_permissions(&to, std::os::unix::fs::PermissionsExt::from_mode(0o600)).expect("set");
            if as_root() {
                run(command("chown").arg(ACCOUNT).arg(&to));
            }
        }
        let at = |name: &str| self.folder.path().join(name).display().to_string();
        let settings = ["ssl=on".to_owned(), format!("ssl_cert_file={}", at("cert.pem")), format!("ssl_key_file={}", at("key.pem"))];
        self.tls = settings.into_iter().flat_map(|setting| ["-c".to_owned(), setting]).collect();
    }

    /// Starts it, and waits until it answers.
    pub fn up(&mut self) {
        let log = self.folder.path().join("log");
        let file = fs_err::OpenOptions::new().create(true).append(true).open(&log).expect("opened").into_parts().0;
        let mut server = self.tool("postgres");
        server.arg("-D").arg(self.data()).args(["-F", "-h", "127.0.0.1", "-k"]).arg(self.folder.path());
        server.args(&self.tls).arg("-p").arg(self.port.to_string()).stderr(file).stdout(Stdio::null());
        self.child = Some(server.spawn().expect("started"));
        let ready = || {
            let mut ask = self.tool("psql");
            ask.args(["-X", "-q", "-c", "SELECT 1", &self.source("postgres")]).stdout(Stdio::null()).stderr(Stdio::null());
            ask.status().expect("psql").success().then_some(())
        };
        wait_for("PostgreSQL", Duration::from_secs(60), ready);
    }

    /// Ends it at once.
    pub fn down(&mut self) {
        if let Some(mut child) = self.child.take() {
            run(command("kill").args(["-INT", &child.id().to_string()]));
            child.wait().expect("ended");
        }
    }

    /// An empty database of that name.
    pub fn database(&self, name: &str) -> String {
        self.sql("postgres", &format!("CREATE DATABASE {name}"));
        self.source(name)
    }

    /// Runs SQL in a database.
    pub fn sql(&self, database: &str, sql: &str) {
        run(self.tool("psql").args(["-X", "-q", "-c", sql, &self.source(database)]));
    }

    fn source(&self, database: &str) -> String {
        format!("postgres://mattermost@127.0.0.1:{}/{database}?sslmode=disable", self.port)
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            // Whatever is left of it ends here.
            let _ = command("kill").args(["-INT", &child.id().to_string()]).status();
            let _ = child.wait();
        }
    }
}

fn as_root() -> bool {
    fs_err::metadata("/proc/self").expect("there").uid() == 0
}

/// The unpacked tarball, which is what a container's `/mattermost` is.
pub struct Installed {
    folder: tempfile::TempDir,
}

impl Installed {
    /// Packs the program that was built for this test, and unpacks it.
    pub fn new(version: &str) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let workspace = xtask::workspace::Workspace::at(Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../..")));
        // A program that was built for an image can be held to the contract as well.
        let program = std::env::var_os("MATTERMOST_DOUBLE").map_or_else(|| env!("CARGO_BIN_EXE_mattermost-double").into(), PathBuf::from);
        let made = xtask::double::pack(&workspace, &program, version, &folder.path().join("packed")).expect("packed");
        let unzipped = flate2::read::GzDecoder::new(fs_err::File::open(made.tarball).expect("there"));
        tar::Archive::new(unzipped).unpack(folder.path()).expect("unpacked");
        // Another account has to find the program and the socket.
        for folder in [folder.path().to_owned(), folder.path().join("mattermost")] {
            fs_err::set_permissions(folder, std::os::unix::fs::PermissionsExt::from_mode(0o755)).expect("set");
        }
        let installed = Installed { folder };
        for ending in ["", ".sig"] {
            let from = format!("{}{ending}", made.jenkins.path.display());
            fs_err::copy(from, installed.prepackaged(&format!("{}{ending}", made.jenkins.name))).expect("copied");
        }
        installed
    }

    /// `/mattermost`.
    pub fn root(&self) -> PathBuf {
        self.folder.path().join("mattermost")
    }

    /// A file of `prepackaged_plugins`.
    pub fn prepackaged(&self, name: &str) -> PathBuf {
        self.root().join("prepackaged_plugins").join(name)
    }

    /// The local socket.
    pub fn socket(&self) -> PathBuf {
        self.root().join("local.socket")
    }

    /// `bin/mmctl`.
    pub fn mmctl(&self) -> Command {
        let mut mmctl = command(self.root().join("bin/mmctl"));
        mmctl.env_clear().env("MMCTL_LOCAL_SOCKET_PATH", self.socket()).current_dir(self.root());
        mmctl
    }

    /// The same under another account, where this is root and may do that.
    pub fn mmctl_of_another(&self) -> Option<Command> {
        if !as_root() {
            return None;
        }
        let mut mmctl = command("setpriv");
        mmctl.env("MMCTL_LOCAL_SOCKET_PATH", self.socket()).args(["--reuid", ACCOUNT, "--regid", ACCOUNT, "--clear-groups", "--"]);
        mmctl.arg(self.root().join("bin/mmctl"));
        Some(mmctl)
    }

    /// What the server said in its last run.
    pub fn log(&self) -> String {
        fs_err::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }

    /// Starts the server; `settings` are added to what every run has.
    pub fn start(&self, port: u16, source: &str, settings: &[(&str, &str)]) -> Server {
        let log = fs_err::File::create(self.folder.path().join("log")).expect("a log").into_parts().0;
        let mut server = command(self.root().join("bin/mattermost"));
        server.env_clear().current_dir(self.root()).stderr(log).stdout(Stdio::null());
        server.env("MM_SQLSETTINGS_DATASOURCE", source).env("MM_SERVICESETTINGS_LISTENADDRESS", format!("127.0.0.1:{port}"));
        server.env("MM_SERVICESETTINGS_LOCALMODESOCKETLOCATION", self.socket()).env("MM_SERVICESETTINGS_ENABLELOCALMODE", "true");
        server.envs(settings.iter().copied());
        Server(server.spawn().expect("started"))
    }
}

/// A running double.
pub struct Server(Child);

impl Server {
    /// Whether it has ended, and with what.
    pub fn ended(&mut self) -> Option<i32> {
        self.0.try_wait().expect("its state").map(|status| status.code().unwrap_or(-1))
    }

    /// Asks it to end, and returns its exit code.
    pub fn stop(&mut self) -> i32 {
        run(command("kill").args(["-TERM", &self.0.id().to_string()]));
        self.0.wait().expect("ended").code().unwrap_or(-1)
    }

    /// Ends it as a power cut would.
    pub fn kill(&mut self) {
        self.0.kill().expect("killed");
        self.0.wait().expect("ended");
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
