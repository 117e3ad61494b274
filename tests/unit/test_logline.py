from __future__ import annotations

import errno
import json
import os
import re
import select
import socket
import time

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from forkserver.logline import FORMS, MAX_VALUE_CHARS, PRIORITIES, Log, is_datagram_socket, syslog_complaint

PIPE_BUF = 4096


@pytest.fixture
def pipe():
    read_fd, write_fd = os.pipe()
    yield read_fd, write_fd
    os.close(read_fd)
    os.close(write_fd)


def test_an_event_is_one_line_with_time_program_pid_verb_and_fields(pipe):
    Log(pipe[1]).event("end", peer="127.0.0.1:1", status=200)
    line = os.read(pipe[0], PIPE_BUF).decode()
    pattern = (
        rf"\d{{4}}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{{6}}Z forkserver\[{os.getpid()}\] end peer=127\.0\.0\.1:1 status=200\n"
    )
    assert re.fullmatch(pattern, line)


@pytest.mark.parametrize(
    ("value", "written"),
    [
        ("plain", "plain"),
        ("", '""'),
        ("two words", '"two words"'),
        ('quo"te', r'"quo\"te"'),
        ("back\\slash", r'"back\\slash"'),
        ("line\nfeed", r'"line\x0afeed"'),
        ("\x1b[31m", r'"\x1b[31m"'),
        ("\u202e", r'"\u202e"'),
        ("\udcff", r'"\udcff"'),
        ("\U0001f600", r'"\U0001f600"'),
        ("ü", r'"\xfc"'),
    ],
)
def test_no_value_can_forge_a_line_a_field_or_an_escape_sequence(pipe, value, written):
    Log(pipe[1]).event("end", key=value)
    assert os.read(pipe[0], PIPE_BUF).decode("ascii").partition(" key=")[2] == written + "\n"


@pytest.mark.parametrize("value", ["x" * 100_000, "\U0001f600" * 100_000, "\n" * 100_000])
def test_a_value_of_any_length_leaves_a_line_that_a_pipe_takes_whole(pipe, value):
    Log(pipe[1]).event("end", key=value)
    line = os.read(pipe[0], 2 * PIPE_BUF)
    assert len(line) <= PIPE_BUF
    assert line.endswith(b"\n")
    assert line.count(b"\n") == 1
    assert len(line) > MAX_VALUE_CHARS // 2


def test_a_log_that_cannot_be_written_does_no_harm():
    read_fd, write_fd = os.pipe()
    os.close(read_fd)
    Log(write_fd).event("end")
    os.close(write_fd)
    Log(write_fd).event("end")


def test_a_bug_names_its_exception_and_where_it_was_raised_innermost_first(pipe):
    def raise_one():
        raise KeyError("x y")

    try:
        raise_one()
    except KeyError as error:
        Log(pipe[1]).bug(error)
    line = os.read(pipe[0], PIPE_BUF).decode()
    assert 'bug error="KeyError: \'x y\'" at="test_logline.py:' in line
    assert line.index("raise_one") < line.index("test_a_bug")


def plain_fields(text: str) -> dict[str, str]:
    """Undo the quoting of ``key=value`` fields."""
    found: dict[str, str] = {}
    pattern = re.compile(r' ([a-z_]+)=(?:"((?:[^"\\]|\\.)*)"|([^" ]+))')
    end = 0
    while end < len(text):
        match = pattern.match(text, end)
        assert match, text[end:]
        quoted = match[2]
        found[match[1]] = match[3] if quoted is None else quoted.encode("ascii").decode("unicode_escape")
        end = match.end()
    return found


def parsed(form: str, line: bytes) -> tuple[str, dict[str, str | int]]:
    """Verb and fields of a line."""
    text = line.decode("ascii")
    if form == "json":
        values = json.loads(text)
        del values["time"], values["writer"], values["pid"]
        return values.pop("verb"), {name: "-" if value is None else value for name, value in values.items()}
    prefix = {"journal": r"<\d>", "syslog": r"<\d\d>forkserver\[\d+\]: "}.get(form, r"\S+Z forkserver\[\d+\] ")
    match = re.match(prefix + "([a-z-]+)", text)
    assert match
    return match[1], {**plain_fields(text[match.end() : -1])}


