"""What the report tells of the machine: what the figures depend on, and nothing of whose it is."""

from __future__ import annotations

import os
import platform
import re
import sys
from pathlib import Path

from tests.bench import packages


def describe(wanted: set[str]) -> dict[str, str]:
    """In the order of the report."""
    cpuinfo = Path("/proc/cpuinfo").read_text()
    model = re.search(r"^model name\s*: (.*)$", cpuinfo, re.MULTILINE)
    name = model[1] if model else platform.machine()
    memory_kib = int(Path("/proc/meminfo").read_text().split()[1])
    versions = [f"{package} {packages.version(package)}" for package in sorted(wanted)]
    flags = " with SHA extensions" if " sha_ni" in cpuinfo else " without SHA extensions"
    virtual = ", a virtual machine" if " hypervisor" in cpuinfo else ""
    return {
        "processors": f"{len(os.sched_getaffinity(0))} of {name}{flags}{virtual}",
        "memory": f"{memory_kib / (1 << 20):.0f} GiB",
        "system": f"Linux {platform.release().partition('-')[0]}, {_distribution()}",
        "Python": f"{platform.python_version()}, {_kind()}; the same for this server and for those in Python",
        "peers": ", ".join(versions),
        "kernel settings": ", ".join(f"{name} {_sysctl(name)}" for name in _SETTINGS),
    }


_SETTINGS = ["net.core.somaxconn", "net.ipv4.ip_local_port_range", "net.ipv4.tcp_tw_reuse", "kernel.pid_max"]


def _sysctl(name: str) -> str:
    try:
        return "-".join(Path("/proc/sys", *name.split(".")).read_text().split())
    except OSError:
        return "?"


def _distribution() -> str:
    values = dict(line.split("=", 1) for line in Path("/etc/os-release").read_text().splitlines() if "=" in line)
    return values.get("PRETTY_NAME", "?").strip('"')


def _kind() -> str:
    return "the system's" if sys.base_prefix == "/usr" else "not the system's"
