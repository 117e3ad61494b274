"""What the machine must allow for thousands of connections and processes, raised where we may."""

from __future__ import annotations

import resource
from pathlib import Path

_DESCRIPTORS = 65536
_KIB_EACH = 1792
"""A child, its page tables, and what two sockets buffer. Careful: who runs out of memory hits others."""


class MachineTooSmall(Exception):
    """A limit of the machine's is in the way; the text names it and the remedy."""


def raise_ours() -> None:
    """Descriptors and processes, as many as the system allows; what we start inherits it."""
    for limit in (resource.RLIMIT_NOFILE, resource.RLIMIT_NPROC):
        _soft, hard = resource.getrlimit(limit)
        if limit == resource.RLIMIT_NOFILE and hard != resource.RLIM_INFINITY:
            try:
                resource.setrlimit(limit, (_DESCRIPTORS, max(hard, _DESCRIPTORS)))
                continue
            except (ValueError, OSError):
                pass  # without CAP_SYS_RESOURCE the hard limit is as far as it goes
        resource.setrlimit(limit, (hard, hard))


def check_descriptors(wanted: int) -> None:
    """Whether one process can have so many descriptors. Raises MachineTooSmall."""
    soft = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    if soft != resource.RLIM_INFINITY and soft < wanted + 100:
        raise MachineTooSmall(f"RLIMIT_NOFILE is {soft}: raise it above {wanted}")


def check_processes(wanted: int) -> None:
    """Whether so many processes can live at once. Raises MachineTooSmall."""
    pid_max = int(Path("/proc/sys/kernel/pid_max").read_text())
    if wanted > pid_max * 0.8:
        raise MachineTooSmall(f"kernel.pid_max is {pid_max}: `sysctl kernel.pid_max={4 * wanted}`")
    for path in _cgroup_limits():
        text = path.read_text().strip()
        if text != "max" and int(text) < wanted * 1.1:
            raise MachineTooSmall(f"{path} is {text}: raise it above {wanted}")
    memory_kib = available_bytes() // 1024
    if memory_kib < wanted * _KIB_EACH:
        raise MachineTooSmall(f"{memory_kib // 1024} MiB of memory are too few for {wanted} processes")


def _cgroup_limits() -> list[Path]:
    """pids.max of our control group and those above it, in either version's hierarchy."""
    found = []
    for line in Path("/proc/self/cgroup").read_text().splitlines():
        _number, controllers, path = line.split(":", 2)
        if controllers and "pids" not in controllers.split(","):
            continue
        base = Path("/sys/fs/cgroup/pids" if controllers else "/sys/fs/cgroup")
        group = base / path.lstrip("/")
        while group != base.parent:
            found += [group / "pids.max"] if (group / "pids.max").is_file() else []
            group = group.parent
    return found


def available_bytes() -> int:
    """Memory that can be had without swapping."""
    for line in Path("/proc/meminfo").read_text().splitlines():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) * 1024
    return 0
