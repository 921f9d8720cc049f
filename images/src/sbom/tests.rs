#![allow(clippy::unwrap_used, reason = "a test that cannot make its input may as well stop")]

use super::*;
use crate::contents::Place;
use crate::error::Class;
use crate::lock::Lock;
use crate::spec::Spec;
use crate::testing::SampleImage;

const COPYRIGHT: &str = "Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/\n\nFiles: *\nCopyright: me\nLicense: GPL-2+ or own\n\nLicense: own\n Be kind.\n";

fn sample() -> SampleImage {
    SampleImage::default().package("app", "1:1.0+x-1", |deb| deb.file("usr/share/doc/app/copyright", 0o644, COPYRIGHT.as_bytes())).package(
        "libstdc++",
        "2",
        |deb| {
            deb.directory("usr", 0o755)
                .directory("usr/share", 0o755)
                .directory("usr/share/doc", 0o755)
                .symlink("usr/share/doc/libstdc++", "app")
        },
    )
}

/// The sample's document, as JSON; `change` may spoil the lock before.
fn paper(change: impl FnOnce(&mut Lock)) -> Result<(Vec<u8>, serde_json::Value)> {
    written(change, |subject| Ok(bytes(&document(subject, &BTreeMap::new())?)))
}

fn written(change: impl FnOnce(&mut Lock), write: impl FnOnce(&Subject<'_>) -> Result<Vec<u8>>) -> Result<(Vec<u8>, serde_json::Value)> {
    let folder = tempfile::tempdir().unwrap();
    sample().checkout(folder.path());
    sample().build(&folder.path().join("layout"));
    let mut lock = Lock::parse(&fs_err::read_to_string(folder.path().join("images/lock.json")).unwrap(), "lock").unwrap();
    change(&mut lock);
    let spec = Spec::parse(&fs_err::read_to_string(folder.path().join("images/sample/image.toml")).unwrap(), "spec").unwrap();
    let image = Place::open(&folder.path().join("layout")).unwrap().image("sample").unwrap();
    let subject = Subject::check(&image, &lock, &spec, folder.path())?;
    let written = write(&subject)?;
    let value = serde_json::from_slice(&written).unwrap();
    Ok((written, value))
}

#[test]
fn each_package_has_version_hash_address_and_the_licences_of_its_copyright_file() {
    let (_, paper) = paper(|_| {}).unwrap();
    let packages = paper["packages"].as_array().unwrap();
    let find = |name: &str| packages.iter().find(|package| package["name"] == name).unwrap();
    let app = find("app");
    assert_eq!(app["versionInfo"], "1:1.0+x-1");
    assert_eq!(app["externalRefs"][0]["referenceLocator"], "pkg:deb/debian/app@1:1.0%2Bx-1?arch=amd64&distro=trixie");
    assert_eq!(app["licenseDeclared"], "GPL-2.0-or-later OR LicenseRef-app-own");
    assert_eq!(app["checksums"][0]["checksumValue"].as_str().unwrap().len(), 64);
    assert_eq!(find("libstdc++")["externalRefs"][0]["referenceLocator"], "pkg:deb/debian/libstdc%2B%2B@2?arch=amd64&distro=trixie");
    assert_eq!(find("libstdc++")["licenseDeclared"], "GPL-2.0-or-later OR LicenseRef-libstdc-plus-plus-own", "through the link");
    assert_eq!(paper["hasExtractedLicensingInfos"][0]["extractedText"], "Be kind.");
    let described = paper["relationships"].as_array().unwrap().iter().filter(|relation| relation["relationshipType"] == "CONTAINS").count();
    assert_eq!((packages.len(), described), (3, 2));
}

#[test]
fn the_same_inputs_give_the_same_bytes() {
    assert_eq!(paper(|_| {}).unwrap().0, paper(|_| {}).unwrap().0);
}

#[test]
fn nothing_is_said_of_an_image_that_the_lock_does_not_make() {
    let error = paper(|lock| lock.artefacts[0].version = "1:1.1-1".into()).unwrap_err();
    assert_eq!(error.class(), Class::Check);
    assert!(error.to_string().contains("app: 1:1.0+x-1 in the image, 1:1.1-1 in the lock"), "{error}");
    // The same version with other bytes.
    let error = paper(|lock| lock.artefacts[0].sha256 = Some(Digest::of("another"))).unwrap_err();
    assert!(error.to_string().contains("its label says that its inputs were sha256:"), "{error}");
    let error = paper(|lock| drop(lock.groups.get_mut("sample").unwrap().packages.pop())).unwrap_err();
    assert!(error.to_string().contains("libstdc++ 2: in the image, not in the lock"), "{error}");
}

#[test]
fn a_referrer_names_its_subject_and_what_it_is() {
    let subject = oci::Descriptor {
        annotations: BTreeMap::from([(oci::REF_NAME.to_owned(), "chatops/x:1".to_owned())]),
        digest: Digest::of("image").oci(),
        media_type: oci::MANIFEST.to_owned(),
        platform: None,
        size: 5,
    };
    let referrer = referrer(&subject, MEDIA_TYPE, b"paper".to_vec(), BTreeMap::new());
    let manifest: serde_json::Value = serde_json::from_slice(&referrer.manifest).unwrap();
    assert_eq!(manifest["artifactType"], MEDIA_TYPE);
    assert_eq!(manifest["subject"], serde_json::json!({"digest": Digest::of("image").oci(), "mediaType": oci::MANIFEST, "size": 5}));
    let digests: Vec<String> = referrer.blobs.iter().map(|blob| Digest::of(blob).oci()).collect();
    assert_eq!(
        [manifest["config"]["digest"].as_str().unwrap(), manifest["layers"][0]["digest"].as_str().unwrap()],
        [&digests[0], &digests[1]][..]
    );
}

#[test]
fn provenance_names_the_image_the_commit_the_locks_and_every_file() {
    let source = provenance::Source {
        commit: Some("0123456789012345678901234567890123456789".to_owned()),
        modified: false,
        files: BTreeMap::from([("images/lock.json".to_owned(), Digest::of("lock"))]),
    };
    let statement = |source: &provenance::Source| written(|_| {}, |subject| Ok(provenance::statement(subject, source, None))).unwrap();
    let (bytes, paper) = statement(&source);
    assert_eq!(bytes, statement(&source).0);
    assert_eq!(paper["subject"][0]["name"], "chatops/sample:1.0-x");
    let all = paper["predicate"]["buildDefinition"]["resolvedDependencies"].as_array().unwrap();
    let names: Vec<&str> = all.iter().map(|one| one["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["source", "images/lock.json", "app", "libstdc++"]);
    assert_eq!(all[0]["digest"]["gitCommit"], "0123456789012345678901234567890123456789");
    assert_eq!(all[2]["uri"], "mirror://debian/pool/app.deb");
    let compressed = Digest::of("compressed");
    let (_, both) = written(|_| {}, |subject| Ok(provenance::statement(subject, &source, Some(&compressed)))).unwrap();
    assert_eq!((&both["subject"][0], &both["subject"][1]["digest"]["sha256"]), (&paper["subject"][0], &compressed.to_string().into()));
    let unknown = provenance::Source { commit: None, ..source };
    assert_eq!(statement(&unknown).1["predicate"]["buildDefinition"]["resolvedDependencies"][0]["name"], "images/lock.json");
}
