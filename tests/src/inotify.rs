//! inotify without a program in between, for figures: which names of a folder had an event, as soon as the kernel says so.

use std::ffi::CStr;
use std::io::{Error, Read, Result};
use std::os::fd::{AsRawFd, FromRawFd};
use std::path::Path;
use std::time::Duration;

use crate::sys::c_path;

/// A watch on one folder.
#[derive(Debug)]
pub struct Inotify {
    file: std::fs::File,
}

impl Inotify {
    /// Watches for what a change raises, and not for what a reader does.
    pub fn on(folder: &Path) -> Result<Inotify> {
        // SAFETY: the call takes numbers only; the descriptor it answers is nobody else's.
        let descriptor = unsafe { libc::inotify_init1(libc::IN_NONBLOCK | libc::IN_CLOEXEC) };
        if descriptor < 0 {
            return Err(Error::last_os_error());
        }
        // SAFETY: the descriptor was just made, and is owned by the file from now on.
        let file = unsafe { std::fs::File::from_raw_fd(descriptor) };
        let events = libc::IN_CREATE | libc::IN_MODIFY | libc::IN_CLOSE_WRITE | libc::IN_MOVE | libc::IN_DELETE;
        // SAFETY: the descriptor is open and the path is a valid C string.
        let watch = unsafe { libc::inotify_add_watch(file.as_raw_fd(), c_path(folder).as_ptr(), events) };
        if watch < 0 {
            return Err(Error::last_os_error());
        }
        Ok(Inotify { file })
    }

    /// The names that had events, waiting at most this long for the first.
    pub fn names(&mut self, limit: Duration) -> Result<Vec<String>> {
        let mut poll = libc::pollfd {
            fd: self.file.as_raw_fd(),
            events: libc::POLLIN,
            revents: 0,
        };
        // SAFETY: one descriptor is described, and it outlives the call.
        unsafe { libc::poll(&raw mut poll, 1, limit.as_millis() as i32) };
        let mut buffer = [0; 16 << 10];
        let length = match self.file.read(&mut buffer) {
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => 0,
            length => length?,
        };
        Ok(names_in(&buffer[..length]))
    }
}

/// Each event is a head, whose last field is the length of the name that follows, padded with NUL.
fn names_in(mut events: &[u8]) -> Vec<String> {
    const HEAD: usize = size_of::<libc::inotify_event>();
    let mut names = Vec::new();
    while let Some((head, rest)) = events.split_at_checked(HEAD) {
        let length = u32::from_ne_bytes([head[12], head[13], head[14], head[15]]) as usize;
        let Some((name, rest)) = rest.split_at_checked(length) else {
            break;
        };
        if let Ok(name) = CStr::from_bytes_until_nul(name) {
            names.push(name.to_string_lossy().into_owned());
        }
        events = rest;
    }
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_come_as_the_kernel_says_them() {
        let folder = crate::scratch::folder("inotify").unwrap();
        let mut watch = Inotify::on(&folder).unwrap();
        assert!(watch.names(Duration::ZERO).unwrap().is_empty());
        std::fs::write(folder.join("one"), "1").unwrap();
        std::fs::rename(folder.join("one"), folder.join("a longer name")).unwrap();
        let names = watch.names(crate::PATIENCE).unwrap();
        assert_eq!(names.first().map(String::as_str), Some("one"));
        assert_eq!(names.last().map(String::as_str), Some("a longer name"));
    }
}
