//! The suites: how each is built from its sources, run in a folder, and counted.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use notefs_tests::process::{self, tool};
use notefs_tests::scratch;

use super::{ltp, xfstests};

/// Longest time that one suite may take.
pub(crate) const SUITE_DEADLINE: Duration = Duration::from_secs(3_600);

const FSX_OPERATIONS: u64 = 100_000;
const FSSTRESS_PROCESSES: u64 = 4;
const FSSTRESS_OPERATIONS: u64 = 2_000;

/// The same sequence in each run, so that a failure can be had again.
const SEED: &str = "7";

/// Headers and functions that every Linux of today has, and that the sources ask for by name instead of looking.
const PRESENT: &str = "SYS_TYPES_H SYS_STAT_H SYS_STATVFS_H SYS_TIME_H SYS_IOCTL_H SYS_WAIT_H MALLOC_H DIRENT_H STDLIB_H UNISTD_H \
                       ERRNO_H STRING_H STRINGS_H SYS_PARAM_H INTTYPES_H STDINT_H FCNTL_H SYS_MMAN_H SYS_PRCTL_H ERR_H ASSERT_H \
                       SYS_FILE_H MNTENT_H COPY_FILE_RANGE LINUX_FALLOC_H FALLOCATE RENAMEAT2 LINUX_FIEMAP_H XFS_XFS_H FACCESSAT \
                       FCHMODAT FCHOWNAT FSTATAT LINKAT MKDIRAT MKFIFOAT MKNODAT OPENAT POSIX_FALLOCATE READLINKAT RENAMEAT \
                       SYMLINKAT UTIMENSAT STRUCT_STAT_ST_ATIM STRUCT_STAT_ST_CTIM STRUCT_STAT_ST_MTIM SYS_SYSMACROS_H";

/// Where fsx opens its file anew, it has a shell drop the caches of the whole machine, and all that runs there waits. The
/// pages of that file are enough.
const REOPENING: &str = "#include <stdlib.h>\n#include <fcntl.h>\n#include <unistd.h>\n#define system(command) \\\n\
    ({ int own = open(fname, O_RDONLY); int told = posix_fadvise(own, 0, 0, POSIX_FADV_DONTNEED); close(own); told; })\n";

/// How a suite ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Count {
    /// Cases or operations that passed.
    pub(crate) passed: u64,
    /// Of these.
    pub(crate) total: u64,
}

impl Count {
    fn all(total: u64) -> Count {
        Count { passed: total, total }
    }

    pub(crate) fn failed(&self) -> u64 {
        self.total.saturating_sub(self.passed)
    }
}

/// One suite.
pub(crate) struct Suite {
    /// What it is called on the command line and in the file of counts.
    pub(crate) name: &'static str,
    pub(crate) run: Run,
}

/// How a suite is run from the folder of sources.
pub(crate) enum Run {
    /// In an empty folder of the file system under test.
    In(fn(&Path, &Path) -> Result<Count>),
    /// On mounts of notefs that it makes itself.
    Alone(fn(&Path) -> Result<Count>),
}

const fn suite(name: &'static str, run: fn(&Path, &Path) -> Result<Count>) -> Suite {
    Suite {
        name,
        run: Run::In(run),
    }
}

pub(crate) const SUITES: [Suite; 8] = [
    suite("pjdfstest-c", pjdfstest_c),
    suite("fsx-c", |sources, work| fsx_c(sources, work, &[])),
    suite("fsx-c-no-mmap", |sources, work| fsx_c(sources, work, &["-R", "-W"])),
    suite("fsstress", fsstress),
    suite("fsx", |_, work| fsx(work, true)),
    suite("fsx-no-mmap", |_, work| fsx(work, false)),
    suite("ltp", ltp::ltp),
    Suite {
        name: "xfstests",
        run: Run::Alone(xfstests::generic),
    },
];

/// Compiles one C file against headers of its own project.
fn compile(source: &Path, include: &[PathBuf], more: &str) -> Result<PathBuf> {
    let folder = scratch::folder("suite")?;
    let defines = PRESENT
        .split_whitespace()
        .map(|name| format!("#define HAVE_{name} 1\n"));
    let config = defines.collect::<String>() + more;
    std::fs::write(folder.join("config.h"), config)?;
    let program = folder.join(source.file_stem().context("a source without a name")?);
    let mut cc = Command::new("cc");
    cc.args(["-O2", "-w", "-D_GNU_SOURCE", "-D_FILE_OFFSET_BITS=64"]);
    cc.args([
        "-include",
        "getopt.h",
        "-include",
        "time.h",
        "-include",
        "sys/syscall.h",
    ]);
    cc.arg("-I").arg(&folder);
    for folder in include {
        cc.arg("-I").arg(folder);
    }
    cc.arg(source).arg("-o").arg(&program).arg("-lm");
    let hint = "the sources are a checkout of their project, and fsstress needs the Debian package xfslibs-dev";
    process::run(cc, SUITE_DEADLINE)?
        .ok()
        .with_context(|| format!("compiling {}: {hint}", source.display()))?;
    Ok(program)
}

