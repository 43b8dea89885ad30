"""Takes whatever comes by UDP or TCP, for the outside of the demo's world: `sink.py ADDRESS PORT LOG`.

Listens on PORT (UDP and TCP) and on UDP 53, answers `here`, and appends a line to LOG for each that came.
"""

from __future__ import annotations

import selectors
import socket
import sys


def main() -> None:
    address, port, log = sys.argv[1], int(sys.argv[2]), sys.argv[3]
    selector = selectors.DefaultSelector()
    for kind, number in ((socket.SOCK_STREAM, port), (socket.SOCK_DGRAM, port), (socket.SOCK_DGRAM, 53)):
        listener = socket.socket(socket.AF_INET, kind)
        listener.bind((address, number))
        if kind == socket.SOCK_STREAM:
            listener.listen()
        selector.register(listener, selectors.EVENT_READ)
    print("ready", flush=True)
    with open(log, "a", buffering=1) as file:
        while True:
            for key, _ in selector.select():
                sock = key.fileobj
                assert isinstance(sock, socket.socket)
                number = sock.getsockname()[1]
                if sock.type == socket.SOCK_STREAM:
                    taken, _ = sock.accept()
                    file.write(f"TCP {number}\n")
                    with taken:
                        taken.sendall(b"here")
                else:
                    data, peer = sock.recvfrom(2048)
                    file.write(f"UDP {number}\n")
                    # a question for a name is answered with "no error, nothing found" (RFC 1035 4.1.1)
                    sock.sendto(data[:2] + b"\x81\x80" + data[4:] if number == 53 else b"here", peer)


if __name__ == "__main__":
    main()
