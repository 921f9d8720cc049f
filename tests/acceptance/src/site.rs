//! Claims about a site's files that need root: a disk that is full.

use std::collections::BTreeMap;
use std::path::Path;

use images::Result;

use crate::claims::Claim;
use crate::world::World;

/// The claims.
pub const CLAIMS: &[Claim] = &[Claim {
    name: "site::a_full_disk_is_named_and_leaves_every_file_as_it_was",
    needs: &["unshare", "cc"],
    root: true,
    engine: false,
    proves: full_disk,
}];

/// On a file system of its own of 512 KiB, in a mount namespace of its own: made, filled to the last byte, asked for changes, emptied.
fn full_disk(world: &World) -> Result<()> {
    let folder = world.scratch();
    let (disk, copies) = (folder.path().join("disk"), folder.path().join("copies"));
    fs_err::create_dir_all(&disk)?;
    fs_err::create_dir_all(&copies)?;
    let script = "set -eu\n\
        mount -t tmpfs -o size=512k tmpfs \"$DISK\"\n\
        mkdir \"$DISK/site\"\n\
        printf 'format = 1\\naddresses = [\"192.168.77.20\"]\\n' > \"$DISK/site/site.toml\"\n\
        \"$XTASK\" env --site \"$DISK/site\"\n\
        \"$XTASK\" certs --site \"$DISK/site\"\n\
        printf 'format = 1\\nnames = [\"chat.cicd.local\"]\\naddresses = [\"192.168.77.21\"]\\n' > \"$DISK/site/site.toml\"\n\
        cp -a \"$DISK/site\" \"$COPIES/before\"\n\
        dd if=/dev/zero of=\"$DISK/filler\" bs=4k 2>/dev/null || true\n\
        for verb in env certs up; do\n\
          if \"$XTASK\" $verb --site \"$DISK/site\" 2> \"$COPIES/$verb.txt\"; then echo \"$verb succeeded on a full disk\"; exit 1; fi\n\
        done\n\
        cp -a \"$DISK/site\" \"$COPIES/after\"\n\
        rm \"$DISK/filler\"\n\
        \"$XTASK\" env --site \"$DISK/site\"\n\
        \"$XTASK\" certs --site \"$DISK/site\"\n\
        \"$XTASK\" env --check --site \"$DISK/site\"\n";
    let process = world.machine.process("unshare").args(["--mount", "--propagation", "private", "sh", "-c", script]);
    let process = process.env("DISK", &disk).env("COPIES", &copies).env("XTASK", world.xtask()?).env_remove("CARGO_MANIFEST_DIR");
    process.in_folder(world.workspace.root()).capture()?;
    for verb in ["env", "certs", "up"] {
        let said = fs_err::read_to_string(copies.join(format!("{verb}.txt")))?;
        assert!(said.contains("No space left on device"), "{verb}: {said}");
    }
    let (before, mut after) = (files(&copies.join("before"))?, files(&copies.join("after"))?);
    // `up` is the first that holds the stack, by a file with nothing in it.
    assert_eq!(after.remove(".stack.lock"), Some(Vec::new()));
    let other = |path: &&String| before.get(*path) != after.get(*path);
    assert_eq!(before.keys().chain(after.keys()).filter(other).collect::<Vec<_>>(), Vec::<&String>::new());
    Ok(())
}

/// Path → content of every file.
fn files(root: &Path) -> Result<BTreeMap<String, Vec<u8>>> {
    let mut all = BTreeMap::new();
    for folder in [root.to_owned(), root.join("pki"), root.join("env")] {
        for entry in fs_err::read_dir(&folder)? {
            let path = entry?.path();
            if path.is_file() {
                all.insert(path.strip_prefix(root).unwrap().display().to_string(), fs_err::read(&path)?);
            }
        }
    }
    Ok(all)
}
