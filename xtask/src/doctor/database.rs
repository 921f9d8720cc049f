//! Judges of a database that is not ours: whether Mattermost could work with it.

use tokio_postgres::error::SqlState;

use super::Check;
use crate::database::found::{ENCODING, Found, check_version};
use crate::database::{Login, Server, Session, Stop};

/// What makes role, database and ownership.
const PROVISION: &str = "cargo xtask provision database --admin-url-file FILE";

/// Every question, in the order in which they can be asked: id, title.
const QUESTIONS: [(&str, &str); 6] = [
    ("database.reach", "External database"),
    ("database.tls", "External database: TLS"),
    ("database.login", "External database: login"),
    ("database.version", "External database: version"),
    ("database.encoding", "External database: encoding"),
    ("database.schema", "External database: schema public"),
];

/// Logs in as Mattermost will, and looks.
pub fn look(server: &Server, login: &Login) -> Result<Found, Stop> {
    Found::ask(&Session::open(server, login)?, &login.role)
}

/// One check for each question; what comes behind one that failed was not asked.
pub fn judge(server: &Server, login: &Login, found: Result<&Found, &Stop>) -> Vec<Check> {
    let passed = [server.to_string(), format!("its certificate is for {}", server.host), format!("{} in {}", login.role, login.database)];
    let (at, why) = match found {
        Ok(found) => {
            let mut checks: Vec<Check> = QUESTIONS.iter().zip(passed).map(|((id, title), found)| Check::ok(*id, *title, found)).collect();
            checks.extend([version(found), encoding(login, found), schema(login, found)]);
            return checks;
        }
        Err(why) => stopped(server, login, why),
    };
    let check = |(number, ((id, title), passed)): (usize, ((&str, &str), Option<String>))| match (number.cmp(&at), passed) {
        (std::cmp::Ordering::Less, Some(passed)) => Check::ok(id, title, passed),
        (std::cmp::Ordering::Equal, _) => Check::problem(id, title, &why.0, &why.1),
        _ => Check::skipped(id, title, "not asked: what stands above comes first"),
    };
    let passed = passed.into_iter().map(Some).chain(std::iter::repeat(None));
    QUESTIONS.into_iter().zip(passed).enumerate().map(check).collect()
}

/// The number of the question that failed; what was found, and what mends it.
fn stopped(server: &Server, login: &Login, why: &Stop) -> (usize, (String, String)) {
    let (role, name) = (&login.role, &login.database);
    match why {
        Stop::Reach(why) => {
            let mend = format!(
                "on the server: ALTER SYSTEM SET listen_addresses = '*'; and start it again; database.host and database.port in site.toml say {server}"
            );
            (0, (why.clone(), mend))
        }
        Stop::Ca(error) => (1, (error.message().to_owned(), error.hint_text().unwrap_or_default().to_owned())),
        Stop::Tls(why) if why.contains("no TLS") => (
            1,
            (
                why.clone(),
                "on the server, with ssl_cert_file and ssl_key_file in place: ALTER SYSTEM SET ssl = on; SELECT pg_reload_conf();"
                    .to_owned(),
            ),
        ),
        Stop::Tls(why) => {
            let mend = format!(
                "database.ca in site.toml names the root of its certificate (now: {}), database.host a name in it",
                server.ca.display()
            );
            (1, (why.clone(), mend))
        }
        Stop::Refused(code, why) => {
            let mend = match code {
                code if *code == SqlState::INVALID_AUTHORIZATION_SPECIFICATION => format!(
                    "on the server, in pg_hba.conf: hostssl {name} {role} samenet scram-sha-256   (then SELECT pg_reload_conf(); or, where it is the role that may not: {PROVISION})"
                ),
                code if *code == SqlState::INVALID_PASSWORD => {
                    format!(
                        "{PROVISION}   (it gives the role the password in secrets.env; or put the right one there, as MATTERMOST_DB_PASSWORD)"
                    )
                }
                code if *code == SqlState::INSUFFICIENT_PRIVILEGE => format!("GRANT CONNECT ON DATABASE \"{name}\" TO \"{role}\";"),
                code if *code == SqlState::TOO_MANY_CONNECTIONS => {
                    "ALTER SYSTEM SET max_connections, and start the server again".to_owned()
                }
                _ => PROVISION.to_owned(),
            };
            (2, (why.clone(), mend))
        }
        Stop::Broken(why) => (2, (why.clone(), "look into the server's log".to_owned())),
    }
}

fn version(found: &Found) -> Check {
    let (id, title) = QUESTIONS[3];
    match check_version(found.version, &found.version_words) {
        Ok(()) => Check::ok(id, title, &found.version_words),
        Err(error) => Check::of_error(id, title, &error, ""),
    }
}

fn encoding(login: &Login, found: &Found) -> Check {
    let (id, title) = QUESTIONS[4];
    match found.has_encoding() {
        true => Check::ok(id, title, ENCODING),
        false => {
            let (name, role) = (&login.database, &login.role);
            let mend = format!(
                "it is fixed when a database is made: CREATE DATABASE \"{name}_utf8\" OWNER \"{role}\" ENCODING 'UTF8' TEMPLATE template0; and database.name in site.toml"
            );
            Check::problem(id, title, format!("{}, where {ENCODING} is needed", found.encoding), mend)
        }
    }
}

