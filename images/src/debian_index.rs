//! The signed index of a Debian repository: `InRelease` by signature, `Packages` by hash. Only `images lock` reads it.

use std::io::Read;
use std::path::Path;
use std::time::Duration;

use reqwest::StatusCode;
use reqwest::blocking::Client;

use crate::digest::Digest;
use crate::error::{Class, Context, Error, Result};
use crate::lock::Index;
use crate::mirror::Mirrors;
use crate::openpgp::Keyring;
use crate::progress::Progress;
use crate::resolve::release::Release;
use crate::store::Options;
use crate::store::http::{chain, without_password};

/// The codename of the Debian release that images are made of.
pub const SUITE: &str = "trixie";
/// The one architecture.
pub const ARCHITECTURE: &str = "amd64";
/// The repositories, each with the codename that its index has to have.
pub const REPOSITORIES: [(&str, &str); 2] = [("main", SUITE), ("security", "trixie-security")];

/// Primary keys of Debian's archive, as the package debian-archive-keyring has them.
pub const FINGERPRINTS: [&str; 6] = [
    "B8B80B5B623EAB6AD8775C45B7C5D7D6350947F8", // Archive Automatic Signing Key (12/bookworm), RSA 4096, 2023-01-21
    "05AB90340C0C5E797F44A8C8254CF3B5AEC0A8F0", // Security Archive Automatic Signing Key (12/bookworm), RSA 4096, 2023-01-21
    "4D64FEC119C2029067D6E791F8D2585B8783D481", // Stable Release Key (12/bookworm), Ed25519, 2023-01-23
    "04B54C3CDCA79751B16BC6B5225629DF75B188BD", // Archive Automatic Signing Key (13/trixie), RSA 4096, 2025-03-30
    "5E04A1E3223A19A20706E20F9904613D4CCE68C6", // Security Archive Automatic Signing Key (13/trixie), RSA 4096, 2025-03-30
    "41587F7DB8C774BCCF131416762F67A0B2C39DE4", // Stable Release Key (13/trixie), Ed25519, 2025-03-24
];

/// Where Debian and its kin keep the keyring: `.pgp` from 2025 on.
const KEYRINGS: [&str; 2] = ["/usr/share/keyrings/debian-archive-keyring.gpg", "/usr/share/keyrings/debian-archive-keyring.pgp"];

/// `InRelease` of trixie has 140 KiB.
const RELEASE_LIMIT: u64 = 16 << 20;
/// `Packages` of trixie, main, has 54 MiB.
const PACKAGES_LIMIT: u64 = 1 << 30;

/// Whose signature makes an index Debian's.
#[derive(Debug)]
pub struct Trust {
    /// The keys.
    pub keyring: Keyring,
    /// Fingerprints of the primary keys that are allowed: a keyring alone never decides.
    pub fingerprints: Vec<String>,
}

impl Trust {
    /// Debian's keys from `file`, else from this machine's keyring package.
    pub fn debian(file: Option<&Path>) -> Result<Trust> {
        let found = KEYRINGS.iter().map(Path::new).find(|path| path.is_file());
        let path = file.or(found).ok_or_else(|| {
            Error::new(Class::MissingTool, "Debian's archive keyring is not on this machine")
                .detail(format!("expected one of {}", KEYRINGS.join(", ")))
                .hint("apt-get install debian-archive-keyring, or name a copy of it: --keyring FILE")
        })?;
        let keyring = Keyring::parse(&fs_err::read(path)?, &path.display().to_string())?;
        Ok(Trust { keyring, fingerprints: FINGERPRINTS.map(str::to_owned).to_vec() })
    }
}

/// What is needed to read indexes.
pub struct Source<'a> {
    /// Where the repositories lie.
    pub mirrors: &'a Mirrors,
    /// The HTTP client.
    pub client: &'a Client,
    /// Whose signatures count.
    pub trust: &'a Trust,
    /// Seconds since 1970, for `Valid-Until`.
    pub now: i64,
    /// How hard to try.
    pub options: &'a Options,
    /// Where downloads are reported.
    pub progress: &'a dyn Progress,
}

