//! Maintainer scripts are read by a person once and never run: what stands in for each is in the lock's ledger.

use std::collections::BTreeMap;

use crate::digest::Digest;
use crate::error::{Class, Error, Result};
use crate::lock::{Script, Treatment};

/// What a person decided about a script: `coturn.postinst=accounts` and a reason.
#[derive(Clone, Debug, PartialEq)]
pub struct Decision {
    /// `PACKAGE.SCRIPT`.
    pub name: String,
    /// What stands in for it.
    pub treatment: Treatment,
    /// Why that is enough.
    pub reason: String,
}

/// A script of a package that is to be pinned.
#[derive(Clone, Debug)]
pub struct Found {
    /// `PACKAGE.SCRIPT`.
    pub name: String,
    /// Its hash.
    pub sha256: Digest,
    /// Its text.
    pub text: Vec<u8>,
}

/// What a script may contain → how to say it. Looked for in lines that are not comments.
const SIGNS: [(&str, &[&str]); 19] = [
    ("makes accounts", &["adduser", "useradd", "addgroup", "groupadd", "systemd-sysusers"]),
    ("removes accounts", &["deluser", "userdel", "delgroup"]),
    ("changes owners", &["chown", "chgrp", "dpkg-statoverride"]),
    ("changes modes", &["chmod", "setcap"]),
    ("makes folders", &["install -d", "mkdir"]),
    ("makes links", &["ln -s", "ln -f"]),
    ("chooses among alternatives", &["update-alternatives"]),
    ("refreshes the linker's cache", &["ldconfig"]),
    ("makes the CA bundle", &["update-ca-certificates"]),
    ("diverts files of other packages", &["dpkg-divert"]),
    ("asks questions", &["db_", "confmodule", "debconf"]),
    ("handles services", &["deb-systemd-helper", "deb-systemd-invoke", "systemctl", "invoke-rc.d", "update-rc.d"]),
    ("handles configuration files", &["ucf", "dpkg-maintscript-helper", "/etc/"]),
    ("compiles Python", &["py3compile", "py3clean"]),
    ("sets off triggers", &["dpkg-trigger"]),
    ("makes keys or certificates", &["make-ssl-cert", "openssl ", "ssh-keygen"]),
    ("handles locales", &["locale-gen", "update-locale", "localedef"]),
    ("handles a database cluster", &["pg_createcluster", "pg_upgradecluster", "initdb", "configure_version"]),
    ("removes files", &["rm -", "rmdir", "unlink"]),
];

/// What a script seems to do, in words. A simple scan: the person who decides reads the script.
pub fn signs(script: &[u8]) -> Vec<&'static str> {
    let text = String::from_utf8_lossy(script);
    let lines: Vec<&str> = text.lines().filter(|line| !line.trim_start().starts_with('#')).collect();
    let has = |words: &[&str]| lines.iter().any(|line| words.iter().any(|word| line.contains(word)));
    SIGNS.iter().filter(|(_, words)| has(words)).map(|(what, _)| *what).collect()
}

/// Reads `PACKAGE.SCRIPT=TREATMENT`.
pub fn parse_decision(text: &str, reason: &str) -> Result<Decision> {
    let wrong = || {
        Error::new(Class::Usage, format!("\"{text}\" is not a decision about a script"))
            .detail("expected PACKAGE.SCRIPT=TREATMENT, such as coturn.postinst=accounts")
            .detail(format!("treatments: {}", TREATMENTS.map(|(name, _)| name).join(", ")))
    };
    let (name, treatment) = text.split_once('=').ok_or_else(wrong)?;
    let treatment = TREATMENTS.iter().find(|(name, _)| *name == treatment).ok_or_else(wrong)?.1;
    let script = name.rsplit_once('.').filter(|(package, script)| !package.is_empty() && crate::deb::SCRIPTS.contains(script));
    if script.is_none() || reason.trim().is_empty() {
        return Err(wrong());
    }
    Ok(Decision { name: name.to_owned(), treatment, reason: reason.trim().to_owned() })
}

const TREATMENTS: [(&str, Treatment); 5] = [
    ("accounts", Treatment::Accounts),
    ("ca-bundle", Treatment::CaBundle),
    ("ldconfig", Treatment::Ldconfig),
    ("links", Treatment::Links),
    ("none", Treatment::None),
];

/// A treatment as the lock and the command line write it.
pub fn treatment_name(treatment: Treatment) -> &'static str {
    TREATMENTS.iter().find(|(_, one)| *one == treatment).map_or("none", |(name, _)| name)
}

/// The new ledger: a line for each hash of `needed` (hash → name of a script that has it), from `old` or from `decisions`.
/// Texts of scripts are in `found`, where they were read. Scripts without a line are one error that lists all of them.
pub fn settle(old: &[Script], needed: &BTreeMap<Digest, String>, found: &[Found], decisions: &[Decision]) -> Result<Vec<Script>> {
    let mut ledger: BTreeMap<Digest, Script> = BTreeMap::new();
    for entry in old.iter().filter(|entry| needed.contains_key(&entry.sha256)) {
        ledger.insert(entry.sha256, entry.clone());
    }
    for decision in decisions {
        let by_text = found.iter().find(|script| script.name == decision.name).map(|script| script.sha256);
        let by_ledger = || ledger.values().find(|entry| entry.name == decision.name).map(|entry| entry.sha256);
        let by_lock = || needed.iter().find(|(_, name)| **name == decision.name).map(|(sha256, _)| *sha256);
        let sha256 = by_text.or_else(by_ledger).or_else(by_lock).ok_or_else(|| {
            Error::new(Class::Usage, format!("no pinned package has a script {}", decision.name)).hint("take it out of --treat")
        })?;
        let Decision { name, treatment, reason } = decision.clone();
        ledger.insert(sha256, Script { name, sha256, treatment, reason });
    }
    let unknown: Vec<&Found> = found.iter().filter(|script| !ledger.contains_key(&script.sha256)).collect();
    if unknown.is_empty() { Ok(ledger.into_values().collect()) } else { Err(refusal(old, &unknown)) }
}

