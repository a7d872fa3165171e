//! Commits of a folder's state in a git repository, made with the real git.
//!
//! Owns when a commit is needed, whose child it is and that a push never overwrites another's. Does not own how git is run (`git`), what a
//! commit changes (`plan`), how it is written (`import`), nor how files come back (`restore`).

mod git;
mod import;
mod plan;
mod restore;

use crate::failure::Failure;
use git::{Git, Pushed};
use plan::Known;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

pub(crate) use restore::restore;

/// How often a commit is made anew because somebody else has pushed meanwhile.
const PUSH_ATTEMPTS: u32 = 5;

/// How often a commit is begun anew because files changed while they were read.
const READ_ATTEMPTS: u32 = 5;

/// Where to and how.
#[derive(Debug, Clone)]
pub(crate) struct Target {
    /// The remote, as git takes it; may hold a secret.
    pub(crate) remote: String,
    /// The branch.
    pub(crate) branch: String,
    /// A folder of this mount's own, where the repository is kept between two snapshots.
    pub(crate) work: PathBuf,
    /// How long all of it may take.
    pub(crate) timeout: Duration,
}

/// What a snapshot was.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Taken {
    /// The commit that the branch shows now.
    pub(crate) commit: String,
    /// Files that are new or differ from the commit before.
    pub(crate) changed: u64,
    /// Files that are gone.
    pub(crate) removed: u64,
    /// What git does not keep, by path.
    pub(crate) left_out: Vec<String>,
}

/// Commits the folder's state on top of what the branch holds and pushes it; a folder that the branch shows already makes no commit.
pub(crate) fn take(folder: &Path, target: &Target, message: Option<&str>) -> Result<Taken, Failure> {
    let git = Git::open(target, Instant::now() + target.timeout)?;
    let mut known = Known::load(&target.work);
    for _ in 0..PUSH_ATTEMPTS {
        let parent = git.fetch()?;
        let tree = match &parent {
            Some(parent) => git.tree(parent)?,
            None => plan::Tree::new(),
        };
        let plan = plan_and_commit(folder, &git, &known, (parent.as_deref(), &tree), message)?;
        let commit = match (&plan.1, parent) {
            (None, Some(parent)) => parent,
            (None, None) => return Err(nothing_to_keep(folder)),
            (Some(commit), _) => match git.push(commit)? {
                Pushed::Done => commit.clone(),
                Pushed::Overtaken => continue,
            },
        };
        known = Known::of(&git.tree(&commit)?, &plan.0.seen);
        known.save(&target.work)?;
        return Ok(Taken {
            commit,
            changed: plan.0.puts.len() as u64,
            removed: plan.0.removals.len() as u64,
            left_out: plan.0.left_out,
        });
    }
    Err(Failure::new(format!(
        "Others pushed to {} {PUSH_ATTEMPTS} times while the snapshot was made",
        git.name()
    ))
    .hint("Try again, or give this machine a branch of its own with --branch"))
}

/// What the folder differs in, and the commit that says so; none if it does not differ.
fn plan_and_commit(
    folder: &Path,
    git: &Git,
    known: &Known,
    (parent, tree): (Option<&str>, &plan::Tree),
    message: Option<&str>,
) -> Result<(plan::Plan, Option<String>), Failure> {
    let mut last = None;
    for _ in 0..READ_ATTEMPTS {
        let plan = plan::plan(folder, tree, known)?;
        if plan.puts.is_empty() && plan.removals.is_empty() {
            return Ok((plan, None));
        }
        let words = message.map_or_else(|| plan.title(), str::to_owned);
        match import::commit(git, parent, &plan, &words)? {
            import::Outcome::Committed(commit) => return Ok((plan, Some(commit))),
            import::Outcome::Changed(path) => last = Some(path),
        }
    }
    let path = last.unwrap_or_default();
    Err(
        Failure::new(format!("{} changes faster than it can be read", path.display()))
            .hint("Try again when the program that writes it has ended"),
    )
}

fn nothing_to_keep(folder: &Path) -> Failure {
    Failure::new(format!("There is no file in {} to commit", folder.display()))
}
