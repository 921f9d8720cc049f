//! What breaks, and comes back: in a bound, with nothing lost that was acknowledged.

use std::collections::BTreeMap;
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use images::{Class, Error, Result};
use lab::namespace::Namespace;
use lab::phone::Nat;
use relay::call::Call;
use relay::chat::Chat;
use rustls::pki_types::{ServerName, UnixTime};
use rustls::time_provider::TimeProvider;
use rustls::{ClientConfig, ClientConnection, StreamOwned};
use xtask::site::secrets::Name;
use xtask::turn::{Client, Credential, Family};

use super::relay::caller;
use crate::lan::{Lan, kept, mark, seen, taken};
use crate::step::{Evidence, Need, Step, When};
use crate::world::World;

/// The steps.
pub const STEPS: &[Step] = &[
    step(
        "faults::a_service_that_is_killed_is_back_and_does_its_work",
        "kill -9 of each service: it is healthy again within a minute, and a webhook, an alert and a relay work as before",
        240,
        &[],
        killed,
    ),
    step(
        "faults::what_mattermost_acknowledged_outlives_its_database",
        "While webhooks are sent without a pause, PostgreSQL is restarted, then killed: every webhook that was answered ok is a post",
        150,
        &[],
        database,
    ),
    step(
        "faults::what_the_gateway_acknowledged_outlives_its_kill_in_a_burst",
        "The alert gateway is killed in the middle of a burst, while Mattermost does not answer: every alert that it said yes to is posted, and at \
         most the one under way twice",
        120,
        &[],
        burst,
    ),
    step(
        "faults::a_network_that_is_cut_for_five_seconds_ends_neither_chat_nor_relay",
        "The server's network is cut for five seconds: the same WebSocket sees the next post, and the same allocation relays the next packet",
        90,
        &[Need::Part("nft"), Need::Part("ip")],
        |world, evidence| cut(world, evidence, Duration::from_secs(5)),
    ),
    step(
        "faults::clocks_ten_minutes_apart_still_meet",
        "Credentials and certificates are good for somebody whose clock is ten minutes ahead or behind, and not for one whose clock is years off",
        60,
        &[],
        clocks,
    ),
];

/// One that breaks things.
pub const fn step(
    name: &'static str,
    claim: &'static str,
    seconds: u64,
    needs: &'static [Need],
    proves: fn(&World, &mut Evidence) -> Result<()>,
) -> Step {
    Step { name, claim, deadline: Duration::from_secs(seconds), needs, when: When::Alone, proves }
}

/// How long a service that was killed may take to be healthy.
pub const BACK: Duration = Duration::from_secs(60);
/// How long what was acknowledged may take to be posted after a fault.
const POSTED: Duration = Duration::from_secs(40);
/// Webhooks or alerts of a burst.
const MANY: usize = 60;
/// Who sends them.
const SENDERS: usize = 4;
/// How wrong a clock is.
const MINUTES: i64 = 10 * 60;

/// SIGKILL, and waits until the service is healthy again.
pub fn kill(world: &World, service: &str) -> Result<Duration> {
    let pid = world.pid(service)?;
    world.machine().process("kill").args(["-KILL", &pid.to_string()]).capture()?;
    let begin = Instant::now();
    world.is_healthy_again(service, pid, BACK);
    Ok(begin.elapsed())
}

fn killed(world: &World, evidence: &mut Evidence) -> Result<()> {
    let client = world.client()?;
    for service in ["alert-gateway", "coturn", "mattermost", "postgres"] {
        let back = kill(world, service)?;
        evidence.fact(format!("{service} was healthy after"), format!("{:.1} s", back.as_secs_f32()));
        client.inside(|| works(world, evidence, service))??;
    }
    Ok(())
}

