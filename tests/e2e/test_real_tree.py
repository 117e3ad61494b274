"""A tree of real files, with every kind of name and size: what arrives is what is there, byte by byte."""

from __future__ import annotations

import hashlib
import os
import random
import re
import shutil
import sysconfig
import unicodedata
from collections import defaultdict
from pathlib import Path

import pytest

STDLIB_FILES = 300
SAME_NAME_FILES = 8
MIB = 1 << 20
# A GiB with FORKSERVER_LONG in the environment.
LARGE_BYTES = 1 << 30 if "FORKSERVER_LONG" in os.environ else 1 << 28

ODD_NAMES = [
    b"two words.txt",
    b" leading and trailing ",
    unicodedata.normalize("NFC", "Übersicht für Zoë.txt").encode(),
    unicodedata.normalize("NFD", "Übersicht für Zoë.txt").encode(),
    "\u65e5\u672c\u8a9e \U0001f4be".encode(),
    b"line\nfeed",
    b"carriage\rreturn",
    b"escape\x1b[31m\x07\x7f",
    b"invalid \xff\xfe\xc3 utf-8",
    b"back\\slash and 'quotes\"",
    b"100%25 %41",
    b"-r",
    b"--json",
    b"offset=5",
    b"FS1 END ok",
    b"n" * 255,
    b"deep/er/and/deeper/file",
]


def sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def copy_stdlib(root: Path) -> None:
    """A bounded number of Python's own modules, of which only few have the same last name (``__init__.py``)."""
    source = Path(sysconfig.get_path("stdlib"))
    same_name: dict[str, int] = defaultdict(int)
    copied = 0
    for directory, below, files in os.walk(source):
        below[:] = sorted(name for name in below if name not in ("site-packages", "dist-packages", "__pycache__"))
        for name in sorted(files):
            path = Path(directory, name)
            if copied == STDLIB_FILES or name.startswith(".") or same_name[name] == SAME_NAME_FILES:
                continue
            if path.stat().st_size > MIB:
                continue
            place = root / "stdlib" / path.relative_to(source)
            place.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(path, place)
            same_name[name] += 1
            copied += 1


@pytest.fixture(scope="module")
def tree(tmp_path_factory) -> Path:
    root: Path = tmp_path_factory.mktemp("tree")
    copy_stdlib(root)
    generator = random.Random(16062021)
    for number, name in enumerate(ODD_NAMES):
        path = os.path.join(os.fsencode(root), b"odd", name)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "wb") as file:
            file.write(generator.randbytes(10_000 + number))
    for size_bytes in (0, 1, 1023, 1024, 1025, 65535, 65536, 65537, MIB - 1, MIB, MIB + 1):
        (root / f"{size_bytes} bytes").write_bytes(generator.randbytes(size_bytes))
    return root


@pytest.fixture(scope="module")
def tree_server(tree, serve_in):
    with serve_in(tree) as start:
        yield start()


def batches(root: Path) -> list[list[bytes]]:
    """Every file beneath the root, as names that can be fetched into one directory: no two with the same last part."""
    found: dict[bytes, list[bytes]] = defaultdict(list)
    for directory, _, files in os.walk(os.fsencode(root)):
        for name in files:
            found[name].append(os.path.relpath(os.path.join(directory, name), os.fsencode(root)))
    return [
        [paths[number] for paths in found.values() if number < len(paths)]
        for number in range(max(map(len, found.values())))
    ]


def test_every_file_of_a_real_tree_arrives_byte_by_byte_over_one_process_a_connection(
    tree_server, tree, fsget, tmp_path
):
    pids = []
    count = 0
    for number, names in enumerate(batches(tree)):
        place = tmp_path / str(number)
        place.mkdir()
        result = fsget(tree_server, "--json", "--", *names, place=place)
        assert (result.status, result.err) == (0, "")
        answers = result.objects
        assert [answer["status"] for answer in answers] == ["ok"] * len(names)
        for name, answer in zip(names, answers, strict=True):
            source, copy = Path(os.fsdecode(tree), os.fsdecode(name)), place / os.fsdecode(os.path.basename(name))
            assert copy.read_bytes() == source.read_bytes(), name
            assert answer["digest"] == f"sha256:{sha256(source)}"
            assert copy.stat().st_mtime_ns == source.stat().st_mtime_ns
        assert len(os.listdir(place)) == len(names)
        assert len({answer["pid"] for answer in answers}) == 1, "one run is one connection is one child"
        pids.append(answers[0]["pid"])
        count += len(names)
    assert count > STDLIB_FILES
    assert len(set(pids)) == len(pids), "a child serves one connection"
    tree_server.quiet()
    tree_server.wait_for(" end ", count)
    logged = [re.findall(r" pid=(\d+) ", line)[0] for line in tree_server.log(" status=200 ")]
    assert sorted(logged) == sorted(str(pid) for pid, names in zip(pids, batches(tree), strict=True) for _ in names)


def test_the_pid_in_a_reply_is_a_living_child_of_the_master_and_stands_in_its_line_of_the_log(tree_server, get):
    transfers = [get(tree_server, b"GET /1024%20bytes") for _ in range(3)]
    pids = [transfer.pid for transfer in transfers]
    assert sorted(pids) == sorted(tree_server.children())
    for transfer in transfers:
        assert transfer.rest()[1] == b"FS1 END ok\n"
        transfer.close()
    for pid in pids:
        assert f" forkserver[{pid}] end pid={pid} " in tree_server.wait_for(f" end pid={pid} ")
    tree_server.quiet()


def test_listing_a_real_tree_names_every_file_with_its_size(tree_server, tree, fsget):
    result = fsget(tree_server, "--json", "--list", "--recursive")
    assert result.status == 0
    listed = {entry["name"]: entry["size"] for entry in result.objects if entry["type"] == "file"}
    there = {}
    for directory, _, files in os.walk(tree):
        for name in files:
            path = os.path.join(directory, name)
            there[f"/{os.path.relpath(path, tree)}"] = os.path.getsize(path)
    assert listed == there


@pytest.mark.timeout(240)  # a slow disk has to take a GiB twice
def test_a_large_file_with_holes_arrives_byte_by_byte(serve, root, fsget, place):
    generator = random.Random(1)
    with (root / "holes").open("wb") as file:
        file.truncate(LARGE_BYTES)
        for offset in (0, 123_456_789, LARGE_BYTES // 2 - 7, LARGE_BYTES - MIB):
            file.seek(offset)
            file.write(generator.randbytes(MIB))
    result = fsget(serve(), "--json", "holes")
    assert (result.status, result.err) == (0, "")
    with (root / "holes").open("rb") as source, (place / "holes").open("rb") as copy:
        while piece := source.read(MIB):
            assert piece == copy.read(MIB)
        assert copy.read() == b""
    assert result.objects[0]["size"] == LARGE_BYTES
    assert result.objects[0]["digest"] == f"sha256:{sha256(place / 'holes')}"
    # Files this large would soon fill the disk: pytest keeps the directories of the last three.
    (root / "holes").unlink()
    (place / "holes").unlink()
