//! Records every change that this process makes to files below one folder, by standing in for the C library's functions.
//!
//! SQLite and the standard library both call them by name, so what is recorded is what the real code asks the real kernel for, in its order,
//! and the code under test needs no hook. Calls can be told to fail. Nothing is ever flushed for real: the recorded flush is what counts.

use libc::{c_char, c_int, c_void, mode_t, off64_t};
use std::ffi::CStr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// One thing that happened, in order. Paths are below the recorded folder.
#[derive(Debug, Clone)]
pub(crate) enum Event {
    MakeFolder(String),
    Create(String),
    Write {
        path: String,
        offset: u64,
        bytes: Vec<u8>,
    },
    Resize {
        path: String,
        size: u64,
    },
    Punch {
        path: String,
        offset: u64,
        length: u64,
    },
    /// A file, or a folder with its names, is flushed.
    Flush(String),
    /// A flush failed: the kernel forgets what it could not write, and says so only once.
    FlushFailed(String),
    Unlink(String),
    Rename {
        from: String,
        to: String,
    },
    /// The test notes what the replica has promised.
    Mark(crate::script::Mark),
}

/// Which calls are to fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Failure {
    /// From this event on, this many calls that need space fail with ENOSPC.
    NoSpace { from: usize, count: usize },
    /// The flush with this number fails with EIO; the next ones succeed, as on Linux.
    Flush { nth: usize },
}

/// Asked at each event; what it answers is kept beside the event.
pub(crate) type Probe = Box<dyn FnMut() -> Option<Arc<notefs_cache::store::MemoryStore>> + Send>;

/// An event, and the store as it was then, if it had changed since the event before.
pub(crate) struct Recorded {
    pub(crate) event: Event,
    pub(crate) store: Option<Arc<notefs_cache::store::MemoryStore>>,
}

struct Recorder {
    root: String,
    events: Vec<Recorded>,
    probe: Probe,
    failure: Option<Failure>,
    paused: bool,
    flushes: usize,
    failed: usize,
}

/// Calls that were made to fail, in all.
static FAILED: AtomicUsize = AtomicUsize::new(0);

static RECORDER: Mutex<Option<Recorder>> = Mutex::new(None);

fn recorder() -> MutexGuard<'static, Option<Recorder>> {
    RECORDER.lock().unwrap_or_else(PoisonError::into_inner)
}

/// One test at a time: there is one recorder.
pub(crate) fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Begins to record what happens below `root`. One recording at a time.
pub(crate) fn start(root: &std::path::Path, probe: Probe) {
    let root = format!("{}/", root.display());
    *recorder() = Some(Recorder {
        root,
        events: Vec::new(),
        probe,
        failure: None,
        paused: false,
        flushes: 0,
        failed: 0,
    });
}

/// Ends the recording.
pub(crate) fn stop() -> Vec<Recorded> {
    recorder().take().map(|recorder| recorder.events).unwrap_or_default()
}

/// Makes calls fail from now on.
pub(crate) fn fail(failure: Option<Failure>) {
    if let Some(recorder) = recorder().as_mut() {
        recorder.failure = failure;
        recorder.flushes = 0;
    }
}

/// Lets everything succeed for a while, so that the test itself can look.
pub(crate) fn pause(paused: bool) {
    if let Some(recorder) = recorder().as_mut() {
        recorder.paused = paused;
    }
}

/// How many calls were made to fail.
pub(crate) fn failed() -> usize {
    FAILED.load(Ordering::SeqCst)
}

pub(crate) fn mark(mark: crate::script::Mark) {
    if let Some(recorder) = recorder().as_mut() {
        recorder.push(Event::Mark(mark));
    }
}

impl Recorder {
    fn push(&mut self, event: Event) {
        let store = (self.probe)();
        self.events.push(Recorded { event, store });
    }

    /// The path below the root that a descriptor leads to, unless its file is gone or none of ours.
    fn path_of(&self, descriptor: c_int) -> Option<String> {
        let mut buffer = [0_u8; 512];
        let link = format!("/proc/self/fd/{descriptor}\0");
        // SAFETY: the path ends with NUL, and the buffer has the length given.
        let length = unsafe { libc::readlink(link.as_ptr().cast(), buffer.as_mut_ptr().cast(), buffer.len()) };
        let path = std::str::from_utf8(buffer.get(..usize::try_from(length).ok()?)?).ok()?;
        if path.len() + 1 == self.root.len() && self.root.starts_with(path) {
            return Some(String::new());
        }
        let below = path.strip_prefix(&self.root)?;
        (!below.ends_with(" (deleted)") && !below.ends_with("-shm")).then(|| below.to_owned())
    }

