"""Read the configuration file into ``Settings``, and write it. Runs in the operator's command and in the supervisor.

Opens no socket.

Everything that is wrong raises ``ConfigError``, which knows file, line, key and complaint.
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
from forkserver.front.terminal import escape
from forkserver.settings import FIELDS, SettingError, Settings
from forkserver.supervisor import address

if TYPE_CHECKING:
    from collections.abc import Mapping

    from forkserver.settings import Value

MAX_FILE_BYTES = 65536
"""A longer file is not a configuration. The limit also bounds the work of ``_find_line``."""
_MAX_BITS = 63  # TOML's own limit of an integer; Python would accept any


class ConfigError(OperatorError):
    """A wrong setting, or a configuration file that cannot be read.

    ``file`` is the file that holds the setting, None for an option and for a default; ``line`` is a line of that file.
    ``key`` is the setting as the operator wrote it, ``--max-children`` for an option. ``complaint`` says what is wrong
    and what to do.
    """

    def __init__(
        self, complaint: str, *, file: str | None = None, line: int | None = None, key: str | None = None
    ) -> None:
        super().__init__(complaint)
        self.complaint = complaint
        self.file = file
        self.line = line
        self.key = key

    def __str__(self) -> str:
        """Format the error as one line: ``FILE:LINE: KEY: COMPLAINT``, without the parts that are None."""
        line = "" if self.line is None else f":{self.line}"
        file = "" if self.file is None else f"{escape(self.file)}{line}: "
        key = "" if self.key is None else f"{escape(self.key)}: "
        return f"{file}{key}{self.complaint}"


def load(path: str | None, options: Mapping[str, Value], directory: str = "") -> Settings:
    """Return settings from the defaults, the file ``path`` (None: no file) and ``options``; later ones win.

    ``options`` maps names of ``FIELDS`` to values. ``root`` of the result is absolute: a relative root in the file
    starts at the file's directory, any other at ``directory`` (empty: the working directory). Raises ConfigError.
    """
    source = _Source(path, options)
    for name, value in source.values.items():
        if name not in FIELDS:
            raise source.error(name, _unknown(name))
        if type(value) is int and value.bit_length() > _MAX_BITS:
            raise source.error(name, "the number is too large; lower it")
    try:
        settings = Settings(**source.values)
    except SettingError as error:
        remedy = _list_of_one(error.name, source.values.get(error.name))
        raise source.error(error.name, error.complaint + remedy) from None
    _check_bind(source, settings)
    root = _absolute_root(source, settings.root, directory)
    return Settings(**(source.values | {"root": root}))


def dump(settings: Settings) -> str:
    """Return the settings as a file that ``load`` reads back, each setting under its meaning.

    A value that is derived from other settings is written as a comment, so that it stays derived. Raises ConfigError
    for a root that is not UTF-8, because TOML cannot hold such a name.
    """
    derived = {} if settings.max_per_peer else {"max_per_peer": f"; in effect: {settings.peer_limit}"}
    return "\n".join(
        f"# {field.meaning}{derived.get(name, '')}\n{name} = {_to_toml(name, getattr(settings, name))}\n"
        for name, field in FIELDS.items()
    )


class _Source:
    """The values of the file and of the options, and which of the two each value came from."""

    def __init__(self, path: str | None, options: Mapping[str, Value]) -> None:
        self.path = path
        self._text = "" if path is None else _read(path)
        self._options = options
        self._in_file = {} if path is None else _parse(path, self._text)
        self.values: dict[str, Any] = {
            name: _to_value(value) for name, value in (self._in_file | dict(options)).items()
        }

    def from_file(self, name: str) -> bool:
        """Whether the value of ``name`` in effect is the file's."""
        return name in self._in_file and name not in self._options

    def error(self, name: str, complaint: str) -> ConfigError:
        """Return an error about ``name`` that knows where its value came from."""
        if self.from_file(name):
            return ConfigError(complaint, file=self.path, line=_find_line(self._text, name), key=name)
        key = f"--{name.replace('_', '-')}" if name in self._options else name
        return ConfigError(complaint, key=key)


