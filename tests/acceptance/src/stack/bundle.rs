//! Across an air gap: a bundle that is made here, and a machine that has Docker with Compose and nothing else.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use images::Result;
use serde_json::Value;
use xtask::double::VERSIONS;
use xtask::process::{Outcome, Process};

use super::{Site, UP, said};
use crate::world::{World, parse};

/// What the root has: Docker's client, its plugin, the socket of the Engine, and what was carried over.
struct Root<'a> {
    site: Site<'a>,
    world: &'a World,
    folder: tempfile::TempDir,
}

/// Made, signed, carried, applied, up; and again with the next version, which goes on from the first.
pub fn crosses(world: &World) -> Result<()> {
    let near = world.scratch();
    let keys = ["release.key", "release.pub", "other.key", "other.pub"].map(|name| near.path().join(name));
    for pair in [&keys[..2], &keys[2..]] {
        // An empty line is the answer to both questions for a passphrase, where the program asks any.
        world.machine.process("minisign").args(["-G", "-W", "-s"]).arg(&pair[0]).arg("-p").arg(&pair[1]).capture()?;
    }
    let one = create(world, near.path(), "one.tar.zst", &["--double-version", VERSIONS[0]], &keys[0])?;
    checked_by_others(world, &one, near.path(), &keys[1])?;
    assert!(fs_err::metadata(near.path().join("xtask"))?.len() > 1 << 20, "the program lies beside the bundle");

    let root = Root::new(world)?;
    let program = near.path().join("xtask");
    fs_err::copy(&program, root.at("xtask"))?;
    fs_err::copy(&one, root.at("one.tar.zst"))?;
    fs_err::copy(&keys[1], root.at("release.pub"))?;
    fs_err::copy(&keys[3], root.at("other.pub"))?;
    refusals(&root)?;
    killed(&root)?;
    let applied = root.says("/xtask bundle apply /one.tar.zst --key /release.pub --to /chatops")?;
    assert!(applied.contains("parts written") || applied.contains("nothing had to change"), "{applied}");

    fs_err::create_dir_all(root.site.path())?;
    root.site.describe("")?;
    let first = root.up()?;
    assert!(first.contains("started alert-gateway, coturn, mattermost, postgres"), "{first}");
    assert!(first.contains("API double") && !first.contains("cargo xtask"), "{first}");
    root.is_provisioned()?;
    let before = root.site.containers()?;
    let second = root.up()?;
    assert!(second.contains("nothing had to change") && root.site.containers()? == before, "{second}");
    as_a_checkout_builds(&root, VERSIONS[0])?;
    let outcome = root.run("/chatops/xtask images coturn").outcome()?;
    assert!(said(&outcome).contains("which brings no sources"), "{}", said(&outcome));

    let since = one.display().to_string();
    let program = program.display().to_string();
    let again = create(world, near.path(), "again.tar.zst", &["--double-version", VERSIONS[0], "--program", &program], &keys[0])?;
    assert_eq!(parts(world, &again)?, parts(world, &one)?, "the same checkout makes another bundle");
    let options = ["--double-version", VERSIONS[1], "--since", &since, "--program", &program];
    let two = create(world, near.path(), "two.tar.zst", &options, &keys[0])?;
    let mattermost = |part: &&Value| part["path"].as_str().is_some_and(|path| path.starts_with("images/blobs/"));
    let new: u64 =
        parts(world, &two)?["parts"].as_array().unwrap().iter().filter(mattermost).filter_map(|part| part["size"].as_u64()).sum();
    assert!(fs_err::metadata(&two)?.len() < new + (1 << 20), "more than {new} bytes and a MiB");
    let (whole, rest) = (fs_err::metadata(&one)?.len(), fs_err::metadata(&two)?.len());
    eprintln!("         {} MiB whole, {} MiB since", whole >> 20, rest >> 20);
    fs_err::copy(&two, root.at("two.tar.zst"))?;
    let elsewhere = root.run("/xtask bundle apply /two.tar.zst --key /release.pub --to /elsewhere").outcome()?;
    assert!(!elsewhere.success() && said(&elsewhere).contains("goes on from"), "{}", said(&elsewhere));
    root.says("/chatops/xtask bundle apply /two.tar.zst --key /release.pub --to /chatops")?;
    root.up()?;
    root.is_provisioned()?;
    let after = root.site.containers()?;
    let changed: Vec<&str> = before.keys().filter(|service| before[*service] != after[*service]).map(String::as_str).collect();
    assert_eq!(changed, ["mattermost"]);
    as_a_checkout_builds(&root, VERSIONS[1])
}

