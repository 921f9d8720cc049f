//! Layers → OCI documents (image-spec 1.1): config, manifest, index, in canonical JSON.
//!
//! Canonical means: no white space, keys in byte order, no floats. Fields stand here in that order, maps are sorted, and
//! Docker's `Healthcheck` is written although OCI only reserves its name: Docker honours it, and nothing else would.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::digest::Digest;
use crate::spec::{self, Spec};

/// Media type of the index.
pub const INDEX: &str = "application/vnd.oci.image.index.v1+json";
/// Media type of a manifest.
pub const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
/// Media type of an image configuration.
pub const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
/// Media type of an uncompressed layer.
pub const LAYER: &str = "application/vnd.oci.image.layer.v1.tar";
/// Annotation that names a manifest in an index.
pub const REF_NAME: &str = "org.opencontainers.image.ref.name";

/// Points to a blob.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Descriptor {
    /// Free text; on manifests in an index the name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
    /// `sha256:` and 64 hex digits.
    pub digest: String,
    /// What it is.
    #[serde(rename = "mediaType")]
    pub media_type: String,
    /// Platform, on manifests in an index.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub platform: Option<Platform>,
    /// Bytes.
    pub size: u64,
}

/// For which machines a manifest is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Platform {
    /// GOARCH.
    pub architecture: String,
    /// GOOS.
    pub os: String,
}

/// `index.json`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Index {
    /// Manifests by name.
    pub manifests: Vec<Descriptor>,
    /// [`INDEX`].
    #[serde(rename = "mediaType")]
    pub media_type: String,
    /// 2.
    #[serde(rename = "schemaVersion")]
    pub schema_version: u32,
}

/// A manifest.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// The configuration.
    pub config: Descriptor,
    /// From the bottom up.
    pub layers: Vec<Descriptor>,
    /// [`MANIFEST`].
    #[serde(rename = "mediaType")]
    pub media_type: String,
    /// 2.
    #[serde(rename = "schemaVersion")]
    pub schema_version: u32,
}

/// An image configuration.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Image {
    /// GOARCH.
    pub architecture: String,
    /// What a container runs with.
    pub config: Runtime,
    /// RFC 3339.
    pub created: String,
    /// One entry a layer.
    pub history: Vec<History>,
    /// GOOS.
    pub os: String,
    /// The layers' diff IDs.
    pub rootfs: RootFs,
}

/// `config` of an image configuration.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Runtime {
    /// Arguments.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub cmd: Vec<String>,
    /// Exec form.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub entrypoint: Vec<String>,
    /// `NAME=value`, sorted.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub env: Vec<String>,
    /// Such as `3478/udp`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub exposed_ports: BTreeMap<String, Empty>,
    /// Docker's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub healthcheck: Option<Healthcheck>,
    /// Labels.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// Such as `SIGTERM`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stop_signal: Option<String>,
    /// `uid:gid`.
    pub user: String,
    /// Absolute paths.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub volumes: BTreeMap<String, Empty>,
    /// Absolute path.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub working_dir: Option<String>,
}

/// Go's empty struct: `{}`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Empty {}

/// Docker's health check; times in nanoseconds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Healthcheck {
    /// Nanoseconds between two checks.
    pub interval: u64,
    /// Failures in a row that make it unhealthy.
    pub retries: u32,
    /// Nanoseconds after the start in which failures do not count.
    pub start_period: u64,
    /// `CMD` and the command.
    pub test: Vec<String>,
    /// Nanoseconds after which a check has failed.
    pub timeout: u64,
}

/// What a layer is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct History {
    /// The layer's name.
    pub comment: String,
    /// RFC 3339.
    pub created: String,
    /// Who made it.
    pub created_by: String,
}

/// The layers of an image.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RootFs {
    /// Digests of the uncompressed layers, from the bottom up.
    pub diff_ids: Vec<String>,
    /// `layers`.
    #[serde(rename = "type")]
    pub kind: String,
}

/// A document in canonical JSON.
pub fn canonical(document: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(document).unwrap_or_else(|error| unreachable!("these documents are plain data: {error}"))
}

/// A layer as documents see it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LayerRef {
    /// Its name.
    pub name: String,
    /// Digest of the uncompressed tar.
    pub digest: Digest,
    /// Bytes.
    pub size: u64,
}

