"""A file that changes on the server: in content, or only in what makes its etag another. Scripted servers."""

from __future__ import annotations

import hashlib
import os
import time

import pytest

from forkserver.client.local.partial import PIECE_BYTES, STEP_BYTES

CONTENT = os.urandom(2 * PIECE_BYTES + 1000)
_CHANGED = PIECE_BYTES + 5
OTHER = CONTENT[:_CHANGED] + bytes([CONTENT[_CHANGED] ^ 1]) + CONTENT[_CHANGED + 1 :]  # the second piece is another
SIZE = len(CONTENT)
STARTS = range(0, SIZE, PIECE_BYTES)
WHO = "pid=4711 start=1763860000.123456"
CHANGED = f"FS1 412 changed {WHO} type=file size={SIZE} mtime=1.000000000 mode=644 etag=e-2\n".encode()
BAD_REQUEST = f'FS1 400 bad-request {WHO} message="unknown field"\n'.encode()
PATIENCE = ("--retries", "2", "--timeout", "10")


def part(start: int, content: bytes = CONTENT) -> bytes:
    return content[start : start + PIECE_BYTES]


def piece(says, start: int, etag: str = "e-1", content: bytes = CONTENT) -> bytes:
    return says.header(SIZE, offset=start, etag=etag) + part(start, content) + says.end(part(start, content))


def changed_piece(says, start: int, content: bytes = CONTENT) -> bytes:
    return says.header(SIZE, offset=start) + part(start, content) + b'FS1 END changed message="modified"\n'


def stat(says, etag: str = "e-1", size: int = SIZE) -> bytes:
    line = says.header(size, etag=etag)
    return line[: line.index(b" offset=")] + b"\n"


def digest(says, start: int, etag: str = "e-1", content: bytes = CONTENT) -> bytes:
    line = says.header(SIZE, offset=start, etag=etag)[:-1]
    return line + b" digest=sha256:" + hashlib.sha256(part(start, content)).hexdigest().encode() + b"\n"


def asked(start: int, etag: str = "e-2") -> bytes:
    skip = b"offset=%d " % start if start else b""
    length = min(PIECE_BYTES, SIZE - start)
    return b"STAT /f %slength=%d digest=sha256 if-etag=%s\n" % (skip, length, etag.encode())


def answers(says, *lines: bytes) -> list[bytes | str]:
    """Steps that answer requests one by one."""
    return [step for line in lines for step in (says.ask, line)]


@pytest.fixture
def first(says):
    """A connection over which the first piece comes; then the file is another version."""
    return [*answers(says, piece(says, 0)), says.ask, says.ask, CHANGED, CHANGED, says.hold]


def test_a_running_fetch_goes_on_with_the_new_version_and_has_the_first_piece_vouched_for(
    fsget, lying_server, says, place, first
):
    rest = [stat(says, "e-2"), *[piece(says, start, "e-2") for start in STARTS[1:]], digest(says, 0, "e-2")]
    server = lying_server(first, answers(says, *rest))
    result = fsget("-s", server.address, *PATIENCE, "--json", "f")
    assert (result.status, result.err) == (0, "")
    assert (place / "f").read_bytes() == CONTENT
    assert server.requests[3] == b"STAT /f\n"
    assert server.requests[-1] == asked(0)
    assert result.objects[0]["received"] == SIZE
    assert os.listdir(place) == ["f"]


def test_the_piece_after_which_the_server_says_changed_comes_again(fsget, lying_server, says, place):
    server = lying_server(
        [*answers(says, piece(says, 0)), says.ask, changed_piece(says, STARTS[1]), says.ask, says.hold],
        answers(
            says,
            stat(says, "e-2"),
            *[piece(says, start, "e-2", OTHER) for start in STARTS[1:]],
            digest(says, 0, "e-2", OTHER),
        ),
    )
    result = fsget("-s", server.address, *PATIENCE, "f")
    assert (result.status, result.err) == (0, "")
    assert (place / "f").read_bytes() == OTHER


