use base64::Engine as _;

use super::*;

/// A request that a real server sent: what stands in the file, the body's bytes, and the signature if it had a secret.
struct Recorded {
    name: String,
    body: Vec<u8>,
    secret: String,
    signature: Option<String>,
}

fn recorded() -> Vec<Recorded> {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data");
    let mut all: Vec<_> = fs_err::read_dir(folder)
        .expect("the recorded requests")
        .map(|entry| {
            let path = entry.expect("an entry").path();
            let file: Value = serde_json::from_slice(&fs_err::read(&path).expect("a file")).expect("JSON");
            let header =
                |header: &Value| header[0].as_str()?.eq_ignore_ascii_case(SIGNATURE).then(|| header[1].as_str().map(str::to_owned))?;
            Recorded {
                name: path.file_stem().expect("a name").to_string_lossy().into_owned(),
                body: base64::engine::general_purpose::STANDARD.decode(file["bodyBase64"].as_str().expect("a body")).expect("base64"),
                secret: file["secretForHmac"].as_str().unwrap_or_default().to_owned(),
                signature: file["headers"].as_array().expect("headers").iter().find_map(header),
            }
        })
        .collect();
    all.sort_by(|a, b| a.name.cmp(&b.name));
    assert_eq!(all.len(), 26, "the recorded requests");
    all
}

#[test]
fn every_recorded_signature_verifies_and_none_does_after_a_change() {
    let mut signed = 0;
    for Recorded { name, body, secret, signature } in recorded() {
        let Some(signature) = signature else { continue };
        signed += 1;
        assert!(is_signed(secret.as_bytes(), &body, &signature), "{name}");
        assert!(is_signed(secret.as_bytes(), &body, &signature.to_uppercase()), "{name}");
        let mut forged = body.clone();
        *forged.last_mut().expect("a byte") ^= 1;
        assert!(!is_signed(secret.as_bytes(), &forged, &signature), "{name} with a changed body");
        assert!(!is_signed(secret.as_bytes(), &body[..body.len() - 1], &signature), "{name} cut");
        assert!(!is_signed(b"another-secret-0123456789", &body, &signature), "{name} with another secret");
        for bad in ["", &signature[..62], &format!("{signature}00"), &"0".repeat(64), &"ü".repeat(32)] {
            assert!(!is_signed(secret.as_bytes(), &body, bad), "{name} with the signature {bad:?}");
        }
    }
    assert_eq!(signed, 24);
}

/// What people see of each; read it when it changes.
#[test]
fn every_recorded_request_becomes_a_message() {
    let shown: Vec<_> = recorded().iter().map(|one| (one.name.clone(), read(&one.body).expect(&one.name).message)).collect();
    insta::assert_json_snapshot!("recorded", Value::from_iter(shown));
}

