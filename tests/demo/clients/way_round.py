"""Tries to leave without a proxy, as plainly as it goes. argv: udp|tcp|dns|raw ADDRESS PORT. Says how it went."""

import os
import socket
import struct
import sys

how, address, port = sys.argv[1], sys.argv[2], int(sys.argv[3])
QUESTION = struct.pack("!6H", 4242, 0x0100, 1, 0, 0, 0) + b"\x06secret\x05other\x04test\x00" + struct.pack("!2H", 1, 1)
RESPONSE_CODES = {0: "NOERROR", 2: "SERVFAIL", 3: "NXDOMAIN", 5: "REFUSED"}  # RFC 1035 4.1.1


def attempt() -> str:
    if how == "raw":
        with socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_UDP) as sock:
            sock.sendto(struct.pack("!4H", 4242, port, 12, 0) + b"gone", (address, 0))
            return "sent"
    kind = socket.SOCK_STREAM if how == "tcp" else socket.SOCK_DGRAM
    with socket.socket(socket.AF_INET, kind) as sock:
        sock.settimeout(5)
        sock.connect((address, port))
        sock.sendall(QUESTION if how == "dns" else b"gone")
        answer = sock.recv(512)
        if how == "dns":
            return f"answered: {RESPONSE_CODES.get(answer[3] & 15, answer[3] & 15)}"
        return f"answered: {answer.decode(errors='replace')}"


try:
    print(attempt())
except OSError as error:
    print(os.strerror(error.errno) if error.errno else error)
    sys.exit(1)
