"""Whom the daemon runs as: look the names up, and become that user. Runs in the front and in the daemon."""

from __future__ import annotations

import contextlib
import grp
import os
import pwd
from typing import TYPE_CHECKING

from forkserver.errors import OperatorError
from forkserver.front.configfile import escape

if TYPE_CHECKING:
    from collections.abc import Iterator


class Owner:
    """A user to become: its ``name``, for people, ``uid``, ``gid`` and all ``groups``."""

    def __init__(self, name: str, uid: int, gid: int, groups: list[int]) -> None:
        self.name = name
        self.uid = uid
        self.gid = gid
        self.groups = groups

    def become(self) -> None:
        """Drop from root to this user, for good: real, effective and saved, so that there is no way back.

        Not python-daemon's own way: it either keeps root's supplementary groups, or sets them and keeps root's group.
        """
        os.setgroups(self.groups)
        os.setresgid(self.gid, self.gid, self.gid)
        os.setresuid(self.uid, self.uid, self.uid)

    @contextlib.contextmanager
    def acting(self) -> Iterator[None]:
        """Within, what root does it may do only as far as this user may. No way back is closed."""
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


def find(user: str | None, group: str | None) -> Owner | None:
    """The user named, by name or number; None: nothing is to be changed. Raises OperatorError.

    Without a group it is the user's own, and with a name it has all the groups of that user.
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
    return Owner(entry.pw_name, entry.pw_uid, gid, os.getgrouplist(entry.pw_name, gid))


def _find_group(group: str) -> int:
    try:
        return (grp.getgrgid(int(group)) if group.isdecimal() else grp.getgrnam(group)).gr_gid
    except (KeyError, OverflowError, ValueError):
        raise OperatorError(f"--group: {escape(group)}: there is no such group; see `getent group`") from None
