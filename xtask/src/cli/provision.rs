//! `cargo xtask provision`: team, channels, bots and webhooks of the site.

pub mod database;

use std::path::PathBuf;

use images::{Class, Error, Result};
use serde_json::json;
use url::Url;

use crate::integrations;
use crate::output::Output;
use crate::provision::{self, Action, Desired, Tool, Urls};
use crate::server::{Client, Endpoint, Patience};
use crate::site::secrets::{self, Name, Secrets};
use crate::site::{Folder, Site, SiteArgs};

/// Make team, channels, bots and webhooks on the server what site.toml says
///
/// Looks what the server has, says what differs, changes it, and looks again. What it did not make it leaves alone. The addresses of the
/// webhooks go into secrets.env and nowhere else. It signs in as the administrator, with the password in secrets.env.
#[derive(clap::Args)]
#[command(args_conflicts_with_subcommands = true)]
pub struct Args {
    #[command(subcommand)]
    what: Option<What>,
    #[command(flatten)]
    site: SiteArgs,
    /// Only say what would be changed; the exit code is 1 where that is anything
    #[arg(long)]
    plan: bool,
    /// Print JSON; its field `format` is 1
    #[arg(long)]
    json: bool,
    /// Where the server is; default: the site's name and port, at the site's first address
    #[arg(long, value_name = "URL")]
    url: Option<Url>,
    #[command(flatten)]
    token: TokenArgs,
}

/// Whose calls they are.
#[derive(clap::Args)]
pub struct TokenArgs {
    /// File (mode 0600) with a personal access token of an administrator, in the place of a password
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
}

impl TokenArgs {
    /// Whether there is one.
    pub fn is_given(&self) -> bool {
        self.token_file.is_some()
    }

    /// Makes the client an administrator's: by the token, else with the password in `secrets.env`.
    pub fn sign_in(&self, mut client: Client, site: &Site, secrets: &Secrets) -> Result<Client> {
        let Some(file) = &self.token_file else {
            client.login(&site.administrator.name, secrets.require(Name::AdministratorPassword)?)?;
            return Ok(client);
        };
        client = client.with_token(secrets::given(file, 16)?);
        let user = client.me()?;
        match user.is_administrator() {
            true => Ok(client),
            false => Err(Error::new(Class::Usage, format!("the token is that of {}, who is no administrator", user.username))
                .detail("expected the role system_admin")),
        }
    }

    /// Ends the session, if it is one; a token stays.
    pub fn sign_out(&self, mut client: Client) {
        if !self.is_given() {
            // A session that is left ends by itself; what was done is what counts.
            let _ = client.logout();
        }
    }
}

#[derive(clap::Subcommand)]
enum What {
    Database(database::Args),
}

/// What `cargo xtask provision` does without an option, for a client that is signed in.
pub fn ensure(folder: &Folder, site: &Site, client: &Client, out: &mut Output) -> Result<()> {
    let _held = folder.hold()?;
    apply(false, client, &Desired::of(site), &mut Urls::read(folder)?, out).map(drop)
}

/// Provisions.
pub fn run(args: &Args, out: &mut Output) -> Result<()> {
    if let Some(What::Database(args)) = &args.what {
        return database::run(args, out);
    }
    let (folder, site) = args.site.load()?;
    let desired = Desired::of(&site);
    let _held = folder.hold()?;
    let mut urls = Urls::read(&folder)?;
    let client = Client::new(&endpoint(args, &folder, &site)?, Patience::default())?;
    client.ping().map_err(Error::from)?.check()?;
    let client = args.token.sign_in(client, &site, &Secrets::of(&folder)?)?;
    let result = match args.plan {
        true => plan(args, &client, &desired, &urls, &integrations::states(&folder, &site), out),
        false => apply(args.json, &client, &desired, &mut urls, out).map(|done| {
            if done.iter().any(gives_the_gateway_an_address) {
                out.say("the alert gateway still posts to the webhook that it had: `cargo xtask up` gives it the new one");
            }
        }),
    };
    args.token.sign_out(client);
    result
}

/// Whether a webhook was made that the alert gateway posts to: it knows its address as a secret, which it gets with its container.
fn gives_the_gateway_an_address(action: &Action) -> bool {
    matches!(action, Action::CreateWebhook { tool: Tool::Sonarqube, .. })
}

/// The site's server on this machine, unless another address is given.
fn endpoint(args: &Args, folder: &Folder, site: &Site) -> Result<Endpoint> {
    let Some(url) = args.url.clone() else { return Endpoint::of_site(site, folder, site.address()) };
    let is_ours = url.domain().is_some_and(|name| site.all_names().any(|known| known.as_str() == name));
    let ca = Some(folder.ca()).filter(|_| url.scheme() == "https");
    Ok(Endpoint { address: is_ours.then(|| site.address()), ca, url })
}

fn plan(args: &Args, client: &Client, desired: &Desired, urls: &Urls, tools: &[String], out: &mut Output) -> Result<()> {
    let plan = provision::difference(client, desired, urls)?;
    if args.json {
        print(client, &plan.actions, &plan.remarks, &plan.conflicts, Some(tools), out);
    } else {
        plan.actions.iter().for_each(|action| out.result(action.to_string()));
        plan.remarks.iter().for_each(|remark| out.say(remark));
        // What the tools themselves have to be told is another verb's to change.
        tools.iter().for_each(|tool| out.say(tool));
    }
    plan.check()?;
    match plan.actions.len() {
        0 => Ok(()),
        count => Err(Error::new(Class::Check, format!("the server differs from site.toml in {count} points"))
            .hint("without --plan they are changed")),
    }
}

fn apply(json: bool, client: &Client, desired: &Desired, urls: &mut Urls, out: &mut Output) -> Result<Vec<Action>> {
    let mut say = |line: &str| match json {
        true => out.say(line),
        false => out.result(line),
    };
    let done = provision::provision(client, desired, urls, &mut say)?;
    if json {
        print(client, &done.actions, &done.remarks, &[], None, out);
    } else {
        done.remarks.iter().for_each(|remark| out.say(remark));
        out.say(match done.actions.len() {
            0 => "the server is as site.toml says; nothing was changed".to_owned(),
            count => format!("{count} changes, read back from the server"),
        });
    }
    Ok(done.actions)
}

/// `tools` is how their side stands: of a plan, which applies nothing.
fn print(client: &Client, actions: &[Action], remarks: &[String], conflicts: &[String], tools: Option<&[String]>, out: &mut Output) {
    let mut report = json!({
        "format": 1, "server": client.base(), "applied": tools.is_none(), "actions": actions, "remarks": remarks, "conflicts": conflicts
    });
    if let Some(tools) = tools {
        report["integrations"] = tools.into();
    }
    out.result(report.to_string());
}
