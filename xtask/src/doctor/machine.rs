//! Judges of the machine: Engine, Compose, disks, kernel, processor, clock.

use std::collections::BTreeSet;

use images::progress::human;

use super::{Check, list};

/// What the containers' settings need: `depends_on` conditions are Compose's, `host-gateway` and API 1.41 are the Engine's.
const ENGINE: [u32; 2] = [20, 10];
/// Compose v1 was a Python program with another file format.
const COMPOSE: [u32; 1] = [2];
/// rtcd, which is inside the Calls plugin, asks for buffers of 16 MiB on its UDP sockets and gets what the kernel allows
/// (mattermost/rtcd, `service/rtc/net.go`); a burst of video that does not fit is lost.
const RECEIVE_BUFFER: u64 = 16 << 20;
/// Each participant's media, each relayed allocation and each container's port forwarding is an entry; 65536 is what a kernel
/// takes by itself on a machine with 4 GiB.
const CONNTRACK: u64 = 65_536;
/// What the image programs' TLS is made of; graviola stops the program at the first handshake without them.
pub const PROCESSOR: [&str; 6] = ["adx", "aes", "avx2", "bmi1", "bmi2", "pclmulqdq"];
/// Four images, twice while an upgrade runs, and a database that grows.
pub const ENGINE_DISK: u64 = 5 << 30;
/// Store, layouts and the compiled programs.
pub const TARGET_DISK: u64 = 4 << 30;

/// Whether a dotted version, with or without a `v`, is not below `wanted`; what is no number counts as 0.
pub fn at_least(version: &str, wanted: &[u32]) -> bool {
    let number = |part: &str| part.split(|c: char| !c.is_ascii_digit()).next().and_then(|part| part.parse().ok()).unwrap_or(0);
    let found: Vec<u32> = version.trim_start_matches('v').split('.').map(number).collect();
    found.as_slice() >= wanted
}

/// The Engine: its version, or why it does not answer. `start` is the command that starts it.
pub fn engine(version: Result<&str, &str>, start: &str) -> Check {
    let (id, title) = ("engine", "Docker Engine");
    match version {
        Ok(version) if at_least(version, &ENGINE) => Check::ok(id, title, version),
        Ok(version) => Check::problem(id, title, format!("{version}; 20.10 or newer is needed"), "apt-get install docker.io"),
        Err(why) => Check::problem(id, title, why, start),
    }
}

/// Docker's client.
pub fn client(found: bool, install: &str) -> Check {
    let (id, title) = ("client", "Docker's client");
    if found { Check::ok(id, title, "docker") } else { Check::problem(id, title, "docker is not on this machine", install) }
}

/// Compose, as a plugin of the client.
pub fn compose(version: Option<&str>, install: &str) -> Check {
    let (id, title) = ("compose", "Docker Compose");
    match version {
        Some(version) if at_least(version, &COMPOSE) => Check::ok(id, title, version),
        Some(version) => Check::problem(id, title, format!("{version}; version 2 is needed"), install),
        None => Check::problem(id, title, "`docker compose` is not on this machine", install),
    }
}

/// Free bytes where something large is about to be written.
pub fn disk(id: &str, title: &str, place: &str, free: Option<u64>, wanted: u64, mend: &str) -> Check {
    match free {
        Some(free) if free >= wanted => Check::ok(id, title, format!("{} free in {place}", human(free))),
        Some(free) => Check::problem(id, title, format!("{} free in {place}, less than {}", human(free), human(wanted)), mend),
        None => Check::skipped(id, title, format!("{place} is not on this machine")),
    }
}

/// How large a UDP socket's buffers may be.
pub fn udp_buffers(receive: Option<u64>, send: Option<u64>) -> Check {
    let (id, title) = ("udp-buffers", "UDP buffers");
    let (Some(receive), Some(send)) = (receive, send) else { return Check::skipped(id, title, "this kernel does not tell") };
    let found = format!("up to {} to receive and {} to send", human(receive), human(send));
    if receive.min(send) >= RECEIVE_BUFFER {
        return Check::ok(id, title, found);
    }
    let set = format!("sysctl -w net.core.rmem_max={RECEIVE_BUFFER} net.core.wmem_max={RECEIVE_BUFFER}");
    Check::problem(id, title, format!("{found}; Calls asks for {}", human(RECEIVE_BUFFER)), kept(&set))
}

