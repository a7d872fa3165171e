//! What this machine's kernel offers, found out by mounting an empty folder for a moment.
//!
//! Owns the look at `/dev/fuse`, the handshake and the helper program. Does not own what a mount asks for (`negotiate`).

use super::negotiate::CAPABILITIES;
use super::notify::time_to_live;
use fuser::{Config, InitFlags, KernelConfig, MountOption, Request, Session, SessionACL, Version};
use parking_lot::Mutex;
use serde::Serialize;
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;
use std::sync::Arc;

/// What was found.
#[derive(Debug, Clone, Serialize)]
pub struct KernelReport {
    /// The kernel's release.
    pub release: String,
    /// Whether `/dev/fuse` can be opened, else why not.
    pub device: Result<(), String>,
    /// `fusermount3` is there; only root mounts without.
    pub helper: bool,
    /// Whether this user can mount.
    pub can_mount: bool,
    /// The protocol that the kernel speaks, as `7.45`, or why that could not be asked.
    pub protocol: Result<String, String>,
    /// What notefs would like and the kernel does not offer.
    pub missing: Vec<String>,
    /// How long the kernel may remember names and attributes, in seconds.
    pub memory_seconds: u64,
}

/// What the kernel says of itself in the handshake.
type Greeting = Option<(Version, InitFlags)>;

/// A file system that only listens to the handshake.
struct Listener(Arc<Mutex<Greeting>>);

impl fuser::Filesystem for Listener {
    fn init(&mut self, _request: &Request, config: &mut KernelConfig) -> io::Result<()> {
        *self.0.lock() = Some((config.kernel_abi(), config.capabilities()));
        Ok(())
    }
}

/// Looks.
pub fn examine_kernel() -> KernelReport {
    let opened = std::fs::File::options().read(true).write(true).open("/dev/fuse");
    let device = opened.map(drop).map_err(|error| error.to_string());
    let path = std::env::var_os("PATH").unwrap_or_default();
    let helper = std::env::split_paths(&path).any(|folder| folder.join("fusermount3").exists());
    let greeting = device
        .clone()
        .and_then(|()| handshake().map_err(|error| error.to_string()));
    let (protocol, offered) = match greeting {
        Ok((version, offered)) => (Ok(version), offered),
        Err(error) => (Err(error), InitFlags::empty()),
    };
    let wanted = CAPABILITIES.into_iter().filter(|_| protocol.is_ok());
    KernelReport {
        release: rustix::system::uname().release().to_string_lossy().into_owned(),
        device,
        helper: helper || Path::new("/usr/bin/fusermount3").exists(),
        can_mount: protocol.is_ok(),
        missing: wanted
            .filter(|flag| !offered.contains(*flag))
            .map(|flag| format!("{flag:?}"))
            .collect(),
        memory_seconds: protocol.as_ref().map_or(0, |version| time_to_live(*version).as_secs()),
        protocol: protocol.map(|version| format!("{}.{}", version.0, version.1)),
    }
}

/// Mounts an empty folder, hears the kernel's greeting, and takes the mount away.
fn handshake() -> io::Result<(Version, InitFlags)> {
    let folder = std::env::temp_dir().join(format!("notefs-doctor-{}", std::process::id()));
    std::fs::DirBuilder::new().mode(0o700).create(&folder)?;
    let heard = Arc::new(Mutex::new(None));
    let mut config = Config::default();
    config.mount_options = vec![MountOption::FSName("notefs-doctor".to_owned())];
    config.acl = SessionACL::Owner;
    let session = Session::new(Listener(Arc::clone(&heard)), &folder, &config);
    let mounted = session.map(drop);
    std::fs::remove_dir(&folder).ok();
    mounted?;
    let greeting = heard.lock().take();
    greeting.ok_or_else(|| io::Error::other("the kernel did not greet"))
}

impl KernelReport {
    /// Names and what was seen, for people.
    pub fn lines(&self) -> Vec<(&'static str, String)> {
        let helper = match self.helper {
            true => "there",
            false => "missing: only root can mount (Debian: apt install fuse3)",
        };
        let protocol = match &self.protocol {
            Ok(version) => format!(
                "{version}: names and attributes are remembered for {} s",
                self.memory_seconds
            ),
            Err(error) => format!("could not be asked: {error}"),
        };
        let mut lines = vec![
            ("kernel", self.release.clone()),
            (
                "/dev/fuse",
                match &self.device {
                    Ok(()) => "can be opened".to_owned(),
                    Err(error) => {
                        format!("{error}: load the module with `modprobe fuse`, or give the container the device")
                    }
                },
            ),
            ("fusermount3", helper.to_owned()),
            ("fuse-protocol", protocol),
        ];
        if !self.missing.is_empty() {
            lines.push(("fuse-lacks", self.missing.join(", ")));
        }
        lines
    }
}
