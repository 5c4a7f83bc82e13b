"""Workers that are killed under a real Ray and a real Tune; what they would train is left out."""

from __future__ import annotations

import contextlib
import io
import logging
import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.recorded import begin
from trainables.directory import SweepDirectory
from trainables.errors import InfrastructureError
from trainables.records import Result
from workflows import dispatch as module
from workflows.cluster import Cluster, Request, connect, run_on_worker
from workflows.dispatch import dispatch
from workflows.quiet import off_screen
from workflows.search import Listed

pytestmark = pytest.mark.slow
NAMES = ("calm-1", "bad", "calm-2", "calm-3", "calm-4")
_GIB = 2**30
# Enough for what others on this machine may begin meanwhile.
_SPARE = 4 * _GIB


@pytest.fixture
def starved(monkeypatch: pytest.MonkeyPatch) -> Iterator[Cluster]:
    """A Ray that kills workers as soon as this machine holds four gigabytes more than now."""
    memory = psutil.virtual_memory()
    if memory.available < 3 * _SPARE:
        pytest.skip("needs 12 GB of free memory")
    limit = (memory.total - memory.available + _SPARE) / memory.total
    monkeypatch.setenv("RAY_memory_usage_threshold", f"{limit:.4f}")
    monkeypatch.setenv("RAY_memory_monitor_refresh_ms", "50")
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    with connect() as cluster:
        yield cluster


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> Iterator[Cluster]:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    with connect() as cluster:
        yield cluster


@pytest.fixture
def screen(monkeypatch: pytest.MonkeyPatch) -> io.StringIO:
    """What Ray's loggers write to the screen; they hold on to the stderr that was there when Ray was imported."""
    import ray  # noqa: F401 - its loggers are made when it is imported

    shown = io.StringIO()
    for handler in logging.getLogger("ray").handlers:
        monkeypatch.setattr(handler, "stream", shown)
    assert logging.getLogger("ray").handlers
    return shown


def worker(end: Callable[[], None]) -> Callable[[dict[str, Any]], None]:
    """What runs in place of the trainable: each trial takes a second and is DONE, but `bad` ends its worker.

    Who has begun, and who was there then, is kept in the sweep directory. Nested, so that Ray sends its code along.
    """

    def train(config: dict[str, Any]) -> None:
        from ray import tune

        (root,) = map(Path, config["trials"])
        present = root.parent.parent / "present"
        present.mkdir(exist_ok=True)
        beside = [path.name for path in present.iterdir() if Path(f"/proc/{path.read_text()}").exists()]
        (present / root.name).write_text(str(os.getpid()))
        with (present.parent / "begun.txt").open("a") as stream:
            stream.write(" ".join([root.name, *sorted(beside)]) + "\n")
        tune.report({"trial": root.name, "status": "RUNNING"})
        time.sleep(1)
        if root.name == "bad":
            end()
        result = Result(kind="trial", trial_id=root.name, status="DONE", started=0, ended=1)
        result.write(root / "result.json")
        (present / root.name).unlink()
        tune.report({"trial": root.name, **result.outcome()})

    return train


def taker() -> Callable[[], None]:
    """What takes all the memory there is until it is killed, and more than that where others give some back."""
    most = 2.5 * _SPARE

    def take() -> None:
        taken: list[bytes] = []
        while sum(map(len, taken)) < most:
            taken.append(b"x" * 2**27)
            time.sleep(0.02)
        time.sleep(60)

    return take


def run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, end: Callable[[], None], trial_timeout: float = 60
) -> SweepDirectory:
    sweep = begin(tmp_path / "sweep", trials=NAMES)
    monkeypatch.setattr(module, "train_group", worker(end))
    source = Listed([[sweep.trial(name)] for name in NAMES])
    with off_screen(sweep.driver_log):
        dispatch(source, Request(1, 0), 2, trial_timeout=trial_timeout, on_report=lambda _: None, log=sweep.driver_log)
    return sweep


def ends(sweep: SweepDirectory) -> dict[str, tuple[str, str | None]]:
    results = {name: Result.read(sweep.trial(name).result) for name in NAMES}
    return {name: (result.status, result.reason) for name, result in results.items()}


def begun(sweep: SweepDirectory) -> list[list[str]]:
    """Each begin of a trial: its name, then those that ran at that moment."""
    return [line.split() for line in (sweep.root / "begun.txt").read_text().splitlines()]


