//! The health check: PostgreSQL's protocol 3.0 over the Unix socket, up to the point where a password is asked for.
//! That is later than an open port: a server that still recovers, or shuts down, says so instead.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use entrypoint::{Error, Result};

use crate::settings::Settings;

const CHECK: Duration = Duration::from_secs(3);
const PROTOCOL: u32 = 3 << 16;
/// An answer longer than this is not PostgreSQL's.
const LIMIT: u32 = 64 * 1024;

/// Healthy is who asks the role for its password.
pub fn check(settings: &Settings) -> Result<()> {
    let socket = settings.socket_dir.join(format!(".s.PGSQL.{}", settings.port));
    let unhealthy = |what: String| Error::failed(format!("{}: {what}", socket.display()));
    let connection = UnixStream::connect(&socket).map_err(|error| unhealthy(error.to_string()))?;
    connection.set_read_timeout(Some(CHECK))?;
    connection.set_write_timeout(Some(CHECK))?;
    ask(connection, &startup(settings.role.as_str(), settings.database.as_str())).map_err(unhealthy)
}

fn startup(role: &str, database: &str) -> Vec<u8> {
    let mut message = vec![0; 4];
    message.extend(PROTOCOL.to_be_bytes());
    message.extend(format!("user\0{role}\0database\0{database}\0application_name\0healthcheck\0\0").bytes());
    let length = message.len() as u32;
    message[..4].copy_from_slice(&length.to_be_bytes());
    message
}

fn ask(mut connection: impl Read + Write, startup: &[u8]) -> Result<(), String> {
    let words = |error: std::io::Error| error.to_string();
    connection.write_all(startup).map_err(words)?;
    let mut head = [0; 5];
    connection.read_exact(&mut head).map_err(words)?;
    let [kind, length @ ..] = head;
    let length = u32::from_be_bytes(length);
    if !(4..LIMIT).contains(&length) {
        return Err("not PostgreSQL's protocol".to_owned());
    }
    let mut body = vec![0; length as usize - 4];
    connection.read_exact(&mut body).map_err(words)?;
    match kind {
        b'R' => Ok(()),
        b'E' => Err(error_words(&body)),
        other => Err(format!("expected a request to authenticate, found message {:?}", char::from(other))),
    }
}

/// ErrorResponse: fields of a type byte and a string each; `C` is the SQLSTATE, `M` the message.
fn error_words(body: &[u8]) -> String {
    let fields: Vec<_> = body.split(|byte| *byte == 0).filter_map(|field| field.split_first()).collect();
    let field = |kind: u8| fields.iter().find(|(found, _)| **found == kind).map(|(_, text)| String::from_utf8_lossy(text));
    let meaning = match field(b'C').as_deref() {
        Some("57P03") => " (it starts, recovers or shuts down)",
        Some("53300") => " (no connection is left)",
        Some("3D000") | Some("28000") => " (the first start did not end as it should)",
        _ => "",
    };
    format!("{} {}{meaning}", field(b'C').unwrap_or_default(), field(b'M').unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(bytes: &[u8]) -> Result<(), String> {
        let (ours, mut theirs) = UnixStream::pair().expect("a pair");
        theirs.write_all(bytes).expect("written");
        theirs.shutdown(std::net::Shutdown::Write).expect("shut");
        ask(ours, &startup("mm", "chat"))
    }

    #[test]
    fn a_request_for_a_password_is_healthy_and_nothing_else_is() {
        let scram = b"R\0\0\0\x17\0\0\0\x0aSCRAM-SHA-256\0\0";
        assert_eq!(answer(scram), Ok(()));
        let starting = b"E\0\0\0\x3eSFATAL\0VFATAL\0C57P03\0Mthe database system is starting up\0\0";
        assert_eq!(answer(starting), Err("57P03 the database system is starting up (it starts, recovers or shuts down)".to_owned()));
        for (bytes, wanted) in [
            (&b""[..], "failed to fill whole buffer"),
            (&scram[..9], "failed to fill whole buffer"),
            (b"SSH-2.0-OpenSSH\r\n", "not PostgreSQL's protocol"),
            (b"N\0\0\0\x05\0", "found message 'N'"),
        ] {
            assert_eq!(answer(bytes).map_err(|told| told.contains(wanted)), Err(true), "{bytes:?}");
        }
    }

    #[test]
    fn the_startup_message_counts_itself() {
        let message = startup("mm", "chat");
        assert_eq!(message[..8], [0, 0, 0, message.len() as u8, 0, 3, 0, 0]);
        assert_eq!(&message[8..], b"user\0mm\0database\0chat\0application_name\0healthcheck\0\0");
    }
}
