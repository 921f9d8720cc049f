//! Claims about what is said of images: programs that others wrote read it, and find the same.

use std::collections::BTreeSet;
use std::path::Path;

use images::entry::Entry;
use images::go_build;
use images::{Digest, Result, tar};
use serde_json::Value;
use xtask::machine::Part;

use crate::claims::Claim;
use crate::formats::{scanned, text};
use crate::world::{NAMES, World};

const fn claim(name: &'static str, needs: &'static [&'static str], proves: fn(&World) -> Result<()>) -> Claim {
    Claim { name, needs, root: false, engine: false, proves }
}

/// The claims.
pub const CLAIMS: &[Claim] = &[
    claim(
        "papers::the_sbom_of_each_image_is_valid_spdx_and_lists_what_the_scanner_finds",
        &["scalibr", "python3", "spdx-tools"],
        sboms_are_valid,
    ),
    claim(
        "papers::the_provenance_of_each_image_is_read_by_in_toto_and_names_commit_and_locks",
        &["git", "python3", "in-toto-attestation"],
        provenance_is_read,
    ),
    claim("papers::an_audit_passes_with_what_vex_json_explains_and_fails_without", &[], audits),
    claim("papers::the_modules_of_a_go_program_are_those_that_go_itself_reads", &["go", "scalibr"], modules_are_those_that_go_reads),
    claim(
        "papers::the_sbom_of_a_release_names_the_modules_of_its_server_and_of_its_plugins",
        &["go", "python3", "spdx-tools"],
        a_release_names_its_modules,
    ),
];

/// An image's SPDX document, found valid by SPDX's own tools.
fn sbom(world: &World, name: &str) -> Result<Value> {
    let folder = world.scratch();
    let (file, again) = (folder.path().join("sbom.spdx.json"), folder.path().join("again.spdx.json"));
    for file in [&file, &again] {
        world.images_verb(&["sbom", name, "--layout", world.layout().to_str().unwrap(), "--output", file.to_str().unwrap()])?.capture()?;
    }
    let bytes = fs_err::read(&file)?;
    assert!(bytes == fs_err::read(&again)?, "two documents of one image differ");
    let tools = Part::named("spdx-tools").python_path(&world.machine);
    let validate = world.machine.process("python3").args(["-m", "spdx_tools.spdx.clitools.pyspdxtools", "--infile"]).arg(&file);
    validate.env("PYTHONPATH", tools).capture()?;
    Ok(serde_json::from_slice(&bytes).unwrap())
}

/// Package URLs of the document that begin with `kind`.
fn purls(sbom: &Value, kind: &str) -> BTreeSet<String> {
    let all = sbom["packages"].as_array().unwrap().iter().map(|package| text(&package["externalRefs"][0]["referenceLocator"]));
    all.filter(|purl| purl.starts_with(kind)).collect()
}

fn sboms_are_valid(world: &World) -> Result<()> {
    for name in NAMES {
        let image = world.image(name)?;
        let sbom = sbom(world, &image.name)?;
        let root = &sbom["packages"][0];
        assert_eq!(root["checksums"][0]["checksumValue"], image.manifest.to_string());
        // Linked into a program is not the same as in the image.
        let contained: BTreeSet<String> = sbom["relationships"]
            .as_array()
            .unwrap()
            .iter()
            .filter(|relation| relation["spdxElementId"] == root["SPDXID"] && relation["relationshipType"] == "CONTAINS")
            .map(|relation| text(&relation["relatedSpdxElement"]))
            .collect();
        let packages = sbom["packages"].as_array().unwrap().iter().filter(|package| {
            contained.contains(package["SPDXID"].as_str().unwrap())
                && text(&package["externalRefs"][0]["referenceLocator"]).starts_with("pkg:deb/")
        });
        let ours: BTreeSet<(String, String)> = packages.map(|package| (text(&package["name"]), text(&package["versionInfo"]))).collect();
        let theirs: BTreeSet<(String, String)> =
            scanned(world, name)?.iter().map(|package| (text(&package["name"]), text(&package["version"]))).collect();
        assert_eq!(ours, theirs, "{}", image.name);
        let crates = purls(&sbom, "pkg:cargo/");
        let starts = |name: &str| crates.iter().any(|purl| purl.starts_with(&format!("pkg:cargo/{name}@")));
        // A program of ours has crates, and those for other systems are not compiled in.
        assert!(starts("fs-err") && !starts("windows-sys") && !starts("proc-macro2"), "{}: {crates:?}", image.name);
    }
    Ok(())
}

/// Reads a statement with in-toto's own types, which know every field and refuse others, and prints what it is about.
const READ_STATEMENT: &str = r#"
import json, sys
from google.protobuf import json_format
from in_toto_attestation.v1 import statement_pb2
from in_toto_attestation.v1.statement import Statement
from in_toto_attestation.v1.resource_descriptor import ResourceDescriptor
from in_toto_attestation.predicates.provenance.v1 import provenance_pb2
text = open(sys.argv[1]).read()
read = Statement.copy_from_pb(json_format.Parse(text, statement_pb2.Statement()))
read.validate()
provenance = json_format.Parse(json.dumps(json.loads(text)["predicate"]), provenance_pb2.Provenance())
for dependency in provenance.build_definition.resolved_dependencies:
    ResourceDescriptor.copy_from_pb(dependency).validate()
    print(dependency.name, *dependency.digest.values())
assert read.pb.predicate_type == "https://slsa.dev/provenance/v1", read.pb.predicate_type
assert provenance.build_definition.build_type and provenance.run_details.builder.id
print("subject", read.pb.subject[0].digest["sha256"])
"#;

fn provenance_is_read(world: &World) -> Result<()> {
    let commit = world.machine.process("git").args(["rev-parse", "HEAD"]).text()?;
    let lock = world.workspace.read_lock()?;
    for name in NAMES {
        let image = world.image(name)?;
        let folder = world.scratch();
        let file = folder.path().join("provenance.json");
        let tell = world.images_verb(&["provenance", &image.name, "--layout", world.layout().to_str().unwrap()])?;
        tell.arg("--output").arg(&file).capture()?;
        let tools = Part::named("in-toto-attestation").python_path(&world.machine);
        let read = world.machine.process("python3").args(["-c", READ_STATEMENT]).arg(&file).env("PYTHONPATH", tools).text()?;
        let lines: BTreeSet<&str> = read.lines().collect();
        let lock_file = Digest::of_file(&world.workspace.lock())?.0;
        for wanted in [format!("subject {}", image.manifest), format!("source {}", commit.trim()), format!("images/lock.json {lock_file}")]
        {
            assert!(lines.contains(wanted.as_str()), "no \"{wanted}\" in {read}");
        }
        for package in &lock.groups[name].packages {
            let sha256 = lock.artefact(images::lock::Kind::Deb, package).unwrap().sha256.unwrap();
            assert!(lines.contains(format!("{package} {sha256}").as_str()), "no {package} in {read}");
        }
    }
    Ok(())
}

/// A Go program with a module of its own, in `folder`; the file.
fn go_program(world: &World, folder: &Path, name: &str) -> Result<std::path::PathBuf> {
    for (path, text) in [
        (
            format!("{name}/go.mod"),
            format!(
                "module example.org/{name}\n\ngo 1.24\n\nrequire example.org/greeting v1.2.3\n\nreplace example.org/greeting => ../greeting\n"
            ),
        ),
        (
            format!("{name}/main.go"),
            "package main\n\nimport \"example.org/greeting\"\n\nfunc main() { println(greeting.Hello()) }\n".to_owned(),
        ),
        ("greeting/go.mod".to_owned(), "module example.org/greeting\n\ngo 1.24\n".to_owned()),
        ("greeting/greeting.go".to_owned(), "package greeting\n\nfunc Hello() string { return \"hello\" }\n".to_owned()),
    ] {
        fs_err::create_dir_all(folder.join(&path).parent().unwrap())?;
        fs_err::write(folder.join(path), text)?;
    }
    let program = folder.join(format!("{name}.bin"));
    // As vendors ship it: without symbols. No module is fetched.
    let build = world.machine.process("go").args(["build", "-ldflags=-s -w", "-o"]).arg(&program).arg(".");
    build.in_folder(folder.join(name)).env("GOFLAGS", "-mod=mod").env("GOPROXY", "off").env("CGO_ENABLED", "0").capture()?;
    Ok(program)
}

fn modules_are_those_that_go_reads(world: &World) -> Result<()> {
    let folder = world.scratch();
    let own = go_program(world, folder.path(), "server")?;
    // The scanner itself is in Go, and made of many modules.
    let scanner = world.machine.built(Part::named("scalibr")).unwrap();
    for (program, least) in [(own, 1), (scanner, 50)] {
        let told = world.machine.process("go").args(["version", "-m"]).arg(&program).text()?;
        let mut theirs: Vec<(String, String, String)> = Vec::new();
        for line in told.lines() {
            let mut fields = line.trim_start_matches('\t').split('\t');
            let kind = fields.next().unwrap();
            let mut field = || fields.next().unwrap_or_default().to_owned();
            match kind {
                "dep" => theirs.push((field(), field(), field())),
                "=>" => {
                    let by = (field(), field(), field());
                    let last = theirs.last_mut().unwrap();
                    if by.0.starts_with('.') { last.2.clear() } else { *last = by }
                }
                _ => {}
            }
        }
        let build = go_build::read(fs_err::File::open(&program)?).unwrap();
        let ours: Vec<_> = build.modules.into_iter().map(|module| (module.path, module.version, module.sum)).collect();
        assert_eq!(ours, theirs, "{}", program.display());
        assert!(ours.len() >= least, "{} modules in {}", ours.len(), program.display());
        assert!(told.lines().next().unwrap().ends_with(&build.go), "{told}");
    }
    Ok(())
}

fn a_release_names_its_modules(world: &World) -> Result<()> {
    let folder = world.scratch();
    let server = fs_err::read(go_program(world, folder.path(), "server")?)?;
    let plugin = fs_err::read(go_program(world, folder.path(), "plugin")?)?;
    let archive = |members: &[(&str, u32, &[u8])]| -> Result<Vec<u8>> {
        let mut out = tar::Writer::new(Vec::new());
        let mut folders = BTreeSet::new();
        for (path, mode, bytes) in members {
            for (at, _) in path.match_indices('/') {
                if folders.insert(&path[..at]) {
                    out.entry(&Entry::directory(path[..at].to_owned(), 0o755, 1))?;
                }
            }
            out.entry(&Entry::file((*path).to_owned(), bytes.len(), *mode, 1))?;
            out.content(bytes)?;
        }
        let packed = world.machine.process("gzip").args(["-1", "-n"]).stdin(out.finish()?.0).capture()?;
        Ok(packed.stdout)
    };
    let described = br#"{"id": "com.mattermost.calls", "version": "1.11.4"}"#;
    let bundle = archive(&[("calls/plugin.json", 0o644, described), ("calls/server/dist/plugin-linux-amd64", 0o755, &plugin)])?;
    let file = folder.path().join("mattermost-11.7.8-linux-amd64.tar.gz");
    let bundled = "mattermost/prepackaged_plugins/mattermost-plugin-calls-v1.11.4-linux-amd64.tar.gz";
    fs_err::write(&file, archive(&[("mattermost/bin/mattermost", 0o755, &server), (bundled, 0o644, &bundle)])?)?;
    let layout = folder.path().join("layout");
    let built = world
        .images_verb(&["mattermost", "--no-ca", "--without-plugin", "jenkins", "--json", "--mattermost", file.to_str().unwrap()])?
        .arg("--layout")
        .arg(&layout)
        .arg("--store")
        .arg(world.store())
        .text()?;
    assert!(built.contains("chatops/mattermost:11.7.8-file"), "{built}");
    let output = folder.path().join("sbom.json");
    world.images_verb(&["sbom", "mattermost", "--layout", layout.to_str().unwrap(), "--output", output.to_str().unwrap()])?.capture()?;
    let sbom: Value = serde_json::from_slice(&fs_err::read(&output)?).unwrap();
    assert!(purls(&sbom, "pkg:golang/").contains("pkg:golang/example.org/greeting@v1.2.3"), "{:?}", purls(&sbom, "pkg:golang/"));
    let find = |name: &str| {
        let packages = sbom["packages"].as_array().unwrap();
        packages.iter().find(|package| package["name"] == name).unwrap_or_else(|| panic!("no {name}")).clone()
    };
    let (release, calls, greeting) = (find("mattermost"), find("com.mattermost.calls"), find("example.org/greeting"));
    assert_eq!(release["checksums"][0]["checksumValue"], Digest::of_file(&file)?.0.to_string());
    assert_eq!(calls["checksums"][0]["checksumValue"], Digest::of(&bundle).to_string());
    for (parent, child) in [(&release, &calls), (&release, &greeting), (&calls, &greeting)] {
        let related = sbom["relationships"]
            .as_array()
            .unwrap()
            .iter()
            .any(|relation| relation["spdxElementId"] == parent["SPDXID"] && relation["relatedSpdxElement"] == child["SPDXID"]);
        assert!(related, "{} does not contain {}", parent["name"], child["name"]);
    }
    // The same modules are what an audit holds OSV's records of Go against.
    let record = folder.path().join("GO-2026-1.json");
    let hole = |fixed: &str| {
        format!(
            r#"{{"id": "GO-2026-1", "affected": [{{"package": {{"ecosystem": "Go", "name": "example.org/greeting"}},
            "ranges": [{{"type": "SEMVER", "events": [{{"introduced": "1.0.0"}}, {{"fixed": "{fixed}"}}]}}]}}]}}"#
        )
    };
    let audit = |layout: &Path| -> Result<(Option<i32>, String)> {
        let verb = world.images_verb(&["audit", "--advisories", record.to_str().unwrap(), "--layout", layout.to_str().unwrap()])?;
        let outcome = verb.outcome()?;
        Ok((outcome.status.code(), String::from_utf8_lossy(&[outcome.stdout, outcome.stderr].concat()).into_owned()))
    };
    fs_err::write(&record, hole("1.2.4"))?;
    let (code, told) = audit(&layout)?;
    assert!(code == Some(1) && told.contains("example.org/greeting v1.2.3 (in chatops/mattermost:11.7.8-file"), "{told}");
    assert!(told.contains("com.mattermost.calls 1.11.4), mended in 1.2.4"), "{told}");
    fs_err::write(&record, hole("1.2.3"))?;
    assert_eq!(audit(&layout)?.0, Some(0));
    let (code, told) = audit(&folder.path().join("none"))?;
    assert!(code == Some(2) && told.contains("cargo xtask images mattermost"), "{told}");
    Ok(())
}

fn audits(world: &World) -> Result<()> {
    let folder = world.scratch();
    let (tracker, nothing) = (folder.path().join("tracker.json"), folder.path().join("vex.json"));
    let hole = r#"{"coturn": {"CVE-2026-27624": {"description": "mapped addresses", "releases": {"trixie": {"status": "open", "urgency": "low"}}}}}"#;
    fs_err::write(&tracker, hole)?;
    fs_err::write(&nothing, r#"{"@context": "https://openvex.dev/ns/v0.2.0", "statements": []}"#)?;
    let audit = || world.images_verb(&["audit", "--advisories", tracker.to_str().unwrap()]);
    let told = audit()?.text()?;
    assert!(told.starts_with("explained    CVE-2026-27624  coturn "), "{told}");
    let outcome = audit()?.arg("--vex").arg(&nothing).outcome()?;
    let (told, said) = (String::from_utf8_lossy(&outcome.stdout).into_owned(), String::from_utf8_lossy(&outcome.stderr).into_owned());
    assert_eq!(outcome.status.code(), Some(1), "{said}");
    assert!(told.starts_with("open ") && said.contains("1 of 1 advisories"), "{told}{said}");
    Ok(())
}
