//! The double of SonarQube answers as real servers did.

use serde_json::Value;
use tools_double::Double;
use tools_double::sonarqube::{NOBODY, SonarQube, TOKEN, Version};

/// Without what the server makes up.
fn plain(body: &str) -> Value {
    let mut body: Value = serde_json::from_str(body).unwrap_or_else(|_| body.into());
    if let Some(hook) = body.get_mut("webhook").and_then(Value::as_object_mut) {
        hook.remove("key");
    }
    // The real server had hooks of other recordings too: those that both have count.
    if let Some(hooks) = body.get_mut("webhooks").and_then(Value::as_array_mut) {
        hooks.retain(|hook| ["Relay", "Relay2", "P"].iter().any(|name| hook["name"] == *name));
        hooks.retain(|hook| {
            hook["hasSecret"] != false && (hook["hasSecret"] == true || hook["secret"] != Value::Null || hook["name"] == "Relay2")
        });
        hooks.iter_mut().filter_map(Value::as_object_mut).for_each(|hook| _ = hook.remove("key"));
    }
    if body.get("deliveries").is_some() {
        return "deliveries".into();
    }
    body
}

#[test]
fn sonarqubes_double_answers_as_real_servers_did() {
    let recordings: Vec<Value> = serde_json::from_str(include_str!("../../contract/sonarqube.json")).unwrap();
    images::store::http::install_tls();
    let http = reqwest::blocking::Client::builder().no_proxy().tls_certs_only([]).build().unwrap();
    for version in [Version::V9_9, Version::V25_1] {
        let name = if version == Version::V9_9 { "9.9" } else { "25.1" };
        let double = Double::start(SonarQube::new(version));
        let mut count = 0;
        for recording in recordings.iter().filter(|recording| recording["sonarqube"] == name) {
            let said = recording["recording"].as_str().unwrap();
            let params: Vec<(String, String)> = recording["params"]
                .as_object()
                .unwrap()
                .iter()
                .map(|(key, value)| (key.clone(), value.as_str().map_or_else(|| value.to_string(), str::to_owned)))
                .map(|(key, value)| match (key.as_str(), value.as_str()) {
                    ("webhook", known) if known != "nope" => {
                        (key, double.tool(|tool| tool.hooks.iter().find(|hook| hook.name.starts_with("Relay")).unwrap().key.clone()))
                    }
                    _ => (key, value),
                })
                .collect();
            let form = url::form_urlencoded::Serializer::new(String::new()).extend_pairs(&params).finish();
            let path = format!("{}{}", double.url(), recording["path"].as_str().unwrap());
            let request = match recording["method"].as_str().unwrap() {
                "GET" => http.get(format!("{path}?{form}")),
                _ => http.post(path).header("content-type", "application/x-www-form-urlencoded").body(form),
            };
            let request = match recording["authenticatedAs"].as_str() {
                None => request,
                Some("bob") => request.basic_auth(NOBODY, Some("")),
                Some("user token (Bearer)") => request.bearer_auth(TOKEN),
                Some("<token>") if recording["status"] == 401 => request.basic_auth("nonsense", Some("")),
                Some(_) => request.basic_auth(TOKEN, Some("")),
            };
            let answer = request.send().unwrap();
            assert!(answer.headers()["x-played-by"].to_str().unwrap().starts_with("a double of SonarQube"));
            assert_eq!(answer.status().as_u16(), recording["status"], "{said}");
            assert_eq!(plain(&answer.text().unwrap()), plain(recording["responseBody"].as_str().unwrap()), "{said}");
            count += 1;
        }
        assert_eq!(count, 20, "{name}");
    }
}
