//! Claims about an image made of a tarball in the vendor's layout, with a stub for the server.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use images::entry::{Entry, Node, read_tar};
use images::{Result, tar};
use pgp::composed::{ArmorOptions, KeyType, SecretKeyParamsBuilder, SignedSecretKey};

use crate::claims::{Claim, wait_for};
use crate::docker::{Container, Volume, docker};
use crate::pki::Ca;
use crate::postgres::{PASSWORD, Site};
use crate::world::{Image, World};

/// The claims.
pub const CLAIMS: &[Claim] = &[
    Claim {
        name: "mattermost::a_file_in_the_vendors_layout_becomes_an_image_of_the_accounts_own_with_wanted_plugins_alone",
        needs: &["cc"],
        root: false,
        engine: false,
        proves: holds_what_it_should,
    },
    Claim {
        name: "mattermost::it_runs_as_2000_with_a_read_only_root_after_the_database_answers",
        needs: &["cc", "openssl"],
        root: true,
        engine: true,
        proves: runs,
    },
    Claim {
        name: "mattermost::an_own_plugin_is_baked_with_its_signature_and_a_tampered_one_is_not",
        needs: &["cc", "gpgv"],
        root: false,
        engine: false,
        proves: bakes_a_plugin,
    },
    Claim {
        name: "mattermost::the_sites_ca_is_in_the_bundle_that_openssl_verifies_with",
        needs: &["cc", "openssl"],
        root: false,
        engine: false,
        proves: trusts_the_site,
    },
];

const UID: u32 = 2000;

/// Stands in for the server: says who it is and what it may write, and is healthy.
const STUB: &str = r##"
use std::io::{Read, Write};
fn main() {
    let may_write = |path: &str| std::fs::write(path, "x").is_ok();
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let uid = status.lines().find(|line| line.starts_with("Uid:")).unwrap().to_owned();
    let data_source = std::env::var("MM_SQLSETTINGS_DATASOURCE").is_ok();
    println!("stub: {uid} data={} config={} release={} source={data_source}",
        may_write("/mattermost/data/x"), may_write("/mattermost/config/x"), may_write("/mattermost/bin/x"));
    for connection in std::net::TcpListener::bind("0.0.0.0:8065").unwrap().incoming() {
        let mut connection = connection.unwrap();
        let mut request = [0; 4096];
        let _ = connection.read(&mut request);
        let body = r#"{"status":"OK","database_status":"OK","filestore_status":"OK"}"#;
        let _ = write!(connection, "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}", body.len());
    }
}
"##;

/// Bundles as the vendor ships them: some that the image keeps, some that it leaves out.
const BUNDLES: [(&str, bool); 5] = [
    ("mattermost-plugin-calls-v1.11.4-linux-amd64.tar.gz", true),
    ("mattermost-plugin-gitlab-v1.12.0-linux-amd64.tar.gz", true),
    ("mattermost-plugin-playbooks-v2.4.2-linux-amd64.tar.gz", true),
    ("mattermost-plugin-zoom-v1.9.0-linux-amd64.tar.gz", false),
    ("mattermost-plugin-github-v2.5.0-linux-amd64.tar.gz", false),
];

/// One image has one name: who builds and looks at it holds this, so that nobody else's build takes the name meanwhile.
fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The tarball, made once.
fn tarball(world: &World) -> Result<PathBuf> {
    static MADE: OnceLock<PathBuf> = OnceLock::new();
    if let Some(made) = MADE.get() {
        return Ok(made.clone());
    }
    let folder = world.folder().join("vendor");
    fs_err::create_dir_all(&folder)?;
    let made = make_tarball(world, &folder, STUB)?;
    Ok(MADE.get_or_init(|| made).clone())
}

