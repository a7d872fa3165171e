"""Times what programs do in the current folder, which a kernel's NFS client has mounted. Prints one line of JSON: of each step
the milliseconds of one operation, or the mebibytes of a second.

    bench.py FILES BIG_MEBIBYTES"""
import json
import os
import sys
import tempfile
import time

FILES, BIG = int(sys.argv[1]), int(sys.argv[2])
TEXT = b"a line of a note, and another one\n" * 120  # about 4 KiB
BLOCK = os.urandom(1 << 20)
figures = {}


def forget():
    """Makes the client ask the server again."""
    os.sync()
    with open("/proc/sys/vm/drop_caches", "w") as file:
        file.write("3\n")


def timed(name, count, work):
    began = time.monotonic()
    work()
    figures[name] = (time.monotonic() - began) * 1000 / count


def each(work):
    for number in range(FILES):
        work(f"note {number:04}.md")


def create(name):
    os.close(os.open(name, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o644))


def save(name):
    with open(name + ".tmp", "wb") as file:
        file.write(TEXT)
        file.flush()
        os.fsync(file.fileno())
    os.rename(name + ".tmp", name)


def read(name):
    with open(name, "rb") as file:
        assert file.read() == TEXT


def walk():
    with os.scandir(".") as entries:
        assert sum(entry.stat().st_size > 0 for entry in entries) == FILES


def write_big():
    with open("big", "wb", buffering=0) as file:
        for _ in range(BIG):
            file.write(BLOCK)
        os.fsync(file.fileno())


def read_big():
    with open("big", "rb", buffering=0) as file:
        while data := file.read(1 << 20):
            assert len(data) == 1 << 20


os.chdir(tempfile.mkdtemp(prefix="bench.", dir="."))
timed("create", FILES, lambda: each(create))
timed("save: write, fsync, rename", FILES, lambda: each(save))
timed("stat", FILES, lambda: each(os.stat))
forget()
timed("list with attributes, a name", FILES, walk)
forget()
timed("open and read 4 KiB, cold", FILES, lambda: each(read))
timed("remove", FILES, lambda: each(os.unlink))
timed("write", BIG, write_big)
forget()
timed("read", BIG, read_big)
os.unlink("big")
for name in "write", "read":
    figures[name + f" {BIG} MiB"] = 1000 / figures.pop(name)
print(json.dumps(figures))
