//! The environment files that are written, read by the programs that read them: Compose, Docker's client, a shell.
//!
//! Docker's client needs no Engine for it: it sends what it read to the socket that this test listens on.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;

use images::Class;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use serde_json::{Value, json};
use xtask::machine::{Machine, require};
use xtask::process::Process;
use xtask::site::env::environments;
use xtask::site::env_file;
use xtask::site::secrets::{Secrets, system_random};
use xtask::workspace::Workspace;

/// As many values in one file, so that a program is started once for all of them.
const VALUES: usize = 120;
const ROUNDS: u32 = 4;

/// Values that one line can carry: picked from what is likely to hurt, and from everything.
fn values() -> impl Strategy<Value = Vec<String>> {
    let piece = prop_oneof![
        4 => "[A-Za-z0-9._/:@%+,=~-]{1,8}",
        4 => proptest::sample::select(vec![
            " ", "  ", "#", "'", "\"", "\\", "\\n", "`", "{", "}", "=", ":", "export ", "%", "!", "~", "é", "🚀", "\u{a0}", "\u{2028}", "\\$",
            "&", ";", "(", "*", "//", "--", "|", "<<", "\u{feff}", "日本",
        ]).prop_map(str::to_owned),
        2 => "\\PC{0,6}",
    ];
    let value = proptest::collection::vec(piece, 0..6).prop_map(|pieces| pieces.concat());
    let value = prop_oneof![
        3 => value.clone().prop_filter("refused", |value| env_file::wrong(value).is_none()),
        1 => ("\\PC{0,9}", value).prop_map(|(name, text)| env_file::json(&json!({ name: [text, "$x", "${y:-z}", "a # b", "\n"] }))),
    ];
    proptest::collection::vec(value, VALUES)
}

fn check(test: impl Fn(&Path, &[String])) {
    let mut runner = TestRunner::new(Config { cases: ROUNDS, failure_persistence: None, max_shrink_iters: 200, ..Config::default() });
    let run = runner.run(&values(), |values| {
        let folder = tempfile::tempdir().expect("a folder");
        let lines: String =
            values.iter().enumerate().map(|(at, value)| env_file::line(&format!("V{at}"), value).expect("carried") + "\n").collect();
        fs_err::write(folder.path().join("v.env"), lines).expect("written");
        test(folder.path(), &values);
        Ok(())
    });
    run.expect("every value is read back");
}

