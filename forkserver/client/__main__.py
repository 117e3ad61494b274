"""``python -m forkserver.client`` is ``fsget``. Runs at the user's."""

from forkserver.client.command.cli import main

main()
