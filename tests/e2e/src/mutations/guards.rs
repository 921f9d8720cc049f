//! Each guard of the stack, and how it is taken out.

use std::path::PathBuf;
use std::time::Duration;

use images::{Class, Error, Result};
use relay::Site;
use reqwest::Method;
use serde_json::{Value, json};
use xtask::provision::Tool;

use super::{Kept, Mutation, Signer};
use crate::lan::Lan;
use crate::steps;
use crate::world::World;

/// How long a service may take to be healthy with or without its guard.
const HEALTHY: Duration = Duration::from_secs(60);

/// The front door as it is, with another Compose behind it.
const SAME_DOOR: &str = "exec \"$XTASK\" \"$@\"";

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
        name: "mutations::a_capability_more",
        claim: "The alert gateway's container may get a capability",
        red: &["images::every_service_is_locked_down"],
        out: |world| compose(world, "alert-gateway", json!({ "cap_add": ["NET_RAW"] })),
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
        name: "mutations::a_secret_is_in_the_environment",
        claim: "The alert gateway has Coturn's secret in its environment",
        red: &["images::no_secret_is_where_it_is_not_needed"],
        out: |world| {
            let secret = world.site.secret("MATTERMOST_TURN_SECRET");
            compose(world, "alert-gateway", json!({ "environment": { "SECRET_OF_ANOTHER": secret } }))
        },
        back: gateway_back,
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
        red: &[
            "relay::calls_is_reached_through_the_relay_from_behind_every_nat_and_in_no_other_way",
            "relay::twenty_runs_of_the_matrix_lose_nothing",
            "relay::coturns_own_client_agrees",
        ],
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
        back: mattermost_back,
    },
    Mutation {
        name: "mutations::no_name_of_a_tool",
        claim: "Mattermost shows webhooks' posts under the account's name, whatever the tool calls itself",
        red: &["webhooks::what_each_tool_sends_is_posted_and_seen_at_once"],
        out: |world| compose(world, "mattermost", json!({ "environment": { "MM_SERVICESETTINGS_ENABLEPOSTUSERNAMEOVERRIDE": "false" } })),
        back: mattermost_back,
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
        name: "mutations::signatures_are_not_checked",
        claim: "The alert gateway takes what nobody has signed",
        red: &["webhooks::what_is_wrong_gets_its_exact_answer_and_no_post"],
        out: |world| Ok(Kept { signer: Some(Signer::start(world)?), ..Kept::default() }),
        back: |_, kept| {
            drop(kept.signer);
            Ok(())
        },
    },
    Mutation {
        name: "mutations::webhooks_stay_switched_on",
        claim: "Mattermost takes webhooks, whatever site.toml says",
        red: &["webhooks::switched_off_they_take_nothing"],
        out: |world| {
            let over = json!({ "mattermost": { "environment": { "MM_SERVICESETTINGS_ENABLEINCOMINGWEBHOOKS": "true" } } });
            otherwise(world, &over, SAME_DOOR)
        },
        back: up,
    },
    Mutation {
        name: "mutations::a_baked_plugin_is_off",
        claim: "A plugin of the image is disabled",
        red: &["plugins::the_baked_ones_run_in_their_version"],
        out: |world| {
            let mut states = steps::plugins::states(world)?;
            let first = states.as_object_mut().and_then(|states| states.values_mut().next());
            *first.ok_or_else(|| Error::new(Class::Check, "no plugin is enabled"))? = json!({ "Enable": false });
            compose(world, "mattermost", json!({ "environment": { steps::plugins::STATES: states.to_string() } }))
        },
        back: mattermost_back,
    },
    Mutation {
        name: "mutations::unsigned_plugins_are_allowed",
        claim: "Mattermost asks no plugin for a signature",
        red: &["plugins::unsigned_and_tampered_ones_stay_out_of_another_image"],
        out: |world| {
            let over = json!({ "mattermost": { "environment": { "MM_PLUGINSETTINGS_REQUIREPLUGINSIGNATURE": "false" } } });
            otherwise(world, &over, SAME_DOOR)
        },
        back: mattermost_back,
    },
    Mutation {
        name: "mutations::what_is_disabled_stays_so",
        claim: "The database keeps a bot disabled, whatever is written",
        red: &["provisioning::what_somebody_takes_away_is_planned_and_made_again"],
        out: |world| {
            world.site.sql("CREATE FUNCTION stays() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN OLD; END'")?;
            for table in ["bots", "users"] {
                let made =
                    format!("CREATE TRIGGER stays BEFORE UPDATE ON {table} FOR EACH ROW WHEN (OLD.deleteat > 0) EXECUTE FUNCTION stays()");
                world.site.sql(&made)?;
            }
            Ok(Kept::default())
        },
        back: |world, kept| {
            world.site.sql("DROP FUNCTION stays() CASCADE")?;
            up(world, kept)
        },
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
        red: &[
            "faults::what_mattermost_acknowledged_outlives_its_database",
            "faults::a_full_disk_and_a_kill_after_it_lose_nothing_that_was_acknowledged",
        ],
        out: |world| {
            world.site.sql("ALTER SYSTEM SET synchronous_commit = off")?;
            world.site.sql("ALTER SYSTEM SET wal_writer_delay = '10s'")?;
            world.site.sql("ALTER SYSTEM SET wal_writer_flush_after = '1GB'")?;
            world.site.sql("SELECT pg_reload_conf()")?;
            Ok(Kept::default())
        },
        back: reset,
    },
    Mutation {
        name: "mutations::the_gateway_keeps_alerts_in_memory",
        claim: "The alert gateway's spool goes when it ends",
        red: &["faults::what_the_gateway_acknowledged_outlives_its_kill_in_a_burst"],
        out: |world| {
            // Its own folder: at a restart the mode is that of the mount point, which the Engine has made.
            let account = world.description()?.accounts.alert_gateway;
            let tmpfs = format!("/spool:uid={},gid={}", account.uid, account.gid);
            compose(world, "alert-gateway", json!({ "environment": { "ALERT_GATEWAY_SPOOL": "/spool" }, "tmpfs": [tmpfs] }))
        },
        back: gateway_back,
    },
    Mutation {
        name: "mutations::connections_are_soon_forgotten",
        claim: "The server's kernel forgets a connection that is quiet for two seconds",
        red: &[
            "faults::a_network_that_is_cut_for_five_seconds_ends_neither_chat_nor_relay",
            "faults::a_network_that_is_cut_for_half_a_minute_ends_neither_chat_nor_relay",
        ],
        out: |world| {
            let was = world.lab.server().inside(|| CONNECTIONS.map(|(file, short)| write_over(file, short)))?;
            Ok(Kept { files: was.into_iter().collect::<Result<_>>()?, ..Kept::default() })
        },
        back: |world, kept| world.lab.server().inside(|| put_back(&kept))?,
    },
    Mutation {
        name: "mutations::credentials_for_a_moment",
        claim: "Mattermost's credentials for the relay are good for five minutes",
        red: &["faults::clocks_ten_minutes_apart_still_meet"],
        out: |world| compose(world, "mattermost", json!({ "environment": { "MM_CALLS_TURN_CREDENTIALS_EXPIRATION_MINUTES": "5" } })),
        back: mattermost_back,
    },
    Mutation {
        name: "mutations::down_removes_the_data",
        claim: "The volumes go with the containers",
        red: &["persistence::posts_webhooks_bots_and_plugin_keys_outlive_their_containers"],
        out: |world| otherwise(world, &json!({}), &format!("[ \"$1\" != down ] || set -- \"$@\" --volumes --yes\n{SAME_DOOR}")),
        back: up,
    },
    Mutation {
        name: "mutations::a_webhook_is_left_out",
        claim: "The one command ends before all webhooks are made",
        red: &[steps::UP],
        out: |world| {
            let forget = format!(
                "\"$XTASK\" \"$@\" || exit\n[ \"$1\" != up ] || \"$XTASK\" psql --site '{}' -- -c 'DELETE FROM incomingwebhooks'",
                world.site.folder.display()
            );
            from_nothing(world, &json!({}), &forget)
        },
        back: up,
    },
    Mutation {
        name: "mutations::a_port_is_published_too_early",
        claim: "Mattermost is published on the LAN before it has an administrator",
        // Who comes first is the administrator, and without that account the command cannot go on.
        red: &[steps::UP, "start::nobody_on_the_lan_comes_before_the_administrator"],
        out: |world| {
            let (at, port) = (world.mattermost_at().ip().to_string(), world.mattermost_at().port());
            let early = json!({ "host_ip": at, "published": port.to_string(), "target": port, "protocol": "tcp" });
            from_nothing(world, &json!({ "mattermost": { "ports": [early] } }), SAME_DOOR)
        },
        back: |world, kept| {
            nothing(world)?;
            up(world, kept)
        },
    },
    Mutation {
        name: "mutations::certificates_are_not_renewed",
        claim: "The command that renews certificates does nothing",
        red: &["faults::clients_are_back_soon_after_the_certificates_are_new"],
        out: |world| otherwise(world, &json!({}), &format!("[ \"$1\" != certs ] || exit 0\n{SAME_DOOR}")),
        back: up,
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

/// A service as the site describes it, with something laid over that.
fn compose(world: &World, service: &str, over: Value) -> Result<Kept> {
    world.replace(service, Some(over))?;
    Ok(Kept::default())
}

/// The steps' stack is started in another way.
fn otherwise(world: &World, over: &Value, door: &str) -> Result<Kept> {
    Ok(Kept { world: Some(world.otherwise(over, door)?), ..Kept::default() })
}

/// The same, and nothing is there any more.
fn from_nothing(world: &World, over: &Value, door: &str) -> Result<Kept> {
    nothing(world)?;
    otherwise(world, over, door)
}

fn nothing(world: &World) -> Result<()> {
    world.site.xtask("down --volumes --yes").capture().map(drop)
}

/// The stack as the site describes it.
fn up(world: &World, _: Kept) -> Result<()> {
    world.site.is_up().map(drop)
}

/// For how long the kernel knows a connection over which nothing comes, and whether it takes one up in the middle.
const CONNECTIONS: [(&str, &str); 2] =
    [("/proc/sys/net/netfilter/nf_conntrack_tcp_timeout_established", "2"), ("/proc/sys/net/netfilter/nf_conntrack_tcp_loose", "0")];

/// Writes a file, which had what is returned.
fn write_over(file: &str, text: &str) -> Result<(PathBuf, Vec<u8>)> {
    let was = fs_err::read(file)?;
    fs_err::write(file, text)?;
    Ok((file.into(), was))
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

fn mattermost_back(world: &World, _: Kept) -> Result<()> {
    world.replace("mattermost", None)
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
