//! A claim about the first minute of a site: an empty folder, one private address, no way out.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

use images::Result;
use lab::namespace::Namespace;

use crate::claims::Claim;
use crate::world::World;

/// The claim.
pub const CLAIMS: &[Claim] = &[Claim {
    name: "site::an_empty_folder_without_a_network_becomes_a_site_within_a_second_and_the_second_time_nothing_changes",
    needs: &["ip", "unshare"],
    root: true,
    engine: false,
    proves: offline,
}];

fn offline(world: &World) -> Result<()> {
    let (xtask, folder) = (world.xtask()?, world.scratch());
    let machine = Namespace::new(&world.machine)?;
    machine.ip(&["link", "add", "lan0", "type", "veth", "peer", "name", "far"])?;
    machine.ip(&["address", "add", "192.168.77.20/24", "dev", "lan0"])?;
    machine.ip(&["link", "set", "lan0", "up"])?;
    let run = |verb: &str| {
        let process = machine.process(xtask).arg(verb).in_folder(folder.path());
        process.env_remove("CARGO_MANIFEST_DIR").env_remove("CHATOPS_SITE").text()
    };
    // What runs beside this takes its part of the processors: of five first runs the quickest counts.
    let quickest = (0..5).map(|_| -> Result<Duration> {
        let _ = fs_err::remove_dir_all(folder.path().join("site"));
        let begin = Instant::now();
        run("env")?;
        run("certs")?;
        Ok(begin.elapsed())
    });
    let quickest = quickest.collect::<Result<Vec<_>>>()?.into_iter().min().unwrap();
    assert!(quickest < Duration::from_secs(1), "{quickest:?}");
    let settings = fs_err::read_to_string(folder.path().join("site/env/coturn.env"))?;
    assert!(settings.contains("COTURN_LISTENING_IP=192.168.77.20\n"), "{settings}");

    let before = tree(folder.path())?;
    assert!(before.len() > 18, "{before:?}");
    run("env")?;
    run("certs")?;
    assert_eq!(tree(folder.path())?, before);
    Ok(())
}

/// Path → time and content of every file, the locks among them; of every folder its time.
fn tree(folder: &Path) -> Result<BTreeMap<PathBuf, (SystemTime, Vec<u8>)>> {
    let mut found = BTreeMap::new();
    for entry in fs_err::read_dir(folder)? {
        let path = entry?.path();
        let time = fs_err::metadata(&path)?.modified()?;
        let content = if path.is_dir() { Vec::new() } else { fs_err::read(&path)? };
        if path.is_dir() {
            found.extend(tree(&path)?);
        }
        found.insert(path, (time, content));
    }
    Ok(found)
}
