//! System calls that the standard library does not offer, with paths in and `io::Error` out.

use std::ffi::CString;
use std::fs::File;
use std::io::{Error, Result};
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// `path` for the kernel.
pub fn c_path(path: &Path) -> CString {
    CString::new(path.as_os_str().as_bytes()).expect("a path has no NUL")
}

fn check(result: i64) -> Result<i64> {
    if result < 0 {
        Err(Error::last_os_error())
    } else {
        Ok(result)
    }
}

/// The number behind an error, or 0.
pub fn errno<T>(result: &Result<T>) -> i32 {
    result.as_ref().err().and_then(Error::raw_os_error).unwrap_or(0)
}

/// `renameat2` with flags.
pub fn rename_with(from: &Path, to: &Path, flags: u32) -> Result<()> {
    let (from, to) = (c_path(from), c_path(to));
    // SAFETY: both paths are valid C strings.
    let result = unsafe {
        libc::syscall(
            libc::SYS_renameat2,
            libc::AT_FDCWD,
            from.as_ptr(),
            libc::AT_FDCWD,
            to.as_ptr(),
            flags,
        )
    };
    check(result).map(drop)
}

/// `truncate`, by path: no handle is opened.
pub fn truncate(path: &Path, size: u64) -> Result<()> {
    // SAFETY: the path is a valid C string.
    check(i64::from(unsafe { libc::truncate(c_path(path).as_ptr(), size as i64) })).map(drop)
}

/// `fallocate` with a mode.
pub fn fallocate(file: &File, mode: i32, offset: i64, length: i64) -> Result<()> {
    // SAFETY: the file is open.
    check(i64::from(unsafe {
        libc::fallocate(file.as_raw_fd(), mode, offset, length)
    }))
    .map(drop)
}

/// `lseek` with any whence.
pub fn seek(file: &File, offset: i64, whence: i32) -> Result<i64> {
    // SAFETY: the file is open.
    check(unsafe { libc::lseek(file.as_raw_fd(), offset, whence) })
}

/// `copy_file_range` from the current positions.
pub fn copy_range(from: &File, to: &File, length: usize) -> Result<usize> {
    let none = std::ptr::null_mut();
    // SAFETY: both files are open; null offsets mean the files' own positions.
    let copied = unsafe { libc::copy_file_range(from.as_raw_fd(), none, to.as_raw_fd(), none, length, 0) };
    check(copied as i64).map(|copied| copied as usize)
}

/// `mknod`.
pub fn make_node(path: &Path, mode: u32, device: u64) -> Result<()> {
    // SAFETY: the path is a valid C string.
    check(i64::from(unsafe { libc::mknod(c_path(path).as_ptr(), mode, device) })).map(drop)
}

/// Sets modification and access time, in seconds and nanoseconds since 1970, on the name itself.
pub fn set_times(path: &Path, seconds: i64, nanoseconds: i64) -> Result<()> {
    let time = libc::timespec {
        tv_sec: seconds,
        tv_nsec: nanoseconds,
    };
    let (path, times) = (c_path(path), [time, time]);
    // SAFETY: the path is a valid C string and the two times outlive the call.
    let result = unsafe { libc::utimensat(libc::AT_FDCWD, path.as_ptr(), times.as_ptr(), libc::AT_SYMLINK_NOFOLLOW) };
    check(i64::from(result)).map(drop)
}

/// An extended attribute's value.
pub fn get_xattr(path: &Path, name: &str) -> Result<Vec<u8>> {
    let mut value = vec![0_u8; 65_536];
    let (path, name) = (c_path(path), CString::new(name)?);
    // SAFETY: the strings are valid and the buffer has the length given.
    let length = unsafe { libc::lgetxattr(path.as_ptr(), name.as_ptr(), value.as_mut_ptr().cast(), value.len()) };
    value.truncate(check(length as i64)? as usize);
    Ok(value)
}

