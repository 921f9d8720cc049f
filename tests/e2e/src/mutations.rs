//! The proof checks itself: one guard at a time is taken out of the running stack, and exactly the steps that claim it have to go red.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use images::{Class, Error, Result};
use relay::Site;
use reqwest::Method;
use serde_json::{Value, json};
use xtask::provision::Tool;

use crate::journal::{Ended, Event, Journal, Verdict, now};
use crate::lan::Lan;
use crate::runner::once;
use crate::step::{Cell, Evidence, Step, Table, When};
use crate::steps;
use crate::world::World;

/// A guard, and how it is taken out.
pub struct Mutation {
    /// `mutations::what_is_taken_out`.
    pub name: &'static str,
    /// The same in words.
    pub claim: &'static str,
    /// The steps that claim the guard; the others of their groups have to stay green.
    red: &'static [&'static str],
    /// Takes it out; what the second gets puts it back.
    out: fn(&World) -> Result<Kept>,
    back: fn(&World, Kept) -> Result<()>,
}

/// What putting back needs to know.
#[derive(Default)]
struct Kept {
    files: Vec<(PathBuf, Vec<u8>)>,
    text: String,
}

/// How long a service may take to be healthy with or without its guard.
const HEALTHY: Duration = Duration::from_secs(60);

/// The check that no step is without a mutation.
pub const COMPLETE: (&str, &str) =
    ("mutations::every_step_has_one", "For each step there is a guard that is taken out, and then it goes red");

