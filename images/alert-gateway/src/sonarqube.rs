//! SonarQube's webhook: what it signs, what it says, and what a channel is told.
//!
//! Seen on 9.9 and 25.1; the recorded requests are in `tests/data`. Fields come and go between versions, so everything but the
//! project's key may be missing or of another type.

use std::time::SystemTime;

use hmac::{Hmac, KeyInit, Mac};
use serde_json::{Value, json};
use sha2::Sha256;

use crate::alert::{Alert, Key, Verdict, from_hex};
use crate::markdown::{code, link, plain};
use crate::source::Source;

/// The header with the signature, in lower case: hexadecimal HMAC-SHA256 of the body's bytes as they came.
pub const SIGNATURE: &str = "x-sonar-webhook-hmac-sha256";

/// Failed conditions that are listed; the others are counted.
const CONDITIONS: usize = 10;

/// Whether `signature` is that of `body`, compared in constant time.
pub fn is_signed(secret: &[u8], body: &[u8], signature: &str) -> bool {
    let (Some(claimed), Ok(mut mac)) = (from_hex::<32>(signature), Hmac::<Sha256>::new_from_slice(secret)) else { return false };
    mac.update(body);
    mac.verify_slice(&claimed).is_ok()
}

/// Reads a signed body.
///
/// # Errors
/// What is wrong with it, where it is not JSON or names no project.
pub fn read(body: &[u8]) -> Result<Alert, &'static str> {
    let payload: Value = serde_json::from_slice(body).map_err(|_| "the body is not JSON")?;
    let project = text(&payload, "/project/key").ok_or("the body names no project")?;
    let gate = matches!(text(&payload, "/qualityGate/status"), Some("OK" | "ERROR"));
    Ok(Alert { gate, ..alert(&payload, project, Outcome::of(&payload), |place| event(&payload, place, body)) })
}

/// What [`read`] would have made of the webhook that never came about the gate of a branch: `payload` has its shape. The event is
/// `found`, the time of whoever asked, because SonarQube gives none to a gate that flips.
pub fn lost(payload: &Value, found: SystemTime) -> Option<Alert> {
    let project = text(payload, "/project/key")?;
    let mut outcome = Outcome::of(payload);
    let word = if outcome.verdict == Verdict::Bad { "failed" } else { "passed again" };
    outcome.title = format!("Quality gate {word}, as SonarQube says; its webhook never came");
    let found = found.duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_nanos());
    let event = |place: &[&[u8]]| {
        let place = Key::of(place.iter().copied()).to_string();
        Key::of([b"sonarqube lost".as_slice(), place.as_bytes(), &found.to_be_bytes()])
    };
    Some(alert(payload, project, outcome, event))
}

/// An alert about the gate of what `payload` names; `event` makes its key from the parts of its place.
fn alert(payload: &Value, project: &str, outcome: Outcome, event: impl FnOnce(&[&[u8]]) -> Key) -> Alert {
    let branch = Branch::of(payload);
    let place = parts(project, branch.kind, branch.name);
    let name = text(payload, "/project/name").unwrap_or(project);
    Alert {
        source: Source::Sonarqube,
        event: event(&place),
        place: Key::of(place),
        lane: Key::of([b"sonarqube".as_slice(), project.as_bytes()]),
        verdict: outcome.verdict,
        gate: true,
        summary: summary(&outcome, project),
        message: message(payload, &outcome, &branch, name),
    }
}

/// A branch or a pull request of a project.
pub fn place(project: &str, kind: &str, name: &str) -> Key {
    Key::of(parts(project, kind, name))
}

fn parts<'a>(project: &'a str, kind: &'a str, name: &'a str) -> [&'a [u8]; 4] {
    [b"sonarqube", project.as_bytes(), kind.as_bytes(), name.as_bytes()]
}

fn summary(outcome: &Outcome, project: &str) -> String {
    format!("{}: {:?}", outcome.title, project.chars().take(100).collect::<String>())
}

/// The task, where there is one: an analysis. A gate that flips without analysis has none; it is known by the time of the change.
fn event(payload: &Value, place: &[&[u8]], body: &[u8]) -> Key {
    let status = text(payload, "/qualityGate/status").unwrap_or_default().as_bytes();
    match (text(payload, "/taskId"), text(payload, "/changedAt")) {
        (Some(task), _) => Key::of([b"sonarqube task".as_slice(), task.as_bytes()]),
        (None, Some(changed)) => Key::of(place.iter().copied().chain([changed.as_bytes(), status])),
        (None, None) => Key::of([b"sonarqube body".as_slice(), body]),
    }
}

/// What a channel is told first.
struct Outcome {
    verdict: Verdict,
    colour: &'static str,
    title: String,
}

