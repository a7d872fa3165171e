//! `notefs run`: everything that a short-lived machine wrote is in the bucket when it is gone.

use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use notefs_tests::process::{self, Guarded, wait_until};
use notefs_tests::{Class, Fault, Notefs, PATIENCE, Proxy, Store, scratch};

/// A user with an empty folder to mount on.
struct Job {
    notefs: Notefs,
    dir: PathBuf,
    store: Store,
}

impl Job {
    fn new(store: &Store) -> Result<Job> {
        let home = scratch::folder("job")?;
        let dir = home.join("notes");
        std::fs::create_dir(&dir)?;
        Ok(Job {
            notefs: Notefs::new(&home, &store.env),
            dir,
            store: store.clone(),
        })
    }

    fn args(&self, options: &[&str], script: &str) -> Vec<String> {
        let dir = self.dir.display().to_string();
        let words = ["run", &self.store.url, &dir]
            .into_iter()
            .chain(options.iter().copied());
        words.chain(["--", "sh", "-c", script]).map(str::to_owned).collect()
    }

    /// Runs a script to its end; its exit code must be `code`. Answers stdout and stderr.
    fn run(&self, options: &[&str], script: &str, code: i32) -> Result<(String, String)> {
        let args = self.args(options, script);
        let ended = self.notefs.run(&args.iter().map(String::as_str).collect::<Vec<_>>())?;
        let (out, err) = (ended.stdout.clone(), ended.stderr.clone());
        ensure!(
            ended.code() == code,
            "exit {} instead of {code}: {out}\n{err}",
            ended.code()
        );
        ensure!(!scratch::is_mounted(&self.dir), "still mounted after the end");
        Ok((out, err))
    }

    fn start(&self, options: &[&str], script: &str) -> Result<Guarded> {
        let mut command = self.notefs.command(self.args(options, script))?;
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        process::spawn(command)
    }
}

#[test]
fn what_a_command_wrote_is_stored_when_it_has_ended() -> Result<()> {
    let job = Job::new(&Store::ministack()?)?;
    let script = "echo from a job >\"$NOTEFS_DIR/job.md\"; mkdir \"$NOTEFS_DIR/deep\"; echo x >\"$NOTEFS_DIR/deep/x.md\"; exit 7";
    job.run(&["--write-back", "1h"], script, 7)?;
    ensure!(
        job.store.get("job.md")?.as_deref() == Some(b"from a job\n"),
        "job.md is not stored"
    );
    ensure!(job.store.get("deep/x.md")?.is_some(), "deep/x.md is not stored");
    job.run(&[], "test \"$(cat \"$NOTEFS_DIR/job.md\")\" = 'from a job'", 0)?;
    Ok(())
}

#[test]
fn a_command_can_wait_for_the_index() -> Result<()> {
    let store = Store::ministack()?;
    for number in 0..50 {
        store.put(
            &format!("note{number}.md"),
            format!("# Note\n\nwordofjob{number}\n").as_bytes(),
        )?;
    }
    let job = Job::new(&store)?;
    let binary = notefs_tests::command::binary()?;
    let script = format!("{} search \"$NOTEFS_DIR\" wordofjob49", binary.display());
    let (found, _) = job.run(&["--wait", "indexed"], &script, 0)?;
    ensure!(found.contains("note49.md"), "not found: {found}");
    Ok(())
}

#[test]
fn what_could_not_be_stored_is_told_by_code_and_name() -> Result<()> {
    let store = Store::ministack()?;
    let proxy = Proxy::start(store.client()?.address)?;
    let job = Job::new(&store.via(proxy.address())?)?;
    proxy.set_fault_on(Class::Put, Fault::Unavailable);
    let (_, told) = job.run(&["--drain", "1s"], "echo late >\"$NOTEFS_DIR/late.md\"", 74)?;
    ensure!(
        told.contains("late.md") && told.contains("Hint"),
        "it does not say what is left: {told}"
    );
    proxy.set_fault_on(Class::Put, Fault::None);
    job.run(&[], "true", 0)?;
    ensure!(
        store.get("late.md")?.is_some(),
        "what was left is not stored by the next run"
    );
    Ok(())
}