/// Each guard.
pub const ALL: &[Mutation] = &[
    Mutation {
        name: "mutations::another_image_runs",
        claim: "The alert gateway runs an image that nobody built here",
        red: &["images::what_runs_is_what_was_built"],
        out: |world| {
            let id = world.lab.docker("commit").arg(world.container("alert-gateway")?).text()?;
            compose(world, "alert-gateway", json!({ "image": id }))
        },
        back: gateway_back,
    },
    Mutation {
        name: "mutations::a_root_is_writable",
        claim: "The root of the alert gateway's container is writable",
        red: &["images::every_service_is_locked_down"],
        out: |world| compose(world, "alert-gateway", json!({ "read_only": false })),
        back: gateway_back,
    },
    Mutation {
        name: "mutations::a_port_more_is_published",
        claim: "The alert gateway has one published port too many",
        red: &["images::what_listens_is_on_the_list"],
        out: |world| compose(world, "alert-gateway", json!({ "ports": [format!("{}:{}:9999", world.server(), world.site.port(9))] })),
        back: gateway_back,
    },
    Mutation {
        name: "mutations::a_secret_is_in_an_argument",
        claim: "A program in PostgreSQL's container has a secret among its arguments",
        red: &["images::no_secret_is_where_it_is_not_needed"],
        out: |world| {
            let secret = format!("--set=secret={}", world.site.secret("MATTERMOST_DB_PASSWORD"));
            let psql = world.lab.docker("exec --detach").arg(world.container("postgres")?).args(["psql", "--username", "postgres"]);
            psql.args([&secret, "--command", "SELECT pg_sleep(600)"]).capture()?;
            let shown = || world.site.sql("SELECT count(*) FROM pg_stat_activity WHERE query LIKE '%pg_sleep(600)'").ok();
            lab::wait_for("the session", HEALTHY, || shown().filter(|count| count != "0"), || world.site.logs());
            Ok(Kept::default())
        },
        back: |world, _| {
            let end = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE query LIKE '%pg_sleep(600)' AND pid <> pg_backend_pid()";
            world.site.sql(end).map(drop)
        },
    },
    Mutation {
        name: "mutations::a_certificate_without_the_address",
        claim: "The alert gateway's certificate does not hold the address on the LAN",
        red: &["tls::every_chain_holds_by_name_and_address"],
        out: |world| certificate(world, "\"192.168.77.99\""),
        back: restored,
    },
    Mutation {
        name: "mutations::a_certificate_for_too_much",
        claim: "The alert gateway's certificate holds an address that is somebody else's",
        red: &["tls::a_wrong_ca_name_or_address_is_refused"],
        out: |world| certificate(world, "\"192.168.77.20\", \"192.168.77.21\""),
        back: restored,
    },
    Mutation {
        name: "mutations::old_tls_is_spoken",
        claim: "PostgreSQL speaks TLS 1.0",
        red: &["tls::nothing_older_than_tls_1_2_is_spoken"],
        out: |world| {
            world.site.sql("ALTER SYSTEM SET ssl_min_protocol_version = 'TLSv1'")?;
            world.site.sql("ALTER SYSTEM SET ssl_ciphers = 'ALL:@SECLEVEL=0'")?;
            world.site.sql("SELECT pg_reload_conf()")?;
            Ok(Kept::default())
        },
        back: reset,
    },
    Mutation {
        name: "mutations::the_database_takes_anybody",
        claim: "PostgreSQL lets everybody in, without TLS and without a password",
        red: &["tls::the_database_is_asked_for_its_certificate"],
        out: |world| {
            let file = world.inside("postgres", world.site.sql("SHOW hba_file")?.trim())?;
            let kept = keep(std::slice::from_ref(&file))?;
            fs_err::write(&file, [b"host all all 0.0.0.0/0 trust\n".as_slice(), &kept.files[0].1].concat())?;
            world.site.sql("SELECT pg_reload_conf()")?;
            Ok(kept)
        },
        back: |world, kept| {
            put_back(&kept)?;
            world.site.sql("SELECT pg_reload_conf()").map(drop)
        },
    },
    Mutation {
        name: "mutations::the_secrets_differ",
        claim: "Coturn has another secret than Mattermost",
        red: &["relay::calls_is_reached_through_the_relay_from_behind_every_nat_and_in_no_other_way", "relay::coturns_own_client_agrees"],
        out: |world| {
            let files = secret_files(world, "coturn", &world.site.secret("MATTERMOST_TURN_SECRET"))?;
            let kept = keep(&files)?;
            files.iter().try_for_each(|file| fs_err::write(file, "another-secret-than-that-of-mattermost\n"))?;
            world.restart("coturn")?;
            Ok(kept)
        },
        back: |world, kept| {
            put_back(&kept)?;
            world.restart("coturn")
        },
    },
    Mutation {
        name: "mutations::a_peer_too_many",
        claim: "Coturn relays to one more address, a private one",
        red: &["refusals::bad_credentials_and_every_other_peer_are_refused"],
        out: |world| {
            let peers = format!("{},10.0.0.1", world.server());
            compose(world, "coturn", json!({ "environment": { "COTURN_ALLOWED_PEER_IP": peers } }))
        },
        back: coturn_back,
    },
    Mutation {
        name: "mutations::no_packet_filter",
        claim: "The packet filter is off",
        red: &["refusals::the_packet_filter_leaves_the_port_of_calls_alone"],
        out: |world| {
            Site::open(&world.folder())?.filter(world.lab.server()).off()?;
            Ok(Kept::default())
        },
        back: |world, _| Site::open(&world.folder())?.filter(world.lab.server()).on(),
    },
    Mutation {
        name: "mutations::no_quota",
        claim: "One user may have every relay port",
        red: &["refusals::quotas_hold_and_half_open_allocations_keep_nobody_out"],
        out: |world| compose(world, "coturn", json!({ "environment": { "COTURN_USER_QUOTA": "1000" } })),
        back: coturn_back,
    },
    Mutation {
        name: "mutations::every_origin_is_let_in",
        claim: "Pages of every origin may connect",
        red: &["webhooks::a_page_of_another_origin_is_kept_out"],
        out: |world| compose(world, "mattermost", json!({ "environment": { "MM_SERVICESETTINGS_ALLOWCORSFROM": "*" } })),
        back: |world, _| world.replace("mattermost", None),
    },
    Mutation {
        name: "mutations::no_name_of_a_tool",
        claim: "Mattermost shows webhooks' posts under the account's name, whatever the tool calls itself",
        red: &["webhooks::what_each_tool_sends_is_posted_and_seen_at_once"],
        out: |world| compose(world, "mattermost", json!({ "environment": { "MM_SERVICESETTINGS_ENABLEPOSTUSERNAMEOVERRIDE": "false" } })),
        back: |world, _| world.replace("mattermost", None),
    },
    Mutation {
        name: "mutations::a_webhook_is_not_locked",
        claim: "Jenkins' webhook for builds posts into every channel",
        red: &["webhooks::what_is_wrong_gets_its_exact_answer_and_no_post"],
        out: |world| {
            lock(world, false)?;
            Ok(Kept::default())
        },
        back: |world, _| lock(world, true),
    },
    Mutation {
        name: "mutations::nobody_starts_a_service_again",
        claim: "The alert gateway is not started again when it has ended",
        red: &["faults::a_service_that_is_killed_is_back_and_does_its_work"],
        out: |world| restarts(world, "no"),
        back: |world, _| {
            restarts(world, "unless-stopped")?;
            world.replace("alert-gateway", None)
        },
    },
    Mutation {
        name: "mutations::the_database_says_yes_too_early",
        claim: "PostgreSQL acknowledges what is not on disk",
        red: &["faults::what_mattermost_acknowledged_outlives_its_database"],
        out: |world| {
            world.site.sql("ALTER SYSTEM SET synchronous_commit = off")?;
            world.site.sql("ALTER SYSTEM SET wal_writer_delay = '10s'")?;
            world.site.sql("SELECT pg_reload_conf()")?;
            Ok(Kept::default())
        },
        back: reset,
    },
    Mutation {
        name: "mutations::credentials_for_a_moment",
        claim: "Mattermost's credentials for the relay are good for five minutes",
        red: &["faults::clocks_ten_minutes_apart_still_meet"],
        out: |world| compose(world, "mattermost", json!({ "environment": { "MM_CALLS_TURN_CREDENTIALS_EXPIRATION_MINUTES": "5" } })),
        back: |world, _| world.replace("mattermost", None),
    },
    Mutation {
        name: "mutations::a_way_out",
        claim: "The server has a default route",
        red: &["egress::nothing_leaves"],
        out: |world| {
            let server = world.lab.server();
            server.ip(&["link", "add", "out0", "type", "bridge"])?;
            server.ip(&["link", "set", "out0", "up"])?;
            server.ip(&["route", "add", "default", "dev", "out0"])?;
            Ok(Kept::default())
        },
        back: |world, _| world.lab.server().ip(&["link", "del", "out0"]),
    },
];

