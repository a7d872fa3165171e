//! Where a key that came is going to show, before anything is made.

use crate::error::Result;
use crate::replica::{Spot, own_name};
use crate::state::Tables;
use crate::types::*;
use std::collections::{HashMap, HashSet};

/// Directories that this round is going to make.
#[derive(Default)]
pub(super) struct Planned {
    by_name: HashMap<(Ino, Vec<u8>), Ino>,
    /// Nothing but this round fills them.
    pub(super) made: HashSet<Ino>,
}

impl Planned {
    fn make(&mut self, parent: Ino, name: &[u8], ino: Ino) {
        self.by_name.insert((parent, name.to_vec()), ino);
        self.made.insert(ino);
    }
}

/// Where a key goes.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Placed {
    /// There, after these directories have been made.
    At { directories: Vec<Spot>, spot: Spot },
    /// Its directory has never been looked into: it is learnt when somebody does.
    Unlisted,
    /// It needs an alias, or something is in its way.
    Strange,
}

/// Finds the place of a key (with a final `/`: of a directory). New inodes get their numbers here; directories that are to be made are noted
/// in `planned`.
pub(super) fn place(tables: &mut Tables, planned: &mut Planned, key: &str) -> Result<Placed> {
    let is_directory = key.ends_with('/');
    let mut segments: Vec<&str> = key.trim_end_matches('/').split('/').collect();
    let Some(leaf) = segments.pop() else {
        return Ok(Placed::Strange);
    };
    let (mut parent, mut directories) = (ROOT_INO, Vec::new());
    for segment in segments {
        let Some(name) = own_name(segment) else {
            return Ok(Placed::Strange);
        };
        match directory_at(tables, planned, parent, &name)? {
            At::Directory(ino) => parent = ino,
            At::Nothing => {
                let ino = tables.new_ino();
                planned.make(parent, &name, ino);
                let segment = segment.to_owned();
                directories.push(Spot {
                    parent,
                    name,
                    segment,
                    ino,
                });
                parent = ino;
            }
            At::Unlisted => return Ok(Placed::Unlisted),
            At::File => return Ok(Placed::Strange),
        }
    }
    let Some(name) = own_name(leaf) else {
        return Ok(Placed::Strange);
    };
    let segment = leaf.to_owned();
    let ino = match directory_at(tables, planned, parent, &name)? {
        At::Nothing => {
            let ino = tables.new_ino();
            if is_directory {
                planned.make(parent, &name, ino);
            }
            ino
        }
        At::Unlisted => return Ok(Placed::Unlisted),
        At::Directory(ino) if is_directory => ino,
        At::Directory(_) | At::File => return Ok(Placed::Strange),
    };
    let spot = Spot {
        parent,
        name,
        segment,
        ino,
    };
    Ok(Placed::At { directories, spot })
}

enum At {
    Directory(Ino),
    File,
    Nothing,
    Unlisted,
}

fn directory_at(tables: &mut Tables, planned: &Planned, parent: Ino, name: &[u8]) -> Result<At> {
    if let Some(ino) = planned.by_name.get(&(parent, name.to_vec())) {
        return Ok(At::Directory(*ino));
    }
    if let Some((ino, _)) = tables.name(parent, name)? {
        let is_dir = tables.inode(ino)?.is_some_and(|inode| inode.is_dir());
        return Ok(if is_dir { At::Directory(ino) } else { At::File });
    }
    let known = planned.made.contains(&parent) || tables.inode(parent)?.is_some_and(|inode| inode.known);
    Ok(if known { At::Nothing } else { At::Unlisted })
}
