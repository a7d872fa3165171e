//! Programs that ask much of a file system, several processes at a time, on a real mount, and the same again cold.

use anyhow::{Result, ensure};
use notefs_tests::process::shell;
use notefs_tests::{Mount, MountOptions, PATIENCE, Store, wait_until};

/// Before each script: git without anybody's configuration.
const GIT: &str = "export HOME=$PWD/../git-home; mkdir -p \"$HOME\"; git config --global user.name T; \
                   git config --global user.email t@example.org; git config --global init.defaultBranch main; \
                   git config --global --replace-all safe.directory '*'; ";

#[test]
fn git_clones_collects_checks_and_has_worktrees() -> Result<()> {
    let mut mount = Mount::start(&Store::ministack()?)?;
    let script = "
        git init -q origin; cd origin
        for i in $(seq 40); do mkdir -p d$((i % 5)); seq $((i * 20)) > d$((i % 5))/f$i; git add -A; git commit -qm c$i; done
        git tag v1; git branch side HEAD~20; cd ..
        git clone -q origin clone; git clone -q --bare origin bare.git
        cd clone; git worktree add -q ../tree origin/side; cd ../tree
        git checkout -q -b work; echo more >> d1/f1; git commit -qam work; git rebase -q origin/main
        cd ../clone; git merge -q work; git push -q origin HEAD:refs/heads/pushed
        git gc -q --prune=now; git repack -adq; git fsck --strict
        cd ../origin; git gc -q --aggressive; git fsck --strict; git reset -q --hard pushed
        git stash list; git switch -q side; git switch -q main; cd ../bare.git; git gc -q; git fsck --strict";
    shell(mount.dir(), &format!("{GIT}{script}"))?;
    let look = "
        for r in origin clone tree bare.git; do git -C $r fsck --strict 2>&1; git -C $r log --all --format='%H %s' | sort; done
        for r in origin clone tree; do git -C $r status --porcelain; done; git -C clone worktree list | wc -l";
    let before = shell(mount.dir(), &format!("{GIT}{look}"))?;
    mount.start_cold()?;
    let after = shell(mount.dir(), &format!("{GIT}{look}"))?;
    ensure!(before == after, "git saw\n{before}\nand cold\n{after}");
    Ok(())
}

fn sqlite_with_four_processes(journal: &str) -> Result<()> {
    let mut mount = Mount::start(&Store::ministack()?)?;
    let script = format!(
        "
        sqlite3 notes.db 'pragma journal_mode={journal}; create table t(writer, number, body); create index i on t(number)' >/dev/null
        one() {{
          for n in $(seq 40); do
            printf \"begin immediate; insert into t values($1,$n,hex(randomblob(300)));\\n\"
            printf \"update t set body=hex(randomblob(200)) where writer=$1 and number=$n-1; commit;\\n\"
          done | sqlite3 -bail -cmd '.timeout 120000' notes.db
        }}
        pids=; for w in 1 2 3 4; do one $w & pids=\"$pids $!\"; done
        for i in $(seq 20); do sqlite3 -cmd '.timeout 120000' notes.db 'select count(*) from t' >/dev/null; done
        for p in $pids; do wait $p; done"
    );
    shell(mount.dir(), &script)?;
    let look = "sqlite3 -cmd '.timeout 120000' notes.db 'select count(*), count(distinct writer||number) from t; pragma integrity_check'";
    let warm = shell(mount.dir(), look)?;
    ensure!(warm == "160|160\nok\n", "{journal}: {warm}");
    mount.kill9();
    mount.remount()?;
    let killed = shell(mount.dir(), look)?;
    ensure!(killed == warm, "{journal}, after a kill: {killed}");
    mount.start_cold()?;
    let cold = shell(mount.dir(), look)?;
    ensure!(cold == warm, "{journal}, cold: {cold}");
    Ok(())
}

#[test]
fn sqlite_serves_four_processes_in_wal_mode() -> Result<()> {
    sqlite_with_four_processes("wal")
}

#[test]
fn sqlite_serves_four_processes_in_delete_mode() -> Result<()> {
    sqlite_with_four_processes("delete")
}

