//! A save in steps, with the world going on in between: the new text under a temporary name, an exchange of the two names, a look at what came
//! out, which nobody but this program changes any more, and its removal. Nothing is taken out: a line that came out and is not in
//! the new text is put in by the next exchange.

#[path = "../../../tests/src/lines.rs"]
mod lines;

use crate::machine::Machine;
pub(crate) use lines::Hands;
use lines::with_lines_of;
use notefs_cache::{Error, Result};

/// A save under way.
pub(crate) struct Swap {
    name: String,
    temporary: String,
    new: String,
    exchanged: bool,
}

/// What a step has come to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    More,
    Done,
    /// The note's name was gone: the new text has it now, and nothing came out.
    Placed,
}

impl Swap {
    /// `new` has every line of the note that was read.
    pub(crate) async fn begin(machine: &Machine, who: &str, name: &str, new: String) -> Result<Swap> {
        let temporary = format!("{name}.{who}.tmp");
        machine.save(&temporary, &new).await?;
        Ok(Swap {
            name: name.to_owned(),
            temporary,
            new,
            exchanged: false,
        })
    }

    /// The next step; one that fails is tried again. What `who` has saved over what is told.
    pub(crate) async fn step(&mut self, machine: &Machine, who: &str, hands: &mut Hands) -> Result<Step> {
        if !self.exchanged {
            match machine.exchange(&self.temporary, &self.name).await {
                Err(Error::Posix(libc::ENOENT)) => {
                    machine.rename(&self.temporary, &self.name).await?;
                    hands.saved(who, &self.new, "");
                    return Ok(Step::Placed);
                }
                other => other?,
            }
            self.exchanged = true;
            return Ok(Step::More);
        }
        let came_out = match machine.read(&self.temporary).await {
            // It had been renamed here and elsewhere, and the other name is kept.
            Err(Error::Posix(libc::ENOENT)) => return Ok(Step::Done),
            other => other?,
        };
        hands.saved(who, &self.new, &came_out);
        let Some(new) = with_lines_of(&self.new, &came_out) else {
            machine.remove(&self.temporary).await?;
            return Ok(Step::Done);
        };
        machine.save(&self.temporary, &new).await?;
        self.new = new;
        self.exchanged = false;
        Ok(Step::More)
    }
}