/// Whether `parts` are there; else the reason is printed, and in CI it is a failure.
fn has(parts: &[&'static str]) -> Option<Machine> {
    let machine = Machine::of(&Workspace::find().expect("a checkout"));
    match require(&machine, parts) {
        Ok(()) => Some(machine),
        Err(error) => {
            assert!(std::env::var_os("CI").is_none(), "in CI nothing may be skipped: {error}");
            eprintln!("skipped: {error}");
            None
        }
    }
}

#[test]
fn compose_reads_what_was_written() {
    let Some(machine) = has(&["docker", "docker compose"]) else { return };
    check(|folder, values| {
        let read = by_compose(&machine, folder, "v.env");
        for (at, value) in values.iter().enumerate() {
            assert_eq!(read.get(&format!("V{at}")), Some(value));
        }
    });
}

/// The environment of a service whose `env_file` is `file`, as Compose reads it.
fn by_compose(machine: &Machine, folder: &Path, file: &str) -> BTreeMap<String, String> {
    let compose = json!({ "services": { "s": { "image": "none", "env_file": [file] } } });
    fs_err::write(folder.join("compose.json"), compose.to_string()).expect("written");
    let process = machine.process("docker").in_folder(folder).args(["compose", "-f", "compose.json", "config", "--format", "json"]);
    let text = process.fails_as(Class::Check).text().expect("Compose takes the file");
    let config: Value = serde_json::from_str(&text).expect("JSON");
    let environment = config["services"]["s"]["environment"].as_object().expect("an environment");
    // What `config` prints is a Compose file again, hence the doubled $.
    let read = environment.iter().map(|(name, value)| (name.clone(), value.as_str().expect("text").replace("$$", "$")));
    read.collect()
}

#[test]
fn compose_reads_the_settings_of_a_site_as_they_are_meant() {
    let Some(machine) = has(&["docker", "docker compose"]) else { return };
    let text = "format = 1\naddresses = [\"192.168.1.20\", \"fd00::20\"]\n[jenkins]\nurl = \"https://jenkins.cicd.local\"\n\
                [mattermost]\nbanner = 'it is 🚀#1, \"up\"'\n";
    let site = xtask::site::parse("site.toml", text, || unreachable!()).expect("a site");
    let mut secrets = Secrets::default();
    secrets.fill(|_| true, &mut system_random).expect("filled");
    for (service, env) in environments(&site, &secrets).expect("good") {
        let folder = tempfile::tempdir().expect("a folder");
        fs_err::write(folder.path().join("s.env"), env.text(service).expect("a text")).expect("written");
        let meant: BTreeMap<String, String> = env.settings().map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
        assert_eq!(by_compose(&machine, folder.path(), "s.env"), meant, "{}", service.name());
    }
}

#[test]
fn docker_run_reads_what_was_written() {
    let Some(machine) = has(&["docker"]) else { return };
    check(|folder, values| {
        let socket = folder.join("engine.sock");
        let listener = UnixListener::bind(&socket).expect("bound");
        let engine = std::thread::spawn(move || created(&listener));
        let process = machine.process("docker").in_folder(folder).env("DOCKER_HOST", format!("unix://{}", socket.display()));
        let id = process.args(["create", "--pull", "never", "--env-file", "v.env", "none"]).fails_as(Class::Check).text();
        assert_eq!(id.expect("Docker takes the file").trim(), "0123456789ab");
        let request = engine.join().expect("answered");
        let read: Vec<&str> = request["Env"].as_array().expect("a list").iter().filter_map(Value::as_str).collect();
        let wanted: Vec<String> = values.iter().enumerate().map(|(at, value)| format!("V{at}={value}")).collect();
        assert_eq!(read, wanted);
    });
}

/// An Engine that only knows how to create a container: its request.
fn created(listener: &UnixListener) -> Value {
    loop {
        let (mut connection, _) = listener.accept().expect("a client");
        if let Some(request) = serve(&mut connection) {
            return request;
        }
    }
}

fn serve(connection: &mut UnixStream) -> Option<Value> {
    let mut reader = BufReader::new(connection.try_clone().expect("a handle"));
    let mut first = String::new();
    while reader.read_line(&mut first).expect("a request") > 0 {
        let mut length = 0;
        loop {
            let mut header = String::new();
            reader.read_line(&mut header).expect("a header");
            let Some((name, value)) = header.trim_end().split_once(':') else { break };
            if name.eq_ignore_ascii_case("content-length") {
                length = value.trim().parse().expect("a number");
            }
        }
        let mut body = vec![0; length];
        reader.read_exact(&mut body).expect("a body");
        let create = first.contains("/containers/create");
        let (status, answer) = if create { ("201 Created", r#"{"Id":"0123456789ab","Warnings":[]}"#) } else { ("200 OK", "") };
        let head =
            format!("HTTP/1.1 {status}\r\nApi-Version: 1.41\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n", answer.len());
        connection.write_all((head + answer).as_bytes()).expect("answered");
        if create {
            return Some(serde_json::from_slice(&body).expect("JSON"));
        }
        first.clear();
    }
    None
}

#[test]
fn a_shell_reads_bare_values() {
    check(|folder, values| {
        let bare: Vec<(usize, &String)> = values.iter().enumerate().filter(|(_, value)| env_file::is_bare(value)).collect();
        let lines: String = bare.iter().map(|(at, value)| format!("V{at}={value}\n")).collect();
        fs_err::write(folder.join("bare.env"), lines).expect("written");
        let script = bare.iter().fold(". ./bare.env\n".to_owned(), |script, (at, _)| script + &format!("printf '<%s>\\n' \"$V{at}\"\n"));
        let text = Process::new("sh", folder).args(["-c", &script]).fails_as(Class::Check).text().expect("sourced");
        assert!(bare.len() > 3, "only {} of {} values are bare", bare.len(), values.len());
        assert_eq!(text.lines().collect::<Vec<_>>(), bare.iter().map(|(_, value)| format!("<{value}>")).collect::<Vec<_>>());
    });
}
