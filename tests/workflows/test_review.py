"""The MLflow UI as `fleetune ui --open` starts it."""

from __future__ import annotations

import json
import socket
import sys
from pathlib import Path

import pytest

from tests import recorded
from trainables.directory import SweepDirectory
from trainables.errors import InfrastructureError
from workflows.review import find_ui, open_ui

URI = "postgresql://me:hunter2@db.example.org/mlflow"


@pytest.fixture
def sweep(tmp_path: Path) -> SweepDirectory:
    return recorded.begin(tmp_path / "runs" / "demo", uri=URI)


@pytest.fixture
def port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def stand_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A program in place of mlflow that writes down how it was started, and ends; returns what it writes."""
    started, program = tmp_path / "started.json", tmp_path / "bin" / "mlflow"
    program.parent.mkdir()
    program.write_text(
        f"#!{sys.executable} -S\nimport json, os, sys\n"
        f"json.dump([sys.argv[1:], os.environ['MLFLOW_BACKEND_STORE_URI']], open({str(started)!r}, 'w'))\n"
        f"print('no connection to {URI}', '(Background on this error at: https://sqlalche.me)', sep='\\n')\n"
        "sys.exit(3)\n"
    )
    program.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(program.with_name("python")))
    return started


def test_a_server_gets_the_whole_address_of_its_store_where_no_list_of_processes_shows_it(
    sweep: SweepDirectory, port: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    started = stand_in(tmp_path, monkeypatch)
    with pytest.raises(InfrastructureError):
        open_ui(sweep.root, port)
    arguments, uri = json.loads(started.read_text())
    assert uri == URI
    assert arguments[0] == "ui" and arguments[-2:] == ["--port", str(port)]
    assert not any("hunter2" in argument or "***" in argument for argument in arguments)
    assert "postgresql://***@db.example.org/mlflow" in find_ui(sweep.root, port)


def test_a_server_that_ends_is_told_of_with_its_last_words_but_no_secret(
    sweep: SweepDirectory, port: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stand_in(tmp_path, monkeypatch)
    with pytest.raises(InfrastructureError) as ended:
        open_ui(sweep.root, port)
    assert str(ended.value).endswith(
        "ended with exit code 3; the last that it said: no connection to postgresql://***@db.example.org/mlflow"
    )


def test_a_port_that_is_taken_is_named_and_nothing_is_started(
    sweep: SweepDirectory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    started = stand_in(tmp_path, monkeypatch)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(InfrastructureError, match=f"port {port} is taken; choose another: --port"):
            open_ui(sweep.root, port)
    assert not started.exists()
