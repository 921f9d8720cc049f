//! `cargo xtask integrations`: the other side, at Jenkins, GitLab and SonarQube.

use std::path::{Path, PathBuf};

use images::{Class, Error, Result};
use url::Url;

use crate::integrations::api::Scheme;
use crate::integrations::{self, Api, Applied, Bundle, jenkins, sonarqube};
use crate::output::Output;
use crate::provision::Tool;
use crate::server::Patience;
use crate::site::secrets::Secrets;
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
        Verb::Sonarqube(args) => sonarqube(args, out),
    }
}

fn jenkins(args: &JenkinsArgs, out: &mut Output) -> Result<()> {
    let at = At::open(&args.common, Tool::Jenkins, out)?;
    let Some(ours) = at.site.jenkins.as_ref() else { return Err(integrations::not_in_site(Tool::Jenkins)) };
    let wanted = jenkins::Wanted::of(&at.site, ours, &at.secrets);
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
    site: Site,
    secrets: Secrets,
    bundle: Bundle,
    _held: crate::site::folder::Held,
}

impl At {
    fn open(args: &Common, tool: Tool, out: &mut Output) -> Result<At> {
        let (folder, site) = args.site.load()?;
        let held = folder.hold()?;
        let secrets = Secrets::read(folder.root())?.unwrap_or_default();
        let bundle = integrations::bundle(tool, &folder, &site, &secrets)?.ok_or_else(|| integrations::not_in_site(tool))?;
        write(&bundle, out)?;
        Ok(At { tool, site, secrets, bundle, _held: held })
    }

    /// The tool, where it is to be told.
    fn api(&self, args: &Common, url: &Url, scheme: Scheme) -> Result<Option<(Api, Applied)>> {
        let Some(file) = args.token_file.as_ref().filter(|_| args.apply) else { return Ok(None) };
        let token = entrypoint::secret::read_value(file, 8).map_err(|error| Error::new(Class::Usage, error.to_string()))?;
        let ca = args.ca.clone().unwrap_or_else(|| Folder::new(&args.site.site).ca());
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