/// Sets an extended attribute.
pub fn set_xattr(path: &Path, name: &str, value: &[u8], flags: i32) -> Result<()> {
    let (path, name) = (c_path(path), CString::new(name)?);
    // SAFETY: the strings are valid and the value has the length given.
    let result = unsafe { libc::lsetxattr(path.as_ptr(), name.as_ptr(), value.as_ptr().cast(), value.len(), flags) };
    check(i64::from(result)).map(drop)
}

/// Removes an extended attribute.
pub fn remove_xattr(path: &Path, name: &str) -> Result<()> {
    let (path, name) = (c_path(path), CString::new(name)?);
    // SAFETY: the strings are valid.
    check(i64::from(unsafe { libc::lremovexattr(path.as_ptr(), name.as_ptr()) })).map(drop)
}

/// The names of the extended attributes.
pub fn list_xattrs(path: &Path) -> Result<Vec<String>> {
    let mut names = vec![0_u8; 65_536];
    let path = c_path(path);
    // SAFETY: the path is valid and the buffer has the length given.
    let length = unsafe { libc::llistxattr(path.as_ptr(), names.as_mut_ptr().cast(), names.len()) };
    names.truncate(check(length as i64)? as usize);
    let names = names.split(|byte| *byte == 0).filter(|name| !name.is_empty());
    Ok(names.map(|name| String::from_utf8_lossy(name).into_owned()).collect())
}

/// Makes a folder writable again that a killed daemon left immutable, where the file system knows that.
pub fn unseal(folder: &Path) {
    const GET_FLAGS: libc::c_ulong = 0x8008_6601;
    const SET_FLAGS: libc::c_ulong = 0x4008_6602;
    const IMMUTABLE: libc::c_long = 0x10;
    let Ok(file) = File::open(folder) else { return };
    let mut flags: libc::c_long = 0;
    // SAFETY: both calls take a pointer to a long that outlives them.
    unsafe {
        if libc::ioctl(file.as_raw_fd(), GET_FLAGS, &raw mut flags) == 0 && flags & IMMUTABLE != 0 {
            flags &= !IMMUTABLE;
            libc::ioctl(file.as_raw_fd(), SET_FLAGS, &raw const flags);
        }
    }
}

/// `statfs`.
pub fn stat_fs(path: &Path) -> Result<libc::statfs> {
    let path = c_path(path);
    let mut answer = std::mem::MaybeUninit::<libc::statfs>::zeroed();
    // SAFETY: the path is valid and the kernel fills the whole answer.
    unsafe {
        check(i64::from(libc::statfs(path.as_ptr(), answer.as_mut_ptr())))?;
        Ok(answer.assume_init())
    }
}

/// A shared, writable mapping of a file.
#[derive(Debug)]
pub struct Mapping {
    start: *mut u8,
    length: usize,
}

impl Mapping {
    /// Maps the first `length` bytes.
    pub fn new(file: &File, length: usize) -> Result<Mapping> {
        let access = libc::PROT_READ | libc::PROT_WRITE;
        // SAFETY: the file is open and the kernel chooses the address.
        let start = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                length,
                access,
                libc::MAP_SHARED,
                file.as_raw_fd(),
                0,
            )
        };
        if start == libc::MAP_FAILED {
            return Err(Error::last_os_error());
        }
        Ok(Mapping {
            start: start.cast(),
            length,
        })
    }

    /// The mapped bytes.
    pub fn bytes(&mut self) -> &mut [u8] {
        // SAFETY: the mapping is this long, and borrowed by one caller at a time.
        unsafe { std::slice::from_raw_parts_mut(self.start, self.length) }
    }

    /// Writes the changed pages to the file.
    pub fn sync(&self) -> Result<()> {
        // SAFETY: the range is the mapping's own.
        check(i64::from(unsafe {
            libc::msync(self.start.cast(), self.length, libc::MS_SYNC)
        }))
        .map(drop)
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: the range is the mapping's own, and is not used afterwards.
        unsafe { libc::munmap(self.start.cast(), self.length) };
    }
}
