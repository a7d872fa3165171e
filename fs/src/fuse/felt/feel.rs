//! Brings one change of the bucket into effect, with its events or without.

use super::fresh::Fresh;
use super::staff::Staff;
use super::{Act, FeltParts};
use crate::events::{Event, EventKind, ORIGIN_SEVERAL};
use crate::felt::{Command, Refusal};
use crate::fuse::felt::gate::Outcome;
use fuser::INodeNo;
use notefs_cache::replica::{Observer, RemoteChange, RemoteChangeKind};
use notefs_cache::{Attr, FileKind, Ino};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::time::{Duration, Instant};

/// How long a change waits for a folder or file that a program holds while it waits for the bucket.
const HELD_WAIT_MS: u64 = 500;

/// Between two looks at it.
const HELD_POLL_MS: u64 = 2;

/// Folders and files remembered that were waited for in vain.
const WAITED_FOR_MAX: usize = 64;

pub(super) struct Feeler {
    parts: FeltParts,
    pub(super) staff: Staff,
    /// What is held so long that nothing waits for it once more, until it has been free.
    waited_for: Vec<Ino>,
    fresh: Fresh,
}

/// What a change is to the actor and to the gate.
struct Plan {
    command: Command,
    act: Act,
}

impl Feeler {
    pub(super) fn new(parts: FeltParts, staff: Staff) -> Feeler {
        Feeler {
            parts,
            staff,
            waited_for: Vec::new(),
            fresh: Fresh::default(),
        }
    }

    /// Lets a change take effect with its events. Answers false if it took effect without them.
    pub(super) fn feel(&mut self, change: &RemoteChange) -> bool {
        let begun = Instant::now();
        if self.staff.is_present() {
            // First: those for whom this waits may begin to hold the folder.
            std::thread::sleep(self.fresh.wait(change.parent, Instant::now()));
        }
        let is_held = self.wait_until_free(change);
        if !self.staff.is_present() || is_held {
            return !self.take_effect(change);
        }
        let felt = match &change.kind {
            RemoteChangeKind::Modified => self.feel_modified(change),
            _ => self.feel_name(change),
        };
        if felt && change.is_dir && change.kind == RemoteChangeKind::Created {
            self.fresh.made(change.ino, Instant::now());
        }
        let micros = begun.elapsed().as_micros() as u64;
        tracing::debug!(micros, felt, kind = ?change.kind, "A change of the bucket took effect");
        felt
    }

    fn feel_name(&mut self, change: &RemoteChange) -> bool {
        let Some(Plan { command, act }) = self.plan(change) else {
            return !self.take_effect(change);
        };
        match self.perform(&command, &act, Some(change.id)) {
            Outcome::Done => {
                self.publish(change, true);
                true
            }
            Outcome::Missing => !self.take_effect(change),
            Outcome::Unfelt => {
                self.tell_kernel(change);
                self.publish(change, false);
                false
            }
            // Somebody was faster: whatever the kernel believes may be wrong.
            Outcome::Void => {
                self.tell_kernel(change);
                false
            }
        }
    }

    /// The content takes effect before its event. What is no file only has attributes that change.
    fn feel_modified(&mut self, change: &RemoteChange) -> bool {
        let Some(attr) = self.effect(change) else {
            return true;
        };
        self.tell_kernel(change);
        let Some(path) = self.path(change.parent, &change.name) else {
            self.publish(change, false);
            return false;
        };
        let command = if attr.kind == FileKind::File {
            Command::Modify(path)
        } else {
            Command::Touch(path)
        };
        let felt = self.perform(&command, &Act::Touch(attr.ino), None) == Outcome::Done;
        self.publish(change, felt);
        felt
    }

    /// Whether a folder can be touched now, or never needs to be.
    pub(super) fn can_touch(&self) -> bool {
        self.staff.is_present() || !self.staff.is_wanted()
    }

    /// Touches a folder in which something changed without an event. Answers false if the actor ended before it was done.
    pub(super) fn touch(&mut self, folder: Ino) -> bool {
        // A folder that is gone by now needs no event.
        let Ok(path) = self.parts.filesystem.replica().path(folder) else {
            return true;
        };
        if self.staff.is_wanted() {
            let outcome = self.perform(&Command::Touch(path.clone()), &Act::Touch(folder), None);
            if outcome == Outcome::Missing && !self.staff.is_present() {
                return false;
            }
        }
        if self.parts.events.has_readers() {
            let event = Event::new(EventKind::Modified, path, None, true);
            let origin = ORIGIN_SEVERAL.to_owned();
            self.parts.events.publish(Event { origin, ..event });
        }
        true
    }

    /// The folder of a file that has a name.
    pub(super) fn folder_of(&self, ino: Ino) -> Option<Ino> {
        let replica = self.parts.filesystem.replica();
        let path = replica.path(ino).ok().filter(|path| !path.is_empty())?;
        let folder = path
            .iter()
            .rposition(|byte| *byte == b'/')
            .map_or(&[][..], |slash| &path[..slash]);
        replica.resolve(folder).ok().map(|attr| attr.ino)
    }

    /// Has the command done; once more, by another actor, if this one ended before it did anything.
    fn perform(&mut self, command: &Command, act: &Act, change: Option<u64>) -> Outcome {
        for _ in 0..2 {
            self.parts.gate.expect(act.clone(), change);
            let result = self.staff.perform(command);
            let outcome = self.parts.gate.settle();
            match result {
                Err(Refusal::Broken(error)) if outcome == Outcome::Missing && is_end(&error) => self.staff.look_after(),
                Err(Refusal::Errno(errno)) => {
                    tracing::debug!(errno, ?act, "A change of the bucket could not be felt");
                    return outcome;
                }
                _ => return outcome,
            }
        }
        Outcome::Missing
    }

