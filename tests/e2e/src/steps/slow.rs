//! Faults that take long: a network that is away for half a minute, a disk that is full, certificates that are renewed.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use images::{Class, Error, Result};
use rustix::fs::statfs;
use xtask::provision::Tool;

use super::faults::{BACK, counts, cut, kill, shown, step};
use crate::lan::{Answer, JSON, Lan, frame, jenkins, kept, mark, taken};
use crate::step::{Evidence, Need, Step};
use crate::world::World;

/// The steps.
pub const STEPS: &[Step] = &[
    step(
        "faults::a_network_that_is_cut_for_half_a_minute_ends_neither_chat_nor_relay",
        "The server's network is cut for thirty seconds: the same WebSocket sees the next post, and the same allocation relays the next packet",
        150,
        &[Need::Full, Need::Part("nft"), Need::Part("ip")],
        |world, evidence| cut(world, evidence, Duration::from_secs(30)),
    ),
    step(
        "faults::a_full_disk_and_a_kill_after_it_lose_nothing_that_was_acknowledged",
        "The disk of every volume is full, and PostgreSQL is killed as soon as there is room: what is not kept is refused with 5xx, what was \
         acknowledged is there, and everything works again",
        240,
        &[Need::Full, Need::Memory],
        full,
    ),
    step(
        "faults::clients_are_back_soon_after_the_certificates_are_new",
        "Every certificate is renewed while a WebSocket is open: its client is back within half a minute, and sees another certificate of the same CA",
        180,
        &[Need::Full],
        renewed,
    ),
];

/// What is left of the disk when it is to become full: posts for a moment.
const LITTLE: u64 = 256 << 10;
/// What the kernel calls a file system in memory (`linux/magic.h`).
const TMPFS: rustix::fs::FsWord = 0x0102_1994;
/// Refusals that are enough.
const REFUSALS: usize = 5;
/// Webhooks, at most: as many posts as one page shows.
const MANY: usize = 150;
/// What a webhook says, so that the disk is soon full.
const LONG: usize = 8_000;

/// The disk of the Engine's data, which lies in memory.
struct Disk<'a> {
    world: &'a World,
    folder: PathBuf,
    whole: u64,
}

impl<'a> Disk<'a> {
    fn of(world: &'a World) -> Result<Disk<'a>> {
        let folder = world.engine();
        let told = statfs(&folder).map_err(|error| Error::new(Class::Check, format!("{}: {error}", folder.display())))?;
        match told.f_type == TMPFS {
            true => Ok(Disk { world, folder, whole: told.f_blocks * block(told.f_bsize) }),
            false => Err(Error::new(Class::Check, "the Engine's data does not lie in memory, where its disk can be made smaller")),
        }
    }

    /// Leaves it as much room.
    fn leave(&self, room: u64) -> Result<()> {
        let told = statfs(&self.folder).map_err(|error| Error::new(Class::Check, error.to_string()))?;
        self.size((told.f_blocks - told.f_bfree) * block(told.f_bsize) + room)
    }

    fn size(&self, bytes: u64) -> Result<()> {
        let mount = self.world.machine().process("mount").args(["-o", &format!("remount,size={bytes}")]);
        mount.arg(&self.folder).capture().map(drop)
    }
}

fn block(bytes: impl TryInto<u64>) -> u64 {
    bytes.try_into().unwrap_or(4096)
}

impl Drop for Disk<'_> {
    fn drop(&mut self) {
        // Who comes next would say so.
        let _ = self.size(self.whole);
    }
}

/// What became of what was sent.
#[derive(Default)]
struct Told {
    acknowledged: Vec<String>,
    refused: BTreeMap<u16, usize>,
}

impl Told {
    /// Sends until enough is refused.
    fn until_full(send: impl Fn(&str) -> Result<Answer>, good: &Answer) -> Result<Told> {
        let mut told = Told::default();
        for _ in 0..MANY {
            let word = mark();
            match send(&word)? {
                answer if answer == *good => told.acknowledged.push(word),
                (status, _) => *told.refused.entry(status).or_default() += 1,
            }
            if told.refused.values().sum::<usize>() >= REFUSALS {
                break;
            }
        }
        Ok(told)
    }

    fn is_refused_as_it_should(&self, what: &str, evidence: &mut Evidence) -> Result<()> {
        let good = !self.refused.is_empty() && self.refused.keys().all(|status| (500..600).contains(status));
        evidence.fact(format!("{what} that were acknowledged with little room"), self.acknowledged.len());
        evidence.holds(&format!("{what} that were refused, by status"), "some, with 5xx", format!("{:?}", self.refused), good)
    }
}

