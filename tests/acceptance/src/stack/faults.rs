//! What goes wrong around a stack: each is told with the next step, and nothing is lost.

use std::path::{Path, PathBuf};

use images::Result;
use lab::Lab;

use super::{Site, UP, said};
use crate::world::World;

/// A release whose server says what it does not like, and ends.
pub fn new_version(world: &World) -> Result<()> {
    let site = Site::new(world)?;
    site.is_up()?;
    let before = site.inspect(&site.containers()?["mattermost"])?["Image"].clone();
    let teams = site.sql("SELECT count(*) FROM teams")?;
    let broken = site.path().join("broken");
    fs_err::create_dir_all(&broken)?;
    let program = "fn main() { eprintln!(\"the schema is not as this version likes it\"); std::process::exit(1) }";
    let file = crate::mattermost::make_tarball(world, &broken, program)?;
    let up = site.xtask("up --without-plugin jenkins").arg("--mattermost").arg(&file);
    let outcome = up.deadline(UP).outcome()?;
    let text = said(&outcome);
    assert_eq!(outcome.status.code(), Some(1), "{text}");
    assert!(text.contains("| the schema is not as this version likes it"), "the log is missing: {text}");
    assert!(text.contains("what was healthy before runs again"), "{text}");
    assert_eq!(site.inspect(&site.containers()?["mattermost"])?["Image"], before);
    assert!(site.xtask("status").outcome()?.success());
    assert_eq!(site.sql("SELECT count(*) FROM teams")?, teams);
    let plan = site.xtask("provision --plan").outcome()?;
    assert!(plan.success(), "{}", said(&plan));
    Ok(())
}

pub fn ailing(world: &World) -> Result<()> {
    let site = Site::new(world)?;
    site.is_up()?;
    let containers = site.containers()?;
    let refused = |words: &str, wanted: &[&str]| -> Result<()> {
        let outcome = site.xtask(words).deadline(UP).outcome()?;
        let text = said(&outcome);
        assert_eq!(outcome.status.code(), Some(9), "{text}");
        assert!(wanted.iter().all(|words| text.contains(words)), "{wanted:?}: {text}");
        assert_eq!(site.containers()?, containers, "{text}");
        Ok(())
    };
    // Somebody has changed the password in Mattermost alone.
    let secrets = fs_err::read_to_string(site.path().join("secrets.env"))?;
    let other = secrets.replace(&site.secret("MATTERMOST_ADMIN_PASSWORD"), "Another-password-than-that-1");
    fs_err::write(site.path().join("secrets.env"), other)?;
    let wanted = ["invalid_credentials", "MATTERMOST_ADMIN_PASSWORD in secrets.env is not the password of [administrator]"];
    refused("up --mattermost double", &wanted)?;
    refused("provision", &wanted)?;
    fs_err::write(site.path().join("secrets.env"), secrets)?;

    // A second factor: only a token signs in from now on.
    let told = site.xtask("mmctl").args(["--", "token", "generate", "admin", "provisioning"]).text()?;
    let (token, _) = told.split_once(':').unwrap_or_else(|| panic!("no token: {told}"));
    let file = site.path().join("token");
    images::file::write_beside(&file, token.as_bytes(), 0o600)?;
    site.sql("UPDATE users SET mfaactive = true WHERE username = 'admin'")?;
    refused("up --mattermost double", &["the account has a second factor", "--token-file FILE"])?;
    let up = site.xtask("up --mattermost double").arg("--token-file");
    let outcome = up.arg(&file).deadline(UP).outcome()?;
    assert!(outcome.success() && said(&outcome).contains("nothing had to change"), "{}", said(&outcome));
    site.sql("UPDATE users SET mfaactive = false WHERE username = 'admin'")?;

    // The server's certificate is of the CA that the site had before.
    let (pki, kept) = (site.path().join("pki"), site.path().join("pki-before"));
    fs_err::rename(&pki, &kept)?;
    site.xtask("certs").capture()?;
    refused("provision", &["certificate is not believed", "another CA than the site's (pki/ca.pem) issued it"])?;
    fs_err::remove_dir_all(&pki)?;
    fs_err::rename(&kept, &pki)?;

    site.lab.docker("stop").arg(&containers["mattermost"]).capture()?;
    refused("provision", &["Mattermost is not reached", "`cargo xtask status` shows whether it runs"])?;
    let status = site.xtask("status").outcome()?;
    assert!(!status.success() && said(&status).contains("not healthy: mattermost"), "{}", said(&status));
    site.is_up()?;
    let plan = site.xtask("provision --plan").outcome()?;
    assert!(plan.success(), "{}", said(&plan));
    Ok(())
}

pub fn image_and_network(world: &World) -> Result<()> {
    let site = Site::new(world)?;
    site.is_up()?;
    let image = site.inspect(&site.containers()?["alert-gateway"])?["Image"].as_str().unwrap().to_owned();
    site.xtask("down").capture()?;
    // Its image has the site's CA in it, so that no other site has it.
    site.lab.docker("image rm --force").arg(&image).capture()?;
    let network = format!("{}_backend", site.project);
    site.lab.docker("network create").arg(&network).capture()?;
    let outcome = site.up()?;
    let text = said(&outcome);
    assert_eq!(outcome.status.code(), Some(1), "{text}");
    assert!(text.contains(&format!("docker network rm {network}")), "{text}");
    assert!(site.containers()?.is_empty());
    site.lab.docker("network rm").arg(&network).capture()?;
    let text = site.is_up()?;
    assert!(text.contains("loaded chatops/alert-gateway:"), "{text}");
    assert_eq!(site.inspect(&site.containers()?["alert-gateway"])?["Image"].as_str(), Some(image.as_str()));
    Ok(())
}

/// An Engine of its own, whose data lies on a file system that holds none of the images.
pub fn full_engine(world: &World) -> Result<()> {
    let folder = world.scratch();
    let mount = Mounted::small(world, folder.path())?;
    {
        let lab = Lab::start(&world.machine, folder.path())?;
        let site = Site::on(world, &lab)?;
        let outcome = site.up()?;
        let text = said(&outcome);
        assert_eq!(outcome.status.code(), Some(4), "{text}");
        assert!(text.contains("no space left on device") && text.contains("docker system df"), "{text}");
        assert!(site.containers()?.is_empty());
        mount.grow(world)?;
        site.is_up()?;
    }
    Ok(())
}

/// A file system in memory; it goes when this is dropped.
struct Mounted<'a>(&'a World, PathBuf);

impl<'a> Mounted<'a> {
    fn small(world: &'a World, at: &Path) -> Result<Self> {
        world.machine.process("mount").args(["-t", "tmpfs", "-o", "size=48m", "tmpfs"]).arg(at).capture()?;
        Ok(Mounted(world, at.to_owned()))
    }

    fn grow(&self, world: &World) -> Result<()> {
        world.machine.process("mount").args(["-o", "remount,size=2g"]).arg(&self.1).capture().map(drop)
    }
}

impl Drop for Mounted<'_> {
    fn drop(&mut self) {
        // Lazily: the Engine may have left a mount below it.
        let _ = self.0.machine.process("umount").arg("--lazy").arg(&self.1).outcome();
    }
}