def test_a_piece_whose_content_has_changed_is_fetched_again(fsget, lying_server, says, place):
    here = [*answers(says, piece(says, 0)), says.ask, piece(says, STARTS[1]), says.ask, CHANGED, says.hold]
    new = [
        *[stat(says, "e-2"), piece(says, STARTS[2], "e-2")],
        *[digest(says, start, "e-2", OTHER) for start in STARTS[:2]],
        piece(says, STARTS[1], "e-2", OTHER),
    ]
    server = lying_server(here, answers(says, *new))
    result = fsget("-s", server.address, *PATIENCE, "f")
    assert (result.status, result.err) == (0, "")
    assert (place / "f").read_bytes() == OTHER


def test_a_file_that_changes_while_its_pieces_are_vouched_for_is_asked_for_once_more(
    fsget, lying_server, says, place, first
):
    rest = [stat(says, "e-2"), *[piece(says, start, "e-2") for start in STARTS[1:]], CHANGED]
    third = [stat(says, "e-3"), *[digest(says, start, "e-3") for start in STARTS]]
    server = lying_server(first, [*answers(says, *rest), says.hold], answers(says, *third))
    result = fsget("-s", server.address, *PATIENCE, "f")
    assert (result.status, result.err) == (0, "")
    assert (place / "f").read_bytes() == CONTENT


def test_a_server_that_says_changed_for_ever_ends_in_a_failure_and_the_part_is_kept(
    fsget, lying_server, says, place, first
):
    again = [says.ask, stat(says, "e-2"), says.ask, says.ask, CHANGED, CHANGED, says.hold]
    server = lying_server(first, *[again] * 20)
    result = fsget("-s", server.address, *PATIENCE, "f")
    assert result.status == 6
    assert "the file was modified or replaced while it was being fetched" in result.err
    assert len(server.requests) == 3 + 2 * 3
    assert sorted(os.listdir(place)) == [".fsget-f.part", ".fsget-f.sums"]


def test_digests_that_agree_with_nothing_cost_one_more_fetch_and_no_more(fsget, lying_server, says, place, first):
    rest = [
        *[stat(says, "e-2"), *[piece(says, start, "e-2") for start in STARTS[1:]]],
        *[digest(says, 0, "e-2", bytes(SIZE)), piece(says, 0, "e-2")],
    ]
    server = lying_server(first, [*answers(says, *rest), says.hold])
    result = fsget("-s", server.address, *PATIENCE, "f")
    assert (result.status, result.err) == (0, "")
    assert (place / "f").read_bytes() == CONTENT


@pytest.mark.parametrize(
    "then",
    [
        pytest.param(lambda says: stat(says, "e-2", 5), id="another size"),
        pytest.param(lambda says: says.not_found, id="gone"),
        pytest.param(lambda says: says.directory, id="a directory"),
    ],
)
def test_a_file_that_is_another_by_now_is_a_failure_and_nothing_stays(  # noqa: PLR0913, PLR0917 - fixtures
    fsget, lying_server, says, place, first, then
):
    server = lying_server(first, [says.ask, then(says), says.hold])
    result = fsget("-s", server.address, *PATIENCE, "f")
    assert result.status == 6
    assert "the file was modified or replaced while it was being fetched" in result.err
    assert os.listdir(place) == []


@pytest.mark.parametrize(("content", "status"), [(CONTENT, 0), (OTHER, 6)], ids=["still the same", "changed"])
def test_what_has_gone_to_standard_output_is_vouched_for_or_the_exit_status_tells(
    fsget, lying_server, says, content, status
):
    here = [*answers(says, piece(says, 0)), says.ask, piece(says, STARTS[1]), says.ask, CHANGED, says.hold]
    new = [stat(says, "e-2"), piece(says, STARTS[2], "e-2"), *[digest(says, s, "e-2", content) for s in STARTS[:2]]]
    server = lying_server(here, answers(says, *new))
    result = fsget("-s", server.address, *PATIENCE, "-o", "-", "f")
    assert result.status == status
    assert result.output == CONTENT
    assert (
        "the content has changed, and from byte 4194304 on the one from before was passed on" in result.err
    ) == bool(status)


def test_of_an_older_server_all_pieces_of_another_version_come_again(fsget, lying_server, says, place, first):
    rest = [stat(says, "e-2"), *[piece(says, start, "e-2", OTHER) for start in STARTS[1:]], BAD_REQUEST]
    server = lying_server(first, answers(says, *rest), answers(says, piece(says, 0, "e-2", OTHER)))
    result = fsget("-s", server.address, *PATIENCE, "f")
    assert (result.status, result.err) == (0, "")
    assert (place / "f").read_bytes() == OTHER


