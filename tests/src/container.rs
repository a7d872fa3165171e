//! Containers as a cluster runs them: the root filesystem that `scripts/image` builds under an OCI runtime (crun), nobody root inside,
//! the root read-only, one volume, and a folder in memory to mount on. The network is the host's, so that loopback servers can be reached.
//!
//! Owns how a container is set up, found, asked and ended. Does not own what runs in it (`web`).

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use crate::process::{self, Finished, Guarded, wait_until};
use crate::{PATIENCE, command, scratch, sys};

/// The user inside, as `scripts/image` makes it.
pub const USER: u32 = 10_001;

/// Where the notes are mounted; not in the root itself, which is read-only.
pub const VAULT: &str = "/vault/notes";

/// The capability that `fusermount3`, which is root by its setuid bit, needs to mount.
const MOUNTER: &str = "CAP_SYS_ADMIN";

/// Runs the runtime where it finds one kind of control groups only: it refuses machines that mount both.
const RUNTIME: &str = "umount -l /sys/fs/cgroup/unified 2>/dev/null
exec crun --root \"$0/state\" --cgroup-manager=disabled run --bundle \"$0\" tenant";

/// A container that is to be made.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The command and its arguments.
    pub args: Vec<String>,
    /// Its environment, beside what the image sets.
    pub env: Vec<(String, String)>,
    /// A folder of the host that outlives the container: `/var/lib/notefs`.
    pub volume: PathBuf,
    /// A folder of the host with files for the service: `/srv/config`, read-only.
    pub files: PathBuf,
    /// Whether it gets `/dev/fuse`.
    pub fuse: bool,
    /// Whether its `fusermount3` may mount.
    pub may_mount: bool,
    /// Whether programs may gain privileges by their setuid bit.
    pub new_privileges: bool,
    /// Whether its users are users of a namespace of its own.
    pub user_namespace: bool,
}

impl Plan {
    /// A container that may mount, with a new volume.
    pub fn new(args: &[&str]) -> Result<Plan> {
        Ok(Plan {
            args: args.iter().map(|&word| word.to_owned()).collect(),
            env: vec![],
            volume: volume()?,
            files: scratch::folder("files")?,
            fuse: true,
            may_mount: true,
            new_privileges: true,
            user_namespace: false,
        })
    }
}

/// A new volume as a cluster makes it: root's, and open to everybody in the container.
pub fn volume() -> Result<PathBuf> {
    let folder = scratch::folder("volume")?;
    std::fs::set_permissions(&folder, PermissionsExt::from_mode(0o777))?;
    Ok(folder)
}

/// The root filesystem for tests; `scripts/test` has it built.
pub fn root() -> Result<PathBuf> {
    let named = std::env::var_os("NOTEFS_IMAGE_ROOT").map(PathBuf::from);
    let target = command::binary()?.ancestors().nth(2).map(Path::to_owned);
    let root = named.or(target.map(|target| target.join("image/test/root")));
    root.filter(|root| root.join("usr/bin/fusermount3").is_file())
        .context("no root filesystem to run containers on: run 'scripts/image --root-only --with nginx-light --output target/image/test'")
}

/// A container that runs, and dies with the test.
#[derive(Debug)]
pub struct Container {
    runtime: Guarded,
    bundle: PathBuf,
    init: u32,
}

impl Container {
    /// Starts it; its first process runs when this returns.
    pub fn start(plan: &Plan) -> Result<Container> {
        let (bundle, mut runtime) = launch(plan)?;
        let init = wait_until("first process of the container", PATIENCE, || {
            if let Some(status) = runtime.poll() {
                return Ok(Err(format!("it ended with {status}: {}", output(&bundle))));
            }
            init_of(&bundle).map(Ok).ok_or_else(|| output(&bundle))
        })?;
        let init = init.map_err(anyhow::Error::msg)?;
        Ok(Container { runtime, bundle, init })
    }

