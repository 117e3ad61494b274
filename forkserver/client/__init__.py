"""The client: the command ``fsget``, and its library, which ``api`` documents. Runs in the client."""

from __future__ import annotations

TYPE_CHECKING = False  # ``typing`` takes time to import; type checkers treat this name as true
if TYPE_CHECKING:
    from forkserver.client.api import Client as Client
    from forkserver.client.events import Deleted as Deleted
    from forkserver.client.events import Event as Event
    from forkserver.client.events import Failed as Failed
    from forkserver.client.events import Fetched as Fetched
    from forkserver.client.events import LeftOut as LeftOut
    from forkserver.client.events import Planned as Planned
    from forkserver.client.events import Progress as Progress
    from forkserver.client.events import RetryEnded as RetryEnded
    from forkserver.client.events import Retrying as Retrying
    from forkserver.client.events import Skipped as Skipped
    from forkserver.client.events import Summary as Summary
    from forkserver.client.events import Swept as Swept
    from forkserver.client.events import Useless as Useless
    from forkserver.client.events import Waiting as Waiting
    from forkserver.client.events import WouldFetch as WouldFetch
    from forkserver.client.local.target import Durable as Durable
    from forkserver.client.outcome import Exit as Exit
    from forkserver.client.outcome import Failure as Failure
    from forkserver.client.outcome import Receipt as Receipt
    from forkserver.client.outcome import Served as Served
    from forkserver.client.remote.address import Address as Address
    from forkserver.client.remote.listing import Listed as Listed
    from forkserver.client.remote.metadata import Metadata as Metadata

_NAMES = {
    "api": "Client",
    "events": "Deleted Event Failed Fetched LeftOut Planned Progress RetryEnded Retrying Skipped Summary Swept Useless "
    "Waiting WouldFetch",
    "local.target": "Durable",
    "outcome": "Exit Failure Receipt Served",
    "remote.address": "Address",
    "remote.listing": "Listed",
    "remote.metadata": "Metadata",
}
"""The public names by module."""
_MODULES = {name: module for module, names in _NAMES.items() for name in names.split()}
__all__ = list(_MODULES)


def __getattr__(name: str) -> object:
    """Import a public name at its first use, so that ``__main__`` can set the action of SIGINT before the imports."""
    if name not in _MODULES:
        raise AttributeError(name)
    import importlib  # noqa: PLC0415 - fsget does not need the module

    return getattr(importlib.import_module(f"{__name__}.{_MODULES[name]}"), name)