impl Source<'_> {
    /// The index of `repository` and its `Packages` text. `known` is what the lock was resolved from: an older one is refused.
    pub fn read(&self, repository: &str, codename: &str, known: Option<&Index>) -> Result<(Index, String)> {
        let folder = format!("dists/{codename}");
        let url = self.mirrors.url(repository, &format!("{folder}/InRelease"))?;
        let what = without_password(&url);
        let signed = self.get(&url, "InRelease", RELEASE_LIMIT, None)?;
        let allowed: Vec<&str> = self.trust.fingerprints.iter().map(String::as_str).collect();
        let text = self.trust.keyring.verify_cleartext(&signed, &allowed, &what)?;
        let release = Release::parse(&text).context(|| what.clone())?;
        release.check(codename, known.map(|index| index.date.as_str()), self.now).context(|| what.clone())?;
        let (packed, sha256) = self.packages(repository, &folder, &release)?;
        let text = unpack(&packed, &release).context(|| format!("Packages.xz of {codename}"))?;
        Ok((Index { date: release.date, packages: sha256 }, text))
    }

    fn packages(&self, repository: &str, folder: &str, release: &Release) -> Result<(Vec<u8>, Digest)> {
        let name = packages_path(".xz");
        let (sha256, size) =
            *release.files.get(&name).ok_or_else(|| Error::new(Class::Fetch, format!("{folder}/InRelease names no {name}")))?;
        let plain = self.mirrors.url(repository, &format!("{folder}/{name}"))?;
        let by_hash = plain.replace("Packages.xz", &format!("by-hash/SHA256/{sha256}"));
        let label = format!("{folder} Packages");
        // By hash first: the plain name may be of the next index already. Not every mirror carries the hashes.
        let bytes = match release.by_hash.then(|| self.get(&by_hash, &label, size, Some(size))) {
            Some(Ok(bytes)) if Digest::of(&bytes) == sha256 => bytes,
            _ => self.get(&plain, &label, size, Some(size))?,
        };
        let found = Digest::of(&bytes);
        if found != sha256 {
            return Err(Error::new(Class::HashMismatch, format!("{} does not match its InRelease", without_password(&plain)))
                .detail(format!("expected sha256 {sha256} ({size} bytes)"))
                .detail(format!("received sha256 {found} ({} bytes)", bytes.len()))
                .hint("the mirror is being updated, or a proxy keeps an old file: try again in some minutes"));
        }
        Ok((bytes, sha256))
    }

    /// At most one byte more than `limit`, so that a longer answer is seen as such.
    fn get(&self, url: &str, label: &str, limit: u64, total: Option<u64>) -> Result<Vec<u8>> {
        let mut pause = self.options.pause;
        let mut left = self.options.tries.max(1);
        loop {
            let step = self.progress.begin(label, total);
            let said = match self.client.get(url).send() {
                Ok(response) if response.status() == StatusCode::OK => {
                    let mut bytes = Vec::new();
                    match response.take(limit + 1).read_to_end(&mut bytes) {
                        Ok(count) => {
                            step.advance(count as u64);
                            step.done();
                            return Ok(bytes);
                        }
                        Err(error) => error.to_string(),
                    }
                }
                Ok(response) if response.status().is_client_error() => return Err(unfetched(url, &format!("HTTP {}", response.status()))),
                Ok(response) => format!("HTTP {}", response.status()),
                Err(error) => chain(error),
            };
            left -= 1;
            if left == 0 {
                return Err(unfetched(url, &said));
            }
            drop(step);
            std::thread::sleep(pause.min(Duration::from_secs(30)));
            pause *= 2;
        }
    }
}

fn unfetched(url: &str, said: &str) -> Error {
    Error::new(Class::Fetch, format!("{} could not be fetched", without_password(url)))
        .detail(format!("received  {said}"))
        .hint("another mirror: --debian-mirror URL (and --debian-security-mirror URL), the addresses that \"dists\" and \"pool\" lie below")
}

fn packages_path(suffix: &str) -> String {
    format!("main/binary-{ARCHITECTURE}/Packages{suffix}")
}

/// Unpacks to the size that InRelease names, and not a byte more.
fn unpack(packed: &[u8], release: &Release) -> Result<String> {
    let listed = release.files.get(&packages_path("")).copied();
    let limit = listed.map_or(PACKAGES_LIMIT, |(_, size)| size);
    let mut bytes = Vec::new();
    let broken =
        |found: String| Error::new(Class::HashMismatch, "it does not unpack to what InRelease names").detail(format!("found {found}"));
    liblzma::read::XzDecoder::new(packed).take(limit + 1).read_to_end(&mut bytes).map_err(|error| broken(error.to_string()))?;
    if listed.is_some_and(|(sha256, _)| Digest::of(&bytes) != sha256) || bytes.len() as u64 > limit {
        return Err(broken(format!("sha256 {} ({} bytes)", Digest::of(&bytes), bytes.len())));
    }
    String::from_utf8(bytes).map_err(|error| broken(format!("text that is not UTF-8: {error}")))
}
