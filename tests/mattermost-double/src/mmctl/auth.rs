//! Signing in to a server over the network: what `auth login` keeps, later commands use.

use std::io::Write;
use std::os::unix::fs::DirBuilderExt;
use std::path::PathBuf;

use fs_err::os::unix::fs::OpenOptionsExt;
use serde_json::{Value, json};

use super::client::Client;
use super::{Outcome, text};

/// `$XDG_CONFIG_HOME/mmctl/config`, else below the home folder.
fn file() -> PathBuf {
    let folder = std::env::var_os("XDG_CONFIG_HOME").filter(|folder| !folder.is_empty()).map(PathBuf::from);
    let home = || PathBuf::from(std::env::var_os("HOME").unwrap_or_default()).join(".config");
    folder.unwrap_or_else(home).join("mmctl/config")
}

/// The server that was signed in to last.
pub fn client() -> Option<Client> {
    let kept: Value = serde_json::from_str(&fs_err::read_to_string(file()).ok()?).ok()?;
    let active = kept.as_object()?.values().find(|one| one["active"] == true)?;
    Some(Client::remote(text(active, "instanceUrl"), text(active, "authToken")))
}

/// With a token from a file: the one way that the double knows.
pub fn login(url: Option<&str>, name: Option<&str>, token_file: Option<&str>) -> Outcome {
    let url = url.ok_or("accepts 1 arg(s), received 0")?.trim_end_matches('/');
    let name = name.ok_or("required flag(s) \"name\" not set")?;
    let token_file = token_file.ok_or("the API double takes an --access-token-file alone")?;
    let token = fs_err::read_to_string(token_file).map_err(|error| format!("access token could not be read: {error}"))?;
    let token = token.trim();
    let client = Client::remote(url, token);
    client.get("/system/ping").map_err(|refusal| format!("could not get instance status: {}", refusal.message))?;
    let me = client.get("/users/me")?;
    let kept = json!({ name: {
        "name": name, "username": text(&me, "username"), "authToken": token, "authMethod": "T", "instanceUrl": url, "active": true
    } });
    let file = file();
    let folder = file.parent().map(PathBuf::from).unwrap_or_default();
    let refused = |error: std::io::Error| error.to_string();
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(&folder)
        .map_err(|error| format!("mkdir {}: {error}", folder.display()))?;
    let open = fs_err::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&file);
    open.and_then(|mut file| file.write_all(kept.to_string().as_bytes())).map_err(refused)?;
    println!("\n  credentials for \"{name}\": \"{}@{url}\" stored\n", text(&me, "username"));
    Ok(())
}

/// Forgets every server.
pub fn clean() -> Outcome {
    match fs_err::remove_file(file()) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error.to_string()),
        _ => {}
    }
    println!("\nAll credentials were successfully removed");
    Ok(())
}
