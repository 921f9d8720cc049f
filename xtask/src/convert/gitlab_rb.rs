//! `/etc/gitlab/gitlab.rb`: what of it is Mattermost's.

use std::collections::BTreeMap;

use images::{Class, Error, Result};

use super::draft::Draft;
use super::names;
use super::ruby::{self, Pair, Statement, Value};
use super::server::{Around, resolve};

/// What a `gitlab.rb` comes to. `file` is how errors call it.
///
/// # Errors
/// [`Class::Usage`] where the file is not whole: nothing that stands behind such a place can be trusted.
pub fn read(text: &str, file: &str) -> Result<Draft> {
    let statements = ruby::parse(text).map_err(|broken| {
        Error::new(Class::Usage, format!("{file} is not whole; nothing was converted"))
            .detail(format!("line {}: {}", broken.line, broken.problem))
            .hint("`ruby -c` on GitLab's machine, in /opt/gitlab/embedded/bin, says whether GitLab would read it")
    })?;
    let mut reader = Reader::default();
    for statement in &statements {
        reader.statement(statement);
        if reader.draft.is_full() {
            return Err(Error::new(Class::Usage, format!("{file} is not usable: it has more settings of Mattermost's than any server")));
        }
    }
    Ok(reader.end())
}

#[derive(Default)]
struct Reader {
    draft: Draft,
    around: Around,
    /// Settings of `mattermost`, `mattermost_nginx` and the two addresses: the last of each counts.
    last: Last,
    /// The same of `mattermost['env']`.
    variables: Last,
    /// Lines that GitLab 19 stops at.
    leftover: Vec<usize>,
}

type Last = BTreeMap<Key, (String, usize)>;

#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Key {
    Address,
    Gitlab,
    Setting(String),
    Variable(String),
    Nginx(String),
}

impl Reader {
    fn statement(&mut self, statement: &Statement) {
        let keys: Vec<&str> = statement.keys.iter().map(String::as_str).collect();
        let line = statement.line;
        let written: String = std::iter::once(statement.name.clone()).chain(keys.iter().map(|key| format!("['{key}']"))).collect();
        let name = statement.name.as_str();
        if matches!(name, "mattermost" | "mattermost_external_url" | "mattermost_nginx") {
            self.leftover.push(line);
        }
        let key = match (name, keys.as_slice()) {
            ("mattermost_external_url", []) => Key::Address,
            ("external_url", []) => Key::Gitlab,
            ("mattermost", ["env", name]) => Key::Variable((*name).to_owned()),
            ("mattermost", [key]) => Key::Setting((*key).to_owned()),
            ("mattermost_nginx", [key]) => Key::Nginx((*key).to_owned()),
            ("gitlab_rails", ["mattermost_host"]) => {
                let row = self.draft.row(Some(line), written);
                return self.draft.dropped(&[row], "a setting of GitLab's own: it stays in gitlab.rb, and GitLab 19 reads it too");
            }
            (name, _) if name.starts_with("mattermost") => {
                let row = self.draft.row(Some(line), written);
                return self.draft.dropped(&[row], reason(&statement.value).unwrap_or("GitLab has no such setting"));
            }
            (name, []) if !(name.ends_with("_external_url") || matches!(name, "roles" | "git_data_dirs")) => {
                let row = self.draft.row(Some(line), if name.is_empty() { "(no setting)" } else { name });
                return self.draft.dropped(
                    &[row],
                    match name {
                        "from_file" => "a call, and no other file is read: convert that one too",
                        _ => reason(&statement.value).unwrap_or("a call, and nothing is run"),
                    },
                );
            }
            _ => return self.draft.left_alone += 1,
        };
        if key == Key::Setting("env".to_owned())
            && let Value::Hash(pairs) = &statement.value
            && statement.inside.is_none()
        {
            return self.environment(pairs);
        }
        let row = self.draft.row(Some(line), written);
        if let Some(begin) = statement.inside {
            return self.draft.dropped(&[row], &format!("stands in what begins in line {begin}, and no conditional is evaluated"));
        }
        self.set(key, &statement.value, row);
    }