#[test]
fn the_same_event_has_the_same_key_and_another_has_another() {
    let mut seen = std::collections::BTreeMap::new();
    for one in recorded() {
        let event = read(&one.body).expect(&one.name).event;
        let before = seen.insert(event, one.body.clone());
        assert!(before.is_none_or(|body| body == one.body), "{} has the key of another event", one.name);
    }
    assert_eq!(seen.len(), 24, "two tasks were sent to two webhooks each");

    let flip = |branch: &str, changed: &str, status: &str| {
        let payload = json!({ "project": { "key": "p" }, "branch": { "name": branch, "type": "BRANCH" }, "changedAt": changed,
                              "qualityGate": { "status": status } });
        read(payload.to_string().as_bytes()).expect("a flip")
    };
    let one = flip("main", "2026-01-01T00:00:00+0000", "ERROR");
    for (other, same_place) in [
        (flip("main", "2026-01-01T00:00:01+0000", "ERROR"), true),
        (flip("main", "2026-01-01T00:00:00+0000", "OK"), true),
        (flip("other", "2026-01-01T00:00:00+0000", "ERROR"), false),
    ] {
        assert_ne!(one.event, other.event);
        assert_eq!(one.place == other.place, same_place);
        assert_eq!(one.lane, other.lane);
    }
    let bytes = |bytes: &str| read(bytes.as_bytes()).expect("a project").event;
    assert_eq!(bytes(r#"{"project":{"key":"p"}}"#), bytes(r#"{"project":{"key":"p"}}"#));
    assert_ne!(bytes(r#"{"project":{"key":"p"}}"#), bytes(r#"{"project":{"key":"p"} }"#));
}

/// Shapes that the recorded requests do not have: from the documentation, older versions, and other editions.
#[test]
fn documented_and_odd_shapes_become_messages() {
    let condition = |index| json!({ "metric": format!("m{index}"), "operator": "GREATER_THAN", "value": "9", "status": "ERROR", "errorThreshold": "1" });
    let many: Vec<_> = (0..50).map(condition).collect();
    let shapes = [
        (
            "pull request",
            json!({ "taskId": "t", "status": "SUCCESS", "revision": "c739069ec7105e01303e8b3065a81141aad9f129",
            "project": { "key": "k", "name": "My Project", "url": "https://s/dashboard?id=k" },
            "branch": { "name": "42", "type": "PULL_REQUEST", "isMain": false, "url": "https://s/dashboard?id=k&pullRequest=42" },
            "qualityGate": { "name": "Sonar way", "status": "ERROR", "conditions": [
                { "metric": "new_coverage", "operator": "LESS_THAN", "value": "12.5", "status": "ERROR", "errorThreshold": "80" },
                { "metric": "new_reliability_rating", "operator": "GREATER_THAN", "value": "3", "status": "ERROR", "errorThreshold": "1" },
                { "metric": "new_duplicated_lines_density", "operator": "GREATER_THAN", "status": "NO_VALUE", "errorThreshold": "3" }] } }),
        ),
        (
            "6.7 warns",
            json!({ "taskId": "t", "status": "SUCCESS", "project": { "key": "k" }, "branch": { "name": "b", "type": "LONG" },
            "qualityGate": { "name": "g", "status": "WARN", "conditions": [{ "metric": "coverage", "operator": "LESS_THAN", "value": 70.5,
                "status": "WARN", "onLeakPeriod": true, "errorThreshold": "65", "warningThreshold": "75" }] } }),
        ),
        ("cancelled", json!({ "taskId": "t", "status": "CANCELED", "project": { "key": "k" } })),
        ("no gate", json!({ "taskId": "t", "status": "SUCCESS", "project": { "key": "k" } })),
        ("nothing but a key", json!({ "project": { "key": "k" } })),
        (
            "other types",
            json!({ "taskId": 7, "status": ["x"], "project": { "key": "k", "name": 1, "url": {} }, "branch": "main",
            "qualityGate": { "name": null, "status": "ERROR", "conditions": ["x", null, { "status": "ERROR" }] } }),
        ),
        (
            "a mischievous project",
            json!({ "taskId": "t", "status": "SUCCESS",
            "project": { "key": "k", "name": "@all [x](javascript:1) <!channel>\n# big", "url": "javascript:alert(1)" },
            "qualityGate": { "name": "`|*", "status": "ERROR", "conditions": [{ "metric": "`@here`", "status": "ERROR", "value": "<b>" }] } }),
        ),
        (
            "many conditions",
            json!({ "taskId": "t", "status": "SUCCESS", "project": { "key": "k" },
            "qualityGate": { "status": "ERROR", "conditions": many } }),
        ),
    ];
    let shown = shapes.map(|(name, payload)| {
        let alert = read(payload.to_string().as_bytes()).expect(name);
        (name, json!({ "verdict": alert.verdict, "summary": alert.summary, "message": alert.message }))
    });
    insta::assert_json_snapshot!("shapes", Value::from_iter(shown));
}

#[test]
fn the_longest_body_gives_a_message_that_is_not_split() {
    let long = "@".repeat(50_000);
    let condition = json!({ "metric": long, "operator": "LESS_THAN", "value": long, "status": "ERROR", "errorThreshold": long });
    let payload = json!({ "project": { "key": long, "name": long }, "branch": { "name": long }, "changedAt": long, "revision": long,
                          "qualityGate": { "name": long, "status": long, "conditions": vec![condition; 100] } });
    let alert = read(payload.to_string().as_bytes()).expect("a project");
    let text = alert.message["attachments"][0]["text"].as_str().expect("text").chars().count();
    assert!(text < 16_383 && alert.message.to_string().len() < 100_000, "{text}");
}

#[test]
fn what_names_no_project_is_refused() {
    for bad in ["", "{", "[]", "null", "{}", r#"{"project":{"key":""}}"#, r#"{"project":{"key":7}}"#, r#"{"project":"k"}"#, "\u{0}"] {
        assert!(read(bad.as_bytes()).is_err(), "{bad:?}");
    }
    assert!(read(&[0xff, 0xfe]).is_err());
    assert!(read("[".repeat(100_000).as_bytes()).is_err(), "depth is limited");
}
