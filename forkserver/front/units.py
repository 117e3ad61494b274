"""Write the systemd units, with the paths of this installation. Runs in the operator's command."""

from __future__ import annotations

import os
import re
import sys
import sysconfig

from forkserver.errors import OperatorError

_SHIPPED_BIN = "/opt/forkserver/bin"
_UNITS = "etc/systemd/system"
_CONFIGURATION = "etc/forkserver"
_PLACES = {
    "forkserver.service": _UNITS,
    "forkserver.socket": _UNITS,
    "forkserver.toml": _CONFIGURATION,
}
# A path that needs no quoting in a unit file, systemd.syntax(7).
_PLAIN = re.compile(r"/[A-Za-z0-9_./+-]*\Z")
_HIDDEN = ("/root", "/home", "/run/user", "/tmp", "/var/tmp")  # noqa: S108 - by ProtectHome= and PrivateTmp=
_HERE = os.path.dirname(os.path.abspath(__file__))
# In an installation the units are in the package, in a checkout beside it.
_SOURCES = (os.path.join(_HERE, "systemd"), os.path.join(os.path.dirname(os.path.dirname(_HERE)), "systemd"))


def write(prefix: str) -> list[str]:
    """Write units and sample configuration beneath ``prefix``; return a line for each file.

    Existing units are replaced, because an operator's changes to units are drop-ins. An existing configuration is left
    alone. Raises OperatorError.
    """
    scripts = sysconfig.get_path("scripts")
    if not _PLAIN.match(scripts):
        raise OperatorError(f"{scripts!r}: a unit cannot name this path plainly; install beneath /opt")
    lines = []
    before = os.umask(0o022)  # the service's user must be able to enter the new directories
    try:
        for name, place in _PLACES.items():
            target = os.path.join(prefix, place, name)
            if place == _CONFIGURATION and os.path.exists(target):
                lines.append(f"{target}: left as it is")
            else:
                _write(target, _read(name).replace(_SHIPPED_BIN, scripts))
                lines.append(f"{target}: written")
    finally:
        os.umask(before)
    return lines


def _read(name: str) -> str:
    for directory in _SOURCES:
        try:
            with open(os.path.join(directory, name), encoding="utf-8") as file:
                return file.read()
        except FileNotFoundError:
            continue
    raise OperatorError(f"{_SOURCES[0]}: {name} is missing; install forkserver anew")


def _write(path: str, text: str) -> None:
    fresh = path + ".new"
    try:
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(fresh, "w", encoding="utf-8") as file:
            os.fchmod(file.fileno(), 0o644)
            file.write(text)
        os.replace(fresh, path)
    except OSError as error:
        raise OperatorError(f"{path}: cannot be written: {error.strerror}; see --prefix") from error


def passes_sockets(config: str) -> bool:
    """Whether the service that runs with the configuration file ``config`` gets its sockets from systemd.

    Look for the path in the installed unit, as ``write`` makes it. Return False if the unit cannot be read.
    """
    try:
        with open(os.path.join("/", _UNITS, "forkserver.service"), encoding="utf-8") as file:
            commands = [line for line in file if line.startswith("ExecStart=")]
    except (OSError, ValueError):
        return False
    named = any(os.path.abspath(config) in command.split() for command in commands)
    return named and os.path.exists(os.path.join("/", _UNITS, "forkserver.socket"))


def warnings() -> list[str]:
    """Return a line for each reason why the units could not run this installation."""
    remedy = "install forkserver with the system's own Python (/usr/bin/python3 -m venv), beneath /opt for instance"
    places = {os.path.realpath(path) for path in (sysconfig.get_path("scripts"), _HERE, sys.base_prefix)}
    return [
        f"{place}: the service cannot use what is in {top}: its unit hides that; {remedy}"
        for place in sorted(places)
        for top in _HIDDEN
        if place.startswith(f"{top}/")
    ]