    /// `mattermost['env'] = {…}` takes the place of every one before.
    fn environment(&mut self, pairs: &[Pair]) {
        let old: Vec<usize> = std::mem::take(&mut self.variables).into_values().map(|(_, row)| row).collect();
        self.draft.dropped(&old, "another mattermost['env'] = { … } takes its place below");
        for pair in pairs {
            let name = match &pair.key {
                Value::Text(name) => name.as_str(),
                _ => "…",
            };
            let row = self.draft.row(Some(pair.line), format!("mattermost['env']['{name}']"));
            match &pair.key {
                Value::Text(name) => self.set(Key::Variable(name.clone()), &pair.value, row),
                _ => self.draft.dropped(&[row], "the name of a variable has to be a string"),
            }
        }
    }

    fn set(&mut self, key: Key, value: &Value, row: usize) {
        let text = match plain(value) {
            Ok(text) => text,
            Err(why) => return self.draft.dropped(&[row], &why),
        };
        let last = if matches!(key, Key::Variable(_)) { &mut self.variables } else { &mut self.last };
        if let Some((_, before)) = last.remove(&key) {
            self.draft.dropped(&[before], "said again below, and the last one counts");
        }
        match text {
            Some(text) => _ = last.insert(key, (text, row)),
            None => self.draft.dropped(&[row], "nil: the default counts"),
        }
    }

    fn end(mut self) -> Draft {
        let last = std::mem::take(&mut self.last);
        if let Some((text, row)) = last.get(&Key::Address) {
            self.draft.give("MM_SERVICESETTINGS_SITEURL", text, *row);
        }
        if let Some((text, row)) = last.get(&Key::Gitlab) {
            self.around.gitlab = Some((text.clone(), *row));
        }
        for (key, (text, row)) in &last {
            if let Key::Setting(key) = key {
                self.setting(key, text, *row);
            }
        }
        self.listen(&last);
        self.account(&last);
        for (key, (text, row)) in &last {
            if let Key::Nginx(key) = key {
                self.nginx(key, text, *row, &last);
            }
        }
        // The environment counts, whatever else says the same.
        for (key, (text, row)) in std::mem::take(&mut self.variables) {
            if let Key::Variable(name) = key {
                self.variable(&name, &text, row);
            }
        }
        resolve(&mut self.draft, &self.around);
        if !self.leftover.is_empty() {
            self.leftover.dedup();
            let lines = self.leftover.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
            self.draft.next.push(format!(
                "GitLab 19 stops its upgrade at what is left of Mattermost in gitlab.rb: remove lines {lines} when the new \
                    server runs, and name it in gitlab_rails['mattermost_host']"
            ));
        }
        self.draft
    }

    fn setting(&mut self, key: &str, text: &str, row: usize) {
        const CONTAINER: &str = "the container has its own account and folders";
        let draft = &mut self.draft;
        match key {
            "enable" => draft.dropped(&[row], "`cargo xtask up` starts the server, and `down` ends it"),
            "username" | "group" | "home" => draft.dropped(&[row], CONTAINER),
            "uid" | "gid" | "service_address" | "service_port" => {}
            "log_file_directory" => draft.give("MM_LOGSETTINGS_FILEDIRECTORY", text, row),
            "database_name" => draft.give("database_name", text, row),
            _ => draft.give(&names::by_rule(key), text, row),
        }
    }

    /// `service_address` and `service_port` are one setting of the server's.
    fn listen(&mut self, last: &Last) {
        let find = |name: &str| last.get(&Key::Setting(name.to_owned())).map(|(text, row)| (text, *row));
        let (address, port) = (find("service_address"), find("service_port"));
        let Some((_, first)) = address.or(port) else { return };
        let text = format!("{}:{}", address.map_or("127.0.0.1", |(text, _)| text), port.map_or("8065", |(text, _)| text));
        self.draft.give("MM_SERVICESETTINGS_LISTENADDRESS", &text, first);
        if let (Some(_), Some((_, second)), Some(given)) = (address, port, self.draft.server.get_mut("MM_SERVICESETTINGS_LISTENADDRESS")) {
            given.rows.push(second);
        }
    }

