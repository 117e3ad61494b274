"""``python -m forkserver.client`` is ``fsget``. Runs at the user's."""

from forkserver.client.cli import main

main()
