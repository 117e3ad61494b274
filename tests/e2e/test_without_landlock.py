"""The served directory is left by no name and no link, even where the kernel has no Landlock to forbid it."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import WITHOUT_LANDLOCK, read_all, swapping

REPOSITORY = Path(__file__).parents[2]
SECRET = b"SECRET"


@pytest.fixture(scope="module")
def tree(tmp_path_factory) -> Path:
    """A directory to serve; beside it lie a secret file, and a directory with one."""
    place = tmp_path_factory.mktemp("place")
    (place / "secret").write_bytes(SECRET)
    (place / "outside").mkdir()
    (place / "outside" / "file").write_bytes(SECRET)
    (place / "root2").mkdir()
    (place / "root2" / "file").write_bytes(SECRET)
    root = place / "root"
    (root / "sub").mkdir(parents=True)
    (root / "sub" / "file").write_bytes(b"public")
    (root / ".hidden").write_bytes(SECRET)
    for name, target in (
        ("inside", "sub/file"),
        ("out", "../secret"),
        ("absolute", str(place / "secret")),
        ("out-dir", "../outside"),
        ("sub/up", "../../outside"),
        ("hop", "sub/up"),
        ("parent", ".."),
        ("sibling", "../root2"),
        ("through", "sub/../../secret"),
        ("slash", "/"),
        ("proc", "/proc/self/root"),
        ("cwd", "/proc/self/cwd"),
    ):
        (root / name).symlink_to(target)
    return root


@pytest.fixture(scope="module")
def server(tree, serve_in):
    with serve_in(tree) as start:
        yield start("--bare", program=WITHOUT_LANDLOCK)


def test_the_master_finds_no_landlock_and_serves(server):
    assert " landlock_abi=0" in server.log(" confined ")[0]
    assert server.ask(b"GET /inside\n").split(b"\n")[1] == b"publicFS1 END ok"


def test_the_master_without_landlock_could_read_the_secret_itself(tree):
    program = (
        "import os, sys\n"
        "from tests.without_landlock import forget_landlock\n"
        "forget_landlock()\n"
        "from forkserver.master import confine\n"
        "assert confine.lock_in(confine.open_root(sys.argv[1])) == 0\n"
        "print(open(sys.argv[1] + '/../secret').read())\n"
    )
    command = [sys.executable, "-c", program, str(tree)]
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    assert subprocess.run(command, env=environment, capture_output=True, check=True).stdout.strip() == SECRET


@pytest.mark.parametrize("verb", ["GET", "STAT", "LIST"])
@pytest.mark.parametrize(
    ("name", "status"),
    [
        ("/../secret", 403),
        ("/sub/../../secret", 403),
        ("/%2e%2e/secret", 403),
        ("/..%2fsecret", 403),
        ("/%2e%2e%2Fsecret", 403),
        ("//etc/passwd", 403),
        ("/./../secret", 403),
        ("/sub/%00/../../../secret", 403),
        ("/..", 403),
        ("/out", 403),
        ("/through", 403),
        ("/absolute", 403),
        ("/out-dir", 403),
        ("/out-dir/file", 403),
        ("/sub/up/file", 403),
        ("/hop/file", 403),
        ("/parent/secret", 403),
        ("/parent/root/sub/file", 403),
        ("/sibling/file", 403),
        ("/slash/etc/passwd", 403),
        ("/proc/etc/passwd", 403),
        ("/cwd", 403),
        ("/.hidden", 404),
    ],
)
def test_no_name_and_no_link_leads_out(server, verb, name, status):
    answer = server.ask(f"{verb} {name}\n".encode())
    assert answer.startswith(b"FS1 %d " % status)
    assert SECRET not in answer
    assert b"root:" not in answer


@pytest.mark.parametrize("name", ["../secret", "sub/../../secret", "/etc/passwd", "out", "absolute", "hop/file"])
def test_no_name_of_the_bare_dialect_leads_out(server, name):
    assert re.fullmatch(rb"\d+file-doesn't-exist", server.ask(name.encode()))


@pytest.mark.parametrize("fields", [b"", b" content=16384"])
def test_a_listing_has_nothing_of_what_lies_outside(server, fields):
    answer = server.ask(b"LIST / recursive=1" + fields + b"\n")
    assert answer.endswith(b"FS1 END ok entries=3\n"), "a file, a link to it, and its directory"
    assert SECRET not in answer


def test_no_race_with_a_link_leads_out(tree, tmp_path, serve_in):
    root = tmp_path / "racing"
    (root / "real").mkdir(parents=True)
    (root / "real" / "file").write_bytes(b"public")
    (root / "link").symlink_to(tree.parent / "outside")
    seen: set[bytes] = set()
    with serve_in(root) as start, swapping(root):
        server = start(program=WITHOUT_LANDLOCK)
        # Go on until each outcome was met: only then was the race really run. The test's time limit ends it otherwise.
        while not seen >= {b"200", b"403", b"404"}:
            with server.connect() as connection:
                connection.sendall(b"GET /swap/file\n" * 200)
                connection.shutdown(socket.SHUT_WR)
                answer = read_all(connection)
            assert SECRET not in answer
            seen.update(re.findall(rb"FS1 (\d+) ", answer))
