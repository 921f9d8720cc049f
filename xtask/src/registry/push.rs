//! From a layout to a registry: blobs side by side, then the manifest, then the papers that hang on it.

use std::collections::BTreeMap;
use std::io::{Cursor, Read, Seek};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use images::contents::Image;
use images::digest::Digest;
use images::file::Beside;
use images::oci::{self, Descriptor, Manifest};
use images::progress::Progress;
use images::sbom::Referrer;
use images::{Class, Context, Error, Result};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::client::Arrival;
use super::compress::Compression;
use super::{Address, Client};

/// Readable and seekable, from memory or a file.
trait Content: Read + Seek + Send {}
impl<T: Read + Seek + Send> Content for T {}

/// An image as a registry will have it.
pub struct Parcel {
    /// `chatops/coturn:4.6.1`.
    pub name: String,
    repository: String,
    tag: String,
    manifest: Vec<u8>,
    blobs: Vec<Blob>,
    /// What hangs on it.
    pub papers: Vec<Referrer>,
}

struct Blob {
    digest: Digest,
    size: u64,
    from: Source,
}

enum Source {
    File(PathBuf),
    Bytes(Vec<u8>),
}

impl Blob {
    fn bytes(bytes: &[u8]) -> Self {
        Blob { digest: Digest::of(bytes), size: bytes.len() as u64, from: Source::Bytes(bytes.to_vec()) }
    }

    fn open(&self) -> Result<Box<dyn Content + '_>> {
        Ok(match &self.from {
            Source::File(path) => Box::new(fs_err::File::open(path)?),
            Source::Bytes(bytes) => Box::new(Cursor::new(bytes.as_slice())),
        })
    }
}

/// What became of an image.
#[derive(Debug, Serialize)]
pub struct Pushed {
    /// As Docker pulls it, whatever becomes of the tag: `HOST/chatops/coturn@sha256:…`.
    pub reference: String,
    /// `HOST/chatops/coturn:4.6.1`.
    pub tag: String,
    /// Bytes that were sent.
    pub sent: u64,
    /// Blobs that were sent.
    pub blobs_sent: usize,
    /// Blobs that another repository of the registry had.
    pub blobs_mounted: usize,
    /// Blobs that were there.
    pub blobs_there: usize,
    /// Digests of the manifests that hang on it.
    pub papers: Vec<String>,
}

impl Parcel {
    /// An image of the layout at `root`; compressed layers are kept in `cache`, for the next time.
    pub fn pack(
        image: &Image,
        root: &Path,
        address: &Address,
        compression: Compression,
        cache: &Path,
        threads: usize,
        progress: &dyn Progress,
    ) -> Result<Self> {
        let mut manifest = Manifest::deserialize(&image.manifest)
            .map_err(|error| Error::new(Class::Usage, format!("the manifest of {}: {error}", image.name)))?;
        let place = |digest: &Digest| root.join("blobs/sha256").join(digest.to_string());
        let mut blobs =
            vec![Blob { digest: image.config_digest, size: manifest.config.size, from: Source::File(place(&image.config_digest)) }];
        for (layer, written) in image.layers.iter().zip(&mut manifest.layers) {
            let mut blob = Blob { digest: layer.digest, size: layer.size, from: Source::File(place(&layer.digest)) };
            if compression != Compression::None {
                blob = compressed(&blob, compression, cache, threads, progress).context(|| format!("layer {}", layer.name))?;
                *written = Descriptor {
                    digest: blob.digest.oci(),
                    size: blob.size,
                    media_type: format!("{}{}", oci::LAYER, compression.suffix()),
                    ..written.clone()
                };
            }
            blobs.push(blob);
        }
        let (name, tag) = image.name.rsplit_once(':').unwrap_or((&image.name, "latest"));
        let manifest = if compression == Compression::None { oci::canonical(&image.manifest) } else { oci::canonical(&manifest) };
        if compression == Compression::None && Digest::of(&manifest) != image.digest {
            return Err(Error::new(Class::Usage, format!("the manifest of {} is not written as this xtask writes it", image.name)));
        }
        Ok(Parcel {
            name: image.name.clone(),
            repository: address.repository(name),
            tag: tag.to_owned(),
            manifest,
            blobs,
            papers: Vec::new(),
        })
    }

    /// Points to the manifest that the registry will have.
    pub fn descriptor(&self) -> Descriptor {
        descriptor(&self.manifest)
    }
}