    fn account(&mut self, last: &Last) {
        let find = |name: &str| last.get(&Key::Setting(name.to_owned())).map(|(text, row)| (text, *row));
        let (uid, gid) = (find("uid"), find("gid"));
        let rows: Vec<usize> = uid.iter().chain(&gid).map(|(_, row)| *row).collect();
        if rows.is_empty() {
            return;
        }
        let number = |found: Option<(&String, usize)>| found.map_or("2000".to_owned(), |(text, _)| text.clone());
        let account = format!("{}:{}", number(uid), number(gid));
        self.draft.key(&rows, "accounts", "mattermost", super::draft::quoted(&account));
        if rows.len() == 1 && self.draft.has("accounts", "mattermost") {
            self.draft.mapped(&rows, &[], "the other of uid and gid is 2000, the image's");
        }
    }

    fn nginx(&mut self, key: &str, text: &str, row: usize, last: &Last) {
        const NONE: &str = "no NGINX is part of the stack: Mattermost answers people itself";
        let redirect_port = || {
            let port = last.get(&Key::Nginx("redirect_http_to_https_port".to_owned()));
            port.and_then(|(text, _)| text.parse::<u16>().ok()).unwrap_or(80)
        };
        let redirects = last.get(&Key::Nginx("redirect_http_to_https".to_owned())).is_some_and(|(text, _)| text == "true");
        match (key, text) {
            ("enable" | "listen_https", "false") => {
                self.around.front = true;
                self.around.front_rows.push(row);
            }
            ("redirect_http_to_https", "true") => {
                let rows = self.around.redirect.take().map(|(_, rows)| rows).unwrap_or_default();
                self.around.redirect = Some((redirect_port(), [rows, vec![row]].concat()));
            }
            ("redirect_http_to_https_port", _) if redirects => {
                let rows = self.around.redirect.take().map(|(_, rows)| rows).unwrap_or_default();
                self.around.redirect = Some((redirect_port(), [rows, vec![row]].concat()));
            }
            ("ssl_certificate" | "ssl_certificate_key", _) => {
                let remark = "no path is taken over: copy certificate and key here, and `cargo xtask certs --cert FILE --key \
                    FILE --for mattermost` takes them in";
                self.draft.mapped(&[row], &["pki/mattermost.pem"], remark);
            }
            ("ssl_client_certificate" | "ssl_verify_client", _) => self.draft.dropped(&[row], "Mattermost asks nobody for a certificate"),
            ("listen_port", _) => {
                self.draft.dropped(&[row], "no NGINX is part of the stack: ports.mattermost in site.toml is the server's")
            }
            _ => self.draft.dropped(&[row], NONE),
        }
    }

    fn variable(&mut self, name: &str, text: &str, row: usize) {
        let upper = name.to_ascii_uppercase();
        match upper.as_str() {
            "HTTP_PROXY" | "HTTPS_PROXY" | "NO_PROXY" => self.draft.give(&upper, text, row),
            "SSL_CERT_FILE" | "SSL_CERT_DIR" => {
                self.draft.dropped(&[row], "the image holds the CAs that the server trusts: `cargo xtask images --ca FILE` adds one");
            }
            "MM_PLUGINSETTINGS_PLUGINS" | "MM_PLUGINSETTINGS_PLUGINSTATES" => super::plugin_settings(&mut self.draft, name, text, row),
            _ => self.draft.give(name, text, row),
        }
    }
}

fn reason(value: &Value) -> Option<&'static str> {
    match value {
        Value::Unread(why) => Some(why),
        _ => None,
    }
}

/// A value as the environment has it; nothing for `nil`.
fn plain(value: &Value) -> Result<Option<String>, String> {
    Ok(match value {
        Value::Nil => None,
        Value::Bool(on) => Some(on.to_string()),
        Value::Number(text) | Value::Text(text) => Some(text.clone()),
        // As the server splits a list of its environment.
        Value::List(values) => {
            let texts = values.iter().map(|value| plain(value).and_then(|text| text.ok_or_else(|| "a list with nil".to_owned())));
            Some(texts.collect::<Result<Vec<_>, _>>()?.join(" "))
        }
        Value::Hash(_) => return Err("a hash, where a text is expected".to_owned()),
        Value::Unread(why) => return Err((*why).to_owned()),
    })
}