@pytest.mark.quick
def test_a_trial_that_takes_all_memory_fails_alone_and_the_others_end_done(
    starved: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sweep = run(tmp_path, monkeypatch, taker())
    assert ends(sweep) == dict.fromkeys(NAMES, ("DONE", None)) | {"bad": ("FAILED", "host-oom")}
    bad = [beside for name, *beside in begun(sweep) if name == "bad"]
    assert len(bad) == 3
    assert bad[1:] == [[], []]
    assert "memory" in (Result.read(sweep.trial("bad").result).message or "")
    assert "memory" in sweep.driver_log.read_text()


def test_a_call_that_takes_all_memory_is_not_repeated_for_ever(starved: Cluster) -> None:
    with pytest.raises(InfrastructureError, match=r"a worker was lost while it ran take: .*memory") as raised:
        run_on_worker(taker(), Request(1, 0))
    assert "\n" not in str(raised.value)


@pytest.fixture
def small_group() -> Iterator[Path]:
    """A control group of little memory; needs the right to make one."""
    for root, limit in (("memory", "memory.limit_in_bytes"), (".", "memory.max")):
        group = Path("/sys/fs/cgroup", root, f"fleetune-{os.getpid()}")
        with contextlib.suppress(OSError):
            group.mkdir()
        if (group / limit).exists():
            break
    else:
        pytest.skip("needs the right to make a control group with a limit of memory")
    (group / limit).write_text(str(_GIB // 4))
    yield group
    with contextlib.suppress(OSError):
        group.rmdir()


def test_a_trial_that_the_kernel_kills_for_want_of_memory_fails_alone_and_the_others_end_done(
    cluster: Cluster, small_group: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def take_too_much() -> None:
        (small_group / "cgroup.procs").write_text(str(os.getpid()))
        bytearray(b"x" * _GIB)

    sweep = run(tmp_path, monkeypatch, take_too_much)
    assert ends(sweep) == dict.fromkeys(NAMES, ("DONE", None)) | {"bad": ("FAILED", "host-oom")}
    assert [beside for name, *beside in begun(sweep) if name == "bad"][1:] == [[], []]


def test_a_trial_that_always_kills_its_worker_fails_and_the_others_end_done(
    cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sweep = run(tmp_path, monkeypatch, lambda: os.kill(os.getpid(), signal.SIGKILL))
    assert ends(sweep) == dict.fromkeys(NAMES, ("DONE", None)) | {"bad": ("FAILED", "infra")}
    assert [name for name, *_ in begun(sweep)].count("bad") == 3


def test_a_frozen_worker_is_ended_by_the_driver_and_its_trial_is_tried_again(
    cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    frozen = tmp_path / "frozen"

    def freeze_once() -> None:
        if not frozen.exists():
            frozen.write_text(str(os.getpid()))
            os.kill(os.getpid(), signal.SIGSTOP)

    monkeypatch.setattr(module, "_GRACE_SECONDS", 0.0)
    sweep = run(tmp_path, monkeypatch, freeze_once, trial_timeout=20)
    assert ends(sweep) == dict.fromkeys(NAMES, ("DONE", None))
    assert [name for name, *_ in begun(sweep)].count("bad") == 2
    assert not psutil.pid_exists(int(frozen.read_text()))
    assert list(sweep.attempts.iterdir()) == []


def test_what_a_worker_raises_is_one_line_in_the_result_and_a_traceback_in_the_drivers_log_alone(
    cluster: Cluster,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    screen: io.StringIO,
    capfd: pytest.CaptureFixture[str],
) -> None:
    def fail() -> None:
        raise OSError(28, "No space left on device")

    sweep = run(tmp_path, monkeypatch, fail)
    assert ends(sweep) == dict.fromkeys(NAMES, ("DONE", None)) | {"bad": ("FAILED", "infra")}
    result = Result.read(sweep.trial("bad").result)
    assert result.message == "its worker failed 3 times: OSError: [Errno 28] No space left on device"
    assert "Traceback" in sweep.driver_log.read_text()
    said = capfd.readouterr()
    assert "Traceback" not in said.out + said.err + screen.getvalue()
    logging.getLogger("ray").error("after the sweep")
    assert "after the sweep" in screen.getvalue()
    assert "after the sweep" not in sweep.driver_log.read_text()
