//! Plugins: bundles in `prepackaged_plugins/` are verified, unpacked and, where they are enabled, "run" by this process.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use axum::Router;
use axum::extract::{Path as At, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::{any, post};
use serde_json::{Value, json};

use crate::config::Settings;
use crate::log;
use crate::web::error::AppError;
use crate::web::json::{Answer, ok};
use crate::web::session::Session;
use crate::web::{Shared, go_error, go_not_found};

mod bundle;
mod signature;

/// The id of the Calls plugin.
pub const CALLS: &str = "com.mattermost.calls";
const GITLAB: &str = "com.github.manland.mattermost-plugin-gitlab";
/// Copied to the file store at its first start, and taken from there afterwards (the real server has a longer list).
const TRANSITIONAL: &str = "jenkins";

/// What was installed.
#[derive(Default)]
pub struct Plugins {
    on: bool,
    manifests: BTreeMap<String, Value>,
    errors: BTreeMap<String, String>,
}

impl Plugins {
    /// Verifies and unpacks everything that is enabled. What is not taken has a line in the log and is absent from then on.
    pub fn install(settings: &Settings) -> Self {
        let all = settings.get();
        let plugin_settings = &all["PluginSettings"];
        if plugin_settings["Enable"] != true {
            return Plugins::default();
        }
        let mut plugins = Plugins { on: true, ..Plugins::default() };
        let keys =
            signature::Keys::read(plugin_settings["SignaturePublicKeyFiles"].as_array().into_iter().flatten().filter_map(Value::as_str));
        let folder = PathBuf::from(plugin_settings["Directory"].as_str().unwrap_or("./plugins"));
        // Every start begins with none: what is unpacked is a cache.
        let emptied = if folder.is_dir() { bundle::empty(&folder) } else { fs_err::create_dir(&folder) };
        if let Err(error) = emptied {
            log::error("Failed to start up plugins", &json!({ "error": error.to_string() }));
            return plugins;
        }
        let install = Install {
            settings: plugin_settings,
            keys,
            folder,
            files: all["FileSettings"]["Directory"].as_str().unwrap_or("./data/").into(),
        };
        let stored = install.take_stored(&mut plugins);
        install.prepackaged(&mut plugins, &stored);
        plugins
    }

    /// Of the settings of plugins, what the network may see: none of a plugin that is not installed, and masked what its manifest does
    /// not name.
    pub fn shown(&self, settings: &Value) -> Value {
        let mut shown = serde_json::Map::new();
        for (id, values) in settings.as_object().into_iter().flatten() {
            let Some(manifest) = self.manifests.get(id) else { continue };
            let schema = &manifest["settings_schema"];
            let sections = schema["sections"].as_array().into_iter().flatten().flat_map(|section| section["settings"].as_array());
            let all = sections.chain(schema["settings"].as_array()).flatten();
            let known: Vec<String> = all.filter_map(|setting| setting["key"].as_str()).map(str::to_lowercase).collect();
            let masked = |(key, value): (&String, &Value)| {
                let value = if known.contains(&key.to_lowercase()) { value.clone() } else { crate::config::MASK.into() };
                (key.clone(), value)
            };
            shown.insert(id.clone(), values.as_object().into_iter().flatten().map(masked).collect());
        }
        shown.into()
    }

    /// Whether a plugin is installed.
    pub fn has(&self, id: &str) -> bool {
        self.manifests.contains_key(id)
    }

    /// Notes why an installed plugin does not run.
    pub fn failed(&mut self, id: &str, error: String) {
        log::error("Plugin failed to activate", &json!({ "plugin_id": id, "error": error }));
        self.errors.insert(id.to_owned(), error);
    }

    fn is_on(&self) -> Result<(), AppError> {
        let message = "Plugins have been disabled. Please check your logs for details.";
        if self.on { Ok(()) } else { Err(AppError::new(501, "app.plugin.disabled.app_error", message)) }
    }
}

struct Install<'a> {
    settings: &'a Value,
    keys: signature::Keys,
    folder: PathBuf,
    files: PathBuf,
}

