//! Makes good what never arrived: SonarQube sends a webhook once, and none for an analysis that ends while it is being killed. So it is
//! asked now and then how each branch's gate stands, and where that is not what came last, an alert is made of it.
//!
//! A difference counts only when it is seen in two rounds: a webhook that is on its way comes in between. What failed before a gateway
//! first opened its folder is old news. Branches are asked for, pull requests are not.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use entrypoint::address::Address;
use entrypoint::{Secret, http, secret};
use serde_json::{Value, json};

use crate::alert::{Key, Verdict};
use crate::certificate::since_1970;
use crate::sonarqube::{self, lost, text};
use crate::spool::{self, Spool};

/// One answer of SonarQube takes no longer.
const ASK: Duration = Duration::from_secs(20);
/// Projects in one answer.
const PAGE: u64 = 100;
/// More projects than this are not asked for: 10,000 is also where SonarQube's search ends.
const PAGES: u64 = 100;

/// SonarQube's web API, as this asks it.
pub struct Sonarqube {
    /// Its address, without a slash at the end.
    pub url: String,
    /// File with a token of an account that may browse the projects; read at each round.
    pub token: PathBuf,
    /// Whom to believe.
    pub client: Arc<rustls::ClientConfig>,
}

/// What was counted since the start.
#[derive(Debug, Default)]
pub struct Counts {
    /// Alerts that were made because their webhook never came.
    pub found: AtomicU64,
    /// Rounds in which SonarQube could not be asked.
    pub failed: AtomicU64,
}

/// What was seen in the round before: place → how SonarQube says that its gate stands.
pub type Seen = HashMap<Key, Verdict>;

/// Asks every `period` until `stop` is set and the spool is woken.
pub fn run(spool: &Spool, sonarqube: &Sonarqube, period: Duration, counts: &Counts, stop: &AtomicBool) {
    let mut seen = Seen::new();
    let mut told = false;
    let mut asked = Instant::now();
    while !stop.load(Ordering::SeqCst) {
        let left = period.saturating_sub(asked.elapsed());
        if !left.is_zero() {
            spool.wait(left);
            continue;
        }
        asked = Instant::now();
        match round(spool, sonarqube, &mut seen) {
            Ok(found) => {
                told = false;
                counts.found.fetch_add(found, Ordering::Relaxed);
            }
            Err(why) => {
                counts.failed.fetch_add(1, Ordering::Relaxed);
                // Said once, not every few minutes of a night.
                if !std::mem::replace(&mut told, true) {
                    eprintln!("alert-gateway: SonarQube cannot be asked for what never arrived: {why}");
                }
            }
        }
    }
}

/// Asks once. Says how many alerts were made.
///
/// # Errors
/// In words, where SonarQube does not answer as it should; what was found before that stays.
pub fn round(spool: &Spool, sonarqube: &Sonarqube, seen: &mut Seen) -> Result<u64, String> {
    let token = authorization(&sonarqube.token)?;
    let mut now = Seen::new();
    let mut found = 0;
    for project in sonarqube.projects(&token)? {
        let Some(key) = text(&project, "/key") else { continue };
        let listed = sonarqube.get(&token, &format!("/api/project_branches/list?project={}", escaped(key)))?;
        for branch in listed["branches"].as_array().map_or(&[][..], Vec::as_slice) {
            let Some(branch) = Branch::of(&project, branch, spool)? else { continue };
            now.insert(branch.place, branch.verdict);
            if seen.get(&branch.place) != Some(&branch.verdict) {
                continue;
            }
            let payload = branch.payload(&sonarqube.url, &sonarqube.conditions(&token, &branch)?);
            // In the meantime it may have come.
            let Some(alert) = lost(&payload, SystemTime::now()) else { continue };
            if !branch.differs(spool)? {
                continue;
            }
            match spool.accept(&alert) {
                Ok(spool::Accepted::Kept(number)) => {
                    found += 1;
                    println!("alert-gateway: alert {number} is kept: {}", alert.summary);
                }
                Ok(_) => {}
                Err(refused) => return Err(format!("an alert is not kept: {refused:?}")),
            }
        }
    }
    *seen = now;
    Ok(found)
}

/// A branch whose gate stands otherwise than what came last says.
struct Branch<'a> {
    place: Key,
    verdict: Verdict,
    project: &'a Value,
    branch: &'a Value,
}

impl<'a> Branch<'a> {
    fn of(project: &'a Value, branch: &'a Value, spool: &Spool) -> Result<Option<Self>, String> {
        let verdict = match text(branch, "/status/qualityGateStatus") {
            Some("ERROR") => Verdict::Bad,
            Some("OK") => Verdict::Good,
            _ => return Ok(None),
        };
        let (Some(key), Some(name)) = (text(project, "/key"), text(branch, "/name")) else { return Ok(None) };
        let place = sonarqube::place(key, text(branch, "/type").unwrap_or_default(), name);
        let found = Branch { place, verdict, project, branch };
        Ok(found.differs(spool)?.then_some(found))
    }