fn full(world: &World, evidence: &mut Evidence) -> Result<()> {
    let client = world.client()?;
    let disk = Disk::of(world)?;
    let (posts, alerts, file) = client.inside(|| -> Result<_> {
        let lan = Lan::new(world)?;
        let hook = lan.hook(Tool::Jenkins, "builds")?;
        let file = "f".repeat(1 << 20);
        let id = lan.chat.upload(&lan.channel("builds")?, &file)?;
        let id = id.map_err(|status| Error::new(Class::Check, format!("a file is refused while there is room: {status}")))?;
        disk.leave(LITTLE)?;
        let long = |word: &str| jenkins("builds", &(word.to_owned() + &noise()));
        let posts = Told::until_full(|word| lan.send(&hook, JSON, long(word)), &taken())?;
        posts.is_refused_as_it_should("webhooks", evidence)?;
        let alerts = Told::until_full(|word| lan.sonarqube(word), &kept())?;
        alerts.is_refused_as_it_should("alerts", evidence)?;
        let refused = lan.chat.upload(&lan.channel("builds")?, &file)?.err();
        let good = refused.is_some_and(|status| (500..600).contains(&status));
        evidence.holds("a file", "refused with 5xx", format!("{refused:?}"), good)?;
        Ok((posts, alerts, (id, file)))
    })??;
    // Not before: the Engine itself starts nothing again on a full disk.
    drop(disk);
    let back = kill(world, "postgres")?;
    evidence.fact("PostgreSQL was healthy after", format!("{:.1} s", back.as_secs_f32()));
    client.inside(|| -> Result<()> {
        let lan = lab::wait_for("Mattermost when there is room", BACK, || Lan::new(world).ok(), || world.site.logs());
        let found = counts(&lan, "builds", &posts.acknowledged)?;
        let lost: Vec<_> = found.iter().filter(|(_, count)| **count != 1).collect();
        evidence.holds("webhooks that were acknowledged, without their post", "none", format!("{lost:?}"), lost.is_empty())?;
        let all = || counts(&lan, "alerts", &alerts.acknowledged).ok().filter(|found| found.values().all(|count| *count > 0));
        lab::wait_for("every alert that was acknowledged is posted", BACK, all, || {
            format!("{:?}", counts(&lan, "alerts", &alerts.acknowledged))
        });
        evidence.same("the file that was kept", Some(true), lan.chat.file(&file.0)?.map(|text| text == file.1))?;
        let again = lan.chat.upload(&lan.channel("builds")?, &file.1)?;
        evidence.holds("a file when there is room", "kept", format!("{again:?}"), again.is_ok())?;
        lan.works(evidence, "when there is room")
    })?
}

/// Text that does not become shorter on the disk.
fn noise() -> String {
    let mut text = String::new();
    while text.len() < LONG {
        text += &images::Digest::of((mark() + &text).as_bytes()).to_string();
    }
    text
}

fn renewed(world: &World, evidence: &mut Evidence) -> Result<()> {
    let client = world.client()?;
    let all: [(&str, SocketAddr); 3] =
        [("mattermost", world.mattermost_at()), ("alert-gateway", world.gateway_at()), ("coturn", world.turns_at())];
    let certificate = |at: SocketAddr| {
        let shown = shown(world, at, 0)?.map_err(|why| Error::new(Class::Check, format!("TLS of {at}: {why}")))?;
        Ok::<_, Error>(images::Digest::of(&shown).to_string())
    };
    client.inside(|| -> Result<()> {
        let lan = Lan::new(world)?;
        let mut socket = lan.listen()?;
        let before = all.iter().map(|(_, at)| certificate(*at)).collect::<Result<Vec<_>>>()?;
        world.site.xtask("certs renew").capture()?;
        std::thread::scope(|scope| -> Result<()> {
            let up = scope.spawn(|| world.site.is_up());
            // Closed, or silent for ten seconds: then a client connects anew.
            lab::wait_for("the WebSocket is closed", BACK, || frame(&mut socket).err(), || world.site.logs());
            let begin = Instant::now();
            let is_new = || certificate(world.mattermost_at()).is_ok_and(|now| now != before[0]);
            let back = || is_new().then(|| lan.listen().ok()).flatten();
            lab::wait_for("the client is back, and sees the new certificate", BACK / 2, back, || world.site.logs());
            evidence.fact("the client was back after", format!("{:.1} s", begin.elapsed().as_secs_f32()));
            up.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)).map(drop)
        })?;
        for ((service, at), before) in all.iter().zip(before) {
            let now = certificate(*at)?;
            evidence.holds(&format!("certificate of {service}"), format!("another than {before}"), &now, now != before)?;
        }
        Lan::new(world)?.works(evidence, "with the new certificates")
    })?
}