/// With `--site` the CA is in the images already: they run as they came, with that site's folder, and under no other CA.
pub fn for_one_site(world: &World) -> Result<()> {
    let near = world.scratch();
    let keys = ["release.key", "release.pub"].map(|name| near.path().join(name));
    world.machine.process("minisign").args(["-G", "-W", "-s"]).arg(&keys[0]).arg("-p").arg(&keys[1]).capture()?;
    let root = Root::new(world)?;
    fs_err::create_dir_all(root.site.path())?;
    root.site.describe("")?;
    root.site.xtask("certs").capture()?;
    let site = root.site.path().display().to_string();
    let bundle = create(world, near.path(), "site.tar.zst", &["--double-version", VERSIONS[0], "--site", &site], &keys[0])?;
    let listed = parts(world, &bundle)?;
    let paths: Vec<&str> = listed["parts"].as_array().unwrap().iter().filter_map(|part| part["path"].as_str()).collect();
    assert!(paths.iter().any(|path| path.starts_with("onboarding/")), "{paths:?}");
    assert!(!paths.iter().any(|path| path.contains("key") || path.contains("secrets.env")), "{paths:?}");

    for (from, to) in [(near.path().join("xtask"), "xtask"), (bundle, "site.tar.zst"), (keys[1].clone(), "release.pub")] {
        fs_err::copy(from, root.at(to))?;
    }
    root.says("/xtask bundle apply /site.tar.zst --key /release.pub --to /chatops")?;
    let first = root.up()?;
    assert!(first.contains("started alert-gateway, coturn, mattermost, postgres"), "{first}");
    root.is_provisioned()?;
    as_a_checkout_builds(&root, VERSIONS[0])?;

    fs_err::rename(root.site.path().join("pki"), root.at("pki"))?;
    let outcome = root.run("/chatops/xtask up --site /chatops/site").outcome()?;
    assert!(outcome.status.code() == Some(1) && said(&outcome).contains("a site with another CA"), "{}", said(&outcome));
    Ok(())
}

/// A bundle of this checkout, signed.
fn create(world: &World, folder: &Path, name: &str, options: &[&str], key: &Path) -> Result<PathBuf> {
    let path = folder.join(name);
    let verb = |words: &[&str]| -> Result<Process> {
        let verb = Process::new(world.xtask()?, world.workspace.root()).arg("bundle").args(words);
        Ok(verb.env_remove("CARGO_MANIFEST_DIR").env("PATH", world.machine.path()))
    };
    let begin = Instant::now();
    verb(&["create", "--mattermost", "double"])?.args(options).arg("--output").arg(&path).deadline(UP).capture()?;
    verb(&["sign"])?.arg(&path).arg("--key").arg(key).capture()?;
    eprintln!("         {name} was made in {:.1} s", begin.elapsed().as_secs_f32());
    Ok(path)
}

/// A bundle's list.
fn parts(world: &World, bundle: &Path) -> Result<Value> {
    let show = Process::new(world.xtask()?, world.workspace.root()).args(["bundle", "show", "--unsigned", "--json"]).arg(bundle);
    Ok(serde_json::from_str(&show.text()?).unwrap())
}

/// Programs that are not ours read it: tar and zstd the whole, minisign its signature, sha256sum its sums.
fn checked_by_others(world: &World, bundle: &Path, folder: &Path, key: &Path) -> Result<()> {
    let out = folder.join("out");
    fs_err::create_dir_all(&out)?;
    world.machine.process("zstd").args(["--test", "--quiet"]).arg(bundle).capture()?;
    world.machine.process("tar").args(["--zstd", "--extract", "--file"]).arg(bundle).arg("--directory").arg(&out).capture()?;
    world.machine.process("minisign").arg("-Vm").arg(out.join("parts.json")).arg("-p").arg(key).capture()?;
    world.machine.process("sha256sum").args(["--check", "--quiet", "--strict", "SHA256SUMS"]).in_folder(&out).capture()?;
    assert!(out.join("papers/coturn.spdx.json").is_file());
    let secret = fs_err::read_to_string(out.join("templates/compose.json"))?;
    assert!(secret.contains("\"services\""), "{secret}");
    fs_err::remove_dir_all(&out)?;
    Ok(())
}

