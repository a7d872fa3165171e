//! Two tenants on one machine and one S3 server, each with a key for the own bucket and a user of the own: neither sees, guesses or
//! disturbs what is the other's.

use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use notefs_tests::process::{self, Finished};
use notefs_tests::server::Server;
use notefs_tests::{Mount, Notefs, PATIENCE, Store, command, container, scratch, wait_until};

/// The users of the two tenants, who are nobody else's.
const USERS: [u32; 2] = [48_001, 48_002];

/// Shell functions for two users in one table of mounts of their own, in which everybody may open /dev/fuse.
const PRELUDE: &str = r#"
mount --bind "$DEVICE" /dev/fuse
# fusermount3 serves users who have a name.
{ cat /etc/passwd; for user in $A $B; do echo "tenant$user:x:$user:$user::/nonexistent:/bin/sh"; done; } >"$HOMES/passwd"
chmod 644 "$HOMES/passwd"
mount --bind "$HOMES/passwd" /etc/passwd
as() { # USER COMMAND...
  local user=$1; shift
  setpriv --reuid "$user" --regid "$user" --clear-groups -- env -i PATH="$PATH" HOME="$HOMES/$user" XDG_RUNTIME_DIR="$HOMES/$user/run" \
    AWS_ACCESS_KEY_ID="$(cat "$HOMES/$user.key")" AWS_SECRET_ACCESS_KEY="$(cat "$HOMES/$user.secret")" "$@"
}
denied() { # WHAT COMMAND...: the command must fail, and show nothing of the notes
  local what=$1 said; shift
  if said=$("$@" 2>&1); then echo "$what was not denied: $said"; exit 1; fi
  case $said in *wordof*) echo "$what shows: $said"; exit 1 ;; esac
}
only_theirs() { # WHAT COMMAND...: the owner may, and the other may not
  local what=$1; shift
  as $other "$@" >/dev/null || { echo "$what fails for its owner, too"; exit 1; }
  denied "$what" as $me "$@"
}
trap 'for user in $A $B; do as $user "$NOTEFS" unmount "$HOMES/$user/notes" --timeout 5s >/dev/null 2>&1; done' EXIT
"#;

const SCRIPT: &str = r#"
set -eu
umask 000
for user in $A $B; do
  as $user "$NOTEFS" mount "$(cat "$HOMES/$user.url")" "$HOMES/$user/notes"
  as $user sh -c "mkdir '$HOMES/$user/notes/deep'; echo wordof$user >'$HOMES/$user/notes/deep/secret.md'; head -c 300000 /dev/zero >'$HOMES/$user/notes/large.bin'"
  as $user "$NOTEFS" sync "$HOMES/$user/notes" >/dev/null
done
for pair in "$A $B" "$B $A"; do
  set -- $pair; me=$1; other=$2; theirs=$HOMES/$other
  # The mount, though the way to it is open.
  only_theirs "listing the mount" ls "$theirs/notes"
  only_theirs "reading a note" cat "$theirs/notes/deep/secret.md"
  only_theirs "writing a note" touch "$theirs/notes/deep/secret.md"
  denied "unmounting" as $me fusermount3 -u "$theirs/notes"
  denied "notefs unmount" as $me "$NOTEFS" unmount "$theirs/notes" --timeout 1s
  # Cache, index, log, control socket and records.
  readable=$(as $me find "$theirs" -xdev \( -type f -o -type s \) \( -readable -o -writable \) 2>/dev/null || true)
  [ -z "$readable" ] || { echo "open to the other user: $readable"; exit 1; }
  for folder in "$theirs/.local/state/notefs"/* "$theirs/run/notefs"; do only_theirs "listing $folder" ls "$folder"; done
  socket=$(echo "$theirs"/run/notefs/*.sock); [ -S "$socket" ]
  only_theirs "the control socket" python3 -c "import socket,sys; socket.socket(socket.AF_UNIX).connect(sys.argv[1])" "$socket"
  only_theirs "status" "$NOTEFS" status "$theirs/notes"
  only_theirs "a search" "$NOTEFS" search "$theirs/notes" "wordof$other"
  found=$(as $me "$NOTEFS" search "$HOMES/$me/notes" "wordof$other" || true)
  case $found in *secret.md*) echo "the index shows the other's note: $found"; exit 1 ;; esac
  case $(as $me "$NOTEFS" status) in *"$theirs"*) echo "status tells of the other's mount"; exit 1 ;; esac
  # The daemon: its environment, memory and life.
  daemon=$(sed -n 's/.*"pid": *\([0-9]*\).*/\1/p' "$theirs"/run/notefs/*.json | head -n1)
  only_theirs "the daemon's environment" cat "/proc/$daemon/environ"
  only_theirs "the daemon's files" ls "/proc/$daemon/fd"
  only_theirs "a signal" sh -c "kill -0 $daemon"
  case $(tr '\0' ' ' <"/proc/$daemon/cmdline") in *"$(cat "$HOMES/$other.secret")"*) echo "the secret is on the command line"; exit 1 ;; esac
  if grep -rqs -e "$(cat "$HOMES/$other.secret")" "$theirs/.local" "$theirs/run"; then echo "the secret lies in a file"; exit 1; fi
  # The bucket: my key opens nothing there.
  mkdir -p "$HOMES/$me/elsewhere"; chown $me "$HOMES/$me/elsewhere"
  denied "mounting the other's bucket" as $me "$NOTEFS" mount "$(cat "$HOMES/$other.url")" "$HOMES/$me/elsewhere"
  if mountpoint -q "$HOMES/$me/elsewhere"; then echo "mounted the other's bucket"; exit 1; fi
  # And nobody was disturbed.
  [ "$(as $other cat "$theirs/notes/deep/secret.md")" = "wordof$other" ]
