"""What one run leaves of a file, and what the next believes of it."""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os

import pytest

from forkserver.client.content import Version
from forkserver.client.local.partial import PIECE_BYTES, STEP_BYTES, BeingFetched, Partial, find, names_beside

SIZE = 2 * PIECE_BYTES + 1000
CONTENT = os.urandom(SIZE)
VERSION = Version(SIZE, "etag-1", 17, "host:2057")
PIECES = [(0, PIECE_BYTES), (PIECE_BYTES, PIECE_BYTES), (2 * PIECE_BYTES, 1000)]


@pytest.fixture
def directory(tmp_path):
    fd = os.open(tmp_path, os.O_RDONLY)
    yield fd
    os.close(fd)


def put(kept: Partial, offset: int, length: int) -> None:
    data = CONTENT[offset : offset + length]
    os.pwrite(kept.fd, data, offset)
    kept.note(offset, hashlib.sha256(data).hexdigest(), kept.version)


def begin(directory: int, *pieces: tuple[int, int]) -> None:
    with Partial(directory, b"big", VERSION) as kept:
        for piece in pieces:
            put(kept, *piece)


def test_the_pieces_that_are_missing_come_in_order_and_cover_the_file(directory):
    with Partial(directory, b"big", VERSION) as kept:
        assert list(kept.missing()) == PIECES
        assert not kept.discarded


def test_pieces_that_were_noted_are_there_in_the_next_run(directory):
    begin(directory, PIECES[0], PIECES[2])
    assert find(directory, b"big") == VERSION
    with Partial(directory, b"big", VERSION) as kept:
        assert list(kept.missing()) == [PIECES[1]]
        assert kept.verified_bytes == PIECE_BYTES + 1000


def test_nothing_stays_of_a_part_without_a_piece(directory, tmp_path):
    begin(directory)
    assert os.listdir(tmp_path) == []
    assert find(directory, b"big") is None


@pytest.mark.parametrize(
    "other",
    [
        VERSION._replace(etag="etag-2", size=SIZE + 1),
        VERSION._replace(size=SIZE + 1),
        VERSION._replace(mtime_ns=18),
        VERSION._replace(server="other:2057", size=SIZE + 1),
    ],
)
def test_the_part_of_another_version_is_thrown_away(directory, other):
    begin(directory, PIECES[0])
    with Partial(directory, b"big", other) as kept:
        assert kept.discarded
        assert kept.verified_bytes == 0
        assert os.fstat(kept.fd).st_size == 0


def test_a_piece_that_was_changed_on_the_disk_is_fetched_again(directory, tmp_path):
    begin(directory, *PIECES)
    with open(tmp_path / ".fsget-big.part", "r+b") as file:
        file.seek(PIECE_BYTES + 5)
        file.write(b"damage")
    with Partial(directory, b"big", VERSION) as kept:
        assert list(kept.missing()) == [PIECES[1]]


def test_a_piece_that_never_reached_the_disk_is_fetched_again(directory, tmp_path):
    begin(directory, *PIECES)
    os.truncate(tmp_path / ".fsget-big.part", PIECE_BYTES)
    with Partial(directory, b"big", VERSION) as kept:
        assert list(kept.missing()) == PIECES[1:]


@pytest.mark.parametrize(
    "damage",
    [
        lambda sums: sums[:-20],
        lambda sums: sums + b"2 " + b"0" * 64,
        lambda sums: sums + b"nonsense\n99999 " + b"0" * 64 + b"\n\xff\xfe\n",
    ],
    ids=["torn", "without a line feed", "nonsense"],
)
def test_lines_that_are_torn_or_false_prove_nothing(directory, tmp_path, damage):
    begin(directory, PIECES[0], PIECES[1])
    sums = tmp_path / ".fsget-big.sums"
    sums.write_bytes(damage(sums.read_bytes()))
    with Partial(directory, b"big", VERSION) as kept:
        missing = list(kept.missing())
    assert PIECES[2] in missing
    assert PIECES[0] not in missing


@pytest.mark.parametrize(
    "header", [b"", b"\n", b"fsget 2 piece=1\n", b"\xff" * 3000, b"fsget 1 piece=99 size=1 etag=x"]
)
def test_a_list_with_a_header_we_do_not_know_is_begun_anew(directory, tmp_path, header):
    begin(directory, PIECES[0])
    (tmp_path / ".fsget-big.sums").write_bytes(header)
    assert find(directory, b"big") is None
    with Partial(directory, b"big", VERSION) as kept:
        assert kept.verified_bytes == 0
        put(kept, *PIECES[0])
    assert find(directory, b"big") == VERSION


def begun(directory: int, *lengths: int, of: int = 0) -> None:
    """Write so much of a piece, and end."""
    with Partial(directory, b"big", VERSION) as kept:
        offset, _ = PIECES[of]
        for length in lengths:
            os.pwrite(kept.fd, CONTENT[offset : offset + length], offset)
            kept.written(offset, length)


def test_the_beginning_of_a_piece_is_found_by_the_next_run_and_is_still_missing(directory):
    begun(directory, STEP_BYTES, 3 * STEP_BYTES + 5)
    with Partial(directory, b"big", VERSION) as kept:
        digest = hashlib.sha256(CONTENT[: 3 * STEP_BYTES]).hexdigest()
        assert list(kept.begun()) == [(0, 3 * STEP_BYTES, digest)]
        assert list(kept.missing()) == PIECES
        assert (kept.verified_bytes, kept.kept_bytes) == (0, 3 * STEP_BYTES)
        put(kept, *PIECES[0])
        assert list(kept.begun()) == []
    with Partial(directory, b"big", VERSION) as kept:
        assert list(kept.begun()) == []
        assert list(kept.missing()) == PIECES[1:]


