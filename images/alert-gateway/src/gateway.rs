//! What is served: `/sonarqube`, `/health` and `/metrics`.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use entrypoint::Secret;
use serde_json::json;

use crate::delivery::Counts;
use crate::post::Mattermost;
use crate::reconcile;
use crate::server::{Answer, Head, Service};
use crate::sonarqube;
use crate::spool::{Accepted, Refused, Spool};

/// An alert that waits longer than this is stuck.
const STUCK: Duration = Duration::from_secs(600);

/// The parts that requests need.
pub struct Gateway {
    /// What SonarQube signs with; without one, nothing is taken.
    pub sonarqube: Option<Secret>,
    /// Where alerts go.
    pub spool: Arc<Spool>,
    /// Where they are posted to.
    pub mattermost: Arc<Mattermost>,
    /// What delivery counts.
    pub delivered: Arc<Counts>,
    /// What asking SonarQube counts, where it is asked.
    pub reconciled: Option<Arc<reconcile::Counts>>,
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
        match (head.method.as_str(), head.path.as_str()) {
            ("GET", "/health") => Err(self.health()),
            ("GET", "/metrics") => {
                Err(Answer { status: "200 OK", kind: "text/plain; version=0.0.4", location: None, body: self.metrics() })
            }
            ("POST", "/sonarqube") if self.sonarqube.is_none() => Err(Answer::error("404 Not Found", "no secret of SonarQube is set")),
            // An unsigned body is not even read.
            ("POST", "/sonarqube") if head.header(sonarqube::SIGNATURE).is_none() => Err(self.forged("the body is not signed")),
            ("POST", "/sonarqube") => Ok(()),
            (_, "/health" | "/metrics" | "/sonarqube") => Err(Answer::error("405 Method Not Allowed", "not with this method")),
            _ => Err(Answer::error("404 Not Found", "not found")),
        }
    }

    fn body(&self, head: &Head, body: &[u8]) -> Answer {
        let signature = head.header(sonarqube::SIGNATURE).unwrap_or_default();
        if !self.sonarqube.as_ref().is_some_and(|secret| sonarqube::is_signed(secret.expose().as_bytes(), body, signature)) {
            return self.forged("the signature is not that of the body");
        }
        let alert = match sonarqube::read(body) {
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

impl Gateway {
    fn forged(&self, what: &str) -> Answer {
        self.taken.forged.fetch_add(1, Ordering::Relaxed);
        Answer::error("401 Unauthorized", what)
    }

    /// 200 as long as alerts are taken: a start anew mends no queue.
    fn health(&self) -> Answer {
        let status = self.spool.status();
        let body = json!({
            "status": if status.oldest > STUCK { "stuck" } else { "ok" },
            "sonarqube": if self.sonarqube.is_some() { "on" } else { "no secret" },
            "reconciliation": if self.reconciled.is_some() { "on" } else { "no token" },
            "webhook": if self.mattermost.is_known() { "known" } else { "not known yet: alerts are kept" },
            "waiting": status.waiting,
            "oldest_seconds": status.oldest.as_secs(),
            "dead_letters": status.dead,
        });
        Answer::json("200 OK", &body)
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
        lines.map(|(name, value)| format!("alert_gateway_{name} {value}\n")).concat()
    }
}
