"""The command ``fsget``: parse the command line, run, and exit with a status. Runs in the client."""

from __future__ import annotations

import contextlib
import functools
import io
import os
import sys
from typing import TYPE_CHECKING, Any, NoReturn

import click

from forkserver import __version__
from forkserver.client.command import config, interrupt, parameters
from forkserver.client.command.options import Options
from forkserver.client.command.report import Report, complain, flush
from forkserver.client.command.run import Run
from forkserver.client.display import escape
from forkserver.client.local.output import check_output, output_complaints
from forkserver.client.local.target import Durable
from forkserver.client.outcome import MEANINGS, Exit, Failure, Interrupted
from forkserver.client.remote.address import Location, parse_location
from forkserver.protocol.messages import DEFAULT_PORT

if TYPE_CHECKING:
    from collections.abc import Iterable

    from click.shell_completion import CompletionItem

    from forkserver.client.command.namelist import Unusable

COMPLETE_VARIABLE = "_FSGET_COMPLETE"
"""The environment variable that a shell sets when it asks for completions."""
_EPILOG = "\b\nExit status; of several failures the one with the highest number:\n" + "\n".join(
    f"{status.value:>5}  {meaning}" for status, meaning in MEANINGS.items()
)


def _complete_name(context: click.Context, _argument: click.Parameter, begun: str) -> list[CompletionItem[str]]:
    from forkserver.client.command import completion  # noqa: PLC0415 - only a shell needs it

    return completion.remote_names(context, begun)


def _complete_path(_context: click.Context, option: click.Parameter, begun: str) -> list[CompletionItem[str]]:
    from click.shell_completion import CompletionItem  # noqa: PLC0415 - only a shell needs it

    return [CompletionItem(begun, type="dir" if option.name == "directory" else "file")]


def _show_script(context: click.Context, _option: click.Parameter, shell: str | None) -> None:
    if shell is not None:
        from forkserver.client.command import completion  # noqa: PLC0415 - only a shell needs it

        click.echo(completion.script(shell), nl=False)
        context.exit()


_path_option = functools.partial(click.option, metavar="FILE", type=os.fsencode, shell_complete=_complete_path)
"""An option whose value is a local path."""
_patterns_option = functools.partial(click.option, metavar="PATTERN", type=os.fsencode, multiple=True)


