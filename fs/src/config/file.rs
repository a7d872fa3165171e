//! The configuration file: TOML with the options of `notefs mount` under their own names.
//!
//! Owns which keys there are, and what is said of wrong ones: the line, and the key that may have been meant. No value is ever repeated in
//! a message, since it might be a secret in the wrong place. Does not own precedence (`config.rs`).

use crate::cli::args::{DotNotefs, Durability, Litter, LogFormat, LogLevel, Pin, Protocol};
use crate::cli::units::{Keep, parse_duration, parse_keep, parse_rate, parse_size};
use crate::failure::Failure;
use clap::ValueEnum;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;
use toml::{Table, Value};

/// The largest configuration file that is read.
const FILE_MAX_BYTES: u64 = 1 << 20;

/// A key that differs from a known one by more than this is not taken for it.
const TYPOS_MAX: usize = 3;

/// Words that only secrets bear.
const SECRETS: [&str; 5] = ["secret", "password", "token", "accesskey", "credential"];

/// What a configuration says; paths are absolute.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct ConfigFile {
    pub(crate) store: Option<String>,
    pub(crate) dir: Option<PathBuf>,
    pub(crate) cache: Option<PathBuf>,
    pub(crate) cache_size: Option<u64>,
    pub(crate) dirty_limit: Option<u64>,
    pub(crate) write_back: Option<Duration>,
    pub(crate) poll: Option<Duration>,
    pub(crate) trash: Option<Keep>,
    pub(crate) litter: Option<Litter>,
    pub(crate) index: Option<String>,
    pub(crate) pin: Option<Pin>,
    pub(crate) dot_notefs: Option<DotNotefs>,
    pub(crate) read_only: Option<bool>,
    pub(crate) allow_other: Option<bool>,
    pub(crate) events: Option<bool>,
    pub(crate) rewrite_links: Option<bool>,
    pub(crate) nonempty: bool,
    pub(crate) protocol: Option<Protocol>,
    pub(crate) addr: Option<SocketAddr>,
    pub(crate) durability: Option<Durability>,
    pub(crate) memory: Option<u64>,
    pub(crate) requests_per_second: Option<u32>,
    pub(crate) credentials_file: Option<PathBuf>,
    pub(crate) metrics: Option<String>,
    pub(crate) insecure_metrics: bool,
    pub(crate) log: Option<PathBuf>,
    pub(crate) log_format: Option<LogFormat>,
    pub(crate) log_level: Option<LogLevel>,
}

/// The keys, in the order in which a hint tells them.
const KEYS: [&str; 28] = [
    "store",
    "dir",
    "cache",
    "cache-size",
    "dirty-limit",
    "write-back",
    "poll",
    "trash",
    "litter",
    "index",
    "pin",
    "dot-notefs",
    "read-only",
    "allow-other",
    "events",
    "rewrite-links",
    "nonempty",
    "protocol",
    "addr",
    "durability",
    "memory",
    "requests-per-second",
    "credentials-file",
    "metrics",
    "insecure-metrics",
    "log",
    "log-format",
    "log-level",
];

/// Reads and checks a file; relative paths in it begin at its own folder.
pub(super) fn read(path: &Path) -> Result<ConfigFile, Failure> {
    let text = read_text(path)?;
    let folder = path.parent().unwrap_or(Path::new("/"));
    let table = parse_table(&text).and_then(|table| check(&text, &table, folder));
    table.map_err(|failure| in_file(path, failure))
}

/// The text of a file that is not too large.
pub(super) fn read_text(path: &Path) -> Result<String, Failure> {
    let size = std::fs::metadata(path)
        .map_err(Failure::io("read the configuration", path))?
        .len();
    if size > FILE_MAX_BYTES {
        return Err(Failure::usage(format!(
            "{} is too large for a configuration file",
            path.display()
        )));
    }
    std::fs::read_to_string(path).map_err(Failure::io("read the configuration", path))
}

/// Says which file a failure is about.
pub(super) fn in_file(path: &Path, failure: Failure) -> Failure {
    Failure {
        message: format!("{}: {}", path.display(), failure.message),
        ..failure
    }
}

/// Parses TOML.
pub(super) fn parse_table(text: &str) -> Result<Table, Failure> {
    text.parse().map_err(|error: toml::de::Error| {
        let line = error
            .span()
            .map_or(0, |span| text[..span.start.min(text.len())].matches('\n').count() + 1);
        Failure::usage(format!("Line {line} is no valid TOML: {}", error.message()))
    })
}

