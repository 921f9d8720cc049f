//! Role, database and ownership on an external server: what is there, the difference as steps, their doing.

use std::fmt;

use images::{Class, Error, Result};
use tokio_postgres::error::SqlState;

use super::found::{ENCODING, Found, check_version};
use super::{Login, Server, Session, Stop, quoted};
use crate::site::secrets::Secret;

/// The database that an administrator comes into where the address names none.
const MAINTENANCE: &str = "postgres";

/// What `provision database` would do, or has done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// The role is made, with the password in `secrets.env`.
    CreateRole,
    /// A role that may not log in gets to.
    AllowLogin,
    /// The role gets the password in `secrets.env`.
    SetPassword,
    /// The database is made, and is the role's.
    CreateDatabase,
    /// The schema is made, and is the role's.
    CreateSchema,
    /// The schema becomes the role's.
    OwnSchema,
}

impl Step {
    /// What it says of itself.
    pub fn words(self, login: &Login) -> impl fmt::Display {
        let (role, name) = (&login.role, &login.database);
        match self {
            Step::CreateRole => format!("create the role {role}, with the password in secrets.env"),
            Step::AllowLogin => format!("let the role {role} log in"),
            Step::SetPassword => format!("give the role {role} the password in secrets.env"),
            Step::CreateDatabase => format!("create the database {name} ({ENCODING}), owned by {role}"),
            Step::CreateSchema => format!("create the schema public in {name}, owned by {role}"),
            Step::OwnSchema => format!("make {role} the owner of the schema public in {name}"),
        }
    }

    /// Whether it gives something to the role: whoever is no superuser has to be a member for that.
    fn gives(self) -> bool {
        matches!(self, Step::CreateDatabase | Step::CreateSchema | Step::OwnSchema)
    }

    fn sql(self, login: &Login) -> String {
        let (role, name) = (quoted(&login.role), quoted(&login.database));
        // A statement may end in the server's log. The verifier is what the server would keep, and nobody logs in with it.
        let password = || postgres_protocol::password::scram_sha_256(login.password.expose().as_bytes());
        match self {
            Step::CreateRole => format!("CREATE ROLE {role} LOGIN PASSWORD '{}'", password()),
            Step::AllowLogin => format!("ALTER ROLE {role} LOGIN"),
            Step::SetPassword => format!("ALTER ROLE {role} PASSWORD '{}'", password()),
            // Only template0 is sure to hold nothing that another encoding would read in another way.
            Step::CreateDatabase => format!("CREATE DATABASE {name} OWNER {role} ENCODING '{ENCODING}' TEMPLATE template0"),
            Step::CreateSchema => format!("CREATE SCHEMA public AUTHORIZATION {role}"),
            Step::OwnSchema => format!("ALTER SCHEMA public OWNER TO {role}"),
        }
    }
}

/// The address in an administrator's file: where, and who.
///
/// # Errors
/// [`Class::Usage`] for anything but `postgres://ROLE:PASSWORD@HOST[:PORT][/DATABASE]`; no error shows the address.
pub fn administrator(url: &Secret, of: &Server) -> Result<(Server, Login)> {
    let wrong = |found: &str| {
        Error::new(Class::Usage, "the administrator's file holds no usable address")
            .detail("expected one line postgres://ROLE:PASSWORD@HOST[:PORT][/DATABASE]; other characters than letters and digits as %XX")
            .detail(format!("found {found}"))
    };
    let text = url.expose();
    let (text, options) = text.split_once('?').unwrap_or((text, ""));
    // TLS is always on, and the certificate always checked, so this is the one thing that may be asked for.
    if !matches!(options, "" | "sslmode=verify-full") {
        return Err(wrong("options behind a question mark"));
    }
    if !text.starts_with("postgres://") && !text.starts_with("postgresql://") {
        return Err(wrong("something that does not begin with postgres://"));
    }
    let config: tokio_postgres::Config = text.parse().map_err(|_| wrong("something else behind postgres://"))?;
    let [tokio_postgres::config::Host::Tcp(host)] = config.get_hosts() else { return Err(wrong("no host, or several")) };
    let role = config.get_user().ok_or_else(|| wrong("no role"))?;
    let password = config.get_password().ok_or_else(|| wrong("no password"))?;
    let password = std::str::from_utf8(password).map_err(|_| wrong("a password that is not UTF-8"))?;
    let server = Server {
        port: config.get_ports().first().copied().unwrap_or(5432),
        address: of.address.filter(|_| *host == of.host),
        host: host.clone(),
        ca: of.ca.clone(),
    };
    let database = config.get_dbname().unwrap_or(MAINTENANCE).to_owned();
    Ok((server, Login { role: role.to_owned(), password: Secret::new(password), database }))
}

/// What an administrator found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Observed {
    /// The role: whether it may log in.
    pub role: Option<bool>,
    /// Whether the password in `secrets.env` is the role's; nothing where nobody could tell.
    pub password: Option<bool>,
    /// The database.
    pub database: Option<Found>,
}

