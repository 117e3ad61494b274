"""A master under coverage: not isolated, and without Landlock, for a child that exits must write its data."""

from __future__ import annotations

import sys

import coverage

coverage.process_startup()

from forkserver.kernel import prctl  # noqa: E402 - measured from its first line on
from forkserver.master import __main__, confine  # noqa: E402 - likewise


def lock_in(root_fd: int) -> int:  # noqa: ARG001 - the signature of what it stands in for
    prctl.set_no_new_privs()
    return 0


confine.lock_in = lock_in
sys.exit(__main__.main(int(sys.argv[1])))
