//! The recorded answers of a real server, replayed: against the API double, or with `--url` against any server.
//!
//! ```text
//! cargo test -p mattermost-double --test contract
//! cargo test -p mattermost-double --test contract -- --url https://chat.example.lan --ca site.pem --admin-file admin.txt
//! ```
//! `admin.txt` holds the administrator's `name:password`, or a token, in one line. That server has to be one that may be
//! thrown away: users, a team `platform`, channels and webhooks are made. What needs a server of its own (an empty database, other settings, the
//! local socket) is then not replayed, and said to be ignored.

mod claims;
mod place;
mod recorded;
mod replay;
mod scenario;

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::sync::{Arc, Mutex, PoisonError};

use libtest_mimic::{Arguments, Failed, Trial};

use replay::{Results, Who};

fn main() -> ExitCode {
    // Ignored: only the first provider counts.
    let _ = rustls_graviola::default_provider().install_default();
    let (own, rest) = split(std::env::args().collect());
    let arguments = Arguments::from_iter(rest);
    let names = recorded::names();
    let trials: Vec<Trial> = match (arguments.list, own.get("--url")) {
        (true, _) => names.iter().map(|name| ignored(name, "not run")).collect(),
        (false, Some(url)) => {
            let results = scenario::elsewhere(url, own.get("--ca").map(String::as_str), own.get("--admin-file").map(String::as_str));
            names.iter().map(|name| trial(name, &results).unwrap_or_else(|| ignored(name, "needs a server of its own"))).collect()
        }
        (false, None) => match place::Postgres::find() {
            Ok(bin) => {
                let postgres = Arc::new(Mutex::new(place::Postgres::start(bin)));
                let results = scenario::double(&mut postgres.lock().expect("nobody else has it"));
                let claims = claims::CLAIMS.iter().map(|(name, proves)| {
                    let postgres = postgres.clone();
                    Trial::test(*name, move || {
                        proves(&mut postgres.lock().unwrap_or_else(PoisonError::into_inner));
                        Ok(())
                    })
                });
                against_the_double(&names, &results).into_iter().chain(claims).collect()
            }
            Err(why) => names.iter().map(|name| ignored(name, &why)).collect(),
        },
    };
    libtest_mimic::run(&arguments, trials).exit_code()
}

/// Each file is replayed, or stands in the list of those that are not: one that is in neither is a failure.
fn against_the_double(names: &[String], results: &Results) -> Vec<Trial> {
    let mut trials = Vec::new();
    for name in names {
        let why = scenario::NOT_REPLAYED.iter().find(|(beginning, _)| name.starts_with(beginning));
        match (trial(name, results), why) {
            (Some(trial), _) => trials.push(trial),
            (None, Some((_, why))) => println!("not replayed: {name}: {why}"),
            (None, None) => trials.push(Trial::test(name, || Err("it is not replayed, and no list says why".into()))),
        }
    }
    trials
}

/// Those of ours, and what the test harness knows.
fn split(arguments: Vec<String>) -> (BTreeMap<String, String>, Vec<String>) {
    let (mut own, mut rest) = (BTreeMap::new(), Vec::new());
    let mut all = arguments.into_iter();
    while let Some(argument) = all.next() {
        match argument.as_str() {
            "--url" | "--ca" | "--admin-file" => _ = own.insert(argument, all.next().unwrap_or_default()),
            _ => rest.push(argument),
        }
    }
    (own, rest)
}

fn trial(name: &str, results: &Results) -> Option<Trial> {
    let wrong = results.get(name)?.join("\n");
    Some(Trial::test(name, move || if wrong.is_empty() { Ok(()) } else { Err(Failed::from(wrong)) }))
}

fn ignored(name: &str, why: &str) -> Trial {
    Trial::test(format!("{name}: {why}"), || Ok(())).with_ignored_flag(true)
}

/// Tokens by who has them, as files hold them.
fn credentials(text: &str) -> Result<(Who, String), (String, String)> {
    match text.trim().split_once(':') {
        Some((name, password)) => Err((name.to_owned(), password.to_owned())),
        None => Ok((Who::Admin, text.trim().to_owned())),
    }
}
