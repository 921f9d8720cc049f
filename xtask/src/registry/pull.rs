//! From a registry into the Engine: a tag is looked up once, and everything after that is by digest.

use images::build::Built;
use images::oci::Manifest;
use images::{Class, Digest, Error, Result};

use super::{Address, Client};
use crate::engine::api::Engine;
use crate::output::Output;
use crate::process::Process;

/// How Docker names an image of a registry whose digest is known.
pub fn by_digest(registry: &Address, image: &Built) -> String {
    let (repository, _) = image.name.rsplit_once(':').unwrap_or((&image.name, ""));
    format!("{}@{}", registry.reference(&registry.repository(repository)), image.manifest.oci())
}

/// Gives the Engine the image `name` (`chatops/coturn:4.6.1`) of a registry. Docker fetches it, by the digest that the tag had when
/// it was looked up here (`docker` is its client), with its own credentials and its own trust; what it has then must be the manifest's configuration.
///
/// # Errors
/// [`Class::Server`] where the registry has no such image or Docker cannot fetch it, [`Class::HashMismatch`] where Docker has another.
pub fn pull(client: &Client, name: &str, engine: &Engine, docker: &Process, out: &mut Output) -> Result<Built> {
    let (repository, tag) = name.rsplit_once(':').unwrap_or((name, "latest"));
    let repository = client.address.repository(repository);
    let reference = client.address.reference(&repository);
    let bytes = client.get(&format!("v2/{repository}/manifests/{tag}"), &repository, name)?.ok_or_else(|| {
        Error::new(Class::Server, format!("{reference}:{tag} is not in the registry"))
            .detail("its tag follows from the version in the lock and from this site's CA")
            .hint("where the images are built: cargo xtask images --ca CA, then cargo xtask images push REGISTRY")
    })?;
    let strange = |why: String| Error::new(Class::Server, format!("{reference}:{tag} is no image that can be used here")).detail(why);
    let manifest: Manifest = serde_json::from_slice(&bytes).map_err(|error| strange(error.to_string()))?;
    let config =
        Digest::from_oci(&manifest.config.digest).ok_or_else(|| strange(format!("its configuration is {}", manifest.config.digest)))?;
    let built = Built { name: name.to_owned(), manifest: Digest::of(&bytes), config, layers: Vec::new(), fresh: false };
    if engine.has_image(&config.oci()) {
        return Ok(built);
    }
    let by_digest = by_digest(&client.address, &built);
    let run = |args: &[&str]| docker.clone().args(args).fails_as(Class::Server).capture();
    run(&["pull", "--quiet", &by_digest]).map_err(|error| match client.address.base.scheme() {
        "https" => error.hint(format!("Docker trusts a private CA in /etc/docker/certs.d/{}/ca.crt", client.address.host)),
        _ => error,
    })?;
    if !engine.has_image(&config.oci()) {
        return Err(Error::new(Class::HashMismatch, format!("the Engine has another image as {by_digest}"))
            .detail(format!("expected the configuration {}", config.oci())));
    }
    // An image without a name goes with the next `docker image prune`.
    run(&["tag", &by_digest, name])?;
    out.say(format!("pulled {by_digest}"));
    Ok(built)
}
