"""The lab exercise's server: a thread for each connection, or, with ``iterative``, one connection after the other.

The client sends a name and is told who it is, whether there is such a file, and then the file, a kibibyte at a time.
"""

from __future__ import annotations

import os
import socket
import sys
import threading

BACKLOG = 100
BLOCK_BYTES = 1024


def handle(client: socket.socket, address: tuple[str, int]) -> None:
    try:
        name = client.recv(BLOCK_BYTES).decode()
        client.send(str(address).encode())
        if os.path.exists(name):
            client.send(b"file-exists")
            with open(name, "rb") as file:
                while block := file.read(BLOCK_BYTES):
                    client.send(block)
        else:
            client.send(b"file-doesn't-exist")
        client.shutdown(socket.SHUT_RDWR)
    except OSError:
        pass  # the client is gone
    client.close()


def main(host: str, port: str, root: str, mode: str) -> None:
    os.chdir(root)
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind((host, int(port)))
    listener.listen(BACKLOG)
    while True:
        client, address = listener.accept()
        if mode == "iterative":
            handle(client, address)
        else:
            threading.Thread(target=handle, args=(client, address)).start()


if __name__ == "__main__":
    main(*sys.argv[1:])
