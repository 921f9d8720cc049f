//! Claims about a real registry, Debian's, with TLS and a password: what is pushed is what others read.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::time::Duration;

use images::{Digest, Result};
use lab::{Lab, SERVER, address};
use serde_json::{Value, json};
use xtask::engine::api::Engine;
use xtask::output::Output;
use xtask::process::{Process, Running};
use xtask::registry::pull::pull;
use xtask::registry::{Address, Client, Login, Patience};

use crate::claims::{Claim, wait_for};
use crate::pki::Ca;
use crate::stack::{Site, UP, said};
use crate::world::{NAMES, World, parse};

const fn claim(name: &'static str, proves: fn(&World) -> Result<()>) -> Claim {
    Claim { name, needs: &["docker-registry", "openssl", "skopeo"], root: false, engine: false, proves }
}

/// The claims.
pub const CLAIMS: &[Claim] = &[
    claim("registry::what_is_pushed_has_our_digests_shares_layers_and_is_not_sent_twice", digests_are_ours),
    claim("registry::sbom_and_provenance_hang_on_the_image_and_skopeo_reads_them", papers_hang),
    claim("registry::a_compressed_layer_has_the_same_digest_again_and_unpacks_to_ours", compressed_is_the_same),
    claim("registry::a_wrong_password_another_ca_and_a_lock_that_disagrees_are_told_before_anything_is_sent", refusals_are_told),
    PULLED,
    Claim {
        name: "registry::up_pulls_by_digest_over_tls_what_was_pushed_and_ends_healthy",
        needs: &["docker-registry", "openssl", "ip", "unshare", "dockerd", "docker", "docker compose", "cc"],
        root: true,
        engine: false,
        proves: up_from_there,
    },
];

/// By the Engine on this machine, which does not ask a registry on loopback for its certificate.
const PULLED: Claim = Claim {
    name: "registry::the_engine_gets_by_digest_what_was_pushed_and_what_was_not_is_named",
    needs: &["docker-registry", "openssl", "docker"],
    root: true,
    engine: true,
    proves: pulled_by_digest,
};

/// `me` with the password `open sesame`, for a registry that lives for seconds.
const HTPASSWD: &str = "me:$2b$04$abcdefghijklmnopqrstuu/LVz6MZlItEy42I2juLihZ66HnQx/cy\n";
const LOGIN: &str = "bWU6b3BlbiBzZXNhbWU=";

/// A registry of its own, on loopback.
struct Registry<'a> {
    world: &'a World,
    folder: tempfile::TempDir,
    host: String,
    _running: Running,
}

impl<'a> Registry<'a> {
    fn start(world: &'a World) -> Result<Self> {
        Self::at(world, None)
    }

    /// On loopback, or on the address of a lab's server.
    fn at(world: &'a World, lab: Option<&Lab>) -> Result<Self> {
        let folder = world.scratch();
        let at = |name: &str| folder.path().join(name);
        let ca = Ca::new(&world.machine, folder.path(), "registry")?;
        let address = lab.map_or(Ipv4Addr::LOCALHOST, |_| address(SERVER)).to_string();
        let (cert, key) = ca.leaf(&address)?;
        fs_err::create_dir(at("certs"))?;
        fs_err::copy(ca.cert(), at("certs").join("ca.crt"))?;
        fs_err::write(at("htpasswd"), HTPASSWD)?;
        // Free a moment ago: nothing else here asks the system for that number.
        let free = || TcpListener::bind((address.as_str(), 0))?.local_addr();
        let port = lab.map_or_else(|| Ok(free()), |lab| lab.server().inside(free))??.port();
        let host = format!("{address}:{port}");
        let settings = json!({
            "version": "0.1",
            "log": { "level": "warn" },
            "storage": { "filesystem": { "rootdirectory": at("data") } },
            "http": { "addr": host, "tls": { "certificate": cert, "key": key } },
            "auth": { "htpasswd": { "realm": "acceptance", "path": at("htpasswd") } },
        });
        fs_err::write(at("config.yml"), settings.to_string())?; // JSON is YAML
        let registry = lab.map_or_else(|| world.machine.process("docker-registry"), |lab| lab.process("docker-registry"));
        let running = registry.arg("serve").arg(at("config.yml")).start(&at("log"))?;
        let connect = || TcpStream::connect(&host).ok();
        wait_for(
            "the registry listens",
            Duration::from_secs(20),
            || lab.map_or_else(connect, |lab| lab.server().inside(connect).ok().flatten()),
            || fs_err::read_to_string(at("log")).unwrap_or_default(),
        );
        let registry = Registry { world, folder, host, _running: running };
        registry.log_in("docker", &json!({ "auths": { &registry.host: { "auth": LOGIN } } }))?;
        Ok(registry)
    }

