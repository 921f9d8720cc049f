//! The rustc wrapper: this executable in a hidden mode, started by cargo in rustc's place. It adds the flags that make
//! bytes independent of the host, and only to what is compiled for an image: build scripts and procedural macros have no
//! `--target` among their arguments and are linked by the host's own tools.

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use serde::{Deserialize, Serialize};

/// The environment variable whose presence turns the executable into the wrapper; it carries a [`Wrap`] as JSON.
pub(super) const VARIABLE: &str = "CHATOPS_RUSTC_WRAPPER";

/// What the wrapper has to know. All paths are physical: rustc prints what the working directory really is.
#[derive(Clone, Debug, Deserialize, Serialize, PartialEq)]
pub(super) struct Wrap {
    /// The checkout, shown as `/src`.
    pub workspace: PathBuf,
    /// Where rustc looks for the standard library's sources, shown as `/rustc/<commit>` as if `rust-src` were not installed.
    pub rust_source: PathBuf,
    /// Commit of the Rust distribution.
    pub commit: String,
    /// The `rust-lld` of the same distribution.
    pub linker: PathBuf,
    /// The C runtime: the unpacked toolchain packages.
    pub sysroot: PathBuf,
    /// The folder with `crtbeginS.o` and `libgcc.a`, below the sysroot.
    pub gcc: PathBuf,
}

/// What cargo says in the environment about the crate that is compiled.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Unit<'a> {
    /// `CARGO_MANIFEST_DIR`.
    pub manifest: Option<&'a Path>,
    /// `OUT_DIR`, where the crate has a build script.
    pub out: Option<&'a Path>,
    /// `CARGO_PKG_NAME`.
    pub package: Option<&'a str>,
}

/// Acts as rustc's wrapper where cargo started this process as one, and returns rustc's exit code; otherwise `None`.
/// Call it first thing in `main`.
pub fn rustc_wrapper() -> Option<ExitCode> {
    let wrap = std::env::var_os(VARIABLE)?;
    let wrap: Wrap = match serde_json::from_slice(wrap.as_encoded_bytes()) {
        Ok(wrap) => wrap,
        Err(error) => {
            eprintln!("error: {VARIABLE} is not what this executable writes there: {error}");
            return Some(ExitCode::FAILURE);
        }
    };
    let mut arguments = std::env::args_os().skip(1);
    let Some(rustc) = arguments.next() else {
        eprintln!("error: {VARIABLE} is set, but no compiler is named; it is for cargo's use alone");
        return Some(ExitCode::FAILURE);
    };
    let manifest = std::env::var_os("CARGO_MANIFEST_DIR").map(PathBuf::from);
    let out = std::env::var_os("OUT_DIR").map(PathBuf::from);
    let package = std::env::var("CARGO_PKG_NAME").ok();
    let unit = Unit { manifest: manifest.as_deref(), out: out.as_deref(), package: package.as_deref() };
    #[expect(clippy::disallowed_methods, reason = "this process becomes rustc; there is nothing to wrap")]
    let mut command = std::process::Command::new(&rustc);
    let error = std::os::unix::process::CommandExt::exec(command.args(rewrite(arguments.collect(), &wrap, unit)));
    eprintln!("error: {} cannot be started: {error}", rustc.display());
    Some(ExitCode::FAILURE)
}

/// The arguments that rustc gets in place of `arguments`.
pub(super) fn rewrite(mut arguments: Vec<OsString>, wrap: &Wrap, unit: Unit) -> Vec<OsString> {
    let for_image = arguments.iter().any(|argument| argument == "--target" || argument.as_encoded_bytes().starts_with(b"--target="));
    if for_image {
        arguments.extend(link_flags(wrap));
        arguments.extend(remap_flags(wrap, unit));
    }
    arguments
}

