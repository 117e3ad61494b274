"""The wire, sans-IO: bytes to messages and back. No socket, no clock; both sides use it.

``messages`` holds the values, ``native`` the grammar of one line, ``framing`` cuts streams of bytes into lines and
contents, ``bare`` is the lab exercise's dialect. ``docs/protocol.md`` is the norm for all of it.
"""
