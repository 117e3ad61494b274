"""Guess the kind of a server that is no forkserver from its first bytes. Runs in the client."""

from __future__ import annotations

import re

from forkserver.protocol.messages import DEFAULT_PORT

ENOUGH_BYTES = 128
"""Number of first bytes that tell one kind of server from another."""
# Do not compile the patterns: few runs need them.
_KINDS = {
    rb"(?i)HTTP/\d|\s*<(?:!doctype|html)\b": "an HTTP server",
    rb"SSH-\d": "an SSH server",
    rb"[\x14-\x17]\x03[\x00-\x04]": "a TLS server",  # type and version of a record, RFC 8446 section 5.1
    rb"\d\d\d[ -][^\n]*FTP": "an FTP server",
    rb"\d\d\d[ -][^\n]*SMTP|\+OK\b|\* OK\b": "a mail server",
    rb"[1-5]\d\d[ -]": "a mail or FTP server",
}


def advice(first: bytes, port: int) -> str:
    """Return what a complaint adds about a server at ``port`` that sent no reply, only ``first``, perhaps empty."""
    kind = next((kind for pattern, kind in _KINDS.items() if re.match(pattern, first)), None)
    looks = f", but looks like {kind}" if kind else ""
    if port == DEFAULT_PORT:
        # This is the usual port. A forkserver that is stopped sends nothing, too: without bytes there is no advice.
        return f"{looks}; ask whoever runs the forkserver for its port" if first else ""
    return f"{looks}; a forkserver's port is {DEFAULT_PORT} unless told otherwise"