/// The configuration of an image. `created` is in seconds since 1970; `labels` and `environment` come on top of the spec's.
pub fn image(
    spec: &Spec,
    layers: &[LayerRef],
    created: u64,
    labels: BTreeMap<String, String>,
    environment: BTreeMap<String, String>,
) -> Image {
    let config = &spec.config;
    let set = |items: &[String]| items.iter().map(|item| (item.clone(), Empty {})).collect();
    let mut all = config.labels.clone();
    all.insert("org.opencontainers.image.title".into(), spec.title.clone());
    all.extend(labels);
    let mut env = config.environment.clone();
    env.extend(environment);
    let user = spec.account_id(&config.user).unwrap_or(0);
    let runtime = Runtime {
        cmd: config.command.clone(),
        entrypoint: config.entrypoint.clone(),
        env: env.into_iter().map(|(name, value)| format!("{name}={value}")).collect(),
        exposed_ports: set(&config.ports),
        healthcheck: config.healthcheck.as_ref().map(healthcheck),
        labels: all,
        stop_signal: config.stop_signal.clone(),
        user: format!("{user}:{user}"),
        volumes: set(&config.volumes),
        working_dir: config.working_directory.clone(),
    };
    let created = rfc3339(created);
    Image {
        architecture: "amd64".into(),
        config: runtime,
        history: layers.iter().map(|layer| history(&layer.name, &created)).collect(),
        os: "linux".into(),
        rootfs: RootFs { diff_ids: layers.iter().map(|layer| layer.digest.oci()).collect(), kind: "layers".into() },
        created,
    }
}

/// What a configuration tells of a layer; `created` is in RFC 3339.
pub fn history(layer: &str, created: &str) -> History {
    History { comment: layer.to_owned(), created: created.to_owned(), created_by: "cargo xtask images".into() }
}

fn healthcheck(check: &spec::Healthcheck) -> Healthcheck {
    let nanoseconds = |seconds: u32| u64::from(seconds) * 1_000_000_000;
    Healthcheck {
        interval: nanoseconds(check.interval),
        retries: check.retries,
        start_period: nanoseconds(check.start_period),
        test: std::iter::once("CMD".to_owned()).chain(check.command.iter().cloned()).collect(),
        timeout: nanoseconds(check.timeout),
    }
}

/// The manifest of an image whose configuration has these bytes.
pub fn manifest(config: &[u8], layers: &[LayerRef]) -> Manifest {
    let descriptor = |digest: Digest, media_type: &str, size| Descriptor {
        annotations: BTreeMap::new(),
        digest: digest.oci(),
        media_type: media_type.into(),
        platform: None,
        size,
    };
    Manifest {
        config: descriptor(Digest::of(config), CONFIG, config.len() as u64),
        layers: layers.iter().map(|layer| descriptor(layer.digest, LAYER, layer.size)).collect(),
        media_type: MANIFEST.into(),
        schema_version: 2,
    }
}

/// Seconds since 1970 as RFC 3339 in UTC (the calendar arithmetic is Howard Hinnant's `civil_from_days`).
pub fn rfc3339(seconds: u64) -> String {
    let (days, second) = (seconds / 86_400 + 719_468, seconds % 86_400);
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    format!("{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}Z", second / 3600, second / 60 % 60, second % 60)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_those_of_the_calendar() {
        for (seconds, expected) in [
            (0, "1970-01-01T00:00:00Z"),
            (951_782_400, "2000-02-29T00:00:00Z"),
            (1_700_000_000, "2023-11-14T22:13:20Z"),
            (4_107_542_399, "2100-02-28T23:59:59Z"),
        ] {
            assert_eq!(rfc3339(seconds), expected);
        }
    }

    /// What `format = 1` promises of the documents, as a whole: keys in byte order, no white space.
    #[test]
    fn documents_are_canonical() {
        let spec = Spec::parse(
            "format = 1\ntitle = \"T\"\nversion = \"program:p\"\n[config]\nuser = \"nobody\"\nports = [\"3478/udp\"]\nentrypoint = [\"/p\"]\n\
             [config.environment]\nB = \"2\"\nA = \"1\"\n[config.healthcheck]\ncommand = [\"/p\", \"healthcheck\"]\ninterval = 15\ntimeout = 5\nstart-period = 10\nretries = 3\n",
            "image.toml",
        )
        .expect("valid");
        let layer = LayerRef { name: "base".into(), digest: Digest::of("layer"), size: 5 };
        let image = canonical(&image(&spec, std::slice::from_ref(&layer), 0, BTreeMap::new(), BTreeMap::new()));
        insta::assert_snapshot!(String::from_utf8_lossy(&image), @r#"{"architecture":"amd64","config":{"Entrypoint":["/p"],"Env":["A=1","B=2"],"ExposedPorts":{"3478/udp":{}},"Healthcheck":{"Interval":15000000000,"Retries":3,"StartPeriod":10000000000,"Test":["CMD","/p","healthcheck"],"Timeout":5000000000},"Labels":{"org.opencontainers.image.title":"T"},"User":"65534:65534"},"created":"1970-01-01T00:00:00Z","history":[{"comment":"base","created":"1970-01-01T00:00:00Z","created_by":"cargo xtask images"}],"os":"linux","rootfs":{"diff_ids":["sha256:dac1d7cfa95021764849fd102524e141488c5e3a90f861dbb5a12d9ac8584f85"],"type":"layers"}}"#);
        let manifest = canonical(&manifest(&image, &[layer]));
        let value: serde_json::Value = serde_json::from_slice(&manifest).expect("JSON");
        assert_eq!(serde_json::to_vec(&value).expect("JSON"), manifest, "keys are not in byte order");
    }
}