/// A tarball in the vendor's layout, with this program (Rust) for the server: owned by whoever built it, with a folder that only he may
/// enter.
pub fn make_tarball(world: &World, folder: &Path, program: &str) -> Result<PathBuf> {
    let (source, stub) = (folder.join("stub.rs"), folder.join("stub"));
    fs_err::write(&source, program)?;
    let rustc = world.machine.process("rustc").args(["--edition", "2024", "-O", "-C", "target-feature=+crt-static", "-o"]);
    rustc.arg(&stub).arg(&source).capture()?;

    let mut out = tar::Writer::new(Vec::new());
    let mut put = |path: &str, mode: u32, content: Option<&[u8]>| -> Result<()> {
        let path = format!("mattermost/{path}");
        let entry = match content {
            Some(content) => Entry::file(path, content.len(), mode, 1_700_000_000),
            None => Entry::directory(path, mode, 1_700_000_000),
        };
        out.entry(&Entry { uid: 1001, gid: 123, ..entry })?;
        content.map_or(Ok(()), |content| out.content(content)).map_err(Into::into)
    };
    for folder in ["bin", "client", "fonts", "i18n", "logs", "prepackaged_plugins", "templates"] {
        put(folder, 0o755, None)?;
    }
    put("config", 0o700, None)?;
    put("config/config.json", 0o600, Some(b"{}"))?;
    put("bin/mattermost", 0o755, Some(&fs_err::read(&stub)?))?;
    put("bin/mmctl", 0o755, Some(&fs_err::read(&stub)?))?;
    for (path, content) in [
        ("client/root.html", "<html><head><meta http-equiv=\"Content-Security-Policy\" content=\"x\"></head></html>"),
        ("fonts/nunito-bold.ttf", "font"),
        ("i18n/en.json", "[]"),
        ("templates/welcome_body.html", "hello"),
        ("manifest.txt", "stub"),
    ] {
        put(path, 0o644, Some(content.as_bytes()))?;
    }
    for (bundle, _) in BUNDLES {
        put(&format!("prepackaged_plugins/{bundle}"), 0o644, Some(bundle.as_bytes()))?;
        put(&format!("prepackaged_plugins/{bundle}.sig"), 0o644, Some(b"signature"))?;
    }
    let packed = world.machine.process("gzip").args(["-1", "-n"]).stdin(out.finish()?.0).capture()?;
    let file = folder.join("mattermost-11.7.9-linux-amd64.tar.gz");
    fs_err::write(&file, packed.stdout)?;
    Ok(file)
}

fn build(world: &World, file: &Path, more: &[&str]) -> Result<Image> {
    let fixed = ["mattermost", "--mattermost", file.to_str().unwrap(), "--without-plugin", "jenkins"];
    Ok(world.build(&[&fixed, more].concat())?.remove("mattermost").expect("one image"))
}

/// Every path of an image, with its content; later layers win.
fn files(world: &World, image: &Image) -> Result<BTreeMap<String, (Entry, Vec<u8>)>> {
    let mut all = BTreeMap::new();
    for layer in &image.layers {
        let blob = fs_err::File::open(world.layout().join("blobs/sha256").join(layer.digest.to_string()))?;
        read_tar(std::io::BufReader::new(blob), "", &mut |entry, content| {
            let mut bytes = Vec::new();
            content.read_to_end(&mut bytes)?;
            all.insert(entry.path.clone(), (entry, bytes));
            Ok(())
        })?;
    }
    Ok(all)
}

fn configuration(world: &World, image: &Image) -> Result<serde_json::Value> {
    let bytes = fs_err::read(world.layout().join("blobs/sha256").join(image.config.to_string()))?;
    Ok(serde_json::from_slice::<serde_json::Value>(&bytes).unwrap()["config"].take())
}

