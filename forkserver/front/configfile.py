"""The configuration file: TOML to ``Settings`` and back. Runs in the front; it never opens a socket.

Whatever is wrong becomes one ``OperatorError``: a line that names the place (file and line, or option), the setting,
its value and the remedy.
"""

from __future__ import annotations

import difflib
import json
import os
import pwd
import re
import tomllib
from typing import TYPE_CHECKING, Any

from forkserver.errors import OperatorError
from forkserver.protocol.printable import escape_char
from forkserver.settings import FIELDS, Settings
from forkserver.supervisor import address

if TYPE_CHECKING:
    from collections.abc import Mapping

    from forkserver.settings import Value

MAX_FILE_BYTES = 65536
"""A longer file is not a configuration; also bounds the work of finding the line of a complaint."""
_SHORT = {"\n": r"\n", "\r": r"\r", "\t": r"\t"}
_MAX_BITS = 63  # TOML's own bound of a whole number; Python would take any


def load(path: str | None, options: Mapping[str, Value]) -> Settings:
    """Settings from the defaults, then the file ``path`` (None: no file), then ``options`` of the command line.

    ``options`` maps names of ``FIELDS`` to values. ``root`` comes out absolute: a relative one starts at the file's
    directory if the file names it, else at the working directory. Raises OperatorError.
    """
    source = _Source(path, options)
    for name, value in source.values.items():
        if name not in FIELDS:
            raise source.error(name, _unknown(name))
        if type(value) is int and value.bit_length() > _MAX_BITS:
            raise source.error(name, "the number is too large; lower it")
    try:
        settings = Settings(**source.values)
    except (TypeError, ValueError) as error:
        name, _, complaint = str(error).partition(": ")
        raise source.error(name, complaint + _list_of_one(name, source.values.get(name))) from None
    _check_bind(source, settings)
    root = _absolute_root(source, settings.root)
    return Settings(**(source.values | {"root": root}))


def dump(settings: Settings) -> str:
    """The settings as a file that ``load`` reads back, each under its meaning.

    What is derived from other settings stays so, and is told in the comment. Raises OperatorError for a root that is
    not UTF-8: no TOML can hold it.
    """
    derived = {} if settings.max_per_peer else {"max_per_peer": f"; in effect: {settings.peer_limit}"}
    return "\n".join(
        f"# {field.meaning}{derived.get(name, '')}\n{name} = {_to_toml(name, getattr(settings, name))}\n"
        for name, field in FIELDS.items()
    )


def escape(text: str) -> str:
    """Return ``text`` for one line of a terminal: unprintable characters and the backslash become Python escapes."""
    return "".join(
        [char if char.isprintable() and char != "\\" else _SHORT.get(char) or escape_char(char) for char in text]
    )


class _Source:
    """Where each value came from: the file's text and values, and the options over them."""

    def __init__(self, path: str | None, options: Mapping[str, Value]) -> None:
        self.path = path
        self._text = "" if path is None else _read(path)
        self._options = options
        self._in_file = {} if path is None else _parse(path, self._text)
        self.values: dict[str, Any] = {
            name: _to_value(value) for name, value in (self._in_file | dict(options)).items()
        }

    def from_file(self, name: str) -> bool:
        return name in self._in_file and name not in self._options

    def error(self, name: str, complaint: str) -> OperatorError:
        """An OperatorError that begins with the place where ``name`` got its value."""
        if self.path is not None and self.from_file(name):
            return _error(self.path, _line_of(self._text, name), f"{escape(name)}: {complaint}")
        if name in self._options:
            return OperatorError(f"--{name.replace('_', '-')}: {complaint}")
        return OperatorError(f"{name}: {complaint}")


def _read(path: str) -> str:
    try:
        with open(path, "rb") as file:
            data = file.read(MAX_FILE_BYTES + 1)
    except PermissionError:
        remedy = "give that user the right to read it, and to enter every directory on the way to it"
        raise OperatorError(f"{escape(path)}: user {_own_name()} cannot read it; {remedy}") from None
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else "its name holds a NUL"
        raise OperatorError(f"{escape(path)}: cannot read it: {reason}; name another file with --config") from None
    if len(data) > MAX_FILE_BYTES:
        raise OperatorError(f"{escape(path)}: is longer than {MAX_FILE_BYTES} bytes, so it is not a configuration")
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise _error(path, line, f"byte 0x{data[error.start]:02x} is not UTF-8; save the file as UTF-8") from None


