"""Explain a wrong command line: turn an error of click into lines for people. Runs in the client."""

from __future__ import annotations

from difflib import get_close_matches
from typing import TYPE_CHECKING

import click
from click.core import ParameterSource

from forkserver.client.display import escape

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

_RESUMES_ITSELF = "fsget resumes by itself, the same command goes on where the last run ended"
_OF_OTHER_PROGRAMS = {
    "--resume": _RESUMES_ITSELF,
    "--continue": _RESUMES_ITSELF,
    "--continue-at": _RESUMES_ITSELF,
    "-C": _RESUMES_ITSELF,
    "-a": "-r fetches a directory with everything beneath",
    "--archive": "-r fetches a directory with everything beneath",
    "-O": "a file keeps its name by itself, and -o FILE gives it another",
    "--output-document": "-o FILE gives the file another name",
    "-P": "-d DIR says where to put files",
    "--directory-prefix": "-d DIR says where to put files",
    "--bwlimit": "--limit-rate RATE limits the bytes a second",
}
"""Options of curl, wget and rsync, and what to do instead."""
_LETTERS_TOGETHER = 3
"""A dash and two letters are more likely two options than the name of a file."""
_CLOSE = 0.75
"""The least likeness of a suggested option, from 0 to 1. The 0.6 of click suggests --checksum for --resume."""


class NoName(click.UsageError):
    """No file is named."""


def explain(error: click.ClickException, arguments: Sequence[str]) -> Iterator[str]:
    """Yield the lines that tell the user what is wrong. ``arguments`` are those of the command line."""
    if isinstance(error, click.NoSuchOption):
        yield _unknown_option(error, arguments)
    elif isinstance(error, NoName):
        yield error.message + _dash_hint(arguments, "-")
    elif isinstance(error, click.BadParameter):
        yield f"{_source(error)}: {_clause(error.message)}"
    elif isinstance(error, click.BadOptionUsage):
        yield _clause(error.message)
    else:
        yield error.format_message()
    yield "try 'fsget --help' for help"


def _unknown_option(error: click.NoSuchOption, arguments: Sequence[str]) -> str:
    name = error.option_name
    what = f"{escape(name)}: there is no such option"
    if name in _OF_OTHER_PROGRAMS:
        return f"{what}; {_OF_OTHER_PROGRAMS[name]}"
    known = [option for parameter in error.ctx.command.params for option in parameter.opts] if error.ctx else []
    longer = [option for option in known if name.startswith("--") and option.startswith(name)]
    close = longer or (get_close_matches(name, known, cutoff=_CLOSE) if name.startswith("--") else [])
    if close:
        return f"{what}; did you mean {' or '.join(close)}?"
    return what + _dash_hint(arguments, name)


def _dash_hint(arguments: Sequence[str], beginning: str) -> str:
    """Return how to name a file that begins with a dash, if an argument looks like such a file.

    ``beginning`` is what the argument begins with, as ``--nonsense``, or a single dash and perhaps a letter: then the
    argument is a word behind a single dash, which was read as several options of one letter.
    """
    is_long = beginning.startswith("--")
    for argument in arguments[: arguments.index("--")] if "--" in arguments else arguments:
        if argument.startswith(beginning) if is_long else _is_word(argument, beginning[1:]):
            return f"; a name that begins with a dash goes behind --: fsget -- {escape(argument)}"
    return ""


def _is_word(argument: str, letter: str) -> bool:
    if not argument.startswith("-") or argument.startswith("--"):
        return False
    return letter in argument[1:] if letter else len(argument) > _LETTERS_TOGETHER


def _source(error: click.BadParameter) -> str:
    """Return where the wrong value stands: the option on the command line, or the variable of the environment."""
    parameter, context = error.param, error.ctx
    if parameter is None or context is None or parameter.name is None:
        return "the command line"
    if context.get_parameter_source(parameter.name) is ParameterSource.ENVIRONMENT:
        return str(parameter.envvar)
    return next((option for option in parameter.opts if option.startswith("--")), parameter.opts[0])


def _clause(message: str) -> str:
    """Return a sentence of click as a clause: without a capital at its beginning and without a full stop."""
    return message[:1].lower() + message[1:].removesuffix(".")
