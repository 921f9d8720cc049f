//! The API double of Mattermost as a release: a tarball in the vendor's layout, packed from the program and a few files of
//! `tests/mattermost-double/vendor`. The same program and files give the same bytes.

use std::path::{Path, PathBuf};

use flate2::Compression;
use flate2::write::GzEncoder;
use images::build::PluginFile;
use images::entry::Entry;
use images::file::write_cached;
use images::openpgp::sign_detached_at;
use images::{Class, Digest, Error, Result, tar};
use serde_json::Value;

use crate::workspace::Workspace;

/// The cargo package, and the name of its program.
pub const PROGRAM: &str = "mattermost-double";
/// The versions that it plays; between them is a migration of the schema.
pub const VERSIONS: [&str; 2] = ["11.7.9", "11.8.5"];
/// Of entries and signatures, in seconds since 1970.
const TIME: u32 = 1_750_000_000;

/// The parts of a release.
#[derive(Clone, Debug)]
pub struct Double {
    /// `mattermost-<version>-linux-amd64.tar.gz`.
    pub tarball: PathBuf,
    /// The bundle that no release of the vendor brings.
    pub jenkins: PluginFile,
}

/// Packs the double of `version` around `program` into `folder`.
///
/// # Errors
/// [`Class::Usage`] for a version that it does not play.
pub fn pack(workspace: &Workspace, program: &Path, version: &str, folder: &Path) -> Result<Double> {
    if !VERSIONS.contains(&version) {
        return Err(Error::new(Class::Usage, format!("the API double does not play {version}"))
            .detail(format!("expected one of: {}", VERSIONS.join(", "))));
    }
    fs_err::create_dir_all(folder)?;
    let crate_folder = workspace.root().join("tests/mattermost-double");
    let vendor = crate_folder.join("vendor");
    let secret = fs_err::read(vendor.join("signing-key.pgp"))?;
    let mut release = Tarball::new("mattermost");
    let executable = fs_err::read(program)?;
    for name in ["mattermost", "mmctl"] {
        release.file(&format!("bin/{name}"), 0o755, &executable)?;
    }
    release.file("double-version.txt", 0o644, format!("{version}\n").as_bytes())?;
    for (path, content) in TEXTS {
        release.file(path, 0o644, content.as_bytes())?;
    }
    for empty in ["config", "data", "logs", "client/plugins"] {
        release.folder(empty)?;
    }
    for plugin in ["boards", "calls", "gitlab", "playbooks"] {
        let (name, bytes, signature) = bundle(&vendor, plugin, &format!("mattermost-plugin-{plugin}-v"), "-linux-amd64", &secret)?;
        release.file(&format!("prepackaged_plugins/{name}"), 0o644, &bytes)?;
        release.file(&format!("prepackaged_plugins/{name}.sig"), 0o644, &signature)?;
    }
    let tarball = folder.join(format!("mattermost-{version}-linux-amd64.tar.gz"));
    write_cached(&tarball, &release.finish()?)?;

    let (name, bytes, signature) = bundle(&vendor, "jenkins", "jenkins-", "", &secret)?;
    let path = folder.join(&name);
    write_cached(&path, &bytes)?;
    write_cached(&folder.join(format!("{name}.sig")), &signature)?;
    let key = fs_err::read(crate_folder.join("src/plugins/vendor.asc"))?;
    Ok(Double { tarball, jenkins: PluginFile { name, path, sha256: Digest::of(&bytes), signature, key } })
}

/// What the real one has as well, as far as the server looks for it.
const TEXTS: [(&str, &str); 5] = [
    (
        "client/root.html",
        "<!DOCTYPE html><html><head><title>Mattermost</title></head><body><div id=\"root\"></div><!-- API double --></body></html>\n",
    ),
    ("fonts/README.txt", "The API double draws nothing.\n"),
    ("i18n/en.json", "[]\n"),
    ("manifest.txt", "API double of Mattermost, not the server itself\n"),
    ("templates/welcome_body.html", "<p>API double</p>\n"),
];