/// A static-pie from `rust-lld` and the locked C runtime: what `cc -static-pie` would pass, in its order.
fn link_flags(wrap: &Wrap) -> Vec<OsString> {
    let lib = wrap.sysroot.join("usr/lib/x86_64-linux-gnu");
    let flag = |name: &str, value: &Path| join(&[name.as_ref(), value.as_ref()]);
    let mut flags: Vec<OsString> = vec![
        "-Clinker-flavor=ld.lld".into(),
        flag("-Clinker=", &wrap.linker),
        "-Ctarget-feature=+crt-static".into(),
        // libm.a is a linker script with absolute paths; this puts the sysroot in front of them.
        flag("-Clink-arg=--sysroot=", &wrap.sysroot),
    ];
    let link = |path: PathBuf| flag("-Clink-arg=", &path);
    // rcrt1.o relocates a static-pie by itself; crt1.o does not link here (duplicate _dl_relocate_static_pie).
    flags.extend([lib.join("rcrt1.o"), lib.join("crti.o"), wrap.gcc.join("crtbeginS.o")].map(link));
    flags.extend([flag("-Clink-arg=-L", &lib), flag("-Clink-arg=-L", &wrap.gcc)]);
    flags.extend(["--start-group", "-lc", "-lgcc", "-lgcc_eh", "--end-group"].map(|name| format!("-Clink-arg={name}").into()));
    flags.extend([wrap.gcc.join("crtendS.o"), lib.join("crtn.o")].map(link));
    flags
}

/// Paths as they are the same on every host. The last match wins, so the general ones stand first.
fn remap_flags(wrap: &Wrap, unit: Unit) -> Vec<OsString> {
    let remap = |from: &Path, to: &str| join(&["--remap-path-prefix=".as_ref(), from.as_ref(), "=".as_ref(), to.as_ref()]);
    let mut flags = vec![remap(&wrap.workspace, "/src")];
    // A dependency lies in cargo's registry (`registry/src/<index>/<name>-<version>`) or in a vendor folder
    // (`<name>-<version>`): either way the folder above it is what differs.
    let foreign = unit.manifest.filter(|manifest| !manifest.starts_with(&wrap.workspace)).and_then(Path::parent);
    flags.extend(foreign.map(|folder| remap(folder, "/dep")));
    flags.push(remap(&wrap.rust_source, &format!("/rustc/{}", wrap.commit)));
    if let (Some(out), Some(package)) = (unit.out, unit.package) {
        flags.push(remap(out, &format!("/out/{package}")));
    }
    flags
}

