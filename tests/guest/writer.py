"""Writes on while the server is killed and restarted: small files one after the other, each flushed and then told in the
file ACKS, and one big file that is flushed only at its end. Afterwards reads it all again.

    writer.py ACKS COUNT"""
import os
import random
import sys

acks, count = sys.argv[1], int(sys.argv[2])
chance = random.Random(7)
blocks = [chance.randbytes(64 << 10) for _ in range(8)]


def small(number):
    return f"note {number}\n".encode() * (number % 50 + 1)


with open("big", "wb", buffering=0) as big, open(acks, "a") as told:
    for number in range(count):
        big.write(blocks[number % 8])
        with open(f"{number:04}.tmp", "wb") as file:
            file.write(small(number))
            file.flush()
            os.fsync(file.fileno())
        os.rename(f"{number:04}.tmp", f"{number:04}.md")
        told.write(f"{number}\n")
        told.flush()
    os.fsync(big.fileno())
with open("/proc/sys/vm/drop_caches", "w") as file:
    file.write("3\n")
for number in range(count):
    with open(f"{number:04}.md", "rb") as file:
        assert file.read() == small(number), f"file {number} holds something else"
with open("big", "rb") as file:
    for number in range(count):
        assert file.read(64 << 10) == blocks[number % 8], f"block {number} of the big file is something else"
names = sorted(os.listdir("."))
assert names == sorted(["big"] + [f"{number:04}.md" for number in range(count)]), names
print("everything is there")