    /// Sends a signal to its first process, as a cluster does.
    pub fn signal(&self, signal: i32) {
        // SAFETY: it takes numbers only. The process is a child of the runtime, which waits for it and ends with it.
        unsafe { libc::kill(self.init.cast_signed(), signal) };
    }

    /// Waits for its end.
    pub fn wait(&mut self) -> Result<ExitStatus> {
        self.runtime.wait(PATIENCE).with_context(|| self.output())
    }

    /// Ends it as a machine ends that vanishes: nobody inside is asked.
    pub fn kill9(&mut self) -> Result<()> {
        self.signal(libc::SIGKILL);
        self.wait().map(drop)
    }

    /// How it ended, or `None` while it runs.
    pub fn poll(&mut self) -> Option<ExitStatus> {
        self.runtime.poll()
    }

    /// What its processes said.
    pub fn output(&self) -> String {
        output(&self.bundle)
    }

    /// Runs a command inside, as its user.
    pub fn run(&self, args: &[&str]) -> Result<Finished> {
        let mut command = Command::new("nsenter");
        let (target, user) = (self.init.to_string(), USER.to_string());
        command.args([
            "--target", &target, "--mount", "--pid", "--setgid", &user, "--setuid", &user, "--",
        ]);
        command.args(args).env_clear().envs(environment());
        process::run(command, PATIENCE)
    }

    /// Runs a command of notefs inside, which must succeed and print JSON.
    pub fn json(&self, args: &[&str]) -> Result<Value> {
        let words: Vec<&str> = ["notefs"].iter().chain(args).copied().collect();
        let finished = self.run(&words)?.ok()?;
        serde_json::from_str(&finished.stdout).with_context(|| format!("no JSON: {}", finished.stdout))
    }
}

/// Runs a container to its end; its exit code and what it said.
pub fn run(plan: &Plan) -> Result<(i32, String)> {
    let (bundle, mut runtime) = launch(plan)?;
    let status = runtime.wait(PATIENCE).with_context(|| output(&bundle))?;
    Ok((status.code().context("the runtime was killed")?, output(&bundle)))
}

/// A device `fuse` in a folder that everybody may open, as on other machines; here it may be closed to everybody but root.
pub fn open_device(folder: &Path) -> Result<PathBuf> {
    let device = folder.join("fuse");
    sys::make_node(&device, libc::S_IFCHR | 0o666, libc::makedev(10, 229))
        .context("making a device node (are we root?)")?;
    std::fs::set_permissions(&device, PermissionsExt::from_mode(0o666))?;
    Ok(device)
}

/// Runs what is named next with mounts and processes of its own, which end with it.
pub fn apart() -> Command {
    let mut command = Command::new("unshare");
    command.args([
        "--mount",
        "--propagation",
        "private",
        "--pid",
        "--fork",
        "--kill-child",
        "--mount-proc",
    ]);
    command
}

/// The processes of the container are in the process namespace of its runtime, and end with it.
fn launch(plan: &Plan) -> Result<(PathBuf, Guarded)> {
    let bundle = scratch::folder("container")?;
    open_device(&bundle)?;
    std::fs::write(bundle.join("config.json"), config(plan, &root()?, &bundle).to_string())?;
    // Never /dev/null: the runtime gives what it inherits to the container's user.
    std::fs::write(bundle.join("input"), "")?;
    let output = std::fs::File::create(bundle.join("output"))?;
    let mut command = apart();
    command.args(["sh", "-c", RUNTIME]).arg(&bundle);
    command
        .stdin(Stdio::from(std::fs::File::open(bundle.join("input"))?))
        .stdout(output.try_clone()?)
        .stderr(output);
    process::tool("crun")?;
    Ok((bundle, process::spawn(command)?))
}

fn output(bundle: &Path) -> String {
    std::fs::read_to_string(bundle.join("output")).unwrap_or_default()
}