fn join(parts: &[&OsStr]) -> OsString {
    parts.iter().copied().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wrap() -> Wrap {
        Wrap {
            workspace: "/home/a b/project".into(),
            rust_source: "/rust/lib/rustlib/src/rust".into(),
            commit: "c0ffee".into(),
            linker: "/rust/rust-lld".into(),
            sysroot: "/sys".into(),
            gcc: "/sys/usr/lib/gcc/x86_64-linux-gnu/14".into(),
        }
    }

    fn words(text: &[&str]) -> Vec<OsString> {
        text.iter().map(OsString::from).collect()
    }

    #[test]
    fn what_runs_on_the_host_is_left_alone() {
        for arguments in [words(&["-vV"]), words(&["--crate-name", "build_script_build", "build.rs", "--crate-type", "bin"])] {
            assert_eq!(rewrite(arguments.clone(), &wrap(), Unit::default()), arguments);
        }
    }

    #[test]
    fn what_goes_into_an_image_is_linked_from_the_sysroot_in_this_order() {
        let got = rewrite(words(&["--crate-name", "x", "--target", "T"]), &wrap(), Unit::default());
        let expected = [
            "--crate-name",
            "x",
            "--target",
            "T",
            "-Clinker-flavor=ld.lld",
            "-Clinker=/rust/rust-lld",
            "-Ctarget-feature=+crt-static",
            "-Clink-arg=--sysroot=/sys",
            "-Clink-arg=/sys/usr/lib/x86_64-linux-gnu/rcrt1.o",
            "-Clink-arg=/sys/usr/lib/x86_64-linux-gnu/crti.o",
            "-Clink-arg=/sys/usr/lib/gcc/x86_64-linux-gnu/14/crtbeginS.o",
            "-Clink-arg=-L/sys/usr/lib/x86_64-linux-gnu",
            "-Clink-arg=-L/sys/usr/lib/gcc/x86_64-linux-gnu/14",
            "-Clink-arg=--start-group",
            "-Clink-arg=-lc",
            "-Clink-arg=-lgcc",
            "-Clink-arg=-lgcc_eh",
            "-Clink-arg=--end-group",
            "-Clink-arg=/sys/usr/lib/gcc/x86_64-linux-gnu/14/crtendS.o",
            "-Clink-arg=/sys/usr/lib/x86_64-linux-gnu/crtn.o",
            "--remap-path-prefix=/home/a b/project=/src",
            "--remap-path-prefix=/rust/lib/rustlib/src/rust=/rustc/c0ffee",
        ];
        assert_eq!(got, words(&expected));
        assert_eq!(rewrite(words(&["--target=T"]), &wrap(), Unit::default()).len(), expected.len() - 3);
    }

    #[test]
    fn a_dependency_and_its_generated_code_are_remapped_last() {
        let dependency = Unit {
            manifest: Some(Path::new("/cargo/registry/src/index-1/serde-1.0.0")),
            out: Some(Path::new("/home/a b/project/target/build/serde-1/out")),
            package: Some("serde"),
        };
        let got = rewrite(words(&["--target", "T"]), &wrap(), dependency);
        let expected = words(&[
            "--remap-path-prefix=/home/a b/project=/src",
            "--remap-path-prefix=/cargo/registry/src/index-1=/dep",
            "--remap-path-prefix=/rust/lib/rustlib/src/rust=/rustc/c0ffee",
            "--remap-path-prefix=/home/a b/project/target/build/serde-1/out=/out/serde",
        ]);
        assert!(got.ends_with(&expected), "{got:?}");
        let vendored = Unit { manifest: Some(Path::new("/nix/store/vendor/serde-1.0.0")), ..dependency };
        assert!(rewrite(words(&["--target", "T"]), &wrap(), vendored).contains(&"--remap-path-prefix=/nix/store/vendor=/dep".into()));
        let member = Unit { manifest: Some(Path::new("/home/a b/project/images/coturn")), ..Unit::default() };
        let flags = rewrite(words(&["--target", "T"]), &wrap(), member);
        assert!(!flags.iter().any(|flag| flag.to_string_lossy().ends_with("=/dep")), "{flags:?}");
    }

    /// What the Nix door's wrapper makes of the same call.
    fn of_the_nix_door(arguments: &[&str], wrap: &Wrap, unit: Unit) -> Vec<OsString> {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../nix/sh/flags.sh");
        let mut command = super::super::cargo::clean("sh".as_ref(), Path::new("/"));
        // A compiler that prints its arguments.
        command.arg(script).args(["printf", "%s\\n"]).args(arguments);
        command.env("workspace", &wrap.workspace).env("rust_source", &wrap.rust_source).env("commit", &wrap.commit);
        command.env("linker", &wrap.linker).env("sysroot", &wrap.sysroot).env("gcc", &wrap.gcc);
        let unit = [
            ("CARGO_MANIFEST_DIR", unit.manifest.map(Path::as_os_str)),
            ("OUT_DIR", unit.out.map(Path::as_os_str)),
            ("CARGO_PKG_NAME", unit.package.map(OsStr::new)),
        ];
        command.envs(unit.into_iter().filter_map(|(name, value)| Some((name, value?))));
        super::super::cargo::run(&mut command).expect("a shell").lines().map(OsString::from).collect()
    }

    #[test]
    fn the_nix_door_adds_the_same_flags() {
        let dependency = Unit {
            manifest: Some(Path::new("/nix/store/vendor/serde-1.0.0")),
            out: Some(Path::new("/build/a b/serde-1/out")),
            package: Some("serde"),
        };
        let member = Unit { manifest: Some(Path::new("/home/a b/project/images/coturn")), out: None, package: Some("coturn") };
        for unit in [Unit::default(), dependency, member] {
            for arguments in [&["--crate-name", "x", "--target", "T"][..], &["--target=T"], &["-vV"]] {
                assert_eq!(of_the_nix_door(arguments, &wrap(), unit), rewrite(words(arguments), &wrap(), unit), "{arguments:?} {unit:?}");
            }
        }
        // There is no `cc` in Nix's sandbox: what runs there is linked by the same linker.
        let script = of_the_nix_door(&["--crate-name", "build_script_build", "--crate-type", "bin"], &wrap(), member);
        assert!(script.contains(&"-Clinker=/rust/rust-lld".into()) && !script.iter().any(|flag| flag.to_string_lossy().contains("remap")));
    }
}