/// What has to be done.
///
/// # Errors
/// [`Class::Check`] where a database of another encoding has the name: that is not ours to remove.
pub fn plan(observed: &Observed, login: &Login) -> Result<Vec<Step>> {
    let mut steps = Vec::new();
    match (observed.role, observed.password) {
        (None, _) => steps.push(Step::CreateRole),
        (Some(can_log_in), password) => {
            steps.extend((!can_log_in).then_some(Step::AllowLogin));
            // Of a role that cannot log in nobody knows the password.
            steps.extend((password == Some(false) || !can_log_in).then_some(Step::SetPassword));
        }
    }
    match &observed.database {
        None => steps.push(Step::CreateDatabase),
        Some(found) if !found.has_encoding() => {
            return Err(Error::new(Class::Check, format!("the database {} has another encoding", login.database))
                .detail(format!("expected {ENCODING}, found {}, which is fixed when a database is made", found.encoding))
                .hint("another database.name in site.toml, and this command again, makes one beside it"));
        }
        Some(found) if found.schema_owner.is_none() => steps.push(Step::CreateSchema),
        Some(found) => steps.extend((!found.owns).then_some(Step::OwnSchema)),
    }
    Ok(steps)
}

/// An administrator's connection.
pub struct Administrator {
    server: Server,
    login: Login,
    session: Session,
    name: String,
    is_superuser: bool,
}

impl Administrator {
    /// Logs in, and refuses a server that is too old.
    pub fn open(server: Server, login: Login) -> Result<Administrator> {
        let failed = |stop: Stop| stop.into_error(&server);
        let session = Session::open(&server, &login).map_err(failed)?;
        let sql = "SELECT current_user::text, rolsuper, current_setting('server_version_num')::int4, current_setting('server_version') \
                   FROM pg_roles WHERE rolname = current_user";
        let rows = session.rows(sql, &[]).map_err(failed)?;
        let row = rows.first().ok_or_else(|| failed(Stop::Broken("it does not know the role that it let in".to_owned())))?;
        check_version(row.get(2), row.get(3))?;
        Ok(Administrator { name: row.get(0), is_superuser: row.get(1), session, server, login })
    }

    /// Looks what is there of what `wanted` needs; `site` is the server as Mattermost reaches it.
    pub fn observe(&self, site: &Server, wanted: &Login) -> Result<Observed> {
        let failed = |stop: Stop| stop.into_error(&self.server);
        let role = self.session.rows("SELECT rolcanlogin FROM pg_roles WHERE rolname = $1::text", &[&wanted.role]).map_err(failed)?;
        let role: Option<bool> = role.first().map(|row| row.get(0));
        let there = self.session.rows("SELECT 1 FROM pg_database WHERE datname = $1::text", &[&wanted.database]).map_err(failed)?;
        let database = match there.first() {
            None => None,
            Some(_) => {
                // Rights are asked of a role that exists; of one that does not, its maker's say nothing.
                let asked = if role.is_some() { &wanted.role } else { "pg_monitor" };
                Some(Found::ask(&self.inside(wanted)?, asked).map_err(failed)?)
            }
        };
        let password = match role {
            Some(true) => {
                let into = database.as_ref().map_or(&self.login.database, |_| &wanted.database);
                fits(Session::open(site, &Login { database: into.clone(), ..wanted.clone() })).map_err(|stop| stop.into_error(site))?
            }
            _ => None,
        };
        Ok(Observed { role, password, database })
    }

    /// Does the steps, and tells each that is done.
    pub fn apply(&self, steps: &[Step], wanted: &Login, mut done: impl FnMut(Step)) -> Result<()> {
        let (account, rest): (Vec<Step>, Vec<Step>) = steps.iter().partition(|step| !step.gives());
        account.into_iter().try_for_each(|step| self.take(step, wanted, &mut done))?;
        // What is given to a role is given by a member of it. A superuser needs not be one.
        let borrowed = !rest.is_empty() && !self.is_superuser && !self.is_member(wanted)?;
        let (role, name) = (quoted(&wanted.role), quoted(&self.name));
        if borrowed {
            self.execute(&self.session, &format!("GRANT {role} TO {name}"))?;
        }
        let result = rest.into_iter().try_for_each(|step| self.take(step, wanted, &mut done));
        if borrowed {
            let back = self.execute(&self.session, &format!("REVOKE {role} FROM {name}"));
            return result.and(back);
        }
        result
    }

    fn take(&self, step: Step, wanted: &Login, done: &mut impl FnMut(Step)) -> Result<()> {
        match step {
            Step::CreateSchema | Step::OwnSchema => self.execute(&self.inside(wanted)?, &step.sql(wanted)),
            _ => self.execute(&self.session, &step.sql(wanted)),
        }
        .map_err(|error| error.context(format!("to {}", step.words(wanted))))?;
        done(step);
        Ok(())
    }