/// A setting of the kernel is lost at the next start, unless it is in a file.
fn kept(set: &str) -> String {
    format!("{set}   (and in /etc/sysctl.d/90-chatops.conf, to keep it)")
}

/// The table of connections that the kernel follows: how many there are and may be.
pub fn conntrack(count_and_max: Option<(u64, u64)>) -> Check {
    let (id, title) = ("conntrack", "Connection table");
    let Some((count, max)) = count_and_max else { return Check::skipped(id, title, "the kernel follows no connections") };
    let wanted = CONNTRACK.max(count.saturating_mul(2));
    let found = format!("{count} of {max} entries");
    let set = || kept(&format!("sysctl -w net.netfilter.nf_conntrack_max={}", wanted.next_power_of_two()));
    match () {
        () if max < CONNTRACK => Check::problem(id, title, format!("{found}; {CONNTRACK} are wanted: what does not fit is dropped"), set()),
        () if count > max / 5 * 4 => Check::problem(id, title, format!("{found}: nearly full"), set()),
        () => Check::ok(id, title, found),
    }
}

/// What the processor has of [`PROCESSOR`]; `flags` is nothing on another architecture.
pub fn processor(flags: Option<&BTreeSet<String>>) -> Check {
    let (id, title) = ("processor", "Processor");
    let Some(flags) = flags else { return Check::skipped(id, title, "not an amd64 machine: the images are for amd64") };
    let missing: Vec<String> = PROCESSOR.iter().filter(|name| !flags.contains(**name)).map(|name| (*name).to_owned()).collect();
    if missing.is_empty() {
        return Check::ok(id, title, PROCESSOR.join(", "));
    }
    let found = format!("it lacks {}: the images' programs do no TLS without", list(&missing, 6));
    Check::problem(id, title, found, "use a processor of 2015 or later; in a virtual machine, pass the host's through (-cpu host)")
}

/// The flags in `/proc/cpuinfo`; nothing where it has no such line.
pub fn processor_flags(cpuinfo: &str) -> Option<BTreeSet<String>> {
    let line = cpuinfo.lines().find(|line| line.starts_with("flags"))?;
    Some(line.split_once(':')?.1.split_whitespace().map(str::to_owned).collect())
}

/// The clock, in Unix seconds, against what was made in the past: names and times.
pub fn clock(now: i64, past: &[(String, i64)]) -> Check {
    let (id, title) = ("clock", "Clock");
    let date = |time: i64| images::oci::rfc3339(u64::try_from(time).unwrap_or(0));
    let found = date(now);
    match past.iter().filter(|(_, time)| *time > now).max_by_key(|(_, time)| *time) {
        Some((what, time)) => {
            let found = format!("it is {found} here, before {what} ({})", date(*time));
            Check::problem(id, title, found, "timedatectl set-ntp true, or set it by hand: timedatectl set-time 'YYYY-MM-DD hh:mm:ss'")
        }
        None => Check::ok(id, title, found),
    }
}

/// What `timedatectl` says of NTP: `yes` or `no`.
pub fn time_sync(said: Option<&str>) -> Check {
    let (id, title) = ("time-sync", "Time synchronisation");
    match said {
        Some("yes") => Check::ok(id, title, "NTP is in step"),
        Some("no") => {
            let found = "no: credentials for calls expire by this clock and by those of the phones";
            Check::problem(id, title, found, "timedatectl set-ntp true, with a time server of the LAN in /etc/systemd/timesyncd.conf")
        }
        _ => Check::skipped(id, title, "timedatectl does not tell here"),
    }
}

#[cfg(test)]
mod tests {
    use super::super::Outcome;
    use super::*;

    /// `ok`, `problem` or `skipped`, and what was said.
    fn said(check: &Check) -> (&'static str, String) {
        match &check.outcome {
            Outcome::Ok { found } => ("ok", found.clone()),
            Outcome::Problem { found, mend } => ("problem", format!("{found} → {mend}")),
            Outcome::Skipped { reason } => ("skipped", reason.clone()),
        }
    }

