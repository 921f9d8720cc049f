//! Claims about what other tools are given: under the programs that read it there.

use images::Result;
use xtask::integrations::truststore::{PASSWORD, of_pem};

use crate::claims::Claim;
use crate::pki::Ca;
use crate::world::World;

/// The claims.
pub const CLAIMS: &[Claim] = &[Claim {
    name: "integrations::java_and_openssl_read_the_truststore_and_notice_a_changed_byte",
    needs: &["openssl", "keytool"],
    root: false,
    engine: false,
    proves: truststore,
}];

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