/// Names and claims, for reports.
pub fn claims() -> impl Iterator<Item = (&'static str, &'static str)> {
    ALL.iter().map(|mutation| (mutation.name, mutation.claim)).chain([COMPLETE])
}

/// Takes out each guard that `chosen` names, and tells what became of it.
pub fn run(world: &World, journal: &Journal, chosen: impl Fn(&str) -> bool) -> Result<()> {
    for mutation in ALL.iter().filter(|mutation| chosen(mutation.name)) {
        journal.tell(&Event::Began { step: mutation.name.to_owned() })?;
        let (at, since) = (now(), Instant::now());
        let mut evidence = Evidence::new(&world.run, mutation.name, &world.site.folder);
        let failure = mutation.prove(world, &mut evidence).err().map(|error| world.hidden().redact(&error.to_string()));
        tell(journal, mutation.name, at, since, failure, evidence)?;
    }
    if chosen(COMPLETE.0) {
        let evidence = Evidence::new(&world.run, COMPLETE.0, &world.site.folder);
        let without = without();
        let failure =
            (!without.is_empty()).then(|| format!("steps that nothing makes red\n  expected none\n  seen     {}", without.join(", ")));
        tell(journal, COMPLETE.0, now(), Instant::now(), failure, evidence)?;
    }
    Ok(())
}

fn tell(journal: &Journal, step: &str, at: f64, since: Instant, failure: Option<String>, evidence: Evidence) -> Result<()> {
    let verdict = if failure.is_some() { Verdict::Failed } else { Verdict::Passed };
    let took = since.elapsed().as_secs_f64();
    journal.tell(&Event::Ended(Ended { step: step.to_owned(), at, took, verdict, failure, shown: evidence.shown }))
}

/// Steps that no mutation makes red.
fn without() -> Vec<&'static str> {
    steps::every().map(|step| step.name).filter(|name| !ALL.iter().any(|mutation| mutation.red.contains(name))).collect()
}

fn group(name: &str) -> &str {
    name.split("::").next().unwrap_or_default()
}

impl Mutation {
    /// The steps that claim the guard, and those beside them.
    fn matching(&self) -> impl Iterator<Item = &'static Step> {
        // One fault at a time is enough.
        let beside =
            |step: &Step| self.red.iter().any(|red| group(red) == group(step.name)) && group(step.name) != "faults" && step.is_quick();
        steps::every().filter(move |step| step.when != When::FirstStart && (self.red.contains(&step.name) || beside(step)))
    }

    fn prove(&self, world: &World, evidence: &mut Evidence) -> Result<()> {
        let kept = (self.out)(world)?;
        let mut rows = Vec::new();
        for step in self.matching() {
            let (seen, _) = once(world, step);
            rows.push((step.name, seen));
        }
        (self.back)(world, kept)?;
        let mut wrong = Vec::new();
        let row = |(name, seen): (&'static str, std::result::Result<(), String>)| {
            let wanted = self.red.contains(&name);
            if seen.is_err() != wanted {
                wrong.push(format!("{name}: {}", seen.as_ref().err().map_or("green", String::as_str)));
            }
            let why = seen.as_ref().err().and_then(|why| why.lines().next()).unwrap_or("green").to_owned();
            let colour = if seen.is_err() { format!("red: {why}") } else { why };
            (name.to_owned(), vec![Cell { text: colour, good: Some(seen.is_err() == wanted) }])
        };
        let rows = rows.into_iter().map(row).collect();
        evidence.table(Table { title: self.claim.to_owned(), columns: vec!["step".to_owned(), "without the guard".to_owned()], rows });
        match wrong.is_empty() {
            true => Ok(()),
            false => {
                let error = Error::new(Class::Check, "another step than those that claim the guard went red, or one of these stayed green");
                let error = error.detail(format!("expected red {}", self.red.join(", ")));
                Err(wrong.into_iter().fold(error, |error, line| error.detail(format!("seen     {line}"))))
            }
        }
    }
}

