"""A real HTTPS (or HTTP) service that shows what it got, for the outside of a world.

Run as a program: `echo_service.py PORT LOG [CHAIN KEY]`. Every request's head and body are appended to LOG as a JSON
line: that is "what the service received". The answer depends on the path:

    /echo            JSON of method, path, headers and body: a service that gives everything back
    /secret?...      200 if the Authorization header carries the token of the environment's SERVICE_TOKEN, else 401
    /bytes?n=N       N bytes
    /coded/CODING    the echo in that content coding (gzip, deflate, br, zstd)
    /chunks          the echo in chunks of 7 bytes
    /slow?s=S        after S seconds
    /close           closes without an answer
    /hang-up?n=N     announces 1000 bytes, sends N, closes
"""

from __future__ import annotations

import gzip
import json
import os
import ssl
import sys
import threading
import time
import zlib
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit


class Service(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # head and body are two writes: 40 ms for a delayed acknowledgement otherwise
    log_file = ""
    lock = threading.Lock()

    def handle_any(self) -> None:
        url = urlsplit(self.path)
        query = parse_qs(url.query)
        body = self.body()
        seen = {
            "method": self.command,
            "path": self.path,
            "headers": self.headers.items(),
            "body": body.decode("latin-1"),
        }
        with self.lock, open(self.log_file, "a", encoding="utf-8") as file:
            file.write(json.dumps(seen) + "\n")
        if url.path == "/close":
            self.close_connection = True
            return
        if url.path == "/slow":
            time.sleep(float(query["s"][0]))
        if url.path == "/hang-up":
            self.head(200, 1000)
            self.wfile.write(b"x" * int(query["n"][0]))
            self.wfile.flush()
            self.connection.close()
            self.close_connection = True
        elif url.path == "/bytes":
            self.many(int(query["n"][0]))
        elif url.path == "/secret":
            good = self.headers.get("Authorization") == "Bearer " + os.environ["SERVICE_TOKEN"]
            self.answer(200 if good else 401, b'{"ok": true}\n' if good else b'{"ok": false}\n')
        elif url.path.startswith("/coded/"):
            coding = url.path.rpartition("/")[2]
            self.answer(200, code(json.dumps(seen).encode(), coding), coding)
        elif url.path == "/chunks":
            self.chunks(json.dumps(seen).encode())
        else:
            self.answer(200, json.dumps(seen).encode() + b"\n")

    do_GET = do_POST = do_PUT = do_DELETE = do_HEAD = do_PATCH = do_OPTIONS = handle_any

    def body(self) -> bytes:
        if self.headers.get("Transfer-Encoding") == "chunked":
            parts = []
            while size := int(self.rfile.readline().split(b";")[0], 16):
                parts.append(self.rfile.read(size))
                self.rfile.readline()
            while self.rfile.readline().strip():
                pass
            return b"".join(parts)
        return self.rfile.read(int(self.headers.get("Content-Length", 0)))

    def head(self, status: int, length: int | None, coding: str = "") -> None:
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        # a header that gives the credential back
        self.send_header("X-Echo-Authorization", self.headers.get("Authorization", "none"))
        if coding:
            self.send_header("Content-Encoding", coding)
        if length is not None:
            self.send_header("Content-Length", str(length))
        else:
            self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()

    def answer(self, status: int, data: bytes, coding: str = "") -> None:
        self.head(status, len(data), coding)
        if self.command != "HEAD":
            self.wfile.write(data)

    def chunks(self, data: bytes) -> None:
        self.head(200, None)
        for start in range(0, len(data), 7):
            piece = data[start : start + 7]
            self.wfile.write(b"%x\r\n%b\r\n" % (len(piece), piece))
            self.wfile.flush()
        self.wfile.write(b"0\r\n\r\n")

    def many(self, count: int) -> None:
        self.head(200, count)
        block = b"0123456789abcdef" * 4096
        while count > 0:
            self.wfile.write(block[:count])
            count -= len(block)

    def log_message(self, format: str, *arguments: object) -> None:
        pass


def code(data: bytes, coding: str) -> bytes:
    if coding == "gzip":
        return gzip.compress(data)
    if coding == "deflate":
        return zlib.compress(data)
    if coding == "br":
        import brotli

        return bytes(brotli.compress(data))
    import zstandard

    return zstandard.compress(data)


class Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 256

    def handle_error(self, request: object, client_address: object) -> None:
        pass


def main() -> None:
    port, Service.log_file = int(sys.argv[1]), sys.argv[2]
    open(Service.log_file, "a").close()
    server = Server(("0.0.0.0", port), Service)  # noqa: S104  # in a namespace of its own
    if len(sys.argv) > 3:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(sys.argv[3], sys.argv[4])
        server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    print("ready", flush=True)
    server.serve_forever()


if __name__ == "__main__":
    main()
