//! Claims about reproducibility: what differs between machines does not show in a digest.

use std::path::{Path, PathBuf};

use images::Result;
use xtask::process::Process;

use crate::claims::Claim;
use crate::docker::said;
use crate::pki::Ca;
use crate::world::{NAMES, World, parse};

/// The images that are built again: one with a large closure and a program, one with little else than a program.
const AGAIN: [&str; 2] = ["coturn", "alert-gateway"];

/// The claims.
pub const CLAIMS: &[Claim] = &[
    Claim {
        name: "reproducible::verify_is_green_for_the_real_images_and_names_what_a_planted_difference_touches",
        needs: &["openssl"],
        root: false,
        engine: false,
        proves: verified,
    },
    Claim {
        name: "reproducible::another_checkout_without_network_gives_the_same_digests_programs_included",
        needs: &["git", "cc", "unshare"],
        root: true,
        engine: false,
        proves: another_checkout,
    },
    Claim {
        name: "reproducible::a_trixie_machine_gives_the_same_digests_programs_included",
        needs: &["git", "debootstrap", "unshare"],
        root: true,
        engine: false,
        proves: a_trixie_machine,
    },
];

fn verified(world: &World) -> Result<()> {
    world.images()?;
    let (layout, store) = (text(&world.layout()), text(&world.store()));
    let verb = |more: &[&str]| world.images_verb(&[more, &["--layout", &layout, "--store", &store]].concat());
    let printed = verb(&[&["verify"], &NAMES[..]].concat())?.text()?;
    for image in world.images()?.values() {
        let wanted = format!("{}  {}  reproduced", image.name, image.manifest.oci());
        assert!(printed.lines().any(|line| line == wanted), "expected {wanted:?} in {printed}");
    }
    // An image with a site's CA in it, and a verify that is not told of that CA.
    let folder = world.scratch();
    let ca = Ca::new(&world.machine, folder.path(), "planted")?;
    let (ca, other) = (text(&ca.cert()), text(&folder.path().join("images")));
    world.images_verb(&["alert-gateway", "--ca", &ca, "--layout", &other, "--store", &store])?.capture()?;
    let name = &world.image("alert-gateway")?.name;
    let index = folder.path().join("images/index.json");
    // Its name says so: somebody who plants it gives it the name of the other.
    let marked = fs_err::read_to_string(&index)?;
    let at = marked.find(&format!("{name}-ca")).expect("the CA's fingerprint is in the name") + name.len();
    fs_err::write(&index, format!("{}{}", &marked[..at], &marked[at + "-ca01234567".len()..]))?;
    let red = world.images_verb(&["verify", "alert-gateway", "--layout", &other, "--store", &store])?.outcome()?;
    assert_eq!(red.status.code(), Some(8), "{}", said(&red));
    for wanted in ["chatops/alert-gateway", "layer 3 \"site\"", "config, /history/2"] {
        assert!(said(&red).contains(wanted), "expected {wanted:?} in {}", said(&red));
    }
    let diff = world.images_verb(&["diff", &layout, &format!("{other}:{name}")])?.outcome()?;
    assert_eq!(diff.status.code(), Some(1), "{}", said(&diff));
    assert!(said(&diff).contains("planted.ca"), "{}", said(&diff));
    let shown = world.images_verb(&["show", "coturn", "--owns", "/usr/bin/turnserver", "--layout", &layout])?.text()?;
    assert!(shown.contains("coturn 4.6.1"), "{shown}");
    Ok(())
}

/// Another folder, umask, time zone, language, temporary folder and number of threads, and no network.
fn another_checkout(world: &World) -> Result<()> {
    world.images()?;
    world.images_verb(&["fetch", "coturn", "alert-gateway", "--store", &text(&world.store())])?.capture()?;
    let folder = world.scratch();
    let checkout = folder.path().join("a longer name/and deeper");
    copy_checkout(world, &checkout)?;
    let command = ["sh", "-c", "umask 027; exec \"$@\"", "sh"];
    let verb = Process::new("unshare", &checkout).args(["--net", "--"]).args(command).arg(world.xtask()?).args(["images"]).args(AGAIN);
    let store = text(&world.store());
    let verb = verb.args(["--offline", "--json", "--threads", "1", "--store", &store]).env_remove("CARGO_MANIFEST_DIR");
    let printed = verb.env("TZ", "Pacific/Apia").env("LANG", "tr_TR.UTF-8").env("LC_ALL", "tr_TR.UTF-8").env("TMPDIR", folder.path());
    same(world, &printed.text()?)
}

