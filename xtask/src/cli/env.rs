//! `cargo xtask env`: secrets and settings of a site.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use entrypoint::env::nearest;
use images::file::write_beside;
use images::{Class, Context, Error, Result};
use similar::TextDiff;

use crate::output::Output;
use crate::site::env::files::{self, Change, Difference};
use crate::site::env::{ServiceEnv, environments, wanted};
use crate::site::journal::Entry;
use crate::site::secrets::{Found, Name, Origin, Secret, Secrets, import, system_random};
use crate::site::{COMMENTED, Folder, Service, Site, SiteArgs};

/// Make the secrets that are missing, and write the settings of every service
///
/// secrets.env keeps what it has. Settings go to env/NAME.env; values that hold secrets do not, they reach containers in volumes.
/// When nothing has changed, nothing is written.
#[derive(clap::Args)]
pub struct Args {
    #[command(flatten)]
    site: SiteArgs,
    /// Write a commented site.toml, every key at its default, and nothing else; one that is there stays
    #[arg(long, group = "action")]
    init: bool,
    /// Write nothing; exit with 1 where something differs
    #[arg(long, group = "action")]
    check: bool,
    /// Write nothing; show what would change, and no secret
    #[arg(long, group = "action")]
    diff: bool,
    /// Make a secret anew, and say what has to happen then
    #[arg(long, value_name = "NAME", group = "action")]
    rotate: Option<String>,
    /// Take secrets from a file of shell assignments, such as cicd.env; it is read, never run
    #[arg(long, value_name = "FILE", group = "action")]
    import: Option<PathBuf>,
    /// Write one file with Mattermost's settings and secrets, for `docker run --env-file`, too
    #[arg(long)]
    with_secrets: bool,
    /// Write over what somebody has changed, and keep a copy of it
    #[arg(long)]
    force: bool,
}

/// Runs the verb.
pub fn run(args: &Args, out: &mut Output) -> Result<()> {
    if args.init {
        return init(&args.site.folder(), out);
    }
    let (folder, site) = args.site.load()?;
    let task = Task::of(args, &site)?;
    let ask = Ask { task: task.as_ref(), with_secrets: args.with_secrets, force: args.force };
    // Where nothing changes not even the lock is touched; what is found without it is looked at again with it.
    if task.is_none() {
        let wanted = Wanted::of(&folder, &site, &ask)?;
        let changes = wanted.changes(&ask)?;
        if args.diff {
            return show(&changes, &folder, out);
        }
        if args.check {
            return check(&changes);
        }
        if changes.is_empty() && !folder.journal().in_between() {
            wanted.remark(out);
            out.say(format!("{} is up to date", folder.root().display()));
            return Ok(());
        }
    }
    let held = folder.hold()?;
    let wanted = write(&folder, &site, &ask, out)?;
    drop(held);
    wanted.remark(out);
    wanted.said.iter().for_each(|line| out.say(line));
    Ok(())
}

/// What is asked for besides making what is missing and out of date.
#[derive(Default)]
struct Ask<'a> {
    task: Option<&'a Task>,
    with_secrets: bool,
    force: bool,
}

/// What every verb does that needs the settings: makes the secrets that are missing, and writes what is out of date. The caller holds
/// the folder.
///
/// # Errors
/// As `cargo xtask env` without options: somebody's edits among them, which stay.
pub fn ensure(folder: &Folder, site: &Site, out: &mut Output) -> Result<BTreeMap<Service, ServiceEnv>> {
    let wanted = write(folder, site, &Ask::default(), out)?;
    wanted.remark(out);
    Ok(wanted.envs)
}

fn write(folder: &Folder, site: &Site, ask: &Ask, out: &mut Output) -> Result<Wanted> {
    let (wanted, lines) = change(folder, site, ask, &[])?;
    lines.iter().for_each(|line| out.result(line));
    Ok(wanted)
}

/// Makes the change, with what comes `first`: what is there now, and a line for each file that changed.
fn change(folder: &Folder, site: &Site, ask: &Ask, first: &[Entry]) -> Result<(Wanted, Vec<String>)> {
    let wanted = Wanted::of(folder, site, ask)?;
    let changes = wanted.changes(ask)?;
    let entries = [first, &wanted.kept, &files::entries(folder, &changes, ask.force)?].concat();
    folder.journal().change(&entries)?;
    let line = |entry: &Entry| {
        let done = if entry.removes() { "removed" } else { "written" };
        format!("{}  {done}", folder.root().join(&entry.name).display())
    };
    let lines = entries.iter().map(line).collect();
    Ok((wanted, lines))
}

