"""The benchmark: ``python -m tests.bench``. It needs Debian 12 and root; docs/benchmarks.md says more."""

from __future__ import annotations

import argparse
import dataclasses
import os
import signal
import sys
from pathlib import Path

from tests.bench import goals, limits, machine, packages, plan, procfs, report, results
from tests.bench.bench import Bench
from tests.bench.load import LoadGenerator
from tests.bench.peers import Room
from tests.bench.say import say
from tests.bench.workloads.account import account
from tests.bench.workloads.discard import discard
from tests.bench.workloads.fetches import fetch, tree
from tests.bench.workloads.idle import idle
from tests.bench.workloads.rates import medium, small
from tests.bench.workloads.slow import crowd, slow

_DOCUMENT = Path(__file__).parents[2] / "docs" / "benchmarks.md"
_WORKLOADS = dict(
    zip(plan.ALL_WORKLOADS, (small, medium, discard, fetch, tree, idle, slow, crowd, account), strict=True)
)


def main() -> int:
    """Returns the exit status: 1 where the smoke run is out of its bounds."""
    options = _options()
    if options.render:
        report.write(results.restore(options.render), options.output or _DOCUMENT)
        return 0
    chosen = _plan(options)
    found = run(chosen)
    if options.save:
        found.save(options.save)
    whole = chosen.name == "full" and chosen.workloads == plan.ALL_WORKLOADS and not options.servers
    if options.output or whole:
        report.write(found, options.output or _DOCUMENT)
    else:
        sys.stdout.write(report.text(found))
    broken = goals.out_of_bounds(found) if options.smoke else []
    for line in broken:
        say(f"out of bounds: {line}")
    return 1 if broken else 0


def run(chosen: plan.Plan) -> results.Results:
    """Measure; whatever happens, nothing of it is left."""
    signal.signal(signal.SIGTERM, _interrupt)
    # Where this is set, programs that run from a checkout are compiled anew at every start, unlike installed ones.
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    procfs.adopt_orphans()
    limits.raise_ours()
    packages.install(chosen.packages)
    room = Room()
    try:
        found = results.Results(machine.describe(chosen.packages))
        bench = Bench(chosen, room, LoadGenerator(room.programs), found)
        for name in chosen.workloads:
            _WORKLOADS[name](bench)
    finally:
        procfs.end(procfs.family(os.getpid())[1:])
        room.remove()
    say("done")
    return found


def _interrupt(_number: int, _frame: object) -> None:
    raise KeyboardInterrupt


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__)
    size = parser.add_mutually_exclusive_group()
    size.add_argument("--quick", action="store_true", help="everything in small, under two minutes")
    size.add_argument("--smoke", action="store_true", help="under a minute, no peers from Debian; fails out of bounds")
    parser.add_argument("--only", metavar="W,W", help=f"of the workloads {', '.join(_WORKLOADS)} only these")
    parser.add_argument("--servers", metavar="S,S", help="of the servers only these")
    parser.add_argument("--rounds", type=int, metavar="N")
    parser.add_argument("--output", type=Path, metavar="FILE", help="the document; else only a full run writes it")
    parser.add_argument("--save", type=Path, metavar="FILE", help="write all that was measured, as JSON")
    parser.add_argument("--render", type=Path, metavar="FILE", help="measure nothing; write the document of a --save")
    return parser.parse_args()


def _plan(options: argparse.Namespace) -> plan.Plan:
    chosen = plan.QUICK if options.quick else plan.SMOKE if options.smoke else plan.FULL
    if options.only:
        chosen = dataclasses.replace(chosen, workloads=_words(options.only, list(_WORKLOADS)))
    if options.servers:
        chosen = dataclasses.replace(chosen, servers=_words(options.servers, list(plan.FULL.servers)))
    if options.rounds:
        chosen = dataclasses.replace(chosen, rounds=options.rounds)
    return chosen


def _words(text: str, known: list[str]) -> tuple[str, ...]:
    words = text.split(",")
    for word in words:
        if word not in known:
            raise SystemExit(f"{word} is not one of {', '.join(known)}")
    return tuple(word for word in known if word in words)


if __name__ == "__main__":
    sys.exit(main())
