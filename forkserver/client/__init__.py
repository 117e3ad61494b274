"""Runs at the user's: ``fsget``, and what it does as a library. ``api`` has the documentation."""

from forkserver.client.api import Client
from forkserver.client.fetch.download import Receipt
from forkserver.client.fetch.events import Event, Failed, Fetched, Progress, Skipped, Summary, Waiting
from forkserver.client.local.target import Durable
from forkserver.client.outcome import Exit, Failure, Served
from forkserver.client.remote.address import Address
from forkserver.client.remote.listing import Listed
from forkserver.client.remote.metadata import Metadata

__all__ = [
    "Address",
    "Client",
    "Durable",
    "Event",
    "Exit",
    "Failed",
    "Failure",
    "Fetched",
    "Listed",
    "Metadata",
    "Progress",
    "Receipt",
    "Served",
    "Skipped",
    "Summary",
    "Waiting",
]
