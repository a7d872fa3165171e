//! What the actor can be told, and how that travels: `length u32 | kind u8 | path`, for a move `length u16 | path | path`.
//!
//! Paths are below the mount's root, without `.`, `..` or empty parts. Every command is answered by one errno, 0 if it was done.

use std::io::{self, Read, Write};

/// The longest command; longer paths are no paths for the kernel either.
const COMMAND_BYTES_MAX: usize = 2 * libc::PATH_MAX as usize + 8;

/// One change to perform.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Command {
    /// Make a file that is not there, and close it.
    Create(Vec<u8>),
    /// Make a folder.
    MakeFolder(Vec<u8>),
    /// Open a file for writing, set its time of modification, and close it.
    Modify(Vec<u8>),
    /// Set the times of whatever is there.
    Touch(Vec<u8>),
    /// Remove anything but a folder.
    Remove(Vec<u8>),
    /// Remove an empty folder.
    RemoveFolder(Vec<u8>),
    /// Give a new path.
    Move {
        /// Before.
        from: Vec<u8>,
        /// After.
        to: Vec<u8>,
    },
}

impl Command {
    /// As it travels; an error if a path is too long for the kernel.
    pub(super) fn encode(&self) -> io::Result<Vec<u8>> {
        let (kind, path, to) = match self {
            Command::Create(path) => (0, path, None),
            Command::MakeFolder(path) => (1, path, None),
            Command::Modify(path) => (2, path, None),
            Command::Touch(path) => (3, path, None),
            Command::Remove(path) => (4, path, None),
            Command::RemoveFolder(path) => (5, path, None),
            Command::Move { from, to } => (6, from, Some(to)),
        };
        if path.len().max(to.map_or(0, Vec::len)) >= libc::PATH_MAX as usize {
            return Err(io::Error::from_raw_os_error(libc::ENAMETOOLONG));
        }
        let mut message = vec![0, 0, 0, 0, kind];
        if to.is_some() {
            message.extend((path.len() as u16).to_le_bytes());
        }
        message.extend(path);
        message.extend(to.into_iter().flatten());
        let length = message.len() as u32 - 4;
        message[..4].copy_from_slice(&length.to_le_bytes());
        Ok(message)
    }

    fn decode(message: &[u8]) -> Option<Command> {
        let (kind, path) = message.split_first()?;
        let path = path.to_vec();
        Some(match kind {
            0 => Command::Create(path),
            1 => Command::MakeFolder(path),
            2 => Command::Modify(path),
            3 => Command::Touch(path),
            4 => Command::Remove(path),
            5 => Command::RemoveFolder(path),
            6 => {
                let (length, paths) = path.split_first_chunk()?;
                let (from, to) = paths.split_at_checked(u16::from_le_bytes(*length).into())?;
                Command::Move {
                    from: from.to_vec(),
                    to: to.to_vec(),
                }
            }
            _ => return None,
        })
    }

    /// Waits for the next one; `None` if there will be none.
    pub(super) fn read(mut from: impl Read) -> io::Result<Option<Command>> {
        let mut length = [0; 4];
        match from.read_exact(&mut length) {
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
            other => other?,
        }
        let length = u32::from_le_bytes(length) as usize;
        if length > COMMAND_BYTES_MAX {
            return Err(io::ErrorKind::InvalidData.into());
        }
        let mut message = vec![0; length];
        from.read_exact(&mut message)?;
        Command::decode(&message)
            .map(Some)
            .ok_or(io::ErrorKind::InvalidData.into())
    }
}

/// Answers a command.
pub(super) fn answer(mut to: impl Write, errno: i32) -> io::Result<()> {
    to.write_all(&errno.to_le_bytes())
}

/// Waits for the answer to a command.
pub(super) fn read_answer(mut from: impl Read) -> io::Result<i32> {
    let mut errno = [0; 4];
    from.read_exact(&mut errno)?;
    Ok(i32::from_le_bytes(errno))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_command_comes_through() {
        let commands = [
            Command::Create(b"a/\xff.md".to_vec()),
            Command::MakeFolder(b"b".to_vec()),
            Command::Modify(b"c".to_vec()),
            Command::Touch(Vec::new()),
            Command::Remove(b"d".to_vec()),
            Command::RemoveFolder(b"e".to_vec()),
            Command::Move {
                from: b"f".to_vec(),
                to: vec![b'g'; 4095],
            },
        ];
        let sent: Vec<u8> = commands.iter().flat_map(|command| command.encode().unwrap()).collect();
        let mut wire = sent.as_slice();
        for command in &commands {
            assert_eq!(Command::read(&mut wire).unwrap().as_ref(), Some(command));
        }
        assert_eq!(Command::read(&mut wire).unwrap(), None);
    }

    #[test]
    fn what_is_no_command_is_refused() {
        assert!(Command::Create(vec![b'a'; 4096]).encode().is_err());
        for wire in [
            &[1, 0, 0, 0, 99][..],
            &[0, 0, 0, 0],
            &[255, 255, 255, 255],
            &[4, 0, 0, 0, 6, 9, 0, 65],
        ] {
            assert!(Command::read(wire).is_err(), "{wire:?}");
        }
    }
}
