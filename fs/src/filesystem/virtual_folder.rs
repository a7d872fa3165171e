//! The virtual folder `.notefs`: questions as folders, and their answers as links to notes.
//!
//! Nothing in it is stored, indexed or told of: it exists while somebody looks at it. Owns what is in which folder, how long an answer is
//! kept so that a listing and the looks that follow agree, and the bounds of both. Does not own names and numbers (`place`) nor the
//! answers ([`Oracle`]).

mod place;

use super::tree::Tree;
use crate::filesystem::Errno;
use lru::LruCache;
use notefs_cache::{Attr, DirEntry, Error, FileKind, Ino, ROOT_INO, Timestamp};
use parking_lot::Mutex;
use place::{FIRST_INO, Place, What, folder_ino, is_query, plain, ranked, tags_below};
use std::collections::HashSet;
use std::num::NonZeroUsize;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Its name in the root. The bucket's own objects of that prefix are never shown.
pub(super) const VIRTUAL_NAME: &[u8] = b".notefs";

/// Links that one answer holds.
pub const LINKS_MAX: usize = 200;

/// Notes and folders that one folder below `backlinks` lists; all can be named.
const LISTED_MAX: usize = 1_000;

/// Places that are remembered by their numbers; of one that is forgotten ESTALE is said, and it is looked up anew.
const PLACES_MAX: NonZeroUsize = NonZeroUsize::new(20_000).unwrap();

/// Answers that are kept.
const ANSWERS_MAX: NonZeroUsize = NonZeroUsize::new(64).unwrap();

/// How long an answer stands where nothing was written meanwhile, and names of it are found.
const ANSWER_FRESH_MS: u64 = 1_000;

/// Positions below are those of `.` and `..`.
const FIRST_COOKIE: u64 = 16;

/// The position of the virtual folder in the root: behind everything.
const LAST_COOKIE: u64 = i64::MAX as u64 - 1;

/// Only for who runs the mount: an answer names notes of all folders.
const FOLDER_MODE: u32 = 0o500;
const FILE_MODE: u32 = 0o400;

/// What is asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Question {
    /// The notes that a search finds, best first.
    Search(String),
    /// The notes with a tag.
    Tag(String),
    /// The notes that link to one.
    Backlinks(Vec<u8>),
    /// The notes that were changed last, newest first.
    Recent,
    /// The notes in conflict, and their copies.
    Conflicts,
}

/// Who knows the answers. It may take its time; nothing of the kernel waits but the asker.
pub trait Oracle: Send + Sync {
    /// A number that is another one after each change of the notes.
    fn written(&self) -> u64;

    /// Paths of at most [`LINKS_MAX`] notes.
    ///
    /// # Errors
    /// If nothing is known, which has been logged.
    fn notes(&self, question: &Question) -> Result<Vec<Vec<u8>>, Errno>;

    /// All tags.
    ///
    /// # Errors
    /// As above.
    fn tags(&self) -> Result<Vec<String>, Errno>;

    /// The state of the mount as JSON.
    ///
    /// # Errors
    /// As above.
    fn status(&self) -> Result<Vec<u8>, Errno>;
}

/// Whether an inode number is of the virtual folder.
pub fn is_virtual(ino: Ino) -> bool {
    ino >= FIRST_INO
}

/// What a folder holds, as it was told.
#[derive(Clone)]
struct Told {
    at: Instant,
    /// What had been written by then.
    written: u64,
    children: Arc<Vec<Place>>,
}

impl Told {
    fn is_recent(&self) -> bool {
        self.at.elapsed() < Duration::from_millis(ANSWER_FRESH_MS)
    }

    fn find(&self, name: &[u8]) -> Option<Place> {
        self.children.iter().find(|child| child.name() == name).cloned()
    }
}

/// The virtual folder of one mount.
pub struct VirtualFolder {
    /// Whether listings of the root show it.
    is_shown: bool,
    oracle: OnceLock<Arc<dyn Oracle>>,
    places: Mutex<LruCache<Ino, Place>>,
    told: Mutex<LruCache<Ino, Told>>,
    owner: (u32, u32),
}

impl VirtualFolder {
    /// A folder without answers yet.
    pub fn new(is_shown: bool) -> VirtualFolder {
        VirtualFolder {
            is_shown,
            oracle: OnceLock::new(),
            places: Mutex::new(LruCache::new(PLACES_MAX)),
            told: Mutex::new(LruCache::new(ANSWERS_MAX)),
            owner: (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw()),
        }
    }

    /// Says who knows the answers; the first one stays.
    pub(crate) fn ask_of(&self, oracle: Arc<dyn Oracle>) {
        drop(self.oracle.set(oracle));
    }

