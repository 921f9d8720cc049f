//! `cargo xtask integrations`: the other side, at Jenkins, GitLab and SonarQube.

use std::path::{Path, PathBuf};

use images::{Class, Error, Result};
use url::Url;

use crate::integrations::api::Scheme;
use crate::integrations::{self, Api, Applied, Bundle, gitlab, jenkins, sonarqube};
use crate::output::Output;
use crate::provision::Tool;
use crate::server::{Client, Endpoint, Patience};
use crate::site::model::Gitlab;
use crate::site::secrets::{self, Name, Secret, Secrets};
use crate::site::{Folder, Site, SiteArgs};

/// Tell Jenkins, GitLab and SonarQube where the chat is
///
/// Writes ready files and the exact steps into integrations/NAME in the site's folder. With --apply it also tells the tool, and reads back
/// what it has taken; what is right already is not told again.
#[derive(clap::Args)]
#[command(arg_required_else_help = true)]
pub struct Args {
    #[command(subcommand)]
    tool: Verb,
}

#[derive(clap::Subcommand)]
enum Verb {
    Jenkins(JenkinsArgs),
    Gitlab(GitlabArgs),
    Sonarqube(SonarqubeArgs),
}

/// What each of them takes.
#[derive(clap::Args)]
struct Common {
    #[command(flatten)]
    site: SiteArgs,
    /// Tell the tool through its API, and read it back
    #[arg(long, requires = "token_file")]
    apply: bool,
    /// File (mode 0600) with a token of the tool's
    #[arg(long, value_name = "FILE", requires = "apply")]
    token_file: Option<PathBuf>,
    /// PEM file with the roots that the tool's own certificate leads to; default: the site's CA
    #[arg(long, value_name = "FILE", requires = "apply")]
    ca: Option<PathBuf>,
}

/// Its Mattermost plugin: verdicts of builds and quality gates, each in its channel
///
/// The token file holds USER:TOKEN, an API token of an administrator. The three files of Jenkins' are changed with or without it.
#[derive(clap::Args)]
struct JenkinsArgs {
    #[command(flatten)]
    common: Common,
    /// Merge unclassified.mattermostNotifier into this jenkins.yaml, and leave every other line as it is
    #[arg(long, value_name = "FILE")]
    jenkins_yaml: Option<PathBuf>,
    /// Put the webhook's address into this folder of Jenkins' secret files: a reload reads it
    #[arg(long, value_name = "DIR")]
    secrets_dir: Option<PathBuf>,
    /// Put the webhook's address into this file for docker run --env-file: only a restart reads it
    #[arg(long, value_name = "FILE")]
    jenkins_env: Option<PathBuf>,
}

/// Events of projects and groups to their channels, and the OAuth application of the GitLab plugin
///
/// The token is a personal access token with the scope api: of a Maintainer for projects, an Owner for groups, an administrator for the
/// application and for looking whether GitLab may ask private addresses.
#[derive(clap::Args)]
struct GitlabArgs {
    #[command(flatten)]
    common: Common,
    /// Revoke the OAuth application and make another; everybody links their account again
    #[arg(long, requires = "apply")]
    reauthorise: bool,
    /// Set up GitLab's own slash commands for each project, on the running server too
    #[arg(long, requires = "apply")]
    slash_commands: bool,
    /// Send a message to the channel as GitLab's events come, with or without --apply
    #[arg(long)]
    test_event: bool,
}

/// Webhooks to the alert gateway, and trust for SonarQube's Java
///
/// The token is a user token of an account with Administer System.
#[derive(clap::Args)]
struct SonarqubeArgs {
    #[command(flatten)]
    common: Common,
}

/// Runs the verb.
pub fn run(args: &Args, out: &mut Output) -> Result<()> {
    match &args.tool {
        Verb::Jenkins(args) => jenkins(args, out),
        Verb::Gitlab(args) => gitlab(args, out),
        Verb::Sonarqube(args) => sonarqube(args, out),
    }
}