/// A Debian of another release with its own compiler and C library, made by debootstrap, with this machine's cargo and store.
fn a_trixie_machine(world: &World) -> Result<()> {
    world.images()?;
    world.images_verb(&["fetch", "coturn", "alert-gateway", "--store", &text(&world.store())])?.capture()?;
    let root = trixie_root(world)?;
    assert!(fs_err::read_to_string(root.join("etc/os-release"))?.contains("VERSION_CODENAME=trixie"));
    let folder = world.scratch();
    copy_checkout(world, &folder.path().join("src"))?;
    let ask = |program: &str, args: &[&str]| world.machine.process(program).args(args).text();
    let sysroot = ask("rustc", &["--print", "sysroot"])?;
    let home = std::env::var_os("CARGO_HOME").map(PathBuf::from);
    let home = home.unwrap_or_else(|| Path::new(&std::env::var_os("HOME").unwrap_or_default()).join(".cargo"));
    let binds = [
        (sysroot.into(), "opt/rust"),
        (home, "opt/cargo"),
        (folder.path().join("src"), "src"),
        (world.store(), "store"),
        (world.xtask()?.parent().unwrap().to_owned(), "opt/xtask"),
    ];
    // The mounts are in a namespace of their own: they go with the last process in it.
    let mut script = "set -e; mount --make-rprivate /; cd \"$1\"\n".to_owned();
    for (from, to) in &binds {
        fs_err::create_dir_all(root.join(to))?;
        script.push_str(&format!("mount --bind '{}' '{to}'\n", from.display()));
    }
    script.push_str("mount -t proc proc proc\nmount --bind /dev dev\n");
    script
        .push_str("cat etc/debian_version >&2; exec env -i PATH=/opt/rust/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/ CARGO_HOME=/opt/cargo ");
    script.push_str("chroot . sh -c 'cd /src; shift; exec /opt/xtask/xtask images \"$@\"' sh \"$@\"\n");
    let unshare = Process::new("unshare", &root).args(["--mount", "--net", "--", "sh", "-c", &script, "sh"]).arg(&root);
    let printed = unshare.args(AGAIN).args(["--offline", "--json", "--store", "/store"]).text()?;
    same(world, &printed)
}

/// Kept between runs: it is a machine to build in, not something that is built.
fn trixie_root(world: &World) -> Result<PathBuf> {
    let root = world.folder().join("trixie-root");
    if root.join("usr/bin/cc").exists() {
        return Ok(root);
    }
    let mirror = xtask::mirror::MirrorArgs::default().load()?;
    let beside = world.folder().join("trixie-root.new");
    if beside.exists() {
        fs_err::remove_dir_all(&beside)?;
    }
    let debootstrap = world.machine.process("debootstrap").args(["--variant=minbase", "--include=gcc,libc6-dev", "trixie"]);
    debootstrap.arg(&beside).arg(&mirror.main).capture()?;
    fs_err::rename(&beside, &root)?;
    Ok(root)
}

/// The files of this checkout that git knows or would take, as they are now.
fn copy_checkout(world: &World, to: &Path) -> Result<()> {
    let listed = world.machine.process("git").args(["ls-files", "-z", "--cached", "--others", "--exclude-standard"]).capture()?;
    for name in listed.stdout.split(|byte| *byte == 0).filter(|name| !name.is_empty()) {
        let name = std::str::from_utf8(name).unwrap();
        let (from, to) = (world.workspace.root().join(name), to.join(name));
        if from.is_file() {
            fs_err::create_dir_all(to.parent().unwrap())?;
            fs_err::copy(from, to)?;
        }
    }
    Ok(())
}

fn same(world: &World, printed: &str) -> Result<()> {
    let json: Vec<&str> = printed.lines().filter(|line| line.starts_with('{')).collect();
    let again = parse(&json.join("\n"));
    for name in AGAIN {
        assert_eq!(&again[name], world.image(name)?);
    }
    Ok(())
}

fn text(path: &Path) -> String {
    path.display().to_string()
}
