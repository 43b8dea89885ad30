"""Connects by io_uring instead of connect(2), and prints what came back. Argument: 1 for a kernel thread that polls.

Source: io_uring(7), `struct io_uring_params`, `_sqe` and `_cqe` of <linux/io_uring.h>.
"""

from __future__ import annotations

import ctypes
import errno
import mmap
import os
import socket
import struct
import sys

SETUP, ENTER = 425, 426
SQPOLL, GETEVENTS, WAKEUP = 2, 1, 2
OP_CONNECT = 16
FLAG_ASYNC = 1 << 4


def main(address: str, port: int, poll: bool, offload: bool) -> None:
    syscall = ctypes.CDLL(None, use_errno=True).syscall
    params = bytearray(120)
    struct.pack_into("=IIIII", params, 0, 0, 0, SQPOLL if poll else 0, 0, 1000)
    raw = (ctypes.c_char * len(params)).from_buffer(params)
    ring = syscall(SETUP, 4, raw)
    if ring < 0:
        print("no io_uring", os.strerror(ctypes.get_errno()))
        return
    _, tail, _, _, _, _, array = struct.unpack_from("=7I", params, 40)  # sq_off: head, tail, mask, …, array
    cqes = struct.unpack_from("=6I", params, 80)[5]  # cq_off: head, tail, ring_mask, ring_entries, overflow, cqes
    queue = mmap.mmap(ring, 4096, offset=0)
    done = mmap.mmap(ring, 4096, offset=0x8000000)
    entries = mmap.mmap(ring, 4096, offset=0x10000000)
    sock = socket.socket()
    sock.settimeout(5)
    sock.setblocking(True)
    to = struct.pack("=H", socket.AF_INET) + struct.pack("!H", port) + socket.inet_aton(address) + bytes(8)
    held = ctypes.create_string_buffer(to, 16)
    flags = FLAG_ASYNC if offload else 0
    entries[:64] = struct.pack("=BBHiQQ40x", OP_CONNECT, flags, 0, sock.fileno(), 16, ctypes.addressof(held))
    queue[array : array + 4] = bytes(4)
    queue[tail : tail + 4] = struct.pack("=I", 1)
    syscall(ENTER, ring, 1, 1, GETEVENTS | (WAKEUP if poll else 0), None, 0)
    result = struct.unpack_from("=Qi", done, cqes)[1]
    print(errno.errorcode.get(-result, result), sock.recv(9) if result == 0 else "")


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), sys.argv[3] == "1", sys.argv[4] == "1")