done
echo both undisturbed
"#;

/// Runs a script of both users in a table of mounts that ends with it.
fn as_both(script: &str, homes: &Path) -> Result<Finished> {
    let device = container::open_device(homes)?;
    let mut shell = container::apart();
    shell.args(["bash", "-c"]).arg(format!("{PRELUDE}{script}"));
    shell
        .env("DEVICE", device)
        .env("HOMES", homes)
        .env("NOTEFS", command::binary()?);
    shell.env("A", USERS[0].to_string()).env("B", USERS[1].to_string());
    process::run(shell, Duration::from_secs(300))
}

/// Folders of two users, open to everybody, so that nothing but notefs itself guards what it makes.
fn homes(stores: &[Store]) -> Result<PathBuf> {
    let homes = scratch::folder("homes")?;
    let open = |path: &Path| std::fs::set_permissions(path, PermissionsExt::from_mode(0o755));
    open(&homes)?;
    homes.parent().map(open).transpose()?;
    for (user, store) in USERS.iter().zip(stores) {
        let home = homes.join(user.to_string());
        for folder in [home.clone(), home.join("notes"), home.join("run")] {
            std::fs::create_dir(&folder)?;
            open(&folder)?;
            std::os::unix::fs::chown(&folder, Some(*user), Some(*user))?;
        }
        let secret = |name: &str| {
            store
                .env
                .iter()
                .find(|(given, _)| given == name)
                .map(|(_, value)| value.clone())
        };
        let lines = [
            ("url", Some(store.url.clone())),
            ("key", secret("AWS_ACCESS_KEY_ID")),
            ("secret", secret("AWS_SECRET_ACCESS_KEY")),
        ];
        for (ending, text) in lines {
            let path = homes.join(format!("{user}.{ending}"));
            std::fs::write(&path, text.context("a store without credentials")?)?;
            std::fs::set_permissions(&path, PermissionsExt::from_mode(0o600))?;
        }
    }
    Ok(homes)
}

#[test]
fn two_users_with_keys_of_their_own_reach_nothing_of_each_other() -> Result<()> {
    let (_server, clients) = Server::of_tenants(&["tenant-a", "tenant-b"])?;
    let stores: Vec<Store> = clients.into_iter().map(Store::s3).collect::<Result<_>>()?;
    let homes = homes(&stores)?;
    let finished = as_both(SCRIPT, &homes)?;
    ensure!(
        finished.status.success() && finished.stdout.contains("both undisturbed"),
        "exit {}: {}\n{}",
        finished.code(),
        finished.stdout,
        finished.stderr
    );
    for (user, store) in USERS.iter().zip(&stores) {
        let keys = store.keys()?;
        ensure!(
            keys == ["deep/secret.md", "large.bin"],
            "the bucket of {user} holds {keys:?}"
        );
        let note = store.get("deep/secret.md")?.unwrap_or_default();
        ensure!(
            note == format!("wordof{user}\n").into_bytes(),
            "the note of {user}: {note:?}"
        );
    }
    Ok(())
}

