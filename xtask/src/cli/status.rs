//! `cargo xtask status`: what runs, and how.

use images::{Class, Error, Result};
use serde::Serialize;

use crate::engine::project::Container;
use crate::output::Output;
use crate::site::{Service, SiteArgs, compose};
use crate::stack::Stack;

/// Show what runs, and how; the exit code is 1 unless every service is healthy
#[derive(clap::Args)]
pub struct Args {
    #[command(flatten)]
    site: SiteArgs,
    /// Print JSON: format, project, url, services (service, state, health, image, restarts, published)
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Status<'a> {
    format: u32,
    project: &'a str,
    url: String,
    services: Vec<Row>,
}

#[derive(Serialize)]
struct Row {
    service: &'static str,
    state: String,
    health: String,
    image: String,
    restarts: i64,
    published: Vec<String>,
}

/// Shows it.
pub fn run(args: &Args, out: &mut Output) -> Result<()> {
    let stack = Stack::open(&args.site)?;
    let containers = stack.engine.asked(stack.project())?;
    let of = |service: Service| containers.iter().find(|container| container.service == service.name());
    let services: Vec<Service> = compose::services(&stack.site).collect();
    let rows: Vec<Row> = services.iter().map(|service| row(*service, of(*service))).collect();
    if args.json {
        let status = Status { format: 1, project: stack.project(), url: stack.site.url(), services: rows };
        out.result(serde_json::to_string(&status).unwrap_or_else(|error| unreachable!("plain data: {error}")));
    } else {
        out.result(format!("{}  {}", stack.project(), stack.site.url()));
        for row in rows {
            let health = if row.health.is_empty() { String::new() } else { format!(", {}", row.health) };
            out.result(format!("{:<14} {}{health}  {}", row.service, row.state, row.published.join("  ")));
        }
    }
    let ill: Vec<&str> =
        services.iter().filter(|service| !of(**service).is_some_and(Container::healthy)).map(|service| service.name()).collect();
    match ill.is_empty() {
        true => Ok(()),
        false => Err(Error::new(Class::Check, format!("not healthy: {}", ill.join(", "))).hint("cargo xtask logs, or cargo xtask up")),
    }
}

fn row(service: Service, container: Option<&Container>) -> Row {
    Row {
        service: service.name(),
        state: container.map_or_else(|| "absent".to_owned(), |container| container.state.clone()),
        health: container.map(|container| container.health.clone()).unwrap_or_default(),
        image: container.map(|container| container.image.clone()).unwrap_or_default(),
        restarts: container.map_or(0, |container| container.restarts),
        published: container.map(|container| container.published.clone()).unwrap_or_default(),
    }
}