impl Install<'_> {
    fn is_enabled(&self, id: &str) -> bool {
        let state = &self.settings["PluginStates"][id];
        state.as_object().is_some_and(|state| state.iter().any(|(key, on)| key.eq_ignore_ascii_case("enable") && on == true))
    }

    /// What earlier starts left in the file store; with `RequirePluginSignature` it is verified again.
    fn take_stored(&self, plugins: &mut Plugins) -> BTreeSet<String> {
        let mut stored = BTreeSet::new();
        let path = self.files.join(format!("plugins/{TRANSITIONAL}.tar.gz"));
        if !path.is_file() {
            return stored;
        }
        stored.insert(TRANSITIONAL.to_owned());
        if self.settings["RequirePluginSignature"] == true && !self.is_signed(&path) {
            log::error(
                "Failed to sync plugin from file store",
                &json!({ "bundle": path, "error": "VerifyPlugin: Unable to verify plugin signature." }),
            );
            return stored;
        }
        self.unpack(&path, plugins);
        stored
    }

    fn is_signed(&self, path: &Path) -> bool {
        let signature = PathBuf::from(format!("{}.sig", path.display()));
        fs_err::read(path).and_then(|bundle| Ok(self.keys.verify(&bundle, &fs_err::read(signature)?))).unwrap_or(false)
    }

    fn prepackaged(&self, plugins: &mut Plugins, stored: &BTreeSet<String>) {
        let Some(folder) = crate::release::find_folder("prepackaged_plugins") else { return };
        for path in bundle::in_folder(&folder) {
            let refused = |message: &str, error: &str| log::error(message, &json!({ "plugin_path": path, "error": error }));
            if !PathBuf::from(format!("{}.sig", path.display())).is_file() {
                refused("Prepackaged plugin missing required signature file", "no signature");
                continue;
            }
            if !self.is_signed(&path) {
                refused("Failed to install prepackaged plugin", "VerifyPlugin: Unable to verify plugin signature.");
                continue;
            }
            let Ok(manifest) = bundle::manifest(&path) else {
                refused("Failed to install prepackaged plugin", "no manifest");
                continue;
            };
            let id = manifest["id"].as_str().unwrap_or_default();
            if self.settings["AutomaticPrepackagedPlugins"] != true {
                log::info("Not installing prepackaged plugin: automatic prepackaged plugins disabled", &json!({ "plugin_id": id }));
            } else if !self.is_enabled(id) {
                log::info("Not installing prepackaged plugin: not previously enabled", &json!({ "plugin_id": id }));
            } else if !stored.contains(id) {
                if id == TRANSITIONAL {
                    self.keep(&path);
                }
                self.unpack(&path, plugins);
            }
        }
    }

    /// Into the file store, with its signature.
    fn keep(&self, path: &Path) {
        let kept = self.files.join(format!("plugins/{TRANSITIONAL}.tar.gz"));
        let copied = fs_err::create_dir_all(self.files.join("plugins")).and_then(|()| {
            fs_err::copy(path, &kept)?;
            fs_err::copy(format!("{}.sig", path.display()), format!("{}.sig", kept.display()))
        });
        if let Err(error) = copied {
            log::error("Failed to persist prepackaged plugin", &json!({ "error": error.to_string() }));
        }
    }

    fn unpack(&self, path: &Path, plugins: &mut Plugins) {
        match bundle::unpack(path, &self.folder) {
            Ok(manifest) => {
                let id = manifest["id"].as_str().unwrap_or_default().to_owned();
                if self.is_enabled(&id) {
                    log::info("Installing prepackaged plugin", &json!({ "plugin_id": id, "version": manifest["version"] }));
                    plugins.manifests.insert(id, manifest);
                }
            }
            Err(error) => log::error("Failed to unpack plugin", &json!({ "plugin_path": path, "error": error.to_string() })),
        }
    }
}

