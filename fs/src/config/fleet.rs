//! The file of a fleet: many mounts in one TOML file, each a table of its own with the options of a configuration file.
//!
//! ```toml
//! [defaults]
//! write-back = "1s"
//!
//! [mount.tenant-7]
//! store = "s3://tenants/7"
//! dir = "/srv/tenants/7"
//! credentials-file = "/run/secrets/tenant-7"
//! ```
//!
//! Owns reading and checking it as a whole. Does not own running the mounts (`fleet.rs`).

use super::file::{check, in_file, parse_table, read_text};
use super::{MountPlan, Places, plan_of};
use crate::cli::args::MountArgs;
use crate::failure::Failure;
use std::collections::HashMap;
use std::path::Path;
use toml::{Table, Value};

/// Mounts of one fleet.
const MOUNTS_MAX: usize = 1_000;

/// One mount of a fleet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct FleetMount {
    /// Its name in the file.
    pub(crate) name: String,
    /// How it is made.
    pub(crate) plan: MountPlan,
}

/// Reads and checks the whole file: one wrong line, and nothing of it is taken.
pub(crate) fn read_fleet(path: &Path, places: &Places) -> Result<Vec<FleetMount>, Failure> {
    let path = places.current_dir.join(path);
    let folder = path.parent().unwrap_or(Path::new("/"));
    let text = read_text(&path)?;
    let mounts = parse_table(&text).and_then(|table| mounts_of(&text, table, folder, places));
    mounts.map_err(|failure| in_file(&path, failure))
}

fn mounts_of(text: &str, mut table: Table, folder: &Path, places: &Places) -> Result<Vec<FleetMount>, Failure> {
    let defaults = take_table(&mut table, "defaults")?;
    let mounts = take_table(&mut table, "mount")?;
    if let Some(unknown) = table.keys().next() {
        return Err(Failure::usage(format!("unknown key `{unknown}`")).hint("A fleet has [defaults] and [mount.NAME]"));
    }
    if mounts.is_empty() || mounts.len() > MOUNTS_MAX {
        return Err(
            Failure::usage(format!("A fleet has 1 to {MOUNTS_MAX} mounts")).hint("Write a table [mount.NAME] for each")
        );
    }
    if let Some(own) = ["dir", "cache", "store", "addr", "metrics"]
        .iter()
        .find(|key| defaults.contains_key(**key))
    {
        return Err(Failure::usage(format!("`{own}` cannot be the same for all mounts")));
    }
    let mut fleet = Vec::new();
    for (name, options) in mounts {
        let mount = mount_of(text, (&name, options), (&defaults, folder), places);
        fleet.push(mount.map_err(|failure| Failure {
            message: format!("[mount.{name}]: {}", failure.message),
            ..failure
        })?);
    }
    apart(&fleet)?;
    Ok(fleet)
}

fn mount_of(
    text: &str,
    (name, options): (&str, Value),
    (defaults, folder): (&Table, &Path),
    places: &Places,
) -> Result<FleetMount, Failure> {
    let Value::Table(own) = options else {
        return Err(Failure::usage("it is no table"));
    };
    let mut all = defaults.clone();
    all.extend(own);
    let config = check(text, &all, folder)?;
    let missing = |what: &str| Failure::usage(format!("`{what}` is missing"));
    let store = config.store.clone().ok_or_else(|| missing("store"))?;
    let dir = config.dir.clone().ok_or_else(|| missing("dir"))?;
    let args = MountArgs::default();
    let plan = plan_of(&args, &config, (Some(store), dir), places)?;
    Ok(FleetMount {
        name: name.to_owned(),
        plan,
    })
}

fn take_table(table: &mut Table, name: &str) -> Result<Table, Failure> {
    match table.remove(name) {
        None => Ok(Table::new()),
        Some(Value::Table(inner)) => Ok(inner),
        Some(_) => Err(Failure::usage(format!("`{name}` must be a table"))),
    }
}

/// No two mounts share a folder or a cache.
fn apart(fleet: &[FleetMount]) -> Result<(), Failure> {
    let mut taken: HashMap<&Path, &str> = HashMap::new();
    for mount in fleet {
        for place in [&mount.plan.dir, &mount.plan.cache_dir] {
            if let Some(other) = taken.insert(place, &mount.name) {
                let message = format!("{} and {other} both use {}", mount.name, place.display());
                return Err(Failure::usage(message).hint("Give each mount a `dir` and a `cache` of its own"));
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Vec<FleetMount>, Failure> {
        let places = Places {
            current_dir: "/work".into(),
            home: Some("/home/me".into()),
            data_home: None,
            state_home: None,
            store: None,
            index: None,
        };
        mounts_of(text, parse_table(text)?, Path::new("/etc/notefs"), &places)
    }

    #[test]
    fn each_mount_has_the_defaults_and_its_own() {
        let fleet = parse(
            "[defaults]\nwrite-back = '5s'\nlog-format = 'json'\n[mount.a]\nstore = 's3://b/a'\ndir = '/srv/a'\n\
             [mount.b]\nstore = 's3://b/b'\ndir = 'b'\nwrite-back = '1s'\ncredentials-file = 'b.keys'\n",
        )
        .unwrap();
        assert_eq!(
            fleet.iter().map(|mount| mount.name.as_str()).collect::<Vec<_>>(),
            ["a", "b"]
        );
        assert_eq!(fleet[0].plan.write_back.as_secs(), 5);
        assert_eq!(fleet[1].plan.write_back.as_secs(), 1);
        assert!(fleet[1].plan.log_json);
        assert_eq!(fleet[1].plan.dir, Path::new("/etc/notefs/b"));
        assert_eq!(
            fleet[1].plan.credentials_file.as_deref(),
            Some(Path::new("/etc/notefs/b.keys"))
        );
        assert!(fleet[0].plan.log.is_some());
    }

    #[test]
    fn what_makes_no_sense_is_refused_whole() {
        let a = "[mount.a]\nstore = 's3://b/a'\ndir = '/srv/a'\n";
        for (text, why) in [
            ("", "1 to"),
            ("mounts = 1", "mounts"),
            ("[mount.a]\nstore = 's3://b'\n", "`dir` is missing"),
            ("[mount.a]\ndir = '/srv/a'\n", "`store` is missing"),
            (
                &format!("{a}[mount.b]\nstore = 's3://b/b'\ndir = '/srv/a'\n"),
                "both use",
            ),
            (
                &format!("{a}[mount.b]\nstore = 's3://b/a'\ndir = '/srv/b'\n"),
                "both use",
            ),
            (&format!("[defaults]\ndir = '/x'\n{a}"), "cannot be the same"),
            (&format!("{a}colour = 'red'\n"), "Line 4: unknown key `colour`"),
        ] {
            let failure = parse(text).unwrap_err();
            assert!(failure.message.contains(why), "{text}: {failure}");
        }
    }
}