fn holds_what_it_should(world: &World) -> Result<()> {
    let _alone = alone();
    let image = build(world, &tarball(world)?, &[])?;
    assert_eq!(image.name, "chatops/mattermost:11.7.9-file");
    let config = configuration(world, &image)?;
    let release = config["Labels"]["org.chatops.image.release"].as_str().unwrap();
    assert!(release.starts_with("a file, not the lock's release: sha256:"), "{release}");
    assert_eq!(config["User"], "2000:2000");
    let volumes: Vec<&str> = config["Volumes"].as_object().unwrap().keys().map(String::as_str).collect();
    let wanted = ["/mattermost/client/plugins", "/mattermost/config", "/mattermost/data", "/mattermost/logs", "/mattermost/plugins"];
    assert_eq!(volumes, wanted);

    let files = files(world, &image)?;
    let own = files.values().map(|(entry, _)| entry).filter(|entry| entry.path.starts_with("mattermost/"));
    for entry in own.filter(|entry| !entry.path.starts_with("mattermost/plugin-keys")) {
        assert_eq!((entry.uid, entry.gid), (UID, UID), "{}", entry.path);
    }
    for (bundle, wanted) in BUNDLES {
        for ending in ["", ".sig"] {
            let path = format!("mattermost/prepackaged_plugins/{bundle}{ending}");
            assert_eq!(files.contains_key(&path), wanted, "{path}");
        }
    }
    // What only its builder could enter would be closed to the server.
    assert_eq!(files["mattermost/config"].0.mode, 0o755);
    assert_eq!(files["mattermost/bin/mattermost"].0.mode, 0o755);
    for program in ["usr/bin/pdftotext", "usr/bin/tidy", "usr/bin/unrtf", "usr/local/bin/mattermost-entrypoint"] {
        assert!(matches!(files[program].0.node, Node::File { .. }), "{program}");
    }
    assert!(files["etc/mime.types"].1.len() > 10_000);
    Ok(())
}

fn runs(world: &World) -> Result<()> {
    let alone = alone();
    let image = build(world, &tarball(world)?, &["--load"])?;
    drop(alone);
    let told = docker(world, "image inspect --format {{.Id}}").arg(&image.name).text()?;
    assert_eq!(told, image.config.oci());
    let site = Site::new(world)?;
    let source = format!("postgres://mattermost:{PASSWORD}@{}:5432/mattermost?sslmode=require", site.address());
    let lines = format!("MM_SQLSETTINGS_DATASOURCE={source}\n");
    let secrets = Volume::of_secrets(world, &image.name, UID, &[("mattermost.env", lines.as_bytes())])?;
    let (address, secrets) = (site.network.address(3).to_string(), secrets.at("/run/secrets:ro"));
    let options = ["--network", site.network.name(), "--ip", &address, "--volume", &secrets];
    let settings = ["--env", "MM_SERVICESETTINGS_SITEURL=http://chat.test:8065"];
    let server = Container::run(world, &image.name, &[&options[..], &settings].concat())?;
    let waits = || server.logs().contains("the database").then_some(());
    wait_for("waiting for the database", Duration::from_secs(30), waits, || server.logs());
    assert!(!server.logs().contains("stub:"), "it did not wait: {}", server.logs());

    let database = site.container()?;
    database.start()?;
    server.wait_until_healthy()?;
    let logs = server.logs();
    assert!(logs.contains("Uid:\t2000\t2000\t2000\t2000 data=true config=true release=false source=true"), "{logs}");
    assert_eq!(server.user_and_capabilities()?, (UID, "0000000000000000".to_owned()));
    assert_eq!(server.listens_on()?, ["tcp/8065"]);
    for shown in [server.inspect()?.to_string(), server.docker("top").text()?, logs] {
        assert!(!shown.contains(PASSWORD), "the password stands in {shown}");
    }
    Ok(())
}

fn key(kind: KeyType) -> SignedSecretKey {
    let mut params = SecretKeyParamsBuilder::default();
    params.key_type(kind).can_certify(true).can_sign(true).primary_user_id("Acceptance <acceptance@example.org>".into());
    params.build().expect("good").generate(rand::thread_rng()).expect("a key is made")
}