/// A service as the site describes it, with something laid over that.
fn compose(world: &World, service: &str, over: Value) -> Result<Kept> {
    world.replace(service, Some(over))?;
    Ok(Kept::default())
}

/// PostgreSQL's settings as its entrypoint wrote them.
fn reset(world: &World, _: Kept) -> Result<()> {
    world.site.sql("ALTER SYSTEM RESET ALL")?;
    world.site.sql("SELECT pg_reload_conf()").map(drop)
}

/// Whether the Engine starts the alert gateway again.
fn restarts(world: &World, policy: &str) -> Result<Kept> {
    world.lab.docker("update --restart").arg(policy).arg(world.container("alert-gateway")?).capture()?;
    Ok(Kept::default())
}

fn gateway_back(world: &World, _: Kept) -> Result<()> {
    world.replace("alert-gateway", None)
}

fn coturn_back(world: &World, _: Kept) -> Result<()> {
    world.replace("coturn", None)
}

/// The files of a service's volume of secrets that hold a text; the Engine's own files, because the container may only read them.
fn secret_files(world: &World, service: &str, text: &str) -> Result<Vec<PathBuf>> {
    let mounts = world.site.inspect(&world.container(service)?)?["Mounts"].take();
    let secrets = mounts.as_array().into_iter().flatten().find(|mount| mount["Destination"] == "/run/secrets");
    let folder = secrets.and_then(|mount| mount["Source"].as_str()).unwrap_or_default().to_owned();
    let mut found = Vec::new();
    for entry in fs_err::read_dir(folder)? {
        let path = entry?.path();
        if String::from_utf8_lossy(&fs_err::read(&path)?).contains(text.trim()) {
            found.push(path);
        }
    }
    match found.is_empty() {
        true => Err(Error::new(Class::Check, format!("{service} has no file with the secret that is to be replaced"))),
        false => Ok(found),
    }
}

fn keep(files: &[PathBuf]) -> Result<Kept> {
    let read = |file: &PathBuf| Ok((file.clone(), fs_err::read(file)?));
    Ok(Kept { files: files.iter().map(read).collect::<Result<_>>()?, ..Kept::default() })
}

fn put_back(kept: &Kept) -> Result<()> {
    kept.files.iter().try_for_each(|(file, bytes)| fs_err::write(file, bytes)).map_err(Error::from)
}

/// Gives the gateway a certificate of the site's own CA for other addresses.
fn certificate(world: &World, addresses: &str) -> Result<Kept> {
    let other = world.run.join("world/mutated");
    let _ = fs_err::remove_dir_all(&other);
    let own = &world.site.folder;
    fs_err::create_dir_all(&other)?;
    world.machine().process("cp").args(["--archive", "--"]).arg(own.join("pki")).arg(&other).capture()?;
    let described = fs_err::read_to_string(world.folder().toml())?;
    let own_address = format!("addresses = [\"{}\"]", world.server());
    fs_err::write(other.join("site.toml"), described.replace(&own_address, &format!("addresses = [{addresses}]")))?;
    world.site.xtask_for(&other, "certs").capture()?;
    let mut kept = Kept::default();
    for name in ["alert-gateway.pem", "alert-gateway-key.pem"] {
        let (was, is) = (fs_err::read_to_string(own.join("pki").join(name))?, fs_err::read(other.join("pki").join(name))?);
        let files = secret_files(world, "alert-gateway", &was)?;
        kept.files.extend(keep(&files)?.files);
        files.iter().try_for_each(|file| fs_err::write(file, &is))?;
    }
    kept.text = "alert-gateway".to_owned();
    world.restart("alert-gateway")?;
    Ok(kept)
}

fn restored(world: &World, kept: Kept) -> Result<()> {
    put_back(&kept)?;
    world.restart(&kept.text)
}

/// Locks Jenkins' webhook for builds against other channels, or does not.
fn lock(world: &World, locked: bool) -> Result<()> {
    let client = world.client()?;
    client.inside(|| -> Result<()> {
        let lan = Lan::new(world)?;
        let path = format!("/api/v4/hooks/incoming/{}", lan.hook(Tool::Jenkins, "builds")?);
        let mut hook = lan.chat.ask(Method::GET, &path, None)?;
        hook["channel_locked"] = locked.into();
        lan.chat.ask(Method::PUT, &path, Some(&hook)).map(drop)
    })?
}
