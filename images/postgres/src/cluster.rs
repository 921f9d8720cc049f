//! The cluster: made once, whole or not at all, and configured at each start.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use entrypoint::{Error, Result, Secret, secret};

use crate::settings::Settings;

/// One of PostgreSQL's programs, without the variables that would change what it does.
#[expect(clippy::disallowed_methods, reason = "PostgreSQL's own programs, only here; `run` names them in errors")]
pub fn command(program: &str) -> Command {
    let mut command = Command::new(program);
    for (name, _) in std::env::vars_os() {
        if name.as_encoded_bytes().starts_with(b"PG") || name.as_encoded_bytes().starts_with(b"POSTGRES_") {
            command.env_remove(name);
        }
    }
    command
}

/// Makes the cluster where there is none, and refuses one of another major version; whether it was there.
pub fn ensure(settings: &Settings) -> Result<bool> {
    let version = settings.data.join("PG_VERSION");
    if version.is_file() {
        same_version(&fs_err::read_to_string(version)?, &run(command("postgres").arg("--version"), "")?, &settings.data)?;
        return Ok(true);
    }
    first_start(settings)?;
    Ok(false)
}

/// Gives the role of a cluster that was there the password of the secret file: it may have been rotated, or the cluster restored. Who
/// goes back to an older secret gets the older password with it. Without the file, the role keeps what it has.
pub fn set_password(settings: &Settings) -> Result<()> {
    if !settings.password_file.exists() {
        return Ok(());
    }
    let password = secret::read_value(&settings.password_file, 8)?;
    let statement = format!("ALTER ROLE \"{}\" PASSWORD '{}'\n", settings.role.as_str(), quoted(&password));
    single_user(&settings.data, "postgres", &statement)
}

/// Writes `entrypoint.conf` and `pg_hba.conf`, and has `postgresql.conf` include the former: a restored cluster may lack it.
pub fn configure(settings: &Settings) -> Result<()> {
    const INCLUDE: &str = "include = 'entrypoint.conf'";
    replace(&settings.data.join("entrypoint.conf"), &settings.conf())?;
    replace(&settings.data.join("pg_hba.conf"), &settings.hba())?;
    let main = settings.data.join("postgresql.conf");
    let text = fs_err::read_to_string(&main)?;
    match text.lines().any(|line| line.trim() == INCLUDE) {
        true => Ok(()),
        // In front: what a person writes below it wins.
        false => replace(&main, &format!("{INCLUDE}\n{text}")),
    }
}

fn same_version(cluster: &str, program: &str, data: &Path) -> Result<()> {
    let major = program.split_whitespace().nth(2).and_then(|version| version.split(['.', ' ']).next()).unwrap_or(program.trim());
    if cluster.trim() == major {
        return Ok(());
    }
    Err(Error::settings(format!("{} was made by another major version of PostgreSQL", data.display()))
        .detail(format!("expected {major}, this image's"))
        .detail(format!("found {} in PG_VERSION", cluster.trim()))
        .detail("restore a backup into a fresh volume; the old one stays as it is"))
}

/// initdb, role and database beside, then one rename: a cluster that has its name is complete.
fn first_start(settings: &Settings) -> Result<()> {
    let data = &settings.data;
    let password = secret::read_value(&settings.password_file, 8)?;
    refuse_what_cannot_be_renamed_over(data)?;
    let parent = data.parent().unwrap_or(Path::new("/"));
    let folder = fs_err::File::open(parent)?;
    // Two containers on one volume: the second must not remove what the first is making.
    folder
        .file()
        .try_lock()
        .map_err(|error| Error::failed(format!("another first start is under way in {}: {error}", parent.display())))?;
    let mut beside = data.clone().into_os_string();
    beside.push(".new");
    let beside = PathBuf::from(beside);
    if fs_err::symlink_metadata(&beside).is_ok() {
        println!("removing {}, a first start that was cut off", beside.display());
        fs_err::remove_dir_all(&beside)?;
    }
    println!("making the cluster {}", data.display());
    // Who may connect is what `configure` writes; until then nobody may.
    let arguments = ["--username=postgres", "--auth-local=peer", "--auth-host=reject", "--encoding=UTF8", "--locale=C.UTF-8"];
    run(command("initdb").arg("-D").arg(&beside).args(arguments).args(["--data-checksums", "--no-instructions"]), "")?;
    single_user(&beside, "postgres", &role_and_database(settings, &password))?;
    single_user(&beside, settings.database.as_str(), &schema(settings))?;
    fs_err::rename(&beside, data)?;
    folder.sync_all()?;
    Ok(())
}

fn refuse_what_cannot_be_renamed_over(data: &Path) -> Result<()> {
    let mounts = fs_err::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    if mounts.lines().any(|line| line.split(' ').nth(4) == data.to_str()) {
        return Err(Error::settings(format!("PGDATA {} is a volume itself", data.display()))
            .detail("expected a folder below the volume: the cluster is made beside and put there by one rename"));
    }
    if fs_err::read_dir(data).is_ok_and(|mut entries| entries.next().is_some()) {
        return Err(Error::settings(format!("PGDATA {} is not empty", data.display()))
            .detail("expected a cluster, an empty folder or none")
            .detail("found files, but no PG_VERSION; nothing was touched"));
    }
    Ok(())
}

/// The password goes through standard input: no argument, no variable, no socket that others could reach.
fn role_and_database(settings: &Settings, password: &Secret) -> String {
    let (role, database) = (settings.role.as_str(), settings.database.as_str());
    let password = quoted(password);
    format!(
        "CREATE ROLE \"{role}\" LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE PASSWORD '{password}'\n\
         CREATE DATABASE \"{database}\" OWNER \"{role}\"\n\
         REVOKE ALL ON DATABASE \"{database}\" FROM PUBLIC\n"
    )
}