fn jenkins(args: &JenkinsArgs, out: &mut Output) -> Result<()> {
    let at = At::open(&args.common, Tool::Jenkins, out)?;
    let Some(ours) = at.site.jenkins.as_ref() else { return Err(integrations::not_in_site(Tool::Jenkins)) };
    let wanted = jenkins::Wanted::of(ours, &at.secrets);
    if wanted.builds.is_none() {
        out.say("Jenkins has no webhook yet: cargo xtask provision makes it, and then the files with its address come too");
    }
    let mut edited = false;
    let mut edit = |path: &Option<PathBuf>, with: &dyn Fn(&Path, &jenkins::Wanted) -> Result<bool>| -> Result<()> {
        let Some(path) = path else { return Ok(()) };
        let new = with(path, &wanted)?;
        edited |= new;
        out.result(format!("{} {}", if new { "changed" } else { "already right:" }, path.display()));
        Ok(())
    };
    edit(&args.jenkins_yaml, &jenkins::merge)?;
    edit(&args.secrets_dir, &jenkins::put_secret)?;
    edit(&args.jenkins_env, &jenkins::put_line)?;
    if let Some((mut api, mut applied)) = at.api(&args.common, &ours.url, Scheme::Basic)? {
        let changes = jenkins::apply(&mut api, &wanted, edited, &mut applied)?;
        tell(&api, &applied, &changes, out)?;
    } else if edited {
        out.say("Jenkins reads jenkins.yaml and secret files at a reload, jenkins.env at a restart");
    }
    at.point_to_steps(out);
    out.result("in the chat, everybody once: /jenkins connect USER API-TOKEN; then /jenkins build JOB, /jenkins get-log JOB");
    Ok(())
}

fn gitlab(args: &GitlabArgs, out: &mut Output) -> Result<()> {
    let at = At::open(&args.common, Tool::Gitlab, out)?;
    let Some(ours) = at.site.gitlab.as_ref() else { return Err(integrations::not_in_site(Tool::Gitlab)) };
    let wanted = gitlab::Wanted::of(&at.site, ours, &at.secrets);
    if wanted.webhook.is_none() {
        out.say("GitLab has no webhook yet: cargo xtask provision makes it, and then the file with its address comes too");
    }
    let mut problems = Vec::new();
    if let Some((mut api, mut applied)) = at.api(&args.common, &ours.url, Scheme::PrivateToken)? {
        let mut done = gitlab::apply(&mut api, &wanted, &mut applied)?;
        let mut secrets = at.secrets.clone();
        let mut keep = |id: Secret, secret: Secret| {
            secrets.put(Name::GitlabOauthId, id);
            secrets.put(Name::GitlabOauthSecret, secret);
            secrets.keep(&at.folder)
        };
        let oauth = gitlab::application(&api, &wanted, &at.secrets, args.reauthorise, &mut keep)?;
        if args.slash_commands {
            done.changes.extend(slash_commands(&at, ours, &mut secrets, &mut api, &mut applied)?);
        }
        let linked = !oauth.changes.is_empty();
        done.changes.extend(oauth.changes);
        tell(&api, &applied, &done.changes, out)?;
        if linked {
            out.result(
                "now cargo xtask up: it fills the GitLab plugin's settings, restarts Mattermost once, and looks whether they took effect",
            );
            out.result(format!("and tick Trusted, which GitLab's API cannot: {}/admin/applications", api.base()));
        }
        problems = [done.problems, oauth.problems].concat();
    }
    if args.test_event {
        gitlab::send_event(&Endpoint::of_site(&at.site, &at.folder, at.site.address())?, &wanted, ours.channel.as_str())?;
        out.result(format!("a test event is in {}; \"Test settings\" on GitLab's own page tries the way from there", ours.channel));
    }
    if ours.sign_in {
        out.say(format!(
            "without a licence the sign-in page has no button for GitLab; {}/oauth/gitlab/login does the same. Whoever has an account there gets \
             one here, even where sign-up is closed",
            at.site.url()
        ));
    }
    out.result(format!("for a server of its own, in gitlab.rb: gitlab_rails['mattermost_host'] = '{}'", at.site.url()));
    at.point_to_steps(out);
    match problems.is_empty() {
        true => Ok(()),
        false => {
            Err(problems.into_iter().fold(Error::new(Class::Check, "GitLab is told, and something is left to do there"), Error::detail))
        }
    }
}

