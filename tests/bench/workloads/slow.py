"""Thousands of slow transfers at once, each its own process; and connections a second beside thousands of idle ones."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from tests.bench import files, limits, procfs, script
from tests.bench.load import Load
from tests.bench.say import say
from tests.bench.workloads import holding

if TYPE_CHECKING:
    from tests.bench.bench import Bench

SLOW, CROWD = "slow transfers", "beside idle children"
_OPENS_PER_S = 800
_PATIENCE_S = 300.0
_CROWD_CLIENTS = 16
_LOOK_S = 1.0


def slow(bench: Bench) -> None:
    """All must finish; how busy is the master meanwhile?"""
    for round_ in range(bench.plan.rounds):
        for count in bench.plan.slow:
            say(f"{count} {SLOW}, round {round_ + 1} of {bench.plan.rounds}")
            try:
                limits.check_descriptors(count)
                limits.check_processes(count)
            except limits.MachineTooSmall as error:
                say(f"left out: {error}")
                continue
            bench.results.add(SLOW, "crowd", count, round_, _slow(bench, count))


def _slow(bench: Bench, count: int) -> dict[str, float]:
    size = files.SIZES[files.SLOW]
    load = Load(count, _PATIENCE_S, 0, 0, slow_bytes_s=bench.plan.slow_bytes_s, opens_per_s=_OPENS_PER_S)
    with bench.running(["crowd"]) as servers:
        holding.stable(servers["crowd"])  # the kernel accepts connections before there is a master
        master = holding.master_pid(servers["crowd"])
        began, cpu_before_s = time.monotonic(), procfs.cpu_s(master)
        process = bench.generator.start(servers["crowd"], script.native(files.SLOW, size), load)
        most = 0
        while process.poll() is None:
            most = max(most, len(procfs.children(master)))
            time.sleep(_LOOK_S)
        elapsed_s = time.monotonic() - began
        master_cpu_s = procfs.cpu_s(master) - cpu_before_s
        values = bench.generator.result(process, load)
    return {**values, "most": float(most), "elapsed_s": elapsed_s, "master_share": master_cpu_s / elapsed_s}


def crowd(bench: Bench) -> None:
    """1 KiB with 16 clients: alone, then beside idle connections with a child each."""
    plan = bench.plan
    limits.check_descriptors(plan.crowd)
    limits.check_processes(plan.crowd)
    load = Load(_CROWD_CLIENTS, plan.seconds, plan.warmup_s, plan.grace_s)
    asked = script.native(files.SMALL, files.SIZES[files.SMALL])
    with bench.running(["crowd"]) as servers:
        server = servers["crowd"]
        holding.stable(server)
        alone = len(server.pids)
        for round_ in range(plan.rounds):
            say(f"{CROWD}, round {round_ + 1} of {plan.rounds}")
            bench.results.add(CROWD, "crowd", 0, round_, bench.generator.run(server, asked, load))
            with holding.connections(server, plan.crowd):
                bench.results.add(CROWD, "crowd", plan.crowd, round_, bench.generator.run(server, asked, load))
            holding.stable(server, alone)
