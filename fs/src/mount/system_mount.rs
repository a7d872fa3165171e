//! The system's own NFS client, mounted on our server.
//!
//! Owns the options, chosen on purpose, for Linux and macOS:
//!
//! - version 3 over TCP on the server's one port, for MOUNT too, so that nothing asks a port mapper;
//! - `hard`: a program waits while the server is restarted, and loses nothing;
//! - locks stay on this machine (`nolock`, `locallocks`): the server offers none;
//! - attributes are remembered for one second only: changes from the bucket are seen soon, and asking costs little here.

use super::point;
use crate::failure::Failure;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

/// How long the client remembers attributes.
const ATTRIBUTES_SECONDS: u32 = 1;

/// The largest READ and WRITE.
const TRANSFER_BYTES: u32 = 1 << 20;

/// The options of Linux, as the kernel takes them; `addr` is what mount(8) would add.
fn linux_options(address: SocketAddr) -> String {
    let (ip, port) = (address.ip(), address.port());
    format!(
        "vers=3,proto=tcp,port={port},mountvers=3,mountproto=tcp,mountport={port},nolock,hard,\
         rsize={TRANSFER_BYTES},wsize={TRANSFER_BYTES},actimeo={ATTRIBUTES_SECONDS},addr={ip}"
    )
}

/// The line that mounts the server on Linux.
pub(crate) fn linux_line(address: SocketAddr) -> String {
    format!("mount -t nfs -o {} {}:/ DIR", linux_options(address), address.ip())
}

/// The line that mounts the server on macOS, where no root is needed.
pub(crate) fn macos_line(address: SocketAddr) -> String {
    let (ip, port) = (address.ip(), address.port());
    format!(
        "mount_nfs -o vers=3,tcp,port={port},mountport={port},locallocks,hard,noresvport,\
         rsize={TRANSFER_BYTES},wsize={TRANSFER_BYTES},actimeo={ATTRIBUTES_SECONDS} {ip}:/ DIR"
    )
}

/// A mount of the system's client.
#[derive(Debug)]
pub(super) struct SystemMount {
    dir: PathBuf,
}

impl SystemMount {
    /// Mounts the server at `address` on `dir`.
    pub(super) fn make(address: SocketAddr, dir: &Path, read_only: bool) -> Result<SystemMount, Failure> {
        mount(address, dir, read_only)?;
        Ok(SystemMount { dir: dir.to_owned() })
    }

    /// Takes over the mount whose server has died.
    pub(super) fn rejoin(dir: &Path) -> SystemMount {
        SystemMount { dir: dir.to_owned() }
    }

    /// Whether it is still in the mount table; that asks the server nothing.
    pub(super) fn is_there(&self) -> bool {
        let Ok(table) = point::mount_table() else { return true };
        table
            .iter()
            .any(|mounted| mounted.path == self.dir && mounted.kind.starts_with("nfs"))
    }

    /// Unmounts, unless it is gone already.
    pub(super) fn unmount(&self, lazy: bool) -> io::Result<()> {
        if self.is_there() {
            unmount(&self.dir, lazy)
        } else {
            Ok(())
        }
    }
}

/// Whether `dir` is mounted from a server at `address`. Asks the mount table only: the server may be dead.
pub(crate) fn is_mounted_from(address: SocketAddr, dir: &Path) -> Result<bool, Failure> {
    let port = format!("port={}", address.port());
    let table = point::mount_table()?;
    let mounted = table.iter().rev().find(|mounted| mounted.path == dir);
    Ok(mounted
        .is_some_and(|mounted| mounted.kind.starts_with("nfs") && mounted.options.split(',').any(|word| word == port)))
}

#[cfg(target_os = "linux")]
fn mount(address: SocketAddr, dir: &Path, read_only: bool) -> Result<(), Failure> {
    use rustix::mount::MountFlags;
    let mut flags = MountFlags::NODEV | MountFlags::NOSUID;
    if read_only {
        flags |= MountFlags::RDONLY;
    }
    let failed = |error: rustix::io::Errno| {
        let failure = Failure::new(format!("Could not mount NFS on {}: {error}", dir.display()));
        match error {
            rustix::io::Errno::NODEV => Failure::new("This kernel has no NFS client")
                .hint("Load it with `modprobe nfs`, or mount with --protocol fuse"),
            rustix::io::Errno::PERM => failure.hint("Mounting NFS needs root on Linux; --protocol fuse does not"),
            _ => failure,
        }
    };
    let options = std::ffi::CString::new(linux_options(address)).unwrap_or_default();
    let source = format!("{}:/", address.ip());
    rustix::mount::mount(source.as_str(), dir, "nfs", flags, options.as_c_str()).map_err(failed)
}

#[cfg(not(target_os = "linux"))]
fn mount(address: SocketAddr, dir: &Path, read_only: bool) -> Result<(), Failure> {
    let line = macos_line(address);
    let mut words = line.split(' ').map(std::ffi::OsString::from).collect::<Vec<_>>();
    words.pop();
    let mut command = std::process::Command::new("/sbin/mount_nfs");
    command.args(&words[1..]).arg(dir);
    if read_only {
        command.args(["-o", "ro"]);
    }
    let output = command.output().map_err(Failure::io("run mount_nfs for", dir))?;
    if output.status.success() {
        return Ok(());
    }
    let words = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    Err(Failure::new(format!(
        "Could not mount NFS on {}: {words}",
        dir.display()
    )))
}

#[cfg(target_os = "linux")]
fn unmount(dir: &Path, lazy: bool) -> io::Result<()> {
    use rustix::mount::UnmountFlags;
    let flags = if lazy {
        UnmountFlags::DETACH
    } else {
        UnmountFlags::empty()
    };
    Ok(rustix::mount::unmount(dir, flags)?)
}

#[cfg(not(target_os = "linux"))]
fn unmount(dir: &Path, lazy: bool) -> io::Result<()> {
    let mut command = std::process::Command::new("/sbin/umount");
    if lazy {
        command.arg("-f");
    }
    if command.arg(dir).status()?.success() {
        Ok(())
    } else {
        Err(io::ErrorKind::ResourceBusy.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lines_name_one_port_for_both_protocols() {
        let address: SocketAddr = "127.0.0.1:20490".parse().unwrap();
        let linux = linux_line(address);
        assert!(linux.contains("port=20490,") && linux.contains("mountport=20490,nolock,hard"));
        assert!(linux.ends_with("addr=127.0.0.1 127.0.0.1:/ DIR"), "{linux}");
        let macos = macos_line(address);
        assert!(
            macos.contains("locallocks,hard") && !macos.contains("nolock"),
            "{macos}"
        );
    }
}