    /// Lets a change take effect without events; answers whether it did.
    pub(super) fn take_effect(&mut self, change: &RemoteChange) -> bool {
        let applied = self.effect(change).is_some();
        if applied {
            self.tell_kernel(change);
            self.publish(change, false);
        }
        applied
    }

    fn effect(&self, change: &RemoteChange) -> Option<Attr> {
        let taken = self.parts.filesystem.replica().take_effect(change.id);
        taken.unwrap_or_else(|error| {
            tracing::warn!("A change from the bucket could not take effect: {error}");
            None
        })
    }

    fn path(&self, parent: Ino, name: &[u8]) -> Option<Vec<u8>> {
        let mut path = self.parts.filesystem.replica().path(parent).ok()?;
        if !path.is_empty() {
            path.push(b'/');
        }
        path.extend(name);
        Some(path)
    }

    fn plan(&self, change: &RemoteChange) -> Option<Plan> {
        let path = self.path(change.parent, &change.name)?;
        let (at, is_dir) = ((INodeNo(change.parent), OsStr::from_bytes(&change.name)), change.is_dir);
        let (command, act) = match &change.kind {
            RemoteChangeKind::Created if is_dir => (Command::MakeFolder(path), Act::making(at, true)),
            RemoteChangeKind::Created => (Command::Create(path), Act::making(at, false)),
            RemoteChangeKind::Removed if is_dir => (Command::RemoveFolder(path), Act::removal(at, true)),
            RemoteChangeKind::Removed => (Command::Remove(path), Act::removal(at, false)),
            RemoteChangeKind::Moved { from_parent, from_name } => {
                let before = (INodeNo(*from_parent), OsStr::from_bytes(from_name));
                let from = self.path(*from_parent, from_name)?;
                (Command::Move { from, to: path }, Act::renaming(before, at))
            }
            RemoteChangeKind::Modified => return None,
        };
        Some(Plan { command, act })
    }

    /// Waits a moment for programs that hold what the change concerns; answers whether they still do. Only the first of many changes waits.
    fn wait_until_free(&mut self, change: &RemoteChange) -> bool {
        let from = match &change.kind {
            RemoteChangeKind::Moved { from_parent, .. } => *from_parent,
            _ => change.parent,
        };
        let filesystem = &self.parts.filesystem;
        self.waited_for.retain(|ino| filesystem.is_waited_on(*ino));
        let concerned = [change.parent, from, change.ino];
        let until = Instant::now() + Duration::from_millis(HELD_WAIT_MS);
        loop {
            let held: Vec<Ino> = concerned
                .into_iter()
                .filter(|ino| filesystem.is_waited_on(*ino))
                .collect();
            if held.is_empty() {
                return false;
            }
            if held.iter().any(|ino| self.waited_for.contains(ino)) {
                return true;
            }
            if Instant::now() >= until {
                self.waited_for.extend(held);
                self.waited_for.truncate(WAITED_FOR_MAX);
                return true;
            }
            std::thread::sleep(Duration::from_millis(HELD_POLL_MS));
        }
    }

    /// Makes the kernel forget what the change made untrue: at once, or later where somebody holds it.
    fn tell_kernel(&self, change: &RemoteChange) {
        if change.kind == RemoteChangeKind::Modified {
            return self.drop_inode(change.ino);
        }
        self.drop_name(change.parent, &change.name);
        if let RemoteChangeKind::Moved { from_parent, from_name } = &change.kind {
            self.drop_name(*from_parent, from_name);
        }
    }

    fn drop_name(&self, parent: Ino, name: &[u8]) {
        if self.parts.filesystem.is_waited_on(parent) {
            return self.parts.kernel.entry_changed(parent, name);
        }
        // An error means that the kernel does not know the name.
        self.parts
            .notifier
            .inval_entry(INodeNo(parent), OsStr::from_bytes(name))
            .ok();
        self.drop_inode(parent);
    }

    fn drop_inode(&self, ino: Ino) {
        if self.parts.filesystem.is_waited_on(ino) {
            return self.parts.kernel.inode_changed(ino);
        }
        self.parts.notifier.inval_inode(INodeNo(ino), 0, 0).ok();
    }

    fn publish(&self, change: &RemoteChange, felt: bool) {
        if !self.parts.events.has_readers() {
            return;
        }
        let Some(path) = self.path(change.parent, &change.name) else {
            return;
        };
        let (kind, from) = match &change.kind {
            RemoteChangeKind::Created => (EventKind::Created, None),
            RemoteChangeKind::Modified => (EventKind::Modified, None),
            RemoteChangeKind::Removed => (EventKind::Removed, None),
            RemoteChangeKind::Moved { from_parent, from_name } => {
                (EventKind::Moved, self.path(*from_parent, from_name))
            }
        };
        self.parts.events.publish(Event {
            origin: change.origin.clone(),
            felt: Some(felt),
            ..Event::new(kind, path, from, change.is_dir)
        });
    }
}

/// Whether the actor is gone, rather than slow.
pub(super) fn is_end(error: &std::io::Error) -> bool {
    !matches!(
        error.kind(),
        std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut
    )
}
