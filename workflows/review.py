"""The MLflow UI for what a sweep left: which command shows it, and running that command."""

from __future__ import annotations

import errno
import os
import re
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
import webbrowser
from pathlib import Path

from trainables.directory import SweepDirectory
from trainables.errors import BadInput, InfrastructureError
from trainables.files import read_json
from trainables.redaction import redact
from workflows.tracking.writer import default_uri, ui_command

_START_SECONDS = 90.0
_STORE_OPTION = "--backend-store-uri"


def find_ui(folder: Path, port: int) -> list[str]:
    """The command that shows a sweep directory, or a storage folder, in the MLflow UI; or the server's address.

    It is for people to read: a password in it is masked. Raises BadInput where the folder holds neither.
    """
    command = ui_command(*_find_store(folder))
    return command if len(command) == 1 else [*command, "--port", str(port)]


def open_ui(folder: Path, port: int) -> None:
    """Run the UI of a folder until Ctrl-C and open a browser on it; for a server, only open the browser.

    Raises BadInput as `find_ui`, InfrastructureError where the UI does not come up.
    """
    command = find_ui(folder, port)
    if len(command) == 1:
        # Without the user in it: a server that wants one has the browser ask.
        webbrowser.open(re.sub(r"(?<=://)[^/]*@", "", command[0]))
        return
    _check_free(port)
    # The address may hold a password, and everybody on a machine can read what a process was started with.
    store = command.index(_STORE_OPTION)
    del command[store : store + 2]
    environment = os.environ | {"MLFLOW_BACKEND_STORE_URI": _find_store(folder)[0]}
    # The program beside this Python, so that it is the same MLflow that wrote the store.
    program = str(Path(sys.executable).parent / command[0])
    with tempfile.TemporaryDirectory(prefix="fleetune-ui-") as scratch:
        log = Path(scratch) / "mlflow.log"
        with log.open("wb") as out:
            server = subprocess.Popen([program, *command[1:]], env=environment, stdout=out, stderr=out)  # noqa: S603
        try:
            address = f"http://127.0.0.1:{port}"
            _wait_until_up(server, address, log)
            webbrowser.open(address)
            server.wait()
        except KeyboardInterrupt:
            pass
        finally:
            server.terminate()
            server.wait()


def _find_store(folder: Path) -> tuple[str, Path]:
    """The store of a sweep directory or a storage folder, password and all, and the storage folder."""
    manifest = SweepDirectory(folder.absolute()).manifest
    if manifest.exists():
        storage = folder.absolute().parent
        return read_json(manifest)["config"]["tracking"]["uri"] or default_uri(storage), storage
    if (folder / "mlflow.db").exists():
        return default_uri(folder), folder.absolute()
    raise BadInput(f"{folder}: holds neither a sweep (manifest.json) nor a store (mlflow.db); run a sweep first")


def _check_free(port: int) -> None:
    with socket.socket() as probe:
        # As the server does it: the connections of one that has just ended do not count.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                raise InfrastructureError(f"port {port} is taken; choose another: --port") from None


def _wait_until_up(server: subprocess.Popen[bytes], address: str, log: Path) -> None:
    deadline = time.monotonic() + _START_SECONDS
    while time.monotonic() < deadline and server.poll() is None:
        try:
            with urllib.request.urlopen(f"{address}/health", timeout=2):  # noqa: S310 - loopback, http
                return
        except (urllib.error.URLError, OSError):
            time.sleep(0.5)
    how = f"does not answer at {address}" if server.poll() is None else f"ended with exit code {server.returncode}"
    raise InfrastructureError(f"the MLflow UI {how}; the last that it said: {_last_line(log)}")


def _last_line(log: Path) -> str:
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
    # SQLAlchemy ends its errors with the address of a page about their kind.
    told = [line.strip() for line in lines if line.strip() and not line.startswith("(Background on this error")]
    return redact(told[-1]) if told else "nothing"