/// One command for each project: made in Mattermost, whose token GitLab then expects.
fn slash_commands(at: &At, ours: &Gitlab, secrets: &mut Secrets, api: &mut Api, applied: &mut Applied) -> Result<Vec<String>> {
    let mut changes = Vec::new();
    let mut client = Client::new(&Endpoint::of_site(&at.site, &at.folder, at.site.address())?, Patience::default())?;
    client.login(&at.site.administrator.name, secrets.require(Name::AdministratorPassword)?)?;
    for path in &ours.projects {
        let (name, trigger) = (gitlab::token_name(path), gitlab::trigger(path));
        if secrets.other(&name).is_none() {
            let team = client.team(at.site.team.name.as_str())?;
            let team =
                team.ok_or_else(|| Error::new(Class::Check, "the team is not there yet").hint("`cargo xtask provision` makes it"))?;
            let token = client.create_command(&team.id, &trigger, &gitlab::command_url(ours, path), &format!("GitLab {path}"))?;
            secrets.put_other(&name, "Mattermost shows it to GitLab with each slash command of a project", token);
            secrets.keep(&at.folder)?;
            changes.push(format!("+ command /{trigger}"));
        }
        if let Some(token) = secrets.other(&name)
            && gitlab::slash_command(api, path, &token, applied)?
        {
            changes.push(format!("~ {path}: slash commands"));
        }
    }
    // A session that is left ends by itself.
    let _ = client.logout();
    Ok(changes)
}

fn sonarqube(args: &SonarqubeArgs, out: &mut Output) -> Result<()> {
    let at = At::open(&args.common, Tool::Sonarqube, out)?;
    let Some(wanted) = at.site.sonarqube.as_ref() else { return Err(integrations::not_in_site(Tool::Sonarqube)) };
    if let Some((mut api, mut applied)) = at.api(&args.common, &wanted.url, Scheme::BasicUser)? {
        let wanted = sonarqube::Wanted::of(&at.site, wanted, &at.secrets)?;
        let changes = sonarqube::apply(&mut api, &wanted, &mut applied)?;
        tell(&api, &applied, &changes, out)?;
    }
    at.point_to_steps(out);
    Ok(())
}

/// A site that is held, and the ready files of a tool, written.
struct At {
    tool: Tool,
    folder: Folder,
    site: Site,
    secrets: Secrets,
    bundle: Bundle,
    _held: crate::site::folder::Held,
}

impl At {
    fn open(args: &Common, tool: Tool, out: &mut Output) -> Result<At> {
        let (folder, site) = args.site.load()?;
        let held = folder.hold()?;
        let secrets = Secrets::of(&folder)?;
        let bundle = integrations::bundle(tool, &folder, &site, &secrets)?.ok_or_else(|| integrations::not_in_site(tool))?;
        write(&bundle, out)?;
        Ok(At { tool, folder, site, secrets, bundle, _held: held })
    }

    /// The tool, where it is to be told.
    fn api(&self, args: &Common, url: &Url, scheme: Scheme) -> Result<Option<(Api, Applied)>> {
        let Some(file) = args.token_file.as_ref().filter(|_| args.apply) else { return Ok(None) };
        let token = secrets::given(file, 8)?;
        let ca = args.ca.clone().unwrap_or_else(|| self.folder.ca());
        let api = Api::new(self.tool, url, ca, &self.site, scheme, &token, Patience::default())?;
        let applied = Applied::read(self.bundle.folder()).of_server(api.base());
        Ok(Some((api, applied)))
    }

    fn point_to_steps(&self, out: &mut Output) {
        out.result(format!("steps: {}", self.bundle.folder().join("README.md").display()));
    }
}

fn write(bundle: &Bundle, out: &mut Output) -> Result<()> {
    let written = bundle.write()?;
    match written.is_empty() {
        true => out.say(format!("{} is up to date", bundle.folder().display())),
        false => written.iter().for_each(|name| out.result(format!("wrote {}", bundle.folder().join(name).display()))),
    }
    Ok(())
}

fn tell(api: &Api, applied: &Applied, changes: &[String], out: &mut Output) -> Result<()> {
    applied.write()?;
    changes.iter().for_each(|change| out.result(change));
    out.say(match changes.len() {
        0 => format!("{} has everything; nothing was changed", api.base()),
        count => format!("{count} changes, read back from {}", api.base()),
    });
    Ok(())
}