/// Checks one table of options; `text` is where it stands, to tell lines.
pub(super) fn check(text: &str, table: &Table, folder: &Path) -> Result<ConfigFile, Failure> {
    let mut config = ConfigFile::default();
    for (key, value) in table {
        take(&mut config, (key, value), folder).map_err(|failure| Failure {
            message: format!("{}{}", line_of(text, key), failure.message),
            ..failure
        })?;
    }
    Ok(config)
}

/// Puts one key into its place.
fn take(config: &mut ConfigFile, (key, value): (&str, &Value), folder: &Path) -> Result<(), Failure> {
    let wrong = |what: String| Failure::usage(format!("key `{key}`: {what}"));
    let text = || {
        let text = value.as_str().map(str::to_owned);
        text.or_else(|| value.as_integer().map(|number| number.to_string()))
            .ok_or_else(|| wrong("it must be text in quotes".to_owned()))
    };
    let path = || text().map(|path| folder.join(path));
    let flag = || {
        value
            .as_bool()
            .ok_or_else(|| wrong("it must be true or false".to_owned()))
    };
    let plain = |error: String| wrong(without_value(&error));
    match key {
        "store" => config.store = Some(text()?),
        "dir" => config.dir = Some(path()?),
        "cache" => config.cache = Some(path()?),
        "cache-size" => config.cache_size = Some(parse_size(&text()?).map_err(plain)?),
        "dirty-limit" => config.dirty_limit = Some(parse_size(&text()?).map_err(plain)?),
        "write-back" => config.write_back = Some(parse_duration(&text()?).map_err(plain)?),
        "poll" => config.poll = Some(parse_duration(&text()?).map_err(plain)?),
        "trash" => config.trash = Some(parse_keep(&text()?).map_err(plain)?),
        "litter" => config.litter = Some(word(&text()?).map_err(wrong)?),
        "index" => config.index = Some(text()?),
        "pin" => config.pin = Some(word(&text()?).map_err(wrong)?),
        "dot-notefs" => config.dot_notefs = Some(word(&text()?).map_err(wrong)?),
        "read-only" => config.read_only = Some(flag()?),
        "allow-other" => config.allow_other = Some(flag()?),
        "events" => config.events = Some(flag()?),
        "rewrite-links" => config.rewrite_links = Some(flag()?),
        "nonempty" => config.nonempty = flag()?,
        "protocol" => config.protocol = Some(word(&text()?).map_err(wrong)?),
        "addr" => config.addr = Some(text()?.parse().map_err(|_| wrong("it is no ADDRESS:PORT".to_owned()))?),
        "durability" => config.durability = Some(word(&text()?).map_err(wrong)?),
        "memory" => config.memory = Some(parse_size(&text()?).map_err(plain)?),
        "requests-per-second" => config.requests_per_second = Some(parse_rate(&text()?).map_err(plain)?),
        "credentials-file" => config.credentials_file = Some(path()?),
        "metrics" => config.metrics = Some(text()?),
        "insecure-metrics" => config.insecure_metrics = flag()?,
        "log" => config.log = Some(path()?),
        "log-format" => config.log_format = Some(word(&text()?).map_err(wrong)?),
        "log-level" => config.log_level = Some(word(&text()?).map_err(wrong)?),
        unknown => return Err(refuse(unknown)),
    }
    Ok(())
}

/// One of the words of an option.
fn word<T: ValueEnum>(text: &str) -> Result<T, String> {
    T::from_str(text, false).map_err(|_| {
        let words = T::value_variants().iter().filter_map(ValueEnum::to_possible_value);
        let words: Vec<String> = words.map(|word| word.get_name().to_owned()).collect();
        format!("it must be {}", words.join(" or "))
    })
}

/// What a parser says of a value, without the value.
fn without_value(error: &str) -> String {
    let rest = error.rsplit_once('`').map_or(error, |(_, rest)| rest);
    format!("it {}", rest.trim_start())
}

