use std::collections::BTreeSet;

use super::*;

/// What a real Alertmanager sent.
fn recorded() -> Value {
    serde_json::from_str(include_str!("../../tests/alertmanager.json")).expect("JSON")
}

fn requests(recorded: &Value) -> Vec<(&str, &str, &str)> {
    recorded["requests"]
        .as_array()
        .expect("requests")
        .iter()
        .map(|request| {
            let headers = request["headers"].as_array().expect("headers");
            let token = headers.iter().find(|header| header[0].as_str().expect("a name").eq_ignore_ascii_case(TOKEN)).expect("a token");
            (request["told"].as_str().expect("text"), token[1].as_str().expect("text"), request["body"].as_str().expect("text"))
        })
        .collect()
}

#[test]
fn the_token_of_every_recorded_request_is_known_and_no_other_is() {
    let recorded = recorded();
    let secret = recorded["token"].as_str().expect("text");
    for (told, header, _) in requests(&recorded) {
        assert!(is_token(secret.as_bytes(), header), "{told}");
        assert!(!is_token(b"another-secret-0123456789", header), "{told}");
    }
    for bad in
        [secret, "", "Bearer", "Bearer ", &format!("Basic {secret}"), &format!("Bearer {secret}x"), &format!("Bearer {}", &secret[1..])]
    {
        assert!(!is_token(secret.as_bytes(), bad), "{bad:?}");
    }
}

/// What people see of each; read it when it changes.
#[test]
fn every_recorded_request_becomes_a_message() {
    let recorded = recorded();
    let shown = requests(&recorded).into_iter().map(|(told, _, body)| {
        let alert = read(body.as_bytes()).expect(told);
        (told.to_owned(), json!({ "verdict": alert.verdict, "summary": alert.summary, "message": alert.message }))
    });
    insta::assert_json_snapshot!("recorded", shown.collect::<Value>());
}

#[test]
fn what_is_sent_again_is_the_same_event_and_what_changed_is_another() {
    let recorded = recorded();
    let alerts: Vec<_> = requests(&recorded).iter().map(|(told, _, body)| read(body.as_bytes()).expect(told)).collect();
    assert_eq!(alerts[0].event, alerts[1].event, "tried again after 503");
    assert_eq!(alerts.iter().map(|alert| alert.event).collect::<BTreeSet<_>>().len(), 5);
    assert_eq!(alerts[..5].iter().map(|alert| (alert.place, alert.lane)).collect::<BTreeSet<_>>().len(), 1, "one group");
    assert_ne!(alerts[4].place, alerts[5].place);
    assert_eq!(alerts.iter().map(|alert| alert.verdict == Verdict::Good).collect::<Vec<_>>(), [false, false, false, false, true, false]);
    // It fires again: the same alert, at another time.
    let later = requests(&recorded)[0].2.replace("20:02:04Z", "21:02:04Z");
    assert_ne!(read(later.as_bytes()).expect("an alert").event, alerts[0].event);
}

#[test]
fn odd_and_mischievous_bodies_become_messages_or_are_refused() {
    let long = "@".repeat(50_000);
    let alert = json!({ "status": "firing", "labels": { "a": long }, "annotations": { "summary": long } });
    let labels: serde_json::Map<_, _> = (0..100).map(|at| (format!("{at}{long}"), json!(long))).collect();
    let payload = json!({ "groupKey": long, "commonLabels": labels, "alerts": vec![alert; 100], "externalURL": "javascript:alert(1)" });
    let message = read(payload.to_string().as_bytes()).expect("a group").message;
    let text = message["attachments"][0]["text"].as_str().expect("text").chars().count();
    assert!(text < 16_383 && message.to_string().len() < 100_000, "{text}");
    assert_eq!(message["attachments"][0]["title_link"], Value::Null);
    let odd = json!({ "groupKey": "g", "status": 7, "alerts": ["x", null, { "labels": [], "annotations": "x" }], "truncatedAlerts": "x" });
    assert_eq!(read(odd.to_string().as_bytes()).expect("a group").verdict, Verdict::Bad);
    for bad in ["", "{", "[]", "null", "{}", r#"{"groupKey":""}"#, r#"{"groupKey":7}"#] {
        assert!(read(bad.as_bytes()).is_err(), "{bad:?}");
    }
}
