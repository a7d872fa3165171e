//! The memory that this process may use, as its control group says.
//!
//! Owns reading the limits of both versions of control groups. Does not own what is made of them (`notefs_cache::Limits`).

use std::path::Path;

/// Limits beyond this are none (version 1 says 2^63 less a page for "none").
const NO_LIMIT_BYTES: u64 = 1 << 60;

/// Half of the smallest limit that holds for this process, if there is one: the rest is for the index, the program itself and the service
/// beside it. `root` is where the file systems are.
pub(super) fn default_bytes(root: &Path) -> Option<u64> {
    let groups = std::fs::read_to_string(root.join("proc/self/cgroup")).ok()?;
    let limits = groups.lines().filter_map(|line| limit_of(root, line));
    limits.min().map(|limit| limit / 2)
}

/// The smallest limit on the way from the group of one line of `/proc/self/cgroup` to its root. In a container the group's own path may
/// not be visible, and the root stands for it.
fn limit_of(root: &Path, line: &str) -> Option<u64> {
    let mut parts = line.splitn(3, ':');
    let (_, controllers, path) = (parts.next()?, parts.next()?, parts.next()?);
    let (base, file) = match controllers {
        "" => ("sys/fs/cgroup", "memory.max"),
        list if list.split(',').any(|name| name == "memory") => ("sys/fs/cgroup/memory", "memory.limit_in_bytes"),
        _ => return None,
    };
    let base = root.join(base);
    let own = base.join(path.trim_start_matches('/'));
    let groups = own.ancestors().take_while(|group| group.starts_with(&base));
    let limits = groups.filter_map(|group| {
        std::fs::read_to_string(group.join(file))
            .ok()?
            .trim()
            .parse::<u64>()
            .ok()
    });
    limits.filter(|limit| *limit < NO_LIMIT_BYTES).min()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn machine(files: &[(&str, &str)]) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        for (path, text) in files {
            let path = root.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        root
    }

    #[test]
    fn the_smallest_limit_on_the_way_to_the_root_counts() {
        let second = machine(&[
            ("proc/self/cgroup", "0::/pod/notes\n"),
            ("sys/fs/cgroup/pod/notes/memory.max", "max\n"),
            ("sys/fs/cgroup/pod/memory.max", "268435456\n"),
        ]);
        assert_eq!(default_bytes(second.path()), Some(128 << 20));
        let first = machine(&[
            ("proc/self/cgroup", "5:cpu,cpuacct:/x\n4:memory:/not/visible\n0::/\n"),
            ("sys/fs/cgroup/memory/memory.limit_in_bytes", "134217728\n"),
        ]);
        assert_eq!(default_bytes(first.path()), Some(64 << 20));
    }

    #[test]
    fn without_a_limit_there_is_none() {
        let machine = machine(&[
            ("proc/self/cgroup", "4:memory:/\n0::/\n"),
            ("sys/fs/cgroup/memory/memory.limit_in_bytes", "9223372036854771712\n"),
        ]);
        assert_eq!(default_bytes(machine.path()), None);
        assert_eq!(default_bytes(Path::new("/nonexistent")), None);
    }
}
