#!/bin/bash
# Mounts with notefs itself and the kernel's NFS client, all inside the guest.
#   mount.sh NOTEFS
set -euo pipefail
notefs=$1
export XDG_RUNTIME_DIR=/run/notefs-run
mkdir -m 700 $XDG_RUNTIME_DIR /run/store /run/notes
"$notefs" mount --protocol nfs --write-back 1h --cache /run/cache fs:///run/store /run/notes
grep -q ' /run/notes nfs .*nolock' /proc/mounts || { cat /proc/mounts; exit 1; }
grep ' /run/notes ' /proc/mounts
echo "a word: quicksilver" >/run/notes/note.md
[ "$(cat /run/notes/note.md)" = "a word: quicksilver" ]
"$notefs" search /run/notes quicksilver | grep note.md
"$notefs" status /run/notes | head -n 3

echo "the daemon is killed, and another one takes the mount over"
exec 3>>/run/notes/open.md
echo one >&3
daemon=$("$notefs" status /run/notes --json | python3 -c 'import json, sys; print(json.load(sys.stdin)["pid"])')
kill -9 "$daemon"
echo two >&3 & # waits for the server
"$notefs" mount --protocol nfs --write-back 1h --cache /run/cache fs:///run/store /run/notes
wait
echo three >&3
exec 3>&-
[ "$(cat /run/notes/open.md)" = $'one\ntwo\nthree' ]
[ "$(grep -c ' /run/notes ' /proc/mounts)" = 1 ]
umount /run/notes
heard=no
for _ in $(seq 300); do
  "$notefs" status | grep -q /run/notes || { heard=yes; break; }
  sleep 0.1
done
[ $heard = yes ] || { echo "the daemon did not end" >&2; exit 1; }
echo "the daemon has heard of the umount"

mkdir /run/folder /run/bucket
set +e
"$notefs" run --protocol nfs --write-back 1h --cache /run/cache2 fs:///run/bucket /run/folder -- \
  sh -c 'grep " $NOTEFS_DIR nfs " /proc/mounts && echo "by a command" >"$NOTEFS_DIR/made.md" && exit 7'
code=$?
set -e
[ $code = 7 ] || { echo "notefs run exited with $code" >&2; exit 1; }
[ "$(cat /run/bucket/made.md)" = "by a command" ]
! grep -q " /run/folder " /proc/mounts
echo "a command has run on a mount of its own"
