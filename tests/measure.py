"""Measure which lines of the package the tests run: in their own processes, in servers, in masters and in children.

All processes mark lines in one file that they map into memory, a byte for a line. A child can mark lines although it
may open no file, and nothing is lost when a process is killed. Python's monitoring (PEP 669, Python 3.12) reports each
line once for each process, so the marks cost next to nothing and the programs are those that are shipped.

    python -m tests.measure install              # once: every interpreter of this environment can measure
    FORKSERVER_LINES=FILE pytest                 # measure; FILE is made if it is not there
    FORKSERVER_LINES=FILE python -m tests.measure report && coverage report

With a descriptor as its argument, this program is a measured master.
"""

from __future__ import annotations

import mmap
import os
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import types

TESTS = os.path.dirname(os.path.abspath(__file__))
PACKAGE = os.path.join(os.path.dirname(TESTS), "forkserver")
MEASURING = "FORKSERVER_LINES" in os.environ
_MARKS = 1 << 21


def _files() -> dict[str, tuple[int, int]]:
    """Return for each file of the package where its marks begin and end. A file has no more lines than bytes."""
    found = {}
    end = 0
    paths = [os.path.join(place, name) for place, _, names in os.walk(PACKAGE) for name in names if name[-3:] == ".py"]
    for path in sorted(paths):
        begin, end = end, end + os.stat(path).st_size + 1
        found[path] = (begin, end)
    return found


def _marks() -> mmap.mmap:
    with open(os.open(os.environ["FORKSERVER_LINES"], os.O_RDWR | os.O_CREAT, 0o666), "r+b") as file:
        if not os.stat(file.fileno()).st_size:
            file.truncate(_MARKS)
        # From Python 3.13 on without a descriptor of its own, which a program started without descriptors would notice.
        return mmap.mmap(file.fileno(), _MARKS, **{"trackfd": False} if sys.version_info >= (3, 13) else {})


def begin() -> None:
    """Mark each line of the package that is run by this process, and by those that are forked from this process."""
    monitoring = sys.monitoring  # type: ignore[attr-defined] # newer than the oldest Python that is checked
    if monitoring.get_tool(monitoring.COVERAGE_ID):  # some environments read their files twice
        return
    files = _files()
    try:
        marks = _marks()
    except PermissionError:  # some tests run programs as another user
        return

    def mark(code: types.CodeType, line: int) -> object:
        if code.co_filename in files:
            marks[files[code.co_filename][0] + line] = 1
        return monitoring.DISABLE

    monitoring.use_tool_id(monitoring.COVERAGE_ID, "lines")
    monitoring.register_callback(monitoring.COVERAGE_ID, monitoring.events.LINE, mark)
    monitoring.set_events(monitoring.COVERAGE_ID, monitoring.events.LINE)


def install() -> None:
    """Let every interpreter of this environment measure itself where the environment variable tells it to."""
    import sysconfig  # noqa: PLC0415 - a master must not load it

    path = os.path.join(sysconfig.get_path("purelib"), "forkserver_lines.pth")
    with open(path, "w", encoding="ascii") as file:
        file.write(f"{os.path.dirname(TESTS)}\n")
        file.write("import os; 'FORKSERVER_LINES' in os.environ and __import__('tests.measure').measure.begin()\n")


def report() -> None:
    """Write the marks into the data file of coverage.py, for its reports."""
    import coverage  # noqa: PLC0415 - a master must not load it

    marks = _marks()
    data = coverage.CoverageData()
    data.erase()
    for path, (begin, end) in _files().items():
        data.add_lines({path: [line for line in range(end - begin) if marks[begin + line]]})
    data.write()


def measured_masters() -> None:
    """Let the supervisors of this process start measured masters."""
    from forkserver.supervisor import generation  # noqa: PLC0415 - a master must not load it

    generation.COMMAND = (*generation.COMMAND[:-1], os.path.abspath(__file__))


def _run_master() -> int:
    """Be a master, started as ``supervisor.generation`` starts one."""
    sys.path.append(os.path.dirname(TESTS))
    begin()
    from forkserver.master import __main__  # noqa: PLC0415 - measured from its first line on

    return __main__.main(int(sys.argv[1]))


if __name__ == "__main__":
    commands = {"install": install, "report": report}
    sys.exit(commands.get(sys.argv[1], _run_master)())