    /// Docker's settings, in a folder of this name.
    fn log_in(&self, folder: &str, config: &Value) -> Result<PathBuf> {
        let folder = self.folder.path().join(folder);
        fs_err::create_dir_all(&folder)?;
        fs_err::write(folder.join("config.json"), config.to_string())?;
        Ok(folder)
    }

    fn verb(&self, prefix: &str, args: &[&str]) -> Result<Process> {
        let (layout, registry) = (self.world.layout().display().to_string(), format!("{}{prefix}", self.host));
        let verb = self.world.images_verb(&[&["push", &registry, "--layout", &layout, "--json"], args].concat())?;
        Ok(verb.env("DOCKER_CONFIG", self.folder.path().join("docker")))
    }

    /// Pushes the images without a site's CA; what is told of each, by name.
    fn push(&self, prefix: &str, args: &[&str]) -> Result<BTreeMap<String, Value>> {
        let ca = self.folder.path().join("registry.ca.pem");
        let mut names = Vec::new();
        for name in NAMES {
            names.push(self.world.image(name)?.name.clone());
        }
        let verb = self.verb(prefix, args)?.arg("--ca").arg(ca).args(names);
        let told = verb.text()?.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()).collect::<Vec<_>>();
        Ok(NAMES.iter().map(|name| (*name).to_owned()).zip(told).collect())
    }

    fn skopeo(&self, args: &[&str]) -> Process {
        let skopeo = self.world.machine.process("skopeo").args(args);
        skopeo.env("REGISTRY_AUTH_FILE", self.folder.path().join("docker/config.json"))
    }

    fn inspect(&self, args: &[&str], reference: &str) -> Result<Vec<u8>> {
        let certs = self.folder.path().join("certs").display().to_string();
        let reference = format!("docker://{}/{reference}", self.host);
        Ok(self.skopeo(&[&["inspect", "--cert-dir", &certs], args, &[&reference]].concat()).capture()?.stdout)
    }
}

fn digests_are_ours(world: &World) -> Result<()> {
    let registry = Registry::start(world)?;
    let first = registry.push("", &["--no-papers"])?;
    let mut mounted = 0;
    for name in NAMES {
        let image = world.image(name)?;
        let told = &first[name];
        assert_eq!(told["reference"], format!("{}/chatops/{name}@{}", registry.host, image.manifest.oci()));
        assert!(told["blobs_sent"].as_u64().unwrap() > 0, "{told}");
        mounted += told["blobs_mounted"].as_u64().unwrap();
        let seen: Value = serde_json::from_slice(&registry.inspect(&[], &image.name)?).unwrap();
        assert_eq!(seen["Digest"], image.manifest.oci());
        let layers: Vec<String> = image.layers.iter().map(|layer| layer.digest.oci()).collect();
        assert_eq!(seen["Layers"], json!(layers));
    }
    let shared = |name: &str| world.image(name).unwrap().layers.iter().map(|layer| layer.digest).collect::<Vec<_>>();
    let both = shared("coturn").iter().filter(|digest| shared("postgres").contains(digest)).count() as u64;
    assert!(both > 0 && mounted >= both, "{mounted} mounted, {both} layers are of two images");
    // Again, by a credential helper: nothing is sent.
    let helper = registry.folder.path().join("bin");
    fs_err::create_dir(&helper)?;
    let script = format!(
        "#!/bin/sh\n[ \"$1 $(cat)\" = \"get {}\" ] && echo '{{\"Username\": \"me\", \"Secret\": \"open sesame\"}}'\n",
        registry.host
    );
    fs_err::write(helper.join("docker-credential-acceptance"), script)?;
    fs_err::set_permissions(helper.join("docker-credential-acceptance"), PermissionsExt::from_mode(0o755))?;
    let config = registry.log_in("helped", &json!({ "credHelpers": { &registry.host: "acceptance" } }))?;
    let path = std::env::join_paths([helper].into_iter().chain(std::env::split_paths(world.machine.path()))).unwrap();
    let ca = registry.folder.path().join("registry.ca.pem");
    let names = [world.image("coturn")?.name.clone()];
    let again = registry.verb("", &["--no-papers"])?.arg("--ca").arg(ca).args(names).env("DOCKER_CONFIG", config).env("PATH", path);
    let told: Value = serde_json::from_str(again.text()?.trim()).unwrap();
    assert_eq!((&told["sent"], &told["blobs_sent"], &told["reference"]), (&json!(0), &json!(0), &first["coturn"]["reference"]));
    Ok(())
}

