"""What programs ask of a folder behind a kernel's NFS client, beyond plain reads and writes. Each check works in a
folder of its own below the current one. Prints a line for each; exits with 1 when one failed."""
import errno
import fcntl
import mmap
import os
import random
import shutil
import sys
import tempfile
import traceback

CHECKS = []


def check(function):
    CHECKS.append(function)
    return function


def forget():
    """Makes the client ask the server again."""
    os.sync()
    with open("/proc/sys/vm/drop_caches", "w") as file:
        file.write("3\n")


def same(got, wanted):
    assert got == wanted, f"got {got!r}, not {wanted!r}"


def put(name, data=b""):
    with open(name, "wb") as file:
        file.write(data)


def get(name):
    with open(name, "rb") as file:
        return file.read()


def fails_with(number, call, *arguments):
    try:
        call(*arguments)
    except OSError as error:
        same(errno.errorcode[error.errno], errno.errorcode[number])
        return
    raise AssertionError("it went through")


@check
def an_open_file_outlives_its_name():
    put("f", b"x" * 20_000)
    with open("f", "r+b") as file:
        os.unlink("f")
        same(file.read(), b"x" * 20_000)
        file.write(b"more")
        file.flush()
    same(os.listdir("."), [])


@check
def an_open_file_is_written_under_its_new_name():
    with open("old", "w+b") as file:
        file.write(b"x" * 9000)
        file.flush()
        os.rename("old", "new")
        file.write(b"y" * 9)
    same(get("new"), b"x" * 9000 + b"y" * 9)


@check
def an_open_file_is_written_in_a_renamed_folder():
    os.mkdir("old")
    with open("old/f", "wb") as file:
        file.write(b"1")
        file.flush()
        os.rename("old", "new")
        file.write(b"2")
    same(get("new/f"), b"12")


@check
def one_of_two_exclusive_creators_wins():
    flags = os.O_CREAT | os.O_EXCL | os.O_WRONLY
    os.close(os.open("f", flags, 0o640))
    same(os.stat("f").st_mode & 0o777, 0o640)
    fails_with(errno.EEXIST, os.open, "f", flags)


@check
def mappings_are_written():
    with open("f", "w+b") as file:
        file.truncate(1 << 20)
        with mmap.mmap(file.fileno(), 1 << 20) as area:
            area[70_000:70_005] = b"hello"
            area.flush()
    forget()
    same(get("f")[69_999:70_006], b"\0hello\0")


@check
def a_long_listing_is_whole():
    wanted = [f"{number:05}" for number in range(2000)]
    for name in wanted:
        os.close(os.open(name, os.O_CREAT | os.O_WRONLY))
    forget()
    same(sorted(os.listdir(".")), wanted)


@check
def names_are_deleted_while_they_are_listed():
    for number in range(500):
        put(f"{number}")
    with os.scandir(".") as entries:
        for entry in entries:
            os.unlink(entry.path)
    same(os.listdir("."), [])


@check
def writes_anywhere_arrive():
    seed = int.from_bytes(os.urandom(4), "big")
    print("        seed", seed)
    chance = random.Random(seed)
    model = bytearray(3 << 20)
    with open("f", "w+b") as file:
        file.truncate(len(model))
        for _ in range(300):
            at = chance.randrange(len(model) - 6000)
            data = chance.randbytes(chance.randrange(1, 6000))
            model[at:at + len(data)] = data
            os.pwrite(file.fileno(), data, at)
        os.fsync(file.fileno())
    forget()
    assert get("f") == model, "other bytes"


@check
def appends_add_up():
    for number in range(30):
        with open("log", "ab") as file:
            file.write(b"%d\n" % number)
    forget()
    same(get("log"), b"".join(b"%d\n" % number for number in range(30)))


@check
def symlinks_point():
    put("target", b"there")
    os.symlink("target", "link")
    forget()
    same((os.readlink("link"), get("link")), ("target", b"there"))


@check
def hard_links_are_one_file():
    put("a", b"1")
    os.link("a", "b")
    put("b", b"22")
    forget()
    same((get("a"), os.stat("a").st_nlink, os.stat("a").st_ino), (b"22", 2, os.stat("b").st_ino))
    os.unlink("a")
    same(os.stat("b").st_nlink, 1)


@check
def modes_owners_and_times_are_kept():
    put("f")
    os.chmod("f", 0o4751)
    os.chown("f", 12, 34)
    os.chmod("f", 0o640)
    os.utime("f", ns=(1_500_000_000_123_456_789, 1_400_000_000_987_654_321))
    forget()
    stat = os.stat("f")
    same((stat.st_mode & 0o7777, stat.st_uid, stat.st_gid), (0o640, 12, 34))
    same((stat.st_atime_ns, stat.st_mtime_ns), (1_500_000_000_123_456_789, 1_400_000_000_987_654_321))


@check
def names_are_bytes():
    wanted = sorted([b"a b", "ümläut".encode(), "日本語".encode(), b"'\"", b"back\\slash", b"x" * 255, b"new\nline", b"\xff\xfe"])
    for name in wanted:
        put(name)
    forget()
    same(sorted(os.listdir(b".")), wanted)
    fails_with(errno.ENAMETOOLONG, put, b"x" * 256)


@check
def renames_replace():
    os.mkdir("d")
    put("a", b"a")
    put("b", b"b")
    os.rename("a", "b")
    os.rename("b", "d/c")
    same((os.listdir("."), get("d/c")), (["d"], b"a"))


@check
def full_folders_stay():
    os.mkdir("d")
    put("d/f")
    fails_with(errno.ENOTEMPTY, os.rmdir, "d")
    fails_with(errno.ENOTDIR, os.rmdir, "d/f")
    fails_with(errno.EISDIR, os.unlink, "d")


@check
def files_are_cut_and_stretched():
    put("f", b"x" * 100)
    os.truncate("f", 10)
    os.truncate("f", 50)
    forget()
    same(get("f"), b"x" * 10 + b"\0" * 40)


@check
def locks_are_had():
    with open("f", "w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        fcntl.lockf(file, fcntl.LOCK_EX)


@check
def space_and_special_files_are_told():
    space = os.statvfs(".")
    assert space.f_blocks >= space.f_bfree > 0 and space.f_files > 0, space
    os.mkfifo("pipe")
    os.mknod("null", 0o20644, os.makedev(1, 3))
    forget()
    same(os.stat("null").st_rdev, os.makedev(1, 3))


failed = 0
top = os.getcwd()
for function in CHECKS:
    folder = tempfile.mkdtemp(prefix="check.", dir=top)
    os.chdir(folder)
    try:
        function()
        print("ok     ", function.__name__)
    except Exception as error:
        failed += 1
        print("FAILED ", function.__name__, "-", error, "- at:", traceback.extract_tb(error.__traceback__)[1].line)
    os.chdir(top)
    shutil.rmtree(folder, ignore_errors=True)
print(f"{len(CHECKS) - failed} passed, {failed} failed")
sys.exit(bool(failed))