    fn no_space(&mut self) -> bool {
        let Some(Failure::NoSpace { from, count }) = self.failure else {
            return false;
        };
        let fails = !self.paused && self.events.len() >= from && self.failed < count;
        self.failed += usize::from(fails);
        FAILED.fetch_add(usize::from(fails), Ordering::SeqCst);
        fails
    }
}

fn refuse(errno: c_int) -> isize {
    // SAFETY: the location is this thread's own.
    unsafe { *libc::__errno_location() = errno };
    -1
}

fn written(descriptor: c_int, offset: Option<u64>, data: *const c_void, count: usize) -> isize {
    let mut guard = recorder();
    let path = guard.as_ref().and_then(|recorder| recorder.path_of(descriptor));
    // SAFETY: plain system calls with the caller's own arguments.
    let (at, write) = unsafe {
        let at = match offset {
            Some(offset) => offset as i64,
            None if path.is_some() => libc::lseek64(descriptor, 0, libc::SEEK_CUR),
            None => 0,
        };
        let write = move || match offset {
            Some(offset) => libc::syscall(libc::SYS_pwrite64, descriptor, data, count, offset as i64),
            None => libc::syscall(libc::SYS_write, descriptor, data, count),
        };
        (at as u64, write)
    };
    let (Some(recorder), Some(path)) = (guard.as_mut(), path) else {
        drop(guard);
        return write() as isize;
    };
    if recorder.no_space() {
        return refuse(libc::ENOSPC);
    }
    let done = write();
    if done > 0 {
        // SAFETY: the kernel has just read so many bytes from there.
        let bytes = unsafe { std::slice::from_raw_parts(data.cast::<u8>(), done as usize) }.to_vec();
        let offset = at;
        recorder.push(Event::Write { path, offset, bytes });
    }
    done as isize
}

fn flushed(descriptor: c_int) -> c_int {
    let mut guard = recorder();
    let Some(recorder) = guard.as_mut() else { return 0 };
    let Some(path) = recorder.path_of(descriptor) else {
        return 0;
    };
    recorder.flushes += 1;
    if recorder.failure == Some(Failure::Flush { nth: recorder.flushes }) {
        FAILED.fetch_add(1, Ordering::SeqCst);
        recorder.push(Event::FlushFailed(path));
        return refuse(libc::EIO) as c_int;
    }
    recorder.push(Event::Flush(path));
    0
}

/// Does something to a path, and records it if it succeeds and the path is ours.
fn on_path(path: *const c_char, event: fn(String) -> Event, act: impl Fn() -> i64) -> c_int {
    let mut guard = recorder();
    // SAFETY: callers of the C library pass strings that end with NUL.
    let name = unsafe { CStr::from_ptr(path) }.to_str().unwrap_or_default();
    let done = act() as c_int;
    if let Some(recorder) = guard.as_mut()
        && done >= 0
        && let Some(below) = name.strip_prefix(&recorder.root)
        && !below.ends_with("-shm")
    {
        recorder.push(event(below.to_owned()));
    }
    done
}

fn opened(path: *const c_char, flags: c_int, mode: mode_t) -> c_int {
    // SAFETY: plain system calls with the caller's own arguments; without O_CREAT the kernel ignores the mode.
    let act = || unsafe { libc::syscall(libc::SYS_openat, libc::AT_FDCWD, path, flags | libc::O_CLOEXEC, mode) };
    // SAFETY: as above.
    let is_new = flags & libc::O_CREAT != 0 && unsafe { libc::syscall(libc::SYS_access, path, libc::F_OK) } != 0;
    if is_new {
        on_path(path, Event::Create, act)
    } else {
        act() as c_int
    }
}

