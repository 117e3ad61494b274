"""Write lines to the operator's terminal. Runs in the operator's command and in the supervisor."""

from __future__ import annotations

import contextlib
import sys
import traceback

from forkserver.protocol.printable import escape_unprintable


def escape(text: str) -> str:
    """Return ``text`` fit for one line of a terminal: unprintable characters and backslashes become Python escapes."""
    return escape_unprintable(text, also="\\")


def complain(line: str) -> None:
    """Write ``forkserver: LINE`` to standard error, if it is open."""
    if sys.stderr is not None:
        with contextlib.suppress(OSError):
            sys.stderr.write(f"forkserver: {line}\n")
            sys.stderr.flush()


def warn(line: str) -> None:
    """Write a warning to standard error, if it is open."""
    complain(f"warning: {line}")


def describe_bug(error: Exception) -> str:
    """Return one line about an exception that nobody expected, in place of a traceback."""
    last = traceback.extract_tb(error.__traceback__)[-1]
    what = f"{type(error).__name__}: {escape(str(error))}"
    return f"bug: {what}, at {last.filename}:{last.lineno}; please report it"