fn papers_hang(world: &World) -> Result<()> {
    let registry = Registry::start(world)?;
    registry.push("/team", &[])?;
    let told = registry.push("/team", &[])?;
    for name in NAMES {
        let image = world.image(name)?;
        let repository = format!("team/chatops/{name}");
        // Debian's registry keeps no list of referrers: the tag does.
        let list: Value =
            serde_json::from_slice(&registry.inspect(&["--raw"], &format!("{repository}:sha256-{}", image.manifest))?).unwrap();
        let listed = list["manifests"].as_array().unwrap();
        let types: BTreeMap<String, String> = listed
            .iter()
            .map(|one| (one["artifactType"].as_str().unwrap().to_owned(), one["digest"].as_str().unwrap().to_owned()))
            .collect();
        assert_eq!(types.keys().collect::<Vec<_>>(), ["application/spdx+json", "application/vnd.in-toto+json"]);
        assert_eq!(listed.len(), told[name]["papers"].as_array().unwrap().len(), "the second push added nothing: {list}");
        for (kind, digest) in types {
            let raw = registry.inspect(&["--raw"], &format!("{repository}@{digest}"))?;
            assert_eq!(Digest::of(&raw).oci(), digest);
            let manifest: Value = serde_json::from_slice(&raw).unwrap();
            assert_eq!((&manifest["subject"]["digest"], &manifest["artifactType"]), (&json!(image.manifest.oci()), &json!(kind)));
            let copy = world.scratch();
            let certs = registry.folder.path().join("certs").display().to_string();
            let from = format!("docker://{}/{repository}@{digest}", registry.host);
            let to = format!("dir:{}", copy.path().display());
            registry.skopeo(&["copy", "--quiet", "--insecure-policy", "--src-cert-dir", &certs, &from, &to]).capture()?;
            let paper = manifest["layers"][0]["digest"].as_str().unwrap().trim_start_matches("sha256:").to_owned();
            let paper: Value = serde_json::from_slice(&fs_err::read(copy.path().join(paper))?).unwrap();
            match kind.as_str() {
                "application/spdx+json" => assert_eq!(paper["packages"][0]["checksums"][0]["checksumValue"], image.manifest.to_string()),
                _ => assert_eq!(paper["subject"][0]["digest"]["sha256"], image.manifest.to_string()),
            }
        }
    }
    Ok(())
}

fn compressed_is_the_same(world: &World) -> Result<()> {
    let registry = Registry::start(world)?;
    let image = world.image("alert-gateway")?;
    let ca = registry.folder.path().join("registry.ca.pem");
    for (kind, end) in [("gzip", "+gzip"), ("zstd", "+zstd")] {
        let push = |prefix: &str| -> Result<Value> {
            let verb = registry.verb(prefix, &["--no-papers", "--compression", kind])?.arg("--ca").arg(&ca).arg(&image.name);
            Ok(serde_json::from_str(verb.text()?.trim()).unwrap())
        };
        let digest = |told: &Value| told["reference"].as_str().unwrap().split('@').nth(1).unwrap().to_owned();
        let first = push("")?;
        // Made anew, not remembered.
        for layer in &image.layers {
            fs_err::remove_file(world.workspace.target().join("push").join(format!("{}{end}", layer.digest)))?;
        }
        let second = push("/elsewhere")?;
        assert_eq!(digest(&first), digest(&second));
        assert_ne!(digest(&first), image.manifest.oci());
        let manifest: Value = serde_json::from_slice(&registry.inspect(&["--raw"], &image.name)?).unwrap();
        assert!(
            manifest["layers"].as_array().unwrap().iter().all(|layer| layer["mediaType"].as_str().unwrap().ends_with(end)),
            "{manifest}"
        );
        assert_eq!(manifest["config"]["digest"], image.config.oci(), "what runs is the same");
        // Unpacked by others, every layer is ours again.
        let copy = world.scratch();
        let certs = registry.folder.path().join("certs").display().to_string();
        let from = format!("docker://{}/{}", registry.host, image.name);
        let to = format!("dir:{}", copy.path().display());
        let options = ["copy", "--quiet", "--insecure-policy", "--dest-decompress", "--src-cert-dir", &certs, &from, &to];
        registry.skopeo(&options).capture()?;
        for layer in &image.layers {
            assert_eq!(Digest::of_file(&copy.path().join(layer.digest.to_string()))?.0, layer.digest);
        }
    }
    Ok(())
}