#[test]
fn sigterm_during_saves_loses_none_that_was_made() -> Result<()> {
    let job = Job::new(&Store::weed()?)?;
    let count = job.dir.with_file_name("count");
    let script = format!(
        "trap 'exit 3' TERM; i=0; while :; do echo note $i >\"$NOTEFS_DIR/n$i.md\"; echo $i >{}; i=$((i+1)); done",
        count.display()
    );
    let mut running = job.start(&[], &script)?;
    let made = || std::fs::read_to_string(&count).ok()?.trim().parse::<u32>().ok();
    wait_until("a hundred saves", PATIENCE, || match made() {
        Some(100..) => Ok(()),
        other => Err(format!("{other:?}")),
    })?;
    running.signal(libc::SIGTERM);
    let status = running.wait(PATIENCE)?;
    ensure!(status.code() == Some(3), "ended with {status}");
    let last = made().context("no count")?;
    for number in 0..=last {
        let stored = job.store.get(&format!("n{number}.md"))?;
        ensure!(
            stored == Some(format!("note {number}\n").into_bytes()),
            "n{number}.md of {last}: {stored:?}"
        );
    }
    ensure!(!scratch::is_mounted(&job.dir), "still mounted");
    Ok(())
}

#[test]
fn a_command_that_will_not_end_is_killed_and_its_notes_are_stored() -> Result<()> {
    let job = Job::new(&Store::ministack()?)?;
    let script = "trap '' TERM; echo stubborn >\"$NOTEFS_DIR/stubborn.md\"; while :; do sleep 0.1; done";
    let mut running = job.start(&["--grace", "300ms"], script)?;
    wait_until("the note", PATIENCE, || {
        job.dir
            .join("stubborn.md")
            .exists()
            .then_some(())
            .ok_or_else(String::new)
    })?;
    running.signal(libc::SIGTERM);
    let status = running.wait(PATIENCE)?;
    ensure!(status.code() == Some(128 + 9), "ended with {status}");
    ensure!(job.store.get("stubborn.md")?.is_some(), "its note is not stored");
    Ok(())
}

#[test]
fn as_process_1_it_reaps_what_the_command_leaves() -> Result<()> {
    let job = Job::new(&Store::ministack()?)?;
    let script = "for i in 1 2 3 4 5; do (sleep 0.05 &) ; done; sleep 1; \
                  zombies=$(ps -eo stat= | grep -c Z || true); echo $zombies >\"$NOTEFS_DIR/zombies\"";
    let mut command = std::process::Command::new("unshare");
    let inner = job.notefs.command(job.args(&[], script))?;
    command.args(["--pid", "--fork", "--kill-child", "--mount-proc", "--"]);
    command.arg(inner.get_program()).args(inner.get_args()).env_clear();
    for (name, value) in inner.get_envs() {
        command.envs(value.map(|value| (name, value)));
    }
    process::run(command, Duration::from_secs(60))?.ok()?;
    let zombies = job.store.get("zombies")?.context("nothing stored")?;
    ensure!(zombies == b"0\n", "zombies: {}", String::from_utf8_lossy(&zombies));
    Ok(())
}

#[test]
fn a_command_that_cannot_start_says_so_and_leaves_nothing_mounted() -> Result<()> {
    let job = Job::new(&Store::folder()?)?;
    let dir = job.dir.display().to_string();
    let words = job
        .notefs
        .failure(&["run", &job.store.url, &dir, "--", "/no/such/program"], 127)?;
    ensure!(words.contains("/no/such/program"), "{words}");
    ensure!(!scratch::is_mounted(&job.dir), "still mounted");
    job.notefs.failure(&["run", &job.store.url, &dir], 2)?;
    Ok(())
}
