//! What is served: a path for each source, `/health` and `/metrics`.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use entrypoint::Secret;
use serde_json::json;

use crate::delivery::Counts;
use crate::post::Mattermost;
use crate::reconcile;
use crate::server::{Answer, Head, Service};
use crate::source::Source;
use crate::spool::{Accepted, Refused, Spool};

/// An alert that waits longer than this is stuck.
const STUCK: Duration = Duration::from_secs(600);
/// Seconds.
const DAY: i64 = 24 * 60 * 60;

/// The parts that requests need.
pub struct Gateway {
    /// What each source proves itself with; without one, nothing is taken from it.
    pub secrets: BTreeMap<Source, Secret>,
    /// Where alerts go.
    pub spool: Arc<Spool>,
    /// Where they are posted to.
    pub mattermost: Arc<Mattermost>,
    /// What delivery counts.
    pub delivered: Arc<Counts>,
    /// What asking SonarQube counts, where it is asked.
    pub reconciled: Option<Arc<reconcile::Counts>>,
    /// When the certificate that is shown ends, in seconds since 1970; none without TLS.
    pub certificate: Option<u64>,
    /// What was taken since the start.
    pub taken: Taken,
}

/// What was counted since the start.
#[derive(Debug, Default)]
pub struct Taken {
    kept: AtomicU64,
    known: AtomicU64,
    unwanted: AtomicU64,
    forged: AtomicU64,
    failed: AtomicU64,
}

impl Service for Gateway {
    fn head(&self, head: &Head) -> Result<(), Answer> {
        match (head.method.as_str(), head.path.as_str(), source(head)) {
            ("GET", "/health", _) => Err(self.health()),
            ("GET", "/metrics", _) => {
                Err(Answer { status: "200 OK", kind: "text/plain; version=0.0.4", location: None, body: self.metrics() })
            }
            ("POST", _, Some(source)) if !self.secrets.contains_key(&source) => {
                Err(Answer::error("404 Not Found", &format!("no secret of {} is set", source.name())))
            }
            // The body of somebody who proves nothing is not even read.
            ("POST", _, Some(source)) if head.header(source.proof()).is_none() => {
                Err(self.forged(&format!("there is no {}", source.proof())))
            }
            ("POST", _, Some(_)) => Ok(()),
            (_, "/health" | "/metrics", _) | (.., Some(_)) => Err(Answer::error("405 Method Not Allowed", "not with this method")),
            _ => Err(Answer::error("404 Not Found", "not found")),
        }
    }

    fn body(&self, head: &Head, body: &[u8]) -> Answer {
        let Some((source, secret)) = source(head).and_then(|source| Some((source, self.secrets.get(&source)?))) else {
            return Answer::error("404 Not Found", "not found");
        };
        if !source.is_proven(secret.expose().as_bytes(), body, head.header(source.proof()).unwrap_or_default()) {
            return self.forged(&format!("{} is not right", source.proof()));
        }
        let alert = match source.read(body) {
            Ok(alert) => alert,
            Err(what) => return Answer::error("400 Bad Request", what),
        };
        let count = |counter: &AtomicU64| _ = counter.fetch_add(1, Ordering::Relaxed);
        let said = match self.spool.accept(&alert) {
            Ok(Accepted::Kept(number)) => {
                count(&self.taken.kept);
                println!("alert-gateway: alert {number} is kept: {}", alert.summary);
                "kept"
            }
            Ok(Accepted::Known) => {
                count(&self.taken.known);
                "known"
            }
            Ok(Accepted::Unwanted) => {
                count(&self.taken.unwanted);
                "unwanted"
            }
            Err(refused) => {
                count(&self.taken.failed);
                let (status, what) = match refused {
                    Refused::Full => ("503 Service Unavailable", "too many alerts wait".to_owned()),
                    Refused::Disk(error) if error.kind() == std::io::ErrorKind::StorageFull => {
                        ("507 Insufficient Storage", error.to_string())
                    }
                    Refused::Disk(error) => ("500 Internal Server Error", error.to_string()),
                };
                eprintln!("alert-gateway: an alert is not kept: {what}");
                return Answer::error(status, "the alert is not kept");
            }
        };
        Answer::json("200 OK", &json!({ "alert": said }))
    }
}

/// Whose path it is.
fn source(head: &Head) -> Option<Source> {
    Source::ALL.into_iter().find(|source| head.path.strip_prefix('/') == Some(source.name()))
}

impl Gateway {
    fn forged(&self, what: &str) -> Answer {
        self.taken.forged.fetch_add(1, Ordering::Relaxed);
        Answer::error("401 Unauthorized", what)
    }

    /// 200 as long as alerts are taken: a start anew mends no queue.
    fn health(&self) -> Answer {
        let status = self.spool.status();
        let mut body = json!({
            "status": if status.oldest > STUCK { "stuck" } else { "ok" },
            "reconciliation": if self.reconciled.is_some() { "on" } else { "no token" },
            "waiting": status.waiting,
            "oldest_seconds": status.oldest.as_secs(),
            "dead_letters": status.dead,
            "certificate_days": self.certificate_seconds().map(|seconds| seconds.div_euclid(DAY)),
        });
        for source in Source::ALL {
            let stands = match (self.secrets.contains_key(&source), self.mattermost.is_known(source)) {
                (false, _) => "no secret",
                (true, false) => "on, and its webhook is not known yet: alerts are kept",
                (true, true) => "on",
            };
            body[source.name()] = stands.into();
        }
        Answer::json("200 OK", &body)
    }

    /// How long the certificate is still valid; less than zero where it has ended.
    fn certificate_seconds(&self) -> Option<i64> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        Some(self.certificate?.cast_signed() - now.cast_signed())
    }

    /// Prometheus' text format.
    fn metrics(&self) -> String {
        let status = self.spool.status();
        let of = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let (taken, delivered) = (&self.taken, &self.delivered);
        let asked = |counter: fn(&reconcile::Counts) -> &AtomicU64| self.reconciled.as_ref().map_or(0, |counts| of(counter(counts)));
        let lines = [
            ("received_total{answer=\"kept\"}", of(&taken.kept)),
            ("received_total{answer=\"known\"}", of(&taken.known)),
            ("received_total{answer=\"unwanted\"}", of(&taken.unwanted)),
            ("received_total{answer=\"forged\"}", of(&taken.forged)),
            ("received_total{answer=\"failed\"}", of(&taken.failed)),
            ("posts_total{outcome=\"posted\"}", of(&delivered.posted)),
            ("posts_total{outcome=\"refused\"}", of(&delivered.refused)),
            ("posts_total{outcome=\"failed\"}", of(&delivered.failed)),
            ("reconciled_total", asked(|counts| &counts.found)),
            ("reconcile_failures_total", asked(|counts| &counts.failed)),
            ("waiting", status.waiting as u64),
            ("oldest_seconds", status.oldest.as_secs()),
            ("dead_letters", status.dead as u64),
        ];
        let line = |name: &str, value: i64| format!("alert_gateway_{name} {value}\n");
        let certificate = self.certificate_seconds().map(|seconds| line("certificate_seconds", seconds));
        lines.into_iter().map(|(name, value)| line(name, value.cast_signed())).chain(certificate).collect()
    }
}
