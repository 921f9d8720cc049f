//! Downloads: several at once, resumed, retried, checked. Every file that can be had is had before anything is reported.

use std::collections::BTreeMap;
use std::io::{Read, Seek, Write};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use fs_err as fs;
use reqwest::StatusCode;
use reqwest::blocking::{Client, Response};
use reqwest::header::{ACCEPT_ENCODING, CONTENT_RANGE, HeaderMap, RANGE, RETRY_AFTER};

use super::failure::{Cause, Failure, report};
use super::http::{chain, http_client, without_password};
use super::temp::Temp;
use super::{Store, from};
use crate::digest::{Digest, Hashing};
use crate::error::{Context, Result};
use crate::lock::{Artefact, Origin};
use crate::mirror::Mirrors;
use crate::progress::{Progress, Step};

/// What a file may have at most whose size no lock names: twice the largest release known.
const UNSIZED_LIMIT: u64 = 2 << 30;
/// So much in one try shows that the server works, and the count of tries begins anew: a large file over a bad line.
const PROGRESS: u64 = 1 << 20;
/// A server that asks for a longer pause gets a later visit, by a person.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// How hard to try.
#[derive(Clone, Debug)]
pub struct Options {
    /// Files under way at once.
    pub connections: usize,
    /// Tries for one file without any progress.
    pub tries: u32,
    /// Pause after the first failed try; each further one is twice as long.
    pub pause: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Options { connections: 4, tries: 4, pause: Duration::from_millis(500) }
    }
}

impl Store {
    /// Fetches those of `wants` that are missing. `mirrors` is asked once, and only where a Debian package is missing.
    ///
    /// A file that cannot be had does not stop the others. Errors: [`crate::Class::Fetch`], or
    /// [`crate::Class::HashMismatch`] where wrong bytes are all that went wrong; both name each file, where it was looked
    /// for, its SHA-256, what came instead, and the ways out. A full disk ends it at once.
    pub fn fetch(
        &self,
        wants: &[&Artefact],
        mirrors: &dyn Fn() -> Result<Mirrors>,
        options: &Options,
        progress: &dyn Progress,
    ) -> Result<()> {
        let mut missing = self.missing(wants.iter().copied());
        if missing.is_empty() {
            return Ok(());
        }
        // The largest first: what takes longest decides when all is done.
        missing.sort_by_key(|artefact| (std::cmp::Reverse(artefact.size), artefact.name.clone()));
        let debian = missing.iter().any(|artefact| matches!(artefact.from, Origin::Debian { .. }));
        let session = Session {
            store: self,
            client: http_client()?,
            mirrors: if debian { Some(mirrors()?) } else { None },
            options,
            progress,
            unreachable: Mutex::default(),
        };
        let failures = session.run(&missing)?;
        if failures.is_empty() { Ok(()) } else { Err(report(&failures, missing.len())) }
    }
}

/// What the downloads of one call share.
struct Session<'a> {
    store: &'a Store,
    client: Client,
    mirrors: Option<Mirrors>,
    options: &'a Options,
    progress: &'a dyn Progress,
    /// Hosts that did not take a connection, with what was said: a hundred packages need not find that out one by one.
    unreachable: Mutex<BTreeMap<String, String>>,
}

/// How one try ended.
enum Try {
    /// The file is complete and right.
    Whole,
    /// Worth another try, after the pause that the server asked for.
    Again(Cause, Option<Duration>),
    /// No further try will change it.
    Never(Cause),
}

impl<'a> Session<'a> {
    /// Fetches `missing`; results are in its order, whatever the threads did.
    fn run(&self, missing: &[&'a Artefact]) -> Result<Vec<Failure<'a>>> {
        let total: Option<u64> = missing.iter().map(|artefact| artefact.size).sum();
        let label = if missing.len() == 1 { "1 file".to_owned() } else { format!("{} files", missing.len()) };
        let whole = self.progress.begin(&label, total);
        let next = AtomicUsize::new(0);
        let work = || -> Result<Vec<(usize, Failure<'a>)>> {
            let mut failures = Vec::new();
            loop {
                let at = next.fetch_add(1, Ordering::Relaxed);
                let Some(artefact) = missing.get(at).copied() else { return Ok(failures) };
                match self.bring(artefact) {
                    Ok(None) => whole.advance(artefact.size.unwrap_or(0)),
                    Ok(Some(failure)) => failures.push((at, failure)),
                    Err(error) => {
                        // A full or broken disk: no file will do better.
                        next.store(missing.len(), Ordering::Relaxed);
                        return Err(error);
                    }
                }
            }
        };
        let mut failures = Vec::new();
        std::thread::scope(|scope| {
            let threads: Vec<_> = (0..self.options.connections.clamp(1, missing.len())).map(|_| scope.spawn(work)).collect();
            threads.into_iter().try_for_each(|thread| {
                failures.extend(thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))?);
                Ok::<_, crate::Error>(())
            })
        })?;
        if failures.is_empty() {
            whole.done();
        }
        failures.sort_by_key(|(at, _)| *at);
        Ok(failures.into_iter().map(|(_, failure)| failure).collect())
    }