/// A webhook of each tool and a relay.
fn works(world: &World, evidence: &mut Evidence, after: &str) -> Result<()> {
    let lan = Lan::new(world)?;
    lan.works(evidence, &format!("after the kill of {after}"))?;
    let (credential, _) = lan.chat.turn_credential()?;
    let mut relayed = lan.site.connect(credential).map_err(|failure| broken(&failure))?;
    let address = relayed.allocate(Family::V4).map_err(|failure| broken(&failure))?;
    relayed.release().map_err(|failure| broken(&failure))?;
    evidence.same(&format!("after the kill of {after}: a relay candidate of"), lan.site.target.relayed, address.ip())
}

fn broken(why: &dyn std::fmt::Display) -> Error {
    Error::new(Class::Check, why.to_string())
}

/// Sends a burst, each sender without a pause. `fault` comes when a quarter of it is acknowledged, and is told how many are. What was answered
/// well.
fn under(
    world: &World,
    client: &Namespace,
    send: impl Fn(&Lan, &str) -> Result<bool> + Sync,
    fault: impl FnOnce(&AtomicUsize) -> Result<()>,
) -> Result<Vec<String>> {
    let good = AtomicUsize::new(0);
    let sender = || -> Result<Vec<String>> {
        // The server may still be connecting anew.
        let lan = lab::wait_for("Mattermost", BACK, || Lan::new(world).ok(), || world.site.logs());
        let mut acknowledged = Vec::new();
        for _ in 0..MANY / SENDERS {
            let word = mark();
            // Who is not answered does not know; a tool would tell its operator.
            if send(&lan, &word).unwrap_or(false) {
                acknowledged.push(word);
                good.fetch_add(1, Ordering::SeqCst);
            } else {
                std::thread::sleep(Duration::from_millis(100));
            }
        }
        Ok(acknowledged)
    };
    // A namespace is a thread's, and its children's.
    let senders = || {
        std::thread::scope(|scope| -> Result<Vec<String>> {
            let threads: Vec<_> = (0..SENDERS).map(|_| scope.spawn(sender)).collect();
            let joined = threads.into_iter().map(|thread| thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)));
            Ok(joined.collect::<Result<Vec<_>>>()?.concat())
        })
    };
    std::thread::scope(|scope| {
        let burst = scope.spawn(|| client.inside(senders));
        acknowledged(&good, MANY / 4);
        fault(&good)?;
        burst.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))?
    })
}

/// Waits until so many of a burst are acknowledged.
fn acknowledged(good: &AtomicUsize, many: usize) {
    let enough = || (good.load(Ordering::SeqCst) >= many).then_some(());
    lab::wait_for("acknowledged of a burst", BACK, enough, || format!("{} of {many}", good.load(Ordering::SeqCst)));
}

/// How often each word is among the posts of a channel.
pub fn counts(lan: &Lan, channel: &str, words: &[String]) -> Result<BTreeMap<String, usize>> {
    let texts = lan.texts(channel)?;
    Ok(words.iter().map(|word| (word.clone(), texts.iter().filter(|text| text.contains(word.as_str())).count())).collect())
}

fn database(world: &World, evidence: &mut Evidence) -> Result<()> {
    let client = world.client()?;
    let build = |lan: &Lan, word: &str| Ok(lan.build(word)? == taken());
    let mut acknowledged = under(world, &client, build, |_| world.restart("postgres"))?;
    acknowledged.extend(under(world, &client, build, |_| kill(world, "postgres").map(drop))?);
    client.inside(|| -> Result<()> {
        // The server may still be connecting anew.
        let lan = lab::wait_for("Mattermost after its database's kill", BACK, || Lan::new(world).ok(), || world.site.logs());
        let found = counts(&lan, "builds", &acknowledged)?;
        let lost: Vec<_> = found.iter().filter(|(_, count)| **count != 1).collect();
        let enough = acknowledged.len() >= MANY / 2;
        evidence.holds("webhooks that were answered ok", format!("at least {}", MANY / 2), acknowledged.len(), enough)?;
        evidence.holds("of these no post, or more than one", "none", format!("{lost:?}"), lost.is_empty())
    })?
}

