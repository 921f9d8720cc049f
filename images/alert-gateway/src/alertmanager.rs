//! Alertmanager's webhook, version 4 of its form: how it shows its token, what it says, and what a channel is told.
//!
//! It signs nothing, and sends a token that its configuration names. A request tells how a group of alerts stands; it comes again when
//! one of them changes, every few hours (`repeat_interval`) while nothing does, and once more after every answer of 5xx.

use hmac::{Hmac, KeyInit, Mac};
use serde_json::{Value, json};
use sha2::Sha256;

use crate::alert::{Alert, Key, Verdict};
use crate::markdown::{code, link, plain};
use crate::sonarqube::text;
use crate::source::Source;

/// The header with the token, in lower case: `Bearer TOKEN`.
pub const TOKEN: &str = "authorization";

/// Alerts of a group that are listed; the others are counted.
const LISTED: usize = 10;

/// Whether a header shows the token. Both are hashed first: what is compared in constant time has one length then.
pub fn is_token(secret: &[u8], header: &str) -> bool {
    let mac = |value: &[u8]| Hmac::<Sha256>::new_from_slice(b"alertmanager").map(|mac| mac.chain_update(value));
    let (Some(("Bearer", shown)), Ok(expected)) = (header.split_once(' '), mac(secret)) else { return false };
    mac(shown.as_bytes()).is_ok_and(|shown| expected.verify(&shown.finalize().into_bytes()).is_ok())
}

/// Reads a body.
///
/// # Errors
/// What is wrong with it, where it is not JSON or names no group.
pub fn read(body: &[u8]) -> Result<Alert, &'static str> {
    let payload: Value = serde_json::from_slice(body).map_err(|_| "the body is not JSON")?;
    let group = text(&payload, "/groupKey").ok_or("the body names no group of alerts")?;
    let alerts = payload["alerts"].as_array().map_or(&[][..], Vec::as_slice);
    let place = Key::of([b"alertmanager".as_slice(), group.as_bytes()]);
    let verdict = if text(&payload, "/status") == Some("resolved") { Verdict::Good } else { Verdict::Bad };
    let left_out = payload["truncatedAlerts"].as_u64().unwrap_or_default();
    let title = title(&payload, alerts, left_out, verdict);
    let mut attachment = json!({
        "fallback": title,
        "color": match (verdict, text(&payload, "/commonLabels/severity")) {
            (Verdict::Good, _) => "good",
            (Verdict::Bad, Some("warning" | "info" | "none")) => "warning",
            (Verdict::Bad, _) => "danger",
        },
        "title": title,
        "text": lines(alerts, left_out),
        "fields": fields(&payload),
    });
    if let Some(address) = text(&payload, "/externalURL").and_then(link) {
        attachment["title_link"] = address.into();
    }
    Ok(Alert {
        source: Source::Alertmanager,
        event: event(group, alerts, left_out),
        place,
        lane: place,
        verdict,
        gate: false,
        summary: format!("{title:.200}"),
        message: json!({ "attachments": [attachment] }),
    })
}

/// How the group stands: which of its alerts fire, since when, and which are resolved. The same again is a reminder, a request that was
/// answered with 5xx, or the other one of two Alertmanagers.
fn event(group: &str, alerts: &[Value], left_out: u64) -> Key {
    let mut stands: Vec<String> = alerts
        .iter()
        .map(|alert| {
            // Versions before 0.19 send no fingerprint; the labels are what it is of.
            let name = text(alert, "/fingerprint").map_or_else(|| alert["labels"].to_string(), str::to_owned);
            format!("{name} {} {}", text(alert, "/status").unwrap_or_default(), text(alert, "/startsAt").unwrap_or_default())
        })
        .collect();
    stands.sort();
    let left_out = left_out.to_be_bytes();
    let parts = [b"alertmanager event".as_slice(), group.as_bytes(), &left_out];
    Key::of(parts.into_iter().chain(stands.iter().map(String::as_bytes)))
}

fn title(payload: &Value, alerts: &[Value], left_out: u64, verdict: Verdict) -> String {
    let name = text(payload, "/commonLabels/alertname").map_or_else(|| "several alerts".to_owned(), plain);
    let firing = alerts.iter().filter(|alert| text(alert, "/status") != Some("resolved")).count() as u64 + left_out;
    match (verdict, firing) {
        (Verdict::Good, _) => format!("Resolved: {name}"),
        (Verdict::Bad, 0 | 1) => format!("Firing: {name}"),
        (Verdict::Bad, count) => format!("Firing, {count} times: {name}"),
    }
}

/// A line for each alert: what its rule says about it, else its labels. Those that fire come first.
fn lines(alerts: &[Value], left_out: u64) -> String {
    let resolved = |alert: &&Value| text(alert, "/status") == Some("resolved");
    let mut all: Vec<_> = alerts.iter().collect();
    all.sort_by_key(resolved);
    let mut lines: Vec<_> = all.iter().take(LISTED).map(|alert| line(alert, resolved(alert))).collect();
    let more = all.len().saturating_sub(LISTED) as u64 + left_out;
    if more > 0 {
        lines.push(format!("- and {more} more"));
    }
    lines.join("\n")
}

fn line(alert: &Value, resolved: bool) -> String {
    let said = ["/annotations/summary", "/annotations/description", "/annotations/message"].into_iter().find_map(|at| text(alert, at));
    let what = said.map_or_else(|| code(&labels(&alert["labels"])), plain);
    if resolved { format!("- resolved: {what}") } else { format!("- {what}") }
}

fn labels(labels: &Value) -> String {
    let pair = |(name, value): (&String, &Value)| Some(format!("{name}={}", value.as_str()?));
    labels.as_object().into_iter().flatten().filter_map(pair).collect::<Vec<_>>().join(", ")
}

/// What all alerts of the group have, but for their name.
fn fields(payload: &Value) -> Vec<Value> {
    let pairs = payload["commonLabels"].as_object().into_iter().flatten();
    let pairs = pairs.filter(|(name, _)| *name != "alertname").filter_map(|(name, value)| Some((name, value.as_str()?)));
    pairs.take(LISTED).map(|(name, value)| json!({ "title": plain(name), "value": plain(value), "short": true })).collect()
}

#[cfg(test)]
mod tests;
