//! `mmctl`: the command-line client, over the local socket, or over the network with a token. What it prints has the real one's shapes, uneven as they are.

use std::collections::BTreeMap;
use std::process::ExitCode;

use serde_json::Value;

mod auth;
mod client;
mod people;
mod places;
mod server;

use client::Client;

/// Flags without a value.
const SWITCHES: [&str; 12] = [
    "bot",
    "disable-pager",
    "email-verified",
    "help",
    "json",
    "local",
    "lock-to-channel",
    "private",
    "quiet",
    "strict",
    "suppress-warnings",
    "system-admin",
];

/// What a command was given.
pub struct Call {
    /// Words that are no flags, the command's own left out.
    pub words: Vec<String>,
    flags: BTreeMap<String, String>,
    /// The server.
    pub client: Client,
}

/// How a command ends: lines for standard error, or with exit code 1 one more.
pub type Outcome = Result<(), String>;

impl Call {
    /// A flag's value.
    pub fn flag(&self, name: &str) -> Option<&str> {
        self.flags.get(name).map(String::as_str)
    }

    /// Whether a flag stands there.
    pub fn has(&self, name: &str) -> bool {
        self.flags.contains_key(name)
    }

    /// The value of a flag that has to be there, in cobra's words.
    pub fn required(&self, name: &str) -> Result<&str, String> {
        self.flag(name).ok_or_else(|| format!("required flag(s) \"{name}\" not set"))
    }

    /// A word that has to be there.
    pub fn word(&self, number: usize) -> Result<&str, String> {
        self.words
            .get(number)
            .map(String::as_str)
            .ok_or_else(|| format!("accepts at least {} arg(s), received {}", number + 1, self.words.len()))
    }

    /// A document with `--json`, else a line.
    pub fn print(&self, document: &Value, line: impl FnOnce() -> String) {
        if self.has("json") {
            println!("{}", pretty(document));
        } else {
            println!("{}", line());
        }
    }
}

/// As Go indents.
pub fn pretty(document: &Value) -> String {
    serde_json::to_string_pretty(document).unwrap_or_default()
}

/// A list; an empty one is `null`, as a Go slice that nothing was put into.
pub fn list_or_null(list: Vec<Value>) -> Value {
    if list.is_empty() { Value::Null } else { list.into() }
}

/// A text field.
pub fn text<'a>(document: &'a Value, name: &str) -> &'a str {
    document[name].as_str().unwrap_or_default()
}

/// Runs one command.
pub fn main(arguments: &[&str]) -> ExitCode {
    let (words, flags) = parse(arguments);
    match run(words, flags) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn run(words: Vec<String>, flags: BTreeMap<String, String>) -> Outcome {
    let error = |error: String| format!("Error: {error}");
    let names: Vec<&str> = words.iter().map(String::as_str).collect();
    if names == ["version"] {
        println!("mmctl:\n{}", crate::release::Release::find().describe());
        return Ok(());
    }
    let flag = |name: &str| flags.get(name).map(String::as_str);
    match names[..] {
        ["auth", "login", ..] => return auth::login(names.get(2).copied(), flag("name"), flag("access-token-file")).map_err(error),
        ["auth", "clean"] => return auth::clean().map_err(error),
        _ => {}
    }
    if names.starts_with(&["bot", "create"]) && flags.contains_key("local") {
        return Err("This command cannot be run in local mode".to_owned());
    }
    let (command, depth) = find(&names).ok_or_else(|| error(format!("unknown command \"{}\" for \"mmctl\"", names.join(" "))))?;
    let client = match (flags.contains_key("local"), auth::client()) {
        (false, Some(client)) => client,
        (is_local, _) => {
            if !is_local {
                eprintln!("Warning: Unable to retrieve credentials, assuming --local mode");
            }
            Client::local().map_err(error)?
        }
    };
    command(&Call { words: words[depth..].to_vec(), flags, client }).map_err(error)
}

type Command = fn(&Call) -> Outcome;

fn find(names: &[&str]) -> Option<(Command, usize)> {
    let commands: [(&[&str], Command); 35] = [
        (&["system", "status"], server::status),
        (&["system", "version"], server::version),
        (&["config", "get"], server::config_get),
        (&["config", "set"], server::config_set),
        (&["config", "patch"], server::config_patch),
        (&["config", "show"], server::config_show),
        (&["config", "export"], server::config_show),
        (&["config", "reload"], server::config_reload),
        (&["plugin", "list"], server::plugin_list),
        (&["plugin", "enable"], server::plugin_enable),
        (&["plugin", "disable"], server::plugin_disable),
        (&["user", "create"], people::create),
        (&["user", "search"], people::search),
        (&["user", "list"], people::list),
        (&["user", "convert"], people::convert),
        (&["user", "deactivate"], people::deactivate),
        (&["user", "activate"], people::activate),
        (&["user", "change-password"], people::change_password),
        (&["bot", "list"], people::bot_list),
        (&["bot", "disable"], people::bot_disable),
        (&["bot", "enable"], people::bot_enable),
        (&["token", "generate"], people::token_generate),
        (&["team", "create"], places::team_create),
        (&["team", "list"], places::team_list),
        (&["team", "search"], places::team_search),
        (&["team", "users", "add"], places::team_users_add),
        (&["channel", "create"], places::channel_create),
        (&["channel", "list"], places::channel_list),
        (&["channel", "search"], places::channel_search),
        (&["channel", "archive"], places::channel_archive),
        (&["channel", "users", "add"], places::channel_users_add),
        (&["webhook", "create-incoming"], places::webhook_create),
        (&["webhook", "list"], places::webhook_list),
        (&["webhook", "delete"], places::webhook_delete),
        (&["post", "create"], places::post_create),
    ];
    commands.into_iter().find(|(words, _)| names.starts_with(words)).map(|(words, command)| (command, words.len()))
}

fn parse(arguments: &[&str]) -> (Vec<String>, BTreeMap<String, String>) {
    let (mut words, mut flags) = (Vec::new(), BTreeMap::new());
    let mut rest = arguments.iter();
    while let Some(argument) = rest.next() {
        let Some(flag) = argument.strip_prefix("--") else {
            words.push((*argument).to_owned());
            continue;
        };
        let (name, value) = match flag.split_once('=') {
            Some((name, value)) => (name, value),
            None if SWITCHES.contains(&flag) => (flag, "true"),
            None => (flag, rest.next().copied().unwrap_or_default()),
        };
        flags.insert(name.replace('_', "-"), value.to_owned());
    }
    (words, flags)
}
