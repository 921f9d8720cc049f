//! What a run needs of the machine, all of it looked at before anything starts.

use std::path::Path;

use images::{Class, Error, Result};
use xtask::cli::e2e::Options;
use xtask::doctor::machine::{compose, disk, engine};
use xtask::doctor::{Check, Report};
use xtask::machine::{self, Machine, Part};
use xtask::workspace::Workspace;

/// What images, layout, Engine and logs of a run take at most.
const DISK: u64 = 4 << 30;

/// What was found.
#[derive(Default)]
struct Found {
    /// Parts that are not there, each with the command that brings it.
    missing: Vec<(&'static Part, String)>,
    /// Whether this is root.
    root: bool,
    /// Why no namespaces can be made.
    namespaces: Option<String>,
    /// Why the kernel takes no packet filter.
    filter: Option<String>,
    /// Whether the kernel has IPv6.
    ipv6: bool,
    /// Version of the Engine's program.
    engine: Option<String>,
    /// Version of Compose.
    compose: Option<String>,
    /// Free bytes, and where.
    free: (u64, String),
}

/// One error with everything that is missing, and what mends it.
pub fn check(machine: &Machine, workspace: &Workspace, options: &Options) -> Result<()> {
    verdict(&look(machine, workspace, &options.parts())?)
}

fn look(machine: &Machine, workspace: &Workspace, parts: &[&str]) -> Result<Found> {
    let missing = machine::lacking(machine, parts);
    let has = |name: &str| missing.iter().all(|part| part.name != name);
    let own = |program: &[&str]| {
        let process = machine.process("unshare").args(["--net", "--pid", "--fork", "--mount", "--mount-proc"]).args(program);
        process.capture().err().map(|error| error.to_string())
    };
    let root = machine.is_root();
    let namespaces = (root && has("unshare")).then(|| own(&["true"])).flatten();
    let filter = (root && has("unshare") && has("nft") && namespaces.is_none()).then(|| own(&["nft", "add table inet proof"])).flatten();
    // Docker version 20.10.24+dfsg1, build 5d6db84
    let told = |program: &str, words: &[&str]| machine.process(program).args(words).text().ok();
    let version = |told: String| told.split_whitespace().nth(2).map(|word| word.trim_end_matches(',').to_owned());
    Ok(Found {
        root,
        namespaces,
        filter,
        ipv6: Path::new("/proc/net/if_inet6").exists(),
        engine: has("dockerd").then(|| told("dockerd", &["--version"])).flatten().and_then(version),
        compose: has("docker compose").then(|| told("docker", &["compose", "version", "--short"])).flatten(),
        free: (room(workspace)?, workspace.target().display().to_string()),
        missing: missing.into_iter().map(|part| (part, part.command(machine))).collect(),
    })
}

fn verdict(found: &Found) -> Result<()> {
    let checks: Vec<Check> = judged(found).into_iter().filter(Check::is_problem).collect();
    if checks.is_empty() {
        return Ok(());
    }
    let class = if found.missing.is_empty() { Class::Check } else { Class::MissingTool };
    let count = match checks.len() {
        1 => "one thing keeps".to_owned(),
        count => format!("{count} things keep"),
    };
    let error = Error::new(class, format!("{count} the proof from running here"));
    let error = Report::of(checks).lines().into_iter().fold(error, Error::detail);
    match found.missing.is_empty() {
        true => Err(error),
        false => Err(error.hint("as root on Debian and its kin, cargo xtask e2e --install brings what is not on this machine")),
    }
}

/// Every check, in the order in which somebody mends what they find.
fn judged(found: &Found) -> Vec<Check> {
    let install = "cargo xtask e2e --install, or a newer one by hand";
    let mut checks: Vec<Check> = Vec::new();
    if !found.root {
        let why = "this account cannot make network namespaces";
        checks.push(Check::problem("root", "root", why, "sudo --preserve-env cargo xtask e2e"));
    }
    for (part, command) in &found.missing {
        checks.push(Check::problem(part.name, part.name, format!("not on this machine: {}", part.why), command));
    }
    if let Some(why) = &found.namespaces {
        let mend = "give the container CAP_SYS_ADMIN: docker run --privileged";
        checks.push(Check::problem("namespaces", "namespaces", format!("none can be made here\n{why}"), mend));
    }
    if let Some(why) = &found.filter {
        let mend = "modprobe nf_tables, or a kernel with CONFIG_NF_TABLES_INET";
        checks.push(Check::problem("filter", "packet filter", format!("the kernel takes no rules of nftables\n{why}"), mend));
    }
    if !found.ipv6 {
        checks.push(Check::problem("ipv6", "IPv6", "the kernel has none", "boot without ipv6.disable=1"));
    }
    checks.extend(found.engine.as_deref().map(|version| engine(Ok(version), install)));
    checks.extend(found.compose.as_deref().map(|version| compose(Some(version), install)));
    let (free, place) = &found.free;
    checks.push(disk("disk", "disk", place, Some(*free), DISK, "remove old runs below target/e2e; target/store can be fetched again"));
    checks
}

fn room(workspace: &Workspace) -> Result<u64> {
    fs_err::create_dir_all(workspace.target())?;
    let disk = rustix::fs::statvfs(workspace.target()).map_err(std::io::Error::from)?;
    Ok(disk.f_bavail * disk.f_frsize)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fine() -> Found {
        let version = |version: &str| Some(version.to_owned());
        Found {
            root: true,
            ipv6: true,
            engine: version("20.10.24+dfsg1"),
            compose: version("2.26.1-4"),
            free: (DISK, "target".to_owned()),
            ..Found::default()
        }
    }

    #[test]
    fn each_thing_that_is_missing_is_told_with_what_was_found_and_what_mends_it() {
        verdict(&fine()).unwrap();
        let part = |name: &str| vec![(Part::named(name), format!("apt-get install {name}"))];
        let because = |why: &str| Some(why.to_owned());
        let rows: [(Found, Class, &[&str]); 11] = [
            (Found { root: false, ..fine() }, Class::Check, &["✘ root", "→ sudo --preserve-env"]),
            (Found { missing: part("dockerd"), ..fine() }, Class::MissingTool, &["✘ dockerd", "→ apt-get install dockerd", "--install"]),
            (Found { missing: part("docker compose"), ..fine() }, Class::MissingTool, &["✘ docker compose", "→ apt-get install"]),
            (Found { missing: part("nft"), ..fine() }, Class::MissingTool, &["✘ nft", "→ apt-get install nft"]),
            (
                Found { namespaces: because("not permitted"), ..fine() },
                Class::Check,
                &["not permitted", "→ give the container CAP_SYS_ADMIN"],
            ),
            (Found { filter: because("no such file"), ..fine() }, Class::Check, &["no such file", "→ modprobe nf_tables"]),
            (Found { ipv6: false, ..fine() }, Class::Check, &["✘ IPv6", "→ boot without ipv6.disable=1"]),
            (
                Found { engine: because("19.03.15"), ..fine() },
                Class::Check,
                &["19.03.15; 20.10 or newer is needed", "→ apt-get install docker.io"],
            ),
            (Found { compose: because("1.29.2"), ..fine() }, Class::Check, &["1.29.2; version 2 is needed", "→ cargo xtask e2e --install"]),
            (
                Found { free: (DISK - 1, "target".to_owned()), ..fine() },
                Class::Check,
                &["free in target, less than 4", "→ remove old runs"],
            ),
            (Found { free: (0, "target".to_owned()), root: false, ..fine() }, Class::Check, &["2 things keep", "✘ root", "✘ disk"]),
        ];
        for (found, class, wanted) in rows {
            let error = verdict(&found).unwrap_err();
            let text = error.to_string();
            assert_eq!(error.class(), class, "{text}");
            assert!(wanted.iter().all(|words| text.contains(words)), "{wanted:?}: {text}");
        }
    }

    #[test]
    fn what_this_machine_has_is_found() {
        let workspace = Workspace::find().unwrap();
        let machine = Machine::of(&workspace);
        let found = look(&machine, &workspace, &xtask::cli::e2e::PARTS).unwrap();
        let has = |name: &str| found.missing.iter().all(|(part, _)| part.name != name);
        assert_eq!(found.engine.is_some(), has("dockerd"), "{:?}", found.engine);
        assert_eq!(found.compose.is_some(), has("docker compose"), "{:?}", found.compose);
        assert!(found.engine.iter().chain(&found.compose).all(|version| version.contains('.')));
    }
}