fn descriptor(manifest: &[u8]) -> Descriptor {
    Descriptor {
        annotations: BTreeMap::new(),
        digest: Digest::of(manifest).oci(),
        media_type: oci::MANIFEST.to_owned(),
        platform: None,
        size: manifest.len() as u64,
    }
}

/// A layer's compressed form, from the cache or made now.
fn compressed(layer: &Blob, kind: Compression, cache: &Path, threads: usize, progress: &dyn Progress) -> Result<Blob> {
    fs_err::create_dir_all(cache)?;
    // A file that was cut short has no name; one that was changed has another digest, and the layer's old digest is not believed.
    let path = cache.join(format!("{}{}", layer.digest, kind.suffix()));
    if !path.is_file() {
        let step = progress.begin(&format!("compressing {}", &layer.digest.short()), Some(layer.size));
        let beside = Beside::create(cache, 0o644)?;
        let source = images::digest::Hashing::new(layer.open()?);
        let mut source = Counted { inner: source, tell: &|bytes| step.advance(bytes) };
        kind.stream(&mut source, std::io::BufWriter::new(beside.file()), threads)?;
        if source.inner.digest() != layer.digest {
            return Err(Error::new(Class::HashMismatch, format!("blob {} of the layout is damaged", layer.digest.oci()))
                .hint("remove the folder; the next build makes it again"));
        }
        beside.publish(&path)?;
        step.done();
    }
    let (digest, size) = Digest::of_file(&path)?;
    Ok(Blob { digest, size, from: Source::File(path) })
}

struct Counted<'a, R> {
    inner: R,
    tell: &'a (dyn Fn(u64) + Sync),
}

impl<R: Read> Read for Counted<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let count = self.inner.read(buffer)?;
        (self.tell)(count as u64);
        Ok(count)
    }
}

/// Which repository of the registry is known to have a blob.
#[derive(Default)]
pub struct Known(Mutex<BTreeMap<Digest, String>>);

impl Known {
    fn note(&self, digest: &Digest, repository: &str) {
        if let Ok(mut known) = self.0.lock() {
            known.entry(*digest).or_insert_with(|| repository.to_owned());
        }
    }

    fn elsewhere(&self, digest: &Digest, repository: &str) -> Option<String> {
        let known = self.0.lock().ok()?;
        known.get(digest).filter(|known| *known != repository).cloned()
    }
}

/// Pushes an image and what hangs on it. `known` is shared by all images of one call.
pub fn push(client: &Client, parcel: &Parcel, known: &Known, connections: usize, progress: &dyn Progress) -> Result<Pushed> {
    let mut pushed = Pushed {
        reference: format!("{}@{}", client.address.reference(&parcel.repository), Digest::of(&parcel.manifest).oci()),
        tag: format!("{}:{}", client.address.reference(&parcel.repository), parcel.tag),
        sent: 0,
        blobs_sent: 0,
        blobs_mounted: 0,
        blobs_there: 0,
        papers: Vec::new(),
    };
    let step = progress.begin(&format!("pushing {}", parcel.name), Some(parcel.blobs.iter().map(|blob| blob.size).sum()));
    let arrivals = bring(client, &parcel.repository, &parcel.blobs, known, connections, &|bytes| step.advance(bytes))
        .context(|| format!("pushing {}", parcel.name))?;
    for (blob, arrival) in parcel.blobs.iter().zip(arrivals) {
        match arrival {
            Arrival::Sent => (pushed.sent, pushed.blobs_sent) = (pushed.sent + blob.size, pushed.blobs_sent + 1),
            Arrival::Mounted => pushed.blobs_mounted += 1,
            Arrival::There => pushed.blobs_there += 1,
        }
    }
    client.put_manifest(&parcel.repository, &parcel.tag, oci::MANIFEST, &parcel.manifest)?;
    step.done();
    for paper in &parcel.papers {
        pushed.papers.push(hang(client, parcel, paper, known).context(|| format!("a paper of {}", parcel.name))?);
    }
    Ok(pushed)
}