def test_a_small_file_that_changes_while_it_is_sent_is_fetched_as_it_is_then(fsget, lying_server, says, place):
    changing = [says.ask, says.header(5) + b'hellOFS1 END changed message="modified"\n']
    header = says.header(5, etag="e-2")
    described = header[: header.index(b" offset=")] + b"\n"
    server = lying_server(changing, answers(says, described, header + b"hello" + says.end(b"hello")))
    result = fsget("-s", server.address, *PATIENCE, "f")
    assert (result.status, result.err) == (0, "")
    assert (place / "f").read_bytes() == b"hello"


def test_a_small_file_of_a_list_that_changes_while_it_is_sent_is_asked_for_again(fsget, lying_server, says, place):
    header = says.header(5)
    described = header[: header.index(b" offset=")] + b"\n"
    changing = header + b'hellOFS1 END changed message="modified"\n'
    other = says.header(1) + b"x" + says.end(b"x")
    server = lying_server(
        [*[says.ask] * 2, described, described, *[says.ask] * 2, changing + other, *says.file(b"hello")]
    )
    result = fsget("-s", server.address, *PATIENCE, "-i", "-", stdin=None, input=b"f\ng\n")
    assert (result.status, result.err) == (0, "")
    assert (place / "f").read_bytes() == b"hello"


def test_a_small_file_that_changes_whenever_it_is_sent_is_a_failure_of_its_own(fsget, lying_server, says, place):
    header = says.header(5)
    described = header[: header.index(b" offset=")] + b"\n"
    changing = header + b'hellOFS1 END changed message="modified"\n'
    other = says.header(1) + b"x" + says.end(b"x")
    again = [says.ask, changing] * 5
    server = lying_server([*[says.ask] * 2, described, described, *[says.ask] * 2, changing + other, *again])
    result = fsget("-s", server.address, *PATIENCE, "-i", "-", stdin=None, input=b"f\ng\n")
    assert result.status == 6
    assert result.err == "fsget: f: the file was modified while it was being sent (served by PID 4711)\n"
    assert os.listdir(place) == ["g"]
    assert len(list(filter(None, server.requests))) == 4 + 2


# What an earlier run has left, or fetched.


@pytest.fixture
def left(fsget, lying_server, says, place):
    """The address of a server of which two pieces came."""
    server = lying_server([*answers(says, piece(says, 0)), says.ask, piece(says, STARTS[1]), says.ask])
    assert fsget("-s", server.address, "--retries", "0", "f").status == 5
    assert sorted(os.listdir(place)) == [".fsget-f.part", ".fsget-f.sums"]
    return server.address


def again(lying_server, address: str, *scripts):
    """A server where the one before it was."""
    return lying_server(*scripts, port=int(address.rpartition(":")[2]))


@pytest.mark.parametrize("content", [CONTENT, OTHER], ids=["same content", "another"])
def test_the_part_of_another_etag_is_vouched_for_in_the_next_run(  # noqa: PLR0913, PLR0917 - fixtures
    fsget, lying_server, says, place, left, content
):
    new = [stat(says, "e-2"), piece(says, STARTS[2], "e-2"), *[digest(says, s, "e-2", content) for s in STARTS[:2]]]
    fetched_again = [piece(says, STARTS[1], "e-2", content)] if content is OTHER else []
    server = again(lying_server, left, answers(says, *new, *fetched_again))
    result = fsget("-s", server.address, *PATIENCE, "f")
    assert (result.status, result.err) == (0, "")
    kept = PIECE_BYTES if content is OTHER else 2 * PIECE_BYTES
    assert f"{kept:,} of them here before" in result.out
    assert (place / "f").read_bytes() == content


@pytest.fixture
def fetched(fsget, lying_server, says):
    """The address of a server of which all came."""
    server = lying_server(answers(says, *[piece(says, start) for start in STARTS]))
    assert fsget("-s", server.address, "f").status == 0
    return server.address


