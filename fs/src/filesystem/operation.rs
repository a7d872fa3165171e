//! The operations by name, as logs and metrics tell them.

/// What a front end asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Operation {
    Lookup,
    Attr,
    SetAttr,
    ReadDir,
    ParentOf,
    Resolve,
    Read,
    Write,
    Seek,
    Allocate,
    CopyRange,
    Sync,
    Create,
    Link,
    Unlink,
    Rmdir,
    Remove,
    Rename,
    ReadLink,
    Xattr,
    SetXattr,
    ListXattrs,
    RemoveXattr,
    Space,
}

impl Operation {
    /// All of them, in the order of their numbers.
    pub(crate) const ALL: [Operation; 24] = [
        Operation::Lookup,
        Operation::Attr,
        Operation::SetAttr,
        Operation::ReadDir,
        Operation::ParentOf,
        Operation::Resolve,
        Operation::Read,
        Operation::Write,
        Operation::Seek,
        Operation::Allocate,
        Operation::CopyRange,
        Operation::Sync,
        Operation::Create,
        Operation::Link,
        Operation::Unlink,
        Operation::Rmdir,
        Operation::Remove,
        Operation::Rename,
        Operation::ReadLink,
        Operation::Xattr,
        Operation::SetXattr,
        Operation::ListXattrs,
        Operation::RemoveXattr,
        Operation::Space,
    ];

    /// Whether it changes something.
    pub(crate) fn is_change(self) -> bool {
        use Operation as Is;
        let is_look = matches!(
            self,
            Is::Lookup | Is::Attr | Is::ReadDir | Is::ParentOf | Is::Resolve | Is::Read | Is::Seek | Is::Sync
        );
        !is_look && !matches!(self, Is::ReadLink | Is::Xattr | Is::ListXattrs | Is::Space)
    }

    /// Its name in logs and metrics.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Operation::Lookup => "lookup",
            Operation::Attr => "attr",
            Operation::SetAttr => "set_attr",
            Operation::ReadDir => "read_dir",
            Operation::ParentOf => "parent_of",
            Operation::Resolve => "resolve",
            Operation::Read => "read",
            Operation::Write => "write",
            Operation::Seek => "seek",
            Operation::Allocate => "allocate",
            Operation::CopyRange => "copy_range",
            Operation::Sync => "sync",
            Operation::Create => "create",
            Operation::Link => "link",
            Operation::Unlink => "unlink",
            Operation::Rmdir => "rmdir",
            Operation::Remove => "remove",
            Operation::Rename => "rename",
            Operation::ReadLink => "read_link",
            Operation::Xattr => "xattr",
            Operation::SetXattr => "set_xattr",
            Operation::ListXattrs => "list_xattrs",
            Operation::RemoveXattr => "remove_xattr",
            Operation::Space => "space",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_names_are_one_to_one() {
        let numbers: Vec<usize> = Operation::ALL.iter().map(|operation| *operation as usize).collect();
        assert_eq!(numbers, (0..Operation::ALL.len()).collect::<Vec<_>>());
        let mut names: Vec<&str> = Operation::ALL.iter().map(|operation| operation.name()).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), Operation::ALL.len());
    }
}