/// `FOLDER/pjdfstest`: a checkout of pjd/pjdfstest. Its scripts look for the program in a folder above them.
fn pjdfstest_c(sources: &Path, work: &Path) -> Result<Count> {
    let suite = sources.join("pjdfstest");
    let program = compile(&suite.join("pjdfstest.c"), &[], "")?;
    let home = program.parent().context("a program without a folder")?;
    let mut copy = Command::new("cp");
    copy.arg("-r").arg(suite.join("tests")).arg(home.join("tests"));
    process::run(copy, SUITE_DEADLINE)?.ok()?;
    let mut prove = Command::new("prove");
    prove.arg("-r").arg(home.join("tests")).current_dir(work);
    let told = process::run(prove, SUITE_DEADLINE)?.stdout;
    let number = |text: &str| {
        text.chars()
            .take_while(char::is_ascii_digit)
            .collect::<String>()
            .parse()
            .ok()
    };
    let after = |word: &str| -> Vec<u64> { told.split(word).skip(1).filter_map(number).collect() };
    let total = after("Tests=")
        .first()
        .copied()
        .with_context(|| format!("no count: {told}"))?;
    let broken = told.lines().filter(|line| line.contains("Parse errors:"));
    ensure!(broken.count() == 0, "scripts of the suite broke: {told}");
    let failed: u64 = after(" Failed: ").iter().sum();
    for line in told
        .lines()
        .filter(|line| line.contains(" Failed: ") && !line.contains("Failed: 0"))
    {
        eprintln!("{}", line.replace(&home.display().to_string(), ""));
    }
    Ok(Count {
        passed: total - failed,
        total,
    })
}

/// `FOLDER/xfstests`: a checkout of kdave/xfstests, of which two programs are taken.
fn program(sources: &Path, name: &str, more: &str) -> Result<PathBuf> {
    let suite = sources.join("xfstests");
    let include = ["src", "include", "lib"].map(|folder| suite.join(folder));
    compile(&suite.join("ltp").join(name), &include, more)
}

fn fsx_c(sources: &Path, work: &Path, options: &[&str]) -> Result<Count> {
    let mut fsx = Command::new(program(sources, "fsx.c", REOPENING)?);
    fsx.args(["-q", "-c", "100", "-S", SEED, "-N", &FSX_OPERATIONS.to_string()]);
    fsx.args(options).arg(work.join("file.bin")).current_dir(work);
    process::run(fsx, SUITE_DEADLINE)?.ok()?;
    Ok(Count::all(FSX_OPERATIONS))
}

fn fsstress(sources: &Path, work: &Path) -> Result<Count> {
    let mut fsstress = Command::new(program(sources, "fsstress.c", "")?);
    fsstress.args(["-s", SEED, "-p", &FSSTRESS_PROCESSES.to_string()]);
    fsstress.args(["-n", &FSSTRESS_OPERATIONS.to_string(), "-d"]).arg(work);
    process::run(fsstress, SUITE_DEADLINE)?.ok()?;
    Ok(Count::all(FSSTRESS_PROCESSES * FSSTRESS_OPERATIONS))
}

/// The crate, for longer than `scripts/test` runs it.
fn fsx(work: &Path, mappings: bool) -> Result<Count> {
    let settings = include_str!("../../../conformance/fsx.toml");
    let kept = settings
        .lines()
        .filter(|line| mappings || !(line.starts_with("map") || line.starts_with("invalidate")));
    let home = scratch::folder("fsx")?;
    std::fs::write(home.join("fsx.toml"), kept.collect::<Vec<_>>().join("\n"))?;
    let mut fsx = Command::new(tool("fsx")?);
    fsx.args(["-q", "-S", SEED, "-N", &FSX_OPERATIONS.to_string(), "-P"])
        .arg(&home);
    fsx.arg("-f").arg(home.join("fsx.toml")).arg(work.join("file.bin"));
    process::run(fsx, SUITE_DEADLINE)?.ok()?;
    Ok(Count::all(FSX_OPERATIONS))
}
