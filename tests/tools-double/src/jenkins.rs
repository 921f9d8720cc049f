//! Jenkins' plugin list, credentials and Configuration as Code. It reads `jenkins.yaml` line by line, which is enough for its own block.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde_json::json;

use crate::{Answer, Asked, Plays};

/// `USER:TOKEN` of an administrator.
pub const TOKEN: &str = "admin:11f0e1d2c3b4a5968778695a4b3c2d1e0f";

/// The server.
pub struct Jenkins {
    /// What `CASC_JENKINS_CONFIG` names.
    pub yaml: PathBuf,
    /// What `SECRETS` names.
    pub secrets: PathBuf,
    /// Plugins that run.
    pub plugins: Vec<&'static str>,
    /// Secret texts by their id.
    pub credentials: BTreeMap<String, String>,
    /// What it has taken of `mattermostNotifier`.
    pub notifier: BTreeMap<String, String>,
}

impl Jenkins {
    /// With every plugin, and nothing taken yet.
    pub fn new(yaml: PathBuf, secrets: PathBuf) -> Jenkins {
        let plugins = vec!["mattermost", "configuration-as-code", "plain-credentials"];
        Jenkins { yaml, secrets, plugins, credentials: BTreeMap::new(), notifier: BTreeMap::new() }
    }

    fn reload(&mut self) -> Answer {
        let text = fs_err::read_to_string(&self.yaml).unwrap_or_default();
        let block = text.lines().skip_while(|line| line.trim_end() != "  mattermostNotifier:").skip(1);
        let lines = block.take_while(|line| line.starts_with("    ")).filter_map(|line| line.trim().split_once(": "));
        self.notifier = lines.map(|(key, value)| (key.to_owned(), self.resolved(value.trim_matches('"')))).collect();
        Answer::empty(302)
    }

    /// A variable is a secret file; one that is missing stays as it is.
    fn resolved(&self, value: &str) -> String {
        let name = value.strip_prefix("${").and_then(|rest| rest.strip_suffix('}'));
        let found = name.and_then(|name| fs_err::read_to_string(self.secrets.join(name)).ok());
        found.map(|text| text.trim().to_owned()).unwrap_or_else(|| value.to_owned())
    }

    fn export(&self) -> Answer {
        let mut body = "jenkins:\n  mode: \"NORMAL\"\nunclassified:\n  location:\n    url: \"x\"\n".to_owned();
        if !self.notifier.is_empty() {
            body += "  mattermostNotifier:\n";
        }
        for (key, value) in &self.notifier {
            let shown = if key == "endpoint" && !value.starts_with("${") { "{AQAAABAAAAAQbm90IGEgc2VjcmV0}" } else { value };
            body += &format!("    {key}: \"{shown}\"\n");
        }
        Answer::page(200, "application/x-yaml", body)
    }

    fn keep(&mut self, xml: &str) -> Answer {
        let between = |tag: &str| Some(xml.split_once(&format!("<{tag}>"))?.1.split_once('<')?.0.to_owned());
        match (between("id"), between("secret")) {
            (Some(id), Some(secret)) => {
                self.credentials.insert(id, secret);
                Answer::empty(302)
            }
            _ => Answer::empty(400),
        }
    }
}

impl Plays for Jenkins {
    fn name(&self) -> String {
        "Jenkins".to_owned()
    }

    fn answer(&mut self, asked: &Asked) -> Answer {
        match asked.basic() {
            Some((user, token)) if format!("{user}:{token}") == TOKEN => {}
            Some((user, _)) if user == "reader" => return Answer::page(403, "text/html", "<html>Forbidden"),
            _ => return Answer::page(401, "text/html", "<html>Unauthorized"),
        }
        const STORE: &str = "/credentials/store/system/domain/_/";
        let credential = asked.path.strip_prefix(STORE).and_then(|path| path.strip_prefix("credential/"));
        let credential = credential.and_then(|path| path.split_once('/'));
        match (asked.method.as_str(), asked.path.as_str(), credential) {
            ("GET", "/pluginManager/api/json", _) => {
                let plugins: Vec<_> =
                    self.plugins.iter().map(|name| json!({ "shortName": name, "active": true, "version": "1" })).collect();
                Answer::json(200, json!({ "plugins": plugins }))
            }
            ("GET", _, Some((id, "api/json"))) if self.credentials.contains_key(id) => Answer::json(200, json!({ "id": id })),
            ("POST", _, Some((id, "config.xml"))) if self.credentials.contains_key(id) => self.keep(&asked.body),
            ("POST", "/credentials/store/system/domain/_/createCredentials", _) => self.keep(&asked.body),
            ("POST", "/configuration-as-code/reload", _) => self.reload(),
            ("POST", "/configuration-as-code/export", _) => self.export(),
            _ => Answer::page(404, "text/html", "<html>Not found"),
        }
    }
}
