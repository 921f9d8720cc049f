//! What `cargo xtask provision` keeps as `site.toml` says it.

use std::time::Duration;

use images::{Class, Error, Result};
use reqwest::Method;
use xtask::process::Outcome;
use xtask::provision::Tool;
use xtask::server::Client;

use crate::step::{Evidence, Step, When};
use crate::world::World;

/// The steps.
pub const STEPS: &[Step] = &[Step {
    name: "provisioning::what_somebody_takes_away_is_planned_and_made_again",
    claim: "Provisioning again changes nothing; an archived channel, a disabled bot and a deleted webhook are planned, and what is planned is done",
    deadline: Duration::from_secs(60),
    needs: &[],
    when: When::Apart,
    proves: mends,
}];

fn mends(world: &World, evidence: &mut Evidence) -> Result<()> {
    let provision = |words: &str| world.site.xtask(&format!("provision{words}")).outcome();
    let again = provision("")?;
    evidence.same("changed when nothing was missing", Vec::<String>::new(), lines(&again))?;
    evidence.holds("provisioning again", "exit code 0", lab::said(&again).trim(), again.success())?;

    let taken = world.lab.server().inside(|| take_away(world))??;
    evidence.fact("taken away", taken.join(", "));
    let planned = provision(" --plan")?;
    evidence.same("exit code of a plan that is not empty", Some(1), planned.status.code())?;
    let planned = lines(&planned);
    for what in &taken {
        evidence.holds(&format!("plan for {what}"), what, planned.join("; "), planned.iter().any(|line| line.contains(what.as_str())))?;
    }
    let done = provision("")?;
    evidence.holds("provisioning", "exit code 0", lab::said(&done).trim(), done.success())?;
    evidence.same("done", planned, lines(&done))?;
    // Archiving a channel deletes its webhooks, that of the alert gateway among them.
    let told = lab::said(&done).contains("the alert gateway still posts to the webhook that it had");
    evidence.same("it says that the alert gateway has to get a new address", true, told)?;
    world.site.is_up()?;
    let after = provision(" --plan")?;
    evidence.holds("the plan afterwards", "nothing to change", lab::said(&after).trim(), after.success() && lines(&after).is_empty())
}

/// Lines of standard output: the actions, one each.
fn lines(outcome: &Outcome) -> Vec<String> {
    String::from_utf8_lossy(&outcome.stdout).lines().map(str::to_owned).collect()
}

/// Archives a channel, disables a bot, deletes a webhook: what each is called.
fn take_away(world: &World) -> Result<Vec<String>> {
    let (site, client) = (world.description()?, world.administrator()?);
    let chat = world.chat()?;
    let lacks = |what: &str| Error::new(Class::Check, format!("the server has no {what}"));
    let team = client.team(site.team.name.as_str())?.ok_or_else(|| lacks("team"))?;
    let jenkins = site.jenkins.as_ref().ok_or_else(|| lacks("Jenkins"))?;

    let alerts = jenkins.alerts.as_str();
    let channel = client.channel(&team.id, alerts)?.ok_or_else(|| lacks(alerts))?;
    chat.ask(Method::DELETE, &format!("/api/v4/channels/{}", channel.id), None)?;

    let bot = client.user(Tool::Sonarqube.bot())?.ok_or_else(|| lacks("bot"))?;
    chat.ask(Method::POST, &format!("/api/v4/bots/{}/disable", bot.id), None)?;

    let builds = client.channel(&team.id, jenkins.channel.as_str())?.ok_or_else(|| lacks("channel of builds"))?;
    delete_hook(&client, &team.id, &builds.id)?;
    Ok(vec![alerts.to_owned(), Tool::Sonarqube.bot().to_owned(), jenkins.channel.to_string()])
}

fn delete_hook(client: &Client, team: &str, channel: &str) -> Result<()> {
    let hooks = client.hooks(team)?;
    let hook = hooks.iter().find(|hook| hook.channel_id == channel);
    let hook = hook.ok_or_else(|| Error::new(Class::Check, "the server has no webhook for builds"))?;
    Ok(client.delete_hook(&hook.id)?)
}