/// With one user for both, keys and folders still keep them apart.
#[test]
fn a_key_opens_its_own_bucket_only() -> Result<()> {
    let (_server, clients) = Server::of_tenants(&["tenant-a", "tenant-b"])?;
    let stores: Vec<Store> = clients.into_iter().map(Store::s3).collect::<Result<_>>()?;
    stores[1].put("theirs.md", b"wordoftheirs")?;
    ensure!(stores[0].get("mine.md")?.is_none());
    let mut mount = Mount::start(&stores[0])?;
    std::fs::write(mount.path("mine.md"), "wordofmine")?;
    mount.drain()?;
    let home = scratch::folder("home")?;
    let elsewhere = home.join("notes");
    std::fs::create_dir(&elsewhere)?;
    let mine = Notefs::new(&home, &stores[0].env);
    let place = elsewhere.display().to_string();
    for words in [
        vec!["mount", &stores[1].url, &place],
        vec!["run", &stores[1].url, &place, "--", "true"],
    ] {
        let said = mine.failure(&words, 1)?;
        ensure!(!said.contains("secret-of"), "it tells the secret: {said}");
        ensure!(said.contains("tenant-b"), "it does not say which bucket: {said}");
    }
    ensure!(!scratch::is_mounted(&elsewhere), "the other's bucket is mounted");
    ensure!(
        stores[1].all_keys()? == ["theirs.md"],
        "the other's bucket was written to"
    );
    // A cache belongs to one store: a second one is refused, and shows nothing of the first.
    mount.unmount()?;
    let theirs = Notefs::new(&home, &stores[1].env);
    let cache = mount.cache().display().to_string();
    let said = theirs.failure(&["mount", &stores[1].url, &place, "--cache", &cache], 1)?;
    ensure!(!said.contains("mine.md"), "it tells of the first store's notes: {said}");
    mount.remount()?;
    ensure!(std::fs::read(mount.path("mine.md"))? == b"wordofmine");
    Ok(())
}

/// Every file, folder and socket below a folder that somebody else could read or write.
fn open_to_others(folder: &Path) -> Result<Vec<String>> {
    let mut found = Vec::new();
    let mut todo = vec![folder.to_owned()];
    while let Some(path) = todo.pop() {
        let metadata = std::fs::symlink_metadata(&path)?;
        let mode = metadata.permissions().mode() & 0o7777;
        let private = if metadata.is_dir() { 0o700 } else { 0o600 };
        if mode != private {
            let kind = if metadata.file_type().is_socket() {
                "socket"
            } else {
                "file or folder"
            };
            found.push(format!("{} {mode:o} ({kind})", path.display()));
        }
        if metadata.is_dir() {
            let entries = std::fs::read_dir(&path)?;
            todo.extend(entries.flatten().map(|entry| entry.path()));
        }
    }
    Ok(found)
}

/// Whatever the umask, and whoever made the folder above.
#[test]
fn every_file_that_notefs_makes_is_private() -> Result<()> {
    let store = Store::ministack()?;
    let home = scratch::folder("home")?;
    let dir = home.join("notes");
    std::fs::create_dir(&dir)?;
    let notefs = Notefs::new(&home, &store.env);
    let log = home.join("own.log");
    let script = format!(
        "umask 000; notefs=$1; cd \"$2\"; \"$notefs\" mount '{}' notes --log '{}' || exit 1
         echo word >notes/note.md; head -c 300000 /dev/urandom >notes/large.bin; ln -s /etc notes/link; mkdir notes/folder; cat notes/large.bin >/dev/null
         \"$notefs\" sync notes && \"$notefs\" search notes word && \"$notefs\" index rebuild notes && \"$notefs\" check notes",
        store.url,
        log.display()
    );
    let mut shell = Command::new("bash");
    let like = notefs.command(["status"])?;
    shell
        .arg("-c")
        .arg(script)
        .arg("x")
        .arg(command::binary()?)
        .arg(&home)
        .env_clear();
    for (name, value) in like.get_envs() {
        shell.envs(value.map(|value| (name, value)));
    }
    process::run(shell, PATIENCE)?.ok()?;
    let made = [home.join("state/notefs"), home.join("run/notefs"), log];
    let looked = wait_until("all that notefs makes", PATIENCE, || {
        // Files of a database come and go while it is open.
        let open: Result<Vec<Vec<String>>> = made.iter().map(|path| open_to_others(path)).collect();
        open.map_err(|error| format!("{error:#}"))
    });
    let place = dir.display().to_string();
    notefs.output(&["unmount", &place])?;
    let open: Vec<String> = looked?.concat();
    ensure!(open.is_empty(), "open to others: {open:#?}");
    let closed: Vec<String> = [open_to_others(&made[0])?, open_to_others(&made[2])?].concat();
    ensure!(closed.is_empty(), "open to others after the end: {closed:#?}");
    Ok(())
}