@click.command(
    cls=parameters.Command,
    epilog=_EPILOG,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.argument("names", metavar="[NAME]...", nargs=-1, type=os.fsencode, shell_complete=_complete_name)
@click.option(
    "-s",
    "--server",
    "servers",
    metavar="HOST[:PORT]",
    multiple=True,
    show_default=f"127.0.0.1:{DEFAULT_PORT}",
    envvar="FSGET_SERVER",
    show_envvar=True,
    callback=parameters.servers,
    help="Server to ask, also [IPV6]:PORT; several that have the same files: where one fails, the next goes on.",
)
@_path_option(
    "-o",
    "--output",
    type=parameters.destination,
    help="Local name of the one file fetched; - for standard output.",
)
@_path_option("-d", "--directory", metavar="DIR", default=".", help="Where to put files, instead of here.")
@click.option("--stat", is_flag=True, help="Tell about files and directories; fetch nothing.")
@click.option("--list", "list_", is_flag=True, help="List directories, / if none is named; fetch nothing.")
@click.option("-r", "--recursive", is_flag=True, help="Directories, with everything beneath.")
@click.option(
    "-j",
    "--connections",
    metavar="N",
    type=click.IntRange(1, 64),
    default=1,
    show_default=True,
    help="How many connections fetch a tree, or a large file, at a time; over all servers.",
)
@click.option(
    "--limit-rate",
    "rate",
    metavar="RATE",
    type=parameters.rate,
    help="Most bytes a second to receive, as 500K or 2M.",
)
@_path_option("-i", "--names-from", multiple=True, help="Read more names from FILE, one a line; - for standard input.")
@click.option(
    "--paths/--no-paths",
    default=None,
    show_default="--paths for names of -i, --no-paths for others",
    help="Whether a name becomes the local path as a whole, or only its last part.",
)
@click.option("-0", "--null", is_flag=True, help="Names in that file end in a NUL, not at the end of a line.")
@click.option("-n", "--dry-run", "dry", is_flag=True, help="Only tell what would be fetched, and deleted.")
@click.option(
    "--delete", is_flag=True, help="With -r: delete here what the server does not have. Needs the next, or -n."
)
@click.option("--confirm-delete", is_flag=True, help="That --delete is really meant.")
@_patterns_option("--include", help="Of a tree, only files like this; more than once.")
@_patterns_option("--exclude", help="Of a tree, nothing like this; more than once.")
@click.option(
    "-c",
    "by_content",
    is_flag=True,
    help="Compare what is here by content, not by size and time; long: --checksum.",
)
@click.option(
    parameters.CHECKSUM,
    "expected",
    metavar="[=sha256:HEX]",
    type=parameters.checksum,
    shell_complete=_complete_name,  # what follows a lone --checksum is a name
    help="Alone the same as -c; with a digest: what the one file fetched must have.",
)
@_path_option(
    "--manifest",
    type=parameters.destination,
    help="Write a list of what is fetched, for sha256sum -c; - for standard output.",
)
@_path_option("--verify", "listed", help="Compare local files with such a list, - for standard input; fetch nothing.")
@click.option(
    "--fsync",
    "durable",
    type=click.Choice(Durable, case_sensitive=False),
    show_default="dir, and none for trees",
    help="What is on the disk when a file is told as fetched: its content, and with dir its name.",
)
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line on standard output.")
@click.option("-q", "--quiet", is_flag=True, help="Only failures.")
@click.option("-v", "--verbose", is_flag=True, help="A line for each file of a tree.")
@click.option(
    "--timeout",
    "timeout_s",
    metavar="SECONDS",
    type=float,
    default=60.0,
    show_default=True,
    callback=parameters.timeout,
    help="Longest wait for a connection, and for the next byte.",
)
@click.option(
    "--retries",
    metavar="N",
    type=click.IntRange(0, 1000),
    default=10,
    show_default=True,
    help="How often to ask a busy server again.",
)
@_path_option(
    "--config",
    type=str,
    is_eager=True,
    expose_value=False,
    callback=config.apply,
    help='TOML file with defaults, as server = "HOST:PORT".  [default: ~/.config/fsget.toml]',
)
@click.option(
    "--completion",
    type=click.Choice(["bash", "zsh", "fish"]),
    is_eager=True,
    expose_value=False,
    callback=_show_script,
    help="Show the script that makes this shell complete the command line of fsget.",
)
@click.version_option(__version__, prog_name="fsget", message="%(prog)s %(version)s")
def command(
    *, names: tuple[bytes, ...], stat: bool, list_: bool, **values: Any
) -> tuple[Options, list[Location] | None, Iterable[list[Location | Unusable]]]:
    """Fetch files from a forkserver, verified, each whole or not at all.

    NAME is a path beneath the directory the server serves, a pattern ('reports/*.pdf', '**/*.pdf'), or
    fs://HOST[:PORT]/PATH with the path percent-encoded.
    Without any, on a terminal, fsget asks for names.
    """
    verify = values["listed"] is not None
    actions = [name for name, chosen in (("stat", stat), ("list", list_), ("verify", verify)) if chosen]
    if len(actions) > 1:
        raise click.UsageError(f"--{actions[0]} and --{actions[1]} exclude each other")
    options = Options(action=actions[0] if actions else "fetch", **values)
    options.check(names)
    if verify:
        return options, [], ()
    locations = _locations(options, names)
    if locations is None or not options.names_from:
        return options, locations, ()
    from forkserver.client.command.namelist import named_in  # noqa: PLC0415 - most runs read none

    return options, locations, named_in(options, locations)


def _locations(options: Options, names: tuple[bytes, ...]) -> list[Location] | None:
    """Return the location of each name, or None if a person is to be asked for names.

    Raises UsageError if any name is wrong, before anything is fetched.
    """
    if options.names_from and not names:
        return []
    if not names:
        if options.action == "list":
            return [parse_location(b"/", *options.servers)]
        if sys.stdin is None or not sys.stdin.isatty():
            from forkserver.client.command import usage  # noqa: PLC0415 - most command lines are right

            raise usage.NoName("name at least one file, as in: fsget NAME")
        return None
    locations = []
    taken: dict[bytes, bytes] = {}
    for name in names:
        try:
            location = parse_location(name, *options.servers)._replace(whole=bool(options.paths))
            local = options.own_name(location)
        except ValueError as error:
            raise click.UsageError(f"{escape(name)}: {error}" if name else str(error)) from error
        if local in taken:
            shown = f"{escape(name)} and {escape(taken[local])}"
            remedy = "one only" if options.paths or options.recursive else "one only, or both to their --paths"
            raise click.UsageError(f"{shown} would become the same local file or directory; fetch {remedy}")
        if local is not None:
            taken[local] = name
        locations.append(location)
    return locations


def main() -> NoReturn:
    """Run ``fsget`` with the arguments of this process, and exit. No traceback reaches the user.

    A run that a signal interrupts cleans up, then dies of that signal.
    """
    killed_by = None
    try:
        status: int = _main()
        flush()
    except Interrupted as interruption:
        interrupt.ignore()
        killed_by = interruption.signal_number
        if interruption.notice:
            complain(interruption.notice)
    except BrokenPipeError:
        status = Exit.BROKEN_PIPE
    except Failure as failure:
        complain(str(failure))
        status = failure.exit_status
    except Exception as error:  # noqa: BLE001 - the outermost frame: here a bug becomes a line and a status
        if os.environ.get("FSGET_DEBUG"):
            sys.__excepthook__(type(error), error, error.__traceback__)
        complain(f"internal error: {type(error).__name__}: {escape(str(error))}")
        status = Exit.BUG
    _discard_output()
    if killed_by is not None:
        interrupt.die(killed_by)
        status = 128 + killed_by
    sys.exit(status)


def _main() -> int:
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # None if the stream was closed before the start
            # Names can contain characters that the locale lacks.
            stream.reconfigure(errors="backslashreplace")
    if COMPLETE_VARIABLE in os.environ:
        from forkserver.client.command import completion  # noqa: PLC0415 - only a shell needs it

        completion.register()
    try:
        with output_complaints():
            parsed = command.main(prog_name="fsget", standalone_mode=False)
            if isinstance(parsed, int):  # --help or --version has written its text
                check_output()
                return parsed
    except click.ClickException as error:
        from forkserver.client.command import usage  # noqa: PLC0415 - most command lines are right

        for line in usage.explain(error, sys.argv[1:]):
            complain(line)
        return Exit.USAGE
    interrupt.catch()
    return _act(*parsed)


def _act(options: Options, locations: list[Location] | None, more: Iterable[list[Location | Unusable]]) -> Exit:
    # If a content or a list takes standard output, results go to standard error.
    to_stderr = b"-" in (options.output, options.manifest)
    report = Report(as_json=options.as_json, quiet=options.quiet, to_stderr=to_stderr)
    if options.listed is not None:
        from forkserver.client.command.verify import verify  # noqa: PLC0415 - no run does both

        return verify(options.listed, options.directory, report)
    if locations is None:
        return Run(options, report).prompt()
    if options.manifest is None:
        return Run(options, report).names(locations, more)
    from forkserver.client.command.manifest import manifest  # noqa: PLC0415 - most runs write none

    with manifest(options.manifest, options.directory, options.file_durable) as note:
        return Run(options, report, note).names(locations, more)


def _discard_output() -> None:
    """Discard output that cannot be flushed. Otherwise the interpreter complains about that output at its end."""
    for stream in (sys.stdout, sys.stderr):
        if stream is None:
            continue
        try:
            stream.flush()
        except OSError:
            with contextlib.suppress(OSError):
                os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