    fn table(cases: &[(Check, &str, &str)]) {
        for (check, outcome, part) in cases {
            let (found, words) = said(check);
            assert_eq!(found, *outcome, "{}: {words}", check.id);
            assert!(words.contains(part), "{}: {part:?} is not in {words:?}", check.id);
        }
    }

    #[test]
    fn versions_are_compared_as_numbers() {
        for (version, wanted) in [("20.10.24+dfsg1", true), ("29.1.0", true), ("20.9.9", false), ("19.03.15", false), ("", false)] {
            assert_eq!(at_least(version, &ENGINE), wanted, "{version}");
        }
        assert!(at_least("v2.26.1-4", &COMPOSE) && !at_least("1.29.2", &COMPOSE));
    }

    #[test]
    fn engine_client_and_compose() {
        table(&[
            (engine(Ok("20.10.24+dfsg1"), "start"), "ok", "20.10.24"),
            (engine(Ok("19.03.15"), "start"), "problem", "20.10 or newer"),
            (engine(Err("no socket"), "systemctl start docker"), "problem", "no socket → systemctl start docker"),
            (client(true, "install"), "ok", "docker"),
            (client(false, "apt-get install docker-cli"), "problem", "→ apt-get install docker-cli"),
            (compose(Some("2.26.1-4"), "install"), "ok", "2.26.1"),
            (compose(Some("1.29.2"), "install"), "problem", "version 2"),
            (compose(None, "apt-get install docker-compose"), "problem", "→ apt-get install docker-compose"),
        ]);
    }

    #[test]
    fn disks() {
        let check = |free| disk("disk", "Disk", "/var/lib/docker", free, 5 << 30, "docker image prune");
        table(&[
            (check(Some(5 << 30)), "ok", "5.0 GiB free in /var/lib/docker"),
            (check(Some((5 << 30) - 1)), "problem", "→ docker image prune"),
            (check(None), "skipped", "not on this machine"),
        ]);
    }

    #[test]
    fn udp_buffers_and_the_connection_table() {
        let large = Some(RECEIVE_BUFFER);
        table(&[
            (udp_buffers(large, large), "ok", "16.0 MiB"),
            (udp_buffers(Some(212_992), large), "problem", "sysctl -w net.core.rmem_max=16777216"),
            (udp_buffers(large, Some(212_992)), "problem", "net.core.wmem_max=16777216"),
            (udp_buffers(None, large), "skipped", "does not tell"),
            (conntrack(Some((10, 262_144))), "ok", "10 of 262144"),
            (conntrack(Some((10, 65_535))), "problem", "nf_conntrack_max=65536"),
            (conntrack(Some((250_000, 262_144))), "problem", "nearly full → sysctl -w net.netfilter.nf_conntrack_max=524288"),
            (conntrack(None), "skipped", "follows no connections"),
        ]);
    }

    #[test]
    fn processors() {
        let cpuinfo = "processor\t: 0\nflags\t\t: fpu adx aes avx2 bmi1 bmi2 pclmulqdq sse\nbugs\t\t: none\n";
        let flags = processor_flags(cpuinfo).unwrap();
        let old = processor_flags(&cpuinfo.replace(" adx", "").replace(" bmi2", "")).unwrap();
        table(&[
            (processor(Some(&flags)), "ok", "avx2"),
            (processor(Some(&old)), "problem", "it lacks adx, bmi2"),
            (processor(None), "skipped", "amd64"),
        ]);
        assert_eq!(processor_flags("CPU architecture: 8\n"), None);
    }

    #[test]
    fn clocks() {
        let past = [("the certificate of mattermost".to_owned(), 1_700_000_000), ("the lock".to_owned(), 1_600_000_000)];
        table(&[
            (clock(1_700_000_000, &past), "ok", "2023-11-14T22:13:20Z"),
            (clock(1_699_999_999, &past), "problem", "before the certificate of mattermost (2023-11-14T22:13:20Z)"),
            (clock(0, &[]), "ok", "1970"),
            (time_sync(Some("yes")), "ok", "NTP"),
            (time_sync(Some("no")), "problem", "timedatectl set-ntp true"),
            (time_sync(None), "skipped", "timedatectl"),
        ]);
    }
}
