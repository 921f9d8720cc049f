//! The proof checks itself: one guard at a time is taken out of the running stack, and exactly the steps that claim it have to go red.

mod guards;
mod signer;

use std::path::PathBuf;
use std::time::{Duration, Instant};

use images::{Class, Error, Result};
use xtask::cli::e2e::Options;

use crate::hidden::Hidden;
use crate::journal::{Ended, Event, Journal, Verdict, now};
use crate::outside;
use crate::runner::once;
use crate::step::{Absent, Cell, Evidence, Step, Table, When, is_chosen};
use crate::steps;
use crate::world::World;

pub use guards::ALL;
use signer::Signer;

/// A guard, and how it is taken out.
pub struct Mutation {
    /// `mutations::what_is_taken_out`.
    pub name: &'static str,
    /// The same in words.
    pub claim: &'static str,
    /// The steps that claim the guard; the others of their groups have to stay green.
    red: &'static [&'static str],
    /// Takes it out; what the second gets puts it back.
    out: fn(&'static World) -> Result<Kept>,
    back: fn(&World, Kept) -> Result<()>,
}

/// What putting back needs to know.
#[derive(Default)]
struct Kept {
    files: Vec<(PathBuf, Vec<u8>)>,
    text: String,
    /// The world in which the guard is out, where that is another one for the steps.
    world: Option<World>,
    signer: Option<Signer>,
}

/// The check that no step is without a mutation.
pub const COMPLETE: (&str, &str) =
    ("mutations::every_step_has_one", "For each step there is a guard that is taken out, and then it goes red");

/// How long a mutation may take, as one of many.
const EACH: Duration = Duration::from_secs(120);

/// Whether guards are taken out in a run.
pub fn are_wanted(options: &Options) -> bool {
    options.mutate || options.full
}

/// How long all of them may take at most.
pub fn limit(options: &Options) -> Duration {
    let chosen = ALL.iter().filter(|mutation| are_wanted(options) && is_chosen(mutation.name, &options.filter));
    chosen.map(|_| EACH).sum()
}

/// Names and claims, for reports.
pub fn claims() -> impl Iterator<Item = (&'static str, &'static str)> {
    let outside = outside::MUTATIONS.iter().map(|mutation| (mutation.name, mutation.claim));
    ALL.iter().map(|mutation| (mutation.name, mutation.claim)).chain(outside).chain([COMPLETE])
}

/// Takes out each guard that is chosen, and tells what became of it.
pub fn run(world: &'static World, journal: &Journal, options: &Options) -> Result<()> {
    for mutation in ALL.iter().filter(|mutation| is_chosen(mutation.name, &options.filter)) {
        journal.tell(&Event::Began { step: mutation.name.to_owned() })?;
        let (at, since) = (now(), Instant::now());
        let mut evidence = Evidence::new(&world.run, mutation.name, &world.site.folder);
        let failure = mutation.prove(world, options, &mut evidence).err().map(|error| world.hidden().redact(&error.to_string()));
        tell(journal, mutation.name, at, since, failure, evidence)?;
    }
    if is_chosen(COMPLETE.0, &options.filter) {
        let evidence = Evidence::new(&world.run, COMPLETE.0, &world.site.folder);
        let without = without();
        let failure =
            (!without.is_empty()).then(|| format!("steps that nothing makes red\n  expected none\n  seen     {}", without.join(", ")));
        tell(journal, COMPLETE.0, now(), Instant::now(), failure, evidence)?;
    }
    Ok(())
}

fn tell(journal: &Journal, step: &str, at: f64, since: Instant, failure: Option<String>, evidence: Evidence) -> Result<()> {
    let verdict = if failure.is_some() { Verdict::Failed } else { Verdict::Passed };
    let took = since.elapsed().as_secs_f64();
    journal.tell(&Event::Ended(Ended { step: step.to_owned(), at, took, verdict, failure, shown: evidence.shown }))
}

/// Steps that no mutation makes red.
fn without() -> Vec<&'static str> {
    let red: Vec<&str> =
        ALL.iter().flat_map(|mutation| mutation.red).copied().chain(outside::MUTATIONS.iter().map(|mutation| mutation.red)).collect();
    let every = steps::every().map(|step| step.name).chain(outside::CLAIMS.into_iter().map(|(name, _)| name));
    every.filter(|name| !red.contains(name)).collect()
}

fn group(name: &str) -> &str {
    name.split("::").next().unwrap_or_default()
}

