//! The house rules that no compiler holds: who may know whom, how long a file may be, and that every promise has a test.

#[path = "tidy/handlers.rs"]
mod handlers;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

const FILE_LINES: usize = 500;
const FUNCTION_LINES: usize = 70;
/// Nine functions in ten are no longer than this.
const COMMON_FUNCTION_LINES: usize = 30;
/// More packages need a human who raises this number and says why.
const LOCKED_PACKAGES: usize = 360;

/// A crate, and the files that may name it, by the beginning of their paths.
const NAMED_ONLY_IN: [(&str, &[&str]); 10] = [
    ("opendal", &["cache/src/store/opendal"]),
    ("opendal_http_transport_reqwest", &["cache/src/store/opendal"]),
    (
        "rusqlite",
        &["cache/src/state", "cache/tests", "indexer/src/sqlite", "indexer/tests"],
    ),
    ("reqwest", &["indexer/src/shared/libsql"]),
    ("tokio_postgres", &["indexer/src/shared/postgres"]),
    ("fuser", &["fs/src/fuse"]),
    ("rmcp", &["fs/src/mcp"]),
    ("nfs3_types", &["fs/src/nfs", "tests/src/nfs", "tests/tests/nfs"]),
    (
        "notefs_cache",
        &["fs/", "cache/tests", "cache/benches", "cache/examples"],
    ),
    (
        "notefs_indexer",
        &[
            "fs/",
            "indexer/tests",
            "indexer/benches",
            "indexer/examples",
            "indexer/fuzz",
            "tests/tests/shared_databases",
        ],
    ),
];

/// A workspace member, and the members and outside crates that it must not depend on.
const MUST_NOT_DEPEND_ON: [(&str, &[&str]); 4] = [
    ("notefs", &["opendal", "rusqlite", "notefs-tests"]),
    (
        "notefs-cache",
        &[
            "notefs",
            "notefs-indexer",
            "notefs-tests",
            "fuser",
            "nfs3_server",
            "nfs3_types",
        ],
    ),
    (
        "notefs-indexer",
        &["notefs", "notefs-cache", "notefs-tests", "fuser", "opendal"],
    ),
    ("notefs-tests", &["fuser", "opendal"]),
];

const LICENCES: [&str; 14] = [
    "0BSD",
    "Apache-2.0",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "BSL-1.0",
    "CC0-1.0",
    "CDLA-Permissive-2.0",
    "ISC",
    "MIT",
    "MIT-0",
    "MPL-2.0",
    "Unicode-3.0",
    "Unlicense",
    "Zlib",
];

fn root() -> PathBuf {
    let own = Path::new(env!("CARGO_MANIFEST_DIR"));
    own.parent().unwrap_or(own).to_owned()
}

/// All files below a folder whose names end so, with their paths below the workspace, without what is built or hidden.
fn files(below: &Path, ending: &str) -> Result<BTreeMap<String, String>> {
    let mut found = BTreeMap::new();
    let mut todo = vec![below.to_owned()];
    while let Some(folder) = todo.pop() {
        for entry in std::fs::read_dir(&folder).with_context(|| folder.display().to_string())? {
            let path = entry?.path();
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            if path.is_dir() && name != "target" && name != ".git" {
                todo.push(path);
            } else if path.is_file() && name.ends_with(ending) {
                let Ok(text) = std::fs::read_to_string(&path) else {
                    continue;
                };
                found.insert(path.strip_prefix(root())?.display().to_string(), text);
            }
        }
    }
    Ok(found)
}

fn sources() -> Result<BTreeMap<String, String>> {
    files(&root(), ".rs")
}

/// Fails with one line for each breach.
fn none(breaches: Vec<String>, rule: &str) -> Result<()> {
    ensure!(breaches.is_empty(), "{rule}:\n  {}", breaches.join("\n  "));
    Ok(())
}

#[test]
fn every_file_says_what_it_is_for() -> Result<()> {
    let silent = sources()?.into_iter().filter(|(_, text)| !text.starts_with("//!"));
    none(
        silent.map(|(path, _)| path).collect(),
        "files that do not open with '//!'",
    )
}

