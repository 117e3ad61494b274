"""What a server that is no forkserver seems to be, by the first bytes it sent. Runs at the user's."""

from __future__ import annotations

import re

from forkserver.protocol.messages import DEFAULT_PORT

ENOUGH_BYTES = 128
"""As many of the first bytes tell one kind of server from another."""
# Not compiled: few runs need them.
_KINDS = {
    rb"(?i)HTTP/\d|\s*<(?:!doctype|html)\b": "an HTTP server",
    rb"SSH-\d": "an SSH server",
    rb"[\x14-\x17]\x03[\x00-\x04]": "a TLS server",  # type and version of a record, RFC 8446 section 5.1
    rb"\d\d\d[ -][^\n]*FTP": "an FTP server",
    rb"\d\d\d[ -][^\n]*SMTP|\+OK\b|\* OK\b": "a mail server",
    rb"[1-5]\d\d[ -]": "a mail or FTP server",
}


def advice(first: bytes, port: int) -> str:
    """What to add to the complaint about a server at ``port`` that sent ``first``, perhaps nothing, and no reply."""
    kind = next((kind for pattern, kind in _KINDS.items() if re.match(pattern, first)), None)
    looks = f", but looks like {kind}" if kind else ""
    if port == DEFAULT_PORT:
        # The right one; a forkserver that stands still is silent, too.
        return f"{looks}; ask whoever runs the forkserver for its port" if first else ""
    return f"{looks}; a forkserver's port is {DEFAULT_PORT} unless told otherwise"