/// A site that comes from elsewhere: `site.toml`, the secrets that were found, and all that is made from them, in one change. The caller
/// holds the folder. The result is a line for each file that changed.
///
/// # Errors
/// [`Class::Check`] where `site.toml`, a secret or a file of settings says something else already, unless `force`: then a copy of each is
/// kept. Nothing is written then.
pub fn adopt(
    folder: &Folder,
    site: &Site,
    toml: &str,
    (source, found): (&Path, Found),
    force: bool,
    out: &mut Output,
) -> Result<Vec<String>> {
    let old = folder.journal().read("site.toml")?;
    let differs = old.as_deref().is_none_or(|old| old != toml.as_bytes());
    let mut first = Vec::new();
    if let Some(old) = old.filter(|_| differs) {
        let old = Secret::new(String::from_utf8_lossy(&old));
        if !force {
            return Err(Error::new(
                Class::Check,
                format!("{} is there already, and says something else; nothing was changed", folder.toml().display()),
            )
            .hint("name another folder with --site, or --force to keep the old one as site.toml.old-1"));
        }
        first.push(files::copy(folder, &folder.toml(), &old)?);
    }
    if differs {
        first.push(Entry::write("site.toml", toml, 0o644));
    }
    let task = Task::Import(source.to_owned(), found);
    let (wanted, lines) = change(folder, site, &Ask { task: Some(&task), with_secrets: false, force }, &first)?;
    wanted.remark(out);
    Ok(lines)
}

/// What is done to the secrets besides making those that are missing.
enum Task {
    Rotate(Name),
    Import(PathBuf, Found),
}

impl Task {
    fn of(args: &Args, site: &Site) -> Result<Option<Task>> {
        if let Some(file) = &args.import {
            let shown = file.display().to_string();
            let text = fs_err::read(file).map_err(|error| Error::new(Class::Usage, error.to_string()))?;
            let text = String::from_utf8(text).map_err(|_| Error::new(Class::Usage, format!("{shown} is not UTF-8")))?;
            return Ok(Some(Task::Import(file.clone(), import(&text, &shown)?)));
        }
        let Some(text) = &args.rotate else { return Ok(None) };
        let names = || Name::ALL.into_iter().filter(|name| matches!(name.origin(), Origin::Generated(_))).map(Name::name);
        let Some(name) = Name::of(text) else {
            let error = Error::new(Class::Usage, format!("there is no secret {}", text.escape_debug()));
            return Err(match nearest(text, names()) {
                Some(near) => error.detail(format!("did you mean {near}?")),
                None => error.detail(format!("expected one of: {}", names().collect::<Vec<_>>().join(", "))),
            });
        };
        match name.origin() {
            Origin::Generated(_) if wanted(site)(name) => Ok(Some(Task::Rotate(name))),
            _ => Err(Error::new(Class::Usage, format!("{text} comes from elsewhere: {}", name.what()))
                .hint("change it there, then write it into secrets.env")),
        }
    }
}

/// What the folder should hold.
struct Wanted {
    folder: Folder,
    secrets: Secrets,
    envs: BTreeMap<Service, ServiceEnv>,
    /// Copies to be made before.
    kept: Vec<Entry>,
    /// What to tell afterwards.
    said: Vec<String>,
}

impl Wanted {
    fn of(folder: &Folder, site: &Site, ask: &Ask) -> Result<Wanted> {
        let found = Secrets::read(folder.root())?;
        let mut secrets = found.clone().unwrap_or_default();
        let (mut kept, mut said) = (Vec::new(), Vec::new());
        if let Some(Task::Import(file, imported)) = ask.task {
            let replaced = take_over(&mut secrets, file, imported, ask.force, &mut said)?;
            if let Some(old) = found.filter(|_| replaced) {
                kept.push(files::copy(folder, &folder.secrets(), &old.render())?);
            }
        }
        secrets.fill(wanted(site), &mut system_random)?;
        if let Some(Task::Rotate(name)) = ask.task {
            secrets.rotate(*name, &mut system_random)?;
            said.push(format!("{} is new. Now:", name.name()));
            said.extend(name.after_rotation().iter().map(|step| format!("  - {step}")));
            said.push("`cargo xtask up` restarts what has to be restarted".to_owned());
        }
        let envs = environments(site, &secrets)?;
        Ok(Wanted { folder: folder.clone(), secrets, envs, kept, said })
    }

    fn changes(&self, ask: &Ask) -> Result<Vec<Change>> {
        files::changes(&self.folder, &self.secrets, &self.envs, ask.with_secrets)
    }

    fn remark(&self, out: &mut Output) {
        for (name, meant) in self.secrets.misspelt() {
            out.say(format!("secrets.env: {name} is nothing that is read; did you mean {meant}?"));
        }
    }
}