fn bakes_a_plugin(world: &World) -> Result<()> {
    let _alone = alone();
    let folder = world.scratch();
    let file = tarball(world)?;
    let at = |name: &str| folder.path().join(name).display().to_string();
    let bundle = at("org.example.own-v1.0.0.tar.gz");
    fs_err::write(&bundle, "a bundle")?;
    let rsa = key(KeyType::Rsa(2048));
    fs_err::write(at("own.key"), rsa.to_armored_bytes(ArmorOptions::default()).unwrap())?;
    fs_err::write(at("own.asc"), rsa.to_public_key().to_armored_bytes(ArmorOptions::default()).unwrap())?;
    fs_err::write(at("own.gpg"), pgp::ser::Serialize::to_bytes(&rsa.to_public_key()).unwrap())?;
    fs_err::write(at("edwards.key"), key(KeyType::Ed25519Legacy).to_armored_bytes(ArmorOptions::default()).unwrap())?;

    let refused = world.images_verb(&["sign-plugin", &bundle, "--key", &at("edwards.key")])?.outcome()?;
    assert!(!refused.success() && String::from_utf8_lossy(&refused.stderr).contains("RSA"), "{refused:?}");
    let fixed = ["mattermost", "--mattermost", file.to_str().unwrap(), "--without-plugin", "jenkins"];
    let (asc, plugin) = (at("own.asc"), ["--plugin", &bundle, "--plugin-key"]);
    let with_plugin = [&fixed[..], &plugin, &[&asc]].concat();
    assert!(world.refused(&with_plugin)?.contains("has no signature"));
    world.images_verb(&["sign-plugin", &bundle, "--key", &at("own.key")])?.capture()?;
    // Somebody else's program takes the signature for good.
    let gpgv = world.machine.process("gpgv").args(["--keyring", &at("own.gpg"), &format!("{bundle}.sig"), &bundle]);
    gpgv.capture()?;

    let image = world.build(&with_plugin)?.remove("mattermost").expect("one image");
    let files = files(world, &image)?;
    let baked = "mattermost/prepackaged_plugins/org.example.own-v1.0.0.tar.gz";
    assert_eq!(files[baked].1, b"a bundle");
    assert_eq!(files[&format!("{baked}.sig")].1, fs_err::read(format!("{bundle}.sig"))?);
    let environment = configuration(world, &image)?["Env"].take();
    let keys = environment
        .as_array()
        .unwrap()
        .iter()
        .filter_map(|line| line.as_str()?.strip_prefix("MM_PLUGINSETTINGS_SIGNATUREPUBLICKEYFILES=/"));
    let keys: Vec<&str> = keys.collect();
    assert_eq!(keys.len(), 1, "{environment}");
    assert_eq!(files[keys[0]].1, fs_err::read(&asc)?);

    let mut tampered = fs_err::OpenOptions::new().append(true).open(&bundle)?;
    tampered.write_all(b"!")?;
    drop(tampered);
    let said = world.refused(&with_plugin)?;
    assert!(said.contains("org.example.own-v1.0.0.tar.gz"), "{said}");
    Ok(())
}

fn trusts_the_site(world: &World) -> Result<()> {
    let _alone = alone();
    let folder = world.scratch();
    let file = tarball(world)?;
    let ca = Ca::new(&world.machine, folder.path(), "site")?;
    let (leaf, _) = ca.leaf("chat.test")?;
    let bundle_of = |image: &Image| -> Result<PathBuf> {
        let path = folder.path().join("bundle.pem");
        fs_err::write(&path, &files(world, image)?["etc/ssl/certs/ca-certificates.crt"].1)?;
        Ok(path)
    };
    let verifies = |bundle: &Path| {
        let openssl = world.machine.process("openssl").args(["verify", "-no-CAfile", "-no-CApath", "-purpose", "sslserver", "-CAfile"]);
        Ok(openssl.arg(bundle).arg(&leaf).outcome()?.success())
    };
    let without = build(world, &file, &[])?;
    let verdict: Result<bool> = verifies(&bundle_of(&without)?);
    assert!(!verdict?, "it verifies without the site's CA");
    let with = build(world, &file, &["--ca", ca.cert().to_str().unwrap()])?;
    let verdict: Result<bool> = verifies(&bundle_of(&with)?);
    assert!(verdict?, "it does not verify with the site's CA");
    assert_eq!(with.layers[..without.layers.len()], without.layers[..], "layers below the site's moved");
    assert_eq!(with.layers.len(), without.layers.len() + 1);
    Ok(())
}
