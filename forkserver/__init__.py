"""A concurrent, read-only file server for Unix: one transfer, one process."""

__version__ = "0.1.0"