/// A plugin's bundle: its name, bytes and signature.
fn bundle(vendor: &Path, plugin: &str, prefix: &str, suffix: &str, secret: &[u8]) -> Result<(String, Vec<u8>, Vec<u8>)> {
    let text = fs_err::read_to_string(vendor.join(format!("plugins/{plugin}.json")))?;
    let manifest: Value = serde_json::from_str(&text).map_err(|error| Error::new(Class::Usage, format!("{plugin}.json: {error}")))?;
    let id = manifest["id"].as_str().unwrap_or(plugin);
    let mut tarball = Tarball::new(id);
    tarball.file("plugin.json", 0o644, text.as_bytes())?;
    tarball.file("server/dist/plugin-linux-amd64", 0o755, b"API double: the server plays this plugin itself\n")?;
    let bytes = tarball.finish()?;
    let signature = sign_detached_at(TIME, bytes.as_slice(), secret, b"", "the API double's signing key")?;
    Ok((format!("{prefix}{}{suffix}.tar.gz", manifest["version"].as_str().unwrap_or_default()), bytes, signature))
}

/// A gzipped tarball below one folder, which makes each folder once.
struct Tarball {
    root: String,
    folders: Vec<String>,
    out: tar::Writer<GzEncoder<Vec<u8>>>,
}

impl Tarball {
    fn new(root: &str) -> Self {
        // Stored, not compressed: so that no compressor's version decides the bytes.
        Tarball { root: root.to_owned(), folders: Vec::new(), out: tar::Writer::new(GzEncoder::new(Vec::new(), Compression::none())) }
    }

    fn folder(&mut self, path: &str) -> Result<()> {
        let path = if path.is_empty() { self.root.clone() } else { format!("{}/{path}", self.root) };
        let mut whole = String::new();
        for part in path.split('/') {
            whole = if whole.is_empty() { part.to_owned() } else { format!("{whole}/{part}") };
            if !self.folders.contains(&whole) {
                self.out.entry(&Entry::directory(whole.as_str(), 0o755, TIME.into()))?;
                self.folders.push(whole.clone());
            }
        }
        Ok(())
    }

    fn file(&mut self, path: &str, mode: u32, content: &[u8]) -> Result<()> {
        self.folder(path.rsplit_once('/').map_or("", |(folder, _)| folder))?;
        self.out.entry(&Entry::file(format!("{}/{path}", self.root), content.len(), mode, TIME.into()))?;
        self.out.content(content).map_err(Error::from)
    }

    fn finish(self) -> Result<Vec<u8>> {
        let (encoder, _) = self.out.finish()?;
        Ok(encoder.finish()?)
    }
}

#[cfg(test)]
mod tests {
    use images::openpgp::Keyring;

    use super::*;

    #[test]
    fn the_same_program_packs_to_the_same_bytes_and_its_bundles_are_signed() {
        let workspace = Workspace::find().unwrap();
        let folder = tempfile::tempdir().unwrap();
        let program = folder.path().join("program");
        fs_err::write(&program, "program").unwrap();
        let [one, two] = ["one", "two"].map(|name| pack(&workspace, &program, VERSIONS[0], &folder.path().join(name)).unwrap());
        assert_eq!(fs_err::read(one.tarball).unwrap(), fs_err::read(two.tarball).unwrap());
        assert_eq!(one.jenkins.signature, two.jenkins.signature);
        let ring = Keyring::parse(&one.jenkins.key, "the double's key").unwrap();
        let prints = ring.fingerprints();
        ring.verify_detached(fs_err::File::open(one.jenkins.path).unwrap(), &one.jenkins.signature, &[&prints[0]], "jenkins").unwrap();
    }

    #[test]
    fn a_version_that_it_does_not_play_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let error = pack(&Workspace::find().unwrap(), Path::new("none"), "9.0.0", folder.path()).unwrap_err();
        assert!(error.to_string().contains("expected one of: 11.7.9, 11.8.5"), "{error}");
    }
}