def _own_name() -> str:
    try:
        return escape(pwd.getpwuid(os.geteuid()).pw_name)
    except KeyError:
        return str(os.geteuid())


def _parse(path: str, text: str) -> dict[str, Any]:
    try:
        return tomllib.loads(text)
    except (ValueError, RecursionError) as error:
        # Not only TOMLDecodeError: an endless number is a plain ValueError, and endless brackets exhaust the stack.
        complaint, _, place = str(error).partition(" (at ")
        number = re.match(r"line (\d+), ", place)
        line = int(number[1]) if number else text.rstrip("\n").count("\n") + 1
        raise _error(path, line, f"is not TOML: {complaint}; mend it as forkserver.toml(5) shows") from None


def _to_value(value: object) -> object:
    """A list of strings becomes the tuple that Settings wants; all else is left for Settings to exit_policy."""
    if isinstance(value, list) and all(isinstance(item, str) for item in value):
        return tuple(value)
    return value


def _line_of(text: str, name: str) -> int:
    """The line on which the statement that sets the top-level key ``name`` begins.

    tomllib does not tell. But what stands before it is TOML and lacks the key, and with its line that is no longer so.
    """
    lines = text.split("\n")
    for count, line in enumerate(lines):
        if name in line and _lacks(lines[:count], name) and not _lacks(lines[: count + 1], name):
            return count + 1
    return 1  # spelled with escapes


def _lacks(lines: list[str], name: str) -> bool:
    try:
        return name not in tomllib.loads("\n".join(lines))
    except ValueError:
        return False  # they end in the middle of a value of several lines


def _unknown(name: str) -> str:
    close = difflib.get_close_matches(name, FIELDS)
    # The same letters in another order are the likeliest slip: prot is port, although root is as close.
    close.sort(key=lambda other: sorted(other) != sorted(name))
    remedy = f"did you mean {close[0]}?" if close else "forkserver.toml(5) lists those there are"
    return f"there is no such setting; {remedy}"


def _list_of_one(name: str, value: object) -> str:
    """The remedy for a string where a list of strings is due."""
    if not isinstance(value, str) or not isinstance(FIELDS[name].default, tuple):
        return ""
    return f"; write {escape(_to_toml(name, (value,)))}"


def _check_bind(source: _Source, settings: Settings) -> None:
    seen: dict[tuple[str, int], str] = {}
    for text in settings.bind:
        try:
            place = address.parse(text, settings.port)
        except ValueError as error:
            raise source.error("bind", f"{escape(text)}: {error}") from None
        # Port 0 is another port each time.
        if place[1] and place in seen:
            raise source.error("bind", f"{escape(text)}: is the same address as {escape(seen[place])}; name it once")
        seen[place] = text


def _absolute_root(source: _Source, root: str) -> str:
    base = os.path.dirname(os.path.abspath(source.path)) if source.path is not None and source.from_file("root") else ""
    path = os.path.abspath(os.path.join(base, root))
    if os.path.isdir(path):
        # To serve files, their names need not be readable: a root of mode 0711 cannot be listed, and is fine.
        if not os.access(path, os.X_OK, effective_ids=True):
            remedy = "give this user its x permission, or name another directory"
            raise source.error("root", f"{escape(path)}: this user may not enter it; {remedy}")
        return path
    try:
        os.stat(path)
    except FileNotFoundError:
        reason = "does not exist; create it, or name another directory"
    except OSError as error:
        reason = f"cannot be looked at: {error.strerror}; give this user the way to it, or name another directory"
    else:
        reason = "is not a directory; name another directory"
    raise source.error("root", f"{escape(path)}: {reason}")


def _error(path: str, line: int, complaint: str) -> OperatorError:
    return OperatorError(f"{escape(path)}:{line}: {complaint}")


def _to_toml(name: str, value: Value) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return _to_toml_string(name, value)
    if isinstance(value, tuple):
        return f"[{', '.join(_to_toml_string(name, item) for item in value)}]"
    return repr(value)


def _to_toml_string(name: str, value: str) -> str:
    try:
        value.encode("utf-8")
    except UnicodeEncodeError:
        complaint = "is not UTF-8, so no configuration file can hold it; rename it"
        raise OperatorError(f"{name}: {escape(value)}: {complaint}") from None
    # A JSON string is a TOML string, but for the one control character that JSON lets stand.
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
