"""What a client says and what it must hear, for each protocol: the arguments of the load generator."""

from __future__ import annotations

import dataclasses


@dataclasses.dataclass(frozen=True)
class Script:
    """One request and its reply: a head up to ``head_end`` that holds ``head_has``, the content, ``tail``.

    ``until_eof``: the reply is complete only when the server has closed; else the client closes.
    """

    send: str
    head_end: str
    head_has: str = ""
    body_bytes: int = 0
    tail: str = ""
    until_eof: bool = False

    @property
    def arguments(self) -> list[str]:
        """For the load generator's command line."""
        texts = [("-s", self.send), ("-h", self.head_end), ("-H", self.head_has), ("-T", self.tail)]
        found = [part for option, text in texts if text for part in (option, _escape(text))]
        return [*found, "-b", str(self.body_bytes), *(["-e"] if self.until_eof else [])]


def _escape(text: str) -> str:
    return text.replace("\\", "\\\\").replace("\n", "\\n").replace("\r", "\\r")


def native(name: str, body_bytes: int) -> Script:
    """Our ``GET``: reply line, content, trailer; then the client closes."""
    return Script(f"GET /{name}\n", "\n", "FS1 200 ", body_bytes, "FS1 END ok\n")


def http(name: str, body_bytes: int) -> Script:
    """``GET`` of HTTP/1.0, whose server closes."""
    return Script(f"GET /{name} HTTP/1.0\r\nHost: bench\r\n\r\n", "\r\n\r\n", " 200 ", body_bytes, until_eof=True)


def exercise(name: str, body_bytes: int) -> Script:
    """The lab exercise's: a name, who you are, that it exists, content, end-of-file."""
    return Script(name, "file-exists", "", body_bytes, until_eof=True)


def rsync_list(_name: str, _body_bytes: int) -> Script:
    """The list of an rsync daemon's modules: greetings, and no content at all."""
    return Script("@RSYNCD: 31.0\n#list\n", "@RSYNCD: EXIT\n", "files", until_eof=True)


def ftp_greeting(_name: str, _body_bytes: int) -> Script:
    """The line an FTP server greets with, and no content at all."""
    return Script("", "\r\n", "220 ")