@pytest.mark.usefixtures("attributes")
def test_a_long_file_that_is_here_under_another_etag_is_compared_and_not_fetched(
    fsget, lying_server, says, place, fetched
):
    os.chmod(place / "f", 0o600)
    described = stat(says, "e-2").replace(b"mtime=1624000000", b"mtime=1700000000").replace(b"mode=644", b"mode=755")
    script = answers(says, described, *[digest(says, start, "e-2") for start in STARTS])
    server = again(lying_server, fetched, script, [says.ask, stat(says, "e-2")])
    inode = (place / "f").stat().st_ino
    result = fsget("-s", server.address, *PATIENCE, "--json", "f")
    assert (result.status, result.err) == (0, "")
    told = result.objects[0]
    assert (told["status"], told["received"]) == ("unchanged", 0)
    assert server.requests == [b"STAT /f\n", *map(asked, STARTS)]
    found = (place / "f").stat()
    assert (found.st_ino, found.st_mtime, found.st_mode & 0o777) == (inode, 1700000000, 0o755)
    # What was found out is noted: the next run asks for no digest.
    result = fsget("-s", server.address, *PATIENCE, "f")
    assert (result.status, "unchanged" in result.out) == (0, True)


def test_a_long_file_that_is_here_without_a_note_is_compared(fsget, lying_server, says, place):
    (place / "f").write_bytes(CONTENT)
    server = lying_server(answers(says, stat(says), *[digest(says, start) for start in STARTS]))
    result = fsget("-s", server.address, *PATIENCE, "f")
    assert (result.status, result.err) == (0, "")
    assert "unchanged, nothing fetched (asked PID 4711)" in result.out


@pytest.mark.parametrize("here", [OTHER, CONTENT[:-1]], ids=["another content", "another size"])
def test_a_long_file_that_differs_is_fetched(fsget, lying_server, says, place, here):
    (place / "f").write_bytes(here)
    told = [*[says.ask] * 3, *[digest(says, start) for start in STARTS], says.hold] if here is OTHER else []
    pieces = answers(says, *[piece(says, start) for start in STARTS])
    scripts = [[says.ask, stat(says), *told], pieces] if told else [[says.ask, stat(says), *pieces]]
    server = lying_server(*scripts)
    result = fsget("-s", server.address, *PATIENCE, "f")
    assert (result.status, result.err) == (0, "")
    assert (place / "f").read_bytes() == CONTENT


def test_a_long_file_whose_server_gives_no_digests_is_fetched(fsget, lying_server, says, place):
    (place / "f").write_bytes(CONTENT)
    pieces = answers(says, *[piece(says, start, content=OTHER) for start in STARTS])
    server = lying_server([says.ask, stat(says), *[says.ask] * 3, BAD_REQUEST], pieces)
    result = fsget("-s", server.address, *PATIENCE, "f")
    assert (result.status, result.err) == (0, "")
    assert (place / "f").read_bytes() == OTHER


def test_a_long_file_that_changes_while_it_is_compared_is_compared_again(fsget, lying_server, says, place):
    (place / "f").write_bytes(CONTENT)
    first = [says.ask, stat(says), *[says.ask] * 3, digest(says, 0), CHANGED, says.hold]
    server = lying_server(first, answers(says, stat(says, "e-2"), *[digest(says, s, "e-2") for s in STARTS]))
    result = fsget("-s", server.address, *PATIENCE, "f")
    assert (result.status, "unchanged" in result.out) == (0, True)


@pytest.mark.usefixtures("attributes")
def test_a_long_file_that_the_user_does_not_own_is_fetched_and_replaced(fsget, lying_server, says, place, other_user):
    (place / "f").write_bytes(CONTENT)
    os.chown(place / "f", other_user + 1, other_user + 1)
    os.chown(place, other_user, other_user)
    digests = [digest(says, start) for start in STARTS]
    server = lying_server(answers(says, stat(says), *digests, *[piece(says, start) for start in STARTS]))
    result = fsget("-s", server.address, *PATIENCE, "f", user=other_user, group=other_user, extra_groups=[])
    assert (result.status, result.err) == (0, "")
    found = (place / "f").stat()
    assert (found.st_uid, (place / "f").read_bytes() == CONTENT) == (12346, True)


# What a run that was killed has left of the second piece.

HEAD = 3 * STEP_BYTES


