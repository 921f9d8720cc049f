//! Files that did not come, told so that a person can bring them: what, from where, what came instead, the ways out.

use crate::digest::Digest;
use crate::error::{Class, Error};
use crate::lock::{Artefact, Kind, Origin};
use crate::progress::human;

/// Where the lock knows no size, so little is a web page rather than a release.
const PAGE: u64 = 4 << 20;

/// One file that did not come.
#[derive(Debug)]
pub struct Failure<'a> {
    /// What was wanted.
    pub artefact: &'a Artefact,
    /// Where it was looked for.
    pub url: String,
    /// Why it did not come.
    pub cause: Cause,
}

/// Why a file did not come.
#[derive(Debug)]
pub enum Cause {
    /// The server answered with an error status.
    Status {
        /// Such as 404.
        code: u16,
        /// For people.
        said: String,
    },
    /// The server, or a proxy, sent something else.
    Wrong {
        /// What it hashes to; absent where reading stopped at the limit.
        sha256: Option<Digest>,
        /// Bytes received.
        size: u64,
    },
    /// The host did not take a connection.
    NoConnection(String),
    /// The answer broke off, or was none.
    Broken(String),
    /// The lock names no SHA-256 yet.
    Unpinned,
}

/// The one error for all `failures` of `tried` files.
pub fn report(failures: &[Failure], tried: usize) -> Error {
    let all_wrong = failures.iter().all(|failure| matches!(failure.cause, Cause::Wrong { .. }));
    let class = if all_wrong { Class::HashMismatch } else { Class::Fetch };
    let what = match failures {
        [one] if all_wrong => format!("{} does not match the lock", one.artefact.from.file_name()),
        [one] => format!("{} could not be fetched", one.artefact.from.file_name()),
        several if all_wrong => format!("{} of {tried} files do not match the lock", several.len()),
        several => format!("{} of {tried} files could not be fetched", several.len()),
    };
    let mut error = Error::new(class, what);
    for failure in failures {
        for line in failure.lines(failures.len() > 1) {
            error = error.detail(line);
        }
    }
    if tried > failures.len() {
        error = error.detail(format!("in the store now: {} of {tried}", tried - failures.len()));
    }
    error.hint(ways_out(failures).join("\nhint: "))
}

impl Failure<'_> {
    fn lines(&self, titled: bool) -> Vec<String> {
        let (title, indent) = if titled { (Some(self.artefact.from.file_name().to_owned()), "  ") } else { (None, "") };
        let mut lines = vec![format!("from      {}", self.url)];
        if let Some(sha256) = self.artefact.sha256 {
            let size = self.artefact.size.map(|size| format!(" ({})", human(size))).unwrap_or_default();
            lines.push(format!("expected  sha256 {sha256}{size}"));
        }
        lines.push(format!("received  {}", self.received()));
        lines.extend(self.remark().map(|remark| format!("          {remark}")));
        title.into_iter().chain(lines.into_iter().map(|line| format!("{indent}{line}"))).collect()
    }

    fn received(&self) -> String {
        match &self.cause {
            Cause::Status { said, .. } if self.left_the_pool() => format!("{said}: this version has left the pool"),
            Cause::Status { said, .. } | Cause::NoConnection(said) | Cause::Broken(said) => said.clone(),
            Cause::Unpinned => "nothing: the lock names no SHA-256 until the file's signature was verified".to_owned(),
            Cause::Wrong { sha256: None, size } => format!("{size} bytes and more"),
            Cause::Wrong { sha256: Some(sha256), size } => format!("sha256 {sha256} ({})", human(*size)),
        }
    }

    fn remark(&self) -> Option<String> {
        match self.cause {
            Cause::Wrong { sha256: Some(_), size } if self.artefact.size.map_or(size < PAGE, |wanted| wanted != size) => {
                Some(format!("{} is not {}; a proxy may have answered; the file was not kept", human(size), self.kind()))
            }
            Cause::Wrong { .. } => Some("the file was not kept".to_owned()),
            _ => None,
        }
    }

    fn kind(&self) -> &'static str {
        match self.artefact.kind {
            Kind::Deb => "this package",
            Kind::Release => "a release",
            Kind::Plugin => "this plugin",
        }
    }

    fn refused(&self) -> Option<&str> {
        match &self.cause {
            Cause::NoConnection(said) => Some(said),
            _ => None,
        }
    }

    fn left_the_pool(&self) -> bool {
        matches!((&self.cause, &self.artefact.from), (Cause::Status { code: 404, .. }, Origin::Debian { .. }))
    }
}

/// What a person can do, without repeating it for each file.
fn ways_out(failures: &[Failure]) -> Vec<String> {
    let mut ways = Vec::new();
    let gone: Vec<&str> = failures.iter().filter(|failure| failure.left_the_pool()).map(|failure| failure.artefact.name.as_str()).collect();
    if !gone.is_empty() {
        let names = gone.join(" ");
        ways.push(format!("`cargo xtask images lock --update {names}` takes what the archive has now"));
        ways.push("--debian-archive URL names an archive addressed by time that still has the locked version".to_owned());
    }
    let unpinned = failures.iter().filter(|failure| matches!(failure.cause, Cause::Unpinned));
    ways.extend(unpinned.map(|failure| format!("`cargo xtask images lock --update {}` fetches and verifies it", failure.artefact.name)));
    let refused: Vec<&str> = failures.iter().filter_map(Failure::refused).collect();
    let (untrusted, unreachable): (Vec<&str>, Vec<&str>) = refused.into_iter().partition(|said| said.contains("certificate"));
    if !untrusted.is_empty() {
        ways.push("SSL_CERT_FILE=FILE names the CA certificates to trust, where a company's proxy has its own".to_owned());
    }
    if !unreachable.is_empty() {
        ways.push("http_proxy and https_proxy name a proxy, where there is no other way out".to_owned());
    }
    let others: Vec<&Failure> = failures.iter().filter(|failure| !failure.left_the_pool()).collect();
    if let Some(first) = others.first() {
        ways.push(match failures {
            [_] => format!("`cargo xtask images add {}` takes the file from a disk", first.artefact.from.file_name()),
            _ => "`cargo xtask images add FILE…` takes files from a disk".to_owned(),
        });
    }
    if others.iter().any(|failure| matches!(failure.artefact.from, Origin::Debian { .. })) {
        ways.push("--debian-mirror URL names another mirror".to_owned());
    }
    if others.iter().any(|failure| failure.artefact.kind == Kind::Release && failure.artefact.name.starts_with("mattermost")) {
        ways.push("--mattermost FILE builds from a release file that is at hand".to_owned());
    }
    ways
}
