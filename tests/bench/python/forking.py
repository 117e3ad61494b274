"""A file server as one writes it with the standard library: ForkingTCPServer, our protocol's ``GET`` and no more."""

from __future__ import annotations

import os
import socketserver
import sys
import time

BACKLOG = 4096


class Server(socketserver.ForkingTCPServer):
    allow_reuse_address = True
    request_queue_size = BACKLOG
    # The library's own limit is 40. A server at that limit answers nobody until a child ends.
    max_children = 16384


class Handler(socketserver.StreamRequestHandler):
    def handle(self):
        while line := self.rfile.readline(8192):
            self.answer(line.split()[1].decode())

    def answer(self, name):
        path = os.path.join(sys.argv[3], name.lstrip("/"))
        if not os.path.isfile(path):
            self.wfile.write(b"FS1 404 not-found\n")
            return
        with open(path, "rb") as file:
            info = os.fstat(file.fileno())
            reply = (
                f"FS1 200 ok pid={os.getpid()} start={time.time():.6f} type=file size={info.st_size} "
                f"mtime={info.st_mtime:.9f} mode={info.st_mode & 0o777:o} etag={info.st_size:x}-{info.st_mtime_ns:x} "
                f"offset=0 length={info.st_size}\n"
            )
            self.wfile.write(reply.encode())
            self.connection.sendfile(file)
            self.wfile.write(b"FS1 END ok\n")


if __name__ == "__main__":
    with Server((sys.argv[1], int(sys.argv[2])), Handler) as server:
        server.serve_forever()