VALUES = st.one_of(
    st.text(),
    st.text(alphabet='"\\\n\r\0\x1b {}:,=<>ux0.\u2028\ud800\udc00\U0001f600'),
    st.binary().map(lambda data: data.decode("utf-8", "surrogateescape")),
    st.integers(),
)
NAMES = st.sampled_from(["path", "peer", "reason", "sent", "error", "outcome", "request", "cause"])


def written(form: str, fields: dict[str, str | int]) -> bytes:
    """The bytes of one event, and whether they came in one write: a packet socket keeps writes apart."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours, theirs:
        Log(theirs.fileno(), form=form).event("end", **fields)
        line = ours.recv(1 << 20)
        assert not select.select([ours], [], [], 0)[0], "a second write"
    return line


@pytest.mark.parametrize("form", FORMS)
# Its first example makes Python's table of characters, which takes a second on a busy machine.
@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(fields=st.dictionaries(NAMES, VALUES))
def test_whatever_the_values_a_line_is_one_write_and_reads_back(form, fields):
    line = written(form, fields)
    assert line.count(b"\n") == 1
    assert line.endswith(b"\n")
    assert not set(line[:-1]) - set(range(0x20, 0x7F)), "printable ASCII, whatever came in"
    verb, found = parsed(form, line)
    assert verb == "end"
    assert list(found) == list(fields)
    if all(isinstance(value, int) or len(value) < 30 for value in fields.values()):
        wanted = {name: value if form == "json" else str(value) for name, value in fields.items()}
        if form == "json":
            # A pair of surrogates is one character to JSON, two to Python.
            wanted = json.loads(json.dumps(wanted))
        assert found == wanted


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("char", ["x", "\n", "\U0001f600", '"'])
def test_many_long_values_leave_a_line_that_a_pipe_takes_whole(form, char):
    fields: dict[str, str | int] = {f"field_{letter}": char * 100_000 for letter in "abcdefghij"}
    line = written(form, fields)
    assert PIPE_BUF // 3 < len(line) <= PIPE_BUF
    assert list(parsed(form, line)[1]) == list(fields)
    assert line.count(b"...") == len(fields)


@pytest.mark.parametrize(("verb", "priority"), [*PRIORITIES.items(), ("end", 6), ("ready", 6), ("receipt", 6)])
def test_a_line_for_the_journal_has_a_priority_and_nothing_the_journal_has_itself(pipe, verb, priority):
    Log(pipe[1], form="journal").event(verb, key="a value")
    assert os.read(pipe[0], PIPE_BUF) == f'<{priority}>{verb} key="a value"\n'.encode()


@pytest.fixture
def logger():
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    with ours, theirs:
        yield ours, theirs.fileno()


@pytest.mark.parametrize(("verb", "priority"), [*PRIORITIES.items(), ("end", 6), ("ready", 6), ("receipt", 6)])
def test_a_line_for_a_logger_has_facility_and_priority_program_and_pid_and_nothing_else(logger, verb, priority):
    ours, fd = logger
    Log(fd, form="syslog").event(verb, key="a value")
    assert ours.recv(PIPE_BUF) == f'<{3 * 8 + priority}>forkserver[{os.getpid()}]: {verb} key="a value"'.encode()


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(fields=st.dictionaries(NAMES, VALUES))
def test_whatever_the_values_a_logger_gets_one_datagram_without_a_control_character(fields):
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    with ours, theirs:
        Log(theirs.fileno(), form="syslog").event("end", **fields)
        line = ours.recv(1 << 20)
        assert not select.select([ours], [], [], 0)[0], "a second datagram"
    assert not set(line) - set(range(0x20, 0x7F))
    assert len(line) < PIPE_BUF
    verb, found = parsed("syslog", line + b"\n")
    assert verb == "end"
    assert list(found) == list(fields)


@given(text=VALUES.map(str))
def test_whatever_a_complaint_says_a_logger_gets_one_line(text):
    line = syslog_complaint(text, 3)
    assert not set(line) - set(range(0x20, 0x7F))
    assert line.startswith(f"<27>forkserver[{os.getpid()}]: ".encode())


def test_a_complaint_of_any_length_is_cut_and_its_plain_words_stay_as_they_are():
    assert syslog_complaint('it\'s "C:\\x"', 2) == f'<26>forkserver[{os.getpid()}]: it\'s "C:\\x"'.encode()
    assert len(syslog_complaint("\U0001f600" * 100_000, 3)) == PIPE_BUF


def test_lines_for_a_logger_do_not_run_together_in_a_file(pipe):
    log = Log(pipe[1], form="syslog")
    log.event("end", number=1)
    log.event("end", number=2)
    assert re.fullmatch(rb"(<30>forkserver\[\d+\]: end number=\d\n){2}", os.read(pipe[0], PIPE_BUF))


def test_a_logger_that_is_gone_is_neither_waited_for_nor_counted_less(logger):
    ours, fd = logger
    ours.close()
    log = Log(fd, form="syslog")
    began = time.monotonic()
    for _ in range(100):
        log.event("end")
    assert time.monotonic() - began < log.patience_s
    read_fd, write_fd = os.pipe()
    os.dup2(write_fd, fd)
    log.event("end")
    assert os.read(read_fd, PIPE_BUF).endswith(b": end lines_dropped=100")
    os.close(read_fd)
    os.close(write_fd)


def test_only_a_datagram_socket_of_this_machine_is_one_and_it_stays_open(pipe, tmp_path):
    def of(family: socket.AddressFamily, kind: socket.SocketKind) -> bool:
        with socket.socket(family, kind) as each:
            found = is_datagram_socket(each.fileno())
            os.fstat(each.fileno())
        return found

    assert of(socket.AF_UNIX, socket.SOCK_DGRAM)
    for kind in (socket.SOCK_STREAM, socket.SOCK_SEQPACKET):
        assert not of(socket.AF_UNIX, kind)
    assert not of(socket.AF_INET, socket.SOCK_DGRAM)
    assert not is_datagram_socket(pipe[1])
    fd = os.open(tmp_path / "log", os.O_WRONLY | os.O_CREAT)
    assert not is_datagram_socket(fd)
    os.close(fd)
    assert not is_datagram_socket(fd)


def test_a_json_line_tells_who_wrote_it_and_whom_it_is_about(pipe):
    log = Log(pipe[1], form="json")
    log.event("died", pid=4713, sent=7, cause="SIGKILL")
    values = json.loads(os.read(pipe[0], PIPE_BUF))
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z", values.pop("time"))
    assert values == {"writer": os.getpid(), "verb": "died", "pid": 4713, "sent": 7, "cause": "SIGKILL"}
    log.event("stopped")
    values = json.loads(os.read(pipe[0], PIPE_BUF))
    assert (values["writer"], values["pid"]) == (os.getpid(), os.getpid())


def test_a_json_line_has_null_for_what_there_is_not_so_that_a_key_has_one_type(pipe):
    log = Log(pipe[1], form="json")
    log.event("end", status="-", path="/-")
    values = json.loads(os.read(pipe[0], PIPE_BUF))
    assert (values["status"], values["path"]) == (None, "/-")


def test_the_time_of_a_line_is_that_of_its_writing(pipe, monkeypatch):
    log = Log(pipe[1])
    for moment_ns, text in [
        (1_795_402_430_999_999_999, "2026-11-23T02:53:50.999999Z"),
        (1_795_402_431_000_000_000, "2026-11-23T02:53:51.000000Z"),
        (1_795_402_431_000_001_000, "2026-11-23T02:53:51.000001Z"),
        (1_795_402_430_000_000_000, "2026-11-23T02:53:50.000000Z"),
    ]:
        monkeypatch.setattr(time, "time_ns", lambda moment_ns=moment_ns: moment_ns)
        log.event("end")
        assert os.read(pipe[0], PIPE_BUF).decode().split(" ")[0] == text


def test_half_a_line_on_a_full_disk_is_not_glued_to_the_next_and_what_was_lost_is_told(tmp_path, monkeypatch):
    fd = os.open(tmp_path / "log", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    log = Log(fd)
    write = os.write
    monkeypatch.setattr(os, "write", lambda fd, data: write(fd, data[:40]))
    log.event("end", number=1)
    monkeypatch.setattr(os, "write", refuse)
    log.event("end", number=2)
    monkeypatch.undo()
    log.event("end", number=3)
    log.event("end", number=4)
    os.close(fd)
    first, second, third = (tmp_path / "log").read_text().splitlines()
    assert len(first) == 40
    assert second.endswith(" end number=3 lines_dropped=1")
    assert third.endswith(" end number=4")


def refuse(_fd, _data):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
