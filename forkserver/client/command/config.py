"""Read the user's configuration file: TOML that sets defaults of options. Runs in the client."""

from __future__ import annotations

import os
from typing import Any

import click

from forkserver.client.display import escape
from forkserver.client.outcome import Exit, Failure, Word

KEYS: dict[str, tuple[str, tuple[type, ...]]] = {
    "server": ("a string, or a list of strings", (str, list)),
    "timeout": ("a number", (int, float)),
    "retries": ("a whole number", (int,)),
    "connections": ("a whole number", (int,)),
    "limit-rate": ("a string, as 500K or 2M", (str,)),
    "fsync": ("a string: dir, file or none", (str,)),
}
"""The options that a file may set, by their long names: description and types of their values."""
_MAX_FILE_BYTES = 65536
_KNOWN = f"{', '.join(list(KEYS)[:-1])} and {list(KEYS)[-1]} are known"


def usual_path() -> str:
    """Return the path of ``fsget.toml`` in ``$XDG_CONFIG_HOME`` or ``~/.config`` (XDG Base Directory Specification)."""
    directory = os.environ.get("XDG_CONFIG_HOME", "")
    # The specification says to ignore a relative path.
    return os.path.join(directory if os.path.isabs(directory) else os.path.expanduser("~/.config"), "fsget.toml")


def apply(context: click.Context, _option: click.Parameter, named: str | None) -> None:
    """Take the defaults of the options from a file. This is the callback of ``--config``, whose value is ``named``.

    Without a value, read the file at the usual path, which may be missing. Raises Failure.
    """
    path = usual_path() if named is None else named
    values = _parse(path, _read(path, optional=named is None))
    options = {spelling.removeprefix("--"): option for option in context.command.params for spelling in option.opts}
    defaults = {}
    for key, value in values.items():
        if key not in KEYS:
            raise _failure(path, f"{escape(key)}: there is no such key; {_KNOWN}")
        expected, types = KEYS[key]
        each = value if isinstance(value, list) else [value]
        if type(value) not in types or (list in types and not (each and all(type(one) is str for one in each))):
            raise _failure(path, f"{key}: must be {expected}; mend it, or take it out")
        value = each if options[key].multiple else value  # noqa: PLW2901 - as click wants it
        try:
            options[key].process_value(context, value)
        except click.BadParameter as error:
            raise _failure(path, f"{key}: {error.message}; mend it, or take it out") from error
        defaults[str(options[key].name)] = value
    context.default_map = defaults


def _read(path: str, *, optional: bool) -> bytes:
    try:
        with open(path, "rb") as file:
            data = file.read(_MAX_FILE_BYTES + 1)
    except (FileNotFoundError, NotADirectoryError) as error:
        if optional:
            return b""
        raise _failure(path, f"cannot be read: {error.strerror}; name another with --config") from error
    except OSError as error:
        # Ignore a home directory of another user: sudo(8) may leave HOME as it was.
        if optional and not os.access(os.path.dirname(path), os.X_OK):
            return b""
        remedy = "mend that, or name another with --config, /dev/null for none"
        raise _failure(path, f"cannot be read: {error.strerror}; {remedy}") from error
    if len(data) > _MAX_FILE_BYTES:
        raise _failure(path, f"is longer than {_MAX_FILE_BYTES} bytes, so it is no configuration; {_KNOWN}")
    return data


def _parse(path: str, data: bytes) -> dict[str, Any]:
    if not data:
        return {}
    import tomllib  # noqa: PLC0415 - most users have no file

    try:
        return tomllib.loads(data.decode("utf-8"))
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise _failure(path, f"line {line} is not UTF-8; save the file as UTF-8") from error
    except (ValueError, RecursionError) as error:
        # Not only TOMLDecodeError: a very long number is a plain ValueError, and many brackets exhaust the stack.
        raise _failure(path, f'is not TOML: {escape(str(error))}; a line of it is: server = "HOST:PORT"') from error


def _failure(path: str, complaint: str) -> Failure:
    return Failure(Exit.USAGE, Word.USAGE, f"{escape(path)}: {complaint}")
