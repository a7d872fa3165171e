//! Where the index is that all machines of a vault share, and what opens it.
//!
//! Owns which of command line, environment and file names it, and where its token may come from: the environment and a credentials file, as
//! the store's keys. An address with a token is taken from `NOTEFS_INDEX` alone. Does not own the address (`notefs_indexer`).

use crate::failure::Failure;
use notefs_indexer::SharedAddress;
use std::path::Path;

/// The address, in the environment also with its token.
pub(crate) const ADDRESS_VARIABLE: &str = "NOTEFS_INDEX";

/// The token or password alone.
pub(crate) const TOKEN_VARIABLE: &str = "NOTEFS_INDEX_TOKEN";

/// The same in a profile of a credentials file.
const TOKEN_KEY: &str = "notefs_index_token";

/// A larger credentials file is not read.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// Turns off what the environment or the file names.
const OFF: &str = "off";

/// What the environment names.
pub(super) fn from_environment() -> Option<String> {
    std::env::var(ADDRESS_VARIABLE).ok().filter(|text| !text.is_empty())
}

/// The address without its secret, by the first that names one: command line, environment, file. `None`: there is no shared index.
pub(super) fn address([line, environment, file]: [&Option<String>; 3]) -> Result<Option<String>, Failure> {
    let is_seen = line.is_some() || environment.is_none();
    let named = line.as_ref().or(environment.as_ref()).or(file.as_ref());
    let Some(text) = named.filter(|text| text.as_str() != OFF) else {
        return Ok(None);
    };
    if is_seen && holds_secret(text) {
        return Err(Failure::usage(
            "The address of the shared index holds a token or password, which other users and backups would see",
        )
        .hint(format!(
            "Leave it out, and put it into {TOKEN_VARIABLE}, or as {TOKEN_KEY} into the file of --credentials-file. \
             {ADDRESS_VARIABLE} may hold the whole address"
        )));
    }
    Ok(Some(parse(text)?.to_string()))
}

fn parse(text: &str) -> Result<SharedAddress, Failure> {
    text.parse().map_err(|error: notefs_indexer::SharedError| {
        let text = error.to_string();
        match text.split_once("\n\n") {
            Some((message, hint)) => Failure::usage(message).hint(hint),
            None => Failure::usage(text),
        }
    })
}

/// Whether an address has a password, or a parameter that bears a secret's name.
fn holds_secret(text: &str) -> bool {
    let rest = text.split_once("://").map_or(text, |(_, rest)| rest);
    let (place, query) = rest.split_once('?').unwrap_or((rest, ""));
    let authority = place.split('/').next().unwrap_or_default();
    let has_password = authority.rsplit_once('@').is_some_and(|(user, _)| user.contains(':'));
    has_password
        || query.split('&').any(|pair| {
            let name = pair.split('=').next().unwrap_or_default().to_ascii_lowercase();
            ["token", "password", "secret", "key"]
                .iter()
                .any(|word| name.contains(word))
        })
}

/// The planned address with the secret that belongs to it, from the environment or a credentials file.
pub(crate) fn with_secret(planned: &str, credentials_file: Option<&Path>) -> Result<SharedAddress, Failure> {
    let variable = |name: &str| std::env::var(name).ok().filter(|text| !text.is_empty());
    secret_for(planned, variable, credentials_file)
}

fn secret_for(
    planned: &str,
    variable: impl Fn(&str) -> Option<String>,
    credentials_file: Option<&Path>,
) -> Result<SharedAddress, Failure> {
    let whole = variable(ADDRESS_VARIABLE).and_then(|text| text.parse::<SharedAddress>().ok());
    let address = match whole.filter(|whole| whole.to_string() == planned) {
        Some(whole) => whole,
        None => parse(planned)?,
    };
    let profile = variable("AWS_PROFILE").unwrap_or_else(|| "default".to_owned());
    let in_file = || token_in(&read_small(credentials_file?)?, &profile);
    Ok(address.with_token(in_file().or_else(|| variable(TOKEN_VARIABLE))))
}

fn read_small(path: &Path) -> Option<String> {
    let fits = std::fs::metadata(path).is_ok_and(|metadata| metadata.len() <= FILE_BYTES_MAX);
    fits.then(|| std::fs::read_to_string(path).ok()).flatten()
}

/// The token of a profile.
fn token_in(text: &str, profile: &str) -> Option<String> {
    let mut inside = false;
    for line in text.lines().map(str::trim) {
        if let Some(name) = line.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            inside = name.trim() == profile;
        } else if inside
            && let Some((name, value)) = line.split_once('=')
            && name.trim() == TOKEN_KEY
        {
            return Some(value.trim().to_owned()).filter(|value| !value.is_empty());
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(text: &str) -> Option<String> {
        Some(text.to_owned())
    }

    #[test]
    fn the_command_line_wins_and_off_is_none() {
        let (one, two) = (named("libsql://one.example"), named("postgres://me@two.example/notes"));
        let off = named("off");
        let address = |line, environment, file| address([line, environment, file]).unwrap();
        assert_eq!(address(&one, &two, &None), one);
        assert_eq!(address(&None, &two, &one), two);
        assert_eq!(address(&None, &None, &one), one);
        assert_eq!(address(&off, &two, &one), None);
        assert_eq!(address(&None, &None, &None), None);
    }

    #[test]
    fn a_secret_is_taken_from_the_environment_alone_and_never_shown() {
        for text in [
            "libsql://h?authToken=hunter2",
            "postgres://me:hunter2@h/db",
            "postgres://h/db?user=me&password=hunter2",
        ] {
            for given in [[&named(text), &None, &None], [&None, &None, &named(text)]] {
                let failure = address(given).unwrap_err();
                assert!(!format!("{failure:?}").contains("hunter2"), "{failure:?}");
                assert!(failure.hint.unwrap().contains(TOKEN_VARIABLE));
            }
            let planned = address([&None, &named(text), &None]).unwrap().unwrap();
            assert!(!planned.contains("hunter2"), "{planned}");
        }
        let failure = address([&None, &named("mysql://hunter2@h"), &None]).unwrap_err();
        assert!(!format!("{failure:?}").contains("hunter2"), "{failure:?}");
    }

    #[test]
    fn the_secret_comes_back_for_the_address_that_was_planned() {
        let whole = "libsql://h?authToken=hunter2";
        let environment = |name: &str| (name == ADDRESS_VARIABLE).then(|| whole.to_owned());
        let same = |address: SharedAddress, text: &str| address == text.parse().unwrap();
        assert!(same(secret_for("libsql://h", environment, None).unwrap(), whole));
        assert!(same(secret_for("libsql://i", environment, None).unwrap(), "libsql://i"));
        let token = |name: &str| (name == TOKEN_VARIABLE).then(|| "hunter2".to_owned());
        assert!(same(secret_for("libsql://h", token, None).unwrap(), whole));
    }

    #[test]
    fn a_profile_may_hold_it() {
        let text = "[default]\naws_access_key_id = k\n[team]\nnotefs_index_token = hunter2\n";
        assert_eq!(token_in(text, "team").as_deref(), Some("hunter2"));
        assert_eq!(token_in(text, "default"), None);
    }
}