#[test]
fn processes_share_mappings_and_appends() -> Result<()> {
    let mut mount = Mount::start(&Store::ministack()?)?;
    let script = r#"
cat > ../writer.py <<'PY'
import mmap, os, sys
number = int(sys.argv[1])
log = os.open("log.md", os.O_WRONLY | os.O_APPEND | os.O_CREAT)
with open("mapped.bin", "r+b") as file, mmap.mmap(file.fileno(), 8 * 4096) as shared:
    for line in range(200):
        os.write(log, b"writer %d line %04d\n" % (number, line))
        # Writers touch every page, each its own bytes.
        shared[(line % 8) * 4096 + number * 64 + line // 8] = number + 1
    shared.flush()
PY
head -c 32768 /dev/zero > mapped.bin
pids=; for w in 0 1 2 3 4 5 6 7; do python3 ../writer.py $w & pids="$pids $!"; done
for p in $pids; do wait $p; done
"#;
    shell(mount.dir(), script)?;
    let check = |mount: &Mount, when: &str| -> Result<()> {
        let text = std::fs::read_to_string(mount.path("log.md"))?;
        let lines: std::collections::BTreeSet<&str> = text.lines().collect();
        ensure!(
            lines.len() == 1_600 && text.lines().count() == 1_600,
            "{when}: {} lines, {} different",
            text.lines().count(),
            lines.len()
        );
        let bytes = std::fs::read(mount.path("mapped.bin"))?;
        for writer in 0..8 {
            let own = (0..8 * 25).filter(|at| bytes[(at % 8) * 4096 + writer * 64 + at / 8] == writer as u8 + 1);
            ensure!(own.count() == 200, "{when}: bytes of writer {writer} are missing");
        }
        Ok(())
    };
    check(&mount, "warm")?;
    mount.start_cold()?;
    check(&mount, "cold")
}

#[test]
fn locks_hold_between_processes() -> Result<()> {
    let mount = Mount::start(&Store::folder()?)?;
    let script = r#"
cat > ../count.py <<'PY'
import fcntl, sys
lock = {"flock": fcntl.flock, "lockf": fcntl.lockf}[sys.argv[1]]
for _ in range(100):
    with open("counter", "r+") as file:
        lock(file, fcntl.LOCK_EX)
        count = int(file.read() or 0)
        file.seek(0)
        file.write(str(count + 1))
        file.flush()
        lock(file, fcntl.LOCK_UN)
PY
for how in flock lockf; do
  printf 0 > counter
  pids=; for w in 1 2 3 4; do python3 ../count.py $how & pids="$pids $!"; done
  for p in $pids; do wait $p; done
  printf '%s %s\n' $how "$(cat counter)"
done
flock counter -c 'flock -n counter true && echo taken twice || echo refused'
"#;
    let told = shell(mount.dir(), script)?;
    ensure!(told == "flock 400\nlockf 400\nrefused\n", "{told}");
    Ok(())
}

#[test]
fn make_tar_unzip_and_ripgrep_work() -> Result<()> {
    let mut mount = Mount::start(&Store::ministack()?)?;
    let build = r#"
mkdir project; cd project
for i in $(seq 12); do printf 'int f%d(void) { return %d; }\n' $i $i > f$i.c; done
{ printf '#include <stdio.h>\n'; for i in $(seq 12); do printf 'int f%d(void);\n' $i; done
  printf 'int main(void) { printf("%%d\\n", 0'; for i in $(seq 12); do printf ' + f%d()' $i; done; printf '); return 0; }\n'; } > main.c
printf 'O = $(patsubst %%.c,%%.o,$(wildcard *.c))\nsum: $(O)\n\tcc -o $@ $^\n%%.o: %%.c\n\tcc -c -o $@ $<\n' > Makefile
make -s -j4; test "$(./sum)" = 78
make -q || { echo make would build again; exit 1; }
touch f3.c; make -s; make -q
"#;
    shell(mount.dir(), build)?;
    let pack = r#"
tar --create --gzip --file project.tgz project; mkdir from-tar; tar -C from-tar -xf project.tgz
tar --compare --file project.tgz
python3 -m zipfile -c project.zip project; mkdir from-zip; unzip -q project.zip -d from-zip
diff -r project from-tar/project; diff -r project from-zip/project
for i in $(seq 300); do mkdir -p notes/$((i % 7)); printf 'line one\nneedle number %d here\n' $i > notes/$((i % 7))/$i.md; done
"#;
    shell(mount.dir(), pack)?;
    let look = r#"rg --no-ignore -c 'needle number [0-9]+ here' notes | wc -l; rg --no-ignore -l 'f7\(void\)' --glob '*.c' . | sort
make -q -C project && project/sum; tar --compare --file project.tgz && echo same"#;
    let before = shell(mount.dir(), look)?;
    ensure!(
        before.starts_with("300\n") && before.ends_with("78\nsame\n"),
        "{before}"
    );
    mount.start_cold()?;
    let after = shell(mount.dir(), look)?;
    ensure!(before == after, "programs saw\n{before}\nand cold\n{after}");
    Ok(())
}

/// `stat` asks for the mode alone, as the kernel does before it runs a program: neither is content with what it knew before.
#[test]
fn a_write_without_privileges_takes_setuid_away_at_once() -> Result<()> {
    let mount = Mount::start_with(&Store::folder()?, MountOptions::args(&["--allow-other"]))?;
    for (before, after, how) in [
        ("4755", "755", ""),
        ("6755", "755", "oflag=direct"),
        ("6744", "2744", ""),
    ] {
        let setup = format!("echo tool >tool && chown 65534:65534 tool && chmod {before} tool && stat -c %a tool");
        shell(mount.dir(), &setup)?;
        let nobody = "setpriv --reuid 65534 --regid 65534 --clear-groups";
        let write = format!("{nobody} dd if=/dev/zero of=tool bs=4k count=1 conv=notrunc status=none {how}");
        shell(mount.dir(), &write)?;
        wait_until("a mode without setuid", PATIENCE, || {
            let mode = shell(mount.dir(), "stat -c %a tool").map_err(|error| format!("{error:#}"))?;
            if mode.trim() == after {
                Ok(())
            } else {
                Err(format!("{before}: {mode}"))
            }
        })?;
    }
    Ok(())
}