impl Outcome {
    fn of(payload: &Value) -> Self {
        let new = |verdict, colour, title: &str| Outcome { verdict, colour, title: title.to_owned() };
        let flipped = payload.get("taskId").is_none();
        match (text(payload, "/status"), text(payload, "/qualityGate/status")) {
            (Some("CANCELED" | "CANCELLED"), _) => new(Verdict::Bad, "warning", "Analysis cancelled"),
            (Some(status), _) if status != "SUCCESS" => new(Verdict::Bad, "danger", "Analysis failed"),
            (_, Some("OK")) if flipped => new(Verdict::Good, "good", "Quality gate passed again, without a new analysis"),
            (_, Some("OK")) => new(Verdict::Good, "good", "Quality gate passed"),
            (_, Some("ERROR")) if flipped => new(Verdict::Bad, "danger", "Quality gate failed, without a new analysis"),
            (_, Some("ERROR")) => new(Verdict::Bad, "danger", "Quality gate failed"),
            // Versions before 7.6.
            (_, Some("WARN")) => new(Verdict::Bad, "warning", "Quality gate warns"),
            (_, Some("NONE" | "NO_VALUE") | None) => new(Verdict::Good, "warning", "Analysed without a quality gate"),
            (_, Some(other)) => new(Verdict::Bad, "warning", &format!("Quality gate says {}", plain(other))),
        }
    }
}

struct Branch<'a> {
    kind: &'a str,
    name: &'a str,
    url: Option<&'a str>,
}

impl<'a> Branch<'a> {
    fn of(payload: &'a Value) -> Self {
        Branch {
            kind: text(payload, "/branch/type").unwrap_or_default(),
            name: text(payload, "/branch/name").unwrap_or_default(),
            url: text(payload, "/branch/url"),
        }
    }
}

fn message(payload: &Value, outcome: &Outcome, branch: &Branch<'_>, project: &str) -> Value {
    let title = format!("{}: {}", outcome.title, plain(project));
    let address = branch.url.or_else(|| text(payload, "/project/url")).and_then(link);
    let mut fields = Vec::new();
    let mut field = |title: &str, value: String| fields.push(json!({ "title": title, "value": value, "short": true }));
    match branch.name {
        "" => {}
        name if branch.kind == "PULL_REQUEST" => field("Pull request", plain(name)),
        name => field("Branch", plain(name)),
    }
    if let Some(gate) = text(payload, "/qualityGate/name") {
        field("Quality gate", plain(gate));
    }
    if let Some(revision) = text(payload, "/revision") {
        field("Revision", code(&revision.chars().take(12).collect::<String>()));
    }
    if let Some(changed) = text(payload, "/changedAt").or_else(|| text(payload, "/analysedAt")) {
        field(if payload.get("taskId").is_some() { "Analysed" } else { "Changed" }, code(changed));
    }
    let mut attachment =
        json!({ "fallback": title, "color": outcome.colour, "title": title, "text": conditions(payload), "fields": fields });
    if let Some(address) = address {
        attachment["title_link"] = address.into();
    }
    json!({ "attachments": [attachment] })
}

/// A line for each condition that is not met.
fn conditions(payload: &Value) -> String {
    if text(payload, "/status").is_some_and(|status| status != "SUCCESS") {
        return "Why is told by SonarQube: Project settings, Background tasks.".to_owned();
    }
    let all = payload.pointer("/qualityGate/conditions").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
    let failed: Vec<_> = all.iter().filter(|condition| matches!(text(condition, "/status"), Some("ERROR" | "WARN"))).collect();
    let mut lines: Vec<_> = failed.iter().take(CONDITIONS).map(|condition| line(condition)).collect();
    if failed.len() > CONDITIONS {
        lines.push(format!("- and {} more", failed.len() - CONDITIONS));
    }
    lines.join("\n")
}

fn line(condition: &Value) -> String {
    let metric = text(condition, "/metric").unwrap_or("unnamed metric");
    let threshold = match text(condition, "/status") {
        Some("WARN") => number(condition, "/warningThreshold"),
        _ => number(condition, "/errorThreshold"),
    };
    let shown = |value: &str| plain(rating(metric, value).unwrap_or(value));
    let mut line = format!("- {}", code(metric));
    if let Some(value) = number(condition, "/value") {
        line += &format!(" is {}", shown(&value));
    }
    if let Some(threshold) = threshold {
        let bound = match text(condition, "/operator") {
            Some("LESS_THAN") => "at least",
            Some("GREATER_THAN") if metric.ends_with("_rating") => "at worst",
            Some("GREATER_THAN") => "at most",
            Some("EQUALS") => "anything but",
            Some("NOT_EQUALS") => "exactly",
            _ => "against",
        };
        line += &format!(", wanted {bound} {}", shown(&threshold));
    }
    line
}

/// Ratings come as numbers and are known as letters.
fn rating(metric: &str, value: &str) -> Option<&'static str> {
    let letter = match value {
        "1" | "1.0" => "A",
        "2" | "2.0" => "B",
        "3" | "3.0" => "C",
        "4" | "4.0" => "D",
        "5" | "5.0" => "E",
        _ => return None,
    };
    metric.ends_with("_rating").then_some(letter)
}

/// A text that is there, is one, and is not empty.
pub fn text<'a>(payload: &'a Value, pointer: &str) -> Option<&'a str> {
    payload.pointer(pointer)?.as_str().filter(|text| !text.trim().is_empty())
}

/// A value that is written as text, and might one day be a number.
fn number(payload: &Value, pointer: &str) -> Option<String> {
    match payload.pointer(pointer)? {
        Value::String(text) if !text.trim().is_empty() => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    }
}

#[cfg(test)]
mod tests;
