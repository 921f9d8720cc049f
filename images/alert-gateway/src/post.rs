//! One post to an incoming webhook of Mattermost, and what its answer means.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use entrypoint::address::Address;
use entrypoint::{http, secret};

use crate::source::Source;

/// A post takes no longer, from the name's look-up to the answer's last byte. (The look-up itself has the resolver's own limit.)
pub const POST: Duration = Duration::from_secs(10);
/// What a server may ask for with `Retry-After`; more is taken as this.
const LONGEST_WAIT: Duration = Duration::from_secs(300);

/// What became of a post.
#[derive(Debug, PartialEq, Eq)]
pub enum Outcome {
    /// 200 and `ok`.
    Posted,
    /// 400, 403 or 404: no retry mends it. (A deleted hook, a locked channel, a channel that is gone.)
    Refused(u16),
    /// Anything else may mend itself.
    Retry {
        /// What happened, without the webhook's address.
        why: String,
        /// What the server asked for.
        after: Option<Duration>,
        /// Whether other alerts of this source would fare alike: nobody answered, or there are too many.
        all: bool,
    },
}

/// Where the webhooks' addresses are, and whom to believe.
pub struct Mattermost {
    /// Of each source a file with the address; it may come later, and change.
    pub files: BTreeMap<Source, PathBuf>,
    /// None where the certificates could not be read; then `https` addresses fail.
    pub client: Arc<rustls::ClientConfig>,
}

impl Mattermost {
    /// Whether there is an address for the alerts of `source`.
    pub fn is_known(&self, source: Source) -> bool {
        self.files.get(&source).is_some_and(|file| file.exists())
    }

    /// Posts `body` to the webhook of `source`.
    pub fn post(&self, source: Source, body: &[u8]) -> Outcome {
        match self.try_post(source, body) {
            Ok(answer) => verdict(&answer),
            Err(why) => Outcome::Retry { why, after: None, all: true },
        }
    }

    fn try_post(&self, source: Source, body: &[u8]) -> Result<http::Answer, String> {
        let file = self.files.get(&source).ok_or_else(|| format!("no webhook is set for {}", source.name()))?;
        let value = secret::read_value(file, 10).map_err(|error| error.to_string())?;
        let hook = Address::parse(value.expose())
            .filter(|hook| hook.path != "/")
            .ok_or_else(|| format!("{} does not hold a web address", file.display()))?;
        hook.ask(&self.client, Instant::now() + POST, |connection, host| http::post(connection, host, &hook.path, body))
    }
}

fn verdict(answer: &http::Answer) -> Outcome {
    match answer.status {
        200 if answer.body.trim() == "ok" => Outcome::Posted,
        400 | 403 | 404 => Outcome::Refused(answer.status),
        status => {
            let after = answer.header("Retry-After").and_then(|seconds| seconds.parse().ok());
            let after = after.map(|seconds| Duration::from_secs(seconds).min(LONGEST_WAIT));
            // The body is not told: Mattermost's errors repeat the hook's id.
            let why = if status == 200 { "200, and not Mattermost's ok".to_owned() } else { format!("status {status}") };
            Outcome::Retry { why, after, all: matches!(status, 429 | 501..=504) }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_no_retry_mends_is_refused() {
        let answer =
            |status: u16, head: &str, body: &str| verdict(&http::Answer { status, head: format!("x\r\n{head}"), body: body.to_owned() });
        assert_eq!(answer(200, "", "ok"), Outcome::Posted);
        for status in [400, 403, 404] {
            assert_eq!(answer(status, "", "ok"), Outcome::Refused(status));
        }
        for status in [200, 204, 301, 302, 401, 407, 408, 413, 429, 500, 501, 502, 503, 504] {
            let Outcome::Retry { why, after, .. } = answer(status, "Retry-After: 9999", "the id of the hook") else { panic!("{status}") };
            assert_eq!(after, Some(LONGEST_WAIT));
            assert!(why.contains(&status.to_string()) && !why.contains("hook"), "{why}");
        }
    }
}
