//! `cargo xtask provision database`: role, database and ownership on a PostgreSQL server that is not ours.

use std::path::PathBuf;

use images::{Class, Error, Result};

use crate::database::prepare::{self, Administrator, Step};
use crate::database::{Login, Server};
use crate::doctor::{Report, database};
use crate::output::Output;
use crate::site::secrets::{self, Name, Secrets, system_random};
use crate::site::{Site, SiteArgs};

/// Make role, database and ownership on the external PostgreSQL server that site.toml names
///
/// Logs in as an administrator of that server, looks what is there, says each change, and looks again as Mattermost's role. The role's
/// password is the one in secrets.env; one is made there for a role that is new. A second run changes nothing.
#[derive(clap::Args)]
pub struct Args {
    #[command(flatten)]
    site: SiteArgs,
    /// File (mode 0600) with the administrator's address: postgres://ROLE:PASSWORD@HOST[:PORT][/DATABASE]
    #[arg(long, value_name = "FILE")]
    admin_url_file: PathBuf,
    /// Only say what would be changed; the exit code is 1 where that is anything
    #[arg(long)]
    plan: bool,
}

/// Provisions the database.
pub fn run(args: &Args, out: &mut Output) -> Result<()> {
    let (folder, site) = args.site.load()?;
    let Some(server) = Server::of(&site, &folder) else {
        return Err(Error::new(Class::Usage, "site.toml names no external database")
            .detail("expected database.host")
            .hint("without it the stack brings a PostgreSQL of its own, which needs none of this"));
    };
    let url = secrets::given(&args.admin_url_file, 16)?;
    let (at, login) = prepare::administrator(&url, &server)?;
    let _held = folder.hold()?;
    let administrator = Administrator::open(at, login)?;
    let mut secrets = Secrets::of(&folder)?;
    let is_new = secrets.get(Name::DatabasePassword).is_none();
    if is_new {
        secrets.fill(|name| name == Name::DatabasePassword, &mut system_random)?;
    }
    let wanted = Login::of(&site, &secrets)?;
    let observed = administrator.observe(&server, &wanted)?;
    if is_new && observed.role.is_some() {
        return Err(not_ours(&site));
    }
    let steps = prepare::plan(&observed, &wanted)?;
    if args.plan {
        steps.iter().for_each(|step| out.result(step.words(&wanted).to_string()));
        return differs(&steps);
    }
    if is_new {
        // Before the role has it: what is only in memory is lost with the process.
        secrets.keep(&folder)?;
    }
    administrator.apply(&steps, &wanted, |step| out.result(step.words(&wanted).to_string()))?;
    let found = database::look(&server, &wanted);
    let checks = Report::of(database::judge(&server, &wanted, found.as_ref()));
    if !checks.ok {
        let error = Error::new(Class::Check, format!("{} cannot work with the database yet", wanted.role));
        return Err(checks.lines().into_iter().fold(error, Error::detail));
    }
    out.say(match steps.len() {
        0 => "the database is as site.toml says; nothing was changed".to_owned(),
        count => format!("{count} changes; {} was let in, and owns what it needs", wanted.role),
    });
    Ok(())
}

fn differs(steps: &[Step]) -> Result<()> {
    match steps.len() {
        0 => Ok(()),
        count => Err(Error::new(Class::Check, format!("the server differs from site.toml in {count} points"))
            .hint("without --plan they are changed")),
    }
}

/// Others may use a role that is there, so its password is not replaced by one that was made up.
fn not_ours(site: &Site) -> Error {
    Error::new(Class::Usage, format!("the role {} is there, and secrets.env does not hold its password", site.database.role)).hint(format!(
        "add the line {}=VALUE to secrets.env; if it is not the role's, this command makes it that",
        Name::DatabasePassword.name()
    ))
}
