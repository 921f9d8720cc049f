//! GitLab's OAuth application: made through its API, in Mattermost's settings after one `up`, and what people sign in with.

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use images::Result;
use lab::{SERVER, address};
use reqwest::blocking::{Client, Response};
use serde_json::{Value, json};
use tools_double::Double;
use tools_double::gitlab::{Gitlab, TOKEN};
use xtask::server::Endpoint;
use xtask::site::Folder;

use super::renewed::replaces;
use super::{Site, said};
use crate::world::World;

/// GitLab is played by a double on the server, with a certificate of the site's CA; it is told, and Mattermost alone starts anew, once.
pub fn by_oauth(world: &World) -> Result<()> {
    let site = Site::new(world)?;
    let listener = site.lab.server().inside(|| TcpListener::bind((address(SERVER), 0)))??;
    let at = listener.local_addr()?;
    let described = |more: &str| site.describe(&format!("[gitlab]\nurl = \"https://{at}\"\nprojects = [\"group/sub/project\"]\n{more}"));
    described("")?;
    site.xtask("certs").capture()?;
    let pki = site.path().join("pki");
    let (own, strange) = (certificate(&site, "own", Some(&pki))?, certificate(&site, "strange", None)?);
    let wrong = Arc::new(AtomicBool::new(false));
    let tls = {
        let wrong = Arc::clone(&wrong);
        move || {
            let folder = if wrong.load(Ordering::SeqCst) { &strange } else { &own };
            entrypoint::tls::server(&folder.join("mattermost.pem"), &folder.join("mattermost-key.pem")).expect("a certificate")
        }
    };
    let mut gitlab = Gitlab::default();
    gitlab.allow_list = vec!["mattermost.cicd.local".to_owned()];
    gitlab.person = json!({ "id": 42, "username": "ada", "email": "ada@cicd.local", "name": "Ada Lovelace" });
    let gitlab = site.lab.server().inside(|| Double::start_at(listener, Some(Box::new(tls)), gitlab))?;
    site.is_up()?;

    let token = site.path().join("gitlab-token");
    images::file::write_beside(&token, TOKEN.as_bytes(), 0o600)?;
    let apply = || site.xtask(&format!("integrations gitlab --apply --token-file {}", token.display())).capture();
    let text = said(&apply()?);
    assert!(text.contains("now cargo xtask up"), "{text}");
    gitlab.tool(|tool| {
        let [application] = tool.applications.as_slice() else { panic!("{} applications", tool.applications.len()) };
        assert_eq!(site.secret("GITLAB_OAUTH_ID"), application.application_id);
        assert_eq!(site.secret("GITLAB_OAUTH_SECRET"), application.secret);
        assert!(!text.contains(&application.secret), "the secret is said: {text}");
    });

    // It ends well only where the plugin's settings are in the server that runs.
    described("sign-in = true\n")?;
    replaces(&site, &["mattermost"])?;
    let before = site.containers()?;
    let again = site.is_up()?;
    assert!(again.contains("nothing had to change") && site.containers()? == before, "{again}");
    assert_eq!(site.inspect(&before["mattermost"])?["RestartCount"], 0);
    let text = said(&apply()?);
    assert!(text.contains("nothing was changed") && text.contains("has no button for GitLab"), "{text}");

    site.lab.server().inside(|| Browser::new(&site)?.signs_in(&wrong))?
}

/// The folder of a certificate for the server's address: signed by this CA, or by one that nobody knows.
fn certificate(site: &Site, name: &str, ca: Option<&Path>) -> Result<PathBuf> {
    let folder = site.path().join("played").join(name);
    fs_err::create_dir_all(&folder)?;
    fs_err::write(folder.join("site.toml"), format!("format = 1\naddresses = [\"{}\"]\n", address(SERVER)))?;
    let mut certs = site.xtask_for(&folder, "certs");
    if let Some(ca) = ca {
        certs = certs.arg("--ca").arg(ca.join("ca.pem")).arg("--ca-key").arg(ca.join("ca-key.pem"));
    }
    certs.capture()?;
    Ok(folder.join("pki"))
}

/// Somebody's browser, which follows nothing by itself.
struct Browser {
    client: Client,
    chat: String,
}

impl Browser {
    /// On the server.
    fn new(site: &Site) -> Result<Browser> {
        let folder = Folder::new(&site.path());
        let described = xtask::site::parse("site.toml", &fs_err::read_to_string(folder.toml())?, || Ok(Vec::new()))?;
        let endpoint = Endpoint::of_site(&described, &folder, address(SERVER).into())?;
        Ok(Browser { client: endpoint.http(Duration::from_secs(60))?, chat: described.url() })
    }

    fn signs_in(&self, wrong: &AtomicBool) -> Result<()> {
        let first = self.comes_in();
        let account = json!([first["username"], first["auth_service"], first["email"], first["roles"]]);
        assert_eq!(account, json!(["ada", "gitlab", "ada@cicd.local", "system_user"]), "nobody may sign up here, and yet");
        assert_eq!(self.comes_in()["id"], first["id"], "the same account");

        let (back, _) = self.is_sent_back();
        assert_eq!(self.get(&back, None).status(), 400, "in another browser");
        let (back, cookie) = self.is_sent_back();
        wrong.store(true, Ordering::SeqCst);
        assert_eq!(self.get(&back, Some(&cookie)).status(), 500, "Mattermost does not believe this GitLab");
        Ok(())
    }

    /// Goes to GitLab, which sends it back: where to, and the cookie of the beginning.
    fn is_sent_back(&self) -> (String, String) {
        let begin = self.get(&format!("{}/oauth/gitlab/login", self.chat), None);
        assert_eq!(begin.status(), 302);
        let cookie = header(&begin, "set-cookie").split(';').next().expect("a cookie").to_owned();
        let there = self.get(&header(&begin, "location"), None);
        assert_eq!(there.status(), 302, "GitLab knows the application and its redirect URI");
        (header(&there, "location"), cookie)
    }

    /// The whole way; the account.
    fn comes_in(&self) -> Value {
        let (back, cookie) = self.is_sent_back();
        let done = self.get(&back, Some(&cookie));
        assert_eq!((done.status().as_u16(), header(&done, "location")), (307, self.chat.clone()));
        let me = self.client.get(format!("{}/api/v4/users/me", self.chat)).bearer_auth(header(&done, "token"));
        serde_json::from_str(&me.send().expect("an answer").text().expect("a body")).expect("JSON")
    }

    fn get(&self, url: &str, cookie: Option<&str>) -> Response {
        let request = self.client.get(url);
        let request = cookie.into_iter().fold(request, |request, cookie| request.header("cookie", cookie));
        request.send().unwrap_or_else(|error| panic!("{url}: {error}"))
    }
}

fn header(answer: &Response, name: &str) -> String {
    answer.headers().get(name).and_then(|value| value.to_str().ok()).unwrap_or_else(|| panic!("no {name}")).to_owned()
}
