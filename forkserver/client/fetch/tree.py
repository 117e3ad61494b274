"""Fetch the items of a plan into a directory, over several connections. Runs in the client."""

from __future__ import annotations

import contextlib
import os
import threading
from typing import TYPE_CHECKING

from forkserver.client.events import Planned, Skipped, WouldFetch
from forkserver.client.fetch.puller import join_briefly
from forkserver.client.fetch.seen import Seen
from forkserver.client.fetch.selection import Item
from forkserver.client.fetch.smallfiles import SmallFiles
from forkserver.client.fetch.worker import Worker
from forkserver.client.local.names import Names, folds_case
from forkserver.client.local.place import NOT_WRITABLE, Place, open_place
from forkserver.client.local.spool import Spool
from forkserver.client.local.target import local_failure, reason_of
from forkserver.client.outcome import Exit, Failure
from forkserver.client.remote.metadata import Metadata
from forkserver.client.remote.session import WINDOW
from forkserver.protocol.messages import Request

if TYPE_CHECKING:
    from collections.abc import Iterator

    from forkserver.client.fetch.sessions import Sessions
    from forkserver.client.fetch.sweep import Sweep
    from forkserver.client.fetch.treestate import TreeState
    from forkserver.client.remote.session import Session


class Tree:
    """Fetches items into the directory of ``state``. ``names`` has the local paths that this run has taken."""

    def __init__(self, state: TreeState, sessions: Sessions, names: Names | None) -> None:
        self._state = state
        self._sessions = sessions
        self._names = names
        self._seen = Seen()

    def fetch(self, items: Iterator[Item | None], top: bytes, sweep: Sweep | None) -> None:
        """Fetch the items, or tell the plan in a dry run. An event tells of each item that cannot be fetched.

        None among ``items`` says that the listing begins anew. ``top`` is the directory that everything goes to,
        relative to the root. ``sweep`` sweeps directories that existed before. Raises Failure if nothing more can be
        fetched: no directory can be written into, the disk is full, or no server answers any more. Raises a Failure of
        ``items`` in the end.
        """
        if self._state.dry:
            self._tell_plan(items)
            return
        self._check_root(top)
        incomplete: Failure | None = None
        with _items_spool() as files, _items_spool() as directories:
            try:
                self._spool(items, files, directories)
            except Failure as failure:
                if failure.exit_status is Exit.LOCAL_DISK:
                    raise  # the spool cannot be read any more
                incomplete = failure
            self._run_workers(files)
            self._finish(directories, None if incomplete else sweep)
        if incomplete is not None:
            raise incomplete

    def _run_workers(self, files: Spool[Item]) -> None:
        """Fetch ``files`` in this thread and in further threads, each over a session of its own."""
        waiting = iter(files)
        others: list[_OtherWorker] = []
        own = self._sessions.first  # the session that listed the tree can fetch, too
        self._state.add(own)
        try:
            for number in range(1, min(self._sessions.connections, -(-len(files) // WINDOW))):
                others.append(_OtherWorker(self._state, self._sessions.open(number), waiting))
                others[-1].thread.start()
            _work(self._state, own, waiting)
        except BaseException as error:
            self._state.stop(error)
            join_briefly([other.thread for other in others])
            raise
        finally:
            own.resume()  # the client uses the session for other names, too
        for other in others:
            other.finish()
        if self._state.stopped_by is not None:
            raise self._state.stopped_by

    def _tell_plan(self, items: Iterator[Item | None]) -> None:
        """Tell what ``fetch`` would do, and change nothing. Raises Failure as ``fetch``."""
        with _items_spool() as files:
            for item in self._unseen(items):
                if item is None:
                    files.clear()
                elif item.data.kind != "dir":
                    files.add(item)
            try:
                place = Place(self._state.root)
            except OSError:  # the directory is missing, or a fetch would tell why the directory cannot be opened
                for item in files:
                    self._state.emit(WouldFetch(item.name, item.path, item.data.size or 0))
                return
            with place:
                Worker(self._state, self._sessions.first, place).run(self._state.take(iter(files)))

    def _check_root(self, top: bytes) -> None:
        """Raise Failure if nothing can be written into the directory ``top``, and the directory is empty.

        A directory that is not empty may contain unchanged files, or directories that can be written into.
        """
        try:
            place = Place(self._state.root)
        except OSError as error:
            raise local_failure(self._state.root, reason_of(error)) from error
        with place:
            if folds_case(place.directory(b"")):
                self._names = self._names or Names()
                self._names.folds_case = True
            try:
                place.check_writable(top)
            except OSError as error:
                something = False
                with contextlib.suppress(OSError):
                    something = place.holds_something(top)
                if error.errno in NOT_WRITABLE and not something:
                    raise place.failure(top, error) from error

    def _unseen(self, items: Iterator[Item | None]) -> Iterator[Item | None]:
        """Yield the items to be fetched, and None where the listing begins anew.

        At None, the caller must drop the items that it has kept: the new listing repeats them.
        """
        for item in items:
            if item is None:
                self._seen.begin_anew()
                yield None
            elif not self._seen.before(item.name):
                if self._claims(item):
                    yield item
                else:
                    self._seen.add(item.name)

    def _claims(self, item: Item) -> bool:
        """Return whether ``item`` is to be fetched: no other item has the same local path. If not, tell why."""
        if item.failure is not None:
            self._state.fail_name(item.name, item.failure)
            return False
        if self._names is not None:
            owner = (self._sessions.servers, item.name)
            if not self._names.claim(item.path, owner, is_directory=item.data.kind == "dir"):
                self._state.fail_name(item.name, local_failure(item.path, self._names.complaint))
                return False
        if item.link:
            if self._names is not None:
                self._names.leave_alone(item.path)
            self._state.emit(Skipped(item.name))
        return not item.link

    def _spool(self, items: Iterator[Item | None], files: Spool[Item], directories: Spool[Item]) -> None:
        """Spool the files to be fetched, make the directories, and write files that came with the listing."""
        size = placed_size = 0
        with open_place(self._state.root, self._state.made) as place:
            small_files = SmallFiles(self._state, place)
            for item in self._unseen(items):
                if item is None:
                    files.clear()
                    directories.clear()
                    size = 0
                elif item.enclosed is not None:
                    small_files.put_enclosed(item, item.enclosed)
                    self._seen.add(item.name)
                    placed_size += item.data.size or 0
                elif item.data.kind == "dir":
                    try:
                        place.directory(item.path)
                    except OSError as error:
                        self._state.fail(item, place.failure(item.path, error))
                        self._seen.add(item.name)
                    directories.add(item)
                else:
                    files.add(item)
                    size += item.data.size or 0
        self._state.emit(Planned(placed_size + size))

    def _finish(self, directories: Spool[Item], sweep: Sweep | None) -> None:
        """Sweep the directories, then set their times: a file made or removed in a directory changes its time."""
        with open_place(self._state.root) as place:
            for item in directories:
                if sweep is not None and item.path not in self._state.made:
                    sweep.look_through(place, item.path, item.name)
                with contextlib.suppress(OSError, OverflowError):  # an event told why the directory could not be made
                    os.utime(place.directory(item.path, create=False), ns=(item.data.mtime_ns, item.data.mtime_ns))
            if sweep is not None:
                for path, name in self._state.found.items():
                    sweep.look_through(place, path, name)
                sweep.look_through(place, b"", None)


def _work(state: TreeState, session: Session, waiting: Iterator[Item]) -> None:
    """Fetch waiting items until none is left. Raises Failure."""
    try:
        with open_place(state.root, state.made) as place:
            Worker(state, session, place).run(state.take(waiting))
    finally:
        session.close()


class _OtherWorker:
    """A further session, and the thread that fetches over it. The thread takes no items before the server answers."""

    def __init__(self, state: TreeState, session: Session, waiting: Iterator[Item]) -> None:
        self._state = state
        self._session = session
        self._waiting = waiting
        self._answered = False
        self.thread = threading.Thread(target=self._run, daemon=True)
        state.add(session)

    def finish(self) -> None:
        """Wait for the items that the thread has taken. No other items are left."""
        if self._answered:
            self.thread.join()
        else:
            self._session.interrupt()

    def _run(self) -> None:
        try:
            self._session.ask(Request("PING"))
            self._answered = True
            _work(self._state, self._session, self._waiting)
        except BaseException as error:  # noqa: BLE001 - the thread that waits for this thread raises it
            # The other workers do not need a session that was never answered.
            if self._answered or not isinstance(error, Failure):
                self._state.stop(error)
        finally:
            self._session.close()


def _items_spool() -> Spool[Item]:
    return Spool(
        lambda item: (item.name, item.path, tuple(item.data)),
        lambda packed: Item(packed[0], packed[1], Metadata(*packed[2])),
    )
