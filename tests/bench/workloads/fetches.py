"""Whole fetches by real clients into memory, their start-up included: one large file, and a tree of small ones."""

from __future__ import annotations

import filecmp
import os
import shutil
import subprocess
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

from tests.bench import files
from tests.bench.peers import REPOSITORY
from tests.bench.say import say
from tests.bench.workloads.clients import FILE_CLIENTS, TREE_CLIENTS, Client

if TYPE_CHECKING:
    from tests.bench.bench import Bench

FETCH, TREE, TREE_AGAIN = "large file, to memory", "tree", "tree, again"
_FILE_BYTES = 4096
_PATIENCE_S = 300


def fetch(bench: Bench) -> None:
    """One large file."""
    files.write(bench.room.root / files.BIG, bench.plan.big_bytes)
    _measure(bench, FETCH, FILE_CLIENTS, bench.plan.big_bytes, _same_file)


def tree(bench: Bench) -> None:
    """Many small files."""
    count = bench.plan.tree_files
    names = files.make_tree(bench.room.root / files.TREE, count, _FILE_BYTES)

    def same(original: Path, copy: Path, *, whole: bool) -> bool:
        here = [name for name in names if (copy / name).is_file()]
        return len(here) == count and not (
            whole and any(filecmp.cmpfiles(original / files.TREE, copy, names, shallow=False)[1:])
        )

    _measure(bench, TREE, TREE_CLIENTS, count * _FILE_BYTES, same, again=TREE_AGAIN)


def _same_file(original: Path, copy: Path, *, whole: bool) -> bool:
    one, other = original / files.BIG, copy / files.BIG
    return one.stat().st_size == other.stat().st_size and (not whole or filecmp.cmp(one, other, shallow=False))


def _measure(  # noqa: PLR0913 - all that a table is made of, each once
    bench: Bench, table: str, clients: list[Client], size: int, same, *, again: str | None = None
) -> None:
    """``again``: the table of second runs, where nothing has changed, of the clients that find out."""
    wanted = {client.name: client for client in clients if not client.server or client.server in bench.plan.servers}
    with bench.running(sorted({client.server for client in wanted.values()} - {""})) as servers:
        for round_, order in bench.turns(list(wanted)):
            say(f"{table}, round {round_ + 1} of {bench.plan.rounds}")
            for name in order:
                client = wanted[name]
                target = bench.room.memory / "target"
                target.mkdir()
                port = servers[client.server].port if client.server else 0
                _take_memory(target / "warm", size)
                seconds = _timed(client.command(bench.room, port, target))
                if not same(bench.room.root, target, whole=round_ == 0):
                    raise RuntimeError(f"{table}: {name} did not fetch what is served")
                bench.results.add(table, name, 1, round_, {"seconds": seconds, "gb_s": size / seconds / 1e9})
                if again and client.looks:
                    seconds = _timed(client.command(bench.room, port, target))
                    bench.results.add(again, name, 1, round_, {"seconds": seconds, "gb_s": size / seconds / 1e9})
                shutil.rmtree(target)


def _take_memory(path: Path, size: int) -> None:
    """Have the memory that the client will fill.

    The host of a virtual machine takes free memory back, and gives it again slowly, to whoever comes first.
    """
    files.write(path, size)
    path.unlink()


def _timed(command: list[str]) -> float:
    environment = {**os.environ, "PYTHONPATH": REPOSITORY}
    began = time.monotonic()
    with subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL) as process:
        # A wait with a timeout of its own looks only every 50 ms.
        patience = threading.Timer(_PATIENCE_S, process.kill)
        patience.start()
        status = process.wait()
        seconds = time.monotonic() - began
        patience.cancel()
    if status:
        raise subprocess.CalledProcessError(status, command)
    return seconds
