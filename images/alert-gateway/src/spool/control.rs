//! How the commands reach the gateway that runs: one process has the file of alerts, so they ask it, at the socket `control` in its
//! folder. A line of JSON there, a line of JSON back. Where no gateway runs, they open the file themselves.

use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use entrypoint::{Error, Result};
use serde::{Deserialize, Serialize};

use super::{Spool, Wanted};

/// Of a question, whose asker is on the same machine.
const PATIENCE: Duration = Duration::from_secs(3);
/// Of an answer: there may be many letters, and a slow disk.
const LONG: Duration = Duration::from_secs(60);
const LONGEST_QUESTION: u64 = 1000;

#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
enum Question {
    DeadLetters,
    Replay,
}

#[derive(Debug, Serialize, Deserialize)]
enum Answer {
    /// Number, and the line that tells what it is.
    DeadLetters(Vec<(u64, String)>),
    /// How many.
    Replayed(usize),
    Failed(String),
}

/// The socket of a gateway that runs.
pub struct Control {
    listener: UnixListener,
    path: PathBuf,
}

impl Control {
    /// Opens it. Only who has the file of alerts may: the socket that a killed gateway left is replaced.
    ///
    /// # Errors
    /// Where the folder cannot be written, or its name has more than 100 bytes.
    pub fn open(folder: &Path) -> Result<Self> {
        let path = socket(folder);
        match fs_err::remove_file(&path) {
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(error.into()),
            _ => {}
        }
        let listener = UnixListener::bind(&path).map_err(|error| Error::failed(format!("{}: {error}", path.display())))?;
        fs_err::set_permissions(&path, std::fs::Permissions::from_mode(0o600))?;
        Ok(Control { listener, path })
    }

    /// Answers until `stop` is set and [`Control::wake`] was called.
    pub fn run(&self, spool: &Spool, stop: &AtomicBool) {
        for connection in self.listener.incoming() {
            if stop.load(Ordering::SeqCst) {
                return;
            }
            if let Err(error) = connection.and_then(|connection| serve(connection, spool)) {
                eprintln!("alert-gateway: a command got no answer: {error}");
            }
        }
    }

    /// Ends a wait for a command.
    pub fn wake(&self) {
        let _ = UnixStream::connect(&self.path);
    }
}

fn serve(mut connection: UnixStream, spool: &Spool) -> std::io::Result<()> {
    connection.set_read_timeout(Some(PATIENCE))?;
    connection.set_write_timeout(Some(PATIENCE))?;
    let mut line = String::new();
    BufReader::new(&connection).take(LONGEST_QUESTION).read_line(&mut line)?;
    let question: Question = serde_json::from_str(&line)?;
    serde_json::to_writer(&mut connection, &answer(question, spool))?;
    connection.write_all(b"\n")
}

fn answer(question: Question, spool: &Spool) -> Answer {
    let answer = match question {
        Question::DeadLetters => spool.dead_letters().map(Answer::DeadLetters),
        Question::Replay => spool.replay().map(Answer::Replayed),
    };
    answer.unwrap_or_else(|error| Answer::Failed(error.to_string()))
}

fn ask(folder: &Path, question: Question) -> Result<Answer> {
    let answer = match UnixStream::connect(socket(folder)) {
        Ok(mut connection) => {
            connection.set_read_timeout(Some(LONG))?;
            connection.write_all(format!("{}\n", serde_json::to_string(&question).map_err(std::io::Error::from)?).as_bytes())?;
            serde_json::from_reader(&connection).map_err(|error| Error::failed(format!("the gateway's answer: {error}")))?
        }
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::ConnectionRefused) => {
            answer(question, &Spool::open(folder, Wanted::All, 0)?)
        }
        Err(error) => return Err(Error::failed(format!("{}: {error}", socket(folder).display()))),
    };
    match answer {
        Answer::Failed(why) => Err(Error::failed(why)),
        answer => Ok(answer),
    }
}

/// The dead letters: number, and the line that tells what it is.
///
/// # Errors
/// Where the gateway gives none, or the file cannot be read.
pub fn dead_letters(folder: &Path) -> Result<Vec<(u64, String)>> {
    match ask(folder, Question::DeadLetters)? {
        Answer::DeadLetters(letters) => Ok(letters),
        other => Err(other.unexpected()),
    }
}

/// Has the dead letters tried again. Says how many there were.
///
/// # Errors
/// Where the gateway cannot, or the file cannot be written.
pub fn replay(folder: &Path) -> Result<usize> {
    match ask(folder, Question::Replay)? {
        Answer::Replayed(count) => Ok(count),
        other => Err(other.unexpected()),
    }
}

impl Answer {
    /// The gateway that runs is of another version.
    fn unexpected(&self) -> Error {
        Error::failed(format!("the gateway answered something else: {self:?}"))
    }
}

fn socket(folder: &Path) -> PathBuf {
    folder.join("control")
}
