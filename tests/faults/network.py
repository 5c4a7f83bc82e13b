"""A proxy before a real MLflow server that fails as networks and servers do."""

from __future__ import annotations

import http.client
import socket
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

import numpy as np

_HOP_BY_HOP = {"connection", "transfer-encoding", "content-length", "keep-alive"}


class Proxy:
    """Passes requests on to a server; each meets one of `faults` by `chance`.

    `away` refuses everything, as a host that is not there. The faults: `500` and `429` without asking the server,
    `slow` answers after a while, `cut` closes in the middle of the answer, `drop` lets the server act and closes
    without an answer.
    """

    def __init__(self, target: str, moments: np.random.Generator) -> None:
        self.target, self.moments = urlsplit(target).netloc, moments
        self.faults: tuple[str, ...] = ()
        self.chance = 0.0
        self.met: list[str] = []
        self._lock = threading.Lock()
        self._server: ThreadingHTTPServer | None = None
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.uri = f"http://127.0.0.1:{self.port}"

    def come(self) -> None:
        """Listen, on the port that the proxy has had from the beginning."""
        proxy = self

        class Handler(BaseHTTPRequestHandler):
            def answer(self) -> None:
                _answer(self, proxy)

            do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = answer

            def log_message(self, *_: object) -> None:
                """A test's output is no place for an access log."""

        ThreadingHTTPServer.allow_reuse_address = True
        self._server = ThreadingHTTPServer(("127.0.0.1", self.port), Handler)
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def go(self) -> None:
        """Refuse connections from now on."""
        server, self._server = self._server, None
        if server:
            server.shutdown()
            server.server_close()

    def draw(self) -> str | None:
        """The fault that the next request meets."""
        with self._lock:
            if not self.faults or self.moments.uniform() >= self.chance:
                return None
            self.met.append(str(self.moments.choice(self.faults)))
            return self.met[-1]


def _answer(handler: BaseHTTPRequestHandler, proxy: Proxy) -> None:
    body = handler.rfile.read(int(handler.headers.get("Content-Length") or 0))
    fault = proxy.draw()
    handler.close_connection = True
    if fault in ("500", "429"):
        handler.send_response(int(fault))
        handler.send_header("Content-Length", "0")
        handler.end_headers()
        return
    if fault == "slow":
        time.sleep(1.5)
    connection = http.client.HTTPConnection(proxy.target, timeout=60)
    connection.request(handler.command, handler.path, body, dict(handler.headers))
    response = connection.getresponse()
    content = response.read()
    connection.close()
    if fault == "drop":
        handler.connection.shutdown(socket.SHUT_RDWR)
        return
    handler.send_response(response.status)
    for key, value in response.getheaders():
        if key.lower() not in _HOP_BY_HOP:
            handler.send_header(key, value)
    handler.send_header("Content-Length", str(len(content)))
    handler.end_headers()
    handler.wfile.write(content[: len(content) // 2] if fault == "cut" else content)
