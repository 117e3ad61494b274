"""The peers from Debian: installed where they are missing, without a service of theirs ever being started."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

from tests.bench.say import say

_POLICY = Path("/usr/sbin/policy-rc.d")
_SERVICES = {"nginx": "nginx", "lighttpd": "lighttpd", "rsync": "rsync", "vsftpd": "vsftpd"}


def install(packages: set[str]) -> None:
    """Install those that are missing; what they would start, and start at every boot, stays off."""
    missing = sorted(package for package in packages if version(package) is None)
    if not missing:
        return
    if os.geteuid() != 0 or not shutil.which("apt-get"):
        raise SystemExit(f"install these first, or run as root on Debian: {' '.join(missing)}")
    say(f"installing {' '.join(missing)}")
    with _NoServices():
        _apt_get("update")
        _apt_get("install", "-y", "--no-install-recommends", *missing)
    if Path("/run/systemd/system").is_dir():
        units = [f"{_SERVICES[package]}.service" for package in missing if package in _SERVICES]
        if units:
            subprocess.run(["systemctl", "disable", "--now", "-q", *units], check=False)


def version(package: str) -> str | None:
    """Of an installed package; None: it is not installed."""
    command = ["dpkg-query", "-W", "-f", "${db:Status-Status} ${Version}", package]
    try:
        found = subprocess.run(command, capture_output=True, text=True, check=False).stdout.partition(" ")
    except FileNotFoundError:
        return None  # no Debian
    return found[2] if found[0] == "installed" else None


def _apt_get(*arguments: str) -> None:
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    subprocess.run(["apt-get", "-qq", *arguments], check=True, stdout=subprocess.DEVNULL, env=environment)


class _NoServices:
    """While packages are installed, invoke-rc.d(8) is told by a policy to start nothing."""

    def __enter__(self) -> None:
        self._ours = not _POLICY.exists()
        if self._ours:
            _POLICY.write_text("#!/bin/sh\nexit 101\n")
            _POLICY.chmod(0o755)

    def __exit__(self, *_exception: object) -> None:
        if self._ours:
            _POLICY.unlink(missing_ok=True)
