//! Secrets of this replica: made once, kept with its state, never shown.

use super::Replica;
use crate::error::{Error, Result};
use std::fs::File;
use std::io::Read;
use std::path::PathBuf;

/// Bytes of a secret.
pub const SECRET_BYTES: usize = 32;

/// Where randomness comes from.
const RANDOM: &str = "/dev/urandom";

impl Replica {
    /// The secret of this name: random, made when it is first asked for, the same ever after for this cache folder.
    pub fn secret(&self, name: &str) -> Result<[u8; SECRET_BYTES]> {
        let name = format!("secret.{name}");
        let known = self.view(|tables| tables.meta(&name))?;
        if let Some(secret) = known.and_then(|text| from_hex(&text)) {
            return Ok(secret);
        }
        let mut secret = [0; SECRET_BYTES];
        let read = File::open(RANDOM).and_then(|mut file| file.read_exact(&mut secret));
        read.map_err(|source| Error::Local {
            action: "read random bytes",
            path: PathBuf::from(RANDOM),
            source,
            advice: "Check that the device is there",
        })?;
        let text: String = secret.iter().map(|byte| format!("{byte:02x}")).collect();
        self.remember(&name, &text)?;
        self.sync_now()?;
        Ok(secret)
    }
}

fn from_hex(text: &str) -> Option<[u8; SECRET_BYTES]> {
    let mut bytes = [0; SECRET_BYTES];
    if text.len() != 2 * SECRET_BYTES || !text.is_ascii() {
        return None;
    }
    for (at, byte) in bytes.iter_mut().enumerate() {
        *byte = u8::from_str_radix(&text[2 * at..2 * at + 2], 16).ok()?;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_whole_secret_is_taken() {
        let text = "0f".repeat(SECRET_BYTES);
        assert_eq!(from_hex(&text), Some([15; SECRET_BYTES]));
        assert_eq!(from_hex(&text[2..]), None);
        assert_eq!(from_hex(&text.replace('f', "x")), None);
    }
}
