"""Runs at the user's: ``fsget``, and what it does as a library. ``api`` has the documentation."""

from forkserver.client.address import Address
from forkserver.client.api import Client
from forkserver.client.download import Receipt
from forkserver.client.events import Event, Failed, Fetched, Progress, Skipped, Summary, Waiting
from forkserver.client.listing import Listed
from forkserver.client.metadata import Metadata
from forkserver.client.outcome import Exit, Failure, Served
from forkserver.client.target import Durable

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
