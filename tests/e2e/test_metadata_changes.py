"""A touch, chmod or link on the server while a large file is fetched, and after it: none has the file come twice.

With ``FORKSERVER_LONG`` in the environment the file has a GiB.
"""

from __future__ import annotations

import filecmp
import os
import random
import shutil
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from forkserver.client.local.partial import PIECE_BYTES

if TYPE_CHECKING:
    from collections.abc import Iterator

LONG = "FORKSERVER_LONG" in os.environ
MIB = 1 << 20
SIZE = (1 << 30 if LONG else 32 * MIB) + 1000
HELD_BYTES = SIZE // 8
pytestmark = pytest.mark.timeout(600 if LONG else 120)


def touch(path: Path) -> None:
    path.touch()


def chmod(path: Path) -> None:
    path.chmod(0o600)


def link(path: Path) -> None:
    path.with_name("other").hardlink_to(path)


def rewrite_a_piece(path: Path) -> None:
    with path.open("r+b") as file:
        file.seek(5)
        file.write(b"another content")


METADATA = (touch, chmod, link)


@pytest.fixture(scope="module")
def content() -> bytes:
    return random.Random(2057).randbytes(SIZE)


@pytest.fixture
def path(root, content) -> Iterator[Path]:
    path: Path = root / "f"
    path.write_bytes(content)
    yield path
    path.unlink()


@pytest.fixture
def place(place) -> Iterator[Path]:
    yield place
    shutil.rmtree(place)


def has_pieces(place: Path) -> bool:
    sums = place / ".fsget-f.sums"
    return sums.exists() and b"\n0 " in sums.read_bytes()


@pytest.mark.parametrize("connections", [1, 4])
@pytest.mark.parametrize("change", [*METADATA, rewrite_a_piece])
def test_a_running_fetch_goes_on(  # noqa: PLR0913, PLR0917 - fixtures, and two parameters
    serve, path, begin, relay, place, change, connections
):
    server = serve()
    held = relay(server, HELD_BYTES)
    run = begin(held, "--json", "-j", str(connections), "f")
    server.wait_until(lambda: len(held.heads) == connections and has_pieces(place), "transfers in progress")
    change(path)
    held.release()
    result = run.result()
    assert (result.status, result.err) == (0, "")
    assert filecmp.cmp(place / "f", path, shallow=False)
    # Each connection may have a piece in the middle; the one that was rewritten comes again.
    assert SIZE <= result.objects[0]["received"] <= SIZE + (2 * connections + 1) * PIECE_BYTES
    assert os.listdir(place) == ["f"]


@pytest.mark.parametrize("change", METADATA)
def test_standard_output_goes_on(serve, path, begin, relay, change):
    server = serve()
    held = relay(server, HELD_BYTES)
    run = begin(held, "-q", "--checksum=" + "0" * 64, "-o", "-", "f")
    # Read from the beginning: else how far the transfer comes is a matter of the buffers of pipe and sockets.
    out: list[bytes] = []
    reader = threading.Thread(target=lambda: out.append(run.process.stdout.read()), daemon=True)
    reader.start()
    server.wait_until(lambda: held.heads, "a transfer in progress")
    change(path)
    held.release()
    reader.join()
    assert b"its sha256 is" in run.process.stderr.read(), "all of it came, and was vouched for"
    assert out == [path.read_bytes()]


@pytest.mark.parametrize("change", METADATA)
def test_the_part_of_a_run_that_was_killed_is_gone_on_with(  # noqa: PLR0913, PLR0917 - fixtures, and a parameter
    serve, path, begin, relay, place, change
):
    server = serve()
    held = relay(server, HELD_BYTES)
    run = begin(held, "f")
    server.wait_until(lambda: held.heads and has_pieces(place), "a transfer in progress")
    run.process.kill()
    run.result()
    change(path)
    held.release()
    result = begin(server, "--json", "f").result()
    assert (result.status, result.err) == (0, "")
    assert filecmp.cmp(place / "f", path, shallow=False)
    assert result.objects[0]["kept"] >= HELD_BYTES - 2 * PIECE_BYTES
    assert result.objects[0]["kept"] + result.objects[0]["received"] == SIZE


@pytest.mark.parametrize("how", [("f",), ("-r", "f"), ("-i", "names")])
@pytest.mark.parametrize("change", METADATA)
def test_what_is_here_is_compared_and_not_fetched(  # noqa: PLR0913, PLR0917 - fixtures, and two parameters
    serve, path, fsget, place, tmp_path, change, how
):
    (tmp_path / "names").write_text("f\nhello.txt\n")
    how = [str(tmp_path / word) if word == "names" else word for word in how]
    server = serve()
    assert fsget(server, *how).status == 0
    change(path)
    for _ in range(2):
        result = fsget(server, "--json", *how)
        assert (result.status, result.err) == (0, "")
        told = next(each for each in result.objects if "f" in str(each["name"]).split("/"))
        assert (told["status"], told["received"]) == ("unchanged", 0)
        assert (place / "f").stat().st_mtime_ns == path.stat().st_mtime_ns
    server.quiet()
    assert len(server.log(" request=GET path=/f ")) <= -(-SIZE // PIECE_BYTES)
    assert len(server.log(" request=STAT path=/f ")) <= 10, "a connection's parts are one line"
