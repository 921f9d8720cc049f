//! `cargo xtask psql`: the database's own client.

use images::{Class, Error, Result};

use crate::output::Output;
use crate::site::{Service, SiteArgs};
use crate::stack::Stack;

/// Open PostgreSQL's client on the site's database, as its superuser
#[derive(clap::Args)]
pub struct Args {
    #[command(flatten)]
    site: SiteArgs,
    /// Arguments of psql
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    arguments: Vec<String>,
}

/// Becomes psql in the container, over the Unix socket, where the account is the proof.
pub fn run(args: &Args, _out: &mut Output) -> Result<()> {
    let stack = Stack::open(&args.site)?;
    if let Some(external) = &stack.site.database.external {
        return Err(Error::new(Class::Usage, format!("the database of {} is not in a container of ours", stack.project()))
            .detail(format!("site.toml names {}:{}", external.host, external.port))
            .hint("use the psql of that server"));
    }
    let psql = stack.exec(Service::Postgres)?;
    Err(psql.args(["psql", "--username", "postgres", "--dbname", &stack.site.database.name]).args(&args.arguments).replace())
}