impl Mutation {
    /// The steps that claim the guard, and those beside them.
    fn matching(&self, world: &World, options: &Options) -> impl Iterator<Item = &'static Step> {
        // One fault at a time is enough.
        let beside =
            |step: &Step| self.red.iter().any(|red| group(red) == group(step.name)) && group(step.name) != "faults" && step.is_quick();
        let can_be = |step: &Step| matches!(step.absent(world.machine(), options), None | Some(Absent::Full));
        steps::every().filter(move |step| can_be(step) && (self.red.contains(&step.name) || beside(step)))
    }

    fn prove(&self, world: &'static World, options: &Options, evidence: &mut Evidence) -> Result<()> {
        let kept = (self.out)(world)?;
        let seen = self.seen(kept.world.as_ref().unwrap_or(world), options);
        (self.back)(world, kept)?;
        verdict(self.claim, self.red, seen, &world.hidden(), evidence)
    }

    /// What each step says now; what it leaves as evidence of that lies beside that of the run.
    fn seen(&self, world: &World, options: &Options) -> Vec<Seen> {
        let folder = world.run.join("mutations").join(self.name.trim_start_matches("mutations::"));
        let look = |step: &'static Step| (step.name, once(world, step, Evidence::new(&folder, step.name, &world.site.folder)).0);
        let (starts, others): (Vec<_>, Vec<_>) = self.matching(world, options).partition(|step| step.when == When::FirstStart);
        let mut seen: Vec<Seen> = std::thread::scope(|scope| {
            // They need each other.
            let threads: Vec<_> = starts.into_iter().map(|step| scope.spawn(move || look(step))).collect();
            threads.into_iter().map(|thread| thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))).collect()
        });
        seen.extend(others.into_iter().map(look));
        seen
    }
}

/// A step, and what it said.
pub type Seen = (&'static str, std::result::Result<(), String>);

/// Whether exactly the steps in `red` failed; the matrix goes into the evidence.
pub fn verdict(claim: &str, red: &[&str], seen: Vec<Seen>, hidden: &Hidden, evidence: &mut Evidence) -> Result<()> {
    let mut wrong = Vec::new();
    let row = |(name, seen): Seen| {
        let wanted = red.contains(&name);
        let seen = seen.map_err(|why| hidden.redact(&why));
        if seen.is_err() != wanted {
            wrong.push(format!("{name}: {}", seen.as_ref().err().map_or("green", String::as_str)));
        }
        let why = seen.as_ref().err().and_then(|why| why.lines().next()).unwrap_or("green").to_owned();
        let colour = if seen.is_err() { format!("red: {why}") } else { why };
        (name.to_owned(), vec![Cell { text: colour, good: Some(seen.is_err() == wanted) }])
    };
    let rows = seen.into_iter().map(row).collect();
    evidence.table(Table { title: claim.to_owned(), columns: vec!["step".to_owned(), "without the guard".to_owned()], rows });
    if wrong.is_empty() {
        return Ok(());
    }
    let error = Error::new(Class::Check, "another step than those that claim the guard went red, or one of these stayed green");
    let error = error.detail(format!("expected red {}", red.join(", ")));
    Err(wrong.into_iter().fold(error, |error, line| error.detail(format!("seen     {line}"))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_step_has_a_mutation_and_every_mutation_names_steps_that_there_are() {
        assert_eq!(without(), Vec::<&str>::new());
        let known: Vec<&str> = steps::every().map(|step| step.name).collect();
        for mutation in ALL {
            assert!(!mutation.red.is_empty() && mutation.red.iter().all(|red| known.contains(red)), "{}", mutation.name);
        }
    }

    #[test]
    fn a_guard_that_nobody_misses_and_one_that_others_miss_too_are_failures() {
        let folder = tempfile::tempdir().unwrap();
        let told = |one: Result<(), &str>, other: Result<(), &str>| {
            let seen = vec![("a::claims", one.map_err(str::to_owned)), ("a::beside", other.map_err(str::to_owned))];
            let mut evidence = Evidence::new(folder.path(), "mutations::x", folder.path());
            verdict("x", &["a::claims"], seen, &Hidden::default(), &mut evidence).map_err(|error| error.to_string())
        };
        assert_eq!(told(Err("no"), Ok(())), Ok(()));
        assert!(told(Ok(()), Ok(())).unwrap_err().contains("a::claims: green"));
        assert!(told(Err("no"), Err("neither")).unwrap_err().contains("a::beside: neither"));
    }
}