    /// Brings one file, or says why it did not come. Errors are this machine's: its disk.
    fn bring(&self, artefact: &'a Artefact) -> Result<Option<Failure<'a>>> {
        let failed = |url: String, cause| Ok(Some(Failure { artefact, url: without_password(&url), cause }));
        let Some(digest) = artefact.sha256 else { return failed(from(&artefact.from), Cause::Unpinned) };
        let url = match (&artefact.from, &self.mirrors) {
            (Origin::Url { url }, _) => url.clone(),
            (Origin::Debian { repository, path }, Some(mirrors)) => mirrors.url(repository, path)?,
            (origin, None) => return failed(from(origin), Cause::Broken("no mirror is known".to_owned())),
        };
        let host = url.split('/').nth(2).unwrap_or_default().to_owned();
        if let Some(said) = self.unreachable().get(&host) {
            return failed(url, Cause::Broken(said.clone()));
        }
        let file = artefact.from.file_name();
        let mut partial = Partial::open(self.store, digest).context(|| format!("fetching {file}"))?;
        // While this one waited for the partial file, the process that had it may have finished the blob.
        if self.store.holds(artefact) {
            partial.temp.keep(false);
            return Ok(None);
        }
        let step = self.progress.begin(file, artefact.size);
        match self.tries(artefact, &url, &mut partial, &*step) {
            Ok(None) => {
                partial.temp.publish(&self.store.path(&digest)).context(|| format!("fetching {file}"))?;
                step.done();
                Ok(None)
            }
            Ok(Some(cause)) => {
                let wrong = matches!(cause, Cause::Wrong { .. });
                partial.temp.keep(!wrong && partial.out.passed() > 0);
                if let Cause::NoConnection(said) = &cause {
                    self.unreachable().insert(host, said.clone());
                }
                failed(url, cause)
            }
            Err(error) => {
                // A partial file would hold on to what little room is left.
                partial.temp.keep(false);
                Err(error.context(format!("fetching {file}")))
            }
        }
    }

    fn unreachable(&self) -> std::sync::MutexGuard<'_, BTreeMap<String, String>> {
        self.unreachable.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    /// Tries until the file is right or hope is gone; `None` is success.
    fn tries(&self, artefact: &Artefact, url: &str, partial: &mut Partial, step: &dyn Step) -> Result<Option<Cause>> {
        let mut left = self.options.tries.max(1);
        let mut pause = self.options.pause;
        loop {
            let before = partial.out.passed();
            let (cause, asked) = match self.attempt(artefact, url, partial, step)? {
                Try::Whole => return Ok(None),
                Try::Never(cause) => return Ok(Some(cause)),
                Try::Again(cause, asked) => (cause, asked),
            };
            left -= 1;
            if partial.out.passed() > before.saturating_add(PROGRESS) {
                (left, pause) = (self.options.tries.max(1), self.options.pause);
            }
            if left == 0 || asked.is_some_and(|asked| asked > LONGEST_PAUSE) {
                return Ok(Some(cause));
            }
            std::thread::sleep(asked.unwrap_or(pause));
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    /// One request, or none where the partial file is already as long as the whole.
    fn attempt(&self, artefact: &Artefact, url: &str, partial: &mut Partial, step: &dyn Step) -> Result<Try> {
        let limit = artefact.size.unwrap_or(UNSIZED_LIMIT);
        let mut resumed = partial.out.passed();
        if resumed > limit {
            partial.restart()?;
            resumed = 0;
        }
        step.restart(resumed);
        let mut complete = resumed > 0 && artefact.size == Some(resumed);
        if !complete {
            // The bytes as they are: a transfer encoding would be undone nowhere.
            let mut request = self.client.get(url).header(ACCEPT_ENCODING, "identity");
            if resumed > 0 {
                request = request.header(RANGE, format!("bytes={resumed}-"));
            }
            let response = match request.send() {
                Ok(response) => response,
                Err(error) if error.is_builder() || error.is_redirect() => return Ok(Try::Never(Cause::Broken(chain(error)))),
                Err(error) if error.is_connect() => return Ok(Try::Again(Cause::NoConnection(chain(error)), None)),
                Err(error) => return Ok(Try::Again(Cause::Broken(chain(error)), None)),
            };
            match response.status() {
                StatusCode::OK => {
                    if resumed > 0 {
                        partial.restart()?;
                        step.restart(0);
                        resumed = 0;
                    }
                }
                StatusCode::PARTIAL_CONTENT if resumed > 0 && starts_at(response.headers(), resumed) => {}
                StatusCode::PARTIAL_CONTENT | StatusCode::RANGE_NOT_SATISFIABLE if resumed > 0 => {
                    partial.restart()?;
                    return Ok(Try::Again(Cause::Broken("the server does not serve the rest of a file".to_owned()), Some(Duration::ZERO)));
                }
                status => return Ok(refusal(status, &response, url)),
            }
            complete = response.content_length().is_some();
            match partial.receive(response, limit, step)? {
                Received::All => {}
                Received::TooMuch => return Ok(Try::Never(Cause::Wrong { sha256: None, size: limit + 1 })),
                Received::Broken(said) => return Ok(Try::Again(Cause::Broken(said), None)),
            }
        }
        let size = partial.out.passed();
        let digest = partial.out.digest();
        if Some(digest) == artefact.sha256 {
            return Ok(Try::Whole);
        }
        if resumed > 0 {
            // What was there may be another file's beginning, or what a power cut left.
            partial.restart()?;
            return Ok(Try::Again(Cause::Wrong { sha256: Some(digest), size }, Some(Duration::ZERO)));
        }
        if !complete && artefact.size.is_some_and(|wanted| size < wanted) {
            // Without a length, an answer that ends early looks like one that was cut off.
            return Ok(Try::Again(Cause::Broken(format!("the connection ended after {size} bytes")), None));
        }
        Ok(Try::Never(Cause::Wrong { sha256: Some(digest), size }))
    }
}

/// What an answer without the file means.
fn refusal(status: StatusCode, response: &Response, url: &str) -> Try {
    let mut said = format!("HTTP {status}");
    if response.url().as_str() != url {
        said = format!("{said} from {}", without_password(response.url().as_str()));
    }
    let cause = Cause::Status { code: status.as_u16(), said };
    let again = status.is_server_error() || matches!(status, StatusCode::TOO_MANY_REQUESTS | StatusCode::REQUEST_TIMEOUT);
    // The other form of Retry-After, a date, would need this machine's clock to be right.
    let pause = response.headers().get(RETRY_AFTER).and_then(|value| value.to_str().ok()?.trim().parse().ok()).map(Duration::from_secs);
    if again { Try::Again(cause, pause) } else { Try::Never(cause) }
}

/// Whether `Content-Range` says that the answer goes on where the partial file ends (RFC 9110 section 14.4).
fn starts_at(headers: &HeaderMap, offset: u64) -> bool {
    let range = headers.get(CONTENT_RANGE).and_then(|value| value.to_str().ok());
    range.and_then(|range| range.strip_prefix("bytes ")?.split('-').next()?.parse().ok()) == Some(offset)
}

/// How the body of an answer ended.
enum Received {
    All,
    TooMuch,
    Broken(String),
}

/// A download under way: the file in `tmp/`, and the hash of everything in it.
struct Partial {
    temp: Temp,
    out: Hashing<fs::File>,
}

impl Partial {
    /// The partial file of `digest`, with what an earlier fetch left in it already hashed.
    fn open(store: &Store, digest: Digest) -> Result<Partial> {
        let temp = Temp::partial(&store.tmp, &digest)?;
        let mut out = Hashing::new(temp.file().try_clone()?);
        std::io::copy(&mut out, &mut std::io::sink())?;
        Ok(Partial { temp, out })
    }

    /// Begins anew with an empty file.
    fn restart(&mut self) -> Result<()> {
        let mut file = self.temp.file().try_clone()?;
        file.set_len(0)?;
        file.rewind()?;
        self.out = Hashing::new(file);
        Ok(())
    }

    /// Appends `body`, at most until the file is longer than `limit` bytes. Errors are the disk's; the server's are a [`Received`].
    fn receive(&mut self, mut body: impl Read, limit: u64, step: &dyn Step) -> Result<Received> {
        let mut buffer = vec![0; 128 << 10];
        loop {
            let count = match body.read(&mut buffer) {
                Ok(0) => return Ok(Received::All),
                Ok(count) => count,
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
                Err(error) => return Ok(Received::Broken(format!("{error} after {} bytes", self.out.passed()))),
            };
            if self.out.passed() + count as u64 > limit {
                return Ok(Received::TooMuch);
            }
            self.out.write_all(&buffer[..count])?;
            step.advance(count as u64);
        }
    }
}
