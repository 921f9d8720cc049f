//! Programs are really built: by cargo, with the C runtime of the locked packages. Takes minutes, so a plain `cargo test` does
//! not list these tests: `cargo test -p images --test programs -- --ignored`.
//!
//! This executable plays xtask: it is the rustc wrapper, and, with `build` as its first argument, a process of its own
//! with another environment.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use images::lock::{Artefact, Lock, TOOLCHAIN, TOOLCHAIN_PACKAGES};
use images::programs::{self, Setup};
use images::{Digest, Store};
use libtest_mimic::{Arguments, Trial};

fn main() -> ExitCode {
    if let Some(code) = programs::rustc_wrapper() {
        return code;
    }
    let arguments: Vec<String> = std::env::args().collect();
    if let [_, verb, workspace, cache, names @ ..] = arguments.as_slice()
        && verb == "build"
    {
        let digests = build(Path::new(workspace), Path::new(cache), names);
        digests.into_iter().for_each(|(name, digest)| println!("{name} {digest}"));
        return ExitCode::SUCCESS;
    }
    let arguments = Arguments::from_args();
    let tests: [(&str, fn()); 3] = [
        ("a_second_build_starts_nothing", a_second_build_starts_nothing),
        ("another_folder_home_umask_zone_and_locale_give_the_same_bytes", another_checkout_gives_the_same_bytes),
        ("a_program_that_names_a_path_of_the_host_is_refused", a_program_that_names_a_path_of_the_host_is_refused),
    ];
    if !arguments.ignored && !arguments.include_ignored {
        return libtest_mimic::run(&arguments, Vec::new()).exit_code();
    }
    let missing = toolchain().err();
    if let Some(missing) = &missing {
        eprintln!("skipped: {missing}");
    }
    let trial = |(name, test): (&str, fn())| {
        Trial::test(name, move || {
            test();
            Ok(())
        })
        .with_ignored_flag(true)
    };
    let trials = tests.into_iter().filter(|_| missing.is_none()).map(trial).collect();
    libtest_mimic::run(&arguments, trials).exit_code()
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").canonicalize().expect("the checkout")
}

/// Every program that goes into an image.
fn names() -> Vec<String> {
    let images = fs_err::read_dir(root().join("images")).expect("readable");
    let specs = images.filter_map(|entry| fs_err::read_to_string(entry.ok()?.path().join("image.toml")).ok());
    let specs = specs.map(|text| images::spec::Spec::parse(&text, "image.toml").expect("a spec"));
    let packages = specs.flat_map(|spec| spec.programs.into_iter().map(|program| program.package));
    packages
        .filter(|package| fs_err::read_to_string(root().join("Cargo.lock")).expect("there").contains(&format!("\"{package}\"")))
        .collect()
}

/// The C runtime: a folder of packages that `CHATOPS_TOOLCHAIN_PACKAGES` names, else the lock's from the checkout's store.
fn toolchain() -> Result<Vec<(Artefact, PathBuf)>, String> {
    if let Some(folder) = std::env::var_os("CHATOPS_TOOLCHAIN_PACKAGES") {
        let files = fs_err::read_dir(PathBuf::from(folder)).map_err(|error| error.to_string())?;
        let mut files: Vec<PathBuf> = files.filter_map(|entry| Some(entry.ok()?.path())).collect();
        files.sort();
        return Ok(files.into_iter().map(|file| (artefact(&file), file)).collect());
    }
    let lock = fs_err::read_to_string(root().join("images/lock.json")).map_err(|error| error.to_string())?;
    let lock = Lock::parse(&lock, "images/lock.json").map_err(|error| error.to_string())?;
    let store = Store::open(&root().join("target/store")).map_err(|error| error.to_string())?;
    let find = |name: &&str| lock.artefacts.iter().find(|artefact| artefact.name == **name);
    TOOLCHAIN_PACKAGES
        .iter()
        .map(|name| {
            let artefact = find(name).ok_or_else(|| format!("the lock's group {TOOLCHAIN} has no {name}"))?;
            Ok((artefact.clone(), store.require(artefact).map_err(|error| error.to_string())?))
        })
        .collect()
}

fn artefact(file: &Path) -> Artefact {
    let name = file.file_name().and_then(|name| name.to_str()).expect("a name");
    let package = name.split('_').next().expect("name_version_architecture.deb");
    let sha256 = Digest::of(fs_err::read(file).expect("readable"));
    let from = serde_json::json!({ "repository": "main", "path": name });
    let artefact = serde_json::json!({
        "name": package, "version": "0", "architecture": "amd64", "kind": "deb", "sha256": sha256, "from": from
    });
    serde_json::from_value(artefact).expect("an artefact")
}

fn build(workspace: &Path, cache: &Path, names: &[String]) -> BTreeMap<String, Digest> {
    let wrapper = std::env::current_exe().expect("this executable");
    let toolchain = toolchain().expect("looked at before");
    let setup = Setup { workspace, toolchain: &toolchain, cache, wrapper: &wrapper, offline: false };
    let built = programs::build(&setup, names, &images::progress::Silent).unwrap_or_else(|error| panic!("{error}"));
    built.into_iter().map(|(name, program)| (name, program.digest)).collect()
}