/// The host's number of the container's first process: the one that is number 1 two namespaces further in, and carries our mark.
fn init_of(bundle: &Path) -> Option<u32> {
    let mark = format!("NOTEFS_TEST_CONTAINER={}", bundle.display());
    let processes = std::fs::read_dir("/proc").ok()?.flatten();
    let numbers = processes.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    numbers.into_iter().find(|pid| {
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
        let levels = status
            .lines()
            .find_map(|line| line.strip_prefix("NSpid:"))
            .unwrap_or_default();
        let levels: Vec<&str> = levels.split_whitespace().collect();
        let environment = || std::fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
        levels.len() >= 3
            && levels.last() == Some(&"1")
            && environment()
                .split(|byte| *byte == 0)
                .any(|line| line == mark.as_bytes())
    })
}

/// What the image sets.
fn environment() -> [(&'static str, &'static str); 3] {
    [
        ("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"),
        ("HOME", "/home/notefs"),
        ("NOTEFS_CACHE", "/var/lib/notefs/cache"),
    ]
}

/// The runtime's description of the container.
fn config(plan: &Plan, root: &Path, bundle: &Path) -> Value {
    let given = plan.env.iter().map(|(name, value)| format!("{name}={value}"));
    let set = environment().map(|(name, value)| format!("{name}={value}"));
    let mark = format!("NOTEFS_TEST_CONTAINER={}", bundle.display());
    let env: Vec<String> = set.into_iter().chain(given).chain([mark]).collect();
    let bounding: Vec<&str> = [MOUNTER].into_iter().filter(|_| plan.may_mount).collect();
    let mut namespaces: Vec<Value> = ["pid", "ipc", "uts", "mount"]
        .map(|kind| json!({"type": kind}))
        .to_vec();
    let mut linux = json!({"resources": {"devices": [{"allow": true, "access": "rwm"}]}});
    if plan.user_namespace {
        namespaces.push(json!({"type": "user"}));
        let same = json!([{"containerID": 0, "hostID": 0, "size": 65_536}]);
        linux["uidMappings"] = same.clone();
        linux["gidMappings"] = same;
    }
    linux["namespaces"] = namespaces.into();
    json!({
        "ociVersion": "1.0.2",
        "process": {
            "terminal": false,
            "user": {"uid": USER, "gid": USER},
            "args": plan.args,
            "env": env,
            "cwd": "/",
            "capabilities": {"bounding": bounding, "effective": [], "permitted": [], "inheritable": [], "ambient": []},
            "noNewPrivileges": !plan.new_privileges,
        },
        "root": {"path": root, "readonly": true},
        "hostname": "tenant",
        "mounts": mounts(plan, bundle),
        "linux": linux,
    })
}

fn mounts(plan: &Plan, bundle: &Path) -> Vec<Value> {
    let memory =
        |at: &str, options: &[&str]| json!({"destination": at, "type": "tmpfs", "source": "tmpfs", "options": options});
    let bind = |from: &Path, at: &str, options: &[&str]| {
        let options: Vec<&str> = ["bind"].iter().chain(options).copied().collect();
        json!({"destination": at, "type": "bind", "source": from, "options": options})
    };
    let mut mounts = vec![
        json!({"destination": "/proc", "type": "proc", "source": "proc"}),
        memory("/dev", &["nosuid", "strictatime", "mode=755", "size=65536k"]),
        memory("/tmp", &["nosuid", "nodev", "mode=1777"]),
        memory("/vault", &["nosuid", "nodev", "mode=777"]),
        bind(&plan.volume, "/var/lib/notefs", &["rw"]),
        bind(&plan.files, "/srv", &["ro"]),
    ];
    mounts.extend(
        plan.fuse
            .then(|| bind(&bundle.join("fuse"), "/dev/fuse", &["rw", "dev"])),
    );
    // The very binary under test, whichever the image was built with.
    mounts.extend(
        command::binary()
            .ok()
            .map(|binary| bind(&binary, "/usr/bin/notefs", &["ro"])),
    );
    mounts
}

/// Fails unless this machine can run containers at all.
pub fn check_machine() -> Result<()> {
    ensure!(
        Path::new("/dev/fuse").exists(),
        "/dev/fuse is missing: load the fuse module"
    );
    root().map(drop)
}
