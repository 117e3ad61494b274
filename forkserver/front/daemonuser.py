"""The user that the daemon runs as: look the user up, check what the user may do, become the user.

Runs in the operator's command and in the supervisor.
"""

from __future__ import annotations

import contextlib
import encodings
import grp
import os
import pwd
import sys
from collections.abc import Iterator
from typing import NamedTuple

from forkserver.errors import OperatorError
from forkserver.front.terminal import escape

_PACKAGE = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
_INSTALL_ELSEWHERE = (
    "install forkserver with the system's own Python where every user can read it, beneath /opt for instance"
)


class DaemonUser(NamedTuple):
    """A user to become: ``name`` for messages, ``uid``, ``gid`` and all ``groups``."""

    name: str
    uid: int
    gid: int
    groups: list[int]

    def become(self) -> None:
        """Drop from root to this user for good: set the real, effective and saved IDs.

        python-daemon is not used for this: it either keeps root's supplementary groups or keeps root's group.
        """
        os.setgroups(self.groups)
        os.setresgid(self.gid, self.gid, self.gid)
        os.setresuid(self.uid, self.uid, self.uid)

    @contextlib.contextmanager
    def acting(self) -> Iterator[None]:
        """Give root only this user's rights within the ``with`` block. root gets its own rights back afterwards."""
        groups, gid = os.getgroups(), os.getegid()
        os.setgroups(self.groups)
        os.setegid(self.gid)
        os.seteuid(self.uid)
        try:
            yield
        finally:
            os.seteuid(0)
            os.setegid(gid)
            os.setgroups(groups)

    def check_access(self, root: str) -> None:
        """Raise OperatorError unless this user can run this Python with this package, and enter ``root``.

        Without the check the user's first failed import would end the daemon with a message of Python's.
        """
        master = os.path.join(_PACKAGE, "master", "__main__.py")
        modules = {os.path.realpath(path) for path in (os.__file__, encodings.__file__, master)}
        with self.acting():
            # A symbolic link and its destination may lie in different directories, so both are checked.
            for path in sorted({sys.executable, os.path.realpath(sys.executable)}):
                self._require(path, os.X_OK, "run", _INSTALL_ELSEWHERE)
            for path in sorted({os.path.dirname(module) for module in modules}):
                self._require(path, os.R_OK | os.X_OK, "read", _INSTALL_ELSEWHERE)
            for path in sorted(modules):
                self._require(path, os.R_OK, "read", _INSTALL_ELSEWHERE)
            self._require(root, os.X_OK, "enter", "give it the right to, or serve another directory", "root: ")

    def _require(self, path: str, mode: int, verb: str, remedy: str, place: str = "") -> None:
        """Raise OperatorError unless ``mode`` is allowed; it names the first parent of ``path`` that is closed."""
        user = f"user {escape(self.name)}"
        parts = path.split("/")
        for count in range(1, len(parts)):
            parent = "/".join(parts[:count]) or "/"
            if not os.access(parent, os.X_OK, effective_ids=True):
                complaint = f"{user} may not enter it, so it cannot {verb} {escape(path)}"
                raise OperatorError(f"{place}{escape(parent)}: {complaint}; {remedy}")
        if not os.access(path, mode, effective_ids=True):
            raise OperatorError(f"{place}{escape(path)}: {user} may not {verb} it; {remedy}")


def find(user: str | None, group: str | None) -> DaemonUser | None:
    """Return the user to become, given by name or number, or None where this process already is that user.

    Without ``group`` the group is the user's own. The user gets all supplementary groups. Raises OperatorError.
    """
    if user is None:
        if group is not None:
            raise OperatorError("--group: needs --user; name the user too")
        return None
    try:
        entry = pwd.getpwuid(int(user)) if user.isdecimal() else pwd.getpwnam(user)
    except (KeyError, OverflowError, ValueError):
        raise OperatorError(f"--user: {escape(user)}: there is no such user; see `getent passwd`") from None
    gid = entry.pw_gid if group is None else _find_group(group)
    if os.geteuid() != 0:
        if (entry.pw_uid, gid) != (os.geteuid(), os.getegid()):
            raise OperatorError(f"--user: {escape(user)}: only root can become another user; start it as that user")
        return None
    return DaemonUser(entry.pw_name, entry.pw_uid, gid, os.getgrouplist(entry.pw_name, gid))


def _find_group(group: str) -> int:
    try:
        return (grp.getgrgid(int(group)) if group.isdecimal() else grp.getgrnam(group)).gr_gid
    except (KeyError, OverflowError, ValueError):
        raise OperatorError(f"--group: {escape(group)}: there is no such group; see `getent group`") from None