fn burst(world: &World, evidence: &mut Evidence) -> Result<()> {
    let client = world.client()?;
    let (gateway, mattermost) = (world.pid("alert-gateway")?, world.pid("mattermost")?);
    let signal = |name: &str, pid: u64| world.machine().process("kill").args([name, &pid.to_string()]).capture().map(drop);
    let sent = under(
        world,
        &client,
        |lan, word| Ok(lan.sonarqube(word)? == kept()),
        |good| {
            // From here on nothing is posted, so that there is something to lose.
            signal("-STOP", mattermost)?;
            let killed = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| acknowledged(good, MANY / 2)));
            signal("-KILL", gateway)?;
            signal("-CONT", mattermost)?;
            killed.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
            world.is_healthy_again("alert-gateway", gateway, BACK);
            Ok(())
        },
    )?;
    client.inside(|| -> Result<()> {
        let lan = Lan::new(world)?;
        let posted = || counts(&lan, "alerts", &sent).ok().filter(|found| found.values().all(|count| *count > 0));
        let said = || format!("{:?}", counts(&lan, "alerts", &sent));
        let found = lab::wait_for("every alert that was acknowledged is posted", POSTED, posted, said);
        let twice = found.values().filter(|count| **count > 1).count();
        evidence.holds("alerts that were acknowledged", "at least half", sent.len(), sent.len() >= MANY / 2)?;
        evidence.holds("posted", "each", found.len(), found.len() == sent.len())?;
        evidence.holds("posted twice: that under way", "at most 1", twice, twice <= 1)
    })?
}

/// Takes every packet between the server and the LAN away.
const DROP: &str = "table inet cut {\n chain in { type filter hook prerouting priority -350; iifname \"lan0\" drop; }\n \
                    chain out { type filter hook postrouting priority 350; oifname \"lan0\" drop; }\n}\n";

/// The server's network is away for a while.
pub fn cut(world: &World, evidence: &mut Evidence, length: Duration) -> Result<()> {
    let (site, _, caller) = caller(world)?;
    let phone = world.phone(Nat::Symmetric)?;
    let server = world.lab.server();
    phone.namespace().inside(|| -> Result<()> {
        let chat = Chat::sign_in(&site.chat, &caller.name, &caller.password)?;
        let (credential, _) = chat.turn_credential()?;
        let mut client = site.connect(credential).map_err(|failure| broken(&failure))?;
        let relayed = client.allocate(Family::V4).map_err(|failure| broken(&failure))?;
        let call = Call::join(&site, &chat, &caller.channel, relayed)?;
        client.permit(call.address).map_err(|failure| broken(&failure))?;
        let lan = Lan::new(world)?;
        let mut socket = lan.listen()?;
        answered(&mut client, &call).ok_or_else(|| broken(&"no answer through the relay before the cut"))?;

        server.nft(DROP)?;
        let begin = Instant::now();
        let mut through = 0;
        // Clients go on asking, and so their routers do not forget them.
        while begin.elapsed() < length {
            through += usize::from(answered(&mut client, &call).is_some());
            std::thread::sleep(Duration::from_millis(100));
        }
        server.nft("delete table inet cut\n")?;
        evidence.same("answers during the cut", 0, through)?;

        let begin = Instant::now();
        let again = || answered(&mut client, &call);
        lab::wait_for("the same allocation relays again", Duration::from_secs(10), again, || world.site.logs());
        evidence.fact("the allocation relays again after", format!("{:.1} s", begin.elapsed().as_secs_f32()));
        let word = mark();
        lan.build(&word)?;
        seen(&mut socket, &word)?;
        evidence.fact("the same WebSocket sees a post after", format!("{:.1} s", begin.elapsed().as_secs_f32()));
        client.release().map_err(|failure| broken(&failure))
    })?
}

