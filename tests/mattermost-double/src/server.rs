//! Starting and ending.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use serde_json::json;
use tokio::net::{TcpListener, UnixListener};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

use crate::calls::Calls;
use crate::config::Settings;
use crate::db::{DataSource, Db};
use crate::log;
use crate::plugins::{CALLS, Plugins};
use crate::release::{self, Release};
use crate::web::{self, App, Shared};
use crate::ws::Hub;

mod tls;

/// Runs until SIGTERM or SIGINT.
pub fn main() -> ExitCode {
    let release = Release::find();
    log::info("API double of Mattermost, not the server itself", &json!({ "version": release.version }));
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return failed(&error.to_string()),
    };
    match runtime.block_on(run(release)) {
        Ok(()) => {
            log::info("Server stopped", &json!({}));
            ExitCode::SUCCESS
        }
        Err(error) => failed(&error),
    }
}

fn failed(error: &str) -> ExitCode {
    log::error("Error: unable to start server", &json!({ "error": error }));
    eprintln!("Error: {error}");
    ExitCode::FAILURE
}

async fn run(release: Release) -> Result<(), String> {
    for (folder, error) in
        [("i18n", "unable to find i18n directory"), ("templates", "Failed find server templates in \"templates\" directory")]
    {
        release::find_folder(folder).ok_or(error)?;
    }
    let config = release::find_folder("config").ok_or("unable to find the config directory")?;
    let settings = Settings::load(&config, std::env::vars())?;
    let db = Db::new(DataSource::parse(&settings.text("SqlSettings", "DataSource")));
    db.open(&release).await?;
    let mut plugins = Plugins::install(&settings);
    let calls = match plugins.has(CALLS) {
        true => Calls::start(&settings).await.map_err(|error| plugins.failed(CALLS, error)).ok(),
        false => None,
    };
    let first_user = tokio::sync::Mutex::new(());
    let app = Arc::new(App { release, settings, db, hub: Hub::default(), plugins, calls: calls.map(Arc::new), first_user });
    if !crate::api::files_are_writable(&app) {
        log::error("Problem with file storage settings", &json!({}));
    }
    serve(app).await
}

async fn serve(app: Shared) -> Result<(), String> {
    let told = ending()?;
    let tls = tls::Keys::of(&app.settings)?;
    let listener = listen(&app.settings.text("ServiceSettings", "ListenAddress")).await?;
    let (stop, stopped) = watch::channel(false);
    let wait = |mut stopped: watch::Receiver<bool>| async move {
        // The sender lives until it is told.
        let _ = stopped.wait_for(|stopped| *stopped).await;
    };
    let mut servers = tokio::task::JoinSet::new();
    let socket = local_socket(&app)?;
    if let Some((listener, _)) = socket.as_ref().map(|(path, listener)| (listener.try_clone(), path)) {
        let listener = listener.and_then(UnixListener::from_std).map_err(|error| error.to_string())?;
        let (router, stopped) = (web::local(&app), stopped.clone());
        servers.spawn(async move { axum::serve(listener, router).with_graceful_shutdown(wait(stopped)).await });
    }
    let router = web::public(&app);
    log::info(
        "Server is listening on",
        &json!({ "address": listener.local_addr().map(|a| a.to_string()).unwrap_or_default(), "API double": true }),
    );
    match tls {
        Some(keys) => {
            let stopped = stopped.clone();
            servers.spawn(async move { axum::serve(keys.over(listener), router).with_graceful_shutdown(wait(stopped)).await })
        }
        None => {
            let stopped = stopped.clone();
            servers.spawn(async move { axum::serve(listener, router).with_graceful_shutdown(wait(stopped)).await })
        }
    };
    told.await;
    app.hub.close();
    // Nobody who has stopped waiting has to be told.
    let _ = stop.send(true);
    let grace = tokio::time::timeout(std::time::Duration::from_secs(2), servers.join_all()).await;
    if grace.is_err() {
        log::info("closing connections that are still open", &json!({}));
    }
    if let Some((path, _)) = socket {
        // A socket that is gone already is what was wanted.
        let _ = fs_err::remove_file(path);
    }
    Ok(())
}

/// Who asks for the end is heard from the start on: a SIGTERM between listening and this would kill.
fn ending() -> Result<impl Future<Output = ()>, String> {
    let mut terminate = signal(SignalKind::terminate()).map_err(|error| error.to_string())?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(|error| error.to_string())?;
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    })
}

/// `:8065` is every address, both families where the machine has them.
async fn listen(address: &str) -> Result<TcpListener, String> {
    let told = |error: std::io::Error| format!("Error starting server, err:listen tcp {address}: {error}");
    match address.strip_prefix(':') {
        Some(port) => {
            let port: u16 = port.parse().map_err(|_| format!("listen tcp: address {address}: unknown port"))?;
            match TcpListener::bind(SocketAddr::from(([0u16; 8], port))).await {
                Ok(listener) => Ok(listener),
                Err(_) => TcpListener::bind(SocketAddr::from(([0u8; 4], port))).await.map_err(told),
            }
        }
        None => TcpListener::bind(address).await.map_err(told),
    }
}

type Socket = (PathBuf, std::os::unix::net::UnixListener);

/// Readable for its owner alone; one that a killed server left is replaced.
fn local_socket(app: &App) -> Result<Option<Socket>, String> {
    if !app.settings.is("ServiceSettings", "EnableLocalMode") {
        return Ok(None);
    }
    let path = PathBuf::from(app.settings.text("ServiceSettings", "LocalModeSocketLocation"));
    let told = |error: &dyn std::fmt::Display| format!("unable to start local mode server: listen unix {}: {error}", path.display());
    if path.exists() {
        fs_err::remove_file(&path).map_err(|error| told(&error))?;
    }
    let listener = std::os::unix::net::UnixListener::bind(&path).map_err(|error| told(&error))?;
    listener.set_nonblocking(true).map_err(|error| told(&error))?;
    fs_err::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o600)).map_err(|error| told(&error))?;
    Ok(Some((path, listener)))
}
