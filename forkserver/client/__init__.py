"""The client: the command ``fsget``, and the same as a library, which ``api`` documents. Runs in the client."""

from __future__ import annotations

TYPE_CHECKING = False  # ``typing`` takes time to import; type checkers take this name for true
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

_MODULES = {
    "Address": "remote.address",
    "Client": "api",
    "Deleted": "events",
    "Durable": "local.target",
    "Event": "events",
    "Exit": "outcome",
    "Failed": "events",
    "Failure": "outcome",
    "Fetched": "events",
    "LeftOut": "events",
    "Listed": "remote.listing",
    "Metadata": "remote.metadata",
    "Planned": "events",
    "Progress": "events",
    "Receipt": "outcome",
    "RetryEnded": "events",
    "Retrying": "events",
    "Served": "outcome",
    "Skipped": "events",
    "Summary": "events",
    "Swept": "events",
    "Useless": "events",
    "Waiting": "events",
    "WouldFetch": "events",
}
__all__ = list(_MODULES)


def __getattr__(name: str) -> object:
    """Import a public name when it is first used, so that ``__main__`` can set a signal before the imports."""
    if name not in _MODULES:
        raise AttributeError(name)
    import importlib  # noqa: PLC0415 - fsget does without

    return getattr(importlib.import_module(f"{__name__}.{_MODULES[name]}"), name)