/// What runs and what failed. A plugin that was not taken is not in it.
pub async fn statuses(State(app): State<Shared>, session: Session) -> Answer {
    session.must_be_admin()?;
    app.plugins.is_on()?;
    let status = |(id, manifest): (&String, &Value)| {
        let error = app.plugins.errors.get(id).cloned().unwrap_or_default();
        json!({
            "plugin_id": id, "cluster_id": "", "plugin_path": format!("plugins/{id}"), "state": if error.is_empty() { 2 } else { 3 },
            "error": error, "name": manifest["name"], "description": manifest["description"], "version": manifest["version"]
        })
    };
    Ok(ok(&app.plugins.manifests.iter().map(status).collect()))
}

/// Manifests.
pub async fn list(State(app): State<Shared>, session: Session) -> Answer {
    session.must_be_admin()?;
    app.plugins.is_on()?;
    let active: Vec<&Value> = app.plugins.manifests.values().collect();
    Ok(ok(&json!({ "active": active, "inactive": [] })))
}

/// What browsers load.
pub async fn webapp(State(app): State<Shared>) -> Answer {
    app.plugins.is_on()?;
    let shown = |(id, manifest): (&String, &Value)| {
        let mut shown = manifest.clone();
        shown["name"] = "".into();
        shown["webapp"] = json!({ "bundle_path": format!("/static/{id}/{id}_cbf29ce484222325_bundle.js") });
        for key in ["description", "server", "settings_schema", "release_notes_url"] {
            shown.as_object_mut().map(|shown| shown.remove(key));
        }
        shown
    };
    Ok(ok(&app.plugins.manifests.iter().filter(|(_, manifest)| manifest["webapp"].is_object()).map(shown).collect()))
}

async fn set_enabled(app: &Shared, session: &Session, id: &str, on: bool) -> Answer {
    session.must_be_admin()?;
    let mut states = app.settings.get()["PluginSettings"]["PluginStates"].clone();
    states[id] = json!({ "Enable": on });
    let patched = app.settings.patch(&json!({ "PluginSettings": { "PluginStates": states } }));
    patched.map_err(|error| AppError::new(500, "app.plugin.config.app_error", error))?;
    Ok(crate::web::json::done())
}

/// Takes effect at the next start; nothing at all where the environment decides.
pub async fn enable(State(app): State<Shared>, session: Session, At(id): At<String>) -> Answer {
    set_enabled(&app, &session, &id, true).await
}

/// The same, off.
pub async fn disable(State(app): State<Shared>, session: Session, At(id): At<String>) -> Answer {
    set_enabled(&app, &session, &id, false).await
}

/// What plugins serve themselves.
pub fn routes() -> Router<Shared> {
    let gitlab = post(gitlab_webhook);
    let routes = Router::new().route(&format!("/plugins/{GITLAB}/webhook"), gitlab).route("/plugins/{id}/{*rest}", any(go_404));
    crate::calls::routes().merge(routes)
}

async fn go_404() -> Response {
    go_not_found()
}

/// 401 unless `X-Gitlab-Token` is the secret in the plugin's settings.
async fn gitlab_webhook(State(app): State<Shared>, headers: HeaderMap) -> Response {
    if !app.plugins.has(GITLAB) {
        return go_not_found();
    }
    let settings = app.settings.get();
    let own = settings["PluginSettings"]["Plugins"][GITLAB].as_object().into_iter().flatten();
    let mut secrets = own.filter(|(key, _)| key.eq_ignore_ascii_case("webhooksecret")).filter_map(|(_, value)| value.as_str());
    let given = headers.get("x-gitlab-token").and_then(|value| value.to_str().ok()).unwrap_or_default();
    if !given.is_empty() && secrets.next() == Some(given) {
        return StatusCode::OK.into_response();
    }
    go_error(401, "Not authorized")
}