impl<'a> Root<'a> {
    fn new(world: &'a World) -> Result<Root<'a>> {
        let mut site = Site::new(world)?;
        let folder = world.scratch();
        let root = folder.path();
        for name in ["bin", "tmp", "proc", "dev", "small", "usr/local/lib/docker/cli-plugins"] {
            fs_err::create_dir_all(root.join(name))?;
        }
        fs_err::write(root.join("docker.sock"), "")?;
        site.site.folder = root.join("chatops/site");
        let root = Root { site, world, folder };
        let docker = world.machine.find("docker").unwrap_or_else(|| panic!("no docker"));
        root.program(&docker, "bin/docker")?;
        let plugins =
            world.machine.process("docker").args(["info", "--format", "{{range .ClientInfo.Plugins}}{{.Path}} {{end}}"]).outcome()?;
        let plugins = String::from_utf8_lossy(&plugins.stdout).into_owned();
        let compose = plugins.split_whitespace().find(|path| path.ends_with("/docker-compose")).unwrap_or_else(|| panic!("{plugins}"));
        root.program(Path::new(compose), "usr/local/lib/docker/cli-plugins/docker-compose")?;
        Ok(root)
    }

    fn at(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// A program of this machine, with the libraries that it names.
    fn program(&self, from: &Path, to: &str) -> Result<()> {
        fs_err::copy(from, self.at(to))?;
        let listed = self.world.machine.process("ldd").arg(from).outcome()?;
        for library in String::from_utf8_lossy(&listed.stdout).split_whitespace().filter(|word| word.starts_with('/')) {
            let place = self.at(library.trim_start_matches('/'));
            fs_err::create_dir_all(place.parent().unwrap())?;
            fs_err::copy(library, place)?;
        }
        Ok(())
    }

    /// A program in the root, on the server of the lab: nothing else of this machine is seen there, and no network leads out.
    fn run(&self, words: &str) -> Process {
        let script = "set -e; chroot=$(command -v chroot); root=$1; socket=$2; shift 2\n\
            mount --bind \"$socket\" \"$root/docker.sock\"; mount -t proc proc \"$root/proc\"; mount --bind /dev \"$root/dev\"\n\
            mount -t tmpfs -o size=64m small \"$root/small\"\n\
            exec env -i PATH=/bin HOME=/tmp DOCKER_HOST=unix:///docker.sock \"$chroot\" \"$root\" \"$@\"";
        let socket = self.site.lab.host();
        let socket = socket.trim_start_matches("unix://");
        let process = self.site.lab.process("unshare").args(["--mount", "sh", "-c", script, "sh"]);
        process.arg(self.folder.path()).arg(socket).args(words.split_whitespace()).deadline(UP)
    }

    /// What it says, where it ends well.
    fn says(&self, words: &str) -> Result<String> {
        let outcome: Outcome = self.run(words).outcome()?;
        assert!(outcome.success(), "{words}: {}\n{}", said(&outcome), self.site.logs());
        Ok(said(&outcome))
    }

    fn up(&self) -> Result<String> {
        let begin = Instant::now();
        let text = self.says("/chatops/xtask up --site /chatops/site")?;
        eprintln!("         up took {:.1} s", begin.elapsed().as_secs_f32());
        Ok(text)
    }

    fn is_provisioned(&self) -> Result<()> {
        self.says("/chatops/xtask status --site /chatops/site")?;
        self.says("/chatops/xtask provision --plan --site /chatops/site").map(drop)
    }
}

impl Drop for Root<'_> {
    fn drop(&mut self) {
        // A claim that failed has its own words to say.
        let _ = self.run("/chatops/xtask down --volumes --yes --site /chatops/site").outcome();
    }
}

/// Another's key, none, and a disk that is too small: nothing is applied.
fn refusals(root: &Root) -> Result<()> {
    for (words, code, why) in [
        ("--key /other.pub --to /chatops", 1, "another key"),
        ("--key /none.pub --to /chatops", 2, "none.pub"),
        ("--to /chatops", 2, "--key"),
        ("--key /release.pub --to /small/chatops", 1, "there is no room"),
    ] {
        let outcome = root.run(&format!("/xtask bundle apply /one.tar.zst {words}")).outcome()?;
        let text = said(&outcome);
        assert!(outcome.status.code() == Some(code) && text.contains(why), "{words}: {text}");
    }
    assert!(!root.at("chatops/current").exists());
    let outcome = root.run("/xtask up --site /chatops/site").outcome()?;
    assert!(!outcome.success() && said(&outcome).contains("where a bundle was applied"), "{}", said(&outcome));
    Ok(())
}

/// Ever later, so that each stage is hit; what is there afterwards is a whole version, or none.
fn killed(root: &Root) -> Result<()> {
    for delay in [20, 60, 150, 300, 600] {
        let log = root.at("killed.log");
        let apply = root.run("/xtask bundle apply /one.tar.zst --key /release.pub --to /chatops").start(&log)?;
        let begin = Instant::now();
        while begin.elapsed() < Duration::from_millis(delay) && apply.ended()?.is_none() {
            std::thread::sleep(Duration::from_millis(5));
        }
        apply.stop(Duration::ZERO);
        assert_eq!(root.at("chatops/current/parts.json").exists(), root.at("chatops/current/xtask").exists());
    }
    Ok(())
}

/// The images that run there are those that a checkout with this CA builds, digest by digest.
fn as_a_checkout_builds(root: &Root, version: &str) -> Result<()> {
    let ca = root.site.path().join("pki/ca.pem");
    let ca = ca.display().to_string();
    let args = ["--json", "--mattermost", "double", "--double-version", version, "--ca", &ca];
    let built = parse(&root.world.images_verb(&args)?.deadline(UP).text()?);
    for (service, id) in root.site.containers()? {
        let runs = root.site.inspect(&id)?["Image"].as_str().unwrap_or_default().to_owned();
        assert_eq!(runs, built[&service].config.oci(), "{service}");
    }
    Ok(())
}