    fn oracle(&self) -> Result<&dyn Oracle, Error> {
        self.oracle.get().map(Arc::as_ref).ok_or(Error::Posix(libc::EAGAIN))
    }

    /// The attributes of the virtual folder itself.
    pub(super) fn top(&self) -> Attr {
        self.attr_of(&Place::top())
    }

    /// What the root's listing has behind its last entry.
    pub(super) fn in_root(&self, cookie: u64) -> Option<DirEntry> {
        (self.is_shown && cookie < LAST_COOKIE).then(|| DirEntry {
            cookie: LAST_COOKIE,
            name: VIRTUAL_NAME.to_vec(),
            attr: self.top(),
        })
    }

    pub(super) fn attr(&self, ino: Ino) -> Result<Attr, Error> {
        self.place(ino).map(|place| self.attr_of(&place))
    }

    pub(super) fn parent_of(&self, ino: Ino) -> Result<Ino, Error> {
        Ok(self.place(ino)?.folder().map_or(ROOT_INO, folder_ino))
    }

    pub(super) fn read_link(&self, ino: Ino) -> Result<Vec<u8>, Error> {
        match self.place(ino)?.what {
            What::Link(target) => Ok(target),
            _ => Err(Error::Posix(libc::EINVAL)),
        }
    }

    /// The content of the only file there is.
    pub(super) fn content(&self, ino: Ino) -> Result<Arc<[u8]>, Error> {
        match self.place(ino)?.what {
            What::Status(text) => Ok(text),
            What::Link(_) => Err(Error::Posix(libc::EINVAL)),
            _ => Err(Error::Posix(libc::EISDIR)),
        }
    }

    pub(super) fn lookup(&self, tree: &Tree, parent: Ino, name: &[u8]) -> Result<Attr, Error> {
        let folder = self.place(parent)?;
        let found = match &folder.what {
            What::Link(_) | What::Status(_) => return Err(Error::Posix(libc::ENOTDIR)),
            What::Searches if is_query(name) => {
                let query = String::from_utf8_lossy(name).into_owned();
                Some(folder.child(name, What::Answers(Question::Search(query))))
            }
            What::Searches => None,
            // Any note can be named, listed or not; those that link to a note are found below.
            What::Backlinks(path) if tree.resolve(path)?.kind == FileKind::Directory => {
                let path = joined(path, name);
                tree.resolve(&path)?;
                Some(folder.child(name, What::Backlinks(path)))
            }
            // What was listed a moment ago is found, although the answer may be another one by now.
            _ => match self
                .told(&folder)
                .filter(Told::is_recent)
                .and_then(|told| told.find(name))
            {
                Some(found) => Some(found),
                None => self.tell(tree, &folder)?.find(name),
            },
        };
        let found = found.ok_or(Error::Posix(libc::ENOENT))?;
        Ok(self.remembered(found))
    }

    /// At most `limit` entries after `cookie`.
    pub(super) fn read_dir(
        &self,
        tree: &Tree,
        ino: Ino,
        (cookie, limit): (u64, usize),
    ) -> Result<Vec<DirEntry>, Error> {
        let folder = self.place(ino)?;
        let goes_on = (cookie >= FIRST_COOKIE).then(|| self.told(&folder)).flatten();
        let told = match goes_on {
            Some(told) => told,
            None => self.tell(tree, &folder)?,
        };
        let numbered = (FIRST_COOKIE..).zip(told.children.iter());
        let wanted = numbered
            .filter(|(at, _)| *at > cookie || cookie < FIRST_COOKIE)
            .take(limit);
        let entries = wanted.map(|(cookie, child)| DirEntry {
            cookie,
            name: child.name().to_vec(),
            attr: self.remembered(child.clone()),
        });
        Ok(entries.collect())
    }

    fn place(&self, ino: Ino) -> Result<Place, Error> {
        let top = Place::top();
        if ino == top.ino() {
            return Ok(top);
        }
        let known = self.places.lock().get(&ino).cloned();
        known.ok_or(Error::Posix(libc::ESTALE))
    }

    fn remembered(&self, place: Place) -> Attr {
        let attr = self.attr_of(&place);
        self.places.lock().put(attr.ino, place);
        attr
    }

    /// What was told of a folder last.
    fn told(&self, folder: &Place) -> Option<Told> {
        self.told.lock().get(&folder.ino()).cloned()
    }

    /// What a folder holds now: as it was told a moment ago, if nothing was written since.
    fn tell(&self, tree: &Tree, folder: &Place) -> Result<Told, Error> {
        let written = self.oracle()?.written();
        let unchanged = |told: &Told| told.is_recent() && told.written == written;
        if let Some(told) = self.told(folder).filter(unchanged) {
            return Ok(told);
        }
        // No lock is held while the index is asked.
        let told = Told {
            children: Arc::new(self.ask(tree, folder)?),
            at: Instant::now(),
            written,
        };
        self.told.lock().put(folder.ino(), told.clone());
        Ok(told)
    }