def _read(path: str) -> str:
    try:
        with open(path, "rb") as file:
            data = file.read(MAX_FILE_BYTES + 1)
    except PermissionError:
        remedy = "give that user the right to read it, and to enter every directory on the way to it"
        raise ConfigError(f"user {_own_name()} cannot read it; {remedy}", file=path) from None
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else "its name holds a NUL"
        raise ConfigError(f"cannot read it: {reason}; name another file with --config", file=path) from None
    if len(data) > MAX_FILE_BYTES:
        raise ConfigError(f"is longer than {MAX_FILE_BYTES} bytes, so it is not a configuration", file=path)
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        complaint = f"byte 0x{data[error.start]:02x} is not UTF-8; save the file as UTF-8"
        raise ConfigError(complaint, file=path, line=data.count(b"\n", 0, error.start) + 1) from None


def _own_name() -> str:
    try:
        return escape(pwd.getpwuid(os.geteuid()).pw_name)
    except KeyError:
        return str(os.geteuid())


def _parse(path: str, text: str) -> dict[str, Any]:
    try:
        return tomllib.loads(text)
    except (ValueError, RecursionError) as error:
        # Besides TOMLDecodeError: an endless number raises a plain ValueError, and endless brackets exhaust the stack.
        # Before Python 3.14 tomllib has the line in the text of the error only: " (at line 3, column 1)".
        complaint, _, place = str(error).partition(" (at ")
        number = re.match(r"line (\d+), ", place)
        line = int(number[1]) if number else text.rstrip("\n").count("\n") + 1
        complaint = f"is not TOML: {complaint}; correct it as forkserver.toml(5) shows"
        raise ConfigError(complaint, file=path, line=line) from None


def _to_value(value: object) -> object:
    """Return a list of strings as the tuple that Settings takes, and any other value unchanged."""
    if isinstance(value, list) and all(isinstance(item, str) for item in value):
        return tuple(value)
    return value


def _find_line(text: str, name: str) -> int:
    """Return the number of the line on which the statement that sets the top-level key ``name`` begins.

    tomllib reports no positions. The lines before the statement are TOML without the key; together with the first
    line of the statement they are not.
    """
    lines = text.split("\n")
    for count, line in enumerate(lines):
        if name in line and _lacks(lines[:count], name) and not _lacks(lines[: count + 1], name):
            return count + 1
    return 1  # the key is written with escapes


def _lacks(lines: list[str], name: str) -> bool:
    try:
        return name not in tomllib.loads("\n".join(lines))
    except ValueError:
        return False  # the lines end in the middle of a value of several lines


def _unknown(name: str) -> str:
    close = difflib.get_close_matches(name, FIELDS)
    # The same letters in another order are the likeliest mistake: "prot" means port, although root is as close.
    close.sort(key=lambda other: sorted(other) != sorted(name))
    remedy = f"did you mean {close[0]}?" if close else "forkserver.toml(5) lists the settings"
    return f"there is no such setting; {remedy}"


def _list_of_one(name: str, value: object) -> str:
    """Return the remedy for a string in place of a list of strings, else an empty text."""
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
        # Port 0 stands for another free port each time, so an address with port 0 may be named twice.
        if place[1] and place in seen:
            raise source.error("bind", f"{escape(text)}: is the same address as {escape(seen[place])}; name it once")
        seen[place] = text


def _absolute_root(source: _Source, root: str, directory: str) -> str:
    base = os.path.dirname(source.path) if source.path is not None and source.from_file("root") else directory
    path = os.path.abspath(os.path.join(base, root))
    if os.path.isdir(path):
        # The root need not be readable, because files are opened by name: a root of mode 0711 is fine.
        if os.access(path, os.X_OK, effective_ids=True):
            return path
        reason = "this user may not enter it; give this user its x permission, or name another directory"
        raise source.error("root", f"{escape(path)}: {reason}")
    try:
        os.stat(path)
    except FileNotFoundError:
        reason = "does not exist; create it, or name another directory"
    except OSError as error:
        reason = f"cannot be looked at: {error.strerror}; let this user enter its parents, or name another directory"
    else:
        reason = "is not a directory; name another directory"
    raise source.error("root", f"{escape(path)}: {reason}")


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
        complaint = f"{escape(value)}: is not UTF-8, so no configuration file can hold it; rename it"
        raise ConfigError(complaint, key=name) from None
    # A JSON string is a TOML string, except for the one control character that JSON allows unescaped.
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
