"""Runs in the master: accept, admit, forward, fork, reap. Never reads a client's byte, opens no path a client named."""
