//! Claims about formats: programs that others wrote read what we write.

use std::collections::BTreeSet;
use std::path::PathBuf;

use images::Result;
use images::digest::Digest;
use images::entry::{Node, read_tar};
use serde_json::Value;

use crate::claims::Claim;
use crate::python::{self, Line};
use crate::world::{Image, NAMES, World};

const fn claim(name: &'static str, needs: &'static [&'static str], proves: fn(&World) -> Result<()>) -> Claim {
    Claim { name, needs, root: false, engine: false, proves }
}

/// The claims.
pub const CLAIMS: &[Claim] = &[
    claim("formats::skopeo_inspects_each_image_and_sees_our_digest", &["skopeo"], skopeo_inspects),
    claim("formats::skopeo_copies_each_image_byte_for_byte", &["skopeo"], skopeo_copies),
    claim("formats::umoci_unpacks_what_the_layers_hold", &["umoci"], umoci_unpacks),
    claim("formats::gnu_tar_lists_every_layer_and_the_archive_without_a_word", &["tar"], gnu_tar_lists),
    claim("formats::python_reads_from_every_layer_what_we_wrote", &["python3"], python_reads),
    claim("formats::the_archive_file_is_an_oci_layout_too", &["skopeo"], the_archive_is_a_layout),
    claim("formats::the_scanner_lists_every_debian_package_of_the_lock_with_its_version", &["scalibr"], the_scanner_lists),
];

/// As skopeo and umoci name an image of a layout.
fn reference(world: &World, image: &Image) -> String {
    format!("{}:{}", world.layout().display(), image.name)
}

fn layers(world: &World) -> Result<BTreeSet<PathBuf>> {
    let layers = world.images()?.values().flat_map(|image| &image.layers);
    Ok(layers.map(|layer| world.layout().join("blobs/sha256").join(layer.digest.to_string())).collect())
}

fn skopeo_inspects(world: &World) -> Result<()> {
    for image in world.images()?.values() {
        let told = world.machine.process("skopeo").arg("inspect").arg(format!("oci:{}", reference(world, image))).capture()?;
        let told: Value = serde_json::from_slice(&told.stdout).unwrap();
        assert_eq!(told["Digest"], image.manifest.oci());
        assert_eq!((&told["Os"], &told["Architecture"]), (&"linux".into(), &"amd64".into()));
        let layers: Vec<String> = image.layers.iter().map(|layer| layer.digest.oci()).collect();
        assert_eq!(told["Layers"], serde_json::json!(layers));
        let version = image.name.split(':').nth(1).unwrap();
        assert_eq!(told["Labels"]["org.opencontainers.image.version"], version);
    }
    Ok(())
}

fn skopeo_copies(world: &World) -> Result<()> {
    for image in world.images()?.values() {
        let folder = world.scratch();
        let copy = world.machine.process("skopeo").args(["copy", "--quiet", "--preserve-digests", "--insecure-policy"]);
        copy.arg(format!("oci:{}", reference(world, image))).arg(format!("dir:{}", folder.path().display())).capture()?;
        assert_eq!(Digest::of(fs_err::read(folder.path().join("manifest.json"))?), image.manifest);
        let blobs = image.layers.iter().map(|layer| layer.digest).chain([image.config]);
        for blob in blobs {
            assert_eq!(Digest::of(fs_err::read(folder.path().join(blob.to_string()))?), blob);
        }
    }
    Ok(())
}

fn umoci_unpacks(world: &World) -> Result<()> {
    for image in world.images()?.values() {
        let folder = world.scratch();
        let bundle = folder.path().join("bundle");
        let unpack = world.machine.process("umoci").args(["unpack", "--rootless", "--image", &reference(world, image)]);
        unpack.arg(&bundle).capture()?;
        let mut files = 0;
        for layer in &image.layers {
            let blob = world.layout().join("blobs/sha256").join(layer.digest.to_string());
            read_tar(fs_err::File::open(blob)?, "", &mut |entry, _| {
                let there = fs_err::symlink_metadata(bundle.join("rootfs").join(&entry.path))?;
                if let Node::File { size } = entry.node {
                    assert_eq!(there.len(), size, "{}", entry.path);
                    files += 1;
                }
                Ok(())
            })?;
        }
        assert!(files > 20, "{files} files in {}", image.name);
    }
    Ok(())
}

fn gnu_tar_lists(world: &World) -> Result<()> {
    let folder = world.scratch();
    let archive = folder.path().join("images.tar");
    world.build(&["alert-gateway", "coturn", "--archive", archive.to_str().unwrap()])?;
    for file in layers(world)?.into_iter().chain([archive]) {
        let listed = world.machine.process("tar").args(["--list", "--verbose", "--numeric-owner", "--file"]).arg(&file).capture()?;
        assert_eq!(String::from_utf8_lossy(&listed.stderr), "", "{}", file.display());
        let mut entries = 0;
        read_tar(fs_err::File::open(&file)?, "", &mut |_, _| {
            entries += 1;
            Ok(())
        })?;
        assert_eq!(listed.stdout.iter().filter(|byte| **byte == b'\n').count(), entries, "{}", file.display());
    }
    Ok(())
}

fn python_reads(world: &World) -> Result<()> {
    for layer in layers(world)? {
        let mut ours = Vec::new();
        read_tar(fs_err::File::open(&layer)?, "", &mut |entry, _| {
            ours.push(Line::of(&entry));
            Ok(())
        })?;
        let theirs = python::list(world, &layer)?;
        assert_eq!(ours.len(), theirs.len(), "{}", layer.display());
        for (ours, theirs) in ours.iter().zip(&theirs) {
            assert_eq!(ours, theirs, "{}", layer.display());
        }
    }
    Ok(())
}

fn the_archive_is_a_layout(world: &World) -> Result<()> {
    let folder = world.scratch();
    let archive = folder.path().join("images.tar");
    let built = world.build(&["alert-gateway", "--archive", archive.to_str().unwrap()])?;
    let gateway = &built["alert-gateway"];
    for reference in [format!("oci-archive:{}:{}", archive.display(), gateway.name), format!("docker-archive:{}", archive.display())] {
        let told = world.machine.process("skopeo").args(["inspect", "--config", "--raw", &reference]).capture()?;
        assert_eq!(Digest::of(&told.stdout), gateway.config, "{reference}");
    }
    Ok(())
}

/// The Debian packages that the scanner finds in an image.
pub fn scanned(world: &World, name: &str) -> Result<Vec<Value>> {
    let folder = world.scratch();
    let (archive, result) = (folder.path().join("image.tar"), folder.path().join("result.json"));
    world.build(&[name, "--archive", archive.to_str().unwrap()])?;
    let scan = world.machine.process("scalibr").args(["--plugins", "os/dpkg", "--image-tarball"]).arg(&archive);
    scan.arg(format!("--o=cdx-json={}", result.display())).capture()?;
    let told: Value = serde_json::from_slice(&fs_err::read(&result)?).unwrap();
    Ok(told["components"].as_array().unwrap_or_else(|| panic!("no components: {told}")).clone())
}

fn the_scanner_lists(world: &World) -> Result<()> {
    let lock = world.workspace.read_lock()?;
    for name in NAMES {
        let image = world.image(name)?;
        let told = scanned(world, name)?;
        let listed: BTreeSet<(String, String)> = told.iter().map(|package| (text(&package["name"]), text(&package["version"]))).collect();
        let locked = &lock.groups[name].packages;
        for package in locked {
            let artefact = lock.artefact(images::lock::Kind::Deb, package).unwrap();
            let wanted = (artefact.name.clone(), artefact.version.clone());
            assert!(listed.contains(&wanted), "{}: {wanted:?} is not among {listed:?}", image.name);
        }
        assert_eq!(listed.len(), locked.len(), "{}", image.name);
        for purl in told.iter().map(|package| text(&package["purl"])) {
            assert!(purl.starts_with("pkg:deb/debian/") && purl.contains("distro=trixie"), "{purl}");
        }
    }
    Ok(())
}

/// A string, as it stands.
pub fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}
