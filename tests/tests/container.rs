//! A tenant's container: nobody root, one command that mounts, runs a service, stores and leaves. Whatever moment it is asked to end
//! in, what its service has acknowledged is in the bucket; whatever moment it is killed in, its volume goes on.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context, Result, ensure};
use notefs_tests::container::{self, Container, Plan, VAULT};
use notefs_tests::vault::{self, Random};
use notefs_tests::web::{self, Acknowledged, WebService};
use notefs_tests::{Class, Fault, PATIENCE, Proxy, Store, process, scratch, wait_until};
use serde_json::Value;
use sha2::{Digest, Sha256};

/// Saves that a burst must have made before anything is done to its container.
const SAVES_MIN: usize = 20;

/// How long after that it is done, at most.
const MOMENT_MS_MAX: usize = 1_500;

const WRITERS: usize = 3;

fn number_in(variable: &str, default: usize) -> usize {
    let given = std::env::var(variable).ok();
    given.and_then(|text| text.parse().ok()).unwrap_or(default)
}

/// Moments that differ from run to run; the seed that repeats them is printed.
#[allow(clippy::print_stdout, reason = "a run is repeated by its seed")]
fn moments() -> Random {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    let seed = number_in("NOTEFS_TEST_SEED", now.map_or(1, |time| time.subsec_nanos() as usize));
    println!("NOTEFS_TEST_SEED={seed}");
    Random::new(seed as u64)
}

/// Has clients save until `act` has ended the container at a random moment.
fn during_a_burst(
    service: &mut WebService,
    (round, random): (usize, &mut Random),
    log: &Acknowledged,
    act: impl FnOnce(&mut Container) -> Result<()>,
) -> Result<()> {
    let stop = AtomicBool::new(false);
    let before = log.count();
    let site = service.site;
    std::thread::scope(|scope| {
        let (stop, name) = (&stop, format!("round{round}"));
        scope.spawn(move || site.burst(&name, WRITERS, stop, log));
        let begun = wait_until("burst of saves", PATIENCE, || match log.count() - before {
            count if count >= SAVES_MIN => Ok(()),
            count => Err(format!("{count} saves")),
        });
        std::thread::sleep(Duration::from_millis(random.below(MOMENT_MS_MAX) as u64));
        let done = begun.and_then(|()| act(&mut service.container));
        stop.store(true, Ordering::Relaxed);
        done
    })
}

#[test]
fn sigterm_at_any_moment_of_a_burst_loses_no_acknowledged_save() -> Result<()> {
    let store = Store::weed()?;
    let (plan, address) = web::plan(&store, &[])?;
    let log = Acknowledged::default();
    let mut random = moments();
    for round in 0..number_in("NOTEFS_TEST_RUNS", 3) {
        let mut service = WebService::start(&plan, address)?;
        during_a_burst(&mut service, (round, &mut random), &log, |container| {
            container.signal(libc::SIGTERM);
            let status = container.wait()?;
            ensure!(status.success(), "it ended with {status}: {}", container.output());
            Ok(())
        })?;
        println!(
            "round {round}: {} saves of {} notes acknowledged, {} notes in the bucket",
            log.count(),
            log.notes(),
            store.keys()?.len()
        );
        log.check(|path| store.get(path))?;
    }
    Ok(())
}

#[test]
fn a_container_that_was_killed_goes_on_with_its_volume() -> Result<()> {
    let store = Store::ministack()?;
    let proxy = Proxy::start(store.client()?.address)?;
    let (plan, address) = web::plan(&store.via(proxy.address())?, &[])?;
    let log = Acknowledged::default();
    let mut random = moments();
    for round in 0..number_in("NOTEFS_TEST_RUNS", 3) {
        // Nothing of the second burst can be stored before the kill.
        proxy.set_fault_on(Class::Put, if round == 1 { Fault::Unavailable } else { Fault::None });
        let mut service = WebService::start(&plan, address)?;
        log.check(|path| service.site.read(path)).context("after a kill")?;
        during_a_burst(&mut service, (round, &mut random), &log, Container::kill9)?;
    }
    proxy.set_fault(Fault::None);
    let mut service = WebService::start(&plan, address)?;
    log.check(|path| service.site.read(path))
        .context("after the last kill")?;
    service.container.signal(libc::SIGTERM);
    let status = service.container.wait()?;
    ensure!(
        status.success(),
        "it ended with {status}: {}",
        service.container.output()
    );
    log.check(|path| store.get(path)).context("in the bucket")
}