/// As it stands between two quotes.
fn quoted(password: &Secret) -> String {
    password.expose().replace('\'', "''")
}

/// Since PostgreSQL 15 only its owner may create in the schema `public`, and Mattermost's migrations do.
fn schema(settings: &Settings) -> String {
    format!("ALTER SCHEMA public OWNER TO \"{}\"\nREVOKE CREATE ON SCHEMA public FROM PUBLIC\n", settings.role.as_str())
}

/// Runs one statement a line without a server: nothing listens, nothing has to be waited for.
fn single_user(data: &Path, database: &str, statements: &str) -> Result<()> {
    let mut postgres = command("postgres");
    postgres.args(["--single", "-D"]).arg(data);
    // A failed statement ends it, and is not repeated in the log: it may be the one with the password.
    for setting in ["exit_on_error=on", "log_min_error_statement=panic", "log_statement=none", "password_encryption=scram-sha-256"] {
        postgres.args(["-c", setting]);
    }
    run(postgres.arg(database), statements).map(drop)
}

/// Runs a program to its end, with `input` as its standard input; returns what it printed.
fn run(command: &mut Command, input: &str) -> Result<String> {
    let program = command.get_program().display().to_string();
    let cannot = |error: std::io::Error| Error::failed(format!("{program} cannot be started: {error}"));
    let piped = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = piped.spawn().map_err(cannot)?;
    if let Some(mut stdin) = child.stdin.take() {
        // Where it ends before it has read all, its status says more than a broken pipe.
        let _ = stdin.write_all(input.as_bytes());
    }
    let output = child.wait_with_output()?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let lines: Vec<&str> = said.lines().collect();
    let last = &lines[lines.len().saturating_sub(10)..];
    Err(last.iter().fold(Error::failed(format!("{program} failed: {}", output.status)), |error, line| error.detail(*line)))
}

fn replace(path: &Path, text: &str) -> Result<()> {
    let beside = path.with_extension("conf.new");
    fs_err::write(&beside, text)?;
    Ok(fs_err::rename(&beside, path)?)
}

#[cfg(test)]
mod tests {
    use entrypoint::{Class, Env};

    use super::*;

    #[test]
    fn a_cluster_of_another_major_version_is_refused() {
        let data = Path::new("/data");
        for program in
            ["postgres (PostgreSQL) 17.12 (Debian 17.12-0+deb13u1)", "postgres (PostgreSQL) 17.12", "postgres (PostgreSQL) 17devel 1"]
        {
            let same = same_version("17\n", program, data);
            assert_eq!(same.is_ok(), !program.contains("devel"), "{program}");
        }
        let error = same_version("15\n", "postgres (PostgreSQL) 17.12", data).expect_err("15 is not 17");
        assert_eq!(error.class(), Class::Settings);
        for wanted in ["/data was made by another major version", "expected 17", "found 15"] {
            assert!(error.to_string().contains(wanted), "expected {wanted:?} in {error}");
        }
    }

    #[test]
    fn a_folder_with_something_else_in_it_is_not_touched() {
        let folder = tempfile::tempdir().expect("a folder");
        refuse_what_cannot_be_renamed_over(folder.path()).expect("empty");
        refuse_what_cannot_be_renamed_over(&folder.path().join("none")).expect("not there");
        fs_err::write(folder.path().join("precious"), "").expect("written");
        let error = refuse_what_cannot_be_renamed_over(folder.path()).expect_err("not empty").to_string();
        assert!(error.contains("is not empty"), "{error}");
        let error = refuse_what_cannot_be_renamed_over(Path::new("/proc")).expect_err("a mount point").to_string();
        assert!(error.contains("is a volume itself"), "{error}");
    }

    #[test]
    fn each_statement_is_one_line_with_the_password_quoted() {
        let settings = Settings::read(&Env::from_iter([("POSTGRES_ROLE", "mm"), ("POSTGRES_DB", "chat")])).expect("good");
        let statements = role_and_database(&settings, &Secret::new("it's"));
        let expected = "CREATE ROLE \"mm\" LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE PASSWORD 'it''s'\n\
                        CREATE DATABASE \"chat\" OWNER \"mm\"\nREVOKE ALL ON DATABASE \"chat\" FROM PUBLIC\n";
        assert_eq!(statements, expected);
    }

    #[test]
    fn a_failed_program_is_told_with_its_last_words() {
        let error = run(command("sh").args(["-c", "cat >&2; exit 3"]), "why\n").expect_err("exit 3").to_string();
        assert!(error.contains("sh failed: exit status: 3") && error.ends_with("why"), "{error}");
        let error = run(&mut command("no-such-program"), "").expect_err("not there").to_string();
        assert!(error.contains("no-such-program cannot be started"), "{error}");
    }

    #[test]
    fn a_restored_cluster_gets_the_include_once_and_in_front() {
        let folder = tempfile::tempdir().expect("a folder");
        let data = folder.path().to_str().expect("text");
        let settings = Settings::read(&Env::from_iter([("PGDATA", data)])).expect("good");
        let main = folder.path().join("postgresql.conf");
        fs_err::write(&main, "port = 1\n").expect("written");
        for _ in 0..2 {
            configure(&settings).expect("written");
            assert_eq!(fs_err::read_to_string(&main).expect("there"), "include = 'entrypoint.conf'\nport = 1\n");
        }
        assert_eq!(fs_err::read_to_string(folder.path().join("pg_hba.conf")).expect("there"), settings.hba());
    }
}