fn refusals_are_told(world: &World) -> Result<()> {
    let registry = Registry::start(world)?;
    let name = world.image("alert-gateway")?.name.clone();
    let ca = registry.folder.path().join("registry.ca.pem");
    let refused = |verb: Process, code: i32, words: &[&str]| -> Result<()> {
        let outcome = verb.outcome()?;
        let said = String::from_utf8_lossy(&outcome.stderr).into_owned();
        assert_eq!(outcome.status.code(), Some(code), "{said}");
        for word in words {
            assert!(said.contains(word), "no \"{word}\" in {said}");
        }
        assert!(!said.contains("sesame") && !said.contains(LOGIN), "{said}");
        Ok(())
    };
    let push = |args: &[&str]| -> Result<Process> { Ok(registry.verb("", args)?.arg(&name)) };
    refused(push(&["--no-papers"])?, 9, &["certificate"])?;
    let wrong = registry.log_in("wrong", &json!({ "auths": { &registry.host: { "auth": "bWU6d3Jvbmc=" } } }))?;
    let hint = format!("docker login {}", registry.host);
    refused(push(&["--no-papers"])?.arg("--ca").arg(&ca).env("DOCKER_CONFIG", &wrong), 9, &["is refused", "401", &hint])?;
    let nobody = registry.log_in("nobody", &json!({}))?;
    refused(push(&["--no-papers"])?.arg("--ca").arg(&ca).env("DOCKER_CONFIG", &nobody), 9, &["have no credentials", &hint])?;
    // An image that this checkout's lock does not make: one whose package has another version there.
    let (place, other) = (images::contents::Place::open(&world.layout())?, world.scratch());
    let image = place.image(&name)?;
    let mut config = image.config.clone();
    config["config"]["Labels"]["org.chatops.image.inputs"] = json!(Digest::of("other inputs").oci());
    let config = images::oci::canonical(&config);
    let mut manifest = image.manifest.clone();
    manifest["config"] = json!({ "digest": Digest::of(&config).oci(), "mediaType": images::oci::CONFIG, "size": config.len() });
    let manifest = images::oci::canonical(&manifest);
    let layout = images::layout::Layout::open(other.path())?;
    for layer in &image.layers {
        fs_err::copy(world.layout().join("blobs/sha256").join(layer.digest.to_string()), layout.blob(&layer.digest))?;
    }
    layout.put(&config)?;
    let digest = layout.put(&manifest)?;
    layout.name(&name, digest, manifest.len() as u64)?;
    let verb = world.images_verb(&["push", &registry.host, "--layout", other.path().to_str().unwrap(), &name])?;
    refused(verb, 1, &["is not what images/lock.json and its image.toml make"])?;
    // Nothing came of all that.
    let certs = registry.folder.path().join("certs").display().to_string();
    let tags = registry.skopeo(&["list-tags", "--cert-dir", &certs, &format!("docker://{}/chatops/alert-gateway", registry.host)]);
    assert!(!tags.outcome()?.success(), "a repository was made");
    Ok(())
}