/// Whether Calls answers through the relay, within a second.
fn answered(client: &mut Client, call: &Call) -> Option<()> {
    let (transaction, request) = call.agent.request(call.own()).ok()?;
    client.send(call.address, &request).ok()?;
    let end = Instant::now() + Duration::from_secs(1);
    while let Some((_, data)) = client.receive(end.saturating_duration_since(Instant::now())) {
        if call.agent.success(&data).is_some_and(|(answered, _)| answered == transaction) {
            return Some(());
        }
    }
    None
}

/// A clock that is wrong by some seconds.
#[derive(Debug)]
struct Wrong(i64);

impl TimeProvider for Wrong {
    fn current_time(&self) -> Option<UnixTime> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).ok()?.as_secs();
        Some(UnixTime::since_unix_epoch(Duration::from_secs(now.checked_add_signed(self.0)?)))
    }
}

fn clocks(world: &World, evidence: &mut Evidence) -> Result<()> {
    let (site, _, caller) = caller(world)?;
    let client = world.client()?;
    let secrets = world.secrets()?;
    let secret = secrets.require(Name::TurnSecret)?.expose();
    client.inside(|| -> Result<()> {
        let chat = Chat::sign_in(&site.chat, &caller.name, &caller.password)?;
        let (credential, _) = chat.turn_credential()?;
        let now = i64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()).unwrap_or_default();
        let expiry: i64 = credential.username.split(':').next().and_then(|expiry| expiry.parse().ok()).unwrap_or_default();
        let lifetime = expiry - now;
        evidence.fact("Mattermost's credentials are good for", format!("{} min", lifetime / 60));
        let years = 3 * 365 * 24 * 60 * 60;
        for (called, wrong, good) in
            [("ten minutes ahead", MINUTES, true), ("ten minutes behind", -MINUTES, true), ("three years behind", -years, false)]
        {
            // As a Mattermost makes it whose clock is so.
            let made = Credential::for_seconds(secret, "clock", lifetime + wrong);
            let allocated = site.connect(made).and_then(|mut relayed| relayed.allocate(Family::V4).and_then(|_| relayed.release()));
            evidence.holds(&format!("a credential of a server {called}"), good, format!("{allocated:?}"), allocated.is_ok() == good)?;
        }
        for (called, wrong, good) in [
            ("ten minutes ahead", MINUTES, true),
            ("ten minutes behind", -MINUTES, true),
            ("three years ahead", years, false),
            ("three years behind", -years, false),
        ] {
            for (service, at) in
                [("mattermost", world.mattermost_at()), ("alert-gateway", world.gateway_at()), ("coturn", world.turns_at())]
            {
                let shaken = shown(world, at, wrong)?.map(drop);
                evidence.holds(
                    &format!("{service}'s certificate for a client {called}"),
                    good,
                    format!("{shaken:?}"),
                    shaken.is_ok() == good,
                )?;
            }
        }
        Ok(())
    })?
}

/// The certificate that a client sees whose clock is wrong by some seconds, or why it refuses it.
pub fn shown(world: &World, at: SocketAddr, wrong: i64) -> Result<std::result::Result<Vec<u8>, String>> {
    let failed = |error: rustls::Error| broken(&error);
    let versions = ClientConfig::builder_with_details(xtask::tls::provider(), Arc::new(Wrong(wrong)));
    let versions = versions.with_safe_default_protocol_versions().map_err(failed)?;
    let trust = versions.with_root_certificates(xtask::tls::roots(&world.folder().ca())?).with_no_client_auth();
    let connection = ClientConnection::new(Arc::new(trust), ServerName::from(at.ip())).map_err(failed)?;
    let stream = TcpStream::connect_timeout(&at, Duration::from_secs(5))?;
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    let mut tls = StreamOwned::new(connection, stream);
    let shaken = tls.conn.complete_io(&mut tls.sock).map_err(|error| xtask::tls::words(&error));
    let own = tls.conn.peer_certificates().and_then(|chain| chain.first()).map(|own| own.to_vec());
    Ok(shaken.map(|_| own.unwrap_or_default()))
}
