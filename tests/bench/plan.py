"""How much is measured: everything, in two minutes, or in the minute that CI has."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from tests.bench import debian, own
from tests.bench.files import GIB, MIB

if TYPE_CHECKING:
    from collections.abc import Iterable

_ALL = [*own.OURS, *own.PEERS, *debian.PEERS]
BY_NAME = {peer.name: peer for peer in [*_ALL, own.CROWD]}
_QUICK = "plain spares pooled c-fork c-pool forking nginx apache busybox rsyncd vsftpd tcpserver"
_SMOKE = "plain spares pooled c-fork c-pool forking"


@dataclasses.dataclass(frozen=True)
class Plan:
    """``servers`` limits what is measured in the workloads that compare; ``seconds`` is of one measurement.

    ``idle_servers``: of those, the only ones whose memory is measured; none: all.
    """

    name: str
    servers: tuple[str, ...]
    workloads: tuple[str, ...]
    rounds: int = 3
    seconds: float = 1.5
    warmup_s: float = 0.4
    grace_s: float = 5.0
    settle_s: float = 0.3
    clients: tuple[int, ...] = (1, 16, 128, 512)
    big_bytes: int = 2 * GIB
    tree_files: int = 10_000
    idle: int = 1000
    idle_servers: tuple[str, ...] = ()
    slow: tuple[int, ...] = (5000, 10_000)
    slow_bytes_s: int = 32 << 10
    crowd: int = 5000
    account: int = 1000

    def peers(self, names: Iterable[str]) -> list[str]:
        """Those of ``names`` that are to be measured."""
        return [name for name in names if name in self.servers]

    @property
    def packages(self) -> set[str]:
        """Debian's, that must be there."""
        found = {BY_NAME[name].package for name in self.servers} - {None}
        clients = {"wget", "curl", "rsync"} if {"fetch", "tree"} & set(self.workloads) else set()
        watchers = {"strace", "linux-perf"} if "account" in self.workloads else set()
        return {"gcc", "libc6-dev", *watchers, *(package for package in found if package), *clients}


ALL_WORKLOADS = ("small", "medium", "discard", "fetch", "tree", "idle", "slow", "crowd", "account")

FULL = Plan("full", tuple(peer.name for peer in _ALL), ALL_WORKLOADS)
QUICK = Plan(
    "quick",
    tuple(_QUICK.split()),
    ALL_WORKLOADS,
    rounds=2,
    seconds=0.3,
    warmup_s=0.1,
    grace_s=2.0,
    settle_s=0.1,
    clients=(1, 16, 512),
    big_bytes=256 * MIB,
    tree_files=2000,
    idle=200,
    idle_servers=("plain", "c-fork", "forking", "rsyncd"),
    slow=(500,),
    slow_bytes_s=512 << 10,
    crowd=500,
    account=200,
)
SMOKE = Plan(
    "smoke",
    tuple(_SMOKE.split()),
    ("small", "discard", "idle", "slow"),
    rounds=2,
    seconds=0.5,
    warmup_s=0.2,
    settle_s=0.2,
    clients=(16, 512),
    big_bytes=256 * MIB,
    idle=200,
    idle_servers=("plain",),
    slow=(200,),
    slow_bytes_s=256 << 10,
)
