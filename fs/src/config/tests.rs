//! Tests of the plan of a mount.

use super::cache_dir::short_hash;
use super::file::parse as parse_config;
use super::*;
use crate::cli::args::{Cli, Command};
use clap::Parser;

fn places() -> Places {
    Places {
        current_dir: "/work".into(),
        home: Some("/home/me".into()),
        data_home: None,
        state_home: None,
        store: None,
        index: None,
    }
}

fn args(line: &str) -> MountArgs {
    match Cli::try_parse_from(line.split(' ')).unwrap().command {
        Command::Mount(args) => *args,
        _ => panic!("not a mount"),
    }
}

#[test]
fn a_configuration_is_read() {
    let config = parse_config("store = 's3://b'\ncache-size = '2G'\nread-only = true\n").unwrap();
    assert_eq!(config.store.as_deref(), Some("s3://b"));
    assert_eq!(config.cache_size, Some(2 << 30));
    assert_eq!(config.read_only, Some(true));
}

#[test]
fn unknown_keys_are_refused_by_name() {
    let failure = parse_config("cache_sise = '2G'").unwrap_err();
    assert!(failure.message.contains("cache_sise"), "{failure}");
    assert!(failure.hint.unwrap().contains("cache-size"));
    assert_eq!(failure.exit_code, crate::failure::EXIT_USAGE);
}

#[test]
fn secrets_are_refused_and_not_repeated() {
    for key in [
        "secret-access-key",
        "AWS_SECRET_ACCESS_KEY",
        "password",
        "session_token",
        "access-key-id",
    ] {
        let failure = parse_config(&format!("{key} = 'hunter2'")).unwrap_err();
        assert!(failure.message.contains(key), "{failure}");
        assert!(!format!("{failure:?}").contains("hunter2"));
    }
    assert!(!format!("{:?}", parse_config("store = hunter2").unwrap_err()).contains("hunter2"));
}

#[test]
fn the_command_line_wins_over_the_file() {
    let folder = std::env::temp_dir().join(format!("notefs-config-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let file = folder.join("team.toml");
    std::fs::write(
        &file,
        "store = 'fs:///srv/a'\ndir = 'here'\ncache-size = '1G'\nwrite-back = '5s'\npoll = '20s'\nread-only = true\n",
    )
    .unwrap();
    let line = format!(
        "notefs mount --config {} --write-back 250ms --read-only=false",
        file.display()
    );
    let plan = plan(&args(&line), &places()).unwrap();
    std::fs::remove_dir_all(&folder).unwrap();
    assert_eq!(plan.dir, folder.join("here"));
    assert_eq!(plan.cache_size_bytes, 1 << 30);
    assert_eq!(plan.write_back, Duration::from_millis(250));
    assert_eq!(plan.poll, Some(Duration::from_secs(20)));
    assert!(!plan.read_only);
}

#[test]
fn default_places_follow_the_xdg_folders() {
    let plan = plan(&args("notefs mount notes"), &places()).unwrap();
    assert_eq!(plan.store, "fs:///home/me/.local/share/notefs/default");
    assert_eq!(plan.dir, Path::new("/work/notes"));
    assert!(plan.cache_dir.starts_with("/home/me/.local/state/notefs"));
    assert_eq!(plan.log, Some(plan.cache_dir.join("notefs.log")));
    assert_eq!(plan.cache_size_bytes, 10 << 30);
    assert_eq!(plan.write_back, Duration::from_secs(1));
    assert_eq!(plan.poll, None);
}

#[test]
fn cache_folders_of_different_stores_differ_and_stay() {
    let name = |store| {
        default_cache_dir(&places(), store)
            .unwrap()
            .file_name()
            .unwrap()
            .to_str()
            .unwrap()
            .to_owned()
    };
    assert_eq!(
        name("s3://bucket/notes"),
        format!("bucket-notes-{:08x}", short_hash("s3://bucket/notes"))
    );
    assert_ne!(name("s3://bucket/notes"), name("s3://bucket-notes"));
    assert_eq!(long_hash(b"a"), 0xaf63_dc4c_8601_ec8c);
}

#[test]
fn a_cache_or_store_inside_the_mount_is_refused() {
    let refused = |line: &str| plan(&args(line), &places()).unwrap_err().message;
    assert!(refused("notefs mount --cache /n/cache /n").contains("inside"));
    assert!(refused("notefs mount fs:///srv/store /srv/store/notes").contains("inside"));
    assert!(refused("notefs mount fs:///srv/store /srv").contains("inside"));
    assert!(refused("notefs mount s3://bucket").contains("missing"));
}
