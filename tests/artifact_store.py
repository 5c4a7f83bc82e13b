"""Where MLflow puts artifacts over HTTP, for tests that need one to be slow, or to fail, at a certain file."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class ArtifactStore:
    """Takes files and keeps their names. `meets` is called with each name and answers with an HTTP status."""

    def __init__(self, uri: str) -> None:
        self.uri = uri
        self.taken: list[str] = []
        self.meets: Callable[[str], int] = lambda name: 200


@contextmanager
def artifact_store() -> Iterator[ArtifactStore]:
    """A store that runs for as long as the block."""

    class Handler(BaseHTTPRequestHandler):
        def do_PUT(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length") or 0))
            name = self.path.rsplit("/", 1)[-1]
            status = store.meets(name)
            if status == 200:
                store.taken.append(name)
            self.send_response(status)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """A test's output is no place for an access log."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    store = ArtifactStore(f"http://127.0.0.1:{server.server_port}/api/2.0/mlflow-artifacts/artifacts")
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    try:
        yield store
    finally:
        server.shutdown()
        server.server_close()