def test_less_than_a_step_and_a_whole_piece_are_no_beginnings(directory, tmp_path):
    begun(directory, STEP_BYTES - 1)
    begun(directory, 1000, of=2)
    assert os.listdir(tmp_path) == []
    begun(directory, PIECE_BYTES)
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("version", [VERSION._replace(etag="etag-2"), VERSION._replace(server="other:2057")])
def test_a_beginning_is_kept_for_another_version_of_the_same_size(directory, version):
    begun(directory, STEP_BYTES)
    with Partial(directory, b"big", version) as kept:
        assert [(offset, length) for offset, length, _ in kept.begun()] == [(0, STEP_BYTES)]
    with Partial(directory, b"big", version._replace(size=SIZE + 1)) as kept:
        assert list(kept.begun()) == []


@pytest.mark.parametrize(
    "line",
    [
        b"begun 0 %d" % PIECE_BYTES,
        b"begun 9 524288",
        b"begun 999999999999 1",
        b"begun 0 0",
        b"begun x 1",
        b"begun 2 1000",
    ],
)
def test_a_beginning_that_no_run_can_have_noted_is_none(directory, tmp_path, line):
    begin(directory, PIECES[1])
    with (tmp_path / ".fsget-big.sums").open("ab") as sums:
        sums.write(line + b"\n")
    with Partial(directory, b"big", VERSION) as kept:
        assert list(kept.begun()) == []
        assert list(kept.missing()) == [PIECES[0], PIECES[2]]


def test_a_file_that_is_complete_takes_its_name_and_leaves_nothing_else(directory, tmp_path):
    with Partial(directory, b"big", VERSION) as kept:
        for piece in PIECES:
            put(kept, *piece)
        assert list(kept.missing()) == []
        kept.complete(b"big")
    assert os.listdir(tmp_path) == ["big"]
    assert (tmp_path / "big").read_bytes() == CONTENT


def test_two_runs_never_work_on_one_part(directory):
    with Partial(directory, b"big", VERSION) as kept:
        put(kept, *PIECES[0])
        with pytest.raises(BeingFetched), Partial(directory, b"big", VERSION):
            pass
        assert kept.verified_bytes == PIECE_BYTES
    assert find(directory, b"big") == VERSION


def test_a_part_that_became_the_file_in_the_moment_of_opening_is_left_alone(directory, tmp_path, monkeypatch):
    begin(directory, *PIECES)
    lock = fcntl.flock

    def late(fd: int, operation: int) -> None:
        monkeypatch.setattr(fcntl, "flock", lock)
        os.rename(tmp_path / ".fsget-big.part", tmp_path / "big")  # as the run that held the lock does
        lock(fd, operation)

    monkeypatch.setattr(fcntl, "flock", late)
    with Partial(directory, b"big", VERSION._replace(etag="etag-2")):
        pass
    assert (tmp_path / "big").read_bytes() == CONTENT


@pytest.mark.parametrize("index", [0, 1])
def test_nothing_is_written_through_a_symbolic_link(directory, tmp_path, index):
    (tmp_path / "victim").write_text("untouched")
    (tmp_path / os.fsdecode(names_beside(b"big")[index])).symlink_to("victim")
    with pytest.raises(OSError, match=os.strerror(errno.ELOOP)), Partial(directory, b"big", VERSION):
        pass
    assert find(directory, b"big") is None
    assert (tmp_path / "victim").read_text() == "untouched"


def test_the_longest_name_has_a_part_too(directory):
    name = b"n" * 255
    with Partial(directory, name, VERSION) as kept:
        put(kept, *PIECES[0])
    assert find(directory, name) == VERSION
    assert names_beside(name) != names_beside(b"n" * 254)


@pytest.mark.parametrize("change", [{"server": "other:2057", "etag": "etag-2"}, {"etag": "etag-2", "mtime_ns": 18}])
def test_the_part_of_another_server_or_etag_is_in_doubt_until_the_server_vouches_for_it(directory, change):
    begin(directory, PIECES[0], PIECES[1])
    here = VERSION._replace(**change)
    with Partial(directory, b"big", here) as kept:
        assert not kept.discarded
        assert kept.verified_bytes == 2 * PIECE_BYTES
        assert [(offset, length) for offset, length, _ in kept.doubtful()] == PIECES[:2]
        offset, _, digest = next(kept.doubtful())
        kept.note(offset, digest, here)
        kept.forget(PIECE_BYTES)
        assert list(kept.missing()) == PIECES[1:]
        assert list(kept.doubtful()) == []


def test_what_a_server_vouched_for_is_no_longer_so_when_its_file_has_changed(directory):
    begin(directory, PIECES[0])
    with Partial(directory, b"big", VERSION._replace(server="other:2057")) as kept:
        put(kept, *PIECES[1])
    with Partial(directory, b"big", VERSION._replace(etag="etag-2")) as kept:
        assert [(offset, length) for offset, length, _ in kept.doubtful()] == PIECES[:2]


def test_a_part_with_pieces_of_two_servers_knows_which_is_whose_in_the_next_run(directory):
    begin(directory, PIECES[0])
    other = VERSION._replace(server="other:2057")
    with Partial(directory, b"big", other) as kept:
        put(kept, *PIECES[1])
    with Partial(directory, b"big", other) as kept:
        assert [(offset, length) for offset, length, _ in kept.doubtful()] == PIECES[:1]
        kept.adopt(VERSION)
        assert [(offset, length) for offset, length, _ in kept.doubtful()] == PIECES[1:2]