#[test]
fn files_are_short() -> Result<()> {
    let lengths = sources()?.into_iter().map(|(path, text)| {
        // Tests at the end of a file do not count.
        let code = text
            .split("\n#[cfg(test)]\nmod tests {")
            .next()
            .unwrap_or_default()
            .lines()
            .count();
        (path, code)
    });
    let long = lengths
        .filter(|(_, lines)| *lines > FILE_LINES)
        .map(|(path, lines)| format!("{path}: {lines} lines"));
    none(long.collect(), "files of more than 500 lines")
}

/// Each function's name and its lines, by the layout that rustfmt gives.
fn functions(text: &str) -> Vec<(String, usize)> {
    let lines: Vec<&str> = text.lines().collect();
    let mut found = Vec::new();
    for (start, line) in lines.iter().enumerate() {
        let code = line.trim_start();
        let words = [
            "pub ",
            "pub(crate) ",
            "pub(super) ",
            "const ",
            "async ",
            "unsafe ",
            "extern \"C\" ",
        ];
        let mut rest = code;
        while let Some(word) = words.iter().find(|word| rest.starts_with(**word)) {
            rest = &rest[word.len()..];
        }
        let Some(name) = rest.strip_prefix("fn ") else { continue };
        let close = format!("{}}}", &line[..line.len() - code.len()]);
        let length = if line.ends_with('}') || line.ends_with(';') {
            Some(0)
        } else {
            lines[start..]
                .iter()
                .position(|line| *line == close || line.starts_with(&format!("{close} ")))
        };
        let name = name.split(['(', '<']).next().unwrap_or_default();
        found.extend(length.map(|length| (name.to_owned(), length + 1)));
    }
    found
}

#[test]
fn functions_are_short() -> Result<()> {
    let mut lengths = Vec::new();
    let mut long = Vec::new();
    for (path, text) in sources()? {
        for (name, length) in functions(&text) {
            lengths.push(length);
            if length > FUNCTION_LINES {
                long.push(format!("{path}: {name} has {length} lines"));
            }
        }
    }
    none(long, "functions of more than 70 lines")?;
    lengths.sort_unstable();
    let common = lengths.get(lengths.len() * 9 / 10).copied().unwrap_or(0);
    ensure!(
        common <= COMMON_FUNCTION_LINES,
        "nine functions in ten are up to {common} lines long"
    );
    Ok(())
}

/// The code without comments.
fn code(text: &str) -> String {
    text.lines()
        .map(|line| line.split("//").next().unwrap_or_default())
        .collect::<Vec<_>>()
        .join("\n")
}

/// Whether code names a crate, and not a module of its own which has the same name.
fn names_crate(code: &str, name: &str) -> bool {
    let own_module = [format!("mod {name};"), format!("mod {name} {{")]
        .iter()
        .any(|module| code.contains(module));
    let path = format!("{name}::");
    let uses = code.match_indices(&path).any(|(at, _)| {
        let before = code[..at].chars().next_back().unwrap_or(' ');
        !before.is_alphanumeric() && before != '_' && before != ':'
    });
    code.contains(&format!("use {name};")) || (uses && !own_module) || code.contains(&format!("use ::{name}"))
}

#[test]
fn crates_are_named_only_where_they_belong() -> Result<()> {
    let mut breaches = Vec::new();
    // This file names them all, in its own examples.
    for (path, text) in sources()?.into_iter().filter(|(path, _)| !path.ends_with("tidy.rs")) {
        let code = code(&text);
        for (name, places) in NAMED_ONLY_IN {
            let allowed = places.iter().any(|place| path.starts_with(place));
            if !allowed && names_crate(&code, name) {
                breaches.push(format!("{path} names {name}"));
            }
        }
        let front_end = path.starts_with("fs/src/");
        if front_end
            && ["\"SELECT ", "\"INSERT ", "\"PRAGMA ", "\"CREATE TABLE"]
                .iter()
                .any(|sql| code.contains(sql))
        {
            breaches.push(format!("{path} speaks SQL"));
        }
        let both = names_crate(&code, "notefs_cache") && names_crate(&code, "notefs_indexer");
        let may_know_both = ["fs/src/mount", "fs/src/bridge"]
            .iter()
            .any(|place| path.starts_with(place));
        if both && !may_know_both {
            breaches.push(format!("{path} knows both cache and indexer"));
        }
    }
    none(breaches, "crates named where they do not belong")
}