#[test]
fn without_its_volume_only_what_status_called_not_stored_is_lost() -> Result<()> {
    let store = Store::ministack()?;
    let proxy = Proxy::start(store.client()?.address)?;
    let (mut plan, address) = web::plan(&store.via(proxy.address())?, &[])?;
    let mut service = WebService::start(&plan, address)?;
    let names: Vec<String> = (0..12).map(|number| format!("note{number}.md")).collect();
    let (first, last) = names.split_at(7);
    first
        .iter()
        .try_for_each(|name| service.site.save(name, name.as_bytes()))?;
    service.container.run(&["notefs", "sync", VAULT])?.ok()?;
    proxy.set_fault_on(Class::Put, Fault::Unavailable);
    last.iter()
        .try_for_each(|name| service.site.save(name, name.as_bytes()))?;
    let mut stored = Vec::new();
    for name in &names {
        let file = service
            .container
            .json(&["status", &format!("{VAULT}/{name}"), "--json"])?;
        stored.extend((file["step"] == "stored").then_some(name));
    }
    let owed = service.container.json(&["status", VAULT, "--json"])?["owed"]["count"].clone();
    ensure!(stored.len() == first.len(), "status calls stored: {stored:?}");
    ensure!(owed.as_u64() >= Some(last.len() as u64), "status tells of {owed} owed");
    service.container.kill9()?;
    proxy.set_fault(Fault::None);
    plan.volume = container::volume()?;
    let service = WebService::start(&plan, address)?;
    for name in &names {
        let found = service.site.read(name)?;
        let expected = stored.contains(&name).then(|| name.as_bytes().to_vec());
        ensure!(
            found == expected,
            "{name}: {found:?}, though status had called these stored: {stored:?}"
        );
    }
    Ok(())
}

/// Figures; how long is not a question of right or wrong here.
#[test]
fn a_container_is_ready_with_a_warm_cache_and_without_one() -> Result<()> {
    let store = Store::ministack()?;
    let notes = vault::generate(number_in("NOTEFS_TEST_NOTES", 500), 7);
    vault::put_to(&notes, &store)?;
    let (plan, address) = web::plan(&store, &[])?;
    for cache in ["no", "a warm", "a warm"] {
        let start = Instant::now();
        let mut service = WebService::start(&plan, address)?;
        println!(
            "{} notes, {cache} cache: the service answers after {:?}",
            notes.len(),
            start.elapsed()
        );
        for file in notes.iter().step_by(notes.len() / 20) {
            let path = file.path.replace(' ', "%20");
            ensure!(
                service.site.read(&path)?.as_ref() == Some(&file.bytes),
                "{path} is not served"
            );
        }
        println!(
            "{} notes, {cache} cache: notes are read after {:?}",
            notes.len(),
            start.elapsed()
        );
        service.container.signal(libc::SIGTERM);
        ensure!(service.container.wait()?.success(), "{}", service.container.output());
    }
    Ok(())
}

/// A container that mounts a folder store in its volume and runs a script there.
fn script(text: &str) -> Result<Plan> {
    let mut words = vec!["sh", "-c"];
    let whole = format!(
        "mkdir -p /var/lib/notefs/store && exec notefs run fs:///var/lib/notefs/store {VAULT} -- sh -c '{text}'"
    );
    words.push(&whole);
    Plan::new(&words)
}

#[test]
fn nobody_is_root_inside_and_it_mounts_all_the_same() -> Result<()> {
    for user_namespace in [false, true] {
        let mut plan =
            script("id -u; grep CapEff /proc/self/status; grep vault /proc/mounts; echo kept >$NOTEFS_DIR/kept.md")?;
        plan.user_namespace = user_namespace;
        let (code, said) = container::run(&plan)?;
        ensure!(code == 0, "user namespace {user_namespace}: exit {code}: {said}");
        ensure!(
            said.lines().next() == Some(&container::USER.to_string()),
            "root inside: {said}"
        );
        ensure!(
            said.contains("CapEff:\t0000000000000000"),
            "it has capabilities: {said}"
        );
        ensure!(
            said.contains("fuse.notefs") && said.contains("nosuid,nodev"),
            "no such mount: {said}"
        );
        let kept = std::fs::read_to_string(plan.volume.join("store/kept.md"))?;
        ensure!(kept == "kept\n", "stored: {kept:?}");
    }
    Ok(())
}

#[test]
fn a_container_that_cannot_mount_is_told_what_it_lacks() -> Result<()> {
    let told = |change: &dyn Fn(&mut Plan), words: &[&str]| {
        let mut plan = script("true")?;
        change(&mut plan);
        let (code, said) = container::run(&plan)?;
        ensure!(code == 1, "exit {code}: {said}");
        let hint = said
            .lines()
            .find(|line| line.starts_with("Hint: "))
            .with_context(|| format!("no hint: {said}"))?;
        for word in words {
            ensure!(hint.contains(word), "the hint does not speak of {word}: {said}");
        }
        Ok(())
    };
    told(&|plan| plan.fuse = false, &["/dev/fuse", "notefs serve nfs"])?;
    told(&|plan| plan.may_mount = false, &["SYS_ADMIN"])?;
    told(&|plan| plan.new_privileges = false, &["fusermount3", "privileges"])
}

