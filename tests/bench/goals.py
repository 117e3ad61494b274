"""The goals, each a ratio within one run, and the generous bounds that CI holds."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from tests.bench.results import Spread
from tests.bench.workloads.discard import DISCARD
from tests.bench.workloads.fetches import FETCH, TREE, TREE_AGAIN
from tests.bench.workloads.idle import IDLE
from tests.bench.workloads.rates import SMALL
from tests.bench.workloads.slow import CROWD, SLOW

if TYPE_CHECKING:
    from tests.bench.results import Results


@dataclasses.dataclass(frozen=True)
class Goal:
    """``least`` and ``reach`` as numbers; ``unit`` after them. ``down``: less is better."""

    text: str
    measured: Spread | None
    least: float | None
    reach: float | None = None
    unit: str = "x"
    down: bool = False

    @property
    def verdict(self) -> str:
        """In a word."""
        if self.measured is None:
            return "not measured"
        value = self.measured.median
        if self.reach is not None and self.reaches(value, self.reach):
            return "reached"
        if self.least is None:
            return "not reached"
        return "met" if self.reaches(value, self.least) else "**missed**"

    def reaches(self, value: float, goal: float) -> bool:
        """Whether the value is as good as the goal."""
        return value <= goal if self.down else value >= goal


def goals(results: Results) -> list[Goal]:
    """Those of the project, in its order."""
    return [*_rates(results), *_large(results), *_many(results)]


def _rate(results: Results, over: str, under: str, clients: int) -> Spread | None:
    return results.ratio(SMALL, (over, clients), (under, clients), "rate")


def _rates(results: Results) -> list[Goal]:
    plain = "a child per connection, 1 KiB, 16 clients, against "
    rows = [
        (plain + "rsync daemon", "plain", "rsyncd", 16, 2.0, None),
        (plain + "vsftpd", "plain", "vsftpd", 16, 1.3, None),
        (plain + "tcpserver", "plain", "tcpserver", 16, 1.4, None),
        (plain + "ForkingTCPServer", "plain", "forking", 16, 2.3, None),
        (plain + "busybox httpd", "plain", "busybox", 16, None, 1.0),
        (plain + "C, fork per connection", "plain", "c-fork", 16, 0.37, 0.6),
        ("spares, 1 KiB, 1 client, against vsftpd", "spares", "vsftpd", 1, 1.4, 2.0),
        ("100 connections per child, 1 KiB, 16 clients, against Apache prefork", "pooled", "apache", 16, 1.0, 1.3),
        ("100 connections per child, 1 KiB, 16 clients, against nginx", "pooled", "nginx", 16, 0.8, 1.0),
    ]
    found = [
        Goal(text, _rate(results, over, under, clients), least, reach)
        for text, over, under, clients, least, reach in rows
    ]
    most = max(results.loads(SMALL), default=0)
    failed = [results.spread(SMALL, name, most, "errors") for name in ("plain", "spares", "pooled")]
    highs = [each.high for each in failed if each]
    errors = Spread(max(highs), min(each.low for each in failed if each), max(highs)) if highs else None
    return [*found, Goal(f"errors at {most} clients, all three settings", errors, 0, 0, "", down=True)]


def _large(results: Results) -> list[Goal]:
    discarded = results.ratio(DISCARD, ("plain", 1), ("c-fork", 1), "gb_s")
    verified = "one large file to memory, fsget with its digest verified, against "
    return [
        Goal("one large file, discarded, against C, corked", discarded, 0.9, 1.0),
        *(
            Goal(verified + name, results.ratio(FETCH, ("fsget", 1), (name, 1), "gb_s"), 1.2, 2.0)
            for name in ("rsync", "wget")
        ),
        Goal("tree of small files, safely, against rsync", results.ratio(TREE, ("fsget", 1), ("rsync", 1), "gb_s"), 2),
        Goal(
            "the tree again, unchanged, against rsync", results.ratio(TREE_AGAIN, ("fsget", 1), ("rsync", 1), "gb_s"), 1
        ),
    ]


def _many(results: Results) -> list[Goal]:
    idle = max(results.loads(IDLE), default=0)
    slow = max(results.loads(SLOW), default=0)
    crowd = max(results.loads(CROWD), default=0)
    share = results.spread(SLOW, "crowd", slow, "master_share")
    return [
        Goal("idle child, PSS", results.spread(IDLE, "plain", idle, "kib"), 220, 150, " KiB", down=True),
        Goal(
            f"{slow:,} slow transfers at once: finished",
            results.spread(SLOW, "crowd", slow, "completed"),
            slow,
            unit="",
        ),
        Goal(
            f"{slow:,} slow transfers at once: errors",
            results.spread(SLOW, "crowd", slow, "errors"),
            0,
            unit="",
            down=True,
        ),
        Goal(
            f"{slow:,} slow transfers at once: share of a processor that the master takes",
            share,
            0.2,
            unit="",
            down=True,
        ),
        Goal(
            f"connections a second beside {crowd:,} idle children, against none",
            results.ratio(CROWD, ("crowd", crowd), ("crowd", 0), "rate"),
            0.9,
            1.0,
        ),
    ]


def out_of_bounds(results: Results) -> list[str]:
    """What a smoke run must not show: any error, or far less than was usual when the bounds were set.

    A shared machine is noisy: they are to catch what got several times worse. Tighten them when the server gets faster.
    """
    bounds = [
        Goal("a child per connection, against C", _rate(results, "plain", "c-fork", 16), 0.03),
        Goal("a child per connection, against ForkingTCPServer", _rate(results, "plain", "forking", 16), 0.35),
        Goal("100 connections per child, against a child each", _rate(results, "pooled", "plain", 16), 2.5),
        Goal("100 connections per child, against C, pre-forked", _rate(results, "pooled", "c-pool", 16), 0.04),
        *(each for each in goals(results) if each.text.startswith("errors") or "slow transfers" in each.text),
        Goal("large file, against C", results.ratio(DISCARD, ("plain", 1), ("c-fork", 1), "gb_s"), 0.2),
    ]
    idle = max(results.loads(IDLE), default=0)
    bounds.append(Goal("idle child, PSS, KiB", results.spread(IDLE, "plain", idle, "kib"), 2000, down=True))
    return [f"{each.text}: {_against(each)}" for each in bounds if each.verdict in ("not measured", "**missed**")]


def _against(bound: Goal) -> str:
    return f"{bound.measured.median:.3g}, bound {bound.least:g}" if bound.measured else "not measured"