    fn ask(&self, tree: &Tree, folder: &Place) -> Result<Vec<Place>, Error> {
        match &folder.what {
            What::Top => self.top_children(folder),
            What::Searches => Ok(Vec::new()),
            What::Tags(prefix) => self.tags(folder, prefix),
            What::Backlinks(path) => self.backlinks(tree, folder, path),
            What::Answers(question) => {
                let notes = self.notes(question)?;
                let names = match question {
                    Question::Search(_) | Question::Recent => ranked(&notes),
                    _ => plain(&notes, HashSet::new()),
                };
                Ok(links(folder, &names, &notes))
            }
            What::Link(_) | What::Status(_) => Err(Error::Posix(libc::ENOTDIR)),
        }
    }

    fn top_children(&self, top: &Place) -> Result<Vec<Place>, Error> {
        let status = self.oracle()?.status().map_err(posix)?;
        let children: [(&[u8], What); 6] = [
            (b"backlinks", What::Backlinks(Vec::new())),
            (b"conflicts", What::Answers(Question::Conflicts)),
            (b"recent", What::Answers(Question::Recent)),
            (b"search", What::Searches),
            (b"status.json", What::Status(status.into())),
            (b"tags", What::Tags(String::new())),
        ];
        Ok(children.map(|(name, what)| top.child(name, what)).into())
    }

    fn tags(&self, folder: &Place, prefix: &str) -> Result<Vec<Place>, Error> {
        let below = tags_below(&self.oracle()?.tags().map_err(posix)?, prefix);
        let tag = |part: &String| match prefix {
            "" => part.clone(),
            _ => format!("{prefix}/{part}"),
        };
        let mut children: Vec<Place> = below
            .iter()
            .map(|part| folder.child(part.as_bytes(), What::Tags(tag(part))))
            .collect();
        if !prefix.is_empty() {
            let notes = self.notes(&Question::Tag(prefix.to_owned()))?;
            let taken = below.into_iter().map(String::into_bytes).collect();
            children.extend(links(folder, &plain(&notes, taken), &notes));
        }
        Ok(children)
    }

    fn backlinks(&self, tree: &Tree, folder: &Place, path: &[u8]) -> Result<Vec<Place>, Error> {
        let of = tree.resolve(path)?;
        if of.kind != FileKind::Directory {
            let notes = self.notes(&Question::Backlinks(path.to_vec()))?;
            return Ok(links(folder, &plain(&notes, HashSet::new()), &notes));
        }
        let entries = tree.read_dir(of.ino, 0, LISTED_MAX)?;
        let real = entries.iter().filter(|entry| !is_virtual(entry.attr.ino));
        let child = |entry: &DirEntry| folder.child(&entry.name, What::Backlinks(joined(path, &entry.name)));
        Ok(real.map(child).collect())
    }

    fn notes(&self, question: &Question) -> Result<Vec<Vec<u8>>, Error> {
        let mut notes = self.oracle()?.notes(question).map_err(posix)?;
        notes.truncate(LINKS_MAX);
        Ok(notes)
    }

    fn attr_of(&self, place: &Place) -> Attr {
        let (kind, mode, size) = match &place.what {
            What::Link(target) => (FileKind::Symlink, 0o777, target.len()),
            What::Status(text) => (FileKind::File, FILE_MODE, text.len()),
            _ => (FileKind::Directory, FOLDER_MODE, 0),
        };
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        // Always new: what the kernel remembers of a folder's names holds as long as its time.
        let now = Timestamp {
            seconds: i64::try_from(now.as_secs()).unwrap_or(i64::MAX),
            nanoseconds: now.subsec_nanos(),
        };
        Attr {
            ino: place.ino(),
            generation: 0,
            kind,
            mode,
            uid: self.owner.0,
            gid: self.owner.1,
            rdev: 0,
            nlink: if kind == FileKind::Directory { 2 } else { 1 },
            size: size as u64,
            blocks: 0,
            atime: now,
            mtime: now,
            ctime: now,
        }
    }
}

fn posix(Errno(errno): Errno) -> Error {
    Error::Posix(errno)
}

fn joined(path: &[u8], name: &[u8]) -> Vec<u8> {
    match path {
        [] => name.to_vec(),
        _ => [path, b"/", name].concat(),
    }
}

fn links(folder: &Place, names: &[Vec<u8>], notes: &[Vec<u8>]) -> Vec<Place> {
    let both = names.iter().zip(notes);
    both.map(|(name, note)| folder.link(name, note)).collect()
}