/// Brings blobs, several at once; how each arrived, in their order.
fn bring(
    client: &Client,
    repository: &str,
    blobs: &[Blob],
    known: &Known,
    connections: usize,
    sent: &(dyn Fn(u64) + Sync),
) -> Result<Vec<Arrival>> {
    // The largest first: what takes longest decides when all is done.
    let mut order: Vec<usize> = (0..blobs.len()).collect();
    order.sort_by_key(|at| std::cmp::Reverse(blobs[*at].size));
    let next = AtomicUsize::new(0);
    let work = || -> Result<Vec<(usize, Arrival)>> {
        let mut done = Vec::new();
        while let Some(at) = order.get(next.fetch_add(1, Ordering::Relaxed)) {
            let blob = &blobs[*at];
            let from = known.elsewhere(&blob.digest, repository);
            let arrival = client.put_blob(repository, (&blob.digest, blob.size), from.as_deref(), blob.open()?, sent);
            if arrival.is_err() {
                // What is under way ends; nothing new begins.
                next.store(order.len(), Ordering::Relaxed);
            }
            known.note(&blob.digest, repository);
            done.push((*at, arrival?));
        }
        Ok(done)
    };
    let mut all = Vec::new();
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..connections.clamp(1, blobs.len().max(1))).map(|_| scope.spawn(work)).collect();
        threads.into_iter().try_for_each(|thread| {
            all.extend(thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))?);
            Ok::<_, Error>(())
        })
    })?;
    all.sort_by_key(|(at, _)| *at);
    Ok(all.into_iter().map(|(_, arrival)| arrival).collect())
}

/// Hangs a paper on an image: by the registry's own list of referrers, or, where it keeps none, by the tag that
/// distribution-spec 1.1 has for that ("Referrers Tag Schema").
fn hang(client: &Client, parcel: &Parcel, paper: &Referrer, known: &Known) -> Result<String> {
    let blobs: Vec<Blob> = paper.blobs.iter().map(|bytes| Blob::bytes(bytes)).collect();
    bring(client, &parcel.repository, &blobs, known, 1, &|_| {})?;
    let own = descriptor(&paper.manifest);
    if !client.put_manifest(&parcel.repository, &own.digest, oci::MANIFEST, &paper.manifest)? {
        let subject = parcel.descriptor().digest.replace(':', "-");
        let path = format!("v2/{}/manifests/{subject}", parcel.repository);
        let before = client.get(&path, &parcel.repository, "the list of papers")?;
        let index = listed(before.as_deref(), paper, &own)?;
        client.put_manifest(&parcel.repository, &subject, oci::INDEX, &index)?;
    }
    Ok(own.digest)
}

/// The list of papers with this one in it; what others have put there stays.
fn listed(before: Option<&[u8]>, paper: &Referrer, own: &Descriptor) -> Result<Vec<u8>> {
    #[derive(Deserialize)]
    struct List {
        #[serde(default)]
        manifests: Vec<Value>,
    }
    let mut all = match before {
        Some(bytes) => serde_json::from_slice::<List>(bytes)
            .map(|list| list.manifests)
            .map_err(|error| Error::new(Class::Server, "the registry's list of papers is not an index").detail(error.to_string()))?,
        None => Vec::new(),
    };
    all.retain(|one| one["digest"] != own.digest);
    all.push(json!({
        "annotations": paper.annotations,
        "artifactType": paper.artifact_type,
        "digest": own.digest,
        "mediaType": own.media_type,
        "size": own.size,
    }));
    all.sort_by_key(|one| one["digest"].as_str().map(str::to_owned));
    Ok(oci::canonical(&json!({ "manifests": all, "mediaType": oci::INDEX, "schemaVersion": 2 })))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_of_papers_keeps_what_others_put_there_and_has_each_once() {
        let paper = Referrer { artifact_type: "a/b".to_owned(), annotations: BTreeMap::new(), manifest: b"{}".to_vec(), blobs: vec![] };
        let own = descriptor(&paper.manifest);
        let others = br#"{"manifests": [{"digest": "sha256:zz", "artifactType": "their/signature"}], "schemaVersion": 2}"#;
        let once = listed(Some(others), &paper, &own).unwrap();
        assert_eq!(once, listed(Some(&once), &paper, &own).unwrap());
        let value: Value = serde_json::from_slice(&once).unwrap();
        let types: Vec<&str> = value["manifests"].as_array().unwrap().iter().map(|one| one["artifactType"].as_str().unwrap()).collect();
        assert_eq!(types, ["a/b", "their/signature"]);
        assert!(listed(Some(b"<html>"), &paper, &own).is_err());
    }
}