#[test]
fn files_have_names_that_say_something() -> Result<()> {
    let dull = [
        "mod.rs",
        "util.rs",
        "utils.rs",
        "helper.rs",
        "helpers.rs",
        "misc.rs",
        "common.rs",
    ];
    let named_dull = |path: &String| {
        Path::new(path)
            .file_name()
            .is_some_and(|name| dull.iter().any(|dull| name == *dull))
    };
    none(
        sources()?.into_keys().filter(named_dull).collect(),
        "file names that say nothing",
    )
}

/// What editors and patches leave beside a file.
#[test]
fn nothing_is_left_behind() -> Result<()> {
    let left = |path: &String| {
        [".orig", ".rej", ".bak", "~"]
            .iter()
            .any(|ending| path.ends_with(ending))
    };
    none(
        files(&root(), "")?.into_keys().filter(left).collect(),
        "files left behind by an editor or a patch",
    )
}

/// A note to oneself names its reason in parentheses; a request to repair never stays.
#[test]
fn nothing_is_left_undone_without_a_reason() -> Result<()> {
    let (later, repair) = (["TO", "DO"].concat(), ["FIX", "ME"].concat());
    let mut breaches = Vec::new();
    for (path, text) in sources()? {
        for (number, line) in text.lines().enumerate() {
            let reasonless = line.contains(&later) && !line.contains(&format!("{later}("));
            if reasonless || line.contains(&repair) {
                breaches.push(format!("{path}:{}: {}", number + 1, line.trim()));
            }
        }
    }
    none(breaches, "work left undone without a reason")
}

#[test]
fn no_package_registry_is_named() -> Result<()> {
    let hosts = [
        ["crates", ".io"],
        ["pypi", ".org"],
        ["npmjs", ".org"],
        ["npmjs", ".com"],
        ["deb.debian", ".org"],
        ["pythonhosted", ".org"],
    ];
    let mut breaches = Vec::new();
    for (path, text) in files(&root(), "")? {
        let generated = path == "Cargo.lock";
        breaches.extend(
            hosts
                .iter()
                .map(|host| host.concat())
                .filter(|host| !generated && text.contains(host))
                .map(|_| path.clone()),
        );
    }
    none(breaches, "files that name the host of a package registry")
}

fn metadata() -> Result<Value> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let args = [
        "metadata",
        "--format-version=1",
        "--offline",
        "--filter-platform=x86_64-unknown-linux-gnu",
    ];
    let output = Command::new(cargo).args(args).current_dir(root()).output()?;
    ensure!(
        output.status.success(),
        "cargo metadata: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(serde_json::from_slice(&output.stdout)?)
}

fn text<'a>(value: &'a Value, field: &str) -> &'a str {
    value[field].as_str().unwrap_or_default()
}

#[test]
fn dependencies_point_one_way() -> Result<()> {
    let metadata = metadata()?;
    let packages = metadata["packages"].as_array().context("no packages")?;
    let mut breaches = Vec::new();
    for (member, banned) in MUST_NOT_DEPEND_ON {
        let package = packages.iter().find(|package| text(package, "name") == member);
        let package = package.with_context(|| format!("there is no member {member}"))?;
        let names = package["dependencies"].as_array().context("no dependencies")?.iter();
        let bad = names
            .map(|dependency| text(dependency, "name"))
            .filter(|name| banned.contains(name));
        breaches.extend(bad.map(|name| format!("{member} depends on {name}")));
    }
    none(breaches, "dependencies that point the wrong way")
}

/// Whether a licence expression can be met with the licences allowed. `AND` binds tighter than `OR`.
fn is_allowed(expression: &str) -> bool {
    let plain = expression.replace(['(', ')'], " ").replace('/', " OR ");
    let meets = |term: &str| {
        let licence = term.split(" WITH ").next().unwrap_or_default().trim();
        LICENCES.contains(&licence)
    };
    // With parentheses taken away, asking for all terms is the safe reading.
    if expression.contains('(') {
        return plain.split(" AND ").all(|part| part.split(" OR ").any(meets));
    }
    plain.split(" OR ").any(|part| part.split(" AND ").all(meets))
}

