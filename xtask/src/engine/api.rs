//! The Engine's API: only what the project asks of it.

use std::path::Path;

use bollard::Docker;
use futures_util::TryStreamExt;
use images::{Class, Digest, Error, Result};

use super::project::refused;

/// A connection to the Engine of `DOCKER_HOST`, else of Docker's current context.
pub struct Engine {
    docker: Docker,
    runtime: tokio::runtime::Runtime,
}

fn unreachable(error: &bollard::errors::Error) -> Error {
    Error::new(Class::Engine, "the Docker Engine does not answer")
        .detail(error.to_string())
        .hint("start it (systemctl start docker), point DOCKER_HOST to another, or let `cargo xtask ci --install` bring one")
}

impl Engine {
    /// Connects and asks for an answer.
    pub fn connect() -> Result<Engine> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let _inside = runtime.enter();
        let docker = Docker::connect_with_defaults().map_err(|error| unreachable(&error))?;
        runtime.block_on(docker.ping()).map_err(|error| unreachable(&error))?;
        drop(_inside);
        Ok(Engine { docker, runtime })
    }

    pub(super) fn docker(&self) -> &Docker {
        &self.docker
    }

    pub(super) fn block_on<T>(&self, future: impl Future<Output = T>) -> T {
        self.runtime.block_on(future)
    }

    /// Whether the Engine has an image with this ID, `sha256:…`.
    pub fn has_image(&self, id: &str) -> bool {
        self.block_on(self.docker.inspect_image(id)).is_ok()
    }

    /// Loads an image of a layout, and checks that what the Engine has is what was built: its ID is the configuration's digest.
    pub fn load(&self, layout: &Path, name: &str, config: &Digest) -> Result<()> {
        let mut file = tempfile::tempfile()?;
        images::archive::write(layout, &[name.to_owned()], std::io::BufWriter::with_capacity(1 << 20, &file))?;
        std::io::Seek::rewind(&mut file)?;
        let failed = refused(format!("the Engine did not take {name}"));
        self.runtime.block_on(async {
            let bytes = tokio_util::codec::FramedRead::with_capacity(
                tokio::fs::File::from_std(file),
                tokio_util::codec::BytesCodec::new(),
                1 << 20,
            );
            let body = bollard::body_try_stream(bytes.map_ok(bytes::BytesMut::freeze));
            let options = bollard::query_parameters::ImportImageOptionsBuilder::default().quiet(true).build();
            self.docker.import_image(options, body, None).try_collect::<Vec<_>>().await.map_err(&failed)?;
            let found = self.docker.inspect_image(name).await.map_err(&failed)?.id.unwrap_or_default();
            if found != config.oci() {
                return Err(Error::new(Class::HashMismatch, format!("the Engine has another image as {name}"))
                    .detail(format!("expected {}", config.oci()))
                    .detail(format!("found    {found}")));
            }
            Ok(())
        })
    }
}
