//! What a database is like, as far as Mattermost depends on it.

use images::{Class, Error};

use super::{Session, Stop};

/// The oldest PostgreSQL that Mattermost 11 starts with, as `server_version_num` counts.
pub const OLDEST: i32 = 14_00_00;
/// The only encoding that Mattermost is made for.
pub const ENCODING: &str = "UTF8";

/// One database of a server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// `server_version_num`: 150014 is 15.14.
    pub version: i32,
    /// The same for people.
    pub version_words: String,
    /// Of its text, as PostgreSQL names it.
    pub encoding: String,
    /// Whose the schema `public` is; none where there is no such schema.
    pub schema_owner: Option<String>,
    /// Whether the role has the rights of that owner: from PostgreSQL 15 on nobody else may make tables there.
    pub owns: bool,
}

impl Found {
    /// Asks the database that the session is in, on behalf of `role`, which has to exist.
    pub fn ask(session: &Session, role: &str) -> Result<Found, Stop> {
        // The database's owner is a member of pg_database_owner, whose the schema is in a database of PostgreSQL 15 and newer.
        let rows = session.rows(
            "SELECT current_setting('server_version_num')::int4, current_setting('server_version'), \
             pg_encoding_to_char(here.encoding)::text, pg_get_userbyid(schema.nspowner)::text, \
             coalesce(pg_has_role($1::text::name, schema.nspowner, 'USAGE'), false) \
             FROM pg_database here LEFT JOIN pg_namespace schema ON schema.nspname = 'public' \
             WHERE here.datname = current_database()",
            &[&role],
        )?;
        let row = rows.first().ok_or_else(|| Stop::Broken("it does not know the database that it is in".to_owned()))?;
        Ok(Found {
            version: row.get(0),
            version_words: row.get(1),
            encoding: row.get(2),
            // Of no schema there is no owner; the server says `unknown (OID=…)` of an owner that is gone.
            schema_owner: row.get(3),
            owns: row.get(4),
        })
    }

    /// Whether the encoding is the one.
    pub fn has_encoding(&self) -> bool {
        self.encoding == ENCODING
    }
}

/// An error for a server that is too old.
pub fn check_version(number: i32, words: &str) -> Result<(), Error> {
    match number >= OLDEST {
        true => Ok(()),
        false => Err(Error::new(Class::Check, format!("PostgreSQL {words} is too old"))
            .detail(format!("expected {} or newer: an older one is refused by Mattermost", OLDEST / 10_000))
            .hint("use a newer server, or none: without database.host the stack brings its own")),
    }
}
