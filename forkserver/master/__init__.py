"""The master: accept, admit, forward, fork, reap. It reads no byte of a client and opens no path named by one."""
