"""Runs in a child: one connection at a time, behind the master's inherited walls. Imports nothing after the fork."""
