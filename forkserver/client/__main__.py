"""Start ``fsget``, also as ``python -m forkserver.client``. Runs in the client."""

from __future__ import annotations

import signal


def main() -> None:
    """Run ``fsget`` with the arguments of this process, and exit.

    Set the default action of SIGINT before the imports: the imports take a while, and Ctrl-C would show a traceback.
    The run installs its own handlers. An ignored SIGINT stays ignored, because shells without job control ignore SIGINT
    for commands in the background.
    """
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    from forkserver.client.command.cli import main as run  # noqa: PLC0415 - see above

    run()


if __name__ == "__main__":
    main()