@pytest.fixture
def killed(begin, lying_server, says, place):
    """The address of a server of which a piece came, and the beginning of the next."""
    some = says.header(SIZE, offset=PIECE_BYTES) + CONTENT[PIECE_BYTES : PIECE_BYTES + HEAD + 1000]
    server = lying_server([*answers(says, piece(says, 0)), says.ask, some, says.hold])
    process = begin("-s", server.address, "f")
    sums = place / ".fsget-f.sums"
    deadline = time.monotonic() + 20
    while not (sums.exists() and b"begun 1 %d\n" % HEAD in sums.read_bytes()):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    process.kill()
    process.wait()
    return server.address


def head_digest(says, etag: str = "e-1", content: bytes = CONTENT) -> bytes:
    line = says.header(SIZE, offset=PIECE_BYTES, length=HEAD, etag=etag)[:-1]
    digested = hashlib.sha256(content[PIECE_BYTES : PIECE_BYTES + HEAD]).hexdigest()
    return line + b" digest=sha256:" + digested.encode() + b"\n"


def tail(says, etag: str = "e-1") -> bytes:
    rest = CONTENT[PIECE_BYTES + HEAD : 2 * PIECE_BYTES]
    return says.header(SIZE, offset=PIECE_BYTES + HEAD, length=len(rest), etag=etag) + rest + says.end(rest)


def test_what_had_come_of_a_piece_when_the_run_was_killed_does_not_come_again(fsget, lying_server, says, place, killed):
    server = again(
        lying_server, killed, answers(says, stat(says), head_digest(says), tail(says), piece(says, STARTS[2]))
    )
    result = fsget("-s", server.address, *PATIENCE, "--json", "f")
    assert (result.status, result.err) == (0, "")
    assert (place / "f").read_bytes() == CONTENT
    assert server.requests[1].startswith(b"STAT /f offset=%d length=%d " % (PIECE_BYTES, HEAD))
    told = result.objects[0]
    assert (told["kept"], told["received"]) == (PIECE_BYTES + HEAD, SIZE - PIECE_BYTES - HEAD)


@pytest.mark.parametrize("older", [False, True])
def test_what_the_server_does_not_vouch_for_comes_again(  # noqa: PLR0913, PLR0917 - fixtures, and a parameter
    fsget, lying_server, says, place, killed, older
):
    rest = answers(says, *[piece(says, start) for start in STARTS[1:]])
    if older:
        server = again(lying_server, killed, answers(says, stat(says), BAD_REQUEST), rest)
    else:
        server = again(lying_server, killed, [*answers(says, stat(says), head_digest(says, content=OTHER)), *rest])
    result = fsget("-s", server.address, *PATIENCE, "--json", "f")
    assert (result.status, result.err) == (0, "")
    assert (place / "f").read_bytes() == CONTENT
    assert (result.objects[0]["kept"], result.objects[0]["received"]) == (PIECE_BYTES, SIZE - PIECE_BYTES)


def test_the_beginning_of_one_version_and_the_rest_of_another_make_no_piece(fsget, lying_server, says, place, killed):
    first = [*answers(says, stat(says), head_digest(says)), says.ask, says.ask, CHANGED, CHANGED, says.hold]
    rest = [stat(says, "e-2"), *[piece(says, start, "e-2", OTHER) for start in STARTS[1:]], digest(says, 0, "e-2")]
    server = again(lying_server, killed, first, answers(says, *rest))
    result = fsget("-s", server.address, *PATIENCE, "--json", "f")
    assert (result.status, result.err) == (0, "")
    assert (place / "f").read_bytes() == OTHER
    assert (result.objects[0]["kept"], result.objects[0]["received"]) == (PIECE_BYTES, SIZE - PIECE_BYTES)


def test_a_damaged_rest_of_a_piece_is_no_piece(fsget, lying_server, says, place, killed):
    server = again(
        lying_server,
        killed,
        [*answers(says, stat(says), head_digest(says), tail(says)[:-10] + b"0" * 9 + b"\n"), says.hold],
    )
    result = fsget("-s", server.address, *PATIENCE, "f")
    assert result.status == 6
    assert "the content arrived damaged" in result.err
    assert "f" not in os.listdir(place)