    fn differs(&self, spool: &Spool) -> Result<bool, String> {
        Ok(match (spool.gate(self.place).map_err(|error| error.to_string())?, self.verdict) {
            // Nothing is known of it: only a failure since the beginning is news.
            (None, Verdict::Good) => false,
            (None, Verdict::Bad) => text(self.branch, "/analysisDate").and_then(seconds).is_none_or(|at| at >= spool.since()),
            (Some(known), stands) => known != stands,
        })
    }

    fn payload(&self, url: &str, conditions: &Value) -> Value {
        let key = text(self.project, "/key").unwrap_or_default();
        let name = text(self.branch, "/name").unwrap_or_default();
        json!({
            "status": "SUCCESS",
            "taskId": "lost",
            "analysedAt": self.branch["analysisDate"],
            "project": { "key": key, "name": self.project["name"] },
            "branch": {
                "name": name,
                "type": self.branch["type"],
                "url": format!("{url}/dashboard?id={}&branch={}", escaped(key), escaped(name)),
            },
            "qualityGate": { "status": self.branch["status"]["qualityGateStatus"], "conditions": conditions },
        })
    }
}

impl Sonarqube {
    fn projects(&self, token: &Secret) -> Result<Vec<Value>, String> {
        let mut all = Vec::new();
        for page in 1..=PAGES {
            let answer = self.get(token, &format!("/api/components/search?qualifiers=TRK&ps={PAGE}&p={page}"))?;
            let projects = answer["components"].as_array().ok_or("its list of projects has no components")?;
            all.extend(projects.iter().cloned());
            if projects.is_empty() || page * PAGE >= answer["paging"]["total"].as_u64().unwrap_or_default() {
                break;
            }
        }
        Ok(all)
    }

    /// The conditions of a gate, in the words of the webhook.
    fn conditions(&self, token: &Secret, branch: &Branch<'_>) -> Result<Value, String> {
        let of = |value, pointer| escaped(text(value, pointer).unwrap_or_default());
        let (project, name) = (of(branch.project, "/key"), of(branch.branch, "/name"));
        let answer = self.get(token, &format!("/api/qualitygates/project_status?projectKey={project}&branch={name}"))?;
        let all = answer.pointer("/projectStatus/conditions").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
        let words = |condition: &Value| {
            let operator = match text(condition, "/comparator") {
                Some("LT") => "LESS_THAN",
                Some("GT") => "GREATER_THAN",
                _ => "",
            };
            json!({
                "metric": condition["metricKey"],
                "operator": operator,
                "value": condition["actualValue"],
                "status": condition["status"],
                "errorThreshold": condition["errorThreshold"],
            })
        };
        Ok(all.iter().map(words).collect())
    }

    fn get(&self, token: &Secret, path: &str) -> Result<Value, String> {
        let what = path.split('?').next().unwrap_or(path);
        let url = format!("{}{path}", self.url);
        let address = Address::parse(&url).ok_or_else(|| format!("{} is no web address", self.url))?;
        let end = Instant::now() + ASK;
        let answer = address.ask(&self.client, end, |connection, host| http::get_as(connection, host, &address.path, token));
        match answer.map_err(|why| format!("{what}: {why}"))? {
            answer if answer.status == 200 => {
                serde_json::from_str(&answer.body).map_err(|error| format!("{what}: the answer is not JSON: {error}"))
            }
            answer if answer.status == 401 => Err(format!("{what}: 401, so the token is not valid any more")),
            answer if answer.status == 403 => Err(format!("{what}: 403, so the token's account may not browse the project")),
            answer => Err(format!("{what}: status {}", answer.status)),
        }
    }
}

/// The token as Basic user name, without a password: 9.9 takes nothing else.
fn authorization(token: &std::path::Path) -> Result<Secret, String> {
    let token = secret::read_value(token, 10).map_err(|error| error.to_string())?;
    Ok(Secret::new(format!("Basic {}", BASE64.encode(format!("{}:", token.expose())))))
}

/// A value of a query: percent-encoded but for what RFC 3986 calls unreserved.
fn escaped(value: &str) -> String {
    let mut text = String::new();
    for byte in value.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => text.push(char::from(byte)),
            _ => text += &format!("%{byte:02X}"),
        }
    }
    text
}

/// Seconds since 1970 of `2026-11-22T16:44:12+0100`.
fn seconds(time: &str) -> Option<u64> {
    let number = |range: std::ops::Range<usize>| time.get(range)?.parse::<i64>().ok();
    let (year, month, day) = (number(0..4)?, number(5..7)?, number(8..10)?);
    let (hour, minute, second) = (number(11..13)?, number(14..16)?, number(17..19)?);
    let sign = match time.get(19..20)? {
        "+" => 1,
        "-" => -1,
        _ => return None,
    };
    let ahead = sign * (number(20..22)? * 3600 + number(22..24)? * 60);
    u64::try_from(since_1970(year, month, day) + hour * 3600 + minute * 60 + second - ahead).ok()
}

#[cfg(test)]
mod tests;