#[test]
fn all_licences_are_allowed() -> Result<()> {
    let metadata = metadata()?;
    let packages = metadata["packages"].as_array().context("no packages")?.iter();
    let bad = packages.filter(|package| !is_allowed(text(package, "license")));
    let told = bad.map(|package| format!("{}: {:?}", text(package, "name"), text(package, "license")));
    none(told.collect(), "packages with a licence that is not on the list")
}

#[test]
fn packages_are_few() -> Result<()> {
    let lock = std::fs::read_to_string(root().join("Cargo.lock"))?;
    let count = lock.matches("\n[[package]]").count();
    ensure!(
        count <= LOCKED_PACKAGES,
        "Cargo.lock holds {count} packages, more than {LOCKED_PACKAGES}"
    );
    Ok(())
}

/// Numbered promises, each as one text whatever its line breaks.
fn promises(text: &str) -> Vec<String> {
    let mut found: Vec<String> = Vec::new();
    let mut open = false;
    for line in text.lines() {
        let number = line
            .split_once(". ")
            .is_some_and(|(number, _)| number.parse::<u32>().is_ok());
        if number {
            found.push(line.to_owned());
        } else if let (true, false, Some(last)) = (open, line.trim().is_empty(), found.last_mut()) {
            last.push(' ');
            last.push_str(line.trim());
        }
        open = number || (open && !line.trim().is_empty());
    }
    found
}

#[test]
fn every_promise_names_a_test() -> Result<()> {
    let page = std::fs::read_to_string(root().join("fs/SEMANTICS.md")).context("fs/SEMANTICS.md")?;
    let sources = sources()?;
    let promises = promises(&page);
    ensure!(promises.len() >= 5, "only {} numbered promises", promises.len());
    let mut breaches = Vec::new();
    for promise in promises {
        let tests = promise
            .rsplit_once("(test: ")
            .and_then(|(_, rest)| rest.trim_end().strip_suffix(')'));
        let Some(tests) = tests else {
            breaches.push(format!("without a test: {promise}"));
            continue;
        };
        for test in tests.split(',').map(|test| test.trim().trim_matches('`')) {
            let (file, name) = test.rsplit_once("::").unwrap_or(("", test));
            let exists = sources.iter().any(|(path, text)| {
                path.trim_end_matches(".rs").ends_with(file.trim_end_matches(".rs"))
                    && text.contains(&format!("fn {name}("))
            });
            if !exists {
                breaches.push(format!("there is no test {test}"));
            }
        }
    }
    none(breaches, "promises in fs/SEMANTICS.md")
}

#[test]
fn the_pages_are_there() -> Result<()> {
    let changelog = std::fs::read_to_string(root().join("CHANGELOG.md")).context("CHANGELOG.md")?;
    ensure!(
        changelog.contains("## Unreleased"),
        "CHANGELOG.md has no section 'Unreleased'"
    );
    for page in ["README.md", "ARCHITECTURE.md", "LICENSE", "fs/SEMANTICS.md"] {
        ensure!(root().join(page).is_file(), "there is no {page}");
    }
    Ok(())
}

#[test]
fn the_rules_see_what_they_forbid() {
    assert!(names_crate("use opendal::Operator;", "opendal"));
    assert!(names_crate("let x = fuser::mount();", "fuser"));
    assert!(!names_crate("mod opendal;\npub use self::opendal::Store;", "opendal"));
    assert!(!names_crate("let x = my_fuser::mount();", "fuser"));
    assert!(
        is_allowed("MIT OR GPL-3.0")
            && is_allowed("(MIT OR Apache-2.0) AND Unicode-3.0")
            && is_allowed("MIT/Apache-2.0")
    );
    assert!(!is_allowed("GPL-3.0") && !is_allowed("MIT AND GPL-3.0") && !is_allowed(""));
    assert_eq!(
        functions("fn a() {\n    1\n}\n    pub async fn b(\n    ) {\n    }\n"),
        [("a".into(), 3), ("b".into(), 3)]
    );
    assert_eq!(
        promises("1. One\n   more (test: a::b)\n\ntext\n2. Two"),
        ["1. One more (test: a::b)", "2. Two"]
    );
    let unique: BTreeSet<_> = LICENCES.iter().collect();
    assert_eq!(unique.len(), LICENCES.len());
}
