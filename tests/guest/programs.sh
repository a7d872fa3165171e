#!/bin/bash
# git, vim, rsync and SQLite on the current folder, which a kernel's NFS client has mounted.
set -euo pipefail

echo "git: init, add, commit, repack, clone, fsck"
git init -q repo
git -C repo config user.name N
git -C repo config user.email n@example.invalid
for number in 1 2 3 4 5; do echo "$number" >"repo/file$number"; done
git -C repo add .
git -C repo commit -q -m first
git -C repo repack -q -a -d
[ -z "$(git -C repo status --porcelain)" ]
git clone -q repo copy
git -C copy fsck --strict --no-progress
[ "$(git -C copy log --oneline | wc -l)" = 1 ]

echo "vim: edits a file"
printf 'alpha\nbeta\n' >edited
vim -es -u NONE -c '%s/beta/gamma/' -c wq edited </dev/null
[ "$(cat edited)" = $'alpha\ngamma' ]

echo "rsync: there, and back again, with nothing left to copy"
mkdir /run/source
for number in $(seq 30); do head -c $((number * 997)) /dev/urandom >"/run/source/file $number"; done
ln -s "file 1" /run/source/link
ln "/run/source/file 2" /run/source/hard
chmod 600 "/run/source/file 3"
rsync -aH /run/source/ synced/
[ -z "$(rsync -aHic /run/source/ synced/)" ]
rsync -aH synced/ /run/back/
diff -r /run/source /run/back

echo "SQLite: rollback journal, and an integrity check"
sqlite3 notes.db 'pragma journal_mode=delete; create table note(id integer primary key, text);' >/dev/null
for number in 1 2 3; do
  sqlite3 notes.db "begin; insert into note(text) select hex(randomblob(200)) from
    (with recursive n(i) as (select 1 union all select i + 1 from n where i < 200) select i from n); commit;"
done
echo 3 >/proc/sys/vm/drop_caches
[ "$(sqlite3 notes.db 'select count(*) from note; pragma integrity_check;')" = $'600\nok' ]

echo "all programs are content"