fn pulled_by_digest(world: &World) -> Result<()> {
    let registry = Registry::start(world)?;
    let ca = registry.folder.path().join("registry.ca.pem");
    // With a CA of this claim alone: no other claim has this image, and none misses it afterwards.
    let layout = registry.folder.path().join("layout");
    let build = world.images_verb(&["alert-gateway", "--json", "--ca", ca.to_str().unwrap()])?;
    let built = build.arg("--layout").arg(&layout).arg("--store").arg(world.store()).text()?;
    let image = parse(&built).remove("alert-gateway").unwrap();
    assert!(image.name.contains("-ca"), "{}", image.name);
    let push = world.images_verb(&["push", &format!("{}/team", registry.host), "--no-papers", "--layout", layout.to_str().unwrap()])?;
    push.arg("--ca").arg(&ca).env("DOCKER_CONFIG", registry.folder.path().join("docker")).capture()?;

    let login = Login::find(&registry.host, &registry.folder.path().join("docker"))?;
    let client = Client::connect(Address::parse(&format!("{}/team", registry.host))?, Some(&ca), login, Patience::default())?;
    let engine = Engine::connect()?;
    assert!(!engine.has_image(&image.config.oci()));
    let docker = world.machine.process("docker").env("DOCKER_CONFIG", registry.folder.path().join("docker"));
    for _ in 0..2 {
        let got = pull(&client, &image.name, &engine, &docker, &mut Output::new())?;
        assert_eq!((got.manifest, got.config), (image.manifest, image.config));
        assert!(engine.has_image(&image.config.oci()) && engine.has_image(&image.name));
    }
    docker.clone().args(["image", "rm", "--force", &image.config.oci()]).capture()?;
    let other = image.name.replace(':', ":9");
    let error = pull(&client, &other, &engine, &docker, &mut Output::new()).unwrap_err().to_string();
    assert!(error.contains("is not in the registry") && error.contains("images push"), "{error}");
    Ok(())
}

/// In the lab, whose Engine asks this registry for its certificate as any other; and it has none of these images before.
fn up_from_there(world: &World) -> Result<()> {
    let lab = world.lab()?;
    let registry = Registry::at(world, Some(lab))?;
    let (host, ca) = (&registry.host, registry.folder.path().join("registry.ca.pem"));
    let certs = format!("/etc/docker/certs.d/{host}");
    lab.beside_engine("mount").args(["-t", "tmpfs", "registry", "/etc/docker"]).capture()?;
    lab.beside_engine("install").args(["-D", "--mode=0644"]).arg(&ca).arg(format!("{certs}/ca.crt")).capture()?;

    let site = Site::new(world)?;
    site.xtask("certs").capture()?;
    let layout = registry.folder.path().join("layout");
    let build = world.images_verb(&["--mattermost", "double", "--json", "--ca"])?.arg(site.path().join("pki/ca.pem"));
    let built = parse(&build.arg("--layout").arg(&layout).arg("--store").arg(world.store()).text()?);
    assert_eq!(built.len(), 4);
    let has = |image: &str| lab.docker("image inspect").arg(image).outcome().is_ok_and(|outcome| outcome.success());
    assert!(built.values().all(|image| !has(&image.config.oci())), "the Engine has them already");
    let config = registry.folder.path().join("docker");
    let xtask = |process: Process| process.env_remove("CARGO_MANIFEST_DIR").env("PATH", world.machine.path()).env("DOCKER_CONFIG", &config);
    let push = lab.process(world.xtask()?).in_folder(world.workspace.root()).args(["images", "push", "--no-papers"]);
    xtask(push.arg(format!("{host}/team")).arg("--layout").arg(&layout).arg("--ca").arg(&ca)).capture()?;
    fs_err::remove_dir_all(&layout)?;

    let up = || -> Result<String> {
        let up = lab.beside_engine(world.xtask()?).args(["up", "--mattermost", "double", "--registry"]).arg(format!("{host}/team"));
        let outcome = xtask(up.arg("--site").arg(site.path())).deadline(UP).outcome()?;
        assert!(outcome.success(), "{}\n{}", said(&outcome), site.logs());
        Ok(said(&outcome))
    };
    let first = up()?;
    assert_eq!(first.matches("pulled ").count(), 4, "{first}");
    assert!(site.xtask("status").outcome()?.success());
    for (service, id) in site.containers()? {
        let image = &built[&service];
        assert_eq!(site.inspect(&id)?["Image"], image.config.oci(), "{service}");
        let digests = site.inspect(&image.config.oci())?["RepoDigests"].to_string();
        assert!(digests.contains(&format!("{host}/team/chatops/{service}@{}", image.manifest.oci())), "{digests}");
    }
    let second = up()?;
    assert!(second.contains("nothing had to change"), "{second}");
    Ok(())
}