fn sum(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The blob that a descriptor of an image layout names.
fn blob(layout: &Path, descriptor: &Value) -> Result<Vec<u8>> {
    let digest = descriptor["digest"].as_str().context("a descriptor without a digest")?;
    let name = digest.strip_prefix("sha256:").context("another digest")?;
    let bytes = std::fs::read(layout.join("blobs/sha256").join(name))?;
    ensure!(sum(&bytes) == name, "a blob is not what its name says");
    ensure!(
        descriptor["size"].as_u64() == Some(bytes.len() as u64),
        "a blob of another size"
    );
    Ok(bytes)
}

#[test]
fn the_archive_is_an_image_of_the_root_that_is_tested() -> Result<()> {
    let tested = container::root()?;
    let built = tested.parent().context("a root without a parent")?;
    let output = scratch::folder("image")?;
    // The installed packages are taken from there, so that nothing is downloaded.
    for name in ["base.tar", "choice"] {
        std::fs::copy(built.join(name), output.join(name))?;
    }
    let place = output.display();
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../scripts/image");
    let binary = notefs_tests::command::binary()?;
    let build = format!(
        "export NOTEFS_BIN='{}'; '{}' --with nginx-light --output '{place}' && mkdir '{place}/layout' && tar -C '{place}/layout' -xf '{place}/notefs.oci.tar'",
        binary.display(),
        script.display()
    );
    println!("{}", process::shell(&output, &build)?);
    let layout = output.join("layout");
    let index: Value = serde_json::from_slice(&std::fs::read(layout.join("index.json"))?)?;
    let manifest: Value = serde_json::from_slice(&blob(&layout, &index["manifests"][0])?)?;
    let config: Value = serde_json::from_slice(&blob(&layout, &manifest["config"])?)?;
    ensure!(
        config["config"]["User"] == format!("{0}:{0}", container::USER),
        "root inside: {config}"
    );
    ensure!(
        config["config"]["Entrypoint"] == serde_json::json!(["notefs"]),
        "{config}"
    );
    let layers = manifest["layers"].as_array().context("no layers")?;
    ensure!(layers.len() == 2 && config["rootfs"]["diff_ids"].as_array().map(Vec::len) == Some(2));
    for (layer, id) in layers
        .iter()
        .zip(config["rootfs"]["diff_ids"].as_array().into_iter().flatten())
    {
        let name = layer["digest"]
            .as_str()
            .unwrap_or_default()
            .trim_start_matches("sha256:");
        blob(&layout, layer)?;
        let unpacked = process::shell(&layout.join("blobs/sha256"), &format!("gzip -dc {name} | sha256sum"))?;
        let unpacked = unpacked.split(' ').next().unwrap_or_default();
        ensure!(
            id.as_str() == Some(&format!("sha256:{unpacked}")),
            "a layer is not what the configuration says"
        );
    }
    let listed = process::shell(
        &output,
        "tar -tvf base.tar ./usr/bin/fusermount3 ./etc/passwd ./etc/ssl/certs/ca-certificates.crt",
    )?;
    ensure!(listed.contains("-rwsr-xr-x"), "fusermount3 has no setuid bit: {listed}");
    Ok(())
}

/// The number of seconds behind a word.
fn seconds_after(text: &str, word: &str) -> Option<u64> {
    let rest = text.split_once(word)?.1.trim_start();
    let digits: String = rest.chars().take_while(char::is_ascii_digit).collect();
    digits.parse().ok()
}

#[test]
fn the_examples_give_a_pod_the_time_that_it_needs() -> Result<()> {
    /// What a mount takes at most after SIGTERM, and what the daemon takes to be gone.
    const MOUNT_SECONDS: u64 = 60;
    const EXIT_SECONDS: u64 = 10;
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../scripts/deploy/kubernetes.yaml");
    let pods = std::fs::read_to_string(path)?;
    let pods: Vec<&str> = pods.split("\n---\n").collect();
    ensure!(pods.len() == 2, "{} examples", pods.len());
    for pod in pods {
        let given = seconds_after(pod, "terminationGracePeriodSeconds:").context("no grace period")?;
        let args = pod
            .lines()
            .find(|line| line.trim_start().starts_with("args:"))
            .context("no arguments")?;
        let needed = match (seconds_after(args, "--grace,"), seconds_after(args, "--drain,")) {
            (Some(grace), Some(drain)) => grace + drain,
            _ => MOUNT_SECONDS,
        };
        ensure!(
            given >= needed + EXIT_SECONDS,
            "{given} s are given, {needed} s and {EXIT_SECONDS} s needed:\n{pod}"
        );
    }
    Ok(())
}
