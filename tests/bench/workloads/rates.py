"""Connections a second, and latency, by number of clients: a new connection for every request."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.bench import files
from tests.bench.load import Load
from tests.bench.plan import BY_NAME
from tests.bench.say import say

if TYPE_CHECKING:
    from tests.bench.bench import Bench

SMALL, MEDIUM = "1 KiB", "1 MiB"
_MEDIUM_CLIENTS = 16


def small(bench: Bench) -> None:
    """A file of 1 KiB, or the greeting of those that send no files."""
    _measure(bench, SMALL, files.SMALL, list(bench.plan.servers), bench.plan.clients)


def medium(bench: Bench) -> None:
    """A file of 1 MiB."""
    names = [name for name in bench.plan.servers if BY_NAME[name].content]
    _measure(bench, MEDIUM, files.MEDIUM, names, (_MEDIUM_CLIENTS,))


def _measure(bench: Bench, table: str, file: str, names: list[str], loads: tuple[int, ...]) -> None:
    plan = bench.plan
    with bench.running(names) as servers:
        for round_, order in bench.turns(names):
            for clients in loads:
                say(f"{table}, round {round_ + 1} of {plan.rounds}, {clients} clients")
                for name in order:
                    bench.settle()
                    script = BY_NAME[name].script(file, files.SIZES[file])
                    load = Load(clients, plan.seconds, plan.warmup_s, plan.grace_s)
                    values = bench.generator.run(servers[name], script, load)
                    bench.results.add(table, name, clients, round_, values)
