"""The lab exercise's client: the same socket calls in the same order, told by a program instead of a person.

``exercise_client.py HOST PORT`` reads names from standard input, a line each. For each it writes its own port, the
server's id, and the SHA-256 of the file downloaded or ``missing``; at the end of its input it leaves, as the
exercise's client does, with a fresh connection on which it has not asked for anything yet.
"""

from __future__ import annotations

import hashlib
import os
import socket
import sys


class Client:
    def __init__(self, ip: str, port: int) -> None:
        self.target = (ip, port)
        self.reconnect()

    def reconnect(self) -> None:
        self.s = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        self.s.connect(self.target)

    def main(self) -> None:
        for line in sys.stdin:
            file_name = line.rstrip("\n")
            port = self.s.getsockname()[1]
            self.s.send(file_name.encode())
            identity = self.s.recv(1024).decode("utf-8")
            confirmation = self.s.recv(1024)
            if confirmation.decode() == "file-doesn't-exist":
                outcome = "missing"
            else:
                outcome = self.download("from_server " + file_name)
            print(port, identity, outcome, flush=True)  # noqa: T201 - its output
            self.s.shutdown(socket.SHUT_RDWR)
            self.s.close()
            self.reconnect()

    def download(self, write_name: str) -> str:
        if os.path.exists(write_name):
            os.remove(write_name)
        with open(write_name, "wb") as file:
            while True:
                data = self.s.recv(1024)
                if not data:
                    break
                file.write(data)
        with open(write_name, "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()


Client(sys.argv[1], int(sys.argv[2])).main()
