//! Why a mount by FUSE was refused, and the one thing to do about it: in a container it is seldom what the kernel's answer says.
//!
//! Owns the judgement, a pure function of what the system says about the device and this process. Does not own mounting (`fuse`).

use std::io::{Error, ErrorKind};

/// The kernel's device.
const DEVICE: &str = "/dev/fuse";

/// The bit of the capability to mount in a set of them.
const SYS_ADMIN: u32 = 21;

/// What may be done with the device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Device {
    Missing,
    Closed,
    Open,
}

/// What decides whether a mount is possible.
#[derive(Debug, Clone, Copy)]
pub(super) struct Situation {
    device: Device,
    /// The kernel's or `fusermount3`'s answer.
    error: ErrorKind,
    /// No program that this process starts gains privileges by its setuid bit, `fusermount3` neither.
    no_new_privileges: bool,
    /// This process, or what it starts, can have the capability to mount.
    may_mount: bool,
    /// It has that capability itself, and needs no `fusermount3`.
    can_mount: bool,
    /// Other users were to be let in.
    allow_other: bool,
    /// `fusermount3` found no name of this user.
    is_nameless: bool,
}

impl Situation {
    /// Looks at the device and this process.
    pub(super) fn look(error: &Error, allow_other: bool) -> Situation {
        let device = match std::fs::OpenOptions::new().read(true).write(true).open(DEVICE) {
            Ok(_) => Device::Open,
            Err(error) if error.kind() == ErrorKind::PermissionDenied => Device::Closed,
            Err(_) => Device::Missing,
        };
        let said = error.to_string();
        // What `fusermount3` says comes as any error.
        let refused = said.contains("Operation not permitted") || said.contains("Permission denied");
        let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
        Situation {
            device,
            error: if refused {
                ErrorKind::PermissionDenied
            } else {
                error.kind()
            },
            no_new_privileges: field(&status, "NoNewPrivs:") == Some("1"),
            may_mount: holds(&status, "CapBnd:"),
            can_mount: holds(&status, "CapEff:"),
            allow_other,
            is_nameless: said.contains("could not determine username"),
        }
    }

    /// What to do, in one sentence; `None` where the answer itself says enough.
    pub(super) fn hint(&self) -> Option<&'static str> {
        match (self.device, self.error) {
            (Device::Missing, _) => Some(
                "There is no /dev/fuse: load the module with `modprobe fuse`, give the container the device, or use `notefs serve nfs` instead",
            ),
            (Device::Closed, _) => Some(
                "This user may not open /dev/fuse: give the device the mode 666, or let the container use it, or use `notefs serve nfs` instead",
            ),
            _ if self.is_nameless => Some(
                "fusermount3 serves users who have a name: add this one to /etc/passwd, or run as a user who is in it",
            ),
            (_, ErrorKind::NotFound) => Some("Install fusermount3 (Debian: apt install fuse3)"),
            (_, ErrorKind::PermissionDenied) => Some(self.refused()),
            _ => None,
        }
    }

    fn refused(&self) -> &'static str {
        if !self.may_mount {
            "Nothing in this container may mount: add the capability SYS_ADMIN (best with a user namespace of its own), or use `notefs serve nfs` instead"
        } else if self.no_new_privileges && !self.can_mount {
            "fusermount3 cannot gain the privileges to mount: allow privilege escalation (no_new_privs is set), or mount as root"
        } else if self.allow_other {
            "--allow-other needs the line `user_allow_other` in /etc/fuse.conf"
        } else {
            "Install fusermount3 (Debian: apt install fuse3), or mount as root"
        }
    }
}

/// The value of a line of `/proc/self/status`.
fn field<'a>(status: &'a str, name: &str) -> Option<&'a str> {
    status.lines().find_map(|line| line.strip_prefix(name)).map(str::trim)
}

/// Whether a set holds the capability to mount; yes where nobody tells.
fn holds(status: &str, name: &str) -> bool {
    let set = field(status, name).and_then(|digits| u64::from_str_radix(digits, 16).ok());
    set.is_none_or(|set| set >> SYS_ADMIN & 1 == 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    const FREE: Situation = Situation {
        device: Device::Open,
        error: ErrorKind::PermissionDenied,
        no_new_privileges: false,
        may_mount: true,
        can_mount: false,
        allow_other: false,
        is_nameless: false,
    };

    #[test]
    fn each_hindrance_has_its_remedy() {
        let told = |situation: Situation| situation.hint().unwrap_or_default();
        let missing = Situation {
            device: Device::Missing,
            error: ErrorKind::NotFound,
            ..FREE
        };
        assert!(told(missing).contains("There is no /dev/fuse"));
        assert!(
            told(Situation {
                device: Device::Closed,
                ..FREE
            })
            .contains("may not open /dev/fuse")
        );
        assert!(
            told(Situation {
                error: ErrorKind::NotFound,
                ..FREE
            })
            .contains("Install fusermount3")
        );
        assert!(
            told(Situation {
                is_nameless: true,
                ..FREE
            })
            .contains("/etc/passwd")
        );
        let bound = Situation {
            may_mount: false,
            no_new_privileges: true,
            allow_other: true,
            ..FREE
        };
        assert!(told(bound).contains("SYS_ADMIN"));
        let fixed = Situation {
            no_new_privileges: true,
            allow_other: true,
            ..FREE
        };
        assert!(told(fixed).contains("no_new_privs"));
        assert!(
            told(Situation {
                can_mount: true,
                ..fixed
            })
            .contains("user_allow_other")
        );
        assert!(told(FREE).contains("fusermount3"));
        assert_eq!(
            Situation {
                error: ErrorKind::Other,
                ..FREE
            }
            .hint(),
            None
        );
    }

    #[test]
    fn what_fusermount_says_is_understood() {
        let said = |text: &str| Situation::look(&Error::other(text.to_owned()), false);
        let refused = said("fusermount3: mount failed: Operation not permitted\n");
        assert_eq!(refused.error, ErrorKind::PermissionDenied);
        assert!(said("fusermount3: could not determine username\n").is_nameless);
        assert_eq!(said("something else").error, ErrorKind::Other);
    }

    #[test]
    fn the_kernels_words_are_read() {
        let status = "Name:\tx\nNoNewPrivs:\t1\nCapEff:\t0000000000000000\nCapBnd:\t0000000000200000\n";
        assert_eq!(field(status, "NoNewPrivs:"), Some("1"));
        assert!(holds(status, "CapBnd:") && !holds(status, "CapEff:") && holds("", "CapBnd:"));
    }
}