/// What is said of a key that does not exist.
fn refuse(key: &str) -> Failure {
    let plain = key.to_ascii_lowercase().replace(['-', '_'], "");
    if SECRETS.iter().any(|word| plain.contains(word)) && plain != "credentialsfile" {
        return Failure::usage(format!(
            "`{key}` is a secret and does not belong into a configuration file"
        ))
        .hint("Name a file of profiles with `credentials-file`, or use AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY");
    }
    let nearest = KEYS.iter().min_by_key(|known| distance(known, key)).copied();
    let meant = nearest.filter(|known| distance(known, key) <= TYPOS_MAX.min(known.len() / 2));
    let failure = Failure::usage(format!("unknown key `{key}`"));
    match meant {
        Some(meant) => failure.hint(format!("Did you mean `{meant}`? The keys are {}", KEYS.join(", "))),
        None => failure.hint(format!("The keys are {}", KEYS.join(", "))),
    }
}

/// Letters to insert, remove or change (Levenshtein).
fn distance(one: &str, other: &str) -> usize {
    let other: Vec<char> = other.chars().collect();
    let mut row: Vec<usize> = (0..=other.len()).collect();
    for (i, a) in one.chars().enumerate() {
        let mut before = row[0];
        row[0] = i + 1;
        for (j, b) in other.iter().enumerate() {
            let changed = before + usize::from(a != *b);
            before = row[j + 1];
            row[j + 1] = changed.min(row[j] + 1).min(before + 1);
        }
    }
    row[other.len()]
}

/// "Line 3: ", where the key is first named.
fn line_of(text: &str, key: &str) -> String {
    let named = |line: &str| {
        let rest = line.trim_start().trim_start_matches(['"', '\'']).strip_prefix(key);
        rest.is_some_and(|rest| rest.trim_start_matches(['"', '\'']).trim_start().starts_with('='))
    };
    match text.lines().position(named) {
        Some(position) => format!("Line {}: ", position + 1),
        None => String::new(),
    }
}

#[cfg(test)]
pub(super) fn parse(text: &str) -> Result<ConfigFile, Failure> {
    parse_table(text).and_then(|table| check(text, &table, Path::new("/etc/notefs")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_key_is_taken() {
        let values = [
            ("read-only", "true"),
            ("allow-other", "false"),
            ("events", "true"),
            ("rewrite-links", "true"),
            ("nonempty", "true"),
            ("insecure-metrics", "true"),
            ("cache-size", "'1G'"),
            ("dirty-limit", "1024"),
            ("write-back", "'5s'"),
            ("poll", "'5s'"),
            ("trash", "'off'"),
            ("litter", "'store'"),
            ("pin", "'all'"),
            ("dot-notefs", "'shown'"),
            ("memory", "'64M'"),
            ("requests-per-second", "20"),
            ("protocol", "'nfs'"),
            ("addr", "'127.0.0.1:2049'"),
            ("durability", "'stored'"),
            ("log-format", "'json'"),
            ("log-level", "'debug'"),
        ];
        for key in KEYS {
            let value = values
                .iter()
                .find(|(of, _)| *of == key)
                .map_or("'x'", |(_, value)| value);
            let config = parse(&format!("{key} = {value}\n")).unwrap();
            assert_ne!(config, ConfigFile::default(), "{key} was ignored");
            let wrong = parse(&format!("{key} = [1]\n")).unwrap_err();
            assert!(wrong.message.starts_with(&format!("Line 1: key `{key}`")), "{wrong}");
        }
    }

    #[test]
    fn an_unknown_key_is_told_with_its_line_and_what_may_be_meant() {
        let failure = parse("# team\nstore = 's3://b'\ncache_size = '2G'\n").unwrap_err();
        assert!(
            failure.message.contains("Line 3") && failure.message.contains("cache_size"),
            "{failure}"
        );
        assert!(failure.hint.unwrap().starts_with("Did you mean `cache-size`?"));
        let hint = parse("colour = 'red'").unwrap_err().hint.unwrap();
        assert!(hint.starts_with("The keys are"), "{hint}");
    }

    #[test]
    fn wrong_values_are_not_repeated() {
        for line in [
            "cache-size = 'hunter2'",
            "durability = 'hunter2'",
            "trash = 'hunter2'",
            "requests-per-second = 'hunter2'",
            "addr = 'hunter2'",
        ] {
            let failure = parse(line).unwrap_err();
            assert!(!format!("{failure:?}").contains("hunter2"), "{failure:?}");
        }
    }

    #[test]
    fn distances_are_those_of_levenshtein() {
        assert_eq!(distance("kitten", "sitting"), 3);
        assert_eq!(distance("", "abc"), 3);
        assert_eq!(distance("same", "same"), 0);
    }
}
