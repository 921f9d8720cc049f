//! What a claim is, and what becomes of it where something is missing.

use std::sync::Arc;
use std::time::Instant;

use images::Result;
pub use lab::wait_for;
use libtest_mimic::{Completion, Failed, Trial};
use xtask::machine;

use crate::world::World;

/// One thing that is proved.
pub struct Claim {
    /// What it proves, as a sentence with underscores.
    pub name: &'static str,
    /// Parts of the machine (`xtask::machine::PARTS`) without which it cannot be proved.
    pub needs: &'static [&'static str],
    /// Whether it needs root.
    pub root: bool,
    /// Whether it starts containers.
    pub engine: bool,
    /// Proves it; a panic or an error says that it is not so.
    pub proves: fn(&World) -> Result<()>,
}

impl Claim {
    /// The claim as a test.
    pub fn trial(&'static self, world: &Arc<World>) -> Trial {
        let world = Arc::clone(world);
        Trial::ignorable_test(self.name, move || {
            if let Err(reason) = self.possible(&world) {
                return match std::env::var_os("CI") {
                    Some(_) => Err(Failed::from(format!("in CI nothing may be skipped: {reason}"))),
                    None => Ok(Completion::ignored_with(reason.replace('\n', " "))),
                };
            }
            let start = Instant::now();
            let proved = (self.proves)(&world);
            // What a claim takes is worth a line: somebody waits for all of them.
            eprintln!("{:6.1} s  {}", start.elapsed().as_secs_f32(), self.name);
            proved.map(|()| Completion::Completed).map_err(|error| Failed::from(error.to_string()))
        })
    }

    fn possible(&self, world: &World) -> std::result::Result<(), String> {
        machine::require(&world.machine, self.needs).map_err(|error| error.to_string())?;
        if self.root && !world.machine.is_root() {
            return Err("it needs root".to_owned());
        }
        if self.engine {
            machine::require(&world.machine, &["docker"]).map_err(|error| error.to_string())?;
            world.engine()?;
        }
        Ok(())
    }
}
