//! Claims about what other tools are given: under the programs that read it there.

use std::collections::BTreeSet;

use images::Result;
use tools_double::Double;
use tools_double::sonarqube::{SonarQube, TOKEN, Version};
use xtask::integrations::truststore::{PASSWORD, of_pem};
use xtask::process::Process;

use crate::claims::Claim;
use crate::pki::Ca;
use crate::world::World;

/// The claims.
pub const CLAIMS: &[Claim] = &[
    Claim {
        name: "integrations::java_and_openssl_read_the_truststore_and_notice_a_changed_byte",
        needs: &["openssl", "keytool"],
        root: false,
        engine: false,
        proves: truststore,
    },
    Claim {
        name: "integrations::apply_tells_the_tool_once_and_no_secret_stands_in_an_argument_or_is_said",
        needs: &["cc", "openssl"],
        root: false,
        engine: false,
        proves: applied,
    },
];

fn truststore(world: &World) -> Result<()> {
    let scratch = world.scratch();
    let ca = Ca::new(&world.machine, scratch.path(), "tools")?;
    let other = Ca::new(&world.machine, scratch.path(), "more")?;
    let pem = fs_err::read_to_string(ca.cert())? + &fs_err::read_to_string(other.cert())?;
    let store = of_pem(&pem, "ca.pem")?;
    let path = scratch.path().join("store.p12");
    fs_err::write(&path, &store)?;
    let keytool = |password: &str| {
        let list = world.machine.process("keytool").args(["-J-Duser.language=en", "-list", "-v", "-storepass", password, "-keystore"]);
        list.arg(&path).outcome()
    };
    let listed = keytool(PASSWORD)?;
    let text = String::from_utf8_lossy(&listed.stdout).into_owned();
    // A certificate without Oracle's mark would not be among them.
    assert!(listed.success() && text.contains("Keystore type: PKCS12") && text.contains("contains 2 entries"), "{text}");
    assert_eq!(text.matches("Entry type: trustedCertEntry").count(), 2, "{text}");
    for (name, ca) in [("chatops-1", &ca), ("chatops-2", &other)] {
        let print = world.machine.process("openssl").args(["x509", "-noout", "-fingerprint", "-sha256", "-in"]).arg(ca.cert()).text()?;
        let fingerprint = print.trim().split('=').nth(1).unwrap().to_owned();
        assert!(text.contains(&format!("Alias name: {name}")) && text.contains(&fingerprint), "{name}: {fingerprint} is not in {text}");
    }
    assert!(!keytool("changeme")?.success(), "another password opens it");

    let openssl = |path: &std::path::Path| {
        let show = world.machine.process("openssl").args(["pkcs12", "-nokeys", "-passin", &format!("pass:{PASSWORD}"), "-in"]);
        show.arg(path).outcome()
    };
    let shown = openssl(&path)?;
    let shown_pem = String::from_utf8_lossy(&shown.stdout).into_owned();
    for ca in [&ca, &other] {
        assert!(shown_pem.contains(fs_err::read_to_string(ca.cert())?.trim()), "{shown_pem}");
    }
    // A changed byte within a certificate: the MAC is what notices it.
    let der = store.len() / 2;
    let changed: Vec<u8> = store.iter().enumerate().map(|(at, byte)| if at == der { byte ^ 1 } else { *byte }).collect();
    fs_err::write(&path, changed)?;
    assert!(!keytool(PASSWORD)?.success(), "keytool takes a changed file");
    assert!(!openssl(&path)?.success(), "openssl takes a changed file");
    Ok(())
}

/// `--apply`, as people run it; the double is asked through the network, and everything that the processes are called with is watched.
fn applied(world: &World) -> Result<()> {
    const SECRET: &str = "the-secret-of-the-gateway-0123456789";
    let folder = world.scratch();
    let path = |name: &str| folder.path().join(name);
    let double = Double::start(SonarQube::new(Version::V9_9));
    let toml = format!("format = 1\naddresses = [\"192.168.1.20\"]\n[sonarqube]\nurl = \"{}\"\n", double.url());
    fs_err::write(path("site.toml"), toml)?;
    fs_err::create_dir(path("pki"))?;
    fs_err::copy(Ca::new(&world.machine, folder.path(), "tools")?.cert(), path("pki/ca.pem"))?;
    for (name, text) in [("secrets.env", format!("SONARQUBE_WEBHOOK_SECRET={SECRET}\n")), ("token", format!("{TOKEN}\n"))] {
        images::file::write_beside(&path(name), text.as_bytes(), 0o600)?;
    }
    let xtask = || Ok::<_, images::Error>(Process::new(world.xtask()?, folder.path()).env_remove("CARGO_MANIFEST_DIR"));
    let apply = || Ok::<_, images::Error>(xtask()?.args(["integrations", "sonarqube", "--site", ".", "--apply", "--token-file", "token"]));
    let mut seen = BTreeSet::new();
    for expected in ["+ webhook for all projects", "nothing"] {
        let log = path("said");
        let running = apply()?.start(&log)?;
        while running.ended()?.is_none() {
            seen.extend(arguments());
        }
        let said = fs_err::read_to_string(&log)?;
        assert!(said.contains(expected), "expected {expected} in {said}");
        for secret in [SECRET, TOKEN] {
            assert!(!said.contains(secret), "a secret is said: {said}");
        }
    }
    assert!(seen.iter().any(|words| words.contains("--token-file")), "nothing was watched");
    for secret in [SECRET, TOKEN] {
        assert!(!seen.iter().any(|words| words.contains(secret)), "a secret stands in an argument");
    }
    double.tool(|tool| assert_eq!((tool.hooks.len(), tool.hooks[0].secret.as_deref()), (1, Some(SECRET))));
    Ok(())
}

/// What every process of this machine was called with.
fn arguments() -> Vec<String> {
    let processes = fs_err::read_dir("/proc").unwrap().filter_map(|entry| Some(entry.ok()?.path().join("cmdline")));
    processes.filter_map(|path| Some(String::from_utf8_lossy(&fs_err::read(path).ok()?).into_owned())).collect()
}
