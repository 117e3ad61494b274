"""``journalctl _PID=N``, for the N that a client was told: that transfer, and nothing else."""

from __future__ import annotations

import re

import pytest

CLIENTS = 190
REAL_CLIENTS = 10
END = re.compile(
    r"end pid=(?P<pid>\d+) start=\d+\.\d{6} peer=(?P<peer>\S+) request=GET path=/sized/(?P<number>\d+) "
    r"status=200 outcome=ok sent=(?P<sent>\d+) promised=(?P<size>\d+) offset=0 size=(?P=size) ms=[\d.]+\Z"
)


def size_of(number: int) -> int:
    """Of the file of that name. More than the sockets take in; no two are the same.

    ``fsget`` passes on a piece of 4 MiB when it has all of it, and then stands still before the next.
    """
    return (1_000_000 if number < CLIENTS else 5_200_000) + number


@pytest.fixture
def transfers(narrow, hold):
    """All in progress at once, then all read to the end: PID, number of the file, peer if known; and where they began.

    The last are real runs of ``fsget``, which stand still because nobody reads what they write.
    """
    service = narrow
    numbers = range(CLIENTS + REAL_CLIENTS)
    sizes = " ".join(f"{number}:{size_of(number)}" for number in numbers)
    make = 'truncate -s "${each#*:}" "/srv/files/sized/${each%:*}"'
    service.run("sh", "-c", f"mkdir -p /srv/files/sized; for each in {sizes}; do {make}; done")
    began = service.now()  # there may have been processes of the same PIDs before
    held = [hold(b"GET /sized/%d digest=sha256" % number, f"127.0.1.{number // 100}") for number in numbers[:CLIENTS]]
    fsget = ("/opt/forkserver/bin/fsget", "--output=-")
    runs = [service.start(*fsget, f"sized/{number}") for number in numbers[CLIENTS:]]
    service.wait_until(lambda: len(service.pids()) == 2 + len(numbers), "supervisor, master, a child for each transfer")
    assert service.journal(began, "--grep=^end ") == ""
    found = []
    for number, each in zip(numbers, held, strict=False):
        pid = re.match(rb"FS1 200 ok pid=(\d+) ", each.head())
        assert pid
        assert len(each.rest()) > size_of(number)
        found.append((pid[1].decode(), number, each.peer))
    for number, run in zip(numbers[CLIENTS:], runs, strict=True):
        # The content is all zeros: text.
        content, told = run.communicate()
        assert (run.returncode, len(content)) == (0, size_of(number)), told
        found.append((re.findall(r"sha256 verified, .* served by PID (\d+)\n\Z", told)[0], number, ""))
    service.wait_until(
        lambda: service.journal(began, "--grep=^receipt ").count("\n") == len(numbers), "a receipt for each"
    )
    return found, began


def test_two_hundred_transfers_at_once_are_each_found_alone_by_pid(service, transfers) -> None:
    found, began = transfers
    assert len({pid for pid, _, _ in found}) == CLIENTS + REAL_CLIENTS
    ask = f'for pid in {" ".join(pid for pid, _, _ in found)}; do echo "= $pid"; journalctl -q "$@" _PID=$pid; done'
    told = service.run("sh", "-c", ask, "sh", "--output=cat", "--no-pager", began).stdout
    answers = dict(each.split("\n", 1) for each in told.split("= ")[1:])
    assert list(answers) == [pid for pid, _, _ in found]
    for pid, number, peer in found:
        end = END.match(answers[pid].rstrip("\n"))
        assert end, answers[pid]
        assert (end["pid"], int(end["number"])) == (pid, number)
        assert int(end["sent"]) == int(end["size"]) == size_of(number)
        assert end["peer"] == peer or (not peer and end["peer"].startswith("127.0.0.1:"))
    # The receipt is the master's line; the text has the PID, too.
    for pid, number, _ in found[-REAL_CLIENTS:]:
        end, receipt = service.journal(began, f"--grep= pid={pid} ").splitlines()
        assert f" path=/sized/{number} " in end
        assert receipt.startswith(f"receipt pid={pid} cause=done ")
        assert f" sent={size_of(number)} " in receipt
