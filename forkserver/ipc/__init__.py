"""Channels and memory that two kinds of processes share. A module has both ends of a channel, or a memory layout."""
