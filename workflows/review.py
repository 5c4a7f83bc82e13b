"""The MLflow UI for what a sweep left: which command shows it, and running that command."""

from __future__ import annotations

import subprocess
import sys
import time
import urllib.error
import urllib.request
import webbrowser
from pathlib import Path

from trainables.directory import SweepDirectory
from trainables.errors import BadInput, InfrastructureError
from trainables.files import read_json
from workflows.tracking.writer import default_uri, ui_command

_START_SECONDS = 90.0


def find_ui(folder: Path, port: int) -> list[str]:
    """The command that shows a sweep directory, or a storage folder, in the MLflow UI; or the server's address.

    Raises BadInput where the folder holds neither.
    """
    manifest = SweepDirectory(folder.absolute()).manifest
    if manifest.exists():
        storage = folder.absolute().parent
        uri = read_json(manifest)["config"]["tracking"]["uri"] or default_uri(storage)
    elif (folder / "mlflow.db").exists():
        storage = folder.absolute()
        uri = default_uri(storage)
    else:
        raise BadInput(f"{folder}: holds neither a sweep (manifest.json) nor a store (mlflow.db); run a sweep first")
    command = ui_command(uri, storage)
    return command if len(command) == 1 else [*command, "--port", str(port)]


def open_ui(command: list[str], port: int) -> None:
    """Run the UI until Ctrl-C and open a browser on it; for a server, only open the browser.

    Raises InfrastructureError where the UI does not come up.
    """
    if len(command) == 1:
        webbrowser.open(command[0])
        return
    # The program beside this Python, so that it is the same MLflow that wrote the store.
    server = subprocess.Popen([str(Path(sys.executable).parent / command[0]), *command[1:]])  # noqa: S603
    try:
        address = f"http://127.0.0.1:{port}"
        _wait_until_up(server, address)
        webbrowser.open(address)
        server.wait()
    except KeyboardInterrupt:
        pass
    finally:
        server.terminate()
        server.wait()


def _wait_until_up(server: subprocess.Popen[bytes], address: str) -> None:
    deadline = time.monotonic() + _START_SECONDS
    while time.monotonic() < deadline and server.poll() is None:
        try:
            with urllib.request.urlopen(f"{address}/health", timeout=2):  # noqa: S310 - loopback, http
                return
        except (urllib.error.URLError, OSError):
            time.sleep(0.5)
    raise InfrastructureError(f"the MLflow UI did not come up at {address}; is the port taken? Choose another: --port")
