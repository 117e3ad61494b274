"""Write results and failures: lines for people, or one JSON object a line for programs. Runs in the client."""

from __future__ import annotations

import contextlib
import sys
from typing import TYPE_CHECKING

from forkserver.client import display
from forkserver.client.command import statusline
from forkserver.client.local.output import check_output, output_complaints
from forkserver.client.outcome import Exit, Failure

if TYPE_CHECKING:
    from forkserver.client.events import Fetched, Useless
    from forkserver.client.outcome import Receipt, Served
    from forkserver.client.remote.address import Location
    from forkserver.client.remote.listing import Listed
    from forkserver.client.remote.metadata import Metadata


_MOST_SHOWN_BYTES = 200
"""Most bytes shown of an entry of a list, which may be no name at all."""


def complain(text: str) -> None:
    """Write one line to standard error, unless that is closed."""
    if sys.stderr is not None:
        with contextlib.suppress(OSError), statusline.aside():
            sys.stderr.write(f"fsget: {text}\n")
            sys.stderr.flush()


def flush() -> None:
    """Write out the lines that standard output buffers. Raises Failure."""
    with output_complaints():
        if sys.stdout is not None:
            sys.stdout.flush()


class Report:
    """Writes results to standard output and failures to standard error. ``worst`` is the worst exit status.

    ``as_json``: write results and failures as JSON objects, one a line, too. ``quiet``: write no lines about success.
    ``to_stderr``: write results to standard error, because standard output takes a content.
    """

    def __init__(self, *, as_json: bool, quiet: bool, to_stderr: bool) -> None:
        self._as_json = as_json
        self._quiet = quiet
        self._to_stderr = to_stderr
        self.worst = Exit.OK

    def fetched(self, location: Location, receipt: Receipt, place: bytes | None, path: bytes | None = None) -> None:
        """Report a named file that is here, whole and verified.

        ``place`` is where the file is, or None if it has its own name in this directory. ``path``, of a file that came
        together with others, is relative to the target directory.
        """
        self._fetched_object(location.shown, receipt, path)
        went = f" -> {display.escape(place)}" if place is not None else ""
        self._for_people(f"{display.escape(location.shown)}{went}: {_in_words(receipt)}")
        flush()

    def fetched_of_tree(self, event: Fetched, *, verbose: bool) -> None:
        """Report one file of a tree: to people only if ``verbose``."""
        self._fetched_object(event.name, event.receipt, event.path)
        if verbose:
            self._for_people(f"{display.escape(event.path)}: {_in_words(event.receipt)}")

    def planned(self, name: bytes, path: bytes, size: int) -> None:
        """Report a file that a dry run would fetch."""
        self._object(name, None, "would-fetch", {"path": display.decode(path), "size": size})
        self._for_people(f"{display.escape(path)}: {display.counted(size, 'byte')}, would be fetched")

    def deleted(self, path: bytes, *, dry: bool) -> None:
        """Report a local path that was deleted, or would be in a dry run, because the server does not have it."""
        self._object(path, None, "would-delete" if dry else "deleted", {"path": display.decode(path)})
        did = "would be deleted" if dry else "deleted"
        self._for_people(f"{display.escape(path)}: {did}, the server does not have it")

    def useless(self, event: Useless) -> None:
        """Report a local part of a file that the server does not have any more."""
        self._object(event.path, None, "useless", {"path": display.decode(event.path), "size": event.size})
        self.note(
            f"{display.escape(event.path)}: {display.count(event.size)} bytes on the disk, a part of "
            f"{display.escape(event.source)}, which the server does not have any more; "
            "remove it, or use -r --delete --confirm-delete"
        )

    def note(self, text: str) -> None:
        """Write a line that only people need."""
        if not (self._as_json or self._quiet):
            complain(text)

    def verified(self, name: bytes, digest: str, seconds: float) -> None:
        """Report to programs a local file that is right. ``digest`` is ``sha256:`` and hexadecimal digits."""
        self._object(name, None, "ok", {"digest": digest, "seconds": round(seconds, 6)})

    def concluded(self, text: str) -> None:
        """Write the conclusion of a run or of a tree, in one line for people."""
        self._for_people(text)
        flush()

    def described(self, location: Location, data: Metadata, served: Served) -> None:
        """Report the metadata of one name."""
        if self._as_json:
            self._object(location.shown, served, "ok", _facts(data))
        else:
            size = "directory" if data.size is None else display.counted(data.size, "byte")
            etag = f"etag {data.etag}, " if data.etag else ""
            self._line(
                f"{display.escape(location.shown)}: {size}, modified {display.local_time(data.mtime_ns)}, "
                f"{data.permissions}, {etag}served by PID {served.pid}"
            )
        flush()

    def entry(self, location: Location, entry: Listed, served: Served) -> None:
        """Report an entry of the listing of ``location``. People read its name in the form they wrote ``location`` in.

        An entry that the server could not read makes the run a failure, but does not end the listing.
        """
        if self._as_json:
            facts = _facts(entry.data) | ({"link": True} if entry.link else {})
            self._object(entry.name, served, entry.error or "ok", facts)
        else:
            size = "-" if entry.data.size is None else display.count(entry.data.size)
            mark = "/" if entry.data.kind == "dir" else ""
            mark += " (link)" if entry.link else ""
            mark += f" [{entry.error}]" if entry.error else ""
            time, name = display.local_time(entry.data.mtime_ns), display.escape(location.written(entry.name))
            self._line(f"{entry.data.permissions} {size:>15} {time} {name}{mark}")
        if entry.error:
            self.worst = max(self.worst, Exit.REFUSED)

    def failed(
        self, name: bytes, failure: Failure, seconds: float, shown: bytes | None = None, *, where: str = ""
    ) -> None:
        """Report that ``name`` could not be fetched, described or listed. People read ``shown`` instead, if given.

        ``where`` is the place of the name in a list.
        """
        self.worst = max(self.worst, failure.exit_status)
        flush()
        shown = name if shown is None else shown
        complain(f"{where}{display.escape(shown[:_MOST_SHOWN_BYTES] if where else shown)}: {failure}")
        self._object(name, failure.served, failure.word, {"seconds": round(seconds, 6), "message": failure.reason})
        flush()

    def closed(self, shown: bytes, failure: Failure) -> None:
        """Report to people a local directory that nothing can be written into. ``left_out`` reports to programs."""
        self.worst = max(self.worst, failure.exit_status)
        flush()
        complain(f"{display.escape(shown)}: {failure}; what belongs there is left out")

    def left_out(self, shown: bytes, failure: Failure, facts: dict[str, object]) -> None:
        """Report to programs a name that was not fetched for a reason that people have read."""
        self.worst = max(self.worst, failure.exit_status)
        self._object(shown, None, failure.word, {"seconds": 0, **facts, "message": failure.reason})

    def _fetched_object(self, name: bytes, receipt: Receipt, path: bytes | None) -> None:
        if not self._as_json:  # a tree can have very many files: do not collect facts that nobody reads
            return
        facts: dict[str, object] = {} if path is None else {"path": display.decode(path)}
        facts |= {
            "size": receipt.size,
            "received": receipt.received,
            "kept": receipt.kept,
            "digest": receipt.digest,
            "seconds": round(receipt.seconds, 6),
            "pids": [served.pid for served in receipt.served],
            "servers": list(dict.fromkeys(served.server for served in receipt.served)),
        }
        last = receipt.served[-1] if receipt.served else None
        self._object(name, last, "unchanged" if receipt.unchanged else "ok", facts)

    def _object(self, shown: bytes, served: Served | None, status: str, facts: dict[str, object]) -> None:
        """Write a JSON object for programs."""
        if not self._as_json:
            return
        import json  # noqa: PLC0415 - people do without it

        head: dict[str, object] = {"name": display.decode(shown), "status": status}
        if served is not None:
            head |= {"pid": served.pid, "start": served.start}
        # DEL is the one control character that JSON leaves as it is.
        self._line(json.dumps(head | facts).replace("\x7f", "\\u007f"))

    def _for_people(self, text: str) -> None:
        """Write a line about success for people."""
        if not (self._as_json or self._quiet):
            self._line(text)

    def _line(self, text: str) -> None:
        with output_complaints():
            if not self._to_stderr:
                check_output()
            stream = sys.stderr if self._to_stderr else sys.stdout
            if stream is not None:
                with statusline.aside():
                    stream.write(text + "\n")


def _in_words(receipt: Receipt) -> str:
    size = display.counted(receipt.size, "byte")
    if receipt.unchanged:
        asked = f" (asked {display.processes(receipt.served[:1])})" if receipt.served else ""
        return f"{size}, unchanged, nothing fetched{asked}"
    return (
        f"{size}{f', {display.count(receipt.kept)} of them here before' if receipt.kept else ''}"
        f"{', begun anew, the file on the server has changed' if receipt.began_anew else ''}"
        f", sha256 verified, {receipt.seconds:.2f} s, served by {display.processes(receipt.served)}"
    )


def _facts(data: Metadata) -> dict[str, object]:
    facts = {"type": data.kind, "size": data.size, "mtime": data.mtime, "mode": data.mode, "etag": data.etag}
    return {key: value for key, value in facts.items() if value is not None}