fn resized(descriptor: c_int, size: i64) -> c_int {
    let mut guard = recorder();
    let path = guard.as_ref().and_then(|recorder| recorder.path_of(descriptor));
    // SAFETY: a plain system call with the caller's own arguments.
    let done = unsafe { libc::syscall(libc::SYS_ftruncate, descriptor, size) } as c_int;
    if let (Some(recorder), Some(path), 0) = (guard.as_mut(), path, done) {
        recorder.push(Event::Resize {
            path,
            size: size as u64,
        });
    }
    done
}

// The C library's own names: what SQLite and the standard library call ends up here.

#[unsafe(no_mangle)]
extern "C" fn open64(path: *const c_char, flags: c_int, mode: mode_t) -> c_int {
    opened(path, flags, mode)
}

#[unsafe(no_mangle)]
extern "C" fn open(path: *const c_char, flags: c_int, mode: mode_t) -> c_int {
    opened(path, flags, mode)
}

#[unsafe(no_mangle)]
extern "C" fn write(descriptor: c_int, data: *const c_void, count: usize) -> isize {
    written(descriptor, None, data, count)
}

#[unsafe(no_mangle)]
extern "C" fn pwrite(descriptor: c_int, data: *const c_void, count: usize, offset: off64_t) -> isize {
    written(descriptor, Some(offset as u64), data, count)
}

#[unsafe(no_mangle)]
extern "C" fn pwrite64(descriptor: c_int, data: *const c_void, count: usize, offset: off64_t) -> isize {
    written(descriptor, Some(offset as u64), data, count)
}

#[unsafe(no_mangle)]
extern "C" fn ftruncate(descriptor: c_int, size: off64_t) -> c_int {
    resized(descriptor, size)
}

#[unsafe(no_mangle)]
extern "C" fn ftruncate64(descriptor: c_int, size: off64_t) -> c_int {
    resized(descriptor, size)
}

#[unsafe(no_mangle)]
extern "C" fn fallocate64(descriptor: c_int, mode: c_int, offset: off64_t, length: off64_t) -> c_int {
    let mut guard = recorder();
    let path = guard.as_ref().and_then(|recorder| recorder.path_of(descriptor));
    // SAFETY: a plain system call with the caller's own arguments.
    let done = unsafe { libc::syscall(libc::SYS_fallocate, descriptor, mode, offset, length) } as c_int;
    if let (Some(recorder), Some(path), 0) = (guard.as_mut(), path, done) {
        let (offset, length) = (offset as u64, length as u64);
        recorder.push(Event::Punch { path, offset, length });
    }
    done
}

#[unsafe(no_mangle)]
extern "C" fn fsync(descriptor: c_int) -> c_int {
    flushed(descriptor)
}

#[unsafe(no_mangle)]
extern "C" fn fdatasync(descriptor: c_int) -> c_int {
    flushed(descriptor)
}

#[unsafe(no_mangle)]
extern "C" fn unlink(path: *const c_char) -> c_int {
    // SAFETY: a plain system call with the caller's own argument.
    on_path(path, Event::Unlink, || unsafe {
        libc::syscall(libc::SYS_unlinkat, libc::AT_FDCWD, path, 0)
    })
}

#[unsafe(no_mangle)]
extern "C" fn mkdir(path: *const c_char, mode: mode_t) -> c_int {
    // SAFETY: a plain system call with the caller's own arguments.
    on_path(path, Event::MakeFolder, || unsafe {
        libc::syscall(libc::SYS_mkdirat, libc::AT_FDCWD, path, mode)
    })
}

#[unsafe(no_mangle)]
extern "C" fn rename(from: *const c_char, to: *const c_char) -> c_int {
    let mut guard = recorder();
    // SAFETY: callers of the C library pass strings that end with NUL.
    let (source, target) = unsafe { (CStr::from_ptr(from), CStr::from_ptr(to)) };
    // SAFETY: a plain system call with the caller's own arguments.
    let done = unsafe { libc::syscall(libc::SYS_renameat, libc::AT_FDCWD, from, libc::AT_FDCWD, to) } as c_int;
    if let (Some(recorder), 0) = (guard.as_mut(), done) {
        let below = |path: &CStr| path.to_str().ok()?.strip_prefix(&recorder.root).map(str::to_owned);
        if let (Some(from), Some(to)) = (below(source), below(target)) {
            recorder.push(Event::Rename { from, to });
        }
    }
    done
}