fn schema(login: &Login, found: &Found) -> Check {
    let (id, title) = QUESTIONS[5];
    let role = &login.role;
    let inside = format!("in the database {}, as an administrator", login.database);
    match &found.schema_owner {
        Some(owner) if found.owns && owner == role => Check::ok(id, title, format!("it belongs to {role}")),
        Some(owner) if found.owns => Check::ok(id, title, format!("it belongs to {owner}, whose rights {role} has")),
        Some(owner) => {
            let found = format!("it belongs to {owner}: {role} may make no tables in it");
            Check::problem(id, title, found, format!("ALTER SCHEMA public OWNER TO \"{role}\";   ({inside}; or {PROVISION})"))
        }
        None => {
            let mend = format!("CREATE SCHEMA public AUTHORIZATION \"{role}\";   ({inside}; or {PROVISION})");
            Check::problem(id, title, "there is none", mend)
        }
    }
}

/// `secrets.env` is not usable, or does not hold the password: nobody was asked.
pub fn without_password(error: &images::Error) -> Check {
    let (id, title) = QUESTIONS[2];
    Check::of_error(id, title, error, PROVISION)
}

#[cfg(test)]
mod tests {
    use super::super::{Outcome, Report};
    use super::*;
    use crate::site::secrets::Secret;

    fn server() -> Server {
        Server { host: "db.cicd.local".to_owned(), port: 5432, address: None, ca: "site/db-ca.pem".into() }
    }

    fn login() -> Login {
        Login { role: "mattermost".to_owned(), password: Secret::new("never shown"), database: "chat".to_owned() }
    }

    fn good() -> Found {
        Found {
            version: 170_002,
            version_words: "17.2".to_owned(),
            encoding: "UTF8".to_owned(),
            schema_owner: Some("mattermost".to_owned()),
            owns: true,
        }
    }

    /// The one problem, its place, and how many checks behind it were not asked.
    fn problem(found: Result<&Found, &Stop>) -> (String, String, usize) {
        let checks = judge(&server(), &login(), found);
        assert_eq!(checks.iter().map(|check| check.id.as_str()).collect::<Vec<_>>(), QUESTIONS.map(|(id, _)| id));
        let problems: Vec<&Check> = checks.iter().filter(|check| check.is_problem()).collect();
        let [Check { id, outcome: Outcome::Problem { found, mend }, .. }] = problems[..] else { panic!("{checks:?}") };
        let skipped = checks.iter().filter(|check| matches!(check.outcome, Outcome::Skipped { .. })).count();
        (id.clone(), format!("{found} → {mend}"), skipped)
    }

    #[test]
    fn a_database_that_is_as_it_should_be_passes_every_check() {
        insta::assert_snapshot!(Report::of(judge(&server(), &login(), Ok(&good()))).lines().join("\n"), @r"
        ✔ External database                 db.cicd.local:5432
        ✔ External database: TLS            its certificate is for db.cicd.local
        ✔ External database: login          mattermost in chat
        ✔ External database: version        17.2
        ✔ External database: encoding       UTF8
        ✔ External database: schema public  it belongs to mattermost
        ");
    }

    #[test]
    fn a_version_before_14_is_too_old() {
        let old = Found { version: 130_022, version_words: "13.22".to_owned(), ..good() };
        let (id, words, _) = problem(Ok(&old));
        assert_eq!(id, "database.version");
        assert!(words.starts_with("PostgreSQL 13.22 is too old"), "{words}");
        assert!(judge(&server(), &login(), Ok(&Found { version: 140_000, ..old })).iter().all(|check| !check.is_problem()));
    }

    #[test]
    fn a_schema_of_somebody_else_and_another_encoding_are_told_with_their_sql() {
        let (id, words, _) = problem(Ok(&Found { schema_owner: Some("postgres".to_owned()), owns: false, ..good() }));
        assert_eq!(id, "database.schema");
        assert!(words.contains("belongs to postgres") && words.contains("ALTER SCHEMA public OWNER TO \"mattermost\";"), "{words}");
        let (_, words, _) = problem(Ok(&Found { schema_owner: None, owns: false, ..good() }));
        assert!(words.contains("CREATE SCHEMA public AUTHORIZATION \"mattermost\";"), "{words}");
        let (id, words, _) = problem(Ok(&Found { encoding: "LATIN1".to_owned(), ..good() }));
        assert_eq!(id, "database.encoding");
        assert!(words.starts_with("LATIN1") && words.contains("TEMPLATE template0"), "{words}");
        // The owner of the database owns it through PostgreSQL's own role.
        let through = Found { schema_owner: Some("pg_database_owner".to_owned()), ..good() };
        assert!(judge(&server(), &login(), Ok(&through)).iter().all(|check| !check.is_problem()));
    }

    #[test]
    fn what_stops_the_way_in_is_told_and_what_lies_behind_was_not_asked() {
        let refused = |code: SqlState| Stop::Refused(code, "refused".to_owned());
        let cases = [
            (Stop::Reach("nobody".to_owned()), "database.reach", 5, "listen_addresses"),
            (Stop::Tls("PostgreSQL speaks no TLS here".to_owned()), "database.tls", 4, "ssl = on"),
            (Stop::Tls("the certificate is not from this CA".to_owned()), "database.tls", 4, "site/db-ca.pem"),
            (refused(SqlState::INVALID_PASSWORD), "database.login", 3, PROVISION),
            (refused(SqlState::INVALID_CATALOG_NAME), "database.login", 3, PROVISION),
            (refused(SqlState::INVALID_AUTHORIZATION_SPECIFICATION), "database.login", 3, "hostssl chat mattermost"),
            (refused(SqlState::INSUFFICIENT_PRIVILEGE), "database.login", 3, "GRANT CONNECT"),
        ];
        for (stop, id, skipped, mend) in cases {
            let (found, words, behind) = problem(Err(&stop));
            assert_eq!((found.as_str(), behind), (id, skipped), "{stop:?}");
            assert!(words.contains(mend), "{words}");
            assert!(!words.contains("never shown"));
        }
    }
}
