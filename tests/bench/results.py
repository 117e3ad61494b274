"""What was measured: one sample for each server, load and round; medians, and ratios within a round."""

from __future__ import annotations

import dataclasses
import json
import statistics
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path


@dataclasses.dataclass(frozen=True)
class Sample:
    """``load``: how many clients, connections or transfers. ``values`` by the name of what was measured."""

    table: str
    server: str
    load: int
    round: int
    values: dict[str, float]


@dataclasses.dataclass(frozen=True)
class Spread:
    """The median of the rounds, and the least and the most."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: list[float]) -> Spread | None:
        """None of nothing."""
        return cls(statistics.median(values), min(values), max(values)) if values else None


class Results:
    """All samples of a run, and of the machine what the report tells."""

    def __init__(self, machine: dict[str, str]) -> None:
        self.machine = machine
        self.samples: list[Sample] = []

    def add(self, table: str, server: str, load: int, round_: int, values: dict[str, float]) -> None:
        """Note what was measured."""
        self.samples.append(Sample(table, server, load, round_, values))

    def servers(self, table: str, load: int | None = None) -> list[str]:
        """Those that were measured, in the order of the first round."""
        found = [each for each in self.samples if each.table == table and load in (None, each.load)]
        return list(dict.fromkeys(each.server for each in sorted(found, key=lambda each: each.round)))

    def loads(self, table: str) -> list[int]:
        """Those that were measured."""
        return sorted({each.load for each in self.samples if each.table == table})

    def rounds(self, table: str, server: str, load: int, value: str) -> dict[int, float]:
        """What was measured in each round."""
        return {
            each.round: each.values[value]
            for each in self.samples
            if (each.table, each.server, each.load) == (table, server, load) and value in each.values
        }

    def spread(self, table: str, server: str, load: int, value: str) -> Spread | None:
        """Over the rounds."""
        return Spread.of(list(self.rounds(table, server, load, value).values()))

    def median(self, table: str, server: str, load: int, value: str) -> float | None:
        """Over the rounds."""
        spread = self.spread(table, server, load, value)
        return spread.median if spread else None

    def ratio(self, table: str, over: tuple[str, int], under: tuple[str, int], value: str) -> Spread | None:
        """Of two servers, or of two loads of one, each round by itself: what the machine did to both cancels out."""
        uppers, lowers = self.rounds(table, *over, value), self.rounds(table, *under, value)
        return Spread.of([uppers[each] / lowers[each] for each in uppers if lowers.get(each)])

    def save(self, path: Path) -> None:
        """Write all of it, for ``restore``."""
        samples = [dataclasses.asdict(each) for each in self.samples]
        path.write_text(json.dumps({"machine": self.machine, "samples": samples}, indent=1) + "\n")


def restore(path: Path) -> Results:
    """What ``Results.save`` wrote."""
    data = json.loads(path.read_text())
    results = Results(data["machine"])
    results.samples = [Sample(**each) for each in data["samples"]]
    return results
