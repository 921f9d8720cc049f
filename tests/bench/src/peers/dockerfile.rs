//! Builders of Dockerfiles. All take the same file: `dpkg-deb` unpacks every locked package, the result is copied into an empty
//! image, then the CA. Each keeps its cache where that helps it, and each has to bring the image into files, as ours is.

use std::path::{Path, PathBuf};

use images::{Class, Error, Result};
use xtask::process::Process;

use super::Measured;
use crate::inputs::{Bench, Material, link};
use crate::measure::Sample;

const BUILDER: &str = "chatops-bench-builder";
const IMAGE: &str = "chatops-bench";

/// What the unpacking needs, taken from this machine with its libraries: no image has to be fetched.
const PROGRAMS: [&str; 4] = ["sh", "dpkg-deb", "tar", "rm"];

const BUILDER_FILE: &str = "FROM scratch\nCOPY root /\n";

pub(super) fn buildah(bench: &Bench, material: &Material) -> Result<Measured> {
    let state = bench.empty("buildah")?;
    let driver = if fs_err::read_to_string("/proc/filesystems")?.contains("overlay") { "overlay" } else { "vfs" };
    let tool = |folder: &Path| {
        let process = Process::new("buildah", folder).arg("--root").arg(state.join("root")).arg("--runroot").arg(state.join("run"));
        process.args(["--storage-driver", driver])
    };
    let bud = |folder: &Path, tag: &str, cached: bool| {
        let process = tool(folder).args(["bud", "--quiet", "--isolation", "chroot", "--layers"]);
        let process = if cached { process } else { process.arg("--no-cache") };
        process.args(["--tag", tag, "."]).capture().map(drop)
    };
    let target = state.join("image");
    let measured = timed(bench, material, &bud, &|context| {
        remove(&target)?;
        tool(context).args(["push", "--quiet", IMAGE]).arg(format!("oci:{}:latest", target.display())).capture().map(drop)
    });
    // The storage holds mounts as long as it is not told to let go.
    let _ = tool(&state).args(["rmi", "--all", "--force"]).outcome();
    let _ = Process::new("umount", "/").arg(state.join("root/overlay")).outcome();
    bench.empty("buildah")?;
    measured
}

pub(super) fn classic(bench: &Bench, material: &Material) -> Result<Measured> {
    docker(bench, material, "0", &[])
}

pub(super) fn buildx(bench: &Bench, material: &Material) -> Result<Measured> {
    docker(bench, material, "1", &["--provenance=false"])
}

fn docker(bench: &Bench, material: &Material, buildkit: &str, options: &[&str]) -> Result<Measured> {
    let tool = |folder: &Path| Process::new("docker", folder).env("DOCKER_BUILDKIT", buildkit);
    let build = |folder: &Path, tag: &str, cached: bool| {
        let process = tool(folder).args(["build", "--quiet", "--network", "none"]).args(options);
        let process = if cached { process } else { process.arg("--no-cache") };
        process.args(["--tag", tag, "."]).capture().map(drop)
    };
    let target = bench.output.join("docker-image.tar");
    let measured = timed(bench, material, &build, &|context| {
        remove(&target)?;
        tool(context).args(["save", "--output"]).arg(&target).arg(IMAGE).capture().map(drop)
    });
    let _ = tool(&bench.output).args(["rmi", "--force", IMAGE, BUILDER]).outcome();
    remove(&target)?;
    measured
}

type Build<'a> = dyn Fn(&Path, &str, bool) -> Result<()> + 'a;
type Export<'a> = dyn Fn(&Path) -> Result<()> + 'a;

fn timed(bench: &Bench, material: &Material, build: &Build, export: &Export) -> Result<Measured> {
    build(&builder(bench)?, BUILDER, true)?;
    let context = context(bench, material)?;
    let all = |cached: bool| {
        build(&context, IMAGE, cached)?;
        export(&context)
    };
    let new_ca = || Ok(fs_err::copy(bench.new_ca()?, context.join("ca.pem")).map(drop)?);
    let cold = Sample::take(bench.peer_runs(), new_ca, |()| all(false))?;
    all(true)?;
    let no_op = Sample::take(bench.peer_runs(), || Ok(()), |()| all(true))?;
    let ca = Sample::take(bench.peer_runs(), new_ca, |()| all(true))?;
    remove(&context)?;
    Ok(Measured { name: String::new(), cold, no_op: Some(no_op), ca: Some(ca) })
}

/// The Dockerfile and what it copies.
fn context(bench: &Bench, material: &Material) -> Result<PathBuf> {
    let context = bench.empty("context")?;
    fs_err::create_dir(context.join("packages"))?;
    for (name, path) in &material.packages {
        link(path, &context.join("packages").join(name))?;
    }
    if let Some(tarball) = &material.tarball {
        link(tarball, &context.join("release.tar.gz"))?;
    }
    fs_err::write(context.join("Dockerfile"), dockerfile(material.tarball.is_some()))?;
    Ok(context)
}

fn dockerfile(release: bool) -> String {
    let release = if release { "ADD release.tar.gz /\n" } else { "" };
    format!(
        "FROM {BUILDER} AS unpacked\n\
         COPY packages /packages\n\
         RUN for package in /packages/*.deb; do dpkg-deb --extract \"$package\" /image || exit 1; done\n\
         FROM scratch\n\
         COPY --from=unpacked /image /\n\
         {release}\
         COPY ca.pem /usr/local/share/ca-certificates/site.crt\n\
         ENTRYPOINT [\"/usr/local/bin/entrypoint\"]\n"
    )
}

/// The image that unpacks, as a context.
fn builder(bench: &Bench) -> Result<PathBuf> {
    let folder = bench.empty("builder")?;
    fs_err::write(folder.join("Dockerfile"), BUILDER_FILE)?;
    for program in PROGRAMS {
        let file = Process::new("sh", "/").args(["-c", &format!("command -v {program}")]).text()?;
        let libraries = Process::new("ldd", "/").arg(&file).text()?;
        let libraries = libraries.split_whitespace().filter(|word| word.starts_with('/')).map(|path| (path, path.to_owned()));
        // Where a shell is looked for, wherever this machine has it.
        for (from, to) in std::iter::once((file.as_str(), format!("/bin/{program}"))).chain(libraries) {
            let target = folder.join("root").join(to.trim_start_matches('/'));
            let parent = target.parent().ok_or_else(|| Error::new(Class::Build, format!("{to} lies in no folder")))?;
            fs_err::create_dir_all(parent)?;
            fs_err::copy(from, &target)?;
        }
    }
    Ok(folder)
}

fn remove(path: &Path) -> Result<()> {
    match path.is_dir() {
        true => fs_err::remove_dir_all(path)?,
        false if path.exists() => fs_err::remove_file(path)?,
        false => {}
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ca_comes_last_so_that_a_changed_one_leaves_the_cache_of_the_rest() {
        let lines = dockerfile(true);
        let at = |what: &str| lines.find(what).unwrap();
        assert!(at("dpkg-deb") < at("release.tar.gz") && at("release.tar.gz") < at("ca.pem"));
        assert!(!dockerfile(false).contains("release"));
    }
}
