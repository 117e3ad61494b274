"""Reload the settings and reopen the log, one request after the other. Runs in the supervisor."""

from __future__ import annotations

import time
from collections.abc import Callable

from forkserver.errors import OperatorError
from forkserver.logline import Log
from forkserver.settings import Settings
from forkserver.supervisor import listener
from forkserver.supervisor.generations import Generations
from forkserver.supervisor.listener import Listeners
from forkserver.supervisor.operator import RELOAD, REOPEN, STATUS, Answer
from forkserver.supervisor.systemd import Notifier

_MAX_REQUESTS = 64


def ignore_result(result: OperatorError | str) -> None:
    """Ignore the result of a request for whose answer nobody waits, such as a signal."""


class ReloadQueue:
    """Requests of operators and signals: ``RELOAD``, ``REOPEN`` and ``STATUS``.

    A request that comes during a reload waits for the end of that reload, which may have read older settings. Then one
    reload serves all that wait for a reload, and one reopening serves all that wait for a reopening.

    ``load`` and ``reopen_log`` are those of ``supervise.main``. ``adopted`` are the sockets that were passed at the
    start, None if the server bound its own.
    """

    def __init__(  # noqa: PLR0913 - the parts of the supervisor, each once
        self,
        masters: Generations,
        load: Callable[[], Settings],
        reopen_log: Callable[[], None] | None,
        log: Log,
        *,
        notifier: Notifier,
        adopted: Listeners | None,
    ) -> None:
        self._masters = masters
        self._load = load
        self._reopen_log = reopen_log
        self._log = log
        self._notifier = notifier
        self._adopted = adopted
        self._answers: dict[bytes, list[Answer]] = {RELOAD: [], REOPEN: []}
        """The functions that answer the waiting requests, by the word of the request."""

    def handle(self, word: bytes, answer: Answer) -> None:
        """Answer a request, now or when it is done. ``RELOAD`` and ``REOPEN`` wait for ``start_next``."""
        if word == STATUS:
            answer(self._masters.status)
        elif word not in self._answers:
            answer(OperatorError("only `reload`, `reopen` and `status` can be asked for"))
        elif sum(map(len, self._answers.values())) == _MAX_REQUESTS:
            answer(OperatorError(f"{_MAX_REQUESTS} requests wait for a reload already; try again when it has ended"))
        else:
            self._answers[word].append(answer)

    def start_next(self) -> None:
        """Start what is queued, unless a reload is under way. A reload also reopens the log, so it goes first."""
        word = RELOAD if self._answers[RELOAD] else REOPEN
        answers = self._answers[word]
        if not answers or self._masters.reloading:
            return
        self._answers[word] = []

        def answer_all(result: OperatorError | str) -> None:
            for answer in answers:
                answer(result)

        start = self._start_reload if word == RELOAD else self._start_reopening
        start(answer_all)

    def warn_of_unused_addresses(self, settings: Settings) -> str:
        """Log a warning if the settings name addresses that are not used; return the warning, or an empty text."""
        warning = "" if self._adopted is None else listener.unused_addresses(settings, self._adopted)
        if warning:
            self._log.event("warning", reason=warning)
        return warning

    def _start_reload(self, answer: Answer) -> None:
        """Reopen the log, read the settings and start a master with them."""

        def finish(error: OperatorError | None) -> None:
            warning = ""
            if error:
                self._log.event("reload-failed", reason=str(error))
                if complaint:
                    error = OperatorError(f"{error}; {complaint}")
                elif self._masters.log_is_old:
                    # The old settings stay in force, but their master must write to the new file.
                    self.handle(REOPEN, ignore_result)
            else:
                unused = self.warn_of_unused_addresses(self._masters.settings)
                warning = "; ".join([each for each in (complaint, unused) if each])
            # Send the status before the answers: an operator who has the answer may look at the status at once.
            self._notifier.status(self._masters.status, time.monotonic(), at_once=True)
            self._notifier.ready()
            answer(error or warning)

        complaint = self._renew_log()
        self._notifier.reloading()
        try:
            self._masters.reload(self._load(), adopted=self._adopted is not None, finish=finish)
        except OperatorError as error:
            finish(error)

    def _start_reopening(self, answer: Answer) -> None:
        """Reopen the log file. If the path names another file now, start a master that writes to the new one.

        Masters and children cannot open files; they inherit the log. The settings in force stay.
        """

        def finish(error: OperatorError | None) -> None:
            if error:
                self._log.event("warning", reason=f"new connections are still logged in the old file: {error}")
            answer(error or "")

        if self._reopen_log is None:
            answer(OperatorError("this server has no log file to reopen; start it with --log-file"))
        elif complaint := self._renew_log():
            answer(OperatorError(complaint))
        elif self._masters.shutting_down or not self._masters.log_is_old:
            answer("")
        else:
            try:
                # adopted=True keeps the sockets in use.
                self._masters.reload(self._masters.settings, adopted=True, finish=finish)
            except OperatorError as error:
                finish(error)

    def _renew_log(self) -> str:
        """Reopen the log if it is a file. If that fails, log the complaint and return it."""
        try:
            if self._reopen_log:
                self._reopen_log()
        except OperatorError as error:
            self._log.event("warning", reason=str(error))
            return str(error)
        return ""