fn refusal(old: &[Script], unknown: &[&Found]) -> Error {
    let count = match unknown.len() {
        1 => "1 maintainer script has no treatment in the ledger".to_owned(),
        count => format!("{count} maintainer scripts have no treatment in the ledger"),
    };
    let mut error = Error::new(Class::Check, count);
    let mut command = "cargo xtask images lock".to_owned();
    let mut accepted = Vec::new();
    for script in unknown {
        let before = old.iter().find(|entry| entry.name == script.name);
        let what = signs(&script.text);
        let what = if what.is_empty() { "nothing that the scan knows".to_owned() } else { what.join(", ") };
        error = error.detail(format!("{}  {} bytes, sha256 {}: {what}", script.name, script.text.len(), script.sha256.short()));
        if let Some(before) = before {
            error = error.detail(format!("  changed; its old text was {}: {}", treatment_name(before.treatment), before.reason));
        }
        if accepted.contains(&script.sha256) {
            continue;
        }
        accepted.push(script.sha256);
        let (treatment, reason) = match before {
            Some(before) => (before.treatment, before.reason.as_str()),
            None => (suggestion(&script.text), "WHY THAT IS ENOUGH"),
        };
        command.push_str(&format!(" \\\n    --treat {}={} --reason \"{reason}\"", script.name, treatment_name(treatment)));
    }
    let package = unknown[0].name.rsplit_once('.').map_or("", |(package, _)| package);
    error.hint(format!("read them (such as: apt-get download {package}; dpkg-deb --control {package}_*.deb FOLDER), then say what stands in for them:\n  {command}"))
}

fn suggestion(script: &[u8]) -> Treatment {
    let signs = signs(script);
    let has = |sign: &str| signs.contains(&sign);
    if has("makes the CA bundle") {
        Treatment::CaBundle
    } else if has("makes accounts") || has("changes owners") {
        Treatment::Accounts
    } else if has("chooses among alternatives") || has("makes links") {
        Treatment::Links
    } else if has("refreshes the linker's cache") {
        Treatment::Ldconfig
    } else {
        Treatment::None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(name: &str, text: &str) -> Found {
        Found { name: name.to_owned(), sha256: Digest::of(text), text: text.as_bytes().to_vec() }
    }

    fn settle_one(old: &[Script], script: &Found, decisions: &[Decision]) -> Result<Vec<Script>> {
        settle(old, &BTreeMap::from([(script.sha256, script.name.clone())]), std::slice::from_ref(script), decisions)
    }

    #[test]
    fn the_scan_names_what_a_script_does_and_passes_over_comments() {
        let script = b"#!/bin/sh\n# adduser is not called\nchown root /var/x\n\tldconfig\n. /usr/share/debconf/confmodule\n";
        assert_eq!(signs(script), ["changes owners", "refreshes the linker's cache", "asks questions"]);
        assert!(signs(b"#!/bin/sh\nset -e\n").is_empty());
    }

    #[test]
    fn an_unknown_script_is_refused_with_the_command_that_accepts_it() {
        let script = found("coturn.postinst", "#!/bin/sh\nadduser --system turnserver\n");
        let error = settle_one(&[], &script, &[]).expect_err("unknown");
        assert_eq!(error.class(), Class::Check);
        insta::assert_snapshot!(error, @r#"
        1 maintainer script has no treatment in the ledger
          coturn.postinst  38 bytes, sha256 c2c20c3d2b6d: makes accounts
        hint: read them (such as: apt-get download coturn; dpkg-deb --control coturn_*.deb FOLDER), then say what stands in for them:
          cargo xtask images lock \
            --treat coturn.postinst=accounts --reason "WHY THAT IS ENOUGH"
        "#);
        let decision = parse_decision("coturn.postinst=accounts", " declared in image.toml ").expect("valid");
        let ledger = settle_one(&[], &script, &[decision]).expect("decided");
        assert_eq!((ledger[0].treatment, ledger[0].reason.as_str()), (Treatment::Accounts, "declared in image.toml"));
        settle_one(&ledger, &script, &[]).expect("known from now on");
        let changed = found("coturn.postinst", "#!/bin/sh\nadduser --system turn\n");
        let error = settle_one(&ledger, &changed, &[]).expect_err("changed").to_string();
        assert!(error.contains("changed; its old text was accounts: declared in image.toml"), "{error}");
        assert!(error.contains("--reason \"declared in image.toml\""), "{error}");
    }

    #[test]
    fn decisions_are_read_strictly() {
        for bad in ["coturn.postinst", "coturn=none", "coturn.trigger=none", "coturn.postinst=ignore", ".postinst=none"] {
            assert!(parse_decision(bad, "why").is_err(), "{bad}");
        }
        assert!(parse_decision("a.postinst=none", " ").is_err(), "a decision needs a reason");
        let decision = parse_decision("libpython3.13.prerm=none", "why").expect("a dot in the name is fine");
        let error = settle_one(&[], &found("a.postinst", "x"), &[decision]).expect_err("nothing has it");
        assert!(error.to_string().contains("no pinned package has a script libpython3.13.prerm"), "{error}");
    }
}