fn cache() -> PathBuf {
    root().join("target/programs")
}

fn a_second_build_starts_nothing() {
    let first = build(&root(), &cache(), &names());
    assert!(!first.is_empty(), "no program in this workspace");
    let start = Instant::now();
    let toolchain = toolchain().expect("looked at before");
    // A wrapper that is not there would fail the first compilation.
    let setup = Setup { workspace: &root(), toolchain: &toolchain, cache: &cache(), wrapper: Path::new("/none"), offline: true };
    let again = programs::build(&setup, &names(), &images::progress::Silent).expect("all in the cache");
    eprintln!("looked up {} programs in {:?}", again.len(), start.elapsed());
    assert!(start.elapsed() < Duration::from_secs(2), "that was a build");
    assert_eq!(again.into_iter().map(|(name, program)| (name, program.digest)).collect::<BTreeMap<_, _>>(), first);
}

fn another_checkout_gives_the_same_bytes() {
    let here = build(&root(), &cache(), &names());
    let elsewhere = tempfile::tempdir().expect("a folder");
    let workspace = elsewhere.path().join("another checkout");
    copy(&root(), &workspace);
    // Cargo's home is elsewhere too, with the same downloads in it.
    let home = elsewhere.path().join("home");
    fs_err::create_dir_all(home.join("registry")).expect("made");
    let known = std::env::var_os("CARGO_HOME").map(PathBuf::from);
    let known = known.unwrap_or_else(|| PathBuf::from(std::env::var_os("HOME").expect("a home")).join(".cargo"));
    for part in ["index", "cache"] {
        let _ = fs_err::os::unix::fs::symlink(known.join("registry").join(part), home.join("registry").join(part));
    }
    fs_err::write(home.join("config.toml"), "[profile.release]\nopt-level = 1\n[build]\nrustflags = [\"-Cdebuginfo=2\"]\n")
        .expect("written");
    let rustup = std::env::var_os("RUSTUP_HOME")
        .unwrap_or_else(|| PathBuf::from(std::env::var_os("HOME").expect("a home")).join(".rustup").into_os_string());
    #[expect(clippy::disallowed_methods, reason = "another umask and environment need another process")]
    let output = std::process::Command::new("sh")
        .args(["-c", "umask 077; exec \"$0\" \"$@\""])
        .arg(std::env::current_exe().expect("this executable"))
        .arg("build")
        .args([&workspace, &elsewhere.path().join("made")])
        .args(names())
        .env("CARGO_HOME", &home)
        .env("HOME", &home)
        .env("RUSTUP_HOME", rustup)
        .envs([("TZ", "Pacific/Chatham"), ("LANG", "tr_TR.UTF-8"), ("RUSTFLAGS", "-Copt-level=0"), ("CARGO_PROFILE_PROGRAM_LTO", "off")])
        .env("SOURCE_DATE_EPOCH", "1")
        .output()
        .expect("started");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let there = String::from_utf8(output.stdout).expect("text");
    let expected: String = here.iter().map(|(name, digest)| format!("{name} {digest}\n")).collect();
    assert_eq!(there, expected, "another checkout made other bytes");
}

fn a_program_that_names_a_path_of_the_host_is_refused() {
    let folder = tempfile::tempdir().expect("a folder");
    copy(&root(), folder.path());
    let main = folder.path().join("images/alert-gateway/src/main.rs");
    let text = fs_err::read_to_string(&main).expect("readable");
    let leaking = text.replace("fn main() -> ExitCode {", "fn main() -> ExitCode {\n    eprintln!(env!(\"CARGO_MANIFEST_DIR\"));");
    fs_err::write(&main, leaking).expect("written");
    let wrapper = std::env::current_exe().expect("this executable");
    let toolchain = toolchain().expect("looked at before");
    let made = folder.path().join("target");
    let setup = Setup { workspace: folder.path(), toolchain: &toolchain, cache: &made, wrapper: &wrapper, offline: false };
    let error = programs::build(&setup, &["alert-gateway".to_owned()], &images::progress::Silent).expect_err("it leaks").to_string();
    assert!(error.contains("a path of this machine"), "{error}");
}

/// What cargo needs of a checkout.
fn copy(from: &Path, to: &Path) {
    fs_err::create_dir_all(to).expect("made");
    for entry in fs_err::read_dir(from).expect("readable") {
        let entry = entry.expect("readable");
        let (name, path) = (entry.file_name(), entry.path());
        match entry.file_type().expect("known") {
            kind if kind.is_dir() && name != "target" && name != ".git" => copy(&path, &to.join(&name)),
            kind if kind.is_file() && name != ".git" => _ = fs_err::copy(&path, to.join(&name)).expect("copied"),
            _ => {}
        }
    }
}
