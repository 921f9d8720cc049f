//! GitLab's OAuth application: made through its API, and in Mattermost's settings after one `up`.

use images::Result;
use tools_double::Double;
use tools_double::gitlab::{Gitlab, TOKEN};

use super::renewed::replaces;
use super::{Site, said};
use crate::world::World;

/// GitLab is played by a double on the server; it is told, and Mattermost alone starts anew, once.
pub fn by_oauth(world: &World) -> Result<()> {
    let site = Site::new(world)?;
    let mut gitlab = Gitlab::default();
    gitlab.allow_list = vec!["mattermost.cicd.local".to_owned()];
    let gitlab = site.lab.server().inside(|| Double::start(gitlab))?;
    site.describe(&format!("[gitlab]\nurl = \"{}\"\nprojects = [\"group/sub/project\"]\n", gitlab.url()))?;
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
    replaces(&site, &["mattermost"])?;
    let before = site.containers()?;
    let again = site.is_up()?;
    assert!(again.contains("nothing had to change") && site.containers()? == before, "{again}");
    assert_eq!(site.inspect(&before["mattermost"])?["RestartCount"], 0);
    let text = said(&apply()?);
    assert!(text.contains("nothing was changed"), "{text}");
    Ok(())
}
