//! How long to wait before a request is sent again.

use std::time::Duration;

use reqwest::header::{HeaderMap, RETRY_AFTER};

/// What a number in `X-RateLimit-Reset` above this has to be: a point in time, not a duration.
const EPOCH: u64 = 1_000_000;

/// The pause that the server asks for, in seconds: `Retry-After`, or `X-RateLimit-Reset`, which Mattermost's rate limiter sends.
///
/// The other form of `Retry-After`, a date, and a reset that is a point in time would need this machine's clock to be right.
pub fn asked(headers: &HeaderMap) -> Option<Duration> {
    let seconds = |name: &str| headers.get(name)?.to_str().ok()?.trim().parse::<u64>().ok();
    seconds(RETRY_AFTER.as_str()).or_else(|| seconds("x-ratelimit-reset")).filter(|seconds| *seconds < EPOCH).map(Duration::from_secs)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_server_is_believed_where_it_speaks_of_seconds() {
        for (headers, expected) in [
            (vec![("retry-after", "3")], Some(3)),
            (vec![("x-ratelimit-reset", "1")], Some(1)),
            (vec![("x-ratelimit-reset", "9"), ("retry-after", "2")], Some(2)),
            (vec![("retry-after", "Wed, 21 Oct 2026 07:28:00 GMT")], None),
            (vec![("x-ratelimit-reset", "1795319386")], None),
            (vec![], None),
        ] {
            let map = headers.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap())).collect();
            assert_eq!(asked(&map), expected.map(Duration::from_secs), "{headers:?}");
        }
    }
}