    fn is_member(&self, wanted: &Login) -> Result<bool> {
        let rows = self.session.rows("SELECT pg_has_role(current_user, $1::text::name, 'MEMBER')", &[&wanted.role]);
        Ok(rows.map_err(|stop| stop.into_error(&self.server))?.first().is_some_and(|row| row.get(0)))
    }

    /// The administrator in Mattermost's database.
    fn inside(&self, wanted: &Login) -> Result<Session> {
        let login = Login { database: wanted.database.clone(), ..self.login.clone() };
        Session::open(&self.server, &login).map_err(|stop| stop.into_error(&self.server))
    }

    fn execute(&self, session: &Session, sql: &str) -> Result<()> {
        session.execute(sql).map_err(|stop| stop.into_error(&self.server))
    }
}

/// Whether a login's password was right; nothing where the server did not come to ask for it.
fn fits(login: Result<Session, Stop>) -> Result<Option<bool>, Stop> {
    match login {
        Ok(_) => Ok(Some(true)),
        Err(Stop::Refused(code, _)) if code == SqlState::INVALID_PASSWORD => Ok(Some(false)),
        Err(Stop::Refused(code, _)) if code == SqlState::INVALID_AUTHORIZATION_SPECIFICATION => Ok(None),
        // Whoever may not come into this database has shown its password already.
        Err(Stop::Refused(code, _)) if code == SqlState::INSUFFICIENT_PRIVILEGE => Ok(Some(true)),
        Err(stop) => Err(stop),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn login() -> Login {
        Login { role: "mattermost".to_owned(), password: Secret::new("the-role's-own"), database: "chat".to_owned() }
    }

    fn found(encoding: &str, owner: Option<&str>, owns: bool) -> Found {
        let owner = owner.map(str::to_owned);
        Found { version: 150_014, version_words: "15.14".to_owned(), encoding: encoding.to_owned(), schema_owner: owner, owns }
    }

    fn steps(role: Option<bool>, password: Option<bool>, database: Option<Found>) -> Vec<Step> {
        plan(&Observed { role, password, database }, &login()).unwrap()
    }

    #[test]
    fn the_steps_are_what_is_missing_and_nothing_else() {
        let good = || Some(found("UTF8", Some("mattermost"), true));
        assert_eq!(steps(None, None, None), [Step::CreateRole, Step::CreateDatabase]);
        assert_eq!(steps(Some(true), Some(true), good()), []);
        assert_eq!(steps(Some(true), Some(false), good()), [Step::SetPassword]);
        assert_eq!(steps(Some(true), None, good()), []);
        assert_eq!(steps(Some(false), None, good()), [Step::AllowLogin, Step::SetPassword]);
        assert_eq!(steps(Some(true), Some(true), Some(found("UTF8", Some("postgres"), false))), [Step::OwnSchema]);
        assert_eq!(steps(None, None, Some(found("UTF8", None, false))), [Step::CreateRole, Step::CreateSchema]);
    }

    #[test]
    fn a_database_of_another_encoding_is_left_alone() {
        let observed = Observed { role: None, password: None, database: Some(found("LATIN1", Some("mattermost"), true)) };
        let error = plan(&observed, &login()).unwrap_err();
        assert_eq!(error.class(), Class::Check);
        assert!(error.to_string().contains("found LATIN1"), "{error}");
    }

    #[test]
    fn no_statement_holds_the_password() {
        for step in [Step::CreateRole, Step::SetPassword] {
            let sql = step.sql(&login());
            assert!(sql.contains("PASSWORD 'SCRAM-SHA-256$") && !sql.contains("the-role's-own"), "{sql}");
        }
        let odd = Login { role: "o\"dd".to_owned(), ..login() };
        assert_eq!(Step::OwnSchema.sql(&odd), "ALTER SCHEMA public OWNER TO \"o\"\"dd\"");
    }

    #[test]
    fn an_administrators_address_is_read_and_a_wrong_one_is_not_shown() {
        let of = Server { host: "db".to_owned(), port: 6432, address: Some("10.0.0.5".parse().unwrap()), ca: "ca.pem".into() };
        let read = |text: &str| administrator(&Secret::new(text), &of);
        let (server, login) = read("postgres://postgres:a%2Fb@db:5433/template1?sslmode=verify-full").unwrap();
        assert_eq!((server.host.as_str(), server.port, server.address), ("db", 5433, of.address));
        assert_eq!((login.role.as_str(), login.password.expose(), login.database.as_str()), ("postgres", "a/b", "template1"));
        let (server, login) = read("postgresql://postgres:geheim@elsewhere").unwrap();
        assert_eq!((server.port, server.address, login.database.as_str()), (5432, None, "postgres"));
        for wrong in
            ["geheim", "host=db password=geheim", "postgres://db", "postgres://postgres@db", "postgres://p:geheim@db?sslmode=disable"]
        {
            let error = read(wrong).unwrap_err();
            assert_eq!(error.class(), Class::Usage, "{wrong}");
            assert!(!error.to_string().contains("geheim"), "{error}");
        }
    }
}