/// Puts what was imported into `secrets`; whether a value had to give way.
fn take_over(secrets: &mut Secrets, file: &Path, imported: &Found, force: bool, said: &mut Vec<String>) -> Result<bool> {
    let other = |name: &Name| secrets.get(*name).is_some_and(|value| *value != imported.secrets[name]);
    let differing: Vec<Name> = imported.secrets.keys().copied().filter(other).collect();
    if !differing.is_empty() && !force {
        let error = Error::new(Class::Check, format!("secrets.env already holds other values than {}; nothing was taken", file.display()));
        let error = differing.iter().fold(error, |error, name| error.detail(name.name()));
        return Err(error.hint("--force takes those of the file and keeps a copy of secrets.env"));
    }
    let mut replaced = !differing.is_empty();
    for (name, value) in &imported.secrets {
        if secrets.get(*name) != Some(value) {
            secrets.put(*name, value.clone());
            said.push(format!("{} taken", name.name()));
        }
    }
    for (name, value) in &imported.settings {
        let there = secrets.other(name);
        if there.as_ref().is_some_and(|there| there != value) && !force {
            return Err(Error::new(
                Class::Check,
                format!("secrets.env already holds another {name} than {}; nothing was taken", file.display()),
            )
            .hint("--force takes that of the file and keeps a copy of secrets.env"));
        }
        if there.as_ref() != Some(value) {
            replaced |= there.is_some();
            secrets.put_other(name, "a setting of Mattermost's", value.clone());
        }
    }
    if !imported.foreign.is_empty() {
        said.push(format!("not ours, and left where they are: {}", imported.foreign.join(", ")));
    }
    Ok(replaced)
}

fn init(folder: &Folder, out: &mut Output) -> Result<()> {
    let path = folder.toml();
    let held = folder.hold()?;
    if fs_err::symlink_metadata(&path).is_ok() {
        out.say(format!("{} is there already, and stays as it is", path.display()));
        return Ok(());
    }
    write_beside(&path, COMMENTED.as_bytes(), 0o644).context(|| "writing a commented site.toml")?;
    drop(held);
    out.result(format!("{}  written", path.display()));
    out.say("every key in it is optional: change what differs, then `cargo xtask env`");
    Ok(())
}

/// An error that names each file of the site which is not what `site.toml` says.
pub fn up_to_date(folder: &Folder, site: &Site) -> Result<()> {
    let ask = Ask::default();
    check(&Wanted::of(folder, site, &ask)?.changes(&ask)?)
}

fn check(changes: &[Change]) -> Result<()> {
    if changes.is_empty() {
        return Ok(());
    }
    let error = Error::new(Class::Check, "the site's files are not what site.toml says");
    let error =
        changes.iter().fold(error, |error, change| error.detail(format!("{}: {}", change.path.display(), words(change.difference))));
    let edited = changes.iter().any(|change| change.difference == Difference::Edited);
    Err(error.hint(match edited {
        true => "`cargo xtask env --diff` shows it, `cargo xtask env --force` mends it and keeps a copy",
        false => "`cargo xtask env` mends it",
    }))
}

fn words(difference: Difference) -> &'static str {
    match difference {
        Difference::Missing => "missing",
        Difference::Outdated => "out of date",
        Difference::Edited => "somebody has written in it",
        Difference::Leftover => "no longer needed",
        Difference::Open => "others can read its secrets",
    }
}

fn show(changes: &[Change], folder: &Folder, out: &mut Output) -> Result<()> {
    for change in changes {
        let path = change.path.strip_prefix(folder.root()).unwrap_or(&change.path).display();
        if !change.shown {
            out.result(format!("{path}: {}; it holds secrets, and is not shown", words(change.difference)));
            continue;
        }
        let [old, new] = [&change.old, &change.new].map(|text| text.as_ref().map(|text| covered(text.expose())).unwrap_or_default());
        let name = |text: &Option<_>, letter| if text.is_some() { format!("{letter}/{path}") } else { "/dev/null".to_owned() };
        let diff = TextDiff::from_lines(&old, &new);
        let (old, new) = (name(&change.old, 'a'), name(&change.new, 'b'));
        out.result(diff.unified_diff().header(&old, &new).to_string().trim_end_matches('\n'));
    }
    Ok(())
}

/// A text that is shown: somebody may have written into it what belongs into secrets.env. Values of names that we do not write, and
/// of those that hold secrets, stay covered.
fn covered(text: &str) -> String {
    let line = |line: &str| match line.split_once('=') {
        Some((name, _)) if !line.starts_with('#') && !is_open(name.trim()) => format!("{name}=…\n"),
        _ => format!("{line}\n"),
    };
    text.lines().map(line).collect()
}

fn is_open(name: &str) -> bool {
    use mattermost_settings::Form;
    let ours = ["COTURN_", "POSTGRES_", "ALERT_GATEWAY_", "MATTERMOST_", "NO_PROXY"].iter().any(|prefix| name.starts_with(prefix));
    let secret = Name::of(name).is_some() || name.contains("PASSWORD") || name.ends_with("_SECRET");
    (ours && !secret) || mattermost_settings::form(name).is_ok_and(|form| !matches!(form, Form::Secret | Form::Plugins))
}
