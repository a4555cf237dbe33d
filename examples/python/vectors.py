"""Reads vector files: the format of transport/testdata/vectors and rpc/testdata/vectors."""

import collections
import pathlib

ROOT = pathlib.Path(__file__).resolve().parents[2]


class Vector:
    """One file: names with their values, and blocks of [name, bytes]."""

    def __init__(self, path):
        self.name = path.stem
        self.values, self.blocks = collections.defaultdict(list), []
        for line in path.read_text().splitlines():
            if line.startswith("["):
                self.blocks.append([line[1:-1], b""])
            elif line and not line.startswith("#"):
                if self.blocks:
                    self.blocks[-1][1] += bytes.fromhex(line)
                else:
                    name, _, value = line.partition(": ")
                    self.values[name.removesuffix(":")].append(value)
        for insert in self.values.get("insert", []):
            block, at, count, byte = insert.split()
            data = self.blocks[int(block) - 1][1]
            self.blocks[int(block) - 1][1] = data[:int(at)] + bytes.fromhex(byte) * int(count) + data[int(at):]

    def get(self, name, default=None):
        return self.values[name][0] if name in self.values else default

    def number(self, name, default=None):
        return int(self.get(name, default))

    def bytes(self, name):
        return bytes.fromhex(self.get(name, ""))


def run_all(test, folder, role, run, least):
    """Runs every vector of a role as a subtest; least guards against a folder that is not there."""
    mine = [vector for path in sorted(folder.glob("*.txt")) if (vector := Vector(path)).get("role") == role]
    test.assertGreaterEqual(len(mine), least)
    for vector in mine:
        with test.subTest(vector.name, title=vector.get("title")):
            run(vector)
