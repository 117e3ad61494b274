"""What every workload works with: the plan, the room, the load generator, the results; servers that run for a while."""

from __future__ import annotations

import contextlib
import dataclasses
import time
from typing import TYPE_CHECKING

from tests.bench import peers, procfs
from tests.bench.plan import BY_NAME

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.bench.load import LoadGenerator
    from tests.bench.plan import Plan
    from tests.bench.results import Results


@dataclasses.dataclass(frozen=True)
class Bench:
    """One run."""

    plan: Plan
    room: peers.Room
    generator: LoadGenerator
    results: Results

    @contextlib.contextmanager
    def running(self, names: list[str]) -> Iterator[dict[str, peers.Running]]:
        """Start servers; end them after."""
        servers: dict[str, peers.Running] = {}
        try:
            for name in names:
                servers[name] = peers.start(BY_NAME[name], self.room)
            yield servers
        finally:
            for server in servers.values():
                peers.stop(server)

    def turns(self, names: list[str]) -> Iterator[tuple[int, list[str]]]:
        """Each round, and the servers in its order: every round begins with another."""
        for round_ in range(self.plan.rounds):
            first = round_ * len(names) // self.plan.rounds
            yield round_, [*names[first:], *names[:first]]

    def settle(self) -> None:
        """Let those who were measured before end their children."""
        time.sleep(self.plan.settle_s)
        procfs.reap()
